"""What is compared, and the tables of it: Table 1 and what belongs to it, as Markdown and as CSV.

An environment's score is the interquartile mean over its tasks and seeds of min-max normalised returns, that of all
environments the mean of theirs; all intervals are 95%, by stratified bootstrap over seeds (`intervals.py`).
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch_mars import envs
from torch_mars.protocol import gather, intervals, methods
from torch_mars.protocol.gather import Curves
from torch_mars.protocol.intervals import Scores
from torch_mars.protocol.methods import METHODS
from torch_mars.protocol.saved import Nested
from torch_mars.run.cli import note

FLOOR_OF_SEEDS = 5  # below, an interval says little (Agarwal et al. 2021)


@dataclass(frozen=True)
class Task:
    """One task: its methods' curves, and the range that normalises them."""

    environment: str
    name: str
    curves: dict[str, Curves]  # by method
    low: float
    high: float

    def normalised(self, values: np.ndarray) -> np.ndarray:
        return intervals.normalise(values, self.low, self.high)


@dataclass(frozen=True)
class Comparison:
    """Methods over the tasks of an environment (or of all): only tasks that every one of the methods has."""

    environment: str
    methods: list[str]
    tasks: list[Task]

    @property
    def groups(self) -> list[str]:
        """The environment of each task: environments count alike, however many tasks they have."""
        return [task.environment for task in self.tasks]

    def final(self, method: str) -> Scores:
        """Normalised final scores: one array [seeds] per task."""
        return [task.normalised(task.curves[method].final) for task in self.tasks]

    def absolute(self, method: str) -> Scores | None:
        """The same of the best policies measured again; None where one is missing."""
        found = [task.curves[method].absolute for task in self.tasks]
        if any(scores is None for scores in found):
            return None
        return [task.normalised(scores) for task, scores in zip(self.tasks, found)]

    def curve(self, method: str) -> tuple[np.ndarray, Scores]:
        """Steps [points] and normalised returns, one array [seeds, points] per task."""
        lines = [(task.curves[method].steps, task.normalised(task.curves[method].returns)) for task in self.tasks]
        return gather.on_common_steps(lines)


def tasks_of(nested: Nested) -> list[Task]:
    """Every task with its methods in the order of `METHODS`."""
    found = []
    for environment, by_task in nested.items():
        for name, by_method in by_task.items():
            means = [gather.evaluation_means(run)[1] for seeds in by_method.values() for run in seeds.values()]
            curves = {method: gather.curves(by_method[method]) for method in methods.ordered(by_method)}
            low, high = min(map(np.min, means)), max(map(np.max, means))
            found.append(Task(environment, name, curves, float(low), float(high)))
    return found


def comparisons(tasks: list[Task], among: Sequence[str]) -> list[Comparison]:
    """Those of `among` that any task has, over each environment's common tasks; with several environments, over all."""
    present = [method for method in among if any(method in task.curves for task in tasks)]
    found = []
    for environment in dict.fromkeys(task.environment for task in tasks):
        here = [task for task in tasks if task.environment == environment and task.curves.keys() & present]
        common = [task for task in here if task.curves.keys() >= set(present)]
        if here and not common:
            which = "; ".join(f"{m}: {', '.join(t.name for t in here if m in t.curves) or 'none'}" for m in present)
            note(f"{environment}: no task has runs of every method ({which}), so they cannot be compared there")
        elif len(common) < len(here):
            left_out = ", ".join(task.name for task in here if task not in common)
            note(f"{environment}: methods are compared without {left_out}, which some of them lack")
        if common:
            found.append(Comparison(environment, present, common))
    if len(found) > 1:
        found.append(Comparison("all", present, [task for comparison in found for task in comparison.tasks]))
    return found


# ---- tables ----


def rows(compared: list[Comparison]) -> Iterator[dict[str, Any]]:
    """One row per environment, score and method: IQM of the normalised score, with its interval."""
    for comparison in compared:
        for score, scores_of in (("final", comparison.final), ("absolute", comparison.absolute)):
            for method in comparison.methods:
                scores = scores_of(method)
                if scores is None:
                    continue
                low, high = intervals.iqm_interval(scores, groups=comparison.groups)
                yield {
                    "environment": comparison.environment,
                    "score": score,
                    "method": method,
                    "tasks": len(scores),
                    "seeds": min(map(len, scores)),
                    "iqm": float(intervals.overall_iqm(scores, comparison.groups)),
                    "low": float(low),
                    "high": float(high),
                }


