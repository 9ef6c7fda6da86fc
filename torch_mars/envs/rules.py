"""What the rules of a user's own environment hand over, looked at while they play: shapes, kinds, and on a CPU numbers.

`env` is a `core.BatchedEnv`, `ts` a `core.TimeStep`. Whatever is wrong is one sentence that says where, what, and what
it must be. The package's own rules are held by tests; foreign ones are looked at where they play (`foreign_worker`).
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.options import shown, whole
from torch_mars.envs.workers import ForeignError

SAID = ("metrics", "headline", "has_shared_reward", "state_is_obs", "takes_any_action", "draws_later", "resume_note")
SIZES = ("num_agents", "max_steps", "observation_space", "action_space", "state_space")


def check_setup(env: Any, base: type) -> None:
    """ValueError unless the class and its `setup` say all that is needed, and nothing that `base` has already."""
    name = type(env).__name__
    for own, value in vars(type(env)).items():
        if own.startswith("_") or own in SIZES or hasattr(base, own) or callable(value):
            continue
        if near := difflib.get_close_matches(own, SAID, 1, 0.85):
            raise ValueError(f"{name}: it says {own}; did you mean {near[0]}?")
    for own in vars(env):
        if callable(getattr(base, own, None)):
            raise ValueError(f"{name}: setup puts a value in the place of {own}(); give it another name")
    for size in SIZES:
        if not hasattr(env, size):
            raise ValueError(f"{name}: setup does not set {size}")
    for count in ("num_agents", "max_steps"):
        if whole(getattr(env, count), f"{name}: {count}") < 1:
            raise ValueError(f"{name}: {count} is {shown(getattr(env, count))}; it must be 1 or more")
    for space in ("observation_space", "state_space"):
        if not _is_vector(getattr(env, space)):
            raise ValueError(f"{name}: {space} is {shown(getattr(env, space))}; it must be a Box of shape (numbers,)")
    actions = env.action_space
    if not _is_vector(actions) and not (isinstance(actions, gymnasium.spaces.Discrete) and actions.start == 0):
        raise ValueError(f"{name}: action_space is {shown(actions)}; it must be a Discrete from 0 on, or a Box of (d,)")
    for metric, kind in env.metrics.items():
        if kind not in ("sum", "last"):
            raise ValueError(f"{name}: metric {metric!r} is {shown(kind)}; it must be 'sum' or 'last'")


def _is_vector(space: Any) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1


def check_step(env: Any, outcome: Any) -> None:
    """ForeignError unless `transition` returned a State, a reward, whether the episode ended, and all metrics."""
    name, where = type(env).__name__, "transition(state, actions)"
    if not isinstance(outcome, tuple) or len(outcome) != 4:
        got = f"{len(outcome)} things" if isinstance(outcome, tuple) else shown(outcome)
        raise ForeignError(f"{name}: {where} returns {got}; it must be State, reward, terminated, metrics")
    state, reward, terminated, metrics = outcome
    if type(state) is not type(env.state):
        raise ForeignError(f"{name}: {where} returns a {type(state).__name__}; it must be a {type(env.state).__name__}")
    B = len(state.step)
    _check(name, "the reward", reward, torch.float32, (B, env.num_agents))
    _check(name, "terminated", terminated, torch.bool, (B,))
    if not isinstance(metrics, Mapping):
        raise ForeignError(f"{name}: {where} returns the metrics {shown(metrics)}; they must be a dict of tensors")
    if missing := [metric for metric in env.metrics if metric not in metrics]:
        raise ForeignError(f"{name}: {where} returns no metric {missing[0]!r}, which the class promises")
    for metric, kind in env.metrics.items():
        of_agents = kind == "last" and isinstance(metrics[metric], Tensor) and metrics[metric].dim() == 2
        shape = (B, env.num_agents) if of_agents else (B,)
        _check(name, f"metric {metric!r}", metrics[metric], None, shape)


def check_seen(env: Any, ts: Any) -> None:
    """ForeignError unless what is seen has the shapes of the spaces."""
    name, (B, N) = type(env).__name__, (env.num_envs, env.num_agents)
    _check(name, "observation(state)", ts.obs, torch.float32, (B, N, env.observation_size))
    _check(name, "global_state(state)", ts.state, torch.float32, (B, env.state_size))
    if ts.action_mask is not None:
        if not isinstance(env.action_space, gymnasium.spaces.Discrete):
            raise ForeignError(f"{name}: action_mask(state) is for a Discrete action_space; return None")
        _check(name, "action_mask(state)", ts.action_mask, torch.bool, (B, N, int(env.action_space.n)))
    if ts.is_active is not None:
        _check(name, "is_active(state)", ts.is_active, torch.bool, (B, N))


def _check(name: str, what: str, made: Any, dtype: torch.dtype | None, shape: tuple[int, ...]) -> None:
    kind = "" if dtype is None else f"{str(dtype).removeprefix('torch.')} "
    if not isinstance(made, Tensor):
        raise ForeignError(f"{name}: {what} is {shown(made)}; it must be a tensor, {kind}{list(shape)}")
    if made.shape != shape or dtype not in (None, made.dtype):
        got = f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}"
        raise ForeignError(f"{name}: {what} is {got}; it must be {kind}{list(shape)}")


def check_values(env: Any, ts: Any) -> None:
    """ForeignError where a number is not finite, which would spoil every gradient, or nothing is allowed."""
    name = type(env).__name__
    for what, values in {"observation": ts.obs, "global_state": ts.state, "reward": ts.reward}.items():
        if not math.isfinite(values.sum().item()) and not values.isfinite().all():
            b, *place = (~values.isfinite()).nonzero()[0].tolist()
            value, step = values[(b, *place)].item(), ts.info["episode_length"][b].item()
            where = f"{what} [{', '.join(map(str, place))}] in environment {b}"
            raise ForeignError(f"{name}: {where} is {value} at step {step:g}; it must be finite")
    if ts.action_mask is not None and not (is_possible := ts.action_mask.any(-1)).all():
        b, agent = (~is_possible).nonzero()[0].tolist()
        raise ForeignError(f"{name}: action_mask forbids agent {agent} in environment {b} everything; allow something")


def check_rewards(env: Any, reward: Tensor) -> None:
    """ForeignError where agents are paid apart without a word: only the first would be learned from."""
    apart = (reward - reward[:, :1]).abs() > 0
    if apart.any():
        b, agent = apart.nonzero()[0].tolist()
        first, other = (np.format_float_positional(reward[b, i].item(), 4, trim="0") for i in (0, agent))
        raise ForeignError(
            f"{type(env).__name__}: agent 0 is paid {first} and agent {agent} {other}, and only agent 0's reward would "
            "count; say has_shared_reward = False in the class"
        )
