"""MPE simple spread: N discs on an unbounded plane cover N landmarks and should not touch each other. Dense reward.

Source: `MPE_simple_spread_v3` of the `jaxmarl` package 0.2.0 (JAX), matched step for step. L = N landmarks.

| | shape | values |
|---|---|---|
| observation | [N, 6N] | own velocity (2), own position (2), landmarks - own position (2L), |
| | | others - own position, by index (2(N-1)), zeros (2(N-1)): their silent communication |
| global state | [6N^2] | the observations of agent 0, 1, ... |
| action | [N, 5] in [0, 1] | nothing, -x, +x, -y, +y: the thrust is 5 (a2 - a1, a4 - a3); not clipped |
| | or [N] in 0..4 | with action_type="discrete": nothing, -x, +x, -y, +y at full thrust |
| reward | [N] | (1 - local_ratio) x the team's - sum of landmarks' distances to their nearest agents, |
| | | - local_ratio x the number of agents that this one touches |
| start | | agents, at rest, and landmarks anywhere in [-1, 1)^2; they may overlap |
| end | | only by the time limit, 26 steps of 0.1 s |
| tasks | | `simple_spread_<N>ag`: N agents and N landmarks |

Every pair of numbers is (x, y); nothing is scaled. The numbers of agent 1 of three: v_x, v_y, x, y; (x, y) of the ways
to landmarks 0, 1, 2; (x, y) of the ways to agents 0, 2; four zeros.

Metrics: `collisions` (pairs touching, summed over the episode), `coverage` (share of landmarks with an agent closer
than 0.15, at the end), `distance` (of a landmark to its nearest agent, mean over the episode; before its end, the part
of it so far).
"""

import dataclasses
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.constants import scalar
from torch_mars.envs.core import FURTHEST, BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.mpe import loops
from torch_mars.envs.mpe.task import (
    ACCELERATION,
    AGENT_RADIUS,
    CONTACT_FORCE,
    CONTACT_MARGIN,
    DAMPING,
    DOWN,
    DT,
    LEFT,
    RIGHT,
    THRUSTS,
    TOUCH,
    UP,
    Options,
    SpreadState,
    observed,
)
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import uniform


