"""Jobs of a cluster: what a line may ask for, what Slurm is told, and that a job that is cut goes on."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torch_mars.protocol import launchers
from torch_mars.run.cli import Parser, UsageError

COUNT = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
number = len(list(folder.glob("begun_*")))
(folder / f"begun_{number}").touch()
def save(*_):
    (folder / f"saved_{number}").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
while number < int(sys.argv[2]):
    time.sleep(0.05)
(folder / "ended").touch()
"""
FAIL = "import sys; print('first'); sys.exit('the reason')"


def flags(*argv):
    parser = Parser(prog="test", allow_abbrev=False)
    launchers.add_flags(parser)
    return parser.parse_args(argv)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A cluster that takes every job; a folder with what it was told."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"sbatch": 'cat "$1" >> "$0".told; echo "Submitted batch job 7"', "srun": ":", "sacct": ":",
                       "scancel": 'echo "$@" >> "$0".told'}.items():  # fmt: skip
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return programs


# ---- what can be typed ----


@pytest.mark.parametrize(
    "line, problem",
    [
        ("--launcher local --slurm partitoin=gpu", "unknown parameter 'partitoin'; did you mean partition"),
        ("--launcher local --slurm slurm_gpus=1", "unknown parameter 'slurm_gpus'"),
        ("--launcher local --slurm timeout_min=ten", "timeout_min: 'ten' is not a whole number"),
        ("--launcher local --slurm time=0", "time is '0'; it must be 1 or more"),
        ("--launcher local --slurm mem_gb=-1", "mem_gb is '-1'; it must be 1 or more"),
        ("--launcher local --slurm nodes=2", "nodes is '2', but a job is one process"),
        ("--launcher local --slurm use_srun=no", "use_srun is 'no'; it must be true or false"),
        ("--slurm partition=gpu", "there are none without --launcher"),
        ("--launcher slurm", "this machine has no Slurm"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(line, problem, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=problem):
        launchers.check_flags(flags(*line.split()))


@pytest.mark.parametrize(
    "given, problem",
    [
        ("partition", "'partition' is not NAME=VALUE"),
        ("partition=gpu,", "'' is not NAME=VALUE"),
        ("time=1,time=2", "time is given twice"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(given, problem, capsys):
    with pytest.raises(SystemExit) as stopped:
        flags("--launcher", "local", "--slurm", given)
    assert stopped.value.code == 2 and problem in capsys.readouterr().err


def test_without_submitit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'torch_mars\[cluster\]'"):
        launchers.check_flags(flags("--launcher", "local"))
    launchers.check_flags(flags())


def test_parameters_may_be_typed_with_or_without_slurm():
    asked = flags("--launcher", "local", "--slurm", "partition=gpu, slurm_qos=low,gpus_per_node=1,mem_gb=1.5,time=9")
    assert launchers.parameters(asked) == {
        "timeout_min": launchers.TIMEOUT_MIN, "slurm_partition": "gpu", "slurm_qos": "low", "gpus_per_node": 1,
        "mem_gb": 1.5, "slurm_time": 9,
    }  # fmt: skip


def test_flags_are_taken_from_a_line():
    line = ["--algo", "mars", "--workers", "2", "--slurm=a=1", "--launcher", "local", "--show"]
    assert launchers.without_flags(line, ("--workers", "--slurm", "--launcher")) == ["--algo", "mars", "--show"]


# ---- what Slurm is told ----


def test_many_pieces_are_one_array(slurm, tmp_path):
    asked = flags("--launcher", "slurm", "--slurm", "partition=gpu,gpus_per_node=1,timeout_min=600,array_parallelism=2")
    made = launchers.executor(asked, tmp_path / "logs", "grid")
    jobs = launchers.submit(made, [launchers.Work(launchers.python, ["-c", "0"], tmp_path / "log")] * 3)
    told = (slurm / "sbatch.told").read_text()
    assert [job.job_id for job in jobs] == ["7_0", "7_1", "7_2"]
    for word in ("array=0-2%2", "partition=gpu", "gpus-per-node=1", "time=600", "job-name=grid", "signal=USR2@90"):
        assert f"#SBATCH --{word}\n" in told
    launchers.stop(jobs[:1])
    until((slurm / "scancel.told").exists)
    assert "7_0" in (slurm / "scancel.told").read_text()


def test_a_refusal_of_slurm_is_one_sentence(slurm, tmp_path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpv' >&2\nexit 1\n")
    made = launchers.executor(flags("--launcher", "slurm", "--slurm", "partition=gpv"), tmp_path / "logs", "grid")
    with pytest.raises(UsageError, match="Slurm takes no such job: sbatch: error: invalid partition"):
        launchers.submit(made, [launchers.Work(launchers.python, ["-c", "0"], tmp_path / "log")] * 2)


def test_a_folder_that_slurm_would_read_otherwise_is_refused(slurm, tmp_path):
    with pytest.raises(UsageError, match="has a %"):
        launchers.executor(flags("--launcher", "slurm"), tmp_path / "%j", "grid")


# ---- work that is cut ----


def test_work_that_is_asked_to_checkpoint_is_saved_first_and_can_be_sent_again(tmp_path):
    work = launchers.Work(launchers.python, ["-c", COUNT, tmp_path, 1], tmp_path / "log")
    work.process = work.start(*work.arguments)
    until((tmp_path / "begun_0").exists)
    time.sleep(0.2)
    again = work.checkpoint()
    assert (tmp_path / "saved_0").exists() and work.process.poll() == 130
    sent = pickle.loads(pickle.dumps(again.function))
    assert sent.process is None and not sent.is_stopping
    sent()
    assert (tmp_path / "ended").exists()


def local(tmp_path, *pieces):
    made = launchers.executor(flags("--launcher", "local", "--slurm", "partition=gpu"), tmp_path / "logs", "test")
    return launchers.submit(made, pieces)


def task_of(job):
    """The process that does the work of a local job."""
    pid = job._process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.slow
def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(tmp_path):
    (job,) = local(tmp_path, launchers.Work(launchers.python, ["-c", COUNT, tmp_path, 2], tmp_path / "log"))
    for number in (0, 1):
        until((tmp_path / f"begun_{number}").exists)
        time.sleep(0.2)
        os.kill(task_of(job), signal.SIGUSR2)
        until((tmp_path / f"saved_{number}").exists)
    until(job.done)
    assert (tmp_path / "ended").exists() and launchers.failure(job) is None


@pytest.mark.slow
def test_a_job_that_is_stopped_is_saved_and_not_queued_again(tmp_path):
    (job,) = local(tmp_path, launchers.Work(launchers.python, ["-c", COUNT, tmp_path, 1], tmp_path / "log"))
    until((tmp_path / "begun_0").exists)
    time.sleep(0.2)
    launchers.stop([job])
    until(job.done)
    assert (tmp_path / "saved_0").exists() and not (tmp_path / "begun_1").exists()
    assert "ended without a result" in launchers.failure(job)


@pytest.mark.slow
def test_what_failed_in_a_job_is_said(tmp_path):
    (job,) = local(tmp_path, launchers.Work(launchers.python, ["-c", FAIL], tmp_path / "log"))
    until(job.done)
    assert launchers.failure(job) == "the reason"


def test_logs_of_the_process_stay_open():
    """submitit configures logging when it is imported, which closes what is there, such as absl's stream."""
    code = (
        "import io, logging; from torch_mars.protocol import launchers\n"
        "class Own(logging.StreamHandler):\n    def close(self): self.stream.close()\n"
        "stream = io.StringIO(); handler = Own(stream); launchers.need_submitit(); assert not stream.closed"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
