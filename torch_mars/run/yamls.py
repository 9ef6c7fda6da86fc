"""yaml from anywhere: a settings file, a text on the command line. What is ambiguous, doubled or endless is refused.

yaml 1.1, which PyYAML reads, takes `010` for 8, `1:30` for 90, `2024-01-01` for a date and the last of two equal names.
Nobody who writes settings means that, so each gets one sentence. Aliases count as often as they stand for something:
a few lines of them can stand for more than a memory holds.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from torch_mars.run.cli import UsageError, short, shown
from torch_mars.run.reading import read_bytes

MOST_BYTES = 2**17
MOST_NODES = 5_000  # names, values, lists and mappings, aliases written out
DEEPEST = 20
LONGEST_NUMBER = 100  # characters

_TAG = "tag:yaml.org,2002:"
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_QUOTE = "put it in quotes if it is a text"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A mapping from a yaml file; {} from an empty one.

    Raises:
        UsageError: it cannot be read, is no mapping, or holds what settings cannot be.
    """
    source = short(path)
    content = read_bytes(path, MOST_BYTES)
    try:
        content = parse_yaml(content.decode("utf-8-sig"), source)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{source} is not valid yaml: line {line} is no UTF-8 text") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{source} must hold settings as `name: value`, not a {type(content).__name__}")
    return content


def parse_yaml(text: str, source: str) -> Any:
    """What a yaml text says, in dictionaries with texts as names, lists, texts, numbers, bools and None.

    Args:
        source: where the text is from, for messages.

    Raises:
        UsageError: it is no yaml, or holds what settings cannot be.
    """
    if len(text) > MOST_BYTES:
        raise UsageError(f"{source} has more than {MOST_BYTES:,} characters")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except _Refused as error:
        raise UsageError(f"{source}, {error}") from None
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"{source} is not valid yaml: {_problem(error)}") from None
    except yaml.reader.ReaderError as error:  # a control character, half a character
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{source} is not valid yaml: line {line} has the character {error.character:#x}") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # such as an escape for a character that does not exist
        raise UsageError(f"{source} is not valid yaml") from None


class _Refused(Exception):
    """yaml that nobody means."""

    def __init__(self, place: yaml.Node | yaml.Event, problem: str):
        super().__init__(f"line {place.start_mark.line + 1}: {problem}")


class _Loader(yaml.SafeLoader):
    """Looks at every node as soon as it is read, so that nothing is built of what will be refused."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST:
            raise _Refused(event, f"what stands here is nested deeper than {DEEPEST} levels")
        if self.nodes > MOST_NODES:
            raise _Refused(event, f"there are more than {MOST_NODES:,} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            _check(node)
        return node


def _check(node: yaml.Node) -> None:
    """Refuse a node for itself; what it holds has been looked at."""
    kind = node.tag.removeprefix(_TAG)
    if kind == "timestamp":
        raise _Refused(node, f"{shown(node.value)} would be a date; {_QUOTE}")
    if kind not in _PLAIN or not node.tag.startswith(_TAG):
        what = shown(node.value) if isinstance(node.value, str) else "what stands here"
        raise _Refused(node, f"{what} has the kind {short(kind, 40)}, which no setting has; {_QUOTE}")
    is_kind_of = {"seq": yaml.SequenceNode, "map": yaml.MappingNode}.get(kind, yaml.ScalarNode)
    if not isinstance(node, is_kind_of):  # `!!int [1]`
        raise _Refused(node, f"what stands here is no {kind}")
    if kind in ("int", "float"):
        _check_number(node, kind)
    elif kind == "bool" and node.value.lower() not in yaml.SafeLoader.bool_values:
        raise _Refused(node, f"{shown(node.value)} is neither true nor false")
    elif kind == "map":
        _check_names(node)


def _check_number(node: yaml.ScalarNode, kind: str) -> None:
    text = node.value
    if len(text) > LONGEST_NUMBER or not text.isascii():
        raise _Refused(node, f"{shown(text)} is no number that can be read; {_QUOTE}")
    if kind == "int" and not _WHOLE.fullmatch(text):
        raise _Refused(node, f"{text} can be read in several ways; write a number like 10, or {_QUOTE}")
    if kind == "float":
        try:
            value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:  # 1:30.5
            raise _Refused(node, f"{text} is no decimal number; {_QUOTE}") from None
        if math.isinf(value) and "inf" not in text.lower():
            raise _Refused(node, f"{text} is too large for a number")


def _check_names(node: yaml.MappingNode) -> None:
    """A mapping's names are texts, each there once."""
    seen = set()
    for name, _ in node.value:
        if name.tag not in (_TAG + "str", _TAG + "merge"):
            text = short(name.value, 60) if isinstance(name.value, str) else "made of a list or mapping"
            raise _Refused(name, f"the name {text} is no text; {_QUOTE}")
        if name.value in seen:
            raise _Refused(name, f"{shown(name.value)} is there twice")
        seen.add(name.value)


def _count(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many nodes there are below a node and with it, aliases written out."""
    if node in known:
        if known[node] == 0:  # it is being counted
            raise _Refused(node, "what stands here holds itself")
        return known[node]
    known[node] = 0
    known[node] = 1 + sum(_count(child, known) for child in _children(node))
    if known[node] > MOST_NODES:
        raise _Refused(node, f"what stands here is more than {MOST_NODES:,} values, aliases written out")
    return known[node]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _problem(error: yaml.MarkedYAMLError) -> str:
    """One line of an error that has several."""
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = error.problem or "it cannot be read"
    if problem.startswith("but ") and error.context:
        problem = f"{error.context}, {problem}"
    return place + short(" ".join(problem.split()), 120)
