"""The stateless generator: known values, uniformity, independence across environments and steps."""

import math

import numpy as np
import pytest
import torch

from torch_mars.envs import rng, rng_loops


def test_known_values_of_splitmix64():
    """First outputs of the published splitmix64.c for seed 1234567."""
    words, _ = rng.bits(torch.tensor([1234567]), 3)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [w % rng.WORD for w in words[0].tolist()] == expected
    assert [rng.mix_int((1234567 + k * rng.GOLDEN) % rng.WORD) for k in (1, 2, 3)] == expected


def test_keys_move_past_the_numbers_drawn():
    key = rng.keys(3, 4)
    together, end = rng.bits(key, 10)
    first, middle = rng.bits(key, 4)
    second, end_of_two = rng.bits(middle, 6)
    assert torch.equal(together, torch.cat([first, second], 1))
    assert torch.equal(end, end_of_two)


def test_an_environment_has_its_key_whatever_the_batch_size():
    assert torch.equal(rng.keys(7, 1000)[:10], rng.keys(7, 10))
    assert torch.equal(rng.keys([7, 8], 20)[10:], rng.keys(8, 10))
    with pytest.raises(ValueError, match="3 seeds"):
        rng.keys([1, 2, 3], 10)


def test_derived_seeds_differ_by_every_word():
    seeds = {rng.derive(s, name, i) for s in range(20) for name in ("policy", "evaluation") for i in range(20)}
    assert len(seeds) == 20 * 2 * 20
    assert rng.derive(1, "policy") == rng.derive(1, "policy")


def _chi_square(counts: torch.Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("axis", ["across environments", "across draws"])
def test_uniform_numbers_are_uniform(axis):
    environments, draws = (50_000, 4) if axis == "across environments" else (1, 200_000)
    values = rng.uniform(rng.keys(0, environments), draws)[0]
    assert values.min() >= 0 and values.max() < 1
    counts = torch.histc(values, 100, 0, 1)
    assert _chi_square(counts) < 99 + 5 * (2 * 99) ** 0.5  # 5 sigma of chi-square with 99 degrees of freedom


def test_neighbouring_environments_and_draws_are_independent():
    values = rng.uniform(rng.keys(1, 2000), 200)[0] - 0.5
    scale = 12 / values.numel() ** 0.5  # 1 / variance of a product of independents, one sigma
    assert abs((values[1:] * values[:-1]).mean()) * 144 < 5 * 12 * scale
    assert abs((values[:, 1:] * values[:, :-1]).mean()) * 144 < 5 * 12 * scale
    bits = rng.bits(rng.keys(1, 2000), 50)[0]
    for position in range(64):
        ones = ((bits >> position) & 1).float().mean()
        assert abs(ones - 0.5) < 5 * 0.5 / bits.numel() ** 0.5, f"bit {position}"


def test_normal_integers_and_permutations():
    normal = rng.normal(rng.keys(2, 1000), 100)[0]
    assert abs(normal.mean()) < 5 / 1e5**0.5 and abs(normal.var() - 1) < 5 * (2 / 1e5) ** 0.5
    integers = rng.integers(rng.keys(3, 1000), 100, 5)[0]
    assert _chi_square(torch.bincount(integers.flatten(), minlength=5).float()) < 4 + 5 * 8**0.5
    orders = rng.permutation(rng.keys(4, 30_000), 4)[0]
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand(30_000, 4))
    codes = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = torch.unique(codes, return_counts=True)[1].float()
    assert len(counts) == 24 and _chi_square(counts) < 23 + 5 * 46**0.5


def test_words_drawn_together_make_the_numbers_drawn_one_after_another():
    keys = rng.keys(8, 500)
    uniform, moved = rng.uniform(keys, 3)
    integers, moved = rng.integers(moved, 4, 8)
    orders, moved = rng.permutation(moved, 5)
    words, end = rng.bits(keys, 12)
    of_uniform, of_integers, of_orders = words.split((3, 4, 5), 1)
    assert torch.equal(rng.uniform_of(of_uniform), uniform)
    assert torch.equal(rng.integers_of(of_integers, 8), integers)
    assert torch.equal(rng.permutation_of(of_orders), orders)
    assert torch.equal(end, moved)


@pytest.mark.parametrize("high", [1, 2, 4, 8, 2**30, 3, 2**31 - 1])
def test_integers_of_any_range_are_those_of_the_loops(high):
    keys = rng.keys(9, 200)
    for key, drawn in zip(keys, rng.integers(keys, 1, high)[0].flatten().tolist()):
        assert rng_loops.next_integer(key.numpy().copy(), high) == drawn


@pytest.mark.parametrize("count, high", [(1, 5), (2, 4), (3, 4), (4, 4)])
def test_distinct_numbers_come_in_every_order_equally_often(count, high):
    chosen, moved = rng.distinct(rng.keys(6, 30_000), count, high)
    assert ((chosen >= 0) & (chosen < high)).all() and (chosen.sort(1).values.diff(dim=1) > 0).all()
    codes = (chosen * high ** torch.arange(count)).sum(1)
    counts = torch.unique(codes, return_counts=True)[1].float()
    choices = math.perm(high, count)
    assert len(counts) == choices and _chi_square(counts) < choices - 1 + 5 * (2 * (choices - 1)) ** 0.5
    for key, numbers, after in zip(rng.keys(6, 200), chosen, moved):
        box, drawn = key.numpy().copy(), np.empty(count, np.int64)
        rng_loops.next_distinct(box, high, drawn)
        assert drawn.tolist() == numbers.tolist() and box == after


def test_the_most_extreme_normal_numbers_are_finite_and_symmetric():
    extremes = rng._inverse_normal(torch.tensor([0, -1]))  # all bits 0, all bits 1
    assert extremes.tolist() == pytest.approx([-6.34, 6.34], abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [rng.bits, rng.uniform, lambda key, count: rng.integers(key, count, 7)])
def test_compiled_draws_are_the_plain_ones(draw):
    """By torch.compile's own backend, whose arithmetic of indices is wider than 64 bits."""
    keys = rng.keys(5, 8)
    compiled = torch.compile(lambda key: draw(key, 20), fullgraph=True)
    for found, expected in zip(compiled(keys), draw(keys, 20)):
        assert torch.equal(found, expected)
