"""The theorems on chains of layers, in every backend, each with a counterexample where a condition is dropped."""

from __future__ import annotations

from itertools import pairwise, product
from math import gcd, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import geometry, strides
from konvlib.strides import Layer
from tests.engine import backends, boxes
from tests.engine.oracles.strides import CHANNELS, Pair, by_torch, matrix, two_layers

layers = backends.definition("images")
backend = pytest.fixture(params=backends.of("strides"))(lambda request: request.param)


@pytest.mark.verifies("thm-two-strides", "eq-k4", box="k up to 7, one filter of integers each", exact=True)
def test_k4_is_the_sum_of_the_problem(backend):
    """``k4[m] = sum_b k2[b] k2[m - 2 b]``, of length ``3 c - 2``."""
    for c in range(1, 8):
        k2 = boxes.integers(c)
        k4 = backend.compose(k2, k2, stride1=2)
        assert len(k4) == 3 * c - 2
        for m in range(3 * c - 2):
            assert k4[m] == sum(k2[b] * k2[m - 2 * b] for b in range(c) if 0 <= m - 2 * b < c)
        assert (k4 == np.convolve(k2, backend.dilate(k2, 2))).all()


@pytest.mark.verifies(
    "thm-two-strides", "lem-strides-transform", box="k up to 7, one filter of integers each", exact=True
)
def test_k4_is_a_product_of_polynomials(backend):
    """``K4(z) = K2(z) K2(z**2)``, with the powers of ``z`` in NumPy's order, the highest first."""
    for c in range(1, 8):
        k2 = boxes.integers(c) + 20
        polynomial = np.poly1d(k2[::-1])
        assert np.poly1d(backend.compose(k2, k2, stride1=2)[::-1]) == polynomial * polynomial(np.poly1d([1, 0, 0]))


def test_the_taps_at_multiples_of_four_are_not_enough(backend):
    """The published solution keeps only those; with two taps it loses two of the four."""
    k2, x = np.array([1, 2]), np.array([1, 3, 2, 5])
    k4 = backend.compose(k2, k2, stride1=2)
    right = np.array([k2 @ [k2 @ x[:2], k2 @ x[2:]]])
    published = np.where(np.arange(4) % 4 == 0, k4, 0)
    assert k4.tolist() == [1, 2, 2, 4]
    assert right == k4 @ x == 31
    assert published @ x == 1


def test_padding_once_is_padding_of_the_whole(backend):
    """With any padding of the input, and also with a bias."""
    for before, after in product(range(3), repeat=2):
        axes = (Pair(3, 2, 2, 2, 1, 1), Pair(2, 3, 1, 3, 2, 1))
        first, second = two_layers(axes, CHANNELS[1])
        chain = [first._replace(bias=np.array([5, -3, 2])), second._replace(bias=np.array([7, 1]))]
        x = np.pad(boxes.integers(2, 2, 11, 9), ((0, 0), (0, 0), (before, after), (after, before)))
        assert (by_torch([backend.compose_chain(chain)], x) == by_torch(chain, x)).all()


def test_padding_between_the_layers_is_not_padding_once(backend):
    """Five taps, two zeros on each side of both layers: an inner output has ``k4``, the first lacks some of it."""
    k2 = np.array([1, 2, 4, 3, 5])
    k4 = backend.compose(k2, k2, stride1=2)
    between = matrix(20, (k2, 2, 2), (k2, 2, 2))
    assert (between[2, 2:15] == k4).all()
    for before in range(len(k4)):
        once = matrix(20, (k4, 4, (before, 20)))[: len(between)]
        assert (once[2] == between[2]).all() == (before == 6)
        assert (once[0] != between[0]).any()


@pytest.mark.verifies(
    "thm-strides-between", box="k 2 to 6, 0 to 5 zeros before the first layer, 1 or 2 before the second", exact=True
)
def test_padding_between_the_layers_is_harmless_where_the_first_sees_only_padding_there(backend):
    """What the first layer would give there is the zero that is put in its place; but not with a bias."""
    for c, inside, between in product(range(2, 7), range(6), range(1, 3)):
        k2 = np.arange(1, c + 1)
        twice = matrix(24, (k2, 2, inside), (k2, 2, (between, 0)))
        once = matrix(24, (backend.compose(k2, k2, stride1=2), 4, (inside + 2 * between, inside)))
        assert (twice == once).all() == (inside >= c - 2)
    biased = matrix(24, ([1, 2, 3], 2, 1, [7]), ([1, 2, 3], 2, (1, 0)))
    whole = backend.compose_chain([([1, 2, 3], 2, 1, [7]), ([1, 2, 3], 2)])
    assert (biased[1:] == matrix(24, (whole.weight, 4, (3, 1), whole.bias))[1:]).all()
    assert (biased[0] != matrix(24, (whole.weight, 4, (3, 1), whole.bias))[0]).all()


