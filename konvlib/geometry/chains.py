"""The geometry of a chain of convolutions without padding between them, which is one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd, prod
from numbers import Rational, Real
from typing import Any

import numpy as np

from konvlib.geometry.arguments import MOST_STEP, flag, integer, per_axis, shown
from konvlib.geometry.layers import PerAxis

LEAST_WEIGHT_AXES, MOST_AXES = 3, 3


@dataclass(frozen=True)
class Composition:
    """Two layers as one: channels ``inputs`` to ``middle`` to ``outputs``, and one entry per spatial axis for the rest.

    Tap ``a`` of the first layer and tap ``b`` of the second meet in tap ``step1 * a + step2 * b`` of the whole.
    """

    inputs: int
    middle: int
    outputs: int
    groups1: int
    groups2: int
    kernel1: tuple[int, ...]
    kernel2: tuple[int, ...]
    step1: tuple[int, ...]
    step2: tuple[int, ...]

    @property
    def axes(self) -> int:
        return len(self.kernel1)

    @property
    def groups(self) -> int:
        """The groups of the whole: no group of either layer crosses one of these."""
        return gcd(self.groups1, self.groups2)

    @property
    def kernel_size(self) -> tuple[int, ...]:
        each = zip(self.kernel1, self.kernel2, self.step1, self.step2, strict=True)
        return tuple(step1 * (taps1 - 1) + step2 * (taps2 - 1) + 1 for taps1, taps2, step1, step2 in each)

    @property
    def numbers(self) -> int:
        """How many numbers the weight of both has."""
        return prod(self.weight_shape)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.outputs, self.inputs // self.groups, *self.kernel_size)


@dataclass(frozen=True)
class Chain:
    """A chain of layers as one: its channels and groups, and one entry per spatial axis for the rest.

    ``strides``, ``dilations``, ``steps`` and ``each_groups`` have one row per layer; neighbouring taps of that layer
    lie ``steps`` taps of the whole apart.
    """

    inputs: int
    outputs: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    dilations: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, ...], ...]
    each_groups: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers the weight has."""
        return prod(self.weight_shape)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.outputs, self.inputs // self.groups, *self.kernel_size)


def kernel_axes(shape: Sequence[int], name: str, axes: int | None = None) -> int:
    """Return how many spatial axes, the last ones, an array of taps has.

    Told by the rank unless ``axes`` says it: all of one or two axes (a bare kernel), all but the first two of three to
    five (a weight of ``(C_out, C_in // groups, *kernel)``).

    Raises
    ------
    TypeError
        If ``axes`` is no integer.
    ValueError
        If there are no one to three spatial axes, or if an axis is empty.

    Examples
    --------
    >>> kernel_axes((3, 3), "k"), kernel_axes((4, 2, 5), "k"), kernel_axes((4, 2, 5), "k", axes=3)
    (2, 1, 3)
    """
    if axes is None:
        if not 1 <= len(shape) <= MOST_AXES + 2:
            raise ValueError(f"{name} must have 1 to 5 axes, got shape {tuple(shape)}")
        axes = len(shape) if len(shape) < LEAST_WEIGHT_AXES else len(shape) - 2
    else:
        axes = integer(axes, "axes", least=1)
        if axes > min(MOST_AXES, len(shape)):
            told = f"got {shown(axes)} for shape {tuple(shape)}"
            raise ValueError(f"axes must be 1 to 3, and at most the axes of {name}, {told}")
    if 0 in shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(shape)}")
    return axes


def dilate_geometry(k_shape: Sequence[int], *, step: PerAxis, axes: int | None = None) -> tuple[int, ...]:
    """Return one step per spatial axis of a kernel.

    Raises
    ------
    TypeError, ValueError
        As `kernel_axes`; also if a step is no positive integer.

    Examples
    --------
    >>> dilate_geometry((4, 2, 3, 3), step=2)
    (2, 2)
    """
    return per_axis(step, kernel_axes(k_shape, "k", axes), "step")


