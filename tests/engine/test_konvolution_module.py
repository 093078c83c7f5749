"""Konvolution as modules: what they compute, and the first coefficients, which keep the variance."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import konvlib
from konvlib import runtime
from konvlib.geometry import konv_geometry
from konvlib.konvolution import bases, module, tensors
from konvlib.konvolution.bases import BASES
from konvlib.konvolution.module import Konv1d, Konv2d, Konv3d
from tests.engine import backends
from tests.engine.real_numbers import random

KONVS = {1: Konv1d, 2: Konv2d, 3: Konv3d}
SIZE = (7, 6, 5)
GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1, "bias": False},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "groups": 2},
    {"padding": 2, "padding_mode": "reflect", "stride": 3},
    {"padding": 1, "padding_mode": "circular", "groups": 2},
    {"padding": "same", "padding_mode": "replicate"},
]


@pytest.fixture(autouse=True)
def by_aten(monkeypatch):
    """The kernels have tests of their own; here their interpreter would only be slow."""
    monkeypatch.setattr(runtime, "INTERPRET", False)


def whole_numbers(layer, seed=0):
    """The same module in float64 with small integers for parameters, in which sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.to(torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return layer


def batch(*shape, dtype=torch.float64):
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


# What it computes


@pytest.mark.parametrize("pad", ["basis", "input"])
@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
@pytest.mark.parametrize("axes", KONVS)
def test_it_is_the_definition_of_its_parameters(axes, options, pad):
    layer = whole_numbers(KONVS[axes](4, 6, (3, 2, 1)[:axes], degree=2, squash="none", pad=pad, **options))
    x = batch(2, 4, *SIZE[:axes])
    rest = {name: value for name, value in options.items() if name != "bias"}
    arrays = [None if t is None else t.detach().numpy() for t in (x, layer.kappa, layer.bias)]
    naive = backends.definition("konvolution")
    expected = getattr(naive, f"konv{axes}d")(*arrays, pad=pad, **rest)
    assert np.array_equal(layer(x).detach().numpy(), expected)


@pytest.mark.parametrize("squash", ["none", "tanh"])
@pytest.mark.parametrize("basis", BASES)
def test_it_passes_basis_and_squash_on(basis, squash):
    layer = Konv2d(3, 4, (2, 3), degree=4, basis=basis, squash=squash, dtype=torch.float64)
    x = random((2, 3, 5, 6), "cpu")
    t = torch.tanh(x) if squash == "tanh" else x
    polynomials = torch.from_numpy(np.moveaxis(bases.values(basis, t.numpy(), 4), 0, 1)).flatten(1, 2)
    expected = nn.functional.conv2d(polynomials, layer.kappa.flatten(1, 2), layer.bias)
    assert torch.allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_padding_takes_a_pair_per_axis():
    layer = whole_numbers(Konv2d(2, 3, 3, squash="none", padding=((0, 2), 1)))
    x = batch(1, 2, 4, 5)
    expected = konvlib.konv2d(x, layer.kappa, layer.bias, padding=((0, 2), (1, 1)))
    assert torch.equal(layer(x), expected)
    assert layer.padding == ((0, 2), 1)


@pytest.mark.parametrize("pad", ["basis", "input"])
def test_the_affine_comes_before_the_squash_and_the_padding_after_both(pad):
    layer = Konv2d(2, 3, 3, padding=1, pad=pad, affine=True, dtype=torch.float64)
    assert layer.scale.tolist() == [1, 1]
    assert layer.shift.tolist() == [0, 0]
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, -3.0]))
        layer.shift.copy_(torch.tensor([0.5, 1.0]))
    x = random((2, 2, 4, 5), "cpu")
    moved = torch.stack((2 * x[:, 0] + 0.5, 1 - 3 * x[:, 1]), 1)
    given = konv_geometry(x.shape, layer.kappa.shape, axes=2, padding=1, pad=pad)
    expected = tensors.squashed_konv(moved, layer.kappa, layer.bias, given, "chebyshev", "tanh")
    assert torch.allclose(layer(x), expected, rtol=1e-12)
    layer(x).square().sum().backward()
    assert all(parameter.grad.abs().min() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize("axes", KONVS)
def test_one_sample_without_a_batch(axes):
    layer = KONVS[axes](2, 3, 2, affine=True)
    x = random((2, *SIZE[:axes]), "cpu", dtype=torch.float32)
    assert torch.equal(layer(x), layer(x[None])[0])


def test_degree_zero_is_a_constant():
    layer = Konv2d(2, 3, 2, degree=0)
    assert layer.kappa.shape == (3, 1, 2, 2, 2)
    assert torch.equal(layer(torch.randn(1, 2, 4, 5)), torch.zeros(1, 3, 3, 4))


def test_gradients_reach_every_parameter():
    layer = Konv2d(4, 6, (2, 3), groups=2, stride=2, padding=1, affine=True, dtype=torch.float64)
    x = random((2, 4, 5, 6), "cpu", requires_grad=True)
    parameters = dict(layer.named_parameters())
    assert list(parameters) == ["kappa", "bias", "scale", "shift"]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *parameters.values()), fast_mode=True)


