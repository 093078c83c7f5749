"""The convolution layer, every room against PyTorch and SciPy and against sums that no room makes.

Pooling is in the second half. A test whose only argument is ``room`` runs in every room, and against each mutant of it
(tests/test_mutants.py). The layer is bilinear, so agreeing on every pair of unit impulses proves it for a geometry:
`axis_boxes` says how few calls do that.
"""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from konvlib import geometry, images
from konvlib.images import fast, naive
from tests import axis_boxes as boxes
from tests import rooms

BOX_TEXT = (
    f"one axis, {boxes.AXIS_TEXT}: {len(boxes.ONE_AXIS):,} geometries with every pair of impulses; "
    f"with {boxes.CHANNELS_TEXT}: {len(boxes.ONE_AXIS) * len(boxes.CHANNELS):,}"
)
POOLS = list(product(range(1, 8), range(1, 5), range(1, 4), range(3), range(1, 4), (False, True)))
POOL_TEXT = (
    "one axis, sizes 1 to 7, kernels 1 to 4, strides 1 to 3, paddings 0 to 2, dilations 1 to 3, both roundings: "
    f"{len(POOLS):,} geometries"
)
TORCH_MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}
NDIMAGE_MODES = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}

room = pytest.fixture(params=rooms.of("images"))(lambda request: request.param)
exact_room = pytest.fixture(params=[naive, fast], ids=["naive", "fast"])(lambda request: request.param)


def call(room, name, axes, *args, **options):
    return getattr(room, name.replace("#", str(axes)))(*args, **options)


