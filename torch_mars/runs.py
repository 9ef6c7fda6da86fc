"""A run on disk: its folder, config, metrics, TensorBoard, checkpoints, resume, and what the terminal shows.

    runs/<task>/<algorithm>/<time>-<name>/
        config.yaml         the resolved settings
        metrics.jsonl       one line per update and per evaluation, for each seed
        evaluations.json    the evaluations in marl-eval's nesting
        tensorboard/        one folder per seed, so that seeds are curves of one chart
        checkpoint.pt       all that a bit-exact resume needs; replaced as a whole
        policy.pt           the best evaluated actor, small, written when training is finished

Checkpoints hold tensors and plain values only and are read with `weights_only=True`: one from a stranger cannot run
code. Nothing here knows an algorithm; a lesson says what to log and what to save.
"""

import dataclasses
import io
import json
import math
import os
import shutil
import signal
import statistics
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from tqdm import tqdm

from torch_mars.config import UsageError, read_yaml

CHECKPOINT = "checkpoint.pt"
POLICY = "policy.pt"
FORMAT = 2  # of a checkpoint; raised when an old one can no longer be read
PLAIN_SECONDS = 10.0  # between lines of progress where the output is no terminal


class RunError(Exception):
    """Training cannot go on; the message is one sentence for the user."""


# ---- files ----


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: under a temporary name, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}; what was saved before is intact") from None


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values to one file, replaced as a whole."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or policy file, or those of a run's folder, onto the CPU.

    Raises:
        UsageError: there is none, or it is damaged, or from another format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CHECKPOINT
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # about the pickle format of what is no checkpoint
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # the unpickler raises anything, from IndexError to struct.error, on what is no checkpoint
        raise UsageError(f"{path} is no checkpoint of torch_mars, or is damaged or truncated") from None
    if not isinstance(content, dict) or repr(content.get("format")) != repr(FORMAT):
        raise UsageError(f"{path} is no checkpoint that this version of torch_mars reads (format {FORMAT})")
    return content


def run_folder(path: str | Path) -> Path:
    """The folder of a run, from itself or a file in it."""
    path = Path(path)
    return path if path.is_dir() else path.parent


def saved_settings(path: str | Path, algorithm: str) -> dict[str, Any]:
    """The settings of the run at `path`, which must be one of `algorithm`."""
    checkpoint = load_checkpoint(path)  # before anything else: no point in resuming without one
    if "update" not in checkpoint:
        raise UsageError(f"--resume: {path} is a policy, not a checkpoint to go on with; give the run's folder")
    if checkpoint["algorithm"] != algorithm:
        other = checkpoint["algorithm"]
        raise UsageError(f"--resume: {path} is a run of {other}, not of {algorithm}; use torch_mars/algos/{other}.py")
    return read_yaml(run_folder(path) / "config.yaml")


# ---- a run ----


