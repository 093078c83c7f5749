"""A chain of layers: what one layer of it is, and all of them made alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from konvlib.geometry import PerAxis


class Layer(NamedTuple):
    """One convolution of a chain, without padding.

    Attributes
    ----------
    weight : array_like, shape (C_out, C_in // groups, *kernel_size)
        The weight; or a bare kernel of one or two axes, which has one channel.
    stride, dilation : int or sequence of int
        One for all axes, or one each.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    groups : int
        Into how many groups the channels fall.
    """

    weight: Any
    stride: PerAxis = 1
    dilation: PerAxis = 1
    bias: Any = None
    groups: int = 1


def with_common_dtypes(chain: Sequence[Layer]) -> list[Layer]:
    """Return copies: weights of their common dtype, biases of the dtype that NumPy gives weights and biases together.

    Examples
    --------
    >>> chain = [Layer(np.array([[[1, 2]]])), Layer(np.array([[[3.0, 4.0]]]), bias=np.array([5]))]
    >>> first, second = with_common_dtypes(chain)
    >>> first.weight, second.bias
    (array([[[1., 2.]]]), array([5.]))
    """
    dtype = np.result_type(*(layer.weight for layer in chain))
    bias_dtype = np.result_type(dtype, *(layer.bias for layer in chain if layer.bias is not None))
    return [
        layer._replace(
            weight=layer.weight.astype(dtype), bias=None if layer.bias is None else layer.bias.astype(bias_dtype)
        )
        for layer in chain
    ]


def named_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of a chain, those given as tuples too, with what was left out.

    Raises
    ------
    TypeError
        If ``layers`` is no list of layers.

    Examples
    --------
    >>> named_layers([([1, 2], 2)])
    [Layer(weight=[1, 2], stride=2, dilation=1, bias=None, groups=1)]
    """
    if isinstance(layers, Layer) or not isinstance(layers, (list, tuple)):
        raise TypeError(f"layers must be a list of layers, got {type(layers).__name__}")
    for number, layer in enumerate(layers):
        if not isinstance(layer, tuple) or not 1 <= len(layer) <= len(Layer._fields):
            raise TypeError(
                f"layers[{number}] must be a Layer or a tuple ({', '.join(Layer._fields)}), got {type(layer).__name__}"
            )
    return [Layer(*layer) for layer in layers]
