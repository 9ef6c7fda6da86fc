"""TensorBoard: a folder of curves for each seed in the run's folder, so that seeds are curves of one chart."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_mars.run.tracker import About, Tracker

_EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)(.*)")
_COMPARED = "evaluation/episode_return"  # beside the settings in the table of runs (HParams)


class TensorBoard(Tracker):
    """Curves, settings (HParams) and films (Images)."""

    title, is_remote = "TensorBoard", False

    def __init__(self) -> None:
        self.writers: dict[int, Any] = {}
        self._excepthook, threading.excepthook = threading.excepthook, self._quiet

    def begin(self, about: About, known: dict[str, str], say: Callable[[str], None]) -> dict[str, str]:
        from torch.utils.tensorboard import SummaryWriter  # a second of start-up that --help should not pay

        for seed in about.seeds:
            place = about.folder / "tensorboard" / f"seed_{seed}"
            if about.resumed_at is not None:
                _put_before_now(place)
            self.writers[seed] = SummaryWriter(place, purge_step=about.resumed_at)
            self._show_settings(self.writers[seed], {**about.settings, "seed": seed})
        return {}

    @staticmethod
    def _show_settings(writer: Any, settings: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        shown = {name: "" if value is None else value for name, value in settings.items()}
        for summary in hparams(shown, {_COMPARED: 0.0}):
            writer.file_writer.add_summary(summary)

    def add(self, seed: int, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writers[seed].add_scalar(name, value, step)

    def film(self, seed: int, path: Path, step: int) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as picture:
            width, height = picture.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self.writers[seed].file_writer.add_summary(Summary(value=[Summary.Value(tag="film", image=image)]), step)

    def flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()

    def end(self) -> None:
        with contextlib.ExitStack() as every_one:  # also where closing another one fails
            for writer in self.writers.values():
                every_one.callback(writer.close)
            if threading.excepthook == self._quiet:
                threading.excepthook = self._excepthook

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
