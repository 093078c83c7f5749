"""Layers of images: convolution with every argument, and pooling, in one to three dimensions.

Arrays are computed by ``konvlib.images.arrays``, torch tensors by ``konvlib.images.tensors``, on their own device;
``konvlib.images.naive`` is the definition that both are held to.

Convolution stands here, the poolings in ``konvlib.images.poolings``, what undoes them in
``konvlib.images.unpoolings``; all are imported from here.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import Padding, PaddingMode, PerAxis, conv_geometry
from konvlib.images import arrays
from konvlib.images.poolings import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from konvlib.images.unpoolings import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


_BATCHED = {axes: Batched(("x",), axes + 2) for axes in (1, 2, 3)}


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


def _conv(
    axes: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, padding_mode: Any
) -> Any:
    backend, (x, w, bias), layer = prepared(
        arrays, _tensors, conv_geometry, {"x": x, "w": w, "bias": bias},
        {"axes": axes, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "padding_mode": padding_mode},
        batched=_BATCHED[axes],
    )  # fmt: skip
    return backend.conv(x, w, bias, layer)


@cache
def _tensors() -> ModuleType:
    from konvlib.images import tensors

    return tensors
