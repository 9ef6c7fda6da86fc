"""The only door to the environments: `make`, its PettingZoo faces, and the lists of tasks.

`ENVIRONMENTS` groups the 47 tasks of the benchmark by environment, `TASKS` lists them flat; `tasks()` are those that
this version can make, with the extensions outside the 47.
"""

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch_mars.envs.core import BatchedEnv
    from torch_mars.envs.pettingzoo import BatchedParallelEnv, TaskParallelEnv

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "rware": tuple(
        f"rware_{name}"
        for name in (
            "tiny_2ag tiny_2ag_hard tiny_4ag tiny_4ag_hard small_4ag small_4ag_hard medium_4ag medium_4ag_hard "
            "medium_6ag large_4ag large_4ag_hard large_8ag large_8ag_hard xlarge_4ag xlarge_4ag_hard"
        ).split()
    ),
    "smax": tuple(
        f"smax_{name}"
        for name in (
            "2s3z 3s5z 3s_vs_5z 5m_vs_6m 6h_vs_8z 10m_vs_11m 3s5z_vs_3s6z 27m_vs_30m "
            "smacv2_5_units smacv2_10_units smacv2_20_units"
        ).split()
    ),
    "connector": ("connector_5x5x3a", "connector_7x7x5a", "connector_10x10x10a", "connector_15x15x23a"),
    "mpe": ("simple_spread_3ag", "simple_spread_5ag", "simple_spread_10ag"),
    "paxmen": ("paxmen_4a", "paxmen_5a", "paxmen_6a"),
    "aerojax": ("aerojax_2v2", "aerojax_3v3", "aerojax_5v5", "aerojax_8v8"),
    "jaxnav": ("jaxnav_7x7x2a", "jaxnav_9x9x3a", "jaxnav_11x11x4a", "jaxnav_13x13x5a"),
    "search_and_rescue": ("search_and_rescue_2x20", "search_and_rescue_4x40", "search_and_rescue_8x40"),
}
_TITLES = {
    "rware": "RWARE", "smax": "SMAX", "connector": "Connector", "mpe": "MPE", "paxmen": "PaxMen", "aerojax": "AeroJAX",
    "jaxnav": "JaxNav", "search_and_rescue": "Search & Rescue", "all": "all environments",
}  # fmt: skip
TASKS: tuple[str, ...] = tuple(task for group in ENVIRONMENTS.values() for task in group)

# Task -> (environment, its options). The class is `ENVIRONMENT` of envs/<environment>/, imported when needed.
_MAKEABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "paxmen_4a": ("paxmen", {"num_agents": 4}),
    "paxmen_5a": ("paxmen", {"num_agents": 5}),
    "paxmen_6a": ("paxmen", {"num_agents": 6}),
    **{f"aerojax_{n}v{n}": ("aerojax", {"n_allies": n, "n_enemies": n}) for n in (2, 3, 5, 8)},
    **{task: ("smax", {"scenario": task.removeprefix("smax_")}) for task in ENVIRONMENTS["smax"]},
    **{f"simple_spread_{n}ag": ("mpe", {"num_agents": n}) for n in (3, 5, 10)},
    **{f"jaxnav_{w}x{w}x{n}a": ("jaxnav", {"map_size": w, "num_agents": n}) for n, w in enumerate((7, 9, 11, 13), 2)},
    # extensions outside the 47
    "aerojax_5v5_mixed": (
        "aerojax",
        {"n_allies": 5, "n_enemies": 5, "ally_types": (1, 2, 3, 4, 0), "enemy_types": (1, 2, 3, 4, 0)},
    ),
    "aerojax_16v16": ("aerojax", {"n_allies": 16, "n_enemies": 16, "half_size": 3000.0}),
}


def _recipe(task: str) -> tuple[str, dict[str, Any]] | None:
    """A task's environment and its options, also of the JaxNav tasks that have no entry above."""
    if match := re.fullmatch(r"jaxnav_(\d+)x\1x(\d+)a", task):
        return "jaxnav", {"map_size": int(match[1]), "num_agents": int(match[2])}
    return _MAKEABLE.get(task)


def tasks() -> tuple[str, ...]:
    """The tasks that `make` accepts today; it takes JaxNav's of other sizes too, named `jaxnav_<W>x<W>x<N>a`."""
    return tuple(_MAKEABLE)


def family(task: str) -> str:
    """The environment that a task belongs to, e.g. "paxmen" for "paxmen_5a".

    Raises:
        ValueError: an unknown task, or one whose environment is not built yet.
    """
    if recipe := _recipe(task):
        return recipe[0]
    for environment, group in ENVIRONMENTS.items():
        if task in group:
            raise ValueError(
                f"task {task!r} is not available yet: {environment} is still to be built; try {tasks()[0]!r}"
            )
    from torch_mars.envs.options import allowed

    raise ValueError(f"unknown task {task!r}; {allowed(task, tasks())}")


def title(environment: str) -> str:
    """How an environment is written in tables and figures."""
    return _TITLES.get(environment, environment)


def environment_class(task: str) -> "type[BatchedEnv]":
    """The BatchedEnv subclass of a task."""
    return importlib.import_module(f"torch_mars.envs.{family(task)}.env").ENVIRONMENT


def task_options(task: str) -> dict[str, Any]:
    """The options that make an environment this task."""
    family(task)
    return dict(_recipe(task)[1])


def make(
    task: str,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    seed: int | Sequence[int] = 0,
    auto_reset: bool = True,
    **overrides: Any,
) -> "BatchedEnv":
    """Make B environments of a task as one batch of tensors.

    Args:
        task: a name from `tasks()`.
        num_envs: B.
        device: where the tensors live.
        seed: an int, or P ints for P equal blocks of consecutive environments.
        auto_reset: start the next episode within the step that ended one.
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task or option, or a value out of range.
    """
    options = {**task_options(task), **overrides}
    return environment_class(task)(num_envs, device, seed, auto_reset, **options)


def parallel_env(task: str, render_mode: str | None = None, **overrides: Any) -> "TaskParallelEnv":
    """One environment of a task as a `pettingzoo.ParallelEnv`: dictionaries of NumPy arrays by agent name.

    It runs on the environment's scalar engine where there is one, otherwise on a batch of one.

    Args:
        task: a name from `tasks()`.
        render_mode: None, "rgb_array", "human" or, where the environment has a text picture, "ansi".
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task, option or render mode, or a value out of range.
    """
    from torch_mars.envs.pettingzoo import TaskParallelEnv

    _check_options(task, overrides)
    rules = make(task, auto_reset=False, **overrides)
    return TaskParallelEnv(task, rules.engine(), render_mode)


def batched_parallel_env(
    task: str, num_envs: int, device: torch.device | str = "cpu", **overrides: Any
) -> "BatchedParallelEnv":
    """B environments of a task behind PettingZoo's dictionaries by agent name, of tensors [B, ...] on the device.

    Args:
        task: a name from `tasks()`.
        num_envs: B.
        device: where the tensors live.
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task or option, or a value out of range.
    """
    from torch_mars.envs.pettingzoo import BatchedParallelEnv

    _check_options(task, overrides)
    return BatchedParallelEnv(task, make(task, num_envs, device, **overrides))


def _check_options(task: str, overrides: dict[str, Any]) -> None:
    """Refuse what is no option of the environment, such as the seed, which PettingZoo's users give to `reset`."""
    from torch_mars.envs.options import make_options

    make_options(environment_class(task).Options, {**task_options(task), **overrides})
