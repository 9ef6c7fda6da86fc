"""The PettingZoo faces: PettingZoo's own tests for every environment, the same numbers as `make`, clear refusals."""

import copy
import pickle
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, state_test
from pettingzoo.test.max_cycles_test import max_cycles_test
from pettingzoo.utils import parallel_to_aec
from pettingzoo.utils.wrappers import TerminateIllegalWrapper
from task_lists import LATER, ONE_EACH
from toy_environments import TOYS, register_toys

import torch_mars.envs as envs

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True, scope="module")
def toys():
    register_toys()


REPRESENTATIVES = [*ONE_EACH, *TOYS]
EVERY_TASK = [*REPRESENTATIVES, *LATER]
every_task = pytest.mark.parametrize("task", EVERY_TASK)
one_task_each = pytest.mark.parametrize("task", REPRESENTATIVES)


def sample_actions(env):
    return {agent: env.action_space(agent).sample() for agent in env.agents}


def seed_actions(env, seed):
    for i, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(seed + i)


def batched_samples(env, generator):
    """Random actions for a batched face: dict of tensors."""
    space = env.rules.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return {agent: torch.from_numpy(generator.integers(space.n, size=env.num_envs)) for agent in env.agents}
    size = (env.num_envs, *space.shape)
    return {a: torch.from_numpy(generator.uniform(space.low, space.high, size).astype(np.float32)) for a in env.agents}


# ---- PettingZoo's own tests ----


