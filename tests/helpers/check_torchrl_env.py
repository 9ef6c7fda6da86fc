"""Checks of `examples/torchrl_env.py` and of TorchRL's wrapper, run by `tests/test_interop_docs.py` in two versions.

`MarsEnv` against the batched environment itself: the same seed and actions give the same numbers.
"""

import torch
from torchrl.envs import ActionMask, PettingZooWrapper, RewardSum, TransformedEnv
from torchrl.envs.utils import check_env_specs
from torchrl_env import MarsEnv

import torch_mars.envs as envs

TASKS = "paxmen_4a", "smax_2s3z", "jaxnav_7x7x2a", "connector_5x5x3a", "simple_spread_3ag"
STEPS = 20  # of episodes of 7 steps at most: over two ends by the time limit


def is_equal_step_for_step(task: str) -> None:
    env = MarsEnv(task, 4, max_steps=7)
    check_env_specs(env)
    env.set_seed(5)
    rollout = env.rollout(STEPS, break_when_any_done=False)
    assert rollout["next", "done"][:, 6].all() or task != "paxmen_4a"
    alone = envs.make(task, 4, max_steps=7)
    ts = alone.reset(5)
    for step in range(STEPS):
        now = rollout[:, step]
        expected = {("agents", "observation"): ts.obs, "state": ts.state, ("agents", "action_mask"): ts.action_mask}
        ts = alone.step(now["agents", "action"])
        expected[("next", "agents", "observation")], expected[("next", "state")] = ts.final_obs, ts.final_state
        expected[("next", "agents", "reward")] = ts.reward[..., None]
        expected[("next", "terminated")] = ts.terminated[:, None]
        expected[("next", "truncated")] = ts.truncated[:, None]
        expected[("next", "info", "episode_return")] = ts.info["episode_return"][:, None]
        for key, tensor in expected.items():
            found = now.get(key, None)
            assert (found is None) == (tensor is None), (task, step, key)
            assert tensor is None or torch.equal(found, tensor), (task, step, key)


def returns_are_torchrl_s_own_sums() -> None:
    env = TransformedEnv(MarsEnv("connector_5x5x3a", 8), RewardSum(reset_keys=["_reset"]))
    rollout = env.rollout(100, break_when_any_done=False)["next"]
    done = rollout["done"][..., 0]
    assert done.sum() > 8
    theirs = rollout["agents", "episode_reward"][done]  # [episodes, N, 1]
    assert torch.allclose(theirs.mean(1), rollout["info", "episode_return"][done], atol=1e-5)


def random_actions_are_allowed_ones() -> None:
    masks = ActionMask(("agents", "action"), ("agents", "action_mask"))
    for env in (MarsEnv("connector_5x5x3a", 8), TransformedEnv(MarsEnv("smax_2s3z", 8), masks)):
        rollout = env.rollout(60, break_when_any_done=False)
        mask = rollout["agents", "action_mask"]
        assert not mask.all()
        assert mask.gather(-1, rollout["agents", "action"][..., None]).all()


def only_the_asked_start_anew() -> None:
    env = MarsEnv("paxmen_4a", 3)
    now = env.rollout(5)[:, -1]["next"]
    now["_reset"] = torch.tensor([[True], [False], [True]])
    again = env.reset(now.clone())
    assert env.rules.state.step.tolist() == [0, 5, 0]
    assert torch.equal(again["agents", "observation"][1], now["agents", "observation"][1])
    assert torch.equal(again["agents", "observation"], env.rules.observe().obs)
    alike = [torch.equal(again["state"][row], now["state"][row]) for row in range(3)]
    assert alike == [False, True, False]


def a_seed_starts_the_same() -> None:
    env = MarsEnv("jaxnav_7x7x2a", 2)
    starts = []
    for seed in (3, 4, 3, None):
        if seed is not None:
            env.set_seed(seed)
        starts.append(env.reset()["state"])
    assert torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[2], starts[3])


def all_may_be_asked_to_start_anew() -> None:
    env = MarsEnv("connector_5x5x3a", 3)
    now = env.rollout(3)[:, -1]["next"]
    now["_reset"] = torch.ones(3, 1, dtype=torch.bool)
    env.reset(now)
    assert env.rules.state.step.tolist() == [0, 0, 0]
    assert env.rollout(4, break_when_any_done=False).shape == (3, 4)


def it_stays_on_its_device() -> None:
    env = MarsEnv("paxmen_4a", 2)
    assert env.to("cpu") is env
    try:
        env.to("meta")
    except ValueError as error:
        assert str(error) == "environments made on cpu stay there; make them with device='meta'"
    else:
        raise AssertionError("moved to another device")


def torchrl_s_wrapper_takes_the_pettingzoo_face() -> None:
    env = PettingZooWrapper(envs.parallel_env("paxmen_5a", max_steps=20), return_state=True)
    check_env_specs(env)
    rollout = env.rollout(50, break_when_any_done=False)
    assert rollout["agent", "observation"].shape == (50, 5, 25)
    assert rollout["state"].shape == (50, 140)
    assert rollout["next", "done"].flatten().nonzero().flatten().tolist() == [19, 39]
    assert (rollout["next", "agent", "reward"] >= -0.125 - 1e-6).all()
    with_dead = PettingZooWrapper(
        envs.parallel_env("aerojax_2v2", max_steps=20)
    )  # whose infos say nothing but at the end
    assert with_dead.rollout(50, break_when_any_done=False)["next", "done"].sum() >= 2
    masked = PettingZooWrapper(envs.parallel_env("connector_5x5x3a")).rollout(60, break_when_any_done=False)
    mask = masked["agent", "action_mask"]
    assert mask.shape == (60, 3, 5) and not mask.all()
    assert mask.gather(-1, masked["agent", "action"][..., None]).all()


for task in TASKS:
    is_equal_step_for_step(task)
returns_are_torchrl_s_own_sums()
random_actions_are_allowed_ones()
only_the_asked_start_anew()
all_may_be_asked_to_start_anew()
a_seed_starts_the_same()
it_stays_on_its_device()
torchrl_s_wrapper_takes_the_pettingzoo_face()
