"""Chains in one read: equal to layer by layer, on random geometries and chunks, read once, and refused by name."""

import cloudpickle
import dask.array as da
import numpy as np
import pytest

import konvlib
from konvlib.scale import AvgPool, ConvTranspose, Konv, MaxPool, PaddedLayer, chain
from tests.scale.chain_cases import chains, layer_by_layer
from tests.scale.sources import Source, cut


@pytest.mark.parametrize(("stored", "count"), [(False, 120), (True, 320)])
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


KAPPA = np.ones((1, 2, 2, 1), "i1")


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f2", ">f4", "c8", "?"])
@pytest.mark.parametrize(
    "link",
    [MaxPool((2,)), AvgPool((2,)), Konv(KAPPA), Konv(KAPPA, basis="legendre"), ConvTranspose(np.ones((2, 1, 2), "i1"))],
)
def test_dtypes_of_each_link_are_those_of_its_function(link, dtype):
    x, layers = np.random.default_rng(4).integers(0, 2, (1, 2, 9)).astype(dtype), [link]
    if dtype == "c8" and isinstance(link, MaxPool):
        with pytest.raises(TypeError, match=r"layers\[0\]: x must hold real numbers, got dtype complex64"):
            chain(x, layers)
        return
    want = layer_by_layer(x, layers)
    for given in (x, da.from_array(x, chunks=(1, 2, 4))):
        got = chain(given, layers, chunks=(1, -1, 2))
        value = got.compute(scheduler="sync")
        assert value.dtype == got.dtype == want.dtype
        assert np.array_equal(value, want)


def test_padding_between_links_is_what_the_next_one_pads():
    """A bias of -100 is the least that the first layer gives, and would be what it computes beyond the border."""
    x, first = np.array([[[1, 2, 3, 4]]]), PaddedLayer([[[1, 0, 1]]], bias=[-100], padding=1)
    assert layer_by_layer(x, [first])[0, 0].tolist() == [-98, -96, -94, -97]
    ones = np.ones((1, 1, 3), int)
    kappa = np.stack([ones, 2 * ones], 1)  # 1 + 2 t
    for link, want in [
        (MaxPool(3, stride=1, padding=1), [-96, -94, -94, -94]),  # nothing is there, not zero
        (AvgPool(3, stride=1, padding=1), [-194 / 3, -288 / 3, -287 / 3, -191 / 3]),
        (AvgPool(3, stride=1, padding=1, count_include_pad=False), [-194 / 2, -288 / 3, -287 / 3, -191 / 2]),
        (AvgPool(3, stride=3, padding=[(1, 0)], ceil_mode=True), [-194 / 3, -191 / 2]),
        (PaddedLayer(ones, padding=1), [-194, -288, -287, -191]),
        (PaddedLayer(ones, padding=1, padding_mode="reflect"), [-290, -288, -287, -285]),
        (Konv(kappa, basis="monomial", padding=1), [-386, -573, -571, -380]),
        (Konv(kappa, basis="monomial", padding=1, pad="input"), [-385, -573, -571, -379]),
        (ConvTranspose(ones, padding=1), [-194, -288, -287, -191]),
        (ConvTranspose(ones, stride=2, padding=1, output_size=8), [-98, -194, -96, -190, -94, -191, -97, -97]),
    ]:
        for chunk in (1, 2, 4):
            y = chain(da.from_array(x, chunks=2), [first, link], chunks=(1, 1, min(chunk, len(want))))
            assert y.compute(scheduler="sync")[0, 0].tolist() == want, (link, chunk)


def test_links_are_not_asked_about_nothing():
    """The outer blocks of the last layer see its padding only; what is before it has no samples there."""
    kappa = np.arange(1, 5).reshape(1, 2, 1, 2)
    layers = [
        Konv(kappa, [7], basis="monomial", padding=2, pad="input"),
        AvgPool(2, stride=1),
        ConvTranspose([[[1, 2]]], [5], stride=2),
        MaxPool(3, stride=1, ceil_mode=True),
        PaddedLayer([[[1, 10]]], bias=[3], padding=6),
    ]
    x = np.arange(4).reshape(1, 1, 4)
    want = layer_by_layer(x, layers)
    assert want[0, 0, :5].tolist() == [3] * 5
    assert want[0, 0, 5] != 3
    for given in (x, da.from_array(x, chunks=1)):
        got = chain(given, layers, chunks=(1, 1, 1))
        assert np.array_equal(got.compute(scheduler="sync"), want)
        assert np.array_equal(got[..., :3].compute(scheduler="sync"), want[..., :3])


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


