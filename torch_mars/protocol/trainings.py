"""Trainings that another command starts: how long and with which settings, each as a process of its own.

A training is a lesson's own command with a settings file; what goes wrong in it harms nobody else. It
ends in good order (saved, resumable) when its command is stopped and, on Linux, also when that is killed; elsewhere it
trains to its end, and the lock of its run keeps others away until then.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from torch_mars import envs
from torch_mars.protocol import methods
from torch_mars.protocol.methods import Method
from torch_mars.run import settings as run_settings
from torch_mars.run.cli import Parser, UsageError, lesson_command
from torch_mars.run.files import hold, write_whole
from torch_mars.run.screen import STDERR, say, stop_signals
from torch_mars.run.settings import typed_task
from torch_mars.run.yamls import read_yaml

# Environment steps of one run (the paper's D.5): tuning and final, more where learning takes longer (`envs.budget`).
TUNING_STEPS, FINAL_STEPS = 40_000_000, 80_000_000
BUDGETS = ("paper", "quick", "smoke")  # as in the paper, a twentieth of it, a few updates to see that all works
DEFAULT = "default"  # of `experiment`: as many steps as the settings have
QUICK = 20
SMOKE = {"num_envs": 4, "rollout_length": 32, "hidden_size": 16, "eval_episodes": 2, "total_steps": 1024}

LOCK_PATIENCE = 60.0  # seconds: as long as a training may take to save itself after its command was killed
# what tells a process which rank it is: a training that is started by one of them is a run of its own
OF_A_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def preset_of(preset: str | None, budget: str) -> str:
    """The one that was asked for; else the paper's for the paper's budget, and ours for shorter ones."""
    return preset or ("paper" if budget == "paper" else "ours")


def add_preset(parser: Parser) -> None:
    parser.add_argument(
        "--preset",
        choices=run_settings.PRESETS,
        help="settings of training: what the paper fixes, with Mava's defaults where it is silent, or ours in yaml/ "
        "(default: paper with --budget paper, else ours)",
    )


def budget_settings(task: str, budget: str, steps: int) -> dict[str, Any]:
    """What a budget fixes for a task, from the paper's `steps` (TUNING_STEPS or FINAL_STEPS)."""
    if budget == DEFAULT:
        return {}
    if budget == "smoke":
        return dict(SMOKE)
    steps *= envs.budget(task)
    return {"total_steps": steps // (QUICK if budget == "quick" else 1)}


def startable(text: str, flag: str, others: Sequence[str] = ()) -> envs.Task:
    """The task that somebody typed, if other processes can make it, too.

    Args:
        others: names that the flag takes besides.

    Raises:
        UsageError: there is no such task, or it is known to this process only.
    """
    task = typed_task(text, flag, others)
    if task.own and task.own.__module__ == "__main__":
        raise UsageError(f"{flag}: task {text!r} is of this process alone; put it into a module: my_module:{text}")
    return task


def resolve(method: Method, settings: dict[str, Any]) -> Any:
    """The lesson's checked `Args` for these settings.

    Raises:
        UsageError: they cannot be trained with, or are those of another method.
    """
    try:
        args = run_settings.resolve(method.args, method.module.ratio_range, method.algorithm, settings)
    except ValueError as error:
        raise UsageError(str(error)) from None
    other = methods.of_run(method.algorithm, dataclasses.asdict(args))
    if other is not method:
        raise UsageError(f"with these settings {method.label} is another method, {other.label}; leave them to it")
    return args


def settings_file(path: str | None, method: Method) -> dict[str, Any]:
    """Settings from a yaml file for the method's lesson, {} without one."""
    return run_settings.convert(method.args, read_yaml(Path(path)), path) if path else {}


class Process:
    """A program of Python in a process of its own, which writes to a log.

    Args:
        command: what follows `python`.
        log: file that gets what it prints.
        environment: variables besides those of this process.
    """

    def __init__(self, command: Sequence[Any], log: Path, environment: Mapping[str, str] = MappingProxyType({})):
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if name not in OF_A_LAUNCHER}
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**inherited, **environment},
                start_new_session=True,  # Ctrl-C is for the command, which passes it on once
                preexec_fn=_stop_with_parent if _LIBC else None,
            )  # fmt: skip

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to save and end; a second time: to end at once."""
        if self.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """The last line it printed: of one that failed, the reason."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        code = self.process.returncode
        ending = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        return lines[-1] if lines and not (code and code < 0) else ending


class Training(Process):
    """A lesson in a process of its own, writing to a log. It takes the lock of its run itself.

    Args:
        method: whose lesson it is.
        task: as it can be typed: only what stands on a command line may be of a user's own.
        arguments: its command line besides.
        log: file that gets what it prints.
        threads: of PyTorch on the CPU; None: as many as the user says, or all.
        environment: variables of its process, besides those of this one.
    """

    def __init__(
        self, method: Method, task: str, arguments: Sequence[Any], log: Path, threads: int | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ):  # fmt: skip
        own = ["--env", task] if ":" in task else []
        environment = {**environment, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
        super().__init__([*lesson_command(method.module), *arguments, *own], log, environment)


def _stop_with_parent() -> None:
    """In the new process: be asked to end when the command dies, even of SIGKILL.

    What a cluster sends to a whole job before its time is up is for the job alone (`launchers`).
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def write_settings(path: Path, settings: dict[str, Any], heading: str = "") -> None:
    """A yaml file that `--config` of a lesson takes."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    write_whole(path, (comment + yaml.safe_dump(settings, sort_keys=False)).encode())


def threads_each(workers: int) -> int | None:
    """Threads for each of so many trainings at a time: of the cores that this process may use, and not more than the
    user set; None for a single one, which takes what there is."""
    if workers == 1:
        return None
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, may_use // workers)
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


@contextlib.contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file within the block; waits a minute for another's to end.

    Raises:
        RunError: another process keeps it.
    """
    lock = hold(path, f"working on {what}", LOCK_PATIENCE)
    try:
        yield
    finally:
        lock.release()


class StopSignals:
    """Within the block, requests to stop are passed on to the trainings that run instead of ending the command."""

    def __init__(self) -> None:
        self.trainings: list[Process] = []
        self.is_stopping = False

    def __enter__(self) -> "StopSignals":
        self.handlers = stop_signals(self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        words = "trainings end at once" if self.is_stopping else "trainings are being saved; once more: now"
        self.is_stopping = True
        say(f"\nstopping: {words}", STDERR)
        for training in self.trainings:
            training.stop()
