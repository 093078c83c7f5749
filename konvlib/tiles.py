"""What the GPU rooms share: when a kernel runs, how it is launched, and how an operator meets autocast.

Triton may be missing (it has no macOS build): then ``triton`` and ``tl`` are None, kernels are never launched, and
every operator runs its ATen implementation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether CPU tensors run through the kernels too, in Triton's interpreter, instead of ATen."""

HALVES = (torch.float16, torch.bfloat16)
REALS = (*HALVES, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return `triton.jit` with options as a decorator, or one that changes nothing where Triton is missing."""
    return (lambda function: function) if triton is None else triton.jit(**options)


def runs_kernel(tensor: torch.Tensor) -> bool:
    """Whether an operator launches its Triton kernel on this tensor.

    On CUDA it does wherever Triton is installed; on the CPU only in Triton's interpreter.
    """
    return triton is not None and (tensor.is_cuda or INTERPRET)


def on_device_of(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Make the tensor's device the current one, where a kernel is launched, for the length of a ``with`` block."""
    return torch.cuda.device_of(tensor) if tensor.is_cuda else nullcontext()


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums of this dtype are taken: float32 for the halves, else the dtype itself."""
    return torch.float32 if dtype in HALVES else dtype


def power_of_2(size: int) -> int:
    """Return the smallest power of two that is at least ``size``.

    Examples
    --------
    >>> power_of_2(1), power_of_2(5)
    (1, 8)
    """
    return 1 << max(size - 1, 0).bit_length()


def autocasts(library: torch.library.Library, name: str, operator: Callable[..., torch.Tensor]) -> None:
    """Make an operator compute in autocast's dtype, as `torch.nn.functional.conv1d` does.

    `torch.library.register_autocast` knows one dtype per device; here the dtype is the one that the user chose. As in
    PyTorch, float64 and complex tensors are left alone.
    """
    for device, key in (("cuda", "AutocastCUDA"), ("cpu", "AutocastCPU")):
        library.impl(name, _lowered(operator, device), key)


def lowers(tensor: torch.Tensor) -> bool:
    """Whether autocast is on and would change the dtype in which this tensor is computed with."""
    kind = tensor.device.type
    return tensor.dtype in (*HALVES, torch.float32) and kind in ("cuda", "cpu") and torch.is_autocast_enabled(kind)


def _lowered(operator: Callable[..., torch.Tensor], device: str) -> Callable[..., torch.Tensor]:
    def under_autocast(*arguments: Any) -> torch.Tensor:
        dtype = torch.get_autocast_dtype(device)
        cast = [a.to(dtype) if isinstance(a, torch.Tensor) and lowers(a) else a for a in arguments]
        with torch.autocast(device, enabled=False):
            return operator(*cast)

    return under_autocast
