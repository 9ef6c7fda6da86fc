"""Connector: the heads of N wires grow over a board to their targets. Wires may not cross, and nothing is ever cleared.

Source: `Connector-v3` of the `jumanji` package 1.1.2 (JAX) with the boards of its `RandomWalkGenerator`, matched step
for step, seen through the vector wrapper of Mava.

| | shape | values |
|---|---|---|
| observation | [N, 54] | own place, the target's, two windows of 5 x 5 cells: below |
| global state | [54 N] | the observations of agent 0, 1, ... |
| action | [N] in 0..4 | 0 stay, 1 up, 2 right, 3 down, 4 left; one that is not allowed is 0 |
| action mask | [N, 5] | allowed moves lead to empty cells or the own target; connected agents only stay |
| reward | [N] | the team's, to everyone: 1 for each agent that connects, -0.03 for each that was unconnected before |
| start | | a new board: wires laid by random walks and taken away again (`boards.py`), so that it can be solved |
| end | | everyone is connected or blocked, or after G x G steps |
| tasks | | `connector_<G>x<G>x<N>a`: N agents on a board of G x G cells; any that have room |

A board of 5 x 5: heads are numbers, their targets letters (A is agent 0's), trails ":"; agent 2 is connected, "*".

    0 1 A . .
    . : . . .
    : * . . .
    . . . . .
    . . . . B

The numbers of an observation:

- `position` (2), `target` (2): row and column, divided by G x G; the target's are 0 once it is reached;
- `blockers` (5 x 5), row by row from the top left, own head in the middle: 1 a head, or outside the board; -1 a trail;
- `targets` (5 x 5), of the same cells: 1 the own target, or outside the board; -1 another's.

What is allowed is judged on the board before anybody moves. Of several agents that want one cell the highest number
gets it, the others stay. With shared_reward=False everyone is paid its own part of the reward.

Metrics, of the situation at the end: `connected_ratio`, `won_episode` (all connected), `total_path_length` (cells
covered by all wires).
"""

import dataclasses
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from torch_mars.envs.connector import loops
from torch_mars.envs.connector.boards import draw_boards, is_beaten, tables, weights
from torch_mars.envs.connector.task import (
    HEAD,
    MOVES,
    OBSERVED,
    OUTSIDE,
    STAY,
    TARGET,
    TRAIL,
    WINDOW,
    ConnectorState,
    Options,
)
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.pool import in_blocks

REACH = WINDOW // 2


