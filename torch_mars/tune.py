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
import dataclasses
import importlib.util
import io
import math
import numbers
import os
import re
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_mars import envs
from torch_mars.envs.options import allowed
from torch_mars.protocol import devices, figures, gather, intervals, launchers, methods, saved
from torch_mars.protocol.devices import Device
from torch_mars.protocol.methods import Method
from torch_mars.protocol.saved import SavedRun
from torch_mars.protocol.trainings import (
    BUDGETS,
    TUNING_STEPS,
    Process,
    StopSignals,
    Training,
    add_preset,
    budget_settings,
    only_one,
    preset_of,
    resolve,
    settings_file,
    startable,
    threads_each,
    write_settings,
)
from torch_mars.run.cli import (
    Parser,
    RunError,
    UsageError,
    add_list_tasks,
    check_folder,
    check_name,
    command_line,
    guarded,
    lesson_command,
    make_folder,
    path_argument,
    quoted,
    short,
    shown,
    whole_number,
)
from torch_mars.run.files import write_whole
from torch_mars.run.screen import say
from torch_mars.run.settings import refuse_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SAMPLER_SEED, START_UP_TRIALS = 0, 10  # random before TPE has something to go by
PRUNER_START_UP_TRIALS = 5
SEEDS = 5
SPACES = ("matched", "paper")
SMOKE_TRIALS, SMOKE_SEEDS = 3, 2
ALIVE_SECONDS, DEAD_SECONDS = 60.0, 300.0  # between signs of life of a worker; without any it is given up
POLL_SECONDS, LOOK_SECONDS = 0.1, 2.0  # between looks at processes, and at what a study has found
CONNECT_SECONDS = 10  # to a database, unless its URL says otherwise
POSTGRESQL_DRIVERS = ("psycopg2", "psycopg")  # the first is in the extra [cluster]
OPENINGS = 5  # of a database whose tables another worker is making just now
OF_THE_FIRST = ("--workers", "--device", "--devices", "--launcher", "--slurm")  # flags that its workers do not get


class Stopped(Exception):
    """The user asked to stop."""


def need_optuna() -> Any:
    """Optuna, quiet. UsageError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UsageError("tuning needs Optuna: pip install 'torch_mars[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


# ---- what is searched ----


def search_space(
    method: Method, is_wide: bool = False, is_ablation: bool = False, space_name: str = "paper"
) -> dict[str, tuple[float, ...]]:
    """Setting -> its candidates, which are a set: no order between them is assumed.

    Args:
        is_wide: learning rates may also be 1e-3.
        is_ablation: MARS with the targets 1 + e_high and 1 - e_low of the asymmetric methods' e.
        space_name: "matched": trust regions of equal strengths for all methods (`methods.matched`); "paper".

    Raises:
        UsageError: `is_ablation` for another method than MARS, or a space of settings that the method does not have.
    """
    if is_ablation and method.name != "mars":
        raise UsageError(
            f"--ablation is the space of MARS in the paper's ablation; it cannot be had with {method.name}"
        )
    is_paper = space_name == "paper"
    space = dict(methods.PAPER_SPACE if is_paper else methods.SHARED_SPACE)
    if is_wide:
        rates = ("actor_lr", "critic_lr")
        space |= {name: tuple(sorted({*space[name], methods.WIDE_RATE})) for name in rates}
    own = method.paper_space if is_paper and method.paper_space is not None else method.space
    space |= methods.ablation_space(methods.EPSILONS if is_paper else methods.STRENGTHS) if is_ablation else own
    settings = [field.name for field in dataclasses.fields(method.args)]
    for name in space:
        if name not in settings:
            raise UsageError(f"the space of {method.label} has {name!r}, no setting of it; {allowed(name, settings)}")
    return space


def defaults_in(space: dict[str, tuple], settings: Any) -> dict[str, Any]:
    """What an untuned training has for each setting of a space: the space's own number where it has it."""
    found = {}
    for name, candidates in space.items():
        value = getattr(settings, name)
        if value is None and name == "contract":  # MARS without it has 1 / expand
            value = 1 / settings.expand
        found[name] = next((known for known in candidates if _is_same(known, value)), value)
    return found


