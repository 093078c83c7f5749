"""What a kernel makes of a sample before it multiplies it: a polynomial of the squashed sample, and its slope.

Each basis is a three-term recurrence, so no power, no table and no arccos is needed, and slopes are finite everywhere.
``BASIS`` is a name that `konvlib.konvolution.bases` knows, ``SQUASH`` is "none" or "tanh".
"""

from __future__ import annotations

from typing import NamedTuple

from konvlib import runtime
from konvlib.runtime import tl

BASES = ("monomial", "chebyshev", "chebyshev2", "legendre", "hermite")
"""The bases that kernels evaluate; others are changed into one of them."""

SQUASHES = ("none", "tanh")


class Expansion(NamedTuple):
    """What a layer makes of its samples, by degree.

    ``degrees`` are those from 1 on, and ``masked`` says that padding contributes nothing.
    """

    degrees: int = 1
    basis: str = "none"
    squash: str = "none"
    masked: bool = False


PLAIN = Expansion()
"""The samples themselves: an ordinary convolution."""


@runtime.jit()
def squashed(x, SQUASH: tl.constexpr):
    """The sample where the polynomial takes it: exact but for rounding, near zero too, and one for large samples.

    Near zero the exponential cancels, and a series takes its place: in single precision five terms of Taylor's, in
    double the eighth convergent of x / (1 + x^2 / (3 + x^2 / (5 + ...))). What they leave out is less than a rounding.
    """
    if SQUASH == "tanh":
        power = x * x
        t = 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)
        if x.dtype == tl.float64:
            odd = x * (2027025.0 + power * (270270.0 + power * (6930.0 + power * 36.0)))
            even = 2027025.0 + power * (945945.0 + power * (51975.0 + power * (630.0 + power)))
            x = tl.where(tl.abs(x) < 0.625, odd / even, t)
        else:
            rest = -1.0 / 3.0 + power * (2.0 / 15.0 + power * (-17.0 / 315.0 + power * (62.0 / 2835.0)))
            x = tl.where(tl.abs(x) < 0.25, x + x * power * rest, t)
    return x


@runtime.jit()
def next_degree(line, n: tl.constexpr, before, BASIS: tl.constexpr):
    """Degree ``n + 1`` from ``x`` times degree ``n``, or from the derivative of that, and the degree before.

    Divided last, so that what is exact stays exact.
    """
    if BASIS == "monomial":
        return line
    elif BASIS == "legendre":
        return ((2.0 * n + 1.0) * line - n * 1.0 * before) / (n + 1.0)
    elif BASIS == "hermite":
        return line - n * 1.0 * before
    else:
        return 2.0 * line - before


@runtime.jit()
def polynomial(x, DEGREE: tl.constexpr, BASIS: tl.constexpr):
    """The polynomial of a degree, at least 1."""
    before = tl.full(x.shape, 1.0, x.dtype)
    now = 2.0 * x if BASIS == "chebyshev2" else x
    for n in tl.static_range(1, DEGREE):
        after = next_degree(x * now, n, before, BASIS)
        before = now
        now = after
    return now


@runtime.jit()
def expanded(
    x, mask, DEGREE: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    ACC_DTYPE: tl.constexpr,
):  # fmt: skip
    """The polynomial of each sample of a tile that was loaded with ``mask``, evaluated in the dtype of sums.

    Where the mask is not set there is padding, which was loaded as zero. Its polynomial may be another number: with
    ``MASKED`` it is left out.
    """
    p = polynomial(squashed(x.to(ACC_DTYPE), SQUASH), DEGREE, BASIS)
    return (tl.where(mask, p, 0.0) if MASKED else p).to(x.dtype)


@runtime.jit()
def slope(x, DEGREE: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr):
    """The derivative of the polynomial of the squashed sample, by the derivative of the recurrence."""
    t = squashed(x, SQUASH)
    before = tl.full(t.shape, 1.0, t.dtype)
    now = 2.0 * t if BASIS == "chebyshev2" else t
    slope_before = tl.zeros(t.shape, t.dtype)
    slope_now = 2.0 * before if BASIS == "chebyshev2" else before
    for n in tl.static_range(1, DEGREE):
        slope_after = next_degree(now + t * slope_now, n, slope_before, BASIS)
        after = next_degree(t * now, n, before, BASIS)
        before = now
        now = after
        slope_before = slope_now
        slope_now = slope_after
    if SQUASH == "tanh":
        slope_now = slope_now * (1.0 - t * t)
    return slope_now
