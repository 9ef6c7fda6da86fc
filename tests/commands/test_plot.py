"""Runs read together, and the figures and tables made from them."""

import csv
import importlib
import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from made_up_results import nested, run_folder
from PIL import Image

from torch_mars import plot
from torch_mars.algos import mars
from torch_mars.protocol import figures, gather, methods, report, saved, tables
from torch_mars.run import cli

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "evaluations.schema.json").read_text())
FINALS = {
    "paxmen_4a": {"mappo": -6.0, "maspo": -5.0, "mars": -4.0},
    "paxmen_5a": {"mappo": -7.0, "maspo": -5.0, "mars": -5.05},
}


def written(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(json.dumps(content))
    return path


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


# ---- evaluations ----


def test_a_run_and_what_plot_writes_hold_to_the_schema(tmp_path):
    settings = "--env paxmen_4a --num-envs 4 --rollout-length 16 --hidden-size 8 --eval-episodes 2 --device cpu"
    assert mars.main([*settings.split(), "--total-steps", "192", "--num-seeds", "2", "--run-dir", str(tmp_path)]) == 0
    (folder,) = [path.parent for path in tmp_path.rglob("evaluations.json")]
    jsonschema.validate(json.loads((folder / "evaluations.json").read_text()), SCHEMA)
    report.plot([folder], tmp_path / "out")
    merged = json.loads((tmp_path / "out" / "evaluations.json").read_text())
    jsonschema.validate(merged, SCHEMA)
    assert merged == json.loads((folder / "evaluations.json").read_text())
    run = saved.open_run(folder)
    assert run.is_finished() and run.updates == 3 and list(run.seeds) == [0, 1] and run.last_update()["step"] == 192


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: run["step_0"].pop("step_count"),
        lambda run: run["step_0"].update(episode_return=[]),
        lambda run: run["step_0"].update(episode_return=["high"]),
        lambda run: run.update(extra=1),
        lambda run: run.pop("step_0"),
    ],
)
def test_the_schema_refuses_what_marl_eval_could_not_use(damage):
    content = nested(FINALS)
    jsonschema.validate(content, SCHEMA)
    damage(content["paxmen"]["paxmen_4a"]["mars"]["run_10"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


def test_runs_are_gathered_by_method_and_ablations_told_from_settings(tmp_path):
    for method in methods.METHODS:
        run_folder(tmp_path, method)
    found, used = gather.gather([tmp_path])
    assert found["paxmen"]["paxmen_4a"].keys() == methods.METHODS.keys() and len(used) == 7
    jsonschema.validate(found, SCHEMA)


def test_mars_without_contract_is_mars_unless_named_after_the_ablation():
    plain = {"contract": None, "additive_clip": None, "name": "run"}
    assert methods.of_run("mars", plain).name == "mars"
    assert methods.of_run("mars", {**plain, "name": "mars_multiplicative"}).name == "mars_multiplicative"
    assert methods.of_run("mars", {**plain, "contract": 0.8, "name": "mars_multiplicative"}).name == "mars"


def test_seeds_of_several_runs_are_one_curve(tmp_path):
    run_folder(tmp_path, seeds=2, seed=10)
    run_folder(tmp_path, seeds=3, seed=12, device="cuda", eval_episodes=7)
    found, _ = gather.gather([tmp_path, tmp_path / "paxmen_4a"])  # and given twice counts once
    assert list(found["paxmen"]["paxmen_4a"]["mars"]) == [f"run_{seed}" for seed in range(10, 15)]


def test_a_seed_that_is_there_twice_counts_once_with_the_longer_run(tmp_path, capsys):
    run_folder(tmp_path, seeds=1, final=-5.0)
    run_folder(tmp_path, seeds=1, final=-1.0, is_finished=False)
    found, _ = gather.gather([tmp_path])
    curves = gather.curves(found["paxmen"]["paxmen_4a"]["mars"])
    assert curves.final.tolist() == [-5.0] and "run_10 of mars on paxmen_4a is there twice" in capsys.readouterr().err


def test_of_two_that_got_as_far_the_one_whose_best_policy_was_measured_again_counts(tmp_path):
    made = nested({"paxmen_4a": {"mars": -1.0}}, seeds=1)
    (tmp_path / "whole.json").write_text(json.dumps(made))
    made["paxmen"]["paxmen_4a"]["mars"]["run_10"].pop("absolute_metrics")
    (tmp_path / "cut.json").write_text(json.dumps(made))
    for order in (["whole.json", "cut.json"], ["cut.json", "whole.json"]):
        found, _ = gather.gather([tmp_path / name for name in order])
        assert "absolute_metrics" in found["paxmen"]["paxmen_4a"]["mars"]["run_10"]


def test_the_run_that_does_not_count_says_nothing_of_the_seed(tmp_path):
    broken, whole = (run_folder(tmp_path, seeds=1, is_finished=is_finished) for is_finished in (False, True))
    told = {"kind": "diverged", "seed": 10, "update": 3, "step": 3000, "seconds": 1.0}
    record = {
        "kind": "update",
        "seed": 10,
        "update": 9,
        "step": 9000,
        "seconds": 2.0,
        "ratio_max": 99,
        "ratio_min": 0.1,
    }
    with open(broken / "metrics.jsonl", "a") as file:
        file.write(json.dumps(told) + "\n" + json.dumps(record) + "\n")
    for order in ([broken, whole], [whole, broken]):
        _, found = gather.gather(order)
        assert gather.gather_diverged([], found) == {}
        assert max(gather.gather_ratios([], found)["paxmen_4a"]["mars"]["run_10"]["ratio_max"]) == 1.5
        assert [run.folder for run in found] == [whole]


def test_a_file_may_count_in_place_of_a_run(tmp_path):
    path = written(tmp_path, nested({"paxmen_4a": {"mars": -1.0}}))
    run_folder(tmp_path / "runs", is_finished=False)
    nested_of_all, found = gather.gather([path, tmp_path / "runs"])
    assert gather.curves(nested_of_all["paxmen"]["paxmen_4a"]["mars"]).final[0] == -1.0 and found == []


def test_runs_below_a_config_of_another_kind_are_found(tmp_path):
    run = run_folder(tmp_path / "runs")
    (tmp_path / "runs" / "config.yaml").write_text("gamma: 0.9")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "one").symlink_to(run)
    for folder in ("runs", "linked"):
        assert [one.folder.resolve() for one in saved.find_runs([tmp_path / folder])] == [run.resolve()]


def test_runs_may_differ_in_what_changes_no_training(tmp_path):
    same = {"eval_every": 500, "film_every": 3, "keep_every": 2, "checkpoint_every": 7, "track": "files"}
    same |= {"cuda_graphs": False, "compile": True, "device": "cuda"}
    run_folder(tmp_path, seeds=1)
    for number, (name, value) in enumerate(same.items()):
        run_folder(tmp_path, seeds=1, seed=20 + number, **{name: value})
    found, _ = gather.gather([tmp_path])
    assert len(found["paxmen"]["paxmen_4a"]["mars"]) == 1 + len(same)


def test_evaluations_may_stand_in_any_order():
    run = nested(FINALS)["paxmen"]["paxmen_4a"]["mars"]["run_10"]
    backwards = dict(reversed(run.items()))
    for one, other in zip(gather.evaluation_means(run), gather.evaluation_means(backwards)):
        assert one.tolist() == other.tolist()


def test_curves_with_the_same_steps_are_left_as_they_are():
    curves = gather.curves(nested(FINALS, spread=0.5)["paxmen"]["paxmen_4a"]["mars"])
    assert curves.steps.tolist() == [1000, 2000, 3000, 4000, 5000]
    assert curves.returns[1] == pytest.approx(np.linspace(-10, -3.9, 5))
    assert curves.final == pytest.approx([-4.0, -3.9, -3.8]) and curves.absolute == pytest.approx(curves.final)


def test_curves_with_other_steps_are_interpolated_where_all_have_some():
    x, y = np.array([10.0, 20, 30]), np.array([1.0, 2, 3])
    steps, (first, second) = gather.on_common_steps([(x, y), (np.array([15.0, 25]), np.array([[0.0, 10], [5, 5]]))])
    assert steps.tolist() == [15, 20, 25]
    assert first.tolist() == [1.5, 2, 2.5] and second.tolist() == [[0, 5, 10], [5, 5, 5]]


def test_curves_that_nowhere_overlap_have_one_point_where_the_later_begins():
    early, late = (np.array([1.0, 2]), np.array([5.0, 6])), (np.array([4.0, 5]), np.array([7.0, 8]))
    steps, values = gather.on_common_steps([early, late])
    assert steps.tolist() == [4] and [value.tolist() for value in values] == [[6], [7]]


def test_best_policies_count_where_every_seed_has_been_measured_again():
    runs = nested(FINALS)["paxmen"]["paxmen_4a"]["mars"]
    assert len(gather.curves(runs).absolute) == 3
    runs["run_11"].pop("absolute_metrics")
    assert gather.curves(runs).absolute is None


def test_labels_that_were_saved_give_way_to_those_of_runs(tmp_path):
    gather.save({"mars": "MARS, 1/r*"}, tmp_path / "labels.json")
    run_folder(tmp_path / "runs", "mars", contract=0.5)
    saved_ones = [tmp_path / "evaluations.json"]
    assert gather.labels_of(saved_ones, []) == {"mars": "MARS, 1/r*"}
    assert gather.labels_of(saved_ones, saved.find_runs([tmp_path / "runs"])) == {}


def test_mars_with_one_target_here_and_two_there_is_called_as_usual(tmp_path, capsys):
    run_folder(tmp_path, contract=None)
    run_folder(tmp_path, contract=0.5, seed=20)
    assert gather.labels_of([], saved.find_runs([tmp_path])) == {}
    assert "two methods under one name" in capsys.readouterr().err


# ---- tables ----


def test_table_1_is_the_iqm_of_min_max_normalised_final_returns(tmp_path):
    report.plot([written(tmp_path, nested(FINALS))], tmp_path / "out")
    rows = {(row["score"], row["method"]): row for row in read_csv(tmp_path / "out" / "table1.csv")}
    # normalised per task: from -10, where all begin, to the best end, -3.8 and -4.8
    finals = {
        method: np.concatenate(
            [
                (FINALS[task][method] + 0.1 * np.arange(3) + 10) / (10 + best)
                for task, best in (("paxmen_4a", -3.8), ("paxmen_5a", -4.8))
            ]
        )
        for method in ("mappo", "maspo", "mars")
    }
    for method, scores in finals.items():
        row = rows["final", method]
        assert float(row["iqm"]) == pytest.approx(np.sort(scores)[1:-1].mean(), abs=1e-6), method  # 6 scores: 1 off
        assert float(row["low"]) <= float(row["iqm"]) <= float(row["high"])
        assert (row["tasks"], row["seeds"]) == ("2", "3")
        assert float(rows["absolute", method]["iqm"]) == pytest.approx(float(row["iqm"]), abs=1e-6)
    page = (tmp_path / "out" / "table1.md").read_text()
    assert "| environment | tasks | seeds | MAPPO | MASPO | MARS |" in page
    assert "| PaxMen | 2 | 3 |" in page and "**" not in page  # three seeds decide nothing


def test_the_highest_of_five_seeds_is_bold(tmp_path):
    report.plot([written(tmp_path, nested(FINALS, seeds=5))], tmp_path / "out")
    page = (tmp_path / "out" / "table1.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| PaxMen | 2 | 5 |"))
    assert line.count("**") == 2 and line.split("|")[6].strip().startswith("**")  # MARS
    better = next(line for line in page.split("Probability of improvement")[1].splitlines() if "| PaxMen | 5 |" in line)
    assert better.split("|")[3].strip() == "**1.00** [1.00, 1.00], p = 3.1e-05"  # 2 of 252 x 252 exchanges