def _is_same(one: Any, other: Any) -> bool:
    are_numbers = isinstance(one, numbers.Real) and isinstance(other, numbers.Real)
    return math.isclose(one, other, rel_tol=1e-4) if are_numbers else one == other  # settings files have four digits


class Plan:
    """A study as the command line asks for it: what is searched, how long a trial is, and where things lie."""

    def __init__(self, args: Any):
        is_smoke = args.budget == "smoke"
        self.method, task = methods.typed(args.algo), startable(args.env, "--env")
        self.task, self.typed_task = task.name, task.to_type
        self.preset, space_name = preset_of(args.preset, args.budget), args.space
        self.space = search_space(self.method, args.wide, args.ablation, space_name)
        self.trials = args.trials or (SMOKE_TRIALS if is_smoke else self.method.trials)
        self.seeds = list(range(args.seeds or (SMOKE_SEEDS if is_smoke else SEEDS)))
        given = self._given(args.config)
        budget = budget_settings(self.task, args.budget, TUNING_STEPS)
        # what no trial changes; the best yaml keeps it, but for the budget's steps, which are those of tuning
        own = self.method.untuned(self.preset) | (methods.untuned_in_ablation(self.preset) if args.ablation else {})
        self.fixed = {"env": self.task, "name": self.method.name, "preset": self.preset, **own, **budget, **given}
        self.kept = {name: value for name, value in self.fixed.items() if name != "total_steps" or name in given}
        self.device = args.device or "auto"
        self.check()
        untuned = resolve(self.method, {**self.fixed, "device": self.device})
        self.defaults: dict[str, float] | None = defaults_in(self.space, untuned)  # of trial 0
        missing = {name: value for name, value in self.defaults.items() if value not in self.space[name]}
        if space_name == "matched" and None not in missing.values():
            self.space |= {name: (*self.space[name], value) for name, value in missing.items()}
        elif missing:  # the paper's space stays as it is, and a default that is no number cannot be searched
            self.defaults = None

        ending = f"-{space_name}" * (space_name != "matched") + "-ablation" * args.ablation + "-wide" * args.wide
        self.parent = Path(args.out) / args.budget / envs.folder_name(self.task)
        self.stem = self.method.name + ending
        self.folder = self.parent / self.stem
        self.best = self.parent / f"{self.stem}.yaml"
        self.name = f"{self.task}-{self.stem}-{args.budget}"
        self.storage = args.storage or str(self.folder / "study.journal")
        self.storage_flag = "--storage" if args.storage else "--out"

    def _given(self, config: str | None) -> dict[str, Any]:
        """The settings of --config, which may say nothing of what is searched or stands on the command line."""
        given = settings_file(config, self.method)
        for name in given:
            if name in self.space:
                raise UsageError(f"--config: {name} is searched and cannot be fixed")
        refuse_settings(given, ("seed", "num_seeds", "device", "run_dir"))
        if given.get("env", self.task) != self.task:
            refuse_settings(given, ("env",))
        return given

    @property
    def place(self) -> str:
        """Where the study lies, for the screen."""
        return without_password(self.storage)

    @property
    def terms(self) -> dict[str, Any]:
        """What all workers of a study must agree on; lists, as storages turn tuples into them."""
        return {"seeds": self.seeds, "space": {k: list(v) for k, v in self.space.items()}, "fixed": self.fixed}

    def check(self) -> None:
        """UsageError if any candidate cannot be trained with: now, not in the thirtieth trial."""
        for corner in (0, -1):  # what two of them must agree on, such as minibatches and sequences, too
            settings = {**self.fixed, **{name: values[corner] for name, values in self.space.items()}}
            for name, values in self.space.items():
                for value in values:
                    resolve(self.method, {**settings, name: value, "device": self.device})


# ---- the study ----


