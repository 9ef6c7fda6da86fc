"""What JaxNav is made of: its tasks and their options, the State, the numbers of the rules and of the LiDAR.

Source of the numbers: `JaxNav` of the `jaxmarl` package 0.2.0. Those of maps and starts are in `maps.py`.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, more_than, within_reason

TITLE = "JaxNav"
TASKS = {f"jaxnav_{w}x{w}x{n}a": {"map_size": w, "num_agents": n} for n, w in enumerate((7, 9, 11, 13), 2)}
EXTENSIONS: dict[str, dict] = {}
BUDGET = 3  # times the steps of other tasks: the paper trains that long here


OTHER_SIZES = "jaxnav_<W>x<W>x<N>a"


def other_task(name: str) -> dict | None:
    """The options of a task of any size, `jaxnav_<W>x<W>x<N>a`; None for every other name.

    Every size has one name: digits are ASCII, without leading zeros.
    """
    match = re.fullmatch(r"jaxnav_([1-9][0-9]{0,8})x\1x([1-9][0-9]{0,8})a", name)
    return {"map_size": int(match[1]), "num_agents": int(match[2])} if match else None


DT = 0.1  # s
ROBOT_RADIUS = 0.3  # m: nominal; to the LiDAR penalty, not to collisions
HALF_SIDE = 0.25  # m: robots are squares
LARGEST_TURN = math.pi / 6  # rad/s: of the action space, whatever max_w is

# LiDAR
NUM_BEAMS = 200
BEARINGS = np.linspace(-math.pi, math.pi, NUM_BEAMS)  # rad, from the heading
MAX_RANGE = 6.0  # m
NUM_SAMPLES = 120
LAST = NUM_SAMPLES - 1
SPACING = MAX_RANGE / LAST  # m between samples along a beam: both ends are samples
RESOLUTION = 0.05  # m: what the distance of a robot is divided by to get a sample; not SPACING
MOST_LINES = math.ceil(MAX_RANGE)  # of the map's grid, along an axis, that a beam crosses before its last sample
MOST_CELLS = 31  # along a side of the map: the bits of an int32
TINY = 1e-9  # stands for the component of a beam along an axis that it is perpendicular to

# what a step counts of robots
EVENTS = ("goal_reached", "map_collision", "agent_collision", "timeout")
# what a robot sees behind the ranges of its beams, in this order
OWN = ("speed", "turn", "goal_distance", "goal_bearing", "reward_share")


def global_features(num_agents: int, map_size: int) -> dict[str, int]:
    """The global state, in this order: names and how many numbers each."""
    return {
        "inner_cells": (map_size - 2) ** 2,
        "position": 2 * num_agents,
        "heading": num_agents,
        "goal": 2 * num_agents,
        "velocity": 2 * num_agents,
        "step": 1,
        "goal_reached": num_agents,
        "crashed": num_agents,
    }


def most_robots(map_size: int, fill: float) -> int:
    """For how many robots starts and goals are always found soon, 0.9 m apart and away from walls.

    By trial: a bit less than every second cell of a small map takes one; fewer fit where many have to be lucky at once,
    on large maps and on those of many walls. Half as many again are not found in minutes.
    """
    inner = map_size - 2
    return max(1, int(min(0.4 * inner**2, 3 * inner) * min(1.0, 0.4 / max(fill, 0.4))))


@dataclass(frozen=True)
class Options:
    """What `make` may override, by the original's names; m, s, rad."""

    num_agents: int = 4  # N
    map_size: int = 11  # W
    fill: float = 0.3  # upper bound of the share of inner cells that are walls
    max_steps: int = 500  # of 0.1 s
    goal_radius: float = 0.3  # within which a robot has arrived
    rew_lambda: float = 0.5  # share of a robot's own reward
    goal_rew: float = 4.0  # on arriving
    weight_g: float = 0.25  # per m of progress
    coll_rew: float = -4.0  # on crashing
    dt_rew: float = -0.01  # a step
    lidar_rew: float = -0.1  # a step in which something is too close
    lidar_thresh: float = 0.0  # beyond the nominal radius of 0.3
    max_v: float = 1.0  # m/s
    max_w: float = 0.6  # rad/s
    max_v_acc: float = 1.0  # m/s^2
    max_w_acc: float = 1.0  # rad/s^2

    def __post_init__(self):
        within_reason(self)
        at_least(self, 1, "num_agents", "max_steps")
        between(self, 5, MOST_CELLS, "map_size")
        between(self, 0, 1, "fill", "rew_lambda")
        if self.num_agents > (most := most_robots(self.map_size, self.fill)):
            filled = f"a map of {self.map_size} x {self.map_size} cells, of which up to {self.fill:.0%} are walls,"
            raise ValueError(f"num_agents is {self.num_agents}; {filled} has places for at most {most} robots")
        at_least(self, -ROBOT_RADIUS, "lidar_thresh")
        more_than(self, 0, "goal_radius", "max_v", "max_w", "max_v_acc", "max_w_acc")


@dataclass
class NavState(State):
    """The robots and what they measure; `rng` is the key of the next episode's level, which is prepared meanwhile."""

    pos: Tensor  # float32 [B, N, 2]: x, y in m
    theta: Tensor  # float32 [B, N]: heading in [-pi, pi)
    vel: Tensor  # float32 [B, N, 2]: v in m/s, w in rad/s
    goal: Tensor  # float32 [B, N, 2]: x, y in m
    map_data: Tensor  # bool [B, W, W]: wall, indexed [y, x]
    goal_reached: Tensor  # bool [B, N]: has been at its goal
    crashed: Tensor  # bool [B, N]
    done: Tensor  # bool [B]: the episode has ended
    # made from the above or from rng
    beams: Tensor  # uint8 [B, N, V]: sample of every LiDAR beam
    start: Tensor  # float32 [B, N, 3]: x, y, theta at the start of this episode
    next_cursor: Tensor  # int64 [B]: this and the following are `maps.Draft` of the level behind rng
    next_map: Tensor  # bool [B, W, W]
    next_robots: Tensor  # float32 [B, N, 5]
    next_placed: Tensor  # int64 [B]
    next_rounds: Tensor  # int64 [B]


# fields of a NavState, in the order of the loops' arguments
DRAFT = ("next_cursor", "next_map", "next_robots", "next_placed", "next_rounds")
# made anew at the start of an episode
STARTED = ("pos", "theta", "vel", "goal", "map_data", "goal_reached", "crashed", "done", "beams", "start")
CHANGED = ("pos", "theta", "vel", "goal_reached", "crashed", "done", *DRAFT)  # by a step; and beams are made anew
SEEN = ("step", "pos", "theta", "vel", "goal", "map_data", "goal_reached", "crashed", "beams")  # obs and global state
