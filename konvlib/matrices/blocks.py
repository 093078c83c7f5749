"""A layer's output cut into blocks, so that what is made of each one fits into a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from konvlib.geometry import ConvGeometry


def blocks(layer: ConvGeometry, most: int) -> Iterator[tuple[slice, ...]]:
    """Yield parts of a layer's output, ``(batch, *output_size)``, whose windows have about ``most`` entries.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> layer = im2col_geometry((2, 1, 5, 6), kernel_size=(2, 3))
    >>> [(batch.start, lines.start, lines.stop) for batch, lines, _ in blocks(layer, 48)]
    [(0, 0, 2), (0, 2, 4), (1, 0, 2), (1, 2, 4)]
    """
    return pieces((layer.batch, *layer.output_size), most // (layer.in_channels * prod(layer.kernel_size)))


def pieces(extents: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box into boxes of at most ``most`` entries, whole on its last axes; of one, if that is too many.

    Examples
    --------
    >>> [(rows.start, rows.stop, columns.stop) for rows, columns in pieces((3, 2), 4)]
    [(0, 2, 2), (2, 3, 2)]
    """
    ranges = []
    for extent in reversed(extents):
        piece = max(1, min(extent, most))
        ranges.append(range(0, extent, piece))
        most //= piece
    for starts in product(*reversed(ranges)):
        each = zip(starts, reversed(ranges), extents, strict=True)
        yield tuple([slice(start, min(start + axis.step, extent)) for start, axis, extent in each])
