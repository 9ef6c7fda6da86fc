"""Steps of P seeds side by side: each seed's gradient is clipped, and refused, by itself."""

import torch
from torch import Tensor

from torch_mars.envs.core import like


def apply_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Clip each seed's gradient to `max_norm` and step; the norms [P]. Where one is not finite, no weight moves."""
    parameters = optimizer.param_groups[0]["params"]
    norm = sum(p.grad.flatten(1).square().sum(1) for p in parameters).sqrt()
    is_finite, scale = norm.isfinite(), torch.where(norm > max_norm, max_norm / norm, 1.0)
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.where(like(is_finite, p), p.grad * like(scale, p), 0.0)
    optimizer.step()
    with torch.no_grad():  # Adam's momentum moves weights even where the gradient is 0
        for p, old in zip(parameters, before):
            p.copy_(torch.where(like(is_finite, p), p, old))
    optimizer.zero_grad()
    return norm
