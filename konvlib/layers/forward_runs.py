"""The layer of few channels in halves: all that a row of taps shows is one run in memory.

With three channels a tap shows three numbers, too few to load at once. But where channels lie together, the taps of a
row lie together too. So the input is laid out once, in its padding and with a power of two of channels, and the sum is
one of runs: a run begins where the accesses of several numbers may, and nothing is asked of the padding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory
from konvlib.layers.autotune import BoxTile
from konvlib.layers.bound import launch
from konvlib.layers.memory import pixel_of
from konvlib.runtime import cdiv, power_of_2, tl

MOST_CHANNELS, LONGEST = 4, 64
"""Channels of the input, and numbers of a run, with which it is tried."""

TILES = tuple(
    BoxTile(block_m, block_n, 0, warps, stages, 1, 1, 1, block_m)
    for block_m, block_n, warps, stages in (
        *((128, 64, 4, 4), (128, 64, 8, 4), (64, 64, 4, 4)),
        *((128, 128, 8, 4), (256, 64, 8, 3), (128, 32, 4, 4)),
    )
)
"""Pixels of a row, channels, warps and stages; as many products at a time as a run has numbers."""

SIZES = ("pixels", "out_h", "out_w", "kernel_h")
"""Arguments that change from call to call: one compiled kernel serves them all."""


@runtime.jit(do_not_specialize=SIZES)
def conv_runs_kernel(
    x_ptr, w_ptr, bias_ptr, y_ptr,
    # The pixels of all outputs, the layer.
    pixels, out_channels, out_h, out_w, kernel_h,
    # Steps in memory: from window to window of x, and from tap to tap of a column; of w and y.
    stride_xn, stride_xh, stride_xw, stride_xu, stride_wo, stride_yn, stride_yc, stride_yh, stride_yw,
    # Whether a bias is added; a multiple of what stride_xw is, the numbers of a run, and of one filled up.
    HAS_BIAS: tl.constexpr, ALIGNED: tl.constexpr, RUN: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_{u, r} x[n, i, u, r] w[o, u, r] over the runs of a column of taps."""
    blocks_n = tl.cdiv(out_channels, BLOCK_N)
    offs_m = tl.program_id(0) // blocks_n * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = tl.program_id(0) % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n, mask_k = offs_m < pixels, offs_n < out_channels, offs_k < RUN
    # Where the window of each pixel begins. What follows a run is no term of the sum, and may be no number.
    image, _, i_h, i_w = pixel_of(offs_m, 1, out_h, out_w)
    window = tl.multiple_of(image * stride_xn + i_h * stride_xh + i_w * stride_xw, ALIGNED)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for u in tl.range(0, kernel_h):
        x_run = window[:, None] + (u * stride_xu + offs_k)[None, :]
        x = tl.load(x_ptr + x_run, mask=mask_m[:, None] & mask_k[None, :], other=0)
        w_run = (offs_n * stride_wo)[None, :] + (u * BLOCK_K + offs_k)[:, None]
        acc = tl.dot(x, tl.load(w_ptr + w_run, mask=mask_n[None, :], other=0), acc)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0).to(tl.float32)[None, :]
    y_pixel = image * stride_yn + i_h * stride_yh + i_w * stride_yw
    y = y_ptr + (y_pixel[:, None] + (offs_n * stride_yc)[None, :])
    tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=mask_m[:, None] & mask_n[None, :])


