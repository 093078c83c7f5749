"""What kernels in `tests.kernels.emulated_gluon` compute with: values, pointers, shared memory, boxes and barriers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

COLUMNS = 64
"""So many 16-bit columns of a tensor lie together in shared memory: the 128 bytes of a swizzle."""


@dataclass(frozen=True)
class Type:
    """A dtype, with Triton's name for its width."""

    dtype: torch.dtype

    @property
    def primitive_bitwidth(self) -> int:
        return 8 * self.dtype.itemsize


class Value:
    """A tensor or a scalar: whole numbers, or reals in double precision, rounded where they become halves."""

    def __init__(self, value: Any, dtype: Type | None = None):
        self.value, self.dtype = np.asarray(value), dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def to(self, dtype: Type) -> Value:
        if not dtype.dtype.is_floating_point:
            return Value(self.value.astype(np.int64), dtype)
        value = torch.from_numpy(self.value.astype(float))
        return Value((value.to(dtype.dtype) if dtype.dtype.itemsize == 2 else value).double().numpy(), dtype)

    def reshape(self, shape: Any) -> Value:
        return Value(self.value.reshape(shape))

    def permute(self, order: Any) -> Value:
        return Value(self.value.transpose(order))

    def split(self) -> tuple[Value, Value]:
        return Value(self.value[..., 0]), Value(self.value[..., 1])

    def __getitem__(self, index: Any) -> Value:
        return Value(self.value[index])

    def __bool__(self) -> bool:
        return bool(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __neg__(self) -> Value:
        return Value(-self.value)

    def __invert__(self) -> Value:
        return Value(~self.value)


def bare(value: Any) -> np.ndarray:
    return value.value if isinstance(value, Value) else np.asarray(value)


def _whole(divide: Callable) -> Callable:
    """A division, of what a device divides likewise."""

    def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        assert a.min() >= 0 < b.min(), "divided towards zero on the device"
        return divide(a, b)

    return divided


def _method(operation: Callable) -> Callable:
    def method(self: Value, other: Any) -> Any:
        return NotImplemented if isinstance(other, Pointer) else Value(operation(self.value, bare(other)))

    return method


for _name, _operation in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": _whole(np.floor_divide), "mod": _whole(np.remainder),
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}.items():  # fmt: skip
    setattr(Value, f"__{_name}__", _method(_operation))
    setattr(Value, f"__r{_name}__", _method(lambda a, b, _operation=_operation: _operation(b, a)))


