"""Whole episodes of the original Search & Rescue, jumanji 1.1.2 (extra [parity]).

python tests/helpers/record_search_and_rescue.py     # writes tests/fixtures/search_and_rescue_*.npz again

The original moves its targets at random by a function that may be exchanged: here it takes the velocities that our
environment has drawn for the step, so that everything but these draws can be compared step by step.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

import torch_mars.envs as envs

FIXTURES = Path(__file__).parents[1] / "fixtures"
SEEN_EVERY = 8  # steps: places and what is seen, the bulk of a record, are kept in every so manieth situation
FIELDS = ("searcher_pos", "searcher_heading", "searcher_speed", "target_pos", "target_vel", "target_found", "step")


@cache
def original(num_searchers: int, num_targets: int, given_velocities: bool = True, **options):
    """Reset and step of the original for a batch, and a function from our State fields to its state.

    Args:
        given_velocities: whether targets move by the velocities that they have; else at random, without acceleration.
        options: arguments of the original's constructor.
    """
    import jax
    from jumanji.environments import SearchAndRescue
    from jumanji.environments.swarms.common.types import AgentState
    from jumanji.environments.swarms.search_and_rescue.dynamics import RandomWalk, TargetDynamics
    from jumanji.environments.swarms.search_and_rescue.generator import RandomGenerator
    from jumanji.environments.swarms.search_and_rescue.types import State, TargetState

    class AsGiven(TargetDynamics):
        def __call__(self, key, targets, env_size):
            return targets.replace(pos=(targets.pos + targets.vel) % env_size)

    dynamics = AsGiven() if given_velocities else RandomWalk(acc_std=0.0, vel_max=0.002)
    generator = RandomGenerator(num_targets=num_targets, num_searchers=num_searchers)
    env = SearchAndRescue(generator=generator, target_dynamics=dynamics, **options)

    def state_of(fields):
        count = len(fields["step"])
        places = {name: np.asarray(fields[name], np.float32) for name in FIELDS[:5]}
        return State(
            searchers=AgentState(
                pos=places["searcher_pos"], heading=places["searcher_heading"], speed=places["searcher_speed"]
            ),
            targets=TargetState(
                pos=places["target_pos"], vel=places["target_vel"], found=np.asarray(fields["target_found"], bool)
            ),
            key=np.zeros((count, 2), np.uint32),
            step=np.asarray(fields["step"], np.int32),
        )

    look = jax.vmap(env._state_to_observation)
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step)), jax.jit(look), state_of


def fields_of(state) -> dict[str, np.ndarray]:
    """Our State fields of the original's state."""
    of_searchers, of_targets = state.searchers, state.targets
    values = (of_searchers.pos, of_searchers.heading, of_searchers.speed)
    values += (of_targets.pos, of_targets.vel, of_targets.found, state.step)
    return {name: np.asarray(value) for name, value in zip(FIELDS, values)}


def seen_in(observation, max_steps: int) -> np.ndarray:
    """Our obs [B, N, O] of the original's observation; its readings at the very range may exceed 1 by rounding."""
    views = np.asarray(observation.searcher_views)
    count, num_searchers = views.shape[:2]
    shared = np.stack([observation.targets_remaining, np.asarray(observation.step, np.float32) / max_steps], -1)
    shared = np.broadcast_to(shared[:, None], (count, num_searchers, 2))
    return np.concatenate([np.minimum(views.reshape(count, num_searchers, -1), 1), shared], -1).astype(np.float32)


def seeking(obs: torch.Tensor, generator: np.random.Generator, num_vision: int = 128) -> torch.Tensor:
    """Actions [B, N, 2] of a simple team: full speed, towards the missing targets in sight, else a little at random."""
    view = obs[..., 2 * num_vision : 3 * num_vision].numpy()
    weight = np.where(view >= 0, 1.5 - view, 0)
    bearing = np.linspace(-0.4 * np.pi, 0.4 * np.pi, num_vision)
    turn = -(weight * bearing).sum(-1) / np.maximum(weight.sum(-1), 1e-9) / (0.25 * np.pi)
    turn = np.where(weight.any(-1), turn, generator.normal(0, 0.15, turn.shape))
    return torch.from_numpy(np.stack([turn, np.full_like(turn, 1.2)], -1).astype(np.float16)).float()


def record(task: str, episodes: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays [T, E, ...] of an episode's steps, State fields [T + 1, E, ...]; every other episode is of random play.

    Steps behind an episode's end are kept, too: both sides go on.
    """
    env = envs.make(task, episodes, seed=seed, auto_reset=False)
    ts = env.reset()
    _, step, look, state_of = original(env.num_agents, env.num_targets)
    state = state_of(env.state_dict())
    generator = np.random.default_rng(seed)
    kept = {name: [] for name in (*FIELDS, "action", "reward", "ends", "obs")}
    start = env.state.rng.clone()

    def keep_situation():
        for name, value in fields_of(state).items():
            kept[name].append(value)
        kept["obs"].append(seen_in(look(state), env.max_steps))

    keep_situation()
    while not (ts.truncated | ts.terminated).all() and len(kept["action"]) < env.max_steps:
        is_wild = torch.arange(episodes)[:, None, None] % 2 == 1
        wild = generator.uniform(-1.3, 1.3, (episodes, env.num_agents, 2)).astype(np.float16)
        action = torch.where(is_wild, torch.from_numpy(wild).float(), seeking(ts.obs, generator))
        ts = env.step(action)
        given = state.targets.replace(vel=env.state.target_vel.numpy())
        state, time_step = step(state.replace(targets=given), action.numpy())
        keep_situation()
        kept["action"].append(action.numpy().astype(np.float16))
        kept["reward"].append(np.asarray(time_step.reward))
        kept["ends"].append(np.asarray(time_step.discount[:, 0] == 0))
    return {name: np.asarray(values) for name, values in kept.items()} | {"rng": start.numpy()}


if __name__ == "__main__":
    for seed, (size, episodes) in enumerate({"2x20": 4, "4x40": 2, "8x40": 2}.items()):
        arrays = record(f"search_and_rescue_{size}", episodes, seed)
        for name in (*FIELDS[:4], "obs"):
            arrays[name] = arrays[name][::SEEN_EVERY]
        del arrays["target_vel"], arrays["step"]  # the velocities are ours
        np.savez_compressed(FIXTURES / f"search_and_rescue_{size}.npz", **arrays)
