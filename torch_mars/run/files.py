"""Files of a run: written whole or not at all, by one process at a time, read without trust.

Checkpoints hold tensors and plain values only and are read with `weights_only=True`: one from a stranger cannot run
code. A checksum behind them tells of every changed byte.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import secrets
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torch_mars.run.cli import RunError, UsageError, note
from torch_mars.run.reading import read_bytes
from torch_mars.run.yamls import read_yaml as read_yaml

if TYPE_CHECKING:
    from filelock import BaseFileLock

CHECKPOINT = "checkpoint.pt"
POLICY = "policy.pt"
OF_A_RUN = ("metrics.jsonl", "evaluations.json", CHECKPOINT)  # of which one lies beside a run's config.yaml
LOCK = ".lock"
FORMAT = 2  # of a checkpoint; raised when an old one can no longer be read
LARGEST = 2**34  # bytes of a file that is read
DEEPEST = 12  # levels of a checkpoint's dictionaries
_CHECKSUM = b"\ntorch_mars sha256 "  # and the digest: behind the zip, whose readers do not mind
_OLD_SECONDS = 3600.0  # after which a temporary is nobody's, where a file system knows no locks


# ---- writing ----


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: under a name of its own, flushed to disk, then renamed, for good.

    Raises:
        RunError: it cannot be written; the old file is as it was.
    """
    temporary = None
    try:
        sweep(path.parent, path.name)
        file, temporary = _make_temporary(path)
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # an open file cannot be renamed there
                file.close()
            os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        reason = error.strerror or error
        raise RunError(f"cannot write {path}: {reason}; what was saved before is intact") from None


def sync_folder(folder: Path) -> None:
    """Have a folder's names survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network folders cannot be synced
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in a folder: the temporaries of a file, or of all files."""
    for entry in os.scandir(folder):
        if entry.name.startswith(f".{name}") and entry.name.endswith(".tmp"):
            with contextlib.suppress(OSError):
                _remove_if_abandoned(entry)


def _make_temporary(path: Path) -> tuple[io.BufferedWriter, Path]:
    """A new file beside `path`, locked while its writer lives: no link is followed, nobody's file taken."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = open(os.open(temporary, flags, 0o666), "wb")
        if _lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            return file, temporary
        file.close()  # somebody swept it in between


def _remove_if_abandoned(entry: os.DirEntry) -> None:
    descriptor = os.open(entry.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        is_locked = _lock(descriptor)
        is_old = time.time() - os.fstat(descriptor).st_mtime > _OLD_SECONDS
        if is_locked or (is_locked is None and is_old):
            os.unlink(entry.path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether an open file is now ours until it is closed; None where there are no such locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # elsewhere an open file cannot be removed
        return None
    return True


class Held(RunError):
    """Another process has the lock."""


def hold(path: Path, what: str, patience: float = 0.0) -> "BaseFileLock":
    """A lock file, ours until it is released or this process ends, however that happens.

    Args:
        what: what another process is doing if it has the lock.
        patience: seconds to wait for it.

    Raises:
        Held: another process keeps it.
        RunError: there can be no lock.
    """
    import filelock

    lock = filelock.FileLock(path, thread_local=False)
    deadline, has_said = time.monotonic() + patience, False
    while True:
        try:
            with warnings.catch_warnings(record=True) as caught:
                lock.acquire(timeout=0)
            if caught:
                note(f"{path.parent} is in a file system without locks: a killed process may seem to be alive there")
            return lock
        except filelock.Timeout:
            if time.monotonic() >= deadline:
                raise Held(f"another process is {what}; wait for it or stop it") from None
        except (OSError, NotImplementedError) as error:  # the second: older versions, where a system has no locks
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"no lock can be had: {reason}: {path}") from None
        if not has_said:
            note(f"another process is {what}; waiting for it to end")
            has_said = True
        time.sleep(0.2)


def let_go(lock: "BaseFileLock") -> None:
    """Release a lock, and leave no file behind: who waits for it finds out that the file is gone, and makes another."""
    if lock.is_locked:
        with contextlib.suppress(OSError):  # an open file cannot be removed everywhere
            os.unlink(lock.lock_file)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process has this lock now."""
    if not path.exists():
        return False
    try:
        let_go(hold(path, ""))
    except RunError:
        return True
    return False


def to_json(content: Any) -> str:
    """JSON that every reader takes: it has no infinity and no nan, which become texts."""
    return json.dumps(_without_specials(content), allow_nan=False)


