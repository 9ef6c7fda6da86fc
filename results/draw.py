"""Draw every figure and table of this folder again from its JSON.

    python results/draw.py

`main/`, `recurrent/` and `ablations/` hold what `torch_mars.plot` makes; the ablations stand beside the first 2M steps
of the three methods, which are the same trainings, cut short. `bootstrap.md` compares `bootstrap/` with them.
"""

import tempfile
from pathlib import Path

import numpy as np

from torch_mars.protocol import gather, methods, report, saved
from torch_mars.run import cli

HERE = Path(__file__).parent
TASK, ABLATION_STEPS, ABLATION_SEEDS = "paxmen_5a", 2_000_000, range(10, 13)


def evaluations(folder: str) -> saved.Nested:
    return saved.read_nested(HERE / folder / saved.EVALUATIONS)


def cut_short(by_seed: dict[str, dict]) -> dict[str, dict]:
    """The seeds of the ablations, up to their last step; without the best policy, which is one of the whole run."""
    return {
        f"run_{seed}": {
            name: step
            for name, step in by_seed[f"run_{seed}"].items()
            if step.get("step_count", np.inf) <= ABLATION_STEPS
        }
        for seed in ABLATION_SEEDS
    }


def three_methods_cut_short() -> dict[str, dict[str, dict]]:
    return {method: cut_short(by_seed) for method, by_seed in evaluations("main")["paxmen"][TASK].items()}


def draw_ablations() -> None:
    own = evaluations("ablations")["paxmen"][TASK]
    together = three_methods_cut_short() | {method: own[method] for method in methods.ABLATIONS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / saved.EVALUATIONS
        gather.save({"paxmen": {TASK: together}}, path)
        for name in (gather.RATIOS, gather.LABELS):
            (Path(folder) / name).write_bytes((HERE / "ablations" / name).read_bytes())
        report.plot([path], HERE / "ablations")


def bootstrap_table() -> str:
    """Final scores with a time limit as an end, and with `--bootstrap-truncation`: means, and each seed's."""
    lines = ["| method | time limit is an end | bootstrapped |", "|---|---|---|"]
    without = three_methods_cut_short()
    for method, by_seed in evaluations("bootstrap")["paxmen"][TASK].items():
        ends, goes_on = (gather.curves(curves).final for curves in (without[method], by_seed))
        seeds = [", ".join(f"{score:.2f}" for score in scores) for scores in (ends, goes_on)]
        label = methods.INVERSE_LABEL if method == "mars" else methods.named(method).label
        lines.append(f"| {label} | {ends.mean():.2f} ({seeds[0]}) | {goes_on.mean():.2f} ({seeds[1]}) |")
    return "\n".join(lines) + "\n"


def main() -> int:
    for folder in ("main", "recurrent"):
        report.plot([HERE / folder / saved.EVALUATIONS], HERE / folder)
    draw_ablations()
    (HERE / "bootstrap.md").write_text(bootstrap_table())
    return 0


if __name__ == "__main__":
    cli.guarded(main, "draw")
