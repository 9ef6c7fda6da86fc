"""The rules of Connector once more, as loops: the functions of `boards.py` and `env.py` by the same names.

A batch on CPU takes them, bit for bit what the tensor operations do that other devices and torch.compile take; so does
one environment by itself (`ConnectorLoops`, on which `parallel_env("connector_*")` runs). Positions are those of a
State that `Connector.admitted` let in.

Axes: B environments, N agents, G x G cells.
"""

import numpy as np

from torch_mars.envs.connector.task import BLOCKERS, HEAD, MOVES, OBSERVED, TARGET, TARGETS, TRAIL, WINDOW
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import next_bits, next_integer

AGENTS = 2048  # in a block of environments: 120 us of work and more
STEPS = 4096  # of walkers, on the boards that are drawn in a block: likewise
_MOVES = np.array(MOVES)
_ACTIONS, _OBSERVED, _REACH = len(MOVES), sum(OBSERVED.values()), WINDOW // 2
_ZERO, _ONE = np.float32(0), np.float32(1)
_FIRST_24 = np.uint64(40)  # a shift to the upper 24 bits of a word


# ---- new boards: `boards.py` ----


@compiled
def draw_boards(first, last, walk_length, grid_size, weights, rng, head, target):
    """Cells of heads and of targets, row by row on boards `first` to `last - 1`.

    Args:
        weights: float64, e^0, e^-1, ...
        rng, head, target: int64 [B], moved on; int64 [B, N], the result.
    """
    side, num_agents = grid_size + 2, head.shape[1]  # a wall is around the board
    steps = np.empty(4, np.int64)
    steps[0], steps[1], steps[2], steps[3] = -side, 1, side, -1
    occupied, ways = np.empty(side * side, np.bool_), np.empty(side * side, np.int64)
    open_in_row, claimed = np.empty(side, np.int64), np.empty(side * side, np.int64)
    start, position = np.empty(num_agents, np.int64), np.empty(num_agents, np.int64)
    wanted = np.empty(num_agents, np.int64)
    key = np.zeros((), np.int64)
    for b in range(first, last):
        key[()] = rng[b]
        _place(key, side, steps, occupied, ways, open_in_row, start, position)
        for _ in range(walk_length - 1):
            _walk(key, side, steps, weights, start, occupied, claimed, position, wanted)
        for agent in range(num_agents):
            head[b, agent] = (start[agent] // side - 1) * grid_size + start[agent] % side - 1
            target[b, agent] = (position[agent] // side - 1) * grid_size + position[agent] % side - 1
        rng[b] = key[()]


@compiled
def _place(key, side, steps, occupied, ways, open_in_row, start, position):
    """Starts and first cells of all wires.

    Args:
        ways, open_in_row: kept here: free neighbours of every cell; free cells with such neighbours in every row.
    """
    for cell in range(side * side):
        row, column = cell // side, cell % side
        occupied[cell] = row == 0 or row == side - 1 or column == 0 or column == side - 1
        ways[cell] = 4 - (row == 1) - (row == side - 2) - (column == 1) - (column == side - 2)
    choices = (side - 2) * (side - 2)
    for row in range(side):
        open_in_row[row] = side - 2
    open_in_row[0] = open_in_row[side - 1] = 0
    for agent in range(len(start)):
        chosen = next_integer(key, choices)
        row = 0
        while chosen >= open_in_row[row]:
            chosen -= open_in_row[row]
            row += 1
        cell = row * side
        while chosen >= 0:
            cell += 1
            chosen -= not occupied[cell] and ways[cell] > 0
        start[agent] = cell
        chosen = next_integer(key, ways[cell])
        way = -1
        while chosen >= 0:
            way += 1
            chosen -= not occupied[cell + steps[way]]
        position[agent] = cell + steps[way]
        for taken in (start[agent], position[agent]):
            if ways[taken] > 0:
                open_in_row[taken // side] -= 1
                choices -= 1
            occupied[taken] = True
            for step in steps:
                ways[taken + step] -= 1
                if ways[taken + step] == 0 and not occupied[taken + step]:
                    open_in_row[(taken + step) // side] -= 1
                    choices -= 1


@compiled
def _walk(key, side, steps, weights, start, occupied, claimed, position, wanted):
    """One round of all walkers. `claimed` holds the highest number that wants a cell, where somebody does."""
    num_agents = len(start)
    for agent in range(num_agents):
        at = position[agent]
        down, right = at // side - start[agent] // side, at % side - start[agent] % side
        furthest = max(abs(down), abs(right))
        drawn = np.float64(np.uint64(next_bits(key)) >> _FIRST_24) * 2.0**-24
        up_to_0 = 0.0 if occupied[at + steps[0]] else weights[furthest + down]
        up_to_1 = up_to_0 + (0.0 if occupied[at + steps[1]] else weights[furthest - right])
        up_to_2 = up_to_1 + (0.0 if occupied[at + steps[2]] else weights[furthest - down])
        total = up_to_2 + (0.0 if occupied[at + steps[3]] else weights[furthest + right])
        drawn *= total
        way = int(up_to_0 <= drawn) + int(up_to_1 <= drawn) + int(up_to_2 <= drawn)
        wanted[agent] = at + steps[way] if total > 0 else at
        claimed[wanted[agent]] = agent
    for agent in range(num_agents):
        if claimed[wanted[agent]] == agent:
            position[agent] = wanted[agent]
            occupied[wanted[agent]] = True


# ---- step: `env.py` ----


@compiled
def advance(first, last, pay, actions, grid, agent_pos, target_pos, reward, is_over, counts):
    """One step of boards `first` to `last - 1`.

    Args:
        pay: float32, float32, bool: for connecting, for a step begun unconnected, whether all are paid the sum.
        actions, target_pos: int64 [B, N], [B, N, 2].
        grid, agent_pos: of the State, changed.
        reward, is_over: float32 [B, N], bool [B], the result.
        counts: int64 [2, B], the result: agents connected, cells covered by wires.
    """
    num_agents = actions.shape[1]
    wanted = np.empty((num_agents, 2), np.int64)
    claimed = np.empty(grid.shape[1:], np.int64)  # the highest number that wants a cell, where somebody does
    was_connected = np.empty(num_agents, np.bool_)
    is_trail = np.zeros(3 * num_agents + 1, np.int64)  # by code: faster than a division for every cell
    for agent in range(num_agents):
        is_trail[3 * agent + TRAIL] = 1
    for b in range(first, last):
        for agent in range(num_agents):
            was_connected[agent] = _is_connected(agent_pos, target_pos, b, agent)
            move = actions[b, agent]
            goes = move != 0 and not was_connected[agent] and _is_way(grid, agent_pos, b, agent, move)
            wanted[agent, 0] = agent_pos[b, agent, 0] + (_MOVES[move, 0] if goes else 0)
            wanted[agent, 1] = agent_pos[b, agent, 1] + (_MOVES[move, 1] if goes else 0)
            claimed[wanted[agent, 0], wanted[agent, 1]] = agent
        for agent in range(num_agents):
            if claimed[wanted[agent, 0], wanted[agent, 1]] == agent:
                grid[b, agent_pos[b, agent, 0], agent_pos[b, agent, 1]] = 3 * agent + TRAIL
                agent_pos[b, agent, 0], agent_pos[b, agent, 1] = wanted[agent, 0], wanted[agent, 1]
                grid[b, wanted[agent, 0], wanted[agent, 1]] = 3 * agent + HEAD
        can_move = False
        for agent in range(num_agents):
            if not can_move and not _is_connected(agent_pos, target_pos, b, agent):
                for move in range(1, _ACTIONS):
                    can_move |= _is_way(grid, agent_pos, b, agent, move)
        is_over[b] = not can_move
        covered = num_agents
        for row in range(grid.shape[1]):
            for column in range(grid.shape[2]):
                covered += is_trail[grid[b, row, column]]
        counts[0, b] = _reward(pay, was_connected, agent_pos, target_pos, reward, b)
        counts[1, b] = covered


@compiled
def _is_way(grid, agent_pos, b, agent, move):
    """Whether a move (1 to 4) leads to a cell that an unconnected agent may enter."""
    row, column = agent_pos[b, agent, 0] + _MOVES[move, 0], agent_pos[b, agent, 1] + _MOVES[move, 1]
    if row < 0 or row >= grid.shape[1] or column < 0 or column >= grid.shape[2]:
        return False
    code = grid[b, row, column]
    return code == 0 or code == 3 * agent + TARGET


@compiled
def _reward(pay, was_connected, agent_pos, target_pos, reward, b):
    """Pays everyone; how many are connected."""
    for_connecting, for_a_step, is_shared = pay
    connected = connecting = late = 0
    for agent in range(len(was_connected)):
        is_connected = _is_connected(agent_pos, target_pos, b, agent)
        is_new = is_connected and not was_connected[agent]
        reward[b, agent] = for_connecting * np.float32(is_new) + for_a_step * np.float32(not was_connected[agent])
        connected += is_connected
        connecting += is_new
        late += not was_connected[agent]
    if is_shared:
        for agent in range(len(was_connected)):
            reward[b, agent] = for_connecting * np.float32(connecting) + for_a_step * np.float32(late)
    return connected


@compiled
def _is_connected(agent_pos, target_pos, b, agent):
    is_in_row = agent_pos[b, agent, 0] == target_pos[b, agent, 0]
    return is_in_row and agent_pos[b, agent, 1] == target_pos[b, agent, 1]


# ---- what is seen ----


@compiled
def perceive(first, last, grid, agent_pos, target_pos, obs, mask):
    """What every agent of boards `first` to `last - 1` sees and may do.

    Args:
        grid, agent_pos, target_pos: of the State.
        obs, mask: float32 [B, N, 54], bool [B, N, 5], the result.
    """
    G = grid.shape[1]
    side, cells = G + 2 * _REACH, np.float32(G * G)
    blockers, targets = np.ones(side * side, np.float32), np.ones(side * side, np.float32)  # with a margin of ones
    # what is seen of a code
    blocks, is_target = np.zeros(3 * obs.shape[1] + 1, np.float32), np.zeros(3 * obs.shape[1] + 1, np.float32)
    for agent in range(obs.shape[1]):
        blocks[3 * agent + TRAIL], blocks[3 * agent + HEAD], is_target[3 * agent + TARGET] = -_ONE, _ONE, -_ONE
    for b in range(first, last):
        for row in range(G):
            for column in range(G):
                at = (row + _REACH) * side + column + _REACH
                blockers[at], targets[at] = blocks[grid[b, row, column]], is_target[grid[b, row, column]]
        for agent in range(obs.shape[1]):
            row, column = agent_pos[b, agent, 0], agent_pos[b, agent, 1]
            down, right = target_pos[b, agent, 0] - row, target_pos[b, agent, 1] - column
            is_connected = down == 0 and right == 0
            obs[b, agent, 0], obs[b, agent, 1] = np.float32(row) / cells, np.float32(column) / cells
            obs[b, agent, 2] = _ZERO if is_connected else np.float32(row + down) / cells
            obs[b, agent, 3] = _ZERO if is_connected else np.float32(column + right) / cells
            for i in range(WINDOW):
                first = (row + i) * side + column
                for j in range(WINDOW):
                    obs[b, agent, BLOCKERS + WINDOW * i + j] = blockers[first + j]
                    obs[b, agent, TARGETS + WINDOW * i + j] = targets[first + j]
            if not is_connected and abs(down) <= _REACH and abs(right) <= _REACH:
                obs[b, agent, TARGETS + WINDOW * (down + _REACH) + right + _REACH] = _ONE
            mask[b, agent, 0] = True
            for move in range(1, _ACTIONS):  # as `_is_way`, of what was just looked up
                cell = WINDOW * (_MOVES[move, 0] + _REACH) + _MOVES[move, 1] + _REACH
                is_way = obs[b, agent, BLOCKERS + cell] == _ZERO and obs[b, agent, TARGETS + cell] >= _ZERO
                mask[b, agent, move] = is_way and not is_connected


# ---- one environment ----


class ConnectorLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def start(self) -> None:
        rules, f = self.rules, self.fields
        head, target = np.empty((2, 1, rules.num_agents), np.int64)
        rng = self.of_batch("rng")
        draw_boards(0, 1, rules.options.walk_length, rules.grid_size, rules.weights.numpy(), *rng, head, target)
        f["grid"][:] = 0
        for code, name, cells in ((HEAD, "agent_pos", head[0]), (TARGET, "target_pos", target[0])):
            f["grid"].ravel()[cells] = code + 3 * np.arange(rules.num_agents)
            f[name][:] = np.stack(np.divmod(cells, rules.grid_size), 1)

    def transition(self, actions: np.ndarray):
        num_agents = self.rules.num_agents
        reward, is_over = np.empty((1, num_agents), np.float32), np.empty(1, np.bool_)
        counts = np.empty((2, 1), np.int64)
        board = self.of_batch("grid", "agent_pos", "target_pos")
        advance(0, 1, self.rules.pay, actions[None], *board, reward, is_over, counts)
        connected, path_length = counts[:, 0].tolist()
        metrics = {
            "connected_ratio": np.float32(connected) / np.float32(num_agents),
            "won_episode": float(connected == num_agents),
            "total_path_length": path_length,
        }
        return reward[0], bool(is_over[0]), metrics

    def perceive(self):
        shape = (1, self.rules.num_agents)
        obs, mask = np.empty((*shape, _OBSERVED), np.float32), np.empty((*shape, _ACTIONS), np.bool_)
        perceive(0, 1, *self.of_batch("grid", "agent_pos", "target_pos"), obs, mask)
        return obs[0], obs.ravel().copy(), mask[0].view(np.int8)
