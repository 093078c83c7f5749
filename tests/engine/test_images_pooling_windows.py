"""Poolings whose windows are large, dilated, or of narrow numbers: values, cost and memory."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

import konvlib
from konvlib import images
from konvlib.images import aten, pooling_arrays
from tests.engine import backends, boxes
from tests.engine.test_images import call
from tests.engine.test_images_pooling import POOL_TEXT, POOLS, pool_options, shows_samples

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("images"))(lambda request: request.param)


def beyond(size, kernel, stride, dilation, before, windows):
    """How far the last window reaches beyond the input."""
    return max((windows - 1) * stride + dilation * (kernel - 1) + 1 - size - before, 0)


def depthwise(x, pool, counted):
    """Sums over windows by PyTorch's convolution with ones, and how many taps count, by that of what counts."""
    _, kernel, stride, pad, dilation, _ = pool
    x = boxes.tensor(x.reshape(-1, 1, x.shape[-1]))
    ones = torch.ones(1, 1, kernel, dtype=torch.float64)
    after = beyond(x.shape[-1], kernel, stride, dilation, pad, pool_windows(pool))
    inside = torch.nn.functional.pad(torch.ones_like(x[:1]), (pad, pad), value=float(counted))
    inside = torch.nn.functional.pad(inside, (0, max(after - pad, 0)))
    shown = torch.nn.functional.pad(x, (pad, max(after, pad)))
    return [torch.nn.functional.conv1d(each, ones, None, stride, 0, dilation).numpy() for each in (shown, inside)]


def pool_windows(pool):
    size, kernel, stride, pad, dilation, ceil_mode = pool
    given = torch.zeros(1, 1, size)
    return torch.nn.functional.max_pool1d(given, kernel, stride, pad, dilation, ceil_mode).shape[-1]


@cache
def dilated():
    """Of multiples of every count, so that means are exact."""
    rows = []
    for row, counted in product([row for row in POOLS if row[3] <= row[1] // 2 and shows_samples(*row)], (False, True)):
        x = boxes.integers(2, 3, row[0]) * 12
        sums, counts = depthwise(x, row, counted)
        windows = pool_windows(row)
        mean = (sums[..., :windows] / counts[..., :windows]).reshape(2, 3, windows)
        rows.append((x, row, counted, sums[..., :windows].reshape(2, 3, windows), mean))
    assert len(rows) == 2 * 678
    return rows


@pytest.mark.verifies("def-images-pooling", box=POOL_TEXT, exact=True)
def test_dilated_means_are_of_what_a_depthwise_layer_sums(backend):
    for x, row, counted, sums, mean in backends.share(backend, dilated()):
        y = backend.avg_pool1d(x, row[1], count_include_pad=counted, **pool_options(row))
        assert y.shape == mean.shape
        assert (y == mean).all()
        y = backend.avg_pool1d(x, row[1], count_include_pad=counted, divisor_override=4, **pool_options(row))
        assert (y == sums / 4).all()


def test_divisors_are_torchs(backend):
    x = boxes.integers(2, 3, 7, 6)
    for kernel, stride, padding, ceil_mode, counted, divisor in product(
        ((2, 3), (3, 2)), ((1, 2), (3, 1)), (0, 1), (False, True), (False, True), (1, 4, 64)
    ):
        expected = torch.nn.functional.avg_pool2d(
            boxes.tensor(x), kernel, stride, padding, ceil_mode, counted, divisor_override=divisor
        )
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": counted}
        assert (backend.avg_pool2d(x, kernel, divisor_override=divisor, **options) == expected.numpy()).all()
    x = boxes.integers(1, 2, 5, 4, 6)
    expected = torch.nn.functional.avg_pool3d(boxes.tensor(x), 3, 2, 1, divisor_override=8).numpy()
    assert (backend.avg_pool3d(x, 3, stride=2, padding=1, divisor_override=8) == expected).all()


def test_axes_with_dilations_of_their_own(backend):
    x = boxes.integers(2, 3, 9, 8)
    y = backend.avg_pool2d(x, (2, 3), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(3, 2), divisor_override=1)
    padded = torch.nn.functional.pad(boxes.tensor(x), (0, 1, 1, 0))
    ones = torch.ones(3, 1, 2, 3, dtype=torch.float64)
    assert (y == torch.nn.functional.conv2d(padded, ones, None, (2, 1), 0, (3, 2), 3).numpy()).all()


def test_divisors_that_are_none(backend):
    for bad, kind in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)):
        for _ in range(2):
            with pytest.raises(kind, match=r"^divisor_override must be "):
                backend.avg_pool1d(np.ones((1, 1, 4)), 2, divisor_override=bad)
    with pytest.raises(ValueError, match=r"^dilation must be at least 1, got 0$"):
        backend.avg_pool1d(np.ones((1, 1, 4)), 2, dilation=0)


