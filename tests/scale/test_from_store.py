"""Layers of a store: equal to one call on the whole, each block reading its own spans and nothing else."""

import itertools
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

import konvlib
from konvlib.geometry import PADDING_MODES, source_index
from konvlib.scale import PaddedLayer, chain, from_store
from konvlib.scale.stores import checked_store
from tests.scale.sources import Source, cut, single_layers


def test_blocks_are_the_whole():
    for rng, x, weights, options, want in single_layers(17, 300):
        source = Source(x)
        if rng.integers(2):
            source.chunks = tuple(rng.integers(1, np.array(x.shape) + 1).tolist())
        chunks = (cut(rng, len(want)), want.shape[1], *[cut(rng, n) for n in want.shape[2:]])
        with dask.config.set({"array.chunk-size": int(rng.integers(1, 2 * source.values.nbytes + 2))}):
            got = from_store(source, *weights, **options, chunks=chunks if rng.integers(2) else None)
        assert source.reads == 0
        value = got.compute(scheduler="sync")
        assert value.shape == want.shape == got.shape
        assert value.dtype == want.dtype == got.dtype
        assert (value == want).all(), (x.shape, options, got.chunks)


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_each_block_reads_what_its_windows_see(mode):
    """From the first to the last sample of an axis of 12 that they see; both ends of it if padding is circular."""
    ends = [(0, 1), (0, 2), (1, 3), (2, 4)]
    for k, stride, dilation, before in itertools.product((1, 2, 5), (1, 3), (1, 2), (0, 1, 4)):
        source = Source(np.arange(12).reshape(1, 1, 12))
        options = {"stride": stride, "dilation": dilation, "padding": [(before, 3)], "padding_mode": mode}
        size = konvlib.conv1d(source.values, np.ones((1, 1, k)), **options).shape[-1]
        for start, stop in ends + [(size - b, size - a) for a, b in ends]:
            if not 0 <= start < stop <= size:
                continue
            cuts = sorted({0, start, stop, size})
            chunks = tuple([b - a for a, b in itertools.pairwise(cuts)])
            y = from_store(source, np.ones((1, 1, k)), **options, chunks=(1, 1, chunks))
            source.spans.clear()
            y.blocks[0, 0, cuts.index(start)].compute(scheduler="sync")
            places = range(start * stride - before, (stop - 1) * stride - before + dilation * (k - 1) + 1)
            seen = sorted({source_index(place, 12, mode) for place in places} - {None})
            if seen and mode != "circular":
                seen = list(range(seen[0], seen[-1] + 1))
            read = [sample for span in source.spans for sample in range(*span)]
            assert sorted(read) == seen, (k, options, start, stop)
            assert len(source.spans) <= 1 + (mode == "circular")


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">f4", "f2", "c8"])
def test_dtypes_are_those_of_one_call(tmp_path, dtype):
    x = np.random.default_rng(6).integers(0, 9, (1, 2, 20)).astype(dtype)
    store = zarr.create_array(tmp_path / "x", shape=x.shape, chunks=(1, 2, 6), dtype=dtype)
    store[...] = x
    w = np.ones((1, 2, 3), "i1")
    want, got = konvlib.conv1d(x, w), from_store(store, w)
    value = got.compute(scheduler="sync")
    assert value.dtype == got.dtype == want.dtype
    assert np.array_equal(value, want)


