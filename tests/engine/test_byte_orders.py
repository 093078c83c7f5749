"""Operands in the other byte order: every function of arrays takes them for what they are."""

from __future__ import annotations

import numpy as np
import pytest

import konvlib
from tests.engine import boxes

X, W, DY = boxes.integers(2, 4, 6), boxes.integers(6, 2, 3, seed=1), boxes.integers(2, 6, 4, seed=2)
KAPPA = boxes.integers(6, 3, 2, 3, seed=3)
GROUPS = {"groups": 2}

CALLS = [
    ("convolve", (X[0, 0], W[0, 0]), {}),
    ("correlate", (X[0, 0], W[0, 0]), {}),
    ("conv1d", (X, W, W[:, 0, 0]), GROUPS),
    ("max_pool1d", (X,), {"kernel_size": 2}),
    ("avg_pool1d", (X,), {"kernel_size": 3}),
    ("max_pool1d_grad", (X, X[..., :3]), {"kernel_size": 2}),
    ("avg_pool1d_grad", (X[..., :3],), {"kernel_size": 2, "input_size": 6}),
    ("conv_matrix", (W,), {"input_shape": (4, 6), "groups": 2}),
    ("im2col", (X,), {"kernel_size": 2}),
    ("col2im", (X,), {"kernel_size": 2, "output_size": 7}),
    ("conv2d_im2col", (X[..., np.newaxis], W[..., np.newaxis]), GROUPS),
    ("circulant_singular_values", (W,), {"shape": 5}),
    ("conv_transpose1d", (DY, W, W[:4, 0, 0]), GROUPS),
    ("conv1d_input_grad", (DY, W), {"input_size": 6, "groups": 2}),
    ("conv1d_weight_grad", (X, DY), {"kernel_size": 3, "groups": 2}),
    ("conv1d_bias_grad", (DY,), {}),
    ("dilate", (W,), {"step": 2}),
    ("compose", (W[:, :, :2], boxes.integers(3, 6, 2)), {}),
    ("konv1d", (X, KAPPA), GROUPS | {"basis": "legendre"}),
    ("konv1d_input_grad", (DY, X, KAPPA), GROUPS),
    ("konv1d_kappa_grad", (X, DY), {"kernel_size": 3, "degree": 2, "groups": 2}),
]


@pytest.mark.parametrize(
    ("name", "operands", "options"), CALLS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_other_byte_order_gives_the_same(name, operands, options):
    function = getattr(konvlib, name)
    for kind in "hilqHefdFD":
        if kind in "FD" and "max" in name:
            continue
        native = [operand.astype(kind) for operand in operands]
        swapped = [operand.astype(operand.dtype.newbyteorder()) for operand in native]
        y, expected = (function(*given, **options) for given in (swapped, native))
        y, expected = (a.toarray() if hasattr(a, "toarray") else a for a in (y, expected))
        assert y.dtype.newbyteorder("=") == expected.dtype
        assert (y == expected).all()


def test_sums_of_halves_in_the_other_byte_order_are_taken_in_single_precision():
    large = np.full((1, 1, 64), 2000, ">f2")
    assert konvlib.avg_pool1d(large, 64) == 2000
    assert konvlib.conv1d(large, np.full((1, 1, 64), 2.0**-6, ">f2")) == 2000
    assert konvlib.circulant_singular_values(np.ones((1, 1, 3), ">f4"), (5,)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["<f2", ">f2"])
def test_halves_have_a_matrix_in_single_precision(dtype):
    matrix = konvlib.conv_matrix(np.array([[[1, 2, 3]]], dtype), (1, 5))
    assert matrix.dtype == np.float32
    assert matrix.toarray().tolist() == [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]]
