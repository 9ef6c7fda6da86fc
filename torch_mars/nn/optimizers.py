"""Adam for P seeds side by side: each seed's gradient is clipped, and refused, by itself."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from torch_mars.envs.core import like, may_look

BETAS = (0.9, 0.999)


class Adam:
    """Adam (Kingma and Ba, 2015) by PyTorch's fused kernel.

    Not `torch.optim.Adam`, which does more around the kernel in every step, and imports torch.compile when it is made:
    two seconds of every start. Its `state_dict` is the same.

    Args:
        parameters: [P, ...] each, on the device where they stay.
        lr: learning rate.
        eps: added to the root of the squared gradient's mean.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, eps: float):
        self.parameters = list(parameters)
        self.settings = {"lr": lr, "betas": BETAS, "eps": eps}
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]
        self.mean, self.square = ([torch.zeros_like(p, requires_grad=False) for p in self.parameters] for _ in range(2))

    @torch.no_grad()
    def apply_gradients(self, max_norm: float) -> Tensor:
        """Clip each seed's gradient to `max_norm` and step; the norms [P]. Where one is not finite, no weight moves."""
        parameters = self.parameters
        gradient = torch.cat([p.grad.flatten(1) for p in parameters], 1)  # of each seed one vector
        norm = torch.linalg.vector_norm(gradient, dim=1)
        is_finite, scale = norm.isfinite(), torch.where(norm > max_norm, max_norm / norm, 1.0)
        gradient = torch.where(is_finite[:, None], gradient * scale[:, None], 0.0)
        parts = gradient.split([p[0].numel() for p in parameters], 1)
        gradients = [part.reshape(p.shape).contiguous() for p, part in zip(parameters, parts)]
        before = None if may_look(norm) and is_finite.all() else [p.clone() for p in parameters]
        self._step(gradients)
        if before:  # momentum moves weights even where the gradient is 0
            for p, old in zip(parameters, before):
                p.copy_(torch.where(like(is_finite, p), p, old))
        for p in parameters:
            p.grad = None
        return norm

    def _step(self, gradients: list[Tensor]) -> None:
        moments = (self.mean, self.square, [], self.steps)
        how = {"amsgrad": False, "weight_decay": 0.0, "maximize": False, "fused": True, "capturable": True}
        lr, (beta1, beta2), eps = self.settings.values()
        adam(self.parameters, gradients, *moments, lr=lr, beta1=beta1, beta2=beta2, eps=eps, **how)

    def state_dict(self) -> dict[str, Any]:
        of_each = zip(self.steps, self.mean, self.square)
        state = {i: dict(zip(("step", "exp_avg", "exp_avg_sq"), moments)) for i, moments in enumerate(of_each)}
        return {"state": state, "param_groups": [{**self.settings, "params": list(state)}]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over what `state_dict` said of an Adam with the same parameters and settings.

        Raises:
            ValueError: it is of another. Nothing was changed.
        """
        ours, (theirs,) = self.state_dict(), content["param_groups"]
        for name, setting in self.settings.items():
            if name in theirs and theirs[name] != setting:
                raise ValueError(f"{name} of the optimizer is {str(theirs[name])[:40]}; it must be {setting}")
        if content["state"].keys() != ours["state"].keys():
            raise ValueError(f"the optimizer knows {len(content['state'])} parameters; it must be {len(ours['state'])}")
        for i, moments in ours["state"].items():
            for name, tensor in moments.items():
                given = content["state"][i][name]
                if given.shape != tensor.shape or given.dtype != torch.float32:
                    raise ValueError(
                        f"{name} of the optimizer is {given.dtype} {list(given.shape)}, not {list(tensor.shape)}"
                    )
            if (content["state"][i]["exp_avg_sq"] < 0).any():
                raise ValueError("exp_avg_sq of the optimizer is negative")
        for i, moments in ours["state"].items():
            for name, tensor in moments.items():
                tensor.copy_(content["state"][i][name])
