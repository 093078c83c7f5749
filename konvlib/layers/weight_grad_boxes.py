"""Which boxes of pixels a weight gradient on Hopper sums over, in which tiles and in how many parts.

A model of the time orders what might be taken; its constants are a fit to what an H100 needed. `autotune` measures the
first few, unless a file of choices knows the geometry.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from konvlib.layers.autotune import BoxTile, Tile
from konvlib.runtime import cdiv

TILES = (
    Tile(64, 64, 64, 4, 6),
    Tile(64, 64, 64, 4, 4),
    Tile(128, 64, 64, 4, 6),
    Tile(64, 128, 64, 4, 4),
    Tile(64, 256, 64, 4, 4),
    Tile(256, 64, 64, 4, 4),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 256, 64, 8, 4),
    Tile(256, 128, 64, 8, 4),
)
"""Output channels, channels, pixels at a time, warps and slots of the ring."""

MORE = {64: 1.0, 32: 1.08, 16: 1.3}
"""Pixels of a box, and how much longer those take that are summed in small boxes."""

WASTE = 1.5
"""Where boxes cover so many times the pixels there are, they are not worth their while."""

SHARED, REGISTERS, PROGRAMS = 227 * 1024, 65536, 8
"""What a multiprocessor has, and how many programs it runs beside one another at most."""

CACHE = 3e7
"""How many bytes of operands stay in the second-level cache."""

TRIED = 3
"""So many tiles are measured."""


class Boxes(NamedTuple):
    """A layer of two axes, and the box of images, rows and columns that a product sums over."""

    batch: int
    in_channels: int
    out_channels: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    box: tuple[int, int, int]

    @property
    def pixels(self) -> int:
        """Those of a box."""
        return math.prod(self.box)

    @property
    def blocks(self) -> float:
        """How many boxes are summed for a tap, in the mean."""
        taps = math.prod(self.kernel)
        return (
            cdiv(self.batch, self.box[0]) * math.prod(self._shown(axis, self.box[axis + 1]) for axis in (0, 1)) / taps
        )

    def _shown(self, axis: int, extent: int) -> int:
        """Over all taps along an axis, the boxes of which they show something."""
        stride, out, count = self.stride[axis], self.output_size[axis], 0
        for u in range(self.kernel[axis]):
            shift = u * self.dilation[axis] - self.padding[axis]
            first, last = max(0, cdiv(-shift, stride)), min(out, cdiv(max(self.input_size[axis] - shift, 0), stride))
            count += max(0, cdiv(last, extent) - first // extent)
        return count

    def allows(self, box: tuple[int, int, int]) -> bool:
        """Whether the places of a box follow each other in the input, and it shows nothing beyond the output."""
        for extent, out, size, stride, before in zip(
            box[1:], self.output_size, self.input_size, self.stride, self.padding, strict=True
        ):
            if extent > 1 and (stride > 1 or (out % extent and out - before < size)):
                return False
        return True

    def weighed(self, box: tuple[int, int, int]) -> float:
        """How many pixels are summed for a tap in boxes of a shape, and more for what makes them slow."""
        far = 1 + 0.01 * math.log2(box[0]) + 0.005 * abs(math.log2(box[1] / box[2]))
        return self._replace(box=box).blocks * math.prod(box) * MORE[math.prod(box)] * far


@lru_cache(4096)
def boxes_of(layer: Boxes) -> tuple[Boxes, ...]:
    """The layer with the few boxes that waste least; none where all of them waste much.

    Examples
    --------
    >>> layer = Boxes(32, 64, 64, (7, 7), (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1, 1))
    >>> boxes_of(layer)[0].box, boxes_of(layer._replace(batch=3))
    ((32, 1, 1), ())
    """
    powers = [1 << n for n in range(7)]
    boxes = [(n, h, w) for n in powers for h in powers for w in powers if n * h * w in MORE and layer.allows((n, h, w))]
    most = WASTE * layer.batch * math.prod(layer.output_size)
    most = min([most, *(1.1 * layer.weighed(box) for box in boxes)])
    kept = sorted((box for box in boxes if layer.weighed(box) <= most), key=layer.weighed)
    return tuple(layer._replace(box=box) for box in kept[:TRIED])


def cost(layer: Boxes, tile: Tile, parts: int, at_once: int) -> float:
    """About how many microseconds the sums take in so many parts, but for the launch.

    Examples
    --------
    >>> layer = Boxes(32, 64, 64, (56, 56), (56, 56), (3, 3), (1, 1), (1, 1), (1, 1), (8, 1, 8))
    >>> cost(layer, TILES[0], 29, 132) < cost(layer, TILES[0], 1, 132)
    True
    """
    weights = math.prod(layer.kernel) * layer.in_channels * layer.out_channels
    tiles = math.prod(layer.kernel) * cdiv(layer.in_channels, tile.block_n) * cdiv(layer.out_channels, tile.block_m)
    depth, size = max(tile.block_k, layer.pixels), tile.block_m * tile.block_n
    steps = cdiv(cdiv(math.ceil(layer.blocks), depth // layer.pixels), parts)
    loaded = 2 * (tile.block_m + tile.block_n) * depth
    beside = min(PROGRAMS, SHARED // (tile.num_stages * loaded + 1024), REGISTERS // (size + 1792 * tile.num_warps))
    # Pixels of many images lie far apart; more so where the operands do not stay in the cache.
    pixels = layer.batch * math.prod(layer.input_size), layer.batch * math.prod(layer.output_size)
    operands, images = 2 * (pixels[0] * layer.in_channels + pixels[1] * layer.out_channels), math.log2(layer.box[0])
    far = 0.01 * images**2 if operands > CACHE else 0
    slow = MORE[layer.pixels] + 0.003 * images + far

    def turn(programs: int) -> float:
        """Of programs side by side on one multiprocessor: tensor cores, copies, or waiting for them."""
        waits = 0.7 * depth / 64 / (tile.num_stages - 1)
        step = max(programs * size * depth / 2.9e6, programs * loaded / 8.5e4 * slow, waits)
        return steps * step + 1.3 + programs * size * (4 if parts > 1 else 2) / 3e4 if programs else 0

    full, rest = divmod(cdiv(tiles * parts, at_once), max(1, beside))
    sums, read = full * turn(max(1, beside)) + turn(rest), operands / 2.5e6 * (1 + 3 * far)
    return (sums**3 + read**3) ** (1 / 3) + (0.5 + parts * weights / 6.6e5 if parts > 1 else 0)


@lru_cache(4096)
def likely(layer: Boxes, at_once: int, most: int) -> tuple[BoxTile, ...]:
    """The tiles worth trying, each with its likeliest boxes and parts, the likeliest first.

    Examples
    --------
    >>> likely(Boxes(32, 64, 64, (7, 7), (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1, 1)), 132, 100)[0][5:]
    (7, 32, 1, 1)
    """
    found = []
    for tile in TILES:
        options = []
        for boxes in boxes_of(layer):
            most_parts = min(most, math.ceil(boxes.blocks * boxes.pixels / tile.block_k), 2 * at_once)
            each = BoxTile(*tile, 1, *boxes.box)
            options += [
                (cost(boxes, tile, parts, at_once), each._replace(parts=parts))
                for parts in range(1, max(1, most_parts) + 1)
            ]
        found += [min(options, key=itemgetter(0))] if options else []
    return tuple(tile for _, tile in sorted(found, key=itemgetter(0))[:TRIED])
