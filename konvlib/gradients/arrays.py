"""Gradients of the layers with NumPy: one matrix product per block of windows, slices for the taps of a pooling."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images.arrays import pad
from konvlib.transposes.arrays import blocks, by_phases, channels_first

BLOCK = 1 << 20
"""About how many entries the matrix of windows holds at once, whatever the size of the layer."""


def conv_input_grad(dy: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the layer's gradient by its input: the transposed convolution, and what the padding received given back.

    Examples
    --------
    >>> dy, w = np.array([[[1, 5]]]), np.array([[[2, 3]]])
    >>> conv_input_grad(dy, w, geometry.input_grad_geometry(dy.shape, w.shape, axes=1, input_size=3))
    array([[[ 2, 13, 15]]])
    """
    dtype = np.result_type(dy, w)
    sums = geometry.sum_dtype(dtype, dy, w, layer.out_channels // layer.groups * prod(layer.kernel_size))
    dx = by_phases(dy.astype(sums, copy=False), w.astype(sums, copy=False), layer.of_padded(), BLOCK)
    return unpad(_as_dtype(dx, dtype), layer)


def conv_weight_grad(x: np.ndarray, dy: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the layer's gradient by its weight: windows as large as ``dy``, with stride and dilation traded.

    Examples
    --------
    >>> x, dy = np.array([[[4, 1, 3]]]), np.array([[[1, 5]]])
    >>> conv_weight_grad(x, dy, geometry.weight_grad_geometry(x.shape, dy.shape, axes=1, kernel_size=2))
    array([[[ 9, 16]]])
    """
    dtype = np.result_type(x, dy)
    sums = geometry.sum_dtype(dtype, x, dy, layer.batch * prod(layer.output_size))
    return _as_dtype(_correlate(layer, x.astype(sums, copy=False), dy.astype(sums, copy=False)), dtype)


def conv_bias_grad(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the layer's gradient by its bias.

    Examples
    --------
    >>> conv_bias_grad(np.array([[[1, 5], [2, 0]]]), (1, 2, 2))
    array([6, 2])
    """
    return dy.sum(axis=(0, *range(2, len(shape))), dtype=np.result_type(dy))


def max_pool_grad(x: np.ndarray, dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the gradient of a max pooling by its input, one axis at a time.

    The first largest sample of a window, row by row, lies in the first row whose own first largest is as large.

    Examples
    --------
    >>> x, dy = np.array([[[1, 3, 3, 2, 5]]]), np.array([[[10, 20]]])
    >>> max_pool_grad(x, dy, geometry.pool_geometry(x.shape, 3, axes=1, stride=2))
    array([[[ 0, 10,  0,  0, 20]]])
    """
    chosen = []
    for axis in reversed(range(pool.axes)):
        x, taps = _largest(x, pool, axis)
        chosen.append(taps)
    for axis in range(pool.axes):
        dy = _send_to_taps(dy, pool, axis, chosen.pop())
    return dy


def avg_pool_grad(dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the gradient of an average pooling by its input, one axis at a time.

    Examples
    --------
    >>> avg_pool_grad(np.array([[[3, 6]]]), geometry.pool_geometry((1, 1, 5), 3, axes=1, stride=2))
    array([[[1., 1., 3., 2., 2.]]])
    """
    counts = [_counts(pool, axis) for axis in range(pool.axes)]
    dx = dy / reduce(np.multiply.outer, counts).astype(geometry.mean_dtype(dy.dtype))
    for axis in reversed(range(pool.axes)):
        dx = _send_to_taps(dx, pool, axis)
    return dx


def unpad(dx: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the input's gradient from the padded input's: what padding showed gets what padding received.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 3), (1, 1, 3), axes=1, padding=1, padding_mode="replicate")
    >>> unpad(np.array([[[10, 1, 2, 3, 20]]]), layer)
    array([[[11,  2, 23]]])
    """
    for axis, (size, (before, after)) in enumerate(zip(layer.input_size, layer.padding, strict=True), start=2):
        part = partial(_part, dx.ndim, axis)
        first, inside, last = dx[part(0, before)], dx[part(before, before + size)], dx[part(before + size, None)]
        if layer.padding_mode == "reflect":
            inside[part(1, before + 1)] += np.flip(first, axis)
            inside[part(size - 1 - after, size - 1)] += np.flip(last, axis)
        elif layer.padding_mode == "replicate":
            inside[part(0, 1)] += first.sum(axis, dtype=dx.dtype, keepdims=True)
            inside[part(size - 1, size)] += last.sum(axis, dtype=dx.dtype, keepdims=True)
        elif layer.padding_mode == "circular":
            inside[part(size - before, size)] += first
            inside[part(0, after)] += last
        dx = inside
    return np.ascontiguousarray(dx)


def _as_dtype(sums: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Sums in the dtype of the result, in which integers wrap; those that floats held are integers."""
    if sums.dtype.kind == "f" and dtype.kind in "iu":
        sums = sums.astype(np.int64)
    return sums.astype(dtype, copy=False)


def _correlate(layer: ConvGeometry, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The weight's gradient: the input seen through windows as large as ``dy``, with stride and dilation traded."""
    groups, axes = layer.groups, layer.axes
    x = pad(x, layer)
    spans = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    every = [slice(None, None, step) for step in (*layer.stride, *layer.dilation)]
    windows = sliding_window_view(x, spans, axis=tuple(range(2, axes + 2)))[(slice(None), slice(None), *every)]
    windows = windows.transpose(1, *range(axes + 2, 2 * axes + 2), 0, *range(2, axes + 2))
    dw = np.zeros((groups, layer.out_channels // groups, prod(layer.weight_shape[1:])), dtype=x.dtype)
    for batch, lines in blocks(layer, BLOCK):
        samples = windows[(..., batch, lines, *[slice(None)] * (axes - 1))].reshape(groups, dw.shape[2], -1)
        dw += channels_first(dy[batch, :, lines], groups) @ samples.swapaxes(1, 2)
    return dw.reshape(layer.weight_shape)


def _largest(x: np.ndarray, pool: PoolGeometry, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The first largest sample of each window along one axis, and its tap; the last NaN is larger than any other."""
    stride, dilation, before = pool.stride[axis], pool.dilation[axis], pool.padding[axis][0]
    starts = np.arange(pool.output_size[axis]) * stride - before
    first = np.where(starts < 0, -(starts // dilation), 0)
    largest = np.take(x, starts + first * dilation, axis + 2)
    shape = [-1 if each == axis else 1 for each in range(len(pool.stride))]
    taps = np.broadcast_to(first.reshape(shape), largest.shape).astype(np.min_scalar_type(pool.kernel_size[axis]))
    for tap, windows, samples in _taps(pool, axis):
        value, best = x[samples], largest[windows]
        better = value > best
        if x.dtype.kind in "fcO":
            better |= value != value
        np.copyto(best, value, where=better)
        np.copyto(taps[windows], tap, where=better)
    return largest, taps


def _send_to_taps(dy: np.ndarray, pool: PoolGeometry, axis: int, chosen: np.ndarray | None = None) -> np.ndarray:
    """Along one axis, send each window's gradient to all its samples, or to the chosen one."""
    shape = list(dy.shape)
    shape[axis + 2] = pool.input_size[axis]
    dx = np.zeros(shape, dtype=dy.dtype)
    for tap, windows, samples in _taps(pool, axis):
        sent = dy[windows]
        dx[samples] += sent if chosen is None else np.where(chosen[windows] == tap, sent, dy.dtype.type(0))
    return dx


def _taps(pool: PoolGeometry, axis: int) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
    """For each tap along an axis, the windows in which it shows a sample, and these samples."""
    size, stride, dilation = pool.input_size[axis], pool.stride[axis], pool.dilation[axis]
    part = partial(_part, len(pool.stride) + 2, axis + 2)
    for tap in range(pool.kernel_size[axis]):
        offset = tap * dilation - pool.padding[axis][0]
        first = max(-(offset // stride), 0)
        end = min((size - 1 - offset) // stride + 1, pool.output_size[axis])
        if first < end:
            yield tap, part(first, end), part(first * stride + offset, (end - 1) * stride + offset + 1, stride)


def _counts(pool: PoolGeometry, axis: int) -> np.ndarray:
    """By how many samples each window's sum is divided, along one axis."""
    before, after = pool.padding[axis] if pool.count_include_pad else (0, 0)
    starts = np.arange(pool.output_size[axis]) * pool.stride[axis] - pool.padding[axis][0]
    ends = np.minimum(starts + pool.kernel_size[axis], pool.input_size[axis] + after)
    return ends - np.maximum(starts, -before)


def _part(ndim: int, axis: int, start: int, stop: int | None, step: int | None = None) -> tuple[slice, ...]:
    """The index of a part of one axis."""
    return tuple(slice(start, stop, step) if each == axis else slice(None) for each in range(ndim))
