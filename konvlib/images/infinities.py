"""Layers of operands that may hold NaN or infinity: the outputs that no such product reaches stay what they are.

Products of spectra, and columns that serve several outputs, spread what is not finite to outputs that no window shows
it. So the operands are convolved with zeros in its place, and where it belongs is found by counting.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry
from konvlib.images import sums
from konvlib.images.taps import by_taps
from konvlib.images.windows import grouped


def convolve(x: np.ndarray, w: np.ndarray, layer: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """Return the layer of floats, complex numbers or Python objects, in the dtype in which ``dtype`` is summed.

    Examples
    --------
    >>> x, w = np.array([[[np.inf, 3.0, 2.0]]]), np.array([[[2.0, 1.0]]])
    >>> convolve(x, w, geometry.conv_geometry(x.shape, w.shape, axes=1), x.dtype)
    array([[[inf,  8.]]])
    """
    held = geometry.sum_dtype(dtype, x, w, prod(layer.weight_shape[1:]))
    w = w.astype(held, copy=False)
    if held.char not in "fdFD" or not layer.batch:
        return by_taps(x.astype(held, copy=False), w, layer)
    with np.errstate(invalid="ignore", over="ignore"):
        return _of_any(x, w, layer)


def _of_any(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The layer by the quickest way, and where that is not finite, by one that is right."""
    y, direct = sums.in_floats(x, w, layer)
    if np.isfinite(y.sum()):
        return y
    finite = [bool(np.isfinite(operand).all()) for operand in (x, w)]
    if all(finite):
        return y if direct else _scaled(x, w, layer)
    if direct and finite[1]:
        return y
    return _in_parts(x, w, layer) if w.dtype.kind == "c" else _counted(x, w, layer)


def _scaled(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """The layer of finite operands, made smaller by powers of two so that no sum on the way is infinite."""
    most = np.finfo(w.dtype).maxexp // 4
    powers = [max(0, int(np.frexp(np.abs(operand).max())[1]) - most) for operand in (x, w)]
    small = [
        operand.astype(w.dtype) * w.real.dtype.type(2.0**-power) for operand, power in zip((x, w), powers, strict=True)
    ]
    y = sums.in_floats(*small, layer)[0]
    for power in powers:
        y *= w.real.dtype.type(2.0**power)
    return y


def _in_parts(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """A complex layer as two real ones, of real and imaginary parts as channels side by side."""
    samples = grouped(x, w, layer)[0]
    parts = np.concatenate((samples.real, samples.imag), axis=2).reshape(layer.batch, -1, *layer.input_size)
    layer = replace(layer, in_channels=2 * layer.in_channels)
    y = np.empty(layer.output_shape, dtype=w.dtype)
    y.real = _of_any(parts, np.concatenate((w.real, -w.imag), axis=1), layer)
    y.imag = _of_any(parts, np.concatenate((w.imag, w.real), axis=1), layer)
    return y


def _counted(x: np.ndarray, w: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    r"""The layer of the finite samples and weights, and at each output that others reach, what their products sum to.

    It is :math:`\pm\infty` if all ``count`` of them are infinite and of one sign, so that their signs sum to
    :math:`\pm` ``count``; a product that is NaN, as with zero, has no sign. All else is NaN.
    """
    good_x, good_w = np.isfinite(x), np.isfinite(w)
    y = _of_any(np.where(good_x, x, x.dtype.type(0)), np.where(good_w, w, w.dtype.type(0)), layer)
    sign_x, sign_w = (np.nan_to_num(np.sign(operand.astype(w.dtype, copy=False))).astype(np.int8) for operand in (x, w))
    count, signs = np.zeros((2, *layer.output_shape), dtype=np.int32)
    if not good_x.all():
        each = replace(layer, out_channels=layer.groups)
        shown = sums.in_integers(~good_x, np.ones(each.weight_shape, bool), each, count.dtype)
        count += np.repeat(shown, layer.out_channels // layer.groups, axis=1)
        signs += sums.in_integers(sign_x * ~good_x, sign_w, layer, signs.dtype)
    if not good_w.all():
        count += sums.in_integers(good_x, ~good_w, layer, count.dtype)
        signs += sums.in_integers(sign_x * good_x, sign_w * ~good_w, layer, signs.dtype)
    hit = count > 0
    y[hit] = np.where(np.abs(signs[hit]) == count[hit], np.copysign(np.inf, signs[hit]), np.nan)
    return y