def impulse_operands(axes, channels):
    """All impulses, and weights that name themselves."""
    x = boxes.impulses(channels.inputs, *(axis.size for axis in axes))
    return x, boxes.digits(channels.outputs, channels.inputs // channels.groups, *(axis.kernel for axis in axes))


@cache
def impulse_cases(axes):
    """Geometries that cover the box of one axis, or those of two or three; the expected results are PyTorch's."""
    if axes == 1:
        rows = [((axis,), channels) for axis, channels in boxes.covering_of_one_axis()]
    else:
        sides = {2: {"size": 4, "kernel": 3}, 3: {"size": 3, "kernel": 2}}[axes]
        rows = [(row, boxes.Channels(1, 1, 1)) for row in boxes.covering(axes, **sides)]
    return [
        (row, c.groups, *(ops := impulse_operands(row, c)), boxes.torch_conv(*ops, row, c.groups)) for row, c in rows
    ]


def assert_is_torchs(room, axes):
    for row, groups, x, w, expected in impulse_cases(axes):
        y = call(room, "conv#d", axes, x, w, groups=groups, **boxes.options(*row))
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_on_one_axis_every_pair_of_impulses_is_torchs(room):
    assert_is_torchs(room, 1)


def test_on_two_axes_every_pair_of_impulses_is_torchs(room):
    assert_is_torchs(room, 2)


def test_on_three_axes_every_pair_of_impulses_is_torchs(room):
    assert_is_torchs(room, 3)


def test_the_definition_is_torchs_in_the_whole_box_of_one_axis():
    print(BOX_TEXT)
    for axis in (axis for axis in boxes.ONE_AXIS if axis.fits):
        x, w = impulse_operands([axis], boxes.CHANNELS[0])
        assert (naive.conv1d(x, w, **boxes.options(axis)) == boxes.torch_conv(x, w, (axis,))).all()


def test_fast_is_torchs_in_the_whole_box_with_every_choice_of_channels():
    for axis, channels in boxes.whole():
        x, w = impulse_operands([axis], channels)
        y = fast.conv1d(x, w, groups=channels.groups, **boxes.options(axis))
        assert (y == boxes.torch_conv(x, w, (axis,), channels.groups)).all()


def test_what_does_not_fit_is_refused_by_every_room_alike():
    for axis, channels in boxes.whole(fitting=False):
        x = np.ones((1, channels.inputs, axis.size))
        w = np.ones((channels.outputs, channels.inputs // channels.groups, axis.kernel))
        padded = axis.size + axis.before + axis.after
        message = f"kernel_size must fit the padded input of {padded} samples, got a kernel that covers {axis.span}"
        for module in (naive, fast):
            with pytest.raises(ValueError, match=f"^{message}$"):
                module.conv1d(x, w, groups=channels.groups, **boxes.options(axis))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_way_of_fast_gives_the_same(axes):
    """On integers in doubles: products and sums are exact, spectra err by rounding."""
    rows = [(row,) for row in boxes.covering_of_one_axis()] if axes == 1 else boxes.covering(axes)
    for number, row in enumerate(rows):
        row, channels = row[0] if axes == 1 else (row, boxes.CHANNELS[number % len(boxes.CHANNELS)])
        row = (row,) if axes == 1 else row
        x = boxes.integers(2, channels.inputs, *(axis.size for axis in row)).astype(np.float64)
        kernel = tuple(axis.kernel for axis in row)
        w = boxes.integers(channels.outputs, channels.inputs // channels.groups, *kernel).astype(np.float64)
        options = boxes.options(*row) | {"groups": channels.groups}
        layer = geometry.conv_geometry(x.shape, w.shape, axes=axes, **options)
        expected = boxes.torch_conv(x, w, row, channels.groups)
        padded = np.pad(x, ((0, 0), (0, 0), *layer.padding))
        assert (call(fast, "conv#d", axes, x, w, **options) == expected).all()
        assert (fast.by_taps(x, w, layer) == expected).all()
        for height in range(1, min(4, layer.output_size[0]) + 1):
            assert (fast.by_windows(padded, w, layer, height) == expected).all()
        assert np.abs(fast.by_spectra(padded, w, layer) - expected).max() < 1e-10


def test_axes_do_not_mix(room):
    """Swapping the axes of both operands and of the geometry swaps those of the result."""
    for axes in (2, 3):
        for row in boxes.covering(axes)[::8]:
            x, w = boxes.integers(1, 2, *(a.size for a in row)), boxes.integers(1, 2, *(a.kernel for a in row), seed=1)
            y = call(room, "conv#d", axes, x, w, **boxes.options(*row))
            for order in list(permutations(range(axes)))[1::2]:
                places = (0, 1, *(axis + 2 for axis in order))
                swapped = [np.ascontiguousarray(operand.transpose(places)) for operand in (x, w)]
                result = call(room, "conv#d", axes, *swapped, **boxes.options(*(row[axis] for axis in order)))
                assert (result == y.transpose(places)).all()


def test_separable_impulses_stay_separable(room):
    """The result of outer products is the outer product of the results."""
    for a, b in boxes.covering(2)[::6]:
        x = [boxes.integers(1, 1, axis.size) for axis in (a, b)]
        w = [boxes.integers(1, 1, axis.kernel, seed=1) for axis in (a, b)]
        rows, columns = (room.conv1d(*each, **boxes.options(axis)) for *each, axis in zip(x, w, (a, b), strict=True))
        outer = [left[0, 0, :, np.newaxis] * right[0, 0] for left, right in (x, w)]
        y = room.conv2d(*(operand[np.newaxis, np.newaxis] for operand in outer), **boxes.options(a, b))
        assert (y[0, 0] == rows[0, 0, :, np.newaxis] * columns[0, 0]).all()


def test_bias_is_added_to_its_channel(room):
    for axes in (1, 2, 3):
        x, w = boxes.integers(2, 3, *(5, 4, 3)[:axes]), boxes.integers(4, 3, *(2, 3, 1)[:axes])
        bias = boxes.integers(4)
        plain = call(room, "conv#d", axes, x, w, padding=1)
        y = call(room, "conv#d", axes, x, w, bias, padding=1)
        assert (y - plain == bias.reshape(-1, *(1,) * axes)).all()


def test_padding_modes_are_torchs(room):
    for axes, mode in product((1, 2, 3), TORCH_MODES):
        size, kernel, padding = (5, 4, 3)[:axes], (4, 2, 3)[:axes], ((2, 3), (1, 0), (1, 2))[:axes]
        x, w = boxes.integers(2, 2, *size), boxes.integers(3, 2, *kernel)
        sides = [side for pair in padding[::-1] for side in pair]
        padded = torch.nn.functional.pad(boxes.tensor(x), sides, mode=TORCH_MODES[mode])
        convolve = getattr(torch.nn.functional, f"conv{axes}d")
        expected = convolve(padded, boxes.tensor(w), stride=2).numpy()
        assert (call(room, "conv#d", axes, x, w, padding=padding, padding_mode=mode, stride=2) == expected).all()


def test_padding_modes_are_scipys(room):
    """Also as far as a mode can reach. SciPy centres even kernels one sample later."""
    for mode, kernel in product(NDIMAGE_MODES, [(3, 3), (5, 2), (4, 3), (2, 4), (7, 1)]):
        x, w = boxes.integers(6, 4), boxes.integers(*kernel)
        expected = ndimage.correlate(x, w, mode=NDIMAGE_MODES[mode], origin=[-(1 - k % 2) for k in kernel])
        y = room.conv2d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], padding="same", padding_mode=mode)
        assert (y[0, 0] == expected).all()


def test_same_and_valid_are_torchs(room):
    for kernel, dilation, padding in product(range(1, 6), range(1, 4), ("same", "valid")):
        x, w = boxes.integers(1, 2, 13, 14), boxes.integers(3, 2, kernel, 3)
        expected = torch.nn.functional.conv2d(boxes.tensor(x), boxes.tensor(w), padding=padding, dilation=(dilation, 2))
        assert (room.conv2d(x, w, padding=padding, dilation=(dilation, 2)) == expected.numpy()).all()


SHAPES = [
    ((1, 1, 90, 71), (1, 1, 3, 3), {"padding": 1}),
    ((2, 4, 19, 16), (8, 2, 3, 2), {"groups": 2, "stride": (2, 3), "dilation": (1, 2)}),
    ((2, 6, 17, 12), (6, 1, 3, 3), {"groups": 6, "padding": "same"}),
    ((3, 5, 6, 7), (40, 5, 1, 1), {"stride": (2, 1)}),
    ((1, 1, 3000), (1, 1, 9), {"stride": 2, "padding": (0, 5)}),
    ((1, 1, 9, 8, 7), (2, 1, 3, 2, 4), {"padding": ((1, 0), (0, 2), (1, 1)), "stride": (2, 1, 2)}),
]
"""Enough columns that the products fall into pieces; groups, phases and unit kernels, with several outputs a column."""


def test_larger_layers_are_torchs(room):
    for x_shape, w_shape, options in SHAPES:
        x, w = boxes.integers(*x_shape).astype(np.float64), boxes.integers(*w_shape, seed=1).astype(np.float64)
        layer = geometry.conv_geometry(x.shape, w.shape, axes=x.ndim - 2, **options)
        sides = [side for pair in layer.padding[::-1] for side in pair]
        padded = torch.nn.functional.pad(boxes.tensor(x), sides)
        convolve = getattr(torch.nn.functional, f"conv{layer.axes}d")
        expected = convolve(padded, boxes.tensor(w), None, layer.stride, 0, layer.dilation, layer.groups)
        assert (call(room, "conv#d", layer.axes, x, w, **options) == expected.numpy()).all()


LARGE_KERNEL = ((1, 1, 64, 60), (1, 1, 31, 29))


def test_large_kernels_are_torchs_within_rounding(room):
    """Doubles: the error of a transform of L samples is below 13 log2(L) 2^-53 |x| |w|."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape) for shape in LARGE_KERNEL)
    bound = 13 * np.log2(x.size) * 2.0**-53 * np.linalg.norm(x) * np.linalg.norm(w)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    assert np.abs(room.conv2d(x, w) - expected).max() < bound


def test_nan_and_infinity_stay_where_the_sum_has_them(room):
    """Where a window holds the sample, whichever way is chosen: one output a column, several, or spectra."""
    shapes = [((1, 40, 5, 6), (16, 40, 3, 2), 1), ((1, 1, 12, 11), (1, 1, 3, 2), 1), (*LARGE_KERNEL, 0)]
    for (x_shape, w_shape, padding), bad in product(shapes, (np.nan, np.inf, -np.inf)):
        x, w = np.ones(x_shape), np.ones(w_shape)
        place = (0, 0, 3, 4)
        x[place] = bad
        y, hit = (room.conv2d(each, w, padding=padding) for each in (x, (~np.isfinite(x)).astype(np.float64)))
        hit = hit.round() > 0
        assert hit.any()
        assert np.array_equal(y[hit], np.full(hit.sum(), bad), equal_nan=True)
        assert np.isfinite(y[~hit]).all()


def test_the_large_kernel_is_one_that_is_transformed():
    layer = geometry.conv_geometry(*LARGE_KERNEL, axes=2)
    assert fast.spectra_cost(layer) < fast.windows_cost(layer, fast.rows_at_once(layer))


def test_an_infinite_weight_meets_no_padding(exact_room):
    for shapes in [((1, 1, 5, 4), (2, 1, 3, 3)), ((1, 20, 5, 4), (9, 20, 3, 3))]:
        x, w = (boxes.integers(*shape).astype(np.float64) + 10 for shape in shapes)
        w[0, 0, 0, 0] = np.inf
        y = exact_room.conv2d(x, w, padding=1)
        assert not np.isnan(y).any()
        assert np.isinf(y[0, 0, 1:, 1:]).all()
        assert np.isfinite(y[0, 0, 0]).all()
        assert np.isfinite(y[:, 1:]).all()


def test_complex_layers(exact_room):
    x, w = (boxes.integers(*shape) + 1j * boxes.integers(*shape, seed=1) for shape in [(2, 4, 7, 6), (6, 2, 3, 2)])
    options = {"groups": 2, "stride": (1, 2), "padding": ((1, 0), (0, 2))}
    tensors = torch.nn.functional.pad(torch.from_numpy(x), (0, 2, 1, 0)), torch.from_numpy(w)
    expected = torch.nn.functional.conv2d(*tensors, None, (1, 2), 0, 1, 2).numpy()
    assert (exact_room.conv2d(x, w, **options) == expected).all()
    layer = geometry.conv_geometry(x.shape, w.shape, axes=2, **options)
    padded = np.pad(x, ((0, 0), (0, 0), *layer.padding))
    assert np.abs(fast.by_spectra(padded, w, layer) - expected).max() < 1e-11


def test_fractions_and_big_integers_are_exact(exact_room):
    x, w = [[[Fraction(1, 3), Fraction(-2, 7), Fraction(5)]]], [[[Fraction(9, 11), Fraction(1, 2)]]]
    by_hand = [Fraction(3, 11) - Fraction(1, 7), Fraction(-18, 77) + Fraction(5, 2)]
    assert exact_room.conv1d(x, w).tolist() == [[by_hand]]
    assert exact_room.conv1d(x, w, [Fraction(1, 5)], padding=(1,)).tolist() == [
        [
            [
                Fraction(1, 6) + Fraction(1, 5),
                *(value + Fraction(1, 5) for value in by_hand),
                Fraction(45, 11) + Fraction(1, 5),
            ]
        ]
    ]
    big = np.array([[[10**30, 1]]], dtype=object)
    assert exact_room.conv1d(big, big).tolist() == [[[10**60 + 1]]]


def test_dtypes_are_numpys(exact_room):
    x, w = boxes.integers(1, 2, 5) % 3, boxes.integers(3, 2, 2) % 3
    for kinds in product("?bhilBHILefdgFDG", repeat=2):
        left, right = x.astype(kinds[0]), w.astype(kinds[1])
        y = exact_room.conv1d(left, right, right[:, 0, 0])
        assert y.dtype == np.result_type(left, right)
        wide = naive.conv1d(left.astype(object), right.astype(object), right[:, 0, 0].astype(object))
        assert (y == wide.astype(y.dtype)).all()


def test_machine_integers_wrap_and_take_the_result_s_width(exact_room):
    """Small sums go through float32, larger ones through float64, the largest stay integers."""
    for dtype, largest in [(np.int8, 127), (np.uint8, 255), (np.int32, 2**28), (np.int64, 2**61), (np.uint64, 2**63)]:
        x = np.random.default_rng(1).integers(largest // 2, largest, (1, 2, 9), dtype=dtype)
        with np.errstate(over="ignore"):
            y = exact_room.conv1d(x, x[0, :, np.newaxis, :3], x[0, :, 0], groups=2)
        exact = naive.conv1d(
            x.astype(object), x[0, :, np.newaxis, :3].astype(object), x[0, :, 0].astype(object), groups=2
        )
        assert y.dtype == dtype
        assert (
            y == np.array([int(value) % 2**64 for value in exact.ravel()], np.uint64).astype(dtype).reshape(y.shape)
        ).all()
    x, w, bias = np.full((1, 1, 2), 100, np.int8), np.full((1, 1, 2), 100, np.int8), np.array([1])
    assert (exact_room.conv1d(x, w, bias) == 20001).all()


def test_half_precision_is_summed_in_single():
    x, w = np.full((1, 1, 3000), 0.1, np.float16), np.ones((1, 1, 3000), np.float16)
    y = fast.conv1d(x, w)
    assert y.dtype == np.float16
    assert y.item() == np.float16(3000 * np.float64(np.float16(0.1)))


def test_a_batch_of_no_images_stays_one(room):
    assert room.conv2d(np.zeros((0, 2, 5, 4)), np.ones((3, 2, 3, 3))).shape == (0, 3, 3, 2)
    assert room.max_pool2d(np.zeros((0, 2, 5, 4)), 2).shape == (0, 2, 2, 2)
    assert room.avg_pool2d(np.zeros((0, 2, 5, 4)), 2).shape == (0, 2, 2, 2)


def test_operands_stay_as_they_were_and_views_are_welcome(room):
    x, w, bias = boxes.integers(2, 4, 9, 8), boxes.integers(6, 2, 3, 2), boxes.integers(6)
    kept = [operand.copy() for operand in (x, w, bias)]
    options = {"groups": 2, "stride": (1, 2), "padding": 1}
    y = room.conv2d(x, w, bias, **options)
    for pool in (room.max_pool2d, room.avg_pool2d):
        pooled = pool(x, 1)
        pooled += 1
    assert all((operand == copy).all() for operand, copy in zip((x, w, bias), kept, strict=True))
    views = np.repeat(x, 2, axis=3)[..., ::2], np.ascontiguousarray(w[..., ::-1])[..., ::-1], np.repeat(bias, 3)[::3]
    assert (room.conv2d(*views, **options) == y).all()
    assert (room.max_pool2d(views[0], 2) == room.max_pool2d(x, 2)).all()


layers = st.fixed_dictionaries(
    {
        "axes": st.integers(1, 3),
        "batch": st.integers(1, 3),
        "groups": st.integers(1, 3),
        "depth": st.integers(1, 5),
        "width": st.integers(1, 20),
        "mode": st.sampled_from(("zeros", *TORCH_MODES)),
        "seed": st.integers(0, 2**32 - 1),
    }
)


@settings(deadline=None, max_examples=120)
@given(layer=layers)
def test_any_layer_is_torchs_exactly_on_integers(layer):
    rng, axes, groups = np.random.default_rng(layer["seed"]), layer["axes"], layer["groups"]
    most = {1: 300, 2: 40, 3: 14}[axes]
    size, kernel = rng.integers(3, most, axes), rng.integers(1, {1: 40, 2: 9, 3: 4}[axes], axes)
    stride, dilation = rng.integers(1, 5, axes), rng.integers(1, 4, axes)
    size = np.maximum(size, dilation * (kernel - 1) + 1)
    padding = [tuple(map(int, rng.integers(0, min(n, 7), 2))) for n in size]
    x = rng.integers(-1000, 1000, (layer["batch"], groups * layer["depth"], *size))
    w = rng.integers(-1000, 1000, (groups * layer["width"], layer["depth"], *kernel))
    bias = rng.integers(-1000, 1000, len(w))
    stride, dilation = tuple(map(int, stride)), tuple(map(int, dilation))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    sides = [side for pair in padding[::-1] for side in pair]
    mode = layer["mode"]
    padded = torch.nn.functional.pad(boxes.tensor(x), sides, mode=TORCH_MODES.get(mode, "constant"))
    convolve = getattr(torch.nn.functional, f"conv{axes}d")
    expected = convolve(padded, boxes.tensor(w), boxes.tensor(bias), stride, 0, dilation, groups).numpy()
    assert (call(fast, "conv#d", axes, x, w, bias, padding_mode=mode, **options) == expected).all()


MEASURE = """
import tracemalloc
import numpy as np
from konvlib import images
x, w = np.ones((1, 1, 2048, 2048), np.{dtype}), np.ones((1, 1, {kernel}, {kernel}), np.{dtype})
w[0, 0, 0, 0] = {corner}
tracemalloc.start()
y = images.conv2d(x, w, padding="same")
peak = tracemalloc.get_traced_memory()[1]
assert peak + x.nbytes <= 4 * (x.nbytes + y.nbytes) + 256 * 2**20, peak
"""


@pytest.mark.parametrize("case", [("float32", 15, 1), ("float64", 15, 1), ("float32", 5, 1), ("uint8", 15, 1)])
def test_four_megapixels_need_four_times_their_memory_at_most(case):
    """And 256 MB, with input and output among it."""
    script = MEASURE.format(**dict(zip(("dtype", "kernel", "corner"), case, strict=True)))
    subprocess.run([sys.executable, "-c", script], check=True)


def torch_pool(name, axes, x, *args):
    """PyTorch's pooling in doubles."""
    return getattr(torch.nn.functional, f"{name}_pool{axes}d")(boxes.tensor(x), *args).numpy()


def shows_samples(size, kernel, stride, pad, dilation, ceil_mode):
    """Whether windows fit, padding is at most half the kernel, and each window shows a sample, which PyTorch asks not."""
    options = {"stride": stride, "padding": (pad, pad), "dilation": dilation, "ceil_mode": ceil_mode}
    try:
        windows = geometry.pool_size(size, kernel, **options)
    except ValueError:
        return False
    return all(any(0 <= i * stride + u * dilation - pad < size for u in range(kernel)) for i in range(windows))


@cache
def max_pools():
    rows = []
    for row in filter(lambda row: shows_samples(*row), POOLS):
        x = boxes.integers(2, 3, row[0]) - 20
        rows.append((x, row, torch_pool("max", 1, x, *row[1:])))
    assert len(rows) > 900
    return rows


def pool_options(row):
    return dict(zip(("stride", "padding", "dilation", "ceil_mode"), row[2:], strict=True))


def test_max_pooling_on_one_axis_is_torchs(room):
    """Of negative samples, so that a zero in the padding would win."""
    for x, row, expected in max_pools():
        y = room.max_pool1d(x, row[1], **pool_options(row))
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_pools_that_do_not_fit_are_refused_alike():
    print(POOL_TEXT)
    for row in POOLS:
        if not shows_samples(*row):
            errors = []
            for module in (naive, fast):
                with pytest.raises(ValueError, match=r"^(kernel_size|padding) must") as raised:
                    module.max_pool1d(np.ones((1, 1, row[0])), row[1], **pool_options(row))
                errors.append(str(raised.value))
            assert errors[0] == errors[1]


def random_pool(seed, axes):
    rng = np.random.default_rng([seed, axes])
    kernel, stride = rng.integers(1, 5, axes), rng.integers(1, 4, axes)
    padding, size = rng.integers(0, kernel // 2 + 1), rng.integers(6, 9, axes)
    args = [tuple(map(int, value)) for value in (kernel, stride, padding)]
    return rng.integers(-30, -1, (1, 2, *size)), args, bool(seed % 2)


def test_max_pooling_on_more_axes_is_torchs(room):
    for seed, axes in product(range(40), (2, 3)):
        x, (kernel, stride, padding), ceil_mode = random_pool(seed, axes)
        dilation = (1, 2, 1)[:axes] if seed % 3 else (2, 1, 1)[:axes]
        size = [n + 4 for n in x.shape[2:]] if axes == 2 else x.shape[2:]
        x = np.resize(x, (1, 2, *size))
        expected = torch_pool("max", axes, x, kernel, stride, padding, dilation, ceil_mode)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        assert (call(room, "max_pool#d", axes, x, kernel, **options) == expected).all()


def test_average_pooling_on_one_axis_is_torchs(room):
    for (size, kernel, stride, pad, dilation, ceil_mode), counted in product(POOLS, (False, True)):
        if dilation == 1 and shows_samples(size, kernel, stride, pad, 1, ceil_mode):
            x = boxes.integers(2, 3, size) * 12
            expected = torch_pool("avg", 1, x, kernel, stride, pad, ceil_mode, counted)
            options = {"stride": stride, "padding": pad, "ceil_mode": ceil_mode, "count_include_pad": counted}
            y = room.avg_pool1d(x, kernel, **options)
            assert y.shape == expected.shape
            assert (y == expected).all()


def test_average_pooling_on_more_axes_is_torchs(room):
    for seed, axes in product(range(40), (2, 3)):
        x, (kernel, stride, padding), ceil_mode = random_pool(seed, axes)
        x, counted = x * 12**axes, bool(seed // 2 % 2)
        expected = torch_pool("avg", axes, x, kernel, stride, padding, ceil_mode, counted)
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": counted}
        y = call(room, "avg_pool#d", axes, x, kernel, **options)
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_pooling_by_default_side_by_side_and_padded_on_one_side(room):
    x = boxes.integers(1, 2, 6, 9) * 12
    for name in ("max", "avg"):
        assert (call(room, f"{name}_pool#d", 2, x, (2, 3)) == torch_pool(name, 2, x, (2, 3))).all()
        fill = -np.inf if name == "max" else 0
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 0), (0, 1)), constant_values=fill)
        y = call(room, f"{name}_pool#d", 2, x, 2, padding=((1, 0), (0, 1)))
        assert (y == torch_pool(name, 2, padded, 2)).all()
    uneven = room.avg_pool1d(np.array([[[6, 12]]]), 2, stride=1, padding=((1, 0),), count_include_pad=False)
    assert uneven.tolist() == [[[6.0, 9.0]]]


def test_average_pooling_is_a_depthwise_convolution(room):
    x = boxes.integers(2, 3, 7, 9) * 12
    y = room.conv2d(x, np.ones((3, 1, 2, 3), dtype=np.int64), stride=(2, 1), padding=(1, 1), groups=3)
    assert (room.avg_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 1)) * 6 == y).all()


