"""What a layer of arrays costs: memory, and time where a way that is far too slow would still be right.

Times are compared with the same call on other operands, the least of several each, so that the machine has no part.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import signal

import konvlib
from konvlib import images

MEASURE = """
import tracemalloc
import numpy as np
from konvlib import images
x, w = np.ones({x}, np.{dtype}), np.ones({w}, np.{dtype})
tracemalloc.start()
y = images.conv{axes}d(x, w, padding={padding}, stride={stride}, groups={groups})
peak = tracemalloc.get_traced_memory()[1] + x.nbytes + w.nbytes
most = {most} or 4 * (x.nbytes + w.nbytes + y.nbytes) + 256 * 2**20
assert peak <= most, (peak / 2**20, most / 2**20)
"""
"""NumPy reports its arrays to tracemalloc; a process of its own finds no memory in use."""

LARGE = [
    ("float32", (1, 1, 2048, 2048), (1, 1, 15, 15), 1, None),
    ("float64", (1, 1, 2048, 2048), (1, 1, 15, 15), 1, None),
    ("uint8", (1, 1, 2048, 2048), (1, 1, 15, 15), 1, None),
    ("float32", (1, 1, 2048, 2048), (1, 1, 5, 5), 1, None),
    ("float32", (1, 1, 2048, 2048), (32, 1, 15, 15), 4, None),
    ("float32", (1, 3, 1024, 1024), (16, 3, 7, 7), 1, None),
    ("float32", (8, 64, 112, 112), (64, 64, 3, 3), 1, None),
    ("float32", (1, 32, 512, 512), (32, 1, 31, 31), 1, None),
    ("uint8", (1, 1, 6000, 6000), (1, 1, 3, 3), 1, 120),
    ("uint8", (1, 1, 6000, 6000), (1, 1, 31, 31), 1, 180),
    ("float16", (1, 3, 3000, 3000), (2, 3, 3, 3), 1, None),
    ("float64", (1, 1, 25_600_000), (1, 1, 3), 50_000, 220),
    ("uint8", (1, 1, 100_000_000), (1, 1, 5), 1, 260),
    ("float64", (1, 1, 1500, 1500), (1, 1, 1500, 1500), 1, None),
    ("float32", (1, 64, 256, 256), (64, 64, 31, 31), 1, None),
]
"""Dtype, shapes and stride, and the megabytes at most where those are fewer than four times all operands and 256."""


@pytest.mark.parametrize(("dtype", "x", "w", "stride", "megabytes"), LARGE)
def test_layers_need_four_times_the_memory_of_their_operands_at_most(dtype, x, w, stride, megabytes):
    """And 256 MB, with input and output among it; layers with channels, strides and large kernels too."""
    padding = w[-1] - 1 if w[2:] == x[2:] else w[-1] // 2
    options = {"padding": padding, "stride": stride, "groups": x[1] // w[1], "axes": len(x) - 2}
    script = MEASURE.format(dtype=dtype, x=x, w=w, most=f"{megabytes} * 2**20" if megabytes else None, **options)
    subprocess.run([sys.executable, "-c", script], check=True)


def seconds(call, times=3):
    """The least of some times."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begin)
    return min(spent)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding"),
    [
        ((1, 1, 300_000), (1, 1, 30_000), 100),
        ((2, 3, 150, 160), (4, 3, 21, 21), 10),
        ((1, 1, 700, 800), (1, 1, 3, 3), 1),
        ((1, 32, 60, 50), (32, 32, 3, 3), 1),
    ],
)
def test_a_sample_that_is_not_finite_costs_ten_times_the_call_at_most(x_shape, w_shape, padding, bad):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    convolve = images.conv1d if len(x_shape) == 3 else images.conv2d
    clean, usual = convolve(x, w, padding=padding), seconds(lambda: convolve(x, w, padding=padding))
    for operand in (x, w):
        place = tuple(n // 3 for n in operand.shape)
        kept, operand[place] = operand[place], bad
        y = convolve(x, w, padding=padding)
        assert not np.isfinite(y).all()
        assert seconds(lambda: convolve(x, w, padding=padding)) < 10 * usual
        if operand is x:
            pairs = zip(place[2:], w_shape[2:], strict=True)
            reached = tuple(slice(max(0, p + padding - k + 1), p + padding + 1) for p, k in pairs)
            hit = np.zeros(y.shape, bool)
            hit[(place[0], slice(None), *reached)] = True
            assert np.isfinite(y).tolist() == (~hit).tolist()
            assert np.abs(y[~hit] - clean[~hit]).max() < 1e-10 * np.abs(clean).max()
        operand[place] = kept


@pytest.mark.slow
def test_long_integers_are_convolved_as_quickly_as_sequences():
    rng = np.random.default_rng(1)
    x, w = rng.integers(-1000, 1000, 200_000), rng.integers(-1000, 1000, 20_000)
    y = images.conv1d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis])
    assert y.dtype == np.int64
    assert (y[0, 0] == konvlib.correlate(x, w)).all()
    ours = seconds(lambda: images.conv1d(x[np.newaxis, np.newaxis], w[np.newaxis, np.newaxis]))
    assert ours < 5 * seconds(lambda: konvlib.correlate(x, w, method="fft"))


def test_large_integer_kernels_wrap_as_narrow_integers_do():
    rng = np.random.default_rng(2)
    x, w = rng.integers(0, 256, (2, 3, 90, 80), np.uint8), rng.integers(0, 256, (4, 3, 41, 39), np.uint8)
    wide = images.conv2d(x.astype(np.int64), w.astype(np.int64))
    pairs = zip(x[0].astype(int), w[0].astype(int), strict=True)
    assert (wide[0, 0] == sum(signal.correlate(*pair, "valid", "direct") for pair in pairs)).all()
    assert (images.conv2d(x, w) == wide.astype(np.uint8)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex64])
def test_a_kernel_across_an_image_needs_no_products_with_padding(dtype):
    """A column and a row, with their outer product. It takes a thousand times the products with padding."""
    column, row = np.arange(1000).astype(dtype), np.arange(2, 1002).astype(dtype)
    x, w = column[np.newaxis, np.newaxis, :, np.newaxis], row[np.newaxis, np.newaxis, np.newaxis, ::-1]
    y = images.conv2d(x, w, padding=(0, 999))
    assert (y[0, 0] == np.multiply.outer(column, row)).all()
    outer = seconds(lambda: np.multiply.outer(column, row).copy(), 5)
    assert seconds(lambda: images.conv2d(x, w, padding=(0, 999)), 5) < 40 * outer


@pytest.mark.slow
def test_an_image_correlates_with_itself_as_quickly_as_in_scipy():
    """Its spectrum has more samples than are transformed at once where there are many kernels."""
    x = np.random.default_rng(3).standard_normal((2200, 2100))
    expected = signal.fftconvolve(x, x[::-1, ::-1])
    call = lambda: images.conv2d(x[np.newaxis, np.newaxis], x[np.newaxis, np.newaxis], padding=(2199, 2099))  # noqa: E731
    assert np.abs(call()[0, 0] - expected).max() < 1e-8
    assert seconds(call, 1) < 3 * seconds(lambda: signal.fftconvolve(x, x[::-1, ::-1]), 1)
