"""The transposed convolution, by sub-pixel phases, by zero insertion and by scattering, in one to three dimensions.

Arrays are computed by `konvlib.transposes.arrays`, torch tensors by `konvlib.transposes.tensors`, on their own device;
`konvlib.transposes.naive` is the definition that both are held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PerAxis,
    check_memory,
    conv_transpose_geometry,
    inserted_size,
    overlap_geometry,
)
from konvlib.transposes import arrays


def conv_transpose1d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Transpose the convolution layer, over one spatial axis: `konvlib.conv_transpose2d`, with one axis fewer.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_{s\,i + d\,u - p = j} x[b, c, i]\; w[c, o, u]

    ``x`` is ``(N, C_in, L)``, ``w`` is ``(C_in, C_out // groups, kernel_size)``, ``bias`` is ``(C_out,)``, the result
    ``(N, C_out, output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv_transpose2d : What the arguments mean, and how it is computed.

    Examples
    --------
    >>> conv_transpose1d([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2)
    array([[[ 2,  1, 10,  3, 16,  2,  8]]])
    """
    return _conv_transpose(1, x, w, bias, stride, padding, output_padding, output_size, dilation, groups)


def conv_transpose2d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Transpose the convolution layer, over two spatial axes: add up what each input sample scatters.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_{s\,i + d\,u - p = j} x[b, c, i]\; w[c, o, u]

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``c`` runs over the
    channels of the group of ``o``. Without bias, this is the adjoint of `konvlib.conv2d` with the same arguments: the
    map whose matrix is the transposed one.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C_in, *size) or (C_in, *size)
        The batch, or one sample without a batch: what the convolution has as its output.
    w : array_like or tensor, shape (C_in, C_out // groups, *kernel_size)
        The weight: that of the convolution, unchanged.
    bias : array_like or tensor, shape (C_out,), optional
        Added to each output channel.
    stride, dilation : int or sequence of int
        Those of the convolution; one for all axes, or one each.
    padding : int, "same", "same_upper", "same_lower", "valid", or sequence
        That of the convolution, in every form that `konvlib.conv2d` takes: so many samples are cut off here. ``"same"``
        needs stride 1 and gives as many outputs as inputs. ``"same_upper"`` and ``"same_lower"`` give ``size * stride``
        outputs, or ``output_size``: those of which the convolution with this padding makes ``size``.
    output_padding : int or sequence of int
        Samples more at the end of each axis, less than its stride or dilation. ``stride`` sizes of the convolution's
        input share one output size; this chooses among them. It pads no zeros: taps reach the new samples too.
    output_size : int or sequence of int, optional
        In place of ``output_padding``, which one of these sizes the result has; one for all axes, or one each.
    groups : int
        Into how many groups the channels fall, each transposed by itself.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        Along each axis ``(size - 1) * stride + dilation * (kernel_size - 1) + 1 - before - after + output_padding``
        samples. With the dtype that NumPy gives the operands together, in which all is computed. Integers wrap as
        NumPy's do: give a wider dtype, or ``object``, where sums are large.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, if ``output_padding`` is too large, if ``output_size`` is none
        of the possible sizes, if both are given, or if padding cuts everything off; it names the argument.

    Notes
    -----
    It is computed by sub-pixel phases. Outputs ``stride`` samples apart are made by the same taps of the kernel, so
    that each such phase is a convolution of ``x`` with stride 1.

    See Also
    --------
    konvlib.conv_transpose1d, konvlib.conv_transpose3d : The same over one axis, and over three.
    konvlib.conv_transpose_by_scattering, konvlib.conv_transpose_by_zero_insertion : The same by other algorithms.
    konvlib.conv2d : What it transposes.
    konvlib.conv2d_input_grad : The same map, told the size of its result.

    Examples
    --------
    >>> conv_transpose2d([[[[1, 3], [2, 0]]]], [[[[2, 1], [0, 3]]]])
    array([[[[2, 7, 3],
             [4, 5, 9],
             [0, 6, 0]]]])
    >>> conv_transpose1d([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2)
    array([[[ 2,  1, 10,  3, 16,  2,  8]]])
    >>> conv_transpose1d([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2, padding=1, output_padding=1)
    array([[[ 1, 10,  3, 16,  2,  8]]])
    >>> conv_transpose1d([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2, padding=1, output_size=6)
    array([[[ 1, 10,  3, 16,  2,  8]]])
    >>> conv_transpose1d([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2, padding="same_upper")
    array([[[ 2,  1, 10,  3, 16,  2]]])
    """
    return _conv_transpose(2, x, w, bias, stride, padding, output_padding, output_size, dilation, groups)


def conv_transpose3d(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Transpose the convolution layer, over three spatial axes: `konvlib.conv_transpose2d`, with one axis more.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_{s\,i + d\,u - p = j} x[b, c, i]\; w[c, o, u]

    ``x`` is ``(N, C_in, D, H, W)``, ``w`` is ``(C_in, C_out // groups, *kernel_size)``, ``bias`` is ``(C_out,)``, the
    result ``(N, C_out, *output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.conv_transpose2d : What the arguments mean, and how it is computed.

    Examples
    --------
    >>> conv_transpose3d([[[[[1, 3]]]]], [[[[[2]], [[1]]]]])
    array([[[[[2, 6]],
    <BLANKLINE>
             [[1, 3]]]]])
    """
    return _conv_transpose(3, x, w, bias, stride, padding, output_padding, output_size, dilation, groups)


def conv_transpose_by_zero_insertion(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Transpose the convolution layer by convolving ``x``, zeros inserted, with the flipped kernel.

    .. math:: y[b, o, j] = \text{bias}[o] + \sum_c \sum_u z[b, c, j + p - d\,(k - 1) + d\,u]\; w[c, o, k - 1 - u]

    Here ``z`` is ``insert_zeros(x, stride)``, with zeros all around. All but one of ``prod(stride)`` products are with
    an inserted zero.

    Parameters
    ----------
    x, w, bias, stride, padding, output_padding, output_size, dilation, groups
        As in `konvlib.conv_transpose2d`; ``w`` tells the number of axes, one to three.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        What `konvlib.conv_transpose2d` gives.

    Raises
    ------
    TypeError, ValueError
        As `konvlib.conv_transpose2d`.

    See Also
    --------
    konvlib.conv_transpose2d : What the arguments mean.
    konvlib.conv_transpose_by_scattering : The same by another algorithm.

    Examples
    --------
    >>> conv_transpose_by_zero_insertion([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2)
    array([[[ 2,  1, 10,  3, 16,  2,  8]]])
    """
    backend, operands, layer = _prepared(
        None, x, w, bias, stride, padding, output_padding, output_size, dilation, groups
    )
    return backend.conv_transpose_by_zero_insertion(*operands, layer)


def conv_transpose_by_scattering(
    x: Operand[T],
    w: Operand[T],
    bias: Operand[T] | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> T:
    r"""Transpose the convolution layer by one matrix product per group and `konvlib.col2im`.

    .. math:: y = \text{col2im}(W^\mathsf{T} x)

    Each input sample becomes one kernel's worth of products for each output channel, which are added up where they
    overlap.

    Parameters
    ----------
    x, w, bias, stride, padding, output_padding, output_size, dilation, groups
        As in `konvlib.conv_transpose2d`; ``w`` tells the number of axes, one to three.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        What `konvlib.conv_transpose2d` gives.

    Raises
    ------
    TypeError, ValueError
        As `konvlib.conv_transpose2d`.

    See Also
    --------
    konvlib.conv_transpose2d : What the arguments mean.
    konvlib.conv_transpose_by_zero_insertion : The same by another algorithm.

    Examples
    --------
    >>> conv_transpose_by_scattering([[[1, 3, 2]]], [[[2, 1, 4]]], stride=2)
    array([[[ 2,  1, 10,  3, 16,  2,  8]]])
    """
    backend, operands, layer = _prepared(
        None, x, w, bias, stride, padding, output_padding, output_size, dilation, groups
    )
    return backend.conv_transpose_by_scattering(*operands, layer)


def insert_zeros(x: Operand[T], stride: PerAxis) -> T:
    r"""Put ``stride - 1`` zeros between neighbouring samples of each spatial axis.

    .. math:: z[b, c, s\,i] = x[b, c, i]

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, with one to three spatial axes; or one sample, where ``stride`` has an entry for each axis.
    stride : int or sequence of int
        How far apart samples come to lie; one for all axes, or one each.

    Returns
    -------
    ndarray or tensor, shape (N, C, *((n - 1) * s + 1 for each axis)), without ``N`` if ``x`` is
        A copy, with the dtype of ``x``.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ``x`` has the wrong rank or is empty, or if a stride is less than 1.

    See Also
    --------
    conv_transpose2d : which is a layer on samples with zeros between them.
    konvlib.dilate : the same for the taps of a filter.

    Examples
    --------
    >>> insert_zeros([[[[1, 3], [2, 4]]]], (2, 3))
    array([[[[1, 0, 0, 3],
             [0, 0, 0, 0],
             [2, 0, 0, 4]]]])
    """
    backend, (x,), (steps, size) = prepared(
        arrays, _tensors, inserted_size, {"x": x}, {"stride": stride}, batched=Batched(("x",), "stride")
    )
    check_memory(x.shape[0] * x.shape[1] * prod(size) * x.dtype.itemsize, ["stride"])
    return backend.insert_zeros(x, steps)


def overlap_counts(
    size: int | Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    output_size: PerAxis | None = None,
    dilation: PerAxis = 1,
) -> np.ndarray:
    r"""Count how many taps of a transposed convolution reach each output sample.

    .. math:: n[j] = \bigl|\{(i, u) : s\,i + d\,u - p = j\}\bigr|

    Parameters
    ----------
    size : int or sequence of int
        The size of the input, which tells the number of axes, one to three; one integer for one axis.
    kernel_size, stride, padding, output_padding, output_size, dilation
        As in `konvlib.conv_transpose2d`.

    Returns
    -------
    ndarray of int64, shape output_size
        What a transposed convolution makes of ones with a kernel of ones.

    Raises
    ------
    TypeError, ValueError
        As `konvlib.conv_transpose2d`.

    See Also
    --------
    conv_transpose2d : the transposed convolution whose taps are counted.

    Notes
    -----
    Away from the borders all counts are alike exactly when each stride divides its kernel size and has no divisor in
    common with its dilation (or is 1). Where they differ, the result shows a checkerboard.

    Examples
    --------
    >>> overlap_counts(4, 3, stride=2)
    array([1, 1, 2, 1, 2, 1, 2, 1, 1])
    >>> overlap_counts(4, 4, stride=2, padding=1)
    array([1, 2, 2, 2, 2, 2, 2, 1])
    >>> overlap_counts((3, 2), 3, stride=2, padding=1)
    array([[1, 2, 1],
           [2, 4, 2],
           [1, 2, 1],
           [2, 4, 2],
           [1, 2, 1]])
    """
    layer = overlap_geometry(
        size,
        kernel_size,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        output_size=output_size,
        dilation=dilation,
    )
    check_memory(8 * layer.numbers, ("size", "kernel_size", "stride", "padding", "output_padding", "dilation"))
    return arrays.overlap_counts(layer)


def _conv_transpose(axes: int, x: Any, w: Any, bias: Any, *arguments: Any) -> Any:
    backend, operands, layer = _prepared(axes, x, w, bias, *arguments)
    return backend.conv_transpose(*operands, layer)


def _prepared(
    axes: int | None, x: Any, w: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, output_size: Any,
    dilation: Any, groups: Any,
) -> Any:  # fmt: skip
    return prepared(
        arrays, _tensors, conv_transpose_geometry, {"x": x, "w": w, "bias": bias},
        {"axes": axes, "stride": stride, "padding": padding, "output_padding": output_padding,
         "output_size": output_size, "dilation": dilation, "groups": groups},
        batched=Batched(("x",), "w" if axes is None else axes + 2),
    )  # fmt: skip


def _tensors() -> ModuleType:
    from konvlib.transposes import tensors

    return tensors
