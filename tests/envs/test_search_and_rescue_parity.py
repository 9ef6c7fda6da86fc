"""Search & Rescue against recorded and fresh episodes of the original, jumanji 1.1.2."""

from pathlib import Path

import numpy as np
import pytest
import torch

import torch_mars.envs as envs

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZES = ("2x20", "4x40", "8x40")
FIELDS = ("searcher_pos", "searcher_heading", "searcher_speed", "target_pos", "target_found")
V = 128
RAYS = np.linspace(-0.4 * np.pi, 0.4 * np.pi, V)
NEAR = 1e-6  # of an edge: single precision decides either way
BIT = 2e-7  # positions agree to one bit each
DRIFT = 1e-4  # the same after hundreds of steps, in which rounding adds up


@pytest.mark.parametrize("form", ["loops", "tensors"])
@pytest.mark.parametrize("size", SIZES)
def test_episodes_equal_the_recorded_ones(size, form, monkeypatch):
    """Left to themselves from the same start; our own velocities of the targets were the original's, too."""
    monkeypatch.setattr("torch_mars.envs.search_and_rescue.env.runs_in_loops", lambda tensor: form == "loops")
    record = np.load(FIXTURES / f"search_and_rescue_{size}.npz")
    every = -(-len(record["action"]) // (len(record["obs"]) - 1))
    env = envs.make(f"search_and_rescue_{size}", record["action"].shape[1], auto_reset=False)
    env.load_state({"rng": record["rng"], **{name: record[name][0] for name in FIELDS}})
    at_edges = 0
    steps = len(record["action"]) if form == "loops" else 160
    for t in range(steps + 1):
        where = f"search_and_rescue_{size}, step {t}"
        if t % every == 0:
            for name in FIELDS[:4]:
                wanted = record[name][t // every]
                np.testing.assert_allclose(getattr(env.state, name), wanted, rtol=0, atol=1e-5, err_msg=where)
            seen = env.observe()
            fields = {name: record[name][t // every] for name in FIELDS[:4]}
            at_edges += assert_same_views(seen.obs.numpy(), record["obs"][t // every], fields, where, DRIFT)
        np.testing.assert_array_equal(env.state.target_found, record["target_found"][t], err_msg=where)
        if t < steps:
            ts = env.step(torch.from_numpy(record["action"][t]).float())
            np.testing.assert_allclose(ts.reward, record["reward"][t], rtol=0, atol=1e-6, err_msg=where)
            np.testing.assert_array_equal(ts.terminated | ts.truncated, record["ends"][t], err_msg=where)
    assert record["target_found"][-1].sum() > 15 and record["ends"].any(0).all() and at_edges <= 3


# ---- live, from equal states ----


def pairs(fields):
    """Distance and bearing [B, N, K] of all entities, searchers first; of ways of single precision, in double."""
    at, to = (np.asarray(fields[name], np.float32) for name in ("searcher_pos", "target_pos"))
    way = np.concatenate([at, to], 1)[:, None] - at[:, :, None]
    way = np.where(np.abs(way) >= 0.5, way - np.sign(way), way).astype(float)
    bearing = np.asarray(fields["searcher_heading"], float)[..., None] - np.arctan2(way[..., 1], way[..., 0])
    return np.hypot(way[..., 0], way[..., 1]), (bearing + np.pi) % (2 * np.pi) - np.pi


def is_at_an_edge(fields, b, i, k, near):
    """Whether ray k of searcher i touches an edge of something, or something is at the end of the range of sight."""
    distance, bearing = (values[b, i] for values in pairs(fields))
    width = np.arctan2(0.02, distance)
    near = near + BIT / np.maximum(distance, BIT)  # seen under that angle
    near_edge = np.minimum(np.abs(bearing - width - RAYS[k]), np.abs(bearing + width - RAYS[k])) < near
    vision_range = np.where(np.arange(len(distance)) < fields["searcher_pos"].shape[1], 0.4, 0.1)
    return bool((near_edge | (np.abs(distance - vision_range) < near)).any())


def is_in_doubt(fields, b, j):
    """Whether some searcher is at the edge of finding target j."""
    N = fields["searcher_pos"].shape[1]
    distance, bearing = (values[b, :, N + j] for values in pairs(fields))
    return bool(((np.abs(distance - 0.02) < NEAR) | (np.abs(np.abs(bearing) - 0.4 * np.pi) < NEAR)).any())


def assert_same_views(ours, theirs, fields, where, near=NEAR):
    """Equal readings; rays that differ are at an edge. How many did."""
    differ = np.argwhere(np.abs(ours - theirs) > 2 * near)
    for b, i, k in differ:
        assert k < 3 * V and is_at_an_edge(fields, b, i, k % V, near), (
            f"{where}, environment {b}, searcher {i}, number {k}"
        )
    return len(differ)


def assert_same_finds(ours, theirs, fields, where):
    differ = np.argwhere(ours != theirs)
    for b, j in differ:
        assert is_in_doubt(fields, b, j), f"{where}, environment {b}, target {j}"
    return {b for b, _ in differ}


@pytest.mark.parity
@pytest.mark.parametrize("play", ["random", "seeking"])
@pytest.mark.parametrize("size", [*SIZES, "3x7", "1x1"])
def test_episodes_equal_the_original(size, play):
    """All steps of whole episodes, each from equal states; our velocities are given to the original."""
    pytest.importorskip("jumanji", reason="the original needs the extra [parity]")
    from record_search_and_rescue import fields_of, original, seeking, seen_in

    count = 64
    env = envs.make(f"search_and_rescue_{size}", count, seed=len(play), auto_reset=False)
    ts = env.reset()
    _, step, _, state_of = original(env.num_agents, env.num_targets)
    generator = np.random.default_rng(3)
    doubtful_rays = doubtful_finds = finds = 0
    for t in range(env.max_steps):
        where = f"search_and_rescue_{size}, {play} play, step {t}"
        before = env.state_dict()
        actions = torch.from_numpy(generator.uniform(-1.3, 1.3, (count, env.num_agents, 2))).float()
        actions = actions if play == "random" else seeking(ts.obs, generator)
        ts = env.step(actions)
        theirs, time_step = step(state_of({**before, "target_vel": env.state.target_vel}), actions.numpy())
        wanted = fields_of(theirs)
        for name in (*FIELDS[:4], "target_vel", "step"):
            np.testing.assert_allclose(getattr(env.state, name), wanted[name], rtol=0, atol=5e-7, err_msg=where)
        in_doubt = assert_same_finds(env.state.target_found.numpy(), wanted["target_found"], wanted, where)
        certain = [b for b in range(count) if b not in in_doubt]
        np.testing.assert_allclose(
            ts.reward[certain], np.asarray(time_step.reward)[certain], rtol=0, atol=2e-6, err_msg=where
        )
        ends = np.asarray(time_step.discount[:, 0] == 0)
        np.testing.assert_array_equal((ts.terminated | ts.truncated)[certain], ends[certain], err_msg=where)
        seen = seen_in(time_step.observation, env.max_steps)
        doubtful_rays += assert_same_views(
            ts.obs.numpy()[certain], seen[certain], {k: v[certain] for k, v in wanted.items()}, where
        )
        doubtful_finds += len(in_doubt)
        finds += int((env.state.target_found & ~before["target_found"]).sum())
    assert finds > 5 and doubtful_rays <= 50 and doubtful_finds <= 3, (finds, doubtful_rays, doubtful_finds)


@pytest.mark.parity
@pytest.mark.parametrize("size", SIZES)
def test_steps_without_noise_equal_the_original_from_odd_situations(size):
    """Crowds across the edges, velocities beyond the limit: the original's own dynamics, without acceleration."""
    pytest.importorskip("jumanji", reason="the original needs the extra [parity]")
    from record_search_and_rescue import fields_of, original, seen_in

    count = 512
    env = envs.make(f"search_and_rescue_{size}", count, seed=9, auto_reset=False, target_acc_std=0.0)
    N, T = env.num_agents, env.num_targets
    _, step, look, state_of = original(N, T, given_velocities=False)
    generator = np.random.default_rng(5)
    for t in range(20):
        env.reset()
        centre = generator.choice([0.0, 0.5, 0.01, 0.99], (count, 1, 2))
        spread = generator.choice([0.01, 0.03, 0.1, 0.3], (count, 1, 1))

        def places(number, centre=centre, spread=spread):
            """Not exactly 1, where the original's search for neighbours loses things."""
            there = (centre + spread * generator.normal(size=(count, number, 2))) % 1
            return np.minimum(there, 1 - 1e-6).astype(np.float32)

        env.load_state(
            {
                "searcher_pos": places(N),
                "target_pos": places(T),
                "target_vel": generator.normal(0, 0.002, (count, T, 2)),
                "target_found": generator.random((count, T)) < 0.3,
                "step": generator.integers(400, size=count),
            }
        )
        state = state_of(env.state_dict())
        assert_same_views(env.observe().obs.numpy(), seen_in(look(state), 400), env.state_dict(), f"round {t}")
        actions = generator.uniform(-1.3, 1.3, (count, N, 2)).astype(np.float32)
        ts = env.step(torch.from_numpy(actions))
        theirs, time_step = step(state, actions)
        wanted = fields_of(theirs)
        keeps = (wanted["searcher_pos"] < 1).all((1, 2)) & (wanted["target_pos"] < 1).all((1, 2))
        for name in (*FIELDS[:4], "target_vel"):
            np.testing.assert_allclose(getattr(env.state, name), wanted[name], rtol=0, atol=5e-7, err_msg=name)
        in_doubt = assert_same_finds(
            env.state.target_found.numpy()[keeps],
            wanted["target_found"][keeps],
            {k: v[keeps] for k, v in wanted.items()},
            f"round {t}",
        )
        same = (env.state.target_found.numpy() == wanted["target_found"]).all(1) & keeps
        assert len(in_doubt) <= 3
        np.testing.assert_allclose(ts.reward[same], np.asarray(time_step.reward)[same], rtol=0, atol=2e-6)
        seen = seen_in(time_step.observation, 400)
        assert_same_views(ts.obs.numpy()[same], seen[same], {k: v[same] for k, v in wanted.items()}, f"round {t}")


@pytest.mark.parity
def test_noise_and_starts_are_distributed_as_the_original_s():
    """Kolmogorov and Smirnov's test of two samples, each beyond its bound once in 1e4: starts, speeds at the limit."""
    pytest.importorskip("jumanji", reason="the original needs the extra [parity]")
    import jax
    from jumanji.environments.swarms.search_and_rescue.dynamics import RandomWalk
    from jumanji.environments.swarms.search_and_rescue.types import TargetState
    from record_search_and_rescue import fields_of, original

    count = 2048
    env = envs.make("search_and_rescue_2x20", count, seed=11, auto_reset=False)
    env.reset()
    reset = original(2, 20)[0]
    theirs = fields_of(reset(jax.random.split(jax.random.PRNGKey(0), count))[0])

    def assert_alike(left, right, name):
        left, right = np.sort(np.ravel(left)), np.sort(np.ravel(right))
        both = np.concatenate([left, right])
        shares = [np.searchsorted(one, both, side="right") / len(one) for one in (left, right)]
        distance = np.abs(shares[0] - shares[1]).max()
        assert distance < 2.3 * (1 / len(left) + 1 / len(right)) ** 0.5, name

    for name in ("searcher_pos", "searcher_heading", "searcher_speed", "target_pos"):
        assert_alike(getattr(env.state, name), theirs[name], name)

    walk = jax.jit(jax.vmap(lambda key, targets: RandomWalk(0.0001, 0.002)(key, targets, 1.0)))
    targets = TargetState(pos=theirs["target_pos"], vel=theirs["target_vel"], found=theirs["target_found"])
    key = jax.random.PRNGKey(1)
    for t in range(1, 601):
        key, now = jax.random.split(key)
        targets = walk(jax.random.split(now, count), targets)
        if env.state.step.max() == 399:
            env.load_state({"step": torch.zeros(count)})
        env.step(torch.zeros(count, 2, 2))
        if t in (1, 12, 100, 600):  # one target each: the samples are to be independent
            ours, their = env.state.target_vel[:, 0].numpy(), np.asarray(targets.vel)[:, 0]
            assert_alike(np.hypot(*ours.T), np.hypot(*their.T), f"speed after {t} steps")
            assert_alike(np.arctan2(*ours.T), np.arctan2(*their.T), f"direction after {t} steps")
    speed = env.state.target_vel.norm(dim=-1)
    assert (speed <= 0.002 * (1 + 1e-6)).all() and (speed > 0.00199).float().mean() > 0.01
