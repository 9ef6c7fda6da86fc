"""`examples/mechanism/tails.py`: pieces of objectives, against the lessons that they are of, and where they meet."""

import math
from pathlib import Path

import pytest
import torch
from loaded_scripts import loaded
from share_lessons import OTHERS, SOURCE, with_shared_part_of

from torch_mars.algos import mappo, mars, maspo
from torch_mars.protocol import methods
from torch_mars.run.cli import UsageError

PATH = Path(__file__).parents[2] / "examples" / "mechanism" / "tails.py"
STRENGTH = 0.4
LOW, HIGH = math.log(0.8), math.log(1.25)
LESSONS = {
    "mappo": (mappo, mappo.Args(clip=STRENGTH)),
    "maspo": (maspo, maspo.Args(clip=STRENGTH)),
    "mars": (mars, mars.Args(expand=methods.matched(STRENGTH)["expand"])),
}


@pytest.fixture(scope="module")
def tails():
    with loaded(PATH) as module:
        yield module


def of(objective, advantage, args):
    """Log-ratios from -3 to 3, J there, and the force, in double precision."""
    log_ratio = torch.linspace(-3, 3, 2001, dtype=torch.float64, requires_grad=True)
    value = objective(log_ratio, torch.full_like(log_ratio, advantage).detach(), args)
    return log_ratio.detach(), value.detach(), torch.autograd.grad(value.sum(), log_ratio)[0]


def test_all_else_is_the_lessons():
    text = PATH.read_text()
    assert with_shared_part_of(SOURCE.read_text(), text, OTHERS[PATH]) == text


@pytest.mark.parametrize("advantage", [1.3, -0.7])
@pytest.mark.parametrize("name", LESSONS)
def test_a_core_with_its_own_tails_is_the_lesson(tails, name, advantage):
    lesson, args = LESSONS[name]
    mixed = tails.Args(core=name, tail_low=name, tail_high=name, strength=STRENGTH)
    for own, theirs in zip(of(tails.policy_objective, advantage, mixed), of(lesson.policy_objective, advantage, args)):
        torch.testing.assert_close(own, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("advantage", [1.3, -0.7])
@pytest.mark.parametrize(
    "core, low, high", [("maspo", "mars", "none"), ("mars", "maspo", "linear"), ("mappo",) + ("mars",) * 2]
)
def test_every_piece_pulls_where_it_counts_and_nothing_jumps(tails, core, low, high, advantage):
    args = tails.Args(core=core, tail_low=low, tail_high=high, strength=STRENGTH)
    log_ratio, value, force = of(tails.policy_objective, advantage, args)
    parts = {core: (log_ratio > LOW) & (log_ratio < HIGH), low: log_ratio < LOW, high: log_ratio > HIGH}
    for name in {core, low, high}:
        whole = tails.Args(core=core if name == "none" else name, tail_low=name, tail_high=name, strength=STRENGTH)
        _, _, expected = of(tails.policy_objective, advantage, whole)
        where = parts[name] if (core, low, high).count(name) == 1 else parts[name] & (log_ratio > HIGH)
        torch.testing.assert_close(force[where], expected[where], rtol=1e-9, atol=1e-9)
    step = (log_ratio[1] - log_ratio[0]).item()
    steepest = torch.maximum(force[1:].abs(), force[:-1].abs())
    assert (value.diff().abs() <= 1.01 * step * steepest + 1e-9).all()  # a jump would be higher than any slope
    if high == "none":
        assert (force[log_ratio > HIGH] == 0).all()


def test_the_linear_force_is_linear(tails):
    args = tails.Args(core="linear", tail_low="linear", tail_high="linear", strength=STRENGTH)
    for advantage in (1.3, -0.7):
        log_ratio, _, force = of(tails.policy_objective, advantage, args)
        torch.testing.assert_close(force, abs(advantage) * (math.copysign(1, advantage) - log_ratio / STRENGTH))


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"core": "none"}, "--core is 'none'; it must be mappo, maspo, mars, linear"),
        ({"tail_low": "clip"}, "--tail-low is 'clip'; it must be mappo, maspo, mars, linear, mirrored, none"),
        ({"strength": 1.0}, "--strength is 1.0; it must be between 0 and 1"),
        ({"band_low": 1.1}, "--band-low is 1.1; it must be less than 1"),
        ({"band_high": 0.9}, "--band-high is 0.9; it must be greater than 1"),
    ],
)
def test_refused(tails, given, problem):
    with pytest.raises(UsageError, match=problem):
        tails.ratio_range(tails.Args(**given))


def test_it_trains(tails, tmp_path):
    words = "--env paxmen_4a --num-envs 4 --rollout-length 8 --hidden-size 8 --eval-episodes 2 --device cpu".split()
    assert tails.main([*words, "--total-steps", "64", "--run-dir", str(tmp_path), "--tail-high", "none"]) == 0
    (config,) = tmp_path.glob("paxmen_4a/tails/*/config.yaml")
    assert "tail_high: none" in config.read_text()


def test_the_mirrored_pull_is_that_of_maspo_with_r_and_1_over_r_exchanged(tails):
    args, mirrored = (
        tails.Args(core=name, tail_low=name, tail_high=name, strength=STRENGTH) for name in ("maspo", "mirrored")
    )
    for advantage in (1.3, -0.7):
        _, _, force = of(tails.policy_objective, -advantage, args)
        _, _, own = of(tails.policy_objective, advantage, mirrored)
        torch.testing.assert_close(own, -force.flip(0), rtol=1e-9, atol=1e-9)
