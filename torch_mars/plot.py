"""From runs to the paper's figures and tables.

    python -m torch_mars.plot runs --out figures

Curves are returns of evaluation episodes over environment steps (of one seed; agents are not counted). An environment's
score is the interquartile mean over its tasks and seeds of min-max normalised returns; all intervals are 95%, by
stratified bootstrap over seeds (`torch_mars.statistics`). Every method keeps its colour and line style in all figures.
"""

import csv
import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_mars import methods, results, runs, statistics
from torch_mars.config import Parser, UsageError
from torch_mars.methods import METHODS, Method
from torch_mars.results import Curves, Nested, Ratios, SavedRun, note
from torch_mars.statistics import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "rware": "RWARE", "smax": "SMAX", "connector": "Connector", "mpe": "MPE", "paxmen": "PaxMen", "aerojax": "AeroJAX",
    "jaxnav": "JaxNav", "search_and_rescue": "Search & Rescue", "all": "all environments",
}  # fmt: skip
WIDTH = 7.0  # inches: a page's text
PANEL_HEIGHT = 2.0
DPI = 200
STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "axes.titlesize": 8, "legend.frameon": False, "lines.linewidth": 1.4, "lines.dash_capstyle": "butt",
    "pdf.fonttype": 42,  # letters as letters, which journals ask for
}  # fmt: skip
FLOOR_OF_SEEDS = 5  # below, an interval says little (Agarwal et al. 2021)


def need_matplotlib() -> None:
    """UsageError where it is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UsageError("figures need matplotlib: pip install 'torch_mars[plots]'") from None


# ---- what is compared ----


@dataclass(frozen=True)
class Task:
    """One task: its methods' curves, and the range that normalises them."""

    environment: str
    name: str
    curves: dict[str, Curves]  # by method
    low: float
    high: float

    def normalised(self, values: np.ndarray) -> np.ndarray:
        return statistics.normalise(values, self.low, self.high)


@dataclass(frozen=True)
class Comparison:
    """Methods over the tasks of an environment (or of all): only tasks that every one of the methods has."""

    environment: str
    methods: list[str]
    tasks: list[Task]

    def final(self, method: str) -> Scores:
        """Normalised final scores: one array [seeds] per task."""
        return [task.normalised(task.curves[method].final) for task in self.tasks]

    def absolute(self, method: str) -> Scores | None:
        """The same of the best policies measured again; None where one is missing."""
        found = [task.curves[method].absolute for task in self.tasks]
        if any(scores is None for scores in found):
            return None
        return [task.normalised(scores) for task, scores in zip(self.tasks, found)]

    def curve(self, method: str) -> tuple[np.ndarray, Scores]:
        """Steps [points] and normalised returns, one array [seeds, points] per task."""
        lines = [(task.curves[method].steps, task.normalised(task.curves[method].returns)) for task in self.tasks]
        return results.on_common_steps(lines)


def tasks_of(nested: Nested) -> list[Task]:
    """Every task with its methods in the order of `METHODS`."""
    found = []
    for environment, by_task in nested.items():
        for name, by_method in by_task.items():
            means = [results.evaluation_means(run)[1] for seeds in by_method.values() for run in seeds.values()]
            curves = {method: results.curves(by_method[method]) for method in METHODS if method in by_method}
            low, high = min(map(np.min, means)), max(map(np.max, means))
            found.append(Task(environment, name, curves, float(low), float(high)))
    return found


def comparisons(tasks: list[Task], among: Sequence[str]) -> list[Comparison]:
    """Those of `among` that any task has, over each environment's common tasks; with several environments, over all."""
    present = [method for method in among if any(method in task.curves for task in tasks)]
    found = []
    for environment in dict.fromkeys(task.environment for task in tasks):
        here = [task for task in tasks if task.environment == environment and task.curves.keys() & present]
        common = [task for task in here if task.curves.keys() >= set(present)]
        if here and not common:
            which = "; ".join(f"{m}: {', '.join(t.name for t in here if m in t.curves) or 'none'}" for m in present)
            note(f"{environment}: no task has runs of every method ({which}), so they cannot be compared there")
        elif len(common) < len(here):
            left_out = ", ".join(task.name for task in here if task not in common)
            note(f"{environment}: methods are compared without {left_out}, which some of them lack")
        if common:
            found.append(Comparison(environment, present, common))
    if len(found) > 1:
        found.append(Comparison("all", present, [task for comparison in found for task in comparison.tasks]))
    return found


