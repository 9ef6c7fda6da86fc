"""Environment steps per second of training, beside MAPPO in plain JAX of the same network and schedule.

    python benchmarks/train_throughput.py [--num-envs 128] [--num-seeds 1,2,5,10] [--device cpu] [--json FILE] [--quick]
        [--threads 1,2] [--neighbours 0,1,2] [--as-usual] [--matmul-precision medium] [--compile]

Both sides train MAPPO: rollouts of 128 steps, 4 epochs of 4 minibatches, hidden layers 128-128. They take turns in
processes of their own (`side_by_side.py` says why); "ratio" is ours / JAX, the median over pairs of turns. Both
multiply matrices in float32.

`--neighbours 0,1` measures once by itself and once beside another program that keeps one core busy; `--threads` bounds
ours, of which there are otherwise as many as cores; `--as-usual` adds the side in JAX as one would write it first.
The side in JAX (`jax_mappo.py`) needs JAX (`pip install jax`, or "jax[cuda13]" for a GPU) and knows paxmen_5a only.
"""

import argparse
import contextlib
import functools
import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_by_side import (
    Player,
    alternate,
    facts,
    is_installed,
    median_ratio,
    neighbours,
    print_facts,
    seconds_per_call,
    use_jax_on,
    write_json,
)

JAX_TASK = "paxmen_5a"
ROLLOUT_LENGTH = 128
WARM_UP = 3  # iterations: until then, CUDA graphs are recorded and programs compiled
PARTS = ("rollout", "advantages", "update")


class Training:
    """MAPPO's lesson as its main runs it, an iteration (on CUDA one graph) or a part of one at a time.

    Args:
        ranks: a `nn.world.World` whose ranks share out the environments.
    """

    def __init__(self, task: str, num_envs: int, num_seeds: int, device: str, *more: str, ranks: Any = None):
        import torch

        from torch_mars import envs
        from torch_mars.algos import mappo
        from torch_mars.envs import rng
        from torch_mars.nn import inductor, speed
        from torch_mars.run.settings import parse

        settings = {"env": task, "num_envs": num_envs, "num_seeds": num_seeds, "device": device}
        settings |= {"rollout_length": ROLLOUT_LENGTH, "total_steps": 10**9}  # no size is too large for it
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        args = parse(mappo.Args, mappo.ratio_range, mappo.ALGORITHM, [*flags, *more])
        speed.prepare(args.device, args.matmul_precision)
        seeds = list(range(num_seeds))
        env_seeds = [rng.derive(seed, "environment") for seed in seeds]
        env = envs.make(task, num_seeds * num_envs, args.device, env_seeds, **args.env_options)
        if ranks is not None:
            env = env.share(ranks.rows(num_seeds, num_envs).to(env.device))
        env.reset()
        inductor.compile_steps(env, args)
        learner = mappo.Learner(args, env, seeds)
        self.lesson, self.args, self.env, self.learner = mappo, args, env, learner
        self.rollout = mappo.Rollout(args, env, learner.actor)
        run = functools.partial(mappo.iteration, env=env, rollout=self.rollout, learner=learner, args=args)
        self.is_on_gpu = env.device.type == "cuda"
        self.run = speed.CudaGraph(run, lambda sentence: None) if self.is_on_gpu else run
        self.wait = torch.cuda.synchronize if self.is_on_gpu else lambda: None

    def iterate(self) -> None:
        (self.env.state, self.learner.key), _ = self.run((self.env.state, self.learner.key))
        self.wait()

    def split(self) -> list[float]:
        """Seconds of each of the PARTS of one iteration, run eagerly: a graph cannot be split."""
        marks = [self._clock()]
        self.lesson.collect(self.rollout, self.env, self.learner)
        marks.append(self._clock())
        parts = self.lesson.advantages(self.rollout, self.learner, self.args)
        marks.append(self._clock())
        self.lesson.update(self.rollout, *parts, self.learner, self.args)
        marks.append(self._clock())
        return [end - start for start, end in zip(marks, marks[1:])]

    def _clock(self) -> float:
        self.wait()
        return time.perf_counter()


