"""Layers, poolings and transposes of Dask arrays, each block of outputs by the backend for arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry, PoolGeometry, halos
from konvlib.images import arrays as images
from konvlib.konvolution import arrays as konvolution
from konvlib.konvolution import bases
from konvlib.scale.blocks import Part, by_blocks, parts_of
from konvlib.transposes import arrays as transposes

WHOLE = ("w", "bias", "kappa", "g", "h")
"""Operands that each block needs whole, so that they are arrays."""


def checked(operands: dict[str, Any]) -> dict[str, Any]:
    """Return operands ready: Dask arrays as they are, others as arrays.

    Raises
    ------
    TypeError
        If one holds Python objects or no numbers, or if it is needed whole and is a Dask array.
    ValueError
        If a Dask array has chunks of unknown size.

    Examples
    --------
    >>> list(checked({"x": da.ones((1, 1, 4)), "w": [[[2, 1]]], "bias": None}))
    ['x', 'w', 'bias']
    """
    ready: dict[str, Any] = {}
    for name, operand in operands.items():
        if operand is None and name.endswith("bias"):
            ready[name] = None
            continue
        if not isinstance(operand, da.Array):
            operand = geometry.as_array(operand, name)
        elif name in WHOLE:
            raise TypeError(f"{name} must be an array, which each block needs whole, got a Dask array; "
                            f"give {name}.compute()")  # fmt: skip
        elif any([size != size for size in operand.shape]):
            raise ValueError(f"{name} must have chunks of known size, got a Dask array of shape {operand.shape}; "
                             f"call {name}.compute_chunksizes_of()")  # fmt: skip
        if operand.dtype.kind not in "biufc":
            raise TypeError(f"{name} must hold machine numbers beside Dask arrays, got dtype {operand.dtype}")
        if isinstance(operand, da.Array):  # without empty chunks
            operand = operand.rechunk(tuple([tuple(filter(None, row)) or (0,) for row in operand.chunks]))
        ready[name] = operand
    return ready


def conv(x: da.Array, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> da.Array:
    """Return the layer, each block from the samples that its windows meet.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.conv1d(x, [[[2, 1, -1]]]).compute().tolist()
    [[[3, 8, 0]]]
    """
    function = partial(_conv_block, w=w, bias=bias, layer=layer)
    return by_blocks(function, x, parts_of_layer(x, layer), common_dtype(x, w, bias), whole={1: layer.out_channels})


def konv(x: da.Array, kappa: np.ndarray, bias: np.ndarray | None, given: KonvGeometry, basis: str) -> da.Array:
    """Return the Konvolution, as `conv`.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.konv1d(x, [[[[1, 0]], [[0, 2]]]], basis="monomial").compute().tolist()
    [[[7, 5, 1, 9]]]
    """
    dtype = konv_dtype(basis, x, kappa, bias)
    function = partial(_konv_block, kappa=kappa, bias=bias, given=given, basis=basis, dtype=dtype)
    return by_blocks(function, x, parts_of_layer(x, given.layer), dtype, whole={1: given.layer.out_channels})


def konv_dtype(basis: str, *operands: Any) -> np.dtype:
    """Return the dtype of a Konvolution of arrays or Dask arrays; a bias may be None.

    Examples
    --------
    >>> konv_dtype("legendre", np.ones(3, int), da.ones(3, dtype=int), None)
    dtype('float64')
    """
    dtypes = [operand.dtype for operand in operands if operand is not None]
    return bases.result_dtype(bases.get_basis(basis), *dtypes)


def max_pool(x: da.Array, pool: PoolGeometry) -> da.Array:
    """Return the largest sample of each window.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.max_pool1d(x, 2).compute().tolist()
    [[[3, 2]]]
    """
    return by_blocks(partial(_pool_block, images.max_pool, pool=pool), x, parts_of_layer(x, pool), x.dtype)


def avg_pool(x: da.Array, pool: PoolGeometry) -> da.Array:
    """Return the mean of each window.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.avg_pool1d(x, 2).compute().tolist()
    [[[2.0, 1.0]]]
    """
    dtype = geometry.mean_dtype(x.dtype)
    return by_blocks(partial(_pool_block, images.avg_pool, pool=pool), x, parts_of_layer(x, pool), dtype)


def max_pool_and_indices(x: da.Array, pool: PoolGeometry) -> tuple[da.Array, da.Array]:
    """Return the largest sample of each window, and its place in its channel.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.max_pool1d(x, 2, return_indices=True)[1].compute().tolist()
    [[[1, 2]]]
    """
    places = by_blocks(partial(_indices_block, pool=pool), x, parts_of_layer(x, pool), np.dtype(np.int64))
    return max_pool(x, pool), places


def conv_transpose(x: da.Array, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> da.Array:
    """Return the transpose of the layer, each block from the inputs that reach it.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.conv_transpose1d(x, [[[2, 1]]]).compute().tolist()
    [[[2, 7, 7, 2, 8, 4]]]
    """
    axes = {}
    for i in range(layer.axes):
        window = halos.window_of(layer, i)
        cuts = halos.outputs_beside_transposed(bounds_of(x, i + 2), layer.input_size[i], **window)
        axes[i + 2] = parts_of(cuts, partial(read_transposed, size=layer.output_size[i], window=window))
    function = partial(_transposed_block, w=w, bias=bias, layer=layer)
    return by_blocks(function, x, axes, common_dtype(x, w, bias), whole={1: layer.in_channels})


def bounds_of(x: da.Array, axis: int) -> tuple[int, ...]:
    """Return where the chunks of an axis begin, and where the last ends.

    Examples
    --------
    >>> bounds_of(da.ones((1, 5), chunks=2), 1)
    (0, 2, 4, 5)
    """
    return tuple(accumulate(x.chunks[axis], initial=0))


def common_dtype(*operands: Any) -> np.dtype:
    """Return the dtype that NumPy gives operands together; a bias may be None.

    Examples
    --------
    >>> common_dtype(da.ones(3, dtype=np.int8), np.ones(3, np.float32), None)
    dtype('float32')
    """
    return np.result_type(*[operand.dtype for operand in operands if operand is not None])


def read_transposed(start: int, stop: int, size: int, window: dict[str, int]) -> halos.Read:
    """Return which of ``size`` inputs of a transposed layer a block of its outputs comes from.

    Examples
    --------
    >>> read_transposed(4, 8, 5, {"kernel": 3, "stride": 2, "before": 1}).spans
    ((2, 5),)
    """
    return halos.read(*halos.inputs_of_transposed(start, stop, size, **window), size)


def parts_of_layer(x: da.Array, layer: ConvGeometry | PoolGeometry) -> dict[int, list[Part]]:
    """Return the parts of each spatial axis of a layer or a pooling, cut beside the chunks of its input.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 5), (1, 1, 3), axes=1, padding=1)
    >>> [part.read.spans for part in parts_of_layer(da.ones((1, 1, 5), chunks=2), layer)[2]]
    [((0, 3),), ((1, 5),), ((3, 5),)]
    """
    mode, axes = getattr(layer, "padding_mode", "zeros"), {}
    for i in range(layer.axes):
        cuts = halos.outputs_beside(bounds_of(x, i + 2), layer.output_size[i], **halos.window_of(layer, i))
        axes[i + 2] = parts_of(cuts, partial(halos.read_by, layer, i, padding_mode=mode))
    return axes


def sizes_of(parts: dict[int, Part]) -> tuple[int, ...]:
    """Return how many outputs a block has along each spatial axis.

    Examples
    --------
    >>> sizes_of({2: Part(0, 3, halos.read(0, 3, 9)), 3: Part(4, 8, halos.read(3, 9, 9))})
    (3, 4)
    """
    return tuple([parts[axis].stop - parts[axis].start for axis in sorted(parts)])


def _zeros(parts: dict[int, Part]) -> tuple[tuple[int, int], ...]:
    return tuple([parts[axis].read.zeros for axis in sorted(parts)])


def local_layer(x: np.ndarray, parts: dict[int, Part], layer: ConvGeometry) -> ConvGeometry:
    """Return the layer of a block, of the samples that it sees.

    Examples
    --------
    >>> layer = geometry.conv_geometry((1, 1, 9), (1, 1, 3), axes=1, padding=1)
    >>> local = local_layer(np.ones((1, 1, 3)), {2: Part(0, 2, halos.read(-1, 3, 9))}, layer)
    >>> local.input_size, local.padding, local.output_size
    ((3,), ((1, 0),), (2,))
    """
    return replace(layer, batch=len(x), input_size=x.shape[2:], padding=_zeros(parts), padding_mode="zeros",
                   output_size=sizes_of(parts))  # fmt: skip


def _constant(parts: dict[int, Part], batch: int, channels: int, bias: Any, dtype: Any) -> np.ndarray:
    """A block that sees zeros only: its bias."""
    y = np.zeros((batch, channels, *sizes_of(parts)), dtype)
    if bias is not None:
        y += bias.astype(dtype).reshape(-1, *(1,) * len(parts))
    return y


def _conv_block(x: np.ndarray, parts: dict[int, Part], w: Any, bias: Any, layer: ConvGeometry) -> np.ndarray:
    if 0 in x.shape[2:]:
        return _constant(parts, len(x), layer.out_channels, bias, common_dtype(x, w, bias))
    return images.conv(x, w, bias, local_layer(x, parts, layer))


def _konv_block(
    x: np.ndarray, parts: dict[int, Part], kappa: Any, bias: Any, given: KonvGeometry, basis: str, dtype: Any
) -> np.ndarray:
    if 0 in x.shape[2:] and given.pad == "basis":
        return _constant(parts, len(x), given.layer.out_channels, bias, dtype)
    x, local = local_konv(x, parts, given)
    return konvolution.konv(x, kappa, bias, local, basis)


def local_konv(x: np.ndarray, parts: dict[int, Part], given: KonvGeometry) -> tuple[np.ndarray, KonvGeometry]:
    """Return the samples of a block, with zeros if there is nothing else, and the Konvolution of that block.

    Examples
    --------
    >>> given = geometry.konv_geometry((1, 1, 9), (1, 1, 1, 3), axes=1, padding=4, pad="input")
    >>> x, local = local_konv(np.ones((1, 1, 0)), {2: Part(0, 2, halos.read(-4, 0, 9))}, given)
    >>> x, local.layer.padding
    (array([[[0., 0., 0., 0.]]]), ((0, 0),))
    """
    local = local_layer(x, parts, given.layer)
    if 0 in x.shape[2:]:
        x, local = np.pad(x, ((0, 0), (0, 0), *local.padding)), local.of_padded()
    return x, replace(given, layer=local)


def local_pool(shape: tuple[int, ...], parts: dict[int, Part], pool: PoolGeometry) -> PoolGeometry:
    """Return the pooling of a block that sees samples of a shape.

    Examples
    --------
    >>> pool = geometry.pool_geometry((1, 1, 9), 3, axes=1, stride=2, padding=1)
    >>> local_pool((1, 1, 4), {2: Part(0, 2, halos.read(-1, 4, 9))}, pool).padding
    ((1, 0),)
    """
    sides = [halos.pool_sides(parts[i + 2].read, pool.padding[i][1]) for i in range(pool.axes)]
    return replace(pool, batch=shape[0], channels=shape[1], input_size=shape[2:], padding=tuple(sides),
                   output_size=sizes_of(parts))  # fmt: skip


def _pool_block(function: Any, x: np.ndarray, parts: dict[int, Part], pool: PoolGeometry) -> np.ndarray:
    return function(x, local_pool(x.shape, parts, pool))


def _indices_block(x: np.ndarray, parts: dict[int, Part], pool: PoolGeometry) -> np.ndarray:
    _, places = images.max_pool_and_indices(x, local_pool(x.shape, parts, pool))
    at = np.unravel_index(places, x.shape[2:])
    shifted = [place + parts[i + 2].read.spans[0][0] for i, place in enumerate(at)]
    return np.ravel_multi_index(shifted, pool.input_size)


def _transposed_block(x: np.ndarray, parts: dict[int, Part], w: Any, bias: Any, layer: ConvGeometry) -> np.ndarray:
    """The transpose of a block without padding, of which its outputs are a part."""
    y = _constant(parts, len(x), layer.in_channels, bias, common_dtype(x, w, bias))
    if 0 in x.shape:
        return y
    each = list(zip(x.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True))
    reach = tuple([(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in each])
    local = replace(layer, batch=len(x), input_size=reach, padding=((0, 0),) * layer.axes, output_size=x.shape[2:])
    given = transposes.conv_transpose(x, w, bias, local)
    places: Sequence[Any] = [_overlap(parts[i + 2], layer, i, reach[i]) for i in range(layer.axes)]
    y[(..., *(to for to, _ in places))] = given[(..., *(of for _, of in places))]
    return y


def _overlap(part: Part, layer: ConvGeometry, i: int, reach: int) -> tuple[slice, slice]:
    """Where in a block, and in what its inputs reach, the outputs that are in both lie."""
    first = part.read.spans[0][0] * layer.stride[i] - layer.padding[i][0]
    low, high = max(part.start, first), min(part.stop, first + reach)
    return slice(low - part.start, high - part.start), slice(low - first, high - first)
