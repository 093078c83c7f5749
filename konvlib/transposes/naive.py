"""The transposed convolution, by definition: each input sample is scattered, tap by tap.

``layer`` is the convolution that is transposed, from what is given back to what is given. Every dtype works, Python
integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from konvlib.geometry import ConvGeometry


def conv_transpose(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    r"""Return the transpose of the layer, product by product: `konvlib.conv_transpose2d`, over any axes.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_{s\,i + d\,u - p = j} x[b, c, i]\; w[c, o, u]

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = np.array([[[[1, 3], [2, 0]]]]), np.array([[[[2, 1], [0, 3]]]])
    >>> conv_transpose(x, w, None, conv_transpose_geometry(x.shape, w.shape, axes=2))
    array([[[[2, 7, 3],
             [4, 5, 9],
             [0, 6, 0]]]])
    """
    y = np.zeros(layer.input_shape, dtype=np.result_type(x, w, *([] if bias is None else [bias])))
    x, w = x.astype(y.dtype), w.astype(y.dtype)
    depth, width = layer.out_channels // layer.groups, layer.in_channels // layer.groups
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


def conv_transpose_by_scattering(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry
) -> np.ndarray:
    """Return the transpose of the layer by adding up what each sample scatters, which is the definition.

    Examples
    --------
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> conv_transpose_by_scattering(x, w, None, conv_transpose_geometry(x.shape, w.shape, stride=2))
    array([[[2, 1, 7, 3, 3]]])
    """
    return conv_transpose(x, w, bias, layer)


def conv_transpose_by_zero_insertion(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry
) -> np.ndarray:
    r"""Return the transpose of the layer by convolving ``x``, zeros inserted, with the flipped kernel.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_u z[b, c, j + p - d\,(k - 1) + d\,u]\; w[c, o, k - 1 - u]

    Here ``z`` is ``x`` with ``s - 1`` zeros between its samples, and with zeros all around.

    Examples
    --------
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> conv_transpose_by_zero_insertion(x, w, None, conv_transpose_geometry(x.shape, w.shape, stride=2))
    array([[[2, 1, 7, 3, 3]]])
    """
    y = np.zeros(layer.input_shape, dtype=np.result_type(x, w, *([] if bias is None else [bias])))
    z, w = insert_zeros(x, layer.stride).astype(y.dtype), w.astype(y.dtype)
    depth, width = layer.out_channels // layer.groups, layer.in_channels // layer.groups
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


def insert_zeros(x: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    r"""Return the batch with ``stride - 1`` zeros between neighbouring samples: `konvlib.insert_zeros`.

    .. math:: z[b, c, s\,i] = x[b, c, i]

    Examples
    --------
    >>> insert_zeros(np.array([[[1, 3, 2]]]), (2,))
    array([[[1, 0, 3, 0, 2]]])
    """
    size = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], stride, strict=True)]
    z = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for b, c, *i in np.ndindex(x.shape):
        z[(b, c, *(step * index for step, index in zip(stride, i, strict=True)))] = x[(b, c, *i)]
    return z


def overlap_counts(layer: ConvGeometry) -> np.ndarray:
    r"""Return how many taps of the layer's transpose reach each of its outputs: `konvlib.overlap_counts`.

    .. math:: n[j] = \bigl|\{(i, u) : s\,i + d\,u - p = j\}\bigr|

    Examples
    --------
    >>> from konvlib.geometry import overlap_geometry
    >>> overlap_counts(overlap_geometry(4, 3, stride=2))
    array([1, 1, 2, 1, 2, 1, 2, 1, 1])
    """
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
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> layer = conv_transpose_geometry((1, 1, 3), (1, 1, 2), axes=1, stride=2, padding=1)
    >>> target(layer, (0,), (0,)), target(layer, (0,), (1,))
    (None, (0,))
    """
    each = zip(i, u, layer.stride, layer.dilation, layer.padding, strict=True)
    j = tuple(s * index + d * tap - before for index, tap, s, d, (before, _) in each)
    return j if all(0 <= place < size for place, size in zip(j, layer.input_size, strict=True)) else None
