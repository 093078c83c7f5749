"""What the layer makes of its operands: dtypes, exactness, NaN and infinity, views, batches of none."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from konvlib import images
from tests.engine import backends, boxes
from tests.engine.test_images import LARGE_KERNEL

naive = backends.definition("images")

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("images"))(lambda request: request.param)


def test_nan_and_infinity_stay_where_the_sum_has_them(backend):
    """Where a window holds the sample, whichever way is chosen: one output a column, several, or spectra."""
    one_row, image = ((1, 3, 3, 6), (4, 3, 3, 2), 0), ((1, 1, 12, 11), (1, 1, 3, 2), 1)
    cases = [*product((one_row, image), (np.nan, np.inf, -np.inf)), ((*LARGE_KERNEL, 0), np.nan)]
    for (x_shape, w_shape, padding), bad in cases:
        x, w = np.ones(x_shape), np.ones(w_shape)
        x[0, 0, 2, 4] = bad
        y = backend.conv2d(x, w, padding=padding)
        rows, columns = (
            slice(max(0, place + padding - kernel + 1), place + padding + 1)
            for place, kernel in zip((2, 4), w_shape[2:], strict=True)
        )
        hit = np.zeros(y.shape, dtype=bool)
        hit[:, :, rows, columns] = True
        assert np.array_equal(y[hit], np.full(hit.sum(), bad), equal_nan=True)
        assert np.isfinite(y[~hit]).all()


def test_an_infinite_weight_meets_no_padding(exact_backend):
    for shapes in [((1, 1, 5, 4), (2, 1, 3, 3)), ((1, 20, 5, 4), (9, 20, 3, 3))]:
        x, w = (boxes.integers(*shape).astype(np.float64) + 10 for shape in shapes)
        w[0, 0, 0, 0] = np.inf
        y = exact_backend.conv2d(x, w, padding=1)
        assert not np.isnan(y).any()
        assert np.isinf(y[0, 0, 1:, 1:]).all()
        assert np.isfinite(y[0, 0, 0]).all()
        assert np.isfinite(y[:, 1:]).all()


def test_what_is_not_finite_in_operands_of_two_dtypes(exact_backend):
    """As the definition has it in the common dtype, with a kernel large enough for a transform."""
    rng = np.random.default_rng(4)
    for kinds in [("?", "f"), ("b", "d"), ("d", "D"), ("F", "f"), ("e", "e"), ("e", "i"), ("i", "f"), ("f", ">d")]:
        x, w = rng.integers(0, 3, (1, 2, 24, 21)).astype(kinds[0]), rng.integers(0, 3, (2, 2, 9, 11)).astype(kinds[1])
        for operand in (x, w):
            if operand.dtype.kind in "fc":
                operand[0, 1, 5, 6], operand[-1, 0, 7, 3] = np.inf, -np.inf
        with np.errstate(invalid="ignore"):
            expected = naive.conv2d(x, w, padding=(3, 4))
            y = exact_backend.conv2d(x, w, padding=(3, 4))
        assert y.dtype == expected.dtype
        assert np.isnan(y).any()
        for part, right in [(y.real, expected.real), (y.imag, expected.imag)]:
            finite = np.isfinite(right)
            assert np.array_equal(part[~finite], right[~finite], equal_nan=True)
            assert np.abs(part[finite] - right[finite]).max(initial=0) < 1e-3


def test_complex_layers(exact_backend):
    x, w = (boxes.integers(*shape) + 1j * boxes.integers(*shape, seed=1) for shape in [(2, 4, 7, 6), (6, 2, 3, 2)])
    options = {"groups": 2, "stride": (1, 2), "padding": ((1, 0), (0, 2))}
    tensors = torch.nn.functional.pad(torch.from_numpy(x), (0, 2, 1, 0)), torch.from_numpy(w)
    expected = torch.nn.functional.conv2d(*tensors, None, (1, 2), 0, 1, 2).numpy()
    assert (exact_backend.conv2d(x, w, **options) == expected).all()


def test_fractions_and_big_integers_are_exact(exact_backend):
    x, w = [[[Fraction(1, 3), Fraction(-2, 7), Fraction(5)]]], [[[Fraction(9, 11), Fraction(1, 2)]]]
    by_hand = [Fraction(3, 11) - Fraction(1, 7), Fraction(-18, 77) + Fraction(5, 2)]
    assert exact_backend.conv1d(x, w).tolist() == [[by_hand]]
    assert exact_backend.conv1d(x, w, [Fraction(1, 5)], padding=(1,)).tolist() == [
        [
            [
                Fraction(1, 6) + Fraction(1, 5),
                *(value + Fraction(1, 5) for value in by_hand),
                Fraction(45, 11) + Fraction(1, 5),
            ]
        ]
    ]
    big = np.array([[[10**30, 1]]], dtype=object)
    assert exact_backend.conv1d(big, big).tolist() == [[[10**60 + 1]]]


def test_dtypes_are_numpys(exact_backend):
    x, w = boxes.integers(1, 2, 5) % 3, boxes.integers(3, 2, 2) % 3
    for kinds in product("?bhilBHILefdgFDG", repeat=2):
        left, right = x.astype(kinds[0]), w.astype(kinds[1])
        y = exact_backend.conv1d(left, right, right[:, 0, 0])
        assert y.dtype == np.result_type(left, right)
        wide = naive.conv1d(left.astype(object), right.astype(object), right[:, 0, 0].astype(object))
        assert (y == wide.astype(y.dtype)).all()


def test_sums_of_integers_are_exact_beyond_single_precision(backend):
    """Odd sums above 2^24 are none of its numbers, those below 2^53 all of double's."""
    x, w = boxes.integers(1, 2, 6) * 512 + 1, boxes.integers(3, 2, 2, seed=1) * 1024 + 3
    expected = naive.conv1d(x.astype(object), w.astype(object))
    assert (backend.conv1d(x, w) == expected.astype(np.int64)).all()
    assert (backend.conv1d(x, w).astype(np.float32) != expected).any()