@pytest.mark.verifies(
    "thm-strides-quarter",
    "eq-strides-quarter",
    box="k up to 6, 4 to 24 samples, totals up to 19: 720 cases",
    exact=True,
)
def test_a_quarter_of_the_length_needs_a_total_padding_of_3c_minus_6_to_3c_minus_3(backend):
    composed = {c: backend.compose(np.ones(c, int), np.ones(c, int), stride1=2) for c in range(1, 7)}
    for c, total, quarter in product(composed, range(20), range(1, 7)):
        k4, padded = composed[c], 4 * quarter + total
        if padded < len(k4):
            assert total < 3 * c - 6
            continue
        outputs = layers.conv1d(np.ones((1, 1, padded), int), k4[None, None], stride=4).shape[2]
        assert (outputs == quarter) == (3 * c - 6 <= total <= 3 * c - 3)


def test_order_matters(backend):
    """Two filters, or a stride and a dilation, the other way round: another filter."""
    a, b = np.array([1, 2]), np.array([3, 5, 4])
    assert backend.compose(a, b, stride1=2).tolist() == [3, 6, 5, 10, 4, 8]
    assert backend.compose(b, a, stride1=2).tolist() == [3, 5, 10, 10, 8]
    assert backend.compose(a, b).tolist() == backend.compose(b, a).tolist()
    dilated_last, dilated_first = backend.compose_chain([(a, 2), (b, 1, 3)]), backend.compose_chain([(b, 1, 3), (a, 2)])
    assert dilated_last.stride == dilated_first.stride == (2,)
    assert dilated_last.weight.tolist() == [3, 6, 0, 0, 0, 0, 5, 10, 0, 0, 0, 0, 4, 8]
    assert dilated_first.weight.tolist() == [3, 6, 0, 5, 10, 0, 4, 8]


@pytest.mark.verifies("thm-noble", box="s up to 4, one filter of 4 taps, 24 samples", exact=True)
def test_the_noble_identities(backend):
    """A filter after keeping every ``s``-th sample is its dilation before; one before inserting zeros, after."""
    x, k = boxes.integers(24), boxes.integers(4, seed=1)
    for s in range(1, 5):
        dilated = backend.dilate(k, s)
        assert (np.convolve(x[::s], k) == np.convolve(x, dilated)[::s][: len(x[::s]) + 3]).all()
        assert (backend.dilate(np.convolve(x, k), s) == np.convolve(backend.dilate(x, s), dilated)).all()
        assert (backend.compose([1], k, stride1=s) == dilated).all()


CHAINS = [
    [(3, 2, 1), (3, 2, 1), (3, 2, 1)],
    [(2, 3, 2), (3, 1, 3), (1, 2, 1), (2, 1, 2)],
    [(1, 2, 1), (3, 2, 1)],
    [(3, 1, 2), (1, 1, 5), (2, 2, 4)],
    [(4, 3, 1)],
    [(1, 4, 3)],
]
"""Kernel, stride and dilation of each layer."""
CHAIN_CHANNELS = [((1, 1, 1, 1, 1), (1, 1, 1, 1)), ((2, 3, 1, 2, 3), (1, 1, 1, 1)), ((4, 8, 4, 4, 8), (2, 4, 4, 2))]
"""Channels from layer to layer, and the layers' groups."""


