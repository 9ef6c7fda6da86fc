"""A study of tuning: what is searched, which trials there are, and how one of them is run.

Any number of workers, on one machine or many, may share a study through its storage (`storages`). A worker that dies
leaves its trial to the others, who go on from the trial's last checkpoint where they can see its files.
"""

import contextlib
import dataclasses
import math
import numbers
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_mars import envs
from torch_mars.envs.options import allowed
from torch_mars.protocol import gather, intervals, methods, saved
from torch_mars.protocol.methods import Method
from torch_mars.protocol.saved import SavedRun
from torch_mars.protocol.storages import need_optuna, open_storage, storage_errors, without_password
from torch_mars.protocol.trainings import (
    TUNING_STEPS,
    StopSignals,
    Training,
    budget_settings,
    only_one,
    preset_of,
    resolve,
    settings_file,
    startable,
    write_settings,
)
from torch_mars.run.cli import RunError, UsageError, make_folder
from torch_mars.run.settings import refuse_settings

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

SAMPLER_SEED, START_UP_TRIALS = 0, 10  # random before TPE has something to go by
DRAWS = 10  # at most, until parameters are new
PRUNER_START_UP_TRIALS = 5
SEEDS = 5
SMOKE_TRIALS, SMOKE_SEEDS = 3, 2
ALIVE_SECONDS, DEAD_SECONDS = 60.0, 300.0  # between signs of life of a worker; without any it is given up
POLL_SECONDS = 0.1  # between looks at a training


class Stopped(Exception):
    """The user asked to stop."""


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

        # one folder for what is tuned alike, which `experiment --tuned` takes
        effort = args.budget + f"-{space_name}" * (space_name != "matched") + "-wide" * args.wide
        self.parent = Path(args.out) / effort / envs.folder_name(self.task)
        self.stem = self.method.name + "-ablation" * args.ablation
        self.folder = self.parent / self.stem
        self.best = self.parent / f"{self.stem}.yaml"
        self.name = f"{self.task}-{self.stem}-{effort}"
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
    def storage_shown(self) -> str:
        """Where the study lies, for the screen: without a password."""
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


# ---- which trials ----


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
            f"the study {plan.name!r} in {plan.storage_shown} was begun with other {name} ({terms.get(name)}, now "
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

    Parameters that were tried already would bring the same again: others are drawn in their place, DRAWS times at most.

    What is drawn depends on the trial's number and on the trials before it, not on which worker draws, so that a study
    that was interrupted does not draw its first trials again.
    """
    for _ in range(DRAWS):
        asked = _asked(study, plan)
        if asked is None or not _is_tried(study, *asked):
            return asked
        study.tell(asked[0], state=need_optuna().trial.TrialState.FAIL)
    return _asked(study, plan)


def _is_tried(study: "Study", trial: "Trial", parameters: dict[str, Any]) -> bool:
    return any(known.params == parameters for known in kept_trials(study) if known.number < trial.number)


def _asked(study: "Study", plan: Plan) -> "tuple[Trial, dict[str, Any]] | None":
    """One draw of `next_trial`."""
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
