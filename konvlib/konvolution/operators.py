"""Konvolution as torch operators: the layer and its two gradients, without the expanded input ever being written.

.. math:: y[b, o, i] = \\text{bias}[o, i] + \\sum_{c, u} \\sum_{\\delta = 1}^{d} \\kappa[o, \\delta, c, u]\\;
    p_\\delta(\\sigma(x[b, c, s\\,i + d\\,u - p]))

The degree 0 is not here: its polynomial is one, so what it adds is a bias, or a map of biases where padding contributes
nothing, and no product. ``padding`` is flat, as in ``konvlib.layers.operators``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import register_flop_formula

from konvlib import geometry, tiles
from konvlib.geometry import ConvGeometry
from konvlib.konvolution import expanding, ways
from konvlib.konvolution.recurrences import get_basis
from konvlib.layers import memory as layout
from konvlib.layers import operators as layers
from konvlib.layers.polynomials import BASES, SQUASHES, Expansion


@torch.library.custom_op("konvlib::konv", mutates_args=())
def konv(
    x: torch.Tensor,
    kappa: torch.Tensor,
    bias: torch.Tensor | None,
    basis: str,
    squash: str,
    masked: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return the layer, in the layout of ``x``; ``kappa`` is ``(C_out, degrees, C // groups, *kernel)``, from degree 1.

    With ``masked`` padding contributes nothing, else the polynomial of zero. ``bias`` is ``(C_out,)`` or a map
    ``(1, C_out, *output_size)``.

    Examples
    --------
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> konv(x, kappa, None, "monomial", "none", True, [1], [0, 0], [1], 1)
    tensor([[[14., 12.]]])
    """
    tiles.check_tensors(x=x, kappa=kappa, bias=bias)
    layer, expansion = _checked(x.shape, kappa.shape, basis, squash, masked, stride, padding, dilation, groups)
    if bias is not None and tuple(bias.shape) not in ((layer.out_channels,), (1, *layer.output_shape[1:])):
        geometry.check_bias(bias.shape, layer.out_channels)
    if _is_fused(x, expansion):
        return ways.konv(x, kappa, bias, layer, expansion)
    return expanding.konv(x, kappa, bias, layer, expansion)


