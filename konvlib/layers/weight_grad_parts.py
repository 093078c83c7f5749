"""The last step of a weight gradient whose sums were taken in parts: the parts, added in the same order each time.

And the first one, where there are more pixels than numbers of 32 bits: the layer in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry, halos
from konvlib.layers import memory
from konvlib.layers.bound import launch as launch_kept
from konvlib.runtime import cdiv, power_of_2, tl

MOST_SUMS = 2**24
"""How many partial sums are kept at most."""

AT_ONCE = 2048
"""How many partial sums a program reads at a time."""

MOST_PIXELS = 2**31 - 2**10
"""How many pixels the kernels can number in 32 bits, those after the last block included."""


@runtime.jit(do_not_specialize=("parts", "taps"))
def sum_parts_kernel(
    dw_ptr, sums_ptr, parts, weights, in_channels, taps, stride_wo, stride_wc, stride_wt,
    # Whether the gradient lies as the parts do, whether places need 64 bits, what a program adds.
    IN_LINE: tl.constexpr, INT64: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, ACC_DTYPE: tl.constexpr,
):  # fmt: skip
    """dw[o, c, u] = sum_part sums[part, o, u, c], PARTS of them at a time, of BLOCK weights."""
    # The weights of this program, in the order of the gradient in memory, and where the parts have them.
    pid = tl.program_id(0)
    if INT64:
        pid = pid.to(tl.int64)
    offs, part = pid * BLOCK + tl.arange(0, BLOCK), tl.arange(0, PARTS)
    mask, dw, sums = offs < weights, dw_ptr + offs, sums_ptr + ((part.to(tl.int64) * weights)[:, None] + offs[None, :])
    if not IN_LINE:
        u, rest = offs % taps, offs // taps
        c, o = rest % in_channels, rest // in_channels
        dw = dw_ptr + o * stride_wo + c * stride_wc + u * stride_wt
        sums = sums_ptr + ((o * taps + u) * in_channels + c)
    acc = tl.zeros((BLOCK,), ACC_DTYPE)
    for first in tl.range(0, parts, PARTS):
        if IN_LINE:
            each = tl.load(sums, mask=(part < parts - first)[:, None] & mask[None, :], other=0)
            acc += tl.sum(each.to(ACC_DTYPE), 0)
        else:
            for i in tl.static_range(PARTS):
                each = tl.load(sums + tl.cast(weights, tl.int64) * i, mask=mask & (first + i < parts), other=0)
                acc += each.to(ACC_DTYPE)
        sums += tl.cast(weights, tl.int64) * PARTS
    tl.store(dw, acc.to(dw_ptr.dtype.element_ty), mask=mask)


def add_parts(dw: torch.Tensor, sums: torch.Tensor, parts: int) -> None:
    """Write the sum over ``parts`` of ``(C_out, taps, C_in // groups)`` into ``dw``, on the current device.

    Examples
    --------
    >>> dw = torch.empty(1, 2, 2)
    >>> with runtime.interpreted():
    ...     add_parts(dw, torch.arange(8.0), 2)
    >>> dw
    tensor([[[ 4.,  8.],
             [ 6., 10.]]])
    """
    launch_kept(sum_parts_kernel, _launched, (parts,), dw, sums)


def _launched(parts: int, dw: torch.Tensor, sums: torch.Tensor) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments."""
    weights, (block, at_once) = dw.numel(), blocks(dw.numel(), parts)
    wide = memory.is_wide(dw) or weights >= 2**31 - AT_ONCE
    return (cdiv(weights, block),), {
        "dw_ptr": dw, "sums_ptr": sums, "parts": parts, "weights": weights, "in_channels": dw.shape[1],
        "taps": math.prod(dw.shape[2:]),
        "stride_wo": dw.stride(0), "stride_wc": dw.stride(1), "stride_wt": dw.stride(-1),
        "IN_LINE": lies_as_parts(dw), "INT64": wide, "BLOCK": block, "PARTS": at_once,
        "ACC_DTYPE": runtime.sum_type(dw),
    }  # fmt: skip


def lies_as_parts(dw: torch.Tensor) -> bool:
    """Whether a gradient is in memory by output channels, taps, input channels, without gaps.

    Examples
    --------
    >>> dw = torch.empty(4, 2, 3, 3)
    >>> lies_as_parts(dw), lies_as_parts(dw.to(memory_format=torch.channels_last))
    (False, True)
    """
    in_channels, taps = dw.shape[1], math.prod(dw.shape[2:])
    wanted = {0: taps * in_channels, 1: 1} | ({-1: in_channels} if taps > 1 else {})
    return all(dw.stride(axis) == step or dw.shape[axis] == 1 for axis, step in wanted.items())


def blocks(weights: int, parts: int) -> tuple[int, int]:
    """How many weights a program adds up, and how many parts at a time: few weights where there are few in all.

    Examples
    --------
    >>> blocks(64 * 64, 132), blocks(512 * 512 * 9, 2)
    ((32, 64), (1024, 2))
    """
    at_once = power_of_2(parts)
    block = max(32, min(power_of_2(weights // 512), AT_ONCE // min(at_once, 8)))
    return block, min(at_once, AT_ONCE // block)


def pieces(
    x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, most: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, ConvGeometry]]:
    """A layer, padded with zeros, in pieces of at most ``most`` pixels of the output: their weight gradients add up.

    A piece is some images, or of one image some outputs along its longest axis, with what they see of the input.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, layer = torch.tensor([[[4.0, 1, 3]]]), conv_geometry((1, 1, 3), (1, 1, 2), axes=1, padding=1)
    >>> for shown, _, piece in pieces(x, torch.ones(1, 1, 4), layer, 3):
    ...     print(shown, piece.padding, piece.output_size)
    tensor([[[4., 1., 3.]]]) ((1, 0),) (3,)
    tensor([[[3.]]]) ((0, 1),) (1,)
    """
    pixels = math.prod(layer.output_size)
    if pixels <= most:
        for some_x, some_dy in zip(x.split(most // pixels), dy.split(most // pixels), strict=True):
            yield some_x, some_dy, replace(layer, batch=some_x.shape[0])
        return
    axis, outputs = max(enumerate(layer.output_size), key=lambda each: each[1])
    count = most // (pixels // outputs)
    for image, start in [(image, start) for image in range(layer.batch) for start in range(0, outputs, count)]:
        stop = min(start + count, outputs)
        seen = halos.read_by(layer, axis, start, stop)
        first, last = seen.spans[0] if seen.spans else (0, 0)
        yield (
            x[image : image + 1].narrow(2 + axis, first, last - first),
            dy[image : image + 1].narrow(2 + axis, start, stop - start),
            replace(
                layer,
                batch=1,
                input_size=_with(layer.input_size, axis, last - first),
                padding=_with(layer.padding, axis, seen.zeros),
                output_size=_with(layer.output_size, axis, stop - start),
            ),
        )


def _with(values: tuple, place: int, value: object) -> tuple:
    return (*values[:place], value, *values[place + 1 :])
