"""SMAX against recorded battles of the original, and its rules in hand-placed situations."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from smax_comparison import FIELDS, assert_same_situation, kinds_of_end, step_like_the_original

import torch_mars.envs as envs
from torch_mars.envs.smax.env import DT
from torch_mars.envs.smax.scenarios import SCENARIOS, UNIT_TYPES

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = sorted(path.stem.removeprefix("smax_") for path in FIXTURES.glob("smax_*.npz"))
UP, RIGHT, DOWN, LEFT, STOP, ATTACK = range(6)
MARINE, MARAUDER, STALKER, ZEALOT, ZERGLING, HYDRALISK = range(6)


# ---- against the original ----


def battles(scenario, monkeypatch):
    """Plays the recorded battles; at each step: env, the TimeSteps before and after, the record's step and rows."""
    record = np.load(FIXTURES / f"smax_{scenario}.npz")
    record = {name: record[name] for name in record.files}
    env = envs.make(f"smax_{scenario}", num_envs=record["done"].shape[1], auto_reset=False)
    env.reset()
    for t, rows in enumerate(record["is_running"]):
        before, after = ({name: record[name][at] for name in FIELDS} for at in (t, t + 1))
        env.load_state(before)
        seen = env.observe()
        ts = step_like_the_original(env, before, record["action"][t].astype(np.int64), after, rows, monkeypatch)
        yield env, seen, ts, {name: values[t] for name, values in record.items() if name not in ("obs", "state")}, after
        assert_same_situation(env, before, after, rows, f"{scenario} step {t}")


@pytest.mark.parametrize("scenario", RECORDED)
def test_every_step_of_recorded_battles(scenario, monkeypatch):
    for t, (_, seen, ts, step, _) in enumerate(battles(scenario, monkeypatch)):
        where, rows = f"step {t}", step["is_running"]
        np.testing.assert_array_equal(seen.action_mask[rows], step["mask"][rows], err_msg=where)
        np.testing.assert_allclose(ts.reward[rows, 0], step["reward"][rows], rtol=0, atol=2e-6, err_msg=where)
        assert (ts.reward == ts.reward[:, :1]).all()
        np.testing.assert_array_equal((ts.terminated | ts.truncated)[rows], step["done"][rows], err_msg=where)
        weights = np.cos(1 + np.arange(seen.obs.shape[2]))
        np.testing.assert_allclose((seen.obs.numpy() @ weights)[rows], step["obs_sum"][rows], rtol=0, atol=1e-4)


@pytest.mark.parametrize("scenario", RECORDED)
def test_full_observations_and_global_states_of_recorded_battles(scenario):
    record = np.load(FIXTURES / f"smax_{scenario}.npz")
    env = envs.make(f"smax_{scenario}", num_envs=record["done"].shape[1])
    for obs, state, t in zip(record["obs"], record["state"], (0, 6, 12)):
        rows = record["is_running"][t]
        env.load_state({name: record[name][t] for name in FIELDS})
        seen = env.observe()
        np.testing.assert_allclose(seen.obs[rows], obs[rows], rtol=0, atol=1e-6, err_msg=f"step {t}")
        np.testing.assert_allclose(seen.state[rows], state[rows], rtol=0, atol=1e-6, err_msg=f"step {t}")


def test_the_records_hold_kills_wins_losses_and_ends_by_time():
    ends, kills = dict.fromkeys(("won", "lost", "draw", "timeout"), 0), 0
    for scenario in RECORDED:
        record = np.load(FIXTURES / f"smax_{scenario}.npz")
        for t, done in enumerate(record["done"]):
            after = {"unit_alive": record["unit_alive"][t + 1]}
            for name, count in kinds_of_end(after, done, SCENARIOS[scenario].num_allies).items():
                ends[name] += count
            kills += (record["unit_alive"][t] & ~record["unit_alive"][t + 1])[record["is_running"][t]].sum()
    assert kills > 300 and ends["won"] >= 5 and ends["lost"] > 20 and ends["timeout"] > 5 and ends["draw"] >= 1, (
        kills,
        ends,
    )
