"""How an episode of JaxNav starts: a random map, then robot by robot a start, a heading and a goal.

The original redraws a robot's start and goal until they are valid, without a bound. Here the same draws come in rounds
of `CANDIDATES`, of which the first valid one counts; `Draft` is a level of which some robots are placed already, and one
round of `place_next` places at most one more, always with the same amount of work. So a reset repeats rounds until the
level is complete, and a running environment spends one round a step on its next level.

Comparisons are inclusive and in float32, in the order of the original: it decides that a goal may lie on the upper
bound of the drivable square (10 - 9.7 > 0.3) but never on the lower one (1.3 - 1.0 <= 0.3).

Axes: B environments, N robots, K candidates, W cells along a side of the map.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_mars.envs.core import where_rows
from torch_mars.envs.rng import integers, permutation, uniform

RADIUS = 0.3  # m: nominal, of a robot
START_CLEARANCE = 0.45  # m from walls
GOAL_CLEARANCE = 0.3  # m from walls, whatever the goal radius of the task
SEPARATION = 0.9  # m between starts, and between goals
LEAST_DISTANCE = 0.6  # m from a start to its goal
CANDIDATES = 32  # of a round; about every fourth is valid
MOST_ROUNDS = 64  # that a robot may take; then the level has no place for it and is drawn anew


@dataclass
class Draft:
    """A level in the making: complete when N robots are placed."""

    rng: Tensor  # int64 [B]
    map_data: Tensor  # bool [B, W, W]: wall, indexed [y, x]
    robots: Tensor  # float32 [B, N, 5]: start x, y in m, heading in rad, goal x, y in m
    placed: Tensor  # int64 [B]: how many of them are valid
    rounds: Tensor  # int64 [B]: spent on the next robot so far


def new_draft(rng: Tensor, num_robots: int, num_cells: int, fill: float) -> Draft:
    """A map without robots: walls around, inside 0 .. floor(inner cells * fill) - 1 more at random places."""
    inner = num_cells - 2
    most = math.floor(inner * inner * fill)
    count, rng = integers(rng, 1, max(most, 1))
    order, rng = permutation(rng, inner * inner)
    inside = (order < count).view(-1, inner, inner)
    zeros = torch.zeros(len(rng), dtype=torch.int64, device=rng.device)
    return Draft(
        rng=rng,
        map_data=torch.nn.functional.pad(inside, (1, 1, 1, 1), value=True),
        robots=torch.zeros(len(rng), num_robots, 5, device=rng.device),
        placed=zeros,
        rounds=zeros,
    )


def is_complete(draft: Draft) -> Tensor:
    """bool [B]."""
    return draft.placed == draft.robots.shape[1]


def continue_draft(draft: Draft, fill: float) -> Draft:
    """One round for every level that is not complete."""
    num_robots, num_cells = draft.robots.shape[1], draft.map_data.shape[1]
    draft = where_rows(~is_complete(draft), _place_next, draft, draft)
    return where_rows(
        draft.rounds >= MOST_ROUNDS, lambda rng: new_draft(rng, num_robots, num_cells, fill), draft.rng, draft
    )


def _place_next(draft: Draft) -> Draft:
    """The first valid one of K candidates for the next robot, if any is valid."""
    start, goal, heading, rng = _candidates(draft.rng, draft.map_data.shape[1])
    ids = torch.arange(draft.robots.shape[1], device=rng.device)
    is_placed = (ids < draft.placed[:, None])[:, None]  # [B, 1, N]
    is_crowded = (_distances(start, draft.robots[..., :2]) <= SEPARATION) & is_placed
    is_crowded |= (_distances(goal, draft.robots[..., 3:]) <= SEPARATION) & is_placed
    is_valid = ~(
        touches_wall(draft.map_data, start, START_CLEARANCE)
        | touches_wall(draft.map_data, goal, GOAL_CLEARANCE)
        | is_crowded.any(2)
        | (torch.linalg.vector_norm(start - goal, dim=-1) <= LEAST_DISTANCE)
    )  # [B, K]
    first = is_valid.int().argmax(1)
    found = is_valid.any(1)
    pair = torch.cat([start, goal], 2).gather(1, first[:, None, None].expand(-1, 1, 4))
    robot = torch.cat([pair[..., :2], heading[:, None], pair[..., 2:]], 2)  # [B, 1, 5]
    is_this = ((ids == draft.placed[:, None]) & found[:, None])[..., None]
    return dataclasses.replace(
        draft,
        rng=rng,
        robots=torch.where(is_this, robot, draft.robots),
        placed=draft.placed + found,
        rounds=torch.where(found, 0, draft.rounds + 1),
    )


def _candidates(rng: Tensor, num_cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Starts and goals [B, K, 2], one heading [B, 1], and the keys moved on."""
    low, high = 1 + RADIUS, num_cells - 1 - RADIUS
    numbers, rng = uniform(rng, 4 * CANDIDATES + 1)
    x, y, distance, angle = numbers[:, 1:].view(-1, 4, CANDIDATES).unbind(1)
    start = low + (high - low) * torch.stack([x, y], 2)
    distance = (low + (high - low) * distance)[..., None]  # the same two numbers bound the distance in the original
    angle = math.pi * (2 * angle - 1)
    goal = (start + distance * torch.stack([angle.cos(), angle.sin()], 2)).clamp(low, high)
    return start, goal, math.pi * (2 * numbers[:, :1] - 1), rng


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """From points [B, K, 2] to others [B, N, 2]: [B, K, N]."""
    return torch.linalg.vector_norm(points[:, :, None] - others[:, None], dim=-1)


def touches_wall(map_data: Tensor, point: Tensor, radius: float) -> Tensor:
    """bool [B, K]: whether the closed circle around point [B, K, 2] meets a wall cell; radius < 1 m."""
    is_wall, centre = neighbourhood(map_data, point)
    nearest = (point[:, :, None] - centre).clamp(-0.5, 0.5) + centre  # point of the cell, [B, K, 9, 2]
    distance = torch.linalg.vector_norm(nearest - point[:, :, None], dim=-1)
    return (is_wall & (distance <= radius)).any(2)


def neighbourhood(map_data: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """The 3 x 3 cells around points [B, K, 2]: is wall [B, K, 9] (outside the map: no), centres [B, K, 9, 2] in m."""
    num_cells = map_data.shape[1]
    around = torch.arange(-1, 2, device=point.device)
    offset = torch.cartesian_prod(around, around)
    cell = point.floor().long()[:, :, None] + offset  # (x, y)
    is_inside = ((cell >= 0) & (cell < num_cells)).all(-1)
    x, y = cell.clamp(0, num_cells - 1).unbind(-1)
    is_wall = map_data.flatten(1).gather(1, (y * num_cells + x).flatten(1)).view(x.shape)
    return is_wall & is_inside, cell + 0.5
