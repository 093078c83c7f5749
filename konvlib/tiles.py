"""What the GPU rooms share: when a kernel runs, how it is launched, and how an operator meets autocast.

Triton may be missing (it has no macOS build): then ``triton`` and ``tl`` are None, kernels are never launched, and
every operator runs its ATen implementation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

try:
    import triton
    import triton.language as tl
    from triton.runtime.errors import OutOfResources
except ImportError:
    triton = tl = None
    OutOfResources = RuntimeError

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether CPU tensors run through the kernels too, in Triton's interpreter, instead of ATen."""

HALVES = (torch.float16, torch.bfloat16)
REALS = (*HALVES, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return `triton.jit` with options as a decorator, or one that changes nothing where Triton is missing."""
    return (lambda function: function) if triton is None else triton.jit(**options)


def check_tensors(dtypes: Sequence[torch.dtype] = REALS, **operands: Any) -> None:
    """Check that operands are tensors that go together; one that is None is left out.

    Raises
    ------
    TypeError
        If one is no tensor, if it has none of ``dtypes``, or if dtypes differ, unless autocast makes them one.
    ValueError
        If devices differ.

    Examples
    --------
    >>> check_tensors(x=torch.ones(3), w=torch.ones(2), bias=None)
    >>> check_tensors(x=torch.arange(3))
    Traceback (most recent call last):
    ...
    TypeError: x must be of dtype float16, bfloat16, float32, float64, got torch.int64; convert it, as with x.double()
    """
    given = [(name, operand) for name, operand in operands.items() if operand is not None]
    like = {1: "", 2: " like the other operand"}.get(len(given), " like the other operands")
    for name, operand in given:
        if not isinstance(operand, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor{like}, got {type(operand).__name__}")
        if operand.dtype not in dtypes:
            fits = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise TypeError(f"{name} must be of dtype {fits}, got {operand.dtype}; convert it, as with {name}.double()")
    (first, one), *others = given
    for name, other in others:
        if one.device != other.device:
            raise ValueError(f"{first} and {name} must be on one device, got {one.device} and {other.device}")
        if one.dtype != other.dtype and not (lowers(one) and lowers(other)):
            raise TypeError(f"{first} and {name} must have one dtype, got {one.dtype} and {other.dtype}")


def folded(operator: Callable[..., Any], tensors: int) -> Callable[..., Any]:
    """Return a rule for `torch.vmap` that folds the new axis into the batch, the first axis of all tensors.

    Of the operator's arguments the first so many are tensors; it returns one tensor, or a tuple of them.
    """

    def over_one_more_axis(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        pairs = zip(arguments[:tensors], in_dims, strict=False)
        each = [x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0) for x, axis in pairs]
        results = operator(*(x.flatten(0, 1) for x in each), *arguments[tensors:])
        if isinstance(results, torch.Tensor):
            return results.unflatten(0, each[0].shape[:2]), 0
        return tuple(result.unflatten(0, each[0].shape[:2]) for result in results), (0,) * len(results)

    return over_one_more_axis


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


def sum_type(tensor: torch.Tensor) -> Any:
    """Return Triton's name for the dtype of sums over this tensor's dtype."""
    return tl.float64 if tensor.dtype in (torch.float64, torch.complex128) else tl.float32


def precision(tensor: torch.Tensor) -> str:
    """Return how `tl.dot` multiplies float32: as TF32 where torch allows that for convolutions, else exactly."""
    return "tf32" if tensor.dtype == torch.float32 and torch.backends.cudnn.allow_tf32 else "ieee"


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
