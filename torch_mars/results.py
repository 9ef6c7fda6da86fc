"""Many runs read together: which there are, how far they are, and their evaluations by task and method.

The evaluations of any number of runs make one dictionary in marl-eval's nesting, `{environment: {task: {method:
{run_<seed>: {step_<i>: {step_count, elapsed_time, episode_return: [...]}, absolute_metrics: {...}}}}}}` (Gorsane et
al. 2022), which `save` writes and marl-eval reads. Figures and tables are made from it and nothing else, but for the
figure of ratios: their extremes over training make a second one, `{task: {method: {run_<seed>: {step, ratio_max,
ratio_min: [...]}}}}`.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import envs, methods, statistics
from torch_mars.config import UsageError, read_yaml
from torch_mars.runs import CHECKPOINT, POLICY, write_whole

EVALUATIONS, RATIOS = "evaluations.json", "ratios.json"
RATIO_BINS = 100  # points of a run's ratios; it has thousands of updates
_TAIL_BYTES = 2**18
# Settings in which the runs of one curve may differ; in all others they are different experiments.
FREE = (
    "seed",
    "num_seeds",
    "name",
    "run_dir",
    "device",
    "cuda_graphs",
    "checkpoint_every",
    "eval_every",
    "eval_episodes",
)
Nested = dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]
Ratios = dict[str, dict[str, dict[str, dict[str, list[float]]]]]


@dataclass(frozen=True)
class SavedRun:
    """A run on disk, finished or not. Its lesson is the name of the folder it lies in, `runs/<task>/<lesson>/<run>`."""

    folder: Path
    settings: dict[str, Any]

    @property
    def lesson(self) -> str:
        return self.folder.resolve().parent.name

    @property
    def task(self) -> str:
        return self.settings["env"]

    @property
    def method(self) -> methods.Method:
        return methods.of_run(self.lesson, self.settings)

    @property
    def seeds(self) -> range:
        first = self.settings["seed"]
        return range(first, first + self.settings["num_seeds"])

    @property
    def updates(self) -> int:
        """How many there are to be."""
        return self.settings["total_steps"] // (self.settings["rollout_length"] * self.settings["num_envs"])

    def last_update(self) -> dict[str, Any]:
        """The latest record of an update: its number, `step` and `seconds` are 0 before the first."""
        try:
            with open(self.folder / "metrics.jsonl", "rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        for record in _records(reversed(lines)):
            if record["kind"] == "update":
                return record
        return {"update": 0, "step": 0, "seconds": 0.0}

    def is_resumable(self) -> bool:
        return (self.folder / CHECKPOINT).exists()

    def is_finished(self) -> bool:
        """Whether all updates are done and the best policies were measured."""
        if not (self.folder / POLICY).exists() or self.last_update()["update"] < self.updates:
            return False
        return all(run.get("absolute_metrics") for run in self.evaluations().values())

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """`run_<seed>` -> `step_<i>` -> metrics, in marl-eval's nesting; empty before the first evaluation."""
        path = self.folder / EVALUATIONS
        if not path.exists():
            return {}
        try:
            return read_nested(path)[envs.family(self.task)][self.task][self.lesson]
        except KeyError as error:
            raise UsageError(f"{path} is not of a run of {self.lesson} on {self.task}: it lacks {error}") from None

    def updates_of(self, names: tuple[str, ...]) -> dict[int, np.ndarray]:
        """Diagnostics of every update, by seed: an array [updates, 1 + names] of the step and the named values."""
        rows: dict[int, list[list[float]]] = {seed: [] for seed in self.seeds}
        with open(self.folder / "metrics.jsonl", errors="replace") as lines:
            for record in _records(lines):
                if record["kind"] == "update" and all(name in record for name in names):
                    rows[record["seed"]].append([float(record[name]) for name in ("step", *names)])
        return {seed: np.array(values) for seed, values in rows.items() if values}


def open_run(folder: Path) -> SavedRun:
    """The run in a folder. UsageError if its config.yaml is not one of a run."""
    settings = read_yaml(folder / "config.yaml")
    run = SavedRun(folder, settings)
    missing = [name for name in ("env", "seed", "num_seeds", "total_steps", "rollout_length") if name not in settings]
    if missing:
        raise UsageError(f"{folder / 'config.yaml'} is not of a run: it lacks {missing[0]}")
    if run.lesson not in methods.MAIN:
        lessons = " or ".join(methods.MAIN)
        raise UsageError(f"{folder} is not of a known lesson: runs lie in runs/<task>/<lesson>/, lesson {lessons}")
    try:
        envs.family(run.task)
    except ValueError as error:
        raise UsageError(f"{folder}: {error}") from None
    return run


