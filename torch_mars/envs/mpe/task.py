"""What simple spread is made of: its tasks and their options, the State, the numbers of the rules in `env.py`.

Source of the numbers: `MPE_simple_spread_v3` of the `jaxmarl` package 0.2.0. Lengths have no unit; times are in s.
"""

from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, one_of, within_reason

TITLE = "MPE"
TASKS = {f"simple_spread_{n}ag": {"num_agents": n} for n in (3, 5, 10)}
EXTENSIONS: dict[str, dict] = {}

MOST_AGENTS = 1000  # N: a global state is 6 N^2 numbers, 24 MB
AGENT_RADIUS = 0.15
LANDMARK_RADIUS = 0.05  # drawn only: landmarks collide with nothing
TOUCH = 2 * AGENT_RADIUS  # distance below which two agents touch
ACCELERATION = 5.0  # per unit of action; masses are 1
DT = 0.1  # s
DAMPING = 0.25  # share of the velocity lost in a step
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 0.001  # width of the soft contact
NOTHING, LEFT, RIGHT, DOWN, UP = range(5)  # parts of a continuous action, or a discrete one
THRUSTS = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # (x, y) per unit of each


def observed(num_agents: int) -> dict[str, int]:
    """What an agent sees, in this order: names and how many numbers each."""
    return {
        "own_velocity": 2,
        "own_position": 2,
        "landmarks": 2 * num_agents,  # x, y of the way to each
        "others": 2 * (num_agents - 1),  # likewise
        "communication": 2 * (num_agents - 1),  # of the others, who are silent: zeros
    }


@dataclass(frozen=True)
class Options:
    """What `make` may override."""

    num_agents: int = 3  # N, as many landmarks
    action_type: str = "continuous"  # or "discrete"
    local_ratio: float = 0.5  # weight of the individual part of the reward
    max_steps: int = 26  # of 0.1 s
    raw_actions: bool = False  # the action space is [-1, 1] instead of [0, 1]; the rules are the same

    def __post_init__(self):
        within_reason(self)
        at_least(self, 1, "num_agents", "max_steps")
        between(self, 1, MOST_AGENTS, "num_agents")
        one_of(self, ("action_type",), "continuous", "discrete")
        between(self, 0, 1, "local_ratio")


@dataclass
class SpreadState(State):
    """Coordinates are x, y."""

    agent_pos: Tensor  # float32 [B, N, 2]
    agent_vel: Tensor  # float32 [B, N, 2]
    landmark_pos: Tensor  # float32 [B, L, 2]
