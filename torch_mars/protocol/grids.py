"""A grid of trainings, methods x tasks x seeds: what is asked for, what of it is done, and who may begin what is left.

A run counts if its settings are those that the grid would give it, wherever it came from. Not here: how trainings are
started and followed (`torch_mars.experiment`).
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_mars import envs
from torch_mars.protocol import gather, methods, saved
from torch_mars.protocol.claims import Claim, Claims
from torch_mars.protocol.methods import Method
from torch_mars.protocol.saved import SavedRun
from torch_mars.protocol.trainings import (
    DEFAULT,
    FINAL_STEPS,
    budget_settings,
    preset_of,
    resolve,
    settings_file,
    startable,
)
from torch_mars.run.cli import LARGEST_SEED, UsageError, make_folder, note, shown
from torch_mars.run.settings import refuse_settings

CLAIMS = ".claims"  # in the folder of all runs


@dataclass(frozen=True)
class Cell:
    """One method on one task: the settings of its runs, and the seeds that are wanted."""

    task: str
    typed_task: str  # as it can be typed for another process
    method: Method
    settings: dict[str, Any]  # as they go into a run's config.yaml, apart from `gather.MAY_DIFFER`
    given: dict[str, Any]  # what the lesson is told
    seeds: range

    @property
    def key(self) -> str:
        """What its claims are called."""
        digest = hashlib.sha256(repr(sorted(self.settings.items())).encode()).hexdigest()[:8]
        return f"{envs.folder_name(self.task)}-{self.method.name}-{digest}"

    def runs(self, run_dir: Path) -> list[SavedRun]:
        """Runs on disk of this cell's method, task and settings, finished or not."""
        folder = run_dir / envs.folder_name(self.task) / self.method.algorithm
        found = []
        for run in saved.runs_among(folder.glob("*/config.yaml")):
            if run.method is self.method and run.is_trained_with(self.settings):
                found.append(run)
        return found


@dataclass(frozen=True)
class Job:
    """One training: new, or a run to go on with."""

    cell: Cell
    seeds: range
    run: SavedRun | None

    @property
    def steps(self) -> int:
        """Environment steps left, over all its seeds."""
        done = self.run.last_update()["step"] if self.run else 0
        return max(0, self.cell.settings["total_steps"] - done) * len(self.seeds)

    def __str__(self) -> str:
        return f"{self.cell.method.label} on {self.cell.task}, {seeds_text(self.seeds)}"


# ---- what is asked for ----


def make_grid(args: Any) -> list[Cell]:
    """Every task with every method, checked before anything is trained."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if seeds[-1] > LARGEST_SEED:
        raise UsageError(f"--first-seed is {seeds[0]} and --seeds {len(seeds)}, but the last must be below 2^63")
    budget = args.budget or ("paper" if args.total_steps is None else DEFAULT)
    preset = preset_of(args.preset, budget)
    tasks, chosen = tasks_named(args.envs), methods.listed(args.algos)
    if args.tuned is not None:
        _check_tuned(args.tuned, tasks, chosen)
    grid, trainings = [], []
    for asked in tasks:
        task = asked.name
        for method in chosen:
            given = {"preset": preset, **budget_settings(task, budget, FINAL_STEPS), **method.untuned(preset)}
            own = settings_file(args.config, method)
            refuse_settings(own, ("env", "name", "seed", "num_seeds", "device", "run_dir"))
            given |= tuned(args.tuned, task, method) | own
            if args.preset and given["preset"] != args.preset:
                raise UsageError(
                    f"--preset is {args.preset!r}, but the settings given for {method.label} on {task} were made with "
                    f"{given['preset']!r}; leave --preset out"
                )
            if args.total_steps is not None:
                given["total_steps"] = args.total_steps
            given |= {"env": task, "name": method.name, "run_dir": args.run_dir}
            given["device"] = args.device or "auto"
            resolved = resolve(method, given)
            settings = gather.deciding(resolved)
            training = what_it_trains(task, method, settings, resolved)
            for label in (label for label, other in trainings if other == training):
                note(f"{label} and {method.label} are the same training on {task} until tuned")
            trainings.append((method.label, training))
            others = {cell.settings["preset"]: cell.method.label for cell in grid if cell.task == task}
            if others and settings["preset"] not in others:
                (preset, label), *_ = others.items()
                raise UsageError(
                    f"{task}: {label} is trained with --preset {preset} and {method.label} with {settings['preset']}, "
                    "as one was tuned with it and the other was not; give --preset, and files tuned with it"
                )
            grid.append(Cell(task, asked.to_type, method, settings, given, seeds))
    return grid


def what_it_trains(task: str, method: Method, settings: dict[str, Any], args: Any) -> tuple:
    """All that decides how a training goes: trust regions of one lesson that are written otherwise are the same."""
    all_else = {name: value for name, value in settings.items() if name not in methods.TRUST_REGION}
    return task, method.algorithm, method.module.ratio_range(args), all_else


def tuned(folder: str | None, task: str, method: Method) -> dict[str, Any]:
    """What `torch_mars.tune` found best for a method and task; {} without a folder or a file."""
    if folder is None:
        return {}
    path = _tuned_file(folder, task, method)
    if not os.path.exists(path):
        note(f"{method.label} on {task} is not tuned: there is no {path}")
        return {}
    return settings_file(str(path), method)


def _tuned_file(folder: str, task: str, method: Method) -> Path:
    return Path(folder) / envs.folder_name(task) / f"{method.name}.yaml"


def _check_tuned(folder: str, tasks: list[envs.Task], asked: list[Method]) -> None:
    """UsageError where a folder has nothing that was tuned for any of these: it is another, or mistyped."""
    files = [_tuned_file(folder, task.name, method) for task in tasks for method in asked]
    if any(map(os.path.exists, files)):
        return
    inside = {path.parents[1] for path in Path(folder).glob(f"*/*/{files[0].name}")} if os.path.isdir(folder) else ()
    hint = f"; did you mean {' or '.join(map(str, sorted(inside)))}?" if inside else ""
    raise UsageError(f"--tuned is {shown(folder)}, where nothing was tuned for these: there is no {files[0]}{hint}")


def tasks_named(text: str) -> list[envs.Task]:
    """`paxmen,aerojax_8v8,my_module:Gather` -> tasks, each once.

    An environment stands for all its tasks, `all` for the 47 of the benchmark.

    Raises:
        UsageError: an unknown name.
    """
    groups = {"all": envs.TASKS, **envs.ENVIRONMENTS}
    found: dict[str, envs.Task] = {}
    for item in (item.strip() for item in text.split(",")):
        for name in groups.get(item, [item]):
            task = startable(name, "--envs", list(groups))
            found[task.name] = task
    return list(found.values())


# ---- what is left of it ----


def jobs_of(
    cell: Cell, run_dir: Path, seeds_per_run: int, is_taken: Callable[[int], bool] = lambda seed: False
) -> tuple[list[Job], list[SavedRun]]:
    """What is left to train of a cell, and the finished runs that it has.

    Args:
        is_taken: of a seed, whether it is not to be trained; nor is a run that it is part of.
    """
    found = cell.runs(run_dir)
    finished = [run for run in found if run.is_finished()]
    missing = [seed for seed in cell.seeds if not any(seed in run.seeds for run in finished)]
    jobs = []
    cut = [run for run in found if run not in finished and run.is_resumable()]
    for run in sorted(cut, key=lambda run: -run.last_update()["update"]):
        if any(seed in run.seeds for seed in missing):
            if not any(is_taken(seed) for seed in run.seeds):
                jobs.append(Job(cell, run.seeds, run))
            missing = [seed for seed in missing if seed not in run.seeds]
    missing = [seed for seed in missing if not is_taken(seed)]
    while missing:  # consecutive seeds side by side in one process
        count = 1
        while count < min(seeds_per_run, len(missing)) and missing[count] == missing[0] + count:
            count += 1
        jobs.append(Job(cell, range(missing[0], missing[0] + count), None))
        missing = missing[count:]
    return jobs, [run for run in finished if any(seed in run.seeds for seed in cell.seeds)]


def seeds_text(seeds: range) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def steps_per_second(grid: list[Cell], run_dir: Path) -> dict[str, float]:
    """Measured so far, by task and, under "", in the mean; of runs with the grid's settings."""
    rates: dict[str, list[float]] = {}
    for cell in grid:
        for run in cell.runs(run_dir):
            last = run.last_update()
            if last["seconds"] > 0:
                rates.setdefault(cell.task, []).append(last["step"] * len(run.seeds) / last["seconds"])
    means = {task: sum(values) / len(values) for task, values in rates.items()}
    return {**means, "": sum(means.values()) / len(means)} if means else {}


