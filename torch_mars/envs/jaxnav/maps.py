"""How an episode of JaxNav starts: a random map, then robot by robot a start, a heading and a goal.

The original redraws a robot's start and goal until they are valid, without a bound. Here a level is a pure function of
a key: how often it had to redraw changes nothing but the time it takes. A `Draft` is a level in the making, and every
`next_round` does a fixed amount of work on it, the same draws in the same order: an environment does a round for
its next episode in every step, so that nothing is left to do when the episode ends, and `finish` does what is left.

Comparisons are inclusive and in float32, in the order of the original: it decides that a goal may lie on the upper
bound of the drivable square (10 - 9.7 > 0.3) but never on the lower one (1.3 - 1.0 <= 0.3).

Axes: B environments, N robots, K candidates of a robot, W cells along a side of the map.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_mars.envs.angles import cosine_sine, root
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import where_rows
from torch_mars.envs.rng import GOLDEN, bits, integers, permutation, signed, uniform

RADIUS = 0.3  # m: nominal, of a robot
START_CLEARANCE = 0.45  # m from walls
GOAL_CLEARANCE = 0.3  # m from walls, whatever the goal radius of the task
SEPARATION = 0.9  # m between starts, and between goals
LEAST_DISTANCE = 0.6  # m from a start to its goal
CANDIDATES = 32  # of every robot in a round; about every fourth is valid
MOST_ROUNDS = 1024  # after which a map is thought to have no place for all; then it is drawn anew
MOST_MAPS = 100  # after which no map is thought to have
NO_MAP = -1


def largest_square(radius: float) -> float:
    """The largest float32 whose root, rounded to float32, is at most the radius: to compare with, not taking roots."""
    radius = np.float32(radius)
    square = radius * radius
    while np.sqrt(square) > radius:
        square = np.nextafter(square, np.float32(0))
    while np.sqrt(above := np.nextafter(square, np.float32(np.inf))) <= radius:
        square = above
    return float(square)


SQUARES = {radius: largest_square(radius) for radius in (START_CLEARANCE, GOAL_CLEARANCE, SEPARATION, LEAST_DISTANCE)}


@dataclass
class Draft:
    """A level in the making, complete when N robots are placed."""

    cursor: Tensor  # int64 [B]: key of its next random number
    map_data: Tensor  # bool [B, W, W]: wall, indexed [y, x]
    robots: Tensor  # float32 [B, N, 5]: start x, y in m, heading in rad, goal x, y in m
    placed: Tensor  # int64 [B]: how many robots are valid; NO_MAP before the map is drawn
    rounds: Tensor  # int64 [B]: spent on this map


def most_walls(num_cells: int, fill: float) -> int:
    """One more than the largest number of walls inside; in float32, as JaxMARL computes it."""
    return max(1, math.floor(np.float32((num_cells - 2) ** 2) * np.float32(fill)))


def new_draft(key: Tensor, num_robots: int, num_cells: int) -> Draft:
    """The untouched level of every key [B]."""
    return Draft(
        cursor=key + signed(GOLDEN),  # the first word is the key of the following level
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


def next_round(draft: Draft, walls: int) -> Draft:
    """One round for every level that is not complete: the map, if it has none, and candidates for all robots."""
    draft = where_rows(draft.placed == NO_MAP, lambda rows: _draw_map(rows, walls), draft, draft)
    return where_rows(~is_complete(draft), _place_robots, draft, draft)


def finish(draft: Draft, walls: int) -> Draft:
    """All rounds that are left; looks at the levels.

    Raises:
        RuntimeError: the robots do not fit on the maps.
    """
    for _ in range(MOST_ROUNDS * MOST_MAPS):
        if is_complete(draft).all():
            return draft
        draft = next_round(draft, walls)
    raise no_places(draft.robots.shape[1], draft.map_data.shape[1])


def no_places(num_robots: int, num_cells: int) -> RuntimeError:
    return RuntimeError(
        f"found no starts and goals for {num_robots} robots on a map of {num_cells} x {num_cells} cells"
    )


def _draw_map(draft: Draft, walls: int) -> Draft:
    """Walls around, inside 0 .. walls - 1 more at random places."""
    inner = draft.map_data.shape[1] - 2
    count, cursor = integers(draft.cursor, 1, walls)
    order, cursor = permutation(cursor, inner * inner)
    inside = (order < count).view(-1, inner, inner)
    zeros = torch.zeros_like(cursor)
    map_data = F.pad(inside, (1, 1, 1, 1), value=True)
    return dataclasses.replace(draft, cursor=cursor, map_data=map_data, placed=zeros, rounds=zeros)


def _place_robots(draft: Draft) -> Draft:
    """Robot by robot, the first valid one of K candidates each, up to the first robot for which none is valid."""
    num_robots = draft.robots.shape[1]
    places, heading, cursor = _candidates(draft)
    start, goal = places.unbind(2)
    touches = touches_wall(draft.map_data, start, START_CLEARANCE) | touches_wall(draft.map_data, goal, GOAL_CLEARANCE)
    is_valid = ~(touches | _is_within(start, goal, LEAST_DISTANCE))  # for a robot alone on the map: [B, N, K]
    robots, placed = list(draft.robots.unbind(1)), draft.placed
    for i in range(num_robots):
        fits = is_valid[:, i]
        first = fits.byte().argmax(1)[:, None, None, None].expand(-1, 2, 2, 1)
        chosen = places[:, i].gather(3, first).flatten(1)  # [B, 4]
        is_placed = fits.any(1) & (placed == i)
        pose = torch.cat([chosen[:, :2], heading[:, i], chosen[:, 2:]], 1)
        robots[i] = torch.where(is_placed[:, None], pose, robots[i])
        placed = placed + is_placed
        if i + 1 < num_robots:
            taken = torch.stack([robots[i][:, :2], robots[i][:, 3:]], 1)[:, None, :, :, None]
            is_near = _is_within(places[:, i + 1 :], taken, SEPARATION).any(2)
            is_valid[:, i + 1 :] &= ~is_near
    rounds = draft.rounds + 1
    is_hopeless = (placed < num_robots) & (rounds >= MOST_ROUNDS)
    placed = torch.where(is_hopeless, scalar(NO_MAP, like=placed), placed)
    return dataclasses.replace(draft, cursor=cursor, robots=torch.stack(robots, 1), placed=placed, rounds=rounds)


def _candidates(draft: Draft) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and goals [B, N, 2, 2, K] (x and y each), headings [B, N, 1], and the moved cursor."""
    num_robots = draft.robots.shape[1]
    low, high = 1 + RADIUS, draft.map_data.shape[1] - 1 - RADIUS
    numbers, cursor = uniform(draft.cursor, num_robots * (4 * CANDIDATES + 1))
    numbers = numbers.view(-1, num_robots, 4 * CANDIDATES + 1)
    lengths, angles = numbers.split([3 * CANDIDATES, CANDIDATES + 1], 2)
    lengths = low + (high - low) * lengths.unflatten(2, (3, CANDIDATES))
    start, far = lengths.split([2, 1], 2)  # the same two numbers bound the distance in the original
    angle, heading = (math.pi * (2 * angles - 1)).split([CANDIDATES, 1], 2)
    goal = (start + far * torch.stack(cosine_sine(angle), 2)).clamp(low, high)
    return torch.stack([start, goal], 2), heading, cursor


