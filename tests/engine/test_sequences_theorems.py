"""The theorems of chapter 1, each label by name.

Identities are tested in integers, fractions or integers modulo a prime, with ``==``. Where a statement is about sizes
it is tested for every size in a box. Convolution is bilinear: an identity between bilinear maps that holds on all pairs
of impulses of two lengths holds for all sequences of these lengths (``lem-impulses``), so such a test is a proof for
its box, of every backend that is bilinear. ``test_linear`` tests that they are.

Oracles are NumPy, SciPy, PyTorch, Python's integers, and the definitions written out once more as dictionaries.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise, product
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import polynomial
from scipy import signal
from scipy.integrate import quad

import konvlib
from tests.engine.oracles.sequences import (
    FRACTIONS_BOX,
    IMPULSE_PAIRS,
    PAIR_BOX,
    PAIRS,
    SAMPLES,
    SIZES,
    F,
    G,
    Y,
    both_backends,
    by_index_sum,
    exact,
    fractions,
    impulse,
    integers,
    same,
    sampled,
    sequences,
    shifted,
)

# The definition


@pytest.mark.verifies("def-convolution", "eq-convolution", box=PAIR_BOX, exact=True)
@both_backends
def test_definition(backend):
    assert same(backend.convolve(np.array(F), np.array(G)), Y)
    for n, m, a, b in IMPULSE_PAIRS:
        f, g = impulse(a, n), impulse(b, m)
        sums = by_index_sum(f, g)
        y = backend.convolve(f, g)
        assert y.tolist() == [sums[k] for k in range(n + m - 1)]
        assert same(y, np.convolve(f, g))


@pytest.mark.verifies("def-convolution", "eq-convolution", box=FRACTIONS_BOX, exact=True)
@both_backends
@sampled
@given(f=sequences, g=sequences)
def test_definition_in_fractions(backend, f, g):
    sums = by_index_sum(f, g)
    assert backend.convolve(f, g).tolist() == [sums[k] for k in range(len(f) + len(g) - 1)]


def integral_of_steps(f, g, t: Fraction) -> Fraction:
    """The integral of f(tau) g(t - tau), where f and g are constant on the unit cells from 0 on."""
    total = Fraction(0)
    for (i, a), (j, b) in product(enumerate(f), enumerate(g)):
        overlap = min(Fraction(i + 1), t - j) - max(Fraction(i), t - j - 1)
        total += a * b * max(overlap, Fraction(0))
    return total


@pytest.mark.verifies("def-continuous", "eq-continuous", box=f"N, M up to 8: {len(PAIRS)} cases", exact=True)
@both_backends
def test_continuous_convolution_of_steps_joins_the_discrete_one_by_lines(backend):
    for n, m in PAIRS:
        f, g = integers(n), integers(m, 1)
        corners = np.concatenate([[0], backend.convolve(f, g), [0]])
        assert [integral_of_steps(f, g, Fraction(t)) for t in range(n + m + 1)] == corners.tolist()
        middles = [integral_of_steps(f, g, t + Fraction(1, 2)) for t in range(n + m)]
        assert middles == [Fraction(int(a + b), 2) for a, b in pairwise(corners)]


@pytest.mark.verifies("def-continuous", "eq-continuous", box="two unit boxes and two exponentials, ten t", exact=False)
def test_continuous_convolution_agrees_with_quadrature():
    for t in np.linspace(0.1, 1.9, 10):
        boxes, _ = quad(lambda s: 1.0, max(0, t - 1), min(1, t))  # the integrand is 1 where both boxes are
        assert boxes == pytest.approx(float(integral_of_steps([1], [1], Fraction(t))), abs=1e-12)
        assert boxes == pytest.approx(max(0, 1 - abs(t - 1)), abs=1e-12)
        decays, error = quad(lambda s, t=t: np.exp(-s) * np.exp(-2 * (t - s)), 0, t)
        assert abs(decays - (np.exp(-t) - np.exp(-2 * t))) <= error + 1e-15  # error: quad's own bound


# What may be exchanged


@pytest.mark.verifies("thm-commutative", box=PAIR_BOX, exact=True)
@both_backends
def test_commutative(backend):
    for n, m, a, b in IMPULSE_PAIRS:
        f, g = impulse(a, n), impulse(b, m)
        assert same(backend.convolve(f, g), backend.convolve(g, f))


@pytest.mark.verifies("thm-commutative", box=FRACTIONS_BOX, exact=True)
@both_backends
@sampled
@given(f=sequences, g=sequences)
def test_commutative_in_fractions(backend, f, g):
    assert same(backend.convolve(f, g), backend.convolve(g, f))


TRIPLES = [
    (n, m, k, a, b, c)
    for n, m, k in product(range(1, 5), repeat=3)
    for a, b, c in product(range(n), range(m), range(k))
]


@pytest.mark.verifies(
    "thm-associative", box=f"three lengths up to 4, all triples of impulses: {len(TRIPLES)} cases", exact=True
)
@both_backends
def test_associative(backend):
    for n, m, k, a, b, c in TRIPLES:
        f, g, h = impulse(a, n), impulse(b, m), impulse(c, k)
        left = backend.convolve(backend.convolve(f, g), h)
        assert same(left, backend.convolve(f, backend.convolve(g, h)))
        assert same(left, impulse(a + b + c, n + m + k - 2))


@pytest.mark.verifies("thm-associative", box=FRACTIONS_BOX, exact=True)
@both_backends
@sampled
@given(f=sequences, g=sequences, h=sequences)
def test_associative_in_fractions(backend, f, g, h):
    assert same(backend.convolve(backend.convolve(f, g), h), backend.convolve(f, backend.convolve(g, h)))


def test_associativity_needs_finite_sequences():
    # On a stretch of the integers, away from its ends: (e * d) * u = 0, but e * (d * u) = e.
    e, d, u = np.ones(201, dtype=int), np.array([1, -1]), np.ones(100, dtype=int)
    assert same(konvlib.convolve(e, d, mode="valid"), np.zeros(200))
    assert same(konvlib.convolve(d, u)[:100], impulse(0, 100))


@pytest.mark.verifies("thm-linear", box=FRACTIONS_BOX, exact=True)
@both_backends
@sampled
@given(data=st.data(), a=fractions, b=fractions, g=sequences)
def test_linear(backend, data, a, b, g):
    n = data.draw(st.integers(1, 7))
    f1, f2 = (exact(data.draw(st.lists(fractions, min_size=n, max_size=n))) for _ in range(2))
    first = backend.convolve(a * f1 + b * f2, g)
    assert same(first, a * backend.convolve(f1, g) + b * backend.convolve(f2, g))
    second = backend.convolve(g, a * f1 + b * f2)
    assert same(second, a * backend.convolve(g, f1) + b * backend.convolve(g, f2))


@pytest.mark.verifies("lem-impulses", box=PAIR_BOX, exact=True)
@both_backends
def test_impulses_add_their_indices(backend):
    for n, m, a, b in IMPULSE_PAIRS:
        assert same(backend.convolve(impulse(a, n), impulse(b, m)), impulse(a + b, n + m - 1))
        g = integers(m)
        assert same(backend.convolve(impulse(a, n), g), shifted(g, a, n + m - 1))


@pytest.mark.verifies("lem-impulses", box=f"N, M up to 8: {len(PAIRS)} cases", exact=True)
@both_backends
def test_impulses_decide(backend):
    for n, m in PAIRS:
        f, g = integers(n), integers(m, 1)
        on_impulses = sum(
            f[a] * g[b] * backend.convolve(impulse(a, n), impulse(b, m)) for a in range(n) for b in range(m)
        )
        assert same(backend.convolve(f, g), on_impulses)


def test_impulses_catch_what_a_symmetric_kernel_hides():
    def without_flip(f, g):
        return np.correlate(f, g, "full")

    symmetric = np.array([1, 2, 1])
    assert same(without_flip(np.array(F), symmetric), np.convolve(F, symmetric))
    assert not all(same(without_flip(impulse(2, 5), impulse(b, 3)), impulse(2 + b, 7)) for b in range(3))


# Modes


@pytest.mark.verifies(
    "def-modes",
    "thm-lengths",
    "eq-same-start",
    box=f"N, M up to 12, three modes: {3 * len(SIZES)} cases",
    exact=True,
)
@both_backends
def test_modes_by_counting(backend):
    for n, m in SIZES:
        terms = Counter(i + j for i in range(n) for j in range(m))
        kept = {
            "full": sorted(terms),
            "valid": sorted(k for k in terms if terms[k] == min(n, m)),
        }
        start = (min(n, m) - 1) // 2
        kept["same"] = sorted(terms)[start : start + max(n, m)]
        f, g = integers(n), integers(m, 1)
        full = np.array([by_index_sum(f, g)[k] for k in sorted(terms)])
        for mode, indices in kept.items():
            assert same(backend.convolve(f, g, mode=mode), full[indices])
            assert same(np.convolve(f, g, mode), full[indices])
        assert kept["full"] == list(range(n + m - 1))
        assert kept["valid"] == list(range(min(n, m) - 1, max(n, m)))
        assert len(kept["same"]) == max(n, m)
        before, after = kept["same"][0], n + m - 2 - kept["same"][-1]
        assert (before, after) == (floor((min(n, m) - 1) / 2), -((1 - min(n, m)) // 2))
        assert after - before == (min(n, m) + 1) % 2


@pytest.mark.verifies("def-modes", box=f"N, M up to 12: {len(SIZES)} cases", exact=True)
def test_scipy_keeps_the_size_of_the_first_operand():
    differ = 0
    for n, m in SIZES:
        f, g = integers(n), integers(m, 1)
        full, start = np.convolve(f, g), (m - 1) // 2
        assert same(signal.convolve(f, g, "same"), full[start : start + n])
        differ += len(np.convolve(f, g, "same")) != n
    assert differ == sum(m > n for n, m in SIZES)


# Polynomials and long multiplication


@pytest.mark.verifies(
    "thm-polynomials",
    box=f"lengths up to 8, integers up to 10^12, x a fraction up to 50: {SAMPLES} drawn cases",
    exact=True,
)
@both_backends
@sampled
@given(
    f=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=8),
    g=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=8),
    x=st.fractions(min_value=-50, max_value=50, max_denominator=30),
)
def test_polynomials_multiply_at_every_point(backend, f, g, x):
    def value(coefficients):
        return sum(c * x**n for n, c in enumerate(coefficients))

    assert value(f) * value(g) == value(backend.convolve(exact(f), exact(g)))


@pytest.mark.verifies("thm-polynomials", box=f"N, M up to 8: {len(PAIRS)} cases", exact=True)
@both_backends
def test_polynomials_as_numpy_multiplies_them(backend):
    assert backend.convolve(np.array([1, 2, 3]), np.array([3, 2, 2])).tolist() == [3, 8, 15, 10, 6]
    for n, m in PAIRS:
        f, g = abs(integers(n)) + 1, abs(integers(m, 1)) + 1  # polymul would trim zeros at the end
        assert same(backend.convolve(f, g), polynomial.polymul(f, g))


def digits_of(number: int, base: int) -> list[int]:
    digits = [number % base]
    while number := number // base:
        digits.append(number % base)
    return digits


def carry(values, base: int) -> list[int]:
    digits, rest = [], 0
    for value in values:
        rest, digit = divmod(int(value) + rest, base)
        digits.append(digit)
    while rest:
        rest, digit = divmod(rest, base)
        digits.append(digit)
    while len(digits) > 1 and digits[-1] == 0:
        digits.pop()
    return digits


TWO_DIGITS = list(product(range(100), range(0, 100, 7)))


@pytest.mark.verifies(
    "thm-integers", box=f"base 10, 0 to 99 times 0, 7, 14 and so on to 98: {len(TWO_DIGITS)} cases", exact=True
)
@both_backends
def test_long_multiplication(backend):
    for a, b in TWO_DIGITS:
        y = backend.convolve(np.array(digits_of(a, 10)), np.array(digits_of(b, 10)))
        assert sum(int(v) * 10**n for n, v in enumerate(y)) == a * b
        assert carry(y, 10) == digits_of(a * b, 10)


@pytest.mark.verifies(
    "thm-integers", box=f"integers up to 10^60, bases 2, 3, 10, 16, 1000: {SAMPLES} drawn cases", exact=True
)
@both_backends
@sampled
@given(a=st.integers(0, 10**60), b=st.integers(0, 10**60), base=st.sampled_from([2, 3, 10, 16, 1000]))
def test_long_multiplication_of_long_numbers(backend, a, b, base):
    y = backend.convolve(exact(digits_of(a, base)), exact(digits_of(b, base)))
    assert carry(y, base) == digits_of(a * b, base)
