"""Poolings of arrays, one axis at a time, at a cost that hardly grows with the window: `konvlib.images.running`.

Axes are independent: the largest sample of a window is the largest of its rows' largest, and its sum the sum of its
rows' sums. Each axis is computed in tiles that fit into a processor's cache, so that little memory is needed beyond
what goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import PoolGeometry
from konvlib.images.running import Axis, Operation, Pieces, axis_of, largest_and_places, over_windows, sums

TILE = 1 << 16
"""About how many samples of an axis are taken at once."""

NARROW = 64
"""How many neighbouring columns a tile has at least, if there are so many."""

LARGEST = Operation(np, lambda left, right: (np.maximum(left[0], right[0]),), True)
LARGEST_AND_PLACES = largest_and_places(np)
SUMS = sums(np)


def max_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the largest sample of each window.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> max_pool(x, geometry.pool_geometry(x.shape, 2, axes=1))
    array([[[3, 2]]])
    """
    dtype = x.dtype.newbyteorder("=")
    for number in range(pool.axes):
        (x,) = pooled((x,), pool, number, (dtype,), LARGEST)
    return x


def max_pool_and_indices(x: np.ndarray, pool: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest sample of each window and where in the flattened channel it lies.

    The first largest sample of a window, row by row, lies in the first row whose own first largest is as large: so the
    last axis is pooled first.

    Examples
    --------
    >>> x = np.array([[[1, 3, 3, 0]]])
    >>> max_pool_and_indices(x, geometry.pool_geometry(x.shape, 2, axes=1))
    (array([[[3, 3]]]), array([[[1, 2]]]))
    """
    largest, places = _largest_and_places(x, pool)
    return largest, places.astype(np.int64, copy=False)


def places_of_largest(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return where in the flattened channel each window has its largest sample, as integers wide enough.

    Examples
    --------
    >>> x = np.array([[[1, 3, 3, 0]]])
    >>> places_of_largest(x, geometry.pool_geometry(x.shape, 2, axes=1))
    array([[[1, 2]]], dtype=int32)
    """
    return _largest_and_places(x, pool)[1]


def avg_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return the mean of each window: its sum, and what it is divided by, a product over axes too.

    Integers are summed as integers, or as floats that hold their sums; floats in pairs; halves as float32.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> avg_pool(x, geometry.avg_pool_geometry(x.shape, 2, axes=1))
    array([[[2., 1.]]])
    """
    dtype, kind = geometry.mean_dtype(x.dtype).newbyteorder("="), sum_dtype(x, pool)
    for number in range(pool.axes):
        (x,) = pooled((x,), pool, number, (kind,), SUMS)
    wide = geometry.wide_dtype(dtype)
    total = x.astype(wide, copy=False)
    total /= divisors(pool, wide)
    return total.astype(dtype, copy=False)


def max_unpool(x: np.ndarray, indices: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return zeros of the pooling's input shape, with each sample put back at its index; the last one where two meet.

    Examples
    --------
    >>> x = np.array([[[3, 2]]])
    >>> pool = geometry.max_unpool_geometry(x.shape, 2, axes=1, indices_shape=x.shape)
    >>> max_unpool(x, np.array([[[1, 2]]]), pool)
    array([[[0, 3, 2, 0]]])
    """
    rows = pool.batch * pool.channels
    y = np.zeros((rows, prod(pool.input_size)), dtype=x.dtype.newbyteorder("="))
    windows = rows, prod(pool.output_size)
    for row, places, samples in zip(y, indices.reshape(windows), x.reshape(windows), strict=True):
        row[places] = samples
    return y.reshape(pool.input_shape)


def sum_dtype(x: np.ndarray, pool: PoolGeometry) -> np.dtype:
    """Return in which dtype sums over windows are quickest, and exact where integers can be.

    Examples
    --------
    >>> pool = geometry.pool_geometry((1, 1, 5), 2, axes=1)
    >>> sum_dtype(np.array([[[1, 2, 3, 4, 5]]]), pool), sum_dtype(np.array([[[2**60]]]), pool)
    (dtype('float32'), dtype('int64'))
    """
    wide = geometry.wide_dtype(x.dtype)
    if x.dtype.kind not in "biu" or not x.size:
        return wide
    bound = max(abs(int(x.max())), abs(int(x.min())))
    bound *= prod([min(kernel, size) for kernel, size in zip(pool.kernel_size, pool.input_size, strict=True)])
    if bound < 2**24:
        return np.dtype(np.float32)
    return np.dtype(np.int64) if 2**53 <= bound < 2**63 else wide


def divisors(pool: PoolGeometry, dtype: np.dtype) -> np.ndarray:
    """Return what the sum of each window is divided by, to be broadcast over ``(N, C, *output_size)``.

    Examples
    --------
    >>> divisors(geometry.avg_pool_geometry((1, 1, 3), 2, axes=1, ceil_mode=True), np.dtype(float))
    array([2., 1.])
    """
    if pool.divisor_override is not None:
        return np.array(pool.divisor_override, dtype=dtype)
    return reduce(np.multiply.outer, [_counts(pool, number).astype(dtype) for number in range(pool.axes)])


def _counts(pool: PoolGeometry, number: int) -> np.ndarray:
    """How many taps of each window count, along one axis: those in the input, or in it and its padding.

    One number where it is the same for all.
    """
    size, kernel, stride, dilation, first, count = axis_of(pool, number)
    before, after = pool.padding[number] if pool.count_include_pad else (0, 0)
    whole = max(0, -((first + before) // stride)), (size + after - 1 - dilation * (kernel - 1) - first) // stride + 1
    if whole[0] == 0 and whole[1] >= count:
        return np.array([kernel])
    counts = np.full(count, kernel)
    at_edges = np.r_[: min(whole[0], count), min(max(whole), count) : count]
    starts = at_edges * stride + first
    lowest = np.maximum(-((starts + before) // dilation), 0)
    highest = np.minimum((size + after - 1 - starts) // dilation, kernel - 1)
    counts[at_edges] = highest - lowest + 1
    return counts


def _largest_and_places(x: np.ndarray, pool: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    kinds = x.dtype.newbyteorder("="), np.min_scalar_type(-prod(pool.input_size))
    kinds = kinds[0], np.dtype(np.int32) if kinds[1].itemsize <= 4 else np.dtype(np.int64)
    places = None
    for number in reversed(range(pool.axes)):
        pieces = (x,) if places is None else (x, places)
        x, places = pooled(pieces, pool, number, kinds, LARGEST_AND_PLACES)
    assert places is not None
    return x, places


def pooled(
    pieces: Pieces, pool: PoolGeometry, number: int, dtypes: tuple[np.dtype, ...], how: Operation
) -> tuple[np.ndarray, ...]:
    """Put together what each window shows along one axis, tile by tile.

    Of an operation on places, these are given by the caller, or for the first axis left out: then they are the samples'
    own.

    Examples
    --------
    >>> x = np.array([[[1.0, 3, 2, 0]]])
    >>> pool = geometry.pool_geometry(x.shape, 2, axes=1)
    >>> pooled((x,), pool, 0, (x.dtype,), SUMS)
    (array([[[4., 2.]]]),)
    """
    axis, shape = axis_of(pool, number), pieces[0].shape
    inner, step = prod(shape[number + 3 :]), prod(pool.input_size[number + 1 :])
    flat = [piece.reshape(prod(shape[: number + 2]), axis.size, inner) for piece in pieces]
    results = [np.empty((len(flat[0]), axis.count, inner), dtype=dtype) for dtype in dtypes]
    kinds = [np.dtype(np.float32) if dtype.char == "e" else dtype for dtype in dtypes]  # which processors compare
    for rows, windows, columns in tiles(axis, len(flat[0]), inner):
        part, samples = _part(axis, windows)
        given = tuple(
            piece[rows, samples, columns].astype(kind, copy=False) for piece, kind in zip(flat, kinds, strict=False)
        )
        if len(dtypes) == 2:
            own = (np.arange(samples.start, samples.stop, dtype=dtypes[1]) * dtypes[1].type(step))[:, None]
            given = given[0], np.broadcast_to(own, given[0].shape) if len(given) == 1 else given[1] + own
        for result, piece in zip(results, over_windows(given, part, how), strict=True):
            result[rows, windows, columns] = piece
    whole = (*shape[: number + 2], axis.count, *shape[number + 3 :])
    return tuple(result.reshape(whole) for result in results)


def _part(axis: Axis, windows: slice) -> tuple[Axis, slice]:
    """Some windows as those of an axis of their own, and the samples of that axis."""
    first = axis.first + windows.start * axis.stride
    last = axis.first + (windows.stop - 1) * axis.stride + (axis.kernel - 1) * axis.dilation
    low, high = max(first, 0), min(last + 1, axis.size)
    if first < 0:  # the remainders by the dilation stay what they are
        low = 0
    part = axis._replace(size=high - low, first=first - low, count=windows.stop - windows.start)
    return part, slice(low, high)


def tiles(axis: Axis, outer: int, inner: int) -> Iterator[tuple[slice, slice, slice]]:
    """Tiles of rows, windows and columns: whole rows if several fit, else columns of one, else some windows of them.

    Examples
    --------
    >>> list(tiles(Axis(5, 2, 1, 1, 0, 4), 2, 3))
    [(slice(0, 2, None), slice(0, 4, None), slice(0, 3, None))]
    """
    rows, columns, windows = max(1, TILE // (axis.size * inner)), inner, axis.count
    if axis.size * inner > TILE:
        columns = max(min(inner, NARROW), TILE // axis.size)
    if axis.size * columns > TILE:  # windows that overlap are read again: so many that this is little
        samples = max(TILE // columns, 4 * axis.kernel * axis.dilation)
        windows = max(1, samples // axis.stride)
    for row in range(0, outer, rows):
        for column in range(0, inner, columns):
            for window in range(0, axis.count, windows):
                yield (
                    slice(row, min(row + rows, outer)),
                    slice(window, min(window + windows, axis.count)),
                    slice(column, min(column + columns, inner)),
                )
