"""Draw the figures and tables of this folder again from its JSON.

    python results/mechanism/draw.py

`forks.jsonl` is A, by `examples/mechanism/fork.py`; `tails.json` and `strengths.json` are `runs.json` of B and C, by
`examples/mechanism/grid.py`, and `tails_first.json` is B's first part, five seeds on a CPU. What is not there yet is
left out.

All intervals are 95%: Student's t over the 16 groups of episodes of a fork, or over seeds. p is exact: over all 2^16
signs of the groups' differences, or over all exchanges of seeds; where two pairs of arms are taken together, over
100,000 random ones if there are more.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from torch_mars.protocol import figures, intervals
from torch_mars.run.files import write_whole

HERE = Path(__file__).parent
Line = dict[str, Any]  # of a fork, or of a seed
LOOKS = {  # colour and dashes
    "mappo": ("MAPPO", "#D55E00", (5, 1.5)),
    "maspo": ("MASPO", "#009E73", (1, 1.2)),
    "mars": ("MARS", "#0072B2", ()),
    "mappo_asymmetric": ("MAPPO, asymmetric", "#E69F00", (5, 1.5, 1, 1.5)),
    "maspo_asymmetric": ("MASPO, asymmetric", "#333333", (1, 1.2, 1, 3)),
    "mars_additive": ("MARS, additive", "#CC79A7", (9, 2, 2, 2)),
    "linear": ("linear force", "#882255", (3, 1)),
}
ARMS = {
    "mars_whole": "MARS",
    "maspo_whole": "MASPO",
    "maspo_mars": "MASPO core, MARS tails",
    "mars_maspo": "MARS core, MASPO tails",
    "mars_low": "MARS core, lower MARS tail",
    "mars_none": "MARS core, no tails",
    "mappo_mars": "MAPPO core, MARS tails",
    "linear": "linear force",
    "mars_mirrored": "MARS core, MASPO tails mirrored",
    "mappo_s0.4_lr1.0": "MAPPO",
    "mappo_s0.4_actor0.2": "MAPPO, actor's rate a fifth",
    "mappo_s0.4_actor0.1": "MAPPO, actor's rate a tenth",
}
# what is compared with the other arms held equal: two arms each
TOGETHER = {
    "MARS's tails over MASPO's, either core": (("mars_whole", "maspo_mars"), ("mars_maspo", "maspo_whole")),
    "MARS's core over MASPO's, either pair of tails": (("mars_whole", "mars_maspo"), ("maspo_mars", "maspo_whole")),
}
REFERENCES = ("mars_whole", "maspo_whole", "mars_none")
RATES = {"lr1.0": "usual", "lr0.5": "half", "actor0.2": "actor's a fifth", "actor0.1": "actor's a tenth"}
SIGNS = 1.0 - 2.0 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)  # every choice of 16


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_interval(values: np.ndarray, digits: int = 3) -> str:
    """Mean +- half the width of its interval."""
    mean, half = intervals.mean_and_interval(values.tolist())
    return f"{mean:.{digits}f} +- {half:.{digits}f}"


# ---- A ----


def sign_p(differences: np.ndarray) -> float:
    """Two-sided p of "these differences, at most 16, have either sign with the same chance", by all signs."""
    count = len(differences)
    sums = SIGNS[: 2**count, :count] @ differences
    return float((np.abs(sums) >= abs(differences.sum()) - 1e-12).mean())


def path_of(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """Of a fork, from its start on: roots of the KL [points], and the gain of every group then [points, 16]."""
    kl = [line["course"]["kl"][number - 1] for number in line["played"]]
    return np.sqrt([0.0, *kl]), np.array([[0.0] * 16, *line["gained"]])


def gain_at(line: Line, kl: float) -> np.ndarray | None:
    """What a fork had gained [16] when its KL was first this large, between plays by its root; None if it never was."""
    roots, gained = path_of(line)
    for i in range(1, len(roots)):
        if roots[i] >= np.sqrt(kl) > roots[i - 1]:
            share = (np.sqrt(kl) - roots[i - 1]) / (roots[i] - roots[i - 1])
            return (1 - share) * gained[i - 1] + share * gained[i]
    return None


def end_of(line: Line) -> np.ndarray:
    return np.array(line["gained"][-1])


def starts_of(lines: list[Line]) -> list[int]:
    return sorted({line["steps"] for line in lines})


def found(lines: list[Line], **asked: Any) -> dict[tuple[str, float], Line]:
    """Forks with these properties, by objective and strength."""
    return {
        (line["objective"], line["strength"]): line
        for line in lines
        if all(line[name] == value for name, value in asked.items())
    }


def forks_figure(lines: list[Line], noises: list[tuple[float, str]]) -> Any:
    """Improvement against KL: a column for every start, a row for every noise, a line for every objective."""
    from matplotlib.figure import Figure

    starts = starts_of(lines)
    figure = Figure(figsize=(figures.WIDTH, 1.7 * len(noises) + 0.6), dpi=figures.DPI, layout="constrained")
    axes = figure.subplots(len(noises), len(starts), squeeze=False, sharex=True)
    for axis, steps in zip(axes[0], starts):
        axis.set_title(f"{steps / 1e6:.2g}M steps")
    for row, (sigma, noise) in zip(axes, noises):
        for axis, steps in zip(row, starts):
            here = found(lines, steps=steps, sigma=sigma, noise=noise)
            for name, (label, colour, dashes) in LOOKS.items():
                ends = [line for (objective, _), line in sorted(here.items()) if objective == name]
                points = sorted((line["kl"], line["improvement"], line["error"]) for line in ends)
                if name == "mappo" and ends:  # its way to the largest strength's end, as KL is far from the others'
                    widest = max(ends, key=lambda line: line["strength"])
                    roots, gained = path_of(widest)
                    errors = gained.std(1, ddof=1) / 4
                    points = sorted({*points, *zip((roots**2)[1:], gained.mean(1)[1:], errors[1:])})
                if not points:
                    continue
                kl, gain, error = map(np.array, zip(*points))
                style = {"color": colour, "linestyle": (0, dashes) if dashes else "-"}
                axis.errorbar(kl, gain, 1.96 * error, label=label, elinewidth=0.5, linewidth=1.0, **style)
            axis.set_xscale("log")
        row[0].set_ylabel(f"improvement, sigma {sigma:g}" + (f"\n({noise})" if sigma else ""))
    for axis in axes[-1]:
        axis.set_xlabel("KL")
    figures.add_legend(figure, axes.flatten().tolist())
    return figure


def again_table(lines: list[Line]) -> str:
    """Starts that were forked with other seeds, too: another rollout, and minibatches in another order."""
    rows = []
    lines = [line for line in lines if line["sigma"] == 0]
    seeds = sorted({line["seed"] for line in lines})
    again = {(line["steps"], line["strength"]) for line in lines if line["seed"] != seeds[0]}
    for steps, strength in sorted(again):
        for name in LOOKS:
            same = {seed: found(lines, steps=steps, seed=seed).get((name, strength)) for seed in seeds}
            if not any(same.values()):
                continue
            cells = [f"{steps / 1e6:.2g}M", f"{strength:g}", LOOKS[name][0]]
            for line in same.values():
                numbers = line and f"{line['improvement']:+.3f} at {line['kl']:.2g}, {line['quantiles'][0]:.2f}"
                cells.append(numbers or "")
            rows.append(cells)
    text = "Seed 100 is of another machine.\n\n" if 100 in seeds else ""
    return text + table(["start", "s", "objective", *(f"seed {seed}: gain at KL, least" for seed in seeds)], rows)


def one_rollout_each(lines: list[Line]) -> list[Line]:
    """Of every start the forks of one rollout, whatever the noise: of that with the most."""
    most = {}
    for steps in starts_of(lines):
        counts = Counter(line["seed"] for line in lines if line["steps"] == steps)
        most[steps] = max(counts, key=lambda seed: (counts[seed], -seed))
    return [line for line in lines if line["seed"] == most[line["steps"]]]


def no_force_table(lines: list[Line], sigmas: list[tuple[float, str]]) -> str:
    """A1, A2: MAPPO's share without force, and what became of those samples, in it and in others."""
    rows = []
    for sigma, noise in sigmas:
        for strength in sorted({line["strength"] for line in lines}):
            by_start = [found(lines, steps=steps, sigma=sigma, noise=noise) for steps in starts_of(lines)]
            mappo = [here["mappo", strength] for here in by_start if ("mappo", strength) in here]
            if not mappo:
                continue
            most = [max(line["course"]["no_force"]) for line in mappo]
            last = [line["course"]["no_force"][-1] for line in mappo]
            cells = [
                f"{sigma:g} {noise if sigma else ''}".strip(),
                f"{strength:g}",
                span(most, ".2%"),
                span(last, ".2%"),
            ]
            for name in ("mappo", "maspo", "mars"):
                same = [here[name, strength] for here in by_start if (name, strength) in here]
                moved = [line for line in same if line["lost"]]
                away, drift = [line["away"] for line in moved], [line["drift"][1] for line in moved]
                cells.append(f"{span(away, '.0%')}; {span(drift, '+.3f')}" if moved else "")
            rows.append(cells)
    head = ["noise", "s", "most in a minibatch", "in the last", "MAPPO: away; drift", "MASPO", "MARS"]
    return table(head, rows)


