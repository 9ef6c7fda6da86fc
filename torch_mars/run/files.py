"""Files of a run: written whole or not at all, read without trust.

Checkpoints hold tensors and plain values only and are read with `weights_only=True`: one from a stranger cannot run
code.
"""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from torch_mars.run.cli import RunError, UsageError

CHECKPOINT = "checkpoint.pt"
POLICY = "policy.pt"
FORMAT = 2  # of a checkpoint; raised when an old one can no longer be read


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: under a temporary name, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}; what was saved before is intact") from None


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values to one file, replaced as a whole."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or policy file, or those of a run's folder, onto the CPU.

    Raises:
        UsageError: there is none, or it is damaged, or from another format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CHECKPOINT
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # about the pickle format of what is no checkpoint
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # the unpickler raises anything, from IndexError to struct.error, on what is no checkpoint
        raise UsageError(f"{path} is no checkpoint of torch_mars, or is damaged or truncated") from None
    if not isinstance(content, dict) or repr(content.get("format")) != repr(FORMAT):
        raise UsageError(f"{path} is no checkpoint that this version of torch_mars reads (format {FORMAT})")
    return content


def run_folder(path: str | Path) -> Path:
    """The folder of a run, from itself or a file in it."""
    path = Path(path)
    return path if path.is_dir() else path.parent


def saved_settings(path: str | Path, algorithm: str) -> dict[str, Any]:
    """The settings of the run at `path`, which must be one of `algorithm`."""
    checkpoint = load_checkpoint(path)  # before anything else: no point in resuming without one
    if "update" not in checkpoint:
        raise UsageError(f"--resume: {path} is a policy, not a checkpoint to go on with; give the run's folder")
    if checkpoint["algorithm"] != algorithm:
        other = checkpoint["algorithm"]
        raise UsageError(f"--resume: {path} is a run of {other}, not of {algorithm}; resume it with that lesson")
    return read_yaml(run_folder(path) / "config.yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a yaml file; UsageError if it cannot be read or is no mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold settings as `name: value`, not a {type(content).__name__}")
    return content
