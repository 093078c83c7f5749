"""Padding that holds samples, and its adjoint: slices put next to each other, slices added up.

Both are made of torch's own operations, so they are differentiable to any order, and no sum in them depends on the
order in which threads come.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from konvlib.geometry import padding_steps
from konvlib.layers import memory


def pad(x: torch.Tensor, padding: Sequence[tuple[int, int]], padding_mode: str) -> torch.Tensor:
    """Return ``x`` with its borders, in its layout.

    Examples
    --------
    >>> pad(torch.tensor([[[1, 3, 2]]]), [(2, 1)], "reflect")
    tensor([[[2, 3, 1, 3, 2, 3]]])
    """
    last = memory.is_channels_last(x)
    x = x.movedim(1, -1) if last else x
    for axis, sides in enumerate(padding, start=1 if last else 2):
        for *step, mode in padding_steps(x.shape[axis], sides, padding_mode):
            before, after = _borders(x.shape[axis], step, mode)
            parts = [_shown(x, axis, *border) for border in before], [_shown(x, axis, *border) for border in after]
            x = torch.cat([*parts[0], x, *parts[1]], axis)
    return x.movedim(-1, 1) if last else x


def fold(g: torch.Tensor, padding: Sequence[tuple[int, int]], padding_mode: str) -> torch.Tensor:
    """Return each sample's sum over the places of ``g`` where `pad` shows it.

    Examples
    --------
    >>> fold(torch.tensor([[[1, 10, 100, 1000, 10000]]]), [(1, 1)], "circular")
    tensor([[[10010,   100,  1001]]])
    """
    for axis, sides in enumerate(padding, start=2):
        for *step, mode in reversed(padding_steps(g.shape[axis] - sum(sides), sides, padding_mode)):
            g = _fold_axis(g, axis, step, mode)
    return g


def _fold_axis(g: torch.Tensor, axis: int, padding: Sequence[int], padding_mode: str) -> torch.Tensor:
    before, size = padding[0], g.shape[axis] - sum(padding)
    total = g.narrow(axis, before, size)
    starts = (0, before + size)
    for start, borders in zip(starts, _borders(size, padding, padding_mode), strict=True):
        for first, count, flipped, repeats in borders:
            part = g.narrow(axis, start, count * repeats).unflatten(axis, (repeats, count)).sum(axis)
            part = part.flip(axis) if flipped else part
            sides = [0, 0] * (g.dim() - 1 - axis) + [first, size - first - count]
            total = total + functional.pad(part, sides)
    return total


def flat(padding: Sequence[tuple[int, int]]) -> list[int]:
    """Padding as the operators take it.

    Examples
    --------
    >>> flat([(1, 2), (3, 4)])
    [1, 2, 3, 4]
    """
    return [side for pair in padding for side in pair]


def pairs(sides: Sequence[int], axes: int) -> tuple[tuple[int, int], ...]:
    """Padding as a geometry takes it: the inverse of `flat`.

    Raises
    ------
    ValueError
        If there are not two entries for each axis.

    Examples
    --------
    >>> pairs([1, 2, 3, 4], 2)
    ((1, 2), (3, 4))
    """
    if len(sides) != 2 * axes:
        raise ValueError(f"padding must have {2 * axes} entries, before and after each axis, got {list(sides)}")
    return tuple(zip(sides[::2], sides[1::2], strict=True))


def _borders(size: int, padding: Sequence[int], padding_mode: str):
    """What the border before and the border after hold: each a list of (first sample, samples, flipped, repeats)."""
    before, after = padding
    borders = {
        "reflect": ((1, before, True, 1), (size - 1 - after, after, True, 1)),
        "replicate": ((0, 1, False, before), (size - 1, 1, False, after)),
        "circular": ((size - before, before, False, 1), (0, after, False, 1)),
    }[padding_mode]
    return [[border] if side else [] for border, side in zip(borders, padding, strict=True)]


def _shown(x: torch.Tensor, axis: int, first: int, count: int, flipped: bool, repeats: int) -> torch.Tensor:
    part = x.narrow(axis, first, count)
    if repeats > 1:
        part = part.expand(*(repeats if place == axis else -1 for place in range(x.dim())))
    return part.flip(axis) if flipped else part
