"""Operands of layers with their gradients, by PyTorch (once for all backends and their mutants) and by a backend."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch

from tests.engine import boxes

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""What NumPy calls them."""


def call(backend, name, axes, *args, **options):
    return getattr(backend, name.replace("#", str(axes)))(*args, **options)


def operands(axes, channels, *, batch=2):
    """An input, a weight and an output's gradient of small integers."""
    x = boxes.integers(batch, channels.inputs, *(axis.size for axis in axes))
    w = boxes.integers(channels.outputs, channels.inputs // channels.groups, *(axis.kernel for axis in axes), seed=1)
    return x, w, boxes.integers(batch, channels.outputs, *(axis.windows for axis in axes), seed=2)


def sizes(axes):
    return {"input_size": tuple(axis.size for axis in axes)}, {"kernel_size": tuple(axis.kernel for axis in axes)}


def torch_grads(x, w, dy, axes, groups=1):
    """PyTorch's gradients by input and weight, in doubles, by the operator that its autograd calls."""
    stride, dilation, none = [axis.stride for axis in axes], [axis.dilation for axis in axes], [0] * len(axes)
    given_ = boxes.tensor(dy), boxes.torch_pad(x, axes), boxes.tensor(w)
    mask = [True, True, False]
    dx, dw, _ = torch.ops.aten.convolution_backward(*given_, None, stride, none, dilation, False, none, groups, mask)
    inside = tuple(slice(axis.before, axis.before + axis.size) for axis in axes)
    return dx[(..., *inside)].numpy(), dw.numpy()


def pad(x, axes, padding_mode="zeros"):
    """PyTorch's padding with zeros; any other looks up what NumPy's padding of the indices says, however wide."""
    if padding_mode == "zeros":
        return torch.nn.functional.pad(x, [side for axis in axes[::-1] for side in (axis.before, axis.after)])
    for number, axis in enumerate(axes, start=2):
        places = np.pad(np.arange(axis.size), (axis.before, axis.after), MODES[padding_mode])
        x = x.index_select(number, torch.from_numpy(places))
    return x


def autograds(x, w, dy, axes, groups=1, padding_mode="zeros"):
    """PyTorch's gradients by input and weight, in doubles, by its autograd."""
    x, w = boxes.tensor(x).requires_grad_(), boxes.tensor(w).requires_grad_()
    padded = pad(x, axes, padding_mode)
    stride, dilation = tuple(axis.stride for axis in axes), tuple(axis.dilation for axis in axes)
    y = getattr(torch.nn.functional, f"conv{len(axes)}d")(padded, w, None, stride, 0, dilation, groups)
    return tuple(grad.numpy() for grad in torch.autograd.grad(y, (x, w), boxes.tensor(dy)))


def grads(backend, x, w, dy, axes, groups=1, **options):
    """The backend's gradients by input and weight."""
    options = boxes.options(*axes) | {"groups": groups} | options
    of_input, of_weight = sizes(axes)
    dx = call(backend, "conv#d_input_grad", len(axes), dy, w, **of_input, **options)
    dw = call(backend, "conv#d_weight_grad", len(axes), x, dy, **of_weight, **options)
    return dx, dw


@cache
def rows_of_one_axis():
    """Geometries and channels of one axis, with PyTorch's gradients."""
    rows = []
    for axis, channels in boxes.covering_of_one_axis():
        if axis.fits:
            x, w, dy = operands((axis,), channels)
            rows.append(((axis,), channels, (x, w, dy), torch_grads(x, w, dy, (axis,), channels.groups)))
    return rows


@cache
def rows_of_more_axes():
    """The same on two and three axes."""
    rows = []
    for axes in [*boxes.covering(2, size=5, kernel=3), *boxes.covering(3, size=3, kernel=2)[::2]]:
        channels = boxes.CHANNELS[sum(map(sum, axes)) % 3]
        x, w, dy = operands(axes, channels, batch=1)
        rows.append((axes, channels, (x, w, dy), torch_grads(x, w, dy, axes, channels.groups)))
    return rows


@cache
def rows_of_padding_modes():
    """Two axes, a padding mode and paddings up to several times as wide as the image, operands, PyTorch's gradients."""
    rows = []
    for mode, size, before, after in product(MODES, (1, 2, 3, 5), (0, 1, 2, 3, 8), (0, 1, 2, 3, 11)):
        axes = (boxes.Axis(size, 2, 1 + size % 2, before, after, 1), boxes.Axis(4, 3, 2, after % 2, before % 3, 1))
        if axes[0].fits:
            x, w, dy = operands(axes, boxes.CHANNELS[1])
            rows.append((axes, mode, (x, w, dy), autograds(x, w, dy, axes, padding_mode=mode)))
    return rows
