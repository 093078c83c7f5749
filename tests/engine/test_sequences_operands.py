"""Operands that are hard to transform: mixed precisions, large integers, samples that are not finite, large batches."""

from __future__ import annotations

import time
import tracemalloc
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import konvlib
from konvlib import geometry
from konvlib.sequences import arrays, aten
from tests.engine import backends

backend = pytest.fixture(params=backends.of("sequences"))(lambda request: request.param)
FUNCTIONS = (konvlib.convolve, konvlib.correlate)
TRANSFORMS = ("fft", "overlap-add")
KINDS = "?bhilqBHILQefdgFDG"
SIZES = {"fft": (2000, 900), "overlap-add": (20000, 300)}
"""Lengths for which ``auto`` takes this method."""


def integers(shape, seed=0, least=-9, most=10):
    return np.random.default_rng(seed).integers(least, most, shape)


def exactly(f, g):
    """The full convolution in Python's integers."""
    return np.convolve(f.astype(object), g.astype(object))


def test_auto_takes_these_methods():
    assert {name: arrays.choose_method(*sizes) for name, sizes in SIZES.items()} == {name: name for name in SIZES}


@pytest.mark.parametrize("method", TRANSFORMS)
def test_transforms_have_the_precision_of_the_result(method):
    """Small integers in every pair of dtypes, so that the exact sum is known; each must be met as closely as the dtype
    of the result, or float32 for halves, allows: 13 log2(L) eps |f| |g|."""
    n, m = 700, 300
    wide_f, wide_g = integers(n, 1, 0, 2), integers(m, 2, 0, 2)
    expected = np.convolve(wide_f, wide_g)
    for a, b in product(KINDS, KINDS):
        f, g = wide_f.astype(a), wide_g.astype(b)
        y, dtype = konvlib.convolve(f, g, method=method), np.result_type(f, g)
        assert y.dtype == dtype
        if dtype.kind in "biu":
            assert (y == expected.astype(dtype)).all()
            continue
        eps = max(float(np.finfo(dtype).eps), 0.0)
        transformed = min(eps, float(np.finfo(np.float32).eps))
        bound = 13 * 11 * transformed * np.linalg.norm(wide_f) * np.linalg.norm(wide_g) + eps * expected.max()
        assert np.abs(y.astype(np.clongdouble) - expected).max() < bound


def test_a_narrow_operand_is_widened_before_it_is_transformed():
    """Integers beside a float32 give float64, and so precise their sums must be."""
    f, g = integers(4000, 1, -1000, 1000), integers(4000, 2, -8, 8).astype(np.float32)
    for function, method in product(FUNCTIONS, (*TRANSFORMS, "auto")):
        y = function(f, g, mode="full", method=method)
        assert y.dtype == np.float64
        assert np.abs(y - function(f, g, mode="full", method="direct")).max() < 1e-6
    huge = np.full(4000, 3e38, np.float32)
    assert np.allclose(konvlib.convolve(huge, np.ones(3000)), konvlib.convolve(np.full(4000, 3e38), np.ones(3000)))


def test_long_doubles_keep_their_digits():
    f, g = integers(2000, 1).astype(np.longdouble) + np.longdouble(2) ** -60, np.ones(900, np.longdouble)
    if np.finfo(np.longdouble).eps < 2.0**-60:
        errors = konvlib.convolve(f, g) - konvlib.convolve(f, g, method="direct")
        assert np.abs(errors).max() < 2.0**-45


@pytest.mark.parametrize("dtype", "bBhHiIqQ")
def test_integers_of_any_size_are_exact_modulo_their_wrap(dtype):
    limits = np.iinfo(dtype)
    for n, m, method in [(700, 650, "fft"), (3000, 90, "overlap-add"), (40, 700, "overlap-add"), (1200, 1200, "auto")]:
        rng = np.random.default_rng(n)
        for f, g in [
            (
                rng.integers(limits.min, limits.max, n, dtype, True),
                rng.integers(limits.min, limits.max, m, dtype, True),
            ),
            (np.full(n, limits.max, dtype), np.full(m, limits.max, dtype)),
            (np.full(n, limits.min, dtype), rng.integers(0, 2, m).astype(dtype)),
        ]:
            wraps = np.array([int(value) % 2**limits.bits for value in exactly(f, g)], dtype=object)
            y = konvlib.convolve(f, g, method=method)
            assert y.dtype == f.dtype
            assert (y.astype(object) % 2**limits.bits == wraps).all()


