"""The table of all 47 tasks: what its cells, three methods on every task, are made of, and how they are shown.

`landing.py` fills `tasks/<environment>/`, `draw.py` shows it. MARS has the targets r* and 1/r* in all of them.
"""

import itertools
import json
from collections.abc import Iterable
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
LABELS = {**{name: methods.named(name).label for name in THREE}, **{"mars": methods.INVERSE_LABEL}}
EVALUATION = ("eval_every", "eval_episodes")  # in which the cells of a task are alike, too
FIRST_SEED = 10
SEEDS = 3
# one task of each environment, two of PaxMen, on which the order of the methods is asked
ORDER = (
    *("paxmen_5a", "paxmen_4a", "aerojax_2v2", "jaxnav_7x7x2a", "search_and_rescue_2x20", "connector_5x5x3a"),
    *("simple_spread_3ag", "rware_tiny_2ag", "smax_2s3z"),
)
SEEDS_OF_ORDER = dict.fromkeys(ORDER, 5) | {"paxmen_5a": 10}
STEPS_OF_ORDER = {"paxmen_5a": 20_000_000, "aerojax_2v2": 10_000_000}  # where less tells another story
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


def diverged(environment: str) -> dict[str, dict[str, dict[str, int]]]:
    """task -> method -> `run_<seed>` -> the step at which it diverged."""
    return {
        task: {
            method: {f"run_{seed}": step for seed, step in cell["diverged"].items()}
            for method, cell in by_method.items()
        }
        for task, by_method in told(environment).items()
    }


def told(environment: str) -> Cells:
    """task -> method -> what `landing.about` tells."""
    path = FOLDER / environment / TOLD
    return json.loads(path.read_text()) if path.exists() else {}


def command(task: str, algos: list[str], seeds: int, steps: int, unlike: dict[str, Any]) -> str:
    """The line that trains these cells."""
    count = next(
        f"{steps // unit}{letter}" for unit, letter in ((10**6, "M"), (1000, "k"), (1, "")) if not steps % unit
    )
    config = "  # with --config of " + ", ".join(f"{name}: {value}" for name, value in unlike.items()) if unlike else ""
    return (
        f"torch-mars experiment --preset ours --envs {task} --algos {','.join(algos)} --seeds {seeds} "
        f"--total-steps {count} --run-dir runs/tasks{config}"
    )


def wanted(task: str) -> tuple[int, int]:
    """Seeds and environment steps of every cell of a task: at least as many as one of them has."""
    there = told(envs.family(task)).get(task, {}).values()
    longest = max((cell["total_steps"] for cell in there), default=0)
    steps = longest or yaml.safe_load((FOLDER / "steps.yaml").read_text())[task]
    seeds = max((cell["seeds"] for cell in there), default=0)
    return max(seeds, SEEDS_OF_ORDER.get(task, SEEDS)), max(steps, STEPS_OF_ORDER.get(task, 0))


def to_train(task: str) -> tuple[list[str], list[str], str]:
    """The methods without a cell, those whose cell has fewer seeds or steps than is wanted, and the line for both."""
    there = told(envs.family(task)).get(task, {})
    seeds, steps = wanted(task)
    missing = [name for name in THREE if name not in there]
    short = [
        name for name in THREE if name in there and (there[name]["seeds"], there[name]["total_steps"]) != (seeds, steps)
    ]
    unlike = {
        name: value for cell in there.values() for name, value in cell["unlike_yaml"].items() if name in EVALUATION
    }
    line = command(task, [name for name in THREE if name in missing + short], seeds, steps, unlike)
    for name in short:  # a longer one keeps what is its own
        own = {key: value for key, value in there[name]["unlike_yaml"].items() if key not in EVALUATION}
        line += "".join(f"; {name} by itself, with {key}: {value}" for key, value in own.items())
    return missing, short, line


# ---- the table of all tasks ----

HEAD = """# All 47 tasks

For breadth, not for the order of the methods. The settings are those of [`yaml/`](../yaml), alike for the three but
for the trust region: MARS and MASPO are of [one strength](../docs/protocol.md#trust-regions-of-equal-strength), MAPPO
has its usual clip, 0.2 (\\* other settings, told on the environment's page). All methods of a task have the same
number of steps, at least as many as one core trains in ten minutes, with the seeds of a cell side by side. Returns
are means over seeds of the last fifth of the evaluations, in brackets the lowest and the highest seed; random play is
320 episodes. Known is what a hand-written team reaches, or the most that there is; "below" says what everything
found, covered or connected in the first step would pay. The last column is the metric that says most: of random play,
then of the three.

Behind the cells: PAGES.
"""


def tasks_page() -> str:
    there = [name for name in envs.ENVIRONMENTS if told(name)]
    pages = ", ".join(f"[{envs.title(name)}](tasks/{name}/README.md)" for name in there)
    return f"{HEAD.replace('PAGES', pages)}\n{table()}\n{little_learned()}\n{gaps()}"


