"""The lessons: one file a method, complete. `lesson(name)` finds one; nothing else imports them.

A lesson is made of parts from `nn/` and kept on disk by `run/`; it knows no other lesson and nothing above it.
"""

import importlib
from pathlib import Path
from types import ModuleType

LESSONS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__"))


def lesson(name: str) -> ModuleType:
    """The lesson of that name."""
    return importlib.import_module(f"torch_mars.algos.{name}")
