"""Konvolution as torch operators over Triton kernels: the layer and its two gradients.

.. math:: y[b, o, i] = \\text{bias}[o, i] + \\sum_{c, u} \\sum_{\\delta = 1}^{d} \\kappa[o, \\delta, c, u]\\;
    p_\\delta(\\psi(x[b, c, s\\,i + d\\,u - p]))

Degree 0 is not here, but for `whole_konv`: its polynomial is one, so what it adds is a bias, or a map of biases where
padding contributes nothing, and no product. ``padding`` is flat, as in ``konvlib.layers.operators``. With ``masked``
padding contributes nothing, else the polynomial of zero. The operators check what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry
from konvlib.checks import planned_tensors
from konvlib.geometry import ConvGeometry, KonvGeometry
from konvlib.konvolution import aten, plans, ways
from konvlib.konvolution.bases import get_basis
from konvlib.konvolution.frozen import Keep, anew
from konvlib.layers import memory
from konvlib.layers import operators as layers
from konvlib.layers.polynomials import BASES, SQUASHES, Expansion
from konvlib.registration import Kept, Operator, bias_grad, is_plain, pullback
from konvlib.runtime import REALS

FUSED_DEGREES = 8
"""Up to which degree polynomials are evaluated in a kernel's registers; beyond, degree by degree in memory."""

Ints = Sequence[int]


class Fused(NamedTuple):
    """What the operators compute: the layer that visits the same samples, and what it makes of them."""

    layer: ConvGeometry
    expansion: Expansion


class Whole(NamedTuple):
    """As `Fused`, for `whole_konv`, with what may have that which is made of the parameters alone."""

    layer: ConvGeometry
    expansion: Expansion
    keep: Keep


def keeping(fused: Fused, keep: Keep) -> Fused | Whole:
    """The plan of `whole_konv` with what may have that which is made of the parameters alone.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> fused = Fused(conv_geometry((1, 1, 3), (1, 1, 2), axes=1), Expansion(2, "monomial"))
    >>> keeping(fused, anew) is fused
    True
    """
    return fused if keep is anew else Whole(*fused, keep)


def _konv_geometry(
    x_shape: Ints, kappa_shape: Ints, bias_shape: Ints | None, *, basis: str, squash: str, masked: bool, **options: Any
) -> Fused:
    layer = geometry.konv_geometry(x_shape, kappa_shape, **options).layer  # which takes degrees from any on
    if bias_shape is not None and tuple(bias_shape) != (1, *layer.output_shape[1:]):
        geometry.check_bias(bias_shape, layer.out_channels)
    return Fused(layer, _expansion(kappa_shape[1], basis, squash, masked))


def _whole_geometry(
    x_shape: Ints, kappa_shape: Ints, bias_shape: Ints | None, *, basis: str, squash: str, masked: bool, **options: Any
) -> Fused:
    layer = geometry.konv_geometry(x_shape, kappa_shape, bias_shape, **options).layer
    return Fused(layer, _expansion(kappa_shape[1] - 1, basis, squash, masked))


def _input_grad_geometry(dy_shape: Ints, x_shape: Ints, kappa_shape: Ints, **options: Any) -> Fused:
    fused = _konv_geometry(x_shape, kappa_shape, None, **options)
    geometry.check_output_grad(dy_shape, fused.layer.output_shape)
    return fused


def _kappa_grad_geometry(
    x_shape: Ints, dy_shape: Ints, *, degrees: int, basis: str, squash: str, masked: bool, **options: Any
) -> Fused:
    expansion = _expansion(degrees, basis, squash, masked)
    return Fused(geometry.weight_grad_geometry(x_shape, dy_shape, **options), expansion)


def _expansion(degrees: int, basis: str, squash: str, masked: bool) -> Expansion:
    get_basis(basis)
    return Expansion(
        geometry.integer(degrees, "degrees", least=1), basis, geometry.one_of(squash, "squash", SQUASHES), masked
    )


def _arguments(basis: str, squash: str, masked: bool, *rest: Any) -> dict[str, Any]:
    return {"basis": basis, "squash": squash, "masked": masked, **layers.arguments(*rest)}


def _check_konv(x: Tensor, kappa: Tensor, bias: Tensor | None, *rest: Any) -> Fused:
    return planned_tensors(REALS, _konv_geometry, {"x": x, "kappa": kappa, "bias": bias}, _arguments(*rest))


def _check_whole(x: Tensor, kappa: Tensor, bias: Tensor | None, *rest: Any) -> Fused:
    return planned_tensors(REALS, _whole_geometry, {"x": x, "kappa": kappa, "bias": bias}, _arguments(*rest))


def _check_input_grad(dy: Tensor, x: Tensor, kappa: Tensor, *rest: Any) -> Fused:
    return planned_tensors(REALS, _input_grad_geometry, {"dy": dy, "x": x, "kappa": kappa}, _arguments(*rest))


