"""The Triton kernels that send what the windows of a pooling received back to the samples, and their launcher.

Each sample is a sum over the windows that show it, found by itself, without atomics: the same bits in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from konvlib import runtime
from konvlib.images.launching import (
    SIZES,
    dense_strides,
    launch,
    mean_of,
    of_windows,
    shown_by,
    strides,
    tile_of_rows,
    vector_of,
)
from konvlib.runtime import tl


@runtime.jit(do_not_specialize=SIZES)
def max_pool_scatter_kernel(
    dy_ptr, taps_ptr, dx_ptr,
    # Vectors of (N, C) and of channels, pixels, windows, and per axis gcd(s, d) and what `shown_by` divides by.
    rows, channels, pixels,
    in_h, in_w, out_d, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w, gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    # Steps in memory, in vectors; the pixels of dx lie one after the other.
    stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw,
    stride_tapsn, stride_tapsc, stride_tapsd, stride_tapsh, stride_tapsw, stride_dxn, stride_dxc, stride_dxp,
    # How many windows show a sample, the taps of a window, how many axes there are, the dtype of sums, the tile.
    TURNS_D: tl.constexpr, TURNS_H: tl.constexpr, TURNS_W: tl.constexpr,
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = sum of dy[n, c, i] over the windows i whose tap, taps[n, c, i], shows j."""
    # Which rows and which pixels are this program's?
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    # The first tap that shows each pixel, along each axis, and to which window it does.
    mask_v = mask
    if AXES > 2:
        j_d = offs_n // in_w // in_h
        u_d, i_d, any_d = shown_by(j_d + padding_d, stride_d, dilation_d, gcd_d, inverse_d)
        mask_v &= any_d
    if AXES > 1:
        j_h = offs_n // in_w % in_h if AXES > 2 else offs_n // in_w
        u_h, i_h, any_h = shown_by(j_h + padding_h, stride_h, dilation_h, gcd_h, inverse_h)
        mask_v &= any_h
    j_w = offs_n % in_w if AXES > 1 else offs_n
    u_w, i_w, any_w = shown_by(j_w + padding_w, stride_w, dilation_w, gcd_w, inverse_w)
    mask_v &= any_w
    # Window by window, what it received if its tap is the one that shows the pixel.
    dy_ptr += image * stride_dyn * VECTOR + c * stride_dyc
    taps_ptr += image * stride_tapsn * VECTOR + c * stride_tapsc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for v_d in range(TURNS_D):
        mask_d, tap_d, dy_d, taps_d = mask_v, 0, 0, 0
        if AXES > 2:
            u, i = u_d + stride_d // gcd_d * v_d, i_d - dilation_d // gcd_d * v_d
            mask_d = mask_v & (u < KERNEL_D) & (i >= 0) & (i < out_d)
            tap_d, dy_d, taps_d = u * (KERNEL_H * KERNEL_W), i * stride_dyd, i * stride_tapsd
        for v_h in range(TURNS_H):
            mask_h, tap_h, dy_h, taps_h = mask_d, tap_d, dy_d, taps_d
            if AXES > 1:
                u, i = u_h + stride_h // gcd_h * v_h, i_h - dilation_h // gcd_h * v_h
                mask_h = mask_d & (u < KERNEL_H) & (i >= 0) & (i < out_h)
                tap_h, dy_h, taps_h = tap_d + u * KERNEL_W, dy_d + i * stride_dyh, taps_d + i * stride_tapsh
            for v_w in range(TURNS_W):
                u, i = u_w + stride_w // gcd_w * v_w, i_w - dilation_w // gcd_w * v_w
                mask_w = mask_h & (u < KERNEL_W) & (i >= 0) & (i < out_w)
                chosen = tl.load(taps_ptr + (taps_h + i * stride_tapsw) * VECTOR, mask=mask_w, other=-1)
                dy = tl.load(dy_ptr + (dy_h + i * stride_dyw) * VECTOR, mask=mask_w, other=0).to(ACC_DTYPE)
                acc += tl.where(chosen == tap_h + u, dy, 0.0)
    dx = dx_ptr + (image * stride_dxn * VECTOR + c * stride_dxc + offs_n * stride_dxp * VECTOR)
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask)


