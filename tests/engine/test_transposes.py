"""The transposed convolution: every backend against PyTorch and against the definition.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py). See
boxes.py for the geometries and for why agreeing on them is a proof.
"""

from __future__ import annotations

import itertools
from itertools import product
from math import gcd

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from konvlib import geometry, matrices, transposes
from konvlib.transposes import arrays
from tests.engine import backends
from tests.engine import boxes as axis_boxes
from tests.engine.boxes import Axis, Channels, digits, integers, options, tensor, torch_conv
from tests.engine.oracles.transposes import (
    ALGORITHMS,
    BOX,
    BOX_TEXT,
    CUBES,
    EVERY_ROOM,
    PLANES,
    assert_right_on_impulses,
    extras,
    full_size,
    layers_of_more_axes,
    torch_transpose,
    transpose,
    transposes_of_ones,
    weight,
)

images = backends.definition("images")

backend = pytest.fixture(params=backends.of("transposes"))(lambda request: request.param)


def test_the_small_example(backend):
    x, w = np.array([[[[1, 3], [2, 0]]]]), np.array([[[[2, 1], [0, 3]]]])
    assert backend.conv_transpose2d(x, w).tolist() == [[[[2, 7, 3], [4, 5, 9], [0, 6, 0]]]]
    assert backend.conv_transpose1d(x[:, :, 0], w[:, :, 0], stride=3).tolist() == [[[2, 1, 0, 6, 3]]]
    assert backend.conv_transpose1d(x[:, :, 0], w[:, :, 1], [5], stride=3, padding=((1, 0),)).tolist() == [
        [[8, 5, 5, 14]]
    ]


def test_zeros_are_inserted_between_samples_and_nowhere_else(backend):
    for size, steps in product([(1,), (4,), (2, 3), (3, 1, 2)], [(1, 1, 1), (2, 3, 1), (3, 1, 2)]):
        x, steps = integers(2, 3, *size) + 20, steps[: len(size)]
        z = backend.insert_zeros(x, steps)
        assert z.shape == (2, 3, *((n - 1) * s + 1 for n, s in zip(size, steps, strict=True)))
        assert (z[(..., *(slice(None, None, s) for s in steps))] == x).all()
        assert np.count_nonzero(z) == x.size
        assert z.dtype == backends.held(backend, x.dtype)
    assert (backend.insert_zeros(x, 1) == x).all()


def even(axis: Axis) -> bool:
    """Whether all outputs that padding and borders do not touch are reached by equally many taps."""
    return axis.stride == 1 or (axis.kernel % axis.stride == 0 and gcd(axis.stride, axis.dilation) == 1)


def test_the_checkerboard_comes_exactly_when_the_stride_does_not_divide_the_kernel(backend):
    """With dilation, also when the two have a common divisor. The interior: what each tap reaches from some input."""
    for kernel, stride, dilation in product(range(1, 9), range(1, 5), range(1, 4)):
        axis = Axis(3 + dilation * kernel, kernel, stride, 0, 0, dilation)
        counts = backend.overlap_counts(axis.size, kernel, stride=stride, dilation=dilation)
        interior = counts[axis.span - 1 : (axis.size - 1) * stride + 1]
        assert len(interior) >= stride
        assert (interior.min() == interior.max()) == even(axis)
        if dilation == 1:
            assert even(axis) == (kernel % stride == 0)
            assert interior.max() - interior.min() == (kernel % stride != 0)


@pytest.mark.verifies(
    "def-transpose-overlap", "eq-transpose-overlap", box="one to three axes, in every backend", exact=True
)
def test_overlap_counts_are_the_transpose_of_ones(backend):
    for axes, extra, expected in transposes_of_ones():
        size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
        counts = backend.overlap_counts(size, kernel, output_padding=extra, **options(*axes))
        assert counts.dtype == np.int64
        assert counts.shape == expected.shape
        assert (counts == expected).all()
    assert backend.overlap_counts(4, 3, stride=2).tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 1]


def test_all_algorithms_on_planes_and_cubes_as_torch(backend):
    for axes, extra, groups, operands, expected in backends.share(backend, layers_of_more_axes()):
        for name in (f"conv_transpose{len(axes)}d", *ALGORITHMS):
            y = getattr(backend, name)(*operands, output_padding=extra, groups=groups, **options(*axes))
            assert y.shape == expected.shape
            assert (y == expected).all()
            assert y.dtype == backends.held(backend, np.int64)


