"""Environments of PettingZoo: `pettingzoo:foreign_toy` against the same toy in a plain loop, and what goes wrong there.

What processes have no part in is looked at without any: `Copy` and `look` are called here.
"""

import gc
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import foreign_toy
import gymnasium
import numpy as np
import pytest
import torch
from pettingzoo.test import parallel_api_test

import torch_mars
import torch_mars.envs as envs
from torch_mars import evaluate, play
from torch_mars.algos import mars
from torch_mars.envs import foreign, foreign_worker, pool, rng
from torch_mars.envs.foreign_worker import Copy, Unfit, bounds_of, look, made, said, shared_arrays
from torch_mars.envs.workers import ForeignError
from torch_mars.nn import speed
from torch_mars.run import cli

TASK = "pettingzoo:foreign_toy"
HARD = {"leaves": {"counter_0": 2}, "full": 15, "late": ["counter_1"], "masks": "infos", "length": 6}


def in_this_process(job):
    """`workers.ask` without a process."""
    try:
        module = importlib.import_module(job["module"])
        return pickle.dumps(look(module.parallel_env, job["kwargs"]))
    except Exception as error:
        raise ForeignError(said(error)) from None


@pytest.fixture
def no_process(monkeypatch):
    monkeypatch.setattr(foreign, "ask", in_this_process)


def copy_of(**kwargs) -> Copy:
    """One copy of the toy, in this process."""
    env, form = made(foreign_toy.parallel_env, kwargs), look(foreign_toy.parallel_env, kwargs)
    N, A = len(form["agents"]), form["actions"] if form["has_mask"] else 0
    S = 0 if form["state_low"] is None else len(form["state_low"])
    fields = [("seed", "int64", ()), ("step", "int64", ()), ("action", "int64", (N,)), ("state", "float32", (S,)),
              ("obs", "float32", (N, len(form["obs_low"]))), ("mask", "bool", (N, A)), ("acting", "bool", (N,)),
              ("reward", "float32", (N,)), ("terminated", "bool", ()), ("truncated", "bool", ())]  # fmt: skip
    if form["action_low"] is not None:
        fields[2] = ("action", "float32", (N, len(form["action_low"])))
    _, size = shared_arrays(None, fields)
    return Copy(env, form, shared_arrays(bytearray(size), fields)[0])


def numbers(seed: int, n: int = 3) -> list[int]:
    """With which the toy's agents begin."""
    return np.random.default_rng(seed).integers(0, 10, n).tolist()


# ---- values ----


def test_an_episode_of_one_copy_by_hand():
    copy = copy_of(length=3, leaves={"counter_1": 2})
    a = copy.arrays
    a["seed"][()] = 4
    copy.reset()
    x, y, z = numbers(4)
    assert a["obs"].tolist() == [[x, 0], [y, 0], [z, 0]] and a["state"].tolist() == [x, y, z, 0]
    assert a["acting"].tolist() == [True, True, True]
    a["action"][:] = [0, 1, 2]  # to the toy they are 1, 2, 3
    copy.step()
    assert a["obs"].tolist() == [[x + 1, 1], [y + 2, 1], [z + 3, 1]] and a["reward"].tolist() == [1, 4, 9]
    copy.step()  # in which counter_1 leaves, paid for the last time
    assert a["obs"].tolist() == [[x + 2, 2], [0, 0], [z + 6, 2]] and a["reward"].tolist() == [1, 4, 9]
    assert a["state"].tolist() == [x + 2, y + 4, z + 6, 2] and not a["truncated"] and not a["terminated"]
    assert a["acting"].tolist() == [True, False, True]
    copy.step()
    assert a["obs"].tolist() == [[x + 3, 3], [0, 0], [z + 9, 3]] and a["reward"].tolist() == [1, 0, 9]
    assert a["truncated"] and not a["terminated"] and a["step"] == 3 and not a["acting"].any()
    copy.step()  # what is over stays so
    assert a["obs"].tolist() == [[x + 3, 3], [0, 0], [z + 9, 3]] and a["reward"].tolist() == [0, 0, 0]
    assert a["truncated"] and a["step"] == 4


