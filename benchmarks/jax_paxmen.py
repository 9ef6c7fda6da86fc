"""PaxMen in plain JAX, as fast as we know how to write it there: the environment of `jax_mappo.py`.

The rules are those of `torch_mars/envs/paxmen`, checked against the same recorded episodes (`tests/test_benchmarks.py`,
`python -m pytest -m parity`), and the boards are its tables. Written for XLA: positions are numbers of floor cells, a
move is one lookup, and starts and new boards are picked from a pool that was drawn beforehand, because a program of
static shapes would draw them anew for every environment in every step.

Axes: B environments, N agents, D = 3N dots, F floor cells, M starts in the pool.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torch_mars.envs.paxmen.layouts import NUM_LAYOUTS, ROOM_CELLS, board
from torch_mars.envs.paxmen.task import (
    AGENT,
    CENTRE,
    DOT,
    DOT_REWARD,
    DOTS_PER_ROOM,
    EAT,
    FLOOR,
    IDLE_PENALTY,
    MAX_STEPS,
    MOVES,
    WALL,
)


class State(NamedTuple):
    layout: jax.Array  # int32 [B]: 0..3
    agent: jax.Array  # int32 [B, N]: number of the floor cell
    dot: jax.Array  # int32 [B, D]: number of the floor cell
    is_active: jax.Array  # bool [B, D]: not yet eaten
    step: jax.Array  # int32 [B]


class Pool(NamedTuple):
    layout: jax.Array  # int32 [M]
    agent: jax.Array  # int32 [M, N]
    choice: jax.Array  # int32 [M, D]: which of the 15 cells of its room, so that it fits every layout


class PaxMen:
    """The tables of one team size and the rules as pure functions."""

    num_actions = len(MOVES)

    def __init__(self, num_agents: int = 5):
        tables = board(num_agents)
        self.num_agents, self.num_cells, self.max_steps = num_agents, tables.num_cells, MAX_STEPS[num_agents]
        self.num_dots = DOTS_PER_ROOM * num_agents
        self.hub_cells = len(tables.hub)  # the hub's cells are the first ones
        targets = tables.floor[:, :, None] + np.array(MOVES)  # [4, F, 5, 2]
        layouts = np.arange(NUM_LAYOUTS)[:, None, None]
        to_cell = tables.cell_at[layouts, targets[..., 0] * tables.grid_size + targets[..., 1]]
        here = np.arange(self.num_cells)[None, :, None]
        next_cell = np.where(to_cell == self.num_cells, here, to_cell)  # a wall stops
        rooms = tables.cell_at[layouts, tables.rooms[..., 0] * tables.grid_size + tables.rooms[..., 1]]
        self.next_cell = jnp.asarray(next_cell.reshape(-1), jnp.int32)  # [4 * F * 5]
        self.rooms = jnp.asarray(rooms.reshape(-1), jnp.int32)  # [4 * N * 15]
        self.window = jnp.asarray(tables.window.reshape(-1, tables.window.shape[-1]), jnp.int32)  # [4 * F, 25]
        self.room_start = jnp.asarray(np.arange(self.num_dots) // DOTS_PER_ROOM * ROOM_CELLS, jnp.int32)  # [D]

    def pool(self, key: jax.Array, size: int = 4096) -> Pool:
        """M starts, drawn as the rules say."""
        layout_key, hub_key, dot_key = jax.random.split(key, 3)
        places = jnp.argsort(jax.random.uniform(hub_key, (size, self.hub_cells)))
        orders = jnp.argsort(jax.random.uniform(dot_key, (size, self.num_agents, ROOM_CELLS)))
        return Pool(
            jax.random.randint(layout_key, (size,), 0, NUM_LAYOUTS),
            places[:, : self.num_agents].astype(jnp.int32),
            orders[..., :DOTS_PER_ROOM].reshape(size, -1).astype(jnp.int32),
        )

    def start(self, pool: Pool, pick: jax.Array) -> State:
        """The starts number `pick` [B]."""
        layout = pool.layout[pick]
        dot = self._dots(layout, pool.choice[pick])
        return State(layout, pool.agent[pick], dot, jnp.ones(dot.shape, bool), jnp.zeros_like(layout))

    def step(self, state: State, action: jax.Array, pool: Pool, pick: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        """One step with auto-reset; the reward of the team [B] and whether the episode ended [B].

        Args:
            action: int32 [B, N]. pick: int32 [B], the number of the start that is used if one is needed.
        """
        row = state.layout[:, None] * self.num_cells + state.agent
        agent = self.next_cell[row * self.num_actions + action]
        is_here = (agent[:, :, None] == state.dot[:, None]) & state.is_active[:, None]
        eats = is_here & (action == EAT)[..., None]  # [B, N, D]
        is_eaten, idle = eats.any(1), self.num_agents - eats.any(2).sum(1)
        reward = DOT_REWARD * is_eaten.sum(1) + IDLE_PENALTY * idle  # the shares of a dot add up to it
        is_active = state.is_active & ~is_eaten
        is_done = state.step + 1 >= self.max_steps
        is_new = is_done | ~is_active.any(1)

        layout = jnp.where(is_done, pool.layout[pick], state.layout)
        dot = jnp.where(is_new[:, None], self._dots(layout, pool.choice[pick]), state.dot)
        agent = jnp.where(is_done[:, None], pool.agent[pick], agent)
        step = jnp.where(is_done, 0, state.step + 1)
        return State(layout, agent, dot, is_active | is_new[:, None], step), reward, is_done

    def perceive(self, state: State) -> tuple[jax.Array, jax.Array]:
        """Observations [B, N, 25] and global state [B, F]."""
        cells = jnp.arange(self.num_cells)
        dot = jnp.where(state.is_active, state.dot, -1)  # -1: nowhere
        is_dot = (cells == dot[:, :, None]).any(1)  # compared, not scattered: XLA makes one loop of it
        is_agent = (cells == state.agent[:, :, None]).any(1)
        seen = jnp.where(is_agent, AGENT, jnp.where(is_dot, DOT, FLOOR))

        window = self.window[state.layout[:, None] * self.num_cells + state.agent]  # [B, N, 25]
        walled = jnp.pad(seen, ((0, 0), (0, 1)), constant_values=WALL)
        flat = window.reshape(len(window), -1)
        obs = jnp.take_along_axis(walled, flat, 1, mode="promise_in_bounds").reshape(window.shape)
        is_shared = (state.agent[:, :, None] == state.agent[:, None]).sum(2) > 1
        below = (state.agent[:, :, None] == dot[:, None]).any(2)
        own = jnp.where(is_shared, AGENT, jnp.where(below, DOT, FLOOR))  # nobody sees itself
        is_centre = jnp.arange(window.shape[-1]) == CENTRE
        return jnp.where(is_centre, own[..., None], obs), seen

    def _dots(self, layout: jax.Array, choice: jax.Array) -> jax.Array:
        return self.rooms[layout[:, None] * (self.num_agents * ROOM_CELLS) + self.room_start + choice]
