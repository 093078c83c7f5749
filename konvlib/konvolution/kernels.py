"""The Triton kernels that write an expanded input, and fold what comes back: for ways that do not fuse.

Both read and write each element once. The expanded channels of a group lie degree by degree, as an ordinary convolution
with ``kappa.flatten(1, 2)`` wants them.
"""

from __future__ import annotations

import torch

from konvlib import tiles
from konvlib.layers import memory as layout
from konvlib.layers.forward import Expansion
from konvlib.layers.polynomials import polynomial, slope, squashed
from konvlib.tiles import tl

BLOCK = 512


@tiles.jit(do_not_specialize=["elements"])
def _expand_kernel(
    z, x, elements, inner, DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, SUM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """All degrees of ``BLOCK`` samples; the degrees of a sample lie ``inner`` apart."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = at < elements
    t = squashed(tl.load(x + at, mask=keep, other=0).to(SUM), SQUASH)
    out = z + (at // inner * (DEGREES * inner) + at % inner)
    for degree in tl.static_range(1, DEGREES + 1):
        tl.store(out + (degree - 1) * inner, polynomial(t, degree, BASIS).to(z.dtype.element_ty), mask=keep)


@tiles.jit(do_not_specialize=["elements"])
def _contract_kernel(
    dx, dz, x, elements, inner, DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, SUM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of ``BLOCK`` samples: over the degrees, the gradient of each times its slope at the sample."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = at < elements
    sample = tl.load(x + at, mask=keep, other=0).to(SUM)
    grads = dz + (at // inner * (DEGREES * inner) + at % inner)
    total = tl.zeros((BLOCK,), SUM)
    for degree in tl.static_range(1, DEGREES + 1):
        grad = tl.load(grads + (degree - 1) * inner, mask=keep, other=0).to(SUM)
        total += grad * slope(sample, degree, BASIS, SQUASH)
    tl.store(dx + at, total.to(dx.dtype.element_ty), mask=keep)


def expand(x: torch.Tensor, expansion: Expansion, groups: int) -> torch.Tensor:
    """The degrees of the squashed input, from 1 on, as channels ``(N, degrees * C, *size)``, by the kernel.

    Examples
    --------
    >>> with tiles.interpreted():
    ...     expand(torch.tensor([[[2.0, 3.0]]]), Expansion(2, "chebyshev"), groups=1)
    tensor([[[ 2.,  3.],
             [ 7., 17.]]])
    """
    x = _dense(x)
    z = layout.empty(x, (x.shape[0], expansion.degrees * x.shape[1], *x.shape[2:]))
    _launch(_expand_kernel, (z, x), x, expansion, groups)
    return z


def contract(dz: torch.Tensor, x: torch.Tensor, expansion: Expansion, groups: int) -> torch.Tensor:
    """The gradient by the input, in its layout, from the gradient by the expanded input, by the kernel.

    Examples
    --------
    >>> with tiles.interpreted():
    ...     contract(torch.ones(1, 2, 2), torch.tensor([[[2.0, 3.0]]]), Expansion(2, "chebyshev"), groups=1)
    tensor([[[ 9., 13.]]])
    """
    x = _dense(x)
    dx, like = layout.empty(x, x.shape), layout.empty(x, dz.shape)
    dz = dz if dz.stride() == like.stride() else like.copy_(dz)
    _launch(_contract_kernel, (dx, dz, x), x, expansion, groups)
    return dx


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x if layout.is_channels_last(x) and x.movedim(1, -1).is_contiguous() else x.contiguous()


def _launch(kernel, tensors, x: torch.Tensor, expansion: Expansion, groups: int) -> None:
    if not x.numel():
        return
    inner = x.shape[1] // groups * (1 if layout.is_channels_last(x) else x[0, 0].numel())
    with tiles.on_device_of(x):
        kernel[(-(-x.numel() // BLOCK),)](
            *tensors, x.numel(), inner, DEGREES=expansion.degrees, BASIS=expansion.basis, SQUASH=expansion.squash,
            SUM=tiles.sum_type(x), BLOCK=BLOCK,
        )  # fmt: skip
