"""Gradients of convolution and pooling, every room against PyTorch's autograd and against the layers themselves.

A convolution is one table: which sample ``j`` window ``i`` shows through tap ``u``. The layer and both of its gradients
read it, each summing over two of the three indices, so all pairs of unit impulses give the whole table each time.
A test whose only argument is ``room`` runs in every room, and against each mutant of it (tests/test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product
from math import lcm

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import geometry, gradients
from konvlib.gradients import fast, naive
from konvlib.images import naive as layers
from tests import axis_boxes as boxes
from tests import rooms

BOX_TEXT = (
    f"one axis, {boxes.AXIS_TEXT}: {len(boxes.ONE_AXIS):,} geometries with every pair of impulses; "
    f"with {boxes.CHANNELS_TEXT}: {len(boxes.ONE_AXIS) * len(boxes.CHANNELS):,}"
)
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}

room = pytest.fixture(params=rooms.of("gradients"))(lambda request: request.param)
exact_room = pytest.fixture(params=[naive, fast], ids=["naive", "fast"])(lambda request: request.param)


def call(room, name, axes, *args, **options):
    return getattr(room, name.replace("#", str(axes)))(*args, **options)


def operands(axes, channels, *, batch=2):
    """An input, a weight and an output's gradient of small integers."""
    x = boxes.integers(batch, channels.inputs, *(axis.size for axis in axes))
    w = boxes.integers(channels.outputs, channels.inputs // channels.groups, *(axis.kernel for axis in axes), seed=1)
    return x, w, boxes.integers(batch, channels.outputs, *(axis.windows for axis in axes), seed=2)


def sizes(axes):
    return {"input_size": tuple(axis.size for axis in axes)}, {"kernel_size": tuple(axis.kernel for axis in axes)}


def torch_grads(x, w, dy, axes, groups=1):
    """PyTorch's gradients by input and weight, in doubles, by the operator that its autograd calls."""
    stride, dilation, none = [axis.stride for axis in axes], [axis.dilation for axis in axes], [0] * len(axes)
    given_ = boxes.tensor(dy), boxes.torch_pad(x, axes), boxes.tensor(w)
    mask = [True, True, False]
    dx, dw, _ = torch.ops.aten.convolution_backward(*given_, None, stride, none, dilation, False, none, groups, mask)
    inside = tuple(slice(axis.before, axis.before + axis.size) for axis in axes)
    return dx[(..., *inside)].numpy(), dw.numpy()


def autograds(x, w, dy, axes, groups=1, padding_mode="zeros"):
    """PyTorch's gradients by input and weight, in doubles, by its autograd."""
    x, w = boxes.tensor(x).requires_grad_(), boxes.tensor(w).requires_grad_()
    sides = [side for axis in axes[::-1] for side in (axis.before, axis.after)]
    padded = torch.nn.functional.pad(x, sides, mode=MODES[padding_mode])
    stride, dilation = tuple(axis.stride for axis in axes), tuple(axis.dilation for axis in axes)
    y = getattr(torch.nn.functional, f"conv{len(axes)}d")(padded, w, None, stride, 0, dilation, groups)
    return tuple(grad.numpy() for grad in torch.autograd.grad(y, (x, w), boxes.tensor(dy)))


def grads(room, x, w, dy, axes, groups=1, **options):
    """The room's gradients by input and weight."""
    options = boxes.options(*axes) | {"groups": groups} | options
    of_input, of_weight = sizes(axes)
    dx = call(room, "conv#d_input_grad", len(axes), dy, w, **of_input, **options)
    dw = call(room, "conv#d_weight_grad", len(axes), x, dy, **of_weight, **options)
    return dx, dw


@cache
def rows_of_one_axis():
    """Geometries and channels of one axis, with PyTorch's gradients."""
    rows = []
    for axis, channels in boxes.covering_of_one_axis():
        if axis.fits:
            x, w, dy = operands((axis,), channels)
            rows.append(((axis,), channels, (x, w, dy), torch_grads(x, w, dy, (axis,), channels.groups)))
    return rows


@cache
def rows_of_more_axes():
    """The same on two and three axes."""
    rows = []
    for axes in [*boxes.covering(2, size=5, kernel=3), *boxes.covering(3, size=3, kernel=2)[::2]]:
        channels = boxes.CHANNELS[sum(map(sum, axes)) % 3]
        x, w, dy = operands(axes, channels, batch=1)
        rows.append((axes, channels, (x, w, dy), torch_grads(x, w, dy, axes, channels.groups)))
    return rows


def assert_the_table(room, axis):
    """Impulses ``i`` in the output's gradient and ``u`` in the weight; then ``j`` in the input and ``i``."""
    i, u, j = np.ogrid[: axis.windows, : axis.kernel, : axis.size]
    table = axis.stride * i + axis.dilation * u - axis.before == j
    windows, taps, samples = (np.eye(count, dtype=int) for count in table.shape)
    options = boxes.options(axis)
    dx = room.conv1d_input_grad(windows[:, np.newaxis], taps[np.newaxis], input_size=axis.size, **options)
    assert (dx == table).all()
    dw = room.conv1d_weight_grad(samples[np.newaxis], windows[np.newaxis], kernel_size=axis.kernel, **options)
    assert (dw == table.swapaxes(1, 2)).all()


def test_every_pair_of_impulses_shows_the_table_of_the_convolution(room):
    for axis in boxes.ONE_AXIS[::5]:
        if axis.fits:
            assert_the_table(room, axis)


def test_batch_channels_and_groups_as_torchs_autograd(room):
    for axes, channels, (x, w, dy), expected in rows_of_one_axis():
        dx, dw = grads(room, x, w, dy, axes, channels.groups)
        assert dx.shape == x.shape
        assert dw.shape == w.shape
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()
        assert (room.conv1d_bias_grad(dy) == dy.sum((0, 2))).all()


def test_two_and_three_axes_as_torchs_autograd(room):
    for axes, channels, (x, w, dy), expected in rows_of_more_axes():
        dx, dw = grads(room, x, w, dy, axes, channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()
        db = call(room, "conv#d_bias_grad", len(axes), dy)
        assert (db == np.moveaxis(dy, 1, 0).reshape(dy.shape[1], -1).sum(1)).all()


def test_the_three_scalar_products_are_one(room):
    """The sum of all products of x, w and dy, whichever of the three is left for last."""
    for axes, channels, (x, w, dy), _ in [*rows_of_one_axis()[::3], *rows_of_more_axes()[::3]]:
        y = call(layers, "conv#d", len(axes), x, w, groups=channels.groups, **boxes.options(*axes))
        dx, dw = grads(room, x, w, dy, axes, channels.groups)
        assert np.vdot(y, dy) == np.vdot(x, dx) == np.vdot(w, dw)


def test_gradients_are_differences_of_any_step(room):
    """Exactly: the layer is linear in its input, in its weight and in its bias."""
    axes = (boxes.Axis(3, 2, 2, 1, 0, 1), boxes.Axis(5, 2, 1, 0, 1, 2))
    channels = boxes.Channels(2, 4, 2)
    x, w, dy = operands(axes, channels, batch=1)
    bias = np.array([5, -3])
    options = boxes.options(*axes) | {"groups": 2}
    y = layers.conv2d(x, w, bias, **options)
    of_input, of_weight, of_bias = (*grads(room, x, w, dy, axes, 2), room.conv2d_bias_grad(dy))
    for place, gradient in enumerate((of_input, of_weight, of_bias)):
        for number, index in enumerate(np.ndindex(gradient.shape)):
            step = (1, 1000)[number % 2]
            moved = [x.copy(), w.copy(), bias.copy()]
            moved[place][index] += step
            assert np.vdot(layers.conv2d(*moved, **options) - y, dy) == step * gradient[index]


def test_axes_do_not_mix(room):
    """Operands that are products of one axis each have gradients that are."""
    for axes in boxes.covering(2, size=5, kernel=3)[::4]:
        x, w, dy = zip(*(operands((axis,), boxes.CHANNELS[0], batch=1) for axis in axes), strict=True)
        each = [grads(room, x[axis], w[axis], dy[axis], axes[axis : axis + 1]) for axis in (0, 1)]
        for order in ((0, 1), (1, 0)):
            outer = [a[order[0]][..., np.newaxis] * a[order[1]][..., np.newaxis, :] for a in (x, w, dy)]
            both = grads(room, *outer, tuple(axes[axis] for axis in order))
            for k in (0, 1):
                assert (both[k] == each[order[0]][k][..., np.newaxis] * each[order[1]][k][..., np.newaxis, :]).all()


def test_padding_modes_as_torchs_autograd(room):
    """What padding shows gets what padding received."""
    for mode, size, before, after in product(MODES, (2, 3, 5), range(4), range(4)):
        most = {"reflect": size - 1, "circular": size}.get(mode, 3)
        if max(before, after) > most:
            continue
        axes = (boxes.Axis(size, 2, 1 + size % 2, before, after, 1), boxes.Axis(4, 3, 2, after % 2, before % 3, 1))
        x, w, dy = operands(axes, boxes.CHANNELS[1])
        dx, dw = grads(room, x, w, dy, axes, padding_mode=mode)
        expected = autograds(x, w, dy, axes, padding_mode=mode)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_same_padding_as_torchs_autograd(room):
    x, w, dy = boxes.integers(2, 2, 5, 6), boxes.integers(3, 2, 2, 4, seed=1), boxes.integers(2, 3, 5, 6, seed=2)
    axes = (boxes.Axis(5, 2, 1, 0, 1, 1), boxes.Axis(6, 4, 1, 3, 3, 2))
    expected = torch_grads(x, w, dy, axes)
    options = {"padding": "same", "dilation": (1, 2)}
    assert (room.conv2d_input_grad(dy, w, input_size=(5, 6), **options) == expected[0]).all()
    assert (room.conv2d_weight_grad(x, dy, kernel_size=(2, 4), **options) == expected[1]).all()


def test_blocks_of_any_size_give_the_same(room):
    """The fast room computes in blocks; here so small that all their borders fall inside."""
    axes = (boxes.Axis(7, 3, 1, 1, 2, 2), boxes.Axis(6, 2, 2, 0, 1, 1))
    x, w, dy = operands(axes, boxes.CHANNELS[2], batch=3)
    expected = torch_grads(x, w, dy, axes, groups=2)
    for block in (1, 150, 500, 1500):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "BLOCK", block, raising=False)
            dx, dw = grads(room, x, w, dy, axes, groups=2)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


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


def test_max_pooling_on_one_axis_as_torchs_autograd(room):
    """Of small integers, so that windows have several largest samples."""
    for x, kernel, options, dy, expected in max_pools():
        dx = room.max_pool1d_grad(x, dy, kernel, **options)
        assert dx.shape == x.shape
        assert (dx == expected).all()


def test_max_pooling_on_more_axes_goes_to_the_first_largest_in_row_major_order(room):
    for seed, ceil_mode in product(range(60), (False, True)):
        rng = np.random.default_rng(seed)
        axes = 2 + seed % 2
        kernel, stride = rng.integers(1, 4, axes), rng.integers(1, 4, axes)
        padding, dilation = rng.integers(0, kernel // 2 + 1), rng.integers(1, 3, axes)
        size = rng.integers(5, 8, axes) if axes == 2 else rng.integers(5, 6, axes)
        x, dy = rng.integers(0, 3, (1, 2, *size)), rng.integers(-9, 10, (1, 2, 9, 9, 9)[: axes + 2])
        args = [tuple(map(int, value)) for value in (kernel, stride, padding, dilation)]
        result = torch_pool_grad(f"max_pool{axes}d", x, dy, *args, ceil_mode)
        options = dict(zip(("stride", "padding", "dilation"), args[1:], strict=True))
        dx = call(room, "max_pool#d_grad", axes, x, result[0], args[0], ceil_mode=ceil_mode, **options)
        assert (dx == result[1]).all()


def test_max_pooling_by_default_side_by_side_and_padded_on_one_side(room):
    x, dy = boxes.integers(1, 2, 6, 9), boxes.integers(1, 2, 3, 3)
    assert (room.max_pool2d_grad(x, dy, (2, 3)) == torch_pool_grad("max_pool2d", x, dy, (2, 3))[1]).all()
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=-np.inf)
    dy = boxes.integers(1, 2, 3, 5)
    expected = torch_pool_grad("max_pool2d", padded, dy, (2, 2))[1][:, :, 1:, :-1]
    assert (room.max_pool2d_grad(x, dy, 2, padding=((1, 0), (0, 1))) == expected).all()


def test_max_pooling_of_nan_and_infinity_as_torchs_autograd(room):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, dy = rng.choice([np.nan, 1.0, 2.0, np.inf, -np.inf], (2, 1, 6, 5)), rng.integers(1, 100, (2, 1, 7, 6))
        for padding, dilation in [(0, 1), (1, 1), (1, 2)]:
            dy_fits, expected = torch_pool_grad("max_pool2d", x, dy, (2, 3), 1, padding, dilation)
            dx = room.max_pool2d_grad(x, dy_fits, (2, 3), stride=1, padding=padding, dilation=dilation)
            assert (dx == expected).all()


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


def test_average_pooling_on_one_axis_as_torchs_autograd(room):
    """Of multiples of every count, so that doubles are exact."""
    for kernel, options, dy, expected in avg_pools():
        dx = room.avg_pool1d_grad(dy, kernel, **options)
        assert dx.dtype == np.float64
        assert dx.shape == expected.shape
        assert (dx == expected).all()


def test_average_pooling_is_the_transpose_of_its_layer(room):
    """In fractions: the scalar products of the layer's output and of the input's gradient are one."""
    axes = ((5, 3, 2, (1, 0)), (7, 2, 3, (0, 1)), (4, 3, 1, (1, 1)))
    for count, ceil_mode, with_padding in product((1, 2, 3), (False, True), (False, True)):
        size, kernel, stride, padding = (tuple(each) for each in zip(*axes[3 - count :], strict=True))
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": with_padding}
        x = np.frompyfunc(Fraction, 1, 1)(boxes.integers(1, 2, *size))
        y = call(layers, "avg_pool#d", count, x, kernel, **options)
        dy = np.frompyfunc(Fraction, 1, 1)(boxes.integers(*y.shape, seed=1))
        dx = call(room, "avg_pool#d_grad", count, dy, kernel, input_size=size, **options)
        assert dx.shape == x.shape
        assert (x * dx).sum() == (y * dy).sum()
        assert all(isinstance(value, (int, Fraction)) for value in dx.ravel())


def test_average_pooling_of_two_axes_as_torchs_autograd(room):
    dy = boxes.integers(2, 3, 3, 4) * 36
    for with_padding in (False, True):
        args = ((2, 3), (3, 2), (1, 1), False, with_padding)
        expected = torch_pool_grad("avg_pool2d", np.zeros((2, 3, 7, 8)), dy, *args)[1]
        options = {"stride": (3, 2), "padding": 1, "count_include_pad": with_padding}
        assert (room.avg_pool2d_grad(dy, (2, 3), input_size=(7, 8), **options) == expected).all()


def test_a_batch_of_no_rows(room):
    x, w, dy = np.zeros((0, 2, 5)), np.ones((3, 2, 2)), np.zeros((0, 3, 6))
    assert room.conv1d_input_grad(dy, w, input_size=5, padding=1).shape == (0, 2, 5)
    assert (room.conv1d_weight_grad(x, dy, kernel_size=2, padding=1) == np.zeros((3, 2, 2))).all()
    assert (room.conv1d_weight_grad(x, dy, kernel_size=2, padding=1, padding_mode="reflect") == 0).all()
    assert (room.conv1d_bias_grad(dy) == np.zeros(3)).all()
    assert room.max_pool1d_grad(x, np.zeros((0, 2, 2)), 2).shape == (0, 2, 5)
    assert room.avg_pool1d_grad(np.zeros((0, 2, 2)), 2, input_size=5).shape == (0, 2, 5)


def test_operands_stay_as_they_were_and_may_be_views(room):
    axes = (boxes.Axis(5, 2, 2, 1, 0, 1), boxes.Axis(4, 3, 1, 1, 1, 1))
    given_ = operands(axes, boxes.CHANNELS[1])
    expected = torch_grads(*given_, axes)
    views = [np.repeat(array.T, 2, axis=0)[::-2].T[..., ::-1] for array in given_]
    copies = [array.copy() for array in views]
    assert all((view == array).all() for view, array in zip(views, given_, strict=True))
    for dx, want in zip(grads(room, *views, axes), expected, strict=True):
        assert (dx == want).all()
    x, _, dy = views
    room.max_pool2d_grad(x, boxes.integers(2, 2, 2, 2), 2)
    room.avg_pool2d_grad(dy, 1, input_size=dy.shape[2:])
    assert all((view == array).all() for view, array in zip(views, copies, strict=True))


ONE = (np.ones((1, 1, 3)), np.ones((1, 1, 2)))
ERRORS = [
    (
        ValueError,
        "dy must have the convolution's output shape (1, 1, 4), got (1, 1, 3)",
        lambda room: room.conv1d_input_grad(*ONE, input_size=5),
    ),
    (
        ValueError,
        "dy must have the convolution's output shape (2, 1, 2), got (1, 1, 3)",
        lambda room: room.conv1d_weight_grad(np.ones((2, 1, 3)), ONE[0], kernel_size=2),
    ),
    (
        ValueError,
        "input_size must be one integer or 1, one per axis, got (5, 5)",
        lambda room: room.conv1d_input_grad(*ONE, input_size=(5, 5)),
    ),
    (TypeError, "input_size must be an integer, got 4.0", lambda room: room.conv1d_input_grad(*ONE, input_size=4.0)),
    (ValueError, "input_size must be at least 1, got 0", lambda room: room.conv1d_input_grad(*ONE, input_size=0)),
    (
        ValueError,
        "kernel_size must fit the padded input of 1 samples, got a kernel that covers 2",
        lambda room: room.conv1d_input_grad(*ONE, input_size=1),
    ),
    (
        ValueError,
        "dy must have 4 axes (N, C, H, W), got shape (1, 1, 3)",
        lambda room: room.conv2d_input_grad(*ONE, input_size=5),
    ),
    (
        ValueError,
        "w must have 3 axes (C_out, C_in // groups, kernel_size), got shape (2,)",
        lambda room: room.conv1d_input_grad(ONE[0], np.ones(2), input_size=4),
    ),
    (
        ValueError,
        "dy must not be empty, got shape (1, 1, 0)",
        lambda room: room.conv1d_input_grad(np.ones((1, 1, 0)), ONE[1], input_size=4),
    ),
    (
        ValueError,
        "x must not be empty, got shape (1, 0, 3)",
        lambda room: room.conv1d_weight_grad(np.ones((1, 0, 3)), ONE[0], kernel_size=1),
    ),
    (
        ValueError,
        "in_channels must be divisible by groups, got 3 channels in 2 groups",
        lambda room: room.conv1d_weight_grad(np.ones((1, 3, 3)), np.ones((1, 2, 3)), kernel_size=1, groups=2),
    ),
    (
        ValueError,
        "out_channels must be divisible by groups, got 1 channels in 2 groups",
        lambda room: room.conv1d_input_grad(*ONE, input_size=4, groups=2),
    ),
    (ValueError, "groups must be at least 1, got 0", lambda room: room.conv1d_input_grad(*ONE, input_size=4, groups=0)),
    (
        ValueError,
        "stride must be at least 1, got 0",
        lambda room: room.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=1, stride=0),
    ),
    (
        TypeError,
        "dilation must be an integer, got 'two'",
        lambda room: room.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=1, dilation="two"),
    ),
    (
        ValueError,
        "kernel_size must be at least 1, got 0",
        lambda room: room.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=0),
    ),
    (
        ValueError,
        "padding must be at least 0, got -1",
        lambda room: room.conv1d_input_grad(*ONE, input_size=6, padding=-1),
    ),
    (
        ValueError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
        lambda room: room.conv1d_input_grad(*ONE, input_size=4, padding_mode="mirror"),
    ),
    (
        ValueError,
        "padding must be at most 1 for padding_mode 'reflect' on 2 samples, got (2, 2)",
        lambda room: room.conv1d_weight_grad(
            np.ones((1, 1, 2)), np.ones((1, 1, 5)), kernel_size=2, padding=2, padding_mode="reflect"
        ),
    ),
    (ValueError, "dy must have 3 axes (N, C, L), got shape (3,)", lambda room: room.conv1d_bias_grad(np.ones(3))),
    (
        ValueError,
        "dy must not be empty, got shape (1, 1, 0)",
        lambda room: room.conv1d_bias_grad(np.ones((1, 1, 0))),
    ),
    (
        ValueError,
        "dy must have the pooling's output shape (1, 1, 2), got (1, 1, 3)",
        lambda room: room.max_pool1d_grad(np.ones((1, 1, 4)), ONE[0], 2),
    ),
    (
        ValueError,
        "dy must have 3 axes (N, C, L), got shape (3,)",
        lambda room: room.max_pool1d_grad(np.ones((1, 1, 4)), np.ones(3), 2),
    ),
    (
        TypeError,
        "ceil_mode must be True or False, got 1",
        lambda room: room.max_pool1d_grad(np.ones((1, 1, 4)), ONE[1], 2, ceil_mode=1),
    ),
    (
        ValueError,
        "padding must be at most half of kernel_size 2, got (2, 2)",
        lambda room: room.max_pool1d_grad(np.ones((1, 1, 4)), ONE[1], 2, padding=2),
    ),
    (
        ValueError,
        "dy must have the pooling's output shape (1, 1, 2), got (1, 1, 3)",
        lambda room: room.avg_pool1d_grad(ONE[0], 2, input_size=4),
    ),
    (
        TypeError,
        "count_include_pad must be True or False, got None",
        lambda room: room.avg_pool1d_grad(ONE[1], 2, input_size=4, count_include_pad=None),
    ),
    (
        ValueError,
        "kernel_size must fit the padded input of 4 samples, got a kernel that covers 5",
        lambda room: room.avg_pool1d_grad(ONE[1], 5, input_size=4),
    ),
]
ARRAY_ERRORS = [
    (
        TypeError,
        "dy must hold numbers, got dtype <U1",
        lambda room: room.conv1d_input_grad([[["a"]]], ONE[1], input_size=2),
    ),
    (
        TypeError,
        "w must hold numbers, got dtype <U1",
        lambda room: room.conv1d_input_grad(ONE[0], [[["a"]]], input_size=2),
    ),
    (TypeError, "x must hold numbers, got dtype <U1", lambda room: room.max_pool1d_grad([[["a"]]], ONE[0], 1)),
    (
        ValueError,
        "x must be rectangular, got rows of different lengths",
        lambda room: room.conv1d_weight_grad([[[1, 2], [3]]], ONE[0], kernel_size=1),
    ),
    (TypeError, "dy must hold numbers, got dtype <U1", lambda room: room.conv1d_bias_grad([[["a"]]])),
]


