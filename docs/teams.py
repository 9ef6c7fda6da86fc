"""How good the installed teams are, for their environments' pages.

    python docs/teams.py        # measures teams that are new or changed since, and writes docs/teams.json

Of each it keeps a summary of what `python -m torch_mars.evaluate TASK --json` prints, and the SHA-256 of the team's
file, from which tests see that the numbers are those of the file.
"""

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from torch_mars import evaluate
from torch_mars.run.files import write_whole
from torch_mars.teams.policies import TEAMS

PAGE = Path(__file__).with_suffix(".json")


def digest(team: Path) -> str:
    return hashlib.sha256(team.read_bytes()).hexdigest()


def measured(task: str) -> dict:
    """Of every metric: mean with its 95% interval, median, and the share of episodes in which it is above 0."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        evaluate.main([task, "--json", "--device", "cpu"])
    found = json.loads(next(line for line in printed.getvalue().splitlines() if line.startswith("{")))
    metrics = {}
    for name, metric in found["metrics"].items():
        (seed,) = metric["seeds"].values()  # an installed team is of one training seed
        episodes = np.array(seed["episodes"])
        numbers = seed["mean"], seed["low"], seed["high"], np.median(episodes), (episodes > 0).mean()
        metrics[name] = dict(
            zip(("mean", "low", "high", "median", "share_above_0"), (round(float(n), 4) for n in numbers))
        )
    command = f"python -m torch_mars.evaluate {task} --json"
    return {"command": command, **{name: found[name] for name in ("algorithm", "episodes")}, "metrics": metrics}


def main() -> None:
    known = json.loads(PAGE.read_text()) if PAGE.exists() else {}
    found = {}
    for team in sorted(TEAMS.glob("*.pt")):
        before, sha256 = known.get(team.stem, {}), digest(team)
        found[team.stem] = before if before.get("sha256") == sha256 else {"sha256": sha256, **measured(team.stem)}
    write_whole(PAGE, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
