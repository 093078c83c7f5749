"""Dilation and composition of filters, by definition: the printed formulas, index by index.

Every dtype works, Python integers and ``fractions.Fraction`` (dtype ``object``) exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from konvlib.geometry import Chain, Composition, conv_geometry
from konvlib.images.naive import conv
from konvlib.strides.chains import Layer, with_common_dtypes
from konvlib.strides.factors import factor as factor


def dilate(k: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    r"""Insert ``step - 1`` zeros between neighbouring taps along the last axes, one for each of ``steps``.

    .. math:: k_{\uparrow s}[s\,u] = k[u], \qquad 0 \text{ elsewhere}

    Examples
    --------
    >>> dilate(np.array([1, 2, 3]), (2,))
    array([1, 0, 2, 0, 3])
    """
    channels = k.ndim - len(steps)
    size = (s * (taps - 1) + 1 for s, taps in zip(steps, k.shape[channels:], strict=True))
    result = np.zeros((*k.shape[:channels], *size), dtype=k.dtype)
    for index in np.ndindex(k.shape):
        place = (*index[:channels], *(s * u for s, u in zip(steps, index[channels:], strict=True)))
        result[place] = k[index]
    return result


def compose(w1: np.ndarray, w2: np.ndarray, both: Composition) -> np.ndarray:
    r"""Make one weight of two layers' weights.

    .. math:: w[o, i, m] = \sum_{c} \sum_{(a, b):\; d_1 a + s_1 d_2 b = m} w_2[o, c, b]\; w_1[c, i, a]

    Examples
    --------
    >>> from konvlib.geometry import compose_geometry
    >>> k = np.array([1, 2])
    >>> compose(k, k, compose_geometry(k.shape, k.shape, stride1=2))
    array([1, 2, 2, 4])
    """
    bare = w1.ndim == both.axes
    w1, w2 = w1.reshape(both.middle, -1, *both.kernel1), w2.reshape(both.outputs, -1, *both.kernel2)
    w = np.zeros(both.weight_shape, dtype=np.result_type(w1, w2))
    for o in range(both.outputs):
        group2 = o // (both.outputs // both.groups2)
        first_input = o // (both.outputs // both.groups) * (both.inputs // both.groups)
        for c2 in range(both.middle // both.groups2):
            c = group2 * (both.middle // both.groups2) + c2
            group1 = c // (both.middle // both.groups1)
            for i1 in range(both.inputs // both.groups1):
                i = group1 * (both.inputs // both.groups1) + i1 - first_input
                for a in np.ndindex(both.kernel1):
                    for b in np.ndindex(both.kernel2):
                        steps = zip(both.step1, a, both.step2, b, strict=True)
                        m = tuple(step1 * tap1 + step2 * tap2 for step1, tap1, step2, tap2 in steps)
                        w[(o, i, *m)] += w2[(o, c2, *b)] * w1[(c, i1, *a)]
    return w[0, 0] if bare else w


def compose_chain(chain: Sequence[Layer], whole: Chain) -> tuple[np.ndarray, np.ndarray | None]:
    r"""Return the weight and the bias of the one layer that a chain of layers is.

    A layer's weight is its answer to unit impulses, and its bias its answer to zeros. So both are read off the chain,
    with an input of as many samples as one output sees.

    Examples
    --------
    >>> from konvlib.geometry import chain_geometry
    >>> w, bias = np.array([[[1, 2]]]), np.array([10])
    >>> whole = chain_geometry(w.shape, (1,), w.shape, None, strides=[2, 2], dilations=[1, 1], groups=[1, 1])
    >>> compose_chain([Layer(w, (2,), (1,), bias), Layer(w, (2,), (1,))], whole)
    (array([[[1, 2, 2, 4]]]), array([30]))
    """
    chain = with_common_dtypes(chain)
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
    return weight, None if unbiased else _answer(chain, nothing, biased=True)


def _answer(chain: list[Layer], x: np.ndarray, *, biased: bool) -> np.ndarray:
    """What comes out of a chain, per channel, if one window of it fits the input."""
    for layer in chain:
        options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        shapes = x.shape, layer.weight.shape
        x = conv(x, layer.weight, layer.bias if biased else None, conv_geometry(*shapes, axes=x.ndim - 2, **options))
    return x.reshape(-1)
