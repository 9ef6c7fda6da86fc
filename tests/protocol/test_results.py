"""`results/`: the table of all tasks and what is behind it; rooms of PaxMen."""

import json
from pathlib import Path

import numpy as np
import pytest
from loaded_scripts import loaded
from made_up_results import run_folder

from torch_mars import envs
from torch_mars.protocol import saved
from torch_mars.run.cli import UsageError

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The module, with a folder of its own."""
    monkeypatch.syspath_prepend(RESULTS)
    import cells

    (tmp_path / "random.json").write_bytes((RESULTS / "random.json").read_bytes())
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "steps.yaml").write_bytes((RESULTS / "tasks" / "steps.yaml").read_bytes())
    monkeypatch.setattr(cells, "HERE", tmp_path)
    monkeypatch.setattr(cells, "FOLDER", tmp_path / "tasks")
    return cells


@pytest.fixture
def landing(cells):
    with loaded(RESULTS / "landing.py") as module:
        yield module


def finished(folder, task, method, final, metric, **settings):
    """A run with the metric that says most besides its returns, half of them."""
    run = run_folder(folder, method, task, final, env_options={}, **settings)
    nested = json.loads((run / "evaluations.json").read_text())
    for _, _, _, _, one in saved.walk(nested):
        for evaluation in one.values():
            evaluation[metric] = [value / 2 for value in evaluation["episode_return"]]
            evaluation["another"] = [1.0]
    (run / "evaluations.json").write_text(json.dumps(nested))
    return run


def row_of(table, task):
    head, _, *lines = (line.strip("| ").split(" | ") for line in table.splitlines())
    return dict(zip(head, next(line for line in lines if line[0] == task)))


def test_what_is_trained_lands_and_stands_in_the_table(landing, cells, tmp_path):
    finished(tmp_path / "runs", "smax_2s3z", "mars", 1.0, "won", points=10, expand=4.3589)
    (run,) = saved.find_runs([tmp_path / "runs"])
    landing.land([run], "abc123", "a core")
    row = row_of(cells.table(), "smax_2s3z")
    assert row["steps"] == "0.0M" and row["seeds"] == "3" and row["known"] == "2 (every battle won)"
    ends = [np.mean(np.linspace(-10, 1.0 + 0.1 * seed, 10)[-2:]) for seed in range(3)]
    assert row["MARS"] == f"{np.mean(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})" and row["MAPPO"] == ""
    assert row["random, the three"].endswith(f"-, -, {np.mean(ends) / 2:.2f}")
    cell = cells.told("smax")["smax_2s3z"]["mars"]
    assert cell["steps"] == 10_000 and cell["seeds"] == [10, 3] and cell["minutes"] == 0.0
    assert cell["quartiles"]["run_11"] == [1.1, 1.1, 1.1] and cell["ratios"]["max"] == 2.0
    assert cell["command"].endswith("--envs smax_2s3z --algos mars --seeds 3 --total-steps 10k --run-dir runs/tasks")
    assert cell["unlike_yaml"] == {"num_envs": 10, "rollout_length": 100}
    kept = cells.evaluations("smax")["smax_2s3z"]["mars"]["run_10"]
    assert "another" not in kept["step_3"] and kept["absolute_metrics"]["another"] == [1.0]
    assert "abc123" in cells.page("smax") and "| smax_2s3z | MARS | 0.90 | 3 |" in cells.page("smax")


def test_landing_replaces_a_cell_and_leaves_its_neighbours(landing, cells, tmp_path):
    for method in ("mars", "maspo"):
        finished(tmp_path / "first", "smax_2s3z", method, 1.0, "won")
    landing.land(saved.find_runs([tmp_path / "first"]), "abc123", "a core")
    finished(tmp_path / "second", "smax_2s3z", "mars", 2.0, "won")
    landing.land(saved.find_runs([tmp_path / "second"]), "def456", "a core")
    told = cells.told("smax")["smax_2s3z"]
    assert (told["mars"]["commit"], told["maspo"]["commit"]) == ("def456", "abc123")
    assert row_of(cells.table(), "smax_2s3z")["MARS"].startswith("2.10")


def test_what_is_no_cell_does_not_land(landing, tmp_path):
    run_folder(tmp_path / "cut", "mars", "smax_2s3z", is_finished=False)
    with pytest.raises(UsageError, match="no finished run"):
        landing.land(saved.find_runs([tmp_path / "cut"]), "abc123", "a core")
    finished(tmp_path / "other", "smax_2s3z", "mars_additive", 1.0, "won")
    with pytest.raises(UsageError, match="which is no cell"):
        landing.land(saved.find_runs([tmp_path / "other"]), "abc123", "a core")


def test_the_order_is_of_tasks_with_enough_seeds_of_all_three(landing, cells, tmp_path):
    for task, seeds in (("smax_2s3z", 5), ("connector_5x5x3a", 3)):
        metric = cells.HEADLINES[envs.family(task)][0]
        for method, final in (("mars", 1.0), ("maspo", 1.0), ("mappo", -5.0)):
            finished(tmp_path / "runs", task, method, final, metric, seeds=seeds)
    finished(tmp_path / "runs", "paxmen_5a", "mars", 1.0, "rooms_eaten_in", seeds=5)
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    assert list(cells.of_order()) == ["smax"]
    row = row_of(cells.order_table(), "smax_2s3z")
    assert row["MARS over MAPPO"] == "1.00, p = 0.0079" and row["MARS over MASPO"] == "0.50, p = 1"


def test_every_missing_cell_has_a_line_that_trains_it(landing, cells, tmp_path):
    for method in ("mars", "maspo"):
        finished(tmp_path / "runs", "smax_2s3z", method, 1.0, "won", seeds=4)
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    found = {task: (lacking, line) for task, lacking, line in cells.missing()}
    assert list(found) == list(envs.TASKS) and sum(len(lacking) for lacking, _ in found.values()) == 3 * 47 - 2
    line = "torch-mars experiment --preset ours --envs smax_2s3z --algos mappo --seeds 4 --total-steps 5k"
    assert found["smax_2s3z"] == (["mappo"], f"{line} --run-dir runs/tasks")
    assert "--seeds 3 --total-steps 700k " in found["smax_10m_vs_11m"][1]
    assert "139 of 141 cells are missing" in cells.gaps()


def test_every_environment_has_the_metric_that_says_how_well_a_team_does(cells):
    random = json.loads((cells.HERE / "random.json").read_text())
    assert list(random) == list(envs.TASKS)
    for task, metrics in random.items():
        assert cells.HEADLINES[envs.family(task)][0] in metrics


def test_the_pages_are_those_of_what_has_landed(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    import cells

    again = "run: python results/draw.py"
    assert (RESULTS / "tasks.md").read_text() == cells.tasks_page(), again
    assert cells.order_table() in (RESULTS / "README.md").read_text(), again
    for environment in (path.parent.name for path in (RESULTS / "tasks").glob("*/cells.json")):
        assert (RESULTS / "tasks" / environment / "README.md").read_text() == cells.page(environment), again


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
