"""Convolution and correlation of sequences, by definition: two sums, in loops.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

import numpy as np

from konvlib.geometry import SequenceGeometry


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
    f, g = _rows(f, g, part)
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
    f, g = _rows(f, g, part)
    first_lag = part.start - (part.m - 1)
    y = np.zeros((*part.batch, part.length), dtype=np.result_type(f, g))
    for row in np.ndindex(part.batch):
        for i in range(part.length):
            k = first_lag + i
            for n in range(part.m):
                if 0 <= n + k < part.n:
                    y[row][i] += f[row][n + k] * np.conj(g[row][n])
    return y


def _rows(f: np.ndarray, g: np.ndarray, part: SequenceGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Both sequences once for each row of the result."""
    return np.broadcast_to(f, (*part.batch, part.n)), np.broadcast_to(g, (*part.batch, part.m))
