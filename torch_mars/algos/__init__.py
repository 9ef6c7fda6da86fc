"""The lessons: one file a method, complete. `lesson(name)` finds one; nothing else imports them.

A lesson is made of parts from `nn/` and kept on disk by `run/`; it knows no other lesson and nothing above it. A lesson
of a user's own, a copied and renamed one, is typed as `my_module` or `path/my_module.py`. Its code is imported only for
what somebody typed: `lesson` is for that, `known` for names out of files.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from torch_mars.envs import modules
from torch_mars.envs.options import allowed

_FOLDER = Path(__file__).parent
LESSONS = tuple(sorted(file.stem for file in _FOLDER.glob("*.py") if file.stem != "__init__"))
NEEDED = ("ALGORITHM", "Args", "ratio_range", "policy_objective", "Actor", "evaluate", "main")  # of a lesson


def lesson(name: str) -> ModuleType:
    """The lesson of that name, or of the module that somebody typed.

    Raises:
        ValueError: there is no such lesson or module, or the module is no lesson.
    """
    if name in LESSONS:
        return importlib.import_module(f"torch_mars.algos.{name}")
    try:
        module = known(name) or modules.typed(name)
    except modules.NoModule as error:
        if modules.is_path(name) or "." in name:
            raise
        raise ValueError(f"unknown lesson {name!r}; {allowed(name, LESSONS)} ({error})") from None
    missing = [part for part in NEEDED if not hasattr(module, part)]
    if missing:
        raise ValueError(f"module {name} is no lesson: it lacks {', '.join(missing)}; begin with a copy of one")
    own_name = module.ALGORITHM
    if not isinstance(own_name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", own_name):
        raise ValueError(f"module {name}: ALGORITHM is {own_name!r}; it must be a name of letters, digits and '_'")
    if own_name in LESSONS:
        raise ValueError(f"module {name}: ALGORITHM is {own_name!r}, a lesson of the package; give yours another name")
    return module


def known(name: str) -> ModuleType | None:
    """The lesson of that name, if it is one of the package or has been imported already."""
    if name in LESSONS:
        return lesson(name)
    if name.endswith("_rnn") and name.removesuffix("_rnn") in lesson("recurrent").METHODS:
        return lesson("recurrent")
    loaded = [
        module for module in list(sys.modules.values()) if getattr(module, "__dict__", {}).get("ALGORITHM") == name
    ]
    return next((module for module in loaded if all(hasattr(module, part) for part in NEEDED)), None)
