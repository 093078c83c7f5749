"""The convolution layer as a matrix: sparse, as a product with im2col, and diagonal in the Fourier basis.

Arrays are computed by `konvlib.matrices.arrays`, torch tensors by `konvlib.matrices.tensors`, on their own device;
`konvlib.matrices.naive` is the definition that both are held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import ModuleType
from typing import Any

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PerAxis,
    as_array,
    check_finite,
    check_memory,
    check_sparse_dtype,
    check_spectral_dtype,
    check_values,
    circulant_geometry,
    col2im_geometry,
    conv_geometry,
    im2col_geometry,
    matrix_geometry,
    most_entries,
)
from konvlib.matrices import arrays


def conv_matrix(
    w: Operand[Any],
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Any:
    r"""Return the sparse matrix of a convolution layer with zero padding, over one to three axes.

    .. math:: K_{(o, i),\,(c, j)} = w[o, c, u] \quad\text{where}\quad j = s\,i + d\,u - p

    A row is an output and a column an input, each flattened with the last axis fastest, so that
    ``conv_matrix(w, x[0].shape) @ x[0].ravel()`` is ``conv2d(x, w)[0].ravel()``. The transpose is the matrix of the
    transposed convolution and of the gradient by the input.

    Parameters
    ----------
    w : array_like or tensor, shape (C_out, C // groups, *kernel_size)
        The weight.
    input_shape : sequence of int, (C, *size)
        The shape of one input.
    stride, padding, dilation, groups
        As in `konvlib.conv2d`.

    Returns
    -------
    scipy.sparse.csr_array, or sparse CSR tensor, shape (C_out * prod(output_size), C * prod(size))
        With the dtype of ``w``; halves give float32. There is an entry for each tap of each window that
        meets the input, also where the weight is zero; the entries of a row are sorted by column. A tensor is
        differentiable by ``w`` in reverse mode, also twice; torch has no other modes of sparse values.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if ``w`` holds Python objects, with which sparse arrays do not compute.
    ValueError
        If shapes, channels or groups do not go together, or if no window fits; it names the argument.

    Notes
    -----
    Without padding, each row has ``prod(w.shape[1:])`` entries. A stride of ``s`` keeps the rows of the matrix of
    stride 1 whose output index is a multiple of ``s`` along its axis. For each pair of channels, the matrix of stride 1
    in two dimensions is a Toeplitz matrix of blocks that are Toeplitz matrices themselves.

    See Also
    --------
    konvlib.conv2d : The layer.
    konvlib.conv2d_im2col : The layer as one product of dense matrices.
    konvlib.circulant_singular_values : Singular values of the matrix, with circular boundary.

    Examples
    --------
    >>> conv_matrix([[[[2, 1], [0, 3]]]], (1, 3, 3)).toarray()
    array([[2, 1, 0, 0, 3, 0, 0, 0, 0],
           [0, 2, 1, 0, 0, 3, 0, 0, 0],
           [0, 0, 0, 2, 1, 0, 0, 3, 0],
           [0, 0, 0, 0, 2, 1, 0, 0, 3]])
    >>> import numpy as np
    >>> matrix = conv_matrix(np.ones((6, 1, 3)), (3, 100), groups=3, padding=1)
    >>> matrix.shape, matrix.nnz
    ((600, 300), 1788)
    """
    w = w if hasattr(w, "is_meta") else as_array(w, "w")
    check_sparse_dtype(w.dtype, "w")
    check_values(w, "w")
    backend, (w,), layer = prepared(
        arrays, _tensors, matrix_geometry, {"w": w},
        {"input_shape": input_shape, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
        dtypes="SPARSE_DTYPES",
    )  # fmt: skip
    # An entry has a number and at least 4 bytes that tell its column.
    check_memory(most_entries(layer) * (w.dtype.itemsize + 4), ("input_shape", "stride", "padding", "dilation"))
    return backend.conv_matrix(w, layer)


def im2col(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> T:
    r"""Write each window of a batch of images as a column, over one to three axes.

    .. math:: \text{cols}[b, (c, u), i] = x[b, c, s\,i + d\,u - p]

    Rows run over channels and then taps, columns over windows, the last axis fastest: the order of
    ``torch.nn.functional.unfold``.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch, where ``kernel_size`` has an entry for each axis: one size for all
        axes does not tell how many they are.
    kernel_size : int or sequence of int
        Taps, for all axes or one each.
    stride, padding, dilation
        As in `konvlib.conv2d`; padding holds zeros.

    Returns
    -------
    ndarray or tensor, shape (N, C * prod(kernel_size), prod(output_size)), without ``N`` if ``x`` is
        A contiguous copy, with the dtype of ``x``.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ``x`` has the wrong rank, or if no window fits; it names the argument.

    See Also
    --------
    konvlib.col2im : Its adjoint.
    konvlib.conv2d_im2col : A layer made of it.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]])
    >>> im2col(x, 2)
    array([[[1, 3, 2, 0],
            [3, 2, 0, 1],
            [2, 0, 0, 4],
            [0, 1, 4, 2]]])
    """
    backend, (x,), layer = prepared(
        arrays, _tensors, im2col_geometry, {"x": x},
        {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation},
        batched=Batched(("x",), "kernel_size"),
    )  # fmt: skip
    check_memory(layer.batch * layer.products * x.dtype.itemsize, ("kernel_size", "stride", "padding", "dilation"))
    return backend.im2col(x, layer)


def col2im(
    cols: Operand[T],
    output_size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> T:
    r"""Add each column up where its window came from: the adjoint of `im2col`, over one to three axes.

    .. math:: x[b, c, j] = \sum_{s\,i + d\,u - p = j} \text{cols}[b, (c, u), i]

    This does not undo `im2col`: ``col2im(im2col(x))`` is ``x`` times the number of windows that each sample lies in.

    Parameters
    ----------
    cols : array_like or tensor, shape (N, C * prod(kernel_size), L) or (C * prod(kernel_size), L)
        The columns, one for each of ``L`` windows.
    output_size : int or sequence of int
        The size of the images, which tells the number of axes; one integer for one axis.
    kernel_size, stride, padding, dilation
        As in `im2col`.

    Returns
    -------
    ndarray or tensor, shape (N, C, *output_size) or (C, *output_size)
        Contiguous, with the dtype of ``cols``. Integers wrap as NumPy's do; tensors of halves are summed in float32.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ``cols`` has not the rows and columns that `im2col` would give; it names the argument.

    See Also
    --------
    konvlib.im2col : Of which this is the adjoint, and the gradient.
    konvlib.conv_transpose_by_scattering : A transposed convolution made of it.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]])
    >>> col2im(im2col(x, 2), (3, 3), 2)
    array([[[[1, 6, 2],
             [4, 0, 2],
             [0, 8, 2]]]])
    """
    backend, (cols,), layer = prepared(
        arrays, _tensors, col2im_geometry, {"cols": cols},
        {"output_size": output_size, "kernel_size": kernel_size, "stride": stride, "padding": padding,
         "dilation": dilation},
        batched=Batched(("cols",), 3),
    )  # fmt: skip
    return backend.col2im(cols, layer)


def conv2d_im2col(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Convolve as `konvlib.conv2d` does, by `im2col` and one matrix product per group.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{(c, u)} w[o, (c, u)]\; \text{cols}[b, (c, u), i]

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, H, W) or (C, H, W)
        The batch, or one sample without a batch.
    w : array_like or tensor, shape (C_out, C // groups, kernel height, kernel width)
        The weight.
    bias : array_like or tensor, shape (C_out,), optional
        Added to each output channel.
    stride, padding, dilation, groups
        As in `konvlib.conv2d`; padding holds zeros.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        With the dtype that NumPy gives the operands together, in which all is computed. Integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, or if no window fits; it names the argument.

    Notes
    -----
    The columns take up to ``prod(kernel_size)`` times the memory of ``x``; a 1x1 kernel with stride 1 takes none.
    Under torch's autocast the columns keep their dtype, and the product has autocast's.

    See Also
    --------
    konvlib.conv2d : The layer, by what is quickest.
    konvlib.im2col : The columns.

    Examples
    --------
    >>> conv2d_im2col([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]], [[[[2, 1], [0, 3]]]])
    array([[[[ 5, 11],
             [16,  7]]]])
    """
    backend, (x, w, bias), layer = prepared(
        arrays, _tensors, conv_geometry, {"x": x, "w": w, "bias": bias},
        {"axes": 2, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
        batched=Batched(("x",), 4),
    )  # fmt: skip
    return backend.conv2d_im2col(x, w, bias, layer)


def circulant_singular_values(w: Operand[T], shape: PerAxis) -> T:
    r"""Return the singular values of a convolution layer with circular boundary and stride 1, largest first.

    .. math:: \{\sigma(K)\} = \bigcup_f \{\sigma(\hat w[f])\}, \qquad
        \hat w[f]_{o,c} = \sum_u w[o, c, u]\, e^{-2 \pi \mathrm{i} \sum_a f_a u_a / n_a}

    The Fourier transform turns the matrix of the layer into one small ``(C_out, C_in)`` matrix for each frequency;
    being unitary, it leaves singular values as they are (Sedghi, Gupta and Long 2019).

    Parameters
    ----------
    w : array_like or tensor, shape (C_out, C_in, *kernel_size)
        The weight, over one to three axes. Where a kernel is larger than the image, its taps go round.
    shape : int or sequence of int
        The spatial size of the images, for all axes or one each.

    Returns
    -------
    ndarray or tensor, shape (min(C_out, C_in) * prod(shape),)
        Falling; float32 for float32 and complex64, else float64. The first is the layer's operator norm, the largest
        factor by which it stretches an image.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if ``w`` holds Python objects.
    ValueError
        If ``w`` has the wrong rank or is not finite, or if a size is less than 1. The values of a tensor that torch
        traces or batches are not looked at.

    Notes
    -----
    For a real ``w`` the matrices of ``f`` and ``-f`` are conjugate and share their values. So each value comes twice,
    save those of the frequencies that are their own negative: 0, and half the size where that is even. Those are one
    per odd axis times two per even axis; together they give ``min(C_out, C_in)`` values each. Further values coincide
    only where the weight makes them.

    Of a tensor they are differentiable where no two coincide. The host waits for the device to learn whether ``w`` is
    finite.

    See Also
    --------
    konvlib.conv_matrix : The matrix, with zeros around the image.

    Examples
    --------
    >>> circulant_singular_values([[[2, 1]]], 2)
    array([3., 1.])
    >>> import numpy as np
    >>> circulant_singular_values(np.ones((2, 1, 3, 2)), (2, 2)).round(3)
    array([8.485, 2.828, 0.   , 0.   ])
    """
    backend, (w,), size = prepared(
        arrays, _tensors, circulant_geometry, {"w": w}, {"shape": shape}, dtypes="SPECTRAL_DTYPES"
    )
    check_spectral_dtype(w.dtype, "w")
    check_memory(8 * w.shape[0] * w.shape[1] * prod(size), ["shape"])
    check_finite(backend.is_finite(w), "w")
    return backend.circulant_singular_values(w, size)


def _tensors() -> ModuleType:
    from konvlib.matrices import tensors

    return tensors