def ours(
    task: str, num_envs: int, num_seeds: int, device: str, seconds: float, threads: int | None, more: Sequence[str]
):
    """A turn trains for about `seconds`: seconds of one iteration, and of each of the PARTS in one of its own."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    training = Training(task, num_envs, num_seeds, device, *more)
    for _ in range(WARM_UP):
        training.iterate()
    return lambda: [seconds_per_call(training.iterate, seconds), *training.split()]


def in_jax(num_envs: int, num_seeds: int, device: str, seconds: float, as_usual: bool):
    """A turn trains for about `seconds`: seconds per iteration."""
    use_jax_on(device)
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # float32, as ours; on a GPU the default would be tf32
    import jax_mappo

    jax_mappo.AS_USUAL = as_usual
    iterate = jax_mappo.training(num_envs, num_seeds)
    for _ in range(WARM_UP):
        iterate()
    return lambda: seconds_per_call(iterate, seconds)


def measure(
    task: str,
    num_envs: int,
    num_seeds: int,
    device: str,
    rounds: int,
    seconds: float,
    threads: int | None = None,
    num_neighbours: int = 0,
    as_usual: bool = False,
    more: Sequence[str] = (),
) -> dict:
    """One row of the table; "ours" and "jax" in environment steps per second, of all seeds together."""
    how = (num_envs, num_seeds, device, seconds)
    players = {"ours": Player(ours, task, *how, threads, more)}
    if task == JAX_TASK and is_installed("jax"):
        players["jax"] = Player(in_jax, *how, False)
        if as_usual:
            players["jax_as_usual"] = Player(in_jax, *how, True)
    with neighbours(num_neighbours) if num_neighbours else contextlib.nullcontext():
        answers = dict(zip(players, alternate(list(players.values()), rounds)))
    for player in players.values():
        player.end()
    ours_s, *parts_s = zip(*answers.pop("ours"))
    steps = num_seeds * num_envs * ROLLOUT_LENGTH
    row = {"task": task, "num_envs": num_envs, "num_seeds": num_seeds, "threads": threads}
    row |= {"neighbours": num_neighbours, "ours": steps / statistics.median(ours_s)}
    row |= {f"{name}_s": statistics.median(times) for name, times in zip(PARTS, parts_s)}
    for name, jax_s in answers.items():
        row |= {name: steps / statistics.median(jax_s), f"{name}_ratio": median_ratio(jax_s, ours_s)}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default=JAX_TASK, help=f"beside JAX: {JAX_TASK}")
    parser.add_argument("--num-envs", type=int, default=128, help="per seed")
    parser.add_argument("--num-seeds", help="one row for each; 1,2,5,10 if left out, or 1 with --quick")
    parser.add_argument("--threads", help="one row for each number of threads of ours; left out: all cores")
    parser.add_argument("--neighbours", default="0", help="one row for each number of other programs, a core each")
    parser.add_argument("--as-usual", action="store_true", help="also beside the JAX that one would write first")
    parser.add_argument("--matmul-precision", default="highest", help="of ours")
    parser.add_argument("--compile", action="store_true", help="ours")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, help="write machine and rows to this file, too")
    parser.add_argument("--quick", action="store_true", help="within a minute")
    options = parser.parse_args()
    num_seeds = numbers(options.num_seeds or ("1" if options.quick else "1,2,5,10"))
    threads = numbers(options.threads) if options.threads else [None]
    rounds, seconds = (5, 1.0) if options.quick else (9, 2.0)
    more = ["--matmul-precision", options.matmul_precision, *(["--compile"] if options.compile else [])]

    machine = facts(options.device)
    print_facts(machine)
    print(f"{'':51} {'env steps/s, all seeds':>21} {'':7} {'ours, seconds per iteration':>33}")
    names = ("task", "envs", "seeds", "threads", "beside", "ours", "JAX", "ratio", *PARTS)
    widths = (24, 6, 5, 7, 7, 10, 10, 7, 11, 11, 11)
    print(" ".join(f"{name:>{width}}" for name, width in zip(names, widths)), flush=True)
    rows = []
    for count, number, beside in itertools.product(num_seeds, threads, numbers(options.neighbours)):
        how = (count, options.device, rounds, seconds, number, beside, options.as_usual, more)
        row = measure(options.env, options.num_envs, *how)
        rows.append(row)
        cells = [row["task"], row["num_envs"], count, number or "all", beside, f"{row['ours']:,.0f}"]
        cells += [f"{row['jax']:,.0f}", f"{row['jax_ratio']:.2f}"] if "jax" in row else ["-", "-"]
        cells += [f"{row[f'{part}_s']:.4f}" for part in PARTS]
        print(" ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)), flush=True)
        if "jax_as_usual" in row:
            print(
                f"  beside JAX as one would write it first: {row['jax_as_usual']:,.0f}, {row['jax_as_usual_ratio']:.2f}"
            )
    write_json(options.json, machine, rows)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
