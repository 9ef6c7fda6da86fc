"""The grid: what is done, cut and missing. Most trainings are made up; the last tests start real processes."""

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from made_up_results import FakeTraining, Killed, run_folder, write_run

from torch_mars import envs, experiment
from torch_mars.protocol import devices, grids, methods, saved, trainings
from torch_mars.protocol.claims import Claims
from torch_mars.run import cli, files, metrics
from torch_mars.run import settings as run_settings

TINY = ["--envs", "paxmen_4a", "--seeds", "2", "--budget", "smoke", "--device", "cpu"]


@pytest.fixture
def trained(monkeypatch, tmp_path):
    return FakeTraining.replace_in(experiment, monkeypatch, tmp_path)


def what(trained):
    """(how, method, first seed, seeds) of every training."""
    return [(how, s["name"], s["seed"], s["num_seeds"]) for how, s in trained]


def fails(capsys, *argv):
    with pytest.raises(SystemExit) as stopped:
        cli.guarded(lambda: experiment.main([str(arg) for arg in argv]), "experiment")
    *notes, said = capsys.readouterr().err.splitlines()
    assert said.startswith("experiment: ") and all(line.startswith("note: ") for line in notes)
    return stopped.value.code, said


def test_a_grid_is_trained_once_and_drawn(trained, tmp_path, capsys):
    assert experiment.main([*TINY, "--algos", "mappo,mars"]) == 0
    assert what(trained) == [("--config", "mappo", 10, 2), ("--config", "mars", 10, 2)]
    assert (tmp_path / "figures" / "table1.md").exists()
    capsys.readouterr()
    assert experiment.main([*TINY, "--algos", "mappo,mars", "--out", "again"]) == 0
    assert len(trained) == 2 and "All done." in capsys.readouterr().out
    assert (tmp_path / "again" / "table1.md").exists()


def test_only_missing_seeds_are_trained(trained):
    experiment.main([*TINY, "--algos", "mars", "--no-plot", "--first-seed", "12"])
    experiment.main([*TINY, "--algos", "mars", "--no-plot", "--seeds", "8", "--seeds-per-run", "3"])
    assert what(trained)[1:] == [("--config", "mars", 10, 2), ("--config", "mars", 14, 3), ("--config", "mars", 17, 1)]


def test_only_the_seeds_that_were_asked_for_are_drawn(trained, tmp_path):
    experiment.main([*TINY, "--algos", "mars", "--no-plot", "--first-seed", "8", "--seeds", "5"])
    assert experiment.main([*TINY, "--algos", "mars", "--seeds", "2"]) == 0
    assert len(trained) == 1  # seeds 10 and 11 are in it
    drawn = saved.read_nested(tmp_path / "figures" / "evaluations.json")
    assert list(drawn["paxmen"]["paxmen_4a"]["mars"]) == ["run_10", "run_11"]


