"""Boxes of pixels: which a tile of a plain layer on Hopper is made of, and tensors as the copies of boxes see them.

A box is so many images, rows and columns. Where the tensor memory accelerator copies it, there are no addresses to
compute and no masks: what lies in the padding is filled with zeros, and what lies beyond the output is not written. Of
a layer with a stride, the pixels that leave the same remainder by it are a tensor of their own, and boxes are of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from konvlib.geometry import ConvGeometry
from konvlib.layers.autotune import BoxTile, Tile
from konvlib.runtime import cdiv, gl, power_of_2

TILES = (
    Tile(64, 64, 64, 4, 4),
    Tile(64, 64, 64, 4, 6),
    Tile(128, 64, 64, 4, 3),
    Tile(128, 64, 64, 4, 4),
    Tile(64, 128, 64, 4, 3),
    Tile(64, 128, 64, 4, 4),
    Tile(256, 64, 64, 4, 4),
    Tile(64, 256, 64, 4, 4),
    Tile(128, 128, 64, 4, 3),
    Tile(128, 128, 64, 8, 3),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 256, 64, 8, 4),
    Tile(256, 128, 64, 8, 4),
)
"""Pixels, channels, channels at a time, warps and slots of the ring: few slots let programs share a multiprocessor."""

WIDTH = 8
"""Columns of a box beyond which it gains nothing from being wider."""


@lru_cache(4096)
def box_of(pixels: int, batch: int, height: int, width: int) -> tuple[int, int, int]:
    """The box of so many pixels, a power of two, of which fewest cover the images; of those one with long rows.

    Examples
    --------
    >>> box_of(128, 32, 56, 56), box_of(128, 32, 7, 7), box_of(64, 1, 1, 100352)
    ((2, 8, 8), (16, 1, 8), (1, 1, 64))
    """
    powers = [1 << n for n in range(pixels.bit_length())]
    boxes = [(n, h, pixels // (n * h)) for n in powers for h in powers if n * h <= pixels]

    def cost(box: tuple[int, int, int]) -> tuple[int, int, int]:
        return cdiv(batch, box[0]) * cdiv(height, box[1]) * cdiv(width, box[2]), -min(box[2], WIDTH), box[0]

    return min(boxes, key=cost)


@lru_cache(4096)
def tiles_of(batch: int, height: int, width: int, channels: int) -> tuple[BoxTile, ...]:
    """The tiles for so many images of so many pixels and channels, each with its best box.

    Examples
    --------
    >>> tiles_of(32, 14, 14, 64)[0]
    BoxTile(block_m=64, block_n=64, block_k=64, num_warps=4, num_stages=4, parts=1, images=16, rows=2, columns=2)
    """
    wide = max(64, power_of_2(channels))
    return tuple(
        BoxTile(*tile, 1, *box_of(tile.block_m, batch, height, width)) for tile in TILES if tile.block_n <= wide
    )


def viewed(layer: ConvGeometry, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A layer's tensors as images, rows, columns and channels: one row of pixels where each sees its own only.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((2, 8, 3, 4), (8, 8, 1, 1), axes=2)
    >>> x = torch.ones(layer.input_shape).to(memory_format=torch.channels_last)
    >>> viewed(layer, x, x)[0].shape
    torch.Size([1, 1, 24, 8])
    """
    tensors = tuple(map(as_images, tensors))
    alone = math.prod(layer.kernel_size) == math.prod(layer.stride) == 1 and not any(layer.before)
    return in_one_row(*tensors) if alone else tensors


def as_images(x: torch.Tensor) -> torch.Tensor:
    """``(N, C, *size)`` of one or two axes as ``(N, H, W, C)``.

    Examples
    --------
    >>> as_images(torch.ones(2, 8, 5)).shape
    torch.Size([2, 1, 5, 8])
    """
    return x.movedim(1, -1) if x.dim() == 4 else x.movedim(1, -1).unsqueeze(1)


