"""What the tests of kernels of Konvolution share: layers and operands, given or drawn, and what becomes of them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.nn import functional

from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.konvolution import operators, plans, preparation, tensors
from konvlib.konvolution.preparation import Walk
from konvlib.layers.polynomials import Expansion
from tests.kernels.launches import Counted, launched_by
from tests.kernels.operators import on_cuda

Geometry = tuple[Any, ...]
"""The shape of the input, outputs, kernel, degrees, basis, whether it is masked, the kind of bias, and options."""

MET = (AssertionError, ArithmeticError, IndexError, ValueError)
"""What a mistake may meet in the emulator: memory that is not there, or a copy that never comes."""


def layer_of(geometry: Geometry) -> ConvGeometry:
    shape, outputs, kernel, *_, options = geometry
    return conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)


def given_of(geometry: Geometry) -> tuple[Any, ...]:
    """The operands of a layer, itself, and its expansion."""
    shape, outputs, kernel, degrees, basis, masked, bias, _ = geometry
    layer = layer_of(geometry)
    return *operands(shape, outputs, kernel, degrees, bias, layer), layer, Expansion(degrees, basis, "none", masked)


def operands(shape, outputs, kernel, degrees, bias, layer):
    """Small integers, whose sums and polynomials are exact in halves."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(-1, 2, shape, generator=draw).bfloat16().movedim(1, -1).contiguous().movedim(-1, 1)
    kappa = torch.randint(-1, 2, (outputs, degrees, shape[1], *kernel), generator=draw).bfloat16()
    size = {None: None, "channel": (outputs,), "map": (1, outputs, *layer.output_size)}[bias]
    return x, kappa, None if size is None else torch.randint(-3, 4, size, generator=draw).bfloat16()


def expected(x, kappa, bias, layer: ConvGeometry, expansion: Expansion) -> torch.Tensor:
    padding = [side for pair in layer.padding for side in pair]
    rest = (*expansion[1:], list(layer.stride), padding, list(layer.dilation), 1)
    return operators.konv.composite(*[None if t is None else t.double() for t in (x, kappa, bias)], *rest)


def packed(kappa: torch.Tensor, walk: Walk, width: int = 64) -> torch.Tensor:
    """The coefficients as rows of outputs, 64 columns at a time, in the order in which the kernel takes them."""
    w, group = kappa.unsqueeze(-1) if walk.columns is None else kappa.movedim(3 + walk.rows, 3), 64 // width
    w = functional.pad(w, (0, 0, 0, 0, 0, -kappa.shape[2] % width, 0, -kappa.shape[1] % group))
    w = w.unflatten(2, (-1, width)).unflatten(1, (-1, group))
    w = w.permute(0, 3, 6, 1, 5, 2, 4)  # outputs, blocks, columns, degrees, rows, degrees side by side, channels
    return torch.cat([w[..., phase :: walk.phases, :, :].flatten(3) for phase in range(walk.phases)], 3).flatten(1)


def unwritten(x: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """An output of NaN, its channels last."""
    return x.new_full((layer.batch, *layer.output_size, layer.out_channels), float("nan")).movedim(-1, 1)


def drawn(
    seed: int, *, batches: int, channels: tuple[int, ...], outputs: tuple[int, ...], degrees: tuple[int, int],
    fits: Callable[[ConvGeometry, int], bool], last: Callable[[random.Random, ConvGeometry], Any],
) -> tuple[Geometry, Any]:  # fmt: skip
    """A layer that a kernel serves, drawn: each of its numbers; and what ``last`` draws."""
    draw = random.Random(seed)
    axes = draw.choice((1, 2, 2, 2))

    def each(*values):
        return tuple(draw.choice(values) for _ in range(axes))

    while True:
        kernel, size = each(*range(1, 8)), each(*range(3, 15))
        options = {"stride": each(1, 2), "dilation": each(1, 1, 2), "padding": each(0, 1, 2, 3)}
        shape, made = (draw.randint(1, batches), draw.choice(channels), *size), draw.choice(outputs)
        degree, basis = draw.randint(*degrees), draw.choice(("monomial", "chebyshev", "chebyshev2", "hermite"))
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, options["dilation"], strict=True)]
        if any(r > n + 2 * p for r, n, p in zip(reach, size, options["padding"], strict=True)):
            continue
        layer = layer_of((shape, made, kernel, options))
        if fits(layer, degree):
            bias, rest = draw.choice((None, "channel", "map")), last(draw, layer)
            return (shape, made, kernel, degree, basis, draw.random() < 0.7, bias, options), rest


def changes(results: Iterable[Callable[[], bool]], met: tuple[type[Exception], ...] = MET) -> bool:
    """Whether with a mistake some result is not right, or is met by the emulator."""
    for is_right in results:
        try:
            if not is_right():
                return True
        except met:
            return True
    return False


class Named:
    """A table of choices that names a way for each layer of Konvolution, and no tile."""

    def __init__(self, way: str):
        self.way = way

    def get(self, name: str) -> str | None:
        return self.way if name.startswith("konv degree ") else None


def launches_of(patch: pytest.MonkeyPatch, call: Callable[[], Any], **kernels: tuple[Any, str]) -> list[str]:
    """What a second call launches, with kernels named that are counted, not launched: each its module's, by a name."""
    names: list[str] = []
    for module in (plans, tensors):
        patch.setattr(module, "is_plain", lambda *given: True)
    for name, (module, kernel) in {"prepare": (preparation, "prepare_kernel"), **kernels}.items():
        patch.setattr(module, kernel, Counted(name, names))
    call()
    return launched_by(call, names)


def on_hopper(test: Callable[..., None]) -> Callable[..., None]:
    """Let a test draw forty layers, in both halves, on Hopper alone."""

    @functools.wraps(test)
    def on_a_card(**given: Any) -> None:
        if torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("the kernel is Hopper's")
        test(**given)

    halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    seeds = pytest.mark.parametrize("seed", range(40))
    return on_cuda(pytest.mark.gpu(seeds(halves(on_a_card))))


def on_the_card(given: Iterable[torch.Tensor | None], dtype: torch.dtype) -> list[torch.Tensor | None]:
    return [None if tensor is None else tensor.to("cuda", dtype) for tensor in given]
