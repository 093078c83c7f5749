"""The Triton kernels of the weight gradient of layers whose output channels read one input channel each.

A thread has a *vector* of channels, as in ``konvlib.layers.depthwise``, one line of taps, whose sums it keeps in
registers, and a part of the pixels: it goes down a *strip* of outputs that lie together, line by line. It writes its
sums in their dtype, and a second kernel adds the parts, always in the same order. So nothing is added atomically, and
two runs agree bit by bit.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, memory, weight_grad
from konvlib.layers.autotune import Tile
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.depthwise import Vectors, constants_of, plus, sizes_of, steps, taps_at_once, vectors_of
from konvlib.runtime import cdiv, power_of_2, tl

SIZES = (
    *("threads", "groups", "blocks", "strips", "items", "share", "parts", "channels", "stride_wo", "stride_wt"),
    *(f"{name}_{axis}" for name in ("in", "out", "padding") for axis in "dhw"),
    *(f"stride_{tensor}{place}" for tensor in ("x", "dy") for place in "ncdhw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""

TILES = (Tile(128, 7, 12, 4, 1), Tile(128, 4, 12, 4, 1), Tile(128, 4, 20, 4, 1))
"""Threads of a program, outputs of a strip, for how many warps of each multiprocessor there are parts, warps."""

MOST_SUMS = 2**24
"""How many partial sums are kept at most."""


@runtime.jit(do_not_specialize=SIZES)
def depthwise_weight_grad_kernel(
    sums_ptr, x_ptr, dy_ptr,
    # Threads, vectors of all output channels, their blocks, strips of a line, all strips, each part's share, the layer.
    threads, groups, blocks, strips, items, share,
    in_d, in_h, in_w, out_d, out_h, out_w, padding_d, padding_h, padding_w,
    # Steps in memory, in vectors.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw,
    # The layer: so many taps of a line are written out; the columns that they show to a strip.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MULTIPLIER: tl.constexpr,
    TAPS: tl.constexpr, COLUMNS: tl.constexpr,
    # How many axes there are, the dtype of sums, the tile, whether every strip is full.
    AXES: tl.constexpr, ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr, STRIP: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """sum_{n, i} dy[n, o, i] x[n, o // multiplier, s i + d u - p] over a share of strips, BLOCK threads of TAPS u."""
    # Which channels, which line of taps and which part of the strips are this thread's?
    TURNS: tl.constexpr = (KERNEL_W + TAPS - 1) // TAPS
    LINES: tl.constexpr = KERNEL_D * KERNEL_H * TURNS
    number, lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, VECTOR)[None, :]
    low, rest = number % BLOCK_C, number // BLOCK_C
    line, rest = rest % LINES, rest // LINES
    channel, part = rest % blocks * BLOCK_C + low, rest // blocks
    mask, channel = (number < threads) & (channel < groups), tl.minimum(channel, groups - 1)
    u_w, u_h, u_d = line % TURNS * TAPS, line // TURNS % KERNEL_H, line // (TURNS * KERNEL_H)
    # The first strip: strips are counted down the lines, then along them.
    begin = (part.to(tl.int64) if INT64 else part) * share
    i_h, rest = begin % out_h, begin // out_h
    strip, rest = rest % strips, rest // strips
    i_d, image = rest % out_d, rest // out_d
    left = tl.where(mask, tl.minimum(items - begin, share), 0)
    acc = (tl.zeros((BLOCK, VECTOR), ACC_DTYPE),) * TAPS
    for turn in tl.range(0, share):
        # What the outputs of the strip received.
        inside, i_w = turn < left, strip * STRIP
        dy_first = image * stride_dyn + channel * stride_dyc + i_w * stride_dyw
        x_first = image * stride_xn + channel // MULTIPLIER * stride_xc
        j_w = i_w * STRIDE_W + u_w * DILATION_W - padding_w
        x_first += j_w * stride_xw
        x_inside = inside
        if AXES > 1:
            j_h = i_h * STRIDE_H + u_h * DILATION_H - padding_h
            x_inside, x_first = x_inside & (j_h >= 0) & (j_h < in_h), x_first + j_h * stride_xh
            dy_first += i_h * stride_dyh
        if AXES > 2:
            j_d = i_d * STRIDE_D + u_d * DILATION_D - padding_d
            x_inside, x_first = x_inside & (j_d >= 0) & (j_d < in_d), x_first + j_d * stride_xd
            dy_first += i_d * stride_dyd
        dy_line, dy = dy_ptr + ((dy_first * VECTOR)[:, None] + lane), ()
        for b in tl.static_range(STRIP):
            real = inside if EVEN else inside & (i_w + b < out_w)
            dy_pixel = tl.load(dy_line + b * stride_dyw * VECTOR, mask=real[:, None], other=0)
            dy = dy + (dy_pixel.to(ACC_DTYPE),)  # noqa: RUF005
        # What the taps show them, column by column; nothing in the padding.
        x_line = x_ptr + ((x_first * VECTOR)[:, None] + lane)
        for k in tl.static_range(len(COLUMNS)):
            j = j_w + COLUMNS[k]
            real = x_inside & (j >= 0) & (j < in_w)
            x = tl.load(x_line + COLUMNS[k] * stride_xw * VECTOR, mask=real[:, None], other=0).to(ACC_DTYPE)
            for b in tl.static_range(STRIP):
                for u in tl.static_range(TAPS):
                    if b * STRIDE_W + DILATION_W * u == COLUMNS[k]:
                        term = x * dy[b]
                        if not EVEN:
                            term = tl.where((i_w + b < out_w)[:, None], term, 0.0)
                        acc = plus(acc, u, term)
        # The strip below; after the last line the next strip, and so on.
        i_h += 1
        carry = i_h >= out_h
        i_h, strip = tl.where(carry, 0, i_h), strip + carry.to(tl.int32)
        carry = strip >= strips
        strip, i_d = tl.where(carry, 0, strip), i_d + carry.to(tl.int32)
        carry = i_d >= out_d
        i_d, image = tl.where(carry, 0, i_d), image + carry.to(tl.int32)
    # Where the part of the sums goes: parts, taps, channels.
    first = (part.to(tl.int64) * (KERNEL_D * KERNEL_H) + u_d * KERNEL_H + u_h) * KERNEL_W + u_w
    sums_ptr += ((first * groups + channel) * VECTOR)[:, None] + lane
    for u in tl.static_range(TAPS):
        real = mask if KERNEL_W % TAPS == 0 else mask & (u_w + u < KERNEL_W)
        tl.store(sums_ptr + u * groups * VECTOR, acc[u], mask=real[:, None])