@pytest.mark.parametrize(
    "leaves, terminated",
    [
        ({"counter_0": 1, "counter_1": 2, "counter_2": 2}, True),
        ({"counter_0": 1, "counter_1": 2}, False),  # the last was cut off by the time limit
        ({"counter_0": 3, "counter_1": 3}, False),  # one of the last could have gone on
        ({"counter_0": 3, "counter_1": 3, "counter_2": 3}, True),  # in the last step that there was time for
    ],
)
def test_who_leaves_last_says_how_it_ended(leaves, terminated):
    copy = copy_of(length=3, leaves=leaves)
    copy.reset()
    while not (copy.arrays["terminated"] or copy.arrays["truncated"]):
        copy.step()
    assert (bool(copy.arrays["terminated"]), bool(copy.arrays["truncated"])) == (terminated, not terminated)


class Lingering(foreign_toy.Counting):
    """Whose agents stay in `agents` though they were terminated."""

    def step(self, actions):
        kept, self.agents = self.agents, list(actions)
        answer = super().step(actions)
        self.agents = kept
        return answer


def test_who_was_terminated_does_not_act_even_if_it_stays_in_agents():
    copy = copy_of(leaves={"counter_1": 1}, late=["counter_2"])
    copy.env = Lingering(leaves={"counter_1": 1}, late=["counter_2"])
    copy.reset()
    assert copy.arrays["acting"].tolist() == [True, True, False]
    copy.step()
    assert copy.arrays["acting"].tolist() == [True, False, False]


def test_a_state_that_cannot_be_told_at_the_end_is_zeros_if_nothing_is_expected_after_it():
    for kwargs, ends_well in ({"full": 0}, True), ({"length": 1}, False):
        copy = copy_of(has_state="while it lasts", **kwargs)
        copy.reset()
        if ends_well:
            copy.step()
            assert copy.arrays["terminated"] and copy.arrays["state"].tolist() == [0, 0, 0, 0]
        else:
            with pytest.raises(IndexError):
                copy.step()


def test_rewards_may_be_arrays_of_one_number():
    assert Copy._number(np.array([2.5]), "counter_0") == 2.5
    with pytest.raises(Unfit, match="it must be a number"):
        Copy._number(np.array([2.5, 1.0]), "counter_0")


def test_pictures_lose_their_transparency():
    copy = copy_of()
    copy.env.render = lambda: np.full((4, 6, 4), 7, np.uint8)
    assert copy.picture().shape == (4, 6, 3)


def test_bounds_hold_the_zeros_that_are_seen_of_who_has_left():
    low, high = bounds_of(gymnasium.spaces.Box(2.0, 3.0, (1,)), "observation")
    assert (low.tolist(), high.tolist()) == ([0], [3])
    low, high = bounds_of(gymnasium.spaces.Box(-3.0, -2.0, (1,)), "observation")
    assert (low.tolist(), high.tolist()) == ([-3], [0])


@pytest.mark.parametrize("masks", ["obs", "infos"])
def test_masks_lie_in_observations_or_infos(masks):
    copy = copy_of(masks=masks, leaves={"counter_0": 1})
    a = copy.arrays
    a["seed"][()] = 8
    copy.reset()
    values = numbers(8)
    assert a["mask"].tolist() == [[(v + action) % 4 != 0 for action in (1, 2, 3)] for v in values]
    a["action"][:] = 1
    copy.step()
    assert a["mask"].tolist() == [[True] * 3, *([(v + 2 + i) % 4 != 0 for i in (1, 2, 3)] for v in values[1:])]
    assert a["obs"][1].tolist() == [values[1] + 2, 1] and a["obs"].shape == (3, 2)


def test_box_actions_arrive_in_the_bounds_of_their_space(no_process):
    env = envs.make(TASK, 2, actions="box", n=2)
    env.reset()
    ts = env.step(torch.tensor([[[0.5], [2.5]], [[-1.0], [1.0]]]))
    assert ts.reward.tolist() == [[0.5, 4.0], [0.0, 2.0]] and env.action_space.high.tolist() == [2.0]
    assert mars.Actor(env, mars.Args(hidden_size=4), [torch.Generator()]).action_shape == (1,)


def test_box_actions_stay_within_their_bounds_and_the_state_may_be_missing():
    copy = copy_of(actions="box", has_state=False)
    copy.reset()
    copy.arrays["action"][:] = [[0.5], [2.0000002], [-0.1]]
    copy.step()
    assert copy.arrays["reward"].tolist() == [0.5, 4, 0] and copy.arrays["state"].shape == (0,)