def test_pools_keep_nan_and_infinity_in_their_windows(room):
    for seed, padding in product(range(30), (0, 1)):
        values = [np.nan, 1.0, 2.0, 3.0, np.inf, -np.inf]
        x = np.random.default_rng(seed).choice(values, (2, 1, 6, 5), p=[0.08, 0.3, 0.2, 0.2, 0.1, 0.12])
        for name in ("max", "avg"):
            expected = torch_pool(name, 2, x, (2, 3), (1, 2), padding)
            with np.errstate(invalid="ignore"):
                y = call(room, f"{name}_pool#d", 2, x, (2, 3), stride=(1, 2), padding=padding)
            assert np.array_equal(np.isnan(y), np.isnan(expected))
            assert np.allclose(y, expected, rtol=1e-15, equal_nan=True)


def test_dtypes_of_pools(exact_room):
    for kind in "?bhilBHILefdg":
        x = (boxes.integers(1, 1, 6) % 2).astype(kind)
        largest, mean = exact_room.max_pool1d(x, 2, padding=1), exact_room.avg_pool1d(x, 2)
        assert largest.dtype == x.dtype
        assert (largest[..., 1:-1] == np.maximum(x[..., 1:-1:2], x[..., 2::2])).all()
        assert mean.dtype == np.mean(x).dtype
        assert (mean == (x[..., ::2].astype(float) + x[..., 1::2]) / 2).all()
    x = np.array([[[Fraction(1, 3), Fraction(1, 2), 5, 1]]], dtype=object)
    assert exact_room.max_pool1d(x, 2).tolist() == [[[Fraction(1, 2), 5]]]
    assert exact_room.avg_pool1d(x, 2, stride=1).tolist() == [[[Fraction(5, 12), Fraction(11, 4), 3]]]
    assert exact_room.avg_pool1d(np.array([[[1j, 2]]]), 2).tolist() == [[[1 + 0.5j]]]


