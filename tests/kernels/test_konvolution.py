"""What is particular to Konvolution's operators: their integration with torch, dtypes, the squash, numerical safety.

That they compute the right sums is tested with the other backends, in tests/engine/test_konvolution*.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from konvlib import runtime
from konvlib.geometry import konv_geometry
from konvlib.konvolution import operators, tensors
from konvlib.layers import autotune
from konvlib.layers.polynomials import BASES
from tests.engine import backends
from tests.engine.added_bases import add_for_this_test, laguerre
from tests.kernels.operators import (
    assert_keeps_no_device_memory,
    assert_keeps_no_tensor,
    integers,
    on_cuda,
    poisoned,
    random,
    running,
)

naive = backends.definition("konvolution")

OPTIONS = {"stride": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2)}
LAYERS = {
    "2 axes, 2 groups": ((2, 4, 5, 6), (6, 3, 2, 3, 2), {**OPTIONS, "groups": 2}),
    "1 axis": ((2, 2, 7), (3, 2, 2, 3), {"stride": 2, "padding": 1}),
    "more channels": ((1, 17, 4, 3), (16, 2, 17, 2, 2), {"padding": 1}),
}


def operands(layer, device, dtype=torch.float64):
    x_shape, kappa_shape, options = layer
    x, kappa, bias = (random(s, device, dtype=dtype, seed=len(s)) for s in (x_shape, kappa_shape, kappa_shape[:1]))
    return x, kappa, bias, {"axes": len(x_shape) - 2, **options}


def squashed_konv(x, kappa, bias, *, axes, basis, squash, **options):
    shapes = x.shape, kappa.shape, None if bias is None else bias.shape
    return tensors.squashed_konv(x, kappa, bias, konv_geometry(*shapes, axes=axes, **options), basis, squash)


def expand_then_convolve(
    x, kappa, bias, *, axes, basis, squash, stride=1, padding=0, dilation=1, groups=1, pad="basis"
):
    """The recipe that this replaces: write every degree, group by group, and convolve."""
    sides = [(padding,) * 2] * axes if isinstance(padding, int) else padding
    flat = [side for pair in sides[::-1] for side in pair]
    t = torch.tanh(x) if squash == "tanh" else x
    t = t if pad == "basis" else functional.pad(t, flat)
    degree = kappa.shape[1] - 1
    special = torch.special
    polynomial = {
        "monomial": lambda n: t**n,
        "chebyshev": lambda n: special.chebyshev_polynomial_t(t, n),
        "chebyshev2": lambda n: special.chebyshev_polynomial_u(t, n),
        "legendre": lambda n: special.legendre_polynomial_p(t, n),
        "hermite": lambda n: special.hermite_polynomial_he(t, n),
    }[basis]
    parts = [polynomial(n).unflatten(1, (groups, -1)) for n in range(degree + 1)]
    expanded = torch.stack(parts, 2).flatten(1, 3)
    expanded = functional.pad(expanded, flat) if pad == "basis" else expanded
    return getattr(functional, f"conv{axes}d")(expanded, kappa.flatten(1, 2), bias, stride, 0, dilation, groups)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("squash", ["none", "tanh"])
def test_it_is_the_expansion_convolved(implementation, layer, squash):
    """Rounding only: at most 200 products of doubles, polynomials below 30."""
    x, kappa, bias, options = operands(layer, implementation)
    pairs = (
        zip(BASES, ("basis", "input") * 3, strict=False) if runtime.INTERPRET else product(BASES, ("basis", "input"))
    )
    for basis, pad in pairs:
        given = {**options, "basis": basis, "pad": pad, "squash": squash}
        y = squashed_konv(x, kappa, bias, **given)
        assert torch.allclose(y, expand_then_convolve(x, kappa, bias, **given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("squash", ["none", "tanh"])
def test_gradients_are_autograds_of_the_expansion(implementation, squash):
    x, kappa, bias, options = operands(LAYERS["2 axes, 2 groups"], implementation)
    for basis, pad in zip(BASES, ("basis", "input") * 3, strict=False):
        given = {**options, "pad": pad, "squash": squash}
        given_tensors = [t.clone().requires_grad_() for t in (x, kappa, bias)]
        y = squashed_konv(*given_tensors, basis=basis, **given)
        dy = random(y.shape, implementation, seed=9)
        ours = torch.autograd.grad(y, given_tensors, dy)
        if basis in ("monomial", "chebyshev"):
            known = {"monomial": kappa, "chebyshev": tensors._changed(kappa, "chebyshev", "monomial")}[basis]
            x_grad = torch.autograd.grad(
                expand_then_convolve(given_tensors[0], known, bias, basis="monomial", **given), given_tensors[0], dy
            )[0]
            assert torch.allclose(ours[0], x_grad, rtol=1e-11, atol=1e-11)
        step = random(kappa.shape, implementation, seed=4)
        difference = squashed_konv(x, step, None, basis=basis, **given)
        assert torch.allclose((ours[1] * step).sum(), (dy * difference).sum(), rtol=1e-11)
        assert torch.allclose(ours[2], dy.sum((0, 2, 3)))


@pytest.mark.parametrize(("basis", "squash", "pad"), [("legendre", "tanh", "basis"), ("hermite", "none", "input")])
def test_gradients_of_both_orders(quick_implementation, basis, squash, pad):
    x, kappa, bias, options = operands(LAYERS["2 axes, 2 groups"], quick_implementation)
    given_tensors = [t.requires_grad_() for t in (x, kappa, bias)]

    def call(*given_tensors):
        return squashed_konv(*given_tensors, basis=basis, squash=squash, pad=pad, **options)

    assert torch.autograd.gradcheck(call, given_tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given_tensors, fast_mode=True)


def test_opcheck(quick_implementation):
    x, kappa, bias = (random(s, quick_implementation) for s in ((2, 4, 5, 6), (6, 2, 2, 3, 2), (6,)))
    rest = ("chebyshev", "tanh", True, [2, 1], [1, 0, 1, 2], [1, 1], 2)
    dy = operators.konv(x, kappa, bias, *rest)
    x, kappa, bias, dy = (t.detach().requires_grad_() for t in (x, kappa, bias, dy))
    torch.library.opcheck(torch.ops.konvlib.konv.default, (x, kappa, bias, *rest))
    torch.library.opcheck(torch.ops.konvlib.konv_input_grad.default, (dy, x, kappa, *rest))
    torch.library.opcheck(torch.ops.konvlib.konv_kappa_grad.default, (x, dy, 2, [3, 2], *rest))


def test_vmap(quick_implementation):
    x, kappa, bias = (random(s, quick_implementation) for s in ((3, 2, 4, 5), (3, 6, 2, 2, 3), (3, 6)))
    rest = ("monomial", "tanh", True, [1], [1, 1], [1], 2)

    def layer(x, kappa, bias):
        return operators.konv(x, kappa, bias, *rest)

    for dims in ((0, 0, 0), (0, None, None), (None, 0, None), (0, None, 0)):
        given = [t if dim == 0 else t[0] for t, dim in zip((x, kappa, bias), dims, strict=True)]
        y = torch.vmap(layer, in_dims=dims)(*given)
        for index in range(3):
            one = [t[index] if dim == 0 else t for t, dim in zip(given, dims, strict=True)]
            assert torch.allclose(y[index], layer(*one), rtol=1e-12)


def test_compiles_whole(quick_implementation):
    """With the same bits: coefficients and gradients of the output are integers, so that sums of degree 0 are exact."""
    x, _, _, options = operands(LAYERS["2 axes, 2 groups"], quick_implementation)
    kappa, bias = (integers(shape, quick_implementation) for shape in ((6, 3, 2, 3, 2), (6,)))
    given = (x, kappa, bias)

    def function(x, kappa, bias):
        return squashed_konv(x, kappa, bias, basis="chebyshev", squash="tanh", **options) * 2

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*given), function(*given))
    dy = integers(function(*given).shape, quick_implementation, seed=1)
    leaves = [tensor.requires_grad_() for tensor in given]
    ours, theirs = (torch.autograd.grad(f(*given), leaves, dy) for f in (compiled, function))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_autocast_and_flops(quick_implementation):
    x, kappa, _, _ = operands(LAYERS["1 axis"], quick_implementation, torch.float32)
    with torch.autocast(quick_implementation, dtype=torch.bfloat16):
        assert konvlib.konv1d(x, kappa).dtype == torch.bfloat16
    with FlopCounterMode(display=False) as counter:
        y = konvlib.konv1d(x, kappa)
    assert counter.get_total_flops() == 2 * y.numel() * 2 * 3


@pytest.mark.parametrize("dtype", runtime.REALS, ids=str)
def test_every_dtype_against_double(implementation, dtype):
    """Sums in float32 for halves, polynomials in float32: what is left is the rounding of operands and result."""
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    x, kappa, bias, options = operands(LAYERS["more channels"], implementation, dtype)
    exact = squashed_konv(x.double(), kappa.double(), bias.double(), basis="chebyshev", squash="tanh", **options)
    y = squashed_konv(x, kappa, bias, basis="chebyshev", squash="tanh", **options)
    assert y.dtype == dtype
    tf32 = dtype is torch.float32 and implementation == "cuda"
    assert (y.double() - exact).abs().max() < 20 * (2.0**-11 if tf32 else torch.finfo(dtype).eps) * exact.abs().max()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_gradients_are_finite_where_others_fail(implementation, value, dtype):
    """At the ends of the interval, far outside it, and for constant input: no arccos, no scaling by the batch."""
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    x = torch.full((2, 2, 6), value, dtype=dtype, device=implementation, requires_grad=True)
    kappa = random((3, 4, 2, 3), implementation, dtype=dtype).requires_grad_()
    y = squashed_konv(x, kappa, None, axes=1, basis="chebyshev", squash="tanh", padding=1)
    assert y.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.float().sum(), (x, kappa)))


@pytest.mark.parametrize("way", ["fused", "expanded"])
@pytest.mark.parametrize(("dtype", "ulps"), [(torch.float32, 8), (torch.float64, 8)])
def test_the_squash_is_exact_to_rounding(monkeypatch, dtype, ulps, way):
    """From the smallest samples to those that saturate, and its slope where that is one."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(autotune, "choose", lambda kind, layer, y, known, *_: known[way]())
    sizes = torch.cat(
        [torch.logspace(-36, 0, 400), torch.linspace(0.2, 0.75, 400), torch.tensor([1e-8, 0.625, 30, 1e30])]
    )
    x = torch.cat([sizes, -sizes]).to(dtype).reshape(1, 1, -1)
    expected, one = torch.tanh(x.double()), torch.ones(1, 1, 1, 1, dtype=dtype)
    rest = ("monomial", "tanh", True, [1], [0, 0], [1], 1)
    with running("kernel") as device:
        y = operators.konv(x.to(device), one.to(device), None, *rest).cpu()
        slope = operators.konv_input_grad(torch.ones_like(x).to(device), x.to(device), one.to(device), *rest).cpu()
        zeros = operators.konv(torch.zeros_like(x).to(device), one.to(device), None, *rest).cpu()
    assert ((y.double() - expected).abs() <= ulps * torch.finfo(dtype).eps * expected.abs()).all()
    assert (slope[x.abs() < 1e-9] == 1).all()
    assert ((slope.double() - (1 - expected**2)).abs() <= ulps * torch.finfo(dtype).eps).all()
    assert (zeros == 0).all()


