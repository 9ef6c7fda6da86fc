"""numba's machine code of loops, kept on disk for a processor and a state of the rules.

It is keyed by the text of every file that a loop may take a constant or a function from: those beside it and those of
this room. Where nothing can be kept, it is compiled anew in every process.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

_ROOM = Path(__file__).parent


def dispatcher(function: Callable, about_to_compile: Callable[[Callable], None]) -> Callable:
    """numba's dispatcher of the function, which says so before it compiles what was not kept."""
    # nobody calls loops from C: what is left out was a tenth of the compiling
    made = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    try:
        made._cache = _Cache(function, about_to_compile)
    except (RuntimeError, OSError):  # no folder that can be written to, or no source to be read
        made._cache = _NoCache(function, about_to_compile)
    return made


class _NoCache(NullCache):
    """Keeps nothing."""

    def __init__(self, function: Callable, about_to_compile: Callable[[Callable], None]):
        self._function, self._about_to_compile = function, about_to_compile

    def load_overload(self, *arguments: Any) -> None:
        self._about_to_compile(self._function)


class _Cache(FunctionCache):
    """numba's own, which looks at nothing but the date of the function's file."""

    def __init__(self, function: Callable, about_to_compile: Callable[[Callable], None]):
        super().__init__(function)
        self._function, self._about_to_compile = function, about_to_compile
        stamp = _fingerprint(Path(inspect.getfile(function)).parent)
        self._cache_file = _Index(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, *arguments: Any) -> Any:
        kept = super().load_overload(*arguments)
        if kept is None:
            self._about_to_compile(self._function)
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
