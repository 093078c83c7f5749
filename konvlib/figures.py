"""The book's figures: one palette, one style, grids of cells with numbers in them, and sources as pages print them.

Colour says what a thing is, in every figure alike: the input is blue, the kernel orange, the output green, a gradient
purple, padding grey and hatched. It is never the only cue: labels, line styles and hatching say the same.

Grids are drawn in units of one cell, row index first, rows downwards, as NumPy prints an array: the cell in row ``r``
and column ``c`` covers the square from corner ``(r, c)`` to corner ``(r + 1, c + 1)``. A sequence is a grid of one row.

    fig, ax = sheet(rows=1, columns=5)
    cells(ax, [1, 3, 2, 0, 4], role="input")
    window(ax, (0, 1), columns=3, role="kernel")
"""

from __future__ import annotations

import inspect
import io
import re
import sys
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import ArrayLike

PALETTE = {
    "input": "#0072B2",
    "kernel": "#E69F00",
    "output": "#009E73",
    "gradient": "#CC79A7",
    "padding": "#999999",
}
"""One colour for each role a thing can have, from the colour-blind-safe palette of Okabe and Ito."""

LINES = {
    "input": "-",
    "kernel": (0, (5, 1.5)),
    "output": (0, (5, 1.5, 1, 1.5)),
    "gradient": (0, (1, 1)),
    "padding": (0, (1, 3)),
}
"""One line style for each role, so that curves differ in print and to every eye."""

SERIES: list[dict[str, Any]] = [
    {"color": "#1A1A1A", "linestyle": "-"},
    {"color": "#7B4EA3", "linestyle": (0, (6, 1.5))},
    {"color": "#8A5A2B", "linestyle": (0, (1, 1))},
    {"color": "#4B7A8C", "linestyle": (0, (5, 1.5, 1, 1.5))},
    {"color": "#A33B3B", "linestyle": (0, (3, 1, 1, 1, 1, 1))},
    {"color": "#777777", "linestyle": (0, (8, 2, 2, 2))},
]
"""Colours and line styles of ordinary series, which are no input, kernel, output or gradient."""

INK = "#1A1A1A"
PAPER = "#FFFFFF"
HATCH = "////"

WIDTH = 5.7
"""Width in inches of a chart: most of the text column, and with the fonts below still legible on a phone."""

CELL = 0.42
"""Side in inches of one grid cell."""

METADATA = {"Date": None, "Creator": None}

STYLE: dict[str, Any] = {
    "figure.figsize": (WIDTH, 3.0),
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "konvlib",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "hatch.linewidth": 0.6,
}
"""Matplotlib's settings for every figure of the book."""


def use_style() -> None:
    """Set the book's style; in a notebook, show figures as SVG, and as PNG where SVG is not trusted.

    Neither holds a date, so that equal figures are equal bytes.
    """
    mpl.rcParams.update(STYLE)
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", "png", metadata=METADATA)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=METADATA, bbox_inches="tight")
    return buffer.getvalue()


def tint(role: str, strength: float = 0.35) -> str:
    """Return a role's colour mixed with white, light enough to print a dark number on.

    Examples
    --------
    >>> tint("padding", 0.5)
    '#cccccc'
    """
    return _mix(PALETTE[role], PAPER, strength)


def shade(role: str, strength: float = 0.6) -> str:
    """Return a role's colour mixed with black, dark enough for text and thin lines on white.

    Examples
    --------
    >>> shade("padding", 0.5)
    '#4c4c4c'
    """
    return _mix(PALETTE[role], "#000000", strength)


def line(role: str, **settings: Any) -> dict[str, Any]:
    """Return the colour and line style of a role, as keyword arguments for ``ax.plot``.

    Examples
    --------
    >>> line("input", label="f")
    {'color': '#0072B2', 'linestyle': '-', 'label': 'f'}
    """
    return {"color": PALETTE[role], "linestyle": LINES[role], **settings}


def series(number: int, **settings: Any) -> dict[str, Any]:
    """Return colour and line style of one of several ordinary series, as keyword arguments for ``ax.plot``.

    A series that is a method, a basis or a stage takes none of the colours that say what a thing is.

    Examples
    --------
    >>> series(0, label="direct")
    {'color': '#1A1A1A', 'linestyle': '-', 'label': 'direct'}
    """
    if not 0 <= number < len(SERIES):
        raise ValueError(f"number must be from 0 to {len(SERIES) - 1}, got {number}")
    return {**SERIES[number], **settings}


