"""How functions meet torch: operators over kernels that are right under every transform.

An operator here is a kernel and the *composite* that it equals, a function made of ATen's operations. The kernel runs,
forward and backward, where no more than a last derivative follows, in eager mode and in compiled graphs. Where more may
follow (a derivative that is differentiated again, `torch.func`, forward mode) the composite runs, which torch can
differentiate, batch and trace as it does all its own operations. So no second derivative is written by hand.

The private names of torch that this takes stand in this module and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from konvlib import runtime
from konvlib.runtime import HALVES, runs_kernel

LIBRARY = torch.library.Library("konvlib", "FRAGMENT")
PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors whose lengths are numbers: neither fake nor of a subclass that may change what lengths mean."""

MOST_KEPT = 1024
"""How many values a function keeps; then all are forgotten, and made again as they come."""

T = TypeVar("T")
_HARMLESS = ("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "ADInplaceOrView", "BackendSelect")
_OTHER_KEYS = ~reduce(
    or_, [torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)).raw_repr() for key in _HARMLESS]
)
"""The dispatcher's keys that stand for something between a call and its kernel, other than autograd."""


def lowers(tensor: Tensor) -> bool:
    """Whether autocast is on and would change the dtype in which this tensor is computed with.

    Examples
    --------
    >>> with torch.autocast("cpu"):
    ...     lowers(torch.ones(2)), lowers(torch.ones(2).double())
    (True, False)
    """
    kind = tensor.device.type
    return tensor.dtype in (*HALVES, torch.float32) and kind in ("cuda", "cpu") and torch.is_autocast_enabled(kind)


def lowered(function: Callable[..., Any], kind: str, arguments: Sequence[Any]) -> Any:
    """Call a function with autocast off, on tensors of the dtype that autocast wants on this kind of device.

    As in PyTorch, float64 and complex tensors are left alone.

    Examples
    --------
    >>> with torch.autocast("cpu"):
    ...     lowered(torch.add, "cpu", (torch.ones(2), torch.ones(2)))
    tensor([2., 2.], dtype=torch.bfloat16)
    """
    dtype = torch.get_autocast_dtype(kind)
    cast = [a.to(dtype) if isinstance(a, Tensor) and lowers(a) else a for a in arguments]
    with torch.autocast(kind, enabled=False):
        return function(*cast)


def last_derivative() -> bool:
    """Whether plain eager autograd is all that may follow: no tracing, no `torch.func`, no forward mode.

    Examples
    --------
    >>> seen = []
    >>> _ = torch.func.grad(lambda x: seen.append(last_derivative()) or x)(torch.tensor(3.0))
    >>> last_derivative(), seen
    (True, [False])
    """
    return not (torch.compiler.is_compiling() or _transformed())


def _transformed() -> bool:
    """Whether `torch.func`, forward mode or `torch.jit.trace` is at work."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch.jit.is_tracing()
    )


def check_sizes_may_stay() -> None:
    """Check that torch does not trace by `torch.jit.trace`, where a computation takes lengths for numbers.

    Raises
    ------
    TypeError
        If it does: at other sizes than those of this call, what it traces would be wrong without a word.

    Examples
    --------
    >>> check_sizes_may_stay()
    """
    if not torch.compiler.is_compiling() and torch.jit.is_tracing():
        raise TypeError(
            "torch.jit.trace must not trace this call, since it would keep its sizes for all others; use torch.export"
        )


def is_plain(*tensors: Tensor) -> bool:
    """Whether tensors are ordinary ones, and nothing traces, batches or differentiates from outside.

    Then their values may be looked at, and a tensor made now is one that can be kept.

    Examples
    --------
    >>> is_plain(torch.ones(3)), is_plain(torch.ones(3, device="meta"))
    (True, False)
    """
    return (
        last_derivative()
        and not torch._C._len_torch_dispatch_stack()
        and all([type(tensor) in PLAIN and not tensor.is_meta for tensor in tensors])
    )


class Kept(Generic[T]):
    """A function that remembers what it made, but for what it made while a CUDA graph was captured.

    That lies in the graph's memory, and has values only once the graph ran. Up to `MOST_KEPT` values are kept.

    Examples
    --------
    >>> ones = Kept(torch.ones)
    >>> ones(2, 3) is ones(2, 3), ones.made
    (True, {(2, 3): tensor([[1., 1., 1.],
            [1., 1., 1.]])})
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self.make, self.made = make, dict[Any, T]()

    def __call__(self, *key: Any) -> T:
        if torch.compiler.is_compiling():
            return self.make(*key)
        if (value := self.made.get(key)) is None:
            value = self.make(*key)
            if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
                if len(self.made) >= MOST_KEPT:
                    self.made.clear()
                self.made[key] = value
        return value


