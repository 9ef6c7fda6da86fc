"""What is logged of an update besides its losses: how far the ratios went, what had no force, what was skipped."""

import torch
from torch import Tensor

QUANTILES = {"ratio_q001": 0.001, "ratio_q01": 0.01, "ratio_q50": 0.5, "ratio_q99": 0.99, "ratio_q999": 0.999}


def ratio_diagnostics(
    log_ratio: Tensor, allowed: tuple[float, float], force: Tensor | None = None
) -> dict[str, Tensor]:
    """Of one minibatch [P, rows, N]: extremes and quantiles of log r, approximate KL, and two shares.

    Args:
        log_ratio: log r.
        allowed: smallest and largest ratio inside the range.
        force: dJ / dlog r of whatever objective, or a multiple of it; where it is 0, a sample pulls at nothing. None (a
            lesson copied before there was this): that share is left out.
    """
    ratio = log_ratio.exp()
    is_outside = (ratio < allowed[0]) | (ratio > allowed[1])
    ordered = log_ratio.flatten(1).sort(1).values
    last = ordered.shape[1] - 1
    return {
        "log_ratio_max": ordered[:, last],
        "log_ratio_min": ordered[:, 0],
        **{name: ordered[:, round(q * last)] for name, q in QUANTILES.items()},
        "approx_kl": (torch.expm1(log_ratio) - log_ratio).mean((1, 2)),
        "frac_outside": is_outside.float().mean((1, 2)),
        **({} if force is None else {"frac_no_force": (force == 0).float().mean((1, 2))}),
    }


def over_minibatches(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """One number per seed [P] from those of all minibatches [epochs * minibatches, P].

    Of a quantile of the ratio the geometric mean over minibatches.
    """
    largest, smallest = seen.pop("log_ratio_max"), seen.pop("log_ratio_min")
    is_skipped = ~(seen["actor_grad_norm"].isfinite() & seen["critic_grad_norm"].isfinite())
    return {
        **{name: values.mean(0).exp() if name in QUANTILES else values.mean(0) for name, values in seen.items()},
        "ratio_max": largest.amax(0).exp(),
        "ratio_min": smallest.amin(0).exp(),
        "ratio_max_mean": largest.exp().mean(0),
        "ratio_min_mean": smallest.exp().mean(0),
        "max_abs_log_ratio": torch.maximum(largest, -smallest).amax(0),
        "first_max_abs_log_ratio": torch.maximum(largest[0], -smallest[0]),  # before any step: rounding only
        "skipped_steps": is_skipped.sum(0),
    }
