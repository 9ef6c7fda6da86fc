"""The table of `precision/`: MARS with bfloat16 factors beside its cells of `tasks/`, which have float32.

`torch_mars.plot --means` wrote what lies beside the page.
"""

import json
from pathlib import Path

import cells
import numpy as np

from torch_mars.protocol import gather, intervals, saved

FOLDER = Path(__file__).parent / "precision"
METHOD = "mars"


def table() -> str:
    """Of every task: final returns, means of all evaluations, and usual ratios, with p that the two are the same."""
    head = ["task", "at the end, float32", "bfloat16", "p", "all evaluations, float32", "bfloat16", "p"]
    head += ["usual ratios, float32", "bfloat16"]
    ratios = json.loads((FOLDER / gather.RATIOS).read_text())
    rows = []
    for environment, by_task in saved.read_nested(FOLDER / saved.EVALUATIONS).items():
        for task, by_method in by_task.items():
            returns = _returns(cells.evaluations(environment)[task][METHOD], by_method[METHOD])
            exact = cells.told(environment)[task][METHOD]["ratios"]
            rounded = map(np.median, cells.ratios_of(ratios[task][METHOD]))
            rows.append([task, *returns, _usual(exact["min_median"], exact["max_median"]), _usual(*rounded)])
    return cells.grid([head, *rows])


def _returns(exact: dict[str, dict], rounded: dict[str, dict]) -> list[str]:
    curves = [gather.curves(runs) for runs in (exact, rounded)]
    cells_of_row = []
    for scores in ([curve.final for curve in curves], [curve.returns.mean(1) for curve in curves]):
        p = intervals.permutation_p(*([of_seeds] for of_seeds in scores))
        cells_of_row += [*map(cells.mean_of, scores), f"{p:.2g}"]
    return cells_of_row


def _usual(least: float, most: float) -> str:
    return f"{least:.3f} to {most:.3f}"