def test_a_row_has_as_many_seeds_as_its_shortest_task(tmp_path):
    made = nested(FINALS, seeds=5)
    made["paxmen"]["paxmen_5a"]["mars"].pop("run_14")
    report.plot([written(tmp_path, made)], tmp_path / "out")
    rows = {row["method"]: row["seeds"] for row in read_csv(tmp_path / "out" / "table1.csv") if row["score"] == "final"}
    assert rows == {"mappo": "5", "maspo": "5", "mars": "4"}
    page = (tmp_path / "out" / "table1.md").read_text()
    assert "**" not in next(line for line in page.splitlines() if line.startswith("| PaxMen | 2 | 4 |"))


@pytest.mark.parametrize("low, p, is_bold", [(0.6, 0.01, True), (0.6, 0.2, False), (0.4, 0.01, False)])
def test_an_improvement_is_bold_where_interval_and_p_agree(low, p, is_bold):
    assert tables._is_decided({"low": low, "p_value": p}, []) is is_bold


def test_nothing_is_bold_where_a_method_is_missing(tmp_path):
    made = nested(FINALS, seeds=5)
    for one in made["paxmen"].values():
        for run in one["maspo"].values():
            run.pop("absolute_metrics")
    report.plot([written(tmp_path, made)], tmp_path / "out")
    page = (tmp_path / "out" / "table1.md").read_text()
    line = next(line for line in page.split("measured again")[1].splitlines() if line.startswith("| PaxMen | 2 | 5 |"))
    assert "**" not in line and line.split("|")[5].strip() == ""


