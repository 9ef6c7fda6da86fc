"""Steps of P seeds side by side: each seed's gradient is clipped, and refused, by itself."""

from typing import Any

import torch
from torch import Tensor

from torch_mars.envs.core import like, may_look


def apply_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Clip each seed's gradient to `max_norm` and step; the norms [P]. Where one is not finite, no weight moves."""
    parameters = optimizer.param_groups[0]["params"]
    gradient = torch.cat([p.grad.flatten(1) for p in parameters], 1)  # of each seed one vector
    norm = torch.linalg.vector_norm(gradient, dim=1)
    is_finite, scale = norm.isfinite(), torch.where(norm > max_norm, max_norm / norm, 1.0)
    gradient = torch.where(is_finite[:, None], gradient * scale[:, None], 0.0)
    for p, part in zip(parameters, gradient.split([p[0].numel() for p in parameters], 1)):
        p.grad = part.view(p.shape).contiguous()
    if may_look(norm) and is_finite.all():
        optimizer.step()
    else:
        _step_seeds(optimizer, parameters, is_finite)
    optimizer.zero_grad()
    return norm


def _step_seeds(optimizer: torch.optim.Optimizer, parameters: list[Tensor], moves: Tensor) -> None:
    """A step of the seeds that move [P]: Adam's momentum moves weights even where the gradient is 0."""
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    with torch.no_grad():
        for p, old in zip(parameters, before):
            p.copy_(torch.where(like(moves, p), p, old))


def load(adam: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Take over what `state_dict` said of an optimizer with the same parameters and settings.

    Raises:
        ValueError: it is of others. (PyTorch itself would find out in a kernel that reads beyond its memory.)
    """
    parameters = adam.param_groups[0]["params"]
    ours, (theirs,) = adam.state_dict()["param_groups"][0], content["param_groups"]
    for name in ours.keys() & theirs.keys():  # versions of PyTorch add to them
        if theirs[name] != ours[name]:
            raise ValueError(f"{name} of the optimizer is {str(theirs[name])[:40]}; it must be {ours[name]}")
    if content["state"] and content["state"].keys() != set(range(len(parameters))):
        raise ValueError(f"the optimizer knows {len(content['state'])} parameters; it must be {len(parameters)}")
    for i, moments in content["state"].items():
        for name, shape in (("step", ()), ("exp_avg", parameters[i].shape), ("exp_avg_sq", parameters[i].shape)):
            tensor = moments[name]
            if tensor.shape != shape or tensor.dtype != torch.float32:
                raise ValueError(f"{name} of the optimizer is {tensor.dtype} {list(tensor.shape)}, not {list(shape)}")
        if (moments["exp_avg_sq"] < 0).any():
            raise ValueError("exp_avg_sq of the optimizer is negative")
    adam.load_state_dict(content)
