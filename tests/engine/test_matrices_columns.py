"""Columns of windows: im2col, its adjoint and the convolution by one product, every backend against PyTorch."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import matrices
from tests.engine import backends
from tests.engine.boxes import Axis, Channels, integers, options, tensor, torch_conv
from tests.engine.oracles.matrices import (
    PLANES,
    columns_and_sums,
    columns_by_torch,
    images_and_columns,
    layers_of_two_axes,
)

images = backends.definition("images")
backend = pytest.fixture(params=backends.of("matrices"))(lambda request: request.param)


def test_columns_are_torchs_unfold(backend):
    for axes, x, expected in backends.share(backend, images_and_columns()):
        cols = backend.im2col(x, tuple(axis.kernel for axis in axes), **options(*axes))
        assert cols.shape == expected.shape
        assert (cols == expected).all()
        assert cols.dtype == backends.held(backend, x.dtype)


def test_columns_are_numpys_sliding_windows(backend):
    for height, width in product(range(2, 6), repeat=2):
        x = integers(2, 3, height, width)
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 1), axis=(2, 3))
        expected = windows.transpose(0, 1, 4, 5, 2, 3).reshape(2, 6, -1)
        assert (backend.im2col(x, (2, 1)) == expected).all()


def test_adding_columns_up_is_the_adjoint_of_cutting_them(backend):
    """<im2col x, c> = <x, col2im c> on all impulses x: so col2im c, sample by sample, is what this sum says."""
    for axes, cols, expected in backends.share(backend, columns_and_sums()):
        size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
        x = backend.col2im(cols, size, kernel, **options(*axes))
        assert x.shape == expected.shape
        assert (x == expected).all()


def test_adding_columns_up_is_torchs_fold(backend):
    for height, width in PLANES:
        if (height.before, width.before) != (height.after, width.after):
            continue
        size, kernel = (height.size, width.size), (height.kernel, width.kernel)
        cols = integers(2, 3 * prod(kernel), height.windows * width.windows)
        given = options(height, width) | {"padding": (height.before, width.before)}
        expected = torch.nn.functional.fold(tensor(cols), size, kernel, **given).numpy()
        assert (backend.col2im(cols, size, kernel, **options(height, width)) == expected).all()


def test_adding_up_multiplies_by_the_number_of_windows_and_does_not_invert(backend):
    x = integers(2, 3, 5, 6) + 20
    arguments = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (1, 3)}
    back = backend.col2im(backend.im2col(x, (3, 2), **arguments), (5, 6), (3, 2), **arguments)
    counts = backend.col2im(backend.im2col(np.ones_like(x), (3, 2), **arguments), (5, 6), (3, 2), **arguments)
    assert (back == counts * x).all()
    assert (counts > 1).any()
    assert (back != x).any()
    apart = {"stride": (3, 2)}
    assert (
        backend.col2im(backend.im2col(x[..., :3, :], (3, 2), **apart), (3, 6), (3, 2), **apart) == x[..., :3, :]
    ).all()


def test_axes_do_not_mix(backend):
    """Turning the image and every argument turns the columns' windows and taps."""
    for height, width in PLANES:
        x = integers(1, 2, height.size, width.size) + 100
        shape = (1, 2, height.kernel, width.kernel, height.windows, width.windows)
        turned_shape = (1, 2, width.kernel, height.kernel, width.windows, height.windows)
        cols = backend.im2col(x, (height.kernel, width.kernel), **options(height, width)).reshape(shape)
        turned = backend.im2col(x.swapaxes(2, 3), (width.kernel, height.kernel), **options(width, height))
        assert (turned.reshape(turned_shape) == cols.transpose(0, 1, 3, 2, 5, 4)).all()


def test_one_matrix_product_per_group_convolves(backend):
    for axes, groups, operands, expected in layers_of_two_axes():
        y = backend.conv2d_im2col(*operands, groups=groups, **options(*axes))
        assert y.shape == expected.shape
        assert (y == expected).all()
        assert y.dtype == backends.held(backend, np.int64)


