"""The sums of a convolution layer, by what is quickest for its sizes."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.images import spectra, taps, windows

LEAST = 40_000
"""Nanoseconds below which no transform is considered: importing them takes longer than thousands of such layers."""


def in_floats(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> tuple[np.ndarray, bool]:
    """Return the layer in the dtype of ``w``, which BLAS knows, and whether no output met another window's samples.

    The padding is zeros; another is part of the input already.

    Examples
    --------
    >>> x, w = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> y, alone = in_floats(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1))
    >>> y
    array([[[5., 8.]]])
    """
    way, rows = _quickest(layer, w.itemsize, w.itemsize)
    if way == "taps":
        return taps.by_taps(x.astype(w.dtype, copy=False), w, layer), True
    if way == "spectra":
        return spectra.by_spectra(x, w, layer), False
    return windows.by_windows(x, w, layer, rows), rows == 1


def in_integers(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """Return the layer of integers or booleans, whose sums wrap in ``dtype``: by floats where these are proved exact.

    Examples
    --------
    >>> x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1]]])
    >>> in_integers(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1), np.dtype(np.int8))
    array([[[5, 8]]], dtype=int8)
    """
    held = geometry.sum_dtype(dtype, x, w, prod(layer.weight_shape[1:]))
    way, rows = _quickest(layer, held.itemsize, 8)
    if way == "spectra" and not (layer.batch and spectra.is_exact(x, w, layer)):
        way, rows = _quickest(layer, held.itemsize, None)
    if way == "spectra":
        return spectra.by_spectra(x, w.astype(np.float64), layer, np.empty(layer.output_shape, dtype=dtype))
    if way == "windows" and held.kind == "f" and layer.batch:
        return windows.by_windows(x, w.astype(held), layer, rows, np.empty(layer.output_shape, dtype=dtype))
    y = taps.by_taps(x.astype(held, copy=False), w.astype(held, copy=False), layer)
    return windows.as_held(y, dtype).astype(dtype, copy=False)


@lru_cache(1024)
def _quickest(layer: ConvGeometry, itemsize: int, of_spectra: int | None) -> tuple[str, int]:
    """Windows, taps or spectra, these in samples of ``of_spectra`` bytes; and how many rows a column should serve."""
    rows, wider = windows.rows_at_once(layer), itemsize / 4
    costs = {"windows": windows.windows_cost(layer, rows) * wider, "taps": taps.taps_cost(layer) * (1 + wider) / 2}
    if of_spectra and min(costs.values()) > LEAST:
        costs["spectra"] = spectra.spectra_cost(layer) * (1 + of_spectra / 4) / 2
    return min(costs, key=costs.__getitem__), rows
