"""How good the installed teams are, for their page and those of their environments.

    python docs/teams.py        # measures teams that are new or changed since; writes docs/teams.json and docs/teams.md

Of each it keeps a summary of what `python -m torch_mars.evaluate TASK --json` prints, and the SHA-256 of the team's
file, from which tests see that the numbers are those of the file.
"""

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from torch_mars import envs, evaluate
from torch_mars.protocol import methods
from torch_mars.run.files import write_whole
from torch_mars.run.finding import TEAMS
from torch_mars.teams.policies import read

MEASURED, PAGE = (Path(__file__).with_suffix(suffix) for suffix in (".json", ".md"))
# of each environment what says how well a team does besides its return: its share of episodes, or its mean
TELLING = {
    "paxmen": ("rooms_eaten_in", "{mean:.1f} rooms eaten in"),
    "aerojax": ("won", "{mean:.0%} won"),
    "jaxnav": ("goal_rate", "{mean:.0%} of the robots reach their goals"),
    "search_and_rescue": ("found_fraction", "{mean:.0%} of the targets found"),
    "connector": ("connected_ratio", "{mean:.0%} of the agents connected"),
    "mpe": ("coverage", "{mean:.0%} of the landmarks covered at the end"),
    "rware": ("deliveries", "{mean:.1f} deliveries"),
    "smax": ("won", "{mean:.0%} won"),
}
HEAD = """# The installed teams

A team of each environment comes with the package, of PaxMen two. Its task's name stands for it:

```bash
torch-mars play smax_2s3z                # a film of the median of 64 episodes
torch-mars evaluate smax_2s3z            # the numbers below, and how unlike its games are
```

```python
import torch_mars

policy = torch_mars.load_policy("smax_2s3z")
```

**The rule.** Of the trainings of the three methods in `results/main` and `results/tasks`, the training seed whose
best policy has the highest mean return over the new episodes that end a training (the absolute metric); of equal ones
the first. On SMAX three seeds have 2, the most: two of MARS and one of MAPPO. Which method a team is of is no
comparison of methods: it is the best of many seeds, of which some methods have more. The table is of other episodes
again, 320 with sampled actions, as `torch-mars evaluate TASK` plays them, so it does not know of the choice. On PaxMen
five boards and more are cleared in most episodes. The most that a return can be: [tasks](../results/tasks.md).
"""


def digest(team: Path) -> str:
    return hashlib.sha256(team.read_bytes()).hexdigest()


def measured(task: str) -> dict:
    """Of every metric: mean with its 95% interval, quartiles, and the share of episodes in which it is above 0."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        evaluate.main([task, "--json", "--device", "cpu"])
    found = json.loads(next(line for line in printed.getvalue().splitlines() if line.startswith("{")))
    metrics = {}
    for name, metric in found["metrics"].items():
        (seed,) = metric["seeds"].values()  # an installed team is of one training seed
        episodes = np.array(seed["episodes"])
        lower, median, upper = np.percentile(episodes, (25, 50, 75))
        numbers = {
            **{name: seed[name] for name in ("mean", "low", "high")},
            **{"median": median, "lower_quartile": lower, "upper_quartile": upper},
            "share_above_0": (episodes > 0).mean(),
        }
        metrics[name] = {key: round(float(number), 4) for key, number in numbers.items()}
    command = f"python -m torch_mars.evaluate {task} --json"
    return {"command": command, **{name: found[name] for name in ("algorithm", "episodes")}, "metrics": metrics}


def page(found: dict[str, dict]) -> str:
    """All installed teams, as a table."""
    lines = [
        "| task | trained with | return: median (quartiles) | mean [95%] | |",
        "|---|---|---|---|---|",
    ]
    for task in sorted(found, key=list(envs.TASKS).index):
        team, args = found[task], read(task).args
        returns = team["metrics"]["episode_return"]
        metric, words = TELLING[envs.family(task)]
        label = methods.named(team["algorithm"]).label
        cells = (
            f"`{task}`",
            f"{label}, seed {args.seed}, {args.total_steps / 1e6:g}M steps",
            "{median:.2f} ({lower_quartile:.2f} to {upper_quartile:.2f})".format(**returns),
            "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**returns),
            words.format(**team["metrics"][metric]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return f"{HEAD}\n" + "\n".join(lines) + "\n"


def main() -> None:
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    found = {}
    for team in sorted(TEAMS.glob("*.pt")):
        before, sha256 = known.get(team.stem, {}), digest(team)
        found[team.stem] = before if before.get("sha256") == sha256 else {"sha256": sha256, **measured(team.stem)}
    write_whole(MEASURED, (json.dumps(found, indent=1) + "\n").encode())
    write_whole(PAGE, page(found).encode())


if __name__ == "__main__":
    main()
