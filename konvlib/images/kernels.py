"""The Triton kernels of poolings and their launchers: for both poolings, for their gradients, and to gather.

Each serves one to three axes: axes that are missing have one sample and one tap. A program computes a tile of outputs,
rows of ``(N, C)`` by pixels. It finds the coordinates of its pixels once and then runs over taps, whose places move by
additions; so a tap costs an element a load and few other instructions.

The gradients are sums over the windows that show a sample, each input for itself, without atomics: the same bits in
every run. With :math:`g = \\gcd(s, d)`, sample :math:`j` is shown by tap :math:`u_0 + (s / g) v` of window
:math:`i_0 - (d / g) v`, where :math:`d u_0 \\equiv j + p` modulo :math:`s`; by none if :math:`g` does not divide
:math:`j + p`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Any

import torch

from konvlib import tiles
from konvlib.layers.memory import AXES, is_channels_last, is_wide, strides, three
from konvlib.tiles import tl

PER_AXIS = ("size", "windows", "step", "before", "gap", "low", "high", "common", "inverse")
"""What kernels are told of each axis: ``low`` and ``high`` bound the places that count in a mean, ``common`` is the
greatest common divisor of ``step`` and ``gap``, and ``inverse`` that of ``gap / common`` modulo ``step / common``."""

PLACES = ("batch", "channel", "0", "1", "2")
"""What the strides of a tensor are called, after its name."""

SIZES = (
    *(f"{name}{axis}" for name in PER_AXIS for axis in range(AXES)),
    *(f"{name}_{place}" for name in ("x", "taps", "y") for place in ("batch", "0", "1")),
    *("rows", "x_tap"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""


@tiles.jit(do_not_specialize=SIZES)
def _pool_kernel(
    y, taps, x, x_batch, x_channel, x_0, x_1, x_2, y_batch, y_channel, y_pixel, rows, channels, pixels,
    windows1, windows2, size0, size1, size2, step0, step1, step2, before0, before1, before2, gap0, gap1, gap2,
    low0, low1, low2, high0, high1, high2, KERNEL0: tl.constexpr, KERNEL1: tl.constexpr, KERNEL2: tl.constexpr,
    AXES: tl.constexpr, MEAN: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """The mean of each window, or its largest sample and that one's tap; padding is minus infinity, or adds zero."""
    block, blocks = tl.program_id(0), tl.cdiv(pixels, PIXELS)
    row = (block // blocks * ROWS + tl.arange(0, ROWS))[:, None]
    batch, c = (row // channels).to(tl.int64), (row % channels).to(tl.int64)
    pixel = ((block % blocks).to(tl.int64 if WIDE else tl.int32) * PIXELS + tl.arange(0, PIXELS))[None, :]
    stored = (row < rows) & (pixel < pixels)
    start2 = (pixel % windows2 if AXES > 1 else pixel) * step2 - before2
    count = tl.minimum(start2 + KERNEL2, high2) - tl.maximum(start2, low2)
    first = tl.cdiv(tl.maximum(-start2, 0), gap2)
    if AXES > 1:
        start1 = (pixel // windows2 % windows1 if AXES > 2 else pixel // windows2) * step1 - before1
        count *= tl.minimum(start1 + KERNEL1, high1) - tl.maximum(start1, low1)
        first += tl.cdiv(tl.maximum(-start1, 0), gap1) * KERNEL2
    if AXES > 2:
        start0 = pixel // (windows1 * windows2) * step0 - before0
        count *= tl.minimum(start0 + KERNEL0, high0) - tl.maximum(start0, low0)
        first += tl.cdiv(tl.maximum(-start0, 0), gap0) * (KERNEL1 * KERNEL2)
    x += batch * x_batch + c * x_channel
    out = batch * y_batch + c * y_channel + pixel * y_pixel
    value = tl.full((ROWS, PIXELS), 0 if MEAN else float("-inf"), SUM)
    # Where nothing is larger than minus infinity, the first tap that shows a sample is the answer.
    tap = tl.broadcast_to(first.to(tl.int32), (ROWS, PIXELS))
    for u0 in range(KERNEL0):
        keep0, line0 = stored, 0
        if AXES > 2:
            at0 = start0 + u0 * gap0
            keep0, line0 = stored & (at0 >= 0) & (at0 < size0), at0 * x_0
        for u1 in range(KERNEL1):
            keep1, line1 = keep0, line0
            if AXES > 1:
                at1 = start1 + u1 * gap1
                keep1, line1 = keep0 & (at1 >= 0) & (at1 < size1), line0 + at1 * x_1
            for u2 in range(KERNEL2):
                at2 = start2 + u2 * gap2
                keep = keep1 & (at2 >= 0) & (at2 < size2)
                sample = tl.load(x + (line1 + at2 * x_2), mask=keep, other=0 if MEAN else float("-inf")).to(SUM)
                if MEAN:
                    value += sample
                else:
                    better = (sample > value) | (sample != sample)
                    value = tl.where(better, sample, value)
                    tap = tl.where(better, (u0 * KERNEL1 + u1) * KERNEL2 + u2, tap)
    if MEAN:
        count = tl.maximum(count, 1).to(SUM)
        value = tl.div_rn(value, count) if value.dtype == tl.float32 else value / count
    else:
        tl.store(taps + out, tap, mask=stored)
    tl.store(y + out, value.to(y.dtype.element_ty), mask=stored)


@tiles.jit()
def _showing(place, step, gap, common, inverse):
    """What shows a sample at ``place``, padding counted: the first tap of all, its window, and whether any does."""
    unit = step // common
    tap = place // common % unit * inverse % unit
    return tap, (place - gap * tap) // step, place % common == 0


@tiles.jit(do_not_specialize=SIZES)
def _scatter_kernel(
    y, x, x_batch, x_channel, x_tap, x_0, x_1, x_2, taps, taps_batch, taps_channel, taps_0, taps_1, taps_2,
    y_batch, y_channel, y_pixel, rows, channels, pixels, size1, size2, windows0, windows1, windows2,
    step0, step1, step2, before0, before1, before2, gap0, gap1, gap2, low0, low1, low2, high0, high1, high2,
    common0, common1, common2, inverse0, inverse1, inverse2, KERNEL0: tl.constexpr, KERNEL1: tl.constexpr,
    KERNEL2: tl.constexpr, TURNS0: tl.constexpr, TURNS1: tl.constexpr, TURNS2: tl.constexpr, AXES: tl.constexpr,
    CHOSEN: tl.constexpr, MEAN: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Each sample's sum over the windows that show it: ``CHOSEN``, of those whose ``taps`` name it; ``MEAN``, of an
    equal share of each; else of what ``x``, which are columns, holds for the tap, ``x_tap`` from tap to tap.
    """
    block, blocks = tl.program_id(0), tl.cdiv(pixels, PIXELS)
    row = (block // blocks * ROWS + tl.arange(0, ROWS))[:, None]
    batch, c = (row // channels).to(tl.int64), (row % channels).to(tl.int64)
    pixel = ((block % blocks).to(tl.int64 if WIDE else tl.int32) * PIXELS + tl.arange(0, PIXELS))[None, :]
    stored = (row < rows) & (pixel < pixels)
    fits = stored
    if AXES > 2:
        first0, last0, fits0 = _showing(pixel // (size1 * size2) + before0, step0, gap0, common0, inverse0)
        fits &= fits0
    if AXES > 1:
        place1 = pixel // size2 % size1 if AXES > 2 else pixel // size2
        first1, last1, fits1 = _showing(place1 + before1, step1, gap1, common1, inverse1)
        fits &= fits1
    place2 = pixel % size2 if AXES > 1 else pixel
    first2, last2, fits2 = _showing(place2 + before2, step2, gap2, common2, inverse2)
    fits &= fits2
    x += batch * x_batch + c * x_channel
    taps += batch * taps_batch + c * taps_channel
    total = tl.zeros((ROWS, PIXELS), SUM)
    for v0 in range(TURNS0):
        keep0, tap0, count0, line0, choice0 = fits, 0, 1, 0, 0
        if AXES > 2:
            u0, i0 = first0 + step0 // common0 * v0, last0 - gap0 // common0 * v0
            keep0 = fits & (u0 < KERNEL0) & (i0 >= 0) & (i0 < windows0)
            tap0, line0, choice0 = u0 * (KERNEL1 * KERNEL2), i0 * x_0, i0 * taps_0
            count0 = tl.minimum(i0 * step0 - before0 + KERNEL0, high0) - tl.maximum(i0 * step0 - before0, low0)
        for v1 in range(TURNS1):
            keep1, tap1, count1, line1, choice1 = keep0, tap0, count0, line0, choice0
            if AXES > 1:
                u1, i1 = first1 + step1 // common1 * v1, last1 - gap1 // common1 * v1
                keep1 = keep0 & (u1 < KERNEL1) & (i1 >= 0) & (i1 < windows1)
                tap1, line1, choice1 = tap0 + u1 * KERNEL2, line0 + i1 * x_1, choice0 + i1 * taps_1
                start1 = i1 * step1 - before1
                count1 = (tl.minimum(start1 + KERNEL1, high1) - tl.maximum(start1, low1)) * count0
            for v2 in range(TURNS2):
                u2, i2 = first2 + step2 // common2 * v2, last2 - gap2 // common2 * v2
                keep = keep1 & (u2 < KERNEL2) & (i2 >= 0) & (i2 < windows2)
                line = line1 + i2 * x_2
                if CHOSEN:
                    chosen = tl.load(taps + (choice1 + i2 * taps_2), mask=keep, other=-1)
                    keep = keep & (chosen == tap1 + u2)
                elif not MEAN:
                    line += (tap1 + u2) * x_tap
                share = tl.load(x + line, mask=keep, other=0).to(SUM)
                if MEAN:
                    start2 = i2 * step2 - before2
                    count = (tl.minimum(start2 + KERNEL2, high2) - tl.maximum(start2, low2)) * count1
                    count = tl.maximum(count, 1).to(SUM)
                    share = tl.div_rn(share, count) if share.dtype == tl.float32 else share / count
                total += share
    tl.store(y + (batch * y_batch + c * y_channel + pixel * y_pixel), total.to(y.dtype.element_ty), mask=stored)


@tiles.jit(do_not_specialize=SIZES)
def _gather_kernel(
    y, x, x_batch, x_channel, x_0, x_1, x_2, taps, taps_batch, taps_channel, taps_0, taps_1, taps_2, y_batch, y_channel,
    y_pixel, rows, channels, pixels, windows1, windows2, size0, size1, size2, step0, step1, step2,
    before0, before1, before2, gap0, gap1, gap2, KERNEL1: tl.constexpr, KERNEL2: tl.constexpr, ROWS: tl.constexpr,
    PIXELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The sample that each window's tap shows."""
    block, blocks = tl.program_id(0), tl.cdiv(pixels, PIXELS)
    row = (block // blocks * ROWS + tl.arange(0, ROWS))[:, None]
    batch, c = (row // channels).to(tl.int64), (row % channels).to(tl.int64)
    pixel = ((block % blocks).to(tl.int64 if WIDE else tl.int32) * PIXELS + tl.arange(0, PIXELS))[None, :]
    stored = (row < rows) & (pixel < pixels)
    i0, i1, i2 = pixel // (windows1 * windows2), pixel // windows2 % windows1, pixel % windows2
    taps += batch * taps_batch + c * taps_channel
    tap = tl.load(taps + (i0 * taps_0 + i1 * taps_1 + i2 * taps_2), mask=stored, other=0)
    at0 = i0 * step0 - before0 + tap // (KERNEL1 * KERNEL2) * gap0
    at1 = i1 * step1 - before1 + tap // KERNEL2 % KERNEL1 * gap1
    at2 = i2 * step2 - before2 + tap % KERNEL2 * gap2
    x += batch * x_batch + c * x_channel
    keep = stored & (at0 >= 0) & (at0 < size0) & (at1 >= 0) & (at1 < size1) & (at2 >= 0) & (at2 < size2)
    value = tl.load(x + (at0 * x_0 + at1 * x_1 + at2 * x_2), mask=keep, other=0)
    tl.store(y + (batch * y_batch + c * y_channel + pixel * y_pixel), value, mask=stored)


def tile_of(like: torch.Tensor, rows: int, pixels: int, size: int) -> tuple[int, int]:
    """Return ``ROWS`` and ``PIXELS``, about ``size`` together, longer along what lies together in ``like``."""
    if is_channels_last(like):
        together = min(tiles.power_of_2(like.shape[1]), 64)
        return together, min(tiles.power_of_2(pixels), size // together)
    together = min(tiles.power_of_2(pixels), size)
    return min(tiles.power_of_2(rows), size // together), together


def axis_arguments(
    size: Sequence[int],
    windows: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    counts_padding: bool = True,
) -> dict[str, int]:
    """Return the `PER_AXIS` arguments of the kernels, for three axes.

    ``padding`` is flat: before and after, axis by axis.
    """
    size, windows = three(size, 1), three(windows, 1)
    step, gap = three(stride, 1), three(dilation, 1)
    before, after = three(padding[::2], 0), three(padding[1::2], 0)
    common = [gcd(s, d) for s, d in zip(step, gap, strict=True)]
    values = {
        "size": size,
        "windows": windows,
        "step": step,
        "before": before,
        "gap": gap,
        "low": [-b if counts_padding else 0 for b in before],
        "high": [n + a if counts_padding else n for n, a in zip(size, after, strict=True)],
        "common": common,
        "inverse": [pow(d // g, -1, s // g) for s, d, g in zip(step, gap, common, strict=True)],
    }
    return {f"{name}{axis}": value[axis] for name, value in values.items() for axis in range(AXES)}


def pool(
    y: torch.Tensor,
    taps: torch.Tensor | None,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    counts_padding: bool = True,
) -> None:
    """Write into ``y`` the mean of each window of ``x``; if there are ``taps``, the largest sample, and its tap."""
    each = axis_arguments(x.shape[2:], y.shape[2:], stride, padding, dilation, counts_padding=counts_padding)
    given = {"y": y, "taps": y if taps is None else taps, "x": x} | _strides("x", x) | each
    _launch(_pool_kernel, y, x, kernel, given | {"MEAN": taps is None})


def scatter(
    dx: torch.Tensor,
    dy: torch.Tensor,
    taps: torch.Tensor | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    mean: bool = False,
    counts_padding: bool = True,
) -> None:
    """Write into ``dx`` what each sample receives of ``dy``: where ``taps`` chose it, as part of a ``mean``, or all.

    In the last case ``dy`` holds columns, ``(N, C, prod(kernel), *windows)``.
    """
    columns = taps is None and not mean
    windows = dy.shape[3 if columns else 2 :]
    given = axis_arguments(dx.shape[2:], windows, stride, padding, dilation, counts_padding=counts_padding)
    turns = three([-(-k * gcd(s, d) // s) for k, s, d in zip(kernel, stride, dilation, strict=True)], 1)
    given |= {f"TURNS{axis}": turns[axis] for axis in range(AXES)}
    given |= {"y": dx, "x": dy, "taps": dx if taps is None else taps, "x_tap": dy.stride(2) if columns else 0}
    given |= _strides("x", dy[:, :, 0] if columns else dy) | _strides("taps", dx if taps is None else taps)
    _launch(_scatter_kernel, dx, dy, kernel, given | {"CHOSEN": taps is not None, "MEAN": mean}, size=512)


def gather(
    y: torch.Tensor,
    x: torch.Tensor,
    taps: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """Write into ``y`` the sample of ``x`` that each window's tap shows."""
    each = axis_arguments(x.shape[2:], y.shape[2:], stride, padding, dilation)
    given = {"y": y, "x": x, "taps": taps} | _strides("x", x) | _strides("taps", taps) | each
    _launch(_gather_kernel, y, x, kernel, given)


def _strides(name: str, tensor: torch.Tensor) -> dict[str, int]:
    return {f"{name}_{place}": stride for place, stride in zip(PLACES, strides(tensor), strict=True)}


def _launch(
    kernel: Any,
    out: torch.Tensor,
    source: torch.Tensor,
    taps: Sequence[int],
    given: dict[str, Any],
    *,
    size: int = 1024,
) -> None:
    """Launch a kernel that writes ``out``, dense, with those of the arguments that it has, in tiles of ``size``."""
    if not out.numel():
        return
    batch, channels, *spatial = out.shape
    rows, pixels = batch * channels, prod(spatial)
    rows_tile, pixels_tile = tile_of(out, rows, pixels, size // (1 + (out.dtype == torch.float64)))
    steps = (1, channels) if is_channels_last(out) else (pixels, 1)
    given |= {"y_batch": channels * pixels} | dict(zip(("y_channel", "y_pixel"), steps, strict=True))
    given |= {f"KERNEL{axis}": count for axis, count in enumerate(three(taps, 1))}
    given |= {"rows": rows, "channels": channels, "pixels": pixels, "ROWS": rows_tile, "PIXELS": pixels_tile}
    given |= {"AXES": len(spatial), "SUM": tiles.sum_type(out), "WIDE": is_wide(out, source)}
    with tiles.on_device_of(out):
        kernel[(-(-rows // rows_tile) * -(-pixels // pixels_tile),)](
            **{name: value for name, value in given.items() if name in kernel.arg_names}
        )
