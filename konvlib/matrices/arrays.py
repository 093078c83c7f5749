"""The convolution as a matrix with NumPy and SciPy: index arithmetic, strided views, BLAS and FFTs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from konvlib import geometry
from konvlib.geometry import ConvGeometry, spectral_dtype
from konvlib.images.arrays import zeros_around
from konvlib.matrices.blocks import blocks, pieces

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCK = 1 << 20
"""About how many entries of columns, or of a matrix, to make at once."""

SPECTRUM = 1 << 27
"""Bytes up to which the matrices of all frequencies are held at once."""


def conv_matrix(w: np.ndarray, layer: ConvGeometry) -> csr_array:
    """Return the matrix of a convolution layer; halves become singles, since sparse arrays multiply no halves.

    The rows of all output channels have their entries in the same places, but for the channels of their group: so those
    of the first are found, rows whose windows meet the input in equally many taps together.

    Examples
    --------
    >>> from konvlib.geometry import matrix_geometry
    >>> conv_matrix(np.array([[[2, 1]]]), matrix_geometry((1, 1, 2), input_shape=(1, 4), stride=2)).toarray()
    array([[2, 1, 0, 0],
           [0, 0, 2, 1]])
    """
    # Here and not at the top: only those who ask for the matrix wait for the import of sparse arrays.
    from scipy.sparse import csr_array

    w = w.astype(np.float32 if w.dtype == np.float16 else w.dtype, copy=False).reshape(layer.out_channels, -1)
    shape, depth = (prod(layer.output_shape[1:]), prod(layer.input_shape[1:])), layer.weight_shape[1]
    axes = [_windows(layer, axis) for axis in range(layer.axes)]
    index = np.int32 if max(*shape, w.shape[0] * depth * prod(int(a.counts.sum()) for a in axes)) < 2**31 else np.int64
    per_row = depth * reduce(np.multiply.outer, [axis.counts.astype(index) for axis in axes]).ravel()
    starts = np.zeros(shape[0] + 1, dtype=index)
    np.cumsum(np.broadcast_to(per_row, (layer.out_channels, len(per_row))), out=starts[1:])
    taps, sources = (np.empty(starts[len(per_row)], dtype=kind) for kind in (np.min_scalar_type(w.shape[1]), index))
    alike = [[np.flatnonzero(axis.counts == count) for count in np.unique(axis.counts)] for axis in axes]
    for windows in product(*alike):
        each = depth * prod(int(axis.counts[some[0]]) for axis, some in zip(axes, windows, strict=True))
        if each == w.shape[1]:
            _fill_whole(layer, windows, starts, taps, sources)
            continue
        for box in pieces([len(some) for some in windows], BLOCK // each) if each else ():
            rows, *found = _places(layer, axes, [some[part] for some, part in zip(windows, box, strict=True)])
            place = starts[rows][:, np.newaxis] + np.arange(each, dtype=index)
            taps[place], sources[place] = found
    first_channel = np.arange(layer.out_channels) // (layer.out_channels // layer.groups) * depth
    first_column = (first_channel * prod(layer.input_size)).astype(index)[:, np.newaxis]
    entries, together = np.empty((layer.out_channels, len(taps)), dtype=w.dtype), max(1, BLOCK // layer.out_channels)
    for begin in range(0, len(taps), together):
        entries[:, begin : begin + together] = w.take(taps[begin : begin + together], 1)
    return csr_array((entries.ravel(), (sources + first_column).ravel(), starts), shape=shape)


class Windows(NamedTuple):
    """Of each window of an axis, how many taps meet the input, which is the first, and which sample that one shows."""

    counts: np.ndarray
    taps: np.ndarray
    samples: np.ndarray


def _windows(layer: ConvGeometry, axis: int) -> Windows:
    gap = layer.dilation[axis]
    begins = np.arange(layer.output_size[axis]) * layer.stride[axis] - layer.padding[axis][0]
    first = np.maximum(-(begins // gap), 0)
    end = np.minimum((layer.input_size[axis] - 1 - begins) // gap + 1, layer.kernel_size[axis])
    return Windows(np.maximum(end - first, 0), first, begins + gap * first)


def _fill_whole(
    layer: ConvGeometry, windows: Sequence[np.ndarray], starts: np.ndarray, taps: np.ndarray, sources: np.ndarray
) -> None:
    """Fill in the rows, for the first output channel, whose windows lie inside the input; they are neighbours.

    The entries of neighbours along the last axis lie one after the other, those of others in equal steps.
    """
    by_row = starts[: prod(layer.output_size)].reshape(layer.output_size)[np.ix_(*windows)]
    samples, seen, strides = [], [np.arange(layer.weight_shape[1]) * prod(layer.input_size)], []
    for axis, some in enumerate(windows):
        step = prod(layer.input_size[axis + 1 :])
        samples.append((some * layer.stride[axis] - layer.padding[axis][0]) * step)
        seen.append(np.arange(layer.kernel_size[axis]) * (layer.dilation[axis] * step))
        strides.append(int(np.ptp(by_row.swapaxes(0, axis)[:2].reshape(2, -1)[:, 0])) if len(some) > 1 else 0)
    offsets = reduce(np.add.outer, seen).ravel()
    line = np.add.outer(samples.pop(), offsets).ravel().astype(sources.dtype)
    first = reduce(np.add.outer, samples) if samples else np.zeros((), dtype=int)

    def lines(entries: np.ndarray) -> np.ndarray:  # a view that NumPy checks
        size, begin = entries.itemsize, int(by_row.flat[0])
        shape, steps = (*by_row.shape[:-1], len(line)), [stride * size for stride in (*strides[:-1], 1)]
        return np.ndarray(shape, entries.dtype, entries, begin * size, steps)

    lines(taps)[...] = np.tile(np.arange(len(offsets), dtype=taps.dtype), by_row.shape[-1])
    np.add(first.astype(sources.dtype)[..., np.newaxis], line, out=lines(sources))


def _places(
    layer: ConvGeometry, axes: Sequence[Windows], windows: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rows whose windows meet the input in equally many taps have their entries, for the first output channel.

    Returns the rows, and of each entry the weight and the column, both shaped (rows, entries).
    """
    rows = np.zeros(1, dtype=np.int64)
    taps = sources = np.zeros((1, 1), dtype=np.int64)
    for axis, (known, some) in enumerate(zip(axes, windows, strict=True)):
        turns = np.arange(known.counts[some[0]])
        tap = known.taps[some][:, np.newaxis] + turns
        source = known.samples[some][:, np.newaxis] + turns * layer.dilation[axis]
        rows = (rows[:, np.newaxis] * layer.output_size[axis] + some).ravel()
        taps, sources = (
            (old[:, np.newaxis, :, np.newaxis] * size + new[:, np.newaxis, :]).reshape(len(rows), -1)
            for old, size, new in ((taps, layer.kernel_size[axis], tap), (sources, layer.input_size[axis], source))
        )
    channel = np.arange(layer.weight_shape[1])[:, np.newaxis]
    taps, sources = (
        (channel * size + places[:, np.newaxis, :]).reshape(len(rows), -1)
        for places, size in ((taps, prod(layer.kernel_size)), (sources, prod(layer.input_size)))
    )
    return rows, taps, sources


