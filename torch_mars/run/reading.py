"""Files from anywhere, opened with care: no pipe is waited for, no device is read without end."""

import os
import stat
from pathlib import Path

from torch_mars.run.cli import UsageError


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a regular file.

    Raises:
        UsageError: there is none, it is something else, or it has more than `limit` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise UsageError(f"cannot read {path}: it is no regular file")
            if about.st_size > limit:
                raise UsageError(f"cannot read {path}: it has {about.st_size:,} bytes, more than {limit:,}")
            return file.read(limit)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a NUL in its name
        raise UsageError(f"cannot read {str(path)!r}: no file has such a name") from None
