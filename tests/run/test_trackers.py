"""Trackers: what reaches them, and that none of them costs a training."""

import json
import os
import subprocess
import threading
from importlib import metadata

import numpy as np
import pytest
from own_environment import python_with
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torch_mars.algos import mars
from torch_mars.run import cli, trackers
from torch_mars.run.tracker import About, Tracker

SMALL = "--env connector_5x5x3a --num-envs 4 --rollout-length 16 --hidden-size 16 --eval-episodes 2 --device cpu"
STEPS = 64  # of one update with these settings


def train(run_dir, updates, *more):
    arguments = [*SMALL.split(), "--run-dir", str(run_dir), "--total-steps", str(updates * STEPS), *map(str, more)]
    assert mars.main(arguments) == 0
    (folder,) = [path.parent for path in run_dir.glob("*/*/*/config.yaml")]
    return folder


class Told(Tracker):
    """Remembers what it is told, and in which thread."""

    title = "Told"
    latest = None

    def __init__(self):
        self.calls, self.threads = [], set()
        Told.latest = self

    def _hear(self, *call):
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def begin(self, about, known, say):
        self._hear("begin", about, known)
        return {str(seed): f"their {seed}" for seed in about.seeds}

    def add(self, seed, values, step):
        self._hear("add", seed, values, step)

    def film(self, seed, path, step):
        self._hear("film", seed, path.read_bytes()[:6], step)

    def flush(self):
        self._hear("flush")

    def end(self):
        self._hear("end")


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setitem(trackers.KINDS, "json", Told)  # the name of a package that is always there
    return Told


def test_trackers_are_told_what_metrics_jsonl_says(tmp_path, told):
    folder = train(tmp_path, 4, "--track", "json", "--num-seeds", 2, "--eval-every", 2 * STEPS, "--film-every", 999)
    first, *calls, last = told.latest.calls
    about = first[1]
    assert first[0] == "begin" and last == ("end",) and first[2] == {}
    assert (
        about.settings["expand"] == 1.5275 and about.settings["lesson"] == "mars" and about.settings["track"] == "json"
    )
    assert about.settings["env_options"] == "{}" and about.resumed_at is None and about.seeds == [0, 1]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    added = [call[1:] for call in calls if call[0] == "add"]
    *added, absolute_0, absolute_1 = added
    assert len(added) == len(lines) == 2 * 4 + 2 * 2
    for line, (seed, values, step) in zip(lines, added):
        assert (seed, step) == (line["seed"], line["step"])
        for name, value in values.items():
            kind, _, name = name.partition("/")
            assert kind == {"update": "train", "evaluation": "evaluation"}[line["kind"]]
            assert value == pytest.approx(np.mean(line[name]))
    whole = json.loads((folder / "evaluations.json").read_text())["connector"]["connector_5x5x3a"]["mars"]
    for seed, (of_seed, values, step) in enumerate([absolute_0, absolute_1]):
        episodes = whole[f"run_{seed}"]["absolute_metrics"]["episode_return"]
        assert (of_seed, step) == (seed, 4 * STEPS) and values["absolute/episode_return"] == np.mean(episodes)
    assert [call for call in calls if call[0] == "film"] == [("film", 0, b"GIF89a", 4 * STEPS)]
    assert told.latest.threads == {"json"}  # not the one that trains


def test_a_resumed_run_goes_on_with_the_curves_it_had(tmp_path, told):
    folder = train(tmp_path, 2, "--track", "json", "--seed", 5)
    assert json.loads((folder / "trackers.json").read_text()) == {"json": {"5": "their 5"}}
    assert mars.main(["--resume", str(folder), "--total-steps", str(3 * STEPS)]) == 0
    begin = told.latest.calls[0]
    assert begin[2] == {"5": "their 5"} and begin[1].resumed_at == 3 * STEPS
    (folder / "trackers.json").write_text('{"json": [1]')  # damaged: they begin anew
    assert mars.main(["--resume", str(folder), "--total-steps", str(4 * STEPS)]) == 0
    assert told.latest.calls[0][2] == {}
    assert mars.main(["--resume", str(folder), "--track", "tensorboard", "--total-steps", str(5 * STEPS)]) == 0
    assert told.latest.calls[0][1].resumed_at == 4 * STEPS  # and is told no more


