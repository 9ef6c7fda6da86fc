"""What is logged of an update besides its losses: how far the ratios went, what had no force, what was skipped."""

import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import may_look
from torch_mars.nn import world

QUANTILES = {"ratio_q001": 0.001, "ratio_q01": 0.01, "ratio_q50": 0.5, "ratio_q99": 0.99, "ratio_q999": 0.999}
NORMS = ("actor_grad_norm", "critic_grad_norm")


def ratio_diagnostics(
    log_ratio: Tensor, allowed: tuple[float, float], force: Tensor | None = None, is_counted: Tensor | None = None
) -> dict[str, Tensor]:
    """Of one minibatch [P, rows, N]: extremes and quantiles of log r, approximate KL, and two shares.

    Args:
        log_ratio: log r.
        allowed: smallest and largest ratio inside the range.
        force: dJ / dlog r of whatever objective, or a multiple of it; where it is 0, a sample pulls at nothing. None (a
            lesson copied before there was this): that share is left out.
        is_counted: bool [P, rows, N], the samples that count; None: all.
    """
    ratio = log_ratio.exp()
    shares = {
        "approx_kl": torch.expm1(log_ratio) - log_ratio,
        "frac_outside": ((ratio < allowed[0]) | (ratio > allowed[1])).float(),
        **({} if force is None else {"frac_no_force": (force == 0).float()}),
    }
    quantiles = {"log_ratio_max": 1, "log_ratio_min": 0, **QUANTILES}
    if is_counted is None:
        last = log_ratio[0].numel() - 1
        ranks = {name: round(q * last) for name, q in quantiles.items()}
        ordered = _in_order(log_ratio.flatten(1), list(ranks.values()))
        return {
            **{name: ordered[:, rank] for name, rank in ranks.items()},
            **{name: values.mean((1, 2)) for name, values in shares.items()},
        }
    is_nobody = ~is_counted.flatten(1).any(1)
    spoilt = log_ratio.masked_fill(~is_counted, 0).sum((1, 2)).isnan()  # a sort puts nan behind what does not count
    ordered = log_ratio.masked_fill(~is_counted, torch.inf).flatten(1).sort(1).values
    count = is_counted.sum((1, 2)).clamp(min=1)
    ranks = {name: (q * (count - 1)).round().long()[:, None] for name, q in quantiles.items()}
    of_ranks = {name: ordered.gather(1, rank)[:, 0] for name, rank in ranks.items()}
    return {
        **{name: x.masked_fill(is_nobody, 0).masked_fill(spoilt, torch.nan) for name, x in of_ranks.items()},
        **{name: values.masked_fill(~is_counted, 0).sum((1, 2)) / count for name, values in shares.items()},
    }


def weights_of(is_counted: Tensor) -> Tensor:
    """Of samples [P, rows, N]: weights with which the mean over all, of all ranks, is that over those that count."""
    weight = is_counted.float()
    return weight / world.mean_(weight.mean((1, 2), keepdim=True)).clamp(min=1e-8)


def _in_order(values: Tensor, ranks: list[int]) -> Tensor:
    """Values [P, M], in ascending order at least at these ranks, nan last; on CPU in a quarter of a sort's time."""
    if may_look(values):
        return torch.from_numpy(np.partition(values.numpy(), ranks, 1))
    return values.sort(1).values


def over_minibatches(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """One number per seed [P] from those of all minibatches [epochs * minibatches, P], and of all ranks.

    Of a quantile of the ratio the geometric mean over minibatches; of a gradient's norm the mean over those where it is
    finite, nan where it never is.
    """
    seen = _over_ranks(seen)
    largest, smallest = seen.pop("log_ratio_max"), seen.pop("log_ratio_min")
    norms = torch.stack([seen[name] for name in NORMS if name in seen])
    return {
        **{name: _mean(name, values) for name, values in seen.items()},
        "ratio_max": largest.amax(0).exp(),
        "ratio_min": smallest.amin(0).exp(),
        "ratio_max_mean": largest.exp().mean(0),
        "ratio_min_mean": smallest.exp().mean(0),
        "max_abs_log_ratio": torch.maximum(largest, -smallest).amax(0),
        "first_max_abs_log_ratio": torch.maximum(largest[0], -smallest[0]),  # before any step: rounding only
        "skipped_steps": (~norms.isfinite()).any(0).sum(0),
    }


def _mean(name: str, values: Tensor) -> Tensor:
    if name in QUANTILES:
        return values.mean(0).exp()
    if name in NORMS:
        return values.masked_fill(~values.isfinite(), torch.nan).nanmean(0)
    return values.mean(0)


def _over_ranks(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of extremes the most extreme; of all else, norms of gradients that are alike among it, the mean."""
    if world.is_alone():
        return seen
    table = torch.stack([values.float() for values in seen.values()])
    of_ranks = world.stacked(table)  # [ranks, names, minibatches, P]
    extremes = {"log_ratio_max": torch.amax, "log_ratio_min": torch.amin}
    return {name: extremes.get(name, torch.mean)(of_ranks[:, i], 0) for i, name in enumerate(seen)}


def of_minibatch(
    seen: dict[str, Tensor], allowed: tuple[float, float], is_counted: Tensor | None = None
) -> dict[str, Tensor]:
    """What is logged of a minibatch, [P] each.

    Args:
        seen: what is known of its rows, [P, rows] by name; `log_ratio` and `force` [P, rows, N].
        allowed: smallest and largest ratio inside the range.
        is_counted: bool [P, rows, N], the samples whose ratios count; None: all.
    """
    means = {name: of_rows.mean(1) for name, of_rows in seen.items() if of_rows.dim() == 2}
    return {**means, **ratio_diagnostics(seen["log_ratio"], allowed, seen["force"], is_counted)}


def of_episodes(is_done: Tensor, info: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over the episodes that ended in a rollout, of all ranks, for each seed [P]; nan where none did.

    Args:
        is_done: bool [P, T, B], an episode ended in this step.
        info: [P, T, B] by name, of which count what stands where an episode ended.
    """
    count = world.sum_(is_done.sum((1, 2)))
    sums = {name: world.sum_(torch.where(is_done, values, 0).sum((1, 2))) for name, values in info.items()}
    return {"episodes": count, **{name: total / count for name, total in sums.items()}}
