"""The layer as a sparse matrix: every backend against PyTorch and against the definition.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py). See
boxes.py for the geometries and for why agreeing on them is a proof.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import linalg
from scipy.sparse import block_diag, csr_array

from konvlib import matrices
from konvlib.matrices import arrays
from tests.engine import backends
from tests.engine import boxes as axis_boxes
from tests.engine.boxes import Axis, Channels, digits, integers, options, torch_conv
from tests.engine.oracles.matrices import BOX, BOX_TEXT, CUBES, EVERY_ROOM, PLANES, matrix_by_torch, weight

naive = backends.definition("matrices")
backend = pytest.fixture(params=backends.of("matrices"))(lambda request: request.param)


def matrix_of(backend, w, shape, **arguments):
    """A matrix whose indices are checked: SciPy trusts them, and would write outside its memory for wrong ones."""
    matrix = backend.conv_matrix(w, shape, **arguments)
    matrix.check_format()
    return matrix


def assert_matrix_is_torchs(backend, axis: Axis, channels: Channels):
    shape, expected = (channels.inputs, axis.size), matrix_by_torch(axis, channels)
    matrix = matrix_of(backend, weight(channels, axis), shape, groups=channels.groups, **options(axis))
    assert isinstance(matrix, csr_array)
    assert (matrix.toarray() == expected).all()
    assert matrix.nnz == np.count_nonzero(expected)


def test_the_matrix_of_a_four_by_four_input_and_a_three_by_three_kernel(backend):
    a, b, c, d, e, f, g, h, i = range(1, 10)
    matrix = matrix_of(backend, np.arange(1, 10).reshape(1, 1, 3, 3), (1, 4, 4))
    assert matrix.toarray().tolist() == [
        [a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0, 0],
        [0, a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0],
        [0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i, 0],
        [0, 0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i],
    ]
    assert matrix.nnz == 4 * 9


def test_the_matrix_does_to_planes_and_cubes_what_the_layer_does(backend):
    for number, axes in enumerate([*PLANES, *CUBES]):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        size = tuple(axis.size for axis in axes)
        x, w = integers(1, channels.inputs, *size), weight(channels, *axes)
        matrix = matrix_of(backend, w, x.shape[1:], groups=channels.groups, **options(*axes))
        assert (matrix @ x.ravel() == torch_conv(x, w, axes, channels.groups).ravel()).all()


def test_the_matrix_of_every_geometry_on_one_axis(backend):
    for axis, channels in EVERY_ROOM:
        assert_matrix_is_torchs(backend, axis, channels)


def test_the_matrix_of_the_whole_box():
    print(BOX_TEXT)
    for axis, channels in BOX:
        assert_matrix_is_torchs(matrices, axis, channels)


def windows_of(length: int, kernel: int) -> int:
    return length - kernel + 1


def test_one_axis_is_scipys_matrix_of_the_flipped_kernel(backend):
    for size, kernel in product(range(1, 8), range(1, 5)):
        w = digits(1, 1, kernel)
        for mode, padding in (("full", kernel - 1), ("valid", 0)):
            if kernel <= size or mode == "full":
                expected = linalg.convolution_matrix(w[0, 0, ::-1], size, mode)
                assert (matrix_of(backend, w, (1, size), padding=padding).toarray() == expected).all()


def test_with_stride_1_the_matrix_is_toeplitz_blocks_of_toeplitz_blocks(backend):
    """One step down and right is the next row of the image, in blocks; one step in a block is the next column."""
    for height, width, kh, kw in product((3, 4, 6), (4, 5), (1, 2, 3), (1, 3)):
        w = integers(2, 3, kh, kw) + 10
        shape = (2, windows_of(height, kh), windows_of(width, kw), 3, height, width)
        blocks = matrix_of(backend, w, (3, height, width)).toarray().reshape(shape)
        assert (blocks[:, 1:, :, :, 1:, :] == blocks[:, :-1, :, :, :-1, :]).all()
        assert (blocks[:, :, 1:, :, :, 1:] == blocks[:, :, :-1, :, :, :-1]).all()
        assert (blocks[:, 0, 0, :, :kh, :kw] == w).all()


def test_a_stride_keeps_the_rows_whose_indices_it_divides_along_each_axis(backend):
    """Dropping by place in the flattened matrix is right only if rows are whole and none is dropped."""
    for size, kernel, (down, across) in product([(5, 7), (6, 5)], [(2, 3), (3, 2)], [(2, 2), (2, 3), (1, 3)]):
        w = integers(3, 2, *kernel) + 10
        dense = matrix_of(backend, w, (2, *size), padding=1).toarray()
        height, width = (n + 3 - k for n, k in zip(size, kernel, strict=True))
        rows = np.arange(3 * height * width).reshape(3, height, width)
        strided = matrix_of(backend, w, (2, *size), padding=1, stride=(down, across)).toarray()
        assert (strided == dense[rows[:, ::down, ::across].ravel()]).all()
        by_place = np.array_equal(strided, dense[:: down * across])
        assert by_place == (down == 1 and width % across == 0)


def test_padding_keeps_the_columns_of_the_input_in_the_padded_one(backend):
    w, size, padding = integers(2, 3, 2, 3) + 10, (4, 5), ((1, 0), (2, 1))
    inside = np.zeros((3, 5, 8), dtype=bool)
    inside[:, 1:, 2:-1] = True
    padded = matrix_of(backend, w, inside.shape).toarray()
    assert (matrix_of(backend, w, (3, *size), padding=padding).toarray() == padded[:, inside.ravel()]).all()


def test_dilation_spreads_the_taps(backend):
    w = integers(2, 3, 2, 3) + 10
    spread = np.zeros((2, 3, 3, 7), dtype=np.int64)
    spread[..., ::2, ::3] = w
    dilated = matrix_of(backend, w, (3, 5, 8), dilation=(2, 3))
    assert (dilated.toarray() == matrix_of(backend, spread, (3, 5, 8)).toarray()).all()
    assert dilated.nnz == 2 * 3 * 2 * 3 * 3 * 2


def test_groups_are_blocks_on_the_diagonal(backend):
    w, arguments = integers(6, 2, 2, 3) + 10, {"padding": 1, "stride": (1, 2)}
    parts = [matrix_of(backend, part, (2, 4, 5), **arguments) for part in w.reshape(3, 2, 2, 2, 3)]
    assert (matrix_of(backend, w, (6, 4, 5), groups=3, **arguments).toarray() == block_diag(parts).toarray()).all()


def test_without_padding_each_row_has_an_entry_per_weight_of_its_channel(backend):
    for stride, dilation in product((1, 2), (1, 2)):
        matrix = matrix_of(backend, np.zeros((4, 2, 2, 3)), (4, 5, 7), stride=stride, dilation=dilation, groups=2)
        assert set(np.diff(matrix.indptr)) == {2 * 2 * 3}
        assert matrix.shape == (4 * len(range(0, 5 - dilation, stride)) * len(range(0, 7 - 2 * dilation, stride)), 140)


def test_rows_are_sorted_and_the_weight_stays_as_it_was(backend):
    w = np.arange(24.0).reshape(2, 3, 4)
    matrix = matrix_of(backend, w, (3, 7), padding=2, stride=2)
    assert matrix.has_sorted_indices
    assert matrix.has_canonical_format
    matrix.data[:] = 0
    assert (w == np.arange(24.0).reshape(2, 3, 4)).all()


def test_dtypes_of_the_matrix(backend):
    backends.needs_arrays(backend)
    for kind in "?bhilBHILfdgFD":
        matrix = matrix_of(backend, np.ones((1, 1, 2), dtype=kind), (1, 3))
        assert matrix.dtype == np.dtype(kind)
        assert (matrix.toarray() == [[1, 1, 0], [0, 1, 1]]).all()


def test_the_matrix_of_a_kernel_of_rank_one_is_a_kronecker_product(backend):
    for height, width in PLANES:
        u, v = digits(1, 1, height.kernel), digits(1, 1, width.kernel) + 1
        down = matrix_of(backend, u, (1, height.size), **options(height)).toarray()
        across = matrix_of(backend, v, (1, width.size), **options(width)).toarray()
        both = matrix_of(
            backend, u[..., np.newaxis] * v[:, :, np.newaxis], (1, height.size, width.size), **options(height, width)
        )
        assert (both.toarray() == np.kron(down, across)).all()


def test_the_definition_and_the_arrays_agree_on_the_pattern():
    for axis, channels in axis_boxes.covering_of_one_axis():
        w = weight(channels, axis)
        pair = [
            each.conv_matrix(w, (channels.inputs, axis.size), groups=channels.groups, **options(axis))
            for each in (naive, matrices)
        ]
        assert (pair[0].indptr == pair[1].indptr).all()
        assert (pair[0].indices == pair[1].indices).all()
        assert (pair[0].data == pair[1].data).all()


def test_only_rows_at_the_edges_are_found_entry_by_entry(monkeypatch):
    """Those of windows inside the input are copies of one pattern, which takes a third of the time."""
    places, rows = arrays._places, []

    def counted(*given):
        found = places(*given)
        rows.extend(found[0].ravel())
        return found

    monkeypatch.setattr(arrays, "_places", counted)
    matrices.conv_matrix(np.ones((3, 2, 5, 3)), (2, 12, 10), padding=(2, 1))
    edges = [(i, j) for i in range(12) for j in range(10) if not (2 <= i < 10 and 1 <= j < 9)]
    assert sorted(rows) == [10 * i + j for i, j in edges]
