"""The boards of PaxMen: a hub, and one arm (a straight corridor and the room at its end) per agent.

Source: the layout tables of the `paxmen` package 0.1.0. Rows grow to the south, columns to the east.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from torch_mars.envs.paxmen.task import MOVES, WINDOW

S, M, L = 4, 8, 12  # corridor lengths in cells
ROOM_CELLS = 15  # 5 x 3 (north, south) or 3 x 5 (east, west)
NUM_LAYOUTS = 4
HUB_SIZE = {4: 3, 5: 5, 6: 7}  # side of the hub in cells, by number of agents

# (side of the hub, offset of the corridor from the side's middle, corridor length), in the order of the rooms
ARMS = {
    4: (
        (("N", 0, L), ("S", 0, S), ("E", 0, M), ("W", 0, M)),
        (("N", 0, S), ("S", 0, L), ("E", 0, M), ("W", 0, M)),
        (("N", 0, M), ("S", 0, M), ("E", 0, L), ("W", 0, S)),
        (("N", 0, M), ("S", 0, M), ("E", 0, S), ("W", 0, L)),
    ),
    5: (
        (("N", -2, L), ("N", 2, S), ("S", 0, M), ("E", 0, M), ("W", 0, M)),
        (("S", -2, L), ("S", 2, S), ("N", 0, M), ("E", 0, M), ("W", 0, M)),
        (("E", -2, L), ("E", 2, S), ("N", 0, M), ("S", 0, M), ("W", 0, M)),
        (("W", -2, L), ("W", 2, S), ("N", 0, M), ("S", 0, M), ("E", 0, M)),
    ),
    6: (
        (("N", -2, L), ("N", 2, M), ("S", -2, L), ("S", 2, M), ("E", 0, S), ("W", 0, S)),
        (("E", -2, L), ("E", 2, M), ("W", -2, L), ("W", 2, M), ("N", 0, S), ("S", 0, S)),
        (("N", -2, L), ("N", 2, M), ("E", -2, L), ("E", 2, M), ("S", 0, S), ("W", 0, S)),
        (("S", -2, L), ("S", 2, M), ("W", -2, L), ("W", 2, M), ("N", 0, S), ("E", 0, S)),
    ),
}


@dataclass(frozen=True)
class Board:
    """The four layouts of one team size as tables. F floor cells are numbered in the order of the global state."""

    grid_size: int  # G
    num_cells: int  # F: floor cells, the same in every layout
    hub: np.ndarray  # int64 [h*h, 2]: positions of the hub's cells, row by row
    floor: np.ndarray  # int64 [4, F, 2]: position of every floor cell
    rooms: np.ndarray  # int64 [4, N, 15, 2]: positions of the rooms' cells
    cell_at: np.ndarray  # int64 [4, G*G]: number of the floor cell at row * G + col, F at a wall
    window: np.ndarray  # int64 [4, F, 25]: numbers of the cells seen from a floor cell, row by row
    reached: np.ndarray  # int64 [4, G, G, 5, 2]: position after an action at row, col; walls stop it


def _rectangle(top: int, left: int, height: int, width: int) -> list[tuple[int, int]]:
    return [(row, col) for row in range(top, top + height) for col in range(left, left + width)]


def _arm(side: str, offset: int, length: int, centre: int, half: int) -> tuple[list, list]:
    """Positions of an arm's corridor and of its room."""
    middle = centre + offset
    before, after = centre - half, centre + half + 1  # first cell of the hub, first beyond it
    if side == "N":
        return _rectangle(before - length, middle, length, 1), _rectangle(before - length - 5, middle - 1, 5, 3)
    if side == "S":
        return _rectangle(after, middle, length, 1), _rectangle(after + length, middle - 1, 5, 3)
    if side == "E":
        return _rectangle(middle, after, 1, length), _rectangle(middle - 1, after + length, 3, 5)
    return _rectangle(middle, before - length, 1, length), _rectangle(middle - 1, before - length - 5, 3, 5)


@cache
def board(num_agents: int) -> Board:
    """The boards for a team of 4, 5 or 6."""
    hub_size = HUB_SIZE[num_agents]
    grid_size = hub_size + 2 * L + 2 * (WINDOW + 2)
    centre, half = grid_size // 2, hub_size // 2
    hub = _rectangle(centre - half, centre - half, hub_size, hub_size)

    floor, rooms = [], []
    for arms in ARMS[num_agents]:
        cells, layout_rooms = list(hub), []
        for side, offset, length in arms:
            corridor, room = _arm(side, offset, length, centre, half)
            cells += corridor + room
            layout_rooms.append(room)
        floor.append(cells)
        rooms.append(layout_rooms)
    floor = np.array(floor)
    num_cells = floor.shape[1]

    cell_at = np.full((NUM_LAYOUTS, grid_size, grid_size), num_cells)
    offsets = np.array(_rectangle(-(WINDOW // 2), -(WINDOW // 2), WINDOW, WINDOW))
    window = np.empty((NUM_LAYOUTS, num_cells, WINDOW * WINDOW), dtype=np.int64)
    for layout in range(NUM_LAYOUTS):
        cell_at[layout, floor[layout, :, 0], floor[layout, :, 1]] = np.arange(num_cells)
        seen = floor[layout, :, None] + offsets
        window[layout] = cell_at[layout, seen[..., 0], seen[..., 1]]
    flat_cell_at = cell_at.reshape(NUM_LAYOUTS, -1)
    return Board(grid_size, num_cells, np.array(hub), floor, np.array(rooms), flat_cell_at, window, _reached(cell_at))


def _reached(cell_at: np.ndarray) -> np.ndarray:
    """`Board.reached`, of the numbers of the cells [4, G, G]."""
    place = np.moveaxis(np.indices(cell_at.shape[1:]), 0, -1)[:, :, None]  # [G, G, 1, 2]
    target = (place + MOVES).clip(0, len(place) - 1)  # nobody stands at the grid's edge
    is_wall = cell_at[:, target[..., 0], target[..., 1]] == cell_at.max()
    return np.where(is_wall[..., None], place, target)
