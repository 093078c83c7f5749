"""Gradients of Konvolution, in one to three dimensions: by its input, its weight ``kappa`` and its bias.

`konvlib.konvolution` has these public functions too; Konvolution itself stands there.
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
    konv_input_grad_geometry,
    konv_kappa_grad_geometry,
)
from konvlib.konvolution import arrays, bases


def konv1d_input_grad(
    dy: Operand[T],
    x: Operand[T],
    kappa: Operand[T],
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over one axis by its input: `konvlib.konv2d_input_grad` with one axis fewer.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    ``dy`` is ``(N, C_out, output_size)``, ``x`` is ``(N, C, L)``, ``kappa`` is
    ``(C_out, degree + 1, C // groups, kernel_size)``, the result ``(N, C, L)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_input_grad : What the arguments mean.

    Examples
    --------
    >>> konv1d_input_grad([[[1, 10]]], [[[1, 3, 2]]], [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial")
    array([[[ 2, 65, 50]]])
    """
    return _konv_input_grad(1, dy, x, kappa, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv2d_input_grad(
    dy: Operand[T],
    x: Operand[T],
    kappa: Operand[T],
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over two spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``o`` runs over the
    output channels of the group of ``c``.

    Parameters
    ----------
    dy : array_like or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        The gradient by the output.
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch: where the polynomials are differentiated.
    kappa : array_like or tensor, shape (C_out, degree + 1, C // groups, *kernel_size)
        The coefficients.
    basis, stride, padding, dilation, groups, padding_mode, pad
        Those of the Konvolution, as in `konvlib.konv2d`. ``pad`` makes no difference here: zeros of the padding are no
        function of ``x``.

    Returns
    -------
    ndarray or tensor, shape (N, C, *size) or (C, *size)
        Zero where no window reaches. With the dtype that the operands have together, as in `konvlib.konv2d`.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.konv2d`; also if ``dy`` is no output of such a Konvolution.

    Notes
    -----
    Derivatives come from the recurrence, differentiated, and are finite wherever the polynomials are.

    With a ``padding_mode`` other than zeros, a sample also receives what the padding that shows it receives.

    See Also
    --------
    konvlib.konv1d_input_grad, konvlib.konv3d_input_grad : The same over one axis, and over three.
    konvlib.konv2d : The Konvolution.
    konvlib.konv2d_kappa_grad, konvlib.konv2d_bias_grad : The other gradients.

    Examples
    --------
    >>> konv2d_input_grad([[[[1, 10]]]], [[[[1, 3, 2]]]], [[[[[1, 0]]], [[[0, 5]]], [[[1, 0]]]]], basis="monomial")
    array([[[[ 2, 65, 50]]]])
    """
    return _konv_input_grad(2, dy, x, kappa, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv3d_input_grad(
    dy: Operand[T],
    x: Operand[T],
    kappa: Operand[T],
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over three axes by its input: `konvlib.konv2d_input_grad` with one axis more.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    ``dy`` is ``(N, C_out, *output_size)``, ``x`` is ``(N, C, D, H, W)``, ``kappa`` is
    ``(C_out, degree + 1, C // groups, *kernel_size)``, the result ``(N, C, D, H, W)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_input_grad : What the arguments mean.

    Examples
    --------
    >>> konv3d_input_grad([[[[[1, 10]]]]], [[[[[1, 3]]]]], [[[[[[0]]]], [[[[0]]]], [[[[1]]]]]], basis="monomial")
    array([[[[[ 2, 60]]]]])
    """
    return _konv_input_grad(3, dy, x, kappa, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv1d_kappa_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over one axis by its coefficients: see `konvlib.konv2d_kappa_grad`.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    ``x`` is ``(N, C, L)``, ``dy`` is ``(N, C_out, output_size)``, the result
    ``(C_out, degree + 1, C // groups, kernel_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_kappa_grad : What the arguments mean.

    Examples
    --------
    >>> konv1d_kappa_grad([[[1, 3, 2]]], [[[1, 10]]], degree=2, kernel_size=2, basis="monomial")[0, :, 0]
    array([[11, 11],
           [31, 23],
           [91, 49]])
    """
    return _konv_kappa_grad(1, x, dy, degree, kernel_size, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv2d_kappa_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over two spatial axes by its coefficients.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` without an index is the padding before, and ``c`` counts
    from the first channel of the group of ``o``. The Konvolution is linear in its coefficients, so they are not asked
    for.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch.
    dy : array_like or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        The gradient by the output.
    degree : int
        The degree of the polynomials.
    kernel_size : int or sequence of int
        The size of the kernel, which ``x`` and ``dy`` do not tell with a stride.
    basis, stride, padding, dilation, groups, padding_mode, pad
        Those of the Konvolution, as in `konvlib.konv2d`.

    Returns
    -------
    ndarray or tensor, shape (C_out, degree + 1, C // groups, *kernel_size)
        With the dtype that the operands have together, as in `konvlib.konv2d`.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.konv2d`; also if ``degree`` is negative, or if ``dy`` is no output of such a Konvolution.

    See Also
    --------
    konvlib.konv1d_kappa_grad, konvlib.konv3d_kappa_grad : The same over one axis, and over three.
    konvlib.konv2d : The Konvolution.
    konvlib.konv2d_input_grad, konvlib.konv2d_bias_grad : The other gradients.

    Examples
    --------
    >>> konv2d_kappa_grad([[[[1, 3, 2]]]], [[[[1, 10]]]], degree=2, kernel_size=(1, 2), basis="monomial")[0, :, 0, 0]
    array([[11, 11],
           [31, 23],
           [91, 49]])
    """
    return _konv_kappa_grad(2, x, dy, degree, kernel_size, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv3d_kappa_grad(
    x: Operand[T],
    dy: Operand[T],
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Differentiate a Konvolution over three axes by its coefficients: see `konvlib.konv2d_kappa_grad`.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    ``x`` is ``(N, C, D, H, W)``, ``dy`` is ``(N, C_out, *output_size)``, the result
    ``(C_out, degree + 1, C // groups, *kernel_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_kappa_grad : What the arguments mean.

    Examples
    --------
    >>> konv3d_kappa_grad([[[[[1, 3]]]]], [[[[[1, 10]]]]], degree=2, kernel_size=1, basis="monomial").ravel()
    array([11, 31, 91])
    """
    return _konv_kappa_grad(3, x, dy, degree, kernel_size, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv1d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a Konvolution over one axis by its bias: `konvlib.konv2d_bias_grad` with one axis fewer.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    ``dy`` is ``(N, C_out, output_size)``, the result ``(C_out,)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_bias_grad : What the arguments mean.

    Examples
    --------
    >>> konv1d_bias_grad([[[1, 5], [2, 0]]])
    array([6, 2])
    """
    return _konv_bias_grad(1, dy)


def konv2d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a Konvolution over two spatial axes by its bias.

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
    konvlib.konv1d_bias_grad, konvlib.konv3d_bias_grad : The same over one axis, and over three.
    konvlib.konv2d : The Konvolution.
    konvlib.konv2d_input_grad, konvlib.konv2d_kappa_grad : The other gradients.

    Examples
    --------
    >>> konv2d_bias_grad([[[[1, 2], [0, 1]], [[5, 0], [0, 1]]]])
    array([4, 6])
    """
    return _konv_bias_grad(2, dy)


def konv3d_bias_grad(dy: Operand[T]) -> T:
    r"""Differentiate a Konvolution over three axes by its bias: `konvlib.konv2d_bias_grad` with one axis more.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    ``dy`` is ``(N, C_out, *output_size)``, the result ``(C_out,)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d_bias_grad : What the arguments mean.

    Examples
    --------
    >>> konv3d_bias_grad([[[[[1, 5]]], [[[2, 0]]]]])
    array([6, 2])
    """
    return _konv_bias_grad(3, dy)


def _konv_input_grad(
    axes: int, dy: Any, x: Any, kappa: Any, basis: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: Any, pad: Any,
) -> Any:  # fmt: skip
    bases.get_basis(basis)
    backend, (dy, x, kappa), given = prepared(
        arrays, _tensors, konv_input_grad_geometry, {"dy": dy, "x": x, "kappa": kappa},
        {"axes": axes, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "padding_mode": padding_mode, "pad": pad},
        batched=Batched(("dy", "x"), axes + 2),
    )  # fmt: skip
    return backend.konv_input_grad(dy, x, kappa, given, basis)


def _konv_kappa_grad(
    axes: int, x: Any, dy: Any, degree: Any, kernel_size: Any, basis: Any, stride: Any, padding: Any, dilation: Any,
    groups: Any, padding_mode: Any, pad: Any,
) -> Any:  # fmt: skip
    bases.get_basis(basis)
    backend, (x, dy), given = prepared(
        arrays, _tensors, konv_kappa_grad_geometry, {"x": x, "dy": dy},
        {"axes": axes, "degree": degree, "kernel_size": kernel_size, "stride": stride, "padding": padding,
         "dilation": dilation, "groups": groups, "padding_mode": padding_mode, "pad": pad},
        batched=Batched(("x", "dy"), axes + 2, gives_batch=False),
    )  # fmt: skip
    return backend.konv_kappa_grad(x, dy, given, basis)


def _konv_bias_grad(axes: int, dy: Any) -> Any:
    backend, (dy,), shape = prepared(
        arrays, _tensors, bias_grad_shape, {"dy": dy}, {"axes": axes},
        batched=Batched(("dy",), axes + 2, gives_batch=False),
    )  # fmt: skip
    return backend.konv_bias_grad(dy, shape)


def _tensors() -> ModuleType:
    from konvlib.konvolution import tensors

    return tensors
