"""Several processes (ranks) that train one run: each with its part of the environments, all with the same weights.

    torchrun --nproc-per-node 2 torch_mars/algos/mars.py --env paxmen_5a

Every rank collects and learns from its own environments; gradients, and the statistics of advantages, are means over
all ranks, so that every rank takes the same step. Alone, the functions here do nothing, and say so in no time.

Random numbers are drawn as if there were one process, and each rank takes its own: environment i and its agents do the
same, whatever the number of ranks, until the weights differ. Minibatches do not: each is made of rows of every rank.
"""

import dataclasses
import hashlib
import inspect
import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from torch_mars.envs import rng
from torch_mars.run import screen, settings
from torch_mars.run.cli import RunError, UsageError, shown
from torch_mars.run.ranks import Ranks, place

PATIENCE = timedelta(minutes=5)  # for the ranks to find each other
TOLD = "told"  # in the store that the ranks share: how many have seen a failure


# ---- for what is computed ----


def is_alone() -> bool:
    """Whether this process trains by itself, or at least nobody said otherwise."""
    return not (dist.is_available() and dist.is_initialized())


def size() -> int:
    return 1 if is_alone() else dist.get_world_size()


def rank() -> int:
    return 0 if is_alone() else dist.get_rank()


def sum_(x: Tensor) -> Tensor:
    """x itself, which now is the sum over all ranks. Alone: as it was."""
    if not is_alone():
        _together(dist.all_reduce, x)
    return x


def mean_(x: Tensor) -> Tensor:
    """x itself, which now is the mean over all ranks. Alone: as it was."""
    return x if is_alone() else sum_(x).div_(size())


def stacked(x: Tensor) -> Tensor:
    """Of every rank, [size, *x.shape]."""
    if is_alone():
        return x[None]
    found = x.new_empty(size(), *x.shape)
    _together(dist.all_gather, list(found), x.contiguous())
    return found


def drawn(
    draw: Callable[[Tensor, int], tuple[Tensor, Tensor]], key: Tensor, *shape: int, axis: int = 0
) -> tuple[Tensor, Tensor]:
    """Random numbers [P, *shape] of this rank behind keys [P], and the keys moved past the numbers of all ranks.

    All ranks together draw `size` times as many along `axis` of the shape, of which each takes a block.

    Args:
        draw: of `envs.rng`: from keys and a count to numbers [..., count] and the keys moved on.
    """
    if is_alone():
        numbers, key = draw(key, math.prod(shape))
    else:
        block, count = math.prod(shape[axis:]), math.prod(shape[:axis])
        before = (torch.arange(count, device=key.device) * size() + rank()) * block
        numbers, _ = draw(rng.skipped(key[:, None], before), block)
        key = rng.skipped(key, count * size() * block)
    return numbers.view(len(key), *shape), key


def _together(collective: Callable, *arguments: Any) -> Any:
    """What all ranks do at once. Where one of them is gone, the others end."""
    try:
        return collective(*arguments)
    except RuntimeError as error:
        is_of_network = isinstance(error, dist.DistBackendError | dist.DistNetworkError | dist.DistStoreError)
        if not is_of_network and "gloo/transport" not in str(error) and "Connection" not in str(error):
            raise
        screen.ignore_end()  # torchrun ends the others soon: what is said and saved comes first
        raise Lost(" ".join(str(error).split()).split(". ")[0]) from None


class Lost(Exception):
    """Another rank is gone. What the network says of it is the message."""


# ---- for the run ----


