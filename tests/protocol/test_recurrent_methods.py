"""Methods with memory in everything around runs: how they are named, told, shown, searched, trained in grids."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_results import FakeTraining, nested, run_folder, write_run

from torch_mars import experiment, plot, tune
from torch_mars.algos import recurrent
from torch_mars.protocol import figures, gather, grids, methods, saved, studies, tables, trainings
from torch_mars.run import cli

NAMES = ["mappo_rnn", "maspo_rnn", "mars_rnn"]
TINY = ["--env", "paxmen_4a", "--num-envs", "4", "--rollout-length", "16", "--hidden-size", "8", "--epochs", "1"]
TINY += ["--eval-episodes", "2", "--device", "cpu", "--total-steps", "128"]


@pytest.fixture(autouse=True)
def only_the_paper_s_methods():
    """Methods with memory join when they are asked for: here they leave again."""
    yield
    for name in methods.JOINING:
        methods.METHODS.pop(name, None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One real run of each, two updates; MARS with the settings of an ablation and an independent critic."""
    folder = tmp_path_factory.mktemp("runs")
    for method, more in (("mappo", []), ("maspo", []), ("mars", ["--additive-clip", "0.3", "--independent"])):
        assert recurrent.main([*TINY, "--run-dir", str(folder), "--method", method, *more]) == 0
    return folder


# ---- methods ----


@pytest.mark.parametrize("name", NAMES)
def test_a_method_with_memory_is_that_method_otherwise(name):
    base, method = methods.METHODS[name.removesuffix("_rnn")], methods.named(name)
    assert method.module is recurrent and method.args().method == base.name and methods.METHODS[name] is method
    assert method.label == f"{base.label}, GRU" and method.trials == base.trials
    assert base.space.items() <= method.space.items() and method.paper_space == base.paper_space
    assert set(method.space) - set(base.space) == {"sequence_length"}
    assert method.untuned("paper") == method.settings == {"method": base.name}


def test_they_join_when_asked_for_and_are_a_group():
    assert not set(NAMES) & set(methods.METHODS) and set(NAMES) < set(methods.names())
    assert [method.name for method in methods.listed("mars,recurrent,mars_rnn")] == ["mars", *NAMES]
    assert methods.guests() == NAMES
    assert [method.name for method in methods.listed("all")] == [*methods.MAIN, *methods.ABLATIONS]
    with pytest.raises(cli.UsageError, match="recurrent is a lesson of several methods, mars_rnn, .*; name one of"):
        methods.typed("recurrent")
    with pytest.raises(cli.UsageError, match="unknown method 'mars_rn'; did you mean mars_rnn"):
        methods.typed("mars_rn")
    with pytest.raises(cli.UsageError, match="one of the package's"):
        methods.register(methods.Method("mars_rnn", "Mine", "mars"))


def test_a_lesson_of_one_s_own_with_several_algorithms_is_only_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = Path(recurrent.__file__).read_text().replace('= "recurrent"', '= "theirs"').replace("_rnn", "_theirs")
    Path("their_memory.py").write_text(text)
    with pytest.raises(cli.UsageError, match="mappo_theirs; only `torch-mars train` takes such a lesson"):
        methods.listed("mars,their_memory.py")
    guest = methods.of_run("maspo_theirs", {"method": "maspo"})  # of a run that was read
    assert guest.args().method == "maspo" and guest.label == "maspo_theirs"
    del methods.METHODS["maspo_theirs"]


