"""Convolution as a product of spectra: overlapping tiles of the padded input, transformed one by one."""

from __future__ import annotations

from itertools import product
from math import inf, prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.images.windows import grouped

TILES = 1 << 21
"""Samples that spectra are made of at once."""

LARGEST_SPECTRUM = 1 << 24
"""Samples up to which a weight, each of its kernels padded to a tile, is transformed."""

LEAST_TILE = {1: 1 << 12, 2: 1 << 7, 3: 1 << 5}
"""Samples per axis of the smallest tile worth transforming, by the number of axes."""


def by_spectra(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Convolve the padded input: spectra of overlapping tiles, times the conjugate spectrum of the weight.

    A tile holds whole windows only, so that what its transform wraps around is no output.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> by_spectra(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1)).round(9)
    array([[[5., 8.]]])
    """
    from scipy import fft  # where it is used, since it takes longer to import than all of konvlib

    x, w = grouped(x, w, layer)
    over, real = range(3, x.ndim), x.dtype.kind == "f"
    forward, inverse = (fft.rfftn, fft.irfftn) if real else (fft.fftn, fft.ifftn)
    each, sizes = zip(*_tiles(layer), strict=True)
    spans = [geometry.span(k, dilation=d) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    kernel = np.zeros((*w.shape[:3], *spans), dtype=w.dtype)
    kernel[(..., *(slice(None, None, d) for d in layer.dilation))] = w
    kernel = np.conj(forward(np.conj(kernel), sizes, axes=over))
    y = np.empty(layer.output_shape, dtype=x.dtype)
    together = max(1, TILES // ((layer.in_channels + layer.out_channels) * prod(sizes)))
    tiles = (range(0, outputs, some) for outputs, some in zip(layer.output_size, each, strict=True))
    for b, *starts in product(range(0, layer.batch, together), *tiles):
        images = slice(b, b + together)
        here = (slice(start, start + some) for start, some in zip(starts, each, strict=True))
        there = (slice(i * s, i * s + size) for i, s, size in zip(starts, layer.stride, sizes, strict=True))
        spectrum = forward(x[(images, ..., *there)], sizes, axes=over)
        spectrum = np.einsum("ngc...,goc...->ngo...", spectrum, kernel)
        dense = inverse(spectrum, sizes, axes=over, overwrite_x=True).reshape(-1, layer.out_channels, *sizes)
        part = y[(images, ..., *here)]
        part[...] = dense[(..., *(slice(None, s * n, s) for s, n in zip(layer.stride, part.shape[2:], strict=True)))]
    return y


def spectra_cost(layer: ConvGeometry) -> float:
    """How many nanoseconds `by_spectra` is estimated to take in float32.

    Fitted to the timings to which `konvlib.images.windows.windows_cost` is. Infinite where the weight's spectrum would
    take too much memory.

    Examples
    --------
    >>> from konvlib.images.windows import rows_at_once, windows_cost
    >>> layers = [geometry.conv_geometry((1, 1, 999, 999), (1, 1, k, k), axes=2) for k in (3, 31)]
    >>> [spectra_cost(layer) < windows_cost(layer, rows_at_once(layer)) for layer in layers]
    [False, True]
    """
    each, sizes = zip(*_tiles(layer), strict=True)
    pairs = layer.out_channels * layer.weight_shape[1]
    if pairs * prod(sizes) > LARGEST_SPECTRUM:
        return inf
    tiles = prod(-(-outputs // some) for outputs, some in zip(layer.output_size, each, strict=True))
    points = layer.batch * tiles * prod(sizes)
    transformed = points * (layer.in_channels + layer.out_channels) + prod(sizes) * pairs
    return 5 * transformed + 4 * points * pairs


def _tiles(layer: ConvGeometry) -> list[tuple[int, int]]:
    """Per axis, how many outputs a tile gives, and how long its transform is."""
    from scipy import fft

    plan = []
    for outputs, step, kernel, gap in zip(
        layer.output_size, layer.stride, layer.kernel_size, layer.dilation, strict=True
    ):
        dense, reach = (outputs - 1) * step + 1, gap * (kernel - 1)
        tile = max(LEAST_TILE[layer.axes], 1 << (6 * reach).bit_length())
        each = -(-outputs // -(-dense // (tile - reach)))
        plan.append((each, fft.next_fast_len((each - 1) * step + 1 + reach, real=True)))
    return plan
