"""Steps per second of `parallel_env` and `vector_env`, random actions, all they hand out included, one thread.

    python benchmarks/parallel_env.py [--tasks paxmen_5a ...] [--seconds 1.0] [--num-envs 64 1024] [--json FILE]

Tasks with a scalar engine are also run on a batch of one, for comparison. "first step" is the time from the end of
`import torch_mars.envs` to the end of the first step in a new process, the compiled loops being in numba's cache (which
this script fills before). Rounds of the engines alternate and the median counts, for machines that do other things too.

`vector_env` is run with as many environments as `--num-envs` says, beside the `BatchedEnv` underneath; "ratio" is what
is left of its rate, the median over pairs of rounds.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from side_by_side import facts, median_ratio, print_facts, seconds_per_call, write_json

import torch_mars.envs as envs
from torch_mars.envs.engine import TensorEngine
from torch_mars.envs.pettingzoo import TaskParallelEnv

ROUNDS = 5
FIRST_STEP = """
import time
import torch_mars.envs as envs
start = time.perf_counter()
env = envs.parallel_env({task!r})
env.reset()
env.step({{agent: env.action_space(agent).sample() for agent in env.agents}})
print(time.perf_counter() - start)
"""


def steps_per_second(env: TaskParallelEnv, actions: list[dict], seconds: float) -> float:
    """Steps of `env`, with resets between episodes, over about `seconds`."""
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for action in actions:
            if not env.agents:
                env.reset()
            env.step(action)
        steps += len(actions)
    return steps / (time.perf_counter() - start)


def first_step_s(task: str) -> float:
    """Seconds from import to the end of the first step, in a new process."""
    code = FIRST_STEP.format(task=task)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(result.stdout)


def measure(task: str, seconds: float) -> dict:
    """One row of the table."""
    env = envs.parallel_env(task)
    engines = {"parallel_env": env}
    if not isinstance(env.engine, TensorEngine):
        engines["batch of one"] = TaskParallelEnv(task, TensorEngine(envs.make(task, auto_reset=False)))
    actions = [{agent: env.action_space(agent).sample() for agent in env.possible_agents} for _ in range(100)]
    rates = {name: [] for name in engines}
    for engine in engines.values():
        engine.reset(seed=0)
        engine.step(actions[0])  # compiled, or loaded from the cache
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            rates[name].append(steps_per_second(engine, actions, seconds / ROUNDS))
    return {
        "task": task,
        "engine": type(env.engine).__name__,
        "first_step_s": first_step_s(task),
        "steps_per_second": statistics.median(rates["parallel_env"]),
        "batch_of_one_steps_per_second": statistics.median(rates.get("batch of one", rates["parallel_env"])),
    }


def measure_rows(task: str, num_envs: int, seconds: float) -> dict:
    """One row of the second table: steps of all environments."""
    rows, batch = envs.vector_env(task, num_envs), envs.make(task, num_envs)
    rows.reset(seed=0), batch.reset(0)
    actions = [rows.action_space.sample() for _ in range(4)]
    shape = (num_envs, batch.num_agents, *batch.action_space.shape)
    tensors = [torch.from_numpy(action).view(shape) for action in actions]
    times = {"vector_env": [], "batch": []}
    for _ in range(1 + ROUNDS):  # the first one compiles
        for name, env, given in (("vector_env", rows, actions), ("batch", batch, tensors)):
            several = seconds_per_call(
                lambda env=env, given=given: [env.step(action) for action in given], seconds / ROUNDS
            )
            times[name].append(several / len(given))
    mine, theirs = times["vector_env"][1:], times["batch"][1:]
    return {
        "task": task,
        "num_envs": num_envs,
        "vector_env_steps_per_second": num_envs / statistics.median(mine),
        "batched_steps_per_second": num_envs / statistics.median(theirs),
        "ratio": median_ratio(theirs, mine),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps per second of parallel_env and vector_env, random actions.")
    parser.add_argument("--tasks", nargs="+", default=list(envs.tasks()), metavar="TASK")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each engine runs")
    parser.add_argument("--num-envs", type=int, nargs="*", default=[64, 1024], metavar="B", help="of vector_env")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(1)

    machine = facts("cpu")
    print_facts(machine)
    print(f"{'task':24}{'engine':22}{'steps/s':>10}{'batch of one':>14}{'first step':>12}")
    rows = []
    for task in args.tasks:
        row = measure(task, args.seconds)
        rows.append(row)
        rate, reference, first = (row[k] for k in ("steps_per_second", "batch_of_one_steps_per_second", "first_step_s"))
        print(f"{task:24}{row['engine']:22}{rate:10,.0f}{reference:14,.0f}{first:10.2f} s")
    print(f"\n{'task':24}{'num_envs':>10}{'vector_env':>14}{'BatchedEnv':>14}{'ratio':>8}")
    for task in args.tasks:
        for num_envs in args.num_envs:
            row = measure_rows(task, num_envs, args.seconds)
            rows.append(row)
            rate, reference = row["vector_env_steps_per_second"], row["batched_steps_per_second"]
            print(f"{task:24}{num_envs:10}{rate:14,.0f}{reference:14,.0f}{row['ratio']:8.2f}")
    write_json(args.json, machine, rows)


if __name__ == "__main__":
    main()
