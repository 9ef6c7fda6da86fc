"""Options of environments, and the words with which a wrong name or value is refused. Knows no environment."""

import difflib
import numbers
import typing
from collections.abc import Callable, Sequence
from typing import Any


def allowed(name: str, names: Any) -> str:
    """The end of an error message: the nearest of the allowed names, or all of them."""
    names = [str(n) for n in names]
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(names)}"


def make_options(options_type: type, options: dict[str, Any]) -> Any:
    """`options_type(**options)`, with a clear error for a name it does not have.

    Raises:
        ValueError: an unknown option, a value of another kind, or (from the options' own check) one out of range.
    """
    kinds = typing.get_type_hints(options_type)
    for name, value in options.items():
        if name not in kinds:
            raise ValueError(f"unknown option {name!r}; {allowed(name, kinds)}")
        alternatives = [kinds[name], *typing.get_args(kinds[name])]  # X | None -> X, None
        if not any(_is_a(kind, value) for kind in alternatives):
            wanted = " or ".join(_KINDS[kind][1] for kind in alternatives if kind in _KINDS)
            wanted += " or a sequence of numbers" * any(typing.get_origin(kind) is tuple for kind in alternatives)
            raise ValueError(f"{name} is {value!r}; it must be {wanted}")
    return options_type(**options)


_KINDS = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
    type(None): (type(None), "none"),
}


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a value is of an annotation's kind; a bool is no number, nan neither."""
    if isinstance(value, bool) and kind is not bool or value != value:
        return False
    if kind in _KINDS:
        return isinstance(value, _KINDS[kind][0])
    return typing.get_origin(kind) is tuple and isinstance(value, Sequence) and not isinstance(value, str)


# ---- ranges, for `__post_init__` ----


def at_least(options: Any, least: float, *names: str) -> None:
    """ValueError unless each of these options is `least` or more."""
    _require(options, names, lambda value: value >= least, f"it must be {least:g} or more")


def more_than(options: Any, bound: float, *names: str) -> None:
    """ValueError unless each of these options is more than `bound`."""
    _require(options, names, lambda value: value > bound, f"it must be more than {bound:g}")


def between(options: Any, low: float, high: float, *names: str) -> None:
    """ValueError unless each of these options is in [low, high]."""
    _require(options, names, lambda value: low <= value <= high, f"it must be between {low:g} and {high:g}")


def one_of(options: Any, names: Sequence[str], *values: str) -> None:
    """ValueError unless each of the options `names` is one of `values`."""
    for name in names:
        value = getattr(options, name)
        if value not in values:
            few = f"allowed are {' and '.join(map(repr, values))}"
            raise ValueError(f"{name} is {value!r}; {few if len(values) <= 3 else allowed(value, values)}")


def _require(options: Any, names: Sequence[str], holds: Callable[[Any], bool], wanted: str) -> None:
    """Options that are None are left to their defaults."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name} is {value!r}; {wanted}")
