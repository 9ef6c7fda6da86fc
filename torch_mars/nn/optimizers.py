"""Adam for P seeds side by side: each seed's gradient is clipped, and refused, by itself."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from torch_mars.envs.constants import scalar
from torch_mars.envs.core import may_look
from torch_mars.nn import world

BETAS = (0.9, 0.999)


class Adam:
    """Adam (Kingma and Ba, 2015) by PyTorch's fused kernel, over all parameters of a seed as one vector of M numbers.

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
        self.annealed = None  # the learning rate in a tensor that a CUDA graph reads, once it changes
        self.sizes = [p[0].numel() for p in self.parameters]
        self.step = torch.zeros((), dtype=torch.float32, device=self.parameters[0].device)
        self.mean, self.square = (torch.zeros_like(self._vector(self.parameters)) for _ in range(2))  # [P, M]

    @torch.no_grad()
    def apply_gradients(self, max_norm: float) -> Tensor:
        """Clip each seed's gradient, the mean over all ranks, to `max_norm` and step; the norms [P].

        Where one is not finite, no weight of that seed moves.
        """
        gradient = world.mean_(self._vector([p.grad for p in self.parameters]))
        norm = torch.linalg.vector_norm(gradient, dim=1)
        is_finite = (norm < torch.inf)[:, None]
        clipped = gradient * (max_norm / norm).clamp(max=1.0)[:, None]
        weights = self._vector(self.parameters)
        before = None if may_look(norm) and is_finite.all() else weights.clone()
        self._step(weights, torch.where(is_finite, clipped, scalar(0.0, norm)))
        if before is not None:  # momentum moves weights even where the gradient is 0
            weights = torch.where(is_finite, weights, before)
        torch._foreach_copy_(self.parameters, self._parts(weights))
        for p in self.parameters:
            p.grad = None
        return norm

    def anneal(self, remaining: float) -> None:
        """Go on with this share of the learning rate."""
        if self.annealed is None:
            self.annealed = torch.zeros_like(self.step)
        self.annealed.fill_(remaining * self.settings["lr"])

    def _vector(self, tensors: list[Tensor]) -> Tensor:
        """[P, ...] each -> [P, M]"""
        return torch.cat([x.detach().flatten(1) for x in tensors], 1)

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """[P, M] -> views of it like the parameters."""
        return [part.view(p.shape) for part, p in zip(vector.split(self.sizes, 1), self.parameters)]

    def _step(self, weights: Tensor, gradient: Tensor) -> None:
        moments = ([self.mean], [self.square], [], [self.step])
        how = {"amsgrad": False, "weight_decay": 0.0, "maximize": False, "fused": True, "capturable": True}
        lr, (beta1, beta2), eps = self.settings.values()
        lr = lr if self.annealed is None else self.annealed
        adam([weights], [gradient], *moments, lr=lr, beta1=beta1, beta2=beta2, eps=eps, **how)

    def state_dict(self) -> dict[str, Any]:
        moments = zip(self._parts(self.mean), self._parts(self.square))
        state = {i: {"step": self.step, "exp_avg": m, "exp_avg_sq": s} for i, (m, s) in enumerate(moments)}
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
