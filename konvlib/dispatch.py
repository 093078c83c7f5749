"""From a public function to the room that computes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def room(fast: ModuleType, gpu: Callable[[], ModuleType] | None, *operands: Any) -> ModuleType:
    """Return what ``gpu()`` imports if an operand is a torch tensor, else ``fast``.

    Without torch imported there can be no tensor, so none is imported here.

    Raises
    ------
    TypeError
        If an operand is a tensor and the package has no GPU room.

    Examples
    --------
    >>> from konvlib.sequences import fast
    >>> room(fast, None, [1, 2], 3).__name__
    'konvlib.sequences.fast'
    """
    torch = sys.modules.get("torch")
    if torch is None or not any(isinstance(operand, torch.Tensor) for operand in operands):
        return fast
    if gpu is None:
        raise TypeError(f"{fast.__package__} takes arrays, got a torch tensor; give tensor.numpy()")
    return gpu()
