"""Samples that are not finite in tensors whose values can be seen: NaN and infinity where the direct sum has them.

The values are those of a transform without these samples, and of what their products add up to. Derivatives are
convolutions again, with NaN and infinity where their direct sums have them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from konvlib import finite

Transform = Callable[[Tensor, Tensor, int, int], Tensor]


class Repaired(torch.autograd.Function):
    """A window of the convolution of two tensors, one of them not finite, by a transform."""

    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, taps: Tensor, start: int, length: int, given: tuple[Transform, Any]
    ) -> Tensor:
        ctx.save_for_backward(signal, taps)
        ctx.start, (transform, ctx.gradient) = start, given
        return repaired(transform, signal, taps, start, length)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        signal, taps = ctx.saved_tensors
        needs = ctx.needs_input_grad
        d_signal = ctx.gradient(dy, signal, taps, ctx.start) if needs[0] else None
        d_taps = ctx.gradient(dy, taps, signal, ctx.start) if needs[1] else None
        return d_signal, d_taps, None, None, None


def repaired(transform: Transform, signal: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """Return the window, in which the samples that are not finite reach what they reach in the direct sum.

    Examples
    --------
    >>> from konvlib.sequences.aten import fft
    >>> repaired(fft, torch.tensor([1.0, torch.inf, 2]), torch.tensor([3.0, 1]), 0, 4).round()
    tensor([3., inf, inf, 2.])
    """
    operands, scale = scaled(finite.cleaned(torch, signal), finite.cleaned(torch, taps))
    y = transform(*operands, start, length)
    for power in scale:
        y = y * power

    def count(bad: Tensor, signs: Tensor | None, first: bool) -> Tensor:
        if signs is None:
            return reaching(bad, (taps if first else signal).shape[-1], start, length).expand(y.shape)
        return transform(bad.double(), signs.double(), start, length).round()

    if signal.isfinite().all() and taps.isfinite().all():
        return y
    for part, hit, share in finite.shares(torch, y, signal, taps, count):
        part[hit] += share.to(part.dtype)
    return y


def reaching(places: Tensor, others: int, start: int, length: int) -> Tensor:
    """Return with how many entries of other sequences, all in these places, each value of a window is summed.

    Value ``i`` of the full convolution has the products of entries ``i - others + 1`` to ``i`` of either operand.

    Examples
    --------
    >>> reaching(torch.tensor([False, True, False, True]), 3, 0, 6)
    tensor([0, 1, 1, 2, 1, 1])
    """
    size = places.shape[-1]
    until = functional.pad(places.long().cumsum(-1), (1, 0))
    after_last = torch.arange(start + 1, start + length + 1, device=places.device)
    return until[..., after_last.clamp(0, size)] - until[..., (after_last - others).clamp(0, size)]


def scaled(signal: Tensor, taps: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return finite operands, divided by powers of two where their spectra might overflow, and those powers.

    Examples
    --------
    >>> scaled(torch.full((3,), 3e38), torch.ones(2))
    ([tensor([1.7632, 1.7632, 1.7632]), tensor([1., 1.])], [tensor([1.7014e+38]), tensor([1.])])
    """
    peaks = [t.abs().amax(-1, keepdim=True) for t in (signal, taps)]
    terms = signal.shape[-1] * taps.shape[-1]
    if (peaks[0].double().amax() * peaks[1].double().amax() * terms).item() <= torch.finfo(signal.dtype).max:
        return [signal, taps], []
    powers = [torch.ldexp(torch.ones_like(peak), peak.frexp().exponent.clamp(min=1) - 1) for peak in peaks]
    return [t / power for t, power in zip((signal, taps), powers, strict=True)], powers
