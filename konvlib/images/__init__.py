"""Layers of images: convolution with every argument, and pooling, in one to three dimensions.

Arrays are computed by `konvlib.images.arrays`, torch tensors by `konvlib.images.tensors`, on their own device;
`konvlib.images.naive` is the definition that both are held to.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal, overload

import numpy as np

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PaddingMode,
    PerAxis,
    as_array,
    avg_pool_geometry,
    check_fits_floats,
    check_indices,
    conv_geometry,
    max_pool_geometry,
    max_unpool_geometry,
)
from konvlib.images import arrays


def conv1d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Convolve a batch of sequences as a layer does: `konvlib.conv2d` over one axis.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    ``x`` is ``(N, C, L)``, ``w`` is ``(C_out, C // groups, kernel_size)``, the result ``(N, C_out, output_size)``.
    ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d : What the other arguments mean, which errors there are, and how it is computed.

    Examples
    --------
    >>> conv1d([[[1, 3, 2, 0, 4]]], [[[2, 1]]], stride=2)
    array([[[5, 4]]])
    """
    return _conv(1, x, w, bias, stride, padding, dilation, groups, padding_mode)


def conv2d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Convolve a batch as a layer does, over two spatial axes: correlate each channel with its kernel and add up.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``c`` runs over the channels
    of the group of ``o``. The kernel is not flipped.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch.
    w : array_like or tensor, shape (C_out, C // groups, *kernel_size)
        The weight.
    bias : array_like or tensor, shape (C_out,), optional
        Added to each output channel.
    stride, dilation : int or sequence of int
        Samples from window to window, and from tap to tap (1 is dense); one for all axes, or one each.
    padding : int, "same", "same_upper", "same_lower", "valid", or sequence
        One for all sides; one per axis; one pair ``(before, after)`` per axis; ``"valid"`` for none; ``"same"``, as in
        PyTorch, for as many outputs as inputs (stride 1; an odd total leaves one more after). With any stride,
        ``"same_upper"`` and ``"same_lower"`` give ``ceil(size / stride)`` outputs with the least padding, of which an
        odd total leaves one more after, as TensorFlow's ``"SAME"``, or before.
    groups : int
        Into how many groups the channels fall, each convolved by itself; ``groups=C`` is depthwise.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What padding holds: zeros; the samples mirrored at the first and last, which are not repeated; these repeated;
        or the samples from the other end. Padding wider than the image goes on so: mirrored again, or round again.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        With the dtype that NumPy gives the operands together. Integers wrap as NumPy's do: give a wider dtype, or
        ``object``, where sums are large.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, or if no window fits.

    Notes
    -----
    Integers and ``fractions.Fraction`` (dtype ``object``) are exact. What is quickest for the sizes is chosen among
    products of matrices and FFTs, which never changes what the sum above gives by more than rounding; the error of an
    FFT is relative to the largest values near, not to each.

    NaN and infinity reach those values whose sum contains them, and no others. The zeros of the padding are no terms
    of the sum: an infinite weight times padding is nothing, where other libraries may have NaN.

    See Also
    --------
    konvlib.conv1d, konvlib.conv3d : The same over one axis, and over three.
    konvlib.conv_transpose2d : Its transpose.
    konvlib.conv2d_input_grad, konvlib.conv2d_weight_grad : Its gradients.
    konvlib.conv_matrix : It as a matrix.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]])
    >>> conv2d(x, [[[[2, 1], [0, 3]]]])
    array([[[[ 5, 11],
             [16,  7]]]])
    >>> conv2d(x[0], [[[[2, 1], [0, 3]]]])
    array([[[ 5, 11],
            [16,  7]]])
    >>> conv2d(x, np.ones((1, 1, 3, 3), dtype=int), padding=1, stride=2)
    array([[[[6, 6],
             [6, 7]]]])
    >>> conv1d([[[1, 3, 2, 0]]], [[[1, 10, 100]]], stride=2, padding="same_upper")
    array([[[231,   2]]])
    >>> conv1d([[[1, 3, 2, 0]]], [[[1, 10, 100]]], stride=2, padding="same_lower")
    array([[[310,  23]]])
    """
    return _conv(2, x, w, bias, stride, padding, dilation, groups, padding_mode)


def conv3d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Convolve a batch of volumes as a layer does: `konvlib.conv2d` over three axes.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    ``x`` is ``(N, C, D, H, W)``, ``w`` is ``(C_out, C // groups, *kernel_size)``, the result
    ``(N, C_out, *output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d : What the other arguments mean, which errors there are, and how it is computed.

    Examples
    --------
    >>> import numpy as np
    >>> conv3d(np.arange(8).reshape(1, 1, 2, 2, 2), np.ones((1, 1, 2, 1, 2), dtype=int))
    array([[[[[10],
              [18]]]]])
    """
    return _conv(3, x, w, bias, stride, padding, dilation, groups, padding_mode)