@every_task
def test_parallel_api(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(envs.parallel_env(task, max_steps=1200), num_cycles=1100)
        parallel_api_test(envs.parallel_env(task), num_cycles=1100)  # through the end of episodes


@every_task
def test_parallel_seed(task):
    parallel_seed_test(lambda: envs.parallel_env(task), num_cycles=500)


@one_task_each
def test_aec_api_after_conversion(task):
    env = envs.parallel_env(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Observation numpy array is all zeros")  # an agent may see nothing
        warnings.filterwarnings("ignore", ".*infinity")  # a space may be unbounded
        api_test(parallel_to_aec(env), num_cycles=200)
        state_test(parallel_to_aec(env), env)


@one_task_each
def test_render_in_every_mode(task, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pytest.importorskip("pygame", reason="windows need pygame")
    monkeypatch.setattr("torch_mars.envs.pettingzoo.FRAMES_PER_SECOND", 1000)
    render_test(lambda render_mode: parallel_to_aec(envs.parallel_env(task, render_mode=render_mode)))


@one_task_each
def test_max_cycles(task):
    rules = envs.make(task)
    # an episode of SMAX may last one step more than its option says
    beyond = rules.max_steps - (rules.options.max_steps or rules.max_steps)

    def parallel_env(max_cycles):
        env = envs.parallel_env(task, max_steps=max_cycles - beyond)
        for i, agent in enumerate(env.possible_agents):  # robots of RWARE that collide by chance end the episode
            env.action_space(agent).seed(i)
        return env

    def env(max_cycles):
        return parallel_to_aec(parallel_env(max_cycles))

    max_cycles_test(types.SimpleNamespace(parallel_env=parallel_env, env=env))


def test_the_window_shows_every_step_and_closes(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame", reason="windows need pygame")
    env = envs.parallel_env("paxmen_4a", render_mode="human")
    env.reset(seed=0)
    for _ in range(2):
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        np.testing.assert_array_equal(shown, env.rules.draw(env.engine.batched_state(), 0))
        env.step(dict.fromkeys(env.agents, 0))
    env.close()
    assert not pygame.display.get_init()


# ---- what PettingZoo users rely on ----


@every_task
def test_names_spaces_and_metadata(task):
    env = envs.parallel_env(task)
    rules = envs.make(task)
    assert env.possible_agents == rules.agents and env.agents == [] and env.max_num_agents == rules.num_agents
    assert env.metadata["name"] == task == str(env) and env.metadata["is_parallelizable"]
    assert {"human", "rgb_array"} <= set(env.metadata["render_modes"]) and env.metadata["render_fps"] > 0
    assert env.unwrapped is env and env.render_mode is None
    for agent in env.possible_agents:
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.observation_space(agent) == rules.observation_space
        assert env.action_space(agent) == rules.action_space
    assert len({id(env.action_space(agent)) for agent in env.possible_agents}) == env.max_num_agents
    assert env.state_space == rules.state_space
    env.reset(seed=0)
    assert env.agents == env.possible_agents and env.num_agents == env.max_num_agents
    env.close()


@every_task
def test_an_episode_has_the_types_that_pettingzoo_prescribes(task):
    env = envs.parallel_env(task)
    obs, infos = env.reset(seed=1)
    seed_actions(env, 1)
    is_masked = envs.make(task).reset().action_mask is not None
    steps = 0
    while env.agents:
        acting = list(env.agents)
        for agent in acting:
            assert obs[agent] in env.observation_space(agent), f"{task}, {agent}, step {steps}"
            mask = infos[agent].get("action_mask")
            assert (mask is not None) == is_masked
            if is_masked:
                assert mask.dtype == np.int8 and env.action_space(agent).sample(mask) in env.action_space(agent)
        assert env.state() in env.state_space
        obs, rewards, terminations, truncations, infos = env.step(sample_actions(env))
        steps += 1
        for dictionary in (obs, rewards, terminations, truncations, infos):
            assert list(dictionary) == acting
        assert {type(reward) for reward in rewards.values()} == {float}
        assert {type(end) for end in (*terminations.values(), *truncations.values())} == {bool}
    assert all(terminations.values()) or all(truncations.values())
    metrics = envs.environment_class(task).metrics
    for agent in env.possible_agents:
        assert infos[agent]["episode_length"] == steps <= env.rules.max_steps
        assert isinstance(infos[agent]["episode_return"], float)
        assert set(metrics) <= set(infos[agent])
        assert infos[agent] is not infos[env.possible_agents[0]] or agent == env.possible_agents[0]


@every_task
def test_a_seed_starts_and_continues_as_make_does(task):
    env = envs.parallel_env(task)
    batch = envs.make(task, 1, seed=3)
    ts = batch.reset()
    obs, infos = env.reset(seed=3)
    generator = np.random.default_rng(0)
    is_exact = isinstance(batch.action_space, gymnasium.spaces.Discrete)
    rounding = 0 if is_exact else 1e-5
    for t in range(min(2 * batch.max_steps, 300)):
        for i, agent in enumerate(batch.agents):
            np.testing.assert_allclose(
                obs[agent], ts.obs[0, i], rtol=0, atol=rounding, err_msg=f"{task}, {agent}, step {t}"
            )
            if ts.action_mask is not None:
                np.testing.assert_array_equal(infos[agent]["action_mask"], ts.action_mask[0, i])
        np.testing.assert_allclose(env.state(), ts.state[0], rtol=0, atol=rounding)
        active = env.is_active()
        assert (None if active is None else [*active.values()]) == (
            None if ts.is_active is None else ts.is_active[0].tolist()
        )
        seed_actions(env, int(generator.integers(2**31)))
        actions = sample_actions(env)
        if not is_exact:  # continuous rules would add the rounding up over an episode
            env.engine.load_state({name: value[0].numpy() for name, value in batch.state_dict().items()})
        ts = batch.step(torch.from_numpy(np.stack([actions[agent] for agent in batch.agents]))[None])
        obs, rewards, terminations, truncations, infos = env.step(actions)
        np.testing.assert_allclose(list(rewards.values()), ts.reward[0], atol=1e-6, err_msg=f"{task}, step {t}")
        assert terminations["agent_0"] == ts.terminated.item() and truncations["agent_0"] == ts.truncated.item()
        if not env.agents:
            for name in ("episode_return", "episode_length", *env.rules.metrics):
                value = ts.info[name][0]
                last = infos["agent_0"][name]
                np.testing.assert_allclose(last, value[0] if value.dim() else value, rtol=1e-5, atol=1e-5)
            obs, infos = env.reset()  # goes on with the random numbers, as auto-reset does


@one_task_each
def test_without_a_seed_every_environment_starts_its_own_way(task):
    first, second, third = (envs.parallel_env(task) for _ in range(3))
    first.reset()
    second.reset()
    assert first.engine.state_dict()["rng"] != second.engine.state_dict()["rng"]
    third.reset(seed=np.int64(4))
    first.reset(seed=4)
    once = first.engine.state_dict()["rng"]
    assert once == third.engine.state_dict()["rng"]
    first.reset()
    third.reset()
    assert first.engine.state_dict()["rng"] == third.engine.state_dict()["rng"] != once


@one_task_each
def test_situations_can_be_put_in_place_and_copies_go_their_own_way(task):
    env = envs.parallel_env(task)
    env.reset(seed=0)
    seed_actions(env, 0)
    for _ in range(3):
        env.step(sample_actions(env))
    situation, state = env.engine.state_dict(), env.state()
    actions = sample_actions(env)
    later = {agent: obs.copy() for agent, obs in env.step(actions)[0].items()}
    situation_later = env.engine.state_dict()
    env.engine.load_state(situation)
    np.testing.assert_array_equal(env.state(), state)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        for agent, obs in twin.step(actions)[0].items():
            np.testing.assert_array_equal(obs, later[agent])
        for name, value in twin.engine.state_dict().items():
            np.testing.assert_array_equal(value, situation_later[name], err_msg=f"{name} of the copy")
        np.testing.assert_array_equal(env.state(), state, err_msg="stepping a copy moved the original")


@one_task_each
def test_users_may_keep_and_change_what_they_are_given(task):
    env, untouched = envs.parallel_env(task), envs.parallel_env(task)
    for e in (env, untouched):
        e.reset(seed=0)
        seed_actions(e, 0)
    kept, copies = [], []
    for _ in range(5):
        actions = sample_actions(env)
        obs = env.step(actions)[0]
        expected = untouched.step(actions)[0]
        for agent in obs:
            np.testing.assert_array_equal(obs[agent], expected[agent])
            obs[agent] *= 7
            kept.append(obs[agent])
            copies.append(obs[agent].copy())
        env.state()[:] = 5
    for array, once in zip(kept, copies):
        np.testing.assert_array_equal(array, once)


def test_masks_come_with_the_reset_too():
    _, infos = envs.parallel_env("toy_masked").reset(seed=0)
    assert infos["agent_1"]["action_mask"].tolist() == [0, 1, 1, 1]


def test_pettingzoo_s_wrapper_against_illegal_actions_finds_the_masks():
    """Legal play only: PettingZoo 1.27 cannot end an episode that it did not convert from an AECEnv."""
    env = TerminateIllegalWrapper(parallel_to_aec(envs.parallel_env("toy_masked")), illegal_reward=-1)
    env.reset(seed=0)
    moves = 0
    for _ in env.agent_iter():
        _, _, terminated, truncated, info = env.last()
        ended = terminated or truncated
        env.step(None if ended else int(info["action_mask"].argmax()))
        moves += not ended
    assert moves == 3 * 20


@pytest.mark.parametrize("task, engine", [("toy_masked", "TensorEngine"), ("toy_scalar", "ScalarToy")])
def test_the_rules_can_end_an_episode(task, engine):
    env = envs.parallel_env(task, goal=13.0, max_steps=2)
    assert type(env.engine).__name__ == engine
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, 3))
    _, _, terminations, truncations, infos = env.step(dict.fromkeys(env.agents, 3))
    assert terminations == dict.fromkeys(env.possible_agents, True)
    assert not any(truncations.values()), "an end by the rules counts, though the time is up as well"
    totals = [infos[agent]["total_by_agent"] for agent in env.possible_agents]
    assert env.agents == [] and all(6 <= total < 7 for total in totals) and len(set(totals)) == 3
    assert infos["agent_0"]["episode_return"] == 6


def test_infos_carry_numbers_only_at_the_end():
    env = envs.parallel_env("paxmen_5a", max_steps=2)
    _, infos = env.reset(seed=0)
    assert infos == {agent: {} for agent in env.agents}
    assert env.step(dict.fromkeys(env.agents, 0))[4] == {agent: {} for agent in env.agents}
    last = {"episode_return": pytest.approx(-0.25), "episode_length": 2}
    last |= {"dots_eaten": 0, "boards_cleared": 0, "rooms_eaten_in": 0}
    assert env.step(dict.fromkeys(env.agents, 0))[4] == dict.fromkeys(env.possible_agents, last)


def test_paxmen_as_text():
    env = envs.parallel_env("paxmen_4a", render_mode="ansi")
    env.reset(seed=0)
    summary, *rows = env.render().split("\n")
    picture = "".join(rows)
    assert summary.startswith("step 0")
    assert [picture.count(sign) for sign in "o0123"] == [12, 1, 1, 1, 1]
    assert picture.count(".") == 101 - 12 - 4


# ---- bad input ----


def started(task):
    env = envs.parallel_env(task)
    env.reset(seed=0)
    return env


BAD_NUMBERS = [7, 5, -1, 1.0, float("nan"), None, "eat", np.array([1]), np.float32(2), [1], 2**70]


@pytest.mark.parametrize("bad", BAD_NUMBERS, ids=repr)
def test_a_number_outside_the_space_is_refused_and_nothing_moves(bad):
    env = started("paxmen_5a")
    before = env.engine.state_dict()
    message = re.escape(f"action of agent_3 is {bad!r}; allowed are whole numbers from 0 to 4")
    with pytest.raises(ValueError, match=message):
        env.step({**dict.fromkeys(env.agents, 0), "agent_3": bad})
    for name, value in env.engine.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


BAD_ARRAYS = [[float("nan"), 1], [2, 1], [0, -0.5], [0], 3, "ab", None, [float("inf"), 1], [[0, 1]]]


@pytest.mark.parametrize("bad", BAD_ARRAYS, ids=repr)
def test_an_array_outside_the_space_is_refused_and_nothing_moves(bad):
    env = started("toy_continuous")
    before = env.engine.state_dict()
    good = np.zeros(2)
    with pytest.raises(ValueError, match=r"action of agent_2 is .*; allowed are finite arrays of shape \[2\] from"):
        env.step({"agent_0": good, "agent_1": good, "agent_2": bad})
    for name, value in env.engine.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("good", [1, True, np.int8(1), np.array(1), np.uint64(1), torch.tensor(1)], ids=repr)
def test_every_kind_of_whole_number_is_an_action(good):
    env = started("paxmen_5a")
    env.step(dict.fromkeys(env.agents, good))


@pytest.mark.parametrize("good", [[1, 0], (1, 2), np.ones(2), torch.ones(2), np.array([1, 2])], ids=repr)
def test_every_kind_of_array_is_an_action(good):
    env = started("toy_continuous")
    env.step(dict.fromkeys(env.agents, good))


@pytest.mark.parametrize("face", ["numpy", "batched"])
def test_agents_too_many_or_too_few_are_named(face):
    env = envs.parallel_env("paxmen_5a") if face == "numpy" else envs.batched_parallel_env("paxmen_5a", 3)
    env.reset(seed=0)
    action = 0 if face == "numpy" else torch.zeros(3, dtype=torch.int64)
    actions = dict.fromkeys(env.agents, action)
    before = env.engine.state_dict()
    with pytest.raises(ValueError, match="unknown agent 'agent_44'; did you mean agent_4"):
        env.step({**actions, "agent_44": action})
    del actions["agent_1"], actions["agent_3"]
    with pytest.raises(ValueError, match="no action for agent_1, agent_3; every agent"):
        env.step(actions)
    with pytest.raises(ValueError, match="actions are list; they must be a dict"):
        env.step([action] * 5)
    with pytest.raises(KeyError, match="unknown agent 'agnt_1'; did you mean agent_1"):
        env.action_space("agnt_1")
    with pytest.raises(KeyError, match="allowed are agent_0, agent_1"):
        env.observation_space(0)
    for name, value in env.engine.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("face", ["numpy", "batched"])
def test_reset_comes_first(face):
    env = envs.parallel_env("paxmen_5a") if face == "numpy" else envs.batched_parallel_env("paxmen_5a", 3)
    with pytest.raises(ValueError, match=r"step\(\) before reset\(\)"):
        env.step(dict.fromkeys(env.possible_agents, 0))
    with pytest.raises(ValueError, match=r"state\(\) before reset\(\)"):
        env.state()


def test_an_episode_that_ended_wants_a_reset():
    env = envs.parallel_env("paxmen_5a", max_steps=1)
    env.reset()
    env.step(dict.fromkeys(env.agents, 0))
    with pytest.raises(ValueError, match=r"after the end of the episode: call reset\(\)"):
        env.step(dict.fromkeys(env.possible_agents, 0))


def test_render_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="unknown render_mode 'rgb_aray'; did you mean rgb_array"):
        envs.parallel_env("paxmen_5a", render_mode="rgb_aray")
    with pytest.raises(ValueError, match="unknown render_mode 'ansi'"):
        envs.parallel_env("toy_masked", render_mode="ansi")
    with pytest.raises(ValueError, match="without a render_mode.*'rgb_array'"):
        envs.parallel_env("paxmen_5a").render()
    with pytest.raises(ValueError, match=r"render\(\) before reset"):
        envs.parallel_env("paxmen_5a", render_mode="rgb_array").render()
    pytest.importorskip("pygame", reason="windows need pygame")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        with pytest.raises(RuntimeError, match='found no display .*; use "rgb_array"'):
            envs.parallel_env("paxmen_5a", render_mode="human").reset()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(RuntimeError, match="pip install pygame"):
        envs.parallel_env("paxmen_5a", render_mode="human").reset()


def test_a_wrong_task_or_option_is_refused():
    for face in (envs.parallel_env, lambda task, **options: envs.batched_parallel_env(task, 2, **options)):
        with pytest.raises(ValueError, match="did you mean paxmen_5a"):
            face("paxmen_5b")
        with pytest.raises(ValueError, match="unknown option 'max_step'; did you mean max_steps"):
            face("paxmen_5a", max_step=3)
        with pytest.raises(ValueError, match="unknown option 'seed'; allowed are num_agents, max_steps"):
            face("paxmen_5a", seed=3)
        with pytest.raises(ValueError, match="unknown option 'auto_reset'"):
            face("paxmen_5a", auto_reset=True)
    with pytest.raises(ValueError, match="unknown option 'num_envs'"):
        envs.parallel_env("paxmen_5a", num_envs=4)


# ---- the batched face ----


@every_task
def test_the_batched_face_hands_out_the_tensors_of_make(task):
    env = envs.batched_parallel_env(task, 4)
    batch = envs.make(task, 4, seed=9)
    expected = batch.reset()
    obs, infos = env.reset(seed=9)
    generator = np.random.default_rng(0)
    for t in range(min(batch.max_steps + 5, 200)):
        for i, agent in enumerate(env.agents):
            assert torch.equal(obs[agent], expected.obs[:, i]), f"{task}, {agent}, step {t}"
            if expected.action_mask is not None:
                assert torch.equal(infos[agent]["action_mask"], expected.action_mask[:, i])
            assert ("is_active" in infos[agent]) == (expected.is_active is not None)
            if expected.is_active is not None:
                assert torch.equal(infos[agent]["is_active"], expected.is_active[:, i])
        assert torch.equal(env.state(), expected.state)
        actions = batched_samples(env, generator)
        expected = batch.step(torch.stack(list(actions.values()), 1))
        obs, rewards, terminations, truncations, infos = env.step(actions)
        for i, agent in enumerate(env.possible_agents):
            assert torch.equal(rewards[agent], expected.reward[:, i])
            assert torch.equal(terminations[agent], expected.terminated)
            assert torch.equal(truncations[agent], expected.truncated)
            assert torch.equal(infos[agent]["final_obs"], expected.final_obs[:, i])
            assert torch.equal(infos[agent]["final_state"], expected.final_state)
            for name, value in expected.info.items():
                own = value[:, i] if value.dim() > 1 else value
                assert torch.equal(infos[agent][name], own), f"{task}, {name}"
        assert env.agents == env.possible_agents


@one_task_each
def test_the_batched_face_copies_nothing(task, monkeypatch):
    env = envs.batched_parallel_env(task, 4)
    handed_over = []
    for name in ("reset", "step"):
        method = getattr(env.engine, name)
        monkeypatch.setattr(
            env.engine, name, lambda *a, method=method: handed_over.append(method(*a)) or handed_over[-1]
        )
    outputs = [env.reset(seed=0), env.step(batched_samples(env, np.random.default_rng(0)))]
    for ts, dictionaries in zip(handed_over, outputs):
        tensors = [ts.obs, ts.state, ts.reward, ts.terminated, ts.truncated, ts.final_obs, ts.final_state]
        tensors += [tensor for tensor in (ts.action_mask, ts.is_active) if tensor is not None]
        owned = {tensor.untyped_storage().data_ptr() for tensor in (*tensors, *ts.info.values())}
        for dictionary in dictionaries:
            for value in dictionary.values():
                for tensor in value.values() if isinstance(value, dict) else (value,):
                    assert tensor.untyped_storage().data_ptr() in owned


@pytest.mark.parametrize(
    "task, bad, message",
    [
        ("paxmen_5a", [0, 5], "action of agent_2 is 5; allowed are whole numbers from 0 to 4"),
        ("paxmen_5a", [0.0, 1.0], "action of agent_2 is torch.float32; it must be torch.int64"),
        ("paxmen_5a", [1, 1, 1], r"action of agent_2 has shape \[3\]; it must be \[2\]"),
        ("toy_continuous", [[0.0, 1.0], [0.0, float("nan")]], r"action of agent_2 is \[0.0, nan\]; allowed are finite"),
        ("toy_continuous", [[0, 1], [0, 1]], "action of agent_2 is torch.int64; it must be torch.float32"),
    ],
)
def test_the_batched_face_refuses_bad_actions_and_nothing_moves(task, bad, message):
    env = envs.batched_parallel_env(task, 2)
    env.reset(seed=0)
    before = env.engine.state_dict()
    actions = batched_samples(env, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        env.step({**actions, "agent_2": torch.tensor(bad)})
    with pytest.raises(ValueError, match="action of agent_2 is list; it must be a tensor"):
        env.step({**actions, "agent_2": bad})
    for name, value in env.engine.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_batched_face_starts_its_own_way_without_a_seed():
    first, second = (envs.batched_parallel_env("paxmen_5a", 2) for _ in range(2))
    first.reset()
    second.reset()
    assert not torch.equal(first.engine.state.rng, second.engine.state.rng)


# ---- import, page ----


def test_importing_the_door_stays_light():
    code = (
        "import sys, torch_mars.envs as envs; assert envs.tasks();"
        "print([name for name in ('numba', 'pettingzoo', 'pygame', 'PIL') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def examples():
    text = (DOCS / "faces.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", examples(), ids=lambda code: code.split("\n")[0])
def test_examples_of_the_page_run(example):
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 12, "an example fits into a dozen lines"
    if "stable_baselines3" in example:
        pytest.importorskip("stable_baselines3", reason="not installed; extra [interop]")
    exec(compile(example, str(DOCS / "faces.md"), "exec"), {})
