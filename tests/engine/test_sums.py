"""Sums of halves, integers and numbers that are not finite: rounded once, exact, and where the definition has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import konvlib as k
from tests.engine import backends

F2 = np.float16


def halves(*shape: int, value: float = 1) -> np.ndarray:
    return np.full(shape, value, F2)


def layers(*arrays: np.ndarray) -> list[tuple]:
    return [(array,) for array in arrays]


GROWING: list[tuple[Callable[..., Any], tuple, dict]] = [
    (k.conv2d_bias_grad, (halves(10000, 2, 1, 3),), {}),
    (k.konv2d_bias_grad, (halves(10000, 2, 1, 3),), {}),
    (k.conv1d_input_grad, (halves(1, 9000, 2), halves(9000, 1, 1)), {"input_size": 2}),
    (k.conv1d_input_grad, (halves(1, 1, 9000), halves(1, 1, 9000)), {"input_size": 17999}),
    (
        k.conv1d_input_grad,
        (halves(1, 1, 9002), halves(1, 1, 1)),
        {"input_size": 2, "padding": 4500, "padding_mode": "replicate"},
    ),
    (k.conv1d_weight_grad, (halves(3, 1, 3000), halves(3, 2, 2999)), {"kernel_size": 2}),
    (k.conv1d_weight_grad, (halves(1, 1, 3100), halves(1, 1, 3000)), {"kernel_size": 101}),
    (k.conv_transpose1d, (halves(1, 9000, 2), halves(9000, 1, 3), halves(1, value=500)), {"stride": 2}),
    (k.conv_transpose1d, (halves(1, 1, 9000), halves(1, 1, 9000)), {}),
    (k.conv_transpose_by_scattering, (halves(1, 1, 3000), halves(1, 1, 3000)), {}),
    (k.conv_transpose_by_zero_insertion, (halves(1, 9000, 2), halves(9000, 1, 3)), {"stride": 2}),
    (k.col2im, (halves(1, 3000, 3000), 5999, 3000), {}),
    (k.conv2d_im2col, (halves(1, 100, 9, 10), halves(1, 100, 9, 10), halves(1)), {}),
    (k.compose, (halves(3000, 2, 2), halves(3, 3000, 2)), {}),
    (k.compose, (halves(3000), halves(3000)), {}),
    (k.konv1d, (halves(1, 3000, 1), halves(1, 3, 3000, 1), halves(1)), {}),
    (k.konv1d_input_grad, (halves(1, 3000, 1), halves(1, 1, 1), halves(3000, 3, 1, 1)), {}),
    (k.konv1d_kappa_grad, (halves(2, 1, 3000), halves(2, 1, 3000)), {"degree": 2, "kernel_size": 1}),
]
IDS = [f"{function.__name__}-{number}" for number, (function, _, _) in enumerate(GROWING)]


@pytest.mark.parametrize("call", GROWING, ids=IDS)
def test_sums_of_halves_go_on_growing(call):
    """Beyond 2048 a sum in halves does not change by one; these are of ones, and exact in single precision."""
    function, operands, options = call
    wide = [array.astype(np.float64) if isinstance(array, np.ndarray) else array for array in operands]
    result, expected = function(*operands, **options), function(*wide, **options)
    assert result.dtype == F2
    assert expected.max() > 2100
    assert (result == expected.astype(F2)).all()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("call", GROWING, ids=IDS)
def test_halves_are_rounded_once_and_overflow_only_with_the_true_sum(call):
    """Of numbers whose partial sums no half holds.

    Single precision is off by about 2**-10 of a half's rounding, so that a sum that lies so close to the middle of two
    halves may go to the other.
    """
    function, operands, options = call
    rng = np.random.default_rng(5)
    given = []
    for array in operands:
        if isinstance(array, np.ndarray):
            array = rng.choice([-1, 1], array.shape) * rng.uniform(100, 240, array.shape)
            array = (array / (1 if function.__name__[:4] != "konv" else 32)).astype(F2)
        given.append(array)
    wide = [array.astype(np.float64) if isinstance(array, np.ndarray) else array for array in given]
    result, expected = function(*given, **options), function(*wide, **options)
    assert (np.isfinite(result) == np.isfinite(expected.astype(F2))).all()
    inside = np.isfinite(result)
    assert np.abs(result.astype(np.float64) - expected)[inside].max(initial=0) <= (
        0.55 * np.spacing(np.abs(result[inside]).max(initial=1)).astype(np.float64)
    )
    assert (result == expected.astype(F2)).mean() > 0.99


def test_chains_of_halves_are_rounded_once():
    """Between the layers there are 100 000, which no half holds."""
    chain = [
        (halves(10, 10, 1, value=100),),
        (halves(10, 10, 1, value=100), 1, 1, halves(10, value=0.5)),
        (halves(1, 10, 1, value=2**-9),),
    ]
    whole = k.compose_chain(chain)
    assert whole.weight.dtype == whole.bias.dtype == F2
    assert (whole.weight == F2(10 * 10 * 100 * 100 / 512)).all()
    assert (whole.bias == F2(10 * 0.5 / 512)).all()


def test_a_matrix_of_halves_is_one_of_singles():
    """SciPy and torch multiply no sparse halves; every order of bytes is one."""
    w = np.array([[[2, 1, 3]]])
    for dtype in ("<f2", ">f2"):
        matrix = k.conv_matrix(w.astype(dtype), (1, 5))
        assert matrix.dtype == np.float32
        assert (matrix.toarray() == k.conv_matrix(w, (1, 5)).toarray()).all()


def best(call: Callable[[], Any], repeats: int = 5) -> float:
    """The least time that processors were at work on a call, which other programs hardly change."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


