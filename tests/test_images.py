"""The convolution layer and pooling, every room against PyTorch, exactly on integers.

A test whose only argument is ``room`` runs in every room, and against each mutant of it (tests/test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import geometry
from konvlib.images import fast, naive
from tests import axis_boxes, rooms
from tests.axis_boxes import digits, impulses, integers, options, tensor, torch_conv

room = pytest.fixture(params=rooms.of("images"))(lambda request: request.param)
BOX = list(axis_boxes.whole())
BOX_TEXT = f"{axis_boxes.AXIS_TEXT}, {axis_boxes.CHANNELS_TEXT}: {len(BOX):,} geometries"


def test_fast_in_the_whole_box():
    """Each pixel an impulse, each weight a digit: so every tap of every geometry is seen."""
    print(BOX_TEXT)
    for axis, (groups, inputs, outputs) in BOX:
        x, w = impulses(inputs, axis.size), digits(outputs, inputs // groups, axis.kernel)
        assert (fast.conv1d(x, w, groups=groups, **options(axis)) == torch_conv(x, w, (axis,), groups)).all()


def test_a_covering_of_the_box(room):
    for axis, (groups, inputs, outputs) in axis_boxes.covering_of_one_axis():
        x, w = impulses(inputs, axis.size), digits(outputs, inputs // groups, axis.kernel)
        assert (room.conv1d(x, w, groups=groups, **options(axis)) == torch_conv(x, w, (axis,), groups)).all()


def test_planes_and_cubes(room):
    for axes in (2, 3):
        for number, row in enumerate(axis_boxes.covering(axes, size=5, kernel=3)[::4]):
            groups, inputs, outputs = axis_boxes.CHANNELS[number % 5]
            x = integers(2, inputs, *(axis.size for axis in row))
            w = integers(outputs, inputs // groups, *(axis.kernel for axis in row), seed=1)
            y = getattr(room, f"conv{axes}d")(x, w, groups=groups, **options(*row))
            assert (y == torch_conv(x, w, row, groups)).all()


def test_axes_do_not_mix(room):
    """Transposing input and weight transposes the output, when every argument is transposed too."""
    x, w = integers(2, 3, 6, 7), integers(4, 3, 2, 3)
    y = room.conv2d(x, w, stride=(1, 2), padding=((1, 0), (0, 2)), dilation=(2, 1))
    z = room.conv2d(x.mT, w.mT, stride=(2, 1), padding=((0, 2), (1, 0)), dilation=(1, 2))
    assert (y == z.mT).all()


def test_padding_modes_as_torch(room):
    x, w, bias = integers(2, 4, 5, 6), integers(6, 2, 2, 3), integers(6)
    for mode, pad in product(geometry.PADDING_MODES, (1, 2)):
        layer = torch.nn.Conv2d(4, 6, (2, 3), padding=pad, groups=2, padding_mode=mode, dtype=torch.float64)
        layer.weight.data, layer.bias.data = tensor(w), tensor(bias)
        y = room.conv2d(x, w, bias, padding=pad, groups=2, padding_mode=mode)
        assert (y == layer(tensor(x)).detach().numpy()).all()


def test_same_as_torch_for_even_kernels(room):
    x, w = integers(1, 2, 6, 7), integers(3, 2, 4, 2)
    y = torch.nn.functional.conv2d(tensor(x), tensor(w), padding="same", dilation=(1, 3)).numpy()
    assert (room.conv2d(x, w, padding="same", dilation=(1, 3)) == y).all()


POOLS = [row for row in product((1, 2, 3), (None, 1, 2, 3), (0, 1), (1, 2), (False, True)) if row[2] <= row[0] // 2]


def test_max_pool_as_torch(room):
    x = integers(2, 3, 7, 8)
    for kernel, stride, pad, dilation, ceil_mode in POOLS:
        arguments = {"stride": stride, "padding": pad, "dilation": dilation, "ceil_mode": ceil_mode}
        y = torch.nn.functional.max_pool2d(tensor(x), kernel, **arguments).numpy()
        assert (room.max_pool2d(x, kernel, **arguments) == y).all()


def test_avg_pool_as_torch(room):
    """Sums of integers are exact, so the mean is one division, rounded alike."""
    x = integers(2, 3, 7, 8)
    for (kernel, stride, pad, dilation, ceil_mode), counted in product(POOLS, (False, True)):
        if dilation == 1:
            arguments = {"stride": stride, "padding": pad, "ceil_mode": ceil_mode, "count_include_pad": counted}
            y = torch.nn.functional.avg_pool2d(tensor(x), kernel, **arguments).numpy()
            assert (room.avg_pool2d(x, kernel, **arguments) == y).all()


def test_pools_on_one_and_three_axes(room):
    line, cube = integers(1, 2, 9), integers(1, 2, 4, 5, 6)
    for x, axes in ((line, 1), (cube, 3)):
        for name in ("max_pool", "avg_pool"):
            oracle = getattr(torch.nn.functional, f"{name}{axes}d")
            y = getattr(room, f"{name}{axes}d")(x, 3, stride=2, padding=1, ceil_mode=True)
            assert (y == oracle(tensor(x), 3, 2, 1, ceil_mode=True).numpy()).all()


def test_nan_spreads_over_its_windows_alone(room):
    x = np.arange(8.0).reshape(1, 1, 8)
    x[..., 3] = np.nan
    for y in (room.max_pool1d(x, 2), room.avg_pool1d(x, 2)):
        assert np.isnan(y).tolist() == [[[False, True, False, False]]]


def test_fractions_are_exact(room):
    x = np.array([[[Fraction(1, 3), Fraction(2), Fraction(-1, 7)]]])
    assert room.conv1d(x, np.array([[[10**30, 3]]]), padding=1)[0, 0, 0] == 1
    assert room.avg_pool1d(x, 3).tolist() == [[[Fraction(46, 63)]]]
    assert room.max_pool1d(x, 3).tolist() == [[[2]]]


def test_an_empty_batch_stays_one(room):
    assert room.conv2d(np.zeros((0, 2, 5, 6)), np.ones((3, 2, 2, 2))).shape == (0, 3, 4, 5)


X, W = np.ones((1, 4, 5, 6)), np.ones((6, 2, 3, 3))
ERRORS = [
    (ValueError, "x must have 4 axes (N, C, H, W), got shape (4, 5, 6)", (X[0], W), {}),
    (ValueError, "w must have 4 // 1 = 4 channels, got 2", (X, W), {}),
    (ValueError, "out_channels must be divisible by groups, got 5 channels in 2 groups", (X, W[:5]), {"groups": 2}),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel, got (4,)",
        (X, W, np.ones(4)),
        {"groups": 2},
    ),
    (ValueError, "stride must be at least 1, got 0", (X, W), {"groups": 2, "stride": 0}),
    (TypeError, "dilation must be an integer, got 1.5", (X, W), {"groups": 2, "dilation": 1.5}),
    (
        ValueError,
        "kernel_size must fit the padded input of 5 samples, got a kernel that covers 7",
        (X, W),
        {"groups": 2, "dilation": 3},
    ),
    (
        ValueError,
        "padding must be at most 4 for padding_mode 'reflect' on 5 samples, got (5, 5)",
        (X, W),
        {"groups": 2, "padding": 5, "padding_mode": "reflect"},
    ),
    (
        ValueError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
        (X, W),
        {"groups": 2, "padding_mode": "mirror"},
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_bad_input_gets_the_same_error_in_every_room(room, row):
    kind, message, operands, arguments = row
    with pytest.raises(kind) as raised:
        room.conv2d(*operands, **arguments)
    assert str(raised.value) == message


def test_a_window_that_could_miss_the_input_is_refused(room):
    with pytest.raises(ValueError, match="padding must let each window meet the input"):
        room.max_pool1d(np.ones((1, 1, 2)), 2, padding=1, dilation=3)


def test_every_geometry_that_does_not_fit_is_refused(room):
    for axis, (groups, inputs, outputs) in list(axis_boxes.whole(fitting=False))[::9]:
        with pytest.raises(ValueError, match="kernel_size must fit the padded input"):
            room.conv1d(
                np.ones((1, inputs, axis.size)), np.ones((outputs, inputs // groups, axis.kernel)), groups=groups,
                **options(axis),
            )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.sampled_from([(1, 3, 8), (2, 4, 6), (4, 4, 4)]),
    pad=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_large_geometries_as_torch(size, kernel, stride, channels, pad, seed):
    groups, inputs, outputs = channels
    x, w = integers(3, inputs, *size, seed=seed), integers(outputs, inputs // groups, *kernel, seed=seed)
    y = torch.nn.functional.conv2d(tensor(x), tensor(w), None, stride, pad, 1, groups).numpy()
    assert (fast.conv2d(x, w, stride=stride, padding=pad, groups=groups) == y).all()


def test_a_plane_of_several_blocks_as_by_definition():
    x, w = integers(3, 16, 90, 40), integers(5, 16, 3, 3)
    assert (fast.conv2d(x, w) == torch.nn.functional.conv2d(tensor(x), tensor(w)).numpy()).all()
    assert (naive.conv2d(x[:1, :, :4, :5], w) == fast.conv2d(x, w)[:1, :, :2, :3]).all()


def test_the_direct_sum_decides_where_nan_stands():
    """Also for a kernel so large that `fast` would transform."""
    x, w = np.ones((1, 1, 200, 210)), np.ones((1, 1, 31, 33))
    x[0, 0, 100, 110] = np.nan
    y = fast.conv2d(x, w)
    expected = np.zeros(y.shape, dtype=bool)
    expected[0, 0, 70:101, 78:111] = True
    assert (np.isnan(y) == expected).all()
    assert np.abs(y[~expected] - 31 * 33).max() < 1e-9
