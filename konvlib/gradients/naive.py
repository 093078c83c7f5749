"""Gradients of the layers, by definition: each product of the layer's sum, sent to what it was a product of.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.images.naive import padded_taps, taps


def conv_input_grad(
    axes: int,
    dy: ArrayLike,
    w: ArrayLike,
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    r"""Differentiate a convolution over # spatial axes by its input: `konvlib.conv#d_input_grad`, by definition.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    Examples
    --------
    >>> conv1d_input_grad([[[1, 5]]], [[[2, 3]]], input_size=3)
    array([[[ 2, 13, 15]]])
    """
    dy, w = geometry.as_array(dy, "dy"), geometry.as_array(w, "w")
    layer = geometry.input_grad_geometry(
        dy.shape,
        w.shape,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    dx = np.zeros(layer.input_shape, dtype=np.result_type(dy, w))
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        dx[(b, o // width * depth + c, *j)] += dy[(b, o, *i)] * w[(o, c, *u)]
    return dx


conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = by_rank(conv_input_grad, "conv#d_input_grad")


def conv_weight_grad(
    axes: int,
    x: ArrayLike,
    dy: ArrayLike,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    r"""Differentiate a convolution over # spatial axes by its weight: `konvlib.conv#d_weight_grad`, by definition.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    Examples
    --------
    >>> conv1d_weight_grad([[[4, 1, 3]]], [[[1, 5]]], kernel_size=2)
    array([[[ 9, 16]]])
    """
    x, dy = geometry.as_array(x, "x"), geometry.as_array(dy, "dy")
    layer = geometry.weight_grad_geometry(
        x.shape,
        dy.shape,
        axes=axes,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    dw = np.zeros(layer.weight_shape, dtype=np.result_type(x, dy))
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        dw[(o, c, *u)] += dy[(b, o, *i)] * x[(b, o // width * depth + c, *j)]
    return dw


conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = by_rank(conv_weight_grad, "conv#d_weight_grad")


def conv_bias_grad(axes: int, dy: ArrayLike) -> np.ndarray:
    r"""Differentiate a convolution over # spatial axes by its bias: `konvlib.conv#d_bias_grad`, by definition.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Examples
    --------
    >>> conv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    dy = geometry.as_array(dy, "dy")
    batch, out_channels, *size = geometry.bias_grad_shape(dy.shape, axes=axes)
    db = np.zeros(out_channels, dtype=dy.dtype)
    for b in range(batch):
        for o in range(out_channels):
            for i in np.ndindex(*size):
                db[o] += dy[(b, o, *i)]
    return db


conv1d_bias_grad, conv2d_bias_grad, conv3d_bias_grad = by_rank(conv_bias_grad, "conv#d_bias_grad")


def max_pool_grad(
    axes: int,
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Differentiate a max pooling over # spatial axes: `konvlib.max_pool#d_grad`, by definition.

    Each window sends its gradient to the first of its largest samples, in row-major order; to its last NaN, if any.

    Examples
    --------
    >>> max_pool1d_grad([[[1, 3, 3, 2, 5]]], [[[10, 20]]], 3, stride=2)
    array([[[ 0, 10,  0,  0, 20]]])
    """
    x, dy = geometry.as_array(x, "x"), geometry.as_array(dy, "dy")
    pool = geometry.max_pool_grad_geometry(
        x.shape,
        dy.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    dx = np.zeros(pool.input_shape, dtype=dy.dtype)
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [(b, c, *j) for _, j in taps(pool, i)]
        largest = window[0]
        for place in window[1:]:
            if x[place] > x[largest] or x[place] != x[place]:
                largest = place
        dx[largest] += dy[(b, c, *i)]
    return dx


max_pool1d_grad, max_pool2d_grad, max_pool3d_grad = by_rank(max_pool_grad, "max_pool#d_grad")


def avg_pool_grad(
    axes: int,
    dy: ArrayLike,
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Differentiate an average pooling over # spatial axes: `konvlib.avg_pool#d_grad`, by definition.

    Each window sends each of its samples the same share of its gradient.

    Examples
    --------
    >>> avg_pool1d_grad([[[3, 6]]], 3, input_size=5, stride=2)
    array([[[1., 1., 3., 2., 2.]]])
    """
    dy = geometry.as_array(dy, "dy")
    pool = geometry.avg_pool_grad_geometry(
        dy.shape,
        kernel_size,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    dx = np.zeros(pool.input_shape, dtype=geometry.mean_dtype(dy.dtype))
    for b, c, *i in np.ndindex(pool.output_shape):
        window = [(b, c, *j) for _, j in taps(pool, i)]
        count = padded_taps(pool, i) if count_include_pad else len(window)
        for place in window:
            dx[place] += dy[(b, c, *i)] / count
    return dx


avg_pool1d_grad, avg_pool2d_grad, avg_pool3d_grad = by_rank(avg_pool_grad, "avg_pool#d_grad")