def test_a_sample_does_not_depend_on_its_batch(implementation):
    x, kappa, bias, options = operands(LAYERS["2 axes, 2 groups"], implementation)
    given = {**options, "basis": "legendre", "squash": "tanh"}
    whole = squashed_konv(x, kappa, bias, **given)
    assert torch.equal(whole[:1], squashed_konv(x[:1], kappa, bias, **given))


def test_nan_and_infinity_pass_through(implementation):
    x = torch.zeros(1, 1, 9, dtype=torch.float64, device=implementation)
    x[0, 0, 4] = float("nan")
    kappa = torch.ones(1, 4, 1, 3, dtype=torch.float64, device=implementation)
    y = konvlib.konv1d(x, kappa, basis="legendre")
    assert y.isnan().flatten().tolist() == [False, False, True, True, True, False, False]


def test_high_degrees_take_the_long_way(implementation):
    x = random((1, 2, 6), implementation)
    kappa = random((2, 12, 2, 3), implementation)
    given = {"axes": 1, "basis": "chebyshev", "squash": "tanh"}
    y, expected = squashed_konv(x, kappa, None, **given), expand_then_convolve(x, kappa, None, **given)
    assert torch.allclose(y, expected, rtol=1e-10, atol=1e-10)


def gegenbauer(n):
    return Fraction(2 * n + 3, n + 1), 0, Fraction(n + 2, n + 1)


