"""Konvolution as torch operators over Triton kernels: the layer and its two gradients.

.. math:: y[b, o, i] = \\text{bias}[o, i] + \\sum_{c, u} \\sum_{\\delta = 1}^{d} \\kappa[o, \\delta, c, u]\\;
    p_\\delta(\\sigma(x[b, c, s\\,i + d\\,u - p]))

The degree 0 is not here: its polynomial is one, so what it adds is a bias, or a map of biases where padding contributes
nothing, and no product. ``padding`` is flat, as in ``konvlib.layers.operators``. With ``masked`` padding contributes
nothing, else the polynomial of zero. The operators check what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry
from konvlib.geometry import ConvGeometry, KonvGeometry
from konvlib.konvolution import aten, plans, ways
from konvlib.konvolution.bases import get_basis
from konvlib.layers import memory
from konvlib.layers.polynomials import BASES, SQUASHES, Expansion
from konvlib.registration import Operator, bias_grad, check_tensors, pullback

FUSED_DEGREES = 8
"""Up to which degree polynomials are evaluated in a kernel's registers; beyond, degree by degree in memory."""

Ints = Sequence[int]


def _checked(
    x_shape: Ints,
    kappa_shape: Ints,
    basis: str,
    squash: str,
    masked: bool,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[ConvGeometry, Expansion]:
    get_basis(basis)
    geometry.one_of(squash, "squash", SQUASHES)
    sides = tuple(zip(padding[::2], padding[1::2], strict=True))
    options = {"stride": tuple(stride), "padding": sides, "dilation": tuple(dilation), "groups": groups}
    w_shape = (kappa_shape[0], *kappa_shape[2:])
    layer = geometry.conv_geometry(x_shape, w_shape, axes=len(stride), **options)
    return layer, Expansion(kappa_shape[1], basis, squash, masked)


def _checked_konv(x, kappa, bias, *rest) -> tuple[ConvGeometry, Expansion]:
    check_tensors({"x": x, "kappa": kappa, "bias": bias})
    layer, expansion = _checked(x.shape, kappa.shape, *rest)
    if bias is not None and tuple(bias.shape) not in ((layer.out_channels,), (1, *layer.output_shape[1:])):
        geometry.check_bias(bias.shape, layer.out_channels)
    return layer, expansion


def _checked_input_grad(dy, x, kappa, *rest) -> tuple[ConvGeometry, Expansion]:
    check_tensors({"dy": dy, "x": x, "kappa": kappa})
    layer, expansion = _checked(x.shape, kappa.shape, *rest)
    geometry.check_output_grad(dy.shape, layer.output_shape)
    return layer, expansion


def _checked_kappa_grad(x, dy, degrees, kernel_size, *rest) -> tuple[ConvGeometry, Expansion]:
    check_tensors({"x": x, "dy": dy})
    kappa_shape = (dy.shape[1], degrees, x.shape[1] // rest[-1], *kernel_size)
    layer, expansion = _checked(x.shape, kappa_shape, *rest)
    geometry.check_output_grad(dy.shape, layer.output_shape)
    return layer, expansion


def _planned(x: Tensor, layer: ConvGeometry, expansion: Expansion) -> tuple[plans.Plan, plans.Constants]:
    pad = "basis" if expansion.masked else "input"
    plan = plans.plan_of(KonvGeometry(layer, expansion.degrees, pad), expansion.basis, expansion.squash)
    return plan, plans.constants_of(plan, x)


def _is_fused(expansion: Expansion) -> bool:
    return expansion.degrees <= FUSED_DEGREES and expansion.basis in BASES


def _composite_konv(x, kappa, bias, *rest) -> Tensor:
    layer, expansion = _checked_konv(x, kappa, bias, *rest)
    return aten.without_degree_0(x, kappa, bias, *_planned(x, layer, expansion))


def _composite_input_grad(dy, x, kappa, *rest) -> Tensor:
    layer, expansion = _checked_input_grad(dy, x, kappa, *rest)
    return aten.konv_input_grad(dy, x, kappa, *_planned(x, layer, expansion))


def _composite_kappa_grad(x, dy, degrees, kernel_size, *rest) -> Tensor:
    layer, expansion = _checked_kappa_grad(x, dy, degrees, kernel_size, *rest)
    return aten.konv_kappa_grad(x, dy, *_planned(x, layer, expansion))


def _run_konv(x, kappa, bias, *rest) -> Tensor:
    layer, expansion = _checked_konv(x, kappa, bias, *rest)
    if _is_fused(expansion):
        return ways.konv(x, kappa, bias, layer, expansion)
    return _fake_konv(x, kappa, bias, *rest).copy_(_composite_konv(x, kappa, bias, *rest))


def _run_input_grad(dy, x, kappa, *rest) -> Tensor:
    layer, expansion = _checked_input_grad(dy, x, kappa, *rest)
    if _is_fused(expansion):
        return ways.konv_input_grad(dy, x, kappa, layer, expansion)
    return _fake_input_grad(dy, x, kappa).copy_(_composite_input_grad(dy, x, kappa, *rest))


def _run_kappa_grad(x, dy, degrees, kernel_size, *rest) -> Tensor:
    layer, expansion = _checked_kappa_grad(x, dy, degrees, kernel_size, *rest)
    if _is_fused(expansion):
        return ways.konv_kappa_grad(x, dy, layer, expansion)
    given = x, dy, degrees, kernel_size, *rest
    return _fake_kappa_grad(*given).copy_(_composite_kappa_grad(*given))


def _fake_konv(x, kappa, bias, basis, squash, masked, stride, padding, dilation, groups) -> Tensor:
    each = zip(x.shape[2:], kappa.shape[3:], stride, padding[::2], padding[1::2], dilation, strict=True)
    size = [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, before, after, d in each]
    return memory.empty(x, (x.shape[0], kappa.shape[0], *size))


def _fake_input_grad(dy, x, kappa, *rest) -> Tensor:
    return memory.empty(x, x.shape)


def _fake_kappa_grad(x, dy, degrees, kernel_size, basis, squash, masked, stride, padding, dilation, groups) -> Tensor:
    return x.new_empty((dy.shape[1], degrees, x.shape[1] // groups, *kernel_size))


def _konv_gradients(dy, needs, tensors, kept, rest):
    x, kappa, bias = tensors
    dx = konv_input_grad.below(dy, x, kappa, *rest) if needs[0] else None
    dkappa = konv_kappa_grad.below(x, dy, kappa.shape[1], kappa.shape[3:], *rest) if needs[1] else None
    if not needs[2]:
        return dx, dkappa, None
    return dx, dkappa, bias_grad(dy) if bias.dim() == 1 else dy.sum(0, keepdim=True)


def _input_grad_gradients(g, needs, tensors, kept, rest):
    """The input gradient is linear in ``dy`` and ``kappa`` only: its derivatives are the composite's."""
    return pullback(_composite_input_grad, tensors, rest, needs, g)


def _kappa_grad_gradients(g, needs, tensors, kept, rest):
    """Of ``sum(g * dkappa)``, which is ``sum(dy * konv(x, g))``: the layer's own gradients, with ``g`` for kappa."""
    x, dy = tensors
    _, _, *options = rest
    dx = konv_input_grad.below(dy, x, g, *options) if needs[0] else None
    return dx, konv.below(x, g, None, *options) if needs[1] else None


_LAYER = (
    "str basis, str squash, bool masked, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor"
)

konv = Operator(
    f"konv(Tensor x, Tensor kappa, Tensor? bias, {_LAYER}",
    tensors=3,
    kernel=_run_konv,
    composite=_composite_konv,
    fake=_fake_konv,
    gradients=_konv_gradients,
)
"""The layer, in the layout of ``x``; ``kappa`` is ``(C_out, degrees, C // groups, *kernel)``, from degree 1. ``bias``
is ``(C_out,)``, or a map ``(1, C_out, *output_size)``."""

konv_input_grad = Operator(
    f"konv_input_grad(Tensor dy, Tensor x, Tensor kappa, {_LAYER}",
    tensors=3,
    kernel=_run_input_grad,
    composite=_composite_input_grad,
    fake=_fake_input_grad,
    gradients=_input_grad_gradients,
)
"""The layer's gradient by ``x``, in its layout: each degree's transposed sum times the slope at ``x``."""

konv_kappa_grad = Operator(
    f"konv_kappa_grad(Tensor x, Tensor dy, SymInt degrees, SymInt[] kernel_size, {_LAYER}",
    tensors=2,
    kernel=_run_kappa_grad,
    composite=_composite_kappa_grad,
    fake=_fake_kappa_grad,
    gradients=_kappa_grad_gradients,
)
"""The layer's gradient by ``kappa``, for the degrees from 1 on: a weight gradient for each."""


@register_flop_formula(konv.packet)
def _konv_flops(x_shape, kappa_shape, *_, out_shape=None, **__) -> int:
    """Two per product of the sum over degrees, taps and channels; the polynomials are not counted."""
    return 2 * math.prod(kappa_shape[1:]) * math.prod(out_shape)


@register_flop_formula(konv_input_grad.packet)
def _konv_input_grad_flops(dy_shape, x_shape, kappa_shape, *_, **__) -> int:
    return 2 * math.prod(kappa_shape[1:]) * math.prod(dy_shape)


@register_flop_formula(konv_kappa_grad.packet)
def _konv_kappa_grad_flops(x_shape, dy_shape, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(out_shape[1:]) * math.prod(dy_shape)
