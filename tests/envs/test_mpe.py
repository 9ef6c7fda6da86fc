"""Simple spread against recorded and fresh episodes of the original, and its rules in hand-placed situations."""

from pathlib import Path

import numpy as np
import pytest
import torch

import torch_mars.envs as envs

FIXTURES = Path(__file__).parents[1] / "fixtures"
TEAMS = (3, 5, 10)


@pytest.fixture(params=["loops", "tensors"])
def form(request, monkeypatch):
    if request.param == "tensors":
        monkeypatch.setattr("torch_mars.envs.mpe.env.runs_in_loops", lambda tensor: False)


def compare(record, **options):
    """Every step of whole episodes, each from the recorded situation: contacts are stiff, so trajectories part."""
    steps, episodes, num_agents = record["reward"].shape
    env = envs.make(f"simple_spread_{num_agents}ag", num_envs=episodes, auto_reset=False, **options)
    env.load_state({"landmark_pos": record["landmark_pos"]})
    touching = 0
    for t in range(steps):
        where = f"step {t}"
        env.load_state({name: record[name][t] for name in ("agent_pos", "agent_vel")})
        seen = record["obs"].shape[1]
        obs = env.observe()
        np.testing.assert_allclose(obs.obs[:seen], record["obs"][t], rtol=0, atol=1e-6, err_msg=where)
        assert torch.equal(obs.state, obs.obs.flatten(1))
        action = torch.as_tensor(record["action"][t])
        ts = env.step(action.float() if action.is_floating_point() else action.long())
        np.testing.assert_allclose(env.state.agent_pos, record["agent_pos"][t + 1], atol=1e-6, err_msg=where)
        np.testing.assert_allclose(env.state.agent_vel, record["agent_vel"][t + 1], rtol=1e-5, atol=1e-4, err_msg=where)
        np.testing.assert_allclose(ts.reward, record["reward"][t], rtol=2e-6, atol=1e-5, err_msg=where)
        np.testing.assert_array_equal(ts.truncated, record["done"][t], err_msg=where)
        assert not ts.terminated.any()
        touching += int((ts.reward.amax(1) - ts.reward.amin(1) > 0.4).sum())
    assert (record["done"].sum(0) == 1).all()
    assert touching > 20, "the record holds too few contacts to say anything"


@pytest.mark.parametrize("num_agents", TEAMS)
def test_episodes_equal_the_recorded_ones(num_agents, form):
    compare(np.load(FIXTURES / f"simple_spread_{num_agents}ag.npz"))


@pytest.mark.parity
@pytest.mark.parametrize("action_type", ["continuous", "discrete"])
@pytest.mark.parametrize("num_agents", TEAMS)
def test_episodes_equal_the_original(num_agents, action_type, form):
    pytest.importorskip("jaxmarl", reason="the original needs the extra [parity]")
    from record_mpe import record

    compare(record(num_agents, 128, 1000 + num_agents, action_type, obs_episodes=128), action_type=action_type)


def worked_example():
    env = envs.make("simple_spread_3ag", auto_reset=False)
    env.load_state(
        {
            "agent_pos": [[[0, 0], [0.2, 0.1], [-0.5, 0.4]]],
            "agent_vel": [[[0.5, -0.25], [0, 0], [-1, 0.2]]],
            "landmark_pos": [[[0.1, -0.2], [-0.6, 0.6], [0.9, 0.9]]],
        }
    )
    return env, torch.tensor([[[0.3, 0.1, 0.9, 0.2, 0.6], [0, 1, 0, 0, 0], [0.5, 0.25, 0.5, 0.75, 0]]])


def test_two_steps_of_the_worked_example(form):
    env, actions = worked_example()
    seen = [0, 0, 0.2, 0.1, -0.1, -0.3, -0.8, 0.5, 0.7, 0.8, -0.2, -0.1, -0.7, 0.3, 0, 0, 0, 0]
    assert env.observe().obs[0, 1].tolist() == pytest.approx(seen)
    expected = (
        (
            [[0.05, -0.025], [0.2, 0.1], [-0.6, 0.42]],
            [[0.0917183, -0.3291408], [0.1832817, 0.3416409], [-0.625, -0.225]],
            [-1.2125087, -1.2125087, -0.7125087],
        ),
        (
            [[0.0591718, -0.0579141], [0.2183282, 0.1341641], [-0.6625, 0.3975]],
            [[-0.3358752, -0.7174088], [0.4421251, 0.9267839], [-0.34375, -0.54375]],
            [-1.1925162, -1.1925162, -0.6925162],
        ),
    )
    for position, velocity, reward in expected:
        ts = env.step(actions)
        np.testing.assert_allclose(env.state.agent_pos[0], position, atol=1e-6)
        np.testing.assert_allclose(env.state.agent_vel[0], velocity, atol=1e-5)
        assert ts.reward[0].tolist() == pytest.approx(reward, abs=1e-6)
    assert ts.info["collisions"].item() == 2  # agents 0 and 1, in both steps


def test_agents_at_one_point_part_without_nan(form):
    env = envs.make("simple_spread_3ag", auto_reset=False)
    env.load_state({"agent_pos": np.zeros((1, 3, 2)), "agent_vel": np.zeros((1, 3, 2))})
    ts = env.step(torch.zeros(1, 3, 5))
    assert torch.equal(env.state.agent_vel, torch.zeros(1, 3, 2))
    assert ts.obs.isfinite().all() and ts.reward.isfinite().all()
    assert ts.info["collisions"].item() == 3


