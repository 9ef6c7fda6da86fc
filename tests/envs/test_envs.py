"""The contract of every environment: names, shapes, time limit, auto-reset, seeds, batch size, load_state, errors."""

import importlib.util
import re

import gymnasium
import numpy as np
import pytest
import torch
from task_lists import every_task
from toy_environments import ContinuousToy, Toy

import torch_mars.envs as envs
from torch_mars.envs import rng
from torch_mars.envs.core import fields_of, tree_map, where_rows


def random_actions(env, generator):
    shape = (env.num_envs, env.num_agents)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.randint(0, int(env.action_space.n), shape, generator=generator)
    low, high = torch.as_tensor(env.action_space.low), torch.as_tensor(env.action_space.high)
    return low + (high - low) * torch.rand(*shape, *env.action_space.shape, generator=generator)


def play(env, steps, seed=0):
    """TimeSteps of random play from the present state on."""
    generator = torch.Generator().manual_seed(seed)
    return [env.step(random_actions(env, generator)) for _ in range(steps)]


def assert_same(left, right, rows=slice(None), where=""):
    """Equal TimeSteps, in some rows of the right one."""
    for name in ("obs", "state", "reward", "terminated", "truncated", "final_obs", "final_state"):
        assert torch.equal(getattr(left, name), getattr(right, name)[rows]), f"{where} {name}"
    for name, values in left.info.items():
        assert torch.equal(values, right.info[name][rows]), f"{where} {name}"


def test_the_benchmark_has_47_tasks_in_eight_environments():
    counts = {name: len(group) for name, group in envs.ENVIRONMENTS.items()}
    expected = {"rware": 15, "smax": 11, "connector": 4, "mpe": 3, "paxmen": 3, "aerojax": 4, "jaxnav": 4}
    assert counts == {**expected, "search_and_rescue": 3}
    assert len(set(envs.TASKS)) == 47 and set(envs.TASKS) <= set(envs.tasks())
    for task in (envs.known(name) for name in envs.tasks()):
        assert task.own or importlib.util.find_spec(f"torch_mars.envs.{task.family}.env")


@every_task
def test_shapes_types_and_spaces(task):
    env = envs.make(task, num_envs=3)
    B, N, S = env.num_envs, env.num_agents, env.state_size
    first = env.reset()
    for ts in (first, *play(env, 3)):
        for tensor, shape in ((ts.obs, (B, N, env.observation_size)), (ts.state, (B, S)), (ts.reward, (B, N))):
            assert tensor.shape == shape and tensor.dtype == torch.float32 and tensor.device == env.device
        assert ts.final_obs.shape == ts.obs.shape and ts.final_state.shape == ts.state.shape
        for flag in (ts.terminated, ts.truncated):
            assert flag.shape == (B,) and flag.dtype == torch.bool
        assert env.observation_space.contains(ts.obs[0, 0].numpy()), (ts.obs[0, 0].min(), ts.obs[0, 0].max())
        assert env.state_space.contains(ts.state[0].numpy())
        if env.state_is_obs:
            assert torch.equal(ts.state, ts.obs.flatten(1)) and torch.equal(ts.final_state, ts.final_obs.flatten(1))
        if ts.action_mask is not None:
            assert ts.action_mask.shape == (B, N, env.action_space.n) and ts.action_mask.dtype == torch.bool
        if ts.is_active is not None:
            assert ts.is_active.shape == (B, N) and ts.is_active.dtype == torch.bool
        assert {"episode_return", "episode_length"} <= ts.info.keys()
        assert all(value.shape == (B,) for value in ts.info.values())
    assert (first.is_active is not None) == (envs.family(task) in ("smax", "aerojax", "jaxnav"))
    assert len(env.agents) == N and len(set(env.agents)) == N
    assert set(env.metrics) <= ts.info.keys() and set(env.metrics.values()) <= {"sum", "last"}


@every_task
def test_an_environment_does_not_depend_on_the_batch_size(task):
    few, many = envs.make(task, num_envs=2, seed=4), envs.make(task, num_envs=7, seed=4)
    few.reset(), many.reset()
    generator = torch.Generator().manual_seed(0)
    for t in range(30):
        actions = random_actions(many, generator)
        left, right = few.step(actions[:2]), many.step(actions)
        assert torch.equal(left.reward, right.reward[:2]), t
        torch.testing.assert_close(left.obs, right.obs[:2], rtol=0, atol=1e-5)  # sums in other blocks


