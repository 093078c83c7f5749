"""The kernel of Konvolution by a halo with degrees side by side, as rows for tests/kernels/test_offline.py."""

from __future__ import annotations

from typing import Any

import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import halo_beside
from konvlib.konvolution.preparation import Added, ends_of
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from tests.kernels.offline.compiling import Row

LAYERS = {  # in and out channels, size, kernel, stride, padding, degrees
    "16 channels": (16, 32, 32, 5, 1, 2, 4),
    "32 channels": (32, 64, 56, 3, 1, 1, 6),
    "16 outputs": (16, 16, 32, 3, 1, 1, 8),
    "128 outputs": (32, 128, 28, 3, 1, 1, 4),
    "64 outputs": (64, 64, 56, 3, 1, 1, 4),
    "stride": (64, 64, 112, 3, 2, 1, 4),
    "points": (256, 64, 56, 1, 1, 0, 4),
    "seven": (16, 64, 32, 7, 2, 3, 2),
    "uneven": (24, 48, 17, 5, 2, 2, 4),
}


def geometry_of(layer: list[int]) -> Any:
    inputs, outputs, size, kernel, stride, padding, _ = layer
    options = {"stride": stride, "padding": padding}
    return conv_geometry((1, inputs, size, size), (outputs, inputs, kernel, kernel), axes=2, **options)


def launch(
    layer: list[int], tile: list[int], basis: str = "chebyshev", squash: str = "tanh", dtype: str = "bfloat16"
) -> tuple[Any, dict[str, Any]]:
    """The kernel and the arguments of a launch, on a batch of one."""
    geometry, degrees = geometry_of(layer), layer[-1]
    x = torch.ones(geometry.input_shape, dtype=getattr(torch, dtype)).to(memory_format=torch.channels_last)
    columns = halo_beside.columns_of(geometry, degrees, halo_beside.width_of(geometry, degrees))
    weight = x.new_ones(geometry.out_channels, columns * geometry.kernel_size[0] ** 2)
    ends = ends_of(geometry, 0), ends_of(geometry, 1)
    added = Added(torch.ones(ends[0].kinds, ends[1].kinds, geometry.out_channels), *ends)
    y = x.new_empty(1, *geometry.output_size, geometry.out_channels).movedim(-1, 1)
    blocks = halo_beside.blocks_of(geometry, degrees, Tile(*tile))
    expansion = Expansion(degrees, basis, squash, True)
    found, _, arguments = halo_beside.launched(y, x, weight, added, geometry, expansion, blocks)
    return found, arguments


def _row(name: str, tile: Tile, **constants: Any) -> Row:
    label = " ".join(["halo beside", name, *map(str, tile), *map(str, constants.values())])
    return Row(label, __name__, "launch", {}, {"layer": LAYERS[name], "tile": tile, **constants}, warps=tile.num_warps)


TILES = {name: halo_beside.tiles_of(geometry_of(layer)) for name, layer in LAYERS.items()}
FIRST = TILES["16 channels"][0]
ROWS = [
    *(_row(name, tile) for name in LAYERS for tile in TILES[name]),
    *(_row("16 channels", FIRST, basis=basis) for basis in ("monomial", "legendre", "hermite", "chebyshev2")),
    _row("16 channels", FIRST, squash="none"),
    _row("16 channels", FIRST, dtype="float16"),
]
PRODUCTS = ROWS
