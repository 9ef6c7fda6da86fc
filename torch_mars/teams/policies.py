"""Trained teams from disk: `load_policy`, behind `torch_mars.load_policy`, and what the commands need besides.

The best teams we have are installed with the package, in `teams/<task>.pt`; the task's name stands for them.

A file is read with `weights_only=True`, so that one from a stranger cannot run code. The network is the `Actor` of the
lesson that trained it; of a lesson that is neither of the package nor imported, the package's own if the weights fit.
No module is imported because a file names it: the task and the lesson of a user's own are imported already, or typed.

Axes: P training seeds of a run, B environments, N agents, O observation, A actions, d dimensions of an action, H what
an agent remembers.
"""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_mars import algos, envs
from torch_mars.envs import rng
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.options import allowed, shown
from torch_mars.nn.distributions import Categorical, TanhNormal
from torch_mars.nn.recurrence import forgotten
from torch_mars.run import files
from torch_mars.run.cli import UsageError, as_path, check_device, short, whole
from torch_mars.run.finding import find_policy
from torch_mars.run.settings import NOT_SETTINGS, convert, task_of_run, typed_task

LARGEST_HIDDEN = 2**16  # more is a damaged file, not a layer


def load_policy(
    path: str | Path, device: str = "cpu", greedy: bool = False, seed: int = 0, policy_seed: int | None = None
) -> "Policy":
    """A trained team as a function from observations to actions; of a recurrent run it remembers, see `Policy.reset`.

    Args:
        path: a run's folder or its `policy.pt` (the best policy), a `checkpoint.pt` (the policy at that update), or
            the name of a task with an installed team. A run on an environment of your own is loaded after its module
            was imported, or its task registered (`torch_mars.envs.register`).
        device: where the network computes.
        greedy: take the most likely action instead of sampling as in training.
        seed: of the sampled actions.
        policy_seed: which of the run's training seeds; None: the one with the best evaluation.

    Raises:
        torch_mars.run.cli.UsageError: no such run, a file that holds no policy, a seed that was not trained, or a
            value of another kind.
    """
    check_device(device)
    seed = whole(seed, "seed")
    policy_seed = None if policy_seed is None else whole(policy_seed, "policy_seed")
    return Policy(read(path), device, greedy, seed, policy_seed)