def span(values: list[float], form: str) -> str:
    """The median over starts, and the extremes."""
    if not values:
        return ""
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def equal_kl_table(lines: list[Line], noises: list[tuple[float, str]]) -> str:
    """A5: what each objective gained by its update, less what MAPPO had gained when its KL was the same.

    Of the strengths at which none of them went further than MAPPO ever did.
    """
    rows = []
    for sigma, noise in noises:
        for steps in starts_of(lines):
            here = found(lines, steps=steps, sigma=sigma, noise=noise)
            names = [name for name in ("maspo", "mars", "linear") if any(name == one for one, _ in here)]
            strengths = sorted({s for _, s in here if all((name, s) in here for name in ("mappo", *names))})
            before = {(n, s): gain_at(here["mappo", s], here[n, s]["kl"]) for n in names for s in strengths}
            compared = [s for s in strengths if all(before[name, s] is not None for name in names)]
            cells = [f"{sigma:g} {noise if sigma else ''}".strip(), f"{steps / 1e6:.2g}M"]
            cells.append(", ".join(f"{s:g}" for s in compared) + f" of {len(strengths)}")
            for name in ("maspo", "mars", "linear"):
                here_too = compared if name in names else []
                cells.append(of_groups([end_of(here[name, s]) - before[name, s] for s in here_too]))
            cells.append(of_groups([end_of(here["mars", s]) - end_of(here["maspo", s]) for s in compared]))
            rows.append(cells)
    head = ["noise", "start", "s", "MASPO - MAPPO", "MARS - MAPPO", "linear - MAPPO", "MARS - MASPO"]
    return table(head, rows)


