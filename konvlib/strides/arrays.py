"""Dilation and composition of filters with NumPy: slices and matrix products over channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm, prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import Chain, Composition, compose_geometry
from konvlib.matrices.arrays import put_sums
from konvlib.matrices.blocks import pieces
from konvlib.strides.chains import Layer, with_common_dtypes
from konvlib.strides.factors import factor as factor

BLOCK = 1 << 22
"""About how many products of pairs of channels to hold at once."""


def dilate(k: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Insert ``step - 1`` zeros between neighbouring taps along the last axes, one for each of ``steps``.

    Examples
    --------
    >>> dilate(np.array([1, 2, 3]), (2,))
    array([1, 0, 2, 0, 3])
    """
    size = (s * (taps - 1) + 1 for s, taps in zip(steps, k.shape[-len(steps) :], strict=True))
    result = np.zeros((*k.shape[: -len(steps)], *size), dtype=k.dtype)
    result[(..., *(slice(None, None, s) for s in steps))] = k
    return result


def compose(w1: np.ndarray, w2: np.ndarray, both: Composition) -> np.ndarray:
    """Make one weight of two layers' weights; halves are summed as singles, integers in floats that hold every sum.

    Examples
    --------
    >>> k = np.array([1, 2])
    >>> compose(k, k, compose_geometry(k.shape, k.shape, stride1=2))
    array([1, 2, 2, 4])
    """
    dtype, terms = np.result_type(w1, w2), both.middle * min(prod(both.kernel1), prod(both.kernel2))
    sums = geometry.sum_dtype(dtype, w1, w2, terms)
    total = _contract(both, w1.astype(sums, copy=False), w2.astype(sums, copy=False))
    total = total.reshape(both.kernel_size if w1.ndim == both.axes else both.weight_shape)
    if sums == dtype:
        return total
    w = np.empty(total.shape, dtype=dtype)
    put_sums(w, total, None)
    return w


def compose_chain(chain: Sequence[Layer], whole: Chain) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weight and the bias of the one layer that a chain of layers is; halves are rounded once, at the end.

    Examples
    --------
    >>> from konvlib.geometry import chain_geometry
    >>> w, bias = np.array([[[1, 2]]]), np.array([10])
    >>> whole = chain_geometry(w.shape, (1,), w.shape, None, strides=[2, 2], dilations=[1, 1], groups=[1, 1])
    >>> compose_chain([Layer(w, (2,), (1,), bias), Layer(w, (2,), (1,))], whole)
    (array([[[1, 2, 2, 4]]]), array([30]))
    """
    chain = with_common_dtypes(chain)
    weight_dtype, bias_dtype = chain[0].weight.dtype, next((a.bias.dtype for a in chain if a.bias is not None), None)
    chain = [layer._replace(weight=_as_sums(layer.weight), bias=_as_sums(layer.bias)) for layer in chain]
    first, *rest = chain
    weight, bias, groups = dilate(first.weight, whole.steps[0]), first.bias, first.groups
    for layer, step in zip(rest, whole.steps[1:], strict=True):
        options = {"dilation2": step, "groups1": groups, "groups2": layer.groups}
        weight = compose(weight, layer.weight, compose_geometry(weight.shape, layer.weight.shape, **options))
        bias = _through(layer, bias)
        groups = gcd(groups, layer.groups)
    return weight.astype(weight_dtype, copy=False), None if bias is None else bias.astype(bias_dtype, copy=False)


def _as_sums(taps: np.ndarray | None) -> np.ndarray | None:
    """Halves as singles."""
    return taps if taps is None or taps.dtype != np.float16 else taps.astype(np.float32)


def _through(layer: Layer, constant: np.ndarray | None) -> np.ndarray | None:
    """What a layer makes of a constant per channel, which is composed like a weight of one tap."""
    if constant is None:
        return layer.bias
    taps = constant.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    both = compose_geometry(taps.shape, layer.weight.shape, groups2=layer.groups)
    answer = compose(taps, layer.weight, both)
    answer = answer.reshape(len(answer), -1).sum(-1, dtype=answer.dtype)
    return answer if layer.bias is None else answer + layer.bias


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
    w = np.zeros((both.groups2, outputs, share, inputs, *both.kernel_size), dtype=w1.dtype)
    for (some,) in pieces([outputs], BLOCK // (cells * first.shape[2])):
        part = w[:, some]
        for b in np.ndindex(both.kernel2):
            products = (second[(slice(None), some, slice(None), *b)] @ first).reshape(cells, -1, inputs, *both.kernel1)
            each = zip(b, both.kernel1, both.step1, both.step2, strict=True)
            places = tuple(slice(tap * s2, tap * s2 + (taps - 1) * s1 + 1, s1) for tap, taps, s1, s2 in each)
            sums = np.add.reduceat(products, links, axis=0, dtype=w.dtype)
            part[(..., *places)][group2[links], :, group1[links] % share] += sums
    return w
