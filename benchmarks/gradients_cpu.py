"""Gradients on arrays against PyTorch: of ResNet-18's layers by input and weight, and of poolings.

``python -m benchmarks.gradients_cpu`` prints the tables and writes the records. The gradient of a max pooling looks for
the largest samples again, so PyTorch is timed with its forward pass there, which is where it finds them.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmarks import harness, processes
from benchmarks.images_cpu import RESNET18
from konvlib import gradients

POOLS = ((64, 112, 3, 2, 1), (64, 56, 2, 2, 0), (512, 14, 3, 1, 1), (512, 7, 7, 1, 0))
"""Channels, size, kernel, stride and padding."""

Prepared = tuple[Mapping[str, harness.Call], np.ndarray]


def layers(batches: tuple[int, ...]) -> Iterator[harness.Case]:
    for batch in batches:
        for by in ("input", "weight"):
            for row in RESNET18:
                label = dict(zip(("in", "out", "size", "kernel", "stride"), row, strict=True))
                yield harness.Case(
                    {"gradient by": by, "batch": batch, **label},
                    functools.partial(layer, by == "input", batch, *row),
                    tolerance=1e-5,
                )


def poolings(batches: tuple[int, ...]) -> Iterator[harness.Case]:
    for batch in batches:
        for name, prepare in (("max", max_pool), ("average", avg_pool)):
            for row in POOLS:
                label = dict(zip(("channels", "size", "kernel", "stride", "padding"), row, strict=True))
                case = {"pooling": name, "batch": batch, **label}
                yield harness.Case(case, functools.partial(prepare, batch, *row), tolerance=1e-6)


def layer(by_input: bool, batch: int, inputs: int, outputs: int, size: int, kernel: int, stride: int) -> Prepared:
    padding = kernel // 2
    out = (size + 2 * padding - kernel) // stride + 1
    x, w = operand(batch, inputs, size, size), operand(outputs, inputs, kernel, kernel)
    dy = operand(batch, outputs, out, out)
    options = {"stride": stride, "padding": padding}

    def by_torch(*tensors: torch.Tensor) -> np.ndarray:
        twice = [[value, value] for value in (stride, padding, 1)]
        mask = [by_input, not by_input, False]
        grads = torch.ops.aten.convolution_backward(*tensors, None, *twice, False, [0, 0], 1, mask)
        return grads[0 if by_input else 1].numpy()

    tensors = [torch.from_numpy(array) for array in (dy, x, w)]
    ours = {
        True: lambda: gradients.conv2d_input_grad(dy, w, input_size=size, **options),
        False: lambda: gradients.conv2d_weight_grad(x, dy, kernel_size=kernel, **options),
    }
    calls = {"konvlib": ours[by_input], "PyTorch": lambda: by_torch(*tensors)}
    return calls, by_torch(*(tensor.double() for tensor in tensors))


def max_pool(batch: int, channels: int, size: int, kernel: int, stride: int, padding: int) -> Prepared:
    out = (size + 2 * padding - kernel) // stride + 1
    x, dy = operand(batch, channels, size, size), operand(batch, channels, out, out)
    options = {"stride": stride, "padding": padding}

    def by_torch(x: torch.Tensor, dy: torch.Tensor) -> np.ndarray:
        y = torch.nn.functional.max_pool2d(x, kernel, **options)
        return torch.autograd.grad(y, x, dy)[0].numpy()

    tensors = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    calls = {
        "konvlib": lambda: gradients.max_pool2d_grad(x, dy, kernel, **options),
        "PyTorch": lambda: by_torch(*tensors),
    }
    return calls, by_torch(tensors[0].detach().double().requires_grad_(), tensors[1].double())


def avg_pool(batch: int, channels: int, size: int, kernel: int, stride: int, padding: int) -> Prepared:
    out = (size + 2 * padding - kernel) // stride + 1
    dy = operand(batch, channels, out, out)

    def by_torch(dy: torch.Tensor) -> np.ndarray:
        x = dy.new_empty(batch, channels, size, size)
        twice = [[value, value] for value in (kernel, stride, padding)]
        return torch.ops.aten.avg_pool2d_backward(dy, x, *twice, False, True, None).numpy()

    tensor = torch.from_numpy(dy)
    options = {"stride": stride, "padding": padding}
    calls = {
        "konvlib": lambda: gradients.avg_pool2d_grad(dy, kernel, input_size=size, **options),
        "PyTorch": lambda: by_torch(tensor),
    }
    return calls, by_torch(tensor.double())


def operand(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    chosen = parser.parse_args()
    timer, batches = processes.ProcessTimer(budget=chosen.seconds), tuple(chosen.batches)
    wrong = harness.run("gradients_cpu", list(layers(batches)), timer=timer)
    return wrong | harness.run("gradients_pooling_cpu", list(poolings(batches)), timer=timer)


if __name__ == "__main__":
    raise SystemExit(main())