@pytest.mark.parametrize(("recurrence", "evaluated"), [(laguerre, "added"), (gegenbauer, "chebyshev")])
def test_an_added_basis_moves_to_chebyshevs_only_where_that_is_well_conditioned(
    implementation, monkeypatch, recurrence, evaluated
):
    add_for_this_test(monkeypatch, "added", recurrence)
    assert tensors._evaluated_basis("added", 4) == evaluated
    x, kappa = random((2, 2, 6), implementation), random((3, 5, 2, 2), implementation)
    dy = random((2, 3, 5), implementation)
    given = {"basis": "added", "stride": 1}
    arrays = [tensor.cpu().numpy() for tensor in (x, kappa, dy)]
    y = konvlib.konv1d(x, kappa, **given).cpu().numpy()
    dx = konvlib.konv1d_input_grad(dy, x, kappa, **given).cpu().numpy()
    dkappa = konvlib.konv1d_kappa_grad(x, dy, degree=4, kernel_size=2, **given).cpu().numpy()
    assert np.allclose(y, naive.konv1d(*arrays[:2], **given), rtol=1e-12)
    assert np.allclose(dx, naive.konv1d_input_grad(arrays[2], *arrays[:2], **given), rtol=1e-12)
    assert np.allclose(
        dkappa, naive.konv1d_kappa_grad(arrays[0], arrays[2], degree=4, kernel_size=2, **given), rtol=1e-12
    )


