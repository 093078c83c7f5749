"""Convolution as a product of matrices: the weight times windows of the padded input, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from konvlib import geometry
from konvlib.geometry import ConvGeometry

BLOCK = 1 << 20
"""Bytes of windows to copy at once: few enough for a processor's cache, and for memory that stays with the process."""

FEWEST = 64
"""Windows to copy at once at least, so that a matrix product is worth reading its weight for."""

SERIAL = 1 << 18
"""Products up to which OpenBLAS multiplies matrices on the calling thread, without waiting for others."""

NARROW = 1 << 12
"""Entries up to which a weight is multiplied in serial pieces: threads gain little where most time goes into copies."""

BAND = 1 << 23
"""Bytes of the padded input to hold at once, in the dtype in which products are summed."""


def by_windows(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, rows: int, y: np.ndarray | None = None) -> np.ndarray:
    """Convolve, in the dtype of ``w``: each window, written as a column, is multiplied by all kernels of its group.

    Outputs that neighbour on the first axis can share a column: ``rows`` of them become output channels of a layer
    whose stride is ``rows`` times as large, and whose kernels hold the same taps, each kernel ``stride`` further down.

    Parameters
    ----------
    x : array
        The input, of any dtype that casts to that of ``w``; its padding is zeros, another is part of it already.
    y : array, optional
        Where to put the output; if it holds integers, so do the products.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0, 0.0]]]), np.array([[[2.0, 1.0]]])
    >>> layer = geometry.conv_geometry(x.shape, w.shape, axes=1)
    >>> by_windows(x, w, layer, 1), by_windows(x, w, layer, 2)
    (array([[[5., 8., 4.]]]), array([[[5., 8., 4.]]]))
    """
    y = np.empty(layer.output_shape, dtype=w.dtype) if y is None else y
    x, w = grouped(x, w, layer)
    step, gap = layer.stride[0], layer.dilation[0]
    dilation, unit = layer.dilation, prod(layer.kernel_size) == 1
    if rows > 1 and not unit:
        w, dilation = _stacked(w, rows, step, gap), (1, *layer.dilation[1:])
    for images, lines, cut in _bands(layer, rows, BAND // w.itemsize):
        part, target = padded_part(x[images], cut, w.dtype), y[images, :, lines]
        target = target.reshape(len(part), layer.groups, -1, *target.shape[2:])
        if unit:
            _multiply_pixels(part, w, target, layer.stride)
        else:
            _multiply_rows(part, w, target, rows, layer.stride, dilation)
    return y


class Cut(NamedTuple):
    """A part of the padded input: its size, which samples of the input it has, and where."""

    size: tuple[int, ...]
    samples: tuple[slice, ...]
    places: tuple[slice, ...]


def cut_of(layer: ConvGeometry, starts: Sequence[int], size: Sequence[int]) -> Cut:
    """Return the part of the padded input that starts at ``starts``, along each axis; beyond the padding are zeros too.

    Examples
    --------
    >>> cut_of(geometry.conv_geometry((1, 1, 3), (1, 1, 2), axes=1, padding=[(2, 1)]), [1], [6])
    Cut(size=(6,), samples=(slice(0, 3, None),), places=(slice(1, 4, None),))
    """
    samples, places = [], []
    for length, before, start, extent in zip(layer.input_size, layer.before, starts, size, strict=True):
        low = max(start - before, 0)
        high = max(low, min(start - before + extent, length))
        samples.append(slice(low, high))
        places.append(slice(low + before - start, high + before - start))
    return Cut(tuple(size), tuple(samples), tuple(places))


def padded_part(x: np.ndarray, cut: Cut, dtype: np.dtype) -> np.ndarray:
    """Return a part of the padded input in a dtype, a view where that is possible.

    Examples
    --------
    >>> cut = cut_of(geometry.conv_geometry((1, 1, 3), (1, 1, 2), axes=1, padding=[(2, 1)]), [1], [6])
    >>> padded_part(np.array([[[[1, 3, 2]]]]), cut, np.dtype(int))
    array([[[[0, 1, 3, 2, 0, 0]]]])
    """
    samples = x[(..., *cut.samples)]
    if samples.shape[3:] == cut.size:
        return samples.astype(dtype, copy=False)
    part = np.zeros((*x.shape[:3], *cut.size), dtype=dtype)
    part[(..., *cut.places)] = samples
    return part


def windows_cost(layer: ConvGeometry, rows: int) -> float:
    """How many nanoseconds `by_windows` is estimated to take in float32.

    The constants are fitted to timings (``python -m benchmarks.images_cpu --methods``): what it takes to copy one
    sample, to multiply it by each of the first eight weights, and by each of the others, which BLAS does faster.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 99, 99), (1, 1, 3, 3), axes=2)
    >>> windows_cost(layer, 4) < windows_cost(layer, 1)
    True
    """
    span, *rest = layer.kernel_size
    if rows > 1:
        span = (rows - 1) * layer.stride[0] + geometry.span(span, dilation=layer.dilation[0])
    columns = layer.batch * layer.groups * prod(layer.output_size) / rows
    products = layer.out_channels // layer.groups * rows
    each = 0.4 + 0.05 * min(products, 8) + 0.02 * max(products - 8, 0)
    return columns * layer.weight_shape[1] * span * prod(rest) * each


def rows_at_once(layer: ConvGeometry) -> int:
    """How many outputs that neighbour on the first axis should share a column.

    More outputs per column mean fewer copies per output, which is what few output channels cost, and more products
    with zeros.

    Examples
    --------
    >>> image, layer = ((1, 1, 99, 99), (1, 1, 3, 3)), ((1, 64, 56, 56), (64, 64, 3, 3))
    >>> [rows_at_once(geometry.conv_geometry(*shapes, axes=2)) for shapes in (image, layer)]
    [4, 1]
    """
    choices = [rows for rows in (1, 2, 4, 8, 16, 32) if rows <= layer.output_size[0]]
    return min(choices, key=lambda rows: windows_cost(layer, rows))


def grouped(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Return ``x`` as (N, groups, C // groups, *size) and ``w`` as (groups, C_out // groups, C // groups, *kernel).

    Examples
    --------
    >>> layer = geometry.conv_geometry((5, 4, 9), (6, 2, 3), axes=1, groups=2)
    >>> [a.shape for a in grouped(np.ones((5, 4, 9)), np.ones((6, 2, 3)), layer)]
    [(5, 2, 2, 9), (2, 3, 2, 3)]
    """
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    return x.reshape(-1, layer.groups, depth, *x.shape[2:]), w.reshape(layer.groups, width, *w.shape[1:])


@lru_cache(256)
def _bands(layer: ConvGeometry, rows: int, most: int) -> list[tuple[slice, slice, Cut]]:
    """Cut a layer into images, or an image into lines of outputs, at least ``rows`` and mostly a multiple of them.

    The padded input of each, which comes third, has about ``most`` samples. The last may repeat lines.
    """
    each = zip(layer.output_size, layer.stride, layer.kernel_size, layer.dilation, strict=True)
    (first, step, reach), *others = [(o, s, geometry.span(k, dilation=d)) for o, s, k, d in each]
    rest = [(outputs - 1) * stride + span for outputs, stride, span in others]
    line = layer.in_channels * prod(rest) * step
    lines = min(first, max(most // line, 4 * reach // step, rows) // rows * rows)
    images = max(1, most // (line * (first + reach // step)))
    bands = []
    for image, start in product(range(0, layer.batch, images), range(0, first, lines)):
        end = min(start + lines, first)
        start = min(start, max(0, end - rows))
        cut = cut_of(layer, (start * step, *[0] * len(rest)), ((end - start - 1) * step + reach, *rest))
        bands.append((slice(image, min(image + images, layer.batch)), slice(start, end), cut))
    return bands


def _multiply_pixels(x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: Sequence[int]) -> None:
    """Where kernels have one tap, the input itself is the matrix of windows."""
    x = x[(..., *(slice(None, (n - 1) * s + 1, s) for n, s in zip(y.shape[3:], stride, strict=True)))]
    w, x = w.reshape(w.shape[:3]), x.reshape(*x.shape[:3], -1)
    if y.dtype == w.dtype:
        np.matmul(w, x, out=y.reshape(*y.shape[:3], -1))  # lines lie together: this is a view
    else:
        y[...] = as_held(w @ x, y.dtype).reshape(y.shape)


def as_held(sums: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return sums as they are stored: where integers are, through int64, in which they wrap.

    Examples
    --------
    >>> as_held(np.array([255.0, 256.0]), np.dtype(np.uint8)).astype(np.uint8)
    array([255,   0], dtype=uint8)
    """
    return sums.astype(np.int64) if dtype.kind in "biu" and sums.dtype.kind == "f" else sums


def _multiply_rows(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, rows: int, stride: Sequence[int], dilation: Sequence[int]
) -> None:
    """Fill ``y``, shaped (N, groups, C_out // groups, *outputs), from columns that serve ``rows`` outputs each."""
    step, *steps = stride
    *outer, first = y.shape[:4]
    places = [(0, first // rows * rows)]
    if first % rows:
        places.append((first - rows, first))  # the rows left over, and again some that are done
    for begin, end in places:
        part = y[:, :, :, begin:end].reshape(*outer, (end - begin) // rows, rows, *y.shape[4:])
        _multiply_windows(x[:, :, :, begin * step :], w, part, (rows * step, *steps), dilation)


def _stacked(w: np.ndarray, rows: int, step: int, gap: int) -> np.ndarray:
    """``rows`` copies of each kernel, each ``step`` further down the first axis, as output channels."""
    groups, width, depth, kernel, *rest = w.shape
    span = geometry.span(kernel, dilation=gap)
    stacked = np.zeros((groups, width, rows, depth, (rows - 1) * step + span, *rest), dtype=w.dtype)
    for row in range(rows):
        stacked[:, :, row, :, row * step : row * step + span : gap] = w
    return stacked.reshape(groups, width * rows, *stacked.shape[3:])


def _multiply_windows(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: Sequence[int], dilation: Sequence[int]
) -> None:
    """Fill ``y``, shaped (N, groups, C_out // groups, outputs, rows, *outputs), block by block."""
    batch, groups, width, first, rows, *rest = y.shape
    depth, *kernel = w.shape[2:]
    w = w.reshape(groups, width * rows, -1)
    phases = _phases(kernel[-1], stride[-1], dilation[-1])
    x = _by_phase(x, stride[-1], phases)
    columns = products = np.empty(0, dtype=x.dtype)
    unit = w.shape[2] * x.itemsize
    # As many windows as kernels at least, so that a weight that fills the cache is not read for fewer. A narrow weight
    # has few products beside each block, so that there is room for more windows.
    most = max(BLOCK * (1 if prod(w.shape[1:]) > NARROW else 2), unit * max(FEWEST, width * rows))
    for place in _blocks((batch, groups, first, *rest), unit, most):
        images, some, *outputs = [part.stop - part.start for part in place]
        shape = (some, depth, *kernel, images, *outputs)
        if columns.size < prod(shape):
            columns = np.empty(prod(shape), dtype=x.dtype)
        windows = columns[: prod(shape)].reshape(shape)
        _copy_windows(x, windows, place, stride, dilation, phases)
        windows = windows.reshape(some, w.shape[2], -1)
        target = y[(*place[:2], slice(None), place[2], slice(None), *place[3:])]
        if images == rows == 1 and target.shape[5:] == y.shape[5:] and y.dtype == w.dtype:
            _multiply(w[place[1]], windows, target.reshape(some, width, -1))  # lines lie together: this is a view
            continue
        if products.size < some * w.shape[1] * windows.shape[2]:
            products = np.empty(some * w.shape[1] * windows.shape[2], dtype=w.dtype)
        sums = products[: some * w.shape[1] * windows.shape[2]].reshape(some, w.shape[1], -1)
        _multiply(w[place[1]], windows, sums)
        sums = sums.reshape(some, width, rows, images, *outputs)
        target[...] = as_held(sums.transpose(3, 0, 1, 4, 2, *range(5, sums.ndim)), y.dtype)


@lru_cache(256)
def _phases(kernel: int, stride: int, dilation: int) -> dict[int, int]:
    """The phases of the last axis that its taps show, each with its place among them."""
    return {phase: place for place, phase in enumerate(sorted({tap * dilation % stride for tap in range(kernel)}))}


def _by_phase(x: np.ndarray, stride: int, phases: Mapping[int, int]) -> np.ndarray:
    """The last axis as two, so that what a stride selects lies together: sample ``i`` at ``(i % stride, i // stride)``.

    Only some phases, those that are asked for. Zeros follow the end.
    """
    if stride == 1:
        return x[..., np.newaxis, :]
    split = np.zeros((*x.shape[:-1], len(phases), -(-x.shape[-1] // stride)), dtype=x.dtype)
    for place, phase in enumerate(phases):
        samples = x[..., phase::stride]
        split[..., place, : samples.shape[-1]] = samples
    return split


def _blocks(extents: Sequence[int], unit: int, most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box into blocks of about ``most`` bytes, ``unit`` bytes per entry, whole on its last axes."""
    inner = unit * prod(extents)
    ranges = []
    for extent in extents:
        inner //= extent
        pieces = -(-extent // max(1, min(extent, most // inner)))
        ranges.append(range(0, extent, -(-extent // pieces)))
    for starts in product(*ranges):
        yield tuple([slice(s, min(s + r.step, n)) for s, r, n in zip(starts, ranges, extents, strict=True)])


def _copy_windows(
    x: np.ndarray,
    windows: np.ndarray,
    place: Sequence[slice],
    stride: Sequence[int],
    dilation: Sequence[int],
    phases: Mapping[int, int],
) -> None:
    """Fill ``windows``, shaped (groups, depth, *kernel, N, *outputs), from those at ``place`` of ``x`` by phase.

    One copy for each tap on the last axis takes it in all places of all other axes.
    """
    others = len(stride) - 1
    rows = x.strides[3 : 3 + others]
    taps = [size * gap for size, gap in zip(rows, dilation[:-1], strict=True)]
    moves = [size * step for size, step in zip(rows, stride[:-1], strict=True)]
    strides = (*x.strides[1:3], *taps, x.strides[0], *moves, x.strides[-1])
    starts = [slice(part.start * step, None) for part, step in zip(place[2:-1], stride[:-1], strict=True)]
    images, groups = place[:2]
    x = x[(slice(images.start, None), slice(groups.start, None), slice(None), *starts)]
    for tap in range(windows.shape[2 + others]):
        skip, phase = divmod(tap * dilation[-1], stride[-1])
        target = windows[(slice(None),) * (2 + others) + (tap,)]
        np.copyto(target, as_strided(x[..., phases[phase], place[-1].start + skip :], target.shape, strides))


def _multiply(w: np.ndarray, windows: np.ndarray, products: np.ndarray) -> None:
    """``w @ windows``; with a narrow weight, in pieces so small that each stays on this thread and in its cache."""
    size, columns = SERIAL // prod(w.shape[1:]), windows.shape[-1]
    whole = columns // size * size if prod(w.shape[1:]) <= NARROW and columns > size else 0
    if whole:
        pieces = (a[..., :whole].reshape(*a.shape[:2], -1, size).swapaxes(1, 2) for a in (windows, products))
        np.matmul(w[:, np.newaxis], next(pieces), out=next(pieces))
    np.matmul(w, windows[..., whole:], out=products[..., whole:])
