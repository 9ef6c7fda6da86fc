"""One run on disk, finished or not: what it is of, how far it is, its evaluations."""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import envs
from torch_mars.protocol import methods
from torch_mars.run import metrics
from torch_mars.run.cli import UsageError, note, short
from torch_mars.run.files import CHECKPOINT, LARGEST, LOCK, OF_A_RUN, POLICY, hold, is_held, let_go, load_checkpoint
from torch_mars.run.metrics import METRICS
from torch_mars.run.reading import folders_with, read_bytes
from torch_mars.run.record import EVALUATIONS
from torch_mars.run.yamls import read_yaml

MOST_LOOKED_AT, DEEPEST = 200_000, 12  # files, and levels below a folder that is searched for runs
PATIENCE = 60.0  # seconds: as long as a training may take to save itself after its command was killed
Nested = dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]


@dataclass(frozen=True)
class SavedRun:
    """A run on disk, finished or not. What it is of stands in its own files, wherever it lies.

    Attributes:
        algorithm: that it is of: the name of its lesson, or one of several (`algos.algorithms`).
        settings: what its config.yaml says.
        left_out: seeds of which another run counts.
    """

    folder: Path
    algorithm: str
    settings: dict[str, Any]
    left_out: frozenset[int] = frozenset()

    @property
    def task(self) -> str:
        return self.settings["env"]

    @property
    def family(self) -> str:
        """The environment of its task: as the run says itself, as the task may be of somebody's own."""
        for environment, by_task in self._nested().items():
            if self.task in by_task:
                return environment
        return envs.known(self.task).family

    def setting(self, name: str) -> Any:
        """What it was trained with; of a version that did not know the setting, its default now."""
        if name in self.settings:
            return self.settings[name]
        try:
            return getattr(self.method.args(), name, None)
        except UsageError:  # a lesson that nobody imported
            return None

    def is_trained_with(self, settings: dict[str, Any]) -> bool:
        return all(self.setting(name) == value for name, value in settings.items())

    @property
    def method(self) -> methods.Method:
        return methods.of_run(self.algorithm, self.settings)

    @property
    def seeds(self) -> range:
        first = self.settings["seed"]
        return range(first, first + self.settings["num_seeds"])

    @property
    def updates(self) -> int:
        """How many there are to be."""
        return self.settings["total_steps"] // (self.settings["rollout_length"] * self.setting("num_envs"))

    def last_update(self) -> dict[str, Any]:
        """The latest record of an update: its number, `step` and `seconds` are 0 before the first."""
        record = metrics.last_record(self.folder / METRICS, "update")
        return record or {"update": 0, "step": 0, "seconds": 0.0}

    def diverged(self) -> dict[int, int]:
        """Seed -> the update in which it diverged; its curve goes on with its last good weights."""
        found = metrics.records(self.folder / METRICS)
        told = {record["seed"]: record["update"] for record in found if record["kind"] == "diverged"}
        return {seed: update for seed, update in told.items() if seed not in self.left_out}

    def is_resumable(self) -> bool:
        return (self.folder / CHECKPOINT).exists()

    def is_finished(self) -> bool:
        """Whether all updates are done and the best policies were measured."""
        if not (self.folder / POLICY).exists():
            return False
        is_done = self.last_update()["update"] >= self.updates or self._policy_is_final()
        try:
            evaluations = self.evaluations()
        except UsageError as error:  # it is written anew when the run is resumed
            note(f"{error}; the run counts as cut off")
            return False
        return is_done and all(run.get("absolute_metrics") for run in evaluations.values())

    def _policy_is_final(self) -> bool:
        """Whether the policy was written at the end of all updates: where metrics.jsonl was damaged, that tells."""
        try:
            settings = load_checkpoint(self.folder / POLICY).get("settings", {})
        except UsageError:
            return False
        return settings.get("total_steps") == self.settings["total_steps"]

    def is_training(self) -> bool:
        """Whether a process is writing to it now."""
        return is_held(self.folder / LOCK)

    def wait(self) -> None:
        """Until nobody is writing to it: a training whose command was killed saves itself first.

        Raises:
            RunError: somebody goes on.
        """
        if self.is_training():
            let_go(hold(self.folder / LOCK, f"training {self.folder}", PATIENCE))

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """`run_<seed>` -> `step_<i>` -> metrics, in marl-eval's nesting; empty before the first evaluation."""
        nested = self._nested()
        if not nested:
            return {}
        try:
            return nested[self.family][self.task][self.algorithm]
        except (KeyError, ValueError) as error:
            path = self.folder / EVALUATIONS
            raise UsageError(f"{path} is not of a run of {self.algorithm} on {self.task}: it lacks {error}") from None

    def _nested(self) -> Nested:
        path = self.folder / EVALUATIONS
        return read_nested(path) if path.exists() else {}

    def updates_of(self, names: tuple[str, ...]) -> dict[int, np.ndarray]:
        """Diagnostics of every update, by seed: an array [updates, 1 + names] of the step and the named values."""
        rows: dict[int, list[list[float]]] = {seed: [] for seed in self.seeds if seed not in self.left_out}
        for record in metrics.records(self.folder / METRICS):
            is_meant = record["kind"] == "update" and record["seed"] in rows
            if is_meant and all(isinstance(record.get(name), (int, float, str)) for name in names):
                rows[record["seed"]].append([float(record[name]) for name in ("step", *names)])
        return {seed: np.array(values) for seed, values in rows.items() if values}


