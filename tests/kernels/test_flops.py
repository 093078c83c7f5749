"""What torch's FlopCounterMode counts: two for each product of the definition, by ATen as by kernels, backward too.

Of Konvolution these are the products of degrees from 1 on; where padding contributes nothing, degree 0 is a map, whose
products, axis by axis, are counted as well. Of groups, torch counts the weight's gradient of its own layers as if there
were one; kernels' counts know groups.
"""

from __future__ import annotations

from math import prod

import pytest
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from tests.kernels.operators import random, running

CASES = [("aten", 1), ("kernel", 1), ("kernel", 2)]


def counted(function, *operands, backward=False, **options) -> int:
    with FlopCounterMode(display=False) as counter:
        y = function(*operands, **options)
        if backward:
            y.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("implementation", "groups"), CASES)
def test_of_layers_and_transposes(implementation, groups):
    options = {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "groups": groups}
    with running(implementation) as device:
        x, w = (random(s, device, requires_grad=True) for s in ((2, 4, 7, 6), (6, 4 // groups, 3, 2)))
        y = konvlib.conv2d(x, w, **options).detach()
        products = y.numel() * prod(w.shape[1:])
        assert counted(konvlib.conv2d, x, w, **options) == 2 * products
        assert counted(konvlib.conv2d, x, w, backward=True, **options) == 6 * products
        assert counted(konvlib.conv2d_input_grad, y, w, input_size=(7, 6), **options) == 2 * products
        assert counted(konvlib.conv2d_weight_grad, x, y, kernel_size=(3, 2), **options) == 2 * products
        assert counted(konvlib.conv2d_im2col, x, w, **options) == 2 * products
        v = random((4, 6 // groups, 3, 2), device, requires_grad=True)
        products = x.numel() * prod(v.shape[1:])
        assert counted(konvlib.conv_transpose2d, x, v, **options) == 2 * products
        assert counted(konvlib.conv_transpose2d, x, v, backward=True, **options) == 6 * products


@pytest.mark.parametrize("padding", [0, ((1, 0), (0, 1))])
@pytest.mark.parametrize(("implementation", "groups"), CASES)
def test_of_konvolution(implementation, groups, padding):
    degree, options = 3, {"stride": (2, 1), "padding": padding, "groups": groups}
    with running(implementation) as device:
        kappa_shape = (6, degree + 1, 4 // groups, 3, 2)
        x, kappa = (random(s, device, requires_grad=True) for s in ((2, 4, 7, 6), kappa_shape))
        layer = konvlib.Konv2d(4, 6, (3, 2), dtype=x.dtype, **options).to(device)
        y = konvlib.konv2d(x, kappa, **options).detach()
        products = 2 * degree * y.numel() * prod(kappa_shape[2:])
        h, w = y.shape[2:]
        table = 2 * 6 * (2 * 3 * h + h * 2 * w) if padding else 0
        table_grad = 2 * 6 * (w * h * 3 + 3 * w * 2) if padding else 0
        assert counted(konvlib.konv2d, x, kappa, **options) == products + table
        assert counted(layer, x) == products + table
        assert counted(layer, x, backward=True) == 3 * products + 2 * table
        assert counted(konvlib.konv2d_input_grad, y, x, kappa, **options) == products
        given = {"degree": degree, "kernel_size": (3, 2), **options}
        assert counted(konvlib.konv2d_kappa_grad, x, y, **given) == products + table_grad


@pytest.mark.parametrize("implementation", ["aten", "kernel"])
def test_of_sequences_and_of_what_only_moves_samples(implementation):
    with running(implementation) as device:
        f, g, x = random((3, 50), device), random((7,), device), random((2, 3, 6, 5), device)
        assert counted(konvlib.convolve, f, g, method="direct") == 2 * 3 * 56 * 7
        assert counted(konvlib.max_pool2d, x, 2) == counted(konvlib.im2col, x, 2) == 0