@runtime.jit(do_not_specialize=SIZES)
def avg_pool_scatter_kernel(
    dy_ptr, dx_ptr,
    # Vectors of (N, C) and of channels, pixels, windows, what `shown_by` needs, and which places count in a mean.
    rows, channels, pixels,
    in_h, in_w, out_d, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w, gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    low_d, low_h, low_w, high_d, high_h, high_w,
    # Steps in memory, in vectors; the pixels of dx lie one after the other.
    stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw, stride_dxn, stride_dxc, stride_dxp,
    # How many windows show a sample, the taps of a window, how many axes there are, the dtype of sums, the tile.
    TURNS_D: tl.constexpr, TURNS_H: tl.constexpr, TURNS_W: tl.constexpr,
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = sum of dy[n, c, i] / count[i] over the windows i that show j."""
    # Which rows and which pixels are this program's?
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    # The first tap that shows each pixel, along each axis, and to which window it does.
    mask_v = mask
    if AXES > 2:
        j_d = offs_n // in_w // in_h
        u_d, i_d, any_d = shown_by(j_d + padding_d, stride_d, dilation_d, gcd_d, inverse_d)
        mask_v &= any_d
    if AXES > 1:
        j_h = offs_n // in_w % in_h if AXES > 2 else offs_n // in_w
        u_h, i_h, any_h = shown_by(j_h + padding_h, stride_h, dilation_h, gcd_h, inverse_h)
        mask_v &= any_h
    j_w = offs_n % in_w if AXES > 1 else offs_n
    u_w, i_w, any_w = shown_by(j_w + padding_w, stride_w, dilation_w, gcd_w, inverse_w)
    mask_v &= any_w
    # Window by window, an equal share of what it received.
    dy_ptr += image * stride_dyn * VECTOR + c * stride_dyc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for v_d in range(TURNS_D):
        mask_d, count_d, dy_d = mask_v, 1, 0
        if AXES > 2:
            u, i = u_d + stride_d // gcd_d * v_d, i_d - dilation_d // gcd_d * v_d
            mask_d = mask_v & (u < KERNEL_D) & (i >= 0) & (i < out_d)
            start, dy_d = i * stride_d - padding_d, i * stride_dyd
            count_d = tl.minimum(start + KERNEL_D, high_d) - tl.maximum(start, low_d)
        for v_h in range(TURNS_H):
            mask_h, count_h, dy_h = mask_d, count_d, dy_d
            if AXES > 1:
                u, i = u_h + stride_h // gcd_h * v_h, i_h - dilation_h // gcd_h * v_h
                mask_h = mask_d & (u < KERNEL_H) & (i >= 0) & (i < out_h)
                start, dy_h = i * stride_h - padding_h, dy_d + i * stride_dyh
                count_h = (tl.minimum(start + KERNEL_H, high_h) - tl.maximum(start, low_h)) * count_d
            for v_w in range(TURNS_W):
                u, i = u_w + stride_w // gcd_w * v_w, i_w - dilation_w // gcd_w * v_w
                mask_w = mask_h & (u < KERNEL_W) & (i >= 0) & (i < out_w)
                start = i * stride_w - padding_w
                count = (tl.minimum(start + KERNEL_W, high_w) - tl.maximum(start, low_w)) * count_h
                dy = tl.load(dy_ptr + (dy_h + i * stride_dyw) * VECTOR, mask=mask_w, other=0).to(ACC_DTYPE)
                acc += mean_of(dy, count, ACC_DTYPE)
    dx = dx_ptr + (image * stride_dxn * VECTOR + c * stride_dxc + offs_n * stride_dxp * VECTOR)
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask)


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
    """Write into ``dx`` what each sample receives of ``dy``: where ``taps`` chose it, or as part of a ``mean``.

    Examples
    --------
    >>> dx, taps = torch.empty(1, 1, 3), torch.tensor([[[1, 0]]], dtype=torch.int32)
    >>> with runtime.interpreted():
    ...     scatter(dx, torch.tensor([[[5.0, 7]]]), taps, [2], [1], [0, 0], [1])
    >>> dx
    tensor([[[ 0., 12.,  0.]]])
    """
    key = tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), counts_padding if mean else None
    if mean:
        launch(avg_pool_scatter_kernel, _given, key, dx, dy)
    else:
        launch(max_pool_scatter_kernel, _given, key, dx, dy, taps)


def _given(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], counts: bool | None,
    dx: torch.Tensor, dy: torch.Tensor, *taps: torch.Tensor,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """As `launch` asks it."""
    vector = vector_of(dx, dy, *taps)
    given: dict[str, Any] = {"dy_ptr": dy, "dx_ptr": dx, "ACC_DTYPE": runtime.sum_type(dx)}
    given |= {**strides("dy", dy, vector), **dense_strides("dx", dx, vector)}
    windows = dx.shape[2:], dy.shape[2:], kernel, stride, padding, dilation
    given |= of_windows(*windows, without="in_d", sent=True, counts_padding=counts)
    for each in taps:
        given |= {"taps_ptr": each, **strides("taps", each, vector)}
    return vector, given
