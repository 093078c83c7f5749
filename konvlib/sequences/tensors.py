"""Convolution and correlation of sequences on tensors: Triton kernels on CUDA, ATen elsewhere.

Everything is one operator, `convolve_window`, a window of the full convolution of ``f`` and ``g``:

.. math:: y[i] = \\sum_m f[m]\\, g[\\text{start} + i - m], \\qquad 0 \\le i < \\text{length},

with zeros outside both sequences. The modes are windows; a correlation is the convolution with the second operand
flipped and conjugated; and so is the gradient of the operator, which makes it closed under differentiation.

Halves are summed in float32 and rounded once. Under autocast the sum is computed in autocast's dtype, as in
`torch.nn.functional.conv1d`. The result is contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from konvlib.checks import planned_tensors
from konvlib.geometry import ResampleGeometry, SequenceGeometry, WholeGeometry, boundary_places
from konvlib.geometry.arguments import METHODS, one_of
from konvlib.geometry.memory import check_memory
from konvlib.geometry.sequences import sequence_batch
from konvlib.registration import Operator, check_sizes_may_stay
from konvlib.runtime import COMPLEX, REALS, sum_dtype
from konvlib.sequences import aten, composites, kernels

DTYPES = (*REALS, *COMPLEX)


def convolve(f: Tensor, g: Tensor, part: SequenceGeometry) -> Tensor:
    """Convolve two tensors along their last axis.

    Examples
    --------
    >>> from konvlib.geometry import convolution_geometry
    >>> f, g = torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1])
    >>> convolve(f, g, convolution_geometry(f.shape, g.shape, mode="full", method="auto"))
    tensor([ 2.,  7.,  6., -1.,  6.,  4., -4.])
    """
    f, g = _aligned(_extended(f, part), g)
    return convolve_window(f, g, part.start, part.length, [], part.method)


def correlate(f: Tensor, g: Tensor, part: SequenceGeometry) -> Tensor:
    """Correlate two tensors along their last axis, the second conjugated.

    Examples
    --------
    >>> from konvlib.geometry import correlation_geometry
    >>> f, g = torch.tensor([1.0, 3, 2, 0, 4]), torch.tensor([2.0, 1, -1])
    >>> correlate(f, g, correlation_geometry(f.shape, g.shape, mode="valid", method="auto"))
    tensor([3., 8., 0.])
    """
    f, g = _aligned(_extended(f, part), g)
    return convolve_window(f, g.conj().flip(-1), part.start, part.length, [], part.method)


def normalized_correlation(f: Tensor, g: Tensor, part: SequenceGeometry) -> Tensor:
    """Correlate, each lag divided by the norms of the window of f and of g; 0 where one of them is.

    Examples
    --------
    >>> from konvlib.geometry import correlation_geometry
    >>> f, g = torch.tensor([3.0, 4, 0, 0]), torch.tensor([3.0, 4])
    >>> normalized_correlation(f, g, correlation_geometry((4,), (2,), mode="valid", method="auto"))
    tensor([1.0000, 0.6000, 0.0000])
    """
    dtype = f.dtype
    f, g = (t.to(sum_dtype(t.dtype)) for t in _aligned(f, g))
    return composites.normalized_correlation(f, g, part, correlate).to(dtype)


def resample(x: Tensor, h: Tensor, part: ResampleGeometry) -> Tensor:
    """Upsample, convolve, downsample, by branches without zeros.

    Examples
    --------
    >>> from konvlib.geometry import resample_geometry
    >>> x, h = torch.tensor([1.0, 3, 2]), torch.tensor([1.0, 1])
    >>> resample(x, h, resample_geometry((3,), (2,), up=2, down=1, axis=-1))
    tensor([1., 1., 3., 3., 2., 2.])
    """
    return composites.resample(*_aligned(x, h), part, convolve_window)


def convolve_nd(f: Tensor, g: Tensor, part: WholeGeometry) -> Tensor:
    """Convolve two tensors along all their axes, by the method asked for.

    Examples
    --------
    >>> from konvlib.geometry import whole_geometry
    >>> f, g = torch.tensor([[1.0, 3], [2, 0]]), torch.tensor([[1.0, 10]])
    >>> convolve_nd(f, g, whole_geometry(f.shape, g.shape, mode="full", method="auto"))
    tensor([[ 1., 13., 30.],
            [ 2., 20.,  0.]])
    """
    return composites.convolve_nd(f, g, part, convolve_window)


def _extended(f: Tensor, part: SequenceGeometry) -> Tensor:
    """The first sequence with what its boundary shows around it."""
    if part.boundary == "zeros":
        return f
    places = torch.arange(part.before, part.before + part.n, device=f.device)
    return (f if f.dim() else f[None]).index_select(-1, boundary_places(places, part.samples, part.boundary))


def _aligned(f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Both with equally many axes, one at least."""
    axes = max(f.dim(), g.dim(), 1)
    return f[(None,) * (axes - f.dim())] if f.dim() < axes else f, g[
        (None,) * (axes - g.dim())
    ] if g.dim() < axes else g


