"""The loops of Search & Rescue equal its tensors to the last bit, of batches and of one environment."""

import math

import numpy as np
import pytest
import torch
from record_search_and_rescue import seeking

import torch_mars.envs as envs
from torch_mars.envs import rng, rng_loops
from torch_mars.envs.core import fields_of
from torch_mars.envs.search_and_rescue import loops
from torch_mars.envs.search_and_rescue.env import SearchAndRescue

RUNS_IN_LOOPS = "torch_mars.envs.search_and_rescue.env.runs_in_loops"
FULL_TURN = float(np.float32(2 * math.pi))


def in_form(monkeypatch, is_loops, function, *args):
    with monkeypatch.context() as patch:
        patch.setattr(RUNS_IN_LOOPS, lambda tensor: is_loops)
        return function(*args)


def assert_same(monkeypatch, envs_of_both, actions, where):
    """One step of both; their TimeSteps and States are equal."""
    looped, plain = envs_of_both
    left = in_form(monkeypatch, True, looped.step, actions)
    right = in_form(monkeypatch, False, plain.step, actions)
    for name in ("obs", "state", "reward", "terminated", "truncated", "final_obs", "final_state"):
        assert torch.equal(getattr(left, name), getattr(right, name)), f"{name}, {where}"
    for name in left.info:
        assert torch.equal(left.info[name], right.info[name]), f"{name}, {where}"
    for name, value in fields_of(looped.state).items():
        assert torch.equal(value, getattr(plain.state, name)), f"{name}, {where}"
    return left