def chain_of(rows, channels, groups, *, axes=1):
    """A chain with these numbers on each axis, kernels growing from axis to axis; a bias on every second layer."""
    chain = []
    for number, ((kernel, stride, dilation), (inputs, outputs), parts) in enumerate(
        zip(rows, pairwise(channels), groups, strict=True)
    ):
        sizes = [kernel + axis if kernel > 1 else 1 for axis in range(axes)]
        weight = boxes.integers(outputs, inputs // parts, *sizes, seed=number) % 7 - 3
        bias = boxes.integers(outputs, seed=number) if number % 2 == 0 else None
        chain.append(Layer(weight, stride, dilation, bias, parts))
    return chain


@pytest.mark.verifies(
    "cor-strides-chain",
    box="six chains of one to four layers, one and two axes, three rows of channels and groups, biases",
    exact=True,
)
def test_any_chain_is_one_layer(backend):
    for rows, (channels, groups), axes in product(CHAINS, CHAIN_CHANNELS, (1, 2)):
        if axes == 1 or sum(kernel for kernel, *_ in rows) < 6:
            chain = chain_of(rows, channels[: len(rows) + 1], groups[: len(rows)], axes=axes)
            whole = backend.compose_chain(chain)
            seen = [gap * (taps - 1) + 1 for gap, taps in zip(whole.dilation, whole.weight.shape[2:], strict=True)]
            x = boxes.integers(2, channels[0], *(size + whole.stride[0] for size in seen), seed=9)
            assert (by_torch([whole], x) == by_torch(chain, x)).all()


@pytest.mark.verifies(
    "cor-strides-chain", "eq-strides-chain", box="six chains of one to four layers of ones", exact=True
)
def test_stride_is_the_product_and_the_receptive_field_falls_out(backend):
    """A layer's taps lie as far apart as its dilation times the product of all strides before it."""
    for rows in CHAINS:
        whole = backend.compose_chain([(np.ones(kernel, int), stride, dilation) for kernel, stride, dilation in rows])
        assert whole.stride == (prod(stride for _, stride, _ in rows),)
        field = geometry.receptive_field([(*row, 0) for row in rows])
        assert whole.dilation[0] * (len(whole.weight) - 1) + 1 == field.size
        expected, jump = np.ones(1, int), 1
        for kernel, stride, dilation in rows:
            expected = np.convolve(expected, backend.dilate(np.ones(kernel, int), jump * dilation))
            jump *= stride
        assert (backend.dilate(whole.weight, whole.dilation) == expected).all()


def test_the_kernel_of_the_whole_is_the_smallest(backend):
    """Taps that all lie on every second sample are kept as such; layers of one tap do not count."""
    whole = backend.compose_chain([([1, 2], 2, 4), ([3], 1, 5), ([1, 1], 1, 3)])
    assert whole.dilation == (2,)
    assert whole.weight.tolist() == [3, 0, 6, 3, 0, 6]
    whole = backend.compose_chain([(np.ones((2, 1), int), 1, (3, 2)), (np.ones((1, 2), int), (2, 1), (5, 7))])
    assert (whole.weight.shape, whole.stride, whole.dilation) == ((2, 2), (2, 1), (3, 7))
    single = backend.compose_chain([([[[1, 2]], [[3, 4]]], 2, 3, [5, 6])])
    assert single.weight.tolist() == [[[1, 2]], [[3, 4]]]
    assert (single.stride, single.dilation, single.bias.tolist(), single.groups) == ((2,), (3,), [5, 6], 1)


@pytest.mark.verifies("thm-compose", "eq-compose", box="with and without either bias, two groups", exact=True)
def test_a_bias_passes_through_the_layers_after_it(backend):
    for first, second in product((None, np.array([5, -2, 7, 1])), (None, np.array([3, 4]))):
        w1, w2 = boxes.integers(4, 1, 2, 3), boxes.integers(2, 2, 3, 2, seed=1)
        whole = backend.compose_chain([(w1, 2, 1, first, 2), (w2, 1, 1, second, 2)])
        if first is None and second is None:
            assert whole.bias is None
            continue
        through = np.zeros(2, int) if first is None else (w2.sum((2, 3)) * first.reshape(2, 2)).sum(1)
        assert (whole.bias == through + (0 if second is None else second)).all()


@pytest.mark.verifies("cor-strides-chain", box="60 chains drawn at random, of 1 to 5 layers on 1 to 3 axes", exact=True)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_chain_of_any_geometry_is_one_layer(data):
    axes, count = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    most = (9, 5, 2)[axes - 1]
    chain, parts = [], [data.draw(st.integers(1, 3)) for _ in range(count)]
    inputs = 6
    for number, groups in enumerate(parts):
        outputs = 6 * data.draw(st.integers(1, 2))
        kernel, stride, dilation = (
            tuple(data.draw(st.integers(1, high)) for _ in range(axes)) for high in (most, 2 + (axes == 1), 2)
        )
        weight = boxes.integers(outputs, inputs // groups, *kernel, seed=number) % 3 - 1
        bias = boxes.integers(outputs, seed=number) if data.draw(st.booleans()) else None
        chain.append(Layer(weight, stride, dilation, bias, groups))
        inputs = outputs
    whole = strides.compose_chain(chain)
    seen = [gap * (taps - 1) + 1 for gap, taps in zip(whole.dilation, whole.weight.shape[2:], strict=True)]
    x = boxes.integers(1, 6, *(size + data.draw(st.integers(0, 3)) for size in seen), seed=9)
    assert whole.groups == gcd(*parts)
    assert (by_torch([whole], x) == by_torch(chain, x)).all()
