"""Hyperparameter search as in the paper (D.1 to D.3): Optuna's TPE over each method's own space, with pruning.

    python -m torch_mars.tune --algo mars --env paxmen_5a
    python -m torch_mars.algos.mars --config tuned/paper/paxmen_5a/mars.yaml

A trial trains a few fixed seeds one after another. A seed's score is its mean return over the last fifth of its
evaluations; after each seed the median pruner sees the mean so far and may end the trial; the mean over all seeds is
what is maximised. A seed that crashes or diverges scores minus infinity and ends its trial.

Any number of workers, on one machine or many, may share a study: `--workers`, `--devices` and `--launcher slurm` start
several, and the same command again is a further one. A worker that dies leaves its trial to the others, who go on from
the trial's last checkpoint where they can see its files.
"""

import contextlib
import csv
import io
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_mars import envs
from torch_mars.protocol import devices, figures, launchers, methods
from torch_mars.protocol.devices import Device
from torch_mars.protocol.storages import need_optuna, needing_storage, storage_errors, without_password
from torch_mars.protocol.studies import (
    Plan,
    Stopped,
    best_trial,
    finished_trials,
    give_back,
    kept_trials,
    next_trial,
    open_study,
    run_trial,
)
from torch_mars.protocol.trainings import BUDGETS, Process, StopSignals, add_preset, threads_each, write_settings
from torch_mars.run.cli import (
    Parser,
    RunError,
    UsageError,
    add_list_tasks,
    check_folder,
    command_line,
    guarded,
    lesson_command,
    make_folder,
    path_argument,
    quoted,
    shown,
    whole_number,
)
from torch_mars.run.files import write_whole
from torch_mars.run.screen import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.trial import FrozenTrial

SPACES = ("matched", "paper")
POLL_SECONDS, LOOK_SECONDS = 0.1, 2.0  # between looks at processes, and at what a study has found
OF_THE_FIRST = ("--workers", "--device", "--devices", "--launcher", "--slurm")  # flags that its workers do not get


# ---- workers ----


def work(study: "Study", plan: Plan) -> bool:
    """Run trials in this process, one after another, until there are enough; whether the user stopped it."""
    from optuna.trial import TrialState

    with StopSignals() as signals:
        while not signals.is_stopping and (asked := next_trial(study, plan)):
            trial, parameters = asked
            try:
                outcome = run_trial(study, trial, parameters, plan, signals)
            except Stopped:
                with contextlib.suppress(*storage_errors()):  # then others find out that this worker is gone
                    give_back(study, trial)
                break
            except UsageError:
                study.tell(trial, state=TrialState.FAIL)
                raise
            write_results(study, plan)
            best = best_trial(study)
            say(f"trial {trial.number}: {outcome}" + (f"; best {best.value:.3f}" if best else ""))
    return signals.is_stopping


def places_of(args: Any) -> list[Device]:
    """The devices of this machine that workers get; with a launcher, where their settings are looked through.

    Raises:
        UsageError: there is no such device.
    """
    if args.launcher is None or args.show:
        return devices.chosen(args)
    if args.devices is not None:
        raise UsageError(
            f"--devices is {shown(args.devices)}, GPUs of this machine; a job of --launcher gets its own: "
            "--slurm gpus_per_node=1"
        )
    return [Device("cpu", "cpu")]


def start_workers(plan: Plan, args: Any, argv: Sequence[str] | None, places: list[Device]) -> list[Process]:
    """`--workers` processes of this command on every device."""
    threads = threads_each(len(places) * args.workers)
    shared = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    logs, workers = _logs(plan), []
    for place in places:
        for _ in range(args.workers):
            log = logs / f"{_own_name()}-{len(workers)}.log"
            workers.append(Process(_worker(argv, place.device), log, {**shared, **place.environment}))
    say(f"{'workers':>16}  {args.workers} on {', '.join(place.name for place in places)}; they write to {logs}")
    return workers


