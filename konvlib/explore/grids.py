"""Explorables on two axes: layers, their matrices, transposes and gradients, Konvolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from konvlib import (
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv_matrix,
    conv_transpose2d,
    im2col,
    konv2d,
    overlap_counts,
)
from konvlib.explore.element import Explorable, Numbers, Table, entries, explorable
from konvlib.geometry import (
    Padding,
    PerAxis,
    paddings,
    per_axis,
)


def images(
    *,
    x: Any = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    w: Any = ((2, 1), (0, 3)),
    stride: PerAxis = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: PerAxis = (1, 1),
    padding_mode: str = "zeros",
    channels: int = 1,
    outputs: int = 1,
    groups: int = 1,
    at: int = 0,
    show: str = "y",
    cell: Numbers = (0, 0, 0),
    task: str | None = None,
) -> Explorable:
    """Show a layer of images: input, kernel and output, and what each number touches.

    Parameters
    ----------
    x : array_like
        The input, ``(rows, columns)``; with two channels ``(channels, rows, columns)``, or their rows one below the
        other.
    w : array_like
        The kernel, ``(rows, columns)``; in general ``(outputs, channels // groups, rows, columns)``, or all rows one
        below the other.
    stride, padding, dilation, padding_mode, groups
        As in `konvlib.conv2d`.
    channels, outputs : {1, 2}
        How many there are, where the shapes of ``x`` and ``w`` do not say it.
    at : int
        The output that is chosen, counted row by row.
    show : {"y", "x", "w"}
        What is looked at: the output, or a pixel or a weight.
    cell : sequence of int
        Which: channel (of a weight: kernel), row, column; padding has rows and columns below 0 too.
    task : {"corners", "moved"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If rows do not go into channels, channels not into groups, or the kernel not into the padded input.

    See Also
    --------
    konvlib.conv2d

    Examples
    --------
    >>> images(stride=2, padding=1)
    Input [[1, 3, 2], [2, 0, 1], [0, 4, 2]], kernel [[2, 1], [0, 3]]: output [[3, 6], [2, 7]]. Every pixel is read.
    >>> images(dilation=2).state
    'dilation.2.2'
    """
    pixels, weights = np.array(x), np.array(w)
    if pixels.ndim == 3:
        channels = len(pixels)
    if weights.ndim == 4:
        outputs = len(weights)
    x, w = (values.reshape(-1, values.shape[-1]).tolist() for values in (pixels, weights))
    depth = max(1, channels // groups)
    for name, rows, parts in (("x", x, f"{channels} channels"), ("w", w, f"{outputs * depth} kernels")):
        if len(rows) % int(parts.split()[0]):
            raise ValueError(f"{name} must have as many rows in each of {parts}, got {len(rows)} rows")
    pixels, weights = np.reshape(x, (1, channels, -1, len(x[0]))), np.reshape(w, (outputs, depth, -1, len(w[0])))
    stride, dilation = per_axis(stride, 2, "stride"), per_axis(dilation, 2, "dilation")
    padding = paddings(padding, kernel_size=weights.shape[2:], stride=stride, dilation=dilation, size=pixels.shape[2:])
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    settings["padding_mode"] = padding_mode
    y = conv2d(pixels, weights, **settings)[0]
    unread = len(unread_pixels(pixels, weights, **settings))
    shown = [values.tolist() if len(values) > 1 else values[0].tolist() for values in (pixels[0], y)]
    kernel = weights.tolist() if outputs * depth > 1 else w
    never = f"{unread} of the pixels {'is' if unread == 1 else 'are'} not read." if unread else "Every pixel is read."
    return explorable(images, locals(), f"Input {shown[0]}, kernel {kernel}: output {shown[1]}. {never}")


def unread_pixels(x: np.ndarray, w: np.ndarray, **settings: Any) -> list[list[int]]:
    """Return the rows and columns of the pixels that no window of a layer reads.

    Examples
    --------
    >>> unread_pixels(np.ones((1, 1, 3, 4), dtype=int), np.ones((1, 1, 2, 3), dtype=int), stride=2)
    [[0, 3], [1, 3], [2, 0], [2, 1], [2, 2], [2, 3]]
    """
    size = x.shape[2:]
    each = np.eye(int(np.prod(size)), dtype=int).reshape(-1, 1, *size)  # a picture for each pixel, which alone is 1
    reads = conv2d(each, np.ones((1, 1, *w.shape[2:]), dtype=int), **(settings | {"groups": 1}))
    return np.argwhere((reads == 0).all(axis=(1, 2, 3)).reshape(size)).tolist()


def matrices(
    *,
    x: Table = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    w: Table = ((2, 1), (0, 3)),
    stride: Numbers = (1, 1),
    padding: Table = ((0, 0), (0, 0)),
    dilation: Numbers = (1, 1),
    view: str = "matrix",
    show: str = "output",
    at: int = 0,
    j: int = 4,
    u: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show a layer beside its matrix, or beside the columns of its windows (im2col).

    Parameters
    ----------
    x, w : sequence of sequence of int
        The input and the kernel, row by row.
    stride, dilation : sequence of int
        Two numbers each, for rows and columns.
    padding : sequence of sequence of int
        Zeros above and below, and on the left and the right.
    view : {"matrix", "columns"}
        What stands beside the layer.
    show : {"output", "input", "tap", "entry"}
        What is chosen: an output, an input, a tap, or an entry of the matrix or of the columns.
    at, j, u : int
        The output, the input and the tap that are looked at, numbered row by row.
    task : {"toeplitz", "once"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If no window fits.

    See Also
    --------
    konvlib.conv_matrix, konvlib.im2col

    Examples
    --------
    >>> matrices()
    K has 4 rows and 9 columns, and 16 of its entries are weights. K flat(x) = [5, 11, 16, 7].
    >>> matrices(view="columns")
    The columns have 4 rows and 4 columns: 16 numbers from 9. w columns = [5, 11, 16, 7].
    """
    image, kernel = np.array(x)[None, None], np.array(w)[None, None]
    steps = {"stride": tuple(stride), "padding": tuple(map(tuple, padding)), "dilation": tuple(dilation)}
    y = conv2d(image, kernel, **steps).ravel().tolist()
    if view == "columns":
        rows, columns = im2col(image, kernel.shape[2:], **steps)[0].shape
        sentence = f"The columns have {rows} rows and {columns} columns: {rows * columns} numbers from {image.size}."
    else:
        rows, columns = len(y), image.size
        weights = int(conv_matrix(np.ones_like(kernel), image.shape[1:], **steps).sum())
        sentence = f"K has {rows} rows and {columns} columns, and {weights} of its entries are weights."
    product = "w columns" if view == "columns" else "K flat(x)"
    return explorable(matrices, locals(), f"{sentence} {product} = {y}.")


def transposes(
    *,
    view: str = "line",
    y: Numbers = (1, 3),
    w: Numbers = (2, 1, -1),
    x: Numbers = (1, 3, 2, 0, 4),
    image: Table = ((1, 3), (2, 0)),
    kernel: Table = ((2, 1), (0, 3)),
    s: int = 2,
    d: int = 1,
    p0: int = 0,
    p1: int = 0,
    rho: int = 0,
    of: str = "place",
    at: int = 2,
    task: str | None = None,
) -> Explorable:
    """Show a layer and its transpose on the same connections, what is cut off, and how many taps reach each place.

    Parameters
    ----------
    view : {"line", "image"}
        One axis, with the layer beside its transpose, or two, with the overlap counts as heat.
    y, w, x : sequence of int
        On one axis: what the transpose sends, the kernel, and what the layer reads, repeated to its size.
    image, kernel : table of int
        On two axes: what the transpose sends, and the kernel.
    s, d, p0, p1 : int
        The layer's stride, dilation and padding before and after, the same on both axes.
    rho : int
        The transpose's output padding.
    of, at : {"place", "sample", "tap"}, int
        What is chosen, and the number of it; places are counted from the first that a tap can reach.
    task : {"back", "flat"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If the output padding is too large, or if the padding cuts everything off.

    See Also
    --------
    konvlib.conv_transpose2d, konvlib.overlap_counts

    Examples
    --------
    >>> transposes()
    The transpose of the layer with kernel [2, 1, -1] and stride 2 makes [2, 1, 5, 3, -3] of [1, 3]; \
overlap counts: [1, 1, 2, 1, 1].
    >>> transposes(view="image", s=1)
    The transpose of the layer with kernel [[2, 1], [0, 3]] and stride 1 makes [[2, 7, 3], [4, 5, 9], [0, 6, 0]] of \
[[1, 3], [2, 0]]; overlap counts: [[1, 2, 1], [2, 4, 2], [1, 2, 1]].
    """
    line = view == "line"
    sent, taps = (
        (np.array([entries("y", y)]), np.array([entries("w", w)])) if line else (np.array(image), np.array(kernel))
    )
    rows = [(1, 1, (0, 0), 0), (s, d, (p0, p1), rho)]  # on one axis nothing happens to the rows
    names = ("stride", "dilation", "padding", "output_padding")
    options: dict[str, Any] = dict(zip(names, zip(*(rows if line else [rows[1]] * 2), strict=True), strict=True))
    made = conv_transpose2d(sent[None, None], taps[None, None], **options)[0, 0]
    shown = [sent, taps, made, overlap_counts(sent.shape, taps.shape, **options)]
    a, b, c, counts = [(values[0] if line else values).tolist() for values in shown]
    sentence = f"The transpose of the layer with kernel {b} and stride {s} makes {c} of {a}; overlap counts: {counts}."
    return explorable(transposes, locals(), sentence)


def gradients(
    *,
    x: Any = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    w: Any = ((2, 1), (0, 3)),
    dy: Any = ((1, -1), (2, 1)),
    stride: PerAxis = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: PerAxis = (1, 1),
    show: str = "dy",
    at: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show what an output's gradient sends to the inputs and the weights of a layer.

    Parameters
    ----------
    x, w : array_like
        The input and the kernel, each rows by columns; one axis is one row.
    dy : array_like
        The output's gradient, of the output's size.
    stride, padding, dilation
        As in `konvlib.conv2d`.
    show : {"dy", "dx", "dw"}
        Which gradient is looked at.
    at : int
        Its entry, counted row by row.
    task : {"silent", "column"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If the kernel does not fit the padded input, or dy has another size than the output.

    See Also
    --------
    konvlib.conv2d_input_grad, konvlib.conv2d_weight_grad

    Examples
    --------
    >>> gradients()
    dy = [[1, -1], [2, 1]] sends dx = [[2, -1, -1], [4, 7, -2], [0, 6, 3]] and dw = [[2, 2], [6, 9]].
    >>> gradients(x=[[1, 3, 2, 0, 4]], w=[[2, 1, -1]], dy=[[1, -1]], stride=(1, 2))
    dy = [[1, -1]] sends dx = [[2, 1, -3, -1, 1]] and dw = [[-1, 3, -2]].
    """
    x, w, dy = ([entries(name, row) for row in rows] for name, rows in (("x", x), ("w", w), ("dy", dy)))
    pixels, weights, sent = (np.array(values)[None, None] for values in (x, w, dy))
    stride, dilation = per_axis(stride, 2, "stride"), per_axis(dilation, 2, "dilation")
    padding = paddings(padding, kernel_size=weights.shape[2:], stride=stride, dilation=dilation, size=pixels.shape[2:])
    layer = {"stride": stride, "padding": padding, "dilation": dilation}
    conv2d(pixels, weights, **layer)  # refuses a kernel that does not fit before a dy that does not
    dx = conv2d_input_grad(sent, weights, input_size=pixels.shape[2:], **layer)[0, 0].tolist()
    dw = conv2d_weight_grad(pixels, sent, kernel_size=weights.shape[2:], **layer)[0, 0].tolist()
    return explorable(gradients, locals(), f"dy = {dy} sends dx = {dx} and dw = {dw}.")


def konvolution(
    *,
    x: Table = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    kappa: Table = ((0, 1, 2, 0), (2, 1, 0, 3), (0, -1, 1, 0)),
    kernel: Numbers = (2, 2),
    basis: str = "monomial",
    padding: int = 0,
    pad: str = "basis",
    tap: int = 1,
    at: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show a Konvolution of a picture: a function at each tap, its coefficients, the expanded channels, the output.

    Parameters
    ----------
    x : table of int
        The picture.
    kappa : table of int
        The coefficients: a row for each degree, a column for each tap, row after row of the kernel.
    kernel : sequence of int
        Rows and columns of the kernel.
    basis : {"monomial", "chebyshev", "chebyshev2", "legendre", "hermite"}
        The polynomials that the coefficients belong to.
    padding : int
        Zeros on all sides.
    pad : {"basis", "input"}
        Whether they are put around the expanded picture, or around the picture before it is expanded.
    tap, at : int
        The tap whose function is chosen, and the output.
    task : {"fourth", "border"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If a tap has no coefficients, or if the kernel does not fit the picture.

    See Also
    --------
    konvlib.konv2d

    Examples
    --------
    >>> konvolution()
    The Konvolution with 4 taps of degree 2, monomial, gives [[3, 10], [19, 25]].
    >>> konvolution(x=[[1, 3]], kappa=[[1], [0], [1]], kernel=(1, 1), basis="chebyshev", padding=1)
    The Konvolution with 1 tap of degree 2, chebyshev, gives [[0, 0, 0, 0], [0, 2, 18, 0], [0, 0, 0, 0]].
    """
    taps, coefficients = kernel[0] * kernel[1], np.array(kappa, dtype=object)
    if coefficients.shape[1] != taps:
        count = f"{taps} column{'s' if taps > 1 else ''}"
        raise ValueError(f"kappa must have {count}, one for each tap, got {coefficients.shape[1]}")
    table = coefficients.reshape(1, -1, 1, *kernel)
    y = konv2d(np.array([[x]], dtype=object), table, basis=basis, padding=padding, pad=pad)[0, 0]
    degree = f"{taps} tap{'s' if taps > 1 else ''} of degree {len(coefficients) - 1}"
    values = [[int(value) if value == int(value) else float(value) for value in row] for row in y]
    return explorable(konvolution, locals(), f"The Konvolution with {degree}, {basis}, gives {values}.")
