"""Poolings and their gradients as torch operators over Triton kernels.

A max pooling gives each window's largest sample and the tap that shows it, and its gradient sends what a window
receives to that tap's sample. An average pooling sends each sample of a window an equal share.

Geometries are lists with one entry per axis, but for ``padding``, which is flat: before and after, axis by axis. The
operators check what they are given. Taps that are none, of which on a CUDA device nobody knows before they are read,
send nothing and look nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from konvlib.checks import planned_tensors
from konvlib.geometry import PoolGeometry, pool_geometry
from konvlib.geometry.layers import AXIS_NAMES, checked_shape
from konvlib.images import aten, pooling, pooling_scatter
from konvlib.layers.memory import empty
from konvlib.layers.operators import axes_of
from konvlib.layers.padding import flat, pairs
from konvlib.registration import Operator, is_plain
from konvlib.runtime import REALS

Ints = Sequence[int]


def geometry_of(pool: PoolGeometry) -> tuple[Ints, Ints, list[int], Ints]:
    """Return kernel, stride, padding and dilation as the operators take them.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> geometry_of(pool_geometry((1, 1, 9), 3, axes=1, padding=[(1, 0)]))
    ((3,), (3,), [1, 0], (1,))
    """
    return pool.kernel_size, pool.stride, flat(pool.padding), pool.dilation


def _pool(
    shape: Ints,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    windows: Ints,
    counts_padding: bool = True,
    named: str = "windows",
) -> PoolGeometry:
    """The pooling that an operator's arguments describe; more windows than fit hang over the end.

    Where torch traces for lengths of any size, they are those that a public function counted: asked again, how many
    there are would bind the trace.
    """
    axes = axes_of(kernel, "kernel")
    sides = pairs(padding, axes)
    if any([type(length) is not int for length in (*shape, *windows)]):
        regular = tuple(shape[2:]), kernel, stride, sides, dilation, windows
        return PoolGeometry(shape[0], shape[1], *regular, count_include_pad=counts_padding)
    each = zip(shape[2:], kernel, stride, sides, dilation, windows, strict=False)
    hangs = any([(o - 1) * s + d * (k - 1) + 1 > n + before + after for n, k, s, (before, after), d, o in each])
    given = {"stride": stride, "padding": sides, "dilation": dilation, "ceil_mode": hangs}
    pool = pool_geometry(shape, kernel, axes=axes, **given)
    if pool.output_size != windows:
        raise ValueError(f"{named} must be {pool.output_size}, as many as there are, got {windows}")
    return replace(pool, count_include_pad=counts_padding)


def _pool_of_size(dy_shape: Ints, *, size: Ints, **arguments: Any) -> PoolGeometry:
    """The pooling of inputs of a size whose windows received a gradient of this shape."""
    axes = axes_of(size, "size")
    batch, channels, *windows = checked_shape(dy_shape, "dy", axes, AXIS_NAMES[axes])
    return _pool((batch, channels, *size), windows=tuple(windows), named="dy's windows", **arguments)


def _regular(**arguments: Any) -> dict[str, Any]:
    return {name: given if isinstance(given, bool) else tuple(given) for name, given in arguments.items()}


def _check_max_pool(x: Tensor, kernel, stride, padding, dilation, windows) -> PoolGeometry:
    given = _regular(kernel=kernel, stride=stride, padding=padding, dilation=dilation, windows=windows)
    return planned_tensors(REALS, _pool, {"x": x}, given)


def _fake_max_pool(x: Tensor, pool: PoolGeometry) -> tuple[Tensor, Tensor]:
    y = empty(x, pool.output_shape)
    return y, torch.empty_strided(y.shape, y.stride(), dtype=torch.int32, device=y.device)


def _run_max_pool(x: Tensor, pool: PoolGeometry) -> tuple[Tensor, Tensor]:
    y, taps = _fake_max_pool(x, pool)
    pooling.pool(y, taps, x, *geometry_of(pool))
    return y, taps


def _max_pool_and_taps(x: Tensor, pool: PoolGeometry) -> tuple[Tensor, Tensor]:
    return aten.max_pool(x, pool), aten.taps_of(aten.largest_places(x, pool), pool)


def _max_pool_gradients(dy, needs, tensors, kept, rest, plan):
    *layer, _ = rest
    return (max_pool_scatter.below(dy, *kept, *layer, tensors[0].shape[2:], plan=plan) if needs[0] else None,)


max_pool = Operator(
    "max_pool(Tensor x, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt[] windows)"
    " -> (Tensor, Tensor)",
    tensors=1,
    check=_check_max_pool,
    kernel=_run_max_pool,
    composite=aten.max_pool,
    kept=_max_pool_and_taps,
    fake=_fake_max_pool,
    gradients=_max_pool_gradients,
    autocast=False,
)
"""The largest sample of each window, the last NaN if there is one, and the first tap that shows it."""


def _check_scatter(dy: Tensor, taps: Tensor, kernel, stride, padding, dilation, size) -> PoolGeometry:
    given = _regular(size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    pool = planned_tensors(REALS, _pool_of_size, {"dy": dy}, given)
    if taps.dtype != torch.int32:
        raise TypeError(f"taps must be of dtype int32, got {taps.dtype}")
    if taps.shape != dy.shape:
        raise ValueError(f"taps must have dy's shape {tuple(dy.shape)}, got {tuple(taps.shape)}")
    if taps.device != dy.device:
        raise ValueError(f"dy and taps must be on one device, got {dy.device} and {taps.device}")
    if not taps.is_cuda and is_plain(taps) and not _shows(taps, pool).all():
        most = prod(pool.kernel_size) - 1
        raise ValueError(f"taps must be from 0 to {most}, each of a sample that its window shows, got others")
    return pool


def _shows(taps: Tensor, pool: PoolGeometry) -> Tensor:
    """Whether these are taps that show their windows a sample, rather than padding or nothing."""
    shows = (taps >= 0) & (taps < prod(pool.kernel_size))
    for axis, size in enumerate(pool.input_size):
        place = aten.places_along(axis, taps, pool)
        shows = shows & (place >= 0) & (place < size)
    return shows


def _fake_scatter(dy: Tensor, taps: Tensor, pool: PoolGeometry) -> Tensor:
    like = empty(taps, pool.input_shape)
    return torch.empty_strided(like.shape, like.stride(), dtype=dy.dtype, device=dy.device)


def _run_scatter(dy: Tensor, taps: Tensor, pool: PoolGeometry) -> Tensor:
    dx = _fake_scatter(dy, taps, pool)
    pooling_scatter.scatter(dx, dy, taps, *geometry_of(pool))
    return dx


def _scattered(dy: Tensor, taps: Tensor, pool: PoolGeometry) -> Tensor:
    shows = _shows(taps, pool)
    places = torch.where(shows, aten.places_of(taps, pool), 0)
    return aten.scattered(torch.where(shows, dy, 0), places, pool)


def _scatter_gradients(g, needs, tensors, kept, rest, plan):
    """The adjoint of sending is to look there again."""
    if not needs[0]:
        return None, None
    _, taps = tensors
    pool = max_pool_scatter.check(*tensors, *rest)
    shows = _shows(taps, pool)
    looked = aten.gathered(g, torch.where(shows, aten.places_of(taps, pool), 0))
    return torch.where(shows, looked, 0), None


max_pool_scatter = Operator(
    "max_pool_scatter(Tensor dy, Tensor taps, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation,"
    " SymInt[] size) -> Tensor",
    tensors=2,
    check=_check_scatter,
    kernel=_run_scatter,
    composite=_scattered,
    fake=_fake_scatter,
    gradients=_scatter_gradients,
    autocast=False,
)
"""Each window's ``dy``, sent to the sample that its tap shows, and added up."""


