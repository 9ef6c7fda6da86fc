"""Stable-Baselines3's face of every task: its `VecEnv` of a `vector.TaskVectorEnv`, made by `vector.for_sb3`.

The only file that imports Stable-Baselines3.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from torch_mars.envs import rng
from torch_mars.envs.options import shown


class TaskVecEnv(VecEnv):
    """The rows of a vector environment as Stable-Baselines3's environments.

    - The infos of a row whose episode ended carry `terminal_observation`, `TimeLimit.truncated`, Monitor's
      `episode` (`r`: the sum of the row's own rewards, `l`: steps, `t`: seconds since the environment was made), and
      the team's `episode_return`, `episode_length` and the environment's metrics. Since all that `Monitor` does is
      done, `env_is_wrapped(Monitor)` is true.
    - `env_method("action_masks")` gives the masks bool [A] of the rows, as sb3-contrib's MaskablePPO asks for them.
      Where everything is always allowed, there is no such method.
    - The rows are no environments of their own: any other attribute or method is that of the vector environment, the
      same for all rows, and is set for all or none.
    - `seed(s)` seeds the next reset with s, as a whole.

    Args:
        env: a `vector.TaskVectorEnv`.
    """

    def __init__(self, env: VectorEnv):
        self.env = env
        self._start, self._actions = time.time(), None
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        start = env.engine.initial_state(rng.keys(0, 1, env.engine.device))
        self._has_masks = env.engine.action_mask(start) is not None
        self._masks: np.ndarray | None = None  # bool [rows, A], from the first reset on
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> np.ndarray:
        """Start an episode in every environment: observations [rows, O]."""
        options = next(filter(None, self._options), None)
        obs, infos = self.env.reset(seed=self._seeds[0], options=options)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        self._see_masks(infos)
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """observations [rows, O], rewards [rows], ends [rows] and the infos of every row."""
        obs, rewards, terminated, truncated, infos = self.env.step(self._actions)
        self._see_masks(infos)
        self._returns += rewards
        self._lengths += 1
        ended = terminated | truncated
        by_row = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for row in ended.nonzero()[0]:
            by_row[row] = self._last_info(row, bool(truncated[row]), infos)
        self._returns[ended], self._lengths[ended] = 0, 0
        return obs, rewards, ended, by_row

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of every environment (not of every row, whose pictures would be the same)."""
        if self.render_mode is None:
            return [None] * self.num_envs
        return self.env.render()[:: self.env.num_agents]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        rows = self._get_indices(indices)
        if attr_name == "action_masks":
            self._check_masks()
            return [functools.partial(self._mask, row) for row in rows]
        return [getattr(self.env, attr_name) for _ in rows]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            ValueError: for some of the rows only.
        """
        rows = {row % self.num_envs for row in self._get_indices(indices)}
        if len(rows) < self.num_envs:
            raise ValueError(f"{shown(attr_name)} of rows {shown(sorted(rows))}: the rows are one, so set it for all")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args, indices: VecEnvIndices = None, **method_kwargs) -> list[Any]:
        """The masks of the rows for "action_masks"; else what the vector environment's method returns, for each."""
        if method_name == "action_masks":
            self._check_masks()
            return [self._mask(row) for row in self._get_indices(indices)]
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _see_masks(self, infos: dict[str, Any]) -> None:
        if self._has_masks:
            self._masks = infos["action_mask"].astype(bool)

    def _check_masks(self) -> None:
        if not self._has_masks:  # what sb3-contrib takes for an answer
            raise AttributeError("every action is always allowed here: there are no action_masks")

    def _mask(self, row: int) -> np.ndarray:
        if self._masks is None:
            raise ValueError("action_masks() before reset(): call reset() first")
        return self._masks[row]

    def _last_info(self, row: int, is_truncated: bool, infos: dict[str, Any]) -> dict[str, Any]:
        """The info of a row whose episode ended."""
        last = infos["final_info"]
        metrics = {name: values[row] for name, values in last.items() if not name.startswith("_")}
        episode = {
            "r": round(float(self._returns[row]), 6),
            "l": int(self._lengths[row]),
            "t": round(time.time() - self._start, 6),
        }
        return {
            **metrics,
            "episode": episode,
            "terminal_observation": infos["final_obs"][row],
            "TimeLimit.truncated": is_truncated,
        }