def test_what_was_cut_is_resumed_and_the_rest_goes_on(trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: "cut" if len(trained) == 2 else -5.0, monkeypatch)
    with pytest.raises(Killed):
        experiment.main([*TINY, "--algos", "mars,mappo,maspo", "--no-plot"])
    capsys.readouterr()
    assert experiment.main([*TINY, "--algos", "mars,mappo,maspo", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "seeds 10 to 11 done" in shown and "seeds 10 to 11 at 88%" in shown and "seeds 10 to 11 to do" in shown
    assert "Left: 2 trainings, 2,304 environment steps, about 1 s" in shown  # at 2 x 128 steps per 0.1 s
    assert len(trained) == 2
    assert experiment.main([*TINY, "--algos", "mars,mappo,maspo", "--no-plot"]) == 0
    assert what(trained)[2:] == [("--resume", "mappo", 10, 2), ("--config", "maspo", 10, 2)]


def test_a_run_without_a_checkpoint_is_begun_again(trained, tmp_path, monkeypatch):
    FakeTraining.leave(lambda settings: "cut" if len(trained) == 1 else -5.0, monkeypatch)
    with pytest.raises(Killed):
        experiment.main([*TINY, "--algos", "mars", "--no-plot"])
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    checkpoint.unlink()
    assert experiment.main([*TINY, "--algos", "mars", "--no-plot"]) == 0
    assert what(trained) == [("--config", "mars", 10, 2)] * 2


def test_runs_with_other_settings_do_not_count(trained):
    experiment.main([*TINY, "--algos", "mars", "--no-plot"])
    experiment.main([*TINY, "--algos", "mars", "--no-plot", "--total-steps", "2k"])
    experiment.main([*TINY, "--algos", "mars_multiplicative", "--no-plot"])
    assert [settings["total_steps"] for _, settings in trained] == [1024, 2000, 1024]
    assert what(trained)[2] == ("--config", "mars_multiplicative", 10, 2)


def test_a_failed_training_is_reported_and_the_others_go_on(trained, monkeypatch, capsys, tmp_path):
    FakeTraining.leave(lambda settings: 1 if settings["name"] == "mappo" else -5.0, monkeypatch)
    code, said = fails(capsys, *TINY, "--algos", "mappo,mars")
    assert code == 1 and "1 of the trainings failed; the first: MAPPO on paxmen_4a, seeds 10 to 11: " in said
    assert len(trained) == 2 and (tmp_path / "figures" / "table1.md").exists()


def test_tuned_settings_are_used_where_there_are_any(trained, tmp_path, capsys):
    (tmp_path / "best" / "paxmen_4a").mkdir(parents=True)
    (tmp_path / "best" / "paxmen_4a" / "mars.yaml").write_text("{env: paxmen_4a, expand: 1.2, contract: 0.9}")
    (tmp_path / "more.yaml").write_text("gamma: 0.9")
    experiment.main([*TINY, "--algos", "mars,mappo", "--tuned", "best", "--config", "more.yaml", "--no-plot"])
    (_, first), (_, second) = trained
    assert (first["expand"], first["contract"], first["gamma"], second["gamma"]) == (1.2, 0.9, 0.9, 0.9)
    assert "MAPPO on paxmen_4a is not tuned" in capsys.readouterr().err


def test_every_method_s_settings_make_it_that_method():
    args = experiment.make_parser().parse_args([*TINY, "--algos", "all"])
    grid = grids.make_grid(args)
    assert [cell.method.name for cell in grid] == list(methods.METHODS)
    for cell in grid:
        resolved = trainings.resolve(cell.method, cell.given)
        assert methods.of_run(cell.method.algorithm, dataclasses.asdict(resolved)) is cell.method
        low, high = cell.method.module.ratio_range(resolved)
        expected = {"mappo": (0.8, 1.2), "maspo": (0.6, 1.4), "mars_additive": (0.5, 1.5)}
        expected |= dict.fromkeys(("mars", "mars_multiplicative"), (1 / 1.5275, 1.5275))
        assert (low, high) == pytest.approx(expected.get(cell.method.name, (1 / 1.5, 1.5)))


def test_the_default_budget_leaves_the_steps_to_the_settings():
    line = ["--envs", "paxmen_4a,smax_2s3z,jaxnav_7x7x2a", "--algos", "mars", "--budget", "default"]
    grid = grids.make_grid(experiment.make_parser().parse_args(line))
    assert [cell.settings["total_steps"] for cell in grid] == [4_000_000, 3_000_000, 8_000_000]
    assert {cell.settings["preset"] for cell in grid} == {"ours"}


@pytest.mark.parametrize(
    ("words", "preset"),
    [([], "paper"), (["--total-steps", "1M"], "ours"), (["--total-steps", "1M", "--budget", "paper"], "paper")],
)
def test_the_settings_are_the_papers_with_its_budget_only(words, preset):
    grid = grids.make_grid(experiment.make_parser().parse_args(["--envs", "paxmen_4a", "--algos", "mars", *words]))
    assert [cell.settings["preset"] for cell in grid] == [preset]


def test_methods_that_are_the_same_training_until_tuned_are_noted(capsys):
    grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "mars,ablations"]))
    assert "MARS and MARS, r* and 1/r* are the same training on paxmen_4a until tuned" in capsys.readouterr().err
    grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "all", "--preset", "paper"]))
    said = capsys.readouterr().err
    assert "MAPPO and MAPPO, asymmetric are the same" in said and "MASPO and MASPO, asymmetric are the same" in said