def plain_loop(seed: int, count: int, actions: torch.Tensor, **kwargs) -> list[list[dict]]:
    """Toys as they are, one after another: for each of `count` copies and each step what should be seen."""
    found = []
    for b, key in enumerate(rng.keys(seed, count)):
        toy, steps = foreign_toy.parallel_env(**kwargs), []

        def begin(toy=toy):
            nonlocal key
            drawn, key = rng.integers(key, 1, 2**31 - 1)
            return toy.reset(seed=drawn.item())[0]

        def rows(obs, toy=toy):
            return [obs[agent].tolist() if agent in obs else [0, 0] for agent in toy.possible_agents]

        begin()
        for t in range(len(actions)):
            acting = toy.agents
            given = {agent: actions[t, b, toy.possible_agents.index(agent)].item() + 1 for agent in acting}
            obs, rewards, terminations, truncations, _ = toy.step(given)
            here = toy.agents or acting
            final = rows({agent: obs[agent] for agent in here})
            is_over = not toy.agents
            is_cut = is_over and any(truncations[a] and not terminations[a] for a in acting)
            state = toy.state().tolist()
            now, now_state = (rows(begin()), toy.state().tolist()) if is_over else (final, state)
            reward = [rewards.get(agent, 0) for agent in toy.possible_agents]
            acts = [agent in toy.agents for agent in toy.possible_agents]
            steps.append({"obs": now, "state": now_state, "is_active": acts, "reward": reward,
                          "terminated": is_over and not is_cut, "truncated": is_cut, "final_obs": final,
                          "final_state": state})  # fmt: skip
        found.append(steps)
    return found


def compare(ts, expected: list[dict], where: str) -> None:
    for name in expected[0]:
        assert getattr(ts, name).tolist() == [one[name] for one in expected], (name, where)


def test_a_batch_is_as_many_plain_loops_whatever_the_processes(monkeypatch):
    """Also where threads step shares of it, whose rows lie in all processes."""
    count, length = 7, 20
    actions = torch.randint(0, 3, (length, count, 3), generator=torch.Generator().manual_seed(0))
    expected = plain_loop(5, count, actions, **HARD)
    assert {step["terminated"] for steps in expected for step in steps} == {True, False}
    for processes in (1, 3):
        monkeypatch.setattr(foreign, "processes_for", lambda copies, processes=processes: processes)
        env = envs.make(TASK, count, seed=5, **HARD)
        env.reset()
        assert len(env.workers.processes) == processes
        for t in range(length):
            compare(env.step(actions[t]), [steps[t] for steps in expected], f"{processes} processes, step {t}")
        assert env.observe().obs.tolist() == [steps[-1]["obs"] for steps in expected]
    monkeypatch.setattr(speed, "SHARE", 8)
    monkeypatch.setattr(pool, "_num_threads", 2)
    env.reset(seed=5)

    def share_of_a_rollout(env, actions, obs):
        for t in range(length):
            obs[0, t] = env.step(actions[0, t]).obs

    obs = torch.zeros(1, length, count, 3, 2)
    speed.in_shares(share_of_a_rollout, env, actions[None], obs)
    assert obs[0].tolist() == [[steps[t]["obs"] for steps in expected] for t in range(length)]
    env.step(actions[0])
    with pytest.raises(ForeignError, match=f"{TASK}: a State of the past cannot be gone on with"):
        past = env.state
        env.step(actions[1])
        env.state = past
        env.step(actions[1])


