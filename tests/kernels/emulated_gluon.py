"""Run a Gluon kernel's body in NumPy, program by program, on any machine.

It shows whether places, masks, boxes, the order of stages and the rings of buffers are right. A product reads shared
memory when it is waited for, as late as the hardware may, and so does a copy back. A copy arrives when it is queued, as
early as it may, so that a buffer overwritten too early shows; or, ``late``, when its barrier is waited for, so that one
read too early shows. Outputs begin as NaN, and nothing is written twice. Races between warps, fences, swizzles and
layouts do not show.
"""

from __future__ import annotations

import inspect
import math
from functools import cache, partial
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.kernels.emulated_memory import Barrier, Descriptor, Pointer, Shared, Type, Value, bare


class Emulated:
    """Stands for a kernel: each launch runs it here, and is counted."""

    def __init__(self, kernel: Any, **options: Any):
        self.kernel, self.options, self.runs = kernel, options, 0

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*given: Any, **named: Any) -> None:
            self.runs += 1
            run(self.kernel, grid, dict(zip(self.kernel.arg_names, given, strict=False)) | named, **self.options)

        return launch


def run(
    kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], *,
    late: bool = False, mutant: tuple[str, ...] | None = None,
) -> None:  # fmt: skip
    """Run all programs of a launch on CPU tensors, which are written through.

    ``mutant`` is a place in the source of the kernel, or of what it calls, and what stands there instead; before them
    may come the name of the function that is meant, and a kernel that does not call it is as it was.
    """
    code, names = _compiled(kernel.fn, mutant)
    constants = kernel.fn.__annotations__
    given = {name: value if name in constants else _given(value) for name, value in arguments.items()}
    for number in range(math.prod(grid)):
        program = Program(number, math.prod(grid), late)
        space = names | program.language()
        exec(code, space)
        space[kernel.fn.__name__](**given)
        program.end()


def _given(value: Any) -> Any:
    """An argument as the kernel sees it."""
    if isinstance(value, torch.Tensor):
        return Pointer.to(value)
    if hasattr(value, "block_shape"):
        return Descriptor(value)
    return Value(value) if isinstance(value, int) else value


@cache
def _compiled(function: FunctionType, mutant: tuple[str, ...] | None) -> tuple[CodeType, dict[str, Any]]:
    """A kernel with all that it calls, and what else it knows by name; Gluon's own names are left to `Program`."""
    parts, names = [function], {}
    for part in parts:
        for name in {*part.__code__.co_names} & {*part.__globals__} - STAND_INS:
            value = part.__globals__[name]
            if type(value).__name__ == "GluonJITFunction":
                parts += [value.fn] if value.fn not in parts else []
            else:
                names[name] = value.value if type(value).__name__ == "constexpr" else value
    sources = {part.__name__: inspect.getsource(part) for part in parts}
    if mutant:
        *of, right, wrong = mutant
        meant = of if of and of[0] in sources else [] if of else [*sources]
        assert sum(sources[name].count(right) for name in meant) == (len(meant) > 0), mutant
        sources |= {name: sources[name].replace(right, wrong) for name in meant}
    source = "\n".join(each[each.index("def ") :] for each in sources.values())
    return compile(source, "kernel", "exec"), names  # its annotations stay text, as here


class Sum:
    """What products are added to; it is a `Value` once all of them are waited for."""

    def __init__(self, value: np.ndarray):
        self.value = value


