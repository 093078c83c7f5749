"""How tensors lie in memory, and how kernels are told: always three spatial axes, summed channels last."""

from __future__ import annotations

from collections.abc import Sequence

import torch

AXES = 3


def three(values: Sequence[int], fill: int) -> tuple[int, ...]:
    """One number for each of three axes: ``fill`` for the first ones that are missing.

    Examples
    --------
    >>> three((5, 7), 1)
    (1, 5, 7)
    """
    return (fill,) * (AXES - len(values)) + tuple(values)


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of ``(N, C, *size)`` lie next to each other, and its pixels do not.

    Examples
    --------
    >>> x = torch.ones(2, 3, 4, 5)
    >>> is_channels_last(x), is_channels_last(x.to(memory_format=torch.channels_last))
    (False, True)
    """
    return x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()


def empty(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """An uninitialised tensor of the dtype, device and layout of ``like``: contiguous, or channels last.

    Examples
    --------
    >>> empty(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), (1, 2, 3, 4)).stride()
    (24, 1, 8, 2)
    """
    if not is_channels_last(like):
        return like.new_empty(tuple(shape))
    return like.new_empty((shape[0], *shape[2:], shape[1])).movedim(-1, 1)


def laid_like(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``y``, in channels last where ``x`` is: itself, or a copy.

    Examples
    --------
    >>> x = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    >>> laid_like(x, torch.ones(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if x.stride(1) != 1 or not is_channels_last(x) or is_channels_last(y) or y.shape[1] == 1:
        return y
    return y.movedim(1, -1).contiguous().movedim(-1, 1)


def with_channels_last(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself if its channels lie next to each other, else a copy of which that is true.

    Examples
    --------
    >>> with_channels_last(torch.ones(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if x.stride(1) == 1 or x.shape[1] == 1:
        return x
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def packed_weight(w: torch.Tensor) -> torch.Tensor:
    """``(C_out, C_in // groups, *kernel)`` as ``(C_out, taps, C_in // groups)``: no copy for a weight in channels last.

    Examples
    --------
    >>> packed_weight(torch.arange(6).reshape(1, 2, 3)).tolist()
    [[[0, 3], [1, 4], [2, 5]]]
    """
    return w.flatten(2).movedim(1, -1).contiguous() if w.dim() == AXES else w.movedim(1, -1).contiguous().flatten(1, -2)


def strides(x: torch.Tensor) -> tuple[int, ...]:
    """The strides of the batch, the channels and three spatial axes.

    Examples
    --------
    >>> strides(torch.ones(2, 3, 4))
    (12, 4, 0, 0, 1)
    """
    batch, channels, *spatial = x.stride()
    return batch, channels, *three(spatial, 0)


def is_wide(*tensors: torch.Tensor) -> bool:
    """Whether an offset into one of the tensors may need 64 bits.

    Examples
    --------
    >>> is_wide(torch.ones(1).expand(2**31)), is_wide(torch.ones(4, 5))
    (False, False)
    """
    return any(
        sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) >= 2**31 - 2**20
        for x in tensors
    )
