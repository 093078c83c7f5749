"""The operands of the transposed convolution: dtypes, exactness, memory, and batches of no images."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from konvlib import transposes
from konvlib.transposes import arrays
from tests.engine import backends
from tests.engine.boxes import Axis, integers, options
from tests.engine.oracles.transposes import ALGORITHMS, BOX, BOX_TEXT, torch_transpose, weight

backend = pytest.fixture(params=backends.of("transposes"))(lambda request: request.param)


def test_a_batch_of_no_images_stays_one(backend):
    for name in ("conv_transpose2d", *ALGORITHMS):
        y = getattr(backend, name)(np.zeros((0, 4, 3, 2)), np.ones((4, 3, 2, 3)), np.ones(6), stride=2, groups=2)
        assert y.shape == (0, 6, 6, 5)
    assert backend.insert_zeros(np.zeros((0, 2, 3)), 2).shape == (0, 2, 5)


def test_operands_stay_as_they_were_and_results_are_copies(backend):
    x, w, bias = np.arange(6.0).reshape(1, 2, 3), np.arange(4.0).reshape(2, 2, 1), np.arange(2.0)
    for name in ("conv_transpose1d", *ALGORITHMS):
        y = getattr(backend, name)(x, w, bias)
        y += 1
    backend.insert_zeros(x, 1)[:] = 7
    assert (x.ravel() == np.arange(6)).all()
    assert (w.ravel() == np.arange(4)).all()
    assert (bias == np.arange(2)).all()


def test_any_memory_layout(backend):
    x, w = integers(3, 4, 5, 2).transpose(3, 0, 1, 2)[..., ::-1], np.asfortranarray(integers(3, 2, 4, 3))[:, ::-1]
    for name in ("conv_transpose2d", *ALGORITHMS):
        y = getattr(backend, name)(x, w, stride=2)
        expected = getattr(backend, name)(x.copy(), w.copy(), stride=2)
        assert (y == expected).all()


def test_fractions_are_exact(backend):
    third, half, big = Fraction(1, 3), Fraction(1, 2), 10**30
    x, w = np.array([[[third, big]]], dtype=object), np.array([[[half, 3, 1]]], dtype=object)
    for name in ("conv_transpose1d", *ALGORITHMS):
        y = getattr(backend, name)(x, w, np.array([Fraction(1, 7)], dtype=object), stride=2)
        seventh = Fraction(1, 7)
        expected = [third * half, 3 * third, third + big * half, 3 * big, big]
        assert y.ravel().tolist() == [value + seventh for value in expected]


def test_result_dtypes_are_numpys(backend):
    backends.needs_arrays(backend)
    kinds = "?bhlBLfdFD"
    for a, b, c in [*product(kinds, kinds, [None]), *product("bHd", "bf", kinds)]:
        x, w = np.ones((1, 1, 3), dtype=a), np.ones((1, 1, 2), dtype=b)
        terms = (x, w) if c is None else (x, w, np.ones(1, dtype=c))
        for name in ("conv_transpose1d", *ALGORITHMS):
            y = getattr(backend, name)(*terms)
            assert y.dtype == np.result_type(*terms)
            assert (y == (np.array([1, 2, 2, 1]) + (c is not None) if y.dtype != bool else True)).all()


def test_machine_integers_wrap_in_the_dtype_of_the_result(backend):
    backends.needs_arrays(backend)
    x, w = np.array([[[100, 100]]], dtype=np.int8), np.array([[[2, 2]]], dtype=np.int8)
    for name in ("conv_transpose1d", *ALGORITHMS):
        with np.errstate(over="ignore"):
            assert getattr(backend, name)(x, w).tolist() == [[[200 - 256, 400 - 512, 200 - 256]]]
        assert getattr(backend, name)(x, w, np.zeros(1)).tolist() == [[[200, 400, 200]]]


AXES = Axis(7, 3, 2, 1, 2, 1), Axis(5, 4, 3, 0, 1, 2)
WAYS = [
    {"THIN": 0},
    {"THIN": 0, "TOGETHER": 1, "BLOCK": 1},
    {"THIN": 0, "BLOCK": 1000},
    {"MOST_TAPS": 0},
    {"MOST_TAPS": 0, "TOGETHER": 1, "FEW": 0},
]


@pytest.mark.parametrize("most", [64, 0])
def test_sums_over_taps_and_convolutions_in_every_fifth_geometry_of_the_box(most, monkeypatch):
    """Both ways of the backend for arrays, whatever would be quicker."""
    monkeypatch.setattr(arrays, "MOST_TAPS", most)
    monkeypatch.setattr(arrays, "THIN", 0)
    print(BOX_TEXT)
    for axis, extra, channels in BOX[::5]:
        x, w = integers(2, channels.inputs, axis.size), weight(channels, axis)
        given = options(axis) | {"output_padding": extra, "groups": channels.groups}
        expected = torch_transpose(x, w, (axis,), (extra,), channels.groups)
        assert (transposes.conv_transpose1d(x, w, **given) == expected).all()


def test_every_way_gives_the_same(backend):
    """The backend for arrays sums tap by tap or convolves, some images and channels at a time; here all of it."""
    x, w, bias = integers(3, 4, 7, 5), integers(4, 3, 3, 4), integers(6)
    expected = torch_transpose(x, w, AXES, (1, 0), groups=2) + bias.reshape(-1, 1, 1)
    given = options(*AXES) | {"output_padding": (1, 0), "groups": 2}
    counts = backends.definition("transposes").overlap_counts((7, 5), (3, 4), **options(*AXES))
    for way in WAYS if backends.takes_arrays(backend) else WAYS[:1]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in way.items():
                patch.setattr(getattr(backend, "arrays", backend), name, value, raising=False)
            for name in ("conv_transpose2d", *ALGORITHMS):
                assert (getattr(backend, name)(x, w, bias, **given) == expected).all()
            assert (backend.overlap_counts((7, 5), (3, 4), **options(*AXES)) == counts).all()


def test_overlaps_of_many_taps_and_samples(backend):
    """Each by the product of two sequences of ones, the taps' and the samples', ``stride`` and ``dilation`` apart."""
    for size, kernel, stride, dilation in (
        (50, 40, 1, 1),
        (50, 40, 3, 2),
        (40, 50, 2, 3),
        (45, 35, 4, 6),
        (35, 45, 6, 4),
    ):
        samples, taps = np.zeros(stride * (size - 1) + 1, int), np.zeros(dilation * (kernel - 1) + 1, int)
        samples[::stride] = taps[::dilation] = 1
        expected = np.convolve(samples, taps)
        counts = backend.overlap_counts(size, kernel, stride=stride, dilation=dilation, padding=[(5, 2)])
        assert (counts == expected[5:-2]).all()
