"""Evaluations that were never measured, for tests of what is made from evaluations."""

import json

import numpy as np
import yaml


def nested(finals, points=5, seeds=3, first_seed=10, spread=0.0):
    """{task: {method: final return}} -> marl-eval's nesting: lines from -10 to the final return, seeds 0.1 apart.

    The last fifth of five points is the last one, so that final scores are final + 0.1 * (0, 1, 2, ...).
    """
    from torch_mars.envs import family

    result = {}
    for task, by_method in finals.items():
        for method, final in by_method.items():
            for seed in range(seeds):
                line = np.linspace(-10, final + 0.1 * seed, points)
                run = {
                    f"step_{i}": {
                        "step_count": 1000 * (i + 1),
                        "elapsed_time": 2.0 * i,
                        "episode_return": [float(value) - spread, float(value) + spread],
                    }
                    for i, value in enumerate(line)
                }
                run["absolute_metrics"] = {"episode_return": [float(line[-1])] * 4}
                place = result.setdefault(family(task), {}).setdefault(task, {}).setdefault(method, {})
                place[f"run_{first_seed + seed}"] = run
    return result


def run_folder(run_dir, method="mars", task="paxmen_4a", final=-5.0, seeds=3, points=5, is_finished=True, **settings):
    """A run as a training leaves it, without the training: the same files, a few numbers in each."""
    from torch_mars import methods
    from torch_mars.envs import family

    method = methods.METHODS[method]
    folder = run_dir / task / method.lesson / f"{method.name}-{len(list(run_dir.rglob('config.yaml')))}"
    folder.mkdir(parents=True)
    given = {"env": task, "total_steps": 1000 * points, "num_envs": 10, "rollout_length": 100, "name": method.name}
    given |= {"seed": 10, "num_seeds": seeds, **method.settings, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    runs = nested({task: {method.lesson: final}}, points, seeds, given["seed"])
    if not is_finished:
        for run in runs[family(task)][task][method.lesson].values():
            run.pop(f"step_{points - 1}")
            run["absolute_metrics"] = {}
    (folder / "evaluations.json").write_text(json.dumps(runs))
    with open(folder / "metrics.jsonl", "w") as file:
        for update in range(1, points + is_finished):
            for seed in range(given["seed"], given["seed"] + seeds):
                record = {
                    "kind": "update",
                    "seed": seed,
                    "update": update,
                    "step": 1000 * update,
                    "seconds": update / 10,
                }
                record |= {"ratio_max": 1 + 0.1 * update, "ratio_min": 1 - 0.1 * update}
                file.write(json.dumps(record) + "\n")
    (folder / "checkpoint.pt").touch()
    if is_finished:
        (folder / "policy.pt").touch()
    return folder
