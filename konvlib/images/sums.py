"""The sums of a convolution layer, by what is quickest for its sizes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod

import numpy as np

from konvlib import finite, geometry
from konvlib.geometry import ConvGeometry
from konvlib.images import spectra, taps, windows

LEAST = 40_000
"""Nanoseconds below which no transform is considered: importing them takes longer than thousands of such layers."""


def in_floats(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """Return the layer of floats, complex numbers or Python objects, in the dtype in which ``dtype`` is summed.

    The padding is zeros; another is part of the input already.

    Examples
    --------
    >>> x, w = np.array([[[np.inf, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> in_floats(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1), x.dtype)
    array([[[inf,  8.]]])
    """
    held = geometry.sum_dtype(dtype, x, w, prod(layer.weight_shape[1:]))
    w = w.astype(held, copy=False)
    if held.char not in "fdFD" or not layer.batch:
        return taps.by_taps(x.astype(held, copy=False), w, layer)
    with np.errstate(invalid="ignore", over="ignore"):
        return _of_any(x, w, layer)


def _of_any(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The layer by the quickest way, and where that is not finite, by one that is right."""
    y, alone = _by_quickest(x, w, layer)
    if np.isfinite(y.sum()):
        return y
    of_x, of_w = [bool(np.isfinite(operand).all()) for operand in (x, w)]
    if of_x and of_w:
        return y if alone else _scaled(x, w, layer)
    if alone and of_w:
        return y
    y = _of_any(finite.cleaned(np, x), finite.cleaned(np, w), layer)

    def count(bad: np.ndarray, signs: np.ndarray | None, first: bool) -> np.ndarray:
        if signs is None and first:  # every output channel of a group sees the same samples
            each = replace(layer, out_channels=layer.groups)
            counts = in_integers(bad, np.ones(each.weight_shape, bool), each, np.dtype(np.int32))
            return np.repeat(counts, layer.out_channels // layer.groups, axis=1)
        signs = np.ones(x.shape, bool) if signs is None else signs
        return in_integers(*((bad, signs) if first else (signs, bad)), layer, np.dtype(np.int32))

    for part, hit, share in finite.shares(np, y, x, w, count):
        part[hit] = share
    return y


def _scaled(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The layer of finite operands, made smaller by powers of two so that no sum on the way is infinite."""
    most = np.finfo(w.dtype).maxexp // 4
    powers = [max(0, int(np.frexp(np.abs(operand).max())[1]) - most) for operand in (x, w)]
    small = [
        operand.astype(w.dtype) * w.real.dtype.type(2.0**-power) for operand, power in zip((x, w), powers, strict=True)
    ]
    y = _by_quickest(*small, layer)[0]
    parts = y.view(w.real.dtype)  # the product of an infinite complex number and a real one is NaN in NumPy
    for power in powers:
        parts *= w.real.dtype.type(2.0**power)
    return y


def _by_quickest(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> tuple[np.ndarray, bool]:
    """The layer in the dtype of ``w``, which BLAS knows, and whether no output met another window's samples."""
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
