"""Dilation and composition, every backend against layers run one after the other: PyTorch's, and konvlib's definition.

Two layers are one table: tap ``a`` of the first and tap ``b`` of the second meet in one tap of the whole. All pairs of
unit impulses show it.
A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from konvlib import strides
from konvlib.strides import Layer
from tests.engine import backends, boxes
from tests.engine.oracles.strides import (
    BOX_TEXT,
    CHANNELS,
    ONE_AXIS,
    by_definition,
    by_torch,
    composed,
    covering,
    example_input,
    two_layers,
    weights,
)

naive = backends.definition("strides")
backend = pytest.fixture(params=backends.of("strides"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("strides"))(lambda request: request.param)


@pytest.mark.verifies("def-strides-dilate", "eq-strides-dilate", box="steps 1 to 3 on each of 1 to 3 axes", exact=True)
def test_dilation_puts_zeros_between_the_taps(backend):
    for axes, channels in product((1, 2, 3), (False, True)):
        size = (3, 1, 2)[:axes]
        k = boxes.integers(*(2, 3)[: 2 * channels], *size) + 100
        for steps in product((1, 2, 3), repeat=axes):
            dilated = backend.dilate(k, steps, axes=axes)
            places = (..., *(slice(None, None, step) for step in steps))
            assert dilated.shape[-axes:] == tuple(step * (taps - 1) + 1 for step, taps in zip(steps, size, strict=True))
            assert (dilated[places] == k).all()
            assert np.count_nonzero(dilated) == k.size
            assert dilated.dtype == backends.held(backend, k.dtype)


def test_dilation_takes_the_last_axes_of_a_weight(backend):
    assert backend.dilate(np.ones((2, 3)), 2).shape == (3, 5)
    assert backend.dilate(np.ones((2, 2, 3)), 2).shape == (2, 2, 5)
    assert backend.dilate(np.ones((2, 2, 2, 3)), (1, 3)).shape == (2, 2, 2, 7)
    assert backend.dilate(np.ones((2, 2, 3)), 2, axes=3).shape == (3, 3, 5)
    assert backend.dilate(np.ones((2, 3)), 2, axes=1).shape == (2, 5)


def test_a_layer_with_dilation_is_one_with_a_dilated_kernel(backend):
    for axes in (1, 2, 3):
        x, w = boxes.integers(1, 2, *(9, 8, 7)[:axes]), boxes.integers(3, 2, *(3, 2, 2)[:axes], seed=1)
        steps = (2, 3, 1)[:axes]
        assert (by_torch([(w, 1, steps)], x) == by_torch([(backend.dilate(w, steps), 1, 1)], x)).all()


def assert_the_table(backend, box):
    """Channel ``a`` of the first layer has the tap ``a``, output ``(a, b)`` of the second the tap ``b`` of that."""
    for pair in box:
        a, b = pair.kernel1, pair.kernel2
        w1 = np.eye(a, dtype=int)[:, np.newaxis]
        w2 = np.einsum("ac,bd->abcd", np.eye(a, dtype=int), np.eye(b, dtype=int)).reshape(a * b, a, b)
        options = {"stride1": pair.stride1, "dilation1": pair.dilation1, "dilation2": pair.dilation2}
        a, b, m = np.ogrid[:a, :b, : pair.span]
        table = pair.dilation1 * a + pair.stride1 * pair.dilation2 * b == m
        assert (backend.compose(w1, w2, **options).reshape(table.shape) == table).all()


def test_every_pair_of_taps_meets_in_one_tap(backend):
    assert_the_table(backend, backends.share(backend, ONE_AXIS[::7]))


def test_two_layers_are_one(backend):
    for number, channels in backends.share(backend, list(product(range(0, len(ONE_AXIS), 29), CHANNELS))):
        axes = (ONE_AXIS[number],)
        whole, x = composed(backend, axes, channels), example_input(axes, channels)
        assert (by_torch([whole], x) == by_torch(two_layers(axes, channels), x)).all()


def test_two_layers_of_two_and_three_axes_are_one(backend):
    for number, axes in backends.share(backend, list(enumerate([*covering(2)[::2], *covering(3)[::2]]))):
        channels = CHANNELS[number % 3]
        whole, x = composed(backend, axes, channels), example_input(axes, channels)
        assert (by_torch([whole], x) == by_torch(two_layers(axes, channels), x)).all()


def test_axes_do_not_mix(backend):
    """Kernels that are products of one axis each make one that is."""
    for axes in covering(2)[::3]:
        (rows1, rows2), (columns1, columns2) = (weights((pair,), CHANNELS[0]) for pair in axes)
        names = ("stride1", "dilation1", "dilation2")
        options = [{name: getattr(pair, name) for name in names} for pair in axes]
        rows = backend.compose(rows1[0, 0], rows2[0, 0], **options[0])
        columns = backend.compose(columns1[0, 0], columns2[0, 0], **options[1])
        both = {name: (options[0][name], options[1][name]) for name in names}
        outer = np.outer(rows1, columns1), np.outer(rows2, columns2)
        assert (backend.compose(*outer, **both) == np.outer(rows, columns)).all()


def test_bare_kernels_are_weights_of_one_channel(backend):
    k1, k2 = boxes.integers(3, 2), boxes.integers(2, 4, seed=1)
    bare = backend.compose(k1, k2, stride1=(2, 3))
    assert bare.shape == (5, 11)
    assert (bare == backend.compose(k1[None, None], k2[None, None], stride1=(2, 3))[0, 0]).all()


def test_composition_is_associative(backend):
    """The whole of three layers, from either end."""
    a, b, c = (boxes.integers(2, 2, size, seed=size) for size in (3, 2, 4))
    left = backend.compose(backend.compose(a, b, stride1=2, dilation2=3), c, stride1=4)
    right = backend.compose(a, backend.compose(b, c, stride1=2, dilation1=3), stride1=2)
    assert (left == right).all()


def test_the_smallest_things_compose(backend):
    assert backend.compose([3], [5], stride1=4, dilation1=7, dilation2=9).tolist() == [15]
    assert backend.dilate([[3]], 9).tolist() == [[3]]
    ones = backend.compose(np.ones((6, 1, 1), int), np.ones((6, 1, 1), int), groups1=6, groups2=6)
    assert ones.tolist() == np.ones((6, 1, 1), int).tolist()


def test_operands_stay_as_they_were_and_may_be_views(backend):
    w1 = boxes.integers(4, 3, 5)[::2, :, ::-2]
    w2 = np.broadcast_to(boxes.integers(1, 2, 3), (4, 2, 3))
    copies = w1.copy(), w2.copy()
    result = backend.compose(w1, w2, stride1=2)
    assert (result == backend.compose(*copies, stride1=2)).all()
    bias = np.array([1, 2])
    backend.compose_chain([(w1, 2, 1, bias), (w2, 1, 1, np.ones(4, int))])
    backend.dilate(w1, 2)
    assert bias.tolist() == [1, 2]
    assert (w1 == copies[0]).all()
    assert (w2 == copies[1]).all()


def test_results_are_no_views_of_operands(backend):
    k, bias = np.array([1, 2]), np.array([3])
    whole = backend.compose_chain([(k, 2, 1, bias)])
    for result in (backend.dilate(k, 1), backend.compose(k, [1]), whole.weight, whole.bias):
        assert not np.shares_memory(result, k)
        assert not np.shares_memory(result, bias)


@pytest.mark.verifies("thm-compose", "eq-compose", box=BOX_TEXT, exact=True)
def test_two_layers_are_one_in_the_whole_box(exact_backend):
    """Run one after the other in PyTorch, and for the first two rows of channels by konvlib's definition too."""
    print(BOX_TEXT)
    for pair, channels in product([pair for pair in ONE_AXIS if pair.stride2 == 1], CHANNELS):
        once = composed(exact_backend, (pair,), channels)
        for stride2 in (1, 2, 3):
            axes = (pair._replace(stride2=stride2),)
            whole = once._replace(stride=(pair.stride1 * stride2,))
            chain, x = two_layers(axes, channels), example_input(axes, channels)
            y = by_torch(chain, x)
            assert (by_torch([whole], x) == y).all()
            if channels in CHANNELS[:2] and exact_backend is strides:
                assert (by_definition([whole], x) == by_definition(chain, x)).all()
                assert (by_definition(chain, x) == y).all()


