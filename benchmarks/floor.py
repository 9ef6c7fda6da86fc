"""How far training is from what the hardware allows: time of each part beside its floor.

    python benchmarks/floor.py [--tasks paxmen_5a,aerojax_8v8] [--num-envs 128] [--device cpu] [--json FILE] [--quick]

The floor of the networks is their floating-point operations (counted while an iteration runs) at the rate this machine
reaches in large matrix products of the hidden layers' shape, plus one pass over weights, gradients and moments per
optimiser step. The floor of the environment is the bytes that every step must move, its state in and out and what it
hands over, at the rate this machine copies memory. On a CPU each thread does a product, or a copy, of its own. Measured
parts alternate with the two rates, so that a drifting machine slows all alike; medians are reported.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from side_by_side import facts, print_facts, write_json
from torch.utils.flop_counter import FlopCounterMode

import torch_mars.envs as envs
from torch_mars.algos import mars
from torch_mars.envs import pool
from torch_mars.envs.core import fields_of
from torch_mars.nn import layers, speed

MATRIX_ROWS = {"cpu": 10_240, "cuda": 65_536}  # on CPU as many as a network takes at once
COPIED_BYTES = 1 << 26  # more than a CPU's caches hold


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(device, function, repetitions=1):
    start = clock(device)
    for _ in range(repetitions):
        function()
    return (clock(device) - start) / repetitions


def size_of(tensors):
    """Bytes."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def environment_bytes(env, actions):
    """Of one step of all environments: the State read and written, actions read, the TimeStep written."""
    ts = env.step(actions)
    seen = [ts.obs, ts.state, ts.action_mask, ts.is_active]
    handed_over = [*seen, ts.reward, ts.terminated, ts.truncated, *ts.info.values()]
    return 2 * size_of(fields_of(env.state).values()) + size_of([actions, *handed_over])


class Task:
    """Training of one task in parts that can be timed and counted."""

    def __init__(self, name, options):
        self.args = mars.Args(env=name, num_envs=options.num_envs, device=options.device)
        self.env = envs.make(name, options.num_envs, options.device)
        self.env.reset()
        self.device = self.env.device
        self.learner = mars.Learner(self.args, self.env, [0])
        self.rollout = mars.Rollout(self.args, self.env, self.learner.actor)
        self.collect()
        self.actions = [self.learner.actor.to_env(self.rollout.action[:, t]) for t in range(self.args.rollout_length)]
        self.times = {"environment": [], "rollout": [], "update": []}

    def environment(self):
        for actions in self.actions:
            self.env.step(actions)

    def collect(self):
        mars.collect(self.rollout, self.env, self.learner)

    def update(self):
        parts = mars.advantages(self.rollout, self.learner, self.args)
        mars.update(self.rollout, *parts, self.learner, self.args)

    def measure(self):
        for name, part in (("environment", self.environment), ("rollout", self.collect), ("update", self.update)):
            self.times[name].append(seconds(self.device, part))

    def floors(self, flop_rate, copy_rate):
        """Seconds of each part, were there nothing but its matrix products and the memory it must move."""
        moved = self.args.rollout_length * environment_bytes(self.env, self.actions[0])
        flops = {name: counted(part) for name, part in (("rollout", self.collect), ("update", self.update))}
        parameters = [*self.learner.actor.parameters(), *self.learner.critic.parameters()]
        # weights and two moments are read and written, gradients read
        optimiser = self.args.epochs * self.args.minibatches * 7 * size_of(parameters)
        return {
            "environment": (0, moved, moved / copy_rate),
            "rollout": (flops["rollout"], moved, flops["rollout"] / flop_rate + moved / copy_rate),
            "update": (flops["update"], optimiser, flops["update"] / flop_rate + optimiser / copy_rate),
        }


def counted(part):
    """Floating-point operations of the matrix products of `part`; they are seen in one thread only."""
    threads = pool.num_threads()
    pool.set_num_threads(1)
    with FlopCounterMode(display=False, custom_mapping=ONEDNN_FLOPS) as counter:
        part()
    pool.set_num_threads(threads)
    return counter.get_total_flops()


def linear_flops(x_shape, weight_shape, *args, out_shape=None, **kwargs):
    return 2 * x_shape[0] * x_shape[1] * weight_shape[0]


ONEDNN_FLOPS = {torch.ops.mkldnn._linear_pointwise: linear_flops} if layers.HAS_ONEDNN else {}


def matrix_product(device, hidden):
    """The layers' own product: on CPU it is oneDNN's, on some processors twice as fast as `torch.bmm`."""
    x = torch.randn(1, MATRIX_ROWS[device.type], hidden, device=device)
    w = torch.randn(1, hidden, hidden, device=device)
    return by_all_threads(device, lambda: layers.product(x, w))


def copy(device):
    source = torch.ones(COPIED_BYTES // 8 // at_once(device), device=device)  # read and written: twice 4 bytes
    targets = [torch.empty_like(source) for _ in range(at_once(device))]
    return lambda: pool.run([lambda target=target: target.copy_(source) for target in targets])


def by_all_threads(device, operation):
    return lambda: pool.run([operation] * at_once(device))


def at_once(device):
    return pool.num_threads() if device.type == "cpu" else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="paxmen_5a,aerojax_8v8")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="3 repetitions instead of 15")
    options = parser.parse_args()

    speed.prepare(options.device)
    device = torch.device(options.device)
    hidden = mars.Args.hidden_size
    product, copying = matrix_product(device, hidden), copy(device)
    products, copies = [], []
    tasks = [Task(name, options) for name in options.tasks.split(",")]
    for _ in range(3 if options.quick else 15):
        products.append(seconds(device, product, 20))
        copies.append(seconds(device, copying, 5))
        for task in tasks:
            task.measure()
    flop_rate = at_once(device) * 2 * MATRIX_ROWS[device.type] * hidden**2 / statistics.median(products)
    copy_rate = COPIED_BYTES / statistics.median(copies)

    machine = facts(options.device)
    print_facts(machine)
    print(f"matrix products {flop_rate / 1e9:,.0f} GFLOP/s, copies {copy_rate / 1e9:.1f} GB/s read and written")
    print(f"{'task':>14} {'part':>12} {'GFLOP':>8} {'MB':>8} {'floor ms':>9} {'measured ms':>12} {'ratio':>7}")
    rows = []
    for task in tasks:
        floors = task.floors(flop_rate, copy_rate)
        measured = {name: statistics.median(times) for name, times in task.times.items()}
        floors["iteration"] = tuple(map(sum, zip(floors["rollout"], floors["update"])))
        measured["iteration"] = measured["rollout"] + measured["update"]
        for name, (flops, moved, floor) in floors.items():
            rows.append({"task": task.args.env, "part": name, "flops": flops, "bytes": moved, "floor_s": floor,
                         "measured_s": measured[name], "ratio": measured[name] / floor})  # fmt: skip
            print(f"{task.args.env:>14} {name:>12} {flops / 1e9:8.2f} {moved / 1e6:8.1f} {floor * 1e3:9.1f} "
                  f"{measured[name] * 1e3:12.1f} {measured[name] / floor:7.2f}")  # fmt: skip
        steps = options.num_envs * task.args.rollout_length
        print(f"{task.args.env:>14}: {steps / measured['iteration']:,.0f} environment steps/s")
    settings = {"threads": pool.num_threads(), "num_envs": options.num_envs}
    write_json(options.json, {**machine, **settings, "flop_rate": flop_rate, "copy_rate": copy_rate}, rows)


if __name__ == "__main__":
    main()