class Program:
    """One program of a launch: its barriers, and what is under way."""

    def __init__(self, number: int, count: int, late: bool):
        self.number, self.count, self.late = number, count, late
        self.barriers: dict[tuple[int, int], Barrier] = {}
        self.products: list[tuple[Sum, Shared, Shared]] = []
        self.copies_back: list[Any] = []

    def end(self) -> None:
        assert not self.products, "products are never waited for"
        assert not self.copies_back, "copies back are never waited for"
        assert all(bar.expected is None for bar in self.barriers.values()), "copies are never waited for"

    def bar(self, place: Shared) -> Barrier:
        return self.barriers[id(place.line), place.begin]

    def begin_barrier(self, place: Shared, count: int) -> None:
        self.barriers[id(place.line), place.begin] = Barrier()

    def expect(self, bar: Shared, size: Any, pred: Any = True) -> None:
        if bare(pred):
            self.bar(bar).expect(int(bare(size)))

    def copy(self, desc: Descriptor, place: Any, bar: Shared, memory: Shared, pred: Any = True) -> None:
        if not bare(pred):
            return
        assert memory.shape == desc.box
        values = desc.read(place)
        memory.write(np.nan if self.late else values)
        arrive = partial(memory.write, values) if self.late else _nothing
        self.bar(bar).bring(values.size * desc.tensor.itemsize, arrive)

    def copy_back(self, desc: Descriptor, place: Any, memory: Shared) -> None:
        assert memory.shape == desc.box
        self.copies_back.append(lambda: desc.write(place, memory.read()))

    def wait_for_copies_back(self, outstanding: int) -> None:
        while len(self.copies_back) > outstanding:
            self.copies_back.pop(0)()

    def product(self, a: Shared, b: Shared, acc: Sum, *, is_async: bool) -> Sum:
        self.products.append((acc, a, b))
        return acc

    def wait_for_products(self, outstanding: int, accs: list[Sum]) -> Any:
        while len(self.products) > outstanding:
            acc, a, b = self.products.pop(0)
            acc.value = acc.value + a.read() @ b.read()
        done = [acc if outstanding else Value(acc.value) for acc in accs]
        return done[0] if len(done) == 1 else tuple(done)

    def language(self) -> dict[str, Any]:
        """What Gluon's names mean in this program."""
        layouts = ("NVMMASharedLayout", "BlockedLayout", "NVMMADistributedLayout", "SliceLayout")
        types = ("float16", "bfloat16", "float32", "int32", "int64")
        gl = SimpleNamespace(
            **dict.fromkeys(layouts, _nothing), **{name: Type(getattr(torch, name)) for name in types},
            program_id=lambda axis: Value(self.number), num_programs=lambda axis: Value(self.count),
            static_range=range, cdiv=lambda a, b: (Value(bare(a)) + (bare(b) - 1)) // b,
            arange=lambda begin, end, layout=None: Value(np.arange(begin, end)),
            zeros=lambda shape, dtype, layout=None: Value(np.zeros(shape)),
            full=lambda shape, value, dtype, layout=None: Value(np.full(shape, float(value))),
            where=lambda mask, a, b: Value(np.where(bare(mask), bare(a), bare(b))),
            minimum=lambda a, b: Value(np.minimum(bare(a), bare(b))),
            maximum=lambda a, b: Value(np.maximum(bare(a), bare(b))),
            join=lambda a, b: Value(np.stack((bare(a), bare(b)), -1)), convert_layout=lambda value, *_, **__: value,
            allocate_shared_memory=lambda dtype, shape, layout: Shared(np.full(math.prod(shape), np.nan), shape),
            load=lambda pointer, mask=True, other=0: pointer.load(mask, other),
            store=lambda pointer, value, mask=True: pointer.store(value, mask),
        )  # fmt: skip
        hopper = {
            "mbarrier": SimpleNamespace(
                MBarrierLayout=_nothing, init=self.begin_barrier, invalidate=_nothing, expect=self.expect,
                wait=lambda bar, parity: self.bar(bar).wait(int(bare(parity))),
            ),
            "tma": SimpleNamespace(
                async_copy_global_to_shared=self.copy, async_copy_shared_to_global=self.copy_back,
                store_wait=self.wait_for_copies_back,
            ),
            "fence_async_shared": _nothing, "warpgroup_mma": self.product,
            "warpgroup_mma_wait": self.wait_for_products,
            "warpgroup_mma_init": lambda value: value if isinstance(value, Sum) else Sum(bare(value)),
        }  # fmt: skip
        return {
            **hopper, "hopper": SimpleNamespace(**hopper), "gl": gl, "barrier": _nothing,
            "range": lambda *ends: map(Value, range(*(int(bare(end)) for end in ends))),
            "tanh": lambda x, dtype: _squashed(x, "tanh"), "exactly_squashed": _squashed,
        }  # fmt: skip


def _nothing(*_: Any, **__: Any) -> None:
    """What tells only the compiler something."""


def _squashed(x: Value, squash: str) -> Value:
    return Value(np.tanh(x.value)) if squash == "tanh" else x


STAND_INS = {*Program(0, 1, late=False).language()}