def test_two_lessons_with_the_same_settings_are_not_the_same_training(tmp_path, capsys):
    path = tmp_path / "clip.yaml"
    path.write_text("clip: 0.3\n")
    grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "mappo,maspo", "--config", str(path)]))
    assert "same training" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "task, budget, final, tuning",
    [("paxmen_5a", "paper", 80e6, 40e6), ("aerojax_8v8", "paper", 240e6, 120e6), ("aerojax_2v2", "quick", 12e6, 6e6)],
)
def test_budgets_are_the_paper_s(task, budget, final, tuning):
    assert trainings.budget_settings(task, budget, trainings.FINAL_STEPS) == {"total_steps": final}
    assert trainings.budget_settings(task, budget, trainings.TUNING_STEPS) == {"total_steps": tuning}


def test_two_environments_are_trained_three_times_as_long():
    assert {envs.family(task) for task in envs.TASKS if envs.budget(task) == 3} == {"jaxnav", "aerojax"}
    assert {envs.budget(task) for task in envs.TASKS} == {1, 3}


def test_an_environment_stands_for_its_tasks():
    assert tuple(task.name for task in grids.tasks_named("all")) == envs.TASKS
    assert [task.name for task in grids.tasks_named("paxmen,aerojax_8v8,paxmen_5a")] == [
        "paxmen_4a",
        "paxmen_5a",
        "paxmen_6a",
        "aerojax_8v8",
    ]


