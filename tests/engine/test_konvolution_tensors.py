"""Konvolution on CPU tensors under torch's transforms: derivatives of every order, batches, traces, modules."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.export import Dim, export
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import konvlib
from konvlib import registration, runtime
from konvlib.konvolution import layer as layers
from konvlib.konvolution import operators, plans
from tests.engine.real_numbers import random

LAYER = konvlib.Konv2d(4, 2, (2, 3), stride=2, padding=1, groups=2, affine=True, dtype=torch.float64)
NAMES = ("kappa", "bias", "scale", "shift")


def layer(x, *parameters):
    return functional_call(LAYER, dict(zip(NAMES, parameters, strict=True)), x)


GIVEN = {"stride": 2, "padding": 1, "groups": 2}
MIRRORED = {"basis": "legendre", "padding": 1, "padding_mode": "reflect"}
CASES = {
    "konv2d": (partial(konvlib.konv2d, **GIVEN), [(2, 4, 4, 3), (2, 4, 2, 2, 3), (2,)]),
    "konv1d": (partial(konvlib.konv1d, **MIRRORED), [(2, 2, 4), (1, 5, 2, 2), (1,)]),
    "konv3d": (partial(konvlib.konv3d, basis="hermite", padding=((1, 0), 0, 1), pad="input"),
               [(1, 1, 2, 2, 3), (2, 4, 1, 2, 1, 2), (2,)]),
    "konv2d_input_grad": (partial(konvlib.konv2d_input_grad, **GIVEN), [(2, 2, 3, 2), (2, 4, 4, 3), (2, 4, 2, 2, 3)]),
    "konv1d_input_grad": (partial(konvlib.konv1d_input_grad, **MIRRORED), [(2, 1, 5), (2, 2, 4), (1, 5, 2, 2)]),
    "konv2d_kappa_grad": (partial(konvlib.konv2d_kappa_grad, degree=3, kernel_size=(2, 3), **GIVEN),
                          [(2, 4, 4, 3), (2, 2, 3, 2)]),
    "konv2d_bias_grad": (konvlib.konv2d_bias_grad, [(2, 2, 3, 2)]),
    "Konv2d": (layer, [(2, 4, 4, 3), (2, 4, 2, 2, 3), (2,), (4,), (4,)]),
}  # fmt: skip
LINEAR = ("konv2d_bias_grad",)


@pytest.fixture(autouse=True)
def by_aten(monkeypatch):
    monkeypatch.setattr(runtime, "INTERPRET", False)


@pytest.fixture(params=CASES)
def case(request):
    """A function and its operands, small numbers."""
    function, shapes = CASES[request.param]
    return function, tuple(0.5 * random(shape, seed=seed) for seed, shape in enumerate(shapes))


def leaves(operands):
    return tuple(operand.detach().clone().requires_grad_() for operand in operands)


def loss_of(function):
    return lambda *operands: function(*operands).pow(3).sum()


def close(ours, theirs):
    return all(torch.allclose(*pair, rtol=1e-6, atol=1e-9) for pair in zip(ours, theirs, strict=True))


def all_of(operands):
    return tuple(range(len(operands)))


# Derivatives


def test_first_derivatives_reverse_forward_and_batched(case):
    function, operands = case
    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function, leaves(operands), **checks)


def test_second_derivatives(case):
    function, operands = case
    options = {"check_fwd_over_rev": True, "check_batched_grad": True}
    assert torch.autograd.gradgradcheck(function, leaves(operands), fast_mode=False, **options)


def test_third_and_fourth_derivatives(case):
    """Of the loss along a line: by autograd, again and again, and by forward mode, by other formulas."""
    function, operands = case
    line = tuple(random(operand.shape, seed=9 + number) for number, operand in enumerate(operands))

    def at(t):
        return loss_of(function)(*(operand + t * step for operand, step in zip(operands, line, strict=True)))

    t = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    derivative, forward = at(t), at
    for order in range(1, 5):
        (derivative,) = torch.autograd.grad(derivative, t, create_graph=True)
        forward = jacfwd(forward)
        if order > 2:
            assert torch.allclose(derivative, forward(t.detach()), rtol=1e-8)
    second = hessian(at)
    step = 1e-4
    difference = (second(t.detach() + step) - second(t.detach() - step)) / (2 * step)
    assert torch.allclose(jacfwd(second)(t.detach()), difference, rtol=1e-5, atol=1e-5)


def recipe(layer, x):
    """A Konv1d of degree 3 without padding, in torch's own words."""
    t = torch.tanh(x)
    powers = torch.cat([torch.ones_like(t), t, 2 * t * t - 1, 4 * t**3 - 3 * t], 1)
    return torch.conv1d(powers, layer.kappa.flatten(1, 2), layer.bias)


