"""What an average pooling asks beyond its windows: whether padding counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from konvlib.geometry.arguments import flag
from konvlib.geometry.layers import Padding, PerAxis, PoolGeometry, pool_geometry


def avg_pool_geometry(
    x_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: Any = True,
) -> PoolGeometry:
    """Check every argument of an average pooling and return its geometry.

    Raises
    ------
    TypeError, ValueError
        As `pool_geometry`; also if ``count_include_pad`` is no bool.

    Examples
    --------
    >>> avg_pool_geometry((1, 3, 7), 2, axes=1).output_shape
    (1, 3, 3)
    """
    flag(count_include_pad, "count_include_pad")
    pool = pool_geometry(x_shape, kernel_size, axes=axes, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return replace(pool, count_include_pad=count_include_pad)
