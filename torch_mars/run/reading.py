"""Files from anywhere, opened with care: no pipe is waited for, no device is read without end."""

import os
import stat
from pathlib import Path

from torch_mars.run.cli import UsageError, short

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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
            content = b"" if about.st_size > limit else file.read(limit + 1)
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
