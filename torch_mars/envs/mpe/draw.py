"""Pictures of simple spread: agents with their velocities, landmarks, and from each the line to its nearest agent."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_mars.envs.mpe.task import AGENT_RADIUS, DT, LANDMARK_RADIUS, TOUCH

SIZE = 512  # pixels: width and height of the plane
HEADER = 28  # pixels above it for the text
SCALE = 3  # drawn this much larger, then reduced: smooth edges
REACH = 1.5  # half the side of the view, widened when somebody leaves it
ARROW_S = 4 * DT  # the velocity's line shows where the agent coasts to in this time
PAPER, GRID, INK = (250, 249, 246), (226, 224, 217), (52, 54, 62)
# Okabe and Ito's colours, which colour-blind people can tell apart
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def draw(state, index: int) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a SpreadState."""
    agents, velocities, landmarks = (
        field[index].cpu().numpy() for field in (state.agent_pos, state.agent_vel, state.landmark_pos)
    )
    reach = max(REACH, float(np.abs(np.concatenate([agents, landmarks])).max()) + 2 * AGENT_RADIUS)
    pixels = SIZE * SCALE / (2 * reach)  # of a unit of length
    image = Image.new("RGB", (SIZE * SCALE, (SIZE + HEADER) * SCALE), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")

    def point(position):
        return (position[0] + reach) * pixels, (reach - position[1]) * pixels + HEADER * SCALE

    def disc(position, radius, **style):
        x, y = point(position)
        pen.ellipse((x - radius * pixels, y - radius * pixels, x + radius * pixels, y + radius * pixels), **style)

    for line in range(-int(reach * 2), int(reach * 2) + 1):
        at, width = line / 2, SCALE * (2 if line == 0 else 1)
        pen.line((*point((at, -reach)), *point((at, reach))), fill=GRID, width=width)
        pen.line((*point((-reach, at)), *point((reach, at))), fill=GRID, width=width)
    for landmark in landmarks:
        nearest = agents[np.linalg.norm(agents - landmark, axis=1).argmin()]
        pen.line((*point(landmark), *point(nearest)), fill=(*INK, 110), width=SCALE)
    apart = np.linalg.norm(agents[:, None] - agents, axis=-1) + 2 * TOUCH * np.eye(len(agents))
    for i, (position, velocity) in enumerate(zip(agents, velocities)):
        colour = COLOURS[i % len(COLOURS)]
        is_touching = (apart[i] < TOUCH).any()
        rim = INK if is_touching else colour
        disc(position, AGENT_RADIUS, fill=(*colour, 110), outline=rim, width=(3 if is_touching else 2) * SCALE)
        pen.line((*point(position), *point(position + ARROW_S * velocity)), fill=INK, width=2 * SCALE)
    for landmark in landmarks:
        disc(landmark, LANDMARK_RADIUS, fill=INK)
    font = ImageFont.load_default(12 * SCALE)
    for i, position in enumerate(agents):
        x, y = point(position)
        pen.text((x, y), str(i), fill=INK, font=font, anchor="mm", stroke_width=2 * SCALE, stroke_fill=PAPER)

    pen.rectangle((0, 0, SIZE * SCALE, HEADER * SCALE), fill=INK)
    text = f"step {int(state.step[index])}   return {float(state.totals[index, 0]):+.2f}"
    text += f"   collisions {float(state.totals[index, 1]):.0f}"
    pen.text((8 * SCALE, 6 * SCALE), text, fill=PAPER, font=ImageFont.load_default(14 * SCALE))
    return np.asarray(image.resize((SIZE, SIZE + HEADER), Image.LANCZOS))
