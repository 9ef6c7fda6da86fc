"""Actions that are no numbers, and numbers that are no usual actions."""

import contextlib
import math

import gymnasium
import numpy as np
import pytest
import torch
from task_lists import every_task
from wild_states import as_tensors, random_actions

import torch_mars.envs as envs
from torch_mars.envs.core import fields_of

FORMS = {"loops": contextlib.nullcontext, "tensors": as_tensors}
BOXES = {
    "aerojax_2v2": {},
    "jaxnav_7x7x2a": {},
    "search_and_rescue_2x20": {},
    "simple_spread_3ag": {},
    "smax_2s3z": {"action_type": "continuous"},
}
ODD = (math.nan, math.inf, -math.inf)


def is_same(left, right):
    return all(torch.equal(left[name], value) for name, value in right.items())


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("task", [task for task in BOXES if not task.startswith("aerojax")])
def test_actions_that_are_not_finite_are_refused(task, value):
    env, generator = envs.make(task, 3, **BOXES[task]), np.random.default_rng(0)
    env.reset()
    before = env.state_dict()
    for place in ((0, 0, 0), (2, 1, 1)):
        actions = random_actions(env, generator)
        actions[place] = value
        where = rf"action {value} \(number {place[2]} of agent {place[1]} in environment {place[0]}\)"
        with pytest.raises(ValueError, match=where):
            env.step(actions)
        assert is_same(env.state_dict(), before)
    actions[...] = math.inf
    actions[0] = -math.inf  # whose sum is nan
    with pytest.raises(ValueError, match="is refused; allowed are finite numbers"):
        env.step(actions)
    env.step(random_actions(env, generator).double())


@pytest.mark.parametrize("form", FORMS)
def test_the_rules_of_aerojax_say_what_they_mean(form):
    with FORMS[form]():
        one, other = (envs.make("aerojax_2v2", 1, seed=1) for _ in range(2))
        for env in (one, other):
            env.reset()
        one.step(torch.tensor([[[math.inf, -math.inf, math.nan], [math.nan, 7.0, -3e38]]]))
        other.step(torch.tensor([[[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]]))
        assert is_same(one.state_dict(), other.state_dict())
        one.load_state(one.state_dict())


@pytest.mark.parametrize("task", BOXES)
def test_faces_refuse_all_that_is_outside_the_box(task):
    env = envs.parallel_env(task, **BOXES[task])
    batch = envs.batched_parallel_env(task, 2, **BOXES[task])
    env.reset(seed=1), batch.reset(seed=1)
    before, batch_before = env.engine.state_dict(), batch.engine.state_dict()
    for value in (*ODD, 1e30, -7.0):
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        actions["agent_1"][0] = value
        with pytest.raises(ValueError, match="action of agent_1 is .*; allowed are finite arrays"):
            env.step(actions)
        rows = {agent: torch.from_numpy(action).expand(2, -1) for agent, action in actions.items()}
        with pytest.raises(ValueError, match="action of agent_1 is .*; allowed are finite arrays"):
            batch.step(rows)
    assert all(np.array_equal(before[name], value) for name, value in env.engine.state_dict().items())
    assert is_same(batch.engine.state_dict(), batch_before)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", BOXES)
def test_finite_ones_however_large_leave_states_that_can_be_loaded(task, form):
    largest = float(np.finfo(np.float32).max)
    with FORMS[form]():
        env, generator = envs.make(task, 16, auto_reset=False, **BOXES[task]), np.random.default_rng(0)
        env.reset()
        for _ in range(60):
            actions = random_actions(env, generator)
            size = torch.from_numpy(10.0 ** generator.integers(-1, 40, size=actions.shape)).float()
            actions = (actions * size * generator.choice((-1, 1))).nan_to_num().clamp(-largest, largest)
            ts = env.step(actions)
            for name, value in {**fields_of(env.state), "obs": ts.obs, "state": ts.state, "reward": ts.reward}.items():
                assert not value.is_floating_point() or value.isfinite().all(), name
            env.load_state(env.state_dict())


@every_task
def test_actions_of_other_kinds(task):
    env = envs.make(task, 2)
    env.reset()
    before = env.state_dict()
    is_discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    good = random_actions(env, np.random.default_rng(0))
    wrong = [None, good.numpy(), good.tolist(), good[:1], good[..., None], good.to(torch.complex64)]
    wrong += [good.double(), good.bool(), torch.full_like(good, -1), torch.full_like(good, 2**62)] * is_discrete
    for actions in wrong:
        with pytest.raises(ValueError, match="action") as refused:
            env.step(actions)
        assert len(str(refused.value)) < 200
    assert is_same(env.state_dict(), before)
    if not is_discrete:
        env.step(good.requires_grad_())
