"""Land what was trained for the table of all 47 tasks: `tasks/<environment>/`.

    python results/landing.py RUNS... --commit 23b57b5 --machine "one core of an AMD EPYC"

A cell is a method on a task; a landed one replaces what was there of it. `evaluations.json` gets the means of its
evaluations (of each the return and the metric that says most, of the best policies all) in marl-eval's form,
`cells.json` what else is told of it. `draw.py` makes tables and figures of both.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import cells
import numpy as np

from torch_mars import envs
from torch_mars.protocol import gather, saved
from torch_mars.run import cli, settings
from torch_mars.run.cli import Parser, UsageError, note
from torch_mars.run.files import to_json, write_whole

TRUST_REGION = ("clip", "expand", "contract")
NOT_TOLD = {*gather.MAY_DIFFER, "env", "total_steps", "preset", "start_from", "matmul_precision"}


def land(found: list[saved.SavedRun], commit: str, machine: str) -> list[Path]:
    """Files written. UsageError where runs are no cell of the table, or of different experiments."""
    finished = [run for run in found if run.is_finished()]
    if len(finished) < len(found):
        note(f"{len(found) - len(finished)} of {len(found)} runs are not finished and are left out")
    for run in finished:
        if run.task not in envs.TASKS or run.setting("env_options") or run.method.name not in cells.THREE:
            raise UsageError(f"{run.folder} is {run.method.label} on {run.task}, which is no cell of the table")
    if not finished:
        raise UsageError("there is no finished run in these folders")
    nested, _ = gather.gather([run.folder for run in finished])
    written = []
    for environment, by_task in nested.items():
        evaluations, told = cells.evaluations(environment), cells.told(environment)
        for task, by_method in by_task.items():
            for method, by_seed in by_method.items():
                of_cell = [run for run in finished if (run.task, run.method.name) == (task, method)]
                evaluations.setdefault(task, {})[method] = thinned(by_seed, cells.HEADLINES[environment][0])
                told.setdefault(task, {})[method] = about(of_cell, by_seed, commit, machine)
        folder = cells.FOLDER / environment
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((saved.EVALUATIONS, {environment: evaluations}), (cells.TOLD, told)):
            write_whole(folder / name, (to_json(content) + "\n").encode())
            written.append(folder / name)
    return written


def thinned(by_seed: dict[str, dict], headline: str) -> dict[str, dict]:
    """Means, and of the evaluations on the way only what is drawn."""
    kept = ("step_count", "elapsed_time", "episode_return", headline)
    thin = {
        name: {
            step: {key: evaluation[key] for key in (evaluation if step == "absolute_metrics" else kept)}
            for step, evaluation in one.items()
        }
        for name, one in by_seed.items()
    }
    return gather.only_means({"": {"": {"": thin}}})[""][""][""]


def about(runs: list[saved.SavedRun], by_seed: dict[str, dict], commit: str, machine: str) -> dict[str, Any]:
    """What is told of a cell beside its evaluations."""
    first, seeds = runs[0], sorted(seed for run in runs for seed in run.seeds)
    if seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        raise UsageError(f"{first.method.label} on {first.task} has seeds {seeds}, which are no row")
    steps = first.updates * first.settings["rollout_length"] * first.setting("num_envs")
    returns = {name: one["absolute_metrics"]["episode_return"] for name, one in by_seed.items()}
    return {
        "seeds": [seeds[0], len(seeds)],
        "steps": steps,
        "minutes": round(sum(run.last_update()["seconds"] for run in runs) / 60, 1),
        "machine": machine,
        "commit": commit,
        "trust_region": {name: first.setting(name) for name in TRUST_REGION if first.setting(name) is not None},
        "quartiles": {name: np.percentile(values, (25, 50, 75)).round(3).tolist() for name, values in returns.items()},
        "ratios": ratios_of(runs),
        "diverged": {f"run_{seed}": update for run in runs for seed, update in run.diverged().items()},
        "unlike_yaml": unlike_yaml(first),
        "command": cells.command(first.task, [first.method.name], len(seeds), first.settings["total_steps"]),
    }


def unlike_yaml(run: saved.SavedRun) -> dict[str, Any]:
    """Settings that matter and are not those of `yaml/` now."""
    args = run.method.args
    usual = {
        field.name: field.default for field in dataclasses.fields(args) if field.default is not dataclasses.MISSING
    }
    usual |= settings.family_settings(args, run.task, run.lesson)
    ours = {name: value for name, value in run.settings.items() if name in usual and name not in NOT_TOLD}
    return {name: value for name, value in ours.items() if not is_close(value, usual[name])}


def is_close(one: Any, other: Any) -> bool:
    """Alike, numbers to the four digits that yaml files have."""
    are_numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
    return math.isclose(one, other, rel_tol=1e-4) if are_numbers else one == other


def ratios_of(runs: list[saved.SavedRun]) -> dict[str, float]:
    """Of the smallest and the largest ratio of an update: the median, and the most extreme, over updates and seeds."""
    rows = [row for run in runs for row in run.updates_of(("ratio_min", "ratio_max")).values()]
    _, least, most = np.concatenate(rows).T
    numbers = {"min_median": np.median(least), "min": least.min(), "max_median": np.median(most), "max": most.max()}
    return {name: float(f"{number:.4g}") for name, number in numbers.items()}


def main() -> int:
    parser = Parser(prog="landing", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--commit", required=True, help="of the code that trained them")
    parser.add_argument("--machine", required=True, help="what a training had of it")
    args = parser.parse_args()
    for path in land(saved.find_runs(args.runs), args.commit, args.machine):
        print(path)
    return 0


if __name__ == "__main__":
    cli.guarded(main, "landing")