def test_machine_integers_wrap_and_take_the_result_s_width(exact_backend):
    """Small sums go through float32, larger ones through float64, the largest stay integers."""
    for dtype, largest in [(np.int8, 127), (np.uint8, 255), (np.int32, 2**28), (np.int64, 2**61), (np.uint64, 2**63)]:
        x = np.random.default_rng(1).integers(largest // 2, largest, (1, 2, 9), dtype=dtype)
        with np.errstate(over="ignore"):
            y = exact_backend.conv1d(x, x[0, :, np.newaxis, :3], x[0, :, 0], groups=2)
        exact = naive.conv1d(
            x.astype(object), x[0, :, np.newaxis, :3].astype(object), x[0, :, 0].astype(object), groups=2
        )
        assert y.dtype == dtype
        assert (
            y == np.array([int(value) % 2**64 for value in exact.ravel()], np.uint64).astype(dtype).reshape(y.shape)
        ).all()
    x, w, bias = np.full((1, 1, 2), 100, np.int8), np.full((1, 1, 2), 100, np.int8), np.array([1])
    assert (exact_backend.conv1d(x, w, bias) == 20001).all()


def test_half_precision_is_summed_in_single():
    x, w = np.full((1, 1, 3000), 0.1, np.float16), np.ones((1, 1, 3000), np.float16)
    y = images.conv1d(x, w)
    assert y.dtype == np.float16
    assert y.item() == np.float16(3000 * np.float64(np.float16(0.1)))


def test_a_batch_of_no_images_stays_one(backend):
    assert backend.conv2d(np.zeros((0, 2, 5, 4)), np.ones((3, 2, 3, 3))).shape == (0, 3, 3, 2)
    assert backend.conv1d(np.zeros((0, 2, 5)), np.ones((4, 1, 3)), np.ones(4), padding=1, groups=2).shape == (0, 4, 5)


def test_operands_stay_as_they_were_and_views_are_welcome(backend):
    x, w, bias = boxes.integers(2, 4, 9, 8), boxes.integers(6, 2, 3, 2), boxes.integers(6)
    kept = [operand.copy() for operand in (x, w, bias)]
    for operand in (x, w, bias):
        operand.flags.writeable = False
    options = {"groups": 2, "stride": (1, 2), "padding": 1}
    y = backend.conv2d(x, w, bias, **options)
    assert all((operand == copy).all() for operand, copy in zip((x, w, bias), kept, strict=True))
    views = np.repeat(x, 2, axis=3)[..., ::2], np.ascontiguousarray(w[..., ::-1])[..., ::-1], np.repeat(bias, 3)[::3]
    assert (backend.conv2d(*views, **options) == y).all()
    turned = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert (backend.conv2d(turned, w, bias, **options) == y).all()


def test_a_kernel_of_one_tap_gives_an_array_of_its_own(backend):
    x = boxes.integers(2, 1, 3, 4).astype(np.float64)
    y = backend.conv2d(x, np.ones((1, 1, 1, 1)))
    y += 1
    assert (y == x + 1).all()
