"""How the `loops.py` of every environment become machine code: by numba, when one of their functions is first called.

So numba is imported where loops run: tensors on a GPU need none, and are stepped where numba is missing or does not
work (it must know the NumPy beside it). What is compiled is kept on disk (`loops_kept.py`); else it takes seconds, and
who waits for it can be told (`on_compile`).
"""

import functools
import inspect
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOM = Path(__file__).parent
_LOCK = threading.RLock()
_told: set[str] = set()  # of what


def _tell(name: str) -> None:
    pass


class compiled:
    """The function as machine code. Division by zero gives inf or nan, as for tensors; other threads may run.

    What it calls must be compiled, too.
    """

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @functools.cached_property
    def dispatcher(self) -> Callable:
        with _LOCK:  # two dispatchers would compile twice
            return self.__dict__.get("dispatcher") or _made(self.__wrapped__)

    @property
    def _numba_type_(self) -> Any:  # numba's question to whatever a compiled function calls
        return self.dispatcher._numba_type_


def _made(function: Callable) -> Callable:
    try:
        from torch_mars.envs import loops_kept
    except ImportError as error:
        raise ImportError(f"environments on the CPU need numba, which cannot be imported here: {error}") from error
    return loops_kept.dispatcher(function, about_to_compile)


def on_compile(tell: Callable[[str], None]) -> None:
    """From now on `tell("paxmen")` is called before loops of PaxMen are compiled, once a process, not if they are kept.

    Of environments of one's own it is told the name of their module. The caller is the thread that compiles.
    """
    global _tell
    _tell = tell


def about_to_compile(function: Callable) -> None:
    """Tell whoever wants to know it, unless they were told of these loops."""
    name = re.sub(r"\.\w*loops$", "", function.__module__).rpartition(".")[2]
    # those of this room are compiled for a loop that was told of
    if name not in _told and Path(inspect.getfile(function)).parent != _ROOM:
        _told.add(name)
        _tell(name)
