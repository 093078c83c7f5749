"""The book's figure style: colours that differ and can be read, numbers that are the array's, bytes that repeat."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

import konvlib
from konvlib import figures

ROLES = list(figures.PALETTE)


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        mpl.use("agg")
        figures.use_style()
        yield
        plt.close("all")


def contrast(colour: str, other: str) -> float:
    """The contrast ratio of WCAG 2: 4.5 is asked of text, 3 of lines and shapes."""

    def luminance(colour):
        channels = np.array(to_rgb(colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(colour), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def drawn(ax) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_gid() == "cell"]


def squares(ax) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_gid() != "window"]


def test_palette_is_okabe_and_ito():
    assert figures.PALETTE == {
        "input": "#0072B2",
        "kernel": "#E69F00",
        "output": "#009E73",
        "gradient": "#CC79A7",
        "padding": "#999999",
    }


def test_roles_differ_without_colour():
    assert len({str(figures.LINES[role]) for role in ROLES}) == len(ROLES)
    _, ax = figures.sheet(1, 3)
    figures.cells(ax, [1, 2, 3], padding=[False, True, False])
    assert [square.get_hatch() for square in squares(ax)] == [None, figures.HATCH, None]


@pytest.mark.parametrize("role", ROLES)
def test_numbers_and_labels_can_be_read(role):
    assert contrast(figures.INK, figures.tint(role)) >= 7
    assert contrast(figures.INK, figures.tint(role, 0.5)) >= 4.5
    assert contrast(figures.shade(role), figures.PAPER) >= 4.5
    assert contrast(figures.shade(role), figures.tint(role)) >= 3


def test_tints_of_roles_differ():
    tints = [np.array(to_rgb(figures.tint(role))) for role in ROLES]
    gaps = [np.abs(a - b).max() for i, a in enumerate(tints) for b in tints[:i]]
    assert min(gaps) > 0.06


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 3, 2, 0, 4]),
        konvlib.convolve([1, 3, 2, 0, 4], [2, 1, -1]),
        np.arange(-6, 6).reshape(3, 4),
        np.array([Fraction(1, 2), Fraction(-3)]),
        np.array([0.25, -1.5, 2.0]),
    ],
    ids=["row", "output", "matrix", "fractions", "floats"],
)
def test_cells_show_the_numbers_of_the_array(values):
    _, ax = figures.sheet(5, 8)
    figures.cells(ax, values, at=(1, 2))
    shown = [Fraction(text.replace("\N{MINUS SIGN}", "-")) for text in drawn(ax)]
    assert shown == [Fraction(value) for value in values.ravel().tolist()]
    corners = [(square.get_y(), square.get_x()) for square in squares(ax)]
    assert corners == [(1 + i, 2 + j) for i, j in np.ndindex(np.atleast_2d(values).shape)]


def test_cells_leave_out_none_and_write_a_label():
    _, ax = figures.sheet(1, 4)
    figures.cells(ax, [1, None, 3], label="input $f$")
    assert drawn(ax) == ["1", "3"]
    assert len(squares(ax)) == 2
    assert [text.get_text() for text in ax.texts if text.get_gid() != "cell"] == ["input $f$"]


def test_muted_cells_are_white_and_keep_their_numbers():
    _, ax = figures.sheet(1, 2)
    figures.cells(ax, [5, 6], role="output", muted=[True, False])
    first, second = squares(ax)
    assert mpl.colors.same_color(first.get_facecolor(), figures.PAPER)
    assert mpl.colors.same_color(second.get_facecolor(), figures.tint("output"))
    assert drawn(ax) == ["5", "6"]


def test_cells_refuse_three_axes():
    _, ax = figures.sheet(1, 1)
    with pytest.raises(ValueError, match="one or two axes"):
        figures.cells(ax, np.zeros((1, 1, 1)))


def test_a_window_frames_its_cells_and_an_arrow_joins_its_points():
    _, ax = figures.sheet(4, 6)
    figures.window(ax, (1, 2), columns=3, grow=0.1)
    figures.arrow(ax, (0, 1), (3, 5))
    frame, arrow = ax.patches
    assert frame.get_bbox().extents == pytest.approx([1.9, 0.9, 5.1, 2.1])
    assert not frame.get_fill()
    assert arrow.get_path().vertices[0] == pytest.approx([1, 0], abs=0.05)  # flattening rounds the corners


def test_a_sheet_has_one_scale():
    for rows, columns in [(1, 5), (4, 13)]:
        figure, ax = figures.sheet(rows, columns)
        assert figure.get_size_inches() == pytest.approx([columns * figures.CELL, rows * figures.CELL])
        assert ax.get_ylim() == (rows, 0)


def test_stems_stand_on_their_indices():
    _, axes = figures.panels()
    figures.stems(axes[0, 0], [2, -1], start=-1)
    stem = axes[0, 0].collections[0]
    assert [segment.tolist() for segment in stem.get_segments()] == [[[-1, 0], [-1, 2]], [[0, 0], [0, -1]]]


def test_panels_are_of_one_width():
    figure, axes = figures.panels(3, 2, height=1.5)
    assert axes.shape == (3, 2)
    assert figure.get_size_inches() == pytest.approx([figures.WIDTH, 4.5])


def picture():
    figure, ax = figures.sheet(2, 7)
    figures.cells(ax, [1, 3, 2, 0, 4], padding=[False, False, False, False, True])
    figures.window(ax, (0, 1), columns=3)
    figures.arrow(ax, (1, 2), (2, 3))
    return figure


def test_svg_repeats_byte_by_byte():
    first, second = figures.svg(picture()), figures.svg(picture())
    assert first == second
    assert b"<dc:date>" not in first
    assert not re.search(rb"<image", first)


def test_style_is_for_a_white_page():
    assert plt.rcParams["figure.facecolor"] == figures.PAPER
    assert plt.rcParams["savefig.facecolor"] == figures.PAPER
    assert plt.rcParams["svg.hashsalt"] == "konvlib"


class Shapes:
    """A class with a decorated method, for the test below."""

    @staticmethod
    def one(
        x: int, y: int,
    ):  # fmt: skip
        """Their sum."""
        return x + y  # so it is


def test_a_source_begins_with_its_own_first_line():
    lines = ["def one(", "    x: int, y: int,", "):", '    """Their sum."""', "    return x + y  # so it is"]
    assert figures.source_of(Shapes.one).split("\n") == lines
    assert figures.source_of(Shapes).startswith('class Shapes:\n    """A class with')
    assert figures.source_of(plt.rc_context).startswith("def rc_context(")


def test_a_kernel_is_printed_as_it_stands_in_its_file():
    forward = pytest.importorskip("konvlib.layers.forward")
    printed = figures.source_of(forward.conv_forward_kernel)
    assert printed.startswith("def conv_forward_kernel(\n    x_ptr, w_ptr, bias_ptr, y_ptr,\n")
    assert printed.endswith("tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=mask_y)")
    file = Path(forward.__file__).read_text(encoding="utf-8").replace("  # fmt: skip", "")
    assert printed in file
