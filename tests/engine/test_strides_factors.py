"""Which filters are two layers in one, held against independent criteria; and filters composed for ever."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import konvlib
from tests.engine import backends
from tests.engine.mistakes import assert_refused

backend = pytest.fixture(params=backends.exact("strides"))(lambda request: request.param)


def composed(g, h, step=2):
    """By NumPy's polynomials, lowest power first."""
    g, h = np.asarray(g), np.asarray(h)
    spread = np.zeros(step * (len(h) - 1) + 1, dtype=h.dtype)
    spread[::step] = h
    return np.convolve(g, spread)


def phases_have_a_common_divisor(k, step):
    """The rank of all shifts of the phases is full just where they have none (the last tap is not zero)."""
    longest = -(-len(k) // step)
    padded = np.append(k, np.zeros(-len(k) % step, dtype=int)).reshape(-1, step).T
    rows = [np.pad(phase, (shift, longest - 1 - shift)) for phase in padded for shift in range(longest)]
    return np.linalg.matrix_rank(np.array(rows, dtype=float)) < 2 * longest - 1


@pytest.mark.verifies(
    "thm-factor", box="every filter of 1 to 4 taps from -2 to 2, steps 2 to 4: 2,328 cases", exact=True
)
def test_every_small_filter_comes_back_from_its_composition_with_itself(backend):
    box = [k for c in range(1, 5) for k in product(range(-2, 3), repeat=c) if any(k)]
    print(f"every filter of 1 to 4 taps from -2 to 2, steps 2 to 4: {3 * len(box):,}")
    for k2, step in product(box, (2, 3, 4)):
        g, h = backend.factor(composed(k2, k2, step), step=step)
        assert (g == h).all()
        assert g.tolist() in (list(k2), [-tap for tap in k2])
        assert next(tap for tap in g if tap) > 0
        assert g.dtype.kind == "i"


@pytest.mark.verifies(
    "thm-factor", box="all filters of 4 taps from -4 to 4 and of 7 taps from -2 to 2: 84,686 cases", exact=True
)
def test_which_filters_of_four_and_seven_taps_are_a_filter_composed_with_itself():
    """All squares in the box by brute force: ``t`` times a small filter of integers, composed with itself."""
    for c, most in ((2, 4), (3, 2)):
        squares = {}
        for k2, t in product(product(range(-most, most + 1), repeat=c), range(1, most + 1)):
            k4 = t * composed(k2, k2)
            if np.abs(k4).max() <= most and k4.any():
                squares[tuple(k4)] = sqrt(t) * np.array(k2)
        found = 0
        for k4 in product(range(-most, most + 1), repeat=3 * c - 2):
            pair = konvlib.factor(k4) if any(k4) else None
            assert (pair is not None) == (k4 in squares)
            if pair is not None:
                assert np.allclose(np.abs(pair[0]), np.abs(squares[k4]), rtol=1e-15, atol=0)
                found += 1
        print(f"of {(2 * most + 1) ** (3 * c - 2):,} filters of {3 * c - 2} taps, {found} are k2 * (k2 dilated by 2)")
        assert found == len(squares)


@pytest.mark.verifies(
    "thm-factor", box="all filters of 4 taps from -3 to 3, and of 6 or 7 from -1 to 1, steps 2 and 3", exact=True
)
def test_which_filters_are_two_different_ones():
    """Just where the phases have a common divisor; and what is given, composed, is the filter."""
    for taps, step, most in ((4, 2, 3), (7, 2, 1), (6, 3, 1), (7, 3, 1)):
        for k in product(range(-most, most + 1), repeat=taps):
            if not k[-1]:
                continue
            for filter_ in (np.array(k), np.array(k, dtype=float)):
                pair = konvlib.factor(filter_, step=step, same=False)
                assert (pair is not None) == phases_have_a_common_divisor(k, step)
                if pair is not None:
                    assert len(pair[1]) > 1
                    assert np.allclose(composed(*pair, step), k, rtol=0, atol=1e-12)
                    assert pair[0].dtype.kind == filter_.dtype.kind


@pytest.mark.verifies("thm-factor", box="all filters of 4 taps from -3 to 3, the last two not both 0", exact=True)
def test_four_taps_are_two_filters_where_a_determinant_is_zero(backend):
    """``k[m] = g[m - 2 b] h[b]`` is the product table of ``h`` and ``g``, which has rank one."""
    for k in product(range(-3, 4), repeat=4):
        if any(k[2:]):
            assert (backend.factor(k, same=False) is not None) == (k[0] * k[3] == k[1] * k[2])


def test_the_longest_second_filter_is_found(backend):
    first, second = [3, 1, 4, 1, 5, 9], np.convolve([1, -1], [2, 5])
    for step in (2, 3):
        k = composed(first, second, step)
        g, h = backend.factor(k, step=step, same=False)
        assert (g.tolist(), h.tolist()) == (first, second.tolist())
        g, h = backend.factor(k.astype(float), step=step, same=False)
        assert np.allclose(h, second / -5, rtol=1e-12, atol=0)
        assert np.allclose(g, -5 * np.array(first), rtol=1e-12, atol=0)


def test_zeros_at_the_ends_are_kept(backend):
    g, h = backend.factor([6, 0, 0, 4], step=3, same=False)
    assert (g.tolist(), h.tolist()) == ([2], [3, 2])
    g, h = backend.factor([0, 0, 0, 5, 0, 0], same=False)
    assert (g.tolist(), h.tolist()) == ([0, 5, 0, 0], [0, 1])
    g, h = backend.factor(np.array([0, 0, 0, 5.0, 0, 0]), same=False)
    assert np.allclose(g, [0, 5, 0, 0], rtol=0, atol=1e-14)
    assert np.allclose(h, [0, 1], rtol=0, atol=1e-14)


def test_most_filters_do_not_split(backend):
    assert backend.factor([1, 2, 2, 5]) is None
    assert backend.factor([1, 2, 3]) is None
    assert backend.factor([-1, -2, -2, -4]) is None
    assert backend.factor([0, 1, 2, 2]) is None
    assert backend.factor([7], same=False) is None
    assert backend.factor([1, 2], same=False) is None
    assert backend.factor([1, 2], step=5) is None


def test_kinds_of_numbers(backend):
    for dtype in (np.bool, np.uint8, np.int64, np.float16, np.float32, np.float64, np.longdouble, np.complex64):
        g, h = backend.factor(np.array([1, 1, 1, 1]).astype(dtype))
        assert np.allclose(g, [1, 1], rtol=1e-3)
        assert np.allclose(h, [1, 1], rtol=1e-3)
        assert g.dtype == (dtype if np.dtype(dtype).kind in "fc" else np.int64)
    g, _ = backend.factor([2, 4, 4, 8])
    assert np.allclose(g, [sqrt(2), 2 * sqrt(2)], rtol=1e-15)
    g, h = backend.factor(-np.array([1, 2, 2, 4], dtype=complex))
    assert np.allclose(composed(g, h), [-1, -2, -2, -4])
    assert np.allclose(np.abs(g), [1, 2])
    third = Fraction(1, 3)
    g, h = backend.factor([third**2, third * 10**30, third * 10**30, 10**60])
    assert g.tolist() == h.tolist() == [third, 10**30]
    g, h = backend.factor([third, Fraction(1), 2 * third, Fraction(2)], same=False)
    assert (g.tolist(), h.tolist()) == ([third, 1], [1, 2])
    assert all(isinstance(tap, (int, Fraction)) for tap in [*g, *h])


def test_a_tolerance_forgives_rounding_and_no_more(backend):
    """In parts of the largest tap, so that it does not matter how large that is."""
    k = composed([1.0, 0.5, 0.25], [1.0, 0.5, 0.25])
    for same, scale in product((True, False), (1e-6, 1.0, 1e6)):
        near, far = scale * (k + 1e-9), scale * (k + 1e-3)
        assert backend.factor(near, same=same) is not None
        assert backend.factor(near, same=same, tolerance=0.0) is None
        assert backend.factor(far, same=same) is None
        assert backend.factor(far, same=same, tolerance=0.01) is not None


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_random_products_are_found(data):
    """Exactly in integers, where ``g`` has no factor of its own to give to ``h``."""
    step = data.draw(st.integers(2, 5))
    g, h = (data.draw(st.lists(st.integers(-9, 9), min_size=2, max_size=12)) for _ in range(2))
    assume(g[0] and g[-1] and h[0] and h[-1])
    k = composed(g, h, step)
    found = konvlib.factor(k, step=step, same=False)
    assert (composed(*found, step) == k).all()
    assert len(found[1]) >= len(h)
    assert (len(found[1]) == len(h)) == (len(g) < step + 1 or not phases_have_a_common_divisor(g, step))
    rng = np.random.default_rng(len(g))
    first, second = rng.standard_normal(3 * len(g)), rng.standard_normal(3 * len(h))
    k = composed(first, second, step)
    found = konvlib.factor(k, step=step, same=False)
    assert len(found[1]) == len(second)
    assert np.abs(composed(*found, step) - k).max() <= 1e-8 * np.abs(k).max()


ERRORS = [
    (ValueError, "k must have one axis, got shape (1, 4)", {"k": np.ones((1, 4))}),
    (ValueError, "k must not be empty, got shape (0,)", {"k": []}),
    (ValueError, "k must have a tap that is not zero, got zeros only", {"k": [0, 0]}),
    (ValueError, "k must be finite, got infinity or NaN", {"k": [1.0, np.nan]}),
    (TypeError, "k must hold numbers, got dtype <U1", {"k": ["a"]}),
    (
        TypeError,
        "k must hold integers or fractions where it holds Python objects, got 0.5",
        {"k": np.array([1, 0.5], dtype=object)},
    ),
    (ValueError, "step must be at least 2, got 1", {"step": 1}),
    (TypeError, "step must be an integer, got 2.0", {"step": 2.0}),
    (TypeError, "same must be True or False, got 1", {"same": 1}),
    (TypeError, "tolerance must be a number, got 'small'", {"tolerance": "small"}),
    (ValueError, "tolerance must be at least 0 and less than 1, got -1", {"tolerance": -1}),
    (ValueError, "tolerance must be at least 0 and less than 1, got nan", {"tolerance": float("nan")}),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:50])
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, options = row
    assert_refused(kind, message, backend.factor, **{"k": [1, 2, 2, 4], **options})


