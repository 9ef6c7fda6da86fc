"""PaxMen for one environment, compiled with numba: the loops of `loops.py` and the random numbers of `rng_scalar.py`.

Equal to `env.py` step for step, random numbers included. `parallel_env("paxmen_*")` runs on it, and tests hold the two
against each other. Boards come from `layouts.py`; observation, actions and rewards are described in `env.py`.

The compiled functions are cached on disk. numba renews them when this file changes, but not for a changed constant of
`layouts.py` or function of `rng_scalar.py`: touch this file then.

Axes: N agents, D = 3N dots.
"""

import numpy as np
from numba import njit

from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.paxmen import loops
from torch_mars.envs.paxmen.env import OFF_THE_FLOOR
from torch_mars.envs.paxmen.layouts import DOTS_PER_ROOM, NUM_LAYOUTS, ROOM_CELLS, WINDOW
from torch_mars.envs.rng_loops import next_integer, next_permutation


@njit(cache=True)
def start(hub, rooms, rng, layout, agent_pos, dot_pos, dot_active):
    """A layout, the agents on distinct cells of the hub, three dots in every room.

    Args:
        hub, rooms: of the `layouts.Board`.
        rng, layout, agent_pos, dot_pos, dot_active: State fields of one environment, written to; rng is moved.
    """
    layout[()] = next_integer(rng, NUM_LAYOUTS)
    places = next_permutation(rng, len(hub))
    for agent in range(len(agent_pos)):
        agent_pos[agent] = hub[places[agent]]
    draw_dots(rooms[layout[()]], rng, dot_pos, dot_active)


@njit(cache=True)
def draw_dots(rooms, rng, dot_pos, dot_active):
    """Three distinct cells in every room; rooms: int64 [N, 15, 2], those of the layout."""
    for room in range(len(rooms)):
        order = next_permutation(rng, ROOM_CELLS)
        for i in range(DOTS_PER_ROOM):
            dot_pos[DOTS_PER_ROOM * room + i] = rooms[room, order[i]]
    dot_active[:] = True


class ScalarPaxMen(LoopEngine):
    """The functions above and a batch of one for the loops, behind the engine interface."""

    def __init__(self, rules):
        super().__init__(rules)
        self._tables = loops.tables(rules.board)
        self._batch = {name: value[None] for name, value in self.fields.items()}  # the same memory

    def start(self) -> None:
        board, f = self.rules.board, self.fields
        start(board.hub, board.rooms, f["rng"], f["layout"], f["agent_pos"], f["dot_pos"], f["dot_active"])

    def transition(self, actions: np.ndarray):
        f, batch = self.fields, self._batch
        gain, counts = np.empty((1, len(actions)), np.float32), np.empty((3, 1), np.int64)
        changed = batch["agent_pos"], batch["dot_active"], gain, counts
        loops.advance(self._tables, batch["layout"], actions[None], batch["dot_pos"], *changed)
        dots_eaten, boards_cleared, rooms_eaten_in = counts[:, 0].tolist()
        if boards_cleared:
            draw_dots(self.rules.board.rooms[f["layout"]], f["rng"], f["dot_pos"], f["dot_active"])
        metrics = {"dots_eaten": dots_eaten, "boards_cleared": boards_cleared, "rooms_eaten_in": rooms_eaten_in}
        return np.full(self.rules.num_agents, gain.sum(), np.float32), False, metrics

    def perceive(self):
        batch, board = self._batch, self.rules.board
        obs = np.empty((1, self.rules.num_agents, WINDOW * WINDOW), np.float32)
        state = np.empty((1, board.num_cells), np.float32)
        seen = batch["layout"], batch["agent_pos"], batch["dot_pos"], batch["dot_active"]
        if not loops.look(self._tables, *seen, obs, state):
            raise ValueError(OFF_THE_FLOOR)
        return obs[0], state[0], None
