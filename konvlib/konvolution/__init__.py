"""Konvolution: a learned polynomial in place of each product of a convolution, and the bases of its polynomials.

Arrays are computed by ``konvlib.konvolution.arrays``, torch tensors by ``konvlib.konvolution.tensors``, on their own
device; ``konvlib.konvolution.naive`` is the definition that both are held to. ``konvlib.konvolution.module`` has
the torch modules.

Konvolution stands here, its gradients in ``konvlib.konvolution.gradients``; they are imported from here too.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from konvlib.dispatch import Batched, Operand, T, prepared
from konvlib.geometry import (
    Padding,
    PaddingMode,
    PerAxis,
    konv_geometry,
)
from konvlib.konvolution import arrays, bases
from konvlib.konvolution.gradients import (
    konv1d_bias_grad,
    konv1d_input_grad,
    konv1d_kappa_grad,
    konv2d_bias_grad,
    konv2d_input_grad,
    konv2d_kappa_grad,
    konv3d_bias_grad,
    konv3d_input_grad,
    konv3d_kappa_grad,
)

if TYPE_CHECKING:
    from konvlib.konvolution.module import Konv1d as Konv1d
    from konvlib.konvolution.module import Konv2d as Konv2d
    from konvlib.konvolution.module import Konv3d as Konv3d
    from konvlib.konvolution.module import LazyKonv1d as LazyKonv1d
    from konvlib.konvolution.module import LazyKonv2d as LazyKonv2d
    from konvlib.konvolution.module import LazyKonv3d as LazyKonv3d

__all__ = [
    "Konv1d",
    "Konv2d",
    "Konv3d",
    "LazyKonv1d",
    "LazyKonv2d",
    "LazyKonv3d",
    "bases",
    "konv1d",
    "konv1d_bias_grad",
    "konv1d_input_grad",
    "konv1d_kappa_grad",
    "konv2d",
    "konv2d_bias_grad",
    "konv2d_input_grad",
    "konv2d_kappa_grad",
    "konv3d",
    "konv3d_bias_grad",
    "konv3d_input_grad",
    "konv3d_kappa_grad",
]

MODULES = ("Konv1d", "Konv2d", "Konv3d", "LazyKonv1d", "LazyKonv2d", "LazyKonv3d")


_BATCHED = {axes: Batched(("x",), axes + 2) for axes in (1, 2, 3)}


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


def _konv(
    axes: int, x: Any, kappa: Any, bias: Any, basis: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: Any, pad: Any,
) -> Any:  # fmt: skip
    bases.get_basis(basis)
    backend, (x, kappa, bias), given = prepared(
        arrays, _tensors, konv_geometry, {"x": x, "kappa": kappa, "bias": bias},
        {"axes": axes, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "padding_mode": padding_mode, "pad": pad},
        batched=_BATCHED[axes],
    )  # fmt: skip
    return backend.konv(x, kappa, bias, given, basis)


@cache
def _tensors() -> ModuleType:
    from konvlib.konvolution import tensors

    return tensors
