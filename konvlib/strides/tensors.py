"""Dilation and composition of filters on tensors: a composition is one transposed convolution.

Tap ``a`` of the first layer and tap ``b`` of the second meet in tap ``step1 * a + step2 * b``. So the second weight,
its output channels taken as a batch, is the input, and the first is the weight, of a transposed convolution with stride
``step2`` and dilation ``step1``: differentiable to any order, on the tensors' own device.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch

from konvlib import geometry, tiles
from konvlib.geometry import Composition, PerAxis
from konvlib.layers import operators
from konvlib.strides import arrays as fast
from konvlib.strides.arrays import collapse as collapse
from konvlib.strides.chains import Layer, named_layers, whole_layer


def dilate(k: torch.Tensor, step: PerAxis, *, axes: int | None = None) -> torch.Tensor:
    """Insert ``step - 1`` zeros between neighbouring taps: `konvlib.dilate` on tensors.

    Examples
    --------
    >>> dilate(torch.tensor([1.0, 2, 3]), 2)
    tensor([1., 0., 2., 0., 3.])
    """
    tiles.check_tensors(k=k)
    steps, shape = geometry.dilate_geometry(k.shape, step, axes)
    result = k.new_zeros(shape)
    result[(..., *(slice(None, None, s) for s in steps))] = k
    return result


def compose(
    w1: torch.Tensor,
    w2: torch.Tensor,
    *,
    stride1: PerAxis = 1,
    dilation1: PerAxis = 1,
    dilation2: PerAxis = 1,
    groups1: int = 1,
    groups2: int = 1,
) -> torch.Tensor:
    """Make one weight of two layers' weights: `konvlib.compose` on tensors.

    Examples
    --------
    >>> compose(torch.tensor([1.0, 2]), torch.tensor([1.0, 2]), stride1=2)
    tensor([1., 2., 2., 4.])
    """
    tiles.check_tensors(w1=w1, w2=w2)
    both = geometry.compose_geometry(
        w1.shape,
        w2.shape,
        stride1=stride1,
        dilation1=dilation1,
        dilation2=dilation2,
        groups1=groups1,
        groups2=groups2,
    )
    w = _contract(both, w1.reshape(both.middle, -1, *both.kernel1), w2.reshape(both.outputs, -1, *both.kernel2))
    return w.reshape(both.kernel_size if w1.dim() == both.axes else both.weight_shape)


def _contract(both: Composition, w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
    groups, stride, dilation = both.groups, both.step2, both.step1
    first = _with_groups(w1, both.groups1, groups)
    second = _with_groups(w2, both.groups2, groups)
    x = second.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
    size, none = both.kernel_size, [0] * (2 * both.axes)
    y = operators.conv_transpose(x, first, None, size, stride, none, dilation, groups)
    return y.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _with_groups(w: torch.Tensor, groups: int, fewer: int) -> torch.Tensor:
    """The weight of the same layer as one of ``fewer`` groups, a divisor of ``groups``, with zeros between them."""
    if groups == fewer:
        return w
    apart = w.unflatten(0, (fewer, groups // fewer, -1)).movedim(1, -1)
    return torch.diag_embed(apart, dim1=1, dim2=3).flatten(0, 2).flatten(1, 2)


def compose_chain(layers: Sequence[Layer]) -> Layer:
    """Make one layer of a chain of layers: `konvlib.compose_chain` on tensors.

    Examples
    --------
    >>> k = torch.tensor([1.0, 2])
    >>> compose_chain([(k, 2), (k, 2)])
    Layer(weight=tensor([1., 2., 2., 4.]), stride=(4,), dilation=(1,), bias=None, groups=1)
    """
    chain = named_layers(layers)
    operands = {f"layers[{i}].{part}": getattr(layer, part) for i, layer in enumerate(chain) for part in PARTS}
    tiles.check_tensors(**operands) if operands else None
    whole = geometry.chain_geometry(
        [layer.weight.shape for layer in chain],
        [None if layer.bias is None else layer.bias.shape for layer in chain],
        strides=[layer.stride for layer in chain],
        dilations=[layer.dilation for layer in chain],
        groups=[layer.groups for layer in chain],
    )
    axes = len(whole.kernel_size)
    weights = [layer.weight if layer.weight.dim() > axes else layer.weight[None, None] for layer in chain]
    weight, bias, groups = dilate(weights[0], whole.steps[0], axes=axes), chain[0].bias, chain[0].groups
    for layer, w, step in zip(chain[1:], weights[1:], whole.steps[1:], strict=True):
        weight = compose(weight, w, dilation2=step, groups1=groups, groups2=layer.groups)
        bias = _through(layer, w, bias)
        groups = gcd(groups, layer.groups)
    return whole_layer(layers, whole, weight, bias)


PARTS = ("weight", "bias")


def _through(layer: Layer, w: torch.Tensor, constant: torch.Tensor | None) -> torch.Tensor | None:
    """What a layer makes of a constant per channel, which is composed like a weight of one tap."""
    if constant is None:
        return layer.bias
    taps = constant.reshape(-1, *(1,) * (w.dim() - 1))
    answer = compose(taps, w, groups2=layer.groups).flatten(1).sum(1)
    return answer if layer.bias is None else answer + layer.bias


def factor(
    k: torch.Tensor, *, step: int = 2, same: bool = True, tolerance: float | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Split a filter in two, the second dilated by ``step``: `konvlib.factor`, solved on the CPU.

    Examples
    --------
    >>> factor(torch.tensor([1.0, 2, 2, 4]))
    (tensor([1., 2.]), tensor([1., 2.]))
    """
    tiles.check_tensors((torch.float32, torch.float64, *tiles.COMPLEX), k=k)
    pair = fast.factor(k.detach().cpu().numpy(), step=step, same=same, tolerance=tolerance)
    return None if pair is None else tuple(torch.from_numpy(taps).to(k.device) for taps in pair)
