"""Dilation and composition of filters, by definition: the printed formulas, index by index.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from konvlib import geometry
from konvlib.geometry import PerAxis
from konvlib.images.naive import conv
from konvlib.strides import modules
from konvlib.strides.chains import Layer, regular_layers, whole_layer
from konvlib.strides.factors import factor as factor


def dilate(k: ArrayLike, step: PerAxis, *, axes: int | None = None) -> np.ndarray:
    r"""Insert ``step - 1`` zeros between neighbouring taps: `konvlib.dilate`, by definition.

    .. math:: k_{\uparrow s}[s\,u] = k[u], \qquad 0 \text{ elsewhere}

    Examples
    --------
    >>> dilate([1, 2, 3], 2)
    array([1, 0, 2, 0, 3])
    """
    k = geometry.as_array(k, "k")
    steps, shape = geometry.dilate_geometry(k.shape, step, axes)
    result = np.zeros(shape, dtype=k.dtype)
    channels = k.ndim - len(steps)
    for index in np.ndindex(k.shape):
        place = (*index[:channels], *(s * u for s, u in zip(steps, index[channels:], strict=True)))
        result[place] = k[index]
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
    r"""Make one weight of two layers' weights: `konvlib.compose`, by definition.

    .. math:: w[o, i, m] = \sum_{c} \sum_{(a, b):\; d_1 a + s_1 d_2 b = m} w_2[o, c, b]\; w_1[c, i, a]

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
    bare = w1.ndim == both.axes
    w1, w2 = w1.reshape(both.middle, -1, *both.kernel1), w2.reshape(both.outputs, -1, *both.kernel2)
    w = np.zeros(both.weight_shape, dtype=np.result_type(w1, w2))
    for o in range(both.outputs):
        group2 = o // (both.outputs // groups2)
        first_input = o // (both.outputs // both.groups) * (both.inputs // both.groups)
        for c2 in range(both.middle // groups2):
            c = group2 * (both.middle // groups2) + c2
            group1 = c // (both.middle // groups1)
            for i1 in range(both.inputs // groups1):
                i = group1 * (both.inputs // groups1) + i1 - first_input
                for a in np.ndindex(both.kernel1):
                    for b in np.ndindex(both.kernel2):
                        steps = zip(both.step1, a, both.step2, b, strict=True)
                        m = tuple(step1 * tap1 + step2 * tap2 for step1, tap1, step2, tap2 in steps)
                        w[(o, i, *m)] += w2[(o, c2, *b)] * w1[(c, i1, *a)]
    return w[0, 0] if bare else w


def compose_chain(layers: Sequence[Layer]) -> Layer:
    r"""Make one layer of a chain of layers: `konvlib.compose_chain`, by definition.

    A layer's weight is its answer to unit impulses, and its bias its answer to zeros. So both are read off the chain,
    with an input of as many samples as one output sees.

    Examples
    --------
    >>> compose_chain([([1, 2], 2, 1, [10]), ([1, 2], 2)])
    Layer(weight=array([1, 2, 2, 4]), stride=(4,), dilation=(1,), bias=array([30]), groups=1)
    """
    chain, whole = regular_layers(layers)
    seen = (gap * (taps - 1) + 1 for gap, taps in zip(whole.dilation, whole.kernel_size, strict=True))
    nothing = np.zeros((1, whole.inputs, *seen), dtype=chain[0].weight.dtype)
    weight = np.zeros(whole.weight_shape, dtype=nothing.dtype)
    depth, width = whole.inputs // whole.groups, whole.outputs // whole.groups
    for i in range(whole.inputs):
        group = slice(i // depth * width, (i // depth + 1) * width)
        for m in np.ndindex(whole.kernel_size):
            impulse = nothing.copy()
            impulse[(0, i, *(gap * tap for gap, tap in zip(whole.dilation, m, strict=True)))] = 1
            weight[(group, i % depth, *m)] = _answer(chain, impulse, biased=False)[group]
    unbiased = all(layer.bias is None for layer in chain)
    return whole_layer(layers, whole, weight, None if unbiased else _answer(chain, nothing, biased=True))


def _answer(chain: list[Layer], x: np.ndarray, *, biased: bool) -> np.ndarray:
    """What comes out of a chain, per channel, if one window of it fits the input."""
    for layer in chain:
        bias = layer.bias if biased else None
        options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        x = conv(x.ndim - 2, x, layer.weight, bias, **options)
    return x.reshape(-1)


def collapse(model: Any) -> Any:
    """Make one torch convolution of a `torch.nn.Sequential` of convolutions: `konvlib.collapse`, with this composition.

    Examples
    --------
    >>> import torch
    >>> collapse(torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3, stride=2), torch.nn.Conv1d(2, 1, 3, stride=2)))
    Conv1d(1, 1, kernel_size=(7,), stride=(4,))
    """
    return modules.collapse_with(compose_chain, model)