@overload
def max_pool1d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[False] = False,
) -> T: ...  # fmt: skip
@overload
def max_pool1d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[True],
) -> tuple[T, T]: ...  # fmt: skip
def max_pool1d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> T | tuple[T, T]:
    r"""Take the largest sample of each window of a batch of sequences: `konvlib.max_pool2d` over one axis.

    .. math:: y[b, c, i] = \max_{u} x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, L)``, the result ``(N, C, output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.max_pool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> max_pool1d([[[1, 3, 2, 0, 4]]], 2, ceil_mode=True)
    array([[[3, 2, 4]]])
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool2d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[False] = False,
) -> T: ...  # fmt: skip
@overload
def max_pool2d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[True],
) -> tuple[T, T]: ...  # fmt: skip
def max_pool2d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> T | tuple[T, T]:
    r"""Take the largest sample of each window, over two spatial axes.

    .. math:: y[b, c, i] = \max_{u} x[b, c, s\,i + d\,u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, and ``p`` is the padding before. Padding takes no part.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch.
    kernel_size : int or sequence of int
        The window; one size for all axes, or one each.
    stride : int or sequence of int, optional
        Samples from window to window; by default ``kernel_size``, windows side by side.
    padding : int, "same", "same_upper", "same_lower", "valid", or sequence
        As in `konvlib.conv2d`, at most half of what a window covers.
    dilation : int or sequence of int
        Samples from tap to tap.
    ceil_mode : bool
        Whether a last window may hang over the end, if it starts inside the input or the padding before it.
    return_indices : bool
        Whether to return where the largest samples lie, too.

    Returns
    -------
    ndarray or tensor, shape (N, C, *output_size) or (C, *output_size)
        With the dtype of ``x``.
    indices : ndarray or tensor of int64, shape (N, C, *output_size) or (C, *output_size)
        With ``return_indices``, as the second of a tuple: at which sample of its channel, counted in row-major order,
        each window has its largest; the first where several are as large, the last NaN where there are any. These are
        the samples that receive a gradient. `konvlib.max_unpool2d` takes them.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if ``x`` is complex.
    ValueError
        If a shape has the wrong rank, if no window fits, or if a window would lie in the padding alone.

    Notes
    -----
    A window that holds a NaN gives NaN.

    Arrays, and tensors with large windows, are pooled axis by axis, each window put together from pieces of 1, 2, 4, 8,
    ... samples: the cost grows with the number of digits of ``kernel_size`` only.

    See Also
    --------
    konvlib.max_pool1d, konvlib.max_pool3d : The same over one axis, and over three.
    konvlib.max_unpool2d : Puts the largest samples back.
    konvlib.max_pool2d_grad : Its gradient.
    konvlib.avg_pool2d : The mean of each window.

    Examples
    --------
    >>> max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[3, 5]]]])
    >>> max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2, return_indices=True)
    (array([[[[3, 5]]]]), array([[[[1, 7]]]]))
    >>> max_pool1d([[[1, 3, 2, 0, 4]]], 2, ceil_mode=True)
    array([[[3, 2, 4]]])
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool3d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[False] = False,
) -> T: ...  # fmt: skip
@overload
def max_pool3d(
    x: Operand[T], kernel_size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, return_indices: Literal[True],
) -> tuple[T, T]: ...  # fmt: skip
def max_pool3d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> T | tuple[T, T]:
    r"""Take the largest sample of each window of a batch of volumes: `konvlib.max_pool2d` over three axes.

    .. math:: y[b, c, i] = \max_{u} x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, D, H, W)``, the result ``(N, C, *output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.max_pool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool3d(np.arange(8).reshape(1, 1, 2, 2, 2), (2, 1, 2))
    array([[[[[5],
              [7]]]]])
    """
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_unpool1d(
    x: Operand[T],
    indices: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
) -> T:
    r"""Put the largest samples of a max pooling over one axis back: `konvlib.max_unpool2d`.

    .. math:: y[b, c, \text{indices}[b, c, i]] = x[b, c, i]

    See Also
    --------
    konvlib.max_unpool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> max_unpool1d([[[3, 5]]], [[[1, 2]]], 2, output_size=5)
    array([[[0, 3, 5, 0, 0]]])
    """
    return _max_unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Operand[T],
    indices: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
) -> T:
    r"""Put the largest samples of a max pooling back where they were, and zeros everywhere else.

    .. math:: y[b, c, \text{indices}[b, c, i]] = x[b, c, i]

    A channel of the result is flattened here: an index counts its samples in row-major order.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *output_size of the pooling) or (C, *output_size of the pooling)
        What is put back, as `konvlib.max_pool2d` returns it.
    indices : array_like or tensor of integers, with the shape of ``x``
        Where to, as `konvlib.max_pool2d` returns it with ``return_indices``.
    kernel_size, stride, padding
        Those of the pooling; they say only how large the result is.
    output_size : int or sequence of int, optional
        The size of the pooling's input, which they do not tell: sizes that differ by less than ``stride`` share an
        output size. By default ``(n - 1) * stride + kernel_size`` without the padding. The batch and the channels may
        stand before it, as in a shape.

    Returns
    -------
    ndarray or tensor, shape (N, C, *output_size) or (C, *output_size)
        With the dtype of ``x``. Where indices meet, the last in row-major order stays, and alone receives a gradient.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if ``indices`` are no integers.
    ValueError
        If shapes do not go together, if no pooling of ``output_size`` has this output, or if an index lies outside the
        result. Indices of tensors are looked at unless a transform or a trace forbids it; then PyTorch refuses them.

    See Also
    --------
    konvlib.max_unpool1d, konvlib.max_unpool3d : The same over one axis, and over three.
    konvlib.max_pool2d : The pooling.
    konvlib.max_pool2d_grad : Adds up where indices meet.

    Examples
    --------
    >>> x, indices = max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2, return_indices=True)
    >>> max_unpool2d(x, indices, 2)
    array([[[[0, 3, 0, 0],
             [0, 0, 0, 5]]]])
    """
    return _max_unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Operand[T],
    indices: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
) -> T:
    r"""Put the largest samples of a max pooling over three axes back: `konvlib.max_unpool2d`.

    .. math:: y[b, c, \text{indices}[b, c, i]] = x[b, c, i]

    See Also
    --------
    konvlib.max_unpool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> max_unpool3d([[[[[3]]]]], [[[[[1]]]]], (1, 1, 2))
    array([[[[[0, 3]]]]])
    """
    return _max_unpool(3, x, indices, kernel_size, stride, padding, output_size)


