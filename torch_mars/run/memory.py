"""How much memory a training takes, before it takes it."""

import contextlib
from pathlib import Path
from typing import Any

import torch

from torch_mars import envs
from torch_mars.envs import pool
from torch_mars.run.cli import UsageError

PORTION = 10240  # samples of a minibatch that a CPU's thread takes at once: layers of 128 columns are 5 MB
LAYERS, LAYERS_OF_GRU = 5, 12  # numbers of a sample in a minibatch, in units of H: activations and their gradients
KEPT_WEIGHTS = 6  # networks, their gradients, two moments of Adam, the best and the last good ones
_MB = 2**20
LESS = "fewer --num-envs, --num-seeds or --rollout-length, or more --minibatches, need less"


def needed(args: Any) -> int:
    """About the bytes of a training with these settings, besides PyTorch itself: rollout, minibatch, environments.

    Measured on four environments with two threads, of policies with memory and without: 0.8 to 1.2 times the true peak
    where that is above 100 MB; on a GPU, without memory, of one seed and ten, the same of its own peak.
    """
    is_on_cpu = args.device.startswith("cpu")
    env = envs.make(args.env, 1, args.device, **args.env_options)
    P, T, B, N, H = args.num_seeds, args.rollout_length, args.num_envs, env.num_agents, args.hidden_size
    A = int(env.action_space.n) if hasattr(env.action_space, "n") else env.action_space.shape[0]
    is_independent = getattr(args, "independent", False)
    own_state = 0 if is_independent or env.state_is_obs else env.state_size
    final_state = N * env.observation_size if is_independent else env.state_size
    own_state += final_state * getattr(args, "bootstrap_truncation", False)
    of_step = 4 * (N * env.observation_size + own_state) + N * (A + 16) + 8 * (4 + len(env.metrics))
    # and what is computed of every step: values, advantages, orders, random numbers in three stages
    rollout = P * T * B * (of_step + 6 * 8 + 3 * 8 * N)
    rows = P * T * B // args.minibatches
    length = getattr(args, "sequence_length", 0)  # steps between two of the memories that are kept
    hidden, own_critics = (LAYERS_OF_GRU if length else LAYERS) * H, N if is_independent else 1
    of_agent = 2 * (N + env.observation_size) + hidden + 6 * A
    at_once = min(rows, pool.num_threads() * max(1, length, PORTION // N)) if is_on_cpu else rows
    minibatch = (5 if is_on_cpu else 4) * at_once * (N * of_agent + env.state_size + own_critics * hidden)
    minibatch += 4 * rows * (2 * N + 4)
    memories = 4 * P * B * (T // length + 1) * (N + own_critics) * H if length else 0
    actors = 1 if getattr(args, "shared_policy", True) else N
    between = (6 if length else 1) * H * H
    weights = actors * ((N + env.observation_size + A) * H + between) + env.state_size * H + between
    portions = max(1, rows * N // PORTION) if is_on_cpu else 1
    weights *= 4 * P * (KEPT_WEIGHTS + portions)  # each portion of a minibatch has a gradient of all of them
    state = sum(tensor.numel() * tensor.element_size() for tensor in env.state_dict().values())
    # of the training, of an evaluation, and of the last one, which has ten times the episodes
    environments = 4 * P * (B + 11 * args.eval_episodes) * (state + 4 * (N * env.observation_size + env.state_size))
    return rollout + minibatch + memories + weights + environments


def check(args: Any, processes: int = 1) -> None:
    """UsageError if the memory of the device cannot hold a training with these settings, or several on one machine."""
    free = available() if args.device.startswith("cpu") else available_on_gpu(args.device)
    need = needed(args) * (processes if args.device.startswith("cpu") else 1)
    if free is not None and 0.6 * need > free:  # by then also of the most that the estimate is too high
        raise UsageError(f"this training needs about {need // _MB:,} MB, and {free // _MB:,} MB are free; {LESS}")


def shortage(args: Any) -> str:
    """What is said where memory ran out all the same."""
    return f"there is not enough memory: this training needs about {needed(args) // _MB:,} MB; {LESS}"


def available_on_gpu(device: str) -> int | None:
    """Bytes that are free on a GPU; None for other devices."""
    return torch.cuda.mem_get_info(torch.device(device))[0] if device.startswith("cuda") else None


def available() -> int | None:
    """Bytes that this process may still take: of the machine, of its own limit, of its container. None if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError, ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if limit != resource.RLIM_INFINITY:
            found.append(max(0, limit - pages * resource.getpagesize()))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found, default=None)
