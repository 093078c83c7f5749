"""The kernel of Konvolution by a halo, as rows for tests/kernels/test_offline.py: the benchmark's layers."""

from __future__ import annotations

from typing import Any

import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import halo
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from tests.kernels.offline.compiling import Row

LAYERS = {  # in and out channels, size, kernel, stride, padding, degrees
    "128 channels": (128, 128, 28, 3, 1, 1, 4),
    "64 channels": (64, 64, 56, 3, 1, 1, 4),
    "degree 8": (128, 128, 128, 3, 1, 1, 8),
    "stride": (64, 64, 112, 3, 2, 1, 4),
    "points": (256, 64, 56, 1, 1, 0, 4),
    "seven": (128, 128, 28, 7, 1, 3, 2),
    "uneven": (80, 130, 17, 5, 2, 2, 3),
}


def launch(
    layer: list[int], tile: list[int], basis: str = "chebyshev", squash: str = "tanh", dtype: str = "bfloat16"
) -> tuple[Any, dict[str, Any]]:
    """The kernel and the arguments of a launch, on a batch of one."""
    inputs, outputs, size, kernel, stride, padding, degrees = layer
    shape, options = (1, inputs, size, size), {"stride": stride, "padding": padding}
    geometry = conv_geometry(shape, (outputs, inputs, kernel, kernel), axes=2, **options)
    x = torch.ones(shape, dtype=getattr(torch, dtype)).to(memory_format=torch.channels_last)
    kappa = x.new_ones(outputs, degrees, inputs, kernel, kernel)
    bias = x.new_ones(1, outputs, *geometry.output_size)
    y = x.new_empty(1, *geometry.output_size, outputs).movedim(-1, 1)
    blocks = halo.blocks_of(geometry, Tile(*tile))
    found, _, arguments = halo.launched(y, x, kappa, bias, geometry, Expansion(degrees, basis, squash, True), blocks)
    return found, arguments


def _row(name: str, tile: Tile, **constants: Any) -> Row:
    label = " ".join(["halo", name, *map(str, tile), *map(str, constants.values())])
    return Row(label, __name__, "launch", {}, {"layer": LAYERS[name], "tile": tile, **constants}, warps=tile.num_warps)


ROWS = [
    *(_row(name, tile) for name in LAYERS for tile in (halo.NARROW if LAYERS[name][1] <= 64 else halo.WIDE)),
    *(_row("128 channels", halo.WIDE[0], basis=basis) for basis in ("monomial", "legendre", "hermite", "chebyshev2")),
    _row("128 channels", halo.WIDE[0], squash="none"),
    _row("128 channels", halo.WIDE[0], dtype="float16"),
]
PRODUCTS = ROWS
SPILLED = 512
"""Bytes that a row may spill: the tiles that were quickest on an H100 keep some addresses of the halo in memory."""
