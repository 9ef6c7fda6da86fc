"""Ranks on cards: python -m pytest -m gpu. NCCL within CUDA graphs, with one rank where there is one card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rank_checks
import torch
from launched import LESSONS, Launch

from torch_mars.run import files

pytestmark = pytest.mark.gpu
FLAGS = "--num-envs 64 --rollout-length 32 --hidden-size 32 --eval-episodes 8 --num-seeds 2 --device cuda".split()
FLAGS += "--run-dir runs --checkpoint-every 2 --eval-every 8192".split()
STEPS = 64 * 32


def run_of(folder):
    (config,) = folder.glob("runs/*/*/*/config.yaml")
    return config.parent


def lines(folder):
    clocks = ("seconds", "steps_per_second")
    found = [json.loads(line) for line in (run_of(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in clocks} for line in found]


@pytest.mark.parametrize("lesson, task", [("mars", "paxmen_5a"), ("recurrent", "simple_spread_3ag")])
def test_one_rank_with_nccl_in_its_graph_is_training_alone(lesson, task, tmp_path):
    words = [LESSONS / f"{lesson}.py", *FLAGS, "--env", task, "--total-steps", 8 * STEPS]
    (tmp_path / "alone").mkdir()
    (tmp_path / "launched").mkdir()
    alone = subprocess.Popen([sys.executable, *map(str, words)], cwd=tmp_path / "alone", env={**os.environ})
    launched = Launch(tmp_path / "launched", *words, ranks=1)
    assert launched.end(200) == 0, launched.said.read_text()
    assert alone.wait(200) == 0
    assert "CUDA graph recorded" in launched.said.read_text()
    assert lines(tmp_path / "launched") == lines(tmp_path / "alone")
    folder = run_of(tmp_path / "launched")
    rest = Launch(tmp_path / "launched", words[0], "--resume", folder, "--total-steps", 10 * STEPS, ranks=1)
    assert rest.end(200) == 0, rest.said.read_text()
    assert files.load_checkpoint(folder)["update"] == 10


def test_two_ranks_compute_what_one_process_does(tmp_path):
    """With a card each and NCCL, or on one card by gloo."""
    launch = Launch(tmp_path, Path(rank_checks.__file__), tmp_path / "found.json", "cuda")
    assert launch.end(400) == 0, launch.said.read_text()
    found = json.loads((tmp_path / "found.json").read_text())
    assert not [problem for problem in found.values() if problem], found


@pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.device_count() < 2, reason="needs two cards")
def test_two_cards_train_from_graphs(tmp_path):
    launch = Launch(tmp_path, LESSONS / "mars.py", *FLAGS, "--total-steps", 8 * STEPS)
    assert launch.end(400) == 0, launch.said.read_text()
    assert "CUDA graph recorded" in launch.text and "2 ranks with 32 environments each" in launch.text
    assert lines(tmp_path)[-1]["update"] == 8
