"""The transposed convolution on tensors: Triton kernels on CUDA, ATen elsewhere, and the chapter's two other ways.

The transpose is an operator of the layer's trilinear form, ``konvlib.layers.operators.conv_transpose``; the gradient
of the layer by its input is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor
from torch.nn import functional

from konvlib.geometry import ConvGeometry, conv_size
from konvlib.images import tensors as images
from konvlib.layers import aten as layers
from konvlib.layers import operators
from konvlib.layers.memory import empty, laid_like
from konvlib.layers.padding import flat
from konvlib.matrices import col2im
from konvlib.registration import check_sizes_may_stay, is_plain
from konvlib.runtime import REALS, runs_kernel

DTYPES = REALS


def conv_transpose(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the transpose of the layer; by kernels with one launch for all sub-pixel phases.

    Examples
    --------
    >>> import torch
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]])
    >>> conv_transpose(x, w, None, conv_transpose_geometry(x.shape, w.shape, stride=2))
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    if not runs_kernel(x):
        return layers.conv_transpose(x, w, bias, layer)
    extended, _ = _extended(x, layer)
    _, _, rest = operators.shown(x, layer)
    plan = layer if extended is x else None
    return operators.conv_transpose(extended, w, bias, layer.input_size, *rest, plan=plan)


def conv_transpose_by_scattering(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the transpose of the layer, by one matrix product per group and `col2im`.

    Examples
    --------
    >>> import torch
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]])
    >>> conv_transpose_by_scattering(x, w, None, conv_transpose_geometry(x.shape, w.shape, stride=2))
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    if layers.is_half(x):
        return conv_transpose_by_scattering(*layers.wide(x, w, bias), layer).to(x.dtype)
    check_sizes_may_stay()
    extended, windows = _extended(x, layer)
    depth, width = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    weights = w.reshape(layer.groups, depth, width * math.prod(layer.kernel_size)).mT
    cols = weights @ extended.reshape(layer.batch, layer.groups, depth, math.prod(windows))
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    y = col2im(cols.flatten(1, 2), layer.input_size, layer.kernel_size, **options)
    return laid_like(x, y if bias is None else y + bias.to(y.dtype).reshape(-1, *(1,) * layer.axes))


def conv_transpose_by_zero_insertion(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the transpose of the layer, by convolving ``x``, zeros inserted, with the flipped kernel.

    Examples
    --------
    >>> import torch
    >>> from konvlib.geometry import conv_transpose_geometry
    >>> x, w = torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]])
    >>> conv_transpose_by_zero_insertion(x, w, None, conv_transpose_geometry(x.shape, w.shape, stride=2))
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    check_sizes_may_stay()
    z, sides = insert_zeros(x, layer.stride), []
    for axis, before in enumerate(layer.before):
        margin = layer.dilation[axis] * (layer.kernel_size[axis] - 1) - before
        sides.append((margin, before + layer.input_size[axis] - z.shape[axis + 2]))
    # First what is added, then what is cut off: an axis may lose more than it had.
    margins = flat(sides[::-1])
    if any([side > 0 for side in margins]):
        z = functional.pad(z, [max(side, 0) for side in margins])
    if any([side < 0 for side in margins]):
        z = functional.pad(z, [min(side, 0) for side in margins])
    flipped = w.flip(list(range(2, w.dim()))).unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    ones, none = (1,) * layer.axes, ((0, 0),) * layer.axes
    dense = ConvGeometry(
        layer.batch, layer.out_channels, layer.in_channels, layer.groups, tuple(z.shape[2:]), layer.kernel_size, ones,
        none, layer.dilation, "zeros", layer.input_size,
    )  # fmt: skip
    return images.conv(laid_like(x, z), flipped, bias, dense)


def insert_zeros(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return the batch with ``stride - 1`` zeros between neighbouring samples of each axis.

    Examples
    --------
    >>> import torch
    >>> insert_zeros(torch.tensor([[[1.0, 3, 2]]]), (2,))
    tensor([[[1., 0., 3., 0., 2.]]])
    """
    size = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], stride, strict=True)]
    z = empty(x, (*x.shape[:2], *size)).zero_()
    z[(..., *(slice(None, None, step) for step in stride))] = x
    return z


def _extended(x: Tensor, layer: ConvGeometry) -> tuple[Tensor, Sequence[int]]:
    """``x`` with zeros up to as many samples as the layer has outputs, which are more where it is cut short.

    That is where ``output_padding`` is at least the stride.
    """
    size, sides = (_kept_windows if is_plain(x) else _windows)(layer)
    return (functional.pad(x, sides) if sides else x), size


def _windows(layer: ConvGeometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many windows the input has along each axis, and what to pad outputs with to be as many, if any.

    There are as many windows as outputs, unless a transpose cuts them short.
    """
    each = zip(layer.input_size, layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    size = tuple([conv_size(n, k, stride=s, padding=p, dilation=d) for n, k, s, p, d in each])
    missing = [(0, windows - given) for windows, given in zip(size, layer.output_size, strict=True)]
    return size, tuple(flat(missing[::-1])) if any(map(any, missing)) else ()


_kept_windows = lru_cache(4096)(_windows)
