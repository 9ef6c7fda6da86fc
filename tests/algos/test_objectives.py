"""The seven objectives: tables in float64, limits and extremes in float32, and the identities behind them."""

import importlib
import math

import pytest
import torch
from objective_tables import TABLES

VARIANTS = [
    ("mappo", {"clip": 0.2}),
    ("mappo", {"clip_low": 0.1, "clip_high": 0.3}),
    ("maspo", {"clip": 0.2}),
    ("maspo", {"clip_low": 0.1, "clip_high": 0.3}),
    ("mars", {"expand": 1.5, "contract": 0.7}),
    ("mars", {"expand": 1.2}),
    ("mars", {"additive_clip": 0.2}),
]
with_variants = pytest.mark.parametrize("algorithm, settings", VARIANTS)
PENALTIES = [variant for variant in VARIANTS if variant[0] != "mappo"]


def lesson(algorithm):
    return importlib.import_module(f"torch_mars.algos.{algorithm}")


def objective(algorithm, settings, log_ratio, advantage):
    """J and dJ / dlog r."""
    module = lesson(algorithm)
    log_ratio = log_ratio.detach().clone().requires_grad_()
    value = module.policy_objective(log_ratio, advantage, module.Args(**settings))
    (slope,) = torch.autograd.grad(value.sum(), log_ratio)
    return value.detach(), slope


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 2e-4)])
@pytest.mark.parametrize("algorithm, settings, rows", TABLES)
def test_values_and_gradients_of_the_tables(algorithm, settings, rows, dtype, tolerance):
    table = torch.tensor(rows, dtype=torch.float64)
    ratio = table[:, 0]
    for sign, value_column in ((1.0, 1), (-1.0, 3)):
        advantage = torch.full_like(ratio, sign, dtype=dtype)
        value, slope = objective(algorithm, settings, ratio.log().to(dtype), advantage)
        expected_value, expected_slope = table[:, value_column], table[:, value_column + 1]
        torch.testing.assert_close(value.double(), expected_value, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(slope.double() / ratio, expected_slope, rtol=tolerance, atol=tolerance)


@with_variants
def test_the_gradient_at_ratio_one_is_the_advantage(algorithm, settings):
    advantage = torch.tensor([2.0, -0.5, 0.0, 1e-3, -7.0], dtype=torch.float64)
    _, slope = objective(algorithm, settings, torch.zeros(5, dtype=torch.float64), advantage)
    torch.testing.assert_close(slope, advantage)


@with_variants
def test_objectives_are_positively_homogeneous(algorithm, settings):
    log_ratio = torch.linspace(-3, 3, 41, dtype=torch.float64)
    for sign in (1.0, -1.0):
        one, _ = objective(algorithm, settings, log_ratio, torch.full_like(log_ratio, sign))
        seven, _ = objective(algorithm, settings, log_ratio, torch.full_like(log_ratio, 7 * sign))
        torch.testing.assert_close(seven, 7 * one)


@pytest.mark.parametrize("algorithm, settings", PENALTIES)
def test_the_target_is_the_only_stationary_point_and_a_maximum(algorithm, settings):
    module = lesson(algorithm)
    for sign, target in zip((-1.0, 1.0), module.ratio_range(module.Args(**settings))):
        log_ratio = torch.linspace(-20, 20, 4001, dtype=torch.float64)
        log_ratio = log_ratio[(log_ratio - math.log(target)).abs() > 1e-3]
        _, slope = objective(algorithm, settings, log_ratio, torch.full_like(log_ratio, sign))
        assert (torch.sign(slope) == torch.sign(math.log(target) - log_ratio)).all()
        at_target = torch.tensor([math.log(target)], dtype=torch.float64)
        value, slope = objective(algorithm, settings, at_target, torch.tensor([sign], dtype=torch.float64))
        assert abs(slope.item()) < 1e-12
        if algorithm == "mars":
            assert value.item() == pytest.approx(2 * sign * target / (target + 1), rel=1e-12)


@with_variants
@pytest.mark.parametrize("advantage", [0.0, 1.0, -1.0, 1e-30, -3e4])
def test_float32_extremes_stay_finite(algorithm, settings, advantage):
    log_ratio = torch.tensor([0.0, 1, -1, 20, -20, 90, -90, 1e4, -1e4, 1e12, -1e30])
    value, slope = objective(algorithm, settings, log_ratio, torch.full_like(log_ratio, advantage))
    assert value.isfinite().all() and slope.isfinite().all()
    if advantage == 0:
        assert (value == 0).all() and (slope == 0).all()


def test_outliers_beyond_the_bound_are_still_pulled_back():
    """The straight-through bound of MARS at rho 1.2: log ratio, J and dJ / dlog r for A = +1 and A = -1."""
    rows = [
        ((-100, -50, -20), -1.58781336e9, 1.58781337e9, -1.10264817e9, 1.10264817e9),
        ((-5,), -479.185652, 485.70048, -332.779231, 337.280583),
        ((5,), -330.779231, -337.280583, -481.185652, -485.70048),
        ((20, 50, 100), -1.10264816e9, -1.10264817e9, -1.58781336e9, -1.58781337e9),
    ]
    for log_ratios, *expected in rows:
        log_ratio = torch.tensor([float(x) for x in log_ratios])
        for sign, (value, slope) in ((1.0, expected[:2]), (-1.0, expected[2:])):
            got = objective("mars", {"expand": 1.2}, log_ratio, torch.full_like(log_ratio, sign))
            torch.testing.assert_close(got[0], torch.full_like(log_ratio, value), rtol=1e-5, atol=0)
            torch.testing.assert_close(got[1], torch.full_like(log_ratio, slope), rtol=1e-5, atol=0)


def test_mars_is_a_cosh_bowl_and_odd_in_log_ratio_space():
    log_ratio = torch.linspace(-6, 6, 121, dtype=torch.float64)
    for sign in (1.0, -1.0):
        centre = sign * math.log(1.2)
        value, slope = objective("mars", {"expand": 1.2}, log_ratio, torch.full_like(log_ratio, sign))
        expected = (math.exp(centre) - torch.cosh(log_ratio - centre)) / math.sinh(abs(centre))
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(slope, torch.sinh(centre - log_ratio) / math.sinh(abs(centre)))
        _, mirrored = objective("mars", {"expand": 1.2}, -log_ratio, torch.full_like(log_ratio, -sign))
        torch.testing.assert_close(slope, -mirrored)


@pytest.mark.parametrize("clip, largest", [(0.2, 0.0636), (0.05, 0.00331), (0.01, 0.000126)])
def test_additive_mars_tends_to_maspo(clip, largest):
    log_ratio = torch.linspace(1 - clip, 1 + clip, 20_001, dtype=torch.float64).log()
    difference = 0.0
    for sign in (1.0, -1.0):
        advantage = torch.full_like(log_ratio, sign)
        mars, _ = objective("mars", {"additive_clip": clip}, log_ratio, advantage)
        maspo, _ = objective("maspo", {"clip": clip}, log_ratio, advantage)
        difference = max(difference, (mars - maspo).abs().max().item())
    assert difference == pytest.approx(largest, rel=0.01)


def test_noise_in_the_advantage_moves_the_balance_point():
    """With A = +1 in 55% and -1 in 45% of samples, MARS settles at tanh l = tanh(log rho) E[A] / E|A|."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = torch.tensor([(low + high) / 2] * 2, dtype=torch.float64)
        _, slope = objective("mars", {"expand": 1.2}, middle, torch.tensor([1.0, -1.0], dtype=torch.float64))
        pull = 0.55 * slope[0] + 0.45 * slope[1]
        low, high = (middle[0].item(), high) if pull > 0 else (low, middle[0].item())
    assert low == pytest.approx(math.atanh(0.1 * math.tanh(math.log(1.2))), rel=1e-9)


MINIBATCH = [
    ("mappo", {"clip": 0.2}, -0.0459627355, [0, -0.024333213, 0, 0.216295226, 0, -0.151406658]),
    ("mappo", {"clip_low": 0.1, "clip_high": 0.3}, -0.0459627355, [0, -0.024333213, 0, 0.216295226, 0, -0.151406658]),
    ("maspo", {"clip": 0.2}, 0.520460388,
     [0.060833032, -0.036499819, -0.129777136, 0.216295226, 1.514066582, -0.302813316]),
    ("maspo", {"clip_low": 0.1, "clip_high": 0.3}, 0.696650874,
     [0.027036903, -0.032444284, -0.302813316, 0.216295226, 0.883205506, -0.25234443]),
    ("mars", {"expand": 1.2}, 1.59419413,
     [0.033181654, -0.043013255, -2.316325239, 0.216295226, 0.550569666, -0.430132552]),
    ("mars", {"additive_clip": 0.2}, 1.25161745,
     [0.033181654, -0.043013255, -1.802460217, 0.216295226, 0.550569666, -0.430132552]),
    ("mars", {"expand": 1.5, "contract": 0.7}, 0.525761741,
     [0, -0.0346072362, -0.954243654, 0.216295226, 0.132480826, -0.3047059]),
]  # fmt: skip


@pytest.mark.parametrize("algorithm, settings, loss, gradient", MINIBATCH)
def test_one_minibatch_end_to_end(algorithm, settings, loss, gradient):
    """Three environment steps, two agents, from joint advantages to the gradient of the new log-probabilities."""
    module = lesson(algorithm)
    old = torch.tensor([[0.2, 0.5], [0.1, 0.4], [0.3, 0.25]], dtype=torch.float64).log()
    new = torch.tensor([[0.3, 0.45], [0.02, 0.4], [0.6, 0.2]], dtype=torch.float64).log().requires_grad_()
    joint = torch.tensor([1, -0.5, 2], dtype=torch.float64).view(1, 3, 1)
    advantage = module.normalise(joint)[0]
    torch.testing.assert_close(
        advantage[:, 0],
        torch.tensor([0.162221420, -1.297771356, 1.135549937], dtype=torch.float64),
        rtol=1e-8,
        atol=1e-9,
    )
    objective = module.policy_objective(new - old, advantage.expand(3, 2), module.Args(**settings))
    (-objective.mean()).backward()
    assert -objective.mean().item() == pytest.approx(loss, rel=1e-8)
    torch.testing.assert_close(new.grad.flatten(), torch.tensor(gradient, dtype=torch.float64), rtol=2e-8, atol=1e-9)


@pytest.mark.parametrize(
    "algorithm, settings, flag",
    [
        ("mars", {"expand": 1.0}, "--expand"),
        ("mars", {"expand": 0.9}, "--expand"),
        ("mars", {"contract": 1.2}, "--contract"),
        ("mars", {"contract": 0.0}, "--contract"),
        ("mars", {"additive_clip": 1.0}, "--additive-clip"),
        ("mars", {"additive_clip": 0.2, "contract": 0.5}, "--contract"),
        ("mappo", {"clip": 0.0}, "--clip"),
        ("maspo", {"clip": 1.0}, "--clip"),
        ("mappo", {"clip_low": 0.1}, "--clip-high"),
        ("maspo", {"clip_high": 0.1}, "--clip-low"),
        ("maspo", {"clip_low": 1.0, "clip_high": 0.1}, "--clip-low"),
    ],
)
def test_targets_out_of_range_are_refused(algorithm, settings, flag):
    from torch_mars.run.cli import UsageError

    module = lesson(algorithm)
    with pytest.raises(UsageError, match=f"{flag} is .*; "):
        module.ratio_range(module.Args(**settings))