class SimpleSpread(BatchedEnv):
    Options = Options
    metrics = {"collisions": "sum", "coverage": "last", "distance": "sum"}
    headline = "coverage"
    has_shared_reward = False
    state_is_obs = True

    def setup(self) -> None:
        self.num_agents = self.options.num_agents
        self.max_steps = self.options.max_steps
        if self.options.action_type == "discrete":
            self.action_space = gymnasium.spaces.Discrete(len(THRUSTS))
        else:
            low = -1.0 if self.options.raw_actions else 0.0
            self.action_space = gymnasium.spaces.Box(low, 1.0, (len(THRUSTS),), np.float32)
        size = sum(observed(self.num_agents).values())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.num_agents * size,), np.float32)

        self.numbers = np.float32(self.options.local_ratio), np.float32(self.max_steps)
        self._block = max(1, loops.PAIRS // self.num_agents**2)
        self._thrusts = torch.tensor(THRUSTS, dtype=torch.float32, device=self.device)
        self._is_other = ~torch.eye(self.num_agents, dtype=torch.bool, device=self.device)
        others = [j for i in range(self.num_agents) for j in range(self.num_agents) if j != i]
        self._others = torch.tensor(others, dtype=torch.int64, device=self.device)  # of agent 0, of agent 1, ...

    def admitted(self, state: SpreadState, given: Collection[str]) -> SpreadState:
        places = (-FURTHEST, FURTHEST)
        check_values(state, given, agent_pos=places, agent_vel=places, landmark_pos=places)
        return state

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> SpreadState:
        """Agents and landmarks anywhere in [-1, 1)^2, at rest; they may overlap."""
        if runs_in_loops(rng):
            rng = rng.clone()
            shape = (2, len(rng), self.num_agents, 2)
            agent_pos, landmark_pos = torch.empty(shape, dtype=torch.float32, device=rng.device).unbind()
            in_blocks(loops.initial_state, len(rng), self._block, *arrays(rng, agent_pos, landmark_pos))
        else:
            numbers, rng = uniform(rng, 4 * self.num_agents)
            agent_pos, landmark_pos = (2 * numbers - 1).view(-1, 2, self.num_agents, 2).unbind(1)
        return SpreadState(
            **self.episode_start(rng),
            agent_pos=agent_pos,
            agent_vel=torch.zeros_like(agent_pos),
            landmark_pos=landmark_pos,
        )

    # ---- step ----

    def transition(self, state: SpreadState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, reward, measures = advance(state, actions)
        return state, reward, torch.zeros_like(state.step, dtype=torch.bool), dict(zip(self.metrics, measures))

    def _advance_in_loops(self, state: SpreadState, actions: Tensor) -> tuple[SpreadState, Tensor, Tensor]:
        """What `advance` does, faster on CPU."""
        agent_pos, agent_vel = own_copies(state, ("agent_pos", "agent_vel")).values()
        reward = agent_pos.new_empty(agent_pos.shape[:2])
        measures = agent_pos.new_empty(len(self.metrics), len(agent_pos))
        parts = loops.parts(*arrays(actions))
        changed = arrays(state.landmark_pos, agent_pos, agent_vel, reward, measures)
        in_blocks(loops.advance, len(actions), self._block, *self.numbers, parts, *changed)
        return dataclasses.replace(state, agent_pos=agent_pos, agent_vel=agent_vel), reward, measures

    def advance(self, state: SpreadState, actions: Tensor) -> tuple[SpreadState, Tensor, Tensor]:
        """The State after a step, the reward [B, N], and float32 [3, B]: collisions, coverage, distance."""
        force = self._thrust(actions) + self._contact(state.agent_pos)
        agent_pos = _on_plane(state.agent_pos + DT * state.agent_vel)  # thrust moves an agent a step later
        agent_vel = _on_plane((1 - DAMPING) * state.agent_vel + DT * force)

        points = torch.cat([state.landmark_pos, agent_pos], 1)
        to_landmarks2, to_agents2 = _apart(points, agent_pos)[1].split(self.num_agents, 1)
        nearest2, touching = self._nearest2(to_landmarks2), self._touching(to_agents2)
        distance, ratio = nearest2.sqrt(), self.options.local_ratio
        reward = (ratio - 1) * distance.sum(1, keepdim=True) - ratio * touching
        collisions, coverage = touching.sum(1) / 2, (nearest2 < AGENT_RADIUS**2).float().mean(1)
        measures = torch.stack([collisions, coverage, distance.mean(1) / self.max_steps])
        return dataclasses.replace(state, agent_pos=agent_pos, agent_vel=agent_vel), reward, measures

    def _thrust(self, actions: Tensor) -> Tensor:
        """[B, N, 2] of actions int64 [B, N] or float32 [B, N, 5]."""
        if self.options.action_type == "discrete":
            return ACCELERATION * self._thrusts[actions]
        forth, back = actions[..., RIGHT : UP + 1 : UP - RIGHT], actions[..., LEFT : DOWN + 1 : DOWN - LEFT]  # x, y
        return ACCELERATION * (forth - back)

    def _contact(self, position: Tensor) -> Tensor:
        """Sum of the forces [B, N, 2] with which the others push each agent away; zero between equal positions."""
        way, distance2 = _apart(position, position)
        distance = torch.nn.functional.threshold(distance2, 0.0, 1.0).sqrt()  # 1 at the same point: no 0 / 0
        overlap = _softplus((TOUCH - distance) / CONTACT_MARGIN) * CONTACT_MARGIN
        push = CONTACT_FORCE * overlap / distance
        return (push * way).sum(3).movedim(0, 2)

    def _nearest2(self, distance2: Tensor) -> Tensor:
        """Squared distance from each landmark to its nearest agent: [B, N]."""
        return distance2.amin(2)

    def _touching(self, distance2: Tensor) -> Tensor:
        """How many others each agent touches: float32 [B, N]."""
        return ((distance2 < TOUCH**2) & self._is_other).sum(2, dtype=torch.float32)

    # ---- what is seen ----

    def perceive(self, state: SpreadState) -> tuple[Tensor, Tensor, None]:
        """The global state is a view of the observations. On CPU by `loops.perceive`, the same faster."""
        B, N, _ = state.agent_pos.shape
        if runs_in_loops(state.agent_pos):
            obs = state.agent_pos.new_empty(B, N, self.observation_size)
            seen = arrays(state.landmark_pos, state.agent_pos, state.agent_vel, obs)
            in_blocks(loops.perceive, B, self._block, *seen)
            return obs, obs.flatten(1), None
        own = state.agent_pos
        landmarks = (state.landmark_pos[:, None] - own[:, :, None]).flatten(2)
        others = (own.index_select(1, self._others).view(B, N, N - 1, 2) - own[:, :, None]).flatten(2)
        silence = scalar(0.0, like=others).expand_as(others)
        obs = torch.cat([state.agent_vel, own, landmarks, others, silence], 2)
        return obs, obs.flatten(1), None

    def observation(self, state: SpreadState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: SpreadState) -> Tensor:
        return self.perceive(state)[1]

    def engine(self) -> Engine:
        return loops.SpreadLoops(self)

    def draw(self, state: SpreadState, index: int = 0, trail: Sequence[SpreadState] = ()) -> np.ndarray:
        from torch_mars.envs.mpe.draw import draw

        check_index(state, index)
        return draw(state, index)


def _on_plane(x: Tensor) -> Tensor:
    """Actions may be as large as float32: so that distances are never infinite, there is an end of the plane."""
    return x.clamp(-FURTHEST, FURTHEST)


def _softplus(x: Tensor) -> Tensor:
    """As torch's, but of functions that round every element alike: the same in batches of any size."""
    return torch.where(x > 20, x, x.exp().log1p())


def _apart(to: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The ways from start [B, J, 2] to the points [B, I, 2], [2, B, I, J]; and their squared lengths [B, I, J]."""
    way = to.movedim(2, 0)[..., None] - start.movedim(2, 0)[:, :, None]
    return way, (way * way).sum(0)


ENVIRONMENT = SimpleSpread
