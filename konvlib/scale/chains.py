"""A chain of layers in one read: each block of outputs carries the borders that all of its layers need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from konvlib.geometry import halos
from konvlib.geometry.arguments import shown as told
from konvlib.geometry.layers import AXIS_NAMES
from konvlib.scale import lazy
from konvlib.scale.blocks import Part, by_blocks, by_slices, parts_of, shown
from konvlib.scale.links import NAMED, PaddedLayer, Step, operands_of, spatial_axes, step_of
from konvlib.scale.stores import Store, checked_store
from konvlib.strides.chains import Layer


def chain(x: Any, layers: Sequence[Any], *, chunks: Any = None) -> da.Array:
    r"""Return a chain of layers and poolings, each block from one read of the chain's receptive field, lazily.

    .. math:: r = 1 + \sum_j d_j (k_j - 1) \prod_{i<j} s_i

    A block of ``b`` outputs along an axis reads ``r + (b - 1) s`` samples, where ``s`` is the product of all strides,
    and computes what its layers share with neighbouring blocks itself, so that nothing between layers is kept or
    exchanged. Where a layer multiplies by its stride, a transposed one divides. Padding lies around the result of each
    layer, not around what a block computes of it: zeros for a layer, nothing for a largest sample.

    Parameters
    ----------
    x : dask.array.Array, or a store as in `konvlib.scale.from_store`; shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch; of shape ``size`` where weights are bare kernels.
    layers : list of PaddedLayer, konvlib.Layer, MaxPool, AvgPool, Konv, ConvTranspose or function
        First layer first; for a PaddedLayer, a tuple ``(weight, stride, dilation, bias, groups, padding,
        padding_mode)``, of which any end may be left out, will do. A function takes and gives an array
        ``(N, C, *size)``, and looks at each place by itself: an activation. It is sent to workers. Weights say how many
        axes are spatial; where there are none, a pooling's ``kernel_size`` with an entry for each does.
    chunks : as in `dask.array.Array.rechunk`, optional
        Of the result, with all channels in one. By default, blocks of outputs lie beside those of inputs, or as in
        `konvlib.scale.from_store`.

    Returns
    -------
    dask.array.Array, shape (N, C_out, *output_size) or as ``x``
        With the dtype that the layers give one after the other.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If a layer does not take what the one before gives, if one after the first has circular padding, which shows the
        far end, or if chunks do not sum to the output; it names the layer.

    See Also
    --------
    konvlib.compose_chain : One layer that is all of a chain without padding.
    konvlib.scale.from_store : One layer of a store.

    Examples
    --------
    >>> x = da.arange(12, chunks=4).reshape(1, 1, 12)
    >>> relu = partial(np.maximum, 0)
    >>> y = chain(x, [PaddedLayer([[[1, -1, 1]]], padding=1), relu, PaddedLayer([[[1, 2]]], stride=2)])
    >>> y.chunks, y.compute().tolist()
    (((1,), (1,), (2, 2, 2)), [[[3, 8, 14, 20, 26, 10]]])

    A small network: layer, activation, pooling, Konvolution.

    >>> from konvlib.scale import Konv, MaxPool
    >>> network = [([[[1, -1, 1]]],), relu, MaxPool(2, padding=1), Konv([[[[0]], [[2]], [[1]]]], basis="monomial")]
    >>> chain(x, network).compute().tolist()
    [[[3, 15, 35, 63, 99, 120]]]
    """
    every = _regular(layers)
    x = lazy.checked({"x": x})["x"] if isinstance(x, da.Array) else checked_store(x, "x")
    return lazily(x, "x", {f"layers[{number}]: ": layer for number, layer in enumerate(every)}, chunks)


def lazily(x: Any, name: str, layers: dict[str, Any], chunks: Any) -> da.Array:
    """Return the chain of a Dask array or a store that was checked, which errors call by its name.

    Errors about a layer begin with its key.

    Examples
    --------
    >>> lazily(np.arange(5), "store", {"": PaddedLayer([2, 1])}, None).compute()
    array([ 1,  4,  7, 10])
    """
    steps, missing = _steps(x, name, layers)
    shape, dtype = steps[-1].output_shape, steps[-1].dtype
    axes = len(shape) - 2
    x = x[(None,) * missing] if isinstance(x, da.Array) else Store(x, missing)
    if chunks is None:
        batch, _, *given = x.blocks(_bytes_each(x, steps)) if isinstance(x, Store) else x.chunks
        cuts = [_beside(tuple(accumulate(row, initial=0)), steps, i) for i, row in enumerate(given)]
    else:
        batch, _, *sizes = _checked_chunks(chunks, shape, missing, dtype)
        cuts = [tuple(accumulate(each, initial=0)) for each in sizes]
    reads = {i + 2: partial(_first_read, steps=steps, i=i) for i in range(axes)}
    function = partial(_chain_block, steps=steps)
    if isinstance(x, da.Array):
        parts = {axis: parts_of(cuts[axis - 2], read) for axis, read in reads.items()}
        y = by_blocks(function, x.rechunk({0: batch}), parts, dtype, whole={1: shape[1]})
    else:
        sizes = [tuple([stop - start for start, stop in pairwise(row) if start < stop]) for row in cuts]
        y = by_slices(function, x, reads, (batch, (shape[1],), *sizes), dtype, whole=[1])
    return y[(0,) * missing] if missing else y


def _regular(layers: Any) -> list[Any]:
    """The links with what was left out; functions as they are."""
    if isinstance(layers, (Layer, *NAMED)) or not isinstance(layers, (list, tuple)):
        raise TypeError(f"layers must be a list of layers, got {type(layers).__name__}")
    for number, layer in enumerate(layers):
        is_layer = isinstance(layer, tuple) and 1 <= len(layer) <= len(PaddedLayer._fields)
        if not (is_layer or callable(layer) or isinstance(layer, NAMED)):
            names = ", ".join([each.__name__ for each in NAMED])
            raise TypeError(
                f"layers[{number}] must be a {names}, a tuple ({', '.join(PaddedLayer._fields)}) or a function, "
                f"got {type(layer).__name__}"
            )
    return [PaddedLayer(*layer) if isinstance(layer, tuple) else layer for layer in layers]


def _steps(x: Any, name: str, layers: dict[str, Any]) -> tuple[list[Step], int]:
    """Each link with its geometry, checked from shapes alone; and how many axes the operand lacks."""
    ready, told_axes = {}, []
    for label, layer in layers.items():
        with _labelled(label):
            ready[label] = operands_of(layer)
            told_axes.append(spatial_axes(layer, ready[label]))
    axes = next(filter(None, told_axes), None)
    if axes is None:
        raise ValueError(
            "layers must hold at least one layer with a weight, got none; a kernel_size for each axis will do, too"
        )
    shape, dtype = tuple(x.shape), np.dtype(x.dtype)
    missing = axes + 2 - len(shape)
    weights = [(key, every[key].shape) for every in ready.values() for key in ("w", "kappa") if key in every]
    bare = all([len(each) == axes for _, each in weights])
    if not 0 <= missing <= 1 + bare:
        wanted = f"{axes + 2} axes {AXIS_NAMES[axes]}, or {axes + 1} without a batch"
        wanted += f", or {axes} with bare kernels" if axes < 3 else ""
        beside = ", with {} of shape {}".format(*weights[0]) if weights else ""
        raise ValueError(f"{name} must have {wanted}, got shape {shape}{beside}")
    if 0 in ((1,) * missing + shape)[1:]:
        raise ValueError(f"{name} must not be empty, got shape {shape}")
    steps, shape = [], (1,) * missing + shape
    for label, layer in layers.items():
        with _labelled(label):
            steps.append(step_of(layer, ready[label], shape, dtype, axes))
            if len(steps) > 1 and steps[-1].is_circular:
                raise ValueError(
                    "padding_mode must be zeros, reflect or replicate after the first layer of a chain, got "
                    "'circular', which shows the far end; call the layers one by one"
                )
        shape, dtype = steps[-1].output_shape, steps[-1].dtype
    return steps, missing


@contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Errors begin with the layer's name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{label}{error}") from None


def _checked_chunks(chunks: Any, shape: tuple[int, ...], missing: int, dtype: np.dtype) -> Any:
    """The chunks of the result, one row for each axis of ``shape``, of which the first ones may be missing."""
    wanted = f"chunks must sum to the output's shape {shape[missing:]}, with all {shape[1]} channels in one"
    if isinstance(chunks, str) and chunks == "auto":
        chunks = ("auto", -1, *["auto"] * (len(shape) - 2))[missing:]
    try:
        cut = da.core.normalize_chunks(chunks, shape[missing:], dtype=dtype)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise ValueError(f"{wanted}, got {told(chunks)}") from error
    cut = ((1,),) * missing + cut
    if tuple([sum(row) for row in cut]) != shape or len(cut[1]) > 1 or any([size < 0 for row in cut for size in row]):
        raise ValueError(f"{wanted}, got {told(chunks)}")
    return cut


def _reads(start: int, stop: int, steps: Sequence[Step], i: int) -> list[halos.Read]:
    """What each step reads along a spatial axis for outputs of the last."""
    return halos.inputs_of_chain(start, stop, [partial(step.read, i) for step in steps])


def _first_read(start: int, stop: int, steps: Sequence[Step], i: int) -> halos.Read:
    return _reads(start, stop, steps, i)[0]


def _bytes_each(x: Store, steps: Sequence[Step]) -> int:
    """The bytes of the largest image of a chain, for each place of the first."""
    images = [(x.shape, x.dtype), *[(step.output_shape, step.dtype) for step in steps]]
    largest = max([prod(shape) * dtype.itemsize for shape, dtype in images])
    return -(-largest // max(prod(x.shape) // x.shape[1], 1)) or 1


def _beside(bounds: tuple[int, ...], steps: Sequence[Step], i: int) -> tuple[int, ...]:
    """Where to cut the outputs of a chain whose input is cut at bounds."""
    for step in steps:
        bounds = step.cuts(i, bounds)
    return bounds


def _chain_block(block: np.ndarray, parts: dict[int, Part], steps: Sequence[Step]) -> np.ndarray:
    """Each layer on what the one before gave of it, with padding around that where its own padding is."""
    reads = {axis: _reads(part.start, part.stop, steps, axis - 2) for axis, part in parts.items()}
    for number, step in enumerate(steps):
        here = {}
        for axis, part in parts.items():
            if number:
                block = shown(block, axis, reads[axis][number])
            outputs = (part.start, part.stop)
            if number + 1 < len(steps):
                outputs = (reads[axis][number + 1].spans or ((0, 0),))[0]
            here[axis] = Part(*outputs, reads[axis][number])
        shape = (len(block), step.output_shape[1], *lazy.sizes_of(here))
        block = np.empty(shape, step.dtype) if 0 in shape else step.compute(block, here)
    return block
