"""Draw every figure and table of this folder again from its JSON.

    python results/draw.py

`main/`, `recurrent/` and `ablations/` hold what `torch_mars.plot` makes; the ablations stand beside the first 2M steps
of the three methods, which are the same trainings, cut short. `bootstrap.md` compares `bootstrap/` with them.
`tasks.md` is the table of all 47 tasks, `tasks/<environment>/` what is behind it, and `order/` the methods beside one
another on the tasks with enough seeds: all from `tasks/<environment>/*.json`, which `landing.py` writes, and from
`random.json`. `symmetry/` has the ablations at one strength, `paper_preset/` the paper's settings and `tuning/` those
that were found with equal effort, from what `torch_mars.plot --means` wrote there; `precision/` puts bfloat16 beside
float32.
"""

import json
import tempfile
from pathlib import Path

import cells
import matplotlib
import numpy as np
import precision
import tuned

from torch_mars import envs
from torch_mars.protocol import figures, gather, intervals, methods, report, saved, tables
from torch_mars.run import cli
from torch_mars.run.files import write_whole

HERE = Path(__file__).parent
TASK, ABLATION_STEPS, ABLATION_SEEDS = "paxmen_5a", 2_000_000, range(10, 13)
COMPARED = {  # folder -> methods that stand beside one another on its page
    "symmetry": (
        ("mars_multiplicative", "mars_additive"),
        ("maspo_asymmetric", "maspo"),
        ("mappo_asymmetric", "mappo"),
        ("mars_multiplicative", "maspo"),
    ),
    **dict.fromkeys(("paper_preset", "tuning"), (("maspo", "mappo"), ("mars", "mappo"), ("mars", "maspo"))),
}


def evaluations(folder: str) -> saved.Nested:
    return saved.read_nested(HERE / folder / saved.EVALUATIONS)


def cut_short(by_seed: dict[str, dict]) -> dict[str, dict]:
    """The seeds of the ablations, up to their last step."""
    names = [f"run_{seed}" for seed in ABLATION_SEEDS]
    return {name: cells.up_to(by_seed[name], ABLATION_STEPS) for name in names}


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


def draw_compared(name: str) -> None:
    """A comparison with a page of its own: curves, ratios, and two tables within the page."""
    folder = HERE / name
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        report.plot([folder / saved.EVALUATIONS], drawn)
        for path in (*drawn.glob("curves_*.png"), *drawn.glob("ratios_*.png")):
            write_whole(folder / path.name, path.read_bytes())
    page = (folder / "README.md").read_text()
    for mark, table in tables_of(name).items():
        page = with_table(page, mark, table)
    write_whole(folder / "README.md", page.encode())


def tables_of(folder: str) -> dict[str, str]:
    """Those of a comparison's page, by their marks."""
    with methods.labelled(json.loads((HERE / folder / gather.LABELS).read_text())):
        own = tuned.tables() if folder == "tuning" else {}
        return {"table": returns_table(folder), "comparisons": comparisons_table(folder), **own}


def returns_table(folder: str) -> str:
    """Final returns of the methods, how often they reach what counts, and their ratios."""
    nested, ratios = evaluations(folder), json.loads((HERE / folder / gather.RATIOS).read_text())
    lines = [["task", "method", "seeds", "return", "", "ratios: usual, extremes"]]
    for task in tables.tasks_of(nested):
        metric, what = cells.HEADLINES[task.environment]
        for name, curves in task.curves.items():
            least, most = cells.ratios_of(ratios[task.name][name])
            lines.append(
                [
                    *(task.name, methods.named(name).label, str(curves.seeds), cells.mean_of(curves.final)),
                    f"{what}: {cells.last_of(nested[task.environment][task.name][name], metric):.2f}",
                    f"{np.median(least):.2f} to {np.median(most):.2f}, {least.min():.2g} to {most.max():.3g}",
                ]
            )
    return cells.grid(lines)


def comparisons_table(folder: str) -> str:
    """Of pairs of methods: the share of pairs of seeds in which the first ends higher, and p that they are the same."""
    lines = [["task", "", "ends higher in", "p"]]
    for task in tables.tasks_of(evaluations(folder)):
        for names in (pair for pair in COMPARED[folder] if set(pair) <= set(task.curves)):
            one, other = ([task.curves[name].final] for name in names)
            share, p = intervals.probability_of_improvement(one, other), intervals.permutation_p(one, other)
            labels = " over ".join(methods.named(name).label for name in names)
            lines.append([task.name, labels, f"{share:.2f}", f"{p:.2g}"])
    return cells.grid(lines)


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


def draw_cells() -> None:
    """The table of all tasks, and of every environment what has landed: its page and its curves."""
    (HERE / "tasks.md").write_text(cells.tasks_page())
    for environment in envs.ENVIRONMENTS:
        found = tables.tasks_of({environment: cells.evaluations(environment)})
        if found:
            folder = cells.FOLDER / environment
            (folder / "README.md").write_text(cells.page(environment))
            with matplotlib.rc_context(figures.STYLE), methods.labelled(cells.LABELS):
                figures.learning_curves(found, cells.diverged(environment)).savefig(folder / "curves.png")


def draw_order() -> None:
    """The methods beside one another on the tasks that have enough seeds, and the same in README.md, with the
    minutes of all cells."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / saved.EVALUATIONS
        gather.save(cells.of_order(), path)
        gather.save(cells.LABELS, path.with_name(gather.LABELS))
        report.plot([path], Path(folder))
        (HERE / "order").mkdir(exist_ok=True)
        for name in ("table1.md", "iqm.png", "improvement.png"):
            write_whole(HERE / "order" / name, (Path(folder) / name).read_bytes())
    page = HERE / "README.md"
    text = with_table(page.read_text(), "order", cells.order_table())
    write_whole(page, with_table(text, "minutes", cells.minutes()).encode())


def with_table(page: str, name: str, table: str) -> str:
    """The page with the table in the place of the one between its two marks."""
    begin, end = f"<!-- {name}: made by draw.py -->\n", f"<!-- end of {name} -->"
    before, rest = page.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def main() -> int:
    draw_cells()
    draw_order()
    for folder in ("main", "recurrent"):
        report.plot([HERE / folder / saved.EVALUATIONS], HERE / folder)
    draw_ablations()
    for name in COMPARED:
        draw_compared(name)
    (HERE / "bootstrap.md").write_text(bootstrap_table())
    page = HERE / "precision" / "README.md"
    write_whole(page, with_table(page.read_text(), "table", precision.table()).encode())
    return 0


if __name__ == "__main__":
    cli.guarded(main, "draw")
