"""What torch can do to a function of tensors, each as a check: derivatives, transforms, tracing, layouts.

A check takes a function and its operands, float64 tensors that need no gradient, and fails where the function under the
transform is not what it is without. Linear functions are cubed, so that derivatives of every order have something to
say. `CHECKS` are for every function; `ON_IMAGES` for those that take a batch ``(N, C, H, W)`` first.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

Function = Callable[..., Tensor]


def leaves(operands: Sequence[Tensor]) -> list[Tensor]:
    return [operand.clone().requires_grad_() for operand in operands]


def cubed(function: Function) -> Function:
    return lambda *operands: (function(*operands) ** 3).sum()


def close(a: Any, b: Any) -> bool:
    """Rounding only: a few operations on numbers of size one in double precision."""
    pairs = [(a, b)] if isinstance(a, Tensor) else list(zip(a, b, strict=True))
    return all(torch.allclose(x, y, rtol=1e-6, atol=1e-8) for x, y in pairs)


def gradients(function: Function, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
    given = leaves(operands)
    return torch.autograd.grad(cubed(function)(*given), given)


def first_derivatives(function, operands):
    assert torch.autograd.gradcheck(function, leaves(operands), check_forward_ad=True, check_batched_grad=True)


def second_derivatives(function, operands):
    assert torch.autograd.gradgradcheck(function, leaves(operands), check_fwd_over_rev=True)


def third_and_fourth_derivatives(function, operands):
    def slope(f):
        def of(*given):
            (first,) = torch.autograd.grad(f(*given), given[0], create_graph=True)
            return (first**2).sum()

        return of

    third = slope(slope(cubed(function)))
    assert torch.autograd.gradcheck(third, leaves(operands), fast_mode=True)
    assert torch.autograd.gradcheck(slope(third), leaves(operands), fast_mode=True, rtol=1e-2)


def func_grad(function, operands):
    found = grad(cubed(function), argnums=tuple(range(len(operands))))(*operands)
    assert close(found, gradients(function, operands))


def func_vjp(function, operands):
    y, pull = vjp(function, *operands)
    given = leaves(operands)
    assert close(pull(y), torch.autograd.grad(function(*given), given, y))


def func_jvp(function, operands):
    step, directions = 1e-6, [torch.cos(torch.arange(x.numel()).double()).reshape(x.shape) for x in operands]
    _, slope = jvp(function, tuple(operands), tuple(directions))
    after, before = (
        function(*(x + sign * step * v for x, v in zip(operands, directions, strict=True))) for sign in (1, -1)
    )
    assert torch.allclose(slope, (after - before) / (2 * step), rtol=1e-4, atol=1e-6)


def both_jacobians(function, operands):
    for place in range(len(operands)):
        assert close(jacrev(function, argnums=place)(*operands), jacfwd(function, argnums=place)(*operands))


def func_hessian(function, operands):
    loss, last = cubed(function), len(operands) - 1
    assert close(hessian(loss, argnums=last)(*operands), jacrev(jacrev(loss, argnums=last), argnums=last)(*operands))


def vmap_over_each_and_all(function, operands):
    batches = [torch.stack([x, 2 * x, -x]) for x in operands]
    one_by_one = [[batch[i] for batch in batches] for i in range(3)]
    assert close(vmap(function)(*batches), torch.stack([function(*row) for row in one_by_one]))
    for place in range(len(operands)):
        given = [batch if n == place else x for n, (batch, x) in enumerate(zip(batches, operands, strict=True))]
        rows = [[batches[n][i] if n == place else x for n, x in enumerate(operands)] for i in range(3)]
        in_dims = tuple(0 if n == place else None for n in range(len(operands)))
        assert close(vmap(function, in_dims)(*given), torch.stack([function(*row) for row in rows]))


def vmap_of_grad(function, operands):
    batch, last = torch.stack([operands[0], 2 * operands[0]]), len(operands) - 1
    slope = grad(cubed(function), argnums=last)
    found = vmap(slope, (0,) + (None,) * last)(batch, *operands[1:])
    assert close(found, torch.stack([slope(x, *operands[1:]) for x in batch]))


def dual_numbers(function, operands):
    x, *rest = operands
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)), *rest)).tangent
    assert tangent is not None
    assert close(tangent, jvp(lambda x: function(x, *rest), (x,), (torch.ones_like(x),))[1])


def autograd_functional(function, operands):
    given = tuple(operands)
    slopes = grad(cubed(function), argnums=tuple(range(len(given))))
    assert close(
        torch.autograd.functional.hvp(cubed(function), given, given)[1],
        jvp(lambda *x: slopes(*x), given, given)[1],
    )
    assert close(
        torch.autograd.functional.jacobian(function, given, vectorize=True)[0], jacrev(function, argnums=0)(*given)
    )


def checkpointed(function, operands):
    from torch.utils.checkpoint import checkpoint

    for reentrant in (False, True):
        given = leaves(operands)
        (checkpoint(function, *given, use_reentrant=reentrant) ** 3).sum().backward()
        assert close([x.grad for x in given], gradients(function, operands))


def autocast_to_bfloat16(function, operands):
    given = leaves([x.float() for x in operands])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = function(*given)
        y.float().sum().backward()
    assert torch.allclose(y.double(), function(*operands), rtol=5e-2, atol=0.3)
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in given)


def halves(function, operands):
    for dtype in (torch.float16, torch.bfloat16):
        given = [x.to(dtype) for x in operands]
        y, precision = function(*given), torch.finfo(dtype).eps
        assert y.dtype == dtype
        assert torch.allclose(y.double(), function(*(x.double() for x in given)), rtol=precision, atol=8 * precision)


def compiled(function, operands, backend="aot_eager"):
    torch._dynamo.reset()
    given = leaves(operands)
    y = torch.compile(function, fullgraph=True, backend=backend)(*given)
    assert close(torch.autograd.grad((y**3).sum(), given), gradients(function, operands))


def compiled_for_any_batch(function, operands):
    """One graph, of which the batch, the first axis of all operands that have it, is free."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, (x, *rest) = CompileCounter(), operands
    run = torch.compile(function, fullgraph=True, backend=counter, dynamic=True)
    for batch in (17, 19, 23):  # torch takes lengths that are equal in the first call to be equal in all
        inputs = torch.cat([x] * 12)[:batch]
        assert close(run(inputs, *rest), function(inputs, *rest))
    assert counter.frame_count == 1


