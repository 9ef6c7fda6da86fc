"""Gymnasium's face of every task: a `VectorEnv` with one row for every agent, NumPy arrays in and out.

Whoever trains single agents in Gymnasium's vector environments trains all agents of a task with shared parameters: the
rows are the agents of environment 0, then of environment 1, ... It knows no task: everything comes from the
`BatchedEnv` underneath. Made by `torch_mars.envs.vector_env`; `for_sb3` hands one to Stable-Baselines3.
"""

import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, TimeStep
from torch_mars.envs.given import allowed_actions
from torch_mars.envs.options import allowed, shown, whole

if TYPE_CHECKING:
    from torch_mars.envs.sb3 import TaskVecEnv

FRAMES_PER_SECOND = 10
_KINDS = {"int64": "iu", "float32": "iuf"}  # what is wanted -> kinds of NumPy's numbers that are taken for it


class TaskVectorEnv(VectorEnv):
    """B environments of a task as a Gymnasium `VectorEnv` of B * N rows: row b * N + n is agent n of environment b.

    - `num_envs` is the number of rows. Observations are float32, rewards float32, ends bool.
    - An observation begins with the agent's number, one-hot, so that one policy can tell agents apart.
    - An environment whose episode ended starts the next one within the same step (`AutoresetMode.SAME_STEP`). All its
      rows end together; then `infos["final_obs"]` has what they saw last, and `infos["final_info"]` the
      `episode_return` and `episode_length` of the team and the environment's metrics, with Gymnasium's masks
      `_final_obs`, ... beside them.
    - Where actions can be forbidden, `infos["action_mask"]` (int8 [rows, A], 1 = allowed) says which, after `reset`
      too: `action_space.sample(tuple(infos["action_mask"]))` draws allowed ones.
    - Where agents can be out before their episode ends, `infos["is_active"]` (bool [rows]) says who still acts.
    - The first `reset` without a seed draws one from the system; later ones continue the random numbers.

    `engine` is the BatchedEnv underneath, whose `observe().state` is the global state [B, S].

    Args:
        task: its name.
        engine: the BatchedEnv.
        agent_id: whether observations begin with the agent's number.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: an unknown render mode, or an agent_id that is no bool.
    """

    def __init__(self, task: str, engine: BatchedEnv, agent_id: bool = True, render_mode: str | None = None):
        if not isinstance(agent_id, bool | np.bool_):
            raise ValueError(f"agent_id is {shown(agent_id)}; it must be true or false")
        if render_mode is not None and not (isinstance(render_mode, str) and render_mode == "rgb_array"):
            modes = allowed(shown(render_mode), [None, "rgb_array"])
            raise ValueError(f"unknown render_mode {shown(render_mode)}; {modes}")
        self.engine, self.render_mode = engine, render_mode
        self.num_agents, self.num_envs = engine.num_agents, engine.num_envs * engine.num_agents
        self.metadata = {
            "name": task,
            "render_modes": ["rgb_array"],
            "render_fps": FRAMES_PER_SECOND,
            "autoreset_mode": AutoresetMode.SAME_STEP,
        }
        self._agent_id = np.eye(self.num_agents, self.num_agents * bool(agent_id), dtype=np.float32)  # [N, N] or [N, 0]
        space, numbers = engine.observation_space, self._agent_id.shape[1]
        low, high = np.zeros(numbers, np.float32), np.ones(numbers, np.float32)
        self.single_observation_space = Box(np.append(low, space.low), np.append(high, space.high), dtype=np.float32)
        self.single_action_space = engine.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._has_started = False

    def close_extras(self, **kwargs: Any) -> None:
        """What `close` does besides: the processes of a foreign environment end."""
        self.engine.close()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: 0 or more; the same starts as those of `make(task, num_envs, seed=seed)`.
            options: none are known.

        Returns:
            observations [rows, O] and infos.

        Raises:
            ValueError: another seed, or an option. Options of the task are given to `vector_env`.
        """
        if options is not None and (not isinstance(options, dict) or options):
            raise ValueError(f"options are {shown(options)}; reset() takes none: vector_env() has those of the task")
        if seed is not None:
            seed = whole(seed)
            if seed < 0:
                raise ValueError(f"seed is {shown(seed)}; it must be a whole number, 0 or more")
        elif not self._has_started:
            seed = secrets.randbits(63)
        super().reset(seed=seed)
        ts = self.engine.reset(seed)
        self._has_started = True
        return self._observations(ts.obs), self._infos(ts)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every environment by one step.

        Args:
            actions: whole numbers [rows] (Discrete) or numbers [rows, d] (Box).

        Returns:
            observations [rows, O], rewards [rows], terminations [rows], truncations [rows] and infos.

        Raises:
            ValueError: before `reset`, or actions of another shape or kind, or outside the action space. The
                environments are as before.
        """
        if not self._has_started:
            raise ValueError("step() before reset(): call reset() first")
        ts = self.engine.step(self._checked(actions))
        terminated, truncated = self._rows(ts.terminated), self._rows(ts.truncated)
        ended = terminated | truncated
        infos = {**self._last_infos(ts, ended), **self._infos(ts)} if ended.any() else self._infos(ts)
        return self._observations(ts.obs), self._rows(ts.reward), terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...]:
        """The picture of its environment for every row, uint8 [H, W, 3]: the rows of one environment share one.

        Raises:
            ValueError: before `reset`, or without a render mode.
        """
        if self.render_mode is None:
            raise ValueError("render() without a render_mode: make the environment with 'rgb_array'")
        if not self._has_started:
            raise ValueError("render() before reset(): call reset() first")
        pictures = (self.engine.draw(self.engine.state, index) for index in range(self.engine.num_envs))
        return tuple(picture for picture in pictures for _ in range(self.num_agents))

    def _observations(self, obs: Tensor) -> np.ndarray:
        """float32 [rows, O] of any number of environments, from obs [B, N, ...]: a new array."""
        seen = obs.cpu().numpy()
        rows = np.empty((*seen.shape[:2], *self.single_observation_space.shape), np.float32)
        numbers = self._agent_id.shape[1]
        rows[..., :numbers], rows[..., numbers:] = self._agent_id, seen
        return rows.reshape(-1, rows.shape[2])

    def _rows(self, values: Tensor) -> np.ndarray:
        """[rows, ...] from [B, N, ...], or from the team's [B, ...] once for every agent."""
        array = values.cpu().numpy()
        if array.shape[1:2] == (self.num_agents,):
            return array.reshape(self.num_envs, *array.shape[2:])
        return array.repeat(self.num_agents, 0)

    def _infos(self, ts: TimeStep) -> dict[str, np.ndarray]:
        """What is said of every row, of its present situation."""
        infos = {}
        if ts.action_mask is not None:
            infos["action_mask"] = self._rows(ts.action_mask).astype(np.int8)
        if ts.is_active is not None:
            infos["is_active"] = self._rows(ts.is_active)
        return infos | {f"_{name}": np.ones(self.num_envs, bool) for name in infos}

    def _last_infos(self, ts: TimeStep, ended: np.ndarray) -> dict[str, Any]:
        """What Gymnasium's own vector environments say of the rows whose episode ended."""
        final_obs = np.full(self.num_envs, None)
        for row, seen in zip(ended.nonzero()[0], self._observations(ts.final_obs[ts.terminated | ts.truncated])):
            final_obs[row] = seen
        final_info = {}
        for name, values in ts.info.items():
            values = self._rows(values)
            final_info[name] = np.zeros_like(values)
            final_info[name][ended] = values[ended]
            final_info[f"_{name}"] = ended.copy()
        return {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info, "_final_info": ended.copy()}

    def _checked(self, actions: Any) -> Tensor:
        """int64 [B, N] or float32 [B, N, d]."""
        space = self.single_action_space
        wanted = "int64" if isinstance(space, Discrete) else "float32"
        shape = (self.num_envs, *space.shape)
        try:
            given = np.asarray(actions)
        except Exception:  # rows of several lengths, or a tensor on a GPU
            raise ValueError(f"actions are {shown(actions)}; they must be an array {list(shape)}") from None
        if given.shape != shape:
            got, one_each = list(given.shape), f"{list(shape)}, a row for each agent"
            raise ValueError(f"actions have shape {got}; they must be {one_each}")
        if given.dtype.kind not in _KINDS[wanted]:
            raise ValueError(f"actions are {given.dtype}; they must be {wanted}")
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            array = np.array(given, wanted, order="C")
        if wanted == "int64":
            is_inside = (given >= 0) & (given < space.n)
        else:  # written so that NaN, which compares as False, is refused
            is_inside = (array >= space.low) & (array <= space.high)
        if not is_inside.all():
            row = int(is_inside.reshape(self.num_envs, -1).all(1).argmin())
            who = f"{self.engine.agents[row % self.num_agents]} in environment {row // self.num_agents}"
            raise ValueError(
                f"action of row {row} ({who}) is {shown(given[row].tolist())}; allowed are {allowed_actions(space)}"
            )
        return torch.from_numpy(array).view(self.engine.num_envs, self.num_agents, *space.shape)


def for_sb3(env: TaskVectorEnv) -> "TaskVecEnv":
    """A vector environment as Stable-Baselines3's `VecEnv`, for its algorithms and those of sb3-contrib.

    Raises:
        ValueError: `env` is not what `vector_env` makes.
        ImportError: Stable-Baselines3 is missing.
    """
    if not isinstance(env, TaskVectorEnv):
        raise ValueError(f"for_sb3 takes what vector_env makes, not {shown(env)}")
    try:
        from torch_mars.envs.sb3 import TaskVecEnv
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] != "stable_baselines3":
            raise
        raise ImportError('for_sb3 needs Stable-Baselines3: pip install "stable-baselines3>=2.9"') from None
    return TaskVecEnv(env)
