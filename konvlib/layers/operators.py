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
from konvlib.checks import planned_tensors
from konvlib.geometry import ConvGeometry
from konvlib.layers import (
    aten,
    depthwise,
    depthwise_input_grad,
    depthwise_weight_grad,
    forward,
    input_grad,
    memory,
    padding,
    weight_grad,
)
from konvlib.registration import Operator, bias_grad
from konvlib.runtime import REALS

Ints = Sequence[int]


def shown(x: Tensor, layer: ConvGeometry) -> tuple[Tensor, ConvGeometry, tuple[Ints, Ints, Ints, int]]:
    """Return ``x`` as the operators take it, which pad with zeros alone, the layer of that, and its arguments for them.

    Examples
    --------
    >>> import torch
    >>> from dataclasses import replace
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> layer = geometry.conv_geometry(x.shape, (1, 1, 2), axes=1, padding=1)
    >>> shown(x, layer)[::2]
    (tensor([[[1., 3., 2.]]]), ((1,), [1, 1], (1,), 1))
    >>> shown(x, replace(layer, padding_mode="circular"))[::2]
    (tensor([[[2., 1., 3., 2., 1.]]]), ((1,), [0, 0], (1,), 1))
    """
    if layer.padding_mode != "zeros":
        x, layer = padding.pad(x, layer.padding, layer.padding_mode), layer.of_padded()
    return x, layer, (layer.stride, padding.flat(layer.padding), layer.dilation, layer.groups)


def _layer(x: Tensor, w: Tensor, bias: Tensor | None, *rest: Any) -> ConvGeometry:
    return planned_tensors(REALS, geometry.conv_geometry, {"x": x, "w": w, "bias": bias}, arguments(*rest))


def _transposed_layer(dy, w, bias, input_size, *rest) -> ConvGeometry:
    given = {"input_size": tuple(input_size), **arguments(*rest)}
    return planned_tensors(REALS, geometry.input_grad_geometry, {"dy": dy, "w": w, "bias": bias}, given)


def _weight_grad_layer(x, dy, kernel_size, *rest) -> ConvGeometry:
    given = {"kernel_size": tuple(kernel_size), **arguments(*rest)}
    return planned_tensors(REALS, geometry.weight_grad_geometry, {"x": x, "dy": dy}, given)


def arguments(stride: Ints, sides: Ints, dilation: Ints, groups: int) -> dict[str, Any]:
    """Return an operator's arguments as a geometry's check takes them: the inverse of what `shown` gives.

    Examples
    --------
    >>> arguments([2], [1, 0], [1], 1)
    {'axes': 1, 'stride': (2,), 'padding': ((1, 0),), 'dilation': (1,), 'groups': 1}
    """
    axes = axes_of(stride, "stride")
    given = {"stride": tuple(stride), "padding": padding.pairs(sides, axes), "dilation": tuple(dilation)}
    return {"axes": axes, **given, "groups": groups}


def axes_of(values: Ints, name: str) -> int:
    """Return for how many axes an operator's argument has an entry.

    Raises
    ------
    ValueError
        If it is for none, or for more than three.

    Examples
    --------
    >>> axes_of([2, 1], "stride")
    2
    """
    if not 1 <= len(values) <= memory.AXES:
        raise ValueError(f"{name} must have one entry for each of one to three axes, got {list(values)}")
    return len(values)


def _is_depthwise(layer: ConvGeometry) -> bool:
    """Whether each output channel reads one input channel: then there is no sum over channels."""
    return layer.groups == layer.in_channels


def _run_conv(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    return (depthwise if _is_depthwise(layer) else forward).conv(x, w, bias, layer)


def _run_conv_transpose(dy: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    return (depthwise_input_grad if _is_depthwise(layer) else input_grad).conv_transpose(dy, w, bias, layer)


def _run_conv_weight_grad(x: Tensor, dy: Tensor, layer: ConvGeometry) -> Tensor:
    return (depthwise_weight_grad if _is_depthwise(layer) else weight_grad).conv_weight_grad(x, dy, layer)


def _conv_gradients(dy, needs, tensors, kept, rest, plan):
    x, w, _ = tensors
    dx = conv_transpose.below(dy, w, None, x.shape[2:], *rest, plan=plan) if needs[0] else None
    dw = conv_weight_grad.below(x, dy, w.shape[2:], *rest, plan=plan) if needs[1] else None
    return dx, dw, bias_grad(dy) if needs[2] else None


def _conv_transpose_gradients(g, needs, tensors, kept, rest, plan):
    dy, w, _ = tensors
    _, *layer = rest
    ddy = conv.below(g, w, None, *layer, plan=plan) if needs[0] else None
    dw = conv_weight_grad.below(g, dy, w.shape[2:], *layer, plan=plan) if needs[1] else None
    return ddy, dw, bias_grad(g) if needs[2] else None


def _conv_weight_grad_gradients(g, needs, tensors, kept, rest, plan):
    x, dy = tensors
    _, *layer = rest
    dx = conv_transpose.below(dy, g, None, x.shape[2:], *layer, plan=plan) if needs[0] else None
    return dx, conv.below(x, g, None, *layer, plan=plan) if needs[1] else None


_LAYER = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor"

conv = Operator(
    f"conv(Tensor x, Tensor w, Tensor? bias, {_LAYER}",
    tensors=3,
    check=_layer,
    kernel=_run_conv,
    composite=aten.conv,
    fake=lambda x, w, bias, layer: memory.empty(x, layer.output_shape),
    gradients=_conv_gradients,
)
"""The layer with weight ``w``: ``conv(x, w, bias, stride, padding, dilation, groups)``."""

conv_transpose = Operator(
    f"conv_transpose(Tensor dy, Tensor w, Tensor? bias, SymInt[] input_size, {_LAYER}",
    tensors=3,
    check=_transposed_layer,
    kernel=_run_conv_transpose,
    composite=aten.conv_transpose,
    fake=lambda dy, w, bias, layer: memory.empty(dy, layer.input_shape),
    gradients=_conv_transpose_gradients,
)
"""The input gradient of the layer with inputs of ``input_size``, with a bias."""

conv_weight_grad = Operator(
    f"conv_weight_grad(Tensor x, Tensor dy, SymInt[] kernel_size, {_LAYER}",
    tensors=2,
    check=_weight_grad_layer,
    kernel=_run_conv_weight_grad,
    composite=aten.conv_weight_grad,
    fake=lambda x, dy, layer: memory.empty(x, layer.weight_shape),
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
