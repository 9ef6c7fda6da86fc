"""Toy environments, for what a face must carry and not every environment has: masks, continuous actions, rewards
and metrics of each agent's own, an end by the rules."""

import dataclasses
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

import torch_mars.envs as envs
from torch_mars.envs.core import BatchedEnv, State
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.rng import uniform
from torch_mars.envs.rng_loops import next_uniform


@dataclass(frozen=True)
class ToyOptions:
    max_steps: int = 20
    goal: float = 1e9  # the sum of actions that ends the episode by the rules


@dataclass
class ToyState(State):
    total: torch.Tensor  # float32 [B, 3]: sum of each agent's actions


class Toy(BatchedEnv):
    """Three agents; actions add up. Not every action is always allowed."""

    Options = ToyOptions
    metrics = {"total_by_agent": "last"}
    has_shared_reward = False

    def setup(self):
        self.num_agents, self.max_steps = 3, self.options.max_steps
        self.observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
        self.state_space = gymnasium.spaces.Box(-1000, 1000, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)

    def initial_state(self, rng):
        total, rng = uniform(rng, 3)
        return ToyState(**self.episode_start(rng), total=total)

    def transition(self, state, actions):
        gain = actions.float().flatten(2).mean(2) if actions.dim() == 3 else actions.float()
        state = dataclasses.replace(state, total=state.total + gain)
        return state, gain, state.total.sum(1) > self.options.goal, {"total_by_agent": state.total}

    def observation(self, state):
        return torch.stack([state.total, state.step[:, None].expand(-1, 3)], -1)

    def global_state(self, state):
        return state.total

    def action_mask(self, state):
        return (torch.arange(4, device=state.total.device) + state.total.long()[..., None]) % 4 != 0

    def draw(self, state, index=0, trail=()):
        return np.full((8, 12, 3), int(state.step[index]) % 256, np.uint8)


class ContinuousToy(Toy):
    def setup(self):
        super().setup()
        self.action_space = gymnasium.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))

    def action_mask(self, state):
        return None


class ScalarToy(LoopEngine):
    """The rules of `Toy` for one environment."""

    def start(self):
        for agent in range(3):
            self.fields["total"][agent] = next_uniform(self.fields["rng"])

    def transition(self, actions):
        reward = actions.astype(np.float32)
        self.fields["total"] += reward
        total = self.fields["total"]
        return reward, bool(total.sum() > self.rules.options.goal), {"total_by_agent": total.copy()}

    def perceive(self):
        total, step = self.fields["total"], self.fields["step"]
        obs = np.array([[t, step] for t in total], np.float32)
        mask = np.array([[(a + int(t)) % 4 != 0 for a in range(4)] for t in total], np.int8)
        return obs, total.copy(), mask


class ToyInLoops(Toy):
    def engine(self):
        return ScalarToy(self)


TOYS = {"toy_masked": Toy, "toy_continuous": ContinuousToy, "toy_scalar": ToyInLoops}


def register_toys():
    """From now on the toys are tasks."""
    for task, environment in TOYS.items():
        envs.register(task, environment)
