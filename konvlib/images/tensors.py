"""Layers and poolings of images on tensors: torch operators over Triton kernels on CUDA, over ATen elsewhere."""

from __future__ import annotations

import torch

from konvlib import geometry, tiles
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.images import pooling_operators
from konvlib.layers import operators
from konvlib.layers import padding as borders


def conv(
    axes: int,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Convolve a batch as a layer does, over # spatial axes: `konvlib.conv#d` on tensors.

    Examples
    --------
    >>> conv1d(torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]]))
    tensor([[[5., 8.]]])
    """
    tiles.check_tensors(x=x, w=w, bias=bias)
    layer = geometry.conv_geometry(
        x.shape,
        w.shape,
        None if bias is None else bias.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )
    sides = layer.padding
    if padding_mode != "zeros":
        x, sides = borders.pad(x, sides, padding_mode), [(0, 0)] * axes
    return operators.conv(x, w, bias, layer.stride, borders.flat(sides), layer.dilation, groups)


conv1d, conv2d, conv3d = by_rank(conv, "conv#d")


def max_pool(
    axes: int,
    x: torch.Tensor,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> torch.Tensor:
    """Take the largest sample of each window, over # spatial axes: `konvlib.max_pool#d` on tensors.

    ``x`` is float16, bfloat16, float32 or float64, in any layout; the result has its dtype and device, and channels
    last if ``x`` has. It is differentiable as often as you like. Integers and complex numbers raise `TypeError`.

    Examples
    --------
    >>> max_pool2d(torch.tensor([[[[1.0, 3, 2, 0], [2, 0, 1, 5]]]]), 2)
    tensor([[[[3., 5.]]]])
    """
    tiles.check_tensors(x=x)
    pool = geometry.pool_geometry(
        x.shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    sides = [side for pair in pool.padding for side in pair]
    return pooling_operators.max_pool(x, pool.kernel_size, pool.stride, sides, pool.dilation, pool.output_size)[0]


max_pool1d, max_pool2d, max_pool3d = by_rank(max_pool, "max_pool#d")


def avg_pool(
    axes: int,
    x: torch.Tensor,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> torch.Tensor:
    """Take the mean of each window, over # spatial axes: `konvlib.avg_pool#d` on tensors.

    ``x`` and the result are as in `max_pool#d`. Halves are summed and divided in float32 and rounded once.

    Examples
    --------
    >>> avg_pool2d(torch.tensor([[[[1.0, 3, 2, 0], [2, 0, 1, 5]]]]), 2)
    tensor([[[[1.5000, 2.0000]]]])
    """
    tiles.check_tensors(x=x)
    pool = geometry.avg_pool_geometry(
        x.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    sides = [side for pair in pool.padding for side in pair]
    return pooling_operators.avg_pool(x, pool.kernel_size, pool.stride, sides, pool.output_size, count_include_pad)


avg_pool1d, avg_pool2d, avg_pool3d = by_rank(avg_pool, "avg_pool#d")
