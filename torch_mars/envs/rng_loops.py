"""The numbers of `rng.py`, drawn one at a time: for the loops of one environment.

A key lives in an int64 array of shape [] (the State field `rng` of one environment) and every function here moves it
past what it draws. Drawing a number n times gives the n numbers, bit for bit, that `rng.py` draws at once.
"""

import numpy as np

from torch_mars.envs import rng
from torch_mars.envs.loops import compiled

_GOLDEN = np.uint64(rng.GOLDEN)
_MULTIPLIER_0, _MULTIPLIER_1 = (np.uint64(m) for m in rng.MULTIPLIERS)
_SHIFT_0, _SHIFT_1, _SHIFT_2 = (np.uint64(s) for s in rng.SHIFTS)
_BITS_OF_FLOAT = np.uint64(40)  # a float32 in [0, 1) holds the top 24 bits of a word
_HALF_WORD = np.uint64(32)


@compiled
def next_bits(key):
    """64 random bits, as an int64."""
    key[()] = key_behind(key[()], 1)
    return _mix(key[()])


@compiled
def key_behind(key, count):
    """The key, an int64, moved past `count` numbers."""
    return np.int64(np.uint64(key) + np.uint64(count) * _GOLDEN)


@compiled
def _mix(key):
    word = np.uint64(key)
    word = (word ^ (word >> _SHIFT_0)) * _MULTIPLIER_0
    word = (word ^ (word >> _SHIFT_1)) * _MULTIPLIER_1
    return np.int64(word ^ (word >> _SHIFT_2))


@compiled
def next_uniform(key):
    """A float32 in [0, 1), a multiple of 2^-24."""
    return _uniform(next_bits(key))


@compiled
def uniform_behind(key, number):
    """What `next_uniform` would draw from the key, an int64, as number 1, 2, ...: drawn alone, and in any order."""
    return _uniform(_mix(key_behind(key, number)))


@compiled
def _uniform(bits):
    return np.float32(np.uint64(bits) >> _BITS_OF_FLOAT) * np.float32(2.0**-24)


@compiled
def next_rank(key):
    """A float64 in (0, 1): the share of the normal distribution below what `rng.normal` draws."""
    return (np.float64(np.uint64(next_bits(key)) >> _HALF_WORD) + 0.5) * 2.0**-32


@compiled
def next_integer(key, high):
    """An int64 in 0 .. high - 1 (high < 2^31)."""
    return np.int64(((np.uint64(next_bits(key)) >> _HALF_WORD) * np.uint64(high)) >> _HALF_WORD)


@compiled
def next_permutation(key, count):
    """A uniformly random order of 0 .. count - 1: int64 [count], the numbers in the order of `count` random words."""
    words = np.empty(count, np.int64)
    order = np.empty(count, np.int64)
    for i in range(count):
        word = next_bits(key)
        place = i
        while place > 0 and words[place - 1] > word:  # insertion keeps equal words in the order drawn
            words[place] = words[place - 1]
            order[place] = order[place - 1]
            place -= 1
        words[place] = word
        order[place] = i
    return order


@compiled
def next_distinct(key, high, chosen):
    """Different int64 numbers in 0 .. high - 1, every ordered choice equally likely: into chosen [count]."""
    count = len(chosen)
    for k in range(count):
        chosen[k] = next_integer(key, high - k)
    for k in range(count - 2, -1, -1):
        for later in range(k + 1, count):
            chosen[later] += chosen[later] >= chosen[k]
