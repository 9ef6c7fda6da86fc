"""The statistics of the protocol: interquartile mean, stratified bootstrap, probability of improvement, permutation
test, Student's t.

After Agarwal et al. 2021 ("Deep Reinforcement Learning at the Edge of the Statistical Precipice") and Gorsane et al.
2022 ("Towards a Standardised Performance Evaluation Protocol for Cooperative MARL"). NumPy only; nothing here knows
what a run is.

Scores of one method are a list with one array per task: [seeds], or [seeds, points] for curves. Tasks need not have
equally many seeds. Of scores that are no numbers (nan) every statistic is nan.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Sequence[Array]
Groups = Sequence[Any] | None  # of each task its environment: environments count alike, however many tasks they have

TABLE_REPLICATES, CURVE_REPLICATES = 50_000, 2_000
PERMUTATIONS = 100_000  # at random,
EXACT_UP_TO = 200_000  # where there are more than these: ten seeds against ten are 184,756
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
    found = np.take(np.sort(scores, axis), middle, axis).mean(axis)
    return np.where(np.isnan(scores).any(axis), np.nan, found)  # sorted, nan would be the highest, and dropped


def overall_iqm(scores: Scores, groups: Groups = None) -> Array:
    """IQM over all tasks and seeds together: [], or [points] for curves. With groups, the mean of those of each."""
    return _grouped_iqm(scores, groups, 0)


def iqm_interval(
    scores: Scores, replicates: int = TABLE_REPLICATES, seed: int = 0, groups: Groups = None
) -> tuple[Array, Array]:
    """95% interval of `overall_iqm`: lower and upper ends, [] or [points]."""
    return bootstrap(lambda drawn: _grouped_iqm(drawn, groups, 1), [scores], replicates, seed)


def _grouped_iqm(scores: Scores, groups: Groups, axis: int) -> Array:
    return np.mean([iqm(np.concatenate(part, axis), axis) for part in _parts(scores, groups)], 0)


def _parts(scores: Sequence, groups: Groups) -> list[list]:
    """Per-task things, those of each group together."""
    names = [0] * len(scores) if groups is None else list(groups)
    return [[one for one, name in zip(scores, names, strict=True) if name == group] for group in dict.fromkeys(names)]


def mean_interval(scores: Array, replicates: int = CURVE_REPLICATES, seed: int = 0) -> tuple[Array, Array]:
    """95% interval of the mean over seeds of one task: [seeds, ...] -> lower and upper ends [...]."""
    return bootstrap(lambda drawn: drawn[0].mean(1), [[scores]], replicates, seed)


def probability_of_improvement(x: Scores, y: Scores, groups: Groups = None) -> float:
    """P(X > Y): per task the share of pairs of seeds with x > y, ties one half; mean over tasks (with groups, of their
    means)."""
    return float(_improvement([a[None] for a in x], [b[None] for b in y], groups)[0])


def improvement_interval(
    x: Scores, y: Scores, replicates: int = TABLE_REPLICATES, seed: int = 0, groups: Groups = None
) -> tuple[float, float]:
    """95% interval of P(X > Y), from seeds resampled on both sides."""
    pairs = max(len(a) * len(b) for a, b in zip(x, y, strict=True))
    low, high = bootstrap(lambda a, b: _improvement(a, b, groups), [x, y], replicates, seed, pairs)
    return float(low), float(high)


def _improvement(x: Sequence[Array], y: Sequence[Array], groups: Groups = None) -> Array:
    """Replicates at once: per task x [R, seeds of X] and y [R, seeds of Y] -> [R]."""
    shares = []
    for a, b in zip(x, y, strict=True):
        difference = np.sign(a[:, :, None] - b[:, None, :])
        shares.append((1 + difference.mean((1, 2))) / 2)
    return np.mean([np.mean(part, 0) for part in _parts(shares, groups)], 0)


def permutation_p(x: Scores, y: Scores, groups: Groups = None, seed: int = 0) -> float:
    """Two-sided p-value of the permutation test of "X and Y are the same": twice the smaller one-sided one, at most 1.

    The statistic is the difference of the means over seeds, averaged over tasks (with groups, over their averages);
    within each task, seeds change sides. Exact, by all exchanges, where over all tasks they are no more than 200,000,
    as those of ten seeds and ten are; else by 100,000 random ones, the observed one counted among them.
    """
    largest = np.max([np.abs(scores).max() for scores in (*x, *y)])  # nan where there is one
    if not math.isfinite(largest):
        return math.nan
    weights = _task_weights(len(x), groups)
    counts = [math.comb(len(a) + len(b), len(a)) for a, b in zip(x, y, strict=True)]
    is_exact = math.prod(counts) <= EXACT_UP_TO
    generator = np.random.default_rng(seed)
    differences = np.zeros(1)
    for a, b, weight in zip(x, y, weights):
        task = weight * _exchanged(a, b, None if is_exact else generator)
        differences = np.add.outer(differences, task).ravel() if is_exact else differences + task
    observed = sum(weight * (a.mean() - b.mean()) for a, b, weight in zip(x, y, weights))
    close = 1e-12 * largest  # sums in another order
    extra = 0 if is_exact else 1
    above = (np.count_nonzero(differences >= observed - close) + extra) / (len(differences) + extra)
    below = (np.count_nonzero(differences <= observed + close) + extra) / (len(differences) + extra)
    return min(1.0, 2 * min(above, below))


def _task_weights(tasks: int, groups: Groups) -> Array:
    """What each task counts: equal groups, equal tasks within a group; they sum to 1."""
    parts = _parts(list(range(tasks)), groups)
    weights = np.zeros(tasks)
    for part in parts:
        weights[part] = 1 / len(parts) / len(part)
    return weights


def _exchanged(a: Array, b: Array, generator: np.random.Generator | None) -> Array:
    """Differences of the means after exchanges of seeds between a and b: all of them, or PERMUTATIONS random ones."""
    both = np.concatenate([a, b])
    if generator is None:
        chosen = itertools.chain.from_iterable(itertools.combinations(range(len(both)), len(a)))
        sums = both[np.fromiter(chosen, np.int64).reshape(-1, len(a))].sum(1)
    else:
        orders = generator.random((PERMUTATIONS, len(both))).argsort(1)
        sums = both[orders[:, : len(a)]].sum(1)
    return sums / len(a) - (both.sum() - sums) / len(b)


def bootstrap(
    statistic: Callable[..., Array], samples: Sequence[Scores], replicates: int, seed: int, numbers: int = 0
) -> tuple[Array, Array]:
    """95% percentile interval by stratified bootstrap: seeds are drawn with replacement within each task.

    Args:
        statistic: takes one list per sample, of arrays [R, seeds(, points)] per task; returns [R] or [R, points].
        samples: the scores of one or more methods, which are resampled independently.
        replicates: how often.
        seed: of the resampling, so that a figure drawn twice is the same.
        numbers: that the statistic makes of one replicate, where they are more than the scores.

    Returns:
        Lower and upper ends; nan where a task has fewer than two seeds, whose spread nobody can know.
    """
    generator = np.random.default_rng(seed)
    size = max(numbers, sum(scores.size for sample in samples for scores in sample))
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
