"""What the benchmarks put beside ours in JAX does the same work: PaxMen's rules and a whole update of MAPPO."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_mars.envs as envs
from torch_mars.algos import mappo
from torch_mars.envs.paxmen.layouts import board

jax = pytest.importorskip("jax", reason="the benchmarks' other side: pip install torch_mars[parity]")
pytestmark = pytest.mark.parity
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])


def cell_numbers(num_agents, layout, position):
    """Floor cells [B, K] at positions [B, K, 2] as the benchmark numbers them."""
    tables = board(num_agents)
    row, col = np.asarray(position[..., 0], int), np.asarray(position[..., 1], int)
    return tables.cell_at[np.asarray(layout, int)[:, None], row * tables.grid_size + col].astype(np.int32)


@pytest.mark.parametrize("num_agents", [4, 5, 6])
def test_paxmen_in_jax_equals_the_recorded_episodes(num_agents):
    from jax_paxmen import PaxMen, State

    record = np.load(ROOT / f"tests/fixtures/paxmen_{num_agents}a.npz")
    env = PaxMen(num_agents)
    steps, episodes = record["done"].shape
    pool, pick = env.pool(jax.random.key(0)), np.zeros(episodes, np.int32)
    perceive, step = jax.jit(env.perceive), jax.jit(env.step)

    def recorded(t):
        layout = record["layout"][t].astype(np.int32)
        agent, dot = (cell_numbers(num_agents, layout, record[name][t]) for name in ("agent_pos", "dot_pos"))
        return State(layout, agent, dot, record["dot_active"][t], record["step"][t].astype(np.int32))

    for t in range(steps):
        where = f"step {t}"
        obs, cells = perceive(recorded(t))
        np.testing.assert_array_equal(obs, record["obs"][t], err_msg=where)
        np.testing.assert_array_equal(cells, record["state"][t], err_msg=where)
        after, reward, is_done = step(recorded(t), record["action"][t].astype(np.int32), pool, pick)
        np.testing.assert_allclose(reward, record["reward"][t][:, 0], atol=2e-6, err_msg=where)
        np.testing.assert_array_equal(is_done, record["done"][t], err_msg=where)
        if t + 1 < steps:  # the last step begins new episodes
            np.testing.assert_array_equal(after.agent, recorded(t + 1).agent, err_msg=where)
            np.testing.assert_array_equal(after.is_active, record["dot_active"][t + 1], err_msg=where)


@pytest.mark.parametrize("as_usual", [False, True])
def test_an_update_in_jax_equals_the_lessons(as_usual, monkeypatch):
    """From the same weights and the same rollout; in one minibatch, so that the order of its rows does not matter."""
    import jax.numpy as jnp
    import jax_mappo

    monkeypatch.setattr(jax_mappo, "AS_USUAL", as_usual)
    monkeypatch.setattr(jax_mappo, "EPOCHS", 1)
    monkeypatch.setattr(jax_mappo, "MINIBATCHES", 1)
    num_envs = 16
    args = mappo.Args(num_envs=num_envs, epochs=1, minibatches=1, device="cpu", adam_eps=jax_mappo.ADAM_EPS)
    env = envs.make("paxmen_5a", num_envs)
    env.reset()
    learner = mappo.Learner(args, env, [0])
    rollout = mappo.Rollout(args, env, learner.actor)
    mappo.collect(rollout, env, learner)
    torch.manual_seed(0)
    rollout.log_prob += 0.3 * torch.randn_like(rollout.log_prob)  # so that ratios are clipped

    def of_one_seed(tensor):
        return jnp.asarray(tensor.detach()[0].numpy().copy())

    def weights():
        networks = {"actor": learner.actor.network, "critic": learner.critic}
        layers = {name: (n.hidden_1, n.hidden_2, n.head) for name, n in networks.items()}
        return {
            name: [(of_one_seed(layer.weight).T, of_one_seed(layer.bias)[0]) for layer in group]
            for name, group in layers.items()
        }

    state = env.state
    agent, dot = (cell_numbers(5, state.layout, position) for position in (state.agent_pos, state.dot_pos))
    now = (np.asarray(state.layout, np.int32), agent, dot, state.dot_active.numpy(), np.asarray(state.step, np.int32))
    pool = jax_mappo.ENV.pool(jax.random.key(0))
    other = jax_mappo.new_learner(jax.random.key(0), pool, num_envs)
    other = other._replace(params=weights(), env=jax_mappo.State(*map(jnp.asarray, now)))
    parts = (rollout.obs[:, :-1], rollout.state[:, :-1], rollout.action, rollout.log_prob, rollout.reward[..., 0])
    other_rollout = jax_mappo.Rollout(*map(of_one_seed, (*parts, rollout.is_done)))

    advantage, value, _ = mappo.advantages(rollout, learner, args)
    other_advantage, other_value = jax.jit(jax_mappo.advantages)(other, other_rollout)
    np.testing.assert_allclose(other_advantage, of_one_seed(advantage)[..., 0], atol=1e-5)
    np.testing.assert_allclose(other_value, of_one_seed(value)[..., 0], atol=1e-5)

    value = value + 0.5 * torch.randn_like(value)  # so that values are clipped
    for _ in range(3):
        mappo.update(rollout, advantage, value, advantage + value, learner, args)
        other = jax.jit(jax_mappo.update)(other, other_rollout, other_advantage, of_one_seed(value)[..., 0])
    for ours, theirs in zip(jax.tree.leaves(weights()), jax.tree.leaves(other.params)):
        np.testing.assert_allclose(theirs, ours, atol=5e-5)  # three Adam steps move a weight by 1.5e-3
