"""What a call of konvlib on CPU tensors costs beyond PyTorch's own: tiny calls, training steps, tracing, import.

``python -m benchmarks.overhead_cpu`` prints the table of calls and the figures beside it, and writes the record. All on
one thread, interleaved. The recipe of Konvolution is what one writes without konvlib: tanh, the recurrence of
Chebyshev's polynomials, `torch.cat`, `torch.nn.Conv2d`.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import konvlib
from benchmarks import harness
from konvlib import runtime
from konvlib.layers import forward

TOLERANCE = 1e-5
STEPS = (
    (64, 1, 8, 8, 3, 1, 1, 3),
    (8, 16, 32, 32, 3, 1, 1, 3),
    (2, 64, 28, 64, 3, 1, 1, 3),
    (4, 32, 56, 64, 3, 2, 1, 4),
    (1, 3, 112, 16, 7, 2, 3, 3),
    (16, 64, 7, 128, 1, 1, 0, 5),
)
"""Batch, channels in, size, channels out, kernel, stride, padding, degree of the training steps."""

LAYERS = 8
"""How many Konvolutions the model has that torch.compile traces."""


class Recipe(nn.Module):
    """Konvolution as one writes it with PyTorch alone."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, degree: int):
        super().__init__()
        self.degree = degree
        self.conv = nn.Conv2d(inputs * (degree + 1), outputs, kernel, stride=stride, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = torch.tanh(x)
        terms = [torch.ones_like(t), t]
        for _ in range(2, self.degree + 1):
            terms.append(2 * t * terms[-1] - terms[-2])
        return self.conv(torch.cat(terms, 1))


def pair(inputs: int, outputs: int, kernel: int, stride: int, padding: int, degree: int) -> tuple[nn.Module, Recipe]:
    """Return the layer and the recipe, of the same function."""
    ours = konvlib.Konv2d(inputs, outputs, kernel, degree=degree, stride=stride, padding=padding)
    recipe = Recipe(inputs, outputs, kernel, stride, padding, degree)
    with torch.no_grad():
        recipe.conv.weight.copy_(ours.kappa.flatten(1, 2))
        recipe.conv.bias.copy_(ours.bias)
    return ours, recipe


def tiny_calls() -> dict[str, tuple[Callable[..., Any], Callable[..., Any], list[torch.Tensor]]]:
    """Return, for each function, a call of konvlib, the same call of PyTorch, and their operands."""
    calls = {}
    for axes in (1, 2, 3):
        x, w = torch.randn(1, 1, *(4,) * axes), torch.randn(1, 1, *(3,) * axes)
        for name in ("conv", "conv_transpose"):
            name = f"{name}{axes}d"
            calls[name] = getattr(konvlib, name), getattr(functional, name), [x, w]
        for name in ("max_pool", "avg_pool"):
            name = f"{name}{axes}d"
            ours, theirs = getattr(konvlib, name), getattr(functional, name)
            calls[name] = functools.partial(_pooled, ours), functools.partial(_pooled, theirs), [x]
    calls["im2col"] = lambda x: konvlib.im2col(x, 3), lambda x: functional.unfold(x, 3), [torch.randn(1, 1, 4, 4)]
    return calls


def _pooled(pool: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return pool(x, 2)


def prepare_call(name: str, gradients: bool) -> tuple[Mapping[str, harness.Call], Any]:
    ours, theirs, operands = tiny_calls()[name]
    operands = [operand.requires_grad_(gradients) for operand in operands]
    calls = {"konvlib": lambda: ours(*operands).detach(), "PyTorch": lambda: theirs(*operands).detach()}
    return calls, calls["PyTorch"]().double()


def prepare_step(shape: tuple[int, ...]) -> tuple[Mapping[str, harness.Call], Any]:
    batch, inputs, size, *layer = shape
    modules = dict(zip(("konvlib", "recipe"), pair(inputs, *layer), strict=True))
    x = torch.randn(batch, inputs, size, size, requires_grad=True)
    dy = torch.randn_like(modules["recipe"](x))

    def step(module: nn.Module) -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        x.grad = None
        module(x).backward(dy)
        return x.grad

    calls = {name: functools.partial(step, module) for name, module in modules.items()}
    return calls, calls["recipe"]().double()


def prepare_forward() -> tuple[Mapping[str, harness.Call], Any]:
    ours, recipe = pair(1, 1, 3, 1, 0, 3)
    x = torch.randn(1, 1, 4, 4)

    def without_gradients(module: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return module(x)

    calls = {"konvlib": lambda: without_gradients(ours), "recipe": lambda: without_gradients(recipe)}
    return calls, calls["recipe"]().double()


def cases() -> Iterator[harness.Case]:
    for gradients in (False, True):
        for name in tiny_calls():
            label = {"call": name, "requires_grad": gradients}
            yield harness.Case(label, functools.partial(prepare_call, name, gradients), TOLERANCE)
    yield harness.Case({"call": "Konv2d, tiny"}, prepare_forward, TOLERANCE)
    for shape in STEPS:
        label = {"call": f"Konv2d, training step, {'x'.join(map(str, shape))}"}
        yield harness.Case(label, functools.partial(prepare_step, shape), 1e-4)


def saved_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Return how many bytes autograd keeps for the backward, but for the parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    del y
    return sum(kept.values())


def saved_share() -> float:
    """Return the geometric mean, over the shapes of the steps, of what Konv2d keeps over what the recipe keeps."""
    shares = []
    for batch, inputs, size, *layer in STEPS:
        ours, recipe = pair(inputs, *layer)
        x = torch.randn(batch, inputs, size, size, requires_grad=True)
        shares.append(saved_bytes(ours, x) / saved_bytes(recipe, x))
    return statistics.geometric_mean(shares)


def tracing_seconds(make: Callable[[], nn.Module]) -> float:
    """Return how long Dynamo takes to trace a model of eight layers, in a process that has traced before."""
    torch._dynamo.reset()
    torch.compile(nn.Conv2d(1, 1, 1), backend="eager")(torch.ones(1, 1, 1, 1))
    model, x = nn.Sequential(*(make() for _ in range(LAYERS))), torch.randn(1, 4, 8, 8)
    torch._dynamo.reset()
    begin = time.perf_counter()
    torch.compile(model, fullgraph=True, backend="eager")(x)
    return time.perf_counter() - begin


class Unlaunched:
    """In the place of a kernel: it takes a launch and does nothing."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **options: None


def kernel_path() -> dict[str, dict[str, float]]:
    """Return the microseconds that the host takes for calls by kernels, without what a launch itself takes.

    Operands lie channels last, as kernels want them; what the calls return is not written. Those of Konvolution are
    small, since what its calls compute besides the kernel is computed here.
    """
    calls = {"conv2d": _layer_calls(), "konv2d": _konvolution_calls()}
    kernels = [name for name in vars(forward) if name.endswith("_kernel")]
    launched, interpret = {name: getattr(forward, name) for name in kernels}, runtime.INTERPRET
    try:
        runtime.INTERPRET = True
        for name in kernels:
            setattr(forward, name, Unlaunched())
        figures: dict[str, dict[str, float]] = {name: {} for name in calls}
        for name, each in calls.items():
            for what, call in each.items():
                figures[name][what] = 1e6 * harness.CpuTimer()({what: call})[what].median
        return figures
    finally:
        runtime.INTERPRET = interpret
        for name, kernel in launched.items():
            setattr(forward, name, kernel)


def _layer_calls() -> dict[str, Callable[[], torch.Tensor]]:
    x, w = (
        torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
        for shape in ((1, 32, 8, 8), (32, 32, 3, 3))
    )
    constants = x.detach(), w.detach()
    return {"without gradients": lambda: konvlib.conv2d(*constants), "with requires_grad": lambda: konvlib.conv2d(x, w)}


def _konvolution_calls() -> dict[str, Callable[[], torch.Tensor]]:
    x, kappa = torch.randn(1, 8, 8, 8).to(memory_format=torch.channels_last), torch.randn(8, 5, 8, 3, 3)
    module = konvlib.Konv2d(8, 8, 3, degree=4, padding=1)
    return {"without gradients": lambda: konvlib.konv2d(x, kappa, padding=1), "Konv2d, in training": lambda: module(x)}


def python_calls() -> int:
    """Return how many calls of Python functions inside konvlib a warm conv2d of arrays makes."""
    x, w, count = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), 0

    def seen(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and "/konvlib/" in frame.f_code.co_filename

    konvlib.conv2d(x, w)
    sys.setprofile(seen)
    try:
        konvlib.conv2d(x, w)
    finally:
        sys.setprofile(None)
    return count


def import_seconds(samples: int = 9) -> float:
    """Return the median time of ``import konvlib`` in a new process, less what Python itself takes to start."""

    def seconds(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begin

    pairs = [(seconds("import konvlib"), seconds("pass")) for _ in range(samples)]
    return statistics.median(ours - bare for ours, bare in pairs)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures that are no times of calls, and what the times come to."""

    def extra(requires_grad: bool) -> list[float]:
        chosen = [row["competitors"] for row in rows if row["label"].get("requires_grad") is requires_grad]
        return [1e6 * (row["konvlib"]["seconds"] - row["PyTorch"]["seconds"]) for row in chosen]

    steps = [1 / row["ratios"]["recipe"] for row in rows if "step" in row["label"]["call"]]
    tiny = [1 / row["ratios"]["recipe"] for row in rows if "tiny" in row["label"]["call"]]
    return {
        "extra microseconds per tiny call": {"median": statistics.median(extra(False)), "worst": max(extra(False))},
        "extra microseconds with requires_grad": {"median": statistics.median(extra(True)), "worst": max(extra(True))},
        "Konv2d, tiny, over the recipe": tiny[0],
        "training step over the recipe": {"geometric mean": statistics.geometric_mean(steps), "worst": max(steps)},
        "memory saved over the recipe's": saved_share(),
        "seconds to trace eight Konv2d": tracing_seconds(lambda: konvlib.Konv2d(4, 4, 3, padding=1)),
        "seconds to trace eight recipes": tracing_seconds(lambda: Recipe(4, 4, 3, 1, 1, 3)),
        **{f"microseconds of the host to launch a {name}": each for name, each in kernel_path().items()},
        "Python calls of conv2d(ndarray)": python_calls(),
        "seconds of import konvlib": import_seconds(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wrong = harness.run("overhead_cpu", list(cases()), timer=harness.CpuTimer(budget=parser.parse_args().seconds))
    path = harness.RESULTS / f"{harness.slug(harness.facts('cpu')['device'])}-overhead_cpu.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["figures"] = summary(record["rows"])
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, figure in record["figures"].items():
        print(name, figure)
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
