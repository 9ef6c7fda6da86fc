"""The kinds of a lesson's fields, and what is typed or stands in a yaml file read as them."""

import functools
import math
import numbers
import re
import typing
from typing import Any

import numpy as np

from torch_mars.run.cli import LONGEST_PATH, UsageError, expanded, parse_number, parse_whole, shown
from torch_mars.run.yamls import parse_yaml

PATHS = ("run_dir", "resume", "config", "start_from")  # settings in which `~` is the home folder
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,3}")


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


@functools.cache
def kinds_of(args_type: type) -> dict[str, type]:
    """Field name -> int, float, bool, str or dict."""
    kinds = {}
    for name, hint in typing.get_type_hints(args_type).items():
        options = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        kinds[name] = options[0] if type(None) in typing.get_args(hint) else typing.get_origin(hint) or hint
    return kinds


def as_kind(kind: type, name: str, value: Any) -> Any:
    """A value from a command line (always text) or a yaml file as the kind that a field wants."""
    flag = flag_of(name)
    try:
        if kind in (int, float):
            return _number(kind, value)
        if kind is str and value is not None:
            return _text(name, value)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    if kind is dict:
        value = _with_numbers(parse_yaml(value, flag) if isinstance(value, str) else value)
    if not isinstance(value, kind):
        wanted = {bool: "true or false", dict: "a mapping like '{max_steps: 50}'"}.get(kind, f"of type {kind.__name__}")
        raise UsageError(f"{flag} is {shown(value)}; it must be {wanted}")
    return value


def _with_numbers(value: Any) -> Any:
    """What is nested, with numbers like 1e-4, which YAML has as texts."""
    if isinstance(value, dict):
        return {name: _with_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return value


def _number(kind: type, value: Any) -> int | float:
    """ValueError for what is no number, nan included."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, numbers.Real)):
        raise ValueError(f"{shown(value)} is not a number")
    if isinstance(value, str):
        return parse_whole(value) if kind is int else parse_number(value)
    if isinstance(value, numbers.Integral) and (kind is int or abs(int(value)) < 10**300):
        return kind(value)
    if kind is int:
        return parse_whole(str(value))
    if isinstance(value, numbers.Integral) or math.isnan(value):
        raise ValueError(f"{shown(value)} is not a number")
    return float(value)


def _text(name: str, value: Any) -> str:
    """ValueError for what is no text, or none that can be written down. A whole number may be one, as in `name: 5`."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(value) < 10**60:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text; put it in quotes if it is one")
    if not value.strip():
        raise ValueError("it is empty; give a value or leave it out")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{shown(value)} is no text of whole characters (UTF-8)")
    if len(value.encode()) > LONGEST_PATH:
        raise ValueError(f"{shown(value)} has more than {LONGEST_PATH} bytes")
    return expanded(value) if name in PATHS else value
