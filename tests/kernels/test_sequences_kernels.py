"""Each kernel of `sequences` on small integers, exactly: launchers choose by size, so a size here names a kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import konvlib
from konvlib import sequences
from tests.engine import backends
from tests.kernels.operators import running

backend = pytest.fixture(lambda: backends.TensorBackend(sequences, kernels=True))


def integers(*shape, dtype=np.float64):
    values = np.random.default_rng(sum(shape)).integers(-5, 6, (2, *shape))
    return (values[0] + 1j * values[1]).astype(dtype) if np.dtype(dtype).kind == "c" else values[0].astype(dtype)


def assert_as_numpy(backend, f, g, mode="full"):
    y = backend.convolve(f, g, mode=mode, method="direct")
    rows, kernels = np.atleast_2d(f), np.atleast_2d(g)
    kernels = np.broadcast_to(kernels, (len(rows), kernels.shape[-1]))
    assert (np.atleast_2d(y) == [np.convolve(*pair, mode) for pair in zip(rows, kernels, strict=True)]).all()


def test_direct_with_few_taps_unrolled(backend):
    assert_as_numpy(backend, integers(3, 40), integers(5))
    assert_as_numpy(backend, integers(3, 40, dtype=np.complex64), integers(3, 5, dtype=np.complex64))


def test_direct_with_more_taps_in_a_loop(backend):
    assert_as_numpy(backend, integers(2, 60, dtype=np.float32), integers(20, dtype=np.float32))


def test_toeplitz_product(backend):
    assert_as_numpy(backend, integers(600), integers(20))
    assert_as_numpy(backend, integers(2, 300, dtype=np.float16), integers(2, 9, dtype=np.float16))


def test_split_sums(backend):
    assert_as_numpy(backend, integers(1030), integers(1025), mode="valid")
    assert_as_numpy(backend, integers(1030, dtype=np.complex64), integers(1029, dtype=np.complex64), mode="valid")
    first = np.zeros(1030)
    first[0] = 3
    assert backend.convolve(first, np.ones(1025), mode="valid", method="direct").tolist() == [3, 0, 0, 0, 0, 0]


def test_split_sums_over_a_batch(backend):
    """The gradient of a kernel that all rows share."""
    f, dy = integers(3, 40), integers(3, 44)
    with running("kernel"):
        x, weight = (torch.tensor(a, device=backend.device) for a in (f, dy))
        g = torch.ones(5, device=backend.device, dtype=torch.float64, requires_grad=True)
        (dg,) = torch.autograd.grad((konvlib.convolve(x, g, method="direct") * weight).sum(), g)
    assert dg.tolist() == sum(np.correlate(row, samples, "valid") for row, samples in zip(dy, f, strict=True)).tolist()


def test_repair_of_a_transform(backend):
    f, g = np.ones((2, 90)), np.ones(40)
    f[1, 70] = np.nan
    y = backend.convolve(f, g)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1, 70:110]).all()
    assert np.isfinite(y[1, :70]).all()
