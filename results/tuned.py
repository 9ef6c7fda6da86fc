"""The tables of `tuning/`: what was found for each method, and the same method with the settings of `yaml/`.

`tuning/found/<task>/<method>.yaml` and `<method>.csv` are what `torch_mars.tune` wrote; the evaluations of what was
trained with them lie beside the page, those with `yaml/` in `tasks/`.
"""

import csv
from pathlib import Path

import cells
import yaml

from torch_mars.protocol import gather, intervals, methods, saved

FOLDER = Path(__file__).parent / "tuning"
FOUND = FOLDER / "found"
NOT_FOUND = ("env", "name", "preset", "total_steps")  # what the file of a method says besides what was searched


def tables() -> dict[str, str]:
    """By their marks on the page."""
    return {"found": found_table(), "beside": beside_table()}


def found_table() -> str:
    """Of every task and method the best trial and its settings."""
    rows = [(path, yaml.safe_load(path.read_text())) for path in sorted(FOUND.glob("*/*.yaml"))]
    rows.sort(key=lambda row: (row[0].parent, cells.THREE.index(row[0].stem)))
    searched = list(dict.fromkeys(name for _, found in rows for name in found if name not in NOT_FOUND))
    lines = [["task", "method", "trials, pruned", "best trial's return", *searched]]
    for path, found in rows:
        with open(path.with_suffix(".csv")) as file:
            trials = list(csv.DictReader(file))
        complete = [float(trial["objective"]) for trial in trials if trial["state"] == "complete"]
        lines.append(
            [
                *(path.parent.name, methods.named(path.stem).label),
                f"{len(trials)}, {sum(trial['state'] == 'pruned' for trial in trials)}",
                f"{max(complete):.2f}",
                *(f"{found[name]:.4g}" if name in found else "" for name in searched),
            ]
        )
    return cells.grid(lines)


def beside_table() -> str:
    """Returns with the settings of `yaml/` and with those found, after as many steps as a trial has and at the end."""
    head = ["task", "method", "after", "with yaml/", "tuned", "at the end, with yaml/", "tuned", "higher in", "p"]
    trained = saved.read_nested(FOLDER / saved.EVALUATIONS)
    rows = [
        _beside(task, name, cells.evaluations(environment)[task][name], by_method[name])
        for environment, by_task in trained.items()
        for task, by_method in by_task.items()
        for name in cells.THREE
        if name in by_method
    ]
    return cells.grid([head, *rows])


def _beside(task: str, method: str, usual: dict[str, dict], tuned: dict[str, dict]) -> list[str]:
    """The line of a method: its seeds with the settings of `yaml/`, and with those found."""
    steps = yaml.safe_load((FOUND / task / f"{method}.yaml").read_text())["total_steps"]
    early = [{seed: cells.up_to(one, steps) for seed, one in runs.items()} for runs in (usual, tuned)]
    ends = [[gather.curves(runs).final] for runs in (tuned, usual)]
    share, p = intervals.probability_of_improvement(*ends), intervals.permutation_p(*ends)
    label = methods.named(method).label
    means = [cells.mean_of(gather.curves(runs).final) for runs in (*early, usual, tuned)]
    return [task, label, cells.millions(steps), *means, f"{share:.2f}", f"{p:.2g}"]
