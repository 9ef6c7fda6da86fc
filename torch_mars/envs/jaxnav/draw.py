"""Pictures of JaxNav: walls, robots with their headings, goals, what the LiDAR meets, and the ways driven."""

import math
from collections.abc import Sequence

import numpy as np

from torch_mars.envs.canvas import INK, PAPER, WALL, Canvas, colour_of, summary
from torch_mars.envs.jaxnav.task import HALF_SIDE, LAST, NUM_BEAMS, SPACING

SIZE = 512  # pixels: width and height of the map
HEADER = 28  # pixels above it for the text
EVERY = 4  # beams: one of them is drawn
ARRIVED = (24, 150, 60)


def draw(goal_radius: float, state, index: int, trail: Sequence) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a NavState, with the ways driven through the states of `trail`."""
    map_data = state.map_data[index].cpu().numpy()
    cells = len(map_data)
    canvas = Canvas(SIZE, SIZE + HEADER)
    floor = canvas.world((0, HEADER + SIZE), SIZE / cells)
    floor.grid((0, 0), (cells, cells), 1)
    pos, theta, goal, beams = (getattr(state, name)[index].cpu().numpy() for name in ("pos", "theta", "goal", "beams"))
    colours = [colour_of(i) for i in range(len(pos))]

    bearing = np.linspace(-math.pi, math.pi, NUM_BEAMS) + theta[:, None]  # [N, V]
    ends = pos[:, None] + SPACING * beams[..., None] * _ahead(bearing)
    for at, points, colour in zip(pos, ends, colours):
        for end in points[::EVERY]:
            floor.line([at, end], (*colour, 60), 0.8)
    for y, x in np.argwhere(map_data):
        floor.cell((x, y), WALL)
    for points, samples, colour in zip(ends, beams, colours):
        for end in points[samples < LAST][::EVERY]:
            floor.disc(end, 0.05, colour)

    for i, colour in enumerate(colours):
        floor.line([*(past.pos[index, i].tolist() for past in trail), pos[i]], (*colour, 200), 2)
        floor.line([pos[i], goal[i]], (*colour, 130))
        floor.disc(goal[i], goal_radius, (*colour, 40), colour, 2)
        floor.cross(goal[i], 0.12, colour, 2)
    is_crashed, has_arrived = (getattr(state, name)[index].tolist() for name in ("crashed", "goal_reached"))
    for i, (at, ahead, colour) in enumerate(zip(pos, _ahead(theta), colours)):
        left = np.array([-ahead[1], ahead[0]])
        corners = [at + HALF_SIDE * (a * ahead + b * left) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        floor.polygon(corners, INK if is_crashed[i] else colour, ARRIVED if has_arrived[i] else colour, 3)
        floor.line([at, at + (HALF_SIDE + 0.02) * ahead], PAPER, 2.5)
    for i, (at, ahead) in enumerate(zip(pos, _ahead(theta))):
        floor.text(at - 0.12 * ahead, str(i), INK, 11, "mm", halo=PAPER)

    ends_so_far = f"arrived {sum(has_arrived)}", f"crashed {sum(is_crashed)}", f"of {len(pos)}"
    canvas.header(summary(state, index, *ends_so_far), HEADER, PAPER, INK)
    return canvas.finished()


def _ahead(bearing: np.ndarray) -> np.ndarray:
    """Directions [..., 2] of bearings [...], rad."""
    return np.stack([np.cos(bearing), np.sin(bearing)], -1)