def of_groups(differences: list[np.ndarray]) -> str:
    """The mean over strengths of differences by group, its interval and p."""
    if not differences:
        return ""
    mean = np.mean(differences, 0)
    return f"{with_interval(mean)}, p = {sign_p(mean):.2g}"


def shapes_table(lines: list[Line], noises: list[tuple[float, str]]) -> str:
    """A3, A4: MARS beside MASPO at equal strength: KL, quantiles of the ratio, and the smallest."""
    rows = []
    for sigma, noise in noises:
        for strength in sorted({line["strength"] for line in lines}):
            by_start = [found(lines, steps=steps, sigma=sigma, noise=noise) for steps in starts_of(lines)]
            pairs = [
                [here[name, strength] for name in ("mappo", "maspo", "mars")]
                for here in by_start
                if all((name, strength) in here for name in ("mappo", "maspo", "mars"))
            ]
            if not pairs:
                continue
            ratio = [mars["kl"] / maspo["kl"] for _, maspo, mars in pairs]
            apart = [
                max(abs(np.log(a / b)) for a, b in zip(maspo["quantiles"][2:7], mars["quantiles"][2:7]))
                for _, maspo, mars in pairs
            ]
            least = [span([three[i]["quantiles"][0] for three in pairs], ".3f") for i in range(3)]
            own = [
                max(abs(np.log(a / b)) for a, b in zip(maspo["quantiles"][2:7], maspo["quantiles_others"][2:7]))
                for _, maspo, _ in pairs
            ]
            name = f"{sigma:g} {noise if sigma else ''}".strip()
            rows.append([name, f"{strength:g}", span(ratio, ".2f"), span(apart, ".4f"), *least, span(own, ".4f")])
    head = ["noise", "s", "KL of MARS / MASPO", "furthest quantile", "least: MAPPO", "MASPO", "MARS", "held out"]
    return table(head, rows)


