"""Gradients of the layers with NumPy: one matrix product per block of windows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from konvlib import geometry
from konvlib.finite import bilinear
from konvlib.geometry import ConvGeometry, halos
from konvlib.gradients.pooling_arrays import avg_pool_grad, max_pool_grad
from konvlib.images import arrays as images
from konvlib.images.arrays import pad
from konvlib.matrices.arrays import put_sums
from konvlib.matrices.blocks import blocks
from konvlib.transposes.arrays import MOST_TAPS, by_phases, channels_first, in_sums, is_long

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
    if layer.padding_mode == "zeros":
        return in_sums(by_phases, dy, w, None, layer, bounded=not is_long(layer))
    return in_sums(_give_back, dy, w, None, layer, bounded=not is_long(as_seen(layer)[0].of_padded()))


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
    dw = np.zeros(layer.weight_shape, dtype=dtype)
    layer, seen = as_seen(layer)
    x = _take_seen(x, seen)
    if layer.batch and prod(layer.kernel_size) > MOST_TAPS:
        # What may be transformed is never halves in singles, nor integers in floats, which transforms round.
        wide = np.dtype(np.float64) if dtype == np.float16 else dtype
        x, dy = (a if dtype.kind in "biu" else a.astype(wide, copy=False) for a in (x, dy))
        dw[...] = bilinear(partial(_convolve, layer), x, dy)
    elif dtype.kind in "fc" and layer.padding_mode == "zeros" and any(layer.sides):
        x, dy = x.astype(sums, copy=False), dy.astype(sums, copy=False)
        put_sums(dw, bilinear(lambda a, b: _correlate(layer, a, b, a.dtype), x, dy), None)
    elif layer.batch:
        put_sums(dw, _correlate(layer, x, dy, sums), None)
    return dw


def conv_bias_grad(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the layer's gradient by its bias; halves and singles are summed as doubles.

    Examples
    --------
    >>> conv_bias_grad(np.array([[[1, 5], [2, 0]]]), (1, 2, 2))
    array([6, 2])
    """
    axes = (0, *range(2, len(shape)))
    return dy.sum(axis=axes, dtype=bias_sum_dtype(dy.dtype)).astype(dy.dtype, copy=False)


def bias_sum_dtype(dtype: np.dtype) -> np.dtype:
    """Return in which dtype the gradient by a bias is summed.

    Examples
    --------
    >>> bias_sum_dtype(np.dtype(np.float16)), bias_sum_dtype(np.dtype(np.int8))
    (dtype('float64'), dtype('int8'))
    """
    return np.dtype({"e": np.float64, "f": np.float64, "F": np.complex128}.get(dtype.char, dtype))


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


def as_seen(layer: ConvGeometry) -> tuple[ConvGeometry, dict[int, np.ndarray]]:
    """Where windows miss most samples of an axis and its padding, return the layer of those that they see, in a row.

    Also returned is, for each such axis, which samples these are, -1 for a zero of the padding. Other axes stay.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 100), (1, 1, 2), axes=1, stride=60, padding=9, padding_mode="replicate")
    >>> seen, samples = as_seen(layer)
    >>> samples, seen.input_size, seen.stride, seen.padding
    ({0: array([ 0,  0, 51, 52])}, (4,), (2,), ((0, 0),))
    """
    size, stride, padding, dilation = (list(a) for a in (layer.input_size, layer.stride, layer.padding, layer.dilation))
    samples = {}
    for axis, (count, taps) in enumerate(zip(layer.output_size, layer.kernel_size, strict=True)):
        if 4 * count * taps > size[axis] + sum(padding[axis]):
            continue
        windows = np.arange(count) * stride[axis] - padding[axis][0]
        places = (windows[:, np.newaxis] + np.arange(taps) * dilation[axis]).ravel()
        samples[axis] = _shown(places, size[axis], layer.padding_mode)
        size[axis], stride[axis], padding[axis], dilation[axis] = count * taps, taps, (0, 0), 1
    if not samples:
        return layer, samples
    known = {"input_size": size, "stride": stride, "padding": padding, "dilation": dilation}
    return replace(layer, **{name: tuple(value) for name, value in known.items()}), samples


