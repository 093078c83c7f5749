"""Plain layers in boxes of pixels: boxes and tiles, what is served, and what is chosen where."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry, conv_geometry

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.layers import (
    autotune,
    forward,
    forward_hopper,
    input_grad,
    input_grad_hopper,
    memory,
    pixel_boxes,
    weight_grad_hopper,
)
from konvlib.layers.autotune import BoxTile, Tile
from tests.kernels.boxes import drawn


@pytest.fixture
def on_hopper(monkeypatch) -> list[object]:
    """As on a device of that generation: the tiles that are launched, none of which computes anything."""
    launched: list[object] = []
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(weight_grad_hopper, "could_serve", could_serve)
    monkeypatch.setattr(forward_hopper, "write_conv", lambda *given: launched.append(given[-1]))
    monkeypatch.setattr(input_grad_hopper, "write_input_grad", lambda *given: launched.append(given[-1]))
    for module in (forward, input_grad):
        monkeypatch.setattr(module, "launch_kept", lambda kernel, told_of, key, *_: launched.append(key[2]))
    return launched


def could_serve(x: torch.Tensor, layer: ConvGeometry) -> bool:
    """Without the question of the device."""
    return x.dtype in runtime.HALVES and layer.axes < 3 and layer.groups == 1 and layer.in_channels >= 32


FORMS = {"conv": forward.conv, "conv_transpose": input_grad.conv_transpose}
each_form = pytest.mark.parametrize("form", FORMS)


def operands_of(form: str, shape, weight, **options) -> tuple[torch.Tensor, torch.Tensor, ConvGeometry]:
    layer = conv_geometry(shape, weight, axes=len(shape) - 2, **options)
    return drawn(shape if form == "conv" else layer.output_shape, 1), drawn(weight, 2), layer


@each_form
def test_boxes_are_taken_only_where_a_file_or_a_measurement_says_so(on_hopper, monkeypatch, form):
    x, w, layer = operands_of(form, (2, 40, 8, 6), (72, 40, 3, 3), padding=1)
    boxes = BoxTile(64, 64, 64, 4, 4, 1, 2, 4, 8)
    old, new = autotune.key(form, layer, x), autotune.key(f"{form} boxes", layer, x)
    other = Tile(128, 64, 64, 4, 4), Tile(64, 64, 64, 4, 4)
    FORMS[form](x, w, None, layer)
    for known in ({new: boxes}, {new: other[0]}, {old: other[0]}, {old: other[0], new: other[1]}):
        monkeypatch.setattr(autotune, "_known", lambda _, known=known: known)
        FORMS[form](x, w, None, layer)
    assert on_hopper[1:] == [boxes, *other[:1] * 2, other[1]]
    assert isinstance(on_hopper[0], Tile)


@each_form
@pytest.mark.parametrize("tune", ["all", "1", "0"])
def test_boxes_are_measured_where_all_is_beside_the_tile_that_is_known(on_hopper, monkeypatch, tune, form):
    """The quickest is kept by its own name: of what was known nothing is forgotten."""
    x, w, layer = operands_of(form, (2, 72, 8, 6), (72, 72, 3, 3), padding=1)
    boxes, best = pixel_boxes.tiles_of(2, 8, 6, 72), Tile(128, 64, 64, 4, 4)
    measured: list[list[object]] = []

    def quickest(tiles, run):
        measured.append(list(tiles))
        return tiles[3]

    monkeypatch.setenv("KONVLIB_TUNE", tune)
    monkeypatch.setattr(autotune, "_known", lambda _: {autotune.key(form, layer, x): best})
    monkeypatch.setattr(autotune, "_may_measure", lambda _: tune != "0")
    monkeypatch.setattr(autotune, "_quickest", quickest)
    for _ in range(2):
        FORMS[form](x, w, None, layer)
    if tune == "all":
        assert measured == [[best, *boxes]]
        assert autotune._measured == {autotune.key(f"{form} boxes", layer, x): boxes[2]}
        assert on_hopper == [best, boxes[2], boxes[2]]
    else:
        assert on_hopper == [best, best]
        assert not measured
        assert not autotune._measured


@each_form
def test_nothing_is_looked_at_where_nothing_names_boxes(on_hopper, monkeypatch, form):
    """It would take each call some microseconds."""
    x, w, layer = operands_of(form, (2, 40, 8, 6), (72, 40, 3, 3), padding=1)
    monkeypatch.setattr(weight_grad_hopper, "could_serve", lambda *_: pytest.fail("boxes were looked for"))
    FORMS[form](x, w, None, layer)
    assert len(on_hopper) == 1


def test_a_choice_is_read_as_it_was_written(tmp_path, monkeypatch):
    tiles = {"conv boxes": BoxTile(64, 64, 64, 4, 4, 1, 2, 4, 8), "conv": Tile(128, 64, 64, 4, 4)}
    monkeypatch.setattr(autotune, "_measured", tiles)
    autotune.save(tmp_path / "choices.json")
    assert autotune._read(tmp_path / "choices.json") == tiles


SHAPES = (2, 40, 8, 6), (72, 40, 3, 3)
NOT_SERVED = {  # shapes of input and weight, the layer, what is done to the operand, of what shape a bias is
    "sizes that the stride does not divide": ((2, 40, 9, 6), (72, 40, 3, 3), {"stride": 2}, None, None),
    "channels that are no multiple of 8": ((2, 36, 8, 6), (72, 36, 3, 3), {}, None, None),
    "outputs that are no multiple of 8": ((2, 40, 8, 6), (36, 40, 3, 3), {}, None, None),
    "three axes": ((2, 40, 4, 4, 4), (40, 40, 3, 3, 3), {}, None, None),
    "groups": ((2, 80, 8, 6), (80, 40, 3, 3), {"groups": 2}, None, None),
    "channels first": (*SHAPES, {}, torch.Tensor.contiguous, None),
    "not at 16 bytes": (*SHAPES, {}, lambda x: moved(x), None),
    "single precision": (*SHAPES, {}, torch.Tensor.float, None),
    "all images one": (*SHAPES, {}, lambda x: x[:1].expand(x.shape), None),
    "all pixels one": (*SHAPES, {"stride": 2}, lambda x: x[:, :, :1, :1].expand(x.shape), None),
    "a map of biases": (*SHAPES, {}, None, (1, 72, 6, 4)),
}


def moved(x: torch.Tensor) -> torch.Tensor:
    """The same, two bytes further on."""
    line = x.new_empty(x.numel() + 1)[1:].view(x.movedim(1, -1).shape)
    return line.copy_(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize(
    ("form", "name"), [(f, n) for f in FORMS for n in NOT_SERVED if f == "conv" or "bias" not in n]
)
def test_what_is_not_served_takes_the_other_form(on_hopper, monkeypatch, form, name):
    """Also where the file names boxes for it, and everything may be measured."""
    shape, weight, options, change, size = NOT_SERVED[name]
    x, w, layer = operands_of(form, shape, weight, **options)
    x = change(x) if change else x
    bias = torch.zeros(size, dtype=x.dtype) if size else None
    written = layer.output_shape if form == "conv" else layer.input_shape
    name = autotune.key(f"{form} boxes", layer, memory.empty(x, written))
    monkeypatch.setenv("KONVLIB_TUNE", "all")
    monkeypatch.setattr(autotune, "_known", lambda _: {name: BoxTile(64, 64, 64, 4, 4, 1, 1, 8, 8)})
    FORMS[form](x, w.to(x.dtype), bias, layer)
    assert [type(tile) for tile in on_hopper] == [Tile]


@pytest.mark.parametrize("pixels", [64, 128, 256])
def test_no_other_box_covers_the_images_with_fewer(pixels):
    draw = random.Random(pixels)
    for _ in range(50):
        sizes = draw.randint(1, 70), draw.randint(1, 70), draw.randint(1, 70)
        count = {
            (n, h, w): -(-sizes[0] // n) * -(-sizes[1] // h) * -(-sizes[2] // w)
            for n in (1 << i for i in range(9))
            for h in (1 << i for i in range(9))
            for w in (1 << i for i in range(9))
            if n * h * w == pixels
        }
        assert count[pixel_boxes.box_of(pixels, *sizes)] == min(count.values())


def test_the_output_fits_into_the_ring():
    """It is written where the ring was."""
    assert all(tile.block_n <= tile.num_stages * tile.block_k for tile in pixel_boxes.TILES)


def test_no_phase_has_more_taps_than_the_one_that_begins():
    """Counted tap by tap, over kernels to 5, strides and dilations to 3, padding to 2."""
    for kernel, stride, dilation, padding in product(range(1, 6), range(1, 4), range(1, 4), range(3)):
        options = {"stride": (stride, 2), "dilation": (dilation, 1), "padding": (padding, 1)}
        layer = conv_geometry((1, 8, 15, 8), (8, 8, kernel, 3), axes=2, **options)
        taps = [sum((r + padding - dilation * u) % stride == 0 for u in range(kernel)) for r in range(stride)]
        longest, in_turn = input_grad_hopper.order(torch.ones(1), layer)
        assert taps[longest // 2] == max(taps)
        assert longest % 2 == 1
        assert not in_turn
