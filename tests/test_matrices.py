"""The layer as a matrix: every room against PyTorch and against the definition.

A test whose only argument is ``room`` runs in every room, and against each mutant of it (tests/test_mutants.py). See
tests/axis_boxes.py for the geometries and for why agreeing on them is a proof.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import block_diag, csr_array

from konvlib.images import naive as images
from konvlib.matrices import fast, naive
from tests import axis_boxes, rooms
from tests.axis_boxes import Axis, Channels, digits, impulses, integers, options, tensor, torch_conv, torch_pad

BOX = list(axis_boxes.whole())
BOX_TEXT = f"{axis_boxes.AXIS_TEXT}, {axis_boxes.CHANNELS_TEXT}: {len(BOX):,} geometries, each tap by impulses"
REFUSED = list(axis_boxes.whole(fitting=False))
EVERY_ROOM = [row for row in BOX if row[1] == (1, 1, 1)] + axis_boxes.covering_of_one_axis()
PLANES, CUBES = axis_boxes.covering(2), axis_boxes.covering(3, size=4, kernel=3)

room = pytest.fixture(params=rooms.of("matrices"))(lambda request: request.param)


def weight(channels: Channels, *axes: Axis) -> np.ndarray:
    shape = (channels.outputs, channels.inputs // channels.groups, *(axis.kernel for axis in axes))
    return digits(*shape) if prod(shape) <= 26 else integers(*shape, seed=1)


def assert_matrix_is_torchs(room, axis: Axis, channels: Channels):
    """Column by column: what the layer makes of each unit impulse."""
    w = weight(channels, axis)
    y = torch_conv(impulses(channels.inputs, axis.size), w, (axis,), channels.groups)
    matrix = room.conv_matrix(w, (channels.inputs, axis.size), groups=channels.groups, **options(axis))
    assert isinstance(matrix, csr_array)
    assert (matrix.toarray() == y.reshape(len(y), -1).T).all()
    assert matrix.nnz == np.count_nonzero(y)


def test_the_matrix_of_a_four_by_four_input_and_a_three_by_three_kernel(room):
    a, b, c, d, e, f, g, h, i = range(1, 10)
    matrix = room.conv_matrix(np.arange(1, 10).reshape(1, 1, 3, 3), (1, 4, 4))
    assert matrix.toarray().tolist() == [
        [a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0, 0],
        [0, a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0],
        [0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i, 0],
        [0, 0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i],
    ]
    assert matrix.nnz == 4 * 9


def test_the_matrix_does_to_planes_and_cubes_what_the_layer_does(room):
    for number, axes in enumerate([*PLANES, *CUBES]):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        size = tuple(axis.size for axis in axes)
        x, w = integers(1, channels.inputs, *size), weight(channels, *axes)
        matrix = room.conv_matrix(w, x.shape[1:], groups=channels.groups, **options(*axes))
        assert (matrix @ x.ravel() == torch_conv(x, w, axes, channels.groups).ravel()).all()


def test_the_matrix_of_every_geometry_on_one_axis(room):
    for axis, channels in EVERY_ROOM:
        assert_matrix_is_torchs(room, axis, channels)


def test_the_matrix_of_the_whole_box():
    print(BOX_TEXT)
    for axis, channels in BOX:
        assert_matrix_is_torchs(fast, axis, channels)


def test_a_kernel_that_does_not_fit_is_refused_alike(room):
    for axis, channels in REFUSED[::7]:
        x, w = np.ones((1, channels.inputs, axis.size)), weight(channels, axis)
        cols = np.ones((1, channels.inputs * axis.kernel, 1))
        padded = axis.size + axis.before + axis.after
        message = (
            f"kernel_size must fit the padded input of {padded} samples, got a kernel that covers "
            f"{axis.dilation * (axis.kernel - 1) + 1}"
        )
        for call in (
            lambda x=x, w=w, a=axis, c=channels: room.conv_matrix(w, x.shape[1:], groups=c.groups, **options(a)),
            lambda x=x, a=axis: room.im2col(x, a.kernel, **options(a)),
            lambda cols=cols, a=axis: room.col2im(cols, a.size, a.kernel, **options(a)),
        ):
            with pytest.raises(ValueError, match="kernel_size") as raised:
                call()
            assert str(raised.value) == message


def windows_of(length: int, kernel: int) -> int:
    return length - kernel + 1


def test_with_stride_1_the_matrix_is_toeplitz_blocks_of_toeplitz_blocks(room):
    """One step down and right is the next row of the image, in blocks; one step in a block is the next column."""
    for height, width, kh, kw in product((3, 4, 6), (4, 5), (1, 2, 3), (1, 3)):
        w = integers(2, 3, kh, kw) + 10
        shape = (2, windows_of(height, kh), windows_of(width, kw), 3, height, width)
        blocks = room.conv_matrix(w, (3, height, width)).toarray().reshape(shape)
        assert (blocks[:, 1:, :, :, 1:, :] == blocks[:, :-1, :, :, :-1, :]).all()
        assert (blocks[:, :, 1:, :, :, 1:] == blocks[:, :, :-1, :, :, :-1]).all()
        assert (blocks[:, 0, 0, :, :kh, :kw] == w).all()


def test_a_stride_keeps_the_rows_whose_indices_it_divides_along_each_axis(room):
    """Dropping by place in the flattened matrix is right only if rows are whole and none is dropped."""
    for size, kernel, (down, across) in product([(5, 7), (6, 5)], [(2, 3), (3, 2)], [(2, 2), (2, 3), (1, 3)]):
        w = integers(3, 2, *kernel) + 10
        dense = room.conv_matrix(w, (2, *size), padding=1).toarray()
        height, width = (n + 3 - k for n, k in zip(size, kernel, strict=True))
        rows = np.arange(3 * height * width).reshape(3, height, width)
        strided = room.conv_matrix(w, (2, *size), padding=1, stride=(down, across)).toarray()
        assert (strided == dense[rows[:, ::down, ::across].ravel()]).all()
        by_place = np.array_equal(strided, dense[:: down * across])
        assert by_place == (down == 1 and width % across == 0)


def test_padding_keeps_the_columns_of_the_input_in_the_padded_one(room):
    w, size, padding = integers(2, 3, 2, 3) + 10, (4, 5), ((1, 0), (2, 1))
    inside = np.zeros((3, 5, 8), dtype=bool)
    inside[:, 1:, 2:-1] = True
    padded = room.conv_matrix(w, inside.shape).toarray()
    assert (room.conv_matrix(w, (3, *size), padding=padding).toarray() == padded[:, inside.ravel()]).all()


def test_dilation_spreads_the_taps(room):
    w = integers(2, 3, 2, 3) + 10
    spread = np.zeros((2, 3, 3, 7), dtype=np.int64)
    spread[..., ::2, ::3] = w
    dilated = room.conv_matrix(w, (3, 5, 8), dilation=(2, 3))
    assert (dilated.toarray() == room.conv_matrix(spread, (3, 5, 8)).toarray()).all()
    assert dilated.nnz == 2 * 3 * 2 * 3 * 3 * 2


def test_groups_are_blocks_on_the_diagonal(room):
    w, arguments = integers(6, 2, 2, 3) + 10, {"padding": 1, "stride": (1, 2)}
    parts = [room.conv_matrix(part, (2, 4, 5), **arguments) for part in w.reshape(3, 2, 2, 2, 3)]
    assert (room.conv_matrix(w, (6, 4, 5), groups=3, **arguments).toarray() == block_diag(parts).toarray()).all()


def test_without_padding_each_row_has_an_entry_per_weight_of_its_channel(room):
    for stride, dilation in product((1, 2), (1, 2)):
        matrix = room.conv_matrix(np.zeros((4, 2, 2, 3)), (4, 5, 7), stride=stride, dilation=dilation, groups=2)
        assert set(np.diff(matrix.indptr)) == {2 * 2 * 3}
        assert matrix.shape == (4 * len(range(0, 5 - dilation, stride)) * len(range(0, 7 - 2 * dilation, stride)), 140)


def test_rows_are_sorted_and_the_weight_stays_as_it_was(room):
    w = np.arange(24.0).reshape(2, 3, 4)
    matrix = room.conv_matrix(w, (3, 7), padding=2, stride=2)
    assert matrix.has_sorted_indices
    assert matrix.has_canonical_format
    matrix.data[:] = 0
    assert (w == np.arange(24.0).reshape(2, 3, 4)).all()


def test_dtypes_of_the_matrix(room):
    for kind in "?bhilBHILfdgFD":
        matrix = room.conv_matrix(np.ones((1, 1, 2), dtype=kind), (1, 3))
        assert matrix.dtype == np.dtype(kind)
        assert (matrix.toarray() == [[1, 1, 0], [0, 1, 1]]).all()


def columns_by_torch(x: np.ndarray, axes: tuple[Axis, ...]) -> np.ndarray:
    """PyTorch's unfold knows images only: one axis is the lower of two, three axes are windows taken one by one."""
    padded = torch_pad(x, axes)
    kernel, given = tuple(axis.kernel for axis in axes), options(*axes)
    if len(axes) == 1:
        two = {name: (1, *given[name]) for name in ("stride", "dilation")}
        return torch.nn.functional.unfold(padded[:, :, None], (1, *kernel), **two).numpy()
    if len(axes) == 2:
        return torch.nn.functional.unfold(padded, kernel, dilation=given["dilation"], stride=given["stride"]).numpy()
    for place, axis in enumerate(axes, start=2):
        padded = padded.unfold(place, axis.span, axis.stride)[..., :: axis.dilation]
    return padded.permute(0, 1, 5, 6, 7, 2, 3, 4).reshape(len(x), x.shape[1] * prod(kernel), -1).numpy()


