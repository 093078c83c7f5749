"""The convolution layer and pooling, by definition: one loop for each index of the printed formula.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    r"""Return the layer, index by index: `konvlib.conv2d`, and so over one axis or three.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    Here ``i`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> conv(x, w, None, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    y = np.zeros(layer.output_shape, dtype=np.result_type(x, w, *([] if bias is None else [bias])))
    x, w = x.astype(y.dtype), w.astype(y.dtype)
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, source in taps(layer, i):
                        y[(b, o, *i)] += x[(b, o // width * depth + c, *source)] * w[(o, c, *u)]
                if bias is not None:
                    y[(b, o, *i)] += bias[o]
    return y


def max_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    r"""Return the largest sample of each window: `konvlib.max_pool2d`, and so over one axis or three.

    .. math:: y[b, c, i] = \max_{u} x[b, c, s\,i + d\,u - p]

    Padding takes no part. A window that holds a NaN gives NaN.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> max_pool(x, geometry.pool_geometry(x.shape, 2, axes=1))
    array([[[3, 2]]])
    """
    return max_pool_and_indices(x, pool)[0]


def max_pool_and_indices(x: np.ndarray, pool: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest sample of each window and its index: `konvlib.max_pool2d` with ``return_indices``.

    An index counts the samples of a channel in row-major order. Of several largest samples it is that of the first; of
    several NaN that of the last.

    Examples
    --------
    >>> x = np.array([[[1, 3, 3, 0]]])
    >>> max_pool_and_indices(x, geometry.pool_geometry(x.shape, 2, axes=1))
    (array([[[3, 3]]]), array([[[1, 2]]]))
    """
    y = np.empty(pool.output_shape, dtype=x.dtype.newbyteorder("="))
    indices = np.empty(pool.output_shape, dtype=np.int64)
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [(b, c, *source) for _, source in taps(pool, i)]
        largest = window[0]
        for place in window[1:]:
            if x[place] > x[largest] or x[place] != x[place]:
                largest = place
        y[(b, c, *i)] = x[largest]
        indices[(b, c, *i)] = np.ravel_multi_index(largest[2:], pool.input_size)
    return y, indices


def max_unpool(x: np.ndarray, indices: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    """Return zeros, and each sample put at its index, one after the other: `konvlib.max_unpool2d`.

    Examples
    --------
    >>> x = np.array([[[3, 2]]])
    >>> pool = geometry.max_unpool_geometry(x.shape, 2, axes=1, indices_shape=x.shape)
    >>> max_unpool(x, np.array([[[1, 2]]]), pool)
    array([[[0, 3, 2, 0]]])
    """
    y = np.zeros(pool.input_shape, dtype=x.dtype.newbyteorder("="))
    for b, c, *i in np.ndindex(pool.output_shape):
        y[(b, c, *np.unravel_index(indices[(b, c, *i)], pool.input_size))] = x[(b, c, *i)]
    return y


def avg_pool(x: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    r"""Return the mean of each window: `konvlib.avg_pool2d`, and so over one axis or three.

    .. math:: y[b, c, i] = \frac{1}{\lvert U_i \rvert} \sum_{u} x[b, c, s\,i + d\,u - p]

    Padding counts as zeros with ``count_include_pad``, and takes no part without. What a window of ``ceil_mode`` has
    beyond the padding never counts. Halves are summed and divided as float32, and rounded once; integers are summed as
    integers of any size.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> avg_pool(x, geometry.avg_pool_geometry(x.shape, 2, axes=1))
    array([[[2., 1.]]])
    """
    y = np.empty(pool.output_shape, dtype=geometry.mean_dtype(x.dtype).newbyteorder("="))
    x = x.astype(object if x.dtype.kind in "biu" else geometry.wide_dtype(x.dtype))
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [x[(b, c, *source)] for _, source in taps(pool, i)]
        total = x.dtype.type(0) if x.dtype != object else 0
        for value in window:
            total += value
        y[(b, c, *i)] = total / divisor(pool, i)
    return y


def divisor(pool: PoolGeometry, i: tuple[int, ...]) -> int:
    """By what window ``i`` divides its sum.

    Examples
    --------
    >>> divisor(geometry.avg_pool_geometry((1, 1, 5), 2, axes=1, padding=1, count_include_pad=False), (0,))
    1
    """
    if pool.divisor_override is not None:
        return pool.divisor_override
    return padded_taps(pool, i) if pool.count_include_pad else len(list(taps(pool, i)))


def taps(window: ConvGeometry | PoolGeometry, i: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The taps of window ``i`` that show an input sample: each with the index of that sample.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 4), (1, 1, 3), axes=1, padding=1)
    >>> list(taps(layer, (0,)))
    [((1,), (0,)), ((2,), (1,))]
    """
    mode = getattr(window, "padding_mode", "zeros")
    for u in np.ndindex(window.kernel_size):
        places = (
            i[axis] * window.stride[axis] + u[axis] * window.dilation[axis] - window.padding[axis][0]
            for axis in range(len(u))
        )
        source = tuple(
            geometry.source_index(place, size, mode) for place, size in zip(places, window.input_size, strict=True)
        )
        if None not in source:
            yield u, source


def padded_taps(pool: PoolGeometry, i: tuple[int, ...]) -> int:
    """How many taps of window ``i`` lie in the input or its padding.

    Examples
    --------
    >>> pool = geometry.pool_geometry((1, 1, 5), 2, axes=1, ceil_mode=True)
    >>> [padded_taps(pool, (i,)) for i in range(3)]
    [2, 2, 1]
    """
    count = 1
    for axis, index in enumerate(i):
        before, after = pool.padding[axis]
        start = index * pool.stride[axis] - before
        places = (start + tap * pool.dilation[axis] for tap in range(pool.kernel_size[axis]))
        count *= sum(-before <= place < pool.input_size[axis] + after for place in places)
    return count
