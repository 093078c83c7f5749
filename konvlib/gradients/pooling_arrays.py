"""Gradients of poolings of arrays: what windows received goes back, at a cost that hardly grows with the window."""

from __future__ import annotations

from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import PoolGeometry
from konvlib.images.pooling_arrays import TILE, divisors, places_of_largest, tiles
from konvlib.images.running import Axis, axis_of, spread
from konvlib.images.taps import shown

TURNS = 9
"""Up to how many taps, or windows, of an axis it is quickest to add what windows received by one after the other."""


def max_pool_grad(x: np.ndarray, dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the gradient of a max pooling by its input: each window's goes to its largest sample.

    Halves are summed as float32.

    Examples
    --------
    >>> x, dy = np.array([[[1, 3, 3, 2, 5]]]), np.array([[[10, 20]]])
    >>> max_pool_grad(x, dy, geometry.pool_geometry(x.shape, 3, axes=1, stride=2))
    array([[[ 0, 10,  0,  0, 20]]])
    """
    dtype = dy.dtype.newbyteorder("=")
    kind = dtype if dtype.kind in "biu" else geometry.wide_dtype(dtype)
    rows, samples, windows = pool.batch * pool.channels, prod(pool.input_size), prod(pool.output_size)
    places, dy = places_of_largest(x, pool).reshape(rows, windows), dy.reshape(rows, windows)
    dx = np.empty((rows, samples), dtype=dtype)
    together = max(1, TILE // max(samples, windows))
    for row in range(0, rows, together):  # so many channels at once, one behind the other
        part = dx[row : row + together]
        shifted = places[row : row + together] + np.arange(0, part.size, samples)[:, np.newaxis]
        sent = dy[row : row + together].astype(kind, copy=False)
        part[...] = _sums_at(shifted.ravel(), sent.ravel(), part.size).reshape(part.shape)
    return dx.reshape(pool.input_shape)


def avg_pool_grad(dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the gradient of an average pooling by its input, one axis at a time. Halves are summed as float32.

    Examples
    --------
    >>> avg_pool_grad(np.array([[[3, 6]]]), geometry.pool_geometry((1, 1, 5), 3, axes=1, stride=2))
    array([[[1., 1., 3., 2., 2.]]])
    """
    dtype = geometry.mean_dtype(dy.dtype).newbyteorder("=")
    wide = geometry.wide_dtype(dtype)
    if prod(pool.output_size) == 1:
        return _given_by_one(dy, pool, dtype, wide)
    counts, rows = divisors(pool, wide), pool.batch * pool.channels
    dy, dx = dy.reshape(rows, *pool.output_size), np.empty((rows, *pool.input_size), dtype=dtype)
    together = max(1, TILE // prod(pool.input_size))
    for row in range(0, rows, together):  # so many channels at once that all axes find them in a cache
        part = dy[row : row + together].astype(wide, copy=False) / counts
        for number in reversed(range(pool.axes)):
            part = _spread_along(part, axis_of(pool, number), number)
        dx[row : row + together] = part
    return dx.reshape(pool.input_shape)


def _given_by_one(dy: np.ndarray, pool: PoolGeometry, dtype: np.dtype, wide: np.dtype) -> np.ndarray:
    """The gradient where each channel has one window, which gives all samples that it shows the same."""
    axes = [axis_of(pool, number) for number in range(pool.axes)]
    dx = np.zeros(pool.input_shape, dtype=dtype)
    seen = [shown(axis.size, axis.kernel, axis.first, axis.dilation)[1] for axis in axes]
    dx[(..., *seen)] = dy.astype(wide, copy=False) / divisors(pool, wide)
    return dx


def _spread_along(dy: np.ndarray, axis: Axis, number: int) -> np.ndarray:
    """Along one axis, give each sample what the windows that show it received, tile by tile."""
    size, kernel, stride, dilation, first, count = axis
    shape, inner = dy.shape, prod(dy.shape[number + 2 :])
    flat = dy.reshape(prod(shape[: number + 1]), count, inner)
    dx = np.empty((len(flat), size, inner), dtype=dy.dtype)
    reach = dilation * (kernel - 1)
    for rows, samples, columns in tiles(Axis(max(size, count), kernel, 1, dilation, 0, size), len(flat), inner):
        begin = max(0, -((first + reach - samples.start) // stride))  # the windows that show these samples
        end = max(begin, min(count, (samples.stop - 1 - first) // stride + 1))
        part = Axis(
            samples.stop - samples.start, kernel, stride, dilation, first + begin * stride - samples.start, end - begin
        )
        received, given = flat[rows, begin:end, columns], dx[rows, samples, columns]
        if min(part.kernel, part.count) <= TURNS:
            _add_by_turns(received, part, given)
        else:
            given[...] = spread(received, part, np)
    return dx.reshape(*shape[: number + 1], size, *shape[number + 2 :])


def _add_by_turns(dy: np.ndarray, axis: Axis, dx: np.ndarray) -> None:
    """The same for few taps or few windows of an axis, by one of the fewer after the other."""
    size, kernel, stride, dilation, first, count = axis
    dx[...] = 0
    alone = count == 1 or stride > dilation * (kernel - 1)  # no sample is shown by two windows
    for turn in range(min(kernel, count)):
        if kernel <= count:
            windows, samples = shown(size, count, first + turn * dilation, stride)
        else:
            windows, samples = slice(turn, turn + 1), shown(size, kernel, first + turn * stride, dilation)[1]
        if alone:
            dx[:, samples] = dy[:, windows]
        else:
            dx[:, samples] += dy[:, windows]


def _sums_at(places: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Add up the values at each place; floats as doubles, which are no narrower."""
    if values.dtype.char in "fd":
        return np.bincount(places, values, size)
    total = np.zeros(size, dtype=values.dtype)
    np.add.at(total, places, values)
    return total