def test_columns_are_torchs_unfold(room):
    for axes in [*((axis,) for axis in axis_boxes.ONE_AXIS if axis.fits), *PLANES, *CUBES]:
        x = integers(2, 3, *(axis.size for axis in axes)) + 100
        cols = room.im2col(x, tuple(axis.kernel for axis in axes), **options(*axes))
        expected = columns_by_torch(x, axes)
        assert cols.shape == expected.shape
        assert (cols == expected).all()
        assert cols.dtype == x.dtype


def test_adding_columns_up_is_the_adjoint_of_cutting_them(room):
    """<im2col x, c> = <x, col2im c> on all impulses x: so col2im c, sample by sample, is what this sum says."""
    for axes in [*((axis,) for axis in axis_boxes.ONE_AXIS if axis.fits), *PLANES[::3], *CUBES[::5]]:
        size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
        cut = columns_by_torch(impulses(1, *size), axes)
        cols = integers(2, 2 * cut.shape[1], cut.shape[2])
        each = cols.reshape(2, 2, *cut.shape[1:])
        expected = np.tensordot(each, cut, axes=((2, 3), (1, 2))).reshape(2, 2, *size)
        x = room.col2im(cols, size, kernel, **options(*axes))
        assert x.shape == expected.shape
        assert (x == expected).all()


