"""Two processes with little memory: equal results, nothing sent where blocks slice a store, and no more memory used."""

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

import konvlib
from konvlib.scale import PaddedLayer, chain, from_store
from tests.scale.chain_cases import layer_by_layer

distributed = pytest.importorskip("distributed")
LIMIT = 256_000_000


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": LIMIT}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def sent(client):
    """A function that computes blocks where they are, and says how many workers have sent each other for it."""

    def of(y):
        client.run(lambda dask_worker: dask_worker.transfer_incoming_log.clear())
        y = y.persist()
        distributed.wait(y)
        told = client.run(lambda dask_worker: len(dask_worker.transfer_incoming_log))
        return sum(told.values()), y.compute()

    return of


@pytest.fixture
def image(tmp_path):
    x = np.random.default_rng(3).integers(-9, 10, (2, 2, 60, 50))
    store = zarr.create_array(tmp_path / "x", shape=x.shape, chunks=(1, 2, 16, 13), dtype=x.dtype)
    store[...] = x
    with dask.config.set({"array.chunk-size": 1}):  # blocks as small as chunks
        yield x, store


def test_a_layer_of_a_store_moves_nothing(client, sent, image):
    x, store = image
    w = np.random.default_rng(4).integers(-9, 10, (3, 2, 5, 4))
    for options in ({"padding": 2}, {"padding": 3, "padding_mode": "circular", "stride": (2, 1)}):
        want = konvlib.conv2d(x, w, **options)
        count, y = sent(from_store(store, w, **options))
        assert count == 0
        assert np.array_equal(y, want)
        count, y = sent(konvlib.conv2d(da.from_zarr(store), w, **options))
        assert count > 0, "blocks of a Dask array do ask their neighbours"
        assert np.array_equal(y, want)


def test_a_dataset_of_a_file_is_opened_by_the_workers(client, sent, image, tmp_path):
    h5py = pytest.importorskip("h5py")
    x, _ = image
    w = np.random.default_rng(4).integers(-9, 10, (3, 2, 5, 4))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/x", data=x, chunks=(1, 2, 16, 13), compression="gzip")
    with h5py.File(tmp_path / "x.h5", "r") as file:
        y = from_store(file["group/x"], w, padding=2)
    assert y.numblocks == (2, 1, 4, 4)
    count, y = sent(y)
    assert count == 0
    assert np.array_equal(y, konvlib.conv2d(x, w, padding=2))


def test_a_chain_of_a_store_moves_nothing(client, sent, image):
    x, store = image
    rng = np.random.default_rng(5)
    first, second = rng.integers(-3, 4, (3, 2, 3, 5)), rng.integers(-3, 4, (2, 3, 5, 3))
    layers = [PaddedLayer(first, padding="same"), np.abs, PaddedLayer(second, 2, padding=1, padding_mode="reflect")]
    want = layer_by_layer(x, layers)
    count, y = sent(chain(store, layers))
    assert count == 0
    assert np.array_equal(y, want)
    assert np.array_equal(chain(da.from_zarr(store), layers).compute(), want)


def test_memory_stays_under_the_limit(client, tmp_path):
    """Image and result together have 240 MB, and each worker 256, of which it needs more than half to be there."""
    options = {"shape": (6000, 5000), "chunks": (500, 500), "dtype": "f4", "compressors": None}
    store, result = (zarr.create_array(tmp_path / name, **options) for name in ("x", "y"))
    for row in range(0, 6000, 500):
        store[row : row + 500] = row
    workers = client.run(lambda dask_worker: dask_worker.id)
    with dask.config.set({"array.chunk-size": "32MiB"}):
        y = from_store(store, np.ones((7, 7), np.float32), padding=3)
    da.store(y, result, lock=False)
    most = client.run(lambda dask_worker: max(dask_worker.monitor.quantities["memory"]))
    assert client.run(lambda dask_worker: dask_worker.id) == workers, "none was ended for its memory"
    assert max(most.values()) < 0.9 * LIMIT
    # Seven rows of seven samples, of which those from row 500 on are 500.
    assert result[495:506, 2500].tolist() == [0, 0, *[3500 * rows for rows in range(1, 8)], 24500, 24500]
