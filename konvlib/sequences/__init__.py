"""Convolution and correlation of sequences: NumPy's meaning, along one axis; resampling; convolution along all axes.

NumPy arrays, and whatever NumPy makes an array of, are computed by ``konvlib.sequences.arrays``; torch tensors by
``konvlib.sequences.tensors``, on their own device. ``konvlib.sequences.naive`` is the definition that both are held to.

What goes along one axis stands here, `convolve_nd`, which goes along all of them, in ``konvlib.sequences.whole``; it is
imported from here too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy import ndarray

from konvlib import geometry
from konvlib.dispatch import Operand, T, prepared
from konvlib.geometry import (
    MODES,
    SequenceGeometry,
    check_transform,
    convolution_geometry,
    correlation_geometry,
    resample_geometry,
)
from konvlib.sequences import arrays
from konvlib.sequences.arrays import QUICK
from konvlib.sequences.whole import convolve_nd

__all__ = [
    "convolve",
    "convolve_nd",
    "correlate",
    "correlation_lags",
    "normalized_correlation",
    "resample",
]

DOUBLE = np.dtype(np.float64)
AUTO, ZEROS = "auto", "zeros"


def convolve(
    f: Operand[T] | complex, g: Operand[T] | complex, *, mode: str = "full", method: str = AUTO, axis: int = -1,
    boundary: str = ZEROS,
) -> T:  # fmt: skip
    r"""Convolve two sequences along one axis.

    .. math:: y[n] = \sum_m f[m]\, g[n - m], \qquad n = 0, \dots, N + M - 2

    Parameters
    ----------
    f : array_like or torch.Tensor, shape (..., N)
        The first sequence; the other axes are a batch.
    g : array_like or torch.Tensor, shape (..., M)
        The second. The other axes of both are broadcast together.
    mode : {"full", "same", "valid"}
        Which part of the sum to keep: all ``N + M - 1`` values; the middle ``max(N, M)``, from entry
        ``(min(N, M) - 1) // 2`` on; or the ``|N - M| + 1`` for which the shorter lies wholly inside the longer.
    method : {"auto", "direct", "fft", "overlap-add"}
        How to compute it. ``direct`` is the sum above. ``fft`` multiplies spectra. ``overlap-add`` does so in
        blocks of the longer sequence. ``auto`` takes the one that is measured to be quickest for the sizes. A
        transform rounds relative to the largest value of the result: a small one beside large ones may be lost, which
        ``direct`` keeps.
    axis : int
        The axis of both sequences along which they are convolved. Of two operands with different numbers of axes, the
        one with fewer first gets leading axes of length 1, as in broadcasting; but one with a single axis lies along
        ``axis``, whichever that is.
    boundary : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What is seen beyond the ends of ``f`` in mode ``same``; other modes take zeros only. Of ``a b c d`` the samples
        after the end are ``c b a`` (reflect), ``d c b`` (symmetric), ``d d d`` (replicate) or ``a b c`` (circular),
        and so on for as long as ``g`` reaches. The result then has the ``N`` values of which the middle tap
        ``g[(M - 1) // 2]`` meets ``f[n]``, which for ``N >= M`` are those of ``same`` with zeros. See Notes for the
        names in other libraries.

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
        If a sequence is empty or ragged, if the other axes do not broadcast, if ``mode``, ``method``, ``axis`` or
        ``boundary`` is unknown, or if a boundary other than zeros meets a mode other than ``same``.

    Notes
    -----
    Arrays of integers are exact by every method: where rounding a transform could miss the sum, integers are cut into
    digits for which it cannot. So are ``fractions.Fraction`` and Python's integers (dtype ``object``), which have the
    method ``direct`` only. Machine integers wrap modulo ``2**bits`` as everywhere in NumPy: give a wider dtype, or
    ``object``, where sums are large. Tensors hold no integers here; theirs are rounded as real numbers are.

    The transform has the precision of the result, or float32's where that is less.

    NaN and infinity reach those values whose sum contains them, and no others, in ``direct`` and ``auto``. ``fft``
    spreads them over the whole row, ``overlap-add`` over the blocks that they touch.

    Boundaries have the names of `konvlib.conv1d`'s ``padding_mode``, and ``symmetric``. ``numpy.pad`` says constant,
    reflect, symmetric, edge and wrap; ``scipy.ndimage`` says constant, mirror, reflect, nearest and grid-wrap, in this
    order. Beware of ``reflect``, which is ``numpy.pad``'s and PyTorch's, and not that of ``scipy.ndimage``.

    The error of ``fft`` is relative to the largest value of a row, not to each value. Where small values beside large
    ones must keep their digits, ask for ``direct``.

    See Also
    --------
    konvlib.correlate : The same without the flip, and with the second sequence conjugated.
    konvlib.conv1d : A layer of them, with channels.
    konvlib.conv_matrix : It as a matrix.
    konvlib.convolve_nd : Along all axes.
    konvlib.resample : With samples left out and put in.
    numpy.convolve, scipy.signal.fftconvolve, scipy.signal.oaconvolve : For arrays, by one method each.
    scipy.ndimage.convolve1d : With boundaries.

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
    >>> convolve([[1, 3, 2], [0, 4, 0]], [1, 10], axis=0)
    array([[ 1,  3,  2],
           [10, 34, 20],
           [ 0, 40,  0]])
    >>> convolve([1, 3, 2, 0, 4], [1, 10, 100], mode="same", boundary="circular")
    array([413, 132, 320, 204,  41])
    """
    if (
        method is AUTO  # as it is unless given, and what is given is checked below
        and boundary is ZEROS
        and type(axis) is int
        and axis == -1
        and type(mode) is str
        and type(f) is ndarray
        and type(g) is ndarray
        and f.dtype is DOUBLE
        and g.dtype is DOUBLE
        and f.ndim == 1
        and g.ndim == 1
        and mode in MODES
        and 0 < (n := len(f)) * (m := len(g)) <= QUICK
    ):
        # np.correlate is np.convolve without its checks; on real numbers they differ by the flip alone.
        return np.correlate(f, g[::-1], mode) if n >= m else np.correlate(g, f[::-1], mode)
    backend, f, g, part = _ready(convolution_geometry, f, g, mode, method, axis, boundary)
    return _back(backend.convolve(f, g, part), part.axis)


def correlate(
    f: Operand[T] | complex, g: Operand[T] | complex, *, mode: str = "valid", method: str = AUTO, axis: int = -1,
    boundary: str = ZEROS,
) -> T:  # fmt: skip
    r"""Correlate two sequences along one axis; the second is conjugated.

    .. math:: c[k] = \sum_n f[n + k]\, \overline{g[n]}, \qquad k = -(M-1), \dots, N-1

    A positive lag ``k`` means that what ``g`` holds is found ``k`` samples later in ``f``. The lags come in rising
    order, as in ``numpy.correlate``; entry ``i`` of mode ``full`` has lag ``i - (M - 1)``. `konvlib.correlation_lags`
    gives those of any mode.

    Parameters
    ----------
    f : array_like or torch.Tensor, shape (..., N)
        The sequence that is searched.
    g : array_like or torch.Tensor, shape (..., M)
        The pattern, which is conjugated and not flipped.
    mode : {"valid", "same", "full"}
        As in `convolve`; ``same`` keeps lags from ``-((M) // 2)`` on when ``M <= N``, and from ``N // 2 - (M - 1)`` on
        otherwise: NumPy's choice.
    method, axis : str, int
        As in `convolve`.
    boundary : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What is seen beyond the ends of ``f`` in mode ``same``, as in `convolve`. The result then has the ``N`` lags
        from ``-(M // 2)`` on.

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
    konvlib.correlation_lags : The lags.
    konvlib.normalized_correlation : Divided by the norms of what is compared.
    konvlib.conv1d : A layer of them, with channels, which does not conjugate.

    Examples
    --------
    >>> correlate([1, 3, 2, 0, 4], [2, 1, -1])
    array([3, 8, 0])
    >>> correlate([0, 0, 1j], [1j], mode="full")
    array([0.+0.j, 0.+0.j, 1.+0.j])
    """
    backend, f, g, part = _ready(correlation_geometry, f, g, mode, method, axis, boundary)
    return _back(backend.correlate(f, g, part), part.axis)


def normalized_correlation(
    f: Operand[T], g: Operand[T], *, mode: str = "valid", method: str = AUTO, axis: int = -1
) -> T:  # fmt: skip
    r"""Correlate two sequences, each lag divided by the norms of what it compares: template matching.

    .. math::

        \rho[k] = \frac{\sum_n f[n + k]\, \overline{g[n]}}
                       {\sqrt{\sum_{n=0}^{M-1} |f[n + k]|^2}\; \sqrt{\sum_{n=0}^{M-1} |g[n]|^2}}

    with zeros outside of ``f``. It is 1 where the window of ``f`` is a positive multiple of ``g``, -1 where it is a
    negative one, and 0 where the window of ``f`` or ``g`` itself is all zeros. Its size is at most 1.

    Parameters
    ----------
    f : array_like or torch.Tensor, shape (..., N)
        The sequence that is searched; the other axes are a batch.
    g : array_like or torch.Tensor, shape (..., M)
        The pattern. The other axes of both are broadcast together.
    mode : {"valid", "same", "full"}
        Which lags: those of `correlate`.
    method, axis : str, int
        As in `convolve`.

    Returns
    -------
    ndarray or torch.Tensor, shape (..., length)
        Real or complex as the operands are; integers and Python objects give float64.

    Raises
    ------
    TypeError, ValueError
        As in `convolve`.

    Notes
    -----
    The norms are sums of squares without differences, so they are as exact as floats are. The numerator has the error
    of its method: where ``f`` has windows far smaller than others, ask for ``direct``. For the correlation coefficient
    of statistics, in which means are subtracted, subtract that of ``g``, and of each window of ``f``.

    See Also
    --------
    konvlib.correlate : The numerator.
    konvlib.correlation_lags : The lags.

    Examples
    --------
    >>> import numpy as np
    >>> normalized_correlation([3, 4, 0, 0, 0, 6, 8], [3, 4])
    array([1. , 0.6, 0. , 0. , 0.8, 1. ])
    """
    backend, f, g, part = _ready(correlation_geometry, f, g, mode, method, axis, ZEROS)
    return _back(backend.normalized_correlation(f, g, part), part.axis)


def correlation_lags(n: int, m: int, mode: str = "full") -> ndarray:
    r"""Return the lags of `correlate`, in its order.

    .. math:: k = -(M-1), \dots, N-1

    Parameters
    ----------
    n, m : int
        How many samples the first and the second sequence have.
    mode : {"full", "same", "valid"}
        The one that `correlate` was given. The default is SciPy's, and not that of `correlate`.

    Returns
    -------
    ndarray of int64, shape (length,)
        ``correlate(f, g, mode=mode)[i]`` has lag ``correlation_lags(n, m, mode)[i]``.

    Raises
    ------
    TypeError, ValueError
        If ``n`` or ``m`` is no positive integer, or if ``mode`` is unknown.

    See Also
    --------
    konvlib.correlate : What has these lags.
    scipy.signal.correlation_lags : The same, but for mode ``same``, in which SciPy has the size of the first sequence.

    Examples
    --------
    >>> import numpy as np
    >>> f, g = [0, 0, 0, 5, 1], [5, 1]
    >>> correlation_lags(5, 2)[np.argmax(correlate(f, g, mode="full"))]
    np.int64(3)
    """
    return geometry.correlation_lags(n, m, mode)


def resample(x: Operand[T], h: Operand[T], up: int = 1, down: int = 1, *, axis: int = -1) -> T:
    r"""Put ``up - 1`` zeros after each sample, convolve with ``h``, and keep every ``down``-th value.

    .. math:: y[n] = \sum_m x[m]\, h[n\,\text{down} - m\,\text{up}]

    Parameters
    ----------
    x : array_like or torch.Tensor, shape (..., N)
        The samples; the other axes are a batch.
    h : array_like or torch.Tensor, shape (M,) or (..., M)
        The filter. The other axes of both are broadcast together.
    up, down : int
        The rates.
    axis : int
        As in `convolve`.

    Returns
    -------
    ndarray or torch.Tensor, shape (..., ((N - 1) * up + M - 1) // down + 1)
        With the dtype of `convolve`; exact on integers and fractions.

    Raises
    ------
    TypeError, ValueError
        If a rate is no positive integer, and as in `convolve`.

    Notes
    -----
    No product with an inserted zero is computed, and none of a value that is not kept: samples and taps are dealt out
    to branches, which are convolved each (a polyphase filter). Each branch is computed as `convolve` computes it; of
    arrays with many short branches, the products are added directly.

    See Also
    --------
    konvlib.convolve : With both rates 1.
    konvlib.conv_transpose1d, konvlib.conv1d : Layers that do one of the two, with channels.
    scipy.signal.upfirdn : The same with the operands exchanged.

    Examples
    --------
    >>> resample([1, 3, 2], [1, 1], up=2)
    array([1, 1, 3, 3, 2, 2])
    >>> resample([1, 3, 2, 0, 4], [2, 1, -1], up=3, down=2)
    array([ 2, -1,  3,  4, -2,  0,  8, -4])
    """
    operands, arguments = {"x": x, "h": h}, {"up": up, "down": down, "axis": axis}
    backend, (x, h), part = prepared(arrays, _tensors, resample_geometry, operands, arguments)
    return _back(backend.resample(*_moved(x, h, part.axis), part), part.axis)


def _ready(
    check: Callable[..., Any], f: Any, g: Any, mode: str, method: str, axis: int, boundary: str
) -> tuple[Any, Any, Any, SequenceGeometry]:
    """The backend, both sequences along their last axis, and their geometry, once everything is found good."""
    arguments = {"mode": mode, "method": method, "axis": axis, "boundary": boundary}
    backend, (f, g), part = prepared(arrays, _tensors, check, {"f": f, "g": g}, arguments)
    if backend is arrays and method in ("fft", "overlap-add"):
        check_transform(f, g, method)
    return backend, *_moved(f, g, part.axis), part


def _moved(f: Any, g: Any, axis: int) -> tuple[Any, Any]:
    """Both with the axis in the last place; an operand of one axis lies along it."""
    if axis == -1:
        return f, g
    axes = max(f.ndim, g.ndim)
    f, g = (a if a.ndim < 2 else a[(None,) * (axes - a.ndim)].swapaxes(axis, -1) for a in (f, g))
    return f, g


def _back(y: Any, axis: int) -> Any:
    return y if axis == -1 else y.swapaxes(axis, -1)


def _tensors() -> ModuleType:
    from konvlib.sequences import tensors

    return tensors
