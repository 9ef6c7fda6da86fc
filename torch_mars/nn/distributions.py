"""Policies over actions: `Categorical` where they are numbered, `TanhNormal` where they are continuous.

Both take their random numbers from outside (`torch_mars.envs.rng`), so that a draw can be repeated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class Categorical:
    """A policy over A actions of which some may be forbidden: logits [..., A], mask [..., A] or None."""

    def __init__(self, logits: Tensor, mask: Tensor | None):
        if mask is not None:
            logits = torch.where(mask, logits, -1e9)  # finite: -inf would give nan in p log p
        self.log_probs = logits.log_softmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """By inversion of one uniform number per agent."""
        cumulative = self.log_probs.exp().cumsum(-1)
        return (cumulative <= noise[..., None] * cumulative[..., -1:]).sum(-1)

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action[..., None]).squeeze(-1)

    def entropy(self, noise: None = None) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class TanhNormal:
    """tanh of a normal: actions [..., d] in [-1, 1]. Beyond +-0.999 the density is the mean density of that tail."""

    EDGE = 0.999

    def __init__(self, mean: Tensor, log_std: Tensor):
        self.mean, self.std = mean, F.softplus(log_std) + 1e-3

    def sample(self, noise: Tensor) -> Tensor:
        return (self.mean + self.std * noise).tanh()

    def mode(self) -> Tensor:
        return self.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """Summed over the dimensions of the action."""
        u = action.clamp(-self.EDGE, self.EDGE).atanh()
        density = self._normal(u) - _log_tanh_slope(u)
        edge = torch.full((), self.EDGE, dtype=action.dtype, device=action.device)
        u_edge = edge.atanh()
        above = torch.special.log_ndtr((self.mean - u_edge) / self.std)
        below = torch.special.log_ndtr((-u_edge - self.mean) / self.std)
        tail = torch.where(action > 0, above, below) - torch.log1p(-edge)
        return torch.where(action.abs() < self.EDGE, density, tail).sum(-1)

    def entropy(self, noise: Tensor) -> Tensor:
        """Of the normal, exactly, plus the tanh's part estimated at one reparameterised sample."""
        u = self.mean + self.std * noise
        normal = 0.5 + 0.5 * torch.log(2 * torch.pi * self.std.square())
        return (normal + _log_tanh_slope(u)).sum(-1)

    def _normal(self, u: Tensor) -> Tensor:
        return -0.5 * ((u - self.mean) / self.std).square() - torch.log(self.std * (2 * torch.pi) ** 0.5)


def _log_tanh_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), accurate for large |u|."""
    return 2 * (0.6931471805599453 - u - F.softplus(-2 * u))
