"""What several ranks compute, against what one process computes on the same rows. Run by tests/algos/test_ranks.py:

    torchrun --standalone --nproc-per-node 2 tests/helpers/rank_checks.py OUT [cuda]

Writes to OUT, for every check by name, None or what went wrong, on any rank. On a machine with one card both ranks have
it, and talk by gloo.
"""

import contextlib
import json
import sys
import traceback
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from torch_mars import envs
from torch_mars.algos import mappo, mars, maspo, recurrent
from torch_mars.envs import rng
from torch_mars.nn import inputs, optimizers, world
from torch_mars.run import settings
from torch_mars.run.cli import guarded
from torch_mars.run.ranks import Ranks, Whole

CHECKS = {}
SMALL = {"num_envs": 8, "rollout_length": 16, "hidden_size": 16, "eval_episodes": 4, "num_seeds": 2}
SMALL["device"] = DEVICE = sys.argv[2] if len(sys.argv) > 2 and __name__ == "__main__" else "cpu"
# on a GPU, products round in another way for more rows, and continuous actions with them
NEAR = {"rtol": 0.0, "atol": 0.0} if DEVICE == "cpu" else {"rtol": 1e-3, "atol": 1e-4}
# one minibatch of all rows: whatever their order, the gradient is the same
WHOLE = {**SMALL, "epochs": 1, "minibatches": 1, "max_grad_norm": 1e6, "adam_eps": 1e-2}


def check(function):
    CHECKS[function.__name__] = function
    return function


@contextlib.contextmanager
def alone():
    """Within the block this process knows nothing of others."""
    asked, world.is_alone = world.is_alone, lambda: True
    try:
        yield
    finally:
        world.is_alone = asked


def parts(lesson, task, given):
    """Settings, this rank's environments (alone: all), learner, rollout."""
    args = settings.resolve(lesson.Args, lesson.ratio_range, lesson.ALGORITHM, {**WHOLE, "env": task, **given})
    seeds = [3, 4]
    env = envs.make(task, 2 * args.num_envs, DEVICE, seeds, **args.env_options)
    if not world.is_alone():
        env = env.share(RANKS.rows(2, args.num_envs).to(DEVICE))
    learner = lesson.Learner(args, env, seeds)
    env.reset()
    return args, env, learner, lesson.Rollout(args, env, learner.actor)


def after(lesson, task, given, updates=1):
    """The learner, the environments and the logged numbers after some updates."""
    args, env, learner, rollout = parts(lesson, task, given)
    numbers = {}
    for _ in range(updates):
        (env.state, learner.key), numbers = lesson.iteration(
            (env.state, learner.key), env=env, rollout=rollout, learner=learner, args=args
        )
    return learner, env, numbers


def compare(lesson, task, **given):
    with alone():
        learner, env, numbers = after(lesson, task, given)
    own, own_env, own_numbers = after(lesson, task, given)
    for name in ("actor_optimizer", "critic_optimizer"):
        gradient, other = (getattr(x, name).mean / 0.1 for x in (own, learner))
        assert gradient.abs().max() > 1e-4  # there is one
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-6)
    for whole, mine in zip(learner.critic.state_dict().values(), own.critic.state_dict().values()):
        torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(own.key, learner.key)
    rows = RANKS.rows(2, 8).to(DEVICE)
    for name, field in env.state_dict().items():  # each did what it did there
        torch.testing.assert_close(own_env.state_dict()[name], field[rows], **NEAR, msg=name)
    assert numbers.keys() == own_numbers.keys()
    for name, values in numbers.items():
        # a quantile's mean over ranks is not the quantile; of continuous actions, entropy is estimated at random
        is_near = "_q" in name or (name == "entropy" and not learner.actor.is_discrete)
        tolerance = 0.05 if is_near else 1e-4
        torch.testing.assert_close(
            own_numbers[name].double(), values.double(), rtol=tolerance, atol=tolerance, equal_nan=True, msg=name
        )
    alike(own)


def alike(learner):
    """Every rank has the same weights, to the bit."""
    state = {part: getattr(learner, part).state_dict() for part in ("actor", "critic")}
    first, *others = WORLD.collected(state)
    for other in others:
        for part, weights in first.items():
            assert all(torch.equal(weights[name], other[part][name]) for name in weights)


@check
def one_gradient_mars():
    compare(mars, "paxmen_4a")


@check
def one_gradient_maspo_with_statistics():
    compare(maspo, "simple_spread_3ag", entropy_coef=0.0, normalise_obs=True, normalise_values=True)


@check
def one_gradient_mappo_of_agents_by_themselves():
    compare(mappo, "jaxnav_7x7x2a", entropy_coef=0.0, value_per_agent=True, ignore_inactive=True, shared_policy=False)


@check
def one_gradient_of_those_who_act():
    compare(mars, "smax_2s3z", ignore_inactive=True, env_options={"max_steps": 12})


@check
def one_gradient_with_memory():
    compare(recurrent, "paxmen_4a", sequence_length=4)


