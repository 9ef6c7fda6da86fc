"""Environment steps per second of JaxNav and MPE beside their originals of `jaxmarl` 0.2.0 (extra [parity]), on CPU.

    OMP_NUM_THREADS=2 python benchmarks/jaxmarl_throughput.py [--num-envs N] [--rounds 5] [--seconds 1.5] [TASK ...]

Both with auto-reset, random actions and whole time steps (observations, rewards, ends); the originals jitted and
vmapped with their default `step`, given as many cores. The two alternate; the medians are reported.
"""

import argparse
import os
import statistics
import time

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["JAX_PLATFORMS"] = "cpu"
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(THREADS)])  # what bounds the threads of JAX

import jax  # noqa: E402 - after the number of threads is set
import jaxmarl  # noqa: E402
import torch  # noqa: E402

import torch_mars.envs as envs  # noqa: E402

CASES = {"jaxnav_11x11x4a": 256, "simple_spread_10ag": 1024}  # task -> environments


def ours(task, num_envs):
    env = envs.make(task, num_envs)
    env.reset()
    low, high = torch.as_tensor(env.action_space.low), torch.as_tensor(env.action_space.high)
    actions = low + (high - low) * torch.rand(16, num_envs, env.num_agents, len(low))

    def run(step):
        env.step(actions[step % 16])

    return run


def original(task, num_envs):
    if envs.family(task) == "jaxnav":
        size, _, agents = task.removeprefix("jaxnav_").removesuffix("a").split("x")
        options = {"map_params": {"map_size": (int(size), int(size)), "fill": 0.3}, "goal_radius": 0.3}
        env = jaxmarl.make("jaxnav", num_agents=int(agents), lidar_thresh=0.0, **options)
    else:
        count = int(task.removeprefix("simple_spread_").removesuffix("ag"))
        options = {"num_landmarks": count, "action_type": "Continuous", "local_ratio": 0.5}
        env = jaxmarl.make("MPE_simple_spread_v3", num_agents=count, **options)
    keys = jax.random.split(jax.random.PRNGKey(0), num_envs)
    state = jax.jit(jax.vmap(env.reset))(keys)[1]
    step = jax.jit(jax.vmap(env.step))
    draws = [jax.random.split(jax.random.PRNGKey(k), num_envs) for k in range(16)]
    sample = jax.jit(jax.vmap(lambda key: {a: env.action_space(a).sample(key) for a in env.agents}))
    actions = [sample(draw) for draw in draws]

    def run(number):
        nonlocal state
        outcome = step(draws[number % 16], state, actions[number % 16])
        state = outcome[1]
        jax.block_until_ready(outcome)

    return run


def rate(run, seconds, num_envs):
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run(steps)
        steps += 1
    return steps * num_envs / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(CASES), metavar="TASK")
    parser.add_argument("--num-envs", type=int, help="256 for JaxNav and 1,024 for MPE, if left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of every measurement")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, jax {jax.__version__}, jaxmarl {jaxmarl.__version__}, {THREADS} threads")
    for task in options.tasks:
        num_envs = options.num_envs or CASES.get(task, 256)
        runs = {"torch_mars": ours(task, num_envs), "jaxmarl": original(task, num_envs)}
        rates = {name: [] for name in runs}
        for measured in range(-1, options.rounds):  # the first one warms up
            for name, run in runs.items():
                value = rate(run, options.seconds, num_envs)
                if measured >= 0:
                    rates[name].append(value)
        for name, values in rates.items():
            spread = f"{min(values):,.0f} to {max(values):,.0f}"
            print(f"{task:>22} {num_envs:>6} environments {name:>11} {statistics.median(values):>12,.0f} ({spread})")
        factor = statistics.median(rates["torch_mars"]) / statistics.median(rates["jaxmarl"])
        print(f"{'':>22} {factor:.1f} times the original's")


if __name__ == "__main__":
    main()
