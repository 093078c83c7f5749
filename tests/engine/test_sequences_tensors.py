"""Convolving tensors on the CPU is right under everything that torch does to a function, for every method and mode.

What torch does to functions is in `tests.engine.transforms`; here too is what complex tensors, NaN and infinity need.
Sizes are small; blocks and the least number of taps that ``auto`` transforms are made small too, so that every method
does what it does.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import konvlib
from konvlib import geometry
from konvlib.sequences import aten
from konvlib.sequences.tensors import DTYPES
from tests.engine import backends, transforms

FUNCTIONS = (konvlib.convolve, konvlib.correlate)
CALLS = list(product(FUNCTIONS, geometry.MODES, geometry.METHODS))
FEW = [call for k, call in enumerate(CALLS) if k % 5 == 0]
"""For what takes long: every function, mode and method at least once."""


close = partial(torch.allclose, rtol=1e-9, atol=1e-9)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(aten.DIRECT_TAPS, "cpu", dict.fromkeys(DTYPES, 2))
    monkeypatch.setattr(aten, "LEAST_BLOCK", 5)


def name(call):
    return f"{call[0].__name__}-{call[1]}-{call[2]}"


every_call = pytest.mark.parametrize("call", CALLS, ids=name)
few_calls = pytest.mark.parametrize("call", FEW, ids=name)


def bound(call):
    function, mode, method = call
    return partial(function, mode=mode, method=method)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=dtype)


def operands(dtype=torch.float64, seed=0):
    """A batch of sequences, and others that are broadcast with it: the taps of 3 rows."""
    return random(2, 1, 6, dtype=dtype, seed=seed), random(3, 4, dtype=dtype, seed=seed)


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def test_few_calls_have_everything():
    for choices, which in ((FUNCTIONS, 0), (geometry.MODES, 1), (geometry.METHODS, 2)):
        assert {call[which] for call in FEW} == set(choices)


def test_auto_transforms_here():
    f, g = operands()
    assert aten.choose_method(f, g, 6, f.dtype) == "fft"
    assert aten.choose_method(random(90), random(4), 90, f.dtype) == "overlap-add"


@every_call
@pytest.mark.parametrize("check", transforms.QUICK, ids=lambda check: check.__name__)
def test_everything_that_torch_does(call, check):
    check(bound(call), [random(2, 5), random(3)])


@few_calls
@pytest.mark.parametrize("check", transforms.SLOW, ids=lambda check: check.__name__)
def test_everything_else_that_torch_does(call, check):
    check(bound(call), [random(2, 5), random(3)])


@every_call
def test_first_and_second_derivatives_of_complex_sequences(call):
    pair = leaves(*(random(*shape, dtype=torch.complex128) for shape in ((2, 4), (3,))))
    assert gradcheck(bound(call), pair, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(bound(call), pair, fast_mode=True)


@every_call
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_forward_mode_is_the_product_rule(call, dtype):
    f, (a, b), (da, db) = bound(call), operands(dtype), operands(dtype, seed=5)
    expected = f(da, b) + f(a, db)
    assert close(jvp(f, (a, b), (da, db))[1], expected)
    with forward_ad.dual_level():
        y = f(forward_ad.make_dual(a, da), forward_ad.make_dual(b, db))
        assert close(forward_ad.unpack_dual(y).tangent, expected)
        y = f(a, forward_ad.make_dual(b, db))
        assert close(forward_ad.unpack_dual(y).tangent, f(a, db))


@every_call
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_vmap(call, dtype):
    f, (a, b) = bound(call), operands(dtype)
    many = [torch.stack([t, 2 * t, -t], 1) for t in (a, b)]
    assert close(vmap(f, in_dims=1)(*many), torch.stack([f(a, b), f(2 * a, 2 * b), f(-a, -b)]))
    assert close(vmap(f, in_dims=(1, None), out_dims=1)(many[0], b), torch.stack([f(a, b), f(2 * a, b), f(-a, b)], 1))
    assert close(vmap(f, in_dims=(None, 1))(a, many[1]), torch.stack([f(a, b), f(a, 2 * b), f(a, -b)]))


@every_call
def test_autocast_computes_in_its_dtype_and_gives_gradients_in_the_operands_own(call):
    """A bfloat16 has 8 bits: each operand and the result are rounded once."""
    f, (a, b) = bound(call), operands(torch.float32)
    moving = leaves(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = f(*moving)
        assert f(a.double(), b.double()).dtype == torch.float64
        assert f(a.bfloat16(), b).dtype == torch.bfloat16
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert [leaf.grad.dtype for leaf in moving] == [torch.float32, torch.float32]
    assert torch.allclose(y.float(), f(a, b), rtol=0, atol=3 * 2**-8 * a.norm() * b.norm())


@every_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_rounded_once(call, dtype):
    f, (a, b) = bound(call), (t.to(dtype) for t in operands())
    exact = f(a.double(), b.double())
    assert f(a, b).dtype == dtype
    error = (f(a, b).double() - exact).abs()
    assert (error <= torch.finfo(dtype).eps * exact.abs() + 1e-5).all()
    half = leaves(a, b)
    f(*half).sum().backward()
    assert all(leaf.grad.dtype == dtype for leaf in half)


@every_call
def test_fake_and_meta_tensors_have_the_same_shapes(call):
    f, pair = bound(call), operands()
    with FakeTensorMode() as mode:
        fake = f(*map(mode.from_tensor, pair))
    meta = f(*(t.to("meta") for t in pair))
    for y in (fake, meta):
        assert (y.shape, y.dtype, y.stride()) == (f(*pair).shape, torch.float64, f(*pair).stride())


@few_calls
def test_compiles_once_for_every_batch_and_length(call):
    torch._dynamo.reset()
    f, counter = bound(call), CompileCounter()
    compiled = torch.compile(f, fullgraph=True, backend=counter, dynamic=True)
    for rows, samples in ((2, 9), (3, 12), (5, 21)):
        x, g = random(rows, samples), random(4)
        assert close(compiled(x, g), f(x, g))
    assert counter.frame_count == 1


BAD = [(operand, place, bad) for operand in (0, 1) for place in (0, 2) for bad in (np.nan, np.inf, -np.inf)]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", ["direct", "auto"])
@pytest.mark.parametrize("mode", geometry.MODES)
def test_nan_and_infinity_stay_where_the_sum_has_them(function, mode, method):
    """In one row of several; and in sequences alone."""
    definition = getattr(backends.definition("sequences"), function.__name__)
    for operand, place, bad in BAD:
        pair = [random(3, 7), random(3, 4)]
        pair[operand][1, place] = bad
        for tensors in (pair, [t[1] for t in pair], [pair[0][1], pair[1]]):
            with np.errstate(invalid="ignore"):
                expected = definition(*(t.numpy() for t in tensors), mode=mode)
            y = function(*tensors, mode=mode, method=method).numpy()
            assert np.allclose(y, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", ["direct", "auto"])
@pytest.mark.parametrize("mode", geometry.MODES)
def test_traced_and_batched_they_reach_the_same_values(function, mode, method):
    """There no value can be looked at, so an infinite one may arrive as NaN."""
    call = (function, mode, method)
    traced = make_fx(bound(call))(random(3, 7), random(3, 4))
    for operand, place, bad in BAD:
        pair = [random(3, 7), random(3, 4)]
        pair[operand][1, place] = bad
        expected = bound(call)(*pair)
        for y in (vmap(bound(call))(*pair), traced(*pair)):
            assert torch.equal(y.isfinite(), expected.isfinite())
            assert close(y[expected.isfinite()], expected[expected.isfinite()])


@pytest.mark.parametrize("method", ["direct", "auto"])
def test_the_gradient_of_a_whole_row_is_whole_beside_a_bad_one(method):
    f, g = random(2, 7), random(2, 4)
    f[1, 3] = np.nan
    moving = leaves(f, g)
    df, dg = torch.autograd.grad(konvlib.convolve(*moving, method=method).sum(), moving)
    alone = leaves(f[0], g[0])
    expected = torch.autograd.grad(konvlib.convolve(*alone, method=method).sum(), alone)
    assert close(df[0], expected[0])
    assert close(dg[0], expected[1])
    assert df.isfinite().all()
    assert dg[1].isnan().all()


@every_call
def test_a_batch_of_no_rows_has_gradients(call):
    moving = leaves(torch.ones(0, 5), torch.ones(3))
    y = bound(call)(*moving)
    df, dg = torch.autograd.grad(y.sum(), moving)
    assert df.shape == (0, 5)
    assert dg.tolist() == [0, 0, 0]


@every_call
def test_integers_are_exact(call):
    """Where sums are direct; a transform rounds."""
    function, mode, method = call
    f, g = (t.mul(4).round() for t in operands())
    y = function(f, g, mode=mode, method=method)
    expected = torch.from_numpy(function(f.numpy(), g.numpy(), mode=mode, method="direct"))
    assert torch.equal(y, expected) if method == "direct" else close(y, expected)
