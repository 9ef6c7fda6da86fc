"""Which rooms of PaxMen a team empties: why returns have humps, and in which layouts.

    python results/layouts.py RUNS... [--episodes 320]

A table by method and layout, over all training seeds' best policies: the mean return, and the share of episodes in
which dots were eaten in so many rooms, or in all, after which the board is full again. A room of 5a is worth 3.1.
"""

from collections import defaultdict

import numpy as np

from torch_mars.envs import rng
from torch_mars.evaluate import BATCH, MOST_EPISODES, evaluate
from torch_mars.protocol import methods, saved
from torch_mars.run import cli
from torch_mars.run.cli import Parser, UsageError, whole_number
from torch_mars.teams.policies import Trained, read

LAYOUTS = 4


def layouts_of(trained: Trained, episodes: int) -> np.ndarray:
    """Of the episodes that `evaluate` plays with seed 0, by training seed: [seeds, episodes]."""
    found = []
    for start in range(0, episodes, BATCH):
        seeds = [rng.derive(0, "evaluate", training_seed, start) for training_seed in trained.seeds]
        env = trained.make_env(len(seeds) * min(BATCH, episodes - start), "cpu", seeds)
        env.reset(seed=seeds)
        found.append(env.state.layout.view(len(seeds), -1).numpy())
    return np.concatenate(found, 1)


def main() -> int:
    parser = Parser(prog="layouts", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--episodes", type=whole_number(1, MOST_EPISODES), default=320)
    args = parser.parse_args()
    by_method: dict[tuple[str, str], list[tuple[np.ndarray, ...]]] = defaultdict(list)
    for run in saved.find_runs(args.runs):
        if run.family != "paxmen":
            raise UsageError(f"{run.folder} is on {run.task}, which has no layouts")
        trained = read(str(run.folder))
        played = evaluate(trained, args.episodes)
        numbers = [np.array(played[name]).ravel() for name in ("episode_return", "rooms_eaten_in", "boards_cleared")]
        by_method[run.task, run.method.name].append((layouts_of(trained, args.episodes).ravel(), *numbers))
    for task in sorted({task for task, _ in by_method}):
        print(table({method: found for (one, method), found in by_method.items() if one == task}, task))
    return 0


def table(by_method: dict[str, list[tuple[np.ndarray, ...]]], task: str) -> str:
    rooms_in_all = int(task.split("_")[1][0])
    head = [task, "layout", "return", *(f"{count} rooms" for count in range(rooms_in_all)), "all, and on"]
    lines = [head, ["---"] * len(head)]
    for method, found in by_method.items():
        layouts, returns, rooms, cleared = (np.concatenate(column) for column in zip(*found))
        for layout in (*range(LAYOUTS), "all"):
            here = (layouts == layout) | (layout == "all")
            shares = [((rooms == count) & (cleared == 0))[here].mean() for count in range(rooms_in_all)]
            numbers = [f"{share:.0%}" for share in (*shares, (cleared > 0)[here].mean())]
            lines.append([methods.named(method).label, str(layout), f"{returns[here].mean():.2f}", *numbers])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    cli.guarded(main, "layouts")