def tiles(y: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> tuple[BoxTile, ...]:
    """The tiles with which this form computes the layer on a device: none where it does not."""
    if not y.is_cuda or not could_serve(y.dtype, layer) or (bias is not None and bias.dim() > 1):
        return ()
    return TILES


@lru_cache(4096)
def could_serve(dtype: torch.dtype, layer: ConvGeometry) -> bool:
    """Whether it computes layers of a dtype, in one group: those of one or two axes whose taps of a row are a run.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layers = [conv_geometry((1, 3, 9, 9), (8, 3, 7, 7), axes=2, padding=4, dilation=d) for d in (1, 2)]
    >>> [could_serve(torch.float16, layer) for layer in layers]
    [True, False]
    """
    if dtype not in runtime.HALVES or layer.axes > 2 or layer.groups > 1 or layer.dilation[-1] > 1:
        return False
    run, pixels = layer.kernel_size[-1] * power_of_2(layer.in_channels), layer.batch * math.prod(layer.output_size)
    return layer.in_channels <= MOST_CHANNELS and run <= LONGEST and pixels < 2**31 - 2**10


def write_conv(
    y: torch.Tensor,
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    tile: BoxTile,
) -> None:
    """Write the layer of ``x`` and a weight that lies as ``(C_out, taps, C_in)`` into ``y``."""
    z, w = laid_out(x, layer), runs_of(memory.as_packed(packed, layer), layer)
    bias = None if bias is None else bias.contiguous()
    launch(conv_runs_kernel, _launched, (layer, tile), z, w, bias, y)


def _launched(
    layer: ConvGeometry, tile: BoxTile, z: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor
) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments, of an input that is `laid_out` and its weight."""
    stride_h, stride_w = memory.three(layer.stride, 1)[1:]
    kernel_h, kernel_w = memory.three(layer.kernel_size, 1)[1:]
    out_h, out_w = memory.three(layer.output_size, 1)[1:]
    step, pixels = power_of_2(layer.in_channels), layer.batch * math.prod(layer.output_size)
    return (cdiv(pixels, tile.block_m) * cdiv(layer.out_channels, tile.block_n),), {
        "x_ptr": z, "w_ptr": w, "bias_ptr": w if bias is None else bias, "y_ptr": y,
        "pixels": pixels, "out_channels": layer.out_channels, "out_h": out_h, "out_w": out_w, "kernel_h": kernel_h,
        "stride_xn": z.stride(0), "stride_xh": stride_h * z.stride(1), "stride_xw": stride_w * step,
        "stride_xu": memory.three(layer.dilation, 1)[1] * z.stride(1), "stride_wo": w.stride(0),
        **memory.named_strides("y", y, "nchw"),
        "HAS_BIAS": bias is not None, "ALIGNED": math.gcd(stride_w * step, 8), "RUN": kernel_w * step,
        "BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "BLOCK_K": w.shape[2],
        "num_warps": tile.num_warps, "num_stages": tile.num_stages,
    }  # fmt: skip


def laid_out(x: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The input as images, rows, columns and a power of two of channels, in its padding, as far as runs reach.

    Rows begin at a multiple of 16 numbers.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((1, 3, 4), (1, 3, 3), axes=1, padding=1)
    >>> z = laid_out(torch.arange(12.0).reshape(1, 3, 4), layer)
    >>> z.shape, z[0, 0, :3].tolist()
    (torch.Size([1, 1, 8, 4]), [[0.0, 0.0, 0.0, 0.0], [0.0, 4.0, 8.0, 0.0], [1.0, 5.0, 9.0, 0.0]])
    """
    x = x.movedim(1, -1) if layer.axes == 2 else x.movedim(1, -1).unsqueeze(1)
    room = _room_of(layer)
    z = x.new_zeros(room.shape)
    part = z.as_strided((layer.batch, room.height, room.width, layer.in_channels), z.stride(), room.first)
    part.copy_(x if x.shape[1:3] == (room.height, room.width) else x[:, : room.height, : room.width])
    return z


class Room(NamedTuple):
    """What an input is laid out in, where its first sample lies there, and for how many rows and columns is room."""

    shape: tuple[int, int, int, int]
    first: int
    height: int
    width: int


@lru_cache(1024)
def _room_of(layer: ConvGeometry) -> Room:
    channels, run = power_of_2(layer.in_channels), _filled(layer)
    (stride_h, stride_w), (above, before) = memory.three(layer.stride, 1)[1:], memory.three(layer.before, 0)[1:]
    (in_h, in_w), (out_h, out_w) = memory.three(layer.input_size, 1)[1:], memory.three(layer.output_size, 1)[1:]
    rows = (out_h - 1) * stride_h + memory.three(layer.dilation, 1)[1] * (memory.three(layer.kernel_size, 1)[1] - 1) + 1
    columns = 16 * cdiv(((out_w - 1) * stride_w * channels + run), 16) // channels
    height, width = max(min(in_h, rows - above), 0), max(min(in_w, columns - before), 0)
    return Room((layer.batch, rows, columns, channels), (above * columns + before) * channels, height, width)


def runs_of(packed: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """A weight ``(C_out, taps, C_in)`` as ``(C_out, rows of taps, numbers of a run)``: zeros fill the runs up.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> runs_of(torch.arange(1, 7).reshape(1, 2, 3), conv_geometry((1, 3, 4), (1, 3, 2), axes=1))[0, 0, :9]
    tensor([1, 2, 3, 0, 4, 5, 6, 0, 0])
    """
    kernel_h, kernel_w = memory.three(layer.kernel_size, 1)[1:]
    run, channels = _filled(layer), power_of_2(layer.in_channels)
    w = packed.new_zeros((layer.out_channels, kernel_h, run))
    taps = packed.view(layer.out_channels, kernel_h, kernel_w, layer.in_channels)
    w.as_strided(taps.shape, (kernel_h * run, run, channels, 1)).copy_(taps)
    return w


def _filled(layer: ConvGeometry) -> int:
    return max(16, power_of_2(layer.kernel_size[-1] * power_of_2(layer.in_channels)))
