"""Poolings and their gradients as torch operators over Triton kernels.

A max pooling gives each window's largest sample and the tap that shows it, and its gradient sends what a window
receives to that tap's sample. An average pooling sends each sample of a window an equal share.

Geometries are lists with one entry per axis, but for ``padding``, which is flat: before and after, axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from konvlib.geometry import PoolGeometry
from konvlib.images import aten, pooling, pooling_scatter
from konvlib.layers.memory import empty
from konvlib.layers.padding import flat
from konvlib.registration import Operator

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
    shape: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, windows: Ints, counts_padding: bool = True
) -> PoolGeometry:
    """The pooling that an operator's arguments describe; more windows than floors give hang over the end."""
    batch, channels, *size = shape
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    each = zip(size, kernel, stride, pairs, dilation, windows, strict=True)
    hangs = any([(o - 1) * s + d * (k - 1) + 1 > n + before + after for n, k, s, (before, after), d, o in each])
    regular = tuple(size), tuple(kernel), tuple(stride), pairs, tuple(dilation), tuple(windows)
    return PoolGeometry(batch, channels, *regular, ceil_mode=hangs, count_include_pad=counts_padding)


def _fake_max_pool(x, kernel, stride, padding, dilation, windows) -> tuple[Tensor, Tensor]:
    y = empty(x, (*x.shape[:2], *windows))
    return y, torch.empty_strided(y.shape, y.stride(), dtype=torch.int32, device=y.device)


def _run_max_pool(x, kernel, stride, padding, dilation, windows) -> tuple[Tensor, Tensor]:
    y, taps = _fake_max_pool(x, kernel, stride, padding, dilation, windows)
    pooling.pool(y, taps, x, kernel, stride, padding, dilation)
    return y, taps


def _max_pool_and_taps(x, *rest) -> tuple[Tensor, Tensor]:
    pool = _pool(x.shape, *rest)
    return aten.max_pool(x, pool), aten.taps_of(aten.largest_places(x, pool), pool)


def _max_pool_gradients(dy, needs, tensors, kept, rest):
    *layer, _ = rest
    return (max_pool_scatter.below(dy, *kept, *layer, tensors[0].shape[2:]) if needs[0] else None,)


max_pool = Operator(
    "max_pool(Tensor x, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt[] windows)"
    " -> (Tensor, Tensor)",
    tensors=1,
    kernel=_run_max_pool,
    composite=lambda x, *rest: aten.max_pool(x, _pool(x.shape, *rest)),
    kept=_max_pool_and_taps,
    fake=_fake_max_pool,
    gradients=_max_pool_gradients,
    autocast=False,
)
"""The largest sample of each window, the last NaN if there is one, and the first tap that shows it."""


def _fake_scatter(dy, taps, kernel, stride, padding, dilation, size) -> Tensor:
    like = empty(taps, (*taps.shape[:2], *size))
    return torch.empty_strided(like.shape, like.stride(), dtype=dy.dtype, device=dy.device)


def _run_scatter(dy, taps, kernel, stride, padding, dilation, size) -> Tensor:
    dx = _fake_scatter(dy, taps, kernel, stride, padding, dilation, size)
    pooling_scatter.scatter(dx, dy, taps, kernel, stride, padding, dilation)
    return dx


def _scattered(dy, taps, kernel, stride, padding, dilation, size) -> Tensor:
    pool = _pool((*dy.shape[:2], *size), kernel, stride, padding, dilation, dy.shape[2:])
    return aten.scattered(dy, aten.places_of(taps, pool), pool)


def _scatter_gradients(g, needs, tensors, kept, rest):
    """The adjoint of sending is to look there again."""
    _, taps = tensors
    *layer, size = rest
    places = aten.places_of(taps, _pool((*taps.shape[:2], *size), *layer, taps.shape[2:]))
    return (aten.gathered(g, places) if needs[0] else None), None


max_pool_scatter = Operator(
    "max_pool_scatter(Tensor dy, Tensor taps, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation,"
    " SymInt[] size) -> Tensor",
    tensors=2,
    kernel=_run_scatter,
    composite=_scattered,
    fake=_fake_scatter,
    gradients=_scatter_gradients,
    autocast=False,
)
"""Each window's ``dy``, sent to the sample that its tap shows, and added up."""


def _fake_avg_pool(x, kernel, stride, padding, windows, counts_padding) -> Tensor:
    return empty(x, (*x.shape[:2], *windows))


def _run_avg_pool(x, kernel, stride, padding, windows, counts_padding) -> Tensor:
    y = empty(x, (*x.shape[:2], *windows))
    pooling.pool(y, None, x, kernel, stride, padding, [1] * len(kernel), counts_padding=counts_padding)
    return y


def _mean_pool(shape, kernel, stride, padding, windows, counts_padding) -> PoolGeometry:
    return _pool(shape, kernel, stride, padding, [1] * len(kernel), windows, counts_padding)


def _avg_pool_gradients(dy, needs, tensors, kept, rest):
    kernel, stride, padding, _, counts_padding = rest
    size = tensors[0].shape[2:]
    return (avg_pool_scatter.below(dy, kernel, stride, padding, size, counts_padding) if needs[0] else None,)


avg_pool = Operator(
    "avg_pool(Tensor x, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] windows, bool counts_padding)"
    " -> Tensor",
    tensors=1,
    kernel=_run_avg_pool,
    composite=lambda x, *rest: aten.avg_pool(x, _mean_pool(x.shape, *rest)),
    fake=_fake_avg_pool,
    gradients=_avg_pool_gradients,
    autocast=False,
)
"""The mean of each window."""


def _fake_avg_scatter(dy, kernel, stride, padding, size, counts_padding) -> Tensor:
    return empty(dy, (*dy.shape[:2], *size))


def _run_avg_scatter(dy, kernel, stride, padding, size, counts_padding) -> Tensor:
    dx = empty(dy, (*dy.shape[:2], *size))
    dense = [1] * len(kernel)
    pooling_scatter.scatter(dx, dy, None, kernel, stride, padding, dense, mean=True, counts_padding=counts_padding)
    return dx


def _avg_scattered(dy, kernel, stride, padding, size, counts_padding) -> Tensor:
    pool = _mean_pool((*dy.shape[:2], *size), kernel, stride, padding, dy.shape[2:], counts_padding)
    return aten.avg_pool_grad(dy, pool)


def _avg_scatter_gradients(g, needs, tensors, kept, rest):
    kernel, stride, padding, _, counts_padding = rest
    windows = tensors[0].shape[2:]
    return (avg_pool.below(g, kernel, stride, padding, windows, counts_padding) if needs[0] else None,)


avg_pool_scatter = Operator(
    "avg_pool_scatter(Tensor dy, SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] size,"
    " bool counts_padding) -> Tensor",
    tensors=1,
    kernel=_run_avg_scatter,
    composite=_avg_scattered,
    fake=_fake_avg_scatter,
    gradients=_avg_scatter_gradients,
    autocast=False,
)
"""Each of a window's samples receives the same share of its ``dy``: the adjoint of `avg_pool`."""
