"""Poolings and their gradients by ATen, PyTorch's own library: what tensors get on the CPU.

Each is a composite of ATen's operations, so torch differentiates, batches and traces it as it does those. Halves are
summed in float32, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry import PoolGeometry
from konvlib.images.running import axis_of, largest_and_places, over_windows, spread, sums
from konvlib.layers.aten import CONV, is_half
from konvlib.layers.memory import empty, laid_like
from konvlib.registration import check_sizes_may_stay

Ints = Sequence[int]
MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVG_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
PLACES, SUMS = largest_and_places(torch), sums(torch)
MOST_TAPS = 100
"""Up to how many taps of a window ATen visits."""

MOST_TAPS_OF_KERNELS = 1024
"""Up to how many a Triton kernel does."""

AVG_POOL_BACKWARD = {2: torch.ops.aten.avg_pool2d_backward.default, 3: torch.ops.aten.avg_pool3d_backward.default}


def max_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the largest sample of each window.

    ATen pads both sides alike. Where they differ, its choice of samples is looked up by hand, so that what is
    differentiated is never padding.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> max_pool(x, pool_geometry(x.shape, 2, axes=1, padding=[(1, 0)]))
    tensor([[[1., 3.]]])
    """
    if pool.is_even and not is_large(pool):
        y = MAX_POOL[pool.axes](x, pool.kernel_size, pool.stride, pool.before, pool.dilation, pool.ceil_mode)
        return laid_like(x, y)
    return laid_like(x, gathered(x, largest_places(x, pool)))


def max_pool_and_indices(x: Tensor, pool: PoolGeometry) -> tuple[Tensor, Tensor]:
    """Return the largest sample of each window, and where in the flattened input it lies.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x = torch.tensor([[[1.0, 3, 3, 2]]])
    >>> max_pool_and_indices(x, pool_geometry(x.shape, 2, axes=1))
    (tensor([[[3., 3.]]]), tensor([[[1, 2]]]))
    """
    places = largest_places(x, pool)
    return laid_like(x, gathered(x, places)), laid_like(x, places)


def max_unpool(x: Tensor, indices: Tensor, pool: PoolGeometry) -> Tensor:
    """Return zeros of the pooling's input shape, with each sample put back at its index; the last one where two meet.

    Examples
    --------
    >>> from konvlib.geometry import max_unpool_geometry
    >>> x = torch.tensor([[[3.0, 2]]])
    >>> pool = max_unpool_geometry(x.shape, 2, axes=1, indices_shape=x.shape)
    >>> max_unpool(x, torch.tensor([[[1, 1]]]), pool)
    tensor([[[0., 2., 0., 0.]]])
    """
    windows = (*x.shape[:2], prod(pool.output_size))
    places = indices.long().reshape(windows)
    order = torch.arange(windows[2], device=x.device).expand(windows)
    last = (places.new_zeros(*x.shape[:2], prod(pool.input_size))).scatter_reduce(2, places, order, "amax")
    stays = last.gather(2, places) == order
    return laid_like(x, scattered(torch.where(stays, x.reshape(windows), 0).reshape(x.shape), indices.long(), pool))


def is_large(pool: PoolGeometry, most: int | None = None) -> bool:
    """Whether windows have so many taps that ATen, which visits each, takes longer than `konvlib.images.running`.

    Also where a number is larger than ATen takes. ``most`` is for what visits taps quicker.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> is_large(pool_geometry((1, 1, 60, 60), 7, axes=2)), is_large(pool_geometry((1, 1, 60, 60), 51, axes=2))
    (False, True)
    """
    most = MOST_TAPS if most is None else most
    return prod(pool.kernel_size) > most or max(*pool.kernel_size, *pool.stride, *pool.dilation) >= 2**31


