"""A grid of trainings, methods x tasks x seeds, and at its end the paper's figures.

    python -m torch_mars.experiment --algos mars,mappo,maspo --envs paxmen --seeds 10 --total-steps 40M

Run the same line again after a Ctrl-C, a kill or a lost machine: what is done is skipped, what was cut is resumed, what
is missing is trained. A run counts if its settings are those that the grid would give it, wherever it came from.

Run it while another is at work, on this machine or on one that sees the folder, and they share the grid: each training
is claimed by one of them, and what a command that died has left is taken over by the others.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torch_mars.protocol import devices, figures, launchers, methods, report
from torch_mars.protocol.claims import Claim, Claims
from torch_mars.protocol.devices import Device
from torch_mars.protocol.grids import CLAIMS, Cell, Job, Remaining, jobs_of, make_grid, seeds_text, steps_per_second
from torch_mars.protocol.trainings import (
    BUDGETS,
    DEFAULT,
    StopSignals,
    Training,
    add_preset,
    threads_each,
    write_settings,
)
from torch_mars.run.cli import (
    Parser,
    RunError,
    UsageError,
    add_list_tasks,
    check_folder,
    command_line,
    duration,
    guarded,
    make_folder,
    path_argument,
    whole_number,
)
from torch_mars.run.screen import STDERR, say

FIRST_SEED = 10  # tuning has 0 to 4
OF_LAUNCHING = ("--launcher", "--slurm", "--jobs", "--out")
POLL_SECONDS, LOOK_SECONDS, PLAIN_SECONDS = 0.1, 2.0, 30.0


# ---- what is left, on the screen ----


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
    remaining = Remaining(grid, args)
    progress = Progress(remaining.look())
    next_search, next_look, has_said = 0.0, 0.0, False
    with StopSignals() as signals, contextlib.closing(progress.bar):
        crew = Crew(args, signals, progress.say)
        with contextlib.closing(crew):
            while crew.running or not signals.is_stopping:
                if crew.free and not signals.is_stopping and time.monotonic() >= next_search:
                    begun_at, found = time.monotonic(), remaining.next()
                    if found:
                        crew.begin(*found)
                        continue
                    next_search = later(begun_at)
                    if not crew.running and (args.as_worker or not remaining.is_waiting()):
                        break
                    if not crew.running and not has_said:
                        progress.say("waiting for others, who train what is left")
                        has_said = True
                time.sleep(POLL_SECONDS)
                if crew.has_ended_some():
                    next_search = 0.0
                if time.monotonic() >= next_look:
                    begun_at, left = time.monotonic(), remaining.look()
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
    remaining, folder = Remaining(grid, args), Path(args.run_dir) / "logs" / "jobs"
    progress = Progress(remaining.look())
    count = min(args.jobs or remaining.trainings(), remaining.trainings())
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
                    begun_at, left = time.monotonic(), remaining.look()
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
        for path in report.plot(finished, Path(args.out), seeds=grid[0].seeds):
            say(str(path))
    if failures:
        raise RunError(f"{len(failures)} of the trainings failed; the first: {failures[0]}")
    return 0


if __name__ == "__main__":
    guarded(main, "experiment")
