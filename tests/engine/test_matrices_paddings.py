"""The layer as a matrix with ``same_upper`` and ``same_lower``, whose padding is found by trying."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
import torch

from tests.engine import backends, boxes
from tests.engine.oracles.paddings import ROOMS, SIDES, pairs_of, windows_of

backend = pytest.fixture(params=backends.of("matrices"))(lambda request: request.param)
layers = backends.definition("images")
ROWS = list(product([*ROOMS[::4], *ROOMS[-5:]], SIDES))


def test_the_matrix_is_the_layers(backend):
    for room, side in backends.share(backend, ROWS):
        size, kernel, stride, dilation = zip(*room, strict=True)
        x, w = boxes.integers(1, 2, *size), boxes.integers(4, 1, *kernel, seed=1)
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation, "groups": 2}
        matrix = backend.conv_matrix(w, (2, *size), **options)
        assert matrix.shape == (4 * prod(windows_of(room)), 2 * prod(size))
        y = getattr(layers, f"conv{len(room)}d")(x, w, **options | {"padding": pairs_of(side, room)})
        assert (matrix @ x.ravel() == y.ravel()).all()


def test_columns_are_torchs_with_that_padding_and_so_is_their_adjoint(backend):
    for room, side in backends.share(backend, ROWS):
        size, kernel, stride, dilation = zip(*room, strict=True)
        x, pairs = boxes.integers(2, 3, *size), pairs_of(side, room)
        padded = torch.nn.functional.pad(boxes.tensor(x), [n for pair in pairs[::-1] for n in pair])
        for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
            padded = padded.unfold(axis, d * (k - 1) + 1, s)[..., ::d]  # each axis leaves its taps at the end
        count = len(room)
        order = 0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count)
        expected = padded.permute(order).reshape(2, 3 * prod(kernel), -1).numpy()
        options = {"stride": stride, "padding": f"same_{side}", "dilation": dilation}
        cols = backend.im2col(x, kernel, **options)
        assert cols.shape == expected.shape
        assert (cols == expected).all()
        given = boxes.integers(*cols.shape, seed=1)
        back = backend.col2im(given, size, kernel, **options)
        assert back.shape == x.shape
        assert (back * x).sum() == (given * cols).sum()
        assert (back == backend.col2im(given, size, kernel, **options | {"padding": pairs})).all()


def test_the_layer_by_columns_has_it_too(backend):
    x, w = boxes.integers(2, 4, 7, 6), boxes.integers(6, 2, 3, 4, seed=1)
    for side, pairs in {"upper": ((1, 1), (1, 2)), "lower": ((1, 1), (2, 1))}.items():
        y = backend.conv2d_im2col(x, w, np.arange(6), stride=(2, 1), padding=f"same_{side}", groups=2)
        assert (y == layers.conv2d(x, w, np.arange(6), stride=(2, 1), padding=pairs, groups=2)).all()