@pytest.mark.parametrize("method", ["begin", "add", "flush", "end"])
def test_a_tracker_that_fails_is_given_up_in_one_sentence(tmp_path, told, monkeypatch, capsys, method):
    def fail(*_):
        raise ConnectionError("no route\nto the service")

    monkeypatch.setattr(Told, method, fail)
    folder = train(tmp_path, 3, "--track", "json", "--checkpoint-every", 1)
    said = capsys.readouterr().err
    sentence = "Told's curves cannot be written any more (no route to the service); metrics.jsonl goes on"
    assert said.count(sentence) == 1 and "Traceback" not in said
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3 + 3
    assert (folder / "policy.pt").exists()


def test_nobody_waits_for_a_service_that_does_not_answer(tmp_path, told, monkeypatch, capsys):
    answer = threading.Event()
    monkeypatch.setattr(Told, "add", lambda *_: answer.wait())
    monkeypatch.setattr(trackers, "PATIENCE", 0.2)
    train(tmp_path, 2, "--track", "json")
    answer.set()
    assert "Told has not taken everything" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed, sentence",
    [
        ("wandbb", "--track is 'wandbb'; did you mean wandb? (several: wandb,mlflow)"),
        ("wandb,,mlflow", "--track is 'wandb,,mlflow'; allowed are"),
        ("gone_package", '--track gone_package needs the package gone_package: pip install "torch_mars[track]"'),
        ("a_folder", '--track a_folder needs the package a_folder: pip install "torch_mars[track]"'),
    ],
)
def test_a_tracker_that_is_not_there_is_one_sentence(typed, sentence, tmp_path, monkeypatch):
    for name in ("gone_package", "a_folder"):
        monkeypatch.setitem(trackers.KINDS, name, Told)
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(trackers.KINDS, name, Told)
    (tmp_path / "a_folder").mkdir()  # as wandb leaves one
    monkeypatch.syspath_prepend(tmp_path)
    real = trackers.importlib.util.find_spec
    monkeypatch.setattr(
        trackers.importlib.util, "find_spec", lambda name: real("json" if name in ("wandb", "mlflow") else name)
    )
    with pytest.raises(cli.UsageError) as error:
        trackers.chosen(typed)
    assert sentence in str(error.value)


def test_names_of_several_trackers_are_taken_once_each(monkeypatch, told):
    monkeypatch.setitem(trackers.KINDS, "csv", Told)
    assert trackers.chosen("json, csv,json") == ["json", "csv"] and trackers.chosen("tensorboard") == []


def test_tensorboard_shows_settings_and_films(tmp_path):
    folder = train(tmp_path, 2, "--seed", 3, "--expand", 1.25, "--film-every", STEPS)
    curves = EventAccumulator(str(folder / "tensorboard" / "seed_3"))
    curves.Reload()
    start = curves.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    from tensorboard.plugins.hparams import plugin_data_pb2

    settings = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert settings["expand"].number_value == 1.25 and settings["seed"].number_value == 3
    assert settings["env"].string_value == "connector_5x5x3a" and settings["contract"].string_value == ""
    assert [film.step for film in curves.Images("film")] == [STEPS, 2 * STEPS]
    shown = [film.encoded_image_string for film in curves.Images("film")]
    assert shown == [(folder / "films" / f"step_{step}.gif").read_bytes() for step in (STEPS, 2 * STEPS)]


def test_a_tracker_can_be_used_alone(tmp_path, told):
    """Twice `end` where `end` itself fails, and nothing after a failure."""
    calls = []

    class Failing(Told):
        def end(self):
            calls.append("end")
            raise RuntimeError

    trackers.KINDS["json"] = Failing
    said = []
    some = trackers.Trackers(["json"], About(tmp_path, "a", "mars", [0], {}, None), said.append)
    some.add(0, {"x": 1.0}, 1)
    some.close()
    assert calls == ["end", "end"] and said == [
        "Told's curves cannot be written any more (RuntimeError); metrics.jsonl goes on"
    ]


# ---- the real packages, offline ----

READ_WANDB = """
import glob, json, struct, sys
from wandb.proto.wandb_internal_pb2 import Record

def records(path):  # LevelDB's log format behind 7 bytes: blocks of 32 KB, of parts with checksum, length and kind
    content, at, record = open(path, "rb").read(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        record, at = record + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(record)
            record = b""

for path in sorted(glob.glob(sys.argv[1] + "/wandb/offline-run-*/*.wandb")):
    found = {"history": [], "config": {}}
    for record in records(path):
        for item in record.history.item:
            name = item.key or item.nested_key[0]
            if name in ("train/actor_loss", "environment_steps", "film"):
                found["history"].append([name, json.loads(item.value_json)])
        for item in record.run.config.update:
            found["config"][item.key or item.nested_key[0]] = json.loads(item.value_json)
        if record.HasField("run"):
            found["id"], found["group"] = record.run.run_id, record.run.run_group
    print(json.dumps(found))
"""

READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
experiment = client.get_experiment_by_name(sys.argv[1])
for run in client.search_runs([experiment.experiment_id]):
    points = [[p.step, p.value] for p in client.get_metric_history(run.info.run_id, "train/actor_loss")]
    films = [film.path for film in client.list_artifacts(run.info.run_id, "films")]
    about = {"params": run.data.params, "status": run.info.status, "tags": run.data.tags}
    print(json.dumps({"id": run.info.run_id, "points": points, "films": films, **about}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_wandb_and_mlflow_take_runs_offline_and_resumed(tmp_path):
    wanted = [line.split(";")[0].strip() for line in metadata.requires("torch_mars") if 'extra == "track"' in line]
    assert len(wanted) == 2
    python = python_with(tmp_path / "environment", *wanted)
    about = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "WANDB_MODE": "online", "HOME": str(tmp_path)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW"))}

    def run(*command):
        done = subprocess.run(
            [str(python), *map(str, command)], cwd=tmp_path, env={**kept, **about}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    lesson = ["-m", "torch_mars.algos.mars"]
    more = ["--run-dir", "runs", "--num-seeds", 2, "--track", "wandb,mlflow", "--film-every", 2 * STEPS]
    said = run(*lesson, *SMALL.split(), *more, "--total-steps", 3 * STEPS).stderr
    assert "Weights & Biases is offline: nobody is logged in" in said and "cannot be written" not in said
    (folder,) = [path.parent for path in tmp_path.glob("runs/*/*/*/config.yaml")]
    said = run(*lesson, "--resume", folder, "--total-steps", 5 * STEPS).stderr
    assert "cannot be written" not in said and "not taken" not in said

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = {
        seed: [[r["step"], r["actor_loss"]] for r in lines if r["seed"] == seed and r["kind"] == "update"]
        for seed in (0, 1)
    }
    found = [json.loads(line) for line in run("-c", READ_MLFLOW, "connector_5x5x3a").stdout.splitlines()]
    assert len(found) == 2
    for one in found:
        seed = int(one["tags"]["seed"])
        assert one["points"] == expected[seed] and one["status"] == "FINISHED"
        assert one["params"]["expand"] == "1.5275" and one["tags"]["group"] == folder.name
        steps = [2 * STEPS, 3 * STEPS, 4 * STEPS, 5 * STEPS]
        assert one["films"] == ([f"films/step_{step}.gif" for step in steps] if seed == 0 else [])

    found = [json.loads(line) for line in run("-c", READ_WANDB, folder).stdout.splitlines()]
    identities = json.loads((folder / "trackers.json").read_text())["wandb"]
    by_seed = {seed: [one for one in found if one["id"] == identities[str(seed)]] for seed in (0, 1)}
    assert [len(of_seed) for of_seed in by_seed.values()] == [2, 2]  # before and after the resume
    for seed, (before, after) in by_seed.items():
        history = before["history"] + after["history"]
        assert [value for name, value in history if name == "train/actor_loss"] == [v for _, v in expected[seed]]
        assert before["config"]["expand"] == 1.5275 and before["config"]["seed"] == seed
        assert before["group"] == after["group"] == folder.name
        assert ("film" in [name for name, _ in history]) == (seed == 0)

    # a service that cannot be reached: offline, too
    about.update({"WANDB_API_KEY": 40 * "1", "WANDB_BASE_URL": "http://127.0.0.1:9"})
    said = run(*lesson, *SMALL.split(), "--run-dir", "far", "--track", "wandb", "--total-steps", 3 * STEPS).stderr
    assert (
        said.count("Weights & Biases is offline: ") == 1 and "cannot be written" not in said and "not taken" not in said
    )
    (folder,) = [path.parent for path in tmp_path.glob("far/*/*/*/config.yaml")]
    (found,) = [json.loads(line) for line in run("-c", READ_WANDB, folder).stdout.splitlines()]
    assert json.loads((folder / "trackers.json").read_text()) == {"wandb": {"0": found["id"]}}
    assert len([name for name, _ in found["history"] if name == "train/actor_loss"]) == 3
