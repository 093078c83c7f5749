"""The Triton kernels of the weight gradient, of one to three axes: a matrix product whose long side is summed.

Few weights, many pixels: each is a sum over all outputs of the batch. The pixels are split among programs, each writes
its part of the sums in the dtype of sums, and a last kernel adds the parts, always in the same order. So nothing is
added atomically, and two runs agree bit by bit.

Of the two kernels that sum, one multiplies channels shown by one tap; the other one, where there are few channels,
pairs of a tap and a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, memory, weight_grad_boxes, weight_grad_hopper
from konvlib.layers.autotune import MULTIPROCESSORS, BoxTile, Tile, multiprocessors
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.memory import LAYER_SIZES
from konvlib.layers.polynomials import expanded
from konvlib.layers.weight_grad_parts import MOST_PIXELS, MOST_SUMS, add_parts, pieces
from konvlib.runtime import cdiv, tl

SIZES = (
    "pixels",
    "groups",
    "parts",
    "share",
    *LAYER_SIZES,
    *(f"{n}_{axis}" for n in ("factor", "shift") for axis in "dhw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""

WAVES = 2
"""How many programs each multiprocessor should get at least."""


@runtime.jit()
def divided(value, factor, shift):
    """``value // n`` by the upper half of a product, which is quicker in a loop; see `by_multiplication`."""
    return (tl.umulhi((value * 2).to(tl.uint32), factor.to(tl.uint32)) >> shift).to(tl.int32)


@runtime.jit()
def place_of(offs_k, out_d, out_h, out_w, factor_d, factor_h, factor_w, shift_d, shift_h, shift_w):
    """The image of each pixel of an output, and the place there."""
    rest_w = divided(offs_k, factor_w, shift_w)
    rest_h = divided(rest_w, factor_h, shift_h)
    image = divided(rest_h, factor_d, shift_d)
    return image, rest_h - image * out_d, rest_w - rest_h * out_h, offs_k - rest_w * out_w


