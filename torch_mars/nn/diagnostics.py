"""What is logged of an update besides its losses: how far the ratios went, and what was skipped."""

import torch
from torch import Tensor


def ratio_diagnostics(log_ratio: Tensor, allowed: tuple[float, float]) -> dict[str, Tensor]:
    """Of one minibatch [P, rows, N]: extremes of log r, approximate KL, share of ratios outside the range."""
    ratio = log_ratio.exp()
    is_outside = (ratio < allowed[0]) | (ratio > allowed[1])
    return {
        "log_ratio_max": log_ratio.amax((1, 2)),
        "log_ratio_min": log_ratio.amin((1, 2)),
        "approx_kl": (torch.expm1(log_ratio) - log_ratio).mean((1, 2)),
        "frac_outside": is_outside.float().mean((1, 2)),
    }


def over_minibatches(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """One number per seed [P] from those of all minibatches [epochs * minibatches, P]."""
    largest, smallest = seen.pop("log_ratio_max"), seen.pop("log_ratio_min")
    is_skipped = ~(seen["actor_grad_norm"].isfinite() & seen["critic_grad_norm"].isfinite())
    return {
        **{name: values.mean(0) for name, values in seen.items()},
        "ratio_max": largest.amax(0).exp(),
        "ratio_min": smallest.amin(0).exp(),
        "ratio_max_mean": largest.exp().mean(0),
        "ratio_min_mean": smallest.exp().mean(0),
        "max_abs_log_ratio": torch.maximum(largest, -smallest).amax(0),
        "first_max_abs_log_ratio": torch.maximum(largest[0], -smallest[0]),  # before any step: rounding only
        "skipped_steps": is_skipped.sum(0),
    }