def gains_table(lines: list[Line], noises: list[tuple[float, str]]) -> str:
    """A6: improvement and KL of every objective at the end of its update, means over starts."""
    rows = []
    strengths = {line["strength"] for line in lines if line["sigma"]} or {line["strength"] for line in lines}
    for strength in sorted(strengths):
        for name, (label, *_) in LOOKS.items():
            cells = [f"{strength:g}", label]
            for sigma, noise in noises:
                by_start = [found(lines, steps=steps, sigma=sigma, noise=noise) for steps in starts_of(lines)]
                same = [here[name, strength] for here in by_start if (name, strength) in here]
                kl, gain = (np.mean([line[what] for line in same] or [np.nan]) for what in ("kl", "improvement"))
                cells.append(f"{gain:.3f} at {kl:.2g}" if same else "")
            if any(cells[2:]):
                rows.append(cells)
    return table(["s", "", *(f"{s:g} {n if s else ''}".strip() for s, n in noises)], rows)


def forks_report(lines: list[Line]) -> str:
    text = ""
    for task in sorted({line["task"] for line in lines}):
        of_task = [line for line in lines if line["task"] == task]
        here = one_rollout_each(of_task)
        noises = sorted(
            {(line["sigma"], line["noise"]) for line in here}, key=lambda pair: (pair[0], pair[1] != "joint")
        )
        shown = [pair for pair in noises if pair[0] in (0, max(sigma for sigma, _ in noises))]
        save(f"forks_{task}", forks_figure(here, shown))
        minutes = sum(line["seconds"] for line in of_task) / 60
        text += f"# {task}\n\n{len(of_task)} forks of {len(starts_of(here))} starts, {minutes:.0f} core-minutes.\n\n"
        for title, body in (
            ("Samples without force, and where they went", no_force_table),
            ("MARS beside MASPO at equal strength", shapes_table),
            ("Gains at equal KL", equal_kl_table),
            ("Improvement and KL of the whole update", gains_table),
        ):
            text += f"## {title}\n\n{body(here, noises)}\n"
        if len(of_task) > len(here):
            text += f"## Once more, with other rollouts\n\n{again_table(of_task)}\n"
    return text


# ---- B and C ----


def finals(runs: list[Line], of: Callable[[Line], Any]) -> dict[Any, np.ndarray]:
    """Final returns by what `of` says of a seed, in the order of seeds."""
    ordered = sorted(runs, key=lambda run: run["seed"])
    return {key: np.array([run["final"] for run in ordered if of(run) == key]) for key in dict.fromkeys(map(of, runs))}