def test_touching_costs_the_local_part_and_distance_the_team_part(form):
    """One agent on each of two landmarks, the third landmark 0.4 from its nearest; agents 0 and 1 touch."""
    situation = {
        "agent_pos": [[[0, 0], [0.25, 0], [0, -1]]],
        "agent_vel": np.zeros((1, 3, 2)),
        "landmark_pos": [[[0, 0], [0.25, 0], [0, -0.6]]],
    }
    for ratio in (0.0, 0.25, 1.0):
        env = envs.make("simple_spread_3ag", auto_reset=False, local_ratio=ratio)
        env.load_state(situation)
        ts = env.step(torch.zeros(1, 3, 5))
        team = -0.4 * (1 - ratio)
        assert ts.reward[0].tolist() == pytest.approx([team - ratio, team - ratio, team])
        assert ts.info["coverage"].item() == pytest.approx(2 / 3)
        assert ts.info["distance"].item() == pytest.approx(0.4 / 3 / 26)


@pytest.mark.parametrize("away, coverage", [(0.149, 1 / 3), (0.151, 0.0)])
def test_a_landmark_is_covered_within_an_agent_s_radius(form, away, coverage):
    env = envs.make("simple_spread_3ag", auto_reset=False)
    env.load_state({"agent_pos": [[[0, 0], [5, 5], [-5, 5]]], "agent_vel": np.zeros((1, 3, 2))})
    env.load_state({"landmark_pos": [[[0, away], [9, 0], [9, 9]]]})
    assert env.step(torch.zeros(1, 3, 5)).info["coverage"].item() == pytest.approx(coverage)


def test_thrusts_as_large_as_float32_leave_finite_numbers(form):
    env = envs.make("simple_spread_3ag", auto_reset=False)
    env.reset()
    for _ in range(3):
        ts = env.step(3e38 * torch.eye(5)[torch.tensor([[2, 1, 4]])])  # to the right, to the left, up
        assert ts.obs.isfinite().all() and ts.reward.isfinite().all()


def test_discrete_actions_are_unit_thrusts(form):
    env, _ = worked_example()
    discrete = envs.make("simple_spread_3ag", num_envs=5, auto_reset=False, action_type="discrete")
    continuous = envs.make("simple_spread_3ag", num_envs=5, auto_reset=False)
    actions = torch.arange(5)[:, None].expand(5, 3)
    for other in (discrete, continuous):
        other.load_state({name: tensor.expand(5, *tensor.shape[1:]) for name, tensor in env.state_dict().items()})
    left, right = discrete.step(actions), continuous.step(torch.eye(5)[actions])
    assert torch.equal(left.obs, right.obs) and torch.equal(left.reward, right.reward)


def test_raw_actions_change_the_space_only():
    env, raw = envs.make("simple_spread_3ag"), envs.make("simple_spread_3ag", raw_actions=True)
    assert (env.action_space.low == 0).all() and (raw.action_space.low == -1).all()
    env.reset(), raw.reset()
    actions = torch.full((1, 3, 5), -0.5)
    assert torch.equal(env.step(actions).obs, raw.step(actions).obs)


@pytest.mark.parametrize(
    "task, low, expected, spread, collisions",
    [
        ("simple_spread_3ag", 0, -26.35, 8.37, 1.02),
        ("simple_spread_3ag", -1, -28.86, 8.38, 1.37),
        ("simple_spread_5ag", 0, -34.90, 8.57, 3.62),
        ("simple_spread_10ag", 0, -54.28, 9.47, 17.10),
        ("simple_spread_10ag", -1, -60.28, 9.55, 19.05),
    ],
)
def test_random_play_returns_what_the_original_does(task, low, expected, spread, collisions):
    """Against means over 8,192 episodes of the original."""
    count = 8192
    env = envs.make(task, num_envs=count, seed=0)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    for _ in range(26):
        ts = env.step(low + (1 - low) * torch.rand(count, env.num_agents, 5, generator=generator))
    assert ts.truncated.all()
    returns = ts.info["episode_return"]
    assert returns.mean().item() == pytest.approx(expected, abs=4 * spread * (2 / count) ** 0.5)
    assert returns.std().item() == pytest.approx(spread, rel=0.05)
    assert ts.info["collisions"].mean().item() == pytest.approx(collisions, rel=0.08)


def test_starts_are_uniform_and_at_rest():
    env = envs.make("simple_spread_5ag", num_envs=20_000, seed=0)
    env.reset()
    coordinates = torch.cat([env.state.agent_pos, env.state.landmark_pos], 1).flatten(1)  # [B, 20]
    assert coordinates.min() >= -1 and coordinates.max() < 1 and (env.state.agent_vel == 0).all()
    for k in range(coordinates.shape[1]):
        share = torch.histc(coordinates[:, k], 10, -1, 1) / env.num_envs
        assert (share - 0.1).abs().max() < 5 * (0.09 / env.num_envs) ** 0.5, f"coordinate {k}"
    correlation = torch.corrcoef(coordinates.T) - torch.eye(20)
    assert correlation.abs().max() < 5 / env.num_envs**0.5


def test_a_picture_of_any_state():
    env = envs.make("simple_spread_10ag", num_envs=2, seed=5)
    env.reset()
    env.load_state({"agent_pos": env.state.agent_pos * torch.tensor([1.0, 3.0])[:, None, None]})
    near, far = (env.draw(env.state, index) for index in range(2))
    for picture in (near, far):
        assert picture.dtype == np.uint8 and picture.shape == (540, 512, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert not np.array_equal(near, far)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"action_type": "sparse"}, "action_type is 'sparse'; allowed are 'continuous' and 'discrete'"),
        ({"local_ratio": 1.5}, "local_ratio is 1.5; it must be between 0 and 1"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        envs.make("simple_spread_3ag", **option)
