"""The only door to the environments: `make`, its PettingZoo and Gymnasium faces, and tasks by name.

`TASKS` are the 47 tasks of the benchmark, `ENVIRONMENTS` groups them; `tasks()` are those that can be made, with the
extensions outside the 47. `register` gives an environment of one's own a name; `make` takes its class, too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from torch_mars.envs.catalogue import (
    ENVIRONMENTS,
    TASKS,
    Task,
    budget,
    find,
    folder_name,
    is_same,
    known,
    listing,
    register,
    tasks,
    title,
    unknown,
)
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.options import make_options, whole

if TYPE_CHECKING:
    from torch_mars.envs.pettingzoo import BatchedParallelEnv, TaskParallelEnv
    from torch_mars.envs.vector import TaskVectorEnv

__all__ = [
    "ENVIRONMENTS",
    "TASKS",
    "Task",
    "batched_parallel_env",
    "budget",
    "check",
    "environment_class",
    "family",
    "find",
    "folder_name",
    "is_same",
    "known",
    "listing",
    "make",
    "parallel_env",
    "register",
    "task_options",
    "tasks",
    "title",
    "unknown",
    "vector_env",
]


def family(task: str) -> str:
    """The environment that a task belongs to, e.g. "paxmen" for "paxmen_5a".

    Raises:
        ValueError: an unknown task, or one whose environment is not built yet.
    """
    return known(task).family


def environment_class(task: str) -> type[BatchedEnv]:
    """The BatchedEnv subclass of a task."""
    return known(task).environment


def task_options(task: str) -> dict[str, Any]:
    """The options that make an environment this task."""
    return dict(known(task).options)


def make(
    task: str | Task | type[BatchedEnv],
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    seed: int | Sequence[int] = 0,
    auto_reset: bool = True,
    **overrides: Any,
) -> BatchedEnv:
    """Make B environments of a task as one batch of tensors.

    Args:
        task: a name from `tasks()`, a class of one's own, `my_module:Gather`, or `pettingzoo:my_module` with anybody's
            `parallel_env` (the module is imported).
        num_envs: B.
        device: where the tensors live.
        seed: an int, or P ints for P equal blocks of consecutive environments.
        auto_reset: start the next episode within the step that ended one.
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`; arguments of
            `parallel_env`.

    Raises:
        ValueError: an unknown task or option, or a value out of range.
    """
    task = find(task)
    return task.environment(num_envs, device, seed, auto_reset, **{**task.options, **overrides})


def check(task: str | Task | type[BatchedEnv], steps: int = 100, **overrides: Any) -> list[str]:
    """Whether an environment of one's own keeps what `BatchedEnv` asks of its rules, tried on random play.

    Args:
        task: a class, or `my_module:Gather` (the module is imported).
        steps: how many are played, by six environments.
        overrides: options of the environment that differ from the task's.

    Returns:
        what held, a sentence each.

    Raises:
        ValueError: it cannot be made, or is a foreign one, which is looked at wherever it plays.
        ForeignError: something does not hold: one sentence that says what, and where.
    """
    from torch_mars.envs.conformity import Conformity

    task = find(task)
    if task.is_foreign:
        raise ValueError(f"{task.name} is a foreign environment, which is looked at in every step that it plays")
    return Conformity(lambda count, seed: make(task, count, "cpu", seed, **overrides), whole(steps, "steps")).report()


def parallel_env(
    task: str | Task | type[BatchedEnv], render_mode: str | None = None, **overrides: Any
) -> "TaskParallelEnv":
    """One environment of a task as a `pettingzoo.ParallelEnv`: dictionaries of NumPy arrays by agent name.

    It runs on the environment's loops where there are some, otherwise on a batch of one.

    Args:
        task: a name from `tasks()`, a class of one's own, or `my_module:Gather` (the module is imported).
        render_mode: None, "rgb_array", "human" or, where the environment has a text picture, "ansi".
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task, option or render mode, or a value out of range.
    """
    from torch_mars.envs.engine import TensorEngine
    from torch_mars.envs.pettingzoo import TaskParallelEnv

    task = _checked(task, overrides)
    rules = make(task, auto_reset=False, **overrides)
    return TaskParallelEnv(task.name, rules.engine() or TensorEngine(rules), render_mode)


def batched_parallel_env(
    task: str | Task | type[BatchedEnv], num_envs: int, device: torch.device | str = "cpu", **overrides: Any
) -> "BatchedParallelEnv":
    """B environments of a task behind PettingZoo's dictionaries by agent name, of tensors [B, ...] on the device.

    Args:
        task: a name from `tasks()`, a class of one's own, or `my_module:Gather` (the module is imported).
        num_envs: B.
        device: where the tensors live.
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task or option, or a value out of range.
    """
    from torch_mars.envs.pettingzoo import BatchedParallelEnv

    task = _checked(task, overrides)
    return BatchedParallelEnv(task.name, make(task, num_envs, device, **overrides))


def vector_env(
    task: str | Task | type[BatchedEnv],
    num_envs: int,
    device: torch.device | str = "cpu",
    agent_id: bool = True,
    render_mode: str | None = None,
    **overrides: Any,
) -> "TaskVectorEnv":
    """B environments of a task as a Gymnasium `VectorEnv` with a row for every agent, NumPy arrays in and out.

    For trainers of single agents: all agents of a task learn as one policy. The vector environment's own `num_envs` is
    the number of its rows, B * N.

    Args:
        task: a name from `tasks()`, a class of one's own, or `my_module:Gather` (the module is imported).
        num_envs: B.
        device: where the environments run.
        agent_id: whether a row's observation begins with the agent's number, one-hot.
        render_mode: None or "rgb_array".
        overrides: options of the environment that differ from the task's, e.g. `max_steps=50`.

    Raises:
        ValueError: an unknown task, option or render mode, or a value out of range.
    """
    from torch_mars.envs.vector import TaskVectorEnv

    task = _checked(task, overrides)
    return TaskVectorEnv(task.name, make(task, num_envs, device, **overrides), agent_id, render_mode)


def _checked(task: str | Task | type[BatchedEnv], overrides: dict[str, Any]) -> Task:
    """The task; what is no option of it is refused, such as the seed, which the users of faces give to `reset`."""
    task = find(task)
    make_options(task.environment.Options, {**task.options, **overrides})
    return task
