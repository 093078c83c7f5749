"""Samples that are not finite, apart from the others: what their products add up to, in each value of a convolution.

A transform would spread them over a whole row. So they are set to zero before it, and their share is added afterwards:
NaN, an infinity, or zero. The share is counted: how many products with an infinite sample are positive, how many
negative, and how many of all products with such a sample are NaN. Counts are convolutions of zeros and ones, so they
cost no more than some further transforms, however many samples are not finite. The functions serve arrays and tensors;
``xp`` is numpy or torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np


def cleaned(xp: ModuleType, a: Any) -> Any:
    """Return an array with zeros where it is not finite.

    Examples
    --------
    >>> cleaned(np, np.array([1.0, np.nan, -np.inf]))
    array([1., 0., 0.])
    """
    return xp.where(xp.isfinite(a), a, xp.zeros_like(a))


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


def shares(
    xp: ModuleType, f: Any, g: Any, count: Callable[[Any, Any], Any], met: Callable[[Any, bool], Any]
) -> tuple[Any, ...]:
    """Return what the products with samples of f and g that are not finite add up to: the real, and an imaginary part.

    They are apart because complex sums, as libraries compute them, are NaN in both parts if one is infinite.

    Parameters
    ----------
    f, g : array
        The operands, both real or both complex.
    count : function
        Gives the convolution of two arrays of -1, 0 and 1, the first with few others than 0, with an error below 1/4.
    met : function
        ``met(places, first)`` counts, for each value, the products whose factor from one operand stands in these
        places: from the first operand if ``first``, else from the second.

    Examples
    --------
    >>> f, g = np.array([np.inf, 1, 2]), np.array([-1.0, 0, np.nan])
    >>> full = lambda places, first: np.convolve(places.astype(int), np.ones(3, int))
    >>> shares(np, f, g, np.convolve, full)
    (array([-inf,  nan,  nan,  nan,  nan]),)
    """
    if not xp.is_complex(f) if hasattr(xp, "is_complex") else f.dtype.kind != "c":
        return (_share(xp, [(f, g, 1)], count, met),)
    real = _share(xp, [(f.real, g.real, 1), (f.imag, g.imag, -1)], count, met)
    return real, _share(xp, [(f.real, g.imag, 1), (f.imag, g.real, 1)], count, met)


def _share(xp: ModuleType, pairs: list[tuple[Any, Any, int]], count: Any, met: Any) -> Any:
    """The same for a sum of real convolutions with signs."""
    undefined: Any = 0
    counted: Any = 0
    signed: Any = 0
    for f, g, sign in pairs:
        for first, (bad, other) in ((True, (f, g)), (False, (g, f))):
            if xp.isfinite(bad).all():
                continue
            undefined = undefined + met(~xp.isfinite(bad), first)
            infinite = xp.where(xp.isinf(bad), xp.sign(bad), xp.zeros_like(bad))
            signs = xp.sign(xp.nan_to_num(other))
            if infinite.any() and signs.any():
                # Products of an infinity with what is neither zero nor NaN are infinite, all others are NaN.
                products = count(abs(infinite), abs(signs))
                counted, undefined = counted + products, undefined - products
                signed = signed + sign * count(infinite, signs)
    counted = xp.zeros_like(undefined) + counted
    positive, negative = counted + signed > 1, counted - signed > 1  # each counted twice
    y = xp.zeros_like(undefined, dtype=pairs[0][0].dtype)
    y = xp.where(negative, y - math.inf, xp.where(positive, y + math.inf, y))
    return xp.where((undefined > 0.5) | (positive & negative), y + math.nan, y)
