"""What makes training fast on the machine at hand and belongs to no method: memory and CUDA graphs."""

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_mars.envs.core import tree_map
from torch_mars.nn.layers import is_leaving
from torch_mars.run.cli import RunError

CACHED_ROWS = 4096  # of a layer's output with 128 columns: 2 MB, so that the next layer finds them in the cache


def prepare(device: str) -> None:
    """Settings of the process, to be made before training."""
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    elif device.index is not None:
        torch.cuda.set_device(device)  # streams and graphs are made on the current one


def keep_freed_memory() -> None:
    """Have glibc keep the memory that tensors give back, instead of returning it to the system.

    By default every large tensor is mapped anew, and the system fills its pages with zeros one by one: a third of the
    time of an update. Does nothing on systems without glibc.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def cache_sized(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows [P, R, ...] in the portions in which a network should take them: on a GPU, or when exported, all at once."""
    if rows.device.type != "cpu" or is_leaving():
        return (rows,)
    return rows.split(max(1, CACHED_ROWS // rows.shape[0]), 1)


class CudaGraph:
    """`function(carry) -> (carry, result)` replayed as one CUDA graph: no Python, no launch of single kernels.

    `carry` (a tree of tensors) moves from call to call; whatever else the function changes, it must change in place. It
    must not look at a value on the GPU, and shapes must not change. The first `WARM_UP` calls run as they are, and are
    ordinary calls; the next one records the graph and replays it, as do all that follow.

    Args:
        function: as above.
        report: called with a sentence about the recording, when it is done.
    """

    WARM_UP = 2  # lazily made memory (an optimiser's moments, workspaces) exists before anything is recorded

    def __init__(self, function: Callable[[Any], tuple[Any, Any]], report: Callable[[str], None]):
        self.function, self.report = function, report
        self.calls, self.graph, self.stream = 0, None, None
        self.started = time.monotonic()

    def __call__(self, carry: Any) -> tuple[Any, Any]:
        """The carry and the result after one call, both in memory that the next call writes to."""
        self.calls += 1
        if self.calls <= self.WARM_UP:
            return self._run_aside(carry)
        if self.graph is None:
            self._record(carry)
        tree_map(_copy_to, self.carry, carry)
        self.graph.replay()
        return self.carry, self.result

    def _run_aside(self, carry: Any) -> tuple[Any, Any]:
        """One call on the stream on which the recording will be: memory freed there is found again there."""
        self.stream = self.stream or torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outcome = self.function(carry)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outcome

    def _record(self, carry: Any) -> None:
        self.carry = tree_map(torch.clone, carry)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                after, self.result = self.function(self.carry)
                tree_map(_copy_to, self.carry, after)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"this cannot be recorded as a CUDA graph ({reason}); use --no-cuda-graphs") from error
        self.report(f"CUDA graph recorded, {time.monotonic() - self.started:.1f} s after the first update began")


def _copy_to(fixed: Tensor, value: Tensor) -> Tensor:
    return fixed if fixed is value else fixed.copy_(value)
