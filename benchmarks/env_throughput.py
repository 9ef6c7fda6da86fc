"""Environment steps per second of the batched environments alone, with random actions.

    python benchmarks/env_throughput.py [--tasks paxmen_5a,...] [--num-envs 64,1024] [--json FILE] [--quick]

Steps of different tasks and sizes alternate, so that a drifting machine slows all alike; the median is reported.
"""

import argparse
import json
import platform
import statistics
import time

import gymnasium
import torch

import torch_mars.envs as envs


def random_actions(env, count):
    shape = (count, env.num_envs, env.num_agents)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.randint(0, int(env.action_space.n), shape, device=env.device)
    low, high = (torch.as_tensor(x, device=env.device) for x in (env.action_space.low, env.action_space.high))
    return low + (high - low) * torch.rand(*shape, *env.action_space.shape, device=env.device)


def seconds_for(env, actions, seconds):
    """Seconds per step over about `seconds` of stepping."""
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for action in actions:
            env.step(action)
        if env.device.type == "cuda":
            torch.cuda.synchronize()
        steps += len(actions)
    return (time.perf_counter() - start) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(envs.tasks()))
    parser.add_argument("--num-envs", default="64,1024,8192")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true", help="a fifth of the time")
    options = parser.parse_args()

    cases = []
    for task in options.tasks.split(","):
        for num_envs in map(int, options.num_envs.split(",")):
            env = envs.make(task, num_envs, options.device)
            env.reset()
            cases.append((task, num_envs, env, random_actions(env, 16), []))
    for _ in range(5):
        for _, _, env, actions, times in cases:
            times.append(seconds_for(env, actions, 0.2 if options.quick else 1.0))

    rows = [
        {"task": task, "num_envs": num_envs, "steps_per_second": round(num_envs / statistics.median(times))}
        for task, num_envs, _, _, times in cases
    ]
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, {platform.processor()}")
    for row in rows:
        print(f"{row['task']:>28} {row['num_envs']:>8} environments {row['steps_per_second']:>14,} steps/s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
