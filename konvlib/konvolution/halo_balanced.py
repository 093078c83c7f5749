"""Konvolution by a halo, in equal shares: which layers gain by it, how work is shared out, and its launches.

It takes layers on Hopper whose tiles do not fill whole waves of an H100's multiprocessors. It has not been timed:
`konvlib.konvolution.ways` takes it where a file of choices names it, or measures it with the other ways under
``KONVLIB_TUNE=all``.

Reckoned for an H100, on layers of the benchmarks, from 0.41 microseconds for 128 by 128 by 64 products, as measured for
`halo` on the larger ones; a turn of three row taps and four degrees is twelve of them:

- 32 images of 128 channels, 28 by 28, to 128 outputs, 3 by 3 taps, degree 4. 203 tiles are two waves, 12 turns; a share
  is 10. Of 73 microseconds 10 fall away, and 5 come with the parts: 81 tiles are shared, 11 MB are written and read.
- 32 of 256, 14 by 14, to 256: 106 tiles of 12 turns, one wave; a share is 10. Of 71 microseconds 10 fall away, 6 come.
- 64 of 512, 7 by 7, to 512: 112 tiles of 24 turns; a share is 21. Of 142 microseconds 15 fall away, 6 come.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.konvolution import halo
from konvlib.konvolution.frozen import Keep, anew
from konvlib.konvolution.halo_balanced_kernel import add_shares_kernel, konv_balanced_kernel
from konvlib.konvolution.preparation import CHANNELS, Added, Ends, prepared
from konvlib.layers import autotune, bound, memory
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from konvlib.runtime import cdiv

TILE = Tile(128, 128, 64, 8, 6)
"""As for `halo`: a multiprocessor holds one program with such a tile."""

HALO = 8
"""The most slots of a halo: more take registers from the sums, and room from what outputs are turned in."""

COST = 16
"""What sharing costs, in products of a tile by 64: parts are written and read, and one more kernel is launched."""

ROWS = 2
"""How many slots of a tile are summed by one program: eight programs a tile, so that all multiprocessors read."""

SUMS = (
    "bias_ptr", "y_ptr", "slots", "lines", "pairs", "out_channels", "out_h", "out_w",
    "first_h", "last_h", "first_w", "last_w", "stride_bh", "stride_bw", "stride_yn", "stride_yh", "stride_yw",
    "BIAS", "INT64", "SLOTS", "BLOCK_N",
)  # fmt: skip
"""What the kernel that adds parts is told, as the other is."""


class Shares(NamedTuple):
    """Turns of all tiles in one line, and what each program does of it: ``share`` turns, the last what is left."""

    tiles: int
    turns: int
    share: int
    programs: int

    @property
    def split(self) -> int:
        """How many tiles several programs do."""
        begins = range(self.share, self.tiles * self.turns, self.share)
        return len({begin // self.turns for begin in begins if begin % self.turns})


def shares(tiles: int, turns: int, processors: int) -> Shares:
    """Return the shares of so many tiles of so many turns, as few as the longest of them allows.

    Examples
    --------
    >>> shares(203, 6, 132)
    Shares(tiles=203, turns=6, share=10, programs=122)
    >>> shares(203, 6, 132).split
    81
    """
    share = cdiv(tiles * turns, processors)
    return Shares(tiles, turns, share, cdiv(tiles * turns, share))


@lru_cache(1024)
def shares_of(layer: ConvGeometry, processors: int) -> Shares:
    """Return how the turns of a layer are shared out.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((64, 512, 7, 7), (512, 512, 3, 3), axes=2, padding=1)
    >>> shares_of(layer, 132)
    Shares(tiles=112, turns=24, share=21, programs=128)
    """
    walk = halo.walk_of(layer)
    columns = walk.columns
    out_w, kernel_w = (1, 1) if columns is None else (layer.output_size[columns], layer.kernel_size[columns])
    slots = cdiv(layer.batch * out_w, 8) * (layer.output_size[walk.rows] + walk.gap)
    tiles = cdiv(slots, TILE.block_m // 8) * cdiv(layer.out_channels, TILE.block_n)
    return shares(tiles, cdiv(layer.in_channels, CHANNELS) * kernel_w, processors)


def serves(x: torch.Tensor, layer: ConvGeometry, degrees: int) -> bool:
    """Whether the kernel computes a layer of this input and may be quicker: on Hopper, for tiles that fill no waves.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.ones(32, 128, 28, 28, dtype=torch.bfloat16)
    >>> serves(x, conv_geometry(x.shape, (128, 128, 3, 3), axes=2, padding=1), 4)
    False
    """
    if halo.TensorDescriptor is None or not x.is_cuda or not runtime.is_hopper(x.device):
        return False
    return fits(layer, x.dtype) and gains(layer, degrees, autotune.multiprocessors(x))


def fits(layer: ConvGeometry, dtype: torch.dtype) -> bool:
    """Whether the kernel computes such a layer: one that `halo` serves with this tile, and no long halo.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> [fits(conv_geometry((2, 64, 9, 9), (n, 64, 3, 3), axes=2), torch.bfloat16) for n in (64, 65)]
    [False, True]
    """
    return halo.fits(layer, dtype) and TILE in halo.tiles_of(layer) and halo.walk_of(layer).halo <= HALO


@lru_cache(1024)
def gains(layer: ConvGeometry, degrees: int, processors: int) -> bool:
    """Whether equal shares save more than they cost: waves of whole tiles are longer than a share.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layers = [conv_geometry((32, 128, n, n), (128, 128, 3, 3), axes=2, padding=1) for n in (28, 21)]
    >>> [gains(layer, 4, 132) for layer in layers]  # 203 tiles, and 119
    [True, False]
    """
    found = shares_of(layer, processors)
    saved = cdiv(found.tiles, processors) * found.turns - found.share
    return saved * degrees * layer.kernel_size[halo.walk_of(layer).rows] > COST


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.konv`, where the kernel serves it."""
    walk = halo.walk_of(layer)
    weight, _ = prepared(kappa, layer, walk)
    return _run(x, weight, halo.as_added(bias, walk), layer, expansion)


