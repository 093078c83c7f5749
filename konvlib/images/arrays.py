"""The convolution layer and pooling with NumPy and SciPy: products of windows, products of spectra, sums over taps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, reduce
from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images import spectra, windows

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Return the layer, by what is quickest for its sizes.

    Examples
    --------
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> conv(x, w, None, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    dtype = np.result_type(x, w) if bias is None else np.result_type(x, w, bias)
    sums = geometry.sum_dtype(dtype, x, w, prod(layer.weight_shape[1:]))
    x, w = x.astype(sums, copy=False), w.astype(sums, copy=False)
    if layer.batch == 0 or sums.char not in "fdFD":
        y = by_taps(x, w, layer)
    elif dtype.kind in "biu":
        y = windows.by_windows(pad(x, layer), w, layer, _plan(layer, sums.itemsize)[0]).astype(np.int64).astype(dtype)
    else:
        y = _by_quickest(x, w, layer)
    if bias is not None:
        y += bias.astype(y.dtype, copy=False).reshape(-1, *(1,) * layer.axes)
    return y.astype(dtype, copy=False)


def max_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the largest sample of each window: the largest of its rows' largest, so each axis is pooled by itself.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> max_pool(x, geometry.pool_geometry(x.shape, 2, axes=1))
    array([[[3, 2]]])
    """
    for axis, (size, outputs) in enumerate(zip(pool.input_size, pool.output_size, strict=True)):
        step, gap, (before, _) = pool.stride[axis], pool.dilation[axis], pool.padding[axis]
        starts = np.arange(outputs) * step - before
        largest = x.take(np.where(starts < 0, starts % gap, starts), axis + 2)  # the first sample that each shows
        for tap in range(pool.kernel_size[axis]):
            here, there = _along(axis, *shown(size, outputs, tap * gap - before, step))
            np.maximum(largest[here], x[there], out=largest[here])
        x = largest
    return x


def avg_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the mean of each window: each axis is summed by itself, and a window's count is a product over axes too.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> avg_pool(x, geometry.avg_pool_geometry(x.shape, 2, axes=1))
    array([[[2., 1.]]])
    """
    dtype = geometry.mean_dtype(x.dtype)
    x = x.astype(np.float32 if dtype == np.float16 else dtype, copy=False)
    counts = []
    for axis, (size, outputs) in enumerate(zip(pool.input_size, pool.output_size, strict=True)):
        kernel, step, (before, after) = pool.kernel_size[axis], pool.stride[axis], pool.padding[axis]
        total = np.zeros((*x.shape[: axis + 2], outputs, *x.shape[axis + 3 :]), dtype=x.dtype)
        for tap in range(kernel):
            here, there = _along(axis, *shown(size, outputs, tap - before, step))
            total[here] += x[there]
        x = total
        starts = np.arange(outputs) * step - before
        first, end = (-before, size + after) if pool.count_include_pad else (0, size)
        counts.append(np.minimum(starts + kernel, end) - np.maximum(starts, first))
    x /= reduce(np.multiply.outer, counts).astype(x.dtype)
    return x.astype(dtype, copy=False)


def shown(size: int, outputs: int, first: int, stride: int) -> tuple[slice, slice]:
    """Which windows of an axis show an input sample through a tap, and those samples; ``first`` is window 0's.

    Examples
    --------
    >>> shown(5, 4, -1, 2)
    (slice(1, 3, None), slice(1, 4, 2))
    """
    low, high = max(0, -(first // stride)), min(outputs, (size - 1 - first) // stride + 1)
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
        x, before = pad(x, layer), [0] * layer.axes
    x, w = windows.grouped(x, w, layer)
    y = np.zeros(layer.output_shape, dtype=x.dtype)
    totals = y.reshape(layer.batch, layer.groups, layer.out_channels // layer.groups, *layer.output_size)
    for u in np.ndindex(layer.kernel_size):
        firsts = [tap * gap - side for tap, gap, side in zip(u, layer.dilation, before, strict=True)]
        each = zip(x.shape[3:], layer.output_size, firsts, layer.stride, strict=True)
        here, there = zip(*(shown(*axis) for axis in each), strict=True)
        totals[(..., *here)] += np.einsum("ngc...,goc->ngo...", x[(..., *there)], w[(..., *u)])
    return y


def pad(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the input with its padding; itself where there is none.

    Examples
    --------
    >>> pad(np.array([[[1, 3, 2]]]), geometry.conv_geometry((1, 1, 3), (1, 1, 2), axes=1, padding=[(0, 2)]))
    array([[[1, 3, 2, 0, 0]]])
    """
    if not any(layer.sides):
        return x
    return np.pad(x, ((0, 0), (0, 0), *layer.padding), PAD_MODES[layer.padding_mode])


def _along(axis: int, *parts: slice) -> Iterator[tuple[slice, ...]]:
    """Each part of a spatial axis as an index of the whole array."""
    return ((slice(None),) * (axis + 2) + (part,) for part in parts)


def _by_quickest(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The quickest way for these sizes; where its result is not finite, one that meets no sample it should not."""
    padded = pad(x, layer)
    rows, transform = _plan(layer, x.itemsize)
    with np.errstate(invalid="ignore", over="ignore"):
        y = spectra.by_spectra(padded, w, layer) if transform else windows.by_windows(padded, w, layer, rows)
        if np.isfinite(y.sum()):
            return y
        if padded is not x and layer.padding_mode == "zeros" and not np.isfinite(w).all():
            return by_taps(x, w, layer)
        return windows.by_windows(padded, w, layer, 1)


@lru_cache(256)
def _plan(layer: ConvGeometry, itemsize: int) -> tuple[int, bool]:
    """How many rows a column of windows should serve, and whether spectra are quicker all the same."""
    rows, wider = windows.rows_at_once(layer), itemsize / 4
    return rows, spectra.spectra_cost(layer) * (1 + wider) / 2 < windows.windows_cost(layer, rows) * wider