def test_adding_columns_up_is_torchs_fold(room):
    for height, width in PLANES:
        if (height.before, width.before) != (height.after, width.after):
            continue
        size, kernel = (height.size, width.size), (height.kernel, width.kernel)
        cols = integers(2, 3 * prod(kernel), height.windows * width.windows)
        given = options(height, width) | {"padding": (height.before, width.before)}
        expected = torch.nn.functional.fold(tensor(cols), size, kernel, **given).numpy()
        assert (room.col2im(cols, size, kernel, **options(height, width)) == expected).all()


def test_adding_up_multiplies_by_the_number_of_windows_and_does_not_invert(room):
    x = integers(2, 3, 5, 6) + 20
    arguments = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (1, 3)}
    back = room.col2im(room.im2col(x, (3, 2), **arguments), (5, 6), (3, 2), **arguments)
    counts = room.col2im(room.im2col(np.ones_like(x), (3, 2), **arguments), (5, 6), (3, 2), **arguments)
    assert (back == counts * x).all()
    assert (counts > 1).any()
    assert (back != x).any()
    apart = {"stride": (3, 2)}
    assert (room.col2im(room.im2col(x[..., :3, :], (3, 2), **apart), (3, 6), (3, 2), **apart) == x[..., :3, :]).all()


def test_axes_do_not_mix(room):
    """Turning the image and every argument turns the columns' windows and taps."""
    for height, width in PLANES:
        x = integers(1, 2, height.size, width.size) + 100
        shape = (1, 2, height.kernel, width.kernel, height.windows, width.windows)
        turned_shape = (1, 2, width.kernel, height.kernel, width.windows, height.windows)
        cols = room.im2col(x, (height.kernel, width.kernel), **options(height, width)).reshape(shape)
        turned = room.im2col(x.swapaxes(2, 3), (width.kernel, height.kernel), **options(width, height))
        assert (turned.reshape(turned_shape) == cols.transpose(0, 1, 3, 2, 5, 4)).all()


