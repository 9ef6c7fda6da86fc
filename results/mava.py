"""Our MAPPO beside Mava's own at Mava's settings: draws docs/mava.png.

    python -m torch_mars.algos.mappo --preset paper --env simple_spread_3ag --env-options '{raw_actions: true}' \\
        --num-envs 32 --num-seeds 3 --total-steps 614400 --eval-every 40960 --eval-episodes 128 --run-dir runs/mava
    python -m torch_mars.algos.mappo --preset paper --env smax_2s3z \\
        --num-envs 32 --num-seeds 3 --total-steps 1228800 --eval-every 61440 --eval-episodes 128 --run-dir runs/mava
    python -m torch_mars.plot runs/mava --means --out results/mava
    python results/mava.py

Mava's curves are `tests/fixtures/mava_curves.json`, ours `results/mava/evaluations.json`. 32 environments are Mava's
16 in both halves of its update batch.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np

from torch_mars.protocol import figures, gather
from torch_mars.protocol.saved import read_nested, walk

HERE = Path(__file__).parent
TASKS = {"simple_spread_3ag": "return", "smax_2s3z": "return"}


def main() -> None:
    mava = json.loads((HERE.parent / "tests/fixtures/mava_curves.json").read_text())
    ours: dict[str, list] = {}
    for _, task, _, _, run in walk(read_nested(HERE / "mava/evaluations.json")):
        ours.setdefault(task, []).append(gather.evaluation_means(run))
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.panels(2)
        for axis, (task, label) in zip(axes, TASKS.items()):
            theirs = [(np.array(c["steps"], float), np.array(c["episode_return"])) for c in mava[task].values()]
            for lines, name, style in ((theirs, "Mava", {"color": "0.35", "linestyle": (0, (4, 1.5))}),
                                       (ours[task], "torch_mars", {"color": "#D55E00"})):  # fmt: skip
                for steps, returns in lines:
                    axis.plot(steps, returns, linewidth=0.6, alpha=0.6, **style)
                steps, returns = gather.on_common_steps(lines)
                axis.plot(steps, np.mean(returns, 0), label=name, **style)
            axis.set_title(task)
            axis.set_ylabel(label)
            figures.count_steps(axis)
        figures.add_legend(figure, axes[:1])
        figure.savefig(HERE.parent / "docs/mava.png")


if __name__ == "__main__":
    main()
