"""Choose each method's trust region on PaxMen 5a: five candidates, two seeds of 1M environment steps for each.

    python results/targets.py [--run-dir runs/targets]

Trains what is not yet trained, and writes `targets.md`. A candidate's score is that of tuning: the mean return over the
last fifth of the evaluations. The seeds are tuning's, 0 and 1; results have others.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

from torch_mars.protocol import gather, methods, saved
from torch_mars.run import cli, settings

HERE = Path(__file__).parent
TASK, SEEDS, STEPS = "paxmen_5a", 2, 1_000_000
CLIPS = [{"clip": clip} for clip in (0.05, 0.1, 0.2, 0.3, 0.5)]
TARGETS = [(1.3, None), (1.5, None), (2.0, None), (1.5, 0.5), (2.0, 0.6666666667)]
CANDIDATES = {
    "mappo": CLIPS,
    "maspo": CLIPS,
    "mars": [{"expand": expand, "contract": contract} for expand, contract in TARGETS],
}


def find(run_dir: Path, lesson: str, given: dict) -> saved.SavedRun | None:
    """A finished run with exactly these settings and the present defaults for all others."""
    module = methods.named(lesson).module
    wanted = dataclasses.asdict(settings.resolve(module.Args, module.ratio_range, lesson, given))
    for folder in sorted((run_dir / TASK / lesson).glob("*/config.yaml")):
        run = saved.open_run(folder.parent)
        own = {**dataclasses.asdict(module.Args()), **run.settings}
        same = all(own[k] == v for k, v in wanted.items() if k not in (*gather.MAY_DIFFER, "config", "resume"))
        if same and list(run.seeds) == list(range(SEEDS)) and run.is_finished():
            return run
    return None


def train(run_dir: Path, lesson: str, candidate: dict) -> saved.SavedRun:
    """The run of a candidate; trained if there is none."""
    given = {"env": TASK, "num_seeds": SEEDS, "total_steps": STEPS, "run_dir": str(run_dir), **candidate}
    run = find(run_dir, lesson, given)
    if run is None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        done = subprocess.run([sys.executable, "-m", f"torch_mars.algos.{lesson}", *flags])
        run = find(run_dir, lesson, given)
        if run is None:
            raise cli.RunError(f"{lesson} with {candidate} did not finish (exit code {done.returncode})")
    return run


def table(found: dict[str, list[saved.SavedRun]]) -> str:
    """Scores of the seeds and their mean, best first within a method."""
    lines = ["| method | settings | seed 0 | seed 1 | mean |", "|---|---|---|---|---|"]
    for lesson, candidates in CANDIDATES.items():
        scores = [gather.curves(run.evaluations()).final for run in found[lesson]]
        for candidate, score in sorted(zip(candidates, scores), key=lambda pair: -pair[1].mean()):
            text = ", ".join(f"{name} {value:.4g}" for name, value in candidate.items() if value is not None)
            numbers = " | ".join(f"{number:.2f}" for number in (*score, score.mean()))
            lines.append(f"| {methods.named(lesson).label} | {text} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = cli.Parser(prog="targets", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/targets"))
    run_dir = parser.parse_args().run_dir
    found = {lesson: [train(run_dir, lesson, one) for one in candidates] for lesson, candidates in CANDIDATES.items()}
    text = table(found)
    (HERE / "targets.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    cli.guarded(main, "targets")