def test_a_time_limit_of_the_same_name_is_handed_on(no_process, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from foreign_toy import Counting\ndef parallel_env(max_steps=9):\n    return Counting(length=max_steps)\n"
    (tmp_path / "timed_toy.py").write_text(text)
    options = envs.find("pettingzoo:timed_toy").environment.Options
    assert (options.of({}).kwargs, options.of({}).max_steps) == ({}, 1000)
    assert (options.of({"max_steps": 4}).kwargs, options.of({"max_steps": 4}).max_steps) == ({"max_steps": 4}, 4)
    options = envs.find(TASK).environment.Options
    assert (options.of({"max_steps": 4}).kwargs, options.of({"max_steps": 4}).max_steps) == ({}, 4)
    del sys.modules["timed_toy"]


def test_our_time_limit_cuts_episodes_off(no_process):
    env = envs.make(TASK, 2, seed=1, max_steps=2, masks="obs", actions="discrete")
    ts = env.reset()
    assert ts.action_mask.shape == (2, 3, 3) and env.max_steps == 2
    env.step(torch.zeros(2, 3, dtype=torch.int64))
    ts = env.step(torch.zeros(2, 3, dtype=torch.int64))
    assert ts.truncated.all() and not ts.terminated.any() and ts.info["episode_length"].tolist() == [2, 2]
    assert ts.info["episode_return"].tolist() == [4.0, 4.0]  # the mean over agents of 1, 2, 3, twice
    assert (ts.final_obs[..., 1] == 2).all() and (ts.obs[..., 1] == 0).all()
    first, saved = ts.obs, env.state_dict()
    assert list(saved) == ["rng"]
    env.load_state(saved)  # new episodes, not those that were
    assert (env.observe().obs[..., 1] == 0).all() and not torch.equal(env.observe().obs, first)
    for wrong in ({"step": torch.zeros(2)}, {"rng": torch.zeros(3, dtype=torch.int64)}):
        with pytest.raises(ValueError, match="State field"):
            env.load_state(wrong)
    with pytest.raises(ValueError, match="no work of PyTorch"):
        env.compile()


# ---- what cannot be trained on ----


@pytest.mark.parametrize(
    "kwargs, says",
    [
        ({"wide": "counter_2"}, "agents 'counter_0' and 'counter_2' have different observation spaces, Box(-100.0, "),
        ({"wide": "counter_2"}, "such as with supersuit.pad_observations_v0"),
        ({"actions": "grid"}, "its action space is MultiDiscrete([2 2]); the lessons know Discrete and Box"),
        ({"nn": 3}, "parallel_env(nn=3): TypeError: Counting.__init__() got an unexpected keyword argument 'nn'"),
        ({"fails": "make"}, "parallel_env(fails='make'): OverflowError: too many agents ("),
        ({"n": 0}, "it has no possible_agents"),
        ({"late": ["counter_0", "counter_1", "counter_2"]}, None),
        ({"render_mode": "human"}, "render_mode is no option; films are made by play"),
        ({"max_steps": 0}, "max_steps is 0; it must be between 1 and 2147483647"),
        ({"max_steps": 2.5}, "max_steps is 2.5; it must be a whole number"),
        ({"length": lambda: 3}, "options are handed to other processes, which these cannot be"),
    ],
)
def test_what_cannot_be_is_one_sentence(no_process, kwargs, says):
    if says is None:  # nobody is there: seen when an episode begins
        with pytest.raises(Unfit, match="after reset.. there are no agents"):
            copy_of(**kwargs).reset()
        return
    with pytest.raises(ValueError) as refused:
        envs.make(TASK, 4, **kwargs)
    assert says in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "fails, says",
    [
        ("raise", "ZeroDivisionError: one over nothing ("),
        ("nan", "number 0 of what agent 'counter_1' sees is nan"),
        ("reward", "the reward of agent 'counter_1' is inf"),
        ("mute", "there is no observation of agent 'counter_0', who is in agents"),
    ],
)
def test_what_breaks_in_an_episode_is_one_sentence(fails, says):
    copy = copy_of(fails=fails)
    copy.reset()
    copy.step()
    copy.step()
    with pytest.raises(Exception) as broken:
        copy.step()
    assert says in said(broken.value) and len(said(broken.value).splitlines()) == 1


