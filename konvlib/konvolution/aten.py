"""Konvolution and its gradients by ATen, PyTorch's own library: what tensors get on the CPU.

Each is a composite of ATen's operations, so torch differentiates, batches and traces it as it does those. Halves are
summed in float32, and rounded once.

The polynomials are rescaled: see `konvlib.konvolution.plans`. Degree 0 is 1 whatever the sample, so it is in no
product: what it adds is a bias, or, where padding contributes nothing, a map that depends on which taps an output sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry import ConvGeometry
from konvlib.konvolution.frozen import Keep, anew, place_of
from konvlib.konvolution.plans import Constants, Plan
from konvlib.layers import aten as layers
from konvlib.layers.memory import is_channels_last, laid_like
from konvlib.layers.padding import fold, pad
from konvlib.registration import bias_grad
from konvlib.runtime import HALVES


def konv(x: Tensor, kappa: Tensor, bias: Tensor | None, plan: Plan, constants: Constants, keep: Keep = anew) -> Tensor:
    """Return the layer, in the layout of ``x``; ``keep`` may have what is made of ``kappa`` and ``bias`` alone.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[1.0, 0]], [[0, 5]], [[1, 0]]]])
    >>> plan = plan_of(konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    >>> konv(x, kappa, None, plan, constants_of(plan, x))
    tensor([[[17., 20.]]])
    """
    first, rest = kappa.split((1, kappa.shape[1] - 1), 1)
    place = None if constants.sees is None else place_of(plan.layer)
    added = keep(("degree 0", place), lambda: degree_0(first, bias, constants))
    w = keep("weight", lambda: _weight(rest, constants))
    if x.dtype in HALVES or kappa.dtype in HALVES:
        return _by_weight(x.float(), w, added, plan, constants).to(x.dtype)
    return _by_weight(x, w, added, plan, constants)


def degree_0(first: Tensor, bias: Tensor | None, constants: Constants) -> Tensor:
    """Return what degree 0 and the bias add: one number per channel, or a map ``(C_out, *output_size)``.

    ``first`` are the coefficients of degree 0, ``kappa[:, :1]``.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x, first = torch.ones(1, 1, 3), torch.tensor([[[[2.0, 3.0]]]])
    >>> plan = plan_of(konv_geometry(x.shape, first.shape, axes=1, padding=1), "monomial")
    >>> degree_0(first, torch.ones(1), constants_of(plan, x))
    tensor([[4., 6., 6., 3.]])
    """
    if first.dtype in HALVES:
        first, bias = layers.wide(first, bias)
    if constants.sees is None:
        total = first.flatten(1).sum(1)
        return total if bias is None else total + bias
    total = first.sum((1, 2))
    if len(constants.sees) == 1:
        (table,) = constants.sees
        total = (total.flatten(1) @ table.flatten(1)).unflatten(1, table.shape[1:])
    else:
        for table in constants.sees:  # the first axis of taps becomes the last axis, of outputs
            total = total.movedim(1, -1) @ table
    return total if bias is None else total + bias.reshape(-1, *(1,) * (total.dim() - 1))


def without_degree_0(x: Tensor, kappa: Tensor, added: Tensor | None, plan: Plan, constants: Constants) -> Tensor:
    """Return the layer with coefficients from degree 1 on, and what is added to it: see `degree_0`.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> plan = plan_of(konv_geometry(x.shape, (1, 3, 1, 2), axes=1), "monomial")
    >>> without_degree_0(x, kappa, None, plan, constants_of(plan, x))
    tensor([[[14., 12.]]])
    """
    return _by_weight(x, _weight(kappa, constants), added, plan, constants)


def _weight(kappa: Tensor, constants: Constants) -> Tensor:
    """Coefficients from degree 1 on, as the weight of the expanded input, in the dtype of sums."""
    return (kappa * constants.scale).flatten(1, 2)


def _by_weight(x: Tensor, w: Tensor, added: Tensor | None, plan: Plan, constants: Constants) -> Tensor:
    if not plan.steps:
        return _only_added(x, added, plan)
    expanded = _expanded(x, plan, constants)
    if added is None or added.dim() == 1:
        return laid_like(x, layers.conv(expanded, w, added, plan.inner))
    y = layers.conv(expanded, w, None, plan.inner)
    return laid_like(x, y + added.to(y.dtype))  # autocast may have lowered y


def _expanded(x: Tensor, plan: Plan, constants: Constants) -> Tensor:
    """The degrees of the squashed input, from 1 on, as channels."""
    t = _squashed(_shown(x, plan), plan)
    return _joined(t, list(polynomials(t, plan, constants)), plan.layer.groups)


def _only_added(x: Tensor, added: Tensor, plan: Plan) -> Tensor:
    """The layer of degree 0: the same for each image, and a tensor of its own, since what is added may be kept."""
    layer = plan.inner
    if added.dim() == 1:
        shown = zip(_shown(x, plan).shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
        added = added.reshape(-1, *(1,) * layer.axes).expand(
            -1, *[(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in shown]
        )
    return laid_like(x, added.expand(x.shape[0], *added.shape).clone(memory_format=torch.contiguous_format))


def _shown(x: Tensor, plan: Plan) -> Tensor:
    """The input as it is expanded: padded first, where padding holds samples or contributes as they do."""
    layer = plan.layer
    if plan.inner is layer:
        return x
    if layer.padding_mode == "zeros":
        return functional.pad(x, layer.sides)
    return pad(x, layer.padding, layer.padding_mode)


def _squashed(x: Tensor, plan: Plan) -> Tensor:
    return torch.tanh(x) if plan.squash == "tanh" else x


def polynomials(t: Tensor, plan: Plan, constants: Constants) -> Iterator[Tensor]:
    """The rescaled polynomials of squashed samples, from degree 1 on.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> plan = plan_of(konv_geometry(x.shape, (1, 4, 1, 1), axes=1), "chebyshev")
    >>> [q.flatten().tolist() for q in polynomials(x, plan, constants_of(plan, x))]  # T_1, -T_2, -T_3
    [[1.0, 3.0, 2.0], [-1.0, -17.0, -7.0], [-1.0, -99.0, -26.0]]
    """
    before, now = None, constants.one
    for n, step in enumerate(plan.steps):
        if not n:
            after = t + step.shift if step.shift else t
        elif step.before:
            rest = before if step.before == 1 else before * step.before
            after = torch.addcmul(rest, t, now, value=step.slope)
        else:
            after = t * now if step.slope == 1 else t * now * step.slope
        if step.shift and n:
            after = torch.add(after, now, alpha=step.shift)
        if step.divisor != 1:
            after = after / step.divisor
        before, now = now, after
        yield now


def slopes(t: Tensor, plan: Plan, constants: Constants) -> Iterator[Tensor | float]:
    """The derivatives of `polynomials` by the squashed samples, from degree 1 on.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x = torch.tensor([[[1.0, 3, 2]]])
    >>> plan = plan_of(konv_geometry(x.shape, (1, 4, 1, 1), axes=1), "chebyshev")
    >>> [slope for slope in slopes(x, plan, constants_of(plan, x))][1:]  # of -T_2 and -T_3
    [tensor([[[ -4., -12.,  -8.]]]), tensor([[[  -9., -105.,  -45.]]])]
    """
    before, now = 0.0, 1.0
    yield now
    for step, q in zip(plan.steps[1:], polynomials(t, plan, constants), strict=False):
        product = t + q if isinstance(now, float) else torch.addcmul(q, t, now)  # the derivative of t q
        rest = _times(step.before, before)
        if step.shift:
            rest = rest + _times(step.shift, now)
        if isinstance(rest, float):
            after = product * step.slope + rest if rest else product * step.slope
        else:
            after = torch.add(rest, product, alpha=step.slope)
        before, now = now, after / step.divisor if step.divisor != 1 else after
        yield now


def _times(factor: float, value: Tensor | float) -> Tensor | float:
    return 0.0 if factor == 0 else value if factor == 1 else value * factor


def _joined(x: Tensor, terms: list[Tensor], groups: int) -> Tensor:
    """Terms as channels: degree by degree in each group, in the layout of ``x``."""
    if len(terms) == 1:
        return terms[0]
    if groups == 1:
        return torch.cat(terms, 1)
    if is_channels_last(x):
        parts = [term.movedim(1, -1).unflatten(-1, (groups, -1)) for term in terms]
        return torch.stack(parts, -2).flatten(-3).movedim(-1, 1)
    return torch.stack([term.unflatten(1, (groups, -1)) for term in terms], 2).flatten(1, 3)


def konv_input_grad(dy: Tensor, x: Tensor, kappa: Tensor, plan: Plan, constants: Constants) -> Tensor:
    """Return the gradient by ``x``, in its layout, with coefficients from degree 1 on.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> dy, x, kappa = torch.tensor([[[1.0, 5]]]), torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> plan = plan_of(konv_geometry(x.shape, (1, 3, 1, 2), axes=1), "monomial")
    >>> konv_input_grad(dy, x, kappa, plan, constants_of(plan, x))
    tensor([[[ 2., 17., 25.]]])
    """
    if x.dtype in HALVES or kappa.dtype in HALVES:
        return konv_input_grad(*layers.wide(dy, x, kappa), plan, constants).to(x.dtype)
    if not plan.steps:
        return torch.zeros_like(x)
    layer, degrees, w = plan.layer, len(plan.steps), _weight(kappa, constants)
    if layer.padding_mode == "zeros":
        expanded = layers.conv_transpose(dy, w, None, layer)
    else:
        expanded = fold(layers.conv_transpose(dy, w, None, plan.inner), layer.padding, layer.padding_mode)
    t = _squashed(x, plan)
    parts = expanded.unflatten(1, (layer.groups, degrees, -1)).unbind(2)
    grouped = t.unflatten(1, (layer.groups, -1))
    dx = parts[0]
    for part, slope in zip(parts[1:], list(slopes(grouped, plan, constants))[1:], strict=True):
        dx = torch.addcmul(dx, part, slope)
    dx = dx.flatten(1, 2)
    return laid_like(x, dx * (1 - t * t) if plan.squash == "tanh" else dx)


def konv_kappa_grad(x: Tensor, dy: Tensor, plan: Plan, constants: Constants) -> Tensor:
    """Return the gradient by the coefficients from degree 1 on.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> x, dy = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1.0, 5]]])
    >>> plan = plan_of(konv_geometry(x.shape, (1, 2, 1, 2), axes=1), "monomial")
    >>> konv_kappa_grad(x, dy, plan, constants_of(plan, x))
    tensor([[[[16., 13.]]]])
    """
    if x.dtype in HALVES or dy.dtype in HALVES:
        return konv_kappa_grad(*layers.wide(x, dy), plan, constants).to(x.dtype)
    degrees = len(plan.steps)
    wide = replace(plan.inner, in_channels=degrees * plan.inner.in_channels)
    dw = layers.conv_weight_grad(_expanded(x, plan, constants), dy, wide)
    return dw.unflatten(1, (degrees, -1)) * constants.scale


def degree_0_grad(dy: Tensor, layer: ConvGeometry, constants: Constants) -> Tensor:
    """Return the gradient by the coefficients of degree 0, ``(C_out, C // groups, *kernel_size)``.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> from konvlib.konvolution.plans import constants_of, plan_of
    >>> plan = plan_of(konv_geometry((1, 1, 3), (1, 1, 1, 2), axes=1, padding=1), "monomial")
    >>> dy = torch.tensor([[[1.0, 10, 100, 1000]]])
    >>> degree_0_grad(dy, plan.layer, constants_of(plan, torch.ones(1, 1, 3)))
    tensor([[[1110.,  111.]]])
    """
    if dy.dtype in HALVES:
        return degree_0_grad(dy.float(), layer, constants).to(dy.dtype)
    if constants.sees is None:
        return bias_grad(dy).reshape(-1, 1, *(1,) * layer.axes).expand(layer.weight_shape)
    total = dy.sum(0)
    if len(constants.sees) == 1:
        (table,) = constants.sees
        total = total.reshape(total.shape[0], -1) @ table.reshape(table.shape[0], -1).T
        total = total.reshape(-1, *layer.kernel_size)
    else:
        for table in constants.sees:  # the first axis of outputs becomes the last axis, of taps
            total = total.movedim(1, -1) @ table.T
    return total.unsqueeze(1).expand(layer.weight_shape)
