"""`results/`: the table of all tasks and what is behind it; rooms of PaxMen."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from loaded_scripts import loaded
from made_up_results import run_folder

from torch_mars import envs
from torch_mars.protocol import gather, methods, saved
from torch_mars.run.cli import UsageError
from torch_mars.run.settings import resolve

RESULTS = Path(__file__).parents[2] / "results"
OWN = ("env", "seed", "num_seeds", "name", "run_dir", "contract", "additive_clip")  # of `run_folder`, and methods


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


def finished(folder, task, method, final, metric, points=5, **settings):
    """A run with the settings of `yaml/` but for these, and with the metric that says most: half the returns."""
    it = methods.METHODS[method]
    step = resolve(it.args, it.module.ratio_range, it.algorithm, {"env": task, "device": "cpu"})
    steps = points * step.num_envs * step.rollout_length
    usual = resolve(it.args, it.module.ratio_range, it.algorithm, {"env": task, "device": "cpu", "total_steps": steps})
    usual = {name: value for name, value in asdict(usual).items() if name not in OWN}
    run = run_folder(folder, method, task, final, **usual | settings)
    nested = json.loads((run / "evaluations.json").read_text())
    for _, _, _, _, one in saved.walk(nested):
        for evaluation in one.values():
            evaluation["episode_return"] = [value + i for value in evaluation["episode_return"] for i in (-2, -1, 3)]
            evaluation[metric] = [value / 2 for value in evaluation["episode_return"]]
            evaluation["another"] = [1.0]
    (run / "evaluations.json").write_text(json.dumps(nested))
    return run


def row_of(table, task):
    head, _, *lines = (line.strip("| ").split(" | ") for line in table.splitlines())
    return dict(zip(head, next(line for line in lines if line[0] == task)))


def lengthened(run, times, **extremes):
    """The run with its times so many times as long, and other ratios in its last update."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[-1] |= extremes
    text = "".join(json.dumps({**line, "seconds": times * line["seconds"]}) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text)


def test_what_is_trained_lands_and_stands_in_the_table(landing, cells, tmp_path):
    run = finished(tmp_path / "runs", "smax_2s3z", "mars", 1.0, "won", points=10, actor_lr=1e-4, eval_every=2000)
    lengthened(run, 600)
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    row = row_of(cells.table(), "smax_2s3z")
    assert row["steps"] == "0.08192M" and row["seeds"] == "3" and row["known"] == "2 (every battle won)"
    ends = [np.mean(np.linspace(-10, 1.0 + 0.1 * seed, 10)[-2:]) for seed in range(3)]
    assert row["MARS, 1/r*"] == f"{np.mean(ends):.2f} ({min(ends):.2f} to {max(ends):.2f}) \\*" and row["MAPPO"] == ""
    assert row["random play, the three"].endswith(f"-, -, {np.mean(ends) / 2:.2f}")
    cell = cells.told("smax")["smax_2s3z"]["mars"]
    assert cell["total_steps"] == 81_920 and cell["seeds"] == 3 and cell["minutes"] == 10.0
    assert cell["best"] == {"episodes": 36, "mean": 1.1, "quartiles": [-0.8, 0.1, 4.0]}
    assert cell["ratios"] == {"min_median": 0.6458, "min": 0.5, "max_median": 1.55, "max": 2.0}
    line = "torch-mars experiment --preset ours --envs smax_2s3z --algos mars --seeds 3 --total-steps 81920"
    unlike = "  # with --config of eval_every: 2000, actor_lr: 0.0001"
    assert cell["command"] == f"{line} --run-dir runs/tasks{unlike}"
    assert cell["unlike_yaml"] == {"actor_lr": 1e-4, "eval_every": 2000}
    kept = cells.evaluations("smax")["smax_2s3z"]["mars"]["run_10"]
    assert "another" not in kept["step_3"] and kept["absolute_metrics"]["another"] == [1.0]
    page = cells.page("smax")
    assert "code of commit abc123" in page and "| smax_2s3z | MARS, 1/r* | 0.9 | 3 |" in page


def test_a_ratio_without_end_and_a_diverged_seed_are_told(landing, cells, tmp_path):
    run = finished(tmp_path / "runs", "smax_2s3z", "maspo", 1.0, "won")
    lengthened(run, 1, ratio_max="inf")
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"kind": "diverged", "seed": 11, "update": 4, "step": 4000, "seconds": 1.0}) + "\n")
    landing.land(saved.find_runs([run]), "abc123", "a core")
    page = cells.page("smax")
    assert "0.67 to inf" in page and "- MASPO on smax_2s3z: seed 11 diverged at step 32,768" in page
    assert cells.diverged("smax") == {"smax_2s3z": {"maspo": {"run_11": 32768}}}


