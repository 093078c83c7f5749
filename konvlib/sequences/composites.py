"""Functions of tensors made of `konvlib.sequences.tensors.convolve_window` and ATen's operations, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry import ResampleGeometry, SequenceGeometry, WholeGeometry
from konvlib.registration import is_plain, lowered, lowers
from konvlib.runtime import HALVES, sum_dtype
from konvlib.sequences.arrays import running_sums
from konvlib.sequences.aten_repairs import reaching

Window = Callable[..., Tensor]


def normalized_correlation(
    f: Tensor, g: Tensor, part: SequenceGeometry, correlate: Callable[[Tensor, Tensor, SequenceGeometry], Tensor]
) -> Tensor:  # fmt: skip
    """Correlate, each lag divided by the norms of the window of f and of g; 0 where one of them is.

    Examples
    --------
    >>> from konvlib.geometry import correlation_geometry
    >>> from konvlib.sequences.tensors import correlate
    >>> f, g = torch.tensor([3.0, 4, 0, 0]), torch.tensor([3.0, 4])
    >>> normalized_correlation(f, g, correlation_geometry((4,), (2,), mode="valid", method="auto"), correlate)
    tensor([1.0000, 0.6000, 0.0000])
    """
    f, g = (_unscaled(t) for t in (f, g))
    products, m = correlate(f, g, part), part.m
    windows = running_sums(functional.pad(_squares(f), (m - 1, m - 1)), m)
    windows = windows[..., part.start : part.start + part.length]
    energies = (windows, _squares(g).sum(-1, keepdim=True))
    empty = (energies[0] == 0) | (energies[1] == 0)
    # Where there is nothing, neither the root nor its derivative is taken of zero.
    norms = [torch.where(energy == 0, torch.ones_like(energy), energy).sqrt() for energy in energies]
    y = products / (norms[0] * norms[1])
    y = torch.where(empty, torch.zeros_like(y), y)
    return y / y.detach().abs().clamp(min=1)  # what rounding puts beyond 1


def _unscaled(a: Tensor) -> Tensor:
    """Rows divided by powers of two near their largest entries, so that squares neither overflow nor vanish."""
    peaks = a.detach().abs().amax(-1, keepdim=True)
    usual = peaks.isfinite() & (peaks > 0)
    least = math.log2(torch.finfo(a.dtype).tiny)
    powers = torch.where(usual, peaks, torch.ones_like(peaks)).log2().floor().clamp(least, -least).exp2()
    return a / powers


def _squares(a: Tensor) -> Tensor:
    return a.real.square() + a.imag.square() if a.is_complex() else a.square()


def resample(x: Tensor, h: Tensor, part: ResampleGeometry, window: Window) -> Tensor:
    """Upsample, convolve, downsample, by branches without zeros.

    Examples
    --------
    >>> from konvlib.geometry import resample_geometry
    >>> from konvlib.sequences.tensors import convolve_window
    >>> x, h = torch.tensor([1.0, 3, 2]), torch.tensor([1.0, 1])
    >>> resample(x, h, resample_geometry((3,), (2,), up=2, down=1, axis=-1), convolve_window)
    tensor([1., 1., 3., 3., 2., 2.])
    """
    dtype = x.dtype
    x, h = (t.to(sum_dtype(t.dtype)) for t in (x, h))
    phases, longest = [], -(-part.length // part.phases)
    for branches in part.branches():
        # The last phases may have one output less, which is cut off below.
        each = [(x[..., samples], h[..., taps], start) for samples, taps, start in branches]
        sums = [window(a, b, start, longest, [], "auto") for a, b, start in each if a.shape[-1]]
        phases.append(sum(sums[1:], sums[0]) if sums else None)
    nothing = torch.zeros_like(phases[0])
    y = torch.stack([nothing if phase is None else phase for phase in phases], -1).flatten(-2)[..., : part.length]
    return y.to(dtype) if dtype in HALVES else y.contiguous()


def convolve_nd(f: Tensor, g: Tensor, part: WholeGeometry, window: Window) -> Tensor:
    """Convolve two tensors along all their axes, by the method asked for.

    Examples
    --------
    >>> from konvlib.geometry import whole_geometry
    >>> from konvlib.sequences.tensors import convolve_window
    >>> f, g = torch.tensor([[1.0, 3], [2, 0]]), torch.tensor([[1.0, 10]])
    >>> convolve_nd(f, g, whole_geometry(f.shape, g.shape, mode="full", method="auto"), convolve_window)
    tensor([[ 1., 13., 30.],
            [ 2., 20.,  0.]])
    """
    if lowers(f) or lowers(g):
        return lowered(convolve_nd, f.device.type, (f, g, part, window))
    dtype = f.dtype
    f, g = (t.to(sum_dtype(t.dtype)) for t in ((f, g) if f.numel() >= g.numel() else (g, f)))
    method = part.method
    if method == "auto":
        # One window for each row of the smaller operand, or transforms of the whole.
        method = "direct" if f.dim() < 2 or math.prod(g.shape[:-1]) <= ROWS else "fft"
    if not f.dim():
        y = f * g
    elif method == "direct":
        y = _by_rows(f, g, part, window, part.method)
    elif part.method == "auto":
        y = _repaired(f, g, part, window)
    else:
        y = _fft(f, g, part)
    return y.to(dtype).contiguous()


ROWS = 16
"""Rows of the smaller operand up to which ``auto`` convolves row by row; assumed, not measured."""


def _by_rows(f: Tensor, g: Tensor, part: WholeGeometry, window: Window, method: str) -> Tensor:
    """Convolve along the last axis with each row of g, and add the results at that row's place."""
    start, length = part.starts[-1], part.lengths[-1]
    full = [n + m - 1 for n, m in zip(f.shape[:-1], g.shape[:-1], strict=True)]
    y = f.new_zeros(*full, length)
    for row in _places(g.shape[:-1]):
        taps = g[row].reshape((1,) * (f.dim() - 1) + (-1,))
        sums = window(f, taps, start, length, [], method)
        sides = [(k, size - n - k) for k, size, n in zip(row, full, f.shape[:-1], strict=True)]
        y = y + functional.pad(sums, (0, 0, *[side for pair in reversed(sides) for side in pair]))
    return y[tuple([slice(s, s + n) for s, n in zip(part.starts[:-1], part.lengths[:-1], strict=True)])]


