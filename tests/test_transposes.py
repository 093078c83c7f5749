"""The transposed convolution: every room against PyTorch and against the definition.

A test whose only argument is ``room`` runs in every room, and against each mutant of it (tests/test_mutants.py). See
tests/axis_boxes.py for the geometries and for why agreeing on them is a proof. Here an `Axis` has the size of the
transposed convolution's input.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from itertools import product
from math import gcd, prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import geometry
from konvlib.images import naive as images
from konvlib.matrices import fast as matrices
from konvlib.transposes import fast
from tests import axis_boxes, rooms
from tests.axis_boxes import Axis, Channels, digits, impulses, integers, options, tensor

ALGORITHMS = ("conv_transpose_by_zero_insertion", "conv_transpose_by_scattering")


def full_size(axis: Axis) -> int:
    """The size of the result before padding is cut off."""
    return (axis.size - 1) * axis.stride + axis.span


def extras(axis: Axis) -> range:
    """The output paddings that leave an output."""
    return range(max(0, axis.before + axis.after + 1 - full_size(axis)), max(axis.stride, axis.dilation))


BOX = [
    (axis, extra, channels)
    for axis in axis_boxes.ONE_AXIS
    for extra in extras(axis)
    for channels in axis_boxes.CHANNELS
]
BOX_TEXT = (
    f"{axis_boxes.AXIS_TEXT}, every output padding, {axis_boxes.CHANNELS_TEXT}: {len(BOX):,} geometries, "
    "each tap by impulses"
)
REFUSED = [axis for axis in axis_boxes.ONE_AXIS if full_size(axis) <= axis.before + axis.after]
EVERY_ROOM = [row for row in BOX if row[2] == (1, 1, 1)][::2] + [
    (axis, extras(axis)[-1], channels) for axis, channels in axis_boxes.covering_of_one_axis() if extras(axis)
]
PLANES = [axes for axes in axis_boxes.covering(2) if all(map(extras, axes))]
CUBES = [axes for axes in axis_boxes.covering(3, size=4, kernel=3) if all(map(extras, axes))]

room = pytest.fixture(params=rooms.of("transposes"))(lambda request: request.param)


def weight(channels: Channels, *axes: Axis) -> np.ndarray:
    shape = (channels.inputs, channels.outputs // channels.groups, *(axis.kernel for axis in axes))
    return digits(*shape) if prod(shape) <= 26 else integers(*shape, seed=1)


def torch_transpose(x, w, axes, extra, groups=1):
    """PyTorch's result without padding, the outputs that `extra` adds to it, and then what each side's padding cuts."""
    stride, dilation = tuple(a.stride for a in axes), tuple(a.dilation for a in axes)
    function = getattr(torch.nn.functional, f"conv_transpose{len(axes)}d")
    y = function(tensor(x), tensor(w), None, stride, 0, 0, groups, dilation).numpy()
    return cut(y, axes, extra)


def cut(y, axes, extra):
    y = np.pad(y, [(0, 0), (0, 0), *((0, more) for more in extra)])
    return y[(..., *(slice(a.before, n - a.after) for a, n in zip(axes, y.shape[2:], strict=True)))]


@functools.cache
def torch_impulses(size, kernel, stride, dilation, channels):
    axis = Axis(size, kernel, stride, 0, 0, dilation)
    return torch_transpose(impulses(channels.inputs, size), weight(channels, axis), (axis,), (0,), channels.groups)


def transpose(room, x, w, axes, extra, groups=1, bias=None):
    function = getattr(room, f"conv_transpose{len(axes)}d")
    return function(x, w, bias, output_padding=tuple(extra), groups=groups, **options(*axes))


def assert_right_on_impulses(axis, extra, channels, *functions):
    x, w = impulses(channels.inputs, axis.size), weight(channels, axis)
    expected = torch_impulses(axis.size, axis.kernel, axis.stride, axis.dilation, channels)
    expected = cut(expected, (axis,), (extra,))
    for function in functions:
        y = function(x, w, output_padding=extra, groups=channels.groups, **options(axis))
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_the_small_example(room):
    x, w = np.array([[[[1, 3], [2, 0]]]]), np.array([[[[2, 1], [0, 3]]]])
    assert room.conv_transpose2d(x, w).tolist() == [[[[2, 7, 3], [4, 5, 9], [0, 6, 0]]]]
    assert room.conv_transpose1d(x[:, :, 0], w[:, :, 0], stride=3).tolist() == [[[2, 1, 0, 6, 3]]]
    assert room.conv_transpose1d(x[:, :, 0], w[:, :, 1], [5], stride=3, padding=((1, 0),)).tolist() == [[[8, 5, 5, 14]]]


def test_zeros_are_inserted_between_samples_and_nowhere_else(room):
    for size, steps in product([(1,), (4,), (2, 3), (3, 1, 2)], [(1, 1, 1), (2, 3, 1), (3, 1, 2)]):
        x, steps = integers(2, 3, *size) + 20, steps[: len(size)]
        z = room.insert_zeros(x, steps)
        assert z.shape == (2, 3, *((n - 1) * s + 1 for n, s in zip(size, steps, strict=True)))
        assert (z[(..., *(slice(None, None, s) for s in steps))] == x).all()
        assert np.count_nonzero(z) == x.size
        assert z.dtype == x.dtype
    assert (room.insert_zeros(x, 1) == x).all()


def test_all_algorithms_on_planes_and_cubes_as_torch(room):
    for number, axes in enumerate([*PLANES, *CUBES]):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        extra = tuple(extras(axis)[number % len(extras(axis))] for axis in axes)
        x, w = integers(2, channels.inputs, *(axis.size for axis in axes)), weight(channels, *axes)
        bias = integers(channels.outputs, seed=5) if number % 2 else None
        expected = torch_transpose(x, w, axes, extra, channels.groups)
        expected = expected if bias is None else expected + bias.reshape(-1, *(1,) * len(axes))
        results = [transpose(room, x, w, axes, extra, channels.groups, bias)]
        for name in ALGORITHMS:
            given = options(*axes) | {"output_padding": extra, "groups": channels.groups}
            results.append(getattr(room, name)(x, w, bias, **given))
        for y in results:
            assert y.shape == expected.shape
            assert (y == expected).all()
            assert y.dtype == np.int64


def test_it_is_the_adjoint_of_the_convolution(room):
    """<conv(x), y> = <x, conv_transpose(y)> for every impulse y: so each output is what this sum says."""
    for number, axes in enumerate([*PLANES, *CUBES[::2]]):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        fitting = [[extra for extra in extras(axis) if extra < axis.stride] for axis in axes]
        if not all(fitting):
            continue
        extra = tuple(each[-1] for each in fitting)
        w = weight(channels, *axes)
        y = integers(1, channels.inputs, *(axis.size for axis in axes))
        back = transpose(room, y, w, axes, extra, channels.groups)
        x = integers(*back.shape, seed=3)
        there = by_torch_conv(x, w, axes, channels.groups)
        assert there.shape == y.shape
        assert (there * y).sum() == (x * back).sum()


def by_torch_conv(x, w, axes, groups):
    """The convolution whose output has the sizes of ``axes``; the sizes of its input are those of ``x``."""
    return axis_boxes.torch_conv(x, w, axes, groups)


def test_it_is_the_transposed_matrix(room):
    """Not for an output padding of a whole stride, which no convolution has."""
    for axis, extra, channels in EVERY_ROOM[::3]:
        if extra >= axis.stride:
            continue
        x, w = integers(1, channels.inputs, axis.size), weight(channels, axis)
        y = transpose(room, x, w, (axis,), (extra,), channels.groups)
        matrix = matrices.conv_matrix(w, y.shape[1:], groups=channels.groups, **options(axis))
        assert (matrix.T @ x.ravel() == y.ravel()).all()


def test_output_padding_chooses_among_the_sizes_that_stride_to_the_same(room):
    for kernel, stride, before in product((1, 2, 3, 4), (1, 2, 3), (0, 1)):
        w = digits(1, 1, kernel)
        for size in range(kernel + stride, kernel + 3 * stride + 2):
            x = integers(1, 1, size)
            y = images.conv1d(x, w, stride=stride, padding=[(before, 0)])
            arguments = {"stride": stride, "padding": [(before, 0)]}
            backs = [room.conv_transpose1d(y, w, output_padding=extra, **arguments) for extra in range(stride)]
            assert sorted(back.shape[2] for back in backs).count(size) == 1
            for back in backs[1:]:
                assert (back[..., : backs[0].shape[2]] == backs[0]).all()


def test_output_padding_pads_no_zeros_where_taps_reach(room):
    x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1, 4]]])
    cut_off = room.conv_transpose1d(x, w, stride=2, padding=1)
    longer = room.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1)
    assert cut_off.tolist() == [[[1, 10, 3, 16, 2]]]
    assert longer.tolist() == [[[1, 10, 3, 16, 2, 8]]]


def test_it_is_no_inverse(room):
    x, w = np.arange(1, 7).reshape(1, 1, 6), np.array([[[1, 2]]])
    assert room.conv_transpose1d(images.conv1d(x, w), w).tolist() != x.tolist()
    assert room.conv_transpose1d(images.conv1d(x, w), w).ravel().tolist() == [5, 18, 27, 36, 45, 34]


def even(axis: Axis) -> bool:
    """Whether all outputs that padding and borders do not touch are reached by equally many taps."""
    return axis.stride == 1 or (axis.kernel % axis.stride == 0 and gcd(axis.stride, axis.dilation) == 1)


def test_the_checkerboard_comes_exactly_when_the_stride_does_not_divide_the_kernel(room):
    """With dilation, also when the two have a common divisor. The interior: what each tap reaches from some input."""
    for kernel, stride, dilation in product(range(1, 9), range(1, 5), range(1, 4)):
        axis = Axis(3 + dilation * kernel, kernel, stride, 0, 0, dilation)
        counts = room.overlap_counts(axis.size, kernel, stride=stride, dilation=dilation)
        interior = counts[axis.span - 1 : (axis.size - 1) * stride + 1]
        assert len(interior) >= stride
        assert (interior.min() == interior.max()) == even(axis)
        if dilation == 1:
            assert even(axis) == (kernel % stride == 0)
            assert interior.max() - interior.min() == (kernel % stride != 0)


def test_overlap_counts_are_the_transpose_of_ones(room):
    for axes in [*((axis,) for axis in axis_boxes.ONE_AXIS[::7] if extras(axis)), *PLANES, *CUBES]:
        extra = tuple(extras(axis)[-1] for axis in axes)
        size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
        expected = torch_transpose(np.ones((1, 1, *size)), np.ones((1, 1, *kernel)), axes, extra)
        counts = room.overlap_counts(size, kernel, output_padding=extra, **options(*axes))
        assert counts.dtype == np.int64
        assert counts.shape == expected.shape[2:]
        assert (counts == expected).all()
    assert room.overlap_counts(4, 3, stride=2).tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 1]


def test_axes_do_not_mix(room):
    """Turning the image and every argument turns the result; a product of kernels gives a product of results."""
    for height, width in PLANES[::2]:
        extra = extras(height)[-1], extras(width)[-1]
        x, w = integers(1, 2, height.size, width.size), integers(2, 3, height.kernel, width.kernel)
        y = transpose(room, x, w, (height, width), extra)
        turned = transpose(room, x.swapaxes(2, 3), w.swapaxes(2, 3), (width, height), extra[::-1])
        assert (turned.swapaxes(2, 3) == y).all()
        a, b, u, v = (integers(1, 1, n) for n in (height.size, width.size, height.kernel, width.kernel))
        down, across = transpose(room, a, u, (height,), extra[:1]), transpose(room, b, v, (width,), extra[1:])
        outer = transpose(
            room,
            a[..., np.newaxis] * b[:, :, np.newaxis],
            u[..., np.newaxis] * v[:, :, np.newaxis],
            (height, width),
            extra,
        )
        assert (outer == down[..., np.newaxis] * across[:, :, np.newaxis]).all()


def test_same_and_valid_are_the_convolutions(room):
    for kernel, dilation in product((1, 2, 3, 4), (1, 2)):
        x, w = integers(1, 2, 8), integers(2, 3, kernel)
        same = room.conv_transpose1d(x, w, padding="same", dilation=dilation)
        total = dilation * (kernel - 1)
        full = room.conv_transpose1d(x, w, padding="valid", dilation=dilation)
        assert full.shape == (1, 3, 8 + total)
        assert (same == full[..., total // 2 : total // 2 + 8]).all()
        assert (images.conv1d(integers(1, 3, 8, seed=2), w, padding="same", dilation=dilation) * x).sum() == (
            integers(1, 3, 8, seed=2) * same
        ).sum()


def test_every_geometry_on_one_axis(room):
    for axis, extra, channels in EVERY_ROOM:
        functions = [room.conv_transpose1d]
        functions += [getattr(room, name) for name in ALGORITHMS] if channels != (1, 1, 1) else []
        assert_right_on_impulses(axis, extra, channels, *functions)


def test_the_whole_box():
    print(BOX_TEXT)
    for axis, extra, channels in BOX:
        assert_right_on_impulses(axis, extra, channels, fast.conv_transpose1d)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_whole_box_of_one_channel_by_the_other_algorithms(name):
    for axis, extra, channels in BOX[::5]:
        assert channels == (1, 1, 1)
        assert_right_on_impulses(axis, extra, channels, getattr(fast, name))


def test_torchs_own_padding_and_output_padding():
    """Where both sides are padded alike, PyTorch takes them as arguments."""
    for axis, extra, channels in BOX:
        if axis.before == axis.after and channels == (1, 2, 3):
            x, w = integers(2, 2, axis.size), weight(channels, axis)
            expected = torch.nn.functional.conv_transpose1d(
                tensor(x), tensor(w), None, axis.stride, axis.before, extra, 1, axis.dilation
            )
            assert (transpose(fast, x, w, (axis,), (extra,)) == expected.numpy()).all()


def test_no_two_phases_share_a_tap_or_an_output():
    for kernel, stride, dilation in product(range(1, 9), range(1, 7), range(1, 7)):
        taps, outputs = [], []
        for p in fast.phases_of_axis(kernel, stride, dilation):
            for phase in range(p.first, p.last):
                taps += [phase + p.step * t for t in range(p.taps)]
                outputs.append(dilation * phase % stride)
                assert all(dilation * (phase + p.step * t) == dilation * phase + stride * p.gap * t for t in range(9))
        assert sorted(taps) == list(range(kernel))
        assert len(set(outputs)) == len(outputs)


def test_a_batch_of_no_images_stays_one(room):
    for name in ("conv_transpose2d", *ALGORITHMS):
        y = getattr(room, name)(np.zeros((0, 4, 3, 2)), np.ones((4, 3, 2, 3)), np.ones(6), stride=2, groups=2)
        assert y.shape == (0, 6, 6, 5)
    assert room.insert_zeros(np.zeros((0, 2, 3)), 2).shape == (0, 2, 5)


def test_operands_stay_as_they_were_and_results_are_copies(room):
    x, w, bias = np.arange(6.0).reshape(1, 2, 3), np.arange(4.0).reshape(2, 2, 1), np.arange(2.0)
    for name in ("conv_transpose1d", *ALGORITHMS):
        y = getattr(room, name)(x, w, bias)
        y += 1
    room.insert_zeros(x, 1)[:] = 7
    assert (x.ravel() == np.arange(6)).all()
    assert (w.ravel() == np.arange(4)).all()
    assert (bias == np.arange(2)).all()


def test_any_memory_layout(room):
    x, w = integers(3, 4, 5, 2).transpose(3, 0, 1, 2)[..., ::-1], np.asfortranarray(integers(3, 2, 4, 3))[:, ::-1]
    for name in ("conv_transpose2d", *ALGORITHMS):
        y = getattr(room, name)(x, w, stride=2)
        expected = getattr(room, name)(x.copy(), w.copy(), stride=2)
        assert (y == expected).all()


def test_fractions_are_exact(room):
    third, half, big = Fraction(1, 3), Fraction(1, 2), 10**30
    x, w = np.array([[[third, big]]], dtype=object), np.array([[[half, 3, 1]]], dtype=object)
    for name in ("conv_transpose1d", *ALGORITHMS):
        y = getattr(room, name)(x, w, np.array([Fraction(1, 7)], dtype=object), stride=2)
        seventh = Fraction(1, 7)
        expected = [third * half, 3 * third, third + big * half, 3 * big, big]
        assert y.ravel().tolist() == [value + seventh for value in expected]


def test_result_dtypes_are_numpys(room):
    kinds = "?bhlBLfdFD"
    for a, b, c in [*product(kinds, kinds, [None]), *product("bHd", "bf", kinds)]:
        x, w = np.ones((1, 1, 3), dtype=a), np.ones((1, 1, 2), dtype=b)
        terms = (x, w) if c is None else (x, w, np.ones(1, dtype=c))
        for name in ("conv_transpose1d", *ALGORITHMS):
            y = getattr(room, name)(*terms)
            assert y.dtype == np.result_type(*terms)
            assert (y == (np.array([1, 2, 2, 1]) + (c is not None) if y.dtype != bool else True)).all()


def test_machine_integers_wrap_in_the_dtype_of_the_result(room):
    x, w = np.array([[[100, 100]]], dtype=np.int8), np.array([[[2, 2]]], dtype=np.int8)
    for name in ("conv_transpose1d", *ALGORITHMS):
        with np.errstate(over="ignore"):
            assert getattr(room, name)(x, w).tolist() == [[[200 - 256, 400 - 512, 200 - 256]]]
        assert getattr(room, name)(x, w, np.zeros(1)).tolist() == [[[200, 400, 200]]]


def test_padding_that_cuts_everything_is_refused_alike(room):
    assert REFUSED
    for axis in REFUSED:
        for name in ("conv_transpose1d", *ALGORITHMS):
            with pytest.raises(ValueError, match="padding") as raised:
                getattr(room, name)(np.ones((1, 1, axis.size)), np.ones((1, 1, axis.kernel)), **options(axis))
            pair = (axis.before, axis.after)
            assert str(raised.value) == f"padding must leave an output, got {pair} of {full_size(axis)} samples"


IMAGE, KERNEL = np.ones((1, 4, 5, 6)), np.ones((4, 3, 2, 3))
LAYER_ERRORS = [
    (ValueError, "w must have 4 channels in, as x has, got 3", (IMAGE, KERNEL[:3]), {}),
    (ValueError, "w must not be empty, got shape (4, 0, 2, 3)", (IMAGE, KERNEL[:, :0]), {}),
    (ValueError, "x must not be empty, got shape (1, 4, 0, 6)", (IMAGE[:, :, :0], KERNEL), {}),
    (
        ValueError,
        "in_channels must be divisible by groups, got 4 channels in 3 groups",
        (IMAGE, KERNEL),
        {"groups": 3},
    ),
    (ValueError, "groups must be at least 1, got 0", (IMAGE, KERNEL), {"groups": 0}),
    (TypeError, "groups must be an integer, got 2.0", (IMAGE, KERNEL), {"groups": 2.0}),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel, got (3,)",
        (IMAGE, KERNEL, np.ones(3)),
        {"groups": 2},
    ),
    (ValueError, "stride must be at least 1, got 0", (IMAGE, KERNEL), {"stride": 0}),
    (
        ValueError,
        "stride must be one integer or 2, one per axis, got (1, 2, 3)",
        (IMAGE, KERNEL),
        {"stride": (1, 2, 3)},
    ),
    (TypeError, "dilation must be an integer, got 1.5", (IMAGE, KERNEL), {"dilation": 1.5}),
    (ValueError, "padding must be at least 0, got -1", (IMAGE, KERNEL), {"padding": -1}),
    (ValueError, "padding must be one of same, valid, got 'full'", (IMAGE, KERNEL), {"padding": "full"}),
    (
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give the padding per side",
        (IMAGE, KERNEL),
        {"padding": "same", "stride": 2},
    ),
    (
        ValueError,
        "output_padding must be less than stride or dilation, got 2 with stride 2 and dilation 1",
        (IMAGE, KERNEL),
        {"stride": 2, "output_padding": (0, 2)},
    ),
    (ValueError, "output_padding must be at least 0, got -1", (IMAGE, KERNEL), {"output_padding": -1}),
    (TypeError, "x must hold numbers, got dtype <U3", ("one", KERNEL), {}),
    (ValueError, "w must be rectangular, got rows of different lengths", (IMAGE, [[1], [1, 2]]), {}),
]
ERRORS = [
    (
        ValueError,
        "x must have 4 axes (N, C, H, W), got shape (4, 5, 6)",
        "conv_transpose2d",
        (IMAGE[0], KERNEL),
        {},
    ),
    (
        ValueError,
        "w must have 3 axes (C_in, C_out // groups, kernel_size), got shape (4, 3, 2, 3)",
        "conv_transpose1d",
        (IMAGE[0], KERNEL),
        {},
    ),
    *(
        (ValueError, "x must have 3 to 5 axes (N, C, *size), got shape (5, 6)", name, (IMAGE[0, 0], KERNEL), {})
        for name in ALGORITHMS
    ),
    (ValueError, "x must have 3 to 5 axes (N, C, *size), got shape (5, 6)", "insert_zeros", (IMAGE[0, 0], 2), {}),
    (ValueError, "x must not be empty, got shape (1, 4, 0, 6)", "insert_zeros", (IMAGE[:, :, :0], 2), {}),
    (ValueError, "stride must be at least 1, got 0", "insert_zeros", (IMAGE, 0), {}),
    (ValueError, "size must be one to three integers, one per axis, got ()", "overlap_counts", ((), 2), {}),
    (TypeError, "size must be an integer, got 2.5", "overlap_counts", (2.5, 2), {}),
    (ValueError, "size[1] must be at least 1, got 0", "overlap_counts", ((3, 0), 2), {}),
    (ValueError, "kernel_size must be one integer or 1, one per axis, got (2, 3)", "overlap_counts", (3, (2, 3)), {}),
    (
        ValueError,
        "padding must leave an output, got (1, 1) of 2 samples",
        "overlap_counts",
        (1, 2),
        {"padding": 1},
    ),
]


def assert_refused(room, kind, message, name, operands, arguments):
    with pytest.raises(kind) as raised:
        getattr(room, name)(*operands, **arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize("name", ["conv_transpose2d", *ALGORITHMS])
@pytest.mark.parametrize("row", LAYER_ERRORS, ids=lambda row: row[1][:40])
def test_a_bad_layer_gets_the_same_error_from_every_algorithm(room, row, name):
    kind, message, operands, arguments = row
    assert_refused(room, kind, message, name, operands, arguments)


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[2]}: {row[1][:40]}")
def test_bad_input_gets_the_same_error_in_every_room(room, row):
    assert_refused(room, *row)


@st.composite
def layers(draw):
    """Large geometries of one to three axes, with channels."""
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        size, kernel = draw(st.integers(1, 12)), draw(st.integers(1, 6))
        stride, dilation = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        bare = Axis(size, kernel, stride, 0, 0, dilation)
        before = draw(st.integers(0, full_size(bare) - 1))
        axes.append(bare._replace(before=before, after=draw(st.integers(0, full_size(bare) - 1 - before))))
    groups = draw(st.integers(1, 3))
    channels = Channels(groups, groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)))
    extra = tuple(draw(st.integers(0, max(axis.stride, axis.dilation) - 1)) for axis in axes)
    return tuple(axes), extra, channels, draw(st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=80)
@given(layers())
def test_large_geometries_as_torch_exactly_on_integers(case):
    axes, extra, channels, seed = case
    x = integers(2, channels.inputs, *(axis.size for axis in axes), seed=seed)
    shape = (channels.inputs, channels.outputs // channels.groups, *(axis.kernel for axis in axes))
    w, bias = integers(*shape, seed=seed), integers(channels.outputs, seed=seed)
    expected = torch_transpose(x, w, axes, extra, channels.groups) + bias.reshape(-1, *(1,) * len(axes))
    given = options(*axes) | {"output_padding": extra, "groups": channels.groups}
    for function in (getattr(fast, f"conv_transpose{len(axes)}d"), *(getattr(fast, name) for name in ALGORITHMS)):
        assert (function(x, w, bias, **given) == expected).all()
    assert geometry.conv_transpose_geometry(x.shape, w.shape, axes=len(axes), **given).input_shape == expected.shape