@pytest.mark.verifies(
    "thm-adjoint", "eq-adjoint", box="two and three axes, channels and groups, in every backend", exact=True
)
def test_it_is_the_adjoint_of_the_convolution(backend):
    """<conv(x), y> = <x, conv_transpose(y)> for every impulse y: so each output is what this sum says."""
    for number, axes in backends.share(backend, list(enumerate([*PLANES, *CUBES[::2]]))):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        fitting = [[extra for extra in extras(axis) if extra < axis.stride] for axis in axes]
        if not all(fitting):
            continue
        extra = tuple(each[-1] for each in fitting)
        w = weight(channels, *axes)
        y = integers(1, channels.inputs, *(axis.size for axis in axes))
        back = transpose(backend, y, w, axes, extra, channels.groups)
        x = integers(*back.shape, seed=3)
        there = torch_conv(x, w, axes, channels.groups)
        assert there.shape == y.shape
        assert (there * y).sum() == (x * back).sum()


@pytest.mark.verifies(
    "thm-transpose-algorithms", box="one to three axes, channels and groups, in every backend", exact=True
)
def test_it_is_the_transposed_matrix(backend):
    """Not for an output padding of a whole stride, which no convolution has."""
    of_one_axis = [
        ((axis,), (extra,), channels.groups, integers(1, channels.inputs, axis.size), weight(channels, axis))
        for axis, extra, channels in backends.share(backend, EVERY_ROOM[::3])
    ]
    of_more = [(axes, extra, groups, x[:1], w) for axes, extra, groups, (x, w, _), _ in layers_of_more_axes()]
    for axes, extra, groups, x, w in [*of_one_axis, *backends.share(backend, of_more)]:
        if any(more >= axis.stride for more, axis in zip(extra, axes, strict=True)):
            continue
        y = transpose(backend, x, w, axes, extra, groups)
        matrix = matrices.conv_matrix(w, y.shape[1:], groups=groups, **options(*axes))
        assert (matrix.T @ x.ravel() == y.ravel()).all()


def test_one_axis_is_scipys_upsampling_filter_and_numpys_convolution(backend):
    for size, kernel, stride in product(range(1, 6), range(1, 6), range(1, 5)):
        x, w = integers(1, 1, size), integers(1, 1, kernel, seed=1)
        y = backend.conv_transpose1d(x, w, stride=stride)[0, 0]
        assert (y == signal.upfirdn(w[0, 0], x[0, 0], up=stride)[: len(y)]).all()
        if stride == 1:
            assert (y == np.convolve(x[0, 0], w[0, 0])).all()


def test_two_axes_with_stride_1_are_scipys_convolution_and_without_overlap_a_kronecker_product(backend):
    for height, width, kh, kw in product((1, 3), (2, 4), (1, 2), (2, 3)):
        x, w = integers(1, 1, height, width), integers(1, 1, kh, kw, seed=1)
        assert (backend.conv_transpose2d(x, w)[0, 0] == signal.convolve2d(x[0, 0], w[0, 0])).all()
        assert (backend.conv_transpose2d(x, w, stride=(kh, kw))[0, 0] == np.kron(x[0, 0], w[0, 0])).all()


def test_output_padding_chooses_among_the_sizes_that_stride_to_the_same(backend):
    for kernel, stride, before in backends.share(backend, list(product((1, 2, 3, 4), (1, 2, 3), (0, 1)))):
        w = digits(1, 1, kernel)
        for size in range(kernel + stride, kernel + 3 * stride + 2):
            x = integers(1, 1, size)
            y = images.conv1d(x, w, stride=stride, padding=[(before, 0)])
            arguments = {"stride": stride, "padding": [(before, 0)]}
            backs = [backend.conv_transpose1d(y, w, output_padding=extra, **arguments) for extra in range(stride)]
            assert sorted(back.shape[2] for back in backs).count(size) == 1
            for back in backs[1:]:
                assert (back[..., : backs[0].shape[2]] == backs[0]).all()


def test_output_padding_pads_no_zeros_where_taps_reach(backend):
    x, w = np.array([[[1, 3, 2]]]), np.array([[[2, 1, 4]]])
    cut_off = backend.conv_transpose1d(x, w, stride=2, padding=1)
    longer = backend.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1)
    assert cut_off.tolist() == [[[1, 10, 3, 16, 2]]]
    assert longer.tolist() == [[[1, 10, 3, 16, 2, 8]]]


