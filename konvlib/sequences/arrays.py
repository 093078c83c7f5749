"""Convolution and correlation of sequences with NumPy and SciPy: direct sums, FFTs, overlap-add, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log2

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft as transforms

from konvlib import geometry

QUICK = 300_000
"""Products up to which the direct sum is quickest for any lengths; a longer look would cost more than it saves."""

SHORT = 11
"""Taps up to which NumPy's direct sum has a loop of its own, the quickest of all for any length."""

CACHED_SAMPLES = 1 << 15
"""Samples that overlap-add transforms at once, few enough to stay in a core's cache."""


def convolve(f: ArrayLike, g: ArrayLike, *, mode: str = "full", method: str = "auto") -> np.ndarray:
    """Convolve two sequences along their last axis: `konvlib.convolve` on arrays.

    Examples
    --------
    >>> convolve([1, 3, 2, 0, 4], [2, 1, -1], mode="valid")
    array([ 6, -1,  6])
    """
    f, g = geometry.sequence_arguments(f, g, mode, method)
    window = geometry.convolution_window(f.shape[-1], g.shape[-1], mode)
    return _by_method(f, g, method, window, lambda: _direct(np.convolve, f, g, mode, window[1]))


def correlate(f: ArrayLike, g: ArrayLike, *, mode: str = "valid", method: str = "auto") -> np.ndarray:
    """Correlate two sequences along their last axis, the second conjugated: `konvlib.correlate` on arrays.

    Examples
    --------
    >>> correlate([1, 3, 2, 0, 4], [2, 1, -1])
    array([3, 8, 0])
    """
    f, g = geometry.sequence_arguments(f, g, mode, method)
    window = geometry.correlation_window(f.shape[-1], g.shape[-1], mode)
    flipped = np.conj(g[..., ::-1]) if g.dtype.kind == "c" else g[..., ::-1]
    return _by_method(f, flipped, method, window, lambda: _direct(np.correlate, f, g, mode, window[1]))


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


def _by_method(
    f: np.ndarray, g: np.ndarray, method: str, window: tuple[int, int], direct: Callable[[], np.ndarray]
) -> np.ndarray:
    """Part ``window`` of the full convolution of f and g, by FFT or overlap-add; or else what ``direct`` computes."""
    automatic = method == "auto"
    if automatic:
        method = choose_method(f.shape[-1], g.shape[-1])
        if method != "direct" and not geometry.fft_is_exact(f, g):
            method = "direct"
    if method == "direct":
        return direct()
    compute = _fft if method == "fft" else _overlap_add
    dtype = np.result_type(f, g)
    integers = dtype.kind in "biu"
    with np.errstate(invalid="ignore", over="ignore"):
        y = compute(*(a.astype(np.float64) if integers else a for a in (f, g)), *window)
        if automatic and not np.isfinite(y).all():
            return direct()
    return np.rint(y).astype(np.int64).astype(dtype) if integers else y.astype(dtype, copy=False)


def _direct(function: Callable[..., np.ndarray], f: np.ndarray, g: np.ndarray, mode: str, length: int) -> np.ndarray:
    """``numpy.convolve`` or ``numpy.correlate``, row by row."""
    if f.ndim == g.ndim == 1:
        return function(f, g, mode)
    lead = geometry.sequence_batch(f.shape, g.shape)
    y = np.empty((*lead, length), dtype=np.result_type(f, g))
    f, g = (np.broadcast_to(a, (*lead, a.shape[-1])) for a in (f, g))
    for row in np.ndindex(lead):
        y[row] = function(f[row], g[row], mode)
    return y


def _fft(f: np.ndarray, g: np.ndarray, start: int, length: int) -> np.ndarray:
    """Multiply spectra.

    A circular convolution of ``size`` samples folds entry ``i >= size`` of the full one onto ``i - size``. The
    transform need only be so long that no fold falls on the entries that are wanted.
    """
    full = f.shape[-1] + g.shape[-1] - 1
    real = not (np.iscomplexobj(f) or np.iscomplexobj(g))
    size = transforms.next_fast_len(max(full - start, start + length), real=real)
    y = _circular(f, g, size, real)
    return y[..., start : start + length]


def _circular(f: np.ndarray, g: np.ndarray, size: int, real: bool) -> np.ndarray:
    forward, inverse = (transforms.rfft, transforms.irfft) if real else (transforms.fft, transforms.ifft)
    spectrum = forward(f, size) * forward(g, size)
    return inverse(spectrum, size, overwrite_x=True)


def _overlap_add(f: np.ndarray, g: np.ndarray, start: int, length: int) -> np.ndarray:
    """Cut the longer sequence into blocks, convolve each with the shorter by FFT, add where the results overlap."""
    if f.shape[-1] < g.shape[-1]:
        f, g = g, f
    n, m = f.shape[-1], g.shape[-1]
    real = not (np.iscomplexobj(f) or np.iscomplexobj(g))
    forward, inverse = (transforms.rfft, transforms.irfft) if real else (transforms.fft, transforms.ifft)
    size = _block_size(n, m)
    step = size - (m - 1)
    blocks = -(-n // step)
    padded = np.zeros((*f.shape[:-1], blocks * step), dtype=f.dtype)
    padded[..., :n] = f
    pieces = padded.reshape(*f.shape[:-1], blocks, step)
    spectrum = forward(g, size)[..., np.newaxis, :]
    lead = geometry.sequence_batch(f.shape, g.shape)
    y = np.zeros((*lead, blocks + 1, step), dtype=spectrum.real.dtype if real else spectrum.dtype)
    at_once = max(1, CACHED_SAMPLES // size)
    for first in range(0, blocks, at_once):
        last = min(first + at_once, blocks)
        parts = inverse(forward(pieces[..., first:last, :], size) * spectrum, size, overwrite_x=True)
        y[..., first:last, :] += parts[..., :step]
        y[..., first + 1 : last + 1, : m - 1] += parts[..., step:]
    return y.reshape(*lead, -1)[..., start : start + length]
