"""The ways to compute Konvolution by kernels: fused, or an ordinary convolution of the expanded input, written once.

The fused way never writes the expanded input, nor does that by a halo, which is taken where it serves a layer. Where
``choices/<device>.json`` names another as quicker for a geometry, that is taken: ``"expanded"`` multiplies by the
layer's own kernel, ``"library"`` by cuDNN's convolution, ``"beside"`` goes by a halo with degrees side by side,
``"balanced"`` by a halo in equal shares, and ``"columns"`` sums the gradient by the input for all degrees in one
product. The gradient by the coefficients sums once for each degree where it is fused: if the kernel for Hopper serves
the expanded input, that way comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch.nn import functional

from konvlib.geometry import ConvGeometry
from konvlib.konvolution import columns, halo, halo_balanced, halo_beside, kernels
from konvlib.konvolution.frozen import Keep, anew, place_of
from konvlib.layers import (
    aten,
    autotune,
    forward,
    input_grad,
    memory,
    polynomial_input_grad,
    weight_grad,
    weight_grad_hopper,
)
from konvlib.layers.polynomials import Expansion


def konv(
    x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.konv`.

    Examples
    --------
    >>> from konvlib import runtime
    >>> from konvlib.geometry import conv_geometry
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> with runtime.interpreted():
    ...     konv(x, kappa, None, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(2, "monomial"))
    tensor([[[14., 12.]]])
    """
    given = x, kappa, bias, layer, expansion
    return _forward(x, lambda: kappa, lambda: bias, layer, expansion, lambda form: form.konv(*given))


def whole_konv(
    x: torch.Tensor,
    kappa: torch.Tensor,
    bias: torch.Tensor | None,
    degree_0: Callable[[], torch.Tensor],
    layer: ConvGeometry,
    expansion: Expansion,
    keep: Keep = anew,
) -> torch.Tensor:
    """The layer, as `konvlib.konvolution.operators.whole_konv`.

    ``degree_0`` returns what degree 0 and the bias add, where the way that is taken does not find it itself; ``keep``
    may have that, and weights in the order in which kernels take them.

    Examples
    --------
    >>> from konvlib import runtime
    >>> from konvlib.geometry import conv_geometry
    >>> x, kappa = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[5.0, 6]], [[2.0, 1]], [[0, 1]]]])
    >>> layer, degree_0 = conv_geometry(x.shape, (1, 1, 2), axes=1), lambda: torch.tensor([11.0])
    >>> with runtime.interpreted():
    ...     whole_konv(x, kappa, None, degree_0, layer, Expansion(2, "monomial"))
    tensor([[[25., 23.]]])
    """
    given = x, kappa, bias, layer, expansion, keep

    def added() -> torch.Tensor:
        return keep(("degree 0", place_of(layer), expansion.masked), degree_0)

    return _forward(
        x, lambda: kappa.narrow(1, 1, expansion.degrees), added, layer, expansion,
        lambda form: form.whole_konv(*given), keep,
    )  # fmt: skip


def _forward(
    x: torch.Tensor,
    kappa: Callable[[], torch.Tensor],
    added: Callable[[], torch.Tensor | None],
    layer: ConvGeometry,
    expansion: Expansion,
    by: Callable[[Any], torch.Tensor],
    keep: Keep = anew,
) -> torch.Tensor:
    """The layer by the way to choose.

    For those that go by no halo ``kappa`` returns the coefficients from degree 1 on, and ``added`` a bias, or a map of
    biases; ``by`` returns the layer by a form of halo.
    """

    def fused() -> torch.Tensor:
        return forward.conv(x, keep("packed", packed), added(), layer, expansion)

    def packed() -> torch.Tensor:
        w = kappa().flatten(1, 2)
        return w if memory.lies_packed(w.shape, w.stride()) else w.movedim(1, -1).contiguous().movedim(-1, 1)

    def expanded() -> torch.Tensor:
        z, wide = _expanded(x, layer, expansion)
        return forward.conv(z, keep("packed", packed), added(), wide)

    def library() -> torch.Tensor:
        (z, wide), bias = _expanded(x, layer, expansion), added()
        plain = bias if bias is not None and bias.dim() == 1 else None
        y = aten.conv(z, kappa().flatten(1, 2), plain, wide)
        y = y if plain is bias else y.add_(bias)
        return y if memory.is_channels_last(x) else y.contiguous()

    def others() -> dict[str, Callable[[], torch.Tensor]]:
        """Never the first, as columns of the gradient."""
        forms = {"beside": halo_beside, "balanced": halo_balanced}
        served = {name: form for name, form in forms.items() if form.serves(x, layer, expansion.degrees)}
        return {name: partial(by, form) for name, form in served.items()}

    ways = {"halo": lambda: by(halo)} if halo.serves(x, layer) else {}
    ways |= {"fused": fused, "expanded": expanded, "library": library}
    return autotune.choose(_kind("konv", expansion), layer, x, ways, others)


