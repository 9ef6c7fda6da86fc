"""A run on disk: its folder, config, metrics, TensorBoard, checkpoints and resume.

    runs/<task>/<algorithm>/<time>-<name>/
        config.yaml         the lesson's name and the resolved settings
        metrics.jsonl       one line per update and per evaluation, for each seed
        evaluations.json    the evaluations in marl-eval's nesting
        tensorboard/        one folder per seed, so that seeds are curves of one chart
        checkpoint.pt       all that a bit-exact resume needs; replaced as a whole
        policy.pt           the best evaluated actor, small, written when training is finished
        policies/, films/   what `--keep-every` and `--film-every` ask for

Nothing here knows an algorithm; a lesson says what to log and what to save.
"""

import contextlib
import dataclasses
import inspect
import json
import math
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from torch_mars import envs
from torch_mars.envs import rng
from torch_mars.envs.core import BatchedEnv
from torch_mars.run import keeping, looks, memory, screen, trackers
from torch_mars.run.cli import RunError, UsageError, duration, is_out_of_memory, short
from torch_mars.run.files import (
    CHECKPOINT,
    LARGEST,
    LOCK,
    POLICY,
    check_like,
    hold,
    let_go,
    load_checkpoint,
    save_checkpoint,
    sweep,
    sync_folder,
    to_json,
    write_whole,
)
from torch_mars.run.finding import run_folder
from torch_mars.run.metrics import METRICS, Log, Past, encoded, parse
from torch_mars.run.ranks import MARK, Ranks, Whole, launch, place
from torch_mars.run.reading import read_bytes
from torch_mars.run.settings import NOT_SETTINGS, ROUNDED, RunArgs
from torch_mars.run.tracker import About
from torch_mars.run.yamls import read_yaml

CONFIG, EVALUATIONS = "config.yaml", "evaluations.json"
BETWEEN_SAVES = 60.0  # s
NUMBERS = ("actor_loss", "critic_loss", "actor_grad_norm", "critic_grad_norm")  # they are, until a seed diverges


