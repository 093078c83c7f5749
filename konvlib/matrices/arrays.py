"""The convolution as a matrix with NumPy and SciPy: index arithmetic, strided views, BLAS and FFTs."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from konvlib.geometry import ConvGeometry, spectral_dtype

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def conv_matrix(w: np.ndarray, layer: ConvGeometry) -> csr_array:
    """Return the matrix of a convolution layer.

    The rows of all output channels have their entries in the same places, but for the channels of their group.

    Examples
    --------
    >>> from konvlib.geometry import matrix_geometry
    >>> conv_matrix(np.array([[[2, 1]]]), matrix_geometry((1, 1, 2), input_shape=(1, 4), stride=2)).toarray()
    array([[2, 1, 0, 0],
           [0, 0, 2, 1]])
    """
    # Here and not at the top: only those who ask for the matrix wait for the import of sparse arrays.
    from scipy.sparse import csr_array

    shape = prod(layer.output_shape[1:]), prod(layer.input_shape[1:])
    index = np.int32 if max(*shape, prod(layer.output_shape) * prod(layer.weight_shape[1:])) < 2**31 else np.int64
    per_row, columns, taps = _places(layer, index)
    depth, width = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    first_channel = np.arange(layer.out_channels, dtype=index) // width * depth
    starts = np.zeros(shape[0] + 1, dtype=index)
    np.cumsum(np.tile(per_row, layer.out_channels), out=starts[1:])
    columns = columns + first_channel[:, np.newaxis] * prod(layer.input_size)
    entries = np.take(w.reshape(layer.out_channels, -1), taps, axis=1)
    return csr_array((entries.ravel(), columns.ravel(), starts), shape=shape)


def _places(layer: ConvGeometry, index: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where one output channel of the first group has its entries, row by row.

    Returns how many each row has, the column of each, and which of the weights of the channel it is.
    """
    source, inside = np.zeros((1, 1), dtype=index), np.ones((1, 1), dtype=bool)
    for axis, n in enumerate(layer.input_size):
        windows = np.arange(layer.output_size[axis], dtype=index) * layer.stride[axis] - layer.padding[axis][0]
        place = windows[:, np.newaxis] + np.arange(layer.kernel_size[axis], dtype=index) * layer.dilation[axis]
        place, good = place[:, np.newaxis, :], ((place >= 0) & (place < n))[:, np.newaxis, :]
        shape = len(source) * len(place), -1
        source = (source[:, np.newaxis, :, np.newaxis] * n + place).reshape(shape)
        inside = (inside[:, np.newaxis, :, np.newaxis] & good).reshape(shape)
    depth, (rows, taps) = layer.weight_shape[1], source.shape
    channel = np.arange(depth, dtype=index)[:, np.newaxis]
    columns = source[:, np.newaxis, :] + channel * prod(layer.input_size)
    weights = np.broadcast_to(np.arange(depth * taps).reshape(depth, taps), (rows, depth, taps))
    if inside.all():
        return np.full(rows, depth * taps), columns.ravel(), weights.ravel()
    kept = np.broadcast_to(inside[:, np.newaxis, :], columns.shape)
    return depth * inside.sum(axis=1), columns[kept], weights[kept]