class Remaining:
    """What is left of a grid, and what of it this command may begin.

    A training is claimed, then looked at anew, as it may have been done or cut by others, then begun. What this command
    began and did not finish it does not begin again: it would fail again.
    """

    def __init__(self, grid: list[Cell], args: Any):
        self.run_dir, self.seeds_per_run = Path(args.run_dir), args.seeds_per_run
        self.claims = Claims(make_folder(self.run_dir / CLAIMS, "--run-dir"))
        self.begun: set[tuple[str, int]] = set()
        self.open = list(grid)  # cells of which something is left

    def look(self) -> int:
        """Look at the cells that are not done; how many environment steps are left of the grid."""
        left = {cell.key: jobs_of(cell, self.run_dir, self.seeds_per_run)[0] for cell in self.open}
        self.open = [cell for cell in self.open if left[cell.key]]
        return sum(job.steps for jobs in left.values() for job in jobs)

    def trainings(self) -> int:
        """How many there are that nobody is at."""
        return sum(
            len(self._jobs(cell, lambda seed, cell=cell: self.claims.is_taken(cell.key, seed))) for cell in self.open
        )

    def next(self) -> tuple[Job, Claim] | None:
        """A training that nobody is at, and the claim to it; None if there is none now."""
        for cell in self.open:
            for job in self._jobs(cell, lambda seed, cell=cell: self.claims.is_taken(cell.key, seed)):
                claim = self.claims.take(cell.key, job.seeds)
                if claim is None:
                    continue
                again = self._jobs(cell, lambda seed, seeds=job.seeds: seed not in seeds)
                if again:
                    self.begun |= {(cell.key, seed) for seed in again[0].seeds}
                    return again[0], claim
                claim.release()
        return None

    def is_waiting(self) -> bool:
        """Whether others are at what this command has not begun."""
        return any(
            self.claims.is_taken(cell.key, seed) or seed in self._trained(cell)
            for cell in self.open
            for seed in cell.seeds
            if (cell.key, seed) not in self.begun
        )

    def _jobs(self, cell: Cell, is_taken: Callable[[int], bool]) -> list[Job]:
        trained = self._trained(cell)

        def is_out(seed: int) -> bool:
            return (cell.key, seed) in self.begun or seed in trained or is_taken(seed)

        return jobs_of(cell, self.run_dir, self.seeds_per_run, is_out)[0]

    def _trained(self, cell: Cell) -> set[int]:
        """Seeds that some process trains now, whoever started it: also one that saves itself, as its command died."""
        return {seed for run in cell.runs(self.run_dir) if run.is_training() for seed in run.seeds}