def _check_kappa_grad(x: Tensor, dy: Tensor, degrees: int, kernel_size: Ints, *rest: Any) -> Fused:
    given = {"degrees": degrees, "kernel_size": tuple(kernel_size), **_arguments(*rest)}
    return planned_tensors(REALS, _kappa_grad_geometry, {"x": x, "dy": dy}, given)


def _planned(x: Tensor, fused: Fused | Whole) -> tuple[plans.Plan, plans.Constants]:
    layer, expansion = fused[:2]
    pad = "basis" if expansion.masked else "input"
    plan = plans.plan_of(KonvGeometry(layer, expansion.degrees, pad), expansion.basis, expansion.squash)
    return plan, plans.constants_of(plan, x)


def _is_fused(expansion: Expansion) -> bool:
    return expansion.degrees <= FUSED_DEGREES and expansion.basis in BASES


def _composite_konv(x: Tensor, kappa: Tensor, bias: Tensor | None, fused: Fused) -> Tensor:
    return aten.without_degree_0(x, kappa, bias, *_planned(x, fused))


def _composite_whole(x: Tensor, kappa: Tensor, bias: Tensor | None, fused: Fused) -> Tensor:
    return aten.konv(x, kappa, bias, *_planned(x, fused))


def _composite_input_grad(dy: Tensor, x: Tensor, kappa: Tensor, fused: Fused) -> Tensor:
    return aten.konv_input_grad(dy, x, kappa, *_planned(x, fused))


def _composite_kappa_grad(x: Tensor, dy: Tensor, fused: Fused) -> Tensor:
    return aten.konv_kappa_grad(x, dy, *_planned(x, fused))


def _run(way: Callable[..., Tensor], composite: Callable[..., Tensor], fake: Callable[..., Tensor]):
    """The kernels' way where they know basis and degree, else the composite, in the promised layout."""

    def run(*given: Any) -> Tensor:
        *tensors, fused = given
        return way(*tensors, *fused) if _is_fused(fused.expansion) else fake(*given).copy_(composite(*given))

    return run


def added(kappa: Tensor, bias: Tensor | None, constants: plans.Constants, dtype: torch.dtype) -> Tensor:
    """Return what degree 0 and the bias add, as the bias of `konv`: one number per channel, or a map.

    Examples
    --------
    >>> import torch
    >>> x, kappa = torch.ones(1, 1, 3), torch.tensor([[[[2.0, 3.0]], [[5.0, 7.0]]]])
    >>> plan = plans.plan_of(geometry.konv_geometry(x.shape, kappa.shape, axes=1, padding=1), "monomial")
    >>> added(kappa, torch.ones(1), plans.constants_of(plan, x), x.dtype)
    tensor([[[4., 6., 6., 3.]]])
    """
    if constants.sees is None or len(constants.sees) > 1:
        total = aten.degree_0(kappa[:, :1], bias, constants).to(dtype)
        return total if total.dim() == 1 else total.unsqueeze(0)
    (table,) = constants.sees
    total = kappa.select(1, 0).sum(1, dtype=table.dtype).flatten(1)
    if bias is None:
        y = torch.mm(total, table.flatten(1))
    else:
        y = torch.addmm(bias.to(table.dtype).unsqueeze(1), total, table.flatten(1))
    return y.view(1, -1, *table.shape[1:]).to(dtype)


def _way_whole(
    x: Tensor, kappa: Tensor, bias: Tensor | None, layer: ConvGeometry, expansion: Expansion, keep: Keep = anew
) -> Tensor:
    def degree_0() -> Tensor:
        return added(kappa, bias, _constants(x, Fused(layer, expansion)), x.dtype)

    return ways.whole_konv(x, kappa, bias, degree_0, layer, expansion, keep)


def _constants(x: Tensor, fused: Fused) -> plans.Constants:
    return _kept(fused, x.dtype, x.device) if is_plain(x) else _planned(x, fused)[1]


@Kept
def _kept(fused: Fused, dtype: torch.dtype, device: torch.device) -> plans.Constants:
    """The constants of a plan, found by one key."""
    return _planned(torch.empty((), dtype=dtype, device=device).expand(fused.layer.input_shape), fused)[1]


def _fake_konv(x: Tensor, kappa: Tensor, bias: Tensor | None, fused: Fused) -> Tensor:
    return memory.empty(x, fused.layer.output_shape)


def _fake_input_grad(dy: Tensor, x: Tensor, kappa: Tensor, fused: Fused) -> Tensor:
    return memory.empty(x, x.shape)


def _fake_kappa_grad(x: Tensor, dy: Tensor, fused: Fused) -> Tensor:
    out_channels, *rest = fused.layer.weight_shape
    return x.new_empty((out_channels, fused.expansion.degrees, *rest))


def _konv_gradients(dy, needs, tensors, kept, rest, plan):
    x, kappa, bias = tensors
    dx = konv_input_grad.below(dy, x, kappa, *rest, plan=plan) if needs[0] else None
    dkappa = konv_kappa_grad.below(x, dy, kappa.shape[1], kappa.shape[3:], *rest, plan=plan) if needs[1] else None
    if not needs[2]:
        return dx, dkappa, None
    return dx, dkappa, bias_grad(dy) if bias.dim() == 1 else dy.sum(0, keepdim=True)