def compose_geometry(
    w1_shape: Sequence[int],
    w2_shape: Sequence[int],
    *,
    stride1: PerAxis = 1,
    dilation1: PerAxis = 1,
    dilation2: PerAxis = 1,
    groups1: int = 1,
    groups2: int = 1,
) -> Composition:
    """Check every argument of a composition and return its geometry.

    Parameters
    ----------
    w1_shape, w2_shape : sequence of int
        ``(C1, C0 // groups1, *kernel1)`` and ``(C2, C1 // groups2, *kernel2)``, or two bare kernels.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ranks differ, if channels and groups do not go together, or if a number is not positive.

    Examples
    --------
    >>> compose_geometry((4, 2, 3), (5, 4, 3), stride1=2).weight_shape
    (5, 2, 7)
    """
    axes = kernel_axes(w1_shape, "w1")
    kernel_axes(w2_shape, "w2")
    if len(w1_shape) != len(w2_shape):
        shapes = f"{tuple(w1_shape)} and {tuple(w2_shape)}"
        raise ValueError(f"w1 and w2 must have as many axes, got shapes {shapes}")
    middle, inputs, groups1 = _channels(w1_shape, axes, "w1", groups1, "groups1")
    outputs, taken, groups2 = _channels(w2_shape, axes, "w2", groups2, "groups2")
    if taken != middle:
        told = f"got one that takes {taken} with groups2 {groups2}"
        raise ValueError(f"w2 must take the {middle} channels that w1 gives, {told}")
    stride = per_axis(stride1, axes, "stride1")
    step1, gap2 = per_axis(dilation1, axes, "dilation1"), per_axis(dilation2, axes, "dilation2")
    step2 = tuple(s * d for s, d in zip(stride, gap2, strict=True))
    kernels = tuple(w1_shape[-axes:]), tuple(w2_shape[-axes:])
    return Composition(inputs, middle, outputs, groups1, groups2, *kernels, step1, step2)


def chain_geometry(
    *shapes: Any,
    strides: Sequence[PerAxis],
    dilations: Sequence[PerAxis],
    groups: Sequence[int],
) -> Chain:
    r"""Check every layer of a chain, and that each takes what the one before gives; return their geometry as one layer.

    .. math:: s = \prod_j s_j, \qquad D_j = d_j \prod_{i<j} s_i, \qquad r = 1 + \sum_j D_j (k_j - 1)

    The taps of layer ``j`` lie ``D_j`` input samples apart, and the whole sees ``r`` of them. Where all ``D_j`` have a
    common divisor, the whole is a smaller kernel, dilated by it.

    Parameters
    ----------
    *shapes : sequence of int or None
        Of each layer's weight and bias in turn, first layer first.
    strides, dilations, groups : sequence
        One entry per layer.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If there is no layer, if ranks differ, if channels and groups do not go together, or if a number is not
        positive.

    Examples
    --------
    >>> whole = chain_geometry((4, 2, 3), None, (5, 4, 3), (5,), strides=[2, 1], dilations=[1, 3], groups=[1, 1])
    >>> whole.weight_shape, whole.stride, whole.dilation, whole.steps
    ((5, 2, 15), (2,), (1,), ((1,), (6,)))
    """
    w_shapes, bias_shapes = shapes[::2], shapes[1::2]
    if not w_shapes:
        raise ValueError("layers must hold at least one layer, got none")
    axes, links = kernel_axes(w_shapes[0], "layers[0].weight"), []
    for number, (shape, bias_shape) in enumerate(zip(w_shapes, bias_shapes, strict=True)):
        name = f"layers[{number}]"
        kernel_axes(shape, f"{name}.weight")
        if len(shape) != len(w_shapes[0]):
            raise ValueError(
                f"{name}.weight must have {len(w_shapes[0])} axes, as layers[0].weight has, got shape {tuple(shape)}"
            )
        outputs, inputs, count = _channels(shape, axes, f"{name}.weight", groups[number], f"{name}.groups")
        if links and inputs != links[-1][1]:
            raise ValueError(
                f"{name} must take the {links[-1][1]} channels that layers[{number - 1}] gives, "
                f"got one that takes {inputs} with groups {count}"
            )
        if bias_shape is not None and tuple(bias_shape) != (outputs,):
            raise ValueError(f"{name}.bias must have shape ({outputs},), got {tuple(bias_shape)}")
        links.append((inputs, outputs, count))
    kernels = [tuple(shape[-axes:]) for shape in w_shapes]
    strides = [per_axis(stride, axes, f"layers[{number}].stride") for number, stride in enumerate(strides)]
    dilations = [per_axis(gap, axes, f"layers[{number}].dilation") for number, gap in enumerate(dilations)]
    return _as_one(links[0][0], links[-1][1], [count for *_, count in links], kernels, strides, dilations)


