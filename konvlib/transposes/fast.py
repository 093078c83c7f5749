"""The transposed convolution with NumPy: sub-pixel phases, and the two algorithms that they improve on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import gcd, prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, by_rank
from konvlib.matrices.fast import gather, scatter


class Phases(NamedTuple):
    """The phases ``first`` to ``last - 1`` of one axis, which have equally many taps: see `phases_of_axis`."""

    first: int
    last: int
    taps: int
    step: int
    gap: int


def phases_of_axis(kernel: int, stride: int, dilation: int) -> list[Phases]:
    r"""Return the phases of a transposed convolution along one axis, grouped by their number of taps.

    Tap ``u`` of input ``i`` reaches output ``s i + d u``, before padding is cut off. With ``step = s / gcd(s, d)`` and
    ``gap = d / gcd(s, d)``, write ``u = a + step t``; then

    .. math:: s\,i + d\,u = d\,a + s\,q \quad\text{where}\quad q = i + \text{gap}\;t

    So phase ``a`` alone has the taps ``a + step t`` and the outputs ``d a + s q``, and is a convolution with stride 1
    and dilation ``gap``. Phases differ by at most one tap. Outputs that belong to no phase are zero.

    Examples
    --------
    >>> phases_of_axis(4, 2, 1)
    [Phases(first=0, last=2, taps=2, step=2, gap=1)]
    >>> [(p.first, p.last, p.taps) for p in phases_of_axis(5, 3, 1)]
    [(0, 2, 2), (2, 3, 1)]
    """
    common = gcd(stride, dilation)
    step, gap = stride // common, dilation // common
    taps, longer = divmod(kernel, step)
    groups = Phases(0, longer, taps + 1, step, gap), Phases(longer, step, taps, step, gap)
    return [phases for phases in groups if phases.first < phases.last and phases.taps]


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
    """Transpose the convolution layer, over # spatial axes, by sub-pixel phases: `konvlib.conv_transpose#d` on arrays.

    Each phase is a convolution with stride 1, and no product with an inserted zero is ever formed. Phases with equally
    many taps share one matrix product.

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
    each = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for phases in product(*(phases_of_axis(*axis) for axis in each)):
        _interleave(_convolve_phases(x, w, phases, groups), y, phases, layer)
    return _with_bias(y, bias)


conv_transpose1d, conv_transpose2d, conv_transpose3d = by_rank(conv_transpose, "conv_transpose#d")


def _convolve_phases(x: np.ndarray, w: np.ndarray, phases: Sequence[Phases], groups: int) -> np.ndarray:
    """What ``x`` gives to each phase: an array ``(N, groups, *phases, C_out // groups, *q)``."""
    counts, taps = [p.last - p.first for p in phases], [p.taps for p in phases]
    steps = [size * p.step for size, p in zip(w.strides[2:], phases, strict=True)]
    start = w[(..., *(slice(p.first, None) for p in phases))]
    apart = as_strided(start, (*w.shape[:2], *counts, *taps), (*w.strides, *steps), writeable=False)
    apart = np.flip(apart, tuple(range(-len(taps), 0)))
    apart = apart.reshape(groups, -1, *apart.shape[1:])
    weights = np.moveaxis(apart, 1, -1 - len(taps))
    weights = np.moveaxis(weights, 1, 1 + len(counts))
    shape = groups * prod(counts) * w.shape[1], w.shape[0] // groups, *taps
    margins = [((p.taps - 1) * p.gap,) * 2 for p in phases]
    z = _convolve(_pad(x, margins), weights.reshape(shape), [p.gap for p in phases], groups)
    return z.reshape(len(x), groups, *counts, w.shape[1], *z.shape[2:])


