"""Rows of tests/test_kernels_offline.py: the kernels of poolings, of their gradients, and of im2col and col2im."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from typing import Any

from konvlib.images.kernels import PER_AXIS
from tests.kernels.offline.compiling import Row

IMAGES, MATRICES = "konvlib.images.kernels", "konvlib.matrices.kernels"
SUMS = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}
TILES = {"contiguous": (1, 1024), "small planes": (16, 64), "channels last": (64, 16)}
"""Rows by pixels in single precision; doubles, and sums that scatter, have half as many pixels."""


def types(dtype: str, layout: str, *, wide: bool = False) -> dict[str, Any]:
    """What the launchers pass: steps of one along what lies together, and all else as it comes."""
    last = layout == "channels last"
    together = {"x": "channel" if last else "2", "y": "channel" if last else "pixel"}
    integer = "i64" if wide else "i32"
    sizes = [f"{name}{axis}" for name, axis in product(PER_AXIS, range(3))] + ["rows", "channels", "pixels", "x_tap"]
    strides = [f"{n}_{place}" for n in ("x", "taps", "y") for place in ("batch", "channel", "pixel", "0", "1", "2")]
    ones = [f"x_{together['x']}", f"taps_{together['x']}", f"y_{together['y']}"]
    pointers = {"x": f"*{dtype}", "y": f"*{dtype}", "cols": f"*{dtype}", "taps": "*i32"}
    return dict.fromkeys(sizes, "i32") | dict.fromkeys(strides, integer) | dict.fromkeys(ones, 1) | pointers


def row(
    name: str, module: str, dtype: str, layout: str, size: tuple[int, ...], *, wide: bool = False, **constants: Any
) -> Row:
    """A kernel for windows of ``size``; ``constants`` are its own."""
    rows, pixels = TILES[layout]
    pixels = pixels // 2 if name == "_scatter_kernel" else pixels
    kernel = (1,) * (3 - len(size)) + size
    constants |= {f"KERNEL{axis}": count for axis, count in enumerate(kernel)}
    constants |= {"AXES": len(size), "ROWS": rows, "PIXELS": pixels // (1 + (dtype == "fp64")), "WIDE": wide}
    given = types(dtype, layout, wide=wide) | ({"taps": f"*{dtype}"} if constants.get("MEAN") else {})
    names = getattr(import_module(module), name).arg_names
    given = {argument: kind for argument, kind in given.items() if argument in names}
    constants = {argument: value for argument, value in constants.items() if argument in names}
    label = " ".join([name.strip("_"), dtype, layout, *map(str, size), *(f"{k}={v}" for k, v in constants.items())])
    return Row(label, module, name, given, constants, aligned=("channels", "pixels"))


def pool_row(dtype: str, layout: str, size: tuple[int, ...], *, mean: bool, wide: bool = False) -> Row:
    return row("_pool_kernel", IMAGES, dtype, layout, size, wide=wide, MEAN=mean, SUM=SUMS[dtype])


def scatter_row(dtype: str, layout: str, size: tuple[int, ...], how: str, turns: int, *, wide: bool = False) -> Row:
    """``turns`` windows show a sample, along each axis."""
    each = {f"TURNS{axis}": turns if axis >= 3 - len(size) else 1 for axis in range(3)}
    how = {"CHOSEN": how == "chosen", "MEAN": how == "mean"}
    return row("_scatter_kernel", IMAGES, dtype, layout, size, wide=wide, SUM=SUMS[dtype], **each, **how)


def im2col_row(dtype: str, layout: str, size: tuple[int, ...], *, wide: bool = False) -> Row:
    return row("_im2col_kernel", MATRICES, dtype, layout, size, wide=wide)


SQUARE = (3, 3)
HOW = ("chosen", "mean", "columns")
TYPES_AND_TILES = [*((dtype, "contiguous") for dtype in SUMS), ("fp32", "small planes"), ("bf16", "channels last")]
ROWS = [
    *(pool_row(*each, SQUARE, mean=mean) for each, mean in product(TYPES_AND_TILES, (False, True))),
    *(pool_row("fp32", "contiguous", size, mean=mean) for size in ((3,), (2, 2, 2)) for mean in (False, True)),
    *(pool_row("bf16", "channels last", SQUARE, mean=mean, wide=True) for mean in (False, True)),
    *(scatter_row(*each, SQUARE, how, 2) for each, how in product(TYPES_AND_TILES, HOW)),
    *(scatter_row("fp32", "contiguous", (2, 2, 2), how, 1, wide=True) for how in HOW),
    *(row("_gather_kernel", IMAGES, *each, SQUARE) for each in TYPES_AND_TILES),
    *(im2col_row(*each, SQUARE) for each in TYPES_AND_TILES),
    *(im2col_row("fp32", "contiguous", size, wide=True) for size in ((3,), (3, 3, 3))),
]