@pytest.mark.parametrize("row", [*ERRORS, *ARRAY_ERRORS], ids=lambda row: row[1][:50])
def test_bad_input_gets_the_same_error_in_every_room(room, row):
    kind, message, function = row
    with pytest.raises(kind) as raised:
        function(room)
    assert str(raised.value) == message


def test_a_tensor_is_refused_by_name():
    with pytest.raises(TypeError, match=r"konvlib\.gradients takes arrays, got a torch tensor"):
        gradients.conv1d_input_grad(torch.ones(1, 1, 3), torch.ones(1, 1, 2), input_size=4)


def test_geometries_that_do_not_fit_are_refused_alike():
    refused = [axis for axis, channels in boxes.whole(fitting=False) if channels == boxes.CHANNELS[0]]
    assert refused
    for axis in refused:
        options, w = boxes.options(axis), np.ones((1, 1, axis.kernel))
        padded = axis.size + axis.before + axis.after
        text = f"kernel_size must fit the padded input of {padded} samples, got a kernel that covers {axis.span}"
        for each in (gradients, naive, fast):
            with pytest.raises(ValueError, match=text):
                each.conv1d_input_grad(np.ones((1, 1, 1)), w, input_size=axis.size, **options)
            with pytest.raises(ValueError, match=text):
                each.conv1d_weight_grad(
                    np.ones((1, 1, axis.size)), np.ones((1, 1, 1)), kernel_size=axis.kernel, **options
                )


