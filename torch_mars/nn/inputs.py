"""What networks are given, and statistics that are learned while training runs, for P seeds side by side."""

from typing import Any

import torch
from torch import Tensor, nn

from torch_mars.nn import world

LIMIT = 10.0  # of a normalised input: what was nearly constant so far must not blow up when it moves


class Running(nn.Module):
    """Mean and deviation over everything seen so far, for each of P seeds and each of `size` numbers by itself.

    Two sets are put together as in Chan, Golub and LeVeque (1979). Before anything was seen the mean is 0 and the
    deviation 1. Nothing changes but in `learn`, so that a rollout and its update see the same.
    """

    def __init__(self, seeds: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(seeds, size, dtype=torch.float32, device="cpu"))
        self.register_buffer("variance", torch.ones(seeds, size, dtype=torch.float32, device="cpu"))
        # double: a single one would stop counting where a rollout is less than its last digit
        self.register_buffer("count", torch.zeros(seeds, 1, dtype=torch.float64, device="cpu"))

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take in x [P, ..., size], or [P, ...] where size is 1, of this rank and all others."""
        x = x[..., None] if self.mean.shape[1] == 1 else x
        variance, mean = torch.var_mean(x, list(range(1, x.dim() - 1)), correction=0)
        count = x[0].numel() // x.shape[-1] * world.size()
        if not world.is_alone():
            of_all = world.mean_(mean.clone())
            variance, mean = world.mean_(variance + (mean - of_all).square()), of_all
        total = self.count + count
        new, off = (count / total).to(mean.dtype), mean - self.mean
        variance = torch.lerp(self.variance, variance, new) + off.square() * new * (1 - new)
        self.mean.add_(off * new)
        self.variance.copy_(variance)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        """x [P, ..., size], or [P, ...] where size is 1, with mean 0 and deviation 1 over what was seen."""
        return (x - self._like(self.mean, x)) / self._deviation(x)

    def undo(self, x: Tensor) -> Tensor:
        """The inverse."""
        return x * self._deviation(x) + self._like(self.mean, x)

    def _deviation(self, x: Tensor) -> Tensor:
        return (self._like(self.variance, x) + 1e-8).sqrt()

    @staticmethod
    def _like(statistic: Tensor, x: Tensor) -> Tensor:
        return statistic.view(len(statistic), *[1] * (x.dim() - 2), statistic.shape[-1])


class Unchanged(nn.Module):
    """In the place of `Running` where nothing is normalised."""

    def learn(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return x

    def undo(self, x: Tensor) -> Tensor:
        return x


class Inputs(nn.Module):
    """What a network is given of observations or states: normalised if that is asked for, behind a one-hot id.

    Args:
        size: of an observation or state.
        agents: N, whose ids are put in front; 0: none.
        args: `normalise_obs` counts.
        seeds: P.
    """

    def __init__(self, size: int, agents: int, args: Any, seeds: int):
        super().__init__()
        self.agents, self.size = agents, agents + size
        self.statistics = Running(seeds, size) if args.normalise_obs else None

    def learn(self, x: Tensor) -> None:
        """Take in what was seen, [P, ..., size], if it is to be normalised."""
        if self.statistics is not None:
            self.statistics.learn(x)

    def forward(self, x: Tensor) -> Tensor:
        """[P, ..., size] -> [P, ..., size], or [P, ..., N, size] -> [P, ..., N, N + size] with ids."""
        if self.statistics is not None:
            x = self.statistics(x).clamp(-LIMIT, LIMIT)
        if not self.agents:
            return x
        agent_id = torch.eye(self.agents, dtype=x.dtype, device=x.device).expand(*x.shape[:-1], -1)
        return torch.cat([agent_id, x], -1)