def test_halves_are_summed_and_divided_in_single_precision_and_rounded_once(backend):
    """2000 * 64 is no half, nor is a step of 1/32 there."""
    x = np.full((1, 1, 64), 2000, np.float16)
    assert backend.avg_pool1d(x, 64).item() == 2000
    small = np.full((1, 1, 4096), 2.0**-14, np.float16)
    assert backend.avg_pool1d(small, 4096, divisor_override=1).item() == 0.25
    assert backend.avg_pool1d(x[..., :1], 1, divisor_override=2**26).item() == np.float16(2000 / 2**26)
    x = (boxes.integers(2, 3, 90) + 600).astype(np.float16)
    exact = x.astype(np.float64).reshape(2, 3, 10, 9).mean(-1)
    y = backend.avg_pool1d(x, 9)
    assert y.dtype == np.float16
    assert (y == exact.astype(np.float32).astype(np.float16)).all()


def test_byte_orders_are_what_they_hold(exact_backend):
    for order, kind in product("<>", ("f2", "f4", "f8", "i2", "i8", "u4", "c8")):
        x = (boxes.integers(2, 3, 9) % 7).astype(order + kind)
        native = x.astype(kind)
        pairs = [(exact_backend.avg_pool1d(x, 2), exact_backend.avg_pool1d(native, 2))]
        if kind != "c8":
            pairs.append((exact_backend.max_pool1d(x, 2), exact_backend.max_pool1d(native, 2)))
        for given, expected in pairs:
            assert given.dtype == expected.dtype
            assert given.dtype.isnative
            assert (given == expected).all()
    assert exact_backend.avg_pool1d(np.full((1, 1, 64), 2000, ">f2"), 64).item() == 2000


def test_sums_of_integers_are_exact(backend):
    """Beyond what single precision holds, and beyond doubles, where the mean of whole numbers is whole."""
    big = np.array([[[2**30 + 1, 2**30 - 3, 2**29 + 5, 7]]])
    assert backend.avg_pool1d(big, 4).item() == (2**30 + 2**30 + 2**29 + 10) / 4
    x = np.array([[[2**24 + 1, 0, 1, 0]]], np.int32)
    assert backend.avg_pool1d(x, 2).tolist() == [[[2**23 + 0.5, 0.5]]]


def test_sums_of_large_integers_are_of_integers(backend):
    """Terms cancel that no double tells from their neighbours."""
    backends.needs_arrays(backend)
    x = np.array([[[2**60 + 1, -(2**60), 3, 0]]])
    assert backend.avg_pool1d(x, 4).item() == 1
    assert backend.avg_pool1d(np.array([[[2**64 - 1, 2**64 - 1]]], np.uint64), 2).item() == 2.0**64


HUGE = [
    ("max_pool1d", (10,), 10**9, {"ceil_mode": True}, [[[9]]]),
    ("max_pool1d", (10,), 10**9, {"stride": 1, "padding": 5 * 10**8}, [[[9] * 11]]),
    ("avg_pool1d", (10,), 10**9, {"ceil_mode": True, "count_include_pad": False}, [[[4.5]]]),
    ("avg_pool1d", (10,), 10**9, {"ceil_mode": True, "divisor_override": 3}, [[[15]]]),
    ("avg_pool1d", (4,), 10**9, {"stride": 2, "padding": ((5 * 10**8, 5 * 10**8 - 2),), "divisor_override": 1},
     [[[6, 6]]]),
    ("max_pool1d", (10,), 2, {"stride": 2**30, "dilation": 2**29, "ceil_mode": True}, [[[0]]]),
    ("avg_pool2d", (2, 3), (10**9, 2**31 - 1), {"ceil_mode": True, "count_include_pad": False}, [[[[2.5]]]]),
]  # fmt: skip


