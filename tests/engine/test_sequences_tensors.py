"""Convolving tensors on the CPU is right under everything that torch does to a function, for every method and mode.

The map is bilinear: its directional derivative is known, and so is what its gradient must be. Sizes are small; blocks
and the least number of taps that ``auto`` transforms are made small too, so that every method does what it does.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, functional, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import konvlib
from konvlib import geometry, runtime
from konvlib.sequences import aten
from konvlib.sequences.tensors import DTYPES
from tests.engine import backends

FUNCTIONS = (konvlib.convolve, konvlib.correlate)
CALLS = list(product(FUNCTIONS, geometry.MODES, geometry.METHODS))
FEW = [call for k, call in enumerate(CALLS) if k % 5 == 0]
"""For what takes long: every function, mode and method at least once."""

close = partial(torch.allclose, rtol=1e-9, atol=1e-9)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(runtime, "INTERPRET", False)
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


def cubed(f, *tensors):
    return (f(*tensors).abs() ** 3).sum()


def test_few_calls_have_everything():
    for choices, which in ((FUNCTIONS, 0), (geometry.MODES, 1), (geometry.METHODS, 2)):
        assert {call[which] for call in FEW} == set(choices)


def test_auto_transforms_here():
    f, g = operands()
    assert aten.choose_method(f, g, 6, f.dtype) == "fft"
    assert aten.choose_method(random(90), random(4), 90, f.dtype) == "overlap-add"


@every_call
def test_first_derivatives(call):
    f = bound(call)
    assert gradcheck(f, leaves(random(2, 5), random(3)), check_forward_ad=True, check_batched_grad=True)
    assert gradcheck(f, leaves(random(3), random(2, 1, 5)), fast_mode=True, check_batched_forward_grad=True,
                     check_forward_ad=True)  # fmt: skip


@every_call
def test_first_and_second_derivatives_of_complex_sequences(call):
    pair = leaves(*(random(*shape, dtype=torch.complex128) for shape in ((2, 4), (3,))))
    assert gradcheck(bound(call), pair, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(bound(call), pair, fast_mode=True)


@every_call
def test_second_derivatives(call):
    assert gradgradcheck(bound(call), leaves(random(2, 5), random(3)), fast_mode=True, check_fwd_over_rev=True)


@few_calls
def test_third_derivatives(call):
    f = bound(call)

    def second(*pair):
        (first,) = torch.autograd.grad((f(*pair) ** 3).sum(), pair[0], create_graph=True)
        return torch.autograd.grad((first**2).sum(), pair[1], create_graph=True)[0]

    assert gradcheck(second, leaves(random(2, 5), random(3)), fast_mode=True)


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
def test_reverse_mode_of_torch_func_is_that_of_autograd(call):
    f, pair = bound(call), operands()
    loss, moving = partial(cubed, f), leaves(*pair)
    expected = torch.autograd.grad(loss(*moving), moving)
    assert all(map(close, grad(loss, argnums=(0, 1))(*pair), expected))
    y, pull = vjp(f, *pair)
    expected = torch.autograd.grad(f(*moving), moving, y)
    assert all(map(close, pull(y), expected))


@every_call
def test_jacobians_and_hessians(call):
    f, pair = bound(call), (random(2, 5), random(3))
    for place in (0, 1):
        jacobian = jacrev(f, argnums=place)(*pair)
        assert close(jacobian, jacfwd(f, argnums=place)(*pair))
        assert close(jacobian, functional.jacobian(f, pair, vectorize=True)[place])
    loss = partial(cubed, f)
    assert close(hessian(loss, argnums=1)(*pair), functional.hessian(loss, pair)[1][1])


@every_call
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_vmap(call, dtype):
    f, (a, b) = bound(call), operands(dtype)
    many = [torch.stack([t, 2 * t, -t], 1) for t in (a, b)]
    assert close(vmap(f, in_dims=1)(*many), torch.stack([f(a, b), f(2 * a, 2 * b), f(-a, -b)]))
    assert close(vmap(f, in_dims=(1, None), out_dims=1)(many[0], b), torch.stack([f(a, b), f(2 * a, b), f(-a, b)], 1))
    assert close(vmap(f, in_dims=(None, 1))(a, many[1]), torch.stack([f(a, b), f(a, 2 * b), f(a, -b)]))


@every_call
def test_gradients_for_each_sample(call):
    loss, (a, b) = partial(cubed, bound(call)), operands()
    by_sample = vmap(grad(loss, argnums=1), in_dims=(0, None))(a, b)
    assert close(by_sample, torch.stack([grad(loss, argnums=1)(row, b) for row in a]))


@few_calls
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(call, reentrant):
    f, (one, other) = bound(call), (leaves(*operands()) for _ in range(2))
    y = checkpoint(f, *other, use_reentrant=reentrant)
    y.pow(3).sum().backward()
    expected = torch.autograd.grad(f(*one).pow(3).sum(), one)
    assert all(close(leaf.grad, wanted) for leaf, wanted in zip(other, expected, strict=True))


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


@every_call
@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
def test_make_fx(call, tracing):
    f, pair, others = bound(call), operands(), operands(seed=3)
    assert close(make_fx(f, tracing_mode=tracing)(*pair)(*others), f(*others))


@few_calls
def test_compiles_whole_with_its_gradients(call):
    torch._dynamo.reset()
    f = bound(call)
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    one, other = leaves(*operands()), leaves(*operands())
    gradients = torch.autograd.grad(compiled(*one).pow(3).sum(), one)
    assert all(map(close, gradients, torch.autograd.grad(f(*other).pow(3).sum(), other)))


@few_calls
def test_compiles_under_transforms(call):
    torch._dynamo.reset()
    loss, (a, b) = partial(cubed, bound(call)), operands()
    for transformed in (grad(loss), vmap(grad(loss, argnums=1), in_dims=(0, None))):
        compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
        assert close(compiled(a, b), transformed(a, b))


@few_calls
def test_compiles_once_for_every_batch_and_length(call):
    torch._dynamo.reset()
    f, counter = bound(call), torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(f, fullgraph=True, backend=counter, dynamic=True)
    for rows, samples in ((2, 9), (3, 12), (5, 21)):
        x, g = random(rows, samples), random(4)
        assert close(compiled(x, g), f(x, g))
    assert counter.frame_count == 1


class Filter(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call, self.taps = bound(call), torch.nn.Parameter(random(4))

    def forward(self, x):
        return self.call(x, self.taps)


@few_calls
@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_a_batch_of_any_size(call, strict):
    module = Filter(call)
    sizes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(module, (random(2, 9),), dynamic_shapes=sizes, strict=strict)
    exported, x = program.module(), random(7, 9)
    y = exported(x)
    assert close(y, module(x))
    y.sum().backward()
    assert exported.taps.grad is not None


@every_call
def test_after_inference_and_after_tracing_one_can_train(call):
    f, pair = bound(call), (random(2, 11), random(4))
    with torch.inference_mode():
        f(*pair)
    with FakeTensorMode() as mode:
        f(*map(mode.from_tensor, pair))
    moving = leaves(*pair)
    f(*moving).sum().backward()
    assert all(leaf.grad is not None for leaf in moving)


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
