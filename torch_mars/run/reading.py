"""Files from anywhere, opened with care: no pipe is waited for, no device and no disk is read without end."""

import collections
import itertools
import os
import stat
from collections.abc import Collection
from pathlib import Path

from torch_mars.run.cli import UsageError, short

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SMALL = 2**20  # bytes that are asked for where a file does not say how many it has


def read_bytes(path: str | Path, limit: int) -> bytes:
    """All of a regular file.

    Raises:
        UsageError: there is none, it is something else, or it has more than `limit` bytes.
    """
    name = short(path)
    try:
        _check_regular(os.stat(path), name)  # before it is opened: that alone may move a tape
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            _check_regular(about, name)  # nobody put something else in its place
            content = b"" if about.st_size > limit else file.read(min(limit, max(about.st_size, _SMALL)) + 1)
            if max(about.st_size, len(content)) > limit:  # in /proc a size is no size
                raise UsageError(f"cannot read {name}: it has more than {limit:,} bytes")
            return content
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    except ValueError:  # a NUL or half a character in its name
        raise UsageError(f"cannot read {short(str(path)[:80])!r}: no file has such a name") from None


def _check_regular(about: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
        raise UsageError(f"cannot read {name}: it is {kind}, not a file")


def folders_with(name: str, beside: Collection[str], path: Path, most: int, deepest: int) -> tuple[list[Path], bool]:
    """Folders at or below `path` that hold a file of this name, which may be asked of the root of a disk.

    Args:
        beside: files of which they hold one, too.
        most: files and folders that are looked at.
        deepest: levels below `path`. No link is followed but to a folder with such a file, and nothing looked for below
            a folder that was found.

    Returns:
        the folders, those near the top first; whether all were looked at.
    """
    waiting, found, left = collections.deque([(path, 0)]), [], most
    while waiting and left > 0:
        folder, depth = waiting.popleft()
        entries = some_entries(folder, left)
        left -= len(entries)
        names = {entry.name for entry in entries}
        if name in names and not names.isdisjoint(beside):
            found.append(folder)
        elif depth < deepest:
            waiting += [
                (Path(entry.path), depth + 1)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_symlink() and os.path.exists(f"{entry.path}/{name}")
            ]
    return found, left > 0


def some_entries(folder: Path, most: int) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(itertools.islice(entries, most))
    except OSError:  # nothing that is ours to look into
        return []
