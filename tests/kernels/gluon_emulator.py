"""Run the body of a Gluon kernel in NumPy, program by program: places, masks, order of stages, rings of buffers.

A product reads its operands when it is waited for, as late as the hardware may. A copy is made at once, as early as it
may, so that a buffer overwritten too early shows; or, ``late``, when its barrier is waited for, so that one read too
early shows. Shared memory begins as NaN. What is not checked: races between warps, fences, swizzles.
"""

from __future__ import annotations

import inspect
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np

COLUMNS = 64
"""So many 16-bit columns of a tensor lie together in shared memory: the 128 bytes of a swizzle."""


class Value:
    """A tensor or a scalar."""

    def __init__(self, value: Any):
        self.value = np.asarray(value)
        self.dtype = self.value.dtype

    def to(self, dtype: Any) -> Value:
        return Value(self.value.astype(dtype.dtype if isinstance(dtype, Type) else dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

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

    def __floordiv__(self, other: Any) -> Value:
        assert min(self.value.min(), bare(other).min() - 1) >= 0, "divided towards zero on the device"
        return Value(self.value // bare(other))

    def __mod__(self, other: Any) -> Value:
        assert min(self.value.min(), bare(other).min() - 1) >= 0, "divided towards zero on the device"
        return Value(self.value % bare(other))


def bare(value: Any) -> np.ndarray:
    return value.value if isinstance(value, Value) else np.asarray(value)


for _name in [
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and",
    "or",
    "xor",
    "neg",
]:

    def _method(self: Value, *others: Any, _name: str = f"__{_name}__") -> Any:
        if others and isinstance(others[0], Pointer):
            return others[0] + self
        return Value(getattr(self.value, _name)(*map(bare, others)))

    setattr(Value, f"__{_name}__", _method)


class Pointer:
    """An element of an array in one line, and those from there on."""

    def __init__(self, line: np.ndarray, at: Any = 0):
        self.line, self.at, self.dtype = line, bare(at), SimpleNamespace(element_ty=Type(line.dtype))

    def __add__(self, offset: Any) -> Pointer:
        return Pointer(self.line, self.at + bare(offset))

    __radd__ = __add__


class Type(SimpleNamespace):
    """A dtype with Triton's name for its width; NumPy's own is what values are cast to."""

    def __init__(self, dtype: Any):
        super().__init__(dtype=np.dtype(dtype), primitive_bitwidth=8 * np.dtype(dtype).itemsize)


class Memory:
    """Part of an allocation of shared memory."""

    def __init__(self, line: np.ndarray, shape: Any, begin: int = 0):
        self.line, self.shape, self.begin = line, tuple(map(int, shape)), begin

    def index(self, i: Any) -> Memory:
        i, rest = int(bare(i)), self.shape[1:]
        assert 0 <= i < self.shape[0]
        return Memory(self.line, rest, self.begin + i * int(np.prod(rest)))

    def _reinterpret(self, dtype: Any, shape: Any, layout: Any) -> Memory:
        return Memory(self.line, shape, self.begin)

    def permute(self, order: Any) -> Memory:
        turned = Memory(self.line, [self.shape[axis] for axis in order], self.begin)
        turned.read = lambda: self.read().transpose(order)
        return turned

    def blocks(self) -> np.ndarray:
        """The elements as blocks of at most 64 columns, 128 bytes, which lie one after the other."""
        columns = self.shape[-1] if self.shape else 1
        width = COLUMNS if columns % COLUMNS == 0 else columns
        size = int(np.prod(self.shape))
        return self.line[self.begin : self.begin + size].reshape(columns // width, -1, width)

    def write(self, values: Any) -> None:
        blocks = self.blocks()
        values = np.broadcast_to(values, self.shape).reshape(blocks.shape[1], blocks.shape[0], -1)
        blocks[...] = values.transpose(1, 0, 2)

    def read(self) -> np.ndarray:
        return self.blocks().transpose(1, 0, 2).reshape(self.shape)

    def _keep_alive(self) -> None:
        """Tells the compiler only."""

    def store(self, value: Value) -> None:
        self.write(value.value)


class Descriptor:
    """A tensor that boxes are copied of, or to; there are zeros around it, and nothing is written there."""

    def __init__(self, array: np.ndarray, box: Any, dtype: Any):
        self.array, self.box, self.dtype, self.layout = array, tuple(box), Type(dtype), None

    def read(self, place: Any) -> np.ndarray:
        found = np.zeros(self.box, self.array.dtype)
        there, inside = self._overlap(place)
        found[there] = self.array[inside]
        return found

    def write(self, place: Any, values: np.ndarray) -> None:
        there, inside = self._overlap(place)
        self.array[inside] = values[there]

    def _overlap(self, place: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Of a box and of the tensor, what they have in common."""
        spans = [
            (max(at, 0), max(min(at + size, n), max(at, 0)))
            for at, size, n in zip(map(int, place), self.box, self.array.shape, strict=True)
        ]
        there = tuple(slice(begin - int(at), end - int(at)) for (begin, end), at in zip(spans, place, strict=True))
        return there, tuple(slice(begin, end) for begin, end in spans)


class Barrier:
    def __init__(self) -> None:
        self.phases, self.expected, self.arrived, self.pending = 0, None, 0, []

    def expect(self, size: Any) -> None:
        assert self.expected is None, "a barrier is told what to expect before its last copies were waited for"
        self.expected = int(bare(size))

    def complete(self) -> None:
        for copy in self.pending:
            copy()
        assert self.arrived == self.expected, "a barrier that never opens"
        self.pending, self.expected, self.arrived, self.phases = [], None, 0, self.phases + 1


class Sum:
    def __init__(self, value: np.ndarray):
        self.value = value


def _language(program: int, programs: int, late: bool) -> dict[str, Any]:
    barriers: dict[int, Barrier] = {}
    queue: list[tuple[Sum, Memory, Memory]] = []

    def of(bar: Memory) -> Barrier:
        return barriers[(id(bar.line), bar.begin)]

    def init(bar: Memory, count: int) -> None:
        barriers[(id(bar.line), bar.begin)] = Barrier()

    def wait(bar: Memory, phase: Any) -> None:
        if of(bar).phases % 2 == int(bare(phase)):
            of(bar).complete()

    def expect(bar: Memory, size: Any, pred: Any = True) -> None:
        if bare(pred):
            of(bar).expect(size)

    def copy(desc: Descriptor, place: Any, bar: Memory, memory: Memory, pred: Any = True) -> None:
        if not bare(pred):
            return
        assert memory.shape == desc.box
        values, at = desc.read([int(bare(value)) for value in place]), of(bar)
        at.arrived += values.size * desc.dtype.primitive_bitwidth // 8
        if late:
            memory.write(np.nan)
            at.pending.append(lambda: memory.write(values))
        else:
            memory.write(values)

    def copy_back(desc: Descriptor, place: Any, memory: Memory) -> None:
        assert memory.shape == desc.box
        desc.write([int(bare(value)) for value in place], memory.read())

    def product(a: Memory, b: Memory, acc: Sum, is_async: bool = False) -> Sum:
        queue.append((acc, a, b))
        return acc

    def products(outstanding: int, deps: Any) -> Any:
        while len(queue) > outstanding:
            acc, a, b = queue.pop(0)
            acc.value = acc.value + a.read() @ b.read()
        done = [acc if outstanding else Value(acc.value) for acc in deps]
        return done[0] if len(done) == 1 else tuple(done)

    def load(pointer: Pointer, mask: Any = True, other: Any = 0) -> Value:
        at, kept = np.broadcast_arrays(pointer.at, bare(mask))
        assert ((at >= 0) & (at < pointer.line.size) | ~kept).all()
        return Value(np.where(kept, pointer.line[np.where(kept, at, 0)], other))

    def store(pointer: Pointer, value: Any, mask: Any = True) -> None:
        at, kept, values = np.broadcast_arrays(pointer.at, bare(mask), bare(value))
        assert ((at >= 0) & (at < pointer.line.size) | ~kept).all()
        pointer.line[at[kept]] = values[kept]

    nothing = dict.fromkeys(
        ["NVMMASharedLayout", "BlockedLayout", "NVMMADistributedLayout", "SliceLayout"], lambda *_, **__: None
    )
    gl = SimpleNamespace(
        **nothing, constexpr=None, int32=np.int32, int64=np.int64, float32=np.float32, load=load, store=store,
        program_id=lambda _: Value(program), num_programs=lambda _: Value(programs),
        cdiv=lambda a, b: (Value(bare(a)) + (b - 1)) // b,
        arange=lambda begin, end, layout=None: Value(np.arange(begin, end)), static_range=range,
        zeros=lambda shape, *_: Value(np.zeros(shape)), convert_layout=lambda value, *_, **__: value,
        where=lambda c, a, b: Value(np.where(bare(c), bare(a), bare(b))),
        maximum=lambda a, b: Value(np.maximum(bare(a), bare(b))),
        minimum=lambda a, b: Value(np.minimum(bare(a), bare(b))),
        allocate_shared_memory=lambda _, shape, __: Memory(np.full(int(np.prod(shape)), np.nan), shape),
    )  # fmt: skip
    mbarrier = SimpleNamespace(
        init=init, wait=wait, expect=expect, invalidate=lambda _: None, MBarrierLayout=lambda: None
    )
    tma = SimpleNamespace(
        async_copy_global_to_shared=copy, async_copy_shared_to_global=copy_back, store_wait=lambda outstanding: None
    )
    hopper = SimpleNamespace(
        mbarrier=mbarrier, tma=tma, fence_async_shared=lambda: None,
        warpgroup_mma=product, warpgroup_mma_wait=products,
        warpgroup_mma_init=lambda value: value if isinstance(value, Sum) else Sum(bare(value)),
    )  # fmt: skip
    return {
        "gl": gl,
        "hopper": hopper,
        "barrier": lambda: None,
        "range": lambda *ends: map(Value, range(*(int(bare(end)) for end in ends))),
    }


def run(
    kernels: list[Any], grid: int, *, late: bool = False, mutant: tuple[str, str] | None = None,
    names: dict[str, Any] | None = None, **arguments: Any,
) -> None:  # fmt: skip
    """Run the last of the Gluon functions, which may call the others, for each program of the grid.

    ``mutant`` is a place in their source, and what stands there instead; ``names`` are other names that they know.
    """
    sources = [textwrap.dedent(inspect.getsource(kernel.fn)) for kernel in kernels]
    plain = "\n".join(source[source.index("def ") :].replace(": gl.constexpr", "") for source in sources)
    if mutant:
        assert plain.count(mutant[0]) == 1, mutant
        plain = plain.replace(*mutant)
    code = compile(plain, "kernel", "exec")
    for program in range(grid):
        space = _language(program, grid, late) | (names or {})
        exec(code, space)
        space[kernels[-1].fn.__name__](**{name: _given(name, value) for name, value in arguments.items()})


def _given(name: str, value: Any) -> Any:
    """What is not constant is a value on the device."""
    constant = name.isupper() or name == "num_warps"
    return Value(value) if isinstance(value, int) and not constant else value
