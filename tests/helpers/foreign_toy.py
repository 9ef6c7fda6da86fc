"""A toy `pettingzoo.ParallelEnv` as a stranger would write it: no PyTorch, nothing of this package.

Every agent has a number, drawn at the start; actions are added to it, and are what it is paid, times its place.
"""

import os
import time

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Counting(ParallelEnv):
    """
    Args:
        length: steps of an episode, which is then truncated.
        leaves: agent -> the step in which it leaves, terminated.
        full: the number with which an agent leaves, terminated.
        late: agents that are not there at reset, and come in step 2.
        actions: "discrete" (1 to 3), "box" ([0, 2]), or a space that nobody knows: "grid".
        masks: "no", "infos" or "obs": the action that brings an agent's number to a multiple of 4 is forbidden.
        has_state: whether it offers state(); "while it lasts": not at the end of an episode.
        wide: an agent that sees one number more than the others.
        fails: what goes wrong in step `fails_at` of the episode: "raise", "exit", "nan", "reward", "mute", "hang"; or
            at once: "make".
    """

    metadata = {"name": "counting", "render_modes": ["rgb_array"]}

    def __init__(
        self, n=3, length=5, leaves=None, full=np.inf, late=(), actions="discrete", masks="no", has_state=True,
        wide=None, fails=None, fails_at=3, pictures=True, render_mode=None,
    ):  # fmt: skip
        if fails == "make":
            raise OverflowError("too many\nagents")
        self.possible_agents = [f"counter_{i}" for i in range(n)]
        self.length, self.leaves, self.full, self.late, self.masks = length, leaves or {}, full, late, masks
        self.fails, self.fails_at, self.render_mode, self.wide = fails, fails_at, render_mode, wide
        self.actions = {
            "discrete": spaces.Discrete(3, start=1),
            "box": spaces.Box(0, 2, (1,), np.float64),
            "grid": spaces.MultiDiscrete([2, 2]),
        }[actions]
        self.has_state = has_state
        if has_state:
            self.state_space = spaces.Box(-np.inf, np.inf, (n + 1,), np.float64)
        if not pictures:
            self.metadata = {"name": "counting", "render_modes": []}

    def observation_space(self, agent):
        space = spaces.Box(-100, 100, (3 if agent == self.wide else 2,), np.float64)
        return spaces.Dict(observation=space, action_mask=spaces.MultiBinary(3)) if self.masks == "obs" else space

    def action_space(self, agent):
        return self.actions

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.numbers = dict(zip(self.possible_agents, self.random.integers(0, 10, len(self.possible_agents)).tolist()))
        self.time = 0
        self.agents = [agent for agent in self.possible_agents if agent not in self.late]
        return self.seen(self.agents), self.infos(self.agents)

    def step(self, actions):
        assert list(actions) == self.agents, (actions, self.agents)
        self.time += 1
        if self.time == self.fails_at and self.fails:
            self.fail()
        paid = {agent: float(np.sum(action)) for agent, action in actions.items()}
        for agent, gain in paid.items():
            self.numbers[agent] += gain
        rewards = {agent: gain * (1 + self.possible_agents.index(agent)) for agent, gain in paid.items()}
        if self.fails == "reward" and self.time == self.fails_at:
            rewards[self.agents[1]] = float("inf")
        terminations = {
            agent: self.leaves.get(agent) == self.time or self.numbers[agent] >= self.full for agent in self.agents
        }
        truncations = dict.fromkeys(self.agents, self.time >= self.length)
        acted = self.agents
        self.agents = [agent for agent in acted if not (terminations[agent] or truncations[agent])]
        if self.time == 2:
            acted = [*acted, *self.late]
            self.agents = [agent for agent in self.possible_agents if agent in {*self.agents, *self.late}]
        return self.seen(acted), rewards, terminations, truncations, self.infos(acted)

    def fail(self):
        if self.fails == "raise":
            raise ZeroDivisionError("one\nover nothing")
        if self.fails == "exit":
            os._exit(7)
        if self.fails == "hang":
            time.sleep(60)
        if self.fails == "nan":
            self.numbers["counter_1"] = float("nan")

    def seen(self, agents):
        if self.fails == "mute" and self.time == self.fails_at:
            return {}
        found = {agent: np.array([self.numbers[agent], self.time]) for agent in agents}
        if self.masks == "obs":
            return {agent: {"observation": obs, "action_mask": self.mask(agent)} for agent, obs in found.items()}
        return found

    def infos(self, agents):
        return {agent: {"action_mask": self.mask(agent)} if self.masks == "infos" else {} for agent in agents}

    def mask(self, agent):
        return np.array([(self.numbers[agent] + action) % 4 != 0 for action in (1, 2, 3)], np.int8)

    def state(self):
        if self.has_state == "while it lasts":
            _ = self.agents[0]
        return np.array([*self.numbers.values(), self.time])

    def render(self):
        print("a stranger prints while it draws")
        return np.full((20, 30, 3), self.time, np.uint8)


def parallel_env(**kwargs):
    return Counting(**kwargs)