def find_runs(paths: Iterable[str | Path]) -> list[SavedRun]:
    """All runs in the given folders, each of which is a run or holds some, at any depth.

    Raises:
        UsageError: a path does not exist, or holds no run.
    """
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        path = path.parent if path.is_file() else path
        configs = [path / "config.yaml"] if (path / "config.yaml").exists() else sorted(path.rglob("config.yaml"))
        found = [config.parent for config in configs if (config.parent / "metrics.jsonl").exists()]
        if not found:
            raise UsageError(f"{path}: there is no run in it (a folder with config.yaml, metrics.jsonl, {EVALUATIONS})")
        folders |= {folder.resolve(): folder for folder in found}
    return [open_run(folder) for folder in folders.values()]


def gather(paths: Iterable[str | Path]) -> tuple[Nested, list[SavedRun]]:
    """The evaluations of runs, of folders of runs and of `evaluations.json` files that `save` wrote; and the runs.

    Within a method and task every seed counts once: of two runs of a seed, the one with more evaluations.

    Raises:
        UsageError: nothing to read, no evaluations, or runs that are different experiments under one name.
    """
    nested: Nested = {}
    folders = []
    for path in map(Path, paths):
        if path.is_file() and path.suffix == ".json" and not (path.parent / "config.yaml").exists():
            for environment, task, method, name, run in walk(read_nested(path)):
                methods.named(method)
                _add(nested, (environment, task, method), name, run)
        else:
            folders.append(path)
    found = find_runs(folders)
    _refuse_different_settings(found)
    used = []
    for run in found:
        evaluations = {name: one for name, one in run.evaluations().items() if _steps(one)}
        if not evaluations:
            note(f"{run.folder} has no evaluations yet and is left out")
            continue
        used.append(run)
        for name, one in evaluations.items():
            _add(nested, (envs.family(run.task), run.task, run.method.name), name, one)
    if not nested:
        raise UsageError(f"no evaluations in {', '.join(map(str, paths))}: train first, or longer than --eval-every")
    return nested, used


def _add(nested: Nested, place: tuple[str, str, str], name: str, run: dict[str, Any]) -> None:
    environment, task, method = place
    for step in _steps(run):
        if not math.isfinite(sum(run[step]["episode_return"])):
            raise UsageError(f"{name} of {method} on {task}: a return at step {run[step]['step_count']} is not finite")
    runs = nested.setdefault(environment, {}).setdefault(task, {}).setdefault(method, {})
    if name in runs:
        note(f"{name} of {method} on {task} is there twice; the one with more evaluations counts")
        if len(_steps(run)) < len(_steps(runs[name])):
            return
    absolute = {"absolute_metrics": run["absolute_metrics"]} if run.get("absolute_metrics") else {}
    runs[name] = {**{step: run[step] for step in _steps(run)}, **absolute}  # marl-eval stumbles over an empty one


def _refuse_different_settings(found: list[SavedRun]) -> None:
    first: dict[tuple[str, str], SavedRun] = {}
    for run in found:
        other = first.setdefault((run.task, run.method.name), run)
        for name in run.settings.keys() | other.settings.keys():
            ours, theirs = run.settings.get(name), other.settings.get(name)
            if name not in FREE and ours != theirs:
                raise UsageError(
                    f"{other.folder} and {run.folder} are both {run.method.label} on {run.task}, but of different "
                    f"experiments ({name} is {theirs} and {ours}); give the runs of one"
                )


def save(nested: Nested | Ratios, path: Path) -> None:
    """Write evaluations as the JSON that marl-eval and `gather` read; or ratios as that of `gather_ratios`."""
    write_whole(path, json.dumps(nested).encode())


def only_means(nested: Nested) -> Nested:
    """The same with one number for each evaluation's metric, to six digits: its mean over the episodes."""
    result: Nested = {}
    for environment, task, method, name, run in walk(nested):
        place = result.setdefault(environment, {}).setdefault(task, {}).setdefault(method, {})
        place[name] = {
            step: {
                metric: [float(f"{np.mean(values):.6g}")] if isinstance(values, list) else values
                for metric, values in evaluation.items()
            }
            for step, evaluation in run.items()
        }
    return result


def gather_ratios(paths: Iterable[str | Path], found: Iterable[SavedRun]) -> Ratios:
    """Extremes of the ratios over the training of `found`, and those saved beside the `evaluations.json` in `paths`.

    Raises:
        UsageError: a saved file is damaged.
    """
    ratios: Ratios = {}
    for path in (Path(path).with_name(RATIOS) for path in paths if Path(path).suffix == ".json"):
        if path.is_file():
            for task, by_method in _read_ratios(path).items():
                for method, by_seed in by_method.items():
                    ratios.setdefault(task, {}).setdefault(method, {}).update(by_seed)
    for run in found:
        for seed, rows in run.updates_of(("ratio_max", "ratio_min")).items():
            place = ratios.setdefault(run.task, {}).setdefault(run.method.name, {})
            place[f"run_{seed}"] = _binned_ratios(*rows.T)
    return ratios


