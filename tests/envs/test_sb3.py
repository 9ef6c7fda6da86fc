"""Stable-Baselines3's face: what its own DummyVecEnv says, its wrappers, and training with its PPO and MaskablePPO."""

import warnings

import numpy as np
import pytest
import torch
from task_lists import every_task
from toy_environments import register_toys
from walkers import Walker, Walkers, assert_same

import torch_mars.envs as envs
from torch_mars.envs.vector import for_sb3

sb3 = pytest.importorskip("stable_baselines3", reason="not installed; extra [interop]")

from stable_baselines3.common import vec_env  # noqa: E402 - where it is installed
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def toys():
    register_toys()


def make(task="toy_masked", num_envs=2, **options):
    return for_sb3(envs.vector_env(task, num_envs, **options))


def without_seconds(infos):
    return [{**i, "episode": {**i["episode"], "t": 0.0}} if "episode" in i else i for i in infos]


# ---- what Stable-Baselines3's own says ----

WRAPPED = {
    "bare": lambda env: env,
    "normalized": vec_env.VecNormalize,
    "stacked": lambda env: vec_env.VecFrameStack(env, 3),
    "checked": lambda env: vec_env.VecCheckNan(env, raise_exception=True),
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_outputs_are_those_of_its_own_environment(wrapped):
    """Key by key, of four walkers that were written twice."""
    ours = wrapped(for_sb3(envs.vector_env(Walkers, 4, agent_id=False, render_mode="rgb_array")))
    theirs = wrapped(vec_env.DummyVecEnv([lambda: Monitor(Walker(False, "rgb_array"))] * 4))
    assert ours.num_envs == theirs.num_envs and ours.render_mode == theirs.render_mode
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.seed(3) == theirs.seed(3)
    assert_same(ours.reset(), theirs.reset(), "reset")
    generator, ends = np.random.default_rng(0), np.zeros(2, int)
    for t in range(80):
        masks = np.stack(theirs.env_method("action_masks"))
        assert_same(np.stack(ours.env_method("action_masks")), masks, f"masks {t}")
        assert_same(ours.env_method("action_masks", indices=[2, 0]), theirs.env_method("action_masks", indices=[2, 0]))
        actions = generator.integers(3, size=4)
        *mine, infos = ours.step(actions)
        *other, their_infos = theirs.step(actions)
        assert_same((*mine, without_seconds(infos)), (*other, without_seconds(their_infos)), f"step {t}")
        ends += other[2].sum(), sum(info["TimeLimit.truncated"] for info in their_infos)
        assert_same(ours.render(), theirs.render(), f"picture {t}")
    assert ends[0] - ends[1] > 10 and ends[1] > 10
    ours.close()


def test_its_monitor_says_the_same():
    with pytest.warns(UserWarning, match="already wrapped"):
        env = vec_env.VecMonitor(make("toy_masked", max_steps=5), info_keywords=("total_by_agent",))
    plain = make("toy_masked", max_steps=5)
    for each in (env, plain):
        each.seed(0)
        each.reset()
    generator, ends = np.random.default_rng(0), 0
    for _ in range(17):
        actions = generator.integers(4, size=6)
        *_, infos = env.step(actions)
        *_, expected = plain.step(actions)
        for row, (info, mine) in enumerate(zip(infos, expected)):
            assert ("episode" in info) == ("episode" in mine)
            if "episode" in info:
                ends += 1
                assert info["episode"]["r"] == pytest.approx(mine["episode"]["r"], abs=1e-4), row
                assert info["episode"]["l"] == mine["episode"]["l"] == 5
                assert info["episode"]["total_by_agent"] == mine["total_by_agent"]
    assert ends == 18


# ---- rows, attributes, seeds ----


def test_a_rows_return_is_its_own():
    """Rewards of the toy are each agent's own: so are the episodes' returns."""
    env, rows = make("toy_masked", max_steps=4), envs.vector_env("toy_masked", 2, max_steps=4)
    env.seed(7)
    np.testing.assert_array_equal(env.reset(), rows.reset(seed=7)[0])
    total = np.zeros(6)
    for _ in range(4):
        actions = np.arange(6) % 4
        obs, reward, _, _, infos = rows.step(actions)
        total += reward
        found = env.step(actions)
        np.testing.assert_array_equal(found[0], obs)
        np.testing.assert_array_equal(found[1], reward)
    assert [info["episode"]["r"] for info in found[3]] == pytest.approx(total.tolist())
    assert len(set(total)) > 1
    for row, info in enumerate(found[3]):
        assert info["TimeLimit.truncated"] is True
        np.testing.assert_array_equal(info["terminal_observation"], infos["final_obs"][row])
        assert info["total_by_agent"] == infos["final_info"]["total_by_agent"][row]


def test_attributes_and_methods():
    env = make("toy_masked")
    assert env.get_attr("num_agents") == [3] * 6 and env.get_attr("num_agents", [1, 4]) == [3, 3]
    assert env.get_attr("render_mode", 2) == [None] and not env.has_attr("nothing")
    env.set_attr("lesson", 4)
    assert env.get_attr("lesson") == [4] * 6 and env.env.lesson == 4
    with pytest.raises(ValueError, match=r"'lesson' of rows \[0, 5\]: the rows are one, so set it for all"):
        env.set_attr("lesson", 5, indices=[0, -1])
    assert env.get_attr("lesson", 0) == [4]
    with pytest.raises(AttributeError, match="nothing"):
        env.env_method("nothing")
    assert env.env_is_wrapped(Monitor) == [True] * 6 and env.env_is_wrapped(vec_env.VecMonitor, [0]) == [False]
    with pytest.raises(ValueError, match=r"action_masks\(\) before reset\(\)"):
        env.env_method("action_masks")
    env.reset()
    masks = [row() for row in env.get_attr("action_masks", [3, 1])]
    np.testing.assert_array_equal(masks, env.env_method("action_masks", indices=[3, 1]))
    assert masks[0].dtype == bool and masks[0].shape == (4,)
    for where in (lambda: env.step(np.zeros(5, int)), lambda: make().step(np.zeros(6, int))):
        with pytest.raises(ValueError, match=r"must be \[6\]|step\(\) before reset\(\)"):
            where()


def test_masks_are_offered_where_there_are_some():
    for task, expected in (("toy_masked", True), ("toy_continuous", False), ("paxmen_4a", False)):
        env = make(task)
        assert env.has_attr("action_masks") == expected
        env.reset()
        assert env.has_attr("action_masks") == expected


def test_seeds_and_options():
    first, second = make(), make()
    assert not np.array_equal(first.reset(), second.reset())
    first.seed(3), second.seed(3)
    start = first.reset()
    np.testing.assert_array_equal(start, second.reset())
    later = first.reset()  # a seed is for one reset
    assert not np.array_equal(later, start)
    np.testing.assert_array_equal(later, second.reset())
    first.set_options({"a": 1})
    with pytest.raises(ValueError, match=r"options are \{'a': 1\}; reset\(\) takes none"):
        first.reset()


def test_pictures_of_every_environment_once():
    env = make("toy_masked", 4, render_mode="rgb_array")
    env.reset()
    assert len(env.get_images()) == 4 and env.render().shape == (16, 24, 3)
    assert make("toy_masked").get_images() == [None] * 6


# ---- training ----


def changed(model, steps):
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(steps)
    after = list(model.policy.parameters())
    assert all(p.isfinite().all() for p in after)
    return any(not torch.equal(old, new) for old, new in zip(before, after))


@pytest.mark.parametrize("task", ["toy_masked", "toy_continuous"])
def test_ppo_learns_from_all_rows(task, tmp_path):
    env = vec_env.VecNormalize(make(task, 4, max_steps=7))
    model = sb3.PPO("MlpPolicy", env, n_steps=16, batch_size=48, seed=0)
    assert changed(model, 16 * 12 * 2)
    assert model.num_timesteps == 16 * 12 * 2 and len(model.ep_info_buffer) == 12 * (32 // 7)
    model.save(tmp_path / "model")
    env.save(tmp_path / "normalization")
    other = vec_env.VecNormalize.load(tmp_path / "normalization", make(task, 4, max_steps=7))
    other.training = False
    loaded = sb3.PPO.load(tmp_path / "model", env=other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it takes us for monitored
        returns, lengths = evaluate_policy(loaded, other, n_eval_episodes=12, return_episode_rewards=True)
    assert lengths == [7] * 12 and np.isfinite(returns).all()


def counting_forbidden(env):
    """`env`, whose steps assert that every action is allowed; the number of actions seen is its `looked_at`."""
    step, env.looked_at = env.step_async, 0

    def checked(actions):
        masks = env.env.engine.action_mask(env.env.engine.state).reshape(env.num_envs, -1).numpy()
        assert masks[np.arange(env.num_envs), actions].all()
        env.looked_at += len(actions)
        step(actions)

    env.step_async = checked
    return env


def maskable(env, **settings):
    contrib = pytest.importorskip("sb3_contrib", reason="not installed; extra [interop]")
    return contrib.MaskablePPO("MlpPolicy", env, seed=0, **settings)


def test_maskable_ppo_finds_the_masks():
    env = counting_forbidden(make("toy_masked", 4, max_steps=7))
    assert changed(maskable(env, n_steps=16, batch_size=48), 16 * 12 * 3)
    assert env.looked_at == 16 * 12 * 3
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

    assert is_masking_supported(env) and get_action_masks(env).shape == (12, 4)
    unmasked = make("paxmen_4a")
    assert not is_masking_supported(unmasked)
    with pytest.raises(ValueError, match="does not support action masking"):
        maskable(unmasked, n_steps=4, batch_size=8).learn(8)


@pytest.mark.slow
def test_maskable_ppo_does_nothing_forbidden_in_200_updates():
    env = counting_forbidden(make("smax_2s3z", 4))
    model = maskable(vec_env.VecMonitor(env), n_steps=16, batch_size=160, n_epochs=2, policy_kwargs={"net_arch": [32]})
    model.learn(200 * 16 * 20)
    assert model.num_timesteps == env.looked_at == 64_000 and model._n_updates == 400
    from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked

    mean, _ = evaluate_masked(model, env, n_eval_episodes=20)
    assert np.isfinite(mean)


@pytest.mark.slow
def test_ppo_learns():
    """Better than at random by more than its spread, on a small board."""
    env = make("connector_5x5x3a", 16, max_steps=25)
    model = maskable(env, n_steps=64, batch_size=512, policy_kwargs={"net_arch": [64, 64]})
    model.learn(64 * 48)
    early = np.mean([episode["r"] for episode in model.ep_info_buffer])
    model.learn(64 * 48 * 50)
    late = np.mean([episode["r"] for episode in model.ep_info_buffer])
    assert late > early + 0.1, (early, late)


@every_task
def test_one_update_on_every_task(task):
    env = make(task, 2)
    model = sb3.PPO("MlpPolicy", env, n_steps=4, batch_size=4 * env.num_envs, n_epochs=1, seed=0)
    assert changed(model, 4 * env.num_envs)