def test_every_pair_of_impulses_in_the_whole_box(exact_room):
    for axis in boxes.ONE_AXIS:
        if axis.fits:
            assert_the_table(exact_room, axis)


def test_fast_as_torchs_autograd_in_the_whole_box():
    print(BOX_TEXT)
    for axis, channels in boxes.whole():
        x, w, dy = operands((axis,), channels)
        dx, dw = grads(fast, x, w, dy, (axis,), channels.groups)
        expected = torch_grads(x, w, dy, (axis,), channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_fast_as_torchs_autograd_on_coverings_of_two_and_three_axes():
    for axes, channels in product([*boxes.covering(2), *boxes.covering(3, size=5, kernel=3)[::2]], boxes.CHANNELS[1:4]):
        x, w, dy = operands(axes, channels)
        dx, dw = grads(fast, x, w, dy, axes, channels.groups)
        expected = torch_grads(x, w, dy, axes, channels.groups)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_fractions_and_big_integers_are_exact(exact_room):
    third, big = Fraction(1, 3), 10**30
    dx = exact_room.conv1d_input_grad([[[third, 2]]], [[[big, third]]], input_size=3)
    assert dx.tolist() == [[[third * big, Fraction(1, 9) + 2 * big, 2 * third]]]
    dw = exact_room.conv1d_weight_grad([[[third, big, 1]]], [[[third, 2]]], kernel_size=2)
    assert dw.tolist() == [[[Fraction(1, 9) + 2 * big, third * big + 2]]]
    assert exact_room.conv1d_bias_grad([[[third, big]]]).tolist() == [third + big]
    assert exact_room.max_pool1d_grad([[[third, big]]], [[[third]]], 2).tolist() == [[[0, third]]]
    assert exact_room.avg_pool1d_grad([[[third]]], 2, input_size=2).tolist() == [[[third / 2, third / 2]]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_dtypes_are_numpys_and_integers_wrap(exact_room):
    rng = np.random.default_rng(0)
    for a, b in product("?bhilBHILefdFD", repeat=2):
        x, dy = rng.integers(0, 256, (2, 2, 4)).astype(a), rng.integers(0, 256, (2, 3, 3)).astype(b)
        w = rng.integers(0, 256, (3, 2, 2)).astype(a)
        dx = exact_room.conv1d_input_grad(dy, w, input_size=4)
        dw = exact_room.conv1d_weight_grad(x, dy, kernel_size=2)
        assert dx.dtype == dw.dtype == np.result_type(np.dtype(a), np.dtype(b))
        assert exact_room.conv1d_bias_grad(dy).dtype == dy.dtype
        assert exact_room.max_pool1d_grad(x, dy[:, :2, :2], 2).dtype == dy.dtype
        assert exact_room.avg_pool1d_grad(dy, 2, input_size=6).dtype == geometry.mean_dtype(dy.dtype)
        if dx.dtype.kind in "biu":
            assert (dx == naive.conv1d_input_grad(dy, w, input_size=4)).all()
            assert (dw == naive.conv1d_weight_grad(x, dy, kernel_size=2)).all()
            assert (exact_room.conv1d_bias_grad(dy) == naive.conv1d_bias_grad(dy)).all()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_integers_too_large_for_doubles_are_summed_as_integers():
    rng = np.random.default_rng(3)
    x, w, dy = (rng.integers(2**30, 2**31, shape) for shape in ((2, 2, 6), (3, 2, 2), (2, 3, 5)))
    assert (fast.conv1d_input_grad(dy, w, input_size=6) == naive.conv1d_input_grad(dy, w, input_size=6)).all()
    assert (fast.conv1d_weight_grad(x, dy, kernel_size=2) == naive.conv1d_weight_grad(x, dy, kernel_size=2)).all()
    least = np.full((1, 1, 2), -(2**63))
    assert (fast.conv1d_input_grad(least, least[..., :1], input_size=2) == 0).all()


def test_halves_are_summed_as_singles():
    dy, w = np.ones((1, 4096, 1), dtype=np.float16), np.ones((4096, 1, 1), dtype=np.float16)
    dy[0, 0] = 2048
    assert fast.conv1d_input_grad(dy, w, input_size=1) == np.float16(2048 + 4095)


def test_complex_gradients_conjugate_nothing(exact_room):
    """PyTorch's gradient by complex numbers is ours of the conjugated other operand."""
    axes = (boxes.Axis(4, 2, 2, 1, 0, 1), boxes.Axis(5, 3, 1, 0, 1, 1))
    parts = zip(operands(axes, boxes.CHANNELS[1]), operands(axes, boxes.CHANNELS[1], batch=2), strict=True)
    x, w, dy = (real + 1j * imag[..., ::-1] for real, imag in parts)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, w)]
    padded = torch.nn.functional.pad(tensors[0], (0, 1, 1, 0))
    y = torch.nn.functional.conv2d(padded, tensors[1], stride=(2, 1))
    expected = torch.autograd.grad(y, tensors, torch.from_numpy(dy))
    assert (grads(exact_room, x, np.conj(w), dy, axes)[0] == expected[0].numpy()).all()
    assert (grads(exact_room, np.conj(x), w, dy, axes)[1] == expected[1].numpy()).all()


