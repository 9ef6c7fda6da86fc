"""PaxMen: a team starts in a hub, corridors lead to one room per agent, each room holds three dots. Shared reward.

Source: the `paxmen` package 0.1.0 (JAX), matched step for step.

| | shape | values |
|---|---|---|
| observation | [N, 25] | 5 x 5 window, row by row: wall -1, floor 0, dot 1; other agents 0.1 over all of these |
| global state | [F] | floor cells, the hub's, then arm by arm (corridor, room): floor 0, dot 1, agent 0.1 over both |
| action | [N] in 0..4 | 0 up, 1 down, 2 right, 3 left, 4 eat; always all allowed |
| reward | [N] | the team's, to everyone: each agent that ate adds its share of a dot, each other one -0.025 |
| start | | one of four layouts; agents on distinct cells of the hub; three dots on distinct cells of every room |
| end | | only by the time limit: 100, 115, 130 steps for 4, 5, 6 agents |
| tasks | | `paxmen_<N>a`: 4, 5, 6 agents, a hub of 3 x 3, 5 x 5, 7 x 7 cells, one room an agent |

A layout says on which sides of the hub the corridors leave and how long each is: 4, 8 or 12 cells, 8 N together.

A board for four, cut out of its middle: the western room (3 x 5 cells), a corridor, the hub (3 x 3) and the way to the
other arms. Agents 0 to 3, dots o, floor ., walls blank, as `draw_text` shows them. Beside it, what agent 0 sees:

                  .                     0    0  0.1   -1   -1
    .....        ..3                  0.1    0  0.1    0    0
    .............1.2.......             0    0    0   -1   -1
    .oo.o        ..0                   -1    0   -1   -1   -1
                  .                    -1    0   -1   -1   -1

The 25 numbers are the cells (row, column) from (-2, -2) to (2, 2) around the agent. It does not see itself: the number
in the middle is what it stands on, or 0.1 if somebody shares its cell.

Walls stop an agent; agents and dots never do. An agent eats the dot that it stands on; k that eat one together get
1 / k each. When the last dot is eaten, every room gets three new ones at once.

Metrics, over the episode so far: `dots_eaten`, `boards_cleared`, `rooms_eaten_in` (rooms in which a dot was eaten;
on one board, so at most N a board).
"""

import dataclasses
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, arrays, check_index, own_copies, runs_in_loops, where_rows
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.paxmen import loops
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
    OFF_THE_FLOOR,
    WALL,
    WINDOW,
    Options,
    PaxMenState,
)
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import bits, integers_of, permutation_of


