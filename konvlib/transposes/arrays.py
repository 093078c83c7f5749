"""The transposed convolution with NumPy: sub-pixel phases, and the two algorithms that they improve on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from math import gcd, prod
from typing import NamedTuple

import numpy as np

from konvlib import geometry
from konvlib.finite import bilinear
from konvlib.geometry import ConvGeometry
from konvlib.images import arrays as images
from konvlib.matrices.arrays import add_columns, put_sums
from konvlib.matrices.blocks import blocks, pieces

BLOCK = 1 << 20
"""About how many products to hold at once, whatever the size of the layer."""

TOGETHER = 1 << 22
"""About how many samples of the input and the output to take at once, but at least an image."""

MOST_TAPS = 64
"""Taps of a phase up to which it is summed tap by tap; a convolution transforms longer ones."""

THIN = 2
"""Channels of a group to sum over up to which a convolution is quicker for few taps too."""

FEW = 32
"""Taps, or samples, of an axis up to which overlaps are counted one by one."""


class Phase(NamedTuple):
    """One axis of a phase: its taps, how far apart these lie in it, and which of its values have a place in the output.

    Values ``first`` to ``last`` are the output's ``places``.
    """

    taps: range
    gap: int
    first: int
    last: int
    places: slice


def phases_of_axis(kernel: int, stride: int, dilation: int) -> list[range]:
    r"""Return the phases of a transposed convolution along one axis: the taps of each.

    Tap ``u`` of input ``i`` reaches output ``s i + d u``, before padding is cut off. With ``step = s / gcd(s, d)`` and
    ``gap = d / gcd(s, d)``, write ``u = a + step t``; then

    .. math:: s\,i + d\,u = d\,a + s\,q \quad\text{where}\quad q = i + \text{gap}\;t

    So phase ``a`` alone has the taps ``a + step t`` and the outputs ``d a + s q``, and is a convolution with stride 1
    and dilation ``gap``. Outputs that belong to no phase are zero.

    Examples
    --------
    >>> phases_of_axis(4, 2, 1)
    [range(0, 4, 2), range(1, 4, 2)]
    >>> [list(taps) for taps in phases_of_axis(5, 3, 1)]
    [[0, 3], [1, 4], [2]]
    """
    step = stride // gcd(stride, dilation)
    return [range(first, kernel, step) for first in range(min(step, kernel))]


def conv_transpose(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Return the transpose of the layer, by sub-pixel phases.

    Each phase is a convolution with stride 1, and no product with an inserted zero is ever formed.

    Examples
    --------
    >>> x, w = np.array([[[[1, 3], [2, 0]]]]), np.array([[[[2, 1], [0, 3]]]])
    >>> conv_transpose(x, w, None, geometry.conv_transpose_geometry(x.shape, w.shape, axes=2))
    array([[[[2, 7, 3],
             [4, 5, 9],
             [0, 6, 0]]]])
    """
    return in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))


