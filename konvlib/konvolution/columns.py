"""Konvolution's input gradient by columns of a degree and a channel: which layers it serves, its tiles and its launch.

It takes layers in halves on Hopper, without groups, on one or two axes, where channels lie together; all others go
other ways. It has not been timed: `konvlib.konvolution.ways` takes it where a file of choices names it, or measures it
with the other ways under ``KONVLIB_TUNE=all``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.konvolution.columns_kernel import konv_columns_kernel
from konvlib.layers import autotune, bound, memory
from konvlib.layers.autotune import Tile
from konvlib.layers.pixel_boxes import box_of, descriptor, fits, viewed
from konvlib.layers.polynomials import BASES, Expansion
from konvlib.runtime import cdiv, power_of_2

LEAST = 16
"""The fewest channels of the input: a tile has so many at least."""

MOST_DEGREES = 8

WIDTH = 64
"""Columns that lie together in shared memory, 128 bytes: products have as many, or a multiple."""

MOST_COLUMNS, MOST_SUMS, MOST_NUMBERS = 256, 128, 192
"""Columns of a product, sums of a thread, and sums and samples of a thread."""

SHARED_MEMORY, SLOTS = 227 * 1024 - 2**11, 6
"""What the ring and the samples may take, and how many slots are enough."""

SHARED_BY_PHASES = 20 * 2**20
"""Phases of a larger gradient by the output come by turns: between two whole ones it would leave the cache."""

TRIED = 3
"""So many tiles are measured."""


class Pixels(NamedTuple):
    """A layer of two axes, its pixels those of the input."""

    batch: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def of_a_phase(self) -> tuple[int, int, int]:
        """Images, rows and columns of the inputs that leave the same remainder by the stride."""
        return (self.batch, *(cdiv(n, s) for n, s in zip(self.size, self.stride, strict=True)))

    def boxes(self, pixels: int) -> tuple[tuple[int, int, int], list[int]]:
        """The box of so many pixels of a phase, and how many cover them along images, rows and columns."""
        box = box_of(pixels, *self.of_a_phase)
        return box, [cdiv(n, extent) for n, extent in zip(self.of_a_phase, box, strict=True)]

    def taps(self, phase: tuple[int, int]) -> int:
        """How many taps show the inputs of a phase."""
        each = zip(phase, self.padding, self.dilation, self.stride, self.kernel, strict=True)
        return math.prod(sum((r + p - d * u) % s == 0 for u in range(k)) for r, p, d, s, k in each)


def serves(x: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> bool:
    """Whether the kernel computes the gradient by this input: on Hopper, in halves, where its channels lie together.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.ones(1, 64, 9, dtype=torch.bfloat16)
    >>> serves(x, conv_geometry(x.shape, (64, 64, 1), axes=1), Expansion(3, "chebyshev"))
    False
    """
    if runtime.gluon is None or not x.is_cuda or not runtime.is_hopper(x.device):
        return False
    return could_serve(layer, x.dtype, expansion) and memory.is_channels_last(x)


def could_serve(layer: ConvGeometry, dtype: torch.dtype, expansion: Expansion) -> bool:
    """Whether it does where the channels of the input lie together.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 64, 9, 9), (64, 64, 3, 3), axes=2, stride=2, dilation=2)
    >>> [could_serve(layer, dtype, Expansion(3, "hermite")) for dtype in (torch.bfloat16, torch.float32)]
    [True, False]
    """
    if dtype not in runtime.HALVES or layer.groups > 1 or layer.axes > 2:
        return False
    if 0 in (*layer.input_shape, *layer.output_shape) or layer.batch * math.prod(layer.input_size) >= 2**30:
        return False
    if not 0 < expansion.degrees <= MOST_DEGREES or expansion.basis not in BASES:
        return False
    return layer.in_channels >= LEAST and layer.out_channels % 8 == 0


def conv_transpose(
    dy: torch.Tensor, kappa: torch.Tensor, x: torch.Tensor, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The gradient by the input, as `konvlib.konvolution.operators.konv_input_grad`, where the kernel serves it."""
    dx = memory.empty(x, layer.input_shape)
    if not fits(dy):  # the copies would not find its pixels
        dy = dy.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)
    packed: dict[int, torch.Tensor] = {}

    def launch(tile: Tile) -> None:
        if tile.block_n not in packed:
            packed[tile.block_n] = side_by_side(kappa, tile.block_n)
        bound.launch(konv_columns_kernel, _told, (layer, expansion, tile, at_once), dx, dy, x, packed[tile.block_n])

    at_once = autotune.multiprocessors(dx)
    with runtime.on_device_of(dx):
        name = f"konv_transpose columns {expansion.basis} {expansion.squash} {expansion.degrees}"
        likely = likely_tiles(layer, expansion.degrees, at_once)
        autotune.launch(name, layer, dx, launch, likely=likely)
    return dx


