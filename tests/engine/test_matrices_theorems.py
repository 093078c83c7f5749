"""The theorems of chapter 3 about the matrix of a layer and the columns of its windows, each label by name.

All are identities, tested in integers with ``==``. A matrix is known when its entries are: weights that are different
powers of four name the tap in each entry, so that equality for such a weight is equality for all weights. Oracles are
PyTorch, SciPy's Toeplitz matrices, and the definitions written out once more.
"""

from __future__ import annotations

from itertools import product
from math import ceil, prod

import numpy as np
import pytest
from scipy import linalg

from konvlib import matrices
from tests.engine import backends
from tests.engine import boxes as axis_boxes
from tests.engine.boxes import CHANNELS, Axis, Channels, digits, impulses, integers, options, torch_conv
from tests.engine.oracles.matrices import PLANES, columns_by_torch, matrix_by_torch, weight

images = backends.definition("images")

both_backends = pytest.mark.parametrize("backend", backends.exact("matrices"))

AXES = [Axis(*row) for row in product((1, 4, 7), (1, 2, 3), (1, 2, 3), (0, 2), (0, 1), (1, 2))]
AXES = [axis for axis in AXES if axis.fits]
AXES_TEXT = "sizes 1, 4, 7, kernels 1 to 3, strides 1 to 3, paddings 0, 2 before and 0, 1 after, dilations 1, 2"
AXES_BOX = f"{AXES_TEXT}: {len(AXES)} geometries of one axis"
PLANES_BOX = f"{len(PLANES)} geometries of two axes, in which every two values of their parameters occur together"
ROWS = [(axis, CHANNELS[number % len(CHANNELS)]) for number, axis in enumerate(AXES)]
ROWS_BOX = f"{AXES_BOX}, {axis_boxes.CHANNELS_TEXT} in turn"


def matrix(backend, w, shape, **arguments) -> np.ndarray:
    return backend.conv_matrix(w, shape, **arguments).toarray()


def by_equation(w: np.ndarray, axis: Axis, channels: Channels) -> np.ndarray:
    """The definition once more, asked entry by entry: which tap u solves s i + d u - p = j?"""
    depth, width = channels.inputs // channels.groups, channels.outputs // channels.groups
    K = np.zeros((channels.outputs, axis.windows, channels.inputs, axis.size), dtype=w.dtype)
    for o, i, c, j in np.ndindex(K.shape):
        tap, rest = divmod(j - axis.stride * i + axis.before, axis.dilation)
        if o // width == c // depth and rest == 0 and 0 <= tap < axis.kernel:
            K[o, i, c, j] = w[o, c % depth, tap]
    return K.reshape(channels.outputs * axis.windows, -1)


@pytest.mark.verifies("def-matrices-flatten", "eq-matrices-flatten", box="C, n0, n1 up to 5: 125 shapes", exact=True)
def test_flattening():
    for shape in product(range(1, 6), repeat=3):
        places = [(c * shape[1] + j0) * shape[2] + j1 for c, j0, j1 in np.ndindex(shape)]
        assert places == list(range(prod(shape)))
        assert np.arange(prod(shape)).reshape(shape).reshape(-1).tolist() == places


@pytest.mark.verifies("def-conv-matrix", "eq-conv-matrix", box=ROWS_BOX, exact=True)
@both_backends
def test_definition_of_the_matrix(backend):
    for axis, channels in ROWS:
        w = weight(channels, axis)
        K = matrix(backend, w, (channels.inputs, axis.size), groups=channels.groups, **options(axis))
        assert (by_equation(w, axis, channels) == K).all()


@pytest.mark.verifies("def-conv-matrix", "eq-conv-matrix", "thm-matrices-layer", box=ROWS_BOX, exact=True)
def test_the_definition_gives_the_columns_that_pytorch_makes_of_impulses():
    for axis, channels in ROWS:
        assert (by_equation(weight(channels, axis), axis, channels) == matrix_by_torch(axis, channels)).all()


@pytest.mark.verifies("thm-matrices-layer", box=PLANES_BOX, exact=True)
@both_backends
def test_the_layer_is_its_matrix(backend):
    for number, axes in enumerate(PLANES):
        channels = CHANNELS[number % len(CHANNELS)]
        size, w = tuple(axis.size for axis in axes), weight(channels, *axes)
        given = {"groups": channels.groups, **options(*axes)}
        K = matrix(backend, w, (channels.inputs, *size), **given)
        x = impulses(channels.inputs, *size)
        assert (torch_conv(x, w, axes, channels.groups).reshape(len(x), -1) == K.T).all()
        batch = integers(2, channels.inputs, *size)
        assert (batch.reshape(2, -1) @ K.T == images.conv2d(batch, w, **given).reshape(2, -1)).all()


