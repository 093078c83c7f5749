"""Convolution and correlation of sequences as a torch operator: Triton kernels on CUDA, ATen elsewhere.

Everything is one operator, ``konvlib::convolve_window``, a window of the full convolution of ``f`` and ``g``:

.. math:: y[i] = \\sum_m f[m]\\, g[\\text{start} + i - m], \\qquad 0 \\le i < \\text{length},

with zeros outside both sequences. The modes are windows; a correlation is the convolution with the second operand
flipped and conjugated; and so is the gradient of the operator, which makes it closed under differentiation.

This file reads from top to bottom: the two public functions, the operator, the choice of a method, the direct sum
(ATen, then kernels), the FFT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import scipy.fft
import torch
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry, tiles
from konvlib.sequences import kernels

DTYPES = (*tiles.REALS, *tiles.COMPLEX)


def convolve(f: torch.Tensor, g: torch.Tensor, *, mode: str = "full", method: str = "auto") -> torch.Tensor:
    r"""Convolve two tensors along their last axis.

    .. math:: y[n] = \sum_m f[m]\, g[n - m]

    Parameters
    ----------
    f, g : Tensor, shapes ``(..., n)`` and ``(..., m)``
        Leading axes broadcast; a tensor without axes is a sequence of one sample. Both have one dtype (float16,
        bfloat16, float32, float64, complex64 or complex128) and one device. Halves are summed in float32. Under
        autocast the sum is computed in autocast's dtype, as in `torch.nn.functional.conv1d`.
    mode : {"full", "same", "valid"}
        Which part of the result, as in `numpy.convolve`: ``n + m - 1``, ``max(n, m)`` or ``|n - m| + 1`` values.
    method : {"auto", "direct", "fft", "overlap-add"}
        How to compute it. ``"fft"`` transforms whole sequences and ``"overlap-add"`` blocks of the longer one; both
        spread a NaN or an infinity over the whole sequence or block, and their rounding errors are relative to the
        largest values. ``"direct"`` is the sum as written. ``"auto"`` chooses by size, dtype and device, and keeps
        NaN and infinity where the direct sum has them: a stretch of the FFT's result that is not finite is computed
        again by the direct sum, on CUDA by a kernel that looks for itself, so that the host never waits.

    Returns
    -------
    Tensor, shape ``(..., length)``
        On the same device, of the same dtype, contiguous. Differentiable as often as you like.

    Raises
    ------
    TypeError
        If an operand is no tensor, of an integer or boolean dtype, or of another dtype than the other one.
    ValueError
        If a sequence is empty, if leading axes do not broadcast, if the devices differ, or if ``mode`` or ``method``
        is unknown.

    Examples
    --------
    >>> convolve(torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1]))
    tensor([ 2.,  7.,  6., -1.,  6.,  4., -4.])
    """
    f, g = _arguments(f, g, mode, method)
    start, length = geometry.convolution_window(f.shape[-1], g.shape[-1], mode)
    return convolve_window(f, g, start, length, [], method)


def correlate(f: torch.Tensor, g: torch.Tensor, *, mode: str = "valid", method: str = "auto") -> torch.Tensor:
    r"""Correlate two tensors along their last axis, the second conjugated.

    .. math:: c[k] = \sum_n f[n + k]\, \overline{g[n]}, \qquad k = -(m-1), \dots, n-1

    Parameters, result and errors are those of `convolve`; lags are in increasing order, as in `numpy.correlate`.

    Examples
    --------
    >>> correlate(torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1]))
    tensor([3., 8., 0.])
    """
    f, g = _arguments(f, g, mode, method)
    start, length = geometry.correlation_window(f.shape[-1], g.shape[-1], mode)
    return convolve_window(f, g.conj().flip(-1), start, length, [], method)


def _arguments(f: Any, g: Any, mode: str, method: str) -> tuple[torch.Tensor, torch.Tensor]:
    geometry.one_of(mode, "mode", geometry.MODES)
    geometry.one_of(method, "method", geometry.METHODS)
    tiles.check_tensors(DTYPES, f=f, g=g)
    f, g = torch.atleast_1d(f), torch.atleast_1d(g)
    geometry.sequence_batch(f.shape, g.shape)
    axes = max(f.ndim, g.ndim)
    return f[(None,) * (axes - f.ndim)], g[(None,) * (axes - g.ndim)]


@torch.library.custom_op("konvlib::convolve_window", mutates_args=())
def convolve_window(
    f: torch.Tensor, g: torch.Tensor, start: int, length: int, summed: Sequence[int], method: str
) -> torch.Tensor:
    """Return ``length`` values of the convolution of ``f`` and ``g``, from ``start`` on, summed over some axes.

    ``f`` and ``g`` have equally many axes, and leading axes that broadcast; ``summed`` are leading axes, counted from
    the end, over which the result is summed, and where it keeps one entry.
    """
    shape = kernels.result_shape(f, g, length, summed)
    if 0 in (*f.shape, *g.shape) or start >= f.shape[-1] + g.shape[-1] - 1 or start + length <= 0:
        return f.new_zeros(shape)
    signal, taps = (f, g) if f.shape[-1] >= g.shape[-1] else (g, f)
    chosen = _chosen_method(signal, taps, length) if method == "auto" else method
    if chosen == "direct":
        direct = kernels.direct if tiles.runs_kernel(f) else _direct_aten
        return direct(signal, taps, start, length, summed)
    spectral = (_fft if chosen == "fft" else _overlap_add)(signal, taps, start, length, summed)
    if method == "auto":
        repaired = kernels.repaired if tiles.runs_kernel(f) else _repaired_aten
        spectral = repaired(spectral, signal, taps, start, length, summed)
    return spectral.to(f.dtype).contiguous()


@convolve_window.register_fake
def _(f, g, start, length, summed, method):
    return f.new_empty(kernels.result_shape(f, g, length, summed))


def _keep_operands(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2])
    ctx.start, ctx.method = inputs[2], inputs[5]


def _gradients(ctx, dy):
    f, g = ctx.saved_tensors
    df = _gradient(dy, f, g, ctx.start, ctx.method) if ctx.needs_input_grad[0] else None
    dg = _gradient(dy, g, f, ctx.start, ctx.method) if ctx.needs_input_grad[1] else None
    return df, dg, None, None, None, None


def _gradient(dy: torch.Tensor, operand: torch.Tensor, other: torch.Tensor, start: int, method: str) -> torch.Tensor:
    """Return ``d operand[m] = sum_i dy[i] conj(other[start + i - m])``, a window of a convolution with the flip."""
    lead = torch.broadcast_shapes(dy.shape[:-1], other.shape[:-1])
    summed = [axis for axis in range(-len(lead) - 1, -1) if operand.shape[axis] == 1 and lead[axis + 1] != 1]
    flipped = other.conj().flip(-1)
    begin, length = other.shape[-1] - 1 - start, operand.shape[-1]
    return convolve_window(dy, flipped, begin, length, summed, method).expand(operand.shape)


def _over_one_more_axis(info, in_dims, f, g, start, length, summed, method):
    f, g = (t.unsqueeze(0) if d is None else t.movedim(d, 0) for t, d in zip((f, g), in_dims, strict=False))
    return convolve_window(f, g, start, length, summed, method), 0


convolve_window.register_autograd(_gradients, setup_context=_keep_operands)
convolve_window.register_vmap(_over_one_more_axis)
_LIBRARY = torch.library.Library("konvlib", "FRAGMENT")
tiles.autocasts(_LIBRARY, "convolve_window", convolve_window)


@register_flop_formula(torch.ops.konvlib.convolve_window)
def _flops(f_shape, g_shape, start, length, summed, method, **_) -> int:
    """Two per product of the direct sum, whichever method computes it."""
    rows = math.prod(torch.broadcast_shapes(f_shape[:-1], g_shape[:-1]))
    return 2 * rows * length * min(f_shape[-1], g_shape[-1])


DIRECT_TAPS = {
    "cpu": dict.fromkeys(DTYPES, 32),
    "cuda": {
        torch.float16: 2000,
        torch.bfloat16: 2000,
        torch.float32: 500,
        torch.float64: 1000,
        torch.complex64: 128,
        torch.complex128: 128,
    },
}
"""Up to how many products per output (or input) ``auto`` takes the direct sum.

