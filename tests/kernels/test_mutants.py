"""Sharpness of the kernels' tests: each usual mistake, made in a copy of a kernel, changes some exact small result.

The results compared are what tests/kernels/test_layers.py and the backends' tests hold to ATen and to the definitions:
small integers, in the interpreter or on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import konvlib
from konvlib.images import pooling_operators
from konvlib.konvolution import ways
from konvlib.layers import autotune, forward, polynomial_input_grad, weight_grad
from konvlib.layers import operators as layer_operators
from konvlib.matrices import operators as column_operators
from tests.engine import test_mutants as engine
from tests.kernels.mutants import KERNELS
from tests.kernels.operators import integers, running
from tests.kernels.test_konvolution import squashed_konv
from tests.kernels.test_layers import LAYERS, calls, last

DILATED = ((1, 2, 9), (2, 2, 3), ((2,), (3, 1), (3,), 1))
MANY_TAPS = ((1, 17, 6), (18, 17, 5), ((2,), (3, 1), (1,), 1))
GROUPS = ((1, 34, 8), (32, 17, 3), ((2,), (2, 1), (3,), 2))
STRIPS = ((2, 8, 7, 33), (8, 1, 3, 3), ((2, 2), (1, 1, 1, 1), (1, 1), 8))
PARTS = ((1, 2, 300, 3), (2, 1, 1, 2), ((1, 1), (0, 0, 0, 0), (1, 1), 2))
BLOCKS_OF_PIXELS = (
    ((1, 132, 88), (132, 2, 9), ((1,), (0, 0), (1,), 66)),
    ((1, 17, 155), (17, 17, 44), ((1,), (0, 0), (1,), 1)),
)


def layers(device: str) -> Iterator[torch.Tensor]:
    for layer in (*LAYERS.values(), DILATED, MANY_TAPS, GROUPS):
        yield from results_of(layer, device)


def depthwise(device: str) -> Iterator[torch.Tensor]:
    """With channels that lie together too, several strips in a line, and more or fewer parts than are added at once."""
    for change in (torch.clone, last):
        for layer in (LAYERS["depthwise"], LAYERS["3 axes"], STRIPS, PARTS):
            yield from results_of(layer, device, change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotune, "multiprocessors", lambda tensor: 0)  # one part
        patch.setattr(autotune, "_measured", {})
        yield from results_of(STRIPS, device)


def long_sums(device: str) -> Iterator[torch.Tensor]:
    """What takes every loop of the kernels round twice."""
    for layer in (*BLOCKS_OF_PIXELS, MANY_TAPS, GROUPS):
        yield from results_of(layer, device)


def results_of(
    layer: Any, device: str, change: Callable[[torch.Tensor], torch.Tensor] = torch.clone
) -> Iterator[torch.Tensor]:
    for name, arguments in calls(layer, device, make=integers).items():
        arguments = [change(each) if isinstance(each, torch.Tensor) else each for each in arguments]
        yield getattr(layer_operators, name)(*arguments)


def poolings(device: str) -> Iterator[torch.Tensor]:
    x = integers((2, 3, 5, 7), device) - 20
    x[1, 0, 2, 3] = float("nan")
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 1))}
    y = konvlib.max_pool2d(x, 3, dilation=(1, 2), **options)
    yield y
    yield konvlib.max_pool2d_grad(x, torch.ones_like(y), 3, dilation=(1, 2), **options)
    x = integers((2, 3, 7), device)
    yield (y := konvlib.max_pool1d(x, 2, dilation=2, padding=1))
    yield konvlib.max_pool1d_grad(x, integers(y.shape, device), 2, dilation=2, padding=1)
    x = 6 * integers((2, 3, 5, 7), device)
    yield (y := konvlib.avg_pool2d(x, (2, 3), count_include_pad=False, **options))
    yield konvlib.avg_pool2d_grad(36 * y, (2, 3), input_size=(5, 7), count_include_pad=False, **options)


def columns(device: str) -> Iterator[torch.Tensor]:
    options = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (2, 1)}
    cols = konvlib.im2col(integers((2, 3, 5, 7), device), (2, 3), **options)
    yield cols
    yield konvlib.col2im(cols, (5, 7), (2, 3), **options)


def konvolutions(device: str) -> Iterator[torch.Tensor]:
    for channels, groups, basis in ((2, 1, "legendre"), (17, 1, "hermite"), (2, 1, "chebyshev2"), (4, 2, "legendre")):
        x = integers((2, channels, 3, 4), device, seed=channels) / 8
        kappa = integers((16, 4, channels // groups, 2, 1 + groups), device)
        options = {"axes": 2, "basis": basis, "squash": "tanh", "padding": 1, "stride": (1, 2), "groups": groups}
        tensors = [tensor.requires_grad_() for tensor in (x, kappa)]
        y = squashed_konv(*tensors, None, **options)
        yield y.detach()
        yield from torch.autograd.grad(y, tensors, integers(y.shape, device))


RESULTS: dict[str, Callable[[str], Iterator[torch.Tensor]]] = {
    "layers": layers,
    "depthwise": depthwise,
    "long sums": long_sums,
    "poolings": poolings,
    "columns": columns,
    "konvolution": konvolutions,
}
FILES = sorted({(results, file) for results, file, *_ in KERNELS})


def mutate(file: str, function: str, old: str, new: str, folder: Path) -> ModuleType:
    """The module with a mistake in one function, where the right text stands once."""
    package, name = file.split("/")
    source = (Path(konvlib.__file__).parent / f"{file}.py").read_text(encoding="utf-8")
    begin = source.index(f"def {function}(")
    text = source[begin:].split("\n\n\n")[0]
    assert text.count(old) == 1, f"the text to replace occurs {text.count(old)} times in {function}"
    return engine.mutate(package, name, text, text.replace(old, new), folder)


def install(patch: pytest.MonkeyPatch, results: str, file: str, mutant: Any) -> None:
    """Let the operators launch the mutant's kernels."""
    package, name = file.split("/")
    if name == "polynomials":
        patch.setattr(forward, "expanded", mutant.expanded)
        patch.setattr(weight_grad, "expanded", mutant.expanded)
        patch.setattr(polynomial_input_grad, "slope", mutant.slope)
    elif name == "weight_grad_parts":
        patch.setattr(weight_grad, "add_parts", mutant.add_parts)
    elif results == "konvolution":
        patch.setattr(ways, name, mutant)
        if package == "konvolution":
            patch.setattr(autotune, "choose", lambda kind, layer, y, known, *_: known["expanded"]())
    else:
        owners = {"layers": layer_operators, "images": pooling_operators, "matrices": column_operators}
        patch.setattr(owners[package], name, mutant)


