"""Layers and poolings with ``same_upper`` and ``same_lower``, and layers with padding wider than the image.

Oracles: PyTorch's layers on an input that is padded by hand, with padding found by trying; windows written out; and JAX
and ONNX Runtime, whose names these are, where they are installed.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from konvlib import images
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import pad
from tests.engine.oracles.paddings import BOX, BOX_TEXT, ROOMS, SIDES, pair_of, pairs_of, run_onnx, windows_of

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)


def call(backend, name, axes, *args, **options):
    return getattr(backend, name.replace("#", str(axes)))(*args, **options)


def options_of(room):
    _, _, strides, dilations = zip(*room, strict=True)
    return {"stride": strides, "dilation": dilations}


def by_torch(x, w, room, pairs):
    """PyTorch's layer of an input padded with zeros."""
    convolve, options = getattr(torch.nn.functional, f"conv{len(room)}d"), options_of(room)
    padded = torch.nn.functional.pad(boxes.tensor(x), [side for pair in pairs[::-1] for side in pair])
    return convolve(padded, boxes.tensor(w), None, options["stride"], 0, options["dilation"]).numpy()


@pytest.mark.verifies("thm-images-same", box=f"{BOX_TEXT}; two and three axes", exact=True)
def test_layers_are_torchs_with_that_padding(backend):
    for room, side in backends.share(backend, list(product(ROOMS, SIDES))):
        x = boxes.integers(2, 2, *(size for size, *_ in room))
        w = boxes.integers(3, 2, *(kernel for _, kernel, *_ in room), seed=1)
        y = call(backend, "conv#d", len(room), x, w, padding=f"same_{side}", **options_of(room))
        assert y.shape == (2, 3, *windows_of(room))
        assert (y == by_torch(x, w, room, pairs_of(side, room))).all()


def test_groups_bias_and_padding_modes_go_with_it(backend):
    x, w, bias = boxes.integers(2, 4, 7, 6), boxes.integers(6, 2, 3, 4, seed=1), boxes.integers(6, seed=2)
    for mode, (side, pairs) in product(
        ("zeros", "reflect", "replicate", "circular"),
        {"upper": ((1, 1), (1, 2)), "lower": ((1, 1), (2, 1))}.items(),
    ):
        options = {"groups": 2, "stride": (2, 1), "padding_mode": mode}
        y = backend.conv2d(x, w, bias, padding=f"same_{side}", **options)
        assert (y == backend.conv2d(x, w, bias, padding=pairs, **options)).all()
        assert y.shape == (2, 6, 4, 6)