def test_each_block_reads_what_its_poolings_and_transposed_layers_see():
    """Outputs 0 to 7 of a pooling of 3 with stride 2 see 16 of the layer before, and these one more of the input.

    What a transposed layer with stride 2 gives takes half as many.
    """
    source = Source(np.arange(48).reshape(1, 1, 48))
    layers = [PaddedLayer(np.ones((2, 1, 3)), padding=1), MaxPool(3, stride=2, padding=1)]
    y = chain(source, [*layers, np.negative], chunks=(1, 2, 8))
    assert y.shape == (1, 2, 24)
    assert source.reads == 0
    y.compute(scheduler="sync")
    assert sorted(source.spans) == [(0, 17), (14, 33), (30, 48)]
    source.spans.clear()
    layers = [ConvTranspose(np.ones((1, 2, 4)), stride=2, padding=1), AvgPool(3, stride=1, padding=1)]
    y = chain(source, layers, chunks=(1, 2, 32))
    assert y.shape == (1, 2, 96)
    y.compute(scheduler="sync")
    assert sorted(source.spans) == [(0, 17), (15, 33), (31, 48)]


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
    less = chain(x, [*layers, MaxPool(2, ceil_mode=True), Konv(np.ones((3, 2, 2, 3, 3)), padding="same")])
    assert less.chunks == ((1,), (3,), (5,) * 4, (8, 7))
    more = chain(x, [*layers, ConvTranspose(np.ones((2, 1, 2, 4)), stride=2, padding=[(0, 0), (1, 1)])])
    assert more.chunks == ((1,), (1,), (20,) * 4, (30,) * 2)


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


def test_nan_reaches_what_its_own_windows_show_of_it():
    x = np.arange(120.0).reshape(1, 1, 12, 10) % 5
    x[0, 0, 5, 4] = np.nan
    layers = [
        PaddedLayer(np.ones((2, 1, 2, 1)), padding=[(0, 1), (0, 0)]),
        MaxPool((2, 3), stride=(2, 1), padding=[(0, 0), (1, 1)]),
        Konv(np.ones((1, 2, 2, 1, 2)), basis="monomial", padding=[(0, 0), (1, 0)]),
        ConvTranspose(np.ones((1, 1, 2, 1)), stride=(2, 1)),
        AvgPool((1, 2), stride=1, padding=[(0, 0), (1, 1)]),
    ]
    want = layer_by_layer(x, layers)
    for chunks in (1, 3, 5):
        got = chain(da.from_array(x, chunks=(1, 1, chunks, chunks)), layers, chunks=(1, 1, chunks, chunks))
        assert np.array_equal(got.compute(scheduler="sync"), want, equal_nan=True)
    # Rows 4 and 5 of the first layer are one of the pooling, and two of the transposed layer; columns 3 to 5 of the
    # pooling are four of the Konvolution, and five means.
    assert np.argwhere(np.isnan(want[0, 0])).tolist() == [[row, column] for row in (4, 5) for column in range(3, 8)]


def test_what_is_not_finite_is_layer_by_layer_too():
    spoiled = 0
    for rng, x, layers, _ in chains(9, 80):
        x, layers = x.astype(float), [each for layer in layers for each in (layer, np.rint)]
        count = int(rng.integers(1, 4))
        x.flat[rng.integers(0, x.size, count)] = rng.choice([np.nan, np.inf, -np.inf], count)
        with np.errstate(invalid="ignore"):
            want = layer_by_layer(x, layers)
            chunks = (cut(rng, len(want)), want.shape[1], *[cut(rng, n) for n in want.shape[2:]])
            got = chain(x, layers, chunks=chunks).compute(scheduler="sync")
        assert np.array_equal(got, want, equal_nan=True), (x.shape, layers, chunks)
        spoiled += not np.isfinite(want).all() and np.isfinite(want).any()
    assert spoiled > 20


def test_poolings_alone_tell_their_axes_by_the_sizes_of_their_windows():
    x = np.arange(63).reshape(1, 7, 9)
    links = [MaxPool((3, 2), stride=2, ceil_mode=True), np.negative, AvgPool(2, padding=1, count_include_pad=False)]
    want = layer_by_layer(x[None], links)[0]
    for given in (x, da.from_array(x, chunks=4)):
        assert np.array_equal(chain(given, links).compute(scheduler="sync"), want)
    image = chain(da.from_array(x[0], chunks=4), links)  # of one channel
    assert np.array_equal(image.compute(scheduler="sync"), want[0])


