"""The layer, its transpose and its weight gradient as torch operators: each other's derivatives, to any order.

``padding`` is flat here: before and after, axis by axis. Padding is with zeros; ``konvlib.layers.padding`` fills it
otherwise. The operators check what they are given, so that no call of theirs can reach beyond a tensor's memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace

import torch
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry, tiles
from konvlib.geometry import ConvGeometry
from konvlib.layers import aten, depthwise, forward, input_grad, weight_grad
from konvlib.layers import memory as layout


@torch.library.custom_op("konvlib::conv", mutates_args=())
def conv(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return ``y[b, o, i] = bias[o] + sum x[b, c, s i + d u - p] w[o, c, u]``, in the layout of ``x``.

    Examples
    --------
    >>> conv(torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]]), None, [1], [0, 0], [1], 1)
    tensor([[[5., 8.]]])
    """
    tiles.check_tensors(x=x, w=w, bias=bias)
    layer = _layer(x.shape, w.shape, _shape(bias), *_hashable(stride, padding, dilation), groups)
    return _implementation(x, layer).conv(x, w, bias, layer)


@torch.library.custom_op("konvlib::conv_transpose", mutates_args=())
def conv_transpose(
    dy: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return the input gradient of the layer with inputs of ``input_size``, with a bias, in the layout of ``dy``.

    Examples
    --------
    >>> conv_transpose(torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]]), None, [3], [1], [0, 0], [1], 1)
    tensor([[[ 2., 13., 15.]]])
    """
    tiles.check_tensors(dy=dy, w=w, bias=bias)
    x_shape = (dy.shape[0], w.shape[1] * groups, *input_size)
    layer = _layer(x_shape, w.shape, None, *_hashable(stride, padding, dilation), groups)
    _check_fits(dy, layer)
    geometry.check_bias(_shape(bias), layer.in_channels)
    return _implementation(dy, layer).conv_transpose(dy, w, bias, layer)


@torch.library.custom_op("konvlib::conv_weight_grad", mutates_args=())
def conv_weight_grad(
    x: torch.Tensor,
    dy: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return the weight gradient of the layer with kernels of ``kernel_size``, in the layout of ``x``.

    Examples
    --------
    >>> conv_weight_grad(torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]]), [2], [1], [0, 0], [1], 1)
    tensor([[[ 9., 16.]]])
    """
    tiles.check_tensors(x=x, dy=dy)
    w_shape = (dy.shape[1], x.shape[1] // groups, *kernel_size)
    layer = _layer(x.shape, w_shape, None, *_hashable(stride, padding, dilation), groups)
    _check_fits(dy, layer)
    return _implementation(x, layer).conv_weight_grad(x, dy, layer)


def _hashable(*values: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(value) for value in values]


def _shape(bias: torch.Tensor | None) -> torch.Size | None:
    return None if bias is None else bias.shape


KERNELS = SimpleNamespace(
    conv=forward.conv, conv_transpose=input_grad.conv_transpose, conv_weight_grad=weight_grad.conv_weight_grad
)


@lru_cache(1024)
def _layer(x_shape, w_shape, bias_shape, stride, padding, dilation, groups) -> ConvGeometry:
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    return geometry.conv_geometry(
        x_shape, w_shape, bias_shape, axes=len(stride), stride=stride, padding=pairs, dilation=dilation, groups=groups
    )


def _check_fits(dy: torch.Tensor, layer: ConvGeometry) -> None:
    geometry.check_output_grad(dy.shape, layer.output_shape)


def _implementation(x: torch.Tensor, layer: ConvGeometry):
    """The module that computes this layer on this device."""
    if not tiles.runs_kernel(x):
        return aten
    if layer.groups == layer.in_channels:
        return depthwise
    return KERNELS


@conv.register_fake
def _(x, w, bias, stride, padding, dilation, groups):
    each = zip(x.shape[2:], w.shape[2:], stride, padding[::2], padding[1::2], dilation, strict=True)
    size = [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, before, after, d in each]
    return layout.empty(x, (x.shape[0], w.shape[0], *size))


@conv_transpose.register_fake
def _(dy, w, bias, input_size, stride, padding, dilation, groups):
    return layout.empty(dy, (dy.shape[0], w.shape[1] * groups, *input_size))


@conv_weight_grad.register_fake
def _(x, dy, kernel_size, stride, padding, dilation, groups):
    return layout.empty(x, (dy.shape[1], x.shape[1] // groups, *kernel_size))


def _keep_conv(ctx, inputs, output):
    x, w, _, *ctx.layer = inputs
    ctx.save_for_backward(x, w)


def _conv_gradients(ctx, dy):
    x, w = ctx.saved_tensors
    dx = conv_transpose(dy, w, None, x.shape[2:], *ctx.layer) if ctx.needs_input_grad[0] else None
    dw = conv_weight_grad(x, dy, w.shape[2:], *ctx.layer) if ctx.needs_input_grad[1] else None
    return dx, dw, _bias_grad(ctx, dy), None, None, None, None


def _keep_conv_transpose(ctx, inputs, output):
    dy, w, _, _, *ctx.layer = inputs
    ctx.save_for_backward(dy, w)


def _conv_transpose_gradients(ctx, g):
    dy, w = ctx.saved_tensors
    ddy = conv(g, w, None, *ctx.layer) if ctx.needs_input_grad[0] else None
    dw = conv_weight_grad(g, dy, w.shape[2:], *ctx.layer) if ctx.needs_input_grad[1] else None
    return ddy, dw, _bias_grad(ctx, g), None, None, None, None, None


def _keep_conv_weight_grad(ctx, inputs, output):
    x, dy, _, *ctx.layer = inputs
    ctx.save_for_backward(x, dy)


def _conv_weight_grad_gradients(ctx, g):
    x, dy = ctx.saved_tensors
    dx = conv_transpose(dy, g, None, x.shape[2:], *ctx.layer) if ctx.needs_input_grad[0] else None
    ddy = conv(x, g, None, *ctx.layer) if ctx.needs_input_grad[1] else None
    return dx, ddy, None, None, None, None, None


def _bias_grad(ctx, dy: torch.Tensor) -> torch.Tensor | None:
    return dy.sum((0, *range(2, dy.dim()))) if ctx.needs_input_grad[2] else None


conv.register_autograd(_conv_gradients, setup_context=_keep_conv)
conv_transpose.register_autograd(_conv_transpose_gradients, setup_context=_keep_conv_transpose)
conv_weight_grad.register_autograd(_conv_weight_grad_gradients, setup_context=_keep_conv_weight_grad)


def in_channels(tensor: torch.Tensor | None, dim: int | None, size: int, axis: int) -> torch.Tensor | None:
    """A batch of tensors as one, side by side along an axis: more groups of one layer.

    Examples
    --------
    >>> in_channels(torch.tensor([[[1, 2]], [[3, 4]]]), 0, 2, 1)
    tensor([[1, 2, 3, 4]])
    """
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.movedim(0, axis).flatten(axis, axis + 1)


def _vmap_of(operator):
    """Over a batch of inputs, a larger batch; over a batch of weights too, more groups."""

    def over_one_more_axis(info, in_dims, x, w, bias, *rest):
        *arguments, groups = rest
        if in_dims[1] is None and in_dims[2] is None:
            y = operator(x.movedim(in_dims[0], 0).flatten(0, 1), w, bias, *arguments, groups)
            return y.unflatten(0, (info.batch_size, -1)), 0
        x = in_channels(x, in_dims[0], info.batch_size, 1)
        w, bias = (in_channels(t, dim, info.batch_size, 0) for t, dim in zip((w, bias), in_dims[1:3], strict=True))
        y = operator(x, w, bias, *arguments, groups * info.batch_size)
        return y.unflatten(1, (info.batch_size, -1)), 1

    return over_one_more_axis


def _weight_grad_over_one_more_axis(info, in_dims, x, dy, *rest):
    *arguments, groups = rest
    x, dy = (in_channels(t, dim, info.batch_size, 1) for t, dim in zip((x, dy), in_dims[:2], strict=True))
    dw = conv_weight_grad(x, dy, *arguments, groups * info.batch_size)
    return dw.unflatten(0, (info.batch_size, -1)), 0


conv.register_vmap(_vmap_of(conv))
conv_transpose.register_vmap(_vmap_of(conv_transpose))
conv_weight_grad.register_vmap(_weight_grad_over_one_more_axis)

_LIBRARY = torch.library.Library("konvlib", "FRAGMENT")
for _operator in (conv, conv_transpose, conv_weight_grad):
    tiles.autocasts(_LIBRARY, _operator._name.removeprefix("konvlib::"), _operator)


@register_flop_formula(torch.ops.konvlib.conv)
def _conv_flops(x_shape, w_shape, *_, out_shape=None, **__) -> int:
    """Two per product of the definition, those with padding included."""
    return 2 * math.prod(w_shape[1:]) * math.prod(out_shape)


@register_flop_formula(torch.ops.konvlib.conv_transpose)
def _conv_transpose_flops(dy_shape, w_shape, *_, **__) -> int:
    return 2 * math.prod(w_shape[1:]) * math.prod(dy_shape)


@register_flop_formula(torch.ops.konvlib.conv_weight_grad)
def _conv_weight_grad_flops(x_shape, dy_shape, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(out_shape[1:]) * math.prod(dy_shape)
