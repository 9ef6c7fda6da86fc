"""The cosines, sines and directions of `angles.py`, the same to the last bit, one at a time: for loops."""

import numpy as np

from torch_mars.envs import angles
from torch_mars.envs.loops import compiled

F = np.float32
_ZERO, _HALF, _ONE = map(F, (0, 0.5, 1))
_HALF_TURN, _QUARTER_TURN = map(F, (angles.HALF_TURN, angles.QUARTER_TURN))
_QUARTERS, _TINY = map(F, (angles.QUARTERS, angles.TINY))
_QUARTER_0, _QUARTER_1, _QUARTER_2 = map(F, angles.QUARTER)
_SINE_0, _SINE_1, _SINE_2 = map(F, angles.SINE)
_COSINE_0, _COSINE_1, _COSINE_2 = map(F, angles.COSINE)
_ARCTANGENT = np.array(angles.ARCTANGENT, F)


@compiled
def cosine_sine(angle):
    """Of an angle in rad: float32 each."""
    quarters = np.floor(angle * _QUARTERS + _HALF)
    x = min(max(angle - quarters * _QUARTER_0 - quarters * _QUARTER_1 - quarters * _QUARTER_2, -_ONE), _ONE)
    x2 = x * x
    sine = x + x * x2 * (_SINE_0 + x2 * (_SINE_1 + x2 * _SINE_2))
    cosine = _ONE - _HALF * x2 + x2 * x2 * (_COSINE_0 + x2 * (_COSINE_1 + x2 * _COSINE_2))
    turned = int(quarters) & 3
    if turned & 1:
        cosine, sine = sine, cosine
    return -cosine if turned == 1 or turned == 2 else cosine, -sine if turned >= 2 else sine


@compiled
def angle_of(y, x):
    """The direction of (x, y) in [-pi, pi] rad: float32."""
    across, along = abs(y), abs(x)
    slope = min(across, along) / max(max(across, along), _TINY)
    slope2 = slope * slope
    series = _ARCTANGENT[-1]
    for k in range(len(_ARCTANGENT) - 2, -1, -1):
        series = series * slope2 + _ARCTANGENT[k]
    angle = slope * series
    if across > along:
        angle = _QUARTER_TURN - angle
    if x < _ZERO:
        angle = _HALF_TURN - angle
    return -angle if y < _ZERO else angle
