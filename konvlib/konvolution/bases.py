r"""Polynomial bases, each from its three-term recurrence: values, derivatives, coefficients and changes of basis.

.. math:: p_0 = 1, \qquad p_{n+1}(x) = (a_n x + b_n)\,p_n(x) - c_n\,p_{n-1}(x)

=========== ============================ ===============================
name        :math:`(a_n, b_n, c_n)`      domain
=========== ============================ ===============================
monomial    1, 0, 0                      the whole line
chebyshev   2, 0, 1 (:math:`a_0 = 1`)    -1 to 1 (the first kind)
chebyshev2  2, 0, 1                      -1 to 1 (the second kind)
legendre    (2n+1)/(n+1), 0, n/(n+1)     -1 to 1
hermite     1, 0, n                      the whole line (probabilists')
=========== ============================ ===============================

Each polynomial has the degree of its number, so all bases span the same functions; what differs is how well samples
tell their coefficients apart. A domain is where to keep the samples for that. The polynomials are defined everywhere,
and so are these functions. The bases themselves stand in ``konvlib/konvolution/recurrences.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.konvolution.recurrences import BASES, Basis, add_basis, get_basis, whole_step

__all__ = [
    "BASES",
    "Basis",
    "add_basis",
    "change_of_basis",
    "coefficients",
    "condition_number",
    "convert",
    "derivatives",
    "expand",
    "get_basis",
    "result_dtype",
    "terms",
    "values",
    "whole_step",
]


def values(basis: str, x: ArrayLike, degree: int) -> np.ndarray:
    r"""Evaluate the polynomials of a basis, by its recurrence.

    .. math:: p_0 = 1, \qquad p_{n+1}(x) = (a_n x + b_n)\,p_n(x) - c_n\,p_{n-1}(x)

    Parameters
    ----------
    basis : str
        The name of a basis.
    x : array_like
        The samples.
    degree : int
        The last polynomial's.

    Returns
    -------
    ndarray, shape (degree + 1, *x.shape)
        With the dtype of ``x``; ``object`` is exact where its numbers are. Integers wrap as NumPy's do, and become
        float64 if the basis is not `Basis.integral`; booleans count as integers.

    Raises
    ------
    TypeError, ValueError
        If the basis is unknown, ``degree`` negative, or ``x`` no array of numbers.

    Notes
    -----
    A recurrence needs no arccos, whose derivative at -1 and 1 is infinite; and it is exact at integers, even where its
    coefficients are fractions, as long as the polynomials' values are exact: it divides last.

    Examples
    --------
    >>> values("chebyshev", [0, 1, 2], 3)
    array([[ 1,  1,  1],
           [ 0,  1,  2],
           [-1,  1,  7],
           [ 0,  1, 26]])
    >>> values("legendre", Fraction(1, 3), 2)
    array([1, Fraction(1, 3), Fraction(-1, 3)], dtype=object)
    """
    found, degree, x = _arguments(basis, x, degree)
    p = np.empty((degree + 1, *x.shape), dtype=x.dtype)
    for n, (value, _) in enumerate(terms(found, x, degree)):
        p[n, ...] = value
    return p


def derivatives(basis: str, x: ArrayLike, degree: int) -> np.ndarray:
    r"""Evaluate the derivatives of the polynomials of a basis, by its recurrence differentiated.

    .. math:: p'_0 = 0, \qquad p'_{n+1}(x) = a_n\,p_n(x) + (a_n x + b_n)\,p'_n(x) - c_n\,p'_{n-1}(x)

    Parameters, dtypes and errors are those of `values`.

    Returns
    -------
    ndarray, shape (degree + 1, *x.shape)

    Examples
    --------
    >>> derivatives("chebyshev", [-1, 0, 1], 3)
    array([[ 0,  0,  0],
           [ 1,  1,  1],
           [-4,  0,  4],
           [ 9, -3,  9]])
    """
    found, degree, x = _arguments(basis, x, degree)
    slopes = np.empty((degree + 1, *x.shape), dtype=x.dtype)
    for n, (_, slope) in enumerate(terms(found, x, degree, slopes=True)):
        slopes[n, ...] = slope
    return slopes


def terms(basis: Basis, x: np.ndarray, degree: int, *, slopes: bool = False) -> Iterator[tuple[Any, Any]]:
    """Each polynomial's values, and its derivatives if asked for, one degree after the other; only two are kept.

    ``x`` has the dtype that `result_dtype` gives it. What comes out is not to be written to.

    Examples
    --------
    >>> for value, slope in terms(get_basis("monomial"), np.array([3]), 3, slopes=True):
    ...     print(value, slope)
    [1] [0]
    [3] [1]
    [9] [6]
    [27] [27]
    """
    before, now = (None, None), (np.ones_like(x), np.zeros_like(x) if slopes else None)
    yield now
    for n in range(degree):
        a, b, c, divisor = _step(basis, n, x.dtype)
        slope = None
        if slopes:
            slope = a * now[0]
            if n:
                slope = slope + _next(x, now[1], a, b, c, before[1])
            slope = _divided(slope, divisor)
        before, now = now, (_divided(_next(x, now[0], a, b, c, before[0]), divisor), slope)
        yield now


def expand(basis: str, x: ArrayLike, degree: int, *, groups: int = 1) -> np.ndarray:
    r"""Expand a batch: each channel becomes ``degree + 1``, the polynomials of a basis.

    .. math:: X[b,\; \text{ch}(\delta, c),\; j] = p_\delta(x[b, c, j]), \qquad \text{ch}(\delta, c) = \delta\,C + c

    So Konvolution is a convolution of the expanded batch, with the weight ``kappa.reshape(C_out, -1, *kernel_size)``.

    Parameters
    ----------
    basis : str
        The name of a basis.
    x : array_like, shape (N, C, *size)
        The batch.
    degree : int
        The last polynomial's.
    groups : int
        The convolution's groups. Each keeps its channels together, so that the same ``groups`` split the expanded
        batch: with ``D = C // groups``, channel ``c`` of group ``g`` goes to ``g (degree + 1) D + delta D + c``.

    Returns
    -------
    ndarray, shape (N, C * (degree + 1), *size)
        With the dtype of `values`.

    Raises
    ------
    TypeError, ValueError
        As `values`; also if ``x`` has fewer than two axes, or if ``groups`` does not divide its channels.

    Examples
    --------
    >>> expand("monomial", [[[2], [3]]], 2)[0, :, 0]
    array([1, 1, 2, 3, 4, 9])
    >>> expand("monomial", [[[2], [3]]], 2, groups=2)[0, :, 0]
    array([1, 2, 4, 1, 3, 9])
    """
    x = geometry.as_array(x, "x")
    groups = geometry.check_expansion(x.shape, groups)
    batch, channels, *size = x.shape
    p = values(basis, x.reshape(batch, groups, channels // groups, *size), degree)
    return np.moveaxis(p, 0, 2).reshape(batch, channels * len(p), *size)


def coefficients(basis: str, degree: int) -> np.ndarray:
    """Return the polynomials of a basis in powers of x, exactly.

    Returns
    -------
    ndarray of Fraction, shape (degree + 1, degree + 1)
        Row ``n`` has the coefficients of :math:`p_n`, the constant first: a lower triangular matrix.

    Raises
    ------
    TypeError, ValueError
        If the basis is unknown, or ``degree`` negative.

    Examples
    --------
    >>> print(coefficients("chebyshev", 3).astype(int))
    [[ 1  0  0  0]
     [ 0  1  0  0]
     [-1  0  2  0]
     [ 0 -3  0  4]]
    """
    found, degree = get_basis(basis), geometry.checked_degree(degree)
    geometry.check_memory(8 * (degree + 1) ** 2, ["degree"])
    rows = np.full((degree + 1, degree + 1), Fraction(0), dtype=object)
    rows[0, 0] = Fraction(1)
    for n in range(degree):
        a, b, c = found.step(n)
        rows[n + 1, 1:] = a * rows[n, :-1]
        rows[n + 1] += b * rows[n]
        if n:
            rows[n + 1] -= c * rows[n - 1]
    return rows


def change_of_basis(source: str, target: str, degree: int) -> np.ndarray:
    r"""Return the matrix that takes coefficients in one basis to those of the same polynomial in another, exactly.

    .. math:: \sum_n \kappa_n\,p^\text{source}_n = \sum_m (A \kappa)_m\,p^\text{target}_m

    Returns
    -------
    ndarray of Fraction, shape (degree + 1, degree + 1)
        Column ``n`` has the coefficients of the source's :math:`p_n` in the target: an upper triangular matrix.

    Raises
    ------
    TypeError, ValueError
        If a basis is unknown, or ``degree`` negative.

    Examples
    --------
    >>> print(change_of_basis("chebyshev", "monomial", 3).astype(int))
    [[ 1  0 -1  0]
     [ 0  1  0 -3]
     [ 0  0  2  0]
     [ 0  0  0  4]]
    """
    for name, basis in (("source", source), ("target", target)):
        geometry.one_of(basis, name, tuple(BASES))
    left, wanted = coefficients(source, degree), coefficients(target, degree)
    matrix = np.full_like(left, Fraction(0))
    for m in reversed(range(degree + 1)):
        matrix[m] = left[:, m] / wanted[m, m]
        left[m:, :m] -= np.multiply.outer(matrix[m, m:], wanted[m, :m])
    return matrix


def convert(kappa: ArrayLike, source: str, target: str, *, axis: int = 1) -> np.ndarray:
    """Return the coefficients of the same functions in another basis.

    Parameters
    ----------
    kappa : array_like
        Coefficients in ``source``; by default ``(C_out, degree + 1, C_in // groups, *kernel_size)``.
    source, target : str
        The names of two bases.
    axis : int
        Which axis of ``kappa`` runs over degrees.

    Returns
    -------
    ndarray, shape of kappa
        With its dtype, in which it is rounded; ``object`` is exact. Integers become float64.

    Raises
    ------
    TypeError, ValueError
        If a basis is unknown, or if ``kappa`` has no such axis.

    Examples
    --------
    >>> convert([[0, 0, 1]], "monomial", "chebyshev")
    array([[0.5, 0. , 0.5]])
    """
    kappa = geometry.as_array(kappa, "kappa")
    degree, axis = geometry.kappa_degree(kappa.shape, axis)
    matrix = change_of_basis(source, target, degree)
    geometry.check_together({"kappa": kappa, "source": matrix})
    dtype = geometry.mean_dtype(kappa.dtype)
    return np.moveaxis(np.tensordot(matrix.astype(dtype), kappa.astype(dtype), (1, axis)), 0, axis)


def condition_number(basis: str, x: ArrayLike, degree: int) -> float:
    r"""Return how ill it is to fit a basis to samples: the condition number of the matrix of its values.

    .. math:: \sigma_\max(V) / \sigma_\min(V), \qquad V[j, n] = p_n(x_j)

    Raises
    ------
    TypeError, ValueError
        As `values`; also if there are fewer samples than polynomials.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 101)
    >>> [round(condition_number(basis, x, 8)) for basis in ("monomial", "chebyshev", "legendre")]
    [531, 3, 4]
    """
    x = geometry.as_array(x, "x")
    geometry.check_ordered(x, "x")
    geometry.check_fits_floats(x, "x")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError("x must be finite for a condition number, got infinity or NaN")
    geometry.check_samples(x.shape, geometry.checked_degree(degree))
    return float(np.linalg.cond(values(basis, x.reshape(-1), degree).T))


def result_dtype(basis: Basis, *arrays: np.ndarray) -> np.dtype:
    """Return the dtype in which arrays and values of a basis go together.

    Examples
    --------
    >>> whole, half = np.array([1, 2]), np.float32(0.5)
    >>> result_dtype(get_basis("chebyshev"), whole), result_dtype(get_basis("legendre"), whole)
    (dtype('int64'), dtype('float64'))
    """
    dtype = np.result_type(*arrays)
    if dtype.kind == "O" and not basis.integral and any(isinstance(n, Decimal) for a in arrays for n in a.flat):
        raise TypeError(f"basis must have integers only, where decimal fractions are, got {basis.name!r}")
    if dtype.kind == "b":
        dtype = np.dtype(np.int64)
    return dtype if basis.integral else geometry.mean_dtype(dtype)


def _arguments(basis: str, x: ArrayLike, degree: int) -> tuple[Basis, int, np.ndarray]:
    found, degree, x = get_basis(basis), geometry.checked_degree(degree), geometry.as_array(x, "x")
    geometry.check_memory((degree + 1) * x.nbytes, ["degree"])
    return found, degree, x.astype(result_dtype(found, x), copy=False)


def _step(basis: Basis, n: int, dtype: np.dtype) -> tuple[Any, Any, Any, Any]:
    """``(a_n, b_n, c_n)`` as numerators over one denominator, which comes last, all as a dtype's numbers."""
    numbers = whole_step(basis, n)
    if dtype.kind == "O":
        return (*numbers[:3], Fraction(numbers[3]))
    return tuple(np.array(numbers).astype(dtype))


def _next(x: np.ndarray, current: Any, a: Any, b: Any, c: Any, before: Any) -> Any:
    """``(a x + b) current - c before``; terms that are nothing are left out, so that none of them is NaN."""
    following = x * current
    if a != 1:
        following *= a
    if b:
        following += b * current
    if c and before is not None:
        following -= c * before
    return following


def _divided(numerator: Any, divisor: Any) -> Any:
    """Last, so that what is exact stays exact: Legendre's values at integers are sums of powers of two."""
    return numerator if divisor == 1 else numerator / divisor
