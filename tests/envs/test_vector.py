"""Gymnasium's face: the infos of Gymnasium's own vector environments, the numbers of `make`, clear refusals."""

import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers
from task_lists import every_task
from toy_environments import register_toys
from walkers import Walker, Walkers, assert_same

import torch_mars.envs as envs
from torch_mars.envs.vector import for_sb3


@pytest.fixture(autouse=True, scope="module")
def toys():
    register_toys()


def samples(env, count, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


# ---- what Gymnasium's own vector environment says ----

WRAPPED = {
    "bare": lambda env: env,
    "statistics": wrappers.RecordEpisodeStatistics,
    "list": wrappers.DictInfoToList,
    "normalized_reward": wrappers.NormalizeReward,
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_outputs_are_those_of_gymnasiums_vector_environment(wrapped, monkeypatch):
    """Key by key, of four walkers that were written twice."""
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)  # statistics have seconds, too
    ours = envs.vector_env(Walkers, 4, agent_id=False, render_mode="rgb_array")
    walkers = [lambda: Walker(render_mode="rgb_array")] * 4
    theirs = SyncVectorEnv(walkers, autoreset_mode=AutoresetMode.SAME_STEP)
    for name in ("num_envs", "observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    actions = samples(ours, 80)
    ours, theirs = wrapped(ours), wrapped(theirs)
    assert_same(ours.reset(seed=1), theirs.reset(seed=1), "reset")
    seen = np.zeros(2, int)
    for t, action in enumerate(actions):
        mine, other = ours.step(action), theirs.step(action)
        seen += other[2].sum(), other[3].sum()
        # rewards are float32, as everything of ours is that is no whole number
        assert_same((mine[0], mine[1].astype(np.float64), *mine[2:]), other, f"step {t}")
        assert_same(ours.render(), theirs.render(), f"picture {t}")
    assert (seen > 10).all()
    ours.close()
    assert ours.closed


# ---- the numbers of make ----

NUMBERS = {
    "connector_5x5x3a": {},
    "paxmen_4a": {},
    "simple_spread_3ag": {},
    # ended by the rules, too
    "toy_masked": {"goal": 24.0},
    "toy_continuous": {"goal": 9.0},
}


@pytest.mark.parametrize("task", NUMBERS)
@pytest.mark.parametrize("agent_id", [True, False])
def test_a_row_is_an_agent_of_make(task, agent_id):
    options = {"max_steps": 5, **NUMBERS[task]}
    env = envs.vector_env(task, 3, agent_id=agent_id, **options)
    batch = envs.make(task, 3, **options)
    agents, numbers = batch.num_agents, batch.num_agents * agent_id
    assert env.num_envs == 3 * agents
    rows = [(b, n) for b in range(3) for n in range(agents)]

    def check(obs, infos, ts, where):
        assert obs.dtype == np.float32 and obs in env.observation_space
        for row, (b, n) in enumerate(rows):
            assert obs[row] in env.single_observation_space
            assert obs[row, :numbers].tolist() == [float(n == i) for i in range(numbers)], where
            np.testing.assert_array_equal(obs[row, numbers:], ts.obs[b, n], err_msg=where)
            if ts.action_mask is not None:
                np.testing.assert_array_equal(infos["action_mask"][row], ts.action_mask[b, n], err_msg=where)
            if ts.is_active is not None:
                assert infos["is_active"][row] == ts.is_active[b, n] and infos["_is_active"][row], where
        assert ("action_mask" in infos) == (ts.action_mask is not None)
        assert ("is_active" in infos) == (ts.is_active is not None)

    ts = batch.reset(4)
    check(*env.reset(seed=4), ts, "reset")
    ends = np.zeros(2, int)
    for t, actions in enumerate(samples(env, 30)):
        ts = batch.step(torch.from_numpy(actions).view(3, agents, *batch.action_space.shape))
        obs, rewards, terminated, truncated, infos = env.step(actions)
        check(obs, infos, ts, f"{task}, step {t}")
        assert rewards.dtype == np.float32 and terminated.dtype == truncated.dtype == bool
        ended = ts.terminated | ts.truncated
        ends += ts.terminated.sum().item(), ts.truncated.sum().item()
        assert ("final_obs" in infos) == ("final_info" in infos) == bool(ended.any())
        for row, (b, n) in enumerate(rows):
            assert rewards[row] == ts.reward[b, n] and terminated[row] == ts.terminated[b]
            assert truncated[row] == ts.truncated[b]
            if not ended.any():
                continue
            assert infos["_final_obs"][row] == infos["_final_info"][row] == ended[b]
            assert (infos["final_obs"][row] is not None) == ended[b]
            if ended[b]:
                np.testing.assert_array_equal(infos["final_obs"][row][numbers:], ts.final_obs[b, n])
                assert {name for name in infos["final_info"] if name[0] != "_"} == ts.info.keys()
                for name, values in ts.info.items():
                    own = values[b, n] if values.dim() == 2 else values[b]
                    assert infos["final_info"][name][row] == own and infos["final_info"][f"_{name}"][row]
    assert ends[1] and (ends[0] or not NUMBERS[task])


@every_task
def test_spaces_and_arrays_of_every_task(task):
    env = envs.vector_env(task, 2)
    rules = env.engine
    assert env.single_observation_space.shape == (rules.num_agents + rules.observation_size,)
    assert env.observation_space.shape == (env.num_envs, *env.single_observation_space.shape)
    assert env.metadata["name"] == task and env.spec is None and not env.closed
    obs, infos = env.reset(seed=0)
    written = [obs, *infos.values()]
    for t, actions in enumerate(samples(env, 4)):
        assert actions in env.action_space and obs in env.observation_space, f"step {t}"
        obs, rewards, terminated, truncated, infos = env.step(actions)
        assert {array.shape for array in (rewards, terminated, truncated)} == {(env.num_envs,)}
        written += [obs, rewards, terminated, truncated, *infos.values()]
    again = envs.vector_env(task, 2)
    again.reset(seed=0)
    for actions in samples(env, 4):
        same = again.step(actions)[0]
    np.testing.assert_array_equal(obs, same)
    assert all(array.flags.writeable for array in written if isinstance(array, np.ndarray))


def test_what_is_handed_out_belongs_to_whoever_got_it():
    written, untouched = (envs.vector_env("toy_masked", 2, max_steps=3) for _ in range(2))
    written.reset(seed=0), untouched.reset(seed=0)
    kept = []
    for actions in samples(written, 12):
        outputs, expected = written.step(actions), untouched.step(actions)
        assert_same(outputs, expected)
        *arrays, infos = outputs
        arrays += [infos["action_mask"], *filter(lambda row: row is not None, infos.get("final_obs", ()))]
        assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)
        kept.append((arrays, [array.copy() for array in arrays]))
        for before, copies in kept[:-1]:
            assert_same(before, copies)
    for arrays, _ in kept:
        for array in arrays:
            array[:] = 1
    assert_same(written.step(samples(written, 1)[0]), untouched.step(samples(written, 1)[0]))


def test_allowed_actions_can_be_drawn_and_are_the_ones_that_may_be_done():
    env = envs.vector_env("smax_2s3z", 4)
    _, infos = env.reset(seed=0)
    env.action_space.seed(0)
    ends = 0
    for _ in range(200):
        mask = infos["action_mask"]
        np.testing.assert_array_equal(mask, env.engine.action_mask(env.engine.state).reshape(mask.shape))
        actions = env.action_space.sample(tuple(mask))
        assert mask[np.arange(env.num_envs), actions].all()
        _, _, terminated, truncated, infos = env.step(actions)
        assert infos["_action_mask"].all()
        ends += (terminated | truncated).any()
    assert ends


# ---- seeds ----


def test_seeds():
    first, second = (envs.vector_env("paxmen_4a", 2) for _ in range(2))
    assert not np.array_equal(first.reset()[0], second.reset()[0])  # of the system
    assert np.array_equal(first.reset(seed=5)[0], second.reset(seed=np.int64(5), options={})[0])
    assert first.np_random_seed == 5 and first.np_random.random() == second.np_random.random()
    later = first.reset()[0]  # goes on
    assert np.array_equal(later, second.reset()[0]) and not np.array_equal(later, first.reset(seed=5)[0])
    batch = envs.make("paxmen_4a", 2, seed=5).reset().obs.reshape(8, -1)
    np.testing.assert_array_equal(first.reset(seed=5)[0][:, 4:], batch)


# ---- Gymnasium's wrappers ----


def test_continuous_actions_behind_wrappers():
    env = envs.vector_env("toy_continuous", 2, max_steps=4)
    plain = envs.vector_env("toy_continuous", 2, max_steps=4)
    clipped, rescaled = wrappers.ClipAction(env), wrappers.RescaleAction(plain, -1.0, 1.0)
    clipped.reset(seed=0), rescaled.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    for _ in range(6):
        assert_same(clipped.step(high + 7), rescaled.step(np.ones_like(high)))
        assert_same(clipped.step(low - 7), rescaled.step(-np.ones_like(high)))


def test_torch_behind_a_wrapper():
    pytest.importorskip("array_api_compat", reason="Gymnasium's wrapper needs it")
    env = wrappers.NumpyToTorch(envs.vector_env("paxmen_4a", 2))
    obs, _ = env.reset(seed=0)
    obs, rewards, *_ = env.step(torch.zeros(8, dtype=torch.int64))
    assert obs.shape == (8, 4 + 25) and rewards.dtype == torch.float32


# ---- pictures ----


def test_a_picture_for_every_row():
    env = envs.vector_env("paxmen_4a", 2, render_mode="rgb_array")
    with pytest.raises(ValueError, match=r"render\(\) before reset\(\)"):
        env.render()
    env.reset(seed=0)
    pictures = env.render()
    assert isinstance(pictures, tuple) and len(pictures) == env.num_envs
    for row, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, env.engine.draw(env.engine.state, row // 4))
    with pytest.raises(ValueError, match=r"render\(\) without a render_mode"):
        envs.vector_env("paxmen_4a", 2).render()


# ---- refusals ----

DISCRETE = [
    (None, "actions have shape []; they must be [8], a row for each agent"),
    (np.zeros((2, 4), np.int64), "actions have shape [2, 4]; they must be [8]"),
    (np.zeros((8, 1), np.int64), "actions have shape [8, 1]; they must be [8]"),
    ([[0], [1, 2]], "actions are [[0], [1, 2]]; they must be an array [8]"),
    (np.zeros(8), "actions are float64; they must be int64"),
    (np.zeros(8, bool), "actions are bool; they must be int64"),
    (["a"] * 8, "actions are <U1; they must be int64"),
    ([0] * 5 + [5, 0, 0], "action of row 5 (agent_1 in environment 1) is 5; allowed are whole numbers from 0 to 4"),
    ([-1] + [0] * 7, "action of row 0 (agent_0 in environment 0) is -1; allowed are whole numbers from 0 to 4"),
    (np.full(8, 2**64 - 1, np.uint64), "is 18446744073709551615; allowed are"),
    (torch.zeros(8, requires_grad=True), "they must be an array [8]"),
]


@pytest.mark.parametrize("actions, says", DISCRETE)
def test_other_actions_are_refused_in_one_sentence(actions, says):
    env = envs.vector_env("paxmen_4a", 2)
    env.reset(seed=0)
    before = env.engine.state_dict()
    with pytest.raises(ValueError) as refused:
        env.step(actions)
    assert says in str(refused.value) and len(str(refused.value)) < 200 and "\n" not in str(refused.value)
    assert all(torch.equal(before[name], value) for name, value in env.engine.state_dict().items())
    env.step([0, 1, 2, 3, 4, 0, 1, 2])  # a list of whole numbers is one
    env.step(np.zeros(8, np.uint8)[::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.5, 1e300])
def test_outside_a_box_is_refused(value):
    env = envs.vector_env("toy_continuous", 2)
    env.reset(seed=0)
    actions = np.ones((6, 2))
    actions[4, 0] = value
    with pytest.raises(ValueError, match=r"of row 4 \(agent_1 in environment 1\) is .*; allowed are finite arrays"):
        env.step(actions)
    with pytest.raises(ValueError, match="actions are complex128; they must be float32"):
        env.step(actions.astype(complex))
    env.step(np.ones((6, 2), int).tolist())


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: envs.vector_env("paxmen_5", 2), "unknown task"),
        (lambda: envs.vector_env("paxmen_4a", 2, max_step=3), "unknown option 'max_step'; did you mean max_steps?"),
        (lambda: envs.vector_env("paxmen_4a", 2, seed=3), "unknown option 'seed'"),
        (lambda: envs.vector_env("paxmen_4a", 0), "num_envs is 0"),
        (lambda: envs.vector_env("paxmen_4a", 2, "gpu"), "device is 'gpu'"),
        (lambda: envs.vector_env("paxmen_4a", 2, agent_id=1), "agent_id is 1; it must be true or false"),
        (lambda: envs.vector_env("paxmen_4a", 2, render_mode="human"), "unknown render_mode 'human'; allowed are None"),
        (lambda: envs.vector_env("paxmen_4a", 2).step(np.zeros(8, int)), "step() before reset()"),
        (lambda: envs.vector_env("paxmen_4a", 2).reset(seed=-1), "seed is -1; it must be a whole number, 0 or more"),
        (lambda: envs.vector_env("paxmen_4a", 2).reset(seed=1.5), "seed is 1.5; it must be a whole number"),
        (lambda: envs.vector_env("paxmen_4a", 2).reset(seed=[1, 2]), "seed is [1, 2]; it must be a whole number"),
        (lambda: envs.vector_env("paxmen_4a", 2).reset(options={"reset_mask": 1}), "reset() takes none"),
        (lambda: envs.vector_env("paxmen_4a", 2).reset(options=np.zeros(2)), "reset() takes none"),
        (lambda: envs.vector_env("paxmen_4a", 2, render_mode=np.zeros(2)), "unknown render_mode array([0., 0.])"),
        (lambda: for_sb3(envs.parallel_env("paxmen_4a")), "for_sb3 takes what vector_env makes, not"),
    ],
)
def test_other_mistakes_are_refused_in_one_sentence(call, says):
    with pytest.raises(ValueError) as refused:
        call()
    assert says in str(refused.value) and len(str(refused.value)) < 400


def test_stable_baselines3_is_asked_for_only_where_it_is_missed(monkeypatch):
    env = envs.vector_env("paxmen_4a", 2)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    for name in list(sys.modules):
        if name.startswith("stable_baselines3.") or name == "torch_mars.envs.sb3":
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match='^for_sb3 needs Stable-Baselines3: pip install "stable-baselines3>=2.9"$'):
        for_sb3(env)


def test_gymnasium_itself_checks_the_spaces():
    env = envs.vector_env("toy_masked", 2)
    assert gymnasium.vector.utils.batch_space(env.single_action_space, 6) == env.action_space
    assert gymnasium.vector.utils.batch_space(env.single_observation_space, 6) == env.observation_space
