"""Environment steps per second with random actions, beside the JAX originals where they are installed.

    python benchmarks/env_throughput.py [--tasks paxmen_5a,...] [--num-envs 64,1024] [--device cuda] [--compile]
        [--json FILE]

Both sides give whole time steps: observations, rewards, ends, and the next episode's start within the step that ended
one. Ours is called step by step, on CUDA as a graph of several steps; the original's steps are one compiled program of
several. They take turns in processes of their own (`side_by_side.py` says why); "ratio" is ours / the original's, the
median over pairs of turns. Originals take their time to compile, so they run at one number of environments only
(`--beside`).

Originals (`pip install -e ".[parity]"`): SMAX, JaxNav and MPE of JaxMARL, each with its own `step`; RWARE, Connector
and Search & Rescue of Jumanji, in its AutoResetWrapper. All of them draw a whole new episode in every step. For PaxMen
`jax_paxmen.py` stands in, which takes its starts from a pool.
"""

import argparse
import functools
import statistics
from pathlib import Path

from side_by_side import (
    Player,
    alternate,
    facts,
    is_installed,
    median_ratio,
    print_facts,
    seconds_per_call,
    use_jax_on,
    write_json,
)

import torch_mars.envs as envs

STEPS = 4  # of a compiled program, and of different random actions
ROUNDS = 3
# family -> package needed
ORIGINALS = {"paxmen": "jax"} | dict.fromkeys(("smax", "jaxnav", "mpe"), "jaxmarl")
ORIGINALS |= dict.fromkeys(("rware", "connector", "search_and_rescue"), "jumanji")


# ---- ours ----


def ours(device: str, is_compiled: bool):
    """A turn steps a task for about `seconds`: seconds per step."""
    import gymnasium
    import torch

    from torch_mars.nn import speed

    speed.prepare(device)  # as a training does

    @functools.lru_cache(maxsize=1)  # the turns of one case follow one another
    def steps(task: str, num_envs: int):
        env = envs.make(task, num_envs, device)
        env.reset()
        if is_compiled:
            env.compile()
        shape = (STEPS, num_envs, env.num_agents)
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            actions = torch.randint(int(env.action_space.n), shape, device=env.device)
        else:
            low, high = (torch.as_tensor(x, device=env.device) for x in (env.action_space.low, env.action_space.high))
            actions = low + (high - low) * torch.rand(*shape, *env.action_space.shape, device=env.device)

        def several(state):
            env.state = state
            for action in actions:
                ts = env.step(action)
            return env.state, ts.obs

        if env.device.type == "cpu":
            return lambda: several(env.state)
        graph = speed.CudaGraph(several, lambda sentence: None)  # as in training: no launches of single kernels

        def run():
            env.state, _ = graph(env.state)
            torch.cuda.synchronize()

        for _ in range(graph.WARM_UP + 1):
            run()
        return run

    return lambda task, num_envs, seconds: seconds_per_call(steps(task, num_envs), seconds) / STEPS


# ---- originals ----


def paxmen_in_jax(task: str, num_envs: int):
    """(states, step) as `in_jax` wants them."""
    import jax
    from jax_paxmen import PaxMen

    env = PaxMen(envs.task_options(task)["num_agents"])
    pool = env.pool(jax.random.key(0))
    size = len(pool.layout)

    def step(states, key):
        bits = jax.random.bits(key, (num_envs, 1 + env.num_agents), "uint32")
        actions = (bits[:, 1:] % env.num_actions).astype("int32")
        states, reward, is_done = env.step(states, actions, pool, (bits[:, 0] % size).astype("int32"))
        return states, (env.perceive(states), reward, is_done)

    return env.start(pool, jax.random.randint(jax.random.key(1), (num_envs,), 0, size)), step


def jaxmarl_env(task: str):
    """JaxMARL's environment with the settings of our task."""
    import jaxmarl

    family = envs.family(task)
    if family == "smax":
        scenario = jaxmarl.environments.smax.map_name_to_scenario(task.removeprefix("smax_"))
        return jaxmarl.environments.smax.HeuristicEnemySMAX(scenario=scenario)
    options = envs.make(task).options
    if family == "jaxnav":
        settings = {"map_params": {"map_size": (options.map_size,) * 2, "fill": options.fill}}
        settings |= {"goal_radius": options.goal_radius, "lidar_thresh": options.lidar_thresh}
        return jaxmarl.make("jaxnav", num_agents=options.num_agents, **settings)
    settings = {"num_agents": options.num_agents, "num_landmarks": options.num_agents}
    settings |= {"action_type": "Continuous", "local_ratio": options.local_ratio}
    return jaxmarl.make("MPE_simple_spread_v3", **settings)


def jaxmarl_original(task: str, num_envs: int):
    """(states, step) as `in_jax` wants them."""
    import jax

    env = jaxmarl_env(task)

    def one(state, key):
        step_key, *keys = jax.random.split(key, 1 + len(env.agents))
        actions = {agent: env.action_space(agent).sample(k) for agent, k in zip(env.agents, keys)}
        obs, state, reward, is_done, _ = env.step(step_key, state, actions)
        mask = env.get_avail_actions(state) if envs.family(task) == "smax" else None
        return state, (obs, reward, is_done["__all__"], mask)

    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), num_envs))[1]
    return states, lambda states, key: jax.vmap(one)(states, jax.random.split(key, num_envs))


