"""Gradients of both poolings, every backend against PyTorch's autograd and against the layers themselves."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product
from math import lcm

import numpy as np
import pytest
import torch

from konvlib import geometry
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import call

layers = backends.definition("images")

backend = pytest.fixture(params=backends.of("gradients"))(lambda request: request.param)


POOLS = [
    (size, kernel, stride, padding, dilation, ceil_mode)
    for size, kernel, stride, padding, dilation, ceil_mode in product(
        range(1, 8), range(1, 5), range(1, 5), range(3), range(1, 4), (False, True)
    )
    if padding <= kernel // 2
]


def torch_pool_grad(name, x, dy, *args):
    """As much of the output's gradient as fits, and PyTorch's gradient by the input."""
    x = torch.from_numpy(np.asarray(x, dtype=np.float64)).requires_grad_()
    y = getattr(torch.nn.functional, name)(x, *args)
    dy = dy[tuple(map(slice, y.shape))]
    return dy, torch.autograd.grad(y, x, boxes.tensor(dy))[0].numpy()


def windows_show_samples(size, kernel, stride, padding, dilation, ceil_mode):
    """Whether windows fit and each shows a sample; PyTorch does not ask this and writes outside its memory."""
    options = {"stride": stride, "padding": (padding, padding), "dilation": dilation, "ceil_mode": ceil_mode}
    try:
        windows = geometry.pool_size(size, kernel, **options)
    except ValueError:
        return False
    return all(any(0 <= i * stride + u * dilation - padding < size for u in range(kernel)) for i in range(windows))


@cache
def max_pools():
    rows = []
    for row in filter(lambda row: windows_show_samples(*row), POOLS):
        size, kernel, *args = row
        x, dy = boxes.integers(2, 1, size) % 4, boxes.integers(2, 1, 12)
        options = dict(zip(("stride", "padding", "dilation", "ceil_mode"), args, strict=True))
        rows.append((x, kernel, options, *torch_pool_grad("max_pool1d", x, dy, kernel, *args)))
    assert len(rows) > 900
    return rows


def test_max_pooling_on_one_axis_as_torchs_autograd(backend):
    """Of small integers, so that windows have several largest samples."""
    for x, kernel, options, dy, expected in backends.share(backend, max_pools()):
        dx = backend.max_pool1d_grad(x, dy, kernel, **options)
        assert dx.shape == x.shape
        assert (dx == expected).all()


@cache
def max_pools_of_more_axes():
    rows = []
    for seed, ceil_mode in product(range(60), (False, True)):
        rng = np.random.default_rng(seed)
        axes = 2 + seed % 2
        kernel, stride = rng.integers(1, 4, axes), rng.integers(1, 4, axes)
        padding, dilation = rng.integers(0, kernel // 2 + 1), rng.integers(1, 3, axes)
        size = rng.integers(5, 8, axes) if axes == 2 else rng.integers(5, 6, axes)
        x, dy = rng.integers(0, 3, (1, 2, *size)), rng.integers(-9, 10, (1, 2, 9, 9, 9)[: axes + 2])
        args = [tuple(map(int, value)) for value in (kernel, stride, padding, dilation)]
        options = dict(zip(("stride", "padding", "dilation"), args[1:], strict=True)) | {"ceil_mode": ceil_mode}
        rows.append((axes, x, args[0], options, *torch_pool_grad(f"max_pool{axes}d", x, dy, *args, ceil_mode)))
    return rows


def test_max_pooling_on_more_axes_goes_to_the_first_largest_in_row_major_order(backend):
    for axes, x, kernel, options, dy, expected in backends.share(backend, max_pools_of_more_axes()):
        assert (call(backend, "max_pool#d_grad", axes, x, dy, kernel, **options) == expected).all()


@pytest.mark.verifies("thm-gradients-pooling", box="two axes, strides 1 to 3, dilations 1 and 2", exact=True)
def test_max_pooling_is_a_difference_where_samples_are_far_apart(backend):
    """No two samples are as close as the step, so none overtakes another, and the difference is exact."""
    for dilation, stride in product((1, 2), (1, 2, 3)):
        x = 10 * np.random.default_rng(stride).permutation(2 * 6 * 5).reshape(1, 2, 6, 5)
        options = {"stride": stride, "padding": ((0, 1), (1, 0)), "dilation": dilation}
        y = layers.max_pool2d(x, (3, 2), **options)
        dy = boxes.integers(*y.shape)
        dx = backend.max_pool2d_grad(x, dy, (3, 2), **options)
        for index in np.ndindex(x.shape):
            moved = x.copy()
            moved[index] += 1
            assert np.vdot(layers.max_pool2d(moved, (3, 2), **options) - y, dy) == dx[index]


def test_max_pooling_by_default_side_by_side_and_padded_on_one_side(backend):
    x, dy = boxes.integers(1, 2, 6, 9), boxes.integers(1, 2, 3, 3)
    assert (backend.max_pool2d_grad(x, dy, (2, 3)) == torch_pool_grad("max_pool2d", x, dy, (2, 3))[1]).all()
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=-np.inf)
    dy = boxes.integers(1, 2, 3, 5)
    expected = torch_pool_grad("max_pool2d", padded, dy, (2, 2))[1][:, :, 1:, :-1]
    assert (backend.max_pool2d_grad(x, dy, 2, padding=((1, 0), (0, 1))) == expected).all()


@cache
def max_pools_of_nan_and_infinity():
    rows = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, dy = rng.choice([np.nan, 1.0, 2.0, np.inf, -np.inf], (2, 1, 6, 5)), rng.integers(1, 100, (2, 1, 7, 6))
        for padding, dilation in [(0, 1), (1, 1), (1, 2)]:
            options = {"stride": 1, "padding": padding, "dilation": dilation}
            rows.append((x, options, *torch_pool_grad("max_pool2d", x, dy, (2, 3), 1, padding, dilation)))
    return rows


def test_max_pooling_of_nan_and_infinity_as_torchs_autograd(backend):
    for x, options, dy, expected in backends.share(backend, max_pools_of_nan_and_infinity()):
        assert (backend.max_pool2d_grad(x, dy, (2, 3), **options) == expected).all()


@cache
def avg_pools():
    rows = []
    dense = [row for row in POOLS if row[4] == 1 and windows_show_samples(*row)]
    for (size, kernel, stride, padding, _, ceil_mode), with_padding in product(dense, (False, True)):
        dy = boxes.integers(2, 1, 12) * lcm(1, 2, 3, 4)
        args = (kernel, stride, padding, ceil_mode, with_padding)
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": with_padding}
        result = torch_pool_grad("avg_pool1d", np.zeros((2, 1, size)), dy, *args)
        rows.append((kernel, {"input_size": size} | options, *result))
    assert len(rows) > 700
    return rows


def test_average_pooling_on_one_axis_as_torchs_autograd(backend):
    """Of multiples of every count, so that doubles are exact."""
    for kernel, options, dy, expected in backends.share(backend, avg_pools()):
        dx = backend.avg_pool1d_grad(dy, kernel, **options)
        assert dx.dtype == np.float64
        assert dx.shape == expected.shape
        assert (dx == expected).all()


@pytest.mark.verifies("thm-gradients-pooling", box="one to three axes, padding counted and not", exact=True)
def test_average_pooling_is_the_transpose_of_its_layer(backend):
    """In fractions: the scalar products of the layer's output and of the input's gradient are one."""
    axes = ((5, 3, 2, (1, 0)), (7, 2, 3, (0, 1)), (4, 3, 1, (1, 1)))
    for count, ceil_mode, with_padding in product((1, 2, 3), (False, True), (False, True)):
        size, kernel, stride, padding = (tuple(each) for each in zip(*axes[3 - count :], strict=True))
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": with_padding}
        x = np.frompyfunc(Fraction, 1, 1)(boxes.integers(1, 2, *size))
        y = call(layers, "avg_pool#d", count, x, kernel, **options)
        dy = np.frompyfunc(Fraction, 1, 1)(boxes.integers(*y.shape, seed=1))
        dx = call(backend, "avg_pool#d_grad", count, dy, kernel, input_size=size, **options)
        assert dx.shape == x.shape
        assert (x * dx).sum() == (y * dy).sum()
        assert all(isinstance(value, (int, Fraction)) for value in dx.ravel())


def test_average_pooling_of_two_axes_as_torchs_autograd(backend):
    dy = boxes.integers(2, 3, 3, 4) * 36
    for with_padding in (False, True):
        args = ((2, 3), (3, 2), (1, 1), False, with_padding)
        expected = torch_pool_grad("avg_pool2d", np.zeros((2, 3, 7, 8)), dy, *args)[1]
        options = {"stride": (3, 2), "padding": 1, "count_include_pad": with_padding}
        assert (backend.avg_pool2d_grad(dy, (2, 3), input_size=(7, 8), **options) == expected).all()
