"""im2col and col2im as torch operators over Triton kernels: each other's gradient, being linear and adjoint.

``padding`` is flat here: before and after, axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from konvlib import geometry
from konvlib.checks import planned_tensors
from konvlib.geometry import ConvGeometry
from konvlib.layers.operators import axes_of
from konvlib.layers.padding import flat, pairs
from konvlib.matrices import aten, columns
from konvlib.registration import Operator
from konvlib.runtime import REALS

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


def _check_im2col(x: Tensor, kernel: Ints, stride: Ints, sides: Ints, dilation: Ints, windows: Ints) -> ConvGeometry:
    given = {"kernel_size": tuple(kernel), **_arguments(kernel, stride, sides, dilation)}
    return _with_windows(planned_tensors(REALS, geometry.im2col_geometry, {"x": x}, given), windows)


def _check_col2im(cols: Tensor, kernel, stride, sides, dilation, windows, size) -> ConvGeometry:
    given = {"output_size": tuple(size), "kernel_size": tuple(kernel), **_arguments(kernel, stride, sides, dilation)}
    return _with_windows(planned_tensors(REALS, geometry.col2im_geometry, {"cols": cols}, given), windows)


def _arguments(kernel: Ints, stride: Ints, sides: Ints, dilation: Ints) -> dict[str, Ints]:
    return {"stride": tuple(stride), "padding": pairs(sides, axes_of(kernel, "kernel")), "dilation": tuple(dilation)}


def _with_windows(layer: ConvGeometry, windows: Ints) -> ConvGeometry:
    if tuple(windows) != layer.output_size:
        raise ValueError(f"windows must be {layer.output_size}, as many as fit, got {tuple(windows)}")
    return layer


def _fake_im2col(x: Tensor, layer: ConvGeometry) -> Tensor:
    return x.new_empty((layer.batch, prod(layer.weight_shape), prod(layer.output_size)))


def _fake_col2im(cols: Tensor, layer: ConvGeometry) -> Tensor:
    return cols.new_empty(layer.input_shape)


def _run_im2col(x: Tensor, layer: ConvGeometry) -> Tensor:
    cols = _fake_im2col(x, layer)
    columns.im2col(cols, x, *windows_of(layer))
    return cols


def _run_col2im(cols: Tensor, layer: ConvGeometry) -> Tensor:
    x = _fake_col2im(cols, layer)
    columns.col2im(x, cols, *windows_of(layer))
    return x


def _im2col_gradients(dcols, needs, tensors, kept, rest, plan):
    return (col2im.below(dcols, *rest, tensors[0].shape[2:], plan=plan) if needs[0] else None,)


def _col2im_gradients(dx, needs, tensors, kept, rest, plan):
    *windows, _ = rest
    return (im2col.below(dx, *windows, plan=plan) if needs[0] else None,)


_WINDOWS = "SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt[] windows"

im2col = Operator(
    f"im2col(Tensor x, {_WINDOWS}) -> Tensor",
    tensors=1,
    check=_check_im2col,
    kernel=_run_im2col,
    composite=aten.im2col,
    fake=_fake_im2col,
    gradients=_im2col_gradients,
    autocast=False,
)
"""What each tap shows of ``x`` in each window."""

col2im = Operator(
    f"col2im(Tensor cols, {_WINDOWS}, SymInt[] size) -> Tensor",
    tensors=1,
    check=_check_col2im,
    kernel=_run_col2im,
    composite=aten.col2im,
    fake=_fake_col2im,
    gradients=_col2im_gradients,
    autocast=False,
)
"""Images of ``size`` in which each sample is the sum of what the columns hold for it."""
