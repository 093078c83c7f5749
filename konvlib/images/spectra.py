"""Convolution as a product of spectra: overlapping tiles of the padded input, transformed one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import log2, prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.images.windows import as_held, cut_of, grouped, padded_part

TILES = 1 << 21
"""Samples that spectra are made of at once."""

LARGEST_SPECTRUM = 1 << 24
"""Samples up to which kernels, each padded to a tile, are transformed at once; more are, but one by one."""

LEAST_TILE = {1: 1 << 12, 2: 1 << 7, 3: 1 << 5}
"""Samples per axis of the smallest tile worth transforming, by the number of axes."""


def by_spectra(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, y: np.ndarray | None = None) -> np.ndarray:
    """Convolve, in the dtype of ``w``: spectra of overlapping tiles, times the conjugate spectrum of the weight.

    What the transform of a tile wraps around is no output, or zero.

    Parameters
    ----------
    x : array
        The input, of any dtype that casts to that of ``w``; its padding is zeros, another is part of it already.
    y : array, optional
        Where to put the output; if it holds integers, what is put there is rounded.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> by_spectra(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1)).round(9)
    array([[[5., 8.]]])
    """
    y = np.empty(layer.output_shape, dtype=w.dtype) if y is None else y
    x, w = grouped(x, w, layer)
    totals = y.reshape(layer.batch, *w.shape[:2], *layer.output_size)
    each, sizes = zip(*_tiles(layer), strict=True)
    tiles = [range(0, outputs, some) for outputs, some in zip(layer.output_size, each, strict=True)]
    for groups, width, depth in _channels(w.shape[:3], prod(sizes)):
        part = w[groups, width, depth]
        kernel = _kernel_spectrum(part, layer, sizes)
        together = max(1, TILES // (part.shape[0] * sum(part.shape[1:3]) * prod(sizes)))
        for first, *starts in product(range(0, layer.batch, together), *tiles):
            images = slice(first, first + together)
            begins = [start * step for start, step in zip(starts, layer.stride, strict=True)]
            tile = padded_part(x[images, groups, depth], cut_of(layer, begins, sizes), w.dtype)
            places = (slice(start, start + some) for start, some in zip(starts, each, strict=True))
            target = totals[(images, groups, width, *places)]
            sums = _product(tile, kernel, sizes)
            sums = sums[(..., *(slice(None, s * n, s) for s, n in zip(layer.stride, target.shape[3:], strict=True)))]
            if target.dtype.kind in "biu":
                sums = as_held(np.rint(sums), target.dtype).astype(target.dtype)
            target[...] = sums if depth.start == 0 else target + sums
    return y


def spectra_cost(layer: ConvGeometry) -> float:
    """How many nanoseconds `by_spectra` is estimated to take in float32.

    Fitted to the timings to which `konvlib.images.windows.windows_cost` is.

    Examples
    --------
    >>> from konvlib.images.windows import rows_at_once, windows_cost
    >>> layers = [geometry.conv_geometry((1, 1, 999, 999), (1, 1, k, k), axes=2) for k in (3, 31)]
    >>> [spectra_cost(layer) < windows_cost(layer, rows_at_once(layer)) for layer in layers]
    [False, True]
    """
    each, sizes = zip(*_tiles(layer), strict=True)
    pairs = layer.out_channels * layer.weight_shape[1]
    tiles = prod(-(-outputs // some) for outputs, some in zip(layer.output_size, each, strict=True))
    points = layer.batch * tiles * prod(sizes)
    # Where not all kernels are transformed at once, the tiles are again for each part of them, and sums are added up.
    channels, parts = layer.in_channels + layer.out_channels, -(-pairs * prod(sizes) // LARGEST_SPECTRUM)
    transforms = max(channels, min(pairs, parts * channels))
    return 5 * (points * transforms + prod(sizes) * pairs) + 4 * points * pairs


def is_exact(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> bool:
    r"""Whether rounding what `by_spectra` gives in double precision gives each integer exactly.

    The error of a transform of length ``L`` is at most about :math:`13 \log_2(L)\, 2^{-53} \lVert x \rVert_2
    \lVert w \rVert_2`, as in `konvlib.geometry.fft_is_exact`, here with the norms of an image and of the kernels of an
    output channel; the sum over channels adds its own. It must stay below 1/4, half of what rounding forgives.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 2), (1, 1, 1), axes=1)
    >>> [is_exact(np.array([[[n, 5]]]), np.array([[[n]]]), layer) for n in (3, 2**40)]
    [True, False]
    """
    norms = [max(float(_square(part)) for part in operand) ** 0.5 for operand in (x, w)]
    length = prod(size for _, size in _tiles(layer))
    return (13 * log2(length) + layer.weight_shape[1]) * 2.0**-53 * norms[0] * norms[1] < 0.25


def _square(a: np.ndarray) -> np.ndarray:
    """The sum of squares, in doubles and without a copy in doubles."""
    axes = list(range(a.ndim))
    return np.einsum(a, axes, a, axes, [], dtype=np.float64)


def _channels(shape: Sequence[int], size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Groups, output channels and input channels of a group whose kernels are transformed together."""
    groups, width, depth = shape
    most = max(1, LARGEST_SPECTRUM // size)
    inputs = min(depth, most)
    outputs = min(width, max(1, most // inputs))
    together = min(groups, max(1, most // (inputs * outputs))) if inputs == depth and outputs == width else 1
    for g, o, c in product(range(0, groups, together), range(0, width, outputs), range(0, depth, inputs)):
        yield slice(g, g + together), slice(o, o + outputs), slice(c, c + inputs)


def _kernel_spectrum(w: np.ndarray, layer: ConvGeometry, sizes: Sequence[int]) -> np.ndarray:
    """The conjugate of the spectrum of the conjugate weight, its taps apart by the dilation."""
    from scipy import fft  # where it is used, since it takes longer to import than all of konvlib

    real, over = w.dtype.kind == "f", range(3, w.ndim)
    if max(layer.dilation) > 1:
        spans = [geometry.span(k, dilation=d) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        kernel = np.zeros((*w.shape[:3], *spans), dtype=w.dtype)
        kernel[(..., *(slice(None, None, d) for d in layer.dilation))] = w
        w = kernel
    spectrum = fft.rfftn(w, sizes, axes=over) if real else fft.fftn(np.conj(w), sizes, axes=over)
    return np.conj(spectrum, out=spectrum)


def _product(tile: np.ndarray, kernel: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The transform back of the products of the spectra of some tiles and kernels, summed over channels."""
    from scipy import fft

    real, over = tile.dtype.kind == "f", range(3, tile.ndim)
    forward, inverse = (fft.rfftn, fft.irfftn) if real else (fft.fftn, fft.ifftn)
    spectrum = forward(tile, axes=over)
    if kernel.shape[1:3] == (1, 1):
        spectrum *= kernel[:, 0]
    else:
        spectrum = np.einsum("ngc...,goc...->ngo...", spectrum, kernel)
    return inverse(spectrum, sizes, axes=over, overwrite_x=True)


def _tiles(layer: ConvGeometry) -> list[tuple[int, int]]:
    """Per axis, how many outputs a tile gives, and how long its transform is.

    Several tiles hold whole windows only. One alone may be shorter than the padded input: what wraps around is padding.
    """
    from scipy import fft

    plan = []
    for axis, (outputs, step) in enumerate(zip(layer.output_size, layer.stride, strict=True)):
        dense, reach = (outputs - 1) * step + 1, layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        tile = max(LEAST_TILE[layer.axes], 1 << (6 * reach).bit_length())
        each = -(-outputs // -(-dense // (tile - reach)))
        size = (each - 1) * step + 1 + reach
        if each == outputs:
            size = min(size, max(layer.input_size[axis] + max(layer.padding[axis]), reach + 1, dense))
        plan.append((each, fft.next_fast_len(size, real=True)))
    return plan
