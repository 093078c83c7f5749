"""The kernels of the layer's trilinear form, as rows for tests/test_kernels_offline.py."""

from __future__ import annotations

from itertools import product
from typing import Any

from konvlib.konvolution import kernels
from konvlib.layers import autotune as tuning
from konvlib.layers import depthwise
from konvlib.layers import forward as gather
from konvlib.layers import weight_grad as reduction
from tests.kernels.offline.compiling import Row

SUMS = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}
TILES = {"fp16": tuning.HALVES, "bf16": tuning.HALVES, "fp32": tuning.SINGLES, "fp64": tuning.DOUBLES}
WIDTHS = (
    *(f"{tensor}{axis}" for tensor in "xyz" for axis in "n012"),
    *("wn", "wt", "wk", "wd", "m0", "m1", "m2", "channels", "outputs"),
)
"""What is a multiple of 16 where the number of channels is."""


def types(kernel: Any, dtype: str, **other: Any) -> dict[str, Any]:
    """All arguments 32-bit integers but for the pointers, the strides of one, and those named."""
    pointers = dict.fromkeys(("x", "y", "dy", "w", "dw", "bias", "z"), f"*{dtype}") | {"sums": f"*{SUMS[dtype]}"}
    names = kernel.arg_names
    return {name: pointers.get(name, "i32") for name in names if name.islower()} | other


def gather_row(dtype: str, tile: tuning.Tile, *, axes: int = 2, transposed: bool = False, **constants: Any) -> Row:
    constants = {"FLAT": False, "WHOLE": True, "BIAS": "none", "WIDE": False, "PRECISION": "ieee", **constants}
    constants = {"DEGREES": 1, "BASIS": "none", "SQUASH": "none", "MASKED": False, **constants}
    aligned = () if constants["FLAT"] else WIDTHS
    step = {"yc": 1, "zc": 1, "mc": 1, "wn" if transposed else "wk": 1}
    name = " ".join(["gather", dtype, *map(str, tile), f"{axes}d", *(["T"] * transposed)])
    name += "".join(f" {key}={value}" for key, value in constants.items() if value not in ("none", False))
    rows, columns, depth, warps, stages = tile
    constants |= {"AXES": axes, "TRANSPOSED": transposed, "ROWS": rows, "COLUMNS": columns, "DEPTH": depth}
    constants["SUM"] = SUMS[dtype]
    kernel = gather._gather_kernel
    aligned = tuple(argument for argument in aligned if argument not in step)
    return Row(name, gather.__name__, "_gather_kernel", types(kernel, dtype, **step), constants, warps, stages, aligned)


def reduction_row(
    dtype: str, tile: tuning.Tile, *, axes: int = 2, flat: bool = False, precision: str = "ieee", **expansion: Any
) -> Row:
    rows, columns, depth, warps, stages = tile
    constants = {"AXES": axes, "FLAT": flat, "PRECISION": precision}
    constants |= {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth}
    constants |= {"DEGREE": 1, "BASIS": "none", "SQUASH": "none", "MASKED": False} | expansion
    name = " ".join(
        ["reduction", dtype, *map(str, tile), f"{axes}d", "FLAT" * flat, precision, *map(str, expansion.values())]
    )
    kernel = reduction._reduction_kernel
    aligned = tuple(name for name in WIDTHS if name in kernel.arg_names) if not flat else ()
    given = types(kernel, dtype, f0="i64", f1="i64", f2="i64")
    constants["SUM"] = SUMS[dtype]
    return Row(name, reduction.__name__, "_reduction_kernel", given, constants, warps, stages, aligned)


def depthwise_row(dtype: str, rows: int, columns: int, transposed: bool, unroll: int) -> Row:
    last = {"xc": 1, "yc": 1} if columns > 1 else {"x2": 1, "y2": 1}
    constants = {"AXES": 2, "TRANSPOSED": transposed, "BIAS": False, "ROWS": rows, "COLUMNS": columns}
    constants |= {"UNROLL": unroll, "SUM": SUMS[dtype], "WIDE": False}
    kernel = depthwise._depthwise_kernel
    name = f"depthwise {dtype} {rows} by {columns}{' T' * transposed} unrolled {unroll}"
    return Row(name, depthwise.__name__, "_depthwise_kernel", types(kernel, dtype, **last, wt=1), constants)


