"""`examples/mechanism/grid.py`: arms are methods of their own, each trained once, told seed by seed."""

import json
import math
from pathlib import Path

import pytest
from loaded_scripts import loaded

from torch_mars import experiment
from torch_mars.protocol import methods
from torch_mars.protocol.grids import Cell
from torch_mars.run.cli import UsageError

PATH = Path(__file__).parents[2] / "examples" / "mechanism" / "grid.py"
SMALL = {"num_envs": 4, "rollout_length": 8, "hidden_size": 8, "eval_episodes": 2}


@pytest.fixture
def grids(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    with loaded(PATH) as module:
        yield module


def cells(grids, kind: str, *more: str) -> list[Cell]:
    return experiment.prepared(grids.line_of([kind, "--envs", "paxmen_5a", "--device", "cpu", *more]))[0]


@pytest.mark.parametrize("kind, count", [("tails", 9), ("strengths", 36), ("slow", 2)])
def test_every_arm_is_a_training_of_its_own(grids, kind, count, capsys):
    grid = cells(grids, kind)
    assert len(grid) == len({cell.key for cell in grid}) == count
    assert "the same training" not in capsys.readouterr().err
    assert all(methods.of_run(cell.method.algorithm, cell.settings) is cell.method for cell in grid)


def test_arms_are_what_their_names_say(grids):
    by_name = {cell.method.name: cell.settings for cell in cells(grids, "tails")}
    low = by_name["mars_low"]
    assert (low["core"], low["tail_low"], low["tail_high"], low["strength"]) == ("mars", "mars", "none", 0.4)
    assert (low["strength"], low["band_low"], low["band_high"]) == grids.BANDS["paxmen_5a"]
    by_name = {cell.method.name: cell.settings for cell in cells(grids, "strengths")}
    slow, usual = by_name["mars_s0.8_lr0.5"], by_name["mars_s0.8_lr1.0"]
    assert methods.strength(slow["expand"]) == pytest.approx(0.8) and slow["contract"] is None
    assert slow["actor_lr"] == usual["actor_lr"] / 2 and slow["critic_lr"] == usual["critic_lr"] / 2
    slowest, _ = cells(grids, "slow")
    assert (
        slowest.settings["actor_lr"] == pytest.approx(usual["actor_lr"] / 5)
        and slowest.settings["critic_lr"] == usual["critic_lr"]
    )
    assert by_name["mappo_s0.8_lr0.5"]["clip"] == by_name["maspo_s0.8_lr0.5"]["clip"] == 0.8


def test_a_task_without_a_band_is_refused(grids):
    with pytest.raises(UsageError, match="the band of paxmen_4a is not known; find it with fork.py"):
        grids.tails("paxmen_4a")


def test_a_grid_must_be_named(grids):
    with pytest.raises(UsageError, match="say which grid: tails, strengths, slow"):
        grids.main(["tail"])


@pytest.mark.slow
def test_what_is_done_is_told(grids, tmp_path):
    (tmp_path / "small.yaml").write_text(json.dumps({**SMALL, "total_steps": 96}))
    places = ["--run-dir", str(tmp_path / "runs"), "--out", str(tmp_path), "--config", str(tmp_path / "small.yaml")]
    line = ["tails", "--envs", "paxmen_5a", "--seeds", "2", "--device", "cpu", "--algos", "linear,mars_none", *places]
    assert grids.main(line) == 0
    told = json.loads((tmp_path / "runs.json").read_text())
    assert [(one["arm"], one["seed"]) for one in told] == [(a, s) for a in ("linear", "mars_none") for s in (10, 11)]
    for one in told:
        assert one["final"] == pytest.approx(one["curve"]["return"][-1], rel=1e-3) or len(one["curve"]["return"]) > 1
        assert 0 < one["last_entropy"] < math.log(5)  # of five actions
        assert 0 < one["median_of_updates"]["ratio_min"] <= 1 <= one["median_of_updates"]["ratio_max"]
    before = sorted((tmp_path / "runs").rglob("config.yaml"))
    assert grids.main(line) == 0  # nothing is left
    assert sorted((tmp_path / "runs").rglob("config.yaml")) == before