def _told(
    layer: ConvGeometry, expansion: Expansion, tile: Tile, at_once: int,
    dx: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    return launched(dx, dy, x, w, layer, expansion, tile, at_once)[1:]


def side_by_side(kappa: torch.Tensor, channels: int) -> torch.Tensor:
    """Coefficients as ``(C_out, columns)``: by tap, then by so many channels, then by degree; zeros fill the last.

    Examples
    --------
    >>> side_by_side(torch.tensor([[[[1, 2]], [[3, 4]]]]), 32)[:, ::32]
    tensor([[1, 3, 2, 4]])
    """
    outputs, degrees, inputs, *kernel = kappa.shape
    span, blocks, taps = span_of(degrees, channels), cdiv(inputs, channels), math.prod(kernel)
    columns = kappa.flatten(3).permute(0, 3, 1, 2)
    if (span, blocks * channels) != (degrees, inputs):
        filled = kappa.new_zeros(outputs, taps, span, blocks * channels)
        filled[:, :, :degrees, :inputs] = columns
        columns = filled
    return columns.unflatten(3, (blocks, channels)).transpose(2, 3).reshape(outputs, -1)


@lru_cache(256)
def span_of(degrees: int, channels: int) -> int:
    """How many degrees' columns a product has: one or two powers of two, and whole boxes of columns.

    Examples
    --------
    >>> [span_of(degrees, 32) for degrees in range(1, 9)]
    [2, 2, 4, 4, 6, 6, 8, 8]
    """
    return next(
        n
        for n in range(degrees, 4 * MOST_DEGREES)
        if n.bit_count() <= 2 and n * channels % WIDTH == 0 and main_of(n) * channels % WIDTH == 0
    )


def main_of(span: int) -> int:
    """The largest power of two in a number of degrees: they are the columns of one product.

    Examples
    --------
    >>> [main_of(span) for span in (1, 3, 4, 6)]
    [1, 2, 4, 4]
    """
    return 1 << span.bit_length() - 1


@lru_cache(1024)
def tiles_of(layer: ConvGeometry, degrees: int) -> tuple[Tile, ...]:
    """Pixels and channels of a tile, products at a time, warps and slots: all that fit.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> tiles_of(conv_geometry((32, 64, 56, 56), (64, 64, 3, 3), axes=2, padding=1), 4)[0]
    Tile(block_m=128, block_n=64, block_k=64, num_warps=8, num_stages=4)
    """
    block_k, tiles = 32 if layer.out_channels <= 32 else 64, []
    for channels in (128, 64, 32, 16):
        columns = span_of(degrees, channels) * channels
        if channels >= 2 * power_of_2(layer.in_channels) or columns > MOST_COLUMNS:
            continue
        for block_m, warps in ((128, 8), (64, 4), (256, 8)):
            tile = Tile(block_m, channels, block_k, warps, 0)
            sums = sums_of(tile, degrees)
            left = SHARED_MEMORY // programs_of(sums, warps, layer) - block_m * (2 * channels + 16)
            slots = min(left // (2 * block_k * (block_m + columns)), SLOTS)
            fits_registers = sums <= MOST_SUMS and sums + block_m * channels // (32 * warps) <= MOST_NUMBERS
            if fits_registers and slots > 2:
                tiles.append(tile._replace(num_stages=slots))
    return tuple(tiles)


def programs_of(sums: int, warps: int, layer: ConvGeometry) -> int:
    """How many programs a multiprocessor runs beside one another: more registers are taken where there are phases."""
    return 2 if sums <= MOST_SUMS // 2 and (warps <= 4 or math.prod(layer.stride) == 1) else 1


def sums_of(tile: Tile, degrees: int) -> int:
    """How many sums a thread has."""
    return tile.block_m * span_of(degrees, tile.block_n) * tile.block_n // (32 * tile.num_warps)


@lru_cache(1024)
def likely_tiles(layer: ConvGeometry, degrees: int, at_once: int) -> tuple[Tile, ...]:
    """The tiles worth trying, the likeliest first.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> likely_tiles(conv_geometry((32, 64, 56, 56), (64, 64, 3, 3), axes=2, padding=1), 4, 132)[0]
    Tile(block_m=128, block_n=64, block_k=64, num_warps=8, num_stages=4)
    """
    tiles = sorted(tiles_of(layer, degrees), key=lambda tile: cost(layer, degrees, tile, at_once))
    return tuple(tiles[:TRIED])


def cost(layer: ConvGeometry, degrees: int, tile: Tile, at_once: int) -> float:
    """A guess of the cycles that a launch takes, from the rates that are known of an H100."""
    pixels, columns = pixels_of(layer), span_of(degrees, tile.block_n) * tile.block_n
    boxes = math.prod(pixels.boxes(tile.block_m)[1])
    # 2048 products a cycle; from the cache come 40 bytes a cycle, 128 from shared memory, where each 64 rows read all.
    products = tile.block_m * columns * tile.block_k / 2048
    copied = 2 * tile.block_k * (tile.block_m + columns)
    read = 2 * tile.block_k * (tile.block_m + tile.block_m // 64 * columns)
    step = max(products, copied / 40, (copied + read) / 128)
    steps = math.prod(layer.kernel_size) / math.prod(layer.stride) * cdiv(layer.out_channels, tile.block_k)
    after = tile.block_m * tile.block_n * (10 + 3 * degrees) / 128  # what does not run beside the last products
    together = programs_of(sums_of(tile, degrees), tile.num_warps, layer)
    count = boxes * math.prod(layer.stride) * cdiv(layer.in_channels, tile.block_n)
    waves = cdiv(count, at_once * together)
    moved = 4 * math.prod(layer.input_shape) + 2 * math.prod(layer.output_shape)  # 13 bytes a cycle each
    return 3000 + max(moved / (13 * at_once), waves * (together * step * steps + (after if together == 1 else 0)))


@lru_cache(1024)
def pixels_of(layer: ConvGeometry) -> Pixels:
    """A layer of one or two axes as one of two."""
    each = ((layer.kernel_size, 1), (layer.stride, 1), (layer.before, 0), (layer.dilation, 1))
    return Pixels(layer.batch, *(memory.three(values, fill)[1:] for values, fill in ((layer.input_size, 1), *each)))


def launched(
    dx: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, layer: ConvGeometry, expansion: Expansion,
    tile: Tile, at_once: int = autotune.MULTIPROCESSORS,
) -> tuple[Any, tuple[int], dict[str, Any]]:  # fmt: skip
    """The kernel, its grid and its arguments; all channels lie together, and ``w`` is that of `side_by_side`.

    A program walks over tiles, on a device with so many multiprocessors.
    """
    dx, dy, x = viewed(layer, dx, dy, x)
    pixels = pixels_of(layer)._replace(batch=x.shape[0], size=tuple(x.shape[1:3]))
    box, blocks = pixels.boxes(tile.block_m)
    boxes = math.prod(blocks)
    phases, span = math.prod(pixels.stride), span_of(expansion.degrees, tile.block_n)
    blocks_c = cdiv(layer.in_channels, tile.block_n)
    tiles = blocks_c * boxes * phases
    common, inverse = memory.gcd_and_inverse(pixels.stride, pixels.dilation)
    block_k, parts = tile.block_k, (main_of(span), span - main_of(span) or main_of(span))
    of_dy = descriptor(dy, [*box, block_k], together=2 * block_k)
    of_w = [descriptor(w, [block_k, n * tile.block_n]) for n in parts]
    arguments = {
        "dy_desc": of_dy, "w_desc": of_w[0], "more_desc": of_w[1],
        "x_ptr": x, "dx_ptr": dx, "tiles": tiles, "blocks_c": blocks_c, "blocks_h": blocks[1], "blocks_w": blocks[2],
        "boxes": boxes, "phases": phases, "order": _order(pixels, dy), "batch": x.shape[0],
        "in_channels": layer.in_channels, "out_channels": layer.out_channels,
        **_both("in", pixels.size), **_both("kernel", pixels.kernel), **_both("stride", pixels.stride),
        **_both("padding", pixels.padding), **_both("dilation", pixels.dilation),
        **_both("gcd", common), **_both("inverse", inverse),
        **dict(zip(("stride_xn", "stride_xh", "stride_xw"), x.stride(), strict=False)),
        **dict(zip(("stride_dxn", "stride_dxh", "stride_dxw"), dx.stride(), strict=False)),
        "DEGREES": expansion.degrees, "MAIN": main_of(span), "REST": span - main_of(span),
        "BASIS": expansion.basis, "SQUASH": expansion.squash,
        "STRIDED": phases > 1, "EVEN_C": layer.in_channels % tile.block_n == 0, "INT64": memory.is_wide(x, dx),
        "BOX_N": box[0], "BOX_H": box[1], "BOX_W": box[2], "BLOCK_M": tile.block_m, "BLOCK_C": tile.block_n,
        "BLOCK_K": tile.block_k, "SLOTS": tile.num_stages, "num_warps": tile.num_warps,
    }  # fmt: skip
    together = programs_of(sums_of(tile, expansion.degrees), tile.num_warps, layer)
    return konv_columns_kernel, (min(tiles, at_once * together),), arguments


def _order(pixels: Pixels, dy: torch.Tensor) -> int:
    """How phases follow one another: 0 by turns, 1 from the first, 2 from the last; those with most taps first."""
    last = pixels.stride[0] - 1, pixels.stride[1] - 1
    if last == (0, 0) or dy.numel() * dy.element_size() > SHARED_BY_PHASES:
        return 0
    return 1 if pixels.taps((0, 0)) >= pixels.taps(last) else 2


def _both(name: str, values: Any) -> dict[str, int]:
    return {f"{name}_h": values[0], f"{name}_w": values[1]}
