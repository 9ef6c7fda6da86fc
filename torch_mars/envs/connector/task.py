"""What Connector is made of: its tasks and their options, the State, the numbers of the rules that `env.py` explains.

Source of the numbers: `Connector-v3` of the `jumanji` package 1.1.2, seen through Mava's vector wrapper. Positions are
(row, column) from the top left.
"""

import re
from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, within_reason

TITLE = "Connector"


def _sized(grid_size: int, num_agents: int) -> dict[str, dict]:
    name = f"connector_{grid_size}x{grid_size}x{num_agents}a"
    return {name: {"grid_size": grid_size, "num_agents": num_agents}}


TASKS = _sized(5, 3) | _sized(7, 5) | _sized(10, 10) | _sized(15, 23)
EXTENSIONS: dict[str, dict] = {}

STAY, UP, RIGHT, DOWN, LEFT = range(5)  # actions
MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # (row, column) of each
# what stands on a cell: 0 nothing, or of agent i: 3 i + one of these
TRAIL, HEAD, TARGET = 1, 2, 3
OUTSIDE = -1  # beyond the board; as it leaves 2 when divided by 3, it blocks like a head
WINDOW = 5  # an agent sees the WINDOW x WINDOW cells around it, row by row from the top left
SMALLEST, LARGEST = 3, 40  # boards
CELLS_PER_AGENT = 4  # so many at least, or the next wire may find no place
# what an agent sees, in this order: names and how many numbers each
OBSERVED = {"position": 2, "target": 2, "blockers": WINDOW * WINDOW, "targets": WINDOW * WINDOW}
BLOCKERS, TARGETS = 4, 4 + WINDOW * WINDOW  # where these begin


OTHER_SIZES = "connector_<G>x<G>x<N>a"


def other_task(name: str) -> dict | None:
    """The options of `connector_<G>x<G>x<N>a`, numbers without leading zeros; None for other names."""
    match = re.fullmatch(r"connector_([1-9][0-9]{0,8})x\1x([1-9][0-9]{0,8})a", name)
    return dict(zip(("grid_size", "num_agents"), map(int, match.groups()))) if match else None


@dataclass(frozen=True)
class Options:
    """What `make` may override."""

    grid_size: int = 10  # G
    num_agents: int = 10  # N
    max_steps: int | None = None  # steps; None: G x G
    shared_reward: bool = True  # everybody is paid the team's sum, not its own reward
    connected_reward: float = 1.0  # of an agent that connects
    timestep_reward: float = -0.03  # of every step that an agent begins unconnected

    def __post_init__(self):
        within_reason(self)
        between(self, SMALLEST, LARGEST, "grid_size")
        at_least(self, 1, "num_agents", "max_steps")
        between(self, -1e6, 1e6, "connected_reward", "timestep_reward")
        most = self.grid_size**2 // CELLS_PER_AGENT
        if self.num_agents > most:
            board = f"a board of {self.grid_size} x {self.grid_size}"
            raise ValueError(f"num_agents is {self.num_agents}; {board} holds at most {most}")

    @property
    def walk_length(self) -> int:
        """W: moves of the walks that lay a new board, the first included."""
        return int(1.5 * self.grid_size)


@dataclass
class ConnectorState(State):
    """N agents on G x G cells. An agent is connected when it stands on its target."""

    grid: Tensor  # int8 (int16 for more than 42 agents) [B, G, G]: what stands on every cell
    agent_pos: Tensor  # int64 [B, N, 2]: row, column of the head
    target_pos: Tensor  # int64 [B, N, 2]: of the target, kept when it is reached