# ---- tables ----


def rows(compared: list[Comparison]) -> Iterator[dict[str, Any]]:
    """One row per environment, score and method: IQM of the normalised score, with its interval."""
    for comparison in compared:
        for score, scores_of in (("final", comparison.final), ("absolute", comparison.absolute)):
            for method in comparison.methods:
                scores = scores_of(method)
                if scores is None:
                    continue
                low, high = statistics.iqm_interval(scores)
                yield {
                    "environment": comparison.environment,
                    "score": score,
                    "method": method,
                    "tasks": len(scores),
                    "seeds": min(map(len, scores)),
                    "iqm": float(statistics.overall_iqm(scores)),
                    "low": float(low),
                    "high": float(high),
                }


def improvements(compared: list[Comparison], x: str = "mars") -> Iterator[dict[str, Any]]:
    """One row per environment and method Y other than X: P(X > Y) of the final scores, with its interval."""
    for comparison in compared:
        for y in comparison.methods if x in comparison.methods else ():
            if y != x:
                scores = comparison.final(x), comparison.final(y)
                low, high = statistics.improvement_interval(*scores)
                value = statistics.probability_of_improvement(*scores)
                yield {"environment": comparison.environment, "x": x, "y": y, "p": value, "low": low, "high": high}


def task_rows(tasks: list[Task], among: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row per task and method: mean final return over seeds, in the task's own units, with its interval."""
    for task in tasks:
        for method in among:
            if method in task.curves:
                curves = task.curves[method]
                low, high = statistics.mean_interval(curves.final, statistics.TABLE_REPLICATES)
                yield {
                    "environment": task.environment,
                    "task": task.name,
                    "method": method,
                    "seeds": curves.seeds,
                    "mean": float(curves.final.mean()),
                    "low": float(low),
                    "high": float(high),
                    "absolute": "" if curves.absolute is None else float(curves.absolute.mean()),
                }


def as_csv(table: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in table)
    return text.getvalue()


def as_markdown(
    title: str, scores: list[dict[str, Any]], better: list[dict[str, Any]], per_task: list[dict[str, Any]]
) -> str:
    """The paper's Table 1 and what belongs to it, as one page."""
    present = list(dict.fromkeys(row["method"] for row in per_task))
    parts = [
        f"# {title}",
        "Interquartile mean over tasks and seeds of the min-max normalised return, with 95% intervals from "
        f"{statistics.TABLE_REPLICATES:,} stratified bootstrap replicates; the highest of a row is bold. "
        "Returns are normalised per task with the smallest and largest over all methods, seeds and evaluations.",
    ]
    for score, heading in (("final", "Last fifth of the evaluations"), ("absolute", "Best policy, measured again")):
        chosen = [row for row in scores if row["score"] == score]
        if chosen:
            parts += [f"## {heading}", _grid(chosen, "environment", "iqm", present, ("tasks", "seeds"))]
    if better:
        parts += [
            "## Probability of improvement",
            "Share of pairs of seeds in which X ends higher than Y, mean over tasks; bold: the interval is above 0.5.",
        ]
        pairs = [{**row, "method": f"P({METHODS[row['x']].label} > {METHODS[row['y']].label})"} for row in better]
        heads = list(dict.fromkeys(row["method"] for row in pairs))
        parts.append(_grid(pairs, "environment", "p", heads, (), is_bold=lambda row, _: row["low"] > 0.5))
    parts += ["## Final return per task", _grid(per_task, "task", "mean", present, ("seeds",))]
    return "\n\n".join(parts) + "\n"


def _grid(
    table: list[dict[str, Any]],
    key: str,
    value: str,
    columns: list[str],
    extra: tuple[str, ...],
    is_bold: Callable[[dict, list[dict]], bool] = lambda row, line: all(row["bold_by"] >= r["bold_by"] for r in line),
) -> str:
    """A Markdown table: one line per `key`, one column per method, cells `value [low, high]`."""
    heads = [METHODS[c].label if c in METHODS else c for c in columns]
    lines = [f"| {' | '.join([key, *extra, *heads])} |", "|" + "---|" * (1 + len(extra) + len(heads))]
    for name in dict.fromkeys(row[key] for row in table):
        line = [{**row, "bold_by": row[value]} for row in table if row[key] == name]
        cells = {}
        for row in line:
            text = f"{row[value]:.2f}"
            text = f"**{text}**" if is_bold(row, line) else text
            cells[row["method"]] = text if np.isnan(row["low"]) else f"{text} [{row['low']:.2f}, {row['high']:.2f}]"
        first = [TITLES.get(name, name), *(str(min(row[e] for row in line)) for e in extra)]
        lines.append(f"| {' | '.join([*first, *(cells.get(column, '') for column in columns)])} |")
    return "\n".join(lines)


# ---- figures ----


def panels(count: int, height: float = PANEL_HEIGHT) -> "tuple[Figure, list[Axes]]":
    """A figure of a page's width with `count` axes, row by row."""
    from matplotlib.figure import Figure

    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    lines = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * lines + 0.45), dpi=DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def line_style(method: Method) -> dict[str, Any]:
    return {"color": method.colour, "linestyle": (0, method.dashes) if method.dashes else "-"}


