"""How many kernels a GPU would launch for a step of the environments and for a whole iteration, counted without a GPU.

    python benchmarks/kernel_counts.py [--tasks paxmen_5a,...] [--num-envs 1024] [--by operator|line] [--json FILE]

Everything runs on PyTorch's meta device, whose tensors have shapes and no values and which takes the way that CUDA
takes; a recorder sees every operator. A view launches nothing, a sort three kernels (twelve above 4,096 numbers a row),
a product of several seeds with a bias two, as the bias is copied first, everything else one.

The time is a model of one kernel after another (`Model`): each takes as long as its launch inside a graph, its bytes or
its products need, whichever is longest. On an H200, an iteration of PaxMen 5a with 1,024 environments was 60,154
kernels and 146 to 150 ms, where this said 56,384 and 144 ms.
"""

import argparse
import collections
import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from env_throughput import first_of_each_family
from side_by_side import facts, write_json
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_mars import envs
from torch_mars.algos import mappo
from torch_mars.envs.core import tree_map
from torch_mars.nn import optimizers
from torch_mars.run import settings

ROOT = Path(__file__).resolve().parent.parent
ROLLOUT_LENGTH = 128
LONGEST_ROW_OF_A_SMALL_SORT = 4096
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "lift_fresh",
    "detach",
}


@dataclasses.dataclass
class Model:
    """A GPU in four numbers; the defaults are an H100's, as guessed before one was seen."""

    launch: float = 2.2e-6  # s, of a kernel inside a graph
    bandwidth: float = 2.5e12  # bytes/s
    products: float = 45e12  # float32 operations/s
    overhead: float = 0.7e-6  # s, of a kernel that is bound by its bytes; twice of one bound by its products


class Recorder(TorchDispatchMode):
    """Sees the operators that run inside `with Recorder() as recorder`.

    Attributes:
        kernels: how many kernels they would launch.
        seconds: how long these would take by the model.
        by: kernels by operator, or by line of the package's source.
    """

    def __init__(self, model: Model | None = None, by: str = "operator"):
        super().__init__()
        self.model, self.is_by_line = model or Model(), by == "line"
        self.kernels, self.seconds = 0, 0.0
        self.by: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.launch(function.overloadpacket.__name__, kernels_of(function, args), (args, kwargs, result))
        return result

    def launch(self, name: str, kernels: int, touched: Any) -> None:
        """Count an operator that reads or writes the tensors in a tree."""
        if not kernels:
            return
        model, tensors = self.model, [leaf for leaf in tree_leaves(touched) if isinstance(leaf, torch.Tensor)]
        size = sum(tensor.untyped_storage().nbytes() if 0 in tensor.stride() else _bytes(tensor) for tensor in tensors)
        seconds = max(model.launch * kernels, size / model.bandwidth + model.overhead)
        if name in ("bmm", "baddbmm", "mm", "addmm"):
            left, result = tensors[-3], tensors[-1]
            flops = 2 * result.numel() * left.shape[-1]
            seconds = max(seconds, flops / model.products + 2 * model.overhead)
        self.kernels += kernels
        self.seconds += seconds
        self.by[_line() if self.is_by_line else name] += kernels


def kernels_of(function: Any, args: tuple) -> int:
    """Launches of an operator."""
    name, schema = function.overloadpacket.__name__, function._schema
    if name in FREE or function.is_view:
        return 0
    if any(value.alias_info and not value.alias_info.is_write for value in schema.returns):  # a view by its schema
        return 0
    if name in ("sort", "argsort", "topk"):
        return 3 if args[0].shape[-1] <= LONGEST_ROW_OF_A_SMALL_SORT else 12
    if name == "baddbmm" or name == "addmm" and args[2].shape[1] == 1:  # the bias is copied first
        return 2
    return 1


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _line() -> str:
    """The innermost line of the package that is running."""
    frame = sys._getframe(2)
    while frame and not (frame.f_code.co_filename.startswith(str(ROOT / "torch_mars"))):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}" if frame else "elsewhere"


