"""The transposed convolution on tensors: one launch for all sub-pixel phases, and the chapter's two other ways.

The transpose is an operator of the layer's trilinear form, ``konvlib.layers.operators.conv_transpose``; the gradient
of the layer by its input is the same one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn import functional

from konvlib import geometry, tiles
from konvlib.geometry import ConvGeometry, Padding, PerAxis, by_rank
from konvlib.layers import operators
from konvlib.layers import padding as borders
from konvlib.matrices import tensors as matrices
from konvlib.transposes.arrays import overlap_counts as overlap_counts


def conv_transpose(
    axes: int,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Transpose the convolution layer, over # spatial axes: `konvlib.conv_transpose#d` on tensors.

    Examples
    --------
    >>> conv_transpose1d(torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]]), stride=2)
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    layer = _layer(
        x,
        w,
        bias,
        axes=axes,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    sides = borders.flat(layer.padding)
    x, _ = _extended(x, layer)
    return operators.conv_transpose(x, w, bias, layer.input_size, layer.stride, sides, layer.dilation, groups)


conv_transpose1d, conv_transpose2d, conv_transpose3d = by_rank(conv_transpose, "conv_transpose#d")


def conv_transpose_by_scattering(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Transpose the convolution layer by one matrix product and `col2im`: `konvlib.conv_transpose_by_scattering`.

    Examples
    --------
    >>> conv_transpose_by_scattering(torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]]), stride=2)
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    layer = _layer(
        x,
        w,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    x, windows = _extended(x, layer)
    depth, width = layer.out_channels // groups, layer.in_channels // groups
    weights = w.reshape(groups, depth, width * math.prod(layer.kernel_size)).mT
    cols = weights @ x.reshape(layer.batch, groups, depth, math.prod(windows))
    y = matrices.col2im(cols.flatten(1, 2), replace(layer, output_size=tuple(windows)))
    return _with_bias(y, bias)


def conv_transpose_by_zero_insertion(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Transpose the convolution layer by convolving ``x``, zeros inserted, with the flipped kernel.

    Examples
    --------
    >>> conv_transpose_by_zero_insertion(torch.tensor([[[1.0, 3]]]), torch.tensor([[[2.0, 1, 1]]]), stride=2)
    tensor([[[2., 1., 7., 3., 3.]]])
    """
    layer = _layer(
        x,
        w,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    z, sides = insert_zeros(x, layer.stride), []
    for axis, (before, _) in enumerate(layer.padding):
        margin = layer.dilation[axis] * (layer.kernel_size[axis] - 1) - before
        sides.append((margin, before + layer.input_size[axis] - z.shape[axis + 2]))
    z = functional.pad(z, borders.flat([(max(before, 0), max(after, 0)) for before, after in sides[::-1]]))
    z = z[
        (
            ...,
            *(slice(max(-before, 0), z.shape[axis + 2] + min(after, 0)) for axis, (before, after) in enumerate(sides)),
        )
    ]
    flipped = w.flip(list(range(2, w.dim()))).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    ones, none = [1] * layer.axes, [0] * (2 * layer.axes)
    return operators.conv(z, flipped, bias, ones, none, layer.dilation, groups)


def insert_zeros(x: torch.Tensor, stride: PerAxis) -> torch.Tensor:
    """Put ``stride - 1`` zeros between neighbouring samples: `konvlib.insert_zeros` on tensors.

    Examples
    --------
    >>> insert_zeros(torch.tensor([[[1.0, 3, 2]]]), 2)
    tensor([[[1., 0., 3., 0., 2.]]])
    """
    tiles.check_tensors(x=x)
    steps, size = geometry.inserted_size(x.shape, stride)
    z = x.new_zeros(*x.shape[:2], *size)
    z[(..., *(slice(None, None, step) for step in steps))] = x
    return z


def _layer(x, w, bias, *, axes: int | None = None, **arguments) -> ConvGeometry:
    tiles.check_tensors(x=x, w=w, bias=bias)
    axes = geometry.spatial_axes(x.shape, "x") if axes is None else axes
    bias_shape = None if bias is None else bias.shape
    return geometry.conv_transpose_geometry(x.shape, w.shape, bias_shape, axes=axes, **arguments)


def _extended(x: torch.Tensor, layer: ConvGeometry) -> tuple[torch.Tensor, list[int]]:
    """``x`` with zeros up to as many samples as the layer has outputs, which are more where it is cut short.

    That is where ``output_padding`` is at least the stride.
    """
    each = zip(layer.input_size, layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    size = [geometry.conv_size(n, k, stride=s, padding=p, dilation=d) for n, k, s, p, d in each]
    missing = [(0, windows - given) for windows, given in zip(size, layer.output_size, strict=True)]
    return (functional.pad(x, borders.flat(missing[::-1])) if any(map(any, missing)) else x), size


def _with_bias(y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.dim() - 2))
