"""What Search & Rescue is made of: its tasks and their options, the State, the names of what a searcher sees.

Source of the numbers: `SearchAndRescue` of the `jumanji` package 1.1.2. The arena is 1 wide and 1 high; a step is the
unit of time; angles are in rad, counterclockwise from +x.
"""

import re
from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, within_reason

TITLE = "Search & Rescue"
_SIZES = ((2, 20), (4, 40), (8, 40))
TASKS = {f"search_and_rescue_{n}x{t}": {"num_searchers": n, "num_targets": t} for n, t in _SIZES}
EXTENSIONS = {"search_and_rescue_8x80": {"num_searchers": 8, "num_targets": 80}}


OTHER_SIZES = "search_and_rescue_<N>x<T>"


def other_task(name: str) -> dict | None:
    """The options of a task of any size, `search_and_rescue_<N>x<T>`; None for every other name.

    Every size has one name: digits are ASCII, without leading zeros.
    """
    match = re.fullmatch(r"search_and_rescue_([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", name)
    return {"num_searchers": int(match[1]), "num_targets": int(match[2])} if match else None


# what a searcher sees: V rays for each channel, in this order, then the numbers that all searchers share
CHANNELS = ("searchers", "found", "missing")
SHARED = ("targets_remaining", "time")
NOTHING = -1.0  # what a ray reads that meets nothing
SMALLEST_RANGE = 1e-6  # of sight
MOST = 1000  # searchers, targets, rays: 1000 searchers with 1000 rays see 12 MB of numbers


@dataclass(frozen=True)
class Options:
    """What `make` may override, by the original's names; lengths in arena widths, angles as fractions of pi."""

    num_searchers: int = 2  # N
    num_targets: int = 40  # T
    max_steps: int = 400  # also what the decay of the reward and the observed time are measured in
    target_contact_range: float = 0.02  # radius of a find, and of every searcher and target as it is seen
    searcher_max_rotate: float = 0.25  # turn at action 1
    searcher_max_accelerate: float = 0.005  # change of speed at action 1
    searcher_min_speed: float = 0.005  # per step
    searcher_max_speed: float = 0.02
    searcher_vision_range: float = 0.4  # how far other searchers are seen
    target_vision_range: float = 0.1  # how far targets are
    view_angle: float = 0.4  # to either side of the heading, for seeing and for finding
    num_vision: int = 128  # rays
    target_acc_std: float = 0.0001  # standard deviation of the change of velocity in a step, in x and in y
    target_vel_max: float = 0.002
    shared_reward: bool = False  # whether every searcher is paid the team's sum

    def __post_init__(self):
        within_reason(self)
        at_least(self, 1, "num_searchers", "num_targets", "max_steps", "num_vision")
        between(self, 1, MOST, "num_searchers", "num_targets", "num_vision")
        between(self, 0, 1, "target_contact_range", "searcher_max_rotate", "searcher_max_accelerate", "view_angle")
        between(self, 0, 1, "searcher_min_speed", "target_acc_std", "target_vel_max")
        between(self, self.searcher_min_speed, 1, "searcher_max_speed")
        between(self, SMALLEST_RANGE, 1, "searcher_vision_range", "target_vision_range")


@dataclass
class SearchState(State):
    """N searchers, T targets. The upper ends of places and headings are closed because of rounding."""

    searcher_pos: Tensor  # float32 [B, N, 2]: x, y in [0, 1]
    searcher_heading: Tensor  # float32 [B, N]: in [0, 2 pi]
    searcher_speed: Tensor  # float32 [B, N]
    target_pos: Tensor  # float32 [B, T, 2]: x, y in [0, 1]
    target_vel: Tensor  # float32 [B, T, 2]
    target_found: Tensor  # bool [B, T]: stays true


# what the loops take, in this order: the fields that a step changes; what observations are made from
MOVING = ("searcher_pos", "searcher_heading", "searcher_speed", "target_pos", "target_vel", "target_found")
SEEN = ("step", "searcher_pos", "searcher_heading", "target_pos", "target_found")
