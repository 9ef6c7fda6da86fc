"""The rules of PaxMen once more, as a rule book: one environment, plain loops, compiled with numba.

Equal to `env.py` step for step, random numbers included. `parallel_env("paxmen_*")` runs on it, and tests hold the two
against each other. Boards come from `layouts.py`; observation, actions and rewards are described in `env.py`.

The compiled loops are cached on disk. numba renews them when this file changes, but not for a changed constant of
`env.py` or function of `rng_scalar.py`: touch this file then.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from torch_mars.envs.engine import ScalarEngine
from torch_mars.envs.paxmen.env import AGENT, CENTRE, DOT, DOT_REWARD, EAT, FLOOR, IDLE_PENALTY, MOVES, WALL
from torch_mars.envs.paxmen.layouts import DOTS_PER_ROOM, NUM_LAYOUTS, ROOM_CELLS, WINDOW
from torch_mars.envs.rng_scalar import next_integer, next_permutation

_MOVES = np.array(MOVES)


class Tables(NamedTuple):
    """The boards of one team size; see `layouts.Board`. F floor cells, G x G grid."""

    hub: np.ndarray  # int64 [h*h, 2]
    rooms: np.ndarray  # int64 [4, N, 15, 2]
    cell_at: np.ndarray  # int64 [4, G, G]: number of the floor cell, F at a wall
    window: np.ndarray  # int64 [4, F, 25]


class Situation(NamedTuple):
    """The State fields that the rules move, in place; N agents, D = 3N dots."""

    rng: np.ndarray  # int64 []
    layout: np.ndarray  # int64 []
    agent_pos: np.ndarray  # int64 [N, 2]
    dot_pos: np.ndarray  # int64 [D, 2]
    dot_active: np.ndarray  # bool [D]


@njit(cache=True)
def start(tables, situation):
    """A layout, the agents on distinct cells of the hub, three dots in every room."""
    situation.layout[()] = next_integer(situation.rng, NUM_LAYOUTS)
    places = next_permutation(situation.rng, len(tables.hub))
    for agent in range(len(situation.agent_pos)):
        situation.agent_pos[agent] = tables.hub[places[agent]]
    draw_dots(tables, situation)


@njit(cache=True)
def draw_dots(tables, situation):
    """Three distinct cells in every room."""
    rooms = tables.rooms[situation.layout[()]]
    for room in range(len(rooms)):
        order = next_permutation(situation.rng, ROOM_CELLS)
        for i in range(DOTS_PER_ROOM):
            situation.dot_pos[DOTS_PER_ROOM * room + i] = rooms[room, order[i]]
    situation.dot_active[:] = True


@njit(cache=True)
def step(tables, situation, actions):
    """One step in the order of the rules.

    Returns:
        the team's reward, dots eaten, boards cleared (0 or 1), rooms that were full and lost a dot.
    """
    move(tables, situation, actions)

    num_agents, num_dots = len(situation.agent_pos), len(situation.dot_pos)
    dot_of = np.empty(num_agents, np.int64)  # the dot that an agent eats, -1 for none
    eaters = np.zeros(num_dots, np.int64)
    for agent in range(num_agents):
        dot_of[agent] = dot_to_eat(situation, agent, actions[agent])
        if dot_of[agent] >= 0:
            eaters[dot_of[agent]] += 1

    reward = np.float32(0)
    for agent in range(num_agents):
        if dot_of[agent] >= 0:
            reward += np.float32(DOT_REWARD) / np.float32(eaters[dot_of[agent]])
        else:
            reward += np.float32(IDLE_PENALTY)

    dots_eaten = rooms_eaten_in = 0
    for first in range(0, num_dots, DOTS_PER_ROOM):
        room = slice(first, first + DOTS_PER_ROOM)
        was_full = situation.dot_active[room].all()
        eaten_here = (eaters[room] > 0).sum()
        dots_eaten += eaten_here
        rooms_eaten_in += was_full and eaten_here > 0
    situation.dot_active[eaters > 0] = False

    is_cleared = not situation.dot_active.any()
    if is_cleared:
        draw_dots(tables, situation)
    return reward, dots_eaten, int(is_cleared), rooms_eaten_in


@njit(cache=True)
def move(tables, situation, actions):
    """Walls stop an agent; agents and dots never do."""
    wall = tables.window.shape[1]
    for agent in range(len(actions)):
        row = situation.agent_pos[agent, 0] + _MOVES[actions[agent], 0]
        col = situation.agent_pos[agent, 1] + _MOVES[actions[agent], 1]
        if tables.cell_at[situation.layout[()], row, col] != wall:
            situation.agent_pos[agent, 0] = row
            situation.agent_pos[agent, 1] = col


@njit(cache=True)
def dot_to_eat(situation, agent, action):
    """The active dot under an agent that eats, -1 for none. No two active dots share a cell."""
    if action == EAT:
        row, col = situation.agent_pos[agent]
        for dot in range(len(situation.dot_pos)):
            row_of_dot, col_of_dot = situation.dot_pos[dot]
            if situation.dot_active[dot] and row_of_dot == row and col_of_dot == col:
                return dot
    return -1


@njit(cache=True)
def perceive(tables, situation):
    """obs [N, 25] and state [F]: both read the values of the floor cells."""
    num_agents, num_cells = len(situation.agent_pos), tables.window.shape[1]
    layout = situation.layout[()]
    cell_at = tables.cell_at[layout]

    cells = np.full(num_cells + 1, np.float32(FLOOR))  # the last one stands for every wall
    cells[num_cells] = np.float32(WALL)
    for dot in range(len(situation.dot_pos)):
        if situation.dot_active[dot]:
            cells[cell_at[situation.dot_pos[dot, 0], situation.dot_pos[dot, 1]]] = np.float32(DOT)

    cell_of = np.empty(num_agents, np.int64)
    beneath = np.empty(num_agents, np.float32)  # what an agent stands on
    for agent in range(num_agents):
        cell_of[agent] = cell_at[situation.agent_pos[agent, 0], situation.agent_pos[agent, 1]]
        beneath[agent] = cells[cell_of[agent]]
    for agent in range(num_agents):
        cells[cell_of[agent]] = np.float32(AGENT)

    obs = np.empty((num_agents, WINDOW * WINDOW), np.float32)
    for agent in range(num_agents):
        for i in range(WINDOW * WINDOW):
            obs[agent, i] = cells[tables.window[layout, cell_of[agent], i]]
        is_alone = (cell_of == cell_of[agent]).sum() == 1
        if is_alone:  # nobody sees itself
            obs[agent, CENTRE] = beneath[agent]
    return obs, cells[:num_cells].copy()


class ScalarPaxMen(ScalarEngine):
    """The functions above behind the engine interface."""

    def __init__(self, rules):
        super().__init__(rules)
        board = rules.board
        cell_at = board.cell_at.reshape(NUM_LAYOUTS, board.grid_size, board.grid_size)
        self._tables = Tables(board.hub, board.rooms, cell_at, board.window)
        self._situation = Situation(*(self.fields[name] for name in Situation._fields))

    def start(self) -> None:
        start(self._tables, self._situation)

    def transition(self, actions: np.ndarray):
        reward, dots_eaten, boards_cleared, rooms_eaten_in = step(self._tables, self._situation, actions)
        metrics = {"dots_eaten": dots_eaten, "boards_cleared": boards_cleared, "rooms_eaten_in": rooms_eaten_in}
        return np.full(self.rules.num_agents, reward, np.float32), False, metrics

    def perceive(self):
        return *perceive(self._tables, self._situation), None
