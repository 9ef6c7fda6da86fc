"""RWARE: robots fetch the shelves that are asked for and carry them to a goal. Shared reward, very sparse.

Source: `RobotWarehouse-v0` of the `jumanji` package 1.1.2 (JAX), matched step for step.

| | shape | values |
|---|---|---|
| observation | [N, 66] | what lies in the 3 x 3 cells around a robot: below |
| global state | [66 N] | the observations of robot 0, 1, ... |
| action | [N] in 0..4 | 0 nothing, 1 forward, 2 turn left, 3 turn right, 4 load or unload |
| action mask | [N, 5] | with a load, no step forward to a cell with a shelf; a forbidden action is action 0 |
| reward | [N] | the team's, to everyone: 1 for every delivery of the step |
| start | | robots on any distinct cells, facing anywhere; a shelf on every storage cell; Q of them are asked for |
| end | | when robots collide, or after 500 steps |
| tasks | | `rware_<size>_<N>ag`: N robots and Q = N; `_hard`: Q = N / 2 |

| size | blocks of shelves, down x across | rows x columns of cells | shelves |
|---|---|---|---|
| tiny | 1 x 3 | 11 x 10 | 32 |
| small | 2 x 3 | 20 x 10 | 80 |
| medium | 2 x 5 | 20 x 16 | 144 |
| large | 3 x 5 | 29 x 16 | 224 |
| xlarge | 4 x 5 | 38 x 16 | 304 |

The tiny warehouse: highway ".", storage, on which shelves "s" stand (those asked for: "r"), goals "G"; robot 1 faces
right under a shelf, robot 0 carries a shelf that is asked for ("R"; others would be "S") down to a goal:

    .  .  .  .  .  .  .  .  .  .
    .  s  s  .  .  .  .  s  s  .
    .  s1>_  .  .  .  .  s  s  .
    .  s  r  .  .  .  .  s  s  .
               ...
    .  s  s  .  .  .  .  s  s  .
    .  .  .  .  R0v.  .  .  .  .
    .  .  .  .  G  G  .  .  .  .

The numbers of an observation, none of them scaled:

- `position` (2): own row and column, from the top left;
- `is_carrying` (1); `heading` (4): up, right, down, left one-hot; `on_highway` (1): its cell is no storage cell;
- `others` (8 x 5): for the eight cells around, row by row from the top left: 1 if another robot is there, and its
  heading one-hot;
- `shelves` (9 x 2): for the nine cells, row by row: 1 if a shelf is there, 1 if that one is asked for.

The window is aligned with the warehouse, not with the robot. Outside there is nothing.

Robots without a load pass under shelves. Loading takes the shelf on the robot's cell. A load is put down on storage
cells only, and there by doing nothing, too; so is it by a step forward that the mask forbids. Robots act in the order
of their numbers, and collide if two are on one cell, or if one went where a higher number was, even if that one left:
so of robots that follow one another, those behind must have the higher numbers.

A shelf that is asked for and is on a goal cell pays at once, carried or not; another one, not asked for so far, takes
its slot in the queue. The first goal is looked at before the second.

Metrics, over the episode: `deliveries`, `collisions` (1 if one ended it).
"""

import dataclasses
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from torch_mars.envs.constants import scalar
from torch_mars.envs.core import BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import GOLDEN, distinct, integers, signed
from torch_mars.envs.rware import loops
from torch_mars.envs.rware.layouts import layout
from torch_mars.envs.rware.task import (
    AHEAD,
    FORWARD,
    LOAD,
    NO_SHELF,
    NOTHING,
    OBSERVED,
    OWN_CELL,
    TURNS,
    Options,
    WarehouseState,
)


