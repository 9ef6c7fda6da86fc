"""Stateless random numbers: SplitMix64 in int64 tensor arithmetic.

Every environment owns one 64-bit key. Number `k` (1, 2, ...) behind a key is `mix(key + k * GOLDEN)`, a pure function,
so environment i draws the same numbers whatever the batch size, on CPU and CUDA, eager, compiled or replayed from a
CUDA graph, and saving the key saves the randomness. A drawing function returns the numbers and the key moved past them;
carry on with the returned key and no number is ever used twice.

Two environments whose keys happened to lie close together would share numbers. Keys are 64 bits of hash, so B
environments that draw D numbers each overlap with probability about 2 B^2 D / 2^64: 1e-5 for 4,096 environments and
ten million numbers each.

Source: SplitMix64 by Guy Steele, Doug Lea and Christine Flood (OOPSLA 2014), constants of Sebastiano Vigna's
public-domain `splitmix64.c`. `rng_loops.py` draws the same numbers one at a time.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.constants import kept
from torch_mars.envs.options import whole

WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
PIECE = 1 << 22  # numbers that are drawn at once: some 200 MB


def signed(word: int) -> int:
    """The int64 with the same 64 bits as the unsigned `word`."""
    word %= WORD
    return word - WORD if word >= WORD >> 1 else word


_GOLDEN = signed(GOLDEN)
_MULTIPLIERS = tuple(signed(m) for m in MULTIPLIERS)


def mix_int(word: int) -> int:
    """SplitMix64's output function on one Python int (unsigned 64-bit in and out)."""
    word = whole(word, "word")
    for shift, multiplier in zip(SHIFTS, (*MULTIPLIERS, 1)):
        word = ((word ^ (word >> shift)) * multiplier) % WORD
    return word


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's `>>` on int64 copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's output function, elementwise on int64."""
    x = _mix_high_bits(x)
    return x ^ _shift_right(x, SHIFTS[2])


def _mix_high_bits(x: Tensor) -> Tensor:
    """`mix` without its last step, which leaves the highest 31 bits as they are."""
    x = (x ^ _shift_right(x, SHIFTS[0])) * _MULTIPLIERS[0]
    return (x ^ _shift_right(x, SHIFTS[1])) * _MULTIPLIERS[1]


def derive(seed: int, *words: int | str) -> int:
    """A new seed from a seed and a path of words, e.g. `derive(3, "evaluation", 17)`; unrelated to all others."""
    seed = mix_int((whole(seed) + GOLDEN) % WORD)
    for word in words:
        number = int.from_bytes(word.encode(), "little") if isinstance(word, str) else whole(word, "word")
        while True:  # 64 bits at a time, so that long words do not collide
            seed = mix_int((seed ^ mix_int((number + GOLDEN) % WORD)) + GOLDEN)
            number >>= 64
            if number in (0, -1):
                break
    return seed


def keys(seed: int | Sequence[int], count: int, device: torch.device | str = "cpu") -> Tensor:
    """int64 [count]: one key per environment.

    With a sequence of P seeds, each gives `count / P` consecutive keys: the same that it would give alone.

    Raises:
        ValueError: a seed that is no whole number, or seeds that cannot share the environments equally.
    """
    count = whole(count, "count")
    is_sequence = isinstance(seed, Sequence | np.ndarray | Tensor) and not isinstance(seed, str | bytes)
    seeds = [whole(s) for s in seed] if is_sequence and getattr(seed, "ndim", 1) else [whole(seed)]
    if not seeds or count % len(seeds):
        raise ValueError(f"{count} environments cannot be shared equally by {len(seeds)} seeds")
    starts = [signed(mix_int((s + GOLDEN) % WORD)) for s in seeds]
    starts = torch.tensor(starts, dtype=torch.int64, device=device)
    return mix(starts[:, None] + _multiples(count // len(seeds), device)).flatten()


def skipped(key: Tensor, count: int | Tensor) -> Tensor:
    """Keys moved past `count` numbers, as if they had been drawn."""
    return key + count * _GOLDEN if isinstance(count, Tensor) else key + signed(count * GOLDEN)


def bits(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` words of 64 random bits, int64 [..., count], behind keys [...]; and the keys moved past them."""
    behind, key = _behind(key, count)
    return mix(behind), key


