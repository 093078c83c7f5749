"""The theorems of chapter 6, each label by name.

Two layers are linear in the input and in each filter, so an identity between them that holds on all impulses of given
lengths holds for all filters and inputs of these lengths (``lem-impulses``). Where filters occur squared, or where a
condition is necessary as well as sufficient, tests run through all sizes in a box.

Oracles are layers written out once more in one line, and arithmetic with fractions. Filters that factor, and cascades,
are in test_strides_theorems_factors.py; more tests of these labels stand with the functions (``test_strides*.py``).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine import backends

layers = backends.definition("images")
naive = backends.definition("strides")

both_backends = pytest.mark.parametrize("backend", backends.exact("strides"))
sampled = settings(max_examples=40, deadline=None, derandomize=True)
fractions = st.fractions(min_value=-50, max_value=50, max_denominator=12)
filters = st.lists(fractions, min_size=1, max_size=5)


def layer(x, k, stride, padding=(0, 0), bias=0) -> list:
    """The layer of one channel, as its formula reads."""
    x = [0] * padding[0] + [*x] + [0] * padding[1]
    return [
        bias + sum(tap * x[start + a] for a, tap in enumerate(k)) for start in range(0, len(x) - len(k) + 1, stride)
    ]


def impulse(place: int, length: int) -> list[int]:
    return [int(index == place) for index in range(length)]


def dilated(k, step: int) -> dict[int, object]:
    return {step * place: tap for place, tap in enumerate(k)}


# Two layers


DILATIONS = [(c, step) for c in range(1, 7) for step in range(1, 6)]


@pytest.mark.verifies(
    "def-strides-dilate", "eq-strides-dilate", box=f"k up to 6, s up to 5: {len(DILATIONS)} cases", exact=True
)
@both_backends
def test_dilation(backend):
    for c, step in DILATIONS:
        k = list(range(1, c + 1))
        wide = backend.dilate(k, step).tolist()
        assert wide == [dilated(k, step).get(m, 0) for m in range(step * (c - 1) + 1)]


SIZES = [(c, size) for c in range(1, 5) for size in range(1, 15)]
IMPULSES = sum(c * c * size for c, size in SIZES)


@pytest.mark.verifies(
    "thm-two-strides",
    "eq-k4",
    box=f"k up to 4, inputs of 1 to 14 samples, all impulses of both filters and the input: {IMPULSES:,} cases",
    exact=True,
)
@both_backends
def test_two_layers_of_stride_2_are_one_of_stride_4(backend):
    """Two filters of equal length, so that each may be an impulse; and as many outputs, also where there are none."""
    for c, size in SIZES:
        for a, b in product(range(c), repeat=2):
            first, second = impulse(a, c), impulse(b, c)
            k4 = backend.compose(first, second, stride1=2).tolist()
            assert len(k4) == 3 * c - 2
            for place in range(size):
                x = impulse(place, size)
                assert layer(layer(x, first, 2), second, 2) == layer(x, k4, 4)


@pytest.mark.verifies("thm-two-strides", "eq-k4", box="filters drawn at random, on all impulses", exact=True)
@both_backends
@sampled
@given(k2=filters)
def test_the_outputs_determine_the_taps(backend, k2):
    """Impulses as inputs read the one filter off the two layers, and it is the sum of the theorem."""
    c = len(k2)
    taps = [layer(layer(impulse(m, 3 * c - 2), k2, 2), k2, 2)[0] for m in range(3 * c - 2)]
    assert taps == [sum(k2[b] * k2[m - 2 * b] for b in range(c) if 0 <= m - 2 * b < c) for m in range(3 * c - 2)]
    k2 = np.array(k2, dtype=object)
    assert backend.compose(k2, k2, stride1=2).tolist() == taps
    assert np.convolve(k2, backend.dilate(k2, 2)).tolist() == taps


def test_the_published_filter_is_another():
    """Taps at multiples of four, of the right filter or of the undilated product, lose what the others see."""
    k2, x = [1, 2], [1, 3, 2, 5]
    assert layer(layer(x, k2, 2), k2, 2) == layer(x, [1, 2, 2, 4], 4) == [31]
    published = [tap * (m % 4 == 0) for m, tap in enumerate([*np.convolve(k2, k2).tolist(), 0])]
    assert layer(x, published, 4) == layer(x, [1, 0, 0, 0], 4) == [1]
    k2 = [2, 1, -1]
    assert np.convolve(k2, [2, 0, 1, 0, -1]).tolist() == [4, 2, 0, 1, -3, -1, 1]


@pytest.mark.verifies(
    "def-strides-transform", "lem-strides-transform", box="filters and points drawn at random, steps to 4", exact=True
)
@both_backends
@sampled
@given(f=filters, g=filters, z=fractions, step=st.integers(1, 4))
def test_the_transform(backend, f, g, z, step):
    def transform(k, z):
        return sum((tap * z**m for m, tap in enumerate(k)), Fraction(0))

    f, g = np.array(f, dtype=object), np.array(g, dtype=object)
    assert transform(np.convolve(f, g), z) == transform(f, z) * transform(g, z)
    assert transform(backend.dilate(g, step), z) == transform(g, z**step)
    assert transform(backend.compose(f, g, stride1=step), z) == transform(f, z) * transform(g, z**step)


# Padding


QUARTERS = [(c, q, p) for c in range(1, 9) for q in range(1, 6) for p in range(3 * c + 2)]


@pytest.mark.verifies(
    "thm-strides-quarter",
    "eq-strides-quarter",
    box=f"k up to 8, 4 to 20 samples, totals up to 3k + 1: {len(QUARTERS)} cases",
    exact=True,
)
def test_a_quarter_of_the_length():
    for c, q, total in QUARTERS:
        x, k2, k4 = [1] * (4 * q), [1] * c, [1] * (3 * c - 2)
        before = total // 2
        twice = layer(layer(x, k2, 2, (before, total - before)), k2, 2)
        once = layer(x, k4, 4, (before, total - before))
        assert len(twice) == len(once)
        assert (len(once) == q) == (3 * c - 6 <= total <= 3 * c - 3)


PADDED = [
    (c, size, padding, between)
    for c in range(2, 7)
    for size in range(3, 10)
    for padding in product(range(5), (0, 1, 3))
    for between in product(range(4), range(3))
]


@pytest.mark.verifies(
    "thm-strides-between",
    box="k 2 to 6, 3 to 9 samples, 0 to 4 and 0, 1 or 3 zeros before and after the first layer, 0 to 3 and 0 to 2 "
    f"before and after the second: {len(PADDED):,} cases",
    exact=True,
)
def test_padding_between_two_layers():
    """Filters and inputs of ones show every harm; where there is none, filters and inputs of integers agree too."""
    rng = np.random.default_rng(0)
    harmless = 0
    for c, size, (before, after), (p2, q2) in PADDED:
        firsts = (size + before + after - c) // 2 + 1
        if size + before + after < c or firsts + p2 + q2 < c:
            continue

        def agree(x, k, c=c, before=before, after=after, p2=p2, q2=q2):
            k4 = np.convolve(k, np.kron(k, [1, 0]))[: 3 * c - 2].tolist()
            twice = layer(layer(x, k, 2, (before, after)), k, 2, (p2, q2))
            return twice == layer(x, k4, 4, (before + 2 * p2, 5 * c + after + 8))[: len(twice)]

        outputs = (firsts + p2 + q2 - c) // 2 + 1
        covered = {2 * j - p2 + b for j in range(outputs) for b in range(c)}
        padded = [i for i in covered if not 0 <= i < firsts]
        expected = all(2 * i - before + c - 1 < 0 or 2 * i - before >= size for i in padded)
        assert agree([1] * size, [1] * c) == expected
        if expected:
            harmless += 1
            assert agree(rng.integers(-9, 10, size).tolist(), rng.integers(-9, 10, c).tolist())
        front = all(2 * i - before + c - 1 < 0 for i in padded if i < 0)
        assert front or before < c - 2
        assert not front or before >= c - 2 or -1 not in padded
    assert 0 < harmless < len(PADDED)


def test_half_a_kernel_of_padding_per_layer():
    """No harm to up to four taps where four divides the length; three taps and 18 samples are harmed."""
    harmless = []
    for c, size in product(range(2, 9), (16, 18, 20)):
        k, p = [1] * c, c // 2
        twice = layer(layer([1] * size, k, 2, (p, p)), k, 2, (p, p))
        k4 = naive.compose(k, k, stride1=2).tolist()
        once = layer([1] * size, k4, 4, (3 * p, 3 * p + 4))[: len(twice)]
        harmless += [(c, size)] * (twice == once)
        assert (len(twice) == size / 4) == (c % 2 == 1 and size % 4 == 0)
    assert harmless == [(2, 16), (2, 18), (2, 20), (3, 16), (3, 20), (4, 16), (4, 18), (4, 20)]


@both_backends
def test_a_bias_between_the_layers(backend):
    """Harmless padding is harmful once the first layer has a bias; padding of the first layer never is."""
    x, k = [1, 3, 2, 0, 4, 1, 3, 2], [1, 2, 3]
    whole = backend.compose_chain([(k, 2, 1, [7]), (k, 2)])
    k4, bias = whole.weight.tolist(), whole.bias.tolist()[0]
    assert bias == 42
    assert layer(layer(x, k, 2, (3, 3), 7), k, 2) == layer(x, k4, 4, (3, 3), bias)
    between = layer(layer(x, k, 2, (1, 1), 7), k, 2, (1, 1))
    assert between != layer(x, k4, 4, (3, 3), bias)
    assert layer(layer(x, k, 2, (1, 1)), k, 2, (1, 1)) == layer(x, k4, 4, (3, 3))


# Noble identities


NOBLE = [(s, c, size) for s in range(1, 5) for c in range(1, 5) for size in range(1, 10)]


@pytest.mark.verifies(
    "def-strides-decimate",
    "thm-noble",
    box=f"s, k up to 4, N up to 9, all impulses, moved by -4 to 4: {9 * sum(c * n for _, c, n in NOBLE):,} cases",
    exact=True,
)
def test_noble_identities_on_two_sided_sequences():
    """An impulse at a, of either sign, is a dictionary of one entry."""

    def convolved(f, g):
        return {i + j: u * v for (i, u), (j, v) in product(f.items(), g.items())}

    def down(f, s):
        return {i // s: u for i, u in f.items() if i % s == 0}

    def up(f, s):
        return {s * i: u for i, u in f.items()}

    for s, c, size in NOBLE:
        for move, a, b in product(range(-4, 5), range(size), range(c)):
            x, k = {a + move: 1}, {b: 1}
            wide = {m: tap for m, tap in enumerate(naive.dilate(impulse(b, c), s).tolist()) if tap}
            assert wide == up(k, s)
            assert convolved(down(x, s), k) == down(convolved(x, wide), s)
            assert up(convolved(x, k), s) == convolved(up(x, s), wide)


def test_decimation_passes_no_filter_with_taps_in_between():
    x = np.array([1, 3, 2, 0, 4])
    assert np.convolve(x[::2], [2, 1, -1]).tolist() != np.convolve(x, [2, 1, -1])[::2].tolist()


# What one layer costs


COSTS = [(c, n, axes) for axes in (1, 2) for c in range(1, 5) for n in range(1, 4)]


class Counted(int):
    """An integer that counts its products."""

    products = 0

    def __mul__(self, other):
        Counted.products += 1
        return 0

    __rmul__ = __mul__


@pytest.mark.verifies(
    "eq-strides-cost", box=f"k up to 4, up to 3 outputs per axis, 1 and 2 axes: {len(COSTS)} cases", exact=True
)
def test_multiplications_of_two_layers_and_of_one():
    def products_of(chain, size, axes):
        Counted.products = 0
        x = np.full((1, 1, *(size,) * axes), 0, dtype=object)
        for taps, stride in chain:
            w = np.array([Counted(1)] * taps**axes, dtype=object).reshape(1, 1, *(taps,) * axes)
            x = getattr(layers, f"conv{axes}d")(x, w, stride=stride)
        return Counted.products

    for c, n, axes in COSTS:
        size = 4 * (n - 1) + 3 * c - 2
        two = (2 * n + c - 2) ** axes * c**axes + n**axes * c**axes
        assert products_of([(c, 2), (c, 2)], size, axes) == two
        assert products_of([(3 * c - 2, 4)], size, axes) == n**axes * (3 * c - 2) ** axes
    assert [(5 * c**2 > (3 * c - 2) ** 2) for c in (2, 3, 5, 7)] == [True, False, False, False]
