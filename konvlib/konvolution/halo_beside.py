"""Konvolution by a halo, degrees side by side: which layers its kernel serves, its tiles and its launch.

It takes layers on Hopper with fewer channels than tiles of 64 channels are good for, and those of 64 outputs or fewer.
It has not been timed: `konvlib.konvolution.ways` takes it where a file of choices names it, or measures it with the
other ways under ``KONVLIB_TUNE=all``.

Reckoned for an H100 at 1.755 GHz, on layers of the benchmarks; all are bound by shared memory, 128 bytes a cycle:

- 128 images of 16 channels, 32 by 32, to 32 outputs, 5 by 5 taps, degree 4. Products of 64 by 32 by 16 read 3 KiB in
  24 cycles and take 16, so a tile of 256 pixels reads for 9600 cycles, and 2600 more go to samples and weights. At most
  five of the 544 tiles come to a multiprocessor: 30 to 45 microseconds, where the products alone need 17.
- 32 images of 64 channels, 56 by 56, to 64 outputs, 3 by 3 taps, degree 4. A product of 64 by 256 by 64 reads 48 KiB,
  and with samples and weights takes 560 cycles for 512; there are 36. 399 tiles are three waves and three tiles: 45 to
  55 microseconds, where the products alone need 38. Evenly spread they would take 40.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.konvolution import halo
from konvlib.konvolution.frozen import Keep, anew
from konvlib.konvolution.halo_beside_kernel import konv_beside_kernel
from konvlib.konvolution.preparation import CHANNELS, Added, prepared
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from konvlib.runtime import cdiv

WIDTHS = (16, 32)
"""How many channels of a degree lie together: of four degrees, or of two."""

TILES = {
    16: (Tile(256, 16, 192, 8, 3), Tile(256, 16, 320, 8, 3)),
    32: (Tile(256, 32, 192, 8, 3), Tile(256, 32, 320, 8, 3)),
    64: (Tile(64, 256, 192, 8, 3), Tile(64, 128, 64, 4, 5)),
    128: (Tile(128, 128, 192, 8, 3), Tile(128, 128, 64, 8, 6)),
}
"""By the outputs of a tile: rows and columns of its products, of which the pixels are the more, what is summed between
two barriers, 64 for each tap, warps, and places in the ring of weights.

