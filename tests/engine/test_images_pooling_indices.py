"""Where the largest samples lie, and how they are put back, every backend against PyTorch."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from konvlib import geometry
from tests.engine import backends, boxes
from tests.engine.mistakes import assert_refused
from tests.engine.test_images import call
from tests.engine.test_images_pooling import POOL_TEXT, POOLS, pool_options, random_pool, shows_samples, torch_pool

backend = pytest.fixture(params=backends.of("images"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("images"))(lambda request: request.param)


def torch_indices(axes, x, *args):
    """PyTorch's indices, of doubles."""
    pool = getattr(torch.nn.functional, f"max_pool{axes}d")
    return pool(boxes.tensor(x), *args, return_indices=True)[1].numpy()


@cache
def pools():
    """Of small integers, so that windows have several largest samples."""
    rows = []
    for row in POOLS:
        if row[3] > row[1] // 2 or not shows_samples(*row):
            continue  # more padding than PyTorch takes, or none that fits
        x = boxes.integers(2, 3, row[0]) % 4
        rows.append((x, row, torch_pool("max", 1, x, *row[1:]), torch_indices(1, x, *row[1:])))
    return rows


@pytest.mark.verifies("def-images-pooling", box=POOL_TEXT, exact=True)
def test_indices_on_one_axis_are_torchs(backend):
    for x, row, largest, places in backends.share(backend, pools()):
        y, indices = backend.max_pool1d(x, row[1], return_indices=True, **pool_options(row))
        assert indices.dtype == np.int64
        assert (y == largest).all()
        assert (indices == places).all()


def test_indices_on_more_axes_are_torchs(backend):
    for seed, axes in backends.share(backend, list(product(range(40), (2, 3)))):
        x, (kernel, stride, padding), ceil_mode = random_pool(seed, axes)
        x = x % 3
        dilation = (1, 2, 1)[:axes] if seed % 3 else (2, 1, 1)[:axes]
        options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        y, indices = call(backend, "max_pool#d", axes, x, kernel, return_indices=True, **options)
        assert (y == torch_pool("max", axes, x, kernel, stride, padding, dilation, ceil_mode)).all()
        assert (indices == torch_indices(axes, x, kernel, stride, padding, dilation, ceil_mode)).all()


def test_indices_of_nan_and_infinity_are_torchs(backend):
    """The last NaN of a window, as its gradient goes to it; minus infinity before padding."""
    for seed, padding in backends.share(backend, list(product(range(30), (0, 1)))):
        x = np.random.default_rng(seed).choice([np.nan, 1.0, 2.0, np.inf, -np.inf], (2, 1, 6, 5))
        _, indices = backend.max_pool2d(x, (2, 3), stride=(1, 2), padding=padding, return_indices=True)
        assert (indices == torch_indices(2, x, (2, 3), (1, 2), padding)).all()


def test_indices_are_never_padding(backend):
    """On one side alone, which PyTorch has not."""
    x = np.full((1, 2, 4, 3), -np.inf)
    y, indices = backend.max_pool2d(x, 2, stride=1, padding=((1, 0), (0, 1)), return_indices=True)
    assert (y == -np.inf).all()
    assert indices[0, 1].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_indices_say_where_the_gradient_goes(backend):
    """To each window's sample, one; of windows apart nothing is added up."""
    x = boxes.integers(2, 3, 7, 9) % 3
    y, indices = backend.max_pool2d(x, (2, 3), return_indices=True)
    flat = x.reshape(2, 3, -1)
    assert (np.take_along_axis(flat, indices.reshape(2, 3, -1), 2).reshape(y.shape) == y).all()


def put_back(backend, axes, x, indices, *args, **options):
    """An unpooling, with indices as integers of the backend."""
    return call(backend, "max_unpool#d", axes, x, places(backend, indices), *args, **options)


def places(backend, indices):
    if isinstance(backend, backends.TensorBackend):
        return torch.from_numpy(np.ascontiguousarray(indices)).to(backend.device)
    return indices


def unpooled(axes, x, indices, size, *args):
    function = getattr(torch.nn.functional, f"max_unpool{axes}d")
    return function(boxes.tensor(x), torch.from_numpy(indices), *args, output_size=size).numpy()


@cache
def unpools():
    """Every kernel, stride and padding of a box, and every size that a stride leaves open."""
    rows = []
    for windows, kernel, stride, padding in product((1, 2, 4), range(1, 5), range(1, 4), range(3)):
        least = (windows - 1) * stride + kernel - 2 * padding
        for size in range(max(1, least - stride + 1), least + stride):
            if least < 1 or size < windows:
                continue
            rng = np.random.default_rng([windows, kernel, stride, padding, size])
            x = rng.integers(1, 99, (2, 3, windows))
            indices = np.stack([rng.permutation(size)[:windows] for _ in range(6)]).reshape(x.shape)
            options = {"stride": stride, "padding": padding, "output_size": size}
            rows.append((x, indices, kernel, options, unpooled(1, x, indices, (size,), kernel, stride, padding)))
    assert len(rows) > 200
    return rows


