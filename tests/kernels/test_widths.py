"""How many bytes each kernel reads and writes at a time, in the PTX for Hopper: 16 where channels permit."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton")

from tests.kernels.offline import compiling, table
from tests.kernels.offline.compiling import Row
from tests.kernels.test_guards import kernels

LOADED = {
    "conv_forward bf16": ([16], [16]),
    "conv_input_grad bf16": ([16], [16]),
    "conv_runs bf16 stem": ([8, 16], [16]),  # a run ends between 16 bytes
    "conv_weight_grad bf16": ([16], [16]),
    "polynomial_input_grad bf16": ([16], [16]),
    "weight_grad_boxes bf16": ([], [16]),  # boxes
    "forward boxes 56 bfloat16": ([], []),  # boxes, both ways
    "input_grad boxes 56 bfloat16": ([], []),
    "columns 128 channels": ([16], [16]),  # samples and their gradient; the rest comes in boxes
    "halo 128 channels": ([8, 16], [16]),  # weights come in boxes; what is added is of few bytes
    "halo balanced 128 channels": ([8, 16], [8, 16]),  # as above; parts are written as the tensor cores hold them
    "halo balanced sums 128 channels": ([16], [16]),
    "halo beside 16 channels": ([4, 16], [16]),  # as above
    "prepare 3 3": ([2], [4, 16]),  # coefficients lie tap by tap, and are read once
    "depthwise_forward bf16": ([16], [16]),
    "depthwise_input_grad bf16": ([16], [16]),
    "depthwise_weight_grad bf16": ([16], [16]),
    "sum_parts bf16": ([16], [4]),
    "expand bf16": ([16], [16]),
    "expand_pixels bf16": ([16], [16]),
    "contract bf16": ([16], [16]),
    "max_pool bf16 channels last": ([16], [16]),
    "avg_pool bf16 channels last": ([16], [16]),
    "max_pool_scatter bf16 channels last": ([16], [16]),
    "avg_pool_scatter bf16 channels last": ([16], [16]),
    "im2col bf16 channels last": ([16], [16]),
    # What has no neighbours in memory: few channels, pixels that windows show shifted, a sequence and its taps.
    "conv_forward_few bf16": ([2], [2]),
    "conv_input_grad_few fp32": ([4], [4]),
    "conv_weight_grad_few bf16": ([2], [4]),
    "depthwise_sum_parts bf16": ([4], [2]),
    "col2im bf16 channels last": ([2], [2]),
    "direct fp16": ([2], [2]),
    "toeplitz fp16": ([2], [2]),
    "split fp16": ([2], [4]),
    # Channels first, or channels that make no 16 bytes.
    "im2col bf16 contiguous": ([2], [16]),
    "max_pool bf16 contiguous": ([2], [2, 4]),
    "avg_pool bf16 contiguous": ([2], [2]),
    "max_pool_scatter bf16 contiguous": ([2, 4], [2]),
}
"""What the first row whose name starts so loads and stores; a copy to shared memory is a load."""


def row_of(start: str) -> Row:
    return next(row for _, row in table.every_row().values() if row.name.startswith(start))


@cache
def reports() -> dict[str, dict[str, Any]]:
    rows = [row_of(start) for start in LOADED]
    return table.figures(rows, compiling.keys(rows))


@pytest.mark.parametrize("start", LOADED)
def test_widths(start):
    found = reports()[row_of(start).name]
    assert ([*map(int, found["loads"])], [*map(int, found["stores"])]) == LOADED[start]


def test_every_kernel_has_a_row():
    launched = {
        "konv_halo_kernel",
        "konv_balanced_kernel",
        "add_shares_kernel",
        "konv_beside_kernel",
        "konv_columns_kernel",
    }
    launched |= {"conv_boxes_kernel", "conv_input_grad_boxes_kernel"}
    named = {row_of(start).kernel for start in LOADED} - {"launch", "forward", "input_grad"} | launched
    assert named == kernels()
