"""Layers whose output channels read one input channel each: every geometry that their kernels treat apart, exactly.

In small integers, where sums are exact in any order. The oracle is PyTorch's own layer and its derivatives.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.layers import (
    autotune,
    bound,
    depthwise,
    depthwise_input_grad,
    depthwise_weight_grad,
    memory,
    operators,
)
from konvlib.layers.autotune import Tile
from tests.kernels.operators import integers, poisoned, running

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
LAYERS = {
    "3 channels": ((2, 3, 5, 9), 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "5 channels, a strip and a bit": ((1, 5, 6, 15), 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "16 channels, 7x7": ((1, 16, 9, 8), 1, (7, 7), (1, 1), (3, 3, 3, 3), (1, 1)),
    "24 channels, stride 2": ((2, 24, 7, 9), 1, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    "160 channels": ((2, 160, 3, 4), 1, (2, 3), (1, 1), (1, 0, 1, 1), (1, 1)),
    "144 channels": ((1, 144, 3, 3), 1, (3, 1), (2, 1), (1, 1, 0, 0), (1, 1)),
    "multiplier 2": ((2, 3, 5, 8), 2, (2, 3), (1, 2), (1, 1, 2, 0), (2, 1)),
    "multiplier 3, 1 axis": ((2, 5, 20), 3, (5,), (2,), (1, 3), (3,)),
    "strides 2 and 3, dilated": ((2, 6, 9, 11), 1, (3, 4), (2, 3), (1, 2, 1, 0), (2, 2)),
    "stride and dilation in common": ((1, 4, 60), 1, (9,), (4,), (2, 1), (2,)),
    "a long stride": ((1, 2, 61), 1, (7,), (6,), (2, 1), (4,)),
    "a long stride, fewer taps": ((2, 2, 9, 40), 1, (1, 5), (2, 7), (0, 0, 2, 1), (1, 1)),
    "many taps": ((1, 4, 40), 1, (31,), (1,), (15, 15), (1,)),
    "many taps, stride 2": ((1, 4, 45), 2, (19,), (2,), (9, 9), (1,)),
    "15 taps": ((2, 8, 20), 1, (15,), (1,), (7, 7), (1,)),
    "one tap": ((2, 8, 5, 4), 1, (1, 1), (2, 1), (0, 0, 1, 1), (1, 1)),
    "3 axes": ((1, 2, 4, 5, 6), 1, (2, 3, 2), (2, 1, 3), (1, 0, 1, 1, 0, 2), (1, 2, 1)),
    "3 axes, multiplier 2": ((3, 2, 4, 5, 6), 2, (1, 2, 2), (1, 2, 1), (0, 0, 1, 1, 0, 2), (1, 1, 2)),
}
STRIPS = (Tile(32, 4, 2, 1, 1), Tile(64, 7, 1, 2, 1), Tile(128, 8, 3, 4, 1))


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    return request.param


@pytest.fixture
def device():
    with running("kernel") as device:
        yield device


def operands(layer, device, dtype=torch.float64):
    """The operands of the three operators, and what PyTorch makes of them."""
    shape, multiplier, kernel_size, stride, padding, dilation = layer
    channels, axes = shape[1], len(kernel_size)
    x, w = integers(shape, "cpu"), integers((channels * multiplier, 1, *kernel_size), "cpu", seed=1)
    bias = integers((channels * multiplier,), "cpu", seed=2)
    pads = [side for pair in reversed(list(zip(padding[::2], padding[1::2], strict=True))) for side in pair]
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = CONV[axes](functional.pad(leaves[0], pads), leaves[1], bias, stride, 0, dilation, channels)
    dy = integers(y.shape, "cpu", seed=3)
    wanted = (y.detach(), *torch.autograd.grad(y, leaves, dy))
    return [t.to(device, dtype) for t in (x, w, bias, dy)], (stride, padding, dilation, channels), wanted


def results(layer, device, change, dtype=torch.float64):
    (x, w, bias, dy), rest, wanted = operands(layer, device, dtype)
    x, dy = change(x), change(dy)
    y = operators.conv(x, w, bias, *rest)
    dx = operators.conv_transpose(dy, w, None, x.shape[2:], *rest)
    return (y, dx, operators.conv_weight_grad(x, dy, w.shape[2:], *rest)), wanted


@pytest.fixture
def fresh(monkeypatch):
    """Tiles are chosen anew."""
    monkeypatch.setattr(autotune, "_measured", {})
    return monkeypatch


@pytest.mark.parametrize("change", [memory.with_channels_last, torch.clone], ids=["last", "first"])
def test_every_geometry_exactly(layer, device, change):
    """Poisoned: an element left unwritten would be NaN, as would a sum of what lies outside."""
    with poisoned():
        found, wanted = results(layer, device, change)
    for y, exact in zip(found, wanted, strict=True):
        assert torch.equal(y.cpu(), exact)


@pytest.mark.parametrize("tile", STRIPS, ids=str)
@pytest.mark.parametrize("name", ["24 channels, stride 2", "multiplier 2", "3 axes", "16 channels, 7x7"])
def test_every_tile_exactly(name, tile, device, fresh):
    for module in (depthwise, depthwise_input_grad, depthwise_weight_grad):
        fresh.setattr(module, "TILES", (tile,))
    found, wanted = results(LAYERS[name], device, memory.with_channels_last)
    assert all(torch.equal(y.cpu(), exact) for y, exact in zip(found, wanted, strict=True))


@pytest.mark.parametrize("most", [1, 3, 10**6])
@pytest.mark.parametrize("name", ["24 channels, stride 2", "5 channels, a strip and a bit", "3 axes, multiplier 2"])
def test_the_weight_gradient_in_any_number_of_parts(name, most, device, fresh, request):
    def forget():  # how a geometry is split is kept, and so are launches
        depthwise_weight_grad._shares.cache_clear()
        bound._kept.clear()

    forget()
    request.addfinalizer(forget)
    split, counts = depthwise_weight_grad.split, []

    def other(items, each, weights, _):
        counts.append(split(items, each, weights, most * each))
        return counts[-1]

    fresh.setattr(depthwise_weight_grad, "split", other)
    found, wanted = results(LAYERS[name], device, memory.with_channels_last)
    assert torch.equal(found[2].cpu(), wanted[2])
    share, parts = counts[0]
    assert parts == 1 if most == 1 else parts > 1
    assert share == 1 if most == 10**6 else share > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_halves_and_singles(layer, device, dtype):
    found, wanted = results(layer, device, memory.with_channels_last, dtype)
    assert all(torch.equal(y.cpu(), exact.to(dtype)) for y, exact in zip(found, wanted, strict=True))


def test_two_runs_are_bitwise_equal(device):
    x, w = torch.randn(2, 24, 9, 8, device=device), torch.randn(24, 1, 3, 3, device=device)
    dy = torch.randn(2, 24, 9, 8, device=device)
    runs = [operators.conv_weight_grad(x, dy, w.shape[2:], (1, 1), (1, 1, 1, 1), (1, 1), 24) for _ in range(2)]
    assert torch.equal(*runs)


def test_what_is_infinite_stays_in_its_window(device):
    """Samples past the last window of a strip, or that no window shows, are no term of any sum."""
    x, w = torch.ones(1, 8, 12, device=device, dtype=torch.float64), torch.ones(8, 1, 3, device=device).double()
    x[..., -1] = float("inf")
    y = operators.conv(x, w, None, (2,), (0, 0), (1,), 8)
    assert (y == 3).all()
    dw = operators.conv_weight_grad(x, torch.ones_like(y), (3,), (2,), (0, 0), (1,), 8)
    assert (dw == y.shape[2]).all()
    many = torch.ones(8, 1, 19, device=device).double()
    x = torch.ones(1, 8, 40, device=device, dtype=torch.float64)
    x[..., 25] = float("inf")
    y = operators.conv(x, many, None, (1,), (0, 0), (1,), 8)
    assert ((y == 19) | y.isinf()).all()
    assert y.isinf().sum() == 8 * 19 - 8 * 4


def test_channels_that_lie_apart_or_are_one(device):
    """Expanded channels have no step, and vectors of channels would read one sample's neighbours."""
    w = integers((8, 1, 3, 3), device)
    wide = integers((2, 1, 6, 7), device, seed=1).expand(2, 8, 6, 7)
    rest = ((1, 1), (1, 1, 1, 1), (1, 1), 8)
    assert torch.equal(operators.conv(wide, w, None, *rest), operators.conv(wide.contiguous(), w, None, *rest))
    sparse = memory.with_channels_last(integers((2, 12, 6, 7), device, seed=2))[:, 1:9]
    assert torch.equal(operators.conv(sparse, w, None, *rest), operators.conv(sparse.clone(), w, None, *rest))


