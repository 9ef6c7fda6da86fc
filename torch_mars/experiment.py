"""A grid of trainings, methods x tasks x seeds, and at its end the paper's figures.

    python -m torch_mars.experiment --algos mars,mappo,maspo --envs paxmen --seeds 10 --total-steps 40M

Run the same line again after a Ctrl-C, a kill or a lost machine: what is done is skipped, what was cut is resumed, what
is missing is trained. A run counts if its settings are those that the grid would give it, wherever it came from.

Run it while another is at work, on this machine or on one that sees the folder, and they share the grid: each training
is claimed by one of them, and what a command that died has left is taken over by the others.
"""

import argparse
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torch_mars import envs
from torch_mars.protocol import devices, figures, gather, launchers, methods, report, saved
from torch_mars.protocol.claims import Claim, Claims
from torch_mars.protocol.devices import Device
from torch_mars.protocol.methods import Method
from torch_mars.protocol.saved import SavedRun
from torch_mars.protocol.trainings import (
    BUDGETS,
    DEFAULT,
    FINAL_STEPS,
    StopSignals,
    Training,
    add_preset,
    budget_settings,
    preset_of,
    resolve,
    settings_file,
    startable,
    threads_each,
    write_settings,
)
from torch_mars.run.cli import (
    LARGEST_SEED,
    Parser,
    RunError,
    UsageError,
    add_list_tasks,
    check_folder,
    command_line,
    duration,
    guarded,
    make_folder,
    note,
    path_argument,
    whole_number,
)
from torch_mars.run.screen import STDERR, say
from torch_mars.run.settings import refuse_settings

FIRST_SEED = 10  # tuning has 0 to 4
OF_LAUNCHING = ("--launcher", "--slurm", "--jobs", "--out")
CLAIMS = ".claims"  # in the folder of all runs
POLL_SECONDS, LOOK_SECONDS, PLAIN_SECONDS = 0.1, 2.0, 30.0


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
        folder = run_dir / envs.folder_name(self.task) / self.method.lesson
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


# ---- the grid ----


