"""Konvolution on tensors degree by degree: each degree's polynomial of the input is written, convolved and forgotten.

It is what runs on the CPU, and what the derivative of the input gradient is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from konvlib import tiles
from konvlib.geometry import ConvGeometry
from konvlib.konvolution.recurrences import get_basis, whole_step
from konvlib.layers import aten, operators
from konvlib.layers import memory as layout
from konvlib.layers import padding as borders
from konvlib.layers.polynomials import Expansion


def terms(x: torch.Tensor, expansion: Expansion) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The polynomials of the squashed samples, and their slopes at the samples, from degree 1 on.

    Examples
    --------
    >>> for value, slope in terms(torch.tensor([2.0, 3.0]), Expansion(2, "chebyshev")):
    ...     print(value, slope)
    tensor([2., 3.]) tensor([1., 1.])
    tensor([ 7., 17.]) tensor([ 8., 12.])
    """
    t = torch.tanh(x) if expansion.squash == "tanh" else x
    inner = 1 - t * t if expansion.squash == "tanh" else torch.ones_like(t)
    basis = get_basis(expansion.basis)
    before, now = torch.zeros_like(t), torch.ones_like(t)
    slope_before, slope_now = torch.zeros_like(t), torch.zeros_like(t)
    for n in range(expansion.degrees):
        a, b, c, divisor = (float(number) for number in whole_step(basis, n))
        after = _next(t * now, now, before if n else None, a, b, c) / divisor
        slope_after = _next(now + t * slope_now, slope_now, slope_before if n else None, a, b, c) / divisor
        before, now, slope_before, slope_now = now, after, slope_now, slope_after
        yield now, slope_now * inner


def _next(line: torch.Tensor, now: torch.Tensor, before: torch.Tensor | None, a: float, b: float, c: float):
    """``a x + b`` times a degree less ``c`` times the one before, or the derivative of that."""
    after = a * line + b * now if b else a * line
    return after - c * before if c and before is not None else after


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> konv(x, kappa, None, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(2, "monomial"))
    tensor([[[14., 12.]]])
    """
    dtype = tiles.sum_dtype(x.dtype)
    shown, valid = padded(x.to(dtype), layer, expansion)
    y = 0.0 if bias is None else (bias.reshape(-1, *(1,) * layer.axes) if bias.dim() == 1 else bias).to(dtype)
    for (value, _), w in zip(terms(shown, expansion), kappa.to(dtype).unbind(1), strict=True):
        y = y + aten.conv(value, w, None, valid)
    return _like(y, x)


def konv_input_grad(
    dy: torch.Tensor, x: torch.Tensor, kappa: torch.Tensor, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer's gradient by its input.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, x, kappa = torch.tensor([[[1.0, 5]]]), torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> konv_input_grad(dy, x, kappa, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(2, "monomial"))
    tensor([[[ 2., 17., 25.]]])
    """
    dtype = tiles.sum_dtype(x.dtype)
    dx = torch.zeros_like(x, dtype=dtype)
    for (_, slope), w in zip(terms(x.to(dtype), expansion), kappa.to(dtype).unbind(1), strict=True):
        dx += slope * aten.conv_transpose(dy.to(dtype), w, None, layer)
    return _like(dx, x)


def konv_kappa_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> torch.Tensor:
    """The layer's gradient by its coefficients, from degree 1 on.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1.0, 5]]])
    >>> konv_kappa_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(1, "monomial"))
    tensor([[[[16., 13.]]]])
    """
    dtype = tiles.sum_dtype(x.dtype)
    shown, valid = padded(x.to(dtype), layer, expansion)
    grads = [aten.conv_weight_grad(value, dy.to(dtype), valid) for value, _ in terms(shown, expansion)]
    return torch.stack(grads, 1).to(x.dtype)


def second(saved: Sequence[torch.Tensor], g: torch.Tensor, rest: Sequence) -> tuple[torch.Tensor | None, ...]:
    """The gradients of ``sum(g * konv_input_grad(dy, x, kappa))`` by ``dy``, ``x`` and ``kappa``.

    The input gradient is written as the gradient of the layer, which is made of differentiable operators here, and is
    differentiated once more.

    Examples
    --------
    >>> dy, x, kappa = torch.tensor([[[1.0, 5]]]), torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> rest = "monomial", "none", True, [1], [0, 0], [1], 1
    >>> second((dy, x, kappa), torch.ones_like(x), rest)[1]
    tensor([[[ 0.,  2., 10.]]])
    """
    basis, squash, masked, stride, padding, dilation, groups = rest
    with torch.enable_grad():
        dy, x, kappa = (tensor.detach().requires_grad_() for tensor in saved)
        shown, sides = x, list(padding)
        if not masked:
            pairs = list(zip(padding[::2], padding[1::2], strict=True))
            shown, sides = functional.pad(x, borders.flat(pairs[::-1])), [0] * len(padding)
        y = 0.0
        expansion = Expansion(kappa.shape[1], basis, squash, masked)
        for (value, _), w in zip(terms(shown, expansion), kappa.unbind(1), strict=True):
            y = y + operators.conv(value, w, None, stride, sides, dilation, groups)
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        return torch.autograd.grad(dx, (dy, x, kappa), g, allow_unused=True)


def padded(x: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> tuple[torch.Tensor, ConvGeometry]:
    """Where padding contributes the polynomial of zero: the input padded, and the layer of that.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> layer = conv_geometry((1, 1, 2), (1, 1, 2), axes=1, padding=1)
    >>> padded(torch.ones(1, 1, 2), layer, Expansion(2, "monomial", masked=False))[0]
    tensor([[[0., 1., 1., 0.]]])
    """
    if expansion.masked:
        return x, layer
    x = functional.pad(x, borders.flat(layer.padding[::-1]))
    return x, replace(layer, input_size=tuple(x.shape[2:]), padding=((0, 0),) * layer.axes)


def _like(result: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return layout.empty(x, result.shape).copy_(result)
