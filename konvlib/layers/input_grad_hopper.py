"""The input gradient of one or two axes on Hopper, in halves: boxes of pixels, by the tensor memory accelerator.

It runs by phases, as ``konvlib.layers.input_grad`` does: inputs that leave the same remainder by the stride are shown
by the same taps. A tile is a box of them by input channels. The outputs to which a tap shows it are a box too, shifted;
a step of the sum is two copies, which a ring of slots keeps ahead of the products. The gradient goes back as a box.
"""

from __future__ import annotations

import math
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
    *("blocks_n", "blocks_h", "blocks_w", "boxes", "in_channels", "out_channels", "row", "longest", "in_turn"),
    *(f"{name}_{axis}" for name in ("kernel", "stride", "padding", "dilation", "gcd", "inverse") for axis in "hw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""

CACHE = 2e7
"""How many bytes of the output's gradient stay in the second-level cache from phase to phase."""


@runtime.gluon_jit()
def taps_of_phase(phase, padding, stride, dilation, gcd, inverse, kernel, STRIDED: gl.constexpr):
    """The taps of an axis that show the inputs ``j = stride * t + phase``, and to which outputs.

    They are ``u = first + unit * v``, for ``v`` from 0 to ``count - 1``, and the outputs ``t + origin + gap * v``;
    ``gcd`` is that of stride and dilation, ``inverse`` that of ``dilation / gcd`` modulo ``stride / gcd``.
    """
    unit, first, count, origin = stride * 0 + 1, stride * 0, kernel, padding
    if STRIDED:
        unit = stride // gcd
        remainder = (phase + padding) % stride
        first = remainder // gcd * inverse % unit
        count = gl.where(remainder % gcd == 0, gl.maximum(kernel - first + unit - 1, 0) // unit, 0)
        # Dilations beyond the first output, so that nothing negative is divided.
        origin = (phase + padding + dilation * (stride - first)) // stride - dilation
    return origin, -(dilation // gcd), first, unit, count


@runtime.gluon_jit()
def copy_step(
    dy_desc, w_desc, dy_smem, w_smem, full, slot, k, v_w, i_h, i_w, tap, row_tap, n, c, first_w,
    out_channels, kernel_w, count_w, gap_h, gap_w, unit_h, unit_w, pred,
    BYTES: gl.constexpr, BLOCK_K: gl.constexpr,
):  # fmt: skip
    """Queue the copies of a step of the sum into a slot of the ring; return which step comes then."""
    hopper.mbarrier.expect(full.index(slot), BYTES, pred=pred)
    hopper.tma.async_copy_global_to_shared(dy_desc, [n, i_h, i_w, k], full.index(slot), dy_smem.index(slot), pred=pred)
    hopper.tma.async_copy_global_to_shared(w_desc, [k, tap, c], full.index(slot), w_smem.index(slot), pred=pred)
    # Further channels; after the last of them the next tap of the phase, row by row.
    k += BLOCK_K
    ends = k >= out_channels
    k = gl.where(ends, 0, k)
    v_w += ends.to(gl.int32)
    i_w = gl.where(ends, i_w + gap_w, i_w)
    tap = gl.where(ends, tap + unit_w, tap)
    ends = v_w == count_w
    v_w = gl.where(ends, 0, v_w)
    i_w = gl.where(ends, first_w, i_w)
    i_h = gl.where(ends, i_h + gap_h, i_h)
    row_tap = gl.where(ends, row_tap + unit_h * kernel_w, row_tap)
    tap = gl.where(ends, row_tap, tap)
    return k, v_w, i_h, i_w, tap, row_tap


@runtime.gluon_jit(do_not_specialize=SIZES)
def conv_input_grad_boxes_kernel(
    dy_desc, w_desc, bias_ptr, dx_desc,
    # How many tiles there are along channels, rows and columns, and boxes of a phase; the channels, the layer.
    blocks_n, blocks_h, blocks_w, boxes, in_channels, out_channels, kernel_h, kernel_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, gcd_h, gcd_w, inverse_h, inverse_w,
    # Pixels from row to row; the phase with most taps, and whether the phases of a box follow each other.
    row, longest, in_turn,
    # Whether a bias is added; images, rows and columns of a box, the tile, how many slots the ring has.
    HAS_BIAS: gl.constexpr, BOX_N: gl.constexpr, BOX_H: gl.constexpr, BOX_W: gl.constexpr,
    BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, SLOTS: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = bias[c] + sum_{u, o} dy[n, o, i] w[o, u, c] over s i + d u - p = j, a box of j by BLOCK_N c."""
    BLOCK_M: gl.constexpr = BOX_N * BOX_H * BOX_W
    BYTES: gl.constexpr = 2 * BLOCK_K * (BLOCK_M + BLOCK_N)
    dtype: gl.constexpr = dy_desc.dtype
    flat: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    # Which tile of the inputs is this program's, and of which phase? Those with most taps begin.
    phases = stride_h * stride_w
    c, rest = gl.program_id(0) % blocks_n * BLOCK_N, gl.program_id(0) // blocks_n
    box = gl.where(in_turn != 0, rest // phases, rest % boxes)
    r = (gl.where(in_turn != 0, rest % phases, rest // boxes) + longest) % phases
    t_w, rest = box % blocks_w * BOX_W, box // blocks_w
    t_h, n = rest % blocks_h * BOX_H, rest // blocks_h * BOX_N
    # The taps of the phase, and the outputs to which the first of them shows the box.
    r_h, r_w = r // stride_w, r % stride_w
    at_h, gap_h, u_h, unit_h, count_h = taps_of_phase(
        r_h, padding_h, stride_h, dilation_h, gcd_h, inverse_h, kernel_h, True
    )
    at_w, gap_w, u_w, unit_w, count_w = taps_of_phase(
        r_w, padding_w, stride_w, dilation_w, gcd_w, inverse_w, kernel_w, True
    )
    i_h, first_w, first_tap = t_h + at_h, t_w + at_w, u_h * kernel_w + u_w
    steps = count_h * count_w * gl.cdiv(out_channels, BLOCK_K)
    # A ring of slots that copies fill ahead, each with a barrier that tells when they have arrived.
    dy_smem = gl.allocate_shared_memory(dtype, [SLOTS, BOX_N, BOX_H, BOX_W, BLOCK_K], dy_desc.layout)
    w_smem = gl.allocate_shared_memory(dtype, [SLOTS, BLOCK_K, 1, BLOCK_N], w_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], hopper.mbarrier.MBarrierLayout())
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.init(full.index(i), count=1)
    hopper.fence_async_shared()
    barrier()
    k, v_w, i_w, tap, row_tap = 0, 0, first_w, first_tap, first_tap
    for i in gl.static_range(SLOTS - 1):
        k, v_w, i_h, i_w, tap, row_tap = copy_step(
            dy_desc, w_desc, dy_smem, w_smem, full, i, k, v_w, i_h, i_w, tap, row_tap, n, c, first_w,
            out_channels, kernel_w, count_w, gap_h, gap_w, unit_h, unit_w, i < steps, BYTES, BLOCK_K,
        )  # fmt: skip
    acc = hopper.warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    slot, phase = 0, 0
    for step in range(steps):
        hopper.mbarrier.wait(full.index(slot), phase)
        dy = dy_smem.index(slot)._reinterpret(dtype, [BLOCK_M, BLOCK_K], flat)
        w = w_smem.index(slot)._reinterpret(dtype, [BLOCK_K, BLOCK_N], flat)
        acc = hopper.warpgroup_mma(dy, w, acc, is_async=True)
        # The products of the step before are done here, and after the barrier everywhere: its slot is free.
        acc = hopper.warpgroup_mma_init(hopper.warpgroup_mma_wait(1, [acc]))
        barrier()
        k, v_w, i_h, i_w, tap, row_tap = copy_step(
            dy_desc, w_desc, dy_smem, w_smem, full, gl.where(slot == 0, SLOTS - 1, slot - 1),
            k, v_w, i_h, i_w, tap, row_tap, n, c, first_w,
            out_channels, kernel_w, count_w, gap_h, gap_w, unit_h, unit_w, step + SLOTS - 1 < steps, BYTES, BLOCK_K,
        )  # fmt: skip
        phase = gl.where(slot == SLOTS - 1, phase ^ 1, phase)
        slot = gl.where(slot == SLOTS - 1, 0, slot + 1)
    total = hopper.warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(SLOTS):
        hopper.mbarrier.invalidate(full.index(i))
    if HAS_BIAS:
        offs_c = c + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, acc_layout))
        bias = gl.load(bias_ptr + offs_c, mask=offs_c < in_channels, other=0)
        total += bias.to(gl.float32)[None, :]
    # After the barrier no product reads the ring any more: it serves for the gradient, which is copied as a box.
    barrier()
    dy_smem._reinterpret(dtype, [BLOCK_M, BLOCK_N], flat).store(total.to(dtype))
    hopper.fence_async_shared()
    barrier()
    dx_box = dy_smem._reinterpret(dtype, [BOX_N, BOX_H, BOX_W, 1, BLOCK_N], dx_desc.layout)
    hopper.tma.async_copy_shared_to_global(dx_desc, [n, t_h, t_w, r_h * row + r_w, c], dx_box)
    hopper.tma.store_wait(0)


def tiles(dx: torch.Tensor, dy: torch.Tensor, packed: torch.Tensor, layer: ConvGeometry) -> tuple[BoxTile, ...]:
    """The tiles with which this form computes the gradient: none where it does not."""
    if not weight_grad_hopper.could_serve(dy, layer) or not pixel_boxes.are_aligned(dx, dy, packed):
        return ()
    return _tiles(layer, dx.stride(), dy.stride())


@lru_cache(4096)
def _tiles(layer: ConvGeometry, dx_steps: tuple[int, ...], dy_steps: tuple[int, ...]) -> tuple[BoxTile, ...]:
    if not pixel_boxes.fit(layer.input_shape, dx_steps) or not pixel_boxes.fit(layer.output_shape, dy_steps):
        return ()
    dx, dy = memory.without(layer.input_shape, dx_steps), memory.without(layer.output_shape, dy_steps)
    (dx, _), stride = pixel_boxes.viewed(layer, dx, dy), memory.three(layer.stride, 1)[1:]
    if not pixel_boxes.lies_well(dx, stride):
        return ()
    batch, height, width, channels = dx.shape
    return pixel_boxes.tiles_of(batch, height // stride[0], width // stride[1], channels)


def order(dy: torch.Tensor, layer: ConvGeometry) -> tuple[int, bool]:
    """The phase with most taps, and whether the phases of a box are to follow each other, since it leaves the cache."""
    axes = zip(layer.kernel_size, layer.stride, layer.before, layer.dilation, strict=True)
    longest = 0
    for kernel, stride, before, dilation in axes:
        shown = [(dilation * u - before) % stride for u in range(kernel)]
        longest = longest * stride + max(range(stride), key=shown.count)
    return longest, dy.numel() * dy.element_size() > CACHE


def write_input_grad(
    dx: torch.Tensor,
    dy: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    tile: BoxTile,
) -> None:
    """Write the input gradient, with a bias, of the layer whose weight lies as ``(C_out, taps, C_in)``."""
    bias = None if bias is None else bias.contiguous()
    launch(conv_input_grad_boxes_kernel, _launched, (layer, tile), dy, packed, bias, dx)


def _launched(
    layer: ConvGeometry, tile: BoxTile,
    dy: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, dx: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    longest, in_turn = order(dy, layer)
    dx, dy = pixel_boxes.viewed(layer, dx, dy)
    kernel, stride, dilation, before = (
        memory.three(values, fill)[1:]
        for values, fill in ((layer.kernel_size, 1), (layer.stride, 1), (layer.dilation, 1), (layer.before, 0))
    )
    gcd, inverse = memory.gcd_and_inverse(stride, dilation)
    box, phases = [tile.images, tile.rows, tile.columns], pixel_boxes.by_phases(dx, stride)
    blocks_n = cdiv(layer.in_channels, tile.block_n)
    images, rows, columns = (cdiv(size, extent) for size, extent in zip(phases.shape[:3], box, strict=True))
    boxes = images * rows * columns
    return (blocks_n * boxes * math.prod(stride),), {
        "dy_desc": pixel_boxes.descriptor(dy, [*box, tile.block_k]),
        "w_desc": pixel_boxes.descriptor(memory.as_packed(packed, layer), [tile.block_k, 1, tile.block_n]),
        "bias_ptr": packed if bias is None else bias,
        "dx_desc": pixel_boxes.descriptor(phases, [*box, 1, tile.block_n]),
        "blocks_n": blocks_n, "blocks_h": rows, "blocks_w": columns, "boxes": boxes,
        "in_channels": layer.in_channels, "out_channels": layer.out_channels,
        **pixel_boxes.both(kernel=kernel, stride=stride, padding=before, dilation=dilation, gcd=gcd, inverse=inverse),
        "row": pixel_boxes.row_of(dx, stride), "longest": longest, "in_turn": int(in_turn),
        "HAS_BIAS": bias is not None, **pixel_boxes.tile_as_told(tile),
        "BLOCK_N": tile.block_n, "BLOCK_K": tile.block_k,
    }  # fmt: skip
