"""im2col and col2im by ATen, PyTorch's own library: what tensors get on the CPU.

ATen looks through windows of planes, with padding alike on both sides. A row is a plane of height 1. Of a volume, the
windows are cut in two steps, first in its planes and then along its depth. Halves are summed in float32 on the CPU,
forward and backward, and rounded once.
"""

from __future__ import annotations

from math import prod

from torch import Tensor
from torch.nn.functional import fold, pad, unfold

from konvlib.geometry import ConvGeometry
from konvlib.layers.aten import is_half
from konvlib.registration import check_sizes_may_stay


def im2col(x: Tensor, layer: ConvGeometry) -> Tensor:
    """Return the windows of ``x`` as columns, ``cols[b, (c, u), i] = x[b, c, s i + d u - p]``.

    Examples
    --------
    >>> import torch
    >>> from konvlib.geometry import im2col_geometry
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> im2col(x, im2col_geometry(x.shape, kernel_size=2, padding=[(1, 0)]))
    tensor([[[0., 1., 3.],
             [1., 3., 2.]]])
    """
    if is_half(x):
        return im2col(x.float(), layer).to(x.dtype)
    if not layer.is_even:
        x = pad(x, layer.sides)
    kernel, gaps, padding, steps = _windows(layer)
    if layer.axes == 1:
        return unfold(x.unsqueeze(2), (1, *kernel), (1, *gaps), (0, *padding), (1, *steps))
    if layer.axes == 2:
        return unfold(x, kernel, gaps, padding, steps)
    check_sizes_may_stay()
    batch, channels, depth = x.shape[:3]
    taps, windows = prod(kernel[1:]), prod(layer.output_size[1:])
    planes = unfold(x.flatten(1, 2), kernel[1:], gaps[1:], padding[1:], steps[1:])
    planes = planes.reshape(batch, channels, depth, taps * windows)
    cols = unfold(planes, (kernel[0], 1), (gaps[0], 1), (padding[0], 0), (steps[0], 1))
    cols = cols.reshape(batch, channels, kernel[0], layer.output_size[0], taps, windows).transpose(3, 4)
    return cols.reshape(batch, channels * prod(kernel), prod(layer.output_size))


def col2im(cols: Tensor, layer: ConvGeometry) -> Tensor:
    """Return images with each column added up where its window came from: the adjoint of `im2col`, step by step.

    Examples
    --------
    >>> import torch
    >>> from konvlib.geometry import im2col_geometry
    >>> cols = torch.tensor([[[1.0, 3, 2], [3, 2, 0]]])
    >>> col2im(cols, im2col_geometry((1, 1, 4), kernel_size=2))
    tensor([[[1., 6., 4., 0.]]])
    """
    if is_half(cols):
        return col2im(cols.float(), layer).to(cols.dtype)
    kernel, gaps, padding, steps = _windows(layer)
    size = layer.input_size
    if not layer.is_even:
        size = [before + n + after for n, (before, after) in zip(size, layer.padding, strict=True)]
    if layer.axes == 1:
        x = fold(cols, (1, *size), (1, *kernel), (1, *gaps), (0, *padding), (1, *steps)).squeeze(2)
    elif layer.axes == 2:
        x = fold(cols, size, kernel, gaps, padding, steps)
    else:
        check_sizes_may_stay()
        batch, channels, depth = cols.shape[0], layer.in_channels, size[0]
        taps, windows = prod(kernel[1:]), prod(layer.output_size[1:])
        cols = cols.reshape(batch, channels, kernel[0], taps, layer.output_size[0], windows).transpose(3, 4)
        cols = cols.reshape(batch, channels * kernel[0], layer.output_size[0] * taps * windows)
        planes = fold(cols, (depth, taps * windows), (kernel[0], 1), (gaps[0], 1), (padding[0], 0), (steps[0], 1))
        planes = planes.reshape(batch, channels * depth * taps, windows)
        x = fold(planes, size[1:], kernel[1:], gaps[1:], padding[1:], steps[1:]).unflatten(1, (channels, depth))
    return x if layer.is_even else pad(x, [-side for side in layer.sides])


def _windows(layer: ConvGeometry) -> tuple[tuple[int, ...], ...]:
    """Kernel, dilation, padding that is left to ATen, and stride, in its order."""
    return layer.kernel_size, layer.dilation, layer.before if layer.is_even else (0,) * layer.axes, layer.stride