def test_a_computed_store_is_read_anew():
    store = np.arange(6).reshape(1, 1, 6)
    first = from_store(store, [[[1, 1]]])
    again = from_store(store, [[[1, 1]]])
    assert first.name != again.name
    store *= 2
    assert again.compute(scheduler="sync").tolist() == [[[2, 6, 10, 14, 18]]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_their_own_sums_only(value):
    x, w = np.arange(120.0).reshape(1, 1, 12, 10), np.ones((2, 1, 3, 2))
    x[0, 0, 4, 6] = value
    want = konvlib.conv2d(x, w, padding=1, stride=(1, 2), padding_mode="replicate")
    for chunk in (1, 2, 5):
        y = from_store(x, w, padding=1, stride=(1, 2), padding_mode="replicate", chunks=(1, 2, chunk, chunk))
        assert np.array_equal(y.compute(scheduler="sync"), want, equal_nan=True)
    assert (~np.isfinite(want)).sum() == 2 * 3
    w[0, 0, 0, 0] = np.inf  # times padding is nothing
    want = konvlib.conv2d(np.ones((1, 1, 12, 10)), w, padding=1)
    y = from_store(np.ones((1, 1, 12, 10)), w, padding=1, chunks=(1, 2, 4, 3)).compute(scheduler="sync")
    assert np.array_equal(y, want, equal_nan=True)


def test_axes_of_an_image_alone():
    x, k = np.arange(30).reshape(5, 6), [[1, 2], [3, -4]]
    want = konvlib.conv2d(x[None, None], [[k]], [7], padding=1)
    for store, w in ((x, k), (x[None], [[k]]), (x[None, None], [[k]]), (x[None, None], k)):
        y = from_store(store, w, [7], padding=1)
        assert y.ndim == store.ndim
        assert np.array_equal(y.compute(scheduler="sync"), want.reshape(y.shape))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_maps_are_sent_by_name(tmp_path, order):
    x = np.random.default_rng(5).integers(-9, 10, (300, 200))
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    store = np.load(tmp_path / "x.npy", mmap_mode="r")
    want = konvlib.conv2d(x[None], np.ones((1, 1, 3, 5)), padding="same")[0]
    y = from_store(store, np.ones((3, 5)), padding="same", chunks=64)
    assert np.array_equal(y.compute(scheduler="sync"), want)
    assert len(pickle.dumps(checked_store(store, "store"))) < 1000
    own = np.load(tmp_path / "x.npy", mmap_mode="c")
    own[:] = x + 1  # which the file does not know
    y = from_store(own, np.ones((3, 5)), padding="same", chunks=64)
    assert np.array_equal(
        y.compute(scheduler="sync"), konvlib.conv2d(x[None] + 1, np.ones((1, 1, 3, 5)), padding="same")[0]
    )
    part = from_store(store[10:50], np.ones((3, 5)), chunks=16)  # a view of it is no file
    assert np.array_equal(part.compute(scheduler="sync"), konvlib.conv2d(x[None, 10:50], np.ones((1, 1, 3, 5)))[0])


def test_blocks_lie_beside_chunks_and_shards():
    options = {"shape": (2, 3, 40, 60), "dtype": "f4", "chunks": (1, 3, 5, 10)}
    w = np.ones((4, 3, 5, 3))
    y = from_store(zarr.create_array({}, **options), w, padding="same_upper", stride=2, chunks=(2, -1, "auto", 15))
    assert y.chunks == ((2,), (4,), (20,), (15, 15))
    y = from_store(np.zeros((2, 3, 40, 60)), w, chunks="auto")
    assert y.chunks == ((2,), (4,), (36,), (58,))
    sharded = zarr.create_array({}, **options, shards=(2, 3, 20, 20))
    one = 5 * 10 * 4 * 8  # the bytes of a block of four channels in float64
    for held, store, chunks in [
        (1, zarr.create_array({}, **options), ((1, 1), (4,), (5,) * 8, (10,) * 6)),
        (one, sharded, ((2,), (4,), (20,) * 2, (20,) * 3)),
        (3 * one, zarr.create_array({}, **options), ((1, 1), (4,), (5,) * 8, (10,) * 6)),
        (10**6, zarr.create_array({}, **options), ((2,), (4,), (40,), (60,))),
    ]:
        with dask.config.set({"array.chunk-size": 2 * held}):
            assert from_store(store, w, padding="same").chunks == chunks


def test_blocks_of_whole_chunks_hold_half_of_what_those_of_dask_do():
    store = zarr.create_array({}, shape=(1, 1, 400, 600), dtype="f4", chunks=(1, 1, 20, 20))
    for w, layers, held in [(np.ones((1, 1, 3, 3)), (), 4), (np.ones((6, 1, 3, 3)), (np.ones((1, 6, 3, 3)),), 24)]:
        filters = [(each.astype(np.float32), 1, 1, None, 1, 1) for each in (w, *layers)]
        for size in (10**4, 10**5, 10**6):
            with dask.config.set({"array.chunk-size": size}):
                y = chain(store, filters)
            *_, rows, columns = y.chunks
            assert {n % 20 for n in (*rows, *columns)} == {0}
            largest = max(rows) * max(columns) * held
            assert largest <= max(size / 2, 20 * 20 * held)
            assert largest > size / 10 or max(rows) * max(columns) == 400


def test_bad_input_is_refused_by_name_before_anything_is_read():
    w, source = np.ones((2, 1, 3)), Source(np.ones((1, 1, 8)))
    for store, error, told in [
        (da.ones((1, 1, 8)), TypeError, "store must be sliced where it lies, .*, got a Dask array"),
        ([[[1, 2, 3]]], TypeError, "store must have a shape, a dtype and slices"),
        (np.ndarray, TypeError, "store must have a shape, a dtype and slices"),
        (np.ones((1, 1, 8), object), TypeError, "store must hold machine numbers, got dtype object"),
        (np.array([[["a"]]]), TypeError, "store must hold machine numbers, got dtype <U1"),
        (np.ones(8), ValueError, r"store must have 3 axes \(N, C, L\), or 2 without a batch"),
        (np.ones((1, 1, 8, 1)), ValueError, "store must have 3 axes"),
        (np.ones((1, 1, 0)), ValueError, "store must not be empty"),
        (np.ones((1, 2, 8)), ValueError, "w must have 2 // 1 = 2 channels, got 1"),
        (np.ones((1, 1, 2)), ValueError, "kernel_size must fit the padded input of 2"),
    ]:
        with pytest.raises(error, match=told):
            from_store(store, w)
    for options, error, told in [
        ({"w": da.ones((2, 1, 3))}, TypeError, "w must be an array, which each block needs whole"),
        ({"w": w.astype(object)}, TypeError, "w must hold machine numbers"),
        ({"w": np.ones((1,) * 6)}, ValueError, "w must have 1 to 5 axes"),
        ({"bias": [1]}, ValueError, r"bias must have shape \(2,\)"),
        ({"groups": 3}, ValueError, "in_channels must be divisible by groups"),
        ({"stride": 0}, ValueError, "stride must be"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode must be one of"),
        ({"chunks": (1, 2, (3, 4))}, ValueError, r"chunks must sum to the output's shape \(1, 2, 6\)"),
        ({"chunks": (1, 1, 6)}, ValueError, "chunks must .* with all 2 channels in one"),
        ({"chunks": (1, 2)}, ValueError, "chunks must"),
        ({"chunks": (1, 2, float("nan"))}, ValueError, "chunks must"),
    ]:
        with pytest.raises(error, match=told):
            from_store(source, **({"w": w} | options))
    assert source.reads == 0
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"store must be sliced where it lies, .*, got a torch tensor"):
        from_store(torch.ones(1, 1, 8), w)
    with pytest.raises(TypeError, match="w must"):
        from_store(source, torch.ones(2, 1, 3))


def test_one_layer_is_a_chain_of_one():
    x, w = np.arange(40).reshape(1, 2, 20), np.ones((3, 2, 4), int)
    layer = PaddedLayer(w, 2, padding=3, padding_mode="circular")
    y = from_store(x, w, stride=2, padding=3, padding_mode="circular", chunks=(1, 3, 4))
    assert np.array_equal(y.compute(scheduler="sync"), chain(x, [layer]).compute(scheduler="sync"))
