"""Unit types, the eleven scenarios, and where the units of a battle begin.

Source: JaxMARL 0.2.0 (`jaxmarl.environments.smax`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.rng import integers_of, uniform, uniform_of

FIELD_SIZE = 32.0  # the field is a square; y grows upwards
CENTRE = FIELD_SIZE / 2
NOISE = 2.0  # units begin within +-NOISE of their team's (or group's) place, per coordinate


class UnitType(NamedTuple):
    """Lengths in units of the field, times in seconds."""

    name: str
    letter: str
    speed: float  # per second
    damage: float
    attack_range: float
    sight_range: float
    radius: float
    max_health: float
    cooldown: float  # between two shots, on average a little more


UNIT_TYPES = (
    UnitType("marine", "m", 3.15, 9, 5, 9, 0.375, 45, 0.61),
    UnitType("marauder", "M", 2.25, 10, 6, 10, 0.5625, 125, 1.07),
    UnitType("stalker", "s", 4.13, 13, 6, 10, 0.625, 160, 1.87),
    UnitType("zealot", "Z", 3.15, 8, 2, 9, 0.5, 150, 0.86),
    UnitType("zergling", "z", 4.13, 5, 2, 8, 0.375, 35, 0.5),
    UnitType("hydralisk", "h", 3.15, 12, 5, 9, 0.625, 80, 0.59),
)
MARINE, STALKER, ZEALOT, HYDRALISK = 0, 2, 3, 5  # the types of the fixed scenarios; their "z" is the zealot
NUM_TYPES = len(UNIT_TYPES)


@dataclass(frozen=True)
class Scenario:
    num_allies: int  # N
    num_enemies: int  # E
    types: tuple[int, ...] | None  # of the N + E units; None: drawn for every battle, as are the places (smacv2)


def _fixed(allies: tuple[int, ...], enemies: tuple[int, ...]) -> Scenario:
    return Scenario(len(allies), len(enemies), allies + enemies)


SCENARIOS = {
    "2s3z": _fixed((STALKER,) * 2 + (ZEALOT,) * 3, (STALKER,) * 2 + (ZEALOT,) * 3),
    "3s5z": _fixed((STALKER,) * 3 + (ZEALOT,) * 5, (STALKER,) * 3 + (ZEALOT,) * 5),
    "3s_vs_5z": _fixed((STALKER,) * 3, (ZEALOT,) * 5),
    "5m_vs_6m": _fixed((MARINE,) * 5, (MARINE,) * 6),
    "6h_vs_8z": _fixed((HYDRALISK,) * 6, (ZEALOT,) * 8),
    "10m_vs_11m": _fixed((MARINE,) * 10, (MARINE,) * 11),
    "3s5z_vs_3s6z": _fixed((STALKER,) * 3 + (ZEALOT,) * 5, (STALKER,) * 3 + (ZEALOT,) * 6),
    "27m_vs_30m": _fixed((MARINE,) * 27, (MARINE,) * 30),
    "smacv2_5_units": Scenario(5, 5, None),
    "smacv2_10_units": Scenario(10, 10, None),
    "smacv2_20_units": Scenario(20, 20, None),
}


def facing_places(num_allies: int, num_enemies: int) -> list[tuple[float, float]]:
    """Where the units of the fixed scenarios begin, but for noise: allies at (8, 16), enemies at (24, 16)."""
    return [(FIELD_SIZE / 4, CENTRE)] * num_allies + [(FIELD_SIZE * 3 / 4, CENTRE)] * num_enemies


def facing_positions(rng: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The fixed scenarios: about the `facing_places` [U, 2]. [B, U, 2] and the keys moved on."""
    drawn, rng = uniform(rng, places.numel())
    return places + _noise(drawn), rng


def scattered_words(team_size: int) -> dict[str, int]:
    """smacv2: how many random words decide what at a start, in the order in which they are drawn."""
    pairs = 2 * team_size
    return {
        "coins": 2, "mirrored": pairs, "inside": pairs, "nearness": 4, "group": team_size, "outside": pairs,
        "types": team_size,
    }  # fmt: skip


def scattered_positions(words: Tensor, team_size: int) -> Tensor:
    """smacv2: by a fair coin two mirrored teams, or one team around the other. [B, 2 * team_size, 2].

    A team around the other can begin outside the field.

    Args:
        words: int64 [B, words], of random bits, as `scattered_words` says.
    """
    counts = scattered_words(team_size).values()
    coins, mirrored, inside, nearness, _, outside, _ = uniform_of(words).split(tuple(counts), 1)
    _, _, _, _, group, _, _ = words.split(tuple(counts), 1)
    is_mirrored, are_allies_inside = (coins < 0.5)[..., None, None].unbind(1)
    inside, outside = _surrounding_positions(inside, nearness, integers_of(group, 4), outside)
    allies_inside = torch.cat([inside, outside], 1)
    enemies_inside = torch.cat([outside, inside], 1)
    surrounded = torch.where(are_allies_inside, allies_inside, enemies_inside)
    return torch.where(is_mirrored, _mirrored_positions(mirrored), surrounded)


def drawn_types(words: Tensor) -> Tensor:
    """smacv2: any type for every ally, enemy j of the type of ally j: int64 [B, 2N] of words [B, N] of random bits."""
    return integers_of(words, NUM_TYPES).repeat(1, 2)


def _noise(drawn: Tensor) -> Tensor:
    """Pairs [B, K, 2] within +-NOISE, of numbers [B, 2K] in [0, 1)."""
    return drawn.unflatten(1, (-1, 2)) * (2 * NOISE) - NOISE


def _mirrored_positions(drawn: Tensor) -> Tensor:
    """Allies anywhere in the western half, enemy j opposite of ally j."""
    x, y = (drawn * FIELD_SIZE).unflatten(1, (-1, 2)).unbind(2)
    x = x / 2
    return torch.stack([torch.cat([x, FIELD_SIZE - x], 1), torch.cat([y, y], 1)], 2)


def _surrounding_positions(inside: Tensor, nearness: Tensor, group: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """One team in the centre, the other in groups, one on each diagonal from the centre to a corner."""
    corner = torch.arange(4, device=group.device)
    corners = torch.stack([corner // 2, corner % 2], 1).float() * FIELD_SIZE
    group_places = nearness[..., None] * CENTRE + (1 - nearness[..., None]) * corners  # [B, 4, 2]
    places = group_places.gather(1, group[..., None].expand(-1, -1, 2))
    return CENTRE + _noise(inside), places + _noise(outside)
