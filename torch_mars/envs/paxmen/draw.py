"""Pictures of PaxMen: walls dark, floor light, rooms tinted by number, dots, agents, and what each agent sees."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_mars.envs.paxmen.layouts import Board
from torch_mars.envs.paxmen.task import WINDOW

CELL = 12  # pixels of a cell in the finished picture
SCALE = 3  # drawn this much larger, then reduced: smooth edges
MARGIN = 26  # pixels above the board for the text
WALL, FLOOR, DOT, TEXT = (38, 41, 54), (238, 236, 230), (64, 60, 56), (240, 238, 232)
OTHER = (130, 128, 124)  # an agent in another's window
# Okabe and Ito's colours, which colour-blind people can tell apart; agent i and room i share one
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def _tint(colour: tuple, strength: float) -> tuple:
    return tuple(round(strength * c + (1 - strength) * f) for c, f in zip(colour, FLOOR))


def draw(board: Board, state, index: int, show_windows: bool) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a PaxMenState."""
    size = CELL * SCALE
    layout = int(state.layout[index])
    width = board.grid_size * size
    image = Image.new("RGB", (width, width + MARGIN * SCALE), WALL)
    pen = ImageDraw.Draw(image, "RGBA")

    def corner(position):
        row, col = (int(x) for x in position)
        return col * size, row * size + MARGIN * SCALE

    def cell(position, colour):
        x, y = corner(position)
        pen.rectangle((x, y, x + size - 1, y + size - 1), fill=colour, outline=_tint(colour, 0.92))

    def disc(position, radius, colour, outline=None):
        x, y = (c + size / 2 for c in corner(position))
        box = (x - radius * size, y - radius * size, x + radius * size, y + radius * size)
        pen.ellipse(box, fill=colour, outline=outline, width=SCALE)

    for position in board.floor[layout]:
        cell(position, FLOOR)
    for room, colour in zip(board.rooms[layout], COLOURS):
        for position in room:
            cell(position, _tint(colour, 0.22))
    for position, active in zip(state.dot_pos[index].tolist(), state.dot_active[index].tolist()):
        if active:
            disc(position, 0.2, DOT)

    agents = state.agent_pos[index].tolist()
    if show_windows:
        reach = WINDOW // 2
        for position, colour in zip(agents, COLOURS):
            x, y = corner((position[0] - reach, position[1] - reach))
            side = WINDOW * size
            pen.rectangle((x, y, x + side, y + side), fill=(*colour, 26), outline=(*colour, 150), width=SCALE)
    for i, (position, colour) in enumerate(zip(agents, COLOURS)):
        together = [k for k, other in enumerate(agents) if other == position]
        radius = 0.42 - 0.07 * together.index(i)  # rings when agents share a cell
        disc(position, radius, colour, outline=(255, 255, 255))

    pen.text((8 * SCALE, 6 * SCALE), _summary(state, index), fill=TEXT, font=ImageFont.load_default(13 * SCALE))
    return np.asarray(image.resize((image.width // SCALE, image.height // SCALE), Image.LANCZOS))


def draw_window(obs, agent: int) -> np.ndarray:
    """uint8 [120, 120, 3]: the 5 x 5 window of one agent; others are grey, as the numbers do not tell who they are."""
    size = 2 * CELL * SCALE
    image = Image.new("RGB", (WINDOW * size, WINDOW * size), WALL)
    pen = ImageDraw.Draw(image)

    def disc(row, col, radius, colour, **outline):
        x, y = (col + 0.5) * size, (row + 0.5) * size
        pen.ellipse((x - radius * size, y - radius * size, x + radius * size, y + radius * size), colour, **outline)

    centre = WINDOW // 2
    for place, value in enumerate(obs.tolist()):
        row, col = divmod(place, WINDOW)
        if value >= 0:  # no wall
            box = (col * size, row * size, (col + 1) * size - 1, (row + 1) * size - 1)
            pen.rectangle(box, fill=FLOOR, outline=_tint(WALL, 0.12))
        if (row, col) == (centre, centre):
            disc(row, col, 0.42, COLOURS[agent], outline=(255, 255, 255), width=SCALE)
        if value == 1:
            disc(row, col, 0.2, DOT)
        elif value > 0:
            disc(row, col, 0.3, OTHER, outline=(255, 255, 255), width=SCALE)
    return np.asarray(image.resize((2 * CELL * WINDOW, 2 * CELL * WINDOW), Image.LANCZOS))


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
    total, dots, boards = (float(x) for x in state.totals[index, :3])
    return f"step {int(state.step[index])}   return {total:+.2f}   dots {dots:.0f}   boards {boards:.0f}"
