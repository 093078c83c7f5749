"""Filters of an image in a Zarr store, each computed by a Dask cluster of its own: the rows of `benchmarks.scale_cpu`.

The image lies in a store that counts what is read of it; each row writes its result into another. `measured` runs a
row in a new process, which starts the workers, and tells what it took.
"""

from __future__ import annotations

import logging
import multiprocessing
import resource
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import zarr
from distributed import Client, LocalCluster
from scipy import ndimage

import konvlib
from konvlib import scale

CHAIN = ((1, 4), (4, 4), (4, 1))
"""Channels in and out of each layer of the chain."""

PERIOD = 0.02
"""Seconds between two looks at the workers' memory."""


@dataclass(frozen=True)
class Job:
    """A row: what is computed of which store, where to, and with what."""

    row: str
    source: str
    target: str
    chunk: int
    kernel: int
    stride: int = 1
    workers: int = 2
    memory: str = "500MB"
    seconds: float = 900.0
    """How long it may take."""

    @property
    def side(self) -> int:
        """The height and width of the chunks of the result."""
        return self.chunk // self.stride


@dataclass(frozen=True)
class Measured:
    """Seconds; the most bytes that one worker held, sampled; bytes sent between workers, and read from the store."""

    seconds: float
    peak: int
    moved: int
    read: int


class Counting:
    """A Zarr array that counts the bytes which this process reads of it. Workers open it themselves."""

    total = 0

    def __init__(self, path: str) -> None:
        array = zarr.open_array(path, mode="r")
        self.path, self.shape, self.dtype, self.chunks, self.ndim = path, array.shape, array.dtype, array.chunks, 2
        self._array: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_array": None}

    def __getitem__(self, at: Any) -> np.ndarray:
        if self._array is None:
            self._array = zarr.open_array(self.path, mode="r")
        values = np.asarray(self._array[at])
        Counting.total += values.nbytes
        return values


def image(path: str, size: int, chunk: int) -> None:
    """Write random whole numbers below 256, chunk by chunk."""
    store = created(path, (size, size), chunk)
    for row in range(0, size, chunk):
        for column in range(0, size, chunk):
            rng = np.random.default_rng((row, column))
            part = store[row : row + chunk, column : column + chunk].shape
            store[row : row + chunk, column : column + chunk] = rng.integers(0, 256, part).astype(np.float32)


def created(path: str, shape: tuple[int, ...], chunk: int) -> zarr.Array:
    return zarr.create_array(path, shape=shape, chunks=(chunk, chunk), dtype="f4", compressors=None, overwrite=True)


def filter_of(kernel: int) -> np.ndarray:
    """A kernel of small whole numbers, so that all sums are exact in float32, in any order."""
    return np.random.default_rng(kernel).integers(-3, 4, (kernel, kernel)).astype(np.float32)


def layers_of(kernel: int) -> list[np.ndarray]:
    """The weights of the chain, which keep the size of what they add up."""
    rng = np.random.default_rng(kernel)
    weights = [rng.integers(-2, 3, (out, into, kernel, kernel)) for into, out in CHAIN]
    return [(w / (w.shape[1] * kernel)).astype(np.float32) for w in weights]


def dasked(store: Counting) -> da.Array:
    return da.from_array(store, chunks=store.chunks, asarray=False, lock=False, meta=np.empty((0, 0), store.dtype))


