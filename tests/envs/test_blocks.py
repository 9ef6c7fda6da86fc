"""Batches on CPU are worked off in blocks, side by side on several threads: neither shows in any number."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from task_lists import ONE_EACH
from wild_states import random_actions

import torch_mars.envs as envs
from torch_mars.envs import pool
from torch_mars.envs.core import fields_of

ROOM = Path(envs.__file__).parent
TASKS = [
    task
    for task in ONE_EACH
    if any("in_blocks(" in path.read_text() for path in (ROOM / envs.family(task)).glob("*.py"))
]
STEPS = 14  # with two time limits on the way


def in_blocks_of(size, seen):
    """`pool.in_blocks` with another size of blocks; `seen` takes the counts and sizes asked for."""

    def in_blocks(loop, count, own_size, *arguments):
        seen.append((count, own_size))
        return pool.in_blocks(loop, count, size or own_size, *arguments)

    return in_blocks


def play(task, count, threads, size, monkeypatch):
    """All that is seen of an episode and a half, and the last State; and the counts and sizes of blocks."""
    importlib.import_module(f"torch_mars.envs.{envs.family(task)}.env")
    seen = []
    before = pool.num_threads()
    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(f"torch_mars.envs.{envs.family(task)}.") and "in_blocks" in vars(module):
                patch.setattr(module, "in_blocks", in_blocks_of(size, seen))
        try:
            pool.set_num_threads(threads)
            env = envs.make(task, count, seed=2, max_steps=6)
            steps, generator = [env.reset()], np.random.default_rng(3)
            steps += [env.step(random_actions(env, generator)) for _ in range(STEPS)]
        finally:
            pool.set_num_threads(before)
    tensors = [tensor for ts in steps for tensor in (ts.obs, ts.state, ts.final_obs, ts.reward, *ts.info.values())]
    return tensors + list(fields_of(env.state).values()), seen


@pytest.mark.parametrize("task", TASKS)
def test_threads_and_blocks_change_nothing(task, monkeypatch):
    whole, seen = play(task, 41, 1, 41, monkeypatch)
    assert seen, "no loop runs in blocks"
    for threads in (1, 2, 3):
        for size in (1, 7, 40):
            in_parts, _ = play(task, 41, threads, size, monkeypatch)
            same = all(torch.equal(a, b) for a, b in zip(in_parts, whole, strict=True))
            assert same, f"{threads} threads, blocks of {size}"


@pytest.mark.parametrize("task", TASKS)
def test_the_own_blocks_change_nothing(task, monkeypatch):
    """Of batches that have two full blocks and a rest."""
    size = max(size for _, size in play(task, 2, 1, None, monkeypatch)[1])
    whole, _ = play(task, 2 * size + 3, 1, 10**9, monkeypatch)
    for threads in (1, 2, 3):
        in_parts, seen = play(task, 2 * size + 3, threads, None, monkeypatch)
        assert (2 * size + 3, size) in seen
        assert all(torch.equal(a, b) for a, b in zip(in_parts, whole, strict=True)), f"{threads} threads"
