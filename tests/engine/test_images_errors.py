"""What the functions of `konvlib.images` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine import backends

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("images"))(lambda request: request.param)

X, W = np.ones((1, 4, 5)), np.ones((4, 2, 3))
SHAPES = [
    (
        lambda backend: backend.conv1d(X[0, 0], W),
        "x must have 3 axes (N, C, L), or 2 without the batch, got shape (5,)",
    ),
    (
        lambda backend: backend.conv2d(X[0], W),
        "x must have 4 axes (N, C, H, W), or 3 without the batch, got shape (4, 5)",
    ),
    (
        lambda backend: backend.conv3d(X, W),
        "x must have 5 axes (N, C, D, H, W), or 4 without the batch, got shape (1, 4, 5)",
    ),
    (
        lambda backend: backend.conv2d(X, W),
        "w must have 4 axes (C_out, C_in // groups, *kernel_size), got shape (4, 2, 3)",
    ),
    (lambda backend: backend.conv1d(X[..., :0], W), "x must not be empty, got shape (1, 4, 0)"),
    (lambda backend: backend.conv1d(X[:, :0], W), "x must not be empty, got shape (1, 0, 5)"),
    (
        lambda backend: backend.conv1d(X, W[0, 0]),
        "w must have 3 axes (C_out, C_in // groups, kernel_size), got shape (3,)",
    ),
    (
        lambda backend: backend.conv2d(X[None], W),
        "w must have 4 axes (C_out, C_in // groups, *kernel_size), got shape (4, 2, 3)",
    ),
    (lambda backend: backend.conv1d(X, W[:0], groups=2), "w must not be empty, got shape (0, 2, 3)"),
    (lambda backend: backend.conv1d(X, W[..., :0], groups=2), "w must not be empty, got shape (4, 2, 0)"),
    (lambda backend: backend.conv1d(X, W), "w must have 4 // 1 = 4 channels, got 2 with groups 1"),
    (
        lambda backend: backend.conv1d(X, W, np.ones(3), groups=2),
        "bias must have shape (4,), one value per output channel of w, got (3,)",
    ),
    (
        lambda backend: backend.conv1d(X, W, np.ones((4, 1)), groups=2),
        "bias must have shape (4,), one value per output channel of w, got (4, 1)",
    ),
    (
        lambda backend: backend.conv1d(X, W, groups=3),
        "in_channels must be divisible by groups, got 4 channels in 3 groups",
    ),
    (
        lambda backend: backend.conv1d(X, W[:3], groups=2),
        "out_channels must be divisible by groups, got 3 channels in 2 groups",
    ),
    (
        lambda backend: backend.max_pool2d(X[0], 2),
        "x must have 4 axes (N, C, H, W), or 3 without the batch, got shape (4, 5)",
    ),
    (
        lambda backend: backend.avg_pool3d(X, 2),
        "x must have 5 axes (N, C, D, H, W), or 4 without the batch, got shape (1, 4, 5)",
    ),
    (lambda backend: backend.max_pool1d(X[..., :0], 2), "x must not be empty, got shape (1, 4, 0)"),
    (lambda backend: backend.avg_pool1d(X[:, :0], 2), "x must not be empty, got shape (1, 0, 5)"),
]
"""What no shapes fit, each a ``ValueError``."""

PADDINGS = (
    "padding must be one integer, 1 integers or 1 pairs (before, after), or one of same, same_upper, same_lower, valid"
)
LAYERS = [
    ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
    ({"groups": 2.0}, TypeError, "groups must be an integer, got 2.0"),
    ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ({"stride": 1.5}, TypeError, "stride must be an integer, got 1.5"),
    ({"stride": True}, TypeError, "stride must be an integer, got True"),
    ({"stride": (1, 2)}, ValueError, "stride must be one integer or 1, one per axis, got (1, 2)"),
    ({"stride": [0]}, ValueError, "stride[0] must be at least 1, got 0"),
    ({"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
    ({"dilation": "2"}, TypeError, "dilation must be an integer, got '2'"),
    ({"dilation": (1, 2)}, ValueError, "dilation must be one integer or 1, one per axis, got (1, 2)"),
    (
        {"dilation": 3},
        ValueError,
        "dilation must let the kernel fit the padded input of 5 samples, got 3, with which a kernel_size of 3 covers 7",
    ),
    ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    ({"padding": 0.5}, TypeError, "padding must be an integer, got 0.5"),
    ({"padding": None}, TypeError, "padding must be an integer, got None"),
    ({"padding": (1, 2)}, ValueError, f"{PADDINGS}, got (1, 2)"),
    ({"padding": [(1, 2, 3)]}, ValueError, "padding[0] must be one integer or a pair (before, after), got (1, 2, 3)"),
    ({"padding": [(0, -2)]}, ValueError, "padding[0] after must be at least 0, got -2"),
    ({"padding": "full"}, ValueError, "padding must be one of same, same_upper, same_lower, valid, got 'full'"),
    (
        {"padding": "same", "stride": 2},
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give 'same_upper', 'same_lower' or the padding per side",
    ),
    (
        {"padding_mode": "mirror"},
        ValueError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
    ),
    (
        {"padding_mode": None},
        TypeError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got None",
    ),
]
"""What no layer of ``X`` and ``W`` has."""

POOLS = [
    ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
    ({"kernel_size": 2.5}, TypeError, "kernel_size must be an integer, got 2.5"),
    ({"kernel_size": (2, 2)}, ValueError, "kernel_size must be one integer or 1, one per axis, got (2, 2)"),
    (
        {"kernel_size": 6},
        ValueError,
        "kernel_size must fit the padded input of 5 samples, got a kernel that covers 6",
    ),
    (
        {"kernel_size": 9, "stride": 4, "ceil_mode": True},
        ValueError,
        "kernel_size must fit the padded input of 5 samples, got a kernel that covers 9",
    ),
    ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ({"stride": (1, 2)}, ValueError, "stride must be one integer or 1, one per axis, got (1, 2)"),
    ({"padding": 2}, ValueError, "padding must be at most half of kernel_size 2, got (2, 2)"),
    ({"padding": [(0, 2)]}, ValueError, "padding must be at most half of kernel_size 2, got (0, 2)"),
    ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    (
        {"padding": "same"},
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give 'same_upper', 'same_lower' or the padding per side",
    ),
    ({"ceil_mode": 1}, TypeError, "ceil_mode must be True or False, got 1"),
    ({"ceil_mode": None}, TypeError, "ceil_mode must be True or False, got None"),
]
"""What no pooling of ``X`` has, by windows of two samples where none other are named."""

MAX_POOLS = [
    ({"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
    (
        {"dilation": 5},
        ValueError,
        "dilation must let the kernel fit the padded input of 5 samples, got 5, with which a kernel_size of 2 covers 6",
    ),
    (
        {"x": X[..., :1], "padding": 1, "dilation": 2},
        ValueError,
        "padding must let each window meet the input, got 1 samples before the 1 of an axis with kernel_size 2 "
        "and dilation 2",
    ),
    ({"x": X * 1j}, TypeError, "x must hold real numbers, got dtype complex128"),
    ({"return_indices": 1}, TypeError, "return_indices must be True or False, got 1"),
]
AVG_POOLS = [
    ({"count_include_pad": 0}, TypeError, "count_include_pad must be True or False, got 0"),
    ({"count_include_pad": None}, TypeError, "count_include_pad must be True or False, got None"),
    ({"divisor_override": 0}, ValueError, "divisor_override must be at least 1, got 0"),
    ({"divisor_override": 1.5}, TypeError, "divisor_override must be an integer, got 1.5"),
    (
        {"x": X[..., :1], "padding": 1, "dilation": 2},
        ValueError,
        "padding must let each window meet the input, got 1 samples before the 1 of an axis with kernel_size 2 "
        "and dilation 2",
    ),
]
NO_NUMBERS = [
    (
        lambda backend: backend.conv1d([[[1, 2], [3]]], W),
        ValueError,
        "x must be rectangular, got rows of different lengths",
    ),
    (
        lambda backend: backend.conv1d(X, [[[1], [2, 3]]]),
        ValueError,
        "w must be rectangular, got rows of different lengths",
    ),
    (lambda backend: backend.conv1d(X, [[["one", "two"]]]), TypeError, "w must hold numbers, got dtype <U3"),
    (lambda backend: backend.conv1d(X, W, ["a"] * 4, groups=2), TypeError, "bias must hold numbers, got dtype <U1"),
    (
        lambda backend: backend.max_pool1d([[[1, 2], [3]]], 2),
        ValueError,
        "x must be rectangular, got rows of different lengths",
    ),
    (lambda backend: backend.avg_pool1d([[["one", "two"]]], 2), TypeError, "x must hold numbers, got dtype <U3"),
]


def refused(kind, function, *args, **options):
    with pytest.raises(kind) as raised:
        function(*args, **options)
    return str(raised.value)


def pooled(pool, x=X, kernel_size=2, **options):
    return pool(x, kernel_size, **options)


@pytest.mark.parametrize(("function", "message"), SHAPES, ids=[message[:60] for _, message in SHAPES])
def test_shapes_that_do_not_go_together(backend, function, message):
    assert refused(ValueError, function, backend) == message


@pytest.mark.parametrize("row", LAYERS, ids=lambda row: str(row[0]))
def test_arguments_that_no_layer_has(backend, row):
    options, kind, message = row
    assert refused(kind, backend.conv1d, X, W, **{"groups": 2} | options) == message


def test_of_several_axes_the_wrong_one_is_named(backend):
    x, w = X[..., np.newaxis, :], W[..., np.newaxis, :]
    for options, kind, message in [
        ({"stride": (1, 0)}, ValueError, "stride[1] must be at least 1, got 0"),
        ({"dilation": (1.0, 1)}, TypeError, "dilation[0] must be an integer, got 1.0"),
        ({"stride": (1, 1, 1)}, ValueError, "stride must be one integer or 2, one per axis, got (1, 1, 1)"),
        ({"padding": (0, (1, -1))}, ValueError, "padding[1] after must be at least 0, got -1"),
    ]:
        assert refused(kind, backend.conv2d, x, w, groups=2, **options) == message


@pytest.mark.parametrize("row", POOLS, ids=lambda row: str(row[0]))
def test_arguments_that_no_pooling_has(backend, row):
    options, kind, message = row
    for pool in (backend.max_pool1d, backend.avg_pool1d):
        assert refused(kind, pooled, pool, **options) == message


@pytest.mark.parametrize("row", MAX_POOLS, ids=lambda row: row[2])
def test_arguments_that_no_max_pooling_has(backend, row):
    options, kind, message = row
    if "complex" in message:
        backends.needs_arrays(backend)
    assert refused(kind, pooled, backend.max_pool1d, **options) == message


@pytest.mark.parametrize("row", AVG_POOLS, ids=lambda row: row[2])
def test_arguments_that_no_average_pooling_has(backend, row):
    options, kind, message = row
    assert refused(kind, pooled, backend.avg_pool1d, **options) == message


@pytest.mark.parametrize("row", NO_NUMBERS, ids=lambda row: row[2])
def test_what_is_no_array_of_numbers(exact_backend, row):
    function, kind, message = row
    assert refused(kind, function, exact_backend) == message
