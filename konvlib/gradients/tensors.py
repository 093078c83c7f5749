"""Gradients of the layers on tensors: Triton kernels on CUDA, ATen elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from konvlib.geometry import ConvGeometry, PoolGeometry
from konvlib.images import aten, pooling_operators
from konvlib.layers import aten as layers
from konvlib.layers import memory, operators
from konvlib.layers.padding import fold
from konvlib.registration import bias_grad, last_derivative
from konvlib.runtime import REALS, runs_kernel

DTYPES = REALS


def conv_input_grad(dy: Tensor, w: Tensor, layer: ConvGeometry) -> Tensor:
    """Return the layer's gradient by its input: its transpose, and what the padding received given back.

    Examples
    --------
    >>> from konvlib.geometry import input_grad_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> conv_input_grad(dy, w, input_grad_geometry(dy.shape, w.shape, axes=1, input_size=3))
    tensor([[[ 2., 13., 15.]]])
    """
    if layer.padding_mode != "zeros":
        if layers.is_half(dy):
            return conv_input_grad(*layers.wide(dy, w), layer).to(dy.dtype)
        padded = conv_input_grad(dy, w, layer.of_padded())
        return memory.laid_like(dy, fold(padded, layer.padding, layer.padding_mode))
    if not runs_kernel(dy):
        return layers.conv_transpose(dy, w, None, layer)
    _, _, rest = operators.shown(dy, layer)
    return operators.conv_transpose(dy, w, None, layer.input_size, *rest, plan=layer)


def conv_weight_grad(x: Tensor, dy: Tensor, layer: ConvGeometry) -> Tensor:
    """Return the layer's gradient by its weight.

    Examples
    --------
    >>> from konvlib.geometry import weight_grad_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> conv_weight_grad(x, dy, weight_grad_geometry(x.shape, dy.shape, axes=1, kernel_size=2))
    tensor([[[ 9., 16.]]])
    """
    if not runs_kernel(x):
        return layers.conv_weight_grad(x, dy, layer)
    x, layer, rest = operators.shown(x, layer)
    return operators.conv_weight_grad(x, dy, layer.kernel_size, *rest, plan=layer)


def conv_bias_grad(dy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the layer's gradient by its bias.

    Examples
    --------
    >>> conv_bias_grad(torch.tensor([[[1.0, 5], [2, 0]]]), (1, 2, 2))
    tensor([6., 2.])
    """
    return bias_grad(dy)


def max_pool_grad(x: Tensor, dy: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the gradient of a max pooling by its input; by kernels it lies in memory as ``x`` does, too.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x, dy = torch.tensor([[[1.0, 3, 3, 2, 5]]]), torch.tensor([[[10.0, 20]]])
    >>> max_pool_grad(x, dy, pool_geometry(x.shape, 3, axes=1, stride=2))
    tensor([[[ 0., 10.,  0.,  0., 20.]]])
    """
    by_kernel = runs_kernel(x) and aten.has_kernel(pool, mean=False)
    if not by_kernel or not (torch.compiler.is_compiling() or last_derivative()):
        return aten.max_pool_grad(x, dy, pool)
    window = pooling_operators.geometry_of(pool)
    _, taps = pooling_operators.max_pool.raw(x.detach(), *window, pool.output_size)
    return pooling_operators.max_pool_scatter(dy, taps, *window, pool.input_size)


def avg_pool_grad(dy: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the gradient of an average pooling by its input.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> avg_pool_grad(torch.tensor([[[3.0, 6]]]), pool_geometry((1, 1, 5), 3, axes=1, stride=2))
    tensor([[[1., 1., 3., 2., 2.]]])
    """
    if not runs_kernel(dy) or not aten.has_kernel(pool, mean=True):
        return aten.avg_pool_grad(dy, pool)
    kernel, stride, sides, _ = pooling_operators.geometry_of(pool)
    return pooling_operators.avg_pool_scatter(
        dy, kernel, stride, sides, pool.input_size, pool.count_include_pad, plan=pool
    )
