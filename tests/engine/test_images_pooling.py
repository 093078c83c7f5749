"""Poolings, every backend against PyTorch and against a depthwise layer.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import geometry, images
from tests.engine import backends, boxes
from tests.engine.test_images import call

naive = backends.definition("images")

POOLS = list(product(range(1, 8), range(1, 5), range(1, 4), range(3), range(1, 4), (False, True)))
POOL_TEXT = (
    "one axis, sizes 1 to 7, kernels 1 to 4, strides 1 to 3, paddings 0 to 2, dilations 1 to 3, both roundings: "
    f"{len(POOLS):,} geometries"
)
POOLS_THAT_FIT = 678

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("images"))(lambda request: request.param)


def torch_pool(name, axes, x, *args):
    """PyTorch's pooling in doubles."""
    return getattr(torch.nn.functional, f"{name}_pool{axes}d")(boxes.tensor(x), *args).numpy()


def shows_samples(size, kernel, stride, pad, dilation, ceil_mode):
    """Whether windows fit, padding is at most half of what they cover, and each window shows a sample.

    PyTorch does not ask for the last, and writes outside its memory.
    """
    options = {"stride": stride, "padding": (pad, pad), "dilation": dilation, "ceil_mode": ceil_mode}
    try:
        windows = geometry.pool_size(size, kernel, **options)
    except ValueError:
        return False
    return all(any(0 <= i * stride + u * dilation - pad < size for u in range(kernel)) for i in range(windows))


@cache
def max_pools():
    """Of negative samples, so that a zero in the padding would win."""
    rows = []
    for row in filter(lambda row: shows_samples(*row), POOLS):
        if row[3] > row[1] // 2:
            continue  # more than PyTorch takes: see test_images_paddings.py
        x = boxes.integers(2, 3, row[0]) - 20
        rows.append((x, row, torch_pool("max", 1, x, *row[1:])))
    assert len(rows) == POOLS_THAT_FIT
    return rows


@cache
def avg_pools():
    """Of multiples of every count, so that means are exact."""
    rows = []
    dense = [row for row in POOLS if row[4] == 1 and shows_samples(*row)]
    for (size, kernel, stride, pad, _, ceil_mode), counted in product(dense, (False, True)):
        x = boxes.integers(2, 3, size) * 12
        options = {"stride": stride, "padding": pad, "ceil_mode": ceil_mode, "count_include_pad": counted}
        rows.append((x, kernel, options, torch_pool("avg", 1, x, kernel, *options.values())))
    return rows


def pool_options(row):
    return dict(zip(("stride", "padding", "dilation", "ceil_mode"), row[2:], strict=True))


@pytest.mark.verifies("def-images-pooling", "eq-images-pooling", box=POOL_TEXT, exact=True)
def test_max_pooling_on_one_axis_is_torchs(backend):
    for x, row, expected in backends.share(backend, max_pools()):
        y = backend.max_pool1d(x, row[1], **pool_options(row))
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_pools_that_do_not_fit_are_refused_alike():
    print(POOL_TEXT)
    for row in POOLS:
        if not shows_samples(*row):
            errors = []
            for module in (naive, images):
                with pytest.raises(ValueError, match=r"^(kernel_size|padding|dilation) must") as raised:
                    module.max_pool1d(np.ones((1, 1, row[0])), row[1], **pool_options(row))
                errors.append(str(raised.value))
            assert errors[0] == errors[1]