def test_the_matrix_of_a_kernel_of_rank_one_is_a_kronecker_product(room):
    for height, width in PLANES:
        u, v = digits(1, 1, height.kernel), digits(1, 1, width.kernel) + 1
        down = room.conv_matrix(u, (1, height.size), **options(height)).toarray()
        across = room.conv_matrix(v, (1, width.size), **options(width)).toarray()
        both = room.conv_matrix(
            u[..., np.newaxis] * v[:, :, np.newaxis], (1, height.size, width.size), **options(height, width)
        )
        assert (both.toarray() == np.kron(down, across)).all()


def test_one_matrix_product_per_group_convolves(room):
    for (height, width), bias in zip(PLANES, (True, False) * len(PLANES), strict=False):
        for channels in axis_boxes.CHANNELS[:: 1 if height.size * width.size < 9 else 2]:
            x = integers(2, channels.inputs, height.size, width.size)
            w = weight(channels, height, width)
            offset = integers(channels.outputs, seed=5) if bias else None
            y = room.conv2d_im2col(x, w, offset, groups=channels.groups, **options(height, width))
            expected = torch_conv(x, w, (height, width), channels.groups)
            expected = expected + offset[:, np.newaxis, np.newaxis] if bias else expected
            assert y.shape == expected.shape
            assert (y == expected).all()
            assert y.dtype == np.int64


def test_padding_same_and_valid_are_understood(room):
    x, w = integers(1, 2, 5, 6), integers(3, 2, 4, 3)
    for padding in ("same", "valid", 1, (1, 2)):
        expected = images.conv2d(x, w, padding=padding)
        assert (room.conv2d_im2col(x, w, padding=padding) == expected).all()
        assert (room.conv_matrix(w, (2, 5, 6), padding=padding) @ x.ravel() == expected.ravel()).all()


def test_a_batch_of_no_images_stays_one(room):
    assert room.im2col(np.zeros((0, 2, 5, 6)), (2, 3)).shape == (0, 12, 16)
    assert room.im2col(np.zeros((0, 2, 5)), 1).shape == (0, 2, 5)
    assert room.col2im(np.zeros((0, 12, 16)), (5, 6), (2, 3)).shape == (0, 2, 5, 6)
    assert room.conv2d_im2col(np.zeros((0, 2, 5, 6)), np.ones((4, 1, 2, 3)), groups=2).shape == (0, 4, 4, 4)
    assert room.conv2d_im2col(np.zeros((0, 2, 5, 6)), np.ones((4, 2, 1, 1))).shape == (0, 4, 5, 6)


def test_results_are_copies(room):
    x = np.arange(12).reshape(1, 3, 4)
    for kernel in (1, 4):
        cols = room.im2col(x, kernel)
        cols += 1
        assert (x == np.arange(12).reshape(1, 3, 4)).all()
    back = room.col2im(x, 4, 1)
    back += 1
    assert (x == np.arange(12).reshape(1, 3, 4)).all()


def test_fractions_are_exact(room):
    third, half = Fraction(1, 3), Fraction(1, 2)
    x = np.array([[[[third, half], [Fraction(2, 7), 10**30]]]], dtype=object)
    w = np.array([[[[half, 3]]]], dtype=object)
    assert room.conv2d_im2col(x, w).ravel().tolist() == [third / 2 + 3 * half, Fraction(1, 7) + 3 * 10**30]
    cols = room.im2col(x, (2, 1), padding=1)
    assert cols.dtype == object
    assert room.col2im(cols, (2, 2), (2, 1), padding=1).ravel().tolist() == (2 * x).ravel().tolist()