def residual(function, x):
    """How far a function is from solving u'' + u = x^2, as physics-informed networks are taught."""
    u = function(x)
    (u_x,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return (u_xx + u - x**2).square().mean()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_physics_informed_loss_has_the_recipes_gradients(recompute):
    """Third derivatives of two layers, by all parameters and by the samples."""
    torch.manual_seed(0)
    layers = [konvlib.Konv1d(*c, 1, recompute=recompute, dtype=torch.float64) for c in ((1, 5), (5, 1))]
    x = torch.linspace(-1, 1, 17, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    leaves = [x, *layers[0].parameters(), *layers[1].parameters()]
    ours = torch.autograd.grad(residual(nn.Sequential(*layers), x), leaves)
    theirs = torch.autograd.grad(residual(lambda x: recipe(layers[1], recipe(layers[0], x)), x), leaves)
    assert all(g.abs().max() > 0 for g in theirs[:2])
    assert all(torch.allclose(*pair, rtol=1e-10, atol=1e-12) for pair in zip(ours, theirs, strict=True))


def test_func_grad_vjp_jvp_and_jacobians(case):
    function, operands = case
    loss, ours = loss_of(function), leaves(operands)
    assert close(grad(loss, argnums=all_of(operands))(*operands), torch.autograd.grad(loss(*ours), ours))
    y, pull = vjp(function, *operands)
    assert close(pull(y), torch.autograd.grad(function(*ours), ours, y))
    steps = tuple(random(operand.shape, seed=20) for operand in operands)
    tangent = jvp(function, operands, steps)[1]
    moved = [function(*(o + e * s for o, s in zip(operands, steps, strict=True))) for e in (1e-6, -1e-6)]
    assert torch.allclose(tangent, (moved[0] - moved[1]) / 2e-6, rtol=1e-5, atol=1e-6)
    assert close(jacrev(function, all_of(operands))(*operands), jacfwd(function, all_of(operands))(*operands))
    last = len(operands) - 1
    assert close([hessian(loss, last)(*operands)], [jacrev(jacrev(loss, last), last)(*operands)])
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(operands, steps, strict=True)]
        assert torch.allclose(forward_ad.unpack_dual(function(*duals)).tangent, tangent)


def test_autograd_functional_and_checkpoint(case):
    function, operands = case
    loss, ours, others = loss_of(function), leaves(operands), leaves(operands)
    product = jvp(grad(loss, argnums=all_of(operands)), operands, operands)[1]
    assert close(torch.autograd.functional.hvp(loss, operands, operands, strict=False)[1], product)
    rows = torch.autograd.functional.jacobian(function, operands, vectorize=True)
    assert close(rows, jacrev(function, all_of(operands))(*operands))
    kept = torch.autograd.grad(loss(*ours), ours)
    again = torch.autograd.grad(checkpoint(loss, *others, use_reentrant=False), others)
    assert close(kept, again)


def test_vmap_over_each_operand_over_all_and_over_gradients(case):
    function, operands = case
    batches = [torch.stack([operand, 2 * operand, -operand]) for operand in operands]
    for number in [None, *all_of(operands)]:
        dims = tuple(0 if number in (None, place) else None for place in all_of(operands))
        given = [b if dim == 0 else o for b, o, dim in zip(batches, operands, dims, strict=True)]

        def one(row, dims=dims, given=given):
            return [g[row] if dim == 0 else g for g, dim in zip(given, dims, strict=True)]

        assert close(vmap(function, dims)(*given), [function(*one(row)) for row in range(3)])
        gradient = grad(loss_of(function), argnums=len(operands) - 1)
        assert close(vmap(gradient, dims)(*given), [gradient(*one(row)) for row in range(3)])


# Traces


def test_compiled_whole_and_compiled_gradients(case):
    function, operands = case
    ours, others = leaves(operands), leaves(operands)
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    theirs = torch.autograd.grad(compiled(*others).pow(3).sum(), others)
    assert close(torch.autograd.grad(loss_of(function)(*ours), ours), theirs)
    gradient = grad(loss_of(function), argnums=all_of(operands))
    assert close(torch.compile(gradient, fullgraph=True, backend="aot_eager")(*operands), gradient(*operands))


def test_traces_and_fake_tensors_leave_nothing_behind(case):
    function, operands = case
    plans._kept.made.clear()
    with FakeTensorMode() as mode:
        fake = function(*map(mode.from_tensor, operands))
    for tracing in ("symbolic", "real"):
        graph = make_fx(function, tracing_mode=tracing)(*operands)
        assert torch.allclose(graph(*operands), function(*operands))
    with torch.inference_mode():
        y = function(*operands)
    assert fake.shape == y.shape
    ours = leaves(operands)
    assert all(g.isfinite().all() for g in torch.autograd.grad(function(*ours).sum(), ours))


def test_one_graph_serves_batches_of_any_size():
    """Also where coefficients are operands, whose degree is a number all the same."""
    torch._dynamo.reset()
    function = partial(konvlib.konv2d, padding=1)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (3, 5):
        x, kappa = random((size, 2, size, 7)), random((size, 3, 2, 2, 3))
        assert torch.allclose(compiled(x, kappa), function(x, kappa))
    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(LAYER, fullgraph=True, backend=counter, dynamic=True)
    for batch, size in ((2, 5), (3, 7), (6, 9)):
        x = random((batch, 4, size, size + 1))
        assert torch.allclose(compiled(x), LAYER(x))
    assert counter.frame_count == 1
    with pytest.raises(Exception, match=r"ValueError"):
        compiled(random((2, 3, 5, 6)))


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_layer_is_loaded_elsewhere(tmp_path, strict):
    x = random((3, 4, 5, 6))
    program = export(LAYER, (x,), dynamic_shapes=({0: Dim("batch", min=2, max=64)},), strict=strict)
    torch.export.save(program, tmp_path / "layer.pt2")
    x = random((5, 4, 5, 6), seed=3)
    torch.save((x, LAYER(x).detach()), tmp_path / "pair.pt")
    code = """
import sys, torch
x, y = torch.load(sys.argv[1] + "/pair.pt")
assert torch.allclose(torch.export.load(sys.argv[1] + "/layer.pt2").module()(x), y)
assert "konvlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


# Modules and dtypes


@pytest.mark.parametrize(("groups", "padding_mode"), [(1, "zeros"), (2, "zeros"), (1, "circular"), (4, "reflect")])
def test_channels_last_is_kept_to_the_end(groups, padding_mode):
    options = {"padding": ((1, 0), (1, 1)), "groups": groups, "padding_mode": padding_mode}
    model = nn.Sequential(konvlib.Konv2d(4, 8, 3, **options), konvlib.Konv2d(8, 4, 2, degree=2, groups=groups))
    x = random((2, 4, 6, 5), dtype=torch.float32)
    expected = model(x)
    model, last = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    y = model(last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, expected, rtol=1e-4, atol=1e-5)
    kappa = random((4, 3, 4 // groups, 2, 2), dtype=torch.float32)
    dy = random((2, 4, 5, 4), dtype=torch.float32).to(memory_format=torch.channels_last)
    dx = konvlib.konv2d_input_grad(dy, last, kappa, groups=groups)
    assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_summed_in_singles(dtype):
    """And mixed with singles under autocast, as layers after others are."""
    x = torch.ones(1, 4096, 1, dtype=dtype)
    kappa = torch.zeros(1, 2, 4096, 1, dtype=dtype)
    kappa[:, 1], kappa[:, 1, 0] = 1, 2048
    assert konvlib.konv1d(x, kappa) == torch.tensor(2048.0 + 4095).to(dtype)
    model = nn.Sequential(konvlib.Konv2d(2, 3, 3, padding=1), konvlib.Konv2d(3, 2, 2, basis="legendre"))
    z = random((2, 2, 5, 6), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(z)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert (y.float() - model(z)).abs().max() < 0.05 * model(z).abs().max()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def saved_bytes(module):
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = random((8, 8, 24, 24), dtype=torch.float32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    y.sum().backward()
    return sum(storages.values()), x.grad


class Recipe(nn.Module):
    """Write the polynomials, convolve: eight of its tensors are as large as the input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x):
        t = torch.tanh(x)
        p = [torch.ones_like(t), t]
        for _ in range(2):
            p.append(2 * t * p[-1] - p[-2])
        return self.conv(torch.cat(p, 1))


