"""The theorems of chapter 6 on filters that factor, and on filters composed for ever.

Oracles are NumPy's polynomials, layers one after the other, and arithmetic with fractions and with numbers
``p + q sqrt(3)``. See test_strides_theorems.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import Polynomial, polynomial

from konvlib import strides
from tests.engine.test_strides_theorems import both_backends, fractions, layer, sampled

# Which filters factor


@pytest.mark.verifies("eq-strides-phases", box="filters of 1 to 12 taps drawn at random, s from 2 to 5", exact=True)
@sampled
@given(k=st.lists(fractions, min_size=1, max_size=12), z=fractions, s=st.integers(2, 5))
def test_the_phases_put_a_filter_together(k, z, s):
    def value(taps, z):
        return sum((tap * z**m for m, tap in enumerate(taps)), Fraction(0))

    assert value(k, z) == sum(z**r * value(k[r::s], z**s) for r in range(s))


@pytest.mark.verifies("thm-factor", box="pairs of 1 to 7 and 2 to 4 taps drawn at random, s from 2 to 4", exact=True)
@both_backends
@sampled
@given(
    g=st.lists(st.integers(-9, 9), min_size=1, max_size=7).filter(lambda g: g[-1]),
    h=st.lists(st.integers(-9, 9), min_size=2, max_size=4).filter(lambda h: h[0] and h[-1]),
    s=st.integers(2, 4),
)
def test_the_second_filter_divides_every_phase(backend, g, h, s):
    """With the phases of the first as quotients; and what is found is the longest."""
    k = backend.compose(g, h, stride1=s)
    for r in range(s):
        assert polynomial.polymul(g[r::s] or [0], h).tolist() == [*np.trim_zeros(k[r::s], "b")] or not any(g[r::s])
    found_g, found_h = backend.factor(k.astype(object), step=s, same=False)
    assert backend.compose(found_g, found_h, stride1=s).tolist() == k.tolist()
    assert len(found_h) >= len(h)
    rest = divmod(Polynomial(found_h.astype(float)), Polynomial(h))[1].coef
    assert np.abs(rest).max() < 1e-6


def root_of(k: list, first, c: int, s: int) -> list:
    """The recursion of the theorem."""
    g = [first]
    for m in range(1, c):
        g.append((k[m] - sum(g[b] * g[m - s * b] for b in range(1, m // s + 1))) / first)
    return g


SQUARES = [(k, s) for c in range(1, 5) for k in product((-2, 0, 1, 3), repeat=c) for s in (2, 3) if k[0]]


@pytest.mark.verifies(
    "thm-factor",
    "eq-strides-root",
    box=f"filters of 1 to 4 taps -2, 0, 1 or 3 with k[0] not 0, s = 2 and 3: {len(SQUARES):,} cases",
    exact=True,
)
@both_backends
def test_one_filter_twice_is_determined_by_its_first_taps(backend):
    for g, s in SQUARES:
        k = backend.compose(g, g, stride1=s).tolist()
        assert len(k) == (s + 1) * (len(g) - 1) + 1
        assert k[0] == g[0] ** 2
        exact = [Fraction(tap) for tap in k]
        assert root_of(exact, Fraction(g[0]), len(g), s) == list(g)
        assert root_of(exact, Fraction(-g[0]), len(g), s) == [-tap for tap in g]
        changed = [*k[:-1], k[-1] + 1]
        if len(g) > 1:
            assert backend.factor(changed, step=s) is None


@pytest.mark.verifies("thm-factor", box="boxes of 2 to 12 taps, s = 2", exact=True)
@both_backends
def test_boxes(backend):
    for n in range(2, 13):
        pair = backend.factor([1] * n, same=False)
        if n % 2 or n == 2:
            assert pair is None
        else:
            assert [part.tolist() for part in pair] == [[1, 1], [1] * (n // 2)]
        assert (backend.factor([1] * n) is not None) == (n == 4)


# For ever


def phi(taps: list, rounds: int, t: Fraction):
    """The drawing of a cascade's taps at t."""
    place = t * 2**rounds // 1
    return taps[place] if 0 <= place < len(taps) else 0