def test_result_dtypes_are_numpys(room):
    kinds = "?bhlBLfdFD"
    for a, b, c in [*product(kinds, kinds, [None]), *product("bHd", "bf", kinds)]:
        x, w = np.ones((1, 1, 3, 3), dtype=a), np.ones((1, 1, 2, 2), dtype=b)
        terms = (x, w) if c is None else (x, w, np.ones(1, dtype=c))
        y = room.conv2d_im2col(*terms)
        assert y.dtype == np.result_type(*terms)
        assert (y == (4 + (c is not None) if y.dtype != bool else True)).all()


def test_machine_integers_wrap_in_the_dtype_of_the_result(room):
    x, w = np.full((1, 1, 1, 2), 100, dtype=np.int8), np.full((1, 1, 1, 2), 2, dtype=np.int8)
    with np.errstate(over="ignore"):
        assert room.conv2d_im2col(x, w).item() == 400 - 512
    assert room.conv2d_im2col(x, w, np.zeros(1)).item() == 400


def circular_matrix(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The matrix of the layer with circular padding, column by column."""
    padding = [(0, kernel - 1) for kernel in w.shape[2:]]
    convolve = getattr(images, f"conv{len(size)}d")
    y = convolve(impulses(w.shape[1], *size), w, padding=padding, padding_mode="circular")
    return y.reshape(len(y), -1).T


CIRCULAR = [((1, 1), (3,), (6,)), ((2, 3), (3,), (5,)), ((3, 1), (2, 3), (4, 5)), ((2, 2), (3, 2), (3, 4)),
            ((1, 2), (2, 1, 2), (3, 2, 2))]  # fmt: skip


def test_singular_values_are_those_of_the_circular_layers_matrix(room):
    """LAPACK's are right within a small multiple of n * 2^-53 times the largest; n is at most 60 here."""
    for channels, kernel, size in CIRCULAR:
        for kind in "ldD":
            w = integers(*channels, *kernel).astype(kind)
            w = w * (1 + 2j) + 1j * integers(*channels, *kernel, seed=8) if kind == "D" else w
            expected = np.linalg.svd(circular_matrix(w, size), compute_uv=False)
            values = room.circulant_singular_values(w, size)
            assert values.shape == (min(channels) * prod(size),) == expected.shape
            assert np.abs(values - expected).max() <= 60 * 2.0**-50 * expected[0]
            assert values.dtype == np.float64


def test_singular_values_keep_single_precision(room):
    for kind, expected in (
        ("f", np.float32),
        ("F", np.float32),
        ("e", np.float64),
        ("b", np.float64),
        ("D", np.float64),
    ):
        assert room.circulant_singular_values(np.ones((1, 1, 2), dtype=kind), 3).dtype == expected


def test_kernels_larger_than_the_image_go_round(room):
    w = integers(2, 3, 5, 2)
    folded = np.zeros((2, 3, 2, 2), dtype=np.int64)
    for tap in range(5):
        folded[:, :, tap % 2] += w[:, :, tap]
    values = room.circulant_singular_values(w, (2, 4))
    assert np.abs(values - room.circulant_singular_values(folded, (2, 4))).max() < 1e-12 * values[0]


def test_singular_values_of_a_real_weight_come_twice_save_at_frequencies_their_own_negative(room):
    """With weights at random nothing else coincides. Equal within rounding, all others at least 1e-6 apart."""
    for channels, size in [((1, 1), (5,)), ((2, 3), (6,)), ((2, 1), (4, 5)), ((3, 2), (4, 6)), ((2, 2), (3, 5))]:
        w = np.random.default_rng(len(size)).standard_normal((*channels, *(2,) * len(size)))
        values = room.circulant_singular_values(w, size)
        starts = np.flatnonzero(np.concatenate(([True], -np.diff(values) > 1e-6 * values[0])))
        multiplicity = np.diff(np.concatenate((starts, [len(values)])))
        alone = min(channels) * prod(1 + (n % 2 == 0) for n in size)
        assert np.count_nonzero(multiplicity == 1) == alone
        assert np.count_nonzero(multiplicity == 2) == (len(values) - alone) / 2


def test_the_first_singular_value_is_the_operator_norm(room):
    """An impulse-free check: no image is stretched by more, and the power method reaches it."""
    w, size = integers(2, 3, 3, 2), (4, 5)
    norm = room.circulant_singular_values(w, size)[0]
    matrix = circular_matrix(w, size)
    x = np.random.default_rng(1).standard_normal(matrix.shape[1])
    for _ in range(500):
        assert np.linalg.norm(matrix @ x) <= norm * np.linalg.norm(x) * (1 + 1e-12)
        x = matrix.T @ (matrix @ x)
        x /= np.linalg.norm(x)
    assert np.linalg.norm(matrix @ x) >= norm * (1 - 1e-9)


IMAGE, KERNEL = np.ones((1, 4, 5, 6)), np.ones((6, 2, 2, 3))
ERRORS = [
    (ValueError, "input_shape must be (C, *size) with one to three sizes, got (4,)", "conv_matrix", (KERNEL, (4,)), {}),
    (ValueError, "input_shape must be (C, *size) with one to three sizes, got 4", "conv_matrix", (KERNEL, 4), {}),
    (ValueError, "input_shape[1] must be at least 1, got 0", "conv_matrix", (KERNEL, (4, 0, 6)), {}),
    (TypeError, "input_shape[2] must be an integer, got 6.0", "conv_matrix", (KERNEL, (4, 5, 6.0)), {}),
    (
        ValueError,
        "w must have 3 axes (C_out, C_in // groups, kernel_size), got shape (6, 2, 2, 3)",
        "conv_matrix",
        (KERNEL, (2, 5)),
        {},
    ),
    (ValueError, "w must have 4 // 1 = 4 channels, got 2", "conv_matrix", (KERNEL, (4, 5, 6)), {}),
    (ValueError, "w must not be empty, got shape (1, 1, 0)", "conv_matrix", (np.ones((1, 1, 0)), (1, 3)), {}),
    (
        ValueError,
        "out_channels must be divisible by groups, got 6 channels in 4 groups",
        "conv_matrix",
        (KERNEL, (8, 5, 6)),
        {"groups": 4},
    ),
    (
        TypeError,
        "w must have a dtype that sparse arrays multiply, got object; use int64 or float64",
        "conv_matrix",
        (KERNEL.astype(object), (2, 5, 6)),
        {},
    ),
    (
        TypeError,
        "w must have a dtype that sparse arrays multiply, got float16; use int64 or float64",
        "conv_matrix",
        (KERNEL.astype(np.float16), (2, 5, 6)),
        {},
    ),
    (ValueError, "stride must be at least 1, got 0", "conv_matrix", (KERNEL, (2, 5, 6)), {"stride": 0}),
    (TypeError, "w must hold numbers, got dtype <U3", "conv_matrix", (["one"], (1, 3)), {}),
    (ValueError, "x must have 3 to 5 axes (N, C, *size), got shape (5, 6)", "im2col", (IMAGE[0, 0], 2), {}),
    (ValueError, "x must not be empty, got shape (2, 0, 5)", "im2col", (np.ones((2, 0, 5)), 2), {}),
    (
        ValueError,
        "kernel_size must be one integer or 2, one per axis, got (2, 2, 2)",
        "im2col",
        (IMAGE, (2, 2, 2)),
        {},
    ),
    (ValueError, "kernel_size must be at least 1, got 0", "im2col", (IMAGE, 0), {}),
    (ValueError, "dilation[1] must be at least 1, got 0", "im2col", (IMAGE, 2), {"dilation": (1, 0)}),
    (ValueError, "padding must be one of same, valid, got 'full'", "im2col", (IMAGE, 2), {"padding": "full"}),
    (ValueError, "x must be rectangular, got rows of different lengths", "im2col", ([[[1], [1, 2]]], 1), {}),
    (
        ValueError,
        "cols must have 3 axes (N, C * prod(kernel_size), L), got shape (4, 6)",
        "col2im",
        (np.ones((4, 6)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 4 rows per channel, one per tap of (2, 2), got 6",
        "col2im",
        (np.ones((1, 6, 6)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 4 rows per channel, one per tap of (2, 2), got 0",
        "col2im",
        (np.ones((1, 0, 6)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 6 columns, one per window of (2, 3), got 5",
        "col2im",
        (np.ones((1, 4, 5)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "output_size must be one to three integers, one per axis, got (1, 2, 3, 4)",
        "col2im",
        (np.ones((1, 4, 5)), (1, 2, 3, 4), 2),
        {},
    ),
    (TypeError, "output_size must be an integer, got 'all'", "col2im", (np.ones((1, 4, 5)), "all", 2), {}),
    (ValueError, "output_size[1] must be at least 1, got 0", "col2im", (np.ones((1, 4, 5)), (3, 0), 2), {}),
    (ValueError, "w must have 4 // 1 = 4 channels, got 2", "conv2d_im2col", (IMAGE, KERNEL), {}),
    (
        ValueError,
        "x must have 4 axes (N, C, H, W), got shape (4, 5, 6)",
        "conv2d_im2col",
        (IMAGE[0], KERNEL),
        {"groups": 2},
    ),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel, got (2,)",
        "conv2d_im2col",
        (IMAGE, KERNEL, np.ones(2)),
        {"groups": 2},
    ),
    (TypeError, "groups must be an integer, got 2.0", "conv2d_im2col", (IMAGE, KERNEL), {"groups": 2.0}),
    (
        ValueError,
        "w must have 3 to 5 axes (C_out, C_in, *size), got shape (2, 3)",
        "circulant_singular_values",
        (np.ones((2, 3)), 4),
        {},
    ),
    (
        ValueError,
        "w must not be empty, got shape (2, 0, 3)",
        "circulant_singular_values",
        (np.ones((2, 0, 3)), 4),
        {},
    ),
    (
        ValueError,
        "shape must be one integer or 2, one per axis, got (4, 5, 6)",
        "circulant_singular_values",
        (KERNEL, (4, 5, 6)),
        {},
    ),
    (ValueError, "shape must be at least 1, got 0", "circulant_singular_values", (KERNEL, 0), {}),
    (
        TypeError,
        "w must hold machine numbers for singular values, got dtype object",
        "circulant_singular_values",
        (KERNEL.astype(object), 4),
        {},
    ),
    (
        ValueError,
        "w must be finite for singular values, got NaN or infinity",
        "circulant_singular_values",
        (KERNEL * np.nan, 4),
        {},
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[2]}: {row[1][:40]}")
def test_bad_input_gets_the_same_error_in_every_room(room, row):
    kind, message, name, operands, arguments = row
    with pytest.raises(kind) as raised:
        getattr(room, name)(*operands, **arguments)
    assert str(raised.value) == message


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
    assert (fast.conv2d_im2col(x, w, groups=channels.groups, **given) == expected).all()
    matrix = fast.conv_matrix(w, x.shape[1:], groups=channels.groups, **given)
    assert (x.reshape(2, -1) @ matrix.T == expected.reshape(2, -1)).all()
    cols = fast.im2col(x, kernel, **given)
    assert (cols == columns_by_torch(x, tuple(axes))).all()
    other = integers(*cols.shape, seed=seed)
    assert (cols * other).sum() == (x * fast.col2im(other, size, kernel, **given)).sum()


def test_the_definition_and_the_fast_room_agree_on_the_pattern():
    for axis, channels in axis_boxes.covering_of_one_axis():
        w = weight(channels, axis)
        pair = [
            each.conv_matrix(w, (channels.inputs, axis.size), groups=channels.groups, **options(axis))
            for each in (naive, fast)
        ]
        assert (pair[0].indptr == pair[1].indptr).all()
        assert (pair[0].indices == pair[1].indices).all()
        assert (pair[0].data == pair[1].data).all()
