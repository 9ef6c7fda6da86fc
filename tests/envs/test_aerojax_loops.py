"""The loops of AeroJAX against the tensors: from equal states equal up to float32 rounding, as a batch and as one.

A comparison of two numbers that are equal up to rounding may fall otherwise (is it in the cone?): a step in which one
did is counted, and there are next to none.
"""

import math

import numpy as np
import pytest
import torch

import torch_mars.envs as envs
from torch_mars.envs import pool, rng, rng_loops
from torch_mars.envs.aerojax import vectors_loops
from torch_mars.envs.core import fields_of

RUNS_IN_LOOPS = "torch_mars.envs.aerojax.env.runs_in_loops"
# largest difference after one step from the same state; positions reach 2000 m, where float32 is 1e-4 m apart
CLOSE = {
    "position": 5e-4,
    "velocity": 1e-4,
    "lift_dir": 2e-5,  # how far a pilot rolls can hang on the difference of two large numbers
    "alpha": 1e-5,
    "throttle": 1e-5,
    "health": 1e-5,
    "totals": 1e-5,
}
TASKS = ["aerojax_2v2", "aerojax_3v3", "aerojax_5v5_mixed", "aerojax_8v8", "aerojax_16v16"]


@pytest.fixture
def in_form(monkeypatch):
    """Call a function in one of the two forms."""

    def call(form, function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(RUNS_IN_LOOPS, lambda tensor: form == "loops")
            return function(*args)

    return call


def differing(env, other):
    """bool [B]: environments in which something counted, or true of one, is not of the other."""
    names = ("status", "lock_steps", "detected", "under_fire")
    return torch.stack([(getattr(env.state, k) != getattr(other.state, k)).flatten(1).any(1) for k in names]).any(0)


def assert_close(plain, looped, ts, loop_ts, where):
    """Two batches after a step from the same State; returns how many environments went another way."""
    differs = differing(plain, looped)
    same = ~differs
    for name in ("rng", "step"):
        assert torch.equal(getattr(plain.state, name), getattr(looped.state, name)), f"{where} {name}"
    for name, atol in CLOSE.items():
        left, right = getattr(looped.state, name)[same], getattr(plain.state, name)[same]
        np.testing.assert_allclose(left, right, atol=atol, rtol=0, err_msg=f"{where} {name}")
    for name in ("obs", "state", "final_obs", "final_state", "reward"):
        left, right = getattr(loop_ts, name)[same], getattr(ts, name)[same]
        atol = 1e-6 if name == "reward" else 1e-5
        np.testing.assert_allclose(left, right, atol=atol, rtol=1e-5, err_msg=f"{where} {name}")
    for name in ("terminated", "truncated"):
        assert torch.equal(getattr(loop_ts, name)[same], getattr(ts, name)[same]), f"{where} {name}"
    assert list(loop_ts.info) == list(ts.info)
    for name, value in ts.info.items():
        assert loop_ts.info[name].dtype == value.dtype, name
        np.testing.assert_allclose(loop_ts.info[name][same], value[same], atol=1e-4, rtol=0, err_msg=f"{where} {name}")
    return int(differs.sum())


def assert_same(engine, outcome, env, ts, b, where):
    """One environment in loops is environment b of a batch in loops, to the bit."""
    for name, value in engine.state_dict().items():
        np.testing.assert_array_equal(value, getattr(env.state, name)[b], err_msg=f"{where} {name}")
    for name in ("obs", "state", "reward"):
        np.testing.assert_array_equal(getattr(outcome, name), getattr(ts, name)[b], err_msg=f"{where} {name}")
    assert (outcome.terminated, outcome.truncated) == (ts.terminated[b].item(), ts.truncated[b].item()), where
    assert engine.info().keys() == ts.info.keys()
    for name, value in engine.info().items():
        assert float(value) == float(ts.info[name][b]), f"{where} {name}"


def situations(task, count, seed, **overrides):
    """A batch of aircraft anywhere, flying any way, some dead, some nearly touching, over walls and ground."""
    generator = torch.Generator().manual_seed(seed)
    env = envs.make(task, count, seed=seed, auto_reset=False, **overrides)
    env.reset()
    A = env.num_aircraft

    def rand(*shape):
        return torch.rand(count, A, *shape, generator=generator)

    velocity = torch.randn(count, A, 3, generator=generator)
    velocity = velocity / velocity.norm(dim=2, keepdim=True) * (40 + 200 * rand(1))
    sideways = torch.cross(velocity, torch.randn(count, A, 3, generator=generator), dim=2)
    centre = (torch.rand(count, 1, 3, generator=generator) - 0.5) * torch.tensor([3800.0, 3800.0, 2800.0])
    spread = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, 900.0, 60.0)
    position = centre + torch.tensor([0.0, 0.0, 1500.0]) + (rand(3) - 0.5) * spread
    position[..., 2] = position[..., 2].clamp(min=1)
    env.load_state(
        {
            "position": position,
            "velocity": velocity,
            "lift_dir": sideways / sideways.norm(dim=2, keepdim=True),
            "alpha": rand() * 0.3 - 0.05,
            "throttle": rand(),
            "health": rand(),
            "status": (rand() < 0.15).long() * (1 + 4 * rand()).long(),
            "lock_steps": (rand(A) * 12).long(),
            "detected": rand(A) < 0.3,
            "step": (torch.rand(count, generator=generator) * 501).long(),
        }
    )
    actions = torch.rand(count, env.num_agents, 3, generator=generator) * 2.4 - 1.2
    wrong = torch.tensor([math.nan, math.inf, -math.inf])[torch.randint(3, actions.shape, generator=generator)]
    return env, torch.where(torch.rand(actions.shape, generator=generator) < 0.05, wrong, actions)


