"""The kernels of layers and of Konvolution, as rows for tests/kernels/test_offline.py."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.konvolution import kernels
from konvlib.layers import (
    autotune,
    depthwise,
    depthwise_input_grad,
    depthwise_weight_grad,
    forward,
    input_grad,
    polynomial_input_grad,
    weight_grad,
    weight_grad_boxes,
    weight_grad_hopper,
    weight_grad_parts,
)
from konvlib.runtime import gl
from tests.kernels.offline.compiling import Row

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
SUMS = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}
TILES = {"fp16": autotune.HALVES, "bf16": autotune.HALVES, "fp32": autotune.SINGLES, "fp64": autotune.DOUBLES}
POINTERS = ("x", "y", "dx", "dy", "w", "dw", "bias", "z", "dz")
EVEN = {"EVEN_K": True}
WIDTHS = (
    *(f"stride_{tensor}{place}" for tensor in ("x", "y", "dx", "dy") for place in "ndhw"),
    *("stride_wo", "stride_wt", "stride_bd", "stride_bh", "stride_bw", "in_channels", "out_channels"),
)
"""What is a multiple of 16 where the number of channels is."""


def row(
    module: Any, kernel: str, dtype: str, label: str, constants: dict[str, Any], *, few: bool = True, **other: Any
) -> Row:
    """All arguments 32-bit integers but for pointers and those named in ``other``; aligned unless there are ``few``."""
    warps, stages = other.pop("warps", 4), other.pop("stages", 3)
    names = getattr(module, kernel).arg_names
    types = {f"{name}_ptr": f"*{dtype}" for name in POINTERS} | {"sums_ptr": f"*{SUMS[dtype]}"}
    given = {name: types.get(name, "i32") for name in names if name not in constants} | other
    shown = [f"{key}={value}" for key, value in constants.items() if value not in ("none", False)]
    aligned = () if few else tuple(name for name in WIDTHS if name in names and name not in other)
    constants = constants | {"ACC_DTYPE": SUMS[dtype]}
    given.pop("ACC_DTYPE")
    name = " ".join([kernel.removesuffix("_kernel"), dtype, label, *shown])
    return Row(name, module.__name__, kernel, given, constants, warps, stages, aligned)


def product_row(
    module: Any, kernel: str, dtype: str, tile: autotune.Tile, *, axes: int = 2, few: bool = False, **constants: Any
) -> Row:
    """A kernel around a matrix product; ``few`` is its variant for few channels."""
    kernel = kernel.replace("_kernel", "_few_kernel") if few else kernel
    tile = autotune.for_few_channels(tile) if few else tile
    constants = {"AXES": axes, "INPUT_PRECISION": "ieee", **constants}
    constants |= {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "BLOCK_K": tile.block_k}
    few = few or (tile.block_k < 32 and not constants.get("EVEN_K", True))
    ones = {"stride_yc": 1, "stride_dxc": 1, "stride_xc": 1, "stride_bc": 1}
    ones = {name: one for name, one in ones.items() if name in getattr(module, kernel).arg_names}
    ones |= dict.fromkeys(("factor_d", "factor_h", "factor_w"), "i64") if module is weight_grad else {}
    label = " ".join(map(str, tile))
    return row(module, kernel, dtype, label, constants, few=few, warps=tile.num_warps, stages=tile.num_stages, **ones)


def forward_row(dtype: str, tile: autotune.Tile, *, few: bool = False, **constants: Any) -> Row:
    constants = {"BIAS": "none", "INT64": False, **({} if few else EVEN), **constants}
    constants = {"DEGREES": 1, "BASIS": "none", "SQUASH": "none", "MASKED": False, **constants}
    return product_row(forward, "conv_forward_kernel", dtype, tile, few=few, **constants)


def input_grad_row(dtype: str, tile: autotune.Tile, *, few: bool = False, **constants: Any) -> Row:
    constants = {"HAS_BIAS": False, "INT64": False, **({} if few else EVEN), **constants}
    return product_row(input_grad, "conv_input_grad_kernel", dtype, tile, few=few, **constants)


def polynomial_input_grad_row(dtype: str, tile: autotune.Tile, **constants: Any) -> Row:
    constants = {"INT64": False, "BASIS": "chebyshev", "SQUASH": "tanh", **EVEN, **constants}
    return product_row(polynomial_input_grad, "polynomial_input_grad_kernel", dtype, tile, **constants)


def weight_grad_row(dtype: str, tile: autotune.Tile, *, few: bool = False, **constants: Any) -> Row:
    constants = {"DEGREE": 1, "BASIS": "none", "SQUASH": "none", "MASKED": False, **constants}
    constants = {"IN_LINE": True, "INT64": False, **({} if few else {"POINTWISE": False}), **constants}
    return product_row(weight_grad, "conv_weight_grad_kernel", dtype, tile, few=few, **constants)


def depthwise_row(what: str, dtype: str, side: int, stride: int, tile: autotune.Tile, *, channels: int = 96) -> Row:
    """A depthwise kernel as its launcher calls it, for a square layer of 28 x 28; unaligned but for pointers."""
    module, call = DEPTHWISE[what]
    shapes, options = ((32, channels, 28, 28), (channels, 1, side, side)), {"stride": stride, "padding": side // 2}
    layer = conv_geometry(*shapes, axes=2, groups=channels, **options)
    element = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}[dtype]
    x, y = (
        torch.empty(32, n, n, channels, dtype=element, device="cpu").movedim(-1, 1) for n in (28, layer.output_size[0])
    )
    launches: list[tuple[str, dict[str, Any]]] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in vars(module) if name.startswith("depthwise") and name.endswith("_kernel")]:
            patch.setattr(module, name, Launches(name, launches))
        patch.setattr(module, "TILES", (tile,))
        patch.setattr(autotune, "_measured", {})
        call(x, y, torch.empty(channels, 1, side, side, dtype=element), layer)
    kernel, given = launches[0]
    constants = {name: value for name, value in given.items() if name.isupper() and name != "ACC_DTYPE"}
    made = row(module, kernel, dtype, "", constants, warps=tile.num_warps, stages=tile.num_stages)
    label = f"{side}x{side} stride {stride} channels {channels} tile {' '.join(map(str, tile))}"
    return replace(made, name=f"{kernel.removesuffix('_kernel')} {dtype} {label}")


class Launches:
    """Stands for a kernel and writes down what it is launched with."""

    def __init__(self, name: str, launches: list[tuple[str, dict[str, Any]]]):
        self.name, self.launches = name, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda **given: self.launches.append((self.name, given))


DEPTHWISE = {
    "forward": (depthwise, lambda x, y, w, layer: depthwise.conv(x, w, None, layer)),
    "input_grad": (depthwise_input_grad, lambda x, y, w, layer: depthwise_input_grad.conv_transpose(y, w, None, layer)),
    "weight_grad": (depthwise_weight_grad, lambda x, y, w, layer: depthwise_weight_grad.conv_weight_grad(x, y, layer)),
}


def depthwise_sum_parts_row(dtype: str) -> Row:
    constants = {"TAPS": 49, "BLOCK_M": 256, "BLOCK_N": 8}
    return row(depthwise_weight_grad, "depthwise_sum_parts_kernel", dtype, "", constants, warps=8)


def sum_parts_row(dtype: str, *, in_line: bool = True) -> Row:
    constants = {"IN_LINE": in_line, "INT64": False, "BLOCK": 256, "PARTS": 8}
    made = row(weight_grad_parts, "sum_parts_kernel", dtype, "", constants)
    return replace(made, aligned=("weights", "in_channels"))


def boxes_row(dtype: str, tile: autotune.Tile, box: tuple[int, int, int], out: str = "fp32") -> Row:
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=4)
    kinds = {
        name: f"tensordesc<{dtype}[{', '.join(map(str, (*box, width)))}],{layout!r}>"
        for name, width in (("x_desc", tile.block_n), ("dy_desc", tile.block_m))
    }
    constants = dict(zip(("BOX_N", "BOX_H", "BOX_W"), box, strict=True)) | {"BOXES": tile.block_k // math.prod(box)}
    constants |= {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "SLOTS": tile.num_stages}
    constants |= {"num_warps": tile.num_warps}
    names = weight_grad_hopper.weight_grad_boxes_kernel.arg_names
    types = {name: "i32" for name in names if name not in constants} | kinds | {"out_ptr": f"*{out}", "stride_wc": 1}
    name = f"weight_grad_boxes {dtype} {out} {' '.join(map(str, (*tile, *box)))}"
    aligned = ("stride_part", "stride_wo", "stride_wt", "in_channels")
    module = weight_grad_hopper.__name__
    return Row(name, module, "weight_grad_boxes_kernel", types, constants, tile.num_warps, 1, aligned)


def expand_pixels_row(dtype: str) -> Row:
    constants = {"DEGREES": 4, "BASIS": "chebyshev", "SQUASH": "tanh", "VECTOR": 16 // BYTES[dtype]}
    return row(kernels, "expand_pixels_kernel", dtype, "", constants | {"BLOCK_M": 32, "BLOCK_N": 64})


def elementwise_row(kernel: str, dtype: str, vector: int = 16) -> Row:
    """``vector`` in bytes."""
    constants = {"DEGREES": 8, "BASIS": "legendre", "SQUASH": "tanh", "VECTOR": max(vector // BYTES[dtype], 1)}
    return row(kernels, kernel, dtype, "", constants | {"BLOCK": 128 * max(4, 16 // BYTES[dtype])})


GEMMS = [
    *(forward_row("bf16", tile) for tile in autotune.HALVES),
    *(input_grad_row("bf16", tile) for tile in autotune.HALVES),
    *(weight_grad_row("bf16", tile) for tile in autotune.SUMMED),
    forward_row("fp16", autotune.HALVES[1], axes=1),
]
"""The kernels in whose inner loop the tensor cores are never waited for, nor memory in full."""

KONV = {"BASIS": "chebyshev", "SQUASH": "tanh", "MASKED": True}
GEMMS += [
    *(forward_row("bf16", tile, DEGREES=4, BIAS="map", **KONV) for tile in autotune.EXPANDED),
    *(polynomial_input_grad_row("bf16", tile, DEGREES=4) for tile in autotune.SLOPED),
]
BOXES = [
    *(boxes_row("bf16", tile, (32, 1, 1)) for tile in weight_grad_boxes.TILES),
    *(boxes_row("bf16", weight_grad_boxes.TILES[1], box) for box in ((1, 1, 64), (8, 1, 8), (4, 2, 2))),
    boxes_row("fp16", weight_grad_boxes.TILES[6], (1, 8, 8), out="fp16"),
] if runtime.gluon else []  # fmt: skip
"""Sums over boxes of pixels, which are copied ahead by the tensor memory accelerator."""

GEMMS += BOXES
SUMS_OF_POLYNOMIALS = [weight_grad_row("bf16", tile, DEGREE=4, **KONV) for tile in autotune.EXPANDED]
"""Konvolution's gradient by its coefficients: what it sums over has to be written to shared memory first."""

