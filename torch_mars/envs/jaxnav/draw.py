"""Pictures of JaxNav: walls, robots with their headings, goals, what the LiDAR meets, and the ways driven."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_mars.envs.jaxnav.task import HALF_SIDE, LAST, NUM_BEAMS, SPACING

SIZE = 512  # pixels: width and height of the map
HEADER = 28  # pixels above it for the text
SCALE = 3  # drawn this much larger, then reduced: smooth edges
EVERY = 4  # beams: one of them is drawn
PAPER, GRID, INK, WALL, ARRIVED = (250, 249, 246), (222, 220, 212), (52, 54, 62), (38, 41, 54), (24, 150, 60)
# Okabe and Ito's colours, which colour-blind people can tell apart
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def draw(goal_radius: float, state, index: int, trail: Sequence) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a NavState, with the ways driven through the states of `trail`."""
    map_data = state.map_data[index].cpu().numpy()
    cells = len(map_data)
    pixels = SIZE * SCALE / cells  # of 1 m
    image = Image.new("RGB", (SIZE * SCALE, (SIZE + HEADER) * SCALE), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")

    def point(position):
        return position[0] * pixels, (cells - position[1]) * pixels + HEADER * SCALE

    def line(a, b, colour, width):
        pen.line((*point(a), *point(b)), fill=colour, width=round(width * SCALE))

    def disc(position, radius, **style):
        x, y = point(position)
        pen.ellipse((x - radius * pixels, y - radius * pixels, x + radius * pixels, y + radius * pixels), **style)

    for k in range(1, cells):
        line((k, 0), (k, cells), GRID, 1)
        line((0, k), (cells, k), GRID, 1)
    pos, theta, goal, beams = (getattr(state, name)[index].cpu().numpy() for name in ("pos", "theta", "goal", "beams"))
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(pos))]

    bearing = np.linspace(-math.pi, math.pi, NUM_BEAMS) + theta[:, None]  # [N, V]
    ends = pos[:, None] + SPACING * beams[..., None] * np.stack([np.cos(bearing), np.sin(bearing)], -1)
    for at, points, colour in zip(pos, ends, colours):
        for end in points[::EVERY]:
            line(at, end, (*colour, 60), 0.8)
    for y, x in np.argwhere(map_data):
        left, top = point((x, y + 1))
        pen.rectangle((left, top, left + pixels, top + pixels), fill=WALL)
    for points, samples, colour in zip(ends, beams, colours):
        for end in points[samples < LAST][::EVERY]:
            disc(end, 0.05, fill=colour)

    for i, colour in enumerate(colours):
        way = [point(past.pos[index, i].tolist()) for past in trail] + [point(pos[i])]
        pen.line([c for p in way for c in p], fill=(*colour, 200), width=2 * SCALE, joint="curve")
        line(pos[i], goal[i], (*colour, 130), 1)
        disc(goal[i], goal_radius, outline=colour, width=2 * SCALE, fill=(*colour, 40))
        for arm in ((0.12, 0.12), (0.12, -0.12)):
            line(goal[i] - arm, goal[i] + arm, colour, 2)
    is_crashed, has_arrived = (getattr(state, name)[index].tolist() for name in ("crashed", "goal_reached"))
    for i, (at, heading, colour) in enumerate(zip(pos, theta, colours)):
        ahead = np.array([math.cos(heading), math.sin(heading)])
        left = np.array([-ahead[1], ahead[0]])
        corners = [at + HALF_SIDE * (a * ahead + b * left) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        rim = ARRIVED if has_arrived[i] else colour
        body = INK if is_crashed[i] else colour
        pen.polygon([c for p in corners for c in point(p)], fill=body, outline=rim, width=3 * SCALE)
        line(at, at + (HALF_SIDE + 0.02) * ahead, PAPER, 2.5)
    font = ImageFont.load_default(11 * SCALE)
    for i, at in enumerate(pos):
        style = {"font": font, "anchor": "mm", "fill": INK, "stroke_width": 2 * SCALE, "stroke_fill": PAPER}
        pen.text(point(at - (0.12 * np.cos(theta[i]), 0.12 * np.sin(theta[i]))), str(i), **style)

    pen.rectangle((0, 0, SIZE * SCALE, HEADER * SCALE), fill=INK)
    text = f"step {int(state.step[index])}   return {float(state.totals[index, 0]):+.2f}"
    text += f"   arrived {sum(has_arrived)}   crashed {sum(is_crashed)}   of {len(pos)}"
    pen.text((8 * SCALE, 6 * SCALE), text, fill=PAPER, font=ImageFont.load_default(14 * SCALE))
    return np.asarray(image.resize((SIZE, SIZE + HEADER), Image.LANCZOS))
