"""One small environment three times over, so that faces can be held against what other libraries make of it: its rules
as a `BatchedEnv` with one agent, and written again as a `gymnasium.Env`.

A walker starts at 0 on a line and goes left, stays or goes right; it cannot leave 0 to the left, and is told so. At 3
its episode ends by the rules; after 6 steps it ends by the time limit.
"""

import dataclasses
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

from torch_mars.envs.core import BatchedEnv, State

GOAL, MAX_STEPS = 3, 6
OBSERVATIONS = gymnasium.spaces.Box(0, 10, (2,), np.float32)
ACTIONS = gymnasium.spaces.Discrete(3)


@dataclass(frozen=True)
class WalkerOptions:
    pass


@dataclass
class WalkerState(State):
    place: torch.Tensor  # int64 [B]


class Walkers(BatchedEnv):
    """The rules as tensors."""

    Options = WalkerOptions
    metrics = {"moves": "sum", "place": "last"}

    def setup(self):
        self.num_agents, self.max_steps = 1, MAX_STEPS
        self.observation_space, self.action_space = OBSERVATIONS, ACTIONS
        self.state_space = OBSERVATIONS

    def initial_state(self, rng):
        return WalkerState(**self.episode_start(rng), place=torch.zeros_like(rng))

    def transition(self, state, actions):
        place = (state.place + actions[:, 0] - 1).clamp(min=0)
        has_arrived = place == GOAL
        metrics = {"moves": (place != state.place).float(), "place": place.float()}
        return dataclasses.replace(state, place=place), has_arrived.float()[:, None] - 0.25, has_arrived, metrics

    def observation(self, state):
        return torch.stack([state.place, state.step], -1).float()[:, None]

    def global_state(self, state):
        return self.observation(state)[:, 0]

    def action_mask(self, state):
        mask = torch.ones(len(state.place), 1, 3, dtype=torch.bool)
        mask[:, 0, 0] = state.place > 0
        return mask

    def draw(self, state, index=0, trail=()):
        return np.full((2, 4, 3), int(state.place[index]), np.uint8)


class Walker(gymnasium.Env):
    """The rules for one walker; `tells_masks`: in its infos, where nobody else looks for them."""

    observation_space, action_space, metadata = OBSERVATIONS, ACTIONS, {"render_modes": ["rgb_array"]}

    def __init__(self, tells_masks=True, render_mode=None):
        self.tells_masks, self.render_mode = tells_masks, render_mode
        self.metadata = dict(self.metadata)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps, self.moves, self.total = 0, 0, 0, 0.0
        return self.seen(), self.told()

    def step(self, action):
        before, self.steps = self.place, self.steps + 1
        self.place = max(self.place + int(action) - 1, 0)
        self.moves += self.place != before
        has_arrived = self.place == GOAL
        reward = 0.75 if has_arrived else -0.25
        self.total += reward
        is_late = self.steps == MAX_STEPS and not has_arrived
        info = self.told()
        if has_arrived or is_late:  # whoever has ended chooses nothing any more
            info = {
                "episode_return": np.float32(self.total),
                "episode_length": self.steps,
                "moves": np.float32(self.moves),
                "place": np.float32(self.place),
            }
        return self.seen(), reward, has_arrived, is_late, info

    def seen(self):
        return np.array([self.place, self.steps], np.float32)

    def action_masks(self):
        return np.array([self.place > 0, True, True])

    def told(self):
        return {"action_mask": self.action_masks().astype(np.int8)} if self.tells_masks else {}

    def render(self):
        return np.full((2, 4, 3), self.place, np.uint8)


def assert_same(ours, theirs, where=""):
    """Equal values, keys and kinds of arrays, whatever is nested in what."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            assert_same(ours[name], theirs[name], f"{where} {name}")
    elif isinstance(theirs, (list, tuple)) or getattr(theirs, "dtype", None) is np.dtype(object):
        assert len(ours) == len(theirs), where
        for i, (mine, other) in enumerate(zip(ours, theirs)):
            assert_same(mine, other, f"{where} {i}")
    elif isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype, f"{where}: {ours}"
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, f"{where}: {ours} is not {theirs}"