def draw_line(axis: "Axes", name: str, x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """A method's curve and interval; a single point is a dot."""
    method = METHODS[name]
    marker = "o" if len(x) == 1 else None
    axis.plot(
        x, y, label=method.label, marker=marker, markersize=3, zorder=3 if name == "mars" else 2, **line_style(method)
    )
    axis.fill_between(x, low, high, color=method.colour, alpha=0.18, linewidth=0)


def count_steps(axis: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set_xlabel("environment steps")


def add_legend(figure: "Figure", axes: "list[Axes]", title: str | None = None) -> None:
    """One legend above all panels, with every method once."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    order = [method.label for method in METHODS.values() if method.label in found]
    order += [label for label in found if label not in order]
    handles = [found[label] for label in order]
    columns = len(order) if len(order) <= 4 else 3
    figure.legend(handles, order, loc="outside upper center", ncols=columns, handlelength=3.2, title=title)


def learning_curves(tasks: list[Task]) -> "Figure":
    """Mean return over seeds and its interval: a panel for each task of one environment."""
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks):
        for name, curves in task.curves.items():
            low, high = statistics.mean_interval(curves.returns)
            draw_line(axis, name, curves.steps, curves.returns.mean(0), low, high)
        axis.set_title(task.name)
        axis.set_ylabel("return")
        count_steps(axis)
    add_legend(figure, axes)
    return figure


def iqm_curves(compared: list[Comparison]) -> "Figure":
    """Interquartile mean of the normalised return and its interval: a panel for each environment."""
    figure, axes = panels(len(compared))
    for axis, comparison in zip(axes, compared):
        for name in comparison.methods:
            steps, scores = comparison.curve(name)
            low, high = statistics.iqm_interval(scores, statistics.CURVE_REPLICATES)
            draw_line(axis, name, steps, statistics.overall_iqm(scores), low, high)
        count = len(comparison.tasks)
        axis.set_title(
            f"{TITLES.get(comparison.environment, comparison.environment)} ({count} task{'s' * (count > 1)})"
        )
        axis.set_ylabel("normalised return, IQM")
        axis.set_ylim(-0.03, 1.03)
        count_steps(axis)
    add_legend(figure, axes)
    return figure


def improvement_figure(better: list[dict[str, Any]]) -> "Figure":
    """P(MARS > Y) with its interval, a row for each environment and Y; the line at one half is no difference."""
    environments = list(dict.fromkeys(row["environment"] for row in better))
    figure, (axis,) = panels(1, height=0.5 + 0.22 * len(better))
    places, place = [], 0.0
    for environment in environments:
        chosen = [row for row in better if row["environment"] == environment]
        places.append(place + (len(chosen) - 1) / 2)
        for row in chosen:
            method = METHODS[row["y"]]
            ends = [[max(0.0, row["p"] - row["low"])], [max(0.0, row["high"] - row["p"])]]
            label = f"over {method.label}" if environment == environments[0] else None
            marker = "os^Dvp"[[m for m in METHODS if m != "mars"].index(row["y"])]
            axis.errorbar(
                [row["p"]],
                [place],
                xerr=ends,
                fmt=marker,
                color=method.colour,
                capsize=2.5,
                markersize=4.5,
                label=label,
            )
            place += 1
        place += 0.8
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set_yticks(places, [TITLES.get(environment, environment) for environment in environments])
    axis.set_ylim(place - 0.8, -1 + 0.2)
    axis.set_xlim(-0.02, 1.02)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("probability that MARS ends higher")
    add_legend(figure, [axis])
    return figure


def ratio_curves(ratios: Ratios) -> "Figure":
    """Figure 3: largest and smallest ratio of an update over training, a panel for each task.

    Of a hundredth of training the extremes; over seeds the geometric mean, with the range of seeds as band.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, axes = panels(len(ratios))
    for axis, (task, by_method) in zip(axes, ratios.items()):
        for name in (method for method in METHODS if method in by_method):
            seeds = by_method[name].values()
            for column in ("ratio_max", "ratio_min"):
                lines = [(np.array(line["step"]), np.log(np.clip(line[column], 1e-9, 1e9))) for line in seeds]
                steps, values = results.on_common_steps(lines)
                low, high = np.exp(np.min(values, 0)), np.exp(np.max(values, 0))
                draw_line(axis, name, steps, np.exp(np.mean(values, 0)), low, high)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        digits = (
            (1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if high / low < 5 else (1, 2, 5) if high / low < 200 else (1,)
        )
        ticks = [digit * 10.0**power for power in range(-9, 9) for digit in digits]
        axis.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(task)
        axis.set_ylabel("largest, smallest ratio")
        count_steps(axis)
    add_legend(figure, axes)
    return figure


def objectives_figure() -> "Figure":
    """Figure 1: every objective J(r, A) and its pull on the log-ratio, from the lessons' own `policy_objective`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    figure, axes = panels(4)
    log_ratio = torch.linspace(np.log(0.1), np.log(5), 800)
    for name in methods.MAIN:
        method = METHODS[name]
        args = method.module.Args()
        low, high = method.module.ratio_range(args)
        label = f"{method.label}, {'clipped at' if name == 'mappo' else 'targets'} {low:.3g} and {high:.3g}"
        for i, sign in enumerate((1.0, -1.0)):
            inputs = log_ratio.clone().requires_grad_()
            objective = method.module.policy_objective(inputs, torch.full_like(inputs, sign), args)
            (pull,) = torch.autograd.grad(objective.sum(), inputs)
            for axis, values in ((axes[i], objective.detach()), (axes[2 + i], pull)):
                axis.plot(log_ratio.exp(), values, label=label, **line_style(method))
    for axis, title in zip(axes, ("J, A = 1", "J, A = -1", "dJ / dlog r, A = 1", "dJ / dlog r, A = -1")):
        axis.axvline(1, color="black", linewidth=0.8)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5]))
        axis.xaxis.set_minor_locator(FixedLocator([]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(-4, 2 if title.startswith("J") else 4)
        axis.set_title(title)
    for axis in axes[2:]:
        axis.set_xlabel("ratio r")
    add_legend(figure, axes)
    return figure


# ---- the command ----


def make_parser() -> Parser:
    parser = Parser(
        prog="plot",
        description="Figures and tables of the paper from runs: learning curves, IQM with intervals, probability of "
        "improvement, Table 1, ratios over training (Figure 3), the objectives (Figure 1).",
        epilog="Written to --out: curves_<environment>, iqm, improvement, ratios_<environment> and objectives as "
        "figures; table1.md, table1.csv, improvement.csv and tasks.csv; with ablations the same again, named "
        "..._ablations; evaluations.json (all evaluations, which marl-eval reads) and ratios.json, to draw from again "
        "without the runs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS", help="runs, folders of runs, or an evaluations.json of --out"
    )
    parser.add_argument("--out", default="figures", metavar="DIR", help="folder for the results (default figures)")
    parser.add_argument(
        "--means", action="store_true", help="keep the mean of every evaluation, not all its episodes: small to publish"
    )
    parser.add_argument("--format", default="png", choices=("png", "pdf", "svg"), help="of figures (default png)")
    return parser


def plot(paths: Sequence[str | Path], out: Path, suffix: str = "png", means: bool = False) -> list[Path]:
    """Draw everything that the runs allow; the files written.

    Args:
        paths: runs, folders of runs, or files that `results.save` wrote.
        out: folder for all of it.
        suffix: kind of figures, "png", "pdf" or "svg".
        means: save the mean of every evaluation in place of its episodes.

    Raises:
        UsageError: nothing to draw, or runs that do not belong together.
    """
    need_matplotlib()
    import matplotlib

    nested, found = results.gather(paths)
    ratios = results.gather_ratios(paths, found)
    tasks = tasks_of(nested)
    warn(tasks, found)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out is {str(out)!r}: cannot write there ({error.strerror})") from None
    written = []

    def write(name: str, content: bytes) -> None:
        runs.write_whole(out / name, content)
        written.append(out / name)

    def draw(name: str, figure: "Figure") -> None:
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix)
        write(f"{name}.{suffix}", picture.getvalue())

    with matplotlib.rc_context(STYLE):
        environments = dict.fromkeys(task.environment for task in tasks)
        for environment in environments:
            draw(f"curves_{environment}", learning_curves([task for task in tasks if task.environment == environment]))
        has_ablations = any(task.curves.keys() & set(methods.ABLATIONS) for task in tasks)
        for among, ending in ((methods.MAIN, ""), (METHODS, "_ablations"))[: 1 + has_ablations]:
            compared = comparisons(tasks, list(among))
            if not compared:
                continue
            draw(f"iqm{ending}", iqm_curves([c for c in compared if c.environment != "all"]))  # lengths differ
            scores, better = list(rows(compared)), list(improvements(compared))
            per_task = list(task_rows(tasks, list(among)))
            name, title = ("ablations", "Ablations") if ending else ("table1", "Table 1")
            write(f"{name}.md", as_markdown(title, scores, better, per_task).encode())
            write(f"{name}.csv", as_csv(scores).encode())
            write(f"tasks{ending}.csv", as_csv(per_task).encode())
            if better:
                draw(f"improvement{ending}", improvement_figure(better))
                write(f"improvement{ending}.csv", as_csv(better).encode())
        for environment in environments:
            here = {task: ratios[task] for task in nested[environment] if task in ratios}
            if here:
                draw(f"ratios_{environment}", ratio_curves(here))
        draw("objectives", objectives_figure())
    for name, content in (
        (results.EVALUATIONS, results.only_means(nested) if means else nested),
        (results.RATIOS, ratios),
    ):
        results.save(content, out / name)
        written.append(out / name)
    return written


def warn(tasks: list[Task], found: list[SavedRun]) -> None:
    """What makes a comparison weaker than it looks."""
    fewest = min(curves.seeds for task in tasks for curves in task.curves.values())
    if fewest < FLOOR_OF_SEEDS:
        note(f"only {fewest} seed{'s' * (fewest > 1)} in places: intervals from fewer than {FLOOR_OF_SEEDS} say little")
    unfinished = [run for run in found if not run.is_finished()]
    if unfinished:
        note(f"{len(unfinished)} of {len(found)} runs are not finished, such as {unfinished[0].folder}")
    for task in tasks:
        ends = {int(curves.steps[-1]) for curves in task.curves.values()}
        if len(ends) > 1:
            steps = ", ".join(f"{name} {int(curves.steps[-1]):,}" for name, curves in task.curves.items())
            note(f"{task.name}: final scores are after different numbers of steps ({steps})")


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    for path in plot(args.runs, Path(args.out), args.format, args.means):
        print(path)
    return 0


if __name__ == "__main__":
    runs.guarded(main, "plot")
