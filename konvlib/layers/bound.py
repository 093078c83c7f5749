"""Launches of which all is known but the tensors: what a kernel is told of a geometry is made once.

Triton asks at each launch how each argument is to be compiled, and looks the kernel up by the answers: some twenty
microseconds for fifty arguments. Here the answers can differ by the tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

try:
    from triton.compiler import CompiledKernel
    from triton.runtime import JITFunction
except ImportError:
    CompiledKernel = JITFunction = None

if torch.version.hip:  # there Triton tells tensors apart by their size, too
    JITFunction = None

ALIGNED = 16
"""The bytes whose multiples Triton tells from other addresses."""


class Bound:
    """A launch of a kernel, to be called with the kernel and its tensors.

    Parameters
    ----------
    programs : int
        How many programs there are.
    names : sequence of str
        The kernel's arguments that are tensors.
    told : mapping
        All its other arguments.

    Examples
    --------
    >>> class Kernel:
    ...     def __getitem__(self, grid):
    ...         return lambda **given: print(grid, given)
    >>> Bound(3, ("x_ptr",), {"BLOCK": 16})(Kernel(), torch.ones(1))
    (3,) {'x_ptr': tensor([1.]), 'BLOCK': 16}
    """

    def __init__(self, programs: int, names: Sequence[str], told: Mapping[str, Any]) -> None:
        self.grid, self.names, self.told = (programs,), names, dict(told)
        self.compiled: dict[Any, tuple[Any, Callable[..., None], list[Any], list[int]]] = {}

    def __call__(self, kernel: Any, *tensors: torch.Tensor) -> None:
        """Launch the kernel on the current device, which is that of the tensors."""
        kind = _kind_of(tensors) if type(kernel) is JITFunction and not kernel.pre_run_hooks else None
        if kind in self.compiled:
            owner, run, arguments, places = self.compiled[kind]
            if owner is kernel:
                arguments = arguments.copy()
                for place, tensor in zip(places, tensors, strict=True):
                    arguments[place] = tensor
                return run(*arguments)
        given = {**dict(zip(self.names, tensors, strict=True)), **self.told}
        compiled = kernel[self.grid](**given)
        if kind is not None and isinstance(compiled, CompiledKernel) and given.keys() >= {*kernel.arg_names}:
            arguments = [self.told.get(name) for name in kernel.arg_names]
            places = [kernel.arg_names.index(name) for name in self.names]
            self.compiled[kind] = kernel, compiled[(*self.grid, 1, 1)], arguments, places


MOST = 4096
"""How many launches are remembered; then all are forgotten, and made again as they come."""

_bounds: dict[Any, Bound] = {}


def launch_bound(kernel: Any, programs: int, /, **given: Any) -> None:
    """Launch a kernel on the current device with these arguments, by what is remembered of equal ones.

    Examples
    --------
    >>> class Kernel:
    ...     def __getitem__(self, grid):
    ...         return lambda **given: print(grid, given)
    >>> launch_bound(Kernel(), 3, x_ptr=torch.ones(1), BLOCK=16)
    (3,) {'x_ptr': tensor([1.]), 'BLOCK': 16}
    """
    if type(kernel) is not JITFunction:
        kernel[(programs,)](**given)
        return
    tensors = [value for value in given.values() if isinstance(value, torch.Tensor)]
    rest = [torch.Tensor if isinstance(value, torch.Tensor) else value for value in given.values()]
    key = id(kernel), programs, *given, *rest
    if key not in _bounds:
        if len(_bounds) >= MOST:
            _bounds.clear()
        names = [name for name, value in given.items() if isinstance(value, torch.Tensor)]
        _bounds[key] = Bound(programs, names, {name: value for name, value in given.items() if name not in names})
    _bounds[key](kernel, *tensors)


def _kind_of(tensors: tuple[torch.Tensor, ...]) -> tuple[Any, ...] | None:
    """All that one compiled kernel asks of tensors, but that they are aligned; None if they are not."""
    address, kind = 0, [tensors[0].device]
    for tensor in tensors:
        address |= tensor.data_ptr()
        kind.append(tensor.dtype)
    return None if address % ALIGNED else tuple(kind)
