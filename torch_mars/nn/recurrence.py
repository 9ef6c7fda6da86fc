"""Memory for P seeds side by side: a gated recurrent unit (Cho et al. 2014) in the form of `torch.nn.GRU`."""

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
        self.of_input = Linear(inputs, 3 * hidden, 1.0, generators, agents)  # reset, update, candidate
        self.of_memory = Linear(hidden, 3 * hidden, 1.0, generators, agents)

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


def _gates(values: Tensor, axis: int) -> list[tuple[Tensor, ...]]:
    """[..., 3 H] of every step along an axis, in three parts [..., H]."""
    return [step.chunk(3, -1) for step in values.unbind(axis)]
