"""`examples/mechanism/fork.py`: a fork is the lesson's own update, objectives have one strength, plays one luck."""

import json
from pathlib import Path

import pytest
import torch
from loaded_scripts import loaded
from torch import Tensor

from torch_mars.algos import maspo
from torch_mars.run.cli import UsageError

PATH = Path(__file__).parents[2] / "examples" / "mechanism" / "fork.py"
TRAINED = "--env paxmen_4a --num-envs 4 --rollout-length 8 --hidden-size 8 --eval-episodes 2 --device cpu".split()


@pytest.fixture(scope="module")
def forks():
    with loaded(PATH) as module:
        yield module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert maspo.main([*TRAINED, "--total-steps", "96", "--run-dir", str(folder)]) == 0
    return next(folder.glob("paxmen_4a/maspo/*"))


@pytest.fixture(scope="module")
def start(forks, run):
    return forks.Start(run, 128, 32, seed=0)


def weights(learner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in (*learner.actor.parameters(), *learner.critic.parameters())])


@pytest.mark.parametrize("name", ["mappo", "maspo", "mars", "mars_additive", "linear"])
def test_a_fork_is_the_update_of_its_lesson(forks, start, name):
    lesson, more = forks.objective(name, 0.4)
    args = start.args(lesson, **more)
    forked, own = start.learner(lesson, args), start.learner(lesson, args)
    assert sum(1 for _ in forks.update(start, lesson, forked, args, start.advantage)) == args.epochs * args.minibatches
    own.key = start.order_key  # which says in what order rows come
    before = weights(own)
    lesson.update(start.rollout, start.advantage, start.value, start.target, own, args)
    assert torch.equal(weights(forked), weights(own))
    assert not torch.equal(weights(own), before)


@pytest.mark.parametrize("strength", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("name", ["maspo", "mars", "maspo_asymmetric", "mars_additive", "linear"])
def test_all_objectives_pull_back_alike_at_first(forks, name, strength):
    lesson, more = forks.objective(name, strength)
    slopes = []
    for advantage in (1.0, -1.0):
        log_ratio = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        value = lesson.policy_objective(log_ratio, torch.full_like(log_ratio, advantage), lesson.Args(**more)).sum()
        (force,) = torch.autograd.grad(value, log_ratio, create_graph=True)
        assert force.item() == pytest.approx(advantage)
        slopes.append(torch.autograd.grad(force.sum(), log_ratio)[0].item())
    assert sum(slopes) / 2 == pytest.approx(-1 / strength)


def test_additive_targets_have_no_strength_above_three_quarters(forks):
    assert forks.objective("mars_additive", 0.8) is None
    assert forks.additive_clip(0.74) < 1


def test_the_same_policy_gains_nothing_by_luck(forks, start):
    learner = start.learner(maspo, start.args(maspo))
    assert torch.equal(start.play(learner.actor), start.returns)
    assert start.returns.std() > 0


def test_noise_of_a_step_and_of_its_agents(start):
    joint, agent = start.noisy(2.0, "joint"), start.noisy(2.0, "agent")
    assert joint.shape[3] == 1 and agent.shape[3] == start.env.num_agents
    for noisy in (joint, agent):
        assert ((noisy - start.advantage).std() / start.advantage.std()).item() == pytest.approx(2.0, rel=0.2)
    assert torch.equal(start.noisy(0.0, "joint"), start.advantage)


def test_drift_is_away_from_the_old_policy(forks):
    then = torch.tensor([[[0.5], [-0.5], [0.1]]])
    drift = forks.Drift(torch.tensor([[[True], [True], [False]]]), then)
    told = drift.until(torch.tensor([[0.8], [-0.4], [9.0]]))
    assert told["lost"] == 2 and told["away"] == 0.5
    assert told["drift"] == pytest.approx([-0.06, 0.1, 0.26])
    assert forks.Drift(torch.zeros(1, 3, 1, dtype=torch.bool), then).until(then[0]) == {"lost": 0}


def test_what_has_no_force_is_lost_once(forks, start):
    """A clip that everything leaves at once."""
    found, lost = forks.fork(start, *forks.objective("mappo", 1e-4), start.advantage, None)
    assert found["lost"] == lost.sum() > 0
    assert (lost.sum(0) <= 1).all()
    assert found["course"]["no_force"][0] == 0 and max(found["course"]["no_force"]) > 0
    assert found["played"] == [1, 2, 4, 8, 16] and len(found["gained"]) == 5
    assert found["improvement"] == pytest.approx(sum(found["gained"][-1]) / forks.GROUPS)
    assert found["quantiles"] == sorted(found["quantiles"]) and found["quantiles"][0] > 0


def command(run, out, *more: str) -> list[str]:
    small = ["--rows", "64", "--episodes", "32", "--strengths", "0.4", "--sigmas", "0"]
    return [str(run), "--out", str(out), *small, *more]


def test_the_same_command_goes_on(forks, run, tmp_path):
    out = tmp_path / "forks.jsonl"
    assert forks.main(command(run, out, "--objectives", "mars")) == 0
    first = out.read_text()
    assert forks.main(command(run, out, "--objectives", "mars,mappo,maspo")) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert out.read_text().startswith(first)
    assert [line["objective"] for line in lines] == ["mars", "mappo", "maspo"]
    assert all(line["steps"] == 96 and line["task"] == "paxmen_4a" for line in lines)


def test_an_objective_of_ones_own(forks, run, tmp_path):
    tails, out = str(PATH.with_name("tails.py")), tmp_path / "forks.jsonl"
    assert forks.main(command(run, out, "--objectives", tails)) == 0
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["objective"] == tails


@pytest.mark.parametrize(
    "more, problem",
    [
        (["--objectives", "mrs"], "--objectives: .*mrs.*mappo, maspo, mars"),
        (["--noise", "both"], "--noise is both; it must be joint, agent or both"),
        (["--rows", "60"], "--rows is 60; it must be a multiple of 8"),
        (["--episodes", "10"], "--episodes is 10; it must be a multiple of 16"),
        (["--strengths", "1.5"], "strength is 1.5; it must be between 0 and 1"),
    ],
)
def test_refused(forks, run, tmp_path, more, problem):
    with pytest.raises(UsageError, match=problem):
        forks.main(command(run, tmp_path / "forks.jsonl", *more))
    assert not (tmp_path / "forks.jsonl").exists()


def test_a_lesson_without_a_strength_is_refused(forks, tmp_path):
    path = tmp_path / "weak.py"
    path.write_text("from torch_mars.algos.mars import *\n\nALGORITHM = 'weak'\n")
    with pytest.raises(UsageError, match="weak.py has no setting `strength`, by which objectives are compared"):
        forks.objective(str(path), 0.4)


def test_seeds_side_by_side_are_refused(forks, tmp_path):
    assert maspo.main([*TRAINED, "--total-steps", "32", "--num-seeds", "2", "--run-dir", str(tmp_path)]) == 0
    with pytest.raises(UsageError, match="must be a run of mappo, maspo or mars with one seed"):
        forks.Start(next(tmp_path.glob("paxmen_4a/maspo/*")), 64, 32, 0)