def in_sums(
    transposed: Callable[[np.ndarray, np.ndarray, ConvGeometry, np.ndarray], None],
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    layer: ConvGeometry,
    *,
    bounded: bool,
) -> np.ndarray:
    """Return what ``transposed(x, w, layer, y)`` adds to zeros ``y``, some images at a time, and the bias.

    It is summed in the dtype of the result; but halves in float32, or, where many taps may be transformed, in float64;
    and ``bounded`` integers in floats that hold every sum, which ``transposed`` must not round.

    Examples
    --------
    >>> x, w = np.array([[[1, 3]]], np.float16), np.array([[[2, 1, 1]]], np.float16)
    >>> layer = geometry.conv_transpose_geometry(x.shape, w.shape, axes=1, stride=2)
    >>> in_sums(by_phases, x, w, None, layer, bounded=True)
    array([[[2., 1., 7., 3., 3.]]], dtype=float16)
    """
    dtype, terms = np.result_type(x, w, *([] if bias is None else [bias])), layer.out_channels // layer.groups
    sums = dtype
    if bounded:
        sums = geometry.sum_dtype(dtype, x, w, terms * prod(layer.kernel_size))
    elif dtype == np.float16:
        sums = np.dtype(np.float64 if prod(layer.kernel_size) > MOST_TAPS else np.float32)
    w = w.astype(sums, copy=False)
    y = np.zeros(layer.input_shape, dtype=dtype)
    for (some,) in pieces([layer.batch], TOGETHER // (prod(layer.input_shape[1:]) + prod(layer.output_shape[1:]))):
        part, result = x[some].astype(sums, copy=False), y[some]
        total = result if sums == dtype else np.zeros(result.shape, dtype=sums)
        transposed(part, w, replace(layer, batch=len(part)), total)
        put_sums(result, total, bias)
    return y


def by_phases(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, y: np.ndarray) -> None:
    """Write into ``y``, zeros, the transpose of the layer without bias; all operands have one dtype.

    Examples
    --------
    >>> x, w, y = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]]), np.zeros((1, 1, 5), int)
    >>> by_phases(x, w, geometry.conv_transpose_geometry(x.shape, w.shape, axes=1, stride=2), y)
    >>> y
    array([[[2, 1, 7, 3, 3]]])
    """
    for phase in product(*(list(_phases(layer, axis)) for axis in range(layer.axes))):
        part = w[(..., *(slice(axis.taps.start, axis.taps.stop, axis.taps.step) for axis in phase))]
        places = (..., *(axis.places for axis in phase))
        if is_long(layer):
            y[places] = bilinear(lambda a, b, phase=phase: _by_convolution(a, b, layer, phase), x, part)
        elif prod(layer.stride) == 1:
            _add_products(x, part, y[places].swapaxes(0, 1), layer, phase)
        else:
            # Summed where its values are neighbours, and then put where they belong.
            z = np.zeros((layer.in_channels, layer.batch, *(axis.last - axis.first for axis in phase)), dtype=x.dtype)
            _add_products(x, part, z, layer, phase)
            y[places] = z.swapaxes(0, 1)


def _phases(layer: ConvGeometry, axis: int) -> Iterator[Phase]:
    """The phases of an axis that have a place in the output: value ``q`` of phase ``a`` at ``d a + s q - p``."""
    stride, dilation, size = layer.stride[axis], layer.dilation[axis], layer.input_size[axis]
    gap = dilation // gcd(stride, dilation)
    for taps in phases_of_axis(layer.kernel_size[axis], stride, dilation):
        begin = dilation * taps.start - layer.padding[axis][0]
        first = max(0, -(begin // stride))
        last = min(layer.output_size[axis] + gap * (len(taps) - 1), -((begin - size) // stride))
        if first < last:
            places = slice(begin + stride * first, begin + stride * (last - 1) + 1, stride)
            yield Phase(taps, gap, first, last, places)


def is_long(layer: ConvGeometry) -> bool:
    """Return whether convolutions are quicker than sums over taps: for many taps, or groups of few channels.

    They are not where samples are few, nor where taps lie so far apart that most of what is padded is padding.

    Examples
    --------
    >>> [is_long(geometry.conv_transpose_geometry((1, 8, 500), (8, 8, k), axes=1)) for k in (3, 300)]
    [False, True]
    """
    each = list(zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, strict=True))
    phases = [(n, -(-k // (s // gcd(s, d))), d // gcd(s, d)) for n, k, s, d in each]
    taps = prod(count for _, count, _ in phases)
    if taps > MOST_TAPS and prod(layer.output_size) <= MOST_TAPS:
        return False
    if taps <= MOST_TAPS and layer.out_channels // layer.groups > THIN:
        return False
    padded = prod(n + 2 * gap * (count - 1) for n, count, gap in phases)
    return padded <= 4 * prod(n + count for n, count, _ in phases) + BLOCK


def _by_convolution(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, phase: Sequence[Phase]) -> np.ndarray:
    """A phase as a convolution with its taps in reverse, of the samples and margins that its values need."""
    inside, margins = [], []
    for n, axis in zip(layer.output_size, phase, strict=True):
        begin = axis.first - axis.gap * (len(axis.taps) - 1)
        inside.append(slice(min(max(begin, 0), n), min(axis.last, n)))
        margins.append((max(-begin, 0), max(axis.last - n, 0)))
    x = x[(..., *inside)]
    reversed_taps = w[(..., *(slice(None, None, -1) for _ in phase))]
    w = np.concatenate([part.swapaxes(0, 1) for part in np.split(reversed_taps, layer.groups)])
    gaps, sizes = tuple(axis.gap for axis in phase), tuple(axis.last - axis.first for axis in phase)
    known = x.shape[2:], w.shape[2:], (1,) * layer.axes, tuple(margins), gaps, "zeros", sizes
    return images.conv(x, w, None, ConvGeometry(len(x), layer.out_channels, len(w), layer.groups, *known))


def _add_products(x: np.ndarray, w: np.ndarray, z: np.ndarray, layer: ConvGeometry, phase: Sequence[Phase]) -> None:
    """Add a phase to ``z``, shaped (C, N, *values): one product per block of samples serves all its taps."""
    rows = w.reshape(layer.groups, layer.out_channels // layer.groups, -1).swapaxes(1, 2)
    taps, gaps = tuple(len(axis.taps) for axis in phase), tuple(axis.gap for axis in phase)
    before = tuple((axis.first, 0) for axis in phase)
    whole = replace(layer, input_size=z.shape[2:], kernel_size=taps, stride=(1,) * layer.axes, dilation=gaps)
    whole = replace(whole, padding=before)
    for batch, *places in pieces((layer.batch, *layer.output_size), BLOCK // (layer.in_channels * prod(taps))):
        part = x[(batch, slice(None), *places)]
        products = (rows @ channels_first(part, layer.groups)).reshape(-1, *taps, len(part), *part.shape[2:])
        add_columns(z[:, batch].swapaxes(0, 1), np.moveaxis(products, layer.axes + 1, 0), whole, places)


def channels_first(x: np.ndarray, groups: int) -> np.ndarray:
    """Return ``(N, C, *size)`` as one matrix per group, of channels by samples.

    Examples
    --------
    >>> channels_first(np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), 1)
    array([[[1, 2, 5, 6],
            [3, 4, 7, 8]]])
    """
    return x.swapaxes(0, 1).reshape(groups, x.shape[1] // groups, -1)


def conv_transpose_by_scattering(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry
) -> np.ndarray:
    """Return the transpose of the layer, by one matrix product per group and `col2im`, block by block.

    Examples
    --------
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> conv_transpose_by_scattering(x, w, None, geometry.conv_transpose_geometry(x.shape, w.shape, stride=2))
    array([[[2, 1, 7, 3, 3]]])
    """
    return in_sums(_scatter, x, w, bias, layer, bounded=True)


def _scatter(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, y: np.ndarray) -> None:
    weights = w.reshape(layer.groups, layer.out_channels // layer.groups, -1).swapaxes(1, 2)
    for batch, *places in blocks(layer, BLOCK):
        part = x[(batch, slice(None), *places)]
        cols = weights @ part.reshape(len(part), layer.groups, -1, prod(part.shape[2:]))
        cols = cols.reshape(len(part), layer.in_channels, *layer.kernel_size, *part.shape[2:])
        add_columns(y[batch], cols, layer, places)


def conv_transpose_by_zero_insertion(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry
) -> np.ndarray:
    """Return the transpose of the layer, by convolving ``x``, zeros inserted, with the flipped kernel.

    Padding that is larger than the reach of the kernel cuts samples off ``x``.

    Examples
    --------
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> conv_transpose_by_zero_insertion(x, w, None, geometry.conv_transpose_geometry(x.shape, w.shape, stride=2))
    array([[[2, 1, 7, 3, 3]]])
    """
    return in_sums(_insert_and_convolve, x, w, bias, layer, bounded=False)


def _insert_and_convolve(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, y: np.ndarray) -> None:
    """Some channels of some groups at a time, since zeros between their samples take memory."""
    kept, places, sizes, margins = [], [], [], []
    for axis, (n, stride) in enumerate(zip(layer.output_size, layer.stride, strict=True)):
        # Outputs see places from first to last, of which 0 to size have samples and zeros inserted.
        before, size = layer.padding[axis][0], (n - 1) * stride + 1
        first, last = before - layer.dilation[axis] * (layer.kernel_size[axis] - 1), before + layer.input_size[axis]
        low, high = min(max(first, 0), size), min(last, size)
        begin = -(-low // stride)
        kept.append(slice(begin, max(begin, -(-high // stride))))
        places.append(slice(begin * stride - low, None, stride))
        sizes.append(max(high - low, 0))
        margins.append((min(max(-first, 0), last - first), last - max(high, first)))
    if 0 in sizes:
        return
    x = x.reshape(len(x), layer.groups, -1, *x.shape[2:])[(..., *kept)]
    flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(layer.groups, -1, *w.shape[1:])
    width = w.shape[1]
    known = tuple(sizes), layer.kernel_size, (1,) * layer.axes, tuple(margins), layer.dilation, "zeros"
    for groups, channels in pieces(x.shape[1:3], TOGETHER // max(1, prod(sizes) * len(x))):
        weights = flipped[groups, channels].swapaxes(1, 2)
        count, _, depth = weights.shape[:3]
        z = np.zeros((len(x), count * depth, *sizes), dtype=x.dtype)
        z[(..., *places)] = x[:, groups, channels].reshape(*z.shape[:2], *x.shape[3:])
        dense = ConvGeometry(len(x), count * depth, count * width, count, *known, layer.input_size)
        weights = weights.reshape(count * width, *weights.shape[2:])
        y[:, groups.start * width : groups.stop * width] += bilinear(
            lambda a, b, dense=dense: images.conv(a, b, None, dense), z, weights
        )


def insert_zeros(x: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    """Return the batch with ``stride - 1`` zeros between neighbouring samples of each axis.

    Examples
    --------
    >>> insert_zeros(np.array([[[1, 3, 2]]]), (2,))
    array([[[1, 0, 3, 0, 2]]])
    """
    size = ((n - 1) * step + 1 for n, step in zip(x.shape[2:], stride, strict=True))
    z = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    z[(..., *(slice(None, None, step) for step in stride))] = x
    return z


def overlap_counts(layer: ConvGeometry) -> np.ndarray:
    """Return how many taps of the layer's transpose reach each of its outputs, axis by axis.

    Examples
    --------
    >>> overlap_counts(geometry.overlap_geometry(4, 3, stride=2))
    array([1, 1, 2, 1, 2, 1, 2, 1, 1])
    """
    return reduce(np.multiply.outer, [_overlaps(layer, axis) for axis in range(layer.axes)])


def _overlaps(layer: ConvGeometry, axis: int) -> np.ndarray:
    """How many pairs of a sample ``i`` and a tap ``u`` have ``s i + d u - p = j``, for each ``j``.

    Where both are many, the solutions are counted: with stride and dilation divided by their greatest common divisor,
    ``i`` is known modulo the dilation, and lies between two bounds.
    """
    size, before = layer.input_size[axis], layer.padding[axis][0]
    counts = np.zeros(size, dtype=np.int64)
    samples, taps = (layer.output_size[axis], layer.stride[axis]), (layer.kernel_size[axis], layer.dilation[axis])
    (few, jump), (many, step) = min(samples, taps), max(samples, taps)
    if few <= FEW:
        for first in range(-before, few * jump - before, jump):
            low, high = max(0, -(first // step)), min(many, (size - 1 - first) // step + 1)
            if low < high:
                counts[first + low * step : first + (high - 1) * step + 1 : step] += 1
        return counts
    common = gcd(jump, step)
    if jump < step:
        few, jump, many, step = many, step, few, jump
    jump, step = jump // common, step // common
    first = -before % common
    inverse = pow(jump, -1, step)
    for (part,) in pieces([-(-(size - first) // common)], BLOCK):
        total = (np.arange(part.start, part.stop) * common + first + before) // common
        low = np.maximum(-((step * (many - 1) - total) // jump), 0)
        high = np.minimum(total // jump, few - 1)
        known = total % step * inverse % step
        found = (high - known) // step - (low - 1 - known) // step
        counts[first + part.start * common : first + part.stop * common : common] = np.where(low > high, 0, found)
    return counts
