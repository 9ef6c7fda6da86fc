"""Options of environments, and the words with which a wrong name or value is refused. Knows no environment."""

import dataclasses
import difflib
import numbers
import operator
import reprlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST = 2**31 - 1  # of anything that is counted
LARGEST = 1e9  # of any other number, so that float32 holds its cubes
MOST_SHOWN = 80  # characters of a value in a message

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """A value as an error message quotes it: on one line, and short whatever it is."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return f"a whole number of {value.bit_length()} bits"
    try:
        text = " ".join(_SHORT.repr(value).split())
    except Exception:  # whatever a stranger's __repr__ raises
        text = f"something of type {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def whole(value: Any, name: str = "seed") -> int:
    """The int that a whole number is, NumPy's included; a bool is none.

    Raises:
        ValueError: it is no whole number.
    """
    try:
        if not isinstance(value, bool | np.bool_):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} is {shown(value)}; it must be a whole number")


def allowed(name: str, names: Any) -> str:
    """The end of an error message: the nearest of the allowed names, or all of them."""
    names = [str(n) for n in names]
    near = difflib.get_close_matches(str(name)[:MOST_SHOWN], names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(names)}"


def make_options(options_type: type, options: dict[str, Any]) -> Any:
    """`options_type(**options)`, with a clear error for a name it does not have; `options_type.of`, where it has one.

    Raises:
        ValueError: an unknown option, a value of another kind, or (from the options' own check) one out of range.
    """
    if hasattr(options_type, "of"):  # of a foreign environment, which alone knows its names
        return options_type.of(options)
    kinds = typing.get_type_hints(options_type)
    plain = {}
    for name, value in options.items():
        if name not in kinds:
            raise ValueError(f"unknown option {shown(name)}; {allowed(name, kinds)}")
        value = plain[name] = _plain(value)
        alternatives = [kinds[name], *typing.get_args(kinds[name])]  # X | None -> X, None
        if not any(_is_a(kind, value) for kind in alternatives):
            wanted = " or ".join(_KINDS[kind][1] for kind in alternatives if kind in _KINDS)
            wanted += " or a sequence of numbers" * any(typing.get_origin(kind) is tuple for kind in alternatives)
            raise ValueError(f"{name} is {shown(value)}; it must be {wanted}")
    return options_type(**plain)


_KINDS = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
    type(None): (type(None), "none"),
}


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, and whatever else is real, as Python's numbers, with which tensors compute."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    is_real = isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)
    return float(value) if is_real else value


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a value is of an annotation's kind; a bool is no number, nan neither."""
    if kind in _KINDS:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
        return isinstance(value, _KINDS[kind][0]) and (is_number or kind not in (int, float))
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return typing.get_origin(kind) is tuple and is_sequence and all(_is_a(typing.get_args(kind)[0], v) for v in value)


# ---- ranges, for `__post_init__` ----


def within_reason(options: Any) -> None:
    """ValueError for a number that nothing can be computed with: whole ones beyond MOST, others beyond LARGEST."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST:
            raise ValueError(f"{field.name} is {shown(value)}; it must be at most {MOST}")
        if isinstance(value, float) and not abs(value) <= LARGEST:
            raise ValueError(f"{field.name} is {value!r}; it must be between {-LARGEST:g} and {LARGEST:g}")


def at_least(options: Any, least: float, *names: str) -> None:
    """ValueError unless each of these options is `least` or more."""
    _require(options, names, lambda value: value >= least, f"it must be {least:g} or more")


def more_than(options: Any, bound: float, *names: str) -> None:
    """ValueError unless each of these options is more than `bound`."""
    _require(options, names, lambda value: value > bound, f"it must be more than {bound:g}")


def between(options: Any, low: float, high: float, *names: str) -> None:
    """ValueError unless each of these options is in [low, high]."""
    ends = (f"{end}" if isinstance(end, int) else f"{end:g}" for end in (low, high))
    _require(options, names, lambda value: low <= value <= high, f"it must be between {' and '.join(ends)}")


def one_of(options: Any, names: Sequence[str], *values: str) -> None:
    """ValueError unless each of the options `names` is one of `values`."""
    for name in names:
        value = getattr(options, name)
        if value not in values:
            few = f"allowed are {' and '.join(map(repr, values))}"
            raise ValueError(f"{name} is {shown(value)}; {few if len(values) <= 3 else allowed(value, values)}")


def _require(options: Any, names: Sequence[str], holds: Callable[[Any], bool], wanted: str) -> None:
    """Options that are None are left to their defaults."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name} is {shown(value)}; {wanted}")
