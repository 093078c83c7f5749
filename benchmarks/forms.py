"""The forms of kernels that serve a row of the benchmarks, with each of their tiles, as launches for the model.

A form is a kernel, or several in turn, that computes a layer. What a launch is told here is what the launchers of
`konvlib.layers` and `konvlib.konvolution` tell the kernels: tiles, steps, bytes. What a loop is made of stands in the
offline table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from benchmarks import records
from benchmarks.konvolution_gpu import Shape
from benchmarks.layers_gpu import Layer
from benchmarks.machine import CARD, Launch, Pass, balanced
from konvlib.geometry import ConvGeometry, conv_geometry
from konvlib.konvolution import columns, halo, halo_beside
from konvlib.layers import autotune, forward_runs, input_grad_hopper, pixel_boxes, weight_grad_boxes
from konvlib.layers.autotune import BoxTile, Tile
from konvlib.layers.weight_grad_boxes import Boxes
from konvlib.runtime import cdiv, power_of_2

CHOICES = autotune.CHOICES / "nvidia-h100-80gb-hbm3.json"
STEM = ("conv_runs", "bf16", "stem")


class Form(NamedTuple):
    """A way of computing a row: its name, its tile and its launches."""

    name: str
    tile: str
    launches: list[Launch | Pass]


@cache
def kernel(*words: Any) -> dict[str, Any]:
    """The first row of the offline table that begins with some words; none if there is no such row."""
    start = " ".join(map(str, words))
    return next((row for name, row in offline().items() if name == start or name.startswith(f"{start} ")), {})


@cache
def offline() -> dict[str, Any]:
    """The rows of the offline table by name."""
    return records.offline()["rows"]


@cache
def choices() -> dict[str, Any]:
    """The tiles and ways that were quickest on the card, by the geometry's key."""
    return json.loads(CHOICES.read_text(encoding="utf-8"))


def chosen(kind: str, layer: ConvGeometry) -> Any:
    """What the file of choices names for a layer in bfloat16 with channels last, or None."""
    import torch

    return choices().get(autotune._key(kind, layer, torch.bfloat16, "last"))


def geometry(layer: Layer | Shape) -> ConvGeometry:
    """The layer's geometry; a Shape is an image's."""
    size = layer.size if isinstance(layer.size, tuple) else (layer.size, layer.size)
    shape, weight = (layer.batch, layer.inputs, *size), (layer.outputs, layer.inputs, *(layer.kernel,) * len(size))
    dilation = layer.dilation if isinstance(layer, Layer) else 1
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": dilation}
    return conv_geometry(shape, weight, axes=len(size), **options)


class Counts(NamedTuple):
    """What a layer holds: numbers of its input that are seen, its output, its weight; pixels; taps."""

    inputs: int
    outputs: int
    weights: int
    pixels: int
    taps: int


def counts(layer: ConvGeometry) -> Counts:
    """The counts of a layer; of an axis with one tap and a stride, only what is seen.

    Examples
    --------
    >>> counts(conv_geometry((2, 8, 6, 6), (4, 8, 1, 1), axes=2, stride=2))
    Counts(inputs=144, outputs=72, weights=32, pixels=18, taps=1)
    """
    pixels, taps = layer.batch * math.prod(layer.output_size), math.prod(layer.kernel_size)
    seen = pixels if taps == 1 else layer.batch * math.prod(layer.input_size)
    weights = taps * layer.in_channels * layer.out_channels
    return Counts(seen * layer.in_channels, pixels * layer.out_channels, weights, pixels, taps)


def forward_gathered(layer: ConvGeometry) -> Iterator[Form]:
    """The Triton kernel with the tile that was chosen on the card."""
    tile = chosen("conv", layer)
    if tile is None or layer.in_channels < autotune.FEW:
        return
    each, tile = counts(layer), Tile(*tile)
    words = ("bf16", *tile, "AXES=2") if layer.axes == 2 else ("fp16", *tile, "AXES=1")
    tiles = cdiv(each.pixels, tile.block_m) * cdiv(layer.out_channels, tile.block_n)
    steps = each.taps * cdiv(layer.in_channels, tile.block_k)
    read, written = 2 * (each.inputs + each.weights), 2 * each.outputs
    yield Form(
        "gathered", shown(tile), [_product(kernel("conv_forward", *words), tile, [(tiles, steps)], read, written)]
    )


