"""Two layers and chains of layers to compose, in a stated box, and what they give run one after the other."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import torch

from konvlib.strides import Layer
from tests.engine import backends, boxes

layers = backends.definition("images")


class Pair(NamedTuple):
    """One axis of two layers."""

    kernel1: int
    kernel2: int
    stride1: int
    stride2: int
    dilation1: int
    dilation2: int

    @property
    def span(self) -> int:
        return self.dilation1 * (self.kernel1 - 1) + self.stride1 * self.dilation2 * (self.kernel2 - 1) + 1


class Channels(NamedTuple):
    """The groups of both layers, and the channels before, between and after them."""

    groups1: int
    groups2: int
    inputs: int
    middle: int
    outputs: int


ONE_AXIS = [Pair(*row) for row in product(range(1, 5), range(1, 5), *[range(1, 4)] * 4)]
CHANNELS = [
    Channels(1, 1, 1, 1, 1),
    Channels(1, 1, 2, 3, 2),
    Channels(2, 2, 4, 2, 6),
    Channels(3, 3, 3, 3, 3),
    Channels(3, 1, 3, 6, 2),
    Channels(1, 2, 3, 2, 4),
    Channels(2, 3, 4, 6, 3),
    Channels(4, 6, 4, 12, 6),
]
"""Without groups; grouped alike; depthwise; depthwise and then dense; and groups that cross."""
BOX_TEXT = (
    f"one axis, both kernels 1 to 4, both strides and dilations 1 to 3: {len(ONE_AXIS):,} geometries; with "
    f"(groups of both layers, channels before, between, after) = {', '.join(str(tuple(row)) for row in CHANNELS)}: "
    f"{len(ONE_AXIS) * len(CHANNELS):,}"
)


@cache
def covering(axes: int) -> list[tuple[Pair, ...]]:
    """Geometries of two or three axes in which every two values of parameters of two axes occur together."""
    most = (4, 3, 2)[axes - 1]
    good = [pair for pair in ONE_AXIS if max(pair) <= most]
    rng = np.random.default_rng(axes)
    rows = [tuple(good[number] for number in rng.integers(0, len(good), axes)) for _ in range(400)]
    chosen = [rows[number] for number in boxes._covering(rows)]
    for (a, b), (i, j) in product(combinations(range(axes), 2), product(range(len(Pair._fields)), repeat=2)):
        every = set(product({pair[i] for pair in good}, {pair[j] for pair in good}))
        assert {(row[a][i], row[b][j]) for row in chosen} == every
    return chosen


def weights(axes: tuple[Pair, ...], channels: Channels) -> tuple[np.ndarray, np.ndarray]:
    """Both weights, of small integers."""
    first = channels.middle, channels.inputs // channels.groups1
    second = channels.outputs, channels.middle // channels.groups2
    return (
        boxes.integers(*first, *(pair.kernel1 for pair in axes)),
        boxes.integers(*second, *(pair.kernel2 for pair in axes), seed=1),
    )


def two_layers(axes: tuple[Pair, ...], channels: Channels) -> list[Layer]:
    """The two layers as a chain."""
    w1, w2 = weights(axes, channels)
    stride1, stride2, dilation1, dilation2 = zip(*(pair[2:] for pair in axes), strict=True)
    return [
        Layer(w1, stride1, dilation1, None, channels.groups1),
        Layer(w2, stride2, dilation2, None, channels.groups2),
    ]


def composed(backend: Any, axes: tuple[Pair, ...], channels: Channels) -> Layer:
    """What the backend makes of the two layers, as a layer."""
    first, second = two_layers(axes, channels)
    options = {"stride1": first.stride, "dilation1": first.dilation, "dilation2": second.dilation}
    w = backend.compose(first.weight, second.weight, **options, groups1=first.groups, groups2=second.groups)
    stride = tuple(pair.stride1 * pair.stride2 for pair in axes)
    return Layer(w, stride, 1, None, gcd(first.groups, second.groups))


def example_input(axes: tuple[Pair, ...], channels: Channels) -> np.ndarray:
    """An input in which two windows fit along each axis, with one sample over."""
    sizes = [pair.span + pair.stride1 * pair.stride2 + (pair.stride1 * pair.stride2 > 1) for pair in axes]
    return boxes.integers(1, channels.inputs, *sizes, seed=2)


def by_torch(chain: list[Layer], x: np.ndarray) -> np.ndarray:
    """A chain of layers in PyTorch, one after the other, in doubles."""
    x = boxes.tensor(x)
    for weight, stride, dilation, bias, groups in (Layer(*layer) for layer in chain):
        function = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
        bias = None if bias is None else boxes.tensor(bias)
        x = function(x, boxes.tensor(weight), bias, stride, 0, dilation, groups)
    return x.numpy()


def by_definition(chain: list[Layer], x: np.ndarray) -> np.ndarray:
    """The same with konvlib's definition of the layer."""
    for weight, stride, dilation, bias, groups in chain:
        convolve = getattr(layers, f"conv{x.ndim - 2}d")
        x = convolve(x, weight, bias, stride=stride, dilation=dilation, groups=groups)
    return x


def matrix(size: int, *steps: tuple) -> np.ndarray:
    """The matrix of layers of one channel: each a kernel, a stride, a padding and maybe a bias, which adds to all."""
    y = boxes.impulses(1, size)
    for kernel, stride, padding, *bias in steps:
        y = layers.conv1d(y, np.reshape(kernel, (1, 1, -1)), *bias, stride=stride, padding=[padding])
    return y[:, 0].T
