"""The ways that Konvolution is computed by kernels: each computes the same, and the table of choices decides.

That the fused way computes the right sums is tested with the other backends, in tests/engine/test_konvolution*.py.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.nn import functional

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.konvolution import bases, kernels, operators, ways
from konvlib.layers import autotune, memory
from konvlib.layers.polynomials import BASES, Expansion
from tests.kernels.operators import poisoned, random, running

WAYS = ("fused", "expanded", "library")
LAYER = conv_geometry(
    (2, 4, 5, 6), (6, 2, 3, 2), axes=2, stride=(2, 1), padding=((1, 0), (1, 2)), dilation=(1, 2), groups=2
)


@pytest.fixture
def device():
    with running("kernel") as name, poisoned():
        yield name


@pytest.fixture
def taken(monkeypatch):
    """Takes a way whatever the table says, and tells how often."""

    def take(way: str) -> list[str]:
        kinds = []

        def choose(kind, layer, y, known, *_):
            assert tuple(known) == WAYS
            kinds.append(kind)
            return known[way]()

        monkeypatch.setattr(autotune, "choose", choose)
        return kinds

    return take


def operands(device: str, degrees: int, last: bool):
    x, dy = random(LAYER.input_shape, device), random(LAYER.output_shape, device, seed=1)
    kappa = random((6, degrees, 2, 3, 2), device, seed=2)
    if last:
        x, dy = (t.to(memory_format=torch.channels_last) for t in (x, dy))
    return x, kappa, dy


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("last", "masked"), [(False, True), (True, False), (True, True)])
def test_every_way_computes_the_layer_and_its_gradients(device, taken, way, last, masked):
    x, kappa, dy = operands(device, 3, last)
    kinds = taken(way)
    rest = ("legendre", "tanh", masked, LAYER.stride, (1, 0, 1, 2), LAYER.dilation, 2)
    for bias in (None, random((6,), device, seed=3), random((1, *LAYER.output_shape[1:]), device, seed=4)):
        y = operators.konv(x, kappa, bias, *rest)
        assert torch.allclose(y, operators.konv.composite(x, kappa, bias, *rest), rtol=1e-12, atol=1e-12)
        assert y.stride() == memory.empty(x, y.shape).stride()
    dx, dkappa = operators.konv_input_grad(dy, x, kappa, *rest), operators.konv_kappa_grad(x, dy, 3, [3, 2], *rest)
    assert torch.allclose(dx, operators.konv_input_grad.composite(dy, x, kappa, *rest), rtol=1e-12, atol=1e-12)
    assert dx.stride() == x.stride()
    assert torch.allclose(dkappa, operators.konv_kappa_grad.composite(x, dy, 3, [3, 2], *rest), rtol=1e-12, atol=1e-12)
    name = "degree 3 legendre tanh"
    assert kinds == [f"konv {name}"] * 3 + [f"konv_input_grad {name}", f"konv_kappa_grad {name}"]


@pytest.mark.parametrize(("basis", "last"), list(product(BASES, [False, True])))
def test_the_expanded_input_is_each_degree_exactly(device, basis, last):
    """More samples than one program takes, and groups whose degrees must not mix; on integers nothing is rounded."""
    x = torch.randint(-3, 4, (2, 6, 9, 11), generator=torch.Generator().manual_seed(5)).double().to(device)
    x = x.to(memory_format=torch.channels_last) if last else x
    assert x.numel() > kernels.block_of(x)
    expansion = Expansion(4, basis)
    z = kernels.expand(x, expansion, groups=3)
    dz = torch.randint(-3, 4, z.shape, generator=torch.Generator().manual_seed(6)).double().to(device)
    values, slopes = (
        torch.from_numpy(f(basis, x.cpu().numpy(), 4)[1:]).to(device) for f in (bases.values, bases.derivatives)
    )
    assert torch.equal(z.unflatten(1, (3, 4, 2)), torch.stack([v.unflatten(1, (3, 2)) for v in values], 2))
    dx = kernels.contract(dz, x, expansion, groups=3)
    each = zip(dz.unflatten(1, (3, 4, 2)).unbind(2), slopes, strict=True)
    expected = sum(grad.flatten(1, 2) * slope for grad, slope in each)
    assert torch.equal(dx, expected) or basis == "legendre"
    assert torch.allclose(dx, expected, rtol=1e-13)
    assert z.stride() == memory.empty(x, z.shape).stride()


@pytest.mark.parametrize("kernel", [(3, 3), (1, 5)])
def test_the_library_gets_padding_and_no_padded_copy(monkeypatch, device, taken, kernel):
    """Where as much padding is after each axis as before it, forward and in both gradients."""
    taken("library")
    sides = [(k - 1) // 2 for k in kernel]
    shape, kappa_shape = (2, 4, 5, 6), (6, 3, 4, *kernel)
    layer = conv_geometry(shape, (6, 4, *kernel), axes=2, padding=tuple((side, side) for side in sides))
    x, kappa, dy = (random(each, device) for each in (shape, kappa_shape, layer.output_shape))

    def refuse(*_):
        raise AssertionError("a copy with padding")

    monkeypatch.setattr(functional, "pad", refuse)
    expansion = Expansion(3, "chebyshev", "none", True)
    ways.konv(x, kappa, None, layer, expansion)
    ways.konv_input_grad(dy, x, kappa, layer, expansion)
    ways.konv_kappa_grad(x, dy, layer, expansion)


def test_the_table_decides_and_without_a_row_the_first_way_is_taken(monkeypatch):
    monkeypatch.setattr(autotune, "_measured", {})
    x = torch.ones(1, 1, 7)
    layer = conv_geometry(x.shape, (1, 1, 3), axes=1)
    known = {way: lambda way=way: way for way in WAYS}
    assert autotune.choose("konv degree 3", layer, x, known) == "fused"
    monkeypatch.setattr(autotune, "_known", lambda y: {autotune.key("konv degree 3", layer, x): "library"})
    assert autotune.choose("konv degree 3", layer, x, known) == "library"
    assert autotune.choose("konv degree 4", layer, x, known) == "fused"
    assert autotune.choose("konv degree 3", replace(layer, batch=2), x, known) == "fused"


@pytest.mark.parametrize("tune", ["1", "all"])
@pytest.mark.parametrize("table", ["measured", "file"])
def test_ways_that_are_never_the_first_are_looked_at_where_one_is_known_or_all_are_measured(monkeypatch, table, tune):
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_may_measure", lambda y: tune == "all")
    monkeypatch.setattr(autotune, "_seconds", lambda run: {"other": 1.0}.get(run(), 2.0))
    monkeypatch.setenv("KONVLIB_TUNE", tune)
    x, asked = torch.ones(1, 1, 7), []
    layer = conv_geometry(x.shape, (1, 1, 3), axes=1)

    def others():
        asked.append("others")
        return {"other": lambda: "other"}

    for name in ("fused", "other", "gone"):
        asked.clear()
        known = {autotune.key("konv", layer, x): name}
        monkeypatch.setattr(autotune, "_measured", known if table == "measured" else {})
        monkeypatch.setattr(autotune, "_known", lambda y, known=known: known if table == "file" else {})
        chosen = autotune.choose("konv", layer, x, {"fused": lambda: "fused"}, others)
        measures = tune == "all" and (table == "file" or name == "gone")
        assert chosen == ("other" if name == "other" or measures else "fused")
        assert asked == (["others"] if name != "fused" or measures else [])


@pytest.mark.parametrize(("seconds", "chosen"), [((3.0, 1.0, 2.0), "expanded"), ((1.0, 0.95, 2.0), "fused")])
def test_another_way_is_chosen_where_it_is_measured_to_be_clearly_quicker(monkeypatch, seconds, chosen):
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_may_measure", lambda y: True)
    timings = iter(seconds)
    monkeypatch.setattr(autotune, "_seconds", lambda run: next(timings))
    x = torch.ones(1, 1, 7)
    layer = conv_geometry(x.shape, (1, 1, 3), axes=1)
    known = {way: lambda way=way: way for way in WAYS}
    assert autotune.choose("konv", layer, x, known) == "fused"
    monkeypatch.setenv("KONVLIB_TUNE", "all")
    assert autotune.choose("konv", layer, x, known) == chosen


def test_what_is_taken_unmeasured_while_a_graph_is_captured_is_not_kept(monkeypatch):
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_is_captured", lambda y: True)
    x, tiles = torch.ones(1, 1, 7), []
    layer = conv_geometry(x.shape, (1, 1, 3), axes=1)
    autotune.launch("conv", layer, x, tiles.append, rows=5, columns=1, programs=1)
    assert len(tiles) == 1
    assert not autotune._measured
    monkeypatch.setattr(autotune, "_is_captured", lambda y: False)
    autotune.launch("conv", layer, x, tiles.append, rows=5, columns=1, programs=1)
    assert [*autotune._measured.values()] == tiles[1:]


def test_precision_is_read_from_whichever_switch_was_set(monkeypatch):
    cudnn, single = torch.backends.cudnn, torch.ones(1)
    before = cudnn.allow_tf32
    try:
        for allowed, precision in ((True, "tf32"), (False, "ieee")):
            cudnn.allow_tf32 = allowed
            assert runtime.precision(single) == precision
        for precision in ("ieee", "tf32"):
            cudnn.conv.fp32_precision = precision
            assert runtime.precision(single) == precision
        assert runtime.precision(single.double()) == "ieee"
    finally:
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"
        cudnn.allow_tf32 = before


def test_choices_of_tiles_and_of_ways_are_kept_in_one_file(monkeypatch, tmp_path):
    choices = {"conv a": autotune.HALVES[0], "konv b": "library"}
    monkeypatch.setattr(autotune, "_measured", choices)
    autotune.save(tmp_path / "device.json")
    assert autotune._read(tmp_path / "device.json") == choices


def test_the_usual_layer_is_fused(device, monkeypatch):
    monkeypatch.setattr(kernels, "expand", lambda *_: pytest.fail("the expanded input was written"))
    x, kappa, dy = operands(device, 2, last=True)
    expansion = Expansion(2, "chebyshev")
    ways.konv(x, kappa, None, LAYER, expansion)
    ways.konv_input_grad(dy, x, kappa, LAYER, expansion)
    ways.konv_kappa_grad(x, dy, LAYER, expansion)
