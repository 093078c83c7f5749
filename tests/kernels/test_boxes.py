"""Plain layers in boxes of pixels: their Gluon kernels in the emulator, exactly; boxes, tiles, what is served."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.layers import aten, autotune, forward, forward_hopper, memory, pixel_boxes, weight_grad_hopper
from konvlib.layers.autotune import BoxTile, Tile
from tests.kernels import gluon_emulator
from tests.kernels.operators import on_cuda
from tests.kernels.test_layers import last

pytestmark = pytest.mark.skipif(runtime.gluon is None, reason="Triton is missing")


def geometry_of(shape, outputs, kernel, stride, padding, dilation) -> ConvGeometry:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """In -2 to 2, halves in which all sums of the tests are exact, the channels last."""
    values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed))
    return last(values.half())


def emulated(module: Any, names: list[str], kernel: str, run: Any, **options: Any) -> None:
    """A launcher as it is, with the emulator as its kernel."""
    launched: list[tuple] = []

    class Launches:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *given, **named: launched.append((grid[0], given, named))

    whole = getattr(module, kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, kernel, Launches())
        run()
    grid, given, named = launched[0]
    arguments = dict(zip(whole.arg_names, given, strict=False)) | named
    for name, value in arguments.items():
        if name.endswith("_desc"):
            arguments[name] = gluon_emulator.Descriptor(value.base.numpy(), value.block_shape, np.float16)
        elif isinstance(value, torch.Tensor):
            arguments[name] = gluon_emulator.Pointer(value.view(-1).numpy())
    gluon_emulator.run([getattr(module, name) for name in names], grid, **options, **arguments)


def forward_of(case: tuple, tile: BoxTile, *, bias: bool, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the kernel writes where NaN was, and what is right."""
    layer = geometry_of(*case)
    x, w, b = drawn(layer.input_shape, 1), drawn(layer.weight_shape, 2), drawn((1, layer.out_channels), 3)[0]
    y = memory.empty(x, layer.output_shape).fill_(float("nan"))
    given, packed = b if bias else None, memory.packed_weight(w)
    assert pixel_boxes.fit(x, y, packed)

    def run() -> None:
        forward_hopper.write_conv(y, x, packed, given, layer, tile)

    emulated(forward_hopper, ["copy_step", "conv_boxes_kernel"], "conv_boxes_kernel", run, **options)
    wide = [None if t is None else t.double() for t in (x, w, given)]
    return y.double(), aten.conv(*wide, layer)


