"""What Konvolution by a halo takes besides samples, made by one kernel: weights in its order, and what degree 0 adds.

Degree 0 is 1 on each sample, so it adds a sum of coefficients over the taps that lie on samples. All outputs whose taps
do have the same, and outputs differ from them only near the ends of an axis: one row for each kind of place is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers.bound import launch
from konvlib.runtime import cdiv, power_of_2, tl

CHANNELS = 64
"""How many channels the weights of one tap have together, the last ones zero where there are fewer."""

TILE = 1024
"""How many coefficients of degree 0, or taps of outputs, are summed at once: more take registers from the weights."""


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


class Ends(NamedTuple):
    """The outputs of an axis by what their taps see: the first ``first`` and those after ``last`` differ from others.

    Output ``i`` is of the kind ``min(i, first) + max(i - last, 0)``.
    """

    first: int
    last: int
    kinds: int


class Added(NamedTuple):
    """What is added to outputs, ``(kinds of rows, kinds of columns, C_out)``, and of which kind each output is."""

    table: torch.Tensor
    rows: Ends
    columns: Ends


@runtime.jit()
def prepare_kernel(
    w_ptr, table_ptr, kappa_ptr, first_ptr, bias_ptr,
    channels, in_h, in_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
    # The ends of both axes, and how many kinds of outputs there are.
    first_h, last_h, first_w, last_w, kinds_w, kinds,
    stride_wo, stride_tk, stride_ko, stride_kd, stride_kc, stride_kh, stride_kw,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, PHASES: tl.constexpr, DEGREES: tl.constexpr,
    FIRST: tl.constexpr, BIAS: tl.constexpr, MASKED: tl.constexpr,
    # BLOCK_C channels of GROUP degrees lie together, 64 in all.
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr, GROUP: tl.constexpr, WIDE_C: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """w[o] = kappa[o, 1:] in the order of use; table[k, o] = bias[o] + sum_u sees[k, u] sum_c kappa[o, 0, c, u]."""
    # Which output channel, and which BLOCK_C channels of its weights? The part before them is the table's.
    parts = tl.cdiv(channels, BLOCK_C) + FIRST
    o, part = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(0) % parts - FIRST
    # The taps.
    taps = tl.arange(0, TAPS)
    u_h, u_w = taps // KERNEL_W, taps % KERNEL_W
    there = taps < KERNEL_H * KERNEL_W
    offs_u = u_h * stride_kh + u_w * stride_kw
    if part >= 0:
        # Where the products of the first degrees with the taps begin: by column, then by phase, then by row.
        ATOMS: tl.constexpr = (DEGREES + GROUP - 1) // GROUP
        phase = u_h % PHASES
        rows = (KERNEL_H - phase + PHASES - 1) // PHASES
        before = phase * (KERNEL_H // PHASES) + tl.minimum(phase, KERNEL_H % PHASES)
        begin = (part * KERNEL_W + u_w) * (ATOMS * KERNEL_H) + before * ATOMS + u_h // PHASES
        lanes = tl.arange(0, BLOCK_C)
        offs_c = part * BLOCK_C + lanes
        mask = there[None, :] & (offs_c < channels)[:, None]
        k = kappa_ptr + o * stride_ko + (offs_c[:, None] * stride_kc + offs_u[None, :])
        w = w_ptr + o * stride_wo + lanes[:, None]
        for degree in tl.static_range(ATOMS * GROUP):
            value = tl.load(k + degree * stride_kd, mask=mask & (degree < DEGREES), other=0)
            column = (begin + degree // GROUP * rows) * (BLOCK_C * GROUP) + degree % GROUP * BLOCK_C
            tl.store(w + column[None, :], value, mask=there[None, :])
    else:
        # Degree 0: the sum over channels for each tap.
        every_c = tl.arange(0, WIDE_C)
        k_0 = first_ptr + o * stride_ko + (every_c[:, None] * stride_kc + offs_u[None, :])
        acc = tl.zeros((WIDE_C, TAPS), tl.float32)
        for c in range(0, channels, WIDE_C):
            some = there[None, :] & (every_c < channels - c)[:, None]
            acc += tl.load(k_0 + c * stride_kc, mask=some, other=0).to(tl.float32)
        total = tl.sum(acc, 0)
        bias = 0.0
        if BIAS:
            bias = tl.load(bias_ptr + o).to(tl.float32)
        # Then over the taps that an output of each kind sees.
        for begin_k in range(0, kinds, BLOCK_K):
            kind = begin_k + tl.arange(0, BLOCK_K)
            kind_h, kind_w = kind // kinds_w, kind % kinds_w
            y_h = tl.where(kind_h <= first_h, kind_h, last_h + kind_h - first_h)
            y_w = tl.where(kind_w <= first_w, kind_w, last_w + kind_w - first_w)
            seen = tl.zeros((BLOCK_K, TAPS), tl.float32) + total[None, :]
            if MASKED:
                at_h = (y_h * stride_h - padding_h)[:, None] + (u_h * dilation_h)[None, :]
                at_w = (y_w * stride_w - padding_w)[:, None] + (u_w * dilation_w)[None, :]
                seen = tl.where((at_h >= 0) & (at_h < in_h) & (at_w >= 0) & (at_w < in_w), seen, 0.0)
            tl.store(table_ptr + kind * stride_tk + o, tl.sum(seen, 1) + bias, mask=kind < kinds)


@lru_cache(1024)
def ends_of(layer: ConvGeometry, axis: int | None, masked: bool = True) -> Ends:
    """The ends of an axis; without one, or where padding contributes as samples do, all outputs are of one kind.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> ends_of(conv_geometry((1, 1, 9), (1, 1, 5), axes=1, padding=2), 0)
    Ends(first=2, last=6, kinds=5)
    >>> ends_of(conv_geometry((1, 1, 3), (1, 1, 5), axes=1, padding=2), 0)  # no output sees all taps
    Ends(first=3, last=3, kinds=3)
    """
    if axis is None or not masked:
        return Ends(0, 1 if axis is None else layer.output_size[axis], 1)
    outputs, stride = layer.output_size[axis], layer.stride[axis]
    before, reach = layer.padding[axis][0], layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    first, last = cdiv(before, stride), min((layer.input_size[axis] - 1 - reach + before) // stride, outputs - 1)
    return each_its_own(outputs) if first > last else Ends(first, last, first + outputs - last)


def each_its_own(outputs: int) -> Ends:
    """Ends that leave nothing between: each output is of a kind of its own."""
    return Ends(outputs, outputs, outputs)


def warps_of(block_taps: int) -> int:
    """How many warps a program has: more where a tile of weights would fill the registers of four."""
    return 4 if block_taps <= 32 else 8


def prepared(
    kappa: torch.Tensor, layer: ConvGeometry, walk: Walk, *,
    first: torch.Tensor | None = None, bias: torch.Tensor | None = None, masked: bool = True, width: int = CHANNELS,
) -> tuple[torch.Tensor, Added | None]:  # fmt: skip
    """The weights of degrees from 1 on, ``(C_out, tiles * 64)``, and what degree 0, ``first``, and the bias add.

    Both sets of coefficients are parts of one tensor. Without ``first`` nothing is added. The 64 columns of a tile are
    ``width`` channels of as many degrees as there is room for; those after the last are zero.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> kappa = torch.tensor([[[[1.0, 2.0, 4.0]], [[3.0, 5.0, 7.0]]]])
    >>> layer = conv_geometry((1, 1, 9), (1, 1, 3), axes=1, padding=1)
    >>> with runtime.interpreted():
    ...     w, added = prepared(kappa[:, 1:], layer, Walk(0, None, 1, 1, 2, 1), first=kappa[:, :1])
    >>> w.shape, w[0, ::64], added.table.flatten(), added.rows
    (torch.Size([1, 192]), tensor([3., 5., 7.]), tensor([6., 7., 3.]), Ends(first=1, last=7, kinds=3))
    """
    outputs, degrees, channels, *kernel = kappa.shape
    rows, columns = ends_of(layer, walk.rows, masked), ends_of(layer, walk.columns, masked)
    parts = cdiv(channels, width) * math.prod(kernel) * cdiv(degrees, CHANNELS // width)
    weight, table = kappa.new_empty((outputs, parts * CHANNELS)), None
    if first is not None:
        table = kappa.new_empty((rows.kinds, columns.kinds, outputs), dtype=torch.float32)
    with runtime.on_device_of(kappa):
        launch(prepare_kernel, _launched, (layer, walk, masked, width), weight, table, kappa, first, bias)
    return weight, None if table is None else Added(table, rows, columns)


def _launched(
    layer: ConvGeometry, walk: Walk, masked: bool, width: int, weight: torch.Tensor, table: torch.Tensor | None,
    kappa: torch.Tensor, first: torch.Tensor | None, bias: torch.Tensor | None,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    outputs, degrees, channels, *kernel = kappa.shape
    rows, columns = ends_of(layer, walk.rows, masked), ends_of(layer, walk.columns, masked)
    block_taps, kinds = power_of_2(math.prod(kernel)), rows.kinds * columns.kinds

    def both(values: Sequence[int], otherwise: int) -> tuple[int, int]:
        return values[walk.rows], otherwise if walk.columns is None else values[walk.columns]

    steps = kappa.stride()
    kernel_h, kernel_w = both(kernel, 1)
    (in_h, in_w), (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w) = (
        both(*pair) for pair in ((layer.input_size, 1), (layer.stride, 1), (layer.before, 0), (layer.dilation, 1))
    )
    stride_kh, stride_kw = both(steps[3:], 0)
    return (outputs * (cdiv(channels, width) + (first is not None)),), {
        "w_ptr": weight, "table_ptr": weight if table is None else table, "kappa_ptr": kappa,
        "first_ptr": kappa if first is None else first, "bias_ptr": kappa if bias is None else bias,
        "channels": channels, "in_h": in_h, "in_w": in_w, "stride_h": stride_h, "stride_w": stride_w,
        "padding_h": padding_h, "padding_w": padding_w, "dilation_h": dilation_h, "dilation_w": dilation_w,
        "first_h": rows.first, "last_h": rows.last, "first_w": columns.first, "last_w": columns.last,
        "kinds_w": columns.kinds, "kinds": kinds, "stride_wo": weight.shape[1], "stride_tk": outputs,
        "stride_ko": steps[0], "stride_kd": steps[1], "stride_kc": steps[2],
        "stride_kh": stride_kh, "stride_kw": stride_kw,
        "KERNEL_H": kernel_h, "KERNEL_W": kernel_w, "PHASES": walk.phases, "DEGREES": degrees,
        "FIRST": int(first is not None), "BIAS": bias is not None, "MASKED": masked,
        "TAPS": block_taps, "BLOCK_C": width, "GROUP": CHANNELS // width,
        "WIDE_C": min(power_of_2(channels), TILE // block_taps, 256), "num_warps": warps_of(block_taps),
        "BLOCK_K": min(power_of_2(kinds), TILE // block_taps, 64),
    }  # fmt: skip
