"""Tensors that never change, made once in a process: on a GPU, each that is made in a step is a kernel more."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGEST = 4096  # numbers in a tensor that is kept: larger ones take longer to compute with than to make
_KEPT: dict[tuple, Tensor] = {}


def kept(make: Callable[..., Tensor], *arguments: Any, device: torch.device) -> Tensor:
    """The constant `make(*arguments, device=device)`, from an earlier call if there was one."""
    if torch.compiler.is_compiling():  # which knows constants, and folds them
        return make(*arguments, device=device)
    name = (make, arguments, device)
    if name not in _KEPT:
        with torch.inference_mode(False):
            constant = make(*arguments, device=device)
        is_of_a_recording = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if is_of_a_recording or constant.numel() > LARGEST or type(constant) is not Tensor:
            return constant
        _KEPT[name] = constant
    return _KEPT[name]


def scalar(value: float, like: Tensor) -> Tensor:
    """A number as a tensor [] of the kind and device of `like`.

    For `torch.where`, which makes a tensor of a number in every call.
    """
    return kept(_scalar, value, like.dtype, device=like.device)


def _scalar(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)