def start_jobs(plan: Plan, args: Any, argv: Sequence[str] | None, device: str) -> list[launchers.Running]:
    """`--workers` jobs, each with this command as its work. UsageError if the cluster takes no such job."""
    logs = _logs(plan)
    made = launchers.executor(args, logs / "jobs", f"tune-{plan.stem}")
    pieces = [
        launchers.Work(launchers.python, _worker(argv, device), logs.absolute() / f"{_own_name()}-{number}.log")
        for number in range(args.workers)
    ]
    jobs = launchers.submit(made, pieces)
    say(f"{'jobs':>16}  {len(jobs)}; they write to {logs}")
    return [launchers.Running(job) for job in jobs]


def _worker(argv: Sequence[str] | None, device: str) -> list[str]:
    return ["-m", "torch_mars.tune", *launchers.without_flags(argv, OF_THE_FIRST), "--device", device]


def _logs(plan: Plan) -> Path:
    return make_folder(plan.folder / "logs", "--out")


def _own_name() -> str:
    """Of this process's workers: others of the study may write to the same folder."""
    return f"worker-{time.strftime('%m%d-%H%M%S')}-{os.getpid()}"


def follow(study: "Study", plan: Plan, workers: "Sequence[Process | launchers.Running]") -> bool:
    """Wait for workers and say what they find; whether the user stopped them.

    Raises:
        UsageError: a worker could not begin, whose reason is that of all.
        RunError: they are gone, and trials are left.
    """
    told = {trial.number for trial in finished_trials(study)}
    lost: list[str] = []
    wrong: str | None = None
    next_look = 0.0
    with StopSignals() as signals:
        signals.trainings = list(workers)
        while signals.trainings:
            time.sleep(POLL_SECONDS)
            for worker in [worker for worker in signals.trainings if worker.poll() is not None]:
                signals.trainings.remove(worker)
                if worker.poll() == 0 or signals.is_stopping or wrong:
                    continue
                if worker.poll() == 2:
                    wrong = worker.last_words().removeprefix("tune: ")
                    for other in signals.trainings:
                        other.stop()
                else:
                    lost.append(f"{worker.last_words()} (log: {worker.log})")
                    say(f"a worker is gone: {lost[-1]}")
            if time.monotonic() > next_look or not signals.trainings:
                with contextlib.suppress(*storage_errors()):  # theirs to say
                    _tell_news(study, told)
                next_look = time.monotonic() + LOOK_SECONDS
    if wrong:
        raise UsageError(wrong)
    left = plan.trials - len(finished_trials(study))
    if lost and left > 0 and not signals.is_stopping:
        raise RunError(f"{left} trials are left, as workers are gone; the first: {lost[0]}. The same command goes on")
    return signals.is_stopping


def _tell_news(study: "Study", told: set[int]) -> None:
    """Say which trials have finished since the last time, and remember it in `told`."""
    for trial in finished_trials(study):
        if trial.number not in told:
            told.add(trial.number)
            ending = f", {trial.state.name.lower()}" * (trial.state.name != "COMPLETE")
            best = best_trial(study)
            outcome = trial.user_attrs.get("crash") or f"{_objective(trial):.3f}{ending}"
            say(f"trial {trial.number}: {outcome}" + (f"; best {best.value:.3f}" if best else ""))


# ---- what comes out ----


def write_results(study: "Study", plan: Plan) -> None:
    """The best configuration as yaml that a lesson's --config takes, and all trials as a table and a figure."""
    finished, best = finished_trials(study), best_trial(study)
    make_folder(plan.folder, "--out")
    if best:
        heading = (
            f"{plan.method.label} on {plan.task}: trial {best.number}, the best of {len(finished)}\n"
            f"mean return {best.value:.4f} over {len(plan.seeds)} seeds, in the last fifth of the evaluations of "
            f"{plan.fixed['total_steps']:,} environment steps"
        )
        write_settings(plan.best, {**plan.kept, **best.params}, heading)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "objective", "seeds", *plan.space])
    for trial in finished:
        state = "failed" if "crash" in trial.user_attrs else trial.state.name.lower()
        seen = trial.intermediate_values
        writer.writerow([trial.number, state, _objective(trial), len(seen), *(trial.params[n] for n in plan.space)])
    write_whole(plan.folder / "trials.csv", text.getvalue().encode())


def _objective(trial: "FrozenTrial") -> float:
    """Of a complete trial its value, of a pruned one the mean over the seeds that it had."""
    return trial.intermediate_values[max(trial.intermediate_values)]


