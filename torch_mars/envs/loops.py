"""How the `loops.py` of every environment are compiled: by numba, once for a processor and a state of the rules.

The machine code is kept on disk, keyed by the text of every file that a loop may take a constant or a function from:
those beside it and those of this room. Where nothing can be kept, it is compiled anew in every process. Either takes
seconds: who waits for it can be told (`on_compile`).

Tensors on a GPU need no loops: where numba does not work (it must know the NumPy beside it), they are stepped all the
same.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

try:
    import numba
    from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
except ImportError as error:
    numba, FunctionCache, NullCache, IndexDataCacheFile, _reason = None, object, object, object, str(error)

_ROOM = Path(__file__).parent
_told: set[str] = set()  # of what


def _tell(name: str) -> None:
    pass


def compiled(function: Callable) -> Callable:
    """The function as machine code. Division by zero gives inf or nan, as for tensors; other threads may run."""
    if numba is None:
        return _refuse
    # nobody calls loops from C: what is left out was a tenth of the compiling
    dispatcher = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):  # no folder that can be written to, or no source to be read
        dispatcher._cache = _NoCache(function)
    return dispatcher


def on_compile(tell: Callable[[str], None]) -> None:
    """From now on `tell("paxmen")` is called before loops of PaxMen are compiled, once a process, not if they are kept.

    Of environments of one's own it is told the name of their module. The caller is the thread that compiles.
    """
    global _tell
    _tell = tell


def _refuse(*arguments: Any) -> NoReturn:
    raise ImportError(f"environments on the CPU need numba, which cannot be imported here: {_reason}")


def _about_to_compile(function: Callable) -> None:
    name = function.__module__.removesuffix(".loops").rpartition(".")[2]
    # those of this room are compiled for a loop that was told of
    if name not in _told and Path(inspect.getfile(function)).parent != _ROOM:
        _told.add(name)
        _tell(name)


class _NoCache(NullCache):
    """Keeps nothing."""

    def __init__(self, function: Callable):
        self._function = function

    def load_overload(self, *arguments: Any) -> None:
        _about_to_compile(self._function)


class _Cache(FunctionCache):
    """numba's own, which looks at nothing but the date of the function's file."""

    def __init__(self, function: Callable):
        super().__init__(function)
        self._function = function
        stamp = _fingerprint(Path(inspect.getfile(function)).parent)
        self._cache_file = _Index(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, *arguments: Any) -> Any:
        kept = super().load_overload(*arguments)
        if kept is None:
            _about_to_compile(self._function)
        return kept


class _Index(IndexDataCacheFile):
    """What is kept; what an older state of the rules left may name types that are no more."""

    def _load_index(self) -> dict:
        try:
            return super()._load_index()
        except Exception:  # whatever pickle meets in it
            return {}


@functools.cache
def _fingerprint(folder: Path) -> str:
    """Of the text of all Python files in a folder and in this room."""
    texts = hashlib.sha256()
    for path in sorted({*folder.glob("*.py"), *_ROOM.glob("*.py")}):
        texts.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return texts.hexdigest()
