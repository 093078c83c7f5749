"""Transposes with ``same_upper`` and ``same_lower``, and with the size of their output in place of an output padding.

Oracles: PyTorch's transposed layers, whole and cut by hand, or told the size; and the adjoint.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from konvlib import images, transposes
from tests.engine import backends, boxes
from tests.engine.mistakes import assert_refused
from tests.engine.oracles.paddings import BOX, PLANES, ROOMS, SIDES, pairs_of, run_onnx
from tests.engine.oracles.transposes import ALGORITHMS

backend = pytest.fixture(params=backends.of("transposes"))(lambda request: request.param)


def cut_by_hand(x, w, room, side, size):
    """PyTorch's whole transpose, of which the padding is cut off before, and zeros are put on where it is too short."""
    function = getattr(torch.nn.functional, f"conv_transpose{len(room)}d")
    _, _, stride, dilation = zip(*room, strict=True)
    y = function(boxes.tensor(x), boxes.tensor(w), None, stride, 0, 0, 1, dilation).numpy()
    pairs = pairs_of(side, [(n, *axis[1:]) for n, axis in zip(size, room, strict=True)])
    y = np.pad(y, [(0, 0), (0, 0), *((0, n) for n in size)])
    return y[(..., *(slice(before, before + n) for (before, _), n in zip(pairs, size, strict=True)))]


def functions(backend, axes):
    return [getattr(backend, name) for name in (f"conv_transpose{axes}d", *ALGORITHMS)]


def test_it_gives_a_stride_of_outputs_for_each_input(backend):
    for room, side in backends.share(backend, list(product(ROOMS, SIDES))):
        size, kernel, stride, dilation = zip(*room, strict=True)
        x, w = boxes.integers(2, 2, *size), boxes.integers(2, 3, *kernel, seed=1)
        outputs = tuple(n * s for n, s in zip(size, stride, strict=True))
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation}
        expected = cut_by_hand(x, w, room, side, outputs)
        for function in functions(backend, len(room)):
            y = function(x, w, **options)
            assert y.shape == (2, 3, *outputs)
            assert (y == expected).all()


def test_it_gives_each_size_that_strides_to_the_input_and_is_the_adjoint_there(backend):
    layers = backends.definition("images")
    for (size, kernel, stride, dilation), side in backends.share(backend, list(product(BOX[::5], SIDES))):
        y, w = boxes.integers(1, 2, size), boxes.integers(2, 3, kernel, seed=1)
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation}
        for wanted in range((size - 1) * stride + 1, size * stride + 1):
            back = backend.conv_transpose1d(y, w, output_size=wanted, **options)
            assert (back == cut_by_hand(y, w, [(size, kernel, stride, dilation)], side, (wanted,))).all()
            x = boxes.integers(1, 3, wanted, seed=2)
            assert (layers.conv1d(x, w, **options) * y).sum() == (x * back).sum()


def test_output_sizes_are_torchs(backend):
    box = product(range(1, 4), range(1, 5), range(1, 4), range(1, 3), range(3))
    for size, kernel, stride, dilation, pad in backends.share(backend, list(box)):
        layer = torch.nn.ConvTranspose1d(2, 3, kernel, stride, pad, dilation=dilation, bias=False, dtype=torch.float64)
        x, w = boxes.integers(2, 2, size), boxes.integers(2, 3, kernel, seed=1)
        layer.weight.data = boxes.tensor(w)
        least = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad
        for wanted in range(max(least, 1), least + stride):
            expected = layer(boxes.tensor(x), [wanted]).detach().numpy()
            options = {"stride": stride, "padding": pad, "dilation": dilation, "output_size": wanted}
            for function in functions(backend, 1):
                y = function(x, w, **options)
                assert y.shape == expected.shape
                assert (y == expected).all()


def test_output_sizes_of_planes_are_torchs(backend):
    x, w, bias = boxes.integers(2, 4, 3, 5), boxes.integers(4, 3, 2, 3, seed=1), boxes.integers(6, seed=2)
    layer = torch.nn.ConvTranspose2d(4, 6, (2, 3), (3, 2), (1, 0), groups=2, dtype=torch.float64)
    layer.weight.data, layer.bias.data = boxes.tensor(w), boxes.tensor(bias)
    for size in product((6, 7, 8), (11, 12)):
        expected = layer(boxes.tensor(x), size).detach().numpy()
        y = backend.conv_transpose2d(x, w, bias, stride=(3, 2), padding=(1, 0), groups=2, output_size=size)
        assert y.shape == expected.shape
        assert (y == expected).all()


def test_overlaps_are_counted_there_too(backend):
    for size, kernel, stride in product(range(1, 4), range(1, 5), range(1, 4)):
        ones = np.ones((1, 1, size), int), np.ones((1, 1, kernel), int)
        given = [{"padding": f"same_{side}"} for side in SIDES]
        given += [{"output_size": (size - 1) * stride + kernel + extra} for extra in range(stride)]
        for options in given:
            counts = backend.overlap_counts(size, kernel, stride=stride, **options)
            assert (counts == transposes.conv_transpose1d(*ones, stride=stride, **options)[0, 0]).all()


def test_what_is_impossible_is_refused_by_name_in_every_backend(backend):
    x, w = np.ones((1, 1, 3)), np.ones((1, 1, 3))
    for options, message in [
        ({"output_size": 9}, "output_size must be 7 to 8, got 9"),
        ({"output_size": 6}, "output_size must be 7 to 8, got 6"),
        ({"output_size": 7, "padding": "same_upper"}, "output_size must be 5 to 6, got 7"),
        (
            {"output_size": 8, "output_padding": 1},
            "output_padding must be 0 where output_size (8,) is given, got (1,)",
        ),
        (
            {"output_padding": 1, "padding": "same_upper"},
            "output_padding must be 0 where padding 'same_upper' is given, got (1,)",
        ),
    ]:
        for function in functions(backend, 1):
            for _ in range(2):
                assert_refused(ValueError, message, function, x, w, stride=2, **options)


def test_there_and_back_again_has_the_size_it_had():
    for (size, kernel, stride, dilation), side in product(PLANES, SIDES):
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation}
        x, w = boxes.integers(1, 1, *size), boxes.integers(1, 1, *kernel, seed=1)
        y = images.conv2d(x, w, **options)
        assert transposes.conv_transpose2d(y, w, output_size=size, **options).shape == x.shape


def test_onnx_runtime_gives_the_same_where_windows_leave_no_gaps():
    """With gaps it gives fewer than ``size * stride`` outputs, which is what ONNX asks for."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    for size, kernel, stride, side in product(range(1, 5), range(1, 6), range(1, 4), SIDES):
        if kernel >= stride:
            x, w = (boxes.integers(2, 2, n).astype("f4") for n in (size, kernel))
            expected = run_onnx(runtime, "ConvTranspose", (x, w), auto_pad=f"SAME_{side.upper()}", strides=[stride])
            y = transposes.conv_transpose1d(x, w, stride=stride, padding=f"same_{side}")
            assert y.shape == expected.shape
            assert (y == expected).all()
