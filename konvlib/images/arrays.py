"""The convolution layer and pooling with NumPy and SciPy: the quickest way for each layer, and sums over taps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, reduce

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images import infinities, sums
from konvlib.images.taps import shown

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

_of_padded = lru_cache(256)(ConvGeometry.of_padded)


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Return the layer, by what is quickest for its sizes.

    Examples
    --------
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> conv(x, w, None, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    dtype = np.result_type(x, w) if bias is None else np.result_type(x, w, bias)
    if layer.padding_mode != "zeros":
        x, layer = pad(x, layer), _of_padded(layer)
    y = sums.in_integers(x, w, layer, dtype) if dtype.kind in "biu" else infinities.convolve(x, w, layer, dtype)
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
