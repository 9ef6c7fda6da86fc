"""Runs that version 0.1.0 made, before config.yaml named the lesson: recorded with it, and recorded again gone on with.

`fixtures/runs_0_1_0/<task>/<lesson>/run` is a run of 4 updates of two seeds, `continued.jsonl` its metrics after 8.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from torch_mars import algos, evaluate, plot
from torch_mars.protocol import saved
from torch_mars.teams.policies import load_policy

RUNS = Path(__file__).parents[1] / "fixtures" / "runs_0_1_0"
with_runs = pytest.mark.parametrize(
    "task, lesson", [("paxmen_4a", "mars"), ("aerojax_2v2", "mappo"), ("smax_2s3z", "maspo")]
)


@pytest.fixture
def run(task, lesson, tmp_path):
    """A copy that lies somewhere else, under another name."""
    return Path(shutil.copytree(RUNS / task / lesson / "run", tmp_path / "of a colleague"))


@with_runs
def test_it_goes_on_where_it_was(run, task, lesson):
    """To float error: the processor that recorded it rounded in its own way."""
    assert algos.lesson(lesson).main(["--resume", str(run), "--total-steps", "128"]) == 0
    found, expected = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (run / "metrics.jsonl", RUNS / task / lesson / "continued.jsonl")
    )
    assert len(found) == len(expected) > 16
    for new, old in zip(found, expected):
        assert new.keys() >= old.keys()  # more is logged now
        for name in old.keys() - {"seconds", "steps_per_second"}:
            wanted = old[name] if isinstance(old[name], str) else pytest.approx(old[name], rel=1e-3, abs=1e-4)
            assert new[name] == wanted, (old["update"], name)
    assert yaml.safe_load((run / "config.yaml").read_text())["lesson"] == lesson


@with_runs
def test_it_is_read_measured_and_plotted(run, task, lesson, tmp_path):
    assert saved.open_run(run).algorithm == lesson and saved.open_run(run).is_finished()
    policy = load_policy(run)
    assert (policy.task, policy.algorithm, policy.env_options) == (task, lesson, {"max_steps": 12})
    assert evaluate.main([str(run), "--episodes", "2"]) == 0
    assert plot.main([str(run), "--out", str(tmp_path / "figures")]) == 0


def test_a_run_with_an_option_that_is_none_any_more_says_so(tmp_path):
    """The pilot's numbers are no options of AeroJAX now."""
    run = Path(shutil.copytree(RUNS / "aerojax_2v2/mappo/run", tmp_path / "run"))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["env_options"]["gain_turn"] = 3.0
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit) as stopped:
        algos.lesson("mappo").main(["--resume", str(run)])
    assert stopped.value.code == 2
