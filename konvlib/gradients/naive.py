"""Gradients of the layers, by definition: each product of the layer's sum, sent to what it was a product of.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images.naive import divisor, taps


def conv_input_grad(dy: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    r"""Return the layer's gradient by its input, product by product: `konvlib.conv2d_input_grad`.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    Examples
    --------
    >>> dy, w = np.array([[[1, 5]]]), np.array([[[2, 3]]])
    >>> conv_input_grad(dy, w, geometry.input_grad_geometry(dy.shape, w.shape, axes=1, input_size=3))
    array([[[ 2, 13, 15]]])
    """
    dx = np.zeros(layer.input_shape, dtype=np.result_type(dy, w))
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        dx[(b, o // width * depth + c, *j)] += dy[(b, o, *i)] * w[(o, c, *u)]
    return dx


def conv_weight_grad(x: np.ndarray, dy: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    r"""Return the layer's gradient by its weight, product by product: `konvlib.conv2d_weight_grad`.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    Examples
    --------
    >>> x, dy = np.array([[[4, 1, 3]]]), np.array([[[1, 5]]])
    >>> conv_weight_grad(x, dy, geometry.weight_grad_geometry(x.shape, dy.shape, axes=1, kernel_size=2))
    array([[[ 9, 16]]])
    """
    dw = np.zeros(layer.weight_shape, dtype=np.result_type(x, dy))
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        dw[(o, c, *u)] += dy[(b, o, *i)] * x[(b, o // width * depth + c, *j)]
    return dw


def conv_bias_grad(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    r"""Return the layer's gradient by its bias, term by term: `konvlib.conv2d_bias_grad`.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Examples
    --------
    >>> conv_bias_grad(np.array([[[1, 5], [2, 0]]]), (1, 2, 2))
    array([6, 2])
    """
    batch, out_channels, *size = shape
    db = np.zeros(out_channels, dtype=dy.dtype)
    for b in range(batch):
        for o in range(out_channels):
            for i in np.ndindex(*size):
                db[o] += dy[(b, o, *i)]
    return db


def max_pool_grad(x: np.ndarray, dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    r"""Return the gradient of a max pooling by its input, window by window: `konvlib.max_pool2d_grad`.

    .. math:: dx[b, c, j] = \sum_{i:\; m(i) = j} dy[b, c, i], \qquad
        m(i) = \operatorname{argmax}_{j = s\,i + d\,u - p} x[b, c, j]

    Each window sends its gradient to the first of its largest samples, in row-major order; to its last NaN, if any.
    Halves are summed as float32, and rounded once.

    Examples
    --------
    >>> x, dy = np.array([[[1, 3, 3, 2, 5]]]), np.array([[[10, 20]]])
    >>> max_pool_grad(x, dy, geometry.pool_geometry(x.shape, 3, axes=1, stride=2))
    array([[[ 0, 10,  0,  0, 20]]])
    """
    dtype = dy.dtype.newbyteorder("=")
    dx = np.zeros(pool.input_shape, dtype=dtype if dtype.kind in "biu" else geometry.wide_dtype(dtype))
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [(b, c, *j) for _, j in taps(pool, i)]
        largest = window[0]
        for place in window[1:]:
            if x[place] > x[largest] or x[place] != x[place]:
                largest = place
        dx[largest] += dy[(b, c, *i)]
    return dx.astype(dtype)


def avg_pool_grad(dy: np.ndarray, pool: PoolGeometry) -> np.ndarray:
    r"""Return the gradient of an average pooling by its input, window by window: `konvlib.avg_pool2d_grad`.

    .. math:: dx[b, c, j] = \sum_{(i, u):\; s\,i + d\,u - p = j} \frac{dy[b, c, i]}{n(i)}

    Each window sends each of its samples the same share of its gradient. Halves are divided and summed as float32, and
    rounded once.

    Examples
    --------
    >>> avg_pool_grad(np.array([[[3, 6]]]), geometry.pool_geometry((1, 1, 5), 3, axes=1, stride=2))
    array([[[1., 1., 3., 2., 2.]]])
    """
    dtype = geometry.mean_dtype(dy.dtype).newbyteorder("=")
    dx = np.zeros(pool.input_shape, dtype=geometry.wide_dtype(dtype))
    dy = dy.astype(dx.dtype)
    for b, c, *i in np.ndindex(pool.output_shape):
        share = dy[(b, c, *i)] / divisor(pool, i)
        for _, j in taps(pool, i):
            dx[(b, c, *j)] += share
    return dx.astype(dtype)
