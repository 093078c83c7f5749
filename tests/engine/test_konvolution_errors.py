"""What the functions of `konvlib.konvolution` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from konvlib import konvolution
from tests.engine import backends, boxes
from tests.engine.mistakes import assert_each_mistake_is_named, assert_refused

naive = backends.definition("konvolution")

backend = pytest.fixture(params=backends.of("konvolution"))(lambda request: request.param)

X, KAPPA, DY = np.ones((1, 4, 5)), np.ones((6, 3, 2, 2)), np.ones((1, 6, 4))
KNOWN = "basis must be one of monomial, chebyshev, chebyshev2, legendre, hermite"
AXES = "(C_out, degree + 1, C_in // groups, kernel_size)"


def forward(x=X, kappa=KAPPA, bias=None, **options):
    return lambda backend: backend.konv1d(x, kappa, bias, **{"groups": 2} | options)


def of_input(dy=DY, x=X, kappa=KAPPA, **options):
    return lambda backend: backend.konv1d_input_grad(dy, x, kappa, **{"groups": 2} | options)


def of_kappa(x=X, dy=DY, **options):
    return lambda backend: backend.konv1d_kappa_grad(x, dy, **{"groups": 2, "degree": 2, "kernel_size": 2} | options)


ERRORS = [
    (ValueError, f"{KNOWN}, got 'fourier'", forward(basis="fourier")),
    (ValueError, f"{KNOWN}, got 'fourier'", of_input(basis="fourier")),
    (ValueError, f"{KNOWN}, got 'fourier'", of_kappa(basis="fourier")),
    (TypeError, f"{KNOWN}, got 2", forward(basis=2)),
    (ValueError, "pad must be one of basis, input, got 'output'", forward(pad="output")),
    (ValueError, "pad must be one of basis, input, got 'output'", of_input(pad="output")),
    (ValueError, "pad must be one of basis, input, got 'output'", of_kappa(pad="output")),
    (TypeError, "pad must be one of basis, input, got 1", forward(pad=1)),
    (ValueError, "degree must be at least 0, got -1", of_kappa(degree=-1)),
    (TypeError, "degree must be an integer, got 2.0", of_kappa(degree=2.0)),
    (TypeError, "degree must be an integer, got True", of_kappa(degree=True)),
    (ValueError, f"kappa must have 4 axes {AXES}, got shape (6, 2, 2)", forward(kappa=np.ones((6, 2, 2)))),
    (ValueError, f"kappa must have 4 axes {AXES}, got shape (6, 2, 2)", of_input(kappa=np.ones((6, 2, 2)))),
    (
        ValueError,
        "kappa must have 5 axes (C_out, degree + 1, C_in // groups, *kernel_size), got shape (6, 3, 2, 2)",
        lambda backend: backend.konv2d(np.ones((1, 4, 5, 5)), KAPPA),
    ),
    (
        ValueError,
        "kappa must not be empty on axis 1 (degree + 1), got shape (6, 0, 2, 2)",
        forward(kappa=np.ones((6, 0, 2, 2))),
    ),
    (
        ValueError,
        "kappa must not be empty on axis 0 (C_out), got shape (0, 3, 2, 2)",
        forward(kappa=np.ones((0, 3, 2, 2))),
    ),
    (
        ValueError,
        "kappa must not be empty on axis 3 (kernel_size), got shape (6, 3, 2, 0)",
        of_input(kappa=np.ones((6, 3, 2, 0))),
    ),
    (
        ValueError,
        "kappa must have 4 // 2 = 2 channels on axis 2, got 4 in shape (6, 3, 4, 2) with groups 2",
        forward(kappa=np.ones((6, 3, 4, 2))),
    ),
    (
        ValueError,
        "kappa must have 4 // 1 = 4 channels on axis 2, got 2 in shape (6, 3, 2, 2) with groups 1",
        of_input(groups=1),
    ),
    (ValueError, "in_channels must be divisible by groups, got 4 channels in 3 groups", forward(groups=3)),
    (ValueError, "out_channels must be divisible by groups, got 6 channels in 4 groups", forward(groups=4)),
    (ValueError, "out_channels must be divisible by groups, got 6 channels in 4 groups", of_kappa(groups=4)),
    (ValueError, "groups must be at least 1, got 0", forward(groups=0)),
    (ValueError, "groups must be at least 1, got 0", of_kappa(groups=0)),
    (
        ValueError,
        "bias must have shape (6,), one value per output channel of kappa, got (1,)",
        forward(bias=np.ones(1)),
    ),
    (
        ValueError,
        "x must have 3 axes (N, C, L), or 2 without the batch, got shape (5,)",
        forward(x=np.ones(5)),
    ),
    (ValueError, "x must not be empty, got shape (1, 4, 0)", forward(x=np.ones((1, 4, 0)))),
    (ValueError, "x must not be empty, got shape (1, 0, 5)", of_kappa(x=np.ones((1, 0, 5)))),
    (
        ValueError,
        "dilation must let the kernel fit the padded input of 5 samples, got 5, with which a kernel_size of 2 covers 6",
        forward(dilation=5),
    ),
    (
        ValueError,
        "dy must have the convolution's output shape (1, 6, 4), got (1, 6, 5); "
        "if dy is right, then input_size, kernel_size, stride, padding or dilation is not",
        of_input(dy=np.ones((1, 6, 5))),
    ),
    (
        ValueError,
        "dy must have the convolution's output shape (1, 6, 4), got (1, 6, 5); "
        "if dy is right, then input_size, kernel_size, stride, padding or dilation is not",
        of_kappa(dy=np.ones((1, 6, 5))),
    ),
    (
        ValueError,
        "dy and x must all have a batch or none of them, got shapes (6, 4) and (1, 4, 5)",
        of_input(dy=np.ones((6, 4))),
    ),
    (
        ValueError,
        "dy must have 3 axes (N, C, L), or 2 without the batch, got shape (3,)",
        lambda backend: backend.konv1d_bias_grad(np.ones(3)),
    ),
    (
        ValueError,
        "padding 'same' needs stride 1, got stride 2; give 'same_upper', 'same_lower' or the padding per side",
        forward(padding="same", stride=2),
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:50])
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, function = row
    assert_refused(kind, message, function, backend)


def test_geometries_that_do_not_fit_are_refused_alike():
    refused = [axis for axis, channels in boxes.whole(fitting=False) if channels == boxes.CHANNELS[0]]
    assert refused
    for axis in refused:
        options, x, kappa = boxes.options(axis), np.ones((1, 1, axis.size)), np.ones((1, 2, 1, axis.kernel))
        text = axis.refusal
        for each in (konvolution, naive):
            with pytest.raises(ValueError, match=text):
                each.konv1d(x, kappa, **options)
            with pytest.raises(ValueError, match=text):
                each.konv1d_input_grad(np.ones((1, 1, 1)), x, kappa, **options)
            with pytest.raises(ValueError, match=text):
                each.konv1d_kappa_grad(x, np.ones((1, 1, 1)), degree=1, kernel_size=axis.kernel, **options)


GOOD = {
    "konv2d": {"x": np.ones((1, 3, 5, 5)), "kappa": np.ones((2, 4, 3, 2, 3)), "bias": np.ones(2)},
    "konv2d_input_grad": {
        "dy": np.ones((1, 2, 4, 3)),
        "x": np.ones((1, 3, 5, 5)),
        "kappa": np.ones((2, 4, 3, 2, 3)),
    },
    "konv2d_kappa_grad": {
        "x": np.ones((1, 3, 5, 5)),
        "dy": np.ones((1, 2, 4, 3)),
        "degree": 3,
        "kernel_size": (2, 3),
    },
    "konv2d_bias_grad": {"dy": np.ones((1, 2, 4, 3))},
}


@pytest.mark.parametrize("name", GOOD)
def test_each_wrong_argument_is_named_in_every_backend(backend, name):
    assert_each_mistake_is_named(getattr(backend, name), GOOD[name], arrays=backends.takes_arrays(backend))
