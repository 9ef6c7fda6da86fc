"""`lidar.py` beam by beam, as loops: several times faster on CPU, as a beam ends at its first hit.

The functions of `lidar.py` by the same names, in the same order. Every number is float32 and rounded in the order of
`lidar.py`, so that both read the same to the last bit. Whatever the floats are, every loop ends and no index leaves the
map.

Axes: B environments, N robots, V beams, W cells along a side of the map.
"""

import numpy as np

from torch_mars.envs.jaxnav.task import HALF_SIDE, LAST, MAX_RANGE, RESOLUTION, SPACING, TINY
from torch_mars.envs.loops import compiled

F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
_LAST, _SPACING, _MAX_RANGE, _RESOLUTION = map(F, (LAST, SPACING, MAX_RANGE, RESOLUTION))
_HALF_SIDE, _TINY, _ZERO, _ONE = map(F, (HALF_SIDE, TINY, 0, 1))
_MOST_LINES = int(MAX_RANGE) + 3  # that a beam crosses; one more, and another for rounding
_AROUND = F(1.5) * _HALF_SIDE  # radius of a circle around a robot: most beams miss it


@compiled
def read(pos, cos, sin, map_data, beam_cos, beam_sin, samples):
    """Write every beam's sample.

    Args:
        pos: float32 [B, N, 2]. cos, sin: float32 [B, N] of the headings. map_data: bool [B, W, W].
        beam_cos, beam_sin: float32 [V] of the beams' bearings.
        samples: uint8 [B, N, V], the result.
    """
    for b in range(pos.shape[0]):
        for i in range(pos.shape[1]):
            for v in range(len(beam_cos)):
                x = cos[b, i] * beam_cos[v] - sin[b, i] * beam_sin[v]
                y = sin[b, i] * beam_cos[v] + cos[b, i] * beam_sin[v]
                if _is_wall(map_data[b], int(np.floor(pos[b, i, 1])), int(np.floor(pos[b, i, 0]))):
                    samples[b, i, v] = 0
                    continue
                sample = _LAST
                sample = _first_in_wall(pos[b, i, 0], pos[b, i, 1], x, y, map_data[b], False, sample)
                sample = _first_in_wall(pos[b, i, 1], pos[b, i, 0], y, x, map_data[b], True, sample)
                for j in range(pos.shape[1]):
                    if j != i:
                        apart_x, apart_y = pos[b, i, 0] - pos[b, j, 0], pos[b, i, 1] - pos[b, j, 1]
                        sample = _first_in_robot(apart_x, apart_y, x, y, cos[b, j], sin[b, j], sample)
                samples[b, i, v] = int(sample)


@compiled
def _first_in_wall(place, across, along, aside, map_data, are_rows, nearest):
    """The first sample behind a grid line that is in a wall, if nearer than `nearest`.

    The lines are crossed going `along` from `place`; beside them the beam goes `aside` from `across`.
    """
    size = len(map_data)
    cell = np.floor(place)
    samples_per_cell = _ONE / max(_SPACING * abs(along), _TINY)
    inside = place - cell
    crossing = (_ONE - inside if along > _ZERO else inside) * samples_per_cell
    reach = _SPACING * aside
    line, way = int(cell), 1 if along > _ZERO else -1
    for _ in range(_MOST_LINES):
        sample = max(np.ceil(crossing), _ONE)
        if sample >= nearest:
            return nearest
        line = line + way
        lane = max(int(min(max(across + sample * reach, _ZERO), F(size))), 0)  # again, as nan may be any int
        outer = min(max(line, 0), size - 1)
        if lane < size and (map_data[outer, lane] if are_rows else map_data[lane, outer]):
            return sample
        crossing = crossing + samples_per_cell
    return nearest


@compiled
def _first_in_robot(apart_x, apart_y, x, y, cos, sin, nearest):
    """The sample at the side of another robot, if nearer than `nearest`; `apart` is from it to the LiDAR."""
    ahead, aside = -(apart_x * x + apart_y * y), apart_x * y - apart_y * x
    if abs(aside) > _AROUND or ahead < -_AROUND or ahead > _MAX_RANGE + _AROUND:
        return nearest
    enter_x, leave_x = _slab(apart_x * cos + apart_y * sin, x * cos + y * sin)
    enter_y, leave_y = _slab(apart_y * cos - apart_x * sin, y * cos - x * sin)
    enter, leave = max(enter_x, enter_y), min(leave_x, leave_y)
    distance = enter if enter >= _ZERO else leave
    if leave >= enter and leave >= _ZERO and distance <= _MAX_RANGE:
        return min(nearest, min(np.floor(distance / _RESOLUTION), _LAST))
    return nearest


@compiled
def _is_wall(map_data, row, column):
    """Outside the map, columns count as the outermost one, and so do rows below it; above it is nothing."""
    size = len(map_data)
    row, column = max(row, 0), min(max(column, 0), size - 1)
    return row < size and map_data[row, column]


@compiled
def _slab(origin, direction):
    """Distances along the beam at which it enters and leaves |coordinate| <= HALF_SIDE."""
    inverse = _ONE / (_TINY if abs(direction) < _TINY else direction)
    centre, half = -origin * inverse, _HALF_SIDE * abs(inverse)
    return centre - half, centre + half
