"""Several processes that train one run (ranks, `nn/world.py`) beside one: how much faster, and what talking costs.

    python benchmarks/scaling.py [--ranks 1,2] [--num-envs 128] [--task paxmen_5a] [--device cpu] [--json FILE]
        [--threads 2] [--rounds 5] [--seconds 5]
    python benchmarks/scaling.py --model

Every measurement is a launch of its own, and launches take turns, so that a drifting machine slows all alike; "ratio"
is the median over rounds, to the one process with `--threads` threads. Strong: as many environments in all, whatever
the ranks. Weak: as many for every rank. A rank has one thread.

"talk" is the share of an iteration that its collectives take when nothing else is done, one after the other; "waits"
the share that rank 0 really spent in them, waiting for the others included (on a CPU; a GPU goes on meanwhile).

`--model` computes, from bytes and rates, what 8 cards of a machine and 64 machines would make of it. Nothing of that
was measured.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from side_by_side import facts, print_facts, write_json
from train_throughput import ROLLOUT_LENGTH, WARM_UP, Training

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


# ---- one side, in processes of its own ----


def side(args: argparse.Namespace) -> int:
    """Train for some seconds and write what was measured to `args.out`; the exit code."""
    import torch

    from torch_mars.algos import mappo
    from torch_mars.nn import world

    more = {"num_envs": args.num_envs, "device": args.device, "eval_episodes": 64, "total_steps": 10**9}
    with world.World(mappo.Args(env=args.task, rollout_length=ROLLOUT_LENGTH, **more), "scaling") as ranks:
        calls, spent = [], [0.0]
        plain = world._together

        def timed(collective, *arguments):
            calls.append((collective, arguments))
            started = time.perf_counter()
            plain(collective, *arguments)
            spent[0] += time.perf_counter() - started

        world._together = timed
        training = Training(args.task, args.num_envs, 1, args.device, ranks=ranks)
        training.iterate()  # on a GPU the next ones but one are recorded, and then call nothing
        calls.clear()
        training.iterate()
        of_an_iteration = list(calls)
        for _ in range(WARM_UP):
            training.iterate()
        spent[0], count, started = 0.0, 0, time.perf_counter()
        is_over = False
        while not is_over:
            training.iterate()
            count += 1
            is_over = any(ranks.agreed(ranks.is_first and time.perf_counter() - started > args.seconds))
        seconds = (time.perf_counter() - started) / count
        waits = spent[0] / count

        def talk() -> float:
            ranks.agreed(True)
            begun = time.perf_counter()
            for collective, arguments in of_an_iteration:
                plain(collective, *arguments)
            training.wait()
            return time.perf_counter() - begun

        talks = statistics.median(talk() for _ in range(20))
        tensors = [x for _, arguments in of_an_iteration for x in arguments if isinstance(x, torch.Tensor)]
        found = {
            "seconds": seconds,
            "collectives": len(of_an_iteration),
            "bytes": sum(x.numel() * x.element_size() for x in tensors),
            "talk": talks / seconds,
            "waits": None if training.is_on_gpu else waits / seconds,
        }
        if ranks.is_first:
            Path(args.out).write_text(json.dumps(found))
    return 0


def launch(args: argparse.Namespace, ranks: int, num_envs: int, folder: str) -> dict:
    """What a side measured with so many ranks; 0: one process with all threads, without a launcher."""
    out = Path(folder) / "found.json"
    words = [__file__, "--side", "--out", str(out), "--num-envs", str(num_envs), "--task", args.task]
    words += ["--device", args.device, "--seconds", str(args.seconds)]
    program = [*TORCHRUN, str(ranks)] if ranks else [sys.executable]
    environment = {**os.environ, "OMP_NUM_THREADS": str(1 if ranks else args.threads)}
    done = subprocess.run([*program, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"a side failed:\n{done.stderr[-3000:]}")
    return json.loads(out.read_text())


def measure(args: argparse.Namespace) -> Iterator[dict]:
    """A row for one process, and for every number of ranks, strong and weak."""
    cases = {("one process", args.threads, args.num_envs): 0}
    for ranks in args.ranks:
        cases[("strong", ranks, args.num_envs)] = ranks
        if ranks > 1:
            cases[("weak", ranks, args.num_envs * ranks)] = ranks
    found: dict[tuple, list[dict]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for case, ranks in cases.items():
                found[case].append(launch(args, ranks, case[2], folder))
    base, *_ = found.values()
    for (kind, count, num_envs), results in found.items():
        rates = [num_envs * ROLLOUT_LENGTH / one["seconds"] for one in results]
        of_base = [args.num_envs * ROLLOUT_LENGTH / one["seconds"] for one in base]
        row = {"kind": kind, "ranks" if kind != "one process" else "threads": count, "num_envs": num_envs}
        row |= {"steps_per_second": statistics.median(rates)}
        row |= {"ratio": statistics.median(mine / other for mine, other in zip(rates, of_base))}
        row |= {name: results[0][name] for name in ("collectives", "bytes")}
        for name in ("talk", "waits"):
            values = [one[name] for one in results if one[name] is not None]
            row |= {name: statistics.median(values) if values else None}
        yield row


# ---- on paper ----

# an iteration of PaxMen 5a on one H200, compiled, by environments of a rank: seconds (results/gpu/h200_compiled)
ON_ONE_CARD = {1024: 1024 * 128 / 2.81e6, 8192: 8192 * 128 / 4.95e6}
WEIGHTS = 21_125 + 34_689  # numbers of actor and critic
MINIBATCHES, NORMALISING, LOGGED = 16, 2, 7  # collectives of a minibatch besides gradients; of an iteration
# rates as their makers state them; a collective's first step costs a launch, every further one a message
LAUNCH, NVLINK, NVLINK_RATE = 12e-6, 2e-6, 300e9  # s, s, bytes/s
NETWORK, NETWORK_RATE = 6e-6, 40e9  # s, bytes/s of a machine, as of 400 Gb/s


def seconds_of_talk(cards: int, machines: int) -> float:
    """Of an iteration: all-reduces of two gradients and two small statistics a minibatch, and what is logged.

    A tree: up and down log2 of the cards, then of the machines, with the gradient's bytes over the slower link twice.
    """
    steps = 2 * math.log2(max(1, cards)) * NVLINK + 2 * math.log2(max(1, machines)) * NETWORK
    slowest = NETWORK_RATE if machines > 1 else NVLINK_RATE
    per_minibatch = (2 + NORMALISING) * (LAUNCH + steps) + 2 * 4 * WEIGHTS / slowest
    return MINIBATCHES * per_minibatch + LOGGED * (LAUNCH + steps)


def model() -> Iterator[dict]:
    for num_envs, seconds in ON_ONE_CARD.items():
        for cards, machines in ((1, 1), (8, 1), (8, 8), (8, 64)):
            talk = seconds_of_talk(cards, machines) if cards * machines > 1 else 0.0
            total = cards * machines
            yield {
                "cards": total,
                "environments a card": num_envs,
                "ms an iteration": 1e3 * (seconds + talk),
                "talk": talk / (seconds + talk),
                "steps_per_second": total * num_envs * ROLLOUT_LENGTH / (seconds + talk),
                "weak efficiency": seconds / (seconds + talk),
            }


# ---- the command ----


def print_rows(rows: list[dict]) -> None:
    for row in rows:
        parts = []
        for name, value in row.items():
            text = "-" if value is None else f"{value:,.3g}" if isinstance(value, float) and value < 1000 else value
            text = f"{text:,.0f}" if isinstance(text, float) else text
            parts.append(f"{name} {text}")
        print("  ".join(parts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="paxmen_5a")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--ranks", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        from torch_mars.run.cli import guarded

        guarded(lambda: side(args), "scaling")
    elif args.model:
        print_rows(list(model()))
    else:
        machine = facts(args.device)
        print_facts(machine)
        rows = list(measure(args))
        print_rows(rows)
        write_json(args.json, machine, rows)


if __name__ == "__main__":
    main()
