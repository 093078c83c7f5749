"""What poolings ask beyond their windows: what counts in a mean, whether places are wanted, and how one is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from konvlib.geometry.arguments import MOST_SAMPLES, SIZED_PADDINGS, flag, integer, is_sequence, per_axis, shown
from konvlib.geometry.layers import AXIS_NAMES, Padding, PerAxis, PoolGeometry, checked_shape, pool_geometry
from konvlib.geometry.sizes import paddings
from konvlib.geometry.transposes import outputs_of_same


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
        If the rank is wrong, if ``indices`` have another shape than ``x``, if the pooling of an input of
        ``output_size`` has another output, or if the batch or the channels before it are not those of ``x``.

    Examples
    --------
    >>> max_unpool_geometry((1, 3, 3), 2, axes=1, indices_shape=(1, 3, 3)).input_shape
    (1, 3, 6)
    >>> max_unpool_geometry((1, 3, 3), 2, axes=1, indices_shape=(1, 3, 3), output_size=(3, 7)).input_shape
    (1, 3, 7)
    >>> pool = max_unpool_geometry((1, 3, 3), 4, axes=1, indices_shape=(1, 3, 3), stride=2, padding="same_upper")
    >>> pool.input_shape, pool.padding
    ((1, 3, 6), ((1, 1),))
    """
    batch, channels, *windows = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    if tuple(indices_shape) != tuple(x_shape):
        raise ValueError(f"indices must have the shape of x {tuple(x_shape)}, got {tuple(indices_shape)}")
    kernel, gaps = per_axis(kernel_size, axes, "kernel_size"), (1,) * axes
    steps = kernel if stride is None else per_axis(stride, axes, "stride")
    wanted = None if output_size is None else _spatial(output_size, x_shape)
    if isinstance(padding, str) and padding in SIZED_PADDINGS:
        size = outputs_of_same(windows, steps, wanted)
        pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps, size=size)
    else:
        pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps)
        least = [(n - 1) * s + k - sum(pad) for n, s, k, pad in zip(windows, steps, kernel, pads, strict=True)]
        if min(least) < 1:
            raise ValueError(f"padding must leave an output, got {pads} for windows of {kernel}")
        size = tuple(least) if wanted is None else _near(wanted, least, steps)
    return PoolGeometry(batch, channels, size, kernel, steps, pads, gaps, tuple(windows))


def _spatial(output_size: Any, x_shape: Sequence[int]) -> tuple[int, ...]:
    """The size of each axis, without the channels, or the batch and the channels, that may stand before it."""
    axes = len(x_shape) - 2
    more = len(output_size) - axes if is_sequence(output_size) else 0
    if more in (1, 2):
        given = [integer(n, f"output_size[{axis}]", least=0) for axis, n in enumerate(output_size[:more])]
        wanted = list(x_shape[2 - more : 2])
        if given != wanted:
            what = "channels" if more == 1 else "batch and channels"
            raise ValueError(f"output_size must begin with the {what} of x {wanted}, got {shown(tuple(output_size))}")
        output_size = output_size[more:]
    return per_axis(output_size, axes, "output_size", most=MOST_SAMPLES)


def _near(size: tuple[int, ...], least: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Check that a size is, as in PyTorch, less than a stride away from the default."""
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
