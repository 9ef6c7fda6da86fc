"""Gymnasium takes the spaces and NumPy the tensors as they are; other libraries: `tests/test_interop_docs.py`."""

import gymnasium
import numpy as np
from gymnasium.utils.passive_env_checker import check_action_space, check_observation_space
from task_lists import every_task

import torch_mars.envs as envs


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