@torch.library.custom_op("konvlib::konv_input_grad", mutates_args=())
def konv_input_grad(
    dy: torch.Tensor,
    x: torch.Tensor,
    kappa: torch.Tensor,
    basis: str,
    squash: str,
    masked: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return the layer's gradient by ``x``, in its layout: each degree's transposed sum times the slope at ``x``.

    Examples
    --------
    >>> dy, x, kappa = torch.tensor([[[1.0, 5]]]), torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> konv_input_grad(dy, x, kappa, "monomial", "none", True, [1], [0, 0], [1], 1)
    tensor([[[ 2., 17., 25.]]])
    """
    tiles.check_tensors(dy=dy, x=x, kappa=kappa)
    layer, expansion = _checked(x.shape, kappa.shape, basis, squash, masked, stride, padding, dilation, groups)
    geometry.check_output_grad(dy.shape, layer.output_shape)
    if _is_fused(x, expansion):
        return ways.konv_input_grad(dy, x, kappa, layer, expansion)
    return expanding.konv_input_grad(dy, x, kappa, layer, expansion)


@torch.library.custom_op("konvlib::konv_kappa_grad", mutates_args=())
def konv_kappa_grad(
    x: torch.Tensor,
    dy: torch.Tensor,
    degrees: int,
    kernel_size: Sequence[int],
    basis: str,
    squash: str,
    masked: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Return the layer's gradient by ``kappa``, for the degrees from 1 on: a weight gradient for each.

    Examples
    --------
    >>> x, dy = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1.0, 5]]])
    >>> konv_kappa_grad(x, dy, 2, [2], "monomial", "none", True, [1], [0, 0], [1], 1)
    tensor([[[[16., 13.]],
    <BLANKLINE>
             [[46., 29.]]]])
    """
    tiles.check_tensors(x=x, dy=dy)
    kappa_shape = (dy.shape[1], degrees, x.shape[1] // groups, *kernel_size)
    layer, expansion = _checked(x.shape, kappa_shape, basis, squash, masked, stride, padding, dilation, groups)
    geometry.check_output_grad(dy.shape, layer.output_shape)
    if _is_fused(x, expansion):
        return ways.konv_kappa_grad(x, dy, layer, expansion)
    return expanding.konv_kappa_grad(x, dy, layer, expansion)


FUSED_DEGREES = 8
"""Up to which degree polynomials are evaluated in a kernel's registers; beyond, degree by degree in memory."""


def _is_fused(x: torch.Tensor, expansion: Expansion) -> bool:
    return tiles.runs_kernel(x) and expansion.degrees <= FUSED_DEGREES and expansion.basis in BASES


def _checked(
    x_shape, kappa_shape, basis, squash, masked, stride, padding, dilation, groups
) -> tuple[ConvGeometry, Expansion]:
    get_basis(basis)
    geometry.one_of(squash, "squash", SQUASHES)
    sides = tuple(zip(padding[::2], padding[1::2], strict=True))
    w_shape = (kappa_shape[0], *kappa_shape[2:])
    options = {"stride": tuple(stride), "padding": sides, "dilation": tuple(dilation), "groups": groups}
    layer = geometry.conv_geometry(x_shape, w_shape, axes=len(stride), **options)
    return layer, Expansion(kappa_shape[1], basis, squash, masked)


@konv.register_fake
def _(x, kappa, bias, basis, squash, masked, stride, padding, dilation, groups):
    each = zip(x.shape[2:], kappa.shape[3:], stride, padding[::2], padding[1::2], dilation, strict=True)
    size = [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, before, after, d in each]
    return layout.empty(x, (x.shape[0], kappa.shape[0], *size))


@konv_input_grad.register_fake
def _(dy, x, kappa, *rest):
    return layout.empty(x, x.shape)


@konv_kappa_grad.register_fake
def _(x, dy, degrees, kernel_size, basis, squash, masked, stride, padding, dilation, groups):
    return x.new_empty((dy.shape[1], degrees, x.shape[1] // groups, *kernel_size))


def _keep_konv(ctx, inputs, output):
    x, kappa, bias, *ctx.rest = inputs
    ctx.save_for_backward(x, kappa)
    ctx.bias_dims = 0 if bias is None else bias.dim()


def _konv_gradients(ctx, dy):
    x, kappa = ctx.saved_tensors
    dx = konv_input_grad(dy, x, kappa, *ctx.rest) if ctx.needs_input_grad[0] else None
    dkappa = None
    if ctx.needs_input_grad[1]:
        dkappa = konv_kappa_grad(x, dy, kappa.shape[1], kappa.shape[3:], *ctx.rest)
    dbias = None
    if ctx.needs_input_grad[2]:
        dbias = dy.sum((0, *range(2, dy.dim()))) if ctx.bias_dims == 1 else dy.sum(0, keepdim=True)
    return dx, dkappa, dbias, *(None,) * 7


def _keep_input_grad(ctx, inputs, output):
    dy, x, kappa, *ctx.rest = inputs
    ctx.save_for_backward(dy, x, kappa)


def _input_grad_gradients(ctx, g):
    """Of ``sum(g * dx)``, which is the slope of the layer along ``g``: differentiate the layer, expanded, twice."""
    return *expanding.second(ctx.saved_tensors, g, ctx.rest), *(None,) * 7


def _keep_kappa_grad(ctx, inputs, output):
    x, dy, _, _, *ctx.rest = inputs
    ctx.save_for_backward(x, dy)


def _kappa_grad_gradients(ctx, g):
    """Of ``sum(g * dkappa)``, which is ``sum(dy * konv(x, g))``: the layer's own gradients, with ``g`` for kappa."""
    x, dy = ctx.saved_tensors
    dx = konv_input_grad(dy, x, g, *ctx.rest) if ctx.needs_input_grad[0] else None
    ddy = konv(x, g, None, *ctx.rest) if ctx.needs_input_grad[1] else None
    return dx, ddy, *(None,) * 9


konv.register_autograd(_konv_gradients, setup_context=_keep_konv)
konv_input_grad.register_autograd(_input_grad_gradients, setup_context=_keep_input_grad)
konv_kappa_grad.register_autograd(_kappa_grad_gradients, setup_context=_keep_kappa_grad)


def _konv_over_one_more_axis(info, in_dims, x, kappa, bias, *rest):
    """Over a batch of inputs, a larger batch; over a batch of coefficients too, more groups."""
    *options, groups = rest
    if in_dims[1] is None and in_dims[2] is None:
        y = konv(x.movedim(in_dims[0], 0).flatten(0, 1), kappa, bias, *options, groups)
        return y.unflatten(0, (info.batch_size, -1)), 0
    x = layers.in_channels(x, in_dims[0], info.batch_size, 1)
    kappa = layers.in_channels(kappa, in_dims[1], info.batch_size, 0)
    if bias is not None:
        plain = bias.dim() - (in_dims[2] is not None) == 1
        bias = layers.in_channels(bias, in_dims[2], info.batch_size, 0 if plain else 1)
    return konv(x, kappa, bias, *options, groups * info.batch_size).unflatten(1, (info.batch_size, -1)), 1


def _input_grad_over_one_more_axis(info, in_dims, dy, x, kappa, *rest):
    *options, groups = rest
    dy, x = (layers.in_channels(t, dim, info.batch_size, 1) for t, dim in zip((dy, x), in_dims[:2], strict=True))
    kappa = layers.in_channels(kappa, in_dims[2], info.batch_size, 0)
    dx = konv_input_grad(dy, x, kappa, *options, groups * info.batch_size)
    return dx.unflatten(1, (info.batch_size, -1)), 1


def _kappa_grad_over_one_more_axis(info, in_dims, x, dy, *rest):
    *options, groups = rest
    x, dy = (layers.in_channels(t, dim, info.batch_size, 1) for t, dim in zip((x, dy), in_dims[:2], strict=True))
    dkappa = konv_kappa_grad(x, dy, *options, groups * info.batch_size)
    return dkappa.unflatten(0, (info.batch_size, -1)), 0


konv.register_vmap(_konv_over_one_more_axis)
konv_input_grad.register_vmap(_input_grad_over_one_more_axis)
konv_kappa_grad.register_vmap(_kappa_grad_over_one_more_axis)

_LIBRARY = torch.library.Library("konvlib", "FRAGMENT")
for _operator in (konv, konv_input_grad, konv_kappa_grad):
    tiles.autocasts(_LIBRARY, _operator._name.removeprefix("konvlib::"), _operator)


@register_flop_formula(torch.ops.konvlib.konv)
def _konv_flops(x_shape, kappa_shape, *_, out_shape=None, **__) -> int:
    """Two per product of the sum over degrees, taps and channels; the polynomials are not counted."""
    return 2 * math.prod(kappa_shape[1:]) * math.prod(out_shape)


@register_flop_formula(torch.ops.konvlib.konv_input_grad)
def _konv_input_grad_flops(dy_shape, x_shape, kappa_shape, *_, **__) -> int:
    return 2 * math.prod(kappa_shape[1:]) * math.prod(dy_shape)


@register_flop_formula(torch.ops.konvlib.konv_kappa_grad)
def _konv_kappa_grad_flops(x_shape, dy_shape, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(out_shape[1:]) * math.prod(dy_shape)