def test_the_first_layer_may_have_circular_padding():
    x = np.arange(13).reshape(1, 1, 13) ** 2
    layers = [PaddedLayer([[[1, 2, -1]]], padding=2, padding_mode="circular"), MaxPool(2, padding=1), np.abs]
    want = layer_by_layer(x, layers)
    for given in (x, da.from_array(x, chunks=5)):
        assert np.array_equal(chain(given, layers, chunks=(1, 1, 2)).compute(scheduler="sync"), want)
    kappa = Konv([[[[1, 2]], [[3, 4]]]], padding=3, padding_mode="circular")
    assert np.array_equal(chain(x, [kappa], chunks=(1, 1, 4)).compute(scheduler="sync"), layer_by_layer(x, [kappa]))


def test_chains_are_sent_to_workers():
    for _, x, layers, want in chains(5, 12):
        y = cloudpickle.loads(cloudpickle.dumps(chain(x, layers)))
        assert np.array_equal(y.compute(scheduler="sync"), want)


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
        ([MaxPool(2)], ValueError, "layers must hold .* a kernel_size for each axis will do"),
        (MaxPool(2), TypeError, "layers must be a list of layers, got MaxPool"),
        ([(W,), MaxPool(7)], ValueError, r"layers\[1\]: kernel_size must fit the padded input of 6"),
        ([(W,), AvgPool(7, padding=0, ceil_mode=1)], TypeError, r"layers\[1\]: ceil_mode must be"),
        ([(W,), AvgPool(2, padding=2)], ValueError, r"layers\[1\]: padding must be at most half of kernel_size 2"),
        ([(W,), AvgPool((2, 2))], ValueError, r"layers\[1\]: kernel_size must be one integer or 1"),
        ([AvgPool((2,) * 4)], ValueError, r"layers\[0\]: kernel_size must have one to three entries"),
        ([(W,), AvgPool(2, count_include_pad=2)], TypeError, r"layers\[1\]: count_include_pad must be"),
        ([(W,), AvgPool(2, divisor_override=0)], ValueError, r"layers\[1\]: divisor_override must be"),
        ([(W,), Konv(V)], ValueError, r"layers\[1\]: kappa must have 4 to 6 axes"),
        ([(W,), Konv(W[None])], ValueError, r"layers\[1\]: kappa must have 2 // 1 = 2 channels on axis 2, got 1"),
        ([(W,), Konv(V[:, None], basis="sine")], ValueError, r"layers\[1\]: basis must be"),
        ([(W,), Konv(V[:, None], pad="none")], ValueError, r"layers\[1\]: pad must be"),
        ([(W,), Konv(V[:, None].astype(object))], TypeError, r"layers\[1\]: kappa must hold machine numbers"),
        ([(W,), Konv(V[:, None], padding=1, padding_mode="circular")], ValueError, r"layers\[1\]: padding_mode must"),
        ([(W,), Konv(V[:, None], [1, 2])], ValueError, r"layers\[1\]: bias must have shape \(1,\)"),
        ([(W,), ConvTranspose(V)], ValueError, r"layers\[1\]: w must have 2 channels in, as x has, got 1"),
        ([(W,), ConvTranspose(W, output_padding=1)], ValueError, r"layers\[1\]: output_padding"),
        ([(W,), ConvTranspose(da.ones((2, 1, 3)))], TypeError, r"layers\[1\]: w must be an array, which each block"),
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
    for link in (Konv(torch.ones(2, 2, 1, 3)), Konv(np.ones((2, 2, 1, 3)), torch.ones(2))):
        with pytest.raises(TypeError, match=r"layers\[0\]: (kappa|bias) must"):
            chain(x, [link])
    with pytest.raises(TypeError, match=r"layers\[0\]: w must"):
        chain(x, [ConvTranspose(torch.ones(1, 2, 3))])


def test_an_empty_batch_stays_one():
    for x in (da.zeros((0, 1, 8), chunks=4), np.zeros((0, 1, 8))):
        y = chain(x, [(W,), np.tanh, (V,)])
        assert y.shape == (0, 1, 4)
        assert y.compute(scheduler="sync").shape == (0, 1, 4)
        y = chain(x, [MaxPool(2), Konv(W[:, None]), ConvTranspose(W, stride=2), AvgPool(2)])
        assert y.shape == y.compute(scheduler="sync").shape == (0, 1, 2)


def test_graphs_stay_small():
    x = da.zeros((1, 1, 10**6, 10**6), chunks=(1, 1, 10**5, 10**5))
    y = chain(x, [PaddedLayer(np.ones((1, 1, 3, 3)), padding=1)] * 3)
    assert len(dict(y.__dask_graph__())) < 100 * 20
