"""The convolution layer with NumPy and SciPy: the quickest way for each layer, and sums over taps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from konvlib.geometry import ConvGeometry
from konvlib.images import sums
from konvlib.images.pooling_arrays import avg_pool, max_pool, max_pool_and_indices, max_unpool

__all__ = ["avg_pool", "conv", "max_pool", "max_pool_and_indices", "max_unpool", "pad", "zeros_around"]

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

_of_padded = lru_cache(256)(ConvGeometry.of_padded)


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Return the layer, by what is quickest for its sizes.

    Examples
    --------
    >>> from konvlib import geometry
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> conv(x, w, None, geometry.conv_geometry(x.shape, w.shape, axes=1))
    array([[[5, 8]]])
    """
    dtype = np.result_type(x, w) if bias is None else np.result_type(x, w, bias)
    if layer.padding_mode != "zeros":
        x, layer = pad(x, layer), _of_padded(layer)
    y = (sums.in_integers if dtype.kind in "biu" else sums.in_floats)(x, w, layer, dtype)
    if bias is not None:
        y += bias.astype(y.dtype, copy=False).reshape(-1, *(1,) * layer.axes)
    return y.astype(dtype, copy=False)


def pad(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the input with its padding; itself where there is none.

    Examples
    --------
    >>> from konvlib import geometry
    >>> pad(np.array([[[1, 3, 2]]]), geometry.conv_geometry((1, 1, 3), (1, 1, 2), axes=1, padding=[(0, 2)]))
    array([[[1, 3, 2, 0, 0]]])
    """
    if not any(layer.sides):
        return x
    margins = ((0, 0), (0, 0), *layer.padding)
    if layer.padding_mode == "zeros":
        return zeros_around(x, margins)
    return np.pad(x, margins, PAD_MODES[layer.padding_mode])


def zeros_around(x: np.ndarray, margins: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return an array with zeros around it that are numbers as it holds them: Python's among Python's objects.

    Those that `numpy.pad` chooses are of int64, which do not multiply with large integers of Python.

    Examples
    --------
    >>> zeros_around(np.array([10**30]), [(0, 1)])
    array([1000000000000000000000000000000, 0], dtype=object)
    """
    return np.pad(x, margins, constant_values=np.zeros((), x.dtype))
