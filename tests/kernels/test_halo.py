"""Konvolution by a halo in shared memory: its body in NumPy against the definition, and what it says of layers."""

from __future__ import annotations

from itertools import cycle, product

import pytest
import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import operators
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo
from tests.kernels import emulated_gluon

GEOMETRIES = {  # shape, outputs, kernel, degrees, basis, masked, bias, options
    "square": ((2, 64, 14, 14), 64, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}),
    "stride": ((3, 64, 8, 8), 72, (3, 3), 3, "chebyshev", True, "map", {"padding": 1, "stride": 2}),
    "points": ((2, 80, 9, 5), 130, (1, 1), 3, "monomial", True, "channel", {"stride": 2}),
    "columns apart": ((2, 64, 9, 7), 48, (3, 2), 2, "hermite", True, None, {"dilation": (1, 2), "stride": (2, 1)}),
    "second kind": ((2, 64, 7, 11), 64, (3, 5), 2, "chebyshev2", False, "map", {"padding": (2, 0), "dilation": (1, 2)}),
    "one axis": ((9, 64, 33), 64, (7,), 2, "chebyshev2", True, "channel", {"padding": 3, "dilation": 2}),
    "seven": ((1, 64, 12, 10), 128, (7, 7), 1, "chebyshev", True, None, {"padding": 3, "stride": 2}),
    "sides": ((2, 48, 12, 9), 64, (4, 2), 2, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "steps": ((2, 48, 12, 9), 64, (4, 2), 2, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "dilation": 3}),
    "small": ((16, 128, 4, 4), 128, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}),
}
TILES = (*halo.WIDE, *halo.NARROW, Tile(64, 64, 128, 4, 3))


def operands(shape, outputs, kernel, degrees, bias, layer):
    """Small integers, whose sums and polynomials are exact in halves."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(-1, 2, shape, generator=draw).bfloat16().movedim(1, -1).contiguous().movedim(-1, 1)
    kappa = torch.randint(-1, 2, (outputs, degrees, shape[1], *kernel), generator=draw).bfloat16()
    size = {None: None, "channel": (outputs,), "map": (1, outputs, *layer.output_size)}[bias]
    return x, kappa, None if size is None else torch.randint(-3, 4, size, generator=draw).bfloat16()


@pytest.mark.parametrize(("name", "tile"), list(zip(GEOMETRIES, cycle(TILES))))
def test_the_body_computes_the_layer(name, tile):
    """Each program in NumPy, products read as late and copies made as early as may be; unwritten outputs are NaN."""
    shape, outputs, kernel, degrees, basis, masked, bias, options = GEOMETRIES[name]
    layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)
    x, kappa, b = operands(shape, outputs, kernel, degrees, bias, layer)
    y = torch.full((shape[0], *layer.output_size, outputs), float("nan"), dtype=x.dtype).movedim(-1, 1)
    expansion = Expansion(degrees, basis, "none", masked)
    emulated_gluon.run(*halo.launched(y, x, kappa, b, layer, expansion, halo.blocks_of(layer, tile)))
    padding = [side for pair in layer.padding for side in pair]
    rest = (basis, "none", masked, list(layer.stride), padding, list(layer.dilation), 1)
    wide = [None if tensor is None else tensor.double() for tensor in (x, kappa, b)]
    assert torch.equal(y, operators.konv.composite(*wide, *rest).bfloat16())


def test_slots_lie_between_images_only_where_a_tap_would_read_the_next():
    """With stride 2 an odd size needs none: the last row's tap meets padding, as the next image's first row does."""
    gaps = [
        halo.walk_of(conv_geometry((1, 64, n), (64, 64, 3), axes=1, stride=s, padding=1)).gap
        for n, s in [(8, 1), (8, 2), (9, 2)]
    ]
    assert gaps == [1, 1, 0]


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((1, 64, 9, 9), (64, 32, 3, 3), {"groups": 2}),
        ((1, 16, 9, 9), (64, 16, 3, 3), {}),
        ((1, 64, 9, 9), (16, 64, 3, 3), {}),
        ((1, 64, 9, 9, 9), (64, 64, 3, 3, 3), {}),
        ((1, 64, 99), (64, 64, 9), {}),
        ((1, 64, 9, 9), (64, 64, 3, 3), {"stride": 3}),
        ((0, 64, 9, 9), (64, 64, 3, 3), {}),
    ],
)
def test_other_layers_are_not_served(shape, weight, options):
    layer = conv_geometry(shape, weight, axes=len(shape) - 2, **options)
    assert not halo.fits(layer, torch.bfloat16)
    plain = conv_geometry((1, 64, 9, 9), (64, 64, 3, 3), axes=2)
    assert halo.fits(plain, torch.bfloat16)
    assert not halo.fits(plain, torch.float32)


def test_every_tile_fits_in_shared_memory():
    for kernel, stride in product(range(1, 8), (1, 2)):
        layer = conv_geometry((2, 64, 32, 32), (128, 64, kernel, kernel), axes=2, stride=stride)
        assert all(halo.blocks_of(layer, tile) for tile in (halo.WIDE[0], halo.NARROW[0]))
