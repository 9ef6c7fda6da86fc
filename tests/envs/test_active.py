"""`ts.is_active`: out is exactly whose actions change nothing any more, in every form and behind every face."""

import dataclasses
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch
from toy_environments import Toy, ToyInLoops, ToyState
from wild_states import as_tensors

import torch_mars.envs as envs
from torch_mars.envs.core import fields_of
from torch_mars.envs.smax.task import STOP

# options under which random play has agents that are out, and many ends
PLAYED = {
    "smax_2s3z": {},
    "smax_smacv2_5_units": {"action_type": "continuous"},
    "aerojax_3v3": {"max_steps": 90, "half_size": 600.0, "ceiling": 2100.0},
    "jaxnav_9x9x3a": {"max_steps": 70},
}
RECORDED = ("prev_movement_actions", "prev_attack_actions")  # what SMAX orders its dead, who do not do it
every_played = pytest.mark.parametrize("task", PLAYED)


def random_actions(env, generator):
    shape = (env.num_envs, env.num_agents)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.randint(int(env.action_space.n), shape, generator=generator)
    low, high = torch.as_tensor(env.action_space.low), torch.as_tensor(env.action_space.high)
    return low + (high - low) * torch.rand(*shape, len(low), generator=generator)


def out_as_seen(env, obs, state, mask):
    """Who is out by what is seen, bool [B, N]: the rules say so in places of their own."""
    N = env.num_agents
    if env.name_of_rules == "JaxNav":  # the critic sees at the end who has crashed
        return state[:, -N:] == 1
    is_blind = (obs == 0).all(2)  # the dead see zeros, the living at least their own health
    if mask is not None:
        may_only_stop = mask.sum(2) == 1
        assert torch.equal(is_blind, may_only_stop) and mask[..., STOP].all()
    return is_blind


def made(task, count, **options):
    env = envs.make(task, count, **{**PLAYED.get(task, {}), **options})
    env.name_of_rules = type(env).__name__
    return env


def what_follows(env, state, actions):
    """Of a step from a State: its State and TimeStep as tensors [B, ...] by name, without what SMAX orders the dead."""
    env.state = state
    ts = env.step(actions)
    after = dict(fields_of(env.state))
    for name in set(RECORDED) & after.keys():
        is_dead = ~after["unit_alive"]
        after[name] = after[name].masked_fill(is_dead.view(*is_dead.shape, *[1] * (after[name].dim() - 2)), 0)
    seen = {name: value for name, value in fields_of(ts).items() if isinstance(value, torch.Tensor)}
    return {**seen, **ts.info, **{f"state.{name}": value for name, value in after.items()}}


def rows_that_differ(left, right):
    """bool [B]"""
    rows = torch.zeros(len(left["terminated"]), dtype=torch.bool)
    for name, value in left.items():
        rows |= (value != right[name]).reshape(len(value), -1).any(1)
    return rows


@every_played
def test_who_is_out_changes_nothing_and_who_is_not_does(task):
    """Over whole episodes of random play, and by what is seen."""
    B, steps = 10, 100
    env, other = made(task, B), made(task, B)
    generator = torch.Generator().manual_seed(0)
    ts = env.reset(seed=1)
    other.reset()
    assert ts.is_active.all()
    out, ends, ended_with_out, matters = 0, 0, 0, torch.zeros(env.num_agents, dtype=torch.int64)
    for t in range(steps):
        active, state = ts.is_active, env.state
        assert torch.equal(~active, out_as_seen(env, ts.obs, ts.state, ts.action_mask)), f"step {t}"
        actions, others = random_actions(env, generator), random_actions(env, generator)
        found = what_follows(env, state, actions)

        def otherwise(rows, state=state, actions=actions, others=others, found=found):
            """Where something else follows if the agents `rows` (bool [B, N]) do something else."""
            rows = rows.view(*rows.shape, *[1] * (actions.dim() - 2))
            return rows_that_differ(found, what_follows(other, state, torch.where(rows, others, actions)))

        wrong = otherwise(~active)
        assert not wrong.any(), f"step {t}, environment {int(wrong.nonzero()[0])}: who is out changed something"
        for n in range(env.num_agents):
            only = active & (torch.arange(env.num_agents) == n)
            matters[n] += int(otherwise(only).sum())
        ts = env.observe()
        has_ended = found["terminated"] | found["truncated"]
        assert torch.equal(ts.is_active, found["is_active"]), f"step {t}: observe() says something else"
        assert ts.is_active[has_ended].all(), f"step {t}: somebody is out of a new episode"
        out += int((~active).sum())
        ends += int(has_ended.sum())
        ended_with_out += int((has_ended & ~active.all(1)).sum())
    assert out > steps and ended_with_out > B / 2 and (matters > steps).all(), (out, ends, ended_with_out, matters)


