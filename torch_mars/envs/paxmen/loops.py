"""The rules of PaxMen once more, as loops: the functions of `env.py` by the same names, in the same order.

A batch on CPU takes them: bit for bit what `PaxMen.transition` and `PaxMen.perceive` do as tensor operations, which
other devices and torch.compile take, without their dozens of small tensors. So does one environment by itself
(`PaxMenLoops`, on which `parallel_env("paxmen_*")` runs), random numbers included.

Places come from `load_state`, too, and numba checks no index: what is outside the board counts as a wall, and
`perceive` tells of agents on walls. It raises no error itself: functions that may raise count references, which takes
most of their time.

Axes: B environments, N agents, D = 3N dots, F floor cells, G x G grid.
"""

from typing import NamedTuple

import numpy as np
import torch

from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.paxmen.layouts import NUM_LAYOUTS, ROOM_CELLS, Board
from torch_mars.envs.paxmen.task import (
    AGENT,
    CENTRE,
    DOT,
    DOT_REWARD,
    DOTS_PER_ROOM,
    EAT,
    FLOOR,
    IDLE_PENALTY,
    MOVES,
    OFF_THE_FLOOR,
    WALL,
    WINDOW,
)
from torch_mars.envs.rng_loops import next_integer, next_permutation

BLOCK = 256  # environments: 80 us of work and more
_MOVES = np.array(MOVES)
# single precision throughout, as in the tensors: a plain Python number would make it double
_WALL, _FLOOR, _DOT, _AGENT = map(np.float32, (WALL, FLOOR, DOT, AGENT))
_DOT_REWARD, _IDLE_PENALTY, _ZERO, _ONE = map(np.float32, (DOT_REWARD, IDLE_PENALTY, 0, 1))


class Tables(NamedTuple):
    """What the loops read of a `layouts.Board`: small, to stay in the cache, and unsigned, which needs no wrapping."""

    cell_at: np.ndarray  # uint16 [4, G, G]: number of the floor cell, F at a wall
    window: np.ndarray  # uint16 [4, F, 25]


def tables(board: Board) -> Tables:
    """The board for the loops."""
    cell_at = board.cell_at.reshape(NUM_LAYOUTS, board.grid_size, board.grid_size)
    return Tables(cell_at.astype(np.uint16), board.window.astype(np.uint16))


# ---- reset ----


@compiled
def initial_state(hub, rooms, rng, layout, agent_pos, dot_pos, dot_active):
    """A layout, the agents on distinct cells of the hub, three dots in every room.

    Args:
        hub, rooms: of the `layouts.Board`.
        rng, layout, agent_pos, dot_pos, dot_active: State fields of one environment, written to; rng is moved.
    """
    layout[()] = next_integer(rng, NUM_LAYOUTS)
    places = next_permutation(rng, len(hub))
    for agent in range(len(agent_pos)):
        agent_pos[agent, 0], agent_pos[agent, 1] = hub[places[agent], 0], hub[places[agent], 1]
    draw_dots(rooms[layout[()]], rng, dot_pos, dot_active)


@compiled
def draw_dots(rooms, rng, dot_pos, dot_active):
    """Three distinct cells in every room; rooms: int64 [N, 15, 2], those of the layout."""
    for room in range(len(rooms)):
        order = next_permutation(rng, ROOM_CELLS)
        for i in range(DOTS_PER_ROOM):
            dot, cell = DOTS_PER_ROOM * room + i, order[i]
            dot_pos[dot, 0], dot_pos[dot, 1] = rooms[room, cell, 0], rooms[room, cell, 1]
            dot_active[dot] = True


# ---- step ----


@compiled
def advance(first, last, tables, layout, actions, dot_pos, agent_pos, dot_active, gain, counts):
    """One step of environments `first` to `last - 1`.

    A cleared board has no active dot afterwards: new ones are the caller's to draw.

    Args:
        layout, actions, dot_pos: int64 [B], [B, N], [B, D, 2].
        agent_pos, dot_active: int64 [B, N, 2], bool [B, D], change.
        gain: float32 [B, N], the result: each agent's part of the team's reward.
        counts: int64 [3, B], the result: dots eaten, boards cleared (0 or 1), rooms that were full and lost a dot.
    """
    num_dots = dot_active.shape[1]
    eaters = np.empty(num_dots, np.int64)
    for b in range(first, last):
        _move(tables, layout, actions, agent_pos, b)
        _eat(actions, dot_pos, agent_pos, dot_active, gain, eaters, b)
        rooms_eaten_in = _newly_eaten_in(dot_active, eaters, b)
        dots_eaten = dots_left = 0
        for dot in range(num_dots):
            if eaters[dot] > 0:
                dots_eaten += 1
                dot_active[b, dot] = False
            dots_left += dot_active[b, dot]
        counts[0, b], counts[1, b], counts[2, b] = dots_eaten, dots_left == 0, rooms_eaten_in


@compiled
def _move(tables, layout, actions, agent_pos, b):
    """Walls stop an agent; agents and dots never do."""
    wall = tables.window.shape[1]
    for agent in range(actions.shape[1]):
        move = actions[b, agent]
        row, col = agent_pos[b, agent, 0] + _MOVES[move, 0], agent_pos[b, agent, 1] + _MOVES[move, 1]
        if _cell(tables, layout[b], row, col) != wall:
            agent_pos[b, agent, 0], agent_pos[b, agent, 1] = row, col


