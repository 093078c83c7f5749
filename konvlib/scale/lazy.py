"""The backend for Dask arrays: the functions of the other backends, each block of outputs by that for arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry, PoolGeometry, SequenceGeometry, halos
from konvlib.gradients import arrays as gradients
from konvlib.images import arrays as images
from konvlib.konvolution import arrays as konvolution
from konvlib.scale.blocks import Part, by_blocks, parts_of
from konvlib.sequences import arrays as sequences
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
                             f"call {name}.compute_chunk_sizes()")  # fmt: skip
        if operand.dtype.kind not in "biufc":
            raise TypeError(f"{name} must hold machine numbers beside Dask arrays, got dtype {operand.dtype}")
        ready[name] = operand
    return ready


class Backend:
    """The functions of this module, for a chapter's public functions; what is missing is refused by its name."""

    def __init__(self, chapter: str) -> None:
        self.chapter = chapter

    def __getattr__(self, name: str) -> Any:
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        raise TypeError(
            f"{self.chapter}: {name.replace('_', ' ')} has no lazy form, got a Dask array; give its compute(), "
            "if that fits in memory"
        )


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
    return by_blocks(function, x, _parts(x, layer), _common(x, w, bias), whole={1: layer.out_channels})


def konv(x: da.Array, kappa: np.ndarray, bias: np.ndarray | None, given: KonvGeometry, basis: str) -> da.Array:
    """Return the Konvolution, as `conv`.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.konv1d(x, [[[[1, 0]], [[0, 2]]]], basis="monomial").compute().tolist()
    [[[7, 5, 1, 9]]]
    """
    function = partial(_konv_block, kappa=kappa, bias=bias, given=given, basis=basis)
    one = replace(given.layer, batch=1, input_size=given.layer.kernel_size, output_size=(1,) * given.layer.axes,
                  padding=((0, 0),) * given.layer.axes, dilation=(1,) * given.layer.axes)  # fmt: skip
    probe = konvolution.konv(np.ones(one.input_shape, x.dtype), kappa, bias, replace(given, layer=one), basis)
    return by_blocks(function, x, _parts(x, given.layer), probe.dtype, whole={1: given.layer.out_channels})


def max_pool(x: da.Array, pool: PoolGeometry) -> da.Array:
    """Return the largest sample of each window.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.max_pool1d(x, 2).compute().tolist()
    [[[3, 2]]]
    """
    return by_blocks(partial(_pool_block, images.max_pool, pool=pool), x, _parts(x, pool), x.dtype)


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
    return by_blocks(partial(_pool_block, images.avg_pool, pool=pool), x, _parts(x, pool), dtype)


def max_pool_and_indices(x: da.Array, pool: PoolGeometry) -> tuple[da.Array, da.Array]:
    """Return the largest sample of each window, and its place in its channel.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.max_pool1d(x, 2, return_indices=True)[1].compute().tolist()
    [[[1, 2]]]
    """
    places = by_blocks(partial(_indices_block, pool=pool), x, _parts(x, pool), np.dtype(np.int64))
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
        cuts = halos.outputs_beside_transposed(_bounds(x, i + 2), layer.input_size[i], **window)
        axes[i + 2] = parts_of(cuts, partial(_read_transposed, size=layer.output_size[i], window=window))
    function = partial(_transposed_block, w=w, bias=bias, layer=layer)
    return by_blocks(function, x, axes, _common(x, w, bias), whole={1: layer.in_channels})


def conv_input_grad(dy: da.Array, w: np.ndarray, layer: ConvGeometry) -> da.Array:
    """Return the layer's gradient by its input, which is its transpose.

    Raises
    ------
    ValueError
        If padding shows samples, which then receive what their images do.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.conv1d_input_grad(x, [[[2, 1]]], input_size=6).compute().tolist()
    [[[2, 7, 7, 2, 8, 4]]]
    """
    if layer.padding_mode != "zeros" and any(layer.sides):
        raise ValueError(f"padding_mode must be 'zeros' for the lazy input gradient, got {layer.padding_mode!r}")
    return conv_transpose(dy, w, None, layer)