@every_played
def test_both_forms_say_the_same(task):
    """From equal States, ends among them: the loops of a batch, those of one environment, and the tensors."""
    env, tensors = made(task, 8), made(task, 8)
    generator = torch.Generator().manual_seed(0)
    env.reset(seed=3)
    tensors.reset()
    one = made(task, 1, auto_reset=False).engine()
    out = 0
    for t in range(60):
        actions, state = random_actions(env, generator), env.state
        one.load_state({name: value[0].numpy() for name, value in fields_of(state).items()})
        loaded = one.is_active()
        assert loaded.dtype == bool and loaded.tolist() == env.observe().is_active[0].tolist(), f"step {t}"
        ts = env.step(actions)
        one.step(actions[0].numpy())
        with as_tensors():
            tensors.state = state
            assert torch.equal(tensors.step(actions).is_active, ts.is_active), f"step {t}"
        if not (ts.terminated[0] or ts.truncated[0]):
            assert one.is_active().tolist() == ts.is_active[0].tolist(), f"step {t}"
        out += int((~ts.is_active).sum())
    assert out > 60


@dataclass
class FlaggedState(ToyState):
    here: torch.Tensor  # bool [B, 3]


class Flagged(Toy):
    """Who is out is a field of the State as it is."""

    def initial_state(self, rng):
        toy = super().initial_state(rng)
        return FlaggedState(**fields_of(toy), here=torch.ones_like(toy.total, dtype=torch.bool))

    def transition(self, state, actions):
        state, *others = super().transition(state, actions)
        return dataclasses.replace(state, here=state.total < 4), *others

    def is_active(self, state):
        return state.here


@pytest.mark.parametrize("task, is_compiled", [("smax_2s3z", False), (Flagged, False), (Flagged, True)])
def test_it_is_no_memory_of_the_state(task, is_compiled):
    env, untouched = envs.make(task, 3, seed=5), envs.make(task, 3, seed=5)
    if is_compiled:
        env.compile(lambda step: torch.compile(step, backend="eager", fullgraph=True, dynamic=False))
    generator = torch.Generator().manual_seed(0)
    env.reset().is_active[:] = False
    untouched.reset()
    for _ in range(3):
        actions = random_actions(env, generator)
        untouched.step(actions)
        env.step(actions).is_active[:] = False
        assert torch.equal(env.observe().is_active, untouched.observe().is_active)
    assert task is not Flagged or not untouched.state.here.all()


# ---- situations put in place ----


def test_a_robot_that_arrived_drives_on_until_it_crashes_or_the_episode_ends():
    env = envs.make("jaxnav_9x9x3a", 2)
    env.load_state({"goal_reached": [[True, True, False]] * 2, "crashed": [[False, True, False], [False] * 3]})
    assert env.observe().is_active.tolist() == [[True, False, True], [True, True, True]]
    env.load_state({"done": [False, True]})
    assert env.observe().is_active.tolist() == [[True, False, True], [False, False, False]]


def test_aircraft_lost_of_any_cause_are_out():
    env = envs.make("aerojax_5v5", 1)
    env.load_state({"status": [[0, 1, 2, 3, 4, 4, 0, 0, 0, 0]]})  # the enemy's first is lost, too
    assert env.observe().is_active.tolist() == [[True, False, False, False, False]]


