"""The Triton kernels of layers whose output channels read one input channel each: the layer and its two gradients.

There is no sum over channels, so there is nothing for a matrix product to share. The kernels multiply and add tile by
tile; each sample comes from memory once and from the cache for the other taps. Output channel ``o`` reads channel
``o // multiplier``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, memory, weight_grad
from konvlib.layers.memory import LAYER_SIZES, pixel_of
from konvlib.runtime import cdiv, tl

SIZES = (*LAYER_SIZES, "pixels", "channels", "multiplier", "lines", "parts", "share")
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.jit(do_not_specialize=[name for name in SIZES if name not in ("lines", "parts", "share")])
def depthwise_forward_kernel(
    x_ptr, w_ptr, bias_ptr, y_ptr,
    # The pixels of all outputs, the output channels and how many read each input channel, the layer.
    pixels, channels, multiplier,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    # Steps in memory; of the weight, from channel to channel.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_wo,
    stride_yn, stride_yc, stride_yd, stride_yh, stride_yw,
    # Whether a bias is added, the dtypes, the tile, and how many taps are written out.
    HAS_BIAS: tl.constexpr, ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_u x[n, o // multiplier, s i + d u - p] w[o, u], BLOCK_M pixels by BLOCK_N channels."""
    # Which tile of the outputs is this program's?
    blocks_n = tl.cdiv(channels, BLOCK_N)
    pid_n, pid_m = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m, mask_n = offs_m < pixels, offs_n < channels
    image, i_d, i_h, i_w = pixel_of(offs_m, out_d, out_h, out_w)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for tap in tl.range(0, kernel_d * kernel_h * kernel_w, loop_unroll_factor=UNROLL):
        u_w, u_h, u_d = tap % kernel_w, tap // kernel_w % kernel_h, tap // (kernel_w * kernel_h)
        # The samples that the tap shows; what lies in the padding is no term of the sum.
        j_d = i_d * stride_d + dilation_d * u_d - padding_d
        j_h = i_h * stride_h + dilation_h * u_h - padding_h
        j_w = i_w * stride_w + dilation_w * u_w - padding_w
        inside = (j_w >= 0) & (j_h >= 0) & (j_d >= 0) & (j_w < in_w) & (j_h < in_h) & (j_d < in_d)
        x_pixel = j_d.to(tl.int64) * stride_xd + j_h.to(tl.int64) * stride_xh + j_w.to(tl.int64) * stride_xw
        x = x_ptr + (
            (image * stride_xn + x_pixel)[:, None] + ((offs_n // multiplier).to(tl.int64) * stride_xc)[None, :]
        )
        x = tl.load(x, mask=(mask_m & inside)[:, None] & mask_n[None, :], other=0).to(ACC_DTYPE)
        w = tl.load(w_ptr + offs_n * stride_wo + tap, mask=mask_n, other=0).to(ACC_DTYPE)
        acc += tl.where(inside[:, None], x * w[None, :], 0.0)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    # Where the outputs lie.
    y_pixel = i_d.to(tl.int64) * stride_yd + i_h.to(tl.int64) * stride_yh + i_w.to(tl.int64) * stride_yw
    y = y_ptr + ((image * stride_yn + y_pixel)[:, None] + (offs_n.to(tl.int64) * stride_yc)[None, :])
    tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


@runtime.jit(do_not_specialize=[name for name in SIZES if name not in ("lines", "parts", "share")])
def depthwise_input_grad_kernel(
    dy_ptr, w_ptr, bias_ptr, dx_ptr,
    # The pixels of all inputs, the input channels and how many outputs read each, the layer.
    pixels, channels, multiplier,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    # Steps in memory; of the weight, from channel to channel.
    stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw, stride_wo,
    stride_dxn, stride_dxc, stride_dxd, stride_dxh, stride_dxw,
    # Whether a bias is added, the dtypes, the tile, and how many terms are written out.
    HAS_BIAS: tl.constexpr, ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = bias[c] + sum_{o, u} dy[n, o, i] w[o, u] over c = o // multiplier and s i + d u - p = j."""
    # Which tile of the inputs is this program's?
    blocks_n = tl.cdiv(channels, BLOCK_N)
    pid_n, pid_m = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m, mask_n = offs_m < pixels, offs_n < channels
    image, j_d, j_h, j_w = pixel_of(offs_m, in_d, in_h, in_w)
    acc, taps = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE), kernel_d * kernel_h * kernel_w
    for term in tl.range(0, taps * multiplier, loop_unroll_factor=UNROLL):
        tap, offs_o = term % taps, offs_n * multiplier + term // taps
        u_w, u_h, u_d = tap % kernel_w, tap // kernel_w % kernel_h, tap // (kernel_h * kernel_w)
        # The outputs to which the tap shows the pixels: there is one where the stride divides.
        i_d = j_d + padding_d - dilation_d * u_d
        i_h = j_h + padding_h - dilation_h * u_h
        i_w = j_w + padding_w - dilation_w * u_w
        inside = (i_w % stride_w == 0) & (i_h % stride_h == 0) & (i_d % stride_d == 0)
        inside &= (i_w >= 0) & (i_h >= 0) & (i_d >= 0)
        i_d, i_h, i_w = i_d // stride_d, i_h // stride_h, i_w // stride_w
        inside &= (i_w < out_w) & (i_h < out_h) & (i_d < out_d)
        dy_pixel = image * stride_dyn + i_d.to(tl.int64) * stride_dyd + i_h.to(tl.int64) * stride_dyh
        dy_pixel += i_w.to(tl.int64) * stride_dyw
        dy = dy_ptr + (dy_pixel[:, None] + (offs_o.to(tl.int64) * stride_dyc)[None, :])
        dy = tl.load(dy, mask=(mask_m & inside)[:, None] & mask_n[None, :], other=0).to(ACC_DTYPE)
        w = tl.load(w_ptr + offs_o * stride_wo + tap, mask=mask_n, other=0).to(ACC_DTYPE)
        acc += tl.where(inside[:, None], dy * w[None, :], 0.0)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0).to(ACC_DTYPE)[None, :]
    # Where the inputs lie.
    dx_pixel = j_d.to(tl.int64) * stride_dxd + j_h.to(tl.int64) * stride_dxh + j_w.to(tl.int64) * stride_dxw
    dx = dx_ptr + ((image * stride_dxn + dx_pixel)[:, None] + (offs_n.to(tl.int64) * stride_dxc)[None, :])
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


@runtime.jit(do_not_specialize=[name for name in SIZES if name != "pixels"])
def depthwise_weight_grad_kernel(
    sums_ptr, x_ptr, dy_ptr,
    # The lines of all outputs, in how many parts of which share they are summed, the output channels, the layer.
    lines, parts, share, channels, multiplier,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    # Steps in memory.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw,
    # The dtype of sums and the tile.
    ACC_DTYPE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """sum_{n, i} dy[n, o, i] x[n, o // multiplier, s i + d u - p] over a share of lines, BLOCK_M u by BLOCK_N o."""
    # Which taps, which channels and which share of the lines are this program's?
    taps = kernel_d * kernel_h * kernel_w
    blocks_m, blocks_n = tl.cdiv(taps, BLOCK_M), tl.cdiv(channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, part = rest % blocks_m, rest // blocks_m
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m, mask_n = offs_m < taps, offs_n < channels
    # How far from the first input each tap shows the first output.
    u_w = offs_m % kernel_w * dilation_w - padding_w
    u_h = offs_m // kernel_w % kernel_h * dilation_h - padding_h
    u_d = offs_m // (kernel_w * kernel_h) * dilation_d - padding_d
    # The channels of this program: those of dy, and the ones that they read.
    x_ptr += (offs_n // multiplier).to(tl.int64)[None, :] * stride_xc
    dy_ptr += offs_n.to(tl.int64) * stride_dyc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for line in tl.range(part * share, tl.minimum((part + 1) * share, lines)):
        # The image of the line and its place there, by tap in the input and by channel in the output.
        i_h, i_d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
        j_h, j_d = u_h + i_h * stride_h, u_d + i_d * stride_d
        mask_j = mask_m & (j_h >= 0) & (j_h < in_h) & (j_d >= 0) & (j_d < in_d)
        x_line = (
            j_d.to(tl.int64) * stride_xd + j_h.to(tl.int64) * stride_xh + (offs_m * 0 + image).to(tl.int64) * stride_xn
        )
        dy_pixel = (offs_n * 0 + i_d).to(tl.int64) * stride_dyd + (offs_n * 0 + i_h).to(tl.int64) * stride_dyh
        dy_pixel += (offs_n * 0 + image).to(tl.int64) * stride_dyn
        for i_w in tl.range(0, out_w):
            # What each tap shows the pixel, times what that received; nothing in the padding.
            j_w = u_w + i_w * stride_w
            mask = (mask_j & (j_w >= 0) & (j_w < in_w))[:, None] & mask_n[None, :]
            x = tl.load(x_ptr + (x_line[:, None] + (j_w.to(tl.int64) * stride_xw)[:, None]), mask=mask, other=0)
            dy = tl.load(dy_ptr + dy_pixel, mask=mask_n, other=0).to(ACC_DTYPE)
            acc += tl.where(mask, x.to(ACC_DTYPE) * dy[None, :], 0.0)
            dy_pixel += stride_dyw
    # Where the part of the sums goes: parts, channels, taps.
    sums = sums_ptr + (part * channels + offs_n).to(tl.int64)[None, :] * taps + offs_m[:, None]
    tl.store(sums, acc.to(sums_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


def conv(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer, one input channel for each output channel, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2], [1, 1, 1]]]), torch.tensor([[[2.0, 1]], [[0, 5]]])
    >>> with runtime.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1, groups=2))
    tensor([[[5., 8.],
             [5., 5.]]])
    """
    y = memory.empty(x, layer.output_shape)
    given = {"x_ptr": x, "y_ptr": y, **memory.named_strides("x", x), **memory.named_strides("y", y)}
    _launch(depthwise_forward_kernel, given, y, x, w, bias, layer, size=1024, unroll=8)
    return y


def conv_transpose(dy: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The transpose of such a layer, which is its input gradient, with a bias, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> with runtime.interpreted():
    ...     conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    dx = memory.empty(dy, layer.input_shape)
    given = {"dy_ptr": dy, "dx_ptr": dx, **memory.named_strides("dy", dy), **memory.named_strides("dx", dx)}
    _launch(depthwise_input_grad_kernel, given, dx, dy, w, bias, layer, size=512, unroll=4)
    return dx


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
    dw, taps, channels = weight_grad.empty_weight(x, layer), math.prod(layer.kernel_size), layer.out_channels
    lines = layer.batch * math.prod(layer.output_size[:-1])
    if lines == 0:
        return dw.zero_()
    x, dy = memory.with_channels_last(x), memory.with_channels_last(dy)
    block_m = min(64, runtime.power_of_2(taps))
    block_n = min(runtime.power_of_2(channels), 2048 // block_m, 64)
    programs = cdiv(channels, block_n) * cdiv(taps, block_m)
    share, parts = weight_grad.split(lines, 1, programs, dw.numel(), autotune.multiprocessors(x))
    sums = torch.empty(parts * dw.numel(), dtype=runtime.sum_dtype(x.dtype), device=x.device)
    with runtime.on_device_of(dw):
        depthwise_weight_grad_kernel[(programs * parts,)](
            sums_ptr=sums, x_ptr=x, dy_ptr=dy, lines=lines, parts=parts, share=share, channels=channels,
            multiplier=channels // layer.in_channels, **memory.of_layer(layer), **memory.named_strides("x", x),
            **memory.named_strides("dy", dy), ACC_DTYPE=runtime.sum_type(x), BLOCK_M=block_m, BLOCK_N=block_n,
        )  # fmt: skip
        weight_grad.add_parts(dw, sums, parts)
    return dw


def _launch(
    kernel: Any,
    given: dict[str, Any],
    out: torch.Tensor,
    source: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    *,
    size: int,
    unroll: int,
) -> None:
    """Launch a kernel that writes ``out``, in tiles of ``size`` that are longer along what lies together there."""
    if out.numel() == 0:
        return
    channels, packed, taps = out.shape[1], memory.packed_weight(w), math.prod(layer.kernel_size)
    pixels = out.numel() // channels
    block_n = min(64, runtime.power_of_2(channels)) if out.stride(1) == 1 else 1
    block_m = max(1, size // block_n)
    with runtime.on_device_of(out):
        kernel[(cdiv(pixels, block_m) * cdiv(channels, block_n),)](
            **given, **memory.of_layer(layer), w_ptr=packed, bias_ptr=packed if bias is None else bias.contiguous(),
            pixels=pixels, channels=channels, multiplier=layer.out_channels // layer.in_channels, stride_wo=taps,
            HAS_BIAS=bias is not None, ACC_DTYPE=runtime.sum_type(out), BLOCK_M=block_m, BLOCK_N=block_n,
            INT64=memory.is_wide(out, source) or pixels >= 2**31 - 2**10, UNROLL=min(taps, unroll),
        )  # fmt: skip
