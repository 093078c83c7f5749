"""The convolution layer and pooling, by definition: one loop for each index of the printed formula.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, PoolGeometry, by_rank


def conv(
    axes: int,
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    r"""Convolve a batch as a layer does, over # spatial axes: `konvlib.conv#d`, by definition.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    Here ``i`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> conv2d([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]], [[[[2, 1], [0, 3]]]])
    array([[[[ 5, 11],
             [16,  7]]]])
    """
    x, w = geometry.as_array(x, "x"), geometry.as_array(w, "w")
    terms = [x, w] if bias is None else [x, w, bias := geometry.as_array(bias, "bias")]
    layer = geometry.conv_geometry(
        x.shape,
        w.shape,
        None if bias is None else bias.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )
    y = np.zeros(layer.output_shape, dtype=np.result_type(*terms))
    x, w = x.astype(y.dtype), w.astype(y.dtype)
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, source in taps(layer, i):
                        y[(b, o, *i)] += x[(b, o // width * depth + c, *source)] * w[(o, c, *u)]
                if bias is not None:
                    y[(b, o, *i)] += bias[o]
    return y


conv1d, conv2d, conv3d = by_rank(conv, "conv#d")


def max_pool(
    axes: int,
    x: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Take the largest sample of each window: `konvlib.max_pool#d`, by definition.

    Padding takes no part. A window that holds a NaN gives NaN.

    Examples
    --------
    >>> max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[3, 5]]]])
    """
    x = geometry.as_array(x, "x")
    geometry.check_ordered(x, "x")
    pool = geometry.pool_geometry(
        x.shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    y = np.empty(pool.output_shape, dtype=x.dtype)
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [x[(b, c, *source)] for _, source in taps(pool, i)]
        largest = window[0]
        for value in window[1:]:
            if value > largest or value != value:
                largest = value
        y[(b, c, *i)] = largest
    return y


max_pool1d, max_pool2d, max_pool3d = by_rank(max_pool, "max_pool#d")


def avg_pool(
    axes: int,
    x: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Take the mean of each window: `konvlib.avg_pool#d`, by definition.

    With ``count_include_pad`` padding counts as zeros, without it takes no part. What a window of ``ceil_mode`` has
    beyond the padding never counts.

    Examples
    --------
    >>> avg_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[1.5, 2. ]]]])
    """
    x = geometry.as_array(x, "x")
    pool = geometry.avg_pool_geometry(
        x.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    y = np.empty(pool.output_shape, dtype=geometry.mean_dtype(x.dtype))
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [x[(b, c, *source)] for _, source in taps(pool, i)]
        total = y.dtype.type(0) if y.dtype != object else 0
        for value in window:
            total += value
        y[(b, c, *i)] = total / (padded_taps(pool, i) if count_include_pad else len(window))
    return y


avg_pool1d, avg_pool2d, avg_pool3d = by_rank(avg_pool, "avg_pool#d")


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
        places = (index * pool.stride[axis] + tap - before for tap in range(pool.kernel_size[axis]))
        count *= sum(-before <= place < pool.input_size[axis] + after for place in places)
    return count