@check
def ranks_stay_alike():
    """Over updates of several minibatches, of continuous actions, too."""
    for task in ("paxmen_4a", "simple_spread_3ag"):
        learner, _, _ = after(mars, task, {"epochs": 2, "minibatches": 4, "max_grad_norm": 0.5}, updates=3)
        alike(learner)


@check
def minibatches_of_different_rows():
    """Each rank has an order of its own, of the same law, and all move their keys alike."""
    orders, key = world.drawn(rng.permutation, rng.keys(5, 2, DEVICE), 64)
    mine, theirs = world.stacked(orders)
    assert not torch.equal(mine, theirs)
    assert torch.equal(orders.sort(1).values, torch.arange(64, device=DEVICE).expand(2, 64))
    before, after = world.stacked(key)
    assert torch.equal(before, after)


@check
def blocks_of_what_one_process_draws():
    draw = partial(rng.in_pieces, rng.normal)
    with alone():
        whole, moved = world.drawn(draw, rng.keys(1, 3, DEVICE), 5, 6, 2, axis=1)
    own, key = world.drawn(draw, rng.keys(1, 3, DEVICE), 5, 3, 2, axis=1)
    first = 3 * world.rank()
    assert torch.equal(own, whole[:, :, first : first + 3]) and torch.equal(key, moved)


@check
def nan_on_one_rank_moves_nobody():
    weights = [torch.ones(2, 3, device=DEVICE, requires_grad=True)]
    adam = optimizers.Adam(weights, 0.1, 1e-5)
    weights[0].grad = torch.ones(2, 3, device=DEVICE)
    if world.rank() == 1:
        weights[0].grad[1, 0] = torch.nan
    norms = adam.apply_gradients(1.0)
    assert norms.isfinite().tolist() == [True, False]
    assert (weights[0][0] < 1).all() and (weights[0][1] == 1).all()


@check
def statistics_of_all():
    x = (torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0)) * 3 + 100).to(DEVICE)
    statistics = inputs.Running(2, 3).to(DEVICE)
    for part in x.chunk(4, 1):
        statistics.learn(part.chunk(2, 1)[world.rank()])
    torch.testing.assert_close(statistics.mean, x.mean(1))
    torch.testing.assert_close(statistics.variance, x.var(1, correction=0), rtol=1e-4, atol=1e-4)
    assert statistics.count.unique().tolist() == [40]


@check
def evaluations_are_those_of_one():
    """Episode i is the same, whoever plays it."""
    for lesson, task in ((mars, "paxmen_4a"), (recurrent, "paxmen_4a"), (mars, "simple_spread_3ag")):
        args, _, learner, _ = parts(lesson, task, {"env_options": {"max_steps": 20}})
        eval_env = envs.make(task, 2 * args.eval_episodes, DEVICE, [3, 4], max_steps=20)
        with alone():
            whole = lesson.evaluate(eval_env, learner.actor, [7, 8], args)
        own_env = envs.make(task, 2 * args.eval_episodes, DEVICE, [3, 4], max_steps=20).share(
            RANKS.rows(2, 4).to(DEVICE)
        )
        own = lesson.evaluate(own_env, learner.actor, [7, 8], args)
        first = 2 * world.rank()
        mine = {name: [of_seed[first : first + 2] for of_seed in lists] for name, lists in whole.items()}
        for name, lists in own.items():
            torch.testing.assert_close(torch.tensor(lists), torch.tensor(mine[name]), **NEAR)


@check
def what_is_saved_is_whole():
    env = envs.make("paxmen_4a", 12, DEVICE, [1, 2])
    env.reset()
    share = envs.make("paxmen_4a", 12, DEVICE, [1, 2]).share(RANKS.rows(2, 6).to(DEVICE))
    share.reset()
    whole = Whole(share, WORLD, 2, axis=0)
    saved = whole.state_dict()
    for name, field in env.state_dict().items():
        assert saved[name].shape == field.shape and saved[name].dtype == field.dtype
        assert world.rank() or torch.equal(saved[name], field.cpu())
    env.step(env.sample_actions())
    whole.load_state_dict(env.state_dict())
    assert torch.equal(share.state.rng, env.state.rng[RANKS.rows(2, 6).to(DEVICE)])


@check
def agreed_flags():
    assert WORLD.agreed(world.rank() == 1, False, True) == [True, False, True]
    assert WORLD.collected(world.rank()) == [0, 1]
    assert WORLD.gathered(world.rank()) == (None if world.rank() else [0, 1])


def main() -> None:
    found = {}
    for name, function in CHECKS.items():
        try:
            function()
            problem = None
        except Exception:
            problem = traceback.format_exc()
        dist.barrier()
        problems = [text for text in WORLD.collected(problem) if text]
        found[name] = "\n".join(problems) or None
    if WORLD.is_first:
        Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if DEVICE == "cuda" and torch.cuda.device_count() < 2:
        world.World._backend = lambda self: "gloo"
    started = settings.resolve(mars.Args, mars.ratio_range, "mars", SMALL)
    with world.World(started, "rank_checks") as WORLD:
        RANKS: Ranks = WORLD
        main()
    guarded(lambda: 0, "rank_checks")  # which ends a rank as a lesson's