def test_blocks_of_any_size_give_the_same(backend):
    """The arrays backend computes in blocks; here so small that all their borders fall inside."""
    axes = Axis(7, 3, 2, 1, 2, 1), Axis(5, 4, 3, 0, 1, 2)
    x, w = integers(3, 4, 7, 5), integers(4, 3, 3, 4)
    expected = torch_transpose(x, w, axes, (1, 0), groups=2)
    for block in (1, 400, 1000, 3000) if backends.takes_arrays(backend) else (1,):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "BLOCK", block, raising=False)
            assert (transpose(backend, x, w, axes, (1, 0), 2) == expected).all()


def test_it_is_no_inverse(backend):
    x, w = np.arange(1, 7).reshape(1, 1, 6), np.array([[[1, 2]]])
    assert backend.conv_transpose1d(images.conv1d(x, w), w).tolist() != x.tolist()
    assert backend.conv_transpose1d(images.conv1d(x, w), w).ravel().tolist() == [5, 18, 27, 36, 45, 34]


def test_axes_do_not_mix(backend):
    """Turning the image and every argument turns the result; a product of kernels gives a product of results."""
    for height, width in backends.share(backend, PLANES[::2]):
        extra = extras(height)[-1], extras(width)[-1]
        x, w = integers(1, 2, height.size, width.size), integers(2, 3, height.kernel, width.kernel)
        y = transpose(backend, x, w, (height, width), extra)
        turned = transpose(backend, x.swapaxes(2, 3), w.swapaxes(2, 3), (width, height), extra[::-1])
        assert (turned.swapaxes(2, 3) == y).all()
        a, b, u, v = (integers(1, 1, n) for n in (height.size, width.size, height.kernel, width.kernel))
        down, across = transpose(backend, a, u, (height,), extra[:1]), transpose(backend, b, v, (width,), extra[1:])
        outer = transpose(
            backend,
            a[..., np.newaxis] * b[:, :, np.newaxis],
            u[..., np.newaxis] * v[:, :, np.newaxis],
            (height, width),
            extra,
        )
        assert (outer == down[..., np.newaxis] * across[:, :, np.newaxis]).all()


