"""The Triton kernels of the layer's input gradient, which is the transposed convolution, of one to three axes.

They run by phases. Inputs ``j`` that leave the same remainder by the stride are shown by the same taps, and over them
the gradient is a layer of stride 1. The phase is part of the launch grid, and no inserted zero is multiplied. With
:math:`g = \\gcd(s, d)`, input :math:`j = s t + r` is shown by the taps :math:`u = u_0 + (s / g) v` to the outputs
:math:`i = t + (r + p - d u_0) / s - (d / g) v`, and by none at all where :math:`g` does not divide :math:`r + p`.

As for the layer itself, one kernel sums over the channels of one tap, then of the next, and another one, where there
are few channels, over taps and channels together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, input_grad_hopper, memory
from konvlib.layers.autotune import BoxTile, Tile
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.memory import LAYER_SIZES, NOWHERE, pixel_of
from konvlib.runtime import cdiv, tl

SIZES = ("pixels", "groups", *LAYER_SIZES, *(f"{name}_{axis}" for name in ("gcd", "inverse") for axis in "dhw"))
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.jit()
def taps_of_phase(phase, padding, stride, dilation, gcd, inverse, kernel):
    """The taps of an axis that show the inputs ``j = stride * t + phase``, and to which outputs.

    They are ``u = first + unit * v``, for ``v`` from 0 to ``count - 1``, and the outputs ``t + origin + gap * v``;
    ``gcd`` is that of stride and dilation, ``inverse`` that of ``dilation / gcd`` modulo ``stride / gcd``.
    """
    unit = stride // gcd
    remainder = (phase + padding) % stride
    first = (remainder // gcd * inverse) % unit
    count = tl.where(remainder % gcd == 0, tl.maximum(kernel - first + unit - 1, 0) // unit, 0)
    return (phase + padding - dilation * first) // stride, -(dilation // gcd), first, unit, count


@runtime.jit(do_not_specialize=SIZES)
def conv_input_grad_kernel(
    dy_ptr, w_ptr, bias_ptr, dx_ptr,
    # The pixels of one phase of all inputs, the groups and the channels of one, and the layer.
    pixels, groups, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    # Steps in memory. The channels of dy lie together, as do those of the weight (out, tap, in).
    stride_dyn, stride_dyd, stride_dyh, stride_dyw, stride_wo, stride_wt,
    stride_dxn, stride_dxc, stride_dxd, stride_dxh, stride_dxw,
    # How many axes there are, whether a bias is added, the dtypes, the tile.
    AXES: tl.constexpr, HAS_BIAS: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, EVEN_K: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = bias[c] + sum_{u, o} dy[n, o, i] w[o, u, c] over s i + d u - p = j, BLOCK_M j by BLOCK_N c."""
    # Which tile of the inputs is this program's, and of which phase?
    blocks_m, blocks_n = tl.cdiv(pixels, BLOCK_M), tl.cdiv(in_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, rest = rest % blocks_m, rest // blocks_m
    group, phase = rest % groups, rest // groups
    r_d, r_h, r_w = phase // (stride_h * stride_w), phase // stride_w % stride_h, phase % stride_w
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < pixels, offs_n < in_channels
    # The taps of the phase, and the output to which the first of them shows a pixel: nowhere past the last pixel.
    at_d, gap_d, u_d, unit_d, taps_d = taps_of_phase(r_d, padding_d, stride_d, dilation_d, gcd_d, inverse_d, kernel_d)
    at_h, gap_h, u_h, unit_h, taps_h = taps_of_phase(r_h, padding_h, stride_h, dilation_h, gcd_h, inverse_h, kernel_h)
    at_w, gap_w, u_w, unit_w, taps_w = taps_of_phase(r_w, padding_w, stride_w, dilation_w, gcd_w, inverse_w, kernel_w)
    image, t_d, t_h, t_w = pixel_of(offs_m, tl.cdiv(in_d, stride_d), tl.cdiv(in_h, stride_h), tl.cdiv(in_w, stride_w))
    i_d, i_h, i_w = t_d + at_d, t_h + at_h, tl.where(mask_m, t_w + at_w, NOWHERE)
    dy_first = i_d.to(tl.int64) * stride_dyd + i_h.to(tl.int64) * stride_dyh + i_w.to(tl.int64) * stride_dyw
    dy_first += image * stride_dyn
    # The channels of the group.
    dy_ptr += group * out_channels
    w_ptr += group.to(tl.int64) * (out_channels * stride_wo)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    # A single loop over taps and blocks of channels, so that loads run ahead of products from tap to tap too.
    v_d, v_h, v_w, k = 0, 0, 0, 0
    for _ in tl.range(0, taps_d * taps_h * taps_w * tl.cdiv(out_channels, BLOCK_K)):
        # What the outputs received to which the tap shows the pixels, of channels k and on.
        i = i_w + gap_w * v_w
        mask_dy, dy_step = (i >= 0) & (i < out_w), gap_w * v_w * stride_dyw + k
        if AXES > 1:
            i = i_h + gap_h * v_h
            mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_h), dy_step + gap_h * v_h * stride_dyh
        if AXES > 2:
            i = i_d + gap_d * v_d
            mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_d), dy_step + gap_d * v_d * stride_dyd
        mask_dy, mask_w = mask_dy[:, None], mask_n[None, :]
        if not EVEN_K:
            mask_k = k + offs_k < out_channels
            mask_dy, mask_w = mask_dy & mask_k[None, :], mask_w & mask_k[:, None]
        dy = tl.load(dy_ptr + ((dy_first + dy_step)[:, None] + offs_k[None, :]), mask=mask_dy, other=0)
        # The weights of the tap.
        tap = ((u_d + unit_d * v_d) * kernel_h + u_h + unit_h * v_h) * kernel_w + u_w + unit_w * v_w
        w_tap = w_ptr + (tap * stride_wt + k * stride_wo)
        w = tl.load(w_tap + (offs_k[:, None] * stride_wo + offs_n[None, :]), mask=mask_w, other=0)
        acc = tl.dot(dy, w, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
        # Further channels; after the last of them the next tap, row by row and plane by plane.
        k += BLOCK_K
        next_tap = k >= out_channels
        k, v_w = tl.where(next_tap, 0, k), v_w + next_tap.to(tl.int32)
        next_row = v_w >= taps_w
        v_w, v_h = tl.where(next_row, 0, v_w), v_h + next_row.to(tl.int32)
        next_plane = v_h >= taps_h
        v_h, v_d = tl.where(next_plane, 0, v_h), v_d + next_plane.to(tl.int32)
    # Where the pixels of the phase lie; the last of them may lie past the input.
    j_d, j_h, j_w = t_d * stride_d + r_d, t_h * stride_h + r_h, t_w * stride_w + r_w
    mask_m &= (j_d < in_d) & (j_h < in_h) & (j_w < in_w)
    mask, offs_c = mask_m[:, None] & mask_n[None, :], (group * in_channels + offs_n).to(tl.int64)
    j_d, j_h, j_w = j_d.to(tl.int64), j_h.to(tl.int64), j_w.to(tl.int64)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_c, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    dx_pixel = image * stride_dxn + j_d * stride_dxd + j_h * stride_dxh + j_w * stride_dxw
    dx = dx_ptr + (dx_pixel[:, None] + (offs_c * stride_dxc)[None, :])
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask)