def _places(shape: torch.Size) -> list[tuple[int, ...]]:
    places: list[tuple[int, ...]] = [()]
    for size in shape:
        places = [(*place, k) for place in places for k in range(size)]
    return places


def _fft(f: Tensor, g: Tensor, part: WholeGeometry) -> Tensor:
    sizes = [n + m - 1 for n, m in zip(f.shape, g.shape, strict=True)]
    forward, inverse = (torch.fft.fftn, torch.fft.ifftn) if f.is_complex() else (torch.fft.rfftn, torch.fft.irfftn)
    y = inverse(forward(f, sizes) * forward(g, sizes), sizes)
    return y[tuple([slice(s, s + n) for s, n in zip(part.starts, part.lengths, strict=True)])]


def _repaired(f: Tensor, g: Tensor, part: WholeGeometry, window: Window) -> Tensor:
    """By transforms, with NaN where the direct sum has samples that are not finite; row by row if those are seen."""
    if is_plain(f, g):
        y = _fft(f, g, part)
        return y if y.detach().isfinite().all() else _by_rows(f, g, part, window, "auto")
    y = _fft(*(torch.where(t.isfinite(), t, torch.zeros_like(t)) for t in (f, g)), part)
    reached = _reached(f, g.shape, part) | _reached(g, f.shape, part)
    return y + torch.where(reached, y.new_full((), math.nan), y.new_zeros(()))


def _reached(t: Tensor, others: torch.Size, part: WholeGeometry) -> Tensor:
    """Whether an entry of a tensor that is not finite is a factor of some product in each value."""
    places = ~t.isfinite()
    for axis, other in enumerate(others):
        counted = reaching(places.movedim(axis, -1), other, part.starts[axis], part.lengths[axis])
        places = (counted > 0).movedim(-1, axis)
    return places
