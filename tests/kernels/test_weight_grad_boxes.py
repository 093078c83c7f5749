"""The weight gradient in boxes of pixels: its Gluon kernel in the emulator, exactly; boxes, tiles and parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.layers import aten, autotune, weight_grad, weight_grad_boxes, weight_grad_hopper, weight_grad_parts
from konvlib.layers.autotune import BoxTile, Tile
from tests.kernels.emulated_gluon import Emulated
from tests.kernels.operators import integers, poisoned, running
from tests.kernels.test_layers import last

pytestmark = pytest.mark.skipif(runtime.gluon is None, reason="Triton is missing")

SMALL, RING = Tile(64, 64, 64, 4, 3), Tile(64, 64, 64, 4, 4)
LAYERS = {
    "images only": ((32, 40, 7, 7), 72, (3, 3), 1, 1, 1, RING, 3, (32, 1, 1)),
    "square boxes": ((2, 40, 8, 8), 64, (3, 3), 1, 1, 1, SMALL, 2, (1, 8, 8)),
    "images and columns": ((5, 40, 8, 8), 64, (3, 3), 1, 1, 1, SMALL, 2, (8, 1, 8)),
    "an image too many": ((15, 32, 9, 6), 32, (3, 3), 2, 1, 1, SMALL, 2, (16, 1, 1)),
    "strided, pointwise": ((4, 32, 6, 6), 32, (1, 1), 2, 0, 1, SMALL, 5, (4, 1, 4)),
    "in one line": ((4, 32, 7, 6), 32, (1, 1), 1, 0, 1, RING, 7, (1, 1, 64)),
    "dilated, one axis": ((2, 32, 40), 32, (5,), 1, 2, 3, RING, 2, (2, 1, 16)),
    "padded unevenly": ((2, 32, 8, 16), 32, (2, 3), 1, ((0, 1), (2, 0)), 1, RING, 1, (1, 4, 16)),
    "pointwise, padded after": ((4, 32, 4, 4), 40, (1, 1), 1, ((0, 1), (0, 2)), 1, RING, 2, (4, 4, 4)),
    "taps that show nothing": ((16, 32, 4), 32, (9,), 1, 6, 1, RING, 2, (16, 1, 4)),
}


def operands(shape, outputs, kernel, stride, padding, dilation) -> tuple[torch.Tensor, torch.Tensor, ConvGeometry]:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)
    return last(integers(shape, "cpu")), last(integers(layer.output_shape, "cpu", seed=1)), layer


def emulated(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, tile: BoxTile, **options: Any) -> torch.Tensor:
    """The launcher as it is, with the emulator as its kernel."""
    x, dy = x.half(), dy.half()
    boxes = weight_grad_hopper.boxes_of(layer, x.stride(), dy.stride())
    assert boxes.allows((tile.images, tile.rows, tile.columns))
    weights, taps = math.prod(layer.weight_shape), math.prod(layer.kernel_size)
    sums = torch.full((tile.parts, layer.out_channels, taps, layer.in_channels), math.nan, dtype=torch.float64)
    steps = weights, taps * layer.in_channels, 1, layer.in_channels
    emulation = Emulated(weight_grad_hopper.weight_grad_boxes_kernel, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_grad_hopper, "weight_grad_boxes_kernel", emulation)
        weight_grad_hopper.write_sums(sums, steps, x, dy, layer, tile)
    return sums.sum(0).movedim(-1, 1).reshape(layer.weight_shape)


MUTANTS = {
    "stride of rows ignored": ("h = h * stride_h + shift_h", "h = h + shift_h"),
    "stride of columns ignored": ("w = w * stride_w + shift_w", "w = w + shift_w"),
    "padding ignored": ("tap % kernel_w * dilation_w - padding_w", "tap % kernel_w * dilation_w"),
    "dilation ignored": ("tap % kernel_w * dilation_w - padding_w", "tap % kernel_w - padding_w"),
    "rows of taps ignored": ("tap // kernel_w * dilation_h", "tap * dilation_h"),
    "a row begins where the output does": ("first_w + rest % across", "rest % across"),
    "the next row begins where the output does": ("gl.where(ends, first_w, box_w)", "gl.where(ends, 0, box_w)"),
    "the first box that is shown left out": ("return first // BOX, gl", "return first // BOX + 1, gl"),
    "the last box that is shown left out": ("(last + BOX - 1) // BOX", "last // BOX"),
    "the last step not copied": ("step + SLOTS - 1 < steps", "step + SLOTS < steps"),
    "the ring turned the wrong way": ("SLOTS - 1, slot - 1)", "0, slot + 1)"),
    "a slot filled while it is read": ("warpgroup_mma_wait(BOXES, [acc])", "warpgroup_mma_wait(2 * BOXES, [acc])"),
    "an arrival not waited for": ("phase ^ 1", "phase"),
    "a step more copied than is waited for": ("i < steps", "i <= steps"),
    "parts overlap": ("first = gl.minimum(part * share, boxes)", "first = gl.minimum(part, boxes)"),
    "channels beyond the last written": ("(offs_c < in_channels)", "(offs_c < in_channels + 1)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_changes_a_sum(name):
    for *geometry, tile, parts, box in LAYERS.values():
        x, dy, layer = operands(*geometry)
        try:
            found = emulated(x, dy, layer, BoxTile(*tile, parts, *box), late=False, mutant=MUTANTS[name])
            late = emulated(x, dy, layer, BoxTile(*tile, parts, *box), late=True, mutant=MUTANTS[name])
        except AssertionError:  # a barrier that never opens, or memory that is not there
            return
        if not (torch.equal(found, late) and torch.equal(found, aten.conv_weight_grad(x, dy, layer))):
            return
    pytest.fail("nothing changes")


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_sums_are_exact_whenever_copies_arrive(name, late):
    *geometry, tile, parts, box = LAYERS[name]
    x, dy, layer = operands(*geometry)
    found = emulated(x, dy, layer, BoxTile(*tile, parts, *box), late=late)
    assert torch.equal(found, aten.conv_weight_grad(x, dy, layer))


@pytest.mark.parametrize("name", LAYERS)
def test_every_tile_that_is_tried_covers_the_layer(name):
    """Its boxes are allowed, its parts no more than there are steps, its sums no more than memory is kept for."""
    *geometry, _, _, _ = LAYERS[name]
    _, _, boxes = weight_grad_hopper.viewed(*operands(*geometry))
    for most in (1, 3, 100):
        tiles = weight_grad_boxes.likely(boxes, 132, most)
        assert len({tile[:5] for tile in tiles}) == len(tiles) <= weight_grad_boxes.TRIED
        for tile in tiles:
            assert boxes.allows(tile[6:])
            assert 1 <= tile.parts <= most
            assert tile.block_k % math.prod(tile[6:]) == 0


@pytest.mark.parametrize("name", LAYERS)
def test_as_many_boxes_are_counted_as_are_summed(name):
    """By the definition: those of which the tap shows a pixel, or that lie between such."""
    *geometry, _, _, box = LAYERS[name]
    _, _, boxes = weight_grad_hopper.viewed(*operands(*geometry))
    count = 0
    for u in np.ndindex(*boxes.kernel):
        along = []
        for axis in (0, 1):
            shift = u[axis] * boxes.dilation[axis] - boxes.padding[axis]
            i = np.arange(boxes.output_size[axis])
            j = i * boxes.stride[axis] + shift
            shows = i[(j >= 0) & (j < boxes.input_size[axis])] // box[axis + 1]
            along.append(shows.max() - shows.min() + 1 if shows.size else 0)
        count += math.prod(along) * -(-boxes.batch // box[0])
    assert boxes._replace(box=box).blocks == pytest.approx(count / math.prod(boxes.kernel))


def test_boxes_that_waste_much_are_not_taken():
    _, _, boxes = weight_grad_hopper.viewed(*operands((3, 32, 9, 9), 32, (3, 3), 2, 1, 1))
    assert not weight_grad_boxes.boxes_of(boxes)
    assert not weight_grad_boxes.likely(boxes, 132, 100)


def test_a_box_beyond_the_output_shows_only_padding():
    """Else what lies there, infinity perhaps, would be multiplied by zero."""
    whole = weight_grad_hopper.viewed(*operands((2, 32, 8, 12), 32, (3, 3), 1, 0, 1))[2]
    assert not whole.allows((1, 4, 4))
    assert whole.allows((1, 2, 2))
    padded = weight_grad_hopper.viewed(*operands((2, 32, 8, 12), 32, (3, 1), 1, ((2, 2), (0, 0)), 1))[2]
    assert padded.allows((1, 4, 4))


@pytest.mark.parametrize("change", [torch.clone, last])
@pytest.mark.parametrize("parts", [1, 3, 40])
def test_parts_are_added_in_any_layout_of_the_gradient(change, parts):
    with running("kernel") as device, poisoned():
        dw = change(torch.empty(5, 4, 3, 3, dtype=torch.float64, device=device))
        sums = integers((parts, 5, 9, 4), device)
        weight_grad_parts.add_parts(dw, sums, parts)
        assert torch.equal(dw, sums.sum(0).movedim(-1, 1).unflatten(-1, (3, 3)))


def test_parts_are_not_rounded_twice():
    with running("kernel") as device:
        dw = torch.empty(2, 3, 3, dtype=torch.bfloat16, device=device)
        sums = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
        weight_grad_parts.add_parts(dw, sums, 1)
        assert torch.equal(dw, sums.movedim(-1, 1))


def test_a_form_that_does_not_serve_takes_the_other_and_the_table_may_name_either(monkeypatch):
    """On Hopper: what the table names is launched; where boxes waste much, or memory is not aligned, the other form."""
    x, dy, layer = operands((32, 40, 7, 7), 72, (3, 3), 1, 1, 1)
    x, dy, dw = x.half(), dy.half(), torch.empty(layer.weight_shape, dtype=torch.float16)
    launched: list[object] = []
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(weight_grad_hopper, "could_serve", lambda *_: True)
    monkeypatch.setattr(weight_grad_hopper, "write_weight_grad", lambda *given: launched.append(given[-1]))
    monkeypatch.setattr(weight_grad, "_launcher", lambda *_: launched.append)
    weight_grad.write_weight_grad(dw, x, dy, layer)
    known = {autotune.key("conv_weight_grad boxes", layer, x): Tile(64, 64, 64, 4, 4)}
    monkeypatch.setattr(autotune, "_known", lambda _: known)
    weight_grad.write_weight_grad(dw, x, dy, layer)
    weight_grad.write_weight_grad(dw, x.contiguous(), dy, layer)
    few = operands((3, 40, 9, 9), 72, (3, 3), 2, 1, 1)
    weight_grad.write_weight_grad(dw, few[0].half(), few[1].half(), few[2])
    assert [type(tile) for tile in launched] == [BoxTile, Tile, Tile, Tile]