@compiled
def _eat(actions, dot_pos, agent_pos, dot_active, gain, eaters, b):
    """Who eats: `gain`; how many agents eat each dot: eaters [D]."""
    for dot in range(len(eaters)):
        eaters[dot] = 0
    for agent in range(actions.shape[1]):
        if actions[b, agent] == EAT:
            row, col = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
            for dot in range(len(eaters)):
                if dot_pos[b, dot, 0] == row and dot_pos[b, dot, 1] == col and dot_active[b, dot]:
                    eaters[dot] += 1
    for agent in range(actions.shape[1]):
        share = _ZERO
        if actions[b, agent] == EAT:
            row, col = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
            for dot in range(len(eaters)):
                if eaters[dot] > 0 and dot_pos[b, dot, 0] == row and dot_pos[b, dot, 1] == col:
                    share += _ONE / np.float32(eaters[dot])
        gain[b, agent] = share * _DOT_REWARD if share > _ZERO else _IDLE_PENALTY


@compiled
def _newly_eaten_in(was_active, eaters, b):
    """How many rooms were full and lose a dot."""
    count = 0
    for first in range(0, len(eaters), DOTS_PER_ROOM):
        was_full, loses_one = True, False
        for dot in range(first, first + DOTS_PER_ROOM):
            was_full &= was_active[b, dot]
            loses_one |= eaters[dot] > 0
        count += was_full and loses_one
    return count


# ---- what is seen ----


@compiled
def perceive(first, last, tables, layout, agent_pos, dot_pos, dot_active, obs, state):
    """What environments `first` to `last - 1` show.

    Args:
        layout, agent_pos, dot_pos, dot_active: of the State.
        obs, state: float32 [B, N, 25], [B, F], the result.

    Returns:
        whether all agents stand on floor cells; if not, the result is incomplete.
    """
    num_agents, num_cells = agent_pos.shape[1], state.shape[1]
    cells = np.empty(num_cells + 1, np.float32)  # the last one stands for every wall
    cell_of = np.empty(num_agents, np.int64)
    beneath = np.empty(num_agents, np.float32)  # what an agent stands on
    for b in range(first, last):
        for cell in range(num_cells):
            cells[cell] = _FLOOR
        for dot in range(dot_active.shape[1]):
            if dot_active[b, dot]:
                cells[_cell(tables, layout[b], dot_pos[b, dot, 0], dot_pos[b, dot, 1])] = _DOT
        cells[num_cells] = _WALL

        for agent in range(num_agents):
            cell = _cell(tables, layout[b], agent_pos[b, agent, 0], agent_pos[b, agent, 1])
            if cell == num_cells:
                return False
            cell_of[agent], beneath[agent] = cell, cells[cell]
        for agent in range(num_agents):
            cells[cell_of[agent]] = _AGENT
        for cell in range(num_cells):
            state[b, cell] = cells[cell]

        for agent in range(num_agents):
            for i in range(WINDOW * WINDOW):
                obs[b, agent, i] = cells[tables.window[layout[b], cell_of[agent], i]]
            is_alone = True
            for other in range(num_agents):
                is_alone &= other == agent or cell_of[other] != cell_of[agent]
            if is_alone:  # nobody sees itself
                obs[b, agent, CENTRE] = beneath[agent]
    return True


@compiled
def _cell(tables, layout, row, col):
    """The number of the floor cell at a place, F at a wall and outside the board."""
    layouts, rows, cols = tables.cell_at.shape
    if 0 <= layout < layouts and 0 <= row < rows and 0 <= col < cols:
        return np.int64(tables.cell_at[layout, row, col])
    return tables.window.shape[1]


# ---- one environment ----


class PaxMenLoops(LoopEngine):
    """The loops above on one environment, as a batch of one where they run over a batch."""

    def __init__(self, rules):
        super().__init__(rules)
        self._tables = tables(rules.board)

    def start(self) -> None:
        board, f = self.rules.board, self.fields
        initial_state(board.hub, board.rooms, f["rng"], f["layout"], f["agent_pos"], f["dot_pos"], f["dot_active"])

    def transition(self, actions: np.ndarray):
        f = self.fields
        layout, dot_pos, agent_pos, dot_active = self.of_batch("layout", "dot_pos", "agent_pos", "dot_active")
        gain, counts = np.empty((1, len(actions)), np.float32), np.empty((3, 1), np.int64)
        advance(0, 1, self._tables, layout, actions[None], dot_pos, agent_pos, dot_active, gain, counts)
        dots_eaten, boards_cleared, rooms_eaten_in = counts[:, 0].tolist()
        if boards_cleared:
            draw_dots(self.rules.board.rooms[f["layout"]], f["rng"], f["dot_pos"], f["dot_active"])
        metrics = {"dots_eaten": dots_eaten, "boards_cleared": boards_cleared, "rooms_eaten_in": rooms_eaten_in}
        reward = torch.from_numpy(gain).sum(1).item()  # in PyTorch's order, as for a batch
        return np.full(self.rules.num_agents, reward, np.float32), False, metrics

    def perceive(self):
        board = self.rules.board
        obs = np.empty((1, self.rules.num_agents, WINDOW * WINDOW), np.float32)
        state = np.empty((1, board.num_cells), np.float32)
        seen = self.of_batch("layout", "agent_pos", "dot_pos", "dot_active")
        if not perceive(0, 1, self._tables, *seen, obs, state):
            raise ValueError(OFF_THE_FLOOR)
        return obs[0], state[0], None
