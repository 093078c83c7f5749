"""Plain layers in boxes of pixels, for the tests: cases, and their kernels in the emulator or on a device."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch

from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.layers import aten, forward_hopper, input_grad_hopper, memory
from konvlib.layers.autotune import BoxTile, Tile
from tests.kernels.emulated_gluon import Emulated
from tests.kernels.test_layers import last

RING, SHORT = Tile(64, 64, 64, 4, 4), Tile(64, 64, 64, 4, 2)
CASES = {  # shape, outputs, kernel, stride, padding, dilation; tile and box
    "square boxes": ((2, 72, 7, 9), 40, (3, 3), 1, 1, 1, RING, (1, 8, 8)),
    "strided": ((3, 40, 8, 12), 72, (3, 2), (2, 3), 1, 1, RING, (2, 4, 8)),
    "strided, dilated": ((2, 40, 10, 9), 136, (2, 4), (2, 1), ((2, 0), (1, 3)), 2, SHORT, (1, 8, 8)),
    "in one line": ((4, 40, 5, 6), 72, (1, 1), 1, 0, 1, RING, (1, 1, 64)),
    "points, padded after": ((4, 40, 5, 6), 72, (1, 1), 1, ((0, 1), (0, 2)), 1, RING, (2, 4, 8)),
    "strided points": ((4, 136, 5, 6), 40, (1, 1), (2, 3), 0, 1, SHORT, (4, 4, 4)),
    "one axis": ((3, 40, 44), 72, (5,), 2, ((3, 1),), 3, RING, (4, 1, 16)),
    "few steps": ((2, 64, 9, 3), 64, (1, 2), 1, 0, 1, Tile(64, 64, 64, 4, 6), (1, 32, 2)),
}


def split(case: tuple) -> tuple[tuple, BoxTile]:
    *geometry, tile, box = case
    return tuple(geometry), BoxTile(*tile, 1, *box)


def random_cases(seed: int, count: int) -> list[tuple]:
    """Layers of one or two axes whose sizes the strides divide, with any tile, box, padding and dilation of few."""
    draw = random.Random(seed)
    cases = []
    for _ in range(count):
        axes = draw.choice((1, 2, 2))
        kernel, stride, dilation = ([draw.randint(1, most) for _ in range(axes)] for most in (4, 3, 3))
        padding = [(draw.randint(0, 3), draw.randint(0, 3)) for _ in range(axes)]
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        size = [-(-(span + draw.randint(0, 6)) // s) * s for span, s in zip(spans, stride, strict=True)]
        size[0] += stride[0]  # one pixel would lie in memory as channels first too
        shape = draw.randint(1, 5), draw.choice((32, 40, 64, 104)), *size
        tile = draw.choice((SHORT, RING, Tile(64, 128, 64, 4, 3), Tile(128, 64, 64, 4, 3)))
        images, rows = 1 << draw.randint(0, 2), 1 << draw.randint(0, 3)
        box = images, rows, tile.block_m // (images * rows)
        options = tuple(stride), tuple(padding), tuple(dilation)
        cases.append((shape, draw.choice((32, 40, 72, 136)), tuple(kernel), *options, tile, box))
    return cases


RANDOM = random_cases(seed=7, count=40)
"""The box: 1 to 5 images, 32 to 136 channels, kernels to 4, strides and dilations to 3, 0 to 3 of padding a side."""


def geometry_of(shape, outputs, kernel, stride, padding, dilation) -> ConvGeometry:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """In -2 to 2, halves in which all sums of the tests are exact, the channels last."""
    values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed))
    return last(values.half())


class Call(NamedTuple):
    """A call of a launcher: what it writes, with what tile, which form has it, and what is right."""

    out: torch.Tensor
    given: tuple
    form: str

    def tiles(self) -> tuple[BoxTile, ...]:
        module, _, _ = FORMS[self.form]
        *operands, bias, layer = self.given
        return module.tiles(self.out, *operands, *((bias,) if self.form == "forward" else ()), layer)

    def launch(self, tile: BoxTile) -> torch.Tensor:
        module, launcher, _ = FORMS[self.form]
        getattr(module, launcher)(self.out.fill_(float("nan")), *self.given, tile)
        return self.out


FORMS = {
    "forward": (forward_hopper, "write_conv", "conv_boxes_kernel"),
    "input_grad": (input_grad_hopper, "write_input_grad", "conv_input_grad_boxes_kernel"),
}


def call_of(
    form: str, case: tuple, *, bias: bool, device: str = "cpu", dtype: torch.dtype = torch.float16
) -> tuple[Call, torch.Tensor]:
    """The layer of a case, or its input gradient, and what is right, in double precision."""
    layer = geometry_of(*case)
    read, written = layer.input_shape, layer.output_shape
    read, written = (read, written) if form == "forward" else (written, read)
    x, w, b = drawn(read, 1), drawn(layer.weight_shape, 2), drawn((1, written[1]), 3)[0] if bias else None
    compute = aten.conv if form == "forward" else aten.conv_transpose
    right = compute(x.double(), w.double(), None if b is None else b.double(), layer)
    x, w, b = (None if t is None else t.to(device, dtype) for t in (x, w, b))
    return Call(memory.empty(x, written), (x, memory.packed_weight(w), b, layer), form), right


def emulated(call: Call, tile: BoxTile, **options: Any) -> torch.Tensor:
    """The launcher as it is, with the emulator as its kernel."""
    module, _, kernel = FORMS[call.form]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, kernel, Emulated(getattr(module, kernel), **options))
        return call.launch(tile).double()
