"""Install the best team of each environment with the package: its policy becomes `torch_mars/teams/<task>.pt`.

    python results/teams.py RUNS... [--tasks paxmen_5a,aerojax_2v2]

Best is the training seed, of MAPPO, MASPO or MARS, with the highest mean return of its absolute metric: the best policy
of its training, measured again over 320 new episodes.
"""

from pathlib import Path

import numpy as np

import torch_mars
from torch_mars.protocol import methods, saved
from torch_mars.run import cli, files
from torch_mars.run.cli import Parser, UsageError
from torch_mars.run.finding import TEAMS

TASKS = (  # with a team
    *("paxmen_5a", "paxmen_4a", "aerojax_2v2", "jaxnav_7x7x2a", "search_and_rescue_2x20", "connector_5x5x3a"),
    *("simple_spread_3ag", "rware_tiny_2ag", "smax_2s3z"),
)
# of a run's settings, to its policy
MATTERS = (
    *("seed", "num_seeds", "hidden_size", "env_options", "total_steps"),
    *("shared_policy", "agent_id", "normalise_obs", "method"),  # where it has them
)


def best_of(task: str, found: list[saved.SavedRun]) -> tuple[float, saved.SavedRun, int]:
    """Return, run and training seed; of runs on the task as it is, without options of their own."""
    candidates = [
        (float(np.mean(evaluations["absolute_metrics"]["episode_return"])), run, int(name.removeprefix("run_")))
        for run in found
        if run.method.name in methods.MAIN
        and run.task == task
        and not run.settings["env_options"]
        and run.is_finished()
        for name, evaluations in run.evaluations().items()
    ]
    if not candidates:
        raise UsageError(f"there is no finished run on {task}")
    return max(candidates, key=lambda candidate: candidate[0])


def install(run: saved.SavedRun, seed: int) -> Path:
    """The policy of one training seed, alone, where `load_policy` finds it by the task's name."""
    content = files.load_checkpoint(run.folder / files.POLICY)
    place = run.seeds.index(seed)
    content["actor"] = {name: weight[place : place + 1].clone() for name, weight in content["actor"].items()}
    content["returns"] = [float(content["returns"][place])]
    settings = {**content["settings"], "seed": seed, "num_seeds": 1}
    content["settings"] = {name: settings[name] for name in MATTERS if name in settings}
    TEAMS.mkdir(exist_ok=True)
    files.save_checkpoint(TEAMS / f"{run.task}.pt", content)
    return TEAMS / f"{run.task}.pt"


def main() -> int:
    parser = Parser(prog="teams", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--tasks", default=",".join(TASKS))
    args = parser.parse_args()
    found = saved.find_runs(args.runs)
    for task in args.tasks.split(","):
        score, run, seed = best_of(task, found)
        path = install(run, seed)
        print(f"{task}: {run.method.label}, seed {seed}, return {score:.2f}: {path}, {path.stat().st_size:,} bytes")
        torch_mars.load_policy(task)
    return 0


if __name__ == "__main__":
    cli.guarded(main, "teams")
