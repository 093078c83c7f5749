"""The convolution as a matrix on tensors: im2col and col2im as torch operators, the rest by torch's own operations.

``konvlib::im2col`` and ``konvlib::col2im`` are Triton kernels on CUDA and ATen elsewhere. They are each other's
gradient, being linear and adjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch

from konvlib import geometry, tiles
from konvlib.geometry import ConvGeometry, Padding, PerAxis
from konvlib.images import aten
from konvlib.matrices import columns


def conv_matrix(
    w: torch.Tensor,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Return the matrix of a convolution layer: `konvlib.conv_matrix` on a tensor.

    A sparse CSR tensor on the device of ``w``, which is float32, float64, complex64 or complex128.

    Examples
    --------
    >>> conv_matrix(torch.tensor([[[2.0, 1]]]), (1, 4), stride=2).to_dense()
    tensor([[2., 1., 0., 0.],
            [0., 0., 2., 1.]])
    """
    if isinstance(w, torch.Tensor) and w.dtype == torch.float16:
        geometry.check_sparse_dtype(np.dtype(np.float16), "w")
    tiles.check_tensors((torch.float32, torch.float64, *tiles.COMPLEX), w=w)
    layer = geometry.matrix_geometry(
        w.shape, input_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    shape = prod(layer.output_shape[1:]), prod(layer.input_shape[1:])
    index = torch.int32 if max(*shape, layer.products) < 2**31 else torch.int64
    per_row, columns, taps = _places(layer, index, w.device)
    first_channel = torch.arange(layer.out_channels, device=w.device) // (layer.out_channels // groups)
    first_column = first_channel * (layer.weight_shape[1] * prod(layer.input_size))
    columns = (columns + first_column.to(index)[:, None]).flatten()
    starts = torch.zeros(shape[0] + 1, dtype=index, device=w.device)
    torch.cumsum(per_row.repeat(layer.out_channels), 0, out=starts[1:])
    return torch.sparse_csr_tensor(starts, columns, w.flatten(1)[:, taps].flatten(), shape, check_invariants=False)


def _places(
    layer: ConvGeometry, index: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where one output channel of the first group has its entries, row by row.

    Returns how many each row has, the column of each, and which of the weights of the channel it is.
    """
    source = torch.zeros(1, 1, dtype=index, device=device)
    inside = torch.ones(1, 1, dtype=torch.bool, device=device)
    each = zip(layer.input_size, layer.output_size, layer.kernel_size, strict=True)
    for axis, (size, windows, kernel) in enumerate(each):
        starts = torch.arange(windows, dtype=index, device=device) * layer.stride[axis] - layer.padding[axis][0]
        place = starts[:, None] + torch.arange(kernel, dtype=index, device=device) * layer.dilation[axis]
        place, good = place[:, None, :], ((place >= 0) & (place < size))[:, None, :]
        shape = len(source) * windows, -1
        source = (source[:, None, :, None] * size + place).reshape(shape)
        inside = (inside[:, None, :, None] & good).reshape(shape)
    depth, (rows, taps) = layer.weight_shape[1], source.shape
    channels = torch.arange(depth, dtype=index, device=device)[:, None] * prod(layer.input_size)
    weights = torch.arange(depth * taps, device=device).reshape(depth, taps).expand(rows, depth, taps)
    kept = inside[:, None, :].expand(rows, depth, taps)
    return depth * inside.sum(1), (source[:, None, :] + channels)[kept], weights[kept]


def im2col(
    x: torch.Tensor, kernel_size: PerAxis, *, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> torch.Tensor:
    """Write each window of a batch of images as a column: `konvlib.im2col` on a tensor.

    ``x`` is float16, bfloat16, float32 or float64, in any layout; the columns are contiguous. Differentiable as often
    as you like. Integers and complex numbers raise `TypeError`.

    Examples
    --------
    >>> im2col(torch.tensor([[[1.0, 3, 2, 0]]]), 2, stride=2)
    tensor([[[1., 2.],
             [3., 0.]]])
    """
    tiles.check_tensors(x=x)
    layer = geometry.im2col_geometry(x.shape, kernel_size, stride=stride, padding=padding, dilation=dilation)
    return cut(x, *_window(layer), layer.output_size)


def col2im(
    cols: torch.Tensor,
    output_size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> torch.Tensor:
    """Add each column up where its window came from: `konvlib.col2im` on a tensor.

    ``cols`` is as ``x`` in `im2col`; halves are summed in float32. The images are contiguous.

    Examples
    --------
    >>> col2im(torch.tensor([[[1.0, 2], [3, 0]]]), 4, 2, stride=2)
    tensor([[[1., 3., 2., 0.]]])
    """
    tiles.check_tensors(cols=cols)
    layer = geometry.col2im_geometry(
        cols.shape, output_size, kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    return add_up(cols, *_window(layer), layer.output_size, layer.input_size)


def _window(layer: ConvGeometry) -> tuple[Sequence[int], ...]:
    """Kernel, stride, padding and dilation as operators take them."""
    return layer.kernel_size, layer.stride, [side for pair in layer.padding for side in pair], layer.dilation


def conv2d_im2col(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Convolve by `im2col` and one matrix product per group: `konvlib.conv2d_im2col` on tensors.

    Under autocast the columns keep their dtype and the product has autocast's.

    Examples
    --------
    >>> conv2d_im2col(torch.tensor([[[[1.0, 3, 2], [2, 0, 1]]]]), torch.tensor([[[[2.0, 1], [0, 3]]]]))
    tensor([[[[ 5., 11.]]]])
    """
    tiles.check_tensors(x=x, w=w, bias=bias)
    layer = geometry.conv_geometry(
        x.shape,
        w.shape,
        None if bias is None else bias.shape,
        axes=2,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    pointwise = prod(layer.kernel_size) * prod(layer.stride) == 1 and not any(map(any, layer.padding))
    cols = x.flatten(2) if pointwise else cut(x, *_window(layer), layer.output_size)
    # Copies of x's columns would cost most: the weight is expanded over the batch instead.
    y = w.reshape(groups, -1, prod(layer.weight_shape[1:])) @ cols.unflatten(1, (groups, -1))
    y = y.reshape(layer.output_shape)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def circulant_singular_values(w: torch.Tensor, shape: PerAxis) -> torch.Tensor:
    """Return the singular values of a layer with circular boundary: `konvlib.circulant_singular_values` on a tensor.

    ``w`` is of any real or complex dtype; halves give float64. Differentiable where no two values coincide. The host
    waits for the device to learn whether ``w`` is finite.

    Examples
    --------
    >>> circulant_singular_values(torch.tensor([[[3.0, 1]]]), 2)
    tensor([4., 2.])
    """
    tiles.check_tensors((*tiles.REALS, *tiles.COMPLEX), w=w)
    size = geometry.circulant_geometry(w.detach().resolve_conj().cpu().to(_wide(w)).numpy(), shape)
    axes = tuple(range(2, w.dim()))
    w = _fold(w.to(_wide(w)) if w.dtype in tiles.HALVES else w, size)
    spectrum = torch.fft.fftn(w, dim=axes) if w.is_complex() else torch.fft.rfftn(w, dim=axes)
    values = torch.linalg.svdvals(spectrum.movedim((0, 1), (-2, -1)))
    if not w.is_complex():
        # Of a real weight's frequencies f and -f, whose matrices are conjugate, the transform gives one.
        values = torch.cat((values, values[..., 1 : (size[-1] + 1) // 2, :]), -2)
    return values.flatten().sort(descending=True).values


def _wide(w: torch.Tensor) -> torch.dtype:
    return torch.complex128 if w.is_complex() else torch.float64


def _fold(w: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The kernel on a circle of ``size`` samples per axis: taps a whole turn apart are added."""
    for axis, n in enumerate(size, start=2):
        turns = -(-w.shape[axis] // n)
        sides = [0, 0] * (w.dim() - 1 - axis) + [0, turns * n - w.shape[axis]]
        w = torch.nn.functional.pad(w, sides).unflatten(axis, (turns, n)).sum(axis)
    return w


@torch.library.custom_op("konvlib::im2col", mutates_args=())
def cut(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
) -> torch.Tensor:
    """Return what each tap shows of ``x`` in each window; ``padding`` is flat: before and after, axis by axis."""
    cols = x.new_empty((x.shape[0], x.shape[1] * prod(kernel), prod(windows)))
    if tiles.runs_kernel(x):
        columns.im2col(cols, x, kernel, stride, padding, dilation, windows)
        return cols
    rows = cols.view(*x.shape[:2], prod(kernel), *windows)
    shown = aten.padded(x, kernel, stride, padding, dilation, windows)
    for tap, samples in enumerate(aten.views(shown, kernel, stride, dilation, windows)):
        rows[:, :, tap] = samples
    return cols


@cut.register_fake
def _(x, kernel, stride, padding, dilation, windows):
    return x.new_empty((x.shape[0], x.shape[1] * prod(kernel), prod(windows)))


@torch.library.custom_op("konvlib::col2im", mutates_args=())
def add_up(
    cols: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    windows: Sequence[int],
    size: Sequence[int],
) -> torch.Tensor:
    """Return images of ``size`` in which each sample is the sum of what the columns hold for it."""
    x = cols.new_empty((cols.shape[0], cols.shape[1] // prod(kernel), *size))
    if tiles.runs_kernel(cols):
        columns.col2im(x, cols, kernel, stride, padding, dilation, windows)
        return x
    sums = cols.to(tiles.sum_dtype(cols.dtype)).reshape(*x.shape[:2], prod(kernel), *windows)
    return x.copy_(aten.scattered(iter(sums.unbind(2)), size, kernel, stride, padding, dilation))


@add_up.register_fake
def _(cols, kernel, stride, padding, dilation, windows, size):
    return cols.new_empty((cols.shape[0], cols.shape[1] // prod(kernel), *size))


def _keep_geometry(ctx, inputs, output):
    ctx.geometry, ctx.size = inputs[1:6], inputs[0].shape[2:]


def _add_up_gradient(ctx, dcols):
    return add_up(dcols, *ctx.geometry, ctx.size), *(None,) * 5


def _cut_gradient(ctx, dx):
    return cut(dx, *ctx.geometry), *(None,) * 6


cut.register_autograd(_add_up_gradient, setup_context=_keep_geometry)
add_up.register_autograd(_cut_gradient, setup_context=_keep_geometry)
cut.register_vmap(tiles.folded(cut, 1))
add_up.register_vmap(tiles.folded(add_up, 1))