def conv_bias_grad(dy: da.Array, shape: tuple[int, ...]) -> da.Array:
    """Return the sum of each output channel; halves and singles are summed as doubles.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.conv1d_bias_grad(x).compute().tolist()
    [10]
    """
    return dy.sum((0, *range(2, dy.ndim)), dtype=gradients.bias_sum_dtype(dy.dtype)).astype(dy.dtype)


def convolve(f: da.Array, g: np.ndarray, part: SequenceGeometry) -> da.Array:
    """Return the convolution along the last axis.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.convolve(x[0, 0], [2, 1, -1]).compute().tolist()
    [2, 7, 6, -1, 6, 4, -4]
    """
    return _by_taps(sequences.convolve, geometry.convolution_geometry, f, g, part)


def correlate(f: da.Array, g: np.ndarray, part: SequenceGeometry) -> da.Array:
    """Return the correlation along the last axis.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.correlate(x[0, 0], [2, 1, -1]).compute().tolist()
    [3, 8, 0]
    """
    return _by_taps(sequences.correlate, geometry.correlation_geometry, f, g, part)


FUNCTIONS = {
    "avg_pool": avg_pool,
    "conv": conv,
    "conv_bias_grad": conv_bias_grad,
    "conv_input_grad": conv_input_grad,
    "conv_transpose": conv_transpose,
    "convolve": convolve,
    "correlate": correlate,
    "konv": konv,
    "konv_bias_grad": conv_bias_grad,
    "max_pool": max_pool,
    "max_pool_and_indices": max_pool_and_indices,
}


def _by_taps(function: Any, check: Any, f: Any, g: Any, part: SequenceGeometry) -> da.Array:
    """Value ``i`` of a full sum sees samples ``i - (m - 1)`` to ``i`` of ``f``."""
    if not isinstance(f, da.Array) or g.ndim != 1:
        raise ValueError("f must be the Dask array and g one short sequence of one axis")
    if part.boundary == "symmetric":
        raise ValueError("boundary must be zeros, reflect, replicate or circular for Dask arrays, got 'symmetric'")
    first = part.start + part.before
    size = part.n if part.boundary == "zeros" else part.samples
    axis, window = f.ndim - 1, {"kernel": part.m, "before": part.m - 1 - first}
    cuts = halos.outputs_beside(_bounds(f, axis), part.length, **window)
    parts = parts_of(cuts, partial(_read, size=size, mode=part.boundary, window=window))
    block = partial(_taps_block, function=function, check=check, g=g, method=part.method)
    return by_blocks(block, f, {axis: parts}, np.result_type(f.dtype, g))


def _taps_block(f: np.ndarray, parts: dict[int, Part], function: Any, check: Any, g: Any, method: str) -> np.ndarray:
    (part,) = parts.values()
    length = part.stop - part.start
    if not f.size:
        return np.zeros((*f.shape[:-1], length), np.result_type(f, g))
    start = len(g) - 1 - part.read.zeros[0]
    return function(f, g, check(f.shape, g.shape, mode="full", method=method))[..., start : start + length]


def _bounds(x: da.Array, axis: int) -> tuple[int, ...]:
    return tuple(accumulate(x.chunks[axis], initial=0))


def _common(x: Any, w: Any, bias: Any) -> np.dtype:
    return np.result_type(x.dtype, w.dtype, *([] if bias is None else [bias.dtype]))


def _read(start: int, stop: int, size: int, mode: str, window: dict[str, int]) -> halos.Read:
    return halos.read(*halos.inputs_of(start, stop, **window), size, mode)


def _read_transposed(start: int, stop: int, size: int, window: dict[str, int]) -> halos.Read:
    return halos.read(*halos.inputs_of_transposed(start, stop, size, **window), size)


