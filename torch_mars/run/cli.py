"""Manners of every command: its parser, its errors, its exit codes, and words that they share.

A mistake of the user is one sentence and exit code 2, work that cannot go on one sentence and exit code 1.
"""

import argparse
import contextlib
import decimal
import operator
import os
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from torch_mars import envs
from torch_mars.envs.given import unfit
from torch_mars.envs.options import allowed, shown
from torch_mars.envs.workers import ForeignError
from torch_mars.run import ranks

_LESSONS = Path(__file__).resolve().parents[1] / "algos"
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_WHOLE = re.compile(r"([-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?)([kMG]?)")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
LARGEST_SEED = 2**63 - 1
LONGEST_WORD, LONGEST_SENTENCE = 300, 4000  # characters
PATIENCE_OF_RANKS = 3.0  # s
LONGEST_PATH = 4096  # bytes
LONGEST_NAME = 230  # bytes: a file's name may have 255, and while it is written it has more


class _Sentence(Exception):
    """The message is one sentence for the user: on one line and of a length that can be read, whatever it quotes."""

    def __init__(self, sentence: object = ""):
        super().__init__(one_line(str(sentence)))


class UsageError(_Sentence):
    """What the user asked for cannot be done."""


class RunError(_Sentence):
    """Training cannot go on."""