def _as_one(inputs: int, outputs: int, groups: list, kernels: list, strides: list, dilations: list) -> Chain:
    """The whole of a chain; every row of a list is a layer, and has one number per axis."""
    *jumps, stride = accumulate(strides, _times, initial=(1,) * len(kernels[0]))
    apart = [_times(gap, jump) for gap, jump in zip(dilations, jumps, strict=True)]
    axes = range(len(stride))
    dilation = tuple(
        gcd(*(gaps[axis] for gaps, taps in zip(apart, kernels, strict=True) if taps[axis] > 1)) or 1 for axis in axes
    )
    steps = tuple(tuple(max(gaps[axis] // dilation[axis], 1) for axis in axes) for gaps in apart)
    size = tuple(
        1 + sum(step[axis] * (taps[axis] - 1) for step, taps in zip(steps, kernels, strict=True)) for axis in axes
    )
    each = tuple(strides), tuple(dilations), steps, tuple(groups)
    return Chain(inputs, outputs, gcd(*groups), size, stride, dilation, *each)


def _times(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first * second for first, second in zip(a, b, strict=True))


def check_factor(
    k_shape: Sequence[int], *, step: int, same: bool, tolerance: float | None
) -> tuple[int, bool, float | None]:
    """Check the shape of a filter and return the arguments of its factorisation, made regular.

    A step beyond the filter is as good as the filter's length.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ``k`` has not one axis or is empty, if ``step`` is less than 2, or if ``tolerance`` is not between 0 and 1.

    Examples
    --------
    >>> check_factor((4,), step=1, same=True, tolerance=None)
    Traceback (most recent call last):
    ...
    ValueError: step must be at least 2, got 1
    """
    if len(k_shape) != 1:
        raise ValueError(f"k must have one axis, got shape {tuple(k_shape)}")
    if not k_shape[0]:
        raise ValueError(f"k must not be empty, got shape {tuple(k_shape)}")
    step = integer(step, "step", least=2, most=MOST_STEP)
    flag(same, "same")
    if tolerance is not None:
        if isinstance(tolerance, (bool, np.timedelta64)) or not isinstance(tolerance, Real):
            raise TypeError(f"tolerance must be a number, got {shown(tolerance)}")
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must be at least 0 and less than 1, got {shown(tolerance)}")
        tolerance = float(tolerance)
    return min(step, max(k_shape[0], 2)), same, tolerance


def check_taps(k: np.ndarray) -> None:
    """Check that a filter to be factored holds numbers that have factors.

    Raises
    ------
    TypeError
        If it holds Python objects that are neither integers nor fractions.
    ValueError
        If it is not finite, or zero.

    Examples
    --------
    >>> check_taps(np.zeros(4))
    Traceback (most recent call last):
    ...
    ValueError: k must have a tap that is not zero, got zeros only
    """
    wrong = [tap for tap in k if not isinstance(tap, Rational)] if k.dtype == object else []
    if wrong:
        raise TypeError(f"k must hold integers or fractions where it holds Python objects, got {wrong[0]!r}")
    if k.dtype.kind in "fc" and not np.isfinite(k).all():
        raise ValueError("k must be finite, got infinity or NaN")
    if not k.any():
        raise ValueError("k must have a tap that is not zero, got zeros only")


def _channels(shape: Sequence[int], axes: int, name: str, groups: int, label: str) -> tuple[int, int, int]:
    """How many channels a layer gives and takes (a bare kernel one and one), and its groups as Python's integer."""
    outputs, depth = (1, 1) if len(shape) == axes else shape[:2]
    groups = integer(groups, label, least=1)
    if outputs % groups:
        raise ValueError(f"{label} must divide the {outputs} channels out of {name}, got {groups}")
    return outputs, depth * groups, groups
