"""One run on disk, finished or not: what it is of, how far it is, its evaluations."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import envs
from torch_mars.protocol import methods
from torch_mars.run.cli import UsageError
from torch_mars.run.files import CHECKPOINT, POLICY, read_yaml

EVALUATIONS = "evaluations.json"
_TAIL_BYTES = 2**18
Nested = dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]


@dataclass(frozen=True)
class SavedRun:
    """A run on disk, finished or not. What it is of stands in its own files, wherever it lies.

    Attributes:
        lesson: the name of its lesson.
        settings: what its config.yaml says.
    """

    folder: Path
    lesson: str
    settings: dict[str, Any]

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
            return getattr(self.method.module.Args(), name, None)
        except UsageError:  # a lesson that nobody imported
            return None

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
        for record in records(reversed(lines)):
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
        nested = self._nested()
        if not nested:
            return {}
        try:
            return nested[self.family][self.task][self.lesson]
        except (KeyError, ValueError) as error:
            path = self.folder / EVALUATIONS
            raise UsageError(f"{path} is not of a run of {self.lesson} on {self.task}: it lacks {error}") from None

    def _nested(self) -> Nested:
        path = self.folder / EVALUATIONS
        return read_nested(path) if path.exists() else {}

    def updates_of(self, names: tuple[str, ...]) -> dict[int, np.ndarray]:
        """Diagnostics of every update, by seed: an array [updates, 1 + names] of the step and the named values."""
        rows: dict[int, list[list[float]]] = {seed: [] for seed in self.seeds}
        with open(self.folder / "metrics.jsonl", errors="replace") as lines:
            for record in records(lines):
                if record["kind"] == "update" and all(name in record for name in names):
                    rows[record["seed"]].append([float(record[name]) for name in ("step", *names)])
        return {seed: np.array(values) for seed, values in rows.items() if values}


def open_run(folder: Path) -> SavedRun:
    """The run in a folder. UsageError if its config.yaml is not one of a run."""
    settings = read_yaml(folder / "config.yaml")
    names = ("env", "seed", "num_seeds", "total_steps", "rollout_length")
    missing = [name for name in names if name not in settings]
    if missing:
        raise UsageError(f"{folder / 'config.yaml'} is not of a run: it lacks {missing[0]}")
    if not isinstance(settings["env"], str):
        raise UsageError(f"{folder / 'config.yaml'} is not of a run: env is {settings['env']!r}, which is no task")
    return SavedRun(folder, _lesson_of(folder, settings), settings)


def _lesson_of(folder: Path, settings: dict[str, Any]) -> str:
    """The lesson that config.yaml names; of a run of the version before, that of its evaluations, else of its place."""
    if isinstance(settings.get("lesson"), str):
        return settings["lesson"]
    if (folder / EVALUATIONS).exists():
        for by_task in read_nested(folder / EVALUATIONS).values():
            for by_method in by_task.values():
                return next(iter(by_method))
    return folder.resolve().parent.name


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
            for step in [run[name] for name in steps_of(run)]:
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


def steps_of(run: dict[str, Any]) -> list[str]:
    return [name for name in run if name.startswith("step_")]


def records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Whole records: the first and last line of a part of a file may be cut."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record
