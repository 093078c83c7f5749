"""Gradients of convolution, every backend against PyTorch's autograd and against the layers themselves.

A convolution is one table: which sample ``j`` window ``i`` shows through tap ``u``. The layer and both of its gradients
read it, each summing over two of the three indices, so all pairs of unit impulses give the whole table each time.
A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from konvlib import gradients
from konvlib.gradients import arrays
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import (
    call,
    grads,
    operands,
    rows_of_more_axes,
    rows_of_one_axis,
    rows_of_padding_modes,
    torch_grads,
)

layers = backends.definition("images")

FITTING = sum(axis.fits for axis in boxes.ONE_AXIS)
BOX_TEXT = (
    f"one axis, {boxes.AXIS_TEXT}: {FITTING:,} geometries with every pair of impulses; "
    f"with {boxes.CHANNELS_TEXT}: {FITTING * len(boxes.CHANNELS):,}"
)

backend = pytest.fixture(params=backends.of("gradients"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("gradients"))(lambda request: request.param)


def assert_the_table(backend, axis):
    """Impulses ``i`` in the output's gradient and ``u`` in the weight; then ``j`` in the input and ``i``."""
    i, u, j = np.ogrid[: axis.windows, : axis.kernel, : axis.size]
    table = axis.stride * i + axis.dilation * u - axis.before == j
    windows, taps, samples = (np.eye(count, dtype=int) for count in table.shape)
    options = boxes.options(axis)
    dx = backend.conv1d_input_grad(windows[:, np.newaxis], taps[np.newaxis], input_size=axis.size, **options)
    assert (dx == table).all()
    dw = backend.conv1d_weight_grad(samples[np.newaxis], windows[np.newaxis], kernel_size=axis.kernel, **options)
    assert (dw == table.swapaxes(1, 2)).all()


def test_every_pair_of_impulses_shows_the_table_of_the_convolution(backend):
    for axis in backends.share(backend, boxes.ONE_AXIS[::5]):
        if axis.fits:
            assert_the_table(backend, axis)


def test_batch_channels_and_groups_as_torchs_autograd(backend):
    for axes, channels, (x, w, dy), expected in rows_of_one_axis():
        dx, dw = grads(backend, x, w, dy, axes, channels.groups)
        assert dx.shape == x.shape
        assert dw.shape == w.shape
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()
        assert (backend.conv1d_bias_grad(dy) == dy.sum((0, 2))).all()