def im2col(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Write each window of a batch of images as a column.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> im2col(np.array([[[1, 3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2, stride=2))
    array([[[1, 2],
            [3, 0]]])
    """
    cols = np.empty((*x.shape[:2], *layer.kernel_size, *layer.output_size), dtype=x.dtype)
    for images, *outputs in blocks(layer, 4 * BLOCK):
        cols[(images, ..., *outputs)] = columns(x, layer, (images, *outputs))
    return cols.reshape(layer.batch, layer.in_channels * prod(layer.kernel_size), prod(layer.output_size))


def columns(x: np.ndarray, layer: ConvGeometry, place: Sequence[slice]) -> np.ndarray:
    """Return what a block of windows shows, ``(N, C, *kernel_size, *outputs)``; it may be a view of ``x``.

    Where taps or windows lie so far apart that most samples between them are not seen, each is copied by itself.

    Examples
    --------
    >>> layer = geometry.im2col_geometry((1, 1, 4), kernel_size=2, padding=1)
    >>> columns(np.array([[[1, 3, 2, 0]]]), layer, (slice(0, 1), slice(0, 3)))
    array([[[[0, 1, 3],
             [1, 3, 2]]]])
    """
    images, *outputs = place
    x, counts = x[images], [part.stop - part.start for part in outputs]
    shape = (*x.shape[:2], *layer.kernel_size, *counts)
    inside, margins = [], [(0, 0), (0, 0)]
    for axis, (part, count) in enumerate(zip(outputs, counts, strict=True)):
        begin = part.start * layer.stride[axis] - layer.padding[axis][0]
        end = begin + (count - 1) * layer.stride[axis] + layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        first, last = min(max(begin, 0), layer.input_size[axis]), max(min(end, layer.input_size[axis]), 0)
        before = min(max(-begin, 0), end - begin)
        inside.append(slice(first, last))
        margins.append((before, end - begin - before - max(last - first, 0)))
    seen = prod(sum(sides) + max(part.stop - part.start, 0) for sides, part in zip(margins[2:], inside, strict=True))
    if seen > 4 * prod(shape[2:]) and any(map(any, margins)):
        cols = np.zeros(shape, dtype=x.dtype)
        paired = _paired(cols, layer.axes)
        for pairs, samples in meetings(layer, outputs):
            paired[(..., *pairs)] = x[(..., *samples)]
        return cols
    x = x[(..., *inside)]
    if any(map(any, margins)):
        x = zeros_around(x, margins)
    steps = [size * step for size, step in zip(x.strides[2:], layer.stride, strict=True)]
    gaps = [size * gap for size, gap in zip(x.strides[2:], layer.dilation, strict=True)]
    return as_strided(x, shape, (*x.strides[:2], *gaps, *steps), writeable=False)


def meetings(layer: ConvGeometry, outputs: Sequence[slice]) -> Iterator[tuple[list[int | slice], tuple[slice, ...]]]:
    """Yield where taps and windows of a block meet the input: pairs of tap and window per axis, and the samples.

    Along each axis, one of each pair is a number, and the other a slice: a tap and the windows in which it meets the
    input, or a window and the taps with which it does, whichever are fewer.

    Examples
    --------
    >>> layer = geometry.im2col_geometry((1, 1, 4), kernel_size=2, padding=1)
    >>> for (tap, windows), (samples,) in meetings(layer, [slice(0, 5)]):
    ...     print(tap, windows.start, windows.stop, samples.start, samples.stop)
    0 1 5 0 4
    1 0 4 0 4
    """
    axes = []
    for axis, part in enumerate(outputs):
        count, kernel = part.stop - part.start, layer.kernel_size[axis]
        moves = layer.dilation[axis], layer.stride[axis]
        begin = part.start * layer.stride[axis] - layer.padding[axis][0]
        by_taps = kernel <= count
        turns, length = (kernel, count) if by_taps else (count, kernel)
        jump, step = moves if by_taps else moves[::-1]
        met = []
        for turn in range(turns):
            first = begin + turn * jump
            low, high = max(0, -(first // step)), min(length, (layer.input_size[axis] - 1 - first) // step + 1)
            if low < high:
                run = slice(low, high)
                samples = slice(first + low * step, first + (high - 1) * step + 1, step)
                met.append(((turn, run) if by_taps else (run, turn), samples))
        axes.append(met)
    for each in product(*axes):
        yield [index for pair, _ in each for index in pair], tuple([samples for _, samples in each])


def _paired(cols: np.ndarray, axes: int) -> np.ndarray:
    """Columns ``(N, C, *kernel_size, *outputs)`` with the taps and the windows of each axis side by side."""
    return cols.transpose(0, 1, *[2 + axis + side for axis in range(axes) for side in (0, axes)])


def col2im(cols: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Add each column up where its window came from; halves are summed as singles.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> col2im(np.array([[[1, 3, 2], [3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2))
    array([[[1, 6, 4, 0]]])
    """
    sums = np.dtype(np.float32) if cols.dtype == np.float16 else cols.dtype
    x = np.zeros(layer.input_shape, dtype=sums)
    cols_ = cols.reshape(*x.shape[:2], *layer.kernel_size, *layer.output_size)
    add_columns(x, cols_, layer, [slice(0, n) for n in layer.output_size])
    return x.astype(cols.dtype, copy=False)


def add_columns(x: np.ndarray, cols: np.ndarray, layer: ConvGeometry, outputs: Sequence[slice]) -> None:
    """Add the columns of a block of windows, ``(N, C, *kernel_size, *outputs)``, to the images that they came from.

    Examples
    --------
    >>> x, layer = np.array([[[1, 1, 1, 1]]]), geometry.im2col_geometry((1, 1, 4), kernel_size=2)
    >>> add_columns(x, np.array([[[[3, 2], [2, 0]]]]), layer, [slice(1, 3)])
    >>> x
    array([[[1, 4, 5, 1]]])
    """
    paired = _paired(cols, layer.axes)
    for pairs, samples in meetings(layer, outputs):
        x[(..., *samples)] += paired[(..., *pairs)]


def conv2d_im2col(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Convolve by `im2col` and one matrix product per group, block by block.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]]), np.array([[[[2, 1], [0, 3]]]])
    >>> conv2d_im2col(x, w, np.array([10]), conv_geometry(x.shape, w.shape, (1,), axes=2))
    array([[[[15, 21],
             [26, 17]]]])
    """
    dtype, rows = np.result_type(x, w, *([] if bias is None else [bias])), prod(layer.weight_shape[1:])
    sums = geometry.sum_dtype(dtype, x, w, rows)
    w = w.astype(sums, copy=False).reshape(layer.groups, -1, rows)
    y = np.empty(layer.output_shape, dtype=dtype)
    for images, *outputs in blocks(layer, BLOCK):
        part = y[(images, slice(None), *outputs)]
        cols = columns(x, layer, (images, *outputs)).astype(sums, copy=False)
        products = (w @ cols.reshape(len(part), layer.groups, rows, -1)).reshape(part.shape)
        put_sums(part, products, bias)
    return y


def put_sums(y: np.ndarray, sums: np.ndarray, bias: np.ndarray | None) -> None:
    """Write sums and bias into ``y``, in whose dtype integers wrap; halves are rounded once. ``sums`` may be ``y``.

    Examples
    --------
    >>> y = np.empty((1, 1, 2), np.int8)
    >>> put_sums(y, np.array([[[100.0, 300.0]]]), np.array([100], np.int8))
    >>> y
    array([[[ -56, -112]]], dtype=int8)
    """
    if bias is not None:
        bias = bias.astype(y.dtype if y.dtype.kind in "biu" else sums.dtype, copy=False)
        bias = bias.reshape(-1, *(1,) * (y.ndim - 2))
    if sums is y:
        if bias is not None:
            y += bias
        return
    for place in pieces(y.shape, BLOCK):
        part = sums[place]
        if part.dtype.kind == "f" and y.dtype.kind in "biu":
            part = part.astype(np.int64)
        if bias is not None:
            part = part.astype(bias.dtype, copy=False) + bias[place[1]]
        y[place] = part


def is_finite(w: np.ndarray) -> bool:
    """Whether an array of machine numbers holds neither infinity nor NaN.

    Examples
    --------
    >>> is_finite(np.array([1, 3])), is_finite(np.array([1, np.inf]))
    (True, False)
    """
    return bool(np.isfinite(w).all())


def circulant_singular_values(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the singular values of a layer with circular boundary.

    For a real weight, frequencies ``f`` and ``-f`` have conjugate matrices, so half of them are enough.

    Examples
    --------
    >>> circulant_singular_values(np.array([[[3, 1]]]), (2,))
    array([4., 2.])
    """
    real = w.dtype.kind != "c"
    single = spectral_dtype(w.dtype) == np.float32
    w = w.astype((np.float32 if single else np.float64) if real else (np.complex64 if single else np.complex128))
    values = np.empty((*size, min(w.shape[:2])), dtype=spectral_dtype(w.dtype))
    half = size[-1] // 2 + 1 if real else size[-1]
    known, done = values[..., :half, :], 0
    for matrices in _spectra(_fold(w, size), size, half):
        places = np.unravel_index(np.arange(done, done + len(matrices)), known.shape[:-1])
        known[places] = np.linalg.svd(matrices, compute_uv=False)
        done += len(matrices)
    if real:
        twins = (size[-1] + 1) // 2
        values[..., half:, :] = values[..., 1:twins, :]
    values = values.reshape(-1)
    values.sort()
    return values[::-1]


def _spectra(w: np.ndarray, size: tuple[int, ...], half: int) -> Iterator[np.ndarray]:
    """The matrices ``(frequencies, C_out, C_in)`` of frequencies in order, ``half`` of them on the last axis.

    They are transformed together, unless that takes much more memory than the weight; then the sums of some of them are
    a matrix product.
    """
    counts, pairs, complex_dtype = (*size[:-1], half), prod(w.shape[:2]), np.result_type(w, np.complex64)
    if pairs * prod(counts) * complex_dtype.itemsize <= max(SPECTRUM, w.nbytes):
        from scipy import fft as transforms  # here, so that importing konvlib does not load it

        transform = transforms.fftn if w.dtype.kind == "c" else transforms.rfftn
        spectrum = transform(w, size, axes=range(2, w.ndim))
        yield np.moveaxis(spectrum, (0, 1), (-2, -1)).reshape(-1, *w.shape[:2])
        return
    taps = np.indices(w.shape[2:]).reshape(len(size), -1)
    together = max(1, SPECTRUM // 4 // (complex_dtype.itemsize * max(pairs, taps.shape[1])))
    for first in range(0, prod(counts), together):
        frequencies = np.unravel_index(np.arange(first, min(first + together, prod(counts))), counts)
        turns = sum(np.outer(f, t) % n / n for f, t, n in zip(frequencies, taps, size, strict=True))
        waves = np.exp(-2j * np.pi * turns).astype(complex_dtype)
        yield (waves @ w.reshape(pairs, -1).T).reshape(-1, *w.shape[:2])


def _fold(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The kernel on a circle of ``size`` samples per axis: taps a whole turn apart are added."""
    for axis, n in enumerate(size, start=2):
        turns = -(-w.shape[axis] // n)
        if turns > 1:
            margin = [(0, 0)] * w.ndim
            margin[axis] = (0, turns * n - w.shape[axis])
            w = np.pad(w, margin)
            w = w.reshape(*w.shape[:axis], turns, n, *w.shape[axis + 1 :]).sum(axis=axis)
    return w