@every_task
def test_a_saved_state_continues_identically(task):
    env = envs.make(task, num_envs=4, seed=1)
    env.reset()
    play(env, 10)
    saved = env.state_dict()
    expected = play(env, 40, seed=9)
    other = envs.make(task, num_envs=4, seed=77)
    other.load_state({name: tensor.numpy() for name, tensor in saved.items()})
    for t, (left, right) in enumerate(zip(expected, play(other, 40, seed=9))):
        assert_same(left, right, where=f"step {t}")


@every_task
def test_seeds_choose_the_episodes(task):
    env, again, other = (envs.make(task, num_envs=3, seed=seed) for seed in (5, 5, 6))
    states = [e.reset().state for e in (env, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(env.reset().state, states[0])  # without a seed, the numbers go on
    assert torch.equal(env.reset(seed=5).state, states[0])
    blocks = envs.make(task, num_envs=6, seed=[6, 5]).reset().state
    assert torch.equal(blocks[3:], states[0]) and torch.equal(blocks[:3], states[2])


@every_task
def test_the_time_limit_truncates_and_the_next_episode_starts(task):
    env = envs.make(task, num_envs=3, max_steps=4)
    env.reset()
    steps = play(env, env.max_steps)
    assert not any(ts.truncated.any() for ts in steps[:-1])
    last = steps[-1]
    assert (last.truncated | last.terminated).all()
    assert (env.state.step == 0).all() and (env.state.totals == 0).all()
    assert not torch.equal(last.state, last.final_state)
    for name in ("obs", "state", "is_active"):
        now, shown = getattr(env.observe(), name), getattr(last, name)
        assert now is shown is None or torch.equal(now, shown)
    for ts in steps[:-1]:
        assert torch.equal(ts.obs, ts.final_obs) and torch.equal(ts.state, ts.final_state)
    returns = sum(ts.reward.mean(1) for ts in steps)
    torch.testing.assert_close(last.info["episode_return"], returns)
    assert (last.info["episode_length"] == env.max_steps).all()


@every_task
def test_without_auto_reset_the_last_situation_stays(task):
    env = envs.make(task, num_envs=2, max_steps=3, auto_reset=False)
    env.reset()
    last = play(env, env.max_steps)[-1]
    assert last.truncated.all() and (env.state.step == env.max_steps).all()
    assert torch.equal(last.obs, last.final_obs)


@every_task
def test_ending_some_environments_disturbs_no_other(task):
    """Environments that end at different times equal those that run alone."""
    env, alone = envs.make(task, num_envs=4, seed=2, max_steps=20), envs.make(task, num_envs=4, seed=2, max_steps=20)
    env.reset(), alone.reset()
    env.load_state({"step": [0, 5, 10, 15]})
    alone.load_state({"step": [0, 0, 0, 0]})
    for t, (left, right) in enumerate(zip(play(env, 19), play(alone, 19))):
        assert torch.equal(left.reward[0], right.reward[0]), t


@every_task
def test_reset_of_some_rows_equals_reset_of_all_and_choice(task, monkeypatch):
    """What CPU computes for the ended environments only, other devices select from a computation for all."""
    sparse, dense = envs.make(task, num_envs=3, seed=3), envs.make(task, num_envs=3, seed=3)
    for env in (sparse, dense):
        env.load_state({"step": [0, env.max_steps - 2, env.max_steps - 1]})
    expected = play(sparse, 4)
    monkeypatch.setattr("torch_mars.envs.core.may_look", lambda tensor: False)
    for t, (left, right) in enumerate(zip(expected, play(dense, 4))):
        assert_same(left, right, where=f"step {t}")


def test_where_rows_on_trees():
    rows = torch.tensor([True, False, True])
    source, otherwise = torch.arange(3.0), (torch.zeros(3), (torch.ones(3, 2), None))
    result = where_rows(rows, lambda x: (x + 10, (x[:, None].repeat(1, 2), None)), source, otherwise)
    assert result[0].tolist() == [10, 0, 12] and result[1][0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert result[1][1] is None and otherwise[0].tolist() == [0, 0, 0]
    assert tree_map(lambda a, b: a + b, (rows.int(), None), (rows.int(), None))[0].tolist() == [2, 0, 2]


@pytest.mark.slow
@every_task
def test_a_step_compiles_without_graph_breaks(task):
    """Traced only: the backend runs the captured graph as it is. One task of each environment: `test_compile.py`."""
    torch.compiler.reset()  # so many tasks of one class would exceed the limit of recompilations
    env, plain = envs.make(task, num_envs=2, seed=1), envs.make(task, num_envs=2, seed=1)
    env.reset(), plain.reset()
    transition = torch.compile(env.transition, backend="eager", fullgraph=True)
    perceive = torch.compile(env.perceive, backend="eager", fullgraph=True)
    actions = random_actions(env, torch.Generator().manual_seed(0))
    state, reward, terminated, _ = transition(env.state, actions)
    expected_state, expected_reward, expected_terminated, _ = plain.transition(plain.state, actions)
    torch.testing.assert_close(reward, expected_reward)
    assert torch.equal(terminated, expected_terminated)
    for name, tensor in fields_of(state).items():
        torch.testing.assert_close(tensor, fields_of(expected_state)[name])
    for left, right in zip(perceive(state), plain.perceive(expected_state)):
        assert (left is None and right is None) or torch.allclose(left.float(), right.float(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["rware_tiny_4ag", "connector_5x5x3a"])
def test_machine_code_of_torch_compile_computes_the_same_step(task):
    """By torch.compile's own backend; all that is random in a start or a step is drawn, too."""
    torch.compiler.reset()
    env = envs.make(task, num_envs=16, seed=1)
    start = torch.compile(env.initial_state, fullgraph=True)
    transition, perceive = (torch.compile(f, fullgraph=True) for f in (env.transition, env.perceive))
    keys, generator = rng.keys(5, 16), torch.Generator().manual_seed(0)
    state = expected = env.initial_state(keys)
    for name, tensor in fields_of(start(keys)).items():
        assert torch.equal(tensor, fields_of(state)[name]), name
    env.reset()
    for _ in range(20):
        actions = random_actions(env, generator)
        state, reward, terminated, _ = transition(state, actions)
        expected, expected_reward, expected_terminated, _ = env.transition(expected, actions)
        assert torch.equal(reward, expected_reward) and torch.equal(terminated, expected_terminated)
        for name, tensor in fields_of(state).items():
            assert torch.equal(tensor, fields_of(expected)[name]), name
        for left, right in zip(perceive(state), env.perceive(expected)):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


# ---- bad input ----


@pytest.mark.parametrize(
    "task, message",
    [
        ("paxmen_7a", "unknown task 'paxmen_7a'; did you mean paxmen_"),
        ("zzz", "unknown task 'zzz'; allowed are paxmen_4a"),
    ],
)
def test_unknown_tasks_are_refused_with_the_nearest(task, message):
    with pytest.raises(ValueError, match=message):
        envs.make(task)


def test_bad_arguments_are_refused():
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="num_envs is"):
            envs.make("paxmen_5a", num_envs=wrong)
    with pytest.raises(ValueError, match="unknown option 'max_step'; did you mean max_steps"):
        envs.make("paxmen_5a", max_step=3)
    with pytest.raises(ValueError, match="max_steps is 0"):
        envs.make("paxmen_5a", max_steps=0)


@pytest.mark.parametrize(
    "task, option, message",
    [
        ("paxmen_4a", {"max_steps": 2.5}, "max_steps is 2.5; it must be a whole number or none"),
        ("paxmen_4a", {"num_agents": True}, "num_agents is True; it must be a whole number"),
        ("jaxnav_7x7x2a", {"max_steps": "50"}, "max_steps is '50'; it must be a whole number"),
        ("jaxnav_7x7x2a", {"goal_radius": float("nan")}, "goal_radius is nan; it must be a number"),
        ("jaxnav_7x7x2a", {"lidar_thresh": -0.4}, "lidar_thresh is -0.4; it must be -0.3 or more"),
        ("simple_spread_3ag", {"raw_actions": 1}, "raw_actions is 1; it must be true or false"),
        ("smax_2s3z", {"attack_mode": 3}, "attack_mode is 3; it must be a text"),
        ("aerojax_2v2", {"ally_types": 5}, "ally_types is 5; it must be none or a sequence of numbers"),
        ("aerojax_2v2", {"max_enemy_slots": -1}, "max_enemy_slots is -1; it must be 0 or more"),
        ("aerojax_2v2", {"mass": 0}, "mass is 0; it must be more than 0"),
        ("aerojax_2v2", {"comm_range": -1}, "comm_range is -1; it must be 0 or more"),
    ],
)
def test_options_of_a_wrong_kind_or_size_are_refused(task, option, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        envs.make(task, **option)


def test_numbers_of_numpy_are_seeds_and_options_too():
    envs.make("jaxnav_7x7x2a", num_agents=np.int64(3), goal_radius=np.float32(0.5))
    env = envs.make("paxmen_4a", 2)
    one, other = env.reset(seed=np.int64(3)).obs, env.reset(seed=3).obs
    assert torch.equal(one, other)


def test_bad_actions_are_refused_and_change_nothing():
    env = envs.make("paxmen_5a", num_envs=2)
    with pytest.raises(RuntimeError, match="before reset"):
        env.step(torch.zeros(2, 5, dtype=torch.int64))
    env.reset()
    before = env.state_dict()
    for actions, message in (
        (torch.zeros(2, 4, dtype=torch.int64), r"a tensor \[2, 4\]; they must be a tensor \[2, 5\]"),
        (torch.zeros(2, 5), "float32; a Discrete space takes torch.int64"),
        (torch.full((2, 5), 5), "action 5 is outside the action space; allowed are 0 to 4"),
        (torch.full((2, 5), -1), "action -1 is outside"),
        (np.zeros((2, 5)), "ndarray"),
    ):
        with pytest.raises(ValueError, match=message):
            env.step(actions)
    assert all(torch.equal(before[name], tensor) for name, tensor in env.state_dict().items())


def test_bad_states_are_refused():
    env = envs.make("paxmen_5a", num_envs=2)
    with pytest.raises(ValueError, match="unknown State field 'agent_position'; did you mean agent_pos"):
        env.load_state({"agent_position": 0})
    with pytest.raises(ValueError, match=r"'step' has shape \[3\]; it must be \[2\]"):
        env.load_state({"step": [0, 0, 0]})


# ---- actions at random ----


@every_task
def test_sampled_actions_are_allowed_and_do_not_change_what_comes(task):
    env, still = envs.make(task, 6, seed=2), envs.make(task, 6, seed=2)
    ts = env.reset()
    still.reset()
    for _ in range(3):
        actions = env.sample_actions()
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            assert actions.dtype == torch.int64 and actions.shape == (6, env.num_agents)
            assert ts.action_mask is None or ts.action_mask.gather(-1, actions[..., None]).all()
        else:
            assert actions.dtype == torch.float32 and actions.shape == (6, env.num_agents, *env.action_space.shape)
            assert all(env.action_space.contains(one.numpy()) for one in actions.flatten(0, 1))
        ts = env.step(actions)
        assert_same(still.step(actions), ts)


def test_sampled_actions_are_even():
    env = envs.make(Toy, 4000)
    mask, actions = env.reset().action_mask, env.sample_actions()
    assert mask.gather(-1, actions[..., None]).all()
    share = torch.bincount(actions.flatten(), minlength=4) / actions.numel()  # 0 is forbidden at the start
    assert share[0] == 0 and (share[1:] - 1 / 3).abs().max() < 0.025
    env = envs.make(ContinuousToy, 4000)
    env.reset()
    actions = env.sample_actions()
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 2.0])
    assert (actions >= low).all() and (actions <= high).all() and actions.unique().numel() > 20_000
    assert (actions.mean((0, 1)) - (low + high) / 2).abs().max() < 0.03


def test_sampled_actions_have_nothing_to_do_with_the_start():
    """Places are 2 u - 1 of the first numbers u behind the keys, and actions are such numbers, too."""
    env = envs.make("simple_spread_3ag", 100)
    env.reset()
    places, actions = env.state.agent_pos.flatten(1), env.sample_actions().flatten(1)[:, :6]
    assert ((places + 1) / 2 - actions).abs().mean() > 0.3  # a third, of numbers that are independent


def test_sampled_actions_are_each_environment_s_own():
    """The same in a batch of any size and in shares of it, others with every call, the same again after a seed."""
    env, alone = envs.make("paxmen_4a", 5, seed=3), envs.make("paxmen_4a", 1, seed=3)
    env.reset()
    alone.reset()
    first = [env.sample_actions() for _ in range(4)]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0][0], first[0][1])
    assert all(torch.equal(actions[:1], alone.sample_actions()) for actions in first)
    env.reset()
    assert not torch.equal(env.sample_actions(), first[0]), "the next episode is another"
    env.reset(seed=3)
    rows = [torch.tensor([4, 1]), torch.tensor([0, 2, 3])]
    shares = [env.share(of_share) for of_share in rows]
    for share, of_share in zip(shares, rows):
        assert torch.equal(share.sample_actions(), first[0][of_share])
    env.join(shares, rows)
    assert torch.equal(env.sample_actions(), first[1])


def test_a_share_of_a_share_begins_its_own_episodes():
    env, keys = envs.make(Toy, 5), envs.make(Toy, 5).reset(seed=7)
    env.reset()
    share = env.share(torch.tensor([4, 1, 2])).share(torch.tensor([2, 0]))
    assert torch.equal(share.reset(seed=7).obs, keys.obs[[2, 4]])


def test_actions_cannot_be_sampled_before_a_start_or_without_bounds():
    env = envs.make(ContinuousToy)
    with pytest.raises(RuntimeError, match="call reset\\(\\) first"):
        env.sample_actions()
    env.reset()
    env.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(ValueError, match="actions at random need bounds, which Box.* has not"):
        env.sample_actions()