def cascade(backend, k, rounds: int) -> list:
    return backend.compose_chain([(k, 2)] * rounds).weight.tolist() if rounds else [1]


CASCADES = [(k, rounds) for c in (1, 2, 3) for k in product((-1, 0, 2), repeat=c) for rounds in range(5)]


@pytest.mark.verifies(
    "def-strides-cascade",
    "eq-strides-cascade",
    box=f"filters of 1 to 3 taps -1, 0 or 2, up to 4 rounds: {len(CASCADES)} cases",
    exact=True,
)
def test_the_cascade_is_a_product_of_polynomials():
    for k, rounds in CASCADES:
        expected = np.array([1])
        for j in range(rounds):
            wide = np.zeros(2**j * (len(k) - 1) + 1, dtype=int)
            wide[:: 2**j] = k
            expected = np.convolve(expected, wide)
        taps = cascade(strides, k, rounds)
        assert taps == expected.tolist()
        assert len(taps) == (len(k) - 1) * (2**rounds - 1) + 1
        x = list(range(len(taps) + 2**rounds))
        y = x
        for _ in range(rounds):
            y = layer(y, k, 2)
        assert y == layer(x, taps, 2**rounds)


TIMES = [Fraction(n, 24) for n in range(-24, 97, 5)]


@pytest.mark.verifies(
    "thm-strides-refine",
    "eq-strides-refine",
    box=f"1 to 3 taps -1, 0 or 2, up to 4 rounds, 24 t from -24 to 96 by 5: {len(CASCADES) * len(TIMES):,} cases",
    exact=True,
)
def test_the_cascade_refines():
    for k, rounds in CASCADES:
        taps, more = cascade(strides, k, rounds), cascade(strides, k, rounds + 1)
        for t in TIMES:
            assert phi(more, rounds + 1, t) == sum(tap * phi(taps, rounds, 2 * t - b) for b, tap in enumerate(k))


@pytest.mark.verifies("thm-strides-refine", box="2 to 4 taps drawn at random, up to 3 rounds", exact=True)
@both_backends
@sampled
@given(data=st.data(), rounds=st.integers(0, 3), t=fractions)
def test_shifts_of_a_drawing_add_up_to_one(backend, data, rounds, t):
    c = data.draw(st.integers(2, 4))
    k = data.draw(st.lists(fractions, min_size=c, max_size=c))
    k[0], k[1] = 1 - sum(k[2::2]), 1 - sum(k[3::2])
    taps = cascade(backend, np.array(k, dtype=object), rounds)
    assert sum(phi(taps, rounds, t % 1 + n) for n in range(c)) == 1


class Root3(tuple):
    """A number p + q sqrt(3) with fractions p and q."""

    def __add__(self, other):
        return Root3((self[0] + other[0], self[1] + other[1]))

    def __mul__(self, other):
        return Root3((self[0] * other[0] + 3 * self[1] * other[1], self[0] * other[1] + self[1] * other[0]))


def test_daubechies_scaling_function_at_dyadic_points_without_rounding():
    """The refinement equation holds at whole numbers, and carries sums of one to all finer points."""
    k = [Root3((Fraction(p, 4), Fraction(q, 4))) for p, q in ((1, 1), (3, 1), (3, -1), (1, -1))]
    half, zero = Fraction(1, 2), Root3((Fraction(0), Fraction(0)))
    known = {Fraction(1): Root3((half, half)), Fraction(2): Root3((half, -half))}

    def refined(t):
        total = zero
        for b, tap in enumerate(k):
            total += tap * known.get(2 * t - b, zero)
        return total

    assert [refined(t) for t in (Fraction(1), Fraction(2))] == [*known.values()]
    assert refined(Fraction(1, 2)) == (half, Fraction(1, 4))
    assert refined(Fraction(3, 2)) == (0, 0)
    for rounds in range(1, 5):
        known |= {t: refined(t) for t in (Fraction(n, 2**rounds) for n in range(1, 3 * 2**rounds, 2))}
    for n in range(16):
        t = Fraction(n, 16)
        assert known.get(t, zero) + known.get(t + 1, zero) + known.get(t + 2, zero) == (1, 0)
