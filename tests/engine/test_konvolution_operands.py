"""The operands of Konvolution: dtypes, exactness, memory, and batches of no rows."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from konvlib import konvolution
from konvlib.konvolution import arrays, bases
from tests.engine import backends, boxes
from tests.engine.oracles import konvolution as oracles

naive = backends.definition("konvolution")

backend = pytest.fixture(params=backends.of("konvolution"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("konvolution"))(lambda request: request.param)

AXES = (boxes.Axis(5, 2, 2, 1, 0, 1), boxes.Axis(4, 3, 1, 1, 1, 1))


def test_a_batch_of_no_rows(backend):
    x, kappa, dy = np.zeros((0, 2, 5)), np.ones((3, 4, 2, 2)), np.zeros((0, 3, 6))
    for pad in oracles.PADS:
        assert backend.konv1d(x, kappa, np.ones(3), padding=1, pad=pad).shape == (0, 3, 6)
        assert backend.konv1d_input_grad(dy, x, kappa, padding=1, pad=pad).shape == (0, 2, 5)
        dkappa = backend.konv1d_kappa_grad(x, dy, degree=3, kernel_size=2, padding=1, pad=pad)
        assert dkappa.shape == (3, 4, 2, 2)
        assert not dkappa.any()
    assert (backend.konv1d_bias_grad(dy) == np.zeros(3)).all()


def test_operands_stay_as_they_were_and_may_be_views(backend):
    for pad in oracles.PADS:
        it = oracles.row(AXES, boxes.CHANNELS[1], 3, basis="hermite", pad=pad)
        given = it.x, it.kappa, it.bias, it.dy
        views = [np.repeat(array.T, 2, axis=0)[::-2].T[..., ::-1] for array in given]
        copies = [array.copy() for array in views]
        assert all((view == array).all() for view, array in zip(views, given, strict=True))
        same = it._replace(x=views[0], kappa=views[1], bias=views[2], dy=views[3])
        assert (oracles.forward(backend, same) == it.y).all()
        dx, dkappa = oracles.grads(backend, same)
        assert (dx == it.dx).all()
        assert (dkappa == it.dkappa).all()
        assert all((view == array).all() for view, array in zip(views, copies, strict=True))


def test_a_kernel_of_one_tap_keeps_the_input(backend):
    """Where a convolution may take its input as it is, degree 1's must not be the batch itself, written to."""
    x, kappa = np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 2, 1, 1))
    y = backend.konv1d(x, kappa, np.array([5.0]), basis="monomial")
    assert y.tolist() == [[[7, 8, 9]]]
    assert x.tolist() == [[[1, 2, 3]]]


