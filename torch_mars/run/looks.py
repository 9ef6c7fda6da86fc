"""What METHOD in a lesson may say: how its curves look, and what is tuned. It goes with its runs, in config.yaml."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch_mars.envs.options import allowed
from torch_mars.run.cli import UsageError

SAID = ("label", "colour", "dashes", "marker", "space", "trials", "settings")


def checked(algorithm: str, look: Any) -> dict[str, Any]:
    """METHOD of a lesson: only plain data of the right kinds, as it may come out of a run's config.yaml.

    Raises:
        UsageError: it says something that it may not.
    """
    if not isinstance(look, Mapping):
        raise UsageError(f"METHOD of {algorithm} must hold {', '.join(SAID)}, not a {type(look).__name__}")
    said = {}
    for name, value in look.items():
        if name not in SAID:
            raise UsageError(f"METHOD of {algorithm} has no {name!r}; {allowed(name, SAID)}")
        try:
            said[name] = _KINDS[name](value)
        except (TypeError, ValueError, AttributeError):
            raise UsageError(f"METHOD of {algorithm}: {name} is {value!r}, which it cannot be") from None
    return said


def _colour(value: Any) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}|[a-z:]+", value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) < 100:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _space(value: Any) -> dict[str, tuple]:
    return {_text(name): tuple(candidates) for name, candidates in value.items()}


_KINDS: dict[str, Callable] = {
    "label": _text,
    "colour": _colour,
    "dashes": lambda value: tuple(float(length) for length in value),
    "marker": _text,
    "space": _space,
    "trials": _count,
    "settings": dict,
}
