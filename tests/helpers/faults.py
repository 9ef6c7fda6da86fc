"""Trainings in children of the test's process, and what can happen to them: kills, power cuts, full disks.

A fork costs milliseconds where a new Python with PyTorch takes seconds, so hundreds of accidents fit into a minute.
"""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from torch_mars.run import metrics

TINY = "--env paxmen_4a --num-envs 2 --rollout-length 16 --hidden-size 8 --eval-episodes 2 --device cpu"
STEPS = 32  # of one update with these settings


def in_child(work: Callable[[], int | None], out: Path | None = None, kill_after: float | None = None) -> int:
    """Run `work` in a child; its exit code, or minus the signal that ended it.

    Args:
        out: file for what it prints; None: nothing is kept.
        kill_after: seconds until it is killed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            target = os.open(out or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
            code = work() or 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def assert_same(one, other, place=""):
    """Checkpoints that are equal to the bit, but for clocks and the folders that they name."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_same(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for i in range(len(one)):
            assert_same(one[i], other[i], f"{place}.{i}")
    elif not place.endswith(("seconds", "run_dir")):
        assert one == other, place


class Disk:
    """Counts what a run asks of its disk (writes, syncs, renames) and ends its process at one of them.

    Args:
        fatal: the number of the event that is the last; None: none is.
        is_power_cut: whether what was not synced by then is lost, too: bytes behind the last sync of a file, and names
            whose folder was not synced after a rename.
    """

    def __init__(self, fatal: int | None = None, is_power_cut: bool = False):
        self.count, self.fatal, self.is_power_cut = 0, fatal, is_power_cut
        self.sizes: dict[str, int] = {}  # of files that were synced
        self.replaced: dict[str, bytes | None] = {}  # target -> what it was, until its folder is synced
        self.real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def attach(self) -> None:
        """To this process, for good."""
        os.fsync, os.replace, os.unlink = self.fsync, self.replace, self.unlink
        append = metrics.Log.append

        def log_append(log: metrics.Log, record: dict) -> None:
            if self.count + 1 == self.fatal:  # in the middle of a line
                log.file.write(metrics.encoded([record])[: random.Random(self.count).randint(1, 40)])
                log.file.flush()
            self.event()
            append(log, record)

        metrics.Log.append = log_append

    def event(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            if self.is_power_cut:
                self.forget()
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(self, descriptor: int) -> None:
        self.event()
        self.real["fsync"](descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            self.replaced = {target: old for target, old in self.replaced.items() if os.path.dirname(target) != path}
        else:
            self.sizes[path] = os.fstat(descriptor).st_size

    def replace(self, source: Path, target: Path) -> None:
        self.event()
        path = os.path.realpath(target)
        if path not in self.replaced:
            self.replaced[path] = Path(path).read_bytes() if os.path.exists(path) else None
        self.real["replace"](source, target)
        self.sizes[path] = self.sizes.pop(os.path.realpath(source), 0)
        self.event()

    def unlink(self, path: Path) -> None:
        self.event()
        self.real["unlink"](path)

    def forget(self) -> None:
        """What a power cut does to the files of a run."""
        for target, old in self.replaced.items():
            if old is None:
                Path(target).unlink(missing_ok=True)
            else:
                Path(target).write_bytes(old)
        for path in {*self.sizes, *map(str, metrics_files())}:
            if os.path.exists(path) and path not in self.replaced:
                os.truncate(path, min(os.path.getsize(path), self.sizes.get(path, 0)))


def metrics_files() -> list[str]:
    """Files that this process has open to add to: of metrics.jsonl and of TensorBoard."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.endswith(metrics.METRICS):
                found.append(path)
    return found