@pytest.mark.parametrize(
    "command, problem",
    [
        ("--envs paxman", "--envs: unknown task 'paxman'; did you mean paxmen"),
        ("--envs paxmen --algos mars,mappoo", "--algos: unknown method 'mappoo'; did you mean mappo"),
        ("--envs paxmen --algos ,", "--algos: unknown method ''"),
        ("--envs paxmen --total-steps 10", "one update alone takes"),
        ("--envs paxmen --total-steps x", "whole number"),
        ("--envs paxmen --seeds 0", "1 or more"),
        ("--envs paxmen --config own.yaml", "unknown setting in own.yaml: 'epoch'; did you mean epochs"),
        ("--envs paxmen --sedes 3", "did you mean --seeds"),
        ("--algos mars", "--envs"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_trained(command, problem, trained, capsys, tmp_path):
    (tmp_path / "own.yaml").write_text("epoch: 3")
    code, said = fails(capsys, *command.split())
    assert code == 2 and problem in said
    assert not trained and not (tmp_path / "runs").exists()


def test_settings_of_another_method_are_refused(trained, capsys, tmp_path):
    (tmp_path / "own.yaml").write_text("contract: 0.8")
    code, said = fails(capsys, *TINY, "--algos", "mars_multiplicative", "--config", "own.yaml")
    assert code == 2 and "MARS, r* and 1/r* is another method, MARS" in said and not trained


def test_a_run_resumed_without_cuda_graphs_is_the_same_experiment(trained, tmp_path, capsys):
    experiment.main([*TINY, "--algos", "mars", "--no-plot"])
    (path,) = (tmp_path / "runs").rglob("config.yaml")
    path.write_text(path.read_text().replace("cuda_graphs: true", "cuda_graphs: false"))
    capsys.readouterr()
    assert experiment.main([*TINY, "--algos", "mars", "--dry-run"]) == 0
    assert "All done." in capsys.readouterr().out


def test_missing_matplotlib_is_noticed_before_the_training(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, said = fails(capsys, *TINY)
    assert code == 2 and "torch_mars[plots]" in said and not trained
    assert experiment.main([*TINY, "--algos", "mars", "--no-plot"]) == 0


# ---- several experiments on one grid ----


def claims_on(cell):
    return Claims(Path("runs") / grids.CLAIMS), cell.key


@pytest.fixture
def cell():
    (cell,) = experiment.prepared([*TINY, "--algos", "mars", "--seeds", "4"])[0]
    return cell


def test_what_another_has_claimed_is_left_to_it(trained, cell, monkeypatch, capsys):
    """Seeds 11 and 12 are another's, who dies when this experiment has nothing else to do."""
    claims, key = claims_on(cell)
    theirs = claims.take(key, [11, 12])
    assert claims.take(key, [12, 13]) is None and not claims.is_taken(key, 13)  # all or none
    monkeypatch.setattr(experiment, "LOOK_SECONDS", 0.0)
    waited = []

    def sleep(seconds):
        waited.append(what(trained))
        if len(waited) == 5:
            theirs.release()

    monkeypatch.setattr(experiment.time, "sleep", sleep)
    more = ["--algos", "mars", "--seeds", "4", "--no-plot"]
    experiment.main([*TINY, *more, "--dry-run"])
    assert f"11, 12 in work by process {os.getpid()} on " in capsys.readouterr().out
    assert experiment.main([*TINY, *more]) == 0
    assert waited[4] == [("--config", "mars", 10, 1), ("--config", "mars", 13, 1)]
    assert what(trained)[2:] == [("--config", "mars", 11, 2)]
    assert capsys.readouterr().out.count("waiting for others") == 1
    assert not list(Path("runs/.claims").iterdir())  # no heaps


def test_what_another_has_finished_meanwhile_is_not_trained_again(trained, cell, monkeypatch):
    args = experiment.prepared([*TINY, "--algos", "mars", "--seeds", "4"])[1]
    work = grids.Remaining([cell], args)
    assert work.look() == 4 * 1024
    take = work.claims.take

    def late(key, seeds):  # another trains them between our look and our claim
        experiment.main([*TINY, "--algos", "mars", "--seeds", "4", "--no-plot"])
        return take(key, seeds)

    monkeypatch.setattr(work.claims, "take", late)
    assert work.next() is None and not work.is_waiting() and work.look() == 0


def test_a_run_that_somebody_trains_is_nobodys_job(trained, cell, tmp_path, monkeypatch):
    """Such as one that saves itself, as its experiment was killed."""
    FakeTraining.leave(lambda settings: "cut", monkeypatch)
    with pytest.raises(Killed):
        experiment.main([*TINY, "--algos", "mars", "--seeds", "4", "--no-plot"])
    (folder,) = (path.parent for path in tmp_path.rglob("checkpoint.pt"))
    lock = files.hold(folder / files.LOCK, "training")
    work = grids.Remaining([cell], experiment.prepared([*TINY, "--algos", "mars", "--seeds", "4"])[1])
    assert work.next() is None and work.is_waiting()
    files.let_go(lock)
    job, claim = work.next()
    assert job.run.folder == folder.relative_to(tmp_path) and not work.is_waiting()
    claim.release()


def test_a_training_that_fails_is_begun_once(trained, monkeypatch, capsys):
    FakeTraining.leave(lambda settings: 1, monkeypatch)
    fails(capsys, *TINY, "--algos", "mars", "--no-plot")
    assert len(trained) == 1
    fails(capsys, *TINY, "--algos", "mars", "--no-plot")
    assert len(trained) == 2  # the same line tries again


def test_a_folder_that_cannot_be_written_is_one_sentence(trained, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "logs").touch()  # in the way
    code, said = fails(capsys, *TINY)
    assert code == 2 and "--run-dir: cannot write to runs/logs" in said
    (tmp_path / "runs" / "logs").unlink()
    (tmp_path / "runs" / ".claims").rmdir()
    (tmp_path / "runs" / ".claims").touch()
    code, said = fails(capsys, *TINY)
    assert code == 2 and "--run-dir: cannot write to runs/.claims" in said


# ---- devices ----


@pytest.fixture
def cards(monkeypatch):
    """A machine with four GPUs, of which this process may see three."""
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "check_device", lambda name: None)
    monkeypatch.setattr(experiment.report, "plot", lambda *_: [])
    monkeypatch.setattr(run_settings, "check_device", lambda name: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,GPU-5d")


@pytest.mark.parametrize("text, numbers", [("all", ["3", "1", "GPU-5d"]), ("2", ["GPU-5d"]), ("1, 0", ["1", "3"])])
def test_every_card_has_a_process_of_its_own(cards, text, numbers):
    _, args = experiment.prepared(["--envs", "paxmen_4a", "--devices", text, "--workers", "2"])
    slots = [(place.device, place.environment["CUDA_VISIBLE_DEVICES"]) for place in experiment.slots_of(args)]
    assert slots == [("cuda", number) for number in numbers] * 2 and args.device == "cuda"


@pytest.mark.parametrize(
    "more, problem",
    [
        (["--devices", "3"], "--devices is '3'; allowed are all, or each at most once 0 to 2"),
        (["--devices", "0,0"], "--devices is '0,0'; allowed are all"),
        (["--devices", "cuda:0"], "--devices is 'cuda:0'; allowed are all"),
        (["--devices", "0", "--device", "cpu"], "--device is 'cpu' and --devices '0'; give one of them"),
    ],
)
def test_devices_that_are_not_there(cards, more, problem, capsys):
    assert problem in fails(capsys, "--envs", "paxmen_4a", *more)[1]


def test_a_machine_without_cards(capsys, monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 0)
    for text in ("all", "0"):
        said = fails(capsys, "--envs", "paxmen_4a", "--devices", text)[1]
        assert f"--devices is '{text}'; allowed are none, as this PyTorch sees no GPU" in said


def test_a_training_sees_its_own_card_and_no_rank(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = {}
    monkeypatch.setattr(trainings.subprocess, "Popen", lambda command, env, **_: seen.update(env))
    trainings.Training(methods.named("mars"), "paxmen_5a", [], tmp_path / "log", 3, {"CUDA_VISIBLE_DEVICES": "1"})
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == ("1", "3")
    assert "PATH" in seen and not {"RANK", "WORLD_SIZE"} & seen.keys()


def test_what_is_resumed_goes_to_the_device_that_is_free(tmp_path, monkeypatch):
    run, given = saved.open_run(run_folder(tmp_path)), []
    (cell,) = grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "mars"]))
    monkeypatch.setattr(experiment, "Training", lambda *words: given.extend(words))
    card = devices.Device("GPU 1", "cuda", {"CUDA_VISIBLE_DEVICES": "1"})
    experiment.start(grids.Job(cell, run.seeds, run), tmp_path, card, 2)
    assert given[2] == ["--resume", run.folder, "--device", "cuda"] and given[4:] == [2, card.environment]


@pytest.mark.parametrize("lacks", ["policy", "updates", "absolute metric"])
def test_a_run_is_finished_when_its_best_policies_are_measured_and_stored(lacks, tmp_path):
    run = saved.open_run(run_folder(tmp_path))
    assert run.is_finished()
    if lacks == "policy":
        (run.folder / "policy.pt").unlink()
    elif lacks == "updates":  # resumed with a longer budget: the policy is of the shorter one
        run.settings["total_steps"] *= 2
    else:
        path = run.folder / "evaluations.json"
        path.write_text(path.read_text().replace("absolute_metrics", "other"))
    assert not run.is_finished()


def test_a_policy_of_a_shorter_budget_ends_no_run_whose_metrics_are_lost(tmp_path):
    run = saved.open_run(run_folder(tmp_path))
    content = {"algorithm": "mars", "task": run.task, "settings": dict(run.settings)}
    files.save_checkpoint(run.folder / "policy.pt", content)
    (run.folder / "metrics.jsonl").write_text("")
    assert run.is_finished()
    run.settings["total_steps"] *= 2
    assert not run.is_finished()


def test_of_several_that_were_cut_the_one_that_got_furthest_is_gone_on_with(trained, tmp_path):
    (cell,) = grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "mars"]))
    plain = {"seed": 10, "num_seeds": 2, "name": "mars", "contract": None}
    short, far = (write_run(tmp_path, "mars", {**cell.settings, **plain}, -5.0, False) for _ in range(2))
    lines = (short / "metrics.jsonl").read_text().splitlines(keepends=True)
    (short / "metrics.jsonl").write_text("".join(lines[:4]))
    (job,), _ = grids.jobs_of(cell, tmp_path, 10)
    assert job.run.folder == far and job.seeds == range(10, 12)


