"""The loops of simple spread say what its tensors say, of batches and of one environment: contacts are stiff, so both
start every step from one situation. Among themselves, loops agree to the last bit.
"""

import numpy as np
import pytest
import torch

import torch_mars.envs as envs
from torch_mars.envs.core import FURTHEST, fields_of
from torch_mars.envs.mpe.task import TOUCH

RUNS_IN_LOOPS = "torch_mars.envs.mpe.env.runs_in_loops"


def in_form(monkeypatch, is_loops, function, *args):
    with monkeypatch.context() as patch:
        patch.setattr(RUNS_IN_LOOPS, lambda tensor: is_loops)
        return function(*args)


def pair(num_agents, count, **options):
    return [envs.make("simple_spread_3ag", count, seed=5, num_agents=num_agents, **options) for _ in range(2)]


def random_actions(env, generator):
    shape = (env.num_envs, env.num_agents)
    if env.options.action_type == "discrete":
        return torch.from_numpy(generator.integers(0, 5, shape))
    return torch.from_numpy(generator.uniform(-1, 1, (*shape, 5)).astype(np.float32))


def assert_same(monkeypatch, looped, plain, actions, where):
    """One step of both from the situation of the first; their TimeSteps and States agree."""
    plain.load_state(looped.state_dict())
    left = in_form(monkeypatch, True, looped.step, actions)
    right = in_form(monkeypatch, False, plain.step, actions)
    for name in ("obs", "state", "reward", "final_obs", "final_state"):
        close(getattr(left, name), getattr(right, name), f"{name}, {where}")
    for name in left.info:
        close(left.info[name], right.info[name], f"{name}, {where}")
    assert torch.equal(left.info["collisions"], right.info["collisions"]), where
    assert torch.equal(left.truncated, right.truncated) and not left.terminated.any()
    for name, value in fields_of(looped.state).items():
        close(value, getattr(plain.state, name), f"{name}, {where}")
    return left


def close(left, right, where):
    assert left.dtype == right.dtype and left.shape == right.shape, where
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-5, err_msg=where)


@pytest.mark.parametrize("action_type", ["continuous", "discrete"])
@pytest.mark.parametrize("num_agents", [1, 2, 3, 5, 10, 23])
def test_random_play_is_the_same_in_both_forms(num_agents, action_type, monkeypatch):
    """Whole episodes, starts included, which are drawn alike to the last bit."""
    looped, plain = pair(num_agents, 30, action_type=action_type, local_ratio=0.3)
    generator = np.random.default_rng(num_agents)
    first, other = (in_form(monkeypatch, is_loops, env.reset) for is_loops, env in ((True, looped), (False, plain)))
    assert torch.equal(first.obs, other.obs) and torch.equal(looped.state.rng, plain.state.rng)
    collisions = 0
    for t in range(55):
        ts = assert_same(monkeypatch, looped, plain, random_actions(looped, generator), f"step {t}")
        collisions += ts.info["collisions"].sum().item() if ts.truncated.all() else 0
        if ts.truncated.all():
            for name in ("rng", "agent_pos", "landmark_pos"):
                assert torch.equal(getattr(looped.state, name), getattr(plain.state, name)), f"{name}, step {t}"
    assert collisions > 10 or num_agents < 3


def odd_situations(env, generator):
    """Crowds, agents at one point, exactly touching, at the end of the plane, fast and at rest, any step."""
    B, N = env.num_envs, env.num_agents
    spread = generator.choice([0.0, 1e-30, 1e-20, 1e-6, 0.01, 0.1, 0.3, 1.0, 1e6, FURTHEST], (B, 1, 1))
    agent_pos = generator.uniform(-1, 1, (B, N, 2)) * spread
    in_a_row = generator.random((B, 1)) < 0.3
    steps = np.arange(N) * (TOUCH + generator.choice([0.0, 1e-8, -1e-8, 1e-3, -1e-3, 0.02, 0.1], (B, 1)))
    agent_pos[..., 0] = np.where(in_a_row, steps, agent_pos[..., 0])
    agent_pos[..., 1] = np.where(in_a_row, 0, agent_pos[..., 1])
    is_double = generator.random((B, N)) < 0.2
    agent_pos = np.where(is_double[..., None], agent_pos[:, :1], agent_pos)
    landmark_pos = generator.uniform(-1, 1, (B, N, 2)) * generator.choice([0.0, 0.1, 1.0, FURTHEST], (B, 1, 1))
    landmark_pos = np.where(generator.random((B, N, 1)) < 0.3, agent_pos, landmark_pos)
    agent_vel = generator.choice([0.0, 1e-20, 0.3, -2.0, 1e4, FURTHEST, -FURTHEST], (B, N, 2))
    step = generator.choice([0, 5, 24, 25, 26, 1000, -3], B)
    env.load_state({"agent_pos": agent_pos, "agent_vel": agent_vel, "landmark_pos": landmark_pos, "step": step})