def in_one_row(*images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Images of the same pixels as one row of them, where none has gaps, else as they are.

    Examples
    --------
    >>> [x.shape for x in in_one_row(torch.ones(2, 3, 4, 8), torch.ones(2, 3, 4, 16))]
    [torch.Size([1, 1, 24, 8]), torch.Size([1, 1, 24, 16])]
    """
    if any(x.shape[:3] != images[0].shape[:3] or not x.is_contiguous() for x in images):
        return images
    return tuple(x.reshape(1, 1, -1, x.shape[-1]) for x in images)


def lies_well(x: torch.Tensor, stride: tuple[int, int]) -> bool:
    """Whether the stride divides the sizes of images ``(N, H, W, C)``, and so `by_phases` can lay them out.

    Examples
    --------
    >>> lies_well(torch.ones(1, 4, 9, 8), (2, 3)), lies_well(torch.ones(1, 4, 9, 8), (1, 2))
    (True, False)
    """
    if x.shape[1] % stride[0] or x.shape[2] % stride[1]:
        return False
    return stride[0] == 1 or (x.stride(2) > 0 and x.stride(1) % x.stride(2) == 0)


def by_phases(x: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
    """Images ``(N, H, W, C)`` as ``(N, H / s, W / s, pixels, C)``: the pixel of phase ``(r, q)`` is number ``r W + q``.

    The pixels of a place follow each other to the last of its phases: a view, in which places overlap.

    Examples
    --------
    >>> x = torch.arange(24).reshape(1, 4, 6, 1)
    >>> y = by_phases(x, (2, 3))
    >>> y.shape, [y[0, 1, 1, 6 * r + q].item() == x[0, 2 + r, 3 + q].item() for r in range(2) for q in range(3)]
    (torch.Size([1, 2, 2, 9, 1]), [True, True, True, True, True, True])
    """
    n, h, w, c = x.shape
    (s, t), (image, row, pixel, _) = stride, x.stride()
    pixels = (s - 1) * row_of(x, stride) + t
    return x.as_strided((n, h // s, w // t, pixels, c), (image, s * row, t * pixel, pixel, 1))


def row_of(x: torch.Tensor, stride: tuple[int, int]) -> int:
    """How many pixels lie between one row of images and the next, where there are phases of rows.

    Examples
    --------
    >>> row_of(torch.ones(1, 4, 6, 1), (2, 3))
    6
    """
    return x.stride(1) // x.stride(2) if stride[0] > 1 else 0


def descriptor(x: torch.Tensor, box: list[int], together: int = 128) -> Any:
    """What the copies are told of a tensor of halves and of the boxes in it, so many bytes of which lie together.

    An axis of one place may have any step in torch.

    Examples
    --------
    >>> descriptor(torch.ones(4, 1, 64, dtype=torch.float16), [2, 1, 64]).strides
    [64, 8, 1]
    """
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    layout = gl.NVMMASharedLayout(swizzle_byte_width=together, element_bitwidth=16, rank=len(box))
    steps = [step if size > 1 else 8 for size, step in zip(x.shape, x.stride(), strict=True)]
    return TensorDescriptor(x, list(x.shape), [*steps[:-1], 1], box, layout)


def both(**values: Sequence[int]) -> dict[str, int]:
    """Numbers for rows and for columns, as the arguments of a kernel.

    Examples
    --------
    >>> both(kernel=(3, 2), STRIDE=(1, 2))
    {'kernel_h': 3, 'kernel_w': 2, 'STRIDE_H': 1, 'STRIDE_W': 2}
    """
    told = {}
    for name, (row, column) in values.items():
        h, w = "HW" if name.isupper() else "hw"
        told |= {f"{name}_{h}": row, f"{name}_{w}": column}
    return told


def tile_as_told(tile: BoxTile) -> dict[str, int]:
    """The box of a tile, its slots and its warps, as the arguments of a kernel.

    Examples
    --------
    >>> tile_as_told(BoxTile(64, 64, 32, 4, 6, 1, 1, 8, 8))
    {'BOX_N': 1, 'BOX_H': 8, 'BOX_W': 8, 'SLOTS': 6, 'num_warps': 4}
    """
    box = {"BOX_N": tile.images, "BOX_H": tile.rows, "BOX_W": tile.columns}
    return {**box, "SLOTS": tile.num_stages, "num_warps": tile.num_warps}


def are_aligned(*tensors: torch.Tensor) -> bool:
    """Whether all tensors begin at a multiple of 16 bytes, as boxes do.

    Examples
    --------
    >>> x = torch.ones(9)
    >>> are_aligned(x), are_aligned(x, x[1:])
    (True, False)
    """
    address = 0
    for tensor in tensors:
        address |= tensor.data_ptr()
    return address % 16 == 0


def fit(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    """Whether images of halves ``(N, C, *size)`` lie as boxes of all their axes can be addressed.

    Examples
    --------
    >>> x = torch.ones(2, 8, 3, 4)
    >>> [fit(y.shape, y.stride()) for y in (x, x.to(memory_format=torch.channels_last))]
    [False, True]
    """
    return _fits(shape, steps) and min(steps) > 0


def fits(x: torch.Tensor) -> bool:
    """Whether channels lie together and all pixels begin at 16 bytes.

    Examples
    --------
    >>> x = torch.ones(2, 8, 3, 4, dtype=torch.float16)
    >>> fits(x), fits(x.to(memory_format=torch.channels_last))
    (False, True)
    """
    return x.data_ptr() % 16 == 0 and _fits(x.shape, x.stride())


@lru_cache(4096)
def _fits(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    batch, channel, *pixel = steps
    return channel == 1 and shape[1] % 8 == 0 and all(step % 8 == 0 for step in (batch, *pixel))
