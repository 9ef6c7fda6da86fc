"""The loops of JaxNav equal its tensors to the last bit: of batches, of one environment, and of levels."""

import math

import numpy as np
import pytest
import torch
from wild_states import as_tensors

import torch_mars.envs as envs
from torch_mars.envs import pool, rng
from torch_mars.envs.angles import cosine_sine
from torch_mars.envs.core import fields_of
from torch_mars.envs.jaxnav import loops, maps
from torch_mars.envs.jaxnav.task import DRAFT, LAST, NUM_BEAMS


def assert_same(looped, plain, left, right, where):
    """TimeSteps and States of both environments are equal."""
    for name in ("obs", "state", "reward", "terminated", "truncated", "final_obs", "final_state"):
        assert torch.equal(getattr(left, name), getattr(right, name)), f"{name}, {where}"
    assert left.info.keys() == right.info.keys()
    for name in left.info:
        assert left.info[name].dtype == right.info[name].dtype, f"{name}, {where}"
        assert torch.equal(left.info[name], right.info[name]), f"{name}, {where}"
    for name, value in fields_of(looped.state).items():
        assert value.dtype == getattr(plain.state, name).dtype, f"{name}, {where}"
        assert torch.equal(value, getattr(plain.state, name)), f"{name}, {where}"


def step_both(looped, plain, actions, where):
    ts = looped.step(actions)
    with as_tensors():
        assert_same(looped, plain, ts, plain.step(actions), where)
    return ts


def random_actions(env, generator):
    """A little beyond every limit."""
    low, high = torch.tensor([-0.2, -0.7]), torch.tensor([1.4, 0.7])
    return low + (high - low) * torch.rand(env.num_envs, env.num_agents, 2, generator=generator)


