"""What a run knows of the processes that train it together, the ranks: here of one alone, in `nn.world` of several.

A launcher such as torchrun tells every process in its environment which rank it is.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_mars import envs

MARK = ".launch"  # in a run's folder: which launch began it


@dataclass(frozen=True)
class Place:
    """Which process of how many this one is, over all machines and on this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place | None:
    """What a launcher says in the environment; None where there is none, or what it says cannot be."""
    found = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if not all(text.isdecimal() for text in found) or not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    rank, size = map(int, found)
    local = [os.environ.get(name, "") for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    local_rank, local_size = map(int, local) if all(text.isdecimal() for text in local) else (rank, size)
    return Place(rank, size, local_rank, local_size) if rank < size else None


def is_first() -> bool:
    """Whether this process speaks for all: rank 0, or one alone."""
    found = place()
    return found is None or found.rank == 0


# ---- a launch that begins again ----


def launch() -> str | None:
    """A name that torchrun's restarts have in common, and nothing else has; None where there is no such name."""
    name, found = os.environ.get("TORCHELASTIC_RUN_ID"), place()
    if name is None or found is None:
        return None
    if name != "none":  # what torchrun says without --rdzv-id and --standalone
        return name
    return f"{socket.gethostname()}-{os.getppid()}" if found.local_size == found.size else None


def restarted(run_dir: str, task: str, algorithm: str) -> Path | None:
    """The folder of the run to go on with, where torchrun has started its processes again; None for a first start."""
    name = launch()
    if name is None or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    marks = (Path(run_dir) / envs.folder_name(task) / algorithm).glob(f"*/{MARK}")
    # the latest alone, as a name that the user chose may have been that of launches before; names begin with the time
    latest = max((mark.parent for mark in marks if _says(mark, name)), default=None)
    return latest if latest and (latest / "checkpoint.pt").exists() else None


def _says(mark: Path, name: str) -> bool:
    """Whether a launch of that name left the mark, which may be damaged, or gone by now."""
    try:
        return mark.read_bytes() == name.encode()
    except OSError:
        return False


# ---- the ranks of a run ----


class Ranks:
    """One process alone. `nn.world.World` has the same methods for several, which all must call them."""

    place = Place()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and speaks."""
        return self.place.rank == 0

    def agreed(self, *flags: bool) -> list[bool]:
        """Of each flag whether it is set on any rank."""
        return list(flags)

    def collected(self, own: Any) -> list[Any]:
        """What every rank has, in their order."""
        return [own]

    def gathered(self, own: Any) -> list[Any] | None:
        """The same on rank 0; None on the others, to which it would be too much."""
        return [own]

    def rows(self, seeds: int, columns: int) -> Tensor:
        """Of `seeds` x `columns` environments the numbers of those that are this rank's: a block of every seed's."""
        own = columns // self.place.size
        first = self.place.rank * own
        return torch.arange(seeds * columns).view(seeds, columns)[:, first : first + own].flatten()


class Whole:
    """A part of a training of which every rank has some of the environments: saved as one, given back to each.

    Args:
        part: has `state_dict` and `load_state`, or `load_state_dict`.
        ranks: who has it.
        seeds: P.
        axis: of the tensors, along which environments lie: 0 for [P * B, ...], 1 for [P, B, ...].
    """

    def __init__(self, part: Any, ranks: Ranks, seeds: int, axis: int):
        self.part, self.ranks, self.seeds, self.axis = part, ranks, seeds, axis

    def state_dict(self) -> dict[str, Tensor]:
        """On rank 0 of all environments, on the CPU where there are several ranks; on the others without numbers."""
        own = self.part.state_dict()
        if self.ranks.place.size == 1:
            return own
        of_ranks = self.ranks.gathered({name: self._seeds_first(x).cpu() for name, x in own.items()})
        if of_ranks is None:
            of_ranks = [{name: self._seeds_first(x).to("meta") for name, x in own.items()}] * self.ranks.place.size
        whole = {name: torch.cat([of_rank[name] for of_rank in of_ranks], 1) for name in own}
        return {name: x.flatten(0, 1) if self.axis == 0 else x for name, x in whole.items()}

    def load_state_dict(self, content: dict[str, Tensor]) -> None:
        """Take this rank's environments of what `state_dict` said of all."""
        if self.ranks.place.size > 1:
            content = {name: self._own(x) for name, x in content.items()}
        load = self.part.load_state if hasattr(self.part, "load_state") else self.part.load_state_dict
        load(content)

    def _seeds_first(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (self.seeds, -1)) if self.axis == 0 else x

    def _own(self, x: Tensor) -> Tensor:
        whole = self._seeds_first(x)
        rows = self.ranks.rows(self.seeds, whole.shape[1])
        own = whole.flatten(0, 1)[rows]
        return own if self.axis == 0 else own.unflatten(0, (self.seeds, -1))
