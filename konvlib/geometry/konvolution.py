"""What Konvolution asks of the geometry beyond a convolution: degrees, coefficients, bases, what is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import isnan, prod
from numbers import Rational
from typing import Any

from konvlib.geometry.arguments import check_channels, integer, one_of, shown, whole
from konvlib.geometry.gradients import weight_grad_geometry
from konvlib.geometry.layers import (
    AXIS_NAMES,
    ConvGeometry,
    Padding,
    PerAxis,
    check_bias,
    check_output_grad,
    checked_shape,
    conv_geometry,
)

PADS = ("basis", "input")
MOST_DEGREE = 2**16
"""Polynomials of higher degrees say nothing in any dtype, and would be evaluated one after the other."""


@dataclass(frozen=True)
class KonvGeometry:
    """A Konvolution: the convolution of ``x`` that visits the same samples, the degree, and what is padded."""

    layer: ConvGeometry
    degree: int
    pad: str
    pads_with_zeros: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Whether padding holds zeros, of the input or of its basis, rather than samples.
        zeros = self.layer.padding_mode == "zeros" and any(self.layer.sides)
        object.__setattr__(self, "pads_with_zeros", zeros)

    @cached_property
    def numbers(self) -> int:
        """How many numbers there are in the input with its padding, the output and the coefficients."""
        return self.layer.numbers + prod(self.kappa_shape)

    @property
    def kappa_shape(self) -> tuple[int, ...]:
        out_channels, *rest = self.layer.weight_shape
        return (out_channels, self.degree + 1, *rest)


def konv_geometry(
    x_shape: Sequence[int],
    kappa_shape: Sequence[int],
    bias_shape: Sequence[int] | None = None,
    *,
    axes: int,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> KonvGeometry:
    """Check every argument of a Konvolution and return its geometry.

    Parameters
    ----------
    x_shape, kappa_shape : sequence of int
        ``(N, C, *size)`` and ``(C_out, degree + 1, C // groups, *kernel)``.
    bias_shape : sequence of int, optional
        ``(C_out,)``.
    axes : {1, 2, 3}
        How many spatial axes the called function has.
    stride, padding, dilation, groups, padding_mode, pad
        As in `konvlib.konv2d`.

    Raises
    ------
    TypeError, ValueError
        As `konvlib.geometry.conv_geometry`; also if ``kappa`` has another shape, or if ``pad`` is unknown.

    Examples
    --------
    >>> konv = konv_geometry((1, 3, 8, 9), (4, 5, 3, 3, 3), axes=2, stride=2, padding=1)
    >>> konv.degree, konv.layer.output_size, konv.kappa_shape
    (4, (4, 5), (4, 5, 3, 3, 3))
    """
    pad = one_of(pad, "pad", PADS)
    _, in_channels, *_ = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    out_channels, terms, depth, *kernel = _kappa_shape(kappa_shape, axes)
    groups = check_channels(in_channels, out_channels, groups)
    if depth * groups != in_channels:
        wanted = f"{in_channels} // {groups} = {in_channels // groups} channels"
        told = f"got {depth} in shape {tuple(kappa_shape)} with groups {groups}"
        raise ValueError(f"kappa must have {wanted} on axis 2, {told}")
    check_bias(bias_shape, out_channels, "kappa")
    layer = conv_geometry(
        x_shape,
        (out_channels, depth, *kernel),
        bias_shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )
    return KonvGeometry(layer, terms - 1, pad)


def konv_input_grad_geometry(
    dy_shape: Sequence[int], x_shape: Sequence[int], kappa_shape: Sequence[int], *, axes: int, **options: Any
) -> KonvGeometry:
    """Return the geometry of the Konvolution of ``x`` by ``kappa``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `konv_geometry`; also if ``dy`` has another shape than the output.

    Examples
    --------
    >>> konv_input_grad_geometry((1, 4, 3), (1, 2, 7), (4, 3, 2, 3), axes=1, stride=2).layer.input_shape
    (1, 2, 7)
    """
    checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    konv = konv_geometry(x_shape, kappa_shape, axes=axes, **options)
    check_output_grad(dy_shape, konv.layer.output_shape)
    return konv


def konv_kappa_grad_geometry(
    x_shape: Sequence[int],
    dy_shape: Sequence[int],
    *,
    axes: int,
    degree: int,
    kernel_size: PerAxis,
    pad: str = "basis",
    **options: Any,
) -> KonvGeometry:
    """Return the geometry of the Konvolution of ``x`` to a degree by kernels of ``kernel_size``, if ``dy`` fits it.

    Raises
    ------
    TypeError, ValueError
        As `konv_geometry`; also if ``degree`` is negative, or if ``dy`` has another shape than the output.

    Examples
    --------
    >>> konv_kappa_grad_geometry((1, 2, 7), (1, 4, 3), axes=1, degree=2, kernel_size=3, stride=2).kappa_shape
    (4, 3, 2, 3)
    """
    pad = one_of(pad, "pad", PADS)
    degree = checked_degree(degree)
    layer = weight_grad_geometry(x_shape, dy_shape, axes=axes, kernel_size=kernel_size, **options)
    return KonvGeometry(layer, degree, pad)


def checked_degree(degree: Any) -> int:
    """Return a degree as an integer of Python.

    Raises
    ------
    TypeError, ValueError
        If it is no integer from 0 to `MOST_DEGREE`.

    Examples
    --------
    >>> checked_degree(3)
    3
    """
    return integer(degree, "degree", least=0, most=MOST_DEGREE)


def check_expansion(x_shape: Sequence[int], groups: int) -> int:
    """Return the groups, if an input has channels to expand, and if they fall into so many groups.

    Raises
    ------
    TypeError, ValueError
        If it has fewer than two axes, or if ``groups`` does not divide its channels.

    Examples
    --------
    >>> check_expansion((7,), 1)
    Traceback (most recent call last):
    ...
    ValueError: x must have axes (N, C, *size), got shape (7,)
    """
    if len(x_shape) < 2:
        raise ValueError(f"x must have axes (N, C, *size), got shape {tuple(x_shape)}")
    channels, groups = x_shape[1], integer(groups, "groups", least=1)
    if channels % groups:
        raise ValueError(f"in_channels must be divisible by groups, got {channels} channels in {groups} groups")
    return groups


def check_new_basis(name: Any, recurrence: Any, domain: Any, known: Sequence[str]) -> tuple[float, float]:
    """Check what a new basis is made of, and return its domain.

    Raises
    ------
    TypeError
        If ``name`` is no string, ``recurrence`` no function, or ``domain`` no pair of numbers.
    ValueError
        If the name is taken, or if the domain is empty.

    Examples
    --------
    >>> check_new_basis("laguerre", lambda n: (1, 0, 0), (0, float("inf")), ["monomial"])
    (0.0, inf)
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {shown(name)}")
    if name in known:
        raise ValueError(f"name must be new, got {name!r}; there are {', '.join(known)}")
    if not callable(recurrence):
        raise TypeError(f"recurrence must be a function of n, got {shown(recurrence)}")
    try:
        low, high = map(float, domain)
    except Exception:  # whatever else it is, it is no pair of numbers
        raise TypeError(f"domain must be a pair (low, high) of numbers, got {shown(domain)}") from None
    if isnan(low) or isnan(high) or low >= high:
        raise ValueError(f"domain must have low < high, got {shown(domain)}")
    return low, high


def recurrence_step(name: str, n: int, step: Any) -> tuple[Fraction, Fraction, Fraction]:
    """Return ``(a_n, b_n, c_n)`` of a basis as fractions, once they are found good.

    Raises
    ------
    TypeError
        If they are not three integers or fractions; floats are refused, since few are what they were meant to be.
    ValueError
        If ``a_n`` is zero: then the degree would not rise, and the polynomials would be no basis.

    Examples
    --------
    >>> recurrence_step("legendre", 1, (Fraction(3, 2), 0, Fraction(1, 2)))
    (Fraction(3, 2), Fraction(0, 1), Fraction(1, 2))
    """
    if not isinstance(step, tuple) or len(step) != 3 or not all(isinstance(number, Rational) for number in step):
        fits = f"integers or fractions (a_{n}, b_{n}, c_{n})"
        raise TypeError(f"recurrence of basis {name!r} must give {fits}, got {shown(step)}")
    if step[0] == 0:
        raise ValueError(f"recurrence of basis {name!r} must have a_{n} other than 0, got {step!r}")
    a, b, c = map(Fraction, step)
    return a, b, c


def check_samples(shape: Sequence[int], degree: int) -> None:
    """Check that there are as many samples as polynomials, without which no condition number is finite.

    Raises
    ------
    ValueError
        If there are fewer.

    Examples
    --------
    >>> check_samples((3,), 3)
    Traceback (most recent call last):
    ...
    ValueError: x must have at least degree + 1 = 4 samples, got 3
    """
    if prod(shape) <= degree:
        raise ValueError(f"x must have at least degree + 1 = {degree + 1} samples, got {prod(shape)}")


def kappa_degree(shape: Sequence[int], axis: int) -> tuple[int, int]:
    """Return the degree of coefficients of which one axis runs over degrees, and that axis as an integer of Python.

    Raises
    ------
    TypeError, ValueError
        If there is no such axis, or if it is empty.

    Examples
    --------
    >>> kappa_degree((4, 3, 2, 5), 1)
    (2, 1)
    """
    axis = integer(axis, "axis", least=0)
    if axis >= len(shape):
        raise ValueError(f"axis must be one of the {len(shape)} of kappa, got {axis}")
    if shape[axis] == 0:
        raise ValueError(f"kappa must have a degree on axis {axis}, got shape {tuple(shape)}")
    return shape[axis] - 1, axis


def _kappa_shape(shape: Sequence[int], axes: int) -> tuple[int, ...]:
    names = ("C_out", "degree + 1", "C_in // groups", *["*kernel_size" if axes > 1 else "kernel_size"])
    if len(shape) != axes + 3:
        raise ValueError(f"kappa must have {axes + 3} axes ({', '.join(names)}), got shape {tuple(shape)}")
    for axis, length in enumerate(shape):
        if length < 1:
            named = (*names[:3], *["kernel_size"] * axes)[axis]
            raise ValueError(f"kappa must not be empty on axis {axis} ({named}), got shape {tuple(shape)}")
    return tuple(whole(length) for length in shape)
