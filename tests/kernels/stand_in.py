"""Stands for a machine with a CUDA device: benchmarks run through on the CPU, on tiny shapes, with no time measured.

``python -m tests.kernels.stand_in -m benchmarks.card --part 1`` runs that program so, and all that it starts; tests are
not run. Records go to ``STAND_IN_RESULTS``. ``STAND_IN_FAULT`` names a table and what happens in its second row:
``forward raises``, ``forward hangs``, ``forward illegal`` (an access that ends the device's context) or
``forward dies``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class OnCpu(TorchFunctionMode):
    """What asks for a CUDA device gets the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


class Event:
    """Events of a device on which everything takes a millisecond."""

    def __init__(self, **_: Any): ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: Event) -> float:
        return 1.0


class Generator(torch.Generator):
    """Numbers come from the CPU, whatever device they are for."""

    def __new__(cls, device: str = "cpu") -> Generator:
        return super().__new__(cls, "cpu")


class Graph:
    def replay(self) -> None: ...


class Fault:
    """What goes wrong in one row, and whether the device can compute afterwards."""

    def __init__(self) -> None:
        self.table, _, self.kind = os.environ.get("STAND_IN_FAULT", "").partition(" ")
        self.rows, self.lost = 0, False

    def strike(self) -> None:
        self.rows += 1
        if self.table not in sys.argv or self.rows != 2 or "--resume" in sys.argv:
            return
        if self.kind == "hangs":
            time.sleep(1000)
        if self.kind == "dies":
            os._exit(139)
        self.lost = self.kind == "illegal"
        raise RuntimeError("CUDA error: an illegal memory access was encountered" if self.lost else "no such layer")

    def check(self) -> None:
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def pretend() -> None:
    """Put the device there, for the rest of the process."""
    from benchmarks import card, cuda, harness, konvolution_gpu, layers_gpu, sequences_gpu

    fault = Fault()
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_name = lambda device=None: "Stand-in"
    torch.cuda.synchronize = lambda device=None: fault.check()
    torch.cuda.Event, torch.cuda.CUDAGraph = Event, Graph
    torch.cuda.graph = lambda graph: contextlib.nullcontext()
    torch.cuda.memory_allocated = torch.cuda.max_memory_allocated = lambda device=None: 0
    torch.cuda.reset_peak_memory_stats = lambda device=None: None
    torch.compile = lambda function: function
    torch.Generator = Generator
    OnCpu().__enter__()

    harness.RESULTS = Path(os.environ["STAND_IN_RESULTS"])
    card.PYTHON = (sys.executable, "-m", "tests.kernels.stand_in")
    card.ROW = 45.0 if fault.kind == "hangs" else 300.0
    cuda.warm = lambda cases, processes: print("warmed", *map(cuda._called_once, cases))
    konvolution_gpu.SHAPES = [konvolution_gpu.Shape(2, 4, size, 3, 3, 1, 1, 2) for size in (5, 6, 7)]
    konvolution_gpu.rates = lambda: (1e12, 1e12)
    for name, (layers, what) in layers_gpu.TABLES.items():
        layers_gpu.TABLES[name] = (tuple(_small(layer) for layer in layers[:3]), what)
    layers_gpu.IM2COL = tuple((2, 3, size, 3, 1, 1) for size in (5, 6, 7))
    sequences_gpu.ROWS, sequences_gpu.TAPS = ((2, 16),), (3,)

    measure = cuda.GpuTimer.measure

    def measured(timer: Any, case: Any) -> Any:
        prepare = case.prepare

        def struck() -> Any:
            fault.check()
            fault.strike()
            return prepare()

        return measure(timer, harness.Case(case.label, struck, case.tolerance))

    cuda.GpuTimer.measure = measured


def _small(layer: Any) -> Any:
    """A layer of its kind with few numbers: its channels stay different, its groups are still its channels."""
    channels = 4 if layer.groups > 1 else 3 + layer.inputs % 5
    outputs = channels if layer.groups > 1 else 2 + layer.outputs % 7
    least = max(layer.dilation * layer.kernel, 4) + layer.size[0] % 7
    size = tuple(least + place for place, _ in enumerate(layer.size))
    groups = channels if layer.groups > 1 else 1
    return layer._replace(batch=2, inputs=channels, outputs=outputs, size=size, groups=groups)


def _collected(arguments: list[str]) -> int:
    """Whether the files of tests are there; with ``STAND_IN_COLLECT`` also whether pytest takes all arguments."""
    if not os.environ.get("STAND_IN_COLLECT"):
        return int(not all(Path(name).exists() for name in arguments if name.startswith("tests/")))
    import pytest

    return int(pytest.main([*arguments, "--collect-only", "-qq", "-n", "0"]))


def main() -> int:
    _, module, *arguments = sys.argv[1:]
    if module == "pytest":
        return _collected(arguments)
    pretend()
    return importlib.import_module(module).main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
