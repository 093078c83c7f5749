"""What the functions of `konvlib.transposes` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine import backends
from tests.engine import boxes as axis_boxes
from tests.engine.boxes import options
from tests.engine.mistakes import assert_each_mistake_is_named, assert_refused
from tests.engine.oracles.transposes import ALGORITHMS, full_size

REFUSED = [axis for axis in axis_boxes.ONE_AXIS if full_size(axis) <= axis.before + axis.after]

backend = pytest.fixture(params=backends.of("transposes"))(lambda request: request.param)


def test_padding_that_cuts_everything_is_refused_alike(backend):
    assert REFUSED
    for axis in REFUSED:
        for name in ("conv_transpose1d", *ALGORITHMS):
            operands, pair = (np.ones((1, 1, axis.size)), np.ones((1, 1, axis.kernel))), (axis.before, axis.after)
            told = f"padding must leave an output, got {pair} of {full_size(axis)} samples"
            assert_refused(ValueError, told, getattr(backend, name), *operands, **options(axis))


IMAGE, KERNEL = np.ones((1, 4, 5, 6)), np.ones((4, 3, 2, 3))
LAYER_ERRORS = [
    (ValueError, "w must have 4 channels in, as x has, got 3", (IMAGE, KERNEL[:3]), {}),
    (ValueError, "w must not be empty, got shape (4, 0, 2, 3)", (IMAGE, KERNEL[:, :0]), {}),
    (ValueError, "x must not be empty, got shape (1, 4, 0, 6)", (IMAGE[:, :, :0], KERNEL), {}),
    (
        ValueError,
        "in_channels must be divisible by groups, got 4 channels in 3 groups",
        (IMAGE, KERNEL),
        {"groups": 3},
    ),
    (ValueError, "groups must be at least 1, got 0", (IMAGE, KERNEL), {"groups": 0}),
    (TypeError, "groups must be an integer, got 2.0", (IMAGE, KERNEL), {"groups": 2.0}),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel of w with groups 2, got (3,)",
        (IMAGE, KERNEL, np.ones(3)),
        {"groups": 2},
    ),
    (ValueError, "stride must be at least 1, got 0", (IMAGE, KERNEL), {"stride": 0}),
    (
        ValueError,
        "stride must be one integer or 2, one per axis, got (1, 2, 3)",
        (IMAGE, KERNEL),
        {"stride": (1, 2, 3)},
    ),
    (TypeError, "dilation must be an integer, got 1.5", (IMAGE, KERNEL), {"dilation": 1.5}),
    (ValueError, "padding must be at least 0, got -1", (IMAGE, KERNEL), {"padding": -1}),
    (
        ValueError,
        "padding must be one of same, same_upper, same_lower, valid, got 'full'",
        (IMAGE, KERNEL),
        {"padding": "full"},
    ),
    (
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give 'same_upper', 'same_lower' or the padding per side",
        (IMAGE, KERNEL),
        {"padding": "same", "stride": 2},
    ),
    (
        ValueError,
        "output_padding must be less than stride or dilation, got 2 with stride 2 and dilation 1",
        (IMAGE, KERNEL),
        {"stride": 2, "output_padding": (0, 2)},
    ),
    (ValueError, "output_padding must be at least 0, got -1", (IMAGE, KERNEL), {"output_padding": -1}),
    (TypeError, "x must hold numbers, got dtype <U3", ("one", KERNEL), {}),
    (ValueError, "w must be rectangular, got rows of different lengths", (IMAGE, [[1], [1, 2]]), {}),
]
ERRORS = [
    (
        ValueError,
        "x must have 4 axes (N, C, H, W), or 3 without the batch, got shape (5, 6)",
        "conv_transpose2d",
        (IMAGE[0, 0], KERNEL),
        {},
    ),
    (
        ValueError,
        "w must have 3 axes (C_in, C_out // groups, kernel_size), got shape (4, 3, 2, 3)",
        "conv_transpose1d",
        (IMAGE[0], KERNEL),
        {},
    ),
    *(
        (
            ValueError,
            "x must have 4 axes (N, C, H, W), or 3 without the batch, with w of shape (4, 3, 2, 3), got shape (5, 6)",
            name,
            (IMAGE[0, 0], KERNEL),
            {},
        )
        for name in ALGORITHMS
    ),
    (ValueError, "x must have 3 to 5 axes (N, C, *size), got shape (5, 6)", "insert_zeros", (IMAGE[0, 0], 2), {}),
    *(
        (
            ValueError,
            "w must have 3 to 5 axes (C_in, C_out // groups, *size), got shape (4, 3)",
            name,
            (IMAGE, KERNEL[..., 0, 0]),
            {},
        )
        for name in ALGORITHMS
    ),
    (ValueError, "x must not be empty, got shape (1, 4, 0, 6)", "insert_zeros", (IMAGE[:, :, :0], 2), {}),
    (ValueError, "stride must be at least 1, got 0", "insert_zeros", (IMAGE, 0), {}),
    (ValueError, "size must be one to three integers, one per axis, got ()", "overlap_counts", ((), 2), {}),
    (TypeError, "size must be an integer, got 2.5", "overlap_counts", (2.5, 2), {}),
    (ValueError, "size[1] must be at least 1, got 0", "overlap_counts", ((3, 0), 2), {}),
    (ValueError, "kernel_size must be one integer or 1, one per axis, got (2, 3)", "overlap_counts", (3, (2, 3)), {}),
    (
        ValueError,
        "padding must leave an output, got (1, 1) of 2 samples",
        "overlap_counts",
        (1, 2),
        {"padding": 1},
    ),
]


@pytest.mark.parametrize("name", ["conv_transpose2d", *ALGORITHMS])
@pytest.mark.parametrize("row", LAYER_ERRORS, ids=lambda row: row[1][:40])
def test_a_bad_layer_gets_the_same_error_from_every_algorithm(backend, row, name):
    kind, message, operands, arguments = row
    assert_refused(kind, message, getattr(backend, name), *operands, **arguments)


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[2]}: {row[1][:40]}")
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, name, operands, arguments = row
    assert_refused(kind, message, getattr(backend, name), *operands, **arguments)


GOOD = {
    "conv_transpose2d": {"x": IMAGE, "w": KERNEL, "bias": np.ones(3)},
    "conv_transpose_by_zero_insertion": {"x": IMAGE, "w": KERNEL, "bias": np.ones(3)},
    "conv_transpose_by_scattering": {"x": IMAGE, "w": KERNEL, "bias": np.ones(3)},
    "insert_zeros": {"x": IMAGE, "stride": 2},
    "overlap_counts": {"size": (3, 4), "kernel_size": 2},
}


@pytest.mark.parametrize("name", GOOD)
def test_each_wrong_argument_is_named_in_every_backend(backend, name):
    assert_each_mistake_is_named(getattr(backend, name), GOOD[name], arrays=backends.takes_arrays(backend))
