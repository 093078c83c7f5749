"""Convolutions of operands that may hold NaN or infinity: what is not finite stays where the definition has it.

A transform would spread it over a whole row, a column that serves several outputs to all of them, and a zero of the
padding times infinity is NaN. So the product is computed with zeros in its place, and its share is put back by
counting: in how many terms of each value a sample that is not finite is a factor, and how many of these are infinities
of either sign. Counts are convolutions of -1, 0 and 1, so they cost no more than some further products, however many
samples are not finite.

It stands beside the chapters because several need it and none before the others. ``xp`` is numpy or torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

EXACT = 1 << 24
"""Up to which product of numbers of ones a transform in singles counts their pairs to within far less than one half."""

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]
Count = Callable[[Any, Any, bool], Any]


def bilinear(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``product(a, b)``, sums of products of the two, with infinities and NaNs where these sums have them.

    Examples
    --------
    >>> bilinear(np.convolve, np.array([1.0, np.inf, 2.0]), np.array([1.0, -1.0]))
    array([  1.,  inf, -inf,  -2.])
    """
    if a.dtype.char not in "fdFD" or (np.isfinite(a).all() and np.isfinite(b).all()):
        return product(a, b)

    def count(bad: np.ndarray, signs: np.ndarray | None, first: bool) -> np.ndarray:
        signs = np.ones((b if first else a).shape) if signs is None else signs
        dtype = np.float32 if np.count_nonzero(bad) * np.count_nonzero(signs) < EXACT else np.float64
        bad, signs = bad.astype(dtype), signs.astype(dtype)
        return np.rint(product(bad, signs) if first else product(signs, bad))

    with np.errstate(over="ignore", invalid="ignore"):
        y = product(cleaned(np, a), cleaned(np, b))
        for part, hit, share in shares(np, y, a, b, count):
            part[hit] = share
    return y


def cleaned(xp: ModuleType, a: Any) -> Any:
    """Return an array with zeros where it is not finite; itself if it is.

    Examples
    --------
    >>> cleaned(np, np.array([1.0, np.nan, -np.inf]))
    array([1., 0., 0.])
    """
    good = xp.isfinite(a)
    return a if good.all() else xp.where(good, a, 0)


def shares(xp: ModuleType, y: Any, a: Any, b: Any, count: Count) -> Iterator[tuple[Any, Any, Any]]:
    """Yield, of each part of ``y``, where a term is not finite, and what such terms add up to there.

    It is an infinity if all of them are infinities of its sign, and else NaN. A complex ``y`` has a real and an
    imaginary part, apart because complex sums, as libraries compute them, are NaN in both if one is infinite.

    Parameters
    ----------
    y : array
        The product of the cleaned operands; its parts are views.
    a, b : array
        The operands, one of them not finite.
    count : function
        ``count(bad, signs, first)`` gives the product of two arrays of -1, 0 and 1, without an error; all of the second
        are 1 if it is None. The first stands for ``a`` if ``first``, and else for ``b``.

    Examples
    --------
    >>> f, g = np.array([np.inf, 1, 2]), np.array([-1.0, 0, np.nan])
    >>> count = lambda bad, signs, first: np.convolve(bad, np.ones(3, int) if signs is None else signs)
    >>> for part, hit, share in shares(np, np.zeros(5), f, g, count):
    ...     print(hit, share)
    [ True  True  True  True  True] [-inf  nan  nan  nan  nan]
    """
    if y.is_complex() if xp is not np else np.iscomplexobj(y):
        yield y.real, *_share(xp, [(a.real, b.real, 1), (a.imag, b.imag, -1)], count)
        yield y.imag, *_share(xp, [(a.real, b.imag, 1), (a.imag, b.real, 1)], count)
    else:
        yield y, *_share(xp, [(a, b, 1)], count)


def _share(xp: ModuleType, pairs: list[tuple[Any, Any, int]], count: Count) -> tuple[Any, Any]:
    """The same for a sum of real products with signs."""
    each = [(bad, other, first, sign) for a, b, sign in pairs for bad, other, first in ((a, b, True), (b, a, False))]
    each = [row for row in each if not xp.isfinite(row[0]).all()]
    terms: Any = sum([count(~xp.isfinite(bad), None, first) for bad, _, first, _ in each])
    hit = terms > 0
    terms = terms[hit]
    signed = 0 * terms
    for bad, other, first, sign in each:
        if xp.isinf(bad).any():
            # What is neither zero nor NaN makes an infinity an infinity again; all other products with it are NaN.
            signed = signed + sign * count(_signs(xp, bad) * xp.isinf(bad), _signs(xp, other), first)[hit]
    return hit, xp.where(abs(signed) == terms, xp.where(signed > 0, math.inf, -math.inf), math.nan)


def _signs(xp: ModuleType, a: Any) -> Any:
    """-1, 0 or 1 for each sample; 0 for NaN."""
    return xp.asarray(a > 0, dtype=xp.int8) - xp.asarray(a < 0, dtype=xp.int8)


def window_counts(places: np.ndarray, others: int, start: int, length: int) -> np.ndarray:
    """Return with how many entries of other sequences, all in these places, each value of a window is summed.

    Value ``i`` of the full convolution has the products of entries ``i - others + 1`` to ``i`` of either operand.

    Examples
    --------
    >>> window_counts(np.array([False, True, False, True]), 3, 0, 6).tolist()
    [0, 1, 1, 2, 1, 1]
    """
    size = places.shape[-1]
    until = np.cumsum(places, axis=-1, dtype=np.int32 if size < 2**31 else np.int64)
    full = np.empty((*places.shape[:-1], size + others - 1), until.dtype)
    full[..., :size], full[..., size:] = until, until[..., -1:]
    full[..., others:] -= until[..., :-1]
    return full[..., start : start + length]
