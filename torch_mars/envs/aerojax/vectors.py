"""Three-dimensional vectors as triples of tensors, one contiguous tensor per component; operations broadcast."""

import torch
from torch import Tensor

Vector = tuple[Tensor, Tensor, Tensor]


def split(x: Tensor) -> Vector:
    """[..., 3] -> its three components [...]."""
    return x.unbind(-1)


def join(a: Vector) -> Tensor:
    """Three components [...] -> [..., 3]."""
    return torch.stack(a, -1)


def add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def subtract(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def scale(s: Tensor | float, a: Vector) -> Vector:
    return s * a[0], s * a[1], s * a[2]


def dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def length(a: Vector) -> Tensor:
    return dot(a, a).sqrt()


def unit(a: Vector, least: float = 1e-9) -> Vector:
    """a / max(|a|, least)."""
    return scale(1 / length(a).clamp(min=least), a)


def across(a: Vector, axis: Vector) -> Vector:
    """The part of a across a unit axis."""
    return subtract(a, scale(dot(a, axis), axis))


def where(condition: Tensor, a: Vector, b: Vector) -> Vector:
    return tuple(torch.where(condition, x, y) for x, y in zip(a, b))


def rows(a: Vector, part: slice) -> Vector:
    """The aircraft of `part`, of components [B, A]."""
    return a[0][:, part], a[1][:, part], a[2][:, part]


def pick(a: Vector, index: Tensor) -> Vector:
    """Aircraft `index` [B, I] of components [B, J]."""
    return a[0].gather(1, index), a[1].gather(1, index), a[2].gather(1, index)
