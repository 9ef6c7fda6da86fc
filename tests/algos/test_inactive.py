"""`--ignore-inactive`: agents that are out of the game are left out of objective, entropy and diagnostics."""

import pytest
import torch

import torch_mars.envs as envs
from torch_mars.algos import mappo, mars, maspo, recurrent
from torch_mars.nn.diagnostics import ratio_diagnostics, weights_of
from torch_mars.run import cli

LESSONS = pytest.mark.parametrize("lesson", [mappo, maspo, mars, recurrent], ids=lambda lesson: lesson.ALGORITHM)


def parts(lesson, task="smax_2s3z", **settings):
    args = lesson.Args(env=task, num_envs=6, rollout_length=16, hidden_size=8, minibatches=2, epochs=1, **settings)
    env = envs.make(task, 6)
    env.reset()
    learner = lesson.Learner(args, env, [0])
    return env, learner, lesson.Rollout(args, env, learner.actor), args


def updated(lesson, change, **settings):
    """Weights of the actor and diagnostics after one update, of a rollout in which about half the agents are out."""
    env, learner, rollout, args = parts(lesson, ignore_inactive=True, **settings)
    generator = torch.Generator().manual_seed(0)
    lesson.collect(rollout, env, learner)
    assert rollout.is_active.any() and not rollout.is_active.all(), "nobody died"
    rollout.is_active &= torch.rand(rollout.is_active.shape, generator=generator) < 0.6
    rollout.log_prob += 0.3 * torch.randn(rollout.log_prob.shape, generator=generator)  # ratios far from 1
    change(rollout)
    numbers = lesson.update(rollout, *lesson.advantages(rollout, learner, args), learner, args)
    return torch.cat([p.detach().flatten() for p in learner.actor.parameters()]), numbers


@LESSONS
def test_what_inactive_agents_did_changes_nothing(lesson):
    def other(rollout):
        rollout.log_prob[~rollout.is_active] += 1.0

    weights, numbers = updated(lesson, lambda rollout: None)
    others, same = updated(lesson, other)
    assert torch.equal(weights, others)
    for name, value in numbers.items():
        assert torch.equal(value, same[name]), name

    def of_active(rollout):
        rollout.log_prob[rollout.is_active] += 0.1

    assert not torch.equal(weights, updated(lesson, of_active)[0])


@LESSONS
def test_who_counts_is_who_was_to_act(lesson):
    """Also in the step in which it dies."""
    env, learner, rollout, args = parts(lesson, ignore_inactive=True)
    again = envs.make("smax_2s3z", 6)
    ts, lost = again.reset(), 0
    for _ in range(2):
        lesson.collect(rollout, env, learner)
        for t in range(16):
            assert torch.equal(rollout.is_active[0, t], ts.is_active)
            before, ts = ts.is_active, again.step(rollout.action[0, t])
            lost += (before & ~ts.is_active).sum()
    assert lost > 3


@LESSONS
def test_the_objective_is_the_mean_over_the_active_alone(lesson):
    env, learner, rollout, args = parts(lesson, ignore_inactive=True, entropy_coef=0.01)
    lesson.collect(rollout, env, learner)
    advantage, value, target = lesson.advantages(rollout, learner, args)
    shape = (1, 12, 8) if lesson is recurrent else (1, 96)
    rows = torch.arange(12 if lesson is recurrent else 96)[None]
    if lesson is recurrent:
        args.sequence_length = 8
        rollout = lesson.Rollout(args, env, learner.actor)
        lesson.collect(rollout, env, learner)
        advantage, value, target = lesson.advantages(rollout, learner, args)

    def taken(x):
        return lesson.take(x, rows, 8) if lesson is recurrent else lesson.take(x, rows)

    is_active = taken(rollout.is_active)
    weight = weights_of(is_active.flatten(1, -2)).view_as(is_active)
    samples = 5 * 8 if lesson is recurrent else 5
    _, seen = lesson.losses(
        torch.zeros(1, len(rows[0]), samples), rows, taken(advantage), weight, None, (rollout, value, target), learner,
        args,
    )  # fmt: skip
    _, every = lesson.losses(
        torch.zeros(1, len(rows[0]), samples), rows, taken(advantage), None, None, (rollout, value, target), learner,
        args,
    )  # fmt: skip
    assert seen["actor_loss"].numel() == 96 and is_active.shape == (*shape, 5)
    log_ratio = seen["log_ratio"].view(*shape, 5)[is_active]
    chosen = taken(advantage).expand(*shape, 5)[is_active]
    objective = lesson.policy_objective(log_ratio.detach(), chosen, args).mean()
    by_hand = -objective - args.entropy_coef * seen["entropy"].mean()
    torch.testing.assert_close(seen["actor_loss"].mean(), by_hand)
    assert seen["entropy"].mean() > every["entropy"].mean()  # the dead have one action


def test_advantages_of_agents_own_are_normalised_over_those_that_act():
    generator = torch.Generator().manual_seed(0)
    advantage = torch.randn(2, 50, 3, generator=generator) * 5 + 2
    is_active = torch.rand(2, 50, 3, generator=generator) < 0.5
    normalised = mars.normalise(advantage, weights_of(is_active))
    for seed in range(2):
        of_seed = normalised[seed][is_active[seed]]
        assert of_seed.mean().abs() < 1e-5 and of_seed.std(correction=0) == pytest.approx(1, abs=1e-5)


def test_diagnostics_are_those_of_the_samples_that_count():
    generator = torch.Generator().manual_seed(0)
    log_ratio, force = torch.randn(2, 400, 3, generator=generator), torch.randn(2, 400, 3, generator=generator)
    force[force < 0] = 0
    is_counted = torch.rand(2, 400, 3, generator=generator) < 0.3
    found = ratio_diagnostics(log_ratio, (0.5, 1.5), force, is_counted)
    for seed in range(2):
        counted = is_counted[seed]
        alone = ratio_diagnostics(
            log_ratio[seed][counted][None, :, None], (0.5, 1.5), force[seed][counted][None, :, None]
        )
        for name, value in alone.items():
            torch.testing.assert_close(found[name][seed], value[0], msg=name)


def test_diagnostics_where_nobody_counts_or_a_number_is_spoilt():
    log_ratio, is_counted = torch.randn(3, 20, 2), torch.ones(3, 20, 2, dtype=torch.bool)
    is_counted[0], is_counted[1, :, 1] = False, False
    log_ratio[1, 4, 0], log_ratio[2, 4, 0], is_counted[2, 4, 0] = torch.nan, torch.nan, False
    found = ratio_diagnostics(log_ratio, (0.5, 1.5), None, is_counted)
    for name in ("log_ratio_max", "log_ratio_min", "ratio_q50", "approx_kl"):
        assert found[name][0] == 0 and found[name][1].isnan() and found[name][2].isfinite(), name


@LESSONS
def test_it_is_refused_where_all_agents_always_act(lesson):
    with pytest.raises(cli.UsageError, match="--ignore-inactive is True; all agents of paxmen_4a always act"):
        parts(lesson, "paxmen_4a", ignore_inactive=True)
