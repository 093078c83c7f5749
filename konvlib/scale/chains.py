"""A chain of layers in one read: each block of outputs carries the borders that all of its layers need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import ConvGeometry, Padding, PerAxis, halos
from konvlib.geometry.arguments import shown as told
from konvlib.geometry.layers import AXIS_NAMES
from konvlib.scale import lazy
from konvlib.scale.blocks import Part, by_blocks, by_slices, parts_of, shown
from konvlib.scale.stores import Store, checked_store
from konvlib.strides.chains import Layer


class PaddedLayer(NamedTuple):
    """One convolution of a chain: a `konvlib.Layer` with padding.

    Attributes
    ----------
    weight : array_like, shape (C_out, C_in // groups, *kernel_size)
        The weight; or a bare kernel of one or two axes, which has one channel.
    stride, dilation : int or sequence of int
        One for all axes, or one each.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    groups : int
        Into how many groups the channels fall.
    padding, padding_mode
        As in `konvlib.conv2d`.
    """

    weight: Any
    stride: PerAxis = 1
    dilation: PerAxis = 1
    bias: Any = None
    groups: int = 1
    padding: Padding = 0
    padding_mode: str = "zeros"


@dataclass(frozen=True)
class Step:
    """A layer made ready; or a function, which along axes is a layer of one tap."""

    layer: ConvGeometry
    w: Any
    bias: Any
    function: Callable[[np.ndarray], np.ndarray] | None
    dtype: np.dtype


def chain(x: Any, layers: Sequence[Any], *, chunks: Any = None) -> da.Array:
    r"""Return a chain of layers, each block from one read of the chain's receptive field, lazily.

    .. math:: r = 1 + \sum_j d_j (k_j - 1) \prod_{i<j} s_i

    A block of ``b`` outputs along an axis reads ``r + (b - 1) s`` samples, where ``s`` is the product of all strides,
    and computes what its layers share with neighbouring blocks itself, so that nothing between layers is kept or
    exchanged. Padding lies around the result of each layer, not around what a block computes of it.

    Parameters
    ----------
    x : dask.array.Array, or a store as in `konvlib.scale.from_store`; shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch; of shape ``size`` where weights are bare kernels.
    layers : list of PaddedLayer, konvlib.Layer or function
        First layer first; a tuple ``(weight, stride, dilation, bias, groups, padding, padding_mode)``, of which any end
        may be left out, will do. A function takes and gives an array ``(N, C, *size)``, and looks at each place by
        itself: an activation. It is sent to workers.
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
        If a layer does not take what the one before gives, if one has circular padding, which shows the far end, or if
        chunks do not sum to the output; it names the layer.

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
    last, dtype = steps[-1].layer, steps[-1].dtype
    x = x[(None,) * missing] if isinstance(x, da.Array) else Store(x, missing)
    if chunks is None:
        batch, _, *given = x.blocks(_bytes_each(x, steps)) if isinstance(x, Store) else x.chunks
        cuts = [_beside(tuple(accumulate(row, initial=0)), steps, i) for i, row in enumerate(given)]
    else:
        batch, _, *sizes = _checked_chunks(chunks, last.output_shape, missing, dtype)
        cuts = [tuple(accumulate(each, initial=0)) for each in sizes]
    reads = {i + 2: partial(_first_read, steps=steps, i=i) for i in range(last.axes)}
    function = partial(_chain_block, steps=steps)
    if isinstance(x, da.Array):
        parts = {axis: parts_of(cuts[axis - 2], read) for axis, read in reads.items()}
        y = by_blocks(function, x.rechunk({0: batch}), parts, dtype, whole={1: last.out_channels})
    else:
        sizes = [tuple([stop - start for start, stop in pairwise(row) if start < stop]) for row in cuts]
        y = by_slices(function, x, reads, (batch, (last.out_channels,), *sizes), dtype, whole=[1])
    return y[(0,) * missing] if missing else y


def _regular(layers: Any) -> list[Any]:
    """The layers with what was left out; functions as they are."""
    if isinstance(layers, (Layer, PaddedLayer)) or not isinstance(layers, (list, tuple)):
        raise TypeError(f"layers must be a list of layers, got {type(layers).__name__}")
    for number, layer in enumerate(layers):
        if not callable(layer) and not (isinstance(layer, tuple) and 1 <= len(layer) <= len(PaddedLayer._fields)):
            raise TypeError(
                f"layers[{number}] must be a PaddedLayer, a tuple ({', '.join(PaddedLayer._fields)}) or a function, "
                f"got {type(layer).__name__}"
            )
    return [layer if callable(layer) else PaddedLayer(*layer) for layer in layers]


def _steps(x: Any, name: str, layers: dict[str, Any]) -> tuple[list[Step], int]:
    """Each layer with its geometry, checked from shapes alone; and how many axes the operand lacks."""
    ready = {}
    for label, layer in layers.items():
        with _labelled(label):
            ready[label] = layer if callable(layer) else lazy.checked({"w": layer.weight, "bias": layer.bias})
    weights = [operands["w"] for operands in ready.values() if isinstance(operands, dict)]
    if not weights:
        raise ValueError("layers must hold at least one layer with a weight, got none")
    axes = geometry.kernel_axes(weights[0].shape, "w")
    shape, dtype = tuple(x.shape), np.dtype(x.dtype)
    missing = axes + 2 - len(shape)
    bare = all([w.ndim == axes for w in weights])
    if not 0 <= missing <= 1 + bare:
        wanted = f"{axes + 2} axes {AXIS_NAMES[axes]}, or {axes + 1} without a batch"
        wanted += f", or {axes} with bare kernels" if axes < 3 else ""
        raise ValueError(f"{name} must have {wanted}, got shape {shape}, with w of shape {weights[0].shape}")
    if 0 in ((1,) * missing + shape)[1:]:
        raise ValueError(f"{name} must not be empty, got shape {shape}")
    steps, shape = [], (1,) * missing + shape
    for label, layer in layers.items():
        with _labelled(label):
            steps.append(_step(shape, dtype, layer, ready[label], axes))
        shape, dtype = steps[-1].layer.output_shape, steps[-1].dtype
    _check_fused(list(layers), steps)
    return steps, missing


@contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Errors begin with the layer's name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{label}{error}") from None


def _step(shape: tuple[int, ...], dtype: np.dtype, layer: Any, operands: Any, axes: int) -> Step:
    if callable(layer):
        one = geometry.conv_geometry(shape, (shape[1], 1, *(1,) * axes), axes=axes, groups=shape[1])
        return Step(one, None, None, layer, _checked_function(layer, shape[1], axes, dtype))
    w, bias = operands["w"], operands["bias"]
    if w.ndim == axes:
        w = w[None, None]
    options = {part: getattr(layer, part) for part in ("stride", "padding", "dilation", "groups", "padding_mode")}
    bias_shape = None if bias is None else bias.shape
    made = geometry.conv_geometry(shape, w.shape, bias_shape, axes=axes, **options)
    dtypes = [dtype, w.dtype] if bias is None else [dtype, w.dtype, bias.dtype]
    return Step(made, w, bias, None, np.result_type(*dtypes))


def _checked_function(function: Any, channels: int, axes: int, dtype: np.dtype) -> np.dtype:
    """The dtype that a function gives, seen on a small array, where it must look at each place by itself."""
    shape = (2, channels, *(2, 3, 4)[:axes])
    probe = np.arange(prod(shape)).reshape(shape).astype(dtype)
    first, last = ((side, slice(None), *[side] * axes) for side in (slice(1), slice(1, None)))
    try:
        with np.errstate(all="ignore"):
            whole, *alone = [function(part) for part in (probe, probe[first], probe[last])]
    except Exception as error:
        raise TypeError(f"a function must take an array, and raised {type(error).__name__}: {error}") from error
    if not isinstance(whole, np.ndarray) or whole.shape != shape:
        raise ValueError(f"a function must give an array of the shape that it gets, got {told(whole)}")
    for place, part in zip((first, last), alone, strict=True):
        if np.shape(part) != whole[place].shape or not np.allclose(whole[place], part, equal_nan=True):
            raise ValueError("a function must look at each place by itself, got one that looks at others too")
    return whole.dtype


def _check_fused(labels: list[str], steps: list[Step]) -> None:
    """Circular padding shows the far end, which no other layer of a chain may need."""
    for label, step in zip(labels, steps, strict=True):
        if len(steps) > 1 and step.layer.padding_mode == "circular" and any(step.layer.sides):
            raise ValueError(
                f"{label}padding_mode must be zeros, reflect or replicate in a chain, got 'circular', which shows the "
                "far end; call the layers one by one"
            )


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
    windows = [halos.window_of(step.layer, i) for step in steps]
    sizes = [step.layer.input_size[i] for step in steps]
    # Where there is no padding, its mode says nothing.
    modes = [step.layer.padding_mode if any(step.layer.padding[i]) else "zeros" for step in steps]
    if len(steps) == 1:
        return [halos.read_by(steps[0].layer, i, start, stop, modes[0])]
    rows = [(each["kernel"], each["stride"], each["dilation"], each["before"]) for each in windows]
    return halos.inputs_of_chain(start, stop, rows, sizes, modes)


def _first_read(start: int, stop: int, steps: Sequence[Step], i: int) -> halos.Read:
    return _reads(start, stop, steps, i)[0]


def _bytes_each(x: Store, steps: Sequence[Step]) -> int:
    """The bytes of the largest image of a chain, for each place of the first."""
    images = [(x.shape, x.dtype), *[(step.layer.output_shape, step.dtype) for step in steps]]
    largest = max([prod(shape) * dtype.itemsize for shape, dtype in images])
    return -(-largest // max(prod(x.shape) // x.shape[1], 1)) or 1


def _beside(bounds: tuple[int, ...], steps: Sequence[Step], i: int) -> tuple[int, ...]:
    """Where to cut the outputs of a chain whose input is cut at bounds: its windows are those of one layer."""
    windows = [halos.window_of(step.layer, i) for step in steps]
    field = geometry.receptive_field([tuple(window.values()) for window in windows])
    outputs = steps[-1].layer.output_size[i]
    return halos.outputs_beside(bounds, outputs, kernel=field.size, stride=field.stride, before=-field.start)


def _chain_block(block: np.ndarray, parts: dict[int, Part], steps: Sequence[Step]) -> np.ndarray:
    """Each layer on what the one before gave of it, with zeros around that where its own padding is."""
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
        block = _step_block(block, here, step)
    return block


def _step_block(x: np.ndarray, parts: dict[int, Part], step: Step) -> np.ndarray:
    if step.function is not None:
        return step.function(x) if x.size else x.astype(step.dtype)
    return lazy._conv_block(x, parts, step.w, step.bias, step.layer)
