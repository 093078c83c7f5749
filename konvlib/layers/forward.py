"""The Triton kernels of the layer, of one to three axes: an implicit matrix product.

Its rows are pixels, its columns output channels, and the sum runs over taps and input channels. What a tap shows of the
input is gathered while it is multiplied, so the matrix of windows never exists. There are two kernels. The first sums
over the channels of one tap, then of the next, a block of channels at a time; where there are few channels, the blocks
would be nearly empty, and the second one sums over taps and channels together.

Before it is multiplied, a sample may become a polynomial of it: see ``konvlib.layers.polynomials``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, forward_hopper, forward_runs, memory
from konvlib.layers.autotune import BoxTile, Tile
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.memory import LAYER_SIZES, NOWHERE, pixel_of
from konvlib.layers.polynomials import PLAIN, Expansion, expanded
from konvlib.runtime import cdiv, tl

SIZES = ("pixels", *LAYER_SIZES)
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.jit(do_not_specialize=SIZES)
def conv_forward_kernel(
    x_ptr, w_ptr, bias_ptr, y_ptr,
    # The pixels of all outputs, the channels of one group, and the layer.
    pixels, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    # Steps in memory. The channels of x lie together, as do those of the weight (out, tap, in).
    stride_xn, stride_xd, stride_xh, stride_xw, stride_wo, stride_wt,
    stride_bc, stride_bd, stride_bh, stride_bw, stride_yn, stride_yc, stride_yd, stride_yh, stride_yw,
    # How many axes; "none", one bias per "channel", or a "map" of them; the polynomials, the dtypes, the tile.
    AXES: tl.constexpr, BIAS: tl.constexpr,
    DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, EVEN_K: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u, c} x[n, c, s i + d u - p] w[o, u, c], BLOCK_M pixels by BLOCK_N channels."""
    # Which tile of the outputs is this program's? Programs next to each other read the same pixels.
    blocks_m, blocks_n = tl.cdiv(pixels, BLOCK_M), tl.cdiv(out_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, group = rest % blocks_m, rest // blocks_m
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < pixels, offs_n < out_channels
    # Where the window of a pixel begins in the input: negative in the padding, nowhere for rows past the last pixel.
    image, i_d, i_h, i_w = pixel_of(offs_m, out_d, out_h, out_w)
    start_d, start_h = i_d * stride_d - padding_d, i_h * stride_h - padding_h
    start_w = tl.where(mask_m, i_w * stride_w - padding_w, NOWHERE)
    x_window = start_d.to(tl.int64) * stride_xd + start_h.to(tl.int64) * stride_xh + start_w.to(tl.int64) * stride_xw
    x_window += image * stride_xn
    # The channels of the group.
    x_ptr += group * in_channels
    w_ptr += group.to(tl.int64) * (out_channels * stride_wo)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for degree in tl.static_range(1, DEGREES + 1):
        # A single loop over taps and blocks of channels, so that loads run ahead of products from tap to tap too.
        u_d, u_h, u_w, tap, k = 0, 0, 0, 0, 0
        for _ in tl.range(0, kernel_d * kernel_h * kernel_w * tl.cdiv(in_channels, BLOCK_K)):
            # The samples that the tap shows, of channels k and on; what lies in the padding is no term of the sum.
            at = start_w + dilation_w * u_w
            mask_x, x_step = (at >= 0) & (at < in_w), dilation_w * u_w * stride_xw + k
            if AXES > 1:
                at = start_h + dilation_h * u_h
                mask_x, x_step = mask_x & (at >= 0) & (at < in_h), x_step + dilation_h * u_h * stride_xh
            if AXES > 2:
                at = start_d + dilation_d * u_d
                mask_x, x_step = mask_x & (at >= 0) & (at < in_d), x_step + dilation_d * u_d * stride_xd
            mask_x, mask_w = mask_x[:, None], mask_n[None, :]
            if not EVEN_K:
                mask_k = k + offs_k < in_channels
                mask_x, mask_w = mask_x & mask_k[None, :], mask_w & mask_k[:, None]
            x = tl.load(x_ptr + ((x_window + x_step)[:, None] + offs_k[None, :]), mask=mask_x, other=0)
            if BASIS != "none":
                x = expanded(x, mask_x, degree, BASIS, SQUASH, MASKED, ACC_DTYPE)
            # The weights of the tap: those of a degree follow those of the degree before.
            w_tap = w_ptr + ((degree - 1) * in_channels + tap * stride_wt + k)
            w = tl.load(w_tap + (offs_k[:, None] + (offs_n * stride_wo)[None, :]), mask=mask_w, other=0)
            acc = tl.dot(x, w, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
            # Further channels; after the last of them the next tap, row by row and plane by plane.
            k += BLOCK_K
            next_tap = k >= in_channels
            k, tap, u_w = tl.where(next_tap, 0, k), tap + next_tap.to(tl.int32), u_w + next_tap.to(tl.int32)
            next_row = u_w >= kernel_w
            u_w, u_h = tl.where(next_row, 0, u_w), u_h + next_row.to(tl.int32)
            next_plane = u_h >= kernel_h
            u_h, u_d = tl.where(next_plane, 0, u_h), u_d + next_plane.to(tl.int32)
    # Where the outputs lie.
    mask_y, offs_o = mask_m[:, None] & mask_n[None, :], (group * out_channels + offs_n).to(tl.int64)
    i_d, i_h, i_w = i_d.to(tl.int64), i_h.to(tl.int64), i_w.to(tl.int64)
    if BIAS == "channel":
        acc += tl.load(bias_ptr + offs_o, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    elif BIAS == "map":
        b_pixel = i_d * stride_bd + i_h * stride_bh + i_w * stride_bw
        bias = tl.load(bias_ptr + (b_pixel[:, None] + (offs_o * stride_bc)[None, :]), mask=mask_y, other=0)
        acc += bias.to(ACC_DTYPE)
    y_pixel = image * stride_yn + i_d * stride_yd + i_h * stride_yh + i_w * stride_yw
    y = y_ptr + (y_pixel[:, None] + (offs_o * stride_yc)[None, :])
    tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=mask_y)


@runtime.jit(do_not_specialize=SIZES)
def conv_forward_few_kernel(
    x_ptr, w_ptr, bias_ptr, y_ptr,
    # As for conv_forward_kernel.
    pixels, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    stride_xn, stride_xd, stride_xh, stride_xw, stride_wo, stride_wt,
    stride_bc, stride_bd, stride_bh, stride_bw, stride_yn, stride_yc, stride_yd, stride_yh, stride_yw,
    AXES: tl.constexpr, BIAS: tl.constexpr,
    DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The same sum for few channels: over the pairs (u, c) of a tap and a channel, BLOCK_K of them at a time."""
    # Which tile of the outputs is this program's?
    blocks_m, blocks_n = tl.cdiv(pixels, BLOCK_M), tl.cdiv(out_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, group = rest % blocks_m, rest // blocks_m
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < pixels, offs_n < out_channels
    # Where the window of a pixel begins in the input: negative in the padding, nowhere for rows past the last pixel.
    image, i_d, i_h, i_w = pixel_of(offs_m, out_d, out_h, out_w)
    start_d, start_h = i_d * stride_d - padding_d, i_h * stride_h - padding_h
    start_w = tl.where(mask_m, i_w * stride_w - padding_w, NOWHERE)
    x_window = start_d.to(tl.int64) * stride_xd + start_h.to(tl.int64) * stride_xh + start_w.to(tl.int64) * stride_xw
    x_window += image * stride_xn
    # The channels of the group.
    x_ptr += group * in_channels
    w_ptr += group.to(tl.int64) * (out_channels * stride_wo)
    acc, taps = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE), kernel_d * kernel_h * kernel_w
    for degree in tl.static_range(1, DEGREES + 1):
        for begin in tl.range(0, taps * in_channels, BLOCK_K):
            # The channel and the tap of each pair; channels vary first.
            c, tap = (begin + offs_k) % in_channels, (begin + offs_k) // in_channels
            u_w, u_h, u_d = tap % kernel_w, tap // kernel_w % kernel_h, tap // (kernel_w * kernel_h)
            # What each pair shows; what lies in the padding, or is of no tap, is no term of the sum.
            at = start_w[:, None] + (dilation_w * u_w)[None, :]
            mask_x, x_step = (tap < taps)[None, :] & (at >= 0) & (at < in_w), dilation_w * u_w * stride_xw + c
            if AXES > 1:
                at = start_h[:, None] + (dilation_h * u_h)[None, :]
                mask_x, x_step = mask_x & (at >= 0) & (at < in_h), x_step + dilation_h * u_h * stride_xh
            if AXES > 2:
                at = start_d[:, None] + (dilation_d * u_d)[None, :]
                mask_x, x_step = mask_x & (at >= 0) & (at < in_d), x_step + dilation_d * u_d * stride_xd
            x = tl.load(x_ptr + (x_window[:, None] + x_step[None, :]), mask=mask_x, other=0)
            if BASIS != "none":
                x = expanded(x, mask_x, degree, BASIS, SQUASH, MASKED, ACC_DTYPE)
            # The weights of the pairs.
            w_pair = w_ptr + (degree - 1) * in_channels + (tap * stride_wt + c)[:, None]
            w = tl.load(w_pair + (offs_n * stride_wo)[None, :], mask=(tap < taps)[:, None] & mask_n[None, :], other=0)
            acc = tl.dot(x, w, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
    # Where the outputs lie.
    mask_y, offs_o = mask_m[:, None] & mask_n[None, :], (group * out_channels + offs_n).to(tl.int64)
    i_d, i_h, i_w = i_d.to(tl.int64), i_h.to(tl.int64), i_w.to(tl.int64)
    if BIAS == "channel":
        acc += tl.load(bias_ptr + offs_o, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    elif BIAS == "map":
        b_pixel = i_d * stride_bd + i_h * stride_bh + i_w * stride_bw
        bias = tl.load(bias_ptr + (b_pixel[:, None] + (offs_o * stride_bc)[None, :]), mask=mask_y, other=0)
        acc += bias.to(ACC_DTYPE)
    y_pixel = image * stride_yn + i_d * stride_yd + i_h * stride_yh + i_w * stride_yw
    y = y_ptr + (y_pixel[:, None] + (offs_o * stride_yc)[None, :])
    tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=mask_y)


def conv(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion = PLAIN
) -> torch.Tensor:
    """The layer ``y[b, o, i] = bias[o] + sum x[b, c, s i + d u - p] w[o, c, u]`` of tensors, by the kernels.

    With an expansion, of ``x`` expanded: the weight is then ``(C_out, degrees * C_in // groups, *kernel)``, degree by
    degree. ``bias`` may also be a map ``(1, C_out, *output_size)``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> with runtime.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    y = memory.fresh(x, layer.output_shape)
    if y.numel() == 0:
        return y
    x, packed = memory.with_channels_last(x), w if memory.lies_packed(w.shape, w.stride()) else memory.packed_weight(w)
    name, few, runs, sizes = _known(layer, expansion, y.dtype)
    bias = bias.contiguous() if bias is not None and bias.dim() == 1 else bias
    kernel, precision = conv_forward_few_kernel if few else conv_forward_kernel, runtime.precision(y)

    def launch(tile: Tile | BoxTile) -> None:
        if isinstance(tile, BoxTile):
            form = forward_runs if runs else forward_hopper
            return form.write_conv(y, x, packed, bias, layer, tile)
        launch_kept(kernel, _launched, (layer, expansion, tile, precision), x, packed, bias, y)

    with runtime.on_device_of(y):
        if expansion == PLAIN:
            boxes = partial(forward_hopper.tiles, y, x, packed, bias, layer)
            boxes = partial(forward_runs.tiles, y, bias, layer) if runs else boxes
            autotune.launch_either(name, layer, y, launch, boxes, **sizes)
        else:
            autotune.launch(name, layer, y, launch, **sizes)
    return y


@lru_cache(1024)
def _known(layer: ConvGeometry, expansion: Expansion, dtype: torch.dtype) -> tuple[str, bool, bool, Mapping[str, Any]]:
    """The layer's name among choices, whether its channels are few, whether runs serve, and what tiles depend on."""
    name = "conv" if expansion == PLAIN else f"conv {expansion.basis} {expansion.squash} {expansion.degrees}"
    sizes = {"rows": _told(layer, expansion)["pixels"], "columns": layer.out_channels // layer.groups}
    sizes |= {"programs": layer.groups, "among": autotune.tiles_of(dtype, expanded=expansion != PLAIN)}
    few, runs = layer.in_channels // layer.groups < autotune.FEW, forward_runs.could_serve(dtype, layer)
    return name, few, runs, MappingProxyType(sizes)


def _launched(
    layer: ConvGeometry, expansion: Expansion, tile: Tile, precision: str,
    x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments; ``packed`` is the weight as `memory.packed_weight` lays it out."""
    told, (kind, steps, added) = _told(layer, expansion), _bias_of(bias, packed)
    pixels, in_channels, out_channels = told["pixels"], told["in_channels"], told["out_channels"]
    _, blocks = autotune.tiled(tile, in_channels, math.prod(layer.kernel_size), False, True)
    told = {"x_ptr": x, "w_ptr": packed, "bias_ptr": added, "y_ptr": y, **told}
    told |= memory.named_strides("x", x, "ndhw") | memory.named_strides("y", y)
    told |= {"BIAS": kind, **dict(zip(("stride_bc", "stride_bd", "stride_bh", "stride_bw"), steps, strict=True))}
    told |= {"ACC_DTYPE": runtime.sum_type(y), "INPUT_PRECISION": precision}
    told |= {"INT64": memory.is_wide(x, y, packed) or pixels >= 2**31 - 2**10, **blocks}
    programs = cdiv(pixels, blocks["BLOCK_M"]) * cdiv(out_channels, blocks["BLOCK_N"]) * layer.groups
    return (programs,), told


@lru_cache(1024)
def _told(layer: ConvGeometry, expansion: Expansion) -> Mapping[str, Any]:
    """What the kernels are told of a layer, whatever its tensors."""
    in_channels, out_channels = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    step = expansion.degrees * in_channels
    told: dict[str, Any] = {"pixels": layer.batch * math.prod(layer.output_size), **memory.of_layer(layer)}
    told |= {"in_channels": in_channels, "out_channels": out_channels, "AXES": layer.axes}
    told |= {"stride_wo": math.prod(layer.kernel_size) * step, "stride_wt": step}
    told |= {"DEGREES": expansion.degrees, "BASIS": expansion.basis, "SQUASH": expansion.squash}
    return MappingProxyType(told | {"MASKED": expansion.masked})


def _bias_of(bias: torch.Tensor | None, other: torch.Tensor) -> tuple[str, tuple[int, ...], torch.Tensor]:
    """The kind of a bias, the strides of a map of it, and where it is; ``other`` where there is none."""
    if bias is None or bias.dim() == 1:
        return ("none", (1, 0, 0, 0), other) if bias is None else ("channel", (1, 0, 0, 0), bias)
    return "map", memory.strides(bias)[1:], bias
