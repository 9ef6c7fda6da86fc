"""Whole episodes of the original JaxNav, jaxmarl 0.2.0 (extra [parity]).

python tests/helpers/record_jaxnav.py     # writes tests/fixtures/jaxnav_{7x7x2a,11x11x4a}.npz again
"""

from functools import cache
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIELDS = ("pos", "theta", "vel", "goal_reached", "crashed", "done")  # of the State, at every step
EVENTS = {"arrives": "GoalR", "hits_wall": "MapC", "hits_robot": "AgentC", "times_out": "TimeO"}


@cache
def original(task: str, max_steps: int = 500):
    """The original's environment of a task, with reset and step for a batch."""
    import jax
    from jaxmarl.environments.jaxnav.jaxnav_env import JaxNav

    size, _, agents = task.removeprefix("jaxnav_").removesuffix("a").split("x")
    map_params = {"map_size": (int(size), int(size)), "fill": 0.3}
    env = JaxNav(int(agents), map_params=map_params, goal_radius=0.3, lidar_thresh=0.0, max_steps=max_steps)
    world = jax.jit(jax.vmap(lambda state: env.get_world_state(state)[0]))
    return env, jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step_env)), world


def record(task: str, episodes: int, seed: int, max_steps: int = 500) -> dict[str, np.ndarray]:
    """Arrays [T, E, ...] of an episode's steps, State fields and what is seen [T + 1, E, ...]; ranges as samples.

    `extra_obs` are the five numbers after the ranges, `world` the global state without our flags.

    Every robot has a habit: to steer for its goal, for another robot's place, or to wander; a fourth stands and turns,
    so that time runs out. Actions, of half precision, leave the box of the action space now and then.
    """
    import jax

    env, reset, step, world = original(task, max_steps)
    N = env.num_agents
    generator = np.random.default_rng(seed)
    obs, state = reset(jax.random.split(jax.random.PRNGKey(seed), episodes))
    keys = jax.random.split(jax.random.PRNGKey(0), episodes)
    habit = generator.choice(4, (episodes, N), p=[0.4, 0.25, 0.25, 0.1])
    names = (*FIELDS, "action", "reward", *EVENTS, "samples", "extra_obs", "world")
    kept = {name: [] for name in names}

    def keep_situation(obs):
        fields = {name: np.asarray(getattr(state, {"crashed": "move_term"}.get(name, name))) for name in FIELDS}
        fields["done"] = fields["done"].any(1)
        for name, values in fields.items():
            kept[name].append(values)
        obs = np.stack([obs[a] for a in env.agents], 1)  # [E, N, 205]
        kept["samples"].append(np.round((obs[..., :200] + 0.5) * 119).astype(np.uint8))
        kept["extra_obs"].append(obs[..., 200:])
        kept["world"].append(np.asarray(world(state))[:, N:-205])
        return fields

    for _ in range(max_steps):
        now = keep_situation(obs)
        if now["done"].all():
            break
        aim = np.where((habit == 1)[..., None], np.roll(now["pos"], 1, 1), np.asarray(state.goal)) - now["pos"]
        turn = (np.arctan2(aim[..., 1], aim[..., 0]) - now["theta"] + np.pi) % (2 * np.pi) - np.pi
        speed = np.where(np.abs(turn) > 0.6, 0.05, 1.0)
        steer = np.stack([speed, 1.5 * turn], -1) + generator.normal(0, 0.1, aim.shape)
        wander = generator.uniform([0, -0.9], [1.2, 0.9], aim.shape)
        turning = np.stack([np.zeros((episodes, N)), np.full((episodes, N), 0.5)], -1)
        action = np.select([(habit < 2)[..., None], (habit == 2)[..., None]], [steer, wander], turning)
        action = action.astype(np.float16)
        given = action.astype(np.float32)
        obs, state, reward, done, info = step(keys, state, {a: given[:, i] for i, a in enumerate(env.agents)})
        kept["action"].append(action)
        kept["reward"].append(np.stack([reward[a] for a in env.agents], 1))
        for name, theirs in EVENTS.items():
            kept[name].append(np.asarray(info[theirs]).astype(bool))
    else:
        keep_situation(obs)
    arrays = {name: np.asarray(values) for name, values in kept.items()}
    return arrays | {"goal": np.asarray(state.goal), "map_data": np.asarray(state.map_data).astype(bool)}


def starts(task: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """State fields [count, ...] after resets of the original."""
    import jax

    state = original(task)[1](jax.random.split(jax.random.PRNGKey(seed), count))[1]
    return {name: np.asarray(getattr(state, name)) for name in ("pos", "theta", "goal", "map_data")}


if __name__ == "__main__":
    for seed, task in enumerate(("jaxnav_7x7x2a", "jaxnav_11x11x4a")):
        arrays = record(task, episodes=24 // (seed + 1), seed=seed, max_steps=90)
        for name in ("samples", "extra_obs", "world"):  # the bulk of it: every fifth situation
            arrays[name] = arrays[name][::5]
        np.savez_compressed(FIXTURES / f"{task}.npz", **arrays)