def simulated(colour, matrix):
    """sRGB of a colour as it is seen with a missing kind of cones (Machado et al. 2009, severity 1)."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (np.array(matrix) @ linear).clip(0, 1)
    return np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


EYES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "all cones": np.eye(3),
}


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart_from_those_of_the_three_and_are_seen_on_white(eyes):
    colours = {**{name: methods.METHODS[name].colour for name in methods.MAIN},
               **{name: method.colour for name, method in methods.RECURRENT.items()}}  # fmt: skip
    seen = {name: simulated(colour, EYES[eyes]) for name, colour in colours.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.abs(seen[one] - seen[other]).max() > 0.2, (one, other)
    assert all(np.abs(1 - seen[name]).max() > 0.5 for name in NAMES)


def test_no_two_methods_of_the_package_look_alike():
    all_of_them = [*methods.METHODS.values(), *methods.JOINING.values()]
    for name in ("colour", "dashes", "marker", "label"):
        looks = [getattr(method, name) for method in all_of_them]
        assert len(set(looks)) == len(looks), name
    assert not {method.colour for method in all_of_them} & set(methods._COLOURS)


# ---- from runs to figures ----


def test_runs_are_gathered_tabled_and_drawn(runs, tmp_path, capsys):
    found = {run.algorithm: run for run in saved.find_runs([runs])}
    assert sorted(found) == sorted(NAMES)
    for name, run in found.items():  # with an ablation's settings and an independent critic, too
        assert run.method is methods.RECURRENT[name] and run.is_finished()
        assert (
            run.setting("sequence_length") == 16
            and run.setting("contract" if name == "mars_rnn" else "clip_low") is None
        )
    assert plot.main([str(runs), "--out", str(tmp_path / "out"), "--diagnostics"]) == 0
    table = (tmp_path / "out" / "table1.md").read_text()
    assert all(f"| {label}, GRU |" in table for label in ("MAPPO", "MASPO", "MARS"))
    assert (tmp_path / "out" / "ratios_paxmen.png").exists() and (
        tmp_path / "out" / "diagnostics_paxmen_4a.png"
    ).exists()
    for name in NAMES:
        methods.METHODS.pop(name)
    capsys.readouterr()
    assert plot.main([str(tmp_path / "out" / "evaluations.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "table1.md").read_text() == table
    assert "not known here" not in capsys.readouterr().err


def test_one_target_is_named_in_the_label(tmp_path):
    run_folder(tmp_path / "one", "mars")
    methods.named("mars_rnn")
    run_folder(tmp_path / "one", "mars_rnn")
    run_folder(tmp_path / "two", "mars_rnn", contract=0.5)
    run_folder(tmp_path / "added", "mars_rnn", additive_clip=0.3)
    one = {"mars": "MARS, 1/r*", "mars_rnn": "MARS, 1/r*, GRU"}
    for name, labels in (("one", one), ("two", {}), ("added", {})):
        assert gather.labels_of([], saved.find_runs([tmp_path / name])) == labels
    with methods.labelled(one):
        (run,) = saved.find_runs([tmp_path / "two"])
        assert run.method.label == "MARS, 1/r*, GRU"
    assert methods.METHODS["mars_rnn"].label == "MARS, GRU"
    run_folder(tmp_path / "two", "mars_rnn", contract=0.5, seed=20, sequence_length=8)
    with pytest.raises(cli.UsageError, match=r"different experiments \(sequence_length is"):
        gather.gather([tmp_path / "two"])


def test_all_methods_are_drawn_together():
    known = [*methods.METHODS, *(methods.named(name).name for name in methods.JOINING)]
    tasks = tables.tasks_of(nested({"paxmen_4a": dict.fromkeys(known, -5.0)}))
    lines = figures.learning_curves(tasks).axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == len(known)


def test_a_guest_s_look_is_read_from_runs_of_now_and_before(tmp_path):
    settings = {"env": "paxmen_4a", "name": "run", "seed": 10, "num_seeds": 3, "total_steps": 5000}
    settings |= {"num_envs": 10, "rollout_length": 100}
    for key, name in (("look", "newer"), ("method", "older")):
        write_run(tmp_path / name, name, {**settings, "lesson": name, key: {"label": f"Mine, {key}"}}, -5.0)
    for key, name in (("look", "newer"), ("method", "older")):
        (run,) = saved.find_runs([tmp_path / name])
        assert run.method.label == f"Mine, {key}"
        del methods.METHODS[name]


# ---- experiment ----


def grid(*argv):
    return grids.make_grid(experiment.make_parser().parse_args(["--envs", "paxmen_4a", "--device", "cpu", *argv]))


def test_a_grid_has_each_with_the_settings_of_its_method(tmp_path):
    cells = {
        cell.method.name: cell for cell in grid("--algos", "mars,mappo,maspo,recurrent", "--run-dir", str(tmp_path))
    }
    for name in NAMES:
        ours, theirs = dict(cells[name].settings), cells[name.removesuffix("_rnn")].settings
        assert (ours.pop("method"), ours.pop("sequence_length")) == (name.removesuffix("_rnn"), 16)
        assert ours == theirs
        assert type(trainings.resolve(cells[name].method, cells[name].given)) is methods.RECURRENT[name].args


def test_a_settings_file_of_another_method_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    for text, says in (
        ("method: mars", "--method is 'mars'; it must be mappo, whose settings the others are"),
        ("expand: 2", "unknown setting in .*own.yaml: 'expand'"),
        ("rollout_length: 40", "--sequence-length is 16, which does not divide --rollout-length 40"),
    ):
        own.write_text(text)
        with pytest.raises(cli.UsageError, match=says):
            grid("--algos", "mappo_rnn", "--config", str(own), "--run-dir", str(tmp_path))
    own.write_text("sequence_length: 32")
    (cell,) = grid("--algos", "mappo_rnn", "--config", str(own), "--run-dir", str(tmp_path))
    assert cell.settings["sequence_length"] == 32


def test_a_grid_is_trained_once(monkeypatch, tmp_path, capsys):
    trained = FakeTraining.replace_in(experiment, monkeypatch, tmp_path)
    line = "--envs paxmen_4a --seeds 2 --budget smoke --device cpu --algos mars,recurrent --no-plot".split()
    assert experiment.main(line) == 0
    assert [settings["name"] for _, settings in trained] == ["mars", *NAMES]
    assert [settings.get("method") for _, settings in trained] == [None, "mappo", "maspo", "mars"]
    capsys.readouterr()
    assert experiment.main(line) == 0
    assert len(trained) == 4 and "All done." in capsys.readouterr().out


# ---- tune ----


@pytest.mark.parametrize(
    "name, task, budget",
    [("mappo_rnn", "paxmen_4a", "smoke"), ("maspo_rnn", "aerojax_2v2", "quick"), ("mars_rnn", "smax_2s3z", "paper")],
)
def test_every_choice_of_a_space_can_be_trained_with(name, task, budget):
    """Minibatches and stretches must fit together, so all pairs of them are tried."""
    plan = studies.Plan(tune.make_parser().parse_args(["--algo", name, "--env", task, "--budget", budget]))
    assert plan.defaults["sequence_length"] == 16 and set(plan.space["sequence_length"]) == {8, 16}
    for length, minibatches in itertools.product(plan.space["sequence_length"], plan.space["minibatches"]):
        choice = {"sequence_length": length, "minibatches": minibatches, "device": "cpu"}
        trainings.resolve(plan.method, {**plan.fixed, **choice})


def test_a_space_whose_choices_do_not_fit_together_is_refused_at_once(tmp_path):
    """Each by itself would do: 8 with 2 sequences of 16 does not."""
    (tmp_path / "own.yaml").write_text("num_envs: 2\nrollout_length: 32\n")
    line = ["--algo", "mars_rnn", "--env", "paxmen_4a", "--budget", "quick", "--config", str(tmp_path / "own.yaml")]
    with pytest.raises(cli.UsageError, match="--minibatches is 8, which does not divide the 4 sequences of a rollout"):
        studies.Plan(tune.make_parser().parse_args(line))


def test_a_study_finds_settings_that_the_lesson_takes(monkeypatch, tmp_path, capsys):
    trained = FakeTraining.replace_in(studies, monkeypatch, tmp_path)
    line = "--algo mappo_rnn --env paxmen_4a --budget smoke --device cpu --trials 2 --seeds 1".split()
    assert tune.main(line) == 0
    assert all(settings["method"] == "mappo" and settings["sequence_length"] in (8, 16) for _, settings in trained)
    best = tmp_path / "tuned" / "smoke" / "paxmen_4a" / "mappo_rnn.yaml"
    assert f"python -m torch_mars.algos.recurrent --config {best.relative_to(tmp_path)}" in capsys.readouterr().out
    assert yaml.safe_load(best.read_text())["method"] == "mappo"
    (cell,) = grid("--algos", "mappo_rnn", "--budget", "smoke", "--tuned", str(tmp_path / "tuned" / "smoke"))
    assert cell.settings["sequence_length"] == yaml.safe_load(best.read_text())["sequence_length"]
    assert tune.main([*line, "--trials", "3"]) == 0 and len(trained) == 3  # and goes on


@pytest.mark.slow
def test_real_trainings_are_searched_tuned_and_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = ["--env", "paxmen_4a", "--budget", "smoke", "--device", "cpu"]
    assert tune.main(["--algo", "mars_rnn", *task, "--trials", "2", "--seeds", "1"]) == 0
    line = ["--envs", "paxmen_4a", "--algos", "mars,mars_rnn,mappo_rnn", "--budget", "smoke", "--device", "cpu"]
    assert experiment.main([*line, "--seeds", "2", "--tuned", "tuned/smoke"]) == 0
    table = (tmp_path / "figures" / "table1.md").read_text()
    assert "| MAPPO, GRU |" in table and "MARS, GRU" in table.replace("MARS, 1/r*, GRU", "MARS, GRU")
