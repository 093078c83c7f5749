"""Gradients of the layers with NumPy: one matrix product per block of windows, slices for the taps of a pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial, reduce
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images import arrays as images
from konvlib.images.arrays import pad
from konvlib.matrices.arrays import blocks, put_sums
from konvlib.transposes.arrays import MOST_TAPS, by_phases, channels_first, in_sums, is_long
from konvlib.transposes.finite import bilinear

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
    sums = {"e": np.float64, "f": np.float64, "F": np.complex128}.get(dy.dtype.char, dy.dtype)
    return dy.sum(axis=(0, *range(2, len(shape))), dtype=sums).astype(dy.dtype, copy=False)


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
    if padding_mode == "reflect":
        places = np.abs(places)
        return np.where(places < size, places, 2 * (size - 1) - places)
    if padding_mode == "replicate":
        return np.clip(places, 0, size - 1)
    return places % size if padding_mode == "circular" else np.where((places >= 0) & (places < size), places, -1)


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
    for axis, (before, _) in enumerate(layer.padding):
        # From the first place that a window of ``dy`` sees to the last.
        end = layer.stride[axis] * (layer.output_size[axis] - 1) + layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        inside.append(slice(0, max(end + 1 - before, 0)))
        margins.append((min(before, end + 1), max(end + 1 - before - layer.input_size[axis], 0)))
    x = x.reshape(len(x), -1, *layer.input_size)[(..., *inside)]
    if not x.size:
        return np.zeros(layer.weight_shape, dtype=x.dtype)
    sizes = layer.output_size, layer.dilation, tuple(margins), layer.stride, "zeros", layer.kernel_size
    traded = ConvGeometry(len(x), x.shape[1], layer.out_channels, layer.groups, x.shape[2:], *sizes)
    return images.conv(x, dy.swapaxes(0, 1), None, traded).swapaxes(0, 1)


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
