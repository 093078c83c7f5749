"""Chains in one read: equal to layer by layer, on random geometries and chunks, read once, and refused by name."""

import dask.array as da
import numpy as np
import pytest

import konvlib
from konvlib.scale import PaddedLayer, chain
from tests.scale.sources import Source, chains, cut, layer_by_layer


@pytest.mark.parametrize(("stored", "count"), [(False, 80), (True, 200)])
def test_one_read_is_layer_by_layer(stored, count):
    for rng, x, layers, want in chains(17, count):
        source = Source(x)
        lazy = da.from_array(source, chunks=tuple([cut(rng, n) for n in x.shape]), asarray=False, meta=x[:0])
        chunks = (cut(rng, len(want)), want.shape[1], *[cut(rng, n) for n in want.shape[2:]])
        given = bool(rng.integers(2))
        got = chain(source if stored else lazy, layers, chunks=chunks if given else None)
        assert source.reads == 0
        assert not given or got.chunks == (chunks[0], (chunks[1],), *chunks[2:])
        value = got.compute(scheduler="sync")
        assert value.shape == want.shape == got.shape
        assert value.dtype == want.dtype == got.dtype
        assert (value == want).all(), (x.shape, layers, got.chunks)


@pytest.mark.parametrize(
    ("x", "first", "bias", "second"),
    [("u1", "i1", None, "f4"), (">i2", "i2", "i4", "i8"), ("f4", "f4", "f8", "f4"), ("?", "u1", None, "u2")],
)
def test_dtypes_are_those_of_layer_by_layer(x, first, bias, second):
    rng = np.random.default_rng(8)
    x, first, second = (
        rng.integers(0, 2, shape).astype(dtype)
        for shape, dtype in (((1, 2, 19), x), ((3, 2, 3), first), ((2, 3, 4), second))
    )
    layers = [
        PaddedLayer(first, bias=None if bias is None else np.arange(3, dtype=bias)),
        np.negative,
        PaddedLayer(second),
    ]
    layers = layers if x.dtype != bool else [layers[0], layers[2]]
    want = layer_by_layer(x.astype(x.dtype.newbyteorder("=")), layers)
    for given in (x, da.from_array(x, chunks=6)):
        got = chain(given, layers, chunks=(1, 2, 5))
        value = got.compute(scheduler="sync")
        assert value.dtype == got.dtype == want.dtype
        assert np.array_equal(value, want)


def test_a_function_is_not_asked_about_nothing():
    """Where a layer sees its padding only, what is before it has no samples."""

    def function(y):
        assert y.size
        return y + 1

    x = np.arange(4).reshape(1, 1, 4)
    layers = [function, PaddedLayer([[[1]]], padding=4)]
    got = chain(x, layers, chunks=(1, 1, 2)).compute(scheduler="sync")
    assert got.tolist() == [[[0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0]]]


def test_windows_wholly_in_padding_read_nothing():
    """The outer blocks see the second layer's zeros only: what the first makes of nothing, its bias, is not there."""
    layers = [PaddedLayer([[[2]]], bias=[100]), PaddedLayer([[[3]]], bias=[7], padding=[(3, 2)])]
    source = Source(np.arange(1, 5).reshape(1, 1, 4))
    got = chain(source, layers, chunks=(1, 1, (3, 2, 2, 2)))
    assert got.compute(scheduler="sync").tolist() == [[[7, 7, 7, 313, 319, 325, 331, 7, 7]]]
    assert sorted(source.spans) == [(0, 2), (2, 4)]


def test_each_block_reads_the_receptive_field_once():
    """Two layers of 3 and 5 taps see 3 samples beyond a block on each side, clipped at the ends."""
    source = Source(np.arange(24).reshape(1, 1, 24))
    layers = [PaddedLayer(np.ones((2, 1, 3)), padding=1), PaddedLayer(np.ones((1, 2, 5)), padding=2)]
    chain(source, layers, chunks=(1, 1, 8)).compute(scheduler="sync")
    assert sorted(source.spans) == [(0, 11), (5, 19), (13, 24)]


def test_outputs_lie_beside_inputs():
    x = da.zeros((1, 1, 40, 30), chunks=(1, 1, 10, 15))
    layers = [
        PaddedLayer(np.ones((4, 1, 3, 5)), padding="same"),
        np.tanh,
        PaddedLayer(np.ones((2, 4, 5, 3)), padding="same"),
    ]
    assert chain(x, layers).chunks == ((1,), (2,), (10,) * 4, (15,) * 2)
    half = chain(x, [*layers, PaddedLayer(np.ones((1, 2, 3, 3)), 2, padding=1)])
    assert half.chunks == ((1,), (1,), (5,) * 4, (8, 7))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_their_own_sums_only(value):
    x = np.arange(120.0).reshape(1, 1, 12, 10)
    x[0, 0, 5, 4] = value
    layers = [
        PaddedLayer(np.ones((2, 1, 3, 2)), padding=1),
        PaddedLayer(np.ones((1, 2, 2, 3)), padding=[(0, 1), (1, 1)]),
    ]
    want = layer_by_layer(x, layers)
    for chunks in (1, 3, 5):
        got = chain(da.from_array(x, chunks=(1, 1, chunks, chunks)), layers).compute(scheduler="sync")
        assert np.array_equal(got, want, equal_nan=True)
    ones = np.isfinite(want)
    assert 0 < (~ones).sum() == 4 * 4