def _behind(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What `mix` makes `count` numbers of, int64 [..., count]; and the keys moved past them."""
    return key.unsqueeze(-1) + kept(_multiples, count, device=key.device), skipped(key, int(count))


def _multiples(count: int, device: torch.device | str) -> Tensor:
    """GOLDEN times 1, 2, ..., count: int64 [count]."""
    # `| 0` changes nothing, but hides the multiplication from torch.compile, which would do it with wider integers
    return (torch.arange(1, count + 1, device=device) | 0) * _GOLDEN


def uniform(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` float32 numbers in [0, 1), multiples of 2^-24: [..., count]; and the keys moved past them."""
    behind, key = _behind(key, count)
    return uniform_of(_mix_high_bits(behind)), key


def uniform_of(words: Tensor) -> Tensor:
    """What `uniform` makes of words of random bits: of their 24 highest."""
    return _shift_right(words, 40) * kept(_float32, 2.0**-24, device=words.device)


def _float32(number: float, device: torch.device) -> Tensor:
    return torch.full((), number, dtype=torch.float32, device=device)


def normal(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` standard normal float32 numbers: [..., count] (by inversion, |z| < 6.4); and the keys moved past them."""
    words, key = bits(key, count)
    return _inverse_normal(words), key


def _inverse_normal(words: Tensor) -> Tensor:
    centred = (_shift_right(words, 32).double() + 0.5) * 2.0**-32  # in (0, 1), never at its ends: float32 would round
    return torch.special.ndtri(centred).float()


def integers(key: Tensor, count: int, high: int) -> tuple[Tensor, Tensor]:
    """`count` int64 numbers in 0 .. high - 1 (high < 2^31): [..., count]; and the keys moved past them."""
    words, key = bits(key, count)
    return integers_of(words, high), key


def integers_of(words: Tensor, high: int | Tensor) -> Tensor:
    """What `integers` makes of words of random bits."""
    if isinstance(high, int) and high > 1 and high & (high - 1) == 0:  # a power of two: the highest bits, in less work
        return _shift_right(words, 65 - high.bit_length())
    return (_shift_right(words, 32) * high) >> 32


def permutation(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A uniformly random order of 0 .. count - 1: int64 [..., count]; and the keys moved past the words used.

    Its first m entries are m distinct numbers drawn without replacement.
    """
    words, key = bits(key, count)
    return permutation_of(words), key


def permutation_of(words: Tensor) -> Tensor:
    """What `permutation` makes of words of random bits: their order along the last axis."""
    return words.argsort(dim=-1, stable=True)


def distinct(key: Tensor, count: int, high: int) -> tuple[Tensor, Tensor]:
    """`count` different int64 numbers in 0 .. high - 1, every ordered choice equally likely: [..., count]; moved keys.

    Cheaper than a permutation where count is small beside high (< 2^31).
    """
    words, key = bits(key, count)
    left = high - torch.arange(count, device=key.device)  # numbers to choose from: the last drawn has the fewest
    chosen = integers_of(words, left)  # which of the numbers not taken before, from 0
    for k in range(count - 2, -1, -1):  # ... so each is one further where one before it lies at or below it
        later = chosen[..., k + 1 :]
        later += later >= chosen[..., k : k + 1]
    return chosen, key


def in_pieces(draw: Callable[[Tensor, int], tuple[Tensor, Tensor]], key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`draw(key, count)` piece by piece: the same numbers, and little memory for the wide integers before them."""
    size, pieces = max(1, PIECE // key.numel()), []
    for first in range(0, count, size):
        piece, key = draw(key, min(size, count - first))
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1), key
