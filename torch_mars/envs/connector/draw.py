"""Pictures of Connector: wires in the colours of their agents, heads, targets, who is connected and who is blocked."""

import numpy as np

from torch_mars.envs.canvas import (
    GRID,
    INK,
    PALE,
    PAPER,
    ROWS_DOWN,
    WALL,
    WHITE,
    Canvas,
    colour_of,
    mixed,
    summary,
)
from torch_mars.envs.connector.task import BLOCKERS, TARGET, TARGETS, TRAIL, WINDOW

SIZE, HEADER = 512, 28  # pixels: side of the board at most, of the text above it
ROUNDS = (1.0, 0.62, 1.35)  # how bright colours are that come again after the sixth agent


def draw(state, index: int, mask) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a ConnectorState; mask: bool [N, 5], what its agents may do."""
    codes = state.grid[index].tolist()
    G = len(codes)
    unit = SIZE // G
    canvas = Canvas(max(unit * G, 400), unit * G + HEADER, PAPER)
    grid = canvas.world(((canvas.width - unit * G) / 2, HEADER), unit, ROWS_DOWN)
    grid.box((0, 0), (G, G), WHITE)
    for row in range(G):
        for column in range(G):
            if codes[row][column] > 0 and codes[row][column] % 3 == TRAIL:
                grid.cell((row, column), mixed(_colour(codes[row][column] // 3), WHITE, 0.35))
    grid.grid((0, 0), (G, G), 1, GRID, 0.6)
    heads, targets = state.agent_pos[index].tolist(), state.target_pos[index].tolist()
    can_move = mask[:, 1:].any(1).tolist()
    for agent, (head, target) in enumerate(zip(heads, targets)):
        colour, at = _colour(agent), (head[0] + 0.5, head[1] + 0.5)
        if head == target:
            grid.cell(head, mixed(colour, WHITE, 0.35))
            grid.disc(at, 0.44, colour, INK, 2.5)
        else:
            grid.disc((target[0] + 0.5, target[1] + 0.5), 0.38, WHITE, colour, max(2, unit / 10))
            if unit >= 24:
                grid.text((target[0] + 0.5, target[1] + 0.5), str(agent), colour, 0.32 * unit, "mm")
            grid.disc(at, 0.38, colour)
        grid.text(at, str(agent), WHITE, 0.4 * unit, "mm", halo=mixed(colour, INK, 0.7))
        if head != target and not can_move[agent]:
            grid.cross((head[0] + 0.14, head[1] + 0.86), 0.1, INK, 1.5)
    connected = sum(head == target for head, target in zip(heads, targets))
    canvas.header(summary(state, index, f"connected {connected} of {len(heads)}"), HEADER, PAPER, INK)
    return canvas.finished()


def draw_windows(obs, agent: int) -> np.ndarray:
    """uint8 [174, 348, 3]: what one agent sees of heads and trails, and of targets, side by side."""
    unit, values = 34, obs.tolist()
    side = unit * WINDOW
    canvas = Canvas(2 * side + 8, side + 4, PAPER)
    for place, (first, ahead) in enumerate(((BLOCKERS, "blockers"), (TARGETS, "targets"))):
        grid = canvas.world((2 + place * (side + 4), 2), unit, ROWS_DOWN)
        for cell, (value, *both) in enumerate(zip(values[first:][: WINDOW**2], values[BLOCKERS:], values[TARGETS:])):
            row, column = divmod(cell, WINDOW)
            at, is_outside = (row + 0.5, column + 0.5), both == [1, 1] and cell != WINDOW**2 // 2
            grid.cell((row, column), WALL if is_outside else WHITE, GRID, 0.6)
            if is_outside or not value:
                continue
            if ahead == "targets":
                grid.disc(at, 0.36, WHITE, colour_of(agent) if value > 0 else PALE, 4)
            elif value > 0:
                grid.disc(at, 0.36, colour_of(agent) if cell == WINDOW**2 // 2 else PALE)
            else:
                grid.cell((row, column), mixed(PALE, WHITE, 0.4), GRID, 0.6)
    return canvas.finished()


def draw_text(state, index: int) -> str:
    """Environment `index` of a ConnectorState as text: heads are numbers, targets letters (A is agent 0's), trails ":",
    connected heads "*".

    Beyond ten agents a cell takes three characters, and a target is an "x" in front of its agent's number.
    """
    codes, heads = state.grid[index].tolist(), state.agent_pos[index].tolist()
    is_connected = [head == target for head, target in zip(heads, state.target_pos[index].tolist())]
    is_small = len(heads) <= 10

    def sign(code: int) -> str:
        agent, kind = divmod(code - 1, 3)
        if code == 0:
            return "."
        if kind + 1 == TRAIL:
            return ":"
        if kind + 1 == TARGET:
            return chr(ord("A") + agent) if is_small else f"x{agent}"
        return "*" if is_connected[agent] else str(agent)

    width = 1 if is_small else 3
    rows = (" ".join(f"{sign(code):>{width}}" for code in row) for row in codes)
    connected = f"connected {sum(is_connected)} of {len(heads)}"
    return "\n".join([summary(state, index, connected), *rows])


def _colour(agent: int):
    """Six colours; darker and lighter ones for the next two rounds of six, and so on."""
    brightness = ROUNDS[agent // 6 % len(ROUNDS)]
    base = colour_of(agent)
    return mixed(base, INK, brightness) if brightness <= 1 else mixed(base, WHITE, 2 - brightness)
