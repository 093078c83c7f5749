"""Konvolution and its modules with ``same_upper`` and ``same_lower``, and with padding wider than the image."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import konvlib
from konvlib import runtime
from konvlib.konvolution.module import Konv1d, Konv2d, Konv3d
from tests.engine import backends, boxes
from tests.engine.oracles import konvolution as oracles
from tests.engine.oracles.paddings import ROOMS, SIDES, pairs_of, windows_of

backend = pytest.fixture(params=backends.of("konvolution"))(lambda request: request.param)


def rows():
    """Geometries with every basis, degrees to 3, and both things that can be padded, by the recipe in PyTorch."""
    for number, (room, side) in enumerate(product([*ROOMS[::9], *ROOMS[-5:]], SIDES)):
        degree, basis, pad = oracles.CHOICES[7 * number % len(oracles.CHOICES)]
        axes = [boxes.Axis(n, k, s, *pair, d) for (n, k, s, d), pair in zip(room, pairs_of(side, room), strict=True)]
        it = oracles.row(axes, boxes.CHANNELS[1 + number % 2], degree, batch=1, basis=basis, pad=pad)
        yield it._replace(options=it.options | {"padding": f"same_{side}"})


def test_it_is_the_recipes_with_that_padding_and_so_are_its_gradients(backend):
    for it in backends.share(backend, list(rows())):
        y = oracles.forward(backend, it)
        assert y.shape == it.y.shape
        assert (y == it.y).all()
        dx, dkappa = oracles.grads(backend, it)
        assert (dx == it.dx).all()
        assert (dkappa == it.dkappa).all()


@pytest.fixture
def by_aten(monkeypatch):
    """The kernels have tests of their own; here their interpreter would only be slow."""
    monkeypatch.setattr(runtime, "INTERPRET", False)


KINDS = {1: Konv1d, 2: Konv2d, 3: Konv3d}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("axes", KINDS)
def test_modules_have_it_at_every_size(by_aten, axes, side):
    """For one axis also compiled: a graph does not keep another size's padding."""
    stride, size = (2, 3, 1)[:axes], (5, 4, 3)[:axes]
    layer = KINDS[axes](2, 3, 4, stride=stride, padding=f"same_{side}", dtype=torch.float64)
    assert f"padding='same_{side}'" in repr(layer)
    torch._dynamo.reset()
    runs = [layer, torch.compile(layer, backend="eager", dynamic=True)] if (axes, side) == (1, "lower") else [layer]
    konv = getattr(konvlib, f"konv{axes}d")
    for more in range(4):
        room = [(n + more, 4, s, 1) for n, s in zip(size, stride, strict=True)]
        x = torch.sin(torch.arange(2.0 * 2 * torch.Size([n for n, *_ in room]).numel(), dtype=torch.float64))
        x = x.reshape(2, 2, *(n for n, *_ in room))
        expected = konv(x.tanh(), layer.kappa, layer.bias, stride=stride, padding=pairs_of(side, room))
        assert expected.shape == (2, 3, *windows_of(room))
        for run in runs:
            assert torch.allclose(run(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["circular", "reflect"])
def test_modules_pad_wider_than_the_image(by_aten, mode):
    layer = Konv1d(
        1, 1, 2, degree=1, basis="monomial", squash="none", padding=7, padding_mode=mode, dtype=torch.float64
    )
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", dynamic=True)
    for size in (9, 3, 2, 1):
        x = torch.arange(1.0, size + 1, dtype=torch.float64).reshape(1, 1, size)
        shown = oracles.padded(x, (boxes.Axis(size, 2, 1, 7, 7, 1),), mode)
        expected = torch.nn.functional.conv1d(shown, layer.kappa[:, 1], layer.bias + layer.kappa[:, 0].sum())
        for run in (layer, compiled):
            assert torch.allclose(run(x), expected, rtol=1e-12, atol=1e-12)


def test_names_that_a_module_does_not_know_are_refused():
    with pytest.raises(ValueError, match="padding must be one of same, same_upper, same_lower, valid, got 'SAME'"):
        Konv2d(2, 3, 3, padding="SAME")