def test_same_and_valid_are_the_convolutions(backend):
    for kernel, dilation in product((1, 2, 3, 4), (1, 2)):
        x, w = integers(1, 2, 8), integers(2, 3, kernel)
        same = backend.conv_transpose1d(x, w, padding="same", dilation=dilation)
        total = dilation * (kernel - 1)
        full = backend.conv_transpose1d(x, w, padding="valid", dilation=dilation)
        assert full.shape == (1, 3, 8 + total)
        assert (same == full[..., total // 2 : total // 2 + 8]).all()
        assert (images.conv1d(integers(1, 3, 8, seed=2), w, padding="same", dilation=dilation) * x).sum() == (
            integers(1, 3, 8, seed=2) * same
        ).sum()


def test_every_geometry_on_one_axis(backend):
    for axis, extra, channels in backends.share(backend, EVERY_ROOM):
        functions = [backend.conv_transpose1d]
        functions += [getattr(backend, name) for name in ALGORITHMS] if channels != (1, 1, 1) else []
        assert_right_on_impulses(axis, extra, channels, *functions)


@pytest.mark.verifies("def-transpose", "eq-transpose", box=BOX_TEXT, exact=True)
def test_the_whole_box():
    print(BOX_TEXT)
    for axis, extra, channels in BOX:
        assert_right_on_impulses(axis, extra, channels, transposes.conv_transpose1d)


@pytest.mark.verifies("thm-transpose-algorithms", box=f"one channel, every fifth of: {BOX_TEXT}", exact=True)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_whole_box_of_one_channel_by_the_other_algorithms(name):
    for axis, extra, channels in BOX[::5]:
        assert channels == (1, 1, 1)
        assert_right_on_impulses(axis, extra, channels, getattr(transposes, name))


def test_torchs_own_padding_and_output_padding():
    """Where both sides are padded alike, PyTorch takes them as arguments."""
    for axis, extra, channels in BOX:
        if axis.before == axis.after and channels == (1, 2, 3):
            x, w = integers(2, 2, axis.size), weight(channels, axis)
            expected = torch.nn.functional.conv_transpose1d(
                tensor(x), tensor(w), None, axis.stride, axis.before, extra, 1, axis.dilation
            )
            assert (transpose(transposes, x, w, (axis,), (extra,)) == expected.numpy()).all()


def test_no_two_phases_share_a_tap_or_an_output():
    for kernel, stride, dilation in product(range(1, 9), range(1, 7), range(1, 7)):
        phases = arrays.phases_of_axis(kernel, stride, dilation)
        assert sorted(itertools.chain(*phases)) == list(range(kernel))
        outputs = [{dilation * tap % stride for tap in phase} for phase in phases]
        assert all(len(each) == 1 for each in outputs)
        assert len(set().union(*outputs)) == len(outputs)


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
    for function in (
        getattr(transposes, f"conv_transpose{len(axes)}d"),
        *(getattr(transposes, name) for name in ALGORITHMS),
    ):
        assert (function(x, w, bias, **given) == expected).all()
    assert geometry.conv_transpose_geometry(x.shape, w.shape, axes=len(axes), **given).input_shape == expected.shape


# Which kernels leave a pattern


exact_backends = pytest.mark.parametrize("backend", backends.exact("transposes"))


def phase_sums(w, s: int) -> set[int]:
    return {int(np.sum(w[rho::s])) for rho in range(s)}


@pytest.mark.verifies(
    "thm-transpose-flat-kernels", box="taps -1, 0, 1, 2; kernels up to 5, strides up to 4 and the kernel", exact=True
)
@exact_backends
def test_flat_kernels_repeat_first(backend):
    """A kernel is flat exactly if dividing its polynomial by 1 + ... + z^(s - 1) leaves no rest."""
    outcomes = set()
    for k, s in product(range(1, 6), range(1, 5)):
        kept = []
        for w in product((-1, 0, 1, 2), repeat=k if k >= s else 0):
            if not w:
                continue
            rest, quotient = list(w), []
            for place in range(k - s + 1):
                quotient.append(rest[place])
                rest[place : place + s] = [value - quotient[-1] for value in rest[place : place + s]]
            flat = len(phase_sums(w, s)) == 1
            assert flat == (not any(rest)), (w, s)
            outcomes.add(flat)
            if flat:
                assert np.convolve(np.ones(s, int), quotient).tolist() == list(w)
                kept.append(w)
        if kept:
            rows = backend.conv_transpose1d(np.ones((1, 1, 2 * k), int), np.array([kept]), stride=s)[0]
            inside = rows[:, k - 1 : s * (2 * k - 1) + 1]
            assert np.array_equal(inside, np.broadcast_to(inside[:, :1], inside.shape))
    assert outcomes == {False, True}


@pytest.mark.verifies(
    "prop-transpose-random",
    "eq-transpose-random",
    box="two channels of three samples; every kernel of weights 1 and -1; kernels, strides up to 3, dilations up to 2, "
    "padding, output padding up to 1",
    exact=True,
)
@exact_backends
def test_mean_square_of_random_weights(backend):
    """The mean over all signs of the weights, which are independent with mean 0 and variance 1."""
    y = np.array([[[1, 3, 2], [2, 0, 5]]])
    for k, s, d, p, extra in product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1), (0, 1)):
        size = s * 2 + d * (k - 1) + 1 - 2 * p + extra
        if size < 1 or extra >= max(s, d):
            continue
        signs = np.array(list(product((-1, 1), repeat=2 * k))).reshape(-1, 2, k)
        layer = {"stride": s, "dilation": d, "padding": p, "output_padding": extra}
        total = (backend.conv_transpose1d(y, signs.swapaxes(0, 1), **layer)[0] ** 2).sum(axis=0)
        expected = np.zeros(size, dtype=int)
        for o, i, u in np.ndindex(2, 3, k):
            if 0 <= s * i + d * u - p < size:
                expected[s * i + d * u - p] += y[0, o, i] ** 2
        assert np.array_equal(total, len(signs) * expected)


@pytest.mark.verifies(
    "thm-transpose-last-layer",
    box="taps -1, 0, 2; kernels up to 5, periods up to 4, every impulse of a period",
    exact=True,
)
def test_what_a_last_layer_heals():
    """Linear in the pattern, so the patterns with a single 1 decide."""
    outcomes = set()
    for k, s in product(range(1, 6), range(1, 5)):
        patterns = [np.tile(row, k + 3) for row in np.eye(s, dtype=int)]
        for w in product((-1, 0, 2), repeat=k):
            heals = all(len(set(np.convolve(a, w, "valid").tolist())) == 1 for a in patterns)
            assert heals == (len(phase_sums(w, s)) == 1), (w, s)
            outcomes.add(heals)
    assert outcomes == {False, True}