class Parser(argparse.ArgumentParser):
    """argparse that answers a mistake with one sentence and exit code 2. What is given may not be empty."""

    def error(self, message: str) -> NoReturn:
        _let_the_first_speak()
        self.exit(2, one_line(f"{self.prog}: {message}") + "\n")

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._about_unknown(unknown[0]))
        for action in self._actions:
            value = getattr(namespace, action.dest, None)
            if any(isinstance(text, str) and not text.strip() for text in (value if type(value) is list else [value])):
                flag = action.option_strings[0] if action.option_strings else action.metavar
                self.error(f"{flag} is empty; give a value or leave it out (a variable of the shell may not be set)")
        return namespace

    def _about_unknown(self, word: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        flags = [flag for flag in flags if flag != "--help"]
        if not word.startswith("-"):
            with contextlib.suppress(ValueError):
                if "--env" in flags and envs.known(word):
                    return f"{shown(word)} is a task, which stands behind --env: --env {word}"
            return f"{shown(word)} stands behind no flag; --help lists them"
        return f"unknown argument {shown(word)}; {allowed(word.split('=')[0], flags)}"


class _ListTasks(argparse.Action):
    """As `--help` does, it answers and ends the command, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(task_list(), flush=True)
        parser.exit()


def add_list_tasks(parser: argparse.ArgumentParser) -> None:
    """To a command that takes a task."""
    nothing = argparse.SUPPRESS
    parser.add_argument(
        "--list-tasks", action=_ListTasks, nargs=0, dest=nothing, default=nothing, help="print all tasks and exit"
    )


def task_list() -> str:
    """The tasks by environment, and what can be typed besides them."""
    width = max(40, shutil.get_terminal_size((100, 0)).columns)
    lines = []
    for family, names in envs.listing().items():
        lines += [f"{family}: {envs.title(family)}" if envs.title(family) != family else family]
        lines += textwrap.wrap("  ".join(names), width, initial_indent="  ", subsequent_indent="  ",
                               break_long_words=False, break_on_hyphens=False)  # fmt: skip
    besides = (
        "A name with <letters> is of any size. An environment of your own is typed as my_module:MyEnvironment or "
        "path/my_module.py:MyEnvironment. For the experiment's --envs, the word before a colon means all tasks below."
    )
    return "\n".join([*lines, "", textwrap.fill(besides, width)])


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
    except ForeignError as error:
        code = _complain(program, one_line(str(error)), 1)
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
    except SystemExit as ended:
        code = ended.code
    _silence_lost_output()
    if ranks.place() is not None:
        # a thread of gloo's may still hold a tensor of the last exchange, and let go of it while Python ends: that
        # aborts the process (PyTorch 2.13, once in fifty)
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
    sys.exit(code)


def _complain(program: str, sentence: Any, code: int) -> int:
    _let_the_first_speak()
    with contextlib.suppress(OSError, ValueError):  # there may be nobody to complain to
        print(f"{program}: {sentence}", file=sys.stderr, flush=True)
    return code


def _let_the_first_speak() -> None:
    """On another rank than the first, wait: what is wrong on all, the first says, and its end ends the others."""
    if not ranks.is_first():
        time.sleep(PATIENCE_OF_RANKS)


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


# ---- words ----


def short(text: Any, limit: int = 200) -> str:
    """A text that may be of any length, for a sentence."""
    text = str(text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(text: str) -> str:
    """A text with nothing that ends a line, moves a cursor or cannot be encoded, and not longer than can be read."""
    words = text[: 2 * LONGEST_SENTENCE].split()
    text = short(" ".join(short(word, LONGEST_WORD) for word in words), LONGEST_SENTENCE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
    if not ranks.is_first():
        return
    with contextlib.suppress(OSError, ValueError):  # there may be nobody to tell
        print(f"note: {one_line(text)}", file=sys.stderr, flush=True)


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
    """`40000000`, `40_000_000`, `40e6` or `40M` (also k and G) as an int, exactly.

    Raises:
        ValueError: not such a number. `010` and `0x10` are none, as not everybody reads them alike.
    """
    found = _WHOLE.fullmatch(text) if len(text) <= 100 else None
    if found:
        with decimal.localcontext(prec=250):
            number = decimal.Decimal(found[1]) * _FACTORS[found[2]]
            if number == number.to_integral_value():
                return int(number)
    raise ValueError(f"{shown(text)} is not a whole number; write it like 40000000, 40e6, 40M or 500k")


def parse_number(text: str) -> float:
    """A decimal number.

    Raises:
        ValueError: none, or too large for one.
    """
    if text.lower() in ("inf", "-inf"):
        return float(text)
    if len(text) > 100 or not _NUMBER.fullmatch(text) or abs(float(text)) == float("inf"):
        raise ValueError(f"{shown(text)} is not a number; write it like 0.001, 1e-3 or 120")
    return float(text)


def whole_number(least: int, most: int = LARGEST_SEED) -> Callable[[str], int]:
    """For argparse's `type`: a number as `parse_whole` reads it, from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = parse_whole(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{shown(number)} is too small; it must be {least} or more")
        if number > most:
            raise argparse.ArgumentTypeError(f"{shown(number)} is too large; it must be {most} or less")
        return number

    return read


def whole(value: Any, name: str, least: int = 0, most: int = LARGEST_SEED) -> int:
    """A whole number that a program handed over, NumPy's included. UsageError for anything else."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise UsageError(f"{name} is {shown(value)}; it must be a whole number from {least} to {most}")
    return number


def expanded(path: str) -> str:
    """A path with `~` and `~name` as the home folders that they mean.

    Raises:
        UsageError: there is no such home, or no file can have such a name.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UsageError(f"there is no home folder {short(found)}; if it is the name of a file, write ./{short(found)}")
    bytes_of_names = [len(os.fsencode(name)) for name in found.split(os.sep)]
    if "\0" in found or max(bytes_of_names) > 255 or sum(bytes_of_names) + len(bytes_of_names) > LONGEST_PATH:
        raise UsageError(f"no file has the name {shown(found)}")
    return found


def as_path(value: Any) -> Path:
    """A path that a program handed over: a text, bytes or a Path, `~` expanded. UsageError for anything else."""
    try:
        return Path(expanded(os.fsdecode(value)))
    except TypeError:
        raise UsageError(f"a path is a text or a Path, not {shown(value)}") from None


def path_argument(text: str) -> str:
    """For argparse's `type`: a path, `~` expanded."""
    try:
        return expanded(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def resolve_device(name: str) -> str:
    """What "auto" means here: cuda where there is one. Any other name stays."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str | torch.device) -> None:
    """UsageError unless PyTorch can compute on the device of that name."""
    try:
        device = torch.device(name) if isinstance(name, (str, torch.device)) else None
    except (RuntimeError, ValueError):
        device = None
    if device is not None and device.type != "meta" and (reason := unfit(device)):
        raise UsageError(f"--device is {shown(str(name))}: {reason}")
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise UsageError(f"--device is {shown(name)}; allowed are auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device is {shown(name)}, but this PyTorch sees {found} CUDA devices; use cpu, or auto")


def make_folder(path: Path, flag: str) -> Path:
    """Create a folder. UsageError that names the flag if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to {path} ({error.strerror})") from None
    return path


def check_folder(path: Path, flag: str) -> None:
    """UsageError that names the flag unless files can be written to a folder, now or once it is made. Makes nothing."""
    check_name(path, flag)
    try:
        there = next(folder for folder in (path, *path.absolute().parents) if _exists(folder))
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to {short(path)} ({error.strerror})") from None


def check_out(path: Path) -> None:
    """UsageError unless a file can be written to `path`, which --out gives: before anything is done for it."""
    if not os.path.isdir(path.parent):
        raise UsageError(f"--out is {shown(str(path))}, but there is no folder {short(path.parent)}")
    if os.path.isdir(path):
        raise UsageError(f"--out is {shown(str(path))}, which is a folder")
    check_folder(path.parent, "--out")
    check_name(path, "--out")


def check_name(path: Path, flag: str) -> None:
    """UsageError that names the flag if something of this name could not be shown, or not be made for its length."""
    if not str(path).isprintable():
        raise UsageError(f"{flag} is {shown(str(path))}; it must be a name that can be printed")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise UsageError(f"{flag} is {shown(str(path))}; a name in it is longer than {LONGEST_NAME} bytes")


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)  # a link to nowhere is there, and in the way
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
