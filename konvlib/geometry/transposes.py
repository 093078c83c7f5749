"""The geometry of a transposed convolution, of the zeros inserted into its operand, and of overlapping taps."""

from __future__ import annotations

from collections.abc import Sequence

from konvlib.geometry.arguments import check_channels, per_axis
from konvlib.geometry.layers import (
    AXIS_NAMES,
    ConvGeometry,
    Padding,
    PerAxis,
    check_bias,
    checked_shape,
    least_strides,
    weight_axes,
)
from konvlib.geometry.matrices import axis_sizes, spatial_axes
from konvlib.geometry.sizes import conv_transpose_size, paddings


def conv_transpose_geometry(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    bias_shape: Sequence[int] | None = None,
    *,
    axes: int | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> ConvGeometry:
    """Check every argument of a transposed convolution and return the geometry of the convolution that it transposes.

    Its input is the transposed convolution's output: ``x_shape`` is the result's ``output_shape``.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        ``(N, C_in, *size)`` and ``(C_in, C_out // groups, *kernel)``.
    bias_shape : sequence of int, optional
        ``(C_out,)``.
    axes : {1, 2, 3}, optional
        How many spatial axes the called function has; by default as many as ``x`` has.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if ``output_padding`` is not less than stride or dilation.

    Examples
    --------
    >>> conv_transpose_geometry((1, 4, 3, 5), (4, 2, 3, 3), axes=2, stride=2).input_shape
    (1, 2, 7, 11)
    """
    axes = spatial_axes(x_shape, "x") if axes is None else axes
    batch, in_channels, *size = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    rows, depth, *kernel = checked_shape(w_shape, "w", axes, weight_axes(axes, "C_in, C_out // groups"))
    if rows != in_channels:
        raise ValueError(f"w must have {in_channels} channels in, as x has, got {rows}")
    groups = check_channels(in_channels, in_channels, groups)
    out_channels = depth * groups
    check_bias(bias_shape, out_channels, f"w with groups {groups}")
    steps, gaps = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    extras = per_axis(output_padding, axes, "output_padding", least=0)
    pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps)
    each = zip(size, kernel, steps, pads, extras, gaps, strict=True)
    outputs = tuple(
        conv_transpose_size(n, k, stride=s, padding=p, output_padding=e, dilation=d) for n, k, s, p, e, d in each
    )
    steps = least_strides(steps, outputs, pads)
    return ConvGeometry(
        batch, out_channels, in_channels, groups, outputs, tuple(kernel), steps, pads, gaps, "zeros", tuple(size)
    )


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
