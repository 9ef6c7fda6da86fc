"""Three-dimensional vectors as tensors [3, ...], components first: numbers [...] scale them as they are.

Each operation is as few kernels as can be: on a GPU a step is as slow as it has many.
"""

import torch
from torch import Tensor

from torch_mars.envs.constants import scalar

Vector = Tensor  # [3, ...]


def split(x: Tensor) -> Vector:
    """[..., 3] -> [3, ...], the same memory."""
    return x.movedim(-1, 0)


def join(a: Vector) -> Tensor:
    """[3, ...] -> [..., 3], contiguous."""
    return a.movedim(0, -1).contiguous()


def fixed(components: tuple[float, float, float], like: Tensor) -> Vector:
    """The same vector everywhere: [3, 1, 1]."""
    return torch.stack([scalar(x, like) for x in components]).view(3, 1, 1)


def dot(a: Vector, b: Vector) -> Tensor:
    return (a * b).sum(0)


def cross(a: Vector, b: Vector) -> Vector:
    return torch.linalg.cross(a, b, dim=0)


def length(a: Vector) -> Tensor:
    return torch.linalg.vector_norm(a, dim=0)


def unit(a: Vector, least: float = 1e-9) -> Vector:
    """a / max(|a|, least)."""
    return a / length(a).clamp(min=least)


def less(a: Vector, s: Tensor, b: Vector) -> Vector:
    """a - s b"""
    return torch.addcmul(a, s, b, value=-1)


def across(a: Vector, axis: Vector) -> Vector:
    """The part of a across a unit axis."""
    return less(a, dot(a, axis), axis)


def along(a: Vector, axes: Tensor) -> Tensor:
    """How far vectors reach along axes, [3, B, I, J].

    Args:
        a: [3, B, I, J] or [3, B, 1, J].
        axes: three of each observer, [3, 3, B, I].
    """
    x, y, z = axes[..., None].unbind(1)
    return torch.addcmul(torch.addcmul(x * a[0], y, a[1]), z, a[2])
