"""`python -m torch_mars.evaluate`: the statistics, which episodes count, what is printed, and refusals."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_environments import Toy

from torch_mars import envs, evaluate
from torch_mars.algos import mars
from torch_mars.protocol import intervals
from torch_mars.run.cli import UsageError
from torch_mars.teams import policies

ROOT = Path(__file__).parents[2]


class Lottery(Toy):
    """Half of the episodes end after one step without a reward, the others last 20 steps and bring 1 in all."""

    metrics = {"long_ones": "last", "threes": "sum"}
    has_shared_reward = True

    def transition(self, state, actions):
        is_long = state.total[:, 0] > 0.5
        reward = (is_long / self.max_steps)[:, None].repeat(1, 3)
        return dataclasses.replace(state), reward, ~is_long, {"long_ones": is_long, "threes": (actions == 3).sum(1)}


@pytest.fixture
def lottery(tmp_path):
    """An untrained team of three seeds for the Lottery."""
    envs.register("lottery", Lottery)
    actor = mars.Actor(Lottery(), mars.Args(hidden_size=8), [torch.Generator().manual_seed(p) for p in range(3)])
    return policies.Trained(
        path=tmp_path, what="best policy", algorithm="mars", task="lottery", env_options={}, seeds=[4, 5, 6],
        returns=[0.0, 0.0, 0.0], args=mars.Args(hidden_size=8), weights=actor.state_dict(), lesson=mars,
    )  # fmt: skip


@pytest.fixture(scope="module")
def spread_run(tmp_path_factory):
    """A finished run on `simple_spread_3ag`, in which no two episodes return the same: 6 steps, seeds 7 and 8."""
    parent = tmp_path_factory.mktemp("spread")
    settings = "--num-envs 4 --rollout-length 6 --hidden-size 8 --eval-episodes 2 --device cpu --num-seeds 2 --seed 7"
    more = ["--env", "simple_spread_3ag", "--env-options", "{max_steps: 6}", "--total-steps", "24"]
    assert mars.main([*settings.split(), *more, "--run-dir", str(parent)]) == 0
    (folder,) = parent.glob("*/*/*")
    return folder


# ---- statistics ----


@pytest.mark.parametrize(
    "freedom, expected",
    [(1, 12.7062047), (2, 4.3026527), (4, 2.7764451), (9, 2.2621572), (30, 2.0422725), (1e6, 1.959966)],
)
def test_students_t(freedom, expected):
    assert intervals.student_t(freedom) == pytest.approx(expected, rel=1e-6)
    assert intervals.student_t(9, 0.99) == pytest.approx(3.2498355, rel=1e-6)


def test_mean_and_interval():
    mean, half = intervals.mean_and_interval([1.0, 2.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(3.1824463 * math.sqrt(10 / 3) / 2)
    assert intervals.mean_and_interval([2.0, 2.0]) == (2.0, 0.0)
    mean, half = intervals.mean_and_interval([7.0])
    assert mean == 7.0 and math.isnan(half)


def test_the_interval_covers_the_truth_in_95_of_100():
    """Seed 0; 1,000 samples of five numbers; five standard deviations of the count are 35."""
    samples = np.random.default_rng(0).normal(3.0, 2.0, (1000, 5))
    spans = [intervals.mean_and_interval(sample) for sample in samples]
    assert abs(sum(abs(mean - 3) <= half for mean, half in spans) - 950) < 35


# ---- which episodes ----


def test_short_episodes_are_not_preferred(lottery):
    """Those that end first are nearly all short; the mean over all is near a half. 3 x 400 episodes, seed 0."""
    found = evaluate.evaluate(lottery, 400)
    returns = np.array(found["episode_return"])
    assert returns.shape == (3, 400)
    assert sorted({round(value, 3) for value in returns.flat}) == [0.0, 1.0]
    assert abs(returns.mean() - 0.5) < 5 * 0.5 / math.sqrt(returns.size)
    np.testing.assert_allclose(found["long_ones"], returns, atol=1e-5)


def test_more_episodes_begin_with_the_same_batches(lottery, monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 8)
    few, many = (evaluate.evaluate(lottery, count)["episode_return"] for count in (8, 21))
    assert [len(values) for values in many] == [21, 21, 21]
    assert [values[:8] for values in many] == few
    assert evaluate.evaluate(lottery, 21, seed=1)["episode_return"] != many
    assert many[0] != many[1], "seeds play episodes of their own"


def test_every_batch_has_episodes_of_its_own(lottery, monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 8)
    for values in evaluate.evaluate(lottery, 16)["episode_return"]:
        assert values[:8] != values[8:]


def test_the_policies_are_what_is_measured(tiny_run):
    """A policy that always eats gets nothing but -0.025 per agent and step as long as no dot is near."""
    trained = policies.read(tiny_run)
    for name, weight in trained.weights.items():
        weight.zero_()
        if name == "network.head.bias":
            weight[1, ..., 4] = 50.0  # the second seed eats, the first acts at random
    found = evaluate.evaluate(trained, 50)
    assert found["episode_return"][1] == pytest.approx([6 * 5 * -0.025] * 50)


def test_greedy_takes_the_most_likely_action(lottery):
    """Action 3 is a little more likely than the others."""
    for weight in lottery.weights.values():
        weight.zero_()
    lottery.weights["network.head.bias"][..., 3] = 0.1
    sampled, greedy = (evaluate.evaluate(lottery, 20, greedy=greedy)["threes"] for greedy in (False, True))
    assert {*np.ravel(greedy)} == {3.0, 60.0}  # in every step of every agent
    assert max(np.ravel(sampled)) < 50


# ---- the command ----


def test_the_table_shows_seeds_and_all(spread_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert evaluate.main([str(spread_run), "--episodes", "5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"MARS on simple_spread_3ag, best policy: {spread_run / 'policy.pt'}"
    assert said[1] == "mean +- 95% interval over 5 episodes a seed, sampled actions"
    assert said[3].split() == ["2", "seeds", "seed", "7", "seed", "8"]
    assert [line.split()[0] for line in said[4:8]] == ["return", "collisions", "coverage", "distance"]
    assert all(line.count("+-") == 3 for line in said[4:8])
    assert said[9] == "10 episodes from the least to the most, . for few and @ for most of them"
    assert said[11].split() == ["least", "25%", "median", "75%", "most", "least", "to", "most"]
    assert [line.split()[0] for line in said[12:]] == ["return", "collisions", "coverage", "distance"]
    returns = sum(evaluate.evaluate(policies.read(spread_run), 5)["episode_return"], [])
    expected = [f"{np.quantile(returns, q):.2f}" for q in (0, 0.25, 0.5, 0.75, 1)]
    assert said[12].split()[1:6] == expected and all(len(line.split("|")[1]) >= 12 for line in said[12:])
    monkeypatch.setenv("COLUMNS", "40")
    evaluate.main([str(spread_run), "--episodes", "5", "--greedy"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines()[2:])) <= 40 and "most likely actions" in said and "seed 8" in said


def test_a_mean_that_hides_two_groups_is_told(lottery, monkeypatch, capsys):
    """And not that of `won`, although its values are two."""
    returns = [0.01 * i for i in range(30)] + [5 + 0.01 * i for i in range(60)]
    found = {"episode_return": [returns], "won": [[0, 1] * 45]}
    monkeypatch.setattr(evaluate, "read", lambda *_: dataclasses.replace(lottery, seeds=[4]))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: found)
    assert evaluate.main(["lottery"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "note: the mean of return, 3.58, hides two groups of episodes: 33% around 0.14 and 67% around 5.30"
    ]
    assert " hides " not in said.out and "|@" in said.out
    assert evaluate.main(["lottery", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    groups = metrics["episode_return"]["spread"]["groups"]
    assert [group["share"] for group in groups] == pytest.approx([1 / 3, 2 / 3])
    assert [group["centre"] for group in groups] == pytest.approx([0.14, 5.3])
    assert metrics["won"]["spread"]["groups"] is None


def test_the_interval_of_all_is_that_of_the_seeds_means():
    """Means 1 and 5 of two seeds: 3 +- 12.7062 (the t of one degree of freedom) x 2.8284 / 1.4142."""
    together = evaluate.summary({"won": [[0.0, 2.0], [4.0, 6.0]]}, [7, 8])["won"]["together"]
    assert together["mean"] == 3 and together["high"] == pytest.approx(3 + 2 * 12.7062047)
    assert together["low"] == pytest.approx(3 - 2 * 12.7062047)


def test_extremes_and_quartiles_stand_under_their_heads():
    heads, row = evaluate.spread_table({"episode_return": [[0.0, 1.0, 2.0], [3.0, 10.0]]}, 100).splitlines()
    assert heads.split()[:5] == ["least", "25%", "median", "75%", "most"]
    assert row.split()[:6] == ["return", "0.00", "1.00", "2.00", "3.00", "10.00"]


def test_json_holds_every_episode_and_the_intervals(spread_run, capsys):
    assert evaluate.main([str(spread_run), "--episodes", "6", "--seed", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "simple_spread_3ag" and said["env_options"] == {"max_steps": 6} and said["seed"] == 3
    assert said["metrics"].keys() == {"episode_return", "collisions", "coverage", "distance"}
    returns = said["metrics"]["episode_return"]
    found = evaluate.evaluate(policies.read(spread_run), 6, seed=3)["episode_return"]
    means = []
    for seed, values in zip(("7", "8"), found):
        mean, half = intervals.mean_and_interval(values)
        one = returns["seeds"][seed]
        assert one["episodes"] == values
        assert (one["mean"], one["low"], one["high"]) == pytest.approx((mean, mean - half, mean + half))
        assert one["spread"]["median"] == np.median(values) and one["spread"]["most"] == max(values)
        means.append(mean)
    mean, half = intervals.mean_and_interval(means)
    assert returns["spread"]["least"] == np.min(found) and returns["spread"]["lower_quartile"] == np.quantile(
        found, 0.25
    )
    together = returns["together"]
    assert (together["mean"], together["low"], together["high"]) == pytest.approx((mean, mean - half, mean + half))


def test_one_episode_has_no_interval(tiny_run, capsys):
    assert evaluate.main([str(tiny_run), "--episodes", "1", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)["metrics"]["episode_return"]["seeds"]["7"]
    assert one["low"] is None and one["mean"] == one["episodes"][0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: RUN_OR_TASK"),
        (["run", "--episodes", "0"], "argument --episodes: 0 is too small; it must be 1 or more"),
        (["run", "--episodes", "many"], "argument --episodes: 'many' is not a whole number"),
        (["run", "--seed", "-1"], "argument --seed: -1 is too small"),
        (["run", "--greed"], "unknown argument '--greed'; did you mean --greedy"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "typed, sentence",
    [
        ("paxmen_5b", "there is no run paxmen_5b; unknown task 'paxmen_5b'; did you mean paxmen_5a"),
        ("nomod:Gather", "there is no run nomod:Gather; there is no module 'nomod' in this folder"),
        (
            "paxmen_6a",
            "no run or checkpoint at paxmen_6a, which is the name of a task; teams are installed for aerojax",
        ),
        ("jaxnav_8x8x3a", "no run or checkpoint at jaxnav_8x8x3a, which is the name of a task"),
        (f"{ROOT}/examples/gather.py:Gathr", "module gather has no environment 'Gathr'; did you mean Gather"),
        (f"{ROOT}/examples/gather.py:Gather", "which is the name of a task"),
        ("runs/nothing", "no run or checkpoint at runs/nothing"),
    ],
)
def test_what_is_no_run_is_named_as_lessons_name_a_task(typed, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UsageError) as refused:
        evaluate.main([typed])
    assert sentence in str(refused.value)
    sys.modules.pop("gather", None)  # another test may have one from elsewhere


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_leaves_early_gets_no_traceback(tiny_run):
    command = [sys.executable, "-m", "torch_mars.evaluate", str(tiny_run), "--episodes", "2", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert result.returncode == 141 and result.stderr == ""
