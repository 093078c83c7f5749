"""The statements of chapter 2 on layers and their sizes, each against sums, counts or routines that no backend makes.

Layers are bilinear, so a geometry is settled by impulses and by weights that name themselves: see `axis_boxes`.
Kernels that come apart, costs and poolings are in test_images_theorems_kernels.py.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import signal

from konvlib import geometry, images
from tests.engine import backends, boxes

naive = backends.definition("images")

both_backends = pytest.mark.parametrize("backend", backends.exact("images"))

X = np.array([[1, 3, 2], [2, 0, 1], [0, 4, 2]])
W = np.array([[2, 1], [0, 3]])
TWO_AXES = boxes.covering(2, size=4, kernel=3)
TWO_AXES_TEXT = (
    f"two axes, sizes to 4, kernels to 3, {boxes.AXIS_TEXT.split(', ', 2)[2]}, every two values of two parameters "
    f"together: {len(TWO_AXES)} geometries, every pair of impulses"
)


def one(backend, x, w, **settings):
    return backend.conv2d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis], **settings)[0, 0]


# The layer


def scattered(x, w, bias, size, stride, padding, dilation, groups):
    """Each pixel is sent, tap by tap, to the output that reads it, if there is one."""
    y = np.zeros((len(x), len(w), *size), dtype=object) + bias.reshape(-1, 1, 1)
    depth, width = w.shape[1], len(w) // groups
    for (b, channel, *pixel), value in np.ndenumerate(x):
        for o in range(channel // depth * width, (channel // depth + 1) * width):
            for tap, weight in np.ndenumerate(w[o, channel % depth]):
                each = zip(pixel, padding, dilation, tap, stride, strict=True)
                steps = [divmod(at + before - d * u, s) for at, (before, _), d, u, s in each]
                if all(rest == 0 and 0 <= i < n for (i, rest), n in zip(steps, size, strict=True)):
                    y[(b, o, *(i for i, _ in steps))] += value * weight
    return y


@pytest.mark.verifies(
    "def-layer",
    "eq-layer",
    box=f"with {boxes.CHANNELS_TEXT} in turn, a batch of 2 and a bias: {len(TWO_AXES[::4])} geometries of two axes",
    exact=True,
)
@both_backends
def test_layer_is_what_scattering_each_pixel_gives(backend):
    assert one(backend, X, W).tolist() == [[5, 11], [16, 7]]
    for number, axes in enumerate(TWO_AXES[::4]):
        groups, inputs, outputs = boxes.CHANNELS[number % len(boxes.CHANNELS)]
        x = boxes.integers(2, inputs, *(axis.size for axis in axes))
        w = boxes.integers(outputs, inputs // groups, *(axis.kernel for axis in axes), seed=1)
        bias, settings = boxes.integers(outputs, seed=2), boxes.options(*axes)
        expected = scattered(x, w, bias, [axis.windows for axis in axes], **settings, groups=groups)
        y = backend.conv2d(x, w, bias, groups=groups, **settings)
        assert y.shape == expected.shape
        assert (y == expected).all()


@pytest.mark.verifies(
    "def-layer", "eq-layer", box="one layer on two axes, all arguments at once, in fractions", exact=True
)
def test_layer_in_fractions():
    x = np.array([Fraction(n, 7) for n in range(-8, 8)], dtype=object).reshape(1, 2, 2, 4)
    w = np.array([Fraction(1, n) for n in range(1, 9)], dtype=object).reshape(2, 1, 2, 2)
    bias = np.array([Fraction(1, 3), Fraction(2, 5)], dtype=object)
    settings = {"stride": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (2, 1), "groups": 2}
    expected = scattered(x, w, bias, (1, 2), **settings)
    assert (naive.conv2d(x, w, bias, **settings) == expected).all()
    assert (images.conv2d(x, w, bias, **settings) == expected).all()


# Convolution of pictures, and the mirrored kernel


SHAPES = list(product(range(1, 4), repeat=2))


def convolved(x, w):
    """All products of an entry of x and one of w, added up by the sums of their indices."""
    sums = defaultdict(int)
    for ((m, n), a), ((i, j), b) in product(np.ndenumerate(x), np.ndenumerate(w)):
        sums[m + i, n + j] += a * b
    return [
        [sums[i, j] for j in range(x.shape[1] + w.shape[1] - 1)] for i in range(x.shape[0] + w.shape[0] - 1)
    ]  # fmt: skip


@pytest.mark.verifies(
    "def-images-convolution",
    "eq-images-convolution",
    box=f"pictures of up to 3 by 3, impulses against entries that name themselves: {len(SHAPES) ** 2} pairs of sizes",
    exact=True,
)
@both_backends
def test_convolution_of_pictures_is_the_padded_layer_with_the_mirrored_kernel(backend):
    for shape, kernel in product(SHAPES, repeat=2):
        w = boxes.digits(*kernel)
        for x in boxes.impulses(1, *shape)[:, 0]:
            full = one(backend, x, w[::-1, ::-1], padding=tuple(k - 1 for k in kernel))
            assert full.tolist() == convolved(x, w) == signal.convolve2d(x, w).tolist()


@pytest.mark.verifies("thm-layer-as-convolution", "eq-images-mirrored", box=TWO_AXES_TEXT, exact=True)
@both_backends
def test_layer_as_convolution(backend):
    """SciPy's full convolution with the spread and mirrored kernel, read at s i - p; outside it there are zeros."""
    for axes in TWO_AXES:
        w = boxes.digits(*(axis.kernel for axis in axes))
        spread = np.zeros([axis.span for axis in axes], dtype=np.int64)
        spread[:: axes[0].dilation, :: axes[1].dilation] = w
        x = boxes.impulses(1, *(axis.size for axis in axes))
        y = backend.conv2d(x, w[np.newaxis, np.newaxis], **boxes.options(*axes))
        places = [  # entries of the full convolution, which begins at 1 - span, inside two margins of zeros
            axis.stride * np.arange(axis.windows) - axis.before + axis.span - 1 + 2 for axis in axes
        ]  # fmt: skip
        for image, result in zip(x[:, 0], y[:, 0], strict=True):
            full = np.pad(signal.convolve2d(image, spread[::-1, ::-1]), 2)
            assert (result == full[np.ix_(*places)]).all()


