"""Where a run's numbers and films are shown besides its own files: TensorBoard always, other trackers with `--track`.

What a tracker shows is a copy of `metrics.jsonl`, which is not worth a training. One that fails is given up, this is
said once, and training goes on. One behind a network works in a thread of its own, so that nobody waits for it.

A further tracker is a subclass of `tracker.Tracker`, and a line in `KINDS`.
"""

import contextlib
import importlib.util
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_mars.envs.options import allowed, shown
from torch_mars.run import boards, services
from torch_mars.run.cli import UsageError
from torch_mars.run.files import write_whole
from torch_mars.run.tracker import About, Tracker

# by the names of their packages, which `--track` has, too
KINDS: dict[str, type[Tracker]] = {
    "tensorboard": boards.TensorBoard,
    "wandb": services.Wandb,
    "mlflow": services.Mlflow,
}
IDENTITIES = "trackers.json"  # in a run's folder: by what names services know its seeds
PATIENCE = 30.0  # s that a run waits at its end for a tracker behind a network


def chosen(text: str) -> list[str]:
    """The trackers that `--track` asks for besides TensorBoard, such as "wandb" or "wandb,mlflow".

    Raises:
        UsageError: there is no such tracker, or its package is not installed.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--track is {shown(text)}; {allowed(name, KINDS)} (several: wandb,mlflow)")
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name is no package
            raise UsageError(f'--track {name} needs the package {name}: pip install "torch_mars[track]"')
    return [name for name in dict.fromkeys(names) if name != "tensorboard"]


class Trackers:
    """All trackers of a run: the one hook through which numbers reach them.

    Args:
        names: of those besides TensorBoard.
        about: the run.
        say: shows the user a sentence.
    """

    def __init__(self, names: list[str], about: About, say: Callable[[str], None]):
        identities = _Identities(about.folder / IDENTITIES)
        self.all = [_Careful(KINDS[name](), name, about, identities, say) for name in ("tensorboard", *names)]

    def add(self, seed: int, values: dict[str, float], step: int) -> None:
        for tracker in self.all:
            tracker.call("add", seed, values, step)

    def film(self, seed: int, path: Path, step: int) -> None:
        for tracker in self.all:
            tracker.call("film", seed, path, step)

    def flush(self) -> None:
        for tracker in self.all:
            tracker.call("flush")

    def close(self) -> None:
        for tracker in self.all:
            tracker.call("end")
        for tracker in self.all:
            tracker.wait()


class _Identities:
    """The names by which services know a run's seeds, in a file of the run: curves go on when it is resumed."""

    def __init__(self, path: Path):
        self.path, self.lock = path, threading.Lock()

    def of(self, name: str) -> dict[str, str]:
        """What is kept for a tracker; nothing where the file is gone or damaged: then its curves begin anew."""
        kept = self._read().get(name)
        is_good = isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values())
        return kept if is_good else {}

    def keep(self, name: str, identities: dict[str, str]) -> None:
        with self.lock:
            if identities and identities != self.of(name):
                write_whole(self.path, json.dumps({**self._read(), name: identities}, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


class _Careful:
    """A tracker whose failures cost nothing but itself."""

    def __init__(self, tracker: Tracker, name: str, about: About, identities: _Identities, say: Callable[[str], None]):
        self.tracker, self.say, self.has_failed = tracker, say, False
        self.thread, self.calls = None, queue.SimpleQueue()
        if tracker.is_remote:
            self.thread = threading.Thread(target=self._work, name=name, daemon=True)
            self.thread.start()
        self._do(lambda: identities.keep(name, tracker.begin(about, identities.of(name), say)))

    def call(self, method: str, *arguments: Any) -> None:
        self._do(lambda: getattr(self.tracker, method)(*arguments))

    def wait(self) -> None:
        """After `end`: until it has shown all that it was given, or for as long as a user has patience."""
        if self.thread is None:
            return
        self.calls.put(None)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            self.has_failed = True
            self.say(f"{self.tracker.title} has not taken everything within {PATIENCE:.0f} s; metrics.jsonl has it all")

    def _do(self, call: Callable[[], None]) -> None:
        if self.thread is None:
            self._try(call)
        else:
            self.calls.put(call)

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            self._try(call)

    def _try(self, call: Callable[[], None]) -> None:
        if self.has_failed:
            return
        try:
            call()
        except Exception as error:  # of the system, the network, or whatever its package makes of it
            if self.has_failed:  # nobody waits for it any more, and this was said
                return
            self.has_failed = True
            with contextlib.suppress(Exception):
                self.tracker.end()
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:300] or type(error).__name__
            self.say(f"{self.tracker.title}'s curves cannot be written any more ({reason}); metrics.jsonl goes on")