def test_what_is_kept_for_the_gradients():
    """Two thirds of what the recipe keeps; with ``recompute`` a quarter; and the gradients are the same."""
    whole, _ = saved_bytes(Recipe())
    kept = konvlib.Konv2d(8, 8, 3, padding=1)
    again = konvlib.Konv2d(8, 8, 3, padding=1, recompute=True)
    again.load_state_dict(kept.state_dict())
    (ours, dx), (least, same) = saved_bytes(kept), saved_bytes(again)
    assert ours < 0.67 * whole
    assert least < 0.25 * whole
    assert torch.equal(dx, same)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(kept.parameters(), again.parameters(), strict=True))


def test_recomputing_goes_with_every_transform():
    layer, x = konvlib.Konv2d(2, 3, 2, recompute=True, dtype=torch.float64), random((2, 2, 4, 5))
    parameters = dict(layer.named_parameters())

    def call(x, *values):
        return functional_call(layer, dict(zip(parameters, values, strict=True)), x)

    operands = leaves((x, *parameters.values()))
    assert torch.autograd.gradcheck(call, operands, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, operands, fast_mode=True)
    assert torch.allclose(
        vmap(grad(lambda z: layer(z).square().sum()))(x), jacrev(lambda z: layer(z).square().sum())(x)
    )
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(torch.autograd.grad(compiled(x).sum(), layer.kappa)[0],
                          torch.autograd.grad(layer(x).sum(), layer.kappa)[0])  # fmt: skip
    assert torch.allclose(export(layer, (x,)).module()(x), layer(x))
    assert "recompute=True" in repr(layer)


