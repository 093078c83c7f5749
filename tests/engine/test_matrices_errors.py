"""What the functions of `konvlib.matrices` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine import backends
from tests.engine import boxes as axis_boxes
from tests.engine.boxes import options
from tests.engine.mistakes import assert_each_mistake_is_named, assert_refused
from tests.engine.oracles.matrices import weight

REFUSED = list(axis_boxes.whole(fitting=False))

backend = pytest.fixture(params=backends.of("matrices"))(lambda request: request.param)


def test_a_kernel_that_does_not_fit_is_refused_alike(backend):
    for axis, channels in REFUSED[::7]:
        x, w = np.ones((1, channels.inputs, axis.size)), weight(channels, axis)
        cols = np.ones((1, channels.inputs * axis.kernel, 1))
        message = axis.refusal
        for call in (
            lambda x=x, w=w, a=axis, c=channels: backend.conv_matrix(w, x.shape[1:], groups=c.groups, **options(a)),
            lambda x=x, a=axis: backend.im2col(x, a.kernel, **options(a)),
            lambda cols=cols, a=axis: backend.col2im(cols, a.size, a.kernel, **options(a)),
        ):
            assert_refused(ValueError, message, call)


IMAGE, KERNEL = np.ones((1, 4, 5, 6)), np.ones((6, 2, 2, 3))
ERRORS = [
    (ValueError, "input_shape must be (C, *size) with one to three sizes, got (4,)", "conv_matrix", (KERNEL, (4,)), {}),
    (ValueError, "input_shape must be (C, *size) with one to three sizes, got 4", "conv_matrix", (KERNEL, 4), {}),
    (ValueError, "input_shape[1] must be at least 1, got 0", "conv_matrix", (KERNEL, (4, 0, 6)), {}),
    (TypeError, "input_shape[2] must be an integer, got 6.0", "conv_matrix", (KERNEL, (4, 5, 6.0)), {}),
    (
        ValueError,
        "w must have 3 axes (C_out, C_in // groups, kernel_size) for input_shape (2, 5), got shape (6, 2, 2, 3)",
        "conv_matrix",
        (KERNEL, (2, 5)),
        {},
    ),
    (ValueError, "w must have 4 // 1 = 4 channels, got 2 with groups 1", "conv_matrix", (KERNEL, (4, 5, 6)), {}),
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
    (ValueError, "stride must be at least 1, got 0", "conv_matrix", (KERNEL, (2, 5, 6)), {"stride": 0}),
    (TypeError, "w must hold numbers, got dtype <U3", "conv_matrix", (["one"], (1, 3)), {}),
    (ValueError, "x must have 3 to 5 axes (N, C, *size), got shape (5, 6)", "im2col", (IMAGE[0, 0], 2), {}),
    (ValueError, "x must not be empty, got shape (2, 0, 5)", "im2col", (np.ones((2, 0, 5)), 2), {}),
    (
        ValueError,
        "kernel_size must be one integer or 2, one per axis, got (2, 2, 2, 2)",
        "im2col",
        (IMAGE, (2, 2, 2, 2)),
        {},
    ),
    (
        ValueError,
        "x must have 3 axes (N, C, L), or 2 without the batch, with kernel_size (2,), got shape (1, 4, 5, 6)",
        "im2col",
        (IMAGE, (2,)),
        {},
    ),
    (ValueError, "kernel_size must be at least 1, got 0", "im2col", (IMAGE, 0), {}),
    (ValueError, "dilation[1] must be at least 1, got 0", "im2col", (IMAGE, 2), {"dilation": (1, 0)}),
    (
        ValueError,
        "padding must be one of same, same_upper, same_lower, valid, got 'full'",
        "im2col",
        (IMAGE, 2),
        {"padding": "full"},
    ),
    (ValueError, "x must be rectangular, got rows of different lengths", "im2col", ([[[1], [1, 2]]], 1), {}),
    (
        ValueError,
        "cols must have 3 axes (N, C * prod(kernel_size), L), or 2 without the batch, got shape (6,)",
        "col2im",
        (np.ones(6), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 4 rows per channel, one per tap of kernel_size (2, 2), got 6; "
        "if cols is right, then output_size or kernel_size is not",
        "col2im",
        (np.ones((1, 6, 6)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 4 rows per channel, one per tap of kernel_size (2, 2), got 0; "
        "if cols is right, then output_size or kernel_size is not",
        "col2im",
        (np.ones((1, 0, 6)), (3, 4), 2),
        {},
    ),
    (
        ValueError,
        "cols must have 6 columns, one per window of (2, 3), got 5; "
        "if cols is right, then output_size, kernel_size, stride, padding or dilation is not",
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
    (ValueError, "w must have 4 // 1 = 4 channels, got 2 with groups 1", "conv2d_im2col", (IMAGE, KERNEL), {}),
    (
        ValueError,
        "x must have 4 axes (N, C, H, W), or 3 without the batch, got shape (5, 6)",
        "conv2d_im2col",
        (IMAGE[0, 0], KERNEL),
        {"groups": 2},
    ),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel of w, got (2,)",
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
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, name, operands, arguments = row
    assert_refused(kind, message, getattr(backend, name), *operands, **arguments)


GOOD = {
    "conv_matrix": {"w": KERNEL, "input_shape": (2, 5, 6)},
    "im2col": {"x": IMAGE, "kernel_size": (2, 3)},
    "col2im": {"cols": np.ones((1, 24, 16)), "output_size": (5, 6), "kernel_size": (2, 3)},
    "conv2d_im2col": {"x": IMAGE, "w": KERNEL, "bias": np.ones(6), "groups": 2},
}


@pytest.mark.parametrize("name", GOOD)
def test_each_wrong_argument_is_named_in_every_backend(backend, name):
    assert_each_mistake_is_named(getattr(backend, name), GOOD[name], arrays=backends.takes_arrays(backend))