def test_layers_without_padding_and_bare_kernels():
    x = np.arange(30).reshape(5, 6)
    layers = [konvlib.Layer([[1, 2], [3, 4]]), ([[1, -1]], 2)]
    want = layer_by_layer(x[None, None], [PaddedLayer(np.array(w)[None, None], *rest) for w, *rest in layers])
    got = chain(da.from_array(x, chunks=2), layers)
    assert np.array_equal(got.compute(scheduler="sync"), want[0, 0])
    whole = konvlib.compose_chain(layers)
    assert np.array_equal(konvlib.conv2d(x[None], whole.weight[None, None], stride=whole.stride)[0], want[0, 0])
    without_batch = chain(da.from_array(x[None], chunks=2), layers)
    assert np.array_equal(without_batch.compute(scheduler="sync"), want[0])


def test_circular_padding_that_is_none_is_taken():
    x = np.arange(12).reshape(1, 1, 12)
    layers = [PaddedLayer([[[1, 2]]], padding_mode="circular"), PaddedLayer([[[1, 1, 1]]], padding=1)]
    got = chain(da.from_array(x, chunks=5), layers).compute(scheduler="sync")
    assert (got == layer_by_layer(x, layers)).all()


W, V = np.ones((2, 1, 3)), np.ones((1, 2, 3))


@pytest.mark.parametrize(
    ("layers", "error", "told"),
    [
        ([], ValueError, "layers must hold at least one layer with a weight, got none"),
        ([np.abs], ValueError, "layers must hold at least one layer with a weight, got none"),
        (PaddedLayer(W), TypeError, "layers must be a list of layers, got PaddedLayer"),
        ([W], TypeError, r"layers\[0\] must be a PaddedLayer"),
        ([(W, 1, 1, None, 1, 0, "zeros", 3)], TypeError, r"layers\[0\] must be a PaddedLayer"),
        ([(W,), (W,)], ValueError, r"layers\[1\]: w must have 2 // 1 = 2 channels, got 1"),
        ([(W,), (V, 0)], ValueError, r"layers\[1\]: stride must be"),
        ([(W,), (V, 1, 1, np.ones(2))], ValueError, r"layers\[1\]: bias must have shape \(1,\)"),
        ([(W,), (np.ones((1, 2, 9)),)], ValueError, r"layers\[1\]: kernel_size must fit the padded input of 6"),
        ([(W,), (V[..., None],)], ValueError, r"layers\[1\]: w must have 3 axes"),
        ([(W.astype(object),)], TypeError, r"layers\[0\]: w must hold machine numbers"),
        ([(da.ones((2, 1, 3)),)], TypeError, r"layers\[0\]: w must be an array, which each block needs whole"),
        ([(W,), (V, 1, 1, None, 1, 1, "circular")], ValueError, r"layers\[1\]: padding_mode must be .*'circular'"),
        ([(W,), np.sum], ValueError, r"layers\[1\]: a function must give an array of the shape"),
        ([(W,), lambda y: y - y.max()], ValueError, r"layers\[1\]: a function must look at each place by itself"),
        ([(W,), lambda y: y.nothing], TypeError, r"layers\[1\]: a function must take an array, and raised"),
    ],
)  # fmt: skip
def test_bad_layers_are_refused_before_anything_is_read(layers, error, told):
    source = Source(np.ones((1, 1, 8)))
    for x in (da.from_array(source, chunks=4, asarray=False, meta=np.ones((0,) * 3)), source):
        with pytest.raises(error, match=told):
            chain(x, layers)
    assert source.reads == 0


def test_bad_inputs_are_refused_by_name():
    x = da.ones((1, 1, 8), chunks=4)
    for bad, error, told in [
        (x.astype(object), TypeError, "x must hold machine numbers"),
        (x[:, :, x[0, 0] > 0], ValueError, "x must have chunks of known size"),
        (x[0, 0], ValueError, r"x must have 3 axes \(N, C, L\), or 2 without a batch"),
        (x[..., None], ValueError, "x must have 3 axes"),
        (x[:, :, :0], ValueError, "x must not be empty"),
        (x[:, :0], ValueError, "x must not be empty"),
        ([[[1, 2, 3]]], TypeError, "x must have a shape, a dtype and slices"),
    ]:
        with pytest.raises(error, match=told):
            chain(bad, [(W,), (V,)])
    for chunks in [(1, 1, (2, 1)), (1, 1, (-1, 5)), 0, (1, 1), (1, 1, "four")]:
        with pytest.raises(ValueError, match=r"chunks must sum to the output's shape \(1, 1, 4\)"):
            chain(x, [(W,), (V,)], chunks=chunks)
    with pytest.raises(ValueError, match="with all 2 channels in one"):
        chain(x, [(W,)], chunks=(1, 1, 3))
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="x must be sliced where it lies"):
        chain(torch.ones(1, 1, 8), [(W,)])
    with pytest.raises(TypeError, match=r"layers\[0\]: w"):
        chain(x, [(torch.ones(2, 1, 3),)])


def test_an_empty_batch_stays_one():
    for x in (da.zeros((0, 1, 8), chunks=4), np.zeros((0, 1, 8))):
        y = chain(x, [(W,), np.tanh, (V,)])
        assert y.shape == (0, 1, 4)
        assert y.compute(scheduler="sync").shape == (0, 1, 4)


def test_graphs_stay_small():
    x = da.zeros((1, 1, 10**6, 10**6), chunks=(1, 1, 10**5, 10**5))
    y = chain(x, [PaddedLayer(np.ones((1, 1, 3, 3)), padding=1)] * 3)
    assert len(dict(y.__dask_graph__())) < 100 * 20
