"""What is given to an environment from outside: devices by name, and States as arrays of anybody's making."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.options import allowed, shown


def allowed_actions(space: gymnasium.spaces.Discrete | gymnasium.spaces.Box) -> str:
    """The actions of a space in words, for the end of an error message."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return f"whole numbers from 0 to {space.n - 1}"
    low, high = (f"{bound.flat[0]:g}" if np.ptp(bound) == 0 else str(bound) for bound in (space.low, space.high))
    return f"finite arrays of shape {list(space.shape)} from {low} to {high}"


def device_named(device: Any) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: this machine has no such device, or it is of a kind on which the rules cannot be computed.
    """
    try:
        found = torch.device(device) if isinstance(device, str | torch.device) else None
        if found is not None and (reason := unfit(found)):
            raise ValueError(f"device is {shown(str(device))}: {reason}")
        if found is not None and (found.type != "cpu" or not found.index):
            torch.empty(0, device=found)  # whether it is there
            return found
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):  # as each kind of device says it is not
        pass
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    raise ValueError(f"device is {shown(device)}; available here: {', '.join(here)}")


def unfit(device: torch.device) -> str | None:
    """Why a device of a kind that PyTorch knows is refused, and what to use instead; None where it is not."""
    if device.type in ("cpu", "cuda", "meta"):  # meta: shapes without numbers
        return None
    if device.type == "mps":
        return (
            "PyTorch has no float64 on Apple's GPUs, and normal random numbers, angles and some sums are computed in "
            "it, so that they come out alike everywhere; use cpu, where environments run as compiled loops"
        )
    return "a kind of device that torch_mars is not written for or tested on; use cpu, or an NVIDIA GPU as cuda"


def tensors_of(fields: Any, current: Mapping[str, Any]) -> dict[str, Tensor]:
    """Array-likes by State field as tensors.

    Raises:
        ValueError: one of them is no array of numbers, or `current` (tensors or arrays) lacks the field or shape.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"a State is {shown(fields)}; it must be a dict of arrays by field name")
    tensors = {}
    for name, value in fields.items():
        if name not in current:
            raise ValueError(f"unknown State field {shown(name)}; {allowed(name, current)}")
        tensors[name] = tensor = _tensor_of(name, value)
        wanted = list(current[name].shape)
        if list(tensor.shape) != wanted:
            raise ValueError(f"State field {name!r} has shape {list(tensor.shape)}; it must be {wanted}")
    return tensors


def _tensor_of(name: str, value: Any) -> Tensor:
    """A tensor of bools, int64 or floats."""
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.from_numpy(_array_of(value))
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise TypeError
        is_whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
        if tensor.dtype == torch.uint64 and (tensor.view(torch.int64) < 0).any():
            raise OverflowError
        return tensor.long() if is_whole else tensor
    except Exception:  # whatever a stranger's array raises
        raise ValueError(f"State field {name!r} is {shown(value)}; it must be an array of numbers") from None


def _array_of(value: Any) -> np.ndarray:
    """A copy, as torch can take it: of the machine's byte order, and no wider than 64 bits."""
    array = np.array(value, order="C")
    if array.dtype.kind not in "biuf":
        raise TypeError
    kind = np.float64 if array.dtype.kind == "f" and array.itemsize > 8 else array.dtype.newbyteorder("=")
    return array.astype(kind)


def as_kind(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of a State field in its dtype.

    Raises:
        ValueError: one of them cannot be: a fraction or something too large among whole numbers, 2 among bools.
    """
    if dtype.is_floating_point or tensor.dtype == dtype:
        return tensor.to(dtype)
    if dtype == torch.bool:
        is_possible, wanted = (tensor == 0) | (tensor == 1), "true or false"
    else:
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        is_possible, wanted = torch.ones_like(tensor, dtype=torch.bool), f"a whole number from {low} to {high}"
        if tensor.is_floating_point():
            wide = tensor.double()
            is_possible = (wide == wide.floor()) & (wide >= low) & (wide < float(high + 1))
        elif tensor.dtype != torch.bool:
            is_possible = (tensor >= low) & (tensor <= high)
    if not is_possible.all():
        raise ValueError(f"State field {name!r} holds {tensor[~is_possible][0].item()}; it must be {wanted}")
    return tensor.to(dtype)


def check_values(state: Any, given: Collection[str], **bounds: tuple[float, float]) -> None:
    """ValueError unless all floats of a State are finite, and the fields in `bounds` between their two ends.

    Args:
        given: the fields to look at.
        bounds: lowest and highest value by field, both allowed.
    """
    for name in given:
        values, (low, high) = getattr(state, name), bounds.get(name, (-math.inf, math.inf))
        if name not in bounds and not values.is_floating_point():
            continue
        is_possible = (values >= low) & (values <= high) & values.isfinite()
        if not is_possible.all():
            wanted = f"between {low:g} and {high:g}" if math.isfinite(high) else f"{low:g} or more"
            wanted = wanted if math.isfinite(low) else "finite"
            raise ValueError(f"{name} holds {_in_few_digits(values[~is_possible][0])}; it must be {wanted}")


def _in_few_digits(value: Tensor) -> str:
    """Of a number, as few as tell it from its neighbours."""
    number = value.numpy(force=True)[()]
    if isinstance(number, np.integer):
        return str(number)
    short = f"{number:g}"
    return short if number == type(number)(float(short)) else str(number)
