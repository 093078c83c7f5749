"""Poolings of images, in one to three dimensions: the largest sample of each window, and the mean.

`konvlib.images` has these public functions too; the convolutions stand there.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, overload

import numpy as np

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import Padding, PerAxis, avg_pool_geometry, check_fits_floats, max_pool_geometry
from konvlib.images import arrays


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