def study_figure(study: "Study", plan: Plan) -> "Figure":
    """The objective by trial, then against every parameter: complete trials as dots, pruned ones as crosses."""
    finished = [trial for trial in finished_trials(study) if math.isfinite(_objective(trial))]
    is_complete = np.array([trial.state.name == "COMPLETE" for trial in finished], bool)
    objective = np.array([_objective(trial) for trial in finished])
    figure, axes = figures.panels(1 + len(plan.space), height=1.6)

    def scatter(axis: Any, x: np.ndarray) -> None:
        axis.plot(x[~is_complete], objective[~is_complete], "x", color="0.55", markersize=4, label="pruned")
        axis.plot(x[is_complete], objective[is_complete], "o", color=plan.method.colour, markersize=4, label="complete")
        axis.set_ylabel("mean return")

    numbers = np.array([trial.number for trial in finished])
    scatter(axes[0], numbers)
    best = np.maximum.accumulate(np.where(is_complete, objective, -np.inf))
    known = np.isfinite(best)
    axes[0].plot(numbers[known], best[known], drawstyle="steps-post", color="black", linewidth=1, label="best so far")
    axes[0].set_xlabel("trial")
    spread = np.random.default_rng(0).uniform(-0.15, 0.15, len(finished))  # equal ones beside each other
    for axis, (name, values) in zip(axes[1:], plan.space.items()):
        values = sorted(values) if all(isinstance(value, int | float) for value in values) else values
        scatter(axis, np.array([values.index(trial.params[name]) for trial in finished]) + spread)
        axis.set_xticks(range(len(values)), [written(value, 3) for value in values])
        axis.set_xlim(-0.5, len(values) - 0.5)
        axis.set_xlabel(name)
    figures.add_legend(figure, axes[:1], f"{plan.method.label} on {plan.task}")
    return figure


def written(value: Any, digits: int = 4) -> str:
    """A candidate, which a lesson of a user's own may have as a text."""
    return f"{value:.{digits}g}" if isinstance(value, int | float) else str(value)


def report(study: "Study", plan: Plan) -> None:
    """Write everything and say what was found.

    Raises:
        UsageError: no trial is finished.
    """
    finished, best = finished_trials(study), best_trial(study)
    if not finished:
        raise UsageError(f"the study {plan.name!r} in {plan.storage_shown} is empty: no trial is finished")
    write_results(study, plan)
    import matplotlib

    with matplotlib.rc_context(figures.STYLE):
        picture = io.BytesIO()
        study_figure(study, plan).savefig(picture, format="png")
    write_whole(plan.folder / "study.png", picture.getvalue())
    pruned = sum(trial.state.name == "PRUNED" for trial in finished)
    say(f"{len(finished)} of {plan.trials} trials are finished, {pruned} of them pruned")
    say(f"all trials: {plan.folder / 'trials.csv'}, {plan.folder / 'study.png'}")
    if best is None:
        raise RunError("no trial was completed, so there is no best configuration")
    say(f"best: trial {best.number} with {best.value:.3f}")
    for name, value in best.params.items():
        say(f"{name:>16}  {written(value)}")
    lesson = ["python", *lesson_command(plan.method.module)]
    own = ["--env", plan.typed_task] if envs.known(plan.task).own else []
    say(f"train with it:\n  {quoted([*lesson, '--config', plan.best, *own])}")


# ---- the command ----


