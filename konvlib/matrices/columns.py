"""The Triton kernels of im2col and col2im, and their launchers.

A program of im2col writes the columns of some windows for some rows of ``(N, C)``, tap by tap. Where a window starts is
found once; per tap and per element remain a comparison per axis, an addition, a load, mostly from a cache, and a store.
A program of col2im adds up, for some samples of some rows, what the columns of the windows that show them hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from konvlib import runtime
from konvlib.images.launching import (
    SIZES,
    dense_strides,
    launch,
    of_windows,
    shown_by,
    strides,
    tile_of,
    tile_of_rows,
    vector_of,
)
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.memory import is_wide
from konvlib.runtime import cdiv, tl


@runtime.jit(do_not_specialize=SIZES)
def im2col_kernel(
    x_ptr, cols_ptr,
    # Vectors of (N, C) and of channels, pixels of an output, and the windows.
    rows, channels, pixels,
    in_d, in_h, in_w, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w,
    # Steps in memory, in vectors; cols is dense.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw,
    # The taps of a window, how many axes there are, the tile.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """cols[n, c, u, i] = x[n, c, s i + d u - p], zero in the padding."""
    # Which rows and which pixels are this program's?
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    # Where the window of each pixel begins in the input: negative in the padding.
    start_w = (offs_n % out_w if AXES > 1 else offs_n) * stride_w - padding_w
    if AXES > 1:
        start_h = (offs_n // out_w % out_h if AXES > 2 else offs_n // out_w) * stride_h - padding_h
    if AXES > 2:
        start_d = offs_n // out_w // out_h * stride_d - padding_d
    # Tap by tap, what it shows; from tap to tap the columns lie one output apart.
    x_ptr += image * stride_xn * VECTOR + c * stride_xc
    cols_ptr += (image * (channels * VECTOR) + c) * (KERNEL_D * KERNEL_H * KERNEL_W) * pixels + offs_n
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
                tl.store(cols_ptr, tl.load(x_ptr + (x_h + j_w * stride_xw) * VECTOR, mask=mask_w, other=0), mask=mask)
                cols_ptr += pixels


@runtime.jit(do_not_specialize=SIZES)
def col2im_kernel(
    cols_ptr, x_ptr,
    # Vectors of (N, C) and of channels, pixels, windows, and per axis gcd(s, d) and what `shown_by` divides by.
    rows, channels, pixels,
    in_h, in_w, out_d, out_h, out_w, stride_d, stride_h, stride_w, padding_d, padding_h, padding_w,
    dilation_d, dilation_h, dilation_w, gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    # Steps in memory, of the columns also from tap to tap; the pixels of x lie one after the other.
    stride_colsn, stride_colsc, stride_colst, stride_colsd, stride_colsh, stride_colsw, stride_xn, stride_xc, stride_xp,
    # How many windows show a sample, the taps of a window, how many axes there are, the dtype of sums, the tile.
    TURNS_D: tl.constexpr, TURNS_H: tl.constexpr, TURNS_W: tl.constexpr,
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, AXES: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """x[n, c, j] = sum of cols[n, c, u, i] over the taps u and windows i with s i + d u - p = j."""
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
    # Window by window, what its columns hold for the tap that shows the pixel.
    cols_ptr += image * stride_colsn + c * stride_colsc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for v_d in range(TURNS_D):
        mask_d, tap_d, cols_d = mask_v, 0, 0
        if AXES > 2:
            u, i = u_d + stride_d // gcd_d * v_d, i_d - dilation_d // gcd_d * v_d
            mask_d = mask_v & (u < KERNEL_D) & (i >= 0) & (i < out_d)
            tap_d, cols_d = u * (KERNEL_H * KERNEL_W), i * stride_colsd
        for v_h in range(TURNS_H):
            mask_h, tap_h, cols_h = mask_d, tap_d, cols_d
            if AXES > 1:
                u, i = u_h + stride_h // gcd_h * v_h, i_h - dilation_h // gcd_h * v_h
                mask_h = mask_d & (u < KERNEL_H) & (i >= 0) & (i < out_h)
                tap_h, cols_h = tap_d + u * KERNEL_W, cols_d + i * stride_colsh
            for v_w in range(TURNS_W):
                u, i = u_w + stride_w // gcd_w * v_w, i_w - dilation_w // gcd_w * v_w
                mask_w = mask_h & (u < KERNEL_W) & (i >= 0) & (i < out_w)
                cols = cols_ptr + (cols_h + i * stride_colsw + (tap_h + u) * stride_colst)
                acc += tl.load(cols, mask=mask_w, other=0).to(ACC_DTYPE)
    x = x_ptr + (image * stride_xn + c * stride_xc + offs_n * stride_xp)
    tl.store(x, acc.to(x_ptr.dtype.element_ty), mask=mask)


def im2col(
    cols: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> None:
    """Write into ``cols``, dense, what each tap shows of ``x`` in each window.

    Examples
    --------
    >>> cols = torch.empty(1, 2, 2)
    >>> with runtime.interpreted():
    ...     im2col(cols, torch.tensor([[[1.0, 3, 2]]]), [2], [1], [0, 0], [1], [2])
    >>> cols
    tensor([[[1., 3.],
             [3., 2.]]])
    """
    if cols.numel():
        key = tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), tuple(windows)
        with runtime.on_device_of(x):
            launch_kept(im2col_kernel, _launched, key, x, cols)


def _launched(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    windows: Sequence[int], x: torch.Tensor, cols: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    rows, pixels, vector = x.shape[0] * x.shape[1], prod(windows), vector_of(x)
    block_m, block_n = tile_of(x, rows, pixels, 512 if x.dtype == torch.float64 else 1024)
    given: dict[str, Any] = {"x_ptr": x, "cols_ptr": cols, **strides("x", x, vector)}
    given |= of_windows(x.shape[2:], windows, kernel, stride, padding, dilation, without="out_d")
    given |= {"rows": rows // vector, "channels": x.shape[1] // vector, "pixels": pixels}
    given |= {"INT64": is_wide(x, cols), "VECTOR": vector, "BLOCK_M": block_m, "BLOCK_N": block_n}
    return (cdiv(rows, block_m) * cdiv(pixels, block_n),), given


def col2im(
    x: torch.Tensor,
    cols: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> None:
    """Write into ``x``, dense, the sum of what the columns hold for each sample.

    Examples
    --------
    >>> x = torch.empty(1, 1, 3)
    >>> with runtime.interpreted():
    ...     col2im(x, torch.tensor([[[1.0, 3], [3, 2]]]), [2], [1], [0, 0], [1], [2])
    >>> x
    tensor([[[1., 6., 2.]]])
    """
    key = tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), tuple(windows)
    launch(col2im_kernel, _given, key, x, cols, size=512)


def _given(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    windows: Sequence[int], x: torch.Tensor, cols: torch.Tensor,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """As `konvlib.images.launching.launch` asks it."""
    images = cols.unflatten(2, tuple(windows)).unflatten(1, (x.shape[1], prod(kernel)))
    given: dict[str, Any] = {"cols_ptr": cols, "x_ptr": x, "ACC_DTYPE": runtime.sum_type(x)}
    given |= {"stride_colst": images.stride(2), **dense_strides("x", x), **strides("cols", images[:, :, 0])}
    given |= of_windows(x.shape[2:], windows, kernel, stride, padding, dilation, without="in_d", sent=True)
    return 1, given