@pytest.mark.parametrize(
    ("dtype", "channels", "size"),
    [
        (torch.bfloat16, 24, 8),
        (torch.bfloat16, 20, 4),
        (torch.float32, 24, 4),
        (torch.float64, 3, 1),
        (torch.float64, 6, 2),
    ],
)
def test_vectors_are_as_wide_as_channels_allow(dtype, channels, size):
    x = memory.with_channels_last(torch.ones(2, channels, 9, 9, dtype=dtype))
    layer = conv_geometry(x.shape, (channels, 1, 3, 3), axes=2, groups=channels)
    assert depthwise.vectors_of(layer, x, x).size == size
    first = torch.ones(2, channels, 9, 9, dtype=dtype)
    assert depthwise.vectors_of(layer, first, x).size == 1
    assert depthwise.vectors_of(layer, x[:, :, :, ::2], x).size == size


def test_no_size_is_specialised():
    """That accesses are wide is known from the vectors: a new batch or picture compiles nothing."""
    for module in (depthwise, depthwise_input_grad, depthwise_weight_grad):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            kernel = getattr(module, name)
            if runtime.INTERPRET or not hasattr(kernel, "params"):
                continue
            free = [p.name for p in kernel.params if not (p.is_constexpr or p.do_not_specialize)]
            assert all(argument.endswith("_ptr") for argument in free), free