def _without_specials(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else str(content)
    if isinstance(content, dict):
        return {name: _without_specials(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_specials(value) for value in content]
    return content


# ---- checkpoints ----


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values to one file, replaced as a whole."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    body = buffer.getvalue()
    write_whole(path, body + _CHECKSUM + hashlib.sha256(body).hexdigest().encode())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or policy file, or those of a run's folder, onto the CPU.

    What it must hold in all cases is checked here: its head, and that weights and returns are numbers. What it must
    hold for a training, `check_like` says, and an environment for its State.

    Raises:
        UsageError: there is none, or it is damaged, or from another format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CHECKPOINT
    try:
        body = _without_checksum(read_bytes(path, LARGEST))
        with warnings.catch_warnings(action="ignore"):  # about the pickle format of what is no checkpoint
            content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception:  # the unpickler raises anything, from IndexError to struct.error, on what is no checkpoint
        raise UsageError(f"{path} is no checkpoint of torch_mars, or is damaged or truncated") from None
    if not isinstance(content, dict) or repr(content.get("format")) != repr(FORMAT):
        raise UsageError(f"{path} is no checkpoint that this version of torch_mars reads (format {FORMAT})")
    try:
        _check_content(content)
    except ValueError as error:
        raise UsageError(f"{path} is damaged, or no checkpoint of torch_mars: {error}") from None
    return content


def _without_checksum(content: bytes) -> bytes:
    """The zip itself. ValueError if a byte of it was changed; of older files, those of its records are looked at."""
    body, found, digest = content[-200:].rpartition(_CHECKSUM)
    if found:
        body = content[: len(content) - len(found) - len(digest)]
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError("wrong checksum")
        return body
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        if file.testzip() is not None:
            raise ValueError("wrong checksum of a record")
    return content


_KINDS = {
    **dict.fromkeys(("task", "algorithm"), str),
    **dict.fromkeys(("learner", "env", "best", "actor", "settings", "metrics", "diverged"), dict),
    **dict.fromkeys(("update", "format"), int),
    "seconds": float,
}


def _check_content(content: dict[str, Any]) -> None:
    """ValueError unless the head is one, and everything plain and finite."""
    for name in ("task", "algorithm", *(("seconds",) if "update" in content else ("settings",))):
        if name not in content:
            raise ValueError(f"{name} is missing")
    for name, value in content.items():
        if name in _KINDS and type(value) is not _KINDS[name]:
            raise ValueError(f"{name} is a {type(value).__name__}")
        for place, leaf in _leaves(value, str(name)):
            _check_leaf(place, leaf)
    counts = [content.get("update", 0), *content.get("metrics", {}).values()]
    counts += [number for seed_and_update in content.get("diverged", {}).items() for number in seed_and_update]
    for number in counts:
        if type(number) is not int or not 0 <= number < 2**62:
            raise ValueError(f"it counts {str(number)[:40]} updates or lines")
    if content.get("seconds", 0.0) < 0:
        raise ValueError(f"seconds is {content['seconds']}")


def _leaves(content: Any, place: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise ValueError(f"{place[:80]} is nested too deeply")
    if isinstance(content, dict):
        for name, value in content.items():
            if type(name) not in (str, int):
                raise ValueError(f"{place} has a name that is a {type(name).__name__}")
            yield from _leaves(value, f"{place}.{name}", depth + 1)
    elif isinstance(content, (list, tuple)):
        for i, value in enumerate(content):
            yield from _leaves(value, f"{place}.{i}", depth + 1)
    else:
        yield place, content


def _check_leaf(place: str, leaf: Any) -> None:
    """ValueError unless it is plain and, where it is a number, one. An environment looks at its State itself."""
    room = place.partition(".")[0]
    if isinstance(leaf, torch.Tensor):
        if leaf.layout != torch.strided or leaf.is_quantized or leaf.is_nested or leaf.is_meta:
            raise ValueError(f"{place} is no ordinary tensor")
        if room != "env" and leaf.is_floating_point():
            is_number = ~leaf.isnan() & ~leaf.isposinf() if place.endswith("returns") else leaf.isfinite()
            if not is_number.all():
                raise ValueError(f"{place} is not finite")
    elif isinstance(leaf, float):
        if math.isnan(leaf) or (math.isinf(leaf) and not place.partition(".")[0] == "returns" and room != "settings"):
            raise ValueError(f"{place} is {leaf}")
    elif not isinstance(leaf, (int, str, type(None))):
        raise ValueError(f"{place} is a {type(leaf).__name__}")


def check_like(content: Any, like: Any, place: str) -> None:
    """Whether what a file says can take the place of `like`: the same names, shapes and kinds.

    Raises:
        ValueError: it says where they differ.
    """
    if isinstance(like, torch.Tensor):
        if not isinstance(content, torch.Tensor):
            raise ValueError(f"{place} is a {type(content).__name__}, not a tensor")
        if content.shape != like.shape or content.dtype != like.dtype:
            ours, theirs = (f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in (like, content))
            raise ValueError(f"{place} is {theirs}; it must be {ours}")
    elif isinstance(like, dict) and "param_groups" in like:
        return  # an optimizer's, which is looked at where it is loaded (`nn.optimizers`)
    elif isinstance(like, dict):
        if not isinstance(content, dict):
            raise ValueError(f"{place} is a {type(content).__name__}, not a dictionary")
        for name in like.keys() ^ content.keys():
            raise ValueError(f"{place}.{name} is {'missing' if name in like else 'unknown'}")
        for name, value in like.items():
            check_like(content[name], value, f"{place}.{name}")
    elif isinstance(like, (list, tuple)):
        if not isinstance(content, (list, tuple)) or len(content) != len(like):
            raise ValueError(f"{place} is no list of {len(like)}")
        for i, value in enumerate(like):
            check_like(content[i], value, f"{place}.{i}")
    elif content != like:
        raise ValueError(f"{place} is {str(content)[:40]!r}; it must be {like!r}")
