"""Gradients and transposes on tensors under every transform that torch has: derivatives, batching, tracing, export.

Operands are small and random, in doubles. Each function has unequal padding, and strides, dilations and output paddings
that differ from axis to axis where it takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import konvlib
from konvlib import runtime

LAYER = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2}
CIRCULAR = {"padding": ((1, 0), (0, 2)), "padding_mode": "circular"}
TRANSPOSE = LAYER | {"output_padding": (1, 1)}
POOL = {"kernel_size": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 1)), "ceil_mode": True}

DILATED = {"dilation": (3, 1), "divisor_override": 3}


class Case(NamedTuple):
    """A function, the shapes of its operands and its other arguments."""

    function: Callable[..., torch.Tensor]
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]


CASES = {
    "input_grad1": Case(
        konvlib.conv1d_input_grad,
        ((2, 2, 3), (2, 1, 2)),
        {"input_size": 6, "stride": 2, "padding": [(1, 0)]} | {"groups": 2},
    ),
    "input_grad2": Case(konvlib.conv2d_input_grad, ((2, 2, 2, 3), (2, 1, 2, 2)), LAYER | {"input_size": (3, 3)}),
    "input_grad2 circular": Case(
        konvlib.conv2d_input_grad, ((2, 2, 3, 4), (2, 1, 2, 2)), CIRCULAR | {"input_size": (3, 3)}
    ),
    "input_grad3": Case(
        konvlib.conv3d_input_grad, ((1, 2, 2, 2, 1), (2, 1, 2, 1, 2)), {"input_size": (3, 3, 2), "stride": (1, 2, 1)}
    ),
    "weight_grad1": Case(konvlib.conv1d_weight_grad, ((2, 2, 6), (2, 2, 3)), {"kernel_size": 2, "stride": 2}),
    "weight_grad2": Case(konvlib.conv2d_weight_grad, ((2, 2, 3, 3), (2, 2, 2, 3)), LAYER | {"kernel_size": 2}),
    "weight_grad2 circular": Case(
        konvlib.conv2d_weight_grad, ((2, 1, 3, 3), (2, 2, 3, 4)), CIRCULAR | {"kernel_size": 2}
    ),
    "input_grad2 wider than the image": Case(
        konvlib.conv2d_input_grad,
        ((2, 2, 6, 3), (2, 1, 2, 2)),
        {"padding": ((5, 4), (0, 1)), "padding_mode": "reflect", "input_size": (3, 3), "stride": (2, 1)},
    ),
    "weight_grad1 same": Case(
        konvlib.conv1d_weight_grad,
        ((2, 2, 5), (2, 2, 3)),
        {"kernel_size": 4, "stride": 2, "padding": "same_lower", "dilation": 2},
    ),
    "weight_grad3": Case(
        konvlib.conv3d_weight_grad, ((1, 1, 3, 3, 2), (1, 2, 2, 2, 1)), {"kernel_size": (2, 1, 2), "stride": (1, 2, 1)}
    ),
    "bias_grad2": Case(konvlib.conv2d_bias_grad, ((2, 2, 2, 3),), {}),
    "max_pool_grad1": Case(
        konvlib.max_pool1d_grad, ((2, 2, 5), (2, 2, 3)), {"kernel_size": 2, "stride": 2, "padding": [(1, 0)]}
    ),
    "max_pool_grad2": Case(konvlib.max_pool2d_grad, ((2, 2, 4, 3), (2, 2, 2, 3)), POOL),
    "max_pool_grad3": Case(konvlib.max_pool3d_grad, ((1, 2, 2, 3, 4), (1, 2, 1, 3, 2)), {"kernel_size": (2, 1, 2)}),
    "avg_pool_grad1": Case(
        konvlib.avg_pool1d_grad, ((2, 2, 3),), {"kernel_size": 2, "input_size": 5, "stride": 2, "padding": [(1, 0)]}
    ),
    "avg_pool_grad2": Case(
        konvlib.avg_pool2d_grad, ((2, 2, 2, 3),), POOL | {"input_size": (4, 3), "count_include_pad": False}
    ),
    "avg_pool_grad2 even": Case(
        konvlib.avg_pool2d_grad, ((2, 2, 3, 2),), {"kernel_size": 3, "input_size": (5, 4), "padding": 1, "stride": 2}
    ),
    "avg_pool_grad3": Case(
        konvlib.avg_pool3d_grad, ((1, 2, 1, 3, 2),), {"kernel_size": (2, 1, 2), "input_size": (2, 3, 4)}
    ),
    "avg_pool_grad2 dilated": Case(
        konvlib.avg_pool2d_grad, ((2, 2, 2, 3),), {"kernel_size": 2, "input_size": (6, 4), "stride": (2, 1)} | DILATED
    ),
    "avg_pool_grad1 large": Case(
        konvlib.avg_pool1d_grad, ((2, 2, 2),), {"kernel_size": 200, "input_size": 7, "stride": 3, "padding": 99}
    ),
    "max_pool_grad1 large": Case(
        konvlib.max_pool1d_grad, ((2, 2, 7), (2, 2, 2)), {"kernel_size": 200, "stride": 3, "padding": 99}
    ),
    "transpose1": Case(
        konvlib.conv_transpose1d, ((2, 2, 3), (2, 1, 2), (2,)), {"stride": 2, "padding": [(1, 0)], "groups": 2}
    ),
    "transpose2": Case(konvlib.conv_transpose2d, ((2, 2, 2, 3), (2, 1, 2, 2), (2,)), TRANSPOSE),
    "transpose2 even": Case(konvlib.conv_transpose2d, ((2, 2, 2, 3), (2, 1, 3, 2), (1,)), {"stride": 2, "padding": 1}),
    "transpose2 same": Case(
        konvlib.conv_transpose2d,
        ((2, 2, 2, 3), (2, 1, 3, 2), (1,)),
        {"stride": (2, 3), "padding": "same_upper", "output_size": (3, 9)},
    ),
    "transpose3": Case(
        konvlib.conv_transpose3d, ((1, 2, 2, 1, 2), (2, 1, 1, 2, 2), (1,)), {"stride": (1, 2, 1), "padding": 0}
    ),
    "scattering": Case(konvlib.conv_transpose_by_scattering, ((2, 2, 2, 3), (2, 1, 2, 2), (2,)), TRANSPOSE),
    "zero_insertion": Case(konvlib.conv_transpose_by_zero_insertion, ((2, 2, 2, 3), (2, 1, 2, 2), (2,)), TRANSPOSE),
    "insert_zeros": Case(konvlib.insert_zeros, ((2, 2, 2, 3),), {"stride": (2, 3)}),
}


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    monkeypatch.setattr(runtime, "INTERPRET", False)
    torch.manual_seed(0)
    function, shapes, options = CASES[request.param]
    operands = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return request.param, lambda *tensors: function(*tensors, **options), operands


def leaves(operands):
    return [operand.clone().requires_grad_() for operand in operands]


def cubed(function):
    return lambda *operands: (function(*operands) ** 3).sum()


def grads(function, operands):
    given = leaves(operands)
    return torch.autograd.grad(cubed(function)(*given), given, allow_unused=True, materialize_grads=True)


def close(a, b):
    return all(torch.allclose(left, right, atol=1e-9) for left, right in zip(a, b, strict=True))


def places(operands):
    return tuple(range(len(operands)))


def test_first_derivatives(case):
    _, function, operands = case
    options = {
        "check_forward_ad": True,
        "check_batched_grad": True,
        "check_batched_forward_grad": True,
        "fast_mode": True,
    }
    assert torch.autograd.gradcheck(function, leaves(operands), **options)


def test_second_derivatives(case):
    _, function, operands = case
    assert torch.autograd.gradgradcheck(cubed(function), leaves(operands), check_fwd_over_rev=True, fast_mode=True)


def test_third_derivatives(case):
    _, function, operands = case

    def second(*given):
        first = torch.autograd.grad(cubed(function)(*given), given, create_graph=True, materialize_grads=True)
        total = sum((each**2).sum() for each in first)
        return torch.autograd.grad(total, given, create_graph=True, materialize_grads=True)

    assert torch.autograd.gradcheck(second, leaves(operands), fast_mode=True)


def test_torch_func(case):
    _, function, operands = case
    loss, every = cubed(function), places(operands)
    expected = grads(function, operands)
    assert close(grad(loss, argnums=every)(*operands), expected)
    y, pull = vjp(function, *operands)
    assert close(pull(3 * y**2), expected)
    assert close(jacrev(function, every)(*operands), jacfwd(function, every)(*operands))
    steps = [torch.randn_like(operand) for operand in operands]
    slope = jvp(loss, tuple(operands), tuple(steps))[1]
    assert torch.allclose(slope, sum((g * v).sum() for g, v in zip(expected, steps, strict=True)))
    last = every[-1]
    assert torch.allclose(hessian(loss, last)(*operands), jacrev(jacrev(loss, last), last)(*operands))
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*each) for each in zip(operands, steps, strict=True)]
        tangent = forward_ad.unpack_dual(function(*duals)).tangent
    assert torch.allclose(tangent, jvp(function, tuple(operands), tuple(steps))[1])


def test_vmap(case):
    _, function, operands = case
    for mapped in [set(places(operands)), *({place} for place in places(operands))]:
        dims = tuple(0 if place in mapped else None for place in places(operands))
        given = [torch.stack([t, 2 * t]) if dim == 0 else t for t, dim in zip(operands, dims, strict=True)]
        each = [[t[row] if dim == 0 else t for t, dim in zip(given, dims, strict=True)] for row in (0, 1)]
        assert torch.allclose(vmap(function, dims)(*given), torch.stack([function(*row) for row in each]))
        gradient = grad(cubed(function), argnums=places(operands))
        both = zip(*(gradient(*row) for row in each), strict=True)
        assert close(vmap(gradient, dims)(*given), [torch.stack(pair) for pair in both])


def test_checkpoints(case):
    _, function, operands = case
    again = grads(lambda *given: checkpoint(function, *given, use_reentrant=False), operands)
    assert close(again, grads(function, operands))


def test_compiled_whole(case):
    _, function, operands = case
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert close(grads(compiled, operands), grads(function, operands))


def test_exported_with_any_batch(case):
    name, function, operands = case
    if operands[0].shape[0] == 1:
        operands = [torch.cat([t, t]) if t.shape[0] == 1 and t.dim() == operands[0].dim() else t for t in operands]

    class Module(torch.nn.Module):
        def forward(self, *given):
            return function(*given)

    one = name.startswith(("input_grad", "transpose", "scattering", "zero"))
    batched = operands[:1] if one else operands
    dims = tuple({0: torch.export.Dim("batch", min=2, max=64)} if place < len(batched) else None
                 for place in places(operands))  # fmt: skip
    program = torch.export.export(Module(), tuple(operands), dynamic_shapes=(dims,))
    assert not any("konvlib" in str(node.target) for node in program.graph.nodes)  # any runtime of torch knows it
    more = [torch.cat([t, -t, t])[:5] if place < len(batched) else t for place, t in enumerate(operands)]
    assert torch.allclose(program.module()(*more), function(*more))


def test_traced_and_fake(case):
    _, function, operands = case
    traced = make_fx(function, tracing_mode="symbolic")(*operands)
    assert torch.allclose(traced(*operands), function(*operands))
    with torch._subclasses.FakeTensorMode() as mode:
        fake = function(*map(mode.from_tensor, operands))
    assert fake.shape == function(*operands).shape
    with torch.inference_mode():
        function(*operands)
    grads(function, operands)


def test_halves_and_autocast(case):
    _, function, operands = case
    halves = [operand.half() for operand in operands]
    y = function(*halves)
    assert y.dtype == torch.float16
    assert torch.allclose(y.double(), function(*[half.double() for half in halves]), rtol=2e-3, atol=2e-3)
    given = [operand.float().requires_grad_() for operand in operands]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = function(*given)
        (y.float() ** 2).sum().backward()
    assert torch.allclose(y.double(), function(*operands), rtol=5e-2, atol=0.2)
    assert all(t.grad is None or t.grad.dtype == torch.float32 for t in given)


def test_channels_last_stays(case):
    name, function, operands = case
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if operands[0].dim() not in formats or name == "bias_grad2":
        return
    memory = formats[operands[0].dim()]
    y = function(*(t.to(memory_format=memory) if t.dim() in formats else t for t in operands))
    assert torch.allclose(y, function(*operands))
    assert y.is_contiguous(memory_format=memory)


def test_a_batch_of_none(case):
    name, function, operands = case
    layers = ("input_grad", "transpose", "scattering", "zero", "insert", "bias", "avg")
    empty = operands[0][:0], *(operands[1:] if name.startswith(layers) else [t[:0] for t in operands[1:]])
    y = function(*empty)
    if name.startswith(("weight", "bias")):
        assert (y == 0).all()
    else:
        assert y.shape == (0, *function(*operands).shape[1:])