@pytest.mark.parametrize("task", TASKS)
def test_every_step_of_an_episode_from_equal_states(task, in_form):
    """Some allies fly by the pilot, some at random, so that aircraft are lost in every way; through ends and starts."""
    count, steps = (4, 40) if task == "aerojax_16v16" else (12, 150)
    plain, looped = (envs.make(task, count, seed=5, max_steps=130) for _ in range(2))
    in_form("tensors", plain.reset)
    in_form("loops", looped.reset)
    generator = torch.Generator().manual_seed(0)
    is_wild = torch.rand(count, plain.num_agents, 1, generator=generator) < 0.3
    others, ends = 0, 0
    for t in range(steps):
        noise = torch.rand(count, plain.num_agents, 3, generator=generator) * 2.2 - 1.1
        actions = torch.where(is_wild, noise, plain.heuristic_actions(1.0))
        looped.load_state(plain.state_dict())
        ts = in_form("tensors", plain.step, actions)
        others += assert_close(plain, looped, ts, in_form("loops", looped.step, actions), f"{task}, step {t}")
        ends += int((ts.terminated | ts.truncated).sum())
    assert others <= 3, "comparisons that fell otherwise"
    assert ends or steps < 130


@pytest.mark.parametrize(
    "task, count, overrides",
    [
        ("aerojax_3v3", 600, {}),
        ("aerojax_3v3", 400, {"opponent": "passive"}),
        ("aerojax_5v5_mixed", 300, {}),
        ("aerojax_8v8", 150, {}),
        ("aerojax_16v16", 40, {}),
        ("aerojax_2v2", 300, {"n_allies": 1, "n_enemies": 3, "substeps": 7, "roll_rate": 400.0, "alpha_max": 60.0}),
        ("aerojax_3v3", 200, {"max_enemy_slots": 2, "max_ally_slots": 0, "lock_min": 5, "lock_max": 2}),
        ("aerojax_3v3", 200, {"comm_range": 0.0, "weapon_range": 2500.0, "view_h": 20.0, "lock_min": -2}),
    ],
)
def test_a_step_from_random_situations_is_the_same_in_all_three(task, count, overrides, in_form):
    """Tensors, loops over the batch, and the engine of one environment."""
    plain, actions = situations(task, count, 7, **overrides)
    looped, before = envs.make(task, count, auto_reset=False, **overrides), plain.state_dict()
    looped.load_state(before)
    seen, expected = in_form("loops", looped.observe), in_form("tensors", plain.observe)
    torch.testing.assert_close(seen.obs, expected.obs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.state, expected.state, atol=1e-5, rtol=1e-5)
    ts, loop_ts = in_form("tensors", plain.step, actions), in_form("loops", looped.step, actions)
    assert assert_close(plain, looped, ts, loop_ts, task) <= 2
    assert set(plain.state.status.flatten().tolist()) == {0, 1, 2, 3, 4} or overrides.get("lock_max") == 2
    engine = envs.make(task, **overrides).engine()
    for b in range(0, count, 5):
        engine.load_state({name: value[b].numpy() for name, value in before.items()})
        np.testing.assert_array_equal(engine.observe().obs, seen.obs[b])
        assert_same(engine, engine.step(actions[b].numpy()), looped, loop_ts, b, f"situation {b}")


