"""Dask arrays through the front door: equal to one process, on random geometries and chunks, and never loaded."""

import itertools
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest

import konvlib
from konvlib.geometry import PADDING_MODES

KINDS = ("conv", "konv", "max_pool", "avg_pool", "indices", "conv_transpose", "input_grad", "convolve", "correlate")


class Source:
    """An array that counts how often it is read."""

    def __init__(self, values):
        self.values, self.reads = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, at):
        self.reads += 1
        return self.values[at]


def _chunks(rng, size):
    cuts = sorted({0, size, *rng.integers(0, size + 1, rng.integers(0, 6)).tolist()})
    return tuple(b - a for a, b in itertools.pairwise(cuts))


def _case(rng, kind):
    """A function of arrays, and its first operand."""
    if kind in ("convolve", "correlate"):
        f, g = (rng.integers(-9, 10, shape) for shape in ((2, rng.integers(1, 30)), rng.integers(1, 8)))
        options = {"mode": str(rng.choice(["full", "same", "valid"]))}
        if options["mode"] == "same":
            options["boundary"] = str(rng.choice(PADDING_MODES))
        return lambda x: getattr(konvlib, kind)(x, g, **options), f
    axes = int(rng.integers(1, 4))
    groups = int(rng.integers(1, 3))
    inputs, outputs = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    x = rng.integers(-4, 5, (rng.integers(1, 3), inputs, *rng.integers(1, {1: 24, 2: 10, 3: 5}[axes], axes)))
    kernel = rng.integers(1, 5, axes).tolist()
    window = {"stride": rng.integers(1, 4, axes).tolist(), "dilation": rng.integers(1, 3, axes).tolist()}
    window["padding"] = [tuple(pair) for pair in rng.integers(0, 6, (axes, 2)).tolist()]
    bias = rng.integers(-9, 10, outputs) if rng.integers(2) else None
    if kind in ("max_pool", "avg_pool", "indices"):
        window["padding"] = [(int(rng.integers(0, k // 2 + 1)), int(rng.integers(0, k // 2 + 1))) for k in kernel]
        window["ceil_mode"] = bool(rng.integers(2))
        if kind == "avg_pool":
            return lambda x: getattr(konvlib, f"avg_pool{axes}d")(x, kernel, **window), x
        pool = getattr(konvlib, f"max_pool{axes}d")
        if kind == "indices":
            return lambda x: pool(x, kernel, return_indices=True, **window)[1], x
        return lambda x: pool(x, kernel, **window), x
    window["groups"] = groups
    if kind == "conv_transpose":
        w = rng.integers(-9, 10, (inputs, outputs // groups, *kernel))
        return lambda x: getattr(konvlib, f"conv_transpose{axes}d")(x, w, bias, **window), x
    if kind == "input_grad":
        w = rng.integers(-9, 10, (outputs, inputs // groups, *kernel))
        dy = rng.integers(-9, 10, getattr(konvlib, f"conv{axes}d")(x, w, **window).shape)
        gradient, size = getattr(konvlib, f"conv{axes}d_input_grad"), x.shape[2:]
        return lambda dy: gradient(dy, w, input_size=size, **window), dy
    window["padding_mode"] = str(rng.choice(PADDING_MODES))
    if kind == "conv":
        w = rng.integers(-9, 10, (outputs, inputs // groups, *kernel))
        return lambda x: getattr(konvlib, f"conv{axes}d")(x, w, bias, **window), x
    kappa = rng.integers(-3, 4, (outputs, 3, inputs // groups, *kernel))
    pad = str(rng.choice(["basis", "input"]))
    return lambda x: getattr(konvlib, f"konv{axes}d")(x, kappa, bias, pad=pad, **window), x


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_whole(kind):
    rng, done = np.random.default_rng(17), 0
    while done < 40:
        try:
            function, x = _case(rng, kind)
            want = function(x)
        except ValueError:
            continue
        source = Source(x)
        lazy = da.from_array(source, chunks=tuple(_chunks(rng, n) for n in x.shape), asarray=False, meta=x[:0])
        got = function(lazy)
        assert isinstance(got, da.Array)
        assert source.reads == 0
        value = got.compute(scheduler="sync")
        assert value.shape == want.shape == got.shape
        assert value.dtype == want.dtype == got.dtype
        assert (value == want).all(), (x.shape, lazy.chunks)
        done += 1


def test_what_has_no_lazy_form_is_refused_and_not_loaded():
    source = Source(np.ones((1, 1, 8, 8)))
    x = da.from_array(source, chunks=4, asarray=False, meta=np.ones((0,) * 4))
    for function in (
        lambda: konvlib.im2col(x, (2, 2)),
        lambda: konvlib.conv_matrix(x, (8, 8)),
        lambda: konvlib.resample(x, [1, 1], 2),
        lambda: konvlib.conv2d(np.ones((1, 1, 8, 8)), x),
    ):
        with pytest.raises(TypeError, match="Dask array"):
            function()
    assert source.reads == 0


def test_bad_operands_are_refused_by_name():
    x, w = da.ones((1, 1, 8), chunks=4), np.ones((1, 1, 3))
    with pytest.raises(ValueError, match="x must have chunks of known size"):
        konvlib.conv1d(x[:, :, x[0, 0] > 0], w)
    with pytest.raises(TypeError, match="x must hold machine numbers beside Dask arrays, got dtype object"):
        konvlib.conv1d(x.astype(object), w)
    with pytest.raises(ValueError, match="kernel_size must fit the padded input of 8"):
        konvlib.conv1d(x, np.ones((1, 1, 9)))
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="x must be a torch tensor like the other operand"):
        konvlib.conv1d(x, torch.ones(1, 1, 3))


def test_konvlib_imports_no_dask():
    told = "import sys, konvlib; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_graphs_stay_small():
    with dask.config.set(scheduler="sync"):
        y = konvlib.conv2d(da.zeros((1, 1, 10**6, 10**6), chunks=(1, 1, 10**5, 10**5)), np.ones((1, 1, 3, 3)))
    assert len(dict(y.__dask_graph__())) < 100 * 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_sums_of_blocks_are_taken_wide_and_rounded_once(dtype):
    dy = np.random.default_rng(3).integers(0, 9, (3, 2, 400)).astype(dtype)
    dy[0, 0, 0] = 2048  # from here on a sum in float16 would lose ones
    found = konvlib.conv1d_bias_grad(da.from_array(dy, chunks=(2, 1, 37)))
    assert isinstance(found, da.Array)
    assert np.array_equal(found.compute(), konvlib.conv1d_bias_grad(dy))
    assert found.dtype == dtype
