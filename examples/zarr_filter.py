"""Sharpen an image that lies in a Zarr store, larger than the memory of the processes that work on it.

    python examples/zarr_filter.py --size 16384 --memory 400MB

Each block of the result slices the store for what its windows see, so that workers send each other nothing. At the end
a random window of the result is computed again, by the definition.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, progress

from konvlib.scale import from_store

BINOMIAL = np.array([1, 6, 15, 20, 15, 6, 1], np.float32) / 64
"""All weights are multiples of a power of two, so that sums of whole samples are exact."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16384, help="the image's height and width (default 16384)")
    parser.add_argument("--chunk", type=int, default=2048, help="height and width of a chunk (default 2048)")
    parser.add_argument("--workers", type=int, default=2, help="how many processes (default 2)")
    parser.add_argument("--memory", default="400MB", help="the most that one of them may hold (default 400MB)")
    parser.add_argument("--folder", help="where to keep both images (by default nowhere, when all is done)")
    return parser.parse_args()


def sharpening() -> np.ndarray:
    """Twice the image, less what is smooth in it."""
    w = -np.outer(BINOMIAL, BINOMIAL)
    w[3, 3] += 2
    return w


def write(image: da.Array, path: Path, client: Client) -> zarr.Array:
    """Compute an image on the workers, which write it chunk by chunk."""
    chunks = tuple([sizes[0] for sizes in image.chunks])
    store = zarr.create_array(path, shape=image.shape, chunks=chunks, dtype=image.dtype, compressors=None)
    begin = time.perf_counter()
    written = client.compute(da.store(image, store, lock=False, compute=False))
    progress(written, notebook=False)
    written.result()
    print(f"{path.name} written in {time.perf_counter() - begin:.1f} s", flush=True)
    return store


def differs(x: zarr.Array, y: zarr.Array, w: np.ndarray, rng: np.random.Generator) -> float:
    """The largest difference between a window of the result and the definition, with zeros around the image."""
    at, edge, side = rng.integers(0, np.array(y.shape) - 7, 2), len(w) // 2, 8
    low, high = np.maximum(at - edge, 0), np.minimum(at + side + edge, x.shape)
    around = np.zeros([side + 2 * edge] * 2)
    inside = tuple([slice(a, b) for a, b in zip(low - at + edge, high - at + edge, strict=True)])
    around[inside] = x[tuple([slice(a, b) for a, b in zip(low, high, strict=True)])]
    windows = np.lib.stride_tricks.sliding_window_view(around, w.shape)
    found = y[tuple([slice(a, a + side) for a in at])]
    return float(abs((windows * w).sum((-2, -1)) - found).max())


def used(dask_worker) -> tuple[int, int]:
    """The most memory that a worker was seen to hold, and the bytes that it received from others."""
    received = sum([transfer["total"] for transfer in dask_worker.transfer_incoming_log])
    return int(max(dask_worker.monitor.quantities["memory"])), received


def run(given: argparse.Namespace, folder: Path) -> None:
    shape, chunks = (given.size, given.size), (given.chunk, given.chunk)
    w = sharpening()
    options = {"n_workers": given.workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(memory_limit=given.memory, **options) as cluster, Client(cluster) as client:
        noise = da.random.default_rng(0).integers(0, 256, shape, chunks=chunks).astype(np.float32)
        x = write(noise, folder / "image.zarr", client)
        y = write(from_store(x, w, padding=len(w) // 2), folder / "sharp.zarr", client)
        most, received = np.array(list(client.run(used).values())).T
    limit = given.workers * parse_bytes(given.memory)
    print(f"{x.nbytes / 1e6:.0f} MB in {x.nchunks} chunks, by workers that may hold {limit / 1e6:.0f} MB together")
    print(f"most memory of one: {most.max() / 1e6:.0f} MB; sent between them: {received.sum()} bytes")
    print(f"largest difference from the definition: {differs(x, y, w, np.random.default_rng())}")


def main() -> None:
    given = arguments()
    if given.folder:
        folder = Path(given.folder)
        folder.mkdir(parents=True, exist_ok=True)
        run(given, folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


if __name__ == "__main__":
    main()
