"""Statistics that are learned while training runs, and learning rates that fall."""

import signal

import numpy as np
import pytest
import torch
from faults import assert_same

import torch_mars.envs as envs
from torch_mars.algos import mars, recurrent
from torch_mars.nn.inputs import LIMIT, Inputs, Running
from torch_mars.nn.optimizers import Adam
from torch_mars.run import files, record


@pytest.mark.parametrize("size", [1, 4])
def test_running_statistics_are_those_of_all_that_was_seen(size):
    generator, running, seen = np.random.default_rng(0), Running(2, size), [[], []]
    assert torch.equal(running(torch.ones(2, 5, size)), torch.ones(2, 5, size))  # before anything was seen
    for rows in (3, 1, 50):
        x = generator.normal(generator.normal(0, 10), generator.uniform(0.1, 9), (2, rows, 6, size)).astype(np.float32)
        running.learn(torch.from_numpy(x))
        for p in range(2):
            seen[p].append(x[p].reshape(-1, size))
    for p in range(2):
        together = np.concatenate(seen[p]).astype(np.float64)
        np.testing.assert_allclose(running.mean[p], together.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(running.variance[p], together.var(0), rtol=1e-4)
    x = torch.randn(2, 7, 3, size)
    expected = (x - running.mean.view(2, 1, 1, size)) / running.variance.view(2, 1, 1, size).sqrt()
    torch.testing.assert_close(running(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(running.undo(running(x)), x, rtol=1e-4, atol=1e-4)


def test_what_was_seen_is_counted_one_by_one_however_much_it_is():
    """A single float stops at 2^24."""
    running = Running(2, 3)
    running.count.fill_(2.0**25)
    running.learn(torch.ones(2, 1, 3))
    assert running.count.tolist() == [[2**25 + 1]] * 2


def test_one_statistic_is_that_of_all_agents_values():
    x, running = torch.randn(2, 5, 4, 3) * 7 + 2, Running(2, 1)
    running.learn(x)
    torch.testing.assert_close(running.mean[:, 0], x.mean((1, 2, 3)))
    torch.testing.assert_close(running(x).std((1, 2, 3), correction=0), torch.ones(2))


def test_inputs_are_normalised_before_ids_are_put_in_front_and_never_blow_up():
    inputs = Inputs(2, 3, mars.Args(normalise_obs=True), 1)
    obs = torch.tensor([5.0, 1.0]).expand(1, 10, 3, 2) + torch.tensor([1.0, 0.0]) * torch.randn(1, 10, 3, 1)
    inputs.learn(obs)
    seen = inputs(obs)
    assert torch.equal(seen[..., :3], torch.eye(3).expand(1, 10, 3, 3)) and inputs.size == 5
    torch.testing.assert_close(seen[..., 3].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert (seen[..., 4] == 0).all()  # a constant
    assert (inputs(obs + 1)[..., 4] == LIMIT).all()
    assert torch.equal(Inputs(2, 0, mars.Args(), 1)(obs), obs)


class Watched:
    """A lesson's iteration, with all that was seen in its rollouts."""

    def __init__(self, lesson, task="simple_spread_3ag", **settings):
        self.lesson = lesson
        self.args = lesson.Args(
            env=task, num_envs=6, rollout_length=16, hidden_size=8, num_seeds=2, minibatches=2, **settings
        )
        self.env = envs.make(task, 12, seed=[0, 1])
        self.env.reset()
        self.learner = lesson.Learner(self.args, self.env, [0, 1])
        self.rollout = lesson.Rollout(self.args, self.env, self.learner.actor)
        self.obs, self.state = [], []

    def iterate(self):
        carry = (self.env.state, self.learner.key)
        (self.env.state, self.learner.key), numbers = self.lesson.iteration(
            carry, self.env, self.rollout, self.learner, self.args
        )
        self.obs.append(self.rollout.obs[:, :-1].clone())
        self.state.append(self.rollout.state[:, :-1].clone())
        return numbers


@pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
def test_observations_and_states_are_learned_after_each_update(lesson):
    watched = Watched(lesson, normalise_obs=True)
    for _ in range(3):
        assert watched.iterate()["first_max_abs_log_ratio"].max() < 1e-5  # rollout and update see the same
    for network, seen in ((watched.learner.actor, watched.obs), (watched.learner.critic, watched.state)):
        statistics, seen = network.inputs.statistics, torch.cat(seen, 1).flatten(1, -2)
        torch.testing.assert_close(statistics.mean, seen.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(statistics.variance, seen.var(1, correction=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
def test_normalised_values_mean_the_same_returns(lesson):
    """The critic's answers stand for values in units of return; advantages are made of these."""
    watched = Watched(lesson, normalise_values=True, value_per_agent=True)
    returns, seen = watched.learner.critic.returns, []
    for _ in range(3):
        lesson.collect(watched.rollout, watched.env, watched.learner)
        watched.rollout.reward *= 1000.0
        mean, deviation = returns.mean.clone(), returns._deviation(torch.zeros(2, 1)).clone()
        advantage, answer, target = lesson.advantages(watched.rollout, watched.learner, watched.args)
        value = answer * deviation.view(2, 1, 1, 1) + mean.view(2, 1, 1, 1)
        seen.append((advantage + value).flatten(1))
        last = watched.rollout.reward[:, -1] * watched.rollout.is_done[:, -1, :, None]
        is_end = watched.rollout.is_done[:, -1, :, None].expand_as(last)
        torch.testing.assert_close((advantage + value)[:, -1][is_end], last[is_end], rtol=1e-4, atol=1e-2)
        together = torch.cat(seen, 1)
        torch.testing.assert_close(returns.mean[:, 0], together.mean(1), rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(returns.undo(target), advantage + value, rtol=1e-4, atol=1e-1)
        lesson.update(watched.rollout, advantage, answer, target, watched.learner, watched.args)
    assert target.abs().max() < 20 < together.abs().max()


@pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
def test_a_time_limit_is_bootstrapped_in_units_of_return(lesson):
    watched = Watched(lesson, normalise_values=True, bootstrap_truncation=True)
    rollout, returns = watched.rollout, watched.learner.critic.returns
    for _ in range(2):  # episodes have 25 steps, a rollout 16
        lesson.collect(rollout, watched.env, watched.learner)
    returns.mean.fill_(1000.0)
    returns.variance.fill_(4.0)
    advantage, answer, _ = lesson.advantages(rollout, watched.learner, watched.args)
    follows = (advantage + 1000 + 2 * answer - rollout.reward)[rollout.is_truncated] / watched.args.gamma
    assert len(follows) and ((follows - 1000).abs() < 100).all()


def test_a_normalised_critic_learns_returns_that_are_large():
    """Paid 1000 a step, the team is worth 10,000 at the start of 10 steps, far from a first critic."""
    found = {}
    for normalise in (False, True):
        args = mars.Args(
            env="simple_spread_3ag", num_envs=8, rollout_length=10, gamma=1, gae_lambda=1, critic_lr=0.01, epochs=20,
            minibatches=1, normalise_values=normalise,
        )  # fmt: skip
        env = envs.make(args.env, 8)
        env.reset()
        learner = mars.Learner(args, env, [0])
        rollout = mars.Rollout(args, env, learner.actor)
        mars.collect(rollout, env, learner)
        rollout.reward[:] = 1000.0
        rollout.is_done[:, -1] = True
        for _ in range(8):
            mars.update(rollout, *mars.advantages(rollout, learner, args), learner, args)
        found[normalise] = learner.critic.returns.undo(learner.critic(rollout.state))[0, 0].mean().item()
    assert found[True] == pytest.approx(10_000, rel=0.05) and abs(found[False]) < 2000


def test_an_annealed_adam_is_torch_s_with_that_learning_rate():
    start, gradients = torch.randn(2, 5), torch.randn(4, 2, 5)
    own, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizer, other = Adam([own], 0.1, 1e-5), torch.optim.Adam([theirs], 0.1, eps=1e-5)
    for number, gradient in enumerate(gradients):
        own.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.anneal(1 - number / 4)
        other.param_groups[0]["lr"] = 0.1 * (1 - number / 4)
        optimizer.apply_gradients(1e9)
        other.step()
    torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
def test_the_first_update_has_the_whole_learning_rate_and_none_has_nothing(lesson, tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(lesson.Learner, "anneal", lambda learner, remaining: shares.append(remaining))
    few = "--env paxmen_4a --num-envs 2 --rollout-length 16 --minibatches 2 --hidden-size 8 --eval-episodes 1"
    more = ["--device", "cpu", "--anneal-lr", "--total-steps", "128", "--run-dir", str(tmp_path)]
    assert lesson.main([*few.split(), *more]) == 0
    assert shares == [1, 0.75, 0.5, 0.25]


SETTINGS = "--env smax_2s3z --num-envs 4 --rollout-length 32 --hidden-size 8 --num-seeds 2 --eval-episodes 2"
NEW = ["--normalise-obs", "--normalise-values", "--anneal-lr", "--no-shared-policy", "--ignore-inactive"]


@pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
def test_a_stopped_run_goes_on_to_the_bit(lesson, tmp_path, monkeypatch):
    """Memories, statistics and learning rates are where they were."""
    more = [*SETTINGS.split(), *NEW, "--total-steps", "640", "--eval-every", "640", "--device", "cpu"]
    assert lesson.main([*more, "--run-dir", str(tmp_path / "whole")]) == 0
    log_update = record.Run.log_update

    def stop_after_three(self, number, numbers):
        log_update(self, number, numbers)
        if number == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(record.Run, "log_update", stop_after_three)
    assert lesson.main([*more, "--run-dir", str(tmp_path / "stopped")]) == 130
    monkeypatch.undo()
    (whole,), (stopped,) = ((tmp_path / name).glob("*/*/*") for name in ("whole", "stopped"))
    assert files.load_checkpoint(stopped)["update"] == 3
    assert lesson.main(["--resume", str(stopped)]) == 0
    one, other = files.load_checkpoint(whole), files.load_checkpoint(stopped)
    assert one["update"] == 5 and one["learner"]["actor"]["inputs.statistics.count"][0] == 640 * 5
    assert_same(other, one)
