"""How a Konvolution is computed by ATen, in numbers and in constant tensors, made once for each geometry.

The polynomials are rescaled, ``q_n = s_n p_n``, so that one operation makes each, ``q_(n+1) = q_(n-1) + v_n t q_n``,
wherever that is exact, and kappa takes ``1 / s_n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, reduce
from math import lcm, prod
from operator import index
from typing import Any, NamedTuple

import torch
from torch import Tensor

from konvlib import runtime
from konvlib.geometry import ConvGeometry, KonvGeometry
from konvlib.konvolution.bases import Basis, get_basis
from konvlib.registration import Kept, is_plain
from konvlib.runtime import sum_dtype


class Step(NamedTuple):
    """How ``q_(n+1)`` comes from those before: ``(before q_(n-1) + (slope t + shift) q_n) / divisor``."""

    before: float
    slope: float
    shift: float
    divisor: float


class Plan(NamedTuple):
    """How a Konvolution is computed, in numbers.

    ``inner`` is the layer of the expanded input: ``layer``, or, where the input is padded before it is expanded, one
    without padding. ``masked`` says whether padding contributes nothing. Only `gradients` use the lengths in here.
    """

    layer: ConvGeometry
    inner: ConvGeometry
    masked: bool
    steps: tuple[Step, ...]
    scales: tuple[float, ...]
    squash: str


JOINED = 1 << 14
"""Up to how many numbers a table has of which output sees which tap, over all axes together."""


class Constants(NamedTuple):
    """The tensors of a plan: ``1 / s_n``, a one, and which outputs see which taps, if padding is masked.

    ``sees`` has a table ``(taps, outputs)`` for each axis, or one for all axes, ``(taps, *output_size)``.
    """

    scale: Tensor
    one: Tensor
    sees: tuple[Tensor, ...] | None


def plan_of(given: KonvGeometry, basis: str, squash: str = "none") -> Plan:
    """Return the plan of a Konvolution.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> plan = plan_of(konv_geometry((1, 1, 3), (1, 3, 1, 2), axes=1, padding=1), "chebyshev")
    >>> plan.steps, plan.scales, plan.masked
    ((Step(before=0.0, slope=1.0, shift=0.0, divisor=1.0), Step(before=1.0, slope=-2.0, shift=0.0, divisor=1.0)), \
(1.0, -1.0), True)
    """
    degree = index(given.degree)  # a number, even where lengths are symbols
    layer, steps, scales = given.layer, *_rescaled(basis, get_basis(basis).number, degree)
    masked = given.pads_with_zeros and given.pad == "basis"
    if masked or not any(layer.sides):
        return Plan(layer, layer, masked, steps, scales, squash)
    return Plan(layer, layer.of_padded(), masked, steps, scales, squash)


def constants_of(plan: Plan, x: Tensor) -> Constants:
    """Return the tensors of a plan for an input; they are kept if they belong to no transform, no trace and no graph.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x = torch.ones(1, 1, 3)
    >>> constants_of(plan_of(konv_geometry(x.shape, (1, 3, 1, 2), axes=1, padding=1), "chebyshev"), x)
    Constants(scale=tensor([[[ 1.]],
    <BLANKLINE>
            [[-1.]]]), one=tensor([1.]), sees=(tensor([[0., 1., 1., 1.],
            [1., 1., 1., 0.]]),))
    """
    sharded = type(x) in runtime.SHARDED
    make = _kept if sharded or is_plain(x) else _made
    constants = make(plan.layer, plan.masked, plan.scales, x.shape[2:], sum_dtype(x.dtype), x.device)
    return runtime.replicated(constants, x) if sharded else constants


@Kept
def _kept(*arguments: Any) -> Constants:
    """As `_made`; small tables are joined to one, so that the map is one product."""
    with torch.inference_mode(False), torch.no_grad():
        constants = _made(*arguments)
        if constants.sees is None or prod([table.numel() for table in constants.sees]) > JOINED:
            return constants
        outputs = [table.shape[1] for table in constants.sees]
        return constants._replace(sees=(reduce(torch.kron, constants.sees).reshape(-1, *outputs),))


def _made(
    layer: ConvGeometry,
    masked: bool,
    scales: tuple[float, ...],
    size: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
) -> Constants:
    scale = torch.tensor(scales, dtype=dtype, device=device).reshape(-1, *(1,) * (layer.axes + 1))
    one, sees = torch.ones(1, dtype=dtype, device=device), None
    if masked:
        sees = tuple([_sees(layer, axis, size[axis], device).to(dtype) for axis in range(layer.axes)])
    return Constants(scale, one, sees)


def _sees(layer: ConvGeometry, axis: int, size: int, device: torch.device) -> Tensor:
    """``(taps, outputs)``: whether a tap of an output lies on a sample rather than on padding."""
    kernel, stride, gap = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
    before, after = layer.padding[axis]
    outputs = (size + before + after - gap * (kernel - 1) - 1) // stride + 1
    taps = torch.arange(kernel, device=device).unsqueeze(1) * gap
    at = taps + (torch.arange(outputs, device=device) * stride - before)
    return (at >= 0) & (at < size)


@torch.compiler.assume_constant_result
def _rescaled(basis: str, number: int, degree: int) -> tuple[tuple[Step, ...], tuple[float, ...]]:
    """``number`` is the basis's: a graph is compiled anew where the name has come to mean another."""
    return rescaled(get_basis(basis), degree)


@lru_cache(256)
def rescaled(basis: Basis, degree: int) -> tuple[tuple[Step, ...], tuple[float, ...]]:
    """Return the steps from degree to degree, and ``1 / s_n`` for the degrees from 1 on.

    A degree is rescaled so that the one before the last enters its step as it is, unless a number would not be a
    fraction over a power of two: then the sums would be rounded where those of the definition are exact. There the
    step is that of the definition, in whole numbers, divided last.

    Examples
    --------
    >>> steps, scales = rescaled(get_basis("legendre"), 3)
    >>> scales
    (1.0, -0.5, 1.0)
    >>> steps[2]
    Step(before=-4.0, slope=-5.0, shift=0.0, divisor=6.0)
    """
    steps, s = [], [Fraction(1)]
    for n in range(degree):
        a, b, c = basis.step(n)
        c = c if n else Fraction(0)
        wanted = -s[n - 1] / c if c else s[n] / a
        numbers = (-c * wanted / s[n - 1] if c else c, a * wanted / s[n], b * wanted / s[n])
        divisor = 1
        if not all(map(_is_exact, (1 / wanted, *numbers))):
            numbers = (-c / s[n - 1] if c else c, a / s[n], b / s[n])
            wanted, divisor = Fraction(1), lcm(*[number.denominator for number in numbers])
        steps.append(Step(*[float(number * divisor) for number in numbers], float(divisor)))
        s.append(wanted)
    return tuple(steps), tuple([float(1 / scale) for scale in s[1:]])


def _is_exact(number: Fraction) -> bool:
    """Whether float32 holds it: a fraction over a power of two, with few digits."""
    return abs(number.numerator) < 2**24 and number.denominator in (1, 2, 4, 8, 16, 32, 64, 128)
