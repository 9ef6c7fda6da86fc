"""Calls from other programs: their numbers, their defaults, their mistakes."""

import contextlib

import pytest
import torch
from task_lists import every_task
from wild_states import as_tensors, random_actions

import numpy as np  # isort: skip
import torch_mars.envs as envs
from torch_mars.envs.core import fields_of


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def walk(task, steps=5, count=4, form=contextlib.nullcontext, **options):
    """Everything that is handed out on a walk, and the States."""
    with form():
        env, generator, seen = envs.make(task, count, seed=3, **options), np.random.default_rng(0), []
        seen.append((env.reset(), env.state))
        for _ in range(steps):
            seen.append((env.step(random_actions(env, generator)), env.state))
    return seen


def assert_same_walk(left, right):
    for t, pairs in enumerate(zip(left, right)):
        for mine, theirs in zip(*pairs):
            mine, theirs = fields_of(mine), fields_of(theirs)
            for one, other in ((mine, theirs), (mine.pop("info", {}), theirs.pop("info", {}))):
                for name, value in one.items():
                    if value is not None:
                        assert value.dtype == other[name].dtype, f"{name} is {value.dtype} in step {t}"
                        assert torch.equal(value, other[name]), f"{name} in step {t}"


@pytest.mark.parametrize("form", [contextlib.nullcontext, as_tensors])
@pytest.mark.parametrize("defaults", [lambda: default_dtype(torch.float64), lambda: torch.device("meta")])
@every_task
def test_the_defaults_of_the_program_mean_nothing(task, defaults, form):
    plain = walk(task, form=form)
    with defaults():
        other = walk(task, form=form)
    assert_same_walk(other, plain)
