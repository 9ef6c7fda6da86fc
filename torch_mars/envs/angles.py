"""Cosines, sines and directions by polynomials of single precision, and square roots.

Every library rounds these functions in its own way. Written as multiplications and additions they come out the same to
the last bit as tensors, on CPU and CUDA, and in loops: `angles_loops.py`.
"""

import torch
from torch import Tensor

# of sin(x) / x - 1 and cos(x) - 1 + x^2 / 2 in powers of x^2, |x| <= pi / 4: Cephes by S. Moshier, `sinf` and `cosf`
SINE = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
COSINE = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)
# of atan(x) / x in powers of x^2, 0 <= x <= 1: minimax, off by 1e-9; in single precision off by 1e-7
ARCTANGENT = (
    0.9999999807,
    -0.3333318108,
    0.199964472,
    -0.1424729619,
    0.1087830143,
    -0.08214455099,
    0.05503821182,
    -0.02849962584,
    0.009571607805,
    -0.001510174544,
)
QUARTERS = 0.6366197723675814  # quarter turns in a rad
QUARTER = (1.5703125, 4.837512969970703e-4, 7.549789948768648e-8)  # a quarter turn in three parts, the first two exact
HALF_TURN, QUARTER_TURN = 3.141592653589793, 1.5707963267948966
TINY = 1e-30  # keeps 0 / 0 out


def cosine_sine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Of angles in rad, a few turns at most; off by 1e-7. Of any other finite angle something within [-1, 1]."""
    quarters = (angle * QUARTERS).add_(0.5).floor_()
    x = (angle - quarters * QUARTER[0]).sub_(quarters * QUARTER[1]).sub_(quarters * QUARTER[2]).clamp_(-1, 1)
    x2 = x * x
    sine = (x2 * SINE[2]).add_(SINE[1]).mul_(x2).add_(SINE[0]).mul_(x * x2).add_(x)
    cosine = (x2 * COSINE[2]).add_(COSINE[1]).mul_(x2).add_(COSINE[0]).mul_(x2 * x2).add_(1 - 0.5 * x2)
    turned = quarters.long()
    turned = torch.stack([turned + 1, turned])  # the cosine is the sine a quarter turn on
    both = torch.where((turned & 1).bool(), cosine, sine)
    return both.mul_(1 - (turned & 2)).unbind()  # the second half of a turn is negative


def angle_of(y: Tensor, x: Tensor) -> Tensor:
    """The direction of (x, y) in [-pi, pi] rad, 0 for (0, 0); off by 4e-7."""
    across, along = y.abs(), x.abs()
    slope = torch.minimum(across, along).div_(torch.maximum(across, along).clamp_(min=TINY))
    slope2 = slope * slope
    series = slope2 * ARCTANGENT[-1]
    for coefficient in ARCTANGENT[-2:0:-1]:
        series.add_(coefficient).mul_(slope2)
    angle = series.add_(ARCTANGENT[0]).mul_(slope)
    angle = torch.where(across > along, QUARTER_TURN - angle, angle)
    angle = torch.where(x < 0, HALF_TURN - angle, angle)
    return torch.where(y < 0, -angle, angle)


def root(x: Tensor) -> Tensor:
    """The square root rounded to the nearest float32, as numpy's is; torch's of single precision may be the next."""
    return x.double().sqrt_().float()
