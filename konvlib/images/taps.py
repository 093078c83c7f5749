"""Convolution as a sum over taps, or over samples where these are fewer: the products of the definition, no others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from konvlib.geometry import ConvGeometry
from konvlib.images.windows import grouped


def by_taps(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Add up tap by tap, each only where it shows a sample: any dtype, and no product with padding.

    Along an axis that has fewer samples than taps, it goes sample by sample: each with all taps that show it. The
    padding is zeros; another is part of the input already.

    Examples
    --------
    >>> from konvlib import geometry
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> by_taps(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    x, w = grouped(x, w, layer)
    totals = np.zeros((layer.batch, *w.shape[:2], *layer.output_size), dtype=x.dtype)
    for parts in product(*(list(_parts(layer, axis)) for axis in range(layer.axes))):
        outputs, samples, taps = zip(*parts, strict=True)
        products = np.einsum("ngc...,goc...->ngo...", x[(..., *samples)], w[(..., *taps)].copy(), order="C")
        totals[(..., *outputs)] += products
    return totals.reshape(layer.output_shape)


def taps_cost(layer: ConvGeometry) -> float:
    """How many nanoseconds `by_taps` is estimated to take in float32: so many for a round, and so many for a product.

    Examples
    --------
    >>> from konvlib import geometry
    >>> [taps_cost(geometry.conv_geometry((1, 1, 9), (1, 1, k), axes=1, padding=k)) for k in (2, 9, 99)]
    [20036.0, 90256.5, 91471.5]
    """
    fewest = [min(n, k) for n, k in zip(layer.input_size, layer.kernel_size, strict=True)]
    rounds = [f if d == 1 else k for f, k, d in zip(fewest, layer.kernel_size, layer.dilation, strict=True)]
    products = layer.batch * layer.out_channels * layer.weight_shape[1] * prod(layer.output_size) * prod(fewest)
    return 10_000 * prod(rounds) + 1.5 * products


def shown(size: int, outputs: int, first: int, stride: int) -> tuple[slice, slice]:
    """Which windows of an axis show an input sample through a tap, and those samples; ``first`` is window 0's.

    Examples
    --------
    >>> shown(5, 4, -1, 2)
    (slice(1, 3, None), slice(1, 4, 2))
    """
    low, high = max(0, -(first // stride)), min(outputs, (size - 1 - first) // stride + 1)
    if low >= high:
        return slice(0), slice(0)
    return slice(low, high), slice(first + low * stride, first + (high - 1) * stride + 1, stride)


def _parts(layer: ConvGeometry, axis: int) -> Iterator[tuple[slice, slice, slice]]:
    """Outputs, samples and taps of one axis that belong together: one tap, or where these are more, one sample."""
    size, outputs, kernel = layer.input_size[axis], layer.output_size[axis], layer.kernel_size[axis]
    step, gap, before = layer.stride[axis], layer.dilation[axis], layer.before[axis]
    if size < kernel and gap == 1:
        for sample in range(size):
            # Output i shows it through tap ``place - i * step``.
            place = sample + before
            low, high = max(0, -((kernel - 1 - place) // step)), min(outputs, place // step + 1)
            if low < high:
                end = place - high * step
                taps = slice(place - low * step, end if end >= 0 else None, -step)
                yield slice(low, high), slice(sample, sample + 1), taps
    else:
        for tap in range(kernel):
            here, there = shown(size, outputs, tap * gap - before, step)
            if here.stop:
                yield here, there, slice(tap, tap + 1)
