"""Unpoolings of images, in one to three dimensions: the largest samples of a max pooling, put back where they were.

`konvlib.images` has these public functions too; the poolings stand in `konvlib.images.poolings`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import Padding, PerAxis, as_array, check_indices, max_unpool_geometry
from konvlib.images import arrays


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
        output size. By default ``(n - 1) * stride + kernel_size`` without the padding, and ``n * stride``, the largest,
        where the padding is ``"same_upper"`` or ``"same_lower"``. The channels, or the batch and the channels, may
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
        If shapes do not go together, if no pooling of ``output_size`` has this output, if the channels or the batch
        before it are not those of ``x``, or if an index lies outside the result. Indices of tensors are looked at
        unless a transform or a trace forbids it; then PyTorch refuses them.

    See Also
    --------
    konvlib.max_unpool1d, konvlib.max_unpool3d : The same over one axis, and over three.
    konvlib.max_pool2d : The pooling.
    konvlib.max_pool2d_grad : Adds up where indices meet.

    Examples
    --------
    >>> from konvlib import max_pool1d, max_pool2d
    >>> x, indices = max_pool2d([[[[1, 3, 2, 0], [2, 0, 1, 5]]]], 2, return_indices=True)
    >>> max_unpool2d(x, indices, 2)
    array([[[[0, 3, 0, 0],
             [0, 0, 0, 5]]]])
    >>> x, indices = max_pool1d([[[1, 3, 2, 0, 4]]], 2, padding="same_upper", return_indices=True)
    >>> max_unpool1d(x, indices, 2, padding="same_upper", output_size=(1, 1, 5))
    array([[[0, 3, 2, 0, 4]]])
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


def _tensors() -> ModuleType:
    from konvlib.images import tensors

    return tensors
