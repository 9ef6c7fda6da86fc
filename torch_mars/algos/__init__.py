"""The lessons: one file a method, complete. `lesson(name)` finds one; nothing else imports them.

A lesson is made of parts from `nn/` and kept on disk by `run/`; it knows no other lesson and nothing above it, but for
`recurrent`, which trains the objectives of the others. A lesson of a user's own, a copied and renamed one, is typed as
`my_module` or `path/my_module.py`. Its code is imported only for what somebody typed: `lesson` is for that, `known` for
names out of files. With `PARENT = "mars"` it has what `yaml/` says for that lesson.

What a run says that it is of is an algorithm: the lesson's own name, or one of several that it trains (`algorithms`).
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from torch_mars.envs import modules
from torch_mars.envs.options import allowed
from torch_mars.run.settings import TAKEN

_FOLDER = Path(__file__).parent
LESSONS = tuple(sorted(file.stem for file in _FOLDER.glob("*.py") if file.stem != "__init__"))
NEEDED = ("ALGORITHM", "Args", "ratio_range", "policy_objective", "Actor", "evaluate", "main")  # of a lesson


def algorithms(module: ModuleType) -> dict[str, type]:
    """Algorithm -> dataclass of its settings: all that a lesson trains.

    That is its ALGORITHM with its Args, unless it says ALGORITHMS: "mars_rnn" and two more of `recurrent`.
    """
    return getattr(module, "ALGORITHMS", None) or {module.ALGORITHM: module.Args}


def lesson(name: str) -> ModuleType:
    """The lesson of that name, or of an algorithm of the package, or of the module that somebody typed.

    Raises:
        ValueError: there is no such lesson or module, or the module is no lesson.
    """
    if own := _of_package(name):
        return own
    try:
        module = known(name) or modules.typed(name)
    except modules.NoModule as error:
        if modules.is_path(name) or "." in name:
            raise
        raise ValueError(f"unknown lesson {name!r}; {allowed(name, LESSONS)} ({error})") from None
    missing = [part for part in NEEDED if not hasattr(module, part)]
    if missing:
        raise ValueError(f"module {name} is no lesson: it lacks {', '.join(missing)}; begin with a copy of one")
    _check_names(module, f"module {name}")
    return module


def _check_names(module: ModuleType, what: str) -> None:
    """ValueError if a lesson of a user's own, or an algorithm of it, has a name that it cannot have."""
    if not isinstance(algorithms(module), dict):
        raise ValueError(f"{what}: ALGORITHMS must be a dict from names to dataclasses like Args")
    said = [("ALGORITHM is", module.ALGORITHM), *(("ALGORITHMS has", own) for own in algorithms(module))]
    for says, own in said:
        if not isinstance(own, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", own):
            raise ValueError(f"{what}: {says} {own!r}; it must be a name of letters, digits and '_'")
        if own in TAKEN:
            raise ValueError(f"{what}: {says} {own!r}, which the package has; give yours another name")


def known(name: str) -> ModuleType | None:
    """The lesson of that name or algorithm, if it is one of the package or has been imported already."""
    if own := _of_package(name):
        return own
    loaded = [module for module in list(sys.modules.values()) if "ALGORITHM" in getattr(module, "__dict__", {})]
    whole = [module for module in loaded if all(hasattr(module, part) for part in NEEDED)]
    return next((module for module in whole if name == module.ALGORITHM or name in algorithms(module)), None)


def _of_package(name: str) -> ModuleType | None:
    own = [name] if name in LESSONS else LESSONS
    found = (importlib.import_module(f"torch_mars.algos.{lesson}") for lesson in own)
    return next((module for module in found if name == module.ALGORITHM or name in algorithms(module)), None)