def improvements(compared: list[Comparison], x: str = "mars") -> Iterator[dict[str, Any]]:
    """One row per environment and method Y other than X: P(X > Y) of the final scores, its interval, and `p_value` of
    the permutation test that the two are the same."""
    for comparison in compared:
        for y in comparison.methods if x in comparison.methods else ():
            if y != x:
                scores, groups = (comparison.final(x), comparison.final(y)), comparison.groups
                low, high = intervals.improvement_interval(*scores, groups=groups)
                yield {
                    "environment": comparison.environment,
                    "x": x,
                    "y": y,
                    "seeds": min(len(task) for side in scores for task in side),
                    "p": intervals.probability_of_improvement(*scores, groups),
                    "low": low,
                    "high": high,
                    "p_value": intervals.permutation_p(*scores, groups),
                }


def task_rows(tasks: list[Task], among: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row per task and method: mean final return over seeds, in the task's own units, with its interval."""
    for task in tasks:
        for method in among:
            if method in task.curves:
                curves = task.curves[method]
                low, high = intervals.mean_interval(curves.final, intervals.TABLE_REPLICATES)
                yield {
                    "environment": task.environment,
                    "task": task.name,
                    "method": method,
                    "seeds": curves.seeds,
                    "mean": float(curves.final.mean()),
                    "low": float(low),
                    "high": float(high),
                    "absolute": "" if curves.absolute is None else float(curves.absolute.mean()),
                }


def as_csv(table: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in table)
    return text.getvalue()


def as_markdown(
    title: str, scores: list[dict[str, Any]], better: list[dict[str, Any]], per_task: list[dict[str, Any]]
) -> str:
    """The paper's Table 1 and what belongs to it, as one page."""
    present = list(dict.fromkeys(row["method"] for row in per_task))
    parts = [
        f"# {title}",
        "Interquartile mean over tasks and seeds of the min-max normalised return, with 95% intervals from "
        f"{intervals.TABLE_REPLICATES:,} stratified bootstrap replicates; all environments: the mean of theirs. "
        f"The highest of a row is bold where every method has {FLOOR_OF_SEEDS} seeds. "
        "Returns are normalised per task with the smallest and largest over all methods, seeds and evaluations.",
    ]
    for score, heading in (("final", "Last fifth of the evaluations"), ("absolute", "Best policy, measured again")):
        chosen = [row for row in scores if row["score"] == score]
        if chosen:
            parts += [f"## {heading}", _grid(chosen, "environment", "iqm", present, ("tasks", "seeds"))]
    if better:
        parts += [
            "## Probability of improvement",
            "Share of pairs of seeds in which X ends higher than Y, mean over tasks (over all: over environments), and "
            "p of the two-sided permutation test that both are the same. Bold: the interval is above 0.5, p is below "
            f"0.05, and both sides have {FLOOR_OF_SEEDS} seeds or more.",
        ]
        pairs = [{**row, "method": f"P({METHODS[row['x']].label} > {METHODS[row['y']].label})"} for row in better]
        heads = list(dict.fromkeys(row["method"] for row in pairs))
        parts.append(_grid(pairs, "environment", "p", heads, ("seeds",), is_bold=_is_decided))
    parts += ["## Final return per task", _grid(per_task, "task", "mean", present, ("seeds",))]
    return "\n\n".join(parts) + "\n"


def _is_decided(row: dict[str, Any], line: list[dict[str, Any]]) -> bool:
    return row["low"] > 0.5 and row["p_value"] < 0.05


def _grid(
    table: list[dict[str, Any]],
    key: str,
    value: str,
    columns: list[str],
    extra: tuple[str, ...],
    is_bold: Callable[[dict, list[dict]], bool] = lambda row, line: all(row["bold_by"] >= r["bold_by"] for r in line),
) -> str:
    """A Markdown table: one line per `key`, one column per method, cells `value [low, high]`.

    Nothing is bold in a line of fewer than FLOOR_OF_SEEDS seeds, or without some method.
    """
    heads = [(METHODS[c].label if c in METHODS else c).replace("|", "\\|") for c in columns]
    lines = [f"| {' | '.join([key, *extra, *heads])} |", "|" + "---|" * (1 + len(extra) + len(heads))]
    for name in dict.fromkeys(row[key] for row in table):
        line = [{**row, "bold_by": row[value]} for row in table if row[key] == name]
        cells = {}
        for row in line:
            text = f"{row[value]:.2f}"
            counted = [row] if "p_value" in row else line  # a pair decides for itself
            is_whole = "p_value" in row or len(line) == len(columns)
            is_enough = is_whole and min(r["seeds"] for r in counted) >= FLOOR_OF_SEEDS
            text = f"**{text}**" if is_enough and is_bold(row, line) else text
            text = text if np.isnan(row["low"]) else f"{text} [{row['low']:.2f}, {row['high']:.2f}]"
            cells[row["method"]] = f"{text}, p = {row['p_value']:.2g}" if "p_value" in row else text
        first = [envs.title(name), *(str(min(row[e] for row in line)) for e in extra)]
        lines.append(f"| {' | '.join([*first, *(cells.get(column, '') for column in columns)])} |")
    return "\n".join(lines)
