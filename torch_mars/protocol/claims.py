"""Who trains what, where several commands on one machine or many work on the same grid: a claim for every seed.

A claim is a lock file in the folder that they share. It ends with the process that holds it, however that happens.
"""

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch_mars.run.files import Held, hold, is_held, let_go

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Claim:
    """The right to train some seeds, until it is released."""

    def __init__(self, seeds: Sequence[int], locks: "list[BaseFileLock]"):
        self.seeds, self.locks = seeds, locks

    def release(self) -> None:
        for lock in self.locks:
            let_go(lock)
        self.locks = []


class Claims:
    """The claims in a folder.

    Args:
        folder: is made with the first claim.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def take(self, key: str, seeds: Sequence[int]) -> Claim | None:
        """Of what `key` names, all of these seeds or none: None where somebody has one of them.

        Raises:
            RunError: there can be no locks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        claim = Claim(seeds, [])
        try:
            for seed in seeds:
                path = self._path(key, seed)
                claim.locks.append(hold(path, f"training seed {seed}"))
                path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        except Held:
            claim.release()
            return None
        except BaseException:
            claim.release()
            raise
        return claim

    def is_taken(self, key: str, seed: int) -> bool:
        return is_held(self._path(key, seed))

    def holder(self, key: str, seed: int) -> str | None:
        """`process 123 on some-machine`, which trains the seed; None if nobody does."""
        path = self._path(key, seed)
        if not is_held(path):
            return None
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return path.read_text() or "somebody"
        return "somebody"

    def _path(self, key: str, seed: int) -> Path:
        return self.folder / f"{key}-{seed}.lock"
