"""A chain of convolutions against the one layer that `konvlib.collapse` makes of it, in konvlib and in PyTorch.

``python -m benchmarks.strides_cpu`` prints the table and writes the record. Next to the times stand the numbers that
explain them: the multiplications of the chain and of the one layer, and the bytes that they read and write, those of
the arrays between the layers included, which the one layer does not need. It wins where it saves traffic, and loses
where it multiplies more.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

import konvlib
from benchmarks import harness

CHAINS = {
    "two 3x3, stride 2, one channel": ((1, 1024, 1024), ((1, 1, 3, 2, 1), (1, 1, 3, 2, 1))),
    "three 5x5, stride 2, depthwise": ((32, 256, 256), ((32, 32, 5, 2, 32),) * 3),
    "four taps, stride 2, four times": ((1, 1 << 20), ((1, 1, 4, 2, 1),) * 4),
    "1x1, 3x3, 1x1, expanded to 256": ((64, 56, 56), ((64, 256, 1, 1, 1), (256, 256, 3, 1, 1), (256, 64, 1, 1, 1))),
    "two 3x3, stride 2, 16 between 64": ((64, 112, 112), ((64, 16, 3, 2, 1), (16, 64, 3, 2, 1))),
    "depthwise 3x3, then 1x1": ((64, 112, 112), ((64, 64, 3, 1, 64), (64, 64, 1, 1, 1))),
}
"""The input, and of each layer the channels in and out, kernel, stride and groups."""

TOLERANCE = 1e-5


def cases() -> Iterator[harness.Case]:
    for name in CHAINS:
        model, x = prepared(name)
        for library in ("konvlib", "PyTorch"):
            label = {"chain": name, "library": library} | costs(model, x)
            yield harness.Case(label, functools.partial(competitors, name, library), tolerance=TOLERANCE)


def prepared(name: str) -> tuple[nn.Sequential, torch.Tensor]:
    """A chain as a model in single precision, and its input."""
    torch.manual_seed(0)
    size, rows = CHAINS[name]
    kind = {2: nn.Conv1d, 3: nn.Conv2d}[len(size)]
    layers = (kind(inputs, outputs, kernel, stride, groups=groups) for inputs, outputs, kernel, stride, groups in rows)
    return nn.Sequential(*layers).requires_grad_(False), torch.randn(1, *size)


def costs(model: nn.Sequential, x: torch.Tensor) -> dict[str, Any]:
    """Millions of multiplications, and megabytes of arrays: all that are read and written, and those between layers."""
    one = konvlib.collapse(model).requires_grad_(False)
    between = 0
    multiplications, y = 0, x
    for layer in model:
        y = layer(y)
        multiplications += y.numel() * prod(layer.weight.shape[1:])
        between += y.nbytes
    between -= y.nbytes
    return {
        "chain M mult": round(multiplications / 1e6, 1),
        "one M mult": round(y.numel() * prod(one.weight.shape[1:]) / 1e6, 1),
        "chain MB": round((x.nbytes + 2 * between + y.nbytes) / 1e6, 2),
        "one MB": round((x.nbytes + y.nbytes) / 1e6, 2),
        "between MB": round(between / 1e6, 2),
    }


def competitors(name: str, library: str) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    model, x = prepared(name)
    one = konvlib.collapse(model).requires_grad_(False)
    reference = copy.deepcopy(model).double()(x.double()).numpy()
    if library == "PyTorch":
        return {"one layer": lambda: one(x).numpy(), "chain": lambda: model(x).numpy()}, reference
    single, chain = [as_call(one)], [as_call(layer) for layer in model]
    return {"one layer": lambda: through(single, x.numpy()), "chain": lambda: through(chain, x.numpy())}, reference


def as_call(layer: Any) -> harness.Call:
    """A torch layer as a call of konvlib on arrays."""
    function = getattr(konvlib, f"conv{layer.weight.ndim - 2}d")
    options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    return functools.partial(function, w=layer.weight.numpy(), bias=layer.bias.numpy(), **options)


def through(layers: list[harness.Call], x: np.ndarray) -> np.ndarray:
    for layer in layers:
        x = layer(x)
    return x


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    return harness.run("strides_cpu", list(cases()), timer=harness.CpuTimer(budget=parser.parse_args().seconds))


if __name__ == "__main__":
    raise SystemExit(main())