def test_of_smax_the_enemys_units_are_no_agents():
    env = envs.make("smax_5m_vs_6m", 1)
    env.load_state({"unit_alive": [[True, False, True, True, True, False, True, True, True, True, True]]})
    assert env.observe().is_active.tolist() == [[True, False, True, True, True]]


@pytest.mark.parametrize("task", ["smax_2s3z", "aerojax_2v2", "jaxnav_7x7x2a"])
def test_a_share_says_it_of_its_own_environments(task):
    name, flags = {
        "smax_2s3z": ("unit_alive", torch.rand(4, 10) < 0.5),
        "aerojax_2v2": ("status", torch.tensor([[0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 1, 0], [3, 4, 0, 0]])),
        "jaxnav_7x7x2a": ("crashed", torch.tensor([[True, False], [False, True], [False, False], [True, True]])),
    }[task]
    env, rows = envs.make(task, 4), [torch.tensor([3, 0]), torch.tensor([1, 2])]
    env.load_state({name: flags})
    expected = env.observe().is_active
    shares = [env.share(of_share) for of_share in rows]
    for share, of_share in zip(shares, rows):
        assert torch.equal(share.observe().is_active, expected[of_share])
    env.join(shares, rows)
    assert torch.equal(env.observe().is_active, expected)


# ---- environments without the rule, and of one's own ----


def test_an_environment_without_the_rule_says_none():
    env, zoo, rows = envs.make(Toy, 2), envs.parallel_env(ToyInLoops), envs.vector_env(Toy, 2)
    assert env.reset().is_active is None and env.step(env.sample_actions()).is_active is None
    for infos in (*zoo.reset(seed=0)[1].values(), rows.reset(seed=0)[1]):
        assert set(infos) - {"_action_mask"} == {"action_mask"}
    assert zoo.is_active() is None


class Dropping(Toy):
    """A stranger's: an agent is out once it has 4."""

    def transition(self, state, actions):
        gain = actions.float() * self.is_active(state)
        state = dataclasses.replace(state, total=state.total + gain)
        return state, gain, state.total.sum(1) > self.options.goal, {"total_by_agent": state.total}

    def is_active(self, state):
        return state.total[:, :3] < 4


class DroppingInLoops(Dropping):
    """With an engine whose author wrote nothing of who is out."""

    def engine(self):
        return ToyInLoops.engine(self)


@pytest.mark.parametrize("environment", [Dropping, DroppingInLoops])
def test_a_strangers_rule_is_told_by_every_face(environment):
    batch, zoo = envs.make(environment, 1, auto_reset=False), envs.parallel_env(environment)
    tensors, rows = envs.batched_parallel_env(environment, 2), envs.vector_env(environment, 2)
    batch.reset(seed=0)
    with pytest.raises(ValueError, match=r"is_active\(\) before reset\(\): call reset\(\) first"):
        zoo.is_active()
    zoo.reset(seed=0)
    told, told_rows = tensors.reset(seed=0)[1], rows.reset(seed=0)[1]
    seen = []
    for t in range(6):
        active = zoo.is_active()
        assert list(active) == zoo.possible_agents and all(type(value) is bool for value in active.values())
        seen.append([*active.values()])
        assert seen[-1] == batch.observe().is_active[0].tolist(), f"step {t}"
        expected = tensors.engine.observe().is_active
        assert torch.equal(torch.stack([info["is_active"] for info in told.values()], 1), expected)
        assert told_rows["is_active"].dtype == bool and told_rows["_is_active"].all()
        np.testing.assert_array_equal(told_rows["is_active"], expected.flatten())
        actions = [1, 2, 3] if t < 2 else [0, 0, 0]  # ScalarToy lets everybody go on
        batch.step(torch.tensor([actions]))
        zoo.step(dict(zip(zoo.agents, actions)))
        told = tensors.step({agent: torch.tensor([a, a]) for agent, a in zip(tensors.agents, actions)})[4]
        told_rows = rows.step(np.array(actions * 2))[4]
    assert seen[1:3] == [[True, True, True], [True, False, False]] and len(zoo.agents) == 3
