"""What the functions of `konvlib.gradients` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from konvlib import gradients
from tests.engine import backends, boxes
from tests.engine.mistakes import assert_each_mistake_is_named, assert_refused

naive = backends.definition("gradients")

backend = pytest.fixture(params=backends.of("gradients"))(lambda request: request.param)

ONE = (np.ones((1, 1, 3)), np.ones((1, 1, 2)))
ERRORS = [
    (
        ValueError,
        "dy must have the convolution's output shape (1, 1, 4), got (1, 1, 3); "
        "if dy is right, then input_size, kernel_size, stride, padding or dilation is not",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=5),
    ),
    (
        ValueError,
        "dy must have the convolution's output shape (2, 1, 2), got (1, 1, 3); "
        "if dy is right, then input_size, kernel_size, stride, padding or dilation is not",
        lambda backend: backend.conv1d_weight_grad(np.ones((2, 1, 3)), ONE[0], kernel_size=2),
    ),
    (
        ValueError,
        "input_size must be one integer or 1, one per axis, got (5, 5)",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=(5, 5)),
    ),
    (
        TypeError,
        "input_size must be an integer, got 4.0",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=4.0),
    ),
    (ValueError, "input_size must be at least 1, got 0", lambda backend: backend.conv1d_input_grad(*ONE, input_size=0)),
    (
        ValueError,
        "kernel_size must fit the padded input of 1 samples, got a kernel that covers 2",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=1),
    ),
    (
        ValueError,
        "dy must have 4 axes (N, C, H, W), or 3 without the batch, got shape (1, 3)",
        lambda backend: backend.conv2d_input_grad(ONE[0][0], ONE[1], input_size=5),
    ),
    (
        ValueError,
        "w must have 3 axes (C_out, C_in // groups, kernel_size), got shape (2,)",
        lambda backend: backend.conv1d_input_grad(ONE[0], np.ones(2), input_size=4),
    ),
    (
        ValueError,
        "dy must not be empty, got shape (1, 1, 0)",
        lambda backend: backend.conv1d_input_grad(np.ones((1, 1, 0)), ONE[1], input_size=4),
    ),
    (
        ValueError,
        "x must not be empty, got shape (1, 0, 3)",
        lambda backend: backend.conv1d_weight_grad(np.ones((1, 0, 3)), ONE[0], kernel_size=1),
    ),
    (
        ValueError,
        "in_channels must be divisible by groups, got 3 channels in 2 groups",
        lambda backend: backend.conv1d_weight_grad(np.ones((1, 3, 3)), np.ones((1, 2, 3)), kernel_size=1, groups=2),
    ),
    (
        ValueError,
        "out_channels must be divisible by groups, got 1 channels in 2 groups",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=4, groups=2),
    ),
    (
        ValueError,
        "groups must be at least 1, got 0",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=4, groups=0),
    ),
    (
        ValueError,
        "stride must be at least 1, got 0",
        lambda backend: backend.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=1, stride=0),
    ),
    (
        TypeError,
        "dilation must be an integer, got 'two'",
        lambda backend: backend.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=1, dilation="two"),
    ),
    (
        ValueError,
        "kernel_size must be at least 1, got 0",
        lambda backend: backend.conv1d_weight_grad(ONE[0], ONE[0], kernel_size=0),
    ),
    (
        ValueError,
        "padding must be at least 0, got -1",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=6, padding=-1),
    ),
    (
        ValueError,
        "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
        lambda backend: backend.conv1d_input_grad(*ONE, input_size=4, padding_mode="mirror"),
    ),
    (
        ValueError,
        "dy must have 3 axes (N, C, L), or 2 without the batch, got shape (3,)",
        lambda backend: backend.conv1d_bias_grad(np.ones(3)),
    ),
    (
        ValueError,
        "dy must not be empty, got shape (1, 1, 0)",
        lambda backend: backend.conv1d_bias_grad(np.ones((1, 1, 0))),
    ),
    (
        ValueError,
        "dy must have the pooling's output shape (1, 1, 2), got (1, 1, 3); "
        "if dy is right, then input_size, kernel_size, stride, padding, dilation or ceil_mode is not",
        lambda backend: backend.max_pool1d_grad(np.ones((1, 1, 4)), ONE[0], 2),
    ),
    (
        ValueError,
        "divisor_override must be at least 1, got 0",
        lambda backend: backend.avg_pool1d_grad(ONE[0], 2, input_size=6, divisor_override=0),
    ),
    (
        TypeError,
        "dilation must be an integer, got 2.0",
        lambda backend: backend.avg_pool1d_grad(ONE[0], 2, input_size=6, dilation=2.0),
    ),
    (
        ValueError,
        "dy must have 3 axes (N, C, L), or 2 without the batch, got shape (3,)",
        lambda backend: backend.max_pool1d_grad(np.ones((1, 1, 4)), np.ones(3), 2),
    ),
    (
        TypeError,
        "ceil_mode must be True or False, got 1",
        lambda backend: backend.max_pool1d_grad(np.ones((1, 1, 4)), ONE[1], 2, ceil_mode=1),
    ),
    (
        ValueError,
        "padding must be at most half of kernel_size 2, got (2, 2)",
        lambda backend: backend.max_pool1d_grad(np.ones((1, 1, 4)), ONE[1], 2, padding=2),
    ),
    (
        ValueError,
        "dy must have the pooling's output shape (1, 1, 2), got (1, 1, 3); "
        "if dy is right, then input_size, kernel_size, stride, padding, dilation or ceil_mode is not",
        lambda backend: backend.avg_pool1d_grad(ONE[0], 2, input_size=4),
    ),
    (
        TypeError,
        "count_include_pad must be True or False, got None",
        lambda backend: backend.avg_pool1d_grad(ONE[1], 2, input_size=4, count_include_pad=None),
    ),
    (
        ValueError,
        "kernel_size must fit the padded input of 4 samples, got a kernel that covers 5",
        lambda backend: backend.avg_pool1d_grad(ONE[1], 5, input_size=4),
    ),
]
ARRAY_ERRORS = [
    (
        TypeError,
        "dy must hold numbers, got dtype <U1",
        lambda backend: backend.conv1d_input_grad([[["a"]]], ONE[1], input_size=2),
    ),
    (
        TypeError,
        "w must hold numbers, got dtype <U1",
        lambda backend: backend.conv1d_input_grad(ONE[0], [[["a"]]], input_size=2),
    ),
    (TypeError, "x must hold numbers, got dtype <U1", lambda backend: backend.max_pool1d_grad([[["a"]]], ONE[0], 1)),
    (
        ValueError,
        "x must be rectangular, got rows of different lengths",
        lambda backend: backend.conv1d_weight_grad([[[1, 2], [3]]], ONE[0], kernel_size=1),
    ),
    (TypeError, "dy must hold numbers, got dtype <U1", lambda backend: backend.conv1d_bias_grad([[["a"]]])),
]


@pytest.mark.parametrize("row", [*ERRORS, *ARRAY_ERRORS], ids=lambda row: row[1][:50])
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, function = row
    assert_refused(kind, message, function, backend)


def test_geometries_that_do_not_fit_are_refused_alike():
    refused = [axis for axis, channels in boxes.whole(fitting=False) if channels == boxes.CHANNELS[0]]
    assert refused
    for axis in refused:
        options, w = boxes.options(axis), np.ones((1, 1, axis.kernel))
        text = axis.refusal
        for each in (gradients, naive):
            with pytest.raises(ValueError, match=text):
                each.conv1d_input_grad(np.ones((1, 1, 1)), w, input_size=axis.size, **options)
            with pytest.raises(ValueError, match=text):
                each.conv1d_weight_grad(
                    np.ones((1, 1, axis.size)), np.ones((1, 1, 1)), kernel_size=axis.kernel, **options
                )


GOOD = {
    "conv2d_input_grad": {"dy": np.ones((1, 2, 4, 3)), "w": np.ones((2, 3, 2, 3)), "input_size": 5},
    "conv2d_weight_grad": {"x": np.ones((1, 3, 5, 5)), "dy": np.ones((1, 2, 4, 3)), "kernel_size": (2, 3)},
    "conv2d_bias_grad": {"dy": np.ones((1, 2, 4, 3))},
    "max_pool2d_grad": {"x": np.ones((1, 3, 5, 7)), "dy": np.ones((1, 3, 2, 3)), "kernel_size": 2},
    "avg_pool2d_grad": {"dy": np.ones((1, 3, 2, 3)), "kernel_size": 2, "input_size": (5, 7)},
}


@pytest.mark.parametrize("name", GOOD)
def test_each_wrong_argument_is_named_in_every_backend(backend, name):
    assert_each_mistake_is_named(getattr(backend, name), GOOD[name], arrays=backends.takes_arrays(backend))
