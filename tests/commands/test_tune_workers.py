"""Workers of a study: on devices of this machine and as jobs of a cluster, and storages that are away."""

import os
import signal
import socket
import sys
from pathlib import Path

import optuna
import pytest
import tune_processes
from made_up_results import FakeTraining
from studies import NARROW, fails, study_of

from torch_mars import tune
from torch_mars.protocol import storages, studies
from torch_mars.protocol.devices import Device
from torch_mars.run import cli

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def trained(monkeypatch, tmp_path):
    return FakeTraining.replace_in(studies, monkeypatch, tmp_path)


# ---- several at a time ----


class FakeProcess:
    """In place of `Process`: it has ended with `code`, or ends when it is stopped."""

    def __init__(self, command=(), log=None, environment=None, code=0, words="the reason"):
        self.command, self.log, self.environment, self.code, self.words = command, log, environment, code, words

    def poll(self):
        return self.code

    def stop(self):
        self.code = 130

    def last_words(self):
        return self.words


def test_every_device_gets_its_workers(trained, monkeypatch, capsys):
    started = []

    def start(*given):
        started.append(FakeProcess(*given))
        return started[-1]

    gpus = [Device(f"GPU {number}", "cuda", {"CUDA_VISIBLE_DEVICES": number}) for number in "13"]
    monkeypatch.setattr(tune, "Process", start)
    monkeypatch.setattr(tune.devices, "chosen", lambda args: gpus)
    monkeypatch.setattr(studies.Plan, "check", lambda plan: None)
    monkeypatch.setattr(studies, "resolve", lambda method, settings: method.args(env="paxmen_4a"))
    code, said = fails(capsys, *NARROW, "--devices", "1,3", "--workers=2", "--storage", "sqlite:///x.db")
    assert "no trial is finished" in said  # as these workers did nothing
    assert [process.environment["CUDA_VISIBLE_DEVICES"] for process in started] == ["1", "1", "3", "3"]
    assert len({process.log for process in started}) == 4
    for process in started:
        own = process.command[2:]
        assert process.command[:2] == ["-m", "torch_mars.tune"]
        assert own == [*NARROW, "--storage", "sqlite:///x.db", "--device", "cuda"]


def test_one_worker_is_the_command_itself(trained, monkeypatch):
    monkeypatch.setattr(tune, "Process", None)
    monkeypatch.setattr(tune, "report", lambda study, plan: None)
    assert tune.main([*NARROW, "--trials", "1", "--workers", "1"]) == 0 and len(trained) == 2


def test_a_mistake_that_a_worker_finds_ends_all(trained):
    study, plan = study_of()
    other = FakeProcess(code=None)
    with pytest.raises(cli.UsageError, match="^nothing of the kind$"):
        tune.follow(study, plan, [FakeProcess(code=2, words="tune: nothing of the kind"), other])
    assert other.code == 130


def test_a_worker_that_is_gone_matters_only_if_trials_are_left(trained, capsys):
    study, plan = study_of("--trials", "1")
    gone = FakeProcess(code=1, words="killed by SIGKILL", log="a.log")
    with pytest.raises(cli.RunError, match=r"1 trials are left.*the first: killed by SIGKILL \(log: a.log\)"):
        tune.follow(study, plan, [gone, FakeProcess()])
    assert tune.work(study, plan) is False
    assert tune.follow(study, plan, [gone, FakeProcess()]) is False


def test_a_trial_of_a_worker_that_is_stopped_is_given_back_at_once(trained, monkeypatch):
    def stopped(*_):
        raise studies.Stopped

    study, plan = study_of()
    monkeypatch.setattr(tune, "run_trial", stopped)
    tune.work(study, plan)
    first, second = study.get_trials()
    assert (first.state.name, second.state.name) == ("FAIL", "WAITING")
    assert second.user_attrs["folder"] == first.number


