"""The theorems of chapter 1 on the DFT, on costs, on overlap-add and on the matched filter, by label.

See test_sequences_theorems.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

import konvlib
from tests.engine.oracles.sequences import (
    PAIRS,
    SAMPLES,
    F,
    G,
    Y,
    both_backends,
    definition,
    exact,
    gaussian_integers,
    impulse,
    integers,
    same,
    sampled,
    shifted,
)

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
CLOCK_BOX = f"P up to 7, N, M up to P, all pairs of impulses: {len(CLOCKS)} cases"


@pytest.mark.verifies("def-circular", "eq-circular", box=f"P up to 12: {12} cases", exact=True)
def test_circular_as_a_circulant_matrix():
    for period in range(1, 13):
        f, g = integers(period), integers(period, 1)
        assert same(circular(f, g, period), linalg.circulant(f) @ g)


@pytest.mark.verifies("thm-wrap-around", box=CLOCK_BOX, exact=True)
@both_backends
def test_wrap_around(backend):
    assert circular(F, G, 5).tolist() == [6, 3, 6, -1, 6]
    for period, n, m, a, b in CLOCKS:
        f, g = impulse(a, n), impulse(b, m)
        y = shifted(backend.convolve(f, g), 0, 2 * period)
        assert same(circular(f, g, period), y[:period] + y[period:])


@pytest.mark.verifies("cor-padding", box=CLOCK_BOX, exact=True)
@both_backends
def test_padding(backend):
    for period, n, m, a, b in CLOCKS:
        f, g = impulse(a, n), impulse(b, m)
        y, clean = backend.convolve(f, g), max(0, n + m - 1 - period)
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


@pytest.mark.verifies(
    "thm-dft", "def-dft", "eq-dft", box=f"P up to 8, modulo {PRIME}, all pairs of impulses", exact=True
)
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


@pytest.mark.verifies("def-dft", "eq-dft", "thm-dft", box="P up to 16: 16 cases", exact=False)
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


@pytest.mark.verifies("eq-cost-direct", box=f"N, M up to 8: {len(PAIRS)} cases", exact=True)
def test_cost_of_the_direct_sum():
    for n, m in PAIRS:
        Tally.count = 0
        definition.convolve(tallies(integers(n)), tallies(integers(m, 1)))
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


@pytest.mark.verifies("eq-cost-overlap-add", box="P = 4, 8, kernels of length 1 to P, three blocks", exact=True)
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
    "thm-overlap-add",
    "eq-overlap-add",
    box=f"N up to 10, M up to 5, blocks of 1 to N + 1: {len(BLOCKS)} cases",
    exact=True,
)
@both_backends
def test_overlap_add(backend):
    for n, m, size in BLOCKS:
        f, g = integers(n), integers(m, 1)
        total = np.zeros(n + m - 1, dtype=np.int64)
        for start in range(0, n, size):
            piece = backend.convolve(f[start : start + size], g)
            assert len(piece) == min(size, n - start) + m - 1
            total[start : start + len(piece)] += piece
        assert same(total, np.convolve(f, g))


@pytest.mark.verifies("thm-overlap-add", box=f"N up to 10, M up to 5: {50} cases", exact=True)
@both_backends
def test_overlap_add_as_a_method(backend):
    for n, m in product(range(1, 11), range(1, 6)):
        f, g = integers(n), integers(m, 1)
        assert same(backend.convolve(f, g, method="overlap-add"), np.convolve(f, g))


# The matched filter

VECTORS = [np.array(v) for v in product(range(-2, 3), repeat=3)]
NON_ZERO = [v for v in VECTORS if v.any()]


@pytest.mark.verifies(
    "thm-matched-filter",
    box=f"vectors of 3 entries from -2 to 2, the template not zero: {len(VECTORS) * len(NON_ZERO)} cases",
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
    "thm-matched-filter",
    box=f"kernels of 3 entries from -2 to 2, noise of all signs: {len(NON_ZERO)} cases",
    exact=True,
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
@both_backends
@sampled
@given(
    x=st.lists(st.integers(-9, 9), min_size=5, max_size=12),
    t=st.lists(st.integers(-9, 9), min_size=2, max_size=5),
    gain=st.integers(1, 9),
    offset=st.integers(-9, 9),
)
def test_normalised_correlation(backend, x, t, gain, offset):
    """Numerator and squared denominator, in fractions, from three correlations and window by window."""
    x, t, size = exact([Fraction(v) for v in x]), exact([Fraction(v) for v in t]), len(t)
    centred = t - sum(t) / size
    ones = exact([1] * size)

    def parts(x):
        total = backend.correlate(x, ones)
        return backend.correlate(x, centred), (backend.correlate(x**2, ones) - total**2 / size) * (centred @ centred)

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
    total, squares = (konvlib.correlate(a, np.ones(16)) for a in (x, x**2))
    rho = konvlib.correlate(x, t) / np.sqrt((squares - total**2 / 16) * (t @ t))
    assert np.abs(rho).max() <= 1
    for k, value in enumerate(rho):
        assert abs(value - np.corrcoef(x[k : k + 16], t)[0, 1]) < 1e-12