def test_a_cut_run_is_gone_on_with_for_one_of_its_seeds(trained, tmp_path):
    """Seeds 10 and 11 are wanted; a run of seeds 11 to 13 was cut."""
    (cell,) = grids.make_grid(experiment.make_parser().parse_args([*TINY, "--algos", "mars"]))
    cut = write_run(tmp_path, "mars", {**cell.settings, "seed": 11, "num_seeds": 3, "name": "mars"}, -5.0, False)
    resumed, new = grids.jobs_of(cell, tmp_path, 10)[0]
    assert resumed.run.folder == cut and resumed.seeds == range(11, 14)
    assert new.run is None and new.seeds == range(10, 11)


@pytest.mark.parametrize("seconds, text", [(40, "40 s"), (700, "12 min"), (7500, "2 h 5 min"), (280_000, "3 d 5 h")])
def test_durations(seconds, text):
    assert cli.duration(seconds) == text


def test_progress_reads_the_end_of_long_and_torn_files(tmp_path):
    run = saved.open_run(run_folder(tmp_path, points=4))
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "evaluation", "step": 99}\n{"kind": "update", "upd')
    assert run.last_update()["update"] == 4 and run.is_finished()


# ---- real processes ----


def test_a_training_that_cannot_start_says_why(tmp_path):
    (tmp_path / "settings.yaml").write_text("expand: 0.5")
    training = trainings.Training(
        methods.named("mars"), "paxmen_5a", ["--config", tmp_path / "settings.yaml"], tmp_path / "log"
    )
    while training.poll() is None:
        time.sleep(0.05)
    assert (
        training.poll() == 2
        and training.last_words() == "mars: --expand is 0.5; it must be 1.00001 or more (and below 1e6)"
    )


def command(*more):
    return [sys.executable, "-m", "torch_mars.experiment", *TINY, "--algos", "mars", "--no-plot", *more]


def wait_for_update(tmp_path, update):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list(tmp_path.rglob("metrics.jsonl"))
        if files and f'"update": {update},' in files[0].read_text():
            return files[0].parent
        time.sleep(0.01)
    raise AssertionError("the training did not begin")


def test_a_process_that_was_killed_says_so_whatever_it_printed(tmp_path):
    kill = "import os; print('half way', flush=True); os.kill(os.getpid(), 9)"
    process = trainings.Process(["-c", kill], tmp_path / "log")
    while process.poll() is None:
        time.sleep(0.01)
    assert process.last_words() == "killed by SIGKILL"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_experiment_leaves_no_process_and_goes_on_to_the_same_result(number, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"checkpoint_every": 5, "eval_every": 2000}))
    more = ["--total-steps", "20k", "--config", str(tmp_path / "own.yaml"), "--run-dir"]
    whole = tmp_path / "whole"
    assert subprocess.run(command(*more, str(whole))).returncode == 0

    process = subprocess.Popen(command(*more, str(tmp_path / "stopped")), stdout=subprocess.PIPE, text=True)
    folder = wait_for_update(tmp_path / "stopped", 20)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert ("Stopped and saved. The same command goes on." in said) == (number == signal.SIGINT)
    saved.open_run(folder).wait()  # free once the training has ended
    assert not saved.open_run(folder).is_finished()

    again = subprocess.run(command(*more, str(tmp_path / "stopped")), capture_output=True, text=True)
    assert again.returncode == 0 and "resumed: MARS on paxmen_4a, seeds 10 to 11" in again.stdout
    (one,), (other,) = (list(place.rglob("evaluations.json")) for place in (whole, tmp_path / "stopped"))
    returns = [
        {
            name: run[step]["episode_return"]
            for name, run in saved.open_run(p.parent).evaluations().items()
            for step in run
        }
        for p in (one, other)
    ]
    assert returns[0] == returns[1] and returns[0]


