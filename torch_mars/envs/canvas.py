"""What all pictures are drawn on: drawn two or three times as large, then reduced, so that edges are smooth.

Positions and lengths are those of the world at hand (`Canvas.world`); widths of lines and sizes of letters are pixels
of the finished picture. A colour is (red, green, blue) or (red, green, blue, opacity), 0 to 255. What an environment
looks like is not known here: that is in its `draw.py`.
"""

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE, PAPER, INK = (255, 255, 255), (247, 246, 242), (52, 54, 62)
PALE, GRID, LOST = (128, 129, 134), (214, 212, 205), (150, 150, 150)  # lesser text; rules; who is out
WALL, FLOOR, ALARM = (38, 41, 54), (238, 236, 230), (190, 30, 45)
# Okabe and Ito's colours, which colour-blind people can tell apart
BLUE, VERMILION, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)
PURPLE, ORANGE, SKY = (204, 121, 167), (230, 159, 0), (86, 180, 233)
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

CHARACTER, LEAST_WIDTH, HEADER = (14, 20), 400, 28  # pixels of a picture of characters
FURTHEST, CLOSEST = 3e4, 2.0  # pixels: what lies further out is drawn there; between the lines of a grid

# where a step along each axis of a world leads on the paper, whose x goes right and whose y goes down
Y_UP, ROWS_DOWN = ((1, 0), (0, -1)), ((0, 1), (1, 0))  # of (x, y); of (row, column)

Point = Sequence[float] | np.ndarray
Colour = tuple[int, ...]
Fill = Colour | None  # None: nothing there


def colour_of(agent: int) -> Colour:
    """One of the six colours; they start again after the sixth agent."""
    return COLOURS[agent % len(COLOURS)]


def mixed(colour: Colour, ground: Colour, share: float) -> Colour:
    """`share` of a colour and the rest of another."""
    return tuple(round(share * c + (1 - share) * g) for c, g in zip(colour, ground))


def summary(state: Any, index: int, *more: str) -> str:
    """A header's text: step and return of environment `index` of a State, then what else there is to say."""
    now = (f"step {int(state.step[index])}", f"return {float(state.totals[index, 0]):+.2f}")
    return "   ".join(now + more)


def of_text(title: str, text: str) -> np.ndarray:
    """uint8 [H, W, 3]: lines of characters, each in a cell of its own, below a title."""
    lines, (across, down) = text.splitlines(), CHARACTER
    columns = max(map(len, lines), default=0)
    canvas = Canvas(max(LEAST_WIDTH, across * (columns + 2)), HEADER + down * (max(len(lines), 3) + 2))
    canvas.header(title, HEADER, PAPER, INK)
    left = (canvas.width - across * columns) / 2
    cells = canvas.world((left + across / 2, HEADER + down * 1.5), 1, np.eye(2))
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            if character != " ":
                cells.text((across * column, down * row), character, INK, down * 0.8, "mm")
    return canvas.finished()


