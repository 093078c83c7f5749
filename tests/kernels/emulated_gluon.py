"""Run a Gluon kernel's body in NumPy, program by program, on any machine.

It shows whether places, masks, the order of stages and the rings of buffers are right. A product reads shared memory
when it is waited for, as late as the hardware may, so a buffer that is overwritten too early shows; a copy arrives when
it is queued, as early as it may, and waiting for one that was never queued fails. Races between warps, fences, swizzles
and layouts do not show.
"""

from __future__ import annotations

from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch


def run(kernel: Any, grid: tuple[int], arguments: dict[str, Any]) -> None:
    """Run all programs of a launch on CPU tensors, which are written through."""
    pointers = {name: _pointer(value) for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    given = {**arguments, **pointers}
    for name, value in arguments.items():
        if name.endswith("_desc"):
            given[name] = value.base.float().numpy()
    for program in range(grid[0]):
        _standing(kernel.fn, _stand_ins(program))(**given)
    for name, pointer in pointers.items():
        if name == "y_ptr":
            _storage(arguments[name]).copy_(torch.from_numpy(pointer.data))


def _storage(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor from its first on, in the order of memory."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((span,), (1,))


def _pointer(tensor: torch.Tensor) -> Pointer:
    return Pointer(_storage(tensor).double().numpy().copy(), 0, str(tensor.dtype).removeprefix("torch."))


def _standing(function: Any, stand_ins: dict[str, Any]) -> FunctionType:
    """A function of the kernel's module in which Gluon's names mean stand-ins, as they do in what it calls."""
    names: dict[str, Any] = {}

    def made(function: Any) -> FunctionType:
        return FunctionType(function.__code__, names, function.__name__, function.__defaults__)

    for name, value in function.__globals__.items():
        kind = type(value).__name__
        names[name] = made(value.fn) if kind == "GluonJITFunction" else value.value if kind == "constexpr" else value
    names |= stand_ins
    return made(function)


class Block:
    """A tensor or a scalar of the kernel."""

    def __init__(self, value: Any, dtype: str = "float64"):
        self.value, self.dtype = np.asarray(value), dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def to(self, dtype: str) -> Block:
        if dtype in ("int64", "float32"):
            return self
        torch_dtype = getattr(torch, dtype)
        return Block(torch.from_numpy(np.array(self.value, np.float64)).to(torch_dtype).double().numpy(), dtype)

    def permute(self, order: Any) -> Block:
        return Block(self.value.transpose(order), self.dtype)

    def reshape(self, shape: Any) -> Block:
        return Block(self.value.reshape(shape), self.dtype)

    def __getitem__(self, item: Any) -> Block:
        return Block(self.value[item])

    def __index__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __invert__(self) -> Block:
        return Block(~self.value)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Block) else x


def _operation(name: str) -> Any:
    def operation(self: Block, other: Any) -> Any:
        if isinstance(other, Pointer):
            return other + self
        return Block(getattr(self.value, name)(np.asarray(_value(other))))

    return operation


OPERATIONS = """add radd sub rsub mul rmul floordiv rfloordiv mod rmod truediv lt le gt ge eq ne and rand or xor"""
for _name in OPERATIONS.split():
    setattr(Block, f"__{_name}__", _operation(f"__{_name}__"))


class Pointer:
    def __init__(self, data: np.ndarray, at: Any, dtype: str):
        self.data, self.at = data, at
        self.dtype = SimpleNamespace(element_ty=dtype)

    def __add__(self, other: Any) -> Pointer:
        return Pointer(self.data, self.at + _value(other), self.dtype.element_ty)

    __radd__ = __add__


class Shared:
    """A view of shared memory: one flat array for each allocation."""

    def __init__(self, data: np.ndarray, shape: Any, start: int = 0, order: Any = None):
        self.data, self.shape, self.start, self.order = data, tuple(map(int, shape)), start, order

    def index(self, i: Any) -> Shared:
        i, size = int(_value(i)), int(np.prod(self.shape[1:]))
        assert 0 <= i < self.shape[0], "an index past the end of shared memory"
        return Shared(self.data, self.shape[1:], self.start + i * size)

    def _reinterpret(self, dtype: str, shape: Any, layout: Any) -> Shared:
        view = Shared(self.data, shape, self.start)
        assert view.start + int(np.prod(view.shape)) <= view.data.size, "a view past the end of shared memory"
        return view

    def permute(self, order: Any) -> Shared:
        return Shared(self.data, self.shape, self.start, order)

    def read(self) -> np.ndarray:
        block = self.data[self.start : self.start + int(np.prod(self.shape))].reshape(self.shape)
        return block.transpose(self.order) if self.order else block

    def store(self, block: Block) -> None:
        assert block.shape == self.shape
        self.data[self.start : self.start + block.value.size] = block.value.reshape(-1)


class Accumulator:
    def __init__(self, value: np.ndarray):
        self.value, self.queue = value, []


def _stand_ins(program: int) -> dict[str, Any]:
    arrived: dict[tuple[int, int], list[int]] = {}
    nothing = dict.fromkeys(("NVMMASharedLayout", "BlockedLayout", "NVMMADistributedLayout", "SliceLayout"))

    def load(pointer: Pointer, mask: Any = None, other: float = 0) -> Block:
        at, mask = np.broadcast_arrays(pointer.at, _value(mask))
        assert not (mask & ((at < 0) | (at >= pointer.data.size))).any(), "a load outside"
        return Block(np.where(mask, pointer.data[np.where(mask, at, 0)], other), pointer.dtype.element_ty)

    def store(pointer: Pointer, block: Block, mask: Any) -> None:
        at, mask, values = np.broadcast_arrays(pointer.at, _value(mask), block.value)
        assert not (mask & ((at < 0) | (at >= pointer.data.size))).any(), "a store outside"
        assert np.isnan(pointer.data[at[mask]]).all(), "written twice"
        pointer.data[at[mask]] = values[mask]

    def product(a: Shared, b: Shared, acc: Accumulator, *, is_async: bool) -> Accumulator:
        acc.queue.append((a, b))
        return acc

    def wait_for_products(count: int, accs: list[Accumulator]) -> Any:
        (acc,) = accs
        while len(acc.queue) > count:
            a, b = acc.queue.pop(0)
            acc.value = acc.value + a.read() @ b.read()
        return acc if acc.queue or count else Block(acc.value)

    def started(value: Any) -> Accumulator:
        return value if isinstance(value, Accumulator) else Accumulator(value.value)

    def expect(bar: Shared, size: int, pred: Any = True) -> None:
        if bool(_value(pred)):
            arrived.setdefault(_key(bar), []).append(size)

    def copy(desc: np.ndarray, coordinates: Any, bar: Shared, target: Shared, pred: Any = True) -> None:
        if not bool(_value(pred)):
            return
        row, column = (int(_value(c)) for c in coordinates)
        rows, columns = target.shape
        box = desc[row : row + rows, column : column + columns]
        target.data[target.start : target.start + rows * columns] = 0  # what lies outside
        target.read()[: box.shape[0], : box.shape[1]] = box
        arrived[_key(bar)][-1] -= 2 * rows * columns

    def wait_for_copies(bar: Shared, parity: Any) -> None:
        """The barrier has been through as many phases as there were copies, and waits for that of the given parity."""
        done = arrived.get(_key(bar), [])
        assert done, "waits for a copy that was never queued"
        assert not any(done), "waits for a copy that is smaller than foretold"
        waited = seen.get(_key(bar), 0)
        assert waited < len(done), "waits for a copy that was never queued"
        assert waited % 2 == int(_value(parity)), "waits for another turn of the ring"
        seen[_key(bar)] = waited + 1

    seen: dict[tuple[int, int], int] = {}
    gl = SimpleNamespace(
        **{name: (lambda *a, **k: None) for name in nothing},
        bfloat16="bfloat16",
        float16="float16",
        float32="float32",
        int64="int64",
        program_id=lambda axis: program,
        cdiv=lambda a, b: -(-int(_value(a)) // int(_value(b))),
        arange=lambda begin, end, layout=None: Block(np.arange(begin, end)),
        zeros=lambda shape, dtype, layout=None: Block(np.zeros(shape)),
        full=lambda shape, value, dtype, layout=None: Block(np.full(shape, float(value))),
        join=lambda a, b: Block(np.stack((a.value, b.value), -1), a.dtype),
        where=lambda mask, a, b: Block(np.where(_value(mask), _value(a), _value(b))),
        minimum=lambda a, b: Block(np.minimum(_value(a), _value(b))),
        maximum=lambda a, b: Block(np.maximum(_value(a), _value(b))),
        static_range=range,
        convert_layout=lambda block, layout: block,
        allocate_shared_memory=lambda dtype, shape, layout: Shared(np.full(int(np.prod(shape)), np.nan), shape),
        load=load,
        store=store,
    )
    mbarrier = SimpleNamespace(
        MBarrierLayout=lambda: None,
        init=lambda *a, **k: None,
        invalidate=lambda *a: None,
        expect=expect,
        wait=wait_for_copies,
    )
    return {
        "gl": gl,
        "mbarrier": mbarrier,
        "tma": SimpleNamespace(async_copy_global_to_shared=copy),
        "fence_async_shared": lambda: None,
        "barrier": lambda: None,
        "warpgroup_mma": product,
        "warpgroup_mma_wait": wait_for_products,
        "warpgroup_mma_init": started,
        "tanh": lambda x, dtype: Block(np.tanh(x.value)),
    }


def _key(bar: Shared) -> tuple[int, int]:
    return id(bar.data), bar.start