def random_pool(seed, axes):
    rng = np.random.default_rng([seed, axes])
    kernel, stride = rng.integers(1, 5, axes), rng.integers(1, 4, axes)
    padding, size = rng.integers(0, kernel // 2 + 1), rng.integers(7, 9, axes)
    args = [tuple(map(int, value)) for value in (kernel, stride, padding)]
    return rng.integers(-30, -1, (1, 2, *size)), args, bool(seed % 2)


def test_max_pooling_on_more_axes_is_torchs(backend):
    for seed, axes in backends.share(backend, list(product(range(40), (2, 3)))):
        x, (kernel, stride, padding), ceil_mode = random_pool(seed, axes)
        dilation = (1, 2, 1)[:axes] if seed % 3 else (2, 1, 1)[:axes]
        expected = torch_pool("max", axes, x, kernel, stride, padding, dilation, ceil_mode)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        assert (call(backend, "max_pool#d", axes, x, kernel, **options) == expected).all()


@pytest.mark.verifies("def-images-pooling", "eq-images-pooling", box=POOL_TEXT, exact=True)
def test_average_pooling_on_one_axis_is_torchs(backend):
    for x, kernel, options, expected in backends.share(backend, list(avg_pools())):
        y = backend.avg_pool1d(x, kernel, **options)
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_average_pooling_on_more_axes_is_torchs(backend):
    for seed, axes in backends.share(backend, list(product(range(40), (2, 3)))):
        x, (kernel, stride, padding), ceil_mode = random_pool(seed, axes)
        x, counted = x * 12**axes, bool(seed // 2 % 2)
        expected = torch_pool("avg", axes, x, kernel, stride, padding, ceil_mode, counted)
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": counted}
        y = call(backend, "avg_pool#d", axes, x, kernel, **options)
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_the_only_window_of_three_axes_may_hang_over(backend):
    """Where PyTorch's own pooling wants the kernel to fit."""
    x = boxes.integers(1, 1, 3, 4, 2) * 12
    y = call(backend, "avg_pool#d", 3, x, (3, 4, 3), stride=2, ceil_mode=True)
    assert y.tolist() == [[[[[x.sum() / x.size]]]]]


def test_pooling_by_default_side_by_side_and_padded_on_one_side(backend):
    x = boxes.integers(1, 2, 6, 9) * 12
    for name in ("max", "avg"):
        assert (call(backend, f"{name}_pool#d", 2, x, (2, 3)) == torch_pool(name, 2, x, (2, 3))).all()
        fill = -np.inf if name == "max" else 0
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=fill)
        y = call(backend, f"{name}_pool#d", 2, x, 2, padding=((1, 0), (0, 1)))
        assert (y == torch_pool(name, 2, padded, 2)).all()
    uneven = backend.avg_pool1d(np.array([[[6, 12]]]), 2, stride=1, padding=((1, 0),), count_include_pad=False)
    assert uneven.tolist() == [[[6.0, 9.0]]]


def test_pools_of_sums_over_axes_are_sums_of_pools(backend):
    """Axes do not mix: each sample is a sum of one number per axis, and so is what its pools give."""
    for axes, name in product((2, 3), ("max", "avg")):
        kernel, size, stride, padding = (3, 2, 4)[:axes], (7, 6, 5)[:axes], (2, 1, 3)[:axes], (1, 0, 2)[:axes]
        parts = [boxes.integers(1, 2, n, seed=axis) * 12 for axis, n in enumerate(size)]
        only_samples = {"count_include_pad": False} if name == "avg" else {}
        places = [tuple(slice(None) if axis == own else np.newaxis for axis in range(axes)) for own in range(axes)]
        expected = 0
        for axis, part in enumerate(parts):
            options = {"stride": stride[axis], "padding": padding[axis], "ceil_mode": True} | only_samples
            expected = (
                expected + call(backend, f"{name}_pool#d", 1, part, kernel[axis], **options)[(..., *places[axis])]
            )
        x = sum(part[(..., *place)] for part, place in zip(parts, places, strict=True))
        options = {"stride": stride, "padding": padding, "ceil_mode": True} | only_samples
        assert np.abs(call(backend, f"{name}_pool#d", axes, x, kernel, **options) - expected).max() < 1e-12


@pytest.mark.verifies("thm-average-pooling", box="three channels, one geometry", exact=True)
def test_average_pooling_is_a_depthwise_convolution(backend):
    x = boxes.integers(2, 3, 7, 9) * 12
    y = backend.conv2d(x, np.ones((3, 1, 2, 3), dtype=np.int64), stride=(2, 1), padding=(1, 1), groups=3)
    assert (backend.avg_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 1)) * 6 == y).all()