@runtime.jit(do_not_specialize=SIZES)
def conv_input_grad_few_kernel(
    dy_ptr, w_ptr, bias_ptr, dx_ptr,
    # As for conv_input_grad_kernel.
    pixels, groups, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    stride_dyn, stride_dyd, stride_dyh, stride_dyw, stride_wo, stride_wt,
    stride_dxn, stride_dxc, stride_dxd, stride_dxh, stride_dxw,
    AXES: tl.constexpr, HAS_BIAS: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The same sum for few channels: over the pairs (u, o) of a tap and a channel, BLOCK_K of them at a time."""
    # Which tile of the inputs is this program's, and of which phase?
    blocks_m, blocks_n = tl.cdiv(pixels, BLOCK_M), tl.cdiv(in_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, rest = rest % blocks_m, rest // blocks_m
    group, phase = rest % groups, rest // groups
    r_d, r_h, r_w = phase // (stride_h * stride_w), phase // stride_w % stride_h, phase % stride_w
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < pixels, offs_n < in_channels
    # The taps of the phase, and the output to which the first of them shows a pixel: nowhere past the last pixel.
    at_d, gap_d, u_d, unit_d, taps_d = taps_of_phase(r_d, padding_d, stride_d, dilation_d, gcd_d, inverse_d, kernel_d)
    at_h, gap_h, u_h, unit_h, taps_h = taps_of_phase(r_h, padding_h, stride_h, dilation_h, gcd_h, inverse_h, kernel_h)
    at_w, gap_w, u_w, unit_w, taps_w = taps_of_phase(r_w, padding_w, stride_w, dilation_w, gcd_w, inverse_w, kernel_w)
    image, t_d, t_h, t_w = pixel_of(offs_m, tl.cdiv(in_d, stride_d), tl.cdiv(in_h, stride_h), tl.cdiv(in_w, stride_w))
    i_d, i_h, i_w = t_d + at_d, t_h + at_h, tl.where(mask_m, t_w + at_w, NOWHERE)
    dy_first = i_d.to(tl.int64) * stride_dyd + i_h.to(tl.int64) * stride_dyh + i_w.to(tl.int64) * stride_dyw
    dy_first += image * stride_dyn
    # The channels of the group.
    dy_ptr += group * out_channels
    w_ptr += group.to(tl.int64) * (out_channels * stride_wo)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    # A phase may have no taps. The compiler computes the first places ahead of the loop, and would take a division by
    # their number as proof that there are some.
    some_w, some_h = tl.maximum(taps_w, 1), tl.maximum(taps_h, 1)
    for begin in tl.range(0, taps_d * taps_h * taps_w * out_channels, BLOCK_K):
        # The channel and the tap of each pair; channels vary first.
        o, v = (begin + offs_k) % out_channels, (begin + offs_k) // out_channels
        v_w, v_h, v_d = v % some_w, v // some_w % some_h, v // (some_w * some_h)
        # What each pair's output received; where there is none, or no such tap, is no term of the sum.
        i = i_w[:, None] + (gap_w * v_w)[None, :]
        mask_dy, dy_step = (i >= 0) & (i < out_w) & (v_d < taps_d)[None, :], gap_w * v_w * stride_dyw + o
        if AXES > 1:
            i = i_h[:, None] + (gap_h * v_h)[None, :]
            mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_h), dy_step + gap_h * v_h * stride_dyh
        if AXES > 2:
            i = i_d[:, None] + (gap_d * v_d)[None, :]
            mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_d), dy_step + gap_d * v_d * stride_dyd
        dy = tl.load(dy_ptr + (dy_first[:, None] + dy_step[None, :]), mask=mask_dy, other=0)
        # The weights of the pairs.
        tap = ((u_d + unit_d * v_d) * kernel_h + u_h + unit_h * v_h) * kernel_w + u_w + unit_w * v_w
        w_pair = w_ptr + ((tap * stride_wt + o * stride_wo)[:, None] + offs_n[None, :])
        w = tl.load(w_pair, mask=(v_d < taps_d)[:, None] & mask_n[None, :], other=0)
        acc = tl.dot(dy, w, acc, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
    # Where the pixels of the phase lie; the last of them may lie past the input.
    j_d, j_h, j_w = t_d * stride_d + r_d, t_h * stride_h + r_h, t_w * stride_w + r_w
    mask_m &= (j_d < in_d) & (j_h < in_h) & (j_w < in_w)
    mask, offs_c = mask_m[:, None] & mask_n[None, :], (group * in_channels + offs_n).to(tl.int64)
    j_d, j_h, j_w = j_d.to(tl.int64), j_h.to(tl.int64), j_w.to(tl.int64)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_c, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    dx_pixel = image * stride_dxn + j_d * stride_dxd + j_h * stride_dxh + j_w * stride_dxw
    dx = dx_ptr + (dx_pixel[:, None] + (offs_c * stride_dxc)[None, :])
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask)


def conv_transpose(dy: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer's input gradient, which is its transpose, with a bias; ``layer`` is the layer that is transposed.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> with runtime.interpreted():
    ...     conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    dx = memory.fresh(dy, layer.input_shape)
    other, told = ("bias_ptr", dx if bias is None else bias.contiguous()), (("HAS_BIAS", bias is not None),)
    kernels, among = (conv_input_grad_kernel, conv_input_grad_few_kernel), autotune.tiles_of(dx.dtype)
    launch_by_phases(kernels, other, told, dx, dy, w, layer, name="conv_transpose", among=among, in_boxes=True)
    return dx


def launch_by_phases(
    kernels: tuple[Any, Any | None],
    other: tuple[str, torch.Tensor],
    told: tuple[tuple[str, Any], ...],
    dx: torch.Tensor,
    dy: torch.Tensor,
    w: torch.Tensor,
    layer: ConvGeometry,
    *,
    name: str,
    among: tuple[Tile, ...],
    in_boxes: bool = False,
) -> None:
    """Launch one of two kernels that write ``dx``, for many channels or for few, with its own arguments.

    These are one tensor, ``other``, and what is ``told``, each with its name. The second kernel may be missing. With
    ``in_boxes``, what they compute is the input gradient with a bias, the tensor, unless that is ``dx``; and boxes of
    pixels may compute it too.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dx, dy, w = torch.empty(1, 1, 3), torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> kernels = conv_input_grad_kernel, conv_input_grad_few_kernel
    >>> given = ("bias_ptr", dx), (("HAS_BIAS", False),)
    >>> layer, among = conv_geometry(dx.shape, w.shape, axes=1), autotune.SINGLES
    >>> with runtime.interpreted():
    ...     launch_by_phases(kernels, *given, dx, dy, w, layer, name="conv_transpose", among=among)
    >>> dx
    tensor([[[ 2., 13., 15.]]])
    """
    if dx.numel() == 0:
        return
    dy = memory.with_channels_last(dy)
    packed = w if memory.lies_packed(w.shape, w.stride()) else memory.packed_weight(w)
    few = layer.out_channels // layer.groups < autotune.FEW and kernels[1] is not None
    (argument, tensor), precision, depth = other, runtime.precision(dx), w.shape[1]

    def launch(tile: Tile | BoxTile) -> None:
        if isinstance(tile, BoxTile):
            return input_grad_hopper.write_input_grad(dx, dy, packed, None if tensor is dx else tensor, layer, tile)
        key = layer, depth, tile, argument, told, few, precision
        launch_kept(kernels[few], _launched, key, dy, packed, tensor, dx)

    with runtime.on_device_of(dx):
        sizes = _sizes(layer)
        if in_boxes:
            boxes = partial(input_grad_hopper.tiles, dx, dy, packed, layer)
            autotune.launch_either(name, layer, dx, launch, boxes, among=among, **sizes)
        else:
            autotune.launch(name, layer, dx, launch, among=among, **sizes)


@lru_cache(1024)
def _sizes(layer: ConvGeometry) -> Mapping[str, int]:
    """What the tile is chosen by."""
    pixels = layer.batch * math.prod(cdiv(n, s) for n, s in zip(layer.input_size, layer.stride, strict=True))
    return {
        "rows": pixels,
        "columns": layer.in_channels // layer.groups,
        "programs": math.prod(layer.stride) * layer.groups,
    }


def _launched(
    layer: ConvGeometry, depth: int, tile: Tile, other: str, given: tuple[tuple[str, Any], ...], few: bool,
    precision: str, dy: torch.Tensor, packed: torch.Tensor, tensor: torch.Tensor, dx: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments: ``given``, and ``other``, which is a tensor, among them.

    ``packed`` is the weight as `memory.packed_weight` lays it out, with so many input channels for each tap.
    """
    pixels, in_channels, programs = map(_sizes(layer).__getitem__, ("rows", "columns", "programs"))
    out_channels, taps = layer.out_channels // layer.groups, math.prod(layer.kernel_size)
    common, inverse = memory.gcd_and_inverse(layer.stride, layer.dilation)
    told: dict[str, Any] = {"dy_ptr": dy, "w_ptr": packed, other: tensor, "dx_ptr": dx, **dict(given)}
    told |= {"pixels": pixels, "groups": layer.groups, "in_channels": in_channels, "out_channels": out_channels}
    told |= {**memory.of_layer(layer), **memory.along_axes(gcd=(common, 1), inverse=(inverse, 0))}
    told |= memory.named_strides("dy", dy, "ndhw") | memory.named_strides("dx", dx)
    told |= {"stride_wo": taps * depth, "stride_wt": depth, "AXES": layer.axes}
    told |= {"ACC_DTYPE": runtime.sum_type(dx), "INPUT_PRECISION": precision}
    told["INT64"] = memory.is_wide(dx, dy, packed, tensor) or pixels >= 2**31 - 2**10
    _, blocks = autotune.tiled(tile, out_channels, taps, False, True if few else None)
    count = cdiv(pixels, blocks["BLOCK_M"]) * cdiv(in_channels, blocks["BLOCK_N"]) * programs
    return (count,), told | blocks