@pytest.mark.slow
def test_large_integers_do_not_take_the_direct_sums_time():
    """300,000 by 300,000: about 10^11 products, minutes by any direct sum."""
    f, g = integers(300_000, 1, -(2**40), 2**40), integers(300_000, 2, -(2**20), 2**20)
    start = time.perf_counter()
    y = konvlib.convolve(f, g)
    assert time.perf_counter() - start < 20
    places = [0, 5, 299_999, 300_000, 400_001, 599_998]
    for place in places:
        low, high = max(0, place - 299_999), min(place, 299_999)
        terms = f[low : high + 1].astype(object) * g[place - high : place - low + 1][::-1].astype(object)
        assert int(y[place]) == (int(terms.sum()) + 2**63) % 2**64 - 2**63


def test_integers_in_parts_are_those_of_one_transform():
    """Sequences are cut where spectra would take more memory than they may: here, nearly none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays.spectra, "MEMORY", 30_000)
        for shape, m, mode in [((2, 700), 500, "full"), ((300,), 900, "same"), ((3, 801), 401, "valid")]:
            f, g = integers(shape, 1, -(2**62), 2**62), integers(m, 2, -(2**62), 2**62)
            y = konvlib.convolve(f, g, mode=mode, method="fft")
            assert np.array_equal(y, konvlib.convolve(f, g, mode=mode, method="direct"))


def test_long_rows_of_integers_are_summed_in_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CAST_SAMPLES", 17)
        for (n, m), mode, function in product([(100, 7), (7, 100), (60, 60)], geometry.MODES, FUNCTIONS):
            f, g = integers(n, 1).astype(np.int8), integers(m, 2).astype(np.int8)
            numpys = np.convolve if function is konvlib.convolve else np.correlate
            assert (function(f, g, mode=mode, method="direct") == numpys(f, g, mode)).all()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 3000),
    m=st.integers(1, 3000),
    bits=st.tuples(st.integers(1, 63), st.integers(1, 63)),
    method=st.sampled_from(geometry.METHODS),
    mode=st.sampled_from(geometry.MODES),
    seed=st.integers(0, 2**32 - 1),
)
def test_integers_of_any_sizes_are_numpys(n, m, bits, method, mode, seed):
    rng = np.random.default_rng(seed)
    f, g = (rng.integers(-(2**b), 2**b - 1, size, endpoint=True) for b, size in zip(bits, (n, m), strict=True))
    assert (konvlib.convolve(f, g, mode=mode, method=method) == np.convolve(f, g, mode)).all()
    assert (konvlib.correlate(f, g, mode=mode, method=method) == np.correlate(f, g, mode)).all()


# Samples that are not finite.


def by_definition(f, g):
    """The full convolution of each row as a direct sum, complex products part by part."""

    def full(a, b):
        return np.stack([np.convolve(x, y) for x, y in zip(a, b, strict=True)])

    lead = np.broadcast_shapes(f.shape[:-1], g.shape[:-1])
    f, g = np.broadcast_to(f, (*lead, f.shape[-1])), np.broadcast_to(g, (*lead, g.shape[-1]))
    if np.result_type(f, g).kind != "c":
        return full(f, g)
    f, g = f.astype(complex), g.astype(complex)
    y = np.zeros((*lead, f.shape[-1] + g.shape[-1] - 1), complex)
    y.real, y.imag = (
        full(f.real, g.real) - full(f.imag, g.imag),
        full(f.real, g.imag) + full(f.imag, g.real),
    )
    return y


def same_where_finite(y, expected, tolerance):
    for a, b in [(y.real, expected.real), (y.imag, expected.imag)]:
        finite = np.isfinite(b)
        assert np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True)
        assert np.abs(np.where(finite, a - np.where(finite, b, 0), 0)).max() <= tolerance


PLACES = {
    "one": ([5], [], []),
    "an infinity": ([], [1700], []),
    "of every kind": ([3, 1500], [7, 8, 900], [250, 251]),
    "many": (range(0, 2000, 97), range(1, 2000, 89), range(2, 2000, 83)),
}


def spoilt(a, places):
    a, bad = a.copy(), (np.nan, np.inf, -np.inf)
    for value, where in zip(bad, places, strict=True):
        a[..., [place for place in where if place < a.shape[-1]]] = value
    if a.dtype.kind == "c" and len(places[1]):
        a[..., -3] = complex(2, -np.inf)
    return a


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["arrays", "tensors"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("method", TRANSFORMS)
def test_bad_samples_reach_what_they_reach_in_the_direct_sum(method, dtype, make):
    """In one operand or both; some taps are zero, where an infinity becomes NaN. Other rows stay clean."""
    n, m = SIZES[method]
    f, g = (integers(shape, k).astype(dtype) for k, shape in enumerate([(3, n), (1, m)]))
    if dtype[0] == "c":
        f, g = f + 1j * integers(f.shape, 5).astype(dtype), g + 1j * integers(g.shape, 6).astype(dtype)
    tolerance = 1 if dtype in ("f4", "c8") else 1e-6
    for left, right in product([None, *PLACES.values()], repeat=2):
        if left is right is None or (left and right and left is not right):
            continue
        a, b = f.copy(), g if right is None else spoilt(g, right)
        if left is not None:
            a[1] = spoilt(f[1], left)
        with np.errstate(invalid="ignore"):
            expected = by_definition(a, b)
            y = np.asarray(konvlib.convolve(make(a), make(b.copy())))
        same_where_finite(y, expected, tolerance)


def test_they_do_so_along_all_axes():
    f, g = integers((40, 50), 1).astype(float), integers((30, 35), 2).astype(float)
    f[3, 4], f[20, 30], f[21, 31], g[5, 6] = np.nan, np.inf, -np.inf, np.inf
    with np.errstate(invalid="ignore"):
        direct = konvlib.convolve_nd(f, g, method="direct")
        same_where_finite(konvlib.convolve_nd(f, g), direct, 1e-9)
        tensors = konvlib.convolve_nd(torch.from_numpy(f), torch.from_numpy(g))
    same_where_finite(tensors.numpy(), direct, 1e-9)


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["arrays", "tensors"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_that_overflow_are_infinite_and_others_are_not(dtype, make):
    """A spectrum may overflow where no sum does."""
    largest = float(np.finfo(dtype).max)
    f, g = np.full((2, 2000), 0.9 * largest, dtype), np.ones(900, dtype)
    f[0, ::2] *= -1
    with np.errstate(over="ignore"):
        y = np.asarray(konvlib.convolve(make(f), make(g)))
    assert np.isfinite(y[0]).all()
    assert np.abs(y[0]).max() < 0.91 * largest
    assert np.isposinf(y[1, 1:-1]).all()


def seconds(run):
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        with np.errstate(invalid="ignore"):
            run()
        best = min(best, time.perf_counter() - start)
    return best


COSTS = [
    ((200_000,), (20_000,), [[5], [], []]),
    ((200_000,), (20_000,), [[], [5], []]),
    ((200_000,), (20_000,), [range(0, 200_000, 10), [], range(1, 200_000, 13)]),
    ((1_000_000,), (500,), [[5], [7], []]),
    ((60, 5000), (3000,), [[5], [7], []]),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["arrays", "tensors"])
@pytest.mark.parametrize("case", COSTS, ids=str)
def test_bad_samples_cost_no_more_than_ten_clean_calls(case, make):
    """Twice that is allowed here, since the machine may do other things at the same time; the direct sum takes hundreds
    or thousands of them."""
    f, g = (np.random.default_rng(k).standard_normal(shape) for k, shape in enumerate(case[:2]))
    bad = spoilt(f, case[2])
    clean = seconds(lambda: konvlib.convolve(make(f), make(g)))
    assert seconds(lambda: konvlib.convolve(make(bad), make(g))) < 20 * clean


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_derivatives_of_what_is_repaired_are_those_of_the_direct_sum(bad):
    f, g = (torch.from_numpy(integers(shape, k).astype(float)) for k, shape in enumerate([(2, 200), (90,)]))
    f[1, 50] = bad
    assert aten.choose_method(f, g, 289, f.dtype) == "fft"
    slopes = []
    for method in ("auto", "direct"):
        moving = [t.clone().requires_grad_() for t in (f, g.expand(2, -1))]
        y = konvlib.convolve(*moving, method=method)
        first = torch.autograd.grad(y[:, ::3].sum(), moving, create_graph=True)
        assert y[0].isfinite().all()
        second = torch.autograd.grad(first[1][:, 0].sum() + first[0][0, 0], moving)
        slopes.append([*first, *second])
    for a, b in zip(*slopes, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        assert torch.allclose(a[a.isfinite()], b[b.isfinite()], atol=1e-9)


# Batches.


def test_a_batch_of_no_rows_by_every_method(backend):
    n, m = (100_000, 500) if backends.takes_arrays(backend) else (400, 40)
    for method, mode in product(geometry.METHODS, geometry.MODES):
        y = backend.convolve(np.zeros((0, n)), np.ones(m), method=method, mode=mode)
        assert y.shape == (0, {"full": n + m - 1, "same": n, "valid": n - m + 1}[mode])
        assert backend.correlate(np.zeros((0, n)), np.ones((1, m)), method=method, mode=mode).shape == y.shape


def test_many_short_rows_as_numpy():
    for rows, n, m in ((300, 16, 3), (70, 40, 11), (40, 3, 16), (5, 60, 60)):
        for dtype, mode in product("?bHqefdD", geometry.MODES):
            f, g = integers((rows, n), 1, 0, 9).astype(dtype), integers(m, 2, 0, 9).astype(dtype)
            for other in (g, np.stack([g, g[::-1]])[np.arange(rows) % 2]):
                y, c = (function(f, other, mode=mode) for function in FUNCTIONS)
                taps = np.broadcast_to(other, (rows, m))
                assert (y == [np.convolve(*row, mode) for row in zip(f, taps, strict=True)]).all()
                assert (c == [np.correlate(*row, mode) for row in zip(f, taps, strict=True)]).all()
                assert y.dtype == c.dtype == f.dtype


@pytest.mark.slow
def test_many_short_rows_are_not_convolved_one_by_one():
    f = np.random.default_rng(0).standard_normal((100_000, 16))
    start = time.perf_counter()
    konvlib.convolve(f, [1.0, 2, 3])
    elapsed = time.perf_counter() - start
    start = time.perf_counter()
    for row in f[:10_000]:
        np.convolve(row, [1.0, 2, 3])
    assert elapsed < 10 * (time.perf_counter() - start) / 3


CONSUMERS = [
    ((20_000, 1000), (30,), "f8", "overlap-add"),
    ((3000, 4000), (300,), "f8", "auto"),
    ((2000, 1, 100), (1, 40, 100), "f4", "fft"),
    ((30_000_000,), (300,), "u1", "auto"),
    ((30_000_000,), (5,), "u1", "auto"),
    ((10_000, 2000), (5,), "u1", "auto"),
    ((3_000_000,), (3_000_000,), "u1", "auto"),
    ((1_000_000,), (1_000_000,), "i8", "auto"),
    ((5000, 4000), (3,), "f2", "auto"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CONSUMERS, ids=str)
def test_memory_stays_below_four_times_input_and_output(case):
    f_shape, g_shape, dtype, method = case
    f, g = np.full(f_shape, 100, dtype), np.full(g_shape, 100, dtype)
    if dtype == "i8":
        f, g = f << 50, g << 50
    tracemalloc.start()
    try:
        with np.errstate(over="ignore"):
            y = konvlib.convolve(f, g, method=method)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * (f.nbytes + g.nbytes + y.nbytes) + 256e6
