"""The rules of RWARE once more, as loops: the functions of `env.py` by the same names, in the same order.

A batch on CPU takes them, bit for bit what the tensor operations do that other devices and torch.compile take; so does
one environment by itself (`WarehouseLoops`, on which `parallel_env("rware_*")` runs). Positions, headings and shelves
are those of a State that `Warehouse.admitted` let in, so that no index needs a check.

Axes: B environments, N robots, R x C = L cells, Q requests, M shelves.
"""

from typing import NamedTuple

import numpy as np

from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import next_distinct, next_integer
from torch_mars.envs.rware.layouts import Layout
from torch_mars.envs.rware.task import (
    AHEAD,
    CARRYING,
    FORWARD,
    HEADING,
    HIGHWAY,
    LOAD,
    NO_SHELF,
    NOTHING,
    OBSERVED,
    OTHER,
    OTHERS,
    OWN_CELL,
    SHELF,
    SHELVES,
    TURNS,
)

AGENTS = 1024  # in a block of environments: 150 us of work and more
_AHEAD, _TURNS = np.array(AHEAD), np.array(TURNS)
_HEADINGS, _ACTIONS = len(AHEAD), len(TURNS)
_OBSERVED = sum(OBSERVED.values())
_ZERO, _ONE = np.float32(0), np.float32(1)


class Tables(NamedTuple):
    """What the loops read of a `layouts.Layout`."""

    is_highway: np.ndarray  # bool [R, C]
    goals: np.ndarray  # int64 [2, 2]: (row, column)
    num_shelves: int


def tables(layout: Layout) -> Tables:
    """The floor plan for the loops."""
    goals = np.stack(np.divmod(layout.goals, layout.columns), 1)
    return Tables(layout.is_highway.reshape(layout.rows, layout.columns), goals, layout.num_shelves)


# ---- reset ----


@compiled
def initial_state(first, last, tables, rng, agent_pos, agent_dir, request_queue):
    """Robots on distinct cells, headings, distinct requests, in environments `first` to `last - 1`; rng is moved.

    Args:
        rng, agent_pos, agent_dir, request_queue: State fields of B environments, written to.
    """
    rows, columns = tables.is_highway.shape
    key = np.zeros((), np.int64)
    cells, requests = np.empty(agent_pos.shape[1], np.int64), np.empty(request_queue.shape[1], np.int64)
    for b in range(first, last):
        key[()] = rng[b]
        next_distinct(key, rows * columns, cells)
        for agent in range(len(cells)):
            agent_pos[b, agent, 0], agent_pos[b, agent, 1] = cells[agent] // columns, cells[agent] % columns
        for agent in range(len(cells)):
            agent_dir[b, agent] = next_integer(key, _HEADINGS)
        next_distinct(key, tables.num_shelves, requests)
        for slot in range(len(requests)):
            request_queue[b, slot] = requests[slot]
        rng[b] = key[()]


# ---- step ----


@compiled
def advance(
    first,
    last,
    tables,
    actions,
    agent_pos,
    agent_dir,
    is_carrying,
    shelf_grid,
    request_queue,
    rng,
    deliveries,
    is_collision,
):
    """One step of environments `first` to `last - 1`.

    Args:
        actions: int64 [B, N].
        agent_pos, agent_dir, is_carrying, shelf_grid, request_queue, rng: State fields, changed.
        deliveries, is_collision: float32 [B], bool [B], the result.
    """
    num_agents = actions.shape[1]
    action = np.empty(num_agents, np.int64)
    new_pos = np.empty((num_agents, 2), np.int64)
    shelf = np.empty(num_agents, np.int16)
    for b in range(first, last):
        for agent in range(num_agents):
            old_row, old_column = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
            row, column, is_allowed = _is_allowed(agent_pos, agent_dir, is_carrying, shelf_grid, b, agent)
            action[agent] = actions[b, agent] if actions[b, agent] != FORWARD or is_allowed else NOTHING
            goes = action[agent] == FORWARD
            new_pos[agent, 0], new_pos[agent, 1] = (row, column) if goes else (old_row, old_column)
            shelf[agent] = shelf_grid[b, old_row, old_column]
            agent_dir[b, agent] = (agent_dir[b, agent] + _TURNS[action[agent]]) % _HEADINGS
        _carry(action, is_carrying, agent_pos, new_pos, shelf, shelf_grid, b)
        _load(tables, action, agent_pos, new_pos, shelf, is_carrying, b)
        deliveries[b] = _deliver(tables, shelf_grid, request_queue, rng, b)
        is_collision[b] = _collide(agent_pos, new_pos, b)
        for agent in range(num_agents):
            agent_pos[b, agent, 0], agent_pos[b, agent, 1] = new_pos[agent, 0], new_pos[agent, 1]