BIG = [
    (k.conv2d_input_grad, [(2, 32, 40, 40), (32, 32, 3, 3)], {"input_size": 42}),
    (k.conv2d_weight_grad, [(2, 32, 42, 42), (2, 32, 40, 40)], {"kernel_size": 3}),
    (k.conv_transpose2d, [(2, 32, 40, 40), (32, 32, 4, 4)], {"stride": 2}),
    (k.conv_transpose_by_scattering, [(2, 32, 40, 40), (32, 32, 3, 3)], {}),
    (k.conv_transpose_by_zero_insertion, [(2, 32, 40, 40), (32, 32, 3, 3)], {}),
    (k.conv2d_im2col, [(2, 32, 42, 42), (32, 32, 3, 3)], {}),
    (k.compose, [(64, 64, 3, 3), (64, 64, 3, 3)], {}),
    (k.konv2d, [(2, 16, 42, 42), (16, 4, 16, 3, 3)], {}),
    (k.konv2d_input_grad, [(2, 16, 40, 40), (2, 16, 42, 42), (16, 4, 16, 3, 3)], {}),
    (k.konv2d_kappa_grad, [(2, 16, 42, 42), (2, 16, 40, 40)], {"degree": 3, "kernel_size": 3}),
]


@pytest.mark.slow
@pytest.mark.parametrize("call", BIG, ids=lambda call: call[0].__name__)
@pytest.mark.parametrize("dtype", ["l", "h", "e"])
def test_integers_and_halves_that_floats_hold_are_as_quick_as_floats(call, dtype):
    """At most four times the time of doubles; without BLAS it would be ten to a hundred times."""
    function, shapes, options = call
    rng = np.random.default_rng(0)
    given = [rng.integers(-2, 3, shape).astype(dtype) for shape in shapes]
    wide = [array.astype(np.float64) for array in given]
    result, expected = function(*given, **options), function(*wide, **options)
    wrapped = expected.astype(np.int64).astype(dtype) if dtype != "e" else expected.astype(dtype)
    assert (result == wrapped).all()
    ratio = best(lambda: function(*given, **options)) / best(lambda: function(*wide, **options))
    print(f"{ratio:.2f}")
    assert ratio < 4


SMALL: list[tuple[str, str, list[tuple[int, ...]], dict, tuple]] = [
    ("gradients", "conv1d_input_grad", [(2, 2, 6), (2, 3, 3)], {"input_size": 11, "stride": 2, "padding": 1}, ()),
    ("gradients", "conv1d_input_grad", [(1, 2, 80), (2, 2, 70)], {"input_size": 145, "padding": 2}, ()),
    (
        "gradients",
        "conv2d_input_grad",
        [(2, 2, 5, 3), (2, 1, 3, 2)],
        {"input_size": 5, "padding": 1, "groups": 2, "stride": (1, 2)},
        (),
    ),
    (
        "gradients",
        "conv1d_input_grad",
        [(2, 2, 7), (2, 3, 3)],
        {"input_size": 5, "padding": 2, "padding_mode": "circular"},
        (),
    ),
    ("gradients", "conv1d_weight_grad", [(2, 3, 9), (2, 2, 5)], {"kernel_size": 3, "stride": 2, "padding": 1}, ()),
    ("gradients", "conv1d_weight_grad", [(1, 2, 80), (1, 2, 15)], {"kernel_size": 70, "padding": 2}, ()),
    ("gradients", "conv1d_bias_grad", [(2, 3, 4)], {}, ()),
    ("transposes", "conv_transpose1d", [(2, 3, 4), (3, 2, 3), (2,)], {"stride": 2, "padding": 1}, ()),
    ("transposes", "conv_transpose1d", [(1, 2, 70), (2, 2, 80)], {"padding": 30}, ()),
    ("transposes", "conv_transpose_by_scattering", [(2, 3, 4), (3, 2, 3), (2,)], {"stride": 2, "padding": 1}, ()),
    ("transposes", "conv_transpose_by_zero_insertion", [(2, 3, 4), (3, 2, 3), (2,)], {"stride": 2, "padding": 1}, ()),
    ("matrices", "im2col", [(2, 2, 4)], {"padding": 1}, (3,)),
    ("matrices", "col2im", [(2, 6, 3)], {}, (5, 3)),
    ("matrices", "conv2d_im2col", [(2, 2, 3, 4), (2, 2, 2, 2), (2,)], {"padding": 1}, ()),
    ("strides", "compose", [(4, 2, 3), (2, 4, 2)], {"stride1": 2}, ()),
    ("konvolution", "konv1d", [(2, 2, 6), (2, 3, 2, 3), (2,)], {"padding": 1, "stride": 2}, ()),
    ("konvolution", "konv1d_input_grad", [(2, 2, 3), (2, 2, 6), (2, 3, 2, 3)], {"padding": 1, "stride": 2}, ()),
    (
        "konvolution",
        "konv1d_kappa_grad",
        [(2, 2, 6), (2, 2, 3)],
        {"degree": 2, "kernel_size": 3, "padding": 1, "stride": 2},
        (),
    ),
]