class Connector(BatchedEnv):
    Options = Options
    metrics = {"connected_ratio": "last", "won_episode": "last", "total_path_length": "last"}
    headline = "connected_ratio"
    has_shared_reward = True  # unless an option says otherwise
    state_is_obs = True

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.grid_size = c.num_agents, c.grid_size
        self.max_steps = c.max_steps or c.grid_size**2
        self.has_shared_reward = c.shared_reward
        self.grid_dtype = torch.int8 if 3 * c.num_agents <= torch.iinfo(torch.int8).max else torch.int16
        size = sum(OBSERVED.values())
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(-1.0, 1.0, (self.num_agents * size,), np.float32)

        self.pay = np.float32(c.connected_reward), np.float32(c.timestep_reward), c.shared_reward
        self._paid = tuple(map(float, self.pay[:2]))  # Python's, as a compiler takes NumPy's for tensors
        self._block = max(1, loops.AGENTS // c.num_agents)
        self._new_boards = max(1, loops.STEPS // (c.walk_length * c.num_agents))  # in a block
        self.weights = weights()
        self._tables = tables(c, self.device)
        self._window = self._windows().to(self.device)
        moves = torch.tensor(MOVES, device=self.device)
        self._at_moves = WINDOW * WINDOW // 2 + moves[:, 0] * WINDOW + moves[:, 1]  # their cells in the window
        self._at_actions = self._window[:, self._at_moves]
        self._codes = 3 * torch.arange(c.num_agents, device=self.device)
        self._outside = torch.full((1, 1), OUTSIDE, dtype=self.grid_dtype, device=self.device)
        codes = torch.arange(-1, 3 * c.num_agents + 1, device=self.device).roll(-1)  # OUTSIDE is the last
        kind = codes % 3  # outside is of a head's kind
        self._blockers = (kind == HEAD).float() - (kind == TRAIL).float()  # what is seen of each code
        self._others = (codes == OUTSIDE).float() - ((codes > 0) & (kind == TARGET % 3)).float()

    def _windows(self) -> Tensor:
        """int64 [G x G, 25]: the cells around each cell; G x G stands for all beyond the board."""
        G = self.grid_size
        numbers = F.pad(torch.arange(G * G, device="cpu").view(1, G, G), (REACH,) * 4, value=G * G)
        return numbers.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1).reshape(G * G, WINDOW * WINDOW)

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> ConnectorState:
        count, G, N = len(rng), self.grid_size, self.num_agents
        if runs_in_loops(rng):
            rng = rng.clone()
            ends = torch.empty(2, count, N, dtype=torch.int64, device=rng.device)
            fields = arrays(self.weights, rng, *ends)
            in_blocks(loops.draw_boards, count, self._new_boards, self.options.walk_length, G, *fields)
        else:
            ends, rng = draw_boards(rng, self.options, self._tables)
        grid = torch.zeros(count, G * G, dtype=self.grid_dtype, device=rng.device)
        for cell, kind in zip(ends.unbind(), (HEAD, TARGET)):
            grid.scatter_(1, cell, (self._codes + kind).to(self.grid_dtype).expand(count, N))
        head, target = self._position(ends).unbind()
        return ConnectorState(**self.episode_start(rng), grid=grid.view(count, G, G), agent_pos=head, target_pos=target)

    def admitted(self, state: ConnectorState, given: Collection[str]) -> ConnectorState:
        check_values(state, given)
        G, N, grid = self.grid_size, self.num_agents, state.grid.flatten(1)
        for name in ("agent_pos", "target_pos"):
            values = getattr(state, name)
            if (is_off := (values < 0) | (values >= G)).any():
                raise ValueError(f"State field {name!r} has {values[is_off][0].item()}; allowed are 0 to {G - 1}")
        if (is_off := (grid < 0) | (grid > 3 * N)).any():
            raise ValueError(f"State field 'grid' has {grid[is_off][0].item()}; allowed are 0 to {3 * N}")
        head, target = self._cell(state.agent_pos), self._cell(state.target_pos)
        wanted = torch.where(head == target, self._codes + HEAD, self._codes + TARGET)  # where the target is or was
        for name, cell, codes in (("agent_pos", head, self._codes + HEAD), ("target_pos", target, wanted)):
            found = grid.gather(1, cell)
            if (is_wrong := found != codes).any():
                b, agent = is_wrong.nonzero()[0].tolist()
                place = tuple(getattr(state, name)[b, agent].tolist())
                raise ValueError(
                    f"State field 'grid' has {found[b, agent].item()} at {place}, where {name!r} has agent {agent}: "
                    f"it must be {codes[b, agent].item() if codes.dim() == 2 else codes[agent].item()}"
                )
        is_end = (grid > 0) & (grid % 3 != TRAIL)
        if (is_end.sum(1) != N + (head != target).sum(1)).any():
            raise ValueError("State field 'grid' has heads or targets besides those of 'agent_pos' and 'target_pos'")
        return state

    # ---- step ----

    def transition(self, state: ConnectorState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, reward, is_over, connected, path_length = advance(state, actions)
        metrics = {
            "connected_ratio": connected.float() / self.num_agents,
            "won_episode": (connected == self.num_agents).float(),
            "total_path_length": path_length,
        }
        return state, reward, is_over, metrics

    def _advance_in_loops(self, state: ConnectorState, actions: Tensor):
        """What `advance` does, faster on CPU."""
        grid, agent_pos = own_copies(state, ("grid", "agent_pos")).values()
        reward = torch.empty(actions.shape, dtype=torch.float32, device=actions.device)
        is_over = torch.empty(len(actions), dtype=torch.bool, device=actions.device)
        counts = torch.empty(2, len(actions), dtype=torch.int64, device=actions.device)
        fields = arrays(actions, grid, agent_pos, state.target_pos, reward, is_over, counts)
        in_blocks(loops.advance, len(actions), self._block, self.pay, *fields)
        return dataclasses.replace(state, grid=grid, agent_pos=agent_pos), reward, is_over, *counts

    def advance(self, state: ConnectorState, actions: Tensor) -> tuple[ConnectorState, Tensor, Tensor, Tensor, Tensor]:
        """The board after a step, reward [B, N], whether the episode is over bool [B], and int64 [B] each: agents
        connected, cells covered by wires.
        """
        old, was_connected = self._cell(state.agent_pos), self._is_connected(state)
        wanted = self._at_actions[old, actions]
        goes = self._is_way(self._codes_at(state.grid, wanted[..., None])).squeeze(2) & ~was_connected
        wanted = torch.where(goes, wanted, old)
        new = torch.where(is_beaten(wanted, self._tables), old, wanted)
        codes = self._codes.to(self.grid_dtype).expand_as(new)
        grid = state.grid.flatten(1).scatter(1, old, codes + TRAIL).scatter(1, new, codes + HEAD)
        state = dataclasses.replace(state, grid=grid.view_as(state.grid), agent_pos=self._position(new))
        is_connected = self._is_connected(state)
        ways = self._is_way(self._codes_at(state.grid, self._at_actions[new][..., 1:]))
        can_move = (ways & ~is_connected[..., None]).flatten(1).any(1)
        path_length = (grid % 3 == TRAIL).sum(1) + self.num_agents
        return state, self._reward(was_connected, is_connected), ~can_move, is_connected.sum(1), path_length

    def _is_way(self, codes: Tensor) -> Tensor:
        """bool [B, N, K]: an unconnected agent may enter cells with codes [B, N, K]."""
        return (codes == 0) | (codes == (self._codes + TARGET)[:, None])

    def _reward(self, was_connected: Tensor, is_connected: Tensor) -> Tensor:
        """[B, N], of bool [B, N] before and after the step."""
        for_connecting, for_a_step = self._paid
        is_new, is_late = is_connected & ~was_connected, ~was_connected
        if self.options.shared_reward:
            is_new, is_late = (x.sum(1, keepdim=True).expand_as(x) for x in (is_new, is_late))
        return for_connecting * is_new.float() + for_a_step * is_late.float()

    def _is_connected(self, state: ConnectorState) -> Tensor:
        return (state.agent_pos == state.target_pos).all(2)

    # ---- what is seen ----

    def perceive(self, state: ConnectorState) -> tuple[Tensor, Tensor, Tensor]:
        if runs_in_loops(state.grid):
            shape = state.agent_pos.shape[:2]
            obs = torch.empty(*shape, sum(OBSERVED.values()), dtype=torch.float32, device=state.grid.device)
            mask = torch.empty(*shape, len(MOVES), dtype=torch.bool, device=state.grid.device)
            seen = arrays(state.grid, state.agent_pos, state.target_pos, obs, mask)
            in_blocks(loops.perceive, len(obs), self._block, *seen)
            return obs, obs.flatten(1), mask
        is_connected, position, cells = self._is_connected(state), state.agent_pos, self.grid_size**2
        around = self._codes_at(state.grid, self._window[self._cell(position)])
        target = torch.where(is_connected[..., None], scalar(0, like=position), state.target_pos)
        places = torch.cat([position, target], 2).float() / cells
        code = around.long()
        is_own = around == (self._codes + TARGET)[:, None]
        targets = torch.where(is_own, scalar(1.0, like=places), self._others[code])
        obs = torch.cat([places, self._blockers[code], targets], 2)
        mask = self._is_way(around.index_select(2, self._at_moves)) & ~is_connected[..., None]
        mask[..., STAY] = True
        return obs, obs.flatten(1), mask

    def _codes_at(self, grid: Tensor, cell: Tensor) -> Tensor:
        """What stands on cells [B, N, K]: OUTSIDE beyond the board."""
        board = torch.cat([grid.flatten(1), self._outside.expand(len(grid), 1)], 1)
        return board.gather(1, cell.flatten(1)).view(cell.shape)

    def observation(self, state: ConnectorState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: ConnectorState) -> Tensor:
        return self.perceive(state)[1]

    def action_mask(self, state: ConnectorState) -> Tensor:
        return self.perceive(state)[2]

    def engine(self) -> Engine:
        return loops.ConnectorLoops(self)

    def draw(self, state: ConnectorState, index: int = 0, trail: Sequence[ConnectorState] = ()) -> np.ndarray:
        """The board, where all ways can be seen; nothing is shown of `trail`."""
        from torch_mars.envs.connector.draw import draw

        check_index(state, index)
        return draw(state, index, self.action_mask(state)[index])

    def draw_text(self, state: ConnectorState, index: int = 0) -> str:
        from torch_mars.envs.connector.draw import draw_text

        check_index(state, index)
        return draw_text(state, index)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.connector.draw import draw_windows

        return draw_windows(obs, agent)

    def _cell(self, position: Tensor) -> Tensor:
        """The number of the cell at each position [..., 2]."""
        return position[..., 0] * self.grid_size + position[..., 1]

    def _position(self, cell: Tensor) -> Tensor:
        """(row, column) [..., 2] of each cell."""
        return torch.stack([cell // self.grid_size, cell % self.grid_size], -1)


ENVIRONMENT = Connector
