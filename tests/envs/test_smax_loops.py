"""The loops of SMAX equal its tensors, random numbers included; batches of any size and one environment, to the bit."""

import numpy as np
import pytest
import torch
from smax_comparison import FIELDS, guided_actions

import torch_mars.envs as envs
from torch_mars.envs import pool, rng
from torch_mars.envs.core import fields_of
from torch_mars.envs.smax.scenarios import SCENARIOS, UNIT_TYPES

# tensors sum the pushes on a unit in an order of their own, and their square roots may be the next number
ATOL = 1e-4
EXACT = ("unit_health", "won", "lost", "draw", "timeout")
OPTIONS = {
    "2s3z": {},
    "27m_vs_30m": {},
    "smacv2_10_units": {},
    "smacv2_5_units": {"walls_cause_death": False, "see_enemy_actions": False},
    "6h_vs_8z": {"action_type": "continuous"},
    "5m_vs_6m": {"attack_mode": "random", "action_type": "continuous", "max_steps": 9},
    "3s_vs_5z": {"attack_mode": "random"},
    "3s5z": {"enemy_shoots": False},
    "3s5z_vs_3s6z": {"use_self_play_reward": True, "won_battle_bonus": 2.5},
}
with_options = pytest.mark.parametrize("scenario, options", OPTIONS.items(), ids=OPTIONS)


def in_form(monkeypatch, is_loops, function, *args):
    with monkeypatch.context() as patch:
        patch.setattr("torch_mars.envs.smax.env.runs_in_loops", lambda tensor: is_loops)
        return function(*args)


def values_of(ts, state):
    """By name, what a step led to."""
    values = {**fields_of(ts), **ts.info, **fields_of(state)}
    return {name: value.numpy() for name, value in values.items() if isinstance(value, torch.Tensor)}


def assert_close(found, expected, where):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        atol = ATOL if value.dtype == np.float32 and name not in EXACT else 0
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol, err_msg=f"{name}, {where}")


def actions_of(env, generator):
    """Skilled in half of the environments, so that battles are fought and won; any in the others."""
    shape = (env.num_envs, env.num_agents)
    if env.is_continuous:
        return torch.from_numpy(generator.random((*shape, 4), dtype=np.float32))
    actions = generator.integers(int(env.action_space.n), size=shape)
    skilled = guided_actions({name: getattr(env.state, name).numpy() for name in FIELDS}, env.num_agents)
    return torch.from_numpy(np.where(np.arange(env.num_envs)[:, None] % 2, actions, skilled))


@with_options
def test_steps_of_whole_battles_are_the_tensors(scenario, options, monkeypatch):
    looped, plain = (envs.make(f"smax_{scenario}", 24, seed=6, **options) for _ in range(2))
    looped.reset()
    generator, ends = np.random.default_rng(1), 0
    for t in range(60):
        plain.load_state(looped.state_dict())
        actions = actions_of(looped, generator)
        left = in_form(monkeypatch, True, looped.step, actions)
        right = in_form(monkeypatch, False, plain.step, actions)
        assert_close(values_of(left, looped.state), values_of(right, plain.state), f"step {t}")
        ends += int((left.terminated | left.truncated).sum())
    assert ends > 0