@pytest.mark.parametrize("task", TASKS)
def test_starts_are_the_same_in_all_three(task, in_form):
    plain, looped = (envs.make(task, 64, seed=3) for _ in range(2))
    ts, loop_ts = in_form("tensors", plain.reset), in_form("loops", looped.reset)
    assert torch.equal(plain.state.rng, looped.state.rng)
    assert assert_close(plain, looped, ts, loop_ts, "start") == 0
    engine = envs.make(task).engine()
    for seed in (0, 11, 2**63):
        one = envs.make(task, seed=seed)
        np.testing.assert_array_equal(engine.reset(seed).obs, one.reset().obs[0])
        for name, value in engine.state_dict().items():
            np.testing.assert_array_equal(value, getattr(one.state, name)[0], err_msg=f"{name}, seed {seed}")


@pytest.mark.parametrize("task", ["aerojax_2v2", "aerojax_5v5_mixed"])
def test_no_number_depends_on_the_batch_or_on_threads(task):
    """Environment 0, 1, 2 of batches of 1, 3 and 257, on one, two and three threads: equal to the last bit."""
    kept, traces = pool.num_threads(), []
    many = envs.make(task, 257, seed=2, max_steps=30)
    many.reset()
    try:
        for count, threads in ((257, 2), (257, 1), (257, 3), (3, 2), (1, 1)):
            pool.set_num_threads(threads)
            env = envs.make(task, count, max_steps=30)
            env.load_state({name: value[:count] for name, value in many.state_dict().items()})
            generator, trace = torch.Generator().manual_seed(0), []
            for _ in range(40):
                actions = torch.rand(257, env.num_agents, 3, generator=generator) * 2 - 1
                ts = env.step(actions[:count])
                trace += [ts.obs, ts.final_obs, ts.state, ts.reward, *fields_of(env.state).values()]
            traces.append(trace)
            assert all(torch.equal(here, whole[:count]) for here, whole in zip(trace, traces[0]))
    finally:
        pool.set_num_threads(kept)


def test_a_step_leaves_the_state_before_it_alone():
    env = envs.make("aerojax_3v3", 8, seed=1)
    env.reset()
    before, copies = env.state, env.state_dict()
    for _ in range(3):
        env.step(torch.zeros(8, 3, 3))
    assert all(torch.equal(value, copies[name]) for name, value in fields_of(before).items())


def test_cosine_and_sine():
    angles = np.linspace(-40, 40, 20_001).astype(np.float32)
    found = np.array([vectors_loops.cosine_sine(angle) for angle in angles])
    exact = angles.astype(np.float64)
    np.testing.assert_allclose(found, np.stack([np.cos(exact), np.sin(exact)], 1), atol=3e-7 * 8)
    small = np.abs(angles) < 1
    np.testing.assert_allclose(found[small, 1], np.sin(exact[small]), rtol=4e-7, atol=1e-9)
    assert np.isfinite([vectors_loops.cosine_sine(np.float32(x)) for x in (1e9, -3e38)]).all()


def test_numbers_behind_a_key_are_those_drawn_one_after_another():
    for seed in range(20):
        key = rng.keys(seed, 1)
        expected, moved = rng.uniform(key, 50)
        found = [rng_loops.uniform_behind(key.item(), k) for k in range(1, 51)]
        np.testing.assert_array_equal(found, expected[0])
        assert rng_loops.key_behind(key.item(), 50) == moved.item()
