"""How an episode of JaxNav starts: a random map, then robot by robot a start, a heading and a goal.

The original redraws a robot's start and goal until they are valid, without a bound. Here a level is a pure function of
a key: how often it had to redraw changes nothing but the time it takes. A `Draft` is a level in the making, and every
`advance` does a fixed amount of work on it, the same draws in the same order: an environment advances the level of its
next episode by one round a step, so that nothing is left to do when the episode ends, and `finish` does what is left.

Comparisons are inclusive and in float32, in the order of the original: it decides that a goal may lie on the upper
bound of the drivable square (10 - 9.7 > 0.3) but never on the lower one (1.3 - 1.0 <= 0.3).

Axes: B environments, N robots, K candidates of a robot, W cells along a side of the map.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_mars.envs.angles import cosine_sine, root
from torch_mars.envs.core import where_rows
from torch_mars.envs.rng import bits, integers, permutation, uniform

RADIUS = 0.3  # m: nominal, of a robot
START_CLEARANCE = 0.45  # m from walls
GOAL_CLEARANCE = 0.3  # m from walls, whatever the goal radius of the task
SEPARATION = 0.9  # m between starts, and between goals
LEAST_DISTANCE = 0.6  # m from a start to its goal
CANDIDATES = 32  # of every robot in a round; about every fourth is valid
MOST_ROUNDS = 64  # after which a map is thought to have no place for all; then it is drawn anew
MOST_MAPS = 100  # after which no map is thought to have
NO_MAP = -1


@dataclass
class Draft:
    """A level in the making, complete when N robots are placed."""

    cursor: Tensor  # int64 [B]: key of its next random number
    map_data: Tensor  # bool [B, W, W]: wall, indexed [y, x]
    robots: Tensor  # float32 [B, N, 5]: start x, y in m, heading in rad, goal x, y in m
    placed: Tensor  # int64 [B]: how many robots are valid; NO_MAP before the map is drawn
    rounds: Tensor  # int64 [B]: spent on this map


def new_draft(key: Tensor, num_robots: int, num_cells: int) -> Draft:
    """The untouched level of every key [B]."""
    return Draft(
        cursor=bits(key, 1)[1],  # the first word is the key of the following level
        map_data=torch.ones(len(key), num_cells, num_cells, dtype=torch.bool, device=key.device),
        robots=torch.zeros(len(key), num_robots, 5, dtype=torch.float32, device=key.device),
        placed=torch.full_like(key, NO_MAP),
        rounds=torch.zeros_like(key),
    )


def following(key: Tensor) -> Tensor:
    """The key [B] of the level after that of every key."""
    return bits(key, 1)[0][:, 0]


def is_complete(draft: Draft) -> Tensor:
    """bool [B]."""
    return draft.placed == draft.robots.shape[1]


def advance(draft: Draft, fill: float) -> Draft:
    """One round for every level that is not complete: the map, if it has none, and candidates for all robots."""
    draft = where_rows(draft.placed == NO_MAP, lambda rows: _draw_map(rows, fill), draft, draft)
    return where_rows(~is_complete(draft), _place_robots, draft, draft)


def finish(draft: Draft, fill: float) -> Draft:
    """All rounds that are left; looks at the levels.

    Raises:
        RuntimeError: the robots do not fit on the maps.
    """
    for _ in range(MOST_ROUNDS * MOST_MAPS):
        if is_complete(draft).all():
            return draft
        draft = advance(draft, fill)
    raise no_places(draft.robots.shape[1], draft.map_data.shape[1])


def no_places(num_robots: int, num_cells: int) -> RuntimeError:
    return RuntimeError(
        f"found no starts and goals for {num_robots} robots on a map of {num_cells} x {num_cells} cells"
    )


def _draw_map(draft: Draft, fill: float) -> Draft:
    """Walls around, inside 0 .. floor(inner cells * fill) - 1 more at random places."""
    inner = draft.map_data.shape[1] - 2
    most = math.floor(inner * inner * fill)
    count, cursor = integers(draft.cursor, 1, max(most, 1))
    order, cursor = permutation(cursor, inner * inner)
    inside = (order < count).view(-1, inner, inner)
    zeros = torch.zeros_like(cursor)
    map_data = F.pad(inside, (1, 1, 1, 1), value=True)
    return dataclasses.replace(draft, cursor=cursor, map_data=map_data, placed=zeros, rounds=zeros)


def _place_robots(draft: Draft) -> Draft:
    """Robot by robot, the first valid one of K candidates each, up to the first robot for which none is valid."""
    num_robots = draft.robots.shape[1]
    start, goal, heading, cursor = _candidates(draft)
    is_valid = ~(  # for a robot alone on the map: [B, N, K]
        touches_wall(draft.map_data, start, START_CLEARANCE)
        | touches_wall(draft.map_data, goal, GOAL_CLEARANCE)
        | (distance(start, goal) <= LEAST_DISTANCE)
    )
    robots, placed = draft.robots, draft.placed
    for i in range(num_robots):
        others = robots[:, None, :i]  # [B, 1, i, 5]
        is_near = (distance(start[:, i, :, None], others[..., :2]) <= SEPARATION) | (
            distance(goal[:, i, :, None], others[..., 3:]) <= SEPARATION
        )
        fits = is_valid[:, i] & ~is_near.any(2)
        first = fits.int().argmax(1)[:, None, None].expand(-1, 1, 2)
        pose = (start[:, i].gather(1, first)[:, 0], heading[:, i], goal[:, i].gather(1, first)[:, 0])
        is_placed = fits.any(1) & (placed == i)
        this = torch.where(is_placed[:, None], torch.cat(pose, 1), robots[:, i])
        robots = torch.cat([robots[:, :i], this[:, None], robots[:, i + 1 :]], 1)
        placed = placed + is_placed
    rounds = draft.rounds + 1
    is_hopeless = (placed < num_robots) & (rounds >= MOST_ROUNDS)
    placed = torch.where(is_hopeless, NO_MAP, placed)
    return dataclasses.replace(draft, cursor=cursor, robots=robots, placed=placed, rounds=rounds)


def _candidates(draft: Draft) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Starts and goals [B, N, K, 2], headings [B, N, 1], and the moved cursor."""
    num_robots = draft.robots.shape[1]
    low, high = 1 + RADIUS, draft.map_data.shape[1] - 1 - RADIUS
    numbers, cursor = uniform(draft.cursor, num_robots * (4 * CANDIDATES + 1))
    numbers, heading = numbers.view(-1, num_robots, 4 * CANDIDATES + 1).split([4 * CANDIDATES, 1], 2)
    x, y, far, angle = numbers.unflatten(2, (4, CANDIDATES)).unbind(2)  # [B, N, K] each
    start = low + (high - low) * torch.stack([x, y], -1)
    far = (low + (high - low) * far)[..., None]  # the same two numbers bound the distance in the original
    angle = math.pi * (2 * angle - 1)
    goal = (start + far * torch.stack(cosine_sine(angle), -1)).clamp(low, high)
    return start, goal, math.pi * (2 * heading - 1), cursor


