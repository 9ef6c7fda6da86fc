"""Choose each method's trust region on PaxMen 5a: five candidates, two seeds of 1M environment steps for each.

    python results/targets.py [--run-dir runs/targets]

Trains what is not yet trained, and writes `targets.md`. A candidate's score is that of tuning: the mean return over the
last fifth of the evaluations. The seeds are tuning's, 0 and 1; results have others.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from torch_mars import results

HERE = Path(__file__).parent
TASK, SEEDS, STEPS = "paxmen_5a", 2, "1M"
CANDIDATES = {
    "mappo": ["--clip 0.05", "--clip 0.1", "--clip 0.2", "--clip 0.3", "--clip 0.5"],
    "maspo": ["--clip 0.05", "--clip 0.1", "--clip 0.2", "--clip 0.3", "--clip 0.5"],
    "mars": [
        "--expand 1.3", "--expand 1.5", "--expand 2",
        "--expand 1.5 --contract 0.5", "--expand 2 --contract 0.6666666667",
    ],
}  # fmt: skip


def train(run_dir: Path, lesson: str, flags: str) -> Path:
    """The finished run of a candidate; trained if there is none."""
    name = "".join(letter for letter in flags if letter.isalnum() or letter == ".")
    folders = (run_dir / TASK / lesson).glob(f"*-{name}")
    finished = [folder for folder in folders if results.open_run(folder).is_finished()]
    if not finished:
        common = f"--env {TASK} --num-seeds {SEEDS} --total-steps {STEPS} --run-dir {run_dir} --name {name}"
        subprocess.run([sys.executable, "-m", f"torch_mars.algos.{lesson}", *f"{common} {flags}".split()], check=True)
        return train(run_dir, lesson, flags)
    return finished[0]


def table(runs: dict[str, results.SavedRun]) -> str:
    """Candidate -> run, as scores of the seeds and their mean, best first within a method."""
    lines = ["| candidate | seed 0 | seed 1 | mean |", "|---|---|---|---|"]
    for lesson in CANDIDATES:
        own = {name: run.evaluations() for name, run in runs.items() if run.lesson == lesson}
        scores = {name: results.curves(evaluations).final for name, evaluations in own.items()}
        for name in sorted(scores, key=lambda name: -scores[name].mean()):
            numbers = " | ".join(f"{score:.2f}" for score in (*scores[name], scores[name].mean()))
            lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, default=Path("runs/targets"))
    run_dir = parser.parse_args().run_dir
    runs = {
        f"{lesson} {flags}": results.open_run(train(run_dir, lesson, flags))
        for lesson, candidates in CANDIDATES.items()
        for flags in candidates
    }
    (HERE / "targets.md").write_text(table(runs))
    print(table(runs))


if __name__ == "__main__":
    main()