def depthwise_reduction_row(dtype: str, taps: int, columns: int) -> Row:
    constants = {"TAPS": taps, "COLUMNS": columns, "SUM": SUMS[dtype]}
    kernel = depthwise._depthwise_reduction_kernel
    name = f"depthwise reduction {dtype} {taps} by {columns}"
    return Row(name, depthwise.__name__, "_depthwise_reduction_kernel", types(kernel, dtype, xc=1, yc=1), constants)


def add_row(dtype: str) -> Row:
    kernel, constants = reduction._add_kernel, {"BLOCK": 256, "SUM": SUMS[dtype]}
    return Row(f"add {dtype}", reduction.__name__, "_add_kernel", types(kernel, dtype), constants)


def elementwise_row(kernel_name: str, dtype: str, basis: str) -> Row:
    kernel = getattr(kernels, kernel_name)
    constants = {"DEGREES": 8, "BASIS": basis, "SQUASH": "tanh", "SUM": SUMS[dtype], "BLOCK": kernels.BLOCK}
    given = {
        name: f"*{dtype}" if name in ("z", "x", "dx", "dz") else "i32" for name in kernel.arg_names if name.islower()
    }
    return Row(f"{kernel_name} {dtype} {basis}", kernels.__name__, kernel_name, given, constants)


STRIPS = ((16, 64, False, 8), (1024, 1, False, 8), (8, 64, True, 4), (512, 1, True, 4))
"""Pixels by channels of a depthwise tile, whether transposed, and how many taps are unrolled."""

GEMMS = [
    *(gather_row("bf16", tile) for tile in tuning.HALVES),
    *(gather_row("bf16", tile, transposed=True) for tile in tuning.HALVES[::3]),
    *(reduction_row("bf16", tile) for tile in tuning.HALVES[::3]),
    gather_row("fp16", tuning.HALVES[1], axes=1),
]
"""The kernels in whose inner loop the tensor cores are never waited for, nor memory in full."""

KONV = {"BASIS": "chebyshev", "SQUASH": "tanh", "MASKED": True}
GEMMS += [
    *(gather_row("bf16", tile, DEGREES=4, BIAS="map", **KONV) for tile in tuning.EXPANDED),
    *(gather_row("bf16", tile, DEGREES=4, transposed=True, **KONV) for tile in tuning.SLOPED),
]
SUMS_OF_POLYNOMIALS = [reduction_row("bf16", tile, DEGREE=4, **KONV) for tile in tuning.EXPANDED]
"""Konvolution's gradient by its coefficients: what it sums over has to be written to shared memory first."""

PRODUCTS = [*GEMMS, *SUMS_OF_POLYNOMIALS]
ROWS = [
    *PRODUCTS,
    *(gather_row(dtype, tile) for dtype in ("fp32", "fp64") for tile in TILES[dtype][::2]),
    *(gather_row("fp32", tile, PRECISION="tf32") for tile in tuning.SINGLES[::2]),
    *(gather_row(dtype, TILES[dtype][1], transposed=True, axes=3) for dtype in ("bf16", "fp64")),
    *(gather_row("bf16", tuning.for_few_channels(tile), FLAT=True) for tile in (tuning.HALVES[1], tuning.HALVES[-1])),
    gather_row("fp32", tuning.for_few_channels(tuning.SINGLES[0]), FLAT=True, transposed=True),
    *(gather_row(dtype, TILES[dtype][1], DEGREES=3, **KONV) for dtype in ("fp32", "fp64")),
    *(gather_row(dtype, TILES[dtype][2], DEGREES=3, transposed=True, **KONV) for dtype in ("fp32", "fp64")),
    gather_row("bf16", tuning.for_few_channels(tuning.EXPANDED[0]), FLAT=True, DEGREES=3, **KONV),
    gather_row("bf16", tuning.HALVES[3], WIDE=True, WHOLE=False, BIAS="channel"),
    *(reduction_row(dtype, TILES[dtype][1]) for dtype in ("fp32", "fp64")),
    reduction_row("bf16", tuning.for_few_channels(tuning.HALVES[-1]), flat=True),
    reduction_row("fp32", tuning.SINGLES[1], precision="tf32"),
    *(depthwise_row(dtype, *strip) for dtype, strip in product(("bf16", "fp64"), STRIPS)),
    *(depthwise_reduction_row(dtype, *tile) for dtype in ("bf16", "fp64") for tile in ((64, 32), (16, 64))),
    *(
        elementwise_row(name, dtype, "legendre")
        for name, dtype in product(("_expand_kernel", "_contract_kernel"), ("bf16", "fp64"))
    ),
    *(add_row(dtype) for dtype in ("bf16", "fp64")),
]
