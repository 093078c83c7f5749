"""What transposed convolutions must be, by PyTorch; here an `Axis` has the size of the transposed one's input."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np
import torch

from tests.engine import boxes as axis_boxes
from tests.engine.boxes import Axis, Channels, digits, impulses, integers, options, tensor

ALGORITHMS = ("conv_transpose_by_zero_insertion", "conv_transpose_by_scattering")


def full_size(axis: Axis) -> int:
    """The size of the result before padding is cut off."""
    return (axis.size - 1) * axis.stride + axis.span


def extras(axis: Axis) -> range:
    """The output paddings that leave an output."""
    return range(max(0, axis.before + axis.after + 1 - full_size(axis)), max(axis.stride, axis.dilation))


BOX = [
    (axis, extra, channels)
    for axis in axis_boxes.ONE_AXIS
    for extra in extras(axis)
    for channels in axis_boxes.CHANNELS
]
BOX_TEXT = (
    f"{axis_boxes.AXIS_TEXT}, every output padding, {axis_boxes.CHANNELS_TEXT}: {len(BOX):,} geometries, "
    "each tap by impulses"
)
EVERY_ROOM = [row for row in BOX if row[2] == (1, 1, 1)][::2] + [
    (axis, extras(axis)[-1], channels) for axis, channels in axis_boxes.covering_of_one_axis() if extras(axis)
]
PLANES = [axes for axes in axis_boxes.covering(2) if all(map(extras, axes))]
CUBES = [axes for axes in axis_boxes.covering(3, size=4, kernel=3) if all(map(extras, axes))]


def weight(channels: Channels, *axes: Axis) -> np.ndarray:
    shape = (channels.inputs, channels.outputs // channels.groups, *(axis.kernel for axis in axes))
    return digits(*shape) if prod(shape) <= 26 else integers(*shape, seed=1)


def torch_transpose(x, w, axes, extra, groups=1):
    """PyTorch's result without padding, the outputs that `extra` adds to it, and then what each side's padding cuts."""
    stride, dilation = tuple(a.stride for a in axes), tuple(a.dilation for a in axes)
    function = getattr(torch.nn.functional, f"conv_transpose{len(axes)}d")
    y = function(tensor(x), tensor(w), None, stride, 0, 0, groups, dilation).numpy()
    return cut(y, axes, extra)


@cache
def layers_of_more_axes():
    """Axes, output paddings, groups, the operands and PyTorch's result, on planes and cubes, with and without bias."""
    rows = []
    for number, axes in enumerate([*PLANES, *CUBES]):
        channels = axis_boxes.CHANNELS[number % len(axis_boxes.CHANNELS)]
        extra = tuple(extras(axis)[number % len(extras(axis))] for axis in axes)
        x, w = integers(2, channels.inputs, *(axis.size for axis in axes)), weight(channels, *axes)
        bias = integers(channels.outputs, seed=5) if number % 2 else None
        expected = torch_transpose(x, w, axes, extra, channels.groups)
        expected = expected if bias is None else expected + bias.reshape(-1, *(1,) * len(axes))
        rows.append((axes, extra, channels.groups, (x, w, bias), expected))
    return rows


@cache
def transposes_of_ones():
    """Axes, output paddings and what PyTorch makes of ones."""
    rows = []
    for axes in [*((axis,) for axis in axis_boxes.ONE_AXIS[::7] if extras(axis)), *PLANES, *CUBES]:
        extra = tuple(extras(axis)[-1] for axis in axes)
        size, kernel = (tuple(getattr(axis, name) for axis in axes) for name in ("size", "kernel"))
        rows.append((axes, extra, torch_transpose(np.ones((1, 1, *size)), np.ones((1, 1, *kernel)), axes, extra)[0, 0]))
    return rows


def cut(y, axes, extra):
    y = np.pad(y, [(0, 0), (0, 0), *((0, more) for more in extra)])
    return y[(..., *(slice(a.before, n - a.after) for a, n in zip(axes, y.shape[2:], strict=True)))]


@cache
def torch_impulses(size, kernel, stride, dilation, channels):
    axis = Axis(size, kernel, stride, 0, 0, dilation)
    return torch_transpose(impulses(channels.inputs, size), weight(channels, axis), (axis,), (0,), channels.groups)


def transpose(backend, x, w, axes, extra, groups=1, bias=None):
    function = getattr(backend, f"conv_transpose{len(axes)}d")
    return function(x, w, bias, output_padding=tuple(extra), groups=groups, **options(*axes))


def assert_right_on_impulses(axis, extra, channels, *functions):
    x, w = impulses(channels.inputs, axis.size), weight(channels, axis)
    expected = torch_impulses(axis.size, axis.kernel, axis.stride, axis.dilation, channels)
    expected = cut(expected, (axis,), (extra,))
    for function in functions:
        y = function(x, w, output_padding=extra, groups=channels.groups, **options(axis))
        assert y.shape == expected.shape
        assert (y == expected).all()
