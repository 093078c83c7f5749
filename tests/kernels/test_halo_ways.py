"""The other forms of Konvolution by a halo as ways to compute it: when they are taken, what they compute and launch."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

import konvlib
from konvlib.geometry import conv_geometry, konv_geometry
from konvlib.konvolution import tensors
from konvlib.layers import autotune
from konvlib.layers.polynomials import Expansion
from tests.engine import backends
from tests.kernels.halos import Named, launches_of, operands
from tests.kernels.operators import integers, poisoned, running

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo_balanced, halo_beside, ways
from tests.kernels.emulated_gluon import Emulated


class Way(NamedTuple):
    """A form's module, its kernels, and the channels in and out, and the degree, of a layer that it serves."""

    module: Any
    kernels: tuple[str, ...]
    inputs: int
    outputs: int
    degree: int


WAYS = {
    "beside": Way(halo_beside, ("konv_beside_kernel",), 16, 9, 4),
    "balanced": Way(halo_balanced, ("konv_balanced_kernel", "add_shares_kernel"), 50, 70, 2),
}


@pytest.fixture
def served(monkeypatch):
    """Konvolution on this machine, of five multiprocessors, each form serving what fits it."""
    monkeypatch.setattr(autotune, "multiprocessors", lambda x: 5)
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(halo_beside, "serves", lambda x, layer, degrees: halo_beside.fits(layer, x.dtype, degrees))
    monkeypatch.setattr(halo_balanced, "serves", lambda x, layer, degrees: halo_balanced.fits(layer, x.dtype))
    with running("kernel"):
        yield


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
@pytest.mark.parametrize(("axes", "basis", "pad"), [(1, "chebyshev2", "basis"), (2, "monomial", "input")])
@pytest.mark.parametrize("name", WAYS)
def test_a_whole_layer_goes_this_way_only_where_it_was_measured(served, monkeypatch, name, axes, basis, pad):
    module, kernels, inputs, outputs, degree = WAYS[name]
    emulated = [Emulated(getattr(module, kernel)) for kernel in kernels]
    for kernel, stand_in in zip(kernels, emulated, strict=True):
        monkeypatch.setattr(module, kernel, stand_in)
    x = integers((2, inputs, 7, 6)[: 2 + axes], "cpu", dtype=torch.float16).clamp(-1, 1)
    kappa = integers((outputs, degree + 1, inputs, 3, 2)[: 3 + axes], "cpu", dtype=torch.float16, seed=1).clamp(-1, 1)
    bias = integers((outputs,), "cpu", dtype=torch.float16, seed=2)
    options = {"axes": axes, "padding": (1, 2)[:axes], "pad": pad}
    given = konv_geometry(x.shape, kappa.shape, bias.shape, **options)
    with poisoned():
        unmeasured = tensors.konv(x, kappa, bias, given, basis)
        assert not any(kernel.runs for kernel in emulated)
        monkeypatch.setattr(autotune, "_known", lambda y: Named(name))
        y = tensors.konv(x, kappa, bias, given, basis)
    # Of shares there are sums, but on one axis there is one turn.
    assert [kernel.runs for kernel in emulated] == [1, int(axes == 2)][: len(kernels)]
    arrays = [tensor.double().numpy() for tensor in (x, kappa, bias)]
    naive = getattr(backends.definition("konvolution"), f"konv{axes}d")
    exact = torch.from_numpy(naive(*arrays, basis=basis, padding=options["padding"], pad=pad))
    assert torch.equal(y, exact.half())
    assert torch.equal(unmeasured, y)


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="launches are counted, not made")
@pytest.mark.parametrize(
    ("name", "channels", "processors", "launched"),
    [
        ("beside", (16, 32), 5, ["konv_beside_kernel"]),
        ("balanced", (64, 72), 5, ["konv_balanced_kernel", "add_shares_kernel"]),
        ("balanced", (64, 72), 1, ["konv_balanced_kernel"]),
    ],
)
def test_a_call_is_two_launches_and_one_for_the_sums(served, monkeypatch, name, channels, processors, launched):
    """What degree 0 adds is found by the kernel that packs the coefficients, as for one degree to an atom."""
    monkeypatch.setattr(autotune, "_known", lambda y: Named(name))
    monkeypatch.setattr(autotune, "multiprocessors", lambda x: processors)
    x = torch.ones(2, channels[0], 9, 9, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    layer = konvlib.Konv2d(*channels, 3, degree=4, padding=1, dtype=x.dtype)
    kernels = {kernel: (WAYS[name].module, kernel) for kernel in WAYS[name].kernels}
    assert launches_of(monkeypatch, lambda: layer(x), **kernels) == ["prepare", *launched]


@pytest.mark.parametrize("tune", ["all", "1"])
@pytest.mark.parametrize(
    ("name", "channels", "seconds", "chosen"),
    [
        ("beside", (16, 24), [3.0, 3, 2, 1], "beside"),
        ("beside", (16, 24), [3, 3, 1, 0.95], "library"),
        ("balanced", (64, 72), [3.0, 3, 1, 0.95], "balanced"),
        ("balanced", (64, 72), [3, 3, 1, 0.99], "library"),
    ],
)
def test_it_is_measured_where_all_is_beside_the_way_that_is_known(monkeypatch, tune, name, channels, seconds, chosen):
    """The table may be older than the way; shares are taken for a few hundredths, since they need no other memory."""
    inputs, outputs = channels
    layer = conv_geometry((2, inputs, 5, 6), (outputs, inputs, 3, 3), axes=2)
    x, kappa, _ = operands(layer.input_shape, outputs, (3, 3), 4, None, layer)
    key, taken, timings = autotune.key("konv degree 4 chebyshev none", layer, x), [], iter(seconds)
    monkeypatch.setenv("KONVLIB_TUNE", tune)
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_known", lambda _: {key: "library"})
    monkeypatch.setattr(autotune, "_may_measure", lambda _: True)
    monkeypatch.setattr(autotune, "_seconds", lambda run: next(timings))
    monkeypatch.setattr(WAYS[name].module, "serves", lambda *_: True)
    monkeypatch.setattr(WAYS[name].module, "konv", lambda *_: taken.append(name))
    monkeypatch.setattr(ways.aten, "conv", lambda *_: taken.append("library") or x)
    monkeypatch.setattr(ways, "_expanded", lambda *_: (x, layer))
    ways.konv(x, kappa, None, layer, Expansion(4, "chebyshev", "none", True))
    assert taken == [chosen if tune == "all" else "library"]
    assert autotune._measured == ({key: chosen} if tune == "all" else {})
