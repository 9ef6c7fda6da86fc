"""Pictures of RWARE: the floor from above, shelves, those that are asked for, goals, robots with their headings."""

import numpy as np

from torch_mars.envs.canvas import (
    ALARM,
    FLOOR,
    INK,
    ORANGE,
    PAPER,
    ROWS_DOWN,
    SKY,
    WALL,
    WHITE,
    Canvas,
    colour_of,
    mixed,
    summary,
)
from torch_mars.envs.rware.layouts import Layout
from torch_mars.envs.rware.task import (
    AHEAD,
    CARRYING,
    HEADING,
    HIGHWAY,
    NO_SHELF,
    OTHER,
    OTHERS,
    OWN_CELL,
    SHELF,
    SHELVES,
    WINDOW,
)

HEIGHT, NARROWEST = 560, 400  # pixels: of the floor at most, of the picture at least
HEADER = 28
STORAGE = mixed(INK, FLOOR, 0.16)
STANDING, REQUESTED, GOAL = (138, 128, 116), ORANGE, SKY
ROBOT, TIP = 0.36, 0.6  # radius of a robot, how far its tip reaches ahead, in cells


def draw(layout: Layout, max_steps: int, state, index: int) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a WarehouseState."""
    unit = max(8, min(40, HEIGHT // layout.rows))
    width, height = max(NARROWEST, unit * (layout.columns + 1)), unit * (layout.rows + 1)
    canvas = Canvas(width, height + HEADER)
    grid = canvas.world(((width - unit * layout.columns) / 2, HEADER + unit / 2), unit, ROWS_DOWN)
    shelves, requests = state.shelf_grid[index].cpu().numpy(), _requested(state, index)
    positions, headings, carriers = _robots(state, index)
    carried = {position for position, carries in zip(positions, carriers) if carries}
    for cell, is_highway in enumerate(layout.is_highway):
        row, column = position = divmod(cell, layout.columns)
        grid.cell(position, FLOOR if is_highway else STORAGE, mixed(INK, FLOOR, 0.22), width=0.3)
        if cell in layout.goals:
            _goal(grid, position)
        if shelves[position] != NO_SHELF and position not in carried:
            _shelf(grid, (row + 0.5, column + 0.5), 0.38, shelves[position] in requests)
    for agent, (position, heading, carries) in enumerate(zip(positions, headings, carriers)):
        has_met = positions.count(position) > 1
        is_requested = shelves[position] in requests if carries else None
        _robot(grid, position, agent, heading, is_requested, ALARM if has_met else colour_of(agent))
    canvas.header(_summary(max_steps, state, index), HEADER, PAPER, INK)
    return canvas.finished()


def draw_window(obs, agent: int) -> np.ndarray:
    """uint8 [180, 180, 3]: the 3 x 3 cells around one robot. Others are grey: the numbers do not tell who they are."""
    unit, seen = 60, obs.tolist()
    canvas = Canvas(3 * unit, 3 * unit, WALL)
    grid = canvas.world((0, 0), unit, ROWS_DOWN)
    own_ground = FLOOR if seen[HIGHWAY] else STORAGE  # of the other cells nothing is known
    for place in range(WINDOW):
        row, column = position = divmod(place, 3)
        is_own = place == OWN_CELL
        grid.cell(position, own_ground if is_own else PAPER, mixed(INK, FLOOR, 0.22))
        is_shelf, is_requested = seen[SHELVES + SHELF * place :][:SHELF]
        is_carried = is_own and seen[CARRYING]
        if is_shelf and not is_carried:
            _shelf(grid, (row + 0.5, column + 0.5), 0.38, is_requested)
        if is_own:
            heading = int(np.argmax(seen[HEADING:][: len(AHEAD)]))
            _robot(grid, position, agent, heading, bool(is_requested) if is_carried else None, colour_of(agent))
        else:
            is_there, *heading = seen[OTHERS + OTHER * (place - (place > OWN_CELL)) :][:OTHER]
            if is_there:
                _robot(grid, position, None, int(np.argmax(heading)), None, (130, 128, 124))
    return canvas.finished()


def draw_text(layout: Layout, max_steps: int, state, index: int) -> str:
    """Environment `index` of a WarehouseState as text, three characters a cell: what is there, then who.

    Highway ".", storage "_", goals "G"; shelves "s", requested ones "r", those that are carried "S" and "R"; a robot is
    its number and its heading.
    """
    shelves, requests = state.shelf_grid[index].cpu().numpy(), _requested(state, index)
    positions, headings, carriers = _robots(state, index)
    cells = [". " if is_highway else "_ " for is_highway in layout.is_highway]
    for goal in layout.goals:
        cells[goal] = "G "
    for cell, shelf in enumerate(shelves.ravel()):
        if shelf != NO_SHELF:
            cells[cell] = "r " if shelf in requests else "s "
    for agent, ((row, column), heading, carries) in enumerate(zip(positions, headings, carriers)):
        cell = row * layout.columns + column
        ground = cells[cell][0].upper() if carries and shelves[row, column] != NO_SHELF else cells[cell][0]
        cells[cell] = f"{ground}{agent}{'^>v<'[heading]}"
    rows = (cells[row * layout.columns :][: layout.columns] for row in range(layout.rows))
    return "\n".join(
        [_summary(max_steps, state, index), *("".join(f"{cell:3}" for cell in row).rstrip() for row in rows)]
    )


def _robots(state, index: int) -> tuple[list[tuple[int, int]], list[int], list[bool]]:
    """Positions, headings, and who carries a shelf."""
    positions = [(row, column) for row, column in state.agent_pos[index].tolist()]
    return positions, state.agent_dir[index].tolist(), state.is_carrying[index].tolist()


def _requested(state, index: int) -> set[int]:
    """The numbers in shelf_grid that are asked for."""
    return {shelf + 1 for shelf in state.request_queue[index].tolist()}


def _goal(grid: Canvas, position) -> None:
    grid.cell(position, mixed(GOAL, FLOOR, 0.75), GOAL)
    row, column = position
    grid.text((row + 0.5, column + 0.5), "G", WHITE, 0.6 * grid.unit, "mm")


def _shelf(grid: Canvas, at, half: float, is_requested: bool) -> None:
    low, high = (at[0] - half, at[1] - half), (at[0] + half, at[1] + half)
    grid.box(low, high, REQUESTED if is_requested else STANDING, mixed(INK, STANDING, 0.5), width=0.8)


def _robot(grid: Canvas, position, agent: int | None, heading: int, load: bool | None, colour) -> None:
    """`load`: whether the shelf that it carries is requested; None without one."""
    at, ahead = np.array(position) + 0.5, np.array(AHEAD[heading])
    if load is not None:
        _shelf(grid, at, 0.48, load)
    side = 0.8 * ROBOT * ahead[::-1]
    grid.polygon([at + TIP * ahead, at + side + 0.2 * ahead, at - side + 0.2 * ahead], colour, WHITE, 0.8)
    grid.disc(at, ROBOT, colour, WHITE, 0.8)
    grid.polygon([at + (TIP - 0.07) * ahead, at + 0.9 * side, at - 0.9 * side], colour)
    if agent is not None:
        grid.text(at, str(agent), WHITE, 0.55 * grid.unit, "mm")


def _summary(max_steps: int, state, index: int) -> str:
    deliveries, collisions = state.totals[index, 1:3].tolist()
    more = [f"deliveries {deliveries:.0f}"]
    if collisions:
        more.append("collision")
    elif int(state.step[index]) >= max_steps:
        more.append("time is up")
    return summary(state, index, *more)
