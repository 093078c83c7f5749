"""The geometry of a transposed convolution's operands, of the zeros inserted into them, and of overlapping taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from konvlib.geometry.arguments import as_array, per_axis
from konvlib.geometry.layers import ConvGeometry, Padding, PerAxis, conv_transpose_geometry
from konvlib.geometry.matrices import axis_sizes, spatial_axes


def conv_transpose_arguments(
    x: Any, w: Any, bias: Any = None, *, axes: int | None = None, **arguments: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, ConvGeometry]:
    """Return the operands as arrays of the result's dtype, and the geometry of the convolution that is transposed.

    Parameters
    ----------
    x, w, bias : array_like
        As in `konvlib.conv_transpose2d`.
    axes : {1, 2, 3}, optional
        How many spatial axes the called function has; by default as many as ``x`` has.
    **arguments
        Those of `conv_transpose_geometry`.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose_geometry`; also if an operand holds no numbers.

    Examples
    --------
    >>> x, w, bias, layer = conv_transpose_arguments([[[1, 3]]], [[[0.5, 2]]])
    >>> x.dtype, layer.input_shape
    (dtype('float64'), (1, 1, 3))
    """
    named = ((x, "x"), (w, "w"), (bias, "bias"))
    arrays = [as_array(value, name) for value, name in named if value is not None or name != "bias"]
    axes = spatial_axes(arrays[0].shape, "x") if axes is None else axes
    layer = conv_transpose_geometry(*(array.shape for array in arrays), axes=axes, **arguments)
    dtype = np.result_type(*arrays)
    x, w, *rest = (array.astype(dtype, copy=False) for array in arrays)
    return x, w, rest[0] if rest else None, layer


def overlap_geometry(
    size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> ConvGeometry:
    """Return the geometry of a transposed convolution from one channel of ``size`` samples to one.

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose_geometry`.

    Examples
    --------
    >>> overlap_geometry((3, 5), 3, stride=2).input_size
    (7, 11)
    """
    given = axis_sizes(size, "size")
    kernel = per_axis(kernel_size, len(given), "kernel_size")
    return conv_transpose_geometry(
        (1, 1, *given),
        (1, 1, *kernel),
        axes=len(given),
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )


def inserted_size(x_shape: Sequence[int], stride: PerAxis) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides, one per axis, and the sizes once ``stride - 1`` zeros lie between samples.

    Raises
    ------
    TypeError, ValueError
        As `per_axis`; also if ``x`` is empty or has the wrong rank.

    Examples
    --------
    >>> inserted_size((1, 1, 3, 4), (2, 3))
    ((2, 3), (5, 10))
    """
    axes = spatial_axes(x_shape, "x")
    if 0 in x_shape[1:]:
        raise ValueError(f"x must not be empty, got shape {tuple(x_shape)}")
    steps = per_axis(stride, axes, "stride")
    return steps, tuple((n - 1) * s + 1 for n, s in zip(x_shape[2:], steps, strict=True))
