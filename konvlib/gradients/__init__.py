"""Gradients of the layers: of convolution by its input, weight and bias, and of poolings by their input.

A gradient here takes ``dy``, the gradient of some number by the layer's output, and gives that number's gradient by
what went in. Arrays are computed by ``konvlib.gradients.arrays``, torch tensors by ``konvlib.gradients.tensors``, on
their own device; ``konvlib.gradients.naive`` is the definition that both are held to.

Those of convolution stand here, those of poolings in ``konvlib.gradients.poolings``; all are imported from here.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PaddingMode,
    PerAxis,
    bias_grad_shape,
    input_grad_geometry,
    weight_grad_geometry,
)
from konvlib.gradients import arrays
from konvlib.gradients.poolings import (
    avg_pool1d_grad,
    avg_pool2d_grad,
    avg_pool3d_grad,
    max_pool1d_grad,
    max_pool2d_grad,
    max_pool3d_grad,
)

__all__ = [
    "avg_pool1d_grad",
    "avg_pool2d_grad",
    "avg_pool3d_grad",
    "conv1d_bias_grad",
    "conv1d_input_grad",
    "conv1d_weight_grad",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv3d_bias_grad",
    "conv3d_input_grad",
    "conv3d_weight_grad",
    "max_pool1d_grad",
    "max_pool2d_grad",
    "max_pool3d_grad",
]


def conv1d_input_grad(
    dy: Operand[T],
    w: Operand[T],
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over one axis by its input: `konvlib.conv2d_input_grad`, with one axis fewer.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    ``dy`` is ``(N, C_out, output_size)``, ``w`` is ``(C_out, C // groups, kernel_size)``, the result
    ``(N, C, input_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_input_grad : What the arguments mean.

    Examples
    --------
    >>> conv1d_input_grad([[[1, 5]]], [[[2, 3]]], input_size=3)
    array([[[ 2, 13, 15]]])
    """
    return _conv_input_grad(1, dy, w, input_size, stride, padding, dilation, groups, padding_mode)


