"""More pixels than numbers of 32 bits: places are of 64 bits, and weight gradients are taken in pieces.

The pieces are tested with a smaller limit, places by a program far away, which the interpreter is told to be.
"""

from __future__ import annotations

from math import prod

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.images.launching import tile_of_rows
from konvlib.konvolution import operators as konvolution
from konvlib.layers import operators, weight_grad
from konvlib.layers.weight_grad_parts import pieces
from konvlib.runtime import cdiv, tl
from tests.engine.backends import DEVICE
from tests.kernels.operators import integers, running

LAYERS = {  # shape of x, kernel, stride, padding before and after, dilation
    "images": ((5, 2, 4, 3), (2, 3), (1, 1), (1, 0, 2, 1), (1, 1)),
    "a long axis": ((2, 2, 31), (3,), (2,), (3, 5), (4,)),
    "a wide axis": ((1, 18, 3, 17), (2, 2), (1, 3), (0, 1, 0, 0), (2, 1)),
    "padding alone": ((1, 2, 3), (2,), (1,), (9, 8), (1,)),
    "three axes": ((2, 2, 7, 3, 2), (3, 1, 2), (2, 1, 1), (2, 2, 0, 0, 1, 0), (1, 1, 1)),
}


@runtime.jit()
def places_kernel(
    y_ptr, rows, channels, pixels,
    INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    image, c, offs_n, mask = tile_of_rows(rows, channels, pixels, INT64, VECTOR, BLOCK_M, BLOCK_N)
    y_ptr += tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    tl.store(y_ptr, tl.where(mask, image * 1000 + c * 100 + offs_n % 100, -1))


@pytest.mark.skipif(DEVICE != "cpu", reason="told to the interpreter")
@pytest.mark.parametrize(("pixels", "wide"), [(2**31 + 203, True), (2**31 - 5, True), (2**30 + 203, False)])
def test_the_last_pixels_of_a_tile_of_windows(monkeypatch, pixels, wide):
    """Of 6 channels, two at a time, in two images: rows 8 to 11 and none beyond, and the last pixels."""
    from triton.runtime.interpreter import interpreter_builder

    last = 3 * cdiv(pixels, 16) - 1
    y = torch.zeros(4, 16, dtype=torch.int64)
    with running("kernel"):
        monkeypatch.setattr(
            interpreter_builder, "create_get_program_id", lambda axis: interpreter_builder.get_int32(last)
        )
        places_kernel[(1,)](y, 6, 3, pixels, INT64=wide, VECTOR=2, BLOCK_M=4, BLOCK_N=16)
    start = (pixels - 1) // 16 * 16
    places = range(start, start + 16)
    assert y.tolist() == [
        [1000 + (row - 6) * 100 + n % 100 if n < pixels else -1 for n in places] for row in range(8, 12)
    ]


@pytest.fixture(params=LAYERS)
def layer(request):
    shape, kernel, stride, sides, dilation = LAYERS[request.param]
    padding = tuple(zip(sides[::2], sides[1::2], strict=True))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return conv_geometry(shape, (4, shape[1], *kernel), axes=len(kernel), **options)


@pytest.mark.parametrize("most", [7, 12, 40])
def test_pieces_are_as_small_as_they_must_be_and_have_every_pixel_once(layer, most):
    x, dy = integers(layer.input_shape, "cpu"), integers(layer.output_shape, "cpu", seed=1)
    count = 0
    for shown, received, piece in pieces(x, dy, layer, most):
        assert (tuple(shown.shape), tuple(received.shape)) == (piece.input_shape, piece.output_shape)
        options = {"stride": piece.stride, "padding": piece.padding, "dilation": piece.dilation}
        if shown.numel():
            assert conv_geometry(piece.input_shape, piece.weight_shape, axes=piece.axes, **options) == piece
        pixels = piece.batch * prod(piece.output_size)
        assert pixels <= most
        count += pixels
    assert count == layer.batch * prod(layer.output_size)


def test_the_weight_gradient_in_pieces(monkeypatch, layer):
    monkeypatch.setattr(weight_grad, "MOST_PIXELS", 20)
    rest = layer.stride, [side for pair in layer.padding for side in pair], layer.dilation, layer.groups
    x, dy = integers(layer.input_shape, "cpu"), integers(layer.output_shape, "cpu", seed=1)
    with running("aten"):
        expected = operators.conv_weight_grad.composite(x, dy, layer.kernel_size, *rest)
    with running("kernel") as device:
        halves = operators.conv_weight_grad(x.half().to(device), dy.half().to(device), layer.kernel_size, *rest)
        assert torch.equal(halves.cpu(), expected.half())


@pytest.mark.parametrize("masked", [False, True])
def test_the_coefficients_gradient_in_pieces(monkeypatch, layer, masked):
    """Also where padding contributes the polynomial of zero."""
    monkeypatch.setattr(weight_grad, "MOST_PIXELS", 20)
    rest = layer.stride, [side for pair in layer.padding for side in pair], layer.dilation, layer.groups
    x, dy = integers(layer.input_shape, "cpu").clamp(-2, 2), integers(layer.output_shape, "cpu", seed=1)
    given = (2, layer.kernel_size, "chebyshev", "none", masked, *rest)
    with running("aten"):
        expected = konvolution.konv_kappa_grad.composite(x, dy, *given)
    with running("kernel") as device:
        assert torch.equal(konvolution.konv_kappa_grad(x.to(device), dy.to(device), *given).cpu(), expected)
