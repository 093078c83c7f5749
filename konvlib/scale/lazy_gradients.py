"""Gradients of Dask arrays: by inputs, block by block; by weights, a sum of what the windows of each block give.

Parts of a sum are added by Dask's own tree of sums.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry, PoolGeometry, halos
from konvlib.gradients import arrays as gradients
from konvlib.konvolution import arrays as konvolution
from konvlib.konvolution import bases
from konvlib.scale.blocks import Part, by_blocks, gathered, parts_of
from konvlib.scale.lazy import (
    bounds_of,
    common_dtype,
    conv_transpose,
    konv_dtype,
    local_konv,
    local_layer,
    local_pool,
    parts_of_layer,
    read_transposed,
    sizes_of,
)


def conv_input_grad(dy: da.Array, w: np.ndarray, layer: ConvGeometry) -> da.Array:
    """Return the layer's gradient by its input: its transpose, and what padding received given to what it shows.

    Examples
    --------
    >>> import konvlib
    >>> dy = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.conv1d_input_grad(dy, [[[2, 1]]], input_size=6).compute().tolist()
    [[[2, 7, 7, 2, 8, 4]]]
    """
    if layer.padding_mode == "zeros" or not any(layer.sides):
        return conv_transpose(dy, w, None, layer)
    dtype = common_dtype(dy, w)
    dx = conv_transpose(dy.astype(_sums_of(dtype)), w, None, layer.of_padded())
    for axis, (size, padding) in enumerate(zip(layer.input_size, layer.padding, strict=True), start=2):
        for before, after, mode in reversed(geometry.padding_steps(size, padding, layer.padding_mode)):
            dx = _unpadded(dx, axis, before, after, mode)
    return dx.astype(dtype)


def conv_weight_grad(x: da.Array, dy: da.Array, layer: ConvGeometry) -> da.Array:
    """Return the layer's gradient by its weight.

    Examples
    --------
    >>> import konvlib
    >>> x, dy = da.from_array([[[4, 1, 3]]], chunks=1), da.from_array([[[1, 5]]], chunks=1)
    >>> konvlib.conv1d_weight_grad(x, dy, kernel_size=2).compute().tolist()
    [[[9, 16]]]
    """
    block = partial(_weight_grad_block, layer=layer)
    return _sum_of_blocks(block, x, dy, layer, layer.weight_shape, common_dtype(x, dy))


def konv_kappa_grad(x: da.Array, dy: da.Array, given: KonvGeometry, basis: str) -> da.Array:
    """Return the Konvolution's gradient by its coefficients.

    Examples
    --------
    >>> import konvlib
    >>> x, dy = da.from_array([[[1, 3, 2]]], chunks=1), da.from_array([[[1, 10]]], chunks=1)
    >>> konvlib.konv1d_kappa_grad(x, dy, degree=1, kernel_size=2).compute().tolist()
    [[[[11, 11]], [[31, 23]]]]
    """
    block = partial(_kappa_grad_block, given=given, basis=basis)
    return _sum_of_blocks(block, x, dy, given.layer, given.kappa_shape, konv_dtype(basis, x, dy))


def konv_input_grad(dy: da.Array, x: da.Array, kappa: np.ndarray, given: KonvGeometry, basis: str) -> da.Array:
    """Return the Konvolution's gradient by its input: that by the expanded input, times the slopes of its polynomials.

    Examples
    --------
    >>> import konvlib
    >>> x, dy = da.from_array([[[1, 3, 2]]], chunks=1), da.from_array([[[1, 10]]], chunks=1)
    >>> konvlib.konv1d_input_grad(dy, x, [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial").compute().tolist()
    [[[2, 65, 50]]]
    """
    dtype, layer = konv_dtype(basis, dy, x, kappa), given.layer
    sums, x, dy = _sums_of(dtype), da.asarray(x), da.asarray(dy)
    if not given.degree:
        return da.zeros_like(x, dtype)
    expanded = replace(layer, in_channels=layer.in_channels * given.degree)
    slopes_of = partial(_slopes_block, given=given, basis=bases.get_basis(basis), sums=sums, dtype=dtype)
    weight = kappa[:, 1:].astype(sums).reshape(layer.out_channels, -1, *layer.kernel_size)
    products = conv_input_grad(dy.astype(sums), weight, expanded)
    for i, seen in enumerate(konvolution.shown_along(layer, i) for i in range(layer.axes)):
        if not seen.all():  # what is NaN where no window shows it has no part in a gradient
            x = da.where(seen.reshape(-1, *(1,) * (layer.axes - 1 - i)), x, x.dtype.type(0))
    chunks = (products.chunks[0], (layer.in_channels,), *products.chunks[2:])
    meta = np.empty((0,) * x.ndim, dtype)
    return da.map_blocks(slopes_of, products, x.rechunk(chunks), chunks=chunks, dtype=dtype, meta=meta)


def conv_bias_grad(dy: da.Array, shape: tuple[int, ...]) -> da.Array:
    """Return the sum of each output channel; halves and singles are summed as doubles.

    Examples
    --------
    >>> import konvlib
    >>> konvlib.conv1d_bias_grad(da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)).compute().tolist()
    [10]
    """
    return dy.sum((0, *range(2, dy.ndim)), dtype=gradients.bias_sum_dtype(dy.dtype)).astype(dy.dtype)


def max_pool_grad(x: da.Array, dy: da.Array, pool: PoolGeometry) -> da.Array:
    """Return the gradient of a max pooling by its input; each block finds the largest samples of its windows again.

    Examples
    --------
    >>> import konvlib
    >>> x, dy = da.from_array([[[1, 3, 3, 2, 5]]], chunks=2), da.from_array([[[10, 20]]], chunks=1)
    >>> konvlib.max_pool1d_grad(x, dy, 3, stride=2).compute().tolist()
    [[[0, 10, 0, 0, 20]]]
    """
    x, dy = da.asarray(x), da.asarray(dy)
    axes = {i + 2: _parts_of_inputs(bounds_of(x, i + 2), pool, i) for i in range(pool.axes)}
    dy = dy.rechunk(dict(enumerate(x.chunks[:2])))
    x = gathered(x, {axis: [_seen(part, pool, axis - 2) for part in parts] for axis, parts in axes.items()})
    return by_blocks(partial(_pool_grad_block, pool=pool, dtype=dy.dtype), dy, axes, dy.dtype, beside=[x])


def avg_pool_grad(dy: da.Array, pool: PoolGeometry) -> da.Array:
    """Return the gradient of an average pooling by its input.

    Examples
    --------
    >>> import konvlib
    >>> konvlib.avg_pool1d_grad(da.from_array([[[3, 6]]], chunks=1), 3, input_size=5, stride=2).compute().tolist()
    [[[1.0, 1.0, 3.0, 2.0, 2.0]]]
    """
    axes, dtype = {}, geometry.mean_dtype(dy.dtype)
    for i in range(pool.axes):
        window = halos.window_of(pool, i)
        cuts = halos.outputs_beside_transposed(bounds_of(dy, i + 2), pool.input_size[i], **window)
        axes[i + 2] = _parts_of_inputs(cuts, pool, i)
    return by_blocks(partial(_pool_grad_block, pool=pool, dtype=dtype), dy, axes, dtype)


def _unpadded(dx: da.Array, axis: int, before: int, after: int, mode: str) -> da.Array:
    """What the padding of an axis received, which reaches no further than the samples, added to what it showed."""
    at, size = (slice(None),) * axis, dx.shape[axis] - before - after
    whole = (0, before), (before, before + size), (before + size, None)
    first, inside, last = (dx[(*at, slice(*ends))] for ends in whole)
    if mode == "reflect":
        received = (1, da.flip(first, axis)), (size - 1 - after, da.flip(last, axis))
    elif mode == "replicate":
        received = (0, first.sum(axis, dx.dtype, keepdims=True)), (size - 1, last.sum(axis, dx.dtype, keepdims=True))
    else:
        received = (size - before, first), (0, last)
    for side, (start, values) in zip((before, after), received, strict=True):
        if side:  # by pieces: assigned to, Dask would look through all of its graph for each block
            ends = (0, start), (start, start + values.shape[axis]), (start + values.shape[axis], size)
            left, shown, right = (inside[(*at, slice(*pair))] for pair in ends)
            inside = da.concatenate([left, shown + values, right], axis).rechunk(inside.chunks)
    return inside


def _sums_of(dtype: np.dtype) -> np.dtype:
    """In which dtype parts of a sum are added: halves as singles, rounded once."""
    return np.dtype(np.float32) if dtype.char == "e" else dtype


def _sum_of_blocks(
    function: Any, x: Any, dy: Any, layer: ConvGeometry, shape: tuple[int, ...], dtype: np.dtype
) -> da.Array:
    """The sum of ``function(samples, parts, outputs)`` of ``shape`` over all blocks; each stands as a column."""
    sums = _sums_of(dtype)
    x, dy = (da.asarray(a).astype(sums) for a in (x, dy))
    axes = parts_of_layer(x, layer)
    dy = dy.rechunk((x.chunks[0], -1, *[tuple([p.stop - p.start for p in parts]) for parts in axes.values()]))
    chunks = tuple([(prod(shape),) if axis == 1 else (1,) * n for axis, n in enumerate(dy.numblocks)])
    columns = by_blocks(function, x, axes, sums, whole={1: prod(shape)}, beside=[dy], chunks=chunks)
    total = columns.sum((0, *range(2, x.ndim)), dtype=sums)
    return total.reshape(shape).astype(dtype)


def _weight_grad_block(x: np.ndarray, parts: dict[int, Part], dy: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    if 0 in x.shape[2:]:
        dw = np.zeros(layer.weight_shape, x.dtype)
    else:
        dw = gradients.conv_weight_grad(x, dy, local_layer(x, parts, layer))
    return dw.reshape(1, -1, *(1,) * layer.axes)


def _kappa_grad_block(
    x: np.ndarray, parts: dict[int, Part], dy: np.ndarray, given: KonvGeometry, basis: str
) -> np.ndarray:
    if 0 in x.shape[2:] and given.pad == "basis":
        dkappa = np.zeros(given.kappa_shape, x.dtype)
    else:
        x, local = local_konv(x, parts, given)
        dkappa = konvolution.konv_kappa_grad(x, dy, local, basis)
    return dkappa.reshape(1, -1, *(1,) * given.layer.axes)


def _slopes_block(
    products: np.ndarray, x: np.ndarray, given: KonvGeometry, basis: bases.Basis, sums: np.dtype, dtype: np.dtype
) -> np.ndarray:
    """The gradient by each polynomial of a sample, times its slope there, summed over degrees."""
    groups = given.layer.groups
    grouped = x.astype(sums).reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])
    terms = islice(bases.terms(basis, grouped, given.degree, slopes=True), 1, None)
    slopes = np.stack([slope for _, slope in terms], axis=2)
    return (products.reshape(slopes.shape) * slopes).sum(2, dtype=sums).reshape(x.shape).astype(dtype)


def _parts_of_inputs(cuts: Any, pool: PoolGeometry, i: int) -> list[Part]:
    """Blocks of a pooling's input, and the windows that may show them."""
    return parts_of(cuts, partial(read_transposed, size=pool.output_size[i], window=halos.window_of(pool, i)))


def _seen(part: Part, pool: PoolGeometry, i: int) -> halos.Read:
    """The samples that the windows of a block show."""
    if not part.read.spans:
        return part.read
    return halos.read_by(pool, i, *part.read.spans[0])


def _pool_grad_block(
    dy: np.ndarray, parts: dict[int, Part], x: np.ndarray | None = None, *, pool: PoolGeometry, dtype: np.dtype
) -> np.ndarray:
    """The gradient by all samples that the windows of a block show, of which its own are a part."""
    dx = np.zeros((*dy.shape[:2], *sizes_of(parts)), dtype)
    if 0 in dy.shape:
        return dx
    seen = {axis: Part(*part.read.spans[0], _seen(part, pool, axis - 2)) for axis, part in parts.items()}
    spans = [part.read.spans[0] for part in seen.values()]
    local = local_pool((*dy.shape[:2], *[stop - start for start, stop in spans]), seen, pool)
    given = gradients.avg_pool_grad(dy, local) if x is None else gradients.max_pool_grad(x, dy, local)
    to, of = [], []
    for part, (start, stop) in zip(parts.values(), spans, strict=True):
        low, high = max(part.start, start), min(part.stop, stop)
        to.append(slice(low - part.start, high - part.start))
        of.append(slice(low - start, high - start))
    dx[(..., *to)] = given[(..., *of)]
    return dx
