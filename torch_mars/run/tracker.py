"""What a tracker is. Those that there are: `boards.py` and `services.py`; the hook to them: `trackers.py`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run.

    Attributes:
        settings: name -> number, text, truth value or None.
        resumed_at: the step from which on points come anew; None in a new run.
    """

    folder: Path
    task: str
    algorithm: str
    seeds: list[int]
    settings: dict[str, Any]
    resumed_at: int | None


class Tracker(ABC):
    """Something that shows runs. Every method may raise what it likes: then the tracker is given up.

    Attributes:
        title: as users know it.
        is_remote: whether it may wait for a network: then it works in a thread of its own.
    """

    title: str
    is_remote: bool = True

    @abstractmethod
    def begin(self, about: About, known: dict[str, str], say: Callable[[str], None]) -> dict[str, str]:
        """Before anything else.

        Args:
            known: what it returned when the run began, if this is a resumed one.
            say: shows the user a sentence.

        Returns:
            seed, as text -> the name under which a service goes on with its curves.
        """

    @abstractmethod
    def add(self, seed: int, values: dict[str, float], step: int) -> None:
        """Points of a seed's curves, after so many environment steps."""

    @abstractmethod
    def film(self, seed: int, path: Path, step: int) -> None:
        """A .gif, written already, of what a seed's policy does."""

    @abstractmethod
    def flush(self) -> None:
        """A checkpoint is about to be written: what was added so far should be safe."""

    @abstractmethod
    def end(self) -> None:
        """No more will come."""
