"""Gradients of poolings of arrays: what windows received goes back, at a cost that hardly grows with the window."""

from __future__ import annotations

from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import PoolGeometry
from konvlib.images.pooling_arrays import divisors, places_of_largest, tiles
from konvlib.images.running import Axis, axis_of, spread


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
    places = places_of_largest(x, pool).reshape(rows, windows)
    dx = np.zeros((rows, samples), dtype=dtype)
    for row, place, sent in zip(dx, places, dy.reshape(rows, windows), strict=True):
        row[...] = _sums_at(place, sent.astype(kind, copy=False), samples)
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
    dx = dy.astype(wide, copy=False) / divisors(pool, wide)
    for number in reversed(range(pool.axes)):
        dx = _spread_along(dx, axis_of(pool, number), number)
    return dx.astype(dtype, copy=False)


def _spread_along(dy: np.ndarray, axis: Axis, number: int) -> np.ndarray:
    """Along one axis, give each sample what the windows that show it received, tile by tile."""
    size, kernel, stride, dilation, first, count = axis
    shape, inner = dy.shape, prod(dy.shape[number + 3 :])
    flat = dy.reshape(prod(shape[: number + 2]), count, inner)
    dx = np.empty((len(flat), size, inner), dtype=dy.dtype)
    reach = dilation * (kernel - 1)
    for rows, samples, columns in tiles(Axis(max(size, count), kernel, 1, dilation, 0, size), len(flat), inner):
        begin = max(0, -((first + reach - samples.start) // stride))  # the windows that show these samples
        end = max(begin, min(count, (samples.stop - 1 - first) // stride + 1))
        part = Axis(
            samples.stop - samples.start, kernel, stride, dilation, first + begin * stride - samples.start, end - begin
        )
        dx[rows, samples, columns] = spread(flat[rows, begin:end, columns], part, np) if begin < end else 0
    return dx.reshape(*shape[: number + 2], size, *shape[number + 3 :])


def _sums_at(places: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Add up the values at each place; floats as doubles, which are no narrower."""
    if values.dtype.char in "fd":
        return np.bincount(places, values, size)
    total = np.zeros(size, dtype=values.dtype)
    np.add.at(total, places, values)
    return total
