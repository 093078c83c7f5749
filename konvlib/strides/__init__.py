"""Composing strides: dilated filters, several layers as one, and which filters are several layers.

Arrays are computed by `konvlib.strides.arrays`, torch tensors by `konvlib.strides.tensors`, on their own device;
`konvlib.strides.naive` is the definition that both are held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import ModuleType
from typing import Any

from konvlib.dispatch import Operand, T, prepared
from konvlib.geometry import (
    PerAxis,
    chain_geometry,
    check_factor,
    check_memory,
    check_values,
    compose_geometry,
    dilate_geometry,
)
from konvlib.strides import arrays, modules
from konvlib.strides.chains import Layer as Layer
from konvlib.strides.chains import named_layers


def dilate(k: Operand[T], step: PerAxis, *, axes: int | None = None) -> T:
    r"""Insert ``step - 1`` zeros between neighbouring taps.

    .. math:: k_{\uparrow s}[s\,u] = k[u], \qquad 0 \text{ elsewhere}

    A convolution with dilation ``s`` is one with the kernel dilated by ``s``.

    Parameters
    ----------
    k : array_like or tensor, shape (..., *kernel_size)
        A kernel, or a weight ``(C_out, C_in // groups, *kernel_size)``.
    step : int or sequence of int
        How far apart the taps come to lie, per axis; 1 leaves them as they are.
    axes : int, optional
        How many axes, the last ones, are spatial. By default all of one or two, all but the first two of more.

    Returns
    -------
    ndarray or tensor, shape (..., *size)
        ``size = step * (kernel_size - 1) + 1``; with the dtype of ``k``.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If a step is not positive, if ``k`` is empty, or if there are no one to three spatial axes.

    See Also
    --------
    konvlib.compose : Two layers as one, of which the second is dilated so by the first one's stride.

    Examples
    --------
    >>> dilate([1, 2, 3], 2)
    array([1, 0, 2, 0, 3])
    >>> dilate([[1, 2], [3, 4]], (1, 3))
    array([[1, 0, 0, 2],
           [3, 0, 0, 4]])
    """
    backend, (k,), steps = prepared(arrays, _tensors, dilate_geometry, {"k": k}, {"step": step, "axes": axes})
    size = [s * (taps - 1) + 1 for s, taps in zip(steps, k.shape[len(k.shape) - len(steps) :], strict=True)]
    check_memory(prod(k.shape[: len(k.shape) - len(steps)]) * prod(size) * k.dtype.itemsize, ["step"])
    return backend.dilate(k, steps)


def compose(
    w1: Operand[T],
    w2: Operand[T],
    *,
    stride1: PerAxis = 1,
    dilation1: PerAxis = 1,
    dilation2: PerAxis = 1,
    groups1: int = 1,
    groups2: int = 1,
) -> T:
    r"""Make one weight of two layers' weights, without padding between the layers.

    .. math:: w[o, i, m] = \sum_{c} \sum_{(a, b):\; d_1 a + s_1 d_2 b = m} w_2[o, c, b]\; w_1[c, i, a]

    Here ``a``, ``b`` and ``m`` have one entry per spatial axis, and ``c`` runs over the channels between the layers. A
    layer with this weight, dilation 1 and the product of both strides gives what the second layer makes of the first
    one's output. The taps of the second lie ``s_1 d_2`` input samples apart, since its own input samples lie ``s_1``.

    Parameters
    ----------
    w1 : array_like or tensor, shape (C_1, C_in // groups1, *kernel_size1)
        The weight of the first layer; or a bare kernel of one or two axes.
    w2 : array_like or tensor, shape (C_out, C_1 // groups2, *kernel_size2)
        The weight of the second layer; a bare kernel if ``w1`` is one.
    stride1 : int or sequence of int
        The first layer's stride. The second's changes the stride of the whole only.
    dilation1, dilation2 : int or sequence of int
        The layers' dilations.
    groups1, groups2 : int
        The layers' groups.

    Returns
    -------
    ndarray or tensor, shape (C_out, C_in // groups, *kernel_size)
        ``groups`` is the greatest common divisor of both, and ``kernel_size`` is
        ``dilation1 * (kernel_size1 - 1) + stride1 * dilation2 * (kernel_size2 - 1) + 1``. With the dtype that NumPy
        gives the operands together; integers wrap as NumPy's do.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If shapes, channels or groups do not go together, or if a number is not positive; it names the argument.

    See Also
    --------
    konvlib.compose_chain : The same for any number of layers, with biases.
    konvlib.factor : Which filters are two layers in one.

    Examples
    --------
    >>> compose([1, 2], [1, 2], stride1=2)
    array([1, 2, 2, 4])
    >>> compose([[[1, 1]], [[0, 5]]], [[[1, 2], [3, 4]]])
    array([[[ 1, 18, 22]]])
    """
    backend, (w1, w2), both = prepared(
        arrays, _tensors, compose_geometry, {"w1": w1, "w2": w2},
        {"stride1": stride1, "dilation1": dilation1, "dilation2": dilation2, "groups1": groups1, "groups2": groups2},
    )  # fmt: skip
    return backend.compose(w1, w2, both)


def compose_chain(layers: Sequence[Layer]) -> Layer:
    r"""Make one layer of a chain of layers, without padding between them.

    .. math:: w[o, i, m] = \sum_{c_1, \dots, c_{J-1}} \; \sum_{\sum_j D_j u_j = m} \;
        \prod_{j=1}^{J} w_j[c_j, c_{j-1}, u_j], \qquad D_j = d_j \prod_{i<j} s_i

    Here ``c_0 = i`` and ``c_J = o``. The stride of the whole is the product of all strides, and its receptive field
    is one more than the sum of the layers' ``D_j (k_j - 1)``. Each layer's bias passes through the layers after it.

    Parameters
    ----------
    layers : list of Layer
        First layer first; a tuple ``(weight, stride, dilation, bias, groups)``, of which any end may be left out, will
        do.

    Returns
    -------
    Layer
        The whole. Its groups are the greatest common divisor of the layers' groups, its dilation that of the ``D_j`` of
        layers with more than one tap, so that its kernel is the smallest. Its bias is None if no layer has one. Weights
        are composed in the dtype that NumPy gives all weights together, biases in that of weights and biases.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If there is no layer, if one does not take the channels that the one before gives, or if its shapes, groups or
        numbers do not fit; it names the layer.

    See Also
    --------
    konvlib.compose : The same for two weights.
    konvlib.collapse : The same for torch modules.

    Examples
    --------
    >>> compose_chain([([1, 2], 2, 1, [10]), ([1, 2], 2)])
    Layer(weight=array([1, 2, 2, 4]), stride=(4,), dilation=(1,), bias=array([30]), groups=1)
    >>> compose_chain([([1, 2], 2), ([1, 2], 2), ([1, 2], 2)]).weight
    array([1, 2, 2, 4, 2, 4, 4, 8])
    """
    chain = named_layers(layers)
    backend, operands, whole = prepared(
        arrays, _tensors, chain_geometry,
        {f"layers[{i}].{part}": getattr(layer, part) for i, layer in enumerate(chain) for part in ("weight", "bias")},
        {f"{name}s": [getattr(layer, name) for layer in chain] for name in ("stride", "dilation")}
        | {"groups": [layer.groups for layer in chain]},
    )  # fmt: skip
    bare = len(operands[0].shape) == len(whole.kernel_size)
    weights, biases = [w[None, None] if bare else w for w in operands[::2]], operands[1::2]
    each = zip(weights, whole.strides, whole.dilations, biases, whole.each_groups, strict=True)
    weight, bias = backend.compose_chain([Layer(*layer) for layer in each], whole)
    return Layer(weight[0, 0] if bare else weight, whole.stride, whole.dilation, bias, whole.groups)


def factor(k: Operand[T], *, step: int = 2, same: bool = True, tolerance: float | None = None) -> tuple[T, T] | None:
    r"""Split a filter into two, the second dilated by ``step``: two layers of which the first has stride ``step``.

    .. math:: k[m] = \sum_b g[m - s\,b]\; h[b], \qquad K(z) = G(z)\, H(z^s)

    With ``same``, ``g`` and ``h`` are one filter, the only one up to its sign: ``k[0] = g[0]**2``, and each next tap of
    ``k`` gives the next of ``g``. Not all filters split so: a length of ``(s + 1) c - s`` is needed, and ``c`` taps fix
    all of ``k``. Two different filters need less: ``H`` divides each of the phases ``k[r::s]``, so there are some with
    more than one tap in ``h`` where the phases have a common divisor. The longest ``h`` is given.

    Parameters
    ----------
    k : array_like or tensor, shape (n,)
        The filter. Integers, and fractions as Python objects, are factored exactly.
    step : int
        The dilation of the second filter, at least 2.
    same : bool
        Whether the two must be one filter.
    tolerance : float, optional
        For floats: how far from ``k`` the two may be, composed, in parts of its largest tap; by default the square root
        of the dtype's rounding error.

    Returns
    -------
    two of ndarray or tensor, or None
        ``g`` and ``h``; None if ``k`` does not split. Two equal filters begin with a positive tap. Of two different
        ones, ``h`` has whole numbers without a common divisor, the first of them positive; its largest tap is 1 if
        ``k`` has floats. Integers give integers, or float64 where the two filters have an irrational factor.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If ``k`` has not one axis, is empty, not finite or zero, if ``step`` is less than 2, or if ``tolerance`` is not
        between 0 and 1.

    Notes
    -----
    Floats are factored in double precision. A filter whose first and last taps are small beside its largest is
    ill-conditioned: its factors may be missed. A tensor is factored on the host; what comes back is not differentiable.

    See Also
    --------
    konvlib.compose : The other way.

    Examples
    --------
    >>> factor([1, 2, 2, 4])
    (array([1, 2]), array([1, 2]))
    >>> factor([3, 1, 6, 2], same=False)
    (array([3, 1]), array([1, 2]))
    >>> factor([1, 2, 2, 5]) is None
    True
    """
    backend, (k,), regular = prepared(
        arrays, _tensors, check_factor, {"k": k}, {"step": step, "same": same, "tolerance": tolerance},
        dtypes="FACTORED_DTYPES",
    )  # fmt: skip
    check_values(k, "k")
    return backend.factor(k, *regular)


def collapse(model: Any) -> Any:
    r"""Make one torch convolution of a `torch.nn.Sequential` of convolutions without padding between them.

    .. math:: w_2 \star (w_1 \star x + b_1) + b_2 = w \star x + b

    Here ``w`` and ``b`` are those of `konvlib.compose_chain`, and a star is what a layer does with its weight.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of `torch.nn.Conv1d`, `torch.nn.Conv2d` or `torch.nn.Conv3d`, all of one kind; `torch.nn.Identity` and nested
        containers may stand between them. The first may be padded, in any ``padding_mode``: that is padding of the
        whole. Padding of a later one is not, since it pads with zeros what would be no zeros of the first.

    Returns
    -------
    torch.nn.Conv1d, torch.nn.Conv2d or torch.nn.Conv3d
        A new module with the model's dtype, device and training mode, and the first layer's padding. Weights are
        composed in double precision and rounded once.

    Raises
    ------
    TypeError
        If ``model`` is no `torch.nn.Sequential`.
    ValueError
        If there is no one convolution for the model; it names the layer that prevents it, and says why.

    See Also
    --------
    konvlib.compose_chain : The same for arrays and tensors.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.Conv2d(8, 4, 3, stride=2))
    >>> collapse(model)
    Conv2d(3, 4, kernel_size=(7, 7), stride=(4, 4), padding=(1, 1))
    """
    return modules.collapse_with(compose_chain, model)


def _tensors() -> ModuleType:
    from konvlib.strides import tensors

    return tensors
