"""`results/draw.py`: the table of all tasks; `results/layouts.py`: rooms of PaxMen."""

import json
from pathlib import Path

import numpy as np
import pytest
from loaded_scripts import loaded

from torch_mars import envs

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def drawing(tmp_path, monkeypatch):
    with loaded(RESULTS / "draw.py") as module:
        (tmp_path / "random.json").write_bytes((module.HERE / "random.json").read_bytes())
        monkeypatch.setattr(module, "HERE", tmp_path)
        yield module


def seed_of(returns: list[float]) -> dict:
    """Ten evaluations, of which the last fifth counts."""
    return {
        f"step_{i}": {"step_count": 100 * i, "elapsed_time": 1.0, "episode_return": [value], "won": [value / 2]}
        for i, value in enumerate(returns, 1)
    }


def test_every_task_has_a_line_and_what_is_trained_is_in_it(drawing, tmp_path):
    runs = {"run_10": seed_of([0.0] * 8 + [1.0, 2.0]), "run_11": seed_of([0.0] * 8 + [0.5, 0.5])}
    folder = tmp_path / "tasks" / "smax"
    folder.mkdir(parents=True)
    (folder / "evaluations.json").write_text(json.dumps({"smax": {"smax_2s3z": {"mars": runs}}}))
    head, _, *lines = drawing.tasks_table().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines] == list(envs.TASKS)
    row = dict(zip(head.strip("| ").split(" | "), next(x for x in lines if "smax_2s3z" in x).strip("| ").split(" | ")))
    assert row["steps"] == "1000" and row["known"] == "2 (most)"
    assert row["MARS"] == "1.00 (0.50 to 1.50)" and row["MAPPO"] == ""
    assert row["random, the three"].endswith("-, -, 0.50")


def test_every_environment_has_the_metric_that_says_how_well_a_team_does(drawing):
    random = json.loads((drawing.HERE / "random.json").read_text())
    assert list(random) == list(envs.TASKS)
    for task, metrics in random.items():
        assert drawing.HEADLINES[envs.family(task)][0] in metrics


def test_rooms_of_a_board_that_was_cleared_are_not_counted():
    layouts, returns = np.array([0, 0, 1, 2, 3]), np.array([1.0, 2.0, -4.0, 1.0, 50.0])
    rooms, cleared = np.array([2.0, 3.0, 3.0, 0.0, 7.0]), np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    with loaded(RESULTS / "layouts.py") as module:
        lines = module.table({"mars": [(layouts, returns, rooms, cleared)]}, "paxmen_4a").splitlines()
    assert lines[0] == "| paxmen_4a | layout | return | 0 rooms | 1 rooms | 2 rooms | 3 rooms | all, and on |"
    assert lines[2] == "| MARS | 0 | 1.50 | 0% | 0% | 50% | 50% | 0% |"
    assert lines[-1] == "| MARS | all | 10.00 | 20% | 0% | 20% | 40% | 20% |"


def test_layouts_are_those_of_the_episodes_that_are_evaluated(monkeypatch):
    """`evaluate` resets its environments to the same first states, as these have nothing random but their seeds."""
    from torch_mars.evaluate import evaluate
    from torch_mars.teams.policies import read

    team, seen = read("paxmen_5a"), []
    plays = team.lesson.evaluate

    def spied(env, actor, seeds, args):
        env.reset(seed=seeds)
        seen.append(env.state.layout.clone())
        return plays(env, actor, seeds, args)

    monkeypatch.setattr(team.lesson, "evaluate", spied)
    evaluate(team, 16)
    with loaded(RESULTS / "layouts.py") as module:
        assert module.layouts_of(team, 16).tolist() == [seen[0].tolist()]
