"""Whether an environment keeps its promises: what `BatchedEnv` asks of rules, tried on episodes of random play."""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, State, TimeStep, fields_of
from torch_mars.envs.workers import ForeignError

TWIN_EVERY = 3  # steps: a twin that was asked less often has other counters, if it counts
TOLERANCE = 1e-5  # of floats that a batch of another size may round otherwise
FROM_KEY = "; a start must follow from its rng alone, with the draws of torch_mars.envs.rng"
FROM_STATE = "; all that lasts must be in the State, nothing in self, and random numbers drawn from its rng"
EACH_BY_ITSELF = "; rules must treat every environment by itself, and draw from its own rng"


class Conformity:
    """Random play in B copies, each step of which is looked at from several sides.

    Args:
        make: from a number of environments and a seed to the environment.
        steps: how many are played.

    Raises:
        ForeignError: a promise is broken; one sentence says which, and where.
    """

    def __init__(self, make: Any, steps: int, num_envs: int = 6):
        self.make, self.steps = make, steps
        self.env: BatchedEnv = make(num_envs, 3)
        self.twin: BatchedEnv = make(num_envs, 4)
        self.name = type(self.env).__name__
        self.num_ended = self.num_inactive = 0

    def report(self) -> list[str]:
        """What held, a sentence each."""
        self._check_starts()
        for t in range(self.steps):
            self._check_step(t)
        held = [
            "the same seed begins the same episodes, in a batch of any size",
            f"{self.steps} steps of {self.env.num_envs} environments follow from the State and the actions alone",
            "no step changes the State that it was given, no environment another",
            "what is seen lies within observation_space and state_space",
        ]
        if self.num_inactive:
            held.append(f"what inactive agents do changes nothing ({self.num_inactive} actions were exchanged)")
        picture = self.env.draw(self.env.state)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
            raise ForeignError(f"{self.name}: draw(state) must return an array uint8 [H, W, 3]")
        ended = f"{self.num_ended} episodes ended and others began" if self.num_ended else "no episode ended"
        return [*held, f"it can be drawn; {ended}"]

    # ---- what is looked at ----

    def _check_starts(self) -> None:
        env, once_more, alone = self.env, self.make(self.env.num_envs, 5), self.make(1, 3)
        env.reset()
        once_more.reset(seed=3)
        alone.reset()
        self._compare(env.state, once_more.state, "reset(seed=3) begins otherwise than make(seed=3)", FROM_KEY)
        first = env.share(torch.tensor([0])).state
        self._compare(first, alone.state, f"environment 0 begins otherwise alone than among {env.num_envs}", FROM_KEY)

    def _check_step(self, t: int) -> None:
        env, where = self.env, f"at step {t + 1} of random play"
        state, before, actions = env.state, env.state_dict(), env.sample_actions()
        rows = torch.tensor([2, 0])
        alone = env.share(rows)
        self._exchange_inactive(env.share(torch.arange(env.num_envs)), actions, where)
        ts = env.step(actions)
        self._compare(state, before, f"{where} transition changes the State that it was given; make a new one")
        some = alone.step(actions[rows])
        mixed = f"{where} environments 2 and 0 alone go another way than among {env.num_envs}"
        self._compare(_rows(env.state, rows), alone.state, mixed, EACH_BY_ITSELF, TOLERANCE)
        self._compare(_rows(ts, rows), some, mixed, EACH_BY_ITSELF, TOLERANCE)
        if t % TWIN_EVERY == 1:
            self.twin.load_state(before)
            self.twin.step(actions)
            self._compare(env.state, self.twin.state, f"{where} the same State and actions lead elsewhere", FROM_STATE)
        for what, made, space in (("obs", ts.obs, env.observation_space), ("state", ts.state, env.state_space)):
            self._check_bounds(what, made, space, where)
        self.num_ended += int((ts.terminated | ts.truncated).sum())

    def _exchange_inactive(self, env: BatchedEnv, actions: Tensor, where: str) -> None:
        """Whether a step is the same when those who are out do something else."""
        active = env.observe().is_active
        if active is None or active.all():
            return
        self.num_inactive += int((~active).sum())
        others = self.env.sample_actions()
        changed = torch.where(active.view(*active.shape, *[1] * (actions.dim() - 2)), actions, others)
        one, other = env.share(torch.arange(env.num_envs)), env
        one.step(actions)
        other.step(changed)
        self._compare(one.state, other.state, f"{where} an action of an agent that is_active says is out changes it")

    def _check_bounds(self, what: str, made: Tensor, space: gymnasium.spaces.Box, where: str) -> None:
        values = made.cpu().numpy()
        is_out = (values < space.low - TOLERANCE) | (values > space.high + TOLERANCE)
        if is_out.any():
            *_, number = place = tuple(np.argwhere(is_out)[0])
            raise ForeignError(
                f"{self.name}: {where} {what} {[int(i) for i in place]} is {values[place]:g}, outside the space, which "
                f"has {space.low[number]:g} to {space.high[number]:g} there"
            )

    def _compare(self, one: Any, other: Any, words: str, hint: str = "", tolerance: float = 0.0) -> None:
        ones, others = (value if isinstance(value, dict) else _flat(value) for value in (one, other))
        for name in ones:
            if not torch.allclose(ones[name].double(), others[name].double(), tolerance, tolerance, equal_nan=True):
                raise ForeignError(f"{self.name}: {words} ({name!r} differs){hint}")


def _flat(value: State | TimeStep) -> dict[str, Tensor]:
    """Tensors by field, those of `info` too; what is None is left out."""
    fields = fields_of(value)
    fields |= fields.pop("info", {})
    return {name: tensor for name, tensor in fields.items() if isinstance(tensor, Tensor)}


def _rows(value: State | TimeStep, rows: Tensor) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in _flat(value).items()}