def test_probability_of_improvement_is_mars_over_the_others(tmp_path):
    report.plot([written(tmp_path, nested(FINALS))], tmp_path / "out")
    rows = {row["y"]: row for row in read_csv(tmp_path / "out" / "improvement.csv")}
    assert rows.keys() == {"mappo", "maspo"} and all(row["x"] == "mars" for row in rows.values())
    assert float(rows["mappo"]["p"]) == 1.0
    assert float(rows["maspo"]["p"]) == pytest.approx((1 + 3 / 9) / 2, abs=1e-6)  # -5.05, -4.95, .. over -5, -4.9, ..


def test_tasks_are_in_their_own_units(tmp_path):
    report.plot([written(tmp_path, nested(FINALS))], tmp_path / "out")
    rows = {(row["task"], row["method"]): row for row in read_csv(tmp_path / "out" / "tasks.csv")}
    assert len(rows) == 6 and float(rows["paxmen_5a", "mappo"]["mean"]) == pytest.approx(-6.9)


def test_only_tasks_that_all_methods_have_are_compared(tmp_path, capsys):
    finals = {**FINALS, "paxmen_6a": {"mars": -3.0}, "aerojax_2v2": {"mars": 1.0}, "aerojax_3v3": {"mappo": 1.0}}
    report.plot([written(tmp_path, nested(finals))], tmp_path / "out")
    assert {row["tasks"] for row in read_csv(tmp_path / "out" / "table1.csv")} == {"2"}
    notes = capsys.readouterr().err
    assert "compared without paxmen_6a" in notes and "aerojax: no task has runs of every method (mappo: " in notes
    assert (tmp_path / "out" / "curves_aerojax.png").exists()  # each for itself they can be drawn


