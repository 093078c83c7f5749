"""The geometry of what a layer is as a matrix: the matrix itself, im2col and its adjoint, a circular layer's spectrum.

Functions here serve one to three axes; how many there are is told by the operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from konvlib.geometry.arguments import MOST_SAMPLES, is_sequence, per_axis, shown
from konvlib.geometry.layers import ConvGeometry, Padding, PerAxis, checked_shape, conv_geometry, weight_axes

RANKS = (1, 2, 3)


def spatial_axes(shape: Sequence[int], name: str, channels: str = "N, C") -> int:
    """Return how many spatial axes an array of this shape has, after the two axes ``channels``.

    Raises
    ------
    ValueError
        If there are not one to three of them.

    Examples
    --------
    >>> spatial_axes((1, 3, 8, 9), "x")
    2
    """
    if len(shape) - 2 not in RANKS:
        raise ValueError(f"{name} must have 3 to 5 axes ({channels}, *size), got shape {tuple(shape)}")
    return len(shape) - 2


def axis_sizes(value: int | Sequence[int], name: str) -> tuple[int, ...]:
    """Return the sizes of one to three axes; one integer is the size of one axis.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If there are not one to three sizes, or if one is less than 1.

    Examples
    --------
    >>> axis_sizes(5, "size"), axis_sizes((4, 5), "size")
    ((5,), (4, 5))
    """
    if not is_sequence(value):
        return per_axis(value, 1, name, most=MOST_SAMPLES)
    if len(value) not in RANKS:
        raise ValueError(f"{name} must be one to three integers, one per axis, got {shown(tuple(value))}")
    return per_axis(value, len(value), name, most=MOST_SAMPLES)


def matrix_geometry(
    w_shape: Sequence[int],
    *,
    input_shape: Sequence[int],
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> ConvGeometry:
    """Return the geometry of a convolution of one input of shape ``(C, *size)``.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if ``input_shape`` is no such shape.

    Examples
    --------
    >>> matrix_geometry((1, 1, 3, 3), input_shape=(1, 4, 4)).output_size
    (2, 2)
    """
    if not is_sequence(input_shape) or len(input_shape) - 1 not in RANKS:
        got = tuple(input_shape) if is_sequence(input_shape) else input_shape
        raise ValueError(f"input_shape must be (C, *size) with one to three sizes, got {shown(got)}")
    shape = per_axis(input_shape, len(input_shape), "input_shape", most=MOST_SAMPLES)
    axes = len(shape) - 1
    checked_shape(w_shape, "w", axes, f"{weight_axes(axes, 'C_out, C_in // groups')} for input_shape {shape}")
    return conv_geometry(
        (1, *shape),
        w_shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def check_sparse_dtype(dtype: Any, name: str) -> None:
    """Check that sparse arrays compute with a dtype of NumPy or torch: not with Python objects.

    Raises
    ------
    TypeError
        If they do not.

    Examples
    --------
    >>> check_sparse_dtype(np.dtype(np.int8), "w")
    """
    kind = str(dtype).removeprefix("torch.")
    if kind == "object":
        raise TypeError(f"{name} must have a dtype that sparse arrays multiply, got {kind}; use int64 or float64")


def most_entries(layer: ConvGeometry) -> int:
    """Return a number of entries that the matrix of a layer does not exceed: taps of windows that meet the input.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dense = conv_geometry((1, 1, 10), (1, 1, 4), axes=1)
    >>> padded = conv_geometry((1, 1, 1), (1, 1, 9), axes=1, padding=8)
    >>> most_entries(dense), most_entries(padded)
    (28, 9)
    """
    count = layer.out_channels * layer.weight_shape[1]
    each = zip(layer.output_size, layer.kernel_size, layer.input_size, layer.stride, layer.dilation, strict=True)
    for windows, taps, size, step, gap in each:
        count *= min(windows * min(taps, -(-size // gap)), taps * min(windows, -(-size // step)))
    return count


def im2col_geometry(
    x_shape: Sequence[int],
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> ConvGeometry:
    """Return the geometry of the windows of ``x``, as of a convolution with one output channel.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`.

    Examples
    --------
    >>> im2col_geometry((1, 3, 8, 9), kernel_size=3, stride=2).output_size
    (3, 4)
    """
    axes = spatial_axes(x_shape, "x")
    kernel = per_axis(kernel_size, axes, "kernel_size")
    w_shape = (1, max(1, x_shape[1]), *kernel)
    return conv_geometry(x_shape, w_shape, axes=axes, stride=stride, padding=padding, dilation=dilation)


def col2im_geometry(
    cols_shape: Sequence[int],
    *,
    output_size: int | Sequence[int],
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> ConvGeometry:
    """Return the geometry of the `im2col` that gives columns of this shape from images of ``output_size``.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if the columns have another number of axes, rows or columns than that.

    Examples
    --------
    >>> col2im_geometry((1, 27, 42), output_size=(8, 9), kernel_size=3).input_shape
    (1, 3, 8, 9)
    """
    size = axis_sizes(output_size, "output_size")
    kernel = per_axis(kernel_size, len(size), "kernel_size")
    if len(cols_shape) != 3:
        raise ValueError(f"cols must have 3 axes (N, C * prod(kernel_size), L), got shape {tuple(cols_shape)}")
    batch, rows, windows = cols_shape
    if rows == 0 or rows % prod(kernel):
        wanted = f"{prod(kernel)} rows per channel, one per tap of kernel_size {kernel}"
        raise ValueError(
            f"cols must have {wanted}, got {rows}; if cols is right, then output_size or kernel_size is not"
        )
    x_shape = (batch, rows // prod(kernel), *size)
    layer = im2col_geometry(x_shape, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
    if windows != prod(layer.output_size):
        told = "if cols is right, then output_size, kernel_size, stride, padding or dilation is not"
        wanted = f"{prod(layer.output_size)} columns, one per window of {layer.output_size}"
        raise ValueError(f"cols must have {wanted}, got {windows}; {told}")
    return layer


def circulant_geometry(w_shape: Sequence[int], *, shape: PerAxis) -> tuple[int, ...]:
    """Return the sizes of the images on which a circular layer with a weight of this shape acts.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If ``w`` has the wrong rank or is empty, or if the number of sizes differs from its axes.

    Examples
    --------
    >>> circulant_geometry((1, 1, 3, 3), shape=(8, 9))
    (8, 9)
    """
    axes = spatial_axes(w_shape, "w", "C_out, C_in")
    if 0 in w_shape:
        raise ValueError(f"w must not be empty, got shape {tuple(w_shape)}")
    return per_axis(shape, axes, "shape", most=MOST_SAMPLES)


def check_spectral_dtype(dtype: Any, name: str) -> None:
    """Check that arrays of a dtype have singular values.

    Raises
    ------
    TypeError
        If they hold Python objects.

    Examples
    --------
    >>> check_spectral_dtype(np.dtype(np.int8), "w")
    """
    if str(dtype) == "object":
        raise TypeError(f"{name} must hold machine numbers for singular values, got dtype object")


def check_finite(finite: bool, name: str) -> None:
    """Check that what singular values are taken of was found finite.

    Raises
    ------
    ValueError
        If it was not.

    Examples
    --------
    >>> check_finite(True, "w")
    """
    if not finite:
        raise ValueError(f"{name} must be finite for singular values, got NaN or infinity")


def spectral_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of singular values: float32 for float32 and complex64, float64 for all else.

    Examples
    --------
    >>> spectral_dtype(np.dtype(np.int8)), spectral_dtype(np.dtype(np.complex64))
    (dtype('float64'), dtype('float32'))
    """
    return np.dtype(np.float32 if dtype.char in "fF" else np.float64)
