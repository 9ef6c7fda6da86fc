"""The rules of PaxMen once more, as a rule book: plain loops over one environment or many, compiled with numba.

The batch on CPU takes `advance_all` and `look_all`: bit for bit what `PaxMen.transition` and `PaxMen.perceive` do as
tensor operations, which other devices and torch.compile take, without their dozens of small tensors. `scalar.py` takes
`advance` and `look` for its one environment.

An index out of range raises IndexError: `load_state` takes any positions, and wrong ones must not write elsewhere.

The compiled loops are cached on disk. numba renews them when this file changes, but not for a changed constant of
`layouts.py`: touch this file then, and `scalar.py` after a change here.

Axes: B environments, N agents, D = 3N dots, F floor cells, G x G grid.
"""

import numba
import numpy as np

from torch_mars.envs.paxmen.layouts import (
    AGENT,
    CENTRE,
    DOT,
    DOT_REWARD,
    DOTS_PER_ROOM,
    EAT,
    FLOOR,
    IDLE_PENALTY,
    MOVES,
    WALL,
    WINDOW,
)

_MOVES = np.array(MOVES)
# single precision throughout, as in the tensors: a plain Python number would make it double
_WALL, _FLOOR, _DOT, _AGENT = map(np.float32, (WALL, FLOOR, DOT, AGENT))
_DOT_REWARD, _IDLE_PENALTY, _ZERO, _ONE = map(np.float32, (DOT_REWARD, IDLE_PENALTY, 0, 1))
_compiled = numba.njit(cache=True, nogil=True, boundscheck=True)


@_compiled
def advance_all(cell_at, num_cells, layout, actions, dot_pos, agent_pos, dot_active, gain, counts):
    """One step of every environment but for the new dots of cleared boards: all their dots lie ready, undrawn.

    Args:
        cell_at: int64 [4, G, G], F = num_cells at a wall.
        layout, actions, dot_pos: int64 [B], [B, N], [B, D, 2].
        agent_pos, dot_active: int64 [B, N, 2], bool [B, D], change.
        gain: float32 [B, N], the result: each agent's part of the team's reward.
        counts: int64 [3, B], the result: dots eaten, boards cleared (0 or 1), rooms that were full and lost a dot.
    """
    eaters = np.empty(dot_active.shape[1], np.int64)
    for b in range(len(layout)):
        dots_eaten, rooms_eaten_in = advance(
            cell_at[layout[b]], num_cells, actions[b], dot_pos[b], agent_pos[b], dot_active[b], gain[b], eaters
        )
        is_cleared = not dot_active[b].any()
        if is_cleared:
            dot_active[b] = True
        counts[0, b], counts[1, b], counts[2, b] = dots_eaten, is_cleared, rooms_eaten_in


@_compiled
def advance(cell_at, num_cells, actions, dot_pos, agent_pos, dot_active, gain, eaters):
    """`advance_all` for one environment, whose dots stay eaten when the board is cleared.

    Args:
        eaters: int64 [D], the result: how many agents ate each dot.

    Returns:
        dots eaten, rooms that were full and lost a dot.
    """
    _move(cell_at, num_cells, actions, agent_pos)
    eaters[:] = 0
    for agent in range(len(actions)):
        if actions[agent] == EAT:
            for dot in range(len(dot_pos)):
                if dot_active[dot] and _is_on(agent_pos, agent, dot_pos, dot):
                    eaters[dot] += 1
    for agent in range(len(actions)):
        share = _ZERO
        if actions[agent] == EAT:
            for dot in range(len(dot_pos)):
                if eaters[dot] > 0 and _is_on(agent_pos, agent, dot_pos, dot):
                    share += _ONE / np.float32(eaters[dot])
        gain[agent] = share * _DOT_REWARD if share > _ZERO else _IDLE_PENALTY

    dots_eaten = rooms_eaten_in = 0
    for first in range(0, len(dot_pos), DOTS_PER_ROOM):
        was_full, eaten_here = True, 0
        for dot in range(first, first + DOTS_PER_ROOM):
            was_full = was_full and dot_active[dot]
            if eaters[dot] > 0:
                eaten_here += 1
                dot_active[dot] = False
        dots_eaten += eaten_here
        rooms_eaten_in += was_full and eaten_here > 0
    return dots_eaten, rooms_eaten_in


@_compiled
def _move(cell_at, num_cells, actions, agent_pos):
    """Walls stop an agent; agents and dots never do."""
    for agent in range(len(actions)):
        row = agent_pos[agent, 0] + _MOVES[actions[agent], 0]
        col = agent_pos[agent, 1] + _MOVES[actions[agent], 1]
        if cell_at[row, col] != num_cells:
            agent_pos[agent, 0], agent_pos[agent, 1] = row, col


@_compiled
def _is_on(agent_pos, agent, dot_pos, dot):
    return agent_pos[agent, 0] == dot_pos[dot, 0] and agent_pos[agent, 1] == dot_pos[dot, 1]


@_compiled
def look_all(cell_at, window, layout, agent_pos, dot_pos, dot_active, obs, state):
    """What every environment shows, written into obs, float32 [B, N, 25], and state, float32 [B, F]."""
    for b in range(len(layout)):
        look(cell_at[layout[b]], window[layout[b]], agent_pos[b], dot_pos[b], dot_active[b], obs[b], state[b])


@_compiled
def look(cell_at, window, agent_pos, dot_pos, dot_active, obs, state):
    """What one environment shows, written into obs, float32 [N, 25], and state, float32 [F].

    Args:
        cell_at, window: int64 [G, G], [F, 25]: of the environment's layout.
    """
    num_agents, num_cells = len(agent_pos), len(window)
    cells = np.full(num_cells + 1, _FLOOR)  # the last one stands for every wall
    for dot in range(len(dot_pos)):
        if dot_active[dot]:
            cells[cell_at[dot_pos[dot, 0], dot_pos[dot, 1]]] = _DOT
    cells[num_cells] = _WALL

    cell_of = np.empty(num_agents, np.int64)
    beneath = np.empty(num_agents, np.float32)  # what an agent stands on
    for agent in range(num_agents):
        cell_of[agent] = cell_at[agent_pos[agent, 0], agent_pos[agent, 1]]
        beneath[agent] = cells[cell_of[agent]]
    for agent in range(num_agents):
        cells[cell_of[agent]] = _AGENT
    for cell in range(num_cells):
        state[cell] = cells[cell]

    for agent in range(num_agents):
        for i in range(WINDOW * WINDOW):
            obs[agent, i] = cells[window[cell_of[agent], i]]
        is_alone = True
        for other in range(num_agents):
            is_alone = is_alone and (other == agent or cell_of[other] != cell_of[agent])
        if is_alone:  # nobody sees itself
            obs[agent, CENTRE] = beneath[agent]
