"""Resampling of arrays by each of its ways, and what it costs where rates are large.

Times are compared with SciPy's in the same process, the least of several each, so that the machine has no part.
"""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import signal

import konvlib
from konvlib.sequences import arrays

BOX = list(product((1, 2, 3, 7), (1, 2, 5, 12, 30), (1, 2, 3, 5, 40), (1, 2, 3, 4, 50)))
"""Samples, taps and both rates: fewer samples than taps of a phase and more, taps fewer than a rate and more."""

WAYS = ["branches", "samples", "taps"]


def by(way, patch):
    """Have each resampling computed in one way."""
    patch.setattr(arrays, "_is_by_branches", lambda part: way == "branches")
    patch.setattr(arrays, "_is_by_samples", lambda part: way == "samples")


def integers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_scipys_upfirdn(way, monkeypatch):
    by(way, monkeypatch)
    monkeypatch.setattr(arrays, "TAP_SAMPLES", 7)
    for n, m, up, down in BOX:
        x, h = integers(2, 1, n), integers(3, m, seed=1)
        y = konvlib.resample(x, h, up, down)
        for a, b in np.ndindex(2, 3):
            assert np.array_equal(y[a, b], signal.upfirdn(h[b], x[a, 0], up, down))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_takes_any_dtype(way, monkeypatch):
    by(way, monkeypatch)
    for dtype in "?bBhHiIlLefdgFDG":
        x, h = integers(5).astype(dtype), integers(8, seed=1).astype(dtype)
        y = konvlib.resample(x, h, 3, 2)
        wide = np.zeros(13, x.dtype)
        wide[::3] = x
        with np.errstate(over="ignore"):
            assert np.array_equal(y, np.convolve(wide, h)[::2])
        assert y.dtype == x.dtype
    assert konvlib.resample([2**62, 3], [2, 1, 5], 2).tolist() == [-(2**63), 2**62, 2**62 + 6, 3, 15]
    x, h = [Fraction(k, 3) for k in (1, -4, 2, 5)], [Fraction(k, 7) for k in (2, 3, 1, -1, 6, 8, -5)]
    wide = [value for a in x for value in (a, 0, 0)][:-2]
    assert konvlib.resample(x, h, 3, 2).tolist() == np.convolve(wide, h)[::2].tolist()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_leaves_what_is_not_finite_where_a_product_has_it(way, monkeypatch):
    by(way, monkeypatch)
    for n, m, up, down in BOX:
        x, h = integers(n).astype(float), integers(m, seed=1).astype(float)
        x[n // 2], h[m // 2] = np.inf, -np.inf
        expected = np.zeros((n - 1) * up + m)
        with np.errstate(invalid="ignore"):
            for i, j in product(range(n), range(m)):
                expected[i * up + j] += x[i] * h[j]
            y = konvlib.resample(x, h, up, down)
        assert np.array_equal(y, expected[::down], equal_nan=True)


@pytest.mark.parametrize(
    ("n", "m", "up", "down"), [(10_000, 2001, 160, 147), (10_000, 20_001, 1000, 999), (10, 100_001, 10_000, 1)]
)
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_large_rates_cost_what_their_products_cost(n, m, up, down, dtype):
    """Convolutions of each branch would take 80 times as long as SciPy and more; what is here takes up to 8 times."""
    x, h = integers(n).astype(dtype), integers(m, seed=1).astype(dtype)
    calls = [lambda: konvlib.resample(x, h, up, down), lambda: signal.upfirdn(h, x, up, down)]
    assert np.array_equal(calls[0](), calls[1]())
    ours, theirs = (min([seconds(call) for _ in range(5)]) for call in calls)
    assert ours < 30 * theirs


def test_a_bad_sample_costs_little():
    x, h = integers(10_000).astype(float), integers(2001, seed=1).astype(float)
    bad = x.copy()
    bad[5000] = np.nan
    clean, soiled = (min([seconds(lambda a=a: konvlib.resample(a, h, 160, 147)) for _ in range(5)]) for a in (x, bad))
    assert soiled < 10 * clean


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
