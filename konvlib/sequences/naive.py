"""Convolution and correlation of sequences, by definition: two sums, in loops.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry


def convolve(f: ArrayLike, g: ArrayLike, *, mode: str = "full", method: str = "auto") -> np.ndarray:
    r"""Convolve two sequences along their last axis.

    .. math:: y[n] = \sum_m f[m]\, g[n - m]

    Parameters, result and errors are those of `konvlib.convolve`; ``method`` is checked and changes nothing, since a
    definition is computed in one way.

    Examples
    --------
    >>> convolve([1, 3, 2, 0, 4], [2, 1, -1])
    array([ 2,  7,  6, -1,  6,  4, -4])
    """
    f, g, lead = _rows(f, g, mode, method)
    start, length = geometry.convolution_window(f.shape[-1], g.shape[-1], mode)
    y = np.zeros((*lead, length), dtype=np.result_type(f, g))
    for row in np.ndindex(lead):
        for n in range(length):
            for m in range(f.shape[-1]):
                if 0 <= start + n - m < g.shape[-1]:
                    y[row][n] += f[row][m] * g[row][start + n - m]
    return y


def correlate(f: ArrayLike, g: ArrayLike, *, mode: str = "valid", method: str = "auto") -> np.ndarray:
    r"""Correlate two sequences along their last axis, the second conjugated.

    .. math:: c[k] = \sum_n f[n + k]\, \overline{g[n]}, \qquad k = -(M-1), \dots, N-1

    Parameters, result and errors are those of `konvlib.correlate`; ``method`` is checked and changes nothing.

    Examples
    --------
    >>> correlate([1, 3, 2, 0, 4], [2, 1, -1])
    array([3, 8, 0])
    """
    f, g, lead = _rows(f, g, mode, method)
    start, length = geometry.correlation_window(f.shape[-1], g.shape[-1], mode)
    first_lag = start - (g.shape[-1] - 1)
    y = np.zeros((*lead, length), dtype=np.result_type(f, g))
    for row in np.ndindex(lead):
        for i in range(length):
            k = first_lag + i
            for n in range(g.shape[-1]):
                if 0 <= n + k < f.shape[-1]:
                    y[row][i] += f[row][n + k] * np.conj(g[row][n])
    return y


def _rows(f: ArrayLike, g: ArrayLike, mode: str, method: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    f, g = geometry.sequence_arguments(f, g, mode, method)
    lead = geometry.sequence_batch(f.shape, g.shape)
    return np.broadcast_to(f, (*lead, f.shape[-1])), np.broadcast_to(g, (*lead, g.shape[-1])), lead