def code_of(args: Any) -> str:
    """A short name of all code of the package and of the lesson, whose settings these are."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(Path(inspect.getfile(type(args))).read_bytes())
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class World(Ranks):
    """The ranks that a launcher such as torchrun started, or this process alone: `with World(args, "mars") as ranks`.

    Args:
        args: resolved settings of the lesson.
        program: the lesson's name, for messages.

    Raises:
        UsageError: environments cannot be shared out, ranks have other settings or code, cards or a backend are
            missing.
        RunError: the ranks did not find each other.
        SystemExit: another rank has ended, which one of those that are left says.
    """

    def __init__(self, args: Any, program: str):
        self.args, self.program = args, program
        self.is_launched = place() is not None
        self.place, self.store = place() or Ranks.place, None

    def __enter__(self) -> "World":
        if self.is_launched:
            try:
                self._check_shares()
                self._start(self._backend())
                self._check_alike()
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if not self.is_launched:
            return
        is_first_to_tell = error is None or self._is_first_to_tell()
        if isinstance(error, Lost):
            if is_first_to_tell:
                reason = "another rank has ended, and with it all do"
                print(f"{self.program}: rank {self.place.rank}: {reason} ({error})", file=sys.stderr, flush=True)
            raise SystemExit(1)
        if dist.is_available() and dist.is_initialized() and error is None:
            self.agreed(True)  # nobody leaves while another is still talking
            dist.destroy_process_group()

    def _check_shares(self) -> None:
        """UsageError unless every rank gets as many environments, and as many minibatches of them, as the others."""
        args, ranks = self.args, self.place.size
        for name in ("num_envs", "eval_episodes"):
            count = getattr(args, name)
            below = count // ranks * ranks
            near = " and ".join(str(n) for n in (below, below + ranks) if n)
            reason = f"{ranks} ranks cannot share them equally; the nearest that they can are {near}"
            settings.require(args, name, count % ranks == 0, reason)
        length = getattr(args, "sequence_length", 1)
        rows, what = args.rollout_length // length * args.num_envs // ranks, "sequences" if length > 1 else "steps"
        settings.require_divisor(args, "minibatches", rows, f"the {rows} environment {what} of a rank's rollout")

    def _backend(self) -> str:
        """How ranks talk: tensors on a CPU by gloo, those on cards by NCCL, of which every rank has one for itself."""
        if not dist.is_available() or not dist.is_gloo_available():
            raise UsageError("this PyTorch cannot train in several processes: it was built without gloo")
        if self.args.device.startswith("cpu"):
            return "gloo"
        if not dist.is_nccl_available():
            raise UsageError("this PyTorch cannot train on several cards: it was built without NCCL; --device cpu can")
        if torch.device(self.args.device).index is not None:
            raise UsageError(f"--device is {self.args.device!r}, but every rank has a card of its own: say cuda")
        cards = torch.cuda.device_count()
        if self.place.local_size > cards:
            raise UsageError(f"{self.place.local_size} ranks on this machine need a card each, and {cards} are here")
        torch.cuda.set_device(self.place.local_rank)
        return "cpu:gloo,cuda:nccl"

    def _start(self, backend: str) -> None:
        from torch.distributed.rendezvous import rendezvous  # some builds of PyTorch lack it

        rank, size = self.place.rank, self.place.size
        try:
            store, *_ = next(rendezvous("env://", rank, size, timeout=PATIENCE))
            # torchrun's restarts find the store as those before them left it
            attempt = f"torch_mars/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{size}"
            self.store = dist.PrefixStore(attempt, store)
            dist.init_process_group(backend, store=self.store, rank=rank, world_size=size)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise RunError(f"the ranks did not find each other at {where}: {error}") from None

    def _check_alike(self) -> None:
        """UsageError if a rank was started with other settings, or from other code."""
        versions = {"code": code_of(self.args), "PyTorch": torch.__version__}
        own = {**versions, **dataclasses.asdict(self.args)}
        first, *others = self.collected(own)
        for number, other in enumerate(others, 1):
            for name in first:
                if other.get(name) != first[name]:
                    what = f"the {name}" if name in versions else "--" + name.replace("_", "-")
                    ours, theirs = shown(first[name]), shown(other.get(name))
                    raise UsageError(f"{what} of rank {number} is {theirs}, of rank 0 {ours}; they must be the same")

    def _is_first_to_tell(self) -> bool:
        """Whether no other rank has seen a failure before: one sentence is enough."""
        try:
            return self.store is None or self.store.add(TOLD, 1) == 1
        except RuntimeError:  # it was kept by a rank that is gone
            return True

    # ---- what ranks tell each other: every rank must call these ----

    def agreed(self, *flags: bool) -> list[bool]:
        if not self.is_launched:
            return list(flags)
        return sum_(torch.tensor(flags, dtype=torch.int64, device="cpu")).bool().tolist()

    def collected(self, own: Any) -> list[Any]:
        if not self.is_launched:
            return [own]
        found = [None] * self.place.size
        _together(dist.all_gather_object, found, own)
        return found

    def gathered(self, own: Any) -> list[Any] | None:
        if not self.is_launched:
            return [own]
        found = [None] * self.place.size if self.is_first else None
        _together(dist.gather_object, own, found)
        return found