@runtime.jit(do_not_specialize=SIZES)
def conv_weight_grad_kernel(
    sums_ptr, x_ptr, dy_ptr,
    # The pixels of all outputs, in how many parts of which share they are summed, the channels of a group, the layer.
    pixels, groups, parts, share, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    # How to divide by the sizes of the output.
    factor_d, factor_h, factor_w, shift_d, shift_h, shift_w,
    # Steps in memory; the channels of x and of dy lie together.
    stride_xn, stride_xd, stride_xh, stride_xw, stride_dyn, stride_dyd, stride_dyh, stride_dyw,
    # How many axes there are, the polynomial, the dtypes, whether the pixels of dy lie in one line and whether those of
    # x do too and are shown one by one, the tile.
    AXES: tl.constexpr, DEGREE: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr,
    IN_LINE: tl.constexpr, POINTWISE: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """sum_{n, i} dy[n, o, i] x[n, c, s i + d u - p] over a share of the pixels, BLOCK_M o by BLOCK_N c of one tap u."""
    # Which tap, which of its tiles and which share of the pixels are this program's?
    taps, blocks_m = kernel_d * kernel_h * kernel_w, tl.cdiv(out_channels, BLOCK_M)
    blocks_n = taps * tl.cdiv(in_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, rest = rest % blocks_m, rest // blocks_m
    group, part = rest % groups, rest // groups
    tap, offs_c = pid_n % taps, pid_n // taps * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), tap * in_channels + offs_c
    mask_m, mask_n = offs_m < out_channels, offs_c < in_channels
    # How far from the first input the tap shows the first output.
    u_w = tap % kernel_w * dilation_w - padding_w
    u_h = tap // kernel_w % kernel_h * dilation_h - padding_h
    u_d = tap // (kernel_h * kernel_w) * dilation_d - padding_d
    # The first sample of each channel of the group.
    x_ptr += group * in_channels
    dy_ptr += group * out_channels
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    # Neither bound leaves 32 bits, also where there are nearly 2^31 pixels.
    first = part * share
    last = first + tl.minimum(share, pixels - first)
    for begin in tl.range(first, last, BLOCK_K):
        # The images of the next pixels, and their places in the output.
        offs_k, mask_k = begin + tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_K) < last - begin
        image, i_d, i_h, i_w = place_of(
            offs_k, out_d, out_h, out_w, factor_d, factor_h, factor_w, shift_d, shift_h, shift_w
        )
        if INT64:
            image, i_d, i_h = image.to(tl.int64), i_d.to(tl.int64), i_h.to(tl.int64)
            i_w, offs_k = i_w.to(tl.int64), offs_k.to(tl.int64)
        # What they received, all channels of each.
        dy_pixel = offs_k * stride_dyw
        if not IN_LINE:
            dy_pixel = image * stride_dyn + i_d * stride_dyd + i_h * stride_dyh + i_w * stride_dyw
        dy = tl.load(dy_ptr + (dy_pixel[:, None] + offs_m[None, :]), mask=mask_k[:, None] & mask_m[None, :], other=0)
        # What the tap shows them, all channels of each; nothing in the padding.
        j_w = i_w * stride_w + u_w
        mask_j, x_pixel = mask_k & (j_w >= 0) & (j_w < in_w), image * stride_xn + j_w * stride_xw
        if AXES > 1:
            j_h = i_h * stride_h + u_h
            mask_j, x_pixel = mask_j & (j_h >= 0) & (j_h < in_h), x_pixel + j_h * stride_xh
        if AXES > 2:
            j_d = i_d * stride_d + u_d
            mask_j, x_pixel = mask_j & (j_d >= 0) & (j_d < in_d), x_pixel + j_d * stride_xd
        if POINTWISE:
            mask_j, x_pixel = mask_k, offs_k * stride_xw
        mask_x = mask_j[:, None] & mask_n[None, :]
        x = tl.load(x_ptr + (x_pixel[:, None] + offs_c[None, :]), mask=mask_x, other=0)
        if BASIS != "none":
            x = expanded(x, mask_x, DEGREE, BASIS, SQUASH, MASKED, ACC_DTYPE)
        acc = tl.dot(tl.trans(dy), x, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
    # Where the part of the sums goes: parts, groups, output channels, taps, input channels.
    first = ((part * groups + group) * out_channels).to(tl.int64) * (taps * in_channels)
    sums = sums_ptr + (first + (offs_m.to(tl.int64) * (taps * in_channels))[:, None] + offs_n[None, :])
    tl.store(sums, acc.to(sums_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


@runtime.jit(do_not_specialize=SIZES)
def conv_weight_grad_few_kernel(
    sums_ptr, x_ptr, dy_ptr,
    # As for conv_weight_grad_kernel.
    pixels, groups, parts, share, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    factor_d, factor_h, factor_w, shift_d, shift_h, shift_w,
    stride_xn, stride_xd, stride_xh, stride_xw, stride_dyn, stride_dyd, stride_dyh, stride_dyw,
    AXES: tl.constexpr, DEGREE: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    IN_LINE: tl.constexpr, ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The same sums where there are few channels: BLOCK_M output channels by BLOCK_N pairs of a tap and a channel."""
    # Which tile and which share of the pixels are this program's?
    taps, blocks_m = kernel_d * kernel_h * kernel_w, tl.cdiv(out_channels, BLOCK_M)
    blocks_n = tl.cdiv(taps * in_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, rest = rest % blocks_m, rest // blocks_m
    group, part = rest % groups, rest // groups
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_c, tap = offs_n % in_channels, offs_n // in_channels
    mask_m, mask_n = offs_m < out_channels, tap < taps
    # How far from the first input each tap shows the first output.
    u_w = tap % kernel_w * dilation_w - padding_w
    u_h = tap // kernel_w % kernel_h * dilation_h - padding_h
    u_d = tap // (kernel_h * kernel_w) * dilation_d - padding_d
    # The first sample of each channel of the group.
    x_ptr += group * in_channels
    dy_ptr += group * out_channels
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    # Neither bound leaves 32 bits, also where there are nearly 2^31 pixels.
    first = part * share
    last = first + tl.minimum(share, pixels - first)
    for begin in tl.range(first, last, BLOCK_K):
        # The images of the next pixels, and their places in the output.
        offs_k, mask_k = begin + tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_K) < last - begin
        image, i_d, i_h, i_w = place_of(
            offs_k, out_d, out_h, out_w, factor_d, factor_h, factor_w, shift_d, shift_h, shift_w
        )
        if INT64:
            image, i_d, i_h = image.to(tl.int64), i_d.to(tl.int64), i_h.to(tl.int64)
            i_w, offs_k = i_w.to(tl.int64), offs_k.to(tl.int64)
        # What they received, all channels of each.
        dy_pixel = offs_k * stride_dyw
        if not IN_LINE:
            dy_pixel = image * stride_dyn + i_d * stride_dyd + i_h * stride_dyh + i_w * stride_dyw
        dy = tl.load(dy_ptr + (dy_pixel[:, None] + offs_m[None, :]), mask=mask_k[:, None] & mask_m[None, :], other=0)
        # What each pair shows them; nothing in the padding.
        j_w = (i_w * stride_w)[:, None] + u_w[None, :]
        mask_x = mask_k[:, None] & mask_n[None, :] & (j_w >= 0) & (j_w < in_w)
        x = (image * stride_xn)[:, None] + j_w * stride_xw
        if AXES > 1:
            j_h = (i_h * stride_h)[:, None] + u_h[None, :]
            mask_x, x = mask_x & (j_h >= 0) & (j_h < in_h), x + j_h * stride_xh
        if AXES > 2:
            j_d = (i_d * stride_d)[:, None] + u_d[None, :]
            mask_x, x = mask_x & (j_d >= 0) & (j_d < in_d), x + j_d * stride_xd
        x = tl.load(x_ptr + (x + offs_c[None, :]), mask=mask_x, other=0)
        if BASIS != "none":
            x = expanded(x, mask_x, DEGREE, BASIS, SQUASH, MASKED, ACC_DTYPE)
        acc = tl.dot(tl.trans(dy), x, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
    # Where the part of the sums goes: parts, groups, output channels, taps, input channels.
    first = ((part * groups + group) * out_channels).to(tl.int64) * (taps * in_channels)
    sums = sums_ptr + (first + (offs_m.to(tl.int64) * (taps * in_channels))[:, None] + offs_n[None, :])
    tl.store(sums, acc.to(sums_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


def conv_weight_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The layer's weight gradient ``dw[o, c, u] = sum dy[b, o, i] x[b, c, s i + d u - p]``, by the kernels.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> with runtime.interpreted():
    ...     conv_weight_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1))
    tensor([[[ 9., 16.]]])
    """
    dw = empty_weight(x, layer)
    write_weight_grad(dw, x, dy, layer)
    return dw


def write_weight_grad(
    dw: torch.Tensor,
    x: torch.Tensor,
    dy: torch.Tensor,
    layer: ConvGeometry,
    *,
    degree: int = 1,
    basis: str = "none",
    squash: str = "none",
    masked: bool = False,
) -> None:
    """Write the weight gradient into ``dw``; with a basis, that of a layer of the polynomial of ``degree`` of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy, dw = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]]), torch.empty(1, 1, 2)
    >>> with runtime.interpreted():
    ...     write_weight_grad(dw, x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1), degree=2, basis="monomial")
    >>> dw
    tensor([[[21., 46.]]])
    """
    pixels = layer.batch * math.prod(layer.output_size)
    if pixels == 0:
        dw.zero_()
        return
    if pixels > MOST_PIXELS:
        total = torch.zeros_like(dw, dtype=runtime.sum_dtype(dw.dtype))
        part = torch.empty_like(total)
        for piece in pieces(x, dy, layer, MOST_PIXELS):
            write_weight_grad(part, *piece, degree=degree, basis=basis, squash=squash, masked=masked)
            total += part
        dw.copy_(total)
        return
    options, sizes = (degree, basis, squash, masked), _sizes(layer, x.dtype, basis != "none")
    with runtime.on_device_of(dw):
        if basis == "none" and weight_grad_hopper.serves(x, dy, layer):
            boxes = weight_grad_hopper.boxes_of(layer, x.stride(), dy.stride())

            def run(tile: Tile | BoxTile) -> None:
                if isinstance(tile, BoxTile):
                    weight_grad_hopper.write_weight_grad(dw, x, dy, layer, tile)
                else:
                    _launcher(dw, x, dy, layer, options)(tile)

            if likely := _likely(layer, boxes, x.dtype, multiprocessors(x), dw.numel()):
                return autotune.launch("conv_weight_grad boxes", layer, x, run, likely=likely)
        name = "conv_weight_grad" if basis == "none" else f"conv_weight_grad {basis} {squash} {degree}"
        autotune.launch(name, layer, x, _launcher(dw, x, dy, layer, options), **sizes)


@lru_cache(1024)
def _sizes(layer: ConvGeometry, dtype: torch.dtype, is_expanded: bool) -> Mapping[str, Any]:
    """What the tile is chosen by."""
    rows, in_channels = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    sizes = {"rows": rows, "columns": math.prod(layer.kernel_size) * in_channels, "programs": layer.groups}
    return {**sizes, "among": autotune.tiles_of(dtype, expanded=is_expanded, summed=True)}


@lru_cache(1024)
def _likely(
    layer: ConvGeometry, boxes: weight_grad_boxes.Boxes, dtype: torch.dtype, at_once: int, weights: int
) -> tuple[Tile | BoxTile, ...]:
    """The tiles of boxes that are worth trying, and one without; none where there are no boxes."""
    likely = weight_grad_boxes.likely(boxes, at_once, max(1, MOST_SUMS // weights))
    others = autotune.candidates(**_sizes(layer, dtype, False), at_once=at_once)
    return (*likely, others[0]) if likely else ()


def _launcher(
    dw: torch.Tensor, x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, options: tuple[Any, ...]
) -> Callable[[Tile], None]:
    """Launches the Triton kernels with a tile; ``options`` are a degree, a basis, a squash and whether it is masked."""
    x, dy = memory.with_channels_last(x), memory.with_channels_last(dy)
    few, precision = layer.in_channels // layer.groups < autotune.FEW, runtime.precision(x)
    kernel, weights = conv_weight_grad_few_kernel if few else conv_weight_grad_kernel, dw.numel()

    def launch(tile: Tile) -> None:
        tile = autotune.for_few_channels(tile) if few else tile
        shared = _shares(layer, tile, weights, multiprocessors(x))
        *_, parts = shared
        sums = torch.empty(parts * weights, dtype=runtime.sum_dtype(x.dtype), device=x.device)
        launch_kept(kernel, _launched, (layer, tile, shared, precision, options), x, dy, sums)
        add_parts(dw, sums, parts)

    return launch


@lru_cache(1024)
def _shares(layer: ConvGeometry, tile: Tile, weights: int, at_once: int) -> tuple[int, int, int]:
    """How many programs there are, how many pixels each part gets, and how many parts there are."""
    in_channels, out_channels = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    block_n, taps = _columns(layer, tile), math.prod(layer.kernel_size)
    blocks_n = cdiv(taps * in_channels, block_n) if in_channels < autotune.FEW else taps * cdiv(in_channels, block_n)
    programs = layer.groups * cdiv(out_channels, tile.block_m) * blocks_n
    share, parts = split(layer.batch * math.prod(layer.output_size), tile.block_k, programs, weights, at_once)
    return programs * parts, share, parts


def _columns(layer: ConvGeometry, tile: Tile) -> int:
    """How many channels, or pairs of a tap and a channel, a program has."""
    in_channels = layer.in_channels // layer.groups
    taps = math.prod(layer.kernel_size) if in_channels < autotune.FEW else 1
    return min(tile.block_n, max(16, runtime.power_of_2(in_channels * taps)))


def _launched(
    layer: ConvGeometry, tile: Tile, shared: tuple[int, int, int], precision: str, options: tuple[Any, ...],
    x: torch.Tensor, dy: torch.Tensor, sums: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    programs, share, parts = shared
    in_channels, out_channels = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    given: dict[str, Any] = {"x_ptr": x, "dy_ptr": dy, "sums_ptr": sums, "groups": layer.groups, "AXES": layer.axes}
    given |= {"pixels": layer.batch * math.prod(layer.output_size), "parts": parts, "share": share}
    given |= {"in_channels": in_channels, "out_channels": out_channels, **memory.of_layer(layer)}
    given |= dict(zip(("DEGREE", "BASIS", "SQUASH", "MASKED"), options, strict=True))
    factors, shifts = zip(*(by_multiplication(size) for size in memory.three(layer.output_size, 1)), strict=True)
    given |= memory.along_axes(factor=(factors, 1), shift=(shifts, 0))
    given |= memory.named_strides("x", x, "ndhw") | memory.named_strides("dy", dy, "ndhw")
    given |= {"IN_LINE": lies_in_line(dy), "INT64": memory.is_wide(x, dy)}
    given |= {"ACC_DTYPE": runtime.sum_type(x), "INPUT_PRECISION": precision}
    if in_channels >= autotune.FEW:
        given["POINTWISE"] = given["IN_LINE"] and lies_in_line(x) and is_pointwise(layer)
    given |= {"BLOCK_M": tile.block_m, "BLOCK_N": _columns(layer, tile), "BLOCK_K": tile.block_k}
    return (programs,), given | {"num_warps": tile.num_warps, "num_stages": tile.num_stages}


def empty_weight(x: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """An uninitialised gradient of the layer's weight, in channels last where ``x`` is.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> empty_weight(torch.ones(1, 2, 5), conv_geometry((1, 2, 5), (4, 2, 3), axes=1)).shape
    torch.Size([4, 2, 3])
    """
    return memory.fresh(x, layer.weight_shape)


def split(rows: int, depth: int, programs: int, sums: int, at_once: int = MULTIPROCESSORS) -> tuple[int, int]:
    """How many rows each part gets, a multiple of ``depth``, and how many parts there are.

    Programs times parts should keep ``at_once`` multiprocessors busy, and ``sums`` times parts fit in memory.

    Examples
    --------
    >>> split(100, 16, 1, 10), split(100, 16, 1000, 10)
    ((16, 7), (112, 1))
    """
    blocks = cdiv(rows, depth)
    most = min(blocks, cdiv(WAVES * at_once, programs), max(1, MOST_SUMS // sums))
    share = cdiv(blocks, most)
    return share * depth, cdiv(blocks, share)


def lies_in_line(dy: torch.Tensor) -> bool:
    """Whether the pixels of a batch in channels last follow each other at one distance.

    Examples
    --------
    >>> x = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    >>> lies_in_line(x), lies_in_line(x[..., 1:])
    (True, False)
    """
    return dy.stride(-1) == dy.shape[1] and dy.movedim(1, -1).is_contiguous()


def is_pointwise(layer: ConvGeometry) -> bool:
    """Whether each output sees one pixel only, its own.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> [is_pointwise(conv_geometry((1, 2, 5), (4, 2, 1), axes=1, stride=s)) for s in (1, 2)]
    [True, False]
    """
    return layer.input_size == layer.output_size and math.prod(layer.kernel_size) == 1 and not any(layer.before)


def by_multiplication(size: int) -> tuple[int, int]:
    """A factor and a shift such that ``2 * value * factor >> 32 + shift`` is ``value // size`` for ``value < 2**31``.

    With ``2**(31 + shift) <= factor * size < 2**(31 + shift) + 2**shift`` the error is below ``1 / size``. The factor
    has 32 bits.

    Examples
    --------
    >>> factor, shift = by_multiplication(7)
    >>> 2 * 20 * factor >> 32 + shift, 2 * 21 * factor >> 32 + shift
    (2, 3)
    """
    shift = max(size - 1, 0).bit_length()
    return cdiv(1 << 31 + shift, size), shift
