"""What poolings ask beyond their windows: what counts in a mean, whether places are wanted, and how one is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from konvlib.geometry.arguments import MOST_SAMPLES, flag, integer, is_sequence, per_axis
from konvlib.geometry.layers import AXIS_NAMES, Padding, PerAxis, PoolGeometry, checked_shape, pool_geometry
from konvlib.geometry.sizes import paddings


def max_pool_geometry(
    x_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: Any = False,
) -> PoolGeometry:
    """Check every argument of a max pooling and return its geometry.

    Raises
    ------
    TypeError, ValueError
        As `pool_geometry`; also if ``return_indices`` is no bool.

    Examples
    --------
    >>> max_pool_geometry((1, 3, 7), 2, axes=1, return_indices=True).output_shape
    (1, 3, 3)
    """
    flag(return_indices, "return_indices")
    return pool_geometry(
        x_shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )


def avg_pool_geometry(
    x_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: Any = True,
    divisor_override: int | None = None,
) -> PoolGeometry:
    """Check every argument of an average pooling and return its geometry.

    Raises
    ------
    TypeError, ValueError
        As `pool_geometry`; also if ``count_include_pad`` is no bool, or if ``divisor_override`` is no positive integer.

    Examples
    --------
    >>> avg_pool_geometry((1, 3, 7), 2, axes=1).output_shape
    (1, 3, 3)
    """
    flag(count_include_pad, "count_include_pad")
    divisor = None if divisor_override is None else integer(divisor_override, "divisor_override", least=1)
    pool = pool_geometry(
        x_shape, kernel_size, axes=axes, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return replace(pool, count_include_pad=count_include_pad, divisor_override=divisor)


def max_unpool_geometry(
    x_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    indices_shape: Sequence[int],
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
) -> PoolGeometry:
    """Check every argument of an unpooling and return the geometry of the pooling that it undoes.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If the rank is wrong, if ``indices`` have another shape than ``x``, or if the pooling of an input of
        ``output_size`` has another output.

    Examples
    --------
    >>> max_unpool_geometry((1, 3, 3), 2, axes=1, indices_shape=(1, 3, 3)).input_shape
    (1, 3, 6)
    >>> max_unpool_geometry((1, 3, 3), 2, axes=1, indices_shape=(1, 3, 3), output_size=7).input_shape
    (1, 3, 7)
    """
    batch, channels, *windows = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    if tuple(indices_shape) != tuple(x_shape):
        raise ValueError(f"indices must have the shape of x {tuple(x_shape)}, got {tuple(indices_shape)}")
    kernel, gaps = per_axis(kernel_size, axes, "kernel_size"), (1,) * axes
    steps = kernel if stride is None else per_axis(stride, axes, "stride")
    pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps)
    least = [(n - 1) * s + k - sum(pad) for n, s, k, pad in zip(windows, steps, kernel, pads, strict=True)]
    if min(least) < 1:
        raise ValueError(f"padding must leave an output, got {pads} for windows of {kernel}")
    size = tuple(least) if output_size is None else _unpooled_size(output_size, least, steps)
    return PoolGeometry(batch, channels, size, kernel, steps, pads, gaps, tuple(windows))


def _unpooled_size(output_size: Any, least: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """As in PyTorch, less than a stride away from the default, and perhaps with the batch and the channels before."""
    axes = len(least)
    if is_sequence(output_size) and len(output_size) == axes + 2:
        output_size = tuple(output_size[2:])
    size = per_axis(output_size, axes, "output_size", most=MOST_SAMPLES)
    for axis, (n, default, step) in enumerate(zip(size, least, steps, strict=True)):
        low, high = max(1, default - step + 1), default + step - 1
        if not low <= n <= high:
            raise ValueError(f"output_size[{axis}] must lie between {low} and {high}, got {n}")
    return size


def check_indices(least: int, most: int, pool: PoolGeometry) -> None:
    """Check that the least and the largest index are places of a channel of an unpooling's result.

    Raises
    ------
    ValueError
        If one is not.

    Examples
    --------
    >>> check_indices(0, 5, max_unpool_geometry((1, 3, 3), 2, axes=1, indices_shape=(1, 3, 3)))
    """
    places = 1
    for size in pool.input_size:
        places *= size
    if least < 0 or most >= places:
        wrong = least if least < 0 else most
        raise ValueError(f"indices must lie between 0 and {places - 1}, got {wrong}")


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which a mean is computed before it is rounded: float32 for halves, else that of the mean.

    Examples
    --------
    >>> [str(wide_dtype(np.dtype(kind))) for kind in ("f2", ">f2", "f4", "i1")]
    ['float32', 'float32', 'float32', 'float64']
    """
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 2 else dtype.newbyteorder("=")