@compiled
def _is_allowed(agent_pos, agent_dir, is_carrying, shelf_grid, b, agent):
    """The cell in front (its own at the edge): row, column; and whether a step forward is allowed."""
    heading, own_row, own_column = agent_dir[b, agent], agent_pos[b, agent, 0], agent_pos[b, agent, 1]
    row, column = own_row + _AHEAD[heading, 0], own_column + _AHEAD[heading, 1]
    if row < 0 or row >= shelf_grid.shape[1] or column < 0 or column >= shelf_grid.shape[2]:
        return own_row, own_column, True
    return row, column, not (is_carrying[b, agent] and shelf_grid[b, row, column] != NO_SHELF)


@compiled
def _carry(action, is_carrying, agent_pos, new_pos, shelf, shelf_grid, b):
    """Shelves go with those who carry them. Where two carriers meet, the shelf of the lower number is lost."""
    for agent in range(len(action)):
        if is_carrying[b, agent] and action[agent] == FORWARD:
            shelf_grid[b, agent_pos[b, agent, 0], agent_pos[b, agent, 1]] = NO_SHELF
    for agent in range(len(action)):
        if is_carrying[b, agent] and action[agent] == FORWARD:
            shelf_grid[b, new_pos[agent, 0], new_pos[agent, 1]] = shelf[agent]


@compiled
def _load(tables, action, agent_pos, new_pos, shelf, is_carrying, b):
    """From the highest number down, as a shelf that a lower number brings in the same step can be loaded at once."""
    for agent in range(len(action) - 1, -1, -1):
        row, column = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
        if is_carrying[b, agent]:
            if (action[agent] == NOTHING or action[agent] == LOAD) and not tables.is_highway[row, column]:
                is_carrying[b, agent] = False
        elif action[agent] == LOAD:
            has_shelf = shelf[agent] != NO_SHELF
            for other in range(agent):
                is_here = new_pos[other, 0] == row and new_pos[other, 1] == column
                has_shelf |= is_carrying[b, other] and action[other] == FORWARD and is_here
            is_carrying[b, agent] = has_shelf


@compiled
def _deliver(tables, shelf_grid, request_queue, rng, b):
    """Goal after goal: a requested shelf that is on it pays, and another is requested in its place."""
    deliveries = _ZERO
    for goal in range(len(tables.goals)):
        shelf = shelf_grid[b, tables.goals[goal, 0], tables.goals[goal, 1]] - 1
        for slot in range(request_queue.shape[1]):
            if request_queue[b, slot] == shelf:
                request_queue[b, slot] = _request(tables, request_queue, rng, b)
                deliveries += _ONE
                break
    return deliveries


@compiled
def _request(tables, request_queue, rng, b):
    """A shelf that is not in the queue, each equally likely."""
    key = np.zeros((), np.int64)
    key[()] = rng[b]
    number = next_integer(key, tables.num_shelves - request_queue.shape[1])
    rng[b] = key[()]
    below = 0
    for slot in range(request_queue.shape[1]):
        lower = 0  # in the queue: its place in order
        for other in range(request_queue.shape[1]):
            lower += request_queue[b, other] < request_queue[b, slot]
        below += request_queue[b, slot] - lower <= number
    return number + below


@compiled
def _collide(agent_pos, new_pos, b):
    """Two on one cell, or a lower number went where a higher one was."""
    for low in range(len(new_pos)):
        row, column = new_pos[low, 0], new_pos[low, 1]
        for high in range(low + 1, len(new_pos)):
            if new_pos[high, 0] == row and new_pos[high, 1] == column:
                return True
            if agent_pos[b, high, 0] == row and agent_pos[b, high, 1] == column:
                return True
    return False


# ---- what is seen ----


