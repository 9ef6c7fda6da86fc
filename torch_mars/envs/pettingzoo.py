"""PettingZoo faces of every task: dictionaries by agent name, of NumPy arrays or of batched tensors.

`TaskParallelEnv` is one environment, a `pettingzoo.ParallelEnv`; `BatchedParallelEnv` is B environments whose tensors
stay on their device. Both know no task: everything comes from the `BatchedEnv` (and the scalar engine, where the
environment's package has one). Use them through `torch_mars.envs.parallel_env` and `batched_parallel_env`.
"""

import operator
import secrets
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, TimeStep, may_look
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import allowed_actions
from torch_mars.envs.options import allowed, shown, whole
from torch_mars.envs.window import Window

FRAMES_PER_SECOND = 10


class _Face(ParallelEnv):
    """Names, spaces and checks of actions, by agent."""

    def __init__(self, task: str, rules: BatchedEnv):
        self.rules = rules
        self.metadata = {"name": task, "render_modes": [], "is_parallelizable": True, "render_fps": FRAMES_PER_SECOND}
        self.possible_agents = list(rules.agents)
        self.agents: list[str] = []  # nobody acts before the first reset
        self.state_space = rules.state_space
        # a space of its own for every agent: each samples its own random actions
        self.observation_spaces = {agent: deepcopy(rules.observation_space) for agent in rules.agents}
        self.action_spaces = {agent: deepcopy(rules.action_space) for agent in rules.agents}
        self._is_discrete = isinstance(rules.action_space, spaces.Discrete)

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[self._known(agent)]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[self._known(agent)]

    def _known(self, agent: str) -> str:
        if agent not in self.possible_agents:
            raise KeyError(f"unknown agent {shown(agent)}; {allowed(agent, self.possible_agents)}")
        return agent

    def _check_agents(self, actions: Mapping) -> None:
        """One action for each agent and for nobody else."""
        if not isinstance(actions, Mapping):
            raise ValueError(f"actions are {type(actions).__name__}; they must be a dict by agent name")
        if actions.keys() == set(self.agents):
            return
        for agent in actions:
            if agent not in self.agents:
                raise ValueError(f"action for unknown agent {shown(agent)}; {allowed(agent, self.agents)}")
        missing = [agent for agent in self.agents if agent not in actions]
        raise ValueError(f"no action for {', '.join(missing)}; every agent in `agents` must act")

    def _refuse(self, agent: str, action: Any) -> ValueError:
        allowed_ones = allowed_actions(self.rules.action_space)
        return ValueError(f"action of {agent} is {shown(action)}; allowed are {allowed_ones}")


