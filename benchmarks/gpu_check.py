"""Everything worth knowing at the first contact with a GPU, in one command of less than ten minutes.

    python benchmarks/gpu_check.py [--out results/gpu] [--parts facts,tests,...] [--minutes 10]

Every part is a process of its own with its own limit; what it found is in `<out>/<part>.json` line by line as it is
found, what it printed in `<out>/<part>.log`, and a part that fails does not end the others. One table comes last.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from side_by_side import facts, is_installed, seconds_per_call

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("paxmen_5a", "smax_2s3z", "aerojax_8v8", "jaxnav_11x11x4a")
Row = dict[str, Any]


# ---- the parts: each yields what it finds, a row at a time ----


def machine() -> Iterator[Row]:
    """What it is, and what bounds everything else: launches, copies, products."""
    import torch

    command = {"command": "python benchmarks/gpu_check.py"}  # not the part's own, with this machine's folders
    software = {"triton": is_installed("triton"), "numba": _imports("numba"), "jax": is_installed("jax")}
    yield {**facts("cuda"), **command, **software}
    x = torch.zeros(1, device="cuda")

    def launches() -> None:
        for _ in range(2000):
            x.add_(1)

    yield {"what": "eager launch", "us": _on_gpu(launches) / 2000 * 1e6}
    yield {"what": "kernel in a graph", "us": _on_gpu(_replayed(launches)) / 2000 * 1e6}
    big = torch.zeros(1 << 28, device="cuda")
    yield {"what": "copy", "TB/s": 2 * big.numel() * 4 / _on_gpu(lambda: big.clone()) / 1e12}
    rows, weight = torch.randn(1 << 20, 128, device="cuda"), torch.randn(128, 128, device="cuda")
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        rate = 2 * rows.numel() * 128 / _on_gpu(lambda: rows @ weight) / 1e12
        yield {"what": f"product [1M, 128] x [128, 128], {precision}", "TFLOP/s": rate}


def tests() -> Iterator[Row]:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "-p", "no:cacheprovider", "-rf"]
    if is_installed("xdist"):
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    started = time.monotonic()
    done = subprocess.run([*command, "tests/test_gpu.py"], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-60_000:], done.stderr[-5000:], flush=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    yield {"what": "pytest -m gpu", "passed": done.returncode == 0, "seconds": time.monotonic() - started}
    for line in failed:
        yield {"failed": line[:300]}


def training() -> Iterator[Row]:
    """Environment steps per second of training, and what the recording took before it, compiled and not."""
    paxmen, *others = TASKS
    cases = [(paxmen, *case, "--compile") for case in ((1024, 1), (8192, 1), (1024, 10))]
    cases += [(paxmen, num_envs, 1, "--no-compile") for num_envs in (1024, 8192)]
    cases += [(task, num_envs, 1, "--no-compile") for task in others for num_envs in (1024, 8192)]
    cases += [(paxmen, 65536, 1, "--compile")]
    cases += [(task, 1024, 1, "--compile") for task in others]  # last: they take long to compile
    for case in cases:
        yield _training(*case)
        _forget()


def _training(task: str, num_envs: int, num_seeds: int, compile: str) -> Row:
    import torch
    from train_throughput import ROLLOUT_LENGTH, Training

    from torch_mars.run import memory

    row = {"task": task, "num_envs": num_envs, "num_seeds": num_seeds, "setting": compile}
    torch.cuda.reset_peak_memory_stats()
    try:
        run = Training(task, num_envs, num_seeds, "cuda", compile)
        begin = [_seconds(run.iterate) for _ in range(4)]  # two as they are, the recording, a replay
        times = [seconds_per_call(run.iterate, 0.5) for _ in range(3)]
    except (torch.OutOfMemoryError, RuntimeError) as error:
        return {**row, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
    row |= {"steps_per_second": num_envs * num_seeds * ROLLOUT_LENGTH / min(times), "iteration_s": times}
    row |= {"beginning_s": begin, "peak_GB": torch.cuda.max_memory_allocated() / 1e9}
    return {**row, "told_GB": memory.needed(run.args) / 1e9}


def beside_jax() -> Iterator[Row]:
    """Training of PaxMen 5a beside the same in JAX, taking turns."""
    from train_throughput import measure

    for setting in ("--no-compile", "--compile"):
        for num_envs in (1024, 8192):
            row = measure("paxmen_5a", num_envs, 1, "cuda", rounds=3, seconds=0.5, more=[setting])
            yield {"setting": setting, **row}


def environments() -> Iterator[Row]:
    """Steps per second of environments alone: replayed as a graph."""
    from env_throughput import first_of_each_family, ours

    turn = ours("cuda", is_compiled=False)
    for num_envs in (1024, 16384):
        for task in first_of_each_family():
            yield {"task": task, "num_envs": num_envs, "steps_per_second": num_envs / turn(task, num_envs, 0.3)}


def kernels() -> Iterator[Row]:
    """What one replayed iteration consists of."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from train_throughput import WARM_UP, Training

    for task, num_envs in (("paxmen_5a", 1024), ("paxmen_5a", 8192)):
        run = Training(task, num_envs, 1, "cuda")
        for _ in range(WARM_UP):
            run.iterate()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            run.iterate()
        found = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        total, short = sum(event.device_time for event in found), [e for e in found if e.device_time < 3]
        row = {"task": task, "num_envs": num_envs, "kernels": len(found), "busy_ms": total / 1000}
        yield {**row, "share_under_3_us": len(short) / max(1, len(found)), "replay_ms": _seconds(run.iterate) * 1000}
        by_name: dict[str, list[float]] = {}
        for event in found:
            by_name.setdefault(event.name[:90], []).append(event.device_time)
        for name, times in sorted(by_name.items(), key=lambda item: -sum(item[1]))[:15]:
            yield {"kernel": name, "count": len(times), "ms": sum(times) / 1000}
        del run
        _forget()


