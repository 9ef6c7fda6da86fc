"""The loops of AeroJAX against the tensors: from equal states, equal up to float32 rounding."""

import ast
import inspect

import numpy as np
import pytest
import torch
from numba.core.registry import CPUDispatcher

import torch_mars.envs as envs
from torch_mars.envs.aerojax import env as rules
from torch_mars.envs.aerojax import loops, opponents, physics, vectors
from torch_mars.envs.aerojax.loops import AeroJAXLoops

DISCRETE = ("rng", "step", "status", "lock_steps", "detected", "under_fire")
# largest difference after one step from the same state; positions reach 2000 m, where float32 is 1e-4 m apart
CLOSE = {
    "position": 5e-4,
    "velocity": 1e-4,
    "lift_dir": 1e-5,
    "alpha": 1e-5,
    "throttle": 1e-5,
    "health": 1e-5,
    "totals": 1e-5,
}


def pair(task, seed, **overrides):
    """One environment in tensors, and one in loops."""
    env = envs.make(task, num_envs=1, seed=seed, auto_reset=False, **overrides)
    return env, AeroJAXLoops(envs.make(task, num_envs=1, **overrides))


def assert_same(engine, outcome, env, ts, where):
    for name, value in engine.state_dict().items():
        expected = getattr(env.state, name)[0].numpy()
        if name in DISCRETE:
            np.testing.assert_array_equal(value, expected, err_msg=f"{where} {name}")
        else:
            np.testing.assert_allclose(value, expected, atol=CLOSE[name], rtol=0, err_msg=f"{where} {name}")
    np.testing.assert_allclose(outcome.obs, ts.obs[0], atol=1e-5, rtol=1e-5, err_msg=where)
    np.testing.assert_allclose(outcome.state, ts.state[0], atol=1e-5, rtol=1e-5, err_msg=where)
    np.testing.assert_allclose(outcome.reward, ts.reward[0], atol=1e-6, err_msg=where)
    assert (outcome.terminated, outcome.truncated) == (ts.terminated.item(), ts.truncated.item()), where
    for name, value in engine.info().items():
        assert float(value) == pytest.approx(float(ts.info[name][0]), abs=1e-4), f"{where} {name}"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("task", ["aerojax_2v2", "aerojax_3v3", "aerojax_5v5_mixed"])
def test_every_step_of_an_episode_from_equal_states(task, seed):
    """Some allies fly by the pilot, some at random, so that aircraft are lost in every way."""
    env, engine = pair(task, seed, max_steps=180)
    ts = env.reset()
    assert_same(engine, engine.reset(seed), env, env.observe(), "reset")
    generator = torch.Generator().manual_seed(seed)
    is_wild = torch.rand(env.num_agents, generator=generator) < 0.3
    for t in range(env.max_steps):
        noise = torch.rand(1, env.num_agents, 3, generator=generator) * 2.2 - 1.1
        actions = torch.where(is_wild[:, None], noise, env.heuristic_actions(1.0))
        engine.load_state({name: value[0].numpy() for name, value in env.state_dict().items()})
        ts = env.step(actions)
        assert_same(engine, engine.step(actions[0].numpy()), env, ts, f"{task}, seed {seed}, step {t}")
        if ts.terminated.item():
            break


@pytest.mark.parametrize("overrides", [{}, {"opponent": "passive"}])
def test_random_situations(overrides):
    """Aircraft anywhere, flying any way, some dead, some nearly touching, over walls and ground."""
    count, generator = 400, torch.Generator().manual_seed(7)
    many = envs.make("aerojax_3v3", num_envs=count, seed=7, auto_reset=False, **overrides)
    many.reset()

    def rand(*shape):
        return torch.rand(count, 6, *shape, generator=generator)

    velocity = torch.randn(count, 6, 3, generator=generator)
    velocity = velocity / velocity.norm(dim=2, keepdim=True) * (40 + 200 * rand(1))
    sideways = torch.cross(velocity, torch.randn(count, 6, 3, generator=generator), dim=2)
    centre = (torch.rand(count, 1, 3, generator=generator) - 0.5) * torch.tensor([3800.0, 3800.0, 2800.0])
    spread = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, 900.0, 60.0)
    position = centre + torch.tensor([0.0, 0.0, 1500.0]) + (rand(3) - 0.5) * spread
    position[..., 2] = position[..., 2].clamp(min=1)
    many.load_state(
        {
            "position": position,
            "velocity": velocity,
            "lift_dir": sideways / sideways.norm(dim=2, keepdim=True),
            "alpha": rand() * 0.3 - 0.05,
            "throttle": rand(),
            "health": rand(),
            "status": (rand() < 0.15).long() * (1 + 3 * rand()).long(),
            "lock_steps": (rand(6) * 12).long(),
            "step": (torch.rand(count, generator=generator) * 500).long(),
        }
    )
    before = many.state_dict()
    actions = torch.rand(count, 3, 3, generator=generator) * 2 - 1
    env, engine = pair("aerojax_3v3", 0, **overrides)
    statuses = set()
    for i in range(count):
        fields = {name: value[i : i + 1] for name, value in before.items()}
        env.load_state(fields)
        engine.load_state({name: value[0].numpy() for name, value in fields.items()})
        ts = env.step(actions[i : i + 1])
        assert_same(engine, engine.step(actions[i].numpy()), env, ts, f"situation {i}")
        statuses |= set(env.state.status[0].tolist())
    assert statuses == {0, 1, 2, 3, 4}


def functions(module):
    """Names of the functions and methods of a file, in its order."""
    nodes = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in sorted(nodes, key=lambda node: node.lineno)]


def test_loops_bear_the_names_of_their_twins_in_the_same_order():
    twins = [name for module in (vectors, physics, opponents, rules) for name in functions(module)]
    names = [name for name, value in vars(loops).items() if isinstance(value, CPUDispatcher)]
    names = [name for name in names if name not in ("next_uniform", "clamp")]  # tensors have a clamp
    assert len(names) > 40
    rest = iter(twins)
    for name in names:
        assert name in rest, f"{name} has no twin of its name after that of the function before"
