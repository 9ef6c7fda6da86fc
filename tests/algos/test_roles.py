"""`--no-shared-policy`: every agent has an actor of its own, with and without ids."""

import dataclasses

import pytest
import torch
from toys import Roles

import torch_mars.envs as envs
from torch_mars.algos import mars, recurrent

LESSONS = pytest.mark.parametrize("lesson", [mars, recurrent], ids=["mars", "recurrent"])
EACH = {"shared_policy": False, "agent_id": False}


def generators(count):
    return [torch.Generator().manual_seed(p) for p in range(count)]


def logits(lesson, actor, obs):
    """[P, B, N, A] of obs [P, B, N, O]."""
    if lesson is mars:
        return actor(obs, None).log_probs
    policy, _ = actor(obs[:, :, None], None, actor.initial_memory(*obs.shape[:3]))
    return policy.log_probs[:, :, 0]


@LESSONS
@pytest.mark.parametrize("agent_id", [True, False])
@torch.no_grad()
def test_an_agent_s_weights_are_nobody_else_s(lesson, agent_id):
    env = envs.make("paxmen_4a", 5)
    args = lesson.Args(hidden_size=8, shared_policy=False, agent_id=agent_id)
    actor = lesson.Actor(env, args, generators(2))
    assert all(weight.shape[:2] == (2, 4) for weight in actor.parameters())
    obs = torch.randn(2, 5, 4, env.observation_size)
    before = logits(lesson, actor, obs)
    for weight in actor.parameters():
        weight[1, 2] += torch.randn(weight[1, 2].shape)
    is_changed = (logits(lesson, actor, obs) != before).any(-1)
    assert is_changed[1, :, 2].all() and is_changed.sum() == 5


@LESSONS
@torch.no_grad()
def test_actors_of_their_own_are_as_many_shared_ones(lesson):
    """Agent i acts as a team would that shares its weights."""
    env = envs.make("connector_5x5x3a", 5)
    args = lesson.Args(hidden_size=8, **EACH)
    actor = lesson.Actor(env, args, generators(2))
    obs = torch.randn(2, 5, 3, env.observation_size)
    found = logits(lesson, actor, obs)
    for agent in range(3):
        shared = lesson.Actor(env, dataclasses.replace(args, shared_policy=True), generators(2))
        shared.load_state_dict({name: weight[:, agent] for name, weight in actor.state_dict().items()})
        torch.testing.assert_close(logits(lesson, shared, obs)[:, :, agent], found[:, :, agent])
    starts = actor.network.head.weight
    assert (starts[0, 0] != starts[0, 1]).any() and (starts[0] != starts[1]).any()


def test_deviations_of_continuous_actions_are_each_agent_s_own():
    env = envs.make("aerojax_2v2", 3)
    actor = mars.Actor(env, mars.Args(hidden_size=8, **EACH), generators(2))
    with torch.no_grad():
        actor.log_std[1, 0] = 2.0
    policy = actor(torch.randn(2, 7, 2, env.observation_size), None)
    std = policy.std.expand_as(policy.mean)
    assert (std[1, :, 0] > std[1, :, 1]).all() and torch.equal(std[0, :, 0], std[0, :, 1])


def share_of_right_actions(lesson, **settings):
    """Of each of two seeds after 12 updates."""
    more = {"sequence_length": 4} if lesson is recurrent else {}
    args = lesson.Args(
        num_envs=32, rollout_length=8, hidden_size=16, num_seeds=2, minibatches=2, actor_lr=1e-2, critic_lr=1e-2,
        **settings, **more,
    )  # fmt: skip
    env = envs.make(Roles, 64, "cpu", [0, 1])
    env.reset()
    learner = lesson.Learner(args, env, [0, 1])
    rollout = lesson.Rollout(args, env, learner.actor)
    for _ in range(12):
        (env.state, learner.key), _ = lesson.iteration((env.state, learner.key), env, rollout, learner, args)
    return rollout.reward.mean((1, 2, 3)).tolist()


@LESSONS
def test_agents_that_see_the_same_take_roles_of_their_own(lesson):
    """Paid for its own number, an agent without an id can only know it by weights of its own."""
    assert min(share_of_right_actions(lesson, **EACH)) > 0.8
    assert max(share_of_right_actions(lesson, agent_id=False)) < 0.45  # of three numbers one is right
