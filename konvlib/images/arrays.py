"""The convolution layer with NumPy and SciPy: products of windows, products of spectra, sums over taps."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.images import spectra, windows
from konvlib.images.pooling_arrays import avg_pool, max_pool, max_pool_and_indices, max_unpool

__all__ = ["avg_pool", "by_taps", "conv", "max_pool", "max_pool_and_indices", "max_unpool", "pad", "shown"]
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