def test_one_sample_under_vmap_and_layers_of_degree_zero():
    layer, x = konvlib.Konv2d(2, 3, 2, padding=1, dtype=torch.float64), random((3, 2, 4, 5))
    assert torch.allclose(vmap(layer)(x), layer(x))
    for pad in ("basis", "input"):
        kappa = random((3, 1, 2, 2, 2), requires_grad=True)
        call = partial(konvlib.konv2d, padding=1, pad=pad)
        assert torch.autograd.gradcheck(call, (x.requires_grad_(), kappa), fast_mode=True, check_forward_ad=True)


STORES = plans._kept, operators._kept, layers._planned


def compute_with_constants(size=4):
    """By all that keep some."""
    x, kappa = random((1, 4, size, 3)), random((2, 4, 2, 2, 3))
    konvlib.konv2d(x, kappa, **GIVEN)
    LAYER(x)
    masked = konvlib.geometry.conv_geometry(x.shape, (2, 4, 2, 3), axes=2, padding=1)
    operators._kept(operators.Fused(masked, operators.Expansion(2, "legendre", "tanh", True)), x.dtype, x.device)


def test_constants_that_are_made_while_a_graph_is_captured_are_not_kept(monkeypatch):
    """They have values only once the graph ran; those that are kept already serve the graph, too."""
    captures = [True]
    for store in STORES:
        monkeypatch.setattr(store, "made", {})
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captures[0])
    compute_with_constants()
    assert [len(store.made) for store in STORES] == [0, 0, 0]
    captures[0] = False
    compute_with_constants()
    assert all(store.made for store in STORES)
    captures[0] = True
    for store in STORES:
        monkeypatch.setattr(store, "make", lambda *_: pytest.fail("made anew"))
    compute_with_constants()


def test_no_more_constants_are_kept_than_a_number(monkeypatch):
    monkeypatch.setattr(registration, "MOST_KEPT", 3)
    for store in STORES:
        monkeypatch.setattr(store, "made", {})
    for size in range(4, 12):
        compute_with_constants(size)
        assert all(1 <= len(store.made) <= 3 for store in STORES)


def test_constants_hold_no_operand():
    x = random((1, 1, 4))
    plan = plans.plan_of(konvlib.geometry.konv_geometry(x.shape, (1, 3, 1, 2), axes=1, padding=1), "chebyshev")
    for tensor in torch.utils._pytree.tree_leaves(tuple(plans.constants_of(plan, x))):
        assert tensor.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        assert not tensor.is_inference()