def _interleave(z: np.ndarray, y: np.ndarray, phases: Sequence[Phases], layer: ConvGeometry) -> None:
    """Put each phase where it belongs in ``y``: its value ``q`` at ``d a + s q - p``."""
    y = y.reshape(*z.shape[:2], z.shape[2 + len(phases)], *layer.input_size)
    for phase in np.ndindex(*(p.last - p.first for p in phases)):
        sources, targets = [], []
        for axis, index in enumerate(phase):
            stride, size = layer.stride[axis], layer.input_size[axis]
            begin = layer.dilation[axis] * (phases[axis].first + index) - layer.padding[axis][0]
            first = max(0, -(begin // stride))
            last = max(first, min(z.shape[axis - len(phase)], -((begin - size) // stride)))
            sources.append(slice(first, last))
            targets.append(slice(begin + stride * first, begin + stride * last, stride))
        y[(..., *targets)] = z[(slice(None), slice(None), *phase, slice(None), *sources)]


def _pad(x: np.ndarray, margins: Sequence[tuple[int, int]]) -> np.ndarray:
    """Zeros around the spatial axes; in Python objects they are Python's, since NumPy's would overflow in sums."""
    sizes = (before + size + after for size, (before, after) in zip(x.shape[2:], margins, strict=True))
    padded = np.zeros((*x.shape[:2], *sizes), dtype=x.dtype)
    inner = (slice(before, before + size) for size, (before, _) in zip(x.shape[2:], margins, strict=True))
    padded[(..., *inner)] = x
    return padded


def _convolve(x: np.ndarray, w: np.ndarray, dilation: Sequence[int], groups: int) -> np.ndarray:
    """A convolution with stride 1 and without padding, in the dtype that both operands have."""
    layer = geometry.conv_geometry(x.shape, w.shape, axes=x.ndim - 2, dilation=dilation, groups=groups)
    cols = gather(x, layer).reshape(len(x), groups, prod(w.shape[1:]), prod(layer.output_size))
    return (w.reshape(groups, -1, cols.shape[2]) @ cols).reshape(layer.output_shape)


def _with_bias(y: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    if bias is not None:
        y += bias.reshape(-1, *(1,) * (y.ndim - 2))
    return y


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
    """Transpose the convolution layer by one matrix product and `col2im`: `konvlib.conv_transpose_by_scattering`.

    Examples
    --------
    >>> conv_transpose_by_scattering([[[1, 3]]], [[[2, 1, 1]]], stride=2)
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
    depth, width = layer.out_channels // groups, layer.in_channels // groups
    weights = w.reshape(groups, depth, width * prod(layer.kernel_size)).swapaxes(1, 2)
    cols = weights @ x.reshape(layer.batch, groups, depth, prod(layer.output_size))
    return _with_bias(scatter(cols, layer), bias)


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
    """Transpose the convolution layer by convolving ``x``, zeros inserted, with the flipped kernel.

    Padding that is larger than the reach of the kernel cuts samples off ``x``.

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
    margins, kept = [], []
    for axis, (before, _) in enumerate(layer.padding):
        first = before - layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        last = before + layer.input_size[axis]
        margins.append((max(0, -first), max(0, last - z.shape[axis + 2])))
        kept.append(slice(max(0, first), max(0, first) + last - first))
    z = _pad(z, margins)[(..., *kept)]
    flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    weights = flipped.reshape(layer.in_channels, -1, *w.shape[2:])
    return _with_bias(_convolve(z, weights, layer.dilation, groups), bias)


def insert_zeros(x: ArrayLike, stride: PerAxis) -> np.ndarray:
    """Put ``stride - 1`` zeros between neighbouring samples: `konvlib.insert_zeros` on arrays.

    Examples
    --------
    >>> insert_zeros([[[1, 3, 2]]], 2)
    array([[[1, 0, 3, 0, 2]]])
    """
    x = geometry.as_array(x, "x")
    steps, size = geometry.inserted_size(x.shape, stride)
    z = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    z[(..., *(slice(None, None, step) for step in steps))] = x
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
    """Count how many taps of a transposed convolution reach each output: `konvlib.overlap_counts`, axis by axis.

    Examples
    --------
    >>> overlap_counts(4, 3, stride=2)
    array([1, 1, 2, 1, 2, 1, 2, 1, 1])
    """
    layer = geometry.overlap_geometry(
        size, kernel_size, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    counts = []
    for axis, n in enumerate(layer.input_size):
        inputs, taps = np.arange(layer.output_size[axis]), np.arange(layer.kernel_size[axis])
        places = layer.stride[axis] * inputs[:, np.newaxis] + layer.dilation[axis] * taps - layer.padding[axis][0]
        counts.append(np.bincount(places[(places >= 0) & (places < n)], minlength=n))
    return reduce(np.multiply.outer, counts)
