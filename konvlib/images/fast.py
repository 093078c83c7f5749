"""The convolution layer and pooling with NumPy and SciPy: products of windows, spectra of tiles, sums over taps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import inf, prod

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike
from scipy import fft as transforms

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, by_rank

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

SERIAL = 1 << 18
"""Products up to which OpenBLAS multiplies matrices on the calling thread, without waiting for others."""

NARROW = 1 << 12
"""Entries up to which a weight is multiplied in serial pieces: threads gain little where most time goes into copies."""

BLOCK = 1 << 21
"""Bytes of windows to copy at once, few enough for a core's cache."""

LARGEST_SPECTRUM = 1 << 24
"""Samples up to which a weight, each of its kernels padded to a tile, is transformed."""

LEAST_TILE = {1: 1 << 12, 2: 1 << 7, 3: 1 << 5}
"""Samples per axis of the smallest tile worth transforming, by the number of axes."""


def conv(
    axes: int,
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Convolve a batch as a layer does, over # spatial axes: `konvlib.conv#d` on arrays.

    Examples
    --------
    >>> conv2d([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]], [[[[2, 1], [0, 3]]]])
    array([[[[ 5, 11],
             [16,  7]]]])
    """
    x, w = geometry.as_array(x, "x"), geometry.as_array(w, "w")
    terms = [x, w] if bias is None else [x, w, bias := geometry.as_array(bias, "bias")]
    layer = geometry.conv_geometry(
        x.shape,
        w.shape,
        None if bias is None else bias.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )
    dtype = np.result_type(*terms)
    sums = _sum_dtype(dtype, x, w, prod(layer.weight_shape[1:]))
    x, w = x.astype(sums, copy=False), w.astype(sums, copy=False)
    if layer.batch == 0 or sums.char not in "fdFD":
        y = by_taps(x, w, layer)
    elif dtype.kind in "biu":
        y = by_windows(_pad(x, layer), w, layer, rows_at_once(layer)).astype(np.int64).astype(dtype)
    else:
        y = _by_quickest(x, w, layer)
    if bias is not None:
        y += bias.astype(y.dtype, copy=False).reshape(-1, *(1,) * axes)
    return y.astype(dtype, copy=False)


conv1d, conv2d, conv3d = by_rank(conv, "conv#d")


def max_pool(
    axes: int,
    x: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Take the largest sample of each window: `konvlib.max_pool#d` on arrays.

    The largest of a window is the largest of its rows' largest, so each axis is pooled by itself.

    Examples
    --------
    >>> max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[3, 5]]]])
    """
    x = geometry.as_array(x, "x")
    geometry.check_ordered(x, "x")
    pool = geometry.pool_geometry(
        x.shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    for axis in range(axes):
        step, gap, (before, _) = pool.stride[axis], pool.dilation[axis], pool.padding[axis]
        source, windows = np.moveaxis(x, axis + 2, 0), pool.output_size[axis]
        x = np.empty((*x.shape[: axis + 2], windows, *x.shape[axis + 3 :]), dtype=x.dtype)
        largest = np.moveaxis(x, axis + 2, 0)
        padded = min(windows, -(-before // step))
        for i in range(padded):
            largest[i] = source[(i * step - before) % gap]
        largest[padded:] = source[padded * step - before :: step][: windows - padded]
        for tap in range(pool.kernel_size[axis]):
            here, there = shown(len(source), windows, tap * gap - before, step)
            np.maximum(largest[here], source[there], out=largest[here])
    return x


max_pool1d, max_pool2d, max_pool3d = by_rank(max_pool, "max_pool#d")


def avg_pool(
    axes: int,
    x: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Take the mean of each window: `konvlib.avg_pool#d` on arrays.

    Each axis is summed by itself; how many samples a window counts is a product over axes too.

    Examples
    --------
    >>> avg_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[1.5, 2. ]]]])
    """
    x = geometry.as_array(x, "x")
    pool = geometry.avg_pool_geometry(
        x.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    dtype = geometry.mean_dtype(x.dtype)
    x = x.astype(np.float32 if dtype == np.float16 else dtype, copy=False)
    counts = []
    for axis, (size, windows) in enumerate(zip(pool.input_size, pool.output_size, strict=True)):
        kernel, step, (before, after) = pool.kernel_size[axis], pool.stride[axis], pool.padding[axis]
        source = np.moveaxis(x, axis + 2, 0)
        x = np.zeros((*x.shape[: axis + 2], windows, *x.shape[axis + 3 :]), dtype=x.dtype)
        total = np.moveaxis(x, axis + 2, 0)
        for tap in range(kernel):
            here, there = shown(size, windows, tap - before, step)
            total[here] += source[there]
        starts = np.arange(windows) * step - before
        first, end = (-before, size + after) if count_include_pad else (0, size)
        counts.append(np.minimum(starts + kernel, end) - np.maximum(starts, first))
    x /= reduce(np.multiply.outer, counts).astype(x.dtype)
    return x.astype(dtype, copy=False)


avg_pool1d, avg_pool2d, avg_pool3d = by_rank(avg_pool, "avg_pool#d")


def shown(size: int, windows: int, first: int, stride: int) -> tuple[slice, slice]:
    """Which windows of an axis show an input sample through a tap, and those samples; ``first`` is window 0's.

    Examples
    --------
    >>> shown(5, 4, -1, 2)
    (slice(1, 3, None), slice(1, 4, 2))
    """
    low, high = max(0, -(first // stride)), min(windows, (size - 1 - first) // stride + 1)
    if low >= high:
        return slice(0), slice(0)
    return slice(low, high), slice(first + low * stride, first + (high - 1) * stride + 1, stride)


def by_taps(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Add up tap by tap, each only where it shows a sample: any dtype, and no product with padding.

    Examples
    --------
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> by_taps(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    before = [side for side, _ in layer.padding]
    if layer.padding_mode != "zeros":
        x, before = _pad(x, layer), [0] * layer.axes
    x, w = _grouped(x, w, layer)
    y = np.zeros(layer.output_shape, dtype=x.dtype)
    totals = y.reshape(layer.batch, layer.groups, layer.out_channels // layer.groups, *layer.output_size)
    for u in np.ndindex(layer.kernel_size):
        firsts = [tap * gap - side for tap, gap, side in zip(u, layer.dilation, before, strict=True)]
        each = zip(x.shape[3:], layer.output_size, firsts, layer.stride, strict=True)
        here, there = zip(*(shown(*axis) for axis in each), strict=True)
        totals[(..., *here)] += np.einsum("ngc...,goc->ngo...", x[(..., *there)], w[(..., *u)])
    return y


def rows_at_once(layer: ConvGeometry) -> int:
    """How many outputs that neighbour on the first axis one column of windows should serve.

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


