"""Pictures of simple spread: agents with their velocities, landmarks, and from each the line to its nearest agent."""

import numpy as np

from torch_mars.envs.canvas import GRID, INK, PAPER, Canvas, colour_of, summary
from torch_mars.envs.mpe.task import AGENT_RADIUS, DT, LANDMARK_RADIUS, TOUCH

SIZE = 512  # pixels: width and height of the plane
HEADER = 28  # pixels above it for the text
REACH = 1.5  # half the side of the view, widened when somebody leaves it
ARROW_S = 4 * DT  # the velocity's line shows where the agent coasts to in this time


def draw(state, index: int) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a SpreadState."""
    agents, velocities, landmarks = (
        field[index].cpu().numpy() for field in (state.agent_pos, state.agent_vel, state.landmark_pos)
    )
    reach = max(REACH, float(np.abs(np.concatenate([agents, landmarks])).max()) + 2 * AGENT_RADIUS)
    canvas = Canvas(SIZE, SIZE + HEADER)
    plane = canvas.world((SIZE / 2, HEADER + SIZE / 2), SIZE / (2 * reach))
    plane.grid((-reach, -reach), (reach, reach), 0.5)
    for axis in ([(0, -reach), (0, reach)], [(-reach, 0), (reach, 0)]):
        plane.line(axis, GRID, 2)
    for landmark in landmarks:
        nearest = agents[np.linalg.norm(agents - landmark, axis=1).argmin()]
        plane.line([landmark, nearest], (*INK, 110))
    apart = np.linalg.norm(agents[:, None] - agents, axis=-1) + 2 * TOUCH * np.eye(len(agents))
    for i, (position, velocity) in enumerate(zip(agents, velocities)):
        colour, is_touching = colour_of(i), (apart[i] < TOUCH).any()
        rim, width = (INK, 3) if is_touching else (colour, 2)
        plane.disc(position, AGENT_RADIUS, (*colour, 110), rim, width)
        plane.line([position, position + ARROW_S * velocity], INK, 2)
    for landmark in landmarks:
        plane.disc(landmark, LANDMARK_RADIUS, INK)
    for i, position in enumerate(agents):
        plane.text(position, str(i), INK, 12, "mm", halo=PAPER)
    collisions = float(state.totals[index, 1])
    canvas.header(summary(state, index, f"collisions {collisions:.0f}"), HEADER, PAPER, INK)
    return canvas.finished()
