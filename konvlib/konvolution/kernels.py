"""The Triton kernels that write an expanded input, and fold what comes back: for ways that do not fuse.

Both read and write each element once. The expanded channels of a group lie degree by degree, as an ordinary convolution
with ``kappa.flatten(1, 2)`` wants them.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch

from konvlib import runtime
from konvlib.layers import memory
from konvlib.layers.bound import launch
from konvlib.layers.polynomials import Expansion, next_degree, polynomial, slope, squashed
from konvlib.runtime import cdiv, power_of_2, tl

WIDEST = 16
"""The bytes of the widest access. What is read so is known from ``VECTOR``, the unit in which steps are counted."""


@runtime.jit(do_not_specialize=["vectors", "stride_degree"])
def expand_kernel(
    z_ptr, x_ptr, vectors, stride_degree,
    DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, ACC_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """z[k] = p_k(squash(x)) for all degrees k from 1 on, of BLOCK samples."""
    # The samples of this program.
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask, step = offs < tl.cast(vectors, tl.int64) * VECTOR, tl.cast(stride_degree, tl.int64) * VECTOR
    t = squashed(tl.load(x_ptr + offs, mask=mask, other=0).to(ACC_DTYPE), SQUASH)
    # Their first degree: the channels of a group, then those of its next degree, a step further on.
    z = z_ptr + (offs // step * (DEGREES * step) + offs % step)
    for degree in tl.static_range(1, DEGREES + 1):
        p = polynomial(t, degree, BASIS)
        tl.store(z + (degree - 1) * step, p.to(z_ptr.dtype.element_ty), mask=mask)


@runtime.jit(do_not_specialize=["pixels", "vectors"])
def expand_pixels_kernel(
    z_ptr, x_ptr, pixels, vectors,
    DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, ACC_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The same in channels last and one group: BLOCK_M pixels, BLOCK_N channels of each."""
    # The pixels and the channels of this program.
    channels = vectors * VECTOR
    blocks = tl.cdiv(channels, BLOCK_N)
    offs_m = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (offs_m < pixels)[:, None] & (offs_n < channels)[None, :]
    x = tl.load(x_ptr + ((offs_m * channels)[:, None] + offs_n[None, :]), mask=mask, other=0)
    t = squashed(x.to(ACC_DTYPE), SQUASH)
    # Each degree of a pixel follows the one before; every degree by one step of the recurrence.
    z = z_ptr + ((offs_m * (DEGREES * channels))[:, None] + offs_n[None, :])
    before = tl.full(t.shape, 1.0, t.dtype)
    now = 2.0 * t if BASIS == "chebyshev2" else t
    for degree in tl.static_range(1, DEGREES + 1):
        tl.store(z + (degree - 1) * channels, now.to(z_ptr.dtype.element_ty), mask=mask)
        after = next_degree(t * now, degree, before, BASIS)
        before = now
        now = after


