"""The transposed convolution, by definition: each input sample is scattered, tap by tap.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, by_rank


def conv_transpose(
    axes: int,
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> np.ndarray:
    r"""Transpose the convolution layer, over # spatial axes: `konvlib.conv_transpose#d`, by definition.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_{s\,i + d\,u - p = j} x[b, c, i]\; w[c, o, u]

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> conv_transpose2d([[[[1, 3], [2, 0]]]], [[[[2, 1], [0, 3]]]])
    array([[[[2, 7, 3],
             [4, 5, 9],
             [0, 6, 0]]]])
    """
    x, w, bias, layer = geometry.conv_transpose_arguments(
        x,
        w,
        bias,
        axes=axes,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    y = np.zeros(layer.input_shape, dtype=x.dtype)
    depth, width = layer.out_channels // groups, layer.in_channels // groups
    for b in range(layer.batch):
        for c in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for o in range(width):
                    for u in np.ndindex(layer.kernel_size):
                        j = target(layer, i, u)
                        if j is not None:
                            y[(b, c // depth * width + o, *j)] += x[(b, c, *i)] * w[(c, o, *u)]
    for b, o, *j in np.ndindex(y.shape) if bias is not None else ():
        y[(b, o, *j)] += bias[o]
    return y


conv_transpose1d, conv_transpose2d, conv_transpose3d = by_rank(conv_transpose, "conv_transpose#d")


def conv_transpose_by_scattering(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> np.ndarray:
    """Transpose the convolution layer by adding up what each sample scatters, which is the definition.

    Examples
    --------
    >>> conv_transpose_by_scattering([[[1, 3]]], [[[2, 1, 1]]], stride=2)
    array([[[2, 1, 7, 3, 3]]])
    """
    x = geometry.as_array(x, "x")
    return conv_transpose(
        geometry.spatial_axes(x.shape, "x"),
        x,
        w,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )


def conv_transpose_by_zero_insertion(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> np.ndarray:
    r"""Transpose the convolution layer by convolving ``x``, zeros inserted, with the flipped kernel.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_u z[b, c, j + p - d\,(k - 1) + d\,u]\; w[c, o, k - 1 - u]

    Here ``z`` is ``insert_zeros(x, stride)``, with zeros all around.

    Examples
    --------
    >>> conv_transpose_by_zero_insertion([[[1, 3]]], [[[2, 1, 1]]], stride=2)
    array([[[2, 1, 7, 3, 3]]])
    """
    x, w, bias, layer = geometry.conv_transpose_arguments(
        x,
        w,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    z = insert_zeros(x, layer.stride)
    y = np.zeros(layer.input_shape, dtype=x.dtype)
    depth, width = layer.out_channels // groups, layer.in_channels // groups
    axes = list(zip(layer.kernel_size, layer.dilation, layer.padding, strict=True))
    for b in range(layer.batch):
        for o in range(layer.in_channels):
            for j in np.ndindex(layer.input_size):
                for c in range(o // width * depth, (o // width + 1) * depth):
                    for u in np.ndindex(layer.kernel_size):
                        flipped = tuple(k - 1 - tap for tap, (k, _, _) in zip(u, axes, strict=True))
                        place = tuple(
                            at + before - d * (k - 1) + d * tap
                            for at, tap, (k, d, (before, _)) in zip(j, u, axes, strict=True)
                        )
                        if all(0 <= index < size for index, size in zip(place, z.shape[2:], strict=True)):
                            y[(b, o, *j)] += z[(b, c, *place)] * w[(c, o % width, *flipped)]
                if bias is not None:
                    y[(b, o, *j)] += bias[o]
    return y


def insert_zeros(x: ArrayLike, stride: PerAxis) -> np.ndarray:
    r"""Put ``stride - 1`` zeros between neighbouring samples: `konvlib.insert_zeros`, sample by sample.

    .. math:: z[b, c, s\,i] = x[b, c, i]

    Examples
    --------
    >>> insert_zeros([[[1, 3, 2]]], 2)
    array([[[1, 0, 3, 0, 2]]])
    """
    x = geometry.as_array(x, "x")
    steps, size = geometry.inserted_size(x.shape, stride)
    z = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for b, c, *i in np.ndindex(x.shape):
        z[(b, c, *(step * index for step, index in zip(steps, i, strict=True)))] = x[(b, c, *i)]
    return z


def overlap_counts(
    size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> np.ndarray:
    r"""Count how many taps of a transposed convolution reach each output: `konvlib.overlap_counts`, one by one.

    .. math:: n[j] = \bigl|\{(i, u) : s\,i + d\,u - p = j\}\bigr|

    Examples
    --------
    >>> overlap_counts(4, 3, stride=2)
    array([1, 1, 2, 1, 2, 1, 2, 1, 1])
    """
    layer = geometry.overlap_geometry(
        size, kernel_size, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    counts = np.zeros(layer.input_size, dtype=np.int64)
    for i, u in product(np.ndindex(layer.output_size), np.ndindex(layer.kernel_size)):
        j = target(layer, i, u)
        if j is not None:
            counts[j] += 1
    return counts


def target(layer: ConvGeometry, i: tuple[int, ...], u: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the output sample that tap ``u`` of input sample ``i`` reaches; ``None`` if padding cut it off.

    ``layer`` is the convolution that is transposed.

    Examples
    --------
    >>> layer = geometry.conv_transpose_geometry((1, 1, 3), (1, 1, 2), axes=1, stride=2, padding=1)
    >>> target(layer, (0,), (0,)), target(layer, (0,), (1,))
    (None, (0,))
    """
    each = zip(i, u, layer.stride, layer.dilation, layer.padding, strict=True)
    j = tuple(s * index + d * tap - before for index, tap, s, d, (before, _) in each)
    return j if all(0 <= place < size for place, size in zip(j, layer.input_size, strict=True)) else None
