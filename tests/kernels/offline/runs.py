"""The kernel of a layer of few channels by runs, as rows for tests/kernels/test_offline.py: layers that come first."""

from __future__ import annotations

import math

from konvlib import runtime
from konvlib.layers import forward_runs
from konvlib.layers.autotune import BoxTile
from konvlib.runtime import power_of_2
from tests.kernels.offline.compiling import Row

LAYERS = {"stem": (3, 7, 2), "stride 1": (3, 3, 1), "one channel": (1, 5, 2)}
"""Channels of the input, columns of the kernel, stride."""

ALIGNED = ("out_channels", "stride_xn", "stride_xh", "stride_xu", "stride_wo", "stride_yn", "stride_yh", "stride_yw")
"""What is a multiple of 16 where the number of output channels is."""


def _row(name: str, tile: BoxTile, dtype: str = "bf16", *, bias: bool = False) -> Row:
    inputs, kernel, stride = LAYERS[name]
    step = power_of_2(inputs)
    constants = {"HAS_BIAS": bias, "ALIGNED": math.gcd(stride * step, 8), "RUN": kernel * step}
    constants |= {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "BLOCK_K": max(16, power_of_2(kernel * step))}
    given = [argument for argument in forward_runs.conv_runs_kernel.arg_names if argument not in constants]
    types = {argument: f"*{dtype}" if argument.endswith("_ptr") else "i32" for argument in given} | {"stride_yc": 1}
    sizes = map(str, (tile.block_m, tile.block_n, tile.num_warps, tile.num_stages))
    label = " ".join(["conv_runs", dtype, name, *sizes, *(["bias"] if bias else [])])
    where = forward_runs.__name__, "conv_runs_kernel"
    return Row(label, *where, types, constants, tile.num_warps, tile.num_stages, ALIGNED)


ROWS = [
    *(_row("stem", tile) for tile in forward_runs.TILES),
    *(_row(name, forward_runs.TILES[0]) for name in LAYERS if name != "stem"),
    _row("stem", forward_runs.TILES[0], "fp16", bias=True),
] if runtime.triton else []  # fmt: skip
PRODUCTS = ROWS