def compiled_func_grad(function, operands):
    torch._dynamo.reset()
    slope = grad(cubed(function))
    assert close(torch.compile(slope, fullgraph=True, backend="aot_eager")(*operands), slope(*operands))


class Module(torch.nn.Module):
    """A function whose operands but the first are parameters."""

    def __init__(self, function: Function, *rest: Tensor):
        super().__init__()
        self.function = function
        self.rest = torch.nn.ParameterList([torch.nn.Parameter(x.clone()) for x in rest])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.rest)


def exported_with_a_free_batch(function, operands):
    module, x = Module(function, *operands[1:]), operands[0]
    batch = torch.export.Dim("batch", min=1, max=64)
    for strict in (False, True):
        program = torch.export.export(module, (x,), dynamic_shapes={"x": {0: batch}}, strict=strict)
        assert not any("konvlib" in str(node.target) for node in program.graph.nodes)  # any runtime of torch knows it
        saved = io.BytesIO()
        torch.export.save(program, saved)
        saved.seek(0)
        run, inputs = torch.export.load(saved).module(), torch.cat([x] * 3)[:5]
        assert close(run(inputs), module(inputs))
        if len(operands) > 1:
            run(inputs).sum().backward()
            assert all(parameter.grad is not None for parameter in run.parameters())


def made_fx(function, operands):
    from torch.fx.experimental.proxy_tensor import make_fx

    for mode in ("real", "symbolic"):
        assert close(make_fx(function, tracing_mode=mode)(*operands)(*operands), function(*operands))


def inference_then_training(function, operands):
    with torch.inference_mode():
        function(*(x.clone() for x in operands))
    gradients(function, operands)


def fake_tensors(function, operands):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        y = function(*(mode.from_tensor(x) for x in operands))
    assert y.shape == function(*operands).shape
    gradients(function, operands)


def channels_last(function, operands):
    x, *rest = operands
    y = function(x.to(memory_format=torch.channels_last), *rest)
    assert close(y, function(*operands))
    assert y.is_contiguous(memory_format=torch.channels_last)


CHECKS = [
    first_derivatives,
    second_derivatives,
    third_and_fourth_derivatives,
    func_grad,
    func_vjp,
    func_jvp,
    both_jacobians,
    func_hessian,
    vmap_over_each_and_all,
    vmap_of_grad,
    dual_numbers,
    autograd_functional,
    checkpointed,
    autocast_to_bfloat16,
    halves,
    compiled,
    compiled_func_grad,
    made_fx,
    inference_then_training,
    fake_tensors,
]
FREE_BATCH = [compiled_for_any_batch, exported_with_a_free_batch]
"""For functions whose first operand alone has the batch."""
SLOW = [third_and_fourth_derivatives, compiled, compiled_func_grad, made_fx, *FREE_BATCH]
QUICK = [check for check in CHECKS if check not in SLOW]

ON_IMAGES = [channels_last]
