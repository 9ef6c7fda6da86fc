"""Whole episodes of the original simple spread, jaxmarl 0.2.0 (extra [parity]).

python tests/helpers/record_mpe.py     # writes tests/fixtures/simple_spread_{3,5,10}ag.npz again
"""

from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures"
STEPS = 26


def record(num_agents: int, episodes: int, seed: int, action_type: str = "continuous", obs_episodes: int = 1) -> dict:
    """Arrays [T, episodes, ...] of an episode's steps, fields of the state [T + 1, ...]; actions in half precision.

    Every other episode, all agents are drawn to landmark 0, so that crowds touch; in the others, agent i is drawn to
    landmark i. Half of the thrust is random.
    """
    import jax
    import jaxmarl

    kind = {"continuous": "Continuous", "discrete": "Discrete"}[action_type]
    env = jaxmarl.make(
        "MPE_simple_spread_v3", num_agents=num_agents, num_landmarks=num_agents, action_type=kind, local_ratio=0.5
    )
    reset, step, observe = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step_env)), jax.jit(jax.vmap(env.get_obs))
    generator = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.PRNGKey(seed), episodes)
    obs, state = reset(keys)
    target = np.where(np.arange(episodes)[:, None] % 2, 0, np.arange(num_agents))
    rows = np.arange(episodes)[:, None]

    recorded = {name: [] for name in ("agent_pos", "agent_vel", "landmark_pos", "action", "reward", "done", "obs")}

    def keep_situation():
        position, velocity = np.asarray(state.p_pos), np.asarray(state.p_vel)
        recorded["agent_pos"].append(position[:, :num_agents])
        recorded["agent_vel"].append(velocity[:, :num_agents])
        recorded["obs"].append(np.stack([observe(state)[a] for a in env.agents], 1)[:obs_episodes])
        return position

    for _ in range(STEPS):
        position = keep_situation()
        pull = position[rows, num_agents + target] - position[:, :num_agents]  # [E, N, 2]
        thrust = np.clip(2 * pull, -1, 1) + generator.uniform(-1, 1, pull.shape)
        axes = np.stack([np.maximum(-thrust, 0), np.maximum(thrust, 0)], -1).reshape(episodes, num_agents, 4)
        action = np.concatenate([generator.uniform(0, 1, (episodes, num_agents, 1)), axes], -1).astype(np.float16)
        if action_type == "discrete":
            action = action.argmax(-1).astype(np.int8)
        given = action.astype(np.int32 if action_type == "discrete" else np.float32)
        obs, state, reward, done, _ = step(keys, state, {a: given[:, i] for i, a in enumerate(env.agents)})
        recorded["action"].append(action)
        recorded["reward"].append(np.stack([reward[a] for a in env.agents], 1))
        recorded["done"].append(np.asarray(done["__all__"]))
    recorded["landmark_pos"] = keep_situation()[:, num_agents:]
    return {name: np.asarray(values) for name, values in recorded.items()}


if __name__ == "__main__":
    for num_agents in (3, 5, 10):
        np.savez_compressed(FIXTURES / f"simple_spread_{num_agents}ag.npz", **record(num_agents, 16, seed=num_agents))
