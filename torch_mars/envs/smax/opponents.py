"""The script that commands the enemies: fire at who is in reach, else walk to somebody in sight, else cross the field.

It keeps its target while that is in reach, and never stops or retreats. Source: JaxMARL 0.2.0 (`heuristic_enemy.py`).

Axes: E enemies, N allies, B environments last, so that the work on pairs runs along B. The script counts the allies
backwards: number m is ally N - 1 - m.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.smax.scenarios import CENTRE
from torch_mars.envs.smax.task import FIRST_ATTACK

NOBODY = -1
FAR = 1e6  # further than anybody


class Memory(NamedTuple):
    """What every enemy keeps between two steps."""

    default_target: Tensor  # float32 [2, E, B]: where to walk with nobody in sight; (0, 0): not set yet
    last_attacked: Tensor  # int64 [E, B]: m, or NOBODY


class Side(NamedTuple):
    """One team as the script sees it."""

    position: Tensor  # float32 [2, units, B]: x and y
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
    own = enemies.position * enemies.is_alive  # the dead see only zeros
    numbered = Side(allies.position.flip(1), allies.is_alive.flip(0))
    way = numbered.position[:, None] - own[:, :, None]  # [2, E, N, B]
    distance = length(way)
    both_live = (enemies.is_alive[:, None] & numbered.is_alive).float()
    sees = torch.lt(distance, sight_range[:, None], out=torch.empty_like(distance)).mul_(both_live)
    reaches = torch.lt(distance, attack_range[:, None], out=torch.empty_like(distance)).mul_(sees)

    if attack_draw is None:
        target, can_attack = _closest(distance, reaches)
    else:
        target, can_attack = _number(_drawn(reaches, attack_draw))
    last = memory.last_attacked
    keeps = (last != NOBODY) & (reaches.gather(1, last.clamp(min=0)[:, None]).squeeze(1) > 0)
    target = torch.where(keeps, last, target)

    is_new = (memory.default_target == 0).all(0) & (last == NOBODY)
    default_target = torch.where(is_new, CENTRE - (own - CENTRE), memory.default_target)  # half a turn about the centre
    walks_to = _drawn(sees, walk_draw)
    to_ally = (way * walks_to).sum(2)  # nothing but zeros is added
    move = _move(*torch.where(walks_to.sum(1) > 0, to_ally, default_target - own))

    action = torch.where(can_attack, target + FIRST_ATTACK, move) if shoots else move
    return action, Memory(default_target, torch.where(can_attack, target, NOBODY))


def length(way: Tensor) -> Tensor:
    """[...] of [2, ...]."""
    x, y = way
    return (x * x + y * y).sqrt()


def _closest(distance: Tensor, is_candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the closest candidate, the lowest on ties, and whether there is one: [E, N, B] -> [E, B]."""
    distance = distance + FAR * (1 - is_candidate)
    least = distance.amin(1, keepdim=True)
    return _number(torch.eq(distance, least, out=torch.empty_like(distance)).mul_(is_candidate))


def _number(is_candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest number of a candidate, and whether there is one: [E, N, B] -> [E, B]."""
    count = is_candidate.shape[1]
    from_the_end = torch.arange(count, 0, -1.0, dtype=torch.float32, device=is_candidate.device)[:, None]
    best = (is_candidate * from_the_end).amax(1)
    return (count - best).long(), best > 0


def _drawn(is_candidate: Tensor, draw: Tensor) -> Tensor:
    """One of the candidates, all equally likely, if there are any: [E, N, B] of 1 (this one) and 0."""
    rank_of = torch.stack(list(itertools.accumulate(is_candidate.unbind(1))), 1)  # candidates up to this one
    rank = (draw * rank_of[:, -1]).floor_() + 1  # 1 .. their number
    return torch.eq(rank_of, rank[:, None], out=torch.empty_like(rank_of)).mul_(is_candidate)


def _move(x: Tensor, y: Tensor) -> Tensor:
    """The direction that lies nearest to (x, y): up, right, down, left, the first of them on ties."""
    along = torch.maximum(x.abs(), y.abs())
    action = torch.where(-y == along, 2, 3)
    action = torch.where(x == along, 1, action)
    return torch.where(y == along, 0, action)