class Policy:
    """A trained team: `actions = policy(obs, mask)`, for the batched face of an environment and both of PettingZoo.

    | obs | mask (where the task has masks) | actions |
    |---|---|---|
    | [N, O] | [N, A] | int64 [N], or float32 [N, d] in the bounds of the action space |
    | [B, N, O] | [B, N, A] | the same with a leading B |
    | dict by agent of [O] or [B, O] | dict by agent of [A] or [B, A], or the infos that came with obs | dict by agent |

    NumPy arrays are answered with NumPy arrays, tensors with tensors on the device that they came from. A dict may
    leave agents out. Sampled actions use up the random numbers behind `seed`, those of all agents with every call,
    whichever are asked; two policies of one seed act alike.

    A policy of a recurrent run (`has_memory`) also remembers what it saw in earlier calls, for each agent of each
    environment. So `reset` belongs where episodes begin, as with an environment; of other policies it does nothing, so
    the same loop plays all. Agents that a dict leaves out remember what they did before.

    Attributes:
        task: what it was trained on: `envs.make(policy.task, num_envs, **policy.env_options)`.
        env_options: of that task.
        algorithm: "mars", "mappo" or "maspo"; "mars_rnn", ... of a recurrent run.
        has_memory: whether actions follow from earlier observations, too.
        training_seed: which of the run's seeds this is.
        path: the file that it was read from.
    """

    def __init__(self, trained: "Trained", device: str, greedy: bool, seed: int, policy_seed: int | None):
        self.path, self.task, self.env_options = trained.path, trained.task, trained.env_options
        self.algorithm, self.greedy, self.device = trained.algorithm, greedy, torch.device(device)
        p = trained.index(policy_seed)
        self.training_seed = trained.seeds[p]
        env = trained.make_env(1, device)
        self._actor = trained.actor(env, [p])
        self.has_memory, self._memory = has_memory(self._actor), None
        self.agents, self._observation_size, self._action_space = env.agents, env.observation_size, env.action_space
        self._needs_mask = env.reset().action_mask is not None
        self._key = rng.keys([rng.derive(seed, "actions")], 1, self.device)

    def __call__(self, obs: Any, mask: Any = None) -> Any:
        """Actions for observations; see the class for the forms.

        Raises:
            ValueError: an observation or mask of another shape, an unknown agent, no mask where the task has masks, or
                another number of environments than are remembered.
        """
        if isinstance(obs, Mapping):
            return self._by_agent(obs, mask)
        return self._answer(obs, mask, range(len(self.agents)))

    def reset(self, is_start: Any = None) -> None:
        """Forget what was seen; to be called where episodes begin, before their first observations.

        Args:
            is_start: bool [B], array or tensor: in which of the environments of the latest call, as after a step of
                those that restart by themselves, `ts.terminated | ts.truncated`. Of one environment, obs [N, O], a bool
                will do. None: in all of them, and the next may be of another number.

        Raises:
            ValueError: `is_start` is of another kind, or of another number of environments.
        """
        if is_start is None:
            self._memory = None
            return
        if not isinstance(is_start, Tensor):
            is_start = torch.from_numpy(np.array(is_start)) if _is_boolean(is_start) else is_start
        if getattr(is_start, "dtype", None) != torch.bool:
            raise ValueError(f"is_start is {_kind(is_start)}; it must be bool [B], one for each environment")
        if self._memory is None:  # nothing was seen yet, or nothing is remembered of it
            return
        B = len(self._memory)
        if is_start.numel() != B or is_start.dim() > 1:
            raise ValueError(f"is_start is bool {list(is_start.shape)}; it must be bool [{B}], as the latest obs was")
        self._memory = forgotten(self._memory, is_start.to(self.device).view(B))

    @property
    def memory(self) -> Tensor | None:
        """What is remembered, float32 [B, N, H], to be looked at, kept, or put back; None where all episodes begin.

        Raises:
            ValueError: when it is set: another shape or kind, or the policy has no memory.
        """
        return self._memory

    @memory.setter
    def memory(self, memory: Tensor | None) -> None:
        if memory is not None:
            if not self.has_memory:
                raise ValueError(f"memory given, but {self!r} has none")
            shape = list(self._initial_memory(1).shape[1:])
            if not isinstance(memory, Tensor) or not memory.is_floating_point() or list(memory.shape[1:]) != shape:
                wanted = ", ".join(map(str, ["B", *shape]))
                raise ValueError(f"memory is {_kind(memory)}; it must be a tensor, float32 [{wanted}], or None")
            memory = memory.to(self.device, torch.float32)
        self._memory = memory

    def _initial_memory(self, B: int) -> Tensor:
        """[B, N, H]"""
        return self._actor.initial_memory(1, B, len(self.agents))[0]

    def _memory_for(self, B: int) -> Tensor | None:
        """What is remembered of B environments, [B, N, H]; None if nothing ever is."""
        if not self.has_memory:
            return None
        if self._memory is None:
            return self._initial_memory(B)
        if len(self._memory) != B:
            raise ValueError(
                f"obs is of {B} environments, but the policy remembers {len(self._memory)}: call policy.reset() where "
                "all episodes begin, and use a policy for each batch that is played at the same time"
            )
        return self._memory

    def _by_agent(self, obs: Mapping, mask: Mapping | None) -> dict:
        if not obs:
            return {}
        for agent in obs:
            if agent not in self.agents:
                raise ValueError(f"observation of unknown agent {agent!r}; {allowed(agent, self.agents)}")
        places = [self.agents.index(agent) for agent in obs]
        actions = self._answer(_stack(obs, "observation"), None if mask is None else self._masks(mask, obs), places)
        last = -1 - len(self._actor.action_shape)  # the agents' axis
        one_each = actions.unbind(last) if isinstance(actions, Tensor) else np.moveaxis(actions, last, 0)
        return dict(zip(obs, one_each))

    def _masks(self, masks: Mapping, agents: Mapping) -> Any:
        """Those of `agents`, stacked; from masks by agent, or from PettingZoo's infos. None where there are none."""
        own = {agent: masks.get(agent) for agent in agents}
        own = {agent: mask.get("action_mask") if isinstance(mask, Mapping) else mask for agent, mask in own.items()}
        missing = [agent for agent, mask in own.items() if mask is None]
        if len(missing) == len(own):
            return None
        if missing:
            raise ValueError(f"no mask for {', '.join(missing)}")
        return _stack(own, "mask")

    def _answer(self, obs: Any, mask: Any, places: Any) -> Any:
        """Actions of the agents at `places` (K of them) for obs [K, O] or [B, K, O], of the same kind."""
        is_tensor, came_from = isinstance(obs, Tensor), getattr(obs, "device", "cpu")
        obs = _tensor(obs, np.float32, "obs").to(self.device, torch.float32)
        self._check_shape("obs", obs, (len(places), self._observation_size))
        has_batch = obs.dim() == 3
        if mask is not None:
            if not self._actor.is_discrete:
                raise ValueError(f"mask given, but the actions of {self.task} are continuous: leave it out")
            mask = _tensor(mask, np.bool_, "mask").to(self.device, torch.bool)
            self._check_shape("mask", mask, (len(places), int(self._action_space.n)))
            if mask.dim() != obs.dim() or mask.shape[:-1] != obs.shape[:-1]:
                raise ValueError(f"mask is {list(mask.shape)}, obs is {list(obs.shape)}; all but the last must agree")
        elif self._needs_mask:
            raise ValueError(f"no mask given, but {self.task} forbids actions: policy(obs, mask)")
        if not has_batch:
            obs, mask = obs[None], None if mask is None else mask[None]
        actions = self._act(obs, mask, places)
        actions = actions if has_batch else actions[0]
        return actions.to(came_from) if is_tensor else actions.cpu().numpy()

    @torch.no_grad()
    def _act(self, obs: Tensor, mask: Tensor | None, places: Any) -> Tensor:
        """[B, K, ...] from obs [B, K, O]."""
        B, N, places = len(obs), len(self.agents), list(places)
        obs, mask = self._of_all(obs, places), None if mask is None else self._of_all(mask, places)
        before = self._memory_for(B)
        policy, memory = answer(self._actor, obs, mask, before)
        if self.greedy:
            action = policy.mode()
        else:
            noise, self._key = self._actor.noise(self._key, B, *[1] * self.has_memory, N)
            action = policy.sample(noise)
        self._memory = memory if memory is None or len(places) == N else _at(places, memory, before)
        action = self._actor.to_env(action.view(1, B, N, *self._actor.action_shape))[:, places]
        if self._actor.is_discrete:
            return action
        return action.clamp(self._actor.low, self._actor.high)  # rounding must not leave the space

    def _of_all(self, x: Tensor, places: list[int]) -> Tensor:
        """[B, K, ...] of the agents at `places` -> [B, N, ...]; the others have zeros."""
        if places == list(range(len(self.agents))):
            return x
        return x.new_zeros(len(x), len(self.agents), x.shape[-1]).index_copy(
            1, torch.tensor(places, device=x.device), x
        )

    def _check_shape(self, name: str, tensor: Tensor, last: tuple[int, int]) -> None:
        if tensor.dim() not in (2, 3) or tensor.shape[-2:] != last or not len(tensor):
            wanted = f"[{last[0]}, {last[1]}] or [B, {last[0]}, {last[1]}] with a B of 1 or more"
            raise ValueError(f"{name} is {list(tensor.shape)}; for {self.task} it must be {wanted}")

    def __repr__(self) -> str:
        return f"Policy({self.algorithm} on {self.task}, seed {self.training_seed}, from {self.path})"


