"""The kernels of `sequences`, as rows for tests/kernels/test_offline.py."""

from __future__ import annotations

import itertools
from typing import Any

from tests.kernels.offline.compiling import Row

SEQUENCES = "konvlib.sequences.kernels"
TYPES = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}


def operands(dtype: str) -> dict[str, Any]:
    strides = {f"stride_{operand}_{axis}": "i32" for operand in ("taps", "signal") for axis in ("outer", "inner")}
    steps = {"stride_taps": 1, "stride_signal": 1}
    sizes = dict.fromkeys(("rows", "kept_rows", "inner_rows", "length", "start", "count", "samples", "parts"), "i32")
    return {"taps_ptr": f"*{dtype}", "signal_ptr": f"*{dtype}", "stride_spectral": "i32", **strides, **steps, **sizes}


def direct_row(dtype: str, *, wide: bool = False, **constants: Any) -> Row:
    constants = {"TAPS": 0, "COMPLEX": False, "REPAIRS": False, "INT64": wide, **constants}
    block = 512 if dtype == "fp64" or constants["COMPLEX"] else 1024
    constants = {"BLOCK_M": 1, "BLOCK_N": block, **constants}
    types = {**operands(dtype), "y_ptr": f"*{dtype}", "spectral_ptr": f"*{TYPES[dtype]}"}
    if wide:
        types |= dict.fromkeys(("length", "start", "count", "samples"), "i64")
    if constants["COMPLEX"]:
        types |= {"stride_taps": "i32", "stride_signal": "i32"}
    name = " ".join(["direct", dtype, *(f"{key}={value}" for key, value in constants.items())])
    return Row(name, SEQUENCES, "direct_kernel", types, {**constants, "ACC_DTYPE": TYPES[dtype]})


def toeplitz_row(dtype: str, block: int, width: int, *, wide: bool = False) -> Row:
    depth = 32 if dtype in ("fp16", "bf16") else 16
    constants = {"BLOCK_M": block, "BLOCK_N": width, "BLOCK_K": depth, "ACC_DTYPE": TYPES[dtype], "INT64": wide}
    name = f"toeplitz {dtype} {block} by {width}{' wide' * wide}"
    return Row(name, SEQUENCES, "toeplitz_kernel", {**operands(dtype), "y_ptr": f"*{dtype}"}, constants)


def split_row(dtype: str, block: int, depth: int, **constants: Any) -> Row:
    constants = {"BLOCK_M": block, "BLOCK_K": depth, "COMPLEX": False, "REPAIRS": False, "INT64": False, **constants}
    types = {**operands(dtype), "sums_ptr": f"*{TYPES[dtype]}", "spectral_ptr": f"*{TYPES[dtype]}"}
    name = " ".join(["split", dtype, *(f"{key}={value}" for key, value in constants.items())])
    return Row(name, SEQUENCES, "split_kernel", types, {**constants, "ACC_DTYPE": TYPES[dtype]})


ROWS = [
    *(direct_row(dtype, TAPS=taps) for dtype, taps in itertools.product(TYPES, (0, 16))),
    *(direct_row(dtype, TAPS=taps, COMPLEX=True) for dtype, taps in itertools.product(("fp32", "fp64"), (0, 16))),
    *(direct_row(dtype, REPAIRS=True) for dtype in TYPES),
    *(direct_row(dtype, REPAIRS=True, COMPLEX=True) for dtype in ("fp32", "fp64")),
    *(direct_row("fp32", BLOCK_M=rows, BLOCK_N=block) for rows, block in ((1, 256), (4, 256), (32, 32), (1024, 1))),
    direct_row("fp32", wide=True),
    direct_row("fp64", wide=True, COMPLEX=True),
    *(toeplitz_row(dtype, block, 32) for dtype in TYPES for block in (16, 64)),
    *(toeplitz_row(dtype, block, 16) for dtype in ("fp16", "bf16", "fp64") for block in (16, 64)),
    *(toeplitz_row(dtype, 64, 32, wide=True) for dtype in ("fp16", "fp32", "fp64")),
    *(split_row(dtype, 64, 32) for dtype in TYPES),
    *(
        split_row(dtype, block, depth)
        for dtype, block, depth in (("fp32", 1, 2048), ("fp32", 4, 512), ("fp32", 512, 4))
    ),
    *(split_row(dtype, 64, 32, COMPLEX=True, REPAIRS=True) for dtype in ("fp32", "fp64")),
]
PRODUCTS = [row for row in ROWS if row.kernel == "toeplitz_kernel" and row.types["taps_ptr"] != "*fp32"]
"""The kernels that must be on the tensor cores."""