def tails_report(runs: list[Line], file: str) -> str:
    text = ""
    for task, total in sorted({(run["task"], run["total_steps"]) for run in runs}):
        here = [run for run in runs if (run["task"], run["total_steps"]) == (task, total)]
        ends = finals(here, lambda run: run["arm"])
        rows = []
        for arm in (arm for arm in ARMS if arm in ends):
            logged = [run["median_of_updates"] for run in here if run["arm"] == arm]
            middle = {name: np.median([one[name] for one in logged]) for name in logged[0]}
            low, half, high = np.quantile(ends[arm], (0.25, 0.5, 0.75))
            middle_half = f"{half:.2f} ({low:.2f} to {high:.2f})"
            cells = [ARMS[arm], str(len(ends[arm])), with_interval(ends[arm], 2), middle_half]
            for whole in REFERENCES:
                known = whole in ends and whole != arm
                cells.append(against([ends[arm]], [ends[whole]]) if known else "")
            ratios = f"{middle['ratio_min']:.2f}, {middle['ratio_q01']:.3f} to {middle['ratio_q99']:.3f}"
            entropy = np.mean([run["last_entropy"] for run in here if run["arm"] == arm])
            rows.append([*cells, f"{middle['approx_kl']:.2g}", ratios, f"{entropy:.2f}"])
        beside = [f"beside {ARMS[other]}" for other in REFERENCES]
        head = ["arm", "seeds", "final return", "median, quartiles", *beside]
        head += ["KL", "ratio: least, 1%, 99%", "entropy at the end"]
        text += f"# {task}, {total / 1e6:g}M steps\n\n{time_of(here)}\n\n{table(head, rows)}\n{together(ends)}"
        save(f"{file}_{task}_{total // 10**6}M", curves_figure(here))
    return text


def time_of(runs: list[Line]) -> str:
    minutes = Counter()
    for run in runs:
        where = "core-minutes" if run["device"] == "cpu" else "minutes of processes that shared a GPU"
        minutes[where] += run["seconds"] / 60
    return ", ".join(f"{count:.0f} {where}" for where, count in minutes.items()) + "."


def together(ends: dict[str, np.ndarray]) -> str:
    """Two pairs of arms that differ in the same thing. By seed: of both pairs' differences, which share its start."""
    rows = []
    for what, (ours, theirs) in TOGETHER.items():
        if all(arm in ends for arm in (*ours, *theirs)):
            x, y = [ends[arm] for arm in ours], [ends[arm] for arm in theirs]
            rows.append([what, against(x, y), f"{sign_p(np.mean(x, 0) - np.mean(y, 0)):.2g}"])
    return table(["two pairs of arms together", "share of pairs, p", "p by seed"], rows) + "\n" if rows else ""


def against(x: list[np.ndarray], y: list[np.ndarray]) -> str:
    """Share of pairs in which x is above y, and p of the permutation test; pairs and exchanges are within each."""
    share = intervals.probability_of_improvement(x, y)
    return f"{share:.2f}, p = {intervals.permutation_p(x, y):.2g}"


def curves_figure(runs: list[Line]) -> Any:
    """Mean return of every arm over steps."""
    figure, (axis,) = figures.panels(1, 3.0)
    colours = matplotlib.colormaps["tab20"].colors[::2] + matplotlib.colormaps["tab20"].colors[1::2]
    arms = [arm for arm in ARMS if any(run["arm"] == arm for run in runs)]
    for arm, colour in zip(arms, colours):
        lines = [run["curve"] for run in runs if run["arm"] == arm]
        steps = np.array(min((line["step"] for line in lines), key=len))
        returns = np.array([np.interp(steps, line["step"], line["return"]) for line in lines])
        low, high = intervals.mean_interval(returns)
        axis.plot(steps, returns.mean(0), label=ARMS[arm], color=colour)
        axis.fill_between(steps, low, high, color=colour, alpha=0.1, linewidth=0)
    figures.count_steps(axis)
    axis.set_ylabel("return")
    figures.add_legend(figure, [axis])
    return figure


def cell_of(run: Line) -> tuple[str, float, str]:
    """Method, strength, and which learning rates are what share of the usual ones, as `grid.py` names them."""
    method, strength, rates = run["arm"].split("_")
    return method, float(strength[1:]), RATES[rates]


def best_of(means: list[float], trials: int) -> float:
    """Expected best of so many different settings of these, drawn at random."""
    ordered = sorted(means)
    chosen = list(itertools.combinations(range(len(ordered)), trials))
    return float(np.mean([ordered[max(one)] for one in chosen]))


def best_table(means: dict[str, list[float]]) -> str:
    """Methods with the same settings: the expected best of so many of these, and of whom settings are."""
    labels = [LOOKS[name][0] for name in means]
    counts = range(1, len(next(iter(means.values()))) + 1)
    rows = [[label, *(f"{best_of(m, k):.2f}" for k in counts)] for label, m in zip(labels, means.values())]
    head = ["expected best of", *map(str, counts)]
    return f"Settings that {', '.join(labels)} have: {len(counts)}.\n\n{table(head, rows)}\n"


