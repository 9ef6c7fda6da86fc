"""The LiDAR of JaxNav: 200 beams a robot, each the first of 120 samples along it that lies in a wall or a robot.

Sample k of 0..119 lies k * SPACING m from the robot's centre; k = 119, at 6 m, is also the reading of a free beam.

Walls. The original tests all 120 points. Here only those that can be the first inside a wall: the first sample behind
each of the grid lines that the beam crosses, at most 7 vertical and 7 horizontal ones in 6 m. Behind the q-th vertical
line the column is known, and a column's walls are the bits of one number, so that no beam looks into the map.

Robots. The beam is turned into the other robot's frame, where its square is two slabs, |x| <= h and |y| <= h.

The LiDAR's numbers are in `task.py`.

Axes: B environments, N robots, V beams, W cells along a side of the map.
"""

import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.jaxnav.task import (
    BEARINGS,
    HALF_SIDE,
    LAST,
    MAX_RANGE,
    MOST_CELLS,
    MOST_LINES,
    RESOLUTION,
    SPACING,
    TINY,
)


class Lidar:
    """The constants of a team's beams."""

    def __init__(self, num_robots: int, num_cells: int, device: torch.device):
        self._cos = torch.tensor(np.cos(BEARINGS), dtype=torch.float32, device=device)
        self._sin = torch.tensor(np.sin(BEARINGS), dtype=torch.float32, device=device)
        self._bit = 1 << torch.arange(num_cells, device=device)
        self._num_lines = min(MOST_LINES, num_cells - 2)
        ids = torch.arange(num_robots, device=device)
        self._others = (ids[:, None] + ids[1:]) % num_robots  # [N, N - 1]

    def read(self, pos: Tensor, cos: Tensor, sin: Tensor, map_data: Tensor) -> Tensor:
        """uint8 [B, N, V]: every beam's sample, of pos [B, N, 2] m, headings [B, N] and map_data bool [B, W, W]."""
        cos, sin = cos[..., None], sin[..., None]
        beam_x, beam_y = cos * self._cos - sin * self._sin, sin * self._cos + cos * self._sin
        sample = self._first_in_wall(pos, beam_x, beam_y, map_data)
        if len(self._others) > 1:
            sample = torch.minimum(sample, self._first_in_robot(pos, cos, sin, beam_x, beam_y))
        return sample.to(torch.uint8)

    def _first_in_wall(self, pos: Tensor, beam_x: Tensor, beam_y: Tensor, map_data: Tensor) -> Tensor:
        """float32 [B, N, V]. The leading axis of 2 holds vertical lines with columns, horizontal ones with rows."""
        along = torch.stack([beam_x, beam_y])  # across the lines
        place = torch.stack([pos[..., 0], pos[..., 1]])  # [2, B, N]
        columns = (map_data * self._bit[:, None]).sum(1)  # bit y of columns[b, x]
        rows = (map_data * self._bit).sum(2)
        walls = torch.stack([columns, rows]).int()  # [2, B, W]

        cell = place.floor()
        is_forward = along > 0
        samples_per_cell = 1 / (SPACING * along.abs()).clamp(min=TINY)
        inside = (place - cell)[..., None]
        crossing = torch.where(is_forward, 1 - inside, inside) * samples_per_cell  # of line q, in samples
        cell = cell.long()
        across, reach = place.flip(0)[..., None], SPACING * along.flip(0)
        first = torch.full_like(along, LAST)
        for q in range(1, self._num_lines + 1):
            sample = crossing.ceil().clamp(1, LAST)
            bit = (across + sample * reach).clamp(0, MOST_CELLS).int()
            ahead = torch.where(is_forward, _line(walls, cell + q), _line(walls, cell - q))
            is_wall = (ahead >> bit & 1).bool()
            first = torch.where(is_wall, torch.minimum(first, sample), first)
            crossing = crossing + samples_per_cell
        own = (_line(walls, cell)[0] >> cell[1].clamp(0, MOST_CELLS)[..., None]) & 1
        return first.amin(0) * (1 - own)

    def _first_in_robot(self, pos: Tensor, cos: Tensor, sin: Tensor, beam_x: Tensor, beam_y: Tensor) -> Tensor:
        """float32 [B, N, V]; pairs [B, N, N - 1, V] hold each robot's beams as the others see them."""
        cos, sin = cos[:, self._others], sin[:, self._others]  # [B, N, N - 1, 1]
        apart = pos[:, :, None] - pos[:, self._others]
        x, y = apart[..., :1], apart[..., 1:]
        enter_x, leave_x = _slab(x * cos + y * sin, beam_x[:, :, None] * cos + beam_y[:, :, None] * sin)
        enter_y, leave_y = _slab(y * cos - x * sin, beam_y[:, :, None] * cos - beam_x[:, :, None] * sin)
        enter, leave = torch.maximum(enter_x, enter_y), torch.minimum(leave_x, leave_y)
        distance = torch.where(enter >= 0, enter, leave)  # from inside, a beam meets the side where it leaves
        is_hit = (leave >= enter) & (leave >= 0) & (distance <= MAX_RANGE)
        sample = (distance / RESOLUTION).floor().clamp(max=LAST)
        return torch.where(is_hit, sample, LAST).amin(2)


def _line(walls: Tensor, index: Tensor) -> Tensor:
    """The lines' bits for an axis of beams: [2, B, N, 1]; outside the map the outermost line, which is wall."""
    return walls.gather(2, index.clamp(0, walls.shape[2] - 1))[..., None]


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distances along the beam at which it enters and leaves |coordinate| <= HALF_SIDE."""
    inverse = 1 / torch.where(direction.abs() < TINY, TINY, direction)
    centre, half = -origin * inverse, HALF_SIDE * inverse.abs()
    return centre - half, centre + half