@cache
def expected(results: str) -> list[torch.Tensor]:
    with running("aten") as device:
        return [y.cpu() for y in RESULTS[results](device)]


def survives(results: str, file: str, mutant: Any, most: int | None = None) -> bool:
    """Whether the first results, ``most`` of them or all, are those of the unchanged kernels."""
    with pytest.MonkeyPatch.context() as patch, running("kernel") as device:
        install(patch, results, file, mutant)
        try:
            pairs = islice(zip(RESULTS[results](device), expected(results), strict=True), most)
            return all(torch.allclose(y.cpu(), wanted, rtol=1e-11, atol=1e-11, equal_nan=True) for y, wanted in pairs)
        except Exception:
            return False


@pytest.mark.parametrize("row", KERNELS, ids=lambda row: f"{row[1]}, {row[2]}: {row[3]}")
def test_the_mistake_is_caught(row, tmp_path):
    results, file, function, mistake, old, new = row
    assert not survives(results, file, mutate(file, function, old, new, tmp_path)), f"nothing catches: {mistake}"


@pytest.mark.parametrize(("results", "file"), FILES)
def test_the_unchanged_kernels_survive(results, file, tmp_path):
    package, name = file.split("/")
    same = "from __future__ import annotations"
    assert survives(results, file, engine.mutate(package, name, same, same, tmp_path), most=6)
