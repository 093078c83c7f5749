"""Rows of tests/kernels/test_offline.py: the kernels of poolings, of their gradients, and of im2col and col2im."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from typing import Any

from konvlib.images.launching import PER_AXIS
from tests.kernels.offline.compiling import Row

POOLING, SCATTER, COLUMNS = "konvlib.images.pooling", "konvlib.images.pooling_scatter", "konvlib.matrices.columns"
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
SUMS = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}
TILES = {"contiguous": (1, 1024), "small planes": (16, 64), "channels last": (64, 16)}
"""Rows by pixels in single precision; doubles, and sums that scatter, have half as many pixels."""

SCATTERS = {
    "chosen": (SCATTER, "max_pool_scatter_kernel"),
    "mean": (SCATTER, "avg_pool_scatter_kernel"),
    "columns": (COLUMNS, "col2im_kernel"),
}


def types(dtype: str, layout: str, *, wide: bool = False) -> dict[str, Any]:
    """What the launchers pass: steps of one along what lies together, and all else as it comes."""
    together = "c" if layout == "channels last" else "w"
    sizes = [f"{name}_{axis}" for name, axis in product(PER_AXIS, "dhw")] + ["rows", "channels", "pixels"]
    strides = [f"stride_{name}{place}" for name, place in product(("x", "dy", "dx", "y", "taps", "cols"), "ncdhwtp")]
    ones = [f"stride_{name}{together}" for name in ("x", "dy", "taps", "cols")]
    ones += [f"stride_{name}{'c' if together == 'c' else 'p'}" for name in ("x", "y", "dx")]
    pointers = dict.fromkeys(("x_ptr", "y_ptr", "dx_ptr", "dy_ptr", "cols_ptr"), f"*{dtype}") | {"taps_ptr": "*i32"}
    given = dict.fromkeys(sizes, "i32") | dict.fromkeys(strides, "i64" if wide else "i32") | dict.fromkeys(ones, 1)
    return given | {"stride_colst": "i32"} | pointers


def row(
    module: str, name: str, dtype: str, layout: str, size: tuple[int, ...], *, wide: bool = False, **constants: Any
) -> Row:
    """A kernel for windows of ``size``; ``constants`` are its own."""
    block_m, block_n = TILES[layout]
    kernel = (1,) * (3 - len(size)) + size
    constants |= {f"KERNEL_{axis}": count for axis, count in zip("DHW", kernel, strict=True)}
    vector = 16 // BYTES[dtype] if layout == "channels last" and name != "col2im_kernel" else 1
    block_n = block_n // 2 if "TURNS_W" in constants and vector <= 4 else block_n
    constants |= {"AXES": len(size), "ACC_DTYPE": SUMS[dtype], "INT64": wide, "VECTOR": vector}
    constants |= {"BLOCK_M": block_m, "BLOCK_N": block_n // (1 + (dtype == "fp64"))}
    names = getattr(import_module(module), name).arg_names
    given = {argument: kind for argument, kind in types(dtype, layout, wide=wide).items() if argument in names}
    constants = {argument: value for argument, value in constants.items() if argument in names}
    shown = (f"{key}={value}" for key, value in constants.items())
    label = " ".join([name.removesuffix("_kernel"), dtype, layout, *map(str, size), *shown])
    return Row(label, module, name, given, constants, aligned=("channels", "pixels"))


def scatter_row(dtype: str, layout: str, size: tuple[int, ...], how: str, turns: int, *, wide: bool = False) -> Row:
    """``turns`` windows show a sample, along each axis."""
    each = (1,) * (3 - len(size)) + (turns,) * len(size)
    constants = {f"TURNS_{axis}": count for axis, count in zip("DHW", each, strict=True)}
    return row(*SCATTERS[how], dtype, layout, size, wide=wide, **constants)


SQUARE = (3, 3)
POOLS = ("max_pool_kernel", "avg_pool_kernel")
TYPES_AND_TILES = [*((dtype, "contiguous") for dtype in SUMS), ("fp32", "small planes"), ("bf16", "channels last")]
ROWS = [
    *(row(POOLING, kernel, *each, SQUARE) for each, kernel in product(TYPES_AND_TILES, POOLS)),
    *(row(POOLING, kernel, "fp32", "contiguous", size) for size in ((3,), (2, 2, 2)) for kernel in POOLS),
    *(row(POOLING, kernel, "bf16", "channels last", SQUARE, wide=True) for kernel in POOLS),
    *(scatter_row(*each, SQUARE, how, 2) for each, how in product(TYPES_AND_TILES, SCATTERS)),
    *(scatter_row("fp32", "contiguous", (2, 2, 2), how, 1, wide=True) for how in SCATTERS),
    *(row(COLUMNS, "im2col_kernel", *each, SQUARE) for each in TYPES_AND_TILES),
    *(row(COLUMNS, "im2col_kernel", "fp32", "contiguous", size, wide=True) for size in ((3,), (3, 3, 3))),
]
