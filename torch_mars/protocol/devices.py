"""The devices of this machine that trainings are given, one process to a device at a time."""

import argparse
import os
from dataclasses import dataclass, field
from typing import Any

import torch

from torch_mars.run.cli import UsageError, check_device, resolve_device, shown


@dataclass(frozen=True)
class Device:
    """Where a training runs.

    Attributes:
        name: for the screen.
        device: what --device of the lesson is.
        environment: variables of its process.
    """

    name: str
    device: str
    environment: dict[str, str] = field(default_factory=dict)


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="TEXT", help="auto, cpu, cuda, cuda:0, ... (default auto)")
    parser.add_argument(
        "--devices", metavar="LIST", help="GPUs of this machine that share the work, such as 0,1,3, or all"
    )


def chosen(args: Any) -> list[Device]:
    """What --device and --devices say.

    Raises:
        UsageError: both do, or there is no such device.
    """
    if args.devices is None:
        name = resolve_device(args.device or "auto")
        check_device(name)
        return [Device(name, name)]
    if args.device is not None:
        raise UsageError(f"--device is {shown(args.device)} and --devices {shown(args.devices)}; give one of them")
    count = torch.cuda.device_count()
    if args.devices == "all" and count:
        numbers = list(range(count))
    else:
        words = [word.strip() for word in args.devices.split(",")]
        numbers = [int(word) if word.isdecimal() else -1 for word in words]
        if min(numbers) < 0 or max(numbers) >= count or len(set(numbers)) < len(numbers):
            allowed = f"all, or each at most once 0 to {count - 1}" if count else "none, as this PyTorch sees no GPU"
            raise UsageError(f"--devices is {shown(args.devices)}; allowed are {allowed}")
    # numbers count what this process may see
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return [Device(f"GPU {number}", "cuda", {"CUDA_VISIBLE_DEVICES": names[number]}) for number in numbers]
