"""Konvolution's input gradient by columns of a degree and a channel: its Gluon kernel in the emulator, exactly."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.konvolution import columns, columns_kernel, operators
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import BASES, Expansion
from konvlib.layers.weight_grad_hopper import fits
from tests.kernels import gluon_emulator
from tests.kernels.gluon_emulator import Value, bare
from tests.kernels.test_layers import last

pytestmark = pytest.mark.skipif(runtime.gluon is None, reason="Triton is missing")

KERNELS = ["taps_of_phase", "copy_step", "by_degree", "one_degree_lower", "with_slopes", "konv_columns_kernel"]
EXACT = ("monomial", "chebyshev", "chebyshev2", "hermite")
"""The bases whose recurrences have whole numbers."""


def squashed(x: Value, SQUASH: str) -> Value:
    return Value(np.tanh(bare(x).astype(float))) if SQUASH == "tanh" else x


def operands(layer, degrees: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Small integers: ``dy``, ``x`` and the coefficients."""
    draw = torch.Generator().manual_seed(seed)
    shapes = layer.output_shape, layer.input_shape, (layer.out_channels, degrees, *layer.weight_shape[1:])
    dy, x, kappa = (torch.randint(-2, 3, shape, generator=draw).double() for shape in shapes)
    return last(dy), last(x), kappa


def emulated(dy, x, kappa, layer, expansion: Expansion, tile: Tile, **options: Any) -> torch.Tensor:
    """The launcher as it is, with the emulator as its kernel; what it leaves unwritten is NaN."""
    halves = [t.half() for t in (dy, x)]
    w = columns.side_by_side(kappa, tile.block_n)
    dx = torch.empty_like(halves[1])
    _, grid, arguments = columns.launched(dx, *halves, w.half(), layer, expansion, tile)
    line = np.full(dx.numel(), np.nan)
    views = {"dy_desc": dy.movedim(1, -1).reshape(arguments["dy_desc"].shape), "w_desc": w}
    for name, tensor in views.items():
        views[name] = gluon_emulator.Descriptor(tensor.numpy(), arguments[name].block_shape, np.float64)
        views[name].dtype.primitive_bitwidth = 16
    pointers = {"x_ptr": gluon_emulator.Pointer(x.movedim(1, -1).reshape(-1).numpy())}
    pointers["dx_ptr"] = gluon_emulator.Pointer(line)
    kernels = [getattr(columns_kernel, name) for name in KERNELS]
    names = {"exactly_squashed": squashed, "WIDTH": columns.WIDTH}
    gluon_emulator.run(kernels, grid[0], names=names, **options, **{**arguments, **views, **pointers})
    batch, channels, *size = layer.input_shape
    return torch.from_numpy(line.reshape(batch, *size, channels)).movedim(-1, 1)


def expected(dy, x, kappa, layer, expansion: Expansion) -> torch.Tensor:
    sides = [side for pair in layer.padding for side in pair]
    rest = (expansion.basis, expansion.squash, True, list(layer.stride), sides, list(layer.dilation), layer.groups)
    return operators.konv_input_grad.composite(dy, x, kappa, *rest)


def drawn(seed: int):
    """A layer of the box: one or two axes, kernels 1 to 5, strides, dilations and paddings up to 3, degrees 1 to 8."""
    draw = random.Random(seed)
    while True:
        axes = draw.choice((1, 2, 2))
        shape = draw.randint(1, 3), draw.choice((16, 24, 40, 64, 72)), *(draw.randint(1, 9) for _ in range(axes))
        weight = 8 * draw.randint(1, 9), shape[1], *(draw.randint(1, 5) for _ in range(axes))
        options = {name: tuple(draw.randint(1, 3) for _ in range(axes)) for name in ("stride", "dilation")}
        sides = tuple((draw.randint(0, 3), draw.randint(0, 3)) for _ in range(axes))
        try:
            layer = conv_geometry(shape, weight, axes=axes, padding=sides, **options)
        except ValueError:
            continue
        if not fits(last(torch.empty(layer.output_shape, dtype=torch.half))):  # one pixel whose step is not 16 bytes
            continue
        expansion = Expansion(draw.randint(1, 8), draw.choice(BASES), draw.choice(("none", "tanh")), True)
        tile = draw.choice(columns.tiles_of(layer, expansion.degrees))
        return layer, expansion, tile._replace(num_stages=draw.randint(2, 4))


def agrees(found: torch.Tensor, wanted: torch.Tensor, expansion: Expansion) -> bool:
    if expansion.squash == "none" and expansion.basis in EXACT:
        return torch.equal(found, wanted)
    return torch.allclose(found, wanted, rtol=1e-6, atol=1e-4 * float(wanted.abs().max()))  # tanh in single precision


@pytest.mark.parametrize("seed", range(60))
def test_the_gradient_is_exact_in_a_random_box(seed):
    layer, expansion, tile = drawn(seed)
    given = *operands(layer, expansion.degrees, seed), layer, expansion
    found = emulated(*given, tile, late=bool(seed % 2))
    assert agrees(found, expected(*given), expansion), (layer, expansion, tile)