def meets_kernel(tensors: Sequence[Tensor | None]) -> bool:
    """Whether torch's dispatcher would do nothing for plain tensors but call the kernel, and differentiate it at most.

    It would do more under autocast, in a mode, in a trace, under a transform, for a view that negates, or in a profile.

    Examples
    --------
    >>> x = torch.ones(3)
    >>> with torch.autocast("cpu"):
    ...     meets_kernel([x])
    False
    >>> meets_kernel([x, None]), meets_kernel([torch._neg_view(x)])
    (True, False)
    """
    if torch.compiler.is_compiling() or torch.autograd.forward_ad._current_level >= 0:
        return False
    keys = torch._C._dispatch_tls_local_include_set().raw_repr()
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in PLAIN:
            return False
        keys |= torch._C._dispatch_keys(tensor).raw_repr()
    if keys & _OTHER_KEYS & ~torch._C._dispatch_tls_local_exclude_set().raw_repr():
        return False
    return not torch.autograd._profiler_enabled()


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor is one that `torch.func` batches or differentiates.

    Examples
    --------
    >>> seen = []
    >>> _ = torch.func.grad(lambda x: seen.append(is_transformed(x)) or x)(torch.tensor(3.0))
    >>> is_transformed(torch.tensor(3.0)), seen
    (False, [True])
    """
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


class Operator:
    """An operator of torch over a kernel; calling it runs the kernel, or the composite where that is right.

    Parameters
    ----------
    schema : str
        As in `torch.library.define`, tensors first. The operator returns a tensor, or several of which the first is
        the result and the others are kept for the gradients.
    tensors : int
        How many arguments are tensors.
    check : function
        Takes the arguments of the schema and returns their geometry, or raises what the public functions raise. So
        what is called by its name is checked as well, before anything is computed, and where torch only traces.
    kernel, composite : function
        Take the tensors and the geometry. What the operator returns is made by ``kernel``; ``composite`` returns only
        the result, which may lie otherwise in memory.
    fake : function
        Takes the same and returns uninitialised results: their shapes, dtypes and layouts.
    gradients : function
        ``gradients(dy, needs, tensors, kept, rest, plan)`` returns a gradient, or None, for each tensor, by kernels;
        ``rest`` are the other arguments, ``plan`` is their geometry, or None where torch's dispatcher was asked.
    kept : function, optional
        Takes what ``composite`` takes and returns all results, where no kernel runs; by default only the composite's.
    autocast : bool
        Whether autocast lowers the operands, as it does for `torch.nn.functional.conv2d`.
    """

    def __init__(
        self,
        schema: str,
        *,
        tensors: int,
        check: Callable[..., Any],
        kernel: Callable[..., Any],
        composite: Callable[..., Tensor],
        fake: Callable[..., Any],
        gradients: Callable[..., Sequence[Tensor | None]],
        kept: Callable[..., Any] | None = None,
        autocast: bool = True,
    ) -> None:
        self.name = schema.partition("(")[0]
        self.tensors, self.check, self.gradients, self.autocast = tensors, check, gradients, autocast
        self._kernel, self._composite, self._kept, self._fake = kernel, composite, kept or composite, fake
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(self.name, self._computed, "CompositeExplicitAutograd")
        LIBRARY.impl(self.name, self._differentiable, "Autograd")
        torch.library.register_fake(f"konvlib::{self.name}", self._faked, lib=LIBRARY)
        torch.library.register_vmap(f"konvlib::{self.name}", self._batched, lib=LIBRARY)
        if autocast:
            for kind, key in (("cuda", "AutocastCUDA"), ("cpu", "AutocastCPU")):
                LIBRARY.impl(self.name, self._lowered(kind), key)
        self.packet = getattr(torch.ops.konvlib, self.name)
        self.raw = self.packet.default

    def __call__(self, *arguments: Any, plan: Any = None) -> Any:
        """Return the result; where kernels run on the first tensor's device, by the kernel if it can.

        ``plan``, if the caller knows it, is what ``check`` returns for the arguments, which then are not checked again.
        """
        first, tensors = arguments[0], arguments[: self.tensors]
        if not runs_kernel(first):
            return self.composite(*arguments, plan=plan)
        if meets_kernel(tensors):
            return self._result(self._eager(arguments, self.check(*arguments) if plan is None else plan))
        if not _transformed():
            if type(first) in runtime.SHARDED:
                runtime.check_shards(self.name, tensors)
                return self._result(self.raw(*arguments))
            if torch.compiler.is_compiling():
                return self._result(self.raw(*arguments))
            if self.autocast and lowers(first):
                return lowered(self, first.device.type, arguments)
            if all([t is None or type(t) in PLAIN for t in tensors]):
                return self._result(self._differentiable(*arguments))
        return self.composite(*arguments, plan=plan)

    def composite(self, *arguments: Any, plan: Any = None) -> Tensor:
        """Return the result by ATen's operations."""
        return self._composite(*arguments[: self.tensors], self.check(*arguments) if plan is None else plan)

    def below(self, *arguments: Any, plan: Any = None) -> Any:
        """Run the kernel, past the operator's own derivative, and past torch's dispatcher where nothing waits there.

        ``plan`` is as in a call.
        """
        tensors = arguments[: self.tensors]
        if runs_kernel(tensors[0]) and meets_kernel(tensors):
            return self._kernel(*tensors, self.check(*arguments) if plan is None else plan)
        with torch._C._AutoDispatchBelowAutograd():
            return self.raw(*arguments)

    def _eager(self, arguments: Sequence[Any], plan: Any) -> Any:
        """All results by the kernel, for tensors that `meets_kernel` is true of, with their derivative."""
        tensors = arguments[: self.tensors]
        if torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in tensors]):
            return _accelerated(self, plan, arguments[self.tensors :], tensors)
        return self._kernel(*tensors, plan)

    @staticmethod
    def _result(results: Any) -> Tensor:
        return results if isinstance(results, Tensor) else results[0]

    def _computed(self, *arguments: Any) -> Any:
        """Below autograd: the kernel, or where none runs, what the composite gives, in the promised layout."""
        given = *arguments[: self.tensors], self.check(*arguments)
        if runs_kernel(given[0]):
            return self._kernel(*given)
        values, promised = self._kept(*given), self._fake(*given)
        if isinstance(promised, Tensor):
            return promised.copy_(values)
        return tuple(place.copy_(value) for place, value in zip(promised, values, strict=True))

    def _faked(self, *arguments: Any) -> Any:
        return self._fake(*arguments[: self.tensors], self.check(*arguments))

    def _differentiable(self, *arguments: Any) -> Any:
        """All results with their derivative, which is right where it is differentiated again, too."""
        tensors, rest = arguments[: self.tensors], arguments[self.tensors :]
        if _transformed():
            return self._kept(*tensors, self.check(*arguments))
        if torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in tensors]):
            return _accelerated(self, None, rest, tensors)
        return self.below(*arguments)

    def _batched(self, info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        """`torch.vmap` over the operator itself, which only a call by its name meets: one slice after the other."""
        slices = [
            [a.select(dim, place) if isinstance(dim, int) else a for a, dim in zip(arguments, in_dims, strict=True)]
            for place in range(info.batch_size)
        ]
        results = [self.raw(*given) for given in slices]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])

    def _lowered(self, kind: str) -> Callable[..., Any]:
        return lambda *arguments: lowered(self.raw, kind, arguments)


