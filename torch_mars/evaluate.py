"""How good are the policies of a run? Their returns and the environment's metrics, with 95% intervals.

    python -m torch_mars.evaluate runs/paxmen_5a/mars/<run>

Every training seed plays the same number of episodes, one in each of as many environments: which episodes count is
settled before any starts, so that short ones are not preferred.

The intervals are Student's t for a mean of n numbers, m +- t(n - 1) s / sqrt(n): for one training seed over its
episodes (what other episodes would give), for all seeds together over the seeds' means (what other seeds would give).

A mean may be like no episode at all. So quartiles, extremes and a histogram stand below, over the episodes of all seeds
together, and a sentence for every mean that hides two groups of episodes.
"""

import dataclasses
import json
import math
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_mars.envs import rng
from torch_mars.nn import speed
from torch_mars.protocol.intervals import CONFIDENCE, mean_and_interval
from torch_mars.protocol.spread import five_numbers, histogram, two_groups
from torch_mars.run.cli import (
    Parser,
    add_list_tasks,
    check_device,
    guarded,
    note,
    path_argument,
    resolve_device,
    whole_number,
)
from torch_mars.run.settings import device_for
from torch_mars.teams.policies import Trained, add_own, read, task_or_path

MOST_EPISODES = 10**6
SHORTEST, LONGEST = 12, 40  # characters of a histogram
BATCH = 256  # episodes played at once for each training seed


def evaluate(trained: Trained, episodes: int, seed: int = 0, greedy: bool = False, device: str = "cpu") -> dict:
    """Play `episodes` episodes with every training seed's policy.

    Args:
        trained: from `torch_mars.teams.policies.read`.
        episodes: for each training seed.
        seed: of the episodes and of the sampled actions. More episodes with the same seed begin with the same whole
            batches of 256.
        greedy: take the most likely action instead of sampling.

    Returns:
        metric -> list over training seeds of lists over episodes; `episode_return` is one of the metrics.
    """
    args = dataclasses.replace(trained.args, env=trained.task, num_seeds=len(trained.seeds), eval_greedy=greedy)
    found: dict[str, list[list[float]]] = {}
    for start in range(0, episodes, BATCH):
        seeds = [rng.derive(seed, "evaluate", training_seed, start) for training_seed in trained.seeds]
        env = trained.make_env(len(seeds) * min(BATCH, episodes - start), device, seeds)
        actor = trained.actor(env, list(range(len(seeds))))
        for name, lists in trained.lesson.evaluate(env, actor, seeds, args).items():
            before = found.setdefault(name, [[] for _ in seeds])
            found[name] = [old + new for old, new in zip(before, lists)]
    return found


# ---- what is shown ----


def summary(found: dict[str, list[list[float]]], seeds: list[int]) -> dict[str, Any]:
    """For JSON, of every metric: by training seed and together, mean, low and high; by seed and over all episodes, how
    they are spread; by seed, the episodes."""

    def described(values: Sequence[float]) -> dict[str, float | None]:
        mean, half = mean_and_interval(values)
        low, high = (None, None) if math.isnan(half) else (mean - half, mean + half)
        return {"mean": mean, "low": low, "high": high}

    def spread(values: Sequence[float]) -> dict[str, Any]:
        groups = two_groups(values)
        parts = groups and [{"share": s, "centre": c} for s, c in zip(groups.shares, groups.centres)]
        return {**five_numbers(values), "groups": parts}

    result = {}
    for name, lists in found.items():
        by_seed = {
            str(seed): {**described(values), "spread": spread(values), "episodes": values}
            for seed, values in zip(seeds, lists)
        }
        means = [float(np.mean(values)) for values in lists]
        result[name] = {"seeds": by_seed, "together": described(means), "spread": spread(sum(lists, []))}
    return result


def table(found: dict[str, list[list[float]]], seeds: list[int], width: int) -> str:
    """Metrics downwards; all seeds, then each, sideways, in as many blocks as fit into `width` characters."""
    columns = {f"seed {seed}": [lists[p] for lists in found.values()] for p, seed in enumerate(seeds)}
    if len(seeds) > 1:
        means = [[float(np.mean(values)) for values in lists] for lists in found.values()]
        columns = {f"{len(seeds)} seeds": means, **columns}
    cells = {head: [_cell(*mean_and_interval(values)) for values in lists] for head, lists in columns.items()}
    return _in_blocks(list(map(_words, found)), cells, width)


