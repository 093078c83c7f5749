"""Where tensors are computed and how kernels are launched: devices, Triton's interpreter, the dtypes of sums.

Triton may be missing (it has no macOS build): then ``triton`` and ``tl`` are None, kernels are never launched, and
everything runs by ATen, PyTorch's own library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch

try:
    import triton
    import triton.language as tl
    from triton.runtime.errors import OutOfResources
except ImportError:
    triton = tl = None
    OutOfResources = RuntimeError

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia import hopper
except ImportError:
    gluon = gl = hopper = None

barrier = getattr(gl, "barrier", None) or getattr(gl, "thread_barrier", None)  # as Triton 3.6 calls it

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether CPU tensors run through the kernels too, in Triton's interpreter, instead of ATen."""

SHARDED: tuple[type, ...] = ()
"""The type of tensors over processes, once `konvlib.scale.register` was called: they are computed by operators."""


def check_shards(name: str, tensors: Any) -> None:
    """Check that meshes divide what they shard; `konvlib.scale.register` puts the real one here."""


def replicated(constants: Any, like: Any) -> Any:
    """Return a plan's constants on the mesh of a tensor; `konvlib.scale.register` puts the real one here."""
    return constants


HALVES = (torch.float16, torch.bfloat16)
REALS = (*HALVES, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return `triton.jit` with options as a decorator, or one that changes nothing where Triton is missing."""
    return (lambda function: function) if triton is None else triton.jit(**options)


def gluon_jit(**options: Any) -> Callable[[Any], Any]:
    """Return `gluon.jit` with options as a decorator, or one that changes nothing where Gluon is missing."""
    return (lambda function: function) if gluon is None else gluon.jit(**options)


def runs_kernel(tensor: torch.Tensor) -> bool:
    """Whether an operator launches its Triton kernel on this tensor.

    On CUDA it does wherever Triton is installed; on the CPU only in Triton's interpreter. Tensors over processes always
    come to the operator, which asks again for the shards.
    """
    return (triton is not None and (tensor.is_cuda or INTERPRET)) or type(tensor) in SHARDED


@lru_cache(64)
def is_hopper(device: torch.device) -> bool:
    """Return whether a CUDA device is of the generation that the kernels in Gluon are written for."""
    return torch.cuda.get_device_capability(device) == (9, 0)


def on_device_of(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Make the tensor's device the current one, where a kernel is launched, for the length of a ``with`` block."""
    return torch.cuda.device_of(tensor) if tensor.is_cuda else nullcontext()


def cdiv(size: int, block: int) -> int:
    """Return how many blocks cover a size: the quotient, rounded up.

    Examples
    --------
    >>> cdiv(7, 3)
    3
    """
    return -(-size // block)


def power_of_2(size: int) -> int:
    """Return the smallest power of two that is at least ``size``.

    Examples
    --------
    >>> power_of_2(1), power_of_2(5)
    (1, 8)
    """
    return 1 << max(size - 1, 0).bit_length()


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums of this dtype are taken: float32 for the halves, else the dtype itself."""
    return torch.float32 if dtype in HALVES else dtype


def sum_type(tensor: torch.Tensor) -> Any:
    """Return Triton's name for the dtype of sums over this tensor's dtype."""
    return tl.float64 if tensor.dtype in (torch.float64, torch.complex128) else tl.float32


def precision(tensor: torch.Tensor) -> str:
    """Return how `tl.dot` multiplies float32: as TF32 where torch allows that for convolutions, else exactly."""
    return "tf32" if tensor.dtype == torch.float32 and _allows_tf32() else "ieee"


def _allows_tf32() -> bool:
    """What torch says of convolutions; once its newer switch is set, reading the older one raises."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return torch.backends.cudnn.conv.fp32_precision == "tf32"


@contextmanager
def interpreted() -> Iterator[None]:
    """Run kernels in Triton's interpreter on CPU tensors, for the length of a ``with`` block.

    The interpreter is there only if ``TRITON_INTERPRET=1`` was set before Triton was imported.
    """
    global INTERPRET
    before, INTERPRET = INTERPRET, True
    try:
        yield
    finally:
        INTERPRET = before
