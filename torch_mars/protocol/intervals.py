"""The statistics of the protocol: interquartile mean, stratified bootstrap, probability of improvement, Student's t.

After Agarwal et al. 2021 ("Deep Reinforcement Learning at the Edge of the Statistical Precipice") and Gorsane et al.
2022 ("Towards a Standardised Performance Evaluation Protocol for Cooperative MARL"). NumPy only; nothing here knows
what a run is.

Scores of one method are a list with one array per task: [seeds], or [seeds, points] for curves. Tasks need not have
equally many seeds.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Sequence[Array]

TABLE_REPLICATES, CURVE_REPLICATES = 50_000, 2_000
CONFIDENCE = 0.95  # of Student's t
LAST_SHARE = 0.2  # of the evaluations count for a run's final score
_CHUNK = 2**22  # numbers resampled at a time: 32 MiB


def final_score(returns: Sequence[float] | Array) -> float:
    """Mean of the last fifth (rounded up) of a run's evaluation returns."""
    last = math.ceil(len(returns) / 5)  # 0.2 n, without its rounding error
    return float(np.mean(returns[-last:]))


def iqm(scores: Array, axis: int = -1) -> Array:
    """Interquartile mean along an axis of n: floor(n / 4) values are dropped at each end.

    [..., n, ...] -> [..., ...]
    """
    n = scores.shape[axis]
    middle = np.arange(n // 4, n - n // 4)
    return np.take(np.sort(scores, axis), middle, axis).mean(axis)


def overall_iqm(scores: Scores) -> Array:
    """IQM over all tasks and seeds together: [], or [points] for curves."""
    return iqm(np.concatenate(list(scores)), 0)


def iqm_interval(scores: Scores, replicates: int = TABLE_REPLICATES, seed: int = 0) -> tuple[Array, Array]:
    """95% interval of `overall_iqm`: lower and upper ends, [] or [points]."""
    return bootstrap(lambda drawn: iqm(np.concatenate(drawn, 1), 1), [scores], replicates, seed)


def mean_interval(scores: Array, replicates: int = CURVE_REPLICATES, seed: int = 0) -> tuple[Array, Array]:
    """95% interval of the mean over seeds of one task: [seeds, ...] -> lower and upper ends [...]."""
    return bootstrap(lambda drawn: drawn[0].mean(1), [[scores]], replicates, seed)


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """P(X > Y): per task the share of pairs of seeds with x > y, ties one half; mean over tasks."""
    return float(_improvement([a[None] for a in x], [b[None] for b in y])[0])


def improvement_interval(
    x: Scores, y: Scores, replicates: int = TABLE_REPLICATES, seed: int = 0
) -> tuple[float, float]:
    """95% interval of P(X > Y), from seeds resampled on both sides."""
    low, high = bootstrap(_improvement, [x, y], replicates, seed)
    return float(low), float(high)


def _improvement(x: Sequence[Array], y: Sequence[Array]) -> Array:
    """Replicates at once: per task x [R, seeds of X] and y [R, seeds of Y] -> [R]."""
    shares = []
    for a, b in zip(x, y, strict=True):
        difference = a[:, :, None] - b[:, None, :]
        shares.append(((difference > 0) + 0.5 * (difference == 0)).mean((1, 2)))
    return np.mean(shares, 0)


def bootstrap(
    statistic: Callable[..., Array], samples: Sequence[Scores], replicates: int, seed: int
) -> tuple[Array, Array]:
    """95% percentile interval by stratified bootstrap: seeds are drawn with replacement within each task.

    Args:
        statistic: takes one list per sample, of arrays [R, seeds(, points)] per task; returns [R] or [R, points].
        samples: the scores of one or more methods, which are resampled independently.
        replicates: how often.
        seed: of the resampling, so that a figure drawn twice is the same.

    Returns:
        Lower and upper ends; nan where a task has fewer than two seeds, whose spread nobody can know.
    """
    generator = np.random.default_rng(seed)
    size = sum(scores.size for sample in samples for scores in sample)
    values, left = [], replicates
    while left:
        count = min(left, max(1, _CHUNK // size))
        left -= count
        values.append(statistic(*([_resampled(scores, count, generator) for scores in sample] for sample in samples)))
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975], axis=0)
    if any(len(scores) < 2 for sample in samples for scores in sample):
        return np.full_like(low, np.nan), np.full_like(high, np.nan)
    return low, high


def _resampled(scores: Array, count: int, generator: np.random.Generator) -> Array:
    """[seeds, ...] -> [count, seeds, ...]"""
    return scores[generator.integers(len(scores), size=(count, len(scores)))]


def normalise(scores: Array, low: float, high: float) -> Array:
    """Min-max normalised: 0 at `low`, 1 at `high`; all 0 where the two are equal."""
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


# ---- Student's t ----


def mean_and_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Mean of n numbers and half the width of its Student t interval (nan for n = 1)."""
    n = len(values)
    if n == 1:
        return float(values[0]), math.nan
    return float(np.mean(values)), student_t(n - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(n)


@functools.cache
def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that a Student t variable exceeds in absolute value with probability 1 - confidence.

    With t = sqrt(v) tan(a) the density of v degrees of freedom is proportional to cos(a)^(v - 1), which is summed up
    numerically; right to five digits for v up to a million.
    """
    angle = np.linspace(0, math.pi / 2, 2**20 + 1)
    middle = (angle[1:] + angle[:-1]) / 2
    mass = np.concatenate([[0], np.cumsum(np.cos(middle) ** (freedom - 1))])
    return math.sqrt(freedom) * math.tan(np.interp(confidence * mass[-1], mass, angle))