def test_landing_replaces_a_cell_and_leaves_what_is_the_same(landing, cells, tmp_path):
    for method in ("mars", "maspo"):
        finished(tmp_path / "runs", "smax_2s3z", method, 1.0, "won")
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    finished(tmp_path / "other", "smax_2s3z", "mars", 2.0, "won")
    (maspo,) = (tmp_path / "runs").glob("*/maspo/*")
    landing.land(saved.find_runs([tmp_path / "other", maspo]), "def456", "a core", "python other.py")
    told = cells.told("smax")["smax_2s3z"]
    assert (told["mars"]["commit"], told["maspo"]["commit"]) == ("def456", "abc123")
    assert told["mars"]["command"] == "python other.py"
    assert row_of(cells.table(), "smax_2s3z")["MARS, 1/r*"].startswith("2.10")


def test_a_cell_of_several_runs_has_all_their_seeds(landing, cells, tmp_path):
    for seed, seeds in ((10, 3), (13, 2)):
        lengthened(finished(tmp_path / "runs", "smax_2s3z", "mars", 1.0, "won", seed=seed, seeds=seeds), 600)
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    cell = cells.told("smax")["smax_2s3z"]["mars"]
    assert (cell["seeds"], cell["minutes"], cell["best"]["episodes"]) == (5, 10.0, 60)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"method": "mars_additive"}, "a method of its own"),
        ({"preset": "paper"}, "of --preset paper"),
        ({"start_from": "runs/before"}, "begun with another run's weights"),
        ({"contract": 0.8}, "MARS with two targets"),
        ({"env_options": {"max_steps": 10}}, "on smax_2s3z"),
        ({"seed": 3}, "has the seeds .3, 4, 5.; they must be 10 and"),
    ],
)
def test_what_is_no_cell_does_not_land(landing, tmp_path, settings, reason):
    given = {"method": "mars", **settings}
    finished(tmp_path, "smax_2s3z", metric="won", final=1.0, **given)
    with pytest.raises(UsageError, match=reason):
        landing.land(saved.find_runs([tmp_path]), "abc123", "a core")


def test_runs_that_are_not_finished_do_not_land(landing, tmp_path):
    run_folder(tmp_path, "mars", "smax_2s3z", is_finished=False)
    with pytest.raises(UsageError, match="no finished run"):
        landing.land(saved.find_runs([tmp_path]), "abc123", "a core")


def test_the_order_is_of_tasks_with_enough_seeds_of_all_three_alike(landing, cells, tmp_path):
    for task, seeds, points in (("smax_2s3z", 5, 5), ("connector_5x5x3a", 3, 5), ("simple_spread_3ag", 5, 6)):
        metric = cells.HEADLINES[envs.family(task)][0]
        for method, final in (("mars", 1.0), ("maspo", 1.0), ("mappo", -5.0)):
            many = points if method == "mars" else 5  # of the second, one method has more steps
            finished(tmp_path / "runs", task, method, final, metric, seeds=seeds, points=many)
    finished(tmp_path / "runs", "paxmen_5a", "mars", 1.0, "rooms_eaten_in", seeds=5)
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    assert list(cells.of_order()) == ["smax"]
    row = row_of(cells.order_table(), "smax_2s3z")
    assert row["over MAPPO"] == "1.00, p = 0.0079" and row["over MASPO"] == "0.50, p = 1"


def test_every_missing_or_short_cell_has_a_line_that_trains_it(landing, cells, tmp_path):
    finished(tmp_path / "runs", "smax_2s3z", "mars", 1.0, "won", seeds=5, eval_episodes=7)
    finished(tmp_path / "runs", "smax_2s3z", "maspo", 1.0, "won", seeds=4, eval_episodes=7, gamma=0.9)
    finished(tmp_path / "runs", "smax_3s5z", "maspo", 1.0, "won", points=3)
    finished(tmp_path / "runs", "smax_3s5z", "mars", 1.0, "won")
    landing.land(saved.find_runs([tmp_path / "runs"]), "abc123", "a core")
    start = "torch-mars experiment --preset ours --envs"
    missing, short, line = cells.to_train("smax_2s3z")
    assert (missing, short) == (["mappo"], ["maspo"])
    evaluated = "--run-dir runs/tasks  # with --config of eval_episodes: 7"
    own = "; maspo by itself, with gamma: 0.9"
    assert line == f"{start} smax_2s3z --algos mappo,maspo --seeds 5 --total-steps 40960 {evaluated}{own}"
    missing, short, line = cells.to_train("smax_3s5z")
    assert (missing, short) == (["mappo"], ["maspo"]) and "--seeds 3 --total-steps 40960" in line
    assert cells.to_train("paxmen_5a")[2].startswith(
        f"{start} paxmen_5a --algos mappo,maspo,mars --seeds 10 --total-steps 20M"
    )
    assert "--seeds 3 --total-steps 700k " in cells.to_train("smax_10m_vs_11m")[2]
    assert "Of 141 cells 137 are missing, 2 with fewer seeds" in cells.gaps()


