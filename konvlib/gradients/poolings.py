"""Gradients of poolings, in one to three dimensions.

`konvlib.gradients` has these public functions too; the gradients of convolutions stand there.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import Padding, PerAxis, avg_pool_grad_geometry, check_fits_floats, max_pool_grad_geometry
from konvlib.gradients import arrays


def max_pool1d_grad(
    x: Operand[T],
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> T:
    r"""Differentiate a max pooling over one axis by its input: `konvlib.max_pool2d_grad`, with one axis fewer.

    .. math:: dx[b, c, j] = \sum_{i:\; m(i) = j} dy[b, c, i], \qquad
        m(i) = \operatorname{argmax}_{j = s\,i + d\,u - p} x[b, c, j]

    ``x`` is ``(N, C, input_size)``, ``dy`` is ``(N, C, output_size)``, the result ``(N, C, input_size)``.
    ``N`` may be missing.

    See Also
    --------
    konvlib.max_pool2d_grad : What the arguments mean.

    Examples
    --------
    >>> max_pool1d_grad([[[1, 3, 3, 2, 5]]], [[[10, 20]]], 3, stride=2)
    array([[[ 0, 10,  0,  0, 20]]])
    """
    return _max_pool_grad(1, x, dy, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d_grad(
    x: Operand[T],
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> T:
    r"""Differentiate a max pooling over two spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{i:\; m(i) = j} dy[b, c, i], \qquad
        m(i) = \operatorname{argmax}_{j = s\,i + d\,u - p} x[b, c, j]

    A window has one largest sample ``m(i)``, which receives the whole gradient of the window: the first in row-major
    order where several are as large, and the last NaN where there are any, as in PyTorch.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *input_size) or (C, *input_size)
        The input.
    dy : array_like or tensor, shape (N, C, *output_size) or (C, *output_size)
        The gradient by the output.
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the pooling, as in `konvlib.max_pool2d`.

    Returns
    -------
    ndarray or tensor, shape (N, C, *input_size) or (C, *input_size)
        With the dtype of ``dy``, since ``x`` says only where it goes; integers wrap as NumPy's do. Halves are summed as
        float32, and rounded once.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If no window fits, if a padding is more than half a window, or if ``dy`` is no output of such a pooling; it
        names the argument.

    Notes
    -----
    It is linear in ``dy``. Which sample is a window's largest does not change with small steps of ``x``, so its
    derivative by ``x`` is zero.

    See Also
    --------
    konvlib.max_pool1d_grad, konvlib.max_pool3d_grad : The same over one axis, and over three.
    konvlib.max_pool2d : The pooling.

    Examples
    --------
    >>> max_pool2d_grad([[[[1, 3, 3, 0], [2, 0, 1, 5]]]], [[[[10, 20]]]], 2)
    array([[[[ 0, 10,  0,  0],
             [ 0,  0,  0, 20]]]])
    """
    return _max_pool_grad(2, x, dy, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d_grad(
    x: Operand[T],
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> T:
    r"""Differentiate a max pooling over three axes by its input: `konvlib.max_pool2d_grad`, with one axis more.

    .. math:: dx[b, c, j] = \sum_{i:\; m(i) = j} dy[b, c, i], \qquad
        m(i) = \operatorname{argmax}_{j = s\,i + d\,u - p} x[b, c, j]

    ``x`` is ``(N, C, *input_size)``, ``dy`` is ``(N, C, *output_size)``, the result ``(N, C, *input_size)``.
    ``N`` may be missing.

    See Also
    --------
    konvlib.max_pool2d_grad : What the arguments mean.

    Examples
    --------
    >>> max_pool3d_grad([[[[[1, 3], [4, 2]]]]], [[[[[10], [20]]]]], (1, 1, 2))
    array([[[[[ 0, 10],
              [20,  0]]]]])
    """
    return _max_pool_grad(3, x, dy, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d_grad(
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Differentiate an average pooling over one axis by its input: `konvlib.avg_pool2d_grad`, with one axis fewer.

    .. math:: dx[b, c, j] = \sum_{(i, u):\; s\,i + d\,u - p = j} \frac{dy[b, c, i]}{n(i)}

    ``dy`` is ``(N, C, output_size)``, the result ``(N, C, input_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.avg_pool2d_grad : What the arguments mean.

    Examples
    --------
    >>> avg_pool1d_grad([[[3, 6]]], 3, input_size=5, stride=2)
    array([[[1., 1., 3., 2., 2.]]])
    """
    return _avg_pool_grad(
        1, dy, kernel_size, input_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool2d_grad(
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Differentiate an average pooling over two spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{(i, u):\; s\,i + d\,u - p = j} \frac{dy[b, c, i]}{n(i)}

    Here ``n(i)`` is the number by which window ``i`` divides its sum. The pooling is linear, and this its transpose.

    Parameters
    ----------
    dy : array_like or tensor, shape (N, C, *output_size) or (C, *output_size)
        The gradient by the output.
    input_size : int or sequence of int
        The size of the input, which ``dy`` does not tell.
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
        Those of the pooling, as in `konvlib.avg_pool2d`.

    Returns
    -------
    ndarray or tensor, shape (N, C, *input_size) or (C, *input_size)
        With the dtype of ``dy``; float64 if it holds integers. Halves are divided and summed as float32, and rounded
        once.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If no window fits, if a padding is more than half a window, or if ``dy`` is no output of such a pooling; it
        names the argument.

    See Also
    --------
    konvlib.avg_pool1d_grad, konvlib.avg_pool3d_grad : The same over one axis, and over three.
    konvlib.avg_pool2d : The pooling.

    Examples
    --------
    >>> avg_pool2d_grad([[[[4, 8]]]], 2, input_size=(2, 5))
    array([[[[1., 1., 2., 2., 0.],
             [1., 1., 2., 2., 0.]]]])
    """
    return _avg_pool_grad(
        2, dy, kernel_size, input_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d_grad(
    dy: Operand[T],
    kernel_size: PerAxis,
    *,
    input_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    r"""Differentiate an average pooling over three axes by its input: `konvlib.avg_pool2d_grad`, with one axis more.

    .. math:: dx[b, c, j] = \sum_{(i, u):\; s\,i + d\,u - p = j} \frac{dy[b, c, i]}{n(i)}

    ``dy`` is ``(N, C, *output_size)``, the result ``(N, C, *input_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.avg_pool2d_grad : What the arguments mean.

    Examples
    --------
    >>> avg_pool3d_grad([[[[[2]], [[6]]]]], (1, 1, 2), input_size=(2, 1, 2))
    array([[[[[1., 1.]],
    <BLANKLINE>
             [[3., 3.]]]]])
    """
    return _avg_pool_grad(
        3, dy, kernel_size, input_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
    )


def _max_pool_grad(
    axes: int, x: Any, dy: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Any:
    backend, (x, dy), pool = prepared(
        arrays, _tensors, max_pool_grad_geometry, {"x": x, "dy": dy},
        {"kernel_size": kernel_size, "axes": axes, "stride": stride, "padding": padding, "dilation": dilation,
         "ceil_mode": ceil_mode},
        ordered=("x",), batched=Batched(("x", "dy"), axes + 2),
    )  # fmt: skip
    return backend.max_pool_grad(x, dy, pool)


def _avg_pool_grad(
    axes: int, dy: Any, kernel_size: Any, input_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any,
    count_include_pad: Any, divisor_override: Any,
) -> Any:  # fmt: skip
    backend, (dy,), pool = prepared(
        arrays, _tensors, avg_pool_grad_geometry, {"dy": dy},
        {"kernel_size": kernel_size, "axes": axes, "input_size": input_size, "stride": stride, "padding": padding,
         "dilation": dilation, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad,
         "divisor_override": divisor_override},
        batched=Batched(("dy",), axes + 2),
    )  # fmt: skip
    if isinstance(dy, np.ndarray):
        check_fits_floats(dy, "dy")
    return backend.avg_pool_grad(dy, pool)


def _tensors() -> ModuleType:
    from konvlib.gradients import tensors

    return tensors