def alike(a: np.ndarray, b: np.ndarray, *, exactly: bool) -> bool:
    """Equal, NaN to NaN; or else those that are not finite need only be so in both, as in complex numbers."""
    if exactly and a.dtype.kind != "c":
        return bool(np.array_equal(a, b, equal_nan=True))
    finite = np.isfinite(a)
    return bool((finite == np.isfinite(b)).all() and (a[finite] == b[finite]).all())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("call", SMALL, ids=lambda call: call[1])
def test_what_is_not_finite_stays_where_the_definition_leaves_it(call):
    package, name, shapes, options, others = call
    ours, naive = backends.exact(package)[0].values[0], backends.definition(package)
    rng = np.random.default_rng(7)
    values = {"f": [np.nan, np.inf, -np.inf], "d": [np.nan, np.inf], "e": [np.inf, np.nan], "D": [np.nan, np.inf * 1j]}
    for dtype, bad in values.items():
        for where in [(number,) for number in range(len(shapes))] + [tuple(range(len(shapes)))]:
            for value in bad:
                given = [rng.integers(-1, 3, shape).astype(dtype) for shape in shapes]
                for number in where:
                    given[number].ravel()[rng.integers(given[number].size, size=2)] = [value, bad[0]]
                if name == "konv1d_input_grad":
                    given[2][:, 0] = 1  # constants have no slope, but the definition multiplies them by it
                results = [getattr(each, name)(*given, *others, **options) for each in (ours, naive)]
                # The definition of Konvolution multiplies infinity by the slope of degree 0, and so makes it NaN.
                assert alike(*results, exactly=package != "konvolution"), (dtype, where, value)


SPOILED = [
    (k.conv2d_input_grad, [(2, 8, 64, 64), (8, 8, 3, 3)], {"input_size": 64, "padding": 1}),
    (k.conv2d_input_grad, [(1, 2, 200, 200), (2, 2, 21, 21)], {"input_size": 200, "padding": 10}),
    (k.conv2d_weight_grad, [(2, 8, 64, 64), (2, 8, 64, 64)], {"kernel_size": 3, "padding": 1}),
    (k.conv2d_weight_grad, [(1, 2, 200, 200), (1, 2, 200, 200)], {"kernel_size": 21, "padding": 10}),
    (k.conv_transpose2d, [(2, 8, 64, 64), (8, 8, 4, 4)], {"stride": 2}),
    (k.conv_transpose2d, [(1, 2, 200, 200), (2, 2, 31, 31)], {}),
    (k.conv_transpose_by_scattering, [(2, 8, 64, 64), (8, 8, 4, 4)], {"stride": 2}),
    (k.conv_transpose_by_zero_insertion, [(2, 8, 32, 32), (8, 8, 4, 4)], {"stride": 2}),
    (k.conv2d_im2col, [(2, 8, 64, 64), (8, 8, 3, 3)], {"padding": 1}),
    (k.compose, [(32, 32, 3, 3), (32, 32, 3, 3)], {}),
    (k.konv2d, [(2, 8, 64, 64), (8, 4, 8, 3, 3)], {"padding": 1}),
    (k.konv2d_input_grad, [(2, 8, 64, 64), (2, 8, 64, 64), (8, 4, 8, 3, 3)], {"padding": 1}),
    (k.konv2d_kappa_grad, [(2, 8, 64, 64), (2, 8, 64, 64)], {"degree": 3, "kernel_size": 3, "padding": 1}),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("call", SPOILED, ids=lambda call: f"{call[0].__name__}-{call[1][-1][-1]}")
def test_one_bad_sample_costs_at_most_ten_times(call):
    function, shapes, options = call
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    clean = best(lambda: function(*given, **options), 9)
    for number in range(len(given)):
        for value in (np.nan, np.inf):
            spoiled = [array.copy() for array in given]
            spoiled[number].ravel()[spoiled[number].size // 2] = value
            ratio = best(lambda spoiled=spoiled: function(*spoiled, **options), 9) / clean
            print(f"operand {number}, {value}: {ratio:.1f}")
            assert ratio < 10, (number, value)