def distance(points: Tensor, others: Tensor) -> Tensor:
    """[...] m between points [..., 2], rounded to the nearest float32."""
    x, y = (points - others).unbind(-1)
    return root(x * x + y * y)


def touches_wall(map_data: Tensor, point: Tensor, radius: float) -> Tensor:
    """bool [B, ...]: whether the closed circle around point [B, ..., 2] meets a wall cell; radius < 1 m."""
    is_wall, centre = neighbourhood(map_data, point)
    point = point[..., None, :]
    nearest = (point - centre).clamp(-0.5, 0.5) + centre  # point of the cell, [B, ..., 9, 2]
    return (is_wall & (distance(nearest, point) <= radius)).any(-1)


def neighbourhood(map_data: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """The 3 x 3 cells around points [B, ..., 2]: is wall [B, ..., 9] (outside the map: no), centres [B, ..., 9, 2]."""
    num_cells = map_data.shape[1]
    around = torch.arange(-1, 2, device=point.device)
    offset = torch.cartesian_prod(around, around)
    cell = point.floor().long()[..., None, :] + offset  # (x, y)
    is_inside = ((cell >= 0) & (cell < num_cells)).all(-1)
    x, y = cell.clamp(0, num_cells - 1).unbind(-1)
    is_wall = map_data.flatten(1).gather(1, (y * num_cells + x).flatten(1)).view(x.shape)
    return is_wall & is_inside, cell.float() + 0.5