def test_several_environments_are_also_taken_together(tmp_path):
    finals = {"paxmen_4a": FINALS["paxmen_4a"], "aerojax_2v2": {"mappo": 0.1, "maspo": 0.1, "mars": 0.3}}
    report.plot([written(tmp_path, nested(finals))], tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "table1.csv")
    assert [row["environment"] for row in rows if row["method"] == "mars" and row["score"] == "final"] == [
        "paxmen",
        "aerojax",
        "all",
    ]


def test_over_all_environments_count_alike_however_many_tasks_they_have():
    """MARS is the better one on both tasks of PaxMen, MAPPO on that of AeroJAX; every seed does the same."""
    finals = {"paxmen_4a": {"mappo": -5.0, "mars": 0.0}, "paxmen_5a": {"mappo": -5.0, "mars": 0.0}}
    made = nested({**finals, "aerojax_2v2": {"mappo": 0.0, "mars": -5.0}}, seeds=2)
    for by_task in made.values():
        for by_method in by_task.values():
            for runs in by_method.values():
                runs["run_11"] = runs["run_10"]
    compared = tables.comparisons(tables.tasks_of(made), ("mappo", "mars"))
    assert [comparison.environment for comparison in compared] == ["paxmen", "aerojax", "all"]
    for row in tables.rows(compared[2:]):  # 1/2 and 1, or 1 and 1/2; by tasks MARS had 5/6 and MAPPO 2/3
        assert (row["iqm"], row["low"], row["high"]) == pytest.approx((0.75, 0.75, 0.75)), row
    (row,) = tables.improvements(compared[2:])
    assert (row["p"], row["low"], row["high"]) == (0.5, 0.5, 0.5)
    assert row["p_value"] == 1.0  # the difference is 0, and half of all exchanges and more are on either side of it