The CPU's figure is measured: on one core of an Intel Xeon (model 207), rows of 256 to 65536 samples, float32 and
float64, `conv1d` and the FFT take equally long at 15 to 127 taps. The figures for CUDA are estimates: where the
instruction counts of the kernels, compiled for Hopper, reach the 0.3 ms that an H100 takes to convolve 64 rows of 65536
samples with 8191 taps by FFT. They are still to be measured.
"""

BLOCK_TAPS, LEAST_BLOCK = 4, 2048
"""Overlap-add's transforms are 4 times as long as the taps, and 2048 at least; of 4, 8 and 16, measured as above."""


def _chosen_method(signal: torch.Tensor, taps: torch.Tensor, length: int) -> str:
    """Choose by sizes alone, so that the choice is known when the operator is captured in a graph."""
    samples, count = signal.shape[-1], taps.shape[-1]
    device = "cuda" if signal.is_cuda else "cpu"
    if min(count, length) <= DIRECT_TAPS[device][signal.dtype]:
        return "direct"
    return "overlap-add" if samples >= max(16 * count, 4 * LEAST_BLOCK) else "fft"


def _direct_aten(
    signal: torch.Tensor, taps: torch.Tensor, start: int, length: int, summed: Sequence[int]
) -> torch.Tensor:
    """The direct sum as a grouped `conv1d`: kept rows are groups, summed rows are channels."""
    shape, dtype, count = kernels.result_shape(signal, taps, length, summed), signal.dtype, taps.shape[-1]
    lead = kernels.lead_of(signal, taps)
    x, w = (kernels.grouped(t.to(tiles.sum_dtype(dtype)), lead, summed) for t in (signal, taps))
    if not taps.isfinite().all():
        return _tap_by_tap(x, w, start, length).to(dtype).reshape(shape)
    x = functional.pad(x, (count - 1 - start, start + length - x.shape[-1])).flatten(0, 1)
    w = w.flip(-1)
    outputs = max(1, 2**24 // w.numel())
    ends = ((i, min(i + outputs, length)) for i in range(0, length, outputs))
    parts = [functional.conv1d(x[:, i : j + count - 1], w, groups=w.shape[0]) for i, j in ends]
    return torch.cat(parts, -1).to(dtype).reshape(shape)


def _tap_by_tap(x: torch.Tensor, w: torch.Tensor, start: int, length: int) -> torch.Tensor:
    """The direct sum that multiplies no padding, where zero times a tap might be NaN."""
    y = x.new_zeros(*x.shape[:-1], length)
    for m in range(w.shape[-1]):
        first, last = max(0, m - start), min(length, x.shape[-1] + m - start)
        if first < last:
            y[..., first:last] += w[..., m : m + 1] * x[..., start + first - m : start + last - m]
    return y.sum(1)


def _repaired_aten(spectral, signal, taps, start, length, summed):
    """Rows that are not finite, by the direct sum; an FFT leaves no value of such a row finite."""
    wrong = ~spectral.isfinite().all(-1)
    if not wrong.any():
        return spectral
    if summed:
        return torch.where(wrong[..., None], _direct_aten(signal, taps, start, length, summed), spectral)
    signal, taps = (t.expand(*wrong.shape, t.shape[-1])[wrong] for t in (signal, taps))
    spectral[wrong] = _direct_aten(signal, taps, start, length, ()).to(spectral.dtype)
    return spectral


def _fft(signal, taps, start, length, summed):
    """Through one transform, just so long that what wraps around stays outside the window."""
    full = signal.shape[-1] + taps.shape[-1] - 1
    first, last = max(start, 0), min(start + length, full)
    size = scipy.fft.next_fast_len(max(last, full - first, signal.shape[-1]), real=True)
    y = _transformed(signal, taps, size, summed)[..., first:last]
    return functional.pad(y, (first - start, start + length - last)) if last - first < length else y


def _overlap_add(signal, taps, start, length, summed):
    """Through transforms of blocks of the signal; each result hangs over into the next block, and is added there."""
    samples, count = signal.shape[-1], taps.shape[-1]
    size = scipy.fft.next_fast_len(max(BLOCK_TAPS * count, LEAST_BLOCK), real=True)
    block = size - count + 1
    blocks = -(-samples // block)
    x = functional.pad(signal, (0, blocks * block - samples)).unflatten(-1, (blocks, block))
    part = _transformed(x, taps.unsqueeze(-2), size, [axis - 1 for axis in summed])
    y = functional.pad(part[..., :block], (0, 0, 0, 1))
    y[..., 1:, : size - block] += part[..., block:]
    return functional.pad(y.flatten(-2), (-start, start + length - (blocks + 1) * block))


def _transformed(f: torch.Tensor, g: torch.Tensor, size: int, summed: Sequence[int]) -> torch.Tensor:
    """Return the circular convolution of ``size`` samples."""
    f, g = (t.to(tiles.sum_dtype(t.dtype)) for t in (f, g))
    forward, inverse = (torch.fft.fft, torch.fft.ifft) if f.is_complex() else (torch.fft.rfft, torch.fft.irfft)
    product = forward(f, size) * forward(g, size)
    return inverse(product.sum(summed, keepdim=True) if summed else product, size)
