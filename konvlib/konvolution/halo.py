"""Konvolution by a halo in shared memory, for the halves on Hopper: a Gluon kernel.

Polynomials are evaluated once for each sample, degree and column tap, and written to shared memory; all row taps are
products with that one buffer, read some rows further on. Eight pixels by 64 channels are one atom of the 128-byte
swizzle, so a view that begins some atoms further on is an operand of the tensor cores as it is.

The eight lanes of an atom are eight pairs of an image and a column, the slots of a tile are rows: first all rows of eight
pairs, then some lines that are thrown away, where a tap that runs past the last row finds padding, then those of the next
eight. The products of one degree run while the same warps evaluate the next. How a layer is cut up is `Walk`'s.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, forward, memory
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion, squashed
from konvlib.runtime import cdiv, power_of_2

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_init,
        warpgroup_mma_wait,
    )
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
except ImportError:  # no Triton, or one that is too old
    gluon = gl = None

jit, constexpr_function = (gluon.jit, gluon.constexpr_function) if gluon else (lambda function: function,) * 2
barrier = getattr(gl, "thread_barrier", getattr(gl, "barrier", None))  # as it is called by Triton 3.6, and after
exactly_squashed = jit(squashed.fn) if hasattr(squashed, "fn") else squashed

LANES = gl.constexpr(8) if gluon else 8
CHANNELS = gl.constexpr(64) if gluon else 64
"""The pixels and the channels of one atom."""

FAR = gl.constexpr(-(2**30)) if gluon else -(2**30)
"""A row so far before an input that no tap reaches it from there."""


@jit
def konv_halo_kernel(
    x_ptr, w_desc, bias_ptr, y_ptr,
    # All slots, those of eight pairs, the pairs; the tiles of a weight, one output's channels by 64; the layer.
    slots, lines, pairs, tiles, in_channels, out_channels, in_h, in_w, out_h, out_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    # Steps in memory. The channels of x and y lie together.
    stride_xn, stride_xh, stride_xw, stride_bc, stride_bh, stride_bw, stride_yn, stride_yh, stride_yw,
    # The row taps f, f + PHASES, ... share a buffer, and lie STEP slots apart in it.
    KERNEL_H: gl.constexpr, KERNEL_W: gl.constexpr, PHASES: gl.constexpr, STEP: gl.constexpr,
    DEGREES: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr,
    BIAS: gl.constexpr, EVEN_C: gl.constexpr, INT64: gl.constexpr,
    # A tile is SLOTS rows of 8 pixels by BLOCK_N outputs. Samples have BUFFERS buffers; weights a ring of RING places,
    # each for a group of at most TOGETHER products and at least RUNNING, which lies between two barriers.
    SLOTS: gl.constexpr, EXTRA: gl.constexpr, BLOCK_N: gl.constexpr, BUFFERS: gl.constexpr, RING: gl.constexpr,
    TOGETHER: gl.constexpr, RUNNING: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u_w, u_h, k, c} p_k(x[n, c, s i + d u - p]) kappa[o, k, c, u]."""
    BLOCK_M: gl.constexpr = SLOTS * LANES
    SPAN: gl.constexpr = SLOTS + EXTRA
    AHEAD: gl.constexpr = RING - 2
    # How many buffers of samples are filled, and how many groups of products run, for each time that samples are read.
    STAGES: gl.constexpr = PHASES * DEGREES
    GROUPS: gl.constexpr = position(PHASES, 1, 0, KERNEL_H, PHASES, DEGREES, TOGETHER)
    flat: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    main: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [num_warps, 1], [1, 0])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BLOCK_N, 16])
    dtype: gl.constexpr = x_ptr.dtype.element_ty
    # Which tile of the outputs is this program's? Programs next to each other read the same pixels.
    blocks_n = gl.cdiv(out_channels, BLOCK_N)
    first_n = gl.program_id(0) % blocks_n * BLOCK_N
    first_slot = gl.program_id(0) // blocks_n * SLOTS
    samples = gl.allocate_shared_memory(dtype, [BUFFERS * SPAN, LANES, CHANNELS], flat)
    weights = gl.allocate_shared_memory(dtype, [RING * TOGETHER, BLOCK_N, CHANNELS], flat)
    full = gl.allocate_shared_memory(gl.int64, [RING, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(RING):
        mbarrier.init(full.index(i), count=1)
    fence_async_shared()
    barrier()
    coming = 0
    for i in gl.static_range(AHEAD):
        coming = copy_weights(
            w_desc, weights, full, coming, i, first_n, tiles, TOGETHER, BLOCK_N,
            products(0, 1, 0, i, KERNEL_H, PHASES, DEGREES, TOGETHER),
        )  # fmt: skip
    # Where the windows of the pixels begin, and of those of the halo, the slots after them.
    offs_c = gl.arange(0, CHANNELS, layout=gl.SliceLayout(0, main))
    rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, main))
    image, y_h, y_w, there = pixel_of(first_slot + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    at_h, at_w = gl.where(there, y_h * stride_h - padding_h, FAR), y_w * stride_w - padding_w
    x_main = x_ptr + (offset(image, at_h, at_w, stride_xn, stride_xh, stride_xw, INT64)[:, None] + offs_c[None, :])
    keep, x = load(x_main, at_h, at_w, offs_c, in_h, in_w, in_channels, EVEN_C)
    if EXTRA > 0:
        more: gl.constexpr = gl.BlockedLayout([1, 4], [2, 16], [num_warps, 1], [1, 0])
        more_c = gl.arange(0, CHANNELS, layout=gl.SliceLayout(0, more))
        e_rows = gl.arange(0, EXTRA * LANES, layout=gl.SliceLayout(1, more))
        e_slot = first_slot + SLOTS + e_rows // LANES
        e_image, e_y_h, e_y_w, e_there = pixel_of(e_slot, e_rows % LANES, slots, lines, pairs, out_w)
        e_h, e_w = gl.where(e_there, e_y_h * stride_h - padding_h, FAR), e_y_w * stride_w - padding_w
        e_offs = offset(e_image, e_h, e_w, stride_xn, stride_xh, stride_xw, INT64)
        x_more = x_ptr + (e_offs[:, None] + more_c[None, :])
        e_keep, e_x = load(x_more, e_h, e_w, more_c, in_h, in_w, in_channels, EVEN_C)
    acc = warpgroup_mma_init(gl.zeros([BLOCK_M, BLOCK_N], gl.float32, acc_layout))
    place, parity, buffer, u_w, c = 0, 0, 0, 0, 0
    for turn in range(gl.cdiv(in_channels, CHANNELS) * KERNEL_W):
        for phase in gl.static_range(PHASES):
            s, p, before = degree_1(x, keep, main, BASIS, SQUASH, MASKED)
            if EXTRA > 0:
                e_s, e_p, e_before = degree_1(e_x, e_keep, more, BASIS, SQUASH, MASKED)
            # The next samples: of the next phase, or of the next column tap, or of further channels. They come while
            # the products of all degrees run.
            if phase + 1 == PHASES:
                u_w += 1
                c = gl.where(u_w == KERNEL_W, c + CHANNELS, c)
                u_w = gl.where(u_w == KERNEL_W, 0, u_w)
            down, right = (phase + 1) % PHASES * dilation_h, u_w * dilation_w
            move = down * stride_xh + right * stride_xw + c
            left = in_channels - c
            keep, x = load(x_main + move, at_h + down, at_w + right, offs_c, in_h, in_w, left, EVEN_C)
            if EXTRA > 0:
                e_keep, e_x = load(x_more + move, e_h + down, e_w + right, more_c, in_h, in_w, left, EVEN_C)
            for degree in gl.static_range(1, DEGREES + 1):
                if degree > 1:
                    p, before = next_degree(s, p, before, degree - 1, BASIS), p
                    if EXTRA > 0:
                        e_p, e_before = next_degree(e_s, e_p, e_before, degree - 1, BASIS), e_p
                if STAGES % BUFFERS == 0:
                    buffer = (phase * DEGREES + degree - 1) % BUFFERS
                begin = buffer * SPAN
                for first in gl.static_range(0, (KERNEL_H - phase + PHASES - 1) // PHASES, TOGETHER):
                    # What ran before the last RUNNING products is done here, and after the barrier everywhere: its
                    # buffer, and its places in the ring, are free.
                    acc = warpgroup_mma_wait(RUNNING, [acc])
                    acc = warpgroup_mma_init(acc)
                    if first == 0:
                        samples.index(begin)._reinterpret(dtype, [BLOCK_M, CHANNELS], flat).store(p.to(dtype))
                        if EXTRA > 0:
                            halo = samples.index(begin + SLOTS)
                            halo._reinterpret(dtype, [EXTRA * LANES, CHANNELS], flat).store(e_p.to(dtype))
                        fence_async_shared()
                    barrier()
                    # The weights of a later group of products are queued, in the place of those that are done.
                    if GROUPS % RING == 0:  # each group has a place of its own
                        group = position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER)
                        place, free = group % RING, (group + AHEAD) % RING
                        parity = (turn * (GROUPS // RING) + group // RING) % 2
                    else:
                        after = gl.where(place == RING - 1, 0, place + 1)
                        free = after if AHEAD == 1 else gl.where(place > 1, place - 2, place + AHEAD)
                    coming = copy_weights(
                        w_desc, weights, full, coming, free, first_n, tiles, TOGETHER, BLOCK_N,
                        products(phase, degree, first, AHEAD, KERNEL_H, PHASES, DEGREES, TOGETHER),
                    )  # fmt: skip
                    mbarrier.wait(full.index(place), parity)
                    for i in gl.static_range(products(phase, degree, first, 0, KERNEL_H, PHASES, DEGREES, TOGETHER)):
                        shown = samples.index(begin + (first + i) * STEP)
                        shown = shown._reinterpret(dtype, [BLOCK_M, CHANNELS], flat)
                        weight = weights.index(place * TOGETHER + i).permute((1, 0))
                        acc = warpgroup_mma(shown, weight, acc, is_async=True)
                    if GROUPS % RING > 0:
                        parity = gl.where(place == RING - 1, parity ^ 1, parity)
                        place = after
                if STAGES % BUFFERS > 0:
                    buffer = gl.where(buffer == BUFFERS - 1, 0, buffer + 1)
    total = warpgroup_mma_wait(0, [acc])
    for i in gl.static_range(RING):
        mbarrier.invalidate(full.index(i))
    # Where the outputs lie: 16 bytes of channels a thread.
    ROW: gl.constexpr = BLOCK_N // 8 if BLOCK_N < 256 else 32
    out: gl.constexpr = gl.BlockedLayout([1, 8], [32 // ROW, ROW], [num_warps, 1], [1, 0])
    total = gl.convert_layout(total, out)
    rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, out))
    offs_o = first_n + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, out))
    image, y_h, y_w, there = pixel_of(first_slot + rows // LANES, rows % LANES, slots, lines, pairs, out_w)
    mask = (there & (y_h < out_h))[:, None] & (offs_o < out_channels)[None, :]
    if BIAS:
        b_rows = y_h * stride_bh + y_w * stride_bw
        bias = gl.load(bias_ptr + (b_rows[:, None] + (offs_o * stride_bc)[None, :]), mask=mask, other=0)
        total += bias.to(gl.float32)
    offs_y = offset(image, y_h, y_w, stride_yn, stride_yh, stride_yw, INT64)
    gl.store(y_ptr + (offs_y[:, None] + offs_o[None, :]), total.to(dtype), mask=mask)


@jit
def pixel_of(slot, lane, slots, lines, pairs, out_w):
    """The image, the row and the column of a slot's lane, and whether there is such a pixel, but for rows to discard."""
    pair = slot // lines * LANES + lane
    return pair // out_w, slot % lines, pair % out_w, (slot < slots) & (pair < pairs)


@jit
def offset(image, h, w, stride_n, stride_h, stride_w, INT64: gl.constexpr):
    """How far pixels lie from the first."""
    if INT64:
        image, h, w = image.to(gl.int64), h.to(gl.int64), w.to(gl.int64)
    return image * stride_n + h * stride_h + w * stride_w


@jit
def load(pointers, at_h, at_w, offs_c, in_h, in_w, channels, EVEN_C: gl.constexpr):
    """Which rows of a tile show samples rather than padding, and the samples of 64 channels."""
    keep = (at_h >= 0) & (at_h < in_h) & (at_w >= 0) & (at_w < in_w) & (channels > 0)
    mask = keep[:, None]
    if not EVEN_C:
        mask = mask & (offs_c < channels)[None, :]
    return keep, gl.load(pointers, mask=mask, other=0)


@jit
def copy_weights(
    w_desc, weights, full, tile, place, first_n, tiles,
    TOGETHER: gl.constexpr, BLOCK_N: gl.constexpr, COUNT: gl.constexpr,
):  # fmt: skip
    """Queue the copies of COUNT tiles of weights, BLOCK_N outputs by 64 channels; which come next."""
    go = tile < tiles
    mbarrier.expect(full.index(place), COUNT * BLOCK_N * CHANNELS * 2, pred=go)
    for i in gl.static_range(COUNT):
        tma.async_copy_global_to_shared(
            w_desc, [first_n, (tile + i) * CHANNELS], full.index(place), weights.index(place * TOGETHER + i), pred=go
        )
    return tile + COUNT


@constexpr_function
def products(phase, degree, first, ahead, KERNEL_H, PHASES, DEGREES, TOGETHER):
    """How many products the group has that comes so many groups after one that begins with a row tap of a phase."""
    every = groups_of(KERNEL_H, PHASES, DEGREES, TOGETHER)
    at = position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER) + ahead
    return every[at % len(every)][3]


@constexpr_function
def position(phase, degree, first, KERNEL_H, PHASES, DEGREES, TOGETHER):
    """Which group of products begins with a row tap of a phase; all of them, for one phase more than there is."""
    every = groups_of(KERNEL_H, PHASES, DEGREES, TOGETHER)
    return next((i for i, group in enumerate(every) if group[:3] == (phase, degree, first)), len(every))


@constexpr_function
def groups_of(kernel_h, phases, degrees, together):
    """The phase, the degree, the first row tap and the products of each group, in order.

    Examples
    --------
    >>> groups_of(3, 2, 1, 1)
    [(0, 1, 0, 1), (0, 1, 1, 1), (1, 1, 0, 1)]
    """
    return [
        (phase, degree, first, min(together, taps - first))
        for phase, taps in enumerate([(kernel_h - phase + phases - 1) // phases for phase in range(phases)])
        for degree in range(1, degrees + 1)
        for first in range(0, taps, together)
    ]


@jit
def degree_1(x, keep, layout: gl.constexpr, BASIS: gl.constexpr, SQUASH: gl.constexpr, MASKED: gl.constexpr):
    """What multiplies a degree in the step to the next, degree 1, and degree 0.

    With MASKED degree 0 is zero in padding, and so is each other: every step is linear in the degrees before.
    """
    t = x.to(gl.float32)
    if SQUASH == "tanh":
        t = tanh(t, x.dtype)
    ones = gl.full(x.shape, 1.0, gl.float32, layout)
    if MASKED:
        ones = gl.where(keep[:, None], ones, 0.0)
    s = t
    if BASIS == "chebyshev" or BASIS == "chebyshev2":
        s = t + t
    p = t
    if BASIS == "chebyshev2":
        p = s
    return s, p, ones


@jit
def next_degree(s, p, before, n: gl.constexpr, BASIS: gl.constexpr):
    """Degree n + 1 from the two before."""
    if BASIS == "monomial":
        after = s * p
    elif BASIS == "legendre":
        after = s * p * ((2.0 * n + 1.0) / (n + 1.0)) - before * (n / (n + 1.0))
    elif BASIS == "hermite":
        after = s * p - before * (n * 1.0)
    else:
        after = s * p - before
    return after


@jit
def tanh(x, dtype: gl.constexpr):
    """One instruction, wrong by 2**-11 at most, where the result is rounded to the 8 bits of bfloat16."""
    if dtype == gl.bfloat16:
        t = gl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1)
    else:
        t = exactly_squashed(x, "tanh")
    return t


TILES = (Tile(128, 128, 192, 8, 3), Tile(128, 64, 192, 8, 3), Tile(64, 64, 64, 4, 8))
"""Pixels and outputs of a tile, products between two barriers, 64 for each tap, warps, groups of weights in the ring."""

SHARED_MEMORY = 227 * 1024


class Walk(NamedTuple):
    """How the kernel goes over a layer: the axis of rows, that of columns if there is one, and where its taps lie.

    The taps ``f, f + phases, ...`` of the axis of rows share a buffer, ``step`` slots apart; the last lies ``halo``
    slots after the first. ``lines`` slots belong to eight pairs of an image and a column, ``gap`` of them to no row.
    """

    rows: int
    columns: int | None
    phases: int
    step: int
    halo: int
    gap: int


@lru_cache(1024)
def walk_of(layer: ConvGeometry) -> Walk:
    """How the kernel goes over a layer of one or two axes: down that with the longer kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> walk_of(conv_geometry((32, 64, 56, 56), (64, 64, 3, 3), axes=2, padding=1))
    Walk(rows=0, columns=1, phases=1, step=1, halo=2, gap=1)
    """
    rows = max(range(layer.axes), key=layer.kernel_size.__getitem__)
    columns = 1 - rows if layer.axes == 2 else None
    kernel, stride, dilation = layer.kernel_size[rows], layer.stride[rows], layer.dilation[rows]
    common = math.gcd(stride, dilation)
    phases, step = min(kernel, stride // common), dilation // common
    halo = (cdiv(kernel, phases) - 1) * step
    gap = next(gap for gap in range(halo + 1) if _is_enough(gap, layer, rows, phases, step))
    return Walk(rows, columns, phases, step, halo, gap)


def _is_enough(gap: int, layer: ConvGeometry, axis: int, phases: int, step: int) -> bool:
    """Whether each tap that runs past the last slot of an image, into the next, finds padding where there is some."""
    size, outputs, before = layer.input_size[axis], layer.output_size[axis], layer.padding[axis][0]
    stride, dilation = layer.stride[axis], layer.dilation[axis]
    lines = outputs + gap
    for tap in range(phases, layer.kernel_size[axis]):
        down = tap // phases * step
        for slot in range(max(lines, down), outputs + down):
            wanted, found = ((s * stride + dilation * (tap % phases) - before) for s in (slot, slot % lines))
            if 0 <= wanted < size or 0 <= found < size:
                return False
    return True


def serves(x: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> bool:
    """Whether the kernel computes a layer of this input: on Hopper, in halves, without groups, for small kernels.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.ones(1, 64, 9, dtype=torch.bfloat16)
    >>> serves(x, conv_geometry(x.shape, (64, 64, 3), axes=1), Expansion(2, "chebyshev"))
    False
    """
    return gluon is not None and x.is_cuda and _is_hopper(x.device) and fits(layer, x.dtype)


@lru_cache(64)
def _is_hopper(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) == (9, 0)


@lru_cache(1024)
def fits(layer: ConvGeometry, dtype: torch.dtype) -> bool:
    """Whether the kernel computes such a layer.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 64, 9, 9), (64, 64, 3, 3), axes=2, stride=2, dilation=2)
    >>> fits(layer, torch.bfloat16), fits(layer, torch.float32)
    (True, False)
    """
    if dtype not in runtime.HALVES or layer.groups > 1 or layer.axes > 2 or max(layer.kernel_size) > 7:
        return False
    if layer.in_channels < autotune.FEW or 0 in layer.output_shape or math.prod(layer.output_shape) // layer.out_channels >= 2**30:
        return False
    return layer.stride[walk_of(layer).rows] <= 2 and bool(tiles_of(layer))


def tiles_of(layer: ConvGeometry) -> list[Tile]:
    """The tiles that fit, the likeliest first."""
    narrow = layer.out_channels <= 64
    return [tile for tile in TILES[1 if narrow else 0 :] if blocks_of(layer, tile) is not None]


def blocks_of(layer: ConvGeometry, tile: Tile) -> dict[str, Any] | None:
    """A tile as the kernel is told of it; None if it does not fit in shared memory."""
    walk = walk_of(layer)
    slots, extra = tile.block_m // 8, power_of_2(walk.halo) if walk.halo else 0
    taps = [cdiv(layer.kernel_size[walk.rows] - phase, walk.phases) for phase in range(walk.phases)]
    for parts in range(cdiv(max(taps) * 64, tile.block_k), max(taps) + 1):
        together = cdiv(max(taps), parts)
        # With two groups or more for each buffer of samples, two buffers are enough.
        buffers = 2 if min(taps) > together else 3
        size = buffers * (slots + extra) * 1024 + tile.num_stages * (together * tile.block_n * 128 + 8)
        if size <= SHARED_MEMORY - 2**12:
            running = min([min(together, n - first) for n in taps for first in range(0, n, together)])
            return {
                "SLOTS": slots, "EXTRA": extra, "BLOCK_N": tile.block_n, "BUFFERS": buffers, "RING": tile.num_stages,
                "TOGETHER": together, "RUNNING": running, "num_warps": tile.num_warps,
            }  # fmt: skip
    return None


def packed(kappa: torch.Tensor, walk: Walk) -> torch.Tensor:
    """The coefficients as rows of outputs, 64 channels at a time, in the order in which the kernel takes them."""
    channels = kappa.shape[2]
    w = kappa.unsqueeze(-1) if walk.columns is None else kappa.movedim(3 + walk.rows, 3)
    w = functional.pad(w, (0, 0, 0, 0, 0, -channels % 64)) if channels % 64 else w
    w = w.unflatten(2, (-1, 64)).permute(0, 2, 5, 1, 4, 3)  # outputs, blocks, columns, degrees, rows, 64 channels
    if walk.phases == 1:
        return w.reshape(w.shape[0], -1)
    parts = [w[..., phase :: walk.phases, :].flatten(3) for phase in range(walk.phases)]
    return torch.cat(parts, 3).flatten(1)


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.konv`, where the kernel serves it."""
    y = x.new_empty((layer.batch, *layer.output_size, layer.out_channels)).movedim(-1, 1)

    def launch(tile: Tile) -> None:
        run(y, x, kappa, bias, layer, expansion, blocks_of(layer, tile))

    with runtime.on_device_of(y):
        name = f"halo {expansion.basis} {expansion.squash} {expansion.degrees}"
        autotune.launch(name, layer, y, launch, likely=tiles_of(layer))
    return y if memory.is_channels_last(x) else y.contiguous()


def run(y, x, kappa, bias, layer: ConvGeometry, expansion: Expansion, blocks: dict[str, Any]) -> None:
    """Launch the kernel; ``y`` has its channels last."""
    kernel, grid, arguments = launched(y, x, kappa, bias, layer, expansion, blocks)
    kernel[grid](**arguments)


def launched(y, x, kappa, bias, layer, expansion, blocks):
    """The kernel, its grid and its arguments."""
    walk, x = walk_of(layer), memory.with_channels_last(x)
    weight = packed(kappa, walk)
    kernel_h, kernel_w = layer.kernel_size[walk.rows], _of(layer.kernel_size, walk.columns, 1)
    out_h, out_w = layer.output_size[walk.rows], _of(layer.output_size, walk.columns, 1)
    pairs, lines = layer.batch * out_w, out_h + walk.gap
    slots = cdiv(pairs, 8) * lines
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    bias = None if bias is None else bias.contiguous() if bias.dim() == 1 else memory.with_channels_last(bias)
    arguments = {
        "x_ptr": x, "w_desc": TensorDescriptor.from_tensor(weight, [blocks["BLOCK_N"], 64], layout),
        "bias_ptr": weight if bias is None else bias, "y_ptr": y,
        "slots": slots, "lines": lines, "pairs": pairs, "tiles": weight.shape[1] // 64,
        "in_channels": layer.in_channels, "out_channels": layer.out_channels,
        "in_h": layer.input_size[walk.rows], "in_w": _of(layer.input_size, walk.columns, 1),
        "out_h": out_h, "out_w": out_w,
        "stride_h": layer.stride[walk.rows], "stride_w": _of(layer.stride, walk.columns, 1),
        "padding_h": layer.before[walk.rows], "padding_w": _of(layer.before, walk.columns, 0),
        "dilation_h": layer.dilation[walk.rows], "dilation_w": _of(layer.dilation, walk.columns, 1),
        "KERNEL_H": kernel_h, "KERNEL_W": kernel_w, "PHASES": walk.phases, "STEP": walk.step,
        "DEGREES": expansion.degrees, "BASIS": expansion.basis, "SQUASH": expansion.squash,
        "MASKED": expansion.masked and expansion.basis != "monomial" and expansion.degrees > 1,
        "BIAS": bias is not None, "EVEN_C": layer.in_channels % 64 == 0, "INT64": memory.is_wide(x, y),
        **blocks,
    }  # fmt: skip
    for name, tensor in (("x", x), ("y", y)):
        arguments |= _strides(name, tensor, walk)
    flat = bias is None or bias.dim() == 1
    arguments |= {"stride_bh": 0, "stride_bw": 0, "stride_bc": 1} if flat else _strides("b", bias, walk)
    arguments["stride_bc"] = 1 if flat else bias.stride(1)
    for name in ("stride_bn",):
        arguments.pop(name, None)
    grid = (cdiv(layer.out_channels, blocks["BLOCK_N"]) * cdiv(slots, blocks["SLOTS"]),)
    return konv_halo_kernel, grid, arguments


def _of(values, axis: int | None, otherwise: int) -> int:
    return otherwise if axis is None else values[axis]


def _strides(name: str, tensor: torch.Tensor, walk: Walk) -> dict[str, int]:
    steps = tensor.stride()
    across = 0 if walk.columns is None else steps[2 + walk.columns]
    return {f"stride_{name}n": steps[0], f"stride_{name}h": steps[2 + walk.rows], f"stride_{name}w": across}
