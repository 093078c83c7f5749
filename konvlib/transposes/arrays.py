"""The transposed convolution with NumPy: sub-pixel phases, and the two algorithms that they improve on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import gcd, prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.matrices.arrays import col2im, gather

BLOCK = 1 << 20
"""About how many products to hold at once, whatever the size of the layer."""


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
    x, w, bias = of_one_dtype(x, w, bias)
    return _with_bias(by_phases(x, w, layer, BLOCK), bias)


def by_phases(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, block: int) -> np.ndarray:
    """Return the transposed convolution, without bias, of operands of one dtype; ``layer`` is what it transposes.

    One product per block of samples serves all taps. Each phase is summed apart, where its samples are neighbours, and
    they are interleaved at the end.

    Examples
    --------
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> by_phases(x, w, geometry.conv_transpose_geometry(x.shape, w.shape, axes=1, stride=2), BLOCK)
    array([[[2, 1, 7, 3, 3]]])
    """
    each = list(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True))
    gaps = [dilation // gcd(stride, dilation) for _, stride, dilation in each]
    phases = {}
    for taps in product(*(phases_of_axis(*axis) for axis in each)):
        size = (n + gap * (len(t) - 1) for n, gap, t in zip(layer.output_size, gaps, taps, strict=True))
        phases[taps] = np.zeros((layer.in_channels, layer.batch, *size), dtype=x.dtype)
    rows = w.reshape(layer.groups, layer.out_channels // layer.groups, -1).swapaxes(1, 2)
    for batch, lines in blocks(layer, block):
        part = x[batch, :, lines]
        first, size = [lines.start, *[0] * (layer.axes - 1)], part.shape[2:]
        products = (rows @ channels_first(part, layer.groups)).reshape(-1, *layer.kernel_size, len(part), *size)
        for taps, z in phases.items():
            for t in np.ndindex(*map(len, taps)):
                starts = [begin + gap * index for begin, gap, index in zip(first, gaps, t, strict=True)]
                places = (slice(start, start + n) for start, n in zip(starts, size, strict=True))
                u = (tap[index] for tap, index in zip(taps, t, strict=True))
                z[(slice(None), batch, *places)] += products[(slice(None), *u)]
    y = np.zeros(layer.input_shape, dtype=x.dtype)
    for taps, z in phases.items():
        _interleave(z.swapaxes(0, 1), y, [tap.start for tap in taps], layer)
    return y


def blocks(layer: ConvGeometry, most: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of a layer's output whose windows have about ``most`` entries: rows of the batch, and lines of them.

    They are some rows with all lines, or one row with some lines, a line being what the first axis counts.

    Examples
    --------
    >>> layer = geometry.im2col_geometry((2, 1, 5, 6), kernel_size=(2, 3))
    >>> [(batch.start, lines.start, lines.stop) for batch, lines in blocks(layer, 48)]
    [(0, 0, 2), (0, 2, 4), (1, 0, 2), (1, 2, 4)]
    """
    line = layer.in_channels * prod(layer.kernel_size) * prod(layer.output_size[1:])
    lines = min(max(most // line, 1), layer.output_size[0])
    together = max(most // (line * layer.output_size[0]), 1)
    for row in range(0, layer.batch, together):
        for start in range(0, layer.output_size[0], lines):
            yield slice(row, row + together), slice(start, min(start + lines, layer.output_size[0]))


def channels_first(x: np.ndarray, groups: int) -> np.ndarray:
    """Return ``(N, C, *size)`` as one matrix per group, of channels by samples.

    Examples
    --------
    >>> channels_first(np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), 1)
    array([[[1, 2, 5, 6],
            [3, 4, 7, 8]]])
    """
    return x.swapaxes(0, 1).reshape(groups, x.shape[1] // groups, -1)


def _interleave(z: np.ndarray, y: np.ndarray, phase: Sequence[int], layer: ConvGeometry) -> None:
    """Put a phase where it belongs in ``y``: its value ``q`` at ``d a + s q - p``."""
    sources, targets = [], []
    for axis, index in enumerate(phase):
        stride, size = layer.stride[axis], layer.input_size[axis]
        begin = layer.dilation[axis] * index - layer.padding[axis][0]
        first = max(0, -(begin // stride))
        last = max(first, min(z.shape[axis + 2], -((begin - size) // stride)))
        sources.append(slice(first, last))
        targets.append(slice(begin + stride * first, begin + stride * last, stride))
    y[(..., *targets)] = z[(..., *sources)]


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
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry
) -> np.ndarray:
    """Return the transpose of the layer, by one matrix product per group and `col2im`.

    Examples
    --------
    >>> x, w = np.array([[[1, 3]]]), np.array([[[2, 1, 1]]])
    >>> conv_transpose_by_scattering(x, w, None, geometry.conv_transpose_geometry(x.shape, w.shape, stride=2))
    array([[[2, 1, 7, 3, 3]]])
    """
    x, w, bias = of_one_dtype(x, w, bias)
    depth, width = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    weights = w.reshape(layer.groups, depth, width * prod(layer.kernel_size)).swapaxes(1, 2)
    cols = weights @ x.reshape(layer.batch, layer.groups, depth, prod(layer.output_size))
    return _with_bias(col2im(cols, layer), bias)


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
    x, w, bias = of_one_dtype(x, w, bias)
    z = insert_zeros(x, layer.stride)
    margins, kept = [], []
    for axis, (before, _) in enumerate(layer.padding):
        first = before - layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        last = before + layer.input_size[axis]
        margins.append((max(0, -first), max(0, last - z.shape[axis + 2])))
        kept.append(slice(max(0, first), max(0, first) + last - first))
    z = _pad(z, margins)[(..., *kept)]
    flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(layer.groups, -1, *w.shape[1:]).swapaxes(1, 2)
    weights = flipped.reshape(layer.in_channels, -1, *w.shape[2:])
    return _with_bias(_convolve(z, weights, layer.dilation, layer.groups), bias)


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
    counts = []
    for axis, n in enumerate(layer.input_size):
        inputs, taps = np.arange(layer.output_size[axis]), np.arange(layer.kernel_size[axis])
        places = layer.stride[axis] * inputs[:, np.newaxis] + layer.dilation[axis] * taps - layer.padding[axis][0]
        counts.append(np.bincount(places[(places >= 0) & (places < n)], minlength=n))
    return reduce(np.multiply.outer, counts)


def of_one_dtype(*arrays: np.ndarray | None) -> list[np.ndarray | None]:
    """Return arrays in the dtype that NumPy gives them together; one that is None stays.

    Examples
    --------
    >>> of_one_dtype(np.array([1]), np.array([0.5]), None)
    [array([1.]), array([0.5]), None]
    """
    dtype = np.result_type(*(array for array in arrays if array is not None))
    return [None if array is None else array.astype(dtype, copy=False) for array in arrays]