def test_what_is_said_of_tasks_on_which_little_is_learned_is_of_trained_ones():
    for note in yaml.safe_load((RESULTS / "tasks/notes.yaml").read_text()):
        assert note["says"] and note["tasks"]
        for task in note["tasks"]:
            assert task in json.loads((RESULTS / f"tasks/{envs.family(task)}/cells.json").read_text())


def test_every_environment_has_the_metric_that_says_how_well_a_team_does(cells):
    random = json.loads((cells.HERE / "random.json").read_text())
    assert list(random) == list(envs.TASKS)
    for task, metrics in random.items():
        metric, _ = cells.HEADLINES[envs.family(task)]
        assert metric in metrics and metric == envs.known(task).environment.headline


def test_the_pages_are_those_of_what_has_landed(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    import cells

    again = "run: python results/draw.py"
    assert (RESULTS / "tasks.md").read_text() == cells.tasks_page(), again
    page = (RESULTS / "README.md").read_text()
    assert cells.order_table() in page and cells.minutes() in page, again
    for environment in (path.parent.name for path in (RESULTS / "tasks").glob("*/cells.json")):
        assert (RESULTS / "tasks" / environment / "README.md").read_text() == cells.page(environment), again


def test_the_pages_of_comparisons_are_those_of_their_json(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    with loaded(RESULTS / "draw.py") as draw:
        for name in draw.COMPARED:
            page = (RESULTS / name / "README.md").read_text()
            assert all(table in page for table in draw.tables_of(name).values()), f"{name}: run results/draw.py"
        assert draw.precision.table() in (RESULTS / "precision" / "README.md").read_text(), "run results/draw.py"


def test_what_was_tuned_stands_beside_what_yaml_has(cells, landing, tmp_path, monkeypatch):
    import tuned

    finished(tmp_path / "usual", "smax_2s3z", "mars", 1.0, "won", points=10, seeds=5)
    finished(tmp_path / "tuned", "smax_2s3z", "mars", 2.0, "won", points=10, seeds=5, actor_lr=1e-4)
    landing.land(saved.find_runs([tmp_path / "usual"]), "abc123", "a core")
    folder = tmp_path / "tuning" / "found" / "smax_2s3z"
    folder.mkdir(parents=True)
    gather.save(gather.gather([tmp_path / "tuned"])[0], tmp_path / "tuning" / saved.EVALUATIONS)
    (folder / "mars.yaml").write_text("env: smax_2s3z\ntotal_steps: 6000\nactor_lr: 0.0001\nclip: 0.5\n")
    (folder / "mars.csv").write_text("trial,state,objective\n0,complete,1.5\n1,pruned,9.0\n2,complete,1.75\n")
    monkeypatch.setattr(tuned, "FOLDER", tmp_path / "tuning")
    monkeypatch.setattr(tuned, "FOUND", tmp_path / "tuning" / "found")
    tables = tuned.tables()
    found = row_of(tables["found"], "smax_2s3z")
    assert (found["trials, pruned"], found["best trial's return"]) == ("3, 1", "1.75")
    assert (found["actor_lr"], found["clip"]) == ("0.0001", "0.5")
    lines = tables["beside"].splitlines()
    cell = lines[2].strip("| ").split(" | ")
    assert cell[:3] == ["smax_2s3z", "MARS", "0.006M"] and cell[-2:] == ["1.00", "0.0079"]
    usual, later = (np.linspace(-10, final + 0.2, 10) for final in (1.0, 2.0))  # of the middle seed
    means = [float(text.split()[0]) for text in cell[3:7]]
    assert means == pytest.approx(
        [usual[4:6].mean(), later[4:6].mean(), usual[-2:].mean(), later[-2:].mean()], abs=0.01
    )


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