def lazy(store: Counting, job: Job) -> da.Array:
    w = filter_of(job.kernel)[None, None]
    return konvlib.conv2d(dasked(store)[None, None], w, stride=job.stride, padding=job.kernel // 2)[0, 0]


def from_store(store: Counting, job: Job) -> da.Array:
    return scale.from_store(store, filter_of(job.kernel), stride=job.stride, padding=job.kernel // 2)


def overlapped(function: Callable[[np.ndarray], np.ndarray], store: Counting, job: Job) -> da.Array:
    meta = np.empty((0, 0), store.dtype)
    depth = job.kernel // 2
    y = da.map_overlap(function, dasked(store), depth=depth, boundary=0, dtype=store.dtype, meta=meta)
    return y[:: job.stride, :: job.stride]


def map_overlap_konvlib(store: Counting, job: Job) -> da.Array:
    w, p = filter_of(job.kernel)[None, None], job.kernel // 2
    return overlapped(lambda block: konvlib.conv2d(block[None, None], w, padding=p)[0, 0], store, job)


def map_overlap_scipy(store: Counting, job: Job) -> da.Array:
    w = filter_of(job.kernel)
    return overlapped(lambda block: ndimage.correlate(block, w, mode="constant"), store, job)


def dask_image(store: Counting, job: Job) -> da.Array:
    from dask_image import ndfilters

    flipped = filter_of(job.kernel)[::-1, ::-1]
    return ndfilters.convolve(dasked(store), flipped, mode="constant")[:: job.stride, :: job.stride]


def chain(store: Counting, job: Job) -> da.Array:
    layers = [(w, 1, 1, None, 1, job.kernel // 2) for w in layers_of(job.kernel)]
    return scale.chain(dasked(store)[None, None], layers)[0, 0]


def layer_by_layer(store: Counting, job: Job) -> da.Array:
    y = dasked(store)[None, None]
    for w in layers_of(job.kernel):
        y = konvlib.conv2d(y, w, padding=job.kernel // 2)
    return y[0, 0]


FILTERS: dict[str, Callable[[Counting, Job], da.Array]] = {
    "lazy": lazy,
    "from_store": from_store,
    "map_overlap, konvlib": map_overlap_konvlib,
    "map_overlap, SciPy": map_overlap_scipy,
    "dask-image": dask_image,
}
CHAINS: dict[str, Callable[[Counting, Job], da.Array]] = {"chain": chain, "layer by layer": layer_by_layer}
WHOLE = "SciPy, whole"
"""The row that has no cluster: one process that loads the image."""


def measured(job: Job) -> Measured:
    """Run a row in a process of its own, which starts workers of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(whole if job.row == WHOLE else with_workers, job).result()


def whole(job: Job) -> Measured:
    """Load, filter by SciPy, write."""
    before, begin = Counting.total, time.perf_counter()
    store = Counting(job.source)
    y = ndimage.correlate(store[:, :], filter_of(job.kernel), mode="constant")[:: job.stride, :: job.stride]
    created(job.target, y.shape, job.side)[:, :] = y
    seconds = time.perf_counter() - begin
    return Measured(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 0, Counting.total - before)


def with_workers(job: Job) -> Measured:
    """Start workers of one thread each, and run a row on them."""
    folder = f"{job.target}.workers"
    options = {"n_workers": job.workers, "threads_per_worker": 1, "memory_limit": job.memory, "dashboard_address": ":0"}
    try:
        with (
            dask.config.set(temporary_directory=folder),
            LocalCluster(silence_logs=logging.ERROR, **options) as cluster,
            Client(cluster) as client,
        ):
            return on_cluster(job, cluster, client)
    finally:
        removed(folder)


def on_cluster(job: Job, cluster: LocalCluster, client: Client) -> Measured:
    """Run a row on workers; what they read and sent before does not count."""
    before = [client.run(_read), client.run(_moved)]
    begin = time.perf_counter()
    y = {**FILTERS, **CHAINS}[job.row](Counting(job.source), job)
    if any([size % job.side for row in y.chunks for size in row[:-1]]):  # two blocks may not write one chunk
        y = y.rechunk(job.side)
    target = created(job.target, y.shape, job.side)
    with Peak(cluster) as peak:
        client.compute(da.store(y, target, lock=False, compute=False)).result(timeout=job.seconds)
        seconds = time.perf_counter() - begin
    after = [client.run(_read), client.run(_moved)]
    read, moved = (sum(b.values()) - sum(a.values()) for a, b in zip(before, after, strict=True))
    return Measured(seconds, peak.most, moved, read)


def _read() -> int:
    return Counting.total


def _moved(dask_worker: Any) -> int:
    return sum([transfer["total"] for transfer in dask_worker.transfer_incoming_log])


class Peak:
    """The most memory that one worker of a cluster holds while this lasts, sampled; a worker may be started again."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster, self.most = cluster, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for worker in list(self.cluster.workers.values()):
                try:
                    self.most = max(self.most, psutil.Process(worker.pid).memory_info().rss)
                except psutil.Error:
                    continue
            if self._over.wait(PERIOD):
                return


def error_of(path: str, reference: str, chunk: int) -> float:
    """The norm of the difference of two stores over the norm of the second, block by block; NaN for another shape."""
    ours, theirs = (zarr.open_array(each, mode="r") for each in (path, reference))
    if ours.shape != theirs.shape:
        return float("nan")
    squares = np.zeros(2)
    for row in range(0, ours.shape[0], chunk):
        a, b = (each[row : row + chunk].astype(np.float64) for each in (ours, theirs))
        squares += np.square(a - b).sum(), np.square(b).sum()
    return float(np.sqrt(squares[0] / (squares[1] or 1.0)))


def removed(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
