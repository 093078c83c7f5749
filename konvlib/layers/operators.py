"""The layer, its transpose and its weight gradient as torch operators over Triton kernels: each other's derivatives.

``padding`` is flat here: before and after, axis by axis. Padding is with zeros; ``konvlib.layers.padding`` fills it
otherwise. The operators check what they are given, so that no call of theirs can reach beyond a tensor's memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.layers import (
    aten,
    depthwise,
    depthwise_input_grad,
    depthwise_weight_grad,
    forward,
    input_grad,
    memory,
    weight_grad,
)
from konvlib.registration import Operator, bias_grad, planned_tensors
from konvlib.runtime import REALS

Ints = Sequence[int]


def _layer(x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    arguments = _arguments(stride, padding, dilation, groups)
    return planned_tensors(REALS, geometry.conv_geometry, {"x": x, "w": w, "bias": bias}, arguments)


def _transposed_layer(dy, w, bias, input_size, stride, padding, dilation, groups) -> ConvGeometry:
    arguments = {"input_size": tuple(input_size), **_arguments(stride, padding, dilation, groups)}
    return planned_tensors(REALS, geometry.input_grad_geometry, {"dy": dy, "w": w, "bias": bias}, arguments)


def _weight_grad_layer(x, dy, kernel_size, stride, padding, dilation, groups) -> ConvGeometry:
    arguments = {"kernel_size": tuple(kernel_size), **_arguments(stride, padding, dilation, groups)}
    return planned_tensors(REALS, geometry.weight_grad_geometry, {"x": x, "dy": dy}, arguments)


def _arguments(stride: Ints, padding: Ints, dilation: Ints, groups: int) -> dict[str, Any]:
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    given = {"stride": tuple(stride), "padding": pairs, "dilation": tuple(dilation), "groups": groups}
    return {"axes": len(stride), **given}


def _is_depthwise(layer: ConvGeometry) -> bool:
    """Whether each output channel reads one input channel: then there is no sum over channels."""
    return layer.groups == layer.in_channels


def _run_conv(x, w, bias, *rest) -> Tensor:
    layer = _layer(x, w, bias, *rest)
    return (depthwise if _is_depthwise(layer) else forward).conv(x, w, bias, layer)


def _run_conv_transpose(dy, w, bias, *rest) -> Tensor:
    layer = _transposed_layer(dy, w, bias, *rest)
    return (depthwise_input_grad if _is_depthwise(layer) else input_grad).conv_transpose(dy, w, bias, layer)


def _run_conv_weight_grad(x, dy, *rest) -> Tensor:
    layer = _weight_grad_layer(x, dy, *rest)
    return (depthwise_weight_grad if _is_depthwise(layer) else weight_grad).conv_weight_grad(x, dy, layer)


def _fake_conv(x, w, bias, stride, padding, dilation, groups) -> Tensor:
    each = zip(x.shape[2:], w.shape[2:], stride, padding[::2], padding[1::2], dilation, strict=True)
    size = [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, before, after, d in each]
    return memory.empty(x, (x.shape[0], w.shape[0], *size))


def _fake_conv_transpose(dy, w, bias, input_size, stride, padding, dilation, groups) -> Tensor:
    return memory.empty(dy, (dy.shape[0], w.shape[1] * groups, *input_size))


def _fake_conv_weight_grad(x, dy, kernel_size, stride, padding, dilation, groups) -> Tensor:
    return memory.empty(x, (dy.shape[1], x.shape[1] // groups, *kernel_size))


def _conv_gradients(dy, needs, tensors, kept, rest):
    x, w, _ = tensors
    dx = conv_transpose.below(dy, w, None, x.shape[2:], *rest) if needs[0] else None
    dw = conv_weight_grad.below(x, dy, w.shape[2:], *rest) if needs[1] else None
    return dx, dw, bias_grad(dy) if needs[2] else None


def _conv_transpose_gradients(g, needs, tensors, kept, rest):
    dy, w, _ = tensors
    _, *layer = rest
    ddy = conv.below(g, w, None, *layer) if needs[0] else None
    dw = conv_weight_grad.below(g, dy, w.shape[2:], *layer) if needs[1] else None
    return ddy, dw, bias_grad(g) if needs[2] else None


def _conv_weight_grad_gradients(g, needs, tensors, kept, rest):
    x, dy = tensors
    _, *layer = rest
    dx = conv_transpose.below(dy, g, None, x.shape[2:], *layer) if needs[0] else None
    return dx, conv.below(x, g, None, *layer) if needs[1] else None


_LAYER = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor"

conv = Operator(
    f"conv(Tensor x, Tensor w, Tensor? bias, {_LAYER}",
    tensors=3,
    kernel=_run_conv,
    composite=lambda x, w, bias, *rest: aten.conv(x, w, bias, _layer(x, w, bias, *rest)),
    fake=_fake_conv,
    gradients=_conv_gradients,
)
"""The layer with weight ``w``: ``conv(x, w, bias, stride, padding, dilation, groups)``."""

conv_transpose = Operator(
    f"conv_transpose(Tensor dy, Tensor w, Tensor? bias, SymInt[] input_size, {_LAYER}",
    tensors=3,
    kernel=_run_conv_transpose,
    composite=lambda dy, w, bias, *rest: aten.conv_transpose(dy, w, bias, _transposed_layer(dy, w, bias, *rest)),
    fake=_fake_conv_transpose,
    gradients=_conv_transpose_gradients,
)
"""The input gradient of the layer with inputs of ``input_size``, with a bias."""

conv_weight_grad = Operator(
    f"conv_weight_grad(Tensor x, Tensor dy, SymInt[] kernel_size, {_LAYER}",
    tensors=2,
    kernel=_run_conv_weight_grad,
    composite=lambda x, dy, *rest: aten.conv_weight_grad(x, dy, _weight_grad_layer(x, dy, *rest)),
    fake=_fake_conv_weight_grad,
    gradients=_conv_weight_grad_gradients,
)
"""The weight gradient of the layer with kernels of ``kernel_size``."""


@register_flop_formula(conv.packet)
def _conv_flops(x_shape, w_shape, *_, out_shape=None, **__) -> int:
    """Two per product of the definition, those with padding included."""
    return 2 * math.prod(w_shape[1:]) * math.prod(out_shape)


@register_flop_formula(conv_transpose.packet)
def _conv_transpose_flops(dy_shape, w_shape, *_, **__) -> int:
    return 2 * math.prod(w_shape[1:]) * math.prod(dy_shape)


@register_flop_formula(conv_weight_grad.packet)
def _conv_weight_grad_flops(x_shape, dy_shape, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(out_shape[1:]) * math.prod(dy_shape)