def _check_avg_pool(x: Tensor, kernel, stride, padding, windows, counts_padding) -> PoolGeometry:
    given = _regular(kernel=kernel, stride=stride, padding=padding, dilation=[1] * len(kernel), windows=windows)
    return planned_tensors(REALS, _pool, {"x": x}, {**given, "counts_padding": counts_padding})


def _fake_avg_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    return empty(x, pool.output_shape)


def _run_avg_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    y = _fake_avg_pool(x, pool)
    pooling.pool(y, None, x, *geometry_of(pool), counts_padding=pool.count_include_pad)
    return y


def _avg_pool_gradients(dy, needs, tensors, kept, rest, plan):
    kernel, stride, padding, _, counts_padding = rest
    size = tensors[0].shape[2:]
    return (avg_pool_scatter.below(dy, kernel, stride, padding, size, counts_padding, plan=plan) if needs[0] else None,)


avg_pool = Operator(
    "avg_pool(Tensor x, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] windows, bool counts_padding)"
    " -> Tensor",
    tensors=1,
    check=_check_avg_pool,
    kernel=_run_avg_pool,
    composite=aten.avg_pool,
    fake=_fake_avg_pool,
    gradients=_avg_pool_gradients,
    autocast=False,
)
"""The mean of each window."""


def _check_avg_scatter(dy: Tensor, kernel, stride, padding, size, counts_padding) -> PoolGeometry:
    given = _regular(size=size, kernel=kernel, stride=stride, padding=padding, dilation=[1] * len(kernel))
    return planned_tensors(REALS, _pool_of_size, {"dy": dy}, {**given, "counts_padding": counts_padding})


def _fake_avg_scatter(dy: Tensor, pool: PoolGeometry) -> Tensor:
    return empty(dy, pool.input_shape)


def _run_avg_scatter(dy: Tensor, pool: PoolGeometry) -> Tensor:
    dx = _fake_avg_scatter(dy, pool)
    options = {"mean": True, "counts_padding": pool.count_include_pad}
    pooling_scatter.scatter(dx, dy, None, *geometry_of(pool), **options)
    return dx


def _avg_scatter_gradients(g, needs, tensors, kept, rest, plan):
    kernel, stride, padding, _, counts_padding = rest
    windows = tensors[0].shape[2:]
    return (avg_pool.below(g, kernel, stride, padding, windows, counts_padding, plan=plan) if needs[0] else None,)


avg_pool_scatter = Operator(
    "avg_pool_scatter(Tensor dy, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] size,"
    " bool counts_padding) -> Tensor",
    tensors=1,
    check=_check_avg_scatter,
    kernel=_run_avg_scatter,
    composite=aten.avg_pool_grad,
    fake=_fake_avg_scatter,
    gradients=_avg_scatter_gradients,
    autocast=False,
)
"""Each of a window's samples receives the same share of its ``dy``: the adjoint of `avg_pool`."""
