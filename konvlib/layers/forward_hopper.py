"""The layer of one or two axes on Hopper, in halves: boxes of pixels, by the tensor memory accelerator.

A tile is a box of output pixels by output channels. What a tap shows of it is a box of the input, shifted: of a layer
with a stride, among the pixels of one phase. So a tap is a place, and a step of the sum two copies, which a ring of
slots keeps ahead of the products. The output goes back as a box too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory, pixel_boxes, weight_grad_hopper
from konvlib.layers.autotune import BoxTile
from konvlib.layers.bound import launch
from konvlib.runtime import barrier, cdiv, gl, hopper

SIZES = (
    *("blocks_n", "blocks_h", "blocks_w", "in_channels", "out_channels", "row"),
    *(f"{name}_{axis}" for name in ("kernel", "padding", "dilation") for axis in "hw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.gluon_jit()
def copy_step(
    x_desc, w_desc, x_smem, w_smem, full, slot, k, tap, u_w, at_h, at_w, n, first_h, first_w, o,
    in_channels, kernel_w, dilation_h, dilation_w, start_w, row, pred,
    STRIDE_H: gl.constexpr, STRIDE_W: gl.constexpr, BYTES: gl.constexpr, BLOCK_K: gl.constexpr,
):  # fmt: skip
    """Queue the copies of a step of the sum into a slot of the ring; return which step comes then."""
    hopper.mbarrier.expect(full.index(slot), BYTES, pred=pred)
    # The place of what the tap shows, and its phase.
    h, w, phase = first_h + at_h // STRIDE_H, first_w + at_w // STRIDE_W, at_h % STRIDE_H * row + at_w % STRIDE_W
    x_box = x_smem.index(slot)
    hopper.tma.async_copy_global_to_shared(x_desc, [n, h, w, phase, k], full.index(slot), x_box, pred=pred)
    hopper.tma.async_copy_global_to_shared(w_desc, [o, tap, k], full.index(slot), w_smem.index(slot), pred=pred)
    # Further channels; after the last of them the next tap, row by row.
    k += BLOCK_K
    ends = k >= in_channels
    k = gl.where(ends, 0, k)
    tap += ends.to(gl.int32)
    u_w += ends.to(gl.int32)
    at_w = gl.where(ends, at_w + dilation_w, at_w)
    ends = u_w == kernel_w
    u_w = gl.where(ends, 0, u_w)
    at_w = gl.where(ends, start_w, at_w)
    at_h = gl.where(ends, at_h + dilation_h, at_h)
    return k, tap, u_w, at_h, at_w


@runtime.gluon_jit(do_not_specialize=SIZES)
def conv_boxes_kernel(
    x_desc, w_desc, bias_ptr, y_desc,
    # How many tiles there are along channels, rows and columns; the channels, the layer; pixels from row to row.
    blocks_n, blocks_h, blocks_w, in_channels, out_channels,
    kernel_h, kernel_w, padding_h, padding_w, dilation_h, dilation_w, row,
    # Whether a bias is added; the stride; images, rows and columns of a box, the tile, how many slots the ring has.
    HAS_BIAS: gl.constexpr, STRIDE_H: gl.constexpr, STRIDE_W: gl.constexpr,
    BOX_N: gl.constexpr, BOX_H: gl.constexpr, BOX_W: gl.constexpr,
    BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, SLOTS: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u, c} x[n, c, s i + d u - p] w[o, u, c], a box of pixels by BLOCK_N channels."""
    BLOCK_M: gl.constexpr = BOX_N * BOX_H * BOX_W
    BYTES: gl.constexpr = 2 * BLOCK_K * (BLOCK_M + BLOCK_N)
    dtype: gl.constexpr = x_desc.dtype
    flat: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    # Which tile of the outputs is this program's? Programs next to each other read the same pixels.
    o, rest = gl.program_id(0) % blocks_n * BLOCK_N, gl.program_id(0) // blocks_n
    i_w, rest = rest % blocks_w * BOX_W, rest // blocks_w
    i_h, n = rest % blocks_h * BOX_H, rest // blocks_h * BOX_N
    # What the first tap shows: so many whole strides before the output's place, and pixels on from there.
    below_h, below_w = gl.cdiv(padding_h, STRIDE_H), gl.cdiv(padding_w, STRIDE_W)
    first_h, first_w = i_h - below_h, i_w - below_w
    start_h, start_w = below_h * STRIDE_H - padding_h, below_w * STRIDE_W - padding_w
    steps = kernel_h * kernel_w * gl.cdiv(in_channels, BLOCK_K)
    # A ring of slots that copies fill ahead, each with a barrier that tells when they have arrived.
    x_smem = gl.allocate_shared_memory(dtype, [SLOTS, BOX_N, BOX_H, BOX_W, 1, BLOCK_K], x_desc.layout)
    w_smem = gl.allocate_shared_memory(dtype, [SLOTS, BLOCK_N, 1, BLOCK_K], w_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], hopper.mbarrier.MBarrierLayout())
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.init(full.index(i), count=1)
    hopper.fence_async_shared()
    barrier()
    k, tap, u_w, at_h, at_w = 0, 0, 0, start_h, start_w
    for i in gl.static_range(SLOTS - 1):
        k, tap, u_w, at_h, at_w = copy_step(
            x_desc, w_desc, x_smem, w_smem, full, i, k, tap, u_w, at_h, at_w, n, first_h, first_w, o,
            in_channels, kernel_w, dilation_h, dilation_w, start_w, row, i < steps,
            STRIDE_H, STRIDE_W, BYTES, BLOCK_K,
        )  # fmt: skip
    acc = hopper.warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    slot, phase = 0, 0
    for step in range(steps):
        hopper.mbarrier.wait(full.index(slot), phase)
        x = x_smem.index(slot)._reinterpret(dtype, [BLOCK_M, BLOCK_K], flat)
        w = w_smem.index(slot)._reinterpret(dtype, [BLOCK_N, BLOCK_K], flat)
        acc = hopper.warpgroup_mma(x, w.permute((1, 0)), acc, is_async=True)
        # The products of the step before are done here, and after the barrier everywhere: its slot is free.
        acc = hopper.warpgroup_mma_init(hopper.warpgroup_mma_wait(1, [acc]))
        barrier()
        k, tap, u_w, at_h, at_w = copy_step(
            x_desc, w_desc, x_smem, w_smem, full, gl.where(slot == 0, SLOTS - 1, slot - 1),
            k, tap, u_w, at_h, at_w, n, first_h, first_w, o,
            in_channels, kernel_w, dilation_h, dilation_w, start_w, row, step + SLOTS - 1 < steps,
            STRIDE_H, STRIDE_W, BYTES, BLOCK_K,
        )  # fmt: skip
        phase = gl.where(slot == SLOTS - 1, phase ^ 1, phase)
        slot = gl.where(slot == SLOTS - 1, 0, slot + 1)
    total = hopper.warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.invalidate(full.index(i))
    if HAS_BIAS:
        offs_o = o + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, acc_layout))
        bias = gl.load(bias_ptr + offs_o, mask=offs_o < out_channels, other=0)
        total += bias.to(gl.float32)[None, :]
    # After the barrier no product reads the ring any more: it serves for the output, which is copied as a box.
    barrier()
    x_smem._reinterpret(dtype, [BLOCK_M, BLOCK_N], flat).store(total.to(dtype))
    hopper.fence_async_shared()
    barrier()
    y_box = x_smem._reinterpret(dtype, [BOX_N, BOX_H, BOX_W, BLOCK_N], y_desc.layout)
    hopper.tma.async_copy_shared_to_global(y_desc, [n, i_h, i_w, o], y_box)
    hopper.tma.store_wait(0)


