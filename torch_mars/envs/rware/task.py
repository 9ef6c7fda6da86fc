"""What RWARE is made of: its tasks and their options, the State, the numbers of the rules that `env.py` explains.

Source of the numbers: `RobotWarehouse-v0` of the `jumanji` package 1.1.2. Positions are (row, column), from the top
left.
"""

from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, within_reason

TITLE = "RWARE"
SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5), "xlarge": (4, 5)}  # blocks: rows, columns
TEAMS = {"tiny": (2, 4), "small": (4,), "medium": (4, 6), "large": (4, 8), "xlarge": (4,)}
HARD = "_hard"  # half as many requests as robots


def _tasks() -> dict[str, dict]:
    tasks = {}
    for size, teams in TEAMS.items():
        rows, columns = SIZES[size]
        for robots in teams:
            team = {"shelf_rows": rows, "shelf_columns": columns, "num_agents": robots}
            tasks[f"rware_{size}_{robots}ag"] = {**team, "request_queue_size": robots}
            if (size, robots) != ("medium", 6):  # the benchmark has no such task
                tasks[f"rware_{size}_{robots}ag{HARD}"] = {**team, "request_queue_size": robots // 2}
    return tasks


TASKS = _tasks()
EXTENSIONS: dict[str, dict] = {}

NOTHING, FORWARD, LEFT, RIGHT, LOAD = range(5)  # actions; LOAD unloads, too
UP, EAST, DOWN, WEST = range(4)  # headings, clockwise
AHEAD = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (row, column) of a step along each heading
TURNS = (0, 0, -1, 1, 0)  # what each action adds to the heading
NO_SHELF = 0  # in shelf_grid; shelf k is k + 1

WINDOW = 9  # cells that a robot sees: 3 x 3, row by row from the top left
OWN_CELL = WINDOW // 2
OTHER = 1 + len(AHEAD)  # numbers on each cell around: somebody is there, its heading one-hot
SHELF = 2  # numbers on each cell of the window: a shelf is there, it is requested
# what a robot sees, in this order: names and how many numbers each
OBSERVED = {
    "position": 2,
    "is_carrying": 1,
    "heading": len(AHEAD),
    "on_highway": 1,
    "others": OTHER * (WINDOW - 1),
    "shelves": SHELF * WINDOW,
}
# where these begin
CARRYING, HEADING, HIGHWAY, OTHERS, SHELVES = (
    sum(list(OBSERVED.values())[:i]) for i in range(1, len(OBSERVED))
)  # fmt: skip
MOST_ROBOTS = 1000  # and requests: each robot looks at all others
MOST_SHELVES = 2**15 - 2  # what shelf_grid can number


@dataclass(frozen=True)
class Options:
    """What `make` may override."""

    shelf_rows: int = 1  # blocks of shelves below one another
    shelf_columns: int = 3  # blocks beside one another, an odd number
    column_height: int = 8  # cells: height of a block
    num_agents: int = 2  # N
    request_queue_size: int = 2  # shelves that are asked for at any time
    max_steps: int = 500

    def __post_init__(self):
        within_reason(self)
        at_least(self, 1, "shelf_rows", "shelf_columns", "column_height", "num_agents", "request_queue_size")
        at_least(self, 1, "max_steps")
        between(self, 1, MOST_ROBOTS, "num_agents", "request_queue_size")
        if self.shelf_columns % 2 == 0:
            raise ValueError(
                f"shelf_columns is {self.shelf_columns}; it must be odd: the goals lie below the middle one"
            )
        blocks = self.shelf_rows * self.shelf_columns - 1  # without the one above the goals
        shelves = 2 * self.column_height * blocks
        if not 2 <= shelves <= MOST_SHELVES:
            blocks = f"shelf_rows {self.shelf_rows}, shelf_columns {self.shelf_columns}, column_height "
            raise ValueError(f"{blocks}{self.column_height} make {shelves} shelves; allowed are 2 to {MOST_SHELVES}")
        if self.request_queue_size >= shelves:
            raise ValueError(
                f"request_queue_size is {self.request_queue_size}; of {shelves} shelves at most {shelves - 1} "
                "can be asked for"
            )
        if self.num_agents > self.num_cells:
            raise ValueError(f"num_agents is {self.num_agents}; the warehouse has {self.num_cells} cells")

    @property
    def grid_size(self) -> tuple[int, int]:
        """R, C."""
        return (self.column_height + 1) * self.shelf_rows + 2, 3 * self.shelf_columns + 1

    @property
    def num_cells(self) -> int:
        rows, columns = self.grid_size
        return rows * columns


@dataclass
class WarehouseState(State):
    """N robots, R x C cells, Q requests, M shelves. A shelf that is carried stands on its carrier's cell."""

    agent_pos: Tensor  # int64 [B, N, 2]: row, column
    agent_dir: Tensor  # int64 [B, N]: 0 up, 1 right, 2 down, 3 left
    is_carrying: Tensor  # bool [B, N]
    shelf_grid: Tensor  # int16 [B, R, C]: 0 nothing, k + 1 shelf k
    request_queue: Tensor  # int64 [B, Q]: different ids in 0 .. M - 1
