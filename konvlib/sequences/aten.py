"""A window of a convolution by ATen, PyTorch's own library: what tensors get on the CPU.

It is a composite of ATen's operations, so torch differentiates, batches and traces it as it does those. NaN and
infinity stay where the direct sum has them: a transform goes without them, and what they reach is set afterwards. Where
the values are not to be seen, because torch traces or batches the call, what they reach is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry.arguments import is_symbol
from konvlib.registration import is_plain, lowered, lowers
from konvlib.runtime import COMPLEX, REALS, sum_dtype
from konvlib.sequences.aten_repairs import Repaired, reaching

DIRECT_TAPS = {
    "cpu": dict.fromkeys((*REALS, *COMPLEX), 32),
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
float64, `conv1d` and the FFT take equally long at 15 to 127 taps. The figures for CUDA assume that an H100 takes 0.3 ms
to convolve 64 rows of 65536 samples with 8191 taps by FFT, and that the kernels, compiled for Hopper, take as long as
their instructions do.
"""

BLOCK_TAPS, LEAST_BLOCK = 4, 2048
"""Overlap-add's transforms are 4 times as long as the taps, and 2048 at least; of 4, 8 and 16, measured as above."""

MOST_COLUMNS = 2**24
"""Products that ATen's `conv1d`, which may write all of them out, is given at once."""


def convolve_window(f: Tensor, g: Tensor, start: int, length: int, summed: Sequence[int], method: str) -> Tensor:
    """Return ``length`` values of the convolution of ``f`` and ``g`` from ``start`` on, summed over some leading axes.

    Examples
    --------
    >>> f, g = torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1])
    >>> convolve_window(f, g, 2, 3, [], "auto")
    tensor([ 6., -1.,  6.])
    """
    if lowers(f) or lowers(g):
        return lowered(convolve_window, f.device.type, (f, g, start, length, summed, method))
    dtype, wide = f.dtype, sum_dtype(f.dtype)
    if dtype != wide:
        f, g = f.to(wide), g.to(wide)
    if is_empty(f, g, start, length):
        # Zeros, as sums over no samples, so that derivatives find their way through them.
        y = (f[..., :0].sum(-1, keepdim=True) * g[..., :0].sum(-1, keepdim=True)).expand(*lead_of(f, g), length)
    else:
        signal, taps = (f, g) if f.shape[-1] >= g.shape[-1] else (g, f)
        chosen = choose_method(signal, taps, length, dtype) if method == "auto" else method
        compute = {"direct": _direct, "fft": fft, "overlap-add": overlap_add}[chosen]
        window = (signal, taps, start, length)
        y = _repaired(compute, *window) if method == "auto" and chosen != "direct" else compute(*window)
    if summed:
        y = y.sum(summed, keepdim=True)
    return y.to(dtype).contiguous()


def is_empty(f: Tensor, g: Tensor, start: int, length: int) -> bool:
    """Whether there is nothing to compute: no row, or a window outside of the full convolution.

    Examples
    --------
    >>> f, g = torch.ones(5), torch.ones(2)
    >>> is_empty(f, g, 5, 3), is_empty(f, g, 6, 3)
    (False, True)
    """
    return 0 in f.shape or 0 in g.shape or start >= f.shape[-1] + g.shape[-1] - 1 or start + length <= 0


def choose_method(signal: Tensor, taps: Tensor, length: int, dtype: torch.dtype) -> str:
    """Choose by sizes alone, so that the choice is known when a call is captured in a graph.

    Examples
    --------
    >>> [choose_method(torch.ones(9000), torch.ones(m), 9000, torch.float32) for m in (9, 99, 8000)]
    ['direct', 'overlap-add', 'fft']
    """
    samples, count = signal.shape[-1], taps.shape[-1]
    if min(count, length) <= DIRECT_TAPS["cuda" if signal.is_cuda else "cpu"][dtype]:
        return "direct"
    return "overlap-add" if samples >= max(16 * count, 4 * LEAST_BLOCK) else "fft"