def avg_pool1d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Take the mean of each window of a batch of sequences: `konvlib.avg_pool2d` over one axis.

    .. math:: y[b, c, i] = \frac{1}{\lvert U_i \rvert} \sum_{u} x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, L)``, the result ``(N, C, output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.avg_pool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> avg_pool1d([[[1, 3, 2]]], 2, stride=1, padding=1, count_include_pad=False)
    array([[[1. , 2. , 2.5, 2. ]]])
    """
    return _avg_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Take the mean of each window, over two spatial axes.

    .. math:: y[b, c, i] = \frac{1}{\lvert U_i \rvert} \sum_{u} x[b, c, s\,i + d\,u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``U_i`` are the taps that
    count.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch.
    kernel_size, stride, padding, dilation, ceil_mode
        As in `konvlib.max_pool2d`.
    count_include_pad : bool
        Whether taps in the padding count, as zeros, or take no part, as in TensorFlow. Taps that a window of
        ``ceil_mode`` has beyond the padding never count. With dilation too, taps are what is counted, not the samples
        between them.
    divisor_override : int, optional
        By what sums are divided, in place of the number of taps that count: 1 gives the sums.

    Returns
    -------
    ndarray or tensor, shape (N, C, *output_size) or (C, *output_size)
        With the dtype of ``x``; float64 for integers. Halves are summed and divided as float32, and rounded once.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.max_pool2d`, and if ``divisor_override`` is no positive integer; complex numbers have a mean.

    Notes
    -----
    Arrays, and tensors with dilation or large windows, are summed axis by axis, each window put together from pieces of
    1, 2, 4, 8, ... samples: the cost grows with the number of digits of ``kernel_size`` only. Nothing is subtracted, so
    that no digits are lost, and NaN and infinity stay in the windows that hold them.

    See Also
    --------
    konvlib.avg_pool1d, konvlib.avg_pool3d : The same over one axis, and over three.
    konvlib.avg_pool2d_grad : Its gradient.
    konvlib.max_pool2d : The largest sample of each window.

    Examples
    --------
    >>> avg_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[1.5, 2. ]]]])
    >>> avg_pool1d([[[1, 3, 2]]], 2, stride=1, padding=1)
    array([[[0.5, 2. , 2.5, 1. ]]])
    >>> avg_pool1d([[[1, 3, 2]]], 2, stride=1, padding=1, count_include_pad=False)
    array([[[1. , 2. , 2.5, 2. ]]])
    >>> avg_pool1d([[[1, 3, 2, 0]]], 2, stride=1, dilation=2, divisor_override=1)
    array([[[3., 3.]]])
    """
    return _avg_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    x: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Take the mean of each window of a batch of volumes: `konvlib.avg_pool2d` over three axes.

    .. math:: y[b, c, i] = \frac{1}{\lvert U_i \rvert} \sum_{u} x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, D, H, W)``, the result ``(N, C, *output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.avg_pool2d : What the arguments mean, and which errors there are.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool3d(np.arange(8).reshape(1, 1, 2, 2, 2), (2, 1, 2))
    array([[[[[2.5],
              [4.5]]]]])
    """
    return _avg_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override)


def _conv(
    axes: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, padding_mode: Any
) -> Any:
    backend, (x, w, bias), layer = prepared(
        arrays, _tensors, conv_geometry, {"x": x, "w": w, "bias": bias},
        {"axes": axes, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "padding_mode": padding_mode},
        batched=Batched(("x",), axes + 2),
    )  # fmt: skip
    return backend.conv(x, w, bias, layer)


def _max_pool(
    axes: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, return_indices: Any
) -> Any:
    backend, (x,), pool = prepared(
        arrays, _tensors, max_pool_geometry, {"x": x},
        {"kernel_size": kernel_size, "axes": axes, "stride": stride, "padding": padding, "dilation": dilation,
         "ceil_mode": ceil_mode, "return_indices": return_indices},
        ordered=("x",), batched=Batched(("x",), axes + 2),
    )  # fmt: skip
    return backend.max_pool_and_indices(x, pool) if return_indices else backend.max_pool(x, pool)


def _max_unpool(axes: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    indices = _places(indices, x)
    backend, (x,), pool = prepared(
        arrays, _tensors, max_unpool_geometry, {"x": x},
        {"kernel_size": kernel_size, "axes": axes, "indices_shape": tuple(indices.shape), "stride": stride,
         "padding": padding, "output_size": output_size},
        batched=Batched(("x",), axes + 2, along=("indices_shape",)),
    )  # fmt: skip
    indices = indices if indices.ndim == x.ndim else indices[None]
    if isinstance(indices, np.ndarray) and indices.size:
        check_indices(int(indices.min()), int(indices.max()), pool)
    return backend.max_unpool(x, indices, pool)


def _places(indices: Any, x: Any) -> Any:
    """Indices as an array or tensor of integers, whichever ``x`` is."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        if not isinstance(indices, torch.Tensor):
            raise TypeError(f"indices must be a torch tensor like x, got {type(indices).__name__}")
        if indices.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"indices must be of dtype int32 or int64, got {indices.dtype}")
        if indices.device != x.device:
            raise ValueError(f"x and indices must be on one device, got {x.device} and {indices.device}")
        return indices
    if torch is not None and isinstance(indices, torch.Tensor):
        raise TypeError("indices must be an array like x, got a torch tensor")
    array = as_array(indices, "indices")
    if array.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got dtype {array.dtype}")
    return array


def _avg_pool(
    axes: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any,
    count_include_pad: Any, divisor_override: Any,
) -> Any:  # fmt: skip
    backend, (x,), pool = prepared(
        arrays, _tensors, avg_pool_geometry, {"x": x},
        {"kernel_size": kernel_size, "axes": axes, "stride": stride, "padding": padding, "dilation": dilation,
         "ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor_override},
        batched=Batched(("x",), axes + 2),
    )  # fmt: skip
    if isinstance(x, np.ndarray):
        check_fits_floats(x, "x")
    return backend.avg_pool(x, pool)


def _tensors() -> ModuleType:
    from konvlib.images import tensors

    return tensors
