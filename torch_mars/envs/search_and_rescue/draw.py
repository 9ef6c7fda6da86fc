"""Pictures of Search & Rescue: searchers with their cones, targets missing and found, on a square with joined edges."""

import itertools
import math

import numpy as np

from torch_mars.envs.canvas import BLUE, GRID, INK, PALE, PAPER, VERMILION, Canvas, mixed, summary
from torch_mars.envs.search_and_rescue.task import CHANNELS, Options

SIZE = 512  # pixels: width and height of the arena
MARGIN = 24  # pixels around it, on which what lies across an edge is shown once more, pale
HEADER = 28  # pixels above for the text
ROW, CELL, GAP = 36, 3, 6  # pixels of a channel's rays
SEARCHER, MISSING, FOUND = (40, 40, 43), (233, 132, 73), (179, 182, 188)  # the original's colours
CONE = 22  # opacity
LARGEST_TARGET = 0.02  # radius
VEILS = (((-1, -1), (0, 2)), ((1, -1), (2, 2)), ((0, -1), (1, 0)), ((0, 1), (1, 2)))  # over what lies across an edge
COLOURS = dict(zip(CHANNELS, (BLUE, FOUND, VERMILION)))


def draw(c: Options, state, index: int, obs, show_contact: bool) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of a SearchState, with the rays of obs [N, O] if it is given."""
    side = SIZE + 2 * MARGIN
    canvas = Canvas(side, HEADER + side, mixed(GRID, PAPER, 0.5))
    arena = canvas.world((MARGIN, HEADER + MARGIN + SIZE), SIZE)
    arena.box((0, 0), (1, 1), PAPER)
    names = ("searcher_pos", "searcher_heading", "target_pos", "target_found")
    pos, heading, target_pos, is_found = (getattr(state, name)[index].cpu().numpy() for name in names)
    ahead = np.stack([np.cos(heading), np.sin(heading)], -1)

    for at, way in zip(pos, ahead):
        for copy in _copies(at, c.target_vision_range):
            arena.pie(copy, way, 2 * c.view_angle * math.pi, c.target_vision_range, (*SEARCHER, CONE))
    for at, found in zip(target_pos, is_found):
        radius = min(c.target_contact_range, LARGEST_TARGET)
        for copy in _copies(at, radius):
            arena.disc(copy, 0.6 * max(radius, 0.005), FOUND if found else MISSING, PAPER, 0.7)
    if obs is not None:
        _rays(arena, c, pos, heading, obs.cpu().numpy())
    for i, (at, way) in enumerate(zip(pos, ahead)):
        for copy in _copies(at, c.target_contact_range):
            if show_contact:
                arena.disc(copy, c.target_contact_range, None, SEARCHER, 0.8)
            arena.arrowhead(copy, way, 0.018, SEARCHER)
            arena.text(copy - 0.03 * way, str(i), INK, 11, "mm", halo=PAPER)

    for corner, opposite in VEILS:
        arena.box(corner, opposite, (*GRID, 150))
    _seam(arena)
    found = int(is_found.sum())
    canvas.header(summary(state, index, f"found {found} / {len(is_found)}"), HEADER, PAPER, INK)
    return canvas.finished()


def draw_rays(num_vision: int, obs) -> np.ndarray:
    """uint8 [h, h, 3]: what one searcher's rays read, left to right; bright is near, black is nothing."""
    side = max(CELL * num_vision, 3 * ROW + 5 * GAP) + 2 * GAP
    canvas = Canvas(side, side, (24, 25, 30), scale=2)
    paper = canvas.world((0, 0), 1, np.eye(2))
    height = (side - 5 * GAP) / 3
    width = (side - 2 * GAP) / num_vision
    views = obs[: 3 * num_vision].reshape(3, num_vision).tolist()
    for row, (name, view) in enumerate(zip(CHANNELS, views)):
        top = GAP + row * (height + GAP)
        paper.box((GAP, top), (side - GAP, top + height), (0, 0, 0))
        for k, reading in enumerate(view):
            if reading >= 0:
                left = GAP + k * width
                colour = mixed(COLOURS[name], (0, 0, 0), 1 - 0.75 * reading)
                paper.box((left, top), (left + width, top + height), colour)
        paper.text((GAP + 4, top + 3), name, (220, 220, 220), 18)
    return canvas.finished()


def _copies(at: np.ndarray, reach: float) -> list[np.ndarray]:
    """The places of something of a size as seen beyond all edges, its own among them."""
    margin = reach + MARGIN / SIZE
    shifts = [[0, *(s for s in (-1, 1) if -margin < x + s < 1 + margin)] for x in at.tolist()]
    return [at + np.array(shift) for shift in itertools.product(*shifts)]


def _rays(arena: Canvas, c: Options, pos: np.ndarray, heading: np.ndarray, obs: np.ndarray) -> None:
    """Lines from every searcher to what its rays meet."""
    half = c.view_angle * math.pi
    bearings = np.linspace(-half, half, c.num_vision)
    ranges = (c.searcher_vision_range, c.target_vision_range, c.target_vision_range)
    for at, angle, seen in zip(pos, heading, obs):
        views = seen[: 3 * c.num_vision].reshape(3, c.num_vision)
        for name, vision_range, view in zip(CHANNELS, ranges, views):
            for k in np.flatnonzero(view >= 0):
                direction = angle - bearings[k]
                end = view[k] * vision_range * np.array([math.cos(direction), math.sin(direction)])
                for copy in _copies(at, vision_range):
                    arena.line([copy, copy + end], (*COLOURS[name], 110), 0.7)


def _seam(arena: Canvas) -> None:
    """The edges, dashed: one may cross them."""
    dashes = np.linspace(0, 1, 33)
    for edge in (0, 1):
        for start, end in zip(dashes[::2], dashes[1::2]):
            arena.line([(start, edge), (end, edge)], PALE, 1)
            arena.line([(edge, start), (edge, end)], PALE, 1)