def _shown(places: np.ndarray, size: int, padding_mode: str) -> np.ndarray:
    """Which samples of an axis padded places show, as `konvlib.geometry.source_index`; -1 for a zero."""
    if padding_mode == "zeros":
        return np.where((places >= 0) & (places < size), places, -1)
    return geometry.boundary_places(places, size, padding_mode)


def _take_seen(x: np.ndarray, samples: dict[int, np.ndarray]) -> np.ndarray:
    for axis, places in samples.items():
        x = x.take(places, axis + 2)
        if (places < 0).any():
            x[(slice(None),) * (axis + 2) + (places < 0,)] = 0
    return x


def _give_back(dy: np.ndarray, w: np.ndarray, layer: ConvGeometry, dx: np.ndarray) -> None:
    """Write the input's gradient into ``dx``: the padded input's, and what the padding received."""
    seen, samples = as_seen(layer)
    padded = seen.of_padded()
    part = np.zeros(padded.input_shape, dtype=dx.dtype)
    by_phases(dy, w, padded, part)
    part = unpad(part, seen)
    for axis, places in samples.items():
        total = np.zeros((*part.shape[: axis + 2], layer.input_size[axis], *part.shape[axis + 3 :]), dtype=dx.dtype)
        np.add.at(total, (slice(None),) * (axis + 2) + (places,), part)
        part = total
    dx[...] = part


def _correlate(layer: ConvGeometry, x: np.ndarray, dy: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The weight's gradient in sums of a dtype: windows as large as ``dy``, with stride and dilation traded."""
    groups, axes = layer.groups, layer.axes
    x = pad(x, layer)
    spans = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    every = [slice(None, None, step) for step in (*layer.stride, *layer.dilation)]
    windows = sliding_window_view(x, spans, axis=tuple(range(2, axes + 2)))[(slice(None), slice(None), *every)]
    windows = windows.transpose(1, *range(axes + 2, 2 * axes + 2), 0, *range(2, axes + 2))
    dw = np.zeros((groups, layer.out_channels // groups, prod(layer.weight_shape[1:])), dtype=dtype)
    for batch, *places in blocks(layer, BLOCK):
        samples = windows[(..., batch, *places)].reshape(groups, dw.shape[2], -1).astype(dtype, copy=False)
        part = dy[(batch, slice(None), *places)].astype(dtype, copy=False)
        dw += channels_first(part, groups) @ samples.swapaxes(1, 2)
    return dw.reshape(layer.weight_shape)


def _convolve(layer: ConvGeometry, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The same as a convolution of the input by ``dy``, channels and batch traded too, which may transform both."""
    if layer.padding_mode != "zeros":
        x, layer = pad(x, layer), layer.of_padded()
    x = x.reshape(layer.batch, layer.groups, -1, *layer.input_size).swapaxes(0, 2)
    inside, margins = [], []
    for axis, outputs in enumerate(layer.output_size):
        read = halos.read_by(layer, axis, 0, outputs)
        inside.append(read.interval)
        margins.append(read.zeros)
    x = x.reshape(len(x), -1, *layer.input_size)[(..., *inside)]
    if not x.size:
        return np.zeros(layer.weight_shape, dtype=x.dtype)
    sizes = layer.output_size, layer.dilation, tuple(margins), layer.stride, "zeros", layer.kernel_size
    traded = ConvGeometry(len(x), x.shape[1], layer.out_channels, layer.groups, x.shape[2:], *sizes)
    return images.conv(x, dy.swapaxes(0, 1), None, traded).swapaxes(0, 1)


def _part(ndim: int, axis: int, start: int, stop: int | None, step: int | None = None) -> tuple[slice, ...]:
    """The index of a part of one axis."""
    return tuple(slice(start, stop, step) if each == axis else slice(None) for each in range(ndim))
