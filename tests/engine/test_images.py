"""The convolution layer, every backend against PyTorch, SciPy and NumPy and against sums that no backend makes.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py). The
layer is bilinear, so agreeing on every pair of unit impulses proves it for a geometry: `axis_boxes` says how few calls
do that. Pooling, dtypes and errors have files of their own, whose names start with this one's.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from konvlib import geometry, images
from konvlib.images import spectra
from tests.engine import backends, boxes

naive = backends.definition("images")

BOX_TEXT = (
    f"one axis, {boxes.AXIS_TEXT}: {len(boxes.ONE_AXIS):,} geometries with every pair of impulses; "
    f"with {boxes.CHANNELS_TEXT}: {len(boxes.ONE_AXIS) * len(boxes.CHANNELS):,}"
)
TORCH_MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}
NDIMAGE_MODES = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)


def call(backend, name, axes, *args, **options):
    return getattr(backend, name.replace("#", str(axes)))(*args, **options)


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


def assert_is_torchs(backend, axes):
    for row, groups, x, w, expected in impulse_cases(axes):
        y = call(backend, "conv#d", axes, x, w, groups=groups, **boxes.options(*row))
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_on_one_axis_every_pair_of_impulses_is_torchs(backend):
    assert_is_torchs(backend, 1)


@pytest.mark.verifies("def-layer", "eq-layer", box="two axes, covering: every pair of impulses", exact=True)
def test_on_two_axes_every_pair_of_impulses_is_torchs(backend):
    assert_is_torchs(backend, 2)


def test_on_three_axes_every_pair_of_impulses_is_torchs(backend):
    assert_is_torchs(backend, 3)


@pytest.mark.verifies("def-layer", "eq-layer", box=BOX_TEXT, exact=True)
def test_the_definition_is_torchs_in_the_whole_box_of_one_axis():
    print(BOX_TEXT)
    for axis in (axis for axis in boxes.ONE_AXIS if axis.fits):
        x, w = impulse_operands([axis], boxes.CHANNELS[0])
        assert (naive.conv1d(x, w, **boxes.options(axis)) == boxes.torch_conv(x, w, (axis,))).all()


def test_arrays_are_torchs_in_the_whole_box_with_every_choice_of_channels():
    for axis, channels in boxes.whole():
        x, w = impulse_operands([axis], channels)
        y = images.conv1d(x, w, groups=channels.groups, **boxes.options(axis))
        assert (y == boxes.torch_conv(x, w, (axis,), channels.groups)).all()


def test_what_does_not_fit_is_refused_by_every_backend_alike():
    for axis, channels in boxes.whole(fitting=False):
        x = np.ones((1, channels.inputs, axis.size))
        w = np.ones((channels.outputs, channels.inputs // channels.groups, axis.kernel))
        message = axis.refusal
        for module in (naive, images):
            with pytest.raises(ValueError, match=f"^{message}$"):
                module.conv1d(x, w, groups=channels.groups, **boxes.options(axis))


def test_axes_do_not_mix(backend):
    """Swapping the axes of both operands and of the geometry swaps those of the result."""
    for axes in (2, 3):
        for row in boxes.covering(axes)[::8]:
            x, w = boxes.integers(1, 2, *(a.size for a in row)), boxes.integers(1, 2, *(a.kernel for a in row), seed=1)
            y = call(backend, "conv#d", axes, x, w, **boxes.options(*row))
            for order in list(permutations(range(axes)))[1::2]:
                places = (0, 1, *(axis + 2 for axis in order))
                swapped = [np.ascontiguousarray(operand.transpose(places)) for operand in (x, w)]
                result = call(backend, "conv#d", axes, *swapped, **boxes.options(*(row[axis] for axis in order)))
                assert (result == y.transpose(places)).all()


def test_separable_impulses_stay_separable(backend):
    """The result of outer products is the outer product of the results."""
    for a, b in boxes.covering(2)[::6]:
        x = [boxes.integers(1, 1, axis.size) for axis in (a, b)]
        w = [boxes.integers(1, 1, axis.kernel, seed=1) for axis in (a, b)]
        rows, columns = (backend.conv1d(*each, **boxes.options(axis)) for *each, axis in zip(x, w, (a, b), strict=True))
        outer = [left[0, 0, :, np.newaxis] * right[0, 0] for left, right in (x, w)]
        y = backend.conv2d(*(operand[np.newaxis, np.newaxis] for operand in outer), **boxes.options(a, b))
        assert (y[0, 0] == rows[0, 0, :, np.newaxis] * columns[0, 0]).all()


def test_bias_is_added_to_its_channel(backend):
    for axes in (1, 2, 3):
        x, w = boxes.integers(2, 3, *(5, 4, 3)[:axes]), boxes.integers(4, 3, *(2, 3, 1)[:axes])
        bias = boxes.integers(4)
        plain = call(backend, "conv#d", axes, x, w, padding=1)
        y = call(backend, "conv#d", axes, x, w, bias, padding=1)
        assert (y - plain == bias.reshape(-1, *(1,) * axes)).all()


def test_padding_modes_are_torchs(backend):
    for axes, mode in product((1, 2, 3), TORCH_MODES):
        size, kernel, padding = (5, 4, 3)[:axes], (4, 2, 3)[:axes], ((2, 3), (1, 0), (1, 2))[:axes]
        x, w = boxes.integers(2, 2, *size), boxes.integers(3, 2, *kernel)
        sides = [side for pair in padding[::-1] for side in pair]
        padded = torch.nn.functional.pad(boxes.tensor(x), sides, mode=TORCH_MODES[mode])
        convolve = getattr(torch.nn.functional, f"conv{axes}d")
        expected = convolve(padded, boxes.tensor(w), stride=2).numpy()
        assert (call(backend, "conv#d", axes, x, w, padding=padding, padding_mode=mode, stride=2) == expected).all()


def test_padding_modes_are_scipys(backend):
    """Also as far as a mode can reach. SciPy centres even kernels one sample later."""
    for mode, kernel in product(NDIMAGE_MODES, [(3, 3), (5, 2), (4, 3), (2, 4), (7, 1)]):
        x, w = boxes.integers(6, 4), boxes.integers(*kernel)
        expected = ndimage.correlate(x, w, mode=NDIMAGE_MODES[mode], origin=[-(1 - k % 2) for k in kernel])
        y = backend.conv2d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], padding="same", padding_mode=mode)
        assert (y[0, 0] == expected).all()


def test_same_and_valid_are_torchs(backend):
    for kernel, dilation, padding in backends.share(
        backend, list(product(range(1, 6), range(1, 4), ("same", "valid")))
    ):
        x, w = boxes.integers(1, 2, 13, 14), boxes.integers(3, 2, kernel, 3)
        expected = torch.nn.functional.conv2d(boxes.tensor(x), boxes.tensor(w), padding=padding, dilation=(dilation, 2))
        assert (backend.conv2d(x, w, padding=padding, dilation=(dilation, 2)) == expected.numpy()).all()


def test_one_channel_on_one_axis_is_numpys(backend):
    """NumPy's convolution flips the kernel, and its modes are paddings."""
    pairs = [(size, kernel) for size, kernel in product(range(1, 8), range(1, 8)) if kernel <= size]
    for size, kernel in backends.share(backend, pairs):
        x, w = boxes.integers(size), boxes.integers(kernel, seed=1)
        same = ((kernel // 2, (kernel - 1) // 2),)
        for mode, padding in {"full": kernel - 1, "same": same, "valid": 0}.items():
            y = backend.conv1d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis, ::-1], padding=padding)
            assert y[0, 0].tolist() == np.convolve(x, w, mode).tolist()