def autograd_function(room, axes, **options):
    """A layer that PyTorch differentiates by our gradients."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(context, x, w, bias):
            context.save_for_backward(x, w)
            arrays = (tensor.detach().numpy() for tensor in (x, w, bias))
            return torch.from_numpy(call(layers, "conv#d", axes, *arrays, **options))

        @staticmethod
        def backward(context, dy):
            (x, w), dy = (tensor.detach().numpy() for tensor in context.saved_tensors), dy.detach().numpy()
            dx = call(room, "conv#d_input_grad", axes, dy, w, input_size=x.shape[2:], **options)
            dw = call(room, "conv#d_weight_grad", axes, x, dy, kernel_size=w.shape[2:], **options)
            return tuple(map(torch.from_numpy, (dx, dw, call(room, "conv#d_bias_grad", axes, dy))))

    return Layer.apply


def test_torchs_own_check_of_gradients_passes(room):
    for axes, mode in product((1, 2, 3), ("zeros", "circular")):
        options = {"stride": (2, 1, 2)[:axes], "padding": ((1, 0),) * axes, "dilation": (1, 2, 1)[:axes]}
        function = autograd_function(room, axes, groups=2, padding_mode=mode, **options)
        torch.manual_seed(axes)
        x, w = torch.randn(1, 2, *(3, 4, 2)[:axes]), torch.randn(4, 1, *(2, 2, 1)[:axes])
        given_ = [tensor.double().requires_grad_() for tensor in (x, w, torch.randn(4))]
        assert torch.autograd.gradcheck(function, given_)


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
        patch.setattr(fast, "BLOCK", data.draw(st.sampled_from([100, 3000, 1 << 20])))
        dx, dw = grads(fast, x, w, dy, axes, groups)
    expected = torch_grads(x, w, dy, axes, groups)
    assert (dx == expected[0]).all()
    assert (dw == expected[1]).all()


WINDOW = [(1, 3), (1, 5), (0, 4), (0, 4), (1, 4)]
"""Kernel, stride, padding before and after, dilation: the ranges that the property test draws from."""