OPTIONS = {
    "defaults": {},
    "shared": {"shared_reward": True, "target_contact_range": 0.06},
    "wide": {"view_angle": 1.0, "num_vision": 37, "target_vision_range": 0.5, "searcher_vision_range": 1.0},
    "narrow": {"view_angle": 0.0, "num_vision": 1, "target_contact_range": 0.0},
    "fast": {"searcher_max_speed": 1.0, "searcher_max_accelerate": 0.5, "searcher_max_rotate": 1.0},
    "wild": {"target_acc_std": 0.01, "target_vel_max": 0.5, "max_steps": 9},
    "calm": {"target_acc_std": 0.0, "target_vel_max": 0.0, "searcher_min_speed": 0.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("size", ["1x1", "2x20", "8x40"])
def test_random_play_is_the_same_in_both_forms(size, options, monkeypatch):
    monkeypatch.setattr(SearchAndRescue, "takes_any_action", True)  # the rules are safe behind the check, too
    both = [envs.make(f"search_and_rescue_{size}", 12, seed=3, **{"max_steps": 16, **options}) for _ in range(2)]
    for env in both:
        env.reset()
    generator = torch.Generator().manual_seed(0)
    for t in range(20):
        actions = 2.6 * torch.rand(12, both[0].num_agents, 2, generator=generator) - 1.3
        if t == 3:
            actions[0], actions[1], actions[2] = math.nan, math.inf, -math.inf
        ts = assert_same(monkeypatch, both, actions, f"step {t}")
        assert ts.obs.isfinite().all() and ts.obs.abs().max() <= 1


@pytest.mark.parametrize("size, steps", [("2x20", 60), ("8x40", 170)])
def test_skilled_play_is_the_same_in_both_forms(size, steps, monkeypatch):
    """Through the ends of episodes that are cleared in 8x40."""
    both = [envs.make(f"search_and_rescue_{size}", 6, seed=1) for _ in range(2)]
    ts = [env.reset() for env in both][0]
    generator, ends, reward = np.random.default_rng(0), 0, 0.0
    for t in range(steps):
        ts = assert_same(monkeypatch, both, seeking(ts.obs, generator), f"step {t}")
        ends, reward = ends + int(ts.terminated.sum()), reward + ts.reward.sum().item()
    assert reward > 20 and (ends > 2 or size == "2x20")


def odd_situations(env, generator):
    """Crowds, at the edges of the arena and on them, at the limits of speed, many in contact, any step."""
    B, N, T = env.num_envs, env.num_agents, env.num_targets
    centre = generator.choice([0.0, 1.0, 0.5, 0.003, 0.997], (B, 1, 2))
    spread = generator.choice([0.0, 1e-8, 0.01, 0.03, 0.1, 0.4], (B, 1, 1))

    def places(count):
        there = (centre + spread * generator.normal(size=(B, count, 2))) % 1
        there = np.where(generator.random((B, count, 1)) < 0.1, centre, there)
        return there.astype(np.float32)

    heading = generator.uniform(0, FULL_TURN, (B, N)).astype(np.float32)
    heading = np.where(generator.random((B, N)) < 0.2, generator.choice([0.0, FULL_TURN, math.pi]), heading)
    env.load_state(
        {
            "searcher_pos": places(N),
            "searcher_heading": np.clip(heading, 0, FULL_TURN),
            "searcher_speed": generator.choice([0.005, 0.02, 0.0, 1.0], (B, N)),
            "target_pos": places(T),
            "target_vel": generator.choice([0, 1e-9, 0.002, -0.0014, 3.0], (B, T, 2)),
            "target_found": generator.random((B, T)) < generator.choice([0.0, 0.5, 1.0], (B, 1)),
            "step": generator.choice([0, 1, 399, 200], B),
        }
    )


@pytest.mark.parametrize("size, shared_reward", [("2x20", False), ("8x40", False), ("8x40", True)])
def test_a_step_from_odd_situations_is_the_same_in_all_three(size, shared_reward, monkeypatch):
    """Tensors, loops over the batch, and the engine of one environment."""
    generator, count = np.random.default_rng(7), 400
    looped, plain = (
        envs.make(f"search_and_rescue_{size}", count, auto_reset=False, shared_reward=shared_reward) for _ in range(2)
    )
    odd_situations(looped, generator)
    before = looped.state_dict()
    plain.load_state(before)
    seen = in_form(monkeypatch, True, looped.observe)
    assert torch.equal(seen.obs, in_form(monkeypatch, False, plain.observe).obs)
    actions = generator.choice([-1.0, 0.0, 0.3, 1.0], (count, looped.num_agents, 2)).astype(np.float32)
    ts = assert_same(monkeypatch, (looped, plain), torch.from_numpy(actions), "odd situations")
    assert (ts.reward > 0).any(1).sum() > 50 and ((ts.reward % 0.25) > 0).any(), "finds, and shared ones, and late ones"
    engine = looped.engine()
    for i in range(0, count, 4):
        engine.load_state({name: value[i].numpy() for name, value in before.items()})
        np.testing.assert_array_equal(engine.observe().obs, seen.obs[i], err_msg=f"situation {i}")
        outcome = engine.step(actions[i])
        for name in ("obs", "state", "reward"):
            wanted = getattr(ts, name)[i]
            np.testing.assert_array_equal(getattr(outcome, name), wanted, err_msg=f"{name}, situation {i}")
        assert (outcome.terminated, outcome.truncated) == (ts.terminated[i].item(), ts.truncated[i].item())
        for name, value in engine.state_dict().items():
            tolerance = 1e-6 if name == "totals" else 0  # means of several searchers
            np.testing.assert_allclose(value, getattr(looped.state, name)[i], rtol=0, atol=tolerance, err_msg=name)
        assert engine.info().keys() == ts.info.keys()
        for name, value in engine.info().items():
            np.testing.assert_allclose(value, ts.info[name][i], atol=1e-6, err_msg=name)


def test_every_seed_starts_as_make_does():
    engine = envs.make("search_and_rescue_4x40", auto_reset=False).engine()
    for seed in (*range(40), 2**63, -3):
        env = envs.make("search_and_rescue_4x40", seed=seed)
        ts, outcome = env.reset(), engine.reset(seed)
        np.testing.assert_array_equal(outcome.obs, ts.obs[0])
        for name, value in engine.state_dict().items():
            np.testing.assert_array_equal(value, getattr(env.state, name)[0], err_msg=f"{name}, seed {seed}")


def test_noise_is_what_the_tensor_generator_draws():
    keys = torch.cat([rng.keys(seed, 300) for seed in (0, 1, 2**63 - 1)])
    keys[0], keys[1], keys[2] = 0, -1, torch.iinfo(torch.int64).min
    expected, moved = rng.normal(keys, 40)
    drawn = keys.clone().numpy()
    noise = loops.noise(drawn, 20)
    np.testing.assert_array_equal(noise.astype(np.float32).reshape(900, 40), expected)
    np.testing.assert_array_equal(drawn, moved)
    box = np.array(5)
    assert 0 < rng_loops.next_rank(box) < 1 and box == rng.normal(torch.tensor([5]), 1)[1]


def test_remainders_are_torch_s():
    generator = np.random.default_rng(0)
    for period in (np.float32(1), np.float32(2 * math.pi)):
        near = generator.choice([0, 1, -1, 2, 7], 2000) * period + generator.choice([0, 1e-9, -1e-9, 0.3, -0.3], 2000)
        numbers = np.concatenate([near, generator.normal(0, 5, 2000), [-1e-30, 1e-30, -1e9, 1e9]]).astype(np.float32)
        expected = torch.from_numpy(numbers).remainder(float(period))
        np.testing.assert_array_equal([loops.remainder(number, period) for number in numbers], expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["2x20", "8x40"])
def test_compiled_steps_are_the_loops(size):
    """By torch.compile's own backend, up to rounding: a ray or a find may fall otherwise at an edge."""
    torch.compiler.reset()
    env = envs.make(f"search_and_rescue_{size}", 256, seed=2, auto_reset=False)
    ts = env.reset()
    transition, perceive = (torch.compile(f, fullgraph=True) for f in (env.transition, env.perceive))
    generator, other, unequal = np.random.default_rng(0), env.state, 0
    for _ in range(30):
        actions = seeking(ts.obs, generator)
        other, reward, *_ = transition(env.state, actions)
        ts = env.step(actions)
        for name in ("searcher_pos", "searcher_heading", "target_pos", "target_vel"):
            torch.testing.assert_close(getattr(other, name), getattr(env.state, name), atol=1e-6, rtol=0)
        seen = perceive(env.state)[0]
        unequal += int(((seen - ts.obs).abs() > 1e-5).sum() + ((reward - ts.reward).abs() > 1e-6).sum())
    assert unequal <= 3