def _at(places: list[int], new: Tensor, old: Tensor) -> Tensor:
    """[B, N, ...]: `new` of the agents at `places`, `old` of the others."""
    return old.index_copy(1, torch.tensor(places, device=old.device), new[:, places])


def _is_boolean(values: Any) -> bool:
    """Whether NumPy makes an array of booleans of it."""
    try:
        return np.asarray(values).dtype == np.bool_
    except (ValueError, TypeError):
        return False


def _kind(values: Any) -> str:
    """For a message: `float32 [2, 3]`, or the type of what is no array."""
    if not hasattr(values, "dtype") or not hasattr(values, "shape"):
        return type(values).__name__
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"


def _stack(by_agent: Mapping, what: str) -> Any:
    """[O] or [B, O] of each of K agents -> [K, O] or [B, K, O]."""
    rows = list(by_agent.values())
    try:
        return torch.stack(rows, -2) if isinstance(rows[0], Tensor) else np.stack(rows, -2)
    except (ValueError, RuntimeError, TypeError, IndexError):
        raise ValueError(f"the {what}s by agent must be arrays, or tensors, of one shape") from None


def _tensor(values: Any, kind: type, what: str) -> Tensor:
    try:
        return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, kind))
    except (ValueError, TypeError):
        raise ValueError(f"{what} is {type(values).__name__}; it must be an array or a tensor of numbers") from None


# ---- the two kinds of Actors ----


