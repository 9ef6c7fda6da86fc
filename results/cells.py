"""The table of all 47 tasks: what its cells, three methods on every task, are made of, and how they are shown.

`landing.py` fills `tasks/<environment>/`, `draw.py` shows it. A task's row has runs of one length.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torch_mars import envs
from torch_mars.protocol import gather, intervals, methods, saved, tables

HERE = Path(__file__).parent
FOLDER = HERE / "tasks"
TOLD = "cells.json"
THREE = ("mappo", "maspo", "mars")
SEEDS, SEEDS_OF_ORDER = 3, 5
# one task of each environment, two of PaxMen, on which the order of the methods is asked
ORDER = (
    *("paxmen_5a", "paxmen_4a", "aerojax_2v2", "jaxnav_7x7x2a", "search_and_rescue_2x20", "connector_5x5x3a"),
    *("simple_spread_3ag", "rware_tiny_2ag", "smax_2s3z"),
)
# of each environment the metric that says best how well a team does, and what it is
HEADLINES = {
    "paxmen": ("rooms_eaten_in", "rooms eaten in"),
    "aerojax": ("won", "won"),
    "jaxnav": ("goal_rate", "goals a robot"),
    "search_and_rescue": ("found_fraction", "targets found"),
    "connector": ("connected_ratio", "agents connected"),
    "mpe": ("coverage", "landmarks covered"),
    "rware": ("deliveries", "deliveries"),
    "smax": ("won", "won"),
}
# what is known of the returns, by task and by environment: by a hand-written team, or the most that there is
KNOWN = {
    "paxmen_5a": "110 to 120 (script)",
    "search_and_rescue_2x20": "6.9 (simple rule), below 10",
    "search_and_rescue_4x40": "below 10",
    "search_and_rescue_8x40": "below 5",
    "connector_5x5x3a": "below 2.91",
    "connector_7x7x5a": "below 4.85",
    "connector_10x10x10a": "below 9.7",
    "connector_15x15x23a": "below 22.31",
}
MOST = {
    "smax": "2 (every battle won)",
    "aerojax": "2 (all shot, nobody lost)",
    "rware": "one a delivery",
    "mpe": "below 0",
}

Cells = dict[str, dict[str, dict[str, Any]]]  # task -> method -> of a cell


# ---- what is there ----


def evaluations(environment: str) -> Cells:
    """task -> method -> `run_<seed>` -> evaluations; {} where nothing has landed."""
    path = FOLDER / environment / saved.EVALUATIONS
    return saved.read_nested(path)[environment] if path.exists() else {}


def told(environment: str) -> Cells:
    """task -> method -> what `landing.about` tells."""
    path = FOLDER / environment / TOLD
    return json.loads(path.read_text()) if path.exists() else {}


def steps_of(task: str) -> int:
    """Environment steps of a seed: those that landed, else as many as 10 minutes of a core are good for."""
    landed = [cell["steps"] for cell in told(envs.family(task)).get(task, {}).values()]
    return landed[0] if landed else yaml.safe_load((FOLDER / "steps.yaml").read_text())[task]


def command(task: str, algos: list[str], seeds: int, steps: int) -> str:
    """The line that trains these cells."""
    short = next(
        f"{steps // unit}{letter}" for unit, letter in ((10**6, "M"), (1000, "k"), (1, "")) if not steps % unit
    )
    return (
        f"torch-mars experiment --preset ours --envs {task} --algos {','.join(algos)} --seeds {seeds} "
        f"--total-steps {short} --run-dir runs/tasks"
    )


def missing() -> Iterator[tuple[str, list[str], str]]:
    """Task, the methods that it lacks, and the line that trains them."""
    for task in envs.TASKS:
        there = told(envs.family(task)).get(task, {})
        lacking = [name for name in THREE if name not in there]
        if lacking:
            seeds = max(
                (cell["seeds"][1] for cell in there.values()), default=SEEDS_OF_ORDER if task in ORDER else SEEDS
            )
            yield task, lacking, command(task, lacking, seeds, steps_of(task))


# ---- the table of all tasks ----

HEAD = """# All 47 tasks

