"""What happens around a training: readers that leave, full disks, closed terminals, rivals, clocks; one nan of many."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from faults import STEPS, TINY, in_child

from torch_mars.algos import mars
from torch_mars.protocol import saved, trainings
from torch_mars.run import cli, files, metrics, screen, tracker, trackers

SLOW = pytest.mark.slow


def line(place, updates, *more):
    return [*TINY.split(), "--total-steps", str(updates * STEPS), "--run-dir", str(place), *map(str, more)]


def the_run(place):
    (config,) = Path(place).glob("*/*/*/config.yaml")
    return config.parent


def trained(place, updates, *more):
    assert mars.main(line(place, updates, *more)) == 0
    return the_run(place)


def updates_in(folder):
    return [r["update"] for r in metrics.records(folder / "metrics.jsonl") if r["kind"] == "update"]


# ---- the screen ----


def on_a_screen(place, spoil, updates=4):
    """Train in a child whose screen `spoil()` has spoilt; the exit code of the whole command."""

    def work():
        spoil()
        cli.guarded(lambda: mars.main(line(place, updates)), "mars")

    return in_child(work)


def read_no_more():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)


def full():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def closed():
    os.close(1)
    os.close(2)
    sys.stdout = sys.stderr = None


def ascii_only():
    sys.stdout, sys.stderr = (open(n, "w", encoding="ascii", closefd=False) for n in (1, 2))


def lost_terminal():
    master, slave = os.openpty()
    os.dup2(slave, 1)
    os.dup2(slave, 2)
    os.close(slave)
    os.close(master)  # from now on every write fails


@pytest.mark.parametrize("spoil", [read_no_more, full, closed, ascii_only, lost_terminal])
def test_no_screen_ends_a_training(spoil, tmp_path):
    assert on_a_screen(tmp_path / "rüns", spoil) == 0
    assert saved.open_run(the_run(tmp_path / "rüns")).is_finished()


def test_what_cannot_be_said_on_one_stream_is_said_on_the_other(tmp_path):
    def work():
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        mars.main(line(tmp_path / "runs", 1))

    in_child(work, tmp_path / "said")
    assert (
        "note: stdout cannot be written (No space left on device); going on without" in (tmp_path / "said").read_text()
    )


# ---- asked to stop ----


def process(place, updates, *more, **popen):
    command = [sys.executable, mars.__file__, *line(place, updates, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **popen)


def wait_for_updates(place, running, count):
    while running.poll() is None:
        found = list(Path(place).glob("*/*/*/metrics.jsonl"))
        if found and len(updates_in(found[0].parent)) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(running.communicate()[0])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_lost_terminal_saves_as_every_other_end_does(number, tmp_path):
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}  # also where the tests run under nohup
    running = process(tmp_path / "my runs", 5000, "--checkpoint-every", 10**6, **heard)
    wait_for_updates(tmp_path / "my runs", running, 2)
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    folder = the_run(tmp_path / "my runs")
    assert running.returncode == 130
    assert f"python -m torch_mars.algos.mars --resume '{folder}'" in said and "stopping after this update" in said
    assert files.load_checkpoint(folder)["update"] == updates_in(folder)[-1]


def test_nohup_means_that_a_closed_terminal_does_not_matter(tmp_path):
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    running = process(tmp_path, 12, **ignore)
    wait_for_updates(tmp_path, running, 1)
    running.send_signal(signal.SIGHUP)
    assert running.wait(timeout=60) == 0 and saved.open_run(the_run(tmp_path)).is_finished()


def test_asked_twice_it_ends_at_once_and_says_how_to_go_on(tmp_path, capsys):
    def slow(*args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still training")

    folder = trained(tmp_path, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mars, "update", slow)
        with pytest.raises(KeyboardInterrupt):
            mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)])
    said = capsys.readouterr()
    assert "stopping after this update; once more: now" in said.err
    assert f"What is saved can be gone on with:\n  python -m torch_mars.algos.mars --resume {folder}" in said.out
    assert mars.main(["--resume", str(folder)]) == 0  # the lock is free again


def test_interrupted_in_the_last_measurement_it_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    real = mars.evaluate

    def evaluate(env, *args):
        if env.num_envs == 20:
            raise KeyboardInterrupt
        return real(env, *args)

    monkeypatch.setattr(mars, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        mars.main(line(tmp_path, 2))
    assert f"--resume {the_run(tmp_path)}" in capsys.readouterr().out
    monkeypatch.setattr(mars, "evaluate", real)
    assert mars.main(["--resume", str(the_run(tmp_path))]) == 0
    assert saved.open_run(the_run(tmp_path)).is_finished()


def test_the_time_until_it_stops_is_told(tmp_path, capsys, monkeypatch):
    real, count = mars.update, 0

    def update(*args):
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args)

    monkeypatch.setattr(mars, "update", update)
    assert mars.main(line(tmp_path, 50)) == 130
    said = capsys.readouterr().err
    assert "stopping after this update, about 0 s; once more: now" in said
    assert updates_in(the_run(tmp_path)) == [1, 2, 3]


def test_a_lesson_runs_in_any_thread(tmp_path):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(mars.main(line(tmp_path, 2))))
    thread.start()
    thread.join()
    assert outcome == [0] and saved.open_run(the_run(tmp_path)).is_finished()


# ---- the disk ----


def limited_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@pytest.mark.parametrize(
    "size", [100, 2000, 15_000, pytest.param(40_000, marks=SLOW), pytest.param(120_000, marks=SLOW)]
)
def test_a_full_disk_is_one_sentence_and_what_was_saved_goes_on(size, tmp_path):
    def work():
        limited_files(size)
        cli.guarded(lambda: mars.main(line(tmp_path / "runs", 400, "--checkpoint-every", 5)), "mars")

    code = in_child(work, tmp_path / "said")
    said = "" if size < 2000 else (tmp_path / "said").read_text()  # what it says is a file, too
    assert code in (1, 2) and "Traceback" not in said and ": None" not in said
    for checkpoint in (tmp_path / "runs").glob("*/*/*/checkpoint.pt"):
        done = files.load_checkpoint(checkpoint)["update"]
        assert mars.main(["--resume", str(checkpoint.parent), "--total-steps", str((done + 2) * STEPS)]) == 0
        assert updates_in(checkpoint.parent) == list(range(1, done + 3))
    assert not list((tmp_path / "runs").rglob("*.tmp"))


def test_full_curves_of_tensorboard_end_no_training(tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    folder = trained(tmp_path, 3)
    said = capsys.readouterr().err
    assert said.count("TensorBoard's curves cannot be written any more (No space left on device)") == 1
    assert updates_in(folder) == [1, 2, 3]


def test_errors_of_tensorboards_thread_are_not_printed(tmp_path, capfd):
    told, hook = [], threading.excepthook
    about = tracker.About(tmp_path, "a_task", "mars", [0], {}, resumed_at=None)
    curves = trackers.Trackers([], about, told.append)
    curves.all[0].tracker.writers[0].file_writer.event_writer._async_writer._writer._writer.write = lambda data: 1 / 0
    for step in range(50):
        curves.add(0, {"x": 1.0}, step)
        curves.flush()
    curves.close()
    assert len(told) == 1 and "division by zero" in told[0]
    assert "Traceback" not in capfd.readouterr().err and threading.excepthook is hook


def test_a_clock_that_was_set_back_draws_no_point_twice(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained(tmp_path, 6, "--checkpoint-every", 4)
    content = files.load_checkpoint(folder)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 100_000)
    assert mars.main(["--resume", str(folder), "--total-steps", str(9 * STEPS)]) == 0
    curves = EventAccumulator(str(folder / "tensorboard" / "seed_0"))
    curves.Reload()
    steps = [point.step for point in curves.Scalars("train/actor_loss")]
    assert content["update"] == 6 and steps == [STEPS * update for update in range(1, 10)]


def test_a_folder_that_is_taken_away_is_one_sentence(tmp_path):
    def work():
        real, count = mars.update, 0

        def update(*args):
            nonlocal count
            count += 1
            if count == 3:
                os.rename(tmp_path / "runs", tmp_path / "elsewhere")
            return real(*args)

        mars.update = update
        cli.guarded(lambda: mars.main(line(tmp_path / "runs", 10, "--checkpoint-every", 2)), "mars")

    assert in_child(work, tmp_path / "said") == 1
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said and "cannot write" in said.splitlines()[-1]
    assert mars.main(["--resume", str(the_run(tmp_path / "elsewhere"))]) == 0


# ---- rivals ----


def test_a_run_has_one_writer(tmp_path, capsys):
    running = process(tmp_path, 100_000, "--checkpoint-every", 2)
    try:
        wait_for_updates(tmp_path, running, 4)
        folder = the_run(tmp_path)
        assert saved.open_run(folder).is_training()
        before = time.monotonic()
        with pytest.raises(cli.UsageError, match="another process is training .*; wait for it or stop it"):
            mars.main(["--resume", str(folder)])
        assert time.monotonic() - before < 10
    finally:
        running.kill()
        running.communicate()
    assert not saved.open_run(folder).is_training()
    done = files.load_checkpoint(folder)["update"]
    assert mars.main(["--resume", str(folder), "--total-steps", str((done + 1) * STEPS)]) == 0
    assert updates_in(folder) == list(range(1, done + 2))


def test_a_lock_does_not_follow_links_and_is_not_inherited(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / ".lock").symlink_to(target)
    with pytest.raises(cli.RunError, match="no lock can be had"):
        files.hold(tmp_path / ".lock", "x")
    assert target.read_text() == "mine"

    lock = files.hold(tmp_path / "other", "x")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    files.let_go(lock)
    files.let_go(files.hold(tmp_path / "other", "x"))  # the child keeps nothing
    child.communicate(b"\n")
    assert not (tmp_path / "other").exists()


def test_whoever_waits_for_a_lock_gets_it_when_it_is_free(tmp_path):
    lock = files.hold(tmp_path / "lock", "busy")
    threading.Timer(0.5, files.let_go, [lock]).start()
    files.let_go(files.hold(tmp_path / "lock", "busy", patience=30.0))


def test_temporaries_of_living_writers_stay_and_others_go(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".checkpoint.pt.0123.tmp").write_bytes(b"left by a kill")
    (tmp_path / ".checkpoint.pt.link.tmp").symlink_to(precious)
    file, living = files._make_temporary(tmp_path / "checkpoint.pt")
    files.write_whole(tmp_path / "checkpoint.pt", b"whole")
    assert living.exists() and not (tmp_path / ".checkpoint.pt.0123.tmp").exists()
    file.close()
    files.sweep(tmp_path)
    assert not living.exists() and precious.read_text() == "mine"


def test_threads_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    for asked, workers, threads in ((None, 1, None), (None, 4, 1), (None, 2, 3), ("2", 2, 2), ("1", 2, 1), ("x", 3, 2)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if asked:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert trainings.threads_each(workers) == threads


# ---- damage ----


DAMAGES = {
    "a byte": lambda text: text[:300] + "\0" + text[301:],
    "a digit": lambda text: text.replace('"update": 2', '"update": 1', 1),
    "a line": lambda text: "".join(text.splitlines(keepends=True)[:2] + text.splitlines(keepends=True)[3:]),
    "half": lambda text: text[: len(text) // 2],
    "all": lambda text: "",
    "nesting": lambda text: "[" * 100_000 + "\n" + text,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metrics_are_told_and_kept(damage, tmp_path, capsys):
    folder = trained(tmp_path, 6, "--eval-every", 2 * STEPS)
    path = folder / "metrics.jsonl"
    before, evaluations = path.read_text(), json.loads((folder / "evaluations.json").read_text())
    path.write_text(DAMAGES[damage](before))
    capsys.readouterr()
    assert mars.main(["--resume", str(folder), "--total-steps", str(8 * STEPS)]) == 0
    said = capsys.readouterr().err
    assert str(path) in said and ("not as it was saved" in said or "is damaged" in said)
    if damage != "all":
        assert (folder / "metrics-damaged-1.jsonl").read_text() == DAMAGES[damage](before)
    after = json.loads((folder / "evaluations.json").read_text())["paxmen"]["paxmen_4a"]["mars"]["run_0"]
    for name, old in evaluations["paxmen"]["paxmen_4a"]["mars"]["run_0"].items():
        if name.startswith("step_"):
            assert after[name]["episode_return"] == old["episode_return"]
    assert saved.open_run(folder).is_finished() and updates_in(folder)[-1] == 8


def test_missing_metrics_are_told(tmp_path, capsys):
    folder = trained(tmp_path, 3)
    (folder / "metrics.jsonl").unlink()
    assert mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)]) == 0
    assert "6 of 6 lines are lost; 3 evaluations were found in evaluations.json" in capsys.readouterr().err


def test_an_evaluation_from_behind_the_checkpoint_is_made_again(tmp_path):
    """A power cut between the two, and metrics that are lost with it."""
    folder = trained(tmp_path, 2)
    before = (folder / "checkpoint.pt").read_bytes()
    assert mars.main(["--resume", str(folder), "--total-steps", str(3 * STEPS)]) == 0
    (folder / "checkpoint.pt").write_bytes(before)
    (folder / "metrics.jsonl").unlink()
    assert mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)]) == 0
    run = saved.open_run(folder).evaluations()["run_0"]
    assert [run[name]["step_count"] for name in saved.steps_of(run)] == [STEPS * update for update in (1, 2, 3, 4)]


@pytest.mark.parametrize("content", ["{", "5", '{"paxmen": {"paxmen_4a": {"mars": {"run_0": {"step_0": 5}}}}}'])
def test_evaluations_that_are_damaged_as_well_are_told_and_kept(content, tmp_path, capsys):
    folder = trained(tmp_path, 3)
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluations.json").write_text(content)
    assert mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)]) == 0
    assert "evaluations.json is damaged, too; the file as it was is evaluations-damaged.json" in capsys.readouterr().err
    assert (folder / "evaluations-damaged.json").read_text() == content


# ---- one of many ----


def diverging(monkeypatch, seed, at, value=float("nan")):
    """From update `at` on, the losses of a seed are no numbers, and its weights are spoilt."""
    real, count = mars.update, 0

    def update(rollout, advantage, values, target, learner, args):
        nonlocal count
        count += 1
        found = real(rollout, advantage, values, target, learner, args)
        if count >= at:
            found["critic_loss"][seed] = value
            with torch.no_grad():
                learner.actor.network.head.weight[seed] = float("nan")
        return found

    monkeypatch.setattr(mars, "update", update)


def test_one_seed_that_diverges_leaves_the_others_as_they_are(tmp_path, monkeypatch, capsys):
    more = ("--num-seeds", 3, "--eval-every", 2 * STEPS, "--checkpoint-every", 2)
    whole, after_two = trained(tmp_path / "whole", 6, *more), trained(tmp_path / "two", 2, *more)
    diverging(monkeypatch, 1, 3)
    folder = trained(tmp_path / "one", 6, *more)
    said = capsys.readouterr()
    assert "seed 1 has diverged in update 3 (critic_loss is nan)" in said.err
    assert "seed 1 in update 3: its curve goes on with its last good weights" in said.out

    def of(place, seed):
        clocks = ("seconds", "steps_per_second")
        found = [r for r in metrics.records(place / "metrics.jsonl") if r["seed"] == seed]
        return [{name: value for name, value in record.items() if name not in clocks} for record in found]

    assert of(folder, 0) == of(whole, 0) and of(folder, 2) == of(whole, 2)
    ended = of(folder, 1)
    assert [r["update"] for r in ended if r["kind"] == "update"] == [1, 2, 3]
    assert [r.get("diverged") for r in ended if r["kind"] == "evaluation"] == [None, 3, 3]
    run = saved.open_run(folder)
    assert run.diverged() == {1: 3} and run.is_finished()
    kept, good = (files.load_checkpoint(f)["learner"]["actor"]["network.head.weight"][1] for f in (folder, after_two))
    assert torch.equal(kept, good)

    from torch_mars import plot

    plot.main([str(folder), "--out", str(tmp_path / "figures")])
    assert "mars on paxmen_4a diverged: run_1 at step 96" in capsys.readouterr().err
    diverged = json.loads((tmp_path / "figures" / "diverged.json").read_text())
    assert diverged == {"paxmen_4a": {"mars": {"run_1": 3 * STEPS}}}
    plot.main([str(tmp_path / "figures" / "evaluations.json"), "--out", str(tmp_path / "again")])
    assert json.loads((tmp_path / "again" / "diverged.json").read_text()) == diverged


def test_a_run_with_a_diverged_seed_is_resumed_to_the_bit(tmp_path, monkeypatch):
    more = ("--num-seeds", 2, "--checkpoint-every", 2)
    with monkeypatch.context() as patch:
        diverging(patch, 0, 3)
        whole = trained(tmp_path / "whole", 6, *more)
    with monkeypatch.context() as patch:
        diverging(patch, 0, 3)
        folder = trained(tmp_path / "cut", 4, *more)
    assert mars.main(["--resume", str(folder), "--total-steps", str(6 * STEPS)]) == 0
    one, other = (files.load_checkpoint(place)["learner"]["actor"] for place in (whole, folder))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert updates_in(folder) == updates_in(whole)


def test_where_every_seed_has_diverged_training_ends(tmp_path, monkeypatch):
    diverging(monkeypatch, slice(None), 2, float("inf"))
    with pytest.raises(cli.RunError, match="update 2, seed 4: critic_loss is inf; training stopped"):
        mars.main(line(tmp_path, 6, "--seed", 3, "--num-seeds", 2))


def test_a_seed_that_takes_no_step_has_diverged(tmp_path, monkeypatch):
    """Its losses may be numbers all the same: oneDNN's ReLU makes 0 of nan."""
    real = mars.update

    def update(*given):
        return {**real(*given), "actor_grad_norm": torch.full((1,), torch.nan)}

    monkeypatch.setattr(mars, "update", update)
    with pytest.raises(cli.RunError, match="update 1, seed 3: actor_grad_norm is nan; training stopped"):
        mars.main(line(tmp_path, 6, "--seed", 3))


# ---- memory ----


def test_too_little_memory_is_told_before_anything_is_made(tmp_path):
    with pytest.raises(cli.UsageError, match=r"needs about [\d,]+ MB, and [\d,]+ MB are free; fewer --num-envs"):
        mars.main(line(tmp_path / "runs", 1, "--num-envs", 2**24, "--rollout-length", 100, "--total-steps", 2 * 10**9))
    assert not (tmp_path / "runs").exists()


def test_memory_that_runs_out_all_the_same_is_one_sentence(tmp_path, monkeypatch):
    def collect(*args):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(mars, "collect", collect)
    with pytest.raises(cli.RunError, match="there is not enough memory: this training needs about"):
        mars.main(line(tmp_path / "runs", 1))
    assert not (tmp_path / "runs").exists()


def test_screens_survive_anything(capsys):
    for name in ("stdout", "stderr"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, name, None)
            screen.say("x", getattr(screen, name.upper()))
        stream = open(os.devnull, "w")
        stream.close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, name, stream)
            screen.say("x", getattr(screen, name.upper()))
            assert not getattr(screen, name.upper()).isatty()
