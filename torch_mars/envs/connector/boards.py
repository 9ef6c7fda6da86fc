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

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_mars.envs.connector.task import LARGEST, Options
from torch_mars.envs.rng import bits

EXPONENTS = 2 * Options(LARGEST, 1).walk_length + 1  # 0 .. twice the longest walk on the largest board


def weights() -> Tensor:
    """e^0, e^-1, ...: float64 numbers of a table."""
    return torch.arange(EXPONENTS, dtype=torch.float64, device="cpu").neg().exp()


@dataclass
class Tables:
    """What the tensors look up, on their device; of the walled board: side S = G + 2, L = S x S cells, row by row.

    A place is a cell, and the way there from the wire's start as a row of `up_to`.
    """

    free: Tensor  # bool [L]: all but the wall
    around: Tensor  # int64 [4 L]: the cells up, right, down and left of every cell; beyond the ends any
    steps: Tensor  # int64 [5, 2]: what up, right, down, left and staying add to a place
    origin: Tensor  # int64 []: the row of a start
    bits: Tensor  # int8 [4]: what each of the four ways adds to the row if it is free
    up_to: Tensor  # float64 [rows, 4]: sums of the weights of the free ways
    is_higher: Tensor  # bool [N, N]: j than i
    on_board: Tensor  # int64 [L]: the numbers of the cells on the board itself


def tables(options: Options, device: torch.device | str) -> Tables:
    side, N = options.grid_size + 2, options.num_agents
    cell = torch.arange(side * side, device="cpu")
    row, column = cell // side, cell % side
    is_inside = (row % (side - 1) != 0) & (column % (side - 1) != 0)
    steps = torch.tensor([(-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)], device="cpu")
    strides = torch.tensor([(side, 16 * 2 * side), (1, 16)], device="cpu")
    around = (cell[:, None] + (steps @ strides)[:4, 0]).clamp(0, side * side - 1)
    on_board = (row - 1) * options.grid_size + column - 1
    is_higher = torch.ones(N, N, dtype=torch.bool, device="cpu").triu(1)
    found = Tables(
        free=is_inside,
        around=around.flatten(),
        steps=steps @ strides,
        origin=16 * torch.tensor(2 * side * side + side, device="cpu"),
        bits=torch.tensor([1, 2, 4, 8], dtype=torch.int8, device="cpu"),
        up_to=_up_to(side).flatten(0, 1),
        is_higher=is_higher,
        on_board=on_board,
    )
    return Tables(**{name: tensor.to(device) for name, tensor in vars(found).items()})


def _up_to(side: int) -> Tensor:
    """float64 [(2 S)^2, 16, 4]: by how far a wire has come down and to the right, and by which ways are free."""
    way = torch.arange(-side, side, device="cpu")
    down, right = way.repeat_interleave(2 * side), way.repeat(2 * side)
    progress = torch.stack([-down, right, down, -right], 1)
    is_free = torch.arange(16, device="cpu")[:, None] >> torch.arange(4, device="cpu") & 1
    up_to = weights()[progress.amax(1, keepdim=True) - progress][:, None] * is_free
    for k in range(1, 4):  # one after another: sums in another order would be other numbers
        up_to[..., k] += up_to[..., k - 1]
    return up_to


def draw_boards(rng: Tensor, options: Options, tables: Tables) -> tuple[Tensor, Tensor]:
    """Cells of heads and of targets, int64 [2, B, N] row by row on the G x G board; and the keys rng [B] moved on."""
    N, rounds = options.num_agents, options.walk_length - 1
    words, rng = bits(rng, (2 + rounds) * N)
    start, place, free = _place(_drawn(words[:, : 2 * N], 32).unflatten(1, (N, 2)), tables)
    for drawn in _drawn(words[:, 2 * N :], 24).unflatten(1, (rounds, N)).unbind(1):
        place, free = _walk(drawn, place, free, tables)
    return tables.on_board[torch.stack([start, place[..., 0]])], rng


def _drawn(words: Tensor, count: int) -> Tensor:
    """float64 in [0, 1): so many of the upper bits of every word."""
    return ((words >> 64 - count) & (1 << count) - 1).double().mul_(2.0**-count)


def _place(drawn: Tensor, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
    """Starts [B, N] and first places [B, N, 2], by numbers [B, N, 2] in [0, 1), and the cells [B, L] still free."""
    free = tables.free.repeat(len(drawn), 1)
    starts, ways = [], []
    for for_start, for_way in (pair.split(1, 1) for pair in drawn.unbind(1)):
        has_way = free.index_select(1, tables.around).unflatten(1, (-1, 4)).any(2)
        start = _nth_of(has_way.logical_and_(free), for_start)
        around = start + tables.steps[:4, 0]
        way = _nth_of(free.gather(1, around), for_way)
        free.scatter_(1, torch.cat([start, around.gather(1, way)], 1), False)
        starts.append(start)
        ways.append(way)
    start = torch.cat(starts, 1)
    place = torch.stack([start, tables.origin.expand_as(start)], 2) + tables.steps[torch.cat(ways, 1)]
    return start, place, free


def _nth_of(marked: Tensor, drawn: Tensor) -> Tensor:
    """One of the marked of bool [B, K], each equally likely, by a number [B, 1] in [0, 1): int64 [B, 1]."""
    cumulative = marked.cumsum(1)
    return (cumulative[:, :-1] <= drawn * cumulative[:, -1:]).sum(1, keepdim=True)


def _walk(drawn: Tensor, place: Tensor, free: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """One round of all walkers, by numbers [B, N] in [0, 1): their places [B, N, 2], and the free cells, changed."""
    cell, row = place.unbind(2)
    around = cell[..., None] + tables.steps[:4, 0]  # [B, N, 4]
    is_free = free.gather(1, around.flatten(1)).view(around.shape)
    up_to = tables.up_to[row + (is_free * tables.bits).sum(2)]
    way = (up_to <= drawn[..., None] * up_to[..., 3:]).sum(2)  # the fifth, staying, if none is free
    wanted = place + tables.steps[way]
    place = torch.where(is_beaten(wanted[..., 0], tables)[..., None], place, wanted)
    return place, free.scatter_(1, place[..., 0], False)


def is_beaten(wanted: Tensor, tables: Tables) -> Tensor:
    """bool [B, N]: a higher number wants the same cell (whoever stays is the only one who may)."""
    return (wanted[:, :, None] == wanted[:, None]).logical_and_(tables.is_higher).any(2)
