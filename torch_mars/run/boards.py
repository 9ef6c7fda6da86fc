"""TensorBoard's curves of a run: a copy of metrics.jsonl, which is not worth a training."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)(.*)")


class Boards:
    """A folder of curves for each seed. Where they cannot be written, this is said once, and training goes on.

    Args:
        folder: of all of them.
        seeds: of the run.
        resumed_at: the step from which on points are drawn anew; None in a new run.
        say: is told when there are no curves any more.
    """

    def __init__(self, folder: Path, seeds: list[int], resumed_at: int | None, say: Callable[[str], None]):
        from torch.utils.tensorboard import SummaryWriter  # a second of start-up that --help should not pay

        self.say, self.writers = say, {}
        self._excepthook, threading.excepthook = threading.excepthook, self._quiet
        with self._as_far_as_possible():
            for seed in seeds:
                place = folder / f"seed_{seed}"
                if resumed_at is not None:
                    _put_before_now(place)
                self.writers[seed] = SummaryWriter(place, purge_step=resumed_at)

    def add(self, seed: int, name: str, value: float, step: int) -> None:
        with self._as_far_as_possible():
            if self.writers:
                self.writers[seed].add_scalar(name, value, step)

    def flush(self) -> None:
        with self._as_far_as_possible():
            for writer in self.writers.values():
                writer.flush()

    def close(self) -> None:
        with self._as_far_as_possible():
            for writer in self.writers.values():
                writer.close()
        if threading.excepthook == self._quiet:
            threading.excepthook = self._excepthook

    @contextlib.contextmanager
    def _as_far_as_possible(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of the system, or whatever the writer makes of it
            given_up, self.writers = self.writers, {}
            for writer in given_up.values():
                with contextlib.suppress(Exception):
                    writer.close()
            reason = getattr(error, "strerror", None) or error
            self.say(f"TensorBoard's curves cannot be written any more ({reason}); metrics.jsonl goes on")

    def _quiet(self, about: Any) -> None:
        """A writer's thread hands its errors on to the next call: they need not be printed, too."""
        if type(about.thread).__module__.startswith("tensorboard."):
            return
        self._excepthook(about)


def _put_before_now(folder: Path) -> None:
    """Rename earlier files where the clock was set back: TensorBoard reads files in the order of their times."""
    found = sorted((match for path in folder.glob("*") if (match := _EVENTS.fullmatch(path.name))), key=lambda m: m[0])
    now = int(time.time())
    if found and int(found[-1][1]) >= now:
        for i, match in enumerate(found):
            earlier = f"events.out.tfevents.{now - len(found) + i:010d}{match[2]}"
            (folder / match[0]).rename(folder / earlier)
