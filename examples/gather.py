"""Gather: a template of an environment of your own. Agents on a ring walk to fruit; the team is paid for what they eat.

| | shape | values |
|---|---|---|
| observation | [N, 2] | way to the nearest fruit, clockwise positive, / cells; share of the fruit that is left |
| global state | [2 * cells] | agents on every cell, then fruit (0 or 1) |
| action | [N] in 0..2 | 0 stay, 1 clockwise, 2 back; always all allowed |
| reward | [N] | the team's: 1 for every fruit on a cell that an agent comes to |
| start | | agents anywhere, fruit on every other cell |
| end | | all fruit is eaten; or the time limit |

    python -m torch_mars train mars --env examples/gather.py:Gather --total-steps 200k
"""

import dataclasses
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import Tensor

import torch_mars.envs as envs
from torch_mars.envs.core import BatchedEnv, State
from torch_mars.envs.options import at_least
from torch_mars.envs.rng import integers


@dataclass(frozen=True)
class Options:
    num_agents: int = 2
    cells: int = 12
    max_steps: int = 20

    def __post_init__(self):
        at_least(self, 1, "num_agents", "max_steps")
        at_least(self, 2, "cells")


@dataclass
class GatherState(State):  # rng, step and totals are there already; B environments, N agents, C cells
    place: Tensor  # int64 [B, N]
    fruit: Tensor  # bool [B, C]


class Gather(BatchedEnv):
    Options = Options
    metrics = {"eaten": "sum"}  # logged and shown, summed over an episode
    headline = "eaten"  # the one that is shown beside returns

    def setup(self) -> None:
        self.num_agents, self.max_steps, self.cells = (
            self.options.num_agents,
            self.options.max_steps,
            self.options.cells,
        )
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.state_space = gymnasium.spaces.Box(0, self.num_agents, (2 * self.cells,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._step = torch.tensor([0, 1, -1], device=self.device)  # constants are made once, on the device

    def initial_state(self, rng: Tensor) -> GatherState:
        place, rng = integers(rng, self.num_agents, self.cells)
        fruit = (torch.arange(self.cells, device=rng.device) % 2 == 0).repeat(len(rng), 1)
        return GatherState(**self.episode_start(rng), place=place, fruit=fruit)

    def transition(self, state: GatherState, actions: Tensor):
        place = (state.place + self._step[actions]) % self.cells
        eaten = state.fruit & (self._agents_on(place) > 0)
        count = eaten.sum(1)
        state = dataclasses.replace(state, place=place, fruit=state.fruit & ~eaten)
        reward = count.float()[:, None].repeat(1, self.num_agents)
        return state, reward, ~state.fruit.any(1), {"eaten": count}

    def observation(self, state: GatherState) -> Tensor:
        cell = torch.arange(self.cells, device=state.place.device)
        half = self.cells // 2
        way = (cell - state.place[..., None] + half) % self.cells - half  # [B, N, C], the shorter way round
        distance = torch.where(state.fruit[:, None], way.abs(), self.cells)
        nearest = way.gather(2, distance.argmin(2, keepdim=True)).squeeze(2) * state.fruit.any(1, keepdim=True)
        left = state.fruit.float().mean(1, keepdim=True).expand_as(nearest)
        return torch.stack([nearest / self.cells, left], 2)

    def global_state(self, state: GatherState) -> Tensor:
        return torch.cat([self._agents_on(state.place), state.fruit], 1).float()

    def _agents_on(self, place: Tensor) -> Tensor:
        """int64 [B, C]"""
        counts = torch.zeros(len(place), self.cells, dtype=torch.int64, device=place.device)
        return counts.scatter_add(1, place, torch.ones_like(place))

    def draw_text(self, state: GatherState, index: int = 0) -> str:
        """Fruit "o", agents by their number on a cell."""
        agents, fruit = self._agents_on(state.place)[index].tolist(), state.fruit[index].tolist()
        return "".join(str(n) if n else "o" if is_fruit else "." for n, is_fruit in zip(agents, fruit))


envs.register("gather_3", Gather, {"num_agents": 3})
