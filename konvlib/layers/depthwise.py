"""The Triton kernels of layers whose output channels read one input channel each: the layer and its two gradients.

There is no sum over channels, so there is nothing for a matrix product to share. The kernels multiply and add tile by
tile; each sample comes from memory once and from the cache for the other taps.
"""

from __future__ import annotations

import math

import torch

from konvlib import tiles
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory as layout
from konvlib.layers import weight_grad as reduction
from konvlib.tiles import tl

SIZES = ("batch", "rows", "rounds", *(f"{name}{axis}" for name in "tipsd" for axis in range(layout.AXES)))
UNROLLED = 64
"""Up to how many taps a kernel is compiled for its kernel size."""


@tiles.jit(do_not_specialize=[*SIZES, "channels", "multiplier", "k0", "k1", "k2"])
def _depthwise_kernel(
    y, x, w, bias, rows, channels, multiplier, t0, t1, t2, i0, i1, i2, k0, k1, k2, p0, p1, p2, s0, s1, s2, d0, d1, d2,
    xn, xc, x0, x1, x2, yn, yc, y0, y1, y2, wc, wt, AXES: tl.constexpr, TRANSPOSED: tl.constexpr, BIAS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UNROLL: tl.constexpr, SUM: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``ROWS`` pixels by ``COLUMNS`` channels of the layer, or of its input gradient.

    An output channel of the layer reads channel ``c // multiplier``; an input channel's gradient is a sum over the
    ``multiplier`` channels that read it.
    """
    across = tl.cdiv(channels, COLUMNS)
    column, tile = tl.program_id(0) % across, tl.program_id(0) // across
    m = (tile.to(tl.int64) if WIDE else tile) * ROWS + tl.arange(0, ROWS)
    c = column * COLUMNS + tl.arange(0, COLUMNS)
    a2, above = m % t2, m // t2
    a1, above = above % t1, above // t1
    a0, n = above % t0, (above // t0).to(tl.int64)
    inside = (m < rows)[:, None] & (c < channels)[None, :]
    total = tl.zeros((ROWS, COLUMNS), SUM)
    taps = k0 * k1 * k2
    rounds = taps * multiplier if TRANSPOSED else taps
    for step in tl.range(0, rounds, loop_unroll_factor=UNROLL):
        u = step % taps
        u2, u1, u0 = u % k2, u // k2 % k1, u // (k1 * k2)
        if TRANSPOSED:
            q2, q1, q0 = a2 + p2 - d2 * u2, a1 + p1 - d1 * u1, a0 + p0 - d0 * u0
            keep = (q2 % s2 == 0) & (q1 % s1 == 0) & (q0 % s0 == 0)
            keep &= (q2 >= 0) & (q1 >= 0) & (q0 >= 0)
            q2, q1, q0 = q2 // s2, q1 // s1, q0 // s0
            source = c * multiplier + step // taps
            weight = source
        else:
            q2, q1, q0 = a2 * s2 + d2 * u2 - p2, a1 * s1 + d1 * u1 - p1, a0 * s0 + d0 * u0 - p0
            keep = (q2 >= 0) & (q1 >= 0) & (q0 >= 0)
            source = c // multiplier
            weight = c
        keep &= (q2 < i2) & (q1 < i1) & (q0 < i0)
        place = n * xn + q0.to(tl.int64) * x0 + q1.to(tl.int64) * x1 + q2.to(tl.int64) * x2
        here = x + (place[:, None] + (source.to(tl.int64) * xc)[None, :])
        sample = tl.load(here, mask=inside & keep[:, None], other=0).to(SUM)
        tap = tl.load(w + weight * wc + u * wt, mask=c < channels, other=0).to(SUM)
        total += tl.where(keep[:, None], sample * tap[None, :], 0.0)
    if BIAS:
        total += tl.load(bias + c, mask=c < channels, other=0).to(SUM)[None, :]
    place = n * yn + a0.to(tl.int64) * y0 + a1.to(tl.int64) * y1 + a2.to(tl.int64) * y2
    tl.store(y + (place[:, None] + (c.to(tl.int64) * yc)[None, :]), total.to(y.dtype.element_ty), mask=inside)


@tiles.jit(do_not_specialize=[*SIZES, "lines", "parts", "share", "channels", "multiplier", "k0", "k1", "k2"])
def _depthwise_reduction_kernel(
    sums, x, dy, lines, parts, share, channels, multiplier, t0, t1, t2, i0, i1, i2, k0, k1, k2, p0, p1, p2, s0, s1, s2,
    d0, d1, d2, xn, xc, x0, x1, x2, yn, yc, y0, y1, y2, TAPS: tl.constexpr, COLUMNS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """One part of the weight gradient's sums, over ``share`` lines of pixels: ``TAPS`` taps by ``COLUMNS`` channels."""
    taps = k0 * k1 * k2
    across, down = tl.cdiv(channels, COLUMNS), tl.cdiv(taps, TAPS)
    column, rest = tl.program_id(0) % across, tl.program_id(0) // across
    block, part = rest % down, rest // down
    o = column * COLUMNS + tl.arange(0, COLUMNS)
    u = block * TAPS + tl.arange(0, TAPS)
    u2, u1, u0 = u % k2 * d2 - p2, u // k2 % k1 * d1 - p1, u // (k1 * k2) * d0 - p0
    x += (o // multiplier).to(tl.int64)[None, :] * xc
    dy += o.to(tl.int64) * yc
    total = tl.zeros((TAPS, COLUMNS), SUM)
    for line in tl.range(part * share, tl.minimum((part + 1) * share, lines)):
        a1, a0, n = line % t1, line // t1 % t0, line // t1 // t0
        q1, q0 = u1 + a1 * s1, u0 + a0 * s0
        there = (u < taps) & (q1 >= 0) & (q1 < i1) & (q0 >= 0) & (q0 < i0)
        shown = (q0.to(tl.int64) * x0 + q1.to(tl.int64) * x1 + (u * 0 + n).to(tl.int64) * xn)[:, None]
        sent = (o * 0 + a0).to(tl.int64) * y0 + (o * 0 + a1).to(tl.int64) * y1 + (o * 0 + n).to(tl.int64) * yn
        for a2 in tl.range(0, t2):
            q2 = u2 + a2 * s2
            keep = (there & (q2 >= 0) & (q2 < i2))[:, None] & (o < channels)[None, :]
            sample = tl.load(x + (shown + (q2.to(tl.int64) * x2)[:, None]), mask=keep, other=0).to(SUM)
            factor = tl.load(dy + sent, mask=o < channels, other=0).to(SUM)
            total += tl.where(keep, sample * factor[None, :], 0.0)
            sent += y2
    out = sums + (part * channels + o).to(tl.int64)[None, :] * taps + u[:, None]
    tl.store(out, total.to(sums.dtype.element_ty), mask=(u < taps)[:, None] & (o < channels)[None, :])


def conv(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer, one input channel for each output channel, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2], [1, 1, 1]]]), torch.tensor([[[2.0, 1]], [[0, 5]]])
    >>> with tiles.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1, groups=2))
    tensor([[[5., 8.],
             [5., 5.]]])
    """
    y = layout.empty(x, layer.output_shape)
    return _launched(y, x, w, bias, layer, transposed=False)


def conv_transpose(dy: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The transpose of such a layer, which is its input gradient, with a bias, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> with tiles.interpreted():
    ...     conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    dx = layout.empty(dy, layer.input_shape)
    return _launched(dx, dy, w, bias, layer, transposed=True)


def conv_weight_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The weight gradient of such a layer, by the kernels: parts of the sums first, then their sum.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> with tiles.interpreted():
    ...     conv_weight_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1))
    tensor([[[ 9., 16.]]])
    """
    dw = reduction.empty_weight(x, layer)
    sizes = dict(_axes(layer))
    lines = layer.batch * sizes["t"][0] * sizes["t"][1]
    if lines == 0:
        return dw.zero_()
    x, dy = layout.with_channels_last(x), layout.with_channels_last(dy)
    taps = math.prod(layer.kernel_size)
    together = min(64, tiles.power_of_2(taps))
    columns = min(tiles.power_of_2(layer.out_channels), 2048 // together, 64)
    programs = -(-layer.out_channels // columns) * -(-taps // together)
    share, parts = reduction.split(lines, 1, programs, dw.numel())
    sums = torch.empty(parts * dw.numel(), dtype=tiles.sum_dtype(x.dtype), device=x.device)
    with tiles.on_device_of(dw):
        _depthwise_reduction_kernel[(programs * parts,)](
            sums, x, dy, lines, parts, share, layer.out_channels, layer.out_channels // layer.in_channels,
            *(value for name in "tikpsd" for value in sizes[name]), *layout.strides(x), *layout.strides(dy),
            TAPS=together, COLUMNS=columns, SUM=tiles.sum_type(x),
        )  # fmt: skip
        reduction.add_parts(dw, sums, parts)
    return dw


def _launched(y, x, w, bias, layer: ConvGeometry, *, transposed: bool) -> torch.Tensor:
    if y.numel() == 0:
        return y
    sizes, packed = dict(_axes(layer)), layout.packed_weight(w)
    if transposed:
        sizes["t"], sizes["i"] = sizes["i"], sizes["t"]
    taps, channels, multiplier = math.prod(layer.kernel_size), y.shape[1], layer.out_channels // layer.in_channels
    rows = y.numel() // channels
    columns = min(64, tiles.power_of_2(channels)) if y.stride(1) == 1 else 1
    tile, unroll = max(1, (512 if transposed else 1024) // columns), min(taps, 4 if transposed else 8)
    with tiles.on_device_of(y):
        _depthwise_kernel[(-(-rows // tile) * -(-channels // columns),)](
            y, x, packed, packed if bias is None else bias.contiguous(), rows, channels, multiplier,
            *(value for name in "tikpsd" for value in sizes[name]), *layout.strides(x), *layout.strides(y), taps, 1,
            AXES=layer.axes, TRANSPOSED=transposed, BIAS=bias is not None, ROWS=tile, COLUMNS=columns,
            UNROLL=unroll, SUM=tiles.sum_type(y), WIDE=layout.is_wide(x, y) or rows >= 2**31 - 2**10,
        )  # fmt: skip
    return y


def _axes(layer: ConvGeometry):
    """Per axis, under the names of the kernels' arguments: outputs, inputs and the geometry of the layer."""
    yield "t", layout.three(layer.output_size, 1)
    yield "i", layout.three(layer.input_size, 1)
    yield "k", layout.three(layer.kernel_size, 1)
    yield "p", layout.three([before for before, _ in layer.padding], 0)
    yield "s", layout.three(layer.stride, 1)
    yield "d", layout.three(layer.dilation, 1)