def test_two_and_three_axes_as_torchs_autograd(backend):
    for axes, channels, (x, w, dy), expected in backends.share(backend, rows_of_more_axes()):
        dx, dw = grads(backend, x, w, dy, axes, channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()
        db = call(backend, "conv#d_bias_grad", len(axes), dy)
        assert (db == np.moveaxis(dy, 1, 0).reshape(dy.shape[1], -1).sum(1)).all()


def test_the_three_scalar_products_are_one(backend):
    """The sum of all products of x, w and dy, whichever of the three is left for last."""
    rows = [*rows_of_one_axis()[::3], *rows_of_more_axes()[::3]]
    for axes, channels, (x, w, dy), _ in backends.share(backend, rows):
        y = call(layers, "conv#d", len(axes), x, w, groups=channels.groups, **boxes.options(*axes))
        dx, dw = grads(backend, x, w, dy, axes, channels.groups)
        assert np.vdot(y, dy) == np.vdot(x, dx) == np.vdot(w, dw)


def test_one_image_of_one_channel_as_numpy_and_scipy(backend):
    """By the input a full convolution, by the weight a valid correlation."""
    x, w, dy = boxes.integers(1, 1, 7), boxes.integers(1, 1, 3, seed=1), boxes.integers(1, 1, 5, seed=2)
    assert (backend.conv1d_input_grad(dy, w, input_size=7)[0, 0] == np.convolve(dy[0, 0], w[0, 0])).all()
    assert (backend.conv1d_weight_grad(x, dy, kernel_size=3)[0, 0] == np.correlate(x[0, 0], dy[0, 0])).all()
    x, w, dy = boxes.integers(1, 1, 5, 6), boxes.integers(1, 1, 2, 3, seed=1), boxes.integers(1, 1, 4, 4, seed=2)
    dx, dw = backend.conv2d_input_grad(dy, w, input_size=(5, 6)), backend.conv2d_weight_grad(x, dy, kernel_size=(2, 3))
    assert (dx[0, 0] == signal.convolve2d(dy[0, 0], w[0, 0])).all()
    assert (dw[0, 0] == signal.correlate2d(x[0, 0], dy[0, 0], mode="valid")).all()


@pytest.mark.verifies(
    "eq-input-grad", "eq-weight-grad", "eq-bias-grad", box="two axes, two groups, uneven padding", exact=True
)
def test_gradients_are_differences_of_any_step(backend):
    """Exactly: the layer is linear in its input, in its weight and in its bias."""
    axes = (boxes.Axis(3, 2, 2, 1, 0, 1), boxes.Axis(5, 2, 1, 0, 1, 2))
    channels = boxes.Channels(2, 4, 2)
    x, w, dy = operands(axes, channels, batch=1)
    bias = np.array([5, -3])
    options = boxes.options(*axes) | {"groups": 2}
    y = layers.conv2d(x, w, bias, **options)
    of_input, of_weight, of_bias = (*grads(backend, x, w, dy, axes, 2), backend.conv2d_bias_grad(dy))
    for place, gradient in enumerate((of_input, of_weight, of_bias)):
        for number, index in enumerate(np.ndindex(gradient.shape)):
            step = (1, 1000)[number % 2]
            moved = [x.copy(), w.copy(), bias.copy()]
            moved[place][index] += step
            assert np.vdot(layers.conv2d(*moved, **options) - y, dy) == step * gradient[index]


def test_axes_do_not_mix(backend):
    """Operands that are products of one axis each have gradients that are."""
    for axes in backends.share(backend, boxes.covering(2, size=5, kernel=3)[::4]):
        x, w, dy = zip(*(operands((axis,), boxes.CHANNELS[0], batch=1) for axis in axes), strict=True)
        each = [grads(backend, x[axis], w[axis], dy[axis], axes[axis : axis + 1]) for axis in (0, 1)]
        for order in ((0, 1), (1, 0)):
            outer = [a[order[0]][..., np.newaxis] * a[order[1]][..., np.newaxis, :] for a in (x, w, dy)]
            both = grads(backend, *outer, tuple(axes[axis] for axis in order))
            for k in (0, 1):
                assert (both[k] == each[order[0]][k][..., np.newaxis] * each[order[1]][k][..., np.newaxis, :]).all()


def test_padding_modes_as_torchs_autograd(backend):
    """What padding shows gets what padding received."""
    for axes, mode, given_, expected in backends.share(backend, rows_of_padding_modes()):
        dx, dw = grads(backend, *given_, axes, padding_mode=mode)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_same_padding_as_torchs_autograd(backend):
    x, w, dy = boxes.integers(2, 2, 5, 6), boxes.integers(3, 2, 2, 4, seed=1), boxes.integers(2, 3, 5, 6, seed=2)
    axes = (boxes.Axis(5, 2, 1, 0, 1, 1), boxes.Axis(6, 4, 1, 3, 3, 2))
    expected = torch_grads(x, w, dy, axes)
    options = {"padding": "same", "dilation": (1, 2)}
    assert (backend.conv2d_input_grad(dy, w, input_size=(5, 6), **options) == expected[0]).all()
    assert (backend.conv2d_weight_grad(x, dy, kernel_size=(2, 4), **options) == expected[1]).all()


def test_blocks_of_any_size_give_the_same(backend):
    """The backend for arrays computes in blocks; here so small that all their borders fall inside."""
    axes = (boxes.Axis(7, 3, 1, 1, 2, 2), boxes.Axis(6, 2, 2, 0, 1, 1))
    x, w, dy = operands(axes, boxes.CHANNELS[2], batch=3)
    expected = torch_grads(x, w, dy, axes, groups=2)
    for block in (1, 150, 500, 1500) if backends.takes_arrays(backend) else (1,):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "BLOCK", block, raising=False)
            dx, dw = grads(backend, x, w, dy, axes, groups=2)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


