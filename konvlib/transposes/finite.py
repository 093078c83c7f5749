"""Infinities and NaNs in sums of products: where the definition has them, however the products are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EXACT = 1 << 24
"""Up to which product of numbers of ones a transform in singles counts their pairs to within far less than one half."""

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def bilinear(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``product(a, b)``, sums of products of the two, with infinities and NaNs where these sums have them.

    A transform spreads them, and a zero of the padding times infinity is NaN. So ``product`` gets finite operands only,
    and what is not finite is counted: a sum in which it has no part stays; one all of whose terms that are not finite
    are infinities of one sign is that infinity; and any other is NaN.

    Examples
    --------
    >>> bilinear(np.convolve, np.array([1.0, np.inf, 2.0]), np.array([1.0, -1.0]))
    array([  1.,  inf, -inf,  -2.])
    """
    if a.dtype.char not in "fdFD":
        return product(a, b)
    if a.dtype.kind == "f" or (np.isfinite(a).all() and np.isfinite(b).all()):
        return _real(product, a, b) if a.dtype.kind == "f" else product(a, b)
    with np.errstate(invalid="ignore"):
        real = _real(product, a.real, b.real) - _real(product, a.imag, b.imag)
        imaginary = _real(product, a.real, b.imag) + _real(product, a.imag, b.real)
    y = np.empty(real.shape, dtype=a.dtype)
    y.real, y.imag = real, imaginary
    return y


def _real(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same for real operands: ``counted`` terms are not finite, and as many are infinities, less those below 0."""
    finite = np.isfinite(a), np.isfinite(b)
    if finite[0].all() and finite[1].all():
        return product(a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        y = product(*(np.where(good, each, each.dtype.type(0)) for good, each in zip(finite, (a, b), strict=True)))
        counted = signed = np.zeros(y.shape, np.float32)
        if not finite[0].all():
            counted = counted + _terms(product, ~finite[0], np.ones(b.shape))
            if np.isinf(a).any():
                signed = signed + _terms(product, _sign_of_infinity(a), np.nan_to_num(np.sign(b)))
        if not finite[1].all():
            counted = counted + _terms(product, np.ones(a.shape), ~finite[1])
            if np.isinf(b).any():
                signed = signed + _terms(product, np.nan_to_num(np.sign(a)), _sign_of_infinity(b))
        touched = counted > 0
        signed = signed[touched]
        y[touched] = np.where(np.abs(signed) == counted[touched], np.copysign(np.inf, signed), np.nan)
    return y


def _sign_of_infinity(a: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(a), np.sign(a), 0)


def _terms(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A count of terms, which a transform leaves next to it: in singles, if so few are not zero that they suffice."""
    dtype = np.float32 if np.count_nonzero(a) * np.count_nonzero(b) < EXACT else np.float64
    return np.rint(product(a.astype(dtype), b.astype(dtype)))
