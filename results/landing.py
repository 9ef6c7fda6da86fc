"""Land what was trained for the table of all 47 tasks: `tasks/<environment>/`.

    python results/landing.py RUNS... --commit 23b57b5 --machine "one core of an AMD EPYC"

A cell is a method on a task; a landed one replaces what was there of it, unless it is the same. `evaluations.json` gets
the means of its evaluations (of each the return and the metric that says most, of the best policies all) in marl-eval's
form, `cells.json` what else is told of it. `draw.py` makes tables and figures of both.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import cells
import numpy as np

from torch_mars import envs
from torch_mars.protocol import gather, methods, saved
from torch_mars.run import cli, settings
from torch_mars.run.cli import Parser, UsageError, note
from torch_mars.run.files import to_json, write_whole

TRUST_REGION = ("clip", "expand")
# settings in which a cell may differ from its command without being another
NOT_TOLD = {*gather.MAY_DIFFER, "env", "total_steps", "config", "resume", "matmul_precision"} - set(cells.EVALUATION)


def land(found: list[saved.SavedRun], commit: str, machine: str, command: str | None = None) -> list[Path]:
    """The files written.

    Args:
        command: that trained them; None: the one of `experiment` with their settings.

    Raises:
        UsageError: a run is no cell of the table, or those of a cell are different experiments.
    """
    finished = [run for run in found if run.is_finished()]
    if len(finished) < len(found):
        note(f"{len(found) - len(finished)} of {len(found)} runs are not finished and are left out")
    if not finished:
        raise UsageError("there is no finished run in these folders")
    for run in finished:
        check(run)
    nested, _ = gather.gather([run.folder for run in finished])
    written = []
    for environment, by_task in nested.items():
        evaluations, told = cells.evaluations(environment), cells.told(environment)
        for task, by_method in by_task.items():
            for method, by_seed in by_method.items():
                of_cell = [run for run in finished if (run.task, run.method.name) == (task, method)]
                thin = thinned(by_seed, cells.HEADLINES[environment][0])
                if evaluations.setdefault(task, {}).get(method) != thin:
                    evaluations[task][method] = thin
                    cell = about(of_cell, by_seed) | {"commit": commit, "machine": machine}
                    told.setdefault(task, {})[method] = cell | ({"command": command} if command else {})
        folder = cells.FOLDER / environment
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((saved.EVALUATIONS, {environment: evaluations}), (cells.TOLD, told)):
            write_whole(folder / name, (to_json(content) + "\n").encode())
            written.append(folder / name)
    return written


def check(run: saved.SavedRun) -> None:
    """UsageError unless it is of a cell of the table."""
    reasons = {
        f"on {run.task}": run.task not in envs.TASKS or run.setting("env_options"),
        "a method of its own": run.method.name not in cells.THREE,
        "MARS with two targets": run.method.name == "mars" and not methods.has_inverse_targets(run.settings),
        f"of --preset {run.setting('preset')}": run.setting("preset") != "ours",
        "begun with another run's weights": run.setting("start_from"),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UsageError(f"{run.folder} is {run.method.label} on {run.task}, but no cell of the table: {reason}")


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


def about(runs: list[saved.SavedRun], by_seed: dict[str, dict]) -> dict[str, Any]:
    """What the runs of a cell tell of it beside their evaluations."""
    first, seeds = runs[0], sorted(seed for run in runs for seed in run.seeds)
    label = f"{first.method.label} on {first.task}"
    if seeds != list(range(cells.FIRST_SEED, cells.FIRST_SEED + len(seeds))):
        raise UsageError(f"{label} has the seeds {seeds}; they must be {cells.FIRST_SEED} and those that follow")
    for name in cells.EVALUATION:
        if len({run.setting(name) for run in runs}) > 1:
            raise UsageError(f"runs of {label} differ in {name}: they cannot be one cell")
    returns = np.concatenate([one["absolute_metrics"]["episode_return"] for one in by_seed.values()])
    total_steps, unlike = first.settings["total_steps"], unlike_yaml(first)
    return {
        "seeds": len(seeds),
        "total_steps": total_steps,
        "minutes": round(sum(run.last_update()["seconds"] for run in runs) / 60, 1),
        "trust_region": {name: first.setting(name) for name in TRUST_REGION if first.setting(name) is not None},
        "best": {
            "episodes": len(returns),
            "mean": round(float(returns.mean()), 3),
            "quartiles": np.percentile(returns, (25, 50, 75)).round(3).tolist(),
        },
        "ratios": ratios_of(runs),
        "diverged": {
            name.removeprefix("run_"): step
            for by_method in gather.gather_diverged([], runs).values()
            for steps in by_method.values()
            for name, step in steps.items()
        },
        "unlike_yaml": unlike,
        "command": cells.command(first.task, [first.method.name], len(seeds), total_steps, unlike),
    }


def unlike_yaml(run: saved.SavedRun) -> dict[str, Any]:
    """Settings that matter and are not those that `experiment --preset ours` would take now."""
    given = {"env": run.task, "total_steps": run.settings["total_steps"], "device": "cpu"}
    usual = settings.resolve(run.method.args, run.method.module.ratio_range, run.algorithm, given)
    return {
        name: run.setting(name)
        for name, value in dataclasses.asdict(usual).items()
        if name not in NOT_TOLD and not is_close(run.setting(name), value)
    }


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
    parser.add_argument("--command", help="that trained them, where it was not experiment's with their settings")
    args = parser.parse_args()
    for path in land(saved.find_runs(args.runs), args.commit, args.machine, args.command):
        print(path)
    return 0


if __name__ == "__main__":
    cli.guarded(main, "landing")
