"""`konvlib.konv2d` on arrays and on CPU tensors against the expansion written out, for NumPy and for PyTorch.

``python -m benchmarks.konvolution_cpu`` prints the tables of time and of memory and writes the record. ``NumPy`` writes
all degrees and convolves once with `konvlib.conv2d`; ``PyTorch`` does the same with its own convolution. Memory is
what a call allocates at most beyond its operands, as NumPy reports it, so for arrays alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

import konvlib
from benchmarks import harness, processes
from konvlib import bases

SHAPES = (
    (1, 3, 224, 32, 3, 2, 3),
    (1, 64, 56, 64, 3, 1, 3),
    (1, 64, 56, 64, 3, 1, 8),
    (8, 64, 28, 64, 3, 1, 4),
    (8, 128, 14, 128, 3, 1, 4),
    (1, 256, 56, 64, 1, 1, 4),
    (1, 16, 64, 32, 5, 1, 4),
)
"""Batch, channels in, size, channels out, kernel, stride, degree; the padding is half the kernel."""

NAMES = ("batch", "in", "size", "out", "kernel", "stride", "degree")
TOLERANCE = 1e-5
BASIS = "chebyshev"


def operands(batch: int, inputs: int, size: int, outputs: int, kernel: int, degree: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([batch, inputs, size, outputs, kernel, degree])
    x = rng.uniform(-1, 1, (batch, inputs, size, size)).astype(np.float32)
    return x, rng.standard_normal((outputs, degree + 1, inputs, kernel, kernel)).astype(np.float32)


def expanded(x: np.ndarray, degree: int) -> np.ndarray:
    """All degrees as channels, the recipe that konvlib does not follow."""
    return np.moveaxis(bases.values(BASIS, x, degree), 0, 1).reshape(len(x), -1, *x.shape[2:])


def expanded_tensor(x: torch.Tensor, degree: int) -> torch.Tensor:
    terms = [torch.ones_like(x), x]
    while len(terms) <= degree:
        terms.append(2 * x * terms[-1] - terms[-2])
    return torch.cat(terms[: degree + 1], 1)


def competitors(
    batch: int, inputs: int, size: int, outputs: int, kernel: int, stride: int, degree: int
) -> tuple[Mapping[str, harness.Call], Any]:
    x, kappa = operands(batch, inputs, size, outputs, kernel, degree)
    options = {"stride": stride, "padding": kernel // 2}
    w = kappa.reshape(outputs, -1, kernel, kernel)
    tensors, weight = (torch.from_numpy(x), torch.from_numpy(kappa)), torch.from_numpy(w)

    def by_torch(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(expanded_tensor(x, degree), weight, **options)

    calls = {
        "konvlib": lambda: konvlib.konv2d(x, kappa, basis=BASIS, **options),
        "konvlib, tensors": lambda: konvlib.konv2d(*tensors, basis=BASIS, **options).numpy(),
        "NumPy": lambda: konvlib.conv2d(expanded(x, degree), w, **options),
        "PyTorch": lambda: by_torch(tensors[0], weight).numpy(),
    }
    return calls, by_torch(tensors[0].double(), weight.double()).numpy()


def cases() -> Iterator[harness.Case]:
    for shape in SHAPES:
        yield harness.Case(dict(zip(NAMES, shape, strict=True)), functools.partial(competitors, *shape), TOLERANCE)


def add_memory() -> None:
    """Add to the record, and print, the most that each way of the arrays allocates, in MiB."""
    path = harness.RESULTS / f"{harness.slug(harness.facts('cpu')['device'])}-konvolution_cpu.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for row in record["rows"]:
        calls, _ = competitors(*(row["label"][name] for name in NAMES))
        row["peak_mib"] = {name: _peak_mib(calls[name]) for name in ("konvlib", "NumPy")}
        print(row["label"], {name: round(mib, 1) for name, mib in row["peak_mib"].items()}, "MiB at most")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _peak_mib(call: harness.Call) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    wrong = harness.run(
        "konvolution_cpu", list(cases()), timer=processes.ProcessTimer(budget=parser.parse_args().seconds)
    )
    add_memory()
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