def whole_konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion,
    keep: Keep = anew,
) -> torch.Tensor:  # fmt: skip
    """The layer with degree 0, as `konvlib.konvolution.operators.whole_konv`, where the kernel serves it."""
    return _run(x, *halo.prepared_whole(kappa, bias, layer, expansion, keep), layer, expansion)


def _run(
    x: torch.Tensor, weight: torch.Tensor, added: Added | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    y, shown = halo.empty_output(x, layer), memory.with_channels_last(x)
    found = shares_of(layer, autotune.multiprocessors(x))
    tensors, ends = (y, shown, weight, parts_of(x, found)), ()
    if added is not None:
        tensors, ends = (*tensors, added.table), added[1:]
    with runtime.on_device_of(y):
        bound.launch(konv_balanced_kernel, _told, (0, layer, expansion, found, ends), *tensors)
        if found.split:
            bound.launch(add_shares_kernel, _told, (1, layer, expansion, found, ends), *tensors)
    return y if memory.is_channels_last(x) else y.contiguous()


def _told(
    place: int, layer: ConvGeometry, expansion: Expansion, found: Shares, ends: tuple[Ends, ...],
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, parts: torch.Tensor, *table: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    added = Added(*table, *ends) if table else None
    return launched(y, x, weight, parts, added, layer, expansion, found)[place][1:]


def parts_of(x: torch.Tensor, found: Shares) -> torch.Tensor:
    """Room for two parts of each program, of the first tile that it does and of the last: 17 MB on an H100."""
    return x.new_empty((2 * found.programs, TILE.block_m, TILE.block_n), dtype=torch.float32)


def launched(
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, parts: torch.Tensor, added: Added | None,
    layer: ConvGeometry, expansion: Expansion, found: Shares,
) -> list[halo.Launch]:  # fmt: skip
    """Both launches, or one where no tile is shared; ``x`` and ``y`` have their channels last."""
    blocks = halo.blocks_of(layer, TILE)
    _, _, arguments = halo.launched(y, x, weight, added, layer, expansion, blocks)
    shared = {"parts_ptr": parts, "share": found.share}
    launches = [(konv_balanced_kernel, (found.programs,), arguments | shared)]
    if found.split:
        sums: dict[str, Any] = {name: arguments[name] for name in SUMS} | {"ROWS": ROWS, "num_warps": 4}
        grid = ((found.programs - 1) * (blocks["SLOTS"] // ROWS),)
        launches.append((add_shares_kernel, grid, sums | shared | {"turns": found.turns}))
    return launches