@pytest.mark.verifies("thm-layer-as-convolution", box=f"with {boxes.CHANNELS_TEXT}", exact=True)
@both_backends
def test_channels_of_a_group_add_up(backend):
    for groups, inputs, outputs in boxes.CHANNELS:
        x, w = boxes.integers(1, inputs, 5, 4), boxes.integers(outputs, inputs // groups, 2, 3, seed=1)
        y = backend.conv2d(x, w, groups=groups)
        for o in range(outputs):
            first = o * groups // outputs * w.shape[1]
            parts = [signal.convolve2d(x[0, first + c], w[o, c, ::-1, ::-1], "valid") for c in range(w.shape[1])]
            assert (y[0, o] == sum(parts)).all()


def test_a_kernel_that_is_not_its_mirror_image_shows_the_flip():
    step = np.array([[0, 0, 0, 1, 1, 1]])
    edge, bump = np.array([[-1, 0, 1]]), np.array([[1, 2, 1]])
    assert (one(images, step, edge) == -signal.convolve2d(step, edge, "valid")).all()
    assert (one(images, step, bump) == signal.convolve2d(step, bump, "valid")).all()


def test_source_001_works_out_a_correlation_and_writes_another_formula():
    """Its y22 runs forwards; its formula, with X at i - i', j - j', runs backwards and leaves the picture at y22."""
    x, k = boxes.integers(4, 4), boxes.integers(3, 3, seed=1)
    steps = list(product(range(3), repeat=2))
    worked = sum(x[1 + u, 1 + v] * k[u, v] for u, v in steps)  # its indices begin at 1, ours at 0
    assert worked == one(images, x, k)[1, 1] == signal.correlate2d(x, k, "valid")[1, 1]
    assert min(2 - u for u, _ in steps) < 1
    formula = {(i, j): sum(x[i - 1 - u, j - 1 - v] * k[u, v] for u, v in steps) for i in (3, 4) for j in (3, 4)}
    assert list(formula.values()) == signal.convolve2d(x, k, "valid").ravel().tolist()
    assert list(formula.values()) != one(images, x, k).ravel().tolist()


# What no window reads


READ_BOX = [
    row for row in product(range(1, 13), range(1, 5), range(1, 6), range(1, 4)) if row[0] > row[3] * (row[1] - 1)
]
READ_TEXT = f"padded sizes to 12, kernels to 4, strides to 5, dilations to 3: {len(READ_BOX):,} geometries"


def read_by(size, kernel, stride, dilation):
    """Which samples change some output: those whose impulse is not lost."""
    w = np.ones((1, 1, kernel), dtype=np.int64)
    return images.conv1d(boxes.impulses(1, size), w, stride=stride, dilation=dilation).any(axis=(1, 2))


@pytest.mark.verifies("thm-images-unread", box=READ_TEXT, exact=True)
def test_samples_that_are_not_read():
    for size, kernel, stride, dilation in READ_BOX:
        read = read_by(size, kernel, stride, dilation)
        windows = geometry.conv_size(size, kernel, stride=stride, dilation=dilation)
        rest = (size - dilation * (kernel - 1) - 1) % stride
        assert np.flatnonzero(read).max() == size - 1 - rest
        same = [n for n in range(1, 20) if n > dilation * (kernel - 1)]
        same = [n for n in same if geometry.conv_size(n, kernel, stride=stride, dilation=dilation) == windows]
        assert same == list(range(size - rest, size - rest + stride))
        if dilation == 1 and windows >= 2:
            assert read[: size - rest].all() == (stride <= kernel)
        for q in range(1, 6):
            if stride % q == 0 and dilation % q == 0:
                assert not [place for place in np.flatnonzero(read) if place % q]


def test_the_first_layer_of_a_resnet_reads_less_padding_on_the_right():
    read = read_by(224 + 6, 7, 2, 1)
    assert read[:3].all()
    assert read[-3:].tolist() == [True, True, False]


# Same


SAME_BOX = list(product(range(1, 13), range(1, 6), range(1, 5), range(1, 4)))


@pytest.mark.verifies(
    "thm-images-same",
    "eq-images-same",
    box=f"sizes to 12, kernels to 5, strides to 4, dilations to 3: {len(SAME_BOX):,} geometries",
    exact=True,
)
def test_same_is_the_least_padding_by_trying_each():
    for size, kernel, stride, dilation in SAME_BOX:

        def windows(total, size=size, kernel=kernel, stride=stride, dilation=dilation):
            starts = range(0, size + total, stride)
            return sum(start + dilation * (kernel - 1) < size + total for start in starts)

        wanted = -(-size // stride)
        least = next(total for total in range(40) if windows(total) == wanted)
        reach = dilation * (kernel - 1)
        assert max((wanted - 1) * stride + reach + 1 - size, 0) == least
        options = {"stride": stride, "dilation": dilation, "size": size, "placement": "tensorflow"}
        assert sum(geometry.same_padding(kernel, **options)) == least
        if stride == 1:
            assert least == reach
        if size == 2 and stride > 1:
            assert (least != reach) == (kernel > 1)  # reach is what size 1 takes


# Padding


PAD_BOX = [
    (mode, size, before, after)
    for mode, size in product(("zeros", "replicate", "reflect", "circular"), range(1, 6))
    for before, after in product(range(12 if mode in ("reflect", "circular") else 4), repeat=2)
]
NUMPY_MODES = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}


def mirrored(i, size):
    """Mirrored at the first sample and at the last, until it falls inside."""
    while size > 1 and not 0 <= i < size:
        i = -i if i < 0 else 2 * (size - 1) - i
    return i if size > 1 else 0


@pytest.mark.verifies(
    "def-padding",
    "eq-images-modes",
    box=f"sizes to 5, each side to 3, or to 11 where samples are read over and over: {len(PAD_BOX)} cases",
    exact=True,
)
@both_backends
def test_padding_modes(backend):
    """A layer with the one weight 1 shows what its padding holds."""
    for mode, size, before, after in PAD_BOX:
        x = boxes.integers(size)
        expected = []
        for i in range(-before, size + after):
            reads = {
                "zeros": None,
                "replicate": 0 if i < 0 else size - 1,
                "reflect": mirrored(i, size),
                "circular": i % size,
            }[mode]
            expected.append(x[i] if 0 <= i < size else 0 if reads is None else x[reads])
        assert expected == np.pad(x, (before, after), NUMPY_MODES[mode]).tolist()
        w = np.ones((1, 1, 1), dtype=np.int64)
        y = backend.conv1d(x[np.newaxis, np.newaxis], w, padding=((before, after),), padding_mode=mode)
        assert y[0, 0].tolist() == expected


# Receptive fields


CHAINS = list(product(product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1)), product((2, 3), (1, 2), (1, 3), (0, 2))))