def _accelerated(operator: Operator, plan: Any, rest: Sequence[Any], tensors: Sequence[Tensor | None]) -> Any:
    """The results of `_Accelerated`; a ``plan`` says that nothing waits between it and the kernel."""
    results = _Accelerated.apply(operator, plan, rest, *tensors)
    return results[0] if len(results) == 1 else results


class _Accelerated(torch.autograd.Function):
    """A kernel's results and their first derivative; a derivative that is differentiated again is the composite's."""

    @staticmethod
    def forward(
        ctx: Any, operator: Operator, plan: Any, rest: tuple[Any, ...], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        results = operator.below(*tensors, *rest) if plan is None else operator._kernel(*tensors, plan)
        results = (results,) if isinstance(results, Tensor) else tuple(results)
        ctx.operator, ctx.rest, ctx.plan, ctx.count = operator, rest, plan, len(tensors)
        if len(results) > 1:
            ctx.mark_non_differentiable(*results[1:])
        ctx.save_for_backward(*tensors, *results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        saved, needs = ctx.saved_tensors, ctx.needs_input_grad[3:]  # read once: checkpoints unpack it once
        tensors, kept = saved[: ctx.count], saved[ctx.count :]
        if torch.is_grad_enabled():
            grads = pullback(ctx.operator.composite, tensors, ctx.rest, needs, dy)
        else:
            grads = ctx.operator.gradients(dy, needs, tensors, kept, ctx.rest, ctx.plan)
        return None, None, None, *grads


def pullback(
    composite: Callable[..., Tensor],
    tensors: Sequence[Tensor | None],
    rest: Sequence[Any],
    needs: Sequence[bool],
    dy: Tensor,
) -> list[Tensor | None]:
    """Return the gradients of a composite by those tensors that need one, differentiable in turn.

    Examples
    --------
    >>> x, w = torch.tensor([3.0]), torch.tensor([5.0])
    >>> pullback(lambda x, w, n: x**n * w, [x, w], [2], [True, False], torch.ones(1))
    [tensor([30.]), None]
    """
    moving = [place for place, need in enumerate(needs) if need]

    def of_moving(*given: Tensor) -> Tensor:
        full = list(tensors)
        for place, tensor in zip(moving, given, strict=True):
            full[place] = tensor
        return composite(*full, *rest)

    _, pull = torch.func.vjp(of_moving, *(tensors[place] for place in moving))
    grads = dict(zip(moving, pull(dy), strict=True))
    return [grads.get(place) for place in range(len(tensors))]


def bias_grad(dy: Tensor) -> Tensor:
    """Return the gradient by a layer's bias: each output channel's sum.

    Examples
    --------
    >>> bias_grad(torch.ones(2, 3, 4))
    tensor([8., 8., 8.])
    """
    return dy.sum((0, *range(2, dy.dim())))
