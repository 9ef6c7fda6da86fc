"""What `--compile` compiles: losses and their gradients, and on a GPU the steps of environments and policy.

On a GPU that is what spares most kernels; on a CPU it pays after a while.
"""

import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_mars.envs.core import BatchedEnv, State
from torch_mars.run import screen
from torch_mars.run.cli import RunError, short


def compiled(function: Callable[..., Any], args: Any, name: str) -> Callable[..., Any]:
    """The function compiled, if the settings say `compile`; else itself.

    Args:
        name: what the function is called on the screen.
    """
    return _kept(function, name) if args.compile else function


def compiled_on_gpu(function: Callable[..., Any], args: Any, name: str) -> Callable[..., Any]:
    """The same of what a CPU does faster as it is."""
    return compiled(function, args, name) if args.device.startswith("cuda") else function


def compile_steps(env: BatchedEnv, args: Any) -> None:
    """Have a GPU's environments step compiled, if the settings say `compile`; a CPU has loops.

    Raises:
        RunError: these cannot be compiled.
    """
    if env.device.type == "cuda" and args.compile:
        try:
            env.compile(lambda step: Compiled(step, "the environments"))
        except ValueError as error:
            raise RunError(f"--compile: {error}; leave it out") from None


@functools.cache
def _kept(function: Callable[..., Any], name: str) -> "Compiled":
    return Compiled(function, name)


class Compiled:
    """A function that inductor compiles when it is first called, and again for other shapes of its first argument.

    Args:
        function: of a tensor or a State, and others.
        name: what the function is called on the screen.

    Raises:
        RunError: when called, if nothing can be compiled here.
    """

    def __init__(self, function: Callable[..., Any], name: str):
        self.function, self.name = function, name
        self.by_inductor: Callable[..., Any] | None = None
        self.shapes: set[torch.Size] = set()
        self.is_compiling = threading.Lock()

    def __call__(self, first: Tensor | State, *others: Any, **named: Any) -> Any:
        shape = first.shape if isinstance(first, Tensor) else first.step.shape
        if shape in self.shapes:
            return self.by_inductor(first, *others, **named)
        with self.is_compiling:  # by one thread; the others find it done
            result = self._first_call(first, *others, **named)
            self.shapes.add(shape)
        return result

    def _first_call(self, first: Tensor | State, *others: Any, **named: Any) -> Any:
        if self.by_inductor is None:
            problem = _lacks(first)
            if problem:
                raise RunError(f"--compile: {problem}; leave it out")
            screen.say(f"compiling {self.name}, which takes a quarter of a minute or more")
            torch._dynamo.config.recompile_limit = 64  # shapes of a function, in all trainings of the process
            self.by_inductor = torch.compile(self.function, fullgraph=True, dynamic=False)
        try:
            return self.by_inductor(first, *others, **named)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
                raise
            reason = short(" ".join(str(error).split()))
            raise RunError(f"--compile: compiling failed ({reason}); leave it out") from error


def _lacks(first: Tensor | State) -> str | None:
    """What compiling needs and this machine has not: a compiler, and on a GPU Triton; None: nothing."""
    is_on_gpu = isinstance(first, State) or first.is_cuda
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    language, variable, known = ("C", "CC", ("gcc", "clang")) if is_on_gpu else ("C++", "CXX", (usual,))
    compilers = [os.environ[variable]] if variable in os.environ else known
    if not any(map(shutil.which, compilers)):
        return f"it needs a {language} compiler, and {' or '.join(compilers)} is not found; name one in {variable}"
    if is_on_gpu:
        from torch.utils._triton import has_triton

        if not has_triton():
            return "it needs Triton, which is not installed or does not know this GPU"
    return None
