"""One Triton kernel for the layer and for its input gradient, of one to three axes: an implicit matrix product.

A program computes a tile of outputs, pixels by channels. It runs over the taps and, for each, over the channels that
are summed. What a tap shows of the input is gathered while it is multiplied, so the matrix of windows never exists.

The input gradient runs by phases. Places ``j`` that leave the same remainder by the stride use the same taps, and over
them the gradient is a layer of stride 1. The phase is part of the launch grid, and no inserted zero is multiplied: with
:math:`g = \\gcd(s, d)`, place :math:`j = s t + r` takes the taps :math:`u = u_0 + (s / g) v` from the outputs
:math:`i = t + (r + p - d u_0) / s - (d / g) v`, and none at all where :math:`g` does not divide :math:`r + p`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from konvlib import tiles
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune as tuning
from konvlib.layers import memory as layout
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import polynomial, slope, squashed
from konvlib.tiles import tl

SIZES = ("rows", "groups", *(f"{name}{axis}" for name in "tikpsdgvj" for axis in range(layout.AXES)))
"""Arguments that change from call to call: one compiled kernel serves them all."""

NOWHERE = tl.constexpr(-(2**30)) if tl else -(2**30)
"""A place before any input, that no tap brings back into it."""


@tiles.jit()
def _phase(r, p, s, d, common, inverse, k):
    """One axis of a phase: where tap 0 is, the step from tap to tap; this tap in the kernel, its step; how many."""
    unit = s // common
    remainder = (r + p) % s
    tap = (remainder // common * inverse) % unit
    count = tl.where(remainder % common == 0, tl.maximum(k - tap + unit - 1, 0) // unit, 0)
    return (r + p - d * tap) // s, -(d // common), tap, unit, count


@tiles.jit()
def _target(a0, a1, a2, inside, s0, s1, s2, r0, r1, r2, j0, j1, j2, TRANSPOSED: tl.constexpr):
    """Where the outputs of window ``a`` lie, and whether they do."""
    if TRANSPOSED:
        a0, a1, a2 = a0 * s0 + r0, a1 * s1 + r1, a2 * s2 + r2
        inside &= (a0 < j0) & (a1 < j1) & (a2 < j2)
    return a0.to(tl.int64), a1.to(tl.int64), a2.to(tl.int64), inside


@tiles.jit(do_not_specialize=SIZES)
def _gather_kernel(
    y, x, w, bias, rows, groups, t0, t1, t2, i0, i1, i2, k0, k1, k2, p0, p1, p2, s0, s1, s2, d0, d1, d2, g0, g1, g2,
    v0, v1, v2, j0, j1, j2, xn, x0, x1, x2, yn, yc, y0, y1, y2, wn, wt, wk, wd, z, zn, zc, z0, z1, z2, mc, m0, m1, m2,
    channels, outputs, AXES: tl.constexpr, TRANSPOSED: tl.constexpr, FLAT: tl.constexpr, WHOLE: tl.constexpr,
    BIAS: tl.constexpr, DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, MASKED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """One tile, ``ROWS`` pixels by ``COLUMNS`` channels; ``FLAT`` sums over taps and channels together, if few.

    With a ``BASIS`` the sum runs over degrees too. The layer takes a polynomial of each sample, padding left out if
    ``MASKED``. Its input gradient multiplies each degree's sum by the slope of that polynomial at the input ``z``.
    ``BIAS`` is "none", one value per "channel", or a "map", with strides ``mc``, ``m0``, ``m1`` and ``m2``.
    """
    across, down = tl.cdiv(outputs, COLUMNS), tl.cdiv(rows, ROWS)
    column, rest = tl.program_id(0) % across, tl.program_id(0) // across
    tile, rest = rest % down, rest // down
    group, phase = rest % groups, rest // groups
    first0, first1, first2, gap0, gap1, gap2 = -p0, -p1, -p2, d0, d1, d2
    tap0, tap1, tap2, unit0, unit1, unit2, n0, n1, n2 = 0, 0, 0, 1, 1, 1, k0, k1, k2
    r0, r1, r2, step0, step1, step2 = 0, 0, 0, s0, s1, s2
    if TRANSPOSED:
        r0, r1, r2 = phase // (s1 * s2), phase // s2 % s1, phase % s2
        first0, gap0, tap0, unit0, n0 = _phase(r0, p0, s0, d0, g0, v0, k0)
        first1, gap1, tap1, unit1, n1 = _phase(r1, p1, s1, d1, g1, v1, k1)
        first2, gap2, tap2, unit2, n2 = _phase(r2, p2, s2, d2, g2, v2, k2)
        step0, step1, step2 = 1, 1, 1
    m = (tile.to(tl.int64) if WIDE else tile) * ROWS + tl.arange(0, ROWS)
    a2, above = m % t2, m // t2
    a1, above = above % t1, above // t1
    a0, n = above % t0, (above // t0).to(tl.int64)
    q2 = tl.where(m < rows, a2 * step2 + first2, NOWHERE)
    q1, q0 = a1 * step1 + first1, a0 * step0 + first0
    o = column * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, DEPTH)
    x += group * channels
    shown = n * xn + q2.to(tl.int64) * x2
    if AXES > 1:
        shown += q1.to(tl.int64) * x1
    if AXES > 2:
        shown += q0.to(tl.int64) * x0
    w += group.to(tl.int64) * (channels * wk if TRANSPOSED else outputs * wn)
    o_all = (group * outputs + o).to(tl.int64)
    POLYNOMIAL: tl.constexpr = BASIS != "none" and not TRANSPOSED
    SLOPE: tl.constexpr = BASIS != "none" and TRANSPOSED
    total = tl.zeros((ROWS, COLUMNS), SUM)
    part = total
    for degree in tl.static_range(DEGREES):
        if SLOPE:
            part = tl.zeros((ROWS, COLUMNS), SUM)
        if FLAT:
            for begin in tl.range(0, n0 * n1 * n2 * channels, DEPTH):
                c, u = (begin + k) % channels, (begin + k) // channels
                u2, u1, u0 = u % n2, u // n2 % n1, u // (n1 * n2)
                at = q2[:, None] + (gap2 * u2)[None, :]
                keep = (at >= 0) & (at < i2) & (u0 < n0)[None, :]
                move = gap2 * u2 * x2 + c
                if AXES > 1:
                    at = q1[:, None] + (gap1 * u1)[None, :]
                    keep &= (at >= 0) & (at < i1)
                    move += gap1 * u1 * x1
                if AXES > 2:
                    at = q0[:, None] + (gap0 * u0)[None, :]
                    keep &= (at >= 0) & (at < i0)
                    move += gap0 * u0 * x0
                a = tl.load(x + (shown[:, None] + move[None, :]), mask=keep, other=0)
                if POLYNOMIAL:
                    a = polynomial(squashed(a.to(SUM), SQUASH), degree + 1, BASIS)
                    a = (tl.where(keep, a, 0.0) if MASKED else a).to(w.dtype.element_ty)
                u = ((tap0 + unit0 * u0) * k1 + tap1 + unit1 * u1) * k2 + tap2 + unit2 * u2
                keep = (u0 < n0)[:, None] & (o < outputs)[None, :]
                b = tl.load(w + degree * wd + (u * wt + c * wk)[:, None] + (o * wn)[None, :], mask=keep, other=0)
                part = tl.dot(a, b, part, input_precision=PRECISION, out_dtype=SUM)
        else:
            u0, u1, u2, c = first0 * 0, first0 * 0, first0 * 0, first0 * 0
            for _ in tl.range(0, n0 * n1 * n2 * tl.cdiv(channels, DEPTH)):
                at = q2 + gap2 * u2
                keep = (at >= 0) & (at < i2)
                move = gap2 * u2 * x2 + c
                if AXES > 1:
                    at = q1 + gap1 * u1
                    keep &= (at >= 0) & (at < i1)
                    move += gap1 * u1 * x1
                if AXES > 2:
                    at = q0 + gap0 * u0
                    keep &= (at >= 0) & (at < i0)
                    move += gap0 * u0 * x0
                a_keep, b_keep = keep[:, None], (o < outputs)[None, :]
                if not WHOLE:
                    a_keep, b_keep = a_keep & (c + k < channels)[None, :], b_keep & (c + k < channels)[:, None]
                a = tl.load(x + ((shown + move)[:, None] + k[None, :]), mask=a_keep, other=0)
                if POLYNOMIAL:
                    a = polynomial(squashed(a.to(SUM), SQUASH), degree + 1, BASIS)
                    a = (tl.where(a_keep, a, 0.0) if MASKED else a).to(w.dtype.element_ty)
                u = ((tap0 + unit0 * u0) * k1 + tap1 + unit1 * u1) * k2 + tap2 + unit2 * u2
                weight = w + (degree * wd + u * wt + c * wk)
                b = tl.load(weight + (k[:, None] * wk + (o * wn)[None, :]), mask=b_keep, other=0)
                part = tl.dot(a, b, part, input_precision=PRECISION, out_dtype=SUM)
                c += DEPTH
                next_tap = c >= channels
                c, u2 = tl.where(next_tap, 0, c), u2 + next_tap.to(tl.int32)
                next_row = u2 >= n2
                u2, u1 = tl.where(next_row, 0, u2), u1 + next_row.to(tl.int32)
                next_plane = u1 >= n1
                u1, u0 = tl.where(next_plane, 0, u1), u0 + next_plane.to(tl.int32)
        if SLOPE:
            b0, b1, b2, stored = _target(a0, a1, a2, m < rows, s0, s1, s2, r0, r1, r2, j0, j1, j2, TRANSPOSED)
            place = (n * zn + b0 * z0 + b1 * z1 + b2 * z2)[:, None] + (o_all * zc)[None, :]
            sample = tl.load(z + place, mask=stored[:, None] & (o < outputs)[None, :], other=0).to(SUM)
            total += part * slope(sample, degree + 1, BASIS, SQUASH)
    if not SLOPE:
        total = part
    b0, b1, b2, stored = _target(a0, a1, a2, m < rows, s0, s1, s2, r0, r1, r2, j0, j1, j2, TRANSPOSED)
    stored = stored[:, None] & (o < outputs)[None, :]
    if BIAS == "channel":
        total += tl.load(bias + o_all, mask=o < outputs, other=0).to(SUM)[None, :]
    elif BIAS == "map":
        place = (b0 * m0 + b1 * m1 + b2 * m2)[:, None] + (o_all * mc)[None, :]
        total += tl.load(bias + place, mask=stored, other=0).to(SUM)
    out = y + ((n * yn + b0 * y0 + b1 * y1 + b2 * y2)[:, None] + (o_all * yc)[None, :])
    tl.store(out, total.to(y.dtype.element_ty), mask=stored)


class Expansion(NamedTuple):
    """What the layer makes of its samples, by degree: see ``konvlib.layers.polynomials``.

    ``degrees`` are those from 1 on, and ``masked`` says that padding contributes nothing.
    """

    degrees: int = 1
    basis: str = "none"
    squash: str = "none"
    masked: bool = False


PLAIN = Expansion()


def conv(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion = PLAIN
) -> torch.Tensor:
    """The layer ``y[b, o, i] = bias[o] + sum x[b, c, s i + d u - p] w[o, c, u]`` of tensors, by the kernel.

    With an expansion, of ``x`` expanded: the weight is then ``(C_out, degrees * C_in // groups, *kernel)``, degree by
    degree, and ``bias`` may be a map ``(1, C_out, *output_size)``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> with tiles.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    y = layout.empty(x, layer.output_shape)
    return _launched(y, x, w, bias, x, layer, expansion, transposed=False)


def conv_transpose(
    dy: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    x: torch.Tensor | None = None,
    expansion: Expansion = PLAIN,
) -> torch.Tensor:
    """The layer's input gradient, which is its transpose, with a bias; ``layer`` is the layer that is transposed.

    With an expansion, the gradient by ``x``, in the layout of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> with tiles.interpreted():
    ...     conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    x = dy if x is None else x
    return _launched(layout.empty(x, layer.input_shape), dy, w, bias, x, layer, expansion, transposed=True)


def _launched(y, x, w, bias, z, layer: ConvGeometry, expansion: Expansion, *, transposed: bool) -> torch.Tensor:
    if y.numel() == 0:
        return y
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    channels, outputs = (width, depth) if transposed else (depth, width)
    x, packed, taps = layout.with_channels_last(x), layout.packed_weight(w), math.prod(layer.kernel_size)
    axes = {name: layout.three(values, fill) for name, values, fill in _axes(layer, transposed)}
    rows = layer.batch * math.prod(axes["t"])
    phases = math.prod(layer.stride) if transposed else 1
    wide = layout.is_wide(x, y, z, packed) or rows >= 2**31 - 2**10
    deep_all = depth * expansion.degrees
    strides = (1, deep_all, taps * deep_all, depth) if transposed else (taps * deep_all, deep_all, 1, depth)
    (xn, _, *x_strides), y_strides, z_strides = (layout.strides(each) for each in (x, y, z))
    kind = "none" if bias is None else "channel" if bias.dim() == 1 else "map"
    bias = packed if bias is None else bias.contiguous() if kind == "channel" else bias
    map_strides = layout.strides(bias)[1:] if kind == "map" else (1, 0, 0, 0)

    def launch(tile: Tile) -> None:
        flat = channels < tuning.FLAT
        tile = tuning.for_few_channels(tile) if flat else tile
        deep = min(tile.depth, max(16, tiles.power_of_2(channels * (taps if flat else 1))))
        programs = phases * layer.groups * -(-rows // tile.rows) * -(-outputs // tile.columns)
        _gather_kernel[(programs,)](
            y, x, packed, bias, rows, layer.groups, *(value for name in "tikpsdgvj" for value in axes[name]), xn,
            *x_strides, *y_strides, *strides, z, *z_strides, *map_strides, channels, outputs, AXES=layer.axes,
            TRANSPOSED=transposed, FLAT=flat, WHOLE=channels % deep == 0, BIAS=kind, DEGREES=expansion.degrees,
            BASIS=expansion.basis, SQUASH=expansion.squash, MASKED=expansion.masked, ROWS=tile.rows,
            COLUMNS=tile.columns, DEPTH=deep, SUM=tiles.sum_type(y), PRECISION=tiles.precision(y), WIDE=wide,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    with tiles.on_device_of(y):
        name = "conv_transpose" if transposed else "conv"
        name += f" {expansion.basis} {expansion.squash} {expansion.degrees}" * (expansion != PLAIN)
        expanded = expansion != PLAIN
        among = tuning.tiles_of(y.dtype, expanded=expanded, sloped=expanded and transposed)
        programs = phases * layer.groups
        tuning.launch(name, layer, y, launch, rows=rows, columns=outputs, programs=programs, among=among)
    return y


def _axes(layer: ConvGeometry, transposed: bool):
    """Per axis, under the names of the kernel's arguments: windows, sizes of what is gathered, the geometry, a fill."""
    common = [math.gcd(s, d) for s, d in zip(layer.stride, layer.dilation, strict=True)]
    inverse = [pow(d // g, -1, s // g) for s, d, g in zip(layer.stride, layer.dilation, common, strict=True)]
    windows = [-(-n // s) for n, s in zip(layer.input_size, layer.stride, strict=True)]
    yield "t", windows if transposed else layer.output_size, 1
    yield "i", layer.output_size if transposed else layer.input_size, 1
    yield "k", layer.kernel_size, 1
    yield "p", [before for before, _ in layer.padding], 0
    yield "s", layer.stride, 1
    yield "d", layer.dilation, 1
    yield "g", common, 1
    yield "v", inverse, 0
    yield "j", layer.input_size if transposed else layer.output_size, 1
