"""Dilation and composition of filters with NumPy: slices and matrix products over channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import Composition, PerAxis
from konvlib.strides import modules
from konvlib.strides.chains import Layer, regular_layers, whole_layer
from konvlib.strides.factors import factor as factor


def dilate(k: ArrayLike, step: PerAxis, *, axes: int | None = None) -> np.ndarray:
    """Insert ``step - 1`` zeros between neighbouring taps: `konvlib.dilate` on arrays.

    Examples
    --------
    >>> dilate([1, 2, 3], 2)
    array([1, 0, 2, 0, 3])
    """
    k = geometry.as_array(k, "k")
    steps, shape = geometry.dilate_geometry(k.shape, step, axes)
    result = np.zeros(shape, dtype=k.dtype)
    result[(..., *(slice(None, None, s) for s in steps))] = k
    return result


def compose(
    w1: ArrayLike,
    w2: ArrayLike,
    *,
    stride1: PerAxis = 1,
    dilation1: PerAxis = 1,
    dilation2: PerAxis = 1,
    groups1: int = 1,
    groups2: int = 1,
) -> np.ndarray:
    """Make one weight of two layers' weights: `konvlib.compose` on arrays.

    Examples
    --------
    >>> compose([1, 2], [1, 2], stride1=2)
    array([1, 2, 2, 4])
    """
    w1, w2 = geometry.as_array(w1, "w1"), geometry.as_array(w2, "w2")
    both = geometry.compose_geometry(
        w1.shape,
        w2.shape,
        stride1=stride1,
        dilation1=dilation1,
        dilation2=dilation2,
        groups1=groups1,
        groups2=groups2,
    )
    w = _contract(both, w1, w2)
    return w.reshape(both.kernel_size if w1.ndim == both.axes else both.weight_shape)


def compose_chain(layers: Sequence[Layer]) -> Layer:
    """Make one layer of a chain of layers: `konvlib.compose_chain` on arrays.

    Examples
    --------
    >>> compose_chain([([1, 2], 2, 1, [10]), ([1, 2], 2)])
    Layer(weight=array([1, 2, 2, 4]), stride=(4,), dilation=(1,), bias=array([30]), groups=1)
    """
    chain, whole = regular_layers(layers)
    first, *rest = chain
    weight, bias, groups = dilate(first.weight, whole.steps[0]), first.bias, first.groups
    for layer, step in zip(rest, whole.steps[1:], strict=True):
        weight = compose(weight, layer.weight, dilation2=step, groups1=groups, groups2=layer.groups)
        bias = _through(layer, bias)
        groups = gcd(groups, layer.groups)
    return whole_layer(layers, whole, weight, bias)


def _through(layer: Layer, constant: np.ndarray | None) -> np.ndarray | None:
    """What a layer makes of a constant per channel, which is composed like a weight of one tap."""
    if constant is None:
        return layer.bias
    taps = constant.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    answer = compose(taps, layer.weight, groups2=layer.groups)
    answer = answer.reshape(len(answer), -1).sum(-1, dtype=answer.dtype)
    return answer if layer.bias is None else answer + layer.bias


def collapse(model: Any) -> Any:
    """Make one torch convolution of a `torch.nn.Sequential` of convolutions: `konvlib.collapse`.

    Examples
    --------
    >>> import torch
    >>> collapse(torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3, stride=2), torch.nn.Conv1d(2, 1, 3, stride=2)))
    Conv1d(1, 1, kernel_size=(7,), stride=(4,))
    """
    return modules.collapse_with(compose_chain, model)


def _contract(both: Composition, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """Per tap of the second weight one matrix product over the channels between, added at the places of that tap.

    The channels between fall into ``cells`` parts, each in one group of either layer. A cell links the outputs of its
    second group with the inputs of its first; cells that link the same two are summed.
    """
    cells = lcm(both.groups1, both.groups2)
    depth, inputs = both.middle // cells, both.inputs // both.groups1
    outputs, share = both.outputs // both.groups2, both.groups1 // both.groups
    first = w1.reshape(cells, depth, -1)
    second = w2.reshape(both.groups2, outputs, cells // both.groups2, depth, *both.kernel2)
    second = second.swapaxes(1, 2).reshape(cells, outputs, depth, *both.kernel2)
    group1, group2 = (np.arange(cells) * groups // cells for groups in (both.groups1, both.groups2))
    links = np.flatnonzero(np.diff(group1, prepend=-1) | np.diff(group2, prepend=-1))
    w = np.zeros((both.groups2, outputs, share, inputs, *both.kernel_size), dtype=np.result_type(w1, w2))
    for b in np.ndindex(both.kernel2):
        products = (second[(..., *b)] @ first).reshape(cells, outputs, inputs, *both.kernel1)
        each = zip(b, both.kernel1, both.step1, both.step2, strict=True)
        places = tuple(slice(tap * s2, tap * s2 + (taps - 1) * s1 + 1, s1) for tap, taps, s1, s2 in each)
        sums = np.add.reduceat(products, links, axis=0, dtype=w.dtype)
        w[(..., *places)][group2[links], :, group1[links] % share] += sums
    return w