class Run:
    """One training run, new or resumed: `with record.Run(...) as run`, so that every way out is a good one.

    It holds the lock of its folder. A resumed run is only read, until `updates` begins: what does not fit is refused
    before anything was changed.

    Args:
        args: resolved settings of the lesson, `args.resume` included.
        algorithm: the lesson's name, such as "mars".
        steps_per_update: environment steps (per seed) of one update.
        ranks: the processes that train it, of which the first alone writes.

    Attributes:
        own_args: `args` with this rank's share of the environments.
        is_stopping: whether the user asked to stop, as all ranks know since the latest `should_save`.
        diverged: seed -> the update in which it ended, as its losses were no numbers any more.
        rounds_anew: settings by name in which a resumed run computes in another way than before, so that it is not
            exactly what it would have been; and what they were.

    Raises:
        UsageError: another process trains this run, or it cannot be gone on with.
    """

    def __init__(self, args: Any, algorithm: str, steps_per_update: int, ranks: Ranks | None = None):
        if ranks is None and (launched := place()) and launched.size > 1:
            raise UsageError(
                f"lesson {algorithm} knows nothing of ranks, see main in mars.py; start it without torchrun"
            )
        self.args, self.algorithm, self.steps_per_update = args, algorithm, steps_per_update
        self.ranks = ranks or Ranks()
        size = self.ranks.place.size
        shares = {"num_envs": args.num_envs // size, "eval_episodes": args.eval_episodes // size}
        self.own_args = dataclasses.replace(args, **shares) if size > 1 else args
        memory.check(self.own_args, self.ranks.place.local_size)
        looks.checked(algorithm, getattr(inspect.getmodule(type(args)), "METHOD", None) or {})
        self.seeds = [args.seed + p for p in range(args.num_seeds)]
        self.headline = envs.known(args.env).environment.headline
        self.first_update, self.seconds_before, self.checkpoint = 1, 0.0, None
        self.diverged: dict[int, int] = {}
        self.rounds_anew: dict[str, Any] = {}
        self.log: Log | None = None
        self.trackers: trackers.Trackers | None = None
        self.started_from = ""  # where the first weights came from
        self.keeps = False  # whether the lesson calls `keep`
        self.is_refused = False  # as the lesson cannot do what was asked for
        self.evaluations: list[dict] = []
        self.absolute: dict[int, dict] = {}  # seed -> the absolute metric, at the end
        self.stop_signal: int | None = None
        self.is_stopping = False
        self.handlers: dict[int, Any] = {}  # of signals, before this run
        self.lock, self.made = None, []
        if args.resume:
            self._open_saved()
        else:
            self._open_new()
        self.last_update = max(args.total_steps // steps_per_update, self.first_update - 1)
        self.started = self.update_started = self.saved_at = time.monotonic()
        self.update_seconds: float | None = None  # of the latest update
        self.seconds_at_update = self.seconds

    def _open_new(self) -> None:
        """A folder of its own, which no other process writes to."""
        if self.ranks.is_first:
            self.folder, self.made = _new_folder(self.args, self.algorithm)
            self.lock = hold(self.folder / LOCK, f"training {self.folder}")
        self.folder = self.ranks.collected(getattr(self, "folder", None))[0]

    def _open_saved(self) -> None:
        """The folder of the run that goes on, and what its checkpoint says."""
        self.folder = run_folder(self.args.resume)
        if self.ranks.is_first:
            try:
                self.lock = hold(self.folder / LOCK, f"training {self.folder}")
            except RunError as error:
                raise UsageError(f"--resume: {error}") from None
        try:
            self._read(load_checkpoint(self.args.resume))
            done = self.first_update - 1
            if self.args.total_steps // self.steps_per_update < done:
                raise UsageError(
                    f"--total-steps is {self.args.total_steps:,}, but {self.folder} has trained "
                    f"{done * self.steps_per_update:,} already"
                )
        except BaseException:
            self._let_go()
            raise

    def _read(self, checkpoint: dict[str, Any]) -> None:
        """What a checkpoint says about the run."""
        if checkpoint["task"] != self.args.env and not envs.is_same(envs.known(self.args.env), checkpoint["task"]):
            task = short(checkpoint["task"])
            raise UsageError(f"--resume: {self.folder / CHECKPOINT} is of task {task}, not of {self.args.env}")
        self.checkpoint = checkpoint
        self.first_update, self.seconds_before = checkpoint["update"] + 1, checkpoint["seconds"]
        self.diverged = {seed: update for seed, update in checkpoint.get("diverged", {}).items() if seed in self.seeds}
        if checkpoint.get("ranks", 1) != self.ranks.place.size:
            self.rounds_anew["ranks"] = checkpoint.get("ranks", 1)
        before = read_yaml(self.folder / CONFIG)
        for field in dataclasses.fields(self.args):
            was = before.get(field.name, field.default)
            if field.name in ROUNDED and was != getattr(self.args, field.name):
                self.rounds_anew[field.name] = was
        self.past = Past(self.folder / METRICS, checkpoint["update"], checkpoint.get("metrics"))

    def restore(self, **parts: Any) -> None:
        """Give the parts of a training (`learner=learner, ...`) what the checkpoint has of them, if one is resumed.

        Raises:
            UsageError: it does not fit them. Nothing was written.
        """
        for name, part in parts.items() if self.checkpoint else ():
            try:
                content = self.checkpoint[name]
                check_like(content, part.state_dict(), name)
                load = part.load_state if hasattr(part, "load_state") else part.load_state_dict
                load(content)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
                path = self.folder / CHECKPOINT
                raise UsageError(f"--resume: {path} does not fit the run's config.yaml: {short(reason)}") from None

    def start_from(self, **networks: torch.nn.Module) -> None:
        """Give the networks of a new run the weights that `--start-from` names.

        Args:
            networks: `actor`, and what else the lesson has; every weight has a leading P axis.

        Raises:
            UsageError: there is no such policy, or its shapes do not fit. Nothing was written.
        """
        if self.args.start_from and not self.args.resume:
            self.started_from = keeping.start_from(self.args.start_from, networks)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self.close()
        if kind is None:
            return
        has_begun = self.log is not None and self.log.mark["lines"] and not self.is_refused
        if self.ranks.is_first and not (self.args.resume or has_begun):
            _remove(self.folder, self.made)
        elif (self.folder / CHECKPOINT).exists():
            screen.say(f"What is saved can be gone on with:\n  {screen.resume_command(self)}")
        if is_out_of_memory(error):
            raise RunError(memory.shortage(self.own_args)) from None

    def _begin(self) -> None:
        """Open the files of the run, on the rank that writes them."""
        if not self.ranks.is_first:
            return
        resumed_at = self.step(self.first_update) if self.args.resume else None
        try:
            if self.args.resume:
                sweep(self.folder)
                lost = self._evaluations_lost()
                self.log, aside = self.past.begin(lost)
                found = [record for record in (*self.past.records, *lost) if record["kind"] == "evaluation"]
                self.evaluations = sorted(found, key=lambda record: record["update"])
                self._tell_of_damage(aside, len(lost))
            else:
                self.log, _ = Past(self.folder / METRICS, 0, None).begin([])
            if name := launch():
                write_whole(self.folder / MARK, name.encode())
            write_whole(self.folder / CONFIG, yaml.safe_dump(self._config(), sort_keys=False).encode())
        except (OSError, RunError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--run-dir: cannot write the run to {self.folder}: {reason}") from None
        names = trackers.chosen(self.args.track)
        about = About(self.folder, self.args.env, self.algorithm, self.seeds, _plain(self._config()), resumed_at)
        self.trackers = trackers.Trackers(names, about, self.say)

    def _tell_of_damage(self, aside: Path | None, restored: int) -> None:
        if self.past.problem:
            kept = f"; the file as it was is {aside.name}" if aside else ""
            again = f"; {restored} evaluations were found in {EVALUATIONS}" if restored else ""
            self.say(f"note: {self.past.problem}{kept}{again}")

    def _evaluations_lost(self) -> list[dict[str, Any]]:
        """Records of the evaluations in evaluations.json that a damaged metrics.jsonl has no more."""
        if not self.past.problem:
            return []
        known = {(r["seed"], r["update"]) for r in self.past.records if r["kind"] == "evaluation"}
        path, found = self.folder / EVALUATIONS, []
        try:
            content = read_bytes(path, LARGEST)
        except UsageError:  # there was no evaluation yet, or it is gone, too: the sentence on the metrics says how many
            return []
        try:
            runs = json.loads(content)[envs.family(self.args.env)][self.args.env][self.algorithm]
            for seed in self.seeds:
                for name, values in runs[f"run_{seed}"].items():
                    update = values["step_count"] // self.steps_per_update if name.startswith("step_") else 0
                    if 0 < update < self.first_update and (seed, update) not in known:
                        head = {"kind": "evaluation", "seed": seed, "update": update, "step": values["step_count"]}
                        lists = {name: value for name, value in values.items() if isinstance(value, list)}
                        record = parse(encoded([{**head, "seconds": values["elapsed_time"], **lists}]))
                        found += [record] if record else []
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            kept = path.with_name("evaluations-damaged.json")
            write_whole(kept, content)  # the next evaluation writes the file anew
            self.say(f"note: {path} is damaged, too; the file as it was is {kept.name}")
        return found

    def _config(self) -> dict[str, Any]:
        """What config.yaml says: the lesson, the look in its METHOD, its own settings, those of keeping a run."""
        inherited = [field.name for field in dataclasses.fields(RunArgs)]
        settings = dataclasses.asdict(self.args)
        own = {name: value for name, value in settings.items() if name not in inherited}
        kept = {name: settings[name] for name in inherited if name not in NOT_SETTINGS}
        lesson = inspect.getmodule(type(self.args))
        about: dict[str, Any] = {"lesson": getattr(lesson, "ALGORITHM", self.algorithm)}
        if self.algorithm != about["lesson"]:  # one of several that it trains
            about["algorithm"] = self.algorithm
        if look := getattr(lesson, "METHOD", None):
            about["look"] = dict(look)  # as it is said: `looks.checked` has tuples
        return {**about, **own, **kept}

    def step(self, update: int) -> int:
        """Environment steps per seed after an update."""
        return update * self.steps_per_update

    @property
    def seconds(self) -> float:
        """Training time so far, over all sessions of the run."""
        return self.seconds_before + time.monotonic() - self.started

    # ---- what it is made of ----

    def seeds_for(self, *purpose: str | int) -> list[int]:
        """A seed for some purpose from each of the run's, unrelated to those for others."""
        return [rng.derive(seed, *purpose) for seed in self.seeds]

    def environments(self, count: int) -> BatchedEnv:
        """`count` for each seed; of several ranks, those that are this one's."""
        P, args = len(self.seeds), self.args
        env = envs.make(args.env, P * count, args.device, self.seeds_for("environment"), **args.env_options)
        return env if self.ranks.place.size == 1 else env.share(self.ranks.rows(P, count).to(env.device))

    def whole(self, part: Any, axis: int = 0) -> Whole:
        """What is saved of a part of which every rank has some environments, along an axis (see `Whole`)."""
        return Whole(part, self.ranks, len(self.seeds), axis)

    def of_all_ranks(self, episodes: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
        """The episodes of an evaluation that the ranks have shared out: for each metric, P lists."""
        of_ranks = self.ranks.collected(episodes)
        return {name: [sum(lists, []) for lists in zip(*(own[name] for own in of_ranks))] for name in episodes}

    # ---- the loop of updates ----

    def updates(self) -> Iterator[int]:
        """The numbers of the updates to do, with a progress display; ends early when the user asks to stop."""
        if self.args.start_from and not (self.args.resume or self.started_from):
            raise UsageError(f"--start-from: lesson {self.algorithm} does not call run.start_from, see mars.py")
        steps = self.step(1) * len(self.seeds)
        self.progress = screen.Progress(self.first_update, self.last_update, steps, self.headline)
        self.handlers = screen.stop_signals(self._ask_to_stop)
        try:
            self._begin()
            for update in range(self.first_update, self.last_update + 1):
                self.update_started = time.monotonic()
                yield update
                if (self.args.keep_every or self.args.film_every) and not self.keeps:
                    self.is_refused = True
                    flag = "--keep-every" if self.args.keep_every else "--film-every"
                    raise UsageError(f"{flag}: lesson {self.algorithm} does not call run.keep, see mars.py")
                self.progress.advance()
                if self.is_stopping:
                    return
            self.is_stopping, *_ = self.ranks.agreed(bool(self.stop_signal))
        finally:
            self.progress.close()
            self._unwatch_signals()

    def _unwatch_signals(self) -> None:
        for number, handler in self.handlers.items():
            if signal.getsignal(number) == self._ask_to_stop:  # else somebody else has it by now
                signal.signal(number, handler)
        self.handlers = {}

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.stop_signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.stop_signal = number
        about = ""
        if self.update_seconds is not None:
            about = f", about {duration(max(0.0, self.update_started + self.update_seconds - time.monotonic()))}"
        screen.say(f"\nstopping after this update{about}; once more: now", screen.STDERR)

    def should_save(self, update: int) -> bool:
        """Whether a checkpoint is due after this update."""
        every = self.args.checkpoint_every
        is_due = time.monotonic() - self.saved_at >= BETWEEN_SAVES if every is None else update % every == 0
        # a signal from now on gets one more update, and is saved then; the first rank's clock counts
        self.is_stopping, is_due = self.ranks.agreed(bool(self.stop_signal), is_due and self.ranks.is_first)
        return self.is_stopping or update == self.last_update or is_due

    def should_evaluate(self, update: int) -> bool:
        """Whether an evaluation is due after this update: when a multiple of `eval_every` steps was passed."""
        return self._is_due(self.args.eval_every, update)

    def _is_due(self, every: int | None, update: int) -> bool:
        """Whether this update passed a multiple of `every` steps, or is the last; never where that is None."""
        if every is None:
            return False
        return update == self.last_update or self.step(update) // every > self.step(update - 1) // every

    # ---- recording ----

    def log_update(self, update: int, metrics: dict[str, torch.Tensor]) -> None:
        """One line per seed that has not diverged.

        Args:
            metrics: tensors [P] by name; nan (nothing to report) is left out. `episodes`, `episode_return` and the
                environment's headline are shown while training goes on; a seed of which one of NUMBERS is not finite
                has diverged. A lesson need not have any of them.

        Raises:
            RunError: the last seed has diverged.
        """
        table = torch.stack([values.double() for values in metrics.values()]).tolist()  # one wait for the device
        metrics = dict(zip(metrics, table))
        now = self.seconds
        rate = self.steps_per_update * len(self.seeds) / max(now - self.seconds_at_update, 1e-9)
        self.seconds_at_update = now
        self.update_seconds = time.monotonic() - self.update_started
        metrics["steps_per_second"] = [rate] * len(self.seeds)
        for seed, values in zip(self.seeds, _transposed(metrics)):
            if seed in self.diverged:
                continue
            self._record("update", seed, update, values)
            for name in (name for name in NUMBERS if name in values):
                if not math.isfinite(values[name]) and seed not in self.diverged:
                    self._end_seed(seed, update, f"{name} is {values[name]}")
        if any(metrics.get("episodes", [])):
            self.progress.show(metrics.get("episode_return", []), metrics.get(self.headline, []))

    @property
    def is_good(self) -> list[bool]:
        """Of each seed whether it has not diverged [P]."""
        return [seed not in self.diverged for seed in self.seeds]

    def _end_seed(self, seed: int, update: int, reason: str) -> None:
        self.diverged[seed] = update
        if len(self.diverged) == len(self.seeds):
            saved = f"; the last good checkpoint is in {self.folder}" * (self.folder / CHECKPOINT).exists()
            raise RunError(
                f"update {update}, seed {seed}: {reason}; training stopped, a smaller --actor-lr or --critic-lr may "
                f"help{saved}"
            )
        self._write({**self._head("diverged", seed, update), "reason": reason})
        self.say(f"note: seed {seed} has diverged in update {update} ({reason}) and keeps its last good weights")

    def log_evaluation(self, update: int, episodes: dict[str, list[list[float]]]) -> None:
        """`episodes`: metric -> P lists of one number per evaluated episode; `episode_return` is one of them."""
        for seed, values in zip(self.seeds, _transposed(episodes)):
            self.evaluations.append(self._record("evaluation", seed, update, values))
        self._write_evaluations()
        names = ("episode_return", self.headline)
        means = [[statistics.fmean(values) for values in episodes.get(name, [])] for name in names]
        self.progress.evaluated(self.step(update), *means)

    def log_absolute(self, episodes: dict[str, list[list[float]]]) -> None:
        """The absolute metric: the best evaluated policies over ten times the episodes."""
        self.absolute = dict(zip(self.seeds, _transposed(episodes)))
        self._write_evaluations()
        for seed, values in self.absolute.items():
            self._show("absolute", seed, values, self.step(self.last_update))

    def keep(self, update: int, actor: torch.nn.Module, evaluate: Callable) -> None:
        """What `--keep-every` and `--film-every` ask for after this update.

        Args:
            actor: every weight has a leading P axis.
            evaluate: the lesson's, which plays what is filmed.
        """
        self.keeps = True
        if not self.ranks.is_first:
            return
        if self._is_due(self.args.keep_every, update):
            self._save_actor(keeping.policy_file(self.folder, self.step(update)), dict(actor.state_dict()), update)
        if self._is_due(self.args.film_every, update):
            place = next(place for place, is_good in enumerate(self.is_good) if is_good)
            head = f"{self.algorithm.upper()} after {self.step(update):,} steps, seed {self.seeds[place]}"
            path = keeping.film_file(self.folder, self.step(update))
            try:
                keeping.film(path, head, self.args, actor, place, evaluate, update)
                self.trackers.film(self.seeds[place], path, self.step(update))
            except Exception as error:  # of the disk, or of somebody's drawing: no training is lost for a picture
                self.say(f"note: no film after update {update}: {' '.join(str(error).split())}")

    def _save_actor(self, path: Path, weights: dict[str, Any], update: int) -> None:
        """A policy on the way, with the returns of the latest evaluation: it says which seed is the best."""
        latest = {record["seed"]: statistics.fmean(record["episode_return"]) for record in self.evaluations}
        returns = [latest.get(seed, -math.inf) for seed in self.seeds]
        returns = torch.tensor(returns, dtype=torch.float32, device="cpu")
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"--keep-every: cannot write to {path.parent}: {error.strerror}") from None
        self._save(path, {"after_steps": self.step(update), "actor": weights, "returns": returns})

    def save(self, update: int, content: dict[str, Any]) -> None:
        """Replace the checkpoint by one of after this update."""
        self.saved_at = time.monotonic()
        if not self.ranks.is_first:
            return
        try:
            mark = self.log.sync()
        except OSError as error:
            raise self._cannot_write(error) from None
        self.trackers.flush()
        head = {"algorithm": self.algorithm, "task": self.args.env, "update": update, "seconds": self.seconds}
        about = {"metrics": mark, "diverged": self.diverged, "ranks": self.ranks.place.size}
        save_checkpoint(self.folder / CHECKPOINT, {**head, **about, **content})
        self.saved_at = time.monotonic()

    def say(self, sentence: str) -> None:
        """A line above the progress display."""
        self.progress.bar.write(sentence, file=screen.STDERR)

    def save_policy(self, content: dict[str, Any]) -> None:
        self._save(self.folder / POLICY, content)

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        if not self.ranks.is_first:
            return
        settings = {k: v for k, v in dataclasses.asdict(self.args).items() if k not in NOT_SETTINGS}
        head = {"algorithm": self.algorithm, "task": self.args.env, "settings": settings}
        save_checkpoint(path, {**head, **content})

    def close(self) -> None:
        """Close all files and let go of the folder."""
        self._unwatch_signals()
        if self.log is not None:
            with contextlib.suppress(OSError):  # every line was flushed when it was written
                self.log.close()
        if self.trackers is not None:
            self.trackers.close()
        self._let_go()

    def _let_go(self) -> None:
        if self.lock is not None:
            let_go(self.lock)

    def _head(self, kind: str, seed: int, update: int) -> dict[str, Any]:
        seconds = round(self.seconds, 3)
        return {"kind": kind, "seed": seed, "update": update, "step": self.step(update), "seconds": seconds}

    def _record(self, kind: str, seed: int, update: int, values: dict[str, Any]) -> dict[str, Any]:
        """A line of metrics.jsonl, and its points of the trackers' curves."""
        values = {name: value for name, value in values.items() if not _is_nan(value)}
        record = {**self._head(kind, seed, update), **values}
        if seed in self.diverged:
            record["diverged"] = self.diverged[seed]
        self._write(record)
        self._show("train" if kind == "update" else "evaluation", seed, values, record["step"])
        return record

    def _show(self, kind: str, seed: int, values: dict[str, Any], step: int) -> None:
        if not self.ranks.is_first:
            return
        means = {name: statistics.fmean(value) if isinstance(value, list) else value for name, value in values.items()}
        self.trackers.add(seed, {f"{kind}/{name}": mean for name, mean in means.items()}, step)

    def _write(self, record: dict[str, Any]) -> None:
        if not self.ranks.is_first:
            return
        try:
            self.log.append(record)
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> RunError:
        return RunError(f"cannot write to {self.folder}: {error.strerror}; the checkpoint is intact")

    def _write_evaluations(self) -> None:
        """All evaluations in marl-eval's nesting: environment, task, algorithm, run_<seed>, step_<i>."""
        if not self.ranks.is_first:
            return
        runs = {}
        for seed in self.seeds:
            run = {}
            for i, record in enumerate(r for r in self.evaluations if r["seed"] == seed):
                metrics = {name: value for name, value in record.items() if isinstance(value, list)}
                run[f"step_{i}"] = {"step_count": record["step"], "elapsed_time": record["seconds"], **metrics}
            run["absolute_metrics"] = self.absolute.get(seed, {})
            runs[f"run_{seed}"] = run
        nested = {envs.family(self.args.env): {self.args.env: {self.algorithm: runs}}}
        write_whole(self.folder / EVALUATIONS, to_json(nested).encode())


class BestWeights:
    """Each seed's weights at its best evaluation so far; of equal ones the later. Every weight has a leading P axis."""

    def __init__(self, network: torch.nn.Module):
        self.weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        self.returns = torch.full(
            (len(next(iter(self.weights.values()))),), -torch.inf, dtype=torch.float32, device="cpu"
        )

    def consider(self, network: torch.nn.Module, episode_return: list[list[float]]) -> None:
        """Take over the weights of the seeds whose mean return [P lists] is no worse than before."""
        means = [statistics.fmean(values) for values in episode_return]
        returns = torch.tensor(means, dtype=torch.float32, device="cpu")
        is_better = returns >= self.returns
        self.returns = torch.where(is_better, returns, self.returns)
        for name, weight in network.state_dict().items():
            chosen = is_better.to(weight.device).view(-1, *[1] * (weight.dim() - 1))
            self.weights[name] = torch.where(chosen, weight, self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "returns": self.returns}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        device = next(iter(self.weights.values())).device
        self.weights = {name: weight.to(device) for name, weight in content["weights"].items()}
        self.returns = content["returns"]


class GoodWeights:
    """Each seed's weights after its latest good update: what a seed that diverges keeps.

    Args:
        networks: every weight has a leading P axis.
    """

    def __init__(self, *networks: torch.nn.Module):
        self.pairs = [
            (p, p.detach().clone()) for network in networks for p in network.state_dict(keep_vars=True).values()
        ]

    @torch.no_grad()
    def keep(self, is_good: list[bool]) -> None:
        """Take over the weights of good seeds [P], and give the others back what was kept of theirs."""
        if all(is_good):
            torch._foreach_copy_([kept for _, kept in self.pairs], [weight for weight, _ in self.pairs])
            return
        for weight, kept in self.pairs:
            chosen = torch.tensor(is_good, dtype=torch.bool, device=weight.device).view(-1, *[1] * (weight.dim() - 1))
            kept.copy_(torch.where(chosen, weight, kept))
            weight.copy_(kept)


# ---- helpers ----


def _new_folder(args: Any, algorithm: str) -> tuple[Path, list[Path]]:
    """The folder of a new run, and those that were made for it, the innermost first."""
    parent = Path(args.run_dir) / envs.folder_name(args.env) / algorithm
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{args.name}"
    made = [above for above in (parent, parent.parent, parent.parent.parent) if not above.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):  # two runs may start within one second
            folder = parent / (f"{stem}-{attempt}" if attempt else stem)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            for above in (parent, parent.parent, parent.parent.parent):
                sync_folder(above)
            return folder, [folder, *made]
    except OSError as error:
        raise UsageError(f"--run-dir is {args.run_dir!r}: cannot write there ({error.strerror})") from None
    raise UsageError(f"--run-dir is {args.run_dir!r}: too many runs named {stem}")


def _remove(folder: Path, made: list[Path]) -> None:
    """A run that never began, and the folders that were made for it and hold nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        for above in made[1:]:
            above.rmdir()


def _transposed(lists: dict[str, list]) -> list[dict[str, Any]]:
    """{name: [one per seed]} -> [{name: value} per seed]."""
    return [dict(zip(lists, values)) for values in zip(*lists.values())]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """What trackers can show: numbers, texts, truth values and None; the rest as text."""
    is_plain = {name: value is None or isinstance(value, bool | int | float | str) for name, value in settings.items()}
    return {name: value if is_plain[name] else json.dumps(value) for name, value in settings.items()}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
