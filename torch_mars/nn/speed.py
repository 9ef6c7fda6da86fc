"""What makes training fast on the machine at hand and belongs to no method: memory, threads and CUDA graphs.

On a CPU a minibatch is the sum of portions that stay in the cache, each a task of the pool (`torch_mars.envs.pool`),
and a rollout is shares of the environments. Both are cut by their own size, so that no number depends on how many
threads there are.
"""

import copy
import ctypes
import functools
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_mars.envs import pool
from torch_mars.envs.core import BatchedEnv, tree_map
from torch_mars.nn import world
from torch_mars.run import screen
from torch_mars.run.cli import RunError
from torch_mars.run.memory import PORTION

SMALLEST = 1024  # samples of a portion
SHARE = 1280  # agents that a thread takes through a rollout, at least
BETWEEN_LOOKS = 16  # steps


def prepare(device: str, matmul_precision: str = "highest") -> None:
    """Settings of the process, to be made before training.

    On a CPU, PyTorch's own threads make way for those of the pool, of which there are as many.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*new API settings")  # which PyTorch 2.9 asks for within its own function
        torch.set_float32_matmul_precision(matmul_precision)
    device = torch.device(device)
    if device.type == "cpu":
        from torch_mars.envs import loops  # which imports numba, and a GPU needs none

        loops.on_compile(lambda rules: screen.say(f"compiling the rules of {rules}, once on this machine"))
        keep_freed_memory()
        pool.num_threads()  # before there is only one
        torch.set_num_threads(1)
        if matmul_precision != "highest" and not (matmul_precision == "medium" and has_bfloat16()):
            screen.say(
                f"this processor multiplies in full precision: --matmul-precision {matmul_precision} changes nothing"
            )
    elif device.index is not None:
        torch.cuda.set_device(device)  # streams and graphs are made on the current one


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers by itself, and faster than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Have glibc keep the memory that tensors give back, instead of returning it to the system.

    By default every large tensor is mapped anew, and the system fills its pages with zeros one by one: a third of the
    time of an update. Does nothing on systems without glibc.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(M_ARENA_MAX, 1)  # threads share the memory: one's own would be given back by other rules


# ---- the pool ----


def portions(x: Tensor, samples: int) -> list[slice]:
    """Of the R rows of x [P, R, ...], slices that a network takes at once: what stays in the cache; on a GPU all.

    Two at least, so that two threads find work, unless the work is hardly worth handing over.

    Args:
        samples: of the network's input in one row of one seed.
    """
    seeds, rows = x.shape[:2]
    count = 1
    if x.device.type == "cpu":
        count = max(round(seeds * rows * samples / PORTION), min(2, seeds * rows * samples // SMALLEST), 1)
    size = -(-rows // count)
    return [slice(first, first + size) for first in range(0, rows, size)]


def in_portions(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`network(x)` for x [P, R, ..., inputs], side by side for portions of its R rows."""
    samples = x[0, 0].numel() // x.shape[-1]
    return _joined(pool.run([functools.partial(network, x[:, part]) for part in portions(x, samples)]))


def differentiate(
    loss: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    minibatch: tuple[Tensor | None, ...],
    samples: int,
    parameters: list[Tensor],
) -> dict[str, Tensor]:
    """Put the gradient of a minibatch's loss into `grad` of the parameters: the sum over its portions, in their order.

    Args:
        loss: from zeros [P, rows, samples] and a portion of everything in the minibatch to its part of the loss, and
            what is to be known of every row, [P, rows, ...] by name.
        minibatch: [P, R, ...] each, or None.
        samples: as in `portions`.

    Returns:
        What is to be known of the rows, detached: [P, R, ...] by name; and "force", the gradient of the zeros.
    """

    def one(part: slice) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        of_part = [x if x is None else x[:, part] for x in minibatch]
        nudge = of_part[0].new_zeros(*of_part[0].shape[:2], samples, dtype=torch.float32).requires_grad_()
        value, seen = loss(nudge, *of_part)
        *grads, force = torch.autograd.grad(value, [*parameters, nudge])
        return tuple(grads), {**{name: x.detach() for name, x in seen.items()}, "force": force}

    grads, seen = zip(*pool.run([functools.partial(one, part) for part in portions(minibatch[0], samples)]))
    for parameter, *of_portions in zip(parameters, *grads):
        parameter.grad = functools.reduce(torch.add, of_portions)
    return {name: _joined([of_portion[name] for of_portion in seen]) for name in seen[0]}


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def in_shares(function: Callable[..., None], env: BatchedEnv, *others: Any) -> None:
    """`function(env, *others)`, which steps the environments, for shares of them side by side; on a GPU at once.

    Args:
        others: tensors [P, T, B, ...] for P * B environments, or dictionaries or objects that hold such. A share's part
            of them is the same memory.
    """
    seeds, _, columns = next(x for x in others if isinstance(x, Tensor)).shape[:3]
    count = min(columns, max(1, env.num_envs * env.num_agents // SHARE)) if env.device.type == "cpu" else 1
    if count == 1:
        function(env, *others)
        return
    shares = [slice(columns * i // count, columns * (i + 1) // count) for i in range(count)]
    number = torch.arange(env.num_envs).view(seeds, columns)
    rows = [number[:, share].flatten() for share in shares]
    envs = [env.share(of_share) for of_share in rows]
    pool.run(
        [
            functools.partial(function, share_env, *(_columns(x, share) for x in others))
            for share_env, share in zip(envs, shares)
        ]
    )
    env.join(envs, rows)


def _columns(x: Any, share: slice) -> Any:
    """Of every tensor [P, T, B, ...] in a tree of dictionaries and objects the part of the environments `share`."""
    if isinstance(x, Tensor):
        return x[:, :, share]
    if isinstance(x, dict):
        return {name: _columns(value, share) for name, value in x.items()}
    if hasattr(x, "__dict__"):
        part = copy.copy(x)
        vars(part).update(_columns(vars(x), share))
        return part
    return x


# ---- CUDA graphs ----


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
            # where there are ranks, a thread of theirs looks at the device now and then
            mode = "global" if world.is_alone() else "thread_local"
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode=mode):
                after, self.result = self.function(self.carry)
                tree_map(_copy_to, self.carry, after)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"this cannot be recorded as a CUDA graph ({reason}); use --no-cuda-graphs") from error
        self.report(f"CUDA graph recorded, {time.monotonic() - self.started:.1f} s after the first update began")


def repeat(
    step: Callable[[Any], Any], carry: Any, times: int, is_over: Callable[[Any], Tensor], with_graph: bool
) -> Any:
    """`carry = step(carry)`, at most `times`, until `is_over(carry)` holds everywhere; with a graph a GPU replays it.

    On a GPU a look at a value waits for all that was launched before: it is taken after every `BETWEEN_LOOKS` steps.
    """
    is_on_gpu = is_over(carry).is_cuda

    def run(carry: Any) -> tuple[Any, None]:
        return step(carry), None

    if is_on_gpu and with_graph:
        run = CudaGraph(run, lambda sentence: None)
    for number in range(1, times + 1):
        carry, _ = run(carry)
        if (not is_on_gpu or number % BETWEEN_LOOKS == 0) and is_over(carry).all():
            break
    return carry


def _copy_to(fixed: Tensor, value: Tensor) -> Tensor:
    return fixed if fixed is value else fixed.copy_(value)
