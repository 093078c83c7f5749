"""Konvolution as modules: Conv2d's habits, and the rest of torch: autocast, compile, export, training in processes."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import konvlib
from konvlib import runtime
from konvlib.konvolution.module import Konv1d, Konv2d, Konv3d, LazyKonv1d, LazyKonv2d, LazyKonv3d
from tests.engine.real_numbers import random

KONVS = {1: Konv1d, 2: Konv2d, 3: Konv3d}
LAZY = {1: LazyKonv1d, 2: LazyKonv2d, 3: LazyKonv3d}
SIZE = (7, 6, 5)


@pytest.fixture(autouse=True)
def by_aten(monkeypatch):
    """The kernels have tests of their own; here their interpreter would only be slow."""
    monkeypatch.setattr(runtime, "INTERPRET", False)


# Habits of torch.nn


def test_repr_says_what_is_unusual():
    assert repr(Konv1d(2, 3, 5)) == (
        "Konv1d(2, 3, kernel_size=(5,), degree=3, basis='chebyshev', squash='tanh', stride=(1,))"
    )
    layer = Konv2d(
        4, 6, (3, 2), degree=2, basis="legendre", squash="none", stride=2, padding=((0, 1), 2), dilation=(1, 2),
        groups=2, bias=False, padding_mode="circular", pad="input", affine=True,
    )  # fmt: skip
    assert repr(layer) == (
        "Konv2d(4, 6, kernel_size=(3, 2), degree=2, basis='legendre', squash='none', stride=(2, 2), "
        "padding=((0, 1), 2), dilation=(1, 2), groups=2, padding_mode='circular', pad='input', bias=False, affine=True)"
    )


def test_dtype_and_device_are_those_asked_for():
    layer = Konv2d(2, 3, 2, device="meta", dtype=torch.bfloat16, affine=True)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}
    assert {p.dtype for p in Konv2d(2, 3, 2, affine=True).half().parameters()} == {torch.float16}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles(copied):
    layer = nn.Sequential(Konv2d(2, 3, 2, affine=True, padding="same"), nn.ReLU())
    again = copied(layer)
    x = torch.randn(1, 2, 4, 5)
    assert repr(again) == repr(layer)
    assert torch.equal(again(x), layer(x))
    assert again[0].kappa is not layer[0].kappa


def test_state_dict_is_saved_and_loaded():
    layer, other = Konv2d(2, 3, 2, affine=True), Konv2d(2, 3, 2, affine=True)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(1, 2, 4, 5)
    assert list(layer.state_dict()) == ["kappa", "bias", "scale", "shift"]
    assert torch.equal(other(x), layer(x))
    with pytest.raises(RuntimeError, match="size mismatch for kappa"):
        Konv2d(2, 3, 2, degree=2, affine=True).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("axes", LAZY)
@pytest.mark.parametrize("batched", [True, False])
def test_lazy_layers_learn_their_channels(axes, batched):
    layer = LAZY[axes](6, 2, degree=2, groups=2, affine=True)
    assert "None, 6" in repr(layer)
    shape = (3, 4, *SIZE[:axes]) if batched else (4, *SIZE[:axes])
    torch.manual_seed(3)
    y = layer(torch.ones(shape))
    torch.manual_seed(3)
    usual = KONVS[axes](4, 6, 2, degree=2, groups=2, affine=True)
    assert type(layer) is KONVS[axes]
    assert repr(layer) == repr(usual)
    assert torch.equal(y, usual(torch.ones(shape)))
    assert layer.kappa.requires_grad


def test_a_lazy_layer_loads_what_a_usual_one_saved():
    usual, lazy = Konv2d(2, 3, 2, affine=True), LazyKonv2d(3, 2, affine=True)
    lazy.load_state_dict(usual.state_dict())
    x = torch.randn(1, 2, 4, 5)
    assert torch.equal(lazy(x), usual(x))
    assert repr(lazy) == repr(usual)


def test_a_lazy_layer_refuses_a_batch_that_does_not_fit_and_takes_the_next():
    layer = LazyKonv2d(6, 2, groups=2)
    with pytest.raises(ValueError, match="in_channels must be divisible by groups, got 3 channels in 2 groups"):
        layer(torch.ones(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"x must have 4 axes"):
        layer(torch.ones(4, 5))
    assert layer(torch.ones(1, 4, 4, 5)).shape == (1, 6, 3, 4)


def test_parameters_that_are_exempt_from_weight_decay_have_one_axis():
    layer = Konv2d(2, 3, 2, affine=True)
    assert {name for name, p in layer.named_parameters() if p.ndim <= 1} == {"bias", "scale", "shift"}


@pytest.mark.parametrize("axes", KONVS)
@pytest.mark.parametrize("lazy", [False, True])
def test_scales_of_older_checkpoints_are_loaded(axes, lazy):
    """They had an axis of one entry for each spatial axis."""
    usual = KONVS[axes](2, 3, 2, affine=True)
    with torch.no_grad():
        usual.scale.copy_(torch.tensor([2.0, -3.0]))
    old = {f"0.{name}": value.clone() for name, value in usual.state_dict().items()}
    for name in ("0.scale", "0.shift"):
        old[name] = old[name].reshape(2, *(1,) * axes)
    model = nn.Sequential(LAZY[axes](3, 2, affine=True) if lazy else KONVS[axes](2, 3, 2, affine=True))
    model.load_state_dict(old)
    x = torch.randn(1, 2, *SIZE[:axes])
    assert torch.equal(model(x), usual(x))
    assert old["0.scale"].shape == (2, *(1,) * axes)


@pytest.mark.parametrize("axes", KONVS)
def test_what_was_frozen_stays_frozen(axes):
    conv = getattr(nn, f"Conv{axes}d")(2, 3, 2)
    for frozen in ({"weight"}, {"bias"}, {"weight", "bias"}, set()):
        for name, parameter in conv.named_parameters():
            parameter.requires_grad_(name not in frozen)
        layer = KONVS[axes].from_conv(conv)
        assert layer.kappa.requires_grad == ("weight" not in frozen)
        assert layer.bias.requires_grad == ("bias" not in frozen)


@pytest.mark.parametrize(("axes", "memory"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_a_model_beside_other_convolutions_lies_channels_last(axes, memory):
    """Though kappa has an axis more than memory formats know; of the other layers nothing changes."""
    conv = getattr(nn, f"Conv{axes}d")
    model = nn.Sequential(conv(3, 3, 1), KONVS[axes](3, 4, 2, affine=True), Konv1d(3, 4, 2))
    x = torch.randn(2, 3, *SIZE[:axes])
    expected = model[:2](x)
    assert model.to(memory_format=memory) is model
    y = model[:2](x.to(memory_format=memory))
    assert torch.allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert y.is_contiguous(memory_format=memory)
    assert model[1].kappa.shape == (4, 4, 3, *(2,) * axes)
    assert model[1].kappa.flatten(1, 2).is_contiguous(memory_format=memory)
    y.sum().backward()
    assert model[1].kappa.grad.shape == model[1].kappa.shape


def test_fx_takes_a_layer_for_one_node():
    model = nn.Sequential(Konv2d(2, 3, 2, affine=True), nn.Sequential(nn.ReLU(), Konv2d(3, 2, 2)))
    graph, x = torch.fx.symbolic_trace(model), torch.randn(2, 2, 5, 6)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1.0", "1.1"]
    assert not [node for node in graph.graph.nodes if node.op == "get_attr"]
    assert torch.equal(graph(x), model(x))
    with pytest.raises(TypeError, match="trace a model that holds the layer"):
        torch.fx.symbolic_trace(model[0])


WRONG = [
    ({"basis": "fourier"}, ValueError, "basis must be one of monomial, chebyshev, chebyshev2, legendre, hermite"),
    ({"basis": 3}, TypeError, "basis must be one of"),
    ({"squash": "relu"}, ValueError, "squash must be one of none, tanh, got 'relu'"),
    ({"squash": None}, TypeError, "squash must be one of none, tanh, got None"),
    ({"degree": -1}, ValueError, "degree must be at least 0, got -1"),
    ({"degree": 2.0}, TypeError, r"degree must be an integer, got 2\.0"),
    ({"groups": 4}, ValueError, "out_channels must be divisible by groups, got 6 channels in 4 groups"),
    ({"groups": 3}, ValueError, "in_channels must be divisible by groups, got 4 channels in 3 groups"),
    ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
    ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ({"dilation": (1, 2, 3)}, ValueError, "dilation must be one integer or 2, one per axis"),
    ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
    ({"in_channels": 0}, ValueError, "in_channels must be at least 1, got 0"),
    ({"out_channels": 2.5}, TypeError, r"out_channels must be an integer, got 2\.5"),
    ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    ({"padding": "full"}, ValueError, "padding must be one of same, same_upper, same_lower, valid, got 'full'"),
    ({"padding": "same", "stride": 2}, ValueError, "padding 'same' needs stride 1"),
    ({"padding_mode": "mirror"}, ValueError, "padding_mode must be one of zeros, reflect, replicate, circular"),
    ({"pad": "both"}, ValueError, "pad must be one of basis, input, got 'both'"),
    ({"in_channels": None}, TypeError, "in_channels must be an integer, got None"),
    ({"out_channels": None}, TypeError, "out_channels must be an integer, got None"),
    ({"bias": torch.tensor([1, 1])}, TypeError, r"bias must be True or False, got tensor\(\[1, 1\]\)"),
    ({"affine": 1}, TypeError, "affine must be True or False, got 1"),
    ({"recompute": None}, TypeError, "recompute must be True or False, got None"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG, ids=[str(wrong) for wrong, *_ in WRONG])
def test_each_wrong_argument_is_refused_when_the_layer_is_made(wrong, error, words):
    with pytest.raises(error, match=words):
        Konv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **wrong})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, 3), TypeError, "out_channels must be an integer, got None"),
        ((0, 3), ValueError, "out_channels must be at least 1, got 0"),
        ((6, None), TypeError, "kernel_size must be an integer, got None"),
    ],
)
@pytest.mark.parametrize("layer", LAZY.values())
def test_lazy_layers_name_what_is_wrong(layer, arguments, error, words):
    with pytest.raises(error, match=words):
        layer(*arguments)
    with pytest.raises(ValueError, match="out_channels must be divisible by groups, got 6 channels in 4 groups"):
        layer(6, 2, groups=4)


@pytest.mark.parametrize("affine", [False, True])
def test_each_wrong_batch_is_refused(affine):
    layer = Konv2d(4, 6, 3, affine=affine)
    for x, error, words in (
        (torch.ones(2, 1, 5, 6), ValueError, r"kappa must have 1 // 1 = 1 channels on axis 2, got 4"),
        (torch.ones(2, 4, 2, 6), ValueError, "kernel"),
        (torch.ones(5, 6), ValueError, "x must have 4 axes"),
        (torch.ones(2, 4, 5, 6, dtype=torch.float64), TypeError, "x and kappa must have one dtype"),
        (torch.ones(2, 4, 5, 6, dtype=torch.int64), TypeError, "x must be of dtype"),
        (np.ones((2, 4, 5, 6)), TypeError, "x must be a torch tensor"),
    ):
        with pytest.raises(error, match=words):
            layer(x)


@pytest.mark.parametrize("package", [konvlib, konvlib.konvolution])
@pytest.mark.parametrize("layer", [*KONVS.values(), *LAZY.values()])
def test_the_packages_have_the_modules_by_name(package, layer):
    assert getattr(package, layer.__name__) is layer
    with pytest.raises(AttributeError, match="has no attribute 'Konv4d'"):
        package.Konv4d  # noqa: B018


def test_konvlib_does_not_import_torch_for_it():
    code = "import sys, konvlib, konvlib.konvolution; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Together with the rest of torch


def network(dtype=torch.float32):
    """Two layers and what is usual between them; no batch statistics, which differ between processes."""
    torch.manual_seed(0)
    return nn.Sequential(
        Konv2d(2, 6, (3, 2), stride=2, padding=1, affine=True, dtype=dtype),
        nn.GroupNorm(2, 6, dtype=dtype),
        Konv2d(6, 4, 2, degree=2, basis="legendre", groups=2, padding="same", padding_mode="circular", dtype=dtype),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3, dtype=dtype),
    )


def test_it_trains_in_a_sequential():
    model = network()
    x, target = random((16, 2, 6, 7), "cpu", dtype=torch.float32), torch.arange(16) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_under_autocast():
    """The layer computes in bfloat16, as Conv2d does; a few roundings of 2^-8 apart from float32."""
    model, x = network(), random((4, 2, 6, 7), "cpu", dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[0](x).dtype == torch.bfloat16
        y = model(x)
    exact = model(x)
    assert (y.float() - exact).abs().max() < 0.05 * exact.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_it_compiles_whole():
    model, x = network(torch.float64), random((2, 2, 6, 7), "cpu")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), model(x), rtol=1e-12)
    grads = [torch.autograd.grad(f(x).square().sum(), list(model.parameters())) for f in (compiled, model)]
    assert all(torch.allclose(*pair, rtol=1e-10, atol=1e-14) for pair in zip(*grads, strict=True))


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_exported(strict):
    model, x = network(), random((2, 2, 6, 7), "cpu", dtype=torch.float32)
    program = torch.export.export(model, (x,), strict=strict)
    assert not any("konvlib" in str(node.target) for node in program.graph.nodes)  # any runtime of torch knows it
    assert torch.allclose(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


def two_batches():
    x = random((6, 2, 6, 7), "cpu", seed=1)
    return x, random((6, 3), "cpu", seed=2)


def train_on_half(rank, folder):
    """What each of two processes does: the loss of its half of the batch, whose gradients DDP averages."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    runtime.INTERPRET = False
    model = DistributedDataParallel(network(torch.float64))
    x, target = (t[rank::2] for t in two_batches())
    nn.functional.mse_loss(model(x), target).backward()
    torch.save([parameter.grad for parameter in model.parameters()], f"{folder}/gradients{rank}")
    torch.distributed.barrier()
    os._exit(0)  # DDP's end may wait for a thread of gloo that waits for Python: seen once, in torch 2.13


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its distributed package")
def test_two_processes_have_the_gradients_of_one(tmp_path):
    """In float64 but for rounding: sums of at most a few hundred terms, taken in another order."""
    torch.multiprocessing.spawn(train_on_half, args=(str(tmp_path),), nprocs=2)
    model, (x, target) = network(torch.float64), two_batches()
    nn.functional.mse_loss(model(x), target).backward()
    whole = [parameter.grad for parameter in model.parameters()]
    for rank in range(2):
        halves = torch.load(tmp_path / f"gradients{rank}", weights_only=True)
        assert len(halves) == len(whole)
        for ours, expected in zip(halves, whole, strict=True):
            assert expected.abs().max() > 0
            assert torch.allclose(ours, expected, rtol=1e-11, atol=1e-13)
