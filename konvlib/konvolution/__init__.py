"""Konvolution: a learned polynomial in place of each product of a convolution, and the bases of its polynomials.

Arrays are computed by `konvlib.konvolution.arrays`, torch tensors by `konvlib.konvolution.tensors`, on their own
device; `konvlib.konvolution.naive` is the definition that both are held to. `konvlib.konvolution.module` has
the torch modules.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PaddingMode,
    PerAxis,
    bias_grad_shape,
    konv_geometry,
    konv_input_grad_geometry,
    konv_kappa_grad_geometry,
)
from konvlib.konvolution import arrays, bases

if TYPE_CHECKING:
    from konvlib.konvolution.module import Konv1d as Konv1d
    from konvlib.konvolution.module import Konv2d as Konv2d
    from konvlib.konvolution.module import Konv3d as Konv3d
    from konvlib.konvolution.module import LazyKonv1d as LazyKonv1d
    from konvlib.konvolution.module import LazyKonv2d as LazyKonv2d
    from konvlib.konvolution.module import LazyKonv3d as LazyKonv3d

MODULES = ("Konv1d", "Konv2d", "Konv3d", "LazyKonv1d", "LazyKonv2d", "LazyKonv3d")


def __getattr__(name: str) -> Any:
    """The torch modules, which are imported when they are first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from konvlib.konvolution import module

    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})


def konv1d(
    x: Operand[T],
    kappa: Operand[T],
    bias: Operand[T] | None = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Put a polynomial in place of each product of a convolution over one axis: `konvlib.konv2d` with one axis fewer.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    ``x`` is ``(N, C, L)``, ``kappa`` is ``(C_out, degree + 1, C // groups, kernel_size)``, ``bias`` is ``(C_out,)``,
    the result ``(N, C_out, output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d : What the arguments mean.

    Examples
    --------
    >>> konv1d([[[1, 3, 2]]], [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial")
    array([[[17, 20]]])
    """
    return _konv(1, x, kappa, bias, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv2d(
    x: Operand[T],
    kappa: Operand[T],
    bias: Operand[T] | None = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Put a polynomial in place of each product of a convolution over two spatial axes.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` without an index is the padding before, ``c`` runs over
    the channels of the group of ``o``, and ``p`` with one are the polynomials of the basis.

    Parameters
    ----------
    x : array_like or tensor, shape (N, C, *size) or (C, *size)
        The batch, or one sample without a batch.
    kappa : array_like or tensor, shape (C_out, degree + 1, C // groups, *kernel_size)
        The coefficients of each tap's polynomial, the constant first.
    bias : array_like or tensor, shape (C_out,), optional
        Added to each output channel.
    basis : str
        ``"monomial"``, ``"chebyshev"``, ``"chebyshev2"``, ``"legendre"``, ``"hermite"``, or one that was added by
        ``konvlib.bases.add_basis``.
    stride, padding, dilation, groups, padding_mode
        As in `konvlib.conv2d`.
    pad : {"basis", "input"}
        What is padded with zeros. ``"basis"``: every polynomial of the input, the constant too, so that padding
        contributes nothing. ``"input"``: the input, so that each tap in the padding contributes its polynomial's value
        at 0. With another ``padding_mode`` padding holds samples, and both are the same.

    Returns
    -------
    ndarray or tensor, shape (N, C_out, *output_size) or (C_out, *output_size)
        With the dtype that NumPy gives the operands together; integers become float64 where the basis has fractions
        (``"legendre"``), and wrap as NumPy's do elsewhere. Booleans count as integers.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If the basis or ``pad`` is unknown, or as in `konvlib.conv2d`; what is wrong with ``kappa`` is said by axis.

    Notes
    -----
    It is an ordinary convolution of the expanded batch, `konvlib.konvolution.bases.expand`, with the weight
    ``kappa.reshape(C_out, -1, *kernel_size)``. Degree 1 without the constant is the ordinary convolution of the batch,
    in bases whose first polynomial is ``x``. The basis changes nothing but what the numbers in ``kappa`` mean:
    `konvlib.konvolution.bases.convert` gives those of the same functions in another.

    The expanded batch is ``degree + 1`` times as large as ``x``. Only a block of it ever exists.

    NaN reaches those values whose sum contains it, and no others; degree 0 does not look at the sample.

    See Also
    --------
    konvlib.konv1d, konvlib.konv3d : The same over one axis, and over three.
    konvlib.konv2d_input_grad, konvlib.konv2d_kappa_grad, konvlib.konv2d_bias_grad : Its gradients.
    konvlib.konvolution.module.Konv2d : It as a layer of a network.
    konvlib.konvolution.bases : The bases.
    konvlib.conv2d : The ordinary convolution.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]])
    >>> kappa = np.array([[[2, 1], [0, 3]], [[1, 0], [0, 1]]]).reshape(1, 2, 1, 2, 2)
    >>> konv2d(x, kappa)
    array([[[[ 7, 10],
             [12,  8]]]])
    >>> konv2d(x, kappa, padding=1, stride=2), konv2d(x, kappa, padding=1, stride=2, pad="input")
    (array([[[[4, 5],
             [4, 8]]]]), array([[[[7, 8],
             [6, 8]]]]))
    """
    return _konv(2, x, kappa, bias, basis, stride, padding, dilation, groups, padding_mode, pad)


def konv3d(
    x: Operand[T],
    kappa: Operand[T],
    bias: Operand[T] | None = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    pad: str = "basis",
) -> T:
    r"""Put a polynomial in place of each product of a convolution over three axes: see `konvlib.konv2d`.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    ``x`` is ``(N, C, D, H, W)``, ``kappa`` is ``(C_out, degree + 1, C // groups, *kernel_size)``, ``bias`` is
    ``(C_out,)``, the result ``(N, C_out, *output_size)``. ``N`` may be missing.

    See Also
    --------
    konvlib.konv2d : What the arguments mean.

    Examples
    --------
    >>> import numpy as np
    >>> konv3d(np.arange(4).reshape(1, 1, 2, 1, 2), np.ones((1, 3, 1, 2, 1, 1), dtype=int), basis="monomial")
    array([[[[[ 8, 16]]]]])
    """
    return _konv(3, x, kappa, bias, basis, stride, padding, dilation, groups, padding_mode, pad)


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


def _konv(
    axes: int, x: Any, kappa: Any, bias: Any, basis: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: Any, pad: Any,
) -> Any:  # fmt: skip
    bases.get_basis(basis)
    backend, (x, kappa, bias), given = prepared(
        arrays, _tensors, konv_geometry, {"x": x, "kappa": kappa, "bias": bias},
        {"axes": axes, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "padding_mode": padding_mode, "pad": pad},
        batched=Batched(("x",), axes + 2),
    )  # fmt: skip
    return backend.konv(x, kappa, bias, given, basis)


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
