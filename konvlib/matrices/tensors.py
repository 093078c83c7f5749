"""The convolution as a matrix on tensors: Triton kernels for columns on CUDA, else torch's own operations."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from konvlib.geometry import ConvGeometry
from konvlib.layers.aten import is_half, wide
from konvlib.matrices import aten, operators
from konvlib.registration import check_sizes_may_stay, is_plain, is_transformed, last_derivative
from konvlib.runtime import COMPLEX, HALVES, REALS, runs_kernel

DTYPES = REALS
SPARSE_DTYPES = (*REALS, *COMPLEX)
SPECTRAL_DTYPES = (*REALS, *COMPLEX)


def conv_matrix(w: Tensor, layer: ConvGeometry) -> Tensor:
    """Return the matrix of a convolution layer: a sparse CSR tensor on the device of ``w``; of halves in float32.

    Examples
    --------
    >>> from konvlib.geometry import matrix_geometry
    >>> w = torch.tensor([[[2.0, 1]]])
    >>> conv_matrix(w, matrix_geometry(w.shape, input_shape=(1, 4), stride=2)).to_dense()
    tensor([[2., 1., 0., 0.],
            [0., 0., 2., 1.]])
    """
    w = w.float() if is_half(w) else w
    shape = prod(layer.output_shape[1:]), prod(layer.input_shape[1:])
    index = torch.int32 if max(*shape, layer.products) < 2**31 else torch.int64
    per_row, columns, taps = _places(layer, index, w.device)
    first_channel = torch.arange(layer.out_channels, device=w.device) // (layer.out_channels // layer.groups)
    first_column = first_channel * (layer.weight_shape[1] * prod(layer.input_size))
    columns = (columns + first_column.to(index)[:, None]).flatten()
    starts = torch.zeros(shape[0] + 1, dtype=index, device=w.device)
    torch.cumsum(per_row.repeat(layer.out_channels), 0, out=starts[1:])
    entries = w.flatten(1)[:, taps].flatten()
    if is_transformed(w):
        raise TypeError(
            "w must be an ordinary tensor for a sparse matrix, got one that torch.func transforms; use conv"
        )
    make = _Sparse.apply if entries.requires_grad and last_derivative() else _sparse
    return make(entries, starts, columns, shape)


def _sparse(entries: Tensor, starts: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(starts, columns, entries, shape, check_invariants=False)


class _Sparse(torch.autograd.Function):
    """`_sparse` with a derivative that has derivatives: torch's own is right once."""

    @staticmethod
    def forward(ctx: Any, entries: Tensor, starts: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(starts, columns)
        ctx.set_materialize_grads(False)
        return _sparse(entries, starts, columns, shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        starts, columns = ctx.saved_tensors
        if grad.layout == torch.strided:
            rows = torch.repeat_interleave(starts.diff())
            return grad[rows, columns], None, None, None
        if not (torch.equal(grad.crow_indices(), starts) and torch.equal(grad.col_indices(), columns)):
            pattern = _sparse(torch.ones_like(columns, dtype=grad.dtype), starts, columns, tuple(grad.shape))
            grad = grad.sparse_mask(pattern)
        return grad.values(), None, None, None


def _places(layer: ConvGeometry, index: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where one output channel of the first group has its entries, row by row.

    Returns how many each row has, the column of each, and which of the weights of the channel it is.
    """
    source = torch.zeros(1, 1, dtype=index, device=device)
    inside = torch.ones(1, 1, dtype=torch.bool, device=device)
    each = zip(layer.input_size, layer.output_size, layer.kernel_size, strict=True)
    for axis, (size, windows, kernel) in enumerate(each):
        starts = torch.arange(windows, dtype=index, device=device) * layer.stride[axis] - layer.before[axis]
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


def im2col(x: Tensor, layer: ConvGeometry) -> Tensor:
    """Return each window of a batch of images as a column. The columns are contiguous.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> x = torch.tensor([[[1.0, 3, 2, 0]]])
    >>> im2col(x, im2col_geometry(x.shape, kernel_size=2, stride=2))
    tensor([[[1., 2.],
             [3., 0.]]])
    """
    if not runs_kernel(x):
        return aten.im2col(x, layer)
    plan = layer if layer.out_channels == layer.groups == 1 and layer.padding_mode == "zeros" else None
    return operators.im2col(x, *operators.windows_of(layer), plan=plan)


def col2im(cols: Tensor, layer: ConvGeometry) -> Tensor:
    """Return images with each column added up where its window came from. Halves are summed in float32.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> col2im(torch.tensor([[[1.0, 2], [3, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2, stride=2))
    tensor([[[1., 3., 2., 0.]]])
    """
    if not runs_kernel(cols):
        return aten.col2im(cols, layer)
    return operators.col2im(cols, *operators.windows_of(layer), layer.input_size, plan=layer)


def conv2d_im2col(x: Tensor, w: Tensor, bias: Tensor | None, layer: ConvGeometry) -> Tensor:
    """Convolve by `im2col` and one matrix product per group.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[[1.0, 3, 2], [2, 0, 1]]]]), torch.tensor([[[[2.0, 1], [0, 3]]]])
    >>> conv2d_im2col(x, w, None, conv_geometry(x.shape, w.shape, axes=2))
    tensor([[[[ 5., 11.]]]])
    """
    if is_half(x):
        return conv2d_im2col(*wide(x, w, bias), layer).to(x.dtype)
    check_sizes_may_stay()
    pointwise = prod(layer.kernel_size) * prod(layer.stride) == 1 and not any(layer.sides)
    cols = x.flatten(2) if pointwise else im2col(x, layer)
    # Copies of x's columns would cost most: the weight is expanded over the batch instead.
    y = w.reshape(layer.groups, -1, prod(layer.weight_shape[1:])) @ cols.unflatten(1, (layer.groups, -1))
    y = y.reshape(layer.output_shape)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def is_finite(w: Tensor) -> bool:
    """Whether a tensor holds neither infinity nor NaN; one that torch traces or batches is taken to be finite.

    Examples
    --------
    >>> is_finite(torch.ones(2)), is_finite(torch.tensor([1.0, float("inf")]))
    (True, False)
    """
    return not is_plain(w) or bool(w.detach().isfinite().all())


def circulant_singular_values(w: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the singular values of a layer with circular boundary; those of halves are float64.

    Examples
    --------
    >>> circulant_singular_values(torch.tensor([[[3.0, 1]]]), (2,))
    tensor([4., 2.])
    """
    axes = tuple(range(2, w.dim()))
    w = _fold(w.double() if w.dtype in HALVES else w, size)
    spectrum = torch.fft.fftn(w, dim=axes) if w.is_complex() else torch.fft.rfftn(w, dim=axes)
    values = torch.linalg.svdvals(spectrum.movedim((0, 1), (-2, -1)))
    if not w.is_complex():
        # Of a real weight's frequencies f and -f, whose matrices are conjugate, the transform gives one.
        values = torch.cat((values, values[..., 1 : (size[-1] + 1) // 2, :]), -2)
    return values.flatten().sort(descending=True).values


def _fold(w: Tensor, size: tuple[int, ...]) -> Tensor:
    """The kernel on a circle of ``size`` samples per axis: taps a whole turn apart are added."""
    for axis, n in enumerate(size, start=2):
        turns = -(-w.shape[axis] // n)
        sides = [0, 0] * (w.dim() - 1 - axis) + [0, turns * n - w.shape[axis]]
        w = torch.nn.functional.pad(w, sides).unflatten(axis, (turns, n)).sum(axis)
    return w
