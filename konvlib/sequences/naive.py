"""Convolution and correlation of sequences, by definition: sums, in loops.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from konvlib.geometry import ResampleGeometry, SequenceGeometry, WholeGeometry


def convolve(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    r"""Convolve two sequences along their last axis.

    .. math:: y[n] = \sum_m f[m]\, g[n - m]

    Examples
    --------
    >>> from konvlib.geometry import convolution_geometry
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> convolve(f, g, convolution_geometry(f.shape, g.shape, mode="full", method="direct"))
    array([ 2,  7,  6, -1,  6,  4, -4])
    """
    f, g = _rows(_extended(f, part), g, part)
    y = np.zeros((*part.batch, part.length), dtype=np.result_type(f, g))
    for row in np.ndindex(part.batch):
        for n in range(part.length):
            for m in range(part.n):
                if 0 <= part.start + n - m < part.m:
                    y[row][n] += f[row][m] * g[row][part.start + n - m]
    return y


def correlate(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    r"""Correlate two sequences along their last axis, the second conjugated.

    .. math:: c[k] = \sum_n f[n + k]\, \overline{g[n]}, \qquad k = -(M-1), \dots, N-1

    Examples
    --------
    >>> from konvlib.geometry import correlation_geometry
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> correlate(f, g, correlation_geometry(f.shape, g.shape, mode="valid", method="direct"))
    array([3, 8, 0])
    """
    f, g = _rows(_extended(f, part), g, part)
    first_lag = part.start - (part.m - 1)
    y = np.zeros((*part.batch, part.length), dtype=np.result_type(f, g))
    for row in np.ndindex(part.batch):
        for i in range(part.length):
            k = first_lag + i
            for n in range(part.m):
                if 0 <= n + k < part.n:
                    y[row][i] += f[row][n + k] * np.conj(g[row][n])
    return y


def normalized_correlation(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    r"""Correlate, each lag divided by the norms of the window of f and of g; 0 where one of them is.

    .. math:: \rho[k] = \sum_n f[n + k]\, \overline{g[n]} \Big/ \sqrt{\sum_n |f[n + k]|^2 \sum_n |g[n]|^2}

    Examples
    --------
    >>> from konvlib.geometry import correlation_geometry
    >>> f, g = np.array([3, 4, 0, 0]), np.array([3, 4])
    >>> normalized_correlation(f, g, correlation_geometry((4,), (2,), mode="valid", method="direct"))
    array([1. , 0.6, 0. ])
    """
    f, g = (a.astype(object) if a.dtype.kind in "biu" else a for a in (f, g))
    products = correlate(f, g, part)
    f, g = _rows(f, g, part)
    first_lag = part.start + 1 - part.m
    y = np.zeros(products.shape, dtype=np.float64 if products.dtype.kind == "O" else products.dtype)
    for row in np.ndindex(part.batch):
        for i in range(part.length):
            window = [f[row][n + first_lag + i] for n in range(part.m) if 0 <= n + first_lag + i < part.n]
            norms = _norm(window) * _norm(g[row])
            y[row][i] = products[row][i] / norms if norms != 0 else 0
            if abs(y[row][i]) > 1:  # by rounding
                y[row][i] /= abs(y[row][i])
    return y


def _norm(values: Sequence[Any]) -> float:
    """The root of the sum of squares, which neither overflow nor vanish."""
    largest = max(abs(value) for value in values)
    return (
        float(largest) * float(np.sqrt(sum(float(abs(value) / largest) ** 2 for value in values))) if largest else 0.0
    )


def resample(x: np.ndarray, h: np.ndarray, part: ResampleGeometry) -> np.ndarray:
    r"""Upsample, convolve, downsample.

    .. math:: y[n] = \sum_m x[m]\, h[n\,\text{down} - m\,\text{up}]

    Examples
    --------
    >>> from konvlib.geometry import resample_geometry
    >>> resample(np.array([1, 3, 2]), np.array([1, 1]), resample_geometry((3,), (2,), up=2, down=1, axis=-1))
    array([1, 1, 3, 3, 2, 2])
    """
    x, h = np.broadcast_to(x, (*part.batch, part.n)), np.broadcast_to(h, (*part.batch, part.m))
    y = np.zeros((*part.batch, part.length), dtype=np.result_type(x, h))
    for row in np.ndindex(part.batch):
        for n in range(part.length):
            for m in range(part.n):
                if 0 <= n * part.down - m * part.up < part.m:
                    y[row][n] += x[row][m] * h[row][n * part.down - m * part.up]
    return y


def convolve_nd(f: np.ndarray, g: np.ndarray, part: WholeGeometry) -> np.ndarray:
    r"""Convolve two arrays along all their axes.

    .. math:: y[n_1, n_2, \dots] = \sum_{m_1, m_2, \dots} f[m_1, m_2, \dots]\, g[n_1 - m_1, n_2 - m_2, \dots]

    Examples
    --------
    >>> from konvlib.geometry import whole_geometry
    >>> f, g = np.array([[1, 3], [2, 0]]), np.array([[1, 10]])
    >>> convolve_nd(f, g, whole_geometry(f.shape, g.shape, mode="full", method="direct"))
    array([[ 1, 13, 30],
           [ 2, 20,  0]])
    """
    y = np.zeros(part.lengths, dtype=np.result_type(f, g))
    for n in np.ndindex(part.lengths):
        for m in np.ndindex(f.shape):
            place = tuple(start + i - j for start, i, j in zip(part.starts, n, m, strict=True))
            if all(0 <= i < size for i, size in zip(place, g.shape, strict=True)):
                y[n] += f[m] * g[place]
    return y


def _extended(f: np.ndarray, part: SequenceGeometry) -> np.ndarray:
    """The first sequence with what its boundary shows around it, place by place."""
    if part.boundary == "zeros":
        return f
    f = np.atleast_1d(f)
    seen = [_seen(part.before + i, part.samples, part.boundary) for i in range(part.n)]
    return np.stack([f[..., place] for place in seen], -1)


def _seen(place: int, n: int, boundary: str) -> int:
    """Which of n samples is seen at a place: the ends are mirrors, or end walls, or the sequence is a circle."""
    while not 0 <= place < n:
        if boundary == "circular":
            place += n if place < 0 else -n
        elif boundary == "replicate" or n == 1:
            place = 0 if place < 0 else n - 1
        elif boundary == "reflect":
            place = -place if place < 0 else 2 * (n - 1) - place
        else:
            place = -1 - place if place < 0 else 2 * n - 1 - place
    return place


def _rows(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Both sequences once for each row of the result."""
    return np.broadcast_to(f, (*part.batch, part.n)), np.broadcast_to(g, (*part.batch, part.m))
