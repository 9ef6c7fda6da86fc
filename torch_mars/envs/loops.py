"""How the `loops.py` of every environment are compiled: by numba, once for a processor and a state of the rules.

The machine code is kept on disk, keyed by the text of every file that a loop may take a constant or a function from:
those beside it and those of this room. Where nothing can be kept, it is compiled anew in every process.

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
    from numba.core.caching import FunctionCache, IndexDataCacheFile
except ImportError as error:
    numba, FunctionCache, _reason = None, object, str(error)

_ROOM = Path(__file__).parent


def compiled(function: Callable) -> Callable:
    """The function as machine code. Division by zero gives inf or nan, as for tensors; other threads may run."""
    if numba is None:
        return _refuse
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):  # no folder that can be written to, or no source to be read
        pass
    return dispatcher


def _refuse(*arguments: Any) -> NoReturn:
    raise ImportError(f"environments on the CPU need numba, which cannot be imported here: {_reason}")


class _Cache(FunctionCache):
    """numba's own, which looks at nothing but the date of the function's file."""

    def __init__(self, function: Callable):
        super().__init__(function)
        stamp = _fingerprint(Path(inspect.getfile(function)).parent)
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)


@functools.cache
def _fingerprint(folder: Path) -> str:
    """Of the text of all Python files in a folder and in this room."""
    texts = hashlib.sha256()
    for path in sorted({*folder.glob("*.py"), *_ROOM.glob("*.py")}):
        texts.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return texts.hexdigest()
