"""The canvas of all pictures: things are where they were put, whichever way the world's axes lie on the paper."""

import math

import numpy as np
import pytest
import torch

from torch_mars.envs import canvas
from torch_mars.envs.canvas import BLUE, COLOURS, INK, ROWS_DOWN, WHITE, Canvas
from torch_mars.envs.core import State


def drawn(picture):
    """(left, top, right, bottom) of what is not white; right and bottom are one beyond."""
    rows, columns = np.nonzero((picture != 255).any(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.fixture
def paper():
    return Canvas(60, 40, WHITE)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_picture_has_the_promised_size_however_large_it_is_drawn(scale):
    picture = Canvas(60, 40, BLUE, scale).finished()
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8 and (picture == BLUE).all()


def test_edges_are_smooth_and_nothing_ripples_beside_them(paper):
    paper.disc((30, 20), 10, INK)
    assert len(np.unique(paper.finished().reshape(-1, 3), axis=0)) == 10  # covered by 0 to 9 ninths


@pytest.mark.parametrize(
    "origin, axes, position, column, row",
    [
        ((0, 40), canvas.Y_UP, (1, 0.5), 10, 35),
        ((0, 0), ROWS_DOWN, (1, 0.5), 5, 10),
        ((20, 30), [(1, 0), (0.5, -0.5), (0, -1)], (1, 2, 1), 40, 10),  # aslant
    ],
)
def test_a_disc_is_where_it_was_put(paper, origin, axes, position, column, row):
    world = paper.world(origin, 10, axes)
    assert world.point(position) == pytest.approx([column, row])
    world.disc(position, 0.3, BLUE)
    assert drawn(paper.finished()) == pytest.approx((column - 3, row - 3, column + 3, row + 3), abs=1)


@pytest.mark.parametrize(
    "axes, ahead, tip",
    [(canvas.Y_UP, (0, 2), (0, -1)), (ROWS_DOWN, (0, 2), (1, 0)), (ROWS_DOWN, (-1, 0), (0, -1))],
)
def test_arrowheads_and_slices_point_ahead(axes, ahead, tip):
    for name in ("arrowhead", "pie"):
        paper = Canvas(60, 60, WHITE)
        world = paper.world((30, 30), 10, axes)
        if name == "arrowhead":
            world.arrowhead((0, 0), ahead, 2, BLUE)
        else:
            world.pie((0, 0), ahead, math.radians(30), 2, BLUE)
        left, top, right, bottom = np.subtract(drawn(paper.finished()), 30)
        reach = {(1, 0): right, (0, -1): -top}[tip]
        assert reach == pytest.approx(20, abs=2), name
        aside = {(1, 0): (-top, bottom), (0, -1): (-left, right)}[tip]
        assert max(aside) - min(aside) <= 1 and max(aside) < 14, name


def test_cells_meet_without_gap_or_overlap(paper):
    grid = paper.world((0, 0), 40 / 7, ROWS_DOWN)
    for row in range(7):
        for col in range(7):
            grid.cell((row, col), (0, 0, 0, 128))
    inside = paper.finished()[:39, :39]
    assert inside.min() == inside.max() < 255
    assert drawn(paper.finished()) == pytest.approx((0, 0, 40, 40), abs=1)


def test_a_box_without_width_is_not_drawn(paper):
    paper.box((10, 10), (10, 30), BLUE)
    assert (paper.finished() == 255).all()
    paper.box((20, 30), (10, 10), BLUE)  # corners in any order
    assert drawn(paper.finished()) == pytest.approx((10, 10, 20, 30), abs=1)


def test_lines_and_grids_run_between_their_ends(paper):
    paper.line([(10, 10), (30, 10), (30, 20)], INK, 2)
    assert drawn(paper.finished()) == pytest.approx((9, 9, 31, 21), abs=1)
    grid = Canvas(60, 40, WHITE)
    grid.grid((0, 0), (60, 40), 20)
    row = (grid.finished()[10] != 255).any(-1)
    starts = np.flatnonzero(row & ~np.append(False, row[:-1]))
    assert starts == pytest.approx([0, 20, 40, 59], abs=1)


def test_text_stands_at_its_anchor_and_a_header_at_the_top(paper):
    paper.text((30, 20), "H", INK, 12, "mm")
    left, top, right, bottom = drawn(paper.finished())
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((30, 20), abs=1.5) and 6 < bottom - top < 13
    headed = Canvas(60, 40, WHITE)
    headed.world((0, 40), 5).header("H", 16, WHITE, INK, size=12)
    assert drawn(headed.finished()) == pytest.approx((0, 0, 60, 16), abs=1)
    assert (headed.finished()[:16] == 255).any()


def test_a_header_begins_with_step_and_return():
    state = State(rng=torch.zeros(2), step=torch.tensor([3, 12]), totals=torch.tensor([[0.0], [-1.5]]))
    assert canvas.summary(state, 1, "dots 2") == "step 12   return -1.50   dots 2"


def test_the_seventh_agent_has_the_first_ones_colour():
    assert [canvas.colour_of(agent) for agent in range(7)] == [*COLOURS, COLOURS[0]]
    assert canvas.mixed((0, 100, 200), (100, 100, 100), 0.25) == (75, 100, 125)