def has_kernel(pool: PoolGeometry, *, mean: bool) -> bool:
    """Whether the Triton kernels have these arguments: those of means no dilation and no divisor, and none any window.

    Examples
    --------
    >>> from konvlib.geometry import avg_pool_geometry
    >>> [has_kernel(avg_pool_geometry((1, 1, 9), 2, axes=1, dilation=step), mean=True) for step in (1, 2)]
    [True, False]
    """
    if mean and (pool.divisor_override is not None or max(pool.dilation) > 1):
        return False
    return not is_large(pool, MOST_TAPS_OF_KERNELS)


def _running_places(x: Tensor, pool: PoolGeometry) -> Tensor:
    """The last axis first: the first largest sample lies in the first row whose own first largest is as large."""
    places = torch.arange(prod(pool.input_size), device=x.device).reshape(pool.input_size).expand(x.shape)
    for number in reversed(range(pool.axes)):
        x, places = _along(number, (x, places), lambda pieces, axis: over_windows(pieces, axis, PLACES), pool)
    return places


def _running_sums(x: Tensor, pool: PoolGeometry) -> Tensor:
    for number in range(pool.axes):
        (x,) = _along(number, (x,), lambda pieces, axis: over_windows(pieces, axis, SUMS), pool)
    return x


def _along(number: int, tensors: Sequence[Tensor], function: Callable[..., Any], pool: PoolGeometry) -> list[Tensor]:
    """A function of the pieces ``(outer, size, inner)`` of one axis."""
    shape, axis = tensors[0].shape, axis_of(pool, number)
    before, after = shape[: number + 2], shape[number + 3 :]
    pieces = tuple([tensor.reshape(prod(before), shape[number + 2], prod(after)) for tensor in tensors])
    return [piece.reshape(*before, piece.shape[1], *after) for piece in function(pieces, axis)]


def largest_places(x: Tensor, pool: PoolGeometry) -> Tensor:
    """Return where in the flattened input each window has its largest sample: the first, or the last NaN.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x = torch.tensor([[[1.0, 3, 3, 2]]])
    >>> largest_places(x, pool_geometry(x.shape, 2, axes=1, padding=[(1, 0)]))
    tensor([[[0, 1]]])
    """
    x, run = x.detach(), MAX_POOL[pool.axes]
    if is_large(pool):
        return _running_places(x, pool)
    if pool.is_even:
        return run(x, pool.kernel_size, pool.stride, pool.before, pool.dilation, pool.ceil_mode, return_indices=True)[1]
    check_sizes_may_stay()
    shown = functional.pad(x, pool.sides, value=float("-inf"))
    rest, places = run(shown, pool.kernel_size, pool.stride, 0, pool.dilation, return_indices=True)[1], 0
    for axis in range(pool.axes):
        inner = prod(shown.shape[axis + 3 :])
        at = rest // inner - pool.before[axis]
        # All samples of a window are minus infinity, and ATen chose padding: the first sample that the window shows.
        at = torch.where(at < 0, at % pool.dilation[axis], at)
        rest, places = rest % inner, places * pool.input_size[axis] + at
    return places