class PaxMen(BatchedEnv):
    Options = Options
    metrics = {"dots_eaten": "sum", "boards_cleared": "sum", "rooms_eaten_in": "sum"}
    headline = "rooms_eaten_in"

    def setup(self) -> None:
        self.num_agents = self.options.num_agents
        self.num_dots = DOTS_PER_ROOM * self.num_agents
        self.max_steps = self.options.max_steps or MAX_STEPS[self.num_agents]
        self.board = board(self.num_agents)
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        self.observation_space = gymnasium.spaces.Box(WALL, DOT, (WINDOW * WINDOW,), np.float32)
        self.state_space = gymnasium.spaces.Box(FLOOR, DOT, (self.board.num_cells,), np.float32)

        def constant(array):
            return torch.as_tensor(array, device=self.device)

        grid = (self.board.grid_size, self.board.grid_size)
        self._hub = constant(self.board.hub)
        self._rooms = constant(self.board.rooms)
        self._room = torch.arange(self.num_agents, device=self.device)[:, None]
        self._cell_at = constant(self.board.cell_at).unflatten(1, grid)
        self._reached = constant(self.board.reached)
        # what `perceive` draws on: the floor cells [F]; number F, for what lies in walls, which nobody sees; the wall
        num_cells = self.board.num_cells
        self._nowhere = constant(num_cells)
        self._blank = constant(np.float32([FLOOR] * (num_cells + 1) + [WALL]))
        window = constant(self.board.window)
        self._window = window + (window == num_cells)
        self._tables = loops.tables(self.board)

    def admitted(self, state: PaxMenState, given: Collection[str]) -> PaxMenState:
        """Dots may lie in walls, where nobody finds them, but within the board."""
        board = (0, self.board.grid_size - 1)
        check_values(state, given, layout=(0, NUM_LAYOUTS - 1), dot_pos=board)
        is_inside = ((state.agent_pos >= 0) & (state.agent_pos < self.board.grid_size)).all(2)
        place = torch.where(is_inside[..., None], state.agent_pos, 0)  # a wall
        if (self._cell(state.layout, place) == self.board.num_cells).any():
            raise ValueError(OFF_THE_FLOOR)
        return state

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> PaxMenState:
        counts = (1, len(self._hub), self.num_agents * ROOM_CELLS)
        words, rng = bits(rng, sum(counts))
        for_layout, for_hub, for_rooms = words.split(counts, 1)
        layout = integers_of(for_layout, NUM_LAYOUTS).squeeze(1)
        places = permutation_of(for_hub)[:, : self.num_agents]
        dot_pos = self._dots(for_rooms, layout)
        return PaxMenState(
            **self.episode_start(rng),
            layout=layout,
            agent_pos=self._hub[places],
            dot_pos=dot_pos,
            dot_active=torch.ones(dot_pos.shape[:2], dtype=torch.bool, device=rng.device),
        )

    def draw_dots(self, rng: Tensor, layout: Tensor) -> tuple[Tensor, Tensor]:
        """Three distinct cells in every room: [B, D, 2]."""
        words, rng = bits(rng, self.num_agents * ROOM_CELLS)
        return self._dots(words, layout), rng

    def _dots(self, words: Tensor, layout: Tensor) -> Tensor:
        """The dots that `draw_dots` makes of random words [B, 15N]."""
        order = permutation_of(words.unflatten(1, (self.num_agents, ROOM_CELLS)))
        return self._rooms[layout[:, None, None], self._room, order[..., :DOTS_PER_ROOM]].flatten(1, 2)

    # ---- step ----

    def transition(self, state: PaxMenState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        agent_pos, dot_active, gain, is_cleared, metrics = advance(state, actions)
        dot_pos, rng = where_rows(
            is_cleared, lambda source: self.draw_dots(*source), (state.rng, state.layout), (state.dot_pos, state.rng)
        )
        dot_active = dot_active | is_cleared[:, None]
        state = dataclasses.replace(state, rng=rng, agent_pos=agent_pos, dot_pos=dot_pos, dot_active=dot_active)
        team_reward = gain.sum(1, keepdim=True)
        return state, team_reward.expand(-1, self.num_agents).contiguous(), torch.zeros_like(is_cleared), metrics

    def _advance_in_loops(self, state: PaxMenState, actions: Tensor):
        """What `advance` does, faster on CPU."""
        agent_pos, dot_active = own_copies(state, ("agent_pos", "dot_active")).values()
        gain, counts = actions.new_empty(actions.shape, dtype=torch.float32), actions.new_empty(3, len(actions))
        changed = (agent_pos, dot_active, gain, counts)
        fields = arrays(state.layout, actions, state.dot_pos, *changed)
        in_blocks(loops.advance, len(actions), loops.BLOCK, self._tables, *fields)
        dots_eaten, boards_cleared, rooms_eaten_in = counts
        metrics = {
            "dots_eaten": dots_eaten,
            "boards_cleared": boards_cleared.float(),
            "rooms_eaten_in": rooms_eaten_in,
        }
        return agent_pos, dot_active, gain, boards_cleared.bool(), metrics

    def advance(self, state: PaxMenState, actions: Tensor):
        """A step but for the new dots of cleared boards.

        Returns:
            agent_pos, dot_active, each agent's part of the team's reward [B, N], the boards cleared [B], metrics.
        """
        agent_pos = self._move(state, actions)
        share, is_eaten = self._eat(dataclasses.replace(state, agent_pos=agent_pos), actions)
        gain = torch.nn.functional.threshold(share * DOT_REWARD, 0.0, IDLE_PENALTY)  # the penalty where it is 0
        dot_active = state.dot_active ^ is_eaten  # who is eaten was active
        is_cleared = ~dot_active.any(1)
        metrics = {
            "dots_eaten": is_eaten.sum(1),
            "boards_cleared": is_cleared.float(),
            "rooms_eaten_in": self._newly_eaten_in(state.dot_active, is_eaten).sum(1),
        }
        return agent_pos, dot_active, gain, is_cleared, metrics

    def _move(self, state: PaxMenState, actions: Tensor) -> Tensor:
        """Walls stop an agent; agents and dots never do."""
        return self._reached[state.layout[:, None], state.agent_pos[..., 0], state.agent_pos[..., 1], actions]

    def _eat(self, state: PaxMenState, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Each agent's share of a dot [B, N] (1/k where k agents eat it together) and the dots eaten [B, D]."""
        is_here = (state.agent_pos[:, :, None] == state.dot_pos[:, None]).all(3)  # [B, N, D]
        eats = is_here & state.dot_active[:, None] & (actions == EAT)[..., None]
        eaters = eats.sum(1, dtype=torch.float32)
        share = (eats / eaters.clamp(min=1)[:, None]).sum(2)
        return share, eaters > 0

    def _newly_eaten_in(self, was_active: Tensor, is_eaten: Tensor) -> Tensor:
        """bool [B, N]: rooms that were full and lost a dot."""
        by_room = (len(was_active), self.num_agents, DOTS_PER_ROOM)
        return was_active.view(by_room).all(2) & is_eaten.view(by_room).any(2)

    # ---- what is seen ----

    def perceive(self, state: PaxMenState) -> tuple[Tensor, Tensor, None]:
        """Both views read one row of cell values per environment: the floor cells [B, F], a place unseen, the wall.

        On CPU by `loops.perceive`, the same faster.
        """
        num_cells = self.board.num_cells
        if runs_in_loops(state.layout):
            shape = (*state.agent_pos.shape[:2], WINDOW * WINDOW)
            obs = torch.empty(shape, dtype=torch.float32, device=self.device)
            global_state = torch.empty(len(obs), num_cells, dtype=torch.float32, device=self.device)
            seen = arrays(state.layout, state.agent_pos, state.dot_pos, state.dot_active, obs, global_state)
            if not all(in_blocks(loops.perceive, len(obs), loops.BLOCK, self._tables, *seen)):
                raise ValueError(OFF_THE_FLOOR)
            return obs, global_state, None
        agent_cell = self._cell(state.layout, state.agent_pos)
        dot_cell = self._cell(state.layout, state.dot_pos)
        cells = self._blank.repeat(len(agent_cell), 1)
        cells.scatter_(1, torch.where(state.dot_active, dot_cell, self._nowhere), DOT)
        beneath = cells.gather(1, agent_cell)
        cells.scatter_(1, agent_cell, AGENT)

        window = self._window[state.layout[:, None], agent_cell]  # [B, N, 25]
        obs = cells.gather(1, window.flatten(1)).view(window.shape)
        is_shared = (agent_cell[:, :, None] == agent_cell[:, None]).sum(2) > 1
        obs[..., CENTRE] = torch.where(is_shared, obs[..., CENTRE], beneath)  # nobody sees itself
        return obs, cells[:, :num_cells], None

    def observation(self, state: PaxMenState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: PaxMenState) -> Tensor:
        return self.perceive(state)[1]

    def engine(self) -> Engine:
        return loops.PaxMenLoops(self)

    def draw(
        self, state: PaxMenState, index: int = 0, trail: Sequence[PaxMenState] = (), show_windows: bool = True
    ) -> np.ndarray:
        """The board, with every agent's window outlined if `show_windows`; nothing is shown of `trail`."""
        from torch_mars.envs.paxmen.draw import draw

        check_index(state, index)
        return draw(self.board, state, index, show_windows)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.paxmen.draw import draw_window

        return draw_window(obs, agent)

    def draw_text(self, state: PaxMenState, index: int = 0) -> str:
        from torch_mars.envs.paxmen.draw import draw_text

        check_index(state, index)
        return draw_text(self.board, state, index)

    def _cell(self, layout: Tensor, position: Tensor) -> Tensor:
        """The number of the floor cell at each position [B, K, 2]: [B, K], `num_cells` at a wall."""
        return self._cell_at[layout[:, None], position[..., 0], position[..., 1]]


ENVIRONMENT = PaxMen
