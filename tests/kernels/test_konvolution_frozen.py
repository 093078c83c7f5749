"""Frozen layers of Konvolution by kernels: what is prepared of the parameters is prepared once, and the results stay.

Of a frozen layer on ATen see tests/engine/test_konvolution_frozen.py.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from functools import partial

import pytest
import torch

import konvlib
from konvlib import registration, runtime
from konvlib.konvolution import frozen, plans, tensors
from konvlib.layers import autotune, forward, memory
from konvlib.layers.polynomials import BASES
from tests.engine import backends
from tests.engine.added_bases import add_for_this_test
from tests.engine.test_konvolution_frozen_mutants import mistaken
from tests.engine.test_mutants import passes
from tests.kernels.halos import Named
from tests.kernels.launches import Counted, launched_by
from tests.kernels.operators import integers, poisoned, running

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_beside, preparation
from tests.kernels.emulated_gluon import Emulated

SIZES = (7, 6), (5, 8)
HALOS = {  # channels in and out, the way's module, its kernel
    "halo": (64, 64, halo, "konv_halo_kernel"),
    "beside": (16, 24, halo_beside, "konv_beside_kernel"),
}


def pair(*channels, **options):
    """A layer of small integers, and its frozen copy."""
    layer = konvlib.Konv2d(*channels, (3, 2), **{"squash": "none", "padding": ((1, 0), (1, 2)), "degree": 3} | options)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(integers(parameter.shape, "cpu", seed=seed).clamp(-1, 1))
    return layer, copy.deepcopy(layer).freeze()


def batch(*shape, dtype, last=False):
    x = integers(shape, "cpu", dtype=dtype).clamp(-1, 1)
    return x.to(memory_format=torch.channels_last) if last else x


def exact(layer, x):
    """What ATen computes in double precision, which is the layer itself in one that holds it."""
    with running("aten"):
        return copy.deepcopy(layer).double()(x.double()).to(x.dtype)


@contextmanager
def going_by(name):
    """A layer of Konvolution by a halo: its channels, the module of this way, and what its kernel is called."""
    *channels, way, kernel = HALOS[name]
    with pytest.MonkeyPatch.context() as patch, running("kernel"):
        patch.setattr(halo, "serves", lambda x, layer: halo.fits(layer, x.dtype))
        patch.setattr(halo_beside, "serves", lambda x, layer, degrees: halo_beside.fits(layer, x.dtype, degrees))
        patch.setattr(autotune, "_measured", {})
        patch.setattr(autotune, "_known", lambda y: Named(name))
        yield channels, way, kernel


@pytest.fixture(params=HALOS)
def by_halo(request):
    with going_by(request.param) as given:
        yield given


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="launches are counted, not made")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_call_by_a_halo_is_one_launch(by_halo, monkeypatch, padding, bias):
    channels, way, kernel = by_halo
    for module in (plans, tensors, frozen):
        monkeypatch.setattr(module, "is_plain", lambda *given: True)
    monkeypatch.setattr(registration, "meets_kernel", lambda given: True)
    names = []
    monkeypatch.setattr(way, kernel, Counted("halo", names))
    monkeypatch.setattr(preparation, "prepare_kernel", Counted("prepare", names))
    layer, again = pair(*channels, padding=padding, bias=bias, dtype=torch.bfloat16)
    small, large = (batch(2, channels[0], *size, dtype=torch.bfloat16, last=True) for size in SIZES)

    calls = [(layer, small), (layer, small), (again, small), (again, small), (again, large), (again, small)]
    both = ["prepare", "halo"]
    assert [launched_by(partial(each, x), names) for each, x in calls] == [both, both, both, ["halo"], both, ["halo"]]
    with torch.no_grad():
        again.kappa.mul_(2)
    assert [launched_by(partial(again, small), names) for _ in range(2)] == [both, ["halo"]]


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
@pytest.mark.parametrize(("mode", "pad"), [("zeros", "input"), ("circular", "basis")])
def test_a_layer_by_a_halo_is_computed_alike(by_halo, monkeypatch, mode, pad):
    channels, way, kernel = by_halo
    emulated = Emulated(getattr(way, kernel))
    monkeypatch.setattr(way, kernel, emulated)
    layer, again = pair(*channels, padding_mode=mode, pad=pad, dtype=torch.float16)
    inputs = [batch(1, channels[0], *size, dtype=torch.float16, last=True) for size in SIZES]
    for x in (*inputs, inputs[0]):
        with poisoned():
            y = again(x)
        assert torch.equal(y, exact(layer, x))
    if mode == "zeros":
        layer.pad = again.pad = "basis"
        with poisoned():
            y = again(x)
        assert torch.equal(y, exact(layer, x))


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
def test_each_way_by_a_halo_keeps_what_it_prepared(monkeypatch):
    """A layer that both serve may go by one for large inputs, and by the other for small ones."""
    for *_, way, kernel in HALOS.values():
        monkeypatch.setattr(way, kernel, Emulated(getattr(way, kernel)))
    layer, again = pair(64, 64, dtype=torch.float16)
    x = batch(1, 64, *SIZES[0], dtype=torch.float16, last=True)
    for name in (*HALOS, *HALOS):
        with going_by(name), poisoned():
            y = again(x)
        assert torch.equal(y, exact(layer, x))
    assert [getattr(way, kernel).runs for *_, way, kernel in HALOS.values()] == [2, 2]


@contextmanager
def taking(way):
    with pytest.MonkeyPatch.context() as patch, running("kernel"):
        patch.setattr(autotune, "choose", lambda kind, layer, y, ways, others=dict: {**ways, **others()}[way]())
        yield way


@pytest.fixture(params=["fused", "expanded", "library"])
def by_way(request):
    with taking(request.param) as way:
        yield way


OPTIONS = [
    {},
    {"groups": 2, "stride": (2, 1), "affine": True},
    {"pad": "input", "bias": False},
    {"padding": 1, "padding_mode": "reflect", "dilation": (1, 2)},
    {"padding": 0, "basis": "hermite"},
]


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="the interpreter's")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_other_ways_compute_alike(by_way, options):
    layer, again = pair(4, 6, dtype=torch.float64, **options)
    for size in (*SIZES, SIZES[0]):
        x = batch(2, 4, *size, dtype=torch.float64)
        with poisoned():
            assert torch.equal(again(x), exact(layer, x))
    layer.pad = again.pad = "basis" if layer.pad == "input" else "input"
    x.requires_grad_()
    y, expected = again(x), exact(layer, x)
    assert torch.equal(y, expected)
    assert torch.equal(*(torch.autograd.grad(each.square().sum(), x)[0] for each in (y, expected)))


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="the interpreter's")
def test_weights_are_packed_once(by_way, monkeypatch):
    """And what degree 0 and the bias add is summed once: a call adds up nothing and copies no weight."""
    _, again = pair(4, 6, dtype=torch.float64)
    x = batch(2, 4, *SIZES[0], dtype=torch.float64, last=True)
    again(x)
    packed = []
    monkeypatch.setattr(memory, "packed_weight", lambda w: pytest.fail("packed anew"))
    monkeypatch.setattr(konvlib.konvolution.operators, "added", lambda *given: pytest.fail("summed anew"))
    conv = forward.conv
    monkeypatch.setattr(forward, "conv", lambda x, w, *rest: packed.append(w) or conv(x, w, *rest))
    again(x)
    again(x)
    assert len({w.data_ptr() for w in packed}) == (by_way != "library")
    assert all(memory.lies_packed(w.shape, w.stride()) for w in packed)


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="the interpreter's")
def test_coefficients_are_taken_to_another_basis_once(monkeypatch):
    changes, change = [], tensors._changed
    add_for_this_test(monkeypatch, "added", lambda n: (2, 1, 1))
    monkeypatch.setattr(tensors, "_changed", lambda *given, **kind: changes.append(given[1:]) or change(*given, **kind))
    with running("kernel"):
        layer, again = pair(4, 6, basis="added", degree=2, dtype=torch.float64)
        for size in SIZES * 2:
            x = batch(2, 4, *size, dtype=torch.float64)
            assert torch.equal(again(x), layer(x))
        assert changes == [("added", "chebyshev")] * 5
        for basis in BASES:  # the weights that were packed are of another basis
            layer.basis = again.basis = basis
            assert torch.equal(again(x), layer(x))


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="the interpreter's")
def test_more_degrees_than_kernels_have_go_by_aten():
    with running("kernel"):
        assert runtime.INTERPRET
        layer, again = pair(4, 6, degree=9, dtype=torch.float64)
        for size in SIZES * 2:
            x = batch(2, 4, *size, dtype=torch.float64)
            assert torch.equal(again(x), layer(x))


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="the interpreter's")
def test_a_profiler_autocast_and_transforms_see_the_usual_way():
    layer, again = pair(4, 6, dtype=torch.float32)
    x = batch(3, 2, 4, *SIZES[0], dtype=torch.float32)
    with running("kernel"):
        expected = layer(x[0])
        again(x[0])
        with torch.profiler.profile():
            assert torch.equal(again(x[0]), expected)
        with torch.autocast("cpu", dtype=torch.float16):
            assert torch.equal(again(x[0]), layer(x[0]))
        assert torch.equal(torch.vmap(again)(x), torch.vmap(layer)(x))
        assert torch.equal(again(x[0]), expected)


def _launches(name, patch):
    with going_by(name) as given:
        test_a_call_by_a_halo_is_one_launch(given, patch, 1, True)


def _by_a_halo(name, patch):
    with going_by(name) as given:
        test_a_layer_by_a_halo_is_computed_alike(given, patch, "zeros", "input")


def _by_both_halos(name, patch):
    test_each_way_by_a_halo_keeps_what_it_prepared(patch)


def _by_a_way(name, patch):
    with taking(name) as way:
        test_other_ways_compute_alike(way, {})


def _packed(name, patch):
    with taking(name) as way:
        test_weights_are_packed_once(way, patch)


def _changed(name, patch):
    test_coefficients_are_taken_to_another_basis_once(patch)


MUTANTS = [
    *(
        ("halo", *row, way)
        for way in HALOS
        for row in (
            ("prepared anew", 'keep(("halo", ', 'anew(("halo", ', _launches),
            ("prepared for all sizes", "width, place_of(layer), ", "width, ", _by_a_halo),
            ("padding that counts is other", ", expansion.masked), make", "), make", _by_a_halo),
        )
    ),
    ("halo", "prepared for one way, taken by the other", '("halo", width, ', '("halo", ', _by_both_halos, ""),
    ("ways", "a map for all sizes", '("degree 0", place_of(layer), ', '("degree 0", ', _by_a_way, "fused"),
    ("ways", "a map for both paddings", "place_of(layer), expansion.masked)", "place_of(layer))", _by_a_way, "library"),
    ("ways", "summed anew", "return keep((", "return anew((", _packed, "library"),
    ("ways", "fused, packed anew", 'conv(x, keep("packed", packed)', "conv(x, packed()", _packed, "fused"),
    ("ways", "expanded, packed anew", 'conv(z, keep("packed", packed)', "conv(z, packed()", _packed, "expanded"),
    ("ways", "packed by each call", "w.movedim(1, -1).contiguous().movedim(-1, 1)", "w", _packed, "fused"),
    ("operators", "nothing kept", "layer, expansion, keep)\n", "layer, expansion)\n", _packed, "fused"),
    ("tensors", "basis changed anew", "keep(known, lambda", "anew(known, lambda", _changed, ""),
    ("operators", "no plan keeps", "fused if keep is anew else Whole(*fused, keep)", "fused", _packed, "fused"),
]  # fmt: skip


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="on this machine alone")
@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: f"{row[0]}: {row[1]} {row[-1]}")
def test_the_mistake_is_caught(row):
    file, _, old, new, check, name = row
    with pytest.MonkeyPatch.context() as patch, mistaken(file, old, new):
        assert not passes(lambda: check(name, patch))
