"""Konvolution and its gradients, by definition: one loop for each index of the printed formula.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry, Padding, PerAxis, by_rank
from konvlib.gradients import naive as gradients
from konvlib.images.naive import taps
from konvlib.konvolution import bases


def konv(
    axes: int,
    x: ArrayLike,
    kappa: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> np.ndarray:
    r"""Put a polynomial in place of each product of a convolution over # spatial axes: `konvlib.konv#d`, by definition.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    Here ``i`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> konv1d([[[1, 3, 2]]], [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial")
    array([[[17, 20]]])
    """
    found = bases.get_basis(basis)
    x, kappa = geometry.as_array(x, "x"), geometry.as_array(kappa, "kappa")
    operands = [x, kappa] if bias is None else [x, kappa, bias := geometry.as_array(bias, "bias")]
    given = geometry.konv_geometry(
        x.shape,
        kappa.shape,
        None if bias is None else bias.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )
    y = np.zeros(given.layer.output_shape, dtype=bases.result_dtype(found, *operands))
    kappa = kappa.astype(y.dtype)
    x, layer = pad_input(x.astype(y.dtype), given)
    p = bases.values(basis, x, given.degree)
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        for delta in range(given.degree + 1):
                            y[(b, o, *i)] += kappa[(o, delta, c, *u)] * p[(delta, b, o // width * depth + c, *j)]
                if bias is not None:
                    y[(b, o, *i)] += bias[o]
    return y


konv1d, konv2d, konv3d = by_rank(konv, "konv#d")


def konv_input_grad(
    axes: int,
    dy: ArrayLike,
    x: ArrayLike,
    kappa: ArrayLike,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> np.ndarray:
    r"""Differentiate a Konvolution over # spatial axes by its input: `konvlib.konv#d_input_grad`, by definition.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    Zeros of the padding have no gradient, whatever ``pad`` makes of them.

    Examples
    --------
    >>> konv1d_input_grad([[[1, 10]]], [[[1, 3, 2]]], [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial")
    array([[[ 2, 65, 50]]])
    """
    found = bases.get_basis(basis)
    dy, x, kappa = geometry.as_array(dy, "dy"), geometry.as_array(x, "x"), geometry.as_array(kappa, "kappa")
    given = geometry.konv_input_grad_geometry(
        dy.shape,
        x.shape,
        kappa.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )
    layer = given.layer
    dx = np.zeros(layer.input_shape, dtype=bases.result_dtype(found, dy, x, kappa))
    dy, kappa = dy.astype(dx.dtype), kappa.astype(dx.dtype)
    slopes = bases.derivatives(basis, x.astype(dx.dtype), given.degree)
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        place = (b, o // width * depth + c, *j)
                        for delta in range(given.degree + 1):
                            dx[place] += dy[(b, o, *i)] * kappa[(o, delta, c, *u)] * slopes[(delta, *place)]
    return dx


konv1d_input_grad, konv2d_input_grad, konv3d_input_grad = by_rank(konv_input_grad, "konv#d_input_grad")


def konv_kappa_grad(
    axes: int,
    x: ArrayLike,
    dy: ArrayLike,
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> np.ndarray:
    r"""Differentiate a Konvolution over # spatial axes by its coefficients: `konvlib.konv#d_kappa_grad`, by definition.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    Examples
    --------
    >>> konv1d_kappa_grad([[[1, 3, 2]]], [[[1, 10]]], degree=2, kernel_size=2, basis="monomial")
    array([[[[11, 11]],
    <BLANKLINE>
            [[31, 23]],
    <BLANKLINE>
            [[91, 49]]]])
    """
    found = bases.get_basis(basis)
    x, dy = geometry.as_array(x, "x"), geometry.as_array(dy, "dy")
    given = geometry.konv_kappa_grad_geometry(
        x.shape,
        dy.shape,
        axes=axes,
        degree=degree,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )
    dkappa = np.zeros(given.kappa_shape, dtype=bases.result_dtype(found, x, dy))
    dy = dy.astype(dkappa.dtype)
    x, layer = pad_input(x.astype(dkappa.dtype), given)
    p = bases.values(basis, x, degree)
    depth, width = layer.in_channels // groups, layer.out_channels // groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        for delta in range(degree + 1):
                            product = dy[(b, o, *i)] * p[(delta, b, o // width * depth + c, *j)]
                            dkappa[(o, delta, c, *u)] += product
    return dkappa


konv1d_kappa_grad, konv2d_kappa_grad, konv3d_kappa_grad = by_rank(konv_kappa_grad, "konv#d_kappa_grad")


def konv_bias_grad(axes: int, dy: ArrayLike) -> np.ndarray:
    r"""Differentiate a Konvolution over # spatial axes by its bias: `konvlib.konv#d_bias_grad`, by definition.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Examples
    --------
    >>> konv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    return gradients.conv_bias_grad(axes, dy)


konv1d_bias_grad, konv2d_bias_grad, konv3d_bias_grad = by_rank(konv_bias_grad, "konv#d_bias_grad")


def pad_input(x: np.ndarray, konv: KonvGeometry) -> tuple[np.ndarray, ConvGeometry]:
    """Where the input is padded with zeros, the padded input, and the layer without padding; else both as they are.

    With any other padding the input can stay as it is: its padding shows samples, and the basis of a sample that
    padding shows is what padding shows of the basis.

    Examples
    --------
    >>> konv = geometry.konv_geometry((1, 1, 2), (1, 1, 1, 3), axes=1, padding=[(1, 2)], pad="input")
    >>> pad_input(np.array([[[4, 7]]]), konv)[0]
    array([[[0, 4, 7, 0, 0]]])
    """
    layer = konv.layer
    if konv.pad == "basis" or not konv.pads_with_zeros:
        return x, layer
    sides = layer.padding
    size = tuple(n + before + after for n, (before, after) in zip(layer.input_size, sides, strict=True))
    padded = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for b, c, *j in np.ndindex(x.shape):
        padded[(b, c, *(place + before for place, (before, _) in zip(j, sides, strict=True)))] = x[(b, c, *j)]
    return padded, replace(layer, input_size=size, padding=((0, 0),) * layer.axes)