def _direct(signal: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """The direct sum; padding is no term of it."""
    before, after = taps.shape[-1] - 1 - start, start + length - signal.shape[-1]
    pads, seen = before > 0 or after > 0, is_plain(signal, taps)
    if pads and not seen:
        clean = torch.where(taps.isfinite(), taps, 0)
        reached = _reached(taps, signal.shape[-1], start, length)
        return _with_nan(_conv1d(signal, clean, before, after, seen), reached)
    # Zero, the padding, times an infinite tap would be NaN. A finite sum tells that all taps are finite.
    if pads and not (math.isfinite(abs(taps.sum().item())) or taps.isfinite().all()):
        return _tap_by_tap(signal, taps, start, length)
    return _conv1d(signal, taps, before, after, seen)


def _conv1d(signal: Tensor, taps: Tensor, before: int, after: int, seen: bool) -> Tensor:
    """The direct sum as a `conv1d` in which each row is a group, which is quicker than a batch of rows.

    The signal is padded by hand, or cropped where ``before`` or ``after`` is negative; ATen's own padding is slower.
    """
    lead, count = lead_of(signal, taps), taps.shape[-1]
    rows = math.prod(lead)
    x = functional.pad(signal, (before, after)) if before or after else signal
    if is_symbol(rows) and torch.compiler.is_exporting():
        return _conv1d_of_any_rows(x, taps, lead)
    x = x.expand(*lead, -1).reshape(rows, -1)
    w = taps.flip(-1).expand(*lead, -1).reshape(rows, 1, count)
    length = x.shape[-1] - count + 1
    if not seen or rows * count * length <= MOST_COLUMNS:
        return torch.conv1d(x.unsqueeze(0), w, groups=rows).reshape(*lead, length)
    step = max(1, MOST_COLUMNS // (rows * count))
    parts = [torch.conv1d(x[None, :, i : i + step + count - 1], w, groups=rows) for i in range(0, length, step)]
    return torch.cat(parts, -1).reshape(*lead, length)


def _conv1d_of_any_rows(x: Tensor, taps: Tensor, lead: tuple[int, ...]) -> Tensor:
    """The direct sum without groups, of which a model of ONNX has a fixed number, for a number of rows that is free."""
    count = taps.shape[-1]
    length = x.shape[-1] - count + 1
    if all([size == 1 for size in taps.shape[:-1]]):  # the same taps for all rows: a batch of rows
        x = x.expand(*lead, -1).reshape(-1, 1, x.shape[-1])
        return torch.conv1d(x, taps.flip(-1).reshape(1, 1, count)).reshape(*lead, length)
    places = torch.arange(length, device=x.device)[:, None] + torch.arange(count, device=x.device)
    return (x[..., places] @ taps.flip(-1).unsqueeze(-1)).squeeze(-1)


def _tap_by_tap(signal: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """The direct sum that multiplies no padding, where zero times a tap might be NaN."""
    samples = signal.shape[-1]
    y = signal.new_zeros(*lead_of(signal, taps), length)
    for m in range(taps.shape[-1]):
        first, last = max(0, m - start), min(length, samples + m - start)
        if first < last:
            y[..., first:last] += taps[..., m : m + 1] * signal[..., start + first - m : start + last - m]
    return y


def _repaired(transform: Callable[..., Tensor], signal: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """The convolution by a transform, with NaN and infinity where the direct sum has them."""
    if not is_plain(signal, taps):
        reached = _reached(signal, taps.shape[-1], start, length) | _reached(taps, signal.shape[-1], start, length)
        clean = (torch.where(t.isfinite(), t, 0) for t in (signal, taps))
        return _with_nan(transform(*clean, start, length), reached)
    y = transform(signal, taps, start, length)
    if y.detach().isfinite().all():  # else a sample is not finite, or a spectrum overflows
        return y
    return Repaired.apply(signal, taps, start, length, (transform, _gradient))


def _gradient(dy: Tensor, operand: Tensor, other: Tensor, start: int) -> Tensor:
    """Return ``d operand[m] = sum_i dy[i] conj(other[start + i - m])``, a window of a convolution with the flip."""
    lead = lead_of(dy, other)
    summed = [axis for axis in range(-len(lead) - 1, -1) if operand.shape[axis] == 1 and lead[axis + 1] != 1]
    begin, length = other.shape[-1] - 1 - start, operand.shape[-1]
    return convolve_window(dy, other.conj().flip(-1), begin, length, summed, "auto").expand(operand.shape)


def _reached(tensor: Tensor, others: int, start: int, length: int) -> Tensor:
    """Whether a value of the window is a sum with an entry that is not finite; the other operand has ``others``."""
    return reaching(~tensor.isfinite(), others, start, length) > 0


def _with_nan(y: Tensor, places: Tensor) -> Tensor:
    """Add NaN at some places, and zero elsewhere: derivatives are those of ``y``."""
    return y + torch.where(places, y.new_full((), math.nan), y.new_zeros(()))


def fft(signal: Tensor, taps: Tensor, start: int, length: int, summed: Sequence[int] = ()) -> Tensor:
    """Through one transform, just so long that what wraps around stays outside the window.

    Examples
    --------
    >>> fft(torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1]), 2, 3).round()
    tensor([ 6., -1.,  6.])
    """
    full = signal.shape[-1] + taps.shape[-1] - 1
    first, last = max(start, 0), min(start + length, full)
    size = _quick_size(max(last, full - first, signal.shape[-1]))
    y = _circular(signal, taps, size, summed)[..., first:last]
    return functional.pad(y, (first - start, start + length - last)) if last - first < length else y


def overlap_add(signal: Tensor, taps: Tensor, start: int, length: int, summed: Sequence[int] = ()) -> Tensor:
    """Through transforms of blocks of the signal; each result hangs over into the next block, and is added there.

    Examples
    --------
    >>> overlap_add(torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1]), 2, 3).round()
    tensor([ 6., -1.,  6.])
    """
    samples, count = signal.shape[-1], taps.shape[-1]
    size = _quick_size(max(BLOCK_TAPS * count, LEAST_BLOCK))
    block = size - count + 1
    blocks = -(-samples // block)
    x = functional.pad(signal, (0, blocks * block - samples)).unflatten(-1, (blocks, block))
    part = _circular(x, taps.unsqueeze(-2), size, [axis - 1 for axis in summed])
    y = functional.pad(part[..., :block], (0, 0, 0, 1))
    over = functional.pad(part[..., block:], (0, block - (count - 1), 1, 0))
    return functional.pad((y + over).flatten(-2), (-start, start + length - (blocks + 1) * block))


def _quick_size(least: int) -> int:
    """A length of transforms that is quick; where torch traces for lengths of any size, a multiple of 64."""
    if torch.compiler.is_compiling() or type(least) is not int:
        return -(-least // 64) * 64
    return scipy.fft.next_fast_len(least, real=True)


def _circular(f: Tensor, g: Tensor, size: int, summed: Sequence[int]) -> Tensor:
    """Return the circular convolution of ``size`` samples, summed over some axes."""
    f, g = (t.to(sum_dtype(t.dtype)) for t in (f, g))
    forward, inverse = (torch.fft.fft, torch.fft.ifft) if f.is_complex() else (torch.fft.rfft, torch.fft.irfft)
    product = forward(f, size) * forward(g, size)
    return inverse(product.sum(summed, keepdim=True) if summed else product, size)


def lead_of(f: Tensor, g: Tensor) -> tuple[int, ...]:
    """The leading axes of the two together; both have equally many.

    Examples
    --------
    >>> lead_of(torch.ones(3, 1, 5), torch.ones(1, 4, 2))
    (3, 4)
    """
    return tuple([b if a == 1 else a for a, b in zip(f.shape[:-1], g.shape[:-1], strict=True)])


def result_shape(f: Tensor, g: Tensor, length: int, summed: Sequence[int]) -> list[int]:
    """The shape of a window of ``length`` values, summed over some leading axes, counted from the end.

    Examples
    --------
    >>> result_shape(torch.ones(3, 5), torch.ones(3, 2), 6, [-2])
    [1, 6]
    """
    shape = [*lead_of(f, g), length]
    for axis in summed:
        shape[axis] = 1
    return shape