class Run:
    """One training run, new or resumed.

    Args:
        args: resolved settings of the lesson, `args.resume` included.
        algorithm: "mars", "mappo" or "maspo".
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
        settings = {k: v for k, v in dataclasses.asdict(args).items() if k not in ("resume", "config")}
        try:
            write_whole(self.folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
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
        from torch_mars.envs import family

        runs = {}
        for seed in self.seeds:
            run = {}
            for i, record in enumerate(r for r in self.evaluations if r["seed"] == seed):
                metrics = {name: value for name, value in record.items() if isinstance(value, list)}
                run[f"step_{i}"] = {"step_count": record["step"], "elapsed_time": record["seconds"], **metrics}
            run["absolute_metrics"] = self.absolute.get(seed, {})
            runs[f"run_{seed}"] = run
        nested = {family(self.args.env): {self.args.env: {self.algorithm: runs}}}
        write_whole(self.folder / "evaluations.json", json.dumps(nested).encode())

    # ---- what the user sees at start and end ----

    def announce(self, env: Any, ratio_range: tuple[float, float], networks: dict[str, torch.nn.Module]) -> None:
        """What is being trained, on what, how large, and where it is stored."""
        args = self.args
        actions = getattr(env.action_space, "n", None)
        kind = f"{actions} actions" if actions else f"actions in {env.action_space.shape[0]} dimensions"
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        sizes = {name: sum(p[0].numel() for p in network.parameters()) for name, network in networks.items()}
        counts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        lines = {
            f"{self.algorithm.upper()} on {args.env}": f"{env.num_agents} agents, {kind}, observation "
            f"{env.observation_size}, state {env.state_size}, episodes of at most {env.max_steps} steps",
            "trust region": f"ratios from {ratio_range[0]:.3g} to {ratio_range[1]:.3g}",
            "training": f"{args.total_steps:,} steps per seed in {self.last_update} updates of "
            f"{args.num_envs} environments x {args.rollout_length} steps; {seeds}",
            "parameters": f"{counts} (per seed)",
            "device": args.device + (f", {torch.get_num_threads()} threads" if args.device == "cpu" else ""),
            "run": str(self.folder) + (f", resumed after update {self.first_update - 1}" if args.resume else ""),
        }
        for name, text in lines.items():
            print(f"{name:>20}  {text}", flush=True)

    def summarise(self) -> None:
        """Final and best evaluation and the next commands, or how to resume a run that was stopped."""
        script = f"-m torch_mars.algos.{self.algorithm}"
        if self.stop_signal:
            print(f"\nStopped and saved. To go on:\n  python {script} --resume {self.folder}")
            return
        by_update: dict[int, list[float]] = {}
        wins: dict[int, list[float]] = {}
        for record in self.evaluations:
            by_update.setdefault(record["step"], []).append(statistics.fmean(record["episode_return"]))
            if "won" in record:
                wins.setdefault(record["step"], []).append(statistics.fmean(record["won"]))
        print("\nReturn over evaluation episodes (mean, +- standard deviation over seeds)")
        if by_update:
            last, best = max(by_update), max(by_update, key=lambda step: statistics.fmean(by_update[step]))
            for name, step in (("final", last), ("best", best)):
                print(f"{name:>20}  {result(by_update[step], wins.get(step, []))} at step {step:,}")
        if self.absolute:
            means = [statistics.fmean(v["episode_return"]) for v in self.absolute.values()]
            count = len(next(iter(self.absolute.values()))["episode_return"])
            print(f"{'best, again':>20}  {spread(means)}: each seed's best policy over {count} new episodes")
            print(textwrap.fill(self._other_metrics(), 110, initial_indent=" " * 22, subsequent_indent=" " * 22))
        print(f"{'time':>20}  {self.seconds:.0f} s")
        print(f"{'policy':>20}  {self.folder / POLICY}")
        print("Next")
        print(f"{'see the curves':>20}  tensorboard --logdir {self.folder}")
        print(f"{'measure it':>20}  python -m torch_mars.evaluate {self.folder}")
        print(f"{'watch it':>20}  python -m torch_mars.play {self.folder}")
        print(f"{'train on':>20}  python {script} --resume {self.folder} --total-steps {2 * self.args.total_steps}")

    def _other_metrics(self) -> str:
        """Of the absolute metric's episodes, the means of all that was measured besides the return."""
        names = [name for name in next(iter(self.absolute.values())) if name != "episode_return"]
        means = {name: [statistics.fmean(seed[name]) for seed in self.absolute.values()] for name in names}
        return ", ".join(f"{name} {spread(values)}" for name, values in means.items())


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


class Progress:
    """A bar on a terminal, a line now and then elsewhere: update, steps/s, time left, return and win rate."""

    def __init__(self, first: int, last: int, steps_per_update: int):
        self.is_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=last, initial=first - 1, unit="update", disable=not self.is_terminal, dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}  {postfix}",
        )  # fmt: skip
        self.last, self.done, self.steps_per_update = last, first - 1, steps_per_update
        self.started = self.printed = time.monotonic()
        self.count = 0
        self.returns: list[float] = []
        self.wins: list[float] = []

    def show(self, returns: list[float], wins: list[float]) -> None:
        """Mean training return and win rate of each seed, from the latest update in which episodes ended."""
        self.returns = [r for r in returns if not math.isnan(r)] or self.returns
        self.wins = [w for w in wins if not math.isnan(w)] or self.wins

    def evaluated(self, step: int, returns: list[float], wins: list[float]) -> None:
        if self.count == 0 or not self.is_terminal:
            return
        self.bar.write(f"step {step:>12,}  evaluation return {result(returns, wins)}", file=sys.stderr)

    def advance(self) -> None:
        self.count, self.done = self.count + 1, self.done + 1
        now = time.monotonic()
        rate = self.count * self.steps_per_update / (now - self.started)
        text = f"{rate:,.0f} steps/s" + (f", return {result(self.returns, self.wins)}" if self.returns else "")
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update()
        is_due = now - self.printed > PLAIN_SECONDS or self.done == self.last
        if not self.is_terminal and is_due:
            left = (self.last - self.done) * (now - self.started) / self.count
            print(f"update {self.done}/{self.last}, {text}, {left:.0f} s left", flush=True)
            self.printed = now

    def close(self) -> None:
        self.bar.close()


def spread(values: list[float]) -> str:
    """`-7.12`, or with several seeds `-7.12 +- 0.30`."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.fmean(values):.2f} +- {statistics.stdev(values):.2f}"


def result(returns: list[float], wins: list[float]) -> str:
    """`1.43, won 61%`: returns of the seeds and, in tasks that can be won, their win rates."""
    return spread(returns) + (f", won {100 * statistics.fmean(wins):.0f}%" if wins else "")


def guarded(main: Any, program: str) -> NoReturn:
    """Run a command: expected failures become one sentence and an exit code (2 usage, 1 failed, 130 stopped)."""
    try:
        sys.exit(main())
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does Python complain when it exits
        sys.exit(141)
    except OSError as error:  # a full disk, a folder that was taken away
        print(f"{program}: {error.strerror or error}: {error.filename}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


# ---- helpers ----


def _new_folder(args: Any, algorithm: str) -> Path:
    parent = Path(args.run_dir) / args.env / algorithm
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
