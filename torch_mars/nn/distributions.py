"""Policies over actions: `Categorical` where they are numbered, `TanhNormal` where they are continuous.

Both take their random numbers from outside (`torch_mars.envs.rng`), so that a draw can be repeated.
"""

from functools import partial

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_mars.envs import rng
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import may_look
from torch_mars.nn import world
from torch_mars.run.cli import UsageError


class Categorical:
    """A policy over A actions of which some may be forbidden: logits [..., A], mask [..., A] or None."""

    def __init__(self, logits: Tensor, mask: Tensor | None):
        self.mask = mask
        if mask is not None:
            logits = torch.where(mask, logits, scalar(-1e9, logits))  # finite: -inf would give nan in p log p
        self.log_probs = logits.log_softmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """By inversion of one uniform number per agent.

        The first action whose cumulative probability is above the number. Sums are rounded, on a GPU in another order:
        so the mask decides what is allowed, and where no sum is above, it is the last action that added to it.
        """
        cumulative = _running_sums(self.log_probs.exp())
        drawn = noise[..., None] * cumulative[..., -1:]
        if may_look(noise):  # the same for less, as long as the sums grow
            action = (cumulative <= drawn).sum(-1)
            if self._are_allowed(action):
                return action
        is_above = torch.where(cumulative > drawn, scalar(2.0, drawn), cumulative)
        return self._of_allowed(is_above).argmax(-1)  # the first of several

    def mode(self) -> Tensor:
        return self._of_allowed(self.log_probs).argmax(-1)

    def _are_allowed(self, actions: Tensor) -> bool:
        last = self.log_probs.shape[-1] - 1
        is_allowed = actions <= last
        if self.mask is not None:
            mask = self.mask.expand_as(self.log_probs)
            is_allowed &= mask.gather(-1, actions.clamp(max=last)[..., None]).squeeze(-1)
        return bool(is_allowed.all())

    def _of_allowed(self, values: Tensor) -> Tensor:
        """Values of actions [..., A] with less than any for the forbidden ones."""
        return values if self.mask is None else torch.where(self.mask, values, scalar(-torch.inf, values))

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action[..., None]).squeeze(-1)

    def entropy(self, noise: None = None) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


def _running_sums(values: Tensor) -> Tensor:
    """Over the last axis. A GPU takes a tenth of the time where the rows lie side by side."""
    if values.device.type == "cpu":
        return values.cumsum(-1)
    return values.movedim(-1, 0).contiguous().cumsum(0).movedim(0, -1)


class TanhNormal:
    """tanh of a normal: actions [..., d] in [-1, 1]. Beyond +-0.999 the density is the mean density of that tail."""

    EDGE = 0.999
    FAR = 1e13  # between an action and the mean, before the tanh: squares of it in least deviations are finite

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
        above = _log_ndtr(self._deviations(self.mean - u_edge))
        below = _log_ndtr(self._deviations(-u_edge - self.mean))
        tail = torch.where(action > 0, above, below) - torch.log1p(-edge)
        return torch.where(action.abs() < self.EDGE, density, tail).sum(-1)

    def entropy(self, noise: Tensor) -> Tensor:
        """Of the normal, exactly, plus the tanh's part estimated at one reparameterised sample."""
        u = self.mean + self.std * noise
        normal = 0.5 + 0.5 * torch.log(2 * torch.pi * self.std.square())
        return (normal + _log_tanh_slope(u)).sum(-1)

    def _normal(self, u: Tensor) -> Tensor:
        return -0.5 * self._deviations(u - self.mean).square() - torch.log(self.std * (2 * torch.pi) ** 0.5)

    def _deviations(self, way: Tensor) -> Tensor:
        """A way before the tanh, in standard deviations."""
        return way.clamp(-self.FAR, self.FAR) / self.std


def _log_ndtr(x: Tensor) -> Tensor:
    """log of the normal distribution up to x, whose slope is finite as far out as squares are.

    PyTorch's own slope is a quotient of numbers that underflow: nan from x = -1e4 or so.
    """
    if not x.requires_grad:
        return torch.special.log_ndtr(x)
    value = x.detach()
    far = 0.7978845608028654 / torch.special.erfcx(value.clamp(max=0) * -(0.5**0.5))  # (2 / pi)^(1/2)
    near = torch.exp(-0.5 * value.square()) * 0.3989422804014327 / torch.special.ndtr(value.clamp(min=-1))
    slope = torch.where(value < 0, far, near)
    return torch.special.log_ndtr(value) + slope * (x - value)


def _log_tanh_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), accurate for large |u|."""
    return 2 * (0.6931471805599453 - u - F.softplus(-2 * u))


class Policy(nn.Module):
    """What the outputs of a policy's network mean for an action space, for P seeds side by side.

    Args:
        action_space: of one agent; Discrete: the outputs are logits, Box: means, beside deviations that are learned.
        seeds: P.
        agents: N, each with deviations of its own; 0: the same for all.

    Attributes:
        outputs: of the network, for one agent.
        action_shape: of one agent's action.
    """

    def __init__(self, action_space: gymnasium.Space, seeds: int, agents: int = 0):
        super().__init__()
        self.is_discrete = hasattr(action_space, "n")
        if not self.is_discrete and not action_space.is_bounded():
            raise UsageError(f"actions are {action_space}; a policy can be trained where a Box has bounds on all sides")
        self.outputs = int(action_space.n) if self.is_discrete else action_space.shape[0]
        self.action_shape = () if self.is_discrete else (self.outputs,)
        if not self.is_discrete:
            shape = (seeds, agents, self.outputs) if agents else (seeds, self.outputs)
            self.log_std = nn.Parameter(torch.zeros(shape, dtype=torch.float32, device="cpu"))
            self.register_buffer("low", torch.from_numpy(action_space.low), persistent=False)
            self.register_buffer("high", torch.from_numpy(action_space.high), persistent=False)

    def distribution(self, output: Tensor, mask: Tensor | None) -> Categorical | TanhNormal:
        """From the network's output [P, ..., N, A or d], and the mask [P, ..., N, A] or None."""
        if self.is_discrete:
            return Categorical(output, mask)
        P, d = output.shape[0], output.shape[-1]
        return TanhNormal(output, self.log_std.view(P, *[1] * (output.dim() - 3), -1, d))

    def noise(self, key: Tensor, *shape: int, axis: int = 0) -> tuple[Tensor, Tensor]:
        """Random numbers [P, *shape] as `sample` and `entropy` want them, from keys [P]; and the keys moved on.

        Of several ranks each has a block along `axis` of what all draw.
        """
        draw = partial(rng.in_pieces, rng.uniform if self.is_discrete else rng.normal)
        return world.drawn(draw, key, *shape, *self.action_shape, axis=axis)

    def to_env(self, action: Tensor) -> Tensor:
        """[P, B, N, ...] -> [P * B, N, ...], in the bounds of the environment."""
        action = action.flatten(0, 1)
        if self.is_discrete:
            return action
        return self.low + (action.nan_to_num() + 1) / 2 * (self.high - self.low)  # nan: of a seed that has diverged
