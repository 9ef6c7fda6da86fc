"""Options of environments, and the words with which a wrong name or value is refused. Knows no environment."""

import difflib
import numbers
import typing
from collections.abc import Sequence
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
