"""What the terminal shows of a training: what is trained, how far it is, what came of it, and what to type next.

Nothing that is shown is worth a training: a reader that left, a terminal that was closed, a full disk behind the output
are no reason to end (`say`).
"""

import contextlib
import inspect
import math
import os
import signal
import statistics
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from torch_mars import envs
from torch_mars.envs import pool
from torch_mars.run import memory, ranks
from torch_mars.run.cli import lesson_command, quoted
from torch_mars.run.files import POLICY

PLAIN_SECONDS = 10.0  # between lines of progress where the output is no terminal


class Stream:
    """sys.stdout or sys.stderr for those who must go on: what cannot be written is lost, and this said on the other.

    Args:
        name: "stdout" or "stderr". It is looked up at every write, as programs exchange them.
    """

    def __init__(self, name: str):
        self.name, self.encoding = name, "utf-8"

    def write(self, text: str) -> None:
        if not ranks.is_first():  # of several processes that train one run, one speaks
            return
        stream = getattr(sys, self.name)
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a terminal that knows ASCII only
            encoding = getattr(stream, "encoding", None) or "ascii"
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except RuntimeError:  # a signal came in the middle of another write
            with contextlib.suppress(OSError):
                os.write({"stdout": 1, "stderr": 2}[self.name], text.encode(errors="backslashreplace"))
        except (OSError, ValueError, AttributeError) as error:  # broken, closed, None
            self._give_up(error)

    def flush(self) -> None:
        try:
            getattr(sys, self.name).flush()
        except (OSError, ValueError, AttributeError) as error:
            self._give_up(error)
        except RuntimeError:
            pass

    def isatty(self) -> bool:
        try:
            return ranks.is_first() and getattr(sys, self.name).isatty()
        except (OSError, ValueError, AttributeError):
            return False

    def fileno(self) -> int:
        return getattr(sys, self.name).fileno()

    def _give_up(self, error: Exception) -> None:
        """Write into nothing from now on, so that Python does not stumble over it when it ends, either."""
        stream = getattr(sys, self.name)
        setattr(sys, self.name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process lives
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(getattr(sys, self.name).fileno(), stream.fileno())
        reason = getattr(error, "strerror", None) or error
        if stream is not None and not isinstance(error, BrokenPipeError):  # whoever left has seen enough
            other = STDOUT if self is STDERR else STDERR
            say(f"note: {self.name} cannot be written ({reason}); going on without", other)


STDOUT, STDERR = Stream("stdout"), Stream("stderr")


def say(text: str, stream: Stream = STDOUT) -> None:
    """A line, at once, on a screen that may be gone."""
    stream.write(text + "\n")
    stream.flush()


def stop_signals(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Have `handler` called when the user, the system or a closed terminal asks to stop; the handlers before it.

    Only a main thread can be asked; elsewhere nothing changes. `nohup` means that a closed terminal does not matter.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ignored = [name for name in names if name == "SIGHUP" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN]
    return {
        getattr(signal, name): signal.signal(getattr(signal, name), handler) for name in names if name not in ignored
    }


def ignore_end() -> None:
    """From now on SIGTERM does nothing: this process is ending by itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Progress:
    """A bar on a terminal, a line now and then elsewhere: update, steps/s, time left, returns and what says most.

    Args:
        first, last: updates.
        steps_per_update: environment steps, of all seeds.
        headline: the environment's metric that says most; "" where it has none.
    """

    def __init__(self, first: int, last: int, steps_per_update: int, headline: str):
        self.is_terminal = STDERR.isatty()
        self.bar = tqdm(
            total=last, initial=first - 1, unit="update", disable=not self.is_terminal, dynamic_ncols=True, file=STDERR,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}  {postfix}",
        )  # fmt: skip
        self.last, self.done, self.steps_per_update, self.headline = last, first - 1, steps_per_update, headline
        self.started = self.printed = time.monotonic()
        self.count = 0
        self.returns: list[float] = []
        self.headlines: list[float] = []

    def show(self, returns: list[float], headlines: list[float]) -> None:
        """Mean training return and headline of each seed, from the latest update in which episodes ended."""
        self.returns = [r for r in returns if not math.isnan(r)] or self.returns
        self.headlines = [value for value in headlines if not math.isnan(value)] or self.headlines

    def evaluated(self, step: int, returns: list[float], headlines: list[float]) -> None:
        if self.count == 0 or not self.is_terminal:
            return
        self.bar.write(f"step {step:>12,}  evaluation return {result(returns, self.headline, headlines)}", file=STDERR)

    def advance(self) -> None:
        self.count, self.done = self.count + 1, self.done + 1
        now = time.monotonic()
        rate = self.count * self.steps_per_update / (now - self.started)
        text = f"{rate:,.0f} steps/s"
        if self.returns:
            text += f", return {result(self.returns, self.headline, self.headlines)}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update()
        is_due = now - self.printed > PLAIN_SECONDS or self.done == self.last
        if not self.is_terminal and is_due:
            left = (self.last - self.done) * (now - self.started) / self.count
            say(f"update {self.done}/{self.last}, {text}, {left:.0f} s left")
            self.printed = now

    def close(self) -> None:
        self.bar.close()


def spread(values: list[float]) -> str:
    """`-7.12`, or with several seeds `-7.12 +- 0.30`."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.fmean(values):.2f} +- {statistics.stdev(values):.2f}"


def result(returns: list[float], headline: str, headlines: list[float]) -> str:
    """`1.43, won 61%`, `-4.2, rooms eaten in 1.9`: returns of the seeds, and the metric that says most."""
    if not headlines:
        return spread(returns)
    mean, name = statistics.fmean(headlines), headline.replace("_", " ")
    return f"{spread(returns)}, {name} " + (f"{100 * mean:.0f}%" if headline == "won" else f"{mean:.2f}")


# ---- at start and end: `run` is a `record.Run` ----


def announce(run: Any, env: Any, ratio_range: tuple[float, float], networks: dict[str, torch.nn.Module]) -> None:
    """What is being trained, on what, how large, and where it is stored."""
    args, size = run.args, run.ranks.place.size
    actions = getattr(env.action_space, "n", None)
    kind = f"{actions} actions" if actions else f"actions in {env.action_space.shape[0]} dimensions"
    seeds = f"seed {run.seeds[0]}" if len(run.seeds) == 1 else f"seeds {run.seeds[0]} to {run.seeds[-1]}"
    sizes = {name: sum(p[0].numel() for p in network.parameters()) for name, network in networks.items()}
    counts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    lines = {
        f"{run.algorithm.upper()} on {args.env}": f"{env.num_agents} agents, {kind}, observation "
        f"{env.observation_size}, state {env.state_size}, episodes of at most {env.max_steps} steps",
        "trust region": f"ratios from {ratio_range[0]:.3g} to {ratio_range[1]:.3g}",
        "training": f"{args.total_steps:,} steps per seed in {run.last_update} updates of "
        f"{args.num_envs} environments x {args.rollout_length} steps; {seeds}",
        "parameters": f"{counts} (per seed)",
        "device": ", ".join([args.device, *_ranks_and_threads(run)]),
        "memory": f"about {memory.needed(run.own_args) // 2**20:,} MB{' a rank' * (size > 1)}, besides PyTorch",
        "run": str(run.folder) + (f", resumed after update {run.first_update - 1}" if args.resume else ""),
    }
    if run.started_from:
        lines["starts from"] = run.started_from
    if run.rounds_anew:
        flags = {name: name if name == "ranks" else "--" + name.replace("_", "-") for name in run.rounds_anew}
        changed = ", ".join(f"{flags[name]} was {value}" for name, value in run.rounds_anew.items())
        lines["no longer exact"] = f"{changed}: numbers are rounded in another way from here" + (
            ", and minibatches made of other rows" * ("ranks" in run.rounds_anew)
        )
    if args.resume and env.resume_note:
        lines["episodes"] = env.resume_note
    for name, text in lines.items():
        say(f"{name:>20}  {text}")


def _ranks_and_threads(run: Any) -> list[str]:
    size, threads = run.ranks.place.size, pool.num_threads()
    parts = [f"{size} ranks with {run.own_args.num_envs} environments each"] if size > 1 else []
    return parts + [f"{threads} thread{'s' * (threads > 1)}" + " each" * (size > 1)] * (run.args.device == "cpu")


def summarise(run: Any) -> None:
    """Final and best evaluation and the next commands, or how to resume a run that was stopped."""
    if run.is_stopping:
        say(f"\nStopped and saved. To go on:\n  {resume_command(run)}")
        return
    own = _own_task(run)
    by_update: dict[int, list[float]] = {}
    headlines: dict[int, list[float]] = {}
    for record in run.evaluations:
        by_update.setdefault(record["step"], []).append(statistics.fmean(record["episode_return"]))
        if run.headline in record:
            headlines.setdefault(record["step"], []).append(statistics.fmean(record[run.headline]))
    say("\nReturn over evaluation episodes (mean, +- standard deviation over seeds)")
    if by_update:
        last, best = max(by_update), max(by_update, key=lambda step: statistics.fmean(by_update[step]))
        for name, step in (("final", last), ("best", best)):
            say(f"{name:>20}  {result(by_update[step], run.headline, headlines.get(step, []))} at step {step:,}")
    if run.absolute:
        means = [statistics.fmean(v["episode_return"]) for v in run.absolute.values()]
        count = len(next(iter(run.absolute.values()))["episode_return"])
        say(f"{'best, again':>20}  {spread(means)}: each seed's best policy over {count} new episodes")
        say(textwrap.fill(_other_metrics(run), 110, initial_indent=" " * 22, subsequent_indent=" " * 22))
    for seed, update in run.diverged.items():
        say(f"{'diverged':>20}  seed {seed} in update {update}: its curve goes on with its last good weights")
    say(f"{'time':>20}  {run.seconds:.0f} s")
    say(f"{'policy':>20}  {run.folder / POLICY}")
    say("Next")
    command = ["python", "-m"]
    say(f"{'see the curves':>20}  {quoted(['tensorboard', '--logdir', run.folder])}")
    say(f"{'measure it':>20}  {quoted([*command, 'torch_mars.evaluate', run.folder, *own])}")
    say(f"{'watch it':>20}  {quoted([*command, 'torch_mars.play', run.folder, *own])}")
    say(f"{'train on':>20}  {resume_command(run, '--total-steps', 2 * run.args.total_steps)}")


def resume_command(run: Any, *more: Any) -> str:
    """What to type to go on with a run."""
    lesson, place = lesson_command(inspect.getmodule(type(run.args))), run.ranks.place
    nodes = ["--nnodes", place.size // place.local_size] if place.size > place.local_size else []
    program = ["python"] if place.size == 1 else ["torchrun", *nodes, "--nproc-per-node", place.local_size]
    return quoted([*program, *lesson, "--resume", run.folder, *_own_task(run), *more])


def _own_task(run: Any) -> list[str]:
    """A task of the user's own is typed again: only what is typed is imported."""
    task = envs.known(run.args.env)
    return ["--env", task.to_type] if task.own else []


def _other_metrics(run: Any) -> str:
    """Of the absolute metric's episodes, the means of all that was measured besides the return."""
    names = [name for name in next(iter(run.absolute.values())) if name != "episode_return"]
    means = {name: [statistics.fmean(seed[name]) for seed in run.absolute.values()] for name in names}
    return ", ".join(f"{name} {spread(values)}" for name, values in means.items())
