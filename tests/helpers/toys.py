"""Games that show what a policy can do and what it cannot: remember, take roles of its own."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, State
from torch_mars.envs.rng import integers


@dataclass
class RecallState(State):
    cue: Tensor  # int64 [B, 2]


class Recall(BatchedEnv):
    """Each of two agents sees a cue of its own in the first step, and is paid for naming it in the last, 8 steps on."""

    @dataclass(frozen=True)
    class Options:
        max_steps: int = 9

    metrics = {}
    has_shared_reward = False

    def setup(self):
        self.num_agents, self.max_steps = 2, self.options.max_steps
        self.observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)
        self.state_space = gymnasium.spaces.Box(0, 1, (6,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def initial_state(self, rng):
        cue, rng = integers(rng, 2, 2)
        return RecallState(**self.episode_start(rng), cue=cue)

    def transition(self, state, actions):
        is_last = (state.step == self.max_steps - 1)[:, None]
        reward = ((actions == state.cue) * 2.0 - 1) * is_last
        return state, reward, torch.zeros_like(state.step, dtype=torch.bool), {}

    def observation(self, state):
        is_first = (state.step == 0)[:, None]
        is_last = (state.step == self.max_steps - 1)[:, None].expand(-1, 2)
        return torch.stack([is_first & (state.cue == 0), is_first & (state.cue == 1), is_last], -1).float()

    def global_state(self, state):
        return self.observation(state).flatten(1)


class Roles(BatchedEnv):
    """Three agents see the same, and the team is paid for each that plays its own number."""

    @dataclass(frozen=True)
    class Options:
        max_steps: int = 4

    metrics = {}

    def setup(self):
        self.num_agents, self.max_steps = 3, self.options.max_steps
        self.observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        self.state_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def initial_state(self, rng):
        return State(**self.episode_start(rng))

    def transition(self, state, actions):
        right = (actions == torch.arange(3, device=actions.device)).float().mean(1, keepdim=True)
        return state, right.expand(-1, 3), torch.zeros_like(state.step, dtype=torch.bool), {}

    def observation(self, state):
        return torch.ones(len(state.step), 3, 1, dtype=torch.float32, device=state.step.device)

    def global_state(self, state):
        return self.observation(state)[:, 0]
