"""How episodes are spread: made distributions with one group and with two, and what must not look like two."""

import numpy as np
import pytest

from torch_mars.protocol import spread

ONE_GROUP = {
    "uniform": lambda r, n: r.uniform(0, 1, n),
    "normal": lambda r, n: r.normal(0, 1, n),
    "exponential": lambda r, n: r.exponential(1, n),
    "very skewed": lambda r, n: r.lognormal(0, 2, n),
    "without a mean": lambda r, n: r.standard_cauchy(n),
    "mostly zero": lambda r, n: r.exponential(1, n) * (r.random(n) < 0.3),
    "won half": lambda r, n: r.integers(0, 2, n),
    "won a fifth": lambda r, n: (r.random(n) < 0.2) * 1.0,
    "two values": lambda r, n: np.where(r.random(n) < 0.3, -8.225, 4.5),
    "few kills": lambda r, n: r.poisson(0.5, n),
    "many kills": lambda r, n: r.poisson(20, n),
    "thirds": lambda r, n: r.binomial(3, 0.5, n) / 3,
    "even, seldom odd": lambda r, n: np.where(r.random(n) < 0.02, 5, r.choice([0, 2, 4], n, p=[0.4, 0.35, 0.25])),
    "strange ones, seldom": lambda r, n: np.where(r.random(n) < 0.03, 1000, r.normal(0, 1, n)),
    "constant": lambda r, n: np.full(n, -2.07499933),
    "constant but for rounding": lambda r, n: -2.075 + 1e-6 * r.choice([-1, 0, 1], n, p=[0.5, 0.1, 0.4]),
    "close together": lambda r, n: r.normal(0, 1, n) + 2 * r.integers(0, 2, n),  # a mixture with one peak
}  # fmt: skip
TWO_GROUPS = {  # with the share and the centre of the lower group, and the centre of the upper one
    "apart": (lambda r, n: r.normal(0, 1, n) + 8 * (r.random(n) < 0.5), 0.5, 0, 8),
    "a fifth does well": (lambda r, n: r.normal(0, 1, n) + 10 * (r.random(n) < 0.2), 0.8, 0, 10),
    "a fifth fails": (lambda r, n: r.normal(0, 1, n) - 10 * (r.random(n) < 0.2), 0.2, -10, 0),
    "none or much": (lambda r, n: np.where(r.random(n) < 0.7, 0, r.normal(50, 5, n)), 0.7, 0, 50),
    "0 or 2 of 2": (lambda r, n: r.choice([0, 1, 2], n, p=[0.46, 0.08, 0.46]), 0.5, 0, 2),
    "and a few strange ones": (
        lambda r, n: np.where(r.random(n) < 0.02, 1e4, r.normal(0, 1, n) + 9 * (r.random(n) < 0.5)), 0.5, 0, 9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_GROUP)
@pytest.mark.parametrize("n", [1, 2, 20, 320, 3200])
def test_one_group_is_not_taken_for_two(name, n):
    for seed in range(10):
        values = ONE_GROUP[name](np.random.default_rng(seed), n)
        assert spread.two_groups(values) is None, f"seed {seed}"


@pytest.mark.parametrize("name", TWO_GROUPS)
@pytest.mark.parametrize("n", [320, 3200])
def test_two_groups_are_found_with_their_shares_and_centres(name, n):
    draw, share, low, high = TWO_GROUPS[name]
    for seed in range(10):
        values = draw(np.random.default_rng(seed), n)
        groups = spread.two_groups(np.random.default_rng(seed).permutation(values))
        assert groups is not None, f"seed {seed}"
        assert sum(groups.shares) == pytest.approx(1)
        assert groups.shares[0] == pytest.approx(share, abs=0.1)
        assert groups.centres == pytest.approx((low, high), abs=0.1 * (high - low))


def test_what_paxmen_s_team_does():
    """Two values that are far apart beside a wide group: the division is the one that says most."""
    values = [-8.225] * 58 + [-2.075] * 203 + list(np.linspace(29, 91, 59))
    groups = spread.two_groups(values)
    assert groups.shares == pytest.approx((261 / 320, 59 / 320))
    assert groups.centres == pytest.approx((-2.075, 60), abs=0.1)
    assert spread.two_groups(np.array(values) * 1e30) and spread.two_groups(np.array(values) * 1e-30)


def test_few_episodes_say_nothing():
    """An empty valley needs 13 on either side."""
    assert spread.two_groups([0.0, 0.1] * 6 + [9.0, 9.1] * 50) is None
    assert spread.two_groups([0.0, 0.1] * 7 + [9.0, 9.1] * 50) is not None


@pytest.mark.parametrize("between, are_two", [(300, True), (700, False)])
def test_a_valley_has_less_than_half_of_the_hills_beside_it(between, are_two):
    """1,000 evenly over [0, 1], as many over [2, 3]; what lies between is no matter of chance."""
    ends = [(0, 1, 1000), (1, 2, between), (2, 3, 1000)]
    values = np.concatenate([low + (high - low) * (np.arange(n) + 0.5) / n for low, high, n in ends])
    assert (spread.two_groups(values) is not None) is are_two


def test_a_tenth_is_a_group():
    upper = list(np.linspace(99, 101, 100))
    assert spread.two_groups([*np.linspace(-1, 1, 890), *upper]) is not None
    assert spread.two_groups([*np.linspace(-1, 1, 910), *upper]) is None


@pytest.mark.parametrize("values", [[], [float("nan")] * 50, [1.0] * 50 + [float("inf")] * 50])
def test_no_numbers_have_no_groups(values):
    assert spread.two_groups(values) is None


def test_five_numbers():
    assert list(spread.five_numbers([4.0, 1.0, 2.0, 3.0, 10.0]).values()) == [1, 2, 3, 4, 10]
    assert spread.five_numbers([1.0, 2.0])["median"] == 1.5 and set(spread.five_numbers([7]).values()) == {7.0}


def test_a_histogram_counts_from_the_least_to_the_most():
    counts = [1, 0, 9, 18, 0, 3]
    values = [place + 0.5 for place, count in enumerate(counts) for _ in range(count)]
    shown = spread.histogram([*values, 0.0, 6.0], 6)  # the ends widen the range to 0 .. 6
    darkness = [spread.INK.index(character) for character in shown]
    assert darkness == [-(-count * 9 // 18) for count in [2, 0, 9, 18, 0, 4]]
    assert spread.histogram([5.0] * 3, 5) == "  @  " and spread.histogram([], 5) == ""
    assert spread.histogram([0.0, float("nan"), 1.0, float("inf")], 4) == "@  @"
    assert len(spread.histogram([2.5, 2.5 + 1e-15], 7)) == 7