def make_parser() -> Parser:
    parser = Parser(
        prog="tune",
        description="Search a method's hyperparameters on a task (Optuna, TPE, pruning). The same line again goes on, "
        "or, while the first is running, is a further worker on the same study.",
        epilog=f"Methods: {', '.join(methods.names())}. The best configuration is written to "
        "OUT/BUDGET/TASK/METHOD.yaml (BUDGET-paper with --space paper, BUDGET-wide with --wide), the study to the "
        "folder of that name. Exit codes: 0 done, 1 no trial succeeded, 2 wrong usage, 130 stopped.",
        allow_abbrev=False,
    )
    whole = whole_number
    parser.add_argument("--algo", required=True, metavar="METHOD", help="which; or a lesson of your own, by its module")
    parser.add_argument(
        "--env",
        required=True,
        metavar="TASK",
        help="which; or my_module:MyEnvironment of your own",
    )
    add_list_tasks(parser)
    parser.add_argument(
        "--trials", type=whole(1, 10**6), metavar="N",
        help="trials of the study, over all workers (default as in the paper: 40, with two targets 80; smoke: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=whole(1, 10_000), metavar="N", help="seeds of a trial: 0, 1, ... (default 5; smoke: 2)"
    )
    parser.add_argument(
        "--budget", choices=BUDGETS, default="paper",
        help="environment steps of a seed: the paper's 40M (AeroJAX, JaxNav 120M), a twentieth, a few updates of small "
        "networks (default paper)",
    )  # fmt: skip
    parser.add_argument(
        "--space", choices=SPACES, default="matched",
        help="what is searched: trust regions on one grid of equal strengths for all methods, with what the task is "
        "trained with untuned as trial 0; or the paper's (default matched)",
    )  # fmt: skip
    add_preset(parser)
    parser.add_argument("--wide", action="store_true", help="let learning rates also be 1e-3, where they are not")
    parser.add_argument(
        "--ablation", action="store_true", help="MARS in the space of its asymmetric neighbours, as in the ablation"
    )
    parser.add_argument(
        "--config", type=path_argument, metavar="FILE", help="yaml with settings that stay fixed, such as num_envs"
    )
    devices.add_flag(parser)
    parser.add_argument(
        "--workers", type=whole(1, 1000), default=1, metavar="N",
        help="trials at a time: on each device, or with --launcher in as many jobs (default 1)",
    )  # fmt: skip
    launchers.add_flags(parser)
    parser.add_argument(
        "--storage", type=_storage_argument, metavar="FILE_OR_URL",
        help="where workers share the study: a file, or a URL that Optuna knows, such as sqlite:///study.db or "
        "postgresql://user@host/tuning, whose password may be in PGPASSWORD (default: study.journal in the study's "
        "folder)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=path_argument, default="tuned", metavar="DIR", help="folder of all studies (default tuned)"
    )
    parser.add_argument("--show", action="store_true", help="only show and draw what a study has found so far")
    return parser


def _storage_argument(text: str) -> str:
    return text if "://" in text else path_argument(text)


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    need_optuna()
    figures.need_matplotlib()
    launchers.check_flags(args)
    typed_device, places = args.device or "auto", places_of(args)
    args.device = places[0].device
    plan = Plan(args)
    check_folder(plan.folder, "--out")
    if args.show and "://" not in plan.storage and not os.path.exists(plan.storage):
        raise UsageError(f"there is no study yet: {plan.storage} does not exist")
    with needing_storage(plan.storage_shown):
        study = open_study(plan)
        if args.show:
            report(study, plan)
            return 0
        make_folder(plan.folder, "--out")
        steps = f"{plan.fixed['total_steps']:,} environment steps each"
        say(f"{plan.method.label} on {plan.task}: {plan.trials} trials of {len(plan.seeds)} seeds, {steps}")
        say(f"{'study':>16}  {plan.storage_shown}")
        for name, values in plan.space.items():
            say(f"{name:>16}  {', '.join(written(value) for value in values)}")
        if args.launcher:
            workers = start_jobs(plan, args, argv, typed_device)
            if args.launcher == "slurm":
                names = ", ".join(worker.name for worker in workers)
                say(f"{len(workers)} jobs are in the queue: {names}. What they found:")
                say(f"  {without_password(command_line('tune', launchers.without_flags(argv, OF_THE_FIRST)))} --show")
                return 0
            is_stopped = follow(study, plan, workers)
        elif len(places) * args.workers > 1 or places[0].environment:
            is_stopped = follow(study, plan, start_workers(plan, args, argv, places))
        else:
            is_stopped = work(study, plan)
        if is_stopped:
            say(f"Stopped. The same command goes on.\n  {without_password(command_line('tune', argv))}")
            return 130
        running = len(kept_trials(study)) - len(finished_trials(study))
        if running:
            say(f"{running} more are being run by other workers")
        report(study, plan)
    return 0


if __name__ == "__main__":
    guarded(main, "tune")