def odd_situations(env, generator):
    """Crowds, units on one another, at the border, on it, far beyond; the dead in good health, the living in none."""
    B, N, U = env.num_envs, env.num_agents, env.num_units
    E, largest = U - N, 4 + np.repeat([U - N, N], [N, U - N])
    centre = generator.uniform(1, 31, (B, 1, 2))
    spread = generator.choice([0.5, 1.0, 3.0, 8.0], (B, 1, 1))
    places = centre + spread * generator.normal(size=(B, U, 2))
    odd = generator.choice([0.0, 32.0, 0.1, 31.9, -1.0, 40.0, 1e18, 16.0], (B, U, 2))
    places = np.where(generator.random((B, U, 1)) < 0.1, odd, places)
    places = np.where(generator.random((B, U, 1)) < 0.1, places[:, :1], places)
    types = generator.integers(len(UNIT_TYPES), size=(B, U))
    full = np.array([kind.max_health for kind in UNIT_TYPES])[types]
    is_alive = generator.random((B, U)) < generator.choice([0.2, 0.8, 1.0], (B, 1))
    attacks = generator.integers(5, largest + 1, size=(B, U))
    env.load_state(
        {
            "unit_positions": places.astype(np.float32),
            "unit_types": types,
            "unit_alive": is_alive,
            "unit_health": np.where(
                is_alive ^ (generator.random((B, U)) < 0.05), generator.choice([1, 7, 20, 40], (B, U)).clip(0, full), 0
            ),
            "unit_weapon_cooldowns": generator.choice([0.0, -3.0, 0.2, 1.0], (B, U)),
            "prev_attack_actions": np.where(generator.random((B, U)) < 0.5, attacks, generator.integers(0, 5, (B, U))),
            "enemy_default_target": generator.choice([0.0, 1.0, 31.0, -1e18], (B, E, 2)),
            "enemy_last_attacked": generator.integers(-1, N, size=(B, E)),
            "step": generator.choice([0, 99, 100, 7], B),
        }
    )


@with_options
def test_a_step_from_odd_situations_is_the_same_in_all_three(scenario, options, monkeypatch):
    """Tensors, loops over the batch, and the engine of one environment."""
    generator, count = np.random.default_rng(7), 600 if scenario != "27m_vs_30m" else 100
    looped, plain = (envs.make(f"smax_{scenario}", count, auto_reset=False, **options) for _ in range(2))
    odd_situations(looped, generator)
    before = looped.state_dict()
    plain.load_state(before)
    seen, seen_plain = (in_form(monkeypatch, form, env.observe) for form, env in ((True, looped), (False, plain)))
    assert_close(values_of(seen, looped.state), values_of(seen_plain, plain.state), "before the step")
    actions = actions_of(looped, generator)
    ts = in_form(monkeypatch, True, looped.step, actions)
    values = values_of(ts, looped.state)
    expected = values_of(in_form(monkeypatch, False, plain.step, actions), plain.state)
    is_far = np.zeros(count, bool)
    for name, value in values.items():
        far = np.abs(value.astype(float) - expected[name]) > (0 if name in EXACT else ATOL)
        is_far |= far.reshape(count, -1).any(1)
    assert is_far.sum() <= 2, f"{is_far.sum()} of {count}, where at most some that nearly met enlarge the rounding"
    assert_engine_does(looped.engine(), before, seen, actions, ts, looped.state, range(0, count, 4))


def assert_engine_does(engine, before, seen, actions, ts, state, indices):
    """What the batch does from the situations `before`, to the bit."""
    for i in indices:
        engine.load_state({name: value[i].numpy() for name, value in before.items()})
        assert_same_outcome(engine.observe(), seen, i)
        assert_same_outcome(engine.step(actions[i].numpy()), ts, i)
        assert_same_fields(engine, state, i)
        assert engine.info().keys() == ts.info.keys()
        for name, value in engine.info().items():
            np.testing.assert_array_equal(value, ts.info[name][i], err_msg=f"{name}, environment {i}")


def assert_same_outcome(outcome, ts, i):
    for name in ("obs", "state", "action_mask", "reward"):
        found, expected = getattr(outcome, name), getattr(ts, "final_" + name if name in ("obs", "state") else name)
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_array_equal(found, expected[i], err_msg=f"{name}, environment {i}")
    assert (outcome.terminated, outcome.truncated) == (bool(ts.terminated[i]), bool(ts.truncated[i]))
    assert outcome.obs.dtype == outcome.state.dtype == outcome.reward.dtype == np.float32


def assert_same_fields(engine, state, i):
    for name, value in engine.state_dict().items():
        np.testing.assert_array_equal(value, getattr(state, name)[i], err_msg=f"{name}, environment {i}")