def tiles(
    y: torch.Tensor, x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry
) -> tuple[BoxTile, ...]:
    """The tiles with which this form computes the layer: none where it does not."""
    if not weight_grad_hopper.could_serve(x, layer) or (bias is not None and bias.dim() > 1):
        return ()
    return _tiles(layer, x.stride(), y.stride()) if pixel_boxes.are_aligned(x, y, packed) else ()


@lru_cache(4096)
def _tiles(layer: ConvGeometry, x_steps: tuple[int, ...], y_steps: tuple[int, ...]) -> tuple[BoxTile, ...]:
    if not pixel_boxes.fit(layer.input_shape, x_steps) or not pixel_boxes.fit(layer.output_shape, y_steps):
        return ()
    x, y = memory.without(layer.input_shape, x_steps), memory.without(layer.output_shape, y_steps)
    x, y, boxes = weight_grad_hopper.viewed(x, y, layer)
    return pixel_boxes.tiles_of(*y.shape) if pixel_boxes.lies_well(x, boxes.stride) else ()


def write_conv(
    y: torch.Tensor,
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    tile: BoxTile,
) -> None:
    """Write the layer of ``x`` and a weight that lies as ``(C_out, taps, C_in)`` into ``y``."""
    launch(conv_boxes_kernel, _launched, (layer, tile), x, packed, None if bias is None else bias.contiguous(), y)


def _launched(
    layer: ConvGeometry, tile: BoxTile,
    x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    x, y, boxes = weight_grad_hopper.viewed(x, y, layer)
    box, w = [tile.images, tile.rows, tile.columns], memory.as_packed(packed, layer)
    blocks_n = cdiv(boxes.out_channels, tile.block_n)
    images, rows, columns = (cdiv(size, extent) for size, extent in zip(y.shape[:3], box, strict=True))
    return (blocks_n * images * rows * columns,), {
        "x_desc": pixel_boxes.descriptor(pixel_boxes.by_phases(x, boxes.stride), [*box, 1, tile.block_k]),
        "w_desc": pixel_boxes.descriptor(w, [tile.block_n, 1, tile.block_k]),
        "bias_ptr": packed if bias is None else bias, "y_desc": pixel_boxes.descriptor(y, [*box, tile.block_n]),
        "blocks_n": blocks_n, "blocks_h": rows, "blocks_w": columns,
        "in_channels": boxes.in_channels, "out_channels": boxes.out_channels,
        **pixel_boxes.both(kernel=boxes.kernel, padding=boxes.padding, dilation=boxes.dilation, STRIDE=boxes.stride),
        "row": pixel_boxes.row_of(x, boxes.stride), "HAS_BIAS": bias is not None,
        **pixel_boxes.tile_as_told(tile), "BLOCK_N": tile.block_n, "BLOCK_K": tile.block_k,
    }  # fmt: skip
