"""Launches of which all is known but the tensors: what a kernel is told of a geometry is made once.

Triton asks at each launch how each argument is to be compiled, and looks the kernel up by the answers: some twenty
microseconds for fifty arguments. Here the answers can differ by the tensors alone. Of the boxes that the tensor memory
accelerator copies, too, only the address of the first differs from call to call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch

try:
    from triton.compiler import CompiledKernel
    from triton.runtime import JITFunction

    KINDS: tuple[type, ...] = (JITFunction,)
except ImportError:
    CompiledKernel, KINDS = None, ()

try:
    from triton.experimental.gluon._runtime import GluonJITFunction
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    KINDS = (*KINDS, GluonJITFunction)
except ImportError:
    TensorDescriptor = None

if torch.version.hip:  # there Triton tells tensors apart by their size, too
    KINDS = ()

ALIGNED = 16
"""The bytes whose multiples Triton tells from other addresses."""

MOST = 4096
"""How many launches are remembered; then all are forgotten, and made again as they come."""

Told = tuple[tuple[int, ...], dict[str, Any]]
"""A grid, and a kernel's arguments by name."""


class Kept(NamedTuple):
    """A launch but for its tensors: which of them is where among the arguments, or what boxes of which are there."""

    kernel: Any
    run: Callable[..., None]
    arguments: list[Any]
    places: list[tuple[int, int]]
    boxes: list[tuple[int, int, dict[str, Any]]]


_kept: dict[Any, Kept] = {}


def launch(kernel: Any, told_of: Callable[..., Told], key: tuple[Hashable, ...], *tensors: torch.Tensor | None) -> None:
    """Launch a kernel on the current device, which is that of the tensors, by what is remembered of equal launches.

    Parameters
    ----------
    kernel : function of Triton or Gluon
        What is launched.
    told_of : function
        ``told_of(*key, *tensors)`` returns the grid and the arguments. Of tensors it may look at all but their values
        and devices; none but these, and views that begin where they do, can be among arguments that are remembered.
    key : tuple
        All by which it may differ from call to call, but for what tensors are.
    *tensors : Tensor or None
        What the kernel reads and writes, the first not None.

    Examples
    --------
    >>> class Kernel:
    ...     def __getitem__(self, grid):
    ...         return lambda **given: print(grid, given)
    >>> launch(Kernel(), lambda block, x: ((3,), {"x_ptr": x, "BLOCK": block}), (16,), torch.ones(1))
    (3,) {'x_ptr': tensor([1.]), 'BLOCK': 16}
    """
    if type(kernel) not in KINDS or kernel.pre_run_hooks:
        return _by_triton(kernel, *told_of(*key, *tensors))
    address, kind = 0, [id(kernel), told_of, key, tensors[0].device]
    for tensor in tensors:
        if tensor is not None:
            address |= tensor.data_ptr()
            kind += tensor.dtype, tensor.shape, tensor.stride()
        else:
            kind.append(None)
    if address % ALIGNED:  # Triton has another kernel for these, or none
        return _by_triton(kernel, *told_of(*key, *tensors))
    kind = tuple(kind)
    kept = _kept.get(kind)
    if kept is None:
        return _first(kernel, kind, told_of, key, tensors)
    arguments = kept.arguments.copy()
    for place, number in kept.places:
        arguments[place] = tensors[number]
    for place, number, facts in kept.boxes:
        boxes = arguments[place] = object.__new__(TensorDescriptor)
        boxes.__dict__.update(facts)
        boxes.base = tensors[number]
    kept.run(*arguments)


def _by_triton(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
    kernel[grid](**arguments)


def _first(kernel: Any, kind: Any, told_of: Callable[..., Told], key: Any, tensors: Any) -> None:
    """Launch by Triton, and keep what it found, if the key and the tensors tell all of it."""
    grid, arguments = told_of(*key, *tensors)
    compiled = kernel[grid](**arguments)
    if not isinstance(compiled, CompiledKernel) or not arguments.keys() >= {*kernel.arg_names}:
        return
    # Tensors without memory show which of them went where: two of the real ones may be the same.
    shown = [
        None if t is None else torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta") for t in tensors
    ]
    numbers = {t.untyped_storage()._cdata: number for number, t in enumerate(shown) if t is not None}
    again, found = told_of(*key, *shown)
    values, places, boxes = [], [], []
    for place, name in enumerate(kernel.arg_names):
        value, facts = found[name], None
        if TensorDescriptor is not None and type(value) is TensorDescriptor:
            facts = dict(getattr(value, "__dict__", {}))
            value = facts.pop("base", None)
        if isinstance(value, torch.Tensor):
            number = numbers.get(value.untyped_storage()._cdata)
            if number is None or value.storage_offset():
                return
            if facts is None:
                places.append((place, number))
            else:
                boxes.append((place, number, facts))
            value = None
        elif facts is not None or value != arguments[name]:
            return
        values.append(value)
    if again == grid:
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[kind] = Kept(kernel, compiled[(*grid, 1, 1)[:3]], values, places, boxes)