def make_grid(args: Any) -> list[Cell]:
    """Every task with every method, checked before anything is trained."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if seeds[-1] > LARGEST_SEED:
        raise UsageError(f"--first-seed is {seeds[0]} and --seeds {len(seeds)}, but the last must be below 2^63")
    budget = args.budget or ("paper" if args.total_steps is None else DEFAULT)
    preset = preset_of(args.preset, budget)
    grid, trainings = [], []
    for asked in tasks_named(args.envs):
        task = asked.name
        for method in methods.listed(args.algos):
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
    return task, method.lesson, method.module.ratio_range(args), all_else


def tuned(folder: str | None, task: str, method: Method) -> dict[str, Any]:
    """What `torch_mars.tune` found best for a method and task; {} without a folder or a file."""
    if folder is None:
        return {}
    path = Path(folder) / envs.folder_name(task) / f"{method.name}.yaml"
    if not os.path.exists(path):
        note(f"{method.label} on {task} is not tuned: there is no {path}")
        return {}
    return settings_file(str(path), method)


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


def show(grid: list[Cell], run_dir: Path, args: Any) -> list[Job]:
    """Print what is done, what is left, who is at it and what is done where; the jobs."""
    rates, everything, claims = steps_per_second(grid, run_dir), [], Claims(run_dir / CLAIMS)
    width, label_width = max(len(c.task) for c in grid), max(len(c.method.label) for c in grid)
    seconds = 0.0
    for cell in grid:
        jobs, finished = jobs_of(cell, run_dir, args.seeds_per_run)
        everything += jobs
        done = [f"{seeds_text(run.seeds)} done" for run in finished]
        cut = [f"{seeds_text(j.seeds)} at {j.run.last_update()['update'] / j.run.updates:.0%}" for j in jobs if j.run]
        todo = [f"{seeds_text(job.seeds)} to do" for job in jobs if not job.run]
        left = [seed for job in jobs for seed in job.seeds]
        holders = {seed: holder for seed in left if (holder := claims.holder(cell.key, seed))}
        at_it = [
            f"{', '.join(str(seed) for seed in holders if holders[seed] == holder)} in work by {holder}"
            for holder in dict.fromkeys(holders.values())
        ]
        say(f"  {cell.task:{width}}  {cell.method.label:{label_width}}  {'; '.join([*done, *cut, *todo, *at_it])}")
        rate = rates.get(cell.task, rates.get("", 0.0))
        seconds += sum(job.steps for job in jobs) / rate if rate else 0.0
    if not everything:
        say("All done.")
        return []
    steps = sum(job.steps for job in everything)
    slots = len(slots_of(args)) * ((args.jobs or len(everything)) if args.launcher else 1)
    at_a_time = min(len(everything), slots)
    time_left = f"about {duration(seconds / at_a_time)}" if rates else "time unknown until the first has begun"
    count = f"{len(everything)} training{'s' * (len(everything) > 1)}"
    say(f"Left: {count}, {steps:,} environment steps, {time_left}")
    places = ", ".join(device.name for device in args.places)
    if args.launcher:
        asked = "".join(f", {name} {value}" for name, value in (args.slurm or {}).items())
        at_a_time = min(len(everything), len(slots_of(args)))
        jobs = min(args.jobs or len(everything), len(everything))
        say(f"By {args.launcher}: {jobs} job{'s' * (jobs > 1)}{asked}; in each {at_a_time} at a time on {places}")
    else:
        say(f"Here: {at_a_time} at a time on {places}")
    return everything


def slots_of(args: Any) -> list[Device]:
    """The device of each of the trainings that run at a time."""
    return [device for _ in range(args.workers) for device in args.places]


class Work:
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


# ---- training ----


class Progress:
    """A bar over all steps that are left on a terminal, a line now and then elsewhere."""

    def __init__(self, steps: int):
        self.total = steps
        self.is_terminal = STDERR.isatty()
        self.bar = tqdm(
            total=self.total, disable=not self.is_terminal, dynamic_ncols=True, file=STDERR,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}  {postfix}",
        )  # fmt: skip
        self.started = self.printed = time.monotonic()

    def show(self, done: int, text: str) -> None:
        """`done` steps of all that were left at the start."""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)
        now = time.monotonic()
        if not self.is_terminal and now - self.printed > PLAIN_SECONDS and done:
            left = (self.total - done) * (now - self.started) / done
            self.say(f"{done / self.total:.0%} of the grid, {duration(left)} left; {text}")
            self.printed = now

    def say(self, text: str) -> None:
        if self.is_terminal:
            self.bar.write(text, file=STDERR)
        else:
            say(text)


@dataclass(frozen=True)
class Running:
    """A training that this command has begun."""

    job: Job
    claim: Claim
    place: Device
    training: Training


class Crew:
    """The trainings of this command that run now.

    Args:
        args: the command's.
        signals: who passes on requests to stop.
        say: prints a line.
    """

    def __init__(self, args: Any, signals: StopSignals, say: Callable[[str], None]):
        self.logs = make_folder(Path(args.run_dir) / "logs", "--run-dir")
        self.free, self.signals, self.say = slots_of(args), signals, say
        self.threads = threads_each(len(self.free))
        self.running: list[Running] = []
        self.failures: list[str] = []

    def begin(self, job: Job, claim: Claim) -> None:
        """Start the job on a device that is free."""
        place = self.free.pop(0)
        try:
            training = start(job, self.logs, place, self.threads)
        except BaseException:
            claim.release()
            raise
        self.running.append(Running(job, claim, place, training))
        self.signals.trainings.append(training)
        where = f" on {place.name}" * bool(place.environment)
        self.say(f"{'resumed' if job.run else 'started'}: {job}{where}")

    def has_ended_some(self) -> bool:
        """Whether trainings have ended; what became of them is said, and their devices are free."""
        ended = [one for one in self.running if one.training.poll() is not None]
        for one in ended:
            self.running.remove(one)
            self.signals.trainings.remove(one.training)
            self.free.append(one.place)
            one.claim.release()
            if one.training.poll() == 0:
                self.say(f"done: {one.job}")
            elif not self.signals.is_stopping:
                self.failures.append(f"{one.job}: {one.training.last_words()} (log: {one.training.log})")
                self.say(f"failed: {self.failures[-1]}")
        return bool(ended)

    def close(self) -> None:
        """Give back what is claimed: the locks of the runs go on to say that somebody is at them."""
        for one in self.running:
            one.claim.release()


def train(grid: list[Cell], args: Any) -> tuple[list[str], bool]:
    """Train what is left, on every device `workers` at a time, beside others that do the same, until all is done.

    Returns:
        What failed, one line each, and whether the user stopped it.
    """
    work = Work(grid, args)
    progress = Progress(work.look())
    next_search, next_look, has_said = 0.0, 0.0, False
    with StopSignals() as signals, contextlib.closing(progress.bar):
        crew = Crew(args, signals, progress.say)
        with contextlib.closing(crew):
            while crew.running or not signals.is_stopping:
                if crew.free and not signals.is_stopping and time.monotonic() >= next_search:
                    begun_at, found = time.monotonic(), work.next()
                    if found:
                        crew.begin(*found)
                        continue
                    next_search = later(begun_at)
                    if not crew.running and (args.as_worker or not work.is_waiting()):
                        break
                    if not crew.running and not has_said:
                        progress.say("waiting for others, who train what is left")
                        has_said = True
                time.sleep(POLL_SECONDS)
                if crew.has_ended_some():
                    next_search = 0.0
                if time.monotonic() >= next_look:
                    begun_at, left = time.monotonic(), work.look()
                    names = [f"{one.job.cell.method.label} on {one.job.cell.task}" for one in crew.running]
                    progress.show(progress.total - left, ", ".join(names) or "others")
                    next_look = later(begun_at)
    return crew.failures, signals.is_stopping


def later(begun_at: float) -> float:
    """When to look again after a look that began then: looking at hundreds of runs shall not be all that is done."""
    now = time.monotonic()
    return now + max(LOOK_SECONDS, 20 * (now - begun_at))


def launch(grid: list[Cell], args: Any, argv: Sequence[str] | None) -> tuple[list[str], bool]:
    """Have jobs of a cluster work on the grid, each of which is this command on the same folder; wait for them.

    Returns:
        What failed, one line each, and whether the user stopped waiting.
    """
    work, folder = Work(grid, args), Path(args.run_dir) / "logs" / "jobs"
    progress = Progress(work.look())
    count = min(args.jobs or work.trainings(), work.trainings())
    if not count:
        return [], False
    executor = launchers.executor(args, folder, "torch_mars", "--run-dir")
    command = ["-m", "torch_mars.experiment", *launchers.without_flags(argv, OF_LAUNCHING), "--no-plot", "--as-worker"]
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    logs = [folder / f"{stem}-{number}.log" for number in range(count)]
    submitted = launchers.submit(executor, [launchers.Work(launchers.python, command, log) for log in logs])
    jobs, ids = [launchers.Running(job) for job in submitted], [job.job_id for job in submitted]
    say(f"jobs of {args.launcher}: {', '.join(ids)}; what they say: {folder / stem}-*.log")
    next_look = 0.0
    with contextlib.closing(progress.bar):
        try:
            while running := sum(job.poll() is None for job in jobs):
                time.sleep(POLL_SECONDS)
                if time.monotonic() >= next_look:
                    begun_at, left = time.monotonic(), work.look()
                    progress.show(progress.total - left, f"{running} jobs are not done")
                    next_look = later(begun_at)
        except KeyboardInterrupt:
            if args.launcher == "local":
                progress.say("stopping: trainings are being saved")
                launchers.stop(submitted)
                while any(job.poll() is None for job in jobs):
                    time.sleep(POLL_SECONDS)
            else:
                progress.say(f"The jobs go on. To end them, each saved: scancel {' '.join(ids)}")
            return [], True
    return [f"job {number}: {job.last_words()}" for number, job in zip(ids, jobs) if job.poll()], False


def start(job: Job, logs: Path, place: Device, threads: int | None) -> Training:
    """A process for the job."""
    stem = f"{job.cell.key}-{job.seeds[0]}-{job.seeds[-1]}"
    if job.run:
        arguments = ["--resume", job.run.folder, "--device", place.device]
    else:
        settings = {**job.cell.given, "seed": job.seeds[0], "num_seeds": len(job.seeds)}
        write_settings(logs / f"{stem}.yaml", settings)
        arguments = ["--config", logs / f"{stem}.yaml"]
    log = logs / f"{stem}.log"
    return Training(job.cell.method, job.cell.typed_task, arguments, log, threads, place.environment)


# ---- the command ----


def make_parser() -> Parser:
    parser = Parser(
        prog="experiment",
        description="Train a grid of methods, tasks and seeds, and draw the figures. The same line again goes on.",
        epilog=f"Methods: {', '.join(methods.names())}. "
        "Groups: ablations, the paper's four; all, its seven; independent, the three whose critics see what one agent "
        "sees; recurrent, the three with memory. "
        "Exit codes: 0 all done, 1 some training failed, 2 wrong usage, 130 stopped.",
        allow_abbrev=False,
    )
    whole = whole_number
    parser.add_argument(
        "--algos",
        default="mars,mappo,maspo",
        metavar="LIST",
        help="methods; lessons of your own by their modules (default mars,mappo,maspo)",
    )
    parser.add_argument(
        "--envs",
        required=True,
        metavar="LIST",
        help="tasks, also my_module:MyEnvironment of your own; environments for all of their tasks; or all, for all 47",
    )
    parser.add_argument("--seeds", type=whole(1, 10_000), default=10, metavar="N", help="seeds of each (default 10)")
    parser.add_argument(
        "--first-seed",
        type=whole(0),
        default=FIRST_SEED,
        metavar="N",
        help=f"the first of them (default {FIRST_SEED}; tuning has 0 to 4)",
    )
    parser.add_argument("--total-steps", type=whole(1), metavar="N", help="environment steps of a seed, such as 40M")
    parser.add_argument(
        "--budget", choices=(*BUDGETS, DEFAULT),
        help="steps where --total-steps is left out: the paper's 80M (AeroJAX, JaxNav 240M), a twentieth of it, a few "
        "updates of small networks, or as many as yaml/ has for the task (default: paper; with --total-steps, default)",
    )  # fmt: skip
    add_preset(parser)
    parser.add_argument(
        "--tuned", type=path_argument, metavar="DIR", help="use DIR/<task>/<method>.yaml, which torch_mars.tune writes"
    )
    parser.add_argument(
        "--config", type=path_argument, metavar="FILE", help="yaml with settings for all trainings, such as num_envs"
    )
    devices.add_flag(parser)
    parser.add_argument(
        "--seeds-per-run", type=whole(1, 10_000), default=10, metavar="N",
        help="seeds side by side in one process (default 10)",
    )  # fmt: skip
    workers = whole(1, 1000)
    parser.add_argument(
        "--workers", type=workers, default=1, metavar="N", help="trainings at a time, on each device (default 1)"
    )
    launchers.add_flags(parser)
    parser.add_argument(
        "--jobs", type=whole(1, 10_000), metavar="N",
        help="jobs of --launcher, each of which works as this command would (default: one for every training)",
    )  # fmt: skip
    parser.add_argument("--as-worker", action="store_true", help=argparse.SUPPRESS)  # end where nothing can be begun
    parser.add_argument(
        "--run-dir", type=path_argument, default="runs", metavar="DIR", help="folder of all runs (default runs)"
    )
    parser.add_argument(
        "--out", type=path_argument, default="figures", metavar="DIR", help="folder of the figures (default figures)"
    )
    add_list_tasks(parser)
    parser.add_argument("--no-plot", action="store_true", help="train only")
    parser.add_argument("--dry-run", action="store_true", help="only show what is left, and how long it takes")
    return parser


def prepared(argv: Sequence[str] | None) -> tuple[list[Cell], Any]:
    """The grid that a command line means, and its arguments, checked."""
    args = make_parser().parse_args(argv)
    launchers.check_flags(args)
    if args.jobs and not args.launcher:
        raise UsageError(
            f"--jobs is {args.jobs}, but there are jobs with --launcher only; --workers is for this machine"
        )
    if args.launcher:  # jobs look at their own machines
        args.places = [Device(f"GPUs {args.devices}" if args.devices else args.device or "auto", "cpu")]
    else:
        args.places = devices.chosen(args)
    args.device = args.places[0].device
    return make_grid(args), args


def main(argv: Sequence[str] | None = None) -> int:
    grid, args = prepared(argv)
    run_dir = Path(args.run_dir)
    if not (args.no_plot or args.dry_run):
        figures.need_matplotlib()  # before the days of training, not after
    check_folder(run_dir, "--run-dir")
    if not args.no_plot:
        check_folder(Path(args.out), "--out")
    if args.dry_run:
        show(grid, run_dir, args)
        return 0
    make_folder(run_dir, "--run-dir")
    show(grid, run_dir, args)
    failures, is_stopped = launch(grid, args, argv) if args.launcher else train(grid, args)
    if is_stopped:
        how = "Stopped." if args.launcher else "Stopped and saved."
        say(f"{how} The same command goes on.\n  {command_line('experiment', argv)}")
        return 130
    finished = [run.folder for cell in grid for run in jobs_of(cell, run_dir, args.seeds_per_run)[1]]
    if finished and not args.no_plot:
        for path in report.plot(finished, Path(args.out)):
            say(str(path))
    if failures:
        raise RunError(f"{len(failures)} of the trainings failed; the first: {failures[0]}")
    return 0


if __name__ == "__main__":
    guarded(main, "experiment")
