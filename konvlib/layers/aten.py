"""The three operators by ATen, PyTorch's own library: what runs on the CPU, and what kernels are compared with there.

PyTorch pads both sides alike, so padding is done first, and undone last.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory


def conv(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    wide = [None if t is None else t.to(runtime.sum_dtype(x.dtype)) for t in (x, w, bias)]
    wide[0] = functional.pad(wide[0], _sides(layer))
    zeros = [0] * layer.axes
    y = torch.convolution(*wide, layer.stride, zeros, layer.dilation, False, zeros, layer.groups)
    return _like(y, x)


def conv_transpose(dy: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer's transpose, which is its input gradient, with a bias.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    dtype = runtime.sum_dtype(dy.dtype)
    padded = [n + before + after for n, (before, after) in zip(layer.input_size, layer.padding, strict=True)]
    x = dy.new_zeros(1, dtype=dtype).expand(layer.batch, layer.in_channels, *padded)
    dx, _, _ = backward(dy.to(dtype), x, w.to(dtype), layer, [True, False, False])
    for axis, (size, (before, _)) in enumerate(zip(layer.input_size, layer.padding, strict=True)):
        dx = dx.narrow(axis + 2, before, size)
    if bias is not None:
        dx = dx + bias.to(dtype).reshape(-1, *(1,) * layer.axes)
    return _like(dx, dy)


def conv_weight_grad(x: torch.Tensor, dy: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """The layer's weight gradient.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> conv_weight_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1))
    tensor([[[ 9., 16.]]])
    """
    dtype = runtime.sum_dtype(x.dtype)
    w = dy.new_zeros(1, dtype=dtype).expand(layer.weight_shape)
    padded = functional.pad(x.to(dtype), _sides(layer))
    return _like(backward(dy.to(dtype), padded, w, layer, [False, True, False])[1], x)


def backward(
    dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, layer: ConvGeometry, wanted: list[bool]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The gradients of the layer by an input that is padded already, by the weight and by the bias: those wanted.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, x, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[2.0, 3]]])
    >>> backward(dy, x, w, conv_geometry(x.shape, w.shape, axes=1), [True, True, False])[:2]
    (tensor([[[ 2., 13., 15.]]]), tensor([[[ 9., 16.]]]))
    """
    if layer.batch == 0:
        return torch.zeros_like(x), torch.zeros_like(w), None
    zeros = [0] * layer.axes
    return torch.ops.aten.convolution_backward(
        dy, x, w, None, layer.stride, zeros, layer.dilation, False, zeros, layer.groups, wanted
    )


def _sides(layer: ConvGeometry) -> list[int]:
    return [side for pair in layer.padding[::-1] for side in pair]


def _like(result: torch.Tensor, operand: torch.Tensor) -> torch.Tensor:
    """The result in the dtype and the layout of an operand; a copy, since an operator's result is no view."""
    return memory.empty(operand, result.shape).copy_(result)