def taps_of(places: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the taps that show the samples at ``places``, window by window, numbered in row-major order.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> taps_of(torch.tensor([[[1, 1]]]), pool_geometry((1, 1, 3), 2, axes=1, stride=1))
    tensor([[[1, 0]]], dtype=torch.int32)
    """
    taps, rest = 0, places
    for axis in range(pool.axes):
        inner = prod(pool.input_size[axis + 1 :])
        tap = (rest // inner - _starts(pool, axis, places)) // pool.dilation[axis]
        rest, taps = rest % inner, taps * pool.kernel_size[axis] + tap
    return taps.to(torch.int32)


def places_of(taps: Tensor, pool: PoolGeometry) -> Tensor:
    """Return where in the flattened input each window's tap shows a sample: the inverse of `taps_of`.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> places_of(torch.tensor([[[1, 0]]]), pool_geometry((1, 1, 3), 2, axes=1, stride=1))
    tensor([[[1, 1]]])
    """
    places = 0
    for axis, size in enumerate(pool.input_size):
        places = places * size + places_along(axis, taps, pool)
    return places


def places_along(axis: int, taps: Tensor, pool: PoolGeometry) -> Tensor:
    """Return which sample of one axis each window's tap shows; what lies outside of the input is padding.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> places_along(0, torch.tensor([[[1, 0]]]), pool_geometry((1, 1, 3), 2, axes=1, stride=1))
    tensor([[[1, 1]]])
    """
    tap = taps.long() // prod(pool.kernel_size[axis + 1 :]) % pool.kernel_size[axis]
    return _starts(pool, axis, taps) + tap * pool.dilation[axis]


def _starts(pool: PoolGeometry, axis: int, like: Tensor) -> Tensor:
    """Where the windows start along an axis, to be broadcast over the others."""
    starts = torch.arange(pool.output_size[axis], device=like.device) * pool.stride[axis] - pool.before[axis]
    return starts.reshape(-1, *(1,) * (pool.axes - 1 - axis))


def max_pool_grad(x: Tensor, dy: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the gradient by ``x``: what each window receives goes to its largest sample.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x, dy = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1.0, 5]]])
    >>> max_pool_grad(x, dy, pool_geometry(x.shape, 2, axes=1, stride=1))
    tensor([[[0., 6., 0.]]])
    """
    return laid_like(x, scattered(dy, largest_places(x, pool), pool))


def scattered(dy: Tensor, places: Tensor, pool: PoolGeometry) -> Tensor:
    """Return zeros of the input's shape, and ``dy`` added at ``places``.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> pool = pool_geometry((1, 1, 3), 2, axes=1, stride=1)
    >>> scattered(torch.tensor([[[1.0, 5]]]), torch.tensor([[[1, 1]]]), pool)
    tensor([[[0., 6., 0.]]])
    """
    if is_half(dy):
        return scattered(dy.float(), places, pool).to(dy.dtype)
    check_sizes_may_stay()
    zeros = dy.new_zeros(*dy.shape[:2], prod(pool.input_size))
    windows = (*dy.shape[:2], prod(pool.output_size))  # not flatten, which cannot be batched everywhere
    dx = zeros.scatter_add(2, places.reshape(windows), dy.reshape(windows))
    return dx.reshape(*dy.shape[:2], *pool.input_size)


def gathered(x: Tensor, places: Tensor) -> Tensor:
    """Return the samples at ``places``.

    Examples
    --------
    >>> gathered(torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1, 1]]]))
    tensor([[[3., 3.]]])
    """
    samples, windows = (*x.shape[:2], prod(x.shape[2:])), (*x.shape[:2], prod(places.shape[2:]))
    return x.reshape(samples).gather(2, places.reshape(windows)).reshape(places.shape)  # not flatten: see `scattered`


def avg_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the mean of each window.

    Examples
    --------
    >>> from konvlib.geometry import avg_pool_geometry
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> avg_pool(x, avg_pool_geometry(x.shape, 2, axes=1, padding=[(1, 0)], count_include_pad=False))
    tensor([[[1.0000, 2.5000]]])
    """
    if is_half(x):
        return avg_pool(x.float(), pool).to(x.dtype)
    if is_large(pool) or max(pool.dilation) > 1:
        check_sizes_may_stay()
        return laid_like(x, _running_sums(x, pool) / divisors(pool, x))
    if pool.is_even and (pool.divisor_override is None or pool.axes > 1):
        options = pool.ceil_mode, pool.count_include_pad
        if pool.divisor_override is not None:
            options = *options, pool.divisor_override
        return laid_like(x, AVG_POOL[pool.axes](x, pool.kernel_size, pool.stride, pool.before, *options))
    check_sizes_may_stay()
    shown = functional.pad(x, pool.sides)
    if torch.compiler.is_exporting():  # ONNX has no other divisor, and its exporter says nothing of it
        ones = x.new_ones((1, 1, *pool.kernel_size))
        total = CONV[pool.axes](shown.reshape(-1, 1, *shown.shape[2:]), ones, stride=pool.stride)
        total = total.reshape(pool.output_shape)
    elif pool.axes == 1:
        total = functional.avg_pool2d(shown.unsqueeze(2), (1, *pool.kernel_size), (1, *pool.stride), divisor_override=1)
        total = total.squeeze(2)
    else:
        total = AVG_POOL[pool.axes](shown, pool.kernel_size, pool.stride, divisor_override=1)
    return laid_like(x, total / divisors(pool, total))


def avg_pool_grad(dy: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the gradient by the input: each sample of a window receives an equal share. The adjoint of `avg_pool`.

    Examples
    --------
    >>> from konvlib.geometry import avg_pool_geometry
    >>> avg_pool_grad(torch.tensor([[[2.0, 6]]]), avg_pool_geometry((1, 1, 3), 2, axes=1, stride=1))
    tensor([[[1., 4., 3.]]])
    """
    if is_half(dy):
        return avg_pool_grad(dy.float(), pool).to(dy.dtype)
    check_sizes_may_stay()
    if is_large(pool) or max(pool.dilation) > 1:
        dx = dy / divisors(pool, dy)
        for number in range(pool.axes):
            (dx,) = _along(number, (dx,), lambda pieces, axis: (spread(pieces[0], axis, torch),), pool)
        return laid_like(dy, dx)
    if pool.is_even:
        options = pool.ceil_mode, pool.count_include_pad, pool.divisor_override
        return laid_like(dy, _avg_pool_backward(dy, pool.input_size, pool, pool.before, options))
    # ATen pads both sides alike: so it is told that padding is input, and adds up where it would take means.
    befores, afters = pool.sides[-2::-2], pool.sides[::-2]
    size = [n + before + after for n, before, after in zip(pool.input_size, befores, afters, strict=True)]
    dx = _avg_pool_backward(dy / divisors(pool, dy), size, pool, (0,) * pool.axes, (False, True, 1))
    return laid_like(dy, functional.pad(dx, [-side for side in pool.sides]))


def _avg_pool_backward(dy: Tensor, size: Ints, pool: PoolGeometry, padding: Ints, options: tuple) -> Tensor:
    """ATen's gradient of an average pooling of inputs of this size; of one axis as of two, since it names none."""
    kernel, stride = pool.kernel_size, pool.stride
    if pool.axes > 1:
        return AVG_POOL_BACKWARD[pool.axes](dy, empty(dy, (*dy.shape[:2], *size)), kernel, stride, padding, *options)
    dy, window = dy.unsqueeze(2), ((1, *kernel), (1, *stride), (0, *padding))
    return AVG_POOL_BACKWARD[2](dy, empty(dy, (*dy.shape[:2], 1, *size)), *window, *options).squeeze(2)


def divisors(pool: PoolGeometry, like: Tensor) -> Tensor | int:
    """Return what each window's sum is divided by: one number, or ``(*output_size)`` of them.

    Examples
    --------
    >>> from konvlib.geometry import avg_pool_geometry
    >>> divisors(avg_pool_geometry((1, 1, 3), 2, axes=1, padding=[(1, 0)], count_include_pad=False), torch.ones(1))
    tensor([1., 2.])
    """
    if pool.divisor_override is not None:
        return pool.divisor_override
    count = like.new_ones(())
    for number, (before, after) in enumerate(pool.padding):
        size, kernel, stride, dilation, first, windows = axis_of(pool, number)
        before, after = (before, after) if pool.count_include_pad else (0, 0)
        starts = torch.arange(windows, device=like.device) * stride + first
        lowest = (-((starts + before) // dilation)).clamp(min=0)
        highest = ((size + after - 1 - starts) // dilation).clamp(max=kernel - 1)
        count = count[..., None] * (highest - lowest + 1).to(like.dtype)
    return count