# The degree-1 embedding of a convolution


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
@pytest.mark.parametrize("axes", KONVS)
def test_from_conv_is_the_same_function_exactly(axes, options):
    conv = whole_numbers(getattr(nn, f"Conv{axes}d")(4, 6, (3, 2, 1)[:axes], **options))
    layer = KONVS[axes].from_conv(conv)
    x = batch(2, 4, *SIZE[:axes])
    assert type(layer) is KONVS[axes]
    assert torch.equal(layer(x), conv(x))
    assert torch.equal(layer(x[0]), conv(x[0]))
    assert (layer.bias is None) == (conv.bias is None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_from_conv_keeps_the_dtype(dtype):
    """Real numbers: the same 54 products of the same operands, whose sums may be taken in another order."""
    conv = nn.Conv2d(6, 8, 3, padding=1, dtype=dtype)
    x = random((2, 6, 5, 7), "cpu", dtype=dtype)
    y, expected = Konv2d.from_conv(conv)(x), conv(x)
    assert y.dtype == dtype
    assert (y - expected).abs().max() <= 8 * torch.finfo(dtype).eps * expected.abs().max()


def test_from_conv_keeps_device_and_mode_and_copies():
    assert Konv2d.from_conv(nn.Conv2d(2, 3, 2, device="meta")).kappa.device.type == "meta"
    conv = nn.Conv2d(2, 3, 2).eval()
    layer = Konv2d.from_conv(conv)
    assert not layer.training
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in layer.parameters())
    before = layer.kappa.clone()
    conv.weight.data.zero_()
    assert torch.equal(layer.kappa, before)
    assert not layer.kappa[:, 0].any()


def test_from_conv_refuses_what_is_no_such_convolution():
    class Odd(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).relu()

    for conv in (nn.Conv1d(2, 3, 2), nn.ConvTranspose2d(2, 3, 2), nn.Linear(2, 3), Odd(2, 3, 2), None):
        with pytest.raises(TypeError, match=r"conv must be a torch.nn.Conv2d, got "):
            Konv2d.from_conv(conv)
    with pytest.raises(ValueError, match="conv must know its channels, got a lazy one"):
        Konv2d.from_conv(nn.LazyConv2d(3, 2))


# The first coefficients


@pytest.mark.parametrize("basis", BASES)
def test_moments_are_those_of_gauss(basis):
    """Without a squash, expectations of powers are products of odd numbers; integrated exactly, but for rounding."""
    mean, variance = module.moments(basis, 6, "none")
    rows = bases.coefficients(basis, 6)
    power = [Fraction(0 if n % 2 else int(np.prod(np.arange(1, n, 2), initial=1))) for n in range(13)]
    for n, row in enumerate(rows):
        first = sum(a * power[i] for i, a in enumerate(row))
        second = sum(a * b * power[i + j] for (i, a), (j, b) in product(enumerate(row), enumerate(row)))
        scale = float(sum(abs(a * b) * power[i + j] for (i, a), (j, b) in product(enumerate(row), enumerate(row))))
        assert abs(mean[n] - float(first)) <= 1e-14 * max(scale, 1)
        assert abs(variance[n] - float(second - first**2)) <= 1e-13 * max(scale, 1)


def test_moments_after_tanh_are_those_of_samples():
    """A million samples: the mean of a term of variance v is known to 5 sqrt(v) / 1000."""
    t = np.tanh(np.random.default_rng(0).standard_normal(10**6))
    mean, variance = module.moments("chebyshev", 8)
    p = bases.values("chebyshev", t, 8)[1:]
    assert (np.abs(p.mean(1) - mean[1:]) < 5e-3 * np.sqrt(variance[1:])).all()
    assert np.allclose(p.var(1), variance[1:], rtol=1e-2)


@pytest.mark.parametrize("degree", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("basis", BASES)
def test_variance_is_kept_over_four_layers(basis, degree):
    """Within a channel, over samples: that part of the second moment which tells samples apart. And no mean appears."""
    torch.manual_seed(degree)
    options = {"degree": degree, "basis": basis, "padding": 1, "padding_mode": "circular"}
    x = torch.randn(24, 32, 12, 11)
    for _ in range(4):
        with torch.no_grad():
            x = Konv2d(32, 32, 3, **options)(x)
        assert 0.9 < x.var((0, 2, 3)).mean() < 1.1
        assert x.mean((0, 2, 3)).square().mean() < 0.05


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (partial(Konv1d, 64, 96, 5, stride=2), (40,)),
        (partial(Konv2d, 64, 96, (1, 3), groups=4, affine=True), (9, 11)),
        (partial(Konv2d, 96, 96, 7, groups=96, bias=False), (12, 13)),
        (partial(Konv3d, 16, 96, 2, degree=4, basis="legendre"), (5, 6, 7)),
        (partial(Konv2d, 64, 96, 3, squash="none", basis="hermite"), (8, 9)),
        (partial(Konv2d, 64, 96, 3, squash="none", degree=2), (8, 9)),
    ],
    ids=["1 axis", "groups", "depthwise", "3 axes", "no squash", "no squash, degree 2"],
)
def test_variance_is_kept_in_every_geometry(layer, size):
    torch.manual_seed(0)
    layer = layer()
    with torch.no_grad():
        y = layer(torch.randn(64, layer.in_channels, *size))
    assert 0.9 < y.var() < 1.1
    assert 0.9 < y.flatten(2).transpose(0, 1).flatten(1).var(1).mean() < 1.1


def test_reset_parameters_draws_anew_and_the_seed_decides():
    layer = Konv2d(3, 4, 2, affine=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7)
    torch.manual_seed(5)
    layer.reset_parameters()
    torch.manual_seed(5)
    again = Konv2d(3, 4, 2, affine=True)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not layer.bias.any()


def test_a_list_is_no_batch():
    layer = konvlib.Konv1d(1, 1, 1)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^x must be a torch tensor like the other operand, got list$"):
            layer([[[1.0]]])