@pytest.mark.parametrize("recurrence", [laguerre, gegenbauer])
def test_an_added_basis_compiles_whole(quick_implementation, monkeypatch, recurrence):
    add_for_this_test(monkeypatch, "added", recurrence)
    x, kappa = random((2, 2, 6), quick_implementation), random((3, 5, 2, 2), quick_implementation)
    compiled = torch.compile(konvlib.konv1d, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, kappa, basis="added"), konvlib.konv1d(x, kappa, basis="added"), rtol=1e-12)


def test_every_element_is_written_and_no_tensor_kept(implementation):
    x, kappa, bias, options = operands(LAYERS["2 axes, 2 groups"], implementation)
    given_tensors = [t.requires_grad_() for t in (x, kappa, bias)]

    def once():
        y = squashed_konv(*given_tensors, basis="chebyshev", squash="tanh", **options)
        return torch.autograd.grad(y.sum(), given_tensors)

    with poisoned():
        assert all(grad.isfinite().all() for grad in once())
    assert_keeps_no_tensor(once)


def test_an_operator_called_directly_checks_what_it_is_given(implementation):
    x, kappa = torch.ones(1, 2, 5, device=implementation), torch.ones(3, 2, 2, 3, device=implementation)
    rest = (True, [1], [0, 0], [1], 1)
    with pytest.raises(ValueError, match="basis must be one of monomial, chebyshev, chebyshev2, legendre, hermite"):
        operators.konv(x, kappa, None, "fourier", "none", *rest)
    with pytest.raises(ValueError, match="squash must be one of none, tanh"):
        operators.konv(x, kappa, None, "monomial", "relu", *rest)
    with pytest.raises(ValueError, match="bias must have shape"):
        operators.konv(x, kappa, torch.ones(1, 3, 4, device=implementation), "monomial", "none", *rest)
    with pytest.raises(ValueError, match="dy must have"):
        operators.konv_input_grad(x, x, kappa, "monomial", "none", *rest)
    with pytest.raises(TypeError, match="one dtype"):
        operators.konv_kappa_grad(x, x.double(), 2, [3], "monomial", "none", *rest)


@on_cuda
@pytest.mark.gpu
def test_no_memory_is_kept_on_the_device():
    x = random((2, 16, 9, 9), "cuda", dtype=torch.float32, requires_grad=True)
    kappa = random((16, 4, 16, 3, 3), "cuda", dtype=torch.float32, requires_grad=True)
    assert_keeps_no_device_memory(lambda: torch.autograd.grad(konvlib.konv2d(x, kappa).sum(), (x, kappa)))


@on_cuda
@pytest.mark.gpu
def test_a_cuda_graph_replays_a_training_step():
    x = random((2, 16, 9, 9), "cuda", dtype=torch.float32, requires_grad=True)
    kappa = random((16, 4, 16, 3, 3), "cuda", dtype=torch.float32, requires_grad=True)

    def step():
        return torch.autograd.grad(konvlib.konv2d(x, kappa, padding=1).square().sum(), (x, kappa))

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        grads = step()
    with torch.no_grad():
        x.mul_(0.5)
    graph.replay()
    assert all(torch.equal(*pair) for pair in zip(grads, step(), strict=True))
