"""SMAX here and in JaxMARL 0.2.0: environment steps per second on CPU, taking turns in one process.

    python benchmarks/smax_vs_jaxmarl.py [--tasks smax_2s3z ...] [--num-envs 1024] [--json FILE]

Needs the extra [parity]. Both sides play at random, start the next episode within the step that ended one, and give
observations, global state and masks. JaxMARL runs `--steps` steps in one compiled scan; compiling is not timed.
"""

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import torch
from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

import torch_mars.envs as envs


def ours(task, num_envs, steps):
    env = envs.make(task, num_envs=num_envs)
    env.reset()
    num_actions = int(env.action_space.n)

    def run():
        for _ in range(steps):
            env.step(torch.randint(num_actions, (num_envs, env.num_agents)))

    return run


def original(task, num_envs, steps):
    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(task.removeprefix("smax_")))
    num_actions = int(env.action_spaces[env.agents[0]].n)

    def one(key, state):
        act_key, step_key = jax.random.split(key)
        actions = jax.random.randint(act_key, (env.num_agents,), 0, num_actions)
        obs, state, reward, done, _ = env.step(step_key, state, dict(zip(env.agents, actions)))
        return state, (obs, reward, done, env.get_avail_actions(state))

    @jax.jit
    def scan(states, key):
        def body(carry, key):
            states, _ = carry
            return jax.vmap(one)(jax.random.split(key, num_envs), states), None

        shapes = jax.eval_shape(lambda: jax.vmap(one)(jax.random.split(key, num_envs), states)[1])
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(body, (states, nothing), jax.random.split(key, steps))[0]  # keeps the last step's outputs

    key = jax.random.PRNGKey(0)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(key, num_envs))[1]

    def run():
        nonlocal states, key
        key, now = jax.random.split(key)
        states, outputs = scan(states, now)
        jax.block_until_ready((states, outputs))

    return run


def measure(task, num_envs, steps, rounds):
    """Rates by wall clock, and ratios by wall clock and by CPU time, which a busy machine does not distort."""
    sides = {"torch_mars": ours(task, num_envs, steps), "jaxmarl": original(task, num_envs, steps)}
    for run in sides.values():
        run()  # compiles, warms up
    wall, cpu = ({name: [] for name in sides} for _ in range(2))
    for _ in range(rounds):
        for name, run in sides.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    rate = {name: num_envs * steps / statistics.median(times) for name, times in wall.items()}
    wall_ratio, cpu_ratio = (statistics.median(b / a for a, b in zip(*times.values())) for times in (wall, cpu))
    return {"task": task, "num_envs": num_envs, **rate, "wall_ratio": wall_ratio, "cpu_ratio": cpu_ratio}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["smax_2s3z", "smax_10m_vs_11m", "smax_27m_vs_30m"])
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{os.cpu_count()} CPU cores, torch {torch.__version__} ({threads} threads), jax {jax.__version__}")
    print(f"environment steps/s, medians of {args.rounds} rounds of {args.steps} steps of {args.num_envs} environments")
    print(f"{'task':18} {'torch_mars':>12} {'jaxmarl':>12} {'wall ratio':>11} {'CPU ratio':>10}")
    rows = []
    for task in args.tasks:
        row = measure(task, args.num_envs, args.steps, args.rounds)
        rows.append(row)
        rates = f"{row['torch_mars']:12,.0f} {row['jaxmarl']:12,.0f}"
        print(f"{task:18} {rates} {row['wall_ratio']:11.2f} {row['cpu_ratio']:10.2f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, both sides: {peak:,.0f} MB")
    if args.json:
        facts = {"cpus": os.cpu_count(), "threads": threads, "torch": torch.__version__, "jax": jax.__version__}
        args.json.write_text(json.dumps({**facts, "rows": rows}, indent=1))
