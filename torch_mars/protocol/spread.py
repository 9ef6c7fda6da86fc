"""How the numbers of many episodes are spread: quartiles, extremes, a histogram in characters, two groups of them.

NumPy only; nothing here knows what a run is.

**Two groups.** A mean misleads where half of the episodes go well and half fail, and none is like it. Skewness alone
does not make two groups, nor do a few strange episodes. So a division into lower and upper episodes counts if

1. each side has a tenth of them, and
2. it lies in a valley between the sides' medians a < b. Three windows of one width are compared: around a, around b,
   and between them, at the division or half way. Whatever has one peak, however skewed, has at least as many episodes
   in the middle window as in the emptier of the others: its density rises up to the peak and falls behind it, so the
   middle is above one of the two. The middle must have less than half of that, and so much less that chance is no
   explanation: by more than 3.5 standard deviations of a fair coin. An empty valley needs 13 episodes on either side.

Whole numbers and other values in steps would have valleys between any two of them: every value stands for the step
around it. A metric of two values, such as `won`, has none for that reason: its mean says everything.

Of several such divisions the one at the widest gap is told; of equal gaps, as between whole numbers, the one with the
largest p (1 - p) (b - a)^2 for a share p, which is what the distance of the two adds to the variance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SHARE = 0.1  # of the episodes, for a group
DEVIATIONS = 3.5  # of a fair coin: once in 4,000
SAME = 1e-4  # of the largest, or of their range: values that close are one, apart by rounding
INK = " .:-=+*#%@"  # none to most


@dataclass(frozen=True)
class Groups:
    """Two groups of episodes, the lower one first."""

    shares: tuple[float, float]  # of all episodes, together 1
    centres: tuple[float, float]  # their medians


def five_numbers(values: Sequence[float]) -> dict[str, float]:
    """The least, the quartiles (interpolated) and the most of n >= 1 numbers."""
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    with np.errstate(invalid="ignore"):  # between infinite ones
        return dict(zip(names, map(float, np.quantile(np.asarray(values, np.float64), (0, 0.25, 0.5, 0.75, 1)))))


def two_groups(values: Sequence[float]) -> Groups | None:
    """The two groups that one mean would hide; None where there are none, as said above."""
    exact = np.sort(np.asarray(values, np.float64))
    n = len(exact)
    if n == 0 or not np.isfinite(exact).all():
        return None
    ordered = exact / (np.abs(exact).max() or 1)
    if ordered[-1] - ordered[0] <= SAME:
        return None
    ordered, step = _in_steps(ordered)
    lower = np.arange(1, n)  # how many are below the division
    lower = lower[(np.diff(ordered) > 0) & (np.minimum(lower, n - lower) >= LEAST_SHARE * n)]
    a, b = ordered[(lower - 1) // 2], ordered[(lower + n) // 2]
    division = (ordered[lower - 1] + ordered[lower]) / 2
    below = _distribution(ordered, step)
    is_valley = np.zeros(len(lower), bool)
    for middle in (division, (a + b) / 2):
        half = np.minimum(middle - a, b - middle) / 2  # of a window's width
        at_a, between, at_b = (below(centre + half) - below(centre - half) for centre in (a, middle, b))
        hill = np.minimum(at_a, at_b)
        is_low = (between < hill / 2) & (hill - between > DEVIATIONS * np.sqrt(hill + between))
        is_valley |= is_low & (ordered[lower] > middle - half) & (ordered[lower - 1] < middle + half)
    if not is_valley.any():
        return None
    gap = np.where(is_valley, ordered[lower] - ordered[lower - 1], 0)
    is_widest = gap >= (1 - SAME) * gap.max()
    told = np.where(is_widest, lower * (n - lower) * (b - a) ** 2, 0).argmax()
    count = int(lower[told])
    return Groups((count / n, (n - count) / n), (float(exact[(count - 1) // 2]), float(exact[(count + n) // 2])))


def _in_steps(ordered: Array) -> tuple[Array, float]:
    """Ascending numbers with those made one that rounding keeps apart, and the usual step between neighbours.

    A step counts as often as the rarer of its ends: what a few odd values lie apart does not make it small.
    """
    firsts, reach = [0], SAME * (ordered[-1] - ordered[0])
    while (following := np.searchsorted(ordered, ordered[firsts[-1]] + reach, "right")) < len(ordered):
        firsts.append(following)
    values, counts = ordered[firsts], np.diff([*firsts, len(ordered)])
    steps, weights = np.diff(values), np.minimum(counts[1:], counts[:-1])
    order = np.argsort(steps)
    middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return np.repeat(values, counts), float(steps[order][middle])


def _distribution(ordered: Array, step: float) -> Callable[[Array], Array]:
    """How many of the numbers lie below x, each spread evenly over `step` around it: a function of x [k]."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])

    def integral(x: Array) -> Array:
        count = np.searchsorted(ordered, x)
        return count * x - sums[count]

    return lambda x: (integral(x + step / 2) - integral(x - step / 2)) / step


def histogram(values: Sequence[float], width: int) -> str:
    """`width` characters from the least to the most: blank where no number lies, the darker the more there are."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return ""
    finite = finite / (np.abs(finite).max() or 1)
    low, high = finite.min(), finite.max()
    if low == high:
        return INK[-1].center(width)
    places = ((finite - low) / (high - low) * width).astype(int).clip(max=width - 1)
    counts = np.bincount(places, minlength=width)
    return "".join(INK[-(-int(count) * (len(INK) - 1) // counts.max())] for count in counts)  # one alone is seen, too
