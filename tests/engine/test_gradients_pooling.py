"""Gradients of both poolings, every backend against PyTorch's autograd and against the layers themselves."""

from __future__ import annotations

import time
from fractions import Fraction
from functools import cache
from itertools import product
from math import lcm
from types import ModuleType

import numpy as np
import pytest
import torch

from konvlib import gradients, images
from konvlib.gradients import pooling_arrays
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import call
from tests.engine.test_images_pooling import shows_samples

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


@cache
def max_pools():
    rows = []
    for row in filter(lambda row: shows_samples(*row), POOLS):
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
    dense = [row for row in POOLS if row[4] == 1 and shows_samples(*row)]
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


@pytest.mark.verifies("thm-gradients-pooling", box="one to three axes, dilations 1 to 3, divisors", exact=True)
def test_dilated_average_pooling_is_the_transpose_of_its_layer(backend):
    """In fractions where they are, as above; each axis has a dilation of its own."""
    axes = ((9, 3, 2, (1, 0), 3), (7, 2, 3, (0, 1), 2), (6, 3, 1, (1, 1), 1))
    for count, ceil_mode, with_padding, divisor in product((1, 2, 3), (False, True), (False, True), (None, 5)):
        size, kernel, stride, padding, dilation = (tuple(each) for each in zip(*axes[:count], strict=True))
        options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        options |= {"count_include_pad": with_padding, "divisor_override": divisor}
        exact = isinstance(backend, (ModuleType, backends.ArrayBackend))
        number = np.frompyfunc(Fraction, 1, 1) if exact else np.asarray
        x = number(boxes.integers(1, 2, *size))
        y = call(layers, "avg_pool#d", count, x, kernel, **options)
        dy = number(boxes.integers(*y.shape, seed=1))
        dx = call(backend, "avg_pool#d_grad", count, dy, kernel, input_size=size, **options)
        assert dx.shape == x.shape
        difference = (x * dx).sum() - (y * dy).sum()
        assert difference == 0 if exact else abs(difference) < 1e-10