For breadth, not for the order of the methods. They have the settings of [`yaml/`](../yaml), which differ between the
three only in the trust region (MARS and MASPO of [one
strength](../docs/protocol.md#trust-regions-of-equal-strength)), and the same number of steps, as many as ten minutes
of a core or more are good for with a cell's seeds side by side. Returns are means over seeds of the last fifth of the
evaluations, in brackets the lowest and the highest seed; random play is 320 episodes. Known: what a hand-written team
reaches, or "below" what everything found, covered or connected in the first step would pay. Behind each environment's
cells: PAGES.
"""


def tasks_page() -> str:
    there = [name for name in envs.ENVIRONMENTS if told(name)]
    pages = ", ".join(f"[{envs.title(name)}](tasks/{name}/README.md)" for name in there)
    return f"{HEAD.replace('PAGES', pages)}\n{table()}\n{gaps()}"


def table() -> str:
    """Every task: returns of random play, what is known, and of three methods; and the metric that says most."""
    random = json.loads((HERE / "random.json").read_text())
    lines = [
        [
            "task",
            "steps",
            "seeds",
            "random",
            "known",
            *(methods.named(name).label for name in THREE),
            "random, the three",
        ]
    ]
    for task in envs.TASKS:
        environment = envs.family(task)
        by_method, about = evaluations(environment).get(task, {}), told(environment).get(task, {})
        metric, what = HEADLINES[environment]
        shares = [
            random[task][metric]["mean"],
            *(last_of(by_method[m], metric) if m in by_method else None for m in THREE),
        ]
        lines.append(
            [
                task,
                among(f"{cell['steps'] / 1e6:.1f}M" for cell in about.values()),
                among(str(cell["seeds"][1]) for cell in about.values()),
                f"{random[task]['episode_return']['mean']:.2f}",
                KNOWN.get(task, MOST.get(environment, "")),
                *(returns_of(by_method[name]) if name in by_method else "" for name in THREE),
                f"{what}: " + ", ".join("-" if share is None else f"{share:.2f}" for share in shares),
            ]
        )
    return grid(lines)


def grid(lines: list[list[str]]) -> str:
    head, *rows = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def among(words: Iterator[str]) -> str:
    return ", ".join(sorted(set(words)))


def returns_of(by_seed: dict[str, dict]) -> str:
    """Mean over seeds of the final returns, the least and the most of them."""
    final = gather.curves(by_seed).final
    return f"{final.mean():.2f} ({final.min():.2f} to {final.max():.2f})"


def last_of(by_seed: dict[str, dict], metric: str) -> float:
    """A metric as returns are scored: mean over the last fifth of the evaluations, and over seeds."""
    scores = []
    for one in by_seed.values():
        ordered = sorted((one[name] for name in saved.steps_of(one)), key=lambda evaluation: evaluation["step_count"])
        scores.append(intervals.final_score([float(np.mean(evaluation[metric])) for evaluation in ordered]))
    return float(np.mean(scores))


def gaps() -> str:
    """The cells that are missing, and the lines that train them."""
    lines = list(missing())
    if not lines:
        return "No cell is missing.\n"
    count = sum(len(lacking) for _, lacking, _ in lines)
    head = (
        f"{count} of {len(envs.TASKS) * len(THREE)} cells are missing. These lines train them, `landing.py` lands them:"
    )
    return f"{head}\n\n```bash\n" + "".join(f"{line}\n" for *_, line in lines) + "```\n"


# ---- the order of the methods ----


def of_order() -> saved.Nested:
    """What has landed of the tasks on which the order is asked: those with enough seeds of all three methods."""
    found: saved.Nested = {}
    for task in ORDER:
        by_method = evaluations(envs.family(task)).get(task, {})
        if all(len(by_method.get(name, {})) >= SEEDS_OF_ORDER for name in THREE):
            found.setdefault(envs.family(task), {})[task] = {name: by_method[name] for name in THREE}
    return found


def order_table() -> str:
    """Final returns with intervals, and of MARS against either: the share of pairs that it wins, and p."""
    labels = [methods.named(name).label for name in THREE]
    lines = [["task", "seeds", "steps", *labels, *(f"MARS over {label}" for label in labels[:-1])]]
    for task in tables.tasks_of(of_order()):
        cell = told(task.environment)[task.name]["mars"]
        line = [task.name, str(min(curves.seeds for curves in task.curves.values())), f"{cell['steps'] / 1e6:.1f}M"]
        for name in THREE:
            low, high = intervals.mean_interval(task.curves[name].final, intervals.TABLE_REPLICATES)
            line.append(f"{task.curves[name].final.mean():.2f} [{low:.2f}, {high:.2f}]")
        for name in THREE[:-1]:
            scores = [task.curves["mars"].final], [task.curves[name].final]
            share, p = intervals.probability_of_improvement(*scores), intervals.permutation_p(*scores)
            line.append(f"{share:.2f}, p = {p:.2g}")
        lines.append(line)
    return grid(lines)


# ---- an environment's page ----


def page(environment: str) -> str:
    """Everything that has landed of an environment, and how it was made."""
    by_task, about = evaluations(environment), told(environment)
    metric, what = HEADLINES[environment]
    lines = [
        [
            "task",
            "method",
            "strength",
            "seeds",
            "steps",
            "return, last fifth [95%]",
            "best policies: median (quartiles)",
        ]
        + [what, "ratios: usual, most extreme", "minutes"]
    ]
    for task, name in itertools.product(envs.ENVIRONMENTS[environment], THREE):
        if name not in about.get(task, {}):
            continue
        cell, final = about[task][name], gather.curves(by_task[task][name]).final
        low, high = intervals.mean_interval(final, intervals.TABLE_REPLICATES)
        quarter, half, three = np.mean(list(cell["quartiles"].values()), 0)
        ratios = cell["ratios"]
        lines.append(
            [
                *(task, methods.named(name).label, f"{strength_of(cell['trust_region']):.2f}"),
                *(str(cell["seeds"][1]), f"{cell['steps'] / 1e6:.2f}M"),
                f"{final.mean():.2f} [{low:.2f}, {high:.2f}]",
                f"{half:.2f} ({quarter:.2f} to {three:.2f})",
                f"{last_of(by_task[task][name], metric):.2f}",
                f"{ratios['min_median']:.2f} to {ratios['max_median']:.2f}, {ratios['min']:.2g} to {ratios['max']:.3g}",
                f"{cell['minutes']:.0f}",
            ]
        )
    parts = [
        f"# {envs.title(environment)}: what was trained",
        "![Learning curves](curves.png)",
        "Returns with 95% bootstrap intervals over seeds; of 320 or more new episodes of each seed's best policy the "
        "median and the quartiles, means over seeds; of an update's smallest and largest ratio the median and the most "
        "extreme over all updates and seeds. Minutes are those of the process, all seeds of a cell side by side.",
        grid(lines).rstrip(),
        "## How",
        made(about),
    ]
    lacking = [line for task, _, line in missing() if envs.family(task) == environment]
    if lacking:
        parts += ["## Missing", "```bash\n" + "\n".join(lacking) + "\n```"]
    return "\n\n".join(parts) + "\n"


def strength_of(trust_region: dict[str, float]) -> float:
    """Of MARS that of its target, of the others their clip, which is what it is matched with."""
    return methods.strength(trust_region["expand"]) if "expand" in trust_region else trust_region["clip"]


def made(about: Cells) -> str:
    """The commands, by machine and commit."""
    found: dict[tuple[str, str], list[str]] = {}
    for by_method in about.values():
        for cell in by_method.values():
            unlike = [f"  # with {name}: {value} in --config" for name, value in cell["unlike_yaml"].items()]
            found.setdefault((cell["machine"], cell["commit"]), []).append(cell["command"] + "".join(unlike))
    parts = []
    for (machine, commit), commands in found.items():
        parts.append(f"On {machine}, commit {commit}:\n\n```bash\n" + "\n".join(dict.fromkeys(commands)) + "\n```")
    return "\n\n".join(parts)