@pytest.mark.verifies(
    "def-images-receptive",
    "thm-images-receptive",
    "eq-receptive-field",
    box=f"two layers, kernels and strides to 3, dilations to 3, paddings to 2: {len(CHAINS)} chains",
    exact=True,
)
def test_receptive_field_is_what_impulses_show():
    """Sixty samples; the first and last impulse that reach output i, where all of its field exists."""
    for chain in CHAINS:
        paths = boxes.impulses(1, 60)
        for kernel, stride, dilation, before in chain:
            w = np.ones((1, 1, kernel), dtype=np.int64)
            paths = images.conv1d(paths, w, stride=stride, padding=((before, 0),), dilation=dilation)
        (k1, s1, d1, p1), (k2, s2, d2, p2) = chain
        size, begin = 1 + d1 * (k1 - 1) + d2 * (k2 - 1) * s1, -(p1 + p2 * s1)
        assert geometry.receptive_field(chain) == (size, s1 * s2, begin)
        whole = [i for i in range(paths.shape[2]) if s1 * s2 * i + begin >= 0]
        for i in whole:
            seen = np.flatnonzero(paths[:, 0, i])
            assert (seen[0], seen[-1]) == (s1 * s2 * i + begin, s1 * s2 * i + begin + size - 1)
        assert all(later - i == 1 for i, later in pairwise(whole))
        assert len(whole) > 2
