"""The Triton kernel of im2col and its launcher; col2im is the scatter of `konvlib.images.kernels`.

A program writes the columns of some windows for some rows of ``(N, C)``, tap by tap. Where a window starts is found
once; per tap and per element remain a comparison per axis, an addition, a load, mostly from a cache, and a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from konvlib import tiles
from konvlib.images.kernels import PLACES, SIZES, axis_arguments, scatter, tile_of
from konvlib.layers.memory import AXES, is_wide, strides, three
from konvlib.tiles import tl


@tiles.jit(do_not_specialize=SIZES)
def _im2col_kernel(
    cols, x, x_batch, x_channel, x_0, x_1, x_2, rows, channels, pixels, windows1, windows2, size0, size1, size2,
    step0, step1, step2, before0, before1, before2, gap0, gap1, gap2, KERNEL0: tl.constexpr, KERNEL1: tl.constexpr,
    KERNEL2: tl.constexpr, AXES: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``cols[row, tap, pixel]``, where ``rows`` are those of ``(N, C)`` and ``pixels`` the windows."""
    block, blocks = tl.program_id(0), tl.cdiv(pixels, PIXELS)
    row = (block // blocks * ROWS + tl.arange(0, ROWS))[:, None]
    pixel = ((block % blocks).to(tl.int64 if WIDE else tl.int32) * PIXELS + tl.arange(0, PIXELS))[None, :]
    stored = (row < rows) & (pixel < pixels)
    start2 = (pixel % windows2 if AXES > 1 else pixel) * step2 - before2
    if AXES > 1:
        start1 = (pixel // windows2 % windows1 if AXES > 2 else pixel // windows2) * step1 - before1
    if AXES > 2:
        start0 = pixel // (windows1 * windows2) * step0 - before0
    x += (row // channels).to(tl.int64) * x_batch + (row % channels).to(tl.int64) * x_channel
    cols += row.to(tl.int64) * (KERNEL0 * KERNEL1 * KERNEL2) * pixels + pixel
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
                tl.store(cols, tl.load(x + (line1 + at2 * x_2), mask=keep, other=0), mask=stored)
                cols += pixels


def im2col(
    cols: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> None:
    """Write into ``cols``, dense, what each tap shows of ``x`` in each window."""
    if not cols.numel():
        return
    rows, pixels, axes = x.shape[0] * x.shape[1], prod(windows), x.dim() - 2
    rows_tile, pixels_tile = tile_of(x, rows, pixels, 512 if x.dtype == torch.float64 else 1024)
    given = {"cols": cols, "x": x, "rows": rows, "channels": x.shape[1], "pixels": pixels}
    given |= {f"x_{place}": step for place, step in zip(PLACES, strides(x), strict=True)}
    given |= axis_arguments(x.shape[2:], windows, stride, padding, dilation)
    given |= {f"KERNEL{axis}": count for axis, count in zip(range(AXES), three(kernel, 1), strict=True)}
    given |= {"AXES": axes, "ROWS": rows_tile, "PIXELS": pixels_tile, "WIDE": is_wide(x, cols)}
    with tiles.on_device_of(x):
        _im2col_kernel[(-(-rows // rows_tile) * -(-pixels // pixels_tile),)](
            **{name: value for name, value in given.items() if name in _im2col_kernel.arg_names}
        )


def col2im(
    x: torch.Tensor,
    cols: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> None:
    """Write into ``x``, dense, the sum of what the columns hold for each sample."""
    columns = cols.unflatten(2, tuple(windows)).unflatten(1, (x.shape[1], prod(kernel)))
    scatter(x, columns, None, kernel, stride, padding, dilation)