# ---- figures ----


def test_everything_is_written_and_can_be_drawn_again_without_the_runs(tmp_path):
    for method in methods.METHODS:
        for task in ("paxmen_4a", "paxmen_5a"):
            run_folder(tmp_path / "runs", method, task)
    files = report.plot([tmp_path / "runs"], tmp_path / "out")
    names = {path.name for path in files}
    drawn = {"curves_paxmen", "iqm", "improvement", "iqm_ablations", "improvement_ablations", "objectives"}
    tables = {"table1.md", "table1.csv", "tasks.csv", "improvement.csv", "ablations.md", "ablations.csv"}
    assert {f"{name}.png" for name in (*drawn, "ratios_paxmen")} | tables | {
        "evaluations.json",
        "ratios.json",
    } <= names
    for path in files:
        assert path.stat().st_size > 0
        if path.suffix == ".png":
            picture = np.asarray(Image.open(path).convert("RGB"))
            assert picture.shape[1] == figures.WIDTH * figures.DPI and picture.std() > 5, path
    assert not list((tmp_path / "out").glob(".*"))

    again = report.plot([tmp_path / "out" / "evaluations.json"], tmp_path / "again", "pdf")
    assert {path.stem for path in again} == {path.stem for path in files}
    for name in ("table1.md", "evaluations.json", "ratios.json"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "out" / name).read_text()
    assert (tmp_path / "again" / "iqm.pdf").read_bytes().startswith(b"%PDF")


def test_a_method_looks_the_same_everywhere_and_unlike_any_other():
    looks = [(method.colour, method.dashes) for method in methods.METHODS.values()]
    assert len({colour for colour, _ in looks}) == len({dashes for _, dashes in looks}) == len(looks)
    tasks = tables.tasks_of(nested({"paxmen_4a": dict.fromkeys(methods.METHODS, -5.0)}))
    for figure in (
        figures.learning_curves(tasks),
        figures.iqm_curves(tables.comparisons(tasks, list(methods.METHODS))),
        figures.objectives_figure(),
    ):
        lines = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
        assert len(lines) >= 3
        for line in lines:
            label = line.get_label().split(", clipped")[0].split(", targets")[0]
            (method,) = [m for m in methods.METHODS.values() if m.label == label]
            assert line.get_color() == method.colour