def spread_table(found: dict[str, list[list[float]]], width: int) -> str:
    """Metrics downwards; sideways, over the episodes of all seeds together, extremes, quartiles and a histogram."""
    together = [sum(lists, []) for lists in found.values()]
    names = {"least": "least", "25%": "lower_quartile", "median": "median", "75%": "upper_quartile", "most": "most"}
    numbers = [five_numbers(values) for values in together]
    cells = {head: [f"{one[name]:.2f}" for one in numbers] for head, name in names.items()}
    rows = list(map(_words, found))
    left = width - len(_in_blocks(rows, cells, 10**6).splitlines()[0]) - 4  # beside the numbers, else below them
    size = min(LONGEST, left if left >= SHORTEST else width - max(map(len, rows)) - 4)
    cells["least to most"] = [f"|{histogram(values, max(size, SHORTEST))}|" for values in together]
    return _in_blocks(rows, cells, width)


def warnings(found: dict[str, list[list[float]]]) -> list[str]:
    """A sentence for every metric whose mean hides two groups of episodes."""
    sentences = []
    for name, lists in found.items():
        values = sum(lists, [])
        if groups := two_groups(values):
            (low, high), (a, b) = groups.shares, groups.centres
            sentences.append(
                f"the mean of {_words(name)}, {np.mean(values):.2f}, hides two groups of episodes: "
                f"{low:.0%} around {a:.2f} and {high:.0%} around {b:.2f}"
            )
    return sentences


def _words(name: str) -> str:
    return name.removeprefix("episode_").replace("_", " ")


def _in_blocks(names: list[str], columns: dict[str, list[str]], width: int) -> str:
    """Rows with names; columns by their heads, in as many blocks as fit into `width` characters."""
    first = max(map(len, names))
    sizes = {head: 2 + max(len(head), *map(len, cells)) for head, cells in columns.items()}
    blocks: list[list[str]] = [[]]
    for head, size in sizes.items():
        if blocks[-1] and first + sum(sizes[h] for h in blocks[-1]) + size > width:
            blocks.append([])
        blocks[-1].append(head)
    lines = []
    for block in blocks:
        lines += ["", " " * first + "".join(head.rjust(sizes[head]) for head in block)]
        lines += [
            name.rjust(first) + "".join(columns[h][i].rjust(sizes[h]) for h in block) for i, name in enumerate(names)
        ]
    return "\n".join(lines[1:])


def _cell(mean: float, half: float) -> str:
    return f"{mean:.2f}" if math.isnan(half) else f"{mean:.2f} +- {half:.2f}"


# ---- the command ----


def make_parser() -> Parser:
    parser = Parser(
        prog="evaluate",
        description="Returns and metrics of a run's policies, with 95% intervals, by training seed and together.",
        epilog="A run's folder and its policy.pt stand for the best policy of every training seed, checkpoint.pt for "
        "the latest. Intervals (Student's t) are over episodes for one seed, over the seeds' means for all.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", type=path_argument, metavar="RUN_OR_TASK",
        help="a run's folder, its policy.pt or checkpoint.pt, or a task with an installed team",
    )  # fmt: skip
    add_own(parser)
    episodes = whole_number(1, MOST_EPISODES)
    parser.add_argument("--episodes", type=episodes, default=320, metavar="N", help="of each seed (default 320)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="of the episodes (default 0)")
    parser.add_argument("--greedy", action="store_true", help="take the most likely action instead of sampling")
    parser.add_argument("--device", default="auto", metavar="TEXT", help="auto, cpu, cuda, cuda:0, ... (default auto)")
    add_list_tasks(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with every single episode")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    check_device(resolve_device(args.device))
    task_or_path(args.run)
    trained = read(args.run, args.env, args.lesson)
    device = device_for(trained.task, args.device)
    actions = "most likely actions" if args.greedy else "sampled actions"
    if not args.json:
        print(f"{trained.algorithm.upper()} on {trained.task}, {trained.what}: {trained.path}")
        print(f"mean +- 95% interval over {args.episodes} episodes{' a seed' if len(trained.seeds) > 1 else ''}, "
              f"{actions}\n", flush=True)  # fmt: skip
    speed.prepare(device)
    found = evaluate(trained, args.episodes, args.seed, args.greedy, device)
    if not args.json:
        width = shutil.get_terminal_size((100, 0)).columns
        print(table(found, trained.seeds, width))
        count = len(trained.seeds) * args.episodes
        head = f"{count} episodes from the least to the most, . for few and @ for most of them"
        print(f"\n{textwrap.fill(head, max(width, SHORTEST))}\n\n{spread_table(found, width)}")
        for sentence in warnings(found):
            note(sentence)
        return 0
    head = {"path": str(trained.path), "policy": trained.what, "algorithm": trained.algorithm, "task": trained.task}
    head |= {"env_options": trained.env_options, "episodes": args.episodes, "seed": args.seed, "greedy": args.greedy}
    interval = f"{CONFIDENCE:.0%} Student t: by seed over episodes, together over the seeds' means"
    print(json.dumps({**head, "interval": interval, "metrics": summary(found, trained.seeds)}))
    return 0


if __name__ == "__main__":
    guarded(main, "evaluate")
