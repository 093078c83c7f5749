"""The theorems of chapter 1, each label by name.

Identities are tested in integers, fractions or integers modulo a prime, with ``==``. Where a statement is about sizes
it is tested for every size in a box. Convolution is bilinear: an identity between bilinear maps that holds on all pairs
of impulses of two lengths holds for all sequences of these lengths (``lem-impulses``), so such a test is a proof for
its box, of every room that is bilinear. ``test_linear`` tests that they are.

Oracles are NumPy, SciPy, PyTorch, Python's integers, and the definitions written out once more as dictionaries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise, product
from math import floor, log2, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import polynomial
from scipy import linalg, signal
from scipy.integrate import quad

from konvlib import geometry
from konvlib.sequences import fast, naive

F, G, Y = [1, 3, 2, 0, 4], [2, 1, -1], [2, 7, 6, -1, 6, 4, -4]

both_rooms = pytest.mark.parametrize("room", [naive, fast], ids=["naive", "fast"])
SAMPLES = 40
sampled = settings(max_examples=SAMPLES, deadline=None, derandomize=True)
FRACTIONS_BOX = f"lengths <= 7, fractions up to 100 with denominators <= 20: {SAMPLES} drawn cases"

PAIRS = [(n, m) for n in range(1, 9) for m in range(1, 9)]
IMPULSE_PAIRS = [(n, m, a, b) for n, m in PAIRS for a in range(n) for b in range(m)]
PAIR_BOX = f"N, M <= 8, all pairs of impulses: {len(IMPULSE_PAIRS)} cases"


def impulse(a: int, length: int) -> np.ndarray:
    return np.eye(length, dtype=np.int64)[a]


def integers(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((length, seed)).integers(-9, 10, length)


def gaussian_integers(length: int, seed: int = 0) -> np.ndarray:
    return integers(length, seed) + 1j * integers(length, seed + 1)


def exact(values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return np.array_equal(np.asarray(left), np.asarray(right))


def by_index_sum(f, g, sign: int = 1) -> dict[int, object]:
    """All products f[i] g[j], added up by i + sign j."""
    sums = defaultdict(int)
    for (i, a), (j, b) in product(enumerate(f), enumerate(g)):
        sums[i + sign * j] += a * b
    return dict(sums)


def shifted(values, by: int, length: int) -> np.ndarray:
    result = np.zeros(length, dtype=np.asarray(values).dtype)
    result[by : by + len(values)] = values
    return result


fractions = st.fractions(min_value=-100, max_value=100, max_denominator=20)
sequences = st.lists(fractions, min_size=1, max_size=7).map(exact)


# The definition


@pytest.mark.verifies("def-convolution", "eq-convolution", box=PAIR_BOX, exact=True)
@both_rooms
def test_definition(room):
    assert same(room.convolve(np.array(F), np.array(G)), Y)
    for n, m, a, b in IMPULSE_PAIRS:
        f, g = impulse(a, n), impulse(b, m)
        sums = by_index_sum(f, g)
        y = room.convolve(f, g)
        assert y.tolist() == [sums[k] for k in range(n + m - 1)]
        assert same(y, np.convolve(f, g))


@pytest.mark.verifies("def-convolution", "eq-convolution", box=FRACTIONS_BOX, exact=True)
@both_rooms
@sampled
@given(f=sequences, g=sequences)
def test_definition_in_fractions(room, f, g):
    sums = by_index_sum(f, g)
    assert room.convolve(f, g).tolist() == [sums[k] for k in range(len(f) + len(g) - 1)]


def integral_of_steps(f, g, t: Fraction) -> Fraction:
    """The integral of f(tau) g(t - tau), where f and g are constant on the unit cells from 0 on."""
    total = Fraction(0)
    for (i, a), (j, b) in product(enumerate(f), enumerate(g)):
        overlap = min(Fraction(i + 1), t - j) - max(Fraction(i), t - j - 1)
        total += a * b * max(overlap, Fraction(0))
    return total


@pytest.mark.verifies("def-continuous", "eq-continuous", box=f"N, M <= 8: {len(PAIRS)} cases", exact=True)
@both_rooms
def test_continuous_convolution_of_steps_joins_the_discrete_one_by_lines(room):
    for n, m in PAIRS:
        f, g = integers(n), integers(m, 1)
        corners = np.concatenate([[0], room.convolve(f, g), [0]])
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
@both_rooms
def test_commutative(room):
    for n, m, a, b in IMPULSE_PAIRS:
        f, g = impulse(a, n), impulse(b, m)
        assert same(room.convolve(f, g), room.convolve(g, f))


@pytest.mark.verifies("thm-commutative", box=FRACTIONS_BOX, exact=True)
@both_rooms
@sampled
@given(f=sequences, g=sequences)
def test_commutative_in_fractions(room, f, g):
    assert same(room.convolve(f, g), room.convolve(g, f))


TRIPLES = [
    (n, m, k, a, b, c)
    for n, m, k in product(range(1, 5), repeat=3)
    for a, b, c in product(range(n), range(m), range(k))
]


@pytest.mark.verifies(
    "thm-associative", box=f"three lengths <= 4, all triples of impulses: {len(TRIPLES)} cases", exact=True
)
@both_rooms
def test_associative(room):
    for n, m, k, a, b, c in TRIPLES:
        f, g, h = impulse(a, n), impulse(b, m), impulse(c, k)
        left = room.convolve(room.convolve(f, g), h)
        assert same(left, room.convolve(f, room.convolve(g, h)))
        assert same(left, impulse(a + b + c, n + m + k - 2))


@pytest.mark.verifies("thm-associative", box=FRACTIONS_BOX, exact=True)
@both_rooms
@sampled
@given(f=sequences, g=sequences, h=sequences)
def test_associative_in_fractions(room, f, g, h):
    assert same(room.convolve(room.convolve(f, g), h), room.convolve(f, room.convolve(g, h)))


def test_associativity_needs_finite_sequences():
    # On a stretch of the integers, away from its ends: (e * d) * u = 0, but e * (d * u) = e.
    e, d, u = np.ones(201, dtype=int), np.array([1, -1]), np.ones(100, dtype=int)
    assert same(fast.convolve(e, d, mode="valid"), np.zeros(200))
    assert same(fast.convolve(d, u)[:100], impulse(0, 100))


@pytest.mark.verifies("thm-linear", box=FRACTIONS_BOX, exact=True)
@both_rooms
@sampled
@given(data=st.data(), a=fractions, b=fractions, g=sequences)
def test_linear(room, data, a, b, g):
    n = data.draw(st.integers(1, 7))
    f1, f2 = (exact(data.draw(st.lists(fractions, min_size=n, max_size=n))) for _ in range(2))
    first = room.convolve(a * f1 + b * f2, g)
    assert same(first, a * room.convolve(f1, g) + b * room.convolve(f2, g))
    second = room.convolve(g, a * f1 + b * f2)
    assert same(second, a * room.convolve(g, f1) + b * room.convolve(g, f2))


@pytest.mark.verifies("lem-impulses", box=PAIR_BOX, exact=True)
@both_rooms
def test_impulses_add_their_indices(room):
    for n, m, a, b in IMPULSE_PAIRS:
        assert same(room.convolve(impulse(a, n), impulse(b, m)), impulse(a + b, n + m - 1))
        g = integers(m)
        assert same(room.convolve(impulse(a, n), g), shifted(g, a, n + m - 1))


@pytest.mark.verifies("lem-impulses", box=f"N, M <= 8: {len(PAIRS)} cases", exact=True)
@both_rooms
def test_impulses_decide(room):
    for n, m in PAIRS:
        f, g = integers(n), integers(m, 1)
        on_impulses = sum(f[a] * g[b] * room.convolve(impulse(a, n), impulse(b, m)) for a in range(n) for b in range(m))
        assert same(room.convolve(f, g), on_impulses)


def test_impulses_catch_what_a_symmetric_kernel_hides():
    def without_flip(f, g):
        return np.correlate(f, g, "full")

    symmetric = np.array([1, 2, 1])
    assert same(without_flip(np.array(F), symmetric), np.convolve(F, symmetric))
    assert not all(same(without_flip(impulse(2, 5), impulse(b, 3)), impulse(2 + b, 7)) for b in range(3))


# Modes

SIZES = [(n, m) for n in range(1, 13) for m in range(1, 13)]


@pytest.mark.verifies(
    "def-modes",
    "thm-lengths",
    "eq-same-start",
    box=f"N, M <= 12, three modes: {3 * len(SIZES)} cases",
    exact=True,
)
@both_rooms
def test_modes_by_counting(room):
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
            assert same(room.convolve(f, g, mode=mode), full[indices])
            assert same(np.convolve(f, g, mode), full[indices])
        assert kept["full"] == list(range(n + m - 1))
        assert kept["valid"] == list(range(min(n, m) - 1, max(n, m)))
        assert len(kept["same"]) == max(n, m)
        before, after = kept["same"][0], n + m - 2 - kept["same"][-1]
        assert (before, after) == (floor((min(n, m) - 1) / 2), -((1 - min(n, m)) // 2))
        assert after - before == (min(n, m) + 1) % 2


@pytest.mark.verifies("def-modes", box=f"N, M <= 12: {len(SIZES)} cases", exact=True)
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
    box=f"lengths <= 8, integers up to 10^12, x a fraction up to 50: {SAMPLES} drawn cases",
    exact=True,
)
@both_rooms
@sampled
@given(
    f=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=8),
    g=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=8),
    x=st.fractions(min_value=-50, max_value=50, max_denominator=30),
)
def test_polynomials_multiply_at_every_point(room, f, g, x):
    def value(coefficients):
        return sum(c * x**n for n, c in enumerate(coefficients))

    assert value(f) * value(g) == value(room.convolve(exact(f), exact(g)))


@pytest.mark.verifies("thm-polynomials", box=f"N, M <= 8: {len(PAIRS)} cases", exact=True)
@both_rooms
def test_polynomials_as_numpy_multiplies_them(room):
    assert room.convolve(np.array([1, 2, 3]), np.array([3, 2, 2])).tolist() == [3, 8, 15, 10, 6]
    for n, m in PAIRS:
        f, g = abs(integers(n)) + 1, abs(integers(m, 1)) + 1  # polymul would trim zeros at the end
        assert same(room.convolve(f, g), polynomial.polymul(f, g))


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


@pytest.mark.verifies("thm-integers", box=f"base 10, 0..99 times 0, 7, .., 98: {len(TWO_DIGITS)} cases", exact=True)
@both_rooms
def test_long_multiplication(room):
    for a, b in TWO_DIGITS:
        y = room.convolve(np.array(digits_of(a, 10)), np.array(digits_of(b, 10)))
        assert sum(int(v) * 10**n for n, v in enumerate(y)) == a * b
        assert carry(y, 10) == digits_of(a * b, 10)


@pytest.mark.verifies(
    "thm-integers", box=f"integers up to 10^60, bases 2, 3, 10, 16, 1000: {SAMPLES} drawn cases", exact=True
)
@both_rooms
@sampled
@given(a=st.integers(0, 10**60), b=st.integers(0, 10**60), base=st.sampled_from([2, 3, 10, 16, 1000]))
def test_long_multiplication_of_long_numbers(room, a, b, base):
    y = room.convolve(exact(digits_of(a, base)), exact(digits_of(b, base)))
    assert carry(y, base) == digits_of(a * b, base)


# Cross-correlation

UNITS = [(1, 1), (1, 1j), (1j, 1), (1j, 1j)]
COMPLEX_IMPULSES = [(*case, u, v) for case in IMPULSE_PAIRS if max(case[:2]) <= 6 for u, v in UNITS]
COMPLEX_BOX = f"N, M <= 6, all pairs of impulses times 1 and i: {len(COMPLEX_IMPULSES)} cases"


@pytest.mark.verifies("def-correlation", "eq-correlation", box=COMPLEX_BOX, exact=True)
@both_rooms
def test_correlation(room):
    assert room.correlate(np.array(F), np.array(G)).tolist() == [3, 8, 0]
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        sums = by_index_sum(f, np.conj(g), sign=-1)
        c = room.correlate(f, g, mode="full")
        assert c.tolist() == [sums[k] for k in range(-(m - 1), n)]
        assert same(c, np.correlate(f, g, "full"))


@pytest.mark.verifies("def-correlation", box=f"N, M <= 12, three modes: {3 * len(SIZES)} cases", exact=True)
@both_rooms
def test_conventions_of_numpy_and_scipy(room):
    for n, m in SIZES:
        f, g = gaussian_integers(n), gaussian_integers(m, 7)
        sums = by_index_sum(f, np.conj(g), sign=-1)
        lags = list(range(-(m - 1), n))
        full = np.array([sums[k] for k in lags])
        assert signal.correlation_lags(n, m, "full").tolist() == lags
        assert same(signal.correlate(f, g, "full", "direct"), full)
        assert same(signal.correlate(f, g, "same", "direct"), full[(m - 1) // 2 :][:n])
        for mode in geometry.MODES:
            assert same(room.correlate(f, g, mode=mode), np.correlate(f, g, mode))
            start, length = geometry.correlation_window(n, m, mode)
            assert same(np.correlate(f, g, mode), full[start : start + length])
        if n >= m:
            valid = [k for k in lags if 0 <= k <= n - m]
            assert same(room.correlate(f, g, mode="valid"), [sums[k] for k in valid])


def test_a_layer_correlates_without_the_bar():
    f, g = gaussian_integers(9), gaussian_integers(4, 7)
    layer = torch.nn.functional.conv1d(torch.tensor(f)[None, None], torch.tensor(g)[None, None])[0, 0].numpy()
    assert same(layer, naive.correlate(f, np.conj(g)))
    assert not same(layer, naive.correlate(f, g))


@pytest.mark.verifies("def-correlation", box="delays 0..5 of a pattern of 3", exact=True)
@both_rooms
def test_a_positive_lag_is_a_delay_of_the_first_operand(room):
    for delay in range(6):
        full = room.correlate(shifted(G, delay, 8), np.array(G), mode="full")
        assert np.argmax(full) - (len(G) - 1) == delay


@pytest.mark.verifies("def-correlation", box="(1, i) with itself", exact=True)
def test_the_bar_makes_a_sequence_agree_with_itself():
    w = np.array([1, 1j])
    assert naive.correlate(w, w).tolist() == [2]
    assert naive.correlate(w, np.conj(w)).tolist() == [0]


@pytest.mark.verifies("thm-correlation-as-convolution", box=COMPLEX_BOX, exact=True)
@both_rooms
def test_correlation_as_convolution(room):
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        c = room.correlate(f, g, mode="full")
        assert same(c, room.convolve(f, np.conj(g[::-1])))
        assert {i - (m - 1): x for i, x in enumerate(c) if x} == {a - b: u * np.conj(v)}


@pytest.mark.verifies("thm-correlation-swap", box=COMPLEX_BOX, exact=True)
@both_rooms
def test_correlation_swap(room):
    for n, m, a, b, u, v in COMPLEX_IMPULSES:
        f, g = u * impulse(a, n), v * impulse(b, m)
        there, back = room.correlate(f, g, mode="full"), room.correlate(g, f, mode="full")
        assert same(back, np.conj(there[::-1]))


@both_rooms
def test_correlation_neither_commutes_nor_associates(room):
    f, g, h = np.array(F), np.array(G), np.array([1, 0, -2, 5])

    def correlate(a, b):
        return room.correlate(a, b, mode="full")

    assert not same(correlate(f, g), correlate(g, f))
    left = correlate(correlate(f, g), h)
    assert not same(left, correlate(f, correlate(g, h)))
    assert same(left, correlate(f, room.convolve(g, h)))


# Every linear, shift-invariant map

STRETCHES = [(n, w) for n in range(1, 7) for w in range(1, 9)]


@pytest.mark.verifies(
    "def-shift-invariant",
    "thm-lsi",
    box=f"inputs of length <= 6 seen through windows of length <= 8, all matrices: {len(STRETCHES)} cases",
    exact=True,
)
@both_rooms
def test_every_shift_invariant_matrix_is_a_convolution(room):
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
            columns = [room.convolve(impulse(m, n), h)[n - 1 : n - 1 + w] for m in range(n)]
            assert same(matrix, np.array(columns).T)


@pytest.mark.verifies("def-shift-invariant", "thm-lsi", box=PAIR_BOX, exact=True)
@both_rooms
def test_convolutions_are_shift_invariant(room):
    for n, m, a, b in IMPULSE_PAIRS:
        f, h = impulse(a, n), impulse(b, m)
        for k in range(3):
            later = room.convolve(shifted(f, k, n + k), h)
            assert same(later, shifted(room.convolve(f, h), k, n + m - 1 + k))


@pytest.mark.verifies(
    "thm-lsi", box=f"up to five steps, inputs of length <= 6, 24 samples seen: {SAMPLES} drawn cases", exact=True
)
@both_rooms
@sampled
@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5), st.booleans()), min_size=1, max_size=5),
    f=st.lists(st.integers(-20, 20), min_size=1, max_size=6),
)
def test_a_system_is_known_by_its_impulse_response(room, steps, f):
    """Systems made of delays, gains, sums and running totals; none of them computed by a convolution."""

    def system(x):
        for delay, gain, total in steps:
            x = x + gain * np.concatenate([np.zeros(delay, dtype=x.dtype), x])[: len(x)]
            x = np.cumsum(x) if total else x
        return x

    stretch = 24
    x = exact(f + [0] * (stretch - len(f)))
    response = system(exact([1] + [0] * (stretch - 1)))
    assert same(system(x), room.convolve(exact(f), response)[:stretch])


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


@pytest.mark.verifies("thm-riemann", box=f"boxes of length 1 and <= 3, h = 1, .., 1/8: {len(BOXES)} cases", exact=True)
@both_rooms
def test_boxes_are_one_step_off(room):
    """Two boxes, both ends sampled: at every t at which one lies wholly in the other the error is h exactly."""
    for length, steps in BOXES:
        h = Fraction(1, steps)
        y = h * room.convolve(exact([1] * (length * steps + 1)), exact([1] * (steps + 1)), mode="valid")
        assert all(value - 1 == h for value in y)


def riemann_errors(f, g, exact_value, t: float, steps) -> np.ndarray:
    errors = []
    for h in steps:
        last = round(2 / h)
        samples = h * np.arange(-last, last + 1)
        y = h * fast.convolve(f(samples), g(samples), method="direct")
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


# Circular convolution and the DFT


def circular(f, g, period: int) -> np.ndarray:
    f, g = (np.concatenate([a, np.zeros(period - len(a), dtype=np.asarray(a).dtype)]) for a in (f, g))
    y = [sum((f[m] * g[(n - m) % period] for m in range(period)), start=0) for n in range(period)]
    return np.array(y)


CLOCKS = [
    (period, n, m, a, b)
    for period in range(1, 8)
    for n, m in product(range(1, period + 1), repeat=2)
    for a, b in product(range(n), range(m))
]
CLOCK_BOX = f"P <= 7, N, M <= P, all pairs of impulses: {len(CLOCKS)} cases"


@pytest.mark.verifies("def-circular", "eq-circular", box=f"P <= 12: {12} cases", exact=True)
def test_circular_as_a_circulant_matrix():
    for period in range(1, 13):
        f, g = integers(period), integers(period, 1)
        assert same(circular(f, g, period), linalg.circulant(f) @ g)


@pytest.mark.verifies("thm-wrap-around", box=CLOCK_BOX, exact=True)
@both_rooms
def test_wrap_around(room):
    assert circular(F, G, 5).tolist() == [6, 3, 6, -1, 6]
    for period, n, m, a, b in CLOCKS:
        f, g = impulse(a, n), impulse(b, m)
        y = shifted(room.convolve(f, g), 0, 2 * period)
        assert same(circular(f, g, period), y[:period] + y[period:])


@pytest.mark.verifies("cor-padding", box=CLOCK_BOX, exact=True)
@both_rooms
def test_padding(room):
    for period, n, m, a, b in CLOCKS:
        f, g = impulse(a, n), impulse(b, m)
        y, clean = room.convolve(f, g), max(0, n + m - 1 - period)
        around = circular(f, g, period)
        linear = shifted(y, 0, 2 * period)
        assert same(around[clean:], linear[clean:period])
        if period >= n + m - 1:
            assert same(around, linear[:period])


def test_one_sample_less_padding_is_not_enough():
    assert same(circular(F, G, 7), Y)
    assert not same(circular(F, G, 6), Y[:6])


PRIME = 2521  # PRIME - 1 = 3 * 840, and 840 is divisible by 1, .., 8: roots of unity of all these orders exist
PERIODS = list(range(1, 9))


def modular_dft(f, omega: int) -> np.ndarray:
    period = len(f)
    powers = [[pow(omega, k * n, PRIME) for n in range(period)] for k in range(period)]
    return np.array(powers) @ f % PRIME


@pytest.mark.verifies("thm-dft", "def-dft", "eq-dft", box=f"P <= 8, modulo {PRIME}, all pairs of impulses", exact=True)
@pytest.mark.parametrize("period", PERIODS)
def test_dft_theorem_modulo_a_prime(period):
    """The proof uses that omega ** P = 1, and the inverse that no smaller power is: both hold here without rounding."""
    omega = next(w for w in range(1, PRIME) if order(w, PRIME) == period)
    for a, b in product(range(period), repeat=2):
        f, g = impulse(a, period), impulse(b, period)
        spectrum = modular_dft(f, omega) * modular_dft(g, omega) % PRIME
        assert same(modular_dft(circular(f, g, period), omega), spectrum)
        back = modular_dft(modular_dft(f, omega), pow(omega, -1, PRIME)) * pow(period, -1, PRIME) % PRIME
        assert same(back, f)


def order(number: int, modulus: int) -> int:
    power, steps = number % modulus, 1
    while power != 1:
        power, steps = power * number % modulus, steps + 1
    return steps


def dft(f) -> np.ndarray:
    n = np.arange(len(f))
    return np.exp(-2j * np.pi * np.outer(n, n) / len(f)) @ f


@pytest.mark.verifies("def-dft", "eq-dft", "thm-dft", box="P <= 16: 16 cases", exact=False)
def test_dft_as_numpy_computes_it():
    """Entries are below 10 and P <= 16, so sums of products are below 1e5; 1e-10 is 1e-15 of that with room for P."""
    for period in range(1, 17):
        f, g = gaussian_integers(period), gaussian_integers(period, 7)
        assert np.abs(dft(f) - np.fft.fft(f)).max() < 1e-10
        assert np.abs(np.conj(dft(np.conj(dft(f)))) / period - f).max() < 1e-10
        assert np.abs(dft(circular(f, g, period)) - np.fft.fft(f) * np.fft.fft(g)).max() < 1e-10


# What it costs


class Tally:
    """An integer modulo PRIME that counts multiplications."""

    count = 0

    def __init__(self, value: int):
        self.value = int(value) % PRIME

    def __mul__(self, other: Tally) -> Tally:
        Tally.count += 1
        return Tally(self.value * other.value)

    def __add__(self, other: Tally | int) -> Tally:
        return Tally(self.value + getattr(other, "value", other))

    __radd__ = __add__

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.value - other.value)


def tallies(values) -> np.ndarray:
    return np.array([Tally(v) for v in values], dtype=object)


def plain(values) -> list[int]:
    return [getattr(v, "value", v) for v in values]


@pytest.mark.verifies("eq-cost-direct", box=f"N, M <= 8: {len(PAIRS)} cases", exact=True)
def test_cost_of_the_direct_sum():
    for n, m in PAIRS:
        Tally.count = 0
        naive.convolve(tallies(integers(n)), tallies(integers(m, 1)))
        assert Tally.count == n * m


def tally_fft(f: np.ndarray, omega: int) -> np.ndarray:
    """The halving step of the chapter, modulo PRIME."""
    if len(f) == 1:
        return f
    even, odd = tally_fft(f[0::2], omega**2 % PRIME), tally_fft(f[1::2], omega**2 % PRIME)
    twisted = tallies([pow(omega, k, PRIME) for k in range(len(odd))]) * odd
    return np.concatenate([even + twisted, even - twisted])


@pytest.mark.verifies("eq-cost-fft", box="P = 1, 2, 4, 8", exact=True)
@pytest.mark.parametrize("period", [1, 2, 4, 8])
def test_cost_of_the_fft(period):
    omega = next(w for w in range(1, PRIME) if order(w, PRIME) == period)
    n = (period + 2) // 2
    m = period + 1 - n
    f, g = integers(n), integers(m, 1)
    Tally.count = 0
    spectra = [tally_fft(tallies(shifted(a, 0, period)), omega) for a in (f, g)]
    y = tally_fft(spectra[0] * spectra[1], pow(omega, -1, PRIME))
    assert Tally.count == 3 * period * log2(period) / 2 + period
    inverse = pow(period, -1, PRIME)  # scaling by 1/P is not counted: it can be put into the kernel beforehand
    assert [v * inverse % PRIME for v in plain(y)] == [int(v) % PRIME for v in np.convolve(f, g)]


@pytest.mark.verifies("eq-cost-overlap-add", box="P = 4, 8, kernels of length 1..P, three blocks", exact=True)
@pytest.mark.parametrize(("period", "m"), [(p, m) for p in (4, 8) for m in range(1, p + 1)])
def test_cost_of_overlap_add(period, m):
    omega = next(w for w in range(1, PRIME) if order(w, PRIME) == period)
    block, blocks = period - m + 1, 3
    f, g = integers(block * blocks), integers(m, 1)
    kernel = tally_fft(tallies(shifted(g, 0, period)), omega)
    inverse = pow(period, -1, PRIME)
    y = np.zeros(len(f) + m - 1, dtype=int)
    Tally.count = 0
    for start in range(0, len(f), block):
        spectrum = tally_fft(tallies(shifted(f[start : start + block], 0, period)), omega)
        piece = plain(tally_fft(spectrum * kernel, pow(omega, -1, PRIME)))
        y[start : start + period] += [v * inverse for v in piece]
    assert Fraction(Tally.count, len(f)) == Fraction(int(period * log2(period)) + period, period - m + 1)
    assert same(y % PRIME, np.convolve(f, g) % PRIME)


# Overlap-add

BLOCKS = [(n, m, size) for n in range(1, 11) for m in range(1, 6) for size in range(1, n + 2)]


@pytest.mark.verifies(
    "thm-overlap-add", "eq-overlap-add", box=f"N <= 10, M <= 5, blocks of 1..N+1: {len(BLOCKS)} cases", exact=True
)
@both_rooms
def test_overlap_add(room):
    for n, m, size in BLOCKS:
        f, g = integers(n), integers(m, 1)
        total = np.zeros(n + m - 1, dtype=np.int64)
        for start in range(0, n, size):
            piece = room.convolve(f[start : start + size], g)
            assert len(piece) == min(size, n - start) + m - 1
            total[start : start + len(piece)] += piece
        assert same(total, np.convolve(f, g))


@pytest.mark.verifies("thm-overlap-add", box=f"N <= 10, M <= 5: {50} cases", exact=True)
@both_rooms
def test_overlap_add_as_a_method(room):
    for n, m in product(range(1, 11), range(1, 6)):
        f, g = integers(n), integers(m, 1)
        assert same(room.convolve(f, g, method="overlap-add"), np.convolve(f, g))


# The matched filter

VECTORS = [np.array(v) for v in product(range(-2, 3), repeat=3)]
NON_ZERO = [v for v in VECTORS if v.any()]


@pytest.mark.verifies(
    "thm-matched-filter",
    box=f"vectors of 3 entries from -2..2, the template not zero: {len(VECTORS) * len(NON_ZERO)} cases",
    exact=True,
)
def test_matched_filter_bound():
    """Part 1; part 2 is part 1 for the kernel in place of the window."""
    for t in NON_ZERO:
        for w in VECTORS:
            score, bound = (w @ t) ** 2, (w @ w) * (t @ t)
            assert score <= bound
            assert (score == bound) == (not np.cross(w, t).any())  # parallel


NOISES = [np.array(signs) for signs in product((-1, 1), repeat=3)]


@pytest.mark.verifies(
    "thm-matched-filter", box=f"kernels of 3 entries from -2..2, noise of all signs: {len(NON_ZERO)} cases", exact=True
)
def test_matched_filter_stands_out_best():
    """All sign patterns, equally likely, are uncorrelated noise of mean 0 and variance 1: expectations are sums."""
    t, a = np.array([2, 1, -1]), 3
    best = Fraction(int(a**2 * (t @ t)))
    for h in NON_ZERO:
        noise = Fraction(sum(int(e @ h) ** 2 for e in NOISES), len(NOISES))
        assert noise == h @ h
        assert sum(int(e @ h) for e in NOISES) == 0
        ratio = Fraction(int(a * (t @ h)) ** 2) / noise
        assert ratio <= best
        assert (ratio == best) == (not np.cross(h, t).any())


@pytest.mark.verifies(
    "eq-normalised-correlation",
    box=f"signals of 5 to 12 and templates of 2 to 5 integers up to 9: {SAMPLES} drawn cases",
    exact=True,
)
@both_rooms
@sampled
@given(
    x=st.lists(st.integers(-9, 9), min_size=5, max_size=12),
    t=st.lists(st.integers(-9, 9), min_size=2, max_size=5),
    gain=st.integers(1, 9),
    offset=st.integers(-9, 9),
)
def test_normalised_correlation(room, x, t, gain, offset):
    """Numerator and squared denominator, in fractions, from three correlations and window by window."""
    x, t, size = exact([Fraction(v) for v in x]), exact([Fraction(v) for v in t]), len(t)
    centred = t - sum(t) / size
    ones = exact([1] * size)

    def parts(x):
        total = room.correlate(x, ones)
        return room.correlate(x, centred), (room.correlate(x**2, ones) - total**2 / size) * (centred @ centred)

    above, below = parts(x)
    for k in range(len(x) - size + 1):
        w = x[k : k + size] - sum(x[k : k + size]) / size
        assert above[k] == w @ centred
        assert below[k] == (w @ w) * (centred @ centred)
        assert above[k] ** 2 <= below[k]
    louder = parts(gain * x + offset)
    assert same(louder[0], gain * above)
    assert same(louder[1], gain**2 * below)
    assert parts(gain * t + offset)[0][0] ** 2 == parts(gain * t + offset)[1][0]
    assert parts(gain * t + offset)[0][0] >= 0


@pytest.mark.verifies("eq-normalised-correlation", box="one signal of 64 samples, a template of 16", exact=False)
def test_normalised_correlation_as_numpy_computes_it():
    """Values are of size 1 and windows of 16 samples: 1e-12 leaves rounding a factor of 100."""
    x, t = np.random.default_rng(0).standard_normal((2, 64))
    t = t[:16] - t[:16].mean()
    total, squares = (fast.correlate(a, np.ones(16)) for a in (x, x**2))
    rho = fast.correlate(x, t) / np.sqrt((squares - total**2 / 16) * (t @ t))
    assert np.abs(rho).max() <= 1
    for k, value in enumerate(rho):
        assert abs(value - np.corrcoef(x[k : k + 16], t)[0, 1]) < 1e-12