def evaluation() -> Iterator[Row]:
    """Seconds of an evaluation of 32 episodes, as many steps as an episode may have."""
    from train_throughput import Training

    from torch_mars import envs

    for task in ("paxmen_5a", "smax_2s3z", "aerojax_8v8"):
        run = Training(task, 64, 1, "cuda", "--no-compile")
        env = envs.make(task, 32, "cuda", **run.args.env_options)
        evaluate = functools.partial(run.lesson.evaluate, env, run.learner.actor, [0], run.args)
        yield {"task": task, "steps": env.max_steps, "seconds": [_seconds(evaluate) for _ in range(3)]}


def compiled() -> Iterator[Row]:
    """An environment's step through torch.compile, in a graph, against the eager one in a graph."""
    from env_throughput import first_of_each_family

    tasks = sorted(
        first_of_each_family(), key=lambda task: task.startswith(("jaxnav", "aerojax"))
    )  # these take longest
    for task in tasks:
        try:
            yield _compiled(task)
        except Exception as error:  # each task by itself
            yield {"task": task, "failed": f"{type(error).__name__}: {str(error)[:300]}"}


def _compiled(task: str) -> Row:
    import torch

    from torch_mars import envs
    from torch_mars.envs.core import fields_of

    eager, fast = (envs.make(task, 1024, "cuda", 0, max_steps=12) for _ in range(2))
    eager.reset()
    fast.reset()
    fast.compile()
    is_discrete = hasattr(eager.action_space, "n")
    shape = (1024, eager.num_agents, *eager.action_space.shape)
    actions = torch.zeros(shape, dtype=torch.int64 if is_discrete else torch.float32, device="cuda")
    row = {"task": task, "compile_s": _seconds(lambda: fast.step(actions)), "worst_float": 0.0, "other_rows": 0}
    for _ in range(40):
        fast.state = eager.state
        fast.step(actions)
        eager.step(actions)
        is_other = torch.zeros(1024, dtype=torch.bool, device="cuda")
        for name, value in fields_of(eager.state).items():
            found = getattr(fast.state, name)
            if value.is_floating_point():
                is_far = ~torch.isclose(found, value, atol=2e-4, rtol=2e-4, equal_nan=True)
                near = (value - found).abs().masked_fill(is_far, 0.0).nan_to_num()
                row["worst_float"] = max(row["worst_float"], near.max().item())
            else:
                is_far = value != found
            is_other |= is_far.reshape(1024, -1).any(1)
        row["other_rows"] += int(is_other.sum())  # of 40,960: a comparison of floats fell the other way
    for name, env in (("eager_ms", eager), ("compiled_ms", fast)):
        row[name] = 1e3 * _on_gpu(_replayed(functools.partial(env._next, env.state, actions)))
    return row


PARTS: dict[str, tuple[Callable[[], Iterator[Row]], int]] = {  # and seconds
    "machine": (machine, 40),
    "tests": (tests, 180),
    "beside_jax": (beside_jax, 150),
    "training": (training, 180),
    "evaluation": (evaluation, 30),
    "compiled": (compiled, 100),
    "kernels": (kernels, 45),
    "environments": (environments, 40),
}


# ---- measuring ----


def _imports(name: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True)
    return "imports" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def _seconds(call: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _on_gpu(call: Callable[[], Any], calls: int = 5) -> float:
    """Seconds per call, after one that does not count."""
    call()
    return _seconds(lambda: [call() for _ in range(calls)]) / calls


def _replayed(call: Callable[[], Any]) -> Callable[[], None]:
    import torch

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):
        call()
    return graph.replay


def _forget() -> None:
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


# ---- running the parts ----


def run_part(name: str, path: Path) -> None:
    """In the part's own process: its rows into a file, one JSON a line."""
    with path.open("w") as file:
        for row in PARTS[name][0]():
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(_shown(row), flush=True)


def run_all(names: list[str], out: Path, minutes: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    outcomes = {}
    for name in names:
        limit = min(PARTS[name][1], end - time.monotonic())
        if limit < 5:
            outcomes[name] = "no time left"
            continue
        command = [sys.executable, __file__, "--part", name, "--out", str(out)]
        started = time.monotonic()
        with (out / f"{name}.log").open("w") as log:
            try:
                done = subprocess.run(command, timeout=limit, stdout=log, stderr=subprocess.STDOUT, env=environment)
                outcomes[name] = "done" if done.returncode == 0 else f"failed, exit code {done.returncode}"
            except subprocess.TimeoutExpired:
                outcomes[name] = f"cut after {limit:.0f} s"
        outcomes[name] += f" ({time.monotonic() - started:.0f} s)"
    for name, outcome in outcomes.items():
        print(f"\n{name}: {outcome}")
        rows = out / f"{name}.json"
        for line in rows.read_text().splitlines() if rows.exists() else []:
            print("  " + _shown(json.loads(line)))
        log = out / f"{name}.log"
        if not outcome.startswith("done") and log.exists():
            print("  ... " + "\n  ... ".join(log.read_text().splitlines()[-15:]))


def _shown(row: Row) -> str:
    return "; ".join(f"{name} {_number(value)}" for name, value in row.items())


def _number(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_number, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of what was found")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=10, help="of all parts together")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return run_part(options.part, options.out / f"{options.part}.json")
    names = options.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"no part {name!r}; allowed are {', '.join(PARTS)}")
    run_all(names, options.out, options.minutes)


if __name__ == "__main__":
    main()
