"""Gradients of layers and poolings with ``same_upper`` and ``same_lower``, whose padding is found by trying."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.engine import backends, boxes
from tests.engine.oracles.gradients import call, torch_grads
from tests.engine.oracles.paddings import BOX, ROOMS, SIDES, pair_of, pairs_of, windows_of

backend = pytest.fixture(params=backends.of("gradients"))(lambda request: request.param)


def test_gradients_of_layers_are_torchs_with_that_padding(backend):
    for room, side in backends.share(backend, list(product([*ROOMS[::3], *ROOMS[-5:]], SIDES))):
        size, kernel, stride, dilation = zip(*room, strict=True)
        axes = [boxes.Axis(n, k, s, *pair, d) for (n, k, s, d), pair in zip(room, pairs_of(side, room), strict=True)]
        x, w = boxes.integers(2, 2, *size), boxes.integers(4, 1, *kernel, seed=1)
        dy = boxes.integers(2, 4, *windows_of(room), seed=2)
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation, "groups": 2}
        expected_dx, expected_dw = torch_grads(x, w, dy, axes, groups=2)
        assert (call(backend, "conv#d_input_grad", len(room), dy, w, input_size=size, **options) == expected_dx).all()
        assert (
            call(backend, "conv#d_weight_grad", len(room), x, dy, kernel_size=kernel, **options) == expected_dw
        ).all()


def test_gradients_of_poolings_go_to_each_windows_own_samples(backend):
    for (size, kernel, stride, dilation), side in backends.share(backend, list(product(BOX, SIDES))):
        before, _ = pair_of(side, size, kernel, stride, dilation)
        starts = [number * stride - before for number in range(-(-size // stride))]
        windows = [[start + dilation * tap for tap in range(kernel)] for start in starts]
        shown = [[place for place in window if 0 <= place < size] for window in windows]
        x, dy = boxes.integers(size) % 3, boxes.integers(len(starts), seed=1) * 12
        options = {"stride": stride, "padding": f"same_{side}"}
        given, grad = x[np.newaxis, np.newaxis], dy[np.newaxis, np.newaxis]
        if all(shown):
            expected = [0] * size
            for window, value in zip(shown, dy, strict=True):
                expected[max(window, key=lambda place: x[place])] += value  # the first of the largest
            dx = backend.max_pool1d_grad(given, grad, kernel, dilation=dilation, **options)
            assert dx[0, 0].tolist() == expected
        for counted in (False, True) if dilation == 1 else ():
            expected = [0] * size
            for window, value in zip(shown, dy, strict=True):
                for place in window:
                    expected[place] += value / (kernel if counted else len(window))
            dx = backend.avg_pool1d_grad(grad, kernel, input_size=size, count_include_pad=counted, **options)
            assert dx[0, 0].tolist() == expected


def test_gradients_of_poolings_of_planes_and_cubes_are_those_with_that_padding(backend):
    for size, kernel, stride in [((5, 6), (3, 2), (2, 3)), ((4, 3, 5), (2, 3, 4), (3, 1, 2))]:
        axes, x = len(size), boxes.integers(2, 3, *size)
        room = [(n, k, s, 1) for n, k, s in zip(size, kernel, stride, strict=True)]
        dy = boxes.integers(2, 3, *windows_of(room), seed=1) * 144
        for side in SIDES:
            named, given = ({"stride": stride, "padding": p} for p in (f"same_{side}", pairs_of(side, room)))
            of_max = [call(backend, "max_pool#d_grad", axes, x, dy, kernel, **options) for options in (named, given)]
            assert (of_max[0] == of_max[1]).all()
            of_mean = [
                call(backend, "avg_pool#d_grad", axes, dy, kernel, input_size=size, **options)
                for options in (named, given)
            ]
            assert (of_mean[0] == of_mean[1]).all()