def test_padding_same_and_valid_are_understood(backend):
    x, w = integers(1, 2, 5, 6), integers(3, 2, 4, 3)
    for padding in ("same", "valid", 1, (1, 2)):
        expected = images.conv2d(x, w, padding=padding)
        assert (backend.conv2d_im2col(x, w, padding=padding) == expected).all()
        assert (backend.conv_matrix(w, (2, 5, 6), padding=padding) @ x.ravel() == expected.ravel()).all()


def test_a_batch_of_no_images_stays_one(backend):
    assert backend.im2col(np.zeros((0, 2, 5, 6)), (2, 3)).shape == (0, 12, 16)
    assert backend.im2col(np.zeros((0, 2, 5)), 1).shape == (0, 2, 5)
    assert backend.col2im(np.zeros((0, 12, 16)), (5, 6), (2, 3)).shape == (0, 2, 5, 6)
    assert backend.conv2d_im2col(np.zeros((0, 2, 5, 6)), np.ones((4, 1, 2, 3)), groups=2).shape == (0, 4, 4, 4)
    assert backend.conv2d_im2col(np.zeros((0, 2, 5, 6)), np.ones((4, 2, 1, 1))).shape == (0, 4, 5, 6)


def test_results_are_copies(backend):
    x = np.arange(12).reshape(1, 3, 4)
    for kernel in (1, 4):
        cols = backend.im2col(x, kernel)
        cols += 1
        assert (x == np.arange(12).reshape(1, 3, 4)).all()
    back = backend.col2im(x, 4, 1)
    back += 1
    assert (x == np.arange(12).reshape(1, 3, 4)).all()


def test_fractions_are_exact(backend):
    third, half = Fraction(1, 3), Fraction(1, 2)
    x = np.array([[[[third, half], [Fraction(2, 7), 10**30]]]], dtype=object)
    w = np.array([[[[half, 3]]]], dtype=object)
    assert backend.conv2d_im2col(x, w).ravel().tolist() == [third / 2 + 3 * half, Fraction(1, 7) + 3 * 10**30]
    cols = backend.im2col(x, (2, 1), padding=1)
    assert cols.dtype == object
    assert backend.col2im(cols, (2, 2), (2, 1), padding=1).ravel().tolist() == (2 * x).ravel().tolist()


def test_result_dtypes_are_numpys(backend):
    backends.needs_arrays(backend)
    kinds = "?bhlBLfdFD"
    for a, b, c in [*product(kinds, kinds, [None]), *product("bHd", "bf", kinds)]:
        x, w = np.ones((1, 1, 3, 3), dtype=a), np.ones((1, 1, 2, 2), dtype=b)
        terms = (x, w) if c is None else (x, w, np.ones(1, dtype=c))
        y = backend.conv2d_im2col(*terms)
        assert y.dtype == np.result_type(*terms)
        assert (y == (4 + (c is not None) if y.dtype != bool else True)).all()


def test_machine_integers_wrap_in_the_dtype_of_the_result(backend):
    backends.needs_arrays(backend)
    x, w = np.full((1, 1, 1, 2), 100, dtype=np.int8), np.full((1, 1, 1, 2), 2, dtype=np.int8)
    with np.errstate(over="ignore"):
        assert backend.conv2d_im2col(x, w).item() == 400 - 512
    assert backend.conv2d_im2col(x, w, np.zeros(1)).item() == 400


@st.composite
def planes(draw):
    """Large geometries of two axes that fit, with channels."""
    axes = []
    for _ in range(2):
        kernel, dilation = draw(st.integers(1, 6)), draw(st.integers(1, 4))
        before, after = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        least = max(1, dilation * (kernel - 1) + 1 - before - after)
        axes.append(Axis(draw(st.integers(least, 30)), kernel, draw(st.integers(1, 5)), before, after, dilation))
    groups = draw(st.integers(1, 3))
    channels = Channels(groups, groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)))
    return axes, channels, draw(st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=60)