@pytest.mark.verifies(
    "thm-compose",
    "eq-compose",
    box=f"one axis, both kernels 1 to 4, strides and dilations 1 to 3, all pairs of taps: {len(ONE_AXIS):,} geometries",
    exact=True,
)
def test_every_pair_of_taps_meets_in_one_tap_in_the_whole_box(exact_backend):
    assert_the_table(exact_backend, ONE_AXIS)


@pytest.mark.verifies(
    "thm-compose",
    "eq-compose",
    box="two and three axes: coverings in which every two values of parameters of two axes occur together",
    exact=True,
)
def test_two_layers_are_one_on_coverings_of_two_and_three_axes(exact_backend):
    for axes, channels in product([*covering(2), *covering(3)], CHANNELS):
        whole, x = composed(exact_backend, axes, channels), example_input(axes, channels)
        assert (by_torch([whole], x) == by_torch(two_layers(axes, channels), x)).all()


def test_fractions_and_big_integers_are_exact(exact_backend):
    third, big = Fraction(1, 3), 10**30
    assert exact_backend.dilate([third, big], 2).tolist() == [third, 0, big]
    assert exact_backend.compose([third, big], [third, 2], stride1=2).tolist() == [
        Fraction(1, 9),
        third * big,
        2 * third,
        2 * big,
    ]
    whole = exact_backend.compose_chain([([third, big], 2, 1, [third]), ([3, 2], 2, 1, [big])])
    assert whole.weight.tolist() == [1, 3 * big, 2 * third, 2 * big]
    assert whole.bias.tolist() == [5 * third + big]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_dtypes_are_numpys_and_integers_wrap(exact_backend):
    rng = np.random.default_rng(0)
    for a, b in product("?bhilBHILefdFD", repeat=2):
        w1, w2 = rng.integers(0, 256, (4, 1, 2)).astype(a), rng.integers(0, 256, (4, 2, 2)).astype(b)
        w = exact_backend.compose(w1, w2, stride1=2, groups1=2, groups2=2)
        assert w.dtype == np.result_type(np.dtype(a), np.dtype(b))
        whole = exact_backend.compose_chain([(w1, 2, 1, w1[:, 0, 0], 2), (w2, 1, 1, w2[:, 0, 0], 2)])
        assert whole.weight.dtype == whole.bias.dtype == w.dtype
        assert exact_backend.dilate(w1, 2).dtype == w1.dtype
        if w.dtype.kind in "biu":
            assert (w == naive.compose(w1, w2, stride1=2, groups1=2, groups2=2)).all()
            assert (whole.weight == w).all()
            bias = w2[:, 0, 0] + (w2.astype(w.dtype) * w1[:, 0, 0].reshape(2, 2).repeat(2, 0)[..., np.newaxis]).sum(
                (1, 2)
            )
            assert (whole.bias == bias.astype(w.dtype)).all()


