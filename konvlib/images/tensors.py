"""Layers and poolings of images on tensors: Triton kernels on CUDA, ATen elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from konvlib.geometry import ConvGeometry, PoolGeometry, check_indices
from konvlib.images import aten, pooling_operators
from konvlib.layers import aten as layers
from konvlib.layers import operators
from konvlib.registration import is_plain
from konvlib.runtime import REALS, runs_kernel

DTYPES = REALS
max_pool_and_indices = aten.max_pool_and_indices


def conv(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the layer, in the layout of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    if not runs_kernel(x):
        return layers.conv(x, w, bias, layer)
    x, layer, rest = operators.shown(x, layer)
    return operators.conv(x, w, bias, *rest, plan=layer)


def max_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the largest sample of each window; one that holds a NaN gives NaN.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> x = torch.tensor([[[[1.0, 3, 2, 0], [2, 0, 1, 5]]]])
    >>> max_pool(x, pool_geometry(x.shape, 2, axes=2))
    tensor([[[[3., 5.]]]])
    """
    if not runs_kernel(x) or not aten.has_kernel(pool, mean=False):
        return aten.max_pool(x, pool)
    return pooling_operators.max_pool(x, *pooling_operators.geometry_of(pool), pool.output_size, plan=pool)


def max_unpool(x: Tensor, indices: Tensor, pool: PoolGeometry) -> Tensor:
    """Return zeros, with each sample put back at its index; an index that is no place is refused, if it can be seen.

    Examples
    --------
    >>> from konvlib.geometry import max_unpool_geometry
    >>> x = torch.tensor([[[3.0, 2]]])
    >>> pool = max_unpool_geometry(x.shape, 2, axes=1, indices_shape=x.shape)
    >>> max_unpool(x, torch.tensor([[[1, 2]]]), pool)
    tensor([[[0., 3., 2., 0.]]])
    """
    if is_plain(indices) and indices.numel():
        least, most = torch.aminmax(indices)
        check_indices(int(least), int(most), pool)
    return aten.max_unpool(x, indices, pool)


def avg_pool(x: Tensor, pool: PoolGeometry) -> Tensor:
    """Return the mean of each window. Halves are summed and divided in float32 and rounded once.

    Examples
    --------
    >>> from konvlib.geometry import avg_pool_geometry
    >>> x = torch.tensor([[[[1.0, 3, 2, 0], [2, 0, 1, 5]]]])
    >>> avg_pool(x, avg_pool_geometry(x.shape, 2, axes=2))
    tensor([[[[1.5000, 2.0000]]]])
    """
    if not runs_kernel(x) or not aten.has_kernel(pool, mean=True):
        return aten.avg_pool(x, pool)
    kernel, stride, sides, _ = pooling_operators.geometry_of(pool)
    return pooling_operators.avg_pool(x, kernel, stride, sides, pool.output_size, pool.count_include_pad, plan=pool)
