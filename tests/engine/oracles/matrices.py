"""What matrices and columns must be, by PyTorch, computed once for all backends and their mutants."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np
import torch

from tests.engine import boxes as axis_boxes
from tests.engine.boxes import Axis, Channels, digits, impulses, integers, options, torch_conv, torch_pad

BOX = list(axis_boxes.whole())
BOX_TEXT = f"{axis_boxes.AXIS_TEXT}, {axis_boxes.CHANNELS_TEXT}: {len(BOX):,} geometries, each tap by impulses"
EVERY_ROOM = [row for row in BOX if row[1] == (1, 1, 1)][::2] + axis_boxes.covering_of_one_axis()
PLANES, CUBES = axis_boxes.covering(2), axis_boxes.covering(3, size=4, kernel=3)


def weight(channels: Channels, *axes: Axis) -> np.ndarray:
    shape = (channels.outputs, channels.inputs // channels.groups, *(axis.kernel for axis in axes))
    return digits(*shape) if prod(shape) <= 26 else integers(*shape, seed=1)


@cache
def matrix_by_torch(axis: Axis, channels: Channels) -> np.ndarray:
    """Column by column: what PyTorch's layer makes of each unit impulse."""
    x, w = impulses(channels.inputs, axis.size), weight(channels, axis)
    return torch_conv(x, w, (axis,), channels.groups).reshape(len(x), -1).T


@cache
def images_and_columns() -> list[tuple[tuple[Axis, ...], np.ndarray, np.ndarray]]:
    """Axes, a batch of images, and its columns."""
    every = [*((axis,) for axis in axis_boxes.ONE_AXIS if axis.fits), *PLANES, *CUBES]
    images = [integers(2, 3, *(axis.size for axis in axes)) + 100 for axes in every]
    return [(axes, x, columns_by_torch(x, axes)) for axes, x in zip(every, images, strict=True)]


@cache
def columns_and_sums() -> list[tuple[tuple[Axis, ...], np.ndarray, np.ndarray]]:
    """Axes, columns of two images of two channels, and per pixel the scalar product with its impulse's columns."""
    rows = []
    for axes in [*((axis,) for axis in axis_boxes.ONE_AXIS if axis.fits), *PLANES[::3], *CUBES[::5]]:
        size = [axis.size for axis in axes]
        cut = columns_by_torch(impulses(1, *size), axes)
        cols = integers(2, 2, *cut.shape[1:])
        sums = np.tensordot(cols, cut, axes=((2, 3), (1, 2))).reshape(2, 2, *size)
        rows.append((axes, cols.reshape(2, -1, cut.shape[2]), sums))
    return rows


@cache
def layers_of_two_axes() -> list[tuple[tuple[Axis, ...], int, tuple[np.ndarray | None, ...], np.ndarray]]:
    """Axes, groups, the operands and PyTorch's convolution, every other time with a bias."""
    rows = []
    for number, axes in enumerate(PLANES):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        x, w = integers(2, channels.inputs, *(axis.size for axis in axes)), weight(channels, *axes)
        bias = integers(channels.outputs, seed=5) if number % 2 else None
        y = torch_conv(x, w, axes, channels.groups)
        rows.append((axes, channels.groups, (x, w, bias), y if bias is None else y + bias[:, np.newaxis, np.newaxis]))
    return rows


def columns_by_torch(x: np.ndarray, axes: tuple[Axis, ...]) -> np.ndarray:
    """PyTorch's unfold knows images only: one axis is the lower of two, three axes are windows taken one by one."""
    padded = torch_pad(x, axes)
    kernel, given = tuple(axis.kernel for axis in axes), options(*axes)
    if len(axes) == 1:
        two = {name: (1, *given[name]) for name in ("stride", "dilation")}
        return torch.nn.functional.unfold(padded[:, :, None], (1, *kernel), **two).numpy()
    if len(axes) == 2:
        return torch.nn.functional.unfold(padded, kernel, dilation=given["dilation"], stride=given["stride"]).numpy()
    for place, axis in enumerate(axes, start=2):
        padded = padded.unfold(place, axis.span, axis.stride)[..., :: axis.dilation]
    return padded.permute(0, 1, 5, 6, 7, 2, 3, 4).reshape(len(x), x.shape[1] * prod(kernel), -1).numpy()