ELEMENTWISE = ("expand_kernel", "contract_kernel")
WIDE = [
    *(
        depthwise_row(what, "bf16", side, stride, tile)
        for what, (module, _) in DEPTHWISE.items()
        for side, stride in ((3, 1), (3, 2), (7, 1))
        for tile in module.TILES[: 3 if stride == 1 else 1]
    ),
    *(depthwise_row(what, "bf16", 3, 1, DEPTHWISE[what][0].TILES[0], channels=24) for what in DEPTHWISE),
    *(depthwise_row(what, "fp32", 5, 1, DEPTHWISE[what][0].TILES[0]) for what in DEPTHWISE),
    *(elementwise_row(kernel, dtype) for kernel, dtype in product(ELEMENTWISE, BYTES)),
    *(expand_pixels_row(dtype) for dtype in BYTES),
]
"""The kernels whose accesses are all 16 bytes wide: the channels are multiples of 16 bytes."""

PRODUCTS = [*GEMMS, *SUMS_OF_POLYNOMIALS]
ROWS = [
    *PRODUCTS,
    *(forward_row(dtype, tile) for dtype in ("fp32", "fp64") for tile in TILES[dtype][::2]),
    *(forward_row("fp32", tile, INPUT_PRECISION="tf32") for tile in autotune.SINGLES[::2]),
    *(input_grad_row(dtype, TILES[dtype][1], axes=3) for dtype in ("bf16", "fp64")),
    *(forward_row("bf16", tile, few=True) for tile in (autotune.HALVES[1], autotune.HALVES[-1])),
    input_grad_row("fp32", autotune.SINGLES[0], few=True),
    *(forward_row(dtype, TILES[dtype][1], DEGREES=3, **KONV) for dtype in ("fp32", "fp64")),
    *(polynomial_input_grad_row(dtype, TILES[dtype][2], DEGREES=3) for dtype in ("fp32", "fp64")),
    forward_row("bf16", autotune.EXPANDED[0], few=True, DEGREES=3, **KONV),
    forward_row("bf16", autotune.HALVES[3], INT64=True, EVEN_K=False, BIAS="channel"),
    *(weight_grad_row(dtype, TILES[dtype][1]) for dtype in ("fp32", "fp64")),
    weight_grad_row("bf16", autotune.SUMMED[0], few=True),
    weight_grad_row("bf16", autotune.SUMMED[0], POINTWISE=True),
    weight_grad_row("bf16", autotune.SUMMED[0], IN_LINE=False, INT64=True),
    weight_grad_row("fp32", autotune.SINGLES[1], INPUT_PRECISION="tf32"),
    *WIDE,
    *(depthwise_row(what, "fp64", 3, 2, DEPTHWISE[what][0].TILES[0]) for what in DEPTHWISE),
    *(depthwise_row(what, "bf16", 3, 1, DEPTHWISE[what][0].TILES[0], channels=3) for what in DEPTHWISE),
    *(depthwise_sum_parts_row(dtype) for dtype in ("bf16", "fp64")),
    *(elementwise_row(kernel, "bf16", vector=2) for kernel in ELEMENTWISE),
    *(sum_parts_row(dtype, in_line=in_line) for dtype, in_line in product(("bf16", "fp64"), (True, False))),
    *(
        polynomial_input_grad_row(dtype, tile._replace(block_k=16), DEGREES=4, EVEN_K=False)
        for dtype, tile in (("bf16", autotune.SLOPED[2]), ("fp64", autotune.DOUBLES[2]))
    ),
]
