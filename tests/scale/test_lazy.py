"""Dask arrays through the front door: equal to one process, on random geometries and chunks, and never loaded."""

import subprocess
import sys
from functools import partial

import dask.array as da
import numpy as np
import pytest

import konvlib
from tests.scale.lazy_cases import KINDS, check, spoiled


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_whole(kind):
    rng, done = np.random.default_rng(17), 0
    while done < 40:
        done += check(rng, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_reach_their_own_sums(kind):
    rng, done = np.random.default_rng(18), 0
    while done < 15:
        done += check(rng, kind, partial(spoiled, rng))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "normalized_correlation"])  # which is rounded
def test_dtypes_are_those_of_arrays(kind):
    rng = np.random.default_rng(19)
    ordered = kind in ("max_pool", "indices", "max_pool_grad")
    for dtype in (np.bool_, np.int8, np.uint16, np.float16, np.float32, *([] if ordered else [np.complex64])):
        while not check(rng, kind, lambda values, dtype=dtype: values.astype(dtype)):
            pass


@pytest.mark.parametrize("method", ["direct", "fft", "overlap-add"])
def test_sequences_by_each_method(method):
    rng = np.random.default_rng(20)
    f, g = rng.integers(-99, 100, (2, 500)), rng.integers(-99, 100, 40)
    lazy_f = da.from_array(f, chunks=(1, (3, 30, 300, 167)))
    for mode in ("full", "same", "valid"):
        for function in (konvlib.convolve, konvlib.correlate):
            want, found = (function(each, g, mode=mode, method=method) for each in (f, lazy_f))
            assert np.array_equal(found.compute(), want)
        if method != "overlap-add":
            want, found = (konvlib.convolve_nd(each, [[1, 2]], mode=mode, method=method) for each in (f, lazy_f))
            assert np.array_equal(found.compute(), want)


def test_a_kernel_that_does_not_fit_is_refused_as_on_arrays():
    x, w = np.ones((1, 1, 8)), np.ones((1, 1, 9))
    for given in (x, da.from_array(x, chunks=4)):
        with pytest.raises(ValueError, match="kernel_size must fit the padded input of 8"):
            konvlib.conv1d(given, w)


def test_konvlib_imports_no_dask():
    told = "import sys, konvlib; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_graphs_stay_small():
    x = da.zeros((1, 1, 10**6, 10**6), chunks=(1, 1, 10**5, 10**5))
    w, same = np.ones((1, 1, 3, 3)), {"padding": 1}
    results = [
        konvlib.conv2d(x, w),
        konvlib.conv2d_input_grad(x, w, input_size=10**6, padding_mode="reflect", **same),
        konvlib.conv2d_weight_grad(x, x, kernel_size=3, **same),
        konvlib.konv2d_kappa_grad(x, x, degree=2, kernel_size=3, **same),
        konvlib.konv2d_input_grad(x, x, np.ones((1, 3, 1, 3, 3)), **same),
        konvlib.max_pool2d_grad(x, x, 3, stride=1, **same),
        konvlib.convolve_nd(x[0, 0], w[0, 0], mode="same"),
    ]
    for number, y in enumerate(results):
        assert len(dict(y.__dask_graph__())) < 100 * 35, number


def _summed(dtype) -> dict:
    """Calls whose sums go over many blocks, or are taken twice, and whose operands a sum in float16 would lose."""
    rng = np.random.default_rng(3)
    x, dy = (rng.integers(0, most, (3, 2, 400)).astype(dtype) for most in (2, 9))
    dy[0, 0, 0] = 2048 if dtype == np.float16 else 100
    w, chunks = np.ones((2, 2, 1), dtype), (2, 1, 37)
    lazy_x, lazy_dy = da.from_array(x, chunks=chunks), da.from_array(dy, chunks=chunks)
    wide = {"padding": [(0, 390)], "padding_mode": "replicate"}
    return {
        "bias": [konvlib.conv1d_bias_grad(each) for each in (dy, lazy_dy)],
        "weight": [konvlib.conv1d_weight_grad(*each, kernel_size=1) for each in ((x, dy), (lazy_x, lazy_dy))],
        "kappa": [konvlib.konv1d_kappa_grad(*each, kernel_size=1, degree=2) for each in ((x, dy), (lazy_x, lazy_dy))],
        "input": [konvlib.conv1d_input_grad(each, w, input_size=10, **wide) for each in (dy, lazy_dy)],
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.bool_])
def test_sums_of_blocks_are_those_of_arrays(dtype):
    for name, (want, found) in _summed(dtype).items():
        assert isinstance(found, da.Array)
        assert found.dtype == want.dtype
        assert np.array_equal(found.compute(), want), name
