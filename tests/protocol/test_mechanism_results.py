"""`results/mechanism/draw.py`: its own statistics, by hand, and that what is there is drawn."""

from pathlib import Path

import numpy as np
import pytest
from loaded_scripts import loaded

PATH = Path(__file__).parents[2] / "results" / "mechanism" / "draw.py"


@pytest.fixture(scope="module")
def drawing():
    with loaded(PATH) as module:
        yield module


def test_all_groups_alike_is_rare_and_none_is_certain(drawing):
    assert drawing.sign_p(np.ones(16)) == 2 / 2**16
    assert drawing.sign_p(np.zeros(16)) == 1
    assert drawing.sign_p(np.array([1.0, -1.0] * 8)) == 1
    one_off = np.array([1.0] * 15 + [-1.0])  # as extreme: none off, or any one, either way
    assert drawing.sign_p(one_off) == 2 * 17 / 2**16


def fork_of(kls: list[float], gains: list[float], played: list[int]) -> dict:
    return {"played": played, "course": {"kl": kls}, "gained": [[gain] * 16 for gain in gains]}


def test_gain_at_equal_kl_lies_between_two_plays_by_the_root(drawing):
    line = fork_of([1e-4, 4e-4, 5e-4, 16e-4], [1.0, 2.0, 8.0], [1, 2, 4])
    assert drawing.gain_at(line, 4e-4) == pytest.approx(2.0)
    assert drawing.gain_at(line, 9e-4) == pytest.approx(5.0)  # root 3 of 2 and 4
    assert drawing.gain_at(line, 0.25e-4) == pytest.approx(0.5)  # half way from the start
    assert drawing.gain_at(line, 17e-4) is None


def test_gain_at_is_of_the_first_time(drawing):
    line = fork_of([4e-4, 1e-4], [3.0, 9.0], [1, 2])
    assert drawing.gain_at(line, 1e-4) == pytest.approx(1.5)


@pytest.mark.parametrize("trials, expected", [(1, 2.0), (2, 8 / 3), (3, 3.0)])
def test_best_of_some_settings(drawing, trials, expected):
    assert drawing.best_of([1.0, 3.0, 2.0], trials) == pytest.approx(expected)


def test_cells_are_told_by_their_names(drawing):
    assert drawing.cell_of({"arm": "maspo_s0.4_lr0.5"}) == ("maspo", 0.4, "half")


def seed_of(arm: str, seed: int, final: float) -> dict:
    logged = dict.fromkeys(("approx_kl", "ratio_min", "ratio_q01", "ratio_q99", "ratio_max"), 0.5)
    curve = {"step": [1, 2], "return": [0.0, final]}
    return {
        "task": "gather", "arm": arm, "seed": seed, "total_steps": 10**6, "final": final, "median_of_updates": logged,
        "seconds": 60.0, "device": "cpu", "last_entropy": 1.5, "curve": curve,
    }  # fmt: skip


def test_two_pairs_of_arms_are_exchanged_within_each(drawing):
    """3 of 4 and 4 of 4 pairs of seeds; of the 36 exchanges one is as extreme as this, to either side."""
    ends = {"mars_whole": [3.0, 9.0], "mars_maspo": [1.0, 4.0], "maspo_mars": [8.0, 9.0], "maspo_whole": [0.0, 1.0]}
    text = drawing.together({arm: np.array(values) for arm, values in ends.items()})
    assert "MARS's tails over MASPO's, either core | 0.88, p = 0.11 | 0.5 |" in text  # by seed: 5 and 6.5 of one sign
    assert drawing.together({"mars_whole": np.zeros(2)}) == ""


def line_of(seed: int, sigma: float) -> dict:
    return {"seed": seed, "steps": 1, "sigma": sigma, "noise": "joint"}


def test_of_every_start_the_rollout_with_the_most_forks_is_shown(drawing):
    lines = [line_of(0, 0.0), line_of(7, 0.0), line_of(7, 4.0), line_of(9, 4.0)]
    assert drawing.one_rollout_each(lines) == [line_of(7, 0.0), line_of(7, 4.0)]
    assert drawing.one_rollout_each([line_of(9, 0.0), line_of(0, 0.0)]) == [line_of(0, 0.0)]


def test_strengths_at_which_one_went_further_than_mappo_are_not_compared(drawing):
    def line(objective: str, strength: float, kl: float, gain: float) -> dict:
        fork = fork_of([kl], [gain], [1])
        return {**fork, **line_of(0, 0.0), "objective": objective, "strength": strength, "kl": kl}

    lines = [line("mappo", 0.2, 4e-4, 1.0), line("maspo", 0.2, 9e-4, 5.0), line("mars", 0.2, 1e-4, 5.0)]
    lines += [line("mappo", 0.8, 4e-4, 1.0), line("maspo", 0.8, 1e-4, 2.0), line("mars", 0.8, 4e-4, 3.0)]
    row = drawing.equal_kl_table(lines, [(0.0, "joint")]).splitlines()[-1]
    assert row.startswith(
        "| 0 | 1e-06M | 0.8 of 2 | 1.500 +- 0.000, p = 3.1e-05 | 2.000 +- 0.000, p = 3.1e-05 |  | 1.000"
    )


def test_reports(drawing, monkeypatch, tmp_path):
    monkeypatch.setattr(drawing, "HERE", tmp_path)
    tails = [seed_of(arm, s, s + shift) for arm, shift in (("mars_whole", 9.0), ("linear", 0.0)) for s in range(5)]
    text = drawing.tails_report(tails, "tails")
    assert "| linear force | 5 | 2.00 +- 1.96 | 2.00 (1.00 to 3.00) | 0.00, p = 0.0079 |  |  | 0.5 |" in text
    assert (tmp_path / "tails_gather_1M.png").exists()
    arms = [f"{method}_s{s}_lr1.0" for method in ("mappo", "maspo", "mars") for s in (0.2, 0.4)]
    cells = [seed_of(arm, s, float(i)) for i, arm in enumerate(arms) for s in range(2)]
    text = drawing.strengths_report(cells, "strengths")
    assert "| 0.2 | usual | 0.00 +- 0.00 at 0.5 | 2.00 +- 0.00 at 0.5 | 4.00 +- 0.00 at 0.5 | 1.00, p = 0.33 |" in text
    assert "| MARS | 4.50 | 5.00 |" in text
