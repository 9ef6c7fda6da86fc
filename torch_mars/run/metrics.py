"""metrics.jsonl: a line of JSON for each seed's updates and evaluations. Nothing else writes or reads it.

A line is a record: `kind` ("update", "evaluation", or "diverged" for the end of a seed whose losses are no numbers),
`seed`, `update`, `step`, `seconds`, and what was measured: numbers, lists of numbers, or the texts "inf" and "-inf".
"""

import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_mars.run.files import LARGEST, sync_folder, to_json, write_whole
from torch_mars.run.reading import read_bytes

METRICS = "metrics.jsonl"
KINDS = ("update", "evaluation", "diverged")
_BLOCK = 2**16
Record = dict[str, Any]
Mark = dict[str, int]  # how much of the file a checkpoint counts on: its lines and their crc32, but for the clocks
_CLOCKS = ("seconds", "steps_per_second")  # differ between runs that are otherwise equal to the bit


class Log:
    """The file of a run in training, open to be added to.

    Args:
        path: of the file.
        mark: what it begins with.
    """

    def __init__(self, path: Path, mark: Mark):
        self.mark = mark
        self.file = open(path, "ab")  # noqa: SIM115 - open for the whole run
        sync_folder(path.parent)

    def append(self, record: Record) -> None:
        """OSError if it cannot be written."""
        self.file.write(encoded([record]))
        self.file.flush()
        self.mark = _mark_of([record], self.mark)

    def sync(self) -> Mark:
        """Have all lines survive a power cut; how many there are."""
        os.fsync(self.file.fileno())
        return self.mark

    def close(self) -> None:
        self.file.close()


def encoded(records: list[Record]) -> bytes:
    return "".join(to_json(record) + "\n" for record in records).encode()


def _mark_of(records: list[Record], before: Mark | None = None) -> Mark:
    before = before or {"lines": 0, "crc32": 0}
    timeless = [{name: value for name, value in record.items() if name not in _CLOCKS} for record in records]
    return {"lines": before["lines"] + len(records), "crc32": zlib.crc32(encoded(timeless), before["crc32"])}


class Past:
    """What a file says of the updates that a checkpoint knows; `begin` makes it the file of the run that goes on.

    Attributes:
        records: of these updates.
        problem: a sentence if the file is not as it was when the checkpoint was saved; None if it is.

    Args:
        path: of the file, which may be missing.
        last_update: the checkpoint's.
        mark: the checkpoint's; None: it is of a version that had none.
    """

    def __init__(self, path: Path, last_update: int, mark: Mark | None):
        self.path, self.problem = path, None
        self.content = read_bytes(path, LARGEST) if path.exists() else b""
        lines = self.content.split(b"\n")[:-1]  # a kill may have cut the last
        found = list(map(parse, lines))
        self.records = [record for record in found if record and record["update"] <= last_update]
        unreadable = sum(record is None for record in found)
        if mark is not None:
            lost = mark.get("lines", 0) - len(self.records)
            if lost > 0:
                self.problem = f"{path} is not as it was saved: {lost} of {mark['lines']} lines are lost"
            elif _mark_of(self.records) != mark:
                self.problem = f"{path} is not as it was saved: some of its lines are not what was written"
        if unreadable and not self.problem:
            self.problem = f"{path} is damaged: {unreadable} of {len(lines)} lines cannot be read"

    def begin(self, restored: list[Record]) -> tuple[Log, Path | None]:
        """Leave what belongs to the checkpoint; the file as it was stays under the returned name if it is damaged.

        Args:
            restored: records that were found elsewhere.
        """
        aside = None
        if self.problem and self.content:
            names = (self.path.with_name(f"metrics-damaged-{i}.jsonl") for i in range(1, 10**6))
            aside = next(path for path in names if not path.exists())
            write_whole(aside, self.content)
        records = sorted([*self.records, *restored], key=lambda record: record["update"])
        if len(records) != self.content.count(b"\n") or not self.content.endswith(b"\n") or restored:
            write_whole(self.path, encoded(records))
        return Log(self.path, _mark_of(records)), aside


# ---- reading ----


def parse(line: bytes) -> Record | None:
    """The record in a line; None if it is none."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(content: Any) -> bool:
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        return False
    is_head = all(type(content.get(name)) is int and 0 <= content[name] < 2**63 for name in ("seed", "update", "step"))
    return is_head and type(content.get("seconds")) in (int, float) and all(map(_is_measured, content.values()))


def _is_measured(value: Any) -> bool:
    """A number, a list of numbers, or a text: the kind, a reason, "inf"."""
    if isinstance(value, list):
        return all(type(one) in (int, float) or one in ("inf", "-inf", "nan") for one in value)
    return isinstance(value, str) or (type(value) in (int, float) and math.isfinite(value))


def records(path: Path) -> Iterator[Record]:
    """All that can be read, from the first line to the last; nothing without a file."""
    if path.is_file():
        with open(path, "rb") as file:
            yield from filter(None, map(parse, file))


def last_record(path: Path, kind: str) -> Record | None:
    """The latest record of a kind, however long the lines behind it are; None if there is none, or no file."""
    if path.is_file():
        with open(path, "rb") as file:
            for line in _lines_backwards(file):
                record = parse(line)
                if record and record["kind"] == kind:
                    return record
    return None


def _lines_backwards(file: Any) -> Iterator[bytes]:
    position, parts = file.seek(0, os.SEEK_END), []
    while position:
        start = max(0, position - _BLOCK)
        file.seek(start)
        first, *others = file.read(position - start).split(b"\n")
        for line in reversed(others):
            yield b"".join([line, *reversed(parts)])
            parts = []
        parts.append(first)
        position = start
    yield b"".join(reversed(parts))