@pytest.mark.parametrize("row", HUGE, ids=lambda row: f"{row[0]} {row[2]} {row[3]}")
def test_windows_larger_than_any_input_return_at_once(row):
    name, size, kernel, options, expected = row
    x = np.arange(math.prod(size), dtype=np.float64).reshape(1, 1, *size)
    for given in (x, x.astype(np.int64), x.astype(np.float16), torch.from_numpy(x)):
        begin = time.perf_counter()
        y = getattr(konvlib, name)(given, kernel, **options)
        assert time.perf_counter() - begin < 2
        assert y.tolist() == expected


def test_large_windows_are_those_of_a_definition_with_fewer_steps(backend):
    """A window that is the sum of smaller ones: 40 by 40 of 20 by 10, counted by a table of sums."""
    if backends.is_interpreted(backend) or backends.is_definition(backend):
        return
    x = boxes.integers(1, 2, 61, 50)
    table = np.pad(x.cumsum(2).cumsum(3), ((0, 0), (0, 0), (1, 0), (1, 0)))
    sums = table[:, :, 40:, 40:] - table[:, :, :-40, 40:] - table[:, :, 40:, :-40] + table[:, :, :-40, :-40]
    assert (backend.avg_pool2d(x, 40, stride=1, divisor_override=1) == sums).all()
    largest = np.lib.stride_tricks.sliding_window_view(x, (40, 40), (2, 3)).max((-1, -2))
    assert (backend.max_pool2d(x, 40, stride=1) == largest).all()


