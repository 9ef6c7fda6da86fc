"""The loops of PaxMen, on one environment, equal the tensors, random numbers included, and the recorded original."""

from pathlib import Path

import numpy as np
import pytest
import torch

import torch_mars.envs as envs
from torch_mars.envs import rng, rng_loops
from torch_mars.envs.core import fields_of
from torch_mars.envs.paxmen.layouts import board

FIXTURES = Path(__file__).parents[1] / "fixtures"
TEAMS = (4, 5, 6)
one_team = pytest.mark.parametrize("num_agents", [5, *(pytest.param(team, marks=pytest.mark.slow) for team in (4, 6))])
DISCRETE = ("rng", "step", "layout", "agent_pos", "dot_pos", "dot_active")


def loops_of(num_agents, **options):
    return envs.make(f"paxmen_{num_agents}a", auto_reset=False, **options).engine()


def assert_same_fields(engine, state, index, where):
    for name in DISCRETE:
        np.testing.assert_array_equal(engine.fields[name], getattr(state, name)[index], err_msg=f"{name}, {where}")
    np.testing.assert_allclose(engine.fields["totals"], state.totals[index], atol=1e-4, err_msg=where)


def assert_same_outcome(outcome, ts, index, where):
    np.testing.assert_array_equal(outcome.obs, ts.final_obs[index], err_msg=f"obs, {where}")
    np.testing.assert_array_equal(outcome.state, ts.final_state[index], err_msg=f"state, {where}")
    np.testing.assert_array_equal(outcome.reward, ts.reward[index], err_msg=f"reward, {where}")
    assert outcome.terminated == bool(ts.terminated[index]), where
    assert outcome.truncated == bool(ts.truncated[index]), where
    assert outcome.obs.dtype == outcome.state.dtype == outcome.reward.dtype == np.float32


@pytest.mark.parametrize("count", [1, 15, 49])
def test_scalar_random_numbers_are_those_of_the_tensor_generator(count):
    keys = torch.cat([rng.keys(seed, 50) for seed in (0, 1, 2**63 - 1)])
    keys[0], keys[1], keys[2] = 0, -1, torch.iinfo(torch.int64).min
    cases = {
        "bits": (rng.bits(keys, count), rng_loops.next_bits, ()),
        "uniform": (rng.uniform(keys, count), rng_loops.next_uniform, ()),
        "integer": (rng.integers(keys, count, 7), rng_loops.next_integer, (7,)),
    }
    for name, ((numbers, moved), draw, arguments) in cases.items():
        for i, key in enumerate(keys.tolist()):
            box = np.array(key)
            drawn = [draw(box, *arguments) for _ in range(count)]
            assert drawn == numbers[i].tolist(), f"{name} behind key {key}"
            assert box == moved[i], f"{name}: key after {key}"
    orders, moved = rng.permutation(keys, count)
    for i, key in enumerate(keys.tolist()):
        box = np.array(key)
        assert rng_loops.next_permutation(box, count).tolist() == orders[i].tolist(), f"order behind key {key}"
        assert box == moved[i]


@one_team
def test_every_seed_starts_as_make_does(num_agents):
    engine = loops_of(num_agents)
    for seed in (*range(300), 2**31, 2**63, 2**64 + 5, -3):
        env = envs.make(f"paxmen_{num_agents}a", 1, seed=seed)
        ts = env.reset()
        outcome = engine.reset(seed)
        assert_same_fields(engine, env.state, 0, f"seed {seed}")
        assert_same_outcome(outcome, ts, 0, f"seed {seed}")


def random_situations(num_agents, count, generator):
    """Agents near dots and on one another, few dots left, any step: what random play hardly ever meets."""
    env = envs.make(f"paxmen_{num_agents}a", count, seed=int(generator.integers(2**62)), auto_reset=False)
    env.reset()
    tables, layout, rows = board(num_agents), env.state.layout.numpy(), np.arange(count)[:, None]
    dot_pos = env.state.dot_pos.numpy()
    on_dot = dot_pos[rows, generator.integers(3 * num_agents, size=(count, num_agents))]
    together = np.where(generator.random((count, 1, 1)) < 0.3, on_dot[:, :1], on_dot)
    anywhere = tables.floor[layout[:, None], generator.integers(tables.num_cells, size=(count, num_agents))]
    agent_pos = np.where(generator.random((count, num_agents, 1)) < 0.6, together, anywhere)
    share_left = generator.choice([0.0, 0.3, 1.0], size=(count, 1))
    dot_active = generator.random((count, 3 * num_agents)) < share_left
    beneath = (agent_pos[:, 0, None] == dot_pos).all(-1)
    dot_active |= beneath & (generator.random((count, 1)) < 0.7)  # often the last one lies under agent 0
    nothing_left = ~dot_active.any(1)
    dot_active[nothing_left, 0] = True
    step = generator.integers(env.max_steps, size=count)
    env.load_state({"agent_pos": agent_pos, "dot_active": dot_active, "step": step})
    actions = generator.choice(5, p=[0.1, 0.1, 0.1, 0.1, 0.6], size=(count, num_agents))
    return env, actions