class Pointer:
    """Places among the numbers of a tensor, in the order of memory; none else may be read or written."""

    def __init__(self, line: torch.Tensor, at: Any = 0):
        self.line, self.at, self.dtype = line, bare(at), SimpleNamespace(element_ty=Type(line.dtype))

    @classmethod
    def to(cls, tensor: torch.Tensor) -> Pointer:
        """To the first number of a tensor, of which there may be gaps to the next."""
        span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        return cls(tensor.detach().as_strided((span,), (1,)))

    def __add__(self, offset: Any) -> Pointer:
        return Pointer(self.line, self.at + bare(offset))

    __radd__ = __add__

    def __sub__(self, offset: Any) -> Pointer:
        return self + -bare(offset)

    def load(self, mask: Any, other: Any) -> Value:
        at, kept = self._places(mask)
        values = self.line[torch.from_numpy(np.where(kept, at, 0))].double().numpy()
        return Value(np.where(kept, values, bare(other)), self.dtype.element_ty)

    def store(self, value: Any, mask: Any) -> None:
        at, kept = self._places(mask)
        at, values = torch.from_numpy(at[kept]), np.broadcast_to(bare(value), kept.shape)[kept]
        assert self.line[at].isnan().all(), "written twice"
        self.line[at] = torch.from_numpy(values).to(self.line.dtype)

    def _places(self, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        at, kept = np.broadcast_arrays(self.at, bare(mask))
        assert ((at >= 0) & (at < self.line.numel()) | ~kept).all(), "outside the tensor"
        return at, kept


class Shared:
    """A view of an allocation of shared memory, all of which is one line."""

    dtype = None  # what views are made of tells the compiler only

    def __init__(self, line: np.ndarray, shape: Any, begin: int = 0, order: Any = None):
        self.line, self.shape, self.begin, self.order = line, tuple(map(int, shape)), begin, order
        assert begin + math.prod(self.shape) <= line.size, "a view past the end of shared memory"

    def index(self, i: Any) -> Shared:
        i, rest = int(bare(i)), self.shape[1:]
        assert 0 <= i < self.shape[0], "an index past the end of shared memory"
        return Shared(self.line, rest, self.begin + i * math.prod(rest))

    def _reinterpret(self, dtype: Type, shape: Any, layout: Any) -> Shared:
        return Shared(self.line, shape, self.begin)

    def permute(self, order: Any) -> Shared:
        return Shared(self.line, self.shape, self.begin, order)

    def _keep_alive(self) -> None:
        """Tells the compiler only."""

    def _blocks(self) -> np.ndarray:
        """The numbers as blocks of at most 64 columns, 128 bytes, which lie one after the other."""
        columns = self.shape[-1]
        width = COLUMNS if columns % COLUMNS == 0 else columns
        part = self.line[self.begin : self.begin + math.prod(self.shape)]
        return part.reshape(columns // width, -1, width)

    def read(self) -> np.ndarray:
        block = self._blocks().swapaxes(0, 1).reshape(self.shape)
        return block.transpose(self.order) if self.order else block

    def write(self, values: Any) -> None:
        blocks = self._blocks()
        values = np.broadcast_to(values, self.shape).reshape(blocks.shape[1], blocks.shape[0], -1)
        blocks[...] = values.swapaxes(0, 1)

    def store(self, value: Value) -> None:
        assert value.shape == self.shape
        self.write(value.value)


class Descriptor:
    """A tensor that boxes are copied of, or to; there are zeros around it, and nothing is written there.

    The kernel is told that its numbers are of a ``dtype``: of doubles it rounds nothing.
    """

    def __init__(self, given: Any, dtype: torch.dtype | None = None):
        self.tensor = given.base.detach().as_strided(given.shape, given.strides)
        self.box, self.dtype, self.layout = tuple(given.block_shape), Type(dtype or given.base.dtype), None

    def read(self, place: Any) -> np.ndarray:
        found = np.zeros(self.box)
        there, inside = self._overlap(place)
        found[there] = self.tensor[inside].double().numpy()
        return found

    def write(self, place: Any, values: np.ndarray) -> None:
        there, inside = self._overlap(place)
        assert self.tensor[inside].isnan().all(), "written twice"
        self.tensor[inside] = torch.from_numpy(values[there]).to(self.tensor.dtype)

    def _overlap(self, place: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Of a box and of the tensor, what they have in common."""
        there, inside = [], []
        for at, size, n in zip(map(int, map(bare, place)), self.box, self.tensor.shape, strict=True):
            begin, end = max(at, 0), min(at + size, n)
            there.append(slice(begin - at, max(end, begin) - at))
            inside.append(slice(begin, max(end, begin)))
        return tuple(there), tuple(inside)


class Barrier:
    """It is told how many bytes come, and opens when they have come; then its next phase begins."""

    def __init__(self) -> None:
        self.phase, self.expected, self.arrived, self.coming = 0, None, 0, []

    def expect(self, size: int) -> None:
        assert self.expected is None, "a barrier is told what to expect before its last copies were waited for"
        self.expected = size

    def bring(self, size: int, copy: Callable[[], Any]) -> None:
        self.arrived += size
        self.coming.append(copy)

    def wait(self, parity: int) -> None:
        assert self.phase % 2 == parity, "waits for another turn of the ring"
        assert self.arrived == self.expected, "a barrier that never opens"
        for copy in self.coming:
            copy()
        self.phase, self.expected, self.arrived, self.coming = self.phase + 1, None, 0, []