class TaskParallelEnv(_Face):
    """One environment of a task as a `pettingzoo.ParallelEnv`.

    - Observations are float32 arrays, rewards floats, terminations and truncations bools.
    - Where actions can be forbidden, `infos[agent]["action_mask"]` (int8, 1 = allowed) says which, after `reset` too:
      where PettingZoo's wrappers and TorchRL look, in the form that `Discrete.sample` takes. Observations stay boxes.
    - Agents that are out before the episode ends stay in `agents`, and are given any action; `is_active()` says who.
    - At the end of an episode every info carries `episode_return`, `episode_length` and the environment's metrics, and
      all agents leave `agents`.
    - The first `reset` without a seed draws one from the system; later ones continue the random numbers.

    `engine` is what runs underneath, with `state_dict` and `load_state` for tests and tools.

    Args:
        task: its name.
        engine: what runs it.
        render_mode: None, "rgb_array" (pictures), "human" (a window) or "ansi" (text, where the environment has one).

    Raises:
        ValueError: an unknown render mode.
    """

    def __init__(self, task: str, engine: Engine, render_mode: str | None = None):
        super().__init__(task, engine.rules)
        self.engine = engine
        has_text = type(engine.rules).draw_text is not BatchedEnv.draw_text
        self.metadata["render_modes"] = ["human", "rgb_array"] + (["ansi"] if has_text else [])
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            modes = self.metadata["render_modes"]
            raise ValueError(f"unknown render_mode {shown(render_mode)}; {allowed(str(render_mode), [None, *modes])}")
        self.render_mode = render_mode
        self._has_started = False
        self._window: Window | None = None

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start an episode. `options` is there for PettingZoo and means nothing here.

        Returns:
            observations and infos, by agent.
        """
        if seed is not None:
            seed = whole(seed)
        elif not self._has_started:
            seed = secrets.randbits(63)
        outcome = self.engine.reset(seed)
        self._has_started = True
        self.agents = list(self.possible_agents)
        if self.render_mode == "human":
            self.render()
        return dict(zip(self.agents, outcome.obs)), self._infos(outcome.action_mask)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Move by one step.

        Args:
            actions: for every agent a whole number (Discrete) or an array of numbers (Box).

        Returns:
            observations, rewards, terminations, truncations and infos, by agent.

        Raises:
            ValueError: before `reset`, after the end of an episode, an agent too many or too few, or an action outside
                the action space. The environment is as before.
        """
        if not self.agents:
            when = "after the end of the episode" if self._has_started else "before reset()"
            raise ValueError(f"step() {when}: call reset() first")
        outcome = self.engine.step(self._checked(actions))
        agents = self.agents
        infos = self._infos(outcome.action_mask)
        if outcome.terminated or outcome.truncated:
            for i, agent in enumerate(agents):
                infos[agent].update(self._last_info(i))
            self.agents = []
        if self.render_mode == "human":
            self.render()
        return (
            dict(zip(agents, outcome.obs)),
            dict(zip(agents, outcome.reward.tolist())),
            dict.fromkeys(agents, outcome.terminated),
            dict.fromkeys(agents, outcome.truncated),
            infos,
        )

    def state(self) -> np.ndarray:
        """The global state: float32 [S]."""
        self._check_started("state")
        return self.engine.observe().state

    def is_active(self) -> dict[str, bool] | None:
        """Who still acts, by agent; None where nobody is out before the episode ends.

        It is not in `infos`: TorchRL's wrapper breaks where these say more at the end than after `reset`.
        """
        self._check_started("is_active")
        active = self.engine.is_active()
        return None if active is None else dict(zip(self.possible_agents, active.tolist()))

    def render(self) -> np.ndarray | str | None:
        """A picture uint8 [H, W, 3] ("rgb_array"), a text ("ansi"), or None after showing a window ("human").

        Raises:
            ValueError: before `reset`, or without a render mode.
            RuntimeError: "human" without pygame or a display.
        """
        if self.render_mode is None:
            modes = ", ".join(map(repr, self.metadata["render_modes"]))
            raise ValueError(f"render() without a render_mode: make the environment with one of {modes}")
        self._check_started("render")
        if self.render_mode == "ansi":
            return self.rules.draw_text(self.engine.batched_state(), 0)
        picture = self.rules.draw(self.engine.batched_state(), 0)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            try:
                self._window = Window(self.metadata["name"], picture.shape, FRAMES_PER_SECOND)
            except RuntimeError as error:
                raise RuntimeError(f'render_mode "human": {error}; use "rgb_array"') from None
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if one is open, and end the processes of a foreign environment."""
        self.rules.close()
        if self._window is not None:
            self._window.close()
            self._window = None

    def _check_started(self, function: str) -> None:
        if not self._has_started:
            raise ValueError(f"{function}() before reset(): call reset() first")

    def _infos(self, mask: np.ndarray | None) -> dict[str, dict]:
        if mask is None:
            return {agent: {} for agent in self.agents}
        return {agent: {"action_mask": row} for agent, row in zip(self.agents, mask)}

    def _last_info(self, index: int) -> dict[str, Any]:
        """What the engine says about agent `index` or the team, as Python numbers."""
        info = {}
        for name, value in self.engine.info().items():
            own = value[index] if value.shape[:1] == (self.max_num_agents,) else value
            info[name] = own.item() if own.ndim == 0 else own.copy()
        return info

    def _checked(self, actions: dict[str, Any]) -> np.ndarray:
        """int64 [N] or float32 [N, d]."""
        self._check_agents(actions)
        check = self._checked_number if self._is_discrete else self._checked_array
        rows = [check(agent, actions[agent]) for agent in self.agents]
        return np.array(rows, np.int64 if self._is_discrete else np.float32)

    def _checked_number(self, agent: str, action: Any) -> int:
        try:
            number = operator.index(action)
        except TypeError:
            raise self._refuse(agent, action) from None
        if not 0 <= number < self.rules.action_space.n:
            raise self._refuse(agent, action)
        return number

    def _checked_array(self, agent: str, action: Any) -> np.ndarray:
        space = self.rules.action_space
        try:
            array = np.asarray(action, dtype=np.float32)
        except (TypeError, ValueError):
            raise self._refuse(agent, action) from None
        # written so that NaN, which compares as False, is refused
        if array.shape != space.shape or not ((array >= space.low) & (array <= space.high)).all():
            raise self._refuse(agent, action)
        return array


class BatchedParallelEnv(_Face):
    """B environments of a task: the dictionaries of `TaskParallelEnv`, of tensors [B, ...] on the device.

    What is handed out are views of what `engine` (a `BatchedEnv`) hands out, not copies. Environments whose episode
    ended start the next one within the same step, so agents never leave; `infos[agent]` has `action_mask` [B, A] where
    actions can be forbidden, `is_active` (bool [B]) where agents can be out before the episode ends, and after a step
    `final_obs` [B, O], `final_state` [B, S] (before any such restart), `episode_return`, `episode_length` and the
    environment's metrics [B]. Nothing waits for the device.

    Args:
        task: its name.
        engine: the BatchedEnv.
    """

    def __init__(self, task: str, engine: BatchedEnv):
        super().__init__(task, engine)
        self.engine = engine
        self.num_envs, self.device = engine.num_envs, engine.device
        self._time_step: TimeStep | None = None

    def close(self) -> None:
        """End the processes of a foreign environment."""
        self.engine.close()

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start an episode in every environment; seeds as in `TaskParallelEnv`.

        Returns:
            observations [B, O] and infos, by agent.
        """
        if seed is not None:
            seed = whole(seed)
        elif self._time_step is None:
            seed = secrets.randbits(63)
        self._time_step = self.engine.reset(seed)
        self.agents = list(self.possible_agents)
        return self._by_agent(self._time_step.obs), self._infos(self._time_step, {})

    def step(self, actions: dict[str, Tensor]) -> tuple[dict, dict, dict, dict, dict]:
        """Move every environment by one step.

        Args:
            actions: for every agent a tensor, int64 [B] (Discrete) or float32 [B, d] (Box).

        Returns:
            observations [B, O], rewards [B], terminations [B], truncations [B] and infos, by agent.

        Raises:
            ValueError: before `reset`, an agent too many or too few, a tensor of another shape or kind, or (looked at
                on CPU only) an action outside the action space. The environments are as before.
        """
        if self._time_step is None:
            raise ValueError("step() before reset(): call reset() first")
        ts = self._time_step = self.engine.step(self._checked(actions))
        own = {name: value for name, value in ts.info.items() if value.shape[1:2] == (self.max_num_agents,)}
        team = {name: value for name, value in ts.info.items() if name not in own}
        return (
            self._by_agent(ts.obs),
            self._by_agent(ts.reward),
            dict.fromkeys(self.agents, ts.terminated),
            dict.fromkeys(self.agents, ts.truncated),
            self._infos(ts, {**team, "final_state": ts.final_state}, **own, final_obs=ts.final_obs),
        )

    def state(self) -> Tensor:
        """The global state: float32 [B, S]."""
        if self._time_step is None:
            raise ValueError("state() before reset(): call reset() first")
        return self.engine.observe().state

    def _by_agent(self, tensor: Tensor) -> dict[str, Tensor]:
        """Views along the axis N of a tensor [B, N, ...]."""
        return dict(zip(self.agents, tensor.unbind(1)))

    def _infos(self, ts: TimeStep, team: dict[str, Tensor], **by_agent: Tensor) -> dict[str, dict[str, Tensor]]:
        """For every agent the tensors [B, ...] of the team and its views of those [B, N, ...] by agent."""
        if ts.action_mask is not None:
            by_agent["action_mask"] = ts.action_mask
        if ts.is_active is not None:
            by_agent["is_active"] = ts.is_active
        views = {name: self._by_agent(tensor) for name, tensor in by_agent.items()}
        return {agent: {**team, **{name: view[agent] for name, view in views.items()}} for agent in self.agents}

    def _checked(self, actions: dict[str, Tensor]) -> Tensor:
        """int64 [B, N] or float32 [B, N, d]."""
        self._check_agents(actions)
        space = self.rules.action_space
        shape = (self.num_envs, *space.shape)
        kind = "int64" if self._is_discrete else "float32"
        for agent in self.agents:
            action = actions[agent]
            if not isinstance(action, Tensor):
                raise ValueError(f"action of {agent} is {type(action).__name__}; it must be a tensor {list(shape)}")
            if action.shape != shape:
                raise ValueError(f"action of {agent} has shape {list(action.shape)}; it must be {list(shape)}")
            is_whole = not (action.is_floating_point() or action.is_complex() or action.dtype == torch.bool)
            if is_whole != self._is_discrete:
                raise ValueError(f"action of {agent} is {action.dtype}; it must be torch.{kind}")
            if may_look(action):
                self._check_values(agent, action)
        return torch.stack([actions[agent] for agent in self.agents], 1)

    def _check_values(self, agent: str, action: Tensor) -> None:
        if self._is_discrete:
            is_inside = (action >= 0) & (action < int(self.rules.action_space.n))
        else:
            low, high = (torch.from_numpy(b) for b in (self.rules.action_space.low, self.rules.action_space.high))
            is_inside = ((action >= low) & (action <= high)).all(-1)  # NaN compares as False
        if not is_inside.all():
            raise self._refuse(agent, action[~is_inside][0].tolist())
