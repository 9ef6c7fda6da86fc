"""Unit types, the eleven scenarios, and where the units of a battle begin.

Source: JaxMARL 0.2.0 (`jaxmarl.environments.smax`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.rng import integers, uniform

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


def facing_positions(rng: Tensor, num_allies: int, num_enemies: int) -> tuple[Tensor, Tensor]:
    """The fixed scenarios: allies about (8, 16), enemies about (24, 16). [B, N + E, 2] and the keys moved on."""
    noise, rng = _noise(rng, num_allies + num_enemies)
    is_enemy = torch.arange(num_allies + num_enemies, device=rng.device) >= num_allies
    x = FIELD_SIZE / 4 + FIELD_SIZE / 2 * is_enemy.float()
    return torch.stack([x, torch.full_like(x, CENTRE)], 1) + noise, rng


def scattered_positions(rng: Tensor, team_size: int) -> tuple[Tensor, Tensor]:
    """smacv2: by a fair coin two mirrored teams, or one team around the other. [B, 2 * team_size, 2], keys moved on.

    A team around the other can begin outside the field.
    """
    coins, rng = uniform(rng, 2)
    is_mirrored, are_allies_inside = (coins < 0.5).unbind(1)
    mirrored, rng = _mirrored_positions(rng, team_size)
    inside, outside, rng = _surrounding_positions(rng, team_size)
    allies_inside = torch.cat([inside, outside], 1)
    enemies_inside = torch.cat([outside, inside], 1)
    surrounded = torch.where(are_allies_inside[:, None, None], allies_inside, enemies_inside)
    return torch.where(is_mirrored[:, None, None], mirrored, surrounded), rng


def drawn_types(rng: Tensor, team_size: int) -> tuple[Tensor, Tensor]:
    """smacv2: any type for every ally, enemy j of the type of ally j. int64 [B, 2 * team_size], keys moved on."""
    types, rng = integers(rng, team_size, NUM_TYPES)
    return types.repeat(1, 2), rng


def _noise(rng: Tensor, count: int) -> tuple[Tensor, Tensor]:
    drawn, rng = uniform(rng, 2 * count)
    return drawn.unflatten(1, (count, 2)) * (2 * NOISE) - NOISE, rng


def _mirrored_positions(rng: Tensor, team_size: int) -> tuple[Tensor, Tensor]:
    """Allies anywhere in the western half, enemy j opposite of ally j."""
    drawn, rng = uniform(rng, 2 * team_size)
    x, y = (drawn * FIELD_SIZE).unflatten(1, (team_size, 2)).unbind(2)
    x = x / 2
    return torch.stack([torch.cat([x, FIELD_SIZE - x], 1), torch.cat([y, y], 1)], 2), rng


def _surrounding_positions(rng: Tensor, team_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """One team in the centre, the other in groups, one on each diagonal from the centre to a corner."""
    inside, rng = _noise(rng, team_size)
    nearness, rng = uniform(rng, 4)
    corner = torch.arange(4, device=rng.device)
    corners = torch.stack([corner // 2, corner % 2], 1).float() * FIELD_SIZE
    group_places = nearness[..., None] * CENTRE + (1 - nearness[..., None]) * corners  # [B, 4, 2]
    group, rng = integers(rng, team_size, 4)
    outside, rng = _noise(rng, team_size)
    return CENTRE + inside, group_places.gather(1, group[..., None].expand(-1, -1, 2)) + outside, rng
