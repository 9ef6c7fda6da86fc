"""New boards of Connector: wires are laid by random walks, then taken away again, so that every board has a solution.

Source: `RandomWalkGenerator` of the `jumanji` package 1.1.2, the same in distribution.

1. Wire after wire gets a start, uniform over the free cells that have a free neighbour, and its first cell, uniform
   over the start's free neighbours.
2. In W - 1 rounds all wires grow at once, each into a free neighbour, drawn with weights e^s where s is how far the
   wire has already come in that direction from its start; those without stay. Of several that want one cell, the
   highest number gets it, the others stay.
3. Starts become heads, ends become targets.

A board is a function of its key alone: 2 N + (W - 1) N words, in the order in which they are used.
"""

import torch
from torch import Tensor

from torch_mars.envs.connector.task import LARGEST, Options
from torch_mars.envs.rng import bits

EXPONENTS = 2 * Options(LARGEST, 1).walk_length + 1  # 0 .. twice the longest walk on the largest board


def weights(device: torch.device | str = "cpu") -> Tensor:
    """e^0, e^-1, ...: float64 numbers of a table, the same on every device."""
    return torch.arange(EXPONENTS, dtype=torch.float64, device="cpu").neg().exp().to(device)


def draw_boards(rng: Tensor, options: Options, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cells of heads and of targets, int64 [B, N] row by row on the G x G board; and the keys moved on.

    Args:
        rng: int64 [B].
        table: `weights` on the device of rng.
    """
    G, N, rounds = options.grid_size, options.num_agents, options.walk_length - 1
    words, rng = bits(rng, (2 + rounds) * N)
    occupied = _walled(len(rng), G, rng.device)
    start, position, occupied = _place(words[:, : 2 * N].unflatten(1, (N, 2)), occupied, G)
    for round_words in words[:, 2 * N :].unflatten(1, (rounds, N)).unbind(1):
        position, occupied = _walk(round_words, start, position, occupied, G, table)
    return _on_board(start, G), _on_board(position, G), rng


def _walled(count: int, G: int, device: torch.device) -> Tensor:
    """bool [B, (G + 2)^2]: only the wall around the board is occupied."""
    occupied = torch.ones(count, G + 2, G + 2, dtype=torch.bool, device=device)
    occupied[:, 1:-1, 1:-1] = False
    return occupied.flatten(1)


def _on_board(cell: Tensor, G: int) -> Tensor:
    """The number of a cell of the walled board on the board itself."""
    return (cell // (G + 2) - 1) * G + cell % (G + 2) - 1


def _steps(G: int, device: torch.device) -> Tensor:
    """int64 [4]: what up, right, down and left add to a cell of the walled board."""
    # no torch.tensor: a device would wait for numbers of Python's
    axis = torch.arange(4, device=device)
    length = torch.where(axis % 2 == 0, G + 2, 1)
    return torch.where((axis == 0) | (axis == 3), -length, length)


def _place(words: Tensor, occupied: Tensor, G: int) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and first cells [B, N] of the walled board, by words [B, N, 2], and what is occupied then."""
    steps = _steps(G, words.device)
    around = torch.arange(occupied.shape[1], device=words.device)[:, None] + steps  # beyond the ends: of no free cell
    around = around.clamp(0, occupied.shape[1] - 1).flatten()
    starts, firsts = [], []
    for start_word, first_word in (pair.unbind(1) for pair in words.unbind(1)):
        has_way = ~occupied.index_select(1, around).unflatten(1, (-1, 4)).all(2)
        start = _nth_of(~occupied & has_way, start_word)
        ways = ~occupied.gather(1, start[:, None] + steps)
        first = start + steps[_nth_of(ways, first_word)]
        occupied = occupied.scatter(1, torch.stack([start, first], 1), True)
        starts.append(start)
        firsts.append(first)
    return torch.stack(starts, 1), torch.stack(firsts, 1), occupied


def _nth_of(marked: Tensor, word: Tensor) -> Tensor:
    """One of the marked of bool [B, K], each equally likely, by a word [B]: int64 [B]."""
    cumulative = marked.cumsum(1)
    upper = (word >> 32) & 0xFFFFFFFF
    chosen = (upper * cumulative[:, -1]) >> 32
    return (cumulative <= chosen[:, None]).sum(1).clamp(max=marked.shape[1] - 1)


def _walk(words: Tensor, start: Tensor, position: Tensor, occupied: Tensor, G: int, table: Tensor):
    """One round of all walkers, by words [B, N]: positions and what is occupied then."""
    steps = _steps(G, words.device)
    around = position[..., None] + steps  # [B, N, 4]
    is_free = ~occupied.gather(1, around.flatten(1)).view(around.shape)
    down = position // (G + 2) - start // (G + 2)
    right = position % (G + 2) - start % (G + 2)
    progress = torch.stack([-down, right, down, -right], 2)
    weight = table[progress.amax(2, keepdim=True) - progress] * is_free
    up_to = [weight[..., 0]]
    for way in range(1, 4):  # one after another: sums in another order would be other numbers
        up_to.append(up_to[-1] + weight[..., way])
    drawn = ((words >> 40) & 0xFFFFFF).double() * 2.0**-24 * up_to[-1]
    way = sum((total <= drawn).long() for total in up_to[:-1])
    wanted = torch.where(is_free.any(2), position + steps[way], position)
    position = torch.where(is_beaten(wanted, position), position, wanted)
    return position, occupied.scatter(1, position, True)


def is_beaten(wanted: Tensor, position: Tensor) -> Tensor:
    """bool [B, N]: a higher number that moves wants the same cell."""
    N = wanted.shape[1]
    is_higher = torch.ones(N, N, dtype=torch.bool, device=wanted.device).triu(1)
    meets = (wanted[:, :, None] == wanted[:, None]) & (wanted != position)[:, None]
    return (meets & is_higher).any(2)
