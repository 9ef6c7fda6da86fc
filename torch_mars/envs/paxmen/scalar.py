"""PaxMen for one environment, compiled with numba: the rules of `loops.py` and the random numbers of a start.

Equal to `env.py` step for step, random numbers included. `parallel_env("paxmen_*")` runs on it, and tests hold the two
against each other. Boards come from `layouts.py`; observation, actions and rewards are described in `env.py`.

The compiled loops are cached on disk. numba renews them when this file changes, but not for a changed constant of
`layouts.py` or function of `loops.py` or `rng_scalar.py`: touch this file then.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from torch_mars.envs.engine import ScalarEngine
from torch_mars.envs.paxmen import loops
from torch_mars.envs.paxmen.layouts import DOTS_PER_ROOM, NUM_LAYOUTS, ROOM_CELLS, WINDOW
from torch_mars.envs.rng_scalar import next_integer, next_permutation


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
    cell_at, num_cells = tables.cell_at[situation.layout[()]], tables.window.shape[1]
    gain = np.empty(len(situation.agent_pos), np.float32)
    eaters = np.empty(len(situation.dot_pos), np.int64)
    dots_eaten, rooms_eaten_in = loops.advance(
        cell_at, num_cells, actions, situation.dot_pos, situation.agent_pos, situation.dot_active, gain, eaters
    )
    is_cleared = not situation.dot_active.any()
    if is_cleared:
        draw_dots(tables, situation)
    return gain.sum(), dots_eaten, int(is_cleared), rooms_eaten_in


@njit(cache=True)
def perceive(tables, situation):
    """obs [N, 25] and state [F]."""
    layout = situation.layout[()]
    obs = np.empty((len(situation.agent_pos), WINDOW * WINDOW), np.float32)
    state = np.empty(tables.window.shape[1], np.float32)
    seen = (situation.agent_pos, situation.dot_pos, situation.dot_active)
    loops.look(tables.cell_at[layout], tables.window[layout], *seen, obs, state)
    return obs, state


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