@pytest.mark.parametrize(
    "flags, problem",
    [
        ("--workers 0", "it must be 1 or more"),
        ("--slurm partition=gpu", "there are none without --launcher"),
        ("--launcher local --devices 0", "--slurm gpus_per_node=1"),
        ("--launcher slurm", "this machine has no Slurm"),
        ("--launcher pbs", "'pbs'"),
        ("--launcher local --slurm gpu=1", "unknown parameter 'gpu'"),
        ("--devices 99", "--devices is '99'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(flags, problem, trained, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = fails(capsys, *NARROW, *flags.split())
    assert code == 2 and problem in said
    assert not trained and not Path("tuned").exists()


def test_slurm_gets_the_workers_as_one_array(trained, capsys, monkeypatch, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sbatch", "srun", "sacct"):
        (programs / name).write_text('#!/bin/sh\ncp "$1" "$0".told; echo "Submitted batch job 7"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    line = [*NARROW, "--launcher", "slurm", "--slurm", "partition=gpu,gpus_per_node=1", "--workers", "3"]
    assert tune.main([*line, "--device", "cuda"]) == 0
    said = capsys.readouterr().out
    assert "3 jobs are in the queue: 7_0, 7_1, 7_2" in said and "--show" in said and "--launcher" not in said
    told = (programs / "sbatch.told").read_text()
    assert "--array=0-2%3" in told and "--job-name=tune-mars" in told and "--partition=gpu" in told


# ---- storages that are away ----


def url(port, more=""):
    return f"postgresql://somebody:secret@127.0.0.1:{port}/tuning{more}"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_database_that_nobody_serves_is_one_sentence_without_its_password(trained, capsys):
    pytest.importorskip("psycopg2")
    code, said = fails(capsys, *NARROW, "--storage", url(free_port()))
    assert code == 2 and "://somebody:***@127.0.0.1" in said and "Connection refused" in said and "secret" not in said


def test_a_database_that_does_not_answer_is_given_up_after_seconds(trained, capsys):
    pytest.importorskip("psycopg2")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        code, said = fails(capsys, *NARROW, "--storage", url(deaf.getsockname()[1], "?connect_timeout=2"))
    assert code == 2 and "timeout expired" in said and "secret" not in said


def test_a_driver_that_is_missing_is_named(trained, capsys, monkeypatch):
    for name in storages.POSTGRESQL_DRIVERS:
        monkeypatch.setitem(sys.modules, name, None)
    code, said = fails(capsys, *NARROW, "--storage", url(1))
    assert code == 2 and "which needs psycopg2: pip install 'torch_mars[cluster]'" in said and "secret" not in said
    monkeypatch.setitem(sys.modules, "pymysql", None)
    code, said = fails(capsys, *NARROW, "--storage", "mysql+pymysql://somebody:secret@localhost/tuning")
    assert code == 2 and "which needs pymysql: pip install pymysql" in said and "secret" not in said


@pytest.mark.parametrize(
    "text, shown",
    [
        ("postgresql://me:p@ss@host/db and more", "postgresql://me:***@host/db and more"),
        ("--storage 'mysql://me:x@host/db?password=y&z=1'", "--storage 'mysql://me:***@host/db?password=***&z=1'"),
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    assert storages.without_password(text) == shown


@pytest.mark.parametrize("where", ["set_trial_intermediate_value", "set_trial_state_values"])
def test_a_storage_that_goes_away_costs_no_training(where, trained, monkeypatch, capsys):
    line = [*NARROW, "--trials", "2", "--storage", "sqlite:///shared.db"]
    calls = []
    monkeypatch.setattr(tune, "report", lambda study, plan: None)

    def away(storage, *given, **named):
        calls.append(where)
        if len(calls) == 2:
            raise optuna.exceptions.StorageInternalError("server closed the connection")
        return real(storage, *given, **named)

    real = getattr(optuna.storages.RDBStorage, where)
    with monkeypatch.context() as broken:
        broken.setattr(optuna.storages.RDBStorage, where, away)
        code, said = fails(capsys, *line)
    assert code == 1 and "does not answer (server closed the connection)" in said
    assert "the same command goes on" in said
    monkeypatch.setattr(studies, "_is_alive", lambda process: False)  # it was this process
    assert tune.main(line) == 0
    assert len(trained) == 4  # two trials of two seeds, none twice


# ---- real ones ----


@linux
@pytest.mark.slow
def test_of_two_workers_one_is_killed_and_the_other_ends_its_trial(tmp_path):
    line = ["--trials", "4", "--workers", "2"]
    command = tune_processes.start(tmp_path, *line)
    tune_processes.until(lambda: tune_processes.runs(tmp_path), tmp_path)
    workers = [pid for pid in tune_processes.processes_with("torch_mars.tune", tmp_path) if pid != command.pid]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert tune_processes.end(command, tmp_path) == 0
    said = (tmp_path / "said").read_text()
    assert "a worker is gone: killed by SIGKILL" in said and "4 of 4 trials are finished" in said
    assert len(tune_processes.runs(tmp_path)) == 4 * 2


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", [("--workers", "2"), ("--workers", "2", "--launcher", "local")])
def test_ctrl_c_saves_all_and_the_same_line_goes_on(how, tmp_path):
    line = ["--trials", "3", *how]
    command = tune_processes.start(tmp_path, *line)
    tune_processes.until(lambda: len(tune_processes.runs(tmp_path)) >= 2, tmp_path)
    os.killpg(command.pid, signal.SIGINT)
    assert tune_processes.end(command, tmp_path) == 130
    assert "Stopped. The same command goes on." in (tmp_path / "said").read_text()
    for program in ("torch_mars.tune", "torch_mars.algos.mars"):
        assert not tune_processes.processes_with(program, tmp_path)
    assert tune_processes.end(tune_processes.start(tmp_path, *line), tmp_path) == 0
    assert "3 of 3 trials are finished" in (tmp_path / "said").read_text()
    assert len(tune_processes.runs(tmp_path)) == 3 * 2


@linux
@pytest.mark.slow
def test_a_job_whose_time_is_up_goes_on_with_its_trial(tmp_path):
    command = tune_processes.start(tmp_path, "--trials", "3", "--launcher", "local", "--slurm", "partition=any")
    tune_processes.until(lambda: tune_processes.runs(tmp_path), tmp_path)
    (job,) = tune_processes.processes_with("submitit.core._submit", tmp_path)
    os.kill(job, signal.SIGUSR2)
    assert tune_processes.end(command, tmp_path) == 0
    assert "3 of 3 trials are finished" in (tmp_path / "said").read_text()
    (log,) = tmp_path.glob("tuned/**/logs/jobs/*_log.out")
    assert "Requeued job" in log.read_text()
    assert len(tune_processes.runs(tmp_path)) == 3 * 2
