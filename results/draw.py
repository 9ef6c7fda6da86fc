"""Draw every figure and table of this folder again from its JSON.

    python results/draw.py

`main/`, `recurrent/` and `ablations/` hold what `torch_mars.plot` makes; the ablations stand beside the first 2M steps
of the three methods, which are the same trainings, cut short. `bootstrap.md` compares `bootstrap/` with them.
`tasks.md` is the table of all 47 tasks, from `tasks/<environment>/evaluations.json` and `random.json`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from torch_mars import envs
from torch_mars.protocol import gather, intervals, methods, report, saved
from torch_mars.run import cli

HERE = Path(__file__).parent
TASK, ABLATION_STEPS, ABLATION_SEEDS = "paxmen_5a", 2_000_000, range(10, 13)
THREE = ("mappo", "maspo", "mars")
# of each environment the metric that says best how well a team does, and what it is
HEADLINES = {
    "paxmen": ("rooms_eaten_in", "rooms eaten in"),
    "aerojax": ("won", "won"),
    "jaxnav": ("goal_rate", "goals a robot"),
    "search_and_rescue": ("found_fraction", "targets found"),
    "connector": ("connected_ratio", "agents connected"),
    "mpe": ("coverage", "landmarks covered"),
    "rware": ("deliveries", "deliveries"),
    "smax": ("won", "won"),
}
KNOWN = {"paxmen_5a": "110 to 120 (script)", "search_and_rescue_2x20": "6.9 (simple rule)"}  # returns, by task,
MOST = {"smax": "2 (most)", "aerojax": "2 (most)"}  # and by environment: every battle won, nobody lost


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


def tasks_table() -> str:
    """Every task: returns of random play, of scripts or the most that is possible, and of three methods."""
    trained = {path.parent.name: evaluations(f"tasks/{path.parent.name}") for path in HERE.glob("tasks/*/*.json")}
    random = json.loads((HERE / "random.json").read_text())
    lines = []
    for task in envs.TASKS:
        environment = envs.family(task)
        by_method = trained.get(environment, {}).get(environment, {}).get(task, {})
        cells = [returns_of(by_method[method]) if method in by_method else "" for method in THREE]
        steps = {str(last_step(one)) for by_seed in by_method.values() for one in by_seed.values()}
        metric, what = HEADLINES[environment]
        shares = [f"{random[task][metric]['mean']:.2f}"]
        shares += [f"{last_of(by_method[m], metric):.2f}" if m in by_method else "-" for m in THREE]
        known = KNOWN.get(task, MOST.get(environment, ""))
        by_chance = f"{random[task]['episode_return']['mean']:.2f}"
        lines.append([task, ", ".join(sorted(steps)), by_chance, known, *cells, f"{what}: {', '.join(shares)}"])
    head = ["task", "steps", "random", "known", *(methods.named(name).label for name in THREE), "random, the three"]
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


def returns_of(by_seed: dict[str, dict]) -> str:
    """Mean over seeds of the final returns, the least and the most of them."""
    final = gather.curves(by_seed).final
    return f"{final.mean():.2f} ({final.min():.2f} to {final.max():.2f})"


def last_step(evaluations: dict[str, Any]) -> int:
    return max(evaluations[name]["step_count"] for name in saved.steps_of(evaluations))


def last_of(by_seed: dict[str, dict], metric: str) -> float:
    """A metric as returns are scored: mean over the last fifth of the evaluations, and over seeds."""
    scores = []
    for one in by_seed.values():
        ordered = sorted((one[name] for name in saved.steps_of(one)), key=lambda evaluation: evaluation["step_count"])
        scores.append(intervals.final_score([float(np.mean(evaluation[metric])) for evaluation in ordered]))
    return float(np.mean(scores))


def main() -> int:
    (HERE / "tasks.md").write_text(tasks_table())
    for folder in ("main", "recurrent"):
        report.plot([HERE / folder / saved.EVALUATIONS], HERE / folder)
    draw_ablations()
    (HERE / "bootstrap.md").write_text(bootstrap_table())
    return 0


if __name__ == "__main__":
    cli.guarded(main, "draw")