CLASSIFIERS = list(product((1, 2, 3), (1, 3), (1, 2, 3), (1, 2), (1, 2, 3)))


@pytest.mark.verifies(
    "thm-matrices-fully-connected",
    box=f"1 to 3 channels, kernels up to 3 by 2, strides up to 3, 4 by 5 pixels: {len(CLASSIFIERS)} cases",
    exact=True,
)
@both_backends
def test_a_fully_connected_layer_is_a_convolution_as_large_as_its_image(backend):
    for C, out, k0, k1, stride in CLASSIFIERS:
        w = integers(out, C, k0, k1)
        V = np.array([[w[o, c, u0, u1] for c, u0, u1 in np.ndindex(C, k0, k1)] for o in range(out)])
        assert (matrix(backend, w, (C, k0, k1)) == V).all()
        x = integers(C, 4, 5)
        y = (matrix(backend, w, (C, 4, 5), stride=stride) @ x.ravel()).reshape(out, (4 - k0) // stride + 1, -1)
        assert y.shape[2] == (5 - k1) // stride + 1
        for i0, i1 in np.ndindex(y.shape[1:]):
            seen = x[:, stride * i0 : stride * i0 + k0, stride * i1 : stride * i1 + k1]
            assert (y[:, i0, i1] == V @ seen.ravel()).all()


# Structure


@pytest.mark.verifies("def-matrices-toeplitz", "thm-toeplitz", box="m, n up to 6: 36 shapes", exact=True)
@both_backends
def test_every_toeplitz_matrix_is_a_layer(backend):
    for m, n in product(range(1, 7), repeat=2):
        t = digits(m + n - 1)
        T = linalg.toeplitz(t[m - 1 :: -1], t[m - 1 :])
        assert (matrix(backend, t[None, None], (1, n), padding=m - 1) == T).all()
        assert set(T.ravel()) == set(t)  # each weight is seen, so no other kernel will do


@pytest.mark.verifies("def-matrices-toeplitz", "thm-toeplitz", box="m0, m1, n0, n1 up to 3: 81 shapes", exact=True)
@both_backends
def test_every_doubly_blocked_toeplitz_matrix_is_a_layer(backend):
    for m0, m1, n0, n1 in product(range(1, 4), repeat=4):
        t = digits(m0 + n0 - 1, m1 + n1 - 1)
        blocks = [linalg.toeplitz(row[m1 - 1 :: -1], row[m1 - 1 :]) for row in t]
        T = np.block([[blocks[j0 - i0 + m0 - 1] for j0 in range(n0)] for i0 in range(m0)])
        assert (matrix(backend, t[None, None], (1, n0, n1), padding=(m0 - 1, m1 - 1)) == T).all()
        assert set(T.ravel()) == set(t.ravel())


@pytest.mark.verifies("thm-toeplitz", box=f"{PLANES_BOX}, at stride 1", exact=True)
@both_backends
def test_stride_1_is_constant_along_diagonals(backend):
    for axes in PLANES:
        height, width = (axis._replace(stride=1) for axis in axes)
        w = digits(1, 1, height.kernel, width.kernel)
        K = matrix(backend, w, (1, height.size, width.size), **options(height, width))
        K = K.reshape(height.windows, width.windows, height.size, width.size)
        assert (K[1:, :, 1:] == K[:-1, :, :-1]).all()
        assert (K[:, 1:, :, 1:] == K[:, :-1, :, :-1]).all()


@pytest.mark.verifies("thm-stride-rows", box=PLANES_BOX, exact=True)
@both_backends
def test_a_stride_keeps_rows_along_each_axis(backend):
    for number, axes in enumerate(PLANES):
        channels = CHANNELS[number % len(CHANNELS)]
        shape, w = (channels.inputs, *(axis.size for axis in axes)), weight(channels, *axes)
        dense_axes = [axis._replace(stride=1) for axis in axes]
        K1 = matrix(backend, w, shape, groups=channels.groups, **options(*dense_axes))
        Ks = matrix(backend, w, shape, groups=channels.groups, **options(*axes))
        K1 = K1.reshape(channels.outputs, *(axis.windows for axis in dense_axes), -1)
        kept = K1[:, :: axes[0].stride, :: axes[1].stride]
        pairs = zip(dense_axes, axes, strict=True)
        assert kept.shape[1:3] == tuple(ceil(one.windows / axis.stride) for one, axis in pairs)
        assert (Ks == kept.reshape(len(Ks), -1)).all()


SIDES = product(range(2, 6), range(1, 7), range(1, 5), range(1, 5))
EVERY_ROW = [(m0, m1, s0, s1) for m0, m1, s0, s1 in SIDES if m1 > s1]


@pytest.mark.verifies(
    "cor-matrices-every-row", box=f"m0 up to 5, m1 up to 6, strides up to 4: {len(EVERY_ROW)} cases", exact=True
)
@both_backends
def test_when_every_so_many_rows_are_a_stride(backend):
    for m0, m1, s0, s1 in EVERY_ROW:
        w = digits(2, 1, 2, 1)
        K1 = matrix(backend, w, (1, m0 + 1, m1))
        Ks = matrix(backend, w, (1, m0 + 1, m1), stride=(s0, s1))
        assert np.array_equal(Ks, K1[:: s0 * s1]) == (s0 == 1 and m1 % s1 == 0)


@pytest.mark.verifies("cor-matrices-every-row", box=f"the same {len(EVERY_ROW)} cases, 1 to 3 channels", exact=True)
def test_when_every_so_many_places_are_those_of_a_stride():
    for (m0, m1, s0, s1), channels in product(EVERY_ROW, (1, 2, 3)):
        places = np.arange(channels * m0 * m1).reshape(channels, m0, m1)
        strided, every = places[:, ::s0, ::s1].ravel(), places.ravel()[:: s0 * s1]
        assert np.array_equal(strided, every) == (s0 == 1 and m1 % s1 == 0)


@pytest.mark.verifies("thm-matrices-arguments", box=ROWS_BOX, exact=True)
@both_backends
def test_padding_dilation_groups_and_batch(backend):
    for axis, channels in ROWS:
        w, shape = weight(channels, axis), (channels.inputs, axis.size)
        K = matrix(backend, w, shape, groups=channels.groups, **options(axis))
        wide = axis.size + axis.before + axis.after
        whole = matrix(
            backend, w, (channels.inputs, wide), stride=axis.stride, dilation=axis.dilation, groups=channels.groups
        )
        inside = whole.reshape(-1, channels.inputs, wide)[:, :, axis.before : axis.before + axis.size]
        assert (inside.reshape(K.shape) == K).all()
        spread = np.zeros((*w.shape[:2], axis.span), dtype=w.dtype)
        spread[:, :, :: axis.dilation] = w
        one = options(axis) | {"dilation": 1}
        assert (matrix(backend, spread, shape, groups=channels.groups, **one) == K).all()
        parts = w.reshape(channels.groups, -1, *w.shape[1:])
        alone = (channels.inputs // channels.groups, axis.size)
        assert (linalg.block_diag(*(matrix(backend, part, alone, **options(axis)) for part in parts)) == K).all()
        batch = integers(3, channels.inputs, axis.size)
        y = torch_conv(batch, w, (axis,), channels.groups)
        assert (batch.reshape(3, -1) @ K.T == y.reshape(3, -1)).all()


def places_seen(axis: Axis) -> list[int]:
    """The place s i + d u - p of each window and tap."""
    pairs = product(range(axis.windows), range(axis.kernel))
    return [axis.stride * i + axis.dilation * u - axis.before for i, u in pairs]


def entries_along(axis: Axis) -> int:
    return sum(0 <= place < axis.size for place in places_seen(axis))


@pytest.mark.verifies("thm-matrices-nonzeros", "eq-matrices-nonzeros", box=PLANES_BOX, exact=True)
@both_backends
def test_number_of_entries(backend):
    for number, axes in enumerate(PLANES):
        channels = CHANNELS[number % len(CHANNELS)]
        shape, w = (channels.inputs, *(axis.size for axis in axes)), np.abs(weight(channels, *axes)) + 1
        K = matrix(backend, w, shape, groups=channels.groups, **options(*axes))
        pairs = channels.outputs * channels.inputs // channels.groups
        assert np.count_nonzero(K) == pairs * prod(map(entries_along, axes))


@pytest.mark.verifies("thm-matrices-nonzeros", box=f"{AXES_BOX}; up to 12 samples, padding up to 4", exact=True)
def test_number_of_entries_in_two_special_cases():
    for axis in AXES:
        if not axis.before and not axis.after:
            assert entries_along(axis) == axis.kernel * axis.windows
    for r in range(5):
        for n in range(max(r, 1), 13):
            assert entries_along(Axis(n, 2 * r + 1, 1, r, r, 1)) == (2 * r + 1) * n - r * (r + 1)


# Columns


def columns_by_equation(x: np.ndarray, axis: Axis) -> np.ndarray:
    padded = {j: x[:, :, j] for j in range(axis.size)}
    zero = np.zeros(x.shape[:2], dtype=x.dtype)
    taps = [
        [padded.get(axis.stride * i + axis.dilation * u - axis.before, zero) for i in range(axis.windows)]
        for u in range(axis.kernel)
    ]
    return np.moveaxis(np.array(taps), (2, 3), (0, 1)).reshape(len(x), -1, axis.windows)


@pytest.mark.verifies("def-im2col", "eq-matrices-im2col", box=AXES_BOX, exact=True)
@both_backends
def test_definition_of_the_columns(backend):
    for axis in AXES:
        x = integers(2, 3, axis.size) + 100
        cols = backend.im2col(x, axis.kernel, **options(axis))
        assert (cols == columns_by_equation(x, axis)).all()
        assert (cols == columns_by_torch(x, (axis,))).all()


def gathering(backend, axes: tuple[Axis, ...], channels: int) -> np.ndarray:
    """The matrix of im2col, column by column."""
    size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
    cut = backend.im2col(impulses(channels, *size), kernel, **options(*axes))
    return cut.reshape(len(cut), -1).T


@pytest.mark.verifies("thm-im2col", "eq-matrices-factors", box=f"{PLANES_BOX}, 2 channels in, 3 out", exact=True)
@both_backends
def test_convolution_by_one_product(backend):
    for axes in PLANES:
        size, windows = tuple(axis.size for axis in axes), prod(axis.windows for axis in axes)
        w = weight(Channels(1, 2, 3), *axes)
        G, W = gathering(backend, axes, 2), w.reshape(3, -1)
        assert set(np.unique(G)) <= {0, 1}
        assert (G.sum(axis=1) <= 1).all()
        expected = torch_conv(impulses(2, *size), w, axes).reshape(G.shape[1], -1).T
        assert (np.kron(W, np.eye(windows, dtype=int)) @ G == expected).all()
        x = integers(1, 2, *size)
        cols = backend.im2col(x, w.shape[2:], **options(*axes))[0]
        assert (W @ cols == torch_conv(x, w, axes).reshape(3, -1)).all()


def counts_along(axis: Axis) -> np.ndarray:
    return np.array([places_seen(axis).count(j) for j in range(axis.size)])


@pytest.mark.verifies("def-matrices-col2im", "eq-matrices-col2im", box=AXES_BOX, exact=True)
@both_backends
def test_definition_of_adding_up(backend):
    for axis in AXES:
        A = integers(2, 3, axis.kernel, axis.windows)
        expected = np.zeros((2, 3, axis.size), dtype=A.dtype)
        for i, u, j in product(range(axis.windows), range(axis.kernel), range(axis.size)):
            if axis.stride * i + axis.dilation * u - axis.before == j:
                expected[:, :, j] += A[:, :, u, i]
        back = backend.col2im(A.reshape(2, -1, axis.windows), axis.size, axis.kernel, **options(axis))
        assert (back == expected).all()


@pytest.mark.verifies("thm-col2im", box=f"{PLANES_BOX}, all impulses", exact=True)
@both_backends
def test_col2im_is_the_adjoint_and_counts(backend):
    for axes in PLANES:
        size, kernel = tuple(axis.size for axis in axes), tuple(axis.kernel for axis in axes)
        G, windows = gathering(backend, axes, 1), prod(axis.windows for axis in axes)
        unit = np.eye(len(G), dtype=int).reshape(len(G), prod(kernel), windows)
        adjoint = backend.col2im(unit, size, kernel, **options(*axes)).reshape(len(G), -1).T
        assert (adjoint == G.T).all()
        counts = np.outer(*map(counts_along, axes))
        assert (np.diag(counts.ravel()) == G.T @ G).all()
        x = integers(2, 3, *size)
        back = backend.col2im(backend.im2col(x, kernel, **options(*axes)), size, kernel, **options(*axes))
        assert (back == counts * x).all()


@pytest.mark.verifies("thm-col2im", box="every geometry of one axis above: unseen pixels, or none", exact=True)
def test_the_nearest_image_is_the_mean():
    """Times the counts, so in integers: the normal equations hold, and have one solution if all are seen."""
    for axis in AXES:
        G, counts = gathering(matrices, (axis,), 1), counts_along(axis)
        A = integers(1, axis.kernel, axis.windows)
        added = matrices.col2im(A, axis.size, axis.kernel, **options(axis)).ravel()
        common = prod(set(counts[counts > 0].tolist()))
        mean = np.where(counts > 0, common * added // np.maximum(counts, 1), 0)
        assert (G.T @ (G @ mean) == common * (G.T @ A.ravel())).all()
        assert (np.linalg.matrix_rank(G) == axis.size) == (counts >= 1).all()


@pytest.mark.verifies("eq-matrices-blow-up", box=PLANES_BOX, exact=True)
@both_backends
def test_memory_of_the_columns(backend):
    for axes in PLANES:
        x = np.ones((2, 3, *(axis.size for axis in axes)), dtype=np.float32)
        cols = backend.im2col(x, tuple(axis.kernel for axis in axes), **options(*axes))
        ratio = prod(axis.kernel * axis.windows for axis in axes)
        assert cols.nbytes * prod(axis.size for axis in axes) == x.nbytes * ratio
