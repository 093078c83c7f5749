"""The layer and its two gradients by ATen, PyTorch's own library: what tensors get on the CPU.

Each is a composite of ATen's operations, so torch differentiates, batches and traces it as it does those. Halves are
summed in float32 on the CPU, and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from konvlib.geometry import ConvGeometry
from konvlib.layers.memory import laid_like
from konvlib.layers.padding import pad
from konvlib.registration import check_sizes_may_stay, lowered, lowers
from konvlib.runtime import HALVES

CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
CONV_TRANSPOSE = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}


def conv(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the layer ``y[b, o, i] = bias[o] + sum x[b, c, s i + d u - p] w[o, c, u]``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    if is_half(x):
        return conv(*wide(x, w, bias), layer).to(x.dtype)
    shown, padding = padded(x, layer)
    return laid_like(x, CONV[layer.axes](shown, w, bias, layer.stride, padding, layer.dilation, layer.groups))


def conv_transpose(dy: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Return the layer's transpose, which is its input gradient, with a bias.

    ATen computes it without padding; what the padding and the size of the input cut off or add is done here.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    if is_half(dy):
        return conv_transpose(*wide(dy, w, bias), layer).to(dy.dtype)
    transpose = CONV_TRANSPOSE[layer.axes]
    each = zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    full = [(outputs - 1) * s + d * (k - 1) + 1 for outputs, k, s, d in each]
    after = [size - before - n for size, before, n in zip(full, layer.before, layer.input_size, strict=True)]
    if layer.before == tuple(after):
        dx = transpose(dy, w, bias, layer.stride, layer.before, 0, layer.groups, layer.dilation)
        return laid_like(dy, dx)
    dx = transpose(dy, w, None, layer.stride, 0, 0, layer.groups, layer.dilation)
    if any([before > size for before, size in zip(layer.before, full, strict=True)]):
        # All windows of an axis show padding alone: there is less to cut off than is cut, before some is added after.
        dx = functional.pad(dx, [side for cut in after[::-1] for side in (0, max(-cut, 0))])
        after = [max(cut, 0) for cut in after]
    cuts = [-cut for pair in zip(layer.before[::-1], after[::-1], strict=True) for cut in pair]
    dx = functional.pad(dx, cuts)
    return laid_like(dy, dx if bias is None else dx + bias.to(dx.dtype).reshape(-1, *(1,) * layer.axes))


def conv_weight_grad(x: Tensor, dy: Tensor, layer: ConvGeometry) -> Tensor:
    """Return the layer's weight gradient ``dw[o, c, u] = sum dy[b, o, i] x[b, c, s i + d u - p]``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, dy = torch.tensor([[[4.0, 1, 3]]]), torch.tensor([[[1.0, 5]]])
    >>> conv_weight_grad(x, dy, conv_geometry(x.shape, (1, 1, 2), axes=1))
    tensor([[[ 9., 16.]]])
    """
    if lowers(x):  # autocast, which knows ATen's layers, but not this operator
        return lowered(conv_weight_grad, x.device.type, (x, dy, layer))
    if is_half(x):
        return conv_weight_grad(*wide(x, dy), layer).to(x.dtype)
    check_sizes_may_stay()
    shown, padding = padded(x, layer)
    w, zeros = x.new_empty(1).expand(layer.weight_shape), [0] * layer.axes
    _, dw, _ = torch.ops.aten.convolution_backward(
        dy, shown, w, None, layer.stride, padding, layer.dilation, False, zeros, layer.groups, [False, True, False]
    )
    return laid_like(x, dw)


def padded(x: Tensor, layer: ConvGeometry) -> tuple[Tensor, tuple[int, ...]]:
    """Return the input with its padding, but for zeros that ATen puts on itself, and how many of these per axis.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = torch.tensor([[[1, 3, 2]]])
    >>> padded(x, conv_geometry(x.shape, (1, 1, 2), axes=1, padding=1))
    (tensor([[[1, 3, 2]]]), (1,))
    >>> padded(x, conv_geometry(x.shape, (1, 1, 2), axes=1, padding=[(0, 1)]))
    (tensor([[[1, 3, 2, 0]]]), (0,))
    """
    if layer.padding_mode != "zeros":
        return pad(x, layer.padding, layer.padding_mode), (0,) * layer.axes
    return (x, layer.before) if layer.is_even else (functional.pad(x, layer.sides), (0,) * layer.axes)


def is_half(x: Tensor) -> bool:
    """Whether sums over this tensor are taken in float32 by hand: the halves on the CPU.

    Examples
    --------
    >>> is_half(torch.ones(2).half()), is_half(torch.ones(2))
    (True, False)
    """
    return x.dtype in HALVES and x.device.type == "cpu"


def wide(*tensors: Tensor | None) -> list[Tensor | None]:
    """Return tensors in float32, and None where there is none.

    Examples
    --------
    >>> wide(torch.ones(2).half(), None)
    [tensor([1., 1.]), None]
    """
    return [None if tensor is None else tensor.float() for tensor in tensors]