def sheet(rows: float, columns: float, *, cell: float = CELL) -> tuple[Figure, Axes]:
    """Return a figure and its axes, made for ``rows`` by ``columns`` cells of ``cell`` inches, rows downwards."""
    figure = plt.figure(figsize=(columns * cell, rows * cell))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def cells(
    ax: Axes,
    values: ArrayLike,
    *,
    at: tuple[float, float] = (0, 0),
    role: str = "input",
    padding: ArrayLike | None = None,
    muted: ArrayLike | None = None,
    label: str | None = None,
) -> None:
    """Draw a sequence or a matrix as cells with its numbers in them.

    Parameters
    ----------
    ax : Axes
        The axes of a `sheet`.
    values : array_like
        One row or several; ``None`` leaves a cell out.
    at : (row, column)
        The upper left corner of the first cell.
    role : str
        A key of `PALETTE`.
    padding : array_like of bool, optional
        Which cells are padding: drawn grey and hatched, whatever the role.
    muted : array_like of bool, optional
        Which cells take no part: drawn white, with a thin dotted edge.
    label : str, optional
        What the grid is, written to the left of it.
    """
    grid = _rows(np.array(values, dtype=object))
    padded = _rows(np.broadcast_to(False if padding is None else np.asarray(padding), np.shape(values)))
    quiet = _rows(np.broadcast_to(False if muted is None else np.asarray(muted), np.shape(values)))
    row, column = at
    for (i, j), value in np.ndenumerate(grid):
        if value is None:
            continue
        kind = "padding" if padded[i, j] else role
        square = Rectangle((column + j, row + i), 1, 1, linewidth=1.0, edgecolor=shade(kind), facecolor=tint(kind))
        if padded[i, j]:
            square.set(hatch=HATCH, edgecolor=PALETTE["padding"])
            if hasattr(square, "set_hatch_linewidth"):  # not in the Matplotlib of Pyodide, 3.8
                square.set_hatch_linewidth(STYLE["hatch.linewidth"])
        if quiet[i, j]:
            square.set(facecolor=PAPER, linestyle=":")
        ax.add_patch(square)
        backing = {"facecolor": tint("padding"), "edgecolor": "none", "pad": 1.0} if padded[i, j] else None
        write(ax, number(value), (row + i + 0.5, column + j + 0.5), bbox=backing, fontsize=13, gid="cell")
    if label is not None:
        write(ax, label, (row + grid.shape[0] / 2, column - 0.25), fontsize=12, ha="right")


def window(
    ax: Axes,
    at: tuple[float, float],
    *,
    rows: float = 1,
    columns: float = 1,
    role: str = "kernel",
    grow: float = 0.08,
) -> None:
    """Draw a frame around cells that exist, in a role's colour and line style, a little larger than they are."""
    row, column = at
    frame = Rectangle(
        (column - grow, row - grow),
        columns + 2 * grow,
        rows + 2 * grow,
        fill=False,
        linewidth=2.4,
        edgecolor=shade(role, 0.85),
        linestyle=LINES[role],
        zorder=3,
        gid="window",
    )
    ax.add_patch(frame)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], *, role: str = "output", bend: float = 0.0
) -> None:
    """Draw an arrow between two points, each (row, column)."""
    ax.add_patch(
        FancyArrowPatch(
            start[::-1],
            end[::-1],
            arrowstyle="-|>",
            mutation_scale=11,
            shrinkA=0,
            shrinkB=0,
            linewidth=1.4,
            color=shade(role, 0.8),
            connectionstyle=f"arc3,rad={bend}",
            zorder=4,
        )
    )


def write(ax: Axes, text: str, at: tuple[float, float], **settings: Any) -> None:
    """Write text at a point (row, column), centred unless told otherwise."""
    settings = {"ha": "center", "va": "center_baseline", "zorder": 5, **settings}
    ax.text(at[1], at[0], text, **settings)


def number(value: Any) -> str:
    """Return a number as it is printed in a cell: a true minus sign, at most two decimals.

    Examples
    --------
    >>> number(-3), number(0.5), number(2.0), number("x")
    ('−3', '0.5', '2', 'x')
    """
    if isinstance(value, float | np.floating):
        value = np.format_float_positional(value, precision=2, trim="-")
    return str(value).replace("-", "\N{MINUS SIGN}")


def stems(ax: Axes, values: ArrayLike, *, start: int = 0, role: str = "input", label: str | None = None) -> None:
    """Plot a sequence as stems on its indices ``start, start + 1, ...``."""
    values = np.asarray(values)
    index = start + np.arange(len(values))
    ax.vlines(index, 0, values, color=PALETTE[role], linewidth=1.6)
    ax.plot(index, values, "o", color=PALETTE[role], label=label)
    ax.axhline(0, color="#777777", linewidth=0.8)


def panels(rows: int = 1, columns: int = 1, *, height: float = 2.6, **settings: Any) -> tuple[Figure, np.ndarray]:
    """Return a chart of width `WIDTH` and its axes, an array of shape (rows, columns)."""
    return plt.subplots(rows, columns, figsize=(WIDTH, rows * height), squeeze=False, layout="constrained", **settings)


def source_of(function: Any) -> str:
    """Return the source of a function, a class or a Triton kernel as a page prints it.

    It begins with its own first line: decorators are left out, and the indent that it has inside a class. So are the
    remarks that tell the formatter to leave lines as they are.

    Examples
    --------
    >>> print(source_of(svg))
    def svg(figure: Figure) -> bytes:
        \"\"\"Return a figure as SVG, the same bytes for the same figure.\"\"\"
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata=METADATA, bbox_inches="tight")
        return buffer.getvalue()
    """
    source = textwrap.dedent(inspect.getsource(getattr(function, "fn", function)))
    first = re.search(r"^(async )?(def|class) ", source, re.M)
    return re.sub(r"  # fmt: skip$", "", source[first.start() :], flags=re.M).rstrip()


def _rows(array: np.ndarray) -> np.ndarray:
    if array.ndim not in (1, 2):
        raise ValueError(f"values must have one or two axes, got shape {array.shape}")
    return np.atleast_2d(array)


def _mix(colour: str, other: str, strength: float) -> str:
    return to_hex(strength * np.array(to_rgb(colour)) + (1 - strength) * np.array(to_rgb(other)))