def forward_boxes(layer: ConvGeometry) -> Iterator[Form]:
    """Boxes of output pixels, with all tiles."""
    if min(layer.in_channels, layer.out_channels) < 32 or any(
        n % s for n, s in zip(layer.input_size, layer.stride, strict=True)
    ):
        return
    each, images = counts(layer), _images(layer, layer.output_size)
    for tile in pixel_boxes.tiles_of(*images, layer.out_channels):
        blocks = _blocks(tile, images) * cdiv(layer.out_channels, tile.block_n)
        steps = each.taps * cdiv(layer.in_channels, tile.block_k)
        row = kernel("forward boxes 56 bfloat16", *tile[:5])
        read, written = 2 * (each.inputs + each.weights), 2 * each.outputs
        yield Form("boxes", shown(tile), [_product(row, tile, [(blocks, steps)], read, written, waits=False)])


def forward_runs_of(layer: ConvGeometry) -> Iterator[Form]:
    """Runs of the taps of a row, for the stem; its input is laid out by a fill and a copy, so is its weight."""
    if layer.in_channels > forward_runs.MOST_CHANNELS or layer.axes != 2:
        return
    each, channels = counts(layer), power_of_2(layer.in_channels)
    run = forward_runs._filled(layer)
    rows, across = ((n - 1) * s + k for n, s, k in zip(layer.output_size, layer.stride, layer.kernel_size, strict=True))
    laid = 2 * layer.batch * rows * 16 * cdiv((across - layer.kernel_size[1]) * channels + run, 16)
    weights = 2 * layer.out_channels * layer.kernel_size[0] * run
    laying = [Pass(laid), Pass(2 * each.inputs + laid), Pass(weights), Pass(2 * weights)]
    for tile in forward_runs.TILES:
        row = kernel(*STEM, tile.block_m, tile.block_n, tile.num_warps, tile.num_stages)
        tiles = cdiv(each.pixels, tile.block_m) * cdiv(layer.out_channels, tile.block_n)
        work = [(tiles, layer.kernel_size[0])]
        made = _product(row, tile._replace(block_k=run), work, laid + weights, 2 * each.outputs)
        yield Form("runs", shown(tile), [*laying, made])


def input_grad_gathered(layer: ConvGeometry) -> Iterator[Form]:
    """The Triton kernel of the input gradient; phases follow one another."""
    tile = chosen("conv_transpose", layer)
    if tile is None or layer.in_channels < autotune.FEW or layer.axes != 2:
        return
    tile = Tile(*tile)
    pixels = layer.batch * math.prod(cdiv(n, s) for n, s in zip(layer.input_size, layer.stride, strict=True))
    blocks = cdiv(pixels, tile.block_m) * cdiv(layer.in_channels, tile.block_n)
    steps = cdiv(layer.out_channels, tile.block_k)
    tiles = [(blocks, taps * steps) for taps in taps_of_phases(layer)]
    row = kernel("conv_input_grad bf16", *tile, "AXES=2")
    yield Form("gathered", shown(tile), [_product(row, tile, tiles, *_moved_back(layer, in_turn=False))])


