"""Numbers and vectors as the compiled loops have them: the twins of `vectors.py`, of triples of float32.

Beside them what torch has or tensors need no function for: `larger`, `smaller`, `clamp`, `cosine_sine`, `add`,
`subtract`, `scale` and `put`.
"""

import math

import numpy as np

from torch_mars.envs.loops import compiled

F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
ZERO, HALF, ONE, TWO = map(F, (0, 0.5, 1, 2))
UP, DOWN = (ZERO, ZERO, ONE), (ZERO, ZERO, -ONE)
TINIEST, TINY = F(1e-9), F(1e-6)
_PI, _TURNS_PER_RAD = F(math.pi), F(1 / (2 * math.pi))
_TURN_0 = F(6.28125)  # a full turn in two parts: whole multiples of the first are exact
_TURN_1 = F(2 * math.pi - 6.28125)
_SINE_3, _SINE_5, _SINE_7, _SINE_9, _SINE_11 = (F((-1) ** (n // 2) / math.factorial(n)) for n in range(3, 12, 2))
_COS_2, _COS_4, _COS_6, _COS_8, _COS_10, _COS_12 = (F((-1) ** (n // 2) / math.factorial(n)) for n in range(2, 13, 2))


@compiled
def larger(a, b):
    return a if a > b else b


@compiled
def smaller(a, b):
    return a if a < b else b


@compiled
def clamp(x, low, high):
    return smaller(larger(x, low), high)


@compiled
def cosine_sine(angle):
    """By the cosine and sine of half of it, which series give."""
    turns = np.floor(angle * _TURNS_PER_RAD + HALF)
    x = clamp(angle - turns * _TURN_0 - turns * _TURN_1, -_PI, _PI) * HALF
    x2 = x * x
    sine = x * (ONE + x2 * (_SINE_3 + x2 * (_SINE_5 + x2 * (_SINE_7 + x2 * (_SINE_9 + x2 * _SINE_11)))))
    cosine = ONE + x2 * (_COS_2 + x2 * (_COS_4 + x2 * (_COS_6 + x2 * (_COS_8 + x2 * (_COS_10 + x2 * _COS_12)))))
    return (cosine - sine) * (cosine + sine), TWO * sine * cosine


@compiled
def put(rows, i, vector):
    """Write a vector to row i of float32 [A, 3]."""
    rows[i, 0], rows[i, 1], rows[i, 2] = vector


@compiled
def split(rows, i):
    return rows[i, 0], rows[i, 1], rows[i, 2]


@compiled
def add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@compiled
def subtract(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@compiled
def scale(s, a):
    return s * a[0], s * a[1], s * a[2]


@compiled
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled
def length(a):
    return np.sqrt(dot(a, a))


@compiled
def unit(a):
    return scale(ONE / larger(length(a), TINIEST), a)


@compiled
def across(a, axis):
    return subtract(a, scale(dot(a, axis), axis))