@given(planes())
def test_large_geometries_as_torch_exactly_on_integers(case):
    axes, channels, seed = case
    size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
    x = integers(2, channels.inputs, *size, seed=seed)
    w = integers(channels.outputs, channels.inputs // channels.groups, *kernel, seed=seed)
    given = options(*axes)
    expected = torch_conv(x, w, tuple(axes), channels.groups)
    assert (matrices.conv2d_im2col(x, w, groups=channels.groups, **given) == expected).all()
    matrix = matrices.conv_matrix(w, x.shape[1:], groups=channels.groups, **given)
    assert (x.reshape(2, -1) @ matrix.T == expected.reshape(2, -1)).all()
    cols = matrices.im2col(x, kernel, **given)
    assert (cols == columns_by_torch(x, tuple(axes))).all()
    other = integers(*cols.shape, seed=seed)
    assert (cols * other).sum() == (x * matrices.col2im(other, size, kernel, **given)).sum()


def test_blocks_of_any_size_give_the_same(backend):
    """The backend for arrays makes columns and matrices in blocks; here so small that all their borders fall inside."""
    axes = Axis(5, 2, 1, 1, 2, 2), Axis(6, 3, 2, 2, 0, 1)
    x, w, bias = integers(2, 4, 5, 6), integers(6, 2, 2, 3), integers(6)
    kernel, layer = (2, 3), options(*axes)
    cols = columns_by_torch(x, axes)
    y = images.conv2d(x, w, bias, groups=2, **layer)
    for block in (1, 30, 300) if backends.takes_arrays(backend) else (1,):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "BLOCK", block, raising=False)
            assert (backend.im2col(x, kernel, **layer) == cols).all()
            assert (backend.conv2d_im2col(x, w, bias, groups=2, **layer) == y).all()
            matrix = backend.conv_matrix(w, x.shape[1:], groups=2, **layer)
            products = np.stack([matrix @ image.ravel() for image in x]).reshape(y.shape)
            assert (products + bias.reshape(-1, 1, 1) == y).all()
            assert (
                backend.col2im(cols, (5, 6), kernel, **layer)
                == x * (backend.col2im(columns_by_torch(np.ones_like(x), axes), (5, 6), kernel, **layer))
            ).all()


def test_columns_of_windows_that_miss_most_samples(backend):
    for kernel, stride, dilation in ((2, 31, 1), (3, 1, 31), (2, 17, 23)):
        padding = 40
        x = integers(2, 2, 9)
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
        windows = (89 - dilation * (kernel - 1) - 1) // stride + 1
        expected = np.stack([padded[..., u * dilation :: stride][..., :windows] for u in range(kernel)], axis=2)
        cols = backend.im2col(x, kernel, stride=stride, dilation=dilation, padding=padding)
        assert (cols == expected.reshape(2, 2 * kernel, windows)).all()
        counts = backend.col2im(np.ones_like(cols), 9, kernel, stride=stride, dilation=dilation, padding=padding)
        places = [i * stride + u * dilation - padding for i in range(windows) for u in range(kernel)]
        assert (counts == np.bincount([place for place in places if 0 <= place < 9], minlength=9)).all()


def test_singular_values_some_frequencies_at_a_time(backend):
    """Whether the backend for arrays transforms or multiplies: a few roundings of sums of about 20."""
    for w, size in ((integers(2, 3, 2, 3), (4, 5)), (integers(3, 2, 3) * (1 + 2j), 4), (integers(1, 2, 5), 3)):
        expected = backends.definition("matrices").circulant_singular_values(w, size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "SPECTRUM", 0, raising=False)
            values = backend.circulant_singular_values(w, size)
        assert np.abs(values - expected).max() < 1e-10


def test_a_wider_bias_widens_the_product(backend):
    """To doubles, which hold the square of a number whose square no single is."""
    backends.needs_arrays(backend)
    x = np.full((1, 1, 1, 1), 2**13 + 1, np.float32)
    assert backend.conv2d_im2col(x, x, np.zeros(1)).item() == (2**13 + 1) ** 2
