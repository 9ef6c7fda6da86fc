"""Steps per second of `parallel_env`, random actions, dictionaries included, one process, one thread.

    python benchmarks/parallel_env.py [--tasks paxmen_5a ...] [--seconds 1.0] [--json FILE]

Tasks with a scalar engine are also run on a batch of one, for comparison. "first step" is the time from the end of
`import torch_mars.envs` to the end of the first step in a new process, the compiled loops being in numba's cache (which
this script fills before). Rounds of the engines alternate and the median counts, for machines that do other things too.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from side_by_side import facts, print_facts, write_json

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


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps per second of parallel_env, random actions.")
    parser.add_argument("--tasks", nargs="+", default=list(envs.tasks()), metavar="TASK")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each engine runs")
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
    write_json(args.json, machine, rows)


if __name__ == "__main__":
    main()