RING, SHORT = Tile(64, 64, 64, 4, 4), Tile(64, 64, 64, 4, 2)
CASES = {  # shape, outputs, kernel, stride, padding, dilation; tile and box
    "square boxes": ((2, 72, 7, 9), 40, (3, 3), 1, 1, 1, RING, (1, 8, 8)),
    "strided": ((3, 40, 8, 12), 72, (3, 2), (2, 3), 1, 1, RING, (2, 4, 8)),
    "strided, dilated": ((2, 40, 10, 9), 136, (2, 4), (2, 1), ((2, 0), (1, 3)), (3, 2), SHORT, (1, 8, 8)),
    "in one line": ((4, 40, 5, 6), 72, (1, 1), 1, 0, 1, RING, (1, 1, 64)),
    "points, padded after": ((4, 40, 5, 6), 72, (1, 1), 1, ((0, 1), (0, 2)), 1, RING, (2, 4, 8)),
    "strided points": ((4, 136, 5, 6), 40, (1, 1), (2, 3), 0, 1, SHORT, (4, 4, 4)),
    "one axis": ((3, 40, 44), 72, (5,), 2, ((3, 1),), 3, RING, (4, 1, 16)),
    "few steps": ((2, 64, 9, 3), 32, (1, 2), 1, 0, 1, Tile(64, 64, 64, 4, 6), (1, 32, 2)),
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


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("name", CASES)
def test_the_layer_is_exact_whenever_copies_arrive(name, bias, late):
    found, right = forward_of(*split(CASES[name]), bias=bias, late=late)
    assert torch.equal(found, right)


@pytest.mark.parametrize("number", range(len(RANDOM)))
def test_the_layer_is_exact_in_a_random_box(number):
    found, right = forward_of(*split(RANDOM[number]), bias=number % 2 == 0, late=number % 4 < 2)
    assert torch.equal(found, right)


FORWARD_MUTANTS = {
    "padding ignored": ("below_w * STRIDE_W - padding_w", "below_w * STRIDE_W"),
    "padding of the other axis": ("below_h * STRIDE_H - padding_h", "below_h * STRIDE_H - padding_w"),
    "a stride less of padding": ("gl.cdiv(padding_h, STRIDE_H)", "padding_h // STRIDE_H"),
    "stride of rows ignored": ("first_h + at_h // STRIDE_H", "first_h + at_h"),
    "stride of columns ignored": ("first_w + at_w // STRIDE_W", "first_w + at_w"),
    "phase of rows ignored": ("at_h % STRIDE_H * row + at_w", "at_w"),
    "phase of columns ignored": (" * row + at_w % STRIDE_W", " * row"),
    "dilation of rows ignored": ("at_h + dilation_h", "at_h + 1"),
    "dilation of columns ignored": ("at_w + dilation_w", "at_w + 1"),
    "a row of taps goes on": ("gl.where(ends, start_w, at_w)", "at_w"),
    "rows of taps too long": ("ends = u_w == kernel_w", "ends = u_w > kernel_w"),
    "channels beyond the last summed": ("ends = k >= in_channels", "ends = k > in_channels"),
    "the tap's weights not changed": ("tap += ends.to(gl.int32)", "tap += 0"),
    "the last step not copied": ("step + SLOTS - 1 < steps", "step + SLOTS < steps"),
    "the ring turned the wrong way": ("gl.where(slot == 0, SLOTS - 1, slot - 1)", "gl.where(slot > SLOTS, 0, slot)"),
    "a slot filled while it is read": ("warpgroup_mma_wait(1, [acc])", "warpgroup_mma_wait(2, [acc])"),
    "an arrival not waited for": ("phase ^ 1", "phase"),
    "bias of the first channels": ("bias_ptr + offs_o, mask", "bias_ptr + offs_o - o, mask"),
    "bias beyond the last channel": ("mask=offs_o < out_channels", "mask=offs_o <= out_channels"),
    "images of a box ignored": ("rest // blocks_h * BOX_N", "rest // blocks_h"),
    "rows and columns of boxes taken for each other": ("rest % blocks_w * BOX_W", "rest % blocks_h * BOX_W"),
    "the output written elsewhere": ("(y_desc, [n, i_h, i_w, o], y_box)", "(y_desc, [n, i_w, i_h, o], y_box)"),
}


def changes(result_of: Any, mutant: tuple[str, str]) -> bool:
    """Whether a mistake changes the result of some case, or is met by the emulator: a barrier that never opens."""
    for case in CASES.values():
        try:
            if any(not torch.equal(*result_of(*split(case), late=late, mutant=mutant)) for late in (False, True)):
                return True
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("name", FORWARD_MUTANTS)
def test_each_mistake_changes_a_layer(name):
    assert changes(lambda *case, **options: forward_of(*case, bias=True, **options), FORWARD_MUTANTS[name])


@pytest.fixture
def on_hopper(monkeypatch) -> list[object]:
    """As on a device of that generation: the tiles that are launched, none of which computes anything."""
    launched: list[object] = []
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(weight_grad_hopper, "could_serve", could_serve)
    monkeypatch.setattr(forward_hopper, "write_conv", lambda *given: launched.append(given[-1]))
    monkeypatch.setattr(autotune, "tiled", lambda tile, *_: (Noted(tile, launched), {"BLOCK_M": 64, "BLOCK_N": 64}))
    return launched


def could_serve(x: torch.Tensor, layer: ConvGeometry) -> bool:
    """Without the question of the device."""
    return x.dtype in runtime.HALVES and layer.axes < 3 and layer.groups == 1 and layer.in_channels >= 32


class Noted:
    def __init__(self, tile: Tile, launched: list[object]):
        self.tile, self.launched = tile, launched

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda **_: self.launched.append(self.tile)


def layer_of(shape, weight, **options) -> tuple[torch.Tensor, torch.Tensor, ConvGeometry]:
    layer = conv_geometry(shape, weight, axes=len(shape) - 2, **options)
    return drawn(shape, 1), drawn(weight, 2), layer


def test_boxes_are_taken_only_where_a_file_or_a_measurement_says_so(on_hopper, monkeypatch):
    x, w, layer = layer_of((2, 40, 8, 6), (72, 40, 3, 3), padding=1)
    forward.conv(x, w, None, layer)
    boxes = pixel_boxes.tiles_of(2, 8, 6, 72)
    name = autotune.key("conv boxes", layer, x)
    monkeypatch.setattr(autotune, "_known", lambda _: {name: boxes[1]})
    forward.conv(x, w, None, layer)
    monkeypatch.setattr(autotune, "_known", lambda _: {name: Tile(64, 64, 64, 4, 4)})
    forward.conv(x, w, None, layer)
    known = {autotune.key("conv", layer, x): Tile(128, 64, 64, 4, 4)}  # a file from before
    monkeypatch.setattr(autotune, "_known", lambda _: known)
    forward.conv(x, w, None, layer)
    assert on_hopper == [on_hopper[0], boxes[1], Tile(64, 64, 64, 4, 4), Tile(128, 64, 64, 4, 4)]
    assert isinstance(on_hopper[0], Tile)


@pytest.mark.parametrize("tune", ["all", "1", "0"])
def test_boxes_are_measured_where_all_is_beside_the_tile_that_is_known(on_hopper, monkeypatch, tune):
    """The quickest is kept by its own name: of what was known nothing is forgotten."""
    x, w, layer = layer_of((2, 40, 8, 6), (72, 40, 3, 3), padding=1)
    boxes = pixel_boxes.tiles_of(2, 8, 6, 72)
    known = {autotune.key("conv", layer, x): Tile(128, 64, 64, 4, 4)}
    measured: list[list[object]] = []

    def quickest(tiles, run):
        measured.append(list(tiles))
        return tiles[3]

    monkeypatch.setenv("KONVLIB_TUNE", tune)
    monkeypatch.setattr(autotune, "_known", lambda _: known)
    monkeypatch.setattr(autotune, "_may_measure", lambda _: tune != "0")
    monkeypatch.setattr(autotune, "_quickest", quickest)
    forward.conv(x, w, None, layer)
    forward.conv(x, w, None, layer)
    if tune == "all":
        assert measured == [[Tile(128, 64, 64, 4, 4), *boxes]]
        assert autotune._measured == {autotune.key("conv boxes", layer, x): boxes[2]}
        assert on_hopper == [Tile(128, 64, 64, 4, 4), boxes[2], boxes[2]]
    else:
        assert on_hopper == [Tile(128, 64, 64, 4, 4)] * 2
        assert not measured
        assert not autotune._measured


def test_a_choice_is_read_as_it_was_written(tmp_path, monkeypatch):
    tiles = {"conv boxes": BoxTile(64, 64, 64, 4, 4, 1, 2, 4, 8), "conv": Tile(128, 64, 64, 4, 4)}
    monkeypatch.setattr(autotune, "_measured", tiles)
    autotune.save(tmp_path / "choices.json")
    assert autotune._read(tmp_path / "choices.json") == tiles


NOT_SERVED = {
    "sizes that the stride does not divide": ((2, 40, 9, 6), (72, 40, 3, 3), {"stride": 2}, {}),
    "channels that are no multiple of 8": ((2, 36, 8, 6), (72, 36, 3, 3), {}, {}),
    "outputs that are no multiple of 8": ((2, 40, 8, 6), (36, 40, 3, 3), {}, {}),
    "three axes": ((2, 40, 4, 4, 4), (40, 40, 3, 3, 3), {}, {}),
    "groups": ((2, 80, 8, 6), (80, 40, 3, 3), {"groups": 2}, {}),
    "channels first": ((2, 40, 8, 6), (72, 40, 3, 3), {}, {"change": torch.Tensor.contiguous}),
    "not at 16 bytes": ((2, 40, 8, 6), (72, 40, 3, 3), {}, {"change": lambda x: moved(x)}),
    "single precision": ((2, 40, 8, 6), (72, 40, 3, 3), {}, {"change": torch.Tensor.float}),
    "a map of biases": ((2, 40, 8, 6), (72, 40, 3, 3), {}, {"bias": (1, 72, 6, 4)}),
    "the same image many times, a row": (
        (2, 40, 8, 6),
        (72, 40, 3, 3),
        {"stride": 2},
        {"change": lambda x: rows_of(x)},
    ),
}


def moved(x: torch.Tensor) -> torch.Tensor:
    """The same, two bytes further on."""
    line = x.new_empty(x.numel() + 1)[1:].view(x.movedim(1, -1).shape)
    return line.copy_(x.movedim(1, -1)).movedim(-1, 1)


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """Of which all rows are one and all pixels of a row too."""
    return x[:, :, :1, :1].expand(x.shape)


@pytest.mark.parametrize("name", NOT_SERVED)
def test_what_is_not_served_takes_the_other_form(on_hopper, monkeypatch, name):
    """Also where the file names boxes for it, and everything may be measured."""
    shape, weight, options, other = NOT_SERVED[name]
    x, w, layer = layer_of(shape, weight, **options)
    x = other.get("change", lambda x: x)(x)
    bias = torch.zeros(other["bias"], dtype=x.dtype) if "bias" in other else None
    known = {
        autotune.key("conv boxes", layer, memory.empty(x, layer.output_shape)): BoxTile(64, 64, 64, 4, 4, 1, 1, 8, 8)
    }
    monkeypatch.setenv("KONVLIB_TUNE", "all")
    monkeypatch.setattr(autotune, "_known", lambda _: known)
    forward.conv(x, w.to(x.dtype), bias, layer)
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


@on_cuda
@pytest.mark.parametrize("number", range(len(RANDOM)))
def test_on_a_device_a_random_box_is_exact_and_twice_the_same(number):
    """Against double precision, where NaN was."""
    case, tile = split(RANDOM[number])
    check_on_device(case, [tile], runtime.HALVES[number % 2])


@on_cuda
@pytest.mark.parametrize("name", ["square boxes", "strided"])
def test_on_a_device_every_tile_is_exact_and_twice_the_same(name):
    for dtype in runtime.HALVES:
        check_on_device(split(CASES[name])[0], None, dtype)


def check_on_device(case: tuple, tiles: list[BoxTile] | None, dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("boxes are for Hopper")
    layer = geometry_of(*case)
    sizes = [(layer.input_shape, 1), (layer.weight_shape, 2), ((1, layer.out_channels), 3)]
    x, w, b = (drawn(shape, seed).to("cuda", dtype) for shape, seed in sizes)
    right = aten.conv(x.cpu().double(), w.cpu().double(), b.cpu()[0].double(), layer).to(dtype)
    y, packed = memory.empty(x, layer.output_shape), memory.packed_weight(w)
    tiles = tiles or list(forward_hopper.tiles(y, x, packed, b[0], layer))
    assert tiles
    for tile in [*tiles, *tiles]:
        forward_hopper.write_conv(y.fill_(float("nan")), x, packed, b[0], layer, tile)
        assert torch.equal(y.cpu(), right), tile