@compiled
def perceive(first, last, tables, agent_pos, agent_dir, is_carrying, shelf_grid, request_queue, obs, mask):
    """What every robot of environments `first` to `last - 1` sees and may do.

    Args:
        agent_pos, agent_dir, is_carrying, shelf_grid, request_queue: of the State.
        obs, mask: float32 [B, N, 66], bool [B, N, 5], the result.
    """
    is_requested = np.zeros(tables.num_shelves + 1, np.bool_)
    for b in range(first, last):
        for slot in range(request_queue.shape[1]):
            is_requested[request_queue[b, slot] + 1] = True
        for agent in range(obs.shape[1]):
            row, column = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
            for i in range(_OBSERVED):
                obs[b, agent, i] = _ZERO
            obs[b, agent, 0], obs[b, agent, 1] = row, column
            obs[b, agent, CARRYING] = is_carrying[b, agent]
            obs[b, agent, HEADING + agent_dir[b, agent]] = _ONE
            obs[b, agent, HIGHWAY] = tables.is_highway[row, column]
            _others(agent_pos, agent_dir, obs, b, agent)
            _shelves_around(agent_pos, shelf_grid, is_requested, obs, b, agent)
            for action in range(_ACTIONS):
                mask[b, agent, action] = True
            mask[b, agent, FORWARD] = _is_allowed(agent_pos, agent_dir, is_carrying, shelf_grid, b, agent)[2]
        for slot in range(request_queue.shape[1]):
            is_requested[request_queue[b, slot] + 1] = False


@compiled
def _others(agent_pos, agent_dir, obs, b, agent):
    """Who is on the eight cells around; of several on one cell the highest number."""
    for other in range(agent_pos.shape[1]):
        row = agent_pos[b, other, 0] - agent_pos[b, agent, 0]
        column = agent_pos[b, other, 1] - agent_pos[b, agent, 1]
        if -1 <= row <= 1 and -1 <= column <= 1 and (row != 0 or column != 0):
            place = 3 * row + column + OWN_CELL
            first = OTHERS + OTHER * (place if place < OWN_CELL else place - 1)
            obs[b, agent, first] = _ONE
            for heading in range(_HEADINGS):
                obs[b, agent, first + 1 + heading] = _ONE if heading == agent_dir[b, other] else _ZERO


@compiled
def _shelves_around(agent_pos, shelf_grid, is_requested, obs, b, agent):
    """Which of the nine cells hold shelves, and which of those are requested."""
    own_row, own_column = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
    for row in range(max(own_row - 1, 0), min(own_row + 2, shelf_grid.shape[1])):
        for column in range(max(own_column - 1, 0), min(own_column + 2, shelf_grid.shape[2])):
            shelf = shelf_grid[b, row, column]
            if shelf != NO_SHELF:
                first = SHELVES + SHELF * (3 * (row - own_row) + column - own_column + OWN_CELL)
                obs[b, agent, first] = _ONE
                obs[b, agent, first + 1] = is_requested[shelf]


# ---- one environment ----


class WarehouseLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def __init__(self, rules):
        super().__init__(rules)
        self._tables = tables(rules.layout)
        self._shelves = rules.layout.shelf_grid.reshape(rules.layout.rows, rules.layout.columns)

    def start(self) -> None:
        initial_state(0, 1, self._tables, *self.of_batch("rng", "agent_pos", "agent_dir", "request_queue"))
        self.fields["is_carrying"][:] = False
        self.fields["shelf_grid"][:] = self._shelves

    def transition(self, actions: np.ndarray):
        deliveries, is_collision = np.empty(1, np.float32), np.empty(1, np.bool_)
        names = ("agent_pos", "agent_dir", "is_carrying", "shelf_grid", "request_queue", "rng")
        advance(0, 1, self._tables, actions[None], *self.of_batch(*names), deliveries, is_collision)
        metrics = {"deliveries": deliveries[0], "collisions": np.float32(is_collision[0])}
        return np.full(self.rules.num_agents, deliveries[0]), bool(is_collision[0]), metrics

    def perceive(self):
        shape = (1, self.rules.num_agents)
        obs, mask = np.empty((*shape, _OBSERVED), np.float32), np.empty((*shape, _ACTIONS), np.bool_)
        names = ("agent_pos", "agent_dir", "is_carrying", "shelf_grid", "request_queue")
        perceive(0, 1, self._tables, *self.of_batch(*names), obs, mask)
        return obs[0], obs.ravel().copy(), mask[0].view(np.int8)