def _parts(x: da.Array, layer: ConvGeometry | PoolGeometry) -> dict[int, list[Part]]:
    """The parts of each spatial axis of a layer or a pooling."""
    mode, axes = getattr(layer, "padding_mode", "zeros"), {}
    for i in range(layer.axes):
        window = halos.window_of(layer, i)
        cuts = halos.outputs_beside(_bounds(x, i + 2), layer.output_size[i], **window)
        axes[i + 2] = parts_of(cuts, partial(_read, size=layer.input_size[i], mode=mode, window=window))
    return axes


def _sizes(parts: dict[int, Part]) -> tuple[int, ...]:
    return tuple([parts[axis].stop - parts[axis].start for axis in sorted(parts)])


def _zeros(parts: dict[int, Part]) -> tuple[tuple[int, int], ...]:
    return tuple([parts[axis].read.zeros for axis in sorted(parts)])


def _local(x: np.ndarray, parts: dict[int, Part], layer: ConvGeometry) -> ConvGeometry:
    """The layer of a block."""
    return replace(layer, batch=len(x), input_size=x.shape[2:], padding=_zeros(parts), padding_mode="zeros",
                   output_size=_sizes(parts))  # fmt: skip


def _constant(parts: dict[int, Part], batch: int, channels: int, bias: Any, dtype: Any) -> np.ndarray:
    """A block that sees zeros only: its bias."""
    y = np.zeros((batch, channels, *_sizes(parts)), dtype)
    if bias is not None:
        y += bias.astype(dtype).reshape(-1, *(1,) * len(parts))
    return y


def _conv_block(x: np.ndarray, parts: dict[int, Part], w: Any, bias: Any, layer: ConvGeometry) -> np.ndarray:
    if 0 in x.shape[2:]:
        return _constant(parts, len(x), layer.out_channels, bias, _common(x, w, bias))
    return images.conv(x, w, bias, _local(x, parts, layer))


def _konv_block(
    x: np.ndarray, parts: dict[int, Part], kappa: Any, bias: Any, given: KonvGeometry, basis: str
) -> np.ndarray:
    local = _local(x, parts, given.layer)
    if 0 in x.shape[2:] and given.pad == "basis":
        return _constant(parts, len(x), given.layer.out_channels, bias, _common(x, kappa, bias))
    if 0 in x.shape[2:]:
        x = np.pad(x, ((0, 0), (0, 0), *local.padding))
        local = replace(local, input_size=x.shape[2:], padding=((0, 0),) * local.axes)
    return konvolution.konv(x, kappa, bias, replace(given, layer=local), basis)


def _local_pool(x: np.ndarray, parts: dict[int, Part], pool: PoolGeometry) -> PoolGeometry:
    sides = [halos.pool_sides(parts[i + 2].read, pool.padding[i][1]) for i in range(pool.axes)]
    return replace(pool, batch=len(x), channels=x.shape[1], input_size=x.shape[2:], padding=tuple(sides),
                   output_size=_sizes(parts))  # fmt: skip


def _pool_block(function: Any, x: np.ndarray, parts: dict[int, Part], pool: PoolGeometry) -> np.ndarray:
    return function(x, _local_pool(x, parts, pool))


def _indices_block(x: np.ndarray, parts: dict[int, Part], pool: PoolGeometry) -> np.ndarray:
    _, places = images.max_pool_and_indices(x, _local_pool(x, parts, pool))
    at = np.unravel_index(places, x.shape[2:])
    shifted = [place + parts[i + 2].read.spans[0][0] for i, place in enumerate(at)]
    return np.ravel_multi_index(shifted, pool.input_size)


def _transposed_block(x: np.ndarray, parts: dict[int, Part], w: Any, bias: Any, layer: ConvGeometry) -> np.ndarray:
    """The transpose of a block without padding, of which its outputs are a part."""
    y = _constant(parts, len(x), layer.in_channels, bias, _common(x, w, bias))
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