def has_memory(actor: nn.Module) -> bool:
    """Whether a lesson's Actor carries something from step to step, as that of `algos/recurrent.py` does.

    Then `actor.initial_memory(P, S, N)` is a tensor [P, S, N, ...] of zeros, which `actor(obs, mask, memory)` takes
    besides obs [P, S, L, N, O] and mask, and hands on.
    """
    return hasattr(actor, "initial_memory")


def answer(
    actor: nn.Module, obs: Tensor, mask: Tensor | None, memory: Tensor | None
) -> tuple[Categorical | TanhNormal, Tensor | None]:
    """The policy of one training seed (P = 1) at one step of B environments, and what is remembered then.

    Args:
        obs: [B, N, O]. mask: [B, N, A] or None.
        memory: [B, N, H], from before the step; of an Actor without memory it does not count.

    Returns:
        the policy, of actions [1, B, N, ...], with memory [1, B, 1, N, ...]; and memory [B, N, H] or None.
    """
    if not has_memory(actor):
        return actor(obs[None], None if mask is None else mask[None]), None
    policy, memory = actor(obs[None, :, None], None if mask is None else mask[None, :, None], memory[None])
    return policy, memory[0]


# ---- from disk ----


@dataclass(frozen=True)
class Trained:
    """The actors of a run's P training seeds, on the CPU."""

    path: Path
    what: str  # "best policy", "policy after update 20", "policy after 1,000,000 steps"
    algorithm: str
    task: str
    env_options: dict[str, Any]
    seeds: list[int]  # P
    returns: list[float]  # P: of the best evaluation, -inf before the first
    args: Any  # the lesson's Args with what was saved of them: its Actor is made with these
    weights: dict[str, Tensor]  # [P, ...] each
    lesson: ModuleType  # whose Actor and whose evaluation are taken

    def make_env(self, num_envs: int, device: str = "cpu", seed: Any = 0, auto_reset: bool = True) -> BatchedEnv:
        """The environment that the run was trained on."""
        return envs.make(self.task, num_envs, device, seed, auto_reset, **self.env_options)

    def actor(self, env: BatchedEnv, chosen: list[int]) -> nn.Module:
        """The lesson's Actor with the weights of the `chosen` ones of P training seeds, on the environment's device."""
        actor = self.lesson.Actor(env, self.args, [torch.Generator() for _ in chosen])
        actor.load_state_dict({name: weight[chosen] for name, weight in self.weights.items()})
        return actor.to(env.device)

    def index(self, policy_seed: int | None) -> int:
        """Where a training seed is among the run's; None: the one with the best evaluation."""
        if policy_seed is None:
            return max(range(len(self.seeds)), key=lambda p: self.returns[p])
        if policy_seed not in self.seeds:
            trained = f"{self.seeds[0]} to {self.seeds[-1]}" if len(self.seeds) > 1 else f"only {self.seeds[0]}"
            raise UsageError(f"policy seed {policy_seed} is not in {self.path}; it was trained with {trained}")
        return self.seeds.index(policy_seed)


def read(path: str | Path, env: str | None = None, lesson: str | None = None) -> Trained:
    """The actors in a run's folder (its best policies), a `policy.pt`, a `checkpoint.pt`, or installed for a task.

    Args:
        env: the task as the user typed it again, which an own environment needs whose module is not imported.
        lesson: likewise the lesson, by its module.

    Raises:
        UsageError: there is no run, or the file holds no policy that this version can use.
    """
    path = as_path(path)
    file = find_policy(path)
    content = files.load_checkpoint(file)
    try:
        head = {
            "task": task_of_run(content["task"], typed_task(env).name if env else None),
            "algorithm": content["algorithm"],
            "lesson": _lesson_of(content["algorithm"], lesson),
        }
        is_checkpoint = "learner" in content
        trained = _of_checkpoint(file, content, head, path) if is_checkpoint else _of_policy(file, content, head)
        actor = trained.actor(trained.make_env(1), list(range(len(trained.seeds))))
        files.check_like(trained.weights, actor.state_dict(), "actor")
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, StopIteration) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        algorithm = content.get("algorithm")
        if isinstance(algorithm, str) and lesson is None and algos.known(algorithm) is None:
            reason = f"it is of lesson {algorithm!r}, whose Actor is not the package's: add --lesson <its module>"
        raise UsageError(f"{file} holds no policy that this version of torch_mars can use: {short(reason)}") from None
    return trained


