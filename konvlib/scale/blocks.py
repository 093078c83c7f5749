"""Blocks of outputs: each is computed from the samples that it reads, of a Dask array or of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, pairwise, product
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task, TaskRef

from konvlib.geometry import halos
from konvlib.geometry.halos import Interval, Read


@dataclass(frozen=True)
class Part:
    """What a block of outputs is along one axis: outputs ``start`` to ``stop``, and what they read."""

    start: int
    stop: int
    read: Read


def parts_of(cuts: Sequence[int], reads: Callable[[int, int], Read]) -> list[Part]:
    """Return the parts between cuts, none of them empty, each with what ``reads(start, stop)`` says.

    Examples
    --------
    >>> [part.stop for part in parts_of([0, 2, 2, 5], lambda start, stop: Read(((start, stop),), (0, stop - start)))]
    [2, 5]
    """
    return [Part(start, stop, reads(start, stop)) for start, stop in pairwise(cuts) if start < stop]


def by_blocks(
    function: Callable[..., np.ndarray],
    x: da.Array,
    axes: dict[int, list[Part]],
    dtype: Any,
    *,
    whole: dict[int, int] | None = None,
    beside: Sequence[da.Array] = (),
    chunks: tuple[tuple[int, ...], ...] | None = None,
) -> da.Array:
    """Return the array of which ``function(block, parts, *beside)`` gives each block, lazily.

    Parameters
    ----------
    function : callable
        Takes the samples that a block sees, without zeros around them, and its parts, by axis; an axis along which it
        sees zeros only has none. It is sent to workers.
    x : dask.array.Array
        The samples.
    axes : dict
        The parts along each axis that is read with its neighbours. Other axes keep their chunks.
    dtype : dtype
        Of the result.
    whole : dict, optional
        Axes of which a block sees all, with their size in the result.
    beside : sequence of dask.array.Array, optional
        Arrays with as many blocks along each axis; the function gets the one of each that has the block's place.
    chunks : tuple, optional
        Those of the result, if its blocks are not as the parts and ``whole`` say.

    Examples
    --------
    >>> x = da.arange(6, chunks=2)
    >>> ends = [Part(0, 2, Read(((0, 3),), (0, 3))), Part(2, 5, Read(((2, 6),), (0, 4)))]
    >>> by_blocks(lambda block, parts: np.diff(block), x, {0: ends}, x.dtype).compute()
    array([1, 1, 1, 1, 1])
    """
    whole = whole or {}
    x = x.rechunk(dict.fromkeys(whole, -1))
    x = gathered(x, {axis: [part.read for part in parts] for axis, parts in axes.items()})
    if chunks is None:
        sizes = {axis: (size,) for axis, size in whole.items()}
        sizes |= {axis: tuple([part.stop - part.start for part in parts]) for axis, parts in axes.items()}
        chunks = tuple([sizes.get(axis, given) for axis, given in enumerate(x.chunks)])
    computed = partial(_computed, function=function, axes=axes)
    return da.map_blocks(computed, x, *beside, chunks=chunks, dtype=dtype, meta=np.empty((0,) * x.ndim, dtype))


def by_slices(
    function: Callable[..., np.ndarray],
    store: Any,
    reads: dict[int, Callable[[int, int], Read]],
    chunks: tuple[tuple[int, ...], ...],
    dtype: Any,
    *,
    whole: Sequence[int] = (),
) -> da.Array:
    """Return the array of which ``function(block, parts)`` gives each block, which slices a store itself, lazily.

    Parameters
    ----------
    function : callable
        As for `by_blocks`.
    store : object with shape, dtype and slices
        Sent to workers, which read it there; one span after the other where a block sees two.
    reads : dict
        What outputs ``start`` to ``stop`` read, along each axis that is read with its neighbours. Along others, blocks
        see what lies at their own place.
    chunks : tuple of tuple of int
        Of the result.
    dtype : dtype
        Of the result.
    whole : sequence of int
        Axes of which a block sees all.

    Examples
    --------
    >>> def read(start, stop):
    ...     return Read(((start, stop + 1),), (0, stop + 1 - start))
    >>> by_slices(lambda block, parts: np.diff(block), np.arange(6), {0: read}, ((2, 3),), int).compute()
    array([1, 1, 1, 1, 1])
    """
    sliced = partial(_sliced, function=function, store=store, reads=reads, whole=whole)
    # A name of its own: the store may hold other samples at the next call.
    name = f"from-store-{uuid4().hex}"
    return da.map_blocks(sliced, chunks=chunks, dtype=dtype, meta=np.empty((0,) * len(chunks), dtype), name=name)


def slices_of(store: Any, spans: Sequence[tuple[Interval, ...]]) -> np.ndarray:
    """Return the samples of a store at spans along each axis; nothing is read where an axis has none.

    Examples
    --------
    >>> slices_of(np.arange(12).reshape(2, 6), [((0, 2),), ((0, 1), (4, 6))])
    array([[ 0,  4,  5],
           [ 6, 10, 11]])
    """
    if not all(spans):
        return np.zeros([sum([stop - start for start, stop in each]) for each in spans], store.dtype)

    def along(at: tuple[slice, ...]) -> np.ndarray:
        axis = len(at)
        if axis == len(spans):
            return np.asarray(store[at])
        pieces = [along((*at, slice(*span))) for span in spans[axis]]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis)

    return along(())


def _sliced(function: Any, store: Any, reads: Any, whole: Sequence[int], block_info: Any = None) -> np.ndarray:
    place = block_info[None]["array-location"]
    parts = {axis: Part(*place[axis], read(*place[axis])) for axis, read in reads.items()}
    spans = [((0, store.shape[axis]),) if axis in whole else (span,) for axis, span in enumerate(place)]
    for axis, part in parts.items():
        spans[axis] = part.read.spans
    block = slices_of(store, spans)
    for axis, part in parts.items():
        block = shown(block, axis, part.read)
    return function(block, parts)


def shown(block: np.ndarray, axis: int, read: Read) -> np.ndarray:
    """Return what is seen along an axis of the samples that were read, without zeros.

    Examples
    --------
    >>> shown(np.array([1, 3, 2]), 0, Read(((0, 3),), (0, 2), (0, 0), ((2, 1), ())))
    array([2, 3, 1, 3])
    """
    at = (slice(None),) * axis
    core = block[(*at, slice(*read.core))]
    if not any(read.shown):
        return core
    left, right = (block[(*at, list(places))] for places in read.shown)
    return np.concatenate([left, core, right], axis)


def gathered(x: da.Array, reads: dict[int, Sequence[Read]]) -> da.Array:
    """Return an array with one chunk for each read along axes; along others, its chunks are those of ``x``.

    Each chunk is put together at once. What it needs of a part of another is cut out where that lies, once for all that
    need it. Where nothing is read one sample stands, which `shown` drops, since chunks are not empty.

    Examples
    --------
    >>> gathered(da.arange(6, chunks=2), {0: [Read(((0, 3),), (0, 3)), Read(((2, 6),), (0, 4))]}).compute()
    array([0, 1, 2, 2, 3, 4, 5])
    """
    rows, chunks = [], []
    for axis, sizes in enumerate(x.chunks):
        if axis in reads:
            spans = [read.spans or ((0, 1),) for read in reads[axis]]
            bounds = tuple(accumulate(sizes, initial=0))
            rows.append([[piece for span in each for piece in halos.pieces(*span, bounds)] for each in spans])
            chunks.append(tuple([sum([stop - start for start, stop in each]) for each in spans]))
        else:
            rows.append([[(number, 0, size)] for number, size in enumerate(sizes)])
            chunks.append(sizes)
    name = f"gathered-{tokenize(x.name, reads)}"
    tasks: dict[Any, Any] = {}
    for place in product(*[range(len(row)) for row in rows]):
        pieces = [row[number] for row, number in zip(rows, place, strict=True)]
        parts = [_part_of(x, at, name, tasks) for at in product(*pieces)]
        key = (name, *place)
        tasks[key] = Task(key, _put_together, tuple(map(len, pieces)), *parts)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[x])
    return da.Array(graph, name, tuple(chunks), dtype=x.dtype, meta=x._meta)


def _part_of(x: da.Array, at: Sequence[tuple[int, int, int]], name: str, tasks: dict[Any, Any]) -> TaskRef:
    """A chunk, or the task that cuts a part out of one."""
    source = (x.name, *[chunk for chunk, _, _ in at])
    if all([stop - start == x.chunks[axis][chunk] for axis, (chunk, start, stop) in enumerate(at)]):
        return TaskRef(source)
    key = (f"part-{name}", *chain.from_iterable(at))
    if key not in tasks:
        tasks[key] = Task(key, _cut_out, TaskRef(source), tuple([slice(start, stop) for _, start, stop in at]))
    return TaskRef(key)


def _cut_out(block: np.ndarray, at: tuple[slice, ...]) -> np.ndarray:
    """A copy, so that a small part does not hold all of its chunk."""
    return block[at].copy()


def _put_together(grid: tuple[int, ...], *parts: np.ndarray) -> np.ndarray:
    """The parts of a grid, whose last axis runs first, as one array."""
    if len(parts) == 1:
        return parts[0]
    places = np.arange(len(parts)).reshape(grid)
    ends = []
    for axis in range(len(grid)):
        along = places[(0,) * axis + (slice(None),) + (0,) * (len(grid) - axis - 1)]
        ends.append(tuple(accumulate([parts[number].shape[axis] for number in along], initial=0)))
    whole = np.empty([end[-1] for end in ends], parts[0].dtype)
    for number, at in enumerate(np.ndindex(grid)):
        whole[tuple([slice(end[i], end[i + 1]) for end, i in zip(ends, at, strict=True)])] = parts[number]
    return whole


def _computed(
    block: np.ndarray, *beside: np.ndarray, function: Any, axes: dict[int, list[Part]], block_info: Any = None
) -> np.ndarray:
    place = block_info[0]["chunk-location"]
    parts = {axis: row[place[axis]] for axis, row in axes.items()}
    for axis, part in parts.items():
        block = shown(block, axis, part.read)
    return function(block, parts, *beside)
