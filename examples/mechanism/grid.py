"""Many seeds of objectives that differ in one thing: their tails, or their strength and learning rates.

    python examples/mechanism/grid.py tails --envs paxmen_5a --seeds 10 --total-steps 3M --out figures/tails
    python examples/mechanism/grid.py strengths --envs paxmen_5a --seeds 5 --total-steps 1M --out figures/strengths
    python examples/mechanism/grid.py slow --envs paxmen_5a --seeds 5 --total-steps 1M --out figures/slow

What stands behind the grid's name is what `torch-mars experiment` takes: --workers, --devices, --dry-run, and so
on; the same line again goes on, and several of it share the work. `--algos` names some of the arms. `runs.json` in the
folder `--out` says of every seed that is done how it ended, what its updates were like, the policy's entropy over the
last fifth of them, and its curve.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import experiment
from torch_mars.protocol import gather, methods
from torch_mars.protocol.grids import Cell
from torch_mars.protocol.intervals import final_score
from torch_mars.protocol.methods import Method
from torch_mars.run import settings
from torch_mars.run.cli import UsageError, guarded, make_folder
from torch_mars.run.files import to_json, write_whole

TAILS = Path(__file__).with_name("tails.py")
# task -> the strength of all arms, and ratios between which 98% of the samples of an update by MASPO of this strength
# lie, the median of five by fork.py
BANDS = {"paxmen_5a": (0.4, 0.97, 1.03), "jaxnav_7x7x2a": (0.9, 0.84, 1.17)}
# arm -> core, lower and upper tail; whole methods are the lessons themselves
ARMS = {
    "maspo_mars": ("maspo", "mars", "mars"),
    "mars_maspo": ("mars", "maspo", "maspo"),
    "mars_low": ("mars", "mars", "none"),
    "mars_none": ("mars", "none", "none"),
    "mappo_mars": ("mappo", "mars", "mars"),
    "linear": ("linear", "linear", "linear"),
    "mars_mirrored": ("mars", "mirrored", "mirrored"),
}
LESSONS = {"mappo": "clip", "maspo": "clip", "mars": "expand"}  # and their setting of the trust region
STRENGTHS, RATES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9), (1.0, 0.5)  # and shares of both learning rates
CLIP, SLOW = 0.4, (0.2, 0.1)  # and shares of the actor's
LOGGED = ("approx_kl", "ratio_min", "ratio_q01", "ratio_q99", "ratio_max", "frac_no_force")


def arm(name: str, lesson: str, given: dict[str, Any], source: str | None = None) -> None:
    """Make a lesson with some settings a method, of which `experiment` trains many seeds."""

    def is_of(said: Mapping[str, Any]) -> bool:
        return all(said.get(name) == value for name, value in given.items())

    methods.register(Method(name, name, lesson, given, is_of=is_of, source=source))


def usual(lesson: str, task: str, setting: str) -> float:
    """What a lesson is trained with on a task."""
    method = methods.named(lesson)
    args = settings.resolve(method.args, method.module.ratio_range, lesson, {"env": task})
    return getattr(args, setting)


def tails(task: str) -> list[str]:
    """One method's core with another's tails, and two whole methods, all of one strength."""
    if task not in BANDS:
        raise UsageError(f"--envs: the band of {task} is not known; find it with fork.py and write it into BANDS")
    strength, low, high = BANDS[task]
    for name, (core, below, above) in ARMS.items():
        pieces = {"core": core, "tail_low": below, "tail_high": above}
        arm(name, "tails", {**pieces, "strength": strength, "band_low": low, "band_high": high}, str(TAILS))
    whole = {f"{lesson}_whole": lesson for lesson in ("mars", "maspo")}
    for name, lesson in whole.items():
        setting = LESSONS[lesson]
        arm(name, lesson, {setting: methods.matched(strength)[setting]})
    return [*ARMS, *whole]


def strengths(task: str) -> list[str]:
    """Three methods at matched strengths, with the task's learning rates and lower ones."""
    names = []
    for rate in RATES:
        for strength in STRENGTHS:
            matched = methods.matched(strength)
            for lesson, setting in LESSONS.items():
                rates = {name: rate * usual(lesson, task, name) for name in ("actor_lr", "critic_lr")}
                names.append(f"{lesson}_s{strength}_lr{rate}")
                arm(names[-1], lesson, {setting: matched[setting], **rates})
    return names


def slow(task: str) -> list[str]:
    """MAPPO with an actor that learns so slowly that its updates go as far, in KL, as MARS's and MASPO's."""
    names = [f"mappo_s{CLIP}_actor{rate}" for rate in SLOW]
    for name, rate in zip(names, SLOW):
        arm(name, "mappo", {"clip": CLIP, "actor_lr": rate * usual("mappo", task, "actor_lr")})
    return names


GRIDS = {"tails": tails, "strengths": strengths, "slow": slow}


def told(cell: Cell, run_dir: Path) -> list[dict[str, Any]]:
    """Of every seed that is done: how it ended, medians over its updates, and its curve."""
    found = []
    for run in (run for run in cell.runs(run_dir) if run.is_finished()):
        evaluations, updates = run.evaluations(), run.updates_of((*LOGGED, "entropy"))
        ends = dict(zip(evaluations, gather.curves(evaluations).final))
        for seed in (seed for seed in run.seeds if seed in cell.seeds):
            steps, returns = gather.evaluation_means(evaluations[f"run_{seed}"])
            medians = dict(zip(LOGGED, np.median(updates[seed][:, 1:-1], 0).tolist()))
            found.append(
                {
                    "task": cell.task, "arm": cell.method.name, "seed": seed,
                    "total_steps": run.settings["total_steps"], "device": run.settings["device"],
                    "final": float(ends[f"run_{seed}"]), "median_of_updates": medians,
                    "last_entropy": final_score(updates[seed][:, -1]),
                    "seconds": run.last_update()["seconds"] / len(run.seeds),
                    "curve": {"step": steps.tolist(), "return": returns.round(3).tolist()},
                }
            )  # fmt: skip
    return found


def line_of(argv: list[str]) -> list[str]:
    """What `experiment` is told. What was typed stands last, so that it counts."""
    if not argv or argv[0] not in GRIDS:
        problem = f"say which grid: {', '.join(GRIDS)}; then what torch-mars experiment takes, see {__file__}"
        raise UsageError(problem)
    typed = argv[1:]
    names = GRIDS[argv[0]](experiment.make_parser().parse_args(typed).envs)
    return ["--algos", ",".join(names), "--preset", "ours", "--no-plot", *typed]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    line = line_of(argv)
    code = experiment.main(line)
    grid, args = experiment.prepared(line)
    found = [one for cell in grid for one in told(cell, Path(args.run_dir))]
    if found and not args.dry_run:
        path = make_folder(Path(args.out), "--out") / "runs.json"
        write_whole(path, to_json(found).encode())
        print(path)
    return code


if __name__ == "__main__":
    guarded(main, "grid")