def cascade(backend, filter_, rounds):
    """So many stride-2 layers with one filter, as one filter."""
    return backend.compose_chain([(filter_, 2)] * rounds).weight


def test_the_cascade_of_the_smallest_filters_draws_a_box_and_a_hat(backend):
    """Exactly: spline filters repeat into sums of boxes, here in whole numbers."""
    for rounds in range(1, 6):
        assert cascade(backend, [1, 1], rounds).tolist() == [1] * 2**rounds
        hat = cascade(backend, [1, 2, 1], rounds)
        assert hat.tolist() == [min(m + 1, 2 ** (rounds + 1) - 1 - m) for m in range(2 ** (rounds + 1) - 1)]
        cubic = cascade(backend, [comb(4, b) for b in range(5)], rounds)
        assert (cubic == np.convolve(hat, hat)).all()


DAUBECHIES = np.array([1 + sqrt(3), 3 + sqrt(3), 3 - sqrt(3), 1 - sqrt(3)]) / 4
"""The low-pass filter with four taps, of sum 2, for ``phi(t) = sum_b k[b] phi(2 t - b)``."""


def test_the_cascade_of_daubechies_filter_keeps_sums_and_refines(backend):
    """Shifts by whole samples sum to one everywhere, and a round more is the refinement equation."""
    for rounds in range(1, 5):
        phi, next_phi, dense = cascade(backend, DAUBECHIES, rounds), cascade(backend, DAUBECHIES, rounds + 1), 2**rounds
        assert len(phi) == 3 * (dense - 1) + 1
        assert np.isclose(phi.sum() / dense, 1, rtol=1e-12)
        parts = np.append(phi, np.zeros(3 * dense - len(phi))).reshape(3, dense)
        assert np.allclose(parts.sum(0), 1, rtol=0, atol=1e-12)
        refined = np.zeros(len(next_phi))
        for b, tap in enumerate(DAUBECHIES):
            refined[b * dense : b * dense + len(phi)] += tap * phi
        assert np.allclose(next_phi, refined, rtol=0, atol=1e-12)


def test_the_cascade_of_daubechies_filter_draws_its_scaling_function():
    """Known at whole numbers. It is Hölder continuous of order 0.55, and the error falls like ``2**(-0.55 rounds)``."""
    right = [0, (1 + sqrt(3)) / 2, (1 - sqrt(3)) / 2]
    errors = []
    for rounds in (4, 8, 12, 16):
        phi = cascade(konvlib, DAUBECHIES, rounds)
        errors.append(np.abs(phi[:: 2**rounds][:3] - right).max())
    assert all(later < earlier / 2 for earlier, later in pairwise(errors))
    assert errors[-1] < 3 * 2 ** (-0.55 * rounds)


def test_daubechies_filter_is_found_in_its_second_round(backend):
    k4 = cascade(backend, DAUBECHIES, 2)
    g, h = backend.factor(k4)
    assert np.allclose(g, DAUBECHIES, rtol=1e-13, atol=0)
    assert np.allclose(h, DAUBECHIES, rtol=1e-13, atol=0)
