"""The geometry of gradients: of the layer or pooling that they belong to, if what they are given fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from konvlib.geometry.arguments import MOST_SAMPLES, MOST_STEP, check_channels, integer, per_axis
from konvlib.geometry.layers import (
    AXIS_NAMES,
    ConvGeometry,
    Padding,
    PerAxis,
    PoolGeometry,
    check_bias,
    check_output_grad,
    checked_shape,
    conv_geometry,
    pool_geometry,
    weight_axes,
)
from konvlib.geometry.pooling import avg_pool_geometry


def input_grad_geometry(
    dy_shape: Sequence[int],
    w_shape: Sequence[int],
    bias_shape: Sequence[int] | None = None,
    *,
    axes: int,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> ConvGeometry:
    """Return the geometry of the convolution with weight ``w`` and inputs of ``input_size``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if ``dy`` has another shape than the convolution's output. A bias is one per channel of
        the input.

    Examples
    --------
    >>> input_grad_geometry((1, 4, 3), (4, 2, 3), axes=1, input_size=7, stride=2).input_shape
    (1, 2, 7)
    """
    batch, *_ = checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    _, depth, *_ = checked_shape(w_shape, "w", axes, weight_axes(axes, "C_out, C_in // groups"))
    size = per_axis(input_size, axes, "input_size", most=MOST_SAMPLES)
    groups = integer(groups, "groups", least=1, most=MOST_STEP)
    x_shape = (batch, depth * groups, *size)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = conv_geometry(x_shape, w_shape, axes=axes, padding_mode=padding_mode, **options)
    check_output_grad(dy_shape, layer.output_shape)
    check_bias(bias_shape, layer.in_channels)
    return layer


def weight_grad_geometry(
    x_shape: Sequence[int],
    dy_shape: Sequence[int],
    *,
    axes: int,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> ConvGeometry:
    """Return the geometry of the convolution of ``x`` by kernels of ``kernel_size``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `conv_geometry`; also if ``dy`` has another shape than the convolution's output.

    Examples
    --------
    >>> weight_grad_geometry((1, 2, 7), (1, 4, 3), axes=1, kernel_size=3, stride=2).weight_shape
    (4, 2, 3)
    """
    _, in_channels, *_ = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    _, out_channels, *_ = checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    groups = check_channels(in_channels, out_channels, groups)
    w_shape = (out_channels, in_channels // groups, *per_axis(kernel_size, axes, "kernel_size"))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = conv_geometry(x_shape, w_shape, axes=axes, padding_mode=padding_mode, **options)
    check_output_grad(dy_shape, layer.output_shape)
    return layer


def bias_grad_shape(dy_shape: Sequence[int], *, axes: int) -> tuple[int, ...]:
    """Return the shape of an output's gradient, once it is found good.

    Raises
    ------
    ValueError
        If the rank is wrong, or if an axis other than the batch is empty.

    Examples
    --------
    >>> bias_grad_shape((2, 4, 3), axes=1)
    (2, 4, 3)
    """
    return checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])


def max_pool_grad_geometry(
    x_shape: Sequence[int],
    dy_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> PoolGeometry:
    """Return the geometry of the pooling of ``x``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `pool_geometry`; also if ``dy`` has another shape than the pooling's output.

    Examples
    --------
    >>> max_pool_grad_geometry((1, 3, 7), (1, 3, 3), 2, axes=1).output_shape
    (1, 3, 3)
    """
    checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    pool = pool_geometry(
        x_shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return _fitting(pool, dy_shape)


def avg_pool_grad_geometry(
    dy_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: Any = True,
    divisor_override: int | None = None,
) -> PoolGeometry:
    """Return the geometry of the pooling of inputs of ``input_size``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `avg_pool_geometry`; also if ``dy`` has another shape than the pooling's output.

    Examples
    --------
    >>> avg_pool_grad_geometry((1, 3, 3), 2, axes=1, input_size=7).input_shape
    (1, 3, 7)
    """
    batch, channels, *_ = checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    x_shape = (batch, channels, *per_axis(input_size, axes, "input_size", most=MOST_SAMPLES))
    pool = avg_pool_geometry(
        x_shape,
        kernel_size,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )
    return _fitting(pool, dy_shape)


def _fitting(pool: PoolGeometry, dy_shape: Sequence[int]) -> PoolGeometry:
    if tuple(dy_shape) != pool.output_shape:
        told = "if dy is right, then input_size, kernel_size, stride, padding, dilation or ceil_mode is not"
        wanted = f"the pooling's output shape {pool.output_shape}"
        raise ValueError(f"dy must have {wanted}, got {tuple(dy_shape)}; {told}")
    return pool