def simulated(colour, matrix):
    """sRGB of a colour as it is seen with a missing kind of cones (Machado et al. 2009, severity 1)."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (np.array(matrix) @ linear).clip(0, 1)
    return np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


MISSING_CONES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", MISSING_CONES)
def test_the_three_methods_can_be_told_apart_by_colour_blind_readers(kind):
    seen = {name: simulated(methods.METHODS[name].colour, MISSING_CONES[kind]) for name in methods.MAIN}
    for one, other in (("mars", "mappo"), ("mars", "maspo"), ("mappo", "maspo")):
        assert np.abs(seen[one] - seen[other]).max() > 0.2, (one, other, seen)


def test_figure_1_is_what_the_lessons_maximise():
    figure = figures.objectives_figure()
    for axis, sign in zip(figure.axes, (1, -1)):
        lines = {line.get_label().split(",")[0]: line for line in axis.get_lines() if "," in line.get_label()}
        at = {name: lambda r, line=line: np.interp(r, *line.get_data()) for name, line in lines.items()}
        for value in at.values():
            assert value(1.0) == pytest.approx(sign, abs=0.01)
    assert at["MAPPO"](0.2) == pytest.approx(-0.8, abs=0.01)  # the last panel: A = -1
    assert at["MASPO"](2.0) == pytest.approx(-2 - 1, abs=0.02)  # r A - (r - 1)^2 / (2 * 0.5)
    expand, r = 1.5, 2.0
    weight = 1 / (expand**2 - 1)  # lam at A = -1 and r* = 1 / 1.5
    assert at["MARS"](r) == pytest.approx(-r - weight * (r - 2 + 1 / r), abs=0.02)
    assert [axis.get_title() for axis in figure.axes[2:]] == ["dJ / dlog r, A = 1", "dJ / dlog r, A = -1"]


def test_figure_3_shows_the_extremes_of_every_update(tmp_path, monkeypatch):
    run = saved.open_run(run_folder(tmp_path, points=4))
    assert run.updates_of(("ratio_max",))[11].tolist() == [[1000, 1.1], [2000, 1.2], [3000, 1.3], [4000, 1.4]]
    figure = figures.ratio_curves(gather.gather_ratios([], [run]))
    largest, smallest, _ = figure.axes[0].get_lines()
    assert largest.get_ydata() == pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert smallest.get_ydata() == pytest.approx([1 / 1.1, 1 / 1.2, 1 / 1.3, 1 / 1.4])
    monkeypatch.setattr(gather, "RATIO_BINS", 2)
    largest, smallest, _ = figures.ratio_curves(gather.gather_ratios([], [run])).axes[0].get_lines()
    assert largest.get_ydata() == pytest.approx([1.2, 1.4])
    assert smallest.get_ydata() == pytest.approx([1 / 1.2, 1 / 1.4])


def test_figure_3_shows_the_geometric_mean_and_the_range_of_seeds():
    line = {"step": [1.0, 2.0], "ratio_min": [0.5, 0.5]}
    seeds = {"run_0": {**line, "ratio_max": [2.0, 2.0]}, "run_1": {**line, "ratio_max": [8.0, 8.0]}}
    (axis, *_) = figures.ratio_curves({"paxmen_4a": {"mars": seeds}}).axes
    assert axis.get_lines()[0].get_ydata() == pytest.approx([4.0, 4.0])
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2.0, 8.0))


def test_a_cross_marks_where_a_seed_diverged(tmp_path):
    """Updates are of 10 environments and 100 steps; the mean of three seeds is on the line to -4.9 then."""
    folder = run_folder(tmp_path)
    with open(folder / "metrics.jsonl", "a") as file:
        told = {"kind": "diverged", "seed": 11, "update": 3, "step": 3000, "seconds": 1.0}
        file.write(json.dumps(told) + "\n")
    diverged = gather.gather_diverged([], [saved.open_run(folder)])
    assert diverged == {"paxmen_4a": {"mars": {"run_11": 3000}}}
    made = nested({"paxmen_4a": {"mars": -5.0}})
    (axis,) = figures.learning_curves(tables.tasks_of(made), diverged).axes
    (cross,) = [line for line in axis.get_lines() if line.get_marker() == "x"]
    assert cross.get_xydata().tolist() == [[3000, pytest.approx(-10 + 5.1 / 2)]]


def test_bins_keep_the_extreme(monkeypatch):
    monkeypatch.setattr(gather, "RATIO_BINS", 3)
    step, largest = np.array([1.0, 2, 3, 8, 9]), np.array([1.0, 5, 2, 3, 4])
    found = gather._binned_ratios(step, largest, 1 / largest)
    assert found == {"step": [3, 9], "ratio_max": [5, 4], "ratio_min": [0.2, 0.25]}  # none in (3, 6]


def test_diagnostics_are_means_over_each_bin(tmp_path, monkeypatch):
    run = saved.open_run(run_folder(tmp_path, seeds=1, points=4))
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    told = [{**line, **dict.fromkeys(gather.MECHANISM, line["update"])} for line in lines]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    monkeypatch.setattr(gather, "RATIO_BINS", 2)
    found = gather.gather_diagnostics([run])["paxmen_4a"]["mars"]["run_10"]
    assert found == {"step": [2000, 4000], **{name: [1.5, 3.5] for name in gather.MECHANISM}}


def test_the_bars_of_an_improvement_are_its_interval():
    row = {"environment": "paxmen", "x": "mars", "y": "mappo", "p": 0.7, "low": 0.6, "high": 0.95}
    (bar,) = figures.improvement_figure([row]).axes[0].containers
    assert bar.lines[2][0].get_segments()[0][:, 0] == pytest.approx([0.6, 0.95])


def test_means_are_enough_for_the_same_tables_and_figures(tmp_path):
    runs_of_all = [run_folder(tmp_path / "runs", method) for method in methods.MAIN]
    report.plot(runs_of_all, tmp_path / "all")
    report.plot(runs_of_all, tmp_path / "means", means=True)
    saved = {kind: json.loads((tmp_path / kind / "evaluations.json").read_text()) for kind in ("all", "means")}
    jsonschema.validate(saved["means"], SCHEMA)
    one, whole = (saved[kind]["paxmen"]["paxmen_4a"]["mars"]["run_11"] for kind in ("means", "all"))
    assert one["step_2"]["episode_return"] == [pytest.approx(np.mean(whole["step_2"]["episode_return"]))]
    assert one["step_2"]["step_count"] == whole["step_2"]["step_count"]
    assert one["absolute_metrics"]["episode_return"] == [pytest.approx(-4.9)]
    report.plot([tmp_path / "means" / "evaluations.json"], tmp_path / "again")
    assert (tmp_path / "again" / "table1.md").read_text() == (tmp_path / "all" / "table1.md").read_text()


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"paxmen_4a": {"mars": {"run_1": {"step": [1]}}}}'])
def test_a_damaged_file_of_ratios_is_named(tmp_path, content):
    report.plot([run_folder(tmp_path / "runs")], tmp_path)
    (tmp_path / "ratios.json").write_text(content)
    with pytest.raises(figures.UsageError, match="ratios.json is no file of ratios that torch_mars.plot wrote"):
        report.plot([tmp_path / "evaluations.json"], tmp_path / "again")


# ---- bad input ----


def fails(capsys, *argv):
    """The one sentence with which `plot` refuses."""
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: plot.main([str(arg) for arg in argv]), "plot")
    assert stopped.value.code == 2
    *notes, said = capsys.readouterr().err.splitlines()
    assert said.startswith("plot: ") and all(line.startswith("note: ") for line in notes)
    return said


def test_missing_runs_are_one_sentence(tmp_path, capsys):
    assert "nowhere: no such file or folder" in fails(capsys, tmp_path / "nowhere")
    assert "there is no run in it" in fails(capsys, tmp_path)
    assert "the following arguments are required: RUNS" in fails(capsys)
    assert "did you mean --out" in fails(capsys, tmp_path, "--outt", "x")


def test_runs_without_evaluations_are_left_out_or_one_sentence(tmp_path, capsys):
    folder = run_folder(tmp_path / "runs")
    (folder / "evaluations.json").unlink()
    assert "no evaluations in" in fails(capsys, folder)
    run_folder(tmp_path / "runs", "mappo")
    report.plot([tmp_path / "runs"], tmp_path / "out")
    assert f"{folder} has no evaluations yet and is left out" in capsys.readouterr().err


def test_different_experiments_under_one_name_are_one_sentence(tmp_path, capsys):
    run_folder(tmp_path, expand=1.5)
    run_folder(tmp_path, expand=2.0, seed=20)
    said = fails(capsys, tmp_path)
    assert "both MARS on paxmen_4a" in said and "expand is 1.5 and 2.0" in said


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "not valid JSON"),
        ("[1]", "not in marl-eval's nesting"),
        ('{"paxmen": {"paxmen_4a": {"mars": {"run_0": {"step_0": {}}}}}}', "not in marl-eval's nesting"),
        ('{"a/b": {}}', "not in marl-eval's nesting"),
        (
            f'{{"e": {{"t": {{"m": {{"run_0": {{"step_0": {{"step_count": 1, "episode_return": [{10**400}]}}}}}}}}}}}}',
            "nesting",
        ),
        ('{"e": {"t": {"m": {"run_0": {"absolute_metrics": {"won": [1]}}}}}}', "not in marl-eval's nesting"),
        ('{"e": {"t": {"m": {"run_0": {"absolute_metrics": {}}}}}}', "no evaluations in"),
        ("{}", "no evaluations in"),
    ],
)
def test_json_that_is_something_else_is_one_sentence(text, problem, tmp_path, capsys):
    (tmp_path / "other.json").write_text(text)
    assert problem in fails(capsys, tmp_path / "other.json", "--out", tmp_path / "out").splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_returns_that_are_not_finite_are_one_sentence(tmp_path, capsys):
    said = fails(capsys, run_folder(tmp_path, final=float("nan")), "--out", tmp_path / "out")
    assert "run_10 of mars on paxmen_4a: a return at step 1000 is not finite" in said


def test_a_config_that_is_not_of_a_run_is_one_sentence(tmp_path, capsys):
    folder = run_folder(tmp_path)
    (folder / "config.yaml").write_text("env: paxmen_4a")
    assert "is not of a run: it lacks seed" in fails(capsys, folder)
    (folder / "config.yaml").write_text("{env: chess, seed: 0, num_seeds: 1, total_steps: 1, rollout_length: 1}")
    assert "unknown task 'chess'" in fails(capsys, folder)


def test_an_out_folder_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot write to" in fails(capsys, run_folder(tmp_path), "--out", tmp_path / "file" / "out")


def test_without_matplotlib_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'torch_mars[plots]'" in fails(capsys, run_folder(tmp_path))


def test_weak_comparisons_are_noted(tmp_path, capsys):
    run_folder(tmp_path, is_finished=False)
    run_folder(tmp_path, "mappo")
    report.plot([tmp_path], tmp_path / "out")
    notes = capsys.readouterr().err
    assert "only 3 seeds" in notes and "1 of 2 runs are not finished" in notes and "mars 4,000" in notes


def test_help_names_every_option():
    for name in ("plot", "tune", "experiment"):
        parser = importlib.import_module(f"torch_mars.{name}").make_parser()
        assert parser.description and parser.epilog and all(action.help for action in parser._actions)
