"""Modules of a user's own, found as they were typed: `my_module`, `my_project.gather`, `path/gather.py`.

To import a module is to run it, so only what somebody typed may come here, never a name out of a file.
"""

import difflib
import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


class NoModule(ValueError):
    """There is no module of that name, or no such file."""


def typed(text: str) -> ModuleType:
    """The module that somebody typed: one imported already, or in the current folder, or found as Python does.

    Raises:
        ValueError: there is none, it cannot be imported, or another one has its name.
    """
    return _of_file(Path(text).expanduser()) if is_path(text) else _of_name(text)


def imported(name: str) -> ModuleType | None:
    """The module of that name, or of a path's, if it has been imported. Imports nothing."""
    return sys.modules.get(Path(name).stem if is_path(name) else name)


def is_path(text: str) -> bool:
    return text.endswith(".py") or "/" in text or "\\" in text


def _of_name(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is no name of a module; write it like my_module, or path/my_module.py")
    _look_in(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise _cannot(name, error) from None
        hint = _nearest(name, [path.stem for path in Path.cwd().glob("*.py")])
        raise NoModule(f"there is no module {name!r} in this folder, nor where Python looks{hint}") from None
    except Exception as error:
        raise _cannot(name, error) from None


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NoModule(f"there is no file {path}{_nearest(str(path), map(str, path.parent.glob('*.py')))}")
    whole = path.resolve()
    for module in list(sys.modules.values()):  # maybe under another name, as part of a package
        if getattr(module, "__file__", None) and _whole(module.__file__) == whole:
            return module
    name = path.stem
    if name in sys.modules:
        raise ValueError(f"{path}: a module named {name} is there already; give the file another name")
    _look_in(whole.parent)  # for what it imports from beside it
    spec = importlib.util.spec_from_file_location(name, whole)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no file of Python code; its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _cannot(str(path), error) from None
    return module


@functools.cache  # there are thousands of modules, and a lesson of one's own is looked for a hundred times
def _whole(file: str) -> Path:
    """Of the file of a module that was imported, its path without links."""
    return Path(file).resolve()


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _cannot(name: str, error: Exception) -> ValueError:
    """One sentence, with the place in the user's code."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(str(error).split())[:200]
    return ValueError(
        f"{name} cannot be imported: {type(error).__name__}: {what} ({frame.filename}, line {frame.lineno})"
    )