Of 64 outputs products are outputs by pixels: what they read of shared memory is 48 KiB for 64 by 256 by 64, and 64 KiB
the other way round. Of fewer outputs half the rows would be empty. 256 pixels share one reading of the weights.
"""


def serves(x: torch.Tensor, layer: ConvGeometry, degrees: int) -> bool:
    """Whether the kernel computes a layer of this input: on Hopper, in halves, without groups, for small kernels.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.ones(1, 16, 9, dtype=torch.bfloat16)
    >>> serves(x, conv_geometry(x.shape, (32, 16, 3), axes=1), 4)
    False
    """
    if halo.TensorDescriptor is None or not x.is_cuda or not runtime.is_hopper(x.device):
        return False
    return fits(layer, x.dtype, degrees)


@lru_cache(1024)
def fits(layer: ConvGeometry, dtype: torch.dtype, degrees: int) -> bool:
    """Whether the kernel computes such a layer: of few channels or few outputs, and at most half of it in vain.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 16, 9, 9), (32, 16, 3, 3), axes=2)
    >>> [fits(layer, torch.bfloat16, degrees) for degrees in (1, 2, 4)]
    [False, True, True]
    """
    if not halo.is_of_kind(layer, dtype):
        return False
    if layer.in_channels >= halo.LEAST and layer.out_channels > 64:
        return False
    used = degrees * layer.in_channels * layer.out_channels
    made = columns_of(layer, degrees, width_of(layer, degrees)) * rounded_outputs(layer.out_channels)
    return 2 * used >= made and bool(tiles_of(layer))


@lru_cache(1024)
def width_of(layer: ConvGeometry, degrees: int) -> int:
    """How many channels of a degree lie together: those that leave the fewest columns empty, the fewer if equal.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 64, 9, 9), (64, 64, 3, 3), axes=2)
    >>> [width_of(layer, degrees) for degrees in (2, 3, 4, 6)]
    [32, 16, 16, 32]
    """
    return min(WIDTHS, key=lambda width: columns_of(layer, degrees, width))


def columns_of(layer: ConvGeometry, degrees: int, width: int) -> int:
    """How many columns hold the channels of all degrees, empty ones too.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 20, 9, 9), (64, 20, 3, 3), axes=2)
    >>> columns_of(layer, 3, 16), columns_of(layer, 3, 32)
    (128, 128)
    """
    return cdiv(layer.in_channels, width) * cdiv(degrees * width, CHANNELS) * CHANNELS


def outputs_of_a_tile(outputs: int) -> int:
    """How many outputs a tile has: the fewest that hold all of a layer, or the most that there are.

    Examples
    --------
    >>> [outputs_of_a_tile(outputs) for outputs in (8, 24, 200)]
    [16, 32, 128]
    """
    return next((known for known in TILES if known >= outputs), max(TILES))


def rounded_outputs(outputs: int) -> int:
    """The outputs of all tiles together, empty ones too.

    Examples
    --------
    >>> [rounded_outputs(outputs) for outputs in (8, 24, 200)]
    [16, 32, 256]
    """
    tile = outputs_of_a_tile(outputs)
    return cdiv(outputs, tile) * tile


@lru_cache(1024)
def tiles_of(layer: ConvGeometry) -> tuple[Tile, ...]:
    """The tiles that fit, the likeliest first; of those that come to the same, one.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> [tile[:2] for tile in tiles_of(conv_geometry((2, 64, 9, 9), (64, 64, 3, 3), axes=2))]
    [(64, 256), (64, 128)]
    """
    found: dict[str, Tile] = {}
    for tile in TILES[outputs_of_a_tile(layer.out_channels)]:
        if blocks := blocks_of(layer, 1, tile):
            found.setdefault(str(blocks), tile)
    return tuple(found.values())


@lru_cache(1024)
def blocks_of(layer: ConvGeometry, degrees: int, tile: Tile) -> dict[str, Any] | None:
    """A tile as the kernel is told of it; None if it does not fit in shared memory."""
    pixels, outputs = max(tile[:2]), min(tile[:2])
    blocks = halo.blocks_of(layer, tile._replace(block_m=pixels, block_n=outputs))
    swapped = tile.block_m < tile.block_n
    return None if blocks is None else {**blocks, "WIDTH": width_of(layer, degrees), "SWAPPED": swapped}


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.konv`, where the kernel serves it."""
    walk = halo.walk_of(layer)
    weight, _ = prepared(kappa, layer, walk, width=width_of(layer, expansion.degrees))
    return _run(x, weight, halo.as_added(bias, walk), layer, expansion)


def whole_konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion,
    keep: Keep = anew,
) -> torch.Tensor:  # fmt: skip
    """The layer with degree 0, as `konvlib.konvolution.operators.whole_konv`, where the kernel serves it."""
    width = width_of(layer, expansion.degrees)
    return _run(x, *halo.prepared_whole(kappa, bias, layer, expansion, keep, width), layer, expansion)


def _run(
    x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    tiles = tiles_of(layer)
    return halo.run("halo beside", konv_beside_kernel, tiles, blocks_of, x, weight, added, layer, expansion)


def launched(
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry,
    expansion: Expansion, blocks: dict[str, Any],
) -> halo.Launch:  # fmt: skip
    """The kernel, its grid and its arguments; ``x`` and ``y`` have their channels last."""
    return konv_beside_kernel, *halo.launched(y, x, weight, added, layer, expansion, blocks)[1:]