def _whole_gradients(dy, needs, tensors, kept, rest, plan):
    x, kappa, _ = tensors
    plan = plan and Fused(plan.layer, plan.expansion)
    fused = plan or _check_whole(*tensors, *rest)
    dx, dkappa, degrees = None, None, fused.expansion.degrees
    if needs[0]:
        dx = konv_input_grad.below(dy, x, kappa.narrow(1, 1, degrees), *rest, plan=plan)
    if needs[1]:
        constant = aten.degree_0_grad(dy, fused.layer, _constants(x, fused)).unsqueeze(1)
        others = konv_kappa_grad.below(x, dy, degrees, kappa.shape[3:], *rest, plan=plan)
        dkappa = torch.cat((constant, others), 1)
    return dx, dkappa, bias_grad(dy) if needs[2] else None


def _input_grad_gradients(g, needs, tensors, kept, rest, plan):
    """The input gradient is linear in ``dy`` and ``kappa`` only: its derivatives are the composite's."""
    return pullback(konv_input_grad.composite, tensors, rest, needs, g)


def _kappa_grad_gradients(g, needs, tensors, kept, rest, plan):
    """Of ``sum(g * dkappa)``, which is ``sum(dy * konv(x, g))``: the layer's own gradients, with ``g`` for kappa."""
    x, dy = tensors
    _, _, *options = rest
    dx = konv_input_grad.below(dy, x, g, *options, plan=plan) if needs[0] else None
    return dx, konv.below(x, g, None, *options, plan=plan) if needs[1] else None


_LAYER = (
    "str basis, str squash, bool masked, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor"
)

konv = Operator(
    f"konv(Tensor x, Tensor kappa, Tensor? bias, {_LAYER}",
    tensors=3,
    check=_check_konv,
    kernel=_run(ways.konv, _composite_konv, _fake_konv),
    composite=_composite_konv,
    fake=_fake_konv,
    gradients=_konv_gradients,
)
"""The layer, in the layout of ``x``; ``kappa`` is ``(C_out, degrees, C // groups, *kernel)``, from degree 1. ``bias``
is ``(C_out,)``, or a map ``(1, C_out, *output_size)``."""

whole_konv = Operator(
    f"whole_konv(Tensor x, Tensor kappa, Tensor? bias, {_LAYER}",
    tensors=3,
    check=_check_whole,
    kernel=_run(_way_whole, _composite_whole, _fake_konv),
    composite=_composite_whole,
    fake=_fake_konv,
    gradients=_whole_gradients,
)
"""The layer as `konv`, with coefficients from degree 0 on, and a bias ``(C_out,)``: for kernels that need no map."""

konv_input_grad = Operator(
    f"konv_input_grad(Tensor dy, Tensor x, Tensor kappa, {_LAYER}",
    tensors=3,
    check=_check_input_grad,
    kernel=_run(ways.konv_input_grad, _composite_input_grad, _fake_input_grad),
    composite=_composite_input_grad,
    fake=_fake_input_grad,
    gradients=_input_grad_gradients,
)
"""The layer's gradient by ``x``, in its layout: each degree's transposed sum times the slope at ``x``."""

konv_kappa_grad = Operator(
    f"konv_kappa_grad(Tensor x, Tensor dy, SymInt degrees, SymInt[] kernel_size, {_LAYER}",
    tensors=2,
    check=_check_kappa_grad,
    kernel=_run(ways.konv_kappa_grad, _composite_kappa_grad, _fake_kappa_grad),
    composite=_composite_kappa_grad,
    fake=_fake_kappa_grad,
    gradients=_kappa_grad_gradients,
)
"""The layer's gradient by ``kappa``, for the degrees from 1 on: a weight gradient for each."""


@register_flop_formula(konv.packet)
def _konv_flops(x_shape, kappa_shape, *_, out_shape=None, **__) -> int:
    """Two per product of the sum over degrees, taps and channels; the polynomials are not counted."""
    return 2 * math.prod(kappa_shape[1:]) * math.prod(out_shape)


@register_flop_formula(whole_konv.packet)
def _whole_konv_flops(x_shape, kappa_shape, *_, out_shape=None, **__) -> int:
    return 2 * (kappa_shape[1] - 1) * math.prod(kappa_shape[2:]) * math.prod(out_shape)


@register_flop_formula(konv_input_grad.packet)
def _konv_input_grad_flops(dy_shape, x_shape, kappa_shape, *_, **__) -> int:
    return 2 * math.prod(kappa_shape[1:]) * math.prod(dy_shape)


@register_flop_formula(konv_kappa_grad.packet)
def _konv_kappa_grad_flops(x_shape, dy_shape, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(out_shape[1:]) * math.prod(dy_shape)
