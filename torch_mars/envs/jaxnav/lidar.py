"""The LiDAR of JaxNav: 200 beams a robot, each the first of 120 samples along it that lies in a wall or a robot.

Sample k of 0..119 lies k * SPACING m from the robot's centre; k = 119, at 6 m, is also the reading of a free beam.

Walls. The original tests all 120 points. Here only those that can be the first inside a wall: the first sample behind
each of the grid lines that the beam crosses, at most 6 vertical and 6 horizontal ones before the last sample. Behind
the q-th vertical line the column is known, and a column's walls are the bits of one number, so that no beam looks into
the map.

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
        # the bits of a line of cells: half as wide where they fit, as every beam reads one for every line it crosses
        kind, self._last_bit = (torch.int16, 15) if num_cells <= 15 else (torch.int32, MOST_CELLS)
        self._bit = 1 << torch.arange(num_cells, dtype=kind, device=device)
        self._num_lines = min(MOST_LINES, num_cells - 2)
        ahead = torch.arange(1, self._num_lines + 1, device=device)
        self._near = torch.cat([ahead, -ahead, torch.zeros_like(ahead[:1])])  # from a robot's own cell
        ids = torch.arange(num_robots, device=device)
        self._others = (ids[:, None] + ids[1:]) % num_robots  # [N, N - 1]
        self._far = torch.tensor(MAX_RANGE, dtype=torch.float32, device=device)

    def read(self, pos: Tensor, cos: Tensor, sin: Tensor, map_data: Tensor) -> Tensor:
        """uint8 [B, N, V]: every beam's sample, of pos [B, N, 2] m, headings [B, N] and map_data bool [B, W, W]."""
        heading, place = torch.stack([cos, sin])[..., None], torch.stack(pos.unbind(2))  # [2, B, N, ...]: x, y
        beam = (heading * self._cos).add_(_quarter_turn(heading) * self._sin)
        sample = self._first_in_wall(place, beam, map_data)
        if len(self._others) > 1:
            sample = torch.minimum(sample, self._first_in_robot(place, heading, beam))
        return sample.to(torch.uint8)

    def _first_in_wall(self, place: Tensor, beam: Tensor, map_data: Tensor) -> Tensor:
        """float32 [B, N, V]. The leading axis of 2 holds vertical lines with columns, horizontal ones with rows.

        Line after line, a beam goes on to the next crossing for as long as it has met no wall.
        """
        cell = place.floor()
        inside, cell = (place - cell)[..., None], cell.long()
        near = self._free_cells(cell, map_data)
        step = SPACING * beam  # along the beam's axis, in a sample
        is_forward, reach, across = step > 0, step.flip(0), place.flip(0)[..., None]
        samples_per_cell = step.abs().clamp_(min=TINY).reciprocal_()
        crossing = torch.where(is_forward, 1 - inside, inside) * samples_per_cell  # of the next line, in samples
        is_free = 1
        for q in range(self._num_lines):
            if q > 0:
                crossing.addcmul_(samples_per_cell, is_free)
            sample = crossing.ceil()
            if q == 0:
                sample.clamp_(min=1)
            bit = sample.mul_(reach).add_(across).clamp_(0, self._last_bit).to(torch.uint8)
            line = torch.where(is_forward, near[..., q, None], near[..., self._num_lines + q, None])
            is_free = line.bitwise_right_shift_(bit).bitwise_and_(is_free)
        is_here_free = (near[0, ..., -1] >> cell[1].clamp(0, self._last_bit)) & 1
        first = crossing.add_(is_free, alpha=LAST).amin(0).ceil_().clamp_(1, LAST)
        return first.mul_(is_here_free[..., None])

    def _free_cells(self, cell: Tensor, map_data: Tensor) -> Tensor:
        """The lines near cells [2, B, N], with the bits of free cells set: [2, B, N, those ahead, behind, and its own].

        Outside the map lies the outermost line, which is wall.
        """
        lines = torch.stack([map_data.mT, map_data])  # columns; rows
        free = (lines * self._bit).sum(3, dtype=self._bit.dtype).bitwise_not_()
        index = (cell[..., None] + self._near).clamp_(0, lines.shape[2] - 1)
        return free.gather(2, index.flatten(2)).view(index.shape)

    def _first_in_robot(self, place: Tensor, heading: Tensor, beam: Tensor) -> Tensor:
        """float32 [B, N, V]; pairs [2, B, N, N - 1, V] hold each robot's beams as the others see them."""
        cos, sin = heading[:, :, self._others].unbind()  # [B, N, N - 1, 1]
        apart = (place[:, :, :, None] - place[:, :, self._others])[..., None]
        origin = apart * cos - _quarter_turn(apart) * sin
        direction = (beam[:, :, :, None] * cos).sub_(_quarter_turn(beam)[:, :, :, None] * sin)
        enter, leave = _slab(origin, direction)
        enter, leave = torch.maximum(*enter.unbind()), torch.minimum(*leave.unbind())
        distance = torch.where(enter >= 0, enter, leave)  # from inside, a beam meets the side where it leaves
        is_hit = leave >= enter.clamp_(min=0)
        nearest = torch.where(is_hit, distance, self._far).amin(2)
        return nearest.div_(RESOLUTION).floor_().clamp_(max=LAST)


def _quarter_turn(vector: Tensor) -> Tensor:
    """(-y, x) of vectors (x, y) [2, ...]: a quarter turn to the left."""
    return torch.stack([-vector[1], vector[0]])


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distances along the beam at which it enters and leaves |coordinate| <= HALF_SIDE."""
    inverse = direction.reciprocal_().clamp_(-1 / TINY, 1 / TINY)
    low, high = (-HALF_SIDE - origin) * inverse, (HALF_SIDE - origin) * inverse
    return torch.minimum(low, high), torch.maximum(low, high)