def test_unpooling_on_one_axis_is_torchs(backend):
    for x, indices, kernel, options, expected in backends.share(backend, unpools()):
        assert (put_back(backend, 1, x, indices, kernel, **options) == expected).all()


def test_unpooling_on_more_axes_is_torchs_and_undoes_the_pooling(backend):
    for axes in (1, 2, 3):
        size, kernel = (7, 6, 5)[:axes], (2, 3, 1)[:axes]
        x = np.random.default_rng(axes).permutation(6 * int(np.prod(size))).reshape(2, 3, *size) + 1
        y, indices = call(backend, "max_pool#d", axes, x, kernel, return_indices=True)
        back = put_back(backend, axes, y, indices, kernel, output_size=size)
        assert (back == unpooled(axes, y, indices, size, kernel)).all()
        assert ((back == x) | (back == 0)).all()
        assert (call(backend, "max_pool#d", axes, back, kernel) == y).all()
        least = tuple((n // k - 1) * k + k for n, k in zip(size, kernel, strict=True))
        if least[-1] == size[-1]:
            whole = put_back(backend, axes, y, indices % np.prod(least), kernel)
            assert whole.shape == (2, 3, *least)
        assert (put_back(backend, axes, y, indices, kernel, output_size=x.shape) == back).all()


def test_the_channels_and_the_batch_may_stand_before_the_size(backend):
    """The batch and the channels as in PyTorch; the channels as in the shape of one sample."""
    for axes in (1, 2, 3):
        size, kernel = (7, 5, 4)[:axes], (3, 2, 3)[:axes]
        x = np.random.default_rng(axes).permutation(6 * int(np.prod(size))).reshape(2, 3, *size) + 1
        y, indices = call(backend, "max_pool#d", axes, x, kernel, return_indices=True)
        expected = unpooled(axes, y, indices, (2, 3, *size), kernel)
        for given in (size, (3, *size), [2, 3, *size]):
            assert (put_back(backend, axes, y, indices, kernel, output_size=given) == expected).all()
        for given in (size, (3, *size), (1, 3, *size)):
            one = put_back(backend, axes, y[1], indices[1], kernel, output_size=given)
            assert one.shape == (3, *size)
            assert (one == expected[1]).all()


SAME_SIZES = list(product(("same_upper", "same_lower"), range(1, 9), range(1, 6), range(1, 5)))


def test_unpooling_undoes_the_pooling_of_the_least_padding(backend):
    """Each largest sample back at its place, zeros elsewhere; by default at the largest size."""
    for name, size, kernel, stride in backends.share(backend, SAME_SIZES):
        x = np.random.default_rng(size).permutation(6 * size).reshape(2, 3, size) + 1
        window = {"stride": stride, "padding": name}
        y, indices = backend.max_pool1d(x, kernel, return_indices=True, **window)
        back = put_back(backend, 1, y, indices, kernel, output_size=size, **window)
        expected = np.zeros_like(x)
        np.put_along_axis(expected, np.asarray(indices), np.take_along_axis(x, np.asarray(indices), 2), 2)
        assert (back == expected).all()
        largest = put_back(backend, 1, y, indices, kernel, **window)
        assert largest.shape == (2, 3, y.shape[-1] * stride)
        assert (largest[..., :size] == back).all()
        assert (backend.max_pool1d(back, kernel, **window) == y).all()


def test_unpooling_undoes_it_on_more_axes(backend):
    for name, axes in backends.share(backend, list(product(("same_upper", "same_lower"), (2, 3)))):
        size, kernel, window = (7, 6, 5)[:axes], (3, 2, 4)[:axes], {"stride": (2, 4, 3)[:axes], "padding": name}
        x = np.random.default_rng(axes).permutation(6 * int(np.prod(size))).reshape(2, 3, *size) + 1
        y, indices = call(backend, "max_pool#d", axes, x, kernel, return_indices=True, **window)
        for given in (size, x.shape[1:], x.shape):
            back = put_back(backend, axes, y, indices, kernel, output_size=given, **window)
            assert ((back == x) | (back == 0)).all()
            assert (call(backend, "max_pool#d", axes, back, kernel, **window) == y).all()
            assert set(back[back > 0]) == set(np.ravel(y))
        whole = put_back(backend, axes, y, np.zeros_like(indices), kernel, **window)
        assert whole.shape[2:] == tuple(n * s for n, s in zip(y.shape[2:], window["stride"], strict=True))


def test_the_last_of_those_that_meet_stays(backend):
    x, indices = np.array([[[5, 7, 6], [1, 2, 3]]]), np.array([[[2, 0, 2], [4, 4, 4]]])
    y = put_back(backend, 1, x, indices, 2, stride=2)
    assert y.tolist() == [[[7, 0, 6, 0, 0, 0], [0, 0, 0, 0, 3, 0]]]


def test_dtypes_and_objects_are_put_back(exact_backend):
    for kind in "?bhilBHILefdgFDG":
        y = exact_backend.max_unpool1d(np.ones((1, 1, 2), kind), np.array([[[0, 3]]]), 2)
        assert y.dtype == kind
        assert y.tolist() == [[[1, 0, 0, 1]]]
    assert exact_backend.max_unpool1d([[[10**30]]], [[[1]]], 2).tolist() == [[[0, 10**30]]]


X, INDICES = np.ones((1, 2, 3)), np.array([[[0, 1, 2], [3, 4, 5]]])
ERRORS = [
    ({"indices": INDICES[:, :1]}, ValueError, "indices must have the shape of x (1, 2, 3), got (1, 1, 3)"),
    ({"indices": INDICES - 1}, ValueError, "indices must lie between 0 and 5, got -1"),
    ({"indices": INDICES + 1}, ValueError, "indices must lie between 0 and 5, got 6"),
    ({"x": X[0, 0]}, ValueError, "x must have 3 axes (N, C, L), or 2 without the batch, got shape (3,)"),
    (
        {"x": X[0]},
        ValueError,
        "x and indices must all have a batch or none of them, got shapes (2, 3) and (1, 2, 3)",
    ),
    ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
    ({"stride": 1.0}, TypeError, "stride must be an integer, got 1.0"),
    ({"padding": 3}, ValueError, "padding must leave an output, got ((3, 3),) for windows of (2,)"),
    ({"output_size": 4}, ValueError, "output_size[0] must lie between 5 and 7, got 4"),
    ({"output_size": 8}, ValueError, "output_size[0] must lie between 5 and 7, got 8"),
    ({"output_size": (1, 7)}, ValueError, "output_size must begin with the channels of x [2], got (1, 7)"),
    (
        {"output_size": [2, 2, 7]},
        ValueError,
        "output_size must begin with the batch and channels of x [1, 2], got (2, 2, 7)",
    ),
    ({"output_size": (2.0, 7)}, TypeError, "output_size[0] must be an integer, got 2.0"),
    ({"output_size": (True, 2, 7)}, TypeError, "output_size[0] must be an integer, got True"),
    (
        {"output_size": (1, 1, 2, 7)},
        ValueError,
        "output_size must be one integer or 1, one per axis, got (1, 1, 2, 7)",
    ),
    ({"padding": "same_upper", "output_size": 4}, ValueError, "output_size must be 5 to 6, got 4"),
    ({"padding": "same_lower", "output_size": (1, 2, 7)}, ValueError, "output_size must be 5 to 6, got 7"),
    ({"output_size": 6.0}, TypeError, "output_size must be an integer, got 6.0"),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[2][:50])
def test_what_is_no_unpooling(backend, row):
    options, kind, message = row
    for _ in range(2):
        given = {"x": X, "indices": INDICES, "kernel_size": 2} | options
        assert_refused(kind, message, put_back, backend, 1, given.pop("x"), given.pop("indices"), **given)


def test_indices_are_integers_of_the_same_kind_as_x(exact_backend):
    for bad in (INDICES * 1.0, INDICES > 2, INDICES * 1j):
        with pytest.raises(TypeError, match=r"^indices must be integers, got dtype "):
            exact_backend.max_unpool1d(X, bad, 2)
    with pytest.raises(TypeError, match=r"^indices must be an array like x, got a torch tensor$"):
        exact_backend.max_unpool1d(X, torch.from_numpy(INDICES), 2)
    with pytest.raises(TypeError, match=r"^indices must be a torch tensor like x, got ndarray$"):
        exact_backend.max_unpool1d(torch.from_numpy(X), INDICES, 2)
    with pytest.raises(TypeError, match=r"^indices must be of dtype int32 or int64, got torch.float64$"):
        exact_backend.max_unpool1d(torch.from_numpy(X), torch.from_numpy(INDICES * 1.0), 2)


def test_return_indices_is_a_flag(backend):
    for bad in (1, None, "yes"):
        with pytest.raises(TypeError, match=r"^return_indices must be True or False, got "):
            backend.max_pool1d(X, 2, return_indices=bad)


def test_an_empty_batch_has_no_indices(backend):
    y, indices = backend.max_pool2d(np.zeros((0, 2, 5, 4)), 2, return_indices=True)
    assert y.shape == indices.shape == (0, 2, 2, 2)
    assert indices.dtype == np.int64
    assert geometry.max_unpool_geometry((0, 2, 2), 2, axes=1, indices_shape=(0, 2, 2)).input_shape == (0, 2, 4)
