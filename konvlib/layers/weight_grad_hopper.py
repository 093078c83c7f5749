"""The weight gradient of one or two axes on Hopper, in halves: boxes of pixels, by the tensor memory accelerator.

A product sums over pixels, so the batch is an axis like the others: a box of pixels may take many images of one place.
What a tap shows of a box is the same box shifted, and the copies fill what lies in the padding with zeros; so there are
no addresses to compute and no masks. Boxes of which a tap shows nothing are left out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory
from konvlib.layers.autotune import BoxTile
from konvlib.layers.bound import launch
from konvlib.layers.pixel_boxes import as_images, both, descriptor, fits, in_one_row, tile_as_told
from konvlib.layers.weight_grad_boxes import Boxes
from konvlib.layers.weight_grad_parts import add_parts, lies_as_parts
from konvlib.runtime import barrier, cdiv, gl, hopper

SIZES = (
    *("blocks_n", "in_channels", "out_channels", "parts"),
    *(f"{name}_{axis}" for name in memory.LAYER for axis in "hw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""

LEAST_CHANNELS = 32
"""Of an input or an output whose tiles are filled well enough."""


@runtime.gluon_jit()
def copy_boxes(
    x_desc, dy_desc, x_smem, dy_smem, full, slot, box_n, box_h, box_w, left, blocks_n, first_w, last_w,
    m, c, shift_h, shift_w, stride_h, stride_w, pred, BOXES: gl.constexpr, SHAPE: gl.constexpr,
):  # fmt: skip
    """Queue the copies of the next BOXES boxes into a slot of the ring; return which box comes then."""
    size: gl.constexpr = SHAPE[0] * SHAPE[1] * SHAPE[2]
    hopper.mbarrier.expect(full.index(slot), BOXES * size * 2 * (dy_smem.shape[4] + x_smem.shape[4]), pred=pred)
    for box in gl.static_range(BOXES):
        # Past the last box: images that are not there, so zeros.
        n = gl.where(box < left, box_n, blocks_n) * SHAPE[0]
        h, w = box_h * SHAPE[1], box_w * SHAPE[2]
        at = slot * BOXES + box
        hopper.tma.async_copy_global_to_shared(dy_desc, [n, h, w, m], full.index(slot), dy_smem.index(at), pred=pred)
        h = h * stride_h + shift_h
        w = w * stride_w + shift_w
        hopper.tma.async_copy_global_to_shared(x_desc, [n, h, w, c], full.index(slot), x_smem.index(at), pred=pred)
        # Images first, then along a row, then the next row.
        box_n += 1
        ends = box_n == blocks_n
        box_n = gl.where(ends, 0, box_n)
        box_w += ends.to(gl.int32)
        ends = box_w == last_w
        box_w = gl.where(ends, first_w, box_w)
        box_h += ends.to(gl.int32)
    return box_n, box_h, box_w, left - BOXES


@runtime.gluon_jit()
def shown(out_size, in_size, stride, shift, BOX: gl.constexpr):
    """The boxes along an axis of which a tap shows something: the first, and the one after the last."""
    first = gl.maximum(stride - 1 - shift, 0) // stride
    last = gl.minimum((gl.maximum(in_size - shift, 0) + stride - 1) // stride, out_size)
    return first // BOX, gl.maximum((last + BOX - 1) // BOX, first // BOX)


@runtime.gluon_jit(do_not_specialize=SIZES)
def weight_grad_boxes_kernel(
    out_ptr, x_desc, dy_desc,
    # The boxes over the batch, the channels, the layer.
    blocks_n, in_channels, out_channels, in_h, in_w, out_h, out_w, kernel_h, kernel_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    # In how many parts the pixels are summed, and where they go.
    parts, stride_part, stride_wo, stride_wc, stride_wt,
    # Images, rows and columns of a box, how many boxes at a time, the tile, how many slots the ring has.
    BOX_N: gl.constexpr, BOX_H: gl.constexpr, BOX_W: gl.constexpr, BOXES: gl.constexpr,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, SLOTS: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """sum_{n, i} dy[n, o, i] x[n, c, s i + d u - p] over a part of the boxes, BLOCK_M o by BLOCK_N c of one tap u."""
    SHAPE: gl.constexpr = (BOX_N, BOX_H, BOX_W)
    BLOCK_K: gl.constexpr = BOX_N * BOX_H * BOX_W
    dtype: gl.constexpr = x_desc.dtype
    flat: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    # Which tap, which of its tiles and which part are this program's?
    taps = kernel_h * kernel_w
    blocks_c, blocks_m = gl.cdiv(in_channels, BLOCK_N), gl.cdiv(out_channels, BLOCK_M)
    tap, rest = gl.program_id(0) % taps, gl.program_id(0) // taps
    c, rest = rest % blocks_c * BLOCK_N, rest // blocks_c
    m, part = rest % blocks_m * BLOCK_M, rest // blocks_m
    # How far from the first input the tap shows the first output, and what it shows of the boxes.
    shift_h = tap // kernel_w * dilation_h - padding_h
    shift_w = tap % kernel_w * dilation_w - padding_w
    first_h, last_h = shown(out_h, in_h, stride_h, shift_h, BOX_H)
    first_w, last_w = shown(out_w, in_w, stride_w, shift_w, BOX_W)
    # The boxes of this part, so many steps of the loop.
    boxes = blocks_n * (last_h - first_h) * (last_w - first_w)
    share = gl.cdiv(gl.cdiv(boxes, BOXES), parts) * BOXES
    first = gl.minimum(part * share, boxes)
    left = gl.minimum(share, boxes - first)
    steps = gl.cdiv(left, BOXES)
    across = gl.maximum(last_w - first_w, 1)
    box_n, rest = first % blocks_n, first // blocks_n
    box_w, box_h = first_w + rest % across, first_h + rest // across
    # A ring of slots that copies fill ahead, each with a barrier that tells when they have arrived.
    dy_smem = gl.allocate_shared_memory(dtype, [SLOTS * BOXES, BOX_N, BOX_H, BOX_W, BLOCK_M], dy_desc.layout)
    x_smem = gl.allocate_shared_memory(dtype, [SLOTS * BOXES, BOX_N, BOX_H, BOX_W, BLOCK_N], x_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], hopper.mbarrier.MBarrierLayout())
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.init(full.index(i), count=1)
    hopper.fence_async_shared()
    barrier()
    for i in gl.static_range(SLOTS - 1):
        box_n, box_h, box_w, left = copy_boxes(
            x_desc, dy_desc, x_smem, dy_smem, full, i, box_n, box_h, box_w, left, blocks_n, first_w, last_w,
            m, c, shift_h, shift_w, stride_h, stride_w, i < steps, BOXES, SHAPE,
        )  # fmt: skip
    acc = hopper.warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    slot, phase = 0, 0
    for step in range(steps):
        hopper.mbarrier.wait(full.index(slot), phase)
        for box in gl.static_range(BOXES):
            dy = dy_smem.index(slot * BOXES + box)._reinterpret(dtype, [BLOCK_K, BLOCK_M], flat)
            x = x_smem.index(slot * BOXES + box)._reinterpret(dtype, [BLOCK_K, BLOCK_N], flat)
            acc = hopper.warpgroup_mma(dy.permute((1, 0)), x, acc, is_async=True)
        # The products of the step before are done here, and after the barrier everywhere: its slot is free.
        acc = hopper.warpgroup_mma_init(hopper.warpgroup_mma_wait(BOXES, [acc]))
        barrier()
        box_n, box_h, box_w, left = copy_boxes(
            x_desc, dy_desc, x_smem, dy_smem, full, gl.where(slot == 0, SLOTS - 1, slot - 1),
            box_n, box_h, box_w, left, blocks_n, first_w, last_w,
            m, c, shift_h, shift_w, stride_h, stride_w, step + SLOTS - 1 < steps, BOXES, SHAPE,
        )  # fmt: skip
        phase = gl.where(slot == SLOTS - 1, phase ^ 1, phase)
        slot = gl.where(slot == SLOTS - 1, 0, slot + 1)
    total = hopper.warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.invalidate(full.index(i))
    # Rows of 16 bytes or more.
    WIDE: gl.constexpr = 16 * 8 // out_ptr.dtype.element_ty.primitive_bitwidth
    LANES: gl.constexpr = BLOCK_N // WIDE if BLOCK_N // WIDE < 32 else 32
    rows: gl.constexpr = gl.BlockedLayout([1, WIDE], [32 // LANES, LANES], [num_warps, 1], [1, 0])
    total = gl.convert_layout(total.to(out_ptr.dtype.element_ty), rows)
    offs_m = m + gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, rows))
    offs_c = c + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, rows))
    out = out_ptr + part.to(gl.int64) * stride_part + tap * stride_wt
    out = out + (offs_m.to(gl.int64) * stride_wo)[:, None] + (offs_c * stride_wc)[None, :]
    gl.store(out, total, mask=(offs_m < out_channels)[:, None] & (offs_c < in_channels)[None, :])


def viewed(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> tuple[torch.Tensor, torch.Tensor, Boxes]:
    """The operands as images, rows, columns and channels, and the layer without a box."""
    x, dy = as_images(x), as_images(dy)
    kernel, stride, dilation, before = (
        memory.three(values, fill)[1:]
        for values, fill in ((layer.kernel_size, 1), (layer.stride, 1), (layer.dilation, 1), (layer.before, 0))
    )
    # Of an axis that a tap walks over alone, only what it shows.
    alone = [k == 1 and p == 0 for k, p in zip(kernel, before, strict=True)]
    for axis in (0, 1):
        if alone[axis] and stride[axis] > 1:
            x = x.movedim(axis + 1, 0)[:: stride[axis]].movedim(0, axis + 1)
    stride = tuple(1 if one else s for one, s in zip(alone, stride, strict=True))
    if all(alone):
        x, dy = in_one_row(x[:, : dy.shape[1], : dy.shape[2]], dy)
    sizes = tuple(x.shape[1:3]), tuple(dy.shape[1:3]), kernel, stride, before, dilation
    return x, dy, Boxes(x.shape[0], x.shape[-1], dy.shape[-1], *sizes, (1, 1, 1))


def serves(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> bool:
    """Whether this form computes the layer: its operands lie as the copies can address them."""
    return could_serve(x, layer) and fits(x) and fits(dy)


def could_serve(x: torch.Tensor, layer: ConvGeometry) -> bool:
    """Whether it does where the operands are laid well: on Hopper, in halves, in one group, with channels enough."""
    if runtime.gluon is None or not x.is_cuda or x.dtype not in runtime.HALVES or layer.axes > 2 or layer.groups > 1:
        return False
    return min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS and runtime.is_hopper(x.device)


@lru_cache(4096)
def boxes_of(layer: ConvGeometry, x_steps: tuple[int, ...], dy_steps: tuple[int, ...]) -> Boxes:
    """The layer without a box, for operands that lie so."""
    return viewed(memory.without(layer.input_shape, x_steps), memory.without(layer.output_shape, dy_steps), layer)[2]


def write_sums(
    out: torch.Tensor, steps: tuple[int, int, int, int], x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry,
    tile: BoxTile,
) -> None:  # fmt: skip
    """Write the sums of each part, in the dtype of ``out``: by its steps from part to part, o to o, c to c, u to u."""
    launch(weight_grad_boxes_kernel, _launched, (layer, tile, steps), x, dy, out)


def _launched(
    layer: ConvGeometry, tile: BoxTile, steps: tuple[int, int, int, int], x: torch.Tensor, dy: torch.Tensor,
    out: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    x, dy, boxes = viewed(x, dy, layer)
    programs = math.prod(boxes.kernel) * cdiv(boxes.in_channels, tile.block_n) * cdiv(boxes.out_channels, tile.block_m)
    box = [tile.images, tile.rows, tile.columns]
    sizes = {"in": boxes.input_size, "out": boxes.output_size, "kernel": boxes.kernel, "stride": boxes.stride}
    return (programs * tile.parts,), {
        "out_ptr": out, "x_desc": descriptor(x, [*box, tile.block_n]), "dy_desc": descriptor(dy, [*box, tile.block_m]),
        "blocks_n": cdiv(boxes.batch, tile.images),
        "in_channels": boxes.in_channels, "out_channels": boxes.out_channels,
        **both(**sizes, padding=boxes.padding, dilation=boxes.dilation), "parts": tile.parts,
        **dict(zip(("stride_part", "stride_wo", "stride_wc", "stride_wt"), steps, strict=True)),
        **tile_as_told(tile), "BOXES": max(1, tile.block_k // math.prod(box)),
        "BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n,
    }  # fmt: skip


def write_weight_grad(dw: torch.Tensor, x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, tile: BoxTile) -> None:
    """Write the weight gradient: at once, or parts first that are added then."""
    weights, in_channels = dw.numel(), layer.in_channels
    if tile.parts == 1 and lies_as_parts(dw):
        return write_sums(dw, (0, dw.stride(0), 1, in_channels), x, dy, layer, tile)
    dtype = torch.float32 if tile.parts > 1 else dw.dtype
    sums = torch.empty(tile.parts * weights, dtype=dtype, device=x.device)
    write_sums(sums, (weights, weights // dw.shape[0], 1, in_channels), x, dy, layer, tile)
    add_parts(dw, sums, tile.parts)