@runtime.jit(do_not_specialize=SIZES)
def depthwise_sum_parts_kernel(
    dw_ptr, sums_ptr, parts, channels, stride_wo, stride_wt,
    TAPS: tl.constexpr, ACC_DTYPE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dw[o, u] = sum_part sums[part, u, o], always in the same order: BLOCK_N sums of BLOCK_M parts at a time."""
    offs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_m, mask, weights = tl.arange(0, BLOCK_M), offs < channels * TAPS, channels * TAPS
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for begin in tl.range(0, parts, BLOCK_M):
        sums = sums_ptr + ((begin + offs_m).to(tl.int64) * weights)[:, None] + offs[None, :]
        acc += tl.load(sums, mask=(begin + offs_m < parts)[:, None] & mask[None, :], other=0)
    # Where the gradient has them.
    dw = dw_ptr + (offs % channels).to(tl.int64) * stride_wo + offs // channels * stride_wt
    tl.store(dw, tl.sum(acc, 0).to(dw_ptr.dtype.element_ty), mask=mask)


def conv_weight_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The weight gradient of such a layer, by the kernels: parts of the sums first, then their sum.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> with runtime.interpreted():
    ...     conv_weight_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1))
    tensor([[[ 9., 16.]]])
    """
    dw = weight_grad.empty_weight(x, layer)
    if dy.numel() == 0:
        return dw.zero_()
    x, dy, weights = memory.with_channels_last(x), memory.with_channels_last(dy), dw.numel()

    def launch(tile: Tile) -> None:
        at_once = 32 * tile.block_k * autotune.multiprocessors(x)
        parts = _shares(layer, tile, vectors_of(layer, dy, x), weights, at_once)[2]
        sums = torch.empty(parts * weights, dtype=runtime.sum_dtype(x.dtype), device=x.device)
        launch_kept(depthwise_weight_grad_kernel, _launched, (layer, tile, weights, at_once), x, dy, sums)
        add_parts(dw, sums, parts)

    with runtime.on_device_of(dw):
        autotune.launch("depthwise_weight_grad", layer, x, launch, likely=TILES)
    return dw


@lru_cache(1024)
def _shares(layer: ConvGeometry, tile: Tile, vectors: Vectors, weights: int, at_once: int) -> tuple[int, int, int]:
    """How many strips there are, how many each part gets, and how many parts there are."""
    items = layer.batch * math.prod(layer.output_size[:-1]) * cdiv(layer.output_size[-1], tile.block_n)
    return items, *split(items, _threads(layer, vectors), weights, at_once)


def _threads(layer: ConvGeometry, vectors: Vectors) -> int:
    """How many threads a part has."""
    lines = math.prod(layer.kernel_size[:-1]) * cdiv(layer.kernel_size[-1], taps_at_once(layer.kernel_size[-1]))
    return lines * cdiv(vectors.groups, vectors.block) * vectors.block


def _launched(
    layer: ConvGeometry, tile: Tile, weights: int, at_once: int, x: torch.Tensor, dy: torch.Tensor, sums: torch.Tensor
) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments."""
    vectors, taps, width = vectors_of(layer, dy, x), taps_at_once(layer.kernel_size[-1]), layer.output_size[-1]
    (items, share, parts), each = _shares(layer, tile, vectors, weights, at_once), _threads(layer, vectors)
    columns = {b * layer.stride[-1] + layer.dilation[-1] * u for b in range(tile.block_n) for u in range(taps)}
    arguments: dict[str, Any] = {"x_ptr": x, "dy_ptr": dy, "sums_ptr": sums, "groups": vectors.groups}
    arguments |= {"blocks": cdiv(vectors.groups, vectors.block), **sizes_of(layer), **constants_of(layer)}
    arguments |= {**steps(vectors, x=x, dy=dy), "VECTOR": vectors.size, "BLOCK_C": vectors.block, "TAPS": taps}
    arguments |= {"ACC_DTYPE": runtime.sum_type(x), "INT64": memory.is_wide(x, dy), "threads": each * parts}
    arguments |= {"strips": cdiv(width, tile.block_n), "items": items, "share": share}
    arguments |= {"COLUMNS": tuple(sorted(columns)), "BLOCK": tile.block_m, "STRIP": tile.block_n}
    arguments |= {"EVEN": width % tile.block_n == 0, "num_warps": tile.num_warps, "num_stages": tile.num_stages}
    return (cdiv(each * parts, tile.block_m),), arguments


def split(items: int, each: int, weights: int, at_once: int) -> tuple[int, int]:
    """How many strips each part gets, and how many parts there are, if a part is ``each`` threads.

    All parts together are at most ``at_once`` threads, so that all of them run at the same time; each is at least one.

    Examples
    --------
    >>> split(100, 20, 10, 200), split(100, 1000, 10, 200)
    ((10, 10), (100, 1))
    """
    most = max(1, min(items, at_once // each, MOST_SUMS // weights))
    share = cdiv(items, most)
    return share, cdiv(items, share)


def add_parts(dw: torch.Tensor, sums: torch.Tensor, parts: int) -> None:
    """Write the sum over ``parts`` of ``(taps, C)`` into ``dw``.

    Examples
    --------
    >>> dw = torch.empty(2, 1, 2)
    >>> with runtime.interpreted():
    ...     add_parts(dw, torch.arange(8.0), 2)
    >>> dw
    tensor([[[ 4.,  8.]],
    <BLANKLINE>
            [[ 6., 10.]]])
    """
    launch_kept(depthwise_sum_parts_kernel, _added, (parts,), dw, sums)


def _added(parts: int, dw: torch.Tensor, sums: torch.Tensor) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments."""
    block_m = min(256, power_of_2(parts))
    block_n = max(8, 1024 // block_m)
    return (cdiv(dw.numel(), block_n),), {
        "dw_ptr": dw, "sums_ptr": sums, "parts": parts, "channels": dw.shape[0],
        "stride_wo": dw.stride(0), "stride_wt": dw.stride(-1), "TAPS": math.prod(dw.shape[2:]),
        "ACC_DTYPE": runtime.sum_type(dw), "BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": 8,
    }  # fmt: skip