def test_one_channel_on_more_axes_is_scipys(backend):
    for kernel in [(3, 3), (2, 5), (4, 1), (1, 2), (2, 3, 1), (3, 1, 4)]:
        x, w = boxes.integers(*(6, 7, 5)[: len(kernel)]), boxes.integers(*kernel, seed=1)
        same = [(k // 2, (k - 1) // 2) for k in kernel]
        for mode, padding in {"full": [k - 1 for k in kernel], "same": same, "valid": 0}.items():
            y = call(
                backend, "conv#d", len(kernel), x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], padding=padding
            )
            assert (y[0, 0] == signal.correlate(x, w, mode, method="direct")).all()


def test_one_channel_of_an_image_is_scipys(backend):
    """For even kernels the same part of `correlate2d` lies one sample from that of `correlate`."""
    x = boxes.integers(6, 7)
    for w in (boxes.integers(*kernel, seed=1) for kernel in [(3, 3), (2, 5), (4, 1), (1, 2)]):
        same = [((k - 1) // 2, k // 2) for k in w.shape]
        for mode, padding in {"full": [k - 1 for k in w.shape], "same": same, "valid": 0}.items():
            y = backend.conv2d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], padding=padding)
            assert (y[0, 0] == signal.correlate2d(x, w, mode)).all()


SHAPES = [
    ((1, 1, 90, 71), (1, 1, 3, 3), {"padding": 1}),
    ((1, 2, 40, 42), (3, 2, 5, 5), {}),
    ((2, 4, 19, 16), (8, 2, 3, 2), {"groups": 2, "stride": (2, 3), "dilation": (1, 2)}),
    ((2, 6, 17, 12), (6, 1, 3, 3), {"groups": 6, "padding": "same"}),
    ((3, 5, 6, 7), (40, 5, 1, 1), {"stride": (2, 1)}),
    ((1, 1, 3000), (1, 1, 9), {"stride": 2, "padding": ((0, 5),)}),
    ((1, 1, 9, 8, 7), (2, 1, 3, 2, 4), {"padding": ((1, 0), (0, 2), (1, 1)), "stride": (2, 1, 2)}),
]
"""Enough columns that the products fall into pieces; groups, phases and unit kernels, with several outputs a column."""


def test_larger_layers_are_torchs(backend):
    for x_shape, w_shape, options in backends.share(backend, SHAPES):
        x, w = boxes.integers(*x_shape).astype(np.float64), boxes.integers(*w_shape, seed=1).astype(np.float64)
        layer = geometry.conv_geometry(x.shape, w.shape, axes=x.ndim - 2, **options)
        sides = [side for pair in layer.padding[::-1] for side in pair]
        padded = torch.nn.functional.pad(boxes.tensor(x), sides)
        convolve = getattr(torch.nn.functional, f"conv{layer.axes}d")
        expected = convolve(padded, boxes.tensor(w), None, layer.stride, 0, layer.dilation, layer.groups)
        assert (call(backend, "conv#d", layer.axes, x, w, **options) == expected.numpy()).all()


LARGE_KERNEL = ((1, 1, 30, 54), (1, 1, 5, 29))


def test_large_kernels_are_torchs_within_rounding(backend):
    """Doubles: the error of a transform of L samples is below 13 log2(L) 2^-53 |x| |w|."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape) for shape in LARGE_KERNEL)
    bound = 13 * np.log2(x.size) * 2.0**-53 * np.linalg.norm(x) * np.linalg.norm(w)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    assert np.abs(backend.conv2d(x, w) - expected).max() < bound


def test_the_large_kernel_is_one_that_is_transformed(monkeypatch):
    ways = []
    monkeypatch.setattr(spectra, "by_spectra", lambda *_: ways.append("spectra") or np.zeros(1))
    images.conv2d(*map(np.ones, LARGE_KERNEL))
    assert ways == ["spectra"]


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
    assert (call(images, "conv#d", axes, x, w, bias, padding_mode=mode, **options) == expected).all()