def konv_input_grad(
    dy: torch.Tensor, x: torch.Tensor, kappa: torch.Tensor, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The layer's gradient by its input, as `konvlib.konvolution.operators.konv_input_grad`.

    Examples
    --------
    >>> from konvlib import runtime
    >>> from konvlib.geometry import conv_geometry
    >>> dy, x, kappa = torch.tensor([[[1.0, 5]]]), torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[[2.0, 1]], [[0, 1]]]])
    >>> with runtime.interpreted():
    ...     konv_input_grad(dy, x, kappa, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(2, "monomial"))
    tensor([[[ 2., 17., 25.]]])
    """
    wide = _widened(layer, expansion)

    def expanded() -> torch.Tensor:
        dz = input_grad.conv_transpose(dy, kappa.flatten(1, 2), None, wide)
        return kernels.contract(dz, x, expansion, layer.groups)

    def library() -> torch.Tensor:
        return kernels.contract(aten.conv_transpose(dy, kappa.flatten(1, 2), None, wide), x, expansion, layer.groups)

    def others() -> dict[str, Callable[[], torch.Tensor]]:
        """Never the first: it is taken only where it was measured to be quicker."""
        if not columns.serves(x, layer, expansion):
            return {}
        return {"columns": lambda: columns.conv_transpose(dy, kappa, x, layer, expansion)}

    ways = {
        "fused": lambda: polynomial_input_grad.conv_transpose(dy, kappa.flatten(1, 2), x, layer, expansion),
        "expanded": expanded,
        "library": library,
    }
    return autotune.choose(_kind("konv_input_grad", expansion), layer, x, ways, others)


def konv_kappa_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> torch.Tensor:
    """The layer's gradient by its coefficients, as `konvlib.konvolution.operators.konv_kappa_grad`.

    Examples
    --------
    >>> from konvlib import runtime
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[1.0, 5]]])
    >>> with runtime.interpreted():
    ...     konv_kappa_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1), Expansion(1, "monomial"))
    tensor([[[[16., 13.]]]])
    """
    shape = (layer.out_channels, expansion.degrees, *layer.weight_shape[1:])

    def fused() -> torch.Tensor:
        dkappa = x.new_empty(shape)
        options = expansion._asdict()
        for degree in range(1, options.pop("degrees") + 1):
            weight_grad.write_weight_grad(dkappa[:, degree - 1], x, dy, layer, degree=degree, **options)
        return dkappa

    def expanded() -> torch.Tensor:
        z, wide = _expanded(x, layer, expansion)
        dw = x.new_empty(wide.weight_shape)
        weight_grad.write_weight_grad(dw, z, dy, wide)
        return dw.view(shape)

    def library() -> torch.Tensor:
        z, wide = _expanded(x, layer, expansion)
        return aten.conv_weight_grad(z, dy, wide).reshape(shape)

    ways = {"fused": fused, "expanded": expanded, "library": library}
    if _sums_expanded(x, dy, layer, expansion):
        ways = {"expanded": expanded, "fused": fused, "library": library}
    return autotune.choose(_kind("konv_kappa_grad", expansion), layer, x, ways)


@lru_cache(256)
def _kind(name: str, expansion: Expansion) -> str:
    return f"{name} degree {expansion.degrees} {expansion.basis} {expansion.squash}"


def _sums_expanded(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> bool:
    """Whether the weight gradient of the expanded input is one that Hopper's kernel computes."""
    wide = _widened(layer, expansion)
    laid_well = memory.is_channels_last(x) and wide.in_channels % 8 == 0 and weight_grad_hopper.fits(dy)
    return laid_well and weight_grad_hopper.could_serve(x, wide)


@lru_cache(1024)
def _widened(layer: ConvGeometry, expansion: Expansion) -> ConvGeometry:
    return replace(layer, in_channels=expansion.degrees * layer.in_channels)


@lru_cache(1024)
def _padded(layer: ConvGeometry) -> ConvGeometry:
    return layer.of_padded()


def _expanded(x: torch.Tensor, layer: ConvGeometry, expansion: Expansion) -> tuple[torch.Tensor, ConvGeometry]:
    """The expanded input, and the ordinary layer that it goes through."""
    if not expansion.masked:
        x, layer = functional.pad(x, layer.sides), _padded(layer)
    return kernels.expand(x, expansion, layer.groups), _widened(layer, expansion)
