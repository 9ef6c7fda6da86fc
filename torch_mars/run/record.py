"""A run on disk: its folder, config, metrics, TensorBoard, checkpoints and resume.

    runs/<task>/<algorithm>/<time>-<name>/
        config.yaml         the lesson's name and the resolved settings
        metrics.jsonl       one line per update and per evaluation, for each seed
        evaluations.json    the evaluations in marl-eval's nesting
        tensorboard/        one folder per seed, so that seeds are curves of one chart
        checkpoint.pt       all that a bit-exact resume needs; replaced as a whole
        policy.pt           the best evaluated actor, small, written when training is finished

Nothing here knows an algorithm; a lesson says what to log and what to save.
"""

import dataclasses
import inspect
import json
import math
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from torch_mars import envs
from torch_mars.run.cli import RunError, UsageError
from torch_mars.run.files import CHECKPOINT, POLICY, load_checkpoint, run_folder, save_checkpoint, write_whole
from torch_mars.run.screen import Progress
from torch_mars.run.settings import RunArgs


class Run:
    """One training run, new or resumed.

    Args:
        args: resolved settings of the lesson, `args.resume` included.
        algorithm: the lesson's name, such as "mars".
        steps_per_update: environment steps (per seed) of one update.
    """

    def __init__(self, args: Any, algorithm: str, steps_per_update: int):
        from torch.utils.tensorboard import SummaryWriter  # a second of start-up that --help should not pay

        self.args, self.algorithm, self.steps_per_update = args, algorithm, steps_per_update
        self.seeds = [args.seed + p for p in range(args.num_seeds)]
        self.first_update, self.seconds_before, self.checkpoint = 1, 0.0, None
        if args.resume:
            self.folder = run_folder(args.resume)
            self.checkpoint = load_checkpoint(args.resume)
            self.first_update = self.checkpoint["update"] + 1
            self.seconds_before = self.checkpoint["seconds"]
            records = [r for r in self._read_metrics() if r["update"] < self.first_update]
        else:
            self.folder = _new_folder(args, algorithm)
            records = []
        self.last_update = max(args.total_steps // steps_per_update, self.first_update - 1)
        try:
            write_whole(self.folder / "config.yaml", yaml.safe_dump(self._config(), sort_keys=False).encode())
            write_whole(self.folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in records).encode())
            self.metrics_file = open(self.folder / "metrics.jsonl", "a")  # noqa: SIM115 - open for the whole run
            purge = self.step(self.first_update) if args.resume else None
            board = self.folder / "tensorboard"
            self.boards = [SummaryWriter(board / f"seed_{seed}", purge_step=purge) for seed in self.seeds]
        except (OSError, RunError) as error:
            if not args.resume:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise UsageError(f"--run-dir: cannot write the run to {self.folder}: {error}") from None
        self.evaluations = [r for r in records if r["kind"] == "evaluation"]
        self.absolute: dict[int, dict] = {}  # seed -> the absolute metric, at the end
        self.started = time.monotonic()
        self.seconds_at_update = self.seconds
        self.stop_signal: int | None = None
        self.is_stopping = False

    def _config(self) -> dict[str, Any]:
        """What config.yaml says: the lesson, its METHOD if it has one, its own settings, those of keeping a run."""
        inherited = [field.name for field in dataclasses.fields(RunArgs)]
        settings = dataclasses.asdict(self.args)
        own = {name: value for name, value in settings.items() if name not in inherited}
        kept = {name: settings[name] for name in inherited if name not in ("resume", "config")}
        look = getattr(inspect.getmodule(type(self.args)), "METHOD", None)
        return {"lesson": self.algorithm, **({"method": dict(look)} if look else {}), **own, **kept}

    def step(self, update: int) -> int:
        """Environment steps per seed after an update."""
        return update * self.steps_per_update

    @property
    def seconds(self) -> float:
        """Training time so far, over all sessions of the run."""
        return self.seconds_before + time.monotonic() - self.started

    # ---- the loop of updates ----

    def updates(self) -> Iterator[int]:
        """The numbers of the updates to do, with a progress display; ends early when the user asks to stop."""
        handlers = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        self.progress = Progress(self.first_update, self.last_update, self.step(1) * len(self.seeds))
        try:
            for update in range(self.first_update, self.last_update + 1):
                yield update
                self.progress.advance()
                if self.is_stopping:
                    return
        finally:
            self.progress.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.stop_signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.stop_signal = number

    def should_save(self, update: int) -> bool:
        """Whether a checkpoint is due after this update."""
        self.is_stopping = bool(self.stop_signal)  # a signal from now on gets one more update, and is saved then
        return self.is_stopping or update == self.last_update or update % self.args.checkpoint_every == 0

    def should_evaluate(self, update: int) -> bool:
        """Whether an evaluation is due after this update: when a multiple of `eval_every` steps was passed."""
        passed = self.step(update) // self.args.eval_every > self.step(update - 1) // self.args.eval_every
        return passed or update == self.last_update

    # ---- recording ----

    def log_update(self, update: int, metrics: dict[str, torch.Tensor]) -> None:
        """One line per seed. `metrics` are tensors [P]; nan (nothing to report) is left out.

        Raises:
            RunError: a loss is not finite.
        """
        table = torch.stack([values.double() for values in metrics.values()]).tolist()  # one wait for the device
        metrics = dict(zip(metrics, table))
        now = self.seconds
        rate = self.steps_per_update * len(self.seeds) / max(now - self.seconds_at_update, 1e-9)
        self.seconds_at_update = now
        metrics["steps_per_second"] = [rate] * len(self.seeds)
        for seed, values in zip(self.seeds, _transposed(metrics)):
            self._record("update", seed, update, values)
            for name in ("actor_loss", "critic_loss"):
                if not math.isfinite(values[name]):
                    saved = f"; the last good checkpoint is in {self.folder}"
                    raise RunError(
                        f"update {update}, seed {seed}: {name} is {values[name]}; training stopped, a smaller "
                        f"--actor-lr or --critic-lr may help{saved if (self.folder / CHECKPOINT).exists() else ''}"
                    )
        if any(metrics["episodes"]):
            self.progress.show(metrics["episode_return"], metrics.get("won", []))

    def log_evaluation(self, update: int, episodes: dict[str, list[list[float]]]) -> None:
        """`episodes`: metric -> P lists of one number per evaluated episode; `episode_return` is one of them."""
        for seed, values in zip(self.seeds, _transposed(episodes)):
            self.evaluations.append(self._record("evaluation", seed, update, values))
        self._write_evaluations()
        means = [[statistics.fmean(values) for values in episodes.get(name, [])] for name in ("episode_return", "won")]
        self.progress.evaluated(self.step(update), *means)

    def log_absolute(self, episodes: dict[str, list[list[float]]]) -> None:
        """The absolute metric: the best evaluated policies over ten times the episodes."""
        self.absolute = dict(zip(self.seeds, _transposed(episodes)))
        self._write_evaluations()

    def save(self, update: int, content: dict[str, Any]) -> None:
        """Replace the checkpoint by one of after this update."""
        self.metrics_file.flush()
        head = {"algorithm": self.algorithm, "task": self.args.env, "update": update, "seconds": self.seconds}
        save_checkpoint(self.folder / CHECKPOINT, {**head, **content})

    def say(self, sentence: str) -> None:
        """A line above the progress display."""
        self.progress.bar.write(sentence, file=sys.stderr)

    def save_policy(self, content: dict[str, Any]) -> None:
        head = {"algorithm": self.algorithm, "task": self.args.env, "settings": dataclasses.asdict(self.args)}
        save_checkpoint(self.folder / POLICY, {**head, **content})

    def close(self) -> None:
        self.metrics_file.close()
        for board in self.boards:
            board.close()

    def _record(self, kind: str, seed: int, update: int, values: dict[str, Any]) -> dict[str, Any]:
        step = self.step(update)
        values = {name: value for name, value in values.items() if not _is_nan(value)}
        record = {"kind": kind, "seed": seed, "update": update, "step": step, "seconds": round(self.seconds, 3)}
        record |= {name: _finite_or_text(value) for name, value in values.items()}
        try:
            self.metrics_file.write(json.dumps(record) + "\n")
            self.metrics_file.flush()
        except OSError as error:
            raise RunError(f"cannot write to {self.folder}: {error.strerror}; the checkpoint is intact") from None
        board = self.boards[self.seeds.index(seed)]
        for name, value in values.items():
            number = statistics.fmean(value) if isinstance(value, list) else value
            board.add_scalar(f"{'train' if kind == 'update' else 'evaluation'}/{name}", number, step)
        return record

    def _read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; the last may be cut off by a kill and is then left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        records = []
        for line in path.read_text(errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def _write_evaluations(self) -> None:
        """All evaluations in marl-eval's nesting: environment, task, algorithm, run_<seed>, step_<i>."""
        runs = {}
        for seed in self.seeds:
            run = {}
            for i, record in enumerate(r for r in self.evaluations if r["seed"] == seed):
                metrics = {name: value for name, value in record.items() if isinstance(value, list)}
                run[f"step_{i}"] = {"step_count": record["step"], "elapsed_time": record["seconds"], **metrics}
            run["absolute_metrics"] = self.absolute.get(seed, {})
            runs[f"run_{seed}"] = run
        nested = {envs.family(self.args.env): {self.args.env: {self.algorithm: runs}}}
        write_whole(self.folder / "evaluations.json", json.dumps(nested).encode())


class BestWeights:
    """Each seed's weights at its best evaluation so far; of equal ones the later. Every weight has a leading P axis."""

    def __init__(self, network: torch.nn.Module):
        self.weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        self.returns = torch.full((len(next(iter(self.weights.values()))),), -torch.inf)

    def consider(self, network: torch.nn.Module, episode_return: list[list[float]]) -> None:
        """Take over the weights of the seeds whose mean return [P lists] is no worse than before."""
        returns = torch.tensor([statistics.fmean(values) for values in episode_return])
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


# ---- helpers ----


def _new_folder(args: Any, algorithm: str) -> Path:
    parent = Path(args.run_dir) / envs.folder_name(args.env) / algorithm
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{args.name}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):  # two runs may start within one second
            folder = parent / (f"{stem}-{attempt}" if attempt else stem)
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise UsageError(f"--run-dir is {args.run_dir!r}: cannot write there ({error.strerror})") from None
    raise UsageError(f"--run-dir is {args.run_dir!r}: too many runs named {stem}")


def _transposed(lists: dict[str, list]) -> list[dict[str, Any]]:
    """{name: [one per seed]} -> [{name: value} per seed]."""
    return [dict(zip(lists, values)) for values in zip(*lists.values())]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _finite_or_text(value: Any) -> Any:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and math.isinf(value) else value