def table() -> str:
    """Every task: returns of random play, what is known, and of three methods; and the metric that says most."""
    random = json.loads((HERE / "random.json").read_text())
    lines = [["task", "steps", "seeds", "random", "known", *LABELS.values(), "random play, the three"]]
    for task in envs.TASKS:
        environment = envs.family(task)
        by_method, about = evaluations(environment).get(task, {}), told(environment).get(task, {})
        metric, what = HEADLINES[environment]
        by_chance = f"{random[task][metric]['mean']:.2f}"
        shares = [f"{last_of(by_method[name], metric):.2f}" if name in by_method else "-" for name in THREE]
        line = [
            task,
            of_each(millions(about[name]["total_steps"]) for name in THREE if name in about),
            of_each(str(about[name]["seeds"]) for name in THREE if name in about),
            f"{random[task]['episode_return']['mean']:.2f}",
            KNOWN.get(task, MOST.get(environment, "")),
        ]
        for name in THREE:
            star = " \\*" if name in about and about[name]["unlike_yaml"].keys() - set(EVALUATION) else ""
            line.append(returns_of(by_method[name]) + star if name in by_method else "")
        line.append(f"{what}: {', '.join([by_chance, *shares])}")
        lines.append(line)
    return grid(lines)


def grid(lines: list[list[str]]) -> str:
    head, *rows = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def millions(steps: int) -> str:
    return f"{steps / 1e6:.4g}M"


def of_each(words: Iterable[str]) -> str:
    """One word where it is the same of all methods, else each's."""
    each = list(words)
    return ", ".join(each if len(set(each)) > 1 else each[:1])


def returns_of(by_seed: dict[str, dict]) -> str:
    """Mean over seeds of the final returns, the least and the most of them."""
    final = gather.curves(by_seed).final
    return f"{final.mean():.2f} ({final.min():.2f} to {final.max():.2f})"


def mean_of(scores: np.ndarray) -> str:
    """The mean of seeds' scores, and its interval."""
    low, high = intervals.mean_interval(scores, intervals.TABLE_REPLICATES)
    return f"{scores.mean():.2f} [{low:.2f}, {high:.2f}]"


