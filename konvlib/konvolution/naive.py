"""Konvolution and its gradients, by definition: one loop for each index of the printed formula.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from konvlib.geometry import ConvGeometry, KonvGeometry
from konvlib.gradients import naive as gradients
from konvlib.images.naive import taps
from konvlib.konvolution import bases


def konv(x: np.ndarray, kappa: np.ndarray, bias: np.ndarray | None, given: KonvGeometry, basis: str) -> np.ndarray:
    r"""Return the layer, index by index: `konvlib.konv2d`, and so over one axis or three.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    Here ``i`` and ``u`` have one entry per spatial axis, and ``c`` runs over the channels of the group of ``o``.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa = np.array([[[1, 3, 2]]]), np.array([[[[1, 0]], [[0, 5]], [[1, 0]]]])
    >>> konv(x, kappa, None, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    array([[[17, 20]]])
    """
    operands = [x, kappa] if bias is None else [x, kappa, bias]
    y = np.zeros(given.layer.output_shape, dtype=bases.result_dtype(bases.get_basis(basis), *operands))
    kappa = kappa.astype(y.dtype)
    x, layer = pad_input(x.astype(y.dtype), given)
    p = bases.values(basis, x, given.degree)
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
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


def konv_input_grad(dy: np.ndarray, x: np.ndarray, kappa: np.ndarray, given: KonvGeometry, basis: str) -> np.ndarray:
    r"""Return the layer's gradient by its input: `konvlib.konv2d_input_grad`, and so over one axis or three.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    Zeros of the padding have no gradient, whatever ``pad`` makes of them.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa, dy = np.array([[[1, 3, 2]]]), np.array([[[[1, 0]], [[0, 5]], [[1, 0]]]]), np.array([[[1, 10]]])
    >>> konv_input_grad(dy, x, kappa, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    array([[[ 2, 65, 50]]])
    """
    layer = given.layer
    dx = np.zeros(layer.input_shape, dtype=bases.result_dtype(bases.get_basis(basis), dy, x, kappa))
    dy, kappa = dy.astype(dx.dtype), kappa.astype(dx.dtype)
    slopes = bases.derivatives(basis, x.astype(dx.dtype), given.degree)
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        place = (b, o // width * depth + c, *j)
                        for delta in range(given.degree + 1):
                            dx[place] += dy[(b, o, *i)] * kappa[(o, delta, c, *u)] * slopes[(delta, *place)]
    return dx


def konv_kappa_grad(x: np.ndarray, dy: np.ndarray, given: KonvGeometry, basis: str) -> np.ndarray:
    r"""Return the layer's gradient by its coefficients: `konvlib.konv2d_kappa_grad`, and so over one axis or three.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, dy = np.array([[[1, 3, 2]]]), np.array([[[1, 10]]])
    >>> konv_kappa_grad(x, dy, konv_geometry(x.shape, (1, 3, 1, 2), axes=1), "monomial")[0, :, 0]
    array([[11, 11],
           [31, 23],
           [91, 49]])
    """
    dkappa = np.zeros(given.kappa_shape, dtype=bases.result_dtype(bases.get_basis(basis), x, dy))
    dy = dy.astype(dkappa.dtype)
    x, layer = pad_input(x.astype(dkappa.dtype), given)
    p = bases.values(basis, x, given.degree)
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for b in range(layer.batch):
        for o in range(layer.out_channels):
            for i in np.ndindex(layer.output_size):
                for c in range(depth):
                    for u, j in taps(layer, i):
                        for delta in range(given.degree + 1):
                            product = dy[(b, o, *i)] * p[(delta, b, o // width * depth + c, *j)]
                            dkappa[(o, delta, c, *u)] += product
    return dkappa


def konv_bias_grad(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    r"""Return the layer's gradient by its bias: `konvlib.konv2d_bias_grad`, and so over one axis or three.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Examples
    --------
    >>> konv_bias_grad(np.array([[[1, 5], [2, 0]]]), (1, 2, 2))
    array([6, 2])
    """
    return gradients.conv_bias_grad(dy, shape)


def pad_input(x: np.ndarray, given: KonvGeometry) -> tuple[np.ndarray, ConvGeometry]:
    """Where the input is padded with zeros, the padded input, and the layer without padding; else both as they are.

    With any other padding the input can stay as it is: its padding shows samples, and the basis of a sample that
    padding shows is what padding shows of the basis.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> given = konv_geometry((1, 1, 2), (1, 1, 1, 3), axes=1, padding=[(1, 2)], pad="input")
    >>> pad_input(np.array([[[4, 7]]]), given)[0]
    array([[[0, 4, 7, 0, 0]]])
    """
    layer = given.layer
    if given.pad == "basis" or not given.pads_with_zeros:
        return x, layer
    sides = layer.padding
    size = tuple(n + before + after for n, (before, after) in zip(layer.input_size, sides, strict=True))
    padded = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for b, c, *j in np.ndindex(x.shape):
        padded[(b, c, *(place + before for place, (before, _) in zip(j, sides, strict=True)))] = x[(b, c, *j)]
    return padded, replace(layer, input_size=size, padding=((0, 0),) * layer.axes)
