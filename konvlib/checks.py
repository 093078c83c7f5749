"""Checks of tensors: that they are tensors that go together, and that their shapes and the arguments do, once for each.

What they are checked for is in `konvlib.geometry`, as for arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.parameter import is_lazy

from konvlib import dispatch
from konvlib.geometry.arguments import shown
from konvlib.geometry.memory import MOST_BYTES, check_memory
from konvlib.geometry.operands import is_dask
from konvlib.registration import PLAIN, lowers
from konvlib.runtime import REALS


def check_tensors(operands: dict[str, Any], dtypes: Sequence[torch.dtype] = REALS) -> None:
    """Check that operands are tensors that go together; a bias (its name ends so) may be None.

    Raises
    ------
    TypeError
        If one is no dense tensor, if it has none of ``dtypes``, or if dtypes differ, unless autocast makes them one.
    ValueError
        If devices differ.

    Examples
    --------
    >>> check_tensors({"x": torch.ones(3), "w": torch.ones(2), "bias": None})
    >>> check_tensors({"x": torch.arange(3)})
    Traceback (most recent call last):
    ...
    TypeError: x must be of dtype float16, bfloat16, float32, float64, got torch.int64; convert it, as with x.double()
    """
    given = [(name, t) for name, t in operands.items() if t is not None or not name.endswith("bias")]
    first, one = given[0]
    for name, operand in given:
        if not isinstance(operand, Tensor):
            like = {1: "", 2: " like the other operand"}.get(len(given), " like the other operands")
            raise TypeError(f"{name} must be a torch tensor{like}, got {_named(operand)}")
        if has_no_shape(operand) or operand.layout is not torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got {_laid(operand)}")
        if operand.dtype not in dtypes:
            fits = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            advice = _conversion(name, operand, [t.dtype for _, t in given if isinstance(t, Tensor)], dtypes)
            raise TypeError(f"{name} must be of dtype {fits}, got {operand.dtype}; {advice}")
    for name, other in given[1:]:
        if one.device != other.device:
            raise ValueError(f"{first} and {name} must be on one device, got {one.device} and {other.device}")
        if one.dtype != other.dtype and not (lowers(one) and lowers(other)):
            raise TypeError(f"{first} and {name} must have one dtype, got {one.dtype} and {other.dtype}")


def _named(operand: Any) -> str:
    if isinstance(operand, Proxy):
        return "a Proxy of torch.fx: wrap the function, as with torch.fx.wrap('conv2d'), or use torch.export"
    if is_dask(operand):
        return "a Dask array; give torch.from_numpy of its compute()"
    return "None" if operand is None else type(operand).__name__


def _laid(operand: Tensor) -> str:
    """How a tensor that is not dense lies in memory, and what makes it dense."""
    if type(operand) not in PLAIN and is_lazy(operand):
        return "an uninitialised parameter, which has no shape yet"
    if operand.is_nested:
        return "a nested one; give its parts one by one, or torch.nested.to_padded_tensor of it"
    return f"layout {operand.layout}; convert it by its to_dense()"


def has_no_shape(tensor: Tensor) -> bool:
    """Whether a tensor has no shape that could be asked for: it is nested, or a parameter that is not initialised yet.

    Graphs that are compiled have none of these.

    Examples
    --------
    >>> has_no_shape(torch.ones(2)), has_no_shape(torch.nn.UninitializedParameter())
    (False, True)
    """
    if torch.compiler.is_compiling():
        return False
    return tensor.is_nested or (type(tensor) not in PLAIN and is_lazy(tensor))


def _conversion(name: str, operand: Tensor, others: Sequence[torch.dtype], dtypes: Sequence[torch.dtype]) -> str:
    """What to do with an operand of a dtype that is not taken, so that it goes with the others."""
    if operand.is_complex():
        return f"give its real and its imaginary part, {name}.real and {name}.imag"
    if operand.is_quantized:
        return f"convert it, as with {name}.dequantize()"
    wanted = next((dtype for dtype in others if dtype in dtypes), torch.float64)
    method = {torch.float16: "half", torch.bfloat16: "bfloat16", torch.float32: "float"}.get(wanted, "double")
    return f"convert it, as with {name}.{method}()"


def facts_of(operands: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return all by which plain tensors of one dtype on one device are found good; None for other operands.

    Examples
    --------
    >>> facts_of({"x": torch.ones(2, 3), "bias": None})
    (torch.Size([2, 3]), None, torch.float32, device(type='cpu'))
    >>> facts_of({"x": torch.ones(2), "w": torch.ones(2).double()})
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    facts, dtype, device = [], None, None
    for operand in operands.values():
        if operand is None:
            facts.append(None)
            continue
        if type(operand) not in PLAIN or operand.layout is not torch.strided or operand.is_nested:
            return None
        if dtype is None:
            dtype, device = operand.dtype, operand.device
        elif operand.dtype != dtype or operand.device != device:
            return None
        facts.append(operand.shape)
    return *facts, dtype, device


def checked_kind(device: Any, dtype: Any) -> dict[str, Any]:
    """Return device and dtype of parameters as keywords, where None leaves the choice to torch.

    Raises
    ------
    TypeError
        If they are no device and no dtype of torch.
    ValueError
        If torch does not know the device, or if parameters cannot be of the dtype.

    Examples
    --------
    >>> checked_kind("cpu", None)
    {'device': device(type='cpu'), 'dtype': None}
    """
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a dtype of torch, got {shown(dtype)}")
    if dtype is not None and dtype not in REALS:
        fits = ", ".join(str(known).removeprefix("torch.") for known in REALS)
        raise ValueError(f"dtype must be one of {fits}, got {dtype}")
    if device is None or isinstance(device, torch.device):
        return {"device": device, "dtype": dtype}
    if isinstance(device, bool) or not isinstance(device, (str, int)):
        raise TypeError(f"device must be a device of torch or its name, got {shown(device)}")
    try:
        return {"device": torch.device(device), "dtype": dtype}
    except (RuntimeError, OverflowError, ValueError):
        raise ValueError(f"device must be one that torch has here, got {shown(device)}") from None


def planned_tensors(
    dtypes: Sequence[torch.dtype], check: Callable[..., Any], operands: dict[str, Any], arguments: dict[str, Any]
) -> Any:
    """Return ``check(*shapes, **arguments)`` for tensors that go together, remembered for plain ones.

    Raises
    ------
    TypeError, ValueError
        As `check_tensors`, and as ``check`` does.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> operands = {"x": torch.ones(1, 2, 9), "w": torch.ones(4, 2, 3), "bias": None}
    >>> planned_tensors(REALS, conv_geometry, operands, {"axes": 1, "stride": 2}).output_size
    (4,)
    """
    check_tensors(operands, dtypes)
    return plan_of_tensors(check, operands, arguments)


def plan_of_tensors(check: Callable[..., Any], operands: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Return ``check(*shapes, **arguments)``, remembered for plain tensors, of tensors that were found to go together.

    Raises
    ------
    TypeError, ValueError
        As ``check`` does.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> operands = {"x": torch.ones(1, 2, 9), "w": torch.ones(4, 2, 3), "bias": None}
    >>> plan_of_tensors(conv_geometry, operands, {"axes": 1, "stride": 2}).output_size
    (4,)
    """
    shapes = [None if tensor is None else tensor.shape for tensor in operands.values()]
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or any([tensor is not None and type(tensor) not in PLAIN for tensor in operands.values()])
    ):
        return check(*shapes, **arguments)
    plan = dispatch.planned(check, shapes, arguments)
    if (numbers := getattr(plan, "numbers", 0)) > dispatch.MANY:
        like = next(tensor for tensor in operands.values() if tensor is not None)
        most = None if like.device.type == "cpu" else MOST_BYTES
        check_memory(numbers * like.element_size(), arguments, operands, most=most)
    return plan
