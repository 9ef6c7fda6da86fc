"""Foreign environments: any `pettingzoo.ParallelEnv` as a `BatchedEnv`, its copies stepped by processes (`workers.py`).

`environment_of("mpe2.simple_spread_v3")` is the class for a module with a function `parallel_env`. What a foreign
environment must be, and what becomes of its agents, spaces and limits, is told in `docs/your_own.md`.

A copy's State cannot be read: `env.state` holds what its agents see, and which copy it is. So time only goes forward.
"""

import dataclasses
import functools
import inspect
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs import modules, pool, rng
from torch_mars.envs.core import BatchedEnv, State, check_index
from torch_mars.envs.given import as_kind, tensors_of
from torch_mars.envs.options import MOST, shown, whole
from torch_mars.envs.workers import ForeignError, Workers, ask

PREFIX = "pettingzoo:"  # of the names of tasks
COPIES = 4  # that a process has at least: fewer are sooner stepped than asked
MAX_STEPS = 1000  # of an episode, where nothing else is said


@dataclass(frozen=True)
class Form:
    """What a foreign environment is, as one of its kind was found."""

    agents: list  # N, as it calls them
    obs_low: np.ndarray  # float32 [O]
    obs_high: np.ndarray
    is_nested: bool  # what is seen is a dictionary of "observation" and "action_mask"
    has_mask: bool
    has_pictures: bool  # render_mode "rgb_array"
    actions: int | None  # A of Discrete actions, of which the first is `start`
    start: int | None
    action_low: np.ndarray | None  # float32 [d] of Box actions
    action_high: np.ndarray | None
    state_low: np.ndarray | None  # float32 [S], where it offers state() as a list of numbers
    state_high: np.ndarray | None


_forms: dict[tuple[str, bytes], Form] = {}


def form(module: str, kwargs: dict[str, Any]) -> Form:
    """What `parallel_env(**kwargs)` of a module makes; looked at once, in a process of its own.

    Raises:
        ValueError: it makes nothing that can be trained on.
    """
    task = PREFIX + module
    if os.name != "posix":
        raise ValueError(f"{task}: foreign environments need Linux or macOS")
    try:
        key = module, pickle.dumps(kwargs)
    except Exception as error:
        raise ValueError(f"{task}: options are handed to other processes, which these cannot be: {error}") from None
    if key not in _forms:
        try:
            _forms[key] = Form(**pickle.loads(ask({"module": module, "kwargs": kwargs})))
        except ForeignError as error:
            called = f"parallel_env({', '.join(f'{name}={shown(value)}' for name, value in kwargs.items())})"
            raise ValueError(f"{task}: {called}: {error}") from None
    return _forms[key]


@dataclass(frozen=True)
class ForeignOptions:
    """Arguments of the foreign `parallel_env`, and `max_steps`: when an episode that goes on is cut off."""

    module: ClassVar[str]
    kwargs: Mapping[str, Any]
    max_steps: int = MAX_STEPS

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "ForeignOptions":
        """Those of `make`, looked at by making an environment.

        Raises:
            ValueError: with them there is none.
        """
        kwargs, task = dict(options), PREFIX + cls.module
        for name in kwargs:
            if not isinstance(name, str):
                raise ValueError(f"{task}: option {shown(name)} is no name")
        if "render_mode" in kwargs:
            raise ValueError(f"{task}: render_mode is no option; films are made by play")
        max_steps = whole(kwargs.get("max_steps", MAX_STEPS), "max_steps")
        if not 1 <= max_steps <= MOST:
            raise ValueError(f"max_steps is {shown(max_steps)}; it must be between 1 and {MOST}")
        if not _names_max_steps(cls.module):
            kwargs.pop("max_steps", None)
        form(cls.module, kwargs)
        return cls(kwargs, max_steps)


def _names_max_steps(module: str) -> bool:
    """Whether a module's `parallel_env`, which is imported, has a time limit of that name itself."""
    try:
        return "max_steps" in inspect.signature(modules.imported(module).parallel_env).parameters
    except ValueError:  # it is not written in Python
        return False


