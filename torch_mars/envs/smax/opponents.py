"""The script that commands the enemies: fire at who is in reach, else walk to somebody in sight, else cross the field.

It keeps its target while that is in reach, and never stops or retreats. Source: JaxMARL 0.2.0 (`heuristic_enemy.py`).

Axes: E enemies, N allies, B environments last, so that the work on pairs runs along B. The script counts the allies
backwards: number m is ally N - 1 - m.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.constants import scalar
from torch_mars.envs.smax.scenarios import CENTRE
from torch_mars.envs.smax.task import FIRST_ATTACK

NOBODY = -1


class Memory(NamedTuple):
    """What every enemy keeps between two steps."""

    default_target: Tensor  # float32 [2, E, B]: where to walk with nobody in sight; (0, 0): not set yet
    last_attacked: Tensor  # int64 [E, B]: m, or NOBODY


def choose(
    enemies: Tensor,
    allies: Tensor,
    is_alive: Tensor,
    sight_range: Tensor,
    attack_range: Tensor,
    memory: Memory,
    walk_draw: Tensor,
    attack_draw: Tensor | None,
    shoots: bool,
) -> tuple[Tensor, Memory]:
    """An action for every enemy, the dead included, whose choice shows in the State but does nothing.

    Args:
        enemies, allies: float32 [2, units, B], x and y; the dead are far from everybody.
        is_alive: bool [E, B], of the enemies.
        sight_range, attack_range: float32 [E, B], likewise; every type sees further than it reaches.
        walk_draw: float32 [E, B] in [0, 1): decides whom to walk to.
        attack_draw: likewise, whom to attack; None: the closest.
        shoots: whether it fires at all.

    Returns:
        actions, int64 [E, B]: 0 up, 1 right, 2 down, 3 left, FIRST_ATTACK + m; and the new memory.
    """
    own = enemies * is_alive  # the dead see only zeros
    way = allies.flip(1)[:, None] - enemies[:, :, None]  # [2, E, N, B]
    distance = length(way)

    if attack_draw is None:
        target, can_attack = _closest(distance, attack_range)
    else:
        chosen, can_attack = _drawn(distance, attack_range, attack_draw)
        target = chosen.argmax(1)
    last = memory.last_attacked
    has_last = last != NOBODY
    keeps = has_last & (distance.gather(1, last.clamp(min=0)[:, None]).squeeze(1) < attack_range)
    target = torch.where(keeps, last, target)

    is_set = memory.default_target.any(0) | has_last
    default_target = torch.where(is_set, memory.default_target, CENTRE - (own - CENTRE))  # half a turn about the centre
    walks_to, has_in_sight = _drawn(distance, sight_range, walk_draw)
    to_ally = (way * walks_to).sum(2)  # nothing but zeros is added
    move = _move(torch.where(has_in_sight, to_ally, default_target - own))

    action = torch.where(can_attack, target + FIRST_ATTACK, move) if shoots else move
    return action, Memory(default_target, torch.where(can_attack, target, scalar(NOBODY, like=target)))


def length(way: Tensor) -> Tensor:
    """[...] of [2, ...]."""
    return torch.linalg.vector_norm(way, dim=0)


def _closest(distance: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the closest one, the lowest on ties, and whether it is in reach: [E, N, B], [E, B] -> [E, B]."""
    least, number = distance.min(1)
    return number, least < reach


def _drawn(distance: Tensor, reach: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """One of those in reach, all equally likely: [E, N, B] of 1 (this one) and 0; and whether there are any: [E, B]."""
    is_candidate = torch.lt(distance, reach[:, None], out=torch.empty_like(distance))
    rank_of = is_candidate.cumsum(1)  # candidates up to this one
    count = rank_of[:, -1]
    rank = (draw * count).floor_() + 1  # 1 .. their number
    return torch.eq(rank_of, rank[:, None], out=torch.empty_like(rank_of)).mul_(is_candidate), count > 0


def _move(way: Tensor) -> Tensor:
    """The direction that lies nearest to a way [2, ...]: up, right, down, left, the first of them on ties."""
    (right, up), (left, down) = way, -way
    return torch.stack([up, right, down, left]).argmax(0)
