"""Which filters are two layers in one: factors of a polynomial, the second in a power of its variable."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, isqrt, lcm, sqrt
from typing import Any

import numpy as np

from konvlib.geometry import check_taps


def factor(k: np.ndarray, step: int, same: bool, tolerance: float | None) -> tuple[np.ndarray, np.ndarray] | None:
    r"""Split a filter in two, the second dilated by ``step``: what all backends share. It checks the filter's values.

    .. math:: k[m] = \sum_b g[m - s\,b]\; h[b], \qquad K(z) = G(z)\, H(z^s)

    Examples
    --------
    >>> factor(np.array([1, 2, 2, 4]), 2, True, None)
    (array([1, 2]), array([1, 2]))
    """
    check_taps(k)
    exact = k.dtype.kind not in "fc"
    if exact:
        taps, error = [Fraction(tap if k.dtype == object else int(tap)) for tap in k], 0
    else:
        relative = sqrt(np.finfo(k.dtype).eps) if tolerance is None else tolerance
        taps = k.astype(np.complex128 if k.dtype.kind == "c" else np.float64)
        error = relative * np.abs(taps).max()
    with np.errstate(all="ignore"):
        if same:
            pair = _same(list(taps), step, error)
        else:
            pair = _exact_pair(taps, step) if exact else _near_pair(taps, step, error)
    if pair is None:
        return None
    return tuple(_numbers(each, k.dtype.kind == "O") if exact else np.array(each, dtype=k.dtype) for each in pair)


def _same(k: list, step: int, error: float) -> tuple[list, list] | None:
    r"""Both filters the same: one tap after the other, from ``k[m] = g[0] g[m] + \sum_{b \ge 1} g[b] g[m - s b]``."""
    lead = next(place for place, tap in enumerate(k) if abs(tap) > error)
    zeros, uneven = divmod(lead, step + 1)
    count, odd = divmod(len(k) - 1, step + 1)
    if uneven or odd or (not isinstance(k[lead], complex) and k[lead] < 0):
        return None
    ratios, g = [tap / k[lead] for tap in k[lead:]], [1]
    for m in range(1, count + 1 - zeros):
        g.append(ratios[m] - sum(g[b] * g[m - step * b] for b in range(1, m // step + 1)))
    g = [0 * ratios[0]] * zeros + g
    if any(not abs(k[lead] * tap - wanted) <= error for tap, wanted in zip(_compose(g, g, step), k, strict=True)):
        return None
    root = _root(k[lead])
    return ([root * tap for tap in g],) * 2


def _root(value: Any) -> Any:
    """The square root, a fraction where it is one."""
    if not isinstance(value, Fraction):
        return np.sqrt(value)
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    return root if root**2 == value else sqrt(value)


def _compose(g: list, h: list, step: int) -> list:
    k = [0] * (len(g) + step * (len(h) - 1))
    for a, first in enumerate(g):
        for b, second in enumerate(h):
            k[a + step * b] += first * second
    return k


def _exact_pair(k: list[Fraction], step: int) -> tuple[list, list] | None:
    """The longest second filter is the greatest common divisor of the phases ``k[r::step]``; here of whole numbers."""
    phases = [k[r::step] for r in range(step)]
    h: list[Fraction] = []
    for phase in phases:
        h = _common_divisor(h, phase)
    if len(h) < 2:
        return None
    whole = lcm(*(tap.denominator for tap in h))
    content = Fraction(gcd(*(int(tap * whole) for tap in h)), whole)
    sign = 1 if next(filter(None, h)) > 0 else -1
    h = [tap / content * sign for tap in h]
    g = [Fraction(0)] * (len(k) - step * (len(h) - 1))
    for r, phase in enumerate(phases):
        for place, tap in enumerate(_divide(phase, h)[0]):
            g[r + step * place] = tap
    return g, h


def _common_divisor(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
    """A greatest common divisor of two polynomials, lowest power first, by Euclid; the zero polynomial is empty."""
    p, q = _trimmed(p), _trimmed(q)
    while q:
        p, q = q, _trimmed(_divide(p, q)[1])
    return p


def _divide(p: list[Fraction], q: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """Quotient and remainder of polynomials; the last tap of ``q`` is not zero."""
    p, quotient = _trimmed(p), []
    for place in range(len(p) - len(q), -1, -1):
        quotient.append(p[place + len(q) - 1] / q[-1])
        for power, tap in enumerate(q):
            p[place + power] -= quotient[-1] * tap
    return quotient[::-1], p


def _trimmed(p: list[Fraction]) -> list[Fraction]:
    """Without zeros at the end."""
    return p[: max((place + 1 for place, tap in enumerate(p) if tap), default=0)]


def _near_pair(k: np.ndarray, step: int, error: float) -> tuple[np.ndarray, np.ndarray] | None:
    r"""The longest second filter in floats: each length is tried.

    With phases ``K_r = G_r H``, the largest of them ``K_q``, the taps of ``g`` solve ``K_q G_r - K_r G_q = 0``: they
    are the singular vector of the least singular value. Then ``h`` is the least squares solution.
    """
    zeros = len(k) - len(np.trim_zeros(k, "b"))
    k = k[: len(k) - zeros]
    phases = np.append(k, np.zeros(-len(k) % step)).reshape(-1, step).T
    q = int(np.argmax(np.linalg.norm(phases, axis=1)))
    for n in range(1, phases.shape[1]):
        shifts = [_shifts(phase, n) for phase in phases]
        equations = np.kron(np.eye(step), shifts[q])
        equations[:, q * n : (q + 1) * n] -= np.concatenate(shifts)
        vector = np.linalg.svd(equations, full_matrices=False)[2][-1].conj()
        taps = phases.shape[1] - n + 1
        g = vector.reshape(step, n).T.ravel()[: len(k) - step * (taps - 1)]
        by_h = _shifts(g, taps, step)
        h = np.linalg.lstsq(by_h, k)[0]
        if np.abs(by_h @ h - k).max() <= error:
            largest = h[np.argmax(np.abs(h))]
            return np.append(g * largest, np.zeros(zeros)), h / largest
    return None


def _shifts(taps: np.ndarray, count: int, step: int = 1) -> np.ndarray:
    """A matrix whose columns are the same taps, ``step`` lower from column to column."""
    matrix = np.zeros((len(taps) + step * (count - 1), count), dtype=taps.dtype)
    for column in range(count):
        matrix[column * step : column * step + len(taps), column] = taps
    return matrix


def _numbers(taps: list, objects: bool) -> np.ndarray:
    """Integers as integers, also where the filter had fractions; floats where a root is irrational."""
    if any(isinstance(tap, float) for tap in taps):
        return np.array(taps, dtype=np.float64)
    whole = [Fraction(tap) for tap in taps]
    whole = [tap.numerator if tap.denominator == 1 else tap for tap in whole]
    return np.array([*whole, None], dtype=object)[:-1] if objects else np.array(whole)
