"""Evaluations that were never measured, for tests of what is made from evaluations."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from torch_mars.protocol import methods
from torch_mars.run.settings import resolve


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
    """A run of a method as a training leaves it, without the training."""
    method = methods.METHODS[method]
    given = {"env": task, "total_steps": 1000 * points, "num_envs": 10, "rollout_length": 100, "name": method.name}
    given |= {"seed": 10, "num_seeds": seeds, **method.settings, **settings}
    return write_run(run_dir, method.algorithm, given, final, is_finished)


def write_run(run_dir, lesson, settings, final, is_finished=True):
    """The files of a run, a few numbers in each; one that is not finished lacks its last update."""
    from torch_mars.envs import family

    task, seeds, first = settings["env"], settings["num_seeds"], settings["seed"]
    folder = Path(run_dir) / task / lesson / f"{settings['name']}-{len(list(Path(run_dir).rglob('config.yaml')))}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    steps = settings["num_envs"] * settings["rollout_length"]
    points = settings["total_steps"] // steps
    runs = nested({task: {lesson: final}}, points, seeds, first)
    if not is_finished:
        for run in runs[family(task)][task][lesson].values():
            run.pop(f"step_{points - 1}")
            run["absolute_metrics"] = {}
    (folder / "evaluations.json").write_text(json.dumps(runs))
    with open(folder / "metrics.jsonl", "w") as file:
        for update in range(1, points + is_finished):
            for seed in range(first, first + seeds):
                record = {"kind": "update", "seed": seed, "update": update, "step": steps * update}
                record |= {"seconds": update / 10, "ratio_max": 1 + 0.1 * update, "ratio_min": 1 / (1 + 0.1 * update)}
                file.write(json.dumps(record) + "\n")
    (folder / "checkpoint.pt").touch()
    if is_finished:
        (folder / "policy.pt").touch()
    return folder


class Killed(Exception):
    """The command died at this point."""


class FakeTraining:
    """In place of `torch_mars.protocol.trainings.Training`: leaves a run at once, with what `outcome(settings)` says.

    A float is the run's final return; "cut" leaves an unfinished run and kills the command; an int is the exit code of
    a training that leaves nothing.
    """

    outcome = staticmethod(lambda settings: -5.0)
    log_of_all: list = []  # (arguments' first word, settings) of every training

    @classmethod
    def replace_in(cls, command, monkeypatch, folder):
        """Make up the trainings of a command run in `folder`; the list of their (--config or --resume, settings)."""
        monkeypatch.setattr(command, "Training", cls)
        monkeypatch.setattr(command, "POLL_SECONDS", 0.0)
        monkeypatch.setattr(cls, "log_of_all", [])
        monkeypatch.chdir(folder)
        return cls.log_of_all

    @classmethod
    def leave(cls, outcome, monkeypatch):
        """From now on, trainings end with outcome(settings)."""
        monkeypatch.setattr(cls, "outcome", staticmethod(outcome))

    def __init__(self, method, task, arguments, log, threads=None, environment=None):
        self.log, (how, path) = log, arguments[:2]
        settings = yaml.safe_load((Path(path) / "config.yaml" if how == "--resume" else Path(path)).read_text())
        self.log_of_all.append((how, settings))
        found = self.outcome(settings)
        self.code = found if isinstance(found, int) else 0
        if how == "--resume":
            shutil.rmtree(path)
        if not isinstance(found, int):
            args = resolve(method.args, method.module.ratio_range, method.algorithm, settings)
            settings = {k: v for k, v in dataclasses.asdict(args).items() if k not in ("config", "resume")}
            write_run(
                settings["run_dir"], method.algorithm, settings, -9.0 if found == "cut" else found, found != "cut"
            )
        if found == "cut":
            raise Killed

    def poll(self):
        return self.code

    def stop(self):
        pass

    def last_words(self):
        return f"{self.log.stem} failed with code {self.code}"
