"""Sequences of Dask arrays by a short array: convolution and its relatives along one axis, and along all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from konvlib import geometry
from konvlib.geometry import ResampleGeometry, SequenceGeometry, WholeGeometry, halos
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


def resample(x: da.Array, h: np.ndarray, part: ResampleGeometry) -> da.Array:
    """Return the samples put apart, convolved with ``h``, of which every so many values are kept.

    Examples
    --------
    >>> import konvlib
    >>> konvlib.resample(da.from_array([1, 3, 2, 0, 4], chunks=2), [2, 1, -1], up=3, down=2).compute().tolist()
    [2, -1, 3, 4, -2, 0, 8, -4]
    """
    up, down, dtype = part.up, part.down, common_dtype(x, h)
    x, beside = _in_rows(x, h, part.batch, part.n)
    window, period = {"kernel": part.m, "stride": down, "before": part.m - 1}, down // part.common

    def read(start: int, stop: int) -> halos.Read:
        """From a sample on that is put where a value is kept, none later than the first of the block."""
        low, high = halos.inputs_of_transposed(*halos.inputs_of(start, stop, **window), part.n, kernel=1, stride=up)
        return halos.read(low and min(low, start * down // up) // period * period, high, part.n)

    axis = x.ndim - 1
    cuts = halos.outputs_beside([bound * up for bound in bounds_of(x, axis)], part.length, **window)
    block = partial(_resampled_block, up=up, down=down, dtype=dtype)
    return by_blocks(block, x, {axis: parts_of(cuts, read)}, dtype, beside=beside)


def _along_last(function: Any, check: Any, f: da.Array, g: np.ndarray, part: SequenceGeometry, dtype: Any) -> da.Array:
    f, beside = _in_rows(f, g, part.batch, part.n if part.boundary == "zeros" else part.samples)
    parts = _parts(f, f.ndim - 1, part.m, part.start + part.before, part.length, part.boundary)
    check = partial(check, mode="full", method=part.method)
    block = partial(_block, function=function, check=check, dtype=dtype)
    return by_blocks(block, f, {f.ndim - 1: parts}, dtype, beside=beside)


def _in_rows(f: da.Array, g: np.ndarray, batch: tuple[int, ...], size: int) -> tuple[da.Array, list[da.Array]]:
    """The first sequence with its whole batch, and the second in chunks that go beside it; single rows go with all."""
    f = da.broadcast_to(f, (*batch, size))
    g = np.broadcast_to(g, (*(1,) * (f.ndim - g.ndim), *(g.shape or (1,))))
    rows = [chunks if n > 1 else (1,) for chunks, n in zip(f.chunks, g.shape[:-1], strict=False)]
    return f, [da.from_array(g, chunks=(*rows, g.shape[-1:]))]


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


def _resampled_block(x: np.ndarray, parts: dict[int, Part], h: np.ndarray, up: int, down: int, dtype: Any) -> Any:
    (part,) = parts.values()
    y = np.zeros((*x.shape[:-1], part.stop - part.start), dtype)
    if x.size:
        first = part.start - part.read.spans[0][0] * up // down
        local = geometry.resample_geometry(x.shape, h.shape, up=up, down=down, axis=-1)
        given = sequences.resample(x, h, local)[..., first : first + y.shape[-1]]
        y[..., : given.shape[-1]] = given
    return y