_WHOLE = ("seed", "num_seeds", "total_steps", "rollout_length")  # of every run's settings


def open_run(folder: Path) -> SavedRun:
    """The run in a folder. UsageError if its config.yaml is not one of a run."""
    path = folder / "config.yaml"
    settings = read_yaml(path)
    for name in ("env", *_WHOLE):
        if name not in settings:
            raise UsageError(f"{path} is not of a run: it lacks {name}")
    if not isinstance(settings["env"], str):
        raise UsageError(f"{path} is not of a run: env is {short(settings['env'])!r}, which is no task")
    for name in (*_WHOLE, "num_envs"):
        value = settings.get(name, 1)
        if type(value) is not int or not (0 if name == "seed" else 1) <= value < 2**63:
            raise UsageError(f"{path} is not of a run: {name} is {short(value)}")
    return SavedRun(folder, _lesson_of(folder, settings), settings)


_told: set[Path] = set()  # of what is no run, once


def runs_among(configs: Iterable[Path]) -> list[SavedRun]:
    """The runs of these config.yaml files that were found by looking around: what is something else is told and left.

    Those whose files do not say that they are runs, or that another version or somebody else wrote.
    """
    found = []
    for path in sorted(configs):
        try:
            found.append(open_run(path.parent))
        except UsageError as error:
            if path not in _told:
                note(f"{error}; left out")
                _told.add(path)
    return found


def _lesson_of(folder: Path, settings: dict[str, Any]) -> str:
    """The algorithm that config.yaml names, else its lesson; of older runs that of their evaluations, or place."""
    for name in ("algorithm", "lesson"):
        if isinstance(settings.get(name), str):
            return settings[name]
    if (folder / EVALUATIONS).exists():
        with contextlib.suppress(UsageError, AttributeError, TypeError):  # damaged: its place tells, too
            for by_task in read_json(folder / EVALUATIONS).values():
                for by_method in by_task.values():
                    return next(iter(by_method))
    return folder.resolve().parent.name


def find_runs(paths: Iterable[str | Path]) -> list[SavedRun]:
    """All runs in the given folders, each of which is a run or holds some, at any depth.

    Raises:
        UsageError: a path does not exist, or holds no run.
    """
    found: dict[Path, SavedRun] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        path = path.parent if path.is_file() else path
        folders, has_seen_all = folders_with("config.yaml", OF_A_RUN, path, MOST_LOOKED_AT, DEEPEST)
        if not has_seen_all:
            raise UsageError(f"{path}: too much lies there to look through for runs; give a folder nearer to them")
        if not folders:
            raise UsageError(f"{path}: there is no run in it (a folder with config.yaml, {METRICS}, {EVALUATIONS})")
        for run in [open_run(path)] if folders == [path] else runs_among(folder / "config.yaml" for folder in folders):
            found[run.folder.resolve()] = run
    return list(found.values())


def read_json(path: Path) -> Any:
    """UsageError if a file is no JSON."""
    try:
        return json.loads(read_bytes(path, LARGEST))
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not valid JSON") from None


def read_nested(path: Path) -> Nested:
    """A JSON file in marl-eval's nesting. UsageError if it is none, or says what cannot be."""
    nested = read_json(path)
    try:
        for *_, run in walk(nested):
            for step in [run[name] for name in steps_of(run)]:
                if not (0 <= step["step_count"] < 2**63 and step["episode_return"]):
                    raise ValueError
                float(sum(step["episode_return"]))  # numbers
            if absolute := run.get("absolute_metrics", {}):
                float(sum(absolute["episode_return"]))
        if any("/" in environment for environment in nested):  # it is to be part of the names of figures
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        nesting = "environment, task, algorithm, run_<seed>, step_<i> with step_count and episode_return"
        raise UsageError(f"{path} is not in marl-eval's nesting ({nesting})") from None
    for *_, task, method, name, run in walk(nested):
        _check_evaluations(run, f"{path}: {short(name, 40)} of {short(method, 40)} on {short(task, 40)}")
    return nested


def _check_evaluations(run: dict[str, Any], what: str) -> None:
    """UsageError unless steps rise and returns are numbers."""
    counts = [run[name]["step_count"] for name in sorted(steps_of(run), key=_number_of)]
    for before, after in zip(counts, counts[1:]):
        if before >= after:
            raise UsageError(f"{what}: its evaluation at step {before} comes before that at step {after}")
    absolute = run.get("absolute_metrics", {}).get("episode_return", [])
    for step in (run[name] for name in steps_of(run)):
        if not math.isfinite(sum(step["episode_return"])):
            raise UsageError(f"{what}: a return at step {step['step_count']} is not finite")
    if not math.isfinite(sum(absolute)):
        raise UsageError(f"{what}: a return of the absolute metric is not finite")


def _number_of(step: str) -> tuple[bool, int, str]:
    """Of `step_<i>`: sorts by number, then what has none."""
    digits = step.removeprefix("step_")
    return not digits.isdecimal(), int(digits[:18]) if digits.isdecimal() else 0, step


def walk(nested: Nested) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Environment, task, method, `run_<seed>` and the run, one after another."""
    for environment, tasks in nested.items():
        for task, by_method in tasks.items():
            for method, runs in by_method.items():
                for name, run in runs.items():
                    yield environment, task, method, name, run


def steps_of(run: dict[str, Any]) -> list[str]:
    return [name for name in run if name.startswith("step_")]