class Warehouse(BatchedEnv):
    Options = Options
    metrics = {"deliveries": "sum", "collisions": "sum"}
    headline = "deliveries"
    state_is_obs = True

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.max_steps = c.num_agents, c.max_steps
        self.layout = layout(c)
        self.num_cells = self.layout.rows * self.layout.columns
        self.action_space = gymnasium.spaces.Discrete(len(TURNS))
        high = np.ones(sum(OBSERVED.values()), np.float32)
        high[:2] = self.layout.rows - 1, self.layout.columns - 1
        self.observation_space = gymnasium.spaces.Box(np.zeros_like(high), high)
        high = np.tile(high, self.num_agents)
        self.state_space = gymnasium.spaces.Box(np.zeros_like(high), high)

        def constant(array):
            return torch.as_tensor(array, device=self.device)

        self._turns = constant(TURNS)
        self._shelves = constant(self.layout.shelf_grid)
        self._is_highway = constant(self.layout.is_highway)
        self._front = constant(self.layout.front).flatten()
        self._window = constant(self.layout.window)
        self._headings = torch.arange(len(AHEAD), device=self.device)
        # what is seen of nobody, and of a robot by its heading
        is_heading = F.pad(torch.eye(len(AHEAD), dtype=torch.bool, device=self.device), (1, 0), value=True)
        self._seen = torch.cat([torch.zeros_like(is_heading[:1]), is_heading])
        self._numbers = torch.arange(c.num_agents, dtype=torch.int16, device=self.device) * 8 + 1
        self._slots = torch.arange(c.request_queue_size, device=self.device)
        self._is_higher = torch.ones(c.num_agents, c.num_agents, dtype=torch.bool, device=self.device).triu(1)
        self._goals = self.layout.goals.tolist()
        self._tables = loops.tables(self.layout)
        self._block = max(1, loops.AGENTS // self.num_agents)

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> WarehouseState:
        count, c, plan = len(rng), self.options, self.layout
        if runs_in_loops(rng):
            rng = rng.clone()
            agent_pos = torch.empty(count, c.num_agents, 2, dtype=torch.int64, device=rng.device)
            agent_dir = torch.empty(count, c.num_agents, dtype=torch.int64, device=rng.device)
            request_queue = torch.empty(count, c.request_queue_size, dtype=torch.int64, device=rng.device)
            fields = arrays(rng, agent_pos, agent_dir, request_queue)
            in_blocks(loops.initial_state, count, self._block, self._tables, *fields)
        else:
            cell, rng = distinct(rng, c.num_agents, self.num_cells)
            agent_pos = torch.stack([cell // plan.columns, cell % plan.columns], 2)
            agent_dir, rng = integers(rng, c.num_agents, len(AHEAD))
            request_queue, rng = distinct(rng, c.request_queue_size, plan.num_shelves)
        return WarehouseState(
            **self.episode_start(rng),
            agent_pos=agent_pos,
            agent_dir=agent_dir,
            is_carrying=torch.zeros_like(agent_dir, dtype=torch.bool),
            shelf_grid=self._shelves.view(plan.rows, plan.columns).repeat(count, 1, 1),
            request_queue=request_queue,
        )

    def admitted(self, state: WarehouseState, given: Collection[str]) -> WarehouseState:
        check_values(state, given)
        plan = self.layout
        highest = state.agent_pos.new_tensor([plan.rows - 1, plan.columns - 1])
        _within(state.agent_pos, highest, "agent_pos", f"the {plan.rows} x {plan.columns} cells (row, column)")
        _within(state.agent_dir, len(AHEAD) - 1, "agent_dir", f"0 to {len(AHEAD) - 1}")
        _within(state.shelf_grid, plan.num_shelves, "shelf_grid", f"0 (none) to {plan.num_shelves}")
        _within(state.request_queue, plan.num_shelves - 1, "request_queue", f"0 to {plan.num_shelves - 1}")
        _once(state.shelf_grid, "shelf_grid", NO_SHELF)
        _once(state.request_queue, "request_queue")
        cell = self._cell(state.agent_pos)
        has_nothing = state.is_carrying & (state.shelf_grid.flatten(1).gather(1, cell) == NO_SHELF)
        is_alone = (cell[:, :, None] == cell[:, None]).sum(2) == 1  # of carriers that collided only one has a shelf
        if (has_nothing & is_alone).any():
            b, agent = (has_nothing & is_alone).nonzero()[0].tolist()
            place = tuple(state.agent_pos[b, agent].tolist())
            raise ValueError(f"is_carrying has robot {agent} with a load at {place}, where shelf_grid has no shelf")
        return state

    # ---- step ----

    def transition(self, state: WarehouseState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, deliveries, is_collision = advance(state, actions)
        reward = deliveries[:, None].expand(-1, self.num_agents).contiguous()
        return state, reward, is_collision, {"deliveries": deliveries, "collisions": is_collision.float()}

    def _advance_in_loops(self, state: WarehouseState, actions: Tensor):
        """What `advance` does, faster on CPU."""
        names = ("agent_pos", "agent_dir", "is_carrying", "shelf_grid", "request_queue", "rng")
        new = own_copies(state, names)
        deliveries = torch.empty(len(actions), dtype=torch.float32, device=actions.device)
        is_collision = torch.empty(len(actions), dtype=torch.bool, device=actions.device)
        fields = arrays(actions, *new.values(), deliveries, is_collision)
        in_blocks(loops.advance, len(actions), self._block, self._tables, *fields)
        return dataclasses.replace(state, **new), deliveries, is_collision

    def advance(self, state: WarehouseState, actions: Tensor) -> tuple[WarehouseState, Tensor, Tensor]:
        """A step: the new State, how many deliveries float32 [B], whether robots collided bool [B]."""
        cell, front = self._cell(state.agent_pos), self._cell_in_front(state)
        is_refused = (actions == FORWARD) & ~self._is_allowed(state, cell, front)
        actions = torch.where(is_refused, scalar(NOTHING, like=actions), actions)
        new_cell = torch.where(actions == FORWARD, front, cell)
        shelf_grid, enters = self._carry(state, actions == FORWARD, cell, new_cell)
        state = dataclasses.replace(
            state,
            agent_pos=torch.stack([new_cell // self.layout.columns, new_cell % self.layout.columns], 2),
            agent_dir=(state.agent_dir + self._turns[actions]) % len(AHEAD),
            is_carrying=self._load(state, actions, cell, enters),
            shelf_grid=shelf_grid,
        )
        state, deliveries = self._deliver(state)
        return state, deliveries, self._collide(cell, new_cell)

    def _is_allowed(self, state: WarehouseState, cell: Tensor, front: Tensor) -> Tensor:
        """bool [B, N]: a step forward is."""
        has_shelf = state.shelf_grid.flatten(1).gather(1, front) != NO_SHELF
        return ~(state.is_carrying & has_shelf & (front != cell))

    def _carry(self, state: WarehouseState, goes: Tensor, cell: Tensor, new_cell: Tensor) -> tuple[Tensor, Tensor]:
        """Shelves go with those who carry them: new shelf_grid, and whether j's load enters i's old cell [B, N, N].

        Where two carriers meet, the shelf of the lower number is lost. No carrier enters a cell that a shelf leaves.
        """
        nowhere = self.num_cells
        goes = goes & state.is_carrying
        shelf = state.shelf_grid.flatten(1).gather(1, cell)
        grid = F.pad(state.shelf_grid.flatten(1), (0, 1))
        grid.scatter_(1, torch.where(goes, cell, nowhere), NO_SHELF)
        meets = (new_cell[:, :, None] == new_cell[:, None]) & goes[:, None]  # j carries its shelf to where i goes
        is_lost = (meets & self._is_higher).any(2)
        grid.scatter_(1, torch.where(goes & ~is_lost, new_cell, nowhere), shelf)
        enters = (cell[:, :, None] == new_cell[:, None]) & goes[:, None]
        return grid[:, :nowhere].reshape(state.shelf_grid.shape), enters

    def _load(self, state: WarehouseState, actions: Tensor, cell: Tensor, enters: Tensor) -> Tensor:
        """is_carrying [B, N]. A shelf that a lower number brings in the same step can be loaded at once."""
        is_brought = (enters & self._is_higher.T).any(2)
        has_shelf = (state.shelf_grid.flatten(1).gather(1, cell) != NO_SHELF) | is_brought
        is_put_down = ~self._is_highway[cell] & ((actions == NOTHING) | (actions == LOAD))
        return torch.where(state.is_carrying, ~is_put_down, (actions == LOAD) & has_shelf)

    def _deliver(self, state: WarehouseState) -> tuple[WarehouseState, Tensor]:
        """Goal after goal: a requested shelf that is on it pays, and another is requested in its place."""
        grid, queue, rng = state.shelf_grid.flatten(1), state.request_queue, state.rng
        numbers, _ = integers(rng, len(self._goals), self.layout.num_shelves - queue.shape[1])
        count = torch.zeros_like(rng)[:, None]  # of numbers that are used
        for goal in self._goals:
            is_delivered = queue == (grid[:, goal, None] - 1)
            pays = is_delivered.any(1, keepdim=True)
            queue = self._request(numbers.gather(1, count), queue, is_delivered)
            rng = torch.where(pays.squeeze(1), rng + signed(GOLDEN), rng)
            count = count + pays
        return dataclasses.replace(state, request_queue=queue, rng=rng), count.squeeze(1).float()

    def _request(self, number: Tensor, queue: Tensor, slot: Tensor) -> Tensor:
        """The queue, with a shelf that was not in it in the slot marked in bool [B, Q]: by number [B, 1] of those."""
        below = queue.sort(1).values - self._slots <= number
        return torch.where(slot, number + below.sum(1, keepdim=True), queue)

    def _collide(self, cell: Tensor, new_cell: Tensor) -> Tensor:
        """bool [B]: two on one cell, or a lower number went where a higher one was."""
        meets = new_cell[:, :, None] == new_cell[:, None]
        follows = new_cell[:, :, None] == cell[:, None]
        return ((meets | follows) & self._is_higher).flatten(1).any(1)

    # ---- what is seen ----

    def perceive(self, state: WarehouseState) -> tuple[Tensor, Tensor, Tensor]:
        if runs_in_loops(state.agent_pos):
            shape = state.agent_dir.shape
            obs = torch.empty(*shape, sum(OBSERVED.values()), dtype=torch.float32, device=self.device)
            mask = torch.empty(*shape, len(TURNS), dtype=torch.bool, device=self.device)
            seen = (state.agent_pos, state.agent_dir, state.is_carrying, state.shelf_grid, state.request_queue)
            in_blocks(loops.perceive, len(obs), self._block, self._tables, *arrays(*seen, obs, mask))
        else:
            cell = self._cell(state.agent_pos)
            window = self._window[cell]  # [B, N, 9]
            own = [state.is_carrying[..., None], state.agent_dir[..., None] == self._headings]
            around = [self._others(state, cell, window), self._shelves_around(state, window)]
            seen = torch.cat([*own, self._is_highway[cell][..., None], *around], 2)
            obs = torch.cat([state.agent_pos.float(), seen.float()], 2)
            mask = torch.ones(*cell.shape, len(TURNS), dtype=torch.bool, device=cell.device)
            mask[..., FORWARD] = self._is_allowed(state, cell, self._cell_in_front(state))
        return obs, obs.flatten(1), mask

    def _others(self, state: WarehouseState, cell: Tensor, window: Tensor) -> Tensor:
        """bool [B, N, 40]: for each of the eight cells around, is another robot there, and its heading one-hot."""
        robot = self._numbers + state.agent_dir.short()  # eight times the number, and 1 to 4 by the heading
        is_there = window[..., None] == cell[:, None, None]  # [B, N, 9, N]
        who = (is_there * robot[:, None, None]).amax(3)  # the highest number hides the others on its cell
        who = torch.cat([who[:, :, :OWN_CELL], who[:, :, OWN_CELL + 1 :]], 2)
        return self._seen[(who & 7).long()].flatten(2)

    def _shelves_around(self, state: WarehouseState, window: Tensor) -> Tensor:
        """bool [B, N, 18]: for each of the nine cells, is a shelf there, and is it requested."""
        grid = F.pad(state.shelf_grid.flatten(1), (0, 1))  # the last one stands for all cells outside
        shelf = grid.gather(1, window.flatten(1)).view(window.shape)
        is_requested = (shelf[..., None] == state.request_queue[:, None, None] + 1).any(3)
        return torch.stack([shelf != NO_SHELF, is_requested], 3).flatten(2)

    def observation(self, state: WarehouseState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: WarehouseState) -> Tensor:
        return self.perceive(state)[1]

    def action_mask(self, state: WarehouseState) -> Tensor:
        return self.perceive(state)[2]

    def engine(self) -> Engine:
        return loops.WarehouseLoops(self)

    def draw(self, state: WarehouseState, index: int = 0, trail: Sequence[WarehouseState] = ()) -> np.ndarray:
        """The floor from above; nothing is shown of `trail`."""
        from torch_mars.envs.rware.draw import draw

        check_index(state, index)
        return draw(self.layout, self.max_steps, state, index)

    def draw_text(self, state: WarehouseState, index: int = 0) -> str:
        from torch_mars.envs.rware.draw import draw_text

        check_index(state, index)
        return draw_text(self.layout, self.max_steps, state, index)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.rware.draw import draw_window

        return draw_window(obs, agent)

    def _cell(self, position: Tensor) -> Tensor:
        """The number of the cell at each position [..., 2]."""
        return position[..., 0] * self.layout.columns + position[..., 1]

    def _cell_in_front(self, state: WarehouseState) -> Tensor:
        """[B, N]: the next cell along each robot's heading; its own at the edge."""
        return self._front[state.agent_dir * self.num_cells + self._cell(state.agent_pos)]


# ---- what cannot be ----


def _within(values: Tensor, highest: Tensor | int, name: str, allowed: str) -> None:
    """ValueError unless all values [B, ...] of a State field are in 0 .. highest."""
    is_outside = (values < 0) | (values > highest)
    if is_outside.any():
        value = values[is_outside][0].item()
        raise ValueError(f"State field {name!r} has {value}; allowed are {allowed}")


def _once(values: Tensor, name: str, but: int = -1) -> None:
    """ValueError if a value other than `but` stands twice in a row of a State field [B, ...]."""
    ordered = values.flatten(1).sort(1).values
    is_twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != but)
    if is_twice.any():
        raise ValueError(f"State field {name!r} has {ordered[:, 1:][is_twice][0].item()} twice in one environment")


ENVIRONMENT = Warehouse
