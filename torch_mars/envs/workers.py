"""The processes that make the steps of foreign environments (`foreign_worker.py`), from their owner's side.

What is seen and done lies in memory that all share; one round trip moves all copies of a process. Nobody outlives the
owner: a process ends when it lets go of it, however that ends.
"""

import contextlib
import io
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars.envs.foreign_worker import ANSWER, DONE, DRAW, RESET, STEP, shared_arrays

PROGRAM = Path(__file__).with_name("foreign_worker.py")
PATIENCE = 2.0  # s that processes are given to close their environments
# so that windows and sound are not looked for, and no process takes all cores for itself
QUIET = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ForeignError(RuntimeError):
    """An environment that is not of this package failed: one sentence that names it."""


class Process:
    """One of them. The sides of its pipe are this process's alone: where they close, it ends."""

    def __init__(self, job: dict[str, Any], memory: int | None = None):
        """Start it, without waiting for it. `memory`: file that it shares."""
        self.popen = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **QUIET, **ONE_THREAD},
            pass_fds=[] if memory is None else [memory],
            start_new_session=True,  # Ctrl-C and a closed terminal are for the owner
        )
        self.answers = io.BufferedReader(self.popen.stdout)
        with contextlib.suppress(BrokenPipeError):  # it has died: `receive` says so
            self.send(pickle.dumps({"path": sys.path, "process": os.getpid()}) + pickle.dumps(job))

    def send(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[self.popen.stdin.write(view) :]

    def receive(self) -> bytes:
        """The answer to what was sent.

        Raises:
            ForeignError: what went wrong over there.
        """
        head = self.answers.read(ANSWER.size)
        if len(head) < ANSWER.size:
            raise ForeignError(f"one of its processes {self._end()}")
        kind, size = ANSWER.unpack(head)
        content = self.answers.read(size)
        if kind != DONE:
            raise ForeignError(content.decode(errors="replace"))
        return content

    def _end(self) -> str:
        code = self.popen.wait(PATIENCE)
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def let_go(self) -> None:
        with contextlib.suppress(OSError):
            self.popen.stdin.close()

    def end(self, deadline: float) -> None:
        """Wait for its end until `deadline`, then see to it."""
        try:
            self.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.answers.close()


class Workers:
    """Processes for B copies of a foreign environment, which share `arrays` [B, ...] by name.

    Args:
        count: of processes, at most B.
        fields: name, dtype and shape [B, ...] of each array; "wanted" (bool [B]) is one of them.
        job: what `foreign_worker.Worker` needs besides.

    Raises:
        ForeignError: a copy cannot be made.
    """

    def __init__(self, count: int, fields: list[tuple[str, str, tuple[int, ...]]], job: dict[str, Any]):
        copies = fields[0][2][0]
        self.firsts = np.array([copies * i // count for i in range(count + 1)])
        _, size = shared_arrays(None, fields)
        with _memory(size) as file:
            self.arrays, _ = shared_arrays(mmap.mmap(file.fileno(), size), fields)
            job = {**job, "fields": fields, "memory": file.fileno(), "size": size}
            parts = zip(self.firsts[:-1].tolist(), self.firsts[1:].tolist())
            self.processes = [Process({**job, "first": a, "last": b}, file.fileno()) for a, b in parts]
            self.locks = [threading.Lock() for _ in self.processes]
            self.is_open = True
            self._finalizer = weakref.finalize(self, _end, self.processes, os.getpid())
            try:
                for process in self.processes:
                    process.receive()
            except BaseException:
                self.close()
                raise

    def reset(self, rows: np.ndarray) -> None:
        """New episodes in the copies `rows`, of the seeds in the arrays."""
        self._have(RESET, rows)

    def step(self, rows: np.ndarray) -> None:
        """One step of the copies `rows`, by the actions in the arrays."""
        self._have(STEP, rows)

    def picture(self) -> np.ndarray:
        """Of the first copy: uint8 [H, W, 3]."""
        return pickle.loads(self._have(DRAW, np.zeros(1, np.int64)))

    def close(self) -> None:
        """End all processes."""
        self.is_open = False
        self._finalizer()

    def _have(self, command: bytes, rows: np.ndarray) -> bytes:
        """Have the copies `rows` do something: one round trip for each process. The first one's answer.

        Several threads may ask at once, for different rows.

        Raises:
            ForeignError: a copy failed, or a process died. All are ended then: they may stand anywhere.
        """
        asked = np.unique(np.searchsorted(self.firsts, rows, side="right") - 1).tolist()
        with contextlib.ExitStack() as held:
            for i in asked:  # always in this order, so that nobody waits for each other
                held.enter_context(self.locks[i])
            if not self.is_open:
                raise ForeignError("its processes have been ended: call reset() first")
            for i in asked:
                self.arrays["wanted"][self.firsts[i] : self.firsts[i + 1]] = False
            self.arrays["wanted"][rows] = True
            try:
                for i in asked:
                    with contextlib.suppress(BrokenPipeError):  # `receive` says what became of it
                        self.processes[i].send(command)
                return [self.processes[i].receive() for i in asked][0]
            except BaseException:  # Ctrl-C, too: an answer that nobody took would be taken for the next
                self.close()
                raise


def ask(job: dict[str, Any]) -> bytes:
    """What a process of its own finds out about a foreign environment.

    Raises:
        ForeignError: it could not.
    """
    process = Process(job)
    try:
        return process.receive()
    finally:
        process.let_go()
        process.end(time.monotonic() + PATIENCE)


def _memory(size: int) -> Any:
    """A file without a name, of `size` bytes that are there for sure; in memory, where there is room."""
    for folder in ("/dev/shm", None):
        with contextlib.suppress(OSError):
            file = tempfile.TemporaryFile(dir=folder)
            _reserve(file.fileno(), size)
            return file
    raise ForeignError(f"there is no room for the {size:,} bytes that its processes share")


_reserve: Callable[[int, int], None] = (
    (lambda file, size: os.posix_fallocate(file, 0, size)) if hasattr(os, "posix_fallocate") else os.ftruncate
)


def _end(processes: list[Process], owner: int) -> None:
    """Let go of all, and wait for them a little."""
    if os.getpid() != owner:  # a fork of the owner has no children of this kind
        return
    for process in processes:
        process.let_go()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.end(deadline)
