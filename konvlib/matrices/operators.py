"""im2col and col2im as torch operators over Triton kernels: each other's gradient, being linear and adjoint.

``padding`` is flat here: before and after, axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from konvlib.geometry import ConvGeometry
from konvlib.layers.padding import flat
from konvlib.matrices import aten, columns
from konvlib.registration import Operator

Ints = Sequence[int]


def windows_of(layer: ConvGeometry) -> tuple[Ints, ...]:
    """Return kernel, stride, padding, dilation and the number of windows as the operators take them.

    Examples
    --------
    >>> from konvlib.geometry import im2col_geometry
    >>> windows_of(im2col_geometry((1, 1, 9), kernel_size=3, stride=2, padding=[(1, 0)]))
    ((3,), (2,), [1, 0], (1,), (4,))
    """
    return layer.kernel_size, layer.stride, flat(layer.padding), layer.dilation, layer.output_size


def _layer(
    batch: int, channels: int, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, windows: Ints
) -> ConvGeometry:
    """The windows that an operator's arguments describe, as of a convolution with one output channel."""
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    regular = tuple(kernel), tuple(stride), pairs, tuple(dilation), "zeros", tuple(windows)
    return ConvGeometry(batch, channels, 1, 1, tuple(size), *regular)


def _im2col_composite(x: Tensor, *windows: Ints) -> Tensor:
    return aten.im2col(x, _layer(*x.shape[:2], x.shape[2:], *windows))


def _col2im_composite(cols: Tensor, *rest: Ints) -> Tensor:
    *windows, size = rest
    return aten.col2im(cols, _layer(cols.shape[0], cols.shape[1] // prod(windows[0]), size, *windows))


def _fake_im2col(x, kernel, stride, padding, dilation, windows) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1] * prod(kernel), prod(windows)))


def _fake_col2im(cols, kernel, stride, padding, dilation, windows, size) -> Tensor:
    return cols.new_empty((cols.shape[0], cols.shape[1] // prod(kernel), *size))


def _run_im2col(x, *windows) -> Tensor:
    cols = _fake_im2col(x, *windows)
    columns.im2col(cols, x, *windows)
    return cols


def _run_col2im(cols, *rest) -> Tensor:
    x = _fake_col2im(cols, *rest)
    columns.col2im(x, cols, *rest[:-1])
    return x


def _im2col_gradients(dcols, needs, tensors, kept, rest):
    return (col2im.below(dcols, *rest, tensors[0].shape[2:]) if needs[0] else None,)


def _col2im_gradients(dx, needs, tensors, kept, rest):
    *windows, _ = rest
    return (im2col.below(dx, *windows) if needs[0] else None,)


_WINDOWS = "SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt[] windows"

im2col = Operator(
    f"im2col(Tensor x, {_WINDOWS}) -> Tensor",
    tensors=1,
    kernel=_run_im2col,
    composite=_im2col_composite,
    fake=_fake_im2col,
    gradients=_im2col_gradients,
    autocast=False,
)
"""What each tap shows of ``x`` in each window."""

col2im = Operator(
    f"col2im(Tensor cols, {_WINDOWS}, SymInt[] size) -> Tensor",
    tensors=1,
    kernel=_run_col2im,
    composite=_col2im_composite,
    fake=_fake_col2im,
    gradients=_col2im_gradients,
    autocast=False,
)
"""Images of ``size`` in which each sample is the sum of what the columns hold for it."""
