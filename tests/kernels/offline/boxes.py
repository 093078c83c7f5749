"""The kernels of plain layers by boxes of pixels, as rows for tests/kernels/test_offline.py: layers of ResNet-50."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.layers import forward_hopper, input_grad_hopper, memory, pixel_boxes
from konvlib.layers.autotune import BoxTile, Tile
from tests.kernels.offline.compiling import Row

LAYERS = {  # batch, in and out channels, size, kernel, stride, padding
    "56": (32, 64, 64, 56, 3, 1, 1),
    "28": (32, 128, 128, 28, 3, 1, 1),
    "14": (32, 256, 256, 14, 3, 1, 1),
    "7": (32, 512, 512, 7, 3, 1, 1),
    "points": (32, 256, 512, 56, 1, 1, 0),
    "strided points": (32, 256, 512, 56, 1, 2, 0),
    "strided": (32, 128, 128, 56, 3, 2, 1),
}
BIASED = ("7", "strided")
TILE = Tile(128, 128, 64, 8, 4)


def forward(layer: list[int], tile: list[int], dtype: str, bias: bool) -> tuple[Any, dict[str, Any]]:
    """The kernel of the layer and the arguments of a launch."""
    geometry, x, y, packed = operands(layer, dtype)
    given = packed.new_ones(geometry.out_channels) if bias else None
    return launched(forward_hopper, "conv_boxes_kernel", "write_conv", tile, (y, x, packed, given, geometry))


def input_grad(layer: list[int], tile: list[int], dtype: str, bias: bool) -> tuple[Any, dict[str, Any]]:
    """The same for its input gradient."""
    geometry, x, y, packed = operands(layer, dtype)
    given = (x, y, packed, packed.new_ones(geometry.in_channels) if bias else None, geometry)
    return launched(input_grad_hopper, "conv_input_grad_boxes_kernel", "write_input_grad", tile, given)


def operands(layer: list[int], dtype: str) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The geometry, and what nothing is written to or read of: tensors of no memory."""
    batch, inputs, outputs, size, kernel, stride, padding = layer
    shape, weight = (batch, inputs, size, size), (outputs, inputs, kernel, kernel)
    geometry = conv_geometry(shape, weight, axes=2, stride=stride, padding=padding)
    like = torch.empty(1, 2, 2, 2, dtype=getattr(torch, dtype)).to(memory_format=torch.channels_last)
    x, y = memory.empty(like, shape), memory.empty(like, geometry.output_shape)
    return geometry, x, y, like.new_empty(outputs, kernel**2, inputs)


def launched(module: Any, kernel: str, launcher: str, tile: list[int], given: tuple) -> tuple[Any, dict[str, Any]]:
    """The kernel, and the arguments by name that a launcher gives it."""
    launches: list[dict[str, Any]] = []
    found = getattr(module, kernel)

    class Launches:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *each, **named: launches.append(dict(zip(found.arg_names, each, strict=False)) | named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, kernel, Launches())
        getattr(module, launcher)(*given, BoxTile(*tile))
    return found, launches[0]


def _row(what: str, name: str, tile: Tile, dtype: str = "bfloat16") -> Row:
    batch, _, _, size, _, stride, _ = LAYERS[name]
    images = (1, 1, batch * size**2) if name == "points" else (batch, size // stride, size // stride)
    box = pixel_boxes.box_of(tile.block_m, *images)
    label = f"{what} boxes {name} {dtype} {' '.join(map(str, (*tile, *box)))}"
    constants = {"layer": LAYERS[name], "tile": (*tile, 1, *box), "dtype": dtype, "bias": name in BIASED}
    return Row(label, __name__, what, {}, constants, warps=tile.num_warps)


ROWS = [
    *(_row("forward", "56", tile) for tile in pixel_boxes.TILES),
    *(_row("forward", name, TILE) for name in LAYERS if name != "56"),
    _row("forward", "7", pixel_boxes.TILES[0], "float16"),
    *(_row("input_grad", "56", tile) for tile in pixel_boxes.TILES),
    *(_row("input_grad", name, TILE) for name in ("28", "14", "7", "points", "strided")),
    _row("input_grad", "7", pixel_boxes.TILES[0], "float16"),
] if runtime.gluon else []  # fmt: skip
PRODUCTS = GEMMS = ROWS
