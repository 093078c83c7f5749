"""The Triton kernels of both poolings and their launchers, and the one that looks up what a max pooling chose.

Each serves one to three axes: axes that are missing have one sample and one tap. A program finds the coordinates of its
pixels once and then runs over taps, whose places move by additions; so a tap costs an element a load and few other
instructions. What is sent back to samples is in ``konvlib.images.pooling_scatter``.
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
    strides,
    tile_of_rows,
    vector_of,
)
from konvlib.runtime import tl


@runtime.jit(do_not_specialize=SIZES)
def max_pool_kernel(
    x_ptr, y_ptr, taps_ptr,
    # Vectors of (N, C) and of channels, pixels of an output, and the windows.
    rows, channels, pixels,
    in_d, in_h, in_w, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w,
    # Steps in memory, in vectors; y and taps lie alike, their pixels one after the other.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_yn, stride_yc, stride_yp,
    # The taps of a window, how many axes there are, the dtype of comparisons, the tile.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """y[n, c, i] = max_u x[n, c, s i + d u - p], the last NaN if there is one, and the first tap u that shows it."""
    # Which rows and which pixels are this program's?
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    # Where the window of each pixel begins in the input: negative in the padding.
    start_w = (offs_n % out_w if AXES > 1 else offs_n) * stride_w - padding_w
    if AXES > 1:
        start_h = (offs_n // out_w % out_h if AXES > 2 else offs_n // out_w) * stride_h - padding_h
    if AXES > 2:
        start_d = offs_n // out_w // out_h * stride_d - padding_d
    # The first tap that shows a sample is the answer where nothing is larger than minus infinity.
    first = tl.cdiv(tl.maximum(-start_w, 0), dilation_w)
    if AXES > 1:
        first += tl.cdiv(tl.maximum(-start_h, 0), dilation_h) * KERNEL_W
    if AXES > 2:
        first += tl.cdiv(tl.maximum(-start_d, 0), dilation_d) * (KERNEL_H * KERNEL_W)
    tap = tl.broadcast_to(first.to(tl.int32), (BLOCK_M, BLOCK_N))
    value = tl.full((BLOCK_M, BLOCK_N), float("-inf"), ACC_DTYPE)
    # Tap by tap, its sample if that is larger; padding is minus infinity.
    x_ptr += image * stride_xn * VECTOR + c * stride_xc
    for u_d in range(KERNEL_D):
        mask_d, x_d = mask, 0
        if AXES > 2:
            j_d = start_d + u_d * dilation_d
            mask_d, x_d = mask & (j_d >= 0) & (j_d < in_d), j_d * stride_xd
        for u_h in range(KERNEL_H):
            mask_h, x_h = mask_d, x_d
            if AXES > 1:
                j_h = start_h + u_h * dilation_h
                mask_h, x_h = mask_d & (j_h >= 0) & (j_h < in_h), x_d + j_h * stride_xh
            for u_w in range(KERNEL_W):
                j_w = start_w + u_w * dilation_w
                mask_w = mask_h & (j_w >= 0) & (j_w < in_w)
                x = tl.load(x_ptr + (x_h + j_w * stride_xw) * VECTOR, mask=mask_w, other=float("-inf")).to(ACC_DTYPE)
                better = (x > value) | (x != x)
                value = tl.where(better, x, value)
                tap = tl.where(better, (u_d * KERNEL_H + u_h) * KERNEL_W + u_w, tap)
    y = image * stride_yn * VECTOR + c * stride_yc + offs_n * stride_yp * VECTOR
    tl.store(taps_ptr + y, tap, mask=mask)
    tl.store(y_ptr + y, value.to(y_ptr.dtype.element_ty), mask=mask)


@runtime.jit(do_not_specialize=SIZES)
def avg_pool_kernel(
    x_ptr, y_ptr,
    # Vectors of (N, C) and of channels, pixels, windows, and between which places those lie that count in a mean.
    rows, channels, pixels,
    in_d, in_h, in_w, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w,
    low_d, low_h, low_w, high_d, high_h, high_w,
    # Steps in memory, in vectors; the pixels of y lie one after the other.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_yn, stride_yc, stride_yp,
    # The taps of a window, how many axes there are, the dtype of sums, the tile.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """y[n, c, i] = sum_u x[n, c, s i + d u - p] / count[i], with the count of places of the window that count."""
    # Which rows and which pixels are this program's?
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    # Where the window of each pixel begins in the input: negative in the padding; and how much of it counts.
    start_w = (offs_n % out_w if AXES > 1 else offs_n) * stride_w - padding_w
    count = tl.minimum(start_w + KERNEL_W, high_w) - tl.maximum(start_w, low_w)
    if AXES > 1:
        start_h = (offs_n // out_w % out_h if AXES > 2 else offs_n // out_w) * stride_h - padding_h
        count *= tl.minimum(start_h + KERNEL_H, high_h) - tl.maximum(start_h, low_h)
    if AXES > 2:
        start_d = offs_n // out_w // out_h * stride_d - padding_d
        count *= tl.minimum(start_d + KERNEL_D, high_d) - tl.maximum(start_d, low_d)
    # The sum, tap by tap; padding adds zero.
    x_ptr += image * stride_xn * VECTOR + c * stride_xc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for u_d in range(KERNEL_D):
        mask_d, x_d = mask, 0
        if AXES > 2:
            j_d = start_d + u_d * dilation_d
            mask_d, x_d = mask & (j_d >= 0) & (j_d < in_d), j_d * stride_xd
        for u_h in range(KERNEL_H):
            mask_h, x_h = mask_d, x_d
            if AXES > 1:
                j_h = start_h + u_h * dilation_h
                mask_h, x_h = mask_d & (j_h >= 0) & (j_h < in_h), x_d + j_h * stride_xh
            for u_w in range(KERNEL_W):
                j_w = start_w + u_w * dilation_w
                mask_w = mask_h & (j_w >= 0) & (j_w < in_w)
                acc += tl.load(x_ptr + (x_h + j_w * stride_xw) * VECTOR, mask=mask_w, other=0).to(ACC_DTYPE)
    y = y_ptr + (image * stride_yn * VECTOR + c * stride_yc + offs_n * stride_yp * VECTOR)
    tl.store(y, mean_of(acc, count, ACC_DTYPE).to(y_ptr.dtype.element_ty), mask=mask)


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
    """Write into ``y`` the mean of each window of ``x``; if there are ``taps``, the largest sample, and its tap.

    Examples
    --------
    >>> y, taps = torch.empty(1, 1, 2), torch.empty(1, 1, 2, dtype=torch.int32)
    >>> with runtime.interpreted():
    ...     pool(y, taps, torch.tensor([[[1.0, 3, 2]]]), [2], [1], [0, 0], [1])
    >>> y, taps
    (tensor([[[3., 3.]]]), tensor([[[1, 0]]], dtype=torch.int32))
    """
    counts = counts_padding if taps is None else None
    key = tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), counts
    if taps is None:
        launch(avg_pool_kernel, _given, key, y, x, size=1024)
    else:
        launch(max_pool_kernel, _given, key, y, x, taps, size=1024)


def _given(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], counts: bool | None,
    y: torch.Tensor, x: torch.Tensor, taps: torch.Tensor | None = None,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """As `launch` asks it."""
    vector = vector_of(x, y)
    given: dict[str, Any] = {"x_ptr": x, "y_ptr": y, "ACC_DTYPE": runtime.sum_type(y)}
    given |= {**strides("x", x, vector), **dense_strides("y", y, vector)}
    windows = x.shape[2:], y.shape[2:], kernel, stride, padding, dilation
    given |= of_windows(*windows, without="out_d", counts_padding=counts)
    return vector, given if taps is None else given | {"taps_ptr": taps}
