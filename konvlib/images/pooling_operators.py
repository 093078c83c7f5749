"""Poolings as torch operators: Triton kernels on CUDA, ATen elsewhere.

A max pooling gives each window's largest sample and the tap that shows it. Its gradient sends what a window receives
to that tap's sample, ``max_pool_scatter``; the gradient of this is to look there again, ``max_pool_gather``; and the
gradient of that is the scatter. An average pooling and ``avg_pool_scatter`` are each other's gradient, being linear.
So all are closed under differentiation.

Geometries are lists with one entry per axis, but for ``padding``, which is flat: before and after, axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from konvlib import tiles
from konvlib.images import aten
from konvlib.images import pooling as kernels
from konvlib.layers.memory import empty


@torch.library.custom_op("konvlib::max_pool", mutates_args=())
def max_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest sample of each window, the last NaN if there is one, and the first tap that shows it."""
    y, taps = _largest_like(x, windows)
    if tiles.runs_kernel(x):
        kernels.pool(y, taps, x, kernel, stride, padding, dilation)
        return y, taps
    best, chosen = aten.largest(x, kernel, stride, padding, dilation, windows)
    return y.copy_(best), taps.copy_(chosen)


@max_pool.register_fake
def _(x, kernel, stride, padding, dilation, windows):
    return _largest_like(x, windows)


def _largest_like(x: torch.Tensor, windows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    y = empty(x, (*x.shape[:2], *windows))
    return y, torch.empty_strided(y.shape, y.stride(), dtype=torch.int32, device=y.device)


@torch.library.custom_op("konvlib::max_pool_scatter", mutates_args=())
def max_pool_scatter(
    dy: torch.Tensor,
    taps: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    size: Sequence[int],
) -> torch.Tensor:
    """Send each window's ``dy`` to the sample that its tap shows, and add up."""
    dx = _like_taps(dy, taps, size)
    if tiles.runs_kernel(dy):
        kernels.scatter(dx, dy, taps, kernel, stride, padding, dilation)
        return dx
    sums = dy.to(tiles.sum_dtype(dy.dtype))
    shares = (torch.where(taps == tap, sums, 0) for tap in range(prod(kernel)))
    return dx.copy_(aten.scattered(shares, size, kernel, stride, padding, dilation))


@max_pool_scatter.register_fake
def _(dy, taps, kernel, stride, padding, dilation, size):
    return _like_taps(dy, taps, size)


@torch.library.custom_op("konvlib::max_pool_gather", mutates_args=())
def max_pool_gather(
    x: torch.Tensor,
    taps: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> torch.Tensor:
    """Return the sample of ``x`` that each window's tap shows: the adjoint of `max_pool_scatter`."""
    y = _like_taps(x, taps, taps.shape[2:])
    if tiles.runs_kernel(x):
        kernels.gather(y, x, taps, kernel, stride, padding, dilation)
        return y
    return y.copy_(aten.gathered(x, taps, kernel, stride, padding, dilation))


@max_pool_gather.register_fake
def _(x, taps, kernel, stride, padding, dilation):
    return _like_taps(x, taps, taps.shape[2:])


@torch.library.custom_op("konvlib::avg_pool", mutates_args=())
def avg_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    windows: Sequence[int],
    counts_padding: bool,
) -> torch.Tensor:
    """Return the mean of each window."""
    y = empty(x, (*x.shape[:2], *windows))
    if tiles.runs_kernel(x):
        dense = [1] * len(kernel)
        kernels.pool(y, None, x, kernel, stride, padding, dense, counts_padding=counts_padding)
        return y
    return y.copy_(aten.mean(x, kernel, stride, padding, windows, counts_padding))


@avg_pool.register_fake
def _(x, kernel, stride, padding, windows, counts_padding):
    return empty(x, (*x.shape[:2], *windows))


@torch.library.custom_op("konvlib::avg_pool_scatter", mutates_args=())
def avg_pool_scatter(
    dy: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    size: Sequence[int],
    counts_padding: bool,
) -> torch.Tensor:
    """Send each of a window's samples the same share of its ``dy``, and add up: the adjoint of `avg_pool`."""
    dx, dense = empty(dy, (*dy.shape[:2], *size)), [1] * len(kernel)
    if tiles.runs_kernel(dy):
        kernels.scatter(dx, dy, None, kernel, stride, padding, dense, mean=True, counts_padding=counts_padding)
        return dx
    sums = dy.to(tiles.sum_dtype(dy.dtype))
    share = sums / aten.counts(sums, size, kernel, stride, padding, counts_padding)
    return dx.copy_(aten.scattered(iter([share] * prod(kernel)), size, kernel, stride, padding, dense))


@avg_pool_scatter.register_fake
def _(dy, kernel, stride, padding, size, counts_padding):
    return empty(dy, (*dy.shape[:2], *size))


def _like_taps(values: torch.Tensor, taps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """An uninitialised tensor in the layout of the pooling's output; a gradient may come in any, expanded too."""
    like = empty(taps, (*taps.shape[:2], *size))
    return torch.empty_strided(like.shape, like.stride(), dtype=values.dtype, device=values.device)


def _keep_taps(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.geometry, ctx.size = inputs[1:5], inputs[0].shape[2:]
    ctx.mark_non_differentiable(output[1])


def _to_largest(ctx, dy, _):
    return max_pool_scatter(dy, *ctx.saved_tensors, *ctx.geometry, ctx.size), *(None,) * 5


def _keep_chosen(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])
    ctx.geometry, ctx.size = inputs[2:6], inputs[0].shape[2:]


def _from_chosen(ctx, g):
    return max_pool_gather(g, *ctx.saved_tensors, *ctx.geometry), *(None,) * 6


def _to_chosen(ctx, dy):
    return max_pool_scatter(dy, *ctx.saved_tensors, *ctx.geometry, ctx.size), *(None,) * 5


def _keep_geometry(ctx, inputs, output):
    ctx.geometry, ctx.size, ctx.counts_padding = inputs[1:4], inputs[0].shape[2:], inputs[5]


def _to_all(ctx, dy):
    return avg_pool_scatter(dy, *ctx.geometry, ctx.size, ctx.counts_padding), *(None,) * 5


def _from_all(ctx, g):
    return avg_pool(g, *ctx.geometry, ctx.size, ctx.counts_padding), *(None,) * 5


max_pool.register_autograd(_to_largest, setup_context=_keep_taps)
max_pool_scatter.register_autograd(_from_chosen, setup_context=_keep_chosen)
max_pool_gather.register_autograd(_to_chosen, setup_context=_keep_chosen)
avg_pool.register_autograd(_to_all, setup_context=_keep_geometry)
avg_pool_scatter.register_autograd(_from_all, setup_context=_keep_geometry)
for operator, tensors in (
    (max_pool, 1),
    (max_pool_scatter, 2),
    (max_pool_gather, 2),
    (avg_pool, 1),
    (avg_pool_scatter, 1),
):
    operator.register_vmap(tiles.folded(operator, tensors))