OPTIONS = {
    "defaults": {},
    "short": {"max_steps": 7},
    "crowded": {"fill": 0.4, "goal_radius": 0.8, "rew_lambda": 0.3, "lidar_thresh": 0.3},
    "open": {"fill": 0.0, "goal_radius": 1.5, "max_v": 2.0, "max_w": 0.3, "max_v_acc": 5.0, "max_w_acc": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("task", ["jaxnav_5x5x1a", "jaxnav_7x7x2a", "jaxnav_11x11x4a", "jaxnav_31x31x12a"])
def test_random_play_is_the_same_in_both_forms(task, options):
    """From the start, through the ends of episodes and into others."""
    looped, plain = (envs.make(task, 13, seed=3, **options) for _ in range(2))
    ts = looped.reset()
    with as_tensors():
        assert_same(looped, plain, ts, plain.reset(), "start")
    generator, ends = torch.Generator().manual_seed(0), 0
    for t in range(20 if "31" in task else 90):
        ts = step_both(looped, plain, random_actions(looped, generator), f"step {t}")
        ends += int((ts.terminated | ts.truncated).sum())
        assert ts.obs.isfinite().all() and ts.obs[..., :NUM_BEAMS].abs().max() <= 0.5
    assert ends > 0 or "31" in task


def odd_situations(env, generator):
    """Robots anywhere: in walls, in each other, outside the map; at their goals; along the axes; any step and flags."""
    B, N, W = env.num_envs, env.num_agents, env.options.map_size
    pos = generator.uniform(0, W, (B, N, 2))
    pos = np.where(generator.random((B, N, 1)) < 0.2, generator.integers(0, 2 * W, (B, N, 2)) / 2, pos)
    pos = np.where(generator.random((B, 1, 1)) < 0.2, pos[:, :1] + generator.normal(0, 0.3, (B, N, 2)), pos)
    pos = np.where(generator.random((B, N, 1)) < 0.1, generator.uniform(-9, W + 9, (B, N, 2)), pos)
    pos = np.where(generator.random((B, N, 1)) < 0.02, generator.choice([-1e18, 1e18, 1e6, -1e6], (B, N, 2)), pos)
    theta = generator.uniform(-math.pi, math.pi, (B, N))
    theta = np.where(generator.random((B, N)) < 0.2, generator.integers(-4, 5, (B, N)) * (math.pi / 4), theta)
    theta = np.where(generator.random((B, N)) < 0.02, generator.choice([1e18, -1e6, 300.0, 7.0], (B, N)), theta)
    goal = np.where(generator.random((B, N, 1)) < 0.3, pos, generator.uniform(0, W, (B, N, 2)))
    share = generator.choice([0.0, 0.2, 0.5, 1.0], (B, 1, 1))
    env.load_state(
        {
            "pos": pos.astype(np.float32),
            "theta": theta.astype(np.float32),
            "goal": goal.astype(np.float32),
            "vel": generator.choice([0.0, 1.0, 0.37, -0.6, 5.0], (B, N, 2)),
            "map_data": generator.random((B, W, W)) < share,  # with holes in the walls around
            "goal_reached": generator.random((B, N)) < generator.choice([0.0, 0.5, 1.0], (B, 1)),
            "crashed": generator.random((B, N)) < generator.choice([0.0, 0.5], (B, 1)),
            "done": generator.random(B) < 0.1,
            "step": generator.choice([0, 1, env.max_steps - 1, env.max_steps + 5], B),
            "rng": generator.integers(-(2**63), 2**63 - 1, B),
        }
    )
    placed = generator.integers(maps.NO_MAP, N + 1, B)  # levels in the making, some of them nonsense
    env.state.next_placed.copy_(torch.from_numpy(placed))
    env.state.next_rounds.copy_(torch.from_numpy(generator.choice([0, 1, maps.MOST_ROUNDS - 1], B)))


@pytest.mark.parametrize("task", ["jaxnav_5x5x1a", "jaxnav_7x7x2a", "jaxnav_11x11x4a"])
def test_a_step_from_odd_situations_is_the_same_in_all_three(task):
    """Tensors, loops over the batch, and the engine of one environment."""
    generator, count = np.random.default_rng(7), 1500
    looped, plain = (envs.make(task, count, auto_reset=False) for _ in range(2))
    odd_situations(looped, generator)
    before = looped.state_dict()
    plain.state = looped.state
    seen = looped.observe()
    with as_tensors():
        assert_same(looped, plain, seen, plain.observe(), "before the step")
    low, high = looped.action_space.low, looped.action_space.high
    actions = generator.uniform(2 * low - 1, 2 * high, (count, looped.num_agents, 2)).astype(np.float32)
    ts = step_both(looped, plain, torch.from_numpy(actions), "odd situations")
    names = ("goal_reached", "map_collision", "timeout", "success") + ("agent_collision",) * (looped.num_agents > 1)
    assert all((ts.info[name] > 0).sum() > 5 for name in names), "every event happens"

    engine = looped.engine()
    for i in range(0, count, 10):
        for name, value in before.items():
            engine.fields[name][...] = value[i].numpy()
        np.testing.assert_array_equal(engine.observe().obs, seen.obs[i], err_msg=f"situation {i}")
        outcome = engine.step(actions[i])
        for name in ("obs", "state", "reward", "terminated", "truncated"):
            wanted = getattr(ts, name)[i]
            np.testing.assert_array_equal(getattr(outcome, name), wanted, err_msg=f"{name}, situation {i}")
        for name, value in engine.state_dict().items():
            tolerance = 1e-6 if name == "totals" else 0  # means of several robots
            np.testing.assert_allclose(value, getattr(looped.state, name)[i], rtol=0, atol=tolerance, err_msg=name)
        assert engine.info().keys() == ts.info.keys()
        for name, value in engine.info().items():
            np.testing.assert_allclose(value, ts.info[name][i], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("task", ["jaxnav_5x5x1a", "jaxnav_7x7x2a", "jaxnav_13x13x5a"])
def test_readings_of_robots_anywhere_are_the_same(task):
    """Thousands of robots, on maps of any fill, in every direction, inside each other and far outside the map."""
    env, generator = envs.make(task, 3000), np.random.default_rng(1)
    odd_situations(env, generator)
    heading, state = torch.stack(cosine_sine(env.state.theta)), env.state
    expected = env.lidar.read(state.pos, *heading, state.map_data)
    beams, room = np.empty(expected.shape, np.uint8), loops.room(env.options.map_size)
    for b in range(len(beams)):
        loops.read(room, state.pos.numpy(), heading[:, b].numpy(), state.map_data.numpy(), beams, b)
    np.testing.assert_array_equal(beams, expected)
    assert len(np.unique(beams)) == LAST + 1


@pytest.mark.parametrize(
    "num_robots, num_cells, fill", [(2, 7, 0.3), (4, 11, 0.3), (5, 7, 0.5), (3, 31, 1.0), (1, 5, 0)]
)
def test_levels_are_the_same_in_both_forms(num_robots, num_cells, fill):
    """Round by round, and finished; maps that are given up too."""
    env = envs.make("jaxnav_7x7x2a", num_agents=num_robots, map_size=num_cells, fill=fill)
    count = 60 if num_cells == 31 else 3000
    draft, walls = maps.new_draft(rng.keys(5, count), num_robots, num_cells), maps.most_walls(num_cells, fill)
    draft.rounds[::7] = draft.placed[::7] = 0  # no place for anybody
    draft.rounds[::7] = maps.MOST_ROUNDS - 2
    arrays = [tensor.numpy().copy() for tensor in vars(draft).values()]
    room = np.empty((maps.CANDIDATES, 4), np.float32)
    for step in range(4):
        draft = maps.next_round(draft, walls) if step < 3 else maps.finish(draft, walls)
        for b in range(count):
            (loops.next_round if step < 3 else loops.finish)(env.numbers, room, *arrays, b)
        for name, ours, theirs in zip(DRAFT, arrays, vars(draft).values()):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}, step {step}")


def test_every_seed_starts_as_make_does():
    engine = envs.make("jaxnav_9x9x3a", auto_reset=False).engine()
    for seed in (*range(40), 2**63, -3):
        env = envs.make("jaxnav_9x9x3a", seed=seed)
        ts, outcome = env.reset(), engine.reset(seed)
        np.testing.assert_array_equal(outcome.obs, ts.obs[0])
        np.testing.assert_array_equal(outcome.state, ts.state[0])
        for name, value in engine.state_dict().items():
            np.testing.assert_array_equal(value, getattr(env.state, name)[0], err_msg=f"{name}, seed {seed}")


def test_the_engine_goes_on_into_the_levels_of_the_batch():
    """Without a seed, an episode follows as an auto-reset would start it."""
    env = envs.make("jaxnav_7x7x2a", seed=4, max_steps=5)
    engine = envs.make("jaxnav_7x7x2a", auto_reset=False, max_steps=5).engine()
    env.reset(), engine.reset(4)
    for _ in range(12):
        ts, outcome = env.step(torch.zeros(1, 2, 2)), engine.step(np.zeros((2, 2), np.float32))
        np.testing.assert_array_equal(outcome.obs, ts.final_obs[0])
        if outcome.terminated or outcome.truncated:
            outcome = engine.reset()
        np.testing.assert_array_equal(outcome.obs, ts.obs[0])
        np.testing.assert_array_equal(engine.fields["next_robots"], env.state.next_robots[0])


def walk(count):
    env, generator = envs.make("jaxnav_7x7x2a", count, seed=2, max_steps=12), torch.Generator().manual_seed(0)
    env.reset()
    actions = torch.tensor([1.0, 0.5]) * torch.rand(30, 101, 2, 2, generator=generator)
    seen = [env.step(action[:count]) for action in actions]
    return [torch.stack([getattr(ts, name) for ts in seen]) for name in ("obs", "state", "reward", "terminated")]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_numbers_depend_neither_on_threads_nor_on_the_batch(threads):
    before = pool.num_threads()
    try:
        pool.set_num_threads(1)
        alone = walk(101)
        pool.set_num_threads(threads)
        for count in (101, 100, 49, 1):
            for whole, part in zip(alone, walk(count)):
                assert torch.equal(whole[:, :count], part), f"{count} environments"
    finally:
        pool.set_num_threads(before)


@pytest.mark.slow
def test_compiled_steps_are_the_loops():
    """By torch.compile's own backend, up to rounding: a reading or an event may fall otherwise at an edge."""
    torch.compiler.reset()
    env = envs.make("jaxnav_7x7x2a", 256, seed=2, auto_reset=False)
    env.reset()
    transition, perceive = (torch.compile(f, fullgraph=True) for f in (env.transition, env.perceive))
    generator, unequal = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        actions = random_actions(env, generator)
        other, reward, *_ = transition(env.state, actions)
        ts = env.step(actions)
        for name in ("pos", "theta", "vel"):
            torch.testing.assert_close(getattr(other, name), getattr(env.state, name), atol=2e-6, rtol=0)
        obs, state, _ = perceive(env.state)
        unequal += int(((obs - ts.obs).abs() > 1e-5).sum() + ((state - ts.state).abs() > 1e-5).sum())
        unequal += int(((reward - ts.reward).abs() > 1e-5).sum() + (other.beams != env.state.beams).sum())
    assert unequal <= 10
