"""Memory for P seeds side by side: a gated recurrent unit (Cho et al. 2014) in the form of `torch.nn.GRU`.

It starts as Flax's does: of the memory every gate is orthogonal by itself, so that none forgets faster than another.
"""

import math

import torch
from torch import Tensor, nn

from torch_mars.nn.layers import Linear


class GRU(nn.Module):
    """P recurrent layers, one per seed.

    Args:
        inputs, hidden: sizes of one seed's layer.
        generators: P of them, one per seed.
        agents: N, each with weights of its own; 0: the same for all.
    """

    def __init__(self, inputs: int, hidden: int, generators: list[torch.Generator], agents: int = 0):
        super().__init__()
        # reset, update, candidate
        self.of_input = Linear(inputs, 3 * hidden, 1.0, generators, agents, start=_lecun_normal)
        self.of_memory = Linear(hidden, 3 * hidden, 1.0, generators, agents, start=_orthogonal_gates)

    def forward(self, x: Tensor, memory: Tensor, is_start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is remembered after every step, and after the last one.

        Args:
            x: [P, S, L, ..., inputs], S sequences of L steps.
            memory: [P, S, ..., H], from before the first step.
            is_start: bool [P, S, L], a step that begins an episode: nothing is remembered from before it.

        Returns:
            [P, S, L, ..., H], and [P, S, ..., H].
        """
        of_input = self.of_input.by_rows(self.of_input, x)
        found = []
        for step, (reset, update, candidate) in enumerate(_gates(of_input, 2)):
            if is_start is not None:
                memory = forgotten(memory, is_start[:, :, step])
            of_memory = self.of_memory.by_rows(self.of_memory, memory)
            its_reset, its_update, its_candidate = of_memory.chunk(3, -1)
            candidate = torch.tanh(torch.addcmul(candidate, torch.sigmoid(reset + its_reset), its_candidate))
            memory = torch.lerp(candidate, memory, torch.sigmoid(update + its_update))
            found.append(memory)
        return torch.stack(found, 2), memory


def forgotten(memory: Tensor, is_start: Tensor) -> Tensor:
    """Memory [..., H] with zeros, the memory at the start of an episode, where `is_start` (its first axes) holds."""
    return memory.masked_fill(is_start.view(*is_start.shape, *[1] * (memory.dim() - is_start.dim())), 0.0)


def _lecun_normal(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """Weights [outputs, inputs] of variance gain^2 / inputs, none beyond two deviations of the normal that is cut."""
    deviation = gain / math.sqrt(weight.shape[1]) / 0.8796256610342398  # that of a standard normal cut at -2 and 2
    return nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)


def _orthogonal_gates(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    for gate in weight.chunk(3):
        nn.init.orthogonal_(gate, gain, generator=generator)
    return weight


def _gates(values: Tensor, axis: int) -> list[tuple[Tensor, ...]]:
    """[..., 3 H] of every step along an axis, in three parts [..., H]."""
    return [step.chunk(3, -1) for step in values.unbind(axis)]