def test_a_sum_loses_no_digits_to_others_in_the_row():
    """Each mean has the error of its own window alone, a few roundings, wherever large numbers stand beside it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 1, 3000)) * 10.0 ** rng.integers(-12, 12, 3000)
    for kernel, stride in ((3, 1), (100, 1), (777, 5), (1500, 1)):
        y = images.avg_pool1d(x, kernel, stride=stride, divisor_override=1)[0, 0]
        for window, value in enumerate(y):
            terms = x[0, 0, window * stride : window * stride + kernel]
            assert abs(value - math.fsum(terms)) <= kernel.bit_length() * 2.0**-52 * math.fsum(abs(terms))


def test_long_rows_in_several_tiles(backend):
    """Every sample is known, so every output is."""
    if backends.is_definition(backend) or backends.is_interpreted(backend):
        return
    x = np.arange(300_000.0).reshape(1, 1, -1) % 1000
    for kernel, stride, padding in ((5, 1, 2), (3, 7, 0), (9, 2, 4)):
        y, indices = backend.max_pool1d(x, kernel, stride=stride, padding=padding, return_indices=True)
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)), constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded[0, 0], kernel)[::stride]
        assert (y[0, 0] == windows.max(1)).all()
        assert (indices[0, 0] == windows.argmax(1) + np.arange(len(windows)) * stride - padding).all()
        sums = backend.avg_pool1d(x, kernel, stride=stride, padding=padding, divisor_override=1)
        assert (sums[0, 0] == windows.clip(0).sum(1)).all()


def test_tiles_of_any_size_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    for seed, axes in product(range(30), (1, 2, 3)):
        size, kernel = rng.integers(4, 12, axes), rng.integers(1, 5, axes)
        options = {
            "stride": tuple(map(int, rng.integers(1, 4, axes))),
            "padding": tuple(map(int, kernel // 2)),
            "dilation": tuple(map(int, rng.integers(1, 3, axes))),
            "ceil_mode": bool(seed % 2),
        }
        x = rng.integers(0, 9, (2, 2, *size))
        kernel = tuple(map(int, kernel))
        try:
            expected = call(images, "max_pool#d", axes, x, kernel, return_indices=True, **options)
        except ValueError:
            continue
        mean = call(images, "avg_pool#d", axes, x, kernel, divisor_override=1, **options)
        grad = call(konvlib, "avg_pool#d_grad", axes, mean, kernel, input_size=x.shape[2:], **options)
        with monkeypatch.context() as patch:
            patch.setattr(pooling_arrays, "TILE", (1, 5, 30)[seed % 3])
            patch.setattr(pooling_arrays, "NARROW", 1 + seed % 4)
            found = call(images, "max_pool#d", axes, x, kernel, return_indices=True, **options)
            assert all((a == b).all() for a, b in zip(found, expected, strict=True))
            assert (call(images, "avg_pool#d", axes, x, kernel, divisor_override=1, **options) == mean).all()
            again = call(konvlib, "avg_pool#d_grad", axes, mean, kernel, input_size=x.shape[2:], **options)
            assert np.abs(again - grad).max() < 1e-12


def test_tensors_by_pieces_are_those_by_aten(monkeypatch):
    """Forward and backward, at every number of taps up to which ATen is asked."""
    x = boxes.tensor(boxes.integers(2, 3, 9, 8) % 5).requires_grad_()
    for name, padding, ceil_mode in product(("max_pool2d", "avg_pool2d"), (1, ((1, 0), (0, 1))), (False, True)):
        results = []
        for most in (10**6, 0):
            monkeypatch.setattr(aten, "MOST_TAPS", most)
            y = getattr(konvlib, name)(x, (3, 4), stride=(2, 1), padding=padding, ceil_mode=ceil_mode)
            results.append((y, *torch.autograd.grad((y**2).sum(), x)))
        for by_aten, by_pieces in zip(*results, strict=True):
            assert torch.allclose(by_aten, by_pieces, rtol=1e-14, atol=1e-14)


MEASURE = """
import tracemalloc
import numpy as np
import konvlib
x = np.ones({shape}, np.{dtype})
x[..., ::3] = 2
tracemalloc.start()
y = {call}
y = y if isinstance(y, tuple) else (y,)
peak, given = tracemalloc.get_traced_memory()[1] + x.nbytes, x.nbytes * {operands}
assert peak <= 4 * (given + sum(each.nbytes for each in y)) + 256 * 2**20, peak / 2**20
"""
LARGE = [
    ("(1, 1, 6000, 6000)", "uint8", "konvlib.max_pool2d(x, 51, stride=1)", 1),
    ("(1, 1, 6000, 6000)", "uint8", "konvlib.avg_pool2d(x, 51, stride=1)", 1),
    ("(1, 1, 5000, 5000)", "uint8", "konvlib.max_pool2d(x, 3, stride=2, return_indices=True)", 1),
    ("(1, 1, 2 * 10**7)", "uint8", "konvlib.avg_pool1d(x, 10**5, stride=1)", 1),
    ("(1, 1, 2 * 10**7)", "float16", "konvlib.avg_pool1d(x, 10**6, stride=10**3)", 1),
    ("(1, 1, 4000, 4000)", "uint8", "konvlib.max_pool2d_grad(x, x[..., 20:-20, 20:-20], 41, stride=1)", 2),
    ("(1, 1, 3000, 3000)", "float32", "konvlib.avg_pool2d_grad(x, 41, stride=1, input_size=3040)", 1),
    ("(1, 1, 10**7)", "float32", "konvlib.avg_pool1d_grad(x, 10**5, stride=2, input_size=2 * 10**7 + 10**5 - 2)", 1),
]


@pytest.mark.parametrize("row", LARGE, ids=lambda row: f"{row[2]} of {row[1]}")
def test_memory_is_four_times_what_goes_in_and_out_at_most(row):
    """And 256 MB."""
    shape, dtype, called, operands = row
    script = MEASURE.format(shape=shape, dtype=dtype, call=called, operands=operands)
    subprocess.run([sys.executable, "-c", script], check=True)