def without_password(text: str) -> str:
    """A text in which the password of every database's URL is ***."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&\s'\"]+", r"\1***", text)


def open_storage(address: str, flag: str = "--storage") -> "BaseStorage":
    """A file of Optuna's journal, which processes and machines may share, or any of Optuna's storage URLs.

    Args:
        flag: what the address is from, for messages.

    Raises:
        UsageError: it cannot be opened.
    """
    optuna = need_optuna()
    try:
        if "://" in address:
            return _open_database(address)
        check_folder(Path(address).parent, flag)
        check_name(Path(address), flag)
        if os.path.exists(address) and not os.path.isfile(address):
            raise UsageError(f"{flag} is {shown(address)}, which is there and no file")
        make_folder(Path(address).parent, flag)
        _cut_torn_line(Path(address))
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(address))
    except UsageError:
        raise
    except Exception as error:  # each kind of storage has exceptions of its own
        place = short(without_password(address))
        raise UsageError(f"--storage is {place!r}: cannot be opened as Optuna storage ({_reason(error)})") from None


def _open_database(address: str) -> "BaseStorage":
    """A database that answers within seconds or not at all, and is asked whether it is still there before it is used.

    Raises:
        UsageError: its driver is not installed. Whatever the driver raises.
    """
    optuna = need_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    url = make_url(address)
    if url.drivername == "postgresql":  # SQLAlchemy's default is another one from version to version
        found = [name for name in POSTGRESQL_DRIVERS if importlib.util.find_spec(name)]
        url = url.set(drivername=f"postgresql+{(*found, POSTGRESQL_DRIVERS[0])[0]}")
    settings: dict[str, Any] = {}
    if url.get_backend_name() in ("postgresql", "mysql", "mariadb"):
        is_said = "connect_timeout" in url.query
        settings = {"pool_pre_ping": True, "connect_args": {} if is_said else {"connect_timeout": CONNECT_SECONDS}}
    typed = url.render_as_string(hide_password=False)
    for opening in range(OPENINGS):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(typed, engine_kwargs=settings))
        except SQLAlchemyError as error:
            words = str(error).lower()
            if opening == OPENINGS - 1 or not ("already exists" in words or "duplicate" in words):
                raise
            time.sleep(1 + np.random.default_rng().uniform())  # another worker is making the same tables
        except ImportError as error:
            driver = getattr(error.__cause__, "name", None) or getattr(error, "name", None) or url.get_driver_name()
            extra = "'torch_mars[cluster]'" if driver == POSTGRESQL_DRIVERS[0] else driver
            place = short(without_password(address))
            raise UsageError(f"--storage is {place!r}, which needs {driver}: pip install {extra}") from None
    raise AssertionError


def _reason(error: BaseException) -> str:
    """What a storage complains of, on one line, without passwords and addresses of manuals."""
    for cause in (error, error.__cause__, error.__context__):
        told = getattr(cause, "orig", None)  # what the driver says, inside what SQLAlchemy makes of it
        if told is not None:
            error = told
            break
    return without_password(" ".join(str(error).split()))[:200]


def storage_errors() -> tuple[type[Exception], ...]:
    """What a storage raises that was there and is gone."""
    optuna = need_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, optuna.exceptions.StorageInternalError


@contextlib.contextmanager
def needing_storage(plan: Plan) -> Iterator[None]:
    """RunError if the study's storage goes away within the block."""
    try:
        yield
    except storage_errors() as error:
        raise RunError(
            f"the study's storage {plan.place} does not answer ({_reason(error)}); what was trained is saved, and the "
            "same command goes on"
        ) from None


def _cut_torn_line(journal: Path) -> None:
    """Drop the last line of a journal if a crash cut it short: Optuna could not read what comes after it.

    Raises:
        UsageError: the file is something else, which must keep its bytes.
    """
    if not journal.exists():
        return
    lock = need_optuna().storages.journal.JournalFileSymlinkLock(str(journal))  # that of the journal's writers
    lock.acquire()
    try:
        with open(journal, "rb+") as file:
            content = file.read()
            if content and not content.startswith(b"{"):
                raise UsageError(f"--storage is {str(journal)!r}, which is no journal of Optuna; a database is a URL "
                                 "such as sqlite:///study.db")  # fmt: skip
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def open_study(plan: Plan) -> "Study":
    """The study of the plan, new or old. UsageError if an old one was made on other terms."""
    optuna = need_optuna()
    study = optuna.create_study(
        storage=open_storage(plan.storage, plan.storage_flag),
        study_name=plan.name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNER_START_UP_TRIALS, n_warmup_steps=0),
    )
    terms = study.user_attrs.get("terms")
    if terms is None:
        study.set_user_attr("terms", plan.terms)
        if plan.defaults:
            study.enqueue_trial(plan.defaults)
    elif terms != plan.terms:
        name = next(name for name in plan.terms if terms.get(name) != plan.terms[name])
        raise UsageError(
            f"the study {plan.name!r} in {plan.place} was begun with other {name} ({terms.get(name)}, now "
            f"{plan.terms[name]}); use the same, or another --out or --storage"
        )
    return study


