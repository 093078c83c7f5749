"""Konvolution and its gradients with NumPy: an ordinary convolution of the expanded input, a block of it at a time.

Degree 0 is 1 whatever the input, so it is never expanded: it adds the same map to each image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry, Padding, PerAxis, by_rank
from konvlib.gradients import arrays as gradients
from konvlib.images import arrays as images
from konvlib.konvolution import bases

BLOCK = 1 << 24
"""About how many bytes of the expanded input to hold at once; at least one degree of one channel of one image."""


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
    """Put a polynomial in place of each product of a convolution over # spatial axes: `konvlib.konv#d` on arrays.

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
    dtype = bases.result_dtype(found, *operands)
    x, kappa = _as_sums(dtype, x, kappa)
    x, layer = pad_input(x, given)
    y = np.empty(layer.output_shape, dtype=x.dtype)
    y[...] = _constant_map(kappa[:, 0], layer)
    for part, expanded in expansions(found, x, layer, given.degree):
        weight = kappa[part.coefficients].reshape(-1, prod(expanded.shape[2:4]), *layer.kernel_size)
        y[part.images, part.outputs] += images.conv(axes, _ungrouped(expanded), weight, **part.options(layer))
    if bias is not None:
        y += bias.astype(y.dtype, copy=False).reshape(-1, *(1,) * axes)
    return y.astype(dtype, copy=False)


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
    """Differentiate a Konvolution over # spatial axes by its input: `konvlib.konv#d_input_grad` on arrays.

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
    dtype = bases.result_dtype(found, dy, x, kappa)
    dy, x, kappa = _as_sums(dtype, dy, x, kappa)
    dx = np.zeros_like(x)
    totals = _grouped(dx, groups)
    for part, slopes in expansions(found, _where_shown(x, layer), layer, given.degree, slopes=True):
        weight = kappa[part.coefficients].reshape(-1, prod(slopes.shape[2:4]), *layer.kernel_size)
        options = part.options(layer) | {"input_size": layer.input_size}
        products = gradients.conv_input_grad(axes, dy[part.images, part.outputs], weight, **options)
        products = products.reshape(slopes.shape)
        products *= slopes
        totals[part.inputs] += products.sum(2, dtype=dx.dtype)
    return dx.astype(dtype, copy=False)


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
    """Differentiate a Konvolution over # spatial axes by its coefficients: `konvlib.konv#d_kappa_grad` on arrays.

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
    dtype = bases.result_dtype(found, x, dy)
    x, dy = _as_sums(dtype, x, dy)
    x, layer = pad_input(x, given)
    dkappa = np.zeros(given.kappa_shape, dtype=x.dtype)
    dkappa[:, 0] = _constant_grad(dy, layer)
    for part, expanded in expansions(found, x, layer, degree):
        options = part.options(layer) | {"kernel_size": layer.kernel_size}
        products = gradients.conv_weight_grad(axes, _ungrouped(expanded), dy[part.images, part.outputs], **options)
        dkappa[part.coefficients] += products.reshape(-1, *expanded.shape[2:4], *layer.kernel_size)
    return dkappa.astype(dtype, copy=False)


konv1d_kappa_grad, konv2d_kappa_grad, konv3d_kappa_grad = by_rank(konv_kappa_grad, "konv#d_kappa_grad")


