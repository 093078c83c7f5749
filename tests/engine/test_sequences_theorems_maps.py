"""The theorems of chapter 1 on correlation, on linear shift-invariant maps and on the integral, by label.

See test_sequences_theorems.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import floor, log2, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy.integrate import quad

import konvlib
from konvlib import geometry
from tests.engine.oracles.sequences import (
    IMPULSE_PAIRS,
    PAIR_BOX,
    SAMPLES,
    SIZES,
    F,
    G,
    both_backends,
    by_index_sum,
    definition,
    exact,
    gaussian_integers,
    impulse,
    same,
    sampled,
    shifted,
)

# Cross-correlation

UNITS = [(1, 1), (1, 1j), (1j, 1), (1j, 1j)]
COMPLEX_IMPULSES = [(*case, u, v) for case in IMPULSE_PAIRS if max(case[:2]) <= 6 for u, v in UNITS]
COMPLEX_BOX = f"N, M up to 6, all pairs of impulses times 1 and i: {len(COMPLEX_IMPULSES)} cases"


@pytest.mark.verifies("def-correlation", "eq-correlation", box=COMPLEX_BOX, exact=True)
@both_backends
def test_correlation(backend):
    assert backend.correlate(np.array(F), np.array(G)).tolist() == [3, 8, 0]
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        sums = by_index_sum(f, np.conj(g), sign=-1)
        c = backend.correlate(f, g, mode="full")
        assert c.tolist() == [sums[k] for k in range(-(m - 1), n)]
        assert same(c, np.correlate(f, g, "full"))


@pytest.mark.verifies("def-correlation", box=f"N, M up to 12, three modes: {3 * len(SIZES)} cases", exact=True)
@both_backends
def test_conventions_of_numpy_and_scipy(backend):
    for n, m in SIZES:
        f, g = gaussian_integers(n), gaussian_integers(m, 7)
        sums = by_index_sum(f, np.conj(g), sign=-1)
        lags = list(range(-(m - 1), n))
        full = np.array([sums[k] for k in lags])
        assert signal.correlation_lags(n, m, "full").tolist() == lags
        assert same(signal.correlate(f, g, "full", "direct"), full)
        assert same(signal.correlate(f, g, "same", "direct"), full[(m - 1) // 2 :][:n])
        for mode in geometry.MODES:
            assert same(backend.correlate(f, g, mode=mode), np.correlate(f, g, mode))
            start, length = geometry.correlation_window(n, m, mode)
            assert same(np.correlate(f, g, mode), full[start : start + length])
        if n >= m:
            valid = [k for k in lags if 0 <= k <= n - m]
            assert same(backend.correlate(f, g, mode="valid"), [sums[k] for k in valid])


def test_a_layer_correlates_without_the_bar():
    f, g = gaussian_integers(9), gaussian_integers(4, 7)
    layer = torch.nn.functional.conv1d(torch.tensor(f)[None, None], torch.tensor(g)[None, None])[0, 0].numpy()
    assert same(layer, definition.correlate(f, np.conj(g)))
    assert not same(layer, definition.correlate(f, g))


@pytest.mark.verifies("def-correlation", box="delays 0 to 5 of a pattern of 3", exact=True)
@both_backends
def test_a_positive_lag_is_a_delay_of_the_first_operand(backend):
    for delay in range(6):
        full = backend.correlate(shifted(G, delay, 8), np.array(G), mode="full")
        assert np.argmax(full) - (len(G) - 1) == delay


@pytest.mark.verifies("def-correlation", box="(1, i) with itself", exact=True)
def test_the_bar_makes_a_sequence_agree_with_itself():
    w = np.array([1, 1j])
    assert definition.correlate(w, w).tolist() == [2]
    assert definition.correlate(w, np.conj(w)).tolist() == [0]


@pytest.mark.verifies("thm-correlation-as-convolution", box=COMPLEX_BOX, exact=True)
@both_backends
def test_correlation_as_convolution(backend):
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        c = backend.correlate(f, g, mode="full")
        assert same(c, backend.convolve(f, np.conj(g[::-1])))
        assert {i - (m - 1): x for i, x in enumerate(c) if x} == {a - b: u * np.conj(v)}


@pytest.mark.verifies("thm-correlation-swap", box=COMPLEX_BOX, exact=True)
@both_backends
def test_correlation_swap(backend):
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        there, back = backend.correlate(f, g, mode="full"), backend.correlate(g, f, mode="full")
        assert same(back, np.conj(there[::-1]))


@both_backends
def test_correlation_neither_commutes_nor_associates(backend):
    f, g, h = np.array(F), np.array(G), np.array([1, 0, -2, 5])

    def correlate(a, b):
        return backend.correlate(a, b, mode="full")

    assert not same(correlate(f, g), correlate(g, f))
    left = correlate(correlate(f, g), h)
    assert not same(left, correlate(f, correlate(g, h)))
    assert same(left, correlate(f, backend.convolve(g, h)))


# Every linear, shift-invariant map

STRETCHES = [(n, w) for n in range(1, 7) for w in range(1, 9)]


@pytest.mark.verifies(
    "def-shift-invariant",
    "thm-lsi",
    box=f"inputs of length up to 6 seen through windows of length up to 8, all matrices: {len(STRETCHES)} cases",
    exact=True,
)
@both_backends
def test_every_shift_invariant_matrix_is_a_convolution(backend):
    """A linear map seen through a window is a matrix; shift invariance says that entries (k, m) and (k+1, m+1) agree.

    These equations leave one free number per class of entries that must agree. Each class is found by joining, and
    the matrix that is 1 on it, 0 elsewhere, is the convolution with an impulse, seen through the window. So the
    convolutions span all solutions.
    """
    for n, w in STRETCHES:
        classes = {(k, m): (k, m) for k in range(w) for m in range(n)}
        for k, m in product(range(w - 1), range(n - 1)):
            old, new = classes[k + 1, m + 1], classes[k, m]
            classes = {entry: new if name == old else name for entry, name in classes.items()}
        names = set(classes.values())
        assert len(names) == n + w - 1
        for name in names:
            matrix = np.array([[int(classes[k, m] == name) for m in range(n)] for k in range(w)])
            h = impulse(name[0] - name[1] + n - 1, n + w - 1)  # from index -(n-1) on
            columns = [backend.convolve(impulse(m, n), h)[n - 1 : n - 1 + w] for m in range(n)]
            assert same(matrix, np.array(columns).T)


@pytest.mark.verifies("def-shift-invariant", "thm-lsi", box=PAIR_BOX, exact=True)
@both_backends
def test_convolutions_are_shift_invariant(backend):
    for n, m, a, b in IMPULSE_PAIRS:
        f, h = impulse(a, n), impulse(b, m)
        for k in range(3):
            later = backend.convolve(shifted(f, k, n + k), h)
            assert same(later, shifted(backend.convolve(f, h), k, n + m - 1 + k))


@pytest.mark.verifies(
    "thm-lsi", box=f"up to five steps, inputs of length up to 6, 24 samples seen: {SAMPLES} drawn cases", exact=True
)
@both_backends
@sampled
@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5), st.booleans()), min_size=1, max_size=5),
    f=st.lists(st.integers(-20, 20), min_size=1, max_size=6),
)
def test_a_system_is_known_by_its_impulse_response(backend, steps, f):
    """Systems made of delays, gains, sums and running totals; none of them computed by a convolution."""

    def system(x):
        for delay, gain, total in steps:
            x = x + gain * np.concatenate([np.zeros(delay, dtype=x.dtype), x])[: len(x)]
            x = np.cumsum(x) if total else x
        return x

    stretch = 24
    x = exact(f + [0] * (stretch - len(f)))
    response = system(exact([1] + [0] * (stretch - 1)))
    assert same(system(x), backend.convolve(exact(f), response)[:stretch])


def test_maps_that_are_no_convolutions():
    f, g = np.array([1, 3, 2, 0, 4, 0]), np.array([0, 2, 1, -1, -2, 0])

    def maximum(x):
        return np.maximum(x, np.concatenate([[0], x[:-1]]))

    def times_index(x):
        return np.arange(len(x)) * x

    later = np.concatenate([[0], f[:-1]])
    assert not same(maximum(f + g), maximum(f) + maximum(g))
    assert same(maximum(later), np.concatenate([[0], maximum(f)[:-1]]))
    assert same(times_index(f + g), times_index(f) + times_index(g))
    assert not same(times_index(later), np.concatenate([[0], times_index(f)[:-1]]))


# From the integral to the sum


def spline(degree: int, nodes: list[Fraction], jumps: list[Fraction], x: Fraction) -> Fraction:
    """The piecewise polynomial whose derivative number ``degree`` jumps at the nodes and is 0 before them."""
    factorial = 1 if degree < 2 else 2
    terms = (J * (x - node) ** degree / factorial for node, J in zip(nodes, jumps, strict=True) if x >= node)
    return sum(terms, Fraction(0))


def riemann_error(degree, nodes, jumps, h, closed) -> Fraction:
    """h times the sum of the samples, minus the integral, both exact; ``closed`` counts a sample at the last node."""
    end = nodes[-1]
    integral = sum(
        (J * (end - node) ** (degree + 1) / (1, 2, 6)[degree] for node, J in zip(nodes, jumps, strict=True)),
        Fraction(0),
    )
    samples = Fraction(0)
    for m in range(floor(nodes[0] / h), floor(end / h) + 1):
        if m * h < end:
            samples += spline(degree, nodes, jumps, m * h)
        elif closed:
            samples += spline(degree, nodes[:-1], jumps[:-1], m * h)
    return h * samples - integral


def vanishing(degree: int, nodes: list[Fraction]) -> list[Fraction]:
    """Jumps at ``degree + 2`` nodes for which the spline is 0 after the last: divided differences."""
    return [
        Fraction(1) / np.prod([node - other for other in nodes if other != node], initial=Fraction(1)) for node in nodes
    ]


GRID = [Fraction(k, 7) for k in range(-3, 11, 2)]
SPLINES = [
    (degree, nodes, h, closed)
    for degree in (0, 1, 2)
    for nodes in ([*first] for first in product(GRID, repeat=degree + 2) if list(first) == sorted(set(first)))
    for h in (Fraction(1, 3), Fraction(1, 7), Fraction(2, 5), Fraction(3, 2))
    for closed in (False, True)
]
SQUARED_CONSTANTS = [Fraction(1, 4), Fraction(1, 144), Fraction(3, 216**2)]


@pytest.mark.verifies(
    "thm-riemann",
    "eq-riemann",
    box=f"p = 1, 2, 3, splines on nodes k/7, four steps: {len(SPLINES)} cases",
    exact=True,
)
def test_riemann_bound():
    """Squared, since c_3 is irrational. A spline of degree p - 1 has p - 1 derivatives, the last with jumps."""
    largest = [Fraction(0)] * 3
    for degree, nodes, h, closed in SPLINES:
        jumps = vanishing(degree, nodes)
        error, variation = riemann_error(degree, nodes, jumps, h, closed), sum(abs(J) for J in jumps)
        ratio = error**2 / (variation * h ** (degree + 1)) ** 2
        assert ratio <= SQUARED_CONSTANTS[degree]
        largest[degree] = max(largest[degree], ratio / SQUARED_CONSTANTS[degree])
    assert largest[0] == 1  # attained, so that no smaller c_1 would do
    assert min(largest) > Fraction(1, 4)  # and c_2, c_3 could not be halved


@pytest.mark.verifies(
    "thm-riemann", "eq-riemann", box="p = 1, 2, 3: the maximum over 60001 points of a period", exact=False
)
def test_riemann_constants():
    """c_p is the maximum of |P_p|; the grid has a node where it is attained, or one so near that 1e-7 covers it."""
    u = np.arange(60_001) / 60_000
    assert max(abs(u - 1 / 2)) == 1 / 2
    assert max(abs(u**2 - u + 1 / 6)) / 2 == pytest.approx(1 / 12, abs=1e-15)
    assert max(abs(u**3 - 3 / 2 * u**2 + u / 2)) / 6 == pytest.approx(sqrt(3) / 216, abs=1e-7)


BOXES = [(length, steps) for length in range(1, 4) for steps in range(1, 9)]


@pytest.mark.verifies(
    "thm-riemann", box=f"boxes of length 1 and up to 3, h = 1, 1/2, 1/4, 1/8: {len(BOXES)} cases", exact=True
)
@both_backends
def test_boxes_are_one_step_off(backend):
    """Two boxes, both ends sampled: at every t at which one lies wholly in the other the error is h exactly."""
    for length, steps in BOXES:
        h = Fraction(1, steps)
        y = h * backend.convolve(exact([1] * (length * steps + 1)), exact([1] * (steps + 1)), mode="valid")
        assert all(value - 1 == h for value in y)


def riemann_errors(f, g, exact_value, t: float, steps) -> np.ndarray:
    errors = []
    for h in steps:
        last = round(2 / h)
        samples = h * np.arange(-last, last + 1)
        y = h * konvlib.convolve(f(samples), g(samples), method="direct")
        errors.append(abs(y[2 * last + round(t / h)] - exact_value))
    return np.array(errors)


def decay(rate: float, at_zero: float):
    return lambda t: np.where(t > 0, np.exp(-rate * abs(t)), at_zero * (t == 0))


def raised_cosine(t):
    return np.where(abs(t) < 1, np.cos(np.pi * t / 2) ** 2, 0)


@pytest.mark.verifies("thm-riemann", box="exponentials and raised cosines, h = 1/64 and 1/128, t = 1/2", exact=False)
def test_riemann_orders():
    """Orders between h = 1/64 and 1/128. The next term of the error is smaller by h or h**2, hence 0.02."""
    steps, t = np.array([1 / 64, 1 / 128]), 1 / 2
    exponentials = np.exp(-t) - np.exp(-2 * t)
    cosines = quad(lambda s: raised_cosine(s) * raised_cosine(t - s), t - 1, 1, epsabs=1e-15)[0]
    for f, g, value, order in [
        (decay(1, 1), decay(2, 1), exponentials, 1),
        (decay(1, 0.5), decay(2, 0.5), exponentials, 2),
        (raised_cosine, raised_cosine, cosines, 4),
    ]:
        coarse, fine = riemann_errors(f, g, value, t, steps)
        assert log2(coarse / fine) == pytest.approx(order, abs=0.02)
