"""The kernels of Konvolution by a halo in equal shares, as rows for tests/kernels/test_offline.py."""

from __future__ import annotations

from typing import Any

import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import halo_balanced
from konvlib.konvolution.preparation import Added, ends_of
from konvlib.layers.polynomials import Expansion
from konvlib.runtime import cdiv
from tests.kernels.offline.compiling import Row

LAYERS = {  # batch, in and out channels, size, kernel, stride, padding, degrees, dilation
    "128 channels": (32, 128, 128, 28, 3, 1, 1, 4, 1),
    "256 channels": (32, 256, 256, 14, 3, 1, 1, 4, 1),
    "512 channels": (64, 512, 512, 7, 3, 1, 1, 4, 1),
    "degree 8": (8, 128, 128, 128, 3, 1, 1, 8, 1),
    "points": (2, 256, 128, 56, 1, 1, 0, 4, 1),
    "seven": (1, 128, 128, 28, 7, 1, 3, 2, 1),
    "uneven": (1, 80, 130, 17, 5, 2, 2, 3, 1),
    "the largest": (2, 64, 128, 300, 3, 2, 0, 4, 5),
}


def launch(
    layer: list[int], kernel: int = 0, basis: str = "chebyshev", squash: str = "tanh", dtype: str = "bfloat16"
) -> tuple[Any, dict[str, Any]]:
    """The kernel and the arguments of the first or the second launch; samples are not there, only their sizes."""
    batch, inputs, outputs, size, taps, stride, padding, degrees, dilation = layer
    shape, options = (batch, inputs, size, size), {"stride": stride, "padding": padding, "dilation": dilation}
    geometry = conv_geometry(shape, (outputs, inputs, taps, taps), axes=2, **options)
    x = torch.empty(shape, dtype=getattr(torch, dtype)).to(memory_format=torch.channels_last)
    weight = x.new_empty(outputs, cdiv(inputs, 64) * 64 * degrees * taps**2)
    ends = ends_of(geometry, 0), ends_of(geometry, 1)
    added = Added(torch.ones(ends[0].kinds, ends[1].kinds, outputs), *ends)
    y = x.new_empty(batch, *geometry.output_size, outputs).movedim(-1, 1)
    found, expansion = halo_balanced.shares_of(geometry, 132), Expansion(degrees, basis, squash, True)
    parts = halo_balanced.parts_of(x, found)
    which, _, arguments = halo_balanced.launched(y, x, weight, parts, added, geometry, expansion, found)[kernel]
    return which, arguments


def _row(name: str, layer: str, **constants: Any) -> Row:
    warps = 4 if constants.get("kernel") else halo_balanced.TILE.num_warps
    label = " ".join([name, layer, *(str(value) for key, value in constants.items() if key != "kernel")])
    return Row(label, __name__, "launch", {}, {"layer": LAYERS[layer], **constants}, warps=warps)


PRODUCTS = [
    *(_row("halo balanced", name) for name in LAYERS),
    *(
        _row("halo balanced", "128 channels", basis=basis)
        for basis in ("monomial", "legendre", "hermite", "chebyshev2")
    ),
    _row("halo balanced", "128 channels", squash="none"),
    _row("halo balanced", "128 channels", dtype="float16"),
]
ROWS = [
    *PRODUCTS,
    *(_row("halo balanced sums", name, kernel=1) for name in ("128 channels", "uneven")),
]
SPILLED = 1200
"""Bytes that a row may spill: with a stride and dilation addresses are kept in memory. Layers of the benchmark have 140
at most."""
