"""Geometries to prove layers on: a box of one axis, and coverings of it on two and three axes.

An output of a layer is a sum of inputs times weights. `impulses` puts each input pixel into an image of its own, and
`digits` gives each weight a digit of its own in base 4. So each output of each image names the weights that it used,
and how often each up to three times: agreeing on them proves a bilinear map, tap by tap.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch


class Axis(NamedTuple):
    """The geometry of one axis."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int

    @property
    def span(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def fits(self) -> bool:
        return self.size + self.before + self.after >= self.span

    @property
    def refusal(self) -> str:
        """What is said of a geometry that does not fit; the dilation is named where the kernel would fit without it."""
        padded = self.size + self.before + self.after
        if self.kernel <= padded:
            told = f"got {self.dilation}, with which a kernel_size of {self.kernel} covers {self.span}"
            return f"dilation must let the kernel fit the padded input of {padded} samples, {told}"
        return f"kernel_size must fit the padded input of {padded} samples, got a kernel that covers {self.span}"

    @property
    def windows(self) -> int:
        return (self.size + self.before + self.after - self.span) // self.stride + 1


class Channels(NamedTuple):
    """Groups, channels in and channels out; the last two are depthwise."""

    groups: int
    inputs: int
    outputs: int


ONE_AXIS = [Axis(*row) for row in product(range(1, 8), range(1, 5), range(1, 4), range(3), range(3), range(1, 4))]
CHANNELS = [Channels(*row) for row in [(1, 1, 1), (1, 2, 3), (2, 4, 2), (3, 3, 3), (3, 3, 6)]]
AXIS_TEXT = "sizes 1 to 7, kernels 1 to 4, strides 1 to 3, paddings 0 to 2 on each side, dilations 1 to 3"
CHANNELS_TEXT = "(groups, channels in, out) = (1,1,1), (1,2,3), (2,4,2), (3,3,3), (3,3,6)"


def whole(fitting: bool = True) -> Iterator[tuple[Axis, Channels]]:
    """The whole box of one axis; those that do not fit are refused, and counted apart."""
    return ((axis, channels) for axis, channels in product(ONE_AXIS, CHANNELS) if axis.fits == fitting)


@cache
def covering_of_one_axis() -> list[tuple[Axis, Channels]]:
    """Rows in which every two values of two parameters occur together, the channels being a parameter."""
    rows = list(whole())
    values = [[(value,) for value in (*axis, channels)] for axis, channels in rows]
    return [rows[number] for number in _covering(values)]


@cache
def covering(axes: int, *, size: int = 7, kernel: int = 4) -> list[tuple[Axis, ...]]:
    """Geometries of two or three axes in which every two values of parameters of two axes occur together."""
    good = [axis for axis in ONE_AXIS if axis.fits and axis.size <= size and axis.kernel <= kernel]
    rng = random.Random(axes)
    rows = [tuple(rng.choice(good) for _ in range(axes)) for _ in range(1500)]
    chosen = [rows[number] for number in _covering(rows)]
    for (a, b), (i, j) in product(combinations(range(axes), 2), product(range(len(Axis._fields)), repeat=2)):
        every = set(product({axis[i] for axis in good}, {axis[j] for axis in good}))
        assert {(row[a][i], row[b][j]) for row in chosen} == every
    return chosen


def _covering(rows: list[Any]) -> list[int]:
    """Choose rows greedily until they have every pair of values of two blocks that occurs; a row is its blocks."""

    def pairs(row: Any) -> set[Any]:
        blocks = [[(block, place, value) for place, value in enumerate(values)] for block, values in enumerate(row)]
        return {pair for left, right in combinations(blocks, 2) for pair in product(left, right)}

    have = [pairs(row) for row in rows]
    wanted = set().union(*have)
    rng = random.Random(0)
    chosen = []
    while wanted:
        best = max(rng.sample(range(len(rows)), min(60, len(rows))), key=lambda number: len(have[number] & wanted))
        if not have[best] & wanted:
            target = min(wanted)
            best = next(number for number, each in enumerate(have) if target in each)
        chosen.append(best)
        wanted -= have[best]
    return chosen


def options(*axes: Axis) -> dict[str, Any]:
    """The keyword arguments of a layer with these axes."""
    return {
        "stride": tuple(axis.stride for axis in axes),
        "padding": tuple((axis.before, axis.after) for axis in axes),
        "dilation": tuple(axis.dilation for axis in axes),
    }


def impulses(channels: int, *size: int) -> np.ndarray:
    """One image for each pixel, with a one there and zeros elsewhere."""
    pixels = channels * prod(size)
    return np.eye(pixels, dtype=np.int64).reshape(pixels, channels, *size)


def digits(*shape: int) -> np.ndarray:
    """Weights that are different powers of 4, at most 26 of them, so that doubles hold their sums."""
    assert prod(shape) <= 26
    return 4 ** np.arange(prod(shape), dtype=np.int64).reshape(shape)


def integers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def torch_pad(x: np.ndarray, axes: tuple[Axis, ...]) -> torch.Tensor:
    return torch.nn.functional.pad(tensor(x), [side for axis in axes[::-1] for side in (axis.before, axis.after)])


def torch_conv(x: np.ndarray, w: np.ndarray, axes: tuple[Axis, ...], groups: int = 1) -> np.ndarray:
    """PyTorch's convolution in doubles, padded by itself, since PyTorch pads both sides alike."""
    function = getattr(torch.nn.functional, f"conv{len(axes)}d")
    given = options(*axes)
    y = function(torch_pad(x, axes), tensor(w), None, given["stride"], 0, given["dilation"], groups)
    return y.numpy()
