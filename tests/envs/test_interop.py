"""Other people's libraries use our environments as they are: TorchRL, SuperSuit with Stable-Baselines3, JAX, NumPy."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.passive_env_checker import check_action_space, check_observation_space
from task_lists import every_task
from toy_environments import register_toys

import torch_mars.envs as envs

REASON = "not installed; extra [interop]"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
def test_torchrl_collects_a_rollout():
    torchrl = pytest.importorskip("torchrl.envs", reason=REASON)
    from torchrl.envs.utils import check_env_specs

    env = torchrl.PettingZooWrapper(envs.parallel_env("paxmen_5a", max_steps=20), return_state=True)
    check_env_specs(env)
    rollout = env.rollout(50, break_when_any_done=False)
    assert rollout["agent", "observation"].shape == (50, 5, 25)
    assert rollout["state"].shape == (50, 140)
    assert rollout["next", "done"].flatten().nonzero().flatten().tolist() == [19, 39]
    assert (rollout["next", "agent", "reward"] >= -0.125 - 1e-6).all()


@pytest.mark.filterwarnings("ignore")
def test_torchrl_samples_only_allowed_actions():
    torchrl = pytest.importorskip("torchrl.envs", reason=REASON)
    with register_toys():
        env = torchrl.PettingZooWrapper(envs.parallel_env("toy_masked"), categorical_actions=True)
    rollout = env.rollout(60, break_when_any_done=False)
    mask, action = rollout["agent", "action_mask"], rollout["agent", "action"]
    assert mask.shape == (60, 3, 4) and mask.sum(-1).eq(3).all()
    assert mask.gather(-1, action[..., None]).all()


@pytest.mark.filterwarnings("ignore")
def test_stable_baselines3_trains_through_supersuit():
    supersuit = pytest.importorskip("supersuit", reason=REASON)
    sb3 = pytest.importorskip("stable_baselines3", reason=REASON)
    env = supersuit.pettingzoo_env_to_vec_env_v1(envs.parallel_env("paxmen_5a"))
    env = supersuit.concat_vec_envs_v1(env, 2, num_cpus=0, base_class="stable_baselines3")
    torch.manual_seed(0)
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=64)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(1280)
    assert model.num_timesteps == 1280
    changed = [not torch.equal(old, new) for old, new in zip(before, model.policy.parameters())]
    assert any(changed) and all(p.isfinite().all() for p in model.policy.parameters())


@every_task
def test_gymnasium_accepts_the_spaces(task):
    env = envs.parallel_env(task)
    for agent in env.possible_agents:
        observation_space, action_space = env.observation_space(agent), env.action_space(agent)
        check_observation_space(observation_space)
        check_action_space(action_space)
        flat = gymnasium.spaces.flatten(action_space, action_space.sample())
        assert len(flat) == gymnasium.spaces.flatdim(action_space)
        assert gymnasium.spaces.flatdim(observation_space) == env.rules.observation_size
    batch = gymnasium.vector.utils.batch_space(env.observation_space("agent_0"), 3)
    assert batch.shape == (3, env.rules.observation_size)


@every_task
def test_dlpack_hands_batched_tensors_to_numpy(task):
    env = envs.batched_parallel_env(task, 3)
    observations, infos = env.reset(seed=0)
    for agent, obs in observations.items():
        array = np.from_dlpack(obs)
        np.testing.assert_array_equal(array, obs.numpy())
        assert array.ctypes.data == obs.data_ptr(), f"{agent}: copied"


def test_dlpack_hands_batched_tensors_to_jax():
    """JAX takes compact tensors as they are; views, such as one agent's of a [B, N, O] tensor, need one copy."""
    jax = pytest.importorskip("jax", reason=REASON)
    env = envs.batched_parallel_env("paxmen_5a", 3)
    env.reset(seed=0)
    observations, rewards, terminations, _, _ = env.step(dict.fromkeys(env.agents, torch.zeros(3, dtype=torch.int64)))
    whole = envs.make("paxmen_5a", 3).reset().obs
    for tensor in (terminations["agent_0"], whole):
        np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(tensor)), tensor.numpy())
    for dictionary in (observations, rewards, {"state": env.state()}):
        for name, tensor in dictionary.items():
            array = jax.dlpack.from_dlpack(tensor.contiguous())
            np.testing.assert_array_equal(np.asarray(array), tensor.numpy(), err_msg=name)