class Canvas:
    """A picture in the making, in pixels; `world` gives other coordinates for the same picture.

    Args:
        width, height: pixels of the finished picture.
        ground: colour of the empty picture.
        scale: how much larger it is drawn.
    """

    def __init__(self, width: int, height: int, ground: Colour = PAPER, scale: int = 3):
        self.width, self.height, self.scale = width, height, scale
        self.image = Image.new("RGB", (width * scale, height * scale), ground)
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self.origin, self.unit, self.axes = np.zeros(2), 1.0, np.eye(2)

    def world(self, origin: Point, unit: float, axes: Sequence[Point] = Y_UP) -> "Canvas":
        """The same picture for positions in a world of D axes.

        Args:
            origin: the pixel (x, y) at which the world's 0 lies.
            unit: pixels of a unit of length.
            axes: [D, 2]: where a step along each axis leads on the paper (x right, y down), in units.
        """
        canvas = copy.copy(self)
        canvas.origin, canvas.unit, canvas.axes = np.asarray(origin, float), unit, np.asarray(axes, float)
        return canvas

    def finished(self) -> np.ndarray:
        """uint8 [height, width, 3]."""
        # the mean of scale x scale pixels: sharper filters leave ripples beside every edge, and files of twice the size
        return np.array(self.image.reduce(self.scale))

    def point(self, position: Point) -> np.ndarray:
        """Pixels (x, y) [..., 2] of positions [..., D]; coordinates left out at the end are 0.

        However far out a position is, the pixels can be counted.
        """
        return np.clip(self.origin + self._step(position), -FURTHEST, FURTHEST)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1) -> None:
        """Through all the points. An opacity below 255 shows where wide parts of a line overlap at its corners."""
        self.pen.line(self._places(points), fill=colour, width=self._width(width), joint="curve")

    def disc(self, at: Point, radius: float, fill: Fill, rim: Fill = None, width: float = 1) -> None:
        self.pen.ellipse(self._around(at, radius), fill=fill, outline=rim, width=self._width(width))

    def pie(self, at: Point, ahead: Point, angle_rad: float, radius: float, fill: Colour) -> None:
        """A slice of a disc: `angle_rad` wide around the direction `ahead`."""
        middle, half = math.degrees(self._heading(ahead)), math.degrees(angle_rad) / 2
        self.pen.pieslice(self._around(at, radius), middle - half, middle + half, fill=fill)

    def box(self, corner: Point, opposite: Point, fill: Fill, rim: Fill = None, width: float = 1) -> None:
        """A rectangle, upright on the paper; nothing where it is thinner than can be seen. The rim lies inside."""
        corners = self.point([corner, opposite]) * self.scale
        low, high = corners.min(0), corners.max(0) - 1  # the last pixel belongs to it
        if (high >= low).all():
            self.pen.rectangle([*low, *high], fill=fill, outline=rim, width=self._width(width))

    def cell(self, position: Point, fill: Fill, rim: Fill = None, width: float = 1) -> None:
        """The square from `position` to one further along both axes."""
        self.box(position, np.asarray(position) + 1, fill, rim, width)

    def polygon(self, points: Sequence[Point], fill: Fill, rim: Fill = None, width: float = 1) -> None:
        self.pen.polygon(self._places(points), fill=fill, outline=rim, width=self._width(width))

    def arrowhead(self, at: Point, ahead: Point, size: float, fill: Colour, rim: Fill = WHITE) -> None:
        """Its tip is `size` from `at`, in the direction `ahead` (of any length)."""
        cos, sin = math.cos(self._heading(ahead)), math.sin(self._heading(ahead))
        shape = np.array([(1, 0), (-0.8, 0.62), (-0.4, 0), (-0.8, -0.62)])
        turned = self.world(self.point(at), size * self.unit, [(cos, sin), (-sin, cos)])
        self.pen.polygon(turned._places(shape), fill=fill, outline=rim)

    def cross(self, at: Point, reach: float, colour: Colour, width: float = 1) -> None:
        left, top, right, bottom = self._around(at, reach)
        for ends in ((left, top, right, bottom), (left, bottom, right, top)):
            self.pen.line(ends, fill=colour, width=self._width(width))

    def grid(self, corner: Point, opposite: Point, every: float, colour: Colour = GRID, width: float = 1) -> None:
        """Lines at all multiples of `every` between the lower and the upper corner of a rectangle.

        Fewer, at multiples of 10 or 100 `every` and so on, where they would lie too close to be seen.
        """
        while every * self.unit < CLOSEST:
            every *= 10
        for axis in range(2):
            for k in range(math.ceil(corner[axis] / every), math.floor(opposite[axis] / every) + 1):
                ends = np.array([corner, opposite], float)
                ends[:, axis] = k * every
                self.line(ends, colour, width)

    def text(self, at: Point, text: str, colour: Colour, size: float, anchor: str = "la", halo: Fill = None) -> None:
        """Letters `size` pixels high; `anchor` as Pillow names it: which point of the text lies at `at`."""
        font, around = _font(round(size * self.scale)), self._width(2) if halo else 0
        self.pen.text(
            self._places(at), text, fill=colour, font=font, anchor=anchor, stroke_width=around, stroke_fill=halo
        )

    def header(self, text: str, height: int, colour: Colour = INK, ground: Fill = None, size: float = 14) -> None:
        """A line of text on a band at the upper edge, `height` pixels high; without a ground, on what is there."""
        paper = self.world((0, 0), 1, np.eye(2))
        if ground:
            paper.box((0, 0), (self.width, height), ground)
        paper.text((8, height / 2), text, colour, size, "lm")

    def _step(self, way: Point) -> np.ndarray:
        """Pixels [..., 2] of ways [..., D]."""
        way = np.asarray(way, float)
        return self.unit * way @ self.axes[: way.shape[-1]]

    def _places(self, positions: Point | Sequence[Point]) -> list[float]:
        """x and y of every position in the larger picture, one after the other."""
        return (self.point(positions) * self.scale).ravel().tolist()

    def _heading(self, ahead: Point) -> float:
        """Angle of a direction on the paper, rad, from the right clockwise."""
        x, y = self._step(ahead)
        return math.atan2(y, x)

    def _around(self, at: Point, reach: float) -> list[float]:
        x, y = self._places(at)
        r = min(reach * self.unit, FURTHEST) * self.scale
        return [x - r, y - r, x + r, y + r]

    def _width(self, pixels: float) -> int:
        return max(1, round(pixels * self.scale))


_font = functools.cache(ImageFont.load_default)