@pytest.mark.verifies("eq-input-grad", "eq-weight-grad", box=BOX_TEXT, exact=True)
def test_every_pair_of_impulses_in_the_whole_box(exact_backend):
    for axis in boxes.ONE_AXIS:
        if axis.fits:
            assert_the_table(exact_backend, axis)


def test_arrays_as_torchs_autograd_in_the_whole_box():
    print(BOX_TEXT)
    for axis, channels in boxes.whole():
        x, w, dy = operands((axis,), channels)
        dx, dw = grads(gradients, x, w, dy, (axis,), channels.groups)
        expected = torch_grads(x, w, dy, (axis,), channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_arrays_as_torchs_autograd_on_coverings_of_two_and_three_axes():
    for axes, channels in product([*boxes.covering(2), *boxes.covering(3, size=5, kernel=3)[::2]], boxes.CHANNELS[1:4]):
        x, w, dy = operands(axes, channels)
        dx, dw = grads(gradients, x, w, dy, axes, channels.groups)
        expected = torch_grads(x, w, dy, axes, channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def autograd_function(backend, axes, **options):
    """A layer that PyTorch differentiates by our gradients."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(context, x, w, bias):
            context.save_for_backward(x, w)
            given = (tensor.detach().numpy() for tensor in (x, w, bias))
            return torch.from_numpy(call(layers, "conv#d", axes, *given, **options))

        @staticmethod
        def backward(context, dy):
            (x, w), dy = (tensor.detach().numpy() for tensor in context.saved_tensors), dy.detach().numpy()
            dx = call(backend, "conv#d_input_grad", axes, dy, w, input_size=x.shape[2:], **options)
            dw = call(backend, "conv#d_weight_grad", axes, x, dy, kernel_size=w.shape[2:], **options)
            return tuple(map(torch.from_numpy, (dx, dw, call(backend, "conv#d_bias_grad", axes, dy))))

    return Layer.apply


def test_torchs_own_check_of_gradients_passes(backend):
    for axes, mode in backends.share(backend, list(product((2, 1, 3), ("zeros", "circular")))):
        options = {"stride": (2, 1, 2)[:axes], "padding": ((1, 0),) * axes, "dilation": (1, 2, 1)[:axes]}
        function = autograd_function(backend, axes, groups=2, padding_mode=mode, **options)
        torch.manual_seed(axes)
        x, w = torch.randn(1, 2, *(3, 4, 2)[:axes]), torch.randn(4, 1, *(2, 2, 1)[:axes])
        given_ = [tensor.double().requires_grad_() for tensor in (x, w, torch.randn(4))]
        assert torch.autograd.gradcheck(function, given_, fast_mode=backends.is_interpreted(backend))


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_geometry_as_torchs_autograd(data):
    count = data.draw(st.integers(1, 3))
    axes = tuple(
        boxes.Axis(*(data.draw(st.integers(low, high)) for low, high in [(9, (400, 40, 14)[count - 1]), *WINDOW]))
        for _ in range(count)
    )
    groups, depth, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    channels = boxes.Channels(groups, groups * depth, groups * width)
    x, w, dy = operands(axes, channels, batch=data.draw(st.integers(1, 4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BLOCK", data.draw(st.sampled_from([100, 3000, 1 << 20])))
        dx, dw = grads(gradients, x, w, dy, axes, groups)
    expected = torch_grads(x, w, dy, axes, groups)
    assert (dx == expected[0]).all()
    assert (dw == expected[1]).all()


WINDOW = [(1, 3), (1, 5), (0, 4), (0, 4), (1, 4)]
"""Kernel, stride, padding before and after, dilation: the ranges that the property test draws from."""
