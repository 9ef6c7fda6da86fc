"""Environment steps per second of training, and how much of the time is spent outside the networks.

    python benchmarks/train_throughput.py [--env paxmen_5a] [--num-envs 128] [--num-seeds 1,2,5] [--json FILE] [--quick]

An iteration (rollout, advantages, update) alternates with the same networks' work alone: every forward pass, backward
pass and optimiser step of the iteration, on the same tensors, and nothing else. The share outside the networks is
1 - (time of the networks alone) / (time of the iteration), the median over pairs that follow one another.
"""

import argparse
import json
import statistics
import time

import torch

import torch_mars.envs as envs
from torch_mars.algos import mars
from torch_mars.envs import rng


def networks_alone(learner, rollout, args):
    T = args.rollout_length
    with torch.no_grad():
        for t in range(T):
            learner.actor.network(rollout.obs[:, t])
        learner.value(rollout.state)
    size = T * args.num_envs // args.minibatches
    obs, state = rollout.obs.flatten(1, 2)[:, :size].contiguous(), rollout.state.flatten(1, 2)[:, :size].contiguous()
    for _ in range(args.epochs * args.minibatches):
        (learner.actor.network(obs).mean() + learner.value(state).mean()).backward()
        for optimizer in (learner.actor_optimizer, learner.critic_optimizer):
            optimizer.step()
            optimizer.zero_grad()


def measure(args, repetitions):
    seeds = list(range(args.num_seeds))
    env = envs.make(
        args.env, args.num_seeds * args.num_envs, args.device, [rng.derive(s, "environment") for s in seeds]
    )
    learner, copy = mars.Learner(args, env, seeds), mars.Learner(args, env, seeds)
    rollout = mars.Rollout(args, env, learner.actor)
    ts = env.reset()
    parts = {"rollout": [], "advantages": [], "update": [], "networks alone": []}

    def clock():
        if env.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(repetitions + 1):
        marks = [clock()]
        ts = mars.collect(rollout, env, ts, learner)
        marks.append(clock())
        advantage, value = mars.advantages(rollout, learner, args)
        marks.append(clock())
        mars.update(rollout, advantage, value, learner, args)
        marks.append(clock())
        networks_alone(copy, rollout, args)
        marks.append(clock())
        for name, start, end in zip(parts, marks, marks[1:]):
            parts[name].append(end - start)
    medians = {name: statistics.median(times[1:]) for name, times in parts.items()}  # the first warms up
    totals = [sum(times) for times in zip(parts["rollout"], parts["advantages"], parts["update"])][1:]
    outside = statistics.median(1 - alone / total for alone, total in zip(parts["networks alone"][1:], totals))
    return {
        "env": args.env, "num_envs": args.num_envs, "num_seeds": args.num_seeds,
        "steps_per_second": round(args.num_seeds * args.num_envs * args.rollout_length / statistics.median(totals)),
        **{f"{name} [s]": round(seconds, 4) for name, seconds in medians.items()},
        "share outside networks": round(outside, 3),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="paxmen_5a")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--num-seeds", default="1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true", help="5 iterations each instead of 30")
    options = parser.parse_args()
    rows = []
    for num_seeds in map(int, options.num_seeds.split(",")):
        args = mars.Args(env=options.env, num_envs=options.num_envs, num_seeds=num_seeds, device=options.device)
        rows.append(measure(args, 5 if options.quick else 30))
        print("  ".join(f"{name}: {value}" for name, value in rows[-1].items()))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
