"""Wild States: whatever numbers somebody may load, in all the forms in which the rules are computed."""

import sys
from contextlib import contextmanager

import gymnasium
import numpy as np
import torch

import torch_mars.envs as envs
from torch_mars.envs.core import fields_of
from torch_mars.envs.engine import TensorEngine

COUNT = 3
NUMBERS = (0, -1, 1, 2, 5, 7, 40, 127, 300, 1e6, -1e6, 2.0**31, 1e18, 1e30, -1e30, 3.4028235e38, -3.4028235e38)
WHOLE = (2**31, 2**53, 2**63 - 1, -(2**63))
WRONG = (float("nan"), float("inf"), -float("inf"))
HOWS = ("all", "one", "mixed", "shuffled", "scaled", "swapped")


@contextmanager
def as_tensors():
    """All rules in the form of tensors, as elsewhere than on CPU."""
    rooms = [module for name, module in sys.modules.items() if name.startswith("torch_mars.envs.")]
    modules = [module for module in rooms if "runs_in_loops" in vars(module)]
    kept = [module.runs_in_loops for module in modules]
    for module in modules:
        module.runs_in_loops = lambda tensor: False
    try:
        yield
    finally:
        for module, function in zip(modules, kept):
            module.runs_in_loops = function


def random_actions(env, generator: np.random.Generator) -> torch.Tensor:
    shape = (env.num_envs, env.num_agents)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.from_numpy(generator.integers(env.action_space.n, size=shape))
    low, high = env.action_space.low, env.action_space.high
    return torch.from_numpy((low + (high - low) * generator.random((*shape, *low.shape))).astype(np.float32))


def wild(value: np.ndarray, how: str, generator: np.random.Generator) -> np.ndarray:
    """A field's array made strange: [B, ...] of its own dtype or, where that cannot hold the numbers, of another."""
    numbers = NUMBERS + WRONG if value.dtype.kind == "f" else NUMBERS[:11] + WHOLE
    array = value.astype(np.float32 if value.dtype.kind == "f" else object)
    flat = array.reshape(-1)
    if how == "all":
        flat[:] = numbers[generator.integers(len(numbers))]
    elif how == "one":
        flat[generator.integers(len(flat))] = numbers[generator.integers(len(numbers))]
    elif how == "mixed":
        flat[:] = [numbers[k] for k in generator.integers(len(numbers), size=len(flat))]
    elif how == "shuffled":
        generator.shuffle(flat)
    elif how == "scaled":
        factor = float(10.0 ** generator.integers(-3, 8)) * generator.choice((-1, 1))
        flat[:] = (flat * factor).astype(np.float32) if value.dtype.kind == "f" else [int(x * factor) for x in flat]
    elif how == "swapped":
        i, j = generator.integers(len(flat), size=2)
        flat[i] = flat[j]
    if array.dtype == object:  # as whoever has it would hand it over
        return np.array([min(max(int(x), -(2**63)), 2**63 - 1) for x in flat]).reshape(value.shape)
    return array


def wild_fields(state: dict, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """One, two or several fields of a `state_dict`, made strange."""
    names = list(state)
    count = int(generator.choice((1, 1, 1, 2, 4)))
    chosen = generator.choice(len(names), size=min(count, len(names)), replace=False)
    return {names[k]: wild(state[names[k]].numpy(), str(generator.choice(HOWS)), generator) for k in chosen}


class Subject:
    """One environment in one form, with a State from the middle of an episode to begin from."""

    def __init__(self, task: str, auto_reset: bool, **options):
        self.env = envs.make(task, COUNT, seed=3, auto_reset=auto_reset, **options)
        one = envs.make(task, auto_reset=False, **options)
        self.engine = one.engine() or TensorEngine(one)
        self.env.reset()
        self.engine.reset(3)
        generator = np.random.default_rng(0)
        self.starts = [self.env.state_dict()]
        for t in range(9):
            self.env.step(random_actions(self.env, generator))
            if t % 4 == 3:
                self.starts.append(self.env.state_dict())

    def batch(self, fields: dict, start: int, generator: np.random.Generator, draws: bool = False) -> bool:
        """Load and go on for five steps; whether it was let in."""
        env = self.env
        env.load_state(self.starts[start])
        before = env.state
        try:
            env.load_state(fields)
        except ValueError as error:
            assert env.state is before and len(str(error)) < 400, error
            return False
        self._look(draws)
        for _ in range(5):
            env.step(random_actions(env, generator))
            self._look(False)
        env.load_state(env.state_dict())  # what a step made of it is let in, too
        self._look(draws)
        return True

    def one(self, fields: dict, start: int, generator: np.random.Generator) -> bool:
        engine, rules = self.engine, self.engine.rules
        engine.load_state({name: value[0].numpy() for name, value in self.starts[start].items()})
        before = engine.state_dict()
        try:
            engine.load_state({name: value[0] for name, value in fields.items()})
        except ValueError:
            after = engine.state_dict()
            assert all(np.array_equal(before[name], after[name]) for name in before)
            return False
        for _ in range(5):
            engine.step(random_actions(rules, generator)[0].numpy())
            engine.observe()
        engine.load_state(engine.state_dict())
        return True

    def _look(self, draws: bool) -> None:
        env = self.env
        ts = env.observe()
        for name, value in fields_of(env.state).items():
            assert not value.is_floating_point() or value.isfinite().all(), f"{name} is no longer finite"
        if draws:
            assert env.draw(env.state, 1, (env.state,)).dtype == np.uint8
            env.draw_text(env.state, 1)
            env.draw_observation(ts.obs[1, 0], 0)
