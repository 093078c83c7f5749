"""The operands of gradients: dtypes, exactness, memory, and batches of no rows."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from konvlib import geometry, gradients
from konvlib.gradients import naive as definition
from konvlib.transposes import arrays as transposes_arrays
from tests.engine import backends, boxes
from tests.engine.boxes import integers
from tests.engine.oracles.gradients import autograds, grads, operands, torch_grads

naive = backends.definition("gradients")

backend = pytest.fixture(params=backends.of("gradients"))(lambda request: request.param)


exact_backend = pytest.fixture(params=backends.exact("gradients"))(lambda request: request.param)


def test_a_batch_of_no_rows(backend):
    x, w, dy = np.zeros((0, 2, 5)), np.ones((3, 2, 2)), np.zeros((0, 3, 6))
    assert backend.conv1d_input_grad(dy, w, input_size=5, padding=1).shape == (0, 2, 5)
    assert (backend.conv1d_weight_grad(x, dy, kernel_size=2, padding=1) == np.zeros((3, 2, 2))).all()
    assert (backend.conv1d_weight_grad(x, dy, kernel_size=2, padding=1, padding_mode="reflect") == 0).all()
    assert (backend.conv1d_bias_grad(dy) == np.zeros(3)).all()
    assert backend.max_pool1d_grad(x, np.zeros((0, 2, 2)), 2).shape == (0, 2, 5)
    assert backend.avg_pool1d_grad(np.zeros((0, 2, 2)), 2, input_size=5).shape == (0, 2, 5)


def test_operands_stay_as_they_were_and_may_be_views(backend):
    axes = (boxes.Axis(5, 2, 2, 1, 0, 1), boxes.Axis(4, 3, 1, 1, 1, 1))
    given_ = operands(axes, boxes.CHANNELS[1])
    expected = torch_grads(*given_, axes)
    views = [np.repeat(array.T, 2, axis=0)[::-2].T[..., ::-1] for array in given_]
    copies = [array.copy() for array in views]
    assert all((view == array).all() for view, array in zip(views, given_, strict=True))
    for dx, want in zip(grads(backend, *views, axes), expected, strict=True):
        assert (dx == want).all()
    x, _, dy = views
    backend.max_pool2d_grad(x, boxes.integers(2, 2, 2, 2), 2)
    backend.avg_pool2d_grad(dy, 1, input_size=dy.shape[2:])
    assert all((view == array).all() for view, array in zip(views, copies, strict=True))


def test_fractions_and_big_integers_are_exact(exact_backend):
    third, big = Fraction(1, 3), 10**30
    dx = exact_backend.conv1d_input_grad([[[third, 2]]], [[[big, third]]], input_size=3)
    assert dx.tolist() == [[[third * big, Fraction(1, 9) + 2 * big, 2 * third]]]
    dw = exact_backend.conv1d_weight_grad([[[third, big, 1]]], [[[third, 2]]], kernel_size=2)
    assert dw.tolist() == [[[Fraction(1, 9) + 2 * big, third * big + 2]]]
    assert exact_backend.conv1d_bias_grad([[[third, big]]]).tolist() == [third + big]
    assert exact_backend.max_pool1d_grad([[[third, big]]], [[[third]]], 2).tolist() == [[[0, third]]]
    assert exact_backend.avg_pool1d_grad([[[third]]], 2, input_size=2).tolist() == [[[third / 2, third / 2]]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_dtypes_are_numpys_and_integers_wrap(exact_backend):
    rng = np.random.default_rng(0)
    for a, b in product("?bhilBHILefdFD", repeat=2):
        x, dy = rng.integers(0, 256, (2, 2, 4)).astype(a), rng.integers(0, 256, (2, 3, 3)).astype(b)
        w = rng.integers(0, 256, (3, 2, 2)).astype(a)
        dx = exact_backend.conv1d_input_grad(dy, w, input_size=4)
        dw = exact_backend.conv1d_weight_grad(x, dy, kernel_size=2)
        assert dx.dtype == dw.dtype == np.result_type(np.dtype(a), np.dtype(b))
        assert exact_backend.conv1d_bias_grad(dy).dtype == dy.dtype
        if x.dtype.kind != "c":
            assert exact_backend.max_pool1d_grad(x, dy[:, :2, :2], 2).dtype == dy.dtype
        assert exact_backend.avg_pool1d_grad(dy, 2, input_size=6).dtype == geometry.mean_dtype(dy.dtype)
        if dx.dtype.kind in "biu":
            assert (dx == naive.conv1d_input_grad(dy, w, input_size=4)).all()
            assert (dw == naive.conv1d_weight_grad(x, dy, kernel_size=2)).all()
            assert (exact_backend.conv1d_bias_grad(dy) == naive.conv1d_bias_grad(dy)).all()


def test_sums_of_integers_are_exact_beyond_single_precision(backend):
    """Terms below 2**24, which single precision holds, and odd sums above it, which it does not."""
    for terms in (2, 3, 8):
        dy, w = np.full((1, terms, 1), 2**12 - 1), np.full((terms, 1, 1), 2**12 - 1)
        w[0] = 2**12 - 2 + terms % 2
        expected = int((dy[0, :, 0] * w[:, 0, 0]).sum())
        assert backend.conv1d_input_grad(dy, w, input_size=1).item() == expected
        dw = backend.conv1d_weight_grad(w.reshape(1, 1, -1), dy.reshape(1, 1, -1), kernel_size=1)
        assert dw.item() == expected


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_integers_too_large_for_doubles_are_summed_as_integers():
    rng = np.random.default_rng(3)
    x, w, dy = (rng.integers(2**30, 2**31, shape) for shape in ((2, 2, 6), (3, 2, 2), (2, 3, 5)))
    assert (gradients.conv1d_input_grad(dy, w, input_size=6) == naive.conv1d_input_grad(dy, w, input_size=6)).all()
    assert (gradients.conv1d_weight_grad(x, dy, kernel_size=2) == naive.conv1d_weight_grad(x, dy, kernel_size=2)).all()
    least = np.full((1, 1, 2), -(2**63))
    assert (gradients.conv1d_input_grad(least, least[..., :1], input_size=2) == 0).all()


def test_halves_are_summed_as_singles():
    dy, w = np.ones((1, 4096, 1), dtype=np.float16), np.ones((4096, 1, 1), dtype=np.float16)
    dy[0, 0] = 2048
    assert gradients.conv1d_input_grad(dy, w, input_size=1) == np.float16(2048 + 4095)


def test_complex_gradients_conjugate_nothing(exact_backend):
    """PyTorch's gradient by complex numbers is ours of the conjugated other operand."""
    axes = (boxes.Axis(4, 2, 2, 1, 0, 1), boxes.Axis(5, 3, 1, 0, 1, 1))
    parts = zip(operands(axes, boxes.CHANNELS[1]), operands(axes, boxes.CHANNELS[1], batch=2), strict=True)
    x, w, dy = (real + 1j * imag[..., ::-1] for real, imag in parts)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, w)]
    padded = torch.nn.functional.pad(tensors[0], (0, 1, 1, 0))
    y = torch.nn.functional.conv2d(padded, tensors[1], stride=(2, 1))
    expected = torch.autograd.grad(y, tensors, torch.from_numpy(dy))
    assert (grads(exact_backend, x, np.conj(w), dy, axes)[0] == expected[0].numpy()).all()
    assert (grads(exact_backend, np.conj(x), w, dy, axes)[1] == expected[1].numpy()).all()