@pytest.mark.parametrize(
    "task, says",
    [
        ("pettingzoo:foreign_to", "there is no module 'foreign_to' in this folder, nor where Python looks"),
        ("pettingzoo:foreign_to", "install that first: pip install foreign_to"),
        ("pettingzoo:pettingzoo.sisl.pursuit_v1", "did you mean pettingzoo.sisl.pursuit_v"),
        ("pettingzoo:pettingzoo.sisl", "module pettingzoo.sisl has no parallel_env; "),
        ("pettingzoo:json", "module json has no parallel_env"),
        ("pettingzoo:turns", "module turns has no parallel_env; it has only env, of agents that take turns"),
        ("pettingzoo:broken", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("pettingzoo:", "'pettingzoo:' is no task; a module with a parallel_env is typed as pettingzoo:my_module"),
        ("pettingzoo:a:b", "'pettingzoo:a:b' is no task"),
    ],
)
def test_a_module_that_is_none_is_one_sentence(tmp_path, monkeypatch, capsys, task, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "turns.py").write_text("print('hello')\ndef env():\n    pass\n")
    with pytest.raises(ValueError) as refused:
        envs.find(task)
    assert says in str(refused.value) and not capsys.readouterr().out
    sys.modules.pop("turns", None)


def test_only_what_is_typed_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger.py").write_text("open('imported', 'w').close()\ndef parallel_env(): pass\n")
    with pytest.raises(ValueError, match="only what you type is imported: add --env pettingzoo:stranger"):
        envs.known("pettingzoo:stranger")
    assert not Path("imported").exists() and "stranger" not in sys.modules
    assert envs.known(TASK).is_foreign  # which this file has imported
    assert not envs.is_same(envs.find(TASK), "foreign_toy:foreign_toy")


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--device", "cuda"], "--device is 'cuda', but pettingzoo:foreign_toy runs on the CPU"),
        (["--env-options", "{nn: 3}"], "--env-options: pettingzoo:foreign_toy: parallel_env(nn=3): TypeError"),
    ],
)
def test_a_training_that_cannot_be_is_refused(no_process, capsys, monkeypatch, argv, says):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit) as stopped:
        mars.main(["--env", TASK, *argv])
    said_ = capsys.readouterr().err
    assert stopped.value.code == 2 and says in said_ and len(said_.splitlines()) == 1


# ---- processes ----


