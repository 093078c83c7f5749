"""Konvolution on a CUDA device: ours, the expansion with cuDNN, the same compiled, cuDNN alone, and the floor.

``python -m benchmarks.konvolution_gpu`` prints the tables of forward and of a training step with peak memory, their
means and worst shapes, and writes the records; without a CUDA device it says so. Each geometry takes the quickest of
konvlib's own ways, fused or not: set KONVLIB_TUNE=1 to have the fused one alone. The floor is the larger of the time
that the products need at the measured rate of a matrix product, and of the time that input, output and coefficients
need at the measured rate of a copy.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from benchmarks import cuda, harness

TOLERANCE = 2e-2
"""bfloat16 rounds the polynomials of all competitors to 8 bits before they are multiplied."""


class Shape(NamedTuple):
    batch: int
    inputs: int
    size: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    degree: int


SHAPES = (
    Shape(32, 64, 56, 64, 3, 1, 1, 4),
    Shape(32, 128, 28, 128, 3, 1, 1, 4),
    Shape(32, 256, 14, 256, 3, 1, 1, 4),
    Shape(64, 512, 7, 512, 3, 1, 1, 4),
    Shape(128, 16, 32, 32, 5, 1, 2, 4),
    Shape(32, 64, 112, 64, 3, 2, 1, 4),
    Shape(32, 256, 56, 64, 1, 1, 0, 4),
    Shape(8, 128, 128, 128, 3, 1, 1, 8),
    Shape(64, 256, 56, 256, 3, 1, 1, 3),
)


def expanded(x, polynomials: int):
    """Chebyshev's polynomials of tanh, degree by degree."""
    import torch

    t = torch.tanh(x)
    terms = [torch.ones_like(t), t]
    while len(terms) < polynomials:
        terms.append(2 * t * terms[-1] - terms[-2])
    return torch.cat(terms, 1)


def expansion_and_cudnn(x, kappa, stride: int, padding: int):
    """The expanded input, then one ordinary convolution."""
    import torch

    z = expanded(x, kappa.shape[1])
    return torch.nn.functional.conv2d(z, kappa.flatten(1, 2), None, stride, padding)


def ours(x, kappa, stride: int, padding: int):
    from konvlib.geometry import konv_geometry
    from konvlib.konvolution import tensors

    given = konv_geometry(x.shape, kappa.shape, axes=2, stride=stride, padding=padding)
    return tensors.squashed_konv(x, kappa, None, given, "chebyshev", "tanh")


def operands(shape: Shape):
    import torch

    generator = torch.Generator("cuda").manual_seed(1)
    x = torch.randn(shape.batch, shape.inputs, shape.size, shape.size, generator=generator, device="cuda")
    kappa_shape = (shape.outputs, shape.degree + 1, shape.inputs, shape.kernel, shape.kernel)
    kappa = torch.randn(kappa_shape, generator=generator, device="cuda").bfloat16()
    return x.bfloat16().to(memory_format=torch.channels_last), kappa


def layers() -> dict[str, Callable]:
    import torch

    torch._dynamo.reset()
    return {"konvlib": ours, "eager": expansion_and_cudnn, "torch.compile": torch.compile(expansion_and_cudnn)}


def forward(shape: Shape) -> tuple[Mapping[str, harness.Call], Any]:
    import torch

    x, kappa = operands(shape)
    rest = shape.stride, shape.padding
    calls = {name: functools.partial(layer, x, kappa, *rest) for name, layer in layers().items()}
    z, w = expanded(x, kappa.shape[1]), kappa.flatten(1, 2)
    calls["cuDNN, input expanded before"] = lambda: torch.nn.functional.conv2d(z, w, None, *rest)
    return calls, expansion_and_cudnn(x.float(), kappa.float(), *rest)


def training_step(shape: Shape) -> tuple[Mapping[str, harness.Call], Any]:
    """Forward and both gradients; the result compared is the gradient by the coefficients."""
    import torch

    x, kappa = (tensor.requires_grad_() for tensor in operands(shape))
    rest = shape.stride, shape.padding
    y = ours(x, kappa, *rest)
    dy = torch.randn(y.shape, device="cuda").to(y.dtype).contiguous(memory_format=torch.channels_last)

    def step(layer: Callable, x, kappa) -> torch.Tensor:
        return torch.autograd.grad(layer(x, kappa, *rest), (x, kappa), dy.to(x.dtype))[1]

    calls = {name: functools.partial(step, layer, x, kappa) for name, layer in layers().items()}
    wide = [tensor.detach().float().requires_grad_() for tensor in (x, kappa)]
    return calls, step(expansion_and_cudnn, *wide)


@cache
def rates() -> tuple[float, float]:
    """Multiplications and additions per second of a bfloat16 matrix product, bytes per second of a copy."""
    import torch

    timer = cuda.GpuTimer(graphs=True)
    a = torch.randn(8192, 8192, device="cuda").bfloat16()
    large = torch.empty(2**28, device="cuda", dtype=torch.bfloat16)
    timings = timer({"product": lambda: a @ a, "copy": lambda: large.clone()})
    return 2 * 8192**3 / timings["product"].median, 4 * 2**28 / timings["copy"].median


def floor_seconds(shape: Shape) -> float:
    size = (shape.size + 2 * shape.padding - shape.kernel) // shape.stride + 1
    pixels = shape.batch * size**2
    products = 2 * pixels * shape.outputs * shape.inputs * shape.kernel**2 * shape.degree
    samples = shape.batch * shape.inputs * shape.size**2 + pixels * shape.outputs
    samples += shape.outputs * shape.inputs * shape.kernel**2 * (shape.degree + 1)
    per_second, bytes_per_second = rates()
    return max(products / per_second, 2 * samples / bytes_per_second)


def peak_memory(shape: Shape) -> dict[str, float]:
    """MiB that a training step takes beyond its operands, by competitor."""
    import torch

    calls, _ = training_step(shape)
    peaks = {}
    for name, call in calls.items():
        try:
            call()
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            call()
        except RuntimeError as error:
            print(f"{name} fails on {shape}: {str(error).splitlines()[0]}")
            continue
        peaks[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return peaks


def cases(prepare: Callable) -> Iterator[harness.Case]:
    for shape in SHAPES:
        yield harness.Case(shape._asdict(), functools.partial(prepare, shape), TOLERANCE)


def floor(label: Mapping[str, int]) -> dict[str, float]:
    return {"floor_seconds": floor_seconds(Shape(**label))}


def peaks(label: Mapping[str, int]) -> dict[str, dict[str, float]]:
    found = peak_memory(Shape(**label))
    print(dict(label), {competitor: round(mib) for competitor, mib in found.items()}, "MiB at most", flush=True)
    return {"peak_mib": found}


TABLES = {"forward": (forward, floor), "step": (training_step, peaks)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    chosen = cuda.given(parser, arguments)
    if not cuda.is_there("konvolution_gpu"):
        return 0
    os.environ.setdefault("KONVLIB_TUNE", "all")
    tables = {f"konvolution_{name}": (list(cases(TABLES[name][0])), TABLES[name][1]) for name in chosen.tables}
    return cuda.run_all(tables, chosen)


if __name__ == "__main__":
    raise SystemExit(main())