def konv_bias_grad(axes: int, dy: ArrayLike) -> np.ndarray:
    """Differentiate a Konvolution over # spatial axes by its bias: `konvlib.konv#d_bias_grad` on arrays.

    Examples
    --------
    >>> konv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    return gradients.conv_bias_grad(axes, dy)


konv1d_bias_grad, konv2d_bias_grad, konv3d_bias_grad = by_rank(konv_bias_grad, "konv#d_bias_grad")


class Part(NamedTuple):
    """A block of the expanded input: some images, groups, channels of each group, and degrees."""

    images: slice
    groups: slice
    channels: slice
    degrees: slice
    width: int

    @property
    def outputs(self) -> slice:
        """The output channels of its groups."""
        return slice(self.groups.start * self.width, self.groups.stop * self.width)

    @property
    def inputs(self) -> tuple[slice, ...]:
        """Where its samples are in the input, by group."""
        return self.images, self.groups, self.channels

    @property
    def coefficients(self) -> tuple[slice, ...]:
        """Where its coefficients are in kappa."""
        return self.outputs, self.degrees, self.channels

    def options(self, layer: ConvGeometry) -> dict[str, Any]:
        """The arguments of its convolution."""
        return _options(layer) | {"groups": self.groups.stop - self.groups.start}


def expansions(
    basis: bases.Basis, x: np.ndarray, layer: ConvGeometry, degree: int, *, slopes: bool = False
) -> Iterator[tuple[Part, np.ndarray]]:
    """The expanded input without degree 0, or its derivative, in blocks of about `BLOCK` bytes.

    Each is shaped (images, groups, degrees, channels, *size), which is the order of channels that a convolution with
    as many groups takes.

    Examples
    --------
    >>> x, layer = np.array([[[5, 3]]]), geometry.conv_geometry((1, 1, 2), (1, 1, 1), axes=1)
    >>> for part, expanded in expansions(bases.get_basis("monomial"), x, layer, 3):
    ...     print(part.degrees, expanded[0, 0, :, 0].tolist())
    slice(1, 4, None) [[5, 3], [25, 9], [125, 27]]
    """
    plane = prod(layer.input_size) * x.itemsize
    most = max(1, min(degree, BLOCK // plane))
    samples = _grouped(x, layer.groups)
    for place in _pieces(samples.shape[:3], BLOCK // (plane * most)):
        terms = bases.terms(basis, samples[place], degree, slopes=slopes)
        next(terms)
        for first in range(1, degree + 1, most):
            degrees = slice(first, min(first + most, degree + 1))
            some = [term[slopes] for term in islice(terms, most)]
            yield Part(*place, degrees, layer.out_channels // layer.groups), np.stack(some, axis=2)


def pad_input(x: np.ndarray, konv: KonvGeometry) -> tuple[np.ndarray, ConvGeometry]:
    """Where the input is padded with zeros, the padded input, and the layer without padding; else both as they are.

    Examples
    --------
    >>> konv = geometry.konv_geometry((1, 1, 2), (1, 1, 1, 3), axes=1, padding=[(1, 2)], pad="input")
    >>> pad_input(np.array([[[4, 7]]]), konv)[0]
    array([[[0, 4, 7, 0, 0]]])
    """
    layer = konv.layer
    if konv.pad == "basis" or not konv.pads_with_zeros:
        return x, layer
    x = np.pad(x, ((0, 0), (0, 0), *layer.padding))
    return x, replace(layer, input_size=x.shape[2:], padding=((0, 0),) * layer.axes)


def _constant_map(kappa: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """What degree 0 adds to each image: its coefficients, summed over those taps that show a sample."""
    totals = kappa.sum(1, dtype=kappa.dtype, keepdims=True)
    if _shows_all(layer):
        return totals.sum(tuple(range(1, totals.ndim)), dtype=kappa.dtype).reshape(-1, *(1,) * layer.axes)
    return images.conv(layer.axes, np.ones((1, 1, *layer.input_size), kappa.dtype), totals, **_options(layer))[0]


def _constant_grad(dy: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The gradient by the coefficients of degree 0, the same for all channels: `_constant_map` transposed."""
    totals = dy.sum(0, dtype=dy.dtype, keepdims=True)
    if _shows_all(layer):
        totals = totals.sum(tuple(range(2, dy.ndim)), dtype=dy.dtype)
        return totals.reshape(-1, *(1,) * (layer.axes + 1))
    ones, options = np.ones((1, 1, *layer.input_size), dy.dtype), _options(layer) | {"kernel_size": layer.kernel_size}
    return gradients.conv_weight_grad(layer.axes, ones, totals, **options)


def _shows_all(layer: ConvGeometry) -> bool:
    """Whether each tap of each window shows a sample."""
    return layer.padding_mode != "zeros" or not any(map(any, layer.padding))


def _where_shown(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The input, with zeros where no window shows it, so that what is NaN there has no part in a gradient."""
    outputs, taps = np.ones((1, 1, *layer.output_size)), np.ones((1, 1, *layer.kernel_size))
    shown = gradients.conv_input_grad(layer.axes, outputs, taps, input_size=layer.input_size, **_options(layer)) > 0
    return x if shown.all() else np.where(shown, x, x.dtype.type(0) if x.dtype.kind != "O" else 0)


def _options(layer: ConvGeometry) -> dict[str, Any]:
    """The arguments of a convolution with one group that visits the same samples."""
    return {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "padding_mode": layer.padding_mode,
    }


def _as_sums(dtype: np.dtype, *arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Arrays in the dtype to sum in: halves as singles."""
    return (array.astype(np.float32 if dtype == np.float16 else dtype, copy=False) for array in arrays)


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, *size) as (N, groups, C // groups, *size)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _ungrouped(expanded: np.ndarray) -> np.ndarray:
    """(N, groups, degrees, channels, *size) as (N, groups * degrees * channels, *size)."""
    return expanded.reshape(expanded.shape[0], prod(expanded.shape[1:4]), *expanded.shape[4:])


def _pieces(extents: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box into boxes of at most ``most`` entries, whole on its last axes; of one, if that is too many."""
    ranges = []
    for extent in reversed(extents):
        piece = max(1, min(extent, most))
        ranges.append(range(0, extent, piece))
        most //= piece
    for starts in product(*reversed(ranges)):
        each = zip(starts, reversed(ranges), extents, strict=True)
        yield tuple(slice(start, min(start + axis.step, extent)) for start, axis, extent in each)