@dataclass
class ForeignState(State):
    """What is known of B copies."""

    row: Tensor  # int64 [B]: which copies they are
    obs: Tensor  # float32 [B, N, O]
    team: Tensor  # float32 [B, S]: the foreign state(); S = 0 where there is none
    mask: Tensor  # bool [B, N, A]; A = 0 where everything is always allowed
    acting: Tensor  # bool [B, N]: who is to act next


class ForeignEnv(BatchedEnv):
    """B copies of the environment of a foreign module.

    - Agents that left, or are not there yet, see zeros, may do anything and get nothing, until all have left: they are
      not active.
    - Every episode begins with a seed of its own, a function of the copy's key alone: not of how many processes there
      are, nor of what the policy did before.
    - `load_state` takes only what `state_dict` gave, and begins new episodes.
    """

    module: ClassVar[str]
    Options = ForeignOptions
    has_shared_reward = False
    resume_note = "new ones begin: a foreign environment cannot be saved in the middle of one"

    def setup(self) -> None:
        self.name = PREFIX + self.module
        if self.device.type != "cpu":
            raise ValueError(f"{self.name} runs on the CPU: the device must be cpu, not {self.device}")
        self.form = form(self.module, dict(self.options.kwargs))
        self.num_agents, self.max_steps = len(self.form.agents), self.options.max_steps
        self.observation_space = _box(self.form.obs_low, self.form.obs_high)
        self.state_is_obs = self.form.state_low is None
        if self.form.actions is not None:
            self.action_space = gymnasium.spaces.Discrete(self.form.actions)
        else:
            self.action_space = _box(self.form.action_low, self.form.action_high)
        if self.state_is_obs:
            self.state_space = _box(*(np.tile(b, self.num_agents) for b in (self.form.obs_low, self.form.obs_high)))
        else:
            self.state_space = _box(self.form.state_low, self.form.state_high)
        self.has_pictures = self.form.has_pictures and self.num_envs == 1  # nobody looks at one of thousands
        self.draws_later = not self.has_pictures
        self.workers: Workers | None = None  # processes are started by the first reset

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.agents = [str(agent) for agent in self.form.agents]

    # ---- episodes ----

    def initial_state(self, rng: Tensor) -> ForeignState:
        if self.workers is None or not self.workers.is_open:
            self.workers = self._started()
        return self._begin(torch.arange(self.num_envs), rng)

    def next_episode(self, state: ForeignState) -> ForeignState:
        return self._begin(state.row, state.rng)

    def transition(
        self, state: ForeignState, actions: Tensor
    ) -> tuple[ForeignState, Tensor, Tensor, dict[str, Tensor]]:
        if not self.workers.is_open:
            raise ForeignError(f"{self.name}: its processes have been ended: call reset() first")
        arrays, rows = self.workers.arrays, state.row.numpy()
        if (arrays["step"][rows] != state.step.numpy()).any():
            raise ForeignError(f"{self.name}: a State of the past cannot be gone on with; call reset()")
        arrays["action"][rows] = actions.detach().numpy()
        self._have(self.workers.step, rows)
        reward, terminated, truncated = (_taken(arrays, name, rows) for name in ("reward", "terminated", "truncated"))
        return dataclasses.replace(state, **self._seen(rows)), reward, terminated, {"truncated": truncated}

    def count(self, step: Any, totals: Any, reward: Any, terminated: Any, metrics: dict, join: Any) -> tuple:
        step, totals, is_at_limit = super().count(step, totals, reward, terminated, metrics, join)
        return step, totals, is_at_limit | metrics["truncated"]  # by its own time limit

    def observation(self, state: ForeignState) -> Tensor:
        return state.obs

    def global_state(self, state: ForeignState) -> Tensor:
        return state.obs.flatten(1) if self.state_is_obs else state.team

    def action_mask(self, state: ForeignState) -> Tensor | None:
        return state.mask if self.form.has_mask else None

    def is_active(self, state: ForeignState) -> Tensor:
        return state.acting

    def _begin(self, row: Tensor, key: Tensor) -> ForeignState:
        """An episode in the copies `row` [B'], from their keys."""
        seed, key = rng.integers(key, 1, MOST)
        rows = row.numpy()
        self.workers.arrays["seed"][rows] = seed[:, 0].numpy()
        self._have(self.workers.reset, rows)
        return ForeignState(**self.episode_start(key), row=row, **self._seen(rows))

    def _seen(self, rows: np.ndarray) -> dict[str, Tensor]:
        names = {"obs": "obs", "team": "state", "mask": "mask", "acting": "acting"}
        return {field: _taken(self.workers.arrays, name, rows) for field, name in names.items()}

    # ---- processes ----

    def _started(self) -> Workers:
        B, N = self.num_envs, self.num_agents
        S = 0 if self.state_is_obs else self.state_size
        A = self.form.actions if self.form.has_mask else 0
        action = ("int64", (B, N)) if self.form.actions else ("float32", (B, N, len(self.form.action_low)))
        fields = [
            ("wanted", "bool", (B,)),
            ("seed", "int64", (B,)),
            ("step", "int64", (B,)),
            ("action", *action),
            ("obs", "float32", (B, N, self.observation_size)),
            ("state", "float32", (B, S)),
            ("mask", "bool", (B, N, A)),
            ("acting", "bool", (B, N)),
            ("reward", "float32", (B, N)),
            ("terminated", "bool", (B,)),
            ("truncated", "bool", (B,)),
        ]
        kwargs = {**self.options.kwargs, **({"render_mode": "rgb_array"} if self.has_pictures else {})}
        job = {"module": self.module, "kwargs": kwargs, "form": dataclasses.asdict(self.form)}
        return self._have(Workers, processes_for(B), fields, job)

    def _have(self, do: Any, *arguments: Any) -> Any:
        """`do`, whose errors then name the environment."""
        try:
            return do(*arguments)
        except ForeignError as error:
            raise ForeignError(f"{self.name}: {error}") from None

    def close(self) -> None:
        """End the processes. They end by themselves, too, when the environment is forgotten or this process ends."""
        if self.workers is not None:
            self.workers.close()

    # ---- what a foreign environment cannot do ----

    def compile(self, by: Any = None) -> None:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} is no work of PyTorch, which could be compiled")

    def state_dict(self) -> dict[str, Tensor]:
        """The keys of the episodes that are to come: all that can be saved."""
        return {"rng": (self._keys if self.state is None else self.state.rng).clone()}

    def load_state(self, fields: dict[str, Any]) -> None:
        """Begin new episodes, with the keys that `state_dict` gave.

        Raises:
            ValueError: anything else was given.
        """
        current = {"rng": self._keys}
        for name, tensor in tensors_of(fields, current).items():
            self._keys = as_kind(name, tensor, torch.int64).clone()
        self.state = self.initial_state(self._keys)

    def draw(self, state: State, index: int = 0, trail: Sequence[State] = ()) -> np.ndarray:
        """The foreign picture, where there is one; step and return elsewhere.

        Raises:
            ValueError: a picture of the past.
        """
        if not self.has_pictures:
            return super().draw(state, index, trail)
        check_index(state, index)
        if state is not self.state:
            raise ValueError(f"{self.name} can be drawn only as it is now: the state must be env.state")
        return self._have(self.workers.picture)


def processes_for(copies: int) -> int:
    """How many processes step so many copies: as many as there are threads at work, fewer for few copies."""
    return min(pool.num_threads(), -(-copies // COPIES))


@functools.cache
def environment_of(module: str) -> type[ForeignEnv]:
    """The class of the environments that a module's `parallel_env` makes."""
    name = module.rpartition(".")[2]
    options = type("Options", (ForeignOptions,), {"module": module, "__module__": module})
    return type(name, (ForeignEnv,), {"module": module, "Options": options, "__module__": module})


def _box(low: np.ndarray, high: np.ndarray) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(low, high, low.shape, np.float32)


def _taken(arrays: dict[str, np.ndarray], name: str, rows: np.ndarray) -> Tensor:
    """A copy of some rows."""
    return torch.from_numpy(arrays[name][rows])
