"""Convolution and correlation of sequences: NumPy's meaning, along the last axis.

NumPy arrays, and whatever NumPy makes an array of, are computed by `konvlib.sequences.arrays`; torch tensors by
`konvlib.sequences.tensors`, on their own device. `konvlib.sequences.naive` is the definition that both are held to.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy import ndarray

from konvlib.dispatch import Operand, T, prepared
from konvlib.geometry import MODES, SequenceGeometry, check_transform, convolution_geometry, correlation_geometry
from konvlib.sequences import arrays
from konvlib.sequences.arrays import QUICK

DOUBLE = np.dtype(np.float64)


def convolve(f: Operand[T] | complex, g: Operand[T] | complex, *, mode: str = "full", method: str = "auto") -> T:
    r"""Convolve two sequences along their last axis.

    .. math:: y[n] = \sum_m f[m]\, g[n - m], \qquad n = 0, \dots, N + M - 2

    Parameters
    ----------
    f : array_like or torch.Tensor, shape (..., N)
        The first sequence; leading axes are a batch.
    g : array_like or torch.Tensor, shape (..., M)
        The second. The leading axes of both are broadcast together.
    mode : {"full", "same", "valid"}
        Which part of the sum to keep: all ``N + M - 1`` values; the middle ``max(N, M)``, from entry
        ``(min(N, M) - 1) // 2`` on; or the ``|N - M| + 1`` for which the shorter lies wholly inside the longer.
    method : {"auto", "direct", "fft", "overlap-add"}
        How to compute it. ``direct`` is the sum above. ``fft`` multiplies spectra. ``overlap-add`` does so in
        blocks of the longer sequence. ``auto`` takes the one that is measured to be quickest for the sizes, and
        never changes what the direct sum would give by more than rounding.

    Returns
    -------
    ndarray or torch.Tensor, shape (..., length)
        With the dtype that NumPy gives the product (tensors: their common dtype).

    Raises
    ------
    TypeError
        If a sequence holds no numbers, if Python objects meet a method that transforms, or if tensors are integers,
        differ in dtype, or meet an array.
    ValueError
        If a sequence is empty or ragged, if leading axes do not broadcast, if ``mode`` or ``method`` is unknown, or if
        ``fft`` or ``overlap-add`` is asked for with integers so large that rounding could miss the exact sum.

    Notes
    -----
    Integers and ``fractions.Fraction`` (dtype ``object``) are exact in ``direct`` and ``auto``. Machine integers wrap
    modulo ``2**bits`` as everywhere in NumPy: give a wider dtype, or ``object``, where sums are large.

    NaN and infinity reach those values whose sum contains them, and no others, in ``direct`` and ``auto``. ``fft``
    spreads them over the whole row, ``overlap-add`` over the blocks that they touch.

    The error of ``fft`` is relative to the largest value of a row, not to each value. Where small values beside large
    ones must keep their digits, ask for ``direct``.

    See Also
    --------
    konvlib.correlate : The same without the flip, and with the second sequence conjugated.
    konvlib.conv1d : A layer of them, with channels.
    konvlib.conv_matrix : It as a matrix.
    numpy.convolve, scipy.signal.fftconvolve, scipy.signal.oaconvolve : For arrays, by one method each.

    Examples
    --------
    >>> import numpy as np
    >>> convolve([1, 3, 2, 0, 4], [2, 1, -1])
    array([ 2,  7,  6, -1,  6,  4, -4])
    >>> convolve([1, 3, 2, 0, 4], [2, 1, -1], mode="same")
    array([ 7,  6, -1,  6,  4])
    >>> convolve(np.eye(2, 3, dtype=int), [1, 2])
    array([[1, 2, 0, 0],
           [0, 1, 2, 0]])
    >>> from fractions import Fraction
    >>> convolve([Fraction(1, 2), Fraction(1, 3)], [2, 1])
    array([Fraction(1, 1), Fraction(7, 6), Fraction(1, 3)], dtype=object)
    """
    if (
        type(f) is ndarray
        and type(g) is ndarray
        and type(mode) is type(method) is str
        and method == "auto"
        and f.dtype is DOUBLE
        and g.dtype is DOUBLE
        and f.ndim == 1
        and g.ndim == 1
        and mode in MODES
        and 0 < (n := len(f)) * (m := len(g)) <= QUICK
    ):
        # np.correlate is np.convolve without its checks; on real numbers they differ by the flip alone.
        return np.correlate(f, g[::-1], mode) if n >= m else np.correlate(g, f[::-1], mode)
    backend, f, g, part = _ready(convolution_geometry, f, g, mode, method)
    return backend.convolve(f, g, part)


def correlate(f: Operand[T] | complex, g: Operand[T] | complex, *, mode: str = "valid", method: str = "auto") -> T:
    r"""Correlate two sequences along their last axis; the second is conjugated.

    .. math:: c[k] = \sum_n f[n + k]\, \overline{g[n]}, \qquad k = -(M-1), \dots, N-1

    A positive lag ``k`` means that what ``g`` holds is found ``k`` samples later in ``f``. The lags come in rising
    order, as in ``numpy.correlate``; entry ``i`` of mode ``full`` has lag ``i - (M - 1)``.

    Parameters
    ----------
    f : array_like or torch.Tensor, shape (..., N)
        The sequence that is searched.
    g : array_like or torch.Tensor, shape (..., M)
        The pattern, which is conjugated and not flipped.
    mode : {"valid", "same", "full"}
        As in `convolve`; ``same`` keeps lags from ``-((M) // 2)`` on when ``M <= N``, and from ``N // 2 - (M - 1)`` on
        otherwise: NumPy's choice.
    method : {"auto", "direct", "fft", "overlap-add"}
        As in `convolve`.

    Returns
    -------
    ndarray or torch.Tensor, shape (..., length)
        As in `convolve`.

    Raises
    ------
    TypeError, ValueError
        As in `convolve`.

    See Also
    --------
    konvlib.convolve : What the arguments mean, and how it is computed.
    konvlib.conv1d : A layer of them, with channels, which does not conjugate.

    Examples
    --------
    >>> correlate([1, 3, 2, 0, 4], [2, 1, -1])
    array([3, 8, 0])
    >>> correlate([0, 0, 1j], [1j], mode="full")
    array([0.+0.j, 0.+0.j, 1.+0.j])
    """
    backend, f, g, part = _ready(correlation_geometry, f, g, mode, method)
    return backend.correlate(f, g, part)


def _ready(check: Callable[..., Any], f: Any, g: Any, mode: str, method: str) -> tuple[Any, Any, Any, SequenceGeometry]:
    """The backend, both sequences as it takes them, and their geometry, once everything is found good."""
    backend, (f, g), part = prepared(arrays, _tensors, check, {"f": f, "g": g}, {"mode": mode, "method": method})
    if backend is arrays and method in ("fft", "overlap-add"):
        check_transform(f, g, method)
    return backend, f, g, part


def _tensors() -> ModuleType:
    from konvlib.sequences import tensors

    return tensors