def living(pids: list[int]) -> list[int]:
    """Those that run: a process of ours that ended was waited for, one of a killed owner's is gone."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids if runs(pid)]


@pytest.mark.parametrize(
    "fails, says",
    [
        ("raise", r"ZeroDivisionError: one over nothing \(.*toy.py, line .*\), in step 3 of the episode with seed"),
        ("exit", "one of its processes ended with exit code 7"),
    ],
    ids=["raise", "exit"],
)
def test_who_fails_takes_all_processes_along(no_process, monkeypatch, fails, says):
    monkeypatch.setattr(foreign, "processes_for", lambda copies: 2)
    env = envs.make(TASK, 2, fails=fails)
    env.reset()
    first = [process.popen.pid for process in env.workers.processes]
    actions = torch.zeros(2, 3, dtype=torch.int64)
    env.step(actions), env.step(actions)
    with pytest.raises(ForeignError, match=f"^{TASK}: {says}"):
        env.step(actions)
    assert not living(first)
    with pytest.raises(ForeignError, match=r"call reset\(\) first"):
        env.step(actions)
    if fails == "exit":
        env.reset()
        second = [process.popen.pid for process in env.workers.processes]
        assert env.step(actions).obs[0, 0, 1] == 1 and living(second) == second
        del env
        gc.collect()
        assert not living(second)


OWNER = """
import sys, threading
sys.path.insert(0, {helpers!r})
import torch, torch_mars.envs as envs
from torch_mars.envs import foreign
foreign.processes_for = lambda copies: copies
idle = envs.make({task!r}, 2)
idle.reset()
busy = envs.make({task!r}, 1, fails="hang", fails_at=1)
busy.reset()
print(*(p.popen.pid for env in (idle, busy) for p in env.workers.processes), flush=True)
busy.step(torch.zeros(1, 3, dtype=torch.int64))
"""


@pytest.mark.slow  # a PyTorch of its own
def test_nobody_outlives_a_killed_owner():
    """One process waits for its owner, another is in the middle of a long step."""
    code = OWNER.format(helpers=str(Path(foreign_toy.__file__).parent), task=TASK)
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 3 and living(pids) == pids
    for pid in pids:
        os.kill(pid, signal.SIGINT)  # Ctrl-C is for the owner
    time.sleep(0.5)
    assert living(pids) == pids
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 60
    while living(pids):
        assert time.monotonic() < deadline, living(pids)
        time.sleep(0.1)


def test_a_process_imports_no_torch():
    source = Path(foreign_worker.__file__).read_text()
    assert "import torch" not in source and "from torch_mars" not in source


# ---- faces, lessons, commands ----


def test_the_face_keeps_pettingzoos_contract():
    env = envs.parallel_env(TASK, render_mode="rgb_array", **HARD)
    parallel_api_test(env, num_cycles=15)
    observations, _ = env.reset(seed=3)
    assert list(observations) == ["counter_0", "counter_1", "counter_2"]
    assert env.is_active() == {"counter_0": True, "counter_1": False, "counter_2": True}  # who is late is not there yet
    assert env.render().shape == (20, 30, 3) and not env.render().any()
    env.step(dict.fromkeys(env.agents, 0))
    assert (env.render() == 1).all()


@pytest.mark.parametrize("face", [envs.parallel_env, envs.vector_env, envs.batched_parallel_env])
def test_a_closed_face_has_no_processes(face):
    env = face(TASK, **({} if face is envs.parallel_env else {"num_envs": 2}))
    env.reset(seed=0)
    workers = (env.rules if face is envs.parallel_env else env.engine).workers
    assert workers.is_open
    env.close()
    assert not workers.is_open


SMALL = "--num-envs 3 --rollout-length 8 --hidden-size 8 --eval-episodes 2 --epochs 1 --minibatches 1"


def test_a_training_from_its_start_to_its_team(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = "{masks: infos, leaves: {counter_0: 2}}"
    assert mars.main(["--env", TASK, "--env-options", options, "--total-steps", "48", *SMALL.split()]) == 0
    (run,) = tmp_path.glob("runs/pettingzoo.foreign_toy/mars/*")
    assert f"--env {TASK}" in capsys.readouterr().out
    before = torch.load(run / "checkpoint.pt", weights_only=True)
    assert list(before["env"]) == ["rng"] and before["env"]["rng"].shape == (3,)
    assert mars.main(["--resume", str(run), "--env", TASK, "--total-steps", "72"]) == 0
    out = capsys.readouterr().out
    assert "new ones begin: a foreign environment cannot be saved in the middle of one" in out
    after = torch.load(run / "checkpoint.pt", weights_only=True)
    assert (before["update"], after["update"]) == (2, 3)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["kind"] == "update"] == [1, 2, 3]
    assert json.loads((run / "evaluations.json").read_text())["foreign_toy"][TASK]["mars"]
    assert evaluate.main([str(run), "--env", TASK, "--episodes", "3", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["metrics"]["episode_return"]["seeds"]["0"]["mean"] > 0
    policy = torch_mars.load_policy(run)
    env = envs.parallel_env(policy.task, **policy.env_options)
    observations, infos = env.reset(seed=0)
    while env.agents:
        observations, _, _, _, infos = env.step(policy(observations, infos))
    assert infos["counter_1"]["episode_length"] == 5


def test_a_training_that_fails_keeps_what_is_saved(tmp_path, monkeypatch, capsys, no_process):
    """The toy dies in the first step of an episode whose seed is another's; 4 episodes are begun at once."""
    monkeypatch.chdir(tmp_path)
    argv = ["--env", TASK, "--env-options", "{fails: raise, fails_at: 13, length: 20}", "--total-steps", "480"]
    with pytest.raises(SystemExit) as stopped:
        argv += ["--checkpoint-every", "1", "--eval-every", "1000", *SMALL.split()]
        cli.guarded(lambda: mars.main(argv), "mars")
    printed = capsys.readouterr()
    assert stopped.value.code == 1
    assert printed.err.splitlines()[-1].startswith(f"mars: {TASK}: ZeroDivisionError: one over nothing")
    assert "What is saved can be gone on with" in printed.out
    (run,) = tmp_path.glob("runs/pettingzoo.foreign_toy/mars/*")
    assert torch.load(run / "checkpoint.pt", weights_only=True)["update"] == 1


def test_what_has_no_picture_is_filmed_in_figures(tmp_path, monkeypatch, no_process):
    monkeypatch.chdir(tmp_path)
    env = envs.make(TASK, 1, auto_reset=False, pictures=False)
    env.reset()
    assert env.draws_later and env.draw(env.state).shape[2] == 3
    assert play.main([TASK, "--random", "--out", "film.gif"]) == 0  # this one has pictures
    assert (tmp_path / "film.gif").stat().st_size > 1000
    with pytest.raises(cli.UsageError, match="no run"):
        play.main(["pettingzoo:nowhere"])
