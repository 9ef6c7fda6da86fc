"""Work as jobs of a cluster, through submitit (extra `[cluster]`): Slurm's, or of this machine to try it out.

A job starts a process that goes on from what is on disk, and stops it in good order when it must: before its time limit
or a preemption (SIGUSR2) the process saves itself and the job is queued again; SIGTERM saves it and ends the job, which
Slurm itself queues again if it was preempted.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_mars.envs.options import allowed, shown
from torch_mars.protocol.trainings import Process
from torch_mars.run.cli import Parser, RunError, UsageError, make_folder, one_line, parse_number, parse_whole

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

LAUNCHERS = ("slurm", "local")
_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
TIMEOUT_MIN = 24 * 60  # of a job that asks for none; submitit's is five minutes
MOST_TIMEOUTS = 1000  # of one job: each goes on where the one before was cut
POLL_SECONDS = 0.1
STOPPED = 143  # exit code of what SIGTERM ended
_WHOLE = {"timeout_min", "cpus_per_task", "gpus_per_node", "time", "signal_delay_s", "array_parallelism",
          "cpus_per_gpu", "gpus_per_task"}  # fmt: skip
_NUMBERS = {"mem_gb"}
_TRUTHS = {"stderr_to_stdout", "use_srun"}
# a job is one process, and some of submitit's own cannot be typed on one line
_NEVER = {"nodes", "tasks_per_node", "ntasks_per_node", "num_gpus", "teardown", "srun_args", "additional_parameters"}


def add_flags(parser: Parser) -> None:
    """`--launcher` and `--slurm`, to a command that can leave its work to a cluster."""
    parser.add_argument(
        "--launcher", choices=LAUNCHERS,
        help="leave the work to jobs: of the Slurm cluster that this machine belongs to, or, to try it, of this "
        "machine. A job whose time is up goes on by itself (extra [cluster])",
    )  # fmt: skip
    parser.add_argument(
        "--slurm", type=_pairs, metavar="LIST",
        help="what each job asks for, as partition=gpu,gpus_per_node=1,timeout_min=600: any parameter of submitit, "
        f"those of Slurm with or without slurm_ before them (default timeout_min={TIMEOUT_MIN})",
    )  # fmt: skip


def check_flags(args: Any) -> None:
    """UsageError unless `--launcher` and `--slurm` can be done here. Starts and writes nothing."""
    if args.launcher is None:
        if args.slurm is not None:
            raise UsageError("--slurm says what jobs ask for, and there are none without --launcher slurm (or local)")
        return
    parameters(args)
    if args.launcher == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise UsageError("--launcher slurm: this machine has no Slurm (sbatch, srun); start the command on a login "
                         "node of the cluster, or try it with --launcher local")  # fmt: skip


def need_submitit() -> Any:
    """submitit. UsageError where it is not installed."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = "NOCONFIG"  # else its import would close all handlers of this process's logs
    try:
        import submitit
    except ImportError:
        raise UsageError("jobs of a cluster need submitit: pip install 'torch_mars[cluster]'") from None
    finally:
        del os.environ[_LOG_LEVEL]
        os.environ |= {} if before is None else {_LOG_LEVEL: before}
    return submitit


def _pairs(text: str) -> dict[str, str]:
    """For argparse's `type`: `partition=gpu,timeout_min=600` by name."""
    found: dict[str, str] = {}
    for item in (item.strip() for item in text.split(",")):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (name and equals and value):
            raise argparse.ArgumentTypeError(f"{shown(item)} is not NAME=VALUE, as in partition=gpu,timeout_min=600")
        if name in found:
            raise argparse.ArgumentTypeError(f"{name} is given twice, {shown(found[name])} and {shown(value)}")
        found[name] = value
    return found


def parameters(args: Any) -> dict[str, Any]:
    """What `--slurm` asks for, as submitit's AutoExecutor takes it.

    Raises:
        UsageError: a name that it does not know, or a value that cannot be one of that name.
    """
    submitit = need_submitit()
    shared = submitit.AutoExecutor._valid_parameters() - _NEVER
    own = submitit.SlurmExecutor._valid_parameters() - shared - _NEVER
    found: dict[str, Any] = {"timeout_min": TIMEOUT_MIN}
    for typed, text in (args.slurm or {}).items():
        name = typed.removeprefix("slurm_")
        if name in _NEVER and name.endswith(("nodes", "tasks_per_node")):
            raise UsageError(f"--slurm: {typed} is {shown(text)}, but a job is one process; leave it out")
        if name not in shared | own:
            raise UsageError(f"--slurm: unknown parameter {shown(typed)}; {allowed(name, sorted(shared | own))}")
        full = typed if name in shared else f"slurm_{name}"
        found[full] = _value(typed, name, text)
    return found


def _value(typed: str, name: str, text: str) -> Any:
    """UsageError unless the text can be the value of that name."""
    if name in _TRUTHS:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--slurm: {typed} is {shown(text)}; it must be true or false")
        return text.lower() == "true"
    if name == "setup":
        return [text]  # a line of the shell before the work
    if name == "exclusive" and text.lower() == "true":
        return True
    if name not in _WHOLE | _NUMBERS:
        return text
    try:
        number = parse_whole(text) if name in _WHOLE else parse_number(text)
    except ValueError as error:
        raise UsageError(f"--slurm: {typed}: {error}") from None
    least = 0 if name.startswith("gpus") else 1
    if number < least and not (name in _NUMBERS and number > 0):
        raise UsageError(f"--slurm: {typed} is {shown(text)}; it must be {least} or more")
    return number


