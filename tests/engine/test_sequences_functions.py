"""Axes and boundaries of `convolve` and `correlate`, lags, normalised correlation, resampling, convolution along all
axes: every backend against NumPy, SciPy and sums written out here, exactly on integers and fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

import konvlib
from konvlib import geometry
from tests.engine import backends
from tests.engine.mistakes import assert_refused

backend = pytest.fixture(params=backends.of("sequences"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("sequences"))(lambda request: request.param)

NAMES = {
    "reflect": ("reflect", "mirror"),
    "symmetric": ("symmetric", "reflect"),
    "replicate": ("edge", "nearest"),
    "circular": ("wrap", "grid-wrap"),
}
"""What numpy.pad and scipy.ndimage call a boundary."""


def integers(*shape, seed=0, least=-9):
    return np.random.default_rng([seed, *shape]).integers(least, 10, shape)


# Axes.


def test_any_axis_is_the_last_one_moved(backend):
    f = integers(3, 4, 5)
    for axis, mode in product((-3, -2, -1, 1, 2, 3), geometry.MODES):
        place = axis % 4
        other = integers(2, *[2 if k == place else n for k, n in enumerate(f.shape, 1)], seed=1)
        for name in ("convolve", "correlate"):
            y = getattr(backend, name)(f, other, mode=mode, axis=axis)
            moved = [np.moveaxis(a, place, -1) for a in (f[None], other)]
            expected = getattr(backends.definition("sequences"), name)(*moved, mode=mode)
            assert np.array_equal(y, np.moveaxis(expected, -1, place))


def test_a_sequence_alone_lies_along_the_axis(backend):
    f, g = integers(4, 5, 6), integers(3, seed=1)
    for axis in (-3, -2, -1, 0, 1, 2):
        expected = np.apply_along_axis(np.convolve, axis, f, g)
        assert np.array_equal(backend.convolve(f, g, axis=axis), expected)
        assert np.array_equal(backend.convolve(g, f, axis=axis), expected)
        expected = np.apply_along_axis(np.correlate, axis, f, g, "full")
        assert np.array_equal(backend.correlate(f, g, axis=axis, mode="full"), expected)
        assert np.array_equal(backend.resample(f, g, 2, 3, axis=axis), signal.upfirdn(g, f, 2, 3, axis=axis))


# Boundaries.


def test_boundaries_are_numpys_paddings(backend):
    """Every length of signal and kernel up to 5 and 12: kernels reach around several times."""
    definition = backends.definition("sequences")
    for n, m in backends.share(backend, list(product(range(1, 6), range(1, 13)))):
        f, g = integers(2, n), integers(m, seed=1)
        for boundary, (numpys, _) in NAMES.items():
            middle = (m - 1) // 2
            wide = np.pad(f, [(0, 0), (m - 1 - middle, middle)], mode=numpys)
            y, c = (
                function(f, g, mode="same", boundary=boundary) for function in (backend.convolve, backend.correlate)
            )
            assert y.shape == c.shape == (2, n)
            assert (y == definition.convolve(wide, g, mode="valid")).all()
            assert (c == definition.correlate(wide, g, mode="valid")).all()


def test_boundaries_are_ndimages_modes(backend):
    for n, m in backends.share(backend, list(product((1, 2, 5, 8), (1, 2, 3, 4, 9)))):
        f, g = integers(3, n), integers(m, seed=1)
        for boundary, (_, ndimages) in NAMES.items():
            y = backend.convolve(f, g, mode="same", boundary=boundary)
            # For an even kernel ndimage begins one sample later.
            assert (y == ndimage.convolve1d(f, g, mode=ndimages, origin=(m % 2) - 1)).all()
            c = backend.correlate(f, g, mode="same", boundary=boundary)
            assert (c == ndimage.correlate1d(f, g, mode=ndimages)).all()
        if m <= n:
            assert (backend.correlate(f, g, mode="same") == ndimage.correlate1d(f, g, mode="constant")).all()


def test_boundaries_by_every_method_along_any_axis(backend):
    f, g = integers(70, 2).astype(float), integers(50, seed=1).astype(float)
    for boundary, method in product(NAMES, geometry.METHODS):
        y = backend.convolve(f, g, mode="same", boundary=boundary, method=method, axis=0)
        expected = ndimage.convolve1d(f, g, axis=0, mode=NAMES[boundary][1], origin=-1)
        assert np.abs(y - expected).max() < 1e-9


def test_a_circle_is_a_circular_convolution(exact_backend):
    f = [Fraction(k, 3) for k in (1, 4, -2, 5)]
    g = [Fraction(1, 2), Fraction(3), Fraction(1, 7)]
    expected = [sum(f[(n + 1 - m) % 4] * g[m] for m in range(3)) for n in range(4)]
    assert exact_backend.convolve(f, g, mode="same", boundary="circular").tolist() == expected


# Lags.


@pytest.mark.parametrize("mode", geometry.MODES)
def test_the_lag_of_each_value(mode):
    """By impulses, which correlate to one at the lag between them and to zero at all others."""
    for n, m in product(range(1, 7), range(1, 7)):
        lags = konvlib.correlation_lags(n, m, mode)
        assert lags.dtype == np.int64
        for i, j in product(range(n), range(m)):
            assert (konvlib.correlate(np.eye(n)[i], np.eye(m)[j], mode=mode) == (lags == i - j)).all()
        if mode != "same":
            assert (lags == signal.correlation_lags(n, m, mode)).all()
    assert (konvlib.correlation_lags(3, 2) == signal.correlation_lags(3, 2)).all()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((0, 2), ValueError, "n must be at least 1, got 0"),
        ((2, 1.5), TypeError, "m must be an integer, got 1.5"),
        ((2, 2, "all"), ValueError, "mode must be one of full, same, valid, got 'all'"),
        ((2, 2, None), TypeError, "mode must be one of full, same, valid, got None"),
    ],
)
def test_bad_lengths_have_no_lags(arguments, kind, message):
    assert_refused(kind, message, konvlib.correlation_lags, *arguments)


# Normalised correlation.


def by_norms(f, g, mode):
    """Exact squares of numerator and denominator of each value, from the definition."""
    n, m = len(f), len(g)
    for k in konvlib.correlation_lags(n, m, mode):
        window = [Fraction(int(f[k + i])) if 0 <= k + i < n else Fraction(0) for i in range(m)]
        product = sum(a * int(b) for a, b in zip(window, g, strict=True))
        energy = sum(a * a for a in window) * sum(int(b) ** 2 for b in g)
        yield 0.0 if energy == 0 else math.copysign(math.sqrt(product * product / energy), product)


def test_normalized_correlation_is_the_quotient_of_the_definition(backend):
    """Within a few roundings of doubles; windows of zeros give exactly 0."""
    for n, m in backends.share(backend, list(product((1, 2, 5, 8), (1, 2, 3, 7)))):
        f, g = integers(n, least=-2), integers(m, seed=1)
        f[n // 2 :] *= np.arange(n - n // 2) % 3 > 0
        for mode in geometry.MODES:
            y, expected = backend.normalized_correlation(f, g, mode=mode), list(by_norms(f, g, mode))
            assert y.shape == (len(expected),)
            assert np.allclose(y, expected, rtol=4e-15, atol=0)
            assert (y[np.array(expected) == 0] == 0).all()
            assert np.abs(y).max() <= 1


def test_normalized_correlation_finds_a_scaled_pattern(backend):
    """Where it is 1, and nowhere else; also of complex numbers, and of numbers whose squares overflow or vanish."""
    pattern = np.array([1.0, -3, 2, 5])
    for scale, unit in [(1, 1), (1e-200, 1), (1e200, 1), (1, 1j), (1, (3 + 4j) / 5)]:
        f = np.zeros((2, 40)) * unit
        f[0, 7:11], f[1, 20:24] = 3 * scale * unit * pattern, 2 * scale * unit * pattern
        y = backend.normalized_correlation(f, unit * pattern)
        assert np.abs(y[[0, 1], [7, 20]] - 1).max() < 1e-14
        assert (np.abs(y) > 0.9).sum() == 2
        assert np.abs(y).max() <= 1
        assert (y[:, 30:] == 0).all()


def test_normalized_correlation_keeps_dtypes_and_batches(backend):
    f, g = integers(3, 1, 9), integers(2, 4, seed=1)
    y = backend.normalized_correlation(f, g)
    assert y.shape == (3, 2, 6)
    for a, b in np.ndindex(3, 2):
        assert np.allclose(y[a, b], list(by_norms(f[a, 0], g[b], "valid")), rtol=4e-15, atol=0)
    moved = backend.normalized_correlation(f.swapaxes(0, 2), g.T[:, :, np.newaxis], axis=0)
    assert np.array_equal(moved.swapaxes(0, 2), y)
    for dtype in "efdFD":
        if dtype != "e" or backends.takes_arrays(backend):
            assert backend.normalized_correlation(f.astype(dtype), g.astype(dtype)).dtype == dtype


def test_normalized_correlation_of_fractions(exact_backend):
    f, g = [Fraction(3, 7), Fraction(4, 7), Fraction(0)], [Fraction(3), Fraction(4)]
    assert np.allclose(exact_backend.normalized_correlation(f, g), [1, 12 / 20], rtol=4e-16, atol=0)


# Resampling.


def test_resampling_is_scipys_upfirdn(backend):
    box = list(product(range(1, 7), range(1, 9), range(1, 6), range(1, 6)))
    for n, m, up, down in backends.share(backend, box):
        x, h = integers(2, n), integers(m, seed=1)
        y, expected = backend.resample(x, h, up, down), signal.upfirdn(h, x, up, down)
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_resampling_is_a_sum_without_the_zeros(exact_backend):
    x, h = [Fraction(k, 3) for k in (1, -4, 2, 5)], [Fraction(k, 7) for k in (2, 3, 1, -1, 6)]
    wide = [value for a in x for value in (a, 0, 0)][:-2]
    assert exact_backend.resample(x, h, 3, 2).tolist() == np.convolve(wide, h)[::2].tolist()


def test_resampling_in_batches_and_long(backend):
    x, h = integers(3, 1, 300), integers(2, 101, seed=1)
    for up, down in [(1, 1), (3, 2), (2, 3), (1, 4), (147, 160)]:
        y = backend.resample(x, h, up, down)
        for a, b in np.ndindex(3, 2):
            assert np.abs(y[a, b] - signal.upfirdn(h[b], x[a, 0], up, down)).max() < 1e-9


def test_resampling_leaves_nan_and_infinity_where_the_sum_has_them(backend):
    for up, down, place in product((1, 2, 3), (1, 2, 3), (0, 4)):
        x, h = integers(9).astype(float), integers(5, seed=1).astype(float)
        x[place], h[1] = np.inf, 0
        wide = np.zeros((9 - 1) * up + 1)
        wide[::up] = x
        expected = np.zeros(len(wide) + 4)
        with np.errstate(invalid="ignore"):
            for i, j in product(range(0, len(wide), up), range(5)):
                expected[i + j] += wide[i] * h[j]
            assert np.array_equal(backend.resample(x, h, up, down), expected[::down], equal_nan=True)


RESAMPLING_ERRORS = [
    ({"up": 0}, ValueError, "up must be at least 1, got 0"),
    ({"down": -1}, ValueError, "down must be at least 1, got -1"),
    ({"up": 1.5}, TypeError, "up must be an integer, got 1.5"),
    ({"down": True}, TypeError, "down must be an integer, got True"),
    ({"axis": 2}, ValueError, "axis must be at most 0, got 2"),
]


@pytest.mark.parametrize("row", RESAMPLING_ERRORS, ids=lambda row: row[2])
def test_bad_rates_are_refused(backend, row):
    arguments, kind, message = row
    for _ in range(2):
        backend.resample(np.ones(3), np.ones(2), 1, 1)
        assert_refused(kind, message, backend.resample, np.ones(3), np.ones(2), **arguments)
    with pytest.raises(ValueError, match=r"^h must not be empty, got shape \(0,\)$"):
        backend.resample(np.ones(3), np.ones(0))


# All axes.

SHAPES = [((3, 4), (2, 5)), ((5,), (3,)), ((4, 3, 5), (2, 3, 1)), ((2, 3), (4, 5)), ((1, 6), (1, 2)), ((), ())]


def cut(full, f, g, mode):
    """What a mode keeps of the full convolution, along each axis."""
    starts = {"full": lambda a, b: 0, "same": lambda a, b: (min(a, b) - 1) // 2, "valid": lambda a, b: min(a, b) - 1}
    lengths = {"full": lambda a, b: a + b - 1, "same": max, "valid": lambda a, b: abs(a - b) + 1}
    each = zip(f.shape, g.shape, strict=True)
    return full[tuple(slice(s, s + n) for s, n in ((starts[mode](a, b), lengths[mode](a, b)) for a, b in each))]


def test_all_axes_are_scipys_full_convolution_cut(backend):
    for (left, right), mode, method in product(SHAPES, geometry.MODES, ("auto", "direct", "fft")):
        f, g = integers(*left), integers(*right, seed=1)
        larger = [a > b for a, b in zip(left, right, strict=True)]
        smaller = [a < b for a, b in zip(left, right, strict=True)]
        if mode == "valid" and any(larger) and any(smaller):
            with pytest.raises(ValueError, match=r"^f or g must be the longer along every axis for mode 'valid', got"):
                backend.convolve_nd(f, g, mode=mode, method=method)
            continue
        y = backend.convolve_nd(f, g, mode=mode, method=method)
        expected = cut(signal.convolve(f, g, method="direct") if left else f * g, f, g, mode)
        assert y.shape == expected.shape
        assert (y == expected).all() if backends.takes_arrays(backend) else np.abs(y - expected).max() < 1e-9


def test_all_axes_where_auto_transforms(backend):
    f, g = integers(40, 30), integers(25, 33, seed=1)
    for method in ("auto", "fft"):
        if backends.takes_arrays(backend) and backend is not konvlib.sequences:
            continue
        y = backend.convolve_nd(f, g, method=method)
        assert np.abs(y - signal.convolve(f, g, method="direct")).max() < 1e-9


def test_all_axes_of_complex_numbers_and_fractions(exact_backend):
    f, g = integers(3, 4) + 1j * integers(3, 4, seed=2), integers(2, 2, seed=1) - 2j
    assert (exact_backend.convolve_nd(f, g) == signal.convolve(f, g, method="direct")).all()
    halves, thirds = [[Fraction(k, 2) for k in row] for row in ([1, 3], [2, 5])], [[Fraction(1, 3), Fraction(2, 3)]]
    expected = [[Fraction(1, 6), Fraction(5, 6), Fraction(1)], [Fraction(1, 3), Fraction(3, 2), Fraction(5, 3)]]
    assert exact_backend.convolve_nd(halves, thirds).tolist() == expected


def test_all_axes_of_large_integers_are_exact():
    f, g = integers(60, 50) * 2**40, integers(50, 55, seed=1) * 2**19
    assert (konvlib.convolve_nd(f, g, method="fft") == konvlib.convolve_nd(f, g, method="direct")).all()
    y = konvlib.convolve_nd(integers(6, 5).astype(np.int8), integers(5, 3).astype(np.float16), method="fft")
    assert y.dtype == np.float16


WHOLE_ERRORS = [
    (np.ones((2, 3)), np.ones(3), {}, ValueError, "f and g must have equally many axes, got shapes (2, 3) and (3,)"),
    (np.ones((2, 0)), np.ones((1, 1)), {}, ValueError, "f must not be empty, got shape (2, 0)"),
    (np.ones(2), np.ones(2), {"mode": "all"}, ValueError, "mode must be one of full, same, valid, got 'all'"),
    (
        np.ones(2),
        np.ones(2),
        {"method": "overlap-add"},
        ValueError,
        "method must be one of auto, direct, fft, got 'overlap-add'",
    ),
    (np.ones(2), np.ones(2), {"method": 1}, TypeError, "method must be one of auto, direct, fft, got 1"),
]


@pytest.mark.parametrize("row", WHOLE_ERRORS, ids=lambda row: row[4])
def test_bad_operands_of_all_axes_are_refused(backend, row):
    f, g, arguments, kind, message = row
    assert_refused(kind, message, backend.convolve_nd, f, g, **arguments)


def test_python_objects_have_no_transform():
    with pytest.raises(TypeError, match=r"^f must hold machine numbers for method 'fft', got dtype object"):
        konvlib.convolve_nd([Fraction(1, 2)], [1], method="fft")


# Anything that fits, against SciPy.

DTYPES = st.sampled_from([">i2", "<i8", "u1", ">f4", "f8", "e", "g", "F", ">c16"])


def wrapped(values, dtype):
    return values.real.astype(np.int64).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 60),
    up=st.integers(1, 12),
    down=st.integers(1, 12),
    dtypes=st.tuples(DTYPES, DTYPES),
    step=st.integers(1, 3),
    rows=st.integers(0, 3),
    boundary=st.sampled_from(list(NAMES)),
)
def test_any_lengths_dtypes_and_strides_as_scipy(n, m, up, down, dtypes, step, rows, boundary):
    """Mixed dtypes, either byte order, strided and read-only operands, empty batches; small integers, so exactly."""
    x = integers(rows, n * step, least=0).astype(dtypes[0])[:, ::step]
    h = integers(m * step, seed=1, least=0).astype(dtypes[1])[::-step]
    x.flags.writeable = h.flags.writeable = False
    dtype = np.result_type(x, h)
    wide_x, wide_h = (a.astype(complex if dtype.kind == "c" else float) for a in (x, h))
    expected = np.zeros((rows, ((n - 1) * up + m - 1) // down + 1), wide_x.dtype)
    if rows:
        expected = signal.upfirdn(wide_h, wide_x, up, down)
    y = konvlib.resample(x, h, up, down)
    assert y.dtype == dtype.newbyteorder("=")
    assert np.array_equal(y, wrapped(expected, dtype))
    mode = NAMES[boundary][0]
    padded = np.pad(wide_x, [(0, 0), (m // 2, (m - 1) // 2)], mode=mode) if rows else np.zeros((0, n + m - 1))
    filtered = np.reshape([np.correlate(row, wide_h, "valid") for row in padded], (rows, n))
    y = konvlib.correlate(x, h, mode="same", boundary=boundary)
    assert np.array_equal(y, wrapped(filtered, dtype))