def test_a_bias_may_be_wider_than_the_weights(exact_backend):
    whole = exact_backend.compose_chain([(np.array([1, 2], np.int8), 2, 1, [0.5]), (np.array([3], np.int16),)])
    assert (whole.weight.dtype, whole.bias.dtype) == (np.int16, np.float64)
    assert (whole.weight.tolist(), whole.bias.tolist()) == ([3, 6], [1.5])


def test_sums_of_integers_beyond_single_precision(backend):
    """Terms below 2**24, which single precision holds, and sums above it, of which it holds every second at most."""
    w1, w2 = 4095 - boxes.integers(3, 1, 2, seed=1) % 64, 4095 - boxes.integers(2, 3, 3, seed=2) % 64
    expected = sum(np.stack([np.convolve(w1[c, 0], w2[o, c]) for o in range(2)]) for c in range(3))
    assert expected.max() > 2**25
    assert (expected % 2).any()
    assert (backend.compose(w1, w2)[:, 0] == expected).all()


RATES = [(rate, step) for rate in range(1, 25) for step in range(1, rate + 1) if rate % step == 0]


@pytest.mark.verifies(
    "eq-strides-alias", box=f"P up to 24, each s that divides it, all frequencies: {len(RATES)} cases", exact=True
)
def test_frequencies_that_decimation_cannot_tell_apart():
    """A wave of P samples a second is its exponents modulo P: those of nu and nu + P / s agree, no closer ones do."""
    for rate, step in RATES:
        kept = np.arange(rate * step)[::step]
        for frequency, apart in product(range(rate), range(1, rate + 1)):
            same = (frequency * kept % rate == (frequency + apart) * kept % rate).all()
            assert same == (apart % (rate // step) == 0)


FIELDS = [
    chain
    for count in (1, 2, 3)
    for chain in product(product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2)), repeat=count)
    if sum(map(sum, chain)) % 11 == 0 or count == 1
]
"""Chains of layers (taps, stride, dilation, padding before): all of one layer, about every eleventh of more."""


@pytest.mark.verifies(
    "eq-strides-start",
    box=f"1 to 3 layers, taps, strides up to 3, dilations, paddings up to 2: {len(FIELDS[::13]):,} of their chains",
    exact=True,
)
def test_a_receptive_field_starts_where_the_paddings_say():
    """The first and the last sample that an output of layers of ones depends on, found by impulses."""
    for chain in FIELDS[::13]:
        start, before, taps = 0, 1, 1
        for kernel, stride, dilation, padding in chain:
            start -= before * padding
            taps += before * dilation * (kernel - 1)
            before *= stride
        output = -(start // before)  # the first whose field has no padding
        first = before * output + start
        x = np.eye(first + taps + 1, dtype=int)[:, np.newaxis]
        for kernel, stride, dilation, padding in chain:
            x = np.pad(x, ((0, 0), (0, 0), (padding, 0)))
            x = by_torch([Layer(np.ones((1, 1, kernel), int), stride, dilation)], x)
        seen = np.flatnonzero(x[:, 0, output])
        assert (seen[0], seen[-1]) == (first, first + taps - 1)
        assert seen[0] + seen[-1] == 2 * before * output + 2 * start + taps - 1
