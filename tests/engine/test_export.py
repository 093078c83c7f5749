"""Operators exported for batches and sizes that are not fixed give, at other sizes, what they give themselves."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim, export

import konvlib
from tests.engine.transforms import Module

w = torch.randn(4, 3, 3, 2)
FUNCTIONS = {
    "conv2d": lambda x: konvlib.conv2d(x, w, padding=((1, 0), 2), stride=(2, 1)),
    "conv_transpose2d": lambda x: konvlib.conv_transpose2d(x, w.movedim(0, 1), stride=2, padding=1),
    "im2col": lambda x: konvlib.im2col(x, (2, 3), stride=2),
    "Konv2d": konvlib.Konv2d(3, 4, 3, padding=1, affine=True, padding_mode="circular"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sizes_stay_free(name):
    """Of columns the free sizes are those with two windows or more: torch's unfold has another graph for one."""
    module, least = Module(FUNCTIONS[name]), 5 if name == "im2col" else 4
    sizes = {0: Dim("n", min=2, max=16), 2: Dim("h", min=4, max=64), 3: Dim("w", min=least, max=64)}
    program = export(module, (torch.randn(2, 3, 8, 9),), dynamic_shapes=(sizes,))
    for shape in ((5, 3, 7, 12), (3, 3, 20, 5)):
        x = torch.randn(shape)
        assert torch.equal(program.module()(x), module(x))
