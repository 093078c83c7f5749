"""`convolve` and `correlate`, every backend against NumPy and against the definition.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
Both maps are bilinear, so agreeing on every pair of unit impulses proves them equal for that pair of lengths.
"""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import konvlib
from konvlib import geometry
from konvlib.sequences import arrays
from tests.engine import backends
from tests.engine.mistakes import assert_refused

BOX = list(product(range(1, 8), range(1, 8), geometry.MODES))
BOX_TEXT = f"N and M from 1 to 7, three modes: {len(BOX)} cases, every pair of impulses in each"

backend = pytest.fixture(params=backends.of("sequences"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("sequences"))(lambda request: request.param)


def integers(*shape, seed=0, dtype=np.int64):
    values = np.random.default_rng(seed + sum(shape)).integers(-9, 10, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * np.random.default_rng(seed + 1).integers(-9, 10, shape)
    return values.astype(dtype)


def row_by_row(function, f, g, mode):
    """NumPy's function on every row of two broadcast batches."""
    lead = np.broadcast_shapes(f.shape[:-1], g.shape[:-1])
    f, g = np.broadcast_to(f, (*lead, f.shape[-1])), np.broadcast_to(g, (*lead, g.shape[-1]))
    rows = [function(f[row], g[row], mode) for row in np.ndindex(lead)]
    return np.reshape(rows, (*lead, -1))


@pytest.mark.verifies("def-modes", "thm-lengths", "eq-same-start", box=BOX_TEXT, exact=True)
def test_convolving_impulses_gives_one_impulse_at_the_sum_of_their_places(backend):
    for n, m, mode in BOX:
        f, g = np.eye(n)[:, np.newaxis], np.eye(m)
        start = {"full": 0, "same": (min(n, m) - 1) // 2, "valid": min(n, m) - 1}[mode]
        length = {"full": n + m - 1, "same": max(n, m), "valid": abs(n - m) + 1}[mode]
        places = np.arange(n)[:, np.newaxis] + np.arange(m)
        expected = np.arange(start, start + length) == places[..., np.newaxis]
        y = backend.convolve(f, g, mode=mode, method="direct")
        assert y.shape == expected.shape
        assert (y == expected).all()
        assert (y == row_by_row(np.convolve, f, g, mode)).all()


@pytest.mark.verifies("def-correlation", "eq-correlation", box=BOX_TEXT, exact=True)
def test_correlating_impulses_gives_one_impulse_at_their_lag_conjugated(backend):
    for n, m, mode in BOX:
        f, g = np.eye(n)[:, np.newaxis] * (1 + 0j), np.eye(m) * 1j
        lags = np.arange(n)[:, np.newaxis] - np.arange(m)
        full = np.where(np.arange(-(m - 1), n) == lags[..., np.newaxis], -1j, 0)
        expected = row_by_row(np.correlate, f, g, mode)
        y = backend.correlate(f, g, mode=mode, method="direct")
        assert y.shape == expected.shape
        assert (y == expected).all()
        if mode == "full":
            assert (y == full).all()


PARTS = {n: list(product(product((-1, 0, 2), repeat=n), product((-1, 0, 1), repeat=n))) for n in (1, 2, 3)}
PARTS_BOX = f"1 to 3 samples of real part -1, 0, 2, imaginary part -1, 0, 1: {sum(map(len, PARTS.values()))} sequences"


@pytest.mark.verifies("thm-autocorrelation", box=PARTS_BOX, exact=True)
def test_an_autocorrelation_is_its_own_mirrored_conjugate_and_largest_at_lag_0(backend):
    for n, parts in PARTS.items():
        f = np.array([np.array(real) + 1j * np.array(imaginary) for real, imaginary in parts])
        y = backend.correlate(f, f, mode="full", method="direct")
        middle = y[:, n - 1]
        assert (y == np.conj(y[:, ::-1])).all()
        assert (middle == (f.real**2 + f.imag**2).sum(axis=1)).all()
        assert (y.real**2 + y.imag**2 <= middle.real[:, np.newaxis] ** 2).all()


def test_complex_integers_as_numpy(backend):
    for n, m, mode in product((1, 2, 5, 8), (1, 3, 6), geometry.MODES):
        f, g = integers(n, dtype=np.complex128), integers(m, seed=7, dtype=np.complex128)
        assert (backend.convolve(f, g, mode=mode) == np.convolve(f, g, mode)).all()
        assert (backend.correlate(f, g, mode=mode) == np.correlate(f, g, mode)).all()


SHAPES = [((3, 5), (3, 2)), ((2, 1, 4), (3, 6)), ((7,), (2, 3)), ((4, 2, 3), (3,)), ((1, 5), (6, 5)), ((), (4,))]


def test_leading_axes_broadcast(backend):
    for (left, right), mode in product(SHAPES, geometry.MODES):
        f, g = integers(*left), integers(*right, seed=3)
        rows = np.atleast_1d(f), np.atleast_1d(g)
        y, c = backend.convolve(f, g, mode=mode), backend.correlate(f, g, mode=mode)
        assert (y == row_by_row(np.convolve, *rows, mode)).all()
        assert (c == row_by_row(np.correlate, *rows, mode)).all()
        assert y.shape[:-1] == c.shape[:-1] == np.broadcast_shapes(rows[0].shape[:-1], rows[1].shape[:-1])


def test_a_batch_of_no_rows_stays_one(backend):
    assert backend.convolve(np.zeros((0, 5)), np.ones(3)).shape == (0, 7)
    assert backend.correlate(np.zeros((2, 0, 5)), np.ones(3)).shape == (2, 0, 3)


def test_short_real_sequences_as_numpy(backend):
    for n, m, mode in product((1, 2, 4, 7), (1, 2, 3, 6), geometry.MODES):
        f, g = integers(n).astype(np.float64), integers(m, seed=4).astype(np.float64)
        assert (backend.convolve(f, g, mode=mode) == np.convolve(f, g, mode)).all()
        assert (backend.correlate(f, g, mode=mode) == np.correlate(f, g, mode)).all()


# (39, 4): in mode same, a transform of 40 samples, one too short, folds the last value of the sum onto the first kept.
LENGTHS = [(40, 9), (33, 33), (39, 4), (5, 300)]


def test_every_method_agrees_within_rounding(backend):
    """Double precision: the error of a transform of L samples is below 13 log2(L) 2^-53 |f| |g|."""
    for (n, m), mode, method in product(LENGTHS, geometry.MODES, geometry.METHODS):
        rng = np.random.default_rng(n)
        f, g = rng.standard_normal((2, n)) + 0j, rng.standard_normal(m) + 1j * rng.standard_normal(m)
        bound = 13 * np.log2(2 * (n + m)) * 2.0**-53 * np.linalg.norm(f) * np.linalg.norm(g)
        for left, right in [(f, g), (f.real, g.real)]:
            y = backend.convolve(left, right, mode=mode, method=method)
            c = backend.correlate(left, right, mode=mode, method=method)
            assert np.abs(y - row_by_row(np.convolve, left, right, mode)).max() < bound
            assert np.abs(c - row_by_row(np.correlate, left, right, mode)).max() < bound
            assert y.dtype == c.dtype == left.dtype


def test_direct_and_auto_leave_nan_and_infinity_where_the_sum_has_them(backend):
    """One row for each place of the one bad sample."""
    for (n, m), bad in product([(7, 3), (3, 6)], [np.nan, np.inf, -np.inf]):
        f, g = np.tile(np.arange(1.0, n + 1), (n, 1)), np.arange(1.0, m + 1)
        np.fill_diagonal(f, bad)
        for mode, method in product(geometry.MODES, ("direct", "auto")):
            with np.errstate(invalid="ignore"):
                y, c = (
                    backend.convolve(f, g, mode=mode, method=method),
                    backend.correlate(f, g, mode=mode, method=method),
                )
                assert np.array_equal(y, row_by_row(np.convolve, f, g, mode), equal_nan=True)
                assert np.array_equal(c, row_by_row(np.correlate, f, g, mode), equal_nan=True)


def test_auto_leaves_them_also_where_it_would_transform(backend):
    """Where that is: for tensors from 33 taps on; for arrays at sizes that would keep the kernels long."""
    n, m, place = (1400, 1000, 1300) if backends.takes_arrays(backend) else (200, 40, 170)
    f, g = np.ones(n), np.ones(m)
    f[place] = np.nan
    y = backend.convolve(f, g, mode="valid")
    assert np.isfinite(y[: place - m + 1]).all()
    assert np.isnan(y[place - m + 1 :]).all()


def test_auto_transforms_where_it_is_tested_for_nan():
    assert arrays.choose_method(1400, 1000) == "fft"


def test_operands_stay_as_they_were(backend):
    f, g = np.arange(300.0), np.arange(40.0)
    for method in geometry.METHODS:
        backend.convolve(f, g, method=method)
        backend.correlate(f, g, method=method)
    assert (f == np.arange(300.0)).all()
    assert (g == np.arange(40.0)).all()


PAIR = (np.ones(2), np.ones(2))
ERRORS = [
    (ValueError, "f must not be empty, got shape (0,)", (np.zeros(0), np.ones(2)), {}),
    (ValueError, "g must not be empty, got shape (2, 0)", (np.ones(2), np.zeros((2, 0))), {}),
    (
        ValueError,
        "f and g must have leading axes that broadcast, got shapes (2, 5) and (3, 4)",
        (np.ones((2, 5)), np.ones((3, 4))),
        {},
    ),
    (ValueError, "mode must be one of full, same, valid, got 'ful'", PAIR, {"mode": "ful"}),
    (TypeError, "mode must be one of full, same, valid, got 0", PAIR, {"mode": 0}),
    (ValueError, "method must be one of auto, direct, fft, overlap-add, got 'FFT'", PAIR, {"method": "FFT"}),
    (TypeError, "method must be one of auto, direct, fft, overlap-add, got None", PAIR, {"method": None}),
    (TypeError, "axis must be an integer, got 1.5", PAIR, {"axis": 1.5}),
    (TypeError, "axis must be an integer, got True", PAIR, {"axis": True}),
    (ValueError, "axis must be at least -1, got -2", PAIR, {"axis": -2}),
    (ValueError, "axis must be at most 0, got 1", PAIR, {"axis": 1}),
    (
        ValueError,
        "boundary must be one of zeros, reflect, replicate, circular, symmetric, got 'wrap'",
        PAIR,
        {"boundary": "wrap", "mode": "same"},
    ),
    (
        TypeError,
        "boundary must be one of zeros, reflect, replicate, circular, symmetric, got 0",
        PAIR,
        {"boundary": 0},
    ),
    (
        ValueError,
        "mode must be 'same' for boundary 'circular', got 'full'",
        PAIR,
        {"boundary": "circular", "mode": "full"},
    ),
    (
        ValueError,
        "f and g must have other axes that broadcast, got shapes (5, 2) and (4, 3)",
        (np.ones((5, 2)), np.ones((4, 3))),
        {"axis": 0},
    ),
]
ARRAY_ERRORS = [
    (ValueError, "f must be rectangular, got rows of different lengths", ([[1, 2], [3]], [1]), {}),
    (TypeError, "g must hold numbers, got dtype <U3", ([1], ["one", "two"]), {}),
    (TypeError, "f must hold numbers, got dtype datetime64[D]", (np.array(["2026-01-01"], dtype="M8[D]"), [1]), {}),
    (
        TypeError,
        "f must hold machine numbers for method 'fft', got dtype object; use 'direct'",
        ([Fraction(1, 2)], [1]),
        {"method": "fft"},
    ),
    (
        TypeError,
        "method must be one of auto, direct, fft, overlap-add, got array([1., 2.])",
        PAIR,
        {"method": np.array([1.0, 2.0])},
    ),
    (TypeError, "mode must be one of full, same, valid, got array([1., 2.])", PAIR, {"mode": np.array([1.0, 2.0])}),
]


def assert_both_refuse(backend, kind, message, operands, options):
    for function in (backend.convolve, backend.correlate):
        assert_refused(kind, message, function, *operands, **options)


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    assert_both_refuse(backend, *row)


@pytest.mark.parametrize("row", ARRAY_ERRORS, ids=lambda row: row[1][:40])
def test_what_is_no_array_of_numbers_is_refused(exact_backend, row):
    assert_both_refuse(exact_backend, *row)


def test_fractions_and_big_integers_are_exact(exact_backend):
    f, g = [Fraction(1, 3), Fraction(-2, 7), Fraction(5)], [Fraction(9, 11), Fraction(1, 2)]
    by_hand = [Fraction(3, 11), Fraction(1, 6) - Fraction(18, 77), Fraction(45, 11) - Fraction(1, 7), Fraction(5, 2)]
    assert exact_backend.convolve(f, g).tolist() == by_hand
    big = np.array([10**30, 1], dtype=object)
    assert exact_backend.convolve(big, big).tolist() == [10**60, 2 * 10**30, 1]


def test_dtypes_are_numpys(exact_backend):
    kinds = "?bhilBHILefdFD"
    for a, b in product(kinds, kinds):
        f, g = np.ones(6, dtype=a), np.ones(3, dtype=b)
        y = exact_backend.convolve(f, g)
        assert y.dtype == np.convolve(f, g).dtype
        assert (y == np.convolve(f, g)).all()
        assert exact_backend.correlate(f, g).dtype == np.correlate(f, g).dtype


def test_machine_integers_wrap_as_numpys_do_whatever_the_method():
    f, g = integers(2000, dtype=np.int8), integers(600, dtype=np.int8)
    for method in ("auto", "direct", "fft", "overlap-add"):
        assert (konvlib.convolve(f, g, method=method) == np.convolve(f, g)).all()


def test_integers_that_a_transform_would_miss_are_cut_into_limbs():
    """Sums of products near 2^54 need more bits than a double holds, so a rounded FFT would be wrong."""
    rng = np.random.default_rng(5)
    f, g = rng.integers(2**27, 2**28, 900), rng.integers(-3, 4, 900) * 2**24
    assert arrays.choose_method(900, 900) == "fft"
    assert not geometry.fft_is_exact(f, g)
    for method in geometry.METHODS:
        assert (konvlib.convolve(f, g, method=method) == np.convolve(f, g)).all()
    rounded = np.rint(signal.fftconvolve(f, g)).astype(np.int64)
    assert (rounded != np.convolve(f, g)).any()


def test_the_bound_admits_no_integers_that_a_transform_misses():
    """The worst signs and sizes we know, right at the largest magnitude that the bound admits."""
    for length in (64, 1000, 4096):
        largest = 2
        while geometry.fft_is_exact(np.full(length, 2 * largest), np.full(length, 2 * largest)):
            largest *= 2
        signs = np.random.default_rng(length).choice([-1, 1], (2, length))
        for f, g in [(signs[0] * largest, signs[1] * largest), (np.full(length, largest),) * 2]:
            assert geometry.fft_is_exact(f, g)
            for method in ("fft", "overlap-add"):
                assert (konvlib.convolve(f, g, method=method) == np.convolve(f, g)).all()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 4000),
    m=st.integers(1, 4000),
    mode=st.sampled_from(geometry.MODES),
    method=st.sampled_from(geometry.METHODS),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_lengths_any_method_exactly_on_integers(n, m, mode, method, seed):
    rng = np.random.default_rng(seed)
    f, g = rng.integers(-1000, 1000, n), rng.integers(-1000, 1000, m)
    assert (konvlib.convolve(f, g, mode=mode, method=method) == np.convolve(f, g, mode)).all()
    assert (konvlib.correlate(f, g, mode=mode, method=method) == np.correlate(f, g, mode)).all()


@settings(deadline=None, max_examples=30)
@given(
    shapes=st.sampled_from([((2, 1, 300), (3, 40)), ((40,), (5, 300)), ((3, 64), (3, 64))]), seed=st.integers(0, 999)
)
def test_batches_as_scipys_overlap_add(shapes, seed):
    rng = np.random.default_rng(seed)
    f, g = rng.standard_normal(shapes[0]), rng.standard_normal(shapes[1])
    ndim = max(f.ndim, g.ndim)
    f_full, g_full = (a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in (f, g))
    expected = signal.oaconvolve(f_full, g_full, axes=-1)
    for method in geometry.METHODS:
        assert np.allclose(konvlib.convolve(f, g, method=method), expected, rtol=0, atol=1e-11)


def test_correlation_agrees_with_scipys_full_one():
    f, g = integers(9, dtype=np.complex128), integers(5, seed=2, dtype=np.complex128)
    assert (
        backends.definition("sequences").correlate(f, g, mode="full") == signal.correlate(f, g, method="direct")
    ).all()


def test_lists_and_scalars_as_numpy():
    assert (konvlib.convolve([1, 2], 3) == np.convolve([1, 2], 3)).all()
    assert (konvlib.correlate((1, 2, 3), [0, 1]) == np.correlate([1, 2, 3], [0, 1])).all()


def test_importing_konvlib_and_a_short_call_import_neither_torch_nor_scipy():
    """Also where torch cannot be imported at all."""
    script = "import sys; sys.modules['torch'] = None; import konvlib; print(konvlib.convolve([1, 2], [1, 1]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1 3 2]"
    script = "import sys, konvlib; konvlib.convolve([1], [2]); print({'torch', 'scipy', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'numpy'}"
