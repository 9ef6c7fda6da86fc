"""Manners of every command: its parser, its errors, its exit codes, and words that they share.

A mistake of the user is one sentence and exit code 2, work that cannot go on one sentence and exit code 1.
"""

import argparse
import contextlib
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from torch_mars.envs.options import allowed

_LESSONS = Path(__file__).resolve().parents[1] / "algos"
_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one sentence for them."""


class RunError(Exception):
    """Training cannot go on; the message is one sentence for the user."""


class Parser(argparse.ArgumentParser):
    """argparse that answers a mistake with one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            self.error(f"unknown argument {unknown[0]!r}; {allowed(unknown[0].split('=')[0], flags)}")
        return namespace


def guarded(main: Any, program: str) -> NoReturn:
    """Run a command: expected failures become one sentence and an exit code (2 usage, 1 failed, 130 stopped)."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, none, or no stream of the system
            stream.reconfigure(errors="backslashreplace")  # a name that a terminal cannot show is shown all the same
    try:
        code = main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        code = _complain(program, error, 2)
    except RunError as error:
        code = _complain(program, error, 1)
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        code = 141
    except OSError as error:  # a full disk, a folder that was taken away
        what = error.filename if error.filename is not None else "the output cannot be written"
        code = _complain(program, f"{error.strerror or error}: {what}", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0].split(". ")[0] if isinstance(error, torch.OutOfMemoryError) else "no memory"
        need = "fewer environments, episodes or seeds, or more --minibatches, need less"
        code = _complain(program, f"{reason}; {need}", 1)
    except KeyboardInterrupt:
        code = _complain(program, "interrupted", 130)
    _silence_lost_output()
    sys.exit(code)


def _complain(program: str, sentence: Any, code: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # there may be nobody to complain to
        print(f"{program}: {sentence}", file=sys.stderr, flush=True)
    return code


def _silence_lost_output() -> None:
    """Where output cannot be written, Python need not complain about it once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the machine or the GPU had no memory left: PyTorch's allocator on CPU has no exception of its own."""
    words = ("can't allocate memory", "not enough memory", "bad_alloc")
    is_allocator = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return is_allocator or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def short(text: Any, limit: int = 200) -> str:
    """A text that may be of any length, for a sentence."""
    text = str(text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def lesson_command(lesson: ModuleType) -> list[str]:
    """What follows `python` to run a lesson: of the package by its module, of a user's own by its file."""
    file = Path(lesson.__file__).resolve()
    if file.parent == _LESSONS:
        return ["-m", f"torch_mars.algos.{file.stem}"]
    near = os.path.relpath(file)
    return [str(file) if near.startswith("..") else near]


def quoted(words: Iterable[Any]) -> str:
    """Words as a command line that can be pasted."""
    return shlex.join(map(str, words))


def command_line(command: str, argv: Sequence[str] | None) -> str:
    """A command of the package as it was typed."""
    return quoted(["python", "-m", f"torch_mars.{command}", *(sys.argv[1:] if argv is None else argv)])


def note(text: str) -> None:
    """Something the user should know that stops nothing."""
    with contextlib.suppress(OSError, ValueError):  # there may be nobody to tell
        print(f"note: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`3 d 4 h`, `2 h 5 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


# ---- arguments ----


def parse_whole(text: str) -> int:
    """`40000000`, `40_000_000`, `40e6` or `40M` (also k and G) as an int.

    Raises:
        ValueError: not such a number.
    """
    with contextlib.suppress(ValueError):
        return int(text)  # exactly, also beyond what a float holds
    body, factor = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1)
    try:
        number = float(body) * factor
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number != round(number):
        raise ValueError(f"{text!r} is not a whole number; write it like 40000000, 40e6, 40M or 500k")
    return round(number)


def whole_number(least: int) -> Callable[[str], int]:
    """For argparse's `type`: a number as `parse_whole` reads it, not smaller than `least`."""

    def read(text: str) -> int:
        try:
            number = parse_whole(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small; it must be {least} or more")
        return number

    return read


def resolve_device(name: str) -> str:
    """What "auto" means here: cuda where there is one. Any other name stays."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> None:
    """UsageError unless PyTorch can compute on the device of that name."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device is {name!r}; allowed are auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device is {name!r}, but this PyTorch sees {found} CUDA devices; use cpu, or auto")


def make_folder(path: Path, flag: str) -> Path:
    """Create a folder. UsageError that names the flag if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to {path} ({error.strerror})") from None
    return path