@with_options
def test_whole_battles_of_an_engine_are_those_of_the_batch(scenario, options):
    """From the same keys, through the ends of episodes."""
    batch = envs.make(f"smax_{scenario}", 3, seed=4, **options)
    keys, engines = rng.keys(4, 3).tolist(), [batch.engine() for _ in range(3)]
    for engine, key in zip(engines, keys):
        engine.load_state({"rng": key})
        engine.reset()
    batch.reset()
    generator, ends = np.random.default_rng(2), 0
    for _ in range(120):
        actions = actions_of(batch, generator)
        ts = batch.step(actions)
        for i, engine in enumerate(engines):
            outcome = engine.step(actions[i].numpy())
            if outcome.terminated or outcome.truncated:
                np.testing.assert_array_equal(outcome.obs, ts.final_obs[i])
                outcome, ends = outcome._replace(obs=engine.reset().obs), ends + 1
                np.testing.assert_array_equal(outcome.obs, ts.obs[i])
            else:
                assert_same_outcome(outcome, ts, i)
            assert_same_fields(engine, batch.state, i)
    assert ends > 0


@pytest.mark.parametrize("scenario", ["2s3z", "27m_vs_30m", "smacv2_5_units", "smacv2_20_units"])
def test_every_start_is_the_tensors(scenario, monkeypatch):
    env, count = envs.make(f"smax_{scenario}", 400), 400
    keys = torch.cat([rng.keys(seed, count // 2) for seed in (0, 2**63 - 1)])
    keys[0], keys[1], keys[2] = 0, -1, torch.iinfo(torch.int64).min
    starts = (in_form(monkeypatch, form, env.initial_state, keys) for form in (True, False))
    looped, plain = (fields_of(state) for state in starts)
    for name, value in looped.items():
        assert value.dtype == plain[name].dtype
        atol = ATOL if name == "unit_positions" else 0
        np.testing.assert_allclose(value, plain[name], rtol=0, atol=atol, err_msg=name)


@with_options
def test_numbers_drawn_are_the_tensors(scenario, options, monkeypatch):
    env, keys = envs.make(f"smax_{scenario}", 1, **options), rng.keys(3, 50)
    (left, left_keys), (right, right_keys) = (in_form(monkeypatch, f, env.draw_numbers, keys) for f in (True, False))
    assert torch.equal(left, right) and torch.equal(left_keys, right_keys)


@pytest.mark.parametrize("scenario", ["2s3z", pytest.param("27m_vs_30m", marks=pytest.mark.slow), "smacv2_10_units"])
def test_blocks_and_threads_change_no_bit(scenario):
    """Of environments and of the units beside one another; odd numbers of both are in the blocks."""
    before = pool.num_threads()
    sizes, threads = (1, 7, 150), (1, 2, 3)
    batches = [envs.make(f"smax_{scenario}", size, seed=9) for size in sizes for _ in threads]
    try:
        for env, count in zip(batches, threads * len(sizes)):
            pool.set_num_threads(count)
            env.reset()
            generator = np.random.default_rng(0)
            for _ in range(12):
                actions = generator.integers(int(env.action_space.n), size=(sizes[-1], env.num_agents))
                ts = env.step(torch.from_numpy(actions[: env.num_envs]))
            env.seen = values_of(ts, env.state)
    finally:
        pool.set_num_threads(before)
    for env in batches[:-1]:
        for name, value in env.seen.items():
            np.testing.assert_array_equal(value, batches[-1].seen[name][: env.num_envs], err_msg=name)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_runs_on_loops(scenario):
    env = envs.parallel_env(f"smax_{scenario}")
    assert type(env.engine).__name__ == "SMAXLoops"
    _, infos = env.reset(seed=1)
    while env.agents:
        mask = infos["agent_0"]["action_mask"]
        assert mask.dtype == np.int8 and mask.shape == (env.action_space("agent_0").n,)
        actions = {agent: int(np.flatnonzero(infos[agent]["action_mask"])[-1]) for agent in env.agents}
        *_, infos = env.step(actions)
    assert 1 <= infos["agent_0"]["episode_length"] <= 101 and "won" in infos["agent_0"]
