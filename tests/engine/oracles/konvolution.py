"""Konvolution by the recipe, in PyTorch and in doubles: expand the input, pad, convolve; its autograd for gradients.

The polynomials come from `numpy.polynomial`, in powers of x and by Horner's rule, not from our recurrences. At small
integers every number here is a sum of few powers of two, Legendre's too, so that doubles are exact.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev, hermite_e, legendre, polynomial

from tests.engine import boxes
from tests.engine.oracles.gradients import MODES, call, sizes
from tests.engine.oracles.gradients import pad as padded

BASES = ("monomial", "chebyshev", "chebyshev2", "legendre", "hermite")
DEGREES, PADS = (0, 1, 2, 3), ("basis", "input")
CHOICES = list(product(DEGREES, BASES, PADS))
"""Degree, basis and what is padded."""


@cache
def powers(basis, n):
    """The coefficients of a basis's polynomial ``n`` in powers of x, by NumPy; U_n is the slope of T_{n+1}/(n+1)."""
    if basis == "chebyshev2":
        return polynomial.polyder(powers("chebyshev", n + 1)) / (n + 1)
    unit = np.eye(n + 1)[n]
    if basis == "legendre":
        return np.round(legendre.leg2poly(unit) * 2**n) / 2**n  # NumPy's are rounded; the exact have such denominators
    tables = {"chebyshev": chebyshev.cheb2poly, "hermite": hermite_e.herme2poly}
    return tables[basis](unit) if basis in tables else unit


def evaluate(basis, n, x):
    """By Horner's rule."""
    value = torch.zeros_like(x)
    for coefficient in powers(basis, n)[::-1]:
        value = value * x + coefficient
    return value


def expand(basis, x, degree, groups=1):
    """Channel by channel as printed: ``ch(delta, c) = delta * C + c`` in each group."""
    p, depth = [evaluate(basis, n, x) for n in range(degree + 1)], x.shape[1] // groups
    order = product(range(groups), range(degree + 1), range(depth))
    return torch.stack([p[delta][:, g * depth + c] for g, delta, c in order], 1)


class Row(NamedTuple):
    """A geometry with its operands and what PyTorch makes of them."""

    axes: tuple[boxes.Axis, ...]
    options: dict[str, Any]
    x: np.ndarray
    kappa: np.ndarray
    bias: np.ndarray
    dy: np.ndarray
    y: np.ndarray
    dx: np.ndarray
    dkappa: np.ndarray


def recipe(x, kappa, bias, axes, *, basis, groups=1, padding_mode="zeros", pad="basis"):
    """Tensors in, a tensor out."""
    degree = kappa.shape[1] - 1
    if pad == "input":
        expanded = expand(basis, padded(x, axes, padding_mode), degree, groups)
    else:
        expanded = padded(expand(basis, x, degree, groups), axes, padding_mode)
    weight = kappa.reshape(len(kappa), -1, *kappa.shape[3:])
    stride, dilation = tuple(axis.stride for axis in axes), tuple(axis.dilation for axis in axes)
    return getattr(torch.nn.functional, f"conv{len(axes)}d")(expanded, weight, bias, stride, 0, dilation, groups)


def operands(axes, channels, degree, *, batch=2):
    """Input, coefficients, bias and an output's gradient of small integers."""
    x = boxes.integers(batch, channels.inputs, *(axis.size for axis in axes)) // 2
    depth = channels.inputs // channels.groups
    kappa = boxes.integers(channels.outputs, degree + 1, depth, *(axis.kernel for axis in axes), seed=1)
    dy = boxes.integers(batch, channels.outputs, *(axis.windows for axis in axes), seed=2)
    return x, kappa, boxes.integers(channels.outputs, seed=3), dy


def row(axes, channels, degree, *, batch=2, **options):
    x, kappa, bias, dy = operands(axes, channels, degree, batch=batch)
    options = {"groups": channels.groups} | options
    tensors = [boxes.tensor(array).requires_grad_() for array in (x, kappa)]
    y = recipe(*tensors, boxes.tensor(bias), axes, **options)
    dx, dkappa = torch.autograd.grad(y, tensors, boxes.tensor(dy), materialize_grads=True, allow_unused=True)
    results = (tensor.detach().numpy() for tensor in (y, dx, dkappa))
    return Row(axes, options | boxes.options(*axes), x, kappa, bias, dy, *results)


def forward(backend, it):
    return call(backend, "konv#d", len(it.axes), it.x, it.kappa, it.bias, **it.options)


def grads(backend, it):
    """The backend's gradients by input and coefficients."""
    count, kernel_size = len(it.axes), sizes(it.axes)[1]
    dx = call(backend, "konv#d_input_grad", count, it.dy, it.x, it.kappa, **it.options)
    degree = it.kappa.shape[1] - 1
    return dx, call(backend, "konv#d_kappa_grad", count, it.x, it.dy, degree=degree, **kernel_size, **it.options)


@cache
def rows_of_one_axis():
    """A covering of the box of one axis, three times, each time with every degree, basis and padding."""
    fitting = [(axis, channels) for axis, channels in boxes.covering_of_one_axis() if axis.fits]
    rows = []
    for turn, (number, (axis, channels)) in product((0, 1, 2), enumerate(fitting)):
        degree, basis, pad = CHOICES[(number + 13 * turn) % len(CHOICES)]
        rows.append(row((axis,), channels, degree, basis=basis, pad=pad))
    return rows


@cache
def rows_of_more_axes():
    """Coverings of two and three axes."""
    rows = []
    for number, axes in enumerate([*boxes.covering(2, size=5, kernel=3), *boxes.covering(3, size=3, kernel=2)[::2]]):
        degree, basis, pad = CHOICES[7 * number % len(CHOICES)]
        rows.append(row(axes, boxes.CHANNELS[number % 3], degree, batch=1, basis=basis, pad=pad))
    return rows


@cache
def rows_of_padding_modes():
    """Paddings up to several times as wide as the image, with all that ``pad`` can be."""
    rows = []
    box = product(tuple(MODES)[1:], (1, 2, 4), (0, 1, 3, 9), (0, 2, 3, 7))
    for number, (mode, size, before, after) in enumerate(box):
        axes = (boxes.Axis(size, 2, 1 + number % 2, before, after, 1), boxes.Axis(3, 2, 1, after % 2, before % 3, 1))
        for pad in PADS if axes[0].fits else ():
            choice = {"basis": BASES[number % 5], "pad": pad, "padding_mode": mode}
            rows.append(row(axes, boxes.CHANNELS[number % 3], 1 + number % 3, **choice))
    return rows