def executor(args: Any, folder: Path, name: str, flag: str = "--out") -> "AutoExecutor":
    """An executor of submitit for `--launcher` and `--slurm`.

    Args:
        folder: of its files and of what the jobs print; on a cluster it must lie where all machines see it.
        name: of the jobs in the queue, unless --slurm names them.
        flag: what the folder is from, for messages.

    Raises:
        UsageError: as `check_flags`; the folder cannot be written.
    """
    check_flags(args)
    submitit = need_submitit()
    if "%" in str(folder.absolute()):
        raise UsageError(f"{flag}: {folder.absolute()} has a %, which Slurm would read as a number; use another folder")
    make_folder(folder, flag)
    timeouts = {f"{args.launcher}_max_num_timeout": MOST_TIMEOUTS}
    made = submitit.AutoExecutor(folder.absolute(), cluster=args.launcher, **timeouts)
    made.update_parameters(**{"name": name, **parameters(args)})
    return made


class Work:
    """A piece of work that can be sent to another machine, stopped, and gone on with.

    It is called in a job. It must be importable: nothing of it may be defined in the command itself (`__main__`).

    Args:
        start: starts the process that does it, or goes on from what is on disk.
        arguments: what `start` gets.
    """

    def __init__(self, start: Callable[..., Process], *arguments: Any):
        self.start, self.arguments = start, arguments
        self.process: Process | None = None
        self.is_stopping = self.is_told = False  # the job is to end; its process has heard of it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": None, "is_stopping": False, "is_told": False}

    def __call__(self) -> None:
        """Do it, in a job.

        Raises:
            RunError: the process failed.
            SystemExit: the job was told to end; what was done is saved.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stop())
        self.process = self.start(*self.arguments)
        self._wait()
        if self.is_stopping:
            raise SystemExit(STOPPED)
        if self.process.poll() != 0:
            raise RunError(self.process.last_words())

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit asks for when the job's time is up: everything is saved when this returns."""
        self._stop()
        self._wait()
        return need_submitit().helpers.DelayedSubmission(self)

    def _wait(self) -> None:
        while self.process and self.process.poll() is None:
            self._pass_on()
            time.sleep(POLL_SECONDS)

    def _stop(self) -> None:
        self.is_stopping = True
        self._pass_on()

    def _pass_on(self) -> None:
        """Once: a second request would end the process before it is saved."""
        if self.is_stopping and self.process and not self.is_told:
            self.is_told = True
            self.process.stop()


def submit(made: "AutoExecutor", pieces: Sequence[Work]) -> "list[Job[None]]":
    """A job for every piece; on Slurm they are one array, of which `slurm_array_parallelism` run at a time.

    Raises:
        UsageError: Slurm refuses them, with its reason.
    """
    submitit = need_submitit()
    try:
        with _deaf():
            return made.submit_array(list(pieces))
    except submitit.core.utils.FailedJobError as error:
        words = [line for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in words if "error:" in line), words[-1] if words else "no reason given")
        raise UsageError(f"Slurm takes no such job: {one_line(reason)}") from None


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started within the block does not hear Ctrl-C and a closed terminal: its command does, and stops it."""
    numbers = [signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Running:
    """A job as a `Process`: a command can wait for both alike.

    Attributes:
        name: its number in the queue.
        log: what submitit says about it.
    """

    def __init__(self, job: "Job[None]"):
        self.job: Job[None] | None = job
        self.name, self.log = job.job_id, job.paths.stderr
        self.reason: str | None = None
        self.code: int | None = None
        self.is_stopping = False

    def poll(self) -> int | None:
        """None while it runs or waits, 0 if it went well, else 1 or, stopped, 143. Slurm is asked now and then only."""
        if self.job is not None and self.job.done():
            # one that was stopped leaves no result, and submitit would wait for it
            self.reason = None if self.is_stopping else failure(self.job)
            self.code = STOPPED if self.is_stopping else 0 if self.reason is None else 1
            self.job = None  # submitit's complain if they live until Python ends
        return self.code

    def stop(self) -> None:
        self.is_stopping = True
        if self.job is not None:
            stop([self.job])

    def last_words(self) -> str:
        return self.reason or ""


def stop(jobs: "Sequence[Job[None]]") -> None:
    """Ask jobs to save and end; those that have not begun never begin."""
    submitit = need_submitit()
    for job in jobs:
        if isinstance(job, submitit.LocalJob):  # its own `cancel` kills after a second
            if job._process is not None and job._process.poll() is None:
                job._process.send_signal(signal.SIGTERM)
        else:
            job.cancel(check=False)


def failure(job: "Job[None]") -> str | None:
    """Of a job that is done, what went wrong; None if nothing did. The whole story is in `job.paths.stderr`."""
    try:
        error = job.exception()
    except Exception as unknown:  # submitit's, of a job that was killed and left nothing
        error = unknown
    if error is None:
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -=")]
    told = [line for line in lines if line.startswith(f"{RunError.__module__}.{RunError.__name__}: ")]
    return told[-1].partition(": ")[2] if told else "the job ended without a result"


def python(command: Sequence[Any], log: Path) -> Process:
    """For `Work`: a program of Python, given what follows `python`."""
    return Process([*command], log)


def without_flags(argv: Sequence[str] | None, flags: Sequence[str]) -> list[str]:
    """A command line without some of its flags, each of which takes one value."""
    kept, words = [], iter(sys.argv[1:] if argv is None else argv)
    for word in words:
        if word in flags:
            next(words, None)
        elif word.partition("=")[0] not in flags:
            kept.append(word)
    return kept