def test_average_pooling_with_a_divisor_as_torchs_autograd(backend):
    dy = boxes.integers(2, 3, 3, 4)
    for divisor, ceil_mode, size in ((1, False, (7, 8)), (8, True, (6, 6))):
        x = torch.zeros(2, 3, *size, dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.avg_pool2d(x, (2, 3), (3, 2), (1, 1), ceil_mode, divisor_override=divisor)
        assert y.shape == dy.shape
        (expected,) = torch.autograd.grad(y, x, boxes.tensor(dy))
        options = {"stride": (3, 2), "padding": 1, "ceil_mode": ceil_mode, "divisor_override": divisor}
        assert (backend.avg_pool2d_grad(dy, (2, 3), input_size=size, **options) == expected.numpy()).all()


def test_halves_are_divided_and_summed_in_single_precision_and_rounded_once(backend):
    """Each share of one is less than any normal half, and 2,048 and one is 2,048 in halves."""
    one = np.ones((1, 1, 1, 1), np.float16)
    dx = backend.avg_pool2d_grad(one, 16, input_size=16, divisor_override=2**16)
    assert dx.dtype == np.float16
    assert (dx == np.float16(2.0**-16)).all()
    for terms in ([2048, 1, 1, 1], [1, 1, 1, 2048]):
        dy = np.array([[terms]], np.float16)
        dx = backend.avg_pool1d_grad(dy, 4, input_size=7, stride=1, divisor_override=1)
        assert (dx[0, 0] == np.convolve(terms, [1, 1, 1, 1]).astype(np.float16)).all()
        dx = backend.max_pool1d_grad(np.array([[[0, 0, 0, 1, 0, 0, 0]]], np.float16), dy, 4, stride=1)
        assert dx.dtype == np.float16
        assert dx[0, 0].tolist() == [0, 0, 0, np.float16(2051), 0, 0, 0]


@pytest.mark.parametrize("exact_backend", backends.exact("gradients"))
def test_a_share_is_not_lost_in_halves(exact_backend):
    dx = exact_backend.avg_pool2d_grad(np.ones((1, 1, 1, 1), "f2"), 256, input_size=256)
    assert (dx == np.float16(1 / 65536)).all()


@pytest.mark.parametrize("exact_backend", backends.exact("gradients"))
def test_gradients_of_other_byte_orders(exact_backend):
    for order, kind in product("<>", ("f2", "f4", "f8", "i2", "i8", "u4", "c8")):
        x, dy = (boxes.integers(2, 3, 9) % 7).astype(order + "f4"), (boxes.integers(2, 3, 4) % 9).astype(order + kind)
        for given, expected in (
            (exact_backend.max_pool1d_grad(x, dy, 2), exact_backend.max_pool1d_grad(x, dy.astype(kind), 2)),
            (
                exact_backend.avg_pool1d_grad(dy, 2, input_size=9),
                exact_backend.avg_pool1d_grad(dy.astype(kind), 2, input_size=9),
            ),
        ):
            assert given.dtype == expected.dtype
            assert given.dtype.isnative
            assert (given == expected).all()


def test_windows_larger_than_any_input_send_at_once(backend):
    x, dy = np.arange(10.0).reshape(1, 1, 10), np.array([[[3.0]]])
    if not backends.is_definition(backend):
        assert backend.max_pool1d_grad(x, dy, 10**9, ceil_mode=True).tolist() == [[[0] * 9 + [3]]]
        options = {"input_size": 10, "ceil_mode": True, "divisor_override": 6}
        assert backend.avg_pool1d_grad(dy, 10**9, **options).tolist() == [[[0.5] * 10]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_what_meets_is_added_in_integers_that_wrap(backend):
    """Of overlapping windows; of Python's integers too."""
    backends.needs_arrays(backend)
    x, dy = np.array([[[0, 9, 0, 0]]]), np.array([[[200, 100, 7]]], np.uint8)
    assert backend.max_pool1d_grad(x, dy, 2, stride=1).tolist() == [[[0, 300 - 256, 7, 0]]]
    large = np.array([[[10**30, 1, 2]]], dtype=object)
    assert backend.max_pool1d_grad(x, large, 2, stride=1).tolist() == [[[0, 10**30 + 1, 2, 0]]]


def test_average_pooling_in_several_tiles(backend):
    """Large enough to be taken in several tiles, and every sample known."""
    backends.needs_arrays(backend)
    if backends.is_definition(backend):
        return
    dy = np.ones((1, 1, 300_000))
    dx = backend.avg_pool1d_grad(dy, 5, input_size=300_004, stride=1, divisor_override=1)[0, 0]
    assert dx[:5].tolist() == [1, 2, 3, 4, 5]
    assert (dx[4:-4] == 5).all()
    assert dx[-4:].tolist() == [4, 3, 2, 1]


@pytest.mark.parametrize("turns", [0, 2])
def test_average_pooling_of_arrays_by_running_sums(turns, monkeypatch):
    """What windows larger than those of the boxes go by; and some axes one way, some the other."""
    monkeypatch.setattr(pooling_arrays, "TURNS", turns)
    for kernel, options, dy, expected in avg_pools():
        assert (gradients.avg_pool1d_grad(dy, kernel, **options) == expected).all()
    test_average_pooling_is_the_transpose_of_its_layer(gradients)


def test_average_pooling_of_arrays_by_turns_leaves_what_is_not_finite_where_it_is():
    dy = np.ones((1, 2, 6, 7))
    dy[0, 0, 2, 3], dy[0, 1, 5, 0] = np.nan, np.inf
    for kernel, stride in product((1, 2, 3, 5), (1, 2, 3)):
        options = {"input_size": (5 * stride + kernel, 6 * stride + kernel), "stride": stride, "divisor_override": 1}
        dx = gradients.avg_pool2d_grad(dy, kernel, **options)
        assert np.isnan(dx[0, 0]).sum() == np.isinf(dx[0, 1]).sum() == kernel**2
        assert np.isnan(dx[0, 0, 2 * stride : 2 * stride + kernel, 3 * stride : 3 * stride + kernel]).all()


def test_small_windows_of_many_channels_cost_little():
    """One window a channel takes the time of some copies of the result, by tables of running sums that of ten or more;
    and what a max pooling's windows received is added for many channels in one call."""
    dy = np.ones((8, 512, 1, 1), np.float32)
    x = np.random.default_rng(0).standard_normal((8, 512, 7, 7)).astype(np.float32)
    calls = [
        lambda: gradients.avg_pool2d_grad(dy, 7, input_size=7),
        lambda: np.broadcast_to(dy, x.shape).copy(),
        lambda: gradients.max_pool2d_grad(x, dy, 7),
        lambda: images.max_pool2d(x, 7, return_indices=True),
    ]
    average, copied, largest, found = np.min([[seconds(call) for call in calls] for _ in range(9)], axis=0)
    assert average < 5 * copied
    assert largest < 2.5 * found


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
