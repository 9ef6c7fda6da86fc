"""The protocol's statistics: worked values, scipy, and intervals that cover what they should."""

import numpy as np
import pytest

from torch_mars.protocol import intervals

# worked values of the specification: two tasks, five seeds
X = [np.array([0.9, 0.8, 0.7, 0.2, 0.5]), np.array([0.4, 0.45, 0.3, 0.6, 0.95])]
Y = [np.array([0.85, 0.6, 0.7, 0.1, 0.4]), np.array([0.5, 0.3, 0.2, 0.6, 0.55])]


def test_worked_values():
    assert intervals.overall_iqm(X) == pytest.approx(0.575, abs=1e-12)
    assert intervals.overall_iqm(Y) == pytest.approx(0.491666667, abs=1e-9)
    assert intervals.probability_of_improvement(X, Y) == pytest.approx(0.61, abs=1e-12)
    assert intervals.probability_of_improvement(Y, X) == pytest.approx(0.39, abs=1e-12)


def test_iqm_is_the_25_percent_trimmed_mean_of_any_size():
    trim_mean = pytest.importorskip("scipy.stats").trim_mean
    generator = np.random.default_rng(0)
    for n in range(1, 30):
        scores = generator.normal(size=(3, n))
        assert intervals.iqm(scores) == pytest.approx(trim_mean(scores, 0.25, axis=1)), n
        assert intervals.iqm(scores.T, 0) == pytest.approx(intervals.iqm(scores)), n


def test_probability_of_improvement_is_the_mann_whitney_share():
    mannwhitneyu = pytest.importorskip("scipy.stats").mannwhitneyu
    generator = np.random.default_rng(1)
    x = [generator.integers(0, 5, 7).astype(float) for _ in range(4)]  # with ties
    y = [generator.integers(0, 5, 9).astype(float) for _ in range(4)]
    expected = np.mean([mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(x, y)])
    assert intervals.probability_of_improvement(x, y) == pytest.approx(expected)


def test_intervals_are_those_of_rliable():
    """rliable 1.2.0 on the worked values, random state 0 (50,000 and 20,000 replicates); they move in steps of 0.01."""
    assert intervals.iqm_interval(X) == pytest.approx((0.4, 0.775), abs=0.012)
    assert intervals.iqm_interval(Y) == pytest.approx((0.31666667, 0.61666667), abs=0.012)
    assert intervals.improvement_interval(X, Y) == pytest.approx((0.33, 0.85), abs=0.012)


def test_seeds_are_resampled_within_their_task():
    """Tasks far apart but without spread between seeds leave nothing to doubt."""
    scores = [np.full(5, 0.1), np.full(5, 0.9), np.full(5, 0.5)]
    assert intervals.iqm_interval(scores, 200) == (pytest.approx(0.5), pytest.approx(0.5))


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    """Percentile intervals of 20 normal seeds cover the true mean in about 93 of 100 cases."""
    generator = np.random.default_rng(2)
    low, high = intervals.mean_interval(generator.normal(size=(20, 600)), 1000)  # 600 independent points of a curve
    assert 0.90 < np.mean((low < 0) & (0 < high)) < 0.96


def test_the_interval_of_a_mean_is_not_that_of_a_median():
    """One seed of five scores 10: it is drawn at most three times in 97.5% of all cases, and not at all in 33%."""
    assert intervals.mean_interval(np.array([0.0, 0, 0, 0, 10]), 5000) == (0, 6)


def test_curves_are_their_points():
    generator = np.random.default_rng(3)
    curves = [generator.normal(size=(4, 6)), generator.normal(size=(7, 6))]  # tasks with 4 and 7 seeds
    whole = intervals.overall_iqm(curves)
    assert whole == pytest.approx([intervals.overall_iqm([c[:, i] for c in curves]) for i in range(6)])
    low, high = intervals.iqm_interval(curves, 500)
    assert low.shape == (6,) and (low < whole).all() and (whole < high).all()


def test_one_seed_has_no_interval():
    assert np.isnan(intervals.iqm_interval([np.array([0.5]), np.array([0.1, 0.2])], 10)).all()
    assert np.isnan(intervals.mean_interval(np.zeros((1, 3)), 10)).all()


def test_of_what_is_no_number_nothing_is_said():
    """Sorted, nan would be the highest score; compared, it is never the greater one."""
    x, y = np.array([1.0, 2.0, np.nan, 4.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert np.isnan(intervals.overall_iqm([x]))
    assert np.isnan(intervals.probability_of_improvement([x], [y]))
    assert np.isnan(intervals.permutation_p([x], [y])) and np.isnan(intervals.permutation_p([y], [x]))


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1.0, 1e5), (1e-13, 0.0), (1e9, -1e9)])
def test_p_is_the_same_in_any_unit(scale, shift):
    x, tied = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.2, 0.3, 0.3, 0.6, 0.1])
    for other, expected in ((tied, 1.0), (tied + 1, 2 / 252)):
        p = intervals.permutation_p([x * scale + shift], [other * scale + shift])
        assert p == pytest.approx(expected)


def test_of_random_exchanges_the_observed_one_counts_too(monkeypatch):
    """So that p is never 0."""
    monkeypatch.setattr(intervals, "EXACT_UP_TO", 0)
    monkeypatch.setattr(intervals, "PERMUTATIONS", 99)
    assert intervals.permutation_p([np.arange(10.0) + 100], [np.arange(10.0)]) == pytest.approx(2 / 100)


def test_an_interval_drawn_twice_is_the_same():
    assert intervals.iqm_interval(X, 300) == intervals.iqm_interval(X, 300)
    assert intervals.iqm_interval(X, 300) != intervals.iqm_interval(X, 300, seed=1)


def test_chunks_of_replicates_make_up_the_whole(monkeypatch):
    seen = []

    def count(drawn):
        seen.append(len(drawn[0]))
        return drawn[0].mean(1)

    monkeypatch.setattr(intervals, "_CHUNK", 64)
    intervals.bootstrap(count, [X], 100, 0)
    assert sum(seen) == 100 and max(seen) == 6
    seen.clear()
    intervals.bootstrap(count, [X], 100, 0, numbers=32)  # a statistic that makes more of a replicate than it has scores
    assert sum(seen) == 100 and max(seen) == 2


@pytest.mark.parametrize("n, last", [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (15, 3), (122, 25)])
def test_the_final_score_is_the_last_fifth_rounded_up(n, last):
    assert intervals.final_score(np.arange(n)) == pytest.approx(np.arange(n)[n - last :].mean())


def test_min_max_normalisation():
    assert intervals.normalise(np.array([-2.0, 0.0, 2.0]), -2, 2).tolist() == [0, 0.5, 1]
    assert intervals.normalise(np.array([3.0, 3.0]), 3, 3).tolist() == [0, 0]
