"""Pictures of PaxMen: walls dark, floor light, rooms tinted by number, dots, agents, and what each agent sees."""

import numpy as np

from torch_mars.envs.canvas import COLOURS, FLOOR, PAPER, ROWS_DOWN, WALL, WHITE, Canvas, colour_of, mixed, summary
from torch_mars.envs.paxmen.layouts import Board
from torch_mars.envs.paxmen.task import WINDOW

CELL = 12  # pixels of a cell
HEADER = 26  # pixels above the board for the text
DOT, OTHER = (64, 60, 56), (130, 128, 124)  # OTHER: an agent in another's window


def draw(board: Board, state, index: int, show_windows: bool) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a PaxMenState; agent i and room i share a colour."""
    layout = int(state.layout[index])
    side = board.grid_size * CELL
    canvas = Canvas(side, side + HEADER, WALL)
    grid = canvas.world((0, HEADER), CELL, ROWS_DOWN)
    for position in board.floor[layout]:
        grid.cell(position, FLOOR)
    for room, colour in zip(board.rooms[layout], COLOURS):
        for position in room:
            grid.cell(position, mixed(colour, FLOOR, 0.22))
    for dot in _middle(state.dot_pos[index][state.dot_active[index]].tolist()):
        grid.disc(dot, 0.2, DOT)

    agents = state.agent_pos[index].tolist()
    if show_windows:
        for (row, col), colour in zip(_middle(agents), COLOURS):
            reach = WINDOW / 2
            corners = (row - reach, col - reach), (row + reach, col + reach)
            grid.box(*corners, fill=(*colour, 26), rim=(*colour, 150))
    for i, (position, at) in enumerate(zip(agents, _middle(agents))):
        together = [k for k, other in enumerate(agents) if other == position]
        grid.disc(at, 0.42 - 0.07 * together.index(i), colour_of(i), WHITE)  # rings when agents share a cell
    canvas.header(_summary(state, index), HEADER, PAPER, size=13)
    return canvas.finished()


def draw_window(obs, agent: int) -> np.ndarray:
    """uint8 [120, 120, 3]: the 5 x 5 window of one agent; others are grey, as the numbers do not tell who they are."""
    canvas = Canvas(2 * CELL * WINDOW, 2 * CELL * WINDOW, WALL)
    grid = canvas.world((0, 0), 2 * CELL, ROWS_DOWN)
    for place, value in enumerate(obs.tolist()):
        row, col = divmod(place, WINDOW)
        at = (row + 0.5, col + 0.5)
        if value >= 0:  # no wall
            grid.cell((row, col), FLOOR, mixed(WALL, FLOOR, 0.12), width=0.3)
        if row == col == WINDOW // 2:
            grid.disc(at, 0.42, colour_of(agent), WHITE)
        if value == 1:
            grid.disc(at, 0.2, DOT)
        elif value > 0:
            grid.disc(at, 0.3, OTHER, WHITE)
    return canvas.finished()


def _middle(cells: list) -> list[tuple[float, float]]:
    return [(row + 0.5, col + 0.5) for row, col in cells]


def draw_text(board: Board, state, index: int) -> str:
    """Environment `index` of a PaxMenState as text: floor ".", dots "o", agents by number, walls blank."""
    layout = int(state.layout[index])
    cells = np.full((board.grid_size, board.grid_size), " ")
    floor = board.floor[layout]
    cells[tuple(floor.T)] = "."
    cells[tuple(state.dot_pos[index][state.dot_active[index]].T.tolist())] = "o"
    for agent, (row, col) in enumerate(state.agent_pos[index].tolist()):
        cells[row, col] = str(agent)
    top, left = floor.min(0)
    bottom, right = floor.max(0) + 1
    rows = ["".join(row).rstrip() for row in cells[top:bottom, left:right]]
    return "\n".join([_summary(state, index), *rows])


def _summary(state, index: int) -> str:
    dots, boards = state.totals[index, 1:3].tolist()
    return summary(state, index, f"dots {dots:.0f}", f"boards {boards:.0f}")
