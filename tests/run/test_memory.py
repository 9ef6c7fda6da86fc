"""What `memory.needed` says of policies with memory, and of agents' own: its parts, and what a process takes."""

import dataclasses
import json
import subprocess
import sys

import pytest

from torch_mars.algos import mars, recurrent
from torch_mars.run import memory, settings
from torch_mars.run.cli import UsageError

SIZES = {"env": "paxmen_5a", "num_envs": 256, "rollout_length": 32, "minibatches": 1, "device": "cpu"}


def args_of(kind, **more):
    return settings.resolve(kind, lambda args: None, "mars", {**SIZES, **more})


def test_what_is_remembered_is_counted_by_stretch():
    """P seeds, C + 1 stretches, B environments, N agents and a critic, H numbers of four bytes."""
    long = args_of(recurrent.Args, num_seeds=2, sequence_length=16, hidden_size=64)
    short = dataclasses.replace(long, sequence_length=8)
    assert memory.needed(short) - memory.needed(long) == 2 * 2 * 256 * (5 + 1) * 64 * 4
    own_critics = [dataclasses.replace(args, independent=True) for args in (short, long)]
    assert memory.needed(own_critics[0]) - memory.needed(own_critics[1]) == 2 * 2 * 256 * (5 + 5) * 64 * 4


def test_a_gru_needs_more_than_a_layer_and_own_policies_more_than_one():
    plain = args_of(mars.Args)
    own = dataclasses.replace(plain, shared_policy=False)
    assert memory.needed(args_of(recurrent.Args)) > 1.5 * memory.needed(plain)
    # each of four other agents has weights of its own, (N + O + A + H) H numbers: once, and as often as they are kept
    once = 4 * 4 * (5 + 25 + 5 + 128) * 128
    assert memory.needed(own) - memory.needed(plain) >= memory.KEPT_WEIGHTS * once


def test_what_a_time_limit_cuts_off_is_kept_for_every_step():
    """The state after each step [T, B, S], or where critics see observations, those [T, B, N, O]."""
    for more, numbers in (({}, 140), ({"independent": True}, 5 * 25)):
        plain = args_of(mars.Args, **more)
        cut = dataclasses.replace(plain, bootstrap_truncation=True)
        assert memory.needed(cut) - memory.needed(plain) == 4 * 32 * 256 * numbers


MEASURE = """
import json, resource, sys
import torch
from torch_mars import algos, envs
from torch_mars.run import memory

name, given = sys.argv[1], json.loads(sys.argv[2])
lesson = algos.lesson(name)
torch.set_num_threads(2)

def train(**more):
    args = lesson.Args(**{**given, "epochs": 1, **more})
    seeds = list(range(args.num_seeds))
    env = envs.make(args.env, args.num_seeds * args.num_envs, "cpu", seeds)
    learner = lesson.Learner(args, env, seeds)
    env.reset()
    rollout = lesson.Rollout(args, env, learner.actor)
    lesson.iteration((env.state, learner.key), env=env, rollout=rollout, learner=learner, args=args)
    return args

train(num_envs=8, num_seeds=1)  # loads and compiles what any training needs
pages = int(open("/proc/self/statm").read().split()[1])
open("/proc/self/clear_refs", "w").write("5")
args = train()
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak - pages * resource.getpagesize(), "needed": memory.needed(args)}))
"""


def test_processes_on_one_machine_need_so_many_times_as_much(monkeypatch):
    monkeypatch.setattr(memory, "needed", lambda args: 100)
    monkeypatch.setattr(memory, "available", lambda: 150)
    memory.check(args_of(mars.Args), 2)
    with pytest.raises(UsageError, match="are free"):
        memory.check(args_of(mars.Args), 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
@pytest.mark.parametrize(
    "lesson, more",
    [
        ("recurrent", {"num_envs": 512, "minibatches": 2}),
        ("recurrent", {"num_envs": 64, "num_seeds": 4}),
        ("recurrent", {"env": "simple_spread_3ag", "num_envs": 512}),
        ("recurrent", {"shared_policy": False}),
        ("recurrent", {"independent": True}),
        ("mars", {"num_envs": 512, "shared_policy": False}),
    ],
)
def test_it_is_near_what_a_training_takes(lesson, more):
    """Where allocators and two threads' timing decide about a fifth, a third is allowed."""
    words = [sys.executable, "-c", MEASURE, lesson, json.dumps({**SIZES, **more})]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert 0.67 < found["needed"] / found["peak"] < 1.5, found