@one_team
def test_a_step_from_any_situation_is_the_tensor_engine_s(num_agents):
    generator = np.random.default_rng(num_agents)
    env, actions = random_situations(num_agents, 3000, generator)
    before = {name: value.numpy().copy() for name, value in fields_of(env.state).items()}
    seen = env.observe()
    ts = env.step(torch.from_numpy(actions))
    engine = loops_of(num_agents)
    for i in range(env.num_envs):
        where = f"paxmen_{num_agents}a, situation {i}, actions {actions[i]}"
        engine.load_state({name: value[i] for name, value in before.items()})
        assert_same_outcome(engine.observe(), seen, i, where)
        assert_same_outcome(engine.step(actions[i]), ts, i, where)
        assert_same_fields(engine, env.state, i, where)
        for name, value in engine.info().items():
            np.testing.assert_allclose(value, ts.info[name][i], atol=1e-6, err_msg=f"{name}, {where}")
        assert engine.info().keys() == ts.info.keys()
    share = ts.reward[:, 0] + 0.025 * num_agents
    assert ts.info["boards_cleared"].sum() > 300 and ts.truncated.sum() > 10  # the situations hold what they are for
    assert (((share - 0.025) % 1 > 0.01) & (share > 0.01)).sum() > 300, "shared dots"


@one_team
def test_whole_episodes_are_the_tensor_engine_s(num_agents):
    """Three episodes in a row: auto-reset on one side, unseeded resets on the other. Agents are put onto dots at times
    to see boards cleared."""
    num_envs = 8
    generator = np.random.default_rng(10 + num_agents)
    env = envs.make(f"paxmen_{num_agents}a", num_envs, seed=5)
    env.reset()
    engines = [loops_of(num_agents) for _ in range(num_envs)]
    for i, engine in enumerate(engines):
        engine.reset(0)
        engine.load_state({"rng": rng.keys(5, num_envs)[i].item()})
        engine.reset()
    boards_cleared = 0
    for t in range(3 * env.max_steps):
        actions = generator.integers(5, size=(num_envs, num_agents))
        ts = env.step(torch.from_numpy(actions))
        for i, engine in enumerate(engines):
            where = f"paxmen_{num_agents}a, environment {i}, step {t}"
            outcome = engine.step(actions[i])
            assert_same_outcome(outcome, ts, i, where)
            if outcome.truncated:
                info = engine.info()
                for name, value in ts.info.items():
                    np.testing.assert_allclose(info[name], value[i], atol=1e-4, err_msg=f"{name}, {where}")
                boards_cleared += info["boards_cleared"]
                engine.reset()
            assert_same_fields(engine, env.state, i, where)
        if t % 2:
            dots = env.state.dot_pos.numpy()
            order = generator.permuted(np.tile(np.arange(3 * num_agents), (num_envs, 1)), axis=1)[:, :num_agents]
            agent_pos = np.take_along_axis(dots, order[..., None], 1)
            env.load_state({"agent_pos": agent_pos})
            for engine, position in zip(engines, agent_pos):
                engine.load_state({"agent_pos": position})
    assert boards_cleared > 20


@pytest.mark.parametrize("num_agents", TEAMS)
def test_episodes_equal_the_recorded_ones(num_agents):
    """The original decides about both engines; dots that it drew anew are loaded, not compared."""
    record = np.load(FIXTURES / f"paxmen_{num_agents}a.npz")
    steps, episodes = record["done"].shape
    engine = loops_of(num_agents)
    for episode in range(0, episodes, 4):
        engine.load_state({name: record[name][0, episode] for name in DISCRETE[1:]})
        for t in range(steps):
            where = f"episode {episode}, step {t}"
            outcome = engine.observe()
            np.testing.assert_array_equal(outcome.obs, record["obs"][t, episode], err_msg=where)
            np.testing.assert_array_equal(outcome.state, record["state"][t, episode], err_msg=where)
            outcome = engine.step(record["action"][t, episode].astype(np.int64))
            np.testing.assert_allclose(outcome.reward, record["reward"][t, episode], atol=2e-6, err_msg=where)
            assert outcome.truncated == record["done"][t, episode], where
            for name in ("layout", "agent_pos", "dot_active", "step"):
                np.testing.assert_array_equal(engine.fields[name], record[name][t + 1, episode], err_msg=where)
            engine.load_state({"dot_pos": record["dot_pos"][t + 1, episode]})


def test_outcomes_are_the_receiver_s_own():
    engine = loops_of(4)
    first = engine.reset(0)
    copies = [array.copy() for array in (first.obs, first.state)]
    engine.step(np.arange(4))
    first.state[:] = 9
    first.obs[:] = 9
    again = engine.reset(0)
    for array, copy in zip((again.obs, again.state), copies):
        np.testing.assert_array_equal(array, copy)


def test_a_wrong_field_is_refused_and_nothing_changes():
    engine = loops_of(4)
    engine.reset(0)
    before = engine.state_dict()
    with pytest.raises(ValueError, match="did you mean agent_pos"):
        engine.load_state({"step": 3, "agent_po": np.zeros((4, 2))})
    with pytest.raises(ValueError, match=r"has shape \[5, 2\]; it must be \[4, 2\]"):
        engine.load_state({"step": 3, "agent_pos": np.zeros((5, 2))})
    for name, value in engine.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
