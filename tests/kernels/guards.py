"""Every access of a kernel in Triton's interpreter, held to the elements of the tensors that it is launched with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

ZONE = 2**14
"""Bytes of poison before and after each tensor: more than a small case can miss it by."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_at_work: list[Guarded] = []
"""The launch that is being made, after those around it."""


class Guarded:
    """Copies of tensors in one stretch of memory, which is poison elsewhere: between tensors, and in strided ones."""

    def __init__(self, name: str, tensors: list[torch.Tensor]):
        starts = np.cumsum([ZONE, *(ZONE + -(-_extent(tensor) // 64) * 64 for tensor in tensors)])
        self.memory = torch.full((int(starts[-1]),), 0xFF, dtype=torch.uint8)  # NaN in each type of floats
        self.inside = torch.zeros_like(self.memory)
        self.name, self.starts, self.originals = name, starts, tensors
        self.copies = [_laid_out(self.memory, start, x, x.dtype) for start, x in zip(starts, tensors, strict=False)]
        for start, original, copy in zip(starts, tensors, self.copies, strict=False):
            _distinct(copy).copy_(_distinct(original))
            _distinct(_laid_out(self.inside, start, original, INTEGERS[original.itemsize])).fill_(-1)
        self.before = self.memory.clone()

    def check(self, what: str, addresses: np.ndarray, mask: np.ndarray) -> None:
        places = addresses[mask.astype(bool)].astype(np.int64) - self.memory.data_ptr()
        known = (places >= 0) & (places < self.memory.numel())
        wrong = ~known | (self.inside.numpy()[np.where(known, places, 0)] == 0)
        assert not wrong.any(), f"{self.name} {what} {wrong.sum()} of {wrong.size} elements outside its tensors"

    def give_back(self) -> None:
        """Write back what was written: not what another tensor of the same memory still shows as it was."""
        for start, original, copy in zip(self.starts, self.originals, self.copies, strict=False):
            place = slice(int(start), int(start) + _extent(original))
            if not torch.equal(self.memory[place], self.before[place]):
                _distinct(original).copy_(_distinct(copy))


def _extent(x: torch.Tensor) -> int:
    """From the first to the last element of a tensor, in bytes."""
    steps = zip(x.shape, x.stride(), strict=True)
    return (1 + sum((size - 1) * stride for size, stride in steps)) * x.itemsize if x.numel() else 0


def _laid_out(memory: torch.Tensor, start: int, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    start = int(start)
    return memory[start : start + _extent(like)].view(dtype).as_strided(like.shape, like.stride())


def _distinct(x: torch.Tensor) -> torch.Tensor:
    """``x`` without its repetitions of elements."""
    return x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.stride())]


@contextmanager
def guarded() -> Iterator[set[str]]:
    """Raise where a kernel reads or writes outside its tensors; give the names of the kernels launched."""
    from triton.runtime import interpreter

    call, builder, launched = interpreter.GridExecutor.__call__, interpreter.interpreter_builder, set()
    load, store = builder.create_masked_load, builder.create_masked_store

    def guarded_call(self: Any, *arguments: Any, **named: Any) -> None:
        given = {id(x): x.data for x in (*arguments, *named.values()) if isinstance(x, torch.Tensor)}
        _at_work.append(Guarded(self.fn.__name__, list(given.values())))
        copies = dict(zip(given, _at_work[-1].copies, strict=True))
        launched.add(self.fn.__name__)
        try:
            positional = [copies.get(id(x), x) for x in arguments]
            call(self, *positional, **{name: copies.get(id(x), x) for name, x in named.items()})
        finally:
            _at_work.pop().give_back()

    def guarded_load(ptrs: Any, mask: Any, *rest: Any) -> Any:
        _at_work[-1].check("reads", ptrs.data, mask.data)
        return load(ptrs, mask, *rest)

    def guarded_store(ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        _at_work[-1].check("writes", ptrs.data, mask.data)
        return store(ptrs, value, mask, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.GridExecutor, "__call__", guarded_call)
        patch.setattr(builder, "create_masked_load", guarded_load)
        patch.setattr(builder, "create_masked_store", guarded_store)
        yield launched