def conv2d_input_grad(
    dy: Operand[T],
    w: Operand[T],
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over two spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``o`` runs over the
    output channels of the group of ``c``. It is the transpose of the convolution: the two have the same products, added
    up by the other index.

    Parameters
    ----------
    dy : array_like or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        The gradient by the output.
    w : array_like or tensor, shape (C_out, C // groups, *kernel_size)
        The weight.
    input_size : int or sequence of int
        The size of the input, which ``dy`` does not tell: ``stride`` sizes share an output size.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution, as in `konvlib.conv2d`.

    Returns
    -------
    ndarray or tensor, shape (N, C, *input_size) or (C, *input_size)
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

    See Also
    --------
    konvlib.conv1d_input_grad, konvlib.conv3d_input_grad : The same over one axis, and over three.
    konvlib.conv2d : The layer.
    konvlib.conv2d_weight_grad, konvlib.conv2d_bias_grad : Its other gradients.
    konvlib.conv_transpose2d : The same map, told by ``output_padding`` how large its result is.

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
    return _conv_input_grad(2, dy, w, input_size, stride, padding, dilation, groups, padding_mode)


def conv3d_input_grad(
    dy: Operand[T],
    w: Operand[T],
    *,
    input_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over three axes by its input: `konvlib.conv2d_input_grad`, with one axis more.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; w[o, c, u]

    ``dy`` is ``(N, C_out, *output_size)``, ``w`` is ``(C_out, C // groups, *kernel_size)``, the result
    ``(N, C, *input_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_input_grad : What the arguments mean.

    Examples
    --------
    >>> import numpy as np
    >>> conv3d_input_grad(np.ones((1, 1, 2, 1, 1), dtype=int), [[[[[2, 1]]]]], input_size=(2, 1, 2))
    array([[[[[2, 1]],
    <BLANKLINE>
             [[2, 1]]]]])
    """
    return _conv_input_grad(3, dy, w, input_size, stride, padding, dilation, groups, padding_mode)


def conv1d_weight_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over one axis by its weight: `konvlib.conv2d_weight_grad`, with one axis fewer.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, input_size)``, ``dy`` is ``(N, C_out, output_size)``, the result
    ``(C_out, C // groups, kernel_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_weight_grad : What the arguments mean.

    Examples
    --------
    >>> conv1d_weight_grad([[[4, 1, 3]]], [[[1, 5]]], kernel_size=2)
    array([[[ 9, 16]]])
    """
    return _conv_weight_grad(1, x, dy, kernel_size, stride, padding, dilation, groups, padding_mode)


def conv2d_weight_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over two spatial axes by its weight.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``c`` counts from the first
    channel of the group of ``o``. It is itself a convolution: ``dy`` is the kernel, ``u`` the output index, and stride
    and dilation have traded places.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *input_size) or (C, *input_size)
        The input.
    dy : array_like or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        The gradient by the output.
    kernel_size : int or sequence of int
        The size of the kernel, which ``x`` and ``dy`` do not tell with a stride.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution, as in `konvlib.conv2d`.

    Returns
    -------
    ndarray or tensor, shape (C_out, C // groups, *kernel_size)
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

    See Also
    --------
    konvlib.conv1d_weight_grad, konvlib.conv3d_weight_grad : The same over one axis, and over three.
    konvlib.conv2d : The layer.
    konvlib.conv2d_input_grad, konvlib.conv2d_bias_grad : Its other gradients.

    Examples
    --------
    >>> conv2d_weight_grad([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]], [[[[1, 2], [0, 1]]]], kernel_size=2)
    array([[[[7, 8],
             [6, 4]]]])
    """
    return _conv_weight_grad(2, x, dy, kernel_size, stride, padding, dilation, groups, padding_mode)


def conv3d_weight_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> T:
    r"""Differentiate a convolution over three axes by its weight: `konvlib.conv2d_weight_grad`, with one axis more.

    .. math:: dw[o, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; x[b, c, s\,i + d\,u - p]

    ``x`` is ``(N, C, *input_size)``, ``dy`` is ``(N, C_out, *output_size)``, the result
    ``(C_out, C // groups, *kernel_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_weight_grad : What the arguments mean.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(8).reshape(1, 1, 2, 2, 2)
    >>> conv3d_weight_grad(x, np.ones((1, 1, 2, 2, 1), dtype=int), kernel_size=(1, 1, 2))
    array([[[[[12, 16]]]]])
    """
    return _conv_weight_grad(3, x, dy, kernel_size, stride, padding, dilation, groups, padding_mode)


def conv1d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a convolution over one axis by its bias: `konvlib.conv2d_bias_grad`, with one axis fewer.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    ``dy`` is ``(N, C_out, output_size)``, the result ``(C_out,)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_bias_grad : The same over two axes.

    Examples
    --------
    >>> conv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    return _conv_bias_grad(1, dy)


def conv2d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a convolution over two spatial axes by its bias.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Parameters
    ----------
    dy : array_like or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        The gradient by the output.

    Returns
    -------
    ndarray or tensor, shape (C_out,)
        With the dtype of ``dy``; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If ``dy`` holds no numbers.
    ValueError
        If it has another rank, or if an axis other than the batch is empty.

    See Also
    --------
    konvlib.conv1d_bias_grad, konvlib.conv3d_bias_grad : The same over one axis, and over three.
    konvlib.conv2d : The layer.
    konvlib.conv2d_input_grad, konvlib.conv2d_weight_grad : Its other gradients.

    Examples
    --------
    >>> conv2d_bias_grad([[[[1, 2], [0, 1]], [[5, 0], [0, 1]]]])
    array([4, 6])
    """
    return _conv_bias_grad(2, dy)


def conv3d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a convolution over three axes by its bias: `konvlib.conv2d_bias_grad`, with one axis more.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    ``dy`` is ``(N, C_out, *output_size)``, the result ``(C_out,)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv2d_bias_grad : The same over two axes.

    Examples
    --------
    >>> conv3d_bias_grad([[[[[1, 2], [0, 1]]]]])
    array([4])
    """
    return _conv_bias_grad(3, dy)


def _conv_input_grad(
    axes: int, dy: Any, w: Any, input_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: Any,
) -> Any:  # fmt: skip
    backend, (dy, w), layer = prepared(
        arrays, _tensors, input_grad_geometry, {"dy": dy, "w": w},
        {"axes": axes, "input_size": input_size, "stride": stride, "padding": padding, "dilation": dilation,
         "groups": groups, "padding_mode": padding_mode},
        batched=Batched(("dy",), axes + 2),
    )  # fmt: skip
    return backend.conv_input_grad(dy, w, layer)


def _conv_weight_grad(
    axes: int, x: Any, dy: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: Any,
) -> Any:  # fmt: skip
    backend, (x, dy), layer = prepared(
        arrays, _tensors, weight_grad_geometry, {"x": x, "dy": dy},
        {"axes": axes, "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation,
         "groups": groups, "padding_mode": padding_mode},
        batched=Batched(("x", "dy"), axes + 2, gives_batch=False),
    )  # fmt: skip
    return backend.conv_weight_grad(x, dy, layer)


def _conv_bias_grad(axes: int, dy: Any) -> Any:
    backend, (dy,), shape = prepared(
        arrays, _tensors, bias_grad_shape, {"dy": dy}, {"axes": axes},
        batched=Batched(("dy",), axes + 2, gives_batch=False),
    )  # fmt: skip
    return backend.conv_bias_grad(dy, shape)


def _tensors() -> ModuleType:
    from konvlib.gradients import tensors

    return tensors
