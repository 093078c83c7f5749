"""Sequences of Dask arrays by a short array: convolution, correlation, along one axis and along all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import SequenceGeometry, WholeGeometry, halos
from konvlib.scale.blocks import Part, by_blocks, parts_of
from konvlib.scale.lazy import bounds_of, common_dtype
from konvlib.sequences import arrays as sequences


def convolve(f: da.Array, g: np.ndarray, part: SequenceGeometry) -> da.Array:
    """Return the convolution along the last axis.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.convolve(x[0, 0], [2, 1, -1]).compute().tolist()
    [2, 7, 6, -1, 6, 4, -4]
    """
    return _along_last(sequences.convolve, geometry.convolution_geometry, f, g, part, common_dtype(f, g))


def correlate(f: da.Array, g: np.ndarray, part: SequenceGeometry) -> da.Array:
    """Return the correlation along the last axis.

    Examples
    --------
    >>> import konvlib
    >>> x = da.from_array([[[1, 3, 2, 0, 4]]], chunks=2)
    >>> konvlib.correlate(x[0, 0], [2, 1, -1]).compute().tolist()
    [3, 8, 0]
    """
    return _along_last(sequences.correlate, geometry.correlation_geometry, f, g, part, common_dtype(f, g))


def normalized_correlation(f: da.Array, g: np.ndarray, part: SequenceGeometry) -> da.Array:
    """Return the correlation along the last axis, each lag divided by the norms of what it compares.

    Examples
    --------
    >>> import konvlib
    >>> konvlib.normalized_correlation(da.from_array([3, 4, 0, 0, 0, 6, 8], chunks=3), [3, 4]).compute().tolist()
    [1.0, 0.6, 0.0, 0.0, 0.8, 1.0]
    """
    dtype, check = geometry.mean_dtype(common_dtype(f, g)), geometry.correlation_geometry
    return _along_last(sequences.normalized_correlation, check, f, g, part, dtype)


def convolve_nd(f: da.Array, g: np.ndarray, part: WholeGeometry) -> da.Array:
    """Return the convolution along all axes.

    Examples
    --------
    >>> import konvlib
    >>> konvlib.convolve_nd(da.from_array([[1, 3], [2, 0]], chunks=1), [[1, 10]]).compute().tolist()
    [[1, 13, 30], [2, 20, 0]]
    """
    parts = {axis: _parts(f, axis, g.shape[axis], part.starts[axis], part.lengths[axis]) for axis in range(f.ndim)}
    check = partial(geometry.whole_geometry, mode="full", method=part.method)
    function = partial(_block, function=sequences.convolve_nd, check=check, g=g, dtype=common_dtype(f, g))
    return by_blocks(function, f, parts, common_dtype(f, g))


def _along_last(function: Any, check: Any, f: da.Array, g: np.ndarray, part: SequenceGeometry, dtype: Any) -> da.Array:
    """Blocks of ``f`` beside the rows of ``g`` that go with them; axes of one row are broadcast."""
    size = part.n if part.boundary == "zeros" else part.samples
    f, axis = da.broadcast_to(f, (*part.batch, size)), len(part.batch)
    g = np.broadcast_to(g, (*(1,) * (axis + 1 - g.ndim), *(g.shape or (1,))))
    rows = [chunks if n > 1 else (1,) for chunks, n in zip(f.chunks, g.shape[:-1], strict=False)]
    parts = _parts(f, axis, part.m, part.start + part.before, part.length, part.boundary)
    check = partial(check, mode="full", method=part.method)
    block = partial(_block, function=function, check=check, dtype=dtype)
    return by_blocks(block, f, {axis: parts}, np.dtype(dtype), beside=[da.from_array(g, chunks=(*rows, (part.m,)))])


def _parts(f: da.Array, axis: int, taps: int, first: int, length: int, boundary: str = "zeros") -> list[Part]:
    """Parts of an axis, from value ``first`` of the full sum on: value ``i`` sees samples ``i - taps + 1`` to ``i``."""
    window = {"kernel": taps, "before": taps - 1 - first}

    def read(start: int, stop: int) -> halos.Read:
        return halos.read(*halos.inputs_of(start, stop, **window), f.shape[axis], boundary)

    return parts_of(halos.outputs_beside(bounds_of(f, axis), length, **window), read)


def _block(f: np.ndarray, parts: dict[int, Part], g: np.ndarray, function: Any, check: Callable, dtype: Any) -> Any:
    """The part of the full sum of what is read that takes no other samples."""
    lengths = [part.stop - part.start for part in parts.values()]
    if not f.size:
        return np.zeros((*f.shape[: f.ndim - len(lengths)], *lengths), dtype)
    taps: Sequence[int] = g.shape[g.ndim - len(lengths) :]
    starts = [m - 1 - part.read.zeros[0] for m, part in zip(taps, parts.values(), strict=True)]
    places = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    return function(f, g, check(f.shape, g.shape))[(..., *places)]