def windows(x, size, kernel, stride, dilation, before):
    """The samples that each window of one axis shows."""
    starts = [number * stride - before for number in range(-(-size // stride))]
    places = [[start + dilation * tap for tap in range(kernel)] for start in starts]
    return [[x[place] for place in window if 0 <= place < size] for window in places]


def test_poolings_take_each_windows_own_samples(backend):
    rows = list(product(BOX, SIDES))
    for (size, kernel, stride, dilation), side in backends.share(backend, rows):
        x = boxes.integers(size) * 12  # every mean of up to four samples is a whole number
        before, _ = pair_of(side, size, kernel, stride, dilation)
        shown = windows(x, size, kernel, stride, dilation, before)
        given, options = x[np.newaxis, np.newaxis], {"stride": stride, "padding": f"same_{side}"}
        if all(shown):
            y = backend.max_pool1d(given, kernel, dilation=dilation, **options)
            assert y[0, 0].tolist() == [max(window) for window in shown]
        if dilation == 1:
            y = backend.avg_pool1d(given, kernel, count_include_pad=False, **options)
            assert y[0, 0].tolist() == [sum(window) / len(window) for window in shown]
            y = backend.avg_pool1d(given, kernel, **options)
            assert y[0, 0].tolist() == [sum(window) / kernel for window in shown]


def test_dilated_poolings_are_padded_by_half_of_what_a_window_covers(backend):
    """More than half of its taps, which is as much as PyTorch takes."""
    box = [
        (size, kernel, stride, dilation, pair, ceil)
        for size, kernel, stride, dilation in product(range(1, 8), range(2, 5), range(1, 4), range(2, 4))
        for pair in product(range(dilation * (kernel - 1) // 2 + 2), repeat=2)
        for ceil in (False, True)
        if kernel // 2 < max(pair) <= (dilation * (kernel - 1) + 1) // 2
    ]
    done = 0
    for size, kernel, stride, dilation, (before, after), ceil in backends.share(backend, box):
        x, covered = boxes.integers(size) - 20, dilation * (kernel - 1) + 1
        starts = range(-before, size, stride)
        whole = [start for start in starts if start + covered <= size + after]
        hanging = [start for start in starts if start - stride + covered < size + after]
        taken = (starts[:1] if not whole else hanging) if ceil else whole
        shown = [[x[i] for i in range(start, start + covered, dilation) if 0 <= i < size] for start in taken]
        options = {"stride": stride, "padding": [(before, after)], "dilation": dilation, "ceil_mode": ceil}
        if not whole or not all(shown):
            continue
        y = backend.max_pool1d(x[np.newaxis, np.newaxis], kernel, **options)
        assert y[0, 0].tolist() == [max(window) for window in shown]
        done += 1
    assert done > len(backends.share(backend, box)) // 4


def test_poolings_of_planes_and_cubes_pool_axis_by_axis(backend):
    """Largest of largest and, of sums, sums; where no padding counts less than other samples."""
    for size, kernel, stride in [((5, 6), (3, 2), (2, 3)), ((4, 3, 5), (2, 3, 4), (3, 1, 2))]:
        axes, x = len(size), boxes.integers(2, 3, *size) * 144
        for side in SIDES:
            y = call(backend, "max_pool#d", axes, x, kernel, stride=stride, padding=f"same_{side}")
            mean = call(backend, "avg_pool#d", axes, x, kernel, stride=stride, padding=f"same_{side}")
            largest, total = x, x
            for axis, (n, k, s) in enumerate(zip(size, kernel, stride, strict=True), start=2):
                before, _ = pair_of(side, n, k, s, 1)

                def pooled(by, given, axis=axis, n=n, k=k, s=s, before=before):
                    rows = windows(np.arange(n), n, k, s, 1, before)
                    return np.stack([by(given.take(row, axis), axis=axis) for row in rows], axis)

                largest, total = pooled(np.max, largest), pooled(np.sum, total)
            assert (y == largest).all()
            assert (mean == total / np.prod(kernel)).all()


@pytest.mark.verifies("def-padding", "eq-images-modes", box="padding up to five times as wide as the image", exact=True)
def test_layers_with_padding_wider_than_the_image_are_torchs(backend):
    box = list(product(("circular", "reflect"), (1, 2, 3, 4), (0, 1, 5, 9, 15), (0, 3, 4, 14)))
    for mode, size, before, after in backends.share(backend, box):
        axes = boxes.Axis(size, 2, 2, before, after, 1), boxes.Axis(3, 2, 1, after % 8, before % 7, 1)
        if not all(axis.fits for axis in axes):
            continue
        x, w = boxes.integers(2, 2, size, 3), boxes.integers(3, 2, 2, 2, seed=1)
        expected = torch.nn.functional.conv2d(pad(boxes.tensor(x), axes, mode), boxes.tensor(w), stride=(2, 1))
        y = backend.conv2d(x, w, padding_mode=mode, **boxes.options(*axes))
        assert (y == expected.numpy()).all()


def test_the_largest_padding_of_the_smallest_image_takes_no_time():
    """As many steps as the logarithm of its width, not one for each sample."""
    for mode, size in product(("circular", "reflect"), (1, 2, 3)):
        x, w = np.arange(1.0, size + 1)[np.newaxis, np.newaxis], np.ones((1, 1, 1))
        y = images.conv1d(x, w, padding=100_000, padding_mode=mode)
        dtype = torch.float64
        z = images.conv1d(
            torch.tensor(x, dtype=dtype), torch.ones(1, 1, 1, dtype=dtype), padding=100_000, padding_mode=mode
        )
        assert (y == z.numpy()).all()
        assert y.shape == (1, 1, 200_000 + size)


def test_jax_places_same_so():
    lax = pytest.importorskip("jax").lax
    for room, side in product([*ROOMS[::13], *ROOMS[-5:]], SIDES):
        x, w = (boxes.integers(2, 2, *sizes).astype("f4") for sizes in list(zip(*room, strict=True))[:2])
        options = options_of(room)
        name = {"upper": "SAME", "lower": "SAME_LOWER"}[side]
        y = lax.conv_general_dilated(x, w, options["stride"], name, rhs_dilation=options["dilation"])
        assert (call(images, "conv#d", len(room), x, w, padding=f"same_{side}", **options) == np.asarray(y)).all()


def test_onnx_names_and_places_same_so():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    for room, side in product([*ROOMS[::5], *ROOMS[-5:]], SIDES):
        size, kernel, stride, dilation = (list(each) for each in zip(*room, strict=True))
        x, w = (boxes.integers(2, 2, *sizes).astype("f4") for sizes in (size, kernel))
        given = {"auto_pad": f"SAME_{side.upper()}", "strides": stride}
        ours = {"stride": stride, "padding": f"same_{side}"}
        if set(dilation) == {1}:  # ONNX Runtime refuses to dilate
            expected = run_onnx(runtime, "Conv", (x, w), dilations=dilation, **given)
            assert (call(images, "conv#d", len(room), x, w, dilation=dilation, **ours) == expected).all()
        if any(s > k for s, k in zip(stride, kernel, strict=True)):  # its poolings refuse gaps
            continue
        expected = run_onnx(runtime, "MaxPool", (x,), kernel_shape=kernel, **given)
        assert (call(images, "max_pool#d", len(room), x, kernel, **ours) == expected).all()
        for counted in (True, False):
            expected = run_onnx(
                runtime, "AveragePool", (x * 2520,), kernel_shape=kernel, count_include_pad=counted, **given
            )
            y = call(images, "avg_pool#d", len(room), x * 2520, kernel, count_include_pad=counted, **ours)
            assert np.allclose(y, expected, rtol=1e-6)
