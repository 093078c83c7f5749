"""What gradients ask of the geometry beyond their layer's: how the padding was filled, and what fits a pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from konvlib.geometry.arguments import PADDING_MODES, one_of, per_axis
from konvlib.geometry.layers import (
    AXIS_NAMES,
    ConvGeometry,
    Padding,
    PerAxis,
    PoolGeometry,
    _check_reach,
    _shape,
    pool_geometry,
)


def with_padding_mode(layer: ConvGeometry, padding_mode: str) -> ConvGeometry:
    """Return a layer's geometry with another filling of its padding.

    Raises
    ------
    TypeError, ValueError
        If ``padding_mode`` is unknown, or cannot reach so far.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> with_padding_mode(conv_geometry((1, 1, 5), (1, 1, 3), axes=1, padding=2), "reflect").padding_mode
    'reflect'
    """
    one_of(padding_mode, "padding_mode", PADDING_MODES)
    for size, padding in zip(layer.input_size, layer.padding, strict=True):
        _check_reach(size, padding, padding_mode)
    return replace(layer, padding_mode=padding_mode)


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
    return _shape(dy_shape, "dy", axes, AXIS_NAMES[axes])


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
    _shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
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
    ceil_mode: bool = False,
    count_include_pad: Any = True,
) -> PoolGeometry:
    """Return the geometry of the pooling of inputs of ``input_size``, if ``dy`` fits its output.

    Raises
    ------
    TypeError, ValueError
        As `pool_geometry`; also if ``count_include_pad`` is no bool, or if ``dy`` has another shape than the pooling's
        output.

    Examples
    --------
    >>> avg_pool_grad_geometry((1, 3, 3), 2, axes=1, input_size=7).input_shape
    (1, 3, 7)
    """
    batch, channels, *_ = _shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    x_shape = (batch, channels, *per_axis(input_size, axes, "input_size"))
    if not isinstance(count_include_pad, bool):
        raise TypeError(f"count_include_pad must be True or False, got {count_include_pad!r}")
    pool = pool_geometry(x_shape, kernel_size, axes=axes, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return _fitting(pool, dy_shape)


def _fitting(pool: PoolGeometry, dy_shape: Sequence[int]) -> PoolGeometry:
    if tuple(dy_shape) != pool.output_shape:
        raise ValueError(f"dy must have the pooling's output shape {pool.output_shape}, got {tuple(dy_shape)}")
    return pool
