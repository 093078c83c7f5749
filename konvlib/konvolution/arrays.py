"""Konvolution and its gradients with NumPy: an ordinary convolution of the expanded input, a block of it at a time.

Degree 0 is 1 whatever the input, so it is never expanded: it adds the same map to each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import islice
from math import prod
from typing import NamedTuple

import numpy as np

from konvlib.geometry import ConvGeometry, KonvGeometry, halos
from konvlib.gradients import arrays as gradients
from konvlib.images import arrays as images
from konvlib.konvolution import bases
from konvlib.matrices.blocks import pieces

BLOCK = 1 << 24
"""About how many bytes of the expanded input to hold at once; at least one degree of one channel of one image."""


def konv(x: np.ndarray, kappa: np.ndarray, bias: np.ndarray | None, given: KonvGeometry, basis: str) -> np.ndarray:
    """Return the layer.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa = np.array([[[1, 3, 2]]]), np.array([[[[1, 0]], [[0, 5]], [[1, 0]]]])
    >>> konv(x, kappa, None, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    array([[[17, 20]]])
    """
    found = bases.get_basis(basis)
    dtype = bases.result_dtype(found, *([x, kappa] if bias is None else [x, kappa, bias]))
    (kappa,), parts = _as_sums(dtype, kappa), list(bands(given, max(4, dtype.itemsize)))
    if len(parts) == 1:
        return _konv(x, kappa, bias, given, found, dtype)
    y = np.empty(given.layer.output_shape, dtype=dtype)
    for inputs, outputs, part in parts:
        y[outputs] = _konv(x[inputs], kappa, bias, part, found, dtype)
    return y


def _konv(
    x: np.ndarray,
    kappa: np.ndarray,
    bias: np.ndarray | None,
    given: KonvGeometry,
    found: bases.Basis,
    dtype: np.dtype,
) -> np.ndarray:
    """One band of the layer."""
    (x,) = _as_sums(dtype, x)
    x, layer = pad_input(x, given)
    y = np.empty(layer.output_shape, dtype=x.dtype)
    y[...] = _constant_map(kappa[:, 0], layer)
    for part, expanded in expansions(found, x, layer, given.degree):
        weight = kappa[part.coefficients].reshape(-1, prod(expanded.shape[2:4]), *layer.kernel_size)
        y[part.images, part.outputs] += images.conv(_ungrouped(expanded), weight, None, part.layer(layer))
    if bias is not None:
        y += bias.astype(y.dtype, copy=False).reshape(-1, *(1,) * layer.axes)
    return y.astype(dtype, copy=False)


def konv_input_grad(dy: np.ndarray, x: np.ndarray, kappa: np.ndarray, given: KonvGeometry, basis: str) -> np.ndarray:
    """Return the layer's gradient by its input.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa, dy = np.array([[[1, 3, 2]]]), np.array([[[[1, 0]], [[0, 5]], [[1, 0]]]]), np.array([[[1, 10]]])
    >>> konv_input_grad(dy, x, kappa, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    array([[[ 2, 65, 50]]])
    """
    found = bases.get_basis(basis)
    dtype = bases.result_dtype(found, dy, x, kappa)
    (kappa,), parts = _as_sums(dtype, kappa), list(bands(given, max(4, dtype.itemsize)))
    dx = np.zeros(given.layer.input_shape, dtype=kappa.dtype)
    for inputs, outputs, part in parts:
        _add_input_grad(dx[inputs], dy[outputs], x[inputs], kappa, part.layer, given.degree, found)
    return dx.astype(dtype, copy=False)


def _add_input_grad(
    dx: np.ndarray,
    dy: np.ndarray,
    x: np.ndarray,
    kappa: np.ndarray,
    layer: ConvGeometry,
    degree: int,
    found: bases.Basis,
) -> None:
    """One band of the gradient by the input, added to what other bands gave the same samples."""
    dy, x = dy.astype(dx.dtype, copy=False), x.astype(dx.dtype, copy=False)
    totals = _grouped(dx, layer.groups)
    for part, slopes in expansions(found, _where_shown(x, layer), layer, degree, slopes=True):
        weight = kappa[part.coefficients].reshape(-1, prod(slopes.shape[2:4]), *layer.kernel_size)
        products = gradients.conv_input_grad(dy[part.images, part.outputs], weight, part.layer(layer))
        products = products.reshape(slopes.shape)
        products *= slopes
        totals[part.inputs] += products.sum(2, dtype=dx.dtype)


def konv_kappa_grad(x: np.ndarray, dy: np.ndarray, given: KonvGeometry, basis: str) -> np.ndarray:
    """Return the layer's gradient by its coefficients.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, dy = np.array([[[1, 3, 2]]]), np.array([[[1, 10]]])
    >>> konv_kappa_grad(x, dy, konv_geometry(x.shape, (1, 3, 1, 2), axes=1), "monomial")[0, :, 0]
    array([[11, 11],
           [31, 23],
           [91, 49]])
    """
    found = bases.get_basis(basis)
    dtype = bases.result_dtype(found, x, dy)
    total = sum(
        _kappa_grad(*_as_sums(dtype, x[inputs], dy[outputs]), part, found)
        for inputs, outputs, part in bands(given, max(4, dtype.itemsize))
    )
    return total.astype(dtype, copy=False)


def _kappa_grad(x: np.ndarray, dy: np.ndarray, given: KonvGeometry, found: bases.Basis) -> np.ndarray:
    """One band of the gradient by the coefficients."""
    x, layer = pad_input(x, given)
    dkappa = np.zeros(given.kappa_shape, dtype=x.dtype)
    dkappa[:, 0] = _constant_grad(dy, layer)
    for part, expanded in expansions(found, x, layer, given.degree):
        outputs = dy[part.images, part.outputs]
        products = gradients.conv_weight_grad(_ungrouped(expanded), outputs, part.layer(layer))
        dkappa[part.coefficients] += products.reshape(-1, *expanded.shape[2:4], *layer.kernel_size)
    return dkappa


def konv_bias_grad(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the layer's gradient by its bias.

    Examples
    --------
    >>> konv_bias_grad(np.array([[[1, 5], [2, 0]]]), (1, 2, 2))
    array([6, 2])
    """
    return gradients.conv_bias_grad(dy, shape)


def bands(given: KonvGeometry, itemsize: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], KonvGeometry]]:
    """Cut a layer along its longest axis so that a channel of an image has about `BLOCK` bytes; mostly it is one piece.

    Yields where the samples of a piece are, where its outputs are, and the layer from the ones to the others.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> given = konv_geometry((1, 1, 2**22), (1, 2, 1, 3), axes=1, padding=1)
    >>> for (inputs,), (outputs,), piece in ((a[2:], b[2:], piece) for a, b, piece in bands(given, 8)):
    ...     print(inputs.start, inputs.stop, outputs.start, outputs.stop, piece.layer.padding)
    0 2097153 0 2097152 ((1, 0),)
    2097151 4194304 2097152 4194304 ((0, 1),)
    """
    layer, whole = given.layer, (slice(None),) * (given.layer.axes + 2)
    axis = layer.output_size.index(max(layer.output_size))
    outputs, reach = layer.output_size[axis], layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    step = max(1, outputs * BLOCK // (prod(layer.input_size) * itemsize))
    if step >= outputs or max(layer.padding[axis]) > reach or (layer.padding_mode != "zeros" and any(layer.sides)):
        yield whole, whole, given
        return
    for start in range(0, outputs, step):
        stop = min(start + step, outputs)
        read = halos.read_by(layer, axis, start, stop)
        places = read.interval, slice(start, stop)
        sizes = {"input_size": read.samples, "padding": read.zeros, "output_size": stop - start}
        part = {name: (*getattr(layer, name)[:axis], n, *getattr(layer, name)[axis + 1 :]) for name, n in sizes.items()}
        cut = ((*whole[: axis + 2], place, *whole[axis + 3 :]) for place in places)
        yield *cut, replace(given, layer=replace(layer, **part))


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

    def layer(self, layer: ConvGeometry) -> ConvGeometry:
        """The ordinary layer of the expanded block."""
        count = self.groups.stop - self.groups.start
        depth = (self.channels.stop - self.channels.start) * (self.degrees.stop - self.degrees.start)
        batch = self.images.stop - self.images.start
        return replace(layer, batch=batch, in_channels=count * depth, out_channels=count * self.width, groups=count)


def expansions(
    basis: bases.Basis, x: np.ndarray, layer: ConvGeometry, degree: int, *, slopes: bool = False
) -> Iterator[tuple[Part, np.ndarray]]:
    """The expanded input without degree 0, or its derivative, in blocks of about `BLOCK` bytes.

    Each is shaped (images, groups, degrees, channels, *size), which is the order of channels that a convolution with
    as many groups takes.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, layer = np.array([[[5, 3]]]), conv_geometry((1, 1, 2), (1, 1, 1), axes=1)
    >>> for part, expanded in expansions(bases.get_basis("monomial"), x, layer, 3):
    ...     print(part.degrees, expanded[0, 0, :, 0].tolist())
    slice(1, 4, None) [[5, 3], [25, 9], [125, 27]]
    """
    plane = prod(layer.input_size) * x.itemsize
    most = max(1, min(degree, BLOCK // plane))
    samples = _grouped(x, layer.groups)
    for place in pieces(samples.shape[:3], BLOCK // (plane * most)):
        terms = bases.terms(basis, samples[place], degree, slopes=slopes)
        next(terms)
        for first in range(1, degree + 1, most):
            degrees = slice(first, min(first + most, degree + 1))
            some = [term[slopes] for term in islice(terms, most)]
            yield Part(*place, degrees, layer.out_channels // layer.groups), np.stack(some, axis=2)


def pad_input(x: np.ndarray, given: KonvGeometry) -> tuple[np.ndarray, ConvGeometry]:
    """Where the input is padded with zeros, the padded input, and the layer without padding; else both as they are.

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
    return images.zeros_around(x, ((0, 0), (0, 0), *layer.padding)), layer.of_padded()


def _constant_map(kappa: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """What degree 0 adds to each image: its coefficients, summed over those taps that show a sample."""
    totals = kappa.sum(1, dtype=kappa.dtype, keepdims=True)
    if _shows_all(layer):
        return totals.sum(tuple(range(1, totals.ndim)), dtype=kappa.dtype).reshape(-1, *(1,) * layer.axes)
    return images.conv(np.ones((1, 1, *layer.input_size), kappa.dtype), totals, None, _of_one_channel(layer))[0]


def _constant_grad(dy: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The gradient by the coefficients of degree 0, the same for all channels: `_constant_map` transposed."""
    totals = dy.sum(0, dtype=dy.dtype, keepdims=True)
    if _shows_all(layer):
        totals = totals.sum(tuple(range(2, dy.ndim)), dtype=dy.dtype)
        return totals.reshape(-1, *(1,) * (layer.axes + 1))
    ones = np.ones((1, 1, *layer.input_size), dy.dtype)
    return gradients.conv_weight_grad(ones, totals, _of_one_channel(layer))


def _shows_all(layer: ConvGeometry) -> bool:
    """Whether each tap of each window shows a sample."""
    return layer.padding_mode != "zeros" or not any(map(any, layer.padding))


def _where_shown(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The input, with zeros where no window shows it, so that what is NaN there has no part in a gradient."""
    shown = [shown_along(layer, axis) for axis in range(layer.axes)]
    if all(axis.all() for axis in shown):
        return x
    return np.where(reduce(np.multiply.outer, shown), x, x.dtype.type(0) if x.dtype.kind != "O" else 0)


def shown_along(layer: ConvGeometry, axis: int) -> np.ndarray:
    """Return which samples of an axis windows show: the gradient by its input for booleans, whose sums are or.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> shown_along(conv_geometry((1, 1, 5), (1, 1, 1), axes=1, stride=2), 0)
    array([ True, False,  True, False,  True])
    """
    names = ("input_size", "kernel_size", "stride", "padding", "dilation", "output_size")
    one = {name: getattr(layer, name)[axis : axis + 1] for name in names}
    alone = replace(_of_one_channel(layer), out_channels=1, **one)
    outputs, taps = (np.ones((1, 1, *size), dtype=bool) for size in (alone.output_size, alone.kernel_size))
    return gradients.conv_input_grad(outputs, taps, alone)[0, 0]


def _of_one_channel(layer: ConvGeometry) -> ConvGeometry:
    """The layer that visits the same samples of one image with one channel."""
    return replace(layer, batch=1, in_channels=1, groups=1)


def _as_sums(dtype: np.dtype, *arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Arrays in the dtype to sum in: halves as singles."""
    return (array.astype(np.float32 if dtype.char == "e" else dtype, copy=False) for array in arrays)


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, *size) as (N, groups, C // groups, *size)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _ungrouped(expanded: np.ndarray) -> np.ndarray:
    """(N, groups, degrees, channels, *size) as (N, groups * degrees * channels, *size)."""
    return expanded.reshape(expanded.shape[0], prod(expanded.shape[1:4]), *expanded.shape[4:])