def add_own(parser: argparse.ArgumentParser) -> None:
    """To a command that takes a run: the flags that name again what the run has of the user's own."""
    add = parser.add_argument
    add("--env", metavar="TASK", help="the run's task, typed again: needed for an environment of your own, "
        "my_module:MyEnvironment")  # fmt: skip
    add(
        "--lesson",
        metavar="MODULE",
        help="the module of the run's lesson: needed for one of your own with another Actor",
    )


def task_or_path(what: str) -> envs.Task | None:
    """The task of which somebody typed the name where a run may stand, too; None for a path.

    Raises:
        UsageError: it can only be a name, and there is no task and no run of it.
    """
    if ":" in what and os.path.exists(what):
        return None
    try:
        return envs.find(what)
    except (ValueError, OSError, RuntimeError) as error:  # a path that is too long, a home folder that is not there
        is_path = ":" not in what and ("/" in what or what.endswith(".pt"))
        if is_path or os.path.exists(what):
            return None
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"there is no run {short(what)}; {reason}") from None


def _lesson_of(algorithm: str, typed: str | None) -> ModuleType:
    """The typed lesson, else the one of that name; where nobody imported it, one of the package: their Actor is one."""
    if typed is None:
        return algos.known(algorithm) or algos.lesson(algos.LESSONS[0])
    try:
        lesson = algos.lesson(typed)
    except ValueError as error:
        raise UsageError(f"--lesson: {error}") from None
    if algorithm not in algos.algorithms(lesson):
        raise UsageError(f"--lesson: {typed} is {lesson.ALGORITHM!r}, but the policy is of {algorithm!r}")
    return lesson


def _of_policy(file: Path, content: dict, head: dict) -> Trained:
    returns = [float(value) for value in content["returns"]]
    what = f"policy after {content['after_steps']:,} steps" if "after_steps" in content else "best policy"
    return _trained(file, what, head, content["settings"], content["actor"], returns)


def _of_checkpoint(file: Path, content: dict, head: dict, asked: Path) -> Trained:
    """The latest policy if the file was asked for; for the run, the best so far if there was an evaluation."""
    settings = files.read_yaml(file.parent / "config.yaml")
    best, update = content["best"], content["update"]
    if not envs.is_same(envs.known(head["task"]), settings["env"]):
        raise ValueError(f"it is of task {content['task']!r}, the config.yaml beside it of {settings['env']!r}")
    returns = [float(value) for value in best["returns"]]
    if asked.is_dir() and min(returns) > -float("inf"):
        return _trained(file, f"best policy up to update {update}", head, settings, best["weights"], returns)
    return _trained(file, f"policy after update {update}", head, settings, content["learner"]["actor"], returns)


def _trained(file: Path, what: str, head: dict, settings: dict, weights: dict, returns: list[float]) -> Trained:
    options, P = dict(settings["env_options"]), len(next(iter(weights.values())))
    if len(returns) != P:
        raise ValueError(f"weights of {P} seeds, returns of {len(returns)}")
    for name, least, most in (("seed", 0, 2**63), ("hidden_size", 1, LARGEST_HIDDEN)):
        if type(settings[name]) is not int or not least <= settings[name] < most:
            raise ValueError(f"{name} is {str(settings[name])[:40]}")
    longest = max(max(weight.shape, default=0) for weight in weights.values())
    if head["lesson"].ALGORITHM in algos.LESSONS and settings["hidden_size"] > longest:  # before as much is made
        raise ValueError(f"hidden_size is {settings['hidden_size']}, but no weight is longer than {longest}")
    seeds = [settings["seed"] + p for p in range(P)]
    methods = list(getattr(head["lesson"], "METHODS", ()))  # of a lesson for several
    if methods and settings.get("method", methods[0]) not in methods:
        raise ValueError(f"method is {shown(settings['method'])}; {allowed(str(settings['method']), methods)}")
    lesson = head["lesson"]
    args = _args_of(algos.algorithms(lesson).get(head["algorithm"], lesson.Args), settings)
    return Trained(
        path=file, what=what, env_options=options, seeds=seeds, returns=returns, args=args, weights=weights, **head,
    )  # fmt: skip


def _args_of(args_type: type, settings: dict) -> Any:
    """The lesson's Args with its defaults where a setting was not saved, as older runs have fewer.

    Raises:
        ValueError: a value is not of the kind that the setting has.
    """
    names = [field.name for field in dataclasses.fields(args_type) if field.name in settings]
    names = [name for name in names if name not in NOT_SETTINGS]  # older runs saved them
    try:
        return args_type(**convert(args_type, {name: settings[name] for name in names}, "the policy"))
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--")) from None