def ratios_of(by_seed: dict[str, dict[str, list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest ratio of every update, of all seeds."""
    least, most = (
        np.concatenate([np.array(one[key], float) for one in by_seed.values()]) for key in ("ratio_min", "ratio_max")
    )
    return least, most


def up_to(of_seed: dict[str, dict], steps: int) -> dict[str, dict]:
    """The evaluations of a seed in its first environment steps; without the best policy, which is of the whole run."""
    return {name: step for name, step in of_seed.items() if step.get("step_count", np.inf) <= steps}


def last_of(by_seed: dict[str, dict], metric: str) -> float:
    """A metric as returns are scored: mean over the last fifth of the evaluations, and over seeds."""
    scores = []
    for one in by_seed.values():
        ordered = sorted((one[name] for name in saved.steps_of(one)), key=lambda evaluation: evaluation["step_count"])
        scores.append(intervals.final_score([float(np.mean(evaluation[metric])) for evaluation in ordered]))
    return float(np.mean(scores))


def little_learned() -> str:
    """What `notes.yaml` says of tasks on which little is learned in these steps, and of what was tried."""
    notes = yaml.safe_load((FOLDER / "notes.yaml").read_text())
    lines = [f"- {', '.join(f'`{task}`' for task in note['tasks'])}: {note['says'].strip()}" for note in notes]
    return "\n".join(["On some of them little is learned in so many steps:", "", *lines, ""])


def gaps() -> str:
    """The cells that are missing or short, and the lines that train them."""
    lines = {task: to_train(task) for task in envs.TASKS}
    missing, short = (sum(len(found[i]) for found in lines.values()) for i in range(2))
    if not missing + short:
        return "No cell is missing.\n"
    head = (
        f"Of {len(envs.TASKS) * len(THREE)} cells {missing} are missing, {short} with fewer seeds or steps than is "
        "wanted of their task. These lines train them, and `python results/landing.py runs/tasks` lands them:"
    )
    return f"{head}\n\n{block(line for *methods_of, line in lines.values() if any(methods_of))}\n"


def block(lines: Iterable[str]) -> str:
    return "```bash\n" + "\n".join(dict.fromkeys(lines)) + "\n```"


# ---- the order of the methods ----


def of_order() -> saved.Nested:
    """What has landed of the tasks on which the order is asked: those whose three methods have five seeds or more, of
    as many steps and evaluations."""
    found: saved.Nested = {}
    for task in ORDER:
        environment = envs.family(task)
        cells = [told(environment).get(task, {}).get(name) for name in THREE]
        if all(cell and cell["seeds"] >= min(SEEDS_OF_ORDER.values()) for cell in cells) and are_alike(cells):
            by_method = evaluations(environment)[task]
            found.setdefault(environment, {})[task] = {name: by_method[name] for name in THREE}
    return found


def are_alike(cells: list[dict[str, Any]]) -> bool:
    """Whether they have as many steps, and are evaluated alike."""
    about = [(cell["total_steps"], *(cell["unlike_yaml"].get(name) for name in EVALUATION)) for cell in cells]
    return len(set(about)) == 1


def order_table() -> str:
    """Final returns with intervals, and of MARS against either: the share of pairs that it wins, and p."""
    first, second, third = LABELS.values()
    lines = [
        ["task", "strength, MAPPO's clip", "seeds", "steps", first, second, third, f"over {first}", f"over {second}"]
    ]
    for task in tables.tasks_of(of_order()):
        about = told(task.environment)[task.name]
        line = [
            task.name,
            f"{strength_of(about['mars']):.2g}, {strength_of(about['mappo']):.2g}",
            of_each(str(about[name]["seeds"]) for name in THREE),
            millions(about["mars"]["total_steps"]),
        ]
        for name in THREE:
            low, high = intervals.mean_interval(task.curves[name].final, intervals.TABLE_REPLICATES)
            line.append(f"{task.curves[name].final.mean():.2f} [{low:.2f}, {high:.2f}]")
        for name in THREE[:-1]:
            scores = [task.curves["mars"].final], [task.curves[name].final]
            share, p = intervals.probability_of_improvement(*scores), intervals.permutation_p(*scores)
            line.append(f"{share:.2f}, p = {p:.2g}")
        lines.append(line)
    return grid(lines)


def minutes() -> str:
    """What all cells took, by machine."""
    found: dict[str, list[float]] = {}
    for environment in envs.ENVIRONMENTS:
        for by_method in told(environment).values():
            for cell in by_method.values():
                found.setdefault(cell["machine"], []).append(cell["minutes"])
    return "".join(f"- {len(each)} cells in {sum(each):.0f} minutes: {machine}\n" for machine, each in found.items())


# ---- an environment's page ----


EXPLAINED = """Returns of the last fifth of the evaluations with 95% bootstrap intervals over seeds. "Best policies"
are measured again at the end, over new episodes: mean, median and quartiles of all seeds' episodes together; the
metric after them is of the last fifth, as the return. Of an update's smallest and largest ratio the median and the
most extreme over all updates and seeds. Strength is that of the trust region, of MAPPO, which has none, its clip.
Minutes are those of the processes on the machine below."""


def page(environment: str) -> str:
    """Everything that has landed of an environment, and how it was made."""
    by_task, about = evaluations(environment), told(environment)
    metric, what = HEADLINES[environment]
    lines = [
        ["task", "method", "strength", "seeds", "steps", "return", "best policies: mean, median (quartiles)", what]
        + ["ratios: usual, extremes", "minutes"]
    ]
    notes = []
    for task, name in itertools.product(envs.ENVIRONMENTS[environment], THREE):
        if name not in about.get(task, {}):
            continue
        cell, final = about[task][name], gather.curves(by_task[task][name]).final
        low, high = intervals.mean_interval(final, intervals.TABLE_REPLICATES)
        lower, median, upper = cell["best"]["quartiles"]
        ratios = {key: float(value) for key, value in cell["ratios"].items()}  # "inf" is a text in JSON
        lines.append(
            [
                *(task, LABELS[name], f"{strength_of(cell):.2g}", str(cell["seeds"]), millions(cell["total_steps"])),
                f"{final.mean():.2f} [{low:.2f}, {high:.2f}]",
                f"{cell['best']['mean']:.2f}, {median:.2f} ({lower:.2f} to {upper:.2f})",
                f"{last_of(by_task[task][name], metric):.2f}",
                f"{ratios['min_median']:.2f} to {ratios['max_median']:.2f}, {ratios['min']:.2g} to {ratios['max']:.3g}",
                f"{cell['minutes']:.0f}",
            ]
        )
        for seed, step in cell["diverged"].items():
            notes.append(
                f"- {LABELS[name]} on {task}: seed {seed} diverged at step {step:,}, and its curve goes on "
                "with its last good weights."
            )
        if cell["unlike_yaml"]:
            unlike = ", ".join(f"`{key}: {value}`" for key, value in cell["unlike_yaml"].items())
            notes.append(f"- {LABELS[name]} on {task} has other settings than `yaml/`: {unlike}.")
    parts = [
        f"# {envs.title(environment)}: what was trained",
        "![Learning curves](curves.png)",
        EXPLAINED,
        grid(lines).rstrip(),
        "\n".join(notes),
        "## How",
        made(about),
    ]
    gaps = [to_train(task) for task in envs.ENVIRONMENTS[environment]]
    if any(missing or short for missing, short, _ in gaps):
        parts += ["## Missing, or shorter than wanted", block(line for *found, line in gaps if any(found))]
    return "\n\n".join(part for part in parts if part) + "\n"


def strength_of(cell: dict[str, Any]) -> float:
    """Of MARS that of its target, of the others their clip, which MARS's is matched with."""
    expand = cell["trust_region"].get("expand")
    return cell["trust_region"]["clip"] if expand is None else methods.strength(expand)


def made(about: Cells) -> str:
    """The commands, by machine and commit."""
    found: dict[tuple[str, str], list[str]] = {}
    for by_method in about.values():
        for cell in by_method.values():
            found.setdefault((cell["machine"], cell["commit"]), []).append(cell["command"])
    return "\n\n".join(
        f"On {machine}; code of commit {commit}:\n\n{block(commands)}" for (machine, commit), commands in found.items()
    )
