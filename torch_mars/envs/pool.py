"""The threads that work on the CPU is shared out to, in tasks that take no notice of one another.

Inside a task everything is single-threaded: nobody waits for a thread that is not running, and a neighbour who keeps a
core busy costs its share and no more. Work is cut into tasks by its own size, never by the number of threads, so that
no number depends on it.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_here = threading.local()  # is_in_task: whether this thread is at work for `run`
_num_threads: int | None = None
_helpers: ThreadPoolExecutor | None = None


def num_threads() -> int:
    """Threads at work, the caller's included: as many as PyTorch had when it was first asked for."""
    if _num_threads is None:
        set_num_threads(torch.get_num_threads())
    return _num_threads


def set_num_threads(count: int) -> None:
    """From now on `count` >= 1 threads. Not while tasks are running."""
    global _num_threads, _helpers
    if _helpers is not None:
        _helpers.shutdown()
    _num_threads, _helpers = count, None


def run(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all tasks, side by side where there are threads, and return their results in order.

    A task that itself calls this works off its own tasks one after another. Gradients are recorded in a task if they
    are recorded here.

    Raises:
        Whatever a task raised; the others may have been run or not.
    """
    count = min(num_threads(), len(tasks)) - 1
    if count < 1 or getattr(_here, "is_in_task", False):
        return [task() for task in tasks]
    results = [None] * len(tasks)
    shares = (iter(range(len(tasks))), tasks, results, torch.is_grad_enabled())
    helpers = [_executor().submit(_work, *shares) for _ in range(count)]
    try:
        _work(*shares)
    finally:
        started = [helper for helper in helpers if not helper.cancel()]  # the others would find nothing left to do
        failures = [helper.exception() for helper in started]
    for failure in filter(None, failures):
        raise failure
    return results


def in_blocks(loop: Callable[..., Any], count: int, size: int, *arguments: Any) -> list[Any]:
    """`loop(first, last, *arguments)` for environments `first` to `last - 1`, in blocks of `size` side by side."""
    blocks = [(first, min(first + size, count)) for first in range(0, count, size)]
    return run([functools.partial(loop, *block, *arguments) for block in blocks])


def _work(left: Iterator[int], tasks: Sequence[Callable[[], Any]], results: list[Any], records_grad: bool) -> None:
    """Take one task after another until none is left."""
    _here.is_in_task = True
    try:
        with torch.set_grad_enabled(records_grad):
            for index in left:
                results[index] = tasks[index]()
    finally:
        _here.is_in_task = False


def _executor() -> ThreadPoolExecutor:
    global _helpers
    if _helpers is None:
        # what PyTorch's operations and the libraries under it may start threads by, is a setting of each thread
        _helpers = ThreadPoolExecutor(_num_threads - 1, "torch_mars", torch.set_num_threads, (1,))
    return _helpers


def _forget() -> None:
    """A forked process has the memory of this one, but none of its threads."""
    global _helpers
    _helpers, _here.is_in_task = None, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