X, W = np.ones((1, 4, 5)), np.ones((4, 2, 3))
ERRORS = [
    (ValueError, "x must have 3 axes (N, C, L), got shape (4, 5)", lambda room: room.conv1d(X[0], W)),
    (ValueError, "x must not be empty, got shape (1, 4, 0)", lambda room: room.conv1d(X[..., :0], W)),
    (
        ValueError,
        "w must have 3 axes (C_out, C_in // groups, kernel_size), got shape (3,)",
        lambda room: room.conv1d(X, W[0, 0]),
    ),
    (ValueError, "w must have 4 // 1 = 4 channels, got 2", lambda room: room.conv1d(X, W)),
    (
        ValueError,
        "in_channels must be divisible by groups, got 4 channels in 3 groups",
        lambda room: room.conv1d(X, W, groups=3),
    ),
    (
        ValueError,
        "out_channels must be divisible by groups, got 3 channels in 2 groups",
        lambda room: room.conv1d(X, W[:3], groups=2),
    ),
    (ValueError, "groups must be at least 1, got 0", lambda room: room.conv1d(X, W, groups=0)),
    (
        ValueError,
        "bias must have shape (4,), one value per output channel, got (3,)",
        lambda room: room.conv1d(X, W, np.ones(3), groups=2),
    ),
    (ValueError, "stride must be at least 1, got 0", lambda room: room.conv1d(X, W, groups=2, stride=0)),
    (TypeError, "stride must be an integer, got 1.5", lambda room: room.conv1d(X, W, groups=2, stride=1.5)),
    (
        ValueError,
        "dilation must be one integer or 1, one per axis, got (1, 2)",
        lambda room: room.conv1d(X, W, groups=2, dilation=(1, 2)),
    ),
    (
        ValueError,
        "padding must be one of same, valid, got 'full'",
        lambda room: room.conv1d(X, W, groups=2, padding="full"),
    ),
    (
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give the padding per side",
        lambda room: room.conv1d(X, W, groups=2, padding="same", stride=2),
    ),
    (
        ValueError,
        "kernel_size must fit the padded input of 5 samples, got a kernel that covers 7",
        lambda room: room.conv1d(X, W, groups=2, dilation=3),
    ),
    (
        ValueError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
        lambda room: room.conv1d(X, W, groups=2, padding_mode="mirror"),
    ),
    (
        ValueError,
        "padding must be at most 4 for padding_mode 'reflect' on 5 samples, got (5, 5)",
        lambda room: room.conv1d(X, W, groups=2, padding=5, padding_mode="reflect"),
    ),
    (ValueError, "x must have 4 axes (N, C, H, W), got shape (1, 4, 5)", lambda room: room.max_pool2d(X, 2)),
    (ValueError, "kernel_size must be at least 1, got 0", lambda room: room.max_pool1d(X, 0)),
    (TypeError, "ceil_mode must be True or False, got 1", lambda room: room.max_pool1d(X, 2, ceil_mode=1)),
    (TypeError, "ceil_mode must be True or False, got None", lambda room: room.avg_pool1d(X, 2, ceil_mode=None)),
    (
        ValueError,
        "padding must be at most half of kernel_size 2, got (2, 2)",
        lambda room: room.avg_pool1d(X, 2, padding=2),
    ),
    (
        TypeError,
        "count_include_pad must be True or False, got 0",
        lambda room: room.avg_pool1d(X, 2, count_include_pad=0),
    ),
    (TypeError, "x must hold real numbers, got dtype complex128", lambda room: room.max_pool1d(X * 1j, 2)),
    (
        ValueError,
        "kernel_size must fit the padded input of 5 samples, got a kernel that covers 6",
        lambda room: room.max_pool1d(X, 6),
    ),
    (
        ValueError,
        "padding must let each window meet the input, got 1 samples before the 1 of an axis with kernel_size 2 "
        "and dilation 2",
        lambda room: room.max_pool1d(X[..., :1], 2, padding=1, dilation=2),
    ),
]
ARRAY_ERRORS = [
    (ValueError, "x must be rectangular, got rows of different lengths", lambda room: room.conv1d([[[1, 2], [3]]], W)),
    (TypeError, "w must hold numbers, got dtype <U3", lambda room: room.conv1d(X, [[["one", "two"]]])),
    (TypeError, "bias must hold numbers, got dtype <U1", lambda room: room.conv1d(X, W, ["a"] * 4, groups=2)),
    (TypeError, "x must hold numbers, got dtype <U3", lambda room: room.avg_pool1d([[["one", "two"]]], 2)),
]


def assert_refused(room, kind, message, function):
    with pytest.raises(kind) as raised:
        function(room)
    assert str(raised.value) == message


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_bad_input_gets_the_same_error_in_every_room(room, row):
    assert_refused(room, *row)


@pytest.mark.parametrize("row", ARRAY_ERRORS, ids=lambda row: row[1][:40])
def test_what_is_no_array_of_numbers_is_refused(exact_room, row):
    assert_refused(exact_room, *row)


def test_a_tensor_is_sent_back_as_long_as_there_is_no_room_for_it():
    if images._gpu is None:
        with pytest.raises(TypeError, match="takes arrays, got a torch tensor"):
            images.conv1d(torch.ones(1, 1, 3), np.ones((1, 1, 2)))
