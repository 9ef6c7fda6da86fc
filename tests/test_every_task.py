"""From a name to a film: every task with every lesson. One of each environment in the quick suite, all nightly."""

import json

import pytest
import torch
from PIL import Image
from task_lists import every_task

import torch_mars.envs as envs
from torch_mars import evaluate, play
from torch_mars.algos import LESSONS, lesson

SMALL = "--num-envs 2 --rollout-length 4 --hidden-size 8 --minibatches 2 --epochs 1 --eval-episodes 2 --num-seeds 2"
STEPS = 2 * 4  # of an update
OWN = {"recurrent": ["--sequence-length", "2"]}  # two stretches of a rollout


@every_task
def test_a_task_makes_resets_steps_and_draws(task):
    env = envs.make(task, 3)
    ts = env.reset()
    space = env.action_space
    for _ in range(4):
        actions = torch.stack([torch.as_tensor(space.sample()) for _ in range(3 * env.num_agents)])
        ts = env.step(actions.view(3, env.num_agents, *space.shape))
    assert ts.obs.isfinite().all() and ts.state.isfinite().all() and ts.reward.isfinite().all()
    assert env.draw(env.state, 2).ndim == 3


@pytest.mark.parametrize("method", LESSONS)
@every_task
def test_a_task_is_trained_resumed_measured_and_shown(task, method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = lesson(method).main
    has_own_rewards = not envs.make(task).has_shared_reward
    settings = ["--env", task, "--env-options", "{max_steps: 6}", "--total-steps", str(2 * STEPS), "--device", "cpu"]
    settings += ["--value-per-agent"] * has_own_rewards + OWN.get(method, [])
    assert main([*SMALL.split(), *settings]) == 0
    (folder,) = (tmp_path / "runs").glob("*/*/*")
    assert main(["--resume", str(folder), "--total-steps", str(3 * STEPS)]) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if line["kind"] == "update"]
    assert [line["update"] for line in updates if line["seed"] == 0] == [1, 2, 3]
    assert all(line["actor_loss"] == line["actor_loss"] and line["skipped_steps"] == 0 for line in updates)

    capsys.readouterr()
    assert evaluate.main([str(folder), "--episodes", "4", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["task"] == task
    assert play.main([str(folder), "--out", "team.png"]) == 0
    assert Image.open("team.png").size > (100, 100)
