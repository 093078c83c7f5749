"""Poolings, and what else looks through windows, by PyTorch's own operations: what operators run without Triton.

Each runs over the taps of a window and treats all windows at once. Geometries are lists with one entry per axis, but
for ``padding``, which is flat: before and after, axis by axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch.nn import functional

from konvlib import tiles

Ints = Sequence[int]


def padded(
    x: torch.Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, windows: Ints, fill: float = 0.0
) -> torch.Tensor:
    """Return ``x`` with the padding that its windows show, and with what they show beyond it.

    Examples
    --------
    >>> padded(torch.tensor([[[1.0, 3, 2]]]), [2], [2], [1, 0], [1], [3])
    tensor([[[0., 1., 3., 2., 0., 0.]]])
    """
    each = zip(x.shape[2:], kernel, stride, padding[::2], dilation, windows, strict=True)
    sides = [(b, max((o - 1) * s + d * (k - 1) + 1 - n - b, 0)) for n, k, s, b, d, o in each]
    return functional.pad(x, [side for pair in sides[::-1] for side in pair], value=fill)


def views(x: torch.Tensor, kernel: Ints, stride: Ints, dilation: Ints, windows: Ints) -> Iterator[torch.Tensor]:
    """For each tap, in row-major order, the view of the padded ``x`` that holds what it shows, window by window.

    Examples
    --------
    >>> [view.tolist() for view in views(torch.arange(5), [2], [2], [1], [2])]
    [[0, 2], [1, 3]]
    """
    for tap in product(*map(range, kernel)):
        each = zip(tap, stride, dilation, windows, strict=True)
        yield x[(..., *(slice(u * d, u * d + (o - 1) * s + 1, s) for u, s, d, o in each))]


def largest(
    x: torch.Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, windows: Ints
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest sample of each window, or its last NaN, and the first tap that shows it.

    Examples
    --------
    >>> largest(torch.tensor([[[1.0, 3, 3, 2]]]), [3], [1], [0, 0], [1], [2])
    (tensor([[[3., 3.]]]), tensor([[[1, 0]]], dtype=torch.int32))
    """
    lowest = float("-inf")
    best = x.new_full((*x.shape[:2], *windows), lowest)
    taps = torch.zeros((1,) * len(kernel), dtype=torch.int32, device=x.device)
    for axis in range(len(kernel)):
        outside = (-_starts(axis, stride, padding, windows, x.device)).clamp(min=0)
        taps = taps * kernel[axis] + (outside + dilation[axis] - 1) // dilation[axis]
    taps = taps.to(torch.int32).expand(best.shape)
    shown = padded(x, kernel, stride, padding, dilation, windows, lowest)
    for tap, samples in enumerate(views(shown, kernel, stride, dilation, windows)):
        better = (samples > best) | samples.isnan()
        best, taps = torch.where(better, samples, best), torch.where(better, tap, taps)
    return best, taps.to(torch.int32)


def mean(
    x: torch.Tensor, kernel: Ints, stride: Ints, padding: Ints, windows: Ints, counts_padding: bool
) -> torch.Tensor:
    """Return the mean of each window, in the dtype of sums.

    Examples
    --------
    >>> mean(torch.tensor([[[1.0, 3, 2, 0]]]), [2], [2], [0, 0], [2], True)
    tensor([[[2., 1.]]])
    """
    dense = (1,) * len(kernel)
    shown = padded(x.to(tiles.sum_dtype(x.dtype)), kernel, stride, padding, dense, windows)
    total = shown.new_zeros((*x.shape[:2], *windows))
    for samples in views(shown, kernel, stride, dense, windows):
        total += samples
    return total / counts(total, x.shape[2:], kernel, stride, padding, counts_padding)


def counts(
    y: torch.Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, counts_padding: bool
) -> torch.Tensor:
    """Return by how many samples each window's sum is divided, of the dtype of ``y``, one entry per pixel of it.

    Examples
    --------
    >>> counts(torch.zeros(1, 1, 3), [3], [2], [2], [1, 0], False)
    tensor([1., 2., 0.])
    """
    count = y.new_ones((1,) * len(kernel))
    for axis, n in enumerate(size):
        before, after = padding[2 * axis : 2 * axis + 2] if counts_padding else (0, 0)
        starts = _starts(axis, stride, padding, y.shape[2:], y.device)
        count = count * ((starts + kernel[axis]).clamp(max=n + after) - starts.clamp(min=-before))
    return count


def scattered(
    shares: Iterator[torch.Tensor], size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> torch.Tensor:
    """Add up, for each tap in turn, a share for the sample that it shows in each window; the adjoint of looking.

    Examples
    --------
    >>> scattered(iter([torch.tensor([[[1.0, 3]]]), torch.tensor([[[5.0, 7]]])]), [3], [2], [1], [0, 0], [1])
    tensor([[[1., 8., 7.]]])
    """
    total = None
    for tap, share in zip(product(*map(range, kernel)), shares, strict=True):
        if total is None:
            shape = (*share.shape[:2], *size)
            total = padded(share.new_zeros(shape), kernel, stride, padding, dilation, share.shape[2:])
        each = zip(tap, stride, dilation, share.shape[2:], strict=True)
        total[(..., *(slice(u * d, u * d + (o - 1) * s + 1, s) for u, s, d, o in each))] += share
    return total[(..., *(slice(b, b + n) for b, n in zip(padding[::2], size, strict=True)))]


def gathered(
    x: torch.Tensor, taps: torch.Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> torch.Tensor:
    """Return the sample that each window's tap shows.

    Examples
    --------
    >>> gathered(torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1, 0]]]), [2], [1], [0, 0], [1])
    tensor([[[3., 3.]]])
    """
    place = 0
    for axis, n in enumerate(x.shape[2:]):
        tap = taps.long() // prod(kernel[axis + 1 :]) % kernel[axis]
        place = place * n + _starts(axis, stride, padding, taps.shape[2:], x.device) + tap * dilation[axis]
    return x.flatten(2).gather(2, place.flatten(2)).reshape(taps.shape)


def _starts(axis: int, stride: Ints, padding: Ints, windows: Ints, device: torch.device) -> torch.Tensor:
    """Where the windows start along an axis, to be broadcast over the others."""
    starts = torch.arange(windows[axis], device=device) * stride[axis] - padding[2 * axis]
    return starts.reshape(-1, *(1,) * (len(windows) - 1 - axis))
