"""Gradients of the layers: of convolution by its input, weight and bias, and of both poolings by their input.

A gradient here takes ``dy``, the gradient of some number by the layer's output, and gives that number's gradient by
what went in. Arrays are computed by `konvlib.gradients.arrays`, torch tensors by `konvlib.gradients.tensors`, on
their own device; `konvlib.gradients.naive` is the definition.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from konvlib.dispatch import room
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.gradients import arrays as fast


def conv_input_grad(
    axes: int,
    dy: Any,
    w: Any,
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Any:
    r"""Differentiate a convolution over # spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``o`` runs over the
    output channels of the group of ``c``. It is the transpose of the convolution: the two have the same products, added
    up by the other index.

    Parameters
    ----------
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.
    w : array_like, shape (C_out, C // groups, *kernel_size)
        The weight.
    input_size : int or sequence of int
        The size of the input, which ``dy`` does not tell: ``stride`` sizes share an output size.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution, as in `konvlib.conv#d`.

    Returns
    -------
    ndarray, shape (N, C, *input_size)
        Zero where no window reaches. With the dtype that NumPy gives the operands together; integers wrap as NumPy's
        do.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, or if ``dy`` is no output of such a convolution; it names the
        argument.

    Notes
    -----
    Nothing is conjugated. The gradient by complex numbers, as PyTorch defines it, is that of ``np.conj(w)``.

    With a ``padding_mode`` other than zeros, a sample also receives what the padding that shows it receives.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_input_grad([[[[1, 2], [0, 1]]]], [[[[2, 1], [0, 3]]]], input_size=3)
    array([[[[2, 5, 2],
             [0, 5, 7],
             [0, 0, 3]]]])
    >>> conv2d_input_grad(np.ones((1, 1, 1, 2), dtype=int), [[[[2, 1]]]], input_size=(2, 4), stride=2)
    array([[[[2, 1, 2, 1],
             [0, 0, 0, 0]]]])
    """
    return getattr(room(fast, _gpu, dy, w), f"conv{axes}d_input_grad")(
        dy,
        w,
        input_size=input_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )


conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = by_rank(conv_input_grad, "conv#d_input_grad")


def conv_weight_grad(
    axes: int,
    x: Any,
    dy: Any,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Any:
    r"""Differentiate a convolution over # spatial axes by its weight.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``c`` counts from the first
    channel of the group of ``o``. It is itself a convolution: ``dy`` is the kernel, ``u`` the output index, and stride
    and dilation have traded places.

    Parameters
    ----------
    x : array_like, shape (N, C, *input_size)
        The input.
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.
    kernel_size : int or sequence of int
        The size of the kernel, which ``x`` and ``dy`` do not tell with a stride.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution, as in `konvlib.conv#d`.

    Returns
    -------
    ndarray, shape (C_out, C // groups, *kernel_size)
        With the dtype that NumPy gives the operands together; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, or if ``dy`` is no output of such a convolution; it names the
        argument.

    Notes
    -----
    Nothing is conjugated. The gradient by complex numbers, as PyTorch defines it, is that of ``np.conj(x)``.

    Examples
    --------
    >>> conv2d_weight_grad([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]], [[[[1, 2], [0, 1]]]], kernel_size=2)
    array([[[[7, 8],
             [6, 4]]]])
    """
    return getattr(room(fast, _gpu, x, dy), f"conv{axes}d_weight_grad")(
        x,
        dy,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )


conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = by_rank(conv_weight_grad, "conv#d_weight_grad")


def conv_bias_grad(axes: int, dy: Any) -> Any:
    r"""Differentiate a convolution over # spatial axes by its bias.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Parameters
    ----------
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.

    Returns
    -------
    ndarray, shape (C_out,)
        With the dtype of ``dy``; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If ``dy`` holds no numbers.
    ValueError
        If it has another rank, or if an axis other than the batch is empty.

    Examples
    --------
    >>> conv2d_bias_grad([[[[1, 2], [0, 1]], [[5, 0], [0, 1]]]])
    array([4, 6])
    """
    return getattr(room(fast, _gpu, dy), f"conv{axes}d_bias_grad")(dy)


conv1d_bias_grad, conv2d_bias_grad, conv3d_bias_grad = by_rank(conv_bias_grad, "conv#d_bias_grad")


def max_pool_grad(
    axes: int,
    x: Any,
    dy: Any,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Any:
    r"""Differentiate a max pooling over # spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{i:\; m(i) = j} dy[b, c, i], \qquad
        m(i) = \operatorname{argmax}_{j = s\,i + d\,u - p} x[b, c, j]

    A window has one largest sample ``m(i)``, which receives the whole gradient of the window: the first in row-major
    order where several are as large, and the last NaN where there are any, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, *input_size)
        The input.
    dy : array_like, shape (N, C, *output_size)
        The gradient by the output.
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the pooling, as in `konvlib.max_pool#d`.

    Returns
    -------
    ndarray, shape (N, C, *input_size)
        With the dtype of ``dy``, since ``x`` says only where it goes; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If no window fits, if a padding is more than half the kernel, or if ``dy`` is no output of such a pooling; it
        names the argument.

    Examples
    --------
    >>> max_pool2d_grad([[[[1, 3, 3, 0], [2, 0, 1, 5]]]], [[[[10, 20]]]], 2)
    array([[[[ 0, 10,  0,  0],
             [ 0,  0,  0, 20]]]])
    """
    return getattr(room(fast, _gpu, x, dy), f"max_pool{axes}d_grad")(
        x, dy, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )


max_pool1d_grad, max_pool2d_grad, max_pool3d_grad = by_rank(max_pool_grad, "max_pool#d_grad")


def avg_pool_grad(
    axes: int,
    dy: Any,
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    r"""Differentiate an average pooling over # spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{(i, u):\; s\,i + u - p = j} \frac{dy[b, c, i]}{n(i)}

    Here ``n(i)`` is the number by which window ``i`` divides its sum. The pooling is linear, and this its transpose.

    Parameters
    ----------
    dy : array_like, shape (N, C, *output_size)
        The gradient by the output.
    input_size : int or sequence of int
        The size of the input, which ``dy`` does not tell.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        Those of the pooling, as in `konvlib.avg_pool#d`.

    Returns
    -------
    ndarray, shape (N, C, *input_size)
        With the dtype of ``dy``; float64 if it holds integers.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If no window fits, if a padding is more than half the kernel, or if ``dy`` is no output of such a pooling; it
        names the argument.

    Examples
    --------
    >>> avg_pool2d_grad([[[[4, 8]]]], 2, input_size=(2, 5))
    array([[[[1., 1., 2., 2., 0.],
             [1., 1., 2., 2., 0.]]]])
    """
    return getattr(room(fast, _gpu, dy), f"avg_pool{axes}d_grad")(
        dy,
        kernel_size,
        input_size=input_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


avg_pool1d_grad, avg_pool2d_grad, avg_pool3d_grad = by_rank(avg_pool_grad, "avg_pool#d_grad")


def _gpu() -> ModuleType:
    from konvlib.gradients import tensors as gpu

    return gpu