def kept_trials(study: "Study") -> "list[FrozenTrial]":
    """All trials but those that were given up, whose parameters wait or run again under another number."""
    from optuna.trial import TrialState

    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]


def finished_trials(study: "Study") -> "list[FrozenTrial]":
    """Complete or pruned."""
    return [trial for trial in kept_trials(study) if trial.state.is_finished()]


def best_trial(study: "Study") -> "FrozenTrial | None":
    """The complete trial with the highest objective; None before the first."""
    from optuna.trial import TrialState

    complete = [trial for trial in kept_trials(study) if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.value, default=None)


def give_back_abandoned(study: "Study") -> None:
    """Let trials of workers that are gone be run again, from where they were cut."""
    from optuna.trial import TrialState

    for trial in kept_trials(study):
        if trial.state == TrialState.RUNNING and _is_abandoned(trial):
            give_back(study, trial)


def give_back(study: "Study", trial: "FrozenTrial | Trial") -> None:
    """Let a trial be run again, under another number, from where it was cut."""
    from optuna.trial import TrialState

    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (RuntimeError, ValueError):  # another worker was faster
        return
    study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs.get("folder", trial.number)})


def _is_abandoned(trial: "FrozenTrial") -> bool:
    *place, process = trial.user_attrs.get("worker", (None, None))
    if place and place == _place() and not _is_alive(process):
        return True  # if it is alive, it may be another one that has got its number
    begun = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
    return time.time() - trial.user_attrs.get("alive", begun) > DEAD_SECONDS


def _place() -> list[str]:
    """Where process numbers mean the same: one start of one machine, and one namespace (containers have their own).

    Empty where the system does not say: then only signs of life count.
    """
    try:
        return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    except OSError:
        return []


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError, TypeError):
        return False
    except PermissionError:
        return True
    return True


def next_trial(study: "Study", plan: Plan) -> "tuple[Trial, dict[str, Any]] | None":
    """Ask for a trial and its parameters; None when there are enough.

    What is drawn depends on the trial's number and on the trials before it, not on which worker draws, so that a study
    that was interrupted does not draw its first trials again.
    """
    optuna = need_optuna()
    give_back_abandoned(study)
    waiting = [t for t in kept_trials(study) if t.state == optuna.trial.TrialState.WAITING]
    if len(kept_trials(study)) - len(waiting) >= plan.trials:
        return None
    trial = study.ask()
    earlier = [t for t in kept_trials(study) if t.number < trial.number]
    if len(earlier) >= plan.trials:  # two workers wanted the last one
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None
    trial.set_user_attr("worker", [*_place(), os.getpid()])
    seed = np.random.SeedSequence([SAMPLER_SEED, trial.number]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=START_UP_TRIALS, seed=int(seed[0]), constant_liar=True
    )  # constant_liar: workers side by side do not all try the same
    return trial, {name: trial.suggest_categorical(name, values) for name, values in plan.space.items()}


# ---- a trial ----