@contextlib.contextmanager
def fused_adam_of(recorder: Recorder) -> Iterator[None]:
    """Adam's kernel, which the meta device lacks: two launches for all parameters, steps included."""
    real = optimizers.adam

    def adam(parameters: list, gradients: list, mean: list, square: list, *others: Any, **settings: Any) -> None:
        recorder.launch("fused adam", 2, (parameters, parameters, gradients, mean, mean, square, square))

    optimizers.adam = adam
    try:
        yield
    finally:
        optimizers.adam = real


# ---- what is counted ----


class Training:
    """MAPPO's lesson on the meta device."""

    def __init__(self, task: str, num_envs: int, lesson: Any = mappo):
        given = {"env": task, "num_envs": num_envs, "rollout_length": ROLLOUT_LENGTH, "total_steps": 10**9}
        args = settings.resolve(lesson.Args, lesson.ratio_range, lesson.ALGORITHM, {**given, "device": "cpu"})
        args.device = "meta"
        self.lesson, self.args = lesson, args
        self.env = on_meta(task, num_envs, **args.env_options)
        self.learner = lesson.Learner(args, self.env, [0])
        self.rollout = lesson.Rollout(args, self.env, self.learner.actor)

    def iteration(self) -> None:
        carry = (self.env.state, self.learner.key)
        self.lesson.iteration(carry, env=self.env, rollout=self.rollout, learner=self.learner, args=self.args)

    def update(self) -> None:
        parts = self.lesson.advantages(self.rollout, self.learner, self.args)
        self.lesson.update(self.rollout, *parts, self.learner, self.args)

    def collect(self) -> None:
        self.lesson.collect(self.rollout, self.env, self.learner)


def on_meta(task: str, num_envs: int, **options: Any) -> envs.BatchedEnv:
    """Environments that have started and know no values: starts may look at them, so one starts on the CPU."""
    started = envs.make(task, 1, "cpu", **options)
    started.reset()
    env = envs.make(task, num_envs, "meta", **options)
    env.state = tree_map(
        lambda field: torch.empty((num_envs, *field.shape[1:]), dtype=field.dtype, device="meta"), started.state
    )
    return env


def of_step(task: str, num_envs: int = 1024, model: Model | None = None, by: str = "operator") -> Recorder:
    """What a step of the environments launches."""
    env = on_meta(task, num_envs)
    is_discrete = hasattr(env.action_space, "n")
    shape = (num_envs, env.num_agents, *env.action_space.shape)
    actions = torch.zeros(shape, dtype=torch.int64 if is_discrete else torch.float32, device="meta")
    env.step(actions)  # makes the constants that are kept
    return recorded(lambda: env.step(actions), model, by)


def recorded(function: Callable[[], Any], model: Model | None = None, by: str = "operator") -> Recorder:
    """What a call of the function launches."""
    with Recorder(model, by) as recorder, fused_adam_of(recorder):
        function()
    return recorder


# ---- the table ----


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", help="with commas; left out: one of each environment")
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument(
        "--by", choices=("operator", "line"), help="also which operators or lines of a step launch most"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tasks = options.tasks.split(",") if options.tasks else first_of_each_family()
    rows = []
    print("task                       env step   rollout step   update   iteration   by the model: ms, env steps/s")
    for task in tasks:
        step = of_step(task, options.num_envs, by=options.by or "operator")
        training = Training(task, options.num_envs)
        collected, updated = recorded(training.collect), recorded(training.update)
        kernels, seconds = collected.kernels + updated.kernels, collected.seconds + updated.seconds
        rate = options.num_envs * ROLLOUT_LENGTH / seconds
        counts = {"env_step": step.kernels, "rollout_step": math.ceil(collected.kernels / ROLLOUT_LENGTH)}
        row = {"task": task, "num_envs": options.num_envs, **counts, "update": updated.kernels, "iteration": kernels}
        rows.append({**row, "model_s": seconds, "model_steps_per_second": rate})
        print(
            f"{task:26} {step.kernels:8,} {counts['rollout_step']:14,} {updated.kernels:8,} {kernels:11,}"
            f" {1e3 * seconds:14,.1f} {rate:14,.0f}"
        )
        for name, count in step.by.most_common(25) if options.by else ():
            print(f"    {count:5,}  {name}")
    write_json(options.json, facts("cpu"), rows)


if __name__ == "__main__":
    main()
