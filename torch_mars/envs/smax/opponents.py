"""The script that commands the enemies: fire at who is in reach, else walk to somebody in sight, else cross the field.

It keeps its target while that is in reach, and never stops or retreats. Source: JaxMARL 0.2.0 (`heuristic_enemy.py`).

Axes: E enemies, N allies, B environments last, so that the work on pairs runs along B. The script counts the allies
backwards: number m is ally N - 1 - m.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.smax.scenarios import CENTRE

NOBODY = -1
FIRST_ATTACK = 5  # action FIRST_ATTACK + m attacks number m


class Memory(NamedTuple):
    """What every enemy keeps between two steps."""

    default_target_x: Tensor  # float32 [E, B]: where to walk with nobody in sight; (0, 0): not set yet
    default_target_y: Tensor
    last_attacked: Tensor  # int64 [E, B]: m, or NOBODY


class Side(NamedTuple):
    """One team as the script sees it."""

    x: Tensor  # float32 [units, B]
    y: Tensor
    is_alive: Tensor  # bool [units, B]


def choose(
    enemies: Side,
    allies: Side,
    sight_range: Tensor,
    attack_range: Tensor,
    memory: Memory,
    walk_draw: Tensor,
    attack_draw: Tensor | None,
    shoots: bool,
) -> tuple[Tensor, Memory]:
    """An action for every enemy, the dead included, whose choice shows in the State but does nothing.

    Args:
        sight_range, attack_range: float32 [E, B], of the enemies.
        walk_draw: float32 [E, B] in [0, 1): decides whom to walk to.
        attack_draw: likewise, whom to attack; None: the closest.
        shoots: whether it fires at all.

    Returns:
        actions, int64 [E, B]: 0 up, 1 right, 2 down, 3 left, FIRST_ATTACK + m; and the new memory.
    """
    own_x, own_y = (torch.where(enemies.is_alive, p, 0.0) for p in (enemies.x, enemies.y))  # the dead see only zeros
    numbered = Side(*(field.flip(0) for field in allies))
    to_x, to_y = numbered.x - own_x[:, None], numbered.y - own_y[:, None]  # [E, N, B]
    distance = (to_x * to_x).addcmul_(to_y, to_y).sqrt_()
    sees = (distance < sight_range[:, None]) & numbered.is_alive & enemies.is_alive[:, None]
    reaches = sees & (distance < attack_range[:, None])

    can_attack = reaches.any(1)
    target = _closest(distance, reaches) if attack_draw is None else _drawn(reaches, attack_draw)
    last = memory.last_attacked
    keeps = (last != NOBODY) & reaches.gather(1, last.clamp(min=0)[:, None]).squeeze(1)
    target = torch.where(keeps, last, target)

    is_new = (memory.default_target_x == 0) & (memory.default_target_y == 0) & (last == NOBODY)
    default_x = torch.where(is_new, _opposite(own_x), memory.default_target_x)
    default_y = torch.where(is_new, _opposite(own_y), memory.default_target_y)
    walks_to = _drawn(sees, walk_draw)[:, None]
    sees_anybody = sees.any(1)
    way_x = torch.where(sees_anybody, to_x.gather(1, walks_to).squeeze(1), default_x - own_x)
    way_y = torch.where(sees_anybody, to_y.gather(1, walks_to).squeeze(1), default_y - own_y)

    action = torch.where(can_attack, target + FIRST_ATTACK, _move(way_x, way_y)) if shoots else _move(way_x, way_y)
    return action, Memory(default_x, default_y, torch.where(can_attack, target, NOBODY))


def _opposite(coordinate: Tensor) -> Tensor:
    """After half a turn about the centre; in this order of operations, that of the original."""
    return CENTRE - (coordinate - CENTRE)


def _closest(distance: Tensor, is_candidate: Tensor) -> Tensor:
    """Number of the closest candidate, the lowest on ties: [E, N, B] -> [E, B]."""
    return distance.masked_fill(~is_candidate, torch.inf).min(1).indices


def _drawn(is_candidate: Tensor, draw: Tensor) -> Tensor:
    """Number of one of the candidates, all equally likely: [E, N, B] -> [E, B]; anything where there is none."""
    numbers = torch.arange(is_candidate.shape[1], device=draw.device)
    rank_of = (numbers[:, None] >= numbers).float() @ is_candidate.float()  # candidates up to this one
    rank = (draw * rank_of[:, -1]).floor_() + 1  # 1 .. their number
    return ((rank_of == rank[:, None]) & is_candidate).byte().max(1).indices


def _move(x: Tensor, y: Tensor) -> Tensor:
    """The direction that lies nearest to (x, y): up, right, down, left, the first of them on ties."""
    along = torch.maximum(x.abs(), y.abs())
    action = torch.where(-y == along, 2, 3)
    action = torch.where(x == along, 1, action)
    return torch.where(y == along, 0, action)