def by_windows(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, rows: int) -> np.ndarray:
    """Multiply matrices: the weight by blocks of windows of the padded input.

    Outputs that neighbour on the first axis can share a column: ``rows`` of them become output channels of a layer
    whose stride is ``rows`` times as large, and whose kernels hold the same taps, each kernel ``stride`` further down.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0, 0.0]]]), np.array([[[2.0, 1.0]]])
    >>> layer = geometry.conv_geometry(x.shape, w.shape, axes=1)
    >>> by_windows(x, w, layer, 1), by_windows(x, w, layer, 2)
    (array([[[5., 8., 4.]]]), array([[[5., 8., 4.]]]))
    """
    x, w = _grouped(x, w, layer)
    step, *steps = layer.stride
    gap, *gaps = layer.dilation
    outputs, *rest = layer.output_size
    if prod(layer.kernel_size) == 1:
        x = x[(..., *(slice(None, (n - 1) * s + 1, s) for n, s in zip(layer.output_size, layer.stride, strict=True)))]
        return (w.reshape(*w.shape[:3]) @ x.reshape(*x.shape[:3], -1)).reshape(layer.output_shape)
    y = np.empty(layer.output_shape, dtype=x.dtype)
    whole = outputs // rows * rows
    for begin, end, height in ((0, whole, rows), (whole, outputs, outputs - whole)):
        if begin == end:
            continue
        taps = w if height == 1 else _stacked(w, height, step, gap)
        part = y[:, :, begin:end].reshape(*y.shape[:2], -1, height, *rest)
        part = part.reshape(layer.batch, layer.groups, -1, *part.shape[2:])
        dilation = (gap if height == 1 else 1, *gaps)
        _window_products(x[:, :, :, begin * step :], taps, part, (step * height, *steps), dilation)
    return y


