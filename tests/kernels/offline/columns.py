"""The kernel of Konvolution's input gradient by columns, as rows for tests/kernels/test_offline.py."""

from __future__ import annotations

from typing import Any

import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import columns
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from tests.kernels.offline.compiling import Row

LAYERS = {  # in and out channels, size, kernel, stride, padding, degrees
    "128 channels": (128, 128, 28, 3, 1, 1, 4),
    "64 channels": (64, 64, 56, 3, 1, 1, 4),
    "degree 2": (128, 128, 28, 3, 2, 1, 2),
    "degree 3": (256, 256, 56, 3, 1, 1, 3),
    "degree 8": (128, 128, 128, 3, 1, 1, 8),
    "stride": (64, 64, 112, 3, 2, 1, 4),
    "points": (256, 64, 56, 1, 1, 0, 4),
    "few channels": (16, 32, 32, 5, 1, 2, 4),
    "uneven": (80, 136, 17, 5, 2, 2, 6),
}


def launch(
    layer: list[int], tile: list[int], basis: str = "chebyshev", squash: str = "tanh", dtype: str = "bfloat16"
) -> tuple[Any, dict[str, Any]]:
    """The kernel and the arguments of a launch, on a batch of two."""
    inputs, outputs, size, kernel, stride, padding, degrees = layer
    shape, options = (2, inputs, size, size), {"stride": stride, "padding": padding}
    geometry = conv_geometry(shape, (outputs, inputs, kernel, kernel), axes=2, **options)
    x = torch.ones(shape, dtype=getattr(torch, dtype)).to(memory_format=torch.channels_last)
    dy = x.new_ones(geometry.output_shape).to(memory_format=torch.channels_last)
    w = columns.side_by_side(x.new_ones(outputs, degrees, inputs, kernel, kernel), tile[1])
    expansion = Expansion(degrees, basis, squash)
    found, _, arguments = columns.launched(torch.empty_like(x), dy, x, w, geometry, expansion, Tile(*tile))
    return found, arguments


def _row(name: str, tile: Tile, **constants: Any) -> Row:
    label = " ".join(["columns", name, *map(str, tile), *map(str, constants.values())])
    return Row(label, __name__, "launch", {}, {"layer": LAYERS[name], "tile": tile, **constants}, warps=tile.num_warps)


def _likely(name: str) -> list[Tile]:
    """The tiles that would be measured on a batch of 32."""
    inputs, outputs, size, kernel, stride, padding, degrees = LAYERS[name]
    options = {"stride": stride, "padding": padding}
    layer = conv_geometry((32, inputs, size, size), (outputs, inputs, kernel, kernel), axes=2, **options)
    return columns.likely_tiles(layer, degrees, 132)


FIRST = _likely("128 channels")[0]
ROWS = [
    *(_row(name, tile) for name in LAYERS for tile in _likely(name)),
    *(_row("128 channels", FIRST, basis=basis) for basis in ("monomial", "legendre", "hermite", "chebyshev2")),
    _row("128 channels", FIRST, squash="none"),
    _row("128 channels", FIRST, dtype="float16"),
]
PRODUCTS = ROWS
WIDE = [row for row in ROWS if "uneven" not in row.name]
