"""Infinities and NaNs in sums of products: where the definition has them, however the products are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
    if a.dtype.char not in "fdFD" or (np.isfinite(a).all() and np.isfinite(b).all()):
        return product(a, b)
    if a.dtype.kind == "f":
        return _real(product, a, b)
    with np.errstate(invalid="ignore"):
        real = _real(product, a.real, b.real) - _real(product, a.imag, b.imag)
        imaginary = _real(product, a.real, b.imag) + _real(product, a.imag, b.real)
    y = np.empty(real.shape, dtype=a.dtype)
    y.real, y.imag = real, imaginary
    return y


def _real(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same for real operands: ``counted`` terms are not finite, and as many are infinities, less those below 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        y = product(*(np.where(np.isfinite(each), each, each.dtype.type(0)) for each in (a, b)))
        counted = signed = np.zeros(1)
        for first, second, swapped in ((a, b, False), (b, a, True)):
            if np.isfinite(first).all():
                continue
            for infinite, other, is_sign in (
                (~np.isfinite(first), np.ones(second.shape), False),
                (np.where(np.isinf(first), np.sign(first), 0), np.nan_to_num(np.sign(second)), True),
            ):
                pair = infinite.astype(np.float64), other.astype(np.float64)
                terms = np.rint(product(*(pair[::-1] if swapped else pair)))
                counted, signed = (counted, signed + terms) if is_sign else (counted + terms, signed)
    touched = np.broadcast_to(counted > 0, y.shape)
    y[touched] = np.where(np.abs(signed) == counted, np.copysign(np.inf, signed), np.nan)[touched]
    return y
