"""Gradients of the layers with NumPy: one matrix product per block of windows."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.gradients.pooling_arrays import avg_pool_grad, max_pool_grad
from konvlib.images.arrays import pad
from konvlib.transposes.arrays import blocks, by_phases, channels_first

__all__ = ["avg_pool_grad", "conv_bias_grad", "conv_input_grad", "conv_weight_grad", "max_pool_grad", "unpad"]
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


def unpad(dx: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the input's gradient from the padded input's: what padding showed gets what padding received.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 3), (1, 1, 3), axes=1, padding=1, padding_mode="replicate")
    >>> unpad(np.array([[[10, 1, 2, 3, 20]]]), layer)
    array([[[11,  2, 23]]])
    """
    for axis, (size, padding) in enumerate(zip(layer.input_size, layer.padding, strict=True), start=2):
        for before, after, mode in reversed(geometry.padding_steps(size, padding, layer.padding_mode)):
            dx = _unpad_axis(dx, axis, before, after, mode)
    return np.ascontiguousarray(dx)


def _unpad_axis(dx: np.ndarray, axis: int, before: int, after: int, mode: str) -> np.ndarray:
    """What padding of one axis received, which reaches no further than the samples, added to what it showed."""
    size = dx.shape[axis] - before - after
    part = partial(_part, dx.ndim, axis)
    first, inside, last = dx[part(0, before)], dx[part(before, before + size)], dx[part(before + size, None)]
    if mode == "reflect":
        inside[part(1, before + 1)] += np.flip(first, axis)
        inside[part(size - 1 - after, size - 1)] += np.flip(last, axis)
    elif mode == "replicate":
        inside[part(0, 1)] += first.sum(axis, dtype=dx.dtype, keepdims=True)
        inside[part(size - 1, size)] += last.sum(axis, dtype=dx.dtype, keepdims=True)
    elif mode == "circular":
        inside[part(size - before, size)] += first
        inside[part(0, after)] += last
    return inside


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


def _part(ndim: int, axis: int, start: int, stop: int | None, step: int | None = None) -> tuple[slice, ...]:
    """The index of a part of one axis."""
    return tuple(slice(start, stop, step) if each == axis else slice(None) for each in range(ndim))
