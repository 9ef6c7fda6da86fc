"""What a path stands for: a run, a policy, or the name of a task whose team is installed with the package."""

import difflib
import os
from pathlib import Path
from typing import Any

from torch_mars import envs
from torch_mars.run.cli import UsageError, as_path, short
from torch_mars.run.files import CHECKPOINT, OF_A_RUN, POLICY, load_checkpoint
from torch_mars.run.reading import folders_with, some_entries
from torch_mars.run.yamls import read_yaml

TEAMS = Path(__file__).parents[1] / "teams"
MOST_LOOKED_AT, DEEPEST = 10_000, 4  # files, and levels below a folder that is searched for runs
MOST_NAMES = 1000  # that a wrong one is compared with


# ---- policies ----


def find_policy(path: str | Path) -> Path:
    """The file to read a policy from: the path itself, in a run's folder policy.pt, else checkpoint.pt; a task's team.

    Raises:
        UsageError: neither; the sentence says what is near.
    """
    path = as_path(path)
    if os.path.isfile(path):
        return path
    if of_run := policy_in(path):
        return of_run
    if str(path) in installed_teams():
        return TEAMS / f"{path}.pt"
    if not os.path.isdir(path):
        raise UsageError(f"no run or checkpoint at {short(path)}{_hint(path)}")
    inside = _runs_below(path)
    if inside == [path] or not inside and os.path.exists(path / "config.yaml"):
        raise UsageError(f"run {path} has no policy yet: it ended before its first checkpoint")
    if inside:
        raise UsageError(_holds(path, inside))
    raise UsageError(f"{path} is not a run: it has neither {POLICY} nor {CHECKPOINT}")


def has_policy(what: str) -> bool:
    """Whether there is a policy behind a path or the name of a task."""
    try:
        find_policy(what)
    except UsageError:
        return False
    return True


def installed_teams() -> list[str]:
    """Tasks for which a trained team comes with the package."""
    return sorted(file.stem for file in TEAMS.glob("*.pt"))


def policy_in(folder: Path) -> Path | None:
    """The file with the best policy of a run: policy.pt, unless the run has gone on since, else checkpoint.pt."""
    policy, checkpoint = folder / POLICY, folder / CHECKPOINT
    if os.path.isfile(policy) and not (os.path.isfile(checkpoint) and _is_outdated(policy)):
        return policy
    return checkpoint if os.path.isfile(checkpoint) else None


def _is_outdated(policy: Path) -> bool:
    """Whether the run has gone on since it ended with this policy: then its checkpoint knows the best one."""
    config = policy.with_name("config.yaml")
    if not config.is_file():
        return False
    settings = load_checkpoint(policy).get("settings", {})
    return read_yaml(config).get("total_steps") != settings.get("total_steps")


# ---- runs to go on with ----


def run_folder(path: str | Path) -> Path:
    """The folder of a run, from itself or a file in it."""
    path = Path(path)
    return path if path.is_dir() else path.parent


def saved_settings(path: str | Path, algorithm: str) -> dict[str, Any]:
    """The settings of the run at `path`, which must be one of `algorithm`.

    Raises:
        UsageError: there is none to go on with; the sentence says what is near.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise UsageError(f"--resume: no run or checkpoint at {short(path)}{_hint(path)}")
    inside = _runs_below(path) if os.path.isdir(path) and not os.path.exists(path / CHECKPOINT) else []
    if inside and inside != [path]:
        raise UsageError(f"--resume: {_holds(path, inside)}")
    checkpoint = load_checkpoint(path)  # before anything else: no point in resuming without one
    if "update" not in checkpoint:
        raise UsageError(f"--resume: {path} is a policy, not a checkpoint to go on with; give the run's folder")
    if checkpoint["algorithm"] != algorithm:
        other = checkpoint["algorithm"]
        raise UsageError(f"--resume: {path} is a run of {other}, not of {algorithm}; resume it with that lesson")
    return read_yaml(run_folder(path) / "config.yaml")


# ---- what is near ----


def _runs_below(path: Path) -> list[Path]:
    return folders_with("config.yaml", OF_A_RUN, path, MOST_LOOKED_AT, DEEPEST)[0]


def _holds(path: Path, runs: list[Path]) -> str:
    return f"{path} is not a run, but holds {len(runs)}; the latest is {max(runs, key=_modified)}"


def _modified(folder: Path) -> float:
    try:
        return (folder / "config.yaml").stat().st_mtime
    except OSError:
        return 0.0


def _hint(path: Path) -> str:
    if _is_task(str(path)):
        known = f"; teams are installed for {', '.join(installed_teams())}" if installed_teams() else ""
        return f", which is the name of a task{known}; runs are folders like runs/<task>/<algorithm>/<time>-<name>"
    if not os.path.isdir(path.parent):
        return f"; there is no folder {short(path.parent)} either"
    names = [entry.name for entry in some_entries(path.parent, MOST_NAMES)]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _is_task(name: str) -> bool:
    try:
        envs.known(name)
    except ValueError:
        return False
    return True
