"""The Triton kernel of the weight gradient, of one to three axes: a matrix product whose long side is summed.

Few weights, many pixels: each is a sum over all outputs of the batch. The pixels are split among programs, each writes
its part of the sums in the dtype of sums, and a second kernel adds the parts, always in the same order. So nothing is
added atomically, and two runs agree bit by bit.
"""

from __future__ import annotations

import math

import torch

from konvlib import tiles
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune as tuning
from konvlib.layers import memory as layout
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import polynomial, squashed
from konvlib.tiles import tl

SIZES = ("rows", "groups", "parts", "share", *(f"{name}{axis}" for name in "tikpsd" for axis in range(layout.AXES)))
PARTS = 2 * tuning.PROCESSORS
"""How many programs should share the work at least."""

MOST_SUMS = 2**24
"""How many partial sums are kept at most."""


@tiles.jit()
def _divided(value, factor, shift):
    """``value // n`` by a multiplication; see `_by_multiplication`."""
    return ((value.to(tl.int64) * factor) >> shift).to(tl.int32)


@tiles.jit(do_not_specialize=(*SIZES, "f0", "f1", "f2", "h0", "h1", "h2"))
def _reduction_kernel(
    sums, x, dy, rows, groups, parts, share, t0, t1, t2, i0, i1, i2, k0, k1, k2, p0, p1, p2, s0, s1, s2, d0, d1, d2,
    f0, f1, f2, h0, h1, h2, xn, x0, x1, x2, yn, y0, y1, y2, channels, outputs, AXES: tl.constexpr, FLAT: tl.constexpr,
    DEGREE: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, DEPTH: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One part of a tile of sums, ``ROWS`` output channels by ``COLUMNS`` taps and input channels.

    With a ``BASIS``, of the polynomial of ``DEGREE`` of each sample; padding is left out of it if ``MASKED``.
    """
    taps = k0 * k1 * k2
    wide = tl.cdiv(taps * channels, COLUMNS) if FLAT else taps * tl.cdiv(channels, COLUMNS)
    down = tl.cdiv(outputs, ROWS)
    column, rest = tl.program_id(0) % wide, tl.program_id(0) // wide
    tile, rest = rest % down, rest // down
    group, part = rest % groups, rest // groups
    o = tile * ROWS + tl.arange(0, ROWS)
    if FLAT:
        entry = column * COLUMNS + tl.arange(0, COLUMNS)
        c, tap = entry % channels, entry // channels
        there = tap < taps
    else:
        tap = column % taps
        c = column // taps * COLUMNS + tl.arange(0, COLUMNS)
        there, entry = c < channels, tap * channels + c
    u2 = tap % k2 * d2 - p2
    u1 = tap // k2 % k1 * d1 - p1
    u0 = tap // (k1 * k2) * d0 - p0
    x += group * channels
    dy += group * outputs
    total = tl.zeros((ROWS, COLUMNS), SUM)
    for begin in tl.range(part * share, tl.minimum((part + 1) * share, rows), DEPTH):
        m = begin + tl.arange(0, DEPTH)
        m2 = _divided(m, f2, h2)
        a2 = m - m2 * t2
        m1 = _divided(m2, f1, h1)
        a1 = m2 - m1 * t1
        n = _divided(m1, f0, h0)
        a0 = m1 - n * t0
        row = n.to(tl.int64) * yn + a0.to(tl.int64) * y0 + a1.to(tl.int64) * y1 + a2.to(tl.int64) * y2
        keep = (m < rows)[:, None] & (o < outputs)[None, :]
        left = tl.load(dy + (row[:, None] + o[None, :]), mask=keep, other=0)
        shown = n.to(tl.int64) * xn
        q2 = a2 * s2
        if FLAT:
            at = q2[:, None] + u2[None, :]
            keep = (m < rows)[:, None] & there[None, :] & (at >= 0) & (at < i2)
            place = shown[:, None] + at.to(tl.int64) * x2
            if AXES > 1:
                at = (a1 * s1)[:, None] + u1[None, :]
                keep &= (at >= 0) & (at < i1)
                place += at.to(tl.int64) * x1
            if AXES > 2:
                at = (a0 * s0)[:, None] + u0[None, :]
                keep &= (at >= 0) & (at < i0)
                place += at.to(tl.int64) * x0
            right = tl.load(x + (place + c[None, :]), mask=keep, other=0)
        else:
            at = q2 + u2
            keep = (m < rows) & (at >= 0) & (at < i2)
            shown += at.to(tl.int64) * x2
            if AXES > 1:
                at = a1 * s1 + u1
                keep &= (at >= 0) & (at < i1)
                shown += at.to(tl.int64) * x1
            if AXES > 2:
                at = a0 * s0 + u0
                keep &= (at >= 0) & (at < i0)
                shown += at.to(tl.int64) * x0
            keep = keep[:, None] & there[None, :]
            right = tl.load(x + (shown[:, None] + c[None, :]), mask=keep, other=0)
        if BASIS != "none":
            right = polynomial(squashed(right.to(SUM), SQUASH), DEGREE, BASIS)
            right = (tl.where(keep, right, 0.0) if MASKED else right).to(dy.dtype.element_ty)
        total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION, out_dtype=SUM)
    base = ((part * groups + group) * outputs).to(tl.int64) * taps * channels
    out = sums + (base + (o.to(tl.int64) * (taps * channels))[:, None] + entry[None, :])
    tl.store(out, total.to(sums.dtype.element_ty), mask=(o < outputs)[:, None] & there[None, :])


@tiles.jit(do_not_specialize=("parts", "entries", "channels", "taps"))
def _add_kernel(dw, sums, parts, entries, channels, taps, wo, wc, wt, BLOCK: tl.constexpr, SUM: tl.constexpr):
    """Add the parts of some weights' sums in order, and write them where the gradient has them."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), SUM)
    here = sums + entry
    for _ in tl.range(0, parts):
        total += tl.load(here, mask=entry < entries, other=0)
        here += entries
    c, rest = entry % channels, entry // channels
    out = dw + rest // taps * wo + c * wc + rest % taps * wt
    tl.store(out, total.to(dw.dtype.element_ty), mask=entry < entries)


def conv_weight_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The layer's weight gradient ``dw[o, c, u] = sum dy[b, o, i] x[b, c, s i + d u - p]``, by the kernels.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> with tiles.interpreted():
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
    >>> with tiles.interpreted():
    ...     write_weight_grad(dw, x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1), degree=2, basis="monomial")
    >>> dw
    tensor([[[21., 46.]]])
    """
    rows = layer.batch * math.prod(layer.output_size)
    if rows == 0:
        dw.zero_()
        return
    x, dy = layout.with_channels_last(x), layout.with_channels_last(dy)
    depth, width, taps = layer.in_channels // layer.groups, layer.out_channels // layer.groups, _taps(layer)
    axes = [
        *(layout.three(values, fill) for values, fill in _axes(layer)),
        *zip(*(_by_multiplication(size) for size in layout.three(layer.output_size, 1)), strict=True),
    ]
    (xn, _, *x_strides), (yn, _, *y_strides) = layout.strides(x), layout.strides(dy)
    flat = depth < tuning.FLAT

    def launch(tile: Tile) -> None:
        tile = tuning.for_few_channels(tile) if flat else tile
        columns = min(tile.columns, max(16, tiles.power_of_2(depth * (taps if flat else 1))))
        across = -(-taps * depth // columns) if flat else taps * -(-depth // columns)
        programs = layer.groups * -(-width // tile.rows) * across
        share, parts = split(rows, tile.depth, programs, dw.numel())
        sums = torch.empty(parts * dw.numel(), dtype=tiles.sum_dtype(x.dtype), device=x.device)
        _reduction_kernel[(programs * parts,)](
            sums, x, dy, rows, layer.groups, parts, share, *(value for axis in axes for value in axis), xn, *x_strides,
            yn, *y_strides, depth, width, AXES=layer.axes, FLAT=flat, DEGREE=degree, BASIS=basis, SQUASH=squash,
            MASKED=masked, ROWS=tile.rows, COLUMNS=columns, DEPTH=tile.depth, SUM=tiles.sum_type(x),
            PRECISION=tiles.precision(x), num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        add_parts(dw, sums, parts)

    with tiles.on_device_of(dw):
        name = "conv_weight_grad" + f" {basis} {squash} {degree}" * (basis != "none")
        among = tuning.tiles_of(x.dtype, expanded=basis != "none")
        columns, programs = taps * depth, layer.groups
        tuning.launch(name, layer, x, launch, rows=width, columns=columns, programs=programs, among=among)


def empty_weight(x: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """An uninitialised gradient of the layer's weight, in channels last where ``x`` is.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> empty_weight(torch.ones(1, 2, 5), conv_geometry((1, 2, 5), (4, 2, 3), axes=1)).shape
    torch.Size([4, 2, 3])
    """
    return layout.empty(x, layer.weight_shape)


def split(rows: int, depth: int, programs: int, sums: int) -> tuple[int, int]:
    """How many rows each part gets, a multiple of ``depth``, and how many parts there are.

    Examples
    --------
    >>> split(100, 16, 1, 10), split(100, 16, 1000, 10)
    ((16, 7), (112, 1))
    """
    blocks = -(-rows // depth)
    most = min(blocks, -(-PARTS // programs), max(1, MOST_SUMS // sums))
    share = -(-blocks // most)
    return share * depth, -(-blocks // share)


def add_parts(dw: torch.Tensor, sums: torch.Tensor, parts: int) -> None:
    """Write the sum over ``parts`` of ``(C_out, taps, C_in // groups)`` into ``dw``.

    Examples
    --------
    >>> dw = torch.empty(1, 2, 2)
    >>> with tiles.interpreted():
    ...     add_parts(dw, torch.arange(8.0), 2)
    >>> dw
    tensor([[[ 4.,  8.],
             [ 6., 10.]]])
    """
    depth, taps, block = dw.shape[1], math.prod(dw.shape[2:]), 256
    with tiles.on_device_of(dw):
        _add_kernel[(-(-dw.numel() // block),)](
            dw, sums, parts, dw.numel(), depth, taps, dw.stride(0), dw.stride(1), dw.stride(-1), BLOCK=block,
            SUM=tiles.sum_type(dw),
        )  # fmt: skip


def _taps(layer: ConvGeometry) -> int:
    return math.prod(layer.kernel_size)


def _axes(layer: ConvGeometry):
    yield layer.output_size, 1
    yield layer.input_size, 1
    yield layer.kernel_size, 1
    yield [before for before, _ in layer.padding], 0
    yield layer.stride, 1
    yield layer.dilation, 1


def _by_multiplication(size: int) -> tuple[int, int]:
    """A factor and a shift such that ``value * factor >> shift`` is ``value // size`` for ``value < 2**31``.

    With ``2**(31 + e) <= factor * size < 2**(31 + e) + 2**e`` the error is below ``1 / size``.
    """
    shift = 31 + max(size - 1, 0).bit_length()
    return -(-(1 << shift) // size), shift
