"""Konvolution on tensors: an operator that evaluates the polynomials while it convolves, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from konvlib import geometry, tiles
from konvlib.geometry import KonvGeometry, Padding, PerAxis, by_rank
from konvlib.konvolution import bases, operators
from konvlib.konvolution.recurrences import get_basis
from konvlib.layers import operators as layers
from konvlib.layers import padding as borders
from konvlib.layers.polynomials import BASES


def konv(
    axes: int,
    x: torch.Tensor,
    kappa: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> torch.Tensor:
    """Put a polynomial in place of each product of a convolution over # spatial axes: `konvlib.konv#d` on tensors.

    Examples
    --------
    >>> konv1d(torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[1.0, 0]], [[0, 5]], [[1, 0]]]]), basis="monomial")
    tensor([[[17., 20.]]])
    """
    return squashed_konv(
        x,
        kappa,
        bias,
        axes=axes,
        basis=basis,
        squash="none",
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )


konv1d, konv2d, konv3d = by_rank(konv, "konv#d")


def squashed_konv(
    x: torch.Tensor,
    kappa: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    axes: int,
    basis: str,
    squash: str,
    padding_mode: str = "zeros",
    pad: str = "basis",
    **options: Any,
) -> torch.Tensor:
    """Konvolution of samples that pass through ``squash`` first, "none" or "tanh", which is done on the fly.

    Examples
    --------
    >>> x, kappa = torch.tensor([[[0.0, 1]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    >>> squashed_konv(x, kappa, None, axes=1, basis="monomial", squash="tanh")
    tensor([[[0.0000, 0.7616]]])
    """
    get_basis(basis)
    tiles.check_tensors(x=x, kappa=kappa, bias=bias)
    bias_shape = None if bias is None else bias.shape
    given = geometry.konv_geometry(
        x.shape, kappa.shape, bias_shape, axes=axes, padding_mode=padding_mode, pad=pad, **options
    )
    kappa, basis = _in_evaluated_basis(kappa, basis)
    layer = given.layer
    constants = _constants(kappa[:, 0], bias, given, x.device)
    if given.degree == 0:
        y = constants.reshape(-1, *(1,) * axes) if constants.dim() == 1 else constants
        return y.expand(layer.output_shape).contiguous()
    x, sides = _with_borders(x, given)
    rest = layer.stride, borders.flat(sides), layer.dilation, layer.groups
    return operators.konv(x, kappa[:, 1:], constants, basis, squash, pad == "basis", *rest)


def konv_input_grad(
    axes: int,
    dy: torch.Tensor,
    x: torch.Tensor,
    kappa: torch.Tensor,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> torch.Tensor:
    """Differentiate a Konvolution over # spatial axes by its input: `konvlib.konv#d_input_grad` on tensors.

    Examples
    --------
    >>> dy, x = torch.tensor([[[1.0, 10]]]), torch.tensor([[[1.0, 3, 2]]])
    >>> konv1d_input_grad(dy, x, torch.tensor([[[[1.0, 0]], [[0, 5]], [[1, 0]]]]), basis="monomial")
    tensor([[[ 2., 65., 50.]]])
    """
    get_basis(basis)
    tiles.check_tensors(dy=dy, x=x, kappa=kappa)
    given = geometry.konv_input_grad_geometry(
        dy.shape,
        x.shape,
        kappa.shape,
        axes=axes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )
    if given.degree == 0:
        return torch.zeros_like(x)
    kappa, basis = _in_evaluated_basis(kappa, basis)
    padded, sides = _with_borders(x, given)
    rest = given.layer.stride, borders.flat(sides), given.layer.dilation, groups
    dx = operators.konv_input_grad(dy, padded, kappa[:, 1:], basis, "none", pad == "basis", *rest)
    return dx if padding_mode == "zeros" else borders.fold(dx, given.layer.padding, padding_mode)


konv1d_input_grad, konv2d_input_grad, konv3d_input_grad = by_rank(konv_input_grad, "konv#d_input_grad")


def konv_kappa_grad(
    axes: int,
    x: torch.Tensor,
    dy: torch.Tensor,
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> torch.Tensor:
    """Differentiate a Konvolution over # spatial axes by its coefficients: `konvlib.konv#d_kappa_grad` on tensors.

    Examples
    --------
    >>> x, dy = torch.tensor([[[1.0, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> konv1d_kappa_grad(x, dy, degree=2, kernel_size=1, basis="monomial")
    tensor([[[[ 6.]],
    <BLANKLINE>
             [[16.]],
    <BLANKLINE>
             [[46.]]]])
    """
    get_basis(basis)
    tiles.check_tensors(x=x, dy=dy)
    given = geometry.konv_kappa_grad_geometry(
        x.shape,
        dy.shape,
        axes=axes,
        degree=degree,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )
    known, layer = _evaluated_basis(basis, degree), given.layer
    padded, sides = _with_borders(x, given)
    rest = layer.stride, borders.flat(sides), layer.dilation, groups
    parts = [_constants_grad(dy, given)[:, None]]
    if degree:
        parts.append(
            operators.konv_kappa_grad(padded, dy, degree, layer.kernel_size, known, "none", pad == "basis", *rest)
        )
    dkappa = torch.cat(parts, 1)
    return dkappa if known == basis else _changed(dkappa, known, basis, transposed=True)


konv1d_kappa_grad, konv2d_kappa_grad, konv3d_kappa_grad = by_rank(konv_kappa_grad, "konv#d_kappa_grad")


def konv_bias_grad(axes: int, dy: torch.Tensor) -> torch.Tensor:
    """Differentiate a Konvolution over # spatial axes by its bias: `konvlib.konv#d_bias_grad` on tensors.

    Examples
    --------
    >>> konv1d_bias_grad(torch.tensor([[[1.0, 5], [2, 0]]]))
    tensor([6., 2.])
    """
    tiles.check_tensors(dy=dy)
    geometry.bias_grad_shape(dy.shape, axes=axes)
    return dy.sum((0, *range(2, dy.dim())))


konv1d_bias_grad, konv2d_bias_grad, konv3d_bias_grad = by_rank(konv_bias_grad, "konv#d_bias_grad")


WELL_CONDITIONED = 16.0
"""Up to which condition number (Skeel's, which no scaling of a degree changes) coefficients move to another basis."""


def _in_evaluated_basis(kappa: torch.Tensor, basis: str) -> tuple[torch.Tensor, str]:
    """Coefficients in the basis that operators evaluate for this one, those of the same functions."""
    target = _evaluated_basis(basis, kappa.shape[1] - 1)
    return (kappa, basis) if target == basis else (_changed(kappa, basis, target), target)


@torch.compiler.assume_constant_result
def _evaluated_basis(basis: str, degree: int) -> str:
    """Chebyshev's in place of one that kernels do not know, where changing to it is well conditioned."""
    if basis in BASES:
        return basis
    change = _change(basis, "chebyshev", degree)
    condition = np.linalg.norm(np.abs(np.linalg.inv(change)) @ np.abs(change), np.inf)
    return "chebyshev" if condition <= WELL_CONDITIONED else basis


@torch.compiler.assume_constant_result
def _change(source: str, target: str, degree: int) -> np.ndarray:
    return bases.change_of_basis(source, target, degree).astype(float)


def _changed(kappa: torch.Tensor, source: str, target: str, *, transposed: bool = False) -> torch.Tensor:
    degree = kappa.shape[1] - 1
    change = _change(target, source, degree).T if transposed else _change(source, target, degree)
    matrix = torch.as_tensor(change, device=kappa.device, dtype=tiles.sum_dtype(kappa.dtype))
    return torch.einsum("ij,oj...->oi...", matrix, kappa.to(matrix.dtype)).to(kappa.dtype)


def _with_borders(x: torch.Tensor, given: KonvGeometry):
    """``x`` with borders that hold samples, and the sides that are left to pad with zeros."""
    layer = given.layer
    if layer.padding_mode == "zeros":
        return x, layer.padding
    return borders.pad(x, layer.padding, layer.padding_mode), [(0, 0)] * layer.axes


def _constants(kappa: torch.Tensor, bias: torch.Tensor | None, given: KonvGeometry, device) -> torch.Tensor:
    """What the degree 0 and the bias add: one value per channel, or a map where padding has no degree 0."""
    layer = given.layer
    if given.pad == "input" or not given.pads_with_zeros:
        constants = kappa.flatten(1).sum(1)
        return constants if bias is None else constants + bias
    ones = kappa.new_ones(1, 1, *layer.input_size)
    w = kappa.sum(1, keepdim=True)
    return layers.conv(ones, w, bias, layer.stride, borders.flat(layer.padding), layer.dilation, 1)


def _constants_grad(dy: torch.Tensor, given: KonvGeometry) -> torch.Tensor:
    """The gradient by the coefficients of degree 0, ``(C_out, C // groups, *kernel)``."""
    layer = given.layer
    if given.pad == "input" or not given.pads_with_zeros:
        return dy.sum((0, *range(2, dy.dim()))).reshape(-1, 1, *(1,) * layer.axes).expand(layer.weight_shape)
    ones, total = dy.new_ones(1, 1, *layer.input_size), dy.sum(0, keepdim=True)
    dw = layers.conv_weight_grad(
        ones, total, layer.kernel_size, layer.stride, borders.flat(layer.padding), layer.dilation, 1
    )
    return dw.expand(layer.weight_shape)
