"""What is logged of an update besides its losses: how far the ratios went, what had no force, what was skipped."""

import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import may_look

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
    last = log_ratio[0].numel() - 1
    ranks = {"log_ratio_max": last, "log_ratio_min": 0, **{name: round(q * last) for name, q in QUANTILES.items()}}
    ordered = _in_order(log_ratio.flatten(1), list(ranks.values()))
    return {
        **{name: ordered[:, rank] for name, rank in ranks.items()},
        "approx_kl": (torch.expm1(log_ratio) - log_ratio).mean((1, 2)),
        "frac_outside": is_outside.float().mean((1, 2)),
        **({} if force is None else {"frac_no_force": (force == 0).float().mean((1, 2))}),
    }


def _in_order(values: Tensor, ranks: list[int]) -> Tensor:
    """Values [P, M], in ascending order at least at these ranks, nan last; on CPU in a quarter of a sort's time."""
    if may_look(values):
        return torch.from_numpy(np.partition(values.numpy(), ranks, 1))
    return values.sort(1).values


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


def of_minibatch(seen: dict[str, Tensor], allowed: tuple[float, float]) -> dict[str, Tensor]:
    """What is logged of a minibatch, [P] each.

    Args:
        seen: what is known of its rows, [P, rows] by name; `log_ratio` and `force` [P, rows, N].
        allowed: smallest and largest ratio inside the range.
    """
    means = {name: of_rows.mean(1) for name, of_rows in seen.items() if of_rows.dim() == 2}
    return {**means, **ratio_diagnostics(seen["log_ratio"], allowed, seen["force"])}


def of_episodes(is_done: Tensor, info: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over the episodes that ended in a rollout, for each seed [P]; nan where none did.

    Args:
        is_done: bool [P, T, B], an episode ended in this step.
        info: [P, T, B] by name, of which count what stands where an episode ended.
    """
    count = is_done.sum((1, 2))
    sums = {name: torch.where(is_done, values, 0).sum((1, 2)) for name, values in info.items()}
    return {"episodes": count, **{name: total / count for name, total in sums.items()}}
