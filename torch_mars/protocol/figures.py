"""The figures of the protocol: learning curves, IQM, probability of improvement, ratios, objectives.

Curves are returns of evaluation episodes over environment steps (of one seed; agents are not counted). Every method
keeps its colour and line style in all figures.
"""

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_mars import envs
from torch_mars.nn.diagnostics import QUANTILES
from torch_mars.protocol import gather, intervals, methods
from torch_mars.protocol.gather import Ratios
from torch_mars.protocol.methods import METHODS, Method
from torch_mars.protocol.tables import Comparison, Task
from torch_mars.run.cli import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 7.0  # inches: a page's text
PANEL_HEIGHT = 2.0
DPI = 200
STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "axes.titlesize": 8, "legend.frameon": False, "lines.linewidth": 1.4, "lines.dash_capstyle": "butt",
    "pdf.fonttype": 42,  # letters as letters, which journals ask for
}  # fmt: skip


def need_matplotlib() -> None:
    """UsageError where it is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UsageError("figures need matplotlib: pip install 'torch_mars[plots]'") from None


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


def learning_curves(tasks: list[Task], diverged: dict[str, dict[str, dict[str, int]]] | None = None) -> "Figure":
    """Mean return over seeds and its interval: a panel for each task of one environment.

    A cross marks the step at which a seed diverged (`gather.gather_diverged`).
    """
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks):
        for name, curves in task.curves.items():
            low, high = intervals.mean_interval(curves.returns)
            draw_line(axis, name, curves.steps, curves.returns.mean(0), low, high)
            ends = list((diverged or {}).get(task.name, {}).get(name, {}).values())
            heights = np.interp(ends, curves.steps, curves.returns.mean(0))
            axis.plot(ends, heights, "x", color=METHODS[name].colour, markersize=7, markeredgewidth=2, zorder=4)
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
            low, high = intervals.iqm_interval(scores, intervals.CURVE_REPLICATES)
            draw_line(axis, name, steps, intervals.overall_iqm(scores), low, high)
        count = len(comparison.tasks)
        axis.set_title(f"{envs.title(comparison.environment)} ({count} task{'s' * (count > 1)})")
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
            axis.errorbar(
                [row["p"]],
                [place],
                xerr=ends,
                fmt=method.marker,
                color=method.colour,
                capsize=2.5,
                markersize=4.5,
                label=label,
            )
            place += 1
        place += 0.8
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set_yticks(places, [envs.title(environment) for environment in environments])
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
        for name in methods.ordered(by_method):
            seeds = by_method[name].values()
            for column in ("ratio_max", "ratio_min"):
                lines = [(np.array(line["step"]), np.log(np.clip(line[column], 1e-9, 1e9))) for line in seeds]
                steps, values = gather.on_common_steps(lines)
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


def diagnostics_figure(by_method: dict[str, dict[str, dict[str, list[float]]]], title: str) -> "Figure":
    """What an objective does to the samples of an update, over training: a task's methods, means over seeds.

    The share of samples without force, quantiles of the ratio (the outer ones thinner), entropy of the policy, and the
    divergence of an update.
    """
    figure, axes = panels(4)

    def draw(axis: "Axes", name: str, column: str, **style: Any) -> None:
        lines = [(np.array(line["step"]), np.array(line[column])) for line in by_method[name].values()]
        steps, values = gather.on_common_steps(lines)
        axis.plot(steps, np.mean(values, 0), **{**line_style(METHODS[name]), **style})

    for name in methods.ordered(by_method):
        label = METHODS[name].label
        draw(axes[0], name, "frac_no_force", label=label)
        for column, q in QUANTILES.items():
            draw(axes[1], name, column, linewidth=1.4 if q == 0.5 else 1.0 if 0.005 < q < 0.995 else 0.6)
        draw(axes[2], name, "entropy")
        draw(axes[3], name, "approx_kl")
    axes[0].set_ylim(bottom=-0.01)
    axes[1].set_yscale("log")
    labels = ("share of samples without force", "ratio: 0.1, 1, 50, 99, 99.9%", "entropy", "approximate KL")
    for axis, text in zip(axes, labels):
        axis.set_ylabel(text)
        count_steps(axis)
    add_legend(figure, axes, title)
    return figure


def objectives_figure() -> "Figure":
    """Figure 1: every objective J(r, A) and its pull on the log-ratio, from the lessons' own `policy_objective`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    figure, axes = panels(4)
    log_ratio = torch.linspace(np.log(0.1), np.log(5), 800, dtype=torch.float32)
    for name in methods.MAIN:
        method = METHODS[name]
        args = method.args()
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
