"""Boundaries, axes, normalised correlation, resampling and convolution along all axes of tensors, under everything that
torch does to a function.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import konvlib
from konvlib.sequences import aten, composites
from konvlib.sequences.tensors import DTYPES
from tests.engine import transforms
from tests.engine.real_numbers import random

CALLS = {
    "circular": (partial(konvlib.convolve, mode="same", boundary="circular"), [(2, 5), (3,)]),
    "reflect": (partial(konvlib.correlate, mode="same", boundary="reflect"), [(2, 3), (7,)]),
    "symmetric": (partial(konvlib.convolve, mode="same", boundary="symmetric", method="fft"), [(2, 3), (4,)]),
    "replicate": (partial(konvlib.convolve, mode="same", boundary="replicate"), [(2, 5), (3,)]),
    "axis": (partial(konvlib.convolve, axis=1), [(2, 5, 3), (2,)]),
    "normalized": (partial(konvlib.normalized_correlation, mode="full"), [(2, 5), (3,)]),
    "up": (partial(konvlib.resample, up=3), [(2, 4), (5,)]),
    "up and down": (partial(konvlib.resample, up=2, down=3), [(2, 5), (4,)]),
    "all axes": (konvlib.convolve_nd, [(2, 3, 4), (1, 3, 2)]),
    "all axes by transforms": (partial(konvlib.convolve_nd, mode="same", method="fft"), [(2, 3, 4), (1, 3, 2)]),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So that every way of computing is taken."""
    monkeypatch.setitem(aten.DIRECT_TAPS, "cpu", dict.fromkeys(DTYPES, 2))
    monkeypatch.setattr(aten, "LEAST_BLOCK", 5)


def operands(shapes, dtype=torch.float64):
    return [random(shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)]


@pytest.mark.parametrize("check", transforms.QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CALLS)
def test_everything_that_torch_does(name, check):
    function, shapes = CALLS[name]
    check(function, operands(shapes))


@pytest.mark.parametrize("check", transforms.SLOW, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["reflect", "axis", "normalized", "up and down", "all axes by transforms"])
def test_everything_else_that_torch_does(name, check):
    function, shapes = CALLS[name]
    if check in transforms.FREE_BATCH and name.startswith("all axes"):
        pytest.skip("the first axis is no batch")
    check(function, operands(shapes))


@pytest.mark.parametrize("name", CALLS)
def test_derivatives_of_complex_tensors(name):
    function, shapes = CALLS[name]
    given = [(t + 1j * t.flip(-1)).requires_grad_() for t in operands(shapes)]
    assert gradcheck(function, given, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(function, given, fast_mode=True)


def test_windows_of_zeros_have_no_slope():
    f, g = torch.tensor([0.0, 0, 0, 3, 4]).double().requires_grad_(), torch.tensor([3.0, 4]).double().requires_grad_()
    y = konvlib.normalized_correlation(f, g)
    assert y[0] == y[1] == 0
    df, dg = torch.autograd.grad(y.sum(), (f, g))
    assert df.isfinite().all()
    assert dg.isfinite().all()


@pytest.mark.parametrize("method", ["auto", "direct"])
def test_all_axes_where_values_cannot_be_seen(method, monkeypatch):
    """There what is reached by a sample that is not finite is NaN, and nothing else is."""
    monkeypatch.setattr(composites, "ROWS", 1)
    f, g = operands([(6, 5), (3, 2)])
    f[2, 3] = torch.nan
    call = partial(konvlib.convolve_nd, method=method)
    seen = call(f, g)
    batched = torch.vmap(call, (0, None))(f[None], g)[0]
    assert seen.isnan().sum() == 6
    assert torch.equal(seen.isnan(), batched.isnan())
    assert torch.allclose(seen, batched, equal_nan=True)