def _read_ratios(path: Path) -> Ratios:
    try:
        ratios = json.loads(path.read_text())
        for by_method in ratios.values():
            for by_seed in by_method.values():
                for line in by_seed.values():
                    np.array([line[name] for name in ("step", "ratio_max", "ratio_min")], float)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise UsageError(f"{path} is no file of ratios that torch_mars.plot wrote") from None
    return ratios


def _binned_ratios(step: np.ndarray, largest: np.ndarray, smallest: np.ndarray) -> dict[str, list[float]]:
    """The extremes within each hundredth of training, or of every update where there are fewer."""
    edges = np.linspace(0, step[-1], min(RATIO_BINS, len(step)) + 1)[1:]
    starts = np.unique(np.searchsorted(step, np.concatenate([[0], edges[:-1]]), side="right"))
    ends = step[np.append(starts[1:], len(step)) - 1]
    values = (ends, np.maximum.reduceat(largest, starts), np.minimum.reduceat(smallest, starts))
    return {
        name: [float(f"{number:.7g}") if name != "step" else number for number in column.tolist()]
        for name, column in zip(("step", "ratio_max", "ratio_min"), values)
    }


def read_nested(path: Path) -> Nested:
    """A JSON file in marl-eval's nesting. UsageError if it is none."""
    try:
        nested = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is not valid JSON") from None
    try:
        for *_, run in walk(nested):
            for step in [run[name] for name in _steps(run)]:
                if not (step["step_count"] >= 0 and step["episode_return"]):
                    raise ValueError
                sum(step["episode_return"])  # numbers
    except (AttributeError, KeyError, TypeError, ValueError):
        nesting = "environment, task, algorithm, run_<seed>, step_<i> with step_count and episode_return"
        raise UsageError(f"{path} is not in marl-eval's nesting ({nesting})") from None
    return nested


def walk(nested: Nested) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Environment, task, method, `run_<seed>` and the run, one after another."""
    for environment, tasks in nested.items():
        for task, by_method in tasks.items():
            for method, runs in by_method.items():
                for name, run in runs.items():
                    yield environment, task, method, name, run


def _steps(run: dict[str, Any]) -> list[str]:
    return [name for name in run if name.startswith("step_")]


def _records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Whole records: the first and last line of a part of a file may be cut."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def note(text: str) -> None:
    """Something the user should know that stops nothing."""
    print(f"note: {text}", file=sys.stderr)


# ---- curves ----


@dataclass(frozen=True)
class Curves:
    """The seeds of one method on one task."""

    steps: np.ndarray  # [points] environment steps
    returns: np.ndarray  # [seeds, points] mean over the episodes of an evaluation
    final: np.ndarray  # [seeds] mean over the last fifth of the evaluations
    absolute: np.ndarray | None  # [seeds] the best policy measured again; None where a seed lacks it

    @property
    def seeds(self) -> int:
        return len(self.returns)


def curves(runs: dict[str, dict[str, Any]]) -> Curves:
    """`run_<seed>` -> evaluations, as curves over common steps.

    Where seeds were evaluated at different steps, curves are interpolated linearly over the range that all of them
    cover; where the steps are the same, as within an experiment, nothing is changed.
    """
    per_seed = [evaluation_means(run) for run in runs.values()]
    grid, returns = on_common_steps(per_seed)
    absolute = [run["absolute_metrics"]["episode_return"] for run in runs.values() if run.get("absolute_metrics")]
    return Curves(
        steps=grid,
        returns=np.stack(returns),
        final=np.array([statistics.final_score(returns) for _, returns in per_seed]),
        absolute=np.array([np.mean(a) for a in absolute]) if len(absolute) == len(runs) else None,
    )


def evaluation_means(run: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [points] and the mean return of each evaluation [points] of one `run_<seed>`."""
    evaluations = sorted((run[name] for name in _steps(run)), key=lambda evaluation: evaluation["step_count"])
    steps = np.array([evaluation["step_count"] for evaluation in evaluations], float)
    return steps, np.array([np.mean(evaluation["episode_return"]) for evaluation in evaluations])


def on_common_steps(lines: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Curves (steps [points], values [..., points]), interpolated at all steps within the range that all cover."""
    low, high = max(steps[0] for steps, _ in lines), min(steps[-1] for steps, _ in lines)
    everywhere = np.unique(np.concatenate([steps for steps, _ in lines]))
    grid = everywhere[(low <= everywhere) & (everywhere <= high)]
    if not len(grid):  # one ended before another's first evaluation
        grid = np.array([low])
    return grid, [np.apply_along_axis(lambda v, s=s: np.interp(grid, s, v), -1, values) for s, values in lines]