@runtime.jit(do_not_specialize=["vectors", "stride_degree"])
def contract_kernel(
    dx_ptr, dz_ptr, x_ptr, vectors, stride_degree,
    DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr, ACC_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dx = sum_k dz[k] p_k'(x), the polynomials those of the squashed sample, of BLOCK samples."""
    # The samples of this program.
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask, step = offs < tl.cast(vectors, tl.int64) * VECTOR, tl.cast(stride_degree, tl.int64) * VECTOR
    x = tl.load(x_ptr + offs, mask=mask, other=0).to(ACC_DTYPE)
    # The gradients by their first degree: those by the next lie a step further on.
    dz = dz_ptr + (offs // step * (DEGREES * step) + offs % step)
    acc = tl.zeros((BLOCK,), ACC_DTYPE)
    for degree in tl.static_range(1, DEGREES + 1):
        grad = tl.load(dz + (degree - 1) * step, mask=mask, other=0).to(ACC_DTYPE)
        acc += grad * slope(x, degree, BASIS, SQUASH)
    tl.store(dx_ptr + offs, acc.to(dx_ptr.dtype.element_ty), mask=mask)


def expand(x: torch.Tensor, expansion: Expansion, groups: int) -> torch.Tensor:
    """The degrees of the squashed input, from 1 on, as channels ``(N, degrees * C, *size)``, by the kernel.

    Examples
    --------
    >>> with runtime.interpreted():
    ...     expand(torch.tensor([[[2.0, 3.0]]]), Expansion(2, "chebyshev"), groups=1)
    tensor([[[ 2.,  3.],
             [ 7., 17.]]])
    """
    x = _dense(x)
    z = memory.empty(x, (x.shape[0], expansion.degrees * x.shape[1], *x.shape[2:]))
    if not x.numel():
        return z
    with runtime.on_device_of(x):
        if groups == 1 and memory.is_channels_last(x):
            launch(expand_pixels_kernel, _launched_pixels, (expansion,), z, x)
        else:
            launch(expand_kernel, _launched, (("z_ptr", "x_ptr"), expansion, groups), z, x)
    return z


def contract(dz: torch.Tensor, x: torch.Tensor, expansion: Expansion, groups: int) -> torch.Tensor:
    """The gradient by the input, in its layout, from the gradient by the expanded input, by the kernel.

    Examples
    --------
    >>> with runtime.interpreted():
    ...     contract(torch.ones(1, 2, 2), torch.tensor([[[2.0, 3.0]]]), Expansion(2, "chebyshev"), groups=1)
    tensor([[[ 9., 13.]]])
    """
    x = _dense(x)
    dx, like = memory.empty(x, x.shape), memory.empty(x, dz.shape)
    dz = dz if dz.stride() == like.stride() else like.copy_(dz)
    if x.numel():
        with runtime.on_device_of(x):
            launch(contract_kernel, _launched, (("dx_ptr", "dz_ptr", "x_ptr"), expansion, groups), dx, dz, x)
    return dx


def block_of(x: torch.Tensor) -> int:
    """How many samples a program takes: 16 bytes for each of its threads, but for doubles, twice as many.

    Examples
    --------
    >>> block_of(torch.ones(1)), block_of(torch.ones(1).half())
    (512, 1024)
    """
    return 128 * max(4, WIDEST // x.element_size())


def _launched_pixels(expansion: Expansion, z: torch.Tensor, x: torch.Tensor) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments."""
    channels = x.shape[1]
    block_n, vector = min(256, power_of_2(channels)), _vector_of(x, channels)
    block_m, pixels = 2048 // block_n, x.numel() // channels
    given = {"z_ptr": z, "x_ptr": x, "pixels": pixels, "vectors": channels // vector, **_told(expansion, x, vector)}
    return (cdiv(pixels, block_m) * cdiv(channels, block_n),), given | {"BLOCK_M": block_m, "BLOCK_N": block_n}


def _told(expansion: Expansion, x: torch.Tensor, vector: int) -> dict[str, Any]:
    told = {"DEGREES": expansion.degrees, "BASIS": expansion.basis, "SQUASH": expansion.squash}
    return told | {"ACC_DTYPE": runtime.sum_type(x), "VECTOR": vector}


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x if memory.is_channels_last(x) and x.movedim(1, -1).is_contiguous() else x.contiguous()


def _vector_of(x: torch.Tensor, together: int) -> int:
    """How many samples are read or written at a time: 16 bytes, where each degree has whole ones."""
    return gcd(WIDEST // x.element_size(), together)


def _launched(
    names: tuple[str, ...], expansion: Expansion, groups: int, *tensors: torch.Tensor
) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the arguments; the last tensor is the input."""
    x = tensors[-1]
    together = x.shape[1] // groups * (1 if memory.is_channels_last(x) else x[0, 0].numel())
    vector, block, given = _vector_of(x, together), block_of(x), dict(zip(names, tensors, strict=True))
    given |= {"vectors": x.numel() // vector, "stride_degree": together // vector, "BLOCK": block}
    return (cdiv(x.numel(), block),), given | _told(expansion, x, vector)