def _is_within(points: Tensor, others: Tensor, radius: float) -> Tensor:
    """bool [..., K]: points [..., 2, K] are within a radius (one of `SQUARES`) of others, as by `distance`."""
    apart = points - others
    return apart.mul_(apart).sum(-2) <= SQUARES[radius]


def distance(points: Tensor, others: Tensor) -> Tensor:
    """[...] m between points [..., 2], rounded to the nearest float32."""
    x, y = (points - others).unbind(-1)
    return root(x * x + y * y)


def touches_wall(map_data: Tensor, point: Tensor, radius: float) -> Tensor:
    """bool [B, N, K]: whether the closed circle around points [B, N, 2, K] meets a wall cell.

    With a radius (one of `SQUARES`) below 0.5 m it can meet, besides a point's own cell, only those on its nearer
    sides: [..., 2] along each axis. None is outside the map, as the points lie within the walls around.
    """
    own = point.floor()
    side = (point - own).sub_(0.5).sign_()
    cell = torch.stack([own, own + side], -1)  # [B, N, 2, K, 2]
    centre, point = cell + 0.5, point[..., None]
    apart = (point - centre).clamp_(-0.5, 0.5).add_(centre).sub_(point)  # to the nearest point of the cell
    x, y = apart.mul_(apart).unbind(2)
    column, row = cell.long().unbind(2)
    is_close = x[..., None] + y[..., None, :] <= SQUARES[radius]  # [B, N, K, 2, 2]
    number = column[..., None] + (map_data.shape[2] * row)[..., None, :]
    is_wall = map_data.flatten(1).gather(1, number.flatten(1)).view(number.shape)
    return (is_wall & is_close).flatten(3).any(3)


def neighbourhood(map_data: Tensor, point: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
    """The 3 x 3 cells around points [B, ..., 2]: is wall [B, ..., 9] (outside the map: no), centres [B, ..., 9, 2].

    Args:
        around: int64 [9, 2], what to add to (x, y).
    """
    num_cells = map_data.shape[1]
    cell = point.floor().long()[..., None, :] + around
    on_map = cell.clamp(0, num_cells - 1)
    x, y = on_map.unbind(-1)
    is_wall = map_data.flatten(1).gather(1, (y * num_cells + x).flatten(1)).view(x.shape)
    return is_wall & (on_map == cell).all(-1), cell.float() + 0.5