def run_trial(study: "Study", trial: "Trial", parameters: dict[str, Any], plan: Plan, signals: StopSignals) -> str:
    """Train the trial's seeds until all are done or it is pruned; what became of it, for the user.

    Raises:
        Stopped: the user stopped it; it is not over, and can be gone on with.
        UsageError: the settings cannot be trained with, whatever the parameters.
    """
    from optuna.trial import TrialState

    number = trial.user_attrs.get("folder", trial.number)  # of the trial that it goes on with
    folder = make_folder(plan.folder / "trials" / str(number), "--out")
    scores: list[float] = []
    with only_one(folder / ".lock", f"trial {number}"):
        for seed in plan.seeds:
            try:
                scores.append(train_seed(trial, folder, parameters, plan, seed, signals))
            except RunError as error:
                trial.report(-math.inf, len(scores))
                trial.set_user_attr("crash", f"seed {seed}: {error}")
                study.tell(trial, state=TrialState.PRUNED)
                return f"seed {seed} failed: {error}"
            mean = statistics.fmean(scores)
            trial.report(mean, len(scores) - 1)
            if seed != plan.seeds[-1] and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return f"{mean:.3f}, pruned after {len(scores)} of {len(plan.seeds)} seeds"
    study.tell(trial, mean)
    return f"{mean:.3f}"


def train_seed(
    trial: "Trial", folder: Path, parameters: dict[str, Any], plan: Plan, seed: int, signals: StopSignals
) -> float:
    """Train one seed of a trial, or go on with it, or take its score if that is done.

    Raises:
        RunError: training failed or its score is not finite. Stopped, UsageError: as in `run_trial`.
    """
    run = run_of_seed(folder, seed, plan, parameters)
    if run:
        run.wait()  # for a training whose worker was killed to save itself
    if not (run and run.is_finished()):
        if run and run.is_resumable():
            arguments = ["--resume", run.folder, "--device", plan.device]
        else:
            settings = {**plan.fixed, **parameters, "seed": seed, "device": plan.device, "run_dir": str(folder)}
            write_settings(folder / f"seed_{seed}.yaml", settings)
            arguments = ["--config", folder / f"seed_{seed}.yaml"]
        training = Training(plan.method, plan.typed_task, arguments, folder / f"seed_{seed}.log")
        signals.trainings.append(training)
        if signals.is_stopping:  # asked to stop while it was starting
            training.stop()
        told = 0.0
        while training.poll() is None:
            if time.monotonic() - told > ALIVE_SECONDS:
                with contextlib.suppress(*storage_errors()):  # it may be back when the training has ended
                    trial.set_user_attr("alive", time.time())
                told = time.monotonic()
            time.sleep(POLL_SECONDS)
        signals.trainings.remove(training)
        if signals.is_stopping:
            raise Stopped
        if training.poll() == 2:
            raise UsageError(training.last_words())
        if training.poll() != 0:
            raise RunError(training.last_words())
        run = run_of_seed(folder, seed, plan, parameters)
    try:
        score = intervals.final_score(gather.evaluation_means(run.evaluations()[f"run_{seed}"])[1])
    except UsageError as error:  # of returns that are no numbers
        raise RunError(str(error)) from None
    if not math.isfinite(score):
        raise RunError(f"its return is {score}")
    return score


def run_of_seed(folder: Path, seed: int, plan: Plan, parameters: dict[str, Any]) -> SavedRun | None:
    """The run of a seed in a trial's folder that got furthest: of these settings, as the folder may be that of another
    study's trial."""
    wanted = gather.deciding(resolve(plan.method, {**plan.fixed, **parameters, "device": plan.device}))
    found = [run for run in saved.runs_among(folder.glob("*/*/*/config.yaml")) if seed in run.seeds]
    return max((r for r in found if r.is_trained_with(wanted)), key=lambda r: r.last_update()["update"], default=None)


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
        raise UsageError(f"the study {plan.name!r} in {plan.place} is empty: no trial is finished")
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
        "OUT/BUDGET/TASK/METHOD.yaml, the study to the folder of that name. Exit codes: 0 done, 1 no trial "
        "succeeded, 2 wrong usage, 130 stopped.",
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
    with needing_storage(plan):
        study = open_study(plan)
        if args.show:
            report(study, plan)
            return 0
        make_folder(plan.folder, "--out")
        steps = f"{plan.fixed['total_steps']:,} environment steps each"
        say(f"{plan.method.label} on {plan.task}: {plan.trials} trials of {len(plan.seeds)} seeds, {steps}")
        say(f"{'study':>16}  {plan.place}")
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
