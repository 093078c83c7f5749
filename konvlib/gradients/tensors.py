"""Gradients of the layers on tensors: torch operators over Triton kernels on CUDA, over ATen elsewhere."""

from __future__ import annotations

import torch

from konvlib import geometry, tiles
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.images import pooling_operators
from konvlib.layers import operators
from konvlib.layers import padding as borders


def conv_input_grad(
    axes: int,
    dy: torch.Tensor,
    w: torch.Tensor,
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Differentiate a convolution over # spatial axes by its input: `konvlib.conv#d_input_grad` on tensors.

    Examples
    --------
    >>> conv1d_input_grad(torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]]), input_size=3)
    tensor([[[ 2., 13., 15.]]])
    """
    tiles.check_tensors(dy=dy, w=w)
    layer = geometry.input_grad_geometry(
        dy.shape,
        w.shape,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    if padding_mode == "zeros":
        sides = borders.flat(layer.padding)
        return operators.conv_transpose(dy, w, None, layer.input_size, layer.stride, sides, layer.dilation, groups)
    size = [n + before + after for n, (before, after) in zip(layer.input_size, layer.padding, strict=True)]
    padded = operators.conv_transpose(dy, w, None, size, layer.stride, [0, 0] * axes, layer.dilation, groups)
    return borders.fold(padded, layer.padding, padding_mode)


conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = by_rank(conv_input_grad, "conv#d_input_grad")


def conv_weight_grad(
    axes: int,
    x: torch.Tensor,
    dy: torch.Tensor,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Differentiate a convolution over # spatial axes by its weight: `konvlib.conv#d_weight_grad` on tensors.

    Examples
    --------
    >>> conv1d_weight_grad(torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]]), kernel_size=2)
    tensor([[[ 9., 16.]]])
    """
    tiles.check_tensors(x=x, dy=dy)
    layer = geometry.weight_grad_geometry(
        x.shape,
        dy.shape,
        axes=axes,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    layer = geometry.with_padding_mode(layer, padding_mode)
    sides = layer.padding
    if padding_mode != "zeros":
        x, sides = borders.pad(x, sides, padding_mode), [(0, 0)] * axes
    return operators.conv_weight_grad(
        x, dy, layer.kernel_size, layer.stride, borders.flat(sides), layer.dilation, groups
    )


conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = by_rank(conv_weight_grad, "conv#d_weight_grad")


def conv_bias_grad(axes: int, dy: torch.Tensor) -> torch.Tensor:
    """Differentiate a convolution over # spatial axes by its bias: `konvlib.conv#d_bias_grad` on tensors.

    Examples
    --------
    >>> conv1d_bias_grad(torch.tensor([[[1.0, 5], [2, 0]]]))
    tensor([6., 2.])
    """
    tiles.check_tensors(dy=dy)
    geometry.bias_grad_shape(dy.shape, axes=axes)
    return dy.sum((0, *range(2, dy.dim())))


conv1d_bias_grad, conv2d_bias_grad, conv3d_bias_grad = by_rank(conv_bias_grad, "conv#d_bias_grad")


def max_pool_grad(
    axes: int,
    x: torch.Tensor,
    dy: torch.Tensor,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> torch.Tensor:
    """Differentiate a max pooling over # spatial axes: `konvlib.max_pool#d_grad` on tensors.

    Linear in ``dy``, and differentiable by it. Which sample is a window's largest does not change with small steps of
    ``x``, so the derivative by ``x`` is zero.

    Examples
    --------
    >>> max_pool1d_grad(torch.tensor([[[1.0, 3, 3, 2, 5]]]), torch.tensor([[[10.0, 20]]]), 3, stride=2)
    tensor([[[ 0., 10.,  0.,  0., 20.]]])
    """
    tiles.check_tensors(x=x, dy=dy)
    pool = geometry.max_pool_grad_geometry(
        x.shape,
        dy.shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    sides = [side for pair in pool.padding for side in pair]
    window = (pool.kernel_size, pool.stride, sides, pool.dilation)
    _, taps = pooling_operators.max_pool.raw(x.detach(), *window, pool.output_size)
    return pooling_operators.max_pool_scatter(dy, taps, *window, pool.input_size)


max_pool1d_grad, max_pool2d_grad, max_pool3d_grad = by_rank(max_pool_grad, "max_pool#d_grad")


def avg_pool_grad(
    axes: int,
    dy: torch.Tensor,
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> torch.Tensor:
    """Differentiate an average pooling over # spatial axes: `konvlib.avg_pool#d_grad` on tensors.

    Linear in ``dy``, and differentiable by it.

    Examples
    --------
    >>> avg_pool1d_grad(torch.tensor([[[3.0, 6]]]), 3, input_size=5, stride=2)
    tensor([[[1., 1., 3., 2., 2.]]])
    """
    tiles.check_tensors(dy=dy)
    pool = geometry.avg_pool_grad_geometry(
        dy.shape,
        kernel_size,
        axes=axes,
        input_size=input_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    sides = [side for pair in pool.padding for side in pair]
    window = (pool.kernel_size, pool.stride, sides)
    return pooling_operators.avg_pool_scatter(dy, *window, pool.input_size, count_include_pad)


avg_pool1d_grad, avg_pool2d_grad, avg_pool3d_grad = by_rank(avg_pool_grad, "avg_pool#d_grad")
