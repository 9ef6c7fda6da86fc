"""Floor plans of RWARE: highways, storage cells, goals, and what lies around every cell.

Source: the layout rule of `RobotWarehouse` in the `jumanji` package 1.1.2.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from torch_mars.envs.rware.task import AHEAD, NO_SHELF, Options


@dataclass(frozen=True)
class Layout:
    """One floor plan as tables. Its L = R * C cells are numbered row by row."""

    rows: int  # R
    columns: int  # C
    num_shelves: int  # M
    is_highway: np.ndarray  # bool [L]
    goals: np.ndarray  # int64 [2]: cells, in the order in which they pay
    shelf_grid: np.ndarray  # int16 [L]: one shelf on every storage cell, numbered row by row
    front: np.ndarray  # int64 [4, L]: the next cell along each heading; the same one at the edge
    window: np.ndarray  # int64 [L, 9]: the cells around, row by row from the top left; L where there is none


@cache
def layout(options: Options) -> Layout:
    """The floor plan that the options describe."""
    (R, C), height = options.grid_size, options.column_height
    row, column = np.divmod(np.arange(R * C), C)
    before_goals = (row > R - (height + 3)) & ((column == C // 2 - 1) | (column == C // 2))
    is_highway = (column % 3 == 0) | (row % (height + 1) == 0) | (row == R - 1) | before_goals
    shelf_grid = np.full(R * C, NO_SHELF, np.int16)
    num_shelves = int((~is_highway).sum())
    shelf_grid[~is_highway] = np.arange(1, num_shelves + 1)

    ahead = np.array(AHEAD)
    front = np.clip(row + ahead[:, :1], 0, R - 1) * C + np.clip(column + ahead[:, 1:], 0, C - 1)
    down, right = (way.ravel() for way in np.mgrid[-1:2, -1:2])
    around_row, around_column = row[:, None] + down, column[:, None] + right
    is_inside = (0 <= around_row) & (around_row < R) & (0 <= around_column) & (around_column < C)
    window = np.where(is_inside, around_row * C + around_column, R * C)
    goals = (R - 1) * C + np.array([C // 2 - 1, C // 2])
    return Layout(R, C, num_shelves, is_highway, goals, shelf_grid, front, window)
