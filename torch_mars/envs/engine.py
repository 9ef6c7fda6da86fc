"""One environment at a time, arrays in and out: what the PettingZoo face runs on.

`TensorEngine` is any `BatchedEnv` with B = 1. `LoopEngine` is the base of the engine in an environment's `loops.py`,
whose rules are plain loops over the fields of one environment and take microseconds where a batch of one takes
hundreds. Both hold the same State fields without the batch axis and draw the same random numbers, so they move in step.

No PettingZoo here: dictionaries by agent name are the business of `pettingzoo.py`.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch

from torch_mars.envs import rng
from torch_mars.envs.core import BatchedEnv, State, fields_of
from torch_mars.envs.given import tensors_of


class Outcome(NamedTuple):
    """What a reset or a step led to. New arrays every time: the receiver may keep them and write to them."""

    obs: np.ndarray  # float32 [N, O]
    state: np.ndarray  # float32 [S]
    action_mask: np.ndarray | None  # int8 [N, A], 1 = allowed; None where everything always is
    reward: np.ndarray  # float32 [N]
    terminated: bool
    truncated: bool


class Engine(ABC):
    """One environment of a task.

    Args:
        rules: the task as a BatchedEnv with B = 1, which knows names, spaces, limits and pictures.
    """

    def __init__(self, rules: BatchedEnv):
        self.rules = rules

    @abstractmethod
    def reset(self, seed: int | None = None) -> Outcome:
        """Start an episode; without a seed, the random numbers go on where they were."""

    @abstractmethod
    def step(self, actions: np.ndarray) -> Outcome:
        """Move by one step. actions: int64 [N] or float32 [N, d], inside the action space."""

    @abstractmethod
    def observe(self) -> Outcome:
        """The Outcome of the present state, without moving: reward 0, nothing ended."""

    @abstractmethod
    def info(self) -> dict[str, np.ndarray]:
        """Episode return and length so far, and the environment's metrics of the step just taken: [] or [N] each."""

    @abstractmethod
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all State fields, without the batch axis."""

    @abstractmethod
    def load_state(self, fields: dict[str, Any]) -> None:
        """Put a situation in place; fields left out keep their value.

        Raises:
            ValueError: an unknown field, a field of another shape, or a situation that cannot be. The State stays.
        """

    @abstractmethod
    def batched_state(self) -> State:
        """The State as tensors with B = 1, for the functions of `rules`."""

    def is_active(self) -> np.ndarray | None:
        """Who still acts, bool [N], a new array; None where nobody is out before the end."""
        active = self.rules.is_active(self.batched_state())
        return None if active is None else active[0].numpy().copy()


class TensorEngine(Engine):
    """The BatchedEnv itself, with the batch axis taken off."""

    def reset(self, seed: int | None = None) -> Outcome:
        return self._outcome(self.rules.reset(seed))

    def step(self, actions: np.ndarray) -> Outcome:
        return self._outcome(self.rules.step(torch.from_numpy(actions)[None]))

    def observe(self) -> Outcome:
        return self._outcome(self.rules.observe())

    def info(self) -> dict[str, np.ndarray]:
        return {name: value[0].numpy() for name, value in self._time_step.info.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value[0].numpy() for name, value in self.rules.state_dict().items()}

    def load_state(self, fields: dict[str, Any]) -> None:
        self.rules.load_state(_batches_of_one(fields, self.state_dict()))

    def batched_state(self) -> State:
        return self.rules.state

    def _outcome(self, ts) -> Outcome:
        self._time_step = ts
        mask = None if ts.action_mask is None else ts.action_mask[0].numpy().astype(np.int8)
        ended = bool(ts.terminated), bool(ts.truncated)
        return Outcome(ts.obs[0].numpy().copy(), ts.state[0].numpy().copy(), mask, ts.reward[0].numpy(), *ended)


class LoopEngine(Engine):
    """Rules as plain loops. A subclass writes `start`, `transition` and `perceive` on `self.fields`, in place.

    As in `BatchedEnv`, counting steps, the time limit and the sums of an episode are no part of the rules.
    """

    fields: dict[str, np.ndarray]  # State field -> array of one environment

    def __init__(self, rules: BatchedEnv):
        super().__init__(rules)
        state = rules.initial_state(rng.keys(0, 1))
        self._state_type = type(state)
        self.fields = {name: value[0].numpy().copy() for name, value in fields_of(state).items()}
        self._metrics: dict[str, float] = {}

    # ---- the rules: a subclass writes these ----

    @abstractmethod
    def start(self) -> None:
        """Draw the start of an episode with the key `self.fields["rng"]`."""

    @abstractmethod
    def transition(self, actions: np.ndarray) -> tuple[np.ndarray, bool, dict[str, float]]:
        """One step, without counting it: reward [N], terminated, metrics."""

    @abstractmethod
    def perceive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """obs [N, O], state [S], action mask [N, A] or None, as new arrays."""

    # ---- the rest ----

    def of_batch(self, *names: str) -> list[np.ndarray]:
        """State fields with a batch axis of one: the same memory. Not to be kept: a copy of the engine has its own."""
        return [self.fields[name][None] for name in names]

    def reset(self, seed: int | None = None) -> Outcome:
        if seed is not None:
            self.fields["rng"][()] = rng.keys(seed, 1).item()
        self.fields["step"][()] = 0
        self.fields["totals"][:] = 0
        self._metrics = {}
        self.start()
        return self.observe()

    def step(self, actions: np.ndarray) -> Outcome:
        reward, terminated, self._metrics = self.transition(actions)
        step, totals = self.fields["step"], self.fields["totals"]
        counted = self.rules.count(step, totals, reward, np.bool_(terminated), self._metrics, _numbers)
        step[()], totals[:], truncated = counted
        return Outcome(*self.perceive(), reward, terminated, bool(truncated))

    def observe(self) -> Outcome:
        return Outcome(*self.perceive(), np.zeros(self.rules.num_agents, np.float32), False, False)

    def info(self) -> dict[str, np.ndarray]:
        info = {**self._metrics, **self.rules.episode_info(self.fields["step"], self.fields["totals"])}
        return {name: np.array(value) for name, value in info.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self.fields.items()}

    def load_state(self, fields: dict[str, Any]) -> None:
        loaded = self.rules.with_fields(self.batched_state(), _batches_of_one(fields, self.fields))
        for name, value in fields_of(loaded).items():
            self.fields[name][...] = value[0].numpy()

    def batched_state(self) -> State:
        return self._state_type(**{name: torch.from_numpy(value)[None] for name, value in self.fields.items()})


def _numbers(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def _batches_of_one(fields: dict[str, Any], current: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: tensor[None] for name, tensor in tensors_of(fields, current).items()}