def im2col(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Write each window of a batch of images as a column.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> im2col(np.array([[[1, 3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2, stride=2))
    array([[[1, 2],
            [3, 0]]])
    """
    cols = gather(x, layer)
    return cols.copy() if np.may_share_memory(cols, x) else cols


def gather(x: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Return the windows of ``x`` as columns, a view of ``x`` where no sample is needed twice.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> x = np.array([[[1, 3, 2, 0]]])
    >>> gather(x, im2col_geometry(x.shape, kernel_size=1)).base is x
    True
    """
    if any(before or after for before, after in layer.padding):
        x = np.pad(x, ((0, 0), (0, 0), *layer.padding))
    if prod(layer.kernel_size) == prod(layer.stride) == 1:
        return x.reshape(layer.batch, layer.in_channels, prod(layer.output_size))
    steps = [size * step for size, step in zip(x.strides[2:], layer.stride, strict=True)]
    gaps = [size * gap for size, gap in zip(x.strides[2:], layer.dilation, strict=True)]
    shape = (*x.shape[:2], *layer.kernel_size, *layer.output_size)
    windows = as_strided(x, shape, (*x.strides[:2], *gaps, *steps), writeable=False)
    return windows.reshape(layer.batch, layer.in_channels * prod(layer.kernel_size), prod(layer.output_size))


def col2im(cols: np.ndarray, layer: ConvGeometry) -> np.ndarray:
    """Add each column up where its window came from, tap by tap.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> col2im(np.array([[[1, 3, 2], [3, 2, 0]]]), im2col_geometry((1, 1, 4), kernel_size=2))
    array([[[1, 6, 4, 0]]])
    """
    cols = cols.reshape(layer.batch, layer.in_channels, *layer.kernel_size, *layer.output_size)
    sizes = [n + before + after for n, (before, after) in zip(layer.input_size, layer.padding, strict=True)]
    padded = np.zeros((layer.batch, layer.in_channels, *sizes), dtype=cols.dtype)
    each = list(zip(layer.dilation, layer.stride, layer.output_size, strict=True))
    for u in np.ndindex(layer.kernel_size):
        places = [slice(d * tap, d * tap + s * (o - 1) + 1, s) for tap, (d, s, o) in zip(u, each, strict=True)]
        padded[(..., *places)] += cols[(slice(None), slice(None), *u)]
    inside = [slice(before, before + n) for n, (before, _) in zip(layer.input_size, layer.padding, strict=True)]
    return np.ascontiguousarray(padded[(..., *inside)])


def conv2d_im2col(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, layer: ConvGeometry) -> np.ndarray:
    """Convolve by `im2col` and one matrix product per group.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]]), np.array([[[[2, 1], [0, 3]]]])
    >>> conv2d_im2col(x, w, np.array([10]), conv_geometry(x.shape, w.shape, (1,), axes=2))
    array([[[[15, 21],
             [26, 17]]]])
    """
    dtype = np.result_type(x, w, *([] if bias is None else [bias]))
    rows = prod(layer.weight_shape[1:])
    cols = gather(x.astype(dtype, copy=False), layer).reshape(layer.batch, layer.groups, rows, prod(layer.output_size))
    y = w.astype(dtype, copy=False).reshape(layer.groups, -1, rows) @ cols
    y = y.reshape(layer.output_shape)
    if bias is not None:
        y += bias.astype(dtype, copy=False)[:, np.newaxis, np.newaxis]
    return y


def is_finite(w: np.ndarray) -> bool:
    """Whether an array of machine numbers holds neither infinity nor NaN.

    Examples
    --------
    >>> is_finite(np.array([1, 3])), is_finite(np.array([1, np.inf]))
    (True, False)
    """
    return bool(np.isfinite(w).all())


def circulant_singular_values(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the singular values of a layer with circular boundary.

    For a real weight, frequencies ``f`` and ``-f`` have conjugate matrices, so half of them are enough.

    Examples
    --------
    >>> circulant_singular_values(np.array([[[3, 1]]]), (2,))
    array([4., 2.])
    """
    real = w.dtype.kind != "c"
    single = spectral_dtype(w.dtype) == np.float32
    w = w.astype((np.float32 if single else np.float64) if real else (np.complex64 if single else np.complex128))
    from scipy import fft as transforms  # here, so that importing konvlib does not load it

    transform = transforms.rfftn if real else transforms.fftn
    spectrum = np.moveaxis(transform(_fold(w, size), axes=range(2, w.ndim)), (0, 1), (-2, -1))
    values = np.linalg.svd(spectrum, compute_uv=False)
    if real:
        twins = slice(1, (size[-1] + 1) // 2)
        values = np.concatenate((values, values[..., twins, :]), axis=-2)
    return np.sort(values, axis=None)[::-1]


def _fold(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The kernel on a circle of ``size`` samples per axis: taps a whole turn apart are added."""
    for axis, n in enumerate(size, start=2):
        turns = -(-w.shape[axis] // n)
        margin = [(0, 0)] * w.ndim
        margin[axis] = (0, turns * n - w.shape[axis])
        w = np.pad(w, margin)
        w = w.reshape(*w.shape[:axis], turns, n, *w.shape[axis + 1 :]).sum(axis=axis)
    return w