@pytest.mark.slow
def test_workers_train_side_by_side(tmp_path):
    more = ["--run-dir", str(tmp_path), "--workers", "2", "--seeds-per-run", "1"]
    done = subprocess.run(command(*more), capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    lines = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith(("started", "done"))]
    assert lines == ["started", "started", "done", "done"]
    assert files.read_yaml(next(tmp_path.rglob("config.yaml")))["num_seeds"] == 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_experiments_of_which_one_is_killed_ten_times(tmp_path):
    """Both on one grid; whatever moment one dies, every seed of every method is trained once, and nothing is lost."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"checkpoint_every": 1, "eval_every": 2000}))
    grid = ["--algos", "mars,mappo,maspo", "--seeds", "6", "--seeds-per-run", "1", "--total-steps", "16k"]
    grid += ["--config", str(tmp_path / "own.yaml"), "--run-dir", str(tmp_path / "runs")]

    def begin(number):
        log = open(tmp_path / f"said-{number}", "wb")
        return subprocess.Popen(command(*grid), stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})

    steady, moments, said = begin("steady"), random.Random(0), ""
    for number in range(10):
        mortal = begin(number)
        time.sleep(moments.uniform(5.0, 15.0))
        assert mortal.poll() is None and steady.poll() is None  # neither is done
        mortal.kill()
        mortal.wait()
        said += (tmp_path / f"said-{number}").read_text()
    assert "started: " in said and "resumed: " in said  # some died while they trained
    assert steady.wait(900) == 0, (tmp_path / "said-steady").read_text()
    last = subprocess.run(command(*grid), capture_output=True, text=True)
    assert last.returncode == 0 and "All done." in last.stdout
    runs = saved.find_runs([tmp_path / "runs"])
    trained = sorted((run.algorithm, seed) for run in runs if run.is_finished() for seed in run.seeds)
    assert trained == sorted((name, seed) for name in ("mars", "mappo", "maspo") for seed in range(10, 16))
    for run in runs:
        if run.is_finished():
            records = [r for r in metrics.records(run.folder / "metrics.jsonl") if r["kind"] == "update"]
            assert [r["update"] for r in records] == list(range(1, run.updates + 1))
    assert not list((tmp_path / "runs" / ".claims").iterdir())


@pytest.mark.slow
def test_jobs_of_a_launcher_train_the_grid_and_go_on_after_ctrl_c(tmp_path):
    more = ["--seeds-per-run", "1", "--seeds", "3", "--total-steps", "30k", "--run-dir", str(tmp_path / "runs")]
    line = command(*more, "--launcher", "local", "--slurm", "timeout_min=9", "--jobs", "2")
    first = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    folder = wait_for_update(tmp_path, 20)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 130 and "stopping: trainings are being saved" in said and "Stopped." in said
    assert saved.open_run(folder).is_resumable() and not saved.open_run(folder).is_training()
    again = subprocess.run(line, capture_output=True, text=True)
    assert again.returncode == 0 and "By local: 2 jobs, timeout_min 9; in each 1 at a time on cpu" in again.stdout
    runs = saved.find_runs([tmp_path / "runs"])
    assert sorted(seed for run in runs for seed in run.seeds if run.is_finished()) == [10, 11, 12]
    assert folder in [run.folder for run in runs if run.is_finished()]  # it was gone on with
    worker = next((tmp_path / "runs" / "logs" / "jobs").glob("*-0.log")).read_text()
    assert "started: MARS on paxmen_4a, seed 1" in worker


def test_jobs_need_a_launcher(trained, capsys):
    assert "--jobs is 3, but there are jobs with --launcher only" in fails(capsys, *TINY, "--jobs", "3")[1]
    assert "none without --launcher slurm" in fails(capsys, *TINY, "--slurm", "partition=gpu")[1]


def test_devices_of_jobs_are_looked_for_in_the_jobs(trained, capsys):
    more = ["--algos", "mars", "--devices", "all", "--launcher", "local", "--jobs", "4", "--dry-run"]
    assert experiment.main(["--envs", "paxmen_4a", "--budget", "smoke", *more]) == 0
    assert "By local: 1 job; in each 1 at a time on GPUs all" in capsys.readouterr().out


def test_a_launcher_has_nothing_to_do_for_what_is_done(trained, tmp_path, capsys):
    experiment.main([*TINY, "--algos", "mars", "--no-plot"])
    assert experiment.main([*TINY, "--algos", "mars", "--launcher", "local", "--out", "figures"]) == 0
    assert (tmp_path / "figures" / "table1.md").exists() and "All done." in capsys.readouterr().out


def test_a_folder_in_which_nothing_was_tuned_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tuned/smoke/paxmen_4a").mkdir(parents=True)
    Path("tuned/smoke/paxmen_4a/mars.yaml").write_text("actor_lr: 0.001\n")
    line = [*TINY, "--algos", "mars,maspo", "--envs", "paxmen_4a"]
    for folder, hint in (("tuned", "mars.yaml; did you mean tuned/smoke?"), ("tunedx", "there is no tunedx/paxmen_4a")):
        with pytest.raises(cli.UsageError, match=re.escape(hint)):
            grids.make_grid(experiment.make_parser().parse_args([*line, "--tuned", folder]))
    mars, maspo = grids.make_grid(experiment.make_parser().parse_args([*line, "--tuned", "tuned/smoke"]))
    assert (mars.settings["actor_lr"], maspo.settings["actor_lr"]) == (0.001, 5e-4)