def input_grad_boxes(layer: ConvGeometry) -> Iterator[Form]:
    """Boxes of input pixels of a phase, those with most taps first, or in turn."""
    if min(layer.in_channels, layer.out_channels) < 32 or any(
        n % s for n, s in zip(layer.input_size, layer.stride, strict=True)
    ):
        return
    in_turn = 2 * counts(layer).outputs > input_grad_hopper.CACHE
    size = tuple(n // s for n, s in zip(layer.input_size, layer.stride, strict=True))
    images, phases = _images(layer, size), taps_of_phases(layer)
    for tile in pixel_boxes.tiles_of(*images, layer.in_channels):
        blocks = _blocks(tile, images) * cdiv(layer.in_channels, tile.block_n)
        steps = cdiv(layer.out_channels, tile.block_k)
        tiles = [(blocks, taps * steps) for taps in sorted(phases, reverse=True)]
        if in_turn:
            tiles = [(1, taps * steps) for _ in range(blocks) for taps in phases]
        row = kernel("input_grad boxes 56 bfloat16", *tile[:5])
        yield Form("boxes", shown(tile), [_product(row, tile, tiles, *_moved_back(layer, in_turn), waits=False)])


def weight_grad(layer: ConvGeometry) -> Iterator[Form]:
    """Boxes of pixels in parts, with the tile of the file of choices or the likeliest."""
    if min(layer.in_channels, layer.out_channels) < 32 or layer.axes != 2:
        return
    each, tile = counts(layer), chosen("conv_weight_grad boxes", layer)
    at_once = CARD.processors
    tile = BoxTile(*tile) if tile else weight_grad_boxes.likely(_boxes(layer), at_once, at_once)[0]
    boxes = _boxes(layer)._replace(box=(tile.images, tile.rows, tile.columns))
    depth = max(tile.block_k, boxes.pixels)
    steps = cdiv(cdiv(math.ceil(boxes.blocks), depth // boxes.pixels), tile.parts)
    blocks = each.taps * cdiv(layer.in_channels, tile.block_n) * cdiv(layer.out_channels, tile.block_m) * tile.parts
    row = kernel("weight_grad_boxes bf16 fp32", *tile[:5])
    if boxes.pixels == tile.block_k:  # one box a step: fewer instructions, as the table has them for one tile
        whole = kernel("weight_grad_boxes bf16 fp32 64 64 64 4 4 1 1 64")["instructions"]
        row = {**row, "per_step": row["per_step"] * whole / row["instructions"]}
    wide = 4 if tile.parts > 1 else 2
    sums = wide * tile.parts * each.weights
    read = 2 * (each.inputs + each.outputs)
    made = _product(row, tile._replace(block_k=depth), [(blocks, steps)], read, sums, waits=False, wide=wide)
    adding = [Pass(sums + 2 * each.weights)] if tile.parts > 1 else []
    yield Form("boxes", shown(tile), [made, *adding])


def konv_halo(shape: Shape, *, share: bool = False) -> Iterator[Form]:
    """Konvolution by a halo in two launches, or in equal shares in three, with each tile that fits."""
    layer = geometry(shape)
    if min(layer.in_channels, layer.out_channels) < halo.LEAST:
        return
    name = _halo_row(shape)
    for tile in halo.tiles_of(layer):
        made = _halo(shape, layer, tile, halo.blocks_of(layer, tile), kernel("halo", name, *tile), shape.degree, 64)
        launches = balanced(made) if share else [made]
        yield Form("halo in equal shares" if share else "halo", shown(tile), [_packing(shape), *launches])


def konv_beside(shape: Shape) -> Iterator[Form]:
    """Konvolution by a halo, degrees side by side."""
    import torch

    layer = geometry(shape)
    if not halo_beside.fits(layer, torch.bfloat16, shape.degree):
        return
    width = halo_beside.width_of(layer, shape.degree)
    name = {16: "16 channels"}.get(shape.inputs) or {"64 channels": "64 outputs"}.get(
        _halo_row(shape), _halo_row(shape)
    )
    for tile in halo_beside.tiles_of(layer):
        blocks = halo_beside.blocks_of(layer, shape.degree, tile)
        atoms = cdiv(shape.degree, 64 // width)
        made = _halo(shape, layer, tile, blocks, kernel("halo beside", name, *tile), atoms, width)
        yield Form("beside", shown(tile), [_packing(shape), made])


def konv_input_grad(shape: Shape) -> Iterator[Form]:
    """Konvolution's input gradient by columns, after its coefficients are laid side by side."""
    layer = geometry(shape)
    batch, *size = _images(layer, layer.input_size)
    each, pixels = counts(layer), columns.pixels_of(layer)._replace(batch=batch, size=tuple(size))
    packing = Pass(4 * shape.degree * each.weights)
    for tile in columns.likely_tiles(layer, shape.degree, CARD.processors):
        span = columns.span_of(shape.degree, tile.block_n)
        boxes = math.prod(pixels.boxes(tile.block_m)[1]) * cdiv(layer.in_channels, tile.block_n)
        phases = taps_of_phases(layer)
        tiles = [(boxes * len(phases), sum(phases) / len(phases) * cdiv(layer.out_channels, tile.block_k))]
        read = 2 * (each.outputs + math.prod(layer.input_shape) + shape.degree * each.weights)
        words = "stride" if shape.stride > 1 else "few channels" if shape.inputs == 16 else _columns_row(shape)
        if not (row := kernel("columns", words, *tile)):
            continue  # the offline table does not have this tile
        launch = _product(
            row, tile._replace(block_n=span * tile.block_n), tiles, read,
            2 * math.prod(layer.input_shape), waits=False,
        )  # fmt: skip
        stored = 2 * tile.block_m * tile.block_n
        yield Form("columns", shown(tile), [packing, launch._replace(stored=stored, queued=True)])


def konv_kappa_grad(shape: Shape) -> Iterator[Form]:
    """Konvolution's gradient by its coefficients: the input expanded once, then a weight gradient; and of degree 0."""
    wide = geometry(shape._replace(inputs=shape.inputs * shape.degree))
    each = counts(geometry(shape))
    expanding = Pass(2 * math.prod(geometry(shape).input_shape) * (1 + shape.degree))
    degree_0 = [Pass(2 * each.outputs), Pass(0), Pass(0), Pass(4 * each.weights * (shape.degree + 1))]
    for form in weight_grad(wide):
        yield Form("expanded", form.tile, [expanding, *form.launches, *degree_0])


def taps_of_phases(layer: ConvGeometry) -> list[int]:
    """How many taps show the inputs of each phase, in order.

    Examples
    --------
    >>> taps_of_phases(conv_geometry((1, 8, 8, 8), (8, 8, 3, 3), axes=2, stride=2, padding=1))
    [1, 2, 2, 4]
    """
    each = zip(layer.kernel_size, layer.stride, layer.before, layer.dilation, strict=True)
    along = [[sum((r + p - d * u) % s == 0 for u in range(k)) for r in range(s)] for k, s, p, d in each]
    return [math.prod(taps) for taps in product(*along)]


def shown(tile: Sequence[int]) -> str:
    """A tile in words: rows and columns, warps, stages, and the parts of one of many.

    Examples
    --------
    >>> shown(Tile(128, 64, 64, 4, 3))
    '128 x 64, 4 warps, 3 stages'
    """
    parts = f", {tile[5]} parts" if len(tile) > 5 and tile[5] > 1 else ""
    return f"{tile[0]} x {tile[1]}, {tile[3]} warps, {tile[4]} stages{parts}"


def _product(
    row: dict[str, Any], tile: Any, tiles: list[tuple[int, float]], read: float, written: float, *,
    waits: bool = True, wide: int = 2,
) -> Launch:  # fmt: skip
    stored = wide * tile.block_m * tile.block_n
    size = tile.block_m, tile.block_n, tile.block_k
    return Launch(row, tiles, *size, tile.num_stages - 1, read, written, stored, waits)


def _halo(
    shape: Shape, layer: ConvGeometry, tile: Tile, blocks: dict[str, Any], row: dict[str, Any], atoms: int, width: int
) -> Launch:
    """A launch of either halo: ``atoms`` buffers of 64 columns are filled each time that samples are read."""
    each, walk, pixels = counts(layer), halo.walk_of(layer), 8 * blocks["SLOTS"]
    out_h, out_w = layer.output_size
    slots = cdiv(layer.batch * out_w, 8) * (out_h + walk.gap)
    tiles = cdiv(layer.out_channels, blocks["BLOCK_N"]) * cdiv(slots, blocks["SLOTS"])
    turns = shape.kernel * cdiv(layer.in_channels, width)  # of column taps and channels
    buffers = turns * walk.phases * atoms
    taps = [cdiv(shape.kernel - phase, walk.phases) for phase in range(walk.phases)]
    steps = turns * atoms * sum(cdiv(n, blocks["TOGETHER"]) for n in taps)
    depth = 64 * turns * atoms * shape.kernel / steps
    samples, weights = 128 * (pixels + 8 * blocks["EXTRA"]), 2 * depth * blocks["BLOCK_N"]
    asked = samples * width / 64 * turns * walk.phases / steps  # each sample once for all degrees
    swapped = blocks.get("SWAPPED", False)
    return Launch(
        row, [(tiles, steps)], tile.block_m, tile.block_n, depth, tile.num_stages - 2,
        2 * (each.inputs + shape.degree * each.weights), 2 * each.outputs, 2 * tile.block_m * tile.block_n, True,
        copied=weights + asked, kept=weights + samples * buffers / steps,
        across=tile.num_warps // 4 if swapped else 1,
    )  # fmt: skip


def _packing(shape: Shape) -> Pass:
    """The kernel that packs the coefficients and adds up those of degree 0."""
    return Pass(2 * (2 * shape.degree + 1) * counts(geometry(shape)).weights)


def _halo_row(shape: Shape) -> str:
    """Which layer of the offline table has the same loop."""
    if shape.outputs <= 64:
        return "points" if shape.kernel == 1 else "stride" if shape.stride > 1 else "64 channels"
    return "degree 8" if shape.degree == 8 else "128 channels"


def _columns_row(shape: Shape) -> str:
    if shape.degree in (3, 8):
        return f"degree {shape.degree}"
    return "points" if shape.kernel == 1 else "64 channels" if shape.inputs == 64 else "128 channels"


def _images(layer: ConvGeometry, size: Sequence[int]) -> tuple[int, int, int]:
    """Images, rows and columns of pixels, as boxes see them: one row where each pixel sees its own only."""
    if math.prod(layer.kernel_size) == math.prod(layer.stride) == 1 and not any(layer.before):
        return 1, 1, layer.batch * math.prod(size)
    return layer.batch, *((1,) * (2 - len(size))), *size


def _blocks(tile: BoxTile, images: tuple[int, int, int]) -> int:
    box = tile.images, tile.rows, tile.columns
    return math.prod(cdiv(n, extent) for n, extent in zip(images, box, strict=True))


def _moved_back(layer: ConvGeometry, in_turn: bool) -> tuple[float, float]:
    """Bytes read and written by an input gradient: of a large output once for each phase, unless these come in turn."""
    each, phases = counts(layer), [taps for taps in taps_of_phases(layer) if taps]
    again = len(phases) if not in_turn and 2 * each.outputs > weight_grad_boxes.CACHE else 1
    return 2 * (again * each.outputs + each.weights), 2 * math.prod(layer.input_shape)


def _boxes(layer: ConvGeometry) -> Boxes:
    """A layer as the weight gradient's boxes see it, without a box."""
    size, out, stride = layer.input_size, layer.output_size, layer.stride
    if math.prod(layer.kernel_size) == 1 and not any(layer.before):
        if math.prod(stride) == 1:
            size = out = (1, layer.batch * math.prod(out))
        else:
            size, stride = out, (1, 1)
    batch = 1 if out[0] == 1 else layer.batch
    rest = layer.kernel_size, stride, layer.before, layer.dilation, (1, 1, 1)
    return Boxes(batch, layer.in_channels, layer.out_channels, size, out, *rest)
