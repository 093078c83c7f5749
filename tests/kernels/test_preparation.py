"""What Konvolution by a halo takes besides samples, weights and what degree 0 adds: right, and in one launch."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import konvlib
from konvlib import geometry
from konvlib.geometry import conv_geometry, konv_geometry
from konvlib.konvolution import aten, plans, tensors
from tests.engine import backends
from tests.kernels.halos import launches_of, packed
from tests.kernels.operators import integers, poisoned, running

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, preparation
from tests.kernels.emulated_gluon import Emulated

naive = backends.definition("konvolution")

LAYERS = {  # size, kernel, options
    "square": ((14, 14), (3, 3), {"padding": 1}),
    "even": ((9, 12), (4, 2), {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "apart": ((13, 12), (2, 5), {"padding": (3, 4), "dilation": (3, 2)}),
    "small": ((3, 2), (3, 5), {"padding": (1, 2)}),
    "points": ((5, 4), (1, 1), {"stride": 2}),
    "stride": ((12, 13), (7, 3), {"padding": (3, 1), "stride": 2}),
    "far": ((4, 5), (3, 3), {"padding": 4, "stride": (2, 1)}),
    "one axis": ((33,), (7,), {"padding": 3, "dilation": 2}),
    "one axis, stride": ((16,), (5,), {"padding": 2, "stride": 2}),
    "unpadded": ((8, 8), (3, 3), {}),
}


@pytest.mark.parametrize(("name", "masked"), list(product(LAYERS, [True, False])))
@pytest.mark.parametrize(("dtype", "channels"), [(torch.float16, 80), (torch.bfloat16, 130)], ids=str)
def test_weights_and_what_degree_0_adds_are_exact(name, masked, dtype, channels):
    size, kernel, options = LAYERS[name]
    layer = conv_geometry((2, channels, *size), (5, channels, *kernel), axes=len(size), **options)
    walk = halo.walk_of(layer)
    with running("kernel") as device, poisoned():
        kappa = integers((5, 4, channels, *kernel), device, dtype=dtype)
        last = kappa.movedim(2, -1).contiguous().movedim(-1, 2)
        for given, bias in ((kappa, None), (last, integers((5,), device, dtype=dtype, seed=1))):
            w, added = preparation.prepared(given[:, 1:], layer, walk, first=given[:, :1], bias=bias, masked=masked)
            assert torch.equal(w, packed(kappa[:, 1:], walk))
            known = konv_geometry(layer.input_shape, kappa.shape, axes=len(size), **options)
            plan = plans.plan_of(known, "monomial")._replace(masked=masked)
            expected = aten.degree_0(kappa[:, :1], bias, plans.constants_of(plan, kappa.new_ones(1, 1, *size)))
            kinds = [
                torch.arange(n).clamp(max=ends.first) + (torch.arange(n) - ends.last).clamp(min=0)
                for n, ends in zip(_by_axis(layer.output_size, walk), added[1:], strict=True)
            ]
            shown = added.table[kinds[0].to(device)][:, kinds[1].to(device)]
            assert added.table.shape[:2] == tuple(int(kind.max()) + 1 for kind in kinds)
            if expected.dim() > 1:
                expected = expected.unsqueeze(-1) if walk.columns is None else expected.movedim(1 + walk.rows, 1)
                assert torch.equal(shown, expected.movedim(0, -1))
            else:
                assert torch.equal(shown, expected.expand(shown.shape))


@pytest.mark.parametrize(("width", "degrees", "channels"), [(16, 4, 16), (16, 3, 24), (32, 5, 40)])
def test_weights_with_degrees_side_by_side_are_exact(width, degrees, channels):
    """Also where degrees or channels leave columns empty: they are zero."""
    for name in ("square", "even", "stride", "one axis"):
        size, kernel, options = LAYERS[name]
        layer = conv_geometry((2, channels, *size), (2, channels, *kernel), axes=len(size), **options)
        with running("kernel") as device, poisoned():
            kappa = integers((2, degrees, channels, *kernel), device, dtype=torch.bfloat16)
            w, _ = preparation.prepared(kappa, layer, halo.walk_of(layer), width=width)
        assert torch.equal(w, packed(kappa, halo.walk_of(layer), width))


def _by_axis(values, walk):
    return values[walk.rows], 1 if walk.columns is None else values[walk.columns]


@pytest.fixture
def emulated(monkeypatch):
    """Konvolution by a halo on this machine."""
    monkeypatch.setattr(halo, "konv_halo_kernel", Emulated(halo.konv_halo_kernel))
    monkeypatch.setattr(halo, "serves", lambda x, layer: halo.fits(layer, x.dtype))
    with running("kernel"):
        yield


WHOLE = [(mode, "basis") for mode in geometry.PADDING_MODES] + [("zeros", "input")]


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
@pytest.mark.parametrize(("mode", "pad"), WHOLE)
@pytest.mark.parametrize(("axes", "basis"), [(1, "chebyshev2"), (2, "monomial")])
def test_a_whole_layer_and_its_gradients(emulated, mode, pad, axes, basis):
    x = integers((2, 48, 7, 6)[: 2 + axes], "cpu", dtype=torch.float16).clamp(-1, 1).requires_grad_()
    kappa = integers((64, 3, 48, 3, 2)[: 3 + axes], "cpu", dtype=torch.float16, seed=1).clamp(-1, 1).requires_grad_()
    bias = integers((64,), "cpu", dtype=torch.float16, seed=2).requires_grad_()
    options = {"axes": axes, "padding": (1, 2)[:axes], "padding_mode": mode, "pad": pad}
    given = konv_geometry(x.shape, kappa.shape, bias.shape, **options)
    with poisoned():
        y = tensors.konv(x, kappa, bias, given, basis)
    assert y.grad_fn is not None
    leaves = [tensor.detach().double().requires_grad_() for tensor in (x, kappa, bias)]
    with running("aten"):
        exact = tensors.konv(*leaves, given, basis)
        dy = integers(y.shape, "cpu", dtype=torch.float16, seed=3).clamp(-1, 1)
        expected = torch.autograd.grad(exact, leaves, dy.double())
    assert torch.equal(y, exact.half())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halo, "serves", lambda x, layer: False)
        for ours, theirs in zip(torch.autograd.grad(y, (x, kappa, bias), dy), expected, strict=True):
            assert torch.equal(ours, theirs.half())


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="launches are counted, not made")
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_call_is_two_launches(monkeypatch, emulated, padding, grad, stride):
    x = torch.ones(2, 64, 9, 9, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    layer = konvlib.Konv2d(64, 64, 3, padding=padding, stride=stride, dtype=x.dtype).requires_grad_(grad)
    names = launches_of(monkeypatch, lambda: layer(x), halo=(halo, "konv_halo_kernel"))
    assert names == ["prepare", "halo"]
