"""Sharpness of the kernels' tests: each usual mistake, made in a copy of a kernel, changes some exact small result.

The results compared are what tests/test_trilinear.py and the backends' tests hold to ATen and to the definitions: small
integers, in the interpreter or on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from konvlib.gradients import tensors as gradients
from konvlib.images import pooling_operators
from konvlib.images import tensors as images
from konvlib.konvolution import tensors as konvolution
from konvlib.konvolution import ways
from konvlib.layers import autotune as tuning
from konvlib.layers import forward as gather
from konvlib.layers import operators
from konvlib.layers import weight_grad as reduction
from konvlib.matrices import tensors as matrices
from tests.engine.test_mutants import mutate
from tests.kernels.mutants import KERNELS
from tests.kernels.operators import running
from tests.kernels.test_layers import LAYERS, calls, integers


def layers(device: str) -> Iterator[torch.Tensor]:
    dilated = ((1, 2, 9), (2, 2, 3), ((2,), (3, 1), (3,), 1))
    many_taps = ((1, 17, 6), (18, 17, 5), ((2,), (3, 1), (1,), 1))
    for layer in (*LAYERS.values(), dilated, many_taps):
        for name, arguments in calls(layer, device, make=integers).items():
            yield getattr(operators, name)(*arguments)


def poolings(device: str) -> Iterator[torch.Tensor]:
    x = integers((2, 3, 5, 7), device) - 20
    x[1, 0, 2, 3] = float("nan")
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 1))}
    y = images.max_pool2d(x, 3, dilation=(1, 2), **options)
    yield y
    yield gradients.max_pool2d_grad(x, torch.ones_like(y), 3, dilation=(1, 2), **options)
    x = integers((2, 3, 7), device)
    yield (y := images.max_pool1d(x, 2, dilation=2, padding=1))
    yield gradients.max_pool1d_grad(x, integers(y.shape, device), 2, dilation=2, padding=1)
    x = 6 * integers((2, 3, 5, 7), device)
    yield (y := images.avg_pool2d(x, (2, 3), count_include_pad=False, **options))
    yield gradients.avg_pool2d_grad(36 * y, (2, 3), input_size=(5, 7), count_include_pad=False, **options)


def columns(device: str) -> Iterator[torch.Tensor]:
    options = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (2, 1)}
    cols = matrices.im2col(integers((2, 3, 5, 7), device), (2, 3), **options)
    yield cols
    yield matrices.col2im(cols, (5, 7), (2, 3), **options)


def konvolutions(device: str) -> Iterator[torch.Tensor]:
    for channels, basis in ((2, "legendre"), (17, "hermite"), (2, "chebyshev2")):
        x = integers((2, channels, 3, 4), device, seed=channels) / 8
        kappa = integers((16, 4, channels, 2, 2), device)
        options = {"axes": 2, "basis": basis, "squash": "tanh", "padding": 1, "stride": (1, 2)}
        tensors = [tensor.requires_grad_() for tensor in (x, kappa)]
        y = konvolution.squashed_konv(*tensors, None, **options)
        yield y.detach()
        yield from torch.autograd.grad(y, tensors, integers(y.shape, device))


RESULTS: dict[tuple[str, str], Callable[[str], Iterator[torch.Tensor]]] = {
    ("layers", "forward"): layers,
    ("layers", "weight_grad"): layers,
    ("layers", "depthwise"): layers,
    ("layers", "polynomials"): konvolutions,
    ("layers", "konvolution"): konvolutions,
    ("konvolution", "kernels"): konvolutions,
    ("images", "kernels"): poolings,
    ("matrices", "kernels"): columns,
}


def install(patch: pytest.MonkeyPatch, package: str, file: str, mutant: Any) -> None:
    """Let the operators launch the mutant's kernels."""
    if file == "polynomials":
        for module, name in (
            (gather, "polynomial"),
            (gather, "squashed"),
            (gather, "slope"),
            (reduction, "polynomial"),
        ):
            patch.setattr(module, name, getattr(mutant, name))
        patch.setattr(reduction, "squashed", mutant.squashed)
    elif file == "konvolution":
        patch.setattr(ways, "gather", mutant)
    elif package == "konvolution":
        patch.setattr(ways, "kernels", mutant)
        patch.setattr(tuning, "choose", lambda kind, layer, y, known: known["expanded"]())
    elif package == "layers":
        kernels = vars(mutant) | (vars(operators.KERNELS) if file != "depthwise" else {})
        own = {"forward": ("conv", "conv_transpose"), "weight_grad": ("conv_weight_grad",), "depthwise": ()}[file]
        kernels |= {name: getattr(mutant, name) for name in own}
        patch.setattr(operators, "depthwise" if file == "depthwise" else "KERNELS", SimpleNamespace(**kernels))
    else:
        patch.setattr(pooling_operators if package == "images" else matrices, "kernels", mutant)


@cache
def expected(package: str, file: str) -> list[torch.Tensor]:
    with running("aten") as device:
        return [y.cpu() for y in RESULTS[package, file](device)]


def survives(package: str, file: str, mutant: Any, most: int | None = None) -> bool:
    """Whether the first results, ``most`` of them or all, are those of the unchanged kernels."""
    with pytest.MonkeyPatch.context() as patch, running("kernel") as device:
        install(patch, package, file, mutant)
        try:
            pairs = zip(RESULTS[package, file](device), expected(package, file), strict=True)
            results = islice(pairs, most)
            return all(torch.allclose(y.cpu(), wanted, rtol=1e-11, atol=1e-11, equal_nan=True) for y, wanted in results)
        except Exception:
            return False


@pytest.mark.parametrize("row", KERNELS, ids=lambda row: f"{row[0]}/{row[1]}: {row[2]}")
def test_the_mistake_is_caught(row, tmp_path):
    package, file, mistake, old, new = row
    assert not survives(package, file, mutate(package, source(file), old, new, tmp_path)), f"nothing catches: {mistake}"


@pytest.mark.parametrize(("package", "file"), RESULTS)
def test_the_unchanged_kernels_survive(package, file, tmp_path):
    same = "from __future__ import annotations"
    assert survives(package, file, mutate(package, source(file), same, same, tmp_path), most=6)


def source(file: str) -> str:
    """Konvolution's kernels are those of a layer, in gather.py."""
    return "gather" if file == "konvolution" else file
