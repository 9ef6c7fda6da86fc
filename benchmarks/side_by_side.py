"""What the benchmarks share: two programs measured fairly on one machine, and the facts of that machine.

Threads of a library wait for their next work by spinning, a little while at least, and torch and JAX each bring a pool
as large as the machine: within one process, or in two at the same time, each would slow the other down. Here each has a
process of its own, and while one has its turn the other waits for a message, asleep. Turns alternate, so that a
drifting machine slows both alike, and what counts is the median ratio of turns that followed one another.

Whatever bounds the processes bounds both sides alike, e.g. `taskset -c 0,1 python benchmarks/...`.
"""

import contextlib
import datetime
import importlib.util
import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


class Player:
    """One side: a process in which `make(*arguments)` is called once, and what it returned at every turn.

    Args:
        make: a function of a module. It imports torch or JAX inside, so that the other side has nothing of it.
    """

    def __init__(self, make: Callable[..., Callable], *arguments: Any):
        context = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def turn(self, *arguments: Any) -> Any:
        """SystemExit if the process died; it has said why."""
        try:
            self._pipe.send(arguments)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise SystemExit("one side of the benchmark failed: its error is above") from None

    def end(self) -> None:
        self._pipe.close()
        self._process.join()


def _play(pipe: Any, make: Callable[..., Callable], arguments: tuple) -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is the other side's, too
    try:
        turn = make(*arguments)
        while True:
            pipe.send(turn(*pipe.recv()))
    except (EOFError, KeyboardInterrupt):
        return


def alternate(players: Sequence[Player], rounds: int, *arguments: Any) -> list[list]:
    """For every player the answers of `rounds` turns, after one more that warmed up (and compiled)."""
    answers = [[player.turn(*arguments) for player in players] for _ in range(1 + rounds)]
    return [list(one) for one in zip(*answers[1:])]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Over the pairs of turns that followed one another."""
    return statistics.median(a / b for a, b in zip(numerators, denominators))


def seconds_per_call(call: Callable[[], Any], seconds: float) -> float:
    """Mean over as many calls, one at least, as take about `seconds`."""
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / calls


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Meanwhile `count` other programs each keep one core busy, of those that this process may use the last ones."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("--neighbours needs a system on which a process can be bound to a core, such as Linux")
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_keep_busy, args=(cores[-1 - i % len(cores)],), daemon=True) for i in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def _keep_busy(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        sum(range(10**6))


def use_jax_on(device: str) -> None:
    """To be called before JAX is imported; device as torch names it."""
    os.environ["JAX_PLATFORMS"] = "cuda" if device.startswith("cuda") else device


# ---- the machine, and the file of results ----


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def facts(device: str) -> dict[str, Any]:
    """Of the machine and of what is installed, for the head of a table."""
    packages = [name for name in ("torch", "jax", "jaxmarl") if is_installed(name)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "cpu": _cpu_model(),
        "cores": cores,
        "device": _gpu_model() if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def print_facts(machine: dict[str, Any]) -> None:
    print("; ".join(f"{name} {value}" for name, value in machine.items()), flush=True)


def write_json(path: Path | None, machine: dict[str, Any], rows: list[dict]) -> None:
    """Machine and rows; nothing without a path."""
    if path:
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        unfinished.replace(path)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def _gpu_model() -> str:
    import torch

    return torch.cuda.get_device_name()
