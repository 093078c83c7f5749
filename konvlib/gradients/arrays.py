"""Gradients of the layers with NumPy: one matrix product per block of windows, slices for the taps of a pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial, reduce
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, PoolGeometry, by_rank
from konvlib.transposes.arrays import blocks, by_phases, channels_first

BLOCK = 1 << 20
"""About how many entries the matrix of windows holds at once, whatever the size of the layer."""

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def conv_input_grad(
    axes: int,
    dy: ArrayLike,
    w: ArrayLike,
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Differentiate a convolution over # spatial axes by its input: `konvlib.conv#d_input_grad` on arrays.

    Examples
    --------
    >>> conv1d_input_grad([[[1, 5]]], [[[2, 3]]], input_size=3)
    array([[[ 2, 13, 15]]])
    """
    dy, w = geometry.as_array(dy, "dy"), geometry.as_array(w, "w")
    layer = geometry.input_grad_geometry(
        dy.shape,
        w.shape,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    dtype = np.result_type(dy, w)
    sums = sum_dtype(dtype, dy, w, layer.out_channels // groups * prod(layer.kernel_size))
    dx = _transpose(layer, dy.astype(sums, copy=False), w.astype(sums, copy=False))
    return unpad(_as_dtype(dx, dtype), layer)


conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = by_rank(conv_input_grad, "conv#d_input_grad")


def conv_weight_grad(
    axes: int,
    x: ArrayLike,
    dy: ArrayLike,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Differentiate a convolution over # spatial axes by its weight: `konvlib.conv#d_weight_grad` on arrays.

    Examples
    --------
    >>> conv1d_weight_grad([[[4, 1, 3]]], [[[1, 5]]], kernel_size=2)
    array([[[ 9, 16]]])
    """
    x, dy = geometry.as_array(x, "x"), geometry.as_array(dy, "dy")
    layer = geometry.weight_grad_geometry(
        x.shape,
        dy.shape,
        axes=axes,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    dtype = np.result_type(x, dy)
    sums = sum_dtype(dtype, x, dy, layer.batch * prod(layer.output_size))
    dw = _correlate(layer, x.astype(sums, copy=False), dy.astype(sums, copy=False))
    return _as_dtype(dw, dtype)


conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = by_rank(conv_weight_grad, "conv#d_weight_grad")


def conv_bias_grad(axes: int, dy: ArrayLike) -> np.ndarray:
    """Differentiate a convolution over # spatial axes by its bias: `konvlib.conv#d_bias_grad` on arrays.

    Examples
    --------
    >>> conv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    dy = geometry.as_array(dy, "dy")
    geometry.bias_grad_shape(dy.shape, axes=axes)
    return dy.sum(axis=(0, *range(2, axes + 2)), dtype=dy.dtype)


conv1d_bias_grad, conv2d_bias_grad, conv3d_bias_grad = by_rank(conv_bias_grad, "conv#d_bias_grad")


def max_pool_grad(
    axes: int,
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Differentiate a max pooling over # spatial axes: `konvlib.max_pool#d_grad` on arrays.

    One axis at a time: the first largest sample of a window, row by row, lies in the first row whose own first largest
    is as large.

    Examples
    --------
    >>> max_pool1d_grad([[[1, 3, 3, 2, 5]]], [[[10, 20]]], 3, stride=2)
    array([[[ 0, 10,  0,  0, 20]]])
    """
    x, dy = geometry.as_array(x, "x"), geometry.as_array(dy, "dy")
    pool = geometry.max_pool_grad_geometry(
        x.shape,
        dy.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    chosen = []
    for axis in reversed(range(axes)):
        x, taps = _largest(x, pool, axis)
        chosen.append(taps)
    for axis in range(axes):
        dy = _send_to_taps(dy, pool, axis, chosen.pop())
    return dy


max_pool1d_grad, max_pool2d_grad, max_pool3d_grad = by_rank(max_pool_grad, "max_pool#d_grad")


def avg_pool_grad(
    axes: int,
    dy: ArrayLike,
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Differentiate an average pooling over # spatial axes: `konvlib.avg_pool#d_grad` on arrays.

    Examples
    --------
    >>> avg_pool1d_grad([[[3, 6]]], 3, input_size=5, stride=2)
    array([[[1., 1., 3., 2., 2.]]])
    """
    dy = geometry.as_array(dy, "dy")
    pool = geometry.avg_pool_grad_geometry(
        dy.shape,
        kernel_size,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    counts = [_counts(pool, axis, count_include_pad) for axis in range(axes)]
    dx = dy / reduce(np.multiply.outer, counts).astype(geometry.mean_dtype(dy.dtype))
    for axis in reversed(range(axes)):
        dx = _send_to_taps(dx, pool, axis)
    return dx


avg_pool1d_grad, avg_pool2d_grad, avg_pool3d_grad = by_rank(avg_pool_grad, "avg_pool#d_grad")


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


def sum_dtype(dtype: np.dtype, a: np.ndarray, b: np.ndarray, terms: int) -> np.dtype:
    """Return the dtype in which sums of ``terms`` products are quickest, and as exact as in ``dtype``.

    BLAS knows floats only. Integers go through float64 if no sum can reach ``2**53``, up to which it holds them all.

    Examples
    --------
    >>> small, large = np.array([3, -5]), np.array([2**50])
    >>> sum_dtype(small.dtype, small, small, 100), sum_dtype(small.dtype, small, large, 100)
    (dtype('float64'), dtype('int64'))
    """
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind not in "iu" or not a.size or not b.size:
        return dtype
    largest = [max(abs(int(array.max())), abs(int(array.min()))) for array in (a, b)]
    return np.dtype(np.float64) if largest[0] * largest[1] * terms < 2**53 else dtype


def _as_dtype(sums: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if sums.dtype.kind == "f" and dtype.kind in "iu":
        sums = sums.astype(np.int64)
    return sums.astype(dtype, copy=False)


def _transpose(layer: ConvGeometry, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The padded input's gradient: the transposed convolution, with nothing cut off."""
    padded = tuple(size + sum(padding) for size, padding in zip(layer.input_size, layer.padding, strict=True))
    return by_phases(dy, w, replace(layer, input_size=padded, padding=((0, 0),) * layer.axes), BLOCK)


def _correlate(layer: ConvGeometry, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The weight's gradient: the input seen through windows as large as ``dy``, with stride and dilation traded."""
    groups, axes = layer.groups, layer.axes
    if any(map(any, layer.padding)):
        x = np.pad(x, [(0, 0), (0, 0), *layer.padding], mode=PAD_MODES[layer.padding_mode])
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


def _counts(pool: PoolGeometry, axis: int, with_padding: bool) -> np.ndarray:
    """By how many samples each window's sum is divided, along one axis."""
    before, after = pool.padding[axis] if with_padding else (0, 0)
    starts = np.arange(pool.output_size[axis]) * pool.stride[axis] - pool.padding[axis][0]
    ends = np.minimum(starts + pool.kernel_size[axis], pool.input_size[axis] + after)
    return ends - np.maximum(starts, -before)


def _part(ndim: int, axis: int, start: int, stop: int | None, step: int | None = None) -> tuple[slice, ...]:
    """The index of a part of one axis."""
    return tuple(slice(start, stop, step) if each == axis else slice(None) for each in range(ndim))
