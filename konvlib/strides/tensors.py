"""Dilation and composition of filters on tensors: a composition is one transposed convolution.

Tap ``a`` of the first layer and tap ``b`` of the second meet in tap ``step1 * a + step2 * b``. So the second weight,
its output channels taken as a batch, is the input, and the first is the weight, of a transposed convolution with stride
``step2`` and dilation ``step1``: differentiable to any order, on the tensors' own device.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry import Chain, Composition, compose_geometry
from konvlib.layers import operators
from konvlib.runtime import COMPLEX, REALS
from konvlib.strides.chains import Layer
from konvlib.strides.factors import factor as factored

DTYPES = REALS
FACTORED_DTYPES = (torch.float32, torch.float64, *COMPLEX)


def dilate(k: Tensor, steps: tuple[int, ...]) -> Tensor:
    """Insert ``step - 1`` zeros between neighbouring taps along the last axes, one for each of ``steps``.

    Examples
    --------
    >>> dilate(torch.tensor([1.0, 2, 3]), (2,))
    tensor([1., 0., 2., 0., 3.])
    """
    # After each tap, s - 1 zeros on an axis of its own; then those after the last tap are cut off.
    channels, taps = k.shape[: -len(steps)], k.shape[-len(steps) :]
    apart = k.reshape(*channels, *(size for n in taps for size in (n, 1)))
    spread = functional.pad(apart, [side for s in reversed(steps) for side in (0, s - 1, 0, 0)])
    spread = spread.reshape(*channels, *(n * s for n, s in zip(taps, steps, strict=True)))
    return functional.pad(spread, [side for s in reversed(steps) for side in (0, 1 - s)])


def compose(w1: Tensor, w2: Tensor, both: Composition) -> Tensor:
    """Make one weight of two layers' weights.

    Examples
    --------
    >>> k = torch.tensor([1.0, 2])
    >>> compose(k, k, compose_geometry(k.shape, k.shape, stride1=2))
    tensor([1., 2., 2., 4.])
    """
    w = _contract(both, w1.reshape(both.middle, -1, *both.kernel1), w2.reshape(both.outputs, -1, *both.kernel2))
    return w.reshape(both.kernel_size if w1.dim() == both.axes else both.weight_shape)


def _contract(both: Composition, w1: Tensor, w2: Tensor) -> Tensor:
    groups, stride, dilation = both.groups, both.step2, both.step1
    first = _with_groups(w1, both.groups1, groups)
    second = _with_groups(w2, both.groups2, groups)
    x = second.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
    size, none = both.kernel_size, [0] * (2 * both.axes)
    y = operators.conv_transpose(x, first, None, size, stride, none, dilation, groups)
    return y.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _with_groups(w: Tensor, groups: int, fewer: int) -> Tensor:
    """The weight of the same layer as one of ``fewer`` groups, a divisor of ``groups``, with zeros between them."""
    if groups == fewer:
        return w
    apart = w.unflatten(0, (fewer, groups // fewer, -1)).movedim(1, -1)
    return torch.diag_embed(apart, dim1=1, dim2=3).flatten(0, 2).flatten(1, 2)


def compose_chain(chain: Sequence[Layer], whole: Chain) -> tuple[Tensor, Tensor | None]:
    """Return the weight and the bias of the one layer that a chain of layers is.

    Examples
    --------
    >>> from konvlib.geometry import chain_geometry
    >>> w = torch.tensor([[[1.0, 2]]])
    >>> whole = chain_geometry(w.shape, None, w.shape, None, strides=[2, 2], dilations=[1, 1], groups=[1, 1])
    >>> compose_chain([Layer(w, (2,), (1,)), Layer(w, (2,), (1,))], whole)
    (tensor([[[1., 2., 2., 4.]]]), None)
    """
    first, *rest = chain
    weight, bias, groups = dilate(first.weight, whole.steps[0]), first.bias, first.groups
    for layer, step in zip(rest, whole.steps[1:], strict=True):
        options = {"dilation2": step, "groups1": groups, "groups2": layer.groups}
        weight = compose(weight, layer.weight, compose_geometry(weight.shape, layer.weight.shape, **options))
        bias = _through(layer, bias)
        groups = gcd(groups, layer.groups)
    return weight, bias


def _through(layer: Layer, constant: Tensor | None) -> Tensor | None:
    """What a layer makes of a constant per channel, which is composed like a weight of one tap."""
    if constant is None:
        return layer.bias
    taps = constant.reshape(-1, *(1,) * (layer.weight.dim() - 1))
    both = compose_geometry(taps.shape, layer.weight.shape, groups2=layer.groups)
    answer = compose(taps, layer.weight, both).flatten(1).sum(1)
    return answer if layer.bias is None else answer + layer.bias


def factor(k: Tensor, step: int, same: bool, tolerance: float | None) -> tuple[Tensor, Tensor] | None:
    """Split a filter in two, the second dilated by ``step``, on the CPU.

    Examples
    --------
    >>> factor(torch.tensor([1.0, 2, 2, 4]), 2, True, None)
    (tensor([1., 2.]), tensor([1., 2.]))
    """
    pair = factored(k.detach().cpu().resolve_conj().resolve_neg().numpy(), step, same, tolerance)
    return None if pair is None else tuple(torch.from_numpy(taps).to(k.device) for taps in pair)