@pytest.mark.parametrize("num_agents", [2, 3, 10])
def test_a_step_from_odd_situations_is_the_same_in_all_three(num_agents, monkeypatch):
    """Tensors, loops over the batch, and the engine of one environment."""
    generator, count = np.random.default_rng(7), 2000
    looped, plain = pair(num_agents, count, auto_reset=False)
    odd_situations(looped, generator)
    before = looped.state_dict()
    plain.load_state(before)
    seen = in_form(monkeypatch, True, looped.observe)
    assert torch.equal(seen.obs, in_form(monkeypatch, False, plain.observe).obs)
    force = torch.from_numpy(generator.choice([1, 0, 3e38], (count, 1, 1))).float()
    actions = random_actions(looped, generator) * force
    ts = assert_same(monkeypatch, looped, plain, actions, "odd situations")
    assert ts.obs.isfinite().all() and ts.reward.isfinite().all()
    engine = looped.engine()
    for i in range(0, count, 7):
        engine.load_state({name: value[i].numpy() for name, value in before.items()})
        np.testing.assert_array_equal(engine.observe().obs, seen.obs[i], err_msg=f"situation {i}")
        outcome = engine.step(actions[i].numpy())
        assert outcome.action_mask is None
        for name in ("obs", "state", "reward"):
            np.testing.assert_array_equal(getattr(outcome, name), getattr(ts, name)[i], err_msg=f"{name}, {i}")
        assert (outcome.terminated, outcome.truncated) == (False, ts.truncated[i].item())
        for name, value in engine.state_dict().items():
            tolerance = 1e-6 if name == "totals" else 0  # means of several agents
            np.testing.assert_allclose(value, getattr(looped.state, name)[i], rtol=tolerance, atol=0, err_msg=name)
        assert engine.info().keys() == ts.info.keys()
        for name, value in engine.info().items():
            np.testing.assert_allclose(value, ts.info[name][i], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("action_type", ["continuous", "discrete"])
def test_the_engine_plays_as_the_batch_does(action_type):
    """Whole episodes to the last bit, restarts included."""
    env = envs.make("simple_spread_5ag", 1, seed=11, action_type=action_type)
    engine, generator = envs.make("simple_spread_5ag", action_type=action_type).engine(), np.random.default_rng(0)
    ts, outcome = env.reset(), engine.reset(11)
    for t in range(60):
        np.testing.assert_array_equal(outcome.obs, ts.obs[0], err_msg=f"step {t}")
        actions = random_actions(env, generator)
        ts, outcome = env.step(actions), engine.step(actions[0].numpy())
        np.testing.assert_array_equal(outcome.reward, ts.reward[0], err_msg=f"step {t}")
        np.testing.assert_array_equal(outcome.obs, ts.final_obs[0], err_msg=f"step {t}")
        if outcome.truncated:
            outcome = engine.reset()


def test_an_environment_is_the_same_in_batches_of_any_size():
    many, generator = envs.make("simple_spread_10ag", 203, seed=4), np.random.default_rng(0)
    many.reset()
    few = envs.make("simple_spread_10ag", 3, auto_reset=True)
    few.load_state({name: value[200:] for name, value in many.state_dict().items()})
    for t in range(30):
        actions = random_actions(many, generator)
        left, right = many.step(actions), few.step(actions[200:])
        assert torch.equal(left.obs[200:], right.obs) and torch.equal(left.reward[200:], right.reward), f"step {t}"
