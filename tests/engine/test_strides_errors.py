"""What the functions of `konvlib.strides` refuse, in the same words in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from konvlib.strides import Layer
from tests.engine import backends
from tests.engine.mistakes import assert_refused

backend = pytest.fixture(params=backends.of("strides"))(lambda request: request.param)


ONES = np.ones((2, 2, 3), int)
ERRORS = [
    (ValueError, "step must be at least 1, got 0", lambda backend: backend.dilate(ONES, 0)),
    (TypeError, "step must be an integer, got 1.5", lambda backend: backend.dilate(ONES, 1.5)),
    (
        ValueError,
        "step must be one integer or 1, one per axis, got (1, 2)",
        lambda backend: backend.dilate(ONES, (1, 2)),
    ),
    (ValueError, "k must not be empty, got shape (2, 0)", lambda backend: backend.dilate(np.ones((2, 0)), 2)),
    (ValueError, "k must have 1 to 5 axes, got shape ()", lambda backend: backend.dilate(np.ones(()), 2)),
    (TypeError, "axes must be an integer, got 'two'", lambda backend: backend.dilate(ONES, 2, axes="two")),
    (ValueError, "axes must be at least 1, got 0", lambda backend: backend.dilate(ONES, 2, axes=0)),
    (
        ValueError,
        "axes must be 1 to 3, and at most the axes of k, got 2 for shape (3,)",
        lambda backend: backend.dilate(np.ones(3), 2, axes=2),
    ),
    (
        ValueError,
        "w1 and w2 must have as many axes, got shapes (2, 2, 3) and (3,)",
        lambda backend: backend.compose(ONES, np.ones(3)),
    ),
    (ValueError, "w1 must not be empty, got shape (0,)", lambda backend: backend.compose(np.ones(0), np.ones(3))),
    (ValueError, "w2 must have 1 to 5 axes, got shape ()", lambda backend: backend.compose(np.ones(3), np.ones(()))),
    (
        ValueError,
        "w2 must take the 2 channels that w1 gives, got one that takes 4 with groups2 2",
        lambda backend: backend.compose(ONES, ONES, groups2=2),
    ),
    (
        ValueError,
        "groups1 must divide the 2 channels out of w1, got 3",
        lambda backend: backend.compose(ONES, ONES, groups1=3),
    ),
    (ValueError, "groups2 must be at least 1, got 0", lambda backend: backend.compose(ONES, ONES, groups2=0)),
    (TypeError, "groups1 must be an integer, got True", lambda backend: backend.compose(ONES, ONES, groups1=True)),
    (ValueError, "stride1 must be at least 1, got -1", lambda backend: backend.compose(ONES, ONES, stride1=-1)),
    (TypeError, "dilation1 must be an integer, got 2.0", lambda backend: backend.compose(ONES, ONES, dilation1=2.0)),
    (
        ValueError,
        "dilation2 must be one integer or 1, one per axis, got (1, 1)",
        lambda backend: backend.compose(ONES, ONES, dilation2=(1, 1)),
    ),
    (ValueError, "layers must hold at least one layer, got none", lambda backend: backend.compose_chain([])),
    (TypeError, "layers must be a list of layers, got Layer", lambda backend: backend.compose_chain(Layer(ONES))),
    (TypeError, "layers must be a list of layers, got int", lambda backend: backend.compose_chain(3)),
    (
        TypeError,
        "layers[1] must be a Layer or a tuple (weight, stride, dilation, bias, groups), got ndarray",
        lambda backend: backend.compose_chain([(ONES,), ONES]),
    ),
    (
        TypeError,
        "layers[0] must be a Layer or a tuple (weight, stride, dilation, bias, groups), got tuple",
        lambda backend: backend.compose_chain([()]),
    ),
    (
        ValueError,
        "layers[1].weight must have 3 axes, as layers[0].weight has, got shape (3,)",
        lambda backend: backend.compose_chain([(ONES,), (np.ones(3),)]),
    ),
    (
        ValueError,
        "layers[2] must take the 2 channels that layers[1] gives, got one that takes 3 with groups 1",
        lambda backend: backend.compose_chain([(ONES,), (ONES,), (np.ones((1, 3, 1)),)]),
    ),
    (
        ValueError,
        "layers[0].bias must have shape (2,), got (3,)",
        lambda backend: backend.compose_chain([(ONES, 1, 1, [1, 2, 3])]),
    ),
    (
        ValueError,
        "layers[1].groups must divide the 2 channels out of layers[1].weight, got 4",
        lambda backend: backend.compose_chain([(ONES,), (ONES, 1, 1, None, 4)]),
    ),
    (ValueError, "layers[0].stride must be at least 1, got 0", lambda backend: backend.compose_chain([(ONES, 0)])),
    (
        TypeError,
        "layers[1].dilation must be an integer, got None",
        lambda backend: backend.compose_chain([(ONES,), (ONES, 1, None)]),
    ),
    (
        ValueError,
        "layers[0].weight must not be empty, got shape (2, 0, 3)",
        lambda backend: backend.compose_chain([(np.ones((2, 0, 3)),)]),
    ),
]
ARRAY_ERRORS = [
    (TypeError, "k must hold numbers, got dtype <U1", lambda backend: backend.dilate(["a"], 2)),
    (TypeError, "w1 must hold numbers, got dtype <U1", lambda backend: backend.compose(["a"], [1])),
    (
        ValueError,
        "w2 must be rectangular, got rows of different lengths",
        lambda backend: backend.compose([[1]], [[1, 2], [3]]),
    ),
    (TypeError, "layers[1].bias must hold numbers, got dtype <U1", lambda backend: backend.compose_chain(BAD_BIAS)),
]
BAD_BIAS = [([1],), ([1], 1, 1, ["a"])]


@pytest.mark.parametrize("row", [*ERRORS, *ARRAY_ERRORS], ids=lambda row: row[1][:50])
def test_bad_input_gets_the_same_error_in_every_backend(backend, row):
    kind, message, function = row
    assert_refused(kind, message, function, backend)