def test_pools_keep_nan_and_infinity_in_their_windows(backend):
    for seed, padding in backends.share(backend, list(product(range(30), (0, 1)))):
        values = [np.nan, 1.0, 2.0, 3.0, np.inf, -np.inf]
        x = np.random.default_rng(seed).choice(values, (2, 1, 6, 5), p=[0.08, 0.3, 0.2, 0.2, 0.1, 0.12])
        for name in ("max", "avg"):
            expected = torch_pool(name, 2, x, (2, 3), (1, 2), padding)
            with np.errstate(invalid="ignore"):
                y = call(backend, f"{name}_pool#d", 2, x, (2, 3), stride=(1, 2), padding=padding)
            assert np.array_equal(np.isnan(y), np.isnan(expected))
            assert np.allclose(y, expected, rtol=1e-15, equal_nan=True)


def test_dtypes_of_pools(exact_backend):
    for kind in "?bhilBHILefdg":
        x = (boxes.integers(1, 1, 6) % 2).astype(kind)
        largest, mean = exact_backend.max_pool1d(x, 2, padding=1), exact_backend.avg_pool1d(x, 2)
        assert largest.dtype == x.dtype
        assert (largest[..., 1:-1] == np.maximum(x[..., 1:-1:2], x[..., 2::2])).all()
        assert mean.dtype == np.mean(x).dtype
        assert (mean == (x[..., ::2].astype(float) + x[..., 1::2]) / 2).all()
    x = np.array([[[Fraction(1, 3), Fraction(1, 2), 5, 1]]], dtype=object)
    assert exact_backend.max_pool1d(x, 2).tolist() == [[[Fraction(1, 2), 5]]]
    assert exact_backend.avg_pool1d(x, 2, stride=1).tolist() == [[[Fraction(5, 12), Fraction(11, 4), 3]]]
    assert exact_backend.avg_pool1d(np.array([[[1j, 2]]]), 2).tolist() == [[[1 + 0.5j]]]


def test_operands_stay_as_they_were_and_views_are_welcome(backend):
    x = boxes.integers(2, 4, 9, 8) * 12
    kept, view = x.copy(), np.repeat(x, 2, axis=3)[..., ::2]
    x.flags.writeable = False
    for name in ("max", "avg"):
        y = call(backend, f"{name}_pool#d", 2, x, (2, 3), padding=1)
        assert (call(backend, f"{name}_pool#d", 2, view, (2, 3), padding=1) == y).all()
        alone = call(backend, f"{name}_pool#d", 2, x, 1)
        assert (alone == kept).all()
        alone += 1
    assert (x == kept).all()


def test_a_batch_of_no_images_stays_one(backend):
    for name in ("max", "avg"):
        assert call(backend, f"{name}_pool#d", 2, np.zeros((0, 2, 5, 4)), 2).shape == (0, 2, 2, 2)


@settings(deadline=None, max_examples=100)
@given(axes=st.integers(1, 3), seed=st.integers(0, 2**32 - 1), ceil_mode=st.booleans(), counted=st.booleans())
def test_any_pooling_is_torchs(axes, seed, ceil_mode, counted):
    """On integers; the means of up to 7 samples per axis round."""
    rng = np.random.default_rng(seed)
    kernel, stride = rng.integers(1, 8, axes), rng.integers(1, 9, axes)
    padding, dilation = rng.integers(0, kernel // 2 + 1), rng.integers(1, 4, axes)
    size = np.maximum(rng.integers(1, {1: 500, 2: 60, 3: 20}[axes], axes), dilation * (kernel - 1) + 1)
    x = rng.integers(-1000, 0, (2, 3, *size))
    kernel, stride, padding, dilation = (tuple(map(int, value)) for value in (kernel, stride, padding, dilation))
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    largest = call(images, "max_pool#d", axes, x, kernel, dilation=dilation, **options)
    assert (largest == torch_pool("max", axes, x, kernel, stride, padding, dilation, ceil_mode)).all()
    mean = call(images, "avg_pool#d", axes, x, kernel, count_include_pad=counted, **options)
    expected = torch_pool("avg", axes, x, kernel, stride, padding, ceil_mode, counted)
    assert mean.shape == expected.shape
    assert np.abs(mean - expected).max() < 1e-12 * 1000
