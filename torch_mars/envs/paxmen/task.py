"""What PaxMen is made of: its tasks and their options, the State, the numbers of the rules that `env.py` explains.

Source of the numbers: the `paxmen` package 0.1.0. Rows grow to the south, columns to the east.
"""

from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, within_reason

TITLE = "PaxMen"
TASKS = {f"paxmen_{n}a": {"num_agents": n} for n in (4, 5, 6)}
EXTENSIONS: dict[str, dict] = {}

MAX_STEPS = {4: 100, 5: 115, 6: 130}  # by number of agents
DOTS_PER_ROOM = 3
MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1), (0, 0))  # (row, col) of up, down, right, left, eat
EAT = 4
DOT_REWARD = 1.0
IDLE_PENALTY = -0.025  # of an agent that eats nothing in a step
WINDOW = 5  # an agent sees the WINDOW x WINDOW cells around it, row by row from the north-west
CENTRE = WINDOW * WINDOW // 2  # the agent's own cell in its window
WALL, FLOOR, DOT, AGENT = -1.0, 0.0, 1.0, 0.1  # what a cell looks like, in a window and in the global state
OFF_THE_FLOOR = "agent_pos has an agent off the floor; positions are (row, col) of floor cells of the layout"


@dataclass(frozen=True)
class Options:
    """What `make` may override."""

    num_agents: int = 5  # N, as many rooms
    max_steps: int | None = None  # steps; None: 100, 115, 130 for 4, 5, 6 agents

    def __post_init__(self):
        within_reason(self)
        if self.num_agents not in MAX_STEPS:
            raise ValueError(f"num_agents is {self.num_agents}; PaxMen has boards for 4, 5 and 6")
        at_least(self, 1, "max_steps")


@dataclass
class PaxMenState(State):
    """N agents, D = 3N dots."""

    layout: Tensor  # int64 [B]: 0..3
    agent_pos: Tensor  # int64 [B, N, 2]: row, col
    dot_pos: Tensor  # int64 [B, D, 2]: dots 3i, 3i+1, 3i+2 lie in room i
    dot_active: Tensor  # bool [B, D]: not yet eaten
