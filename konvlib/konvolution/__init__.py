"""Konvolution: a learned polynomial in place of each product of a convolution, and the bases of its polynomials.

Arrays are computed by `konvlib.konvolution.arrays`, torch tensors by `konvlib.konvolution.tensors`, on their own
device; `konvlib.konvolution.naive` is the definition that both are held to. `konvlib.konvolution.module` has
the torch modules.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from konvlib.dispatch import room
from konvlib.geometry import Padding, PerAxis, by_rank
from konvlib.konvolution import arrays as fast


def konv(
    axes: int,
    x: Any,
    kappa: Any,
    bias: Any = None,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> Any:
    r"""Put a polynomial in place of each product of a convolution over # spatial axes.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c} \sum_{u} \phi_{o,c,u}(x[b, c, s\,i + d\,u - p]),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` without an index is the padding before, ``c`` runs over
    the channels of the group of ``o``, and ``p`` with one are the polynomials of the basis.

    Parameters
    ----------
    x : array_like, shape (N, C, *size)
        The batch.
    kappa : array_like, shape (C_out, degree + 1, C // groups, *kernel_size)
        The coefficients of each tap's polynomial, the constant first.
    bias : array_like, shape (C_out,), optional
        Added to each output channel.
    basis : str
        ``"monomial"``, ``"chebyshev"``, ``"chebyshev2"``, ``"legendre"``, ``"hermite"``, or one that was added by
        ``konvlib.bases.add_basis``.
    stride, padding, dilation, groups, padding_mode
        As in `konvlib.conv#d`.
    pad : {"basis", "input"}
        What is padded with zeros. ``"basis"``: every polynomial of the input, the constant too, so that padding
        contributes nothing. ``"input"``: the input, so that each tap in the padding contributes its polynomial's value
        at 0. With another ``padding_mode`` padding holds samples, and both are the same.

    Returns
    -------
    ndarray, shape (N, C_out, *output_size)
        With the dtype that NumPy gives the operands together; integers become float64 where the basis has fractions
        (``"legendre"``), and wrap as NumPy's do elsewhere. Booleans count as integers.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If the basis or ``pad`` is unknown, or as in `konvlib.conv#d`; what is wrong with ``kappa`` is said by axis.

    Notes
    -----
    It is an ordinary convolution of the expanded batch, `konvlib.konvolution.bases.expand`, with the weight
    ``kappa.reshape(C_out, -1, *kernel_size)``. Degree 1 without the constant is the ordinary convolution of the batch,
    in bases whose first polynomial is ``x``. The basis changes nothing but what the numbers in ``kappa`` mean:
    `konvlib.konvolution.bases.convert` gives those of the same functions in another.

    The expanded batch is ``degree + 1`` times as large as ``x``. Only a block of it ever exists.

    NaN reaches those values whose sum contains it, and no others; degree 0 does not look at the sample.

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
    return getattr(room(fast, _gpu, x, kappa, bias), f"konv{axes}d")(
        x,
        kappa,
        bias,
        basis=basis,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )


konv1d, konv2d, konv3d = by_rank(konv, "konv#d")


def konv_input_grad(
    axes: int,
    dy: Any,
    x: Any,
    kappa: Any,
    *,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> Any:
    r"""Differentiate a Konvolution over # spatial axes by its input.

    .. math:: dx[b, c, j] = \sum_{o} \sum_{(i, u):\; s\,i + d\,u - p = j} dy[b, o, i]\; \phi'_{o,c,u}(x[b, c, j])

    Here ``i``, ``j`` and ``u`` have one entry per spatial axis, ``p`` is the padding before, and ``o`` runs over the
    output channels of the group of ``c``.

    Parameters
    ----------
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.
    x : array_like, shape (N, C, *size)
        The batch: where the polynomials are differentiated.
    kappa : array_like, shape (C_out, degree + 1, C // groups, *kernel_size)
        The coefficients.
    basis, stride, padding, dilation, groups, padding_mode, pad
        Those of the Konvolution, as in `konvlib.konv#d`. ``pad`` makes no difference here: zeros of the padding are no
        function of ``x``.

    Returns
    -------
    ndarray, shape (N, C, *size)
        Zero where no window reaches. With the dtype that the operands have together, as in `konvlib.konv#d`.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.konv#d`; also if ``dy`` is no output of such a Konvolution.

    Notes
    -----
    Derivatives come from the recurrence, differentiated, and are finite wherever the polynomials are.

    With a ``padding_mode`` other than zeros, a sample also receives what the padding that shows it receives.

    Examples
    --------
    >>> konv1d_input_grad([[[1, 10]]], [[[1, 3, 2]]], [[[[1, 0]], [[0, 5]], [[1, 0]]]], basis="monomial")
    array([[[ 2, 65, 50]]])
    """
    return getattr(room(fast, _gpu, dy, x, kappa), f"konv{axes}d_input_grad")(
        dy,
        x,
        kappa,
        basis=basis,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )


konv1d_input_grad, konv2d_input_grad, konv3d_input_grad = by_rank(konv_input_grad, "konv#d_input_grad")


def konv_kappa_grad(
    axes: int,
    x: Any,
    dy: Any,
    *,
    degree: int,
    kernel_size: PerAxis,
    basis: str = "chebyshev",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad: str = "basis",
) -> Any:
    r"""Differentiate a Konvolution over # spatial axes by its coefficients.

    .. math:: d\kappa[o, \delta, c, u] = \sum_{b} \sum_{i} dy[b, o, i]\; p_\delta(x[b, c, s\,i + d\,u - p])

    Here ``i`` and ``u`` have one entry per spatial axis, ``p`` without an index is the padding before, and ``c`` counts
    from the first channel of the group of ``o``. The Konvolution is linear in its coefficients, so they are not asked
    for.

    Parameters
    ----------
    x : array_like, shape (N, C, *size)
        The batch.
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.
    degree : int
        The degree of the polynomials.
    kernel_size : int or sequence of int
        The size of the kernel, which ``x`` and ``dy`` do not tell with a stride.
    basis, stride, padding, dilation, groups, padding_mode, pad
        Those of the Konvolution, as in `konvlib.konv#d`.

    Returns
    -------
    ndarray, shape (C_out, degree + 1, C // groups, *kernel_size)
        With the dtype that the operands have together, as in `konvlib.konv#d`.

    Raises
    ------
    TypeError, ValueError
        As in `konvlib.konv#d`; also if ``degree`` is negative, or if ``dy`` is no output of such a Konvolution.

    Examples
    --------
    >>> konv1d_kappa_grad([[[1, 3, 2]]], [[[1, 10]]], degree=2, kernel_size=2, basis="monomial")[0, :, 0]
    array([[11, 11],
           [31, 23],
           [91, 49]])
    """
    return getattr(room(fast, _gpu, x, dy), f"konv{axes}d_kappa_grad")(
        x,
        dy,
        degree=degree,
        kernel_size=kernel_size,
        basis=basis,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        pad=pad,
    )


konv1d_kappa_grad, konv2d_kappa_grad, konv3d_kappa_grad = by_rank(konv_kappa_grad, "konv#d_kappa_grad")


def konv_bias_grad(axes: int, dy: Any) -> Any:
    r"""Differentiate a Konvolution over # spatial axes by its bias.

    .. math:: \text{dbias}[o] = \sum_{b} \sum_{i} dy[b, o, i]

    Parameters
    ----------
    dy : array_like, shape (N, C_out, *output_size)
        The gradient by the output.

    Returns
    -------
    ndarray, shape (C_out,)
        With the dtype of ``dy``; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If ``dy`` holds no numbers.
    ValueError
        If it has another rank, or if an axis other than the batch is empty.

    Examples
    --------
    >>> konv2d_bias_grad([[[[1, 2], [0, 1]], [[5, 0], [0, 1]]]])
    array([4, 6])
    """
    return getattr(room(fast, _gpu, dy), f"konv{axes}d_bias_grad")(dy)


konv1d_bias_grad, konv2d_bias_grad, konv3d_bias_grad = by_rank(konv_bias_grad, "konv#d_bias_grad")


def _gpu() -> ModuleType:
    from konvlib.konvolution import tensors as gpu

    return gpu


MODULES = ("Konv1d", "Konv2d", "Konv3d", "LazyKonv1d", "LazyKonv2d", "LazyKonv3d")


def __getattr__(name: str) -> Any:
    """The torch modules, which are imported when they are first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from konvlib.konvolution import module

    return getattr(module, name)
