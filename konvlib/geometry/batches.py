"""Operands of a layer without a batch, as PyTorch takes them: the batch is their first axis, and may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from konvlib.geometry.arguments import is_sequence
from konvlib.geometry.layers import AXIS_NAMES

OTHER_NAMES = {"cols": "(N, C * prod(kernel_size), L)"}
"""How an error names the axes of what is no batch of images."""


def lacks_batch(shapes: dict[str, Sequence[int]], rank: int, told: str = "") -> bool:
    """Whether operands, by name, come without a batch, with which they have ``rank`` axes.

    ``told`` ends what an error says of the rank: why it is this.

    Raises
    ------
    ValueError
        If one has neither ``rank`` axes nor one fewer, or if only some have a batch.

    Examples
    --------
    >>> lacks_batch({"x": (3, 8, 9)}, 4), lacks_batch({"x": (1, 3, 8, 9)}, 4)
    (True, False)
    >>> lacks_batch({"x": (1, 3, 8), "dy": (4, 6)}, 3)
    Traceback (most recent call last):
    ...
    ValueError: x and dy must all have a batch or none of them, got shapes (1, 3, 8) and (4, 6)
    """
    for name, shape in shapes.items():
        if len(shape) not in (rank, rank - 1):
            fits = f"{rank} axes {OTHER_NAMES.get(name, AXIS_NAMES[rank - 2])}, or {rank - 1} without the batch"
            raise ValueError(f"{name} must have {fits}{told}, got shape {tuple(shape)}")
    if len(set(map(len, shapes.values()))) > 1:
        got = " and ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(f"{' and '.join(shapes)} must all have a batch or none of them, got shapes {got}")
    return all(len(shape) == rank - 1 for shape in shapes.values())


def told_rank(name: str, operands: dict[str, Any], arguments: dict[str, Any]) -> int:
    """Return how many axes a batch has, as a weight or an argument of this name tells; 0 if it does not.

    An argument tells it that has one entry per spatial axis.

    Examples
    --------
    >>> told_rank("stride", {}, {"stride": (1, 2)}), told_rank("stride", {}, {"stride": 2})
    (4, 0)
    """
    entries = arguments.get(name)
    axes = len(entries) if is_sequence(entries) else 0
    if name in operands:
        axes = operands[name].ndim - 2
    return axes + 2 if axes in AXIS_NAMES else 0
