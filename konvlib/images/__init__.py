"""Layers of images: convolution with every argument, and pooling, in one to three dimensions.

Arrays are computed by `konvlib.images.arrays`, torch tensors by `konvlib.images.tensors`, on their own device;
`konvlib.images.naive` is the definition that both are held to.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from konvlib.dispatch import room
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.images import arrays as fast


def conv(
    axes: int,
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Any:
    r"""Convolve a batch as a layer does, over # spatial axes: correlate each channel with its kernel and add up.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} x[b, c, s\,i + d\,u - p]\; w[o, c, u]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``c`` runs over the channels
    of the group of ``o``. The kernel is not flipped.

    Parameters
    ----------
    x : array_like, shape (N, C, *size)
        The batch.
    w : array_like, shape (C_out, C // groups, *kernel_size)
        The weight.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    stride, dilation : int or sequence of int
        Samples from window to window, and from tap to tap (1 is dense); one for all axes, or one each.
    padding : int, "same", "valid", or sequence
        One for all sides; one per axis; one pair ``(before, after)`` per axis; ``"same"`` for as many outputs as inputs
        (stride 1; an odd total leaves one more after); ``"valid"`` for none.
    groups : int
        Into how many groups the channels fall, each convolved by itself; ``groups=C`` is depthwise.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What padding holds: zeros; the samples mirrored at the first and last, which are not repeated; these repeated;
        or the samples from the other end.

    Returns
    -------
    ndarray, shape (N, C_out, *output_size)
        With the dtype that NumPy gives the operands together. Integers wrap as NumPy's do: give a wider dtype, or
        ``object``, where sums are large.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, if no window fits, or if ``padding_mode`` cannot reach as far
        as ``padding``.

    Notes
    -----
    Integers and ``fractions.Fraction`` (dtype ``object``) are exact. What is quickest for the sizes is chosen among
    products of matrices and FFTs, which never changes what the sum above gives by more than rounding; the error of an
    FFT is relative to the largest values near, not to each.

    NaN and infinity reach those values whose sum contains them, and no others. The zeros of the padding are no terms
    of the sum: an infinite weight times padding is nothing, where other libraries may have NaN.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]])
    >>> conv2d(x, [[[[2, 1], [0, 3]]]])
    array([[[[ 5, 11],
             [16,  7]]]])
    >>> conv2d(x, np.ones((1, 1, 3, 3), dtype=int), padding=1, stride=2)
    array([[[[6, 6],
             [6, 7]]]])
    """
    return getattr(room(fast, _gpu, x, w, bias), f"conv{axes}d")(
        x,
        w,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
    )


conv1d, conv2d, conv3d = by_rank(conv, "conv#d")


def max_pool(
    axes: int,
    x: Any,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Any:
    r"""Take the largest sample of each window, over # spatial axes.

    .. math:: y[b, c, i] = \max_{u} x[b, c, s\,i + d\,u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, and ``p`` is the padding before. Padding takes no part.

    Parameters
    ----------
    x : array_like, shape (N, C, *size)
        The batch.
    kernel_size : int or sequence of int
        The window; one size for all axes, or one each.
    stride : int or sequence of int, optional
        Samples from window to window; by default ``kernel_size``, windows side by side.
    padding : int, "same", "valid", or sequence
        As in `konvlib.conv#d`, at most half of ``kernel_size``.
    dilation : int or sequence of int
        Samples from tap to tap.
    ceil_mode : bool
        Whether a last window may hang over the end, if it starts inside the input or the padding before it.

    Returns
    -------
    ndarray, shape (N, C, *output_size)
        With the dtype of ``x``.

    Raises
    ------
    TypeError
        If an argument has the wrong kind, or if ``x`` is complex.
    ValueError
        If a shape has the wrong rank, if no window fits, or if a window would lie in the padding alone.

    Notes
    -----
    A window that holds a NaN gives NaN.

    Examples
    --------
    >>> max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[3, 5]]]])
    >>> max_pool1d([[[1, 3, 2, 0, 4]]], 2, ceil_mode=True)
    array([[[3, 2, 4]]])
    """
    return getattr(room(fast, _gpu, x), f"max_pool{axes}d")(
        x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )


max_pool1d, max_pool2d, max_pool3d = by_rank(max_pool, "max_pool#d")


def avg_pool(
    axes: int,
    x: Any,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    r"""Take the mean of each window, over # spatial axes.

    .. math:: y[b, c, i] = \frac{1}{\lvert U_i \rvert} \sum_{u} x[b, c, s\,i + u - p]

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``U_i`` are the taps that
    count.

    Parameters
    ----------
    x : array_like, shape (N, C, *size)
        The batch.
    kernel_size, stride, padding, ceil_mode
        As in `konvlib.max_pool#d`.
    count_include_pad : bool
        Whether taps in the padding count, as zeros, or take no part. What a window of ``ceil_mode`` has beyond the
        padding never counts.

    Returns
    -------
    ndarray, shape (N, C, *output_size)
        With the dtype of ``x``; float64 for integers.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.max_pool#d`; complex numbers have a mean.

    Examples
    --------
    >>> avg_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2)
    array([[[[1.5, 2. ]]]])
    >>> avg_pool1d([[[1, 3, 2]]], 2, stride=1, padding=1)
    array([[[0.5, 2. , 2.5, 1. ]]])
    >>> avg_pool1d([[[1, 3, 2]]], 2, stride=1, padding=1, count_include_pad=False)
    array([[[1. , 2. , 2.5, 2. ]]])
    """
    return getattr(room(fast, _gpu, x), f"avg_pool{axes}d")(
        x, kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad
    )


avg_pool1d, avg_pool2d, avg_pool3d = by_rank(avg_pool, "avg_pool#d")


def _gpu() -> ModuleType:
    from konvlib.images import tensors as gpu

    return gpu
