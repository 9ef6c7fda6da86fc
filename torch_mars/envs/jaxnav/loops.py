"""`lidar.py` beam by beam, as loops compiled with numba: several times faster on CPU, as a beam ends at its first hit.

Every number is float32 and rounded in the order of `lidar.py`, so that both read the same to the last bit.
"""

import numpy as np
from numba import njit

F = np.float32
ZERO, ONE = F(0), F(1)


@njit(cache=True, nogil=True, error_model="numpy")
def read(pos, cos, sin, map_data, beam_cos, beam_sin, constants, samples):
    """Write every beam's sample.

    Args:
        pos: float32 [B, N, 2]. cos, sin: float32 [B, N] of the headings. map_data: bool [B, W, W].
        beam_cos, beam_sin: float32 [V] of the beams' bearings.
        constants: float32 (last sample, spacing, range, resolution of robots, half side, tiny number).
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
                sample = constants[0]
                sample = _first_in_wall(pos[b, i, 0], pos[b, i, 1], x, y, map_data[b], False, constants, sample)
                sample = _first_in_wall(pos[b, i, 1], pos[b, i, 0], y, x, map_data[b], True, constants, sample)
                for j in range(pos.shape[1]):
                    if j != i:
                        apart_x, apart_y = pos[b, i, 0] - pos[b, j, 0], pos[b, i, 1] - pos[b, j, 1]
                        sample = _first_in_robot(apart_x, apart_y, x, y, cos[b, j], sin[b, j], constants, sample)
                samples[b, i, v] = int(sample)


@njit(cache=True, nogil=True, error_model="numpy")
def _is_wall(map_data, row, column):
    """Outside the map, columns count as the outermost one, and so do rows below it; above it is nothing."""
    size = len(map_data)
    row, column = max(row, 0), min(max(column, 0), size - 1)
    return row < size and map_data[row, column]


@njit(cache=True, nogil=True, error_model="numpy")
def _first_in_wall(place, across, along, aside, map_data, are_rows, constants, nearest):
    """The first sample behind a grid line that is in a wall, if nearer than `nearest`.

    The lines are crossed going `along` from `place`; beside them the beam goes `aside` from `across`.
    """
    spacing, tiny = constants[1], constants[5]
    size = len(map_data)
    cell = np.floor(place)
    samples_per_cell = ONE / max(spacing * abs(along), tiny)
    inside = place - cell
    crossing = (ONE - inside if along > ZERO else inside) * samples_per_cell
    reach = spacing * aside
    line, way = int(cell), 1 if along > ZERO else -1
    while True:
        sample = max(np.ceil(crossing), ONE)
        if sample >= nearest:
            return nearest
        line = line + way
        lane = int(min(max(across + sample * reach, ZERO), F(size)))
        outer = min(max(line, 0), size - 1)
        if lane < size and (map_data[outer, lane] if are_rows else map_data[lane, outer]):
            return sample
        crossing = crossing + samples_per_cell


@njit(cache=True, nogil=True, error_model="numpy")
def _first_in_robot(apart_x, apart_y, x, y, cos, sin, constants, nearest):
    """The sample at the side of another robot, if nearer than `nearest`; `apart` is from it to the LiDAR."""
    last, reach, resolution, half_side, tiny = constants[0], constants[2], constants[3], constants[4], constants[5]
    radius = F(1.5) * half_side  # of a circle around the robot: most beams miss it
    ahead, aside = -(apart_x * x + apart_y * y), apart_x * y - apart_y * x
    if abs(aside) > radius or ahead < -radius or ahead > reach + radius:
        return nearest
    along_x, along_y = x * cos + y * sin, y * cos - x * sin
    inverse_x = ONE / (tiny if abs(along_x) < tiny else along_x)
    inverse_y = ONE / (tiny if abs(along_y) < tiny else along_y)
    centre_x, half_x = -(apart_x * cos + apart_y * sin) * inverse_x, half_side * abs(inverse_x)
    centre_y, half_y = -(apart_y * cos - apart_x * sin) * inverse_y, half_side * abs(inverse_y)
    enter = max(centre_x - half_x, centre_y - half_y)
    leave = min(centre_x + half_x, centre_y + half_y)
    distance = enter if enter >= ZERO else leave
    if leave >= enter and leave >= ZERO and distance <= reach:
        return min(nearest, min(np.floor(distance / resolution), last))
    return nearest