def strengths_report(runs: list[Line], file: str) -> str:
    text = ""
    for task in sorted({run["task"] for run in runs}):
        here = [run for run in runs if run["task"] == task]
        ends, logged = finals(here, cell_of), {}
        for run in here:
            logged.setdefault(cell_of(run), []).append(run["median_of_updates"]["approx_kl"])
        rows, order = [], list(RATES.values())
        for rate, strength in sorted({(r, s) for _, s, r in ends}, key=lambda pair: (order.index(pair[0]), pair[1])):
            cells = [f"{strength:g}", rate]
            for name in ("mappo", "maspo", "mars"):
                cell = (name, strength, rate)
                known = cell in ends
                cells.append(f"{with_interval(ends[cell], 2)} at {np.median(logged[cell]):.2g}" if known else "")
            pair = ("mars", strength, rate), ("maspo", strength, rate)
            cells.append(against([ends[pair[0]]], [ends[pair[1]]]) if all(cell in ends for cell in pair) else "")
            rows.append(cells)
        seeds = sorted({len(values) for values in ends.values()})
        text += f"# {task}, {here[0]['total_steps'] / 1e6:g}M steps\n\n"
        text += f"{', '.join(map(str, seeds))} seeds; {time_of(here)}\n\n"
        text += table(["s", "learning rates", "MAPPO: return at KL", "MASPO", "MARS", "MARS over MASPO"], rows) + "\n"
        for names in (("mappo", "maspo", "mars"), ("maspo", "mars")):
            shared = set.intersection(*({(s, r) for n, s, r in ends if n == name} for name in names))
            if len(shared) > 1:
                text += best_table({name: [float(ends[name, s, r].mean()) for s, r in shared] for name in names})
        save(f"{file}_{task}", strengths_figure(ends, logged))
    return text


def strengths_figure(ends: dict, logged: dict) -> Any:
    """Return over strength, and over KL."""
    figure, (left, right) = figures.panels(2, 2.4)
    for name in ("mappo", "maspo", "mars"):
        label, colour, dashes = LOOKS[name]
        for number, rate in enumerate(
            rate for rate in RATES.values() if any((name, rate) == (n, r) for n, _, r in ends)
        ):
            cells = sorted(cell for cell in ends if cell[0] == name and cell[2] == rate)
            means, halves = zip(*(intervals.mean_and_interval(ends[cell].tolist()) for cell in cells))
            style = {
                "color": colour,
                "linestyle": (0, dashes) if dashes else "-",
                "alpha": 1.0 if rate == "usual" else 0.5,
            }
            style["marker"] = "oDsv"[number]
            label_here = label if rate == "usual" else f"{label}, learning rates: {rate}"
            left.errorbar(
                [s for _, s, _ in cells], means, halves, label=label_here, elinewidth=0.7, markersize=3, **style
            )
            kls = [float(np.median(logged[cell])) for cell in cells]
            right.errorbar(*zip(*sorted(zip(kls, means, halves))), elinewidth=0.7, markersize=3, **style)
    left.set_xlabel("strength")
    left.set_ylabel("final return")
    right.set_xlabel("KL of an update, median")
    right.set_xscale("log")
    figures.add_legend(figure, [left])
    return figure


# ---- all ----


def save(name: str, figure: Any) -> None:
    figure.savefig(HERE / f"{name}.png", metadata={"Software": None})


def main() -> None:
    with matplotlib.rc_context(figures.STYLE):
        path = HERE / "forks.jsonl"
        if path.exists():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            write_whole(HERE / "forks.md", forks_report(lines).encode())
        reports = {"tails": tails_report, "tails_first": tails_report, "strengths": strengths_report}
        for file, report in reports.items():
            path = HERE / f"{file}.json"
            if path.exists():
                write_whole(HERE / f"{file}.md", report(json.loads(path.read_text()), file).encode())


if __name__ == "__main__":
    main()
