"""Tracking services: Weights & Biases and MLflow. Each seed is a run of theirs, all seeds of a run are one group.

So their own means and bands over a group are those over seeds. Where the services are, and who the user is, they know
themselves: `wandb login`, `WANDB_PROJECT`, `WANDB_MODE`, ..., and `MLFLOW_TRACKING_URI`. What both want and allow is
from their documentation.
"""

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_mars.run.tracker import About, Tracker

PROJECT = "torch_mars"  # where the user names none
STEP = "environment_steps"  # the axis of curves
INIT_SECONDS = 20.0  # that a service is waited for


class Wandb(Tracker):
    """Weights & Biases. Without a login or a network, its files lie in the run's folder, to be sent later."""

    title = "Weights & Biases"

    def __init__(self) -> None:
        self.runs: dict[int, Any] = {}

    def begin(self, about: About, known: dict[str, str], say: Callable[[str], None]) -> dict[str, str]:
        import wandb

        self.wandb, self.offline_because = wandb, ""
        self.mode = os.environ.get("WANDB_MODE", "online")
        if self.mode == "online" and not wandb.login(prompt=False, verify=False):
            self.mode, self.offline_because = "offline", "nobody is logged in (wandb login)"
        for seed in about.seeds:
            run = self._begin_seed(self._about_seed(about, seed, known.get(str(seed))))
            run.define_metric(STEP)
            run.define_metric("*", step_metric=STEP)
            self.runs[seed] = run
        if self.offline_because:
            later = f"wandb sync {about.folder / 'wandb'}/offline-run-*"
            say(f"note: {self.title} is offline: {self.offline_because}; later: {later}")
        return {str(seed): known.get(str(seed), run.id) for seed, run in self.runs.items()}

    def _begin_seed(self, about_seed: dict[str, Any]) -> Any:
        """Their run; offline from now on if the service cannot be reached."""
        try:
            return self.wandb.init(**about_seed, mode=self.mode)
        except self.wandb.errors.Error as error:
            if self.mode != "online":
                raise
            self.mode, self.offline_because = "offline", " ".join(str(error).split())[:200] or type(error).__name__
            own = {"id": secrets.token_hex(4), "resume": None}  # the other one counts as being in use
            return self.wandb.init(**{**about_seed, **own}, mode=self.mode)

    def _about_seed(self, about: About, seed: int, identity: str | None) -> dict[str, Any]:
        """What `wandb.init` wants to know. `identity`: of the curves of a resumed run."""
        # the screen is ours; who cannot be reached is given up before a run's end is held up
        settings = self.wandb.Settings(console="off", silent=True, init_timeout=INIT_SECONDS)
        return {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "group": about.folder.name,
            "name": f"{about.algorithm} {about.task} seed {seed}",
            "tags": [about.algorithm, about.task],
            "config": {**about.settings, "seed": seed},
            "dir": about.folder,
            "id": identity or secrets.token_hex(4),
            "resume": "allow" if identity else None,
            "reinit": "create_new",
            "settings": settings,
        }

    def add(self, seed: int, values: dict[str, float], step: int) -> None:
        self.runs[seed].log({**values, STEP: step})

    def film(self, seed: int, path: Path, step: int) -> None:
        self.runs[seed].log({"film": self.wandb.Video(str(path), format="gif"), STEP: step})

    def flush(self) -> None:
        """A process of its own writes everything down at once."""

    def end(self) -> None:
        for run in self.runs.values():
            run.finish()


class Mlflow(Tracker):
    """MLflow: the task is the experiment; films are artefacts."""

    title = "MLflow"
    MOST_METRICS, MOST_PARAMS, LONGEST = 1000, 100, 6000  # of a call; characters of a parameter

    def __init__(self) -> None:
        self.names: dict[int, str] = {}  # of their runs
        self.waiting: dict[int, list] = {}  # metrics, by seed: a call for each would be slow

    def begin(self, about: About, known: dict[str, str], say: Callable[[str], None]) -> dict[str, str]:
        from mlflow import MlflowClient, entities

        self.entities = entities
        self.client, experiment = _twice(lambda: self._reached(MlflowClient(), about.task))
        self.waiting = {seed: [] for seed in about.seeds}
        for seed in about.seeds:
            if str(seed) in known:
                self.names[seed] = known[str(seed)]
                self.client.update_run(self.names[seed], status="RUNNING")
                continue
            tags = {"group": about.folder.name, "algorithm": about.algorithm, "seed": str(seed)}
            name = f"{about.folder.name} seed {seed}"
            self.names[seed] = self.client.create_run(experiment, tags=tags, run_name=name).info.run_id
            self._tell_settings(seed, {**about.settings, "seed": seed})
        return {str(seed): name for seed, name in self.names.items()}

    @staticmethod
    def _reached(client: Any, task: str) -> tuple[Any, str]:
        """The client, and the task's experiment."""
        found = client.get_experiment_by_name(task)
        return client, found.experiment_id if found else client.create_experiment(task)

    def _tell_settings(self, seed: int, settings: dict[str, Any]) -> None:
        params = [self.entities.Param(name, str(value)[: self.LONGEST]) for name, value in settings.items()]
        for start in range(0, len(params), self.MOST_PARAMS):
            self.client.log_batch(self.names[seed], params=params[start : start + self.MOST_PARAMS])

    def add(self, seed: int, values: dict[str, float], step: int) -> None:
        now = time.time_ns() // 10**6
        if len(self.waiting[seed]) + len(values) > self.MOST_METRICS:
            self._send(seed)
        self.waiting[seed] += [self.entities.Metric(name, value, now, step) for name, value in values.items()]

    def _send(self, seed: int) -> None:
        metrics, self.waiting[seed] = self.waiting[seed], []
        if metrics:
            self.client.log_batch(self.names[seed], metrics=metrics)

    def film(self, seed: int, path: Path, step: int) -> None:
        self.client.log_artifact(self.names[seed], str(path), "films")

    def flush(self) -> None:
        for seed in self.names:
            self._send(seed)

    def end(self) -> None:
        self.flush()
        for name in self.names.values():
            self.client.set_terminated(name)


def _twice(do: Callable[[], Any]) -> Any:
    """`do`, once more after a while if it fails: another training may be making the same at this moment."""
    try:
        return do()
    except Exception:
        time.sleep(3.0)
        return do()