def test_fractions_and_big_integers_are_exact(exact_backend):
    third, big = Fraction(1, 3), 10**30
    y = exact_backend.konv1d([[[third, big]]], [[[[1]], [[2]], [[third]]]], basis="monomial")
    assert y.tolist() == [[[1 + 2 * third + third**3, 1 + 2 * big + third * big**2]]]
    y = exact_backend.konv1d([[[third]]], [[[[0]], [[0]], [[0]], [[1]]]], basis="legendre")
    assert y.tolist() == [[[(5 * third**3 - 3 * third) / 2]]]
    dx = exact_backend.konv1d_input_grad([[[third]]], [[[big]]], [[[[0]], [[0]], [[0]], [[1]]]])
    assert dx.tolist() == [[[third * (12 * big**2 - 3)]]]
    dkappa = exact_backend.konv1d_kappa_grad([[[big]]], [[[third]]], degree=2, kernel_size=1)
    assert dkappa.tolist() == [[[[third]], [[third * big]], [[third * (2 * big**2 - 1)]]]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_dtypes_are_numpys_and_integers_wrap(exact_backend):
    rng = np.random.default_rng(0)
    for a, b in product("?bhilBHILefdFD", repeat=2):
        x, dy = (rng.integers(0, 9, shape).astype(kind) for shape, kind in (((2, 2, 4), a), ((2, 3, 3), b)))
        kappa = rng.integers(0, 256, (3, 4, 2, 2)).astype(b)
        together = np.result_type(x, dy)
        wanted = np.dtype(np.int64) if together.kind == "b" else together
        whole = wanted.kind in "iu"
        for basis in ("chebyshev", "legendre"):
            results = [
                [
                    each.konv1d(x, kappa, basis=basis),
                    each.konv1d_input_grad(dy, x, kappa, basis=basis),
                    each.konv1d_kappa_grad(x, dy, degree=3, kernel_size=2, basis=basis),
                ]
                for each in (exact_backend, naive)
            ]
            for ours, theirs in zip(*results, strict=True):
                assert ours.dtype == theirs.dtype == (np.float64 if whole and basis == "legendre" else wanted)
                assert not whole or (ours == theirs).all()
        assert exact_backend.konv1d_bias_grad(dy).dtype == dy.dtype


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_wider_bias_widens_the_sum(exact_backend):
    x, kappa = np.array([[[100]]], np.int8), np.array([[[[0]], [[100]]]], np.int8)
    assert exact_backend.konv1d(x, kappa, np.array([7], np.int32)).tolist() == [[[10007]]]
    assert exact_backend.konv1d(x, kappa, np.array([7], np.int8)).tolist() == [[[np.int32(10007).astype(np.int8)]]]


def test_booleans_count_as_integers(exact_backend):
    """T_2(1) = T_2(True) = 1 and T_2(0) = T_2(False) = -1, which no boolean holds."""
    kappa = np.array([[[[False]], [[False]], [[True]]]])
    assert exact_backend.konv1d(np.array([[[True, False]]]), kappa).tolist() == [[[1, -1]]]


def test_complex_samples_as_their_polynomials(exact_backend):
    x = np.array([[[1 + 2j, -1j]]])
    kappa = np.array([[[[1 - 1j]], [[2]], [[3j]]]])
    expected = (1 - 1j) + 2 * x + 3j * (2 * x * x - 1)
    assert (exact_backend.konv1d(x, kappa) == expected).all()
    assert (exact_backend.konv1d_input_grad(np.ones((1, 1, 2)), x, kappa) == 2 + 3j * 4 * x).all()


def test_halves_are_summed_as_singles():
    """Of 4096 ones and a first term of 2048, halves would lose every one."""
    x = np.ones((1, 4096, 1), np.float16)
    kappa = np.zeros((1, 2, 4096, 1), np.float16)
    kappa[:, 1] = 1
    kappa[:, 1, 0] = 2048
    assert konvolution.konv1d(x, kappa) == np.float16(2048 + 4095)
    dkappa = konvolution.konv1d_kappa_grad(x.swapaxes(0, 1), kappa[:, 1].swapaxes(0, 1), degree=1, kernel_size=1)
    assert (dkappa == np.float16(2048 + 4095)).all()


def test_close_to_the_definition_in_singles_and_doubles():
    """Each backend against the definition in fractions: errors of a few roundings of the sum of absolute terms."""
    rng = np.random.default_rng(1)
    x, kappa = rng.uniform(-1, 1, (2, 3, 6, 5)), rng.normal(size=(4, 9, 3, 3, 2))
    for dtype, basis in product((np.float32, np.float64), oracles.BASES):
        given = x.astype(dtype), kappa.astype(dtype)
        exact = naive.konv2d(
            *(np.vectorize(Fraction, otypes=[object])(array.astype(float)) for array in given), basis=basis
        )
        p = np.abs(bases.values(basis, given[0].astype(float), 8)).sum()
        bound = 32 * np.finfo(dtype).eps * np.abs(given[1]).max() * p
        for each in (naive, konvolution):
            assert np.abs(each.konv2d(*given, basis=basis).astype(float) - exact.astype(float)).max() < bound


def test_the_expanded_input_never_exists():
    """An input of 32 MB and degree 8: expanded it would have 288 MB, and so would its gradient."""
    x = np.random.default_rng(0).uniform(-1, 1, (2, 8, 512, 512))
    kappa = np.full((1, 9, 8, 1, 1), 0.5)
    dy = np.ones((2, 1, 512, 512))
    calls = {
        "forward": lambda: konvolution.konv2d(x, kappa),
        "padded": lambda: konvolution.konv2d(x, kappa, padding=1, pad="input"),
        "input": lambda: konvolution.konv2d_input_grad(dy, x, kappa),
        "kappa": lambda: konvolution.konv2d_kappa_grad(x, dy, degree=8, kernel_size=1),
    }
    for name, run in calls.items():
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * x.nbytes + 6 * arrays.BLOCK, f"{name}: {peak / 2**20:.0f} MB"
        print(f"{name}: {peak / 2**20:.0f} MB")


def test_pieces_of_one_channel_give_the_same(backend):
    """The backend for arrays cuts a channel that is large; here all."""
    for axes, pad, mode in ((AXES, "basis", "zeros"), (AXES, "input", "zeros"), (AXES[::-1], "basis", "circular")):
        it = oracles.row(axes, boxes.CHANNELS[1], 3, basis="hermite", pad=pad, padding_mode=mode)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "BLOCK", 24, raising=False)
            assert (oracles.forward(backend, it) == it.y).all()
            dx, dkappa = oracles.grads(backend, it)
        assert (dx == it.dx).all()
        assert (dkappa == it.dkappa).all()
