"""A chain of layers: what one layer of it is, and all of them made regular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from konvlib import geometry
from konvlib.geometry import Chain, PerAxis


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


def regular_layers(layers: Sequence[Layer]) -> tuple[list[Layer], Chain]:
    """Return the layers of a chain made alike, once all are found good, and the geometry of their whole.

    Weights have channels and one common dtype, biases the dtype that NumPy gives weights and biases together.

    Raises
    ------
    TypeError
        If ``layers`` is no list of layers, or if an argument of one has the wrong kind.
    ValueError
        As `konvlib.geometry.chain_geometry`.

    Examples
    --------
    >>> chain, whole = regular_layers([([1, 2], 2), ([3.0, 4.0], 1, 3)])
    >>> chain[0]
    Layer(weight=array([[[1., 2.]]]), stride=(2,), dilation=(1,), bias=None, groups=1)
    >>> whole.kernel_size, whole.stride
    ((8,), (2,))
    """
    chain = [_with_arrays(f"layers[{number}]", layer) for number, layer in enumerate(named_layers(layers))]
    whole = geometry.chain_geometry(
        [layer.weight.shape for layer in chain],
        [None if layer.bias is None else layer.bias.shape for layer in chain],
        strides=[layer.stride for layer in chain],
        dilations=[layer.dilation for layer in chain],
        groups=[layer.groups for layer in chain],
    )
    dtype = np.result_type(*(layer.weight for layer in chain))
    bias_dtype = np.result_type(dtype, *(layer.bias for layer in chain if layer.bias is not None))
    alike = []
    for layer, stride, dilation in zip(chain, whole.strides, whole.dilations, strict=True):
        channels, kernel = layer.weight.shape[: -len(stride)], layer.weight.shape[-len(stride) :]
        weight = layer.weight.astype(dtype).reshape(*(channels or (1, 1)), *kernel)
        bias = None if layer.bias is None else layer.bias.astype(bias_dtype)
        alike.append(Layer(weight, stride, dilation, bias, layer.groups))
    return alike, whole


def whole_layer(layers: Sequence[Layer], whole: Chain, weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    """Return the one layer of a chain; of bare kernels, with a bare kernel.

    Examples
    --------
    >>> layers = [([1, 2], 2), ([3, 4], 1)]
    >>> whole_layer(layers, regular_layers(layers)[1], np.array([[[3, 6, 4, 8]]]), None)
    Layer(weight=array([3, 6, 4, 8]), stride=(2,), dilation=(1,), bias=None, groups=1)
    """
    bare = np.ndim(layers[0][0]) == len(whole.kernel_size)
    return Layer(weight[0, 0] if bare else weight, whole.stride, whole.dilation, bias, whole.groups)


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


def _with_arrays(name: str, layer: Layer) -> Layer:
    bias = None if layer.bias is None else geometry.as_array(layer.bias, f"{name}.bias")
    return layer._replace(weight=geometry.as_array(layer.weight, f"{name}.weight"), bias=bias)