def jumanji_env(task: str):
    """Jumanji's environment with the settings of our task."""
    from jumanji.environments import Connector, RobotWarehouse, SearchAndRescue
    from jumanji.environments.routing.connector.generator import RandomWalkGenerator
    from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator as Warehouses
    from jumanji.environments.swarms.search_and_rescue.generator import RandomGenerator as Teams

    options = envs.make(task).options
    if envs.family(task) == "connector":
        return Connector(RandomWalkGenerator(options.grid_size, options.num_agents), time_limit=options.grid_size**2)
    if envs.family(task) == "search_and_rescue":
        return SearchAndRescue(generator=Teams(num_searchers=options.num_searchers, num_targets=options.num_targets))
    names = ("shelf_rows", "shelf_columns", "column_height", "num_agents", "request_queue_size")
    return RobotWarehouse(Warehouses(**{name: getattr(options, name) for name in names}, sensor_range=1))


def jumanji_original(task: str, num_envs: int):
    """(states, step) as `in_jax` wants them."""
    import jax
    from jumanji.wrappers import AutoResetWrapper

    env = AutoResetWrapper(jumanji_env(task), next_obs_in_extras=True)
    space = env.action_spec

    def one(state, key):
        if hasattr(space, "num_values"):
            action = jax.random.randint(key, space.shape, 0, space.num_values)
        else:
            action = jax.random.uniform(key, space.shape, minval=space.minimum, maxval=space.maximum)
        return env.step(state, action)

    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), num_envs))[0]
    return states, lambda states, key: jax.vmap(one)(states, jax.random.split(key, num_envs))


MAKERS = {"jax": paxmen_in_jax, "jaxmarl": jaxmarl_original, "jumanji": jumanji_original}  # by package


def in_jax(device: str):
    """A turn steps a task's original for about `seconds`: seconds per step."""
    use_jax_on(device)
    import jax
    import jax.numpy as jnp

    @functools.lru_cache(maxsize=1)
    def steps(task: str, num_envs: int):
        states, step = MAKERS[ORIGINALS[envs.family(task)]](task, num_envs)

        @functools.partial(jax.jit, donate_argnums=0)
        def program(states, key):
            """The last step's outputs are carried along, or XLA would leave out what nobody reads."""
            shapes = jax.eval_shape(step, states, key)[1]
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            keys = jax.random.split(key, STEPS)
            return jax.lax.scan(lambda carry, k: (step(carry[0], k), None), (states, nothing), keys)[0]

        key = jax.random.PRNGKey(0)

        def run():
            nonlocal states, key
            key, now = jax.random.split(key)
            states, outputs = program(states, now)
            jax.block_until_ready((states, outputs))

        return run

    return lambda task, num_envs, seconds: seconds_per_call(steps(task, num_envs), seconds) / STEPS


# ---- the table ----


def first_of_each_family() -> list[str]:
    return list({envs.family(task): task for task in reversed(envs.tasks())}.values())[::-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", help="all if left out, or the first of each environment with --quick")
    parser.add_argument("--num-envs", help="64,256,4096 if left out; on CUDA 1024,16384,131072")
    parser.add_argument("--beside", type=int, help="number of environments at which originals run too (the second)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--compile", action="store_true", help="our steps compiled, as trainings on a GPU have them")
    parser.add_argument("--json", type=Path, help="write machine and rows to this file, too")
    parser.add_argument("--quick", action="store_true", help="about a minute: few tasks, one number of environments")
    options = parser.parse_args()
    sizes = "1024,16384,131072" if options.device.startswith("cuda") else "64,256,4096"
    sizes = [int(size) for size in (options.num_envs or sizes).split(",")]
    beside = options.beside or sizes[min(1, len(sizes) - 1)]
    if options.quick and not options.num_envs:
        sizes = [beside]
    tasks = options.tasks.split(",") if options.tasks else first_of_each_family() if options.quick else envs.tasks()
    seconds = 0.3 if options.quick else 0.5

    machine = facts(options.device)
    print_facts(machine)
    print(f"{'task':>26} {'envs':>7} {'steps/s':>14} {'original':>12} {'ratio':>7}", flush=True)
    players, rows = [Player(ours, options.device, options.compile)], []
    if is_installed("jax"):
        players.append(Player(in_jax, options.device))
    for task in tasks:
        package = ORIGINALS.get(envs.family(task))
        for num_envs in sizes:
            has_original = num_envs == beside and package is not None and is_installed(package)
            sides = players if has_original else players[:1]
            times = alternate(sides, ROUNDS, task, num_envs, seconds)
            rates = [num_envs / statistics.median(one) for one in times]
            row = {"task": task, "num_envs": num_envs, "steps_per_second": rates[0]}
            cells = f"{task:>26} {num_envs:>7} {rates[0]:14,.0f}"
            if has_original:
                row |= {"original_steps_per_second": rates[1], "ratio": median_ratio(times[1], times[0])}
                cells += f" {rates[1]:12,.0f} {row['ratio']:7.2f}"
            rows.append(row)
            print(cells, flush=True)
    for player in players:
        player.end()
    write_json(options.json, machine, rows)


if __name__ == "__main__":
    main()