def test_every_way_gives_the_same(backend):
    """The backend for arrays sums tap by tap, or convolves what has many taps; here all of it."""
    axes = (boxes.Axis(7, 3, 2, 1, 2, 1), boxes.Axis(6, 2, 1, 1, 0, 2))
    x, w, dy = operands(axes, boxes.CHANNELS[2], batch=3)
    modes = {mode: autograds(x, w, dy, axes, 2, mode) for mode in ("zeros", "circular", "replicate")}
    for most, thin in ((64, 0), (64, 2), (0, 0)) if backends.takes_arrays(backend) else ((64, 2),):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(getattr(backend, "arrays", backend), "MOST_TAPS", most, raising=False)
            patch.setattr(transposes_arrays, "MOST_TAPS", most)
            patch.setattr(transposes_arrays, "THIN", thin)
            for mode, expected in modes.items():
                dx, dw = grads(backend, x, w, dy, axes, groups=2, padding_mode=mode)
                assert (dx == expected[0]).all()
                assert (dw == expected[1]).all()


def test_windows_that_miss_most_samples(backend):
    """Samples between them have no gradient; where padding shows a sample again, it receives what each receives."""
    x, w, dy = integers(2, 2, 30), integers(2, 1, 2), integers(2, 2, 3)
    given = {"stride": 17, "padding": [(4, 5)], "dilation": 3, "groups": 2}
    for mode in ("zeros", "reflect", "replicate", "circular"):
        dx = backend.conv1d_input_grad(dy, w, input_size=30, padding_mode=mode, **given)
        dw = backend.conv1d_weight_grad(x, dy, kernel_size=2, padding_mode=mode, **given)
        expected = np.zeros((2, 2, 30), int), np.zeros((2, 1, 2), int)
        for i, u in product(range(3), range(2)):
            j = geometry.source_index(17 * i + 3 * u - 4, 30, mode)
            if j is not None:
                expected[0][:, :, j] += dy[:, :, i] * w[:, 0, u]
                expected[1][:, 0, u] += (dy[:, :, i] * x[:, :, j]).sum(0)
        assert (dx == expected[0]).all()
        assert (dw == expected[1]).all()


def test_a_bias_gradient_of_halves_goes_on_growing(backend):
    backends.needs_arrays(backend)
    batch = 2 if backend.arrays is definition else 10000  # the definition sums in halves
    assert (backend.conv2d_bias_grad(np.ones((batch, 2, 1, 3), np.float16)) == 3 * batch).all()