def by_spectra(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Multiply spectra of overlapping tiles of the padded input by the weight's.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> by_spectra(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1)).round(9)
    array([[[5., 8.]]])
    """
    x, w = _grouped(x, w, layer)
    over, real = range(3, x.ndim), x.dtype.kind == "f"
    forward, inverse = (transforms.rfftn, transforms.irfftn) if real else (transforms.fftn, transforms.ifftn)
    counts, steps, sizes = zip(*_tiles(layer), strict=True)
    spans = [geometry.span(k, dilation=d) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    kernel = np.zeros((*w.shape[:3], *spans), dtype=w.dtype)
    kernel[(..., *(slice(None, None, d) for d in layer.dilation))] = w
    kernel = np.conj(forward(np.conj(kernel), sizes, axes=over))
    dense = [(n - 1) * s + 1 for n, s in zip(layer.output_size, layer.stride, strict=True)]
    y = np.empty((layer.batch, layer.out_channels, *dense), dtype=x.dtype)
    for b, *tile in product(range(layer.batch), *(range(count) for count in counts)):
        starts = [index * step for index, step in zip(tile, steps, strict=True)]
        there = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        here = [slice(start, min(start + step, n)) for start, step, n in zip(starts, steps, dense, strict=True)]
        spectrum = forward(x[(slice(b, b + 1), ..., *there)], sizes, axes=over)
        spectrum = np.einsum("ngc...,goc...->ngo...", spectrum, kernel)
        part = inverse(spectrum, sizes, axes=over, overwrite_x=True).reshape(layer.out_channels, *sizes)
        y[(b, slice(None), *here)] = part[(..., *(slice(place.stop - place.start) for place in here))]
    return np.ascontiguousarray(y[(..., *(slice(None, None, s) for s in layer.stride))])


def spectra_cost(layer: ConvGeometry) -> float:
    """How many nanoseconds `by_spectra` is estimated to take in float32; see `windows_cost`.

    Infinite where the weight's spectrum would take too much memory.

    Examples
    --------
    >>> layers = [geometry.conv_geometry((1, 1, 999, 999), (1, 1, k, k), axes=2) for k in (3, 31)]
    >>> [spectra_cost(layer) < windows_cost(layer, rows_at_once(layer)) for layer in layers]
    [False, True]
    """
    counts, _, sizes = zip(*_tiles(layer), strict=True)
    pairs = layer.out_channels * layer.weight_shape[1]
    if pairs * prod(sizes) > LARGEST_SPECTRUM:
        return inf
    points = layer.batch * prod(counts) * prod(sizes)
    transformed = points * (layer.in_channels + layer.out_channels) + prod(sizes) * pairs
    return 5 * transformed + 4 * points * pairs


def _sum_dtype(dtype: np.dtype, x: np.ndarray, w: np.ndarray, terms: int) -> np.dtype:
    """In which sums of ``terms`` products are quickest, and as exact as in ``dtype``.

    BLAS knows floats only. Integers go through float32 or float64 if it holds every integer that a sum can reach.
    """
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind not in "biu" or not x.size:
        return dtype
    largest = [max(abs(int(array.max())), abs(int(array.min()))) for array in (x, w)]
    bound = largest[0] * largest[1] * terms
    return np.dtype(np.float32) if bound < 2**24 else np.dtype(np.float64) if bound < 2**53 else dtype


def _by_quickest(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The quickest way for these sizes; where its result is not finite, one that meets no sample it should not."""
    padded, rows = _pad(x, layer), rows_at_once(layer)
    wider = x.itemsize / 4
    transform = spectra_cost(layer) * (1 + wider) / 2 < windows_cost(layer, rows) * wider
    with np.errstate(invalid="ignore", over="ignore"):
        y = by_spectra(padded, w, layer) if transform else by_windows(padded, w, layer, rows)
        if np.isfinite(y.sum()):
            return y
    if padded is not x and layer.padding_mode == "zeros" and not np.isfinite(w).all():
        return by_taps(x, w, layer)
    return y if rows == 1 and not transform else by_windows(padded, w, layer, 1)


def _pad(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    if not any(side for pair in layer.padding for side in pair):
        return x
    return np.pad(x, ((0, 0), (0, 0), *layer.padding), PAD_MODES[layer.padding_mode])


def _grouped(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """``x`` as (N, groups, C // groups, *size) and ``w`` as (groups, C_out // groups, C // groups, *kernel)."""
    depth = layer.in_channels // layer.groups
    width = layer.out_channels // layer.groups
    return x.reshape(-1, layer.groups, depth, *x.shape[2:]), w.reshape(layer.groups, width, *w.shape[1:])


def _stacked(w: np.ndarray, rows: int, step: int, gap: int) -> np.ndarray:
    """``rows`` copies of each kernel, each ``step`` further down the first axis, as output channels."""
    groups, width, depth, kernel, *rest = w.shape
    span = geometry.span(kernel, dilation=gap)
    stacked = np.zeros((groups, width, rows, depth, (rows - 1) * step + span, *rest), dtype=w.dtype)
    for row in range(rows):
        stacked[:, :, row, :, row * step : row * step + span : gap] = w
    return stacked.reshape(groups, width * rows, *stacked.shape[3:])


def _window_products(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: Sequence[int], dilation: Sequence[int]
) -> None:
    """Write into ``y``, shaped (N, groups, C_out // groups, outputs, rows, *outputs), block by block."""
    batch, groups, width, first, rows, *rest = y.shape
    depth, *kernel = w.shape[2:]
    w = w.reshape(groups, width * rows, -1)
    x = _by_phase(x, stride[-1])
    columns = np.empty(0, dtype=x.dtype)
    for place in _blocks((batch, groups, first, *rest), w.shape[2] * x.itemsize):
        b, g, *outputs = (part.stop - part.start for part in place)
        shape = (g, depth, *kernel, b, *outputs)
        if columns.size < prod(shape):
            columns = np.empty(prod(shape), dtype=x.dtype)
        windows = columns[: prod(shape)].reshape(shape)
        _copy_windows(x, windows, place, stride, dilation)
        products = _multiply(w[place[1]], windows.reshape(g, w.shape[2], -1)).reshape(g, width, rows, b, *outputs)
        order = (3, 0, 1, 4, 2, *range(5, products.ndim))
        y[(*place[:2], slice(None), place[2], slice(None), *place[3:])] = products.transpose(order)


def _multiply(w: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """``w @ windows``; with a narrow weight, in pieces so small that each stays on this thread and in its cache."""
    size, columns = SERIAL // prod(w.shape[1:]), windows.shape[-1]
    if prod(w.shape[1:]) > NARROW or columns <= size:
        return w @ windows
    products = np.empty((*w.shape[:2], columns), dtype=w.dtype)
    whole = columns // size * size
    pieces = (a[..., :whole].reshape(*a.shape[:2], -1, size).swapaxes(1, 2) for a in (windows, products))
    np.matmul(w[:, np.newaxis], next(pieces), out=next(pieces))
    products[..., whole:] = w @ windows[..., whole:]
    return products


def _by_phase(x: np.ndarray, stride: int) -> np.ndarray:
    """The last axis as two, so that what a stride selects lies together: sample ``i`` at ``(i % stride, i // stride)``.

    Zeros follow the end.
    """
    if stride == 1:
        return x[..., np.newaxis, :]
    split = np.zeros((*x.shape[:-1], stride, -(-x.shape[-1] // stride)), dtype=x.dtype)
    for phase in range(min(stride, x.shape[-1])):
        samples = x[..., phase::stride]
        split[..., phase, : samples.shape[-1]] = samples
    return split


def _copy_windows(
    x: np.ndarray, windows: np.ndarray, place: Sequence[slice], stride: Sequence[int], dilation: Sequence[int]
) -> None:
    """Fill ``windows``, shaped (groups, depth, *kernel, N, *outputs), from those at ``place`` of ``x`` by phase."""
    before_last = len(stride) - 1
    starts = [part.start * step for part, step in zip(place[2:], stride, strict=True)]
    rows = x.strides[3 : 3 + before_last]
    taps = (size * gap for size, gap in zip(rows, dilation[:-1], strict=True))
    moves = (size * step for size, step in zip(rows, stride[:-1], strict=True))
    strides = (*x.strides[1:3], *taps, x.strides[0], *moves, x.strides[-1])
    x = x[(*(slice(part.start, None) for part in place[:2]), slice(None), *(slice(s, None) for s in starts[:-1]))]
    for tap in range(windows.shape[before_last + 2]):
        skip, phase = divmod(tap * dilation[-1], stride[-1])
        target = windows[(slice(None),) * (before_last + 2) + (tap,)]
        np.copyto(target, as_strided(x[..., phase, place[-1].start + skip :], target.shape, strides))


def _blocks(extents: Sequence[int], unit: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box into blocks of about `BLOCK` bytes, ``unit`` bytes per entry, whole on its last axes."""
    inner = unit * prod(extents)
    ranges = []
    for extent in extents:
        inner //= extent
        pieces = -(-extent // max(1, min(extent, BLOCK // inner)))
        ranges.append(range(0, extent, -(-extent // pieces)))
    for starts in product(*ranges):
        yield tuple(slice(s, min(s + r.step, n)) for s, r, n in zip(starts, ranges, extents, strict=True))


def _tiles(layer: ConvGeometry) -> list[tuple[int, int, int]]:
    """Per axis, how many tiles, how many outputs each gives, and how long its transform is."""
    plan = []
    for n, s, k, d in zip(layer.output_size, layer.stride, layer.kernel_size, layer.dilation, strict=True):
        dense, reach = (n - 1) * s + 1, d * (k - 1)
        tile = max(LEAST_TILE[layer.axes], 1 << (6 * reach).bit_length())
        count = -(-dense // (tile - reach))
        step = -(-dense // count)
        plan.append((count, step, transforms.next_fast_len(step + reach, real=True)))
    return plan
