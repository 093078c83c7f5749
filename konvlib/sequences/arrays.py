"""Convolution and correlation of sequences with NumPy and SciPy: direct sums, FFTs, overlap-add, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log2

import numpy as np

from konvlib import geometry
from konvlib.geometry import SequenceGeometry

QUICK = 300_000
"""Products up to which the direct sum is quickest for any lengths; a longer look would cost more than it saves."""

SHORT = 11
"""Taps up to which NumPy's direct sum has a loop of its own, the quickest of all for any length."""

CACHED_SAMPLES = 1 << 15
"""Samples that overlap-add transforms at once, few enough to stay in a core's cache."""


def convolve(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """Convolve two sequences along their last axis, by the method asked for.

    Examples
    --------
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> convolve(f, g, geometry.convolution_geometry(f.shape, g.shape, mode="valid", method="auto"))
    array([ 6, -1,  6])
    """
    f, g = np.atleast_1d(f, g)
    return _by_method(f, g, part, lambda: _direct(np.convolve, f, g, part))


def correlate(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """Correlate two sequences along their last axis, the second conjugated, by the method asked for.

    Examples
    --------
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> correlate(f, g, geometry.correlation_geometry(f.shape, g.shape, mode="valid", method="auto"))
    array([3, 8, 0])
    """
    f, g = np.atleast_1d(f, g)
    flipped = np.conj(g[..., ::-1]) if g.dtype.kind == "c" else g[..., ::-1]
    return _by_method(f, flipped, part, lambda: _direct(np.correlate, f, g, part))


def choose_method(n: int, m: int) -> str:
    """Return the quickest method for sequences of ``n`` and ``m`` samples: the rule of ``method="auto"``.

    Each method's time is estimated, in microseconds, from the work that it does. The constants are fitted to timings of
    float64 sequences (``python -m benchmarks.sequences_cpu --methods``); other dtypes shift all methods nearly alike.

    Examples
    --------
    >>> choose_method(100, 10), choose_method(10_000, 5_000), choose_method(1_000_000, 500)
    ('direct', 'fft', 'overlap-add')
    """
    shorter, longer = min(n, m), max(n, m)
    if shorter <= SHORT or n * m <= QUICK:
        return "direct"
    direct = 0.017 * (n + m) + 0.0001 * n * m
    fft = 40 + _transform_time(n + m - 1)
    if longer < 4 * shorter:
        return "direct" if direct < fft else "fft"
    overlap_add = 60 + _blocks_time(longer, shorter, _block_size(longer, shorter))
    return min((direct, "direct"), (fft, "fft"), (overlap_add, "overlap-add"))[1]


def _transform_time(size: int) -> float:
    """Microseconds for two transforms and one back; more than ``size log size``, since longer ones leave the caches."""
    return 0.00025 * size**1.18 * log2(size)


def _blocks_time(n: int, m: int, size: int) -> float:
    return -(-n // (size - m + 1)) * _transform_time(size)


@lru_cache(1024)
def _block_size(n: int, m: int) -> int:
    """The quickest transform length for blocks of ``n`` samples; at least ``2 m``, so that only neighbours overlap."""
    least = max(6, (2 * m - 1).bit_length())
    return min((1 << power for power in range(least, least + 5)), key=lambda size: _blocks_time(n, m, size))


def _by_method(f: np.ndarray, g: np.ndarray, part: SequenceGeometry, direct: Callable[[], np.ndarray]) -> np.ndarray:
    """A part of the full convolution of f and g, by FFT or overlap-add; or else what ``direct`` computes."""
    method, automatic = part.method, part.method == "auto"
    if automatic:
        method = choose_method(part.n, part.m)
        if method != "direct" and not geometry.fft_is_exact(f, g):
            method = "direct"
    if method == "direct":
        return direct()
    compute = _fft if method == "fft" else _overlap_add
    dtype = np.result_type(f, g)
    integers = dtype.kind in "biu"
    with np.errstate(invalid="ignore", over="ignore"):
        y = compute(*(a.astype(np.float64) if integers else a for a in (f, g)), part)
        if automatic and not np.isfinite(y).all():
            return direct()
    return np.rint(y).astype(np.int64).astype(dtype) if integers else y.astype(dtype, copy=False)


def _direct(function: Callable[..., np.ndarray], f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """``numpy.convolve`` or ``numpy.correlate``, row by row."""
    if f.ndim == g.ndim == 1:
        return function(f, g, part.mode)
    y = np.empty((*part.batch, part.length), dtype=np.result_type(f, g))
    f, g = (np.broadcast_to(a, (*part.batch, a.shape[-1])) for a in (f, g))
    for row in np.ndindex(part.batch):
        y[row] = function(f[row], g[row], part.mode)
    return y


def _fft(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """Multiply spectra.

    A circular convolution of ``size`` samples folds entry ``i >= size`` of the full one onto ``i - size``. The
    transform need only be so long that no fold falls on the entries that are wanted.
    """
    from scipy import fft

    full, end = part.n + part.m - 1, part.start + part.length
    real, forward, inverse = _transforms(f, g)
    size = fft.next_fast_len(max(full - part.start, end), real=real)
    y = inverse(forward(f, size) * forward(g, size), size, overwrite_x=True)
    return y[..., part.start : end]


def _transforms(f: np.ndarray, g: np.ndarray) -> tuple[bool, Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """Whether both are real, and the transform and its inverse for them, which are imported where they are used."""
    from scipy import fft

    real = not (np.iscomplexobj(f) or np.iscomplexobj(g))
    return (real, fft.rfft, fft.irfft) if real else (real, fft.fft, fft.ifft)


def _overlap_add(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """Cut the longer sequence into blocks, convolve each with the shorter by FFT, add where the results overlap."""
    if f.shape[-1] < g.shape[-1]:
        f, g = g, f
    n, m = f.shape[-1], g.shape[-1]
    real, forward, inverse = _transforms(f, g)
    size = _block_size(n, m)
    step = size - (m - 1)
    blocks = -(-n // step)
    padded = np.zeros((*f.shape[:-1], blocks * step), dtype=f.dtype)
    padded[..., :n] = f
    pieces = padded.reshape(*f.shape[:-1], blocks, step)
    spectrum = forward(g, size)[..., np.newaxis, :]
    y = np.zeros((*part.batch, blocks + 1, step), dtype=spectrum.real.dtype if real else spectrum.dtype)
    at_once = max(1, CACHED_SAMPLES // size)
    for first in range(0, blocks, at_once):
        last = min(first + at_once, blocks)
        parts = inverse(forward(pieces[..., first:last, :], size) * spectrum, size, overwrite_x=True)
        y[..., first:last, :] += parts[..., :step]
        y[..., first + 1 : last + 1, : m - 1] += parts[..., step:]
    return y.reshape(*part.batch, -1)[..., part.start : part.start + part.length]
