"""The convolution as a matrix, by definition: one entry at a time.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly, save that sparse arrays and
singular values need machine numbers.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from konvlib.geometry import ConvGeometry, spectral_dtype
from konvlib.images.naive import taps
from konvlib.matrices.arrays import is_finite as is_finite

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def conv_matrix(w: np.ndarray, layer: ConvGeometry) -> csr_array:
    r"""Return the matrix of a convolution layer, entry by entry.

    .. math:: K_{(o, i),\,(c, j)} = w[o, c, u] \quad\text{where}\quad j = s\,i + d\,u - p

    Examples
    --------
    >>> from konvlib.geometry import matrix_geometry
    >>> conv_matrix(np.array([[[2, 1]]]), matrix_geometry((1, 1, 2), input_shape=(1, 4))).toarray()
    array([[2, 1, 0, 0],
           [0, 2, 1, 0],
           [0, 0, 2, 1]])
    """
    # Here and not at the top: only those who ask for the matrix wait for the import of sparse arrays.
    from scipy.sparse import csr_array

    outputs, inputs = layer.output_shape[1:], layer.input_shape[1:]
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    rows, columns, entries = [], [], []
    for o in range(layer.out_channels):
        for i in np.ndindex(layer.output_size):
            for c in range(depth):
                for u, source in taps(layer, i):
                    rows.append(np.ravel_multi_index((o, *i), outputs))
                    columns.append(np.ravel_multi_index((o // width * depth + c, *source), inputs))
                    entries.append(w[(o, c, *u)])
    places = np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
    dtype = np.float32 if w.dtype == np.float16 else w.dtype  # sparse arrays multiply no halves
    return csr_array((np.array(entries, dtype=dtype), places), shape=(prod(outputs), prod(inputs)))


def im2col(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    r"""Write each window of a batch of images as a column.

    .. math:: \text{cols}[b, (c, u), i] = x[b, c, s\,i + d\,u - p]

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> im2col(np.array([[[1, 3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2))
    array([[[1, 3, 2],
            [3, 2, 0]]])
    """
    cols = np.zeros((layer.batch, layer.in_channels, *layer.kernel_size, *layer.output_size), dtype=x.dtype)
    for b in range(layer.batch):
        for c in range(layer.in_channels):
            for i in np.ndindex(layer.output_size):
                for u, source in taps(layer, i):
                    cols[(b, c, *u, *i)] = x[(b, c, *source)]
    return cols.reshape(layer.batch, layer.in_channels * prod(layer.kernel_size), prod(layer.output_size))


def col2im(cols: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    r"""Add each column up where its window came from.

    .. math:: x[b, c, j] = \sum_{s\,i + d\,u - p = j} \text{cols}[b, (c, u), i]

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> col2im(np.array([[[1, 3, 2], [3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2))
    array([[[1, 6, 4, 0]]])
    """
    cols = cols.reshape(layer.batch, layer.in_channels, *layer.kernel_size, *layer.output_size)
    x = np.zeros(layer.input_shape, dtype=cols.dtype)
    for b in range(layer.batch):
        for c in range(layer.in_channels):
            for i in np.ndindex(layer.output_size):
                for u, source in taps(layer, i):
                    x[(b, c, *source)] += cols[(b, c, *u, *i)]
    return x


def conv2d_im2col(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    r"""Convolve by `im2col` and one matrix product per group, in loops.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{(c, u)} w[o, (c, u)]\; \text{cols}[b, (c, u), i]

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]]), np.array([[[[2, 1], [0, 3]]]])
    >>> conv2d_im2col(x, w, None, conv_geometry(x.shape, w.shape, axes=2))
    array([[[[ 5, 11],
             [16,  7]]]])
    """
    dtype = np.result_type(x, w, *([] if bias is None else [bias]))
    cols = im2col(x.astype(dtype), layer)
    weights = w.astype(dtype).reshape(layer.out_channels, -1)
    rows, width = weights.shape[1], layer.out_channels // layer.groups
    y = np.zeros((layer.batch, layer.out_channels, prod(layer.output_size)), dtype=dtype)
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in range(y.shape[2]):
                for row in range(rows):
                    y[b, o, i] += weights[o, row] * cols[b, o // width * rows + row, i]
                if bias is not None:
                    y[b, o, i] += bias[o]
    return y.reshape(layer.output_shape)


def circulant_singular_values(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    r"""Return the singular values of a layer with circular boundary: of its matrix, entry by entry.

    .. math:: K_{(o, i),\,(c, j)} = \sum_{u \,:\, i + u \equiv j} w[o, c, u]

    The congruence is modulo the size of each axis.

    Examples
    --------
    >>> circulant_singular_values(np.array([[[1, 1]]]), (4,)).round(6) + 0
    array([2.      , 1.414214, 1.414214, 0.      ])
    """
    out_channels, in_channels, *kernel = w.shape
    wide = np.result_type(w, np.float64) if w.dtype.kind == "c" else np.float64
    matrix = np.zeros((out_channels, *size, in_channels, *size), dtype=wide)
    for o in range(out_channels):
        for i in np.ndindex(size):
            for c in range(in_channels):
                for u in np.ndindex(*kernel):
                    j = tuple((place + tap) % n for place, tap, n in zip(i, u, size, strict=True))
                    matrix[(o, *i, c, *j)] += w[(o, c, *u)]
    values = np.linalg.svd(matrix.reshape(out_channels * prod(size), -1), compute_uv=False)
    return values.astype(spectral_dtype(w.dtype))
