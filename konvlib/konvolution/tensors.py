"""Konvolution and its gradients on tensors: Triton kernels on CUDA, ATen elsewhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from konvlib.geometry import KonvGeometry
from konvlib.geometry.layers import one_of_equals
from konvlib.gradients import tensors as gradients
from konvlib.konvolution import aten, bases, operators, plans
from konvlib.konvolution.frozen import Keep, anew
from konvlib.layers import operators as layer_operators
from konvlib.layers.padding import flat, fold
from konvlib.layers.polynomials import BASES, Expansion
from konvlib.registration import is_plain
from konvlib.runtime import REALS, runs_kernel, sum_dtype

DTYPES = REALS

WELL_CONDITIONED = 16.0
"""Up to which condition number (Skeel's, which no scaling of a degree changes) coefficients move to another basis."""


def konv(x: Tensor, kappa: Tensor, bias: Tensor | None, given: KonvGeometry, basis: str) -> Tensor:
    """Return the layer, in the layout of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[1.0, 0]], [[0, 5]], [[1, 0]]]])
    >>> konv(x, kappa, None, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    tensor([[[17., 20.]]])
    """
    return squashed_konv(x, kappa, bias, given, basis, "none")


def squashed_konv(
    x: Tensor, kappa: Tensor, bias: Tensor | None, given: KonvGeometry, basis: str, squash: str, keep: Keep = anew
) -> Tensor:
    """Return the layer of samples that pass through ``squash`` first, "none" or "tanh".

    ``keep`` may have what is made of ``kappa`` and ``bias`` alone.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, kappa = torch.tensor([[[0.0, 1]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    >>> squashed_konv(x, kappa, None, konv_geometry(x.shape, kappa.shape, axes=1), "monomial", "tanh")
    tensor([[[0.0000, 0.7616]]])
    """
    if runs_kernel(x) and is_plain(x) and (found := fused(given, basis, squash)):
        return operators.whole_konv(x, kappa, bias, *found[1], plan=operators.keeping(found[0], keep))
    known = _kernels_basis(x, given, basis)
    if known is None:
        plan = plans.plan_of(given, basis, squash)
        return aten.konv(x, kappa, bias, plan, plans.constants_of(plan, x), keep)
    if known != basis:
        stored = kappa
        kappa = keep(known, lambda: _changed(stored, basis, known))
    shown, layer, options = layer_operators.shown(x, given.layer)
    rest = known, squash, given.pad == "basis", *options
    if is_plain(shown):  # traced, what degree 0 adds is left to torch's compiler
        plan = operators.keeping(operators.Fused(layer, Expansion(given.degree, *rest[:3])), keep)
        return operators.whole_konv(shown, kappa, bias, *rest, plan=plan)
    plan = plans.plan_of(given, known, squash)
    added = operators.added(kappa, bias, plans.constants_of(plan, x), x.dtype)
    return operators.konv(shown, kappa[:, 1:], added, *rest)


@lru_cache(1024)
def fused(given: KonvGeometry, basis: str, squash: str) -> tuple[operators.Fused, tuple[Any, ...]] | None:
    """Return the plan of `operators.whole_konv` and its arguments, if it takes operands as they are.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> plan, arguments = fused(konv_geometry((1, 1, 3), (1, 3, 1, 2), axes=1, padding=1), "monomial", "tanh")
    >>> plan.expansion, arguments
    (Expansion(degrees=2, basis='monomial', squash='tanh', masked=True), \
('monomial', 'tanh', True, (1,), (1, 1), (1,), 1))
    """
    layer = one_of_equals(given.layer)
    if basis not in BASES or layer.padding_mode != "zeros" or not 0 < given.degree <= operators.FUSED_DEGREES:
        return None
    rest = basis, squash, given.pad == "basis"
    options = layer.stride, tuple(flat(layer.padding)), layer.dilation, layer.groups
    return operators.Fused(layer, Expansion(given.degree, *rest)), (*rest, *options)


def konv_input_grad(dy: Tensor, x: Tensor, kappa: Tensor, given: KonvGeometry, basis: str) -> Tensor:
    """Return the layer's gradient by its input, in the layout of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> dy, x = torch.tensor([[[1.0, 10]]]), torch.tensor([[[1.0, 3, 2]]])
    >>> kappa = torch.tensor([[[[1.0, 0]], [[0, 5]], [[1, 0]]]])
    >>> konv_input_grad(dy, x, kappa, konv_geometry(x.shape, kappa.shape, axes=1), "monomial")
    tensor([[[ 2., 65., 50.]]])
    """
    known = _kernels_basis(x, given, basis)
    if known is None:
        plan = plans.plan_of(given, basis)
        return aten.konv_input_grad(dy, x, kappa[:, 1:], plan, plans.constants_of(plan, x))
    if known != basis:
        kappa = _changed(kappa, basis, known)
    shown, _, options = layer_operators.shown(x, given.layer)
    dx = operators.konv_input_grad(dy, shown, kappa[:, 1:], known, "none", given.pad == "basis", *options)
    layer = given.layer
    return dx if shown is x else fold(dx, layer.padding, layer.padding_mode)


def konv_kappa_grad(x: Tensor, dy: Tensor, given: KonvGeometry, basis: str) -> Tensor:
    """Return the layer's gradient by its coefficients.

    Examples
    --------
    >>> from konvlib.geometry import konv_geometry
    >>> x, dy = torch.tensor([[[1.0, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> konv_kappa_grad(x, dy, konv_geometry(x.shape, (1, 3, 1, 1), axes=1), "monomial").flatten()
    tensor([ 6., 16., 46.])
    """
    known = _kernels_basis(x, given, basis)
    plan = plans.plan_of(given, basis if known is None else known)
    constants = plans.constants_of(plan, x)
    constant = aten.degree_0_grad(dy, plan.layer, constants).unsqueeze(1)
    if known is None:
        return torch.cat((constant, aten.konv_kappa_grad(x, dy, plan, constants)), 1) if given.degree else constant
    shown, _, options = layer_operators.shown(x, given.layer)
    kernel = given.layer.kernel_size
    rest = operators.konv_kappa_grad(shown, dy, given.degree, kernel, known, "none", given.pad == "basis", *options)
    dkappa = torch.cat((constant, rest), 1)
    return dkappa if known == basis else _changed(dkappa, known, basis, transposed=True)


konv_bias_grad = gradients.conv_bias_grad
"""The layer's gradient by its bias, as that of any layer."""


def _kernels_basis(x: Tensor, given: KonvGeometry, basis: str) -> str | None:
    """The basis that kernels evaluate for this one; None where none of them runs."""
    if not runs_kernel(x) or not 0 < given.degree <= operators.FUSED_DEGREES:
        return None
    evaluated = _evaluated_basis(basis, given.degree)
    return evaluated if evaluated in BASES else None


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


def _changed(kappa: Tensor, source: str, target: str, *, transposed: bool = False) -> Tensor:
    """Coefficients, or with ``transposed`` their gradients, in another basis: those of the same functions."""
    degree = kappa.shape[1] - 1
    change = _change(target, source, degree).T if transposed else _change(source, target, degree)
    matrix = torch.as_tensor(change, device=kappa.device, dtype=sum_dtype(kappa.dtype))
    return torch.einsum("ij,oj...->oi...", matrix, kappa.to(matrix.dtype)).to(kappa.dtype)