class Window(NamedTuple):
    """What the operator computes of the full convolution, and how."""

    start: int
    length: int
    summed: tuple[int, ...]
    method: str


def _check(f: Tensor, g: Tensor, start: int, length: int, summed: Sequence[int], method: str) -> Window:
    check_sizes_may_stay()
    return planned_tensors(
        DTYPES, _window, {"f": f, "g": g}, {"start": start, "length": length, "summed": tuple(summed), "method": method}
    )


def _window(
    f_shape: Sequence[int], g_shape: Sequence[int], start: int, length: int, summed: tuple[int, ...], method: str
) -> Window:
    axes = len(f_shape)
    if not axes or len(g_shape) != axes:
        shapes = f"{tuple(f_shape)} and {tuple(g_shape)}"
        raise ValueError(f"f and g must have equally many axes, one at least, got shapes {shapes}")
    batch = sequence_batch(f_shape, g_shape)
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    check_memory(4 * math.prod(batch) * length, (), ("f", "g", "length"))
    if len(set(summed)) < len(summed) or any([not -axes <= axis < -1 for axis in summed]):
        fits = f"different leading axes, from {-axes} to -2" if axes > 1 else "empty, since there are no leading axes"
        raise ValueError(f"summed must be {fits}, got {list(summed)}")
    return Window(start, length, summed, one_of(method, "method", METHODS))


def _run(f: Tensor, g: Tensor, window: Window) -> Tensor:
    """The operator by its kernels; a transform is torch's own, and what it spread is mended by a kernel.

    That kernel looks for NaN and infinity itself, so that the host never waits for the device.
    """
    start, length, summed, method = window
    if aten.is_empty(f, g, start, length):
        return f.new_zeros(aten.result_shape(f, g, length, summed))
    signal, taps = (f, g) if f.shape[-1] >= g.shape[-1] else (g, f)
    chosen = aten.choose_method(signal, taps, length, f.dtype) if method == "auto" else method
    if chosen == "direct":
        return kernels.direct(signal, taps, start, length, summed)
    transform = aten.fft if chosen == "fft" else aten.overlap_add
    spectral = transform(signal, taps, start, length, summed)
    if method == "auto":
        spectral = kernels.repaired(spectral, signal, taps, start, length, summed)
    return spectral.to(f.dtype).contiguous()


def _fake(f: Tensor, g: Tensor, window: Window) -> Tensor:
    return f.new_empty(aten.result_shape(f, g, window.length, window.summed))


def _gradients(dy, needs, tensors, kept, rest, plan):
    f, g = tensors
    start, _, _, method = rest
    df = _gradient(dy, f, g, start, method) if needs[0] else None
    return df, _gradient(dy, g, f, start, method) if needs[1] else None


def _gradient(dy: Tensor, operand: Tensor, other: Tensor, start: int, method: str) -> Tensor:
    """Return ``d operand[m] = sum_i dy[i] conj(other[start + i - m])``, a window of a convolution with the flip."""
    lead = aten.lead_of(dy, other)
    summed = [axis for axis in range(-len(lead) - 1, -1) if operand.shape[axis] == 1 and lead[axis + 1] != 1]
    flipped = other.conj().flip(-1)
    begin, length = other.shape[-1] - 1 - start, operand.shape[-1]
    return convolve_window.below(dy, flipped, begin, length, summed, method).expand(operand.shape)


convolve_window = Operator(
    "convolve_window(Tensor f, Tensor g, SymInt start, SymInt length, int[] summed, str method) -> Tensor",
    tensors=2,
    check=_check,
    kernel=_run,
    composite=lambda f, g, window: aten.convolve_window(f, g, *window),
    fake=_fake,
    gradients=_gradients,
)
"""``convolve_window(f, g, start, length, summed, method)``: a window of the convolution, summed over some leading axes.

``f`` and ``g`` have equally many axes, and leading axes that broadcast; ``summed`` are leading axes, counted from the
end, over which the result is summed, and where it keeps one entry.
"""


@register_flop_formula(convolve_window.packet)
def _flops(f_shape, g_shape, start, length, summed, method, **_) -> int:
    """Two per product of the direct sum, whichever method computes it."""
    rows = math.prod(torch.broadcast_shapes(f_shape[:-1], g_shape[:-1]))
    return 2 * rows * length * min(f_shape[-1], g_shape[-1])
