"""Frozen layers of Konvolution under what else torch does: nothing is kept that another call must not find."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from konvlib import runtime
from konvlib.konvolution import frozen
from konvlib.konvolution.module import Konv2d
from tests.engine.frozen_layers import batch, counted, pair, unfrozen, whole_numbers

made = pytest.fixture(counted)


def test_autocast_finds_nothing_and_leaves_nothing(made):
    """Within, degree 0 is summed in bfloat16, in which thirds are others."""
    layer, again = pair(dtype=torch.float32)
    with torch.no_grad():
        for each in (layer, again):
            each.kappa.div_(3)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = again(x)
            assert y.dtype == torch.bfloat16
            assert torch.equal(y, layer(x))
        assert torch.equal(again(x), layer(x))
    made.clear()
    again(x)
    assert made == []


def test_under_transforms():
    layer, again = pair(degree=2)
    x = batch(3, 2, 4, 5, 6)
    again(x[0])
    assert torch.equal(torch.vmap(again)(x), torch.vmap(layer)(x))
    other = {"kappa": 2 * layer.kappa.detach(), "bias": layer.bias.detach() + 1}
    parameters = {name: nn.Parameter(value, requires_grad=False) for name, value in other.items()}
    expected = torch.func.functional_call(layer, other, (x[0],))
    for given in (other, parameters):
        assert torch.equal(torch.func.functional_call(again, given, (x[0],)), expected)
        assert torch.equal(again(x[0]), layer(x[0]))

    def total(module):
        return lambda given: torch.func.functional_call(module, given, (x[0],)).square().sum()

    got, wanted = (torch.func.grad(total(module))(other) for module in (again, layer))
    assert all(torch.equal(got[name], wanted[name]) for name in other)
    tangents = {name: torch.ones_like(value) for name, value in other.items()}
    got, wanted = (torch.func.jvp(total(module), (other,), (tangents,)) for module in (again, layer))
    assert all(map(torch.equal, got, wanted))


def test_traced_by_fx_it_follows_the_parameters():
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    with FlopCounterMode(display=False) as before:
        layer(x)
    for _ in range(2):
        graph = make_fx(again)(x)
        with FlopCounterMode(display=False) as counted:
            again(x)
        assert counted.get_total_flops() == before.get_total_flops()
        with torch.no_grad():
            again.kappa.mul_(2)
        assert torch.equal(graph(x), unfrozen(again, x))
        assert torch.equal(again(x), unfrozen(again, x))


def test_it_compiles_whole_and_once():
    """The graph follows the parameters, and is not compiled anew where something else is kept."""
    layer, again = pair()
    x, counter = batch(2, 4, 5, 6), CompileCounterWithBackend("aot_eager")
    again(x)
    compiled = torch.compile(again, fullgraph=True, backend=counter)
    assert torch.allclose(compiled(x), layer(x), rtol=1e-12)
    for _ in range(2):
        with torch.no_grad():
            again.kappa.mul_(2)
        assert torch.allclose(compiled(x), unfrozen(again, x), rtol=1e-12)
        again.freeze()(x)
        assert torch.allclose(compiled(x), again(x), rtol=1e-12)
    assert counter.frame_count == 1


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_exported(strict):
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    program = torch.export.export(again, (x,), strict=strict)
    assert list(program.state_dict) == ["kappa", "bias"]
    assert torch.allclose(program.module()(x), layer(x), rtol=1e-12)


def test_parameters_that_are_computed_at_each_call():
    class Doubled(nn.Module):
        def forward(self, kappa):
            return 2 * kappa

    layer, again = pair()
    x = batch(2, 4, 5, 6)
    for each in (layer, again):
        parametrize.register_parametrization(each, "kappa", Doubled())
    for factor in (1, 3):
        for each in (layer, again):
            each.parametrizations.kappa.original.data.mul_(factor)
        for _ in range(2):
            assert torch.equal(again(x), layer(x))
    assert again.freeze()._frozen._prepacked is None
    assert torch.equal(again(x), layer(x))
    assert again._frozen._prepacked is None  # it would serve one call


def test_parameters_of_inference_mode_count_no_changes():
    with torch.inference_mode():
        layer = whole_numbers(Konv2d(4, 6, (3, 2), dtype=torch.float64)).freeze()
        x = batch(2, 4, 5, 6)
        before = layer(x)
        for parameter in layer.parameters():
            parameter.mul_(2)
        assert torch.equal(layer(x), 2 * before)


def test_streams_share_nothing_and_captured_graphs_keep_nothing(made, monkeypatch):
    """No card is needed: it says that the tensors are on one, and which stream is the current one."""
    _, layer = pair()
    x, stream, captured = batch(2, 4, 5, 6), [1], [False]
    monkeypatch.setattr(frozen, "_stream_of", lambda tensor: stream[0])
    for stream[0] in (1, 2, 1, 2):
        layer(x)
    assert made == ["degree_0", "_weight"] * 2
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True), raising=False)
    monkeypatch.setattr(runtime, "triton", None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captured[0])
    layer(x)
    for captured[0], count in ((False, 4), (True, 6), (True, 8), (False, 8)):
        layer(x)
        assert len(made) == count


def test_threads_see_one_state_or_the_other():
    """Eight threads call the layer at ten sizes while it is changed and frozen again."""
    layer = pair(padding=2, squash="none")[1]
    inputs = [batch(1, 4, size, 5) for size in range(3, 13)]
    first = [layer(x) for x in inputs]
    stop = threading.Event()

    def call(start):
        while not stop.is_set():
            for place in range(start, start + len(inputs)):
                x, old = inputs[place % len(inputs)], first[place % len(inputs)]
                assert layer(x).shape == old.shape

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, start) for start in range(8)]
        for _ in range(20):
            layer.kappa.data.neg_()
            layer.freeze()
        stop.set()
        for each in calls:
            each.result()
    assert all(torch.equal(layer(x), old) for x, old in zip(inputs, first, strict=True))
    layer.kappa.data.neg_()
    assert all(torch.equal(layer.freeze()(x), unfrozen(layer, x)) for x in inputs)
